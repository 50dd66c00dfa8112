//! The trust rule: when a client that was answered "Primary" may act on it, and when no longer.
//!
//! Pure: instants in, decisions out. The lease is counted from the moment at which the heartbeat
//! was *sent*, on the client's own clock. The service counts it from the moment at which the
//! heartbeat arrived, which is later, so a client that keeps this rule has stopped before the
//! service gives the role to anybody else.

use std::time::Duration;

use client_failover_wire::Role;

use super::{Answer, MachineTime};

/// Which heartbeat an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatNumber(u64);

/// The right to act as Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// From this instant on there is no right any more.
    pub until: MachineTime,
    /// The term it was given for, if the service said so.
    pub term: Option<i64>,
}

/// Why a client stopped acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It was told another role.
    Demoted,
    /// Its lease ran out before a new one came.
    LeaseRanOut,
    /// The role was granted to it anew, for another term.
    NewTerm,
    /// The service does not know its session.
    Unknown,
}

/// That a client began or stopped to act as Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It acts from here on.
    Began {
        /// The first instant.
        at: MachineTime,
        /// The right to.
        lease: Right,
    },
    /// It acts no more from here on.
    Ended {
        /// The end.
        at: MachineTime,
        /// Why.
        why: Stop,
    },
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    number: HeartbeatNumber,
    sent_at: MachineTime,
}

/// What a client knows about its role.
#[derive(Clone, Debug)]
pub struct Trust {
    timeout: Duration,
    newest: Option<Newest>,
    told: Role,
    lease: Option<Right>,
}

impl Trust {
    /// A client that has heard nothing yet, in a group of this failover timeout.
    pub fn new(timeout: Duration) -> Trust {
        Trust { timeout, newest: None, told: Role::Secondary, lease: None }
    }

    /// Notes that a heartbeat leaves now. From here on, answers to earlier ones count for nothing.
    pub fn sent(&mut self, at: MachineTime) -> HeartbeatNumber {
        let number = HeartbeatNumber(self.newest.map_or(0, |newest| newest.number.0 + 1));
        self.newest = Some(Newest { number, sent_at: at });
        number
    }

    /// Takes the answer to a heartbeat.
    pub fn answered(&mut self, number: HeartbeatNumber, answer: &Answer, at: MachineTime) -> Vec<Change> {
        let mut changes = self.lapse(at);
        let Some(newest) = self.newest.filter(|newest| newest.number == number) else {
            return changes;
        };
        self.told = answer.role;
        let until = newest.sent_at.plus(answer.lease.unwrap_or(self.timeout));
        let given = (answer.role == Role::Primary && at < until).then_some(Right { until, term: answer.term });
        match (self.lease, given) {
            (None, None) => {}
            (None, Some(lease)) => changes.push(Change::Began { at, lease }),
            (Some(_), None) => changes.push(Change::Ended { at, why: Stop::Demoted }),
            (Some(before), Some(lease)) if before.term != lease.term => {
                changes.push(Change::Ended { at, why: Stop::NewTerm });
                changes.push(Change::Began { at, lease });
            }
            (Some(_), Some(_)) => {}
        }
        self.lease = given;
        changes
    }

    /// Takes the word that the service does not know the session: it holds no role there.
    pub fn unknown(&mut self, at: MachineTime) -> Vec<Change> {
        let mut changes = self.lapse(at);
        if self.lease.take().is_some() {
            changes.push(Change::Ended { at, why: Stop::Unknown });
        }
        self.told = Role::Secondary;
        changes
    }

    /// Stops acting if the lease has run out.
    pub fn lapse(&mut self, now: MachineTime) -> Vec<Change> {
        match self.lease {
            Some(lease) if now >= lease.until => {
                self.lease = None;
                self.told = Role::Secondary;
                vec![Change::Ended { at: lease.until, why: Stop::LeaseRanOut }]
            }
            _ => Vec::new(),
        }
    }

    /// The right to act at this instant, if there is one.
    pub fn lease(&self, now: MachineTime) -> Option<Right> {
        self.lease.filter(|lease| now < lease.until)
    }

    /// When the lease that is held runs out, unless it is renewed.
    pub fn held_until(&self) -> Option<MachineTime> {
        self.lease.map(|lease| lease.until)
    }

