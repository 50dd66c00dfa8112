//! The state that roles are decided on: read whole, decided in memory, and what changed written
//! back.
//!
//! Rows are validated here, so that bad data is an error of one group and never a panic or a wrong
//! decision.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::columns::RowPlace;
use super::registrant::Registrant;
use crate::arbitration::{Group, Handover, HistoryId, Instant, Role, Term, Transition, Vacancy, Wished};
use crate::ids::GroupKey;

pub use super::witness::Witness;
pub use load::{call_witness, load, load_before, load_by_places, load_in_part};
pub use places::{RowPlaces, Sought};
pub use save::save;
pub use wishes::Wisher;

mod load;
mod places;
mod save;
mod wishes;

/// A group as a transaction found it, and what it has done to it since.
#[derive(Debug)]
pub struct StoredGroup {
    /// Its key.
    pub key: GroupKey,
    /// The state that is decided on. Changes to it are written by [`save`].
    pub group: Group,
    /// The ids of the sessions, in the order of [`Group::sessions`].
    pub session_ids: Vec<String>,
    /// Who registered each of them, where that was noted.
    registrants: Vec<Option<Box<str>>>,
    /// What their latest heartbeats are followed by, in the same order.
    pub noted: Vec<Noted>,
    /// The changes of roles, in order.
    pub trace: Vec<Transition>,
    /// Heartbeats to be written, by session: the latest counts.
    pub received: BTreeMap<usize, ReportedTimes>,
    /// Who asked for what is done to its wishes, where somebody did.
    pub wisher: Option<Wisher>,
    /// Whether it has sessions that were not read.
    is_part: bool,
    /// Whether its rows were found where this replica had left them.
    stayed: bool,
    /// The term of which its row says that its Primary has settled.
    settled_term: Option<Term>,
    found: Found,
}

/// What a heartbeat said that arbitration does not need, kept to be shown.
#[derive(Clone, Copy, Debug)]
pub struct ReportedTimes {
    /// When the client sent it, by its own clock.
    pub heartbeat_time: DateTime<Utc>,
    /// The time of the last data it sent, uncut.
    pub last_data_send_time: Option<DateTime<Utc>>,
}

/// What is noted of a session's latest heartbeat beside what roles are decided on, for the next one
/// to be compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The time of the last data that it said.
    pub data_sent_until: Option<Instant>,
    /// How it came.
    pub rhythm: Rhythm,
}

/// How a session's heartbeats come, and whether its data moves: computed from one to the next, and
/// kept with the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rhythm {
    /// For how long it has said the data that it says while it was Primary, in milliseconds; `None`
    /// while it never said any.
    pub data_still_ms: Option<i32>,
    /// How long after the one before the latest came, in thousandths of the timeout; 0 where that
    /// says nothing.
    pub interval_permille: i32,
    /// How many of the latest came late: one digit.
    pub late_in_a_row: i32,
    /// How much they look like those of two clients with one id: two digits.
    pub signs_of_two: i32,
}

impl Rhythm {
    /// The longest interval that there is room for.
    pub const MAX_PERMILLE: i64 = 1_000_000;

    /// The last three as one number: a column less in every heartbeat.
    fn packed(self) -> i32 {
        self.interval_permille * 1_000 + self.late_in_a_row * 100 + self.signs_of_two
    }

    /// From what is stored.
    pub(super) fn unpacked(packed: i32, data_still_ms: Option<i32>) -> Rhythm {
        Rhythm {
            data_still_ms,
            interval_permille: packed / 1_000,
            late_in_a_row: packed / 100 % 10,
            signs_of_two: packed % 100,
        }
    }
}

