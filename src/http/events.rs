//! Streams of server-sent events: every change of role and configuration, as it is committed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use client_failover_wire::datetime::{self, DateTimeText};
use client_failover_wire::headers;
use client_failover_wire::timespan::{self, TimeSpanText};
use futures_util::{Stream, stream};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::errors::ApiError;
use super::guard::Standing;
use super::life::Life;
use super::paths::{InGroup, InNamespace, InTenant};
use super::query;
use super::values::{IdText, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Milliseconds, RoleNumber};
use super::wishes::{shown_when_silent, shown_wish};
use crate::access::Authenticator;
use crate::arbitration::Reason;
use crate::failover::feed::{Listener, Published};
use crate::failover::{Failover, FailoverError};
use crate::metrics;
use crate::store::events::{Event, EventScope, Happening, WishChange};
use crate::store::groups::GroupConfiguration;

/// How often a silent stream says that it is there, in seconds: less than proxies wait for.
pub const KEEP_ALIVE_S: i64 = 15;

const NEW_HISTORY_DESCRIPTION: &str = "The database has a new history: a standby was promoted, or an older state was restored. \
    What happened last before may be lost. It concerns every group, and every stream has it.";

/// What a stream is.
pub const CONTENT_TYPE_OF_STREAM: &str = "text/event-stream";

/// `GET …/clientfailover/events`
pub async fn of_namespace(
    failover: web::Data<Failover>,
    admission: Admission,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    open(&failover, admission, EventScope::Namespace(namespace), &request).await
}

/// `GET …/groups/{groupid}/events`. The group need not exist: its creation is an event.
pub async fn of_group(
    failover: web::Data<Failover>,
    admission: Admission,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    open(&failover, admission, EventScope::Group(path.key()), &request).await
}

/// `GET /api/v1/tenants/{tenantId}/clientfailover/events`
pub async fn of_tenant(
    failover: web::Data<Failover>,
    admission: Admission,
    InTenant(tenant): InTenant,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    open(&failover, admission, EventScope::Tenant(tenant), &request).await
}

/// `GET /api/v1/clientfailover/events`
pub async fn of_everything(
    failover: web::Data<Failover>,
    admission: Admission,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    open(&failover, admission, EventScope::Everything, &request).await
}

async fn open(
    failover: &Failover,
    admission: Admission,
    scope: EventScope,
    request: &HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let after = last_event_id(request)?;
    let keep_alive = keep_alive(request)?;
    let listener = failover.feed().listen(scope, admission.2.groups().clone(), after).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, CONTENT_TYPE_OF_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        // A proxy that collects an answer before it passes it on would hold events back.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(write_stream(listener, admission, keep_alive)))
}

/// How often the client wants to hear of a stream without news.
fn keep_alive(request: &HttpRequest) -> Result<Duration, ApiError> {
    match query::whole_number(request, "keep-alive")? {
        None => Ok(Duration::from_secs(KEEP_ALIVE_S.unsigned_abs())),
        Some(seconds @ 1..=KEEP_ALIVE_S) => Ok(Duration::from_secs(seconds.unsigned_abs())),
        Some(seconds) => Err(ApiError::bad(
            format!("keep-alive must be 1 to {KEEP_ALIVE_S} seconds; it is {seconds}."),
            "Correct the parameter, or leave it out.",
        )),
    }
}

/// For how long a stream is let in: while the service lives, and while its caller would be let in
/// again.
type Admission = (web::Data<Life>, web::Data<Authenticator>, Standing);

/// How often it is looked whether the caller would be let in again: with the time that a revoked
/// key is believed for, it ends within a few seconds.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// What the client has had already: by the header that browsers send, or by a parameter for those
/// who cannot send one.
fn last_event_id(request: &HttpRequest) -> Result<Option<i64>, ApiError> {
    let parameter = query::whole_number(request, "last-event-id")?;
    let Some(value) = request.headers().get(headers::LAST_EVENT_ID) else { return Ok(parameter) };
    // What is no text is no number either, and must not count as empty.
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.parse() {
        // A browser that has had no event with an id may send it empty.
        _ if text.is_empty() => Ok(parameter),
        Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(id)),
        _ => Err(ApiError::bad(
            format!("Last-Event-ID must be a whole number of zero or more; it is '{text}'."),
            "Send the id of an event of this stream, or leave the header out.",
        )),
    }
}

