//! What a snapshot is held against, before anything is decided on it: that it is of the history
//! that this replica works in, with all that it remembers of it.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::{IS_STANDBY, WorkError};
use super::histories::{Destination, Remembered};
use super::life::Life;
use crate::arbitration::{History, HistoryId, Instant, Term};

/// What a snapshot is held against. It is called before the snapshot is taken: what is remembered
/// later may not be in it. One for all that is read in a snapshot.
#[derive(Debug)]
pub struct Witness {
    pub(super) life: Arc<Life>,
    remembered: Option<Remembered>,
    place: Option<Destination>,
}

impl Witness {
    /// What is known now, for a snapshot that is taken on a connection to that place.
    pub(super) fn call(life: Arc<Life>, place: Option<Destination>) -> Witness {
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
