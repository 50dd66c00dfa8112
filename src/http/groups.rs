//! The operations on groups.

use std::borrow::Cow;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use client_failover_wire::timespan::{self, TimeSpanText};
use client_failover_wire::{datetime, headers};
use futures_util::{Stream, StreamExt as _, stream};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::json::{JsonBody, Object};
use super::paths::{InGroup, InNamespace};
use super::values::{
    IdText, Kept, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Milliseconds, Percent, RoleNumber, answer_id,
    optional_id_schema, read_additional_data,
};
use super::{query, wishes};
use crate::arbitration::FailoverTimeout;
use crate::failover::wishes::Mode;
use crate::failover::{
    Caller, Creation, Deletion, Failover, FailoverError, ListRange, Removal, Replacement, WantedGroup,
};
use crate::ids::{GroupId, GroupPath, NamespacePath};
use crate::store::reads::{GroupView, HeartbeatView, SessionView};

/// `GET …/groups`
pub async fn list(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    stream_list(&failover, &caller, namespace, &request, |group| serde_json::to_vec(&GroupSessions::of(group))).await
}

/// Answers with the groups of a namespace that a caller may see, each as it is written.
pub async fn stream_list(
    failover: &Failover,
    caller: &Caller,
    namespace: NamespacePath,
    request: &HttpRequest,
    write: fn(&GroupView) -> serde_json::Result<Vec<u8>>,
) -> Result<HttpResponse, ApiError> {
    let range = ListRange {
        skip: query::whole_number(request, "skip")?.unwrap_or(0),
        count: query::whole_number(request, "count")?,
    };
    let total = failover.count_groups(&namespace, caller.rights.groups()).await?;
    // The first page before the status: what goes wrong after that can only break the answer off.
    let mut pages = Box::pin(failover.list_groups(namespace, caller.rights.groups().clone(), range));
    let first = pages.next().await.transpose()?;
    let pages = stream::iter(first.map(Ok)).chain(pages);
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((headers::TOTAL_COUNT, total.to_string()))
        .streaming(write_array(pages, write)))
}

/// `POST …/groups`
pub async fn create(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(parent): InNamespace,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (id, wanted) = read_configuration(&body)?;
    let group = id.unwrap_or_else(GroupId::generate);
    let id = group.clone();
    match failover.create_group(&caller, GroupPath { parent, group }, wanted).await? {
        Creation::Created | Creation::FoundTheSame => Ok(answer_id(id.as_str())),
    }
}

/// `GET …/groups/{groupid}`
pub async fn find(failover: web::Data<Failover>, InGroup(path): InGroup) -> Result<HttpResponse, ApiError> {
    let group = failover.find_group(&path).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(GroupSessions::of(&group)))
}

/// `PUT …/groups/{groupid}`
pub async fn put(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (id, wanted) = read_configuration(&body)?;
    if let Some(id) = id.filter(|id| *id != path.group) {
        return Err(ApiError::bad(
            format!("Id is '{id}' in the body and '{}' in the path.", path.group),
            "Leave Id out of the body, or give the one in the path.",
        ));
    }
    if wishes::read_mode(&request)? == Mode::DryRun {
        return Ok(wishes::foreseen(&failover.foresee_group_change(&caller, path, wanted).await?));
    }
    let group = path.group.clone();
    match failover.put_group(&caller, path, wanted).await? {
        Replacement::Created | Replacement::FoundTheSame | Replacement::Replaced => Ok(answer_id(group.as_str())),
    }
}

/// `DELETE …/groups/{groupid}`
pub async fn delete(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let deletion = read_deletion(&request)?;
    if wishes::read_mode(&request)? == Mode::DryRun {
        return Ok(wishes::would_end(&failover.foresee_group_deletion(&path, deletion).await?));
    }
    match failover.delete_group(&caller, &path, deletion).await? {
        Removal::Idle | Removal::WhileLive => Ok(answer_id(path.group.as_str())),
    }
}

/// Whether a live group is deleted, too.
pub fn read_deletion(request: &HttpRequest) -> Result<Deletion, ApiError> {
    Ok(match query::truth(request, "force")? {
        None | Some(false) => Deletion::OnlyIdle,
        Some(true) => Deletion::Forced,
    })
}

