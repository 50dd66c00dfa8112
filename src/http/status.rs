//! What operators look at: the state of groups, those at risk first.

use std::borrow::Cow;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use client_failover_wire::datetime::{self, DateTimeText};
use client_failover_wire::headers;
use client_failover_wire::timespan::{self, TimeSpanText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::paths::{InGroup, InNamespace, InTenant};
use super::query;
use super::values::{IdText, MAX_DESCRIPTION_CHARS, Milliseconds, Percent, RoleNumber};
use super::wishes::WishBody;
use crate::arbitration::{Role, WhenSilent, Wish};
use crate::failover::census::listed::{CountedThere, GroupAtRisk, StatusPage, StatusQuery, Wanted};
use crate::failover::risks::{self, Risk};
use crate::failover::{Caller, Failover, FailoverError};
use crate::ids::{Groups, Within};
use crate::metrics;
use crate::store::status::{FIRST_HISTORY, GroupOrder, GroupSearch, GroupStatus, History, SessionStatus};

/// How many groups are listed where nobody says, and the most that one answer lists.
pub const DEFAULT_COUNT: i64 = 50;
pub const MAX_COUNT: i64 = 200;
/// The most sessions of a group in a list; the group's own status has all.
pub const MAX_SESSIONS: usize = 16;
/// The most characters of what is searched for.
pub const MAX_SEARCH_CHARS: usize = 260;

/// `GET …/clientfailover/status`
pub async fn of_namespace(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = failover
        .list_status(read_query(&request, Within::Namespace(namespace), caller.rights.groups().clone())?)
        .await?;
    Ok(write_page(&page))
}

/// `GET /api/v1/tenants/{tenantId}/clientfailover/status`
pub async fn of_tenant(
    failover: web::Data<Failover>,
    InTenant(tenant): InTenant,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = failover.list_status(read_query(&request, Within::Tenant(tenant), Groups::All)?).await?;
    Ok(write_page(&page))
}

/// `GET /api/v1/clientfailover/status`
pub async fn of_everything(failover: web::Data<Failover>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let page = failover.list_status(read_query(&request, Within::AllTenants, Groups::All)?).await?;
    Ok(write_page(&page))
}

/// `GET …/groups/{groupid}/status`
pub async fn of_group(failover: web::Data<Failover>, InGroup(path): InGroup) -> Result<HttpResponse, ApiError> {
    let group = failover.find_status(&path).await?;
    let description = Some(group.status.description.as_deref());
    let body = GroupBody { description, ..GroupBody::of(&group, usize::MAX)? };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// `GET /api/v1/clientfailover/namespaces`
pub async fn namespaces(failover: web::Data<Failover>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    namespaces_within(&failover, &Within::AllTenants, &request).await
}

/// `GET /api/v1/tenants/{tenantId}/clientfailover/namespaces`
pub async fn namespaces_of_tenant(
    failover: web::Data<Failover>,
    InTenant(tenant): InTenant,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    namespaces_within(&failover, &Within::Tenant(tenant), &request).await
}

async fn namespaces_within(
    failover: &Failover,
    within: &Within,
    request: &HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let text = read_search(request)?.map(|text| text.to_lowercase());
    let skip = query::whole_number(request, "skip")?.map_or(0, |skip| usize::try_from(skip).unwrap_or(usize::MAX));
    let count = query::whole_number(request, "count")?;
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let census = failover.list_namespaces().await;
    let holds = |name: &str| text.as_ref().is_none_or(|text| name.to_lowercase().contains(text));
    // Below a tenant its own name is that of all of them.
    let is_of_tenant = within.tenant().is_some();
    let found = || {
        let there = census.namespaces_within(within);
        there.filter(|((tenant, namespace), _)| holds(namespace) || (!is_of_tenant && holds(tenant)))
    };
    let body: Vec<NamespaceBody<'_>> = found()
        .skip(skip)
        .take(count)
        .map(|((tenant_id, namespace_id), count)| NamespaceBody {
            tenant_id,
            namespace_id,
            groups: count.groups,
            groups_at_risk: count.at_risk,
        })
        .collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((headers::TOTAL_COUNT, found().count()))
        .json(body))
}

/// What is searched for, if anything is.
fn read_search(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let text = query::find(request, "search").filter(|text| !text.is_empty());
    if let Some(text) = text.as_ref().filter(|text| text.chars().count() > MAX_SEARCH_CHARS || text.contains('\0')) {
        let shown: String = text.chars().take(40).collect();
        return Err(ApiError::bad(
            format!("search must have at most {MAX_SEARCH_CHARS} characters, none of them U+0000; it is '{shown}…'."),
            "Search for less.",
        ));
    }
    Ok(text.map(|text| text.into_owned()))
}

/// What `sort` can be, with a `-` before it for the other way.
pub const ORDERS: [(&str, Option<GroupOrder>); 5] = [
    ("risk", None),
    ("group", Some(GroupOrder::Id)),
    ("-group", Some(GroupOrder::IdDescending)),
    ("term", Some(GroupOrder::Term)),
    ("-term", Some(GroupOrder::TermDescending)),
];

fn read_order(request: &HttpRequest) -> Result<Option<GroupOrder>, ApiError> {
    let Some(text) = query::find(request, "sort") else { return Ok(None) };
    match ORDERS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, order)) => Ok(*order),
        None => Err(ApiError::bad(
            format!("sort must be one of {}; it is '{}'.", ORDERS.map(|(name, _)| name).join(", "), shortened(&text)),
            "Correct the parameter, or leave it out.",
        )),
    }
}

