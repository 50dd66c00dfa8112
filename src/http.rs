//! The HTTP interface: routes, and what is true of every answer. Handlers and wire types are in the modules
//! beneath, one per resource; none of them knows a role's rules or a statement.

use std::any::Any;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::BoxBody;
use actix_web::dev::{Extensions, Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, HttpRequest, HttpServer, web};
use rustls::ServerConfig;
use tokio::sync::Notify;
use tracing::{Instrument as _, Level};

use crate::arbitration::Answer;
use crate::auth::Authenticator;
use crate::auth::certificates::ClientCertificate;
use crate::failover::{Failover, HeartbeatMessage};
use crate::log_limits::Lines;
use crate::{limited, metrics, telemetry};
use errors::ApiError;

mod datetime;
mod description;
mod docs;
mod errors;
mod events;
mod groups;
mod guard;
mod health;
mod history;
mod json;
mod page;
mod paths;
mod query;
mod routes;
mod sessions;
mod status;
pub(crate) mod timespan;

/// A heartbeat's body read, and an answer's written, as the handlers do it: for the micro-benchmarks.
#[doc(hidden)]
pub fn wire_form(body: &str, answer: &Answer) -> Option<(HeartbeatMessage, String)> {
    let message = sessions::read_body(&json::JsonBody::of(body.to_owned())).ok()?;
    Some((message, sessions::write_body(answer)))
}

/// Requests that failed by a defect of ours, and those that failed by what is around us.
const DEFECTS: Lines = Lines::new("request failed with a defect", Level::ERROR);
const FAILURES: Lines = Lines::new("request failed", Level::WARN);

/// How the server is run.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Threads that read requests and write answers.
    pub workers: usize,
    /// The longest that requests in flight are waited for at the end.
    pub shutdown_timeout: Duration,
    /// The most connections at once.
    pub connection_limit: usize,
}

/// Whether the service is on its way out. Shared by all workers.
#[derive(Clone, Default)]
pub struct Life(Arc<Ending>);

#[derive(Default)]
struct Ending {
    is_ending: AtomicBool,
    said: Notify,
}

impl Life {
    /// Says that the service is stopping: readiness and streams end, and connections are closed after their next answer.
    pub fn end(&self) {
        self.0.is_ending.store(true, Ordering::Release);
        self.0.said.notify_waiters();
    }

    fn is_ending(&self) -> bool {
        self.0.is_ending.load(Ordering::Acquire)
    }

    /// Waits until the service is stopping.
    async fn ended(&self) {
        let mut said = pin!(self.0.said.notified());
        // Before the look: otherwise it could be said between the two.
        said.as_mut().enable();
        if !self.is_ending() {
            said.await;
        }
    }
}

/// What every worker shares.
#[derive(Clone)]
pub struct Shared {
    /// The use cases.
    pub failover: Failover,
    /// Who may come in.
    pub authenticator: Arc<Authenticator>,
    /// Whether the service is on its way out.
    pub life: Life,
}

