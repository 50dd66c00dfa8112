//! The released form of the API, which adapters in the field speak. It reads and writes; what is
//! done is what the other form does.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use client_failover_wire::datetime;
use client_failover_wire::timespan::{self, TimeSpanText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::groups::{self, read_configuration};
use super::json::JsonBody;
use super::paths::{InGroup, InNamespace, InSession};
use super::sessions::{self, read_health, read_time};
use super::values::{IdText, Kept, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Percent, RoleNumber};
use super::wishes;
use crate::arbitration::{Answer, Role, Wish};
use crate::failover::wishes::Mode;
use crate::failover::{Caller, Creation, Failover, FailoverError, HeartbeatMessage, Removal};
use crate::ids::{GroupId, GroupPath, SessionId};
use crate::store::reads::{GroupView, HeartbeatView, SessionView};

/// `GET …/clientfailover`
pub async fn version(InNamespace(_): InNamespace) -> HttpResponse {
    HttpResponse::Ok().json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// `GET …/groups`
pub async fn list_groups(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    groups::stream_list(&failover, &caller, namespace, &request, |group| {
        serde_json::to_vec(&GroupConfiguration::of(group))
    })
    .await
}

/// `POST …/groups`
pub async fn create_group(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(parent): InNamespace,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (id, wanted) = read_configuration(&body)?;
    let path = GroupPath { parent, group: id.unwrap_or_else(GroupId::generate) };
    can_be_asked_for(path.group.as_str())?;
    let done = failover.create_group(&caller, path.clone(), wanted).await?;
    let group = failover.find_group(&path).await?;
    Ok(HttpResponse::build(status_of(done)).json(GroupConfiguration::of(&group)))
}

/// `GET …/groups/{groupid}`
pub async fn find_group(failover: web::Data<Failover>, InGroup(path): InGroup) -> Result<HttpResponse, ApiError> {
    let group = failover.find_group(&path).await?;
    Ok(fresh(GroupConfiguration::of(&group)))
}

/// `DELETE …/groups/{groupid}`
pub async fn delete_group(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let deletion = groups::read_deletion(&request)?;
    if wishes::read_mode(&request)? == Mode::DryRun {
        return Ok(wishes::would_end(&failover.foresee_group_deletion(&path, deletion).await?));
    }
    match failover.delete_group(&caller, &path, deletion).await? {
        Removal::Idle | Removal::WhileLive => Ok(HttpResponse::NoContent().finish()),
    }
}

/// `GET …/clientsessions`
pub async fn list_sessions(failover: web::Data<Failover>, InGroup(path): InGroup) -> Result<HttpResponse, ApiError> {
    let group = failover.find_group(&path).await?;
    Ok(fresh(group.sessions.iter().map(ClientSession::of).collect::<Vec<_>>()))
}

/// `POST …/clientsessions`
pub async fn register(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (session, wanted) = sessions::read_registration(&body)?;
    can_be_asked_for(session.as_str())?;
    let registered = failover.register(&caller, &path, session.clone(), wanted).await?;
    let group = failover.find_group(&path).await?;
    let session = session_of(&group, &path, &session)?;
    let answer = HttpResponse::build(status_of(registered.creation)).json(ClientSession::of(session));
    Ok(sessions::with_warning(answer, registered))
}

/// `GET …/clientsessions/{sessionId}`
pub async fn find_session(
    failover: web::Data<Failover>,
    InSession(path, session): InSession,
) -> Result<HttpResponse, ApiError> {
    let group = failover.find_group(&path).await?;
    Ok(fresh(ClientSession::of(session_of(&group, &path, &session)?)))
}

/// `DELETE …/clientsessions/{sessionId}`
pub async fn delete_session(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let speaker = sessions::read_speaker(&request)?;
    if wishes::read_mode(&request)? == Mode::DryRun {
        return Ok(wishes::foreseen(&failover.foresee_session_deletion(&caller, &path, &session, speaker).await?));
    }
    match failover.delete_session(&caller, &path, &session, speaker).await? {
        Removal::Idle | Removal::WhileLive => Ok(HttpResponse::NoContent().finish()),
    }
}

/// `POST …/clientsessions/{sessionId}/heartbeat`
pub async fn heartbeat(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (acting_as, term_seen) = sessions::read_own_headers(&request)?;
    let message = HeartbeatMessage { acting_as, term_seen, ..read_heartbeat(&body)? };
    let answer = failover.heartbeat(&caller, path, session, message).await?;
    Ok(sessions::write_answer(&answer, write_body(&answer)))
}

/// What a heartbeat of this form says. It has no time of its own: the service takes that of its
/// receipt.
fn read_heartbeat(body: &JsonBody) -> Result<HeartbeatMessage, ApiError> {
    const SCORE: usize = 0;
    const STATUS: usize = 1;
    const SENT_UNTIL: usize = 2;
    let object = body.object(["FailoverScore", "FailoverStatus", "LastDataProcessedTime"])?;
    // Both are looked at: one that is there and makes no sense says that something is wrong.
    let (score, status) = (read_health(&object, SCORE)?, read_health(&object, STATUS)?);
    Ok(HeartbeatMessage {
        health: score.or(status).ok_or_else(|| object.wrong(SCORE, "a number from 0 to 100"))?,
        heartbeat_time: None,
        last_data_send_time: read_time(&object, SENT_UNTIL)?,
        acting_as: None,
        term_seen: None,
    })
}

/// The body of an answer. An adapter that is told that it is about to be Primary asks again at
/// once, ten times, and logs an error. While a session is PendingPrimary it is not granted, because
/// somebody else may still act: so it is told to stand by, and then that it is Primary.
fn write_body(answer: &Answer) -> String {
    let role = match answer.role {
        Role::Primary => Role::Primary,
        Role::PendingPrimary | Role::Secondary => Role::Secondary,
    };
    let mut body = format!("{{\"Role\":{},\"LastDataProcessedTime\":\"", role.number());
    datetime::write(sessions::watermark_of(answer), &mut body);
    body.push_str("\"}");
    body
}

/// Refuses an id that adapters cannot ask for. They put it into a path as it is, where `#` ends the
/// path, `?` begins the query, and what looks escaped is taken for that: such an adapter would be
/// registered, and every heartbeat of it would go astray.
fn can_be_asked_for(id: &str) -> Result<(), ApiError> {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let looks_escaped = id.as_bytes().windows(3).any(|three| three[0] == b'%' && is_hex(&three[1..]));
    let what = match id.chars().find(|c| matches!(c, '#' | '?')) {
        Some('#') => "'#'",
        Some(_) => "'?'",
        None if looks_escaped => "'%' before two hexadecimal digits",
        None => return Ok(()),
    };
    Err(ApiError::bad(
        format!("Id holds {what}: adapters put it into a path as it is, where it means something else."),
        "Use an id without '#', '?' and '%'.",
    ))
}

fn status_of(done: Creation) -> StatusCode {
    match done {
        Creation::Created => StatusCode::CREATED,
        Creation::FoundTheSame => StatusCode::OK,
    }
}

/// An answer that is true only now.
fn fresh(body: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body)
}

fn session_of<'g>(group: &'g GroupView, path: &GroupPath, id: &SessionId) -> Result<&'g SessionView, FailoverError> {
    let found = group.sessions.iter().find(|session| session.id == id.as_str());
    found.ok_or_else(|| FailoverError::NoSuchSession { group: path.group.clone(), session: id.clone() })
}