fn read_wanted(request: &HttpRequest) -> Result<Wanted, ApiError> {
    let wanted = if query::truth(request, "at_risk")?.unwrap_or(false) { Wanted::AtRisk } else { Wanted::All };
    let wanted = if query::truth(request, "handing_over")?.unwrap_or(false) { Wanted::HandingOver } else { wanted };
    let Some(text) = query::find(request, "risk") else { return Ok(wanted) };
    Risk::named(&text).map(Wanted::With).ok_or_else(|| {
        ApiError::bad(
            format!("risk must be one of {}; it is '{}'.", Risk::ALL.map(Risk::name).join(", "), shortened(&text)),
            "Correct the parameter, or leave it out.",
        )
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn read_query(request: &HttpRequest, within: Within, groups: Groups) -> Result<StatusQuery, ApiError> {
    Ok(StatusQuery {
        search: GroupSearch { within, groups, text: read_search(request)? },
        wanted: read_wanted(request)?,
        order: read_order(request)?,
        skip: query::whole_number(request, "skip")?.unwrap_or(0),
        count: query::number_up_to(request, "count", MAX_COUNT)?.unwrap_or(DEFAULT_COUNT),
    })
}

fn write_page(page: &StatusPage) -> HttpResponse {
    let groups: Result<Vec<GroupBody<'_>>, ApiError> =
        page.groups.iter().map(|group| GroupBody::of(group, MAX_SESSIONS)).collect();
    match groups {
        Ok(groups) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(PageBody {
            total: page.total,
            at_risk: page.at_risk,
            counted: page.counted.map(CountedBody::of),
            database_history: page.new_history.as_ref().map(HistoryBody::of),
            groups,
        }),
        Err(error) => HttpResponse::from_error(error),
    }
}

/// A namespace, and how many groups it has.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "NamespaceStatus")]
pub struct NamespaceBody<'a> {
    #[schemars(with = "IdText")]
    tenant_id: &'a str,
    #[schemars(with = "IdText")]
    namespace_id: &'a str,
    groups: i64,
    groups_at_risk: i64,
}

/// Some of the groups that were looked for, those at risk first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "StatusPage")]
pub struct PageBody<'a> {
    /// How many groups were found in all.
    total: i64,
    /// How many of them are at risk.
    at_risk: i64,
    /// What is counted in the background, of all groups there.
    counted: Option<CountedBody>,
    /// The history that the database is in, where it is not the first: a standby was promoted, or
    /// an older state was restored.
    database_history: Option<HistoryBody<'a>>,
    groups: Vec<GroupBody<'a>>,
}

/// What is counted of all groups there.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Counted")]
struct CountedBody {
    /// How long ago, in milliseconds.
    age_ms: u64,
    /// All groups.
    groups: i64,
    /// Those with any risk.
    at_risk: i64,
    /// Those in which nobody is Primary, and no handover is under way.
    no_primary: i64,
    /// Those in which nobody could take over.
    no_standby: i64,
    /// Those whose Primary is not fully healthy.
    primary_unhealthy: i64,
    /// Those that changed their Primary several times of late.
    flapping: i64,
    /// Those in which nobody is Primary for a moment, for one has stepped down for another.
    handing_over: i64,
    /// Those in which two clients seem to heartbeat as one session.
    same_id_twice: i64,
    /// Those whose Primary reports no newer data.
    data_stands_still: i64,
    /// Those with a session whose times are ahead of the service's clock.
    clock_ahead: i64,
    /// Those with a session that heartbeats clearly more seldom than every half timeout.
    seldom_heartbeats: i64,
    /// Those with more live sessions than two pairs have.
    many_sessions: i64,
    /// Those in which clients register with a new id at each start.
    new_id_each_start: i64,
    /// Those in which only a session that says it acts is told that it is Primary, for the database
    /// has a new history.
    in_doubt: i64,
    /// Sessions.
    registered_sessions: i64,
    /// Sessions whose lease has not run out.
    live_sessions: i64,
}

impl CountedBody {
    fn of(counted: CountedThere) -> CountedBody {
        let CountedThere { count, age } = counted;
        CountedBody {
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            groups: count.groups,
            at_risk: count.at_risk,
            no_primary: count.with(Risk::NoPrimary),
            no_standby: count.with(Risk::NoStandby),
            primary_unhealthy: count.with(Risk::PrimaryUnhealthy),
            flapping: count.with(Risk::Flapping),
            handing_over: count.handing_over,
            same_id_twice: count.with(Risk::SameIdTwice),
            data_stands_still: count.with(Risk::DataStandsStill),
            clock_ahead: count.with(Risk::ClockAhead),
            seldom_heartbeats: count.with(Risk::SeldomHeartbeats),
            many_sessions: count.with(Risk::ManySessions),
            new_id_each_start: count.with(Risk::NewIdEachStart),
            in_doubt: count.in_doubt,
            registered_sessions: count.sessions,
            live_sessions: count.live_sessions,
        }
    }
}

/// A history of the database.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "DatabaseHistory")]
pub struct HistoryBody<'a> {
    /// What it is told from others by.
    #[schemars(with = "String", extend("format" = "uuid"))]
    history: String,
    /// When it was noticed.
    #[schemars(with = "DateTimeText")]
    time: String,
    /// What it was noticed by; `first` for the one that a database begins with.
    #[schemars(extend("enum" = [FIRST_HISTORY].iter().chain(&metrics::HISTORIES).collect::<Vec<_>>()))]
    reason: &'a str,
    /// When the service last gave a sign of life that the database still has: what was answered
    /// after it may be lost. Null for the first.
    #[schemars(with = "Option<DateTimeText>")]
    last_sign_at: Option<String>,
    /// The id of its event: those of its other events and its terms are above. 0 where nothing was
    /// fenced off.
    #[schemars(range(min = 0))]
    base: i64,
    /// Whether nothing was fenced off, for the setting `database-history` says that a promotion
    /// loses nothing.
    is_trusted: bool,
    /// How long ago it was noticed.
    #[schemars(range(min = 0))]
    age_ms: i64,
}