/// A server on these listeners, over TLS where that is configured. It runs when awaited, and stops by its handle.
pub fn server(
    listeners: Vec<TcpListener>,
    shared: Shared,
    tls: Option<ServerConfig>,
    options: &HttpOptions,
) -> std::io::Result<Server> {
    let failover = web::Data::new(shared.failover);
    let life = web::Data::new(shared.life);
    let authenticator = web::Data::from(shared.authenticator);
    let app = move || {
        App::new()
            .app_data(failover.clone())
            .app_data(life.clone())
            .app_data(authenticator.clone())
            .wrap(from_fn(around_everything))
            .configure(routes::configure)
            .default_service(web::to(refuse_path))
    };
    let mut server = HttpServer::new(app)
        .workers(options.workers)
        .max_connections(options.connection_limit.div_ceil(options.workers))
        .on_connect(note_client_certificate)
        // A heartbeat comes every half timeout: connections are worth keeping for longer than the usual few seconds.
        .keep_alive(Duration::from_secs(75))
        .client_request_timeout(Duration::from_secs(10))
        // A client that half-closes is gone: its heartbeat drops out of the queue.
        .h1_allow_half_closed(false)
        .shutdown_timeout(options.shutdown_timeout.as_secs().max(1))
        .disable_signals();
    for listener in listeners {
        server = match &tls {
            Some(config) => server.listen_rustls_0_23(listener, config.clone())?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
}

/// Keeps with a connection what its client certificate says, for its requests.
fn note_client_certificate(connection: &dyn Any, notes: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    if let Some(certificate) = leaf.and_then(|leaf| ClientCertificate::read(leaf)) {
        notes.insert(certificate);
    }
}

async fn refuse_path(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::NoSuchRoute { path: request.path().chars().take(200).collect() })
}

/// Around every request: the path in normal form, the operation id, and the body of every error, the
/// framework's own included.
async fn around_everything(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
    let began = Instant::now();
    let operation_id: Arc<str> = operation_id(request.headers()).into();
    paths::normalise(&mut request);
    let ending = request.app_data::<web::Data<Life>>().is_some_and(|life| life.is_ending());

    let resource = routes::find(request.path());
    let route = resource.map_or(metrics::Route::Other, |resource| resource.counted_as);
    let span = telemetry::request_span(request.headers(), request.method().as_str(), route.label(), &operation_id);

    let admitted = match request.app_data::<web::Data<Authenticator>>() {
        Some(authenticator) => {
            guard::admit(&request, resource, authenticator, &operation_id).instrument(span.clone()).await
        }
        None => Err(ApiError::NotAllowed { reason: "There is nobody at the door.".to_owned() }),
    };
    let mut response = match admitted {
        Ok(()) => next.call(request).instrument(span.clone()).await?,
        Err(refusal) => request.error_response(refusal),
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = with_error_body(response, &operation_id);
    }
    let status = response.status().as_u16();
    metrics::request_answered(route, response.request().method().as_str(), status, began.elapsed());
    span.record("http.response.status_code", status);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&operation_id) {
        headers.insert(OPERATION_ID, value);
    }
    if ending {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    Ok(response)
}

fn with_error_body(response: ServiceResponse<BoxBody>, operation_id: &str) -> ServiceResponse<BoxBody> {
    let framework = ApiError::Framework(response.status());
    let error = response.response().error().and_then(|error| error.as_error::<ApiError>());
    let error = error.unwrap_or(&framework);
    let answer = error.to_response(operation_id);
    let (method, path) = (response.request().method(), response.request().path());
    let status = response.status().as_u16();
    // Logged once, here, where it is answered.
    match status {
        // A load balancer asks several times a second, and why is said where it began.
        503 if matches!(error, ApiError::NotReady { .. }) => {
            tracing::debug!(operation_id, cause = error.cause(), "not ready");
        }
        // A defect or an outage meets every heartbeat: of each cause the first few are enough.
        500 => {
            let cause = error.cause();
            limited!(DEFECTS, &cause, operation_id, %method, path, status, cause, "request failed with a defect");
        }
        401 | 403 if guard::is_worth_a_line() => {
            tracing::info!(operation_id, %method, path, status, cause = error.cause(), "request refused")
        }
        501.. => {
            let cause = error.cause();
            limited!(FAILURES, &cause, operation_id, %method, path, status, cause, "request failed");
        }
        _ => tracing::debug!(operation_id, %method, path, status, cause = error.cause(), "request refused"),
    }
    response.into_response(answer)
}

/// The request's id: the trace id of a well-formed `traceparent`, else a new one. 32 hexadecimal digits.
fn operation_id(headers: &HeaderMap) -> String {
    let trace_id = || {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed = hex(version, 2)
            && version != "ff"
            && hex(trace, 32)
            && trace.bytes().any(|b| b != b'0')
            && hex(parent, 16)
            && parent.bytes().any(|b| b != b'0')
            && hex(flags, 2)
            && (version != "00" || parts.next().is_none());
        well_formed.then(|| trace.to_owned())
    };
    // Only to find a request again: it need not be hard to guess, and must not cost a system call per heartbeat.
    trace_id().unwrap_or_else(|| format!("{:032x}", fastrand::u128(1..)))
}
