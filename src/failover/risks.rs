//! Why a group needs a look, and from when on.
//!
//! The view `group_risks` has the same rules for whoever looks with SQL, and texts elsewhere say
//! the thresholds in words: a test holds them equal.

use std::time::Duration;

/// Below this, in per cent, a Primary counts as unhealthy.
pub const UNHEALTHY_BELOW: f64 = 90.0;
/// A group flaps if Primary was granted so often within so long.
pub const FLAPPING_GRANTS: i64 = 4;
/// See [`FLAPPING_GRANTS`].
pub const FLAPPING_SPAN: Duration = Duration::from_secs(600);

/// Why a group needs a look, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// It has sessions, none is Primary, and no handover is under way that ends that.
    NoPrimary,
    /// Nobody could take over from its Primary.
    NoStandby,
    /// Its Primary is ill.
    PrimaryUnhealthy,
    /// Primary changes hands all the time.
    Flapping,
}

/// What the risks of a group are told by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// Registered sessions.
    pub(super) sessions: i64,
    /// How many of them are live.
    pub(super) live: i64,
    /// The health of its Primary, if it has one.
    pub(super) primary_health: Option<f64>,
    /// Whether the end of a handover is being waited for.
    pub(super) is_handing_over: bool,
    /// Whether Primary was granted as often of late.
    pub(super) is_flapping: bool,
}

/// The risks of a group, the most urgent first.
pub(super) fn risks(looked: Looked) -> Vec<Risk> {
    let Looked { sessions, live, primary_health, is_handing_over, is_flapping } = looked;
    let mut risks = Vec::new();
    match primary_health {
        // Planned, and over within the lease of the one before, who may act until it has heard of
        // it. Somebody has to be there to take over.
        None if is_handing_over && live > 0 => {}
        None if sessions > 0 => risks.push(Risk::NoPrimary),
        // A group that nobody has registered in is not in use.
        None => {}
        Some(health) => {
            if live < 2 {
                risks.push(Risk::NoStandby);
            }
            if health < UNHEALTHY_BELOW {
                risks.push(Risk::PrimaryUnhealthy);
            }
        }
    }
    if is_flapping {
        risks.push(Risk::Flapping);
    }
    risks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_at_risk_for_what_it_lacks() {
        for (sessions, live, primary_health, is_handing_over, is_flapping, expected) in [
            (0, 0, None, false, false, vec![]),
            (2, 0, None, false, false, vec![Risk::NoPrimary]),
            (2, 2, None, false, true, vec![Risk::NoPrimary, Risk::Flapping]),
            (2, 2, None, true, false, vec![]),
            (2, 1, None, true, true, vec![Risk::Flapping]),
            (2, 0, None, true, false, vec![Risk::NoPrimary]),
            (1, 1, Some(100.0), false, false, vec![Risk::NoStandby]),
            (2, 1, Some(50.0), false, false, vec![Risk::NoStandby, Risk::PrimaryUnhealthy]),
            (2, 2, Some(89.9), true, false, vec![Risk::PrimaryUnhealthy]),
            (2, 2, Some(90.0), false, false, vec![]),
            (3, 3, Some(100.0), false, true, vec![Risk::Flapping]),
        ] {
            let looked = Looked { sessions, live, primary_health, is_handing_over, is_flapping };
            assert_eq!(risks(looked), expected, "{looked:?}");
        }
    }
}