impl<'a> HistoryBody<'a> {
    fn of(history: &'a History) -> HistoryBody<'a> {
        HistoryBody {
            history: history.history.to_string(),
            time: datetime::format(Some(history.noticed_at)),
            reason: &history.reason,
            last_sign_at: history.last_sign_at.map(|at| datetime::format(Some(at))),
            base: history.base,
            is_trusted: history.is_trusted,
            age_ms: history.age_ms,
        }
    }
}

/// How many histories are listed: each is a promotion or a restore.
const MAX_HISTORIES: i64 = 1_000;

/// `GET …/clientfailover/histories` of a namespace, the latest first. They are the same everywhere;
/// those who may read one namespace alone see them here.
pub async fn histories_of_namespace(
    failover: web::Data<Failover>,
    InNamespace(_): InNamespace,
) -> Result<HttpResponse, ApiError> {
    histories(failover).await
}

/// `GET /api/v1/clientfailover/histories`, the latest first
pub async fn histories(failover: web::Data<Failover>) -> Result<HttpResponse, ApiError> {
    let found = failover.list_histories(MAX_HISTORIES).await.map_err(FailoverError::from)?;
    let body: Vec<_> = found.iter().map(HistoryBody::of).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// What is true of a group now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "GroupStatus")]
pub struct GroupBody<'a> {
    #[schemars(with = "IdText")]
    tenant_id: &'a str,
    #[schemars(with = "IdText")]
    namespace_id: &'a str,
    #[schemars(with = "IdText")]
    group_id: &'a str,
    name: Option<&'a str>,
    /// What it is, where it is shown alone; absent in a list of groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = MAX_DESCRIPTION_CHARS))]
    description: Option<Option<&'a str>>,
    #[schemars(with = "TimeSpanText")]
    failover_timeout: String,
    milliseconds: Milliseconds,
    /// Why it is at risk, the worst first; empty if it is not.
    #[schemars(with = "Vec<RiskText>")]
    risks: Vec<&'static str>,
    /// Whether it flaps because health swings: at least every other time the Primary stepped down
    /// for a session that was healthier.
    health_swings: bool,
    /// The session that is Primary.
    #[schemars(with = "Option<IdText>")]
    primary: Option<&'a str>,
    #[schemars(with = "Option<DateTimeText>")]
    primary_since: Option<String>,
    /// The session that is about to be Primary.
    #[schemars(with = "Option<IdText>")]
    pending_primary: Option<&'a str>,
    /// The session whose handover is being waited for.
    #[schemars(with = "Option<IdText>")]
    handover_from: Option<&'a str>,
    /// Until then somebody may act on a lease that was lost with a history of the database, and
    /// only a session that says it acts is told that it is Primary. Null where nothing is in doubt.
    #[schemars(with = "Option<DateTimeText>")]
    in_doubt_until: Option<String>,
    /// It rises with every new Primary.
    #[schemars(range(min = 0))]
    term: i64,
    #[schemars(with = "DateTimeText")]
    last_data_send_time: String,
    /// Up to when the Primary has sent data, by its own word.
    #[schemars(with = "Option<DateTimeText>")]
    last_data_processed_time: Option<String>,
    /// How old the watermark is by the service's clock.
    #[schemars(range(min = 0))]
    last_data_send_age_ms: Option<i64>,
    /// How many live sessions there are beside the Primary.
    #[schemars(with = "u32")]
    standbys_ready: usize,
    #[schemars(with = "u32")]
    registered_sessions: usize,
    /// How many sessions have a lease that has not run out.
    #[schemars(with = "u32")]
    live_sessions: usize,
    /// Why nobody is Primary, where an operator wishes it so: the place is held for a forced
    /// session that is silent, or all live sessions are excluded.
    #[schemars(extend("enum" = ["Held", "Excluded", null]))]
    vacant_by_wish: Option<&'static str>,
    /// The sessions; in a list of groups the first few of them.
    sessions: Vec<SessionBody<'a>>,
    /// The service's clock at the moment of reading.
    #[schemars(with = "DateTimeText")]
    time: String,
}

/// What is true of a session now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "SessionStatus")]
struct SessionBody<'a> {
    #[schemars(with = "IdText")]
    session_id: &'a str,
    name: Option<&'a str>,
    #[schemars(with = "RoleNumber")]
    role: i16,
    #[schemars(with = "DateTimeText")]
    role_since: String,
    /// Whether its lease has not run out.
    live: bool,
    /// What its latest heartbeat said; null until the first.
    #[schemars(with = "Option<Percent>")]
    percent_healthy_streams: Option<Box<RawValue>>,
    /// How long ago its latest heartbeat came.
    #[schemars(range(min = 0))]
    heartbeat_age_ms: Option<i64>,
    /// How long its lease lasts; less than zero if it has run out.
    lease_left_ms: Option<i64>,
    /// The risks of its group that are told by it.
    #[schemars(with = "Vec<RiskText>")]
    risks: Vec<&'static str>,
    /// How long after the one before its latest heartbeat came. Null where that says nothing: it is
    /// the first, the service was away, or the timeout was another.
    #[schemars(range(min = 0))]
    heartbeat_interval_ms: Option<i64>,
    /// Of the Primary: for how long it had reported no newer data at its latest heartbeat. Null of
    /// others, and where it never reported any.
    #[schemars(range(min = 0))]
    data_still_ms: Option<i64>,
    /// By how much a time in its latest heartbeat was ahead of the service's clock; 0 if none was,
    /// and null until the first.
    #[schemars(range(min = 0))]
    clock_ahead_ms: Option<i64>,
    /// What an operator wishes of it; null for nothing.
    wish: Option<SessionWishBody>,
}