/// The id and what else is said in a GroupConfiguration.
pub fn read_configuration(body: &JsonBody) -> Result<(Option<GroupId>, WantedGroup), ApiError> {
    const ID: usize = 0;
    const NAME: usize = 1;
    const DESCRIPTION: usize = 2;
    const ADDITIONAL_DATA: usize = 5;
    let object = body.object(["Id", "Name", "Description", "FailoverTimeout", "Milliseconds", "AdditionalData"])?;
    let id = object
        .text(ID)?
        .filter(|id| !id.is_empty())
        .map(|id| GroupId::parse(id).map_err(|wrong| ApiError::bad_id("Id", wrong)))
        .transpose()?;
    let wanted = WantedGroup {
        name: object.said_text_up_to(NAME, MAX_NAME_CHARS)?,
        description: object.said_text_up_to(DESCRIPTION, MAX_DESCRIPTION_CHARS)?,
        timeout: read_timeout(&object)?,
        additional_data: read_additional_data(&object, ADDITIONAL_DATA)?,
    };
    Ok((id, wanted))
}

/// The failover timeout, which clients give as a TimeSpan, as milliseconds, or as both; zero counts
/// as absent.
fn read_timeout(object: &Object<'_, 6>) -> Result<Option<FailoverTimeout>, ApiError> {
    const TIME_SPAN: usize = 3;
    const MILLISECONDS: usize = 4;
    const RANGE: &str = "from 100 ms to 24 h";
    let span = match object.text(TIME_SPAN)? {
        None => None,
        Some(text) => Some(
            timespan::parse(&text).ok_or_else(|| object.wrong(TIME_SPAN, "a time span [d.]hh:mm[:ss[.fffffff]]"))?,
        ),
    };
    let milliseconds = match object.number(MILLISECONDS)? {
        // Far outside the range, where ticks could not be counted.
        Some(number) if number.abs() > 1e12 => {
            return Err(object.wrong(MILLISECONDS, &format!("a duration {RANGE}")));
        }
        // Before it is rounded: what is short of a tick is out of range, not absent.
        Some(number) if number != 0.0 => Some((number * FailoverTimeout::TICKS_PER_MS as f64).round() as i64),
        Some(_) | None => None,
    };
    match (span.filter(|ticks| *ticks != 0), milliseconds) {
        (None, None) => Ok(None),
        // A microsecond is ten ticks.
        (Some(span), Some(milliseconds)) if span.abs_diff(milliseconds) >= 10 => Err(ApiError::bad(
            format!(
                "FailoverTimeout is {} and Milliseconds is {}: they disagree.",
                timespan::format(span),
                milliseconds as f64 / FailoverTimeout::TICKS_PER_MS as f64
            ),
            "Give one of the two, or the same duration in both.",
        )),
        (Some(span), _) => {
            let timeout = FailoverTimeout::from_ticks(span);
            timeout.map(Some).ok_or_else(|| object.wrong(TIME_SPAN, &format!("a duration {RANGE}")))
        }
        (None, Some(milliseconds)) => {
            let timeout = FailoverTimeout::from_ticks(milliseconds);
            timeout.map(Some).ok_or_else(|| object.wrong(MILLISECONDS, &format!("a duration {RANGE}")))
        }
    }
}

/// A group with its configuration, its sessions and their state.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct GroupSessions<'a> {
    #[schemars(with = "IdText")]
    id: &'a str,
    #[schemars(length(max = MAX_NAME_CHARS))]
    name: Option<&'a str>,
    #[schemars(length(max = MAX_DESCRIPTION_CHARS))]
    description: Option<&'a str>,
    #[schemars(with = "TimeSpanText")]
    failover_timeout: String,
    milliseconds: Milliseconds,
    /// Every registered session by its id.
    sessions: ById<'a, ClientSession<'a>>,
    /// The state of every registered session by its id.
    clients: ById<'a, ClientStatus<'a>>,
}

