//! The audit trail as it is looked through: entry by entry in either direction, with a bound on how
//! many are looked at for one answer, however few of them are wanted.

use chrono::{DateTime, Utc};

use super::audit::Range;
use super::connection::ReadConnection;
use super::error::WorkError;

/// The most entries that are looked at for one page.
pub const MAX_LOOKED_AT: i64 = 20_000;

/// Every action that an entry can have, as the table has it.
pub const ACTIONS: [&str; 12] = [
    "group_created",
    "group_changed",
    "group_deleted",
    "group_deleted_by_force",
    "live_session_deleted",
    "silent_session_deleted",
    "key_created",
    "key_revoked",
    "wish_set",
    "wish_ended",
    "history_noted",
    "request_refused",
];

/// Where a page begins, and where it goes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The latest first, from the last one that there is.
    Latest,
    /// The latest first, from the one before that number.
    Before(i64),
    /// The oldest first, from the one after that number.
    After(i64),
}

/// Which entries are wanted.
#[derive(Clone, Debug)]
pub struct Search {
    /// When, and of which tenant.
    pub range: Range,
    /// Only with one of these actions; empty for any.
    pub actions: Vec<String>,
    /// Only of those in whose identity this is found, in any case.
    pub who: Option<String>,
    /// Where to begin.
    pub from: From,
    /// The most that are wanted.
    pub count: i64,
}

/// An entry.
#[derive(Debug, sqlx::FromRow)]
pub struct Found {
    /// Its number, which rises with time.
    pub audit_id: i64,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// What was done.
    pub action: String,
    /// The tenant; `*` for what concerns all.
    pub tenant_id: String,
    /// The namespace.
    pub namespace_id: Option<String>,
    /// The group.
    pub group_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// Who did it.
    pub identity: String,
    /// The request's id.
    pub operation_id: String,
    /// The trace that the caller named.
    pub claimed_trace_id: Option<String>,
    /// What was there before, as JSON.
    pub before: Option<String>,
    /// What was there after, as JSON.
    pub after: Option<String>,
}

/// Some entries.
#[derive(Debug, Default)]
pub struct Page {
    /// They.
    pub entries: Vec<Found>,
    /// Where to go on: before that number, or after it, in the page's direction. `None` where
    /// nothing can come.
    pub next: Option<i64>,
    /// Whether there may be more now.
    pub more: bool,
}

/// What was looked at.
#[derive(sqlx::FromRow)]
struct Looked {
    count: i64,
    lowest: Option<i64>,
    highest: Option<i64>,
    earliest: Option<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
}

macro_rules! looked {
    ($beyond:literal) => {
        concat!(
            "SELECT count(*) AS count, min(audit_id) AS lowest, max(audit_id) AS highest,
                min(recorded_at) AS earliest, max(recorded_at) AS latest
            FROM (SELECT audit_id, recorded_at FROM audit_log WHERE audit_id ",
            $beyond,
            " LIMIT $2) looked"
        )
    };
}

macro_rules! wanted {
    ($order:literal) => {
        concat!(
            "SELECT audit_id, recorded_at, action, tenant_id, namespace_id, group_id, session_id, identity, operation_id,
                claimed_trace_id, before::text AS before, after::text AS after
            FROM audit_log
            WHERE audit_id BETWEEN $1 AND $2
                AND ($3::timestamptz IS NULL OR recorded_at >= $3) AND ($4::timestamptz IS NULL OR recorded_at < $4)
                AND ($5::text IS NULL OR tenant_id = $5)
                AND (cardinality($6::text[]) = 0 OR action = ANY($6))
                AND ($7::text IS NULL OR strpos(lower(identity), lower($7)) > 0)
            ORDER BY audit_id ",
            $order,
            " LIMIT $8"
        )
    };
}

/// A page of the entries that are wanted.
pub async fn read(connection: &mut ReadConnection, search: &Search) -> Result<Page, WorkError> {
    let (looks, reads, at) = match search.from {
        From::Latest => (looked!("< $1 ORDER BY audit_id DESC"), wanted!("DESC"), i64::MAX),
        From::Before(id) => (looked!("< $1 ORDER BY audit_id DESC"), wanted!("DESC"), id),
        From::After(id) => (looked!("> $1 ORDER BY audit_id"), wanted!("ASC"), id),
    };
    let rises = matches!(search.from, From::After(_));
    let looked: Looked = sqlx::query_as(looks).bind(at).bind(MAX_LOOKED_AT).fetch_one(&mut *connection).await?;
    let (Some(lowest), Some(highest)) = (looked.lowest, looked.highest) else {
        // Whoever waits for what comes goes on from where they are.
        return Ok(Page { next: rises.then_some(at), ..Page::default() });
    };
    let Range { since, until, tenant } = &search.range;
    let entries: Vec<Found> = sqlx::query_as(reads)
        .bind(lowest)
        .bind(highest)
        .bind(since)
        .bind(until)
        .bind(tenant)
        .bind(&search.actions)
        .bind(&search.who)
        .bind(search.count)
        .fetch_all(connection)
        .await?;
    // Entries come in order of time but for the length of a transaction: where a whole look lies
    // beyond the range, what comes after it does too.
    let is_beyond = if rises {
        until.zip(looked.earliest).is_some_and(|(until, earliest)| earliest >= until)
    } else {
        since.zip(looked.latest).is_some_and(|(since, latest)| latest < since)
    };
    let last = entries.last().map(|entry| entry.audit_id).filter(|_| entries.len() as i64 >= search.count);
    let next = last.unwrap_or(if rises { highest } else { lowest });
    let more = !is_beyond && (last.is_some() || looked.count >= MAX_LOOKED_AT);
    Ok(Page { next: (more || rises).then_some(next), more, entries })
}
