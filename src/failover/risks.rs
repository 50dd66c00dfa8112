//! Why a group needs a look, and from when on.
//!
//! The view `group_risks` has the same rules for whoever looks with SQL, and texts elsewhere say
//! the thresholds in words: a test holds them equal.

use std::time::Duration;

use crate::arbitration::FailoverTimeout;
use crate::store::status::{Seen, SessionStatus};

/// Below this, in per cent, a Primary counts as unhealthy.
pub const UNHEALTHY_BELOW: f64 = 90.0;
/// A group flaps if Primary was granted so often within so long.
pub const FLAPPING_GRANTS: i64 = 4;
/// See [`FLAPPING_GRANTS`].
pub const FLAPPING_SPAN: Duration = Duration::from_secs(600);
/// From so many signs on a session counts as two clients: see `rhythm` in the table.
pub const SIGNS_OF_TWO: i32 = 8;
/// A Primary's data stands still that has not moved for so many timeouts, and for so long.
pub const STILL_TIMEOUTS: i64 = 5;
/// See [`STILL_TIMEOUTS`].
pub const STILL_AT_LEAST: Duration = Duration::from_secs(300);
/// A session's clock is ahead if it is so by half a timeout, and by so much: a standby keeps the
/// data of as long, and drops what is older.
pub const AHEAD_AT_LEAST: Duration = Duration::from_secs(5);
/// Heartbeats are seldom if so many in a row were late.
pub const LATE_IN_A_ROW: i32 = 4;
/// More live sessions than this are more than two pairs.
pub const TWO_PAIRS: i64 = 4;
/// Clients have a new id at each start if so many silent sessions took the place of another: see
/// `new_ids`.
pub const NEW_IDS_FROM: i64 = 3;
/// A session takes the place of one that fell silent no longer ago than that.
pub const NEW_ID_WITHIN: Duration = Duration::from_secs(3_600);

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
    /// Two clients seem to heartbeat as one session, so that both are told its role.
    SameIdTwice,
    /// Its Primary heartbeats, and reports no newer data.
    DataStandsStill,
    /// A session says times that are ahead of the clock.
    ClockAhead,
    /// A session heartbeats clearly more seldom than every half timeout.
    SeldomHeartbeats,
    /// More sessions are live than two pairs have.
    ManySessions,
    /// A client registers with a new id at each start, and leaves silent sessions behind.
    NewIdEachStart,
}

impl Risk {
    /// All of them, each at the place of its number.
    pub const ALL: [Risk; 10] = [
        Risk::NoPrimary,
        Risk::NoStandby,
        Risk::PrimaryUnhealthy,
        Risk::Flapping,
        Risk::SameIdTwice,
        Risk::DataStandsStill,
        Risk::ClockAhead,
        Risk::SeldomHeartbeats,
        Risk::ManySessions,
        Risk::NewIdEachStart,
    ];

    /// The one that is told by that name.
    pub fn named(name: &str) -> Option<Risk> {
        Risk::ALL.into_iter().find(|risk| risk.name().eq_ignore_ascii_case(name))
    }

    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Risk::NoPrimary => "NoPrimary",
            Risk::NoStandby => "NoStandby",
            Risk::PrimaryUnhealthy => "PrimaryUnhealthy",
            Risk::Flapping => "Flapping",
            Risk::SameIdTwice => "SameIdTwice",
            Risk::DataStandsStill => "DataStandsStill",
            Risk::ClockAhead => "ClockAhead",
            Risk::SeldomHeartbeats => "SeldomHeartbeats",
            Risk::ManySessions => "ManySessions",
            Risk::NewIdEachStart => "NewIdEachStart",
        }
    }
}

/// What is seen of a session; nothing of one that is silent.
pub fn seen_of(session: &SessionStatus) -> Seen {
    session.beat.filter(|_| session.live).map_or_else(Seen::default, |beat| beat.seen)
}

/// The most that is seen of any of these.
pub(super) fn most_seen(sessions: &[SessionStatus]) -> Seen {
    sessions.iter().map(seen_of).fold(Seen::default(), |most, seen| Seen {
        signs_of_two: most.signs_of_two.max(seen.signs_of_two),
        late_in_a_row: most.late_in_a_row.max(seen.late_in_a_row),
        still_us: most.still_us.max(seen.still_us),
        ahead_us: most.ahead_us.max(seen.ahead_us),
    })
}

/// What the risks of a group are told by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// Its timeout.
    pub(super) timeout: FailoverTimeout,
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
    /// What is seen of its live sessions.
    pub(super) seen: Seen,
    /// How many of its silent sessions took the place of another.
    pub(super) new_ids: i64,
}