/// What was there before, to tell what changed.
#[derive(Debug)]
struct Found {
    term: Term,
    vacancy: Vacancy,
    handover: Option<Handover>,
    watermark_base: Option<Instant>,
    history: HistoryId,
    in_doubt_until: Option<Instant>,
    roles: Vec<Role>,
    /// Whether the group's row says that something is wished of its sessions, and what is.
    has_wishes: bool,
    wishes: Vec<Option<Wished>>,
    settled_term: Option<Term>,
    /// Where the group's row lies, and each session's.
    row: Option<RowPlace>,
    sessions: Vec<Option<RowPlace>>,
    /// Where each session's heartbeat lies, if it has one: as it was found, or was written since.
    heartbeats: Vec<Option<RowPlace>>,
}

/// Who made a change.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// A client's heartbeat.
    Heartbeat,
    /// The background sweep.
    Sweep,
    /// A request that is not a heartbeat: a deletion.
    Operator,
}

impl StoredGroup {
    /// The place of a session in the group.
    pub fn find_session(&self, id: &str) -> Option<usize> {
        self.session_ids.iter().position(|known| known == id)
    }

    /// Who registered session `s`, as somebody sees it who asks.
    pub fn registrant(&self, s: usize, identity: &str) -> Registrant {
        Registrant::seen_by(self.registrants[s].as_deref(), identity)
    }

    fn wish(&self, s: usize) -> Option<Wished> {
        self.group.sessions[s].wish
    }

    /// Whether what is wished of its sessions is something else than what was found.
    pub fn has_other_wishes(&self) -> bool {
        (0..self.found.wishes.len()).any(|s| self.found.wishes[s] != self.wish(s))
    }

    /// Whether a heartbeat can be decided without those sessions that are neither its own nor
    /// Primary: nobody is PendingPrimary, and the base of the watermark stands for what they sent.
    /// Only a Primary's word of what it sent counts, so that does not change during a term.
    fn is_settled(&self) -> bool {
        self.settled_term == Some(self.group.term)
    }

    /// Notes whether the Primary has settled, where all of the group was read. Of a part nothing
    /// was changed that this depends on.
    fn settle(&mut self) {
        if self.is_part {
            return;
        }
        let (primary, pending) = (self.group.holder(Role::Primary), self.group.holder(Role::PendingPrimary));
        let Some(primary) = primary.filter(|_| pending.is_none()) else {
            self.settled_term = None;
            return;
        };
        if !self.is_settled() {
            let others = self.group.sessions.iter().enumerate().filter(|(s, _)| *s != primary);
            let sent = others.map(|(_, session)| session.sent_until);
            self.group.watermark_base = sent.fold(self.group.watermark_base, Option::max);
            self.settled_term = Some(self.group.term);
        }
    }

    /// What its row has to say. Of a group that was read in part all are read of whom something is
    /// wished.
    fn has_wishes(&self) -> bool {
        self.group.sessions.iter().any(|session| session.wish.is_some())
    }

    fn shared_changed(&self) -> bool {
        self.has_wishes() != self.found.has_wishes
            || self.settled_term != self.found.settled_term
            || self.group.term != self.found.term
            || self.group.vacancy != self.found.vacancy
            || self.group.handover != self.found.handover
            || self.group.watermark_base != self.found.watermark_base
            || self.group.history != self.found.history
            || self.group.in_doubt_until != self.found.in_doubt_until
    }
}

/// What [`load`] found for one key: nothing, a group, or one whose rows break a rule.
pub type Loaded = Option<Result<StoredGroup, String>>;

pub(super) fn vacancy_text(vacancy: Vacancy) -> &'static str {
    match vacancy {
        Vacancy::NeverHeld => "never_held",
        Vacancy::Lapsed => "lapsed",
        Vacancy::Yielded => "yielded",
        Vacancy::Deleted => "deleted",
    }
}

fn vacancy_from(text: &str) -> Option<Vacancy> {
    [Vacancy::NeverHeld, Vacancy::Lapsed, Vacancy::Yielded, Vacancy::Deleted]
        .into_iter()
        .find(|vacancy| vacancy_text(*vacancy) == text)
}