struct Open {
    listener: Listener,
    admission: Admission,
    keep_alive: Duration,
    keep_alive_at: Instant,
    looked_at: Instant,
    begun: bool,
    /// Whether it gives out what was before it.
    behind: bool,
}

/// The stream's bytes. It ends with the service, or with an error of the database; the client
/// resumes.
fn write_stream(
    listener: Listener,
    admission: Admission,
    keep_alive: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let behind = listener.is_behind();
    let now = Instant::now();
    let keep_alive_at = now + keep_alive;
    let open = Open { listener, admission, keep_alive, keep_alive_at, looked_at: now, begun: false, behind };
    stream::unfold(open, |mut open| async move {
        if !open.begun {
            open.begun = true;
            return Some((Ok(beginning(&mut open.listener)), open));
        }
        let bytes = tokio::select! {
            () = until_it_ends(&open.admission, &mut open.looked_at) => return None,
            next = next(&mut open.listener, open.behind) => match next.ok()? {
                Some(event) => event.text(write_event),
                None => {
                    open.behind = false;
                    position(&mut open.listener, ": that was before\n")
                }
            },
            () = sleep_until(open.keep_alive_at) => {
                // Proxies are content with either; whoever shows something wants to know which.
                let comment = if open.listener.is_current() { ": still here\n" } else { ": nothing new can be read\n" };
                position(&mut open.listener, comment)
            }
        };
        open.keep_alive_at = Instant::now() + open.keep_alive;
        Some((Ok(bytes), open))
    })
}

/// Waits until the service ends, or the caller would not be let in any more. While events come
/// without a pause, it is looked between them.
async fn until_it_ends((life, authenticator, standing): &Admission, looked_at: &mut Instant) {
    let turned_away = async {
        loop {
            sleep_until(*looked_at + LOOKED_AT_EVERY).await;
            if !standing.holds(authenticator).await {
                return;
            }
            *looked_at = Instant::now();
        }
    };
    tokio::select! {
        biased;
        () = life.ended() => {}
        () = turned_away => {}
    }
}

/// The next event; `None` where those of before are over, so that whoever wants these alone need
/// not wait.
async fn next(listener: &mut Listener, behind: bool) -> Result<Option<Arc<Published>>, FailoverError> {
    if behind { listener.next_of_before().await } else { listener.next().await.map(Some) }
}

/// What a stream begins with: when to come back, from where, and whether something is lost for
/// good.
fn beginning(listener: &mut Listener) -> Bytes {
    let comment = if listener.has_missed() { "retry: 1000\nevent: EventsMissed\ndata: {}\n" } else { "retry: 1000\n" };
    position(listener, comment)
}

/// An id without data is no event; the client remembers it and resumes there.
fn position(listener: &mut Listener, comment: &str) -> Bytes {
    Bytes::from(format!("{comment}id: {}\n\n", listener.position()))
}

/// The event as the stream has it.
fn write_event(event: &Event) -> Bytes {
    let (name, body) = describe(event);
    // A structure of texts and numbers can always be written.
    let data = serde_json::to_string(&body).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.id))
}

/// An event's name and its body.
pub fn describe(event: &Event) -> (&'static str, EventBody<'_>) {
    let mut body = EventBody {
        id: event.id,
        time: datetime::format(Some(event.recorded_at)),
        place: event.group.as_ref().map(|group| PlaceBody {
            tenant_id: &group.tenant,
            namespace_id: &group.namespace,
            group_id: &group.id,
        }),
        session_id: event.session.as_deref(),
        role: None,
        configuration: None,
        name: None,
        history: None,
        wish: None,
    };
    let name = match &event.what {
        Happening::RoleChanged(change) => {
            body.role = Some(RoleBody {
                from: change.from.number(),
                to: change.to.number(),
                term: change.term,
                reason: &change.reason,
                actor: &change.actor,
            });
            "RoleChanged"
        }
        Happening::GroupCreated(configuration) => {
            body.configuration = Some(ConfigurationBody::of(configuration));
            "GroupCreated"
        }
        Happening::GroupChanged(configuration) => {
            body.configuration = Some(ConfigurationBody::of(configuration));
            "GroupChanged"
        }
        Happening::GroupDeleted => "GroupDeleted",
        Happening::SessionRegistered(name) => {
            body.name = Some(name.as_deref());
            "SessionRegistered"
        }
        Happening::SessionDeleted => "SessionDeleted",
        Happening::Wish(change) => {
            body.wish = Some(WishChangeBody::of(change));
            if change.ended.is_some() { "WishEnded" } else { "WishSet" }
        }
        Happening::DatabaseHistoryChanged(new) => {
            body.history = Some(NewHistoryBody {
                history: new.history.to_string(),
                last_sign_at: datetime::format(new.last_sign_at),
                reason: &new.reason,
                last_id_before: new.last_id_before,
            });
            "DatabaseHistoryChanged"
        }
    };
    (name, body)
}

