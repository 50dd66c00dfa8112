//! What operators look at: the state of groups, those at risk first.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::groups::Milliseconds;
use super::paths::{InGroup, InNamespace};
use super::{datetime, query, timespan};
use crate::arbitration::Role;
use crate::failover::Failover;
use crate::failover::census::{CountedThere, Risk, StatusPage, StatusQuery};
use crate::ids::NamespacePath;
use crate::store::status::{GroupSearch, GroupStatus, SessionStatus};

/// How many groups are listed where nobody says, and the most that one answer lists.
const DEFAULT_COUNT: i64 = 50;
const MOST_COUNT: i64 = 200;
/// The most sessions of a group in a list; the group's own status has all.
const MOST_SESSIONS: usize = 16;
/// The most characters of what is searched for.
const MOST_SEARCH_CHARS: usize = 260;

/// `GET …/clientfailover/status`
pub async fn of_namespace(
    failover: web::Data<Failover>,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = failover.list_status(read_query(&request, Some(namespace))?).await?;
    Ok(write_page(&page))
}

/// `GET /api/v1/clientfailover/status`
pub async fn of_everything(failover: web::Data<Failover>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let page = failover.list_status(read_query(&request, None)?).await?;
    Ok(write_page(&page))
}

/// `GET …/groups/{groupid}/status`
pub async fn of_group(failover: web::Data<Failover>, InGroup(path): InGroup) -> Result<HttpResponse, ApiError> {
    let (group, risks) = failover.find_status(&path).await?;
    let body = GroupBody::of(&group, &risks, usize::MAX)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// `GET /api/v1/clientfailover/namespaces`
pub async fn namespaces(failover: web::Data<Failover>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let text = read_search(&request)?.map(|text| text.to_lowercase());
    let skip = query::whole_number(&request, "skip")?.map_or(0, |skip| usize::try_from(skip).unwrap_or(usize::MAX));
    let count = query::whole_number(&request, "count")?;
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let census = failover.list_namespaces();
    let holds = |name: &str| text.as_ref().is_none_or(|text| name.to_lowercase().contains(text));
    let found = || census.namespaces.iter().filter(|((tenant, namespace), _)| holds(tenant) || holds(namespace));
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
        .insert_header(("Total-Count", found().count()))
        .json(body))
}

/// What is searched for, if anything is.
fn read_search(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let text = query::find(request, "search").filter(|text| !text.is_empty());
    if let Some(text) = text.as_ref().filter(|text| text.chars().count() > MOST_SEARCH_CHARS || text.contains('\0')) {
        let shown: String = text.chars().take(40).collect();
        return Err(ApiError::bad(
            format!("search must have at most {MOST_SEARCH_CHARS} characters, none of them U+0000; it is '{shown}…'."),
            "Search for less.",
        ));
    }
    Ok(text.map(|text| text.into_owned()))
}

fn read_query(request: &HttpRequest, namespace: Option<NamespacePath>) -> Result<StatusQuery, ApiError> {
    Ok(StatusQuery {
        search: GroupSearch { namespace, text: read_search(request)? },
        only_at_risk: query::truth(request, "at_risk")?.unwrap_or(false),
        skip: query::whole_number(request, "skip")?.unwrap_or(0),
        count: query::number_up_to(request, "count", MOST_COUNT)?.unwrap_or(DEFAULT_COUNT),
    })
}

