//! The operations on client sessions: register, heartbeat, say goodbye.

use std::borrow::Cow;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use client_failover_wire::datetime::{self, Reading};
use client_failover_wire::headers;
use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::errors::ApiError;
use super::json::{JsonBody, Object};
use super::paths::{InGroup, InSession};
use super::values::{Kept, MAX_NAME_CHARS, RoleNumber, answer_id, optional_id_schema, read_additional_data};
use super::{query, wishes};
use crate::arbitration::{Answer, FailoverTimeout, Health, Instant, Role, Term};
use crate::failover::risks::Risk;
use crate::failover::wishes::Mode;
use crate::failover::{Caller, Failover, HeartbeatMessage, Registered, Removal, Speaker, WantedSession};
use crate::ids::SessionId;

/// What a session is registered by, in requests. Written by hand as [`register`] reads it.
pub struct Registration;

impl JsonSchema for Registration {
    fn schema_name() -> Cow<'static, str> {
        "ClientSessionRegistration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A session to be registered. Names of properties are read in any case, and unknown ones are ignored.",
            "properties": {
                "Id": optional_id_schema("The session's id. Where it is absent, null or empty, the session gets a UUID."),
                "Name": {
                    "type": ["string", "null"],
                    "maxLength": MAX_NAME_CHARS,
                    "pattern": r"^[^\u0000]*$",
                    "description": "For people.",
                },
                "AdditionalData": Kept::input_schema(),
            },
        })
    }
}

/// A heartbeat, in requests. Written by hand as [`read_body`] reads it.
pub struct HeartbeatBody;

impl JsonSchema for HeartbeatBody {
    fn schema_name() -> Cow<'static, str> {
        "FailoverHeartbeat".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a session says of itself. Names of properties are read in any case, and unknown ones are ignored.",
            "properties": {
                "PercentHealthyStreams": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 100.000001,
                    "description": "How many per cent of its streams are healthy: a decimal number with at most 28 digits; what exceeds 100 by a millionth at most is 100. Absent and null count as 0, the worst. A standby reports what it would have as Primary.",
                },
                "HeartbeatTime": datetime::input_schema("When it was sent; absent counts as the time of receipt."),
                "LastDataSendTime": datetime::input_schema("Up to when it has sent data. It counts of a Primary only; a standby may leave it out or repeat what it was last told."),
            },
        })
    }
}

/// The answer to a heartbeat. Written by hand as [`write_body`] writes it.
pub struct HeartbeatAnswer;

impl JsonSchema for HeartbeatAnswer {
    fn schema_name() -> Cow<'static, str> {
        "FailoverResponse".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a session is to do, and from where.",
            "properties": {
                "Role": schemas.subschema_for::<RoleNumber>(),
                "LastDataSendTime": schemas.subschema_for::<datetime::DateTimeText>(),
            },
            "required": ["Role", "LastDataSendTime"],
        })
    }
}

/// `POST …/clientsessions`
pub async fn register(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (session, wanted) = read_registration(&body)?;
    let registered = failover.register(&caller, &path, session.clone(), wanted).await?;
    Ok(with_warning(answer_id(session.as_str()), registered))
}

/// The answer to a registration, with a word about how its client registers, where there is one to
/// say.
pub fn with_warning(mut answer: HttpResponse, registered: Registered) -> HttpResponse {
    if registered.is_new_id_again
        && let Ok(name) = HeaderName::try_from(headers::FAILOVER_WARNING)
    {
        answer.headers_mut().insert(name, HeaderValue::from_static(Risk::NewIdEachStart.name()));
    }
    answer
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
    Ok(write_answer(&answer, write_body(&answer)))
}

/// `DELETE …/clientsessions/{sessionid}`
pub async fn delete(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let speaker = read_speaker(&request)?;
    if wishes::read_mode(&request)? == Mode::DryRun {
        return Ok(wishes::foreseen(&failover.foresee_session_deletion(&caller, &path, &session, speaker).await?));
    }
    match failover.delete_session(&caller, &path, &session, speaker).await? {
        Removal::Idle | Removal::WhileLive => Ok(answer_id(session.as_str())),
    }
}

/// The id of a session to be registered, and what else is said of it.
pub fn read_registration(body: &JsonBody) -> Result<(SessionId, WantedSession), ApiError> {
    let object = body.object(["Id", "Name", "AdditionalData"])?;
    let session = match object.text(0)?.filter(|id| !id.is_empty()) {
        Some(id) => SessionId::parse(id).map_err(|wrong| ApiError::bad_id("Id", wrong))?,
        None => SessionId::generate(),
    };
    let wanted = WantedSession {
        name: object.said_text_up_to(1, MAX_NAME_CHARS)?,
        additional_data: read_additional_data(&object, 2)?,
    };
    Ok((session, wanted))
}

/// For whom a deletion speaks; where it does not say so, for the client, as those of the contract's
/// clients do.
pub fn read_speaker(request: &HttpRequest) -> Result<Speaker, ApiError> {
    match query::find(request, "by").as_deref() {
        None => Ok(Speaker::Client),
        Some(value) if value.eq_ignore_ascii_case("client") => Ok(Speaker::Client),
        Some(value) if value.eq_ignore_ascii_case("operator") => Ok(Speaker::Operator),
        Some(other) => Err(ApiError::bad(
            format!("by must be client or operator; it is '{other}'."),
            "Say operator where the client does not know of it. Only a client that has stopped may leave it out.",
        )),
    }
}

