//! Signs of life: how an outage of the service is told from the silence of a client.
//!
//! A heartbeat decides only on a snapshot in which the last sign of life is fresh. If it is not, an outage is
//! recorded first, so that no lease is ever judged by a time in which nobody could renew it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;

use super::{Store, StoreError, StoreOptions};

impl Store {
    /// Notes that a replica reaches the database; records an outage if the last sign of life is longer ago than
    /// the gap. Returns the instant noted.
    ///
    /// Not serializable: every heartbeat reads this row, and a serializable writer would conflict with them all.
    pub async fn note_alive(&self) -> Result<DateTime<Utc>, StoreError> {
        let gap = self.options().outage_gap;
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
