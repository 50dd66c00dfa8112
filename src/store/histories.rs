//! Which history of the database this replica works in, and how it tells that the database is in
//! another one.
//!
//! A database is in one history as long as it is the same database of the same server on the same
//! timeline, and has all that was committed in it. A standby that was promoted, a copy that was put
//! back and a former primary that leads again are not. What they are compared with is noted in the
//! database, by signs of life, and remembered by each replica; see
//! `docs/decisions/0016-histories-of-the-database.md`.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::WorkError;
use super::admission::IS_STANDBY;
use super::liveness::Life;
use crate::arbitration::{History, HistoryId, Instant, Term};

/// What is done where only the timeline is another, as after any promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseHistory {
    /// Grants may have been lost: they are fenced off.
    Fenced,
    /// Nothing was lost, for a standby has what was committed before anybody is told. Where a
    /// replica knows better, it is fenced off all the same.
    Trusted,
}

/// Whose connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// One to a database in the history that this replica works in.
    KnownHistory,
    /// One to a database that has been in the history that this replica works in: it may have gone
    /// on into another one since.
    Successor,
    /// One to whatever database there is: a sign of life is given on it, which says in which
    /// history it is.
    AnyHistory,
}

/// Where a connection leads. It cannot lead elsewhere later, but behind a pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// As the server names itself.
    pub(super) server: String,
    /// The database's number on it.
    pub(super) database: i64,
}

/// What a replica remembers of the history that it works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// Its identity.
    pub(super) history: Uuid,
    /// So many signs of life are known to have been committed in it.
    pub(super) signs: i64,
    /// Since when it works in it.
    pub(super) since: std::time::Instant,
}

/// What a snapshot is held against. It is called before the snapshot is taken: what is remembered
/// later may not be in it.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) life: Arc<Life>,
    remembered: Option<Remembered>,
    place: Option<Place>,
}

/// The moment of a snapshot, with all that a [`Witness`] looks at in one column, `told`. The
/// parameter says whether the statement has to ask where it is.
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

impl Witness {
    /// What is known now, for a snapshot that is taken on a connection to that place.
    pub(super) fn call(life: Arc<Life>, place: Option<Place>) -> Witness {
        Witness { remembered: life.remembered(), life, place }
    }

    /// Since when this replica works in its history.
    pub(super) fn in_history_since(&self) -> Option<std::time::Instant> {
        self.remembered.map(|remembered| remembered.since)
    }

    /// Whether the statement has to ask where it is.
    pub(super) fn asks(&self) -> bool {
        self.place.is_none()
    }

    /// The present history as decisions need it, if the snapshot is of the history that this
    /// replica works in, and has all that is remembered of it. Otherwise nothing is decided on it,
    /// before a sign of life has said which it is.
    pub(super) fn look_at(&self, row: &PgRow) -> Result<Option<History>, WorkError> {
        let told: Vec<Option<String>> = row.try_get("told")?;
        let told = Told::of(&told).ok_or_else(|| WorkError::Inconsistent("service_moment".to_owned()))?;
        let Some(present_timeline) = told.present_timeline else {
            return Err(sqlx::Error::Protocol(IS_STANDBY.to_owned()).into());
        };
        let (here_server, here_database) = match &self.place {
            Some(place) => (Some(place.server.as_str()), Some(place.database)),
            None => (told.here_server, told.here_database),
        };
        let is_at_its_place = told.timeline == Some(present_timeline)
            && told.server == here_server
            && told.database == here_database
            && here_server.is_some();
        let has_all = |remembered: Remembered| {
            told.history == Some(remembered.history) && told.signs.is_some_and(|signs| signs >= remembered.signs)
        };
        match self.remembered {
            None => return Err(WorkError::ServiceWasAway),
            Some(remembered) if is_at_its_place && has_all(remembered) => {}
            Some(_) => return Err(WorkError::AnotherHistory),
        }
        // Nothing was fenced off at a first one.
        Ok(match (told.history_id, told.noticed_at_us, told.base) {
            (Some(id), Some(noticed_at_us), Some(base)) if base > 0 => {
                Some(History { id: HistoryId(id), noticed_at: Instant(noticed_at_us), base: Term(base) })
            }
            _ => None,
        })
    }
}

/// The column `told`, in its order.
struct Told<'r> {
    present_timeline: Option<&'r str>,
    timeline: Option<&'r str>,
    server: Option<&'r str>,
    database: Option<i64>,
    history: Option<Uuid>,
    signs: Option<i64>,
    history_id: Option<i64>,
    noticed_at_us: Option<i64>,
    base: Option<i64>,
    here_server: Option<&'r str>,
    here_database: Option<i64>,
}

impl<'r> Told<'r> {
    fn of(told: &'r [Option<String>]) -> Option<Told<'r>> {
        let [
            present_timeline,
            timeline,
            server,
            database,
            history,
            signs,
            history_id,
            noticed_at_us,
            base,
            here_server,
            here_database,
        ] = told
        else {
            return None;
        };
        let number = |text: &Option<String>| text.as_deref().map(str::parse::<i64>).transpose().ok();
        Some(Told {
            present_timeline: present_timeline.as_deref(),
            timeline: timeline.as_deref(),
            server: server.as_deref(),
            database: number(database)?,
            history: history.as_deref().map(str::parse).transpose().ok()?,
            signs: number(signs)?,
            history_id: number(history_id)?,
            noticed_at_us: number(noticed_at_us)?,
            base: number(base)?,
            here_server: here_server.as_deref(),
            here_database: number(here_database)?,
        })
    }
}
