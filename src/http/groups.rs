//! The operations on groups.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::json::{JsonBody, Object};
use super::paths::{InGroup, InNamespace};
use super::{datetime, query, timespan};
use crate::arbitration::FailoverTimeout;
use crate::failover::{Caller, Deletion, Failover, FailoverError, ListRange};
use crate::ids::{GroupId, GroupPath};
use crate::store::groups::GroupConfiguration;
use crate::store::reads::{GroupView, HeartbeatView, SessionView};

/// The longest `Name`, in characters.
pub const MAX_NAME_CHARS: usize = 260;
/// The longest `Description`, in characters.
const MAX_DESCRIPTION_CHARS: usize = 4_096;

/// `GET …/groups`
pub async fn list(
    failover: web::Data<Failover>,
    InNamespace(namespace): InNamespace,
    request: actix_web::HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let range = ListRange {
        skip: query::whole_number(&request, "skip")?.unwrap_or(0),
        count: query::whole_number(&request, "count")?,
    };
    let total = failover.count_groups(&namespace).await?;
    // The first page before the status: what goes wrong after that can only break the answer off.
    let mut pages = Box::pin(failover.list_groups(namespace, range));
    let first = pages.next().await.transpose()?;
    let pages = stream::iter(first.map(Ok)).chain(pages);
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("Total-Count", total.to_string()))
        .streaming(write_array(pages)))
}

/// `POST …/groups`
pub async fn create(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(parent): InNamespace,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (id, configuration) = read_configuration(&body)?;
    let group = id.unwrap_or_else(GroupId::generate);
    let id = failover.create_group(&caller, GroupPath { parent, group }, configuration).await?;
    Ok(answer_id(id.as_str()))
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
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (id, configuration) = read_configuration(&body)?;
    if let Some(id) = id.filter(|id| *id != path.group) {
        return Err(ApiError::bad(
            format!("Id is '{id}' in the body and '{}' in the path.", path.group),
            "Leave Id out of the body, or give the one in the path.",
        ));
    }
    let group = path.group.clone();
    failover.put_group(&caller, path, configuration).await?;
    Ok(answer_id(group.as_str()))
}

/// `DELETE …/groups/{groupid}`
pub async fn delete(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: actix_web::HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let deletion = match query::truth(&request, "force")? {
        None | Some(false) => Deletion::OnlyIdle,
        Some(true) => Deletion::Forced,
    };
    failover.delete_group(&caller, &path, deletion).await?;
    Ok(answer_id(path.group.as_str()))
}

/// The answer of whatever names one thing: its id as a JSON string.
pub fn answer_id(id: &str) -> HttpResponse {
    HttpResponse::Ok().json(id)
}

/// The id and the configuration in a GroupConfiguration.
fn read_configuration(body: &JsonBody) -> Result<(Option<GroupId>, GroupConfiguration), ApiError> {
    const ID: usize = 0;
    const NAME: usize = 1;
    const DESCRIPTION: usize = 2;
    let object = body.object(["Id", "Name", "Description", "FailoverTimeout", "Milliseconds"])?;
    let id = object
        .text(ID)?
        .filter(|id| !id.is_empty())
        .map(|id| GroupId::parse(id).map_err(|wrong| ApiError::bad_id("Id", wrong)))
        .transpose()?;
    let configuration = GroupConfiguration {
        name: object.text_up_to(NAME, MAX_NAME_CHARS)?,
        description: object.text_up_to(DESCRIPTION, MAX_DESCRIPTION_CHARS)?,
        timeout: read_timeout(&object)?,
    };
    Ok((id, configuration))
}

/// The failover timeout, which clients give as a TimeSpan, as milliseconds, or as both; zero counts as absent.
fn read_timeout(object: &Object<'_, 5>) -> Result<FailoverTimeout, ApiError> {
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
        (None, None) => Ok(FailoverTimeout::DEFAULT),
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
            FailoverTimeout::from_ticks(span).ok_or_else(|| object.wrong(TIME_SPAN, &format!("a duration {RANGE}")))
        }
        (None, Some(milliseconds)) => FailoverTimeout::from_ticks(milliseconds)
            .ok_or_else(|| object.wrong(MILLISECONDS, &format!("a duration {RANGE}"))),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupSessions<'a> {
    id: &'a str,
    name: Option<&'a str>,
    description: Option<&'a str>,
    failover_timeout: String,
    milliseconds: Milliseconds,
    sessions: ById<'a, ClientSession<'a>>,
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

/// A timeout as a number of milliseconds, without a fraction where it has none.
pub struct Milliseconds(pub FailoverTimeout);

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.ticks() % FailoverTimeout::TICKS_PER_MS {
            0 => serializer.serialize_i64(self.0.whole_ms()),
            _ => serializer.serialize_f64(self.0.ticks() as f64 / FailoverTimeout::TICKS_PER_MS as f64),
        }
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

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ClientSession<'a> {
    id: &'a str,
    name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ClientStatus<'a> {
    session_id: &'a str,
    role: i16,
    heartbeat: Option<Heartbeat<'a>>,
}

struct Heartbeat<'a>(&'a HeartbeatView);

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
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let mut separator = "";
    let body = pages.map(move |page| {
        let mut text = Vec::new();
        for group in &page? {
            text.extend_from_slice(separator.as_bytes());
            serde_json::to_writer(&mut text, &GroupSessions::of(group))
                .map_err(|error| ApiError::bad(error.to_string(), "Report it."))?;
            separator = ",";
        }
        Ok(Bytes::from(text))
    });
    let edge = |text: &'static str| stream::once(async move { Ok(Bytes::from_static(text.as_bytes())) });
    edge("[").chain(body).chain(edge("]"))
}
