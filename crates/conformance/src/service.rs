//! A service that does what a scene says: the requests that clients make, and answers of whatever
//! kind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client_failover_wire::{headers, timespan};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::record::{Event, Record, Told};
use super::scenes::{Reply, Scene};

/// What requests of one scene have in common.
pub struct Stage {
    pub scene: &'static Scene,
    pub timeout: Duration,
    pub record: Record,
    beats: AtomicUsize,
    group_is_there: AtomicBool,
    group_has_gone: AtomicBool,
    registered: Mutex<BTreeSet<String>>,
    /// The highest number of a heartbeat that was answered.
    answered: watch::Sender<usize>,
}

/// The connection is to be broken off without an answer.
#[derive(Debug, thiserror::Error)]
#[error("broken off")]
struct BrokenOff;

/// The service.
pub struct ScriptedService {
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl ScriptedService {
    pub async fn start(listen: SocketAddr, stage: Arc<Stage>) -> std::io::Result<ScriptedService> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            // With this one all connections end.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(serve(stream, stage.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(ScriptedService { address, accepting })
    }

    /// Ends it, with all connections; its address is free then.
    pub async fn end(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn serve(stream: TcpStream, stage: Arc<Stage>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let stage = stage.clone();
        async move { stage.answer(request).await }
    });
    // However it ends, its client makes another.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Notes it where a heartbeat's answer is not waited for any more.
struct UnderWay<'s> {
    stage: &'s Stage,
    n: usize,
    is_answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.stage.record.add(Event::GivenUp { n: self.n });
        }
    }
}

type Answer = Response<Full<Bytes>>;

impl Stage {
    pub fn new(scene: &'static Scene, timeout: Duration) -> Stage {
        Stage {
            scene,
            timeout,
            record: Record::new(),
            beats: AtomicUsize::new(0),
            group_is_there: AtomicBool::new(true),
            group_has_gone: AtomicBool::new(false),
            registered: Mutex::default(),
            answered: watch::Sender::new(0),
        }
    }

    /// Waits until the heartbeat of that number, or a later one, was answered.
    pub async fn has_answered(&self, n: usize) {
        // Its sender is here.
        let _ = self.answered.subscribe().wait_for(|answered| *answered >= n).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, BrokenOff> {
        let path = request.uri().path().to_owned();
        let decoded = path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned());
        let parts: Vec<String> = decoded.filter(|part| !part.is_empty()).collect();
        let of_groups = parts.iter().position(|part| part.eq_ignore_ascii_case("groups"));
        let below: Vec<&str> =
            of_groups.map_or(&parts[..0], |at| &parts[at + 1..]).iter().map(String::as_str).collect();
        let (method, said) = (request.method().clone(), request.headers().clone());
        // Whoever breaks off in the middle of a request has asked for nothing.
        let body = request.into_body().collect().await.map_err(|_| BrokenOff)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let timeout = timespan::format(i64::try_from(self.timeout.as_nanos() / 100).unwrap_or(i64::MAX));
        let group = |id: &str| json!({"Id": id, "FailoverTimeout": timeout, "Milliseconds": self.timeout.as_millis()});
        let number = |name: &str| said.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        Ok(match (&method, &below[..]) {
            _ if of_groups.is_none() => error(StatusCode::NOT_FOUND, None),
            (&Method::POST, []) => {
                self.group_is_there.store(true, Ordering::SeqCst);
                answer(StatusCode::OK, &json!(id_in(&body).unwrap_or("group")))
            }
            (&Method::PUT, [id]) => {
                self.group_is_there.store(true, Ordering::SeqCst);
                answer(StatusCode::OK, &json!(id))
            }
            (&Method::GET, []) => answer(StatusCode::OK, &json!([])),
            (&Method::GET, [id]) if self.has_group() => answer(StatusCode::OK, &group(id)),
            (&Method::POST, [_, sessions]) if is(sessions, "clientsessions") => self.register(&body),
            (&Method::DELETE, [_, sessions, session]) if is(sessions, "clientsessions") => {
                self.registered().remove(*session);
                self.record.add(Event::Goodbye);
                answer(StatusCode::OK, &json!(session))
            }
            (&Method::POST, [_, sessions, session] | [_, sessions, session, "heartbeat"])
                if is(sessions, "clientsessions") =>
            {
                let role = number(headers::FAILOVER_ROLE).and_then(|role| u8::try_from(role).ok());
                return self.heartbeat(session, role, number(headers::FAILOVER_TERM)).await;
            }
            _ => error(StatusCode::NOT_FOUND, None),
        })
    }

