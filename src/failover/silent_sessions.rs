//! Sessions whose clients are gone for good: deleted after a long silence, a few at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::Failover;
use super::log::{RoleChange, changes_of, log_changes};
use crate::arbitration::{self, By, Instant};
use crate::store::audit::{self, Action};
use crate::store::events::find_place;
use crate::store::groups::{self, SessionPage};
use crate::store::state::{self, Actor, StoredGroup};
use crate::store::{LostCommit, Store, StoreError};

/// How many sessions one look passes over, and the pause after it: nobody waits for this.
const PAGE: i64 = 500;
const PAUSE: Duration = Duration::from_millis(50);
/// How many sessions of a group go in one transaction.
const AT_ONCE: usize = 16;
/// How much of the time that they are kept passes between two walks, within bounds.
const WALKS: u32 = 100;
const MOST_SELDOM: Duration = Duration::from_secs(3_600);

/// Whom the audit trail names.
const IDENTITY: &str = "service";

/// Deletes sessions that have been silent for longer than they are kept, for ever; nothing where
/// they are kept for good.
pub async fn remove(failover: Failover, direct: Store) {
    let Some(retention) = failover.options.session_retention else { return std::future::pending().await };
    let store = direct.background();
    let shortest = failover.options.events.prune_interval;
    let interval = (retention / WALKS).clamp(shortest, MOST_SELDOM.max(shortest));
    loop {
        tokio::time::sleep(interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        match walk(&store, retention).await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "sessions that were silent for long were deleted"),
            // They are next time.
            Err(error) => tracing::debug!(%error, "silent sessions could not be deleted"),
        }
    }
}

/// Looks at all sessions, a page at a time.
async fn walk(store: &Store, retention: Duration) -> Result<usize, StoreError> {
    let mut removed = 0;
    let mut after = (Uuid::nil(), String::new());
    loop {
        let (key, id) = &after;
        let page = store.read("find_silent_sessions", |connection, _| {
            Box::pin(groups::find_silent_sessions(connection, retention, *key, id, PAGE))
        });
        let SessionPage { silent, last } = page.await?;
        let mut of_groups: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for (key, id) in silent {
            of_groups.entry(key).or_default().push(id);
        }
        for (key, ids) in &of_groups {
            for ids in ids.chunks(AT_ONCE) {
                match remove_from(store, *key, ids, retention).await {
                    Ok(sessions) => removed += sessions,
                    // Others are not the worse for it.
                    Err(error) => tracing::debug!(%error, group = %key, "silent sessions of a group are left"),
                }
            }
        }
        let Some(last) = last else { return Ok(removed) };
        after = last;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes those of a group that are still silent, as an operator would.
async fn remove_from(store: &Store, key: Uuid, ids: &[String], retention: Duration) -> Result<usize, StoreError> {
    let (count, changes): (usize, Vec<RoleChange>) = store
        .serializable("remove_silent_sessions", LostCommit::Repeat, |connection, _| {
            Box::pin(async move {
                let (clock, mut loaded) = state::load(connection, &[key], store.options()).await?;
                // A group with bad rows is left to the heartbeats, which say so.
                let Some(Ok(mut stored)) = loaded.pop().flatten() else { return Ok((0, Vec::new())) };
                let at = clock.moment();
                // With a session goes what an operator wishes of it, which may be for longer.
                let is_silent = |stored: &StoredGroup, s: usize| {
                    let since = stored.group.sessions[s].beat.map(|beat| beat.received_at);
                    let is_heard = since.is_some_and(|since| !is_over(since, retention, at.now));
                    !is_heard && !stored.group.is_live(s, at) && stored.group.wish_of(s).is_none()
                };
                // One may have registered anew since it was looked at.
                let ids = groups::find_registered_before(connection, key, ids, retention).await?;
                let places: Vec<usize> = ids.iter().filter_map(|id| stored.find_session(id)).collect();
                let places: Vec<usize> = places.into_iter().filter(|s| is_silent(&stored, *s)).collect();
                if places.is_empty() {
                    return Ok((0, Vec::new()));
                }
                for s in &places {
                    arbitration::remove(&mut stored.group, *s, By::Another, at, &mut stored.trace);
                }
                let place = find_place(connection, key).await?;
                let mut stored = [stored];
                state::save(connection, &clock, &mut stored, Actor::Sweep).await?;
                for s in &places {
                    let id = &stored[0].session_ids[*s];
                    groups::delete_session_at(connection, &place, id).await?;
                    let entry = audit::Entry {
                        action: Action::SilentSessionDeleted,
                        tenant: &place.tenant,
                        namespace: Some(&place.namespace),
                        group: Some(&place.group),
                        session: Some(id),
                        identity: IDENTITY,
                        operation_id: "-",
                        claimed_trace_id: None,
                        before: Some(json!({"KeptForSeconds": retention.as_secs()})),
                        after: None,
                    };
                    audit::record(connection, entry).await?;
                }
                let label = format!("{}/{}/{}", place.tenant, place.namespace, place.group);
                Ok((places.len(), changes_of(&label, &stored[0])))
            })
        })
        .await?;
    log_changes(&changes);
    Ok(count)
}

fn is_over(since: Instant, retention: Duration, now: Instant) -> bool {
    let kept_us = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    since.0.saturating_add(kept_us) <= now.0
}
