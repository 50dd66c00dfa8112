//! What a method does at a path: what it takes to be let in, what it changes, how long its answer
//! is, and what answers it.

use actix_web::dev::Payload;
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder};
use futures_util::future::LocalBoxFuture;

use super::described::Describe;
use crate::access::Permission;
use crate::access::writes::Write;

/// How long an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Short.
    Short,
    /// As long as what is stored: a caller has only some of these under way at once.
    Long,
    /// As long as its caller listens.
    Endless,
}

/// What a request needs to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing. Nobody looks who asks: it is asked for by machines, under names of all kinds.
    Nothing,
    /// Nothing, but whoever is known is told more.
    NothingToBeTold,
    /// Only that the service is asked for by a name of its own.
    OwnHost,
    /// Somebody who is recognised, whatever they may do: they ask for what is told to anybody, of
    /// themselves.
    Recognition,
    /// Somebody who may do this at the place that the path names.
    Permission(Permission),
}

type Handle = fn(Asked) -> LocalBoxFuture<'static, HttpResponse>;

/// What a method does at a path.
#[derive(Clone, Copy)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// Its name, as clients are generated with it.
    pub name: &'static str,
    /// What it takes to be let in.
    pub needs: Needs,
    /// What it would change, where that is counted.
    pub write: Option<Write>,
    /// How long its answer is.
    pub length: Length,
    /// Whether it is a client session's heartbeat.
    pub is_heartbeat: bool,
    /// The status of a success.
    pub success: u16,
    /// How it is described; `None` for what is for people with a browser and no part of the API.
    pub describe: Option<Describe>,
    handle: Handle,
}

impl Operation {
    const fn new(method: &'static str, name: &'static str, needs: Needs, handle: Handle) -> Operation {
        let (write, length, describe) = (None, Length::Short, None);
        Operation { method, name, needs, write, length, is_heartbeat: false, success: 200, describe, handle }
    }

    /// Something to be looked at. `HEAD` is served, too.
    pub const fn get(name: &'static str, needs: Needs, handle: Handle) -> Operation {
        Operation::new("GET", name, needs, handle)
    }

    /// Something that is asked for with a body and changes nothing that is stored.
    pub const fn post(name: &'static str, needs: Needs, handle: Handle) -> Operation {
        Operation::new("POST", name, needs, handle)
    }

    /// A heartbeat, which changes what is stored and is not counted as a change.
    pub const fn heartbeat(name: &'static str, permission: Permission, handle: Handle) -> Operation {
        let operation = Operation::new("POST", name, Needs::Permission(permission), handle);
        Operation { is_heartbeat: true, ..operation }
    }

    /// A change.
    pub const fn change(
        method: &'static str,
        name: &'static str,
        permission: Permission,
        write: Write,
        handle: Handle,
    ) -> Operation {
        Operation { write: Some(write), ..Operation::new(method, name, Needs::Permission(permission), handle) }
    }

    /// The same with an answer of that length.
    pub const fn answered(self, length: Length) -> Operation {
        Operation { length, ..self }
    }

    /// The same with another status of a success.
    pub const fn succeeds_with(self, success: u16) -> Operation {
        Operation { success, ..self }
    }

    /// The same as part of the API.
    pub const fn described(self, describe: Describe) -> Operation {
        Operation { describe: Some(describe), ..self }
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        !matches!(self.needs, Needs::Recognition | Needs::Permission(_))
    }

    /// Does it.
    pub fn answer(&self, request: HttpRequest, payload: Payload) -> LocalBoxFuture<'static, HttpResponse> {
        (self.handle)(Asked { request, payload })
    }
}

/// A request that was let in, for whoever serves it.
pub struct Asked {
    request: HttpRequest,
    payload: Payload,
}

impl Asked {
    /// Has it answered by a handler, once what that takes has been read.
    pub fn of<H, Args>(self, handler: H) -> LocalBoxFuture<'static, HttpResponse>
    where
        H: Handler<Args, Output: Responder>,
        Args: FromRequest + 'static,
    {
        let Asked { request, mut payload } = self;
        Box::pin(async move {
            match Args::from_request(&request, &mut payload).await {
                Ok(args) => handler.call(args).await.respond_to(&request).map_into_boxed_body(),
                Err(error) => HttpResponse::from_error(error),
            }
        })
    }
}
