//! Signs of life: how an outage of the service is told from the silence of a client.
//!
//! A heartbeat decides only on a snapshot in which the last sign of life is fresh. If it is not, an outage is
//! recorded first, so that no lease is ever judged by a time in which nobody could renew it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Pooler, Store, StoreError, StoreOptions};

impl Store {
    /// Notes that a replica reaches the database; records an outage if the last sign of life is longer ago than
    /// the gap. Returns the instant noted.
    ///
    /// Not serializable: every heartbeat reads this row, and a serializable writer would conflict with them all.
    pub async fn note_alive(&self) -> Result<DateTime<Utc>, StoreError> {
        let gap = self.options().outage_gap;
        if self.options().pooler == Pooler::Transaction {
            return self.note_alive_in_one_message(gap).await;
        }
        self.background()
            .read("note_alive", move |connection| {
                Box::pin(async move {
                    let row: (DateTime<Utc>,) = sqlx::query_as("SELECT note_service_alive($1, $2)")
                        .bind(interval(gap))
                        .bind(interval(SHORTEST_OUTAGE))
                        .fetch_one(connection)
                        .await?;
                    Ok(row.0)
                })
            })
            .await
    }

    /// Through a pooler other reads are a BEGIN, a statement and a COMMIT, and a replica that is paused between two of them would
    /// keep the row from all others until the server ends it, which would look like an outage.
    async fn note_alive_in_one_message(&self, gap: Duration) -> Result<DateTime<Utc>, StoreError> {
        let (gap_us, shortest_us) = (gap.as_micros(), SHORTEST_OUTAGE.as_micros());
        let statement = format!(
            "SELECT (extract(epoch FROM note_service_alive('{gap_us} us', '{shortest_us} us')) * 1000000)::bigint"
        );
        let store = self.background().without_transactions_around_reads();
        let noted = store.read("note_alive", move |connection| {
            let statement = AssertSqlSafe(statement.clone());
            Box::pin(async move { Ok(sqlx::raw_sql(statement).fetch_one(connection).await?.try_get::<i64, _>(0)?) })
        });
        let noted_us = noted.await?;
        DateTime::from_timestamp_micros(noted_us)
            .ok_or_else(|| StoreError::Inconsistent("the database's clock is out of range".to_owned()))
    }
}

/// The shortest silence that is recorded. Groups with a short timeout are hurt by outages that others do not notice: one
/// counts for a lease from a quarter of the time that it was given for.
pub const SHORTEST_OUTAGE: Duration = Duration::from_millis(250);

impl StoreOptions {
    /// How old the last sign of life may be for a decision to be made on it.
    pub fn longest_silence(&self) -> Duration {
        self.outage_gap.min(SHORTEST_OUTAGE)
    }
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