/// The version of the service.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    version: &'static str,
}

/// What a group is set to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "ReleasedGroupConfiguration")]
pub struct GroupConfiguration<'a> {
    #[schemars(with = "IdText")]
    id: &'a str,
    #[schemars(length(max = MAX_NAME_CHARS))]
    name: Option<&'a str>,
    #[schemars(length(max = MAX_DESCRIPTION_CHARS))]
    description: Option<&'a str>,
    #[schemars(with = "TimeSpanText")]
    failover_timeout: String,
    additional_data: Option<Kept<'a>>,
}

impl<'a> GroupConfiguration<'a> {
    fn of(group: &'a GroupView) -> GroupConfiguration<'a> {
        GroupConfiguration {
            id: &group.id,
            name: group.configuration.name.as_deref(),
            description: group.configuration.description.as_deref(),
            failover_timeout: timespan::format(group.configuration.timeout.ticks()),
            additional_data: Kept::of(group.configuration.additional_data.as_ref()),
        }
    }
}

/// A session as it is now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "ReleasedClientSession")]
pub struct ClientSession<'a> {
    #[schemars(with = "IdText")]
    id: &'a str,
    #[schemars(length(max = MAX_NAME_CHARS))]
    name: Option<&'a str>,
    heartbeat: Option<Heartbeat<'a>>,
    #[schemars(with = "RoleNumber")]
    role: i16,
    /// Whether it has ever sent a heartbeat.
    heartbeat_posted: bool,
    /// Whether an operator's word decides its role: 0 no.
    #[schemars(range(min = 0, max = 1))]
    role_override: i16,
    /// Until when it does; null where it does not, or for good.
    #[schemars(with = "Option<datetime::DateTimeText>")]
    role_override_expiration_time: Option<String>,
    additional_data: Option<Kept<'a>>,
}