impl<'a> GroupSessions<'a> {
    fn of(group: &'a GroupView) -> GroupSessions<'a> {
        let configuration = &group.configuration;
        GroupSessions {
            id: &group.id,
            name: configuration.name.as_deref(),
            description: configuration.description.as_deref(),
            failover_timeout: timespan::format(configuration.timeout.ticks()),
            milliseconds: Milliseconds(configuration.timeout),
            sessions: ById(&group.sessions, |session| ClientSession { id: &session.id, name: session.name.as_deref() }),
            clients: ById(&group.sessions, |session| ClientStatus {
                session_id: &session.id,
                role: session.role.number(),
                heartbeat: session.heartbeat.as_ref().map(Heartbeat),
            }),
        }
    }
}

/// What a group is configured by, in requests. Written by hand as [`read_configuration`] reads it.
pub struct Configuration;

impl JsonSchema for Configuration {
    fn schema_name() -> Cow<'static, str> {
        "GroupConfiguration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |most: usize, description: &str| {
            json_schema!({
                "type": ["string", "null"],
                "maxLength": most,
                "pattern": r"^[^\u0000]*$",
                "description": description,
            })
        };
        let least = FailoverTimeout::MIN_TICKS / FailoverTimeout::TICKS_PER_MS;
        json_schema!({
            "type": "object",
            "description": "The configuration of a group. Names of properties are read in any case, and unknown ones are ignored.",
            "properties": {
                "Id": optional_id_schema("The group's id. Where it is absent, null or empty, a new group gets a UUID, and PUT takes the path's."),
                "Name": text(MAX_NAME_CHARS, "For people."),
                "Description": text(MAX_DESCRIPTION_CHARS, "For people."),
                "FailoverTimeout": timespan::input_schema(),
                "Milliseconds": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": FailoverTimeout::MAX_TICKS / FailoverTimeout::TICKS_PER_MS,
                    "not": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": least},
                    "description": "The failover timeout in milliseconds, from 100 ms to 24 h. Zero counts as absent.",
                },
                "AdditionalData": Kept::input_schema(),
            },
        })
    }
}

/// Sessions as an object whose keys are their ids.
struct ById<'a, T>(&'a [SessionView], fn(&'a SessionView) -> T);

impl<T: Serialize> Serialize for ById<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for session in self.0 {
            map.serialize_entry(&session.id, &(self.1)(session))?;
        }
        map.end()
    }
}

impl<T: JsonSchema> JsonSchema for ById<'_, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}ById", T::schema_name()).into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": schemas.subschema_for::<T>()})
    }
}

/// A registered session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct ClientSession<'a> {
    #[schemars(with = "IdText")]
    id: &'a str,
    #[schemars(length(max = MAX_NAME_CHARS))]
    name: Option<&'a str>,
}

/// The state of a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "IClientStatus")]
struct ClientStatus<'a> {
    #[schemars(with = "IdText")]
    session_id: &'a str,
    #[schemars(with = "RoleNumber")]
    role: i16,
    /// The latest heartbeat; null until the first.
    heartbeat: Option<Heartbeat<'a>>,
}

struct Heartbeat<'a>(&'a HeartbeatView);

impl JsonSchema for Heartbeat<'_> {
    fn schema_name() -> Cow<'static, str> {
        "IFailoverHeartbeat".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a session said last, as it said it.",
            "properties": {
                "PercentHealthyStreams": schemas.subschema_for::<Percent>(),
                "HeartbeatTime": schemas.subschema_for::<datetime::DateTimeText>(),
                "LastDataSendTime": schemas.subschema_for::<datetime::DateTimeText>(),
            },
            "required": ["PercentHealthyStreams", "HeartbeatTime", "LastDataSendTime"],
        })
    }
}

impl Serialize for Heartbeat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As raw text: a decimal keeps the digits that the client sent.
        let percent =
            RawValue::from_string(self.0.percent_healthy_streams.to_string()).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("PercentHealthyStreams", &percent)?;
        map.serialize_entry("HeartbeatTime", &datetime::format(Some(self.0.heartbeat_time)))?;
        map.serialize_entry("LastDataSendTime", &datetime::format(self.0.last_data_send_time))?;
        map.end()
    }
}

/// A JSON array of groups, a page at a time.
fn write_array(
    pages: impl Stream<Item = Result<Vec<GroupView>, FailoverError>>,
    write: fn(&GroupView) -> serde_json::Result<Vec<u8>>,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let mut separator = "";
    let body = pages.map(move |page| {
        let mut text = Vec::new();
        for group in &page? {
            text.extend_from_slice(separator.as_bytes());
            let group = write(group).map_err(|error| ApiError::Defect { cause: error.to_string() })?;
            text.extend_from_slice(&group);
            separator = ",";
        }
        Ok(Bytes::from(text))
    });
    let edge = |text: &'static str| stream::once(async move { Ok(Bytes::from_static(text.as_bytes())) });
    edge("[").chain(body).chain(edge("]"))
}
