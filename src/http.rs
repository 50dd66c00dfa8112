//! The HTTP interface: routes, and what is true of every answer. Handlers and wire types are in the
//! modules beneath, one per resource; none of them knows a role's rules or a statement.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method, StatusCode, Version};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpMessage as _, HttpRequest, web};
use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{Instrument as _, Level};

use crate::arbitration::Answer;
use crate::auth::{ANONYMOUS, Authenticator, network};
use crate::failover::{Caller, Failover, HeartbeatMessage};
use crate::log_limits::Lines;
use crate::tls::TlsConfig;
use crate::{limited, metrics, telemetry};
use connection::Connection;
pub use connection::ConnectionOptions;
use errors::ApiError;
use lists::{Lists, OpenList};
pub use sites::AllowedHosts;

mod connection;
mod description;
mod docs;
mod errors;
mod events;
mod groups;
mod guard;
mod health;
mod history;
mod json;
pub(crate) mod keys;
mod lists;
mod page;
mod paths;
pub mod proxies;
mod query;
mod routes;
mod sessions;
mod sites;
mod status;

/// A heartbeat's body read, and an answer's written, as the handlers do it: for the
/// micro-benchmarks.
#[doc(hidden)]
pub fn wire_form(body: &str, answer: &Answer) -> Option<(HeartbeatMessage, String)> {
    let message = sessions::read_body(&json::JsonBody::of(body.to_owned())).ok()?;
    Some((message, sessions::write_body(answer)))
}

/// Requests that failed by a defect of ours, and those that failed by what is around us.
const DEFECTS: Lines = Lines::new("request failed with a defect", Level::ERROR);
const FAILURES: Lines = Lines::new("request failed", Level::WARN);

/// Those that were refused because nobody was recognised, and those of a stranger who may not do
/// that. Whoever can be refused can be refused very often, and must neither fill a disk nor hide
/// others who are. Known callers have a rate of requests.
const NOT_RECOGNISED: Lines = Lines::new("request refused: the caller is not recognised", Level::INFO);
const NOT_ALLOWED: Lines = Lines::new("request refused: not allowed", Level::INFO);

/// The longest target of a request, in bytes: four ids of the greatest length, percent-encoded, and
/// a query.
const MAX_TARGET_BYTES: usize = 16 * 1024;

/// How the server is run.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Threads that read requests and write answers.
    pub workers: usize,
    /// The longest that requests in flight are waited for at the end.
    pub shutdown_timeout: Duration,
    /// How many connections there may be, and how long each may take.
    pub connections: ConnectionOptions,
    /// The most long answers of one caller that are being made at once.
    pub lists_per_caller: usize,
    /// Whether there is the page to try the API on.
    pub docs: bool,
    /// The names by which the service may be asked for.
    pub allowed_hosts: AllowedHosts,
    /// Whether browsers are told, over TLS, to come over TLS alone from then on.
    pub hsts: bool,
}

/// What is offered beside the API.
pub struct Offers {
    docs: bool,
    only_tls: bool,
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
    /// Says that the service is stopping: readiness and streams end, and connections are closed
    /// after their next answer.
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

/// A server on these listeners, over TLS where that is configured. It runs when awaited, and stops
/// by its handle.
pub fn server(
    listeners: Vec<TcpListener>,
    shared: Shared,
    tls: Option<TlsConfig>,
    options: &HttpOptions,
) -> std::io::Result<Server> {
    let failover = web::Data::new(shared.failover);
    let life = web::Data::new(shared.life);
    let authenticator = web::Data::from(shared.authenticator);
    let offers = web::Data::new(Offers { docs: options.docs, only_tls: options.hsts && tls.is_some() });
    let allowed_hosts = web::Data::new(options.allowed_hosts.clone());
    let proxies = web::Data::new(options.connections.proxies.clone());
    let latest_look = web::Data::new(health::LatestLook::default());
    let lists = Lists::new(options.lists_per_caller);
    let app = move || {
        App::new()
            .app_data(offers.clone())
            .app_data(allowed_hosts.clone())
            .app_data(proxies.clone())
            .app_data(latest_look.clone())
            .app_data(lists.clone())
            .app_data(failover.clone())
            .app_data(life.clone())
            .app_data(authenticator.clone())
            .wrap(from_fn(around_everything))
            .configure(routes::configure)
            .default_service(web::to(refuse_path))
    };
    connection::serve(listeners, app, tls, &options.connections, options.workers, options.shutdown_timeout)
}

async fn refuse_path(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::NoSuchRoute { path: request.path().chars().take(200).collect() })
}

