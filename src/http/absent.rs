//! A heartbeat for a session that is not there is answered 404, whatever else is wrong with it or
//! with the service. That is all by which an adapter learns that it has to register again: after
//! any other refusal it keeps its role and goes on.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, web};
use tokio::sync::Semaphore;

use super::errors::ApiError;
use super::paths::InSession;
use crate::failover::{Failover, FailoverError};

/// How many look at once. Whoever finds them all at it is refused as they would be: in a flood
/// those who ask again in time are answered in time.
static LOOKING: Semaphore = Semaphore::const_new(4);

/// How long a look may take: what is refused because the database is slow is not to be kept waiting
/// for it again.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The refusal of a heartbeat, from somebody who may send it: that its session is not there, or
/// else what it would be refused with.
pub async fn or(request: &HttpRequest, refusal: ApiError) -> ApiError {
    match find(request).await {
        Some(absent) => ApiError::Failover(absent),
        None => refusal,
    }
}

/// The same for an answer that is a refusal.
pub async fn or_answer(request: &HttpRequest, answer: HttpResponse) -> HttpResponse {
    let error = answer.error().and_then(|error| error.as_error::<ApiError>());
    if error.is_some_and(is_known_to_be_there) {
        return answer;
    }
    match find(request).await {
        Some(absent) => HttpResponse::from_error(ApiError::Failover(absent)),
        None => answer,
    }
}

/// Whether an error says, or follows from, what was found of the session.
fn is_known_to_be_there(error: &ApiError) -> bool {
    use FailoverError::{Denied, NoSuchGroup, NoSuchSession};
    matches!(error, ApiError::Failover(NoSuchGroup { .. } | NoSuchSession { .. } | Denied(_)) | ApiError::Denied(_))
}

/// That the session is not there, if that is known.
async fn find(request: &HttpRequest) -> Option<FailoverError> {
    let failover = request.app_data::<web::Data<Failover>>()?;
    let InSession(path, session) = InSession::from_request(request, &mut Payload::None).await.ok()?;
    let _look = LOOKING.try_acquire().ok()?;
    let look = failover.find_absent(&path, &session);
    tokio::time::timeout(TIMEOUT, look).await.ok()?.ok()?
}
