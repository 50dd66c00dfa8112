//! What PostgreSQL remembers of what serializable transactions have read, and who keeps it from
//! forgetting.
//!
//! It forgets what a transaction has read once all that ran beside it have ended: those of other
//! databases and other programs too. So one that somebody leaves open uses up the room for all, and
//! then no serializable transaction goes on before it has ended.

use tracing::Level;

use super::Store;
use super::error::StoreError;
use crate::log_limits::Lines;

/// What is said of it. The server's own words name memory.
pub(super) const NO_ROOM: &str = "PostgreSQL has no room left for what serializable transactions have read: one of them has been open for too long. End it, and raise max_pred_locks_per_transaction (docs/operations.md, 'A transaction of somebody else')";

const FOUND: Lines = Lines::new(NO_ROOM, Level::WARN).at_most(1, 1);

/// One that is open for less is not to blame.
const LONG_S: i64 = 2;

/// A serializable transaction that is open.
#[derive(Debug, sqlx::FromRow)]
pub struct OpenTransaction {
    /// The process of the server that runs it.
    pub pid: i32,
    /// The program that began it, as far as it may be known.
    pub application: String,
    /// Its account.
    pub account: Option<String>,
    /// Its database, which may be another one.
    pub database: Option<String>,
    /// For how many seconds it has been open, if we may know it.
    pub age_s: Option<i64>,
}

impl Store {
    /// Of all serializable transactions on the server that have read something and are open, the
    /// one that began first. When others' began is shown to those who may see it (`pg_monitor`); to
    /// anybody else they come first. A prepared one has no process, and is not found.
    pub async fn oldest_serializable_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        // What one that has ended has read stays there under its process, which may be doing
        // nothing, or something else. One that is open has its own number locked.
        const FIND: &str = "
            WITH l AS MATERIALIZED (SELECT pid, virtualtransaction, locktype, mode FROM pg_locks)
            SELECT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown') AS application,
                a.usename::text AS account, a.datname::text AS database,
                extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_s
            FROM pg_stat_activity a
            WHERE a.pid IN (
                SELECT pid FROM l WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock'
                AND virtualtransaction IN (SELECT virtualtransaction FROM l WHERE mode = 'SIReadLock')
            )
            ORDER BY a.xact_start NULLS FIRST LIMIT 1";
        self.read("find_oldest", |connection, _| {
            Box::pin(async move { Ok(sqlx::query_as(FIND).fetch_optional(connection).await?) })
        })
        .await
    }

    /// Logs now and then who has the oldest serializable transaction.
    pub(super) fn warn_of_oldest_transaction(&self) {
        if !FOUND.admit("") {
            return;
        }
        let store = self.background();
        drop(tokio::spawn(async move {
            match store.oldest_serializable_transaction().await {
                Ok(Some(oldest)) if oldest.age_s.is_none_or(|age| age >= LONG_S) => {
                    let OpenTransaction { pid, application, account, database, age_s } = oldest;
                    tracing::warn!(
                        pid,
                        application,
                        account,
                        database,
                        age_s,
                        "{NO_ROOM}. The oldest that is open: SELECT pg_terminate_backend({pid}) ends it"
                    );
                }
                Ok(_) => tracing::warn!(
                    "{NO_ROOM}. It was not found: it may be prepared (pg_prepared_xacts), have read no table (pg_stat_activity, the oldest xact_start), or be over"
                ),
                Err(error) => tracing::warn!(%error, "{NO_ROOM}"),
            }
        }));
    }
}
