//! The history of a group's roles.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};

use super::datetime::{self, Reading};
use super::errors::ApiError;
use super::events::describe;
use super::paths::InGroup;
use super::query;
use crate::failover::Failover;
use crate::failover::history::HistoryRange;

/// How many changes are listed where nobody says.
pub const DEFAULT_COUNT: i64 = 100;
/// The most that one answer lists.
pub const MOST_COUNT: i64 = 1_000;

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
        count: query::number_up_to(&request, "count", MOST_COUNT)?.unwrap_or(DEFAULT_COUNT),
    };
    let found = failover.list_transitions(&path, range).await?;
    let body: Vec<_> = found.iter().map(|event| describe(event).1).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// A parameter that is a date-time; year 1 counts as none, as everywhere.
fn time(request: &HttpRequest, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
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