/// The risks of a group, the most urgent first.
pub(super) fn risks(looked: Looked) -> Vec<Risk> {
    let Looked { timeout, sessions, live, primary_health, is_handing_over, is_flapping, seen, new_ids } = looked;
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
    // Of grants to sessions that are all gone nobody is disturbed any more.
    if is_flapping && sessions > 0 {
        risks.push(Risk::Flapping);
    }
    risks.extend(of_session(seen, timeout));
    if live > TWO_PAIRS {
        risks.push(Risk::ManySessions);
    }
    if new_ids >= NEW_IDS_FROM {
        risks.push(Risk::NewIdEachStart);
    }
    risks
}

/// The risks that are told by single sessions, of one in a group of that timeout.
pub fn of_session(seen: Seen, timeout: FailoverTimeout) -> impl Iterator<Item = Risk> {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let still_from_us = timeout.micros().saturating_mul(STILL_TIMEOUTS).max(micros(STILL_AT_LEAST));
    let ahead_from_us = (timeout.micros() / 2).max(micros(AHEAD_AT_LEAST));
    let told = [
        (Risk::SameIdTwice, seen.signs_of_two >= SIGNS_OF_TWO),
        (Risk::DataStandsStill, seen.still_us.is_some_and(|still_us| still_us > still_from_us)),
        (Risk::ClockAhead, seen.ahead_us > ahead_from_us),
        (Risk::SeldomHeartbeats, seen.late_in_a_row >= LATE_IN_A_ROW),
    ];
    told.into_iter().filter(|(_, holds)| *holds).map(|(risk, _)| risk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_at_risk_for_what_it_lacks() {
        for (sessions, live, primary_health, is_handing_over, is_flapping, expected) in [
            (0, 0, None, false, false, vec![]),
            (0, 0, None, false, true, vec![]),
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
            let (timeout, seen) = (FailoverTimeout::DEFAULT, Seen::default());
            let new_ids = 0;
            let looked =
                Looked { timeout, sessions, live, primary_health, is_handing_over, is_flapping, seen, new_ids };
            assert_eq!(risks(looked), expected, "{looked:?}");
        }
    }

    #[test]
    fn what_single_sessions_show_comes_behind_that_and_each_has_its_bound() {
        const MINUTE: i64 = 60_000_000;
        let none = Seen::default();
        for (timeout_s, live, seen, expected) in [
            (60, 4, none, vec![]),
            (60, 5, none, vec![Risk::ManySessions]),
            (
                60,
                2,
                Seen { signs_of_two: 7, late_in_a_row: 3, still_us: Some(5 * MINUTE), ahead_us: MINUTE / 2 },
                vec![],
            ),
            (60, 2, Seen { signs_of_two: 8, ..none }, vec![Risk::SameIdTwice]),
            (60, 2, Seen { late_in_a_row: 4, ..none }, vec![Risk::SeldomHeartbeats]),
            (60, 2, Seen { still_us: Some(5 * MINUTE + 1), ..none }, vec![Risk::DataStandsStill]),
            (60, 2, Seen { ahead_us: MINUTE / 2 + 1, ..none }, vec![Risk::ClockAhead]),
            // Of a short timeout five are soon over, and of a long one half is much.
            (1, 2, Seen { still_us: Some(5 * MINUTE), ahead_us: 5_000_000, ..none }, vec![]),
            (1, 2, Seen { ahead_us: 5_000_001, ..none }, vec![Risk::ClockAhead]),
            (600, 2, Seen { still_us: Some(50 * MINUTE), ahead_us: 5 * MINUTE, ..none }, vec![]),
            (
                60,
                5,
                Seen { signs_of_two: 16, late_in_a_row: 8, still_us: Some(6 * MINUTE), ahead_us: MINUTE },
                Risk::ALL[4..9].to_vec(),
            ),
        ] {
            let timeout = FailoverTimeout::from_ticks(timeout_s * 10_000_000).expect("it is one");
            let primary_health = Some(100.0);
            let looked = Looked {
                timeout,
                sessions: live,
                live,
                primary_health,
                is_handing_over: false,
                is_flapping: false,
                seen,
                new_ids: NEW_IDS_FROM - 1,
            };
            assert_eq!(risks(looked), expected, "{looked:?}");
            let with_new_ids = [&expected[..], &[Risk::NewIdEachStart]].concat();
            assert_eq!(risks(Looked { new_ids: NEW_IDS_FROM, ..looked }), with_new_ids);
        }
    }

    #[test]
    fn each_risk_is_at_the_place_of_its_number() {
        assert!(Risk::ALL.iter().enumerate().all(|(place, risk)| *risk as usize == place));
        assert!(Risk::ALL.is_sorted());
    }
}
