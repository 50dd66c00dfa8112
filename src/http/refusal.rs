//! What a refusal says: the one body of every error, and what the log and the audit trail have of
//! it.

use actix_web::HttpMessage as _;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use tracing::Level;

use super::errors::ApiError;
use super::{guard, json, proxies};
use crate::access::network;
use crate::limited;
use crate::log_limits::Lines;

/// Requests that failed by a defect of ours, and those that failed by what is around us.
const DEFECTS: Lines = Lines::new("request failed with a defect", Level::ERROR);
const FAILURES: Lines = Lines::new("request failed", Level::WARN);

/// Those that were refused because nobody was recognised, and those of a stranger who may not do
/// that. Whoever can be refused can be refused very often, and must neither fill a disk nor hide
/// others who are. Known callers have a rate of requests.
const NOT_RECOGNISED: Lines = Lines::new("request refused: the caller is not recognised", Level::INFO);
const NOT_ALLOWED: Lines = Lines::new("request refused: not allowed", Level::INFO);

/// The answer with the body of its error, the framework's own included.
pub fn with_error_body(response: ServiceResponse<BoxBody>, operation_id: &str) -> ServiceResponse<BoxBody> {
    let found = response.response().error();
    let framework = match response.status().as_u16() {
        // What was to be answered cannot be written.
        500 => ApiError::Defect { cause: found.map(ToString::to_string).unwrap_or_default() },
        _ => ApiError::Framework(response.status()),
    };
    let error = found.and_then(|error| error.as_error::<ApiError>()).unwrap_or(&framework);
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

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::body::MessageBody as _;
    use actix_web::test::TestRequest;
    use serde::{Serialize, Serializer};

    use super::*;

    struct CannotBeWritten;

    impl Serialize for CannotBeWritten {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no words"))
        }
    }

    #[test]
    fn an_answer_of_ours_that_cannot_be_written_is_a_defect_and_not_the_callers_fault() {
        let request = TestRequest::default().to_http_request();
        let answer = HttpResponse::Ok().json(CannotBeWritten);
        let refused = with_error_body(ServiceResponse::new(request, answer), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(refused.status(), 500);
        let body = refused.into_body().try_into_bytes().expect("it is there as a whole");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
        assert_eq!(body["Error"], "The service has a defect.");
        assert_eq!(body["OperationId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        let defect = ApiError::Defect { cause: "no words".to_owned() };
        assert_eq!((defect.status().as_u16(), defect.texts().0), (500, "The service has a defect."));
    }
}