/// An event as JSON.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct EventBody<'a> {
    /// The event's number: later events of a group have higher ones.
    #[schemars(range(min = 1))]
    id: i64,
    /// When it was decided or made, by the database's clock.
    #[schemars(with = "DateTimeText")]
    time: String,
    #[serde(flatten)]
    #[schemars(skip)]
    place: Option<PlaceBody<'a>>,
    // What some kinds of events have, see `kind_of_event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    session_id: Option<&'a str>,
    #[serde(flatten)]
    #[schemars(skip)]
    role: Option<RoleBody<'a>>,
    #[serde(flatten)]
    #[schemars(skip)]
    configuration: Option<ConfigurationBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    name: Option<Option<&'a str>>,
    #[serde(flatten)]
    #[schemars(skip)]
    history: Option<NewHistoryBody<'a>>,
    #[serde(flatten)]
    #[schemars(skip)]
    wish: Option<WishChangeBody<'a>>,
}

/// What an operator wishes of a session, or does not any more.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct WishChangeBody<'a> {
    /// What is wished of it, or was.
    #[schemars(extend("enum" = ["Forced", "Excluded", "SwitchTo", "SwitchAway"]))]
    wish: &'static str,
    /// What happens while a forced session is silent: the best of the others takes its place, or
    /// nobody does.
    #[schemars(extend("enum" = ["Replace", "Hold", null]))]
    when_silent: Option<&'static str>,
    /// Until when; null until it is withdrawn.
    #[schemars(with = "Option<DateTimeText>")]
    until: Option<String>,
    /// How it ended: it was fulfilled, its time was over, somebody took it back, or a newer one
    /// took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["done", "expired", "withdrawn", "replaced"]))]
    ended: Option<&'a str>,
}

