//! What happened, and whether it is what the service promises. Pure.

use std::fmt;
use std::time::Duration;

use client_failover_client::MachineTime;

use super::in_seconds;

/// By how many failover timeouts after the last heartbeat of a Primary the next one acts: one until
/// its lease has run out, and a half until the next heartbeat of an adapter that stands by.
const TAKEOVER_TIMEOUTS: f64 = 1.5;
/// What is added for processes that were not scheduled at once and for messages on their way.
pub const TOLERANCE: Duration = Duration::from_millis(500);

/// Why an adapter stopped acting as Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its process was killed.
    Killed,
    /// It was told to stop, for another adapter.
    HandedOver,
    /// Its lease ran out.
    LeaseRanOut,
    /// Something else: a new grant to the same adapter, or a session that was deleted.
    Other,
    /// The demo was over.
    DemoEnded,
}

/// A time in which one adapter acted as Primary, by its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stint {
    /// Which adapter.
    pub adapter: usize,
    /// The first instant.
    pub from: MachineTime,
    /// The end; not in it any more.
    pub until: MachineTime,
    /// The term.
    pub term: Option<i64>,
    /// Why it ended.
    pub ending: Ending,
    /// When the adapter sent its last heartbeat as Primary.
    pub last_heartbeat_at: MachineTime,
    /// When its last lease ran out, or would have.
    pub lease_until: MachineTime,
}

/// A time in which something was so with one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which adapter.
    pub adapter: usize,
    /// The first instant.
    pub from: MachineTime,
    /// The end.
    pub until: MachineTime,
}

/// All that the verdict and the timeline rest on.
#[derive(Clone, Debug)]
pub struct Record {
    /// The adapters' names.
    pub names: Vec<String>,
    /// The group's failover timeout.
    pub timeout: Duration,
    /// The first instant of the demo.
    pub start: MachineTime,
    /// The last.
    pub end: MachineTime,
    /// Who acted, in the order of beginning.
    pub stints: Vec<Stint>,
    /// Who was PendingPrimary.
    pub pending: Vec<Span>,
    /// Whose process ran.
    pub running: Vec<Span>,
    /// Which processes were killed, and when.
    pub kills: Vec<(usize, MachineTime)>,
    /// Whose health was made to fall, and when.
    pub health_drops: Vec<(usize, MachineTime)>,
}

/// A change of Primary from one adapter to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The time in which the one before acted.
    pub before: Stint,
    /// The time in which the next one acts.
    pub after: Stint,
}

impl Takeover {
    /// From the last heartbeat of the one before until the next one acts: what the promise is
    /// about.
    pub fn since_last_heartbeat(&self) -> Duration {
        self.after.from.since(self.before.last_heartbeat_at)
    }

    /// For how long nobody acted.
    pub fn gap(&self) -> Duration {
        self.after.from.since(self.before.until)
    }

    /// From the end of the lease of the one before until the next one acts.
    pub fn since_lapse(&self) -> Duration {
        self.after.from.since(self.before.lease_until)
    }
}

/// Two adapters that acted as Primary at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// For how long.
    pub length: Duration,
}

/// How the promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Two adapters acted at the same instant.
    Overlap {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// For how long.
        length: Duration,
    },
    /// A takeover took too long.
    Late {
        /// Who had acted.
        before: String,
        /// Who acted next.
        after: String,
        /// How long after the last heartbeat of the one before.
        took: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// A term did not follow the one before.
    Term {
        /// To whom it was granted.
        adapter: String,
        /// The term, if the service told it.
        found: Option<i64>,
        /// The term that was due.
        due: i64,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Overlap { first, second, length } => {
                let micros = length.as_micros();
                write!(f, "{first} and {second} acted as Primary at the same time, for {micros} µs")
            }
            Breach::Late { before, after, took, limit } => write!(
                f,
                "{after} acted {} after the last heartbeat of {before}, later than the {} that are allowed",
                in_seconds(*took),
                in_seconds(*limit)
            ),
            Breach::Term { adapter, found: Some(found), due } => {
                write!(f, "{adapter} was granted Primary in term {found}, where {due} was due")
            }
            Breach::Term { adapter, found: None, due } => {
                write!(f, "the service did not tell {adapter} the term, where {due} was due")
            }
        }
    }
}

