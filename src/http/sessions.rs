//! The operations on client sessions: register, heartbeat, say goodbye.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::datetime::{self, Reading};
use super::errors::ApiError;
use super::groups::{MAX_NAME_CHARS, answer_id};
use super::json::{JsonBody, Object};
use super::paths::{InGroup, InSession};
use crate::arbitration::{Answer, FailoverTimeout, Health, Instant, Role};
use crate::failover::{Caller, Failover, HeartbeatMessage};
use crate::ids::SessionId;

/// `POST …/clientsessions`
pub async fn register(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let object = body.object(["Id", "Name"])?;
    let session = match object.text(0)?.filter(|id| !id.is_empty()) {
        Some(id) => SessionId::parse(id).map_err(|wrong| ApiError::bad_id("Id", wrong))?,
        None => SessionId::generate(),
    };
    let name = object.text_up_to(1, MAX_NAME_CHARS)?;
    failover.register(&caller, &path, session.clone(), name).await?;
    Ok(answer_id(session.as_str()))
}

/// `POST …/clientsessions/{sessionId}`
pub async fn heartbeat(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let message = read_heartbeat(&request, &body)?;
    let answer = failover.heartbeat(&caller, path, session, message).await?;
    Ok(write_answer(&answer))
}

/// `DELETE …/clientsessions/{sessionid}`
pub async fn delete(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
) -> Result<HttpResponse, ApiError> {
    failover.delete_session(&caller, &path, &session).await?;
    Ok(answer_id(session.as_str()))
}

fn read_heartbeat(request: &HttpRequest, body: &JsonBody) -> Result<HeartbeatMessage, ApiError> {
    Ok(HeartbeatMessage { acting_as: read_acting_role(request)?, ..read_body(body)? })
}

/// The body alone.
pub fn read_body(body: &JsonBody) -> Result<HeartbeatMessage, ApiError> {
    let object = body.object(["PercentHealthyStreams", "HeartbeatTime", "LastDataSendTime"])?;
    Ok(HeartbeatMessage {
        health: read_health(&object)?,
        heartbeat_time: read_time(&object, 1)?,
        last_data_send_time: read_time(&object, 2)?,
        acting_as: None,
    })
}

/// The health, digit by digit as it was sent. A double would change some of them.
fn read_health(object: &Object<'_, 3>) -> Result<Health, ApiError> {
    let Some(raw) = object.raw(0) else { return Ok(Health::default()) };
    // Quoted text is no number, and neither parser below takes a quote.
    let exact = match raw.split_once(['e', 'E']) {
        // Where there is an exponent, what stands before it would be rounded to fit.
        Some((base, _)) => Decimal::from_str_exact(base).and_then(|_| Decimal::from_scientific(raw)).ok(),
        None => Decimal::from_str_exact(raw).ok(),
    };
    exact.and_then(Health::new).ok_or_else(|| object.wrong(0, "a decimal number from 0 to 100 with at most 28 digits"))
}

fn read_time(object: &Object<'_, 3>, place: usize) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(text) = object.text(place)? else { return Ok(None) };
    match datetime::parse(&text) {
        Some(Reading::Time(time)) => Ok(Some(time)),
        Some(Reading::None) => Ok(None),
        None => Err(object.wrong(place, "an RFC 3339 date-time such as 2019-08-24T14:15:22Z")),
    }
}

/// The role in which the client was acting when it sent, where it says so.
fn read_acting_role(request: &HttpRequest) -> Result<Option<Role>, ApiError> {
    let Some(value) = request.headers().get("Failover-Role") else { return Ok(None) };
    let role = match value.as_bytes() {
        b"0" => Role::Secondary,
        b"1" => Role::Primary,
        b"2" => Role::PendingPrimary,
        other => {
            return Err(ApiError::bad(
                format!("Failover-Role must be 0, 1 or 2; it is '{}'.", String::from_utf8_lossy(other)),
                "Correct the header, or leave it out.",
            ));
        }
    };
    Ok(Some(role))
}

/// The body of an answer.
pub fn write_body(answer: &Answer) -> String {
    let watermark = answer.watermark.and_then(|Instant(us)| DateTime::from_timestamp_micros(us));
    let mut body = format!("{{\"Role\":{},\"LastDataSendTime\":\"", answer.role.number());
    datetime::write(watermark, &mut body);
    body.push_str("\"}");
    body
}

fn write_answer(answer: &Answer) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("Failover-Term", answer.term.0))
        .insert_header(("Failover-Lease-Ms", answer.lease.map_or(0, FailoverTimeout::whole_ms)))
        .body(write_body(answer))
}