/// What an operator wishes of a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "SessionWish")]
struct SessionWishBody {
    #[serde(flatten)]
    wish: WishBody,
    /// Since when.
    #[schemars(with = "DateTimeText")]
    since: String,
}

/// A risk, for the description of the API.
struct RiskText;

impl JsonSchema for RiskText {
    fn schema_name() -> Cow<'static, str> {
        "Risk".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": Risk::ALL.map(Risk::name),
            "description": "NoPrimary: nobody is Primary, and no handover is under way. NoStandby: nobody else is live. PrimaryUnhealthy: below 90 per cent. Flapping: four grants in ten minutes. SameIdTwice: the heartbeats of a session look like those of two clients. DataStandsStill: the Primary reports no newer data for five timeouts, and for five minutes. ClockAhead: a time that a session says is ahead of the service's clock by half a timeout, and by 5 s. SeldomHeartbeats: a session sends them clearly more seldom than every half timeout. ManySessions: more than four are live. NewIdEachStart: three sessions that are silent took the place of another, each within the hour after that fell silent: a client registers with a new id at each start.",
        })
    }
}

impl<'a> GroupBody<'a> {
    fn of(found: &'a GroupAtRisk, max_sessions: usize) -> Result<GroupBody<'a>, ApiError> {
        let GroupAtRisk { status: group, risks, health_swings } = found;
        let holder = |role: Role| group.sessions.iter().find(|session| session.role == role);
        let live = group.sessions.iter().filter(|session| session.live);
        let primary = holder(Role::Primary);
        let sessions = group.sessions.iter().take(max_sessions);
        Ok(GroupBody {
            tenant_id: &group.tenant,
            namespace_id: &group.namespace,
            group_id: &group.group,
            name: group.name.as_deref(),
            description: None,
            failover_timeout: timespan::format(group.timeout.ticks()),
            milliseconds: Milliseconds(group.timeout),
            risks: risks.iter().map(|risk| risk.name()).collect(),
            health_swings: *health_swings,
            primary: primary.map(|session| session.id.as_str()),
            primary_since: primary.map(|session| datetime::format(Some(session.role_changed_at))),
            pending_primary: holder(Role::PendingPrimary).map(|session| session.id.as_str()),
            handover_from: group.handover_from.as_deref(),
            in_doubt_until: group.in_doubt_until.map(|until| datetime::format(Some(until))),
            term: group.term,
            last_data_send_time: datetime::format(group.watermark),
            last_data_processed_time: primary
                .and_then(|session| session.sent_until)
                .map(|sent_until| datetime::format(Some(sent_until))),
            last_data_send_age_ms: group.watermark.map(|watermark| age_ms(group.now, watermark)),
            standbys_ready: live.clone().filter(|session| session.role != Role::Primary).count(),
            registered_sessions: group.sessions.len(),
            live_sessions: live.clone().count(),
            vacant_by_wish: vacant_by_wish(group),
            sessions: sessions.map(|session| SessionBody::of(session, group)).collect::<Result<_, _>>()?,
            time: datetime::format(Some(group.now)),
        })
    }
}

impl<'a> SessionBody<'a> {
    fn of(session: &'a SessionStatus, group: &GroupStatus) -> Result<SessionBody<'a>, ApiError> {
        // As raw text: a decimal keeps the digits that the client sent.
        let health = session.beat.map(|beat| RawValue::from_string(beat.health.to_string())).transpose();
        Ok(SessionBody {
            session_id: &session.id,
            name: session.name.as_deref(),
            role: session.role.number(),
            role_since: datetime::format(Some(session.role_changed_at)),
            live: session.live,
            percent_healthy_streams: health.map_err(|error| ApiError::Defect { cause: error.to_string() })?,
            heartbeat_age_ms: session.beat.map(|beat| age_ms(group.now, beat.received_at)),
            lease_left_ms: session.beat.map(|beat| beat.lease_left_ms),
            risks: risks::of_session(risks::seen_of(session), group.timeout).map(Risk::name).collect(),
            heartbeat_interval_ms: session.beat.and_then(|beat| beat.interval_ms),
            data_still_ms: session.beat.and_then(|beat| beat.seen.still_us).map(|us| us / 1_000),
            clock_ahead_ms: session.beat.map(|beat| beat.seen.ahead_us / 1_000),
            wish: session.wish.as_ref().map(|wish| SessionWishBody {
                wish: WishBody::of(wish.wished),
                since: datetime::format(Some(wish.at)),
            }),
        })
    }
}

fn vacant_by_wish(group: &GroupStatus) -> Option<&'static str> {
    let wish = |session: &SessionStatus| session.wish.as_ref().map(|wish| wish.wished.wish);
    let is_held = |session: &SessionStatus| !session.live && wish(session) == Some(Wish::Forced(WhenSilent::Hold));
    let mut live = group.sessions.iter().filter(|session| session.live).peekable();
    if group.sessions.iter().any(|session| session.role == Role::Primary) {
        None
    } else if group.sessions.iter().any(is_held) {
        Some("Held")
    } else {
        (live.peek().is_some() && live.all(|session| wish(session) == Some(Wish::Excluded))).then_some("Excluded")
    }
}

fn age_ms(now: DateTime<Utc>, then: DateTime<Utc>) -> i64 {
    (now - then).num_milliseconds().max(0)
}