impl<'a> WishChangeBody<'a> {
    fn of(change: &'a WishChange) -> WishChangeBody<'a> {
        WishChangeBody {
            wish: shown_wish(&change.wish),
            when_silent: change.when_silent.as_deref().map(shown_when_silent),
            until: change.until.map(|until| datetime::format(Some(until))),
            ended: change.ended.as_deref(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct PlaceBody<'a> {
    #[schemars(with = "IdText")]
    tenant_id: &'a str,
    #[schemars(with = "IdText")]
    namespace_id: &'a str,
    #[schemars(with = "IdText")]
    group_id: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct NewHistoryBody<'a> {
    /// What this history is told from others by.
    #[schemars(with = "String", extend("format" = "uuid"))]
    history: String,
    /// What it was noticed by.
    #[schemars(extend("enum" = metrics::HISTORIES))]
    reason: &'a str,
    /// When the service last gave a sign of life that the database still has: what was answered
    /// after it may be lost.
    #[schemars(with = "DateTimeText")]
    last_sign_at: String,
    /// The highest id of an event of before that the database still has. Events with a higher one,
    /// below this event's, are lost: whoever has had some takes them for not having happened.
    #[schemars(range(min = 0))]
    last_id_before: i64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct RoleBody<'a> {
    /// The role before.
    #[schemars(with = "RoleNumber")]
    from: i16,
    /// The role after.
    #[schemars(with = "RoleNumber")]
    to: i16,
    /// The group's term after it.
    #[schemars(range(min = 0))]
    term: i64,
    #[schemars(extend("enum" = Reason::ALL.map(Reason::name)))]
    reason: &'a str,
    /// What made it: a heartbeat, the sweep for lapsed roles, or an operator by a deletion.
    #[schemars(extend("enum" = ["heartbeat", "sweep", "operator"]))]
    actor: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct ConfigurationBody<'a> {
    #[schemars(length(max = MAX_NAME_CHARS))]
    name: Option<&'a str>,
    #[schemars(length(max = MAX_DESCRIPTION_CHARS))]
    description: Option<&'a str>,
    #[schemars(with = "TimeSpanText")]
    failover_timeout: String,
    milliseconds: Milliseconds,
}

/// What the events of one name look like: the properties of all of them, and more.
fn kind_of_event(schemas: &mut SchemaGenerator, description: &str, more: impl IntoIterator<Item = Schema>) -> Schema {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in std::iter::once(EventBody::json_schema(schemas)).chain(more) {
        if let Some(Value::Object(of_part)) = part.get("properties") {
            properties.extend(of_part.clone());
        }
        if let Some(Value::Array(of_part)) = part.get("required") {
            required.extend(of_part.clone());
        }
    }
    json_schema!({"type": "object", "description": description, "properties": properties, "required": required})
}

/// One event of a stream, for the description of the API. Its data is the JSON of the kind that its
/// name tells.
pub fn event_of_stream<'a>(kinds: impl Iterator<Item = &'a str>) -> Schema {
    // Each with a title, which generated clients name it by, and whole: what stands beside `oneOf`
    // is lost on some of them.
    let kind = |name: &str, data: Value| {
        json!({
            "title": format!("{name}Event"),
            "type": "object",
            "properties": {
                "id": {"type": "string", "pattern": "^[0-9]+$", "description": "What to resume from."},
                "event": {"type": "string", "const": name, "description": "The kind."},
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": data,
                    "description": "The JSON of that kind.",
                },
                "retry": {"type": "integer", "minimum": 0, "description": "After how many milliseconds to come back."},
            },
            "required": ["id", "event", "data"],
        })
    };
    let of_kinds = kinds.map(|name| kind(name, json!({"$ref": format!("#/components/schemas/{name}")})));
    let one_of: Vec<Value> =
        of_kinds.chain([kind("EventsMissed", json!({"type": "object", "maxProperties": 0}))]).collect();
    json_schema!({"description": "One event of a stream, field by field.", "oneOf": one_of})
}

/// The data of every kind of event by its name, for the description of the API.
pub fn kinds_of_events(schemas: &mut SchemaGenerator) -> [(&'static str, Schema); 9] {
    let session = json_schema!({
        "properties": {"SessionId": schemas.subschema_for::<IdText>()},
        "required": ["SessionId"],
    });
    let name = json_schema!({
        "properties": {"Name": {"type": ["string", "null"], "maxLength": MAX_NAME_CHARS}},
        "required": ["Name"],
    });
    let place = PlaceBody::json_schema(schemas);
    let role = RoleBody::json_schema(schemas);
    let configuration = ConfigurationBody::json_schema(schemas);
    let history = NewHistoryBody::json_schema(schemas);
    let wish = WishChangeBody::json_schema(schemas);
    let mut of_group = |description, more: &[&Schema]| {
        kind_of_event(schemas, description, std::iter::once(&place).chain(more.iter().copied()).cloned())
    };
    [
        ("RoleChanged", of_group("A session's role changed.", &[&session, &role])),
        ("GroupCreated", of_group("A group was created.", &[&configuration])),
        ("GroupChanged", of_group("A group's configuration was replaced.", &[&configuration])),
        ("GroupDeleted", of_group("A group was deleted, and its sessions with it.", &[])),
        ("SessionRegistered", of_group("A session was registered.", &[&session, &name])),
        ("SessionDeleted", of_group("A session was deleted.", &[&session])),
        ("WishSet", of_group("An operator wishes something of a session.", &[&session, &wish])),
        ("WishEnded", of_group("An operator's wish is over.", &[&session, &wish])),
        ("DatabaseHistoryChanged", kind_of_event(schemas, NEW_HISTORY_DESCRIPTION, [history])),
    ]
}

impl<'a> ConfigurationBody<'a> {
    fn of(configuration: &'a GroupConfiguration) -> ConfigurationBody<'a> {
        ConfigurationBody {
            name: configuration.name.as_deref(),
            description: configuration.description.as_deref(),
            failover_timeout: timespan::format(configuration.timeout.ticks()),
            milliseconds: Milliseconds(configuration.timeout),
        }
    }
}
