//! The rhythm of a session's heartbeats: what is noted with each of them, from the one before
//! alone, for [`super::risks`] to tell. No role is decided by it.
//!
//! A client heartbeats every half timeout. One that retries, restarts, pauses or changes its mind
//! breaks that once; what is wrong with its configuration goes on and on. So nothing here is told
//! by one heartbeat, and a time in which the service was away says nothing.

use crate::arbitration::{Beat, FailoverTimeout, Instant, Moment, Report, Role};
use crate::store::state::{Noted, Rhythm};

/// A heartbeat is late that comes later than this after the one before: well beyond half the
/// timeout, and never by so little that a busy machine explains it.
const LATE_PERMILLE: i64 = 650;
const LATE_BY_US: i64 = 250_000;
/// An outage of the service is of account that is longer than this part of the timeout. Shorter
/// ones are recorded too, and many on a busy machine.
const OF_ACCOUNT: i64 = 20;
/// So many late ones are remembered, and each that is in time makes up for so many.
const MOST_LATE: i32 = 8;
const IN_TIME_COUNTS: i32 = 2;

/// Two clients with one id heartbeat in between one another: the one before the last came half a
/// timeout ago, and the last one neither in the middle of that, as of a client that comes twice as
/// often, nor at either end of it, as where an answer was lost and asked for again.
const PAIR_PERMILLE: std::ops::RangeInclusive<i64> = 450..=550;
const UNEVEN_PERMILLE: i64 = 50;
const AGAIN_PERMILLE: i64 = 20;
/// Two heartbeats within this come faster than those of one client. Where such go back in time by
/// so much, there are two that tell the time, or two that send data.
const FAST_PAIR_PERMILLE: i64 = 600;
const BACK_BY_US: i64 = 1_000_000;
/// What each of these counts for, and how much is remembered.
const BACK_COUNTS: i32 = 3;
const MOST_SIGNS: i32 = 16;

/// What is noted of a heartbeat, from what was noted of the one before it. `before` is that one as
/// it was stored, and `role` what the session had since then; this one is decided at `at`.
pub(super) fn follow(
    noted: Noted,
    role: Role,
    before: Option<Beat>,
    report: &Report,
    timeout: FailoverTimeout,
    at: Moment<'_>,
) -> Noted {
    let said = report.data_sent_until;
    let Some(before) = before else {
        let rhythm = Rhythm { data_still_ms: said.map(|_| 0), ..Rhythm::default() };
        return Noted { data_sent_until: said, rhythm };
    };
    let interval_us = at.now.0.saturating_sub(before.received_at.0).max(0);
    let since = at.outages.iter().rev().take_while(|outage| outage.recovered_at > before.received_at);
    let mut lengths_us = since.map(|outage| outage.recovered_at.0 - outage.began_at.0);
    let is_after_outage = lengths_us.any(|length_us| length_us > timeout.micros() / OF_ACCOUNT);
    let is_other_timeout = before.lease_until.0 - before.received_at.0 != timeout.micros();
    // Nobody sends data who does not act, or is silent for so long that its lease ran out.
    let could_send = role == Role::Primary && !is_after_outage && interval_us <= timeout.micros();
    let rhythm = Rhythm {
        data_still_ms: data_still_ms(noted, said, could_send.then_some(interval_us)),
        interval_permille: 0,
        ..noted.rhythm
    };
    let rhythm = match (is_other_timeout, is_after_outage) {
        // What was late by the one may be in time by the other.
        (true, _) => Rhythm { late_in_a_row: 0, signs_of_two: 0, ..rhythm },
        (false, true) => rhythm,
        (false, false) => {
            let permille = (interval_us.saturating_mul(1_000) / timeout.micros()).clamp(1, Rhythm::MAX_PERMILLE);
            let is_late =
                interval_us > (timeout.micros() / 1_000 * LATE_PERMILLE).max(timeout.micros() / 2 + LATE_BY_US);
            Rhythm {
                interval_permille: i32::try_from(permille).unwrap_or_default(),
                late_in_a_row: if is_late {
                    (rhythm.late_in_a_row + 1).min(MOST_LATE)
                } else {
                    (rhythm.late_in_a_row - IN_TIME_COUNTS).max(0)
                },
                signs_of_two: match noted.rhythm.interval_permille {
                    0 => rhythm.signs_of_two,
                    last => {
                        let sign = sign_of_two(i64::from(last), permille, goes_back(noted, before, report));
                        (rhythm.signs_of_two + sign).clamp(0, MOST_SIGNS)
                    }
                },
                ..rhythm
            }
        }
    };
    Noted { data_sent_until: said, rhythm }
}

/// For how long the data that a heartbeat says has stood where it is, of which so much has passed
/// since the one before; `None` where it could not move in that time.
fn data_still_ms(noted: Noted, said: Option<Instant>, passed_us: Option<i64>) -> Option<i32> {
    if said.is_some() && said != noted.data_sent_until {
        return Some(0);
    }
    let before_ms = noted.rhythm.data_still_ms?;
    let Some(passed_us) = passed_us else { return Some(0) };
    Some(before_ms.saturating_add(i32::try_from(passed_us / 1_000).unwrap_or(i32::MAX)))
}