impl Record {
    /// Every pair of times in which two different adapters acted at the same instant.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        for (i, one) in self.stints.iter().enumerate() {
            for other in self.stints[i + 1..].iter().filter(|other| other.adapter != one.adapter) {
                let from = one.from.max(other.from);
                let until = one.until.min(other.until);
                if from < until {
                    let length = until.since(from);
                    overlaps.push(Overlap { first: one.adapter, second: other.adapter, length });
                }
            }
        }
        overlaps
    }

    /// Every change of Primary from one adapter to another.
    pub fn takeovers(&self) -> Vec<Takeover> {
        let pairs = self.stints.windows(2).map(|pair| Takeover { before: pair[0], after: pair[1] });
        pairs.filter(|takeover| takeover.before.adapter != takeover.after.adapter).collect()
    }

    /// How long a takeover may take after the last heartbeat, by the promise alone.
    pub fn promised(&self) -> Duration {
        self.timeout.mul_f64(TAKEOVER_TIMEOUTS)
    }

    /// Everything in which the promise was broken.
    pub fn breaches(&self) -> Vec<Breach> {
        let name = |adapter: usize| self.names[adapter].clone();
        let mut breaches = Vec::new();
        for overlap in self.overlaps() {
            let (first, second) = (name(overlap.first), name(overlap.second));
            breaches.push(Breach::Overlap { first, second, length: overlap.length });
        }
        let limit = self.promised() + TOLERANCE;
        for takeover in self.takeovers() {
            let took = takeover.since_last_heartbeat();
            if took > limit {
                let (before, after) = (name(takeover.before.adapter), name(takeover.after.adapter));
                breaches.push(Breach::Late { before, after, took, limit });
            }
        }
        // The group is new, so its first term is 1.
        let mut due = 1;
        for stint in &self.stints {
            if stint.term != Some(due) {
                breaches.push(Breach::Term { adapter: name(stint.adapter), found: stint.term, due });
            }
            due = stint.term.unwrap_or(due) + 1;
        }
        breaches
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn at(ms: i64) -> MachineTime {
        MachineTime(ms * 1_000)
    }

    pub fn stint(adapter: usize, from_ms: i64, until_ms: i64, term: i64) -> Stint {
        Stint {
            adapter,
            from: at(from_ms),
            until: at(until_ms),
            term: Some(term),
            ending: Ending::Killed,
            last_heartbeat_at: at(until_ms - 500),
            lease_until: at(until_ms + 1_500),
        }
    }

    pub fn record(stints: Vec<Stint>) -> Record {
        Record {
            names: vec!["A".to_owned(), "B".to_owned(), "C".to_owned()],
            timeout: Duration::from_secs(2),
            start: at(0),
            end: at(10_000),
            stints,
            pending: Vec::new(),
            running: Vec::new(),
            kills: Vec::new(),
            health_drops: Vec::new(),
        }
    }

    #[test]
    fn two_adapters_that_act_at_the_same_time_overlap_for_the_common_part() {
        let record = record(vec![stint(0, 0, 3_000, 1), stint(1, 2_400, 5_000, 2)]);
        let length = Duration::from_millis(600);
        assert_eq!(record.overlaps(), [Overlap { first: 0, second: 1, length }]);
    }

    #[test]
    fn one_within_the_other_overlaps_too() {
        let record = record(vec![stint(0, 0, 9_000, 1), stint(2, 2_000, 2_001, 2)]);
        let length = Duration::from_millis(1);
        assert_eq!(record.overlaps(), [Overlap { first: 0, second: 2, length }]);
    }

    #[test]
    fn acting_from_the_very_end_of_the_other_on_is_no_overlap() {
        let record = record(vec![stint(0, 0, 3_000, 1), stint(1, 3_000, 5_000, 2)]);
        assert_eq!(record.overlaps(), []);
    }

    #[test]
    fn an_adapter_does_not_overlap_with_itself() {
        let record = record(vec![stint(0, 0, 3_000, 1), stint(0, 2_000, 5_000, 2)]);
        assert_eq!(record.overlaps(), []);
    }

    #[test]
    fn overlaps_are_found_between_all_and_not_only_neighbours() {
        let record = record(vec![stint(0, 0, 9_000, 1), stint(0, 9_000, 9_500, 2), stint(1, 4_000, 5_000, 3)]);
        assert_eq!(record.overlaps().len(), 1);
    }

    #[test]
    fn the_promise_holds_for_takeovers_in_time_with_rising_terms() {
        let record = record(vec![stint(0, 0, 3_000, 1), stint(1, 5_900, 8_000, 2)]);
        assert_eq!(record.breaches(), []);
    }

    #[test]
    fn a_takeover_beyond_one_and_a_half_timeouts_and_the_tolerance_is_a_breach() {
        let record = record(vec![stint(0, 0, 3_000, 1), stint(1, 6_001, 8_000, 2)]);
        assert!(matches!(record.breaches()[..], [Breach::Late { .. }]));
    }

    #[test]
    fn a_term_that_is_skipped_repeated_or_missing_is_a_breach() {
        let breaches =
            |term| record(vec![stint(0, 0, 3_000, 1), Stint { term, ..stint(1, 5_000, 6_000, 2) }]).breaches();
        assert_eq!(breaches(Some(2)), []);
        for term in [Some(3), Some(1), None] {
            let breach = Breach::Term { adapter: "B".to_owned(), found: term, due: 2 };
            assert_eq!(breaches(term), [breach]);
        }
    }
}