fn write_page(page: &StatusPage) -> HttpResponse {
    let groups: Result<Vec<GroupBody<'_>>, ApiError> =
        page.groups.iter().map(|(group, risks)| GroupBody::of(group, risks, MOST_SESSIONS)).collect();
    match groups {
        Ok(groups) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(PageBody {
            total: page.total,
            at_risk: page.at_risk,
            counted: page.counted.map(CountedBody::of),
            groups,
        }),
        Err(error) => HttpResponse::from_error(error),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NamespaceBody<'a> {
    tenant_id: &'a str,
    namespace_id: &'a str,
    groups: i64,
    groups_at_risk: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PageBody<'a> {
    total: i64,
    at_risk: i64,
    /// What is counted in the background, of all groups there.
    counted: Option<CountedBody>,
    groups: Vec<GroupBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CountedBody {
    /// How long ago.
    age_ms: u64,
    groups: i64,
    at_risk: i64,
    no_primary: i64,
    no_standby: i64,
    primary_unhealthy: i64,
    flapping: i64,
    registered_sessions: i64,
    live_sessions: i64,
}

impl CountedBody {
    fn of(counted: CountedThere) -> CountedBody {
        let CountedThere { count, age } = counted;
        CountedBody {
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            groups: count.groups,
            at_risk: count.at_risk,
            no_primary: count.no_primary,
            no_standby: count.no_standby,
            primary_unhealthy: count.primary_unhealthy,
            flapping: count.flapping,
            registered_sessions: count.sessions,
            live_sessions: count.live_sessions,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupBody<'a> {
    tenant_id: &'a str,
    namespace_id: &'a str,
    group_id: &'a str,
    name: Option<&'a str>,
    failover_timeout: String,
    milliseconds: Milliseconds,
    risks: Vec<&'static str>,
    primary: Option<&'a str>,
    primary_since: Option<String>,
    pending_primary: Option<&'a str>,
    /// The session whose handover is being waited for.
    handover_from: Option<&'a str>,
    term: i64,
    last_data_send_time: String,
    /// How old the watermark is by the service's clock.
    last_data_send_age_ms: Option<i64>,
    standbys_ready: usize,
    registered_sessions: usize,
    live_sessions: usize,
    sessions: Vec<SessionBody<'a>>,
    /// The service's clock at the moment of reading.
    time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SessionBody<'a> {
    session_id: &'a str,
    name: Option<&'a str>,
    role: i16,
    role_since: String,
    live: bool,
    percent_healthy_streams: Option<Box<RawValue>>,
    heartbeat_age_ms: Option<i64>,
    lease_left_ms: Option<i64>,
}

impl<'a> GroupBody<'a> {
    fn of(group: &'a GroupStatus, risks: &[Risk], most_sessions: usize) -> Result<GroupBody<'a>, ApiError> {
        let holder = |role: Role| group.sessions.iter().find(|session| session.role == role);
        let live = group.sessions.iter().filter(|session| session.live);
        let primary = holder(Role::Primary);
        let sessions = group.sessions.iter().take(most_sessions);
        Ok(GroupBody {
            tenant_id: &group.tenant,
            namespace_id: &group.namespace,
            group_id: &group.group,
            name: group.name.as_deref(),
            failover_timeout: timespan::format(group.timeout.ticks()),
            milliseconds: Milliseconds(group.timeout),
            risks: risks.iter().map(|risk| risk_text(*risk)).collect(),
            primary: primary.map(|session| session.id.as_str()),
            primary_since: primary.map(|session| datetime::format(Some(session.role_changed_at))),
            pending_primary: holder(Role::PendingPrimary).map(|session| session.id.as_str()),
            handover_from: group.handover_from.as_deref(),
            term: group.term,
            last_data_send_time: datetime::format(group.watermark),
            last_data_send_age_ms: group.watermark.map(|watermark| age_ms(group.now, watermark)),
            standbys_ready: live.clone().filter(|session| session.role != Role::Primary).count(),
            registered_sessions: group.sessions.len(),
            live_sessions: live.count(),
            sessions: sessions.map(|session| SessionBody::of(session, group.now)).collect::<Result<_, _>>()?,
            time: datetime::format(Some(group.now)),
        })
    }
}

impl<'a> SessionBody<'a> {
    fn of(session: &'a SessionStatus, now: DateTime<Utc>) -> Result<SessionBody<'a>, ApiError> {
        // As raw text: a decimal keeps the digits that the client sent.
        let health = session.beat.map(|beat| RawValue::from_string(beat.health.to_string())).transpose();
        Ok(SessionBody {
            session_id: &session.id,
            name: session.name.as_deref(),
            role: session.role.number(),
            role_since: datetime::format(Some(session.role_changed_at)),
            live: session.live,
            percent_healthy_streams: health.map_err(|error| ApiError::bad(error.to_string(), "Report it."))?,
            heartbeat_age_ms: session.beat.map(|beat| age_ms(now, beat.received_at)),
            lease_left_ms: session.beat.map(|beat| beat.lease_left_ms),
        })
    }
}

fn age_ms(now: DateTime<Utc>, then: DateTime<Utc>) -> i64 {
    (now - then).num_milliseconds().max(0)
}

fn risk_text(risk: Risk) -> &'static str {
    match risk {
        Risk::NoPrimary => "NoPrimary",
        Risk::NoStandby => "NoStandby",
        Risk::PrimaryUnhealthy => "PrimaryUnhealthy",
        Risk::Flapping => "Flapping",
    }
}
