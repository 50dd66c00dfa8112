//! The door: who is asking is found out, and whether they may, before anything is done for a
//! request or its body is read. What it needs, and where, its [`Routed`] value says.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use super::errors::ApiError;
use super::operation_id::OperationId;
use super::operations::{Length, Needs};
use super::routing::Routed;
use super::{absent, proxies, sites};
use crate::access::certificates::ClientCertificate;
use crate::access::{ANONYMOUS, AuthError, Authenticator, Identity, Permission, Place, Presented, Rights};
use crate::failover::refusals::Refusal;
use crate::failover::{Caller, Failover, Recognition};
use crate::ids::Groups;

/// By this header, whatever its value, a script says that it is one. A browser that is told of
/// Basic authentication would ask with a window of its own, over a page that has a form for it.
const SENT_BY_SCRIPT: &str = "X-Requested-With";

/// Lets a request in: notes on it who is asking, for the handlers.
pub async fn admit(
    request: &HttpRequest,
    routed: &Routed,
    authenticator: &Authenticator,
    operation_id: &OperationId,
) -> Result<(), ApiError> {
    // Before anything is waited for.
    let arrived_at = Instant::now();
    let permission = match routed.needs(request.method()) {
        Needs::Nothing => return Ok(()),
        Needs::NothingToBeTold => {
            note_if_familiar(request, authenticator).await;
            return Ok(());
        }
        Needs::OwnHost => return sites::check(request),
        Needs::Recognition => None,
        Needs::Permission(permission) => Some(permission),
    };
    sites::check(request)?;
    let challenge = if request.headers().contains_key(SENT_BY_SCRIPT) {
        authenticator.challenge_for_scripts()
    } else {
        authenticator.challenge()
    };
    if !authenticator.is_open() && request.headers().get_all(AUTHORIZATION).nth(1).is_some() {
        return Err(refused(AuthError::Invalid("there are several headers Authorization"), challenge));
    }
    let presented = presented(request);
    let identity = match authenticator.recall(presented) {
        Some(known) => known,
        // Boxed: it is rare, and every request would carry its size.
        None => Box::pin(authenticator.recognise(presented)).await.map_err(|error| refused(error, challenge))?,
    };
    let peer = presented.peer;
    let place = routed.place(request.path());
    if let Err(error) = authenticator.count_request(&identity, peer) {
        let refusal = refused(error, challenge);
        let is_heartbeat = routed.operation(request.method()).is_some_and(|operation| operation.is_heartbeat);
        let may =
            is_heartbeat && permission.is_some_and(|wanted| authenticator.decide(&identity, wanted, &place).is_ok());
        // Boxed: it is rare, and every request would carry its size.
        return Err(if may { Box::pin(absent::or(request, refusal)).await } else { refusal });
    }
    let note_who = || {
        if &*identity.name != ANONYMOUS {
            let (operation_id, claimed_trace) = (operation_id.own.clone(), operation_id.claimed.clone());
            request.extensions_mut().insert(Known { identity: identity.name.clone(), operation_id, claimed_trace });
        }
    };
    let Some(permission) = permission else {
        note_who();
        request.extensions_mut().insert(Recognised(identity));
        return Ok(());
    };
    let rights = authenticator.decide(&identity, permission, &place).map_err(|denied| {
        note_who();
        ApiError::Denied(denied)
    })?;
    if let Some(write) = routed.write(request.method()) {
        authenticator.count_write(write, &identity, peer, place.tenant()).map_err(ApiError::TooManyWrites)?;
    }
    if is_familiar(&identity, peer) {
        request.extensions_mut().insert(Familiar);
    }
    if routed.length(request.method()) == Length::Endless {
        request.extensions_mut().insert(Standing::of(request, routed, rights.clone()));
    }
    request.extensions_mut().insert(Caller {
        identity: identity.name.clone(),
        operation_id: operation_id.own.clone(),
        claimed_trace: operation_id.claimed.clone(),
        arrived_at,
        rights,
        recognition: match &*identity.name {
            ANONYMOUS => Recognition::Nameless,
            _ => Recognition::ByName,
        },
    });
    Ok(())
}

fn presented(request: &HttpRequest) -> Presented<'_> {
    Presented {
        peer: proxies::origin(request),
        authorization: request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()),
        certificate: request.conn_data::<ClientCertificate>(),
    }
}

/// Who sent a request that takes no more than to be recognised. Noted on it.
#[derive(Clone)]
pub struct Recognised(pub Arc<Identity>);

impl FromRequest for Recognised {
    type Error = ApiError;
    type Future = Ready<Result<Recognised, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let recognised = request.extensions().get::<Recognised>().cloned();
        ready(recognised.ok_or_else(|| ApiError::NotAllowed { reason: "Nobody let this request in.".to_owned() }))
    }
}

/// Somebody who is known by name. Noted on a request that is refused at the door: one that was let
/// in has its [`Caller`].
#[derive(Clone)]
pub struct Known {
    /// Their name.
    pub identity: Arc<str>,
    operation_id: Arc<str>,
    claimed_trace: Option<Arc<str>>,
}

