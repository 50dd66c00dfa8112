//! The database's clock beside this replica's monotonic one: how a clock that was set forward is
//! told from time that passed.
//!
//! A step forward ends leases early, whatever its size, so no decision of this replica is made on a
//! reading that is ahead. A step back ends none, and the database notices it by itself: its last
//! sign of life is then in the future.

use std::time::{Duration, Instant};

/// A lead up to this is no step: what is lost by it is no more than a message is under way.
const OF_NO_ACCOUNT_US: i64 = 10_000;

/// Two clocks that nobody sets run apart by less than one part in so many.
const DRIFT: i64 = 1_000;

/// How long the clocks are compared from one reading on. The longer, the more of a drift is allowed
/// for.
const SPELL: Duration = Duration::from_secs(10);

/// A reading that took longer to come is no beginning of a spell: when within that time it was made
/// is not known.
const PROMPT: Duration = Duration::from_millis(20);

/// A spell ends then, whatever the readings.
const LONGEST_SPELL: Duration = Duration::from_secs(60);

/// A reading of the database's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// What it said, in microseconds since 1970.
    pub(super) clock_us: i64,
    /// It was read after this,
    pub(super) asked: Instant,
    /// and before this.
    pub(super) answered: Instant,
}

/// A step forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The last reading before it.
    pub(super) compared_at_us: i64,
    /// By how much the clock is ahead at least,
    pub(super) min_us: i64,
    /// and at most.
    pub(super) max_us: i64,
}

/// What the clock was compared with.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// What the spell began with, and the latest.
    readings: Option<(Reading, Reading)>,
}

impl ClockWatch {
    /// Whether nothing may be decided by a clock that was read before `answered`: it is clearly
    /// ahead of the time that has passed. Never before the first reading.
    pub(super) fn is_ahead(&self, clock_us: i64, answered: Instant) -> bool {
        // Twice as much as shows a step, so that the reading that is made then shows one.
        self.readings.is_some_and(|(first, _)| least_lead_us(first, clock_us, answered) > 2 * OF_NO_ACCOUNT_US)
    }

    /// The step that shows in this reading, if one does. It shows until the reading is taken in.
    pub(super) fn step_in(&self, reading: Reading) -> Option<Step> {
        let (first, latest) = self.readings?;
        let min_us = least_lead_us(first, reading.clock_us, reading.answered);
        // At most: from after the one reading to before the other.
        let passed_us = micros(reading.asked.saturating_duration_since(first.answered));
        let max_us = reading.clock_us.saturating_sub(first.clock_us).saturating_sub(passed_us);
        (min_us > OF_NO_ACCOUNT_US).then_some(Step { compared_at_us: latest.clock_us, min_us, max_us })
    }

    /// Takes a reading in that has been judged.
    pub(super) fn take_in(&mut self, reading: Reading) {
        let first = match self.readings {
            Some((first, _)) if !self.begins_anew(first, reading) => first,
            _ => reading,
        };
        self.readings = Some((first, reading));
    }

    fn begins_anew(&self, first: Reading, reading: Reading) -> bool {
        let min_us = micros(reading.asked.saturating_duration_since(first.answered));
        let is_behind = reading.clock_us.saturating_sub(first.clock_us) < min_us - min_us / DRIFT - OF_NO_ACCOUNT_US;
        let age = reading.answered.saturating_duration_since(first.answered);
        let is_prompt = reading.answered.saturating_duration_since(reading.asked) <= PROMPT;
        is_behind || self.step_in(reading).is_some() || age >= LONGEST_SPELL || (age >= SPELL && is_prompt)
    }
}

/// By how much the clock is ahead for certain: it was read after the one reading was asked for and
/// before `answered`.
fn least_lead_us(first: Reading, clock_us: i64, answered: Instant) -> i64 {
    let passed_us = micros(answered.saturating_duration_since(first.asked));
    clock_us.saturating_sub(first.clock_us).saturating_sub(passed_us).saturating_sub(passed_us / DRIFT)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000;

    /// A watch and its two clocks, of which the one is set and the other not.
    struct Clocks {
        watch: ClockWatch,
        begin: Instant,
        passed_ms: u64,
        set_by_ms: i64,
    }

    impl Clocks {
        fn new() -> Clocks {
            let mut clocks = Clocks { watch: ClockWatch::default(), begin: Instant::now(), passed_ms: 0, set_by_ms: 0 };
            clocks.reads(1);
            clocks
        }

        /// The step in a reading that takes so long, and is made in the middle of that.
        fn reads(&mut self, takes_ms: u64) -> Option<Step> {
            let asked = self.begin + Duration::from_millis(self.passed_ms);
            self.passed_ms += takes_ms;
            let answered = self.begin + Duration::from_millis(self.passed_ms);
            let clock_us = (self.passed_ms - takes_ms / 2) as i64 * MS + self.set_by_ms * MS;
            let reading = Reading { clock_us, asked, answered };
            let step = self.watch.step_in(reading);
            assert!(step.is_some() || !self.watch.is_ahead(clock_us, answered), "who is told to look finds it");
            self.watch.take_in(reading);
            step
        }

        fn waits(&mut self, ms: u64) {
            self.passed_ms += ms;
        }
    }

    #[test]
    fn time_that_passes_is_no_step_however_long_an_answer_takes() {
        let mut clocks = Clocks::new();
        for takes_ms in [1, 40, 3_000, 1, 500] {
            clocks.waits(50);
            assert_eq!(clocks.reads(takes_ms), None);
        }
        clocks.waits(86_400_000);
        assert_eq!(clocks.reads(1), None);
    }

    #[test]
    fn a_step_forward_is_noticed_once_and_is_not_said_to_be_smaller_than_it_is() {
        let mut clocks = Clocks::new();
        clocks.waits(50);
        assert_eq!(clocks.reads(2), None);
        clocks.set_by_ms += 30;
        clocks.waits(50);
        let step = clocks.reads(2).expect("it is ahead");
        assert!((30 * MS..36 * MS).contains(&step.max_us), "{step:?}");
        assert_eq!(step.compared_at_us, 52 * MS, "the last reading before it");
        clocks.waits(50);
        assert_eq!(clocks.reads(2), None);
    }

    #[test]
    fn steps_too_small_to_notice_are_noticed_together() {
        let mut clocks = Clocks::new();
        let noticed = (0..20).filter(|_| {
            clocks.set_by_ms += 4;
            clocks.waits(50);
            clocks.reads(1).is_some()
        });
        assert!(noticed.count() >= 4, "80 ms in a second");
    }

    #[test]
    fn a_slow_drift_is_no_step() {
        let mut clocks = Clocks::new();
        for _ in 0..100 {
            clocks.set_by_ms += 1;
            clocks.waits(1_500);
            assert_eq!(clocks.reads(1), None);
        }
    }

    #[test]
    fn what_goes_back_and_forth_is_noticed_when_it_goes_forth() {
        let mut clocks = Clocks::new();
        clocks.set_by_ms -= 600_000;
        clocks.waits(50);
        assert_eq!(clocks.reads(1), None, "the database sees by itself that it went back");
        clocks.set_by_ms += 600_000;
        clocks.waits(50);
        let step = clocks.reads(1).expect("it is ahead");
        assert!((600_000 * MS..600_003 * MS).contains(&step.max_us), "{step:?}");
    }
}
