//! Whether this replica's heartbeat transactions take turns with those of others: while they keep
//! meeting them.
//!
//! A lone replica, or one whose groups are its own, never waits for a turn, which costs a message
//! to the database.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Two conflicts within this time are a habit, if that is more than one for so many transactions:
/// to do that many again costs about what waiting for turns does.
const HALF: Duration = Duration::from_secs(1);
const HABIT: f64 = 1.5;
const WORTH_IT: f64 = 8.0;

/// A wait up to this is the message's way to the database and back. On a busy machine that takes
/// longer now and then.
const OF_NO_ACCOUNT: Duration = Duration::from_millis(5);

/// For how long turns are taken then. It begins anew if one in so many was waited for.
const SPELL: Duration = Duration::from_secs(10);
const WAITED_FOR: u32 = 8;

/// For how long none are, after one was waited for in vain: whoever has it may be paused, and is
/// ended by the server.
const REST: Duration = Duration::from_secs(2);

/// Shared by the writers of a replica.
#[derive(Default)]
pub struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    /// Batches and conflicts up to this time. One that is so long ago counts half.
    counted_until: Option<Instant>,
    written: f64,
    conflicts: f64,
    taken_until: Option<Instant>,
    not_before: Option<Instant>,
    /// How many were taken in this spell, and how many of them were waited for.
    taken: u32,
    waited_for: u32,
}

impl Turns {
    /// Whether a transaction that begins now is to wait for its turn.
    pub fn are_taken(&self) -> bool {
        self.with(State::are_taken)
    }

    /// Notes that a batch was written, and how often it met others on the way.
    pub fn note_written(&self, conflicts: u32) {
        self.with(|state, now| state.note_written(conflicts, now));
    }

    /// Notes how long a turn was waited for: while others take them too, there is reason to go on.
    pub fn note_wait(&self, waited: Duration) {
        self.with(|state, _| {
            state.taken += 1;
            state.waited_for += u32::from(waited > OF_NO_ACCOUNT);
        });
    }

    /// Notes that a turn was waited for in vain.
    pub fn note_vain_wait(&self) {
        self.with(|state, now| state.not_before = Some(now + REST));
    }

    fn with<T>(&self, look: impl FnOnce(&mut State, Instant) -> T) -> T {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }
}

impl State {
    fn note_written(&mut self, conflicts: u32, now: Instant) {
        let since = self.counted_until.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let left = 0.5_f64.powf(since.as_secs_f64() / HALF.as_secs_f64());
        self.written = self.written * left + 1.0;
        self.conflicts = self.conflicts * left + f64::from(conflicts);
        if conflicts > 0 && self.conflicts > HABIT && self.conflicts * WORTH_IT > self.written {
            self.begin_spell(now);
        }
    }

    fn begin_spell(&mut self, now: Instant) {
        (self.taken_until, self.taken, self.waited_for) = (Some(now + SPELL), 0, 0);
    }

    fn are_taken(&mut self, now: Instant) -> bool {
        let Some(until) = self.taken_until else { return false };
        if now >= until {
            if self.waited_for * WAITED_FOR < self.taken.max(1) {
                self.taken_until = None;
                return false;
            }
            self.begin_spell(now);
        }
        self.not_before.is_none_or(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conflict_is_no_habit_and_two_are() {
        let turns = Turns::default();
        turns.note_written(0);
        turns.note_written(1);
        assert!(!turns.are_taken());
        turns.note_written(1);
        assert!(turns.are_taken());
    }

    #[test]
    fn few_conflicts_among_many_transactions_are_none_either() {
        let mut now = Instant::now();
        for (one_in, are_taken) in [(20, false), (5, true)] {
            let mut state = State::default();
            // Not the first of all, for which two would be many.
            for number in 1..=1_000 {
                now += Duration::from_millis(10);
                state.note_written(u32::from(number % one_in == 0), now);
            }
            assert_eq!(state.are_taken(now), are_taken, "one conflict in {one_in} transactions");
        }
    }

    #[test]
    fn who_waited_in_vain_goes_on_without() {
        let turns = Turns::default();
        turns.note_written(2);
        assert!(turns.are_taken());
        turns.note_vain_wait();
        assert!(!turns.are_taken());
    }

    #[test]
    fn they_go_on_while_others_take_them_too_and_not_because_of_a_slow_message() {
        for (waits, go_on) in [(1, false), (20, true)] {
            let now = Instant::now();
            let mut state = State { taken: 100, waited_for: waits, taken_until: Some(now), ..State::default() };
            assert_eq!(state.are_taken(now), go_on, "{waits} of 100 were waited for");
            assert!(!go_on || state.taken == 0, "a new spell");
            assert!(!state.are_taken(now + SPELL));
        }
    }
}
