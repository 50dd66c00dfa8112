//! The moment of a snapshot: the database's clock, read once and after it, and what leases are
//! judged by at it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::columns::Micros;
use super::connection::ReadConnection;
use super::error::WorkError;
use super::options::StoreOptions;
use super::witness::Witness;
use crate::arbitration::{History, Instant, Moment, Outage};

/// The moment of a snapshot, with all that a [`super::witness::Witness`] looks at in one column,
/// `told`. The parameter says whether the statement has to ask where it is.
macro_rules! moment {
    ($asks:literal) => {
        concat!(
            "SELECT m.*, ARRAY[m.present_timeline, m.timeline, m.system_identifier, m.database_oid::text, m.history::text, m.signs::text,
                m.history_id::text, (extract(epoch FROM m.history_noticed_at) * 1000000)::bigint::text, m.base::text,
                CASE WHEN ",
            $asks,
            " THEN (SELECT c.system_identifier::text FROM pg_control_system() c) END,
                CASE WHEN ",
            $asks,
            " THEN (SELECT d.oid::text FROM pg_database d WHERE d.datname = current_database()) END
            ] AS told FROM service_moment m"
        )
    };
}
pub(super) use moment;

/// The columns of a `moment!` that is `m` in a statement, as the clock is read from them. Once for
/// all its rows, and so by name.
macro_rules! moment_columns {
    () => {
        "m.now, m.alive_at, m.began, m.recovered, m.gaps_us, m.steps_us, m.told"
    };
}
pub(super) use moment_columns;

/// As many columns of nothing, for the other kinds of rows of such a statement.
macro_rules! no_moment {
    () => {
        ", NULL, NULL, NULL, NULL, NULL, NULL, NULL"
    };
}
pub(super) use no_moment;

/// The database's clock at a snapshot, and the outages that leases are judged by.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Read once, after the snapshot.
    pub now: DateTime<Utc>,
    outages: Vec<Outage>,
    history: Option<History>,
    in_history_since: Option<std::time::Instant>,
}

impl Clock {
    /// One by which nothing is decided.
    pub(super) fn of_nothing() -> Clock {
        Clock { now: DateTime::<Utc>::MIN_UTC, outages: Vec::new(), history: None, in_history_since: None }
    }

    /// As arbitration wants it.
    pub fn moment(&self) -> Moment<'_> {
        Moment { now: instant(self.now), outages: &self.outages, history: self.history }
    }

    /// Whether what reached this replica then was sent after the present history of the database
    /// was noticed, for certain.
    pub fn is_of_present_history(&self, arrived_at: std::time::Instant) -> bool {
        self.in_history_since.is_some_and(|since| arrived_at >= since)
    }
}

/// An instant as arbitration counts it.
pub fn instant(time: DateTime<Utc>) -> Instant {
    Instant(time.timestamp_micros())
}

pub(super) const NO_LIVENESS: &str = "service_liveness has no row";

/// By so much two readings of a clock that nobody sets may seem to go back.
const READINGS_OF_ONE_CLOCK: TimeDelta = TimeDelta::milliseconds(20);

/// The clock alone, for a serializable transaction that decides on no state of a group. It comes
/// first in it.
pub async fn read_moment(connection: &mut ReadConnection, options: &StoreOptions) -> Result<Clock, WorkError> {
    let witness = connection.call_witness();
    let asked = sqlx::query(moment!("$1")).bind(witness.asks()).fetch_optional(connection).await?;
    let row = asked.ok_or_else(|| WorkError::Inconsistent(NO_LIVENESS.to_owned()))?;
    read_clock(&row, &witness, options)
}

/// Where the database is in another history, the last sign of life is too old, or the clock was set
/// since it was given: nothing is decided before that is recorded.
pub(super) fn read_clock(row: &PgRow, witness: &Witness, options: &StoreOptions) -> Result<Clock, WorkError> {
    let history = witness.look_at(row)?;
    let life = &witness.life;
    let now: DateTime<Utc> = row.try_get("now")?;
    let alive_at: DateTime<Utc> = row.try_get("alive_at")?;
    let is_alive = match (now - alive_at).to_std() {
        Ok(silence) => silence <= life.longest_silence(options),
        Err(_) => alive_at - now <= READINGS_OF_ONE_CLOCK,
    };
    if !is_alive || life.is_ahead(now) {
        return Err(WorkError::ServiceWasAway);
    }
    let began: Vec<Micros> = row.try_get("began")?;
    let recovered: Vec<Micros> = row.try_get("recovered")?;
    let gaps_us: Vec<i64> = row.try_get("gaps_us")?;
    let steps_us: Vec<i64> = row.try_get("steps_us")?;
    let outages = std::iter::zip(std::iter::zip(began, recovered), std::iter::zip(gaps_us, steps_us))
        .map(|((began, recovered), (gap_us, clock_step_us))| Outage {
            began_at: began.into(),
            recovered_at: recovered.into(),
            gap_us,
            clock_step_us,
        })
        .collect();
    Ok(Clock { now, outages, history, in_history_since: witness.in_history_since() })
}
