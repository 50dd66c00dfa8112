//! What was: the changes of a group's roles, and how long they are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Failover, FailoverError, no_such_group};
use crate::ids::{GroupPath, Groups, Within};
use crate::metrics;
use crate::store::events::{self, Deed, Event};
use crate::store::lifetimes::{self, Lifetime};
use crate::store::pruning::{self, EventTable};
use crate::store::{Store, StoreError};

/// How many rows one step of pruning looks at: short enough that nobody waits for it.
const PRUNE_STEP: i64 = 1_000;

/// The pause between two steps, so that a large backlog goes slowly.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// Which part of a history is wanted.
#[derive(Clone, Copy, Debug)]
pub struct HistoryRange {
    /// Not before that.
    pub since: Option<DateTime<Utc>>,
    /// Before that.
    pub until: Option<DateTime<Utc>>,
    /// How many of the latest are left out.
    pub skip: i64,
    /// The most that are wanted.
    pub count: i64,
}

impl Failover {
    /// The changes of a group's roles, the latest first. A group that was deleted has its history
    /// for as long as that is kept.
    pub async fn list_transitions(&self, path: &GroupPath, range: HistoryRange) -> Result<Vec<Event>, FailoverError> {
        let key = path.key();
        let (found, is_known) = self
            .store()
            .read("transitions", |connection, _| {
                Box::pin(async move {
                    let HistoryRange { since, until, skip, count } = range;
                    let found = events::read_transitions(connection, key, since, until, skip, count).await?;
                    let is_known = !found.is_empty() || events::is_known_group(connection, key).await?;
                    Ok((found, is_known))
                })
            })
            .await?;
        if is_known { Ok(found) } else { Err(no_such_group(path)) }
    }

    /// The changes of a group's configuration and of what is wished in it, the latest first, with
    /// who made them.
    pub async fn list_deeds(&self, path: &GroupPath, range: HistoryRange) -> Result<Vec<Deed>, FailoverError> {
        let key = path.key();
        let (found, is_known) = self
            .store()
            .read("deeds", |connection, _| {
                Box::pin(async move {
                    let HistoryRange { since, until, skip, count } = range;
                    let found = events::read_deeds(connection, key, since, until, skip, count).await?;
                    let is_known = !found.is_empty() || events::is_known_group(connection, key).await?;
                    Ok((found, is_known))
                })
            })
            .await?;
        if is_known { Ok(found) } else { Err(no_such_group(path)) }
    }
}

impl Failover {
    /// The latest changes of roles in such groups there, the latest first.
    pub async fn list_latest_transitions(
        &self,
        within: &Within,
        groups: &Groups,
        count: i64,
    ) -> Result<Vec<Event>, FailoverError> {
        let found = self.store().read("latest_transitions", |connection, _| {
            Box::pin(events::read_latest_transitions(connection, within, groups, count))
        });
        Ok(found.await?)
    }

    /// From when to when there was a group of this path, as far as that is still kept, the latest
    /// first.
    pub async fn list_lifetimes(&self, path: &GroupPath) -> Result<Vec<Lifetime>, FailoverError> {
        let key = path.key();
        let (found, is_known) = self
            .store()
            .read("lifetimes", |connection, _| {
                Box::pin(async move {
                    let found = lifetimes::read_lifetimes(connection, key).await?;
                    let is_known = !found.is_empty() || events::is_known_group(connection, key).await?;
                    Ok((found, is_known))
                })
            })
            .await?;
        if is_known { Ok(found) } else { Err(no_such_group(path)) }
    }
}

/// Deletes events and entries of the audit trail that are older than their retention, for ever,
/// over a store of its own: signs of life must not wait for it. Any number of replicas may do so:
/// they take turns.
pub async fn prune(failover: Failover, direct: Store) {
    let store = direct.background();
    let options = &failover.options.events;
    loop {
        tokio::time::sleep(options.prune_interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        for kept in [Kept::RoleTransitions, Kept::ConfigurationChanges, Kept::AuditLog] {
            let retention = match kept {
                Kept::RoleTransitions | Kept::ConfigurationChanges => options.retention,
                Kept::AuditLog => options.audit_retention,
            };
            match prune_table(&store, kept, retention).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, table = ?kept, "old rows were deleted"),
                // They are deleted next time.
                Err(error) => tracing::debug!(%error, "pruning failed"),
            }
        }
    }
}

/// What is kept for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    RoleTransitions,
    ConfigurationChanges,
    AuditLog,
}

async fn prune_table(store: &Store, kept: Kept, retention: Duration) -> Result<i64, StoreError> {
    let mut after = 0;
    let mut rows = 0;
    loop {
        let pruned = store
            .autocommit("prune", |connection, _| match kept {
                Kept::RoleTransitions => Box::pin(pruning::prune_events(
                    connection,
                    EventTable::RoleTransitions,
                    retention,
                    after,
                    PRUNE_STEP,
                )),
                Kept::ConfigurationChanges => Box::pin(pruning::prune_events(
                    connection,
                    EventTable::ConfigurationChanges,
                    retention,
                    after,
                    PRUNE_STEP,
                )),
                Kept::AuditLog => Box::pin(pruning::prune_audit(connection, retention, after, PRUNE_STEP)),
            })
            .await?;
        rows += pruned.rows;
        if kept != Kept::AuditLog {
            metrics::events_pruned(pruned.rows.unsigned_abs());
        }
        // The rest is young, or another replica is at it.
        if pruned.rows < PRUNE_STEP {
            return Ok(rows);
        }
        after = pruned.last_id;
        tokio::time::sleep(PRUNE_PAUSE).await;
    }
}
