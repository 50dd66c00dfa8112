//! What is shown of decisions: what is true of a session at a moment, whether or not anybody has
//! come by to write it down, and the names of reasons.

use super::{Instant, Moment, Reason, Role, lease_end};

impl Reason {
    /// All of them, each at the place of its number.
    pub const ALL: [Reason; 10] = [
        Reason::FirstHeartbeat,
        Reason::LeaseLapsed,
        Reason::Healthier,
        Reason::Yielded,
        Reason::HandoverCompleted,
        Reason::Recovered,
        Reason::SessionDeleted,
        Reason::Superseded,
        Reason::Override,
        Reason::OverrideEnded,
    ];

    /// The name that rows, events, metrics and the log have for it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::FirstHeartbeat => "first_heartbeat",
            Reason::LeaseLapsed => "lease_lapsed",
            Reason::Healthier => "healthier",
            Reason::Yielded => "yielded",
            Reason::HandoverCompleted => "handover_completed",
            Reason::Recovered => "recovered",
            Reason::SessionDeleted => "session_deleted",
            Reason::Superseded => "superseded",
            Reason::Override => "override",
            Reason::OverrideEnded => "override_ended",
        }
    }
}

/// The lease that a heartbeat gave, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When the heartbeat came.
    pub received_at: Instant,
    /// The end of the lease, before any extension by an outage.
    pub until: Instant,
}

/// What is true of a session at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrueNow {
    /// Its role.
    pub role: Role,
    /// How long its lease still lasts, in microseconds; 0 once it has run out, or where there is
    /// none.
    pub lease_left_us: i64,
}

impl TrueNow {
    /// Whether its lease has not run out.
    pub fn is_live(self) -> bool {
        self.lease_left_us > 0
    }
}

/// What is true of a session with that stored role: who has no lease that still runs is Secondary.
///
/// The views of the database (`session_status`, `group_status`) say the same of their rows, and a
/// test holds them equal.
pub fn true_now(stored: Role, lease: Option<Lease>, at: Moment<'_>) -> TrueNow {
    let ends = lease.map(|lease| lease_end(lease.received_at, lease.until, at.outages));
    let lease_left_us = ends.map_or(0, |ends| ends.0.saturating_sub(at.now.0).max(0));
    let role = if lease_left_us > 0 { stored } else { Role::Secondary };
    TrueNow { role, lease_left_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitration::Outage;

    #[test]
    fn a_role_is_held_until_its_lease_ends_and_not_at_its_end() {
        let lease = Some(Lease { received_at: Instant(0), until: Instant(1_000) });
        let role_at = |now, outages: &[Outage]| {
            let at = Moment { now: Instant(now), outages, history: None };
            let now = true_now(Role::Primary, lease, at);
            (now.role, now.is_live())
        };
        assert_eq!(role_at(999, &[]), (Role::Primary, true));
        assert_eq!(role_at(1_000, &[]), (Role::Secondary, false));
        // An outage gives a lease that it has hit its whole time again.
        let outage = Outage { began_at: Instant(500), recovered_at: Instant(2_000), gap_us: 100, clock_step_us: 0 };
        let outages = [outage];
        assert_eq!(role_at(2_999, &outages), (Role::Primary, true));
        assert_eq!(role_at(3_000, &outages), (Role::Secondary, false));
    }

    #[test]
    fn every_reason_is_at_the_place_of_its_number() {
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
    }

    #[test]
    fn who_has_sent_no_heartbeat_is_secondary() {
        let at = Moment { now: Instant(0), outages: &[], history: None };
        assert_eq!(true_now(Role::Primary, None, at), TrueNow { role: Role::Secondary, lease_left_us: 0 });
    }
}
