//! The audit trail, for the admins of a tenant, or of all.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use client_failover_wire::datetime::{self, DateTimeText};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::history::time;
use super::paths::InKeys;
use super::query;
use crate::failover::Failover;
use crate::ids::TenantId;
use crate::store::audit::Range;
use crate::store::audit_search::{ACTIONS, Found, From, Page, Search};

/// How many entries are listed where nobody says, and the most that one answer lists.
pub const DEFAULT_COUNT: i64 = 100;
pub const MAX_COUNT: i64 = 1_000;
/// The most characters of whom is searched for.
pub const MAX_WHO_CHARS: usize = 260;

/// `GET …/clientfailover/audit`
pub async fn list(
    failover: web::Data<Failover>,
    InKeys(tenant): InKeys,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let search = read_search(&request, tenant)?;
    let page = failover.search_audit(&search).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(AuditPageBody::of(&page)?))
}

fn read_search(request: &HttpRequest, tenant: Option<TenantId>) -> Result<Search, ApiError> {
    let range = Range {
        since: time(request, "since")?,
        until: time(request, "until")?,
        tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
    };
    let from = match (query::whole_number(request, "before")?, query::whole_number(request, "after")?) {
        (None, None) => From::Latest,
        (Some(before), None) => From::Before(before),
        (None, Some(after)) => From::After(after),
        (Some(_), Some(_)) => {
            return Err(ApiError::bad(
                "before and after are given together.".to_owned(),
                "Give before to go back from there, or after to go on from there.",
            ));
        }
    };
    let count = query::number_up_to(request, "count", MAX_COUNT)?.unwrap_or(DEFAULT_COUNT);
    if count == 0 {
        return Err(ApiError::bad("count must be 1 at least.".to_owned(), "Correct the parameter, or leave it out."));
    }
    Ok(Search { range, actions: read_actions(request)?, who: read_who(request)?, from, count })
}

/// The actions that are wanted, separated by commas.
fn read_actions(request: &HttpRequest) -> Result<Vec<String>, ApiError> {
    let Some(text) = query::find(request, "action") else { return Ok(Vec::new()) };
    let wanted: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match wanted.iter().find(|name| !ACTIONS.contains(&name.as_str())) {
        None => Ok(wanted),
        Some(unknown) => {
            let shown: String = unknown.chars().take(40).collect();
            Err(ApiError::bad(
                format!("action must be some of {}, separated by commas; '{shown}' is none.", ACTIONS.join(", ")),
                "Correct the parameter, or leave it out.",
            ))
        }
    }
}

/// A part of the identity that is wanted.
fn read_who(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let text = query::find(request, "who").filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_WHO_CHARS || text.contains('\0')) {
        return Err(ApiError::bad(
            format!("who must have at most {MAX_WHO_CHARS} characters, none of them U+0000."),
            "Search for less.",
        ));
    }
    Ok(text.map(|text| text.into_owned()))
}

/// Some entries of the audit trail.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "AuditPage")]
pub struct AuditPageBody<'a> {
    entries: Vec<EntryBody<'a>>,
    /// The AuditId to ask on with, as `before`, or as `after` where the oldest come first. Null
    /// where there is nothing before.
    next: Option<i64>,
    /// Whether there may be more now. An answer can be short, or empty, and not the last: only so
    /// many entries are looked at for it.
    more: bool,
}

/// Who did what.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "AuditEntry")]
struct EntryBody<'a> {
    /// It rises with time.
    audit_id: i64,
    #[schemars(with = "DateTimeText")]
    recorded_at: String,
    /// What was done.
    #[schemars(extend("enum" = ACTIONS))]
    action: &'a str,
    /// The tenant; * for what concerns all.
    tenant_id: &'a str,
    namespace_id: Option<&'a str>,
    group_id: Option<&'a str>,
    session_id: Option<&'a str>,
    /// Who did it: how they were recognised, and their name.
    identity: &'a str,
    /// The id of the request.
    operation_id: &'a str,
    /// The trace that the request belongs to by its caller's word.
    claimed_trace_id: Option<&'a str>,
    /// What was there before; null where there was nothing.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    before: Option<Box<RawValue>>,
    /// What was there after; null where there was nothing.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    after: Option<Box<RawValue>>,
}

impl<'a> AuditPageBody<'a> {
    fn of(page: &'a Page) -> Result<AuditPageBody<'a>, ApiError> {
        let entries = page.entries.iter().map(EntryBody::of).collect::<Result<_, _>>()?;
        Ok(AuditPageBody { entries, next: page.next, more: page.more })
    }
}

impl<'a> EntryBody<'a> {
    fn of(found: &'a Found) -> Result<EntryBody<'a>, ApiError> {
        let raw = |text: &Option<String>| text.clone().map(RawValue::from_string).transpose();
        let defect = |error: serde_json::Error| ApiError::Defect { cause: error.to_string() };
        Ok(EntryBody {
            audit_id: found.audit_id,
            recorded_at: datetime::format(Some(found.recorded_at)),
            action: &found.action,
            tenant_id: &found.tenant_id,
            namespace_id: found.namespace_id.as_deref(),
            group_id: found.group_id.as_deref(),
            session_id: found.session_id.as_deref(),
            identity: &found.identity,
            operation_id: &found.operation_id,
            claimed_trace_id: found.claimed_trace_id.as_deref(),
            before: raw(&found.before).map_err(defect)?,
            after: raw(&found.after).map_err(defect)?,
        })
    }
}
