//! The history of a group's roles.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use client_failover_wire::datetime::{self, DateTimeText, Reading};
use schemars::JsonSchema;
use serde::Serialize;

use super::errors::ApiError;
use super::events::describe;
use super::paths::{InGroup, InNamespace, InTenant};
use super::query;
use super::values::{IdText, Milliseconds};
use super::wishes::WishBody;
use crate::failover::history::HistoryRange;
use crate::failover::{Caller, Failover};
use crate::ids::{Groups, Within};
use crate::store::events::{Deed, Happening};
use crate::store::lifetimes::Edge;

/// How many changes are listed where nobody says.
pub const DEFAULT_COUNT: i64 = 100;
/// The most that one answer lists.
pub const MAX_COUNT: i64 = 1_000;

/// `GET …/groups/{groupid}/transitions`, the latest first
pub async fn transitions(
    failover: web::Data<Failover>,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let found = failover.list_transitions(&path, read_range(&request)?).await?;
    let body: Vec<_> = found.iter().map(|event| describe(event).1).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

fn read_range(request: &HttpRequest) -> Result<HistoryRange, ApiError> {
    Ok(HistoryRange {
        since: time(request, "since")?,
        until: time(request, "until")?,
        skip: query::whole_number(request, "skip")?.unwrap_or(0),
        count: query::number_up_to(request, "count", MAX_COUNT)?.unwrap_or(DEFAULT_COUNT),
    })
}

/// `GET …/groups/{groupid}/deeds`, the latest first
pub async fn deeds(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let found = failover.list_deeds(&path, read_range(&request)?).await?;
    let may_know = caller.rights.see_who_changed_groups();
    let body: Vec<_> = found.iter().map(|deed| DeedBody::of(deed, may_know)).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// A change of a group's configuration or of what is wished in it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Deed")]
pub struct DeedBody<'a> {
    /// The number of its event.
    #[schemars(range(min = 1))]
    id: i64,
    /// When it was made, by the database's clock.
    #[schemars(with = "DateTimeText")]
    time: String,
    /// The name of its event.
    #[schemars(extend("enum" = DEEDS))]
    event: &'static str,
    /// Who made it; null where that is not known, or is not for the caller to know.
    by: Option<&'a str>,
    /// The session that was deleted, or of which something is or was wished; null where the group
    /// itself changed.
    #[schemars(with = "Option<IdText>")]
    session_id: Option<&'a str>,
    /// What is or was wished of it; null where it is about no wish.
    wish: Option<WishBody>,
    /// How the wish ended; null where it did not.
    #[schemars(extend("enum" = ["done", "expired", "withdrawn", "replaced", null]))]
    ended: Option<&'a str>,
    /// The failover timeout that the group was given; null where it was given none.
    milliseconds: Option<Milliseconds>,
}

/// The events that are told of as deeds.
const DEEDS: [&str; 6] = ["GroupCreated", "GroupChanged", "GroupDeleted", "SessionDeleted", "WishSet", "WishEnded"];

impl<'a> DeedBody<'a> {
    fn of(deed: &'a Deed, may_know: bool) -> DeedBody<'a> {
        let Deed { event, identity } = deed;
        let (wish, ended) = match &event.what {
            Happening::Wish(change) => (Some(WishBody::of_change(change)), change.ended.as_deref()),
            _ => (None, None),
        };
        let milliseconds = match &event.what {
            Happening::GroupCreated(configuration) | Happening::GroupChanged(configuration) => {
                Some(Milliseconds(configuration.timeout))
            }
            _ => None,
        };
        DeedBody {
            id: event.id,
            time: datetime::format(Some(event.recorded_at)),
            event: describe(event).0,
            by: identity.as_deref().filter(|_| may_know),
            session_id: event.session.as_deref(),
            wish,
            ended,
            milliseconds,
        }
    }
}

/// How many of the latest changes of many groups are listed where nobody says, and the most.
pub const DEFAULT_LATEST: i64 = 20;
pub const MAX_LATEST: i64 = 200;

/// `GET …/clientfailover/transitions`, the latest first
pub async fn latest_of_namespace(
    failover: web::Data<Failover>,
    caller: Caller,
    InNamespace(namespace): InNamespace,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    latest(&failover, Within::Namespace(namespace), caller.rights.groups(), &request).await
}

/// `GET /api/v1/tenants/{tenantId}/clientfailover/transitions`, the latest first
pub async fn latest_of_tenant(
    failover: web::Data<Failover>,
    InTenant(tenant): InTenant,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    latest(&failover, Within::Tenant(tenant), &Groups::All, &request).await
}

/// `GET /api/v1/clientfailover/transitions`, the latest first
pub async fn latest_of_everything(
    failover: web::Data<Failover>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    latest(&failover, Within::AllTenants, &Groups::All, &request).await
}

async fn latest(
    failover: &Failover,
    within: Within,
    groups: &Groups,
    request: &HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let count = query::number_up_to(request, "count", MAX_LATEST)?.unwrap_or(DEFAULT_LATEST);
    let found = failover.list_latest_transitions(&within, groups, count).await?;
    let body: Vec<_> = found.iter().map(|event| describe(event).1).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// A time in which a group existed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Lifetime")]
pub struct LifetimeBody {
    /// Null where that is no longer kept.
    #[schemars(with = "Option<DateTimeText>")]
    created: Option<String>,
    /// Who created it; null where that is not known, or is not for the caller to know.
    created_by: Option<String>,
    /// Null while it exists.
    #[schemars(with = "Option<DateTimeText>")]
    deleted: Option<String>,
    /// Who deleted it; null where that is not known, or is not for the caller to know.
    deleted_by: Option<String>,
}

/// `GET …/groups/{groupid}/lifetimes`, the latest first
pub async fn lifetimes(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
) -> Result<HttpResponse, ApiError> {
    let found = failover.list_lifetimes(&path).await?;
    let who = |turn: &Option<Edge>| {
        turn.as_ref().and_then(|turn| turn.identity.clone()).filter(|_| caller.rights.see_who_changed_groups())
    };
    let when = |turn: &Option<Edge>| turn.as_ref().map(|turn| datetime::format(Some(turn.at)));
    let body: Vec<_> = found
        .iter()
        .map(|lifetime| LifetimeBody {
            created: when(&lifetime.created),
            created_by: who(&lifetime.created),
            deleted: when(&lifetime.deleted),
            deleted_by: who(&lifetime.deleted),
        })
        .collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// A parameter that is a date-time; year 1 counts as none, as everywhere.
pub fn time(request: &HttpRequest, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(value) = query::find(request, name) else { return Ok(None) };
    // The sign of an offset, where it was not encoded.
    let signed = || value.rsplit_once(' ').and_then(|(time, offset)| datetime::parse(&format!("{time}+{offset}")));
    match datetime::parse(&value).or_else(signed) {
        Some(Reading::Time(time)) => Ok(Some(time)),
        Some(Reading::None) => Ok(None),
        None => Err(ApiError::bad(
            format!("{name} must be an RFC 3339 date-time such as 2019-08-24T14:15:22Z; it is '{value}'."),
            "Correct the parameter, or leave it out.",
        )),
    }
}
