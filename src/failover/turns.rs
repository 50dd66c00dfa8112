//! Whether this replica's heartbeat transactions take turns with those of others: while they keep
//! meeting them.
//!
//! A lone replica, or one whose groups are its own, never waits for a turn, which costs a message
//! to the database.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Two conflicts within this time are a habit.
const HABIT: Duration = Duration::from_secs(1);

/// A wait up to this is the message's way to the database and back.
const OF_NO_ACCOUNT: Duration = Duration::from_millis(5);

/// For how long turns are taken then.
const SPELL: Duration = Duration::from_secs(10);

/// For how long none are, after one was waited for in vain: whoever has it may be paused, and is
/// ended by the server.
const REST: Duration = Duration::from_secs(2);

/// Shared by the writers of a replica.
#[derive(Default)]
pub struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    met_at: Option<Instant>,
    taken_until: Option<Instant>,
    not_before: Option<Instant>,
}

impl Turns {
    /// Whether a transaction that begins now is to wait for its turn.
    pub fn are_taken(&self) -> bool {
        self.with(|state, now| {
            state.taken_until.is_some_and(|until| now < until) && state.not_before.is_none_or(|at| now >= at)
        })
    }

    /// Notes how often transactions met others since this was last said.
    pub fn note_conflicts(&self, count: u32) {
        if count == 0 {
            return;
        }
        self.with(|state, now| {
            if count > 1 || state.met_at.is_some_and(|at| now.saturating_duration_since(at) < HABIT) {
                state.taken_until = Some(now + SPELL);
            }
            state.met_at = Some(now);
        });
    }

    /// Notes how long a turn was waited for: while others take them too, there is reason to go on.
    pub fn note_wait(&self, waited: Duration) {
        if waited > OF_NO_ACCOUNT {
            self.with(|state, now| state.taken_until = Some(now + SPELL));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conflict_is_no_habit_and_two_are() {
        let turns = Turns::default();
        turns.note_conflicts(0);
        turns.note_conflicts(1);
        assert!(!turns.are_taken());
        turns.note_conflicts(1);
        assert!(turns.are_taken());
    }

    #[test]
    fn who_waited_in_vain_goes_on_without() {
        let turns = Turns::default();
        turns.note_conflicts(2);
        assert!(turns.are_taken());
        turns.note_vain_wait();
        assert!(!turns.are_taken());
    }
}