fn read_heartbeat(request: &HttpRequest, body: &JsonBody) -> Result<HeartbeatMessage, ApiError> {
    let (acting_as, term_seen) = read_own_headers(request)?;
    Ok(HeartbeatMessage { acting_as, term_seen, ..read_body(body)? })
}

/// The role in which a client acts and the highest term that it was told, by our own headers.
pub fn read_own_headers(request: &HttpRequest) -> Result<(Option<Role>, Option<Term>), ApiError> {
    Ok((read_acting_role(request)?, read_term_seen(request)?))
}

/// The body alone.
pub fn read_body(body: &JsonBody) -> Result<HeartbeatMessage, ApiError> {
    let object = body.object(["PercentHealthyStreams", "HeartbeatTime", "LastDataSendTime"])?;
    Ok(HeartbeatMessage {
        health: read_health(&object, 0)?.unwrap_or_default(),
        heartbeat_time: read_time(&object, 1)?,
        last_data_send_time: read_time(&object, 2)?,
        acting_as: None,
        term_seen: None,
    })
}

/// The health, digit by digit as it was sent. A double would change some of them.
pub fn read_health(object: &Object<'_, 3>, place: usize) -> Result<Option<Health>, ApiError> {
    let Some(raw) = object.raw(place) else { return Ok(None) };
    // Quoted text is no number, and neither parser below takes a quote.
    let exact = match raw.split_once(['e', 'E']) {
        // Where there is an exponent, what stands before it would be rounded to fit.
        Some((base, _)) => Decimal::from_str_exact(base).and_then(|_| Decimal::from_scientific(raw)).ok(),
        None => Decimal::from_str_exact(raw).ok(),
    };
    let health = exact.and_then(Health::new);
    health.map(Some).ok_or_else(|| object.wrong(place, "a decimal number from 0 to 100 with at most 28 digits"))
}

pub fn read_time(object: &Object<'_, 3>, place: usize) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(text) = object.text(place)? else { return Ok(None) };
    match datetime::parse(&text) {
        Some(Reading::Time(time)) => Ok(Some(time)),
        Some(Reading::None) => Ok(None),
        None => Err(object.wrong(place, "an RFC 3339 date-time such as 2019-08-24T14:15:22Z")),
    }
}

/// The role in which the client was acting when it sent, where it says so.
fn read_acting_role(request: &HttpRequest) -> Result<Option<Role>, ApiError> {
    let Some(value) = request.headers().get(headers::FAILOVER_ROLE) else { return Ok(None) };
    let role = match value.as_bytes() {
        [digit @ b'0'..=b'2'] => Role::from_number(i16::from(digit - b'0')),
        _ => None,
    };
    role.map(Some).ok_or_else(|| {
        let said = String::from_utf8_lossy(value.as_bytes());
        ApiError::bad(
            format!("Failover-Role must be 0, 1 or 2; it is '{said}'."),
            "Correct the header, or leave it out.",
        )
    })
}

/// The highest term that the client has been told, where it says so.
fn read_term_seen(request: &HttpRequest) -> Result<Option<Term>, ApiError> {
    let Some(value) = request.headers().get(headers::FAILOVER_TERM) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.map(str::parse) {
        Some(Ok(term)) => Ok(Some(Term(term))),
        // None that was ever told is larger than a signed number of 64 bits.
        Some(Err(_)) | None => Err(ApiError::bad(
            format!(
                "Failover-Term must be a number of 63 bits without a sign; it is '{}'.",
                String::from_utf8_lossy(value.as_bytes())
            ),
            "Send the highest Failover-Term that an answer had, or leave the header out.",
        )),
    }
}

/// The body of an answer.
pub fn write_body(answer: &Answer) -> String {
    let mut body = format!("{{\"Role\":{},\"LastDataSendTime\":\"", answer.role.number());
    datetime::write(watermark_of(answer), &mut body);
    body.push_str("\"}");
    body
}

/// The group's watermark.
pub fn watermark_of(answer: &Answer) -> Option<DateTime<Utc>> {
    answer.watermark.and_then(|Instant(us)| DateTime::from_timestamp_micros(us))
}

/// The answer to a heartbeat, with a body that says the same.
pub fn write_answer(answer: &Answer, body: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((headers::FAILOVER_TERM, answer.term.0))
        .insert_header((headers::FAILOVER_TIMEOUT_MS, answer.timeout.whole_ms()))
        .insert_header((headers::FAILOVER_LEASE_MS, answer.lease.map_or(0, FailoverTimeout::whole_ms)))
        .body(body)
}

#[cfg(test)]
mod tests {
    use client_failover_wire::timeout;

    use super::*;

    #[test]
    fn what_clients_are_told_by_wire_is_what_is_decided_with() {
        for role in client_failover_wire::Role::ALL {
            let number = i16::try_from(role.number()).expect("0, 1 or 2");
            let decided = Role::from_number(number).expect("it is one here too");
            assert_eq!(format!("{decided:?}"), role.name());
        }
        assert_eq!(FailoverTimeout::DEFAULT.ticks(), timeout::DEFAULT_TICKS);
        assert_eq!(FailoverTimeout::MIN_TICKS..=FailoverTimeout::MAX_TICKS, timeout::BOUNDS_TICKS);
        assert_eq!(FailoverTimeout::TICKS_PER_MS, timeout::TICKS_PER_MS);
    }
}