    /// The role that the client acts in at this instant.
    pub fn role(&self, now: MachineTime) -> Role {
        match (self.lease(now), self.told) {
            (Some(_), _) => Role::Primary,
            (None, Role::PendingPrimary) => Role::PendingPrimary,
            (None, _) => Role::Secondary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn at(ms: i64) -> MachineTime {
        MachineTime(ms * 1_000)
    }

    fn answer(role: Role, term: i64) -> Answer {
        Answer { role, term: Some(term), lease: None, timeout: None, data_sent_until: None }
    }

    #[test]
    fn the_lease_counts_from_the_sending_and_not_from_the_answer() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        trust.answered(number, &answer(Role::Primary, 1), at(500));
        assert_eq!(trust.role(at(1_999)), Role::Primary);
        assert_eq!(trust.role(at(2_000)), Role::Secondary);
    }

    #[test]
    fn the_service_s_lease_is_kept_where_it_names_one() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        let answer = Answer { lease: Some(Duration::from_millis(700)), ..answer(Role::Primary, 1) };
        trust.answered(number, &answer, at(10));
        assert_eq!(trust.lease(at(699)).map(|lease| lease.until), Some(at(700)));
        assert_eq!(trust.lease(at(700)), None);
    }

    #[test]
    fn an_answer_that_comes_after_its_own_lease_gives_nothing() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        assert_eq!(trust.answered(number, &answer(Role::Primary, 1), at(2_000)), []);
        assert_eq!(trust.role(at(2_000)), Role::Secondary);
    }

    #[test]
    fn the_answer_to_an_older_heartbeat_is_ignored() {
        let mut trust = Trust::new(TIMEOUT);
        let older = trust.sent(at(0));
        let newest = trust.sent(at(1_000));
        assert_eq!(trust.answered(newest, &answer(Role::Secondary, 1), at(1_010)), []);
        assert_eq!(trust.answered(older, &answer(Role::Primary, 1), at(1_020)), []);
        assert_eq!(trust.role(at(1_020)), Role::Secondary);
    }

    #[test]
    fn a_lost_heartbeat_leaves_the_lease_that_is_held() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        trust.answered(number, &answer(Role::Primary, 1), at(10));
        trust.sent(at(1_000));
        assert_eq!(trust.role(at(1_900)), Role::Primary);
        let ended = Change::Ended { at: at(2_000), why: Stop::LeaseRanOut };
        assert_eq!(trust.lapse(at(2_300)), [ended]);
    }

    #[test]
    fn a_renewal_is_no_change() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        assert_eq!(trust.answered(number, &answer(Role::Primary, 1), at(10)).len(), 1);
        let number = trust.sent(at(1_000));
        assert_eq!(trust.answered(number, &answer(Role::Primary, 1), at(1_010)), []);
        assert_eq!(trust.role(at(2_999)), Role::Primary);
    }

    #[test]
    fn a_demotion_ends_acting_at_once() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        trust.answered(number, &answer(Role::Primary, 1), at(10));
        let number = trust.sent(at(1_000));
        let ended = Change::Ended { at: at(1_010), why: Stop::Demoted };
        assert_eq!(trust.answered(number, &answer(Role::Secondary, 1), at(1_010)), [ended]);
        assert_eq!(trust.role(at(1_010)), Role::Secondary);
    }

    #[test]
    fn another_term_is_a_new_grant() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        trust.answered(number, &answer(Role::Primary, 1), at(10));
        let number = trust.sent(at(1_000));
        let changes = trust.answered(number, &answer(Role::Primary, 3), at(1_010));
        assert!(matches!(
            changes[..],
            [Change::Ended { why: Stop::NewTerm, .. }, Change::Began { lease: Right { term: Some(3), .. }, .. }]
        ));
    }

    #[test]
    fn a_session_that_the_service_has_forgotten_does_not_act() {
        let mut trust = Trust::new(TIMEOUT);
        let number = trust.sent(at(0));
        trust.answered(number, &answer(Role::Primary, 1), at(10));
        assert_eq!(trust.unknown(at(20)), [Change::Ended { at: at(20), why: Stop::Unknown }]);
        assert_eq!(trust.role(at(20)), Role::Secondary);
    }
}
