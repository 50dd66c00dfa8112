//! What is true of every request and every answer: the operation id, the door, the body of every
//! error, none for `HEAD`, and the word that the connection closes where it does.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CONTENT_TYPE, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method, StatusCode, Version};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use tracing::Instrument as _;

use super::connection::{self, ClientConnection};
use super::errors::ApiError;
use super::life::Life;
use super::limits::MAX_TARGET_BYTES;
use super::lists::{Lists, OpenList};
use super::operation_id::OperationId;
use super::operations::Length;
use super::routing::{Routed, Table};
use super::{absent, events, guard, json, proxies, refusal};
use crate::access::{ANONYMOUS, Authenticator};
use crate::failover::Caller;
use crate::{metrics, telemetry};

/// The way in of a worker.
pub struct Entry {
    /// Everything that is served.
    pub table: Table,
    /// Whether browsers are told to come over TLS alone from now on.
    pub is_only_tls: bool,
}

impl Entry {
    /// Answers a request.
    pub async fn answer(self: Rc<Entry>, request: ServiceRequest) -> Result<ServiceResponse<BoxBody>, Error> {
        const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
        let began = Instant::now();
        let (request, payload) = request.into_parts();
        let operation_id = OperationId::of(request.headers());
        let connection = ClientConnection::begin(&request);
        let routed = self.table.find(request.path());
        request.extensions_mut().insert(routed.clone());
        let route = routed.counted_as();
        let is_for_health = connection.as_ref().is_some_and(ClientConnection::is_for_health);
        let admitted = admit(&request, &routed, &operation_id, is_for_health).await;
        // Within the caller's trace only where we know them: a stranger's word would have every
        // request recorded.
        let trace = request.extensions().get::<guard::Familiar>().map(|_| request.headers());
        let operation_id = operation_id.answered();
        let span = telemetry::request_span(trace, request.method().as_str(), route.label(), operation_id);
        let (answer, list) = match admitted {
            Ok(list) => (serve(&request, payload, &routed).instrument(span.clone()).await, list),
            Err(refusal) => {
                // Nobody reads the body: the server's library is to know that.
                drop(payload);
                (HttpResponse::from_error(refusal), None)
            }
        };
        let mut response = ServiceResponse::new(request, answer);
        if response.status().is_client_error() || response.status().is_server_error() {
            let is_given_up = response.request().extensions().contains::<json::Unread>();
            if let Some(connection) = connection.as_ref().filter(|_| !is_given_up) {
                connection.let_body_pass().await;
            }
            response = refusal::with_error_body(response, operation_id);
        }
        let status = response.status().as_u16();
        metrics::request_answered(route, response.request().method().as_str(), status, began.elapsed());
        span.record("http.response.status_code", status);
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(operation_id) {
            headers.insert(OPERATION_ID, value);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.is_only_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        say_whether_it_closes(&mut response, is_for_health);
        let response = connection::give_out(response, connection, list);
        Ok(match *response.request().method() {
            Method::HEAD => response.map_body(|_, body| BoxBody::new(OnlyItsSize(body.size()))),
            _ => response,
        })
    }
}

/// Lets a request in, with room for its answer where that is long.
async fn admit(
    request: &HttpRequest,
    routed: &Routed,
    operation_id: &OperationId,
    is_for_health: bool,
) -> Result<Option<OpenList>, ApiError> {
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET_BYTES {
        return Err(ApiError::Framework(StatusCode::URI_TOO_LONG));
    }
    if is_for_health && routed.counted_as() != metrics::Route::Health {
        return Err(ApiError::NoPlace);
    }
    let Some(authenticator) = request.app_data::<web::Data<Authenticator>>() else {
        return Err(ApiError::NotAllowed { reason: "There is nobody at the door.".to_owned() });
    };
    guard::admit(request, routed, authenticator, operation_id).await?;
    match routed.length(request.method()) {
        Length::Long => enter_list(request),
        Length::Short | Length::Endless => Ok(None),
    }
}

/// Has a request answered that was let in.
async fn serve(request: &HttpRequest, payload: Payload, routed: &Routed) -> HttpResponse {
    let refusal = match (routed.operation(request.method()), routed.resource) {
        (Some(operation), _) => {
            let answer = operation.answer(request.clone(), payload).await;
            if !operation.is_heartbeat || answer.status().is_success() {
                return answer;
            }
            // Boxed: it is rare, and every request would carry its size.
            return Box::pin(absent::or_answer(request, answer)).await;
        }
        (None, Some(resource)) => ApiError::MethodNotAllowed { allow: resource.methods() },
        (None, None) => ApiError::no_such_route(request),
    };
    drop(payload);
    HttpResponse::from_error(refusal)
}

/// Room for a long answer.
fn enter_list(request: &HttpRequest) -> Result<Option<OpenList>, ApiError> {
    let Some(lists) = request.app_data::<Lists>() else { return Ok(None) };
    let extensions = request.extensions();
    let Some(caller) = extensions.get::<Caller>() else { return Ok(None) };
    match (&*caller.identity, proxies::origin(request)) {
        (ANONYMOUS, Some(peer)) => lists.enter(&peer.to_string().into()).map(Some),
        _ => lists.enter(&caller.identity).map(Some),
    }
}

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
