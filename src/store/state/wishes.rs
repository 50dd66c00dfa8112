//! What operators wish of sessions: read where the row of a group says that there is something, and
//! written with an event and an entry of the audit trail where it changed.

use chrono::{DateTime, Utc};
use client_failover_wire::datetime;
use serde_json::json;
use uuid::Uuid;

use super::{Loaded, StoredGroup};
use crate::arbitration::{Instant, Moment, WishEnd, Wished, how_ended};
use crate::store::audit::{self, Action};
use crate::store::clock::Clock;
use crate::store::columns::Micros;
use crate::store::connection::{Connection, ReadConnection};
use crate::store::error::{WorkError, check_count};
use crate::store::events::{ConfigurationChange, Place, find_place, record_change_at};
use crate::store::wish_names::{when_silent_text, wish_end_text, wish_from, wish_text};

/// Who wishes something, where a transaction sets or withdraws a wish by request.
#[derive(Clone, Debug)]
pub struct Wisher {
    /// The identity.
    pub identity: String,
    /// The request's id.
    pub operation_id: String,
    /// The trace that the caller says it belongs to.
    pub claimed_trace: Option<String>,
}

impl Wisher {
    /// Where nobody asked: a wish is fulfilled, or its time is over.
    fn service() -> Wisher {
        Wisher { identity: "service".to_owned(), operation_id: "-".to_owned(), claimed_trace: None }
    }
}

/// Adds to these groups what is wished of their sessions. In the snapshot that they were read in:
/// their rows say whether there is anything.
pub(super) async fn read_wishes(connection: &mut ReadConnection, loaded: &mut [Loaded]) -> Result<(), WorkError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        group_key: Uuid,
        session_id: String,
        wish: String,
        when_silent: Option<String>,
        wished_until: Option<Micros>,
    }
    const READ: &str = "SELECT group_key, session_id, wish, when_silent, wished_until FROM session_wishes
        WHERE group_key = ANY($1)";
    let wished = loaded.iter().flatten().flatten().filter(|stored| stored.found.has_wishes);
    let keys: Vec<Uuid> = wished.map(|stored| stored.key.0).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = sqlx::query_as(READ).bind(&keys).fetch_all(connection).await?;
    for entry in loaded {
        let Some(Ok(stored)) = entry else { continue };
        for row in rows.iter().filter(|row| row.group_key == stored.key.0) {
            // Of one that is not read, nothing needs to be known.
            let Some(s) = stored.find_session(&row.session_id) else { continue };
            let Some(wish) = wish_from(&row.wish, row.when_silent.as_deref()) else {
                *entry = Some(Err(format!("wish of session '{}'", row.session_id)));
                break;
            };
            let wished = Wished { wish, until: row.wished_until.map(Instant::from) };
            stored.group.sessions[s].wish = Some(wished);
            stored.found.wishes[s] = Some(wished);
        }
    }
    Ok(())
}

/// Writes what was wished or is not any more.
pub(super) async fn save_wishes(
    connection: &mut Connection,
    clock: &Clock,
    groups: &[StoredGroup],
) -> Result<(), WorkError> {
    for stored in groups {
        let changed: Vec<usize> =
            (0..stored.found.wishes.len()).filter(|s| stored.found.wishes[*s] != stored.wish(*s)).collect();
        if changed.is_empty() {
            continue;
        }
        let place = find_place(connection, stored.key.0).await?;
        // First those that end: only one can put its session first.
        for s in &changed {
            if let Some(had) = stored.found.wishes[*s] {
                end(connection, clock.moment(), stored, *s, had, &place).await?;
            }
        }
        for s in &changed {
            if let Some(wished) = stored.wish(*s) {
                set(connection, clock, stored, *s, wished, &place).await?;
            }
        }
    }
    Ok(())
}

async fn set(
    connection: &mut Connection,
    clock: &Clock,
    stored: &StoredGroup,
    s: usize,
    wished: Wished,
    place: &Place,
) -> Result<(), WorkError> {
    let wisher = stored.wisher.clone().unwrap_or_else(Wisher::service);
    let written = sqlx::query(
        "INSERT INTO session_wishes (group_key, session_id, wish, when_silent, wished_by, wished_at, wished_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(stored.key.0)
    .bind(&stored.session_ids[s])
    .bind(wish_text(wished.wish))
    .bind(when_silent_text(wished.wish))
    .bind(&wisher.identity)
    .bind(clock.now)
    .bind(wished.until.map(Micros::from))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    check_count("session_wishes", 1, written)?;
    tell(connection, &wisher, place, &stored.session_ids[s], wished, None).await
}

async fn end(
    connection: &mut Connection,
    at: Moment<'_>,
    stored: &StoredGroup,
    s: usize,
    had: Wished,
    place: &Place,
) -> Result<(), WorkError> {
    let ended = how_ended(&stored.group, s, had, at);
    let by_itself = matches!(ended, WishEnd::Done | WishEnd::Expired);
    let wisher = stored.wisher.clone().filter(|_| !by_itself).unwrap_or_else(Wisher::service);
    let delete = "DELETE FROM session_wishes WHERE group_key = $1 AND session_id = $2";
    let delete = sqlx::query(delete).bind(stored.key.0).bind(&stored.session_ids[s]);
    check_count("session_wishes", 1, delete.execute(&mut *connection).await?.rows_affected())?;
    tell(connection, &wisher, place, &stored.session_ids[s], had, Some(ended)).await
}

/// The event, and the entry of the audit trail.
async fn tell(
    connection: &mut Connection,
    wisher: &Wisher,
    place: &Place,
    session: &str,
    wished: Wished,
    ended: Option<WishEnd>,
) -> Result<(), WorkError> {
    record_change_at(connection, place, ConfigurationChange::Wish { session, wished, ended }).await?;
    let told = json!({
        "Wish": wish_text(wished.wish),
        "WhenSilent": when_silent_text(wished.wish),
        "Until": wished.until.and_then(shown).map(|until| datetime::format(Some(until))),
        "Ended": ended.map(wish_end_text),
    });
    let (before, after) = if ended.is_some() { (Some(told), None) } else { (None, Some(told)) };
    let entry = audit::Entry {
        action: if ended.is_some() { Action::WishEnded } else { Action::WishSet },
        tenant: &place.tenant,
        namespace: Some(&place.namespace),
        group: Some(&place.group),
        session: Some(session),
        identity: &wisher.identity,
        operation_id: &wisher.operation_id,
        claimed_trace_id: wisher.claimed_trace.as_deref(),
        before,
        after,
    };
    audit::record(connection, entry).await
}

fn shown(instant: Instant) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(instant.0)
}