/// Who sent a request, if they are known by name.
pub fn known_caller(request: &HttpRequest) -> Option<Known> {
    let extensions = request.extensions();
    let let_in = extensions.get::<Caller>().filter(|caller| caller.recognition == Recognition::ByName);
    let let_in = let_in.map(|caller| Known {
        identity: caller.identity.clone(),
        operation_id: caller.operation_id.clone(),
        claimed_trace: caller.claimed_trace.clone(),
    });
    let_in.or_else(|| extensions.get::<Known>().cloned())
}

/// Has it recorded that a known caller was refused.
pub fn record_refusal(request: &HttpRequest, known: Known, reason: &str) {
    let Some(failover) = request.app_data::<Data<Failover>>() else { return };
    let routed = request.extensions().get::<Routed>().cloned();
    let place = routed.map_or(Place::Everywhere, |routed| routed.place(request.path()));
    let [tenant, namespace, group] =
        [place.tenant(), place.namespace(), place.group()].map(|name| name.map(str::to_owned));
    failover.refusals().note(Refusal {
        identity: known.identity,
        operation_id: known.operation_id,
        claimed_trace: known.claimed_trace,
        tenant,
        namespace,
        group,
        request: format!("{} {}", request.method(), request.path()),
        reason: reason.to_owned(),
    });
}

/// Noted on a request of somebody who is no stranger: known by name, or on this machine where
/// nobody is asked for one.
#[derive(Clone, Copy)]
pub struct Familiar;

fn is_familiar(identity: &Identity, peer: Option<IpAddr>) -> bool {
    &*identity.name != ANONYMOUS || peer.is_some_and(|peer| peer.to_canonical().is_loopback())
}

/// How long it may take to find out who asks for what anybody may ask for.
const BRIEFLY: Duration = Duration::from_millis(500);

/// Whoever asks for readiness is answered; by who they are it is decided how much they are told.
async fn note_if_familiar(request: &HttpRequest, authenticator: &Authenticator) {
    let presented = presented(request);
    let known = match authenticator.recall(presented) {
        Some(known) => Some(known),
        None if presented.authorization.is_none() && presented.certificate.is_none() => None,
        None => {
            let known = tokio::time::timeout(BRIEFLY, Box::pin(authenticator.recognise(presented))).await;
            known.ok().and_then(Result::ok)
        }
    };
    if known.is_some_and(|identity| is_familiar(&identity, presented.peer)) {
        request.extensions_mut().insert(Familiar);
    }
}

/// By what a request was let in, to see later whether it still would be.
#[derive(Clone)]
pub struct Standing {
    authorization: Option<Vec<u8>>,
    certificate: Option<ClientCertificate>,
    peer: Option<IpAddr>,
    path: String,
    routed: Routed,
    rights: Rights,
}

impl Standing {
    fn of(request: &HttpRequest, routed: &Routed, rights: Rights) -> Standing {
        Standing {
            authorization: request.headers().get(AUTHORIZATION).map(|value| value.as_bytes().to_vec()),
            certificate: request.conn_data::<ClientCertificate>().cloned(),
            peer: proxies::origin(request),
            path: request.path().to_owned(),
            routed: routed.clone(),
            rights,
        }
    }

    /// The groups of its place that its caller may read.
    pub fn groups(&self) -> &Groups {
        self.rights.groups()
    }

    /// Whether its caller may still read the same there. While that cannot be told, it is as it
    /// was.
    pub async fn holds(&self, authenticator: &Authenticator) -> bool {
        let presented = Presented {
            authorization: self.authorization.as_deref(),
            certificate: self.certificate.as_ref(),
            peer: self.peer,
        };
        match authenticator.recognise(presented).await {
            Ok(identity) => {
                let place = self.routed.place(&self.path);
                let rights = authenticator.decide(&identity, Permission::Read, &place);
                rights.is_ok_and(|rights| rights.groups() == self.rights.groups())
            }
            Err(AuthError::Missing | AuthError::Invalid(_)) => false,
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_)) => true,
        }
    }
}

impl FromRequest for Standing {
    type Error = ApiError;
    type Future = Ready<Result<Standing, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let standing = request.extensions().get::<Standing>().cloned();
        ready(standing.ok_or_else(|| ApiError::NotAllowed { reason: "Nobody let this request in.".to_owned() }))
    }
}

/// How somebody is answered who was not recognised.
pub fn refused(error: AuthError, challenge: &str) -> ApiError {
    match error {
        AuthError::Missing | AuthError::Invalid(_) => {
            ApiError::NotAuthenticated { reason: error.to_string(), challenge: challenge.to_owned() }
        }
        AuthError::Unavailable(reason) => ApiError::CannotAuthenticate { reason },
        AuthError::TooMany(reason) => ApiError::TooManyRequests { reason },
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Caller, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        // Only a request that was let in comes as far as a handler that asks for this.
        ready(caller.ok_or_else(|| ApiError::NotAllowed { reason: "Nobody let this request in.".to_owned() }))
    }
}