    fn has_group(&self) -> bool {
        self.group_is_there.load(Ordering::SeqCst)
    }

    fn register(&self, body: &Value) -> Answer {
        let session = id_in(body).unwrap_or_default().to_owned();
        let status = if self.has_group() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        self.record.add(Event::Registered { session: session.clone(), status: status.as_u16() });
        if status != StatusCode::OK {
            return error(status, None);
        }
        self.registered().insert(session.clone());
        answer(status, &json!(session))
    }

    fn registered(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn heartbeat(&self, session: &str, role: Option<u8>, term: Option<i64>) -> Result<Answer, BrokenOff> {
        let is_the_end = self.scene.group_goes_after == Some(self.beats.load(Ordering::SeqCst));
        if is_the_end && !self.group_has_gone.swap(true, Ordering::SeqCst) {
            self.group_is_there.store(false, Ordering::SeqCst);
            self.registered().clear();
        }
        if !self.registered().contains(session) {
            self.record.add(Event::Stray { session: session.to_owned() });
            return Ok(error(StatusCode::NOT_FOUND, None));
        }
        let n = self.beats.fetch_add(1, Ordering::SeqCst) + 1;
        self.record.add(Event::Beat { n, session: session.to_owned(), role, term });
        let mut under_way = UnderWay { stage: self, n, is_answered: false };
        match (self.scene.reply)(n, self.timeout) {
            Reply::Role(told) => Ok(self.tell(&mut under_way, told)),
            Reply::Late(by, told) => {
                tokio::time::sleep(by).await;
                Ok(self.tell(&mut under_way, told))
            }
            Reply::Held => std::future::pending().await,
            Reply::Cut => Err(BrokenOff),
            Reply::Refused { status, retry_after } => {
                if status == 404 {
                    self.registered().remove(session);
                }
                Ok(self.refuse(&mut under_way, status, retry_after))
            }
        }
    }

    fn tell(&self, under_way: &mut UnderWay<'_>, told: Told) -> Answer {
        under_way.is_answered = true;
        self.record.add(Event::Answered { n: under_way.n, told });
        self.note_answer(under_way.n);
        let body = json!({"Role": told.role, "LastDataSendTime": "0001-01-01T00:00:00Z"});
        let mut answer = answer(StatusCode::OK, &body);
        let numbers = [
            (headers::FAILOVER_TERM, told.term),
            (headers::FAILOVER_LEASE_MS, i64::try_from(told.lease.as_millis()).unwrap_or(0)),
            (headers::FAILOVER_TIMEOUT_MS, i64::try_from(told.timeout.as_millis()).unwrap_or(0)),
        ];
        for (name, number) in numbers {
            answer.headers_mut().insert(name, number.into());
        }
        answer
    }

    fn refuse(&self, under_way: &mut UnderWay<'_>, status: u16, retry_after: Option<u32>) -> Answer {
        under_way.is_answered = true;
        self.record.add(Event::Refused { n: under_way.n, status });
        self.note_answer(under_way.n);
        error(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), retry_after)
    }

    fn note_answer(&self, n: usize) {
        self.answered.send_modify(|answered| *answered = n.max(*answered));
    }
}

/// Names of properties are read in any case.
fn id_in(body: &Value) -> Option<&str> {
    let (_, id) = body.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case("Id"))?;
    id.as_str()
}

fn is(part: &str, name: &str) -> bool {
    part.eq_ignore_ascii_case(name)
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn error(status: StatusCode, retry_after: Option<u32>) -> Answer {
    let what = status.canonical_reason().unwrap_or("error");
    let mut answer = answer(
        status,
        &json!({"Error": what, "Reason": format!("The script says {what}."), "Resolution": "Go by the trust rule."}),
    );
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}
