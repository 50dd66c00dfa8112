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
use crate::failover::history::HistoryRange;
use crate::failover::{Caller, Failover};
use crate::ids::{Groups, Within};
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
    let range = HistoryRange {
        since: time(&request, "since")?,
        until: time(&request, "until")?,
        skip: query::whole_number(&request, "skip")?.unwrap_or(0),
        count: query::number_up_to(&request, "count", MAX_COUNT)?.unwrap_or(DEFAULT_COUNT),
    };
    let found = failover.list_transitions(&path, range).await?;
    let body: Vec<_> = found.iter().map(|event| describe(event).1).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
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