/// Whether a time that it says is earlier than before.
fn goes_back(noted: Noted, before: Beat, report: &Report) -> bool {
    let data_goes_back = match (noted.data_sent_until, report.data_sent_until) {
        (Some(Instant(before_us)), Some(Instant(said_us))) => before_us.saturating_sub(said_us) > BACK_BY_US,
        _ => false,
    };
    data_goes_back || before.heard_until.0.saturating_sub(report.sent_at.0) > BACK_BY_US
}

/// How much a heartbeat counts for or against two clients, by how long after the one before it
/// came, and that one after the one before that.
fn sign_of_two(last_permille: i64, permille: i64, goes_back: bool) -> i32 {
    let pair = last_permille + permille;
    let is_in_between = PAIR_PERMILLE.contains(&pair)
        && (last_permille - permille).abs() > UNEVEN_PERMILLE
        && last_permille.min(permille) >= AGAIN_PERMILLE;
    match (goes_back && pair < FAST_PAIR_PERMILLE, is_in_between) {
        (true, _) => BACK_COUNTS,
        (false, true) => 1,
        (false, false) => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitration::{ClientInstant, Health, Outage};
    use crate::failover::risks::{self, Risk};
    use crate::store::status::Seen;

    const SECOND: i64 = 1_000_000;
    /// A timeout of a minute, in which a client heartbeats every 30 s.
    const TIMEOUT_S: i64 = 60;

    /// A session, and the clock that its heartbeats come by.
    struct Client {
        now: i64,
        timeout: FailoverTimeout,
        outages: Vec<Outage>,
        beat: Option<Beat>,
        noted: Noted,
        seen: Vec<Risk>,
    }

    impl Client {
        fn new() -> Client {
            Client {
                now: 1_000_000 * SECOND,
                timeout: seconds(TIMEOUT_S),
                outages: Vec::new(),
                beat: None,
                noted: Noted::default(),
                seen: Vec::new(),
            }
        }

        /// A heartbeat so much later, whose data reaches up to so long before it.
        fn beats(&mut self, after_us: i64, data_ago_us: Option<i64>, sent_ago_us: i64) {
            self.now += after_us;
            let now = Instant(self.now);
            let report = Report {
                health: Health::default(),
                sent_at: ClientInstant(self.now - sent_ago_us),
                data_sent_until: data_ago_us.map(|ago_us| Instant(self.now - ago_us)),
                acting_as: None,
                term_seen: None,
            };
            let at = Moment { now, outages: &self.outages, history: None };
            self.noted = follow(self.noted, Role::Primary, self.beat, &report, self.timeout, at);
            let heard_until = self.beat.map_or(report.sent_at, |beat| beat.heard_until.max(report.sent_at));
            self.beat = Some(Beat {
                health: report.health,
                heard_until,
                heard_counts_until: now,
                received_at: now,
                lease_until: now.plus(self.timeout),
            });
            let rhythm = self.noted.rhythm;
            let still_us = rhythm.data_still_ms.map(|ms| i64::from(ms) * 1_000);
            let seen =
                Seen { late_in_a_row: rhythm.late_in_a_row, signs_of_two: rhythm.signs_of_two, still_us, ahead_us: 0 };
            for risk in risks::of_session(seen, self.timeout) {
                if !self.seen.contains(&risk) {
                    self.seen.push(risk);
                }
            }
        }

        /// So many, each as much later than the one before, with data up to that moment.
        fn beats_every(&mut self, seconds: &[i64], rounds: usize) -> &[Risk] {
            for _ in 0..rounds {
                for after in seconds {
                    self.beats(after * SECOND, Some(0), 0);
                }
            }
            &self.seen
        }
    }

    fn seconds(seconds: i64) -> FailoverTimeout {
        FailoverTimeout::from_ticks(seconds * 10 * SECOND).expect("it is one")
    }

    #[test]
    fn a_client_that_does_as_it_should_is_no_risk_whatever_happens_once() {
        let mut client = Client::new();
        // At once, after 1 s, then every half timeout.
        client.beats_every(&[0, 1], 1);
        client.beats_every(&[30], 40);
        // Restarts, pauses, answers that are lost and asked for again, and a handover.
        for odd in [&[90, 1][..], &[600, 1], &[55, 5], &[2, 28], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[60], &[13, 17]] {
            client.beats_every(odd, 1);
            client.beats_every(&[30], 3);
        }
        // A clumsy timer, and one that a lost answer sets off anew.
        client.beats_every(&[27, 34, 30, 38, 25], 20);
        client.beats_every(&[5, 30, 30], 20);
        // One that crashes and is started again, over and over.
        client.beats_every(&[70, 1], 20);
        // One that comes more often than it has to.
        client.beats_every(&[20], 40);
        client.beats_every(&[15], 40);
        client.beats_every(&[1], 40);
        assert_eq!(client.seen, []);
    }

    #[test]
    fn heartbeats_that_always_come_late_are_seldom() {
        for every in [40, 45, 59, 61, 90, 200] {
            assert_eq!(Client::new().beats_every(&[every], 5), [Risk::SeldomHeartbeats], "{every}");
            assert_eq!(Client::new().beats_every(&[every], 4), [], "{every}");
        }
        assert_eq!(Client::new().beats_every(&[39], 50), []);
        // It goes once they come in time.
        let mut client = Client::new();
        client.beats_every(&[45], 20);
        client.beats_every(&[30], 3);
        client.seen.clear();
        assert_eq!(client.beats_every(&[30], 20), []);
    }

    #[test]
    fn a_timeout_that_was_changed_is_not_held_against_the_heartbeats_before() {
        let mut client = Client::new();
        client.beats_every(&[30], 10);
        client.timeout = seconds(30);
        // It hears of it in the answer to the first.
        client.beats_every(&[30], 1);
        assert_eq!(client.beats_every(&[15], 20), []);
        // One that does not hear of it is a risk.
        client.timeout = seconds(15);
        assert_eq!(client.beats_every(&[15], 5), [Risk::SeldomHeartbeats]);
    }

    #[test]
    fn an_outage_of_the_service_says_nothing_of_a_client() {
        let mut client = Client::new();
        client.beats_every(&[30], 5);
        for _ in 0..20 {
            let (began_at, recovered_at) = (Instant(client.now + SECOND), Instant(client.now + 1_000 * SECOND));
            client.outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: 0 });
            // All that time nothing could be sent.
            let ago = client.noted.data_sent_until.map_or(0, |Instant(until)| client.now + 1_001 * SECOND - until);
            client.beats(1_001 * SECOND, Some(ago), 0);
            client.beats(30 * SECOND, Some(ago + 30 * SECOND), 0);
        }
        assert_eq!(client.seen, []);
        // Short ones are of no account, however many.
        for _ in 0..10 {
            let (began_at, recovered_at) = (Instant(client.now + SECOND), Instant(client.now + 3 * SECOND));
            client.outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: 0 });
            client.beats_every(&[12, 18], 1);
        }
        assert_eq!(client.seen, [Risk::SameIdTwice]);
    }

    #[test]
    fn two_clients_with_one_id_are_noticed_wherever_their_heartbeats_fall() {
        for apart in [2, 5, 10, 12, 18, 25, 28] {
            let mut client = Client::new();
            assert_eq!(client.beats_every(&[apart, 30 - apart], 6), [Risk::SameIdTwice], "{apart}");
            // Until one of them stops.
            client.beats_every(&[30], 9);
            client.seen.clear();
            assert_eq!(client.beats_every(&[30], 9), [], "{apart}");
        }
        // In the middle, they differ in what they say.
        for (data_ago, sent_ago) in [([0, 5], [0, 0]), ([0, 0], [0, 20])] {
            let mut client = Client::new();
            for round in 0..16 {
                client.beats(15 * SECOND, Some(data_ago[round % 2] * 60 * SECOND), sent_ago[round % 2] * SECOND);
            }
            assert_eq!(client.seen, [Risk::SameIdTwice]);
        }
        // Of one client, times that jump are those of its streams.
        let mut client = Client::new();
        for round in 0..100 {
            client.beats(30 * SECOND, Some(round % 2 * 60 * SECOND), 0);
        }
        assert_eq!(client.seen, []);
    }

    #[test]
    fn data_stands_still_from_when_it_last_moved_while_it_could() {
        let mut client = Client::new();
        client.beats_every(&[30], 10);
        let still = |client: &mut Client, seconds: i64| {
            let Some(Instant(until)) = client.noted.data_sent_until else { panic!("it said some") };
            client.beats(seconds * SECOND, Some(client.now + seconds * SECOND - until), 0);
        };
        for _ in 0..10 {
            still(&mut client, 30);
        }
        assert_eq!(client.seen, []);
        // A silence.
        still(&mut client, 61);
        for _ in 0..10 {
            still(&mut client, 30);
        }
        assert_eq!(client.seen, []);
        still(&mut client, 30);
        assert_eq!(client.seen, [Risk::DataStandsStill]);
        // To say nothing more is to stand still.
        client.seen.clear();
        client.beats(30 * SECOND, None, 0);
        assert_eq!(client.seen, [Risk::DataStandsStill]);
        client.seen.clear();
        client.beats(30 * SECOND, Some(0), 0);
        assert_eq!(client.seen, []);
        // Who never said anything is not asked for it.
        let mut client = Client::new();
        for _ in 0..100 {
            client.beats(30 * SECOND, None, 0);
        }
        assert_eq!(client.seen, []);
    }
}