/// Around every request: the path in normal form, the operation id, the body of every error (the
/// framework's own included), none for `HEAD`, and the word that the connection closes where it
/// does.
async fn around_everything(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
    let began = Instant::now();
    let operation_id = OperationId::of(request.headers());
    let connection = Connection::begin(&request);
    let target_bytes = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    paths::normalise(&mut request);

    let resource = routes::find(request.path());
    let route = resource.map_or(metrics::Route::Other, |resource| resource.counted_as);

    let is_only_tls = request.app_data::<web::Data<Offers>>().is_some_and(|offers| offers.only_tls);
    let is_for_health = connection.as_ref().is_some_and(Connection::is_for_health);
    let admitted = match request.app_data::<web::Data<Authenticator>>() {
        _ if target_bytes > MAX_TARGET_BYTES => Err(ApiError::Framework(StatusCode::URI_TOO_LONG)),
        _ if is_for_health && route != metrics::Route::Health => Err(ApiError::NoPlace),
        Some(authenticator) => guard::admit(&request, resource, authenticator, &operation_id).await,
        None => Err(ApiError::NotAllowed { reason: "There is nobody at the door.".to_owned() }),
    };
    // Within the caller's trace only where we know them: a stranger's word would have every request
    // recorded.
    let trace = request.extensions().get::<guard::Familiar>().map(|_| request.headers());
    let operation_id = operation_id.answered();
    let span = telemetry::request_span(trace, request.method().as_str(), route.label(), operation_id);
    let (mut response, list) = match admitted.and_then(|()| enter_list(&request, resource)) {
        Ok(list) => (next.call(request).instrument(span.clone()).await?, list),
        Err(refusal) => (request.error_response(refusal), None),
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        let is_given_up = response.request().extensions().contains::<json::Unread>();
        if let Some(connection) = connection.as_ref().filter(|_| !is_given_up) {
            connection.let_body_pass().await;
        }
        response = with_error_body(response, operation_id);
    }
    let status = response.status().as_u16();
    metrics::request_answered(route, response.request().method().as_str(), status, began.elapsed());
    span.record("http.response.status_code", status);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(operation_id) {
        headers.insert(OPERATION_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_only_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    say_whether_it_closes(&mut response, is_for_health);
    let response = connection::give_out(response, connection, list);
    Ok(match *response.request().method() {
        Method::HEAD => response.map_body(|_, body| BoxBody::new(OnlyItsSize(body.size()))),
        _ => response,
    })
}

/// Room for a long answer, where one is asked for.
fn enter_list(request: &ServiceRequest, resource: Option<&routes::Resource>) -> Result<Option<OpenList>, ApiError> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_list = is_read && resource.is_some_and(|resource| LONG.contains(&resource.path));
    let (true, Some(lists)) = (is_list, request.app_data::<Lists>()) else { return Ok(None) };
    let extensions = request.extensions();
    let Some(caller) = extensions.get::<Caller>() else { return Ok(None) };
    match (&*caller.identity, proxies::origin(request.request())) {
        (ANONYMOUS, Some(peer)) => lists.enter(&peer.to_string().into()).map(Some),
        _ => lists.enter(&caller.identity).map(Some),
    }
}

/// What may be long.
const LONG: [&str; 12] = [
    paths::GROUPS,
    paths::GROUP,
    paths::GROUP_STATUS,
    paths::NAMESPACE_STATUS,
    paths::STATUS,
    paths::NAMESPACES,
    paths::TRANSITIONS,
    paths::NAMESPACE_TRANSITIONS,
    paths::ALL_TRANSITIONS,
    paths::LIFETIMES,
    paths::KEYS,
    paths::TENANT_KEYS,
];

/// Says that the connection closes after an answer, in all cases in which it will: whoever is not
/// told may lose the next request on it.
fn say_whether_it_closes(response: &mut ServiceResponse<BoxBody>, is_for_health: bool) {
    let request = response.request();
    let ending = request.app_data::<web::Data<Life>>().is_some_and(|life| life.is_ending());
    // The framework closes after a request that has this option, although it upgrades to nothing.
    // Proxies send it with every request.
    let may_upgrade = request.head().connection_type() == ConnectionType::Upgrade;
    // HTTP/1.0 has no chunks: what has no length ends with its connection.
    let ends_by_closing = request.version() < Version::HTTP_11 && response.response().body().size() == BodySize::Stream;
    // A stream of events goes on until the service ends, and its connections with it.
    let is_endless = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == events::CONTENT_TYPE_OF_STREAM);
    let head = response.response_mut().head_mut();
    if ends_by_closing {
        head.no_chunking(true);
    }
    if ending || is_for_health || may_upgrade || ends_by_closing || is_endless {
        head.set_connection_type(ConnectionType::Close);
    }
}