impl<'a> ClientSession<'a> {
    fn of(session: &'a SessionView) -> ClientSession<'a> {
        // A switch-over is over by itself, and of an exclusion this form does not know.
        let forced = session.wish.filter(|wished| matches!(wished.wish, Wish::Forced(_)));
        ClientSession {
            id: &session.id,
            name: session.name.as_deref(),
            heartbeat: session.heartbeat.as_ref().map(Heartbeat),
            role: session.role.number(),
            heartbeat_posted: session.heartbeat.is_some(),
            role_override: i16::from(forced.is_some()),
            role_override_expiration_time: forced
                .and_then(|wished| wished.until)
                .and_then(wishes::time_of)
                .map(|until| datetime::format(Some(until))),
            additional_data: Kept::of(session.additional_data.as_ref()),
        }
    }
}

/// What a session said last.
struct Heartbeat<'a>(&'a HeartbeatView);

impl Serialize for Heartbeat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Written {
            // As raw text: a decimal keeps the digits that the client sent.
            failover_score: Box<RawValue>,
            last_data_processed_time: Option<String>,
            heartbeat_time: String,
        }
        let score = self.0.percent_healthy_streams.to_string();
        Written {
            failover_score: RawValue::from_string(score).map_err(serde::ser::Error::custom)?,
            last_data_processed_time: self.0.last_data_send_time.map(|time| datetime::format(Some(time))),
            heartbeat_time: datetime::format(Some(self.0.heartbeat_time)),
        }
        .serialize(serializer)
    }
}

impl JsonSchema for Heartbeat<'_> {
    fn schema_name() -> Cow<'static, str> {
        "ReleasedHeartbeat".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a session said last, and when it was received.",
            "properties": {
                "FailoverScore": schemas.subschema_for::<Percent>(),
                "LastDataProcessedTime": schemas.subschema_for::<Option<datetime::DateTimeText>>(),
                "HeartbeatTime": schemas.subschema_for::<datetime::DateTimeText>(),
            },
            "required": ["FailoverScore", "LastDataProcessedTime", "HeartbeatTime"],
        })
    }
}

/// A heartbeat, in requests. Written by hand as [`read_heartbeat`] reads it.
pub struct HeartbeatBody;

impl JsonSchema for HeartbeatBody {
    fn schema_name() -> Cow<'static, str> {
        "ReleasedHeartbeatBody".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let score = |text: &str| json_schema!({"type": ["number", "null"], "minimum": 0, "maximum": 100.000001, "description": text});
        json_schema!({
            "type": "object",
            "description": "What a session says of itself. One of the first two has to be there. Names of properties are read in any case, and unknown ones are ignored.",
            "properties": {
                "FailoverScore": score("How well it does, from 0 to 100: the share of its streams that are healthy. A cold standby says 0 or 1."),
                "FailoverStatus": score("What older adapters call the score. Read where that is absent."),
                "LastDataProcessedTime": datetime::input_schema("Up to when it has sent data. It counts of a Primary only."),
            },
        })
    }
}

/// The answer to a heartbeat. Written by hand as [`write_body`] writes it.
pub struct HeartbeatAnswer;

impl JsonSchema for HeartbeatAnswer {
    fn schema_name() -> Cow<'static, str> {
        "ReleasedHeartbeatAnswer".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a session is to do, and from where.",
            "properties": {
                "Role": schemas.subschema_for::<RoleNumber>(),
                "LastDataProcessedTime": schemas.subschema_for::<datetime::DateTimeText>(),
            },
            "required": ["Role", "LastDataProcessedTime"],
        })
    }
}
