//! What a replica knows of the life of its database.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::clock_watch::ClockWatch;
use super::histories::Remembered;
use super::options::StoreOptions;

/// The shortest silence that is recorded. Groups with a short timeout are hurt by outages that
/// others do not notice: one counts for a lease from a quarter of the time that it was given for.
pub const SHORTEST_OUTAGE: Duration = Duration::from_millis(250);

/// So many of the latest commits tell how long one takes: the shortest of them does. One that hung
/// is no rule.
pub(super) const COMMITS: usize = 3;

/// What a replica knows of the life of its database.
#[derive(Debug, Default)]
pub struct Life {
    pub(super) known: Mutex<Known>,
    /// One sign at a time: whoever waits for it finds it given.
    pub(super) noting: tokio::sync::Mutex<()>,
    /// Whether the last sign that was asked for may be on one server alone, where others are waited
    /// for.
    pub(super) is_sign_uncertain: AtomicBool,
    /// How often this replica went over into another history.
    epoch: AtomicU64,
    /// The highest id of an event and the highest term that it knows of, given out in whatever
    /// history.
    pub(super) newest_event: AtomicI64,
    pub(super) highest_term: AtomicI64,
    /// Where groups are spread: whether each node was as it was noted when it was last decided on.
    knows_nodes: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) clock: ClockWatch,
    pub(super) commits: [Duration; COMMITS],
    /// When the last sign of life is known to have been committed, and what it noted.
    pub(super) noted: Option<(Instant, DateTime<Utc>)>,
    /// Why none could be since.
    pub(super) failed: Option<String>,
    /// The history that this replica works in.
    remembered: Option<Remembered>,
}

impl Life {
    /// How old the last sign of life may be for a decision to be made on it.
    ///
    /// It cannot be younger than its own commit takes. Where every commit takes long, and comes,
    /// the service is slow and not away; a commit that hangs where others took a moment is a
    /// silence.
    pub fn longest_silence(&self, options: &StoreOptions) -> Duration {
        options.outage_gap.min(SHORTEST_OUTAGE + 2 * self.commit_time())
    }

    /// Whether a clock that has just been read is ahead of the time that passed, so that leases
    /// would end early by it.
    pub fn is_ahead(&self, now: DateTime<Utc>) -> bool {
        self.known().clock.is_ahead(now.timestamp_micros(), Instant::now())
    }

    /// How long ago the last sign of life was given that this replica knows of.
    pub fn age(&self) -> Option<Duration> {
        self.known().noted.map(|(at, _)| at.elapsed())
    }

    /// The identity of the history of the database that this replica works in; `None` before the
    /// first sign of life.
    pub fn history(&self) -> Option<Uuid> {
        self.remembered().map(|remembered| remembered.history)
    }

    /// Rises when this replica goes over into another history. What was begun before is done again,
    /// on other connections.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// An event of that id was given out: no other history gives it out again.
    pub fn note_event(&self, id: i64) {
        self.newest_event.fetch_max(id, Ordering::AcqRel);
    }

    /// A term that high may be given: no other history gives it again.
    pub fn note_term(&self, term: i64) {
        self.highest_term.fetch_max(term, Ordering::AcqRel);
    }

    /// A node is another than noted: the next sign of life looks at all of them.
    pub(super) fn question_nodes(&self) {
        self.knows_nodes.store(false, Ordering::Release);
    }

    /// Whether nodes are to be looked at; true once each time. Whoever meets another one while they
    /// are has them looked at again.
    pub(super) fn takes_question_of_nodes(&self) -> bool {
        !self.knows_nodes.swap(true, Ordering::AcqRel)
    }

    pub(super) fn remembered(&self) -> Option<Remembered> {
        self.known().remembered
    }

    /// Goes by what a sign of life has said of the history that it was given in, and of how many
    /// there have been in it; whether that is another history than before.
    pub(super) fn enter(&self, history: Uuid, signs: i64) -> bool {
        let mut known = self.known();
        let before = known.remembered;
        let same = before.filter(|before| before.history == history);
        known.remembered = Some(match same {
            Some(same) => Remembered { signs: same.signs.max(signs), ..same },
            None => Remembered { history, signs, since: Instant::now() },
        });
        let is_another = before.is_some() && same.is_none();
        if is_another {
            // Within the lock: whoever sees the new history sees that what was begun before is to
            // be done again.
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        is_another
    }

    pub(super) fn commit_time(&self) -> Duration {
        self.known().commits.iter().min().copied().unwrap_or_default()
    }

    pub(super) fn noted_since(&self, instant: Instant) -> Option<DateTime<Utc>> {
        self.known().noted.and_then(|(at, noted)| (at >= instant).then_some(noted))
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