/// A body that is not sent, of which only the size is told.
struct OnlyItsSize(BodySize);

impl MessageBody for OnlyItsSize {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
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
        401 | 403 => {
            let peer = proxies::origin(response.request());
            let address = peer.map(|peer| network(peer).to_string()).unwrap_or_default();
            let (peer, cause) = (peer.map(tracing::field::display), error.cause());
            if status == 401 {
                limited!(
                    NOT_RECOGNISED, &address, operation_id, peer, %method, path, status, cause,
                    "request refused: the caller is not recognised"
                );
            } else if let Some(known) = guard::known_caller(response.request()) {
                // Somebody to be asked about it: each time, here and in the audit trail.
                tracing::info!(
                    operation_id, peer, identity = &*known.identity, %method, path, status, cause,
                    "request refused: not allowed"
                );
                guard::record_refusal(response.request(), known, &cause);
            } else {
                limited!(
                    NOT_ALLOWED, &address, operation_id, peer, %method, path, status, cause,
                    "request refused: not allowed"
                );
            }
        }
        501.. => {
            let cause = error.cause();
            limited!(FAILURES, &cause, operation_id, %method, path, status, cause, "request failed");
        }
        _ => tracing::debug!(operation_id, %method, path, status, cause = error.cause(), "request refused"),
    }
    let unread = response.request().extensions_mut().remove::<json::Unread>();
    let response = response.into_response(answer);
    match unread {
        Some(unread) => response.map_body(|_, body| unread.kept_with(body)),
        None => response,
    }
}

/// The ids of a request. 32 hexadecimal digits each.
pub struct OperationId {
    /// Our own, which nobody else can choose.
    own: Arc<str>,
    /// The trace id of a well-formed `traceparent`: the caller's word.
    claimed: Option<Arc<str>>,
}

impl OperationId {
    fn of(headers: &HeaderMap) -> OperationId {
        OperationId { own: new_operation_id().into(), claimed: claimed_trace_id(headers).map(Into::into) }
    }

    /// The one that its caller finds it by, in the answer and in the log.
    fn answered(&self) -> &str {
        self.claimed.as_deref().unwrap_or(&self.own)
    }
}

fn claimed_trace_id(headers: &HeaderMap) -> Option<String> {
    {
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
    }
}

/// Only to find a request again: it need not be hard to guess, and must not cost a system call per
/// heartbeat.
fn new_operation_id() -> String {
    format!("{:032x}", fastrand::u128(1..))
}
