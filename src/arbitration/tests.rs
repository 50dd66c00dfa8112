//! A table of states, one sentence each, and properties of random histories.

use proptest::prelude::*;

use super::Role::{PendingPrimary, Primary, Secondary};
use super::*;

const SECOND: i64 = 1_000_000;

/// The instant so many seconds after the beginning of the test.
fn at(seconds: i64) -> Instant {
    Instant(seconds * SECOND)
}

fn seconds(timeout: i64) -> FailoverTimeout {
    FailoverTimeout::from_ticks(timeout * 1_000 * FailoverTimeout::TICKS_PER_MS).expect("within the bounds")
}

fn health(percent: i64) -> Health {
    Health::new(Decimal::from(percent)).expect("0 to 100")
}

/// A state of a group, and what surrounds it when something happens to it.
#[derive(Clone, Debug)]
struct Table {
    group: Group,
    outages: Vec<Outage>,
    history: Option<History>,
    rules: Rules,
    trace: Vec<Transition>,
}

/// A moment in the first history of the database.
fn moment(now: Instant, outages: &[Outage]) -> Moment<'_> {
    Moment { now, outages, history: None }
}

/// A group with that timeout in seconds, and without sessions so far.
fn group(timeout: i64) -> Table {
    Table {
        group: Group::begin(seconds(timeout), Remains::default(), moment(at(0), &[])),
        outages: Vec::new(),
        history: None,
        rules: Rules::default(),
        trace: Vec::new(),
    }
}

fn says(percent: i64) -> Report {
    Report {
        health: health(percent),
        sent_at: ClientInstant(0),
        data_sent_until: None,
        acting_as: None,
        term_seen: None,
    }
}

impl Report {
    fn sent_at(self, seconds: i64) -> Report {
        Report { sent_at: ClientInstant(seconds * SECOND), ..self }
    }

    fn acting_as(self, role: Role) -> Report {
        Report { acting_as: Some(role), ..self }
    }

    fn term_seen(self, term: i64) -> Report {
        Report { term_seen: Some(Term(term)), ..self }
    }

    fn data_until(self, seconds: i64) -> Report {
        Report { data_sent_until: Some(at(seconds)), ..self }
    }
}

impl Table {
    /// One more session, whose last heartbeat gave it a lease until that second.
    fn session(mut self, role: Role, percent: i64, lease_until: i64) -> Table {
        let lease_until = at(lease_until);
        let beat = Beat {
            health: health(percent),
            heard_until: ClientInstant(0),
            heard_counts_until: Instant(lease_until.0 - self.group.timeout.micros()),
            received_at: Instant(lease_until.0 - self.group.timeout.micros()),
            lease_until,
        };
        self.group.sessions.push(Session { role, beat: Some(beat), sent_until: None });
        self
    }

    fn primary(mut self, percent: i64, lease_until: i64) -> Table {
        self.group.term = Term(1);
        self.session(Primary, percent, lease_until)
    }

    fn pending(self, percent: i64, lease_until: i64) -> Table {
        self.session(PendingPrimary, percent, lease_until)
    }

    fn secondary(self, percent: i64, lease_until: i64) -> Table {
        self.session(Secondary, percent, lease_until)
    }

    /// One more session that has registered and never sent a heartbeat.
    fn unheard(mut self) -> Table {
        self.group.sessions.push(Session { role: Secondary, beat: None, sent_until: None });
        self
    }

    fn vacant_since(mut self, vacancy: Vacancy) -> Table {
        self.group.vacancy = vacancy;
        self.group.term = Term(1);
        self
    }

    fn away(mut self, began: i64, recovered: i64) -> Table {
        self.outages.push(Outage { began_at: at(began), recovered_at: at(recovered), gap_us: 0, clock_step_us: 0 });
        self
    }

    /// A clock that was set forward by so many seconds, of which nothing passed.
    fn set_forward(mut self, from: i64, by: i64) -> Table {
        let (began_at, recovered_at) = (at(from), at(from + by));
        self.outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: by * 1_000_000 });
        self
    }

    fn margin(mut self, percent: i64) -> Table {
        self.rules.handover_margin = Decimal::from(percent);
        self
    }

    fn prompt(mut self) -> Table {
        self.rules.handover = HandoverMode::Prompt;
        self
    }

    fn timeout(&mut self, timeout: i64) {
        self.group.timeout = seconds(timeout);
    }

    fn hears(&mut self, s: usize, report: Report, now: i64) -> Answer {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        heartbeat(&mut self.group, s, &report, moment, &self.rules, &mut self.trace)
    }

    fn lapses(&mut self, now: i64) {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        lapse(&mut self.group, moment, &mut self.trace);
    }

    /// The database is in another history from here on, as far as anybody notices; terms go on
    /// above that one.
    fn in_another_history(mut self, noticed_at: i64, base: i64) -> Table {
        let id = HistoryId(self.history.map_or(1, |history| history.id.0) + 1);
        self.history = Some(History { id, noticed_at: at(noticed_at), base: Term(base) });
        let began_at = Instant(at(noticed_at).0 - 1);
        self.outages.push(Outage { began_at, recovered_at: at(noticed_at), gap_us: 0, clock_step_us: 0 });
        self
    }

    /// Deletes a session as a store does: its place is gone afterwards.
    fn loses(&mut self, s: usize, by: By, now: i64) {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        remove(&mut self.group, s, by, moment, &mut self.trace);
        drop_place(&mut self.group, s);
    }

    /// Deletes the group, and creates another at its path.
    fn recreated(mut self, timeout: i64, now: i64) -> Table {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        let remains = end(&mut self.group, moment, &mut self.trace);
        Table { group: Group::begin(seconds(timeout), remains, moment), ..self }
    }

    fn roles(&self) -> Vec<Role> {
        self.group.sessions.iter().map(|session| session.role).collect()
    }

    fn reasons(&self) -> Vec<Reason> {
        self.trace.iter().map(|change| change.reason).collect()
    }

    fn lease_until(&self, s: usize) -> Instant {
        self.group.sessions[s].beat.expect("it has sent a heartbeat").lease_until
    }

    fn is_live(&self, s: usize, now: i64) -> bool {
        self.group.is_live(s, moment(at(now), &self.outages))
    }
}

fn drop_place(group: &mut Group, s: usize) {
    group.sessions.remove(s);
    if let Some(Handover { from: Former::Yielding { session, .. }, .. }) = &mut group.handover
        && *session > s
    {
        *session -= 1;
    }
}

mod words {
    use super::*;

    #[test]
    fn a_heartbeat_gives_a_lease_of_one_timeout_from_the_database_s_now() {
        let mut table = group(60).unheard();
        table.hears(0, says(100).sent_at(5_000), 7);
        assert_eq!(table.lease_until(0), at(67));
    }

    #[test]
    fn the_answer_to_a_primary_says_for_how_long_and_to_others_nothing() {
        let mut table = group(60).unheard().unheard();
        assert_eq!(table.hears(0, says(100), 0).lease, Some(seconds(60)));
        let standby = table.hears(1, says(100), 0);
        assert_eq!((standby.lease, standby.timeout), (None, seconds(60)));
    }

    #[test]
    fn a_lease_is_never_shorter_than_the_timeout_that_the_client_counts() {
        let odd = FailoverTimeout::from_ticks(FailoverTimeout::MIN_TICKS + 1).expect("within the bounds");
        assert!(at(0).plus(odd).0 * 10 >= odd.ticks());
        assert!(odd.whole_ms() * FailoverTimeout::TICKS_PER_MS <= odd.ticks());
    }

    #[test]
    fn a_longer_timeout_does_not_lengthen_a_lease_already_given() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        table.timeout(600);
        assert_eq!(table.lease_until(0), at(60));
        assert!(!table.is_live(0, 60));
    }

    #[test]
    fn a_shorter_timeout_does_not_shorten_a_lease_already_given() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        table.timeout(1);
        assert!(table.is_live(0, 59));
    }

    #[test]
    fn a_session_is_live_until_just_before_the_end_of_its_lease() {
        let table = group(60).primary(100, 60);
        assert!(table.is_live(0, 59));
        assert!(!table.is_live(0, 60));
    }

    #[test]
    fn a_session_that_has_never_sent_a_heartbeat_is_not_live() {
        assert!(!group(60).unheard().is_live(0, 0));
    }

    #[test]
    fn health_is_that_of_the_latest_heartbeat_to_arrive() {
        let mut table = group(60).primary(80, 60).secondary(90, 60);
        table.hears(1, says(70), 10);
        table.hears(0, says(80), 10);
        assert_eq!(table.roles(), [Primary, Secondary]);
    }

    #[test]
    fn health_is_between_0_and_100() {
        assert!(Health::new(Decimal::ZERO).is_some());
        assert!(Health::new(Decimal::ONE_HUNDRED).is_some());
        assert!(Health::new(Decimal::from(-1)).is_none());
        assert!(Health::new(Decimal::new(100_001, 3)).is_none());
    }

    #[test]
    fn what_added_shares_exceed_100_by_is_not_counted() {
        for (number, scale) in [(10_000_000_000_000_001, 14), (100_000_001, 6)] {
            assert_eq!(Health::new(Decimal::new(number, scale)), Health::new(Decimal::ONE_HUNDRED));
        }
        assert!(Health::new(Decimal::new(100_000_002, 6)).is_none());
        // None of this below it.
        assert_ne!(Health::new(Decimal::new(99_999_999, 6)), Health::new(Decimal::ONE_HUNDRED));
    }

    #[test]
    fn health_is_compared_as_exactly_as_it_was_reported() {
        let mut table = group(60).primary(90, 60).unheard();
        let slightly_more = Health::new(Decimal::new(900_000_001, 7)).expect("0 to 100");
        table.hears(1, Report { health: slightly_more, ..says(0) }, 10);
        assert_eq!(table.roles(), [Primary, PendingPrimary]);
    }

    #[test]
    fn the_term_is_0_before_the_first_grant_and_rises_by_one_with_each() {
        let mut table = group(60).unheard().unheard();
        assert_eq!(table.group.term, Term(0));
        assert_eq!(table.hears(0, says(100), 0).term, Term(1));
        assert_eq!(table.hears(1, says(100), 60).term, Term(2));
    }

    #[test]
    fn a_renewal_does_not_raise_the_term() {
        let mut table = group(60).primary(100, 60);
        assert_eq!(table.hears(0, says(100), 30).term, Term(1));
    }

    #[test]
    fn the_term_outlives_all_sessions() {
        let mut table = group(60).primary(100, 60);
        table.loses(0, By::Itself, 1);
        assert_eq!(table.group.term, Term(1));
        table = table.unheard();
        assert_eq!(table.hears(0, says(100), 1).term, Term(2));
    }

    #[test]
    fn the_watermark_is_the_latest_report_of_any_session_while_primary() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        assert_eq!(table.hears(0, says(100).data_until(9), 10).watermark, Some(at(9)));
        assert_eq!(table.hears(1, says(100), 10).watermark, Some(at(9)));
    }

    #[test]
    fn a_secondary_s_report_does_not_move_the_watermark() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        assert_eq!(table.hears(1, says(100).data_until(9), 10).watermark, None);
    }

    #[test]
    fn the_report_in_the_heartbeat_that_demotes_counts() {
        let mut table = group(60).primary(80, 60).pending(90, 60);
        let answer = table.hears(0, says(80).data_until(9), 10);
        assert_eq!((answer.role, answer.watermark), (Secondary, Some(at(9))));
    }

    #[test]
    fn the_report_in_the_heartbeat_that_is_granted_does_not_count() {
        let mut table = group(60).unheard();
        let answer = table.hears(0, says(80).data_until(9), 10);
        assert_eq!((answer.role, answer.watermark), (Primary, None));
    }

    #[test]
    fn an_earlier_report_does_not_move_the_watermark_back() {
        let mut table = group(60).primary(100, 60);
        table.hears(0, says(100).data_until(9), 10);
        assert_eq!(table.hears(0, says(100).data_until(3), 11).watermark, Some(at(9)));
        assert_eq!(table.hears(0, says(100), 12).watermark, Some(at(9)));
    }

    #[test]
    fn a_report_in_the_future_counts_as_now() {
        let mut table = group(60).primary(100, 60);
        assert_eq!(table.hears(0, says(100).data_until(1_000), 10).watermark, Some(at(10)));
    }

    #[test]
    fn the_watermark_outlives_the_session_that_reported_it() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        table.hears(0, says(100).data_until(9), 10);
        table.loses(0, By::Itself, 11);
        assert_eq!(table.group.watermark(), Some(at(9)));
    }

    #[test]
    fn no_stored_time_moves_back_when_the_database_s_clock_does() {
        let mut table = group(60).primary(100, 160).secondary(100, 160);
        table.hears(0, says(100), 20);
        let beat = table.group.sessions[0].beat.expect("it has sent one");
        assert_eq!((beat.received_at, beat.lease_until), (at(100), at(160)));
    }
}

mod one_heartbeat {
    use super::*;

    #[test]
    fn every_session_whose_lease_has_lapsed_becomes_secondary_first() {
        let mut table = group(60).primary(100, 50).pending(100, 50).secondary(10, 100);
        assert_eq!(table.hears(2, says(10), 50).role, Primary);
        assert_eq!(table.roles(), [Secondary, Secondary, Primary]);
        assert_eq!(table.reasons(), [Reason::LeaseLapsed, Reason::LeaseLapsed, Reason::LeaseLapsed]);
    }

    #[test]
    fn a_primary_that_comes_back_after_its_lapse_is_granted_a_new_term() {
        let mut table = group(60).primary(100, 50);
        let answer = table.hears(0, says(100), 50);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
    }

    #[test]
    fn the_heartbeat_that_finds_its_primacy_lapsed_does_not_move_the_watermark() {
        let mut table = group(60).primary(100, 50);
        assert_eq!(table.hears(0, says(100).data_until(49), 50).watermark, None);
    }

    #[test]
    fn a_heartbeat_with_an_older_client_time_is_as_good_as_any() {
        let mut table = group(60).primary(100, 60);
        table.hears(0, says(100).sent_at(1_000), 10);
        table.hears(0, says(40).sent_at(1), 20);
        assert_eq!(table.lease_until(0), at(80));
        assert_eq!(table.group.sessions[0].beat.expect("it has sent one").health, health(40));
    }

    #[test]
    fn the_first_heartbeat_of_a_group_is_granted_at_once() {
        let mut table = group(60).unheard().unheard();
        assert_eq!(table.hears(1, says(0), 0).role, Primary);
        assert_eq!(table.reasons(), [Reason::FirstHeartbeat]);
    }

    #[test]
    fn higher_health_ranks_first() {
        let mut table = group(60).secondary(70, 60).secondary(90, 60).secondary(80, 60);
        table.hears(0, says(70), 10);
        assert_eq!(table.roles(), [Secondary, PendingPrimary, Secondary]);
    }

    #[test]
    fn of_equal_health_the_primary_ranks_before_the_pending_one() {
        let mut table = group(60).pending(90, 60).primary(90, 60);
        assert_eq!(table.hears(1, says(90), 10).role, Primary);
        assert_eq!(table.roles(), [Secondary, Primary]);
    }

    #[test]
    fn of_equal_health_the_pending_one_ranks_before_the_sender() {
        let mut table = group(60).secondary(90, 60).pending(90, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(0, says(90), 10).role, Secondary);
        assert_eq!(table.roles(), [Secondary, PendingPrimary]);
    }

    #[test]
    fn of_equal_health_the_sender_ranks_before_one_registered_earlier() {
        let mut table = group(60).secondary(90, 60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(1, says(90), 10).role, Primary);
    }

    #[test]
    fn of_equal_health_the_one_registered_first_ranks_before_those_after_it() {
        let mut table = group(60).secondary(10, 60).secondary(90, 60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        table.hears(0, says(10), 10);
        assert_eq!(table.roles(), [Secondary, PendingPrimary, Secondary]);
    }

    #[test]
    fn a_session_that_is_not_live_is_not_ranked() {
        let mut table = group(60).secondary(100, 10).unheard().secondary(50, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(2, says(50), 10).role, Primary);
    }

    #[test]
    fn a_challenger_within_the_margin_does_not_outrank_a_live_primary() {
        let mut table = group(60).margin(10).primary(80, 60).secondary(90, 60);
        table.hears(1, says(90), 10);
        assert_eq!(table.hears(0, says(80), 10).role, Primary);
        assert_eq!(table.roles(), [Primary, Secondary]);
    }

    #[test]
    fn a_challenger_beyond_the_margin_outranks_a_live_primary() {
        let mut table = group(60).margin(10).primary(80, 60).secondary(91, 60);
        assert_eq!(table.hears(1, says(91), 10).role, PendingPrimary);
    }

    #[test]
    fn the_margin_does_not_protect_a_primary_without_any_health() {
        let mut table = group(60).margin(10).primary(0, 60).secondary(0, 60);
        table.hears(1, says(0), 10);
        assert_eq!(table.roles(), [Primary, Secondary]);
        table.hears(1, says(1), 10);
        assert_eq!(table.roles(), [Primary, PendingPrimary]);
    }

    #[test]
    fn the_margin_does_not_protect_a_primary_that_has_lapsed() {
        let mut table = group(60).margin(50).primary(80, 10).secondary(81, 60);
        assert_eq!(table.hears(1, says(81), 10).role, Primary);
    }

    #[test]
    fn with_nobody_primary_the_best_is_granted_in_the_answer_to_its_own_heartbeat() {
        let mut table = group(60).secondary(50, 60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(1, says(90), 10).role, Primary);
        assert_eq!(table.reasons(), [Reason::LeaseLapsed]);
    }

    #[test]
    fn with_nobody_primary_another_s_heartbeat_makes_the_best_pending_and_never_primary() {
        let mut table = group(60).pending(50, 60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(0, says(50), 10).role, Secondary);
        assert_eq!(table.roles(), [Secondary, PendingPrimary]);
    }

    #[test]
    fn a_grant_to_another_makes_the_pending_one_secondary() {
        let mut table = group(60).pending(50, 60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        assert_eq!(table.hears(1, says(90), 10).role, Primary);
        assert_eq!(table.roles(), [Secondary, Primary]);
        assert_eq!(table.reasons(), [Reason::Superseded, Reason::LeaseLapsed]);
    }

    #[test]
    fn while_the_primary_is_best_whoever_was_pending_becomes_secondary() {
        let mut table = group(60).primary(90, 60).pending(95, 60);
        table.hears(1, says(85), 10);
        assert_eq!(table.roles(), [Primary, Secondary]);
        assert_eq!(table.reasons(), [Reason::Superseded]);
    }

    #[test]
    fn a_better_one_becomes_pending_in_the_place_of_whoever_was() {
        let mut table = group(60).primary(80, 60).pending(90, 60).secondary(95, 60);
        assert_eq!(table.hears(2, says(95), 10).role, PendingPrimary);
        assert_eq!(table.roles(), [Primary, Secondary, PendingPrimary]);
        assert_eq!(table.reasons(), [Reason::Superseded, Reason::Healthier]);
    }

    #[test]
    fn a_primary_is_not_demoted_by_another_s_heartbeat() {
        let mut table = group(60).primary(10, 60).secondary(90, 60);
        table.hears(1, says(90), 10);
        assert_eq!(table.roles(), [Primary, PendingPrimary]);
        assert_eq!(table.group.handover, None);
    }

    #[test]
    fn an_outranked_primary_yields_in_the_answer_to_its_own_heartbeat() {
        let mut table = group(60).primary(80, 60).pending(90, 60);
        assert_eq!(table.hears(0, says(80), 10).role, Secondary);
        assert_eq!(table.roles(), [Secondary, PendingPrimary]);
        assert_eq!(table.reasons(), [Reason::Yielded]);
    }

    #[test]
    fn a_primary_that_reports_itself_worse_names_its_successor_and_yields_at_once() {
        let mut table = group(60).primary(100, 60).secondary(90, 60);
        assert_eq!(table.hears(0, says(10), 10).role, Secondary);
        assert_eq!(table.roles(), [Secondary, PendingPrimary]);
        assert_eq!(table.reasons(), [Reason::Healthier, Reason::Yielded]);
    }

    #[test]
    fn a_handover_lasts_until_the_end_of_the_lease_held_before_the_yielding_heartbeat() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        assert_eq!(table.group.handover.expect("open").until, at(45));
        assert_eq!(table.lease_until(0), at(70));
    }

    #[test]
    fn heartbeats_after_the_yield_do_not_lengthen_the_handover() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        table.hears(0, says(80), 40);
        assert_eq!(table.group.handover.expect("open").until, at(45));
        assert_eq!(table.hears(1, says(90), 45).role, Primary);
    }

    #[test]
    fn nobody_is_granted_while_a_handover_is_open() {
        let mut table = group(60).primary(80, 45).pending(90, 60).secondary(70, 60);
        table.hears(0, says(80), 10);
        assert_eq!(table.hears(1, says(90), 44).role, PendingPrimary);
        assert_eq!(table.hears(2, says(70), 44).role, Secondary);
    }

    #[test]
    fn the_best_is_pending_while_a_handover_is_open_whoever_it_is() {
        let mut table = group(60).primary(80, 45).pending(90, 60).secondary(70, 60);
        table.hears(0, says(80), 10);
        table.hears(2, says(95), 20);
        assert_eq!(table.roles(), [Secondary, Secondary, PendingPrimary]);
    }

    #[test]
    fn a_handover_closes_when_it_runs_out() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        let answer = table.hears(1, says(90), 45);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
        assert_eq!(table.reasons(), [Reason::Yielded, Reason::HandoverCompleted]);
        assert_eq!(table.group.handover, None);
    }

    #[test]
    fn a_handover_closes_when_the_one_that_yielded_says_that_it_acts_as_secondary() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80).sent_at(10).acting_as(Primary), 10);
        table.hears(0, says(80).sent_at(11).acting_as(Secondary), 11);
        assert_eq!(table.group.handover, None);
        assert_eq!(table.hears(1, says(90), 12).role, Primary);
        assert_eq!(table.reasons(), [Reason::Yielded, Reason::HandoverCompleted]);
    }

    #[test]
    fn a_handover_does_not_close_on_another_role_or_on_none() {
        for acting_as in [None, Some(Primary), Some(PendingPrimary)] {
            let mut table = group(60).primary(80, 45).pending(90, 60);
            table.hears(0, says(80).sent_at(10), 10);
            table.hears(0, Report { acting_as, ..says(80).sent_at(11) }, 11);
            assert!(table.group.handover.is_some(), "{acting_as:?}");
        }
    }

    #[test]
    fn a_handover_does_not_close_on_another_session_s_word() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80).sent_at(10), 10);
        assert_eq!(table.hears(1, says(90).sent_at(11).acting_as(Secondary), 11).role, PendingPrimary);
    }

    #[test]
    fn an_acknowledgement_sent_before_the_yielding_heartbeat_is_not_believed() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80).sent_at(10).acting_as(Primary), 10);
        table.hears(0, says(80).sent_at(9).acting_as(Secondary), 11);
        assert!(table.group.handover.is_some());
    }

    #[test]
    fn the_yielding_heartbeat_acknowledges_nothing_itself() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80).sent_at(10).acting_as(Secondary), 10);
        assert!(table.group.handover.is_some());
    }

    #[test]
    fn a_repetition_of_the_yielding_heartbeat_is_no_acknowledgement() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80).sent_at(10).acting_as(Secondary), 10);
        table.hears(0, says(80).sent_at(10).acting_as(Secondary), 11);
        assert!(table.group.handover.is_some());
    }

    #[test]
    fn an_acknowledgement_sent_before_a_heartbeat_that_was_answered_primary_is_not_believed() {
        let mut table = group(60).unheard().unheard();
        assert_eq!(table.hears(0, says(80).sent_at(9).acting_as(Secondary), 9).role, Primary);
        table.hears(1, says(90), 9);
        assert_eq!(table.hears(0, says(80).sent_at(7).acting_as(Secondary), 10).role, Secondary);
        table.hears(0, says(80).sent_at(8).acting_as(Secondary), 10);
        assert_eq!(table.hears(1, says(90), 11).role, PendingPrimary);
    }

    #[test]
    fn an_acknowledgement_of_the_same_time_as_a_heartbeat_answered_primary_is_not_believed() {
        let mut table = group(60).unheard().unheard();
        assert_eq!(table.hears(0, says(80).sent_at(9), 9).role, Primary);
        table.hears(1, says(90), 9);
        assert_eq!(table.hears(0, says(80).sent_at(9), 10).role, Secondary);
        table.hears(0, says(80).sent_at(9).acting_as(Secondary), 10);
        assert_eq!(table.hears(1, says(90), 11).role, PendingPrimary);
    }

    #[test]
    fn a_handover_closes_when_the_one_that_yielded_says_goodbye() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        table.loses(0, By::Itself, 11);
        assert_eq!(table.hears(0, says(90), 11).role, Primary);
    }

    #[test]
    fn the_one_that_yielded_is_granted_at_once_when_it_ranks_first_again() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        let answer = table.hears(0, says(95), 20);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
        assert_eq!(table.group.handover, None);
        assert_eq!(table.roles(), [Primary, Secondary]);
        assert_eq!(table.reasons(), [Reason::Yielded, Reason::Superseded, Reason::Recovered]);
    }

    #[test]
    fn the_one_that_yielded_is_only_pending_when_it_ranks_first_by_another_s_heartbeat() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        assert_eq!(table.hears(1, says(70), 20).role, Secondary);
        assert_eq!(table.roles(), [PendingPrimary, Secondary]);
        assert!(table.group.handover.is_some());
    }

    #[test]
    fn a_handover_whose_successor_dies_goes_to_the_next_best() {
        let mut table = group(60).primary(80, 45).pending(90, 40).secondary(70, 100);
        table.hears(0, says(10), 10);
        assert_eq!(table.hears(2, says(70), 45).role, Primary);
    }

    #[test]
    fn a_prompt_handover_is_not_waited_for() {
        let mut table = group(60).prompt().primary(80, 45).pending(90, 60);
        assert_eq!(table.hears(0, says(80), 10).role, Secondary);
        assert_eq!(table.group.handover, None);
        assert_eq!(table.hears(1, says(90), 10).role, Primary);
    }

    #[test]
    fn the_answer_carries_role_term_watermark_and_timeout() {
        let mut table = group(60).primary(100, 60);
        let timeout = seconds(60);
        let expected = Answer { role: Primary, term: Term(1), watermark: Some(at(9)), lease: Some(timeout), timeout };
        assert_eq!(table.hears(0, says(100).data_until(9), 10), expected);
    }

    #[test]
    fn a_primary_s_goodbye_lets_the_next_heartbeat_be_granted_at_once() {
        let mut table = group(60).primary(100, 60).secondary(50, 60);
        table.loses(0, By::Itself, 1);
        assert_eq!(table.hears(0, says(50), 1).role, Primary);
        assert_eq!(table.reasons(), [Reason::SessionDeleted, Reason::SessionDeleted]);
    }

    #[test]
    fn deleting_the_pending_one_leaves_the_primary_alone() {
        for by in [By::Itself, By::Another] {
            let mut table = group(60).primary(80, 60).pending(90, 60);
            table.loses(1, by, 1);
            assert_eq!(table.group.handover, None);
            assert_eq!(table.hears(0, says(80), 1).role, Primary);
        }
    }

    #[test]
    fn deleting_another_session_leaves_a_handover_open() {
        for by in [By::Itself, By::Another] {
            let mut table = group(60).secondary(10, 60).primary(80, 45).pending(90, 60);
            table.hears(1, says(80), 10);
            table.loses(0, by, 11);
            assert!(table.group.handover.expect("open").is_from(0));
            assert_eq!(table.hears(1, says(90), 11).role, PendingPrimary);
        }
    }

    #[test]
    fn a_session_that_has_never_sent_a_heartbeat_is_secondary_and_never_pending() {
        let mut table = group(60).unheard().primary(0, 60);
        table.hears(1, says(0), 10);
        assert_eq!(table.roles(), [Secondary, Primary]);
    }
}

mod deletion_by_another {
    use super::*;

    #[test]
    fn a_primary_that_somebody_else_deletes_is_waited_for_until_the_end_of_its_lease() {
        let mut table = group(60).primary(100, 60).secondary(50, 100);
        table.loses(0, By::Another, 10);
        assert_eq!(table.group.handover, Some(Handover { from: Former::Gone, until: at(60) }));
        assert_eq!(table.hears(0, says(50), 59).role, PendingPrimary);
        let answer = table.hears(0, says(50), 60);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
        let deleted = Reason::SessionDeleted;
        assert_eq!(table.reasons(), [deleted, deleted, deleted]);
    }

    #[test]
    fn it_is_waited_for_in_the_prompt_mode_too_for_it_gets_no_answer() {
        let mut table = group(60).prompt().primary(100, 60).secondary(50, 100);
        table.loses(0, By::Another, 10);
        assert_eq!(table.hears(0, says(50), 59).role, PendingPrimary);
    }

    #[test]
    fn a_longer_lease_than_the_timeout_is_waited_for_to_its_end() {
        let mut table = group(60).primary(100, 60).secondary(50, 100);
        table.timeout(1);
        table.loses(0, By::Another, 10);
        assert_eq!(table.group.handover.expect("open").until, at(60));
    }

    #[test]
    fn a_primary_that_lives_on_only_because_of_an_outage_does_not_act_and_is_not_waited_for() {
        let mut table = group(60).primary(100, 60).secondary(50, 60).away(20, 70);
        table.loses(0, By::Another, 80);
        assert_eq!(table.group.handover, None);
        assert_eq!(table.hears(0, says(50), 80).role, Primary);
    }

    #[test]
    fn one_that_yielded_and_did_not_say_that_it_stopped_is_still_waited_for() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        table.loses(0, By::Another, 11);
        assert_eq!(table.group.handover, Some(Handover { from: Former::Gone, until: at(45) }));
        assert_eq!(table.hears(0, says(90), 44).role, PendingPrimary);
        assert_eq!(table.hears(0, says(90), 45).role, Primary);
    }

    #[test]
    fn nobody_can_speak_for_one_that_is_gone_nor_take_its_place_early() {
        let mut table = group(60).primary(100, 60);
        table.loses(0, By::Another, 10);
        // Under the same id, it may be: the id is the store's.
        table = table.unheard();
        assert_eq!(table.hears(0, says(100).sent_at(11).acting_as(Secondary), 11).role, PendingPrimary);
        assert_eq!(table.hears(0, says(100).sent_at(12).acting_as(Secondary), 12).role, PendingPrimary);
        assert_eq!(table.hears(0, says(100), 60).role, Primary);
    }

    #[test]
    fn several_deletions_in_a_row_wait_for_the_longest_lease() {
        let mut table = group(60).primary(80, 45).pending(90, 60).secondary(10, 100);
        table.hears(0, says(80), 10);
        table.loses(0, By::Another, 11);
        table.loses(0, By::Another, 12);
        assert_eq!(table.group.handover, Some(Handover { from: Former::Gone, until: at(45) }));
        table.loses(0, By::Itself, 13);
        table = table.unheard();
        assert_eq!(table.hears(0, says(10), 44).role, PendingPrimary);
        assert_eq!(table.hears(0, says(10), 45).role, Primary);
    }

    #[test]
    fn one_whose_lease_is_over_is_not_waited_for() {
        let mut table = group(60).primary(100, 60).secondary(50, 100);
        table.loses(0, By::Another, 60);
        assert_eq!(table.hears(0, says(50), 60).role, Primary);
    }
}

mod groups_that_follow {
    use super::*;

    #[test]
    fn nobody_is_granted_before_the_leases_of_the_old_one_have_ended() {
        let mut table = group(60).primary(100, 60).secondary(50, 100).recreated(5, 10).unheard();
        assert_eq!(table.hears(0, says(100), 59).role, PendingPrimary);
        let answer = table.hears(0, says(100), 60);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
        assert_eq!(table.trace.last().map(|change| change.reason), Some(Reason::SessionDeleted));
    }

    #[test]
    fn after_a_goodbye_only_the_term_goes_on() {
        let mut table = group(60).primary(100, 60);
        table.loses(0, By::Itself, 10);
        table = table.recreated(60, 11).unheard();
        let answer = table.hears(0, says(100), 12);
        assert_eq!((answer.role, answer.term), (Primary, Term(2)));
    }

    #[test]
    fn what_is_waited_for_outlives_several_groups() {
        let mut table = group(60).primary(100, 60).recreated(60, 10).unheard();
        table.hears(0, says(100), 11);
        table = table.recreated(60, 12).recreated(60, 13).unheard();
        assert_eq!(table.hears(0, says(100), 59).role, PendingPrimary);
        assert_eq!(table.hears(0, says(100), 60).term, Term(2));
    }

    #[test]
    fn one_in_which_nobody_was_ever_primary_leaves_nothing_behind() {
        let mut table = group(60).unheard();
        assert_eq!(end(&mut table.group, moment(at(1), &[]), &mut table.trace), Remains::default());
        let next = Group::begin(seconds(60), Remains::default(), moment(at(1), &[]));
        assert_eq!(next.vacancy, Vacancy::NeverHeld);
    }

    #[test]
    fn all_else_begins_anew() {
        let mut table = group(60).primary(100, 60);
        table.hears(0, says(100).data_until(9), 10);
        table = table.recreated(60, 11).unheard();
        let answer = table.hears(0, says(100), 10_000);
        assert_eq!((answer.term, answer.watermark), (Term(2), None));
    }
}

mod another_history {
    use super::*;

    /// A Primary and a standby, both heard of at the beginning, in a database that lost what came
    /// after that.
    fn of_two() -> Table {
        group(60).primary(100, 60).secondary(100, 60).in_another_history(30, 1_000)
    }

    #[test]
    fn whoever_acts_stays_primary_and_its_term_is_one_that_nobody_had() {
        let mut table = of_two();
        let answer = table.hears(0, says(100).sent_at(31).acting_as(Primary), 31);
        assert_eq!((answer.role, answer.term), (Primary, Term(1_000)));
        assert_eq!(table.trace, [], "nothing changes");
    }

    #[test]
    fn whoever_acts_by_a_grant_that_was_lost_becomes_primary() {
        let mut table = of_two();
        let answer = table.hears(1, says(50).sent_at(31).acting_as(Primary), 31);
        assert_eq!((answer.role, answer.term), (Primary, Term(1_001)));
        assert_eq!(table.roles(), [Secondary, Primary]);
        assert_eq!(table.reasons(), [Reason::Superseded, Reason::Recovered]);
        let former = table.hears(0, says(100).sent_at(32).acting_as(Secondary), 32);
        assert_eq!(former.role, PendingPrimary, "healthier, but nobody yields before the doubt is over");
    }

    #[test]
    fn a_primary_that_does_not_act_is_none_any_more_for_another_may_act() {
        for acting_as in [None, Some(Secondary), Some(PendingPrimary)] {
            let mut table = of_two();
            let report = Report { acting_as, ..says(100).sent_at(31) };
            assert_ne!(table.hears(0, report, 31).role, Primary, "{acting_as:?}");
            assert_eq!(table.reasons()[0], Reason::LeaseLapsed);
            assert_eq!(table.group.vacancy, Vacancy::Lapsed);
        }
    }

    #[test]
    fn nobody_else_is_granted_primary_before_the_last_lease_that_can_be_lost_is_over() {
        let mut table = of_two();
        table.hears(0, says(100).sent_at(31).acting_as(Secondary), 31);
        for second in [31, 60, 89] {
            assert_ne!(table.hears(1, says(100).sent_at(second).acting_as(Secondary), second).role, Primary);
        }
        table.hears(0, says(90).sent_at(89).acting_as(Secondary), 89);
        let answer = table.hears(1, says(100).sent_at(90).acting_as(Secondary), 90);
        assert_eq!((answer.role, answer.term), (Primary, Term(1_001)));
        assert_eq!(table.group.in_doubt_until, None, "and then it is as always");
    }

    #[test]
    fn a_lease_that_was_given_for_longer_than_the_timeout_is_now_lengthens_the_doubt() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        table.timeout(10);
        table = table.in_another_history(30, 1_000);
        assert_ne!(table.hears(1, says(100).sent_at(41).acting_as(Secondary), 41).role, Primary);
        assert_eq!(table.group.in_doubt_until, Some(at(90)));
    }

    #[test]
    fn of_two_that_say_they_act_the_first_is_believed() {
        let mut table = of_two();
        assert_eq!(table.hears(0, says(100).sent_at(31).acting_as(Primary), 31).role, Primary);
        assert_ne!(table.hears(1, says(100).sent_at(32).acting_as(Primary), 32).role, Primary);
        assert_eq!(table.hears(0, says(100).sent_at(33).acting_as(Primary), 33).role, Primary);
    }

    #[test]
    fn an_old_message_is_not_believed() {
        let mut table = of_two();
        table.hears(1, says(100).sent_at(31).acting_as(Secondary), 31);
        for sent_at in [30, 31] {
            assert_ne!(table.hears(1, says(100).sent_at(sent_at).acting_as(Primary), 32).role, Primary);
        }
        assert_eq!(table.hears(1, says(100).sent_at(32).acting_as(Primary), 33).role, Primary);
    }

    #[test]
    fn an_old_message_does_not_take_the_role_from_who_was_believed() {
        let mut table = of_two();
        table.hears(0, says(100).sent_at(31).acting_as(Primary), 31);
        assert_eq!(table.hears(0, says(100).sent_at(31).acting_as(Primary), 32).role, Primary, "repeated");
        assert_eq!(table.hears(0, says(100).sent_at(30).acting_as(Secondary), 32).role, Primary, "delayed");
        assert_ne!(table.hears(0, says(100).sent_at(32).acting_as(Secondary), 32).role, Primary, "it has stopped");
    }

    #[test]
    fn whoever_was_believed_and_does_not_say_any_more_what_it_acts_as_is_waited_for() {
        for (acting_as, waits) in [(Some(Secondary), false), (Some(PendingPrimary), true), (None, true)] {
            let mut table = of_two();
            table.hears(0, says(100).sent_at(80).acting_as(Primary), 80);
            table.hears(0, Report { acting_as, ..says(50).sent_at(85) }, 85);
            assert_eq!(table.group.handover.is_some(), waits, "{acting_as:?}");
            let role = table.hears(1, says(100).sent_at(90).acting_as(Secondary), 90).role;
            assert_eq!(role == Primary, !waits, "{acting_as:?}: its lease outlasts the doubt");
            assert_eq!(table.hears(1, says(100).sent_at(139), 139).role == Primary, !waits);
            assert_eq!(table.hears(1, says(100).sent_at(140), 140).role, Primary);
        }
    }

    #[test]
    fn whoever_was_believed_is_not_outranked_before_the_doubt_is_over_and_yields_then() {
        let mut table = of_two();
        table.hears(1, says(100).sent_at(31).acting_as(Secondary), 31);
        assert_eq!(table.hears(0, says(10).sent_at(31).acting_as(Primary), 31).role, Primary);
        table.hears(1, says(100).sent_at(89).acting_as(Secondary), 89);
        assert_eq!(table.hears(0, says(10).sent_at(89).acting_as(Primary), 89).role, Primary);
        assert_eq!(table.hears(0, says(10).sent_at(90).acting_as(Primary), 90).role, Secondary);
        assert_eq!(table.reasons().last(), Some(&Reason::Yielded));
    }

    #[test]
    fn a_handover_stays_open_and_is_closed_by_whoever_acts() {
        let yielded = || {
            let mut table = group(60).primary(50, 60).secondary(100, 60);
            assert_eq!(table.hears(0, says(50).sent_at(10).acting_as(Primary), 10).role, Secondary);
            assert!(table.group.handover.is_some());
            table.in_another_history(30, 1_000)
        };
        let mut table = yielded();
        assert_eq!(table.hears(1, says(100).sent_at(31), 31).role, PendingPrimary);
        assert!(table.group.handover.is_some());
        for (acting, term) in [(0, 1_001), (1, 1_001)] {
            let mut table = yielded();
            let answer = table.hears(acting, says(50).sent_at(31).acting_as(Primary), 31);
            assert_eq!((answer.role, answer.term), (Primary, Term(term)));
            assert_eq!(table.group.handover, None);
        }
    }

    #[test]
    fn a_goodbye_or_a_deletion_does_not_end_the_doubt() {
        for by in [By::Itself, By::Another] {
            let mut table = of_two();
            table.loses(0, by, 31);
            assert_ne!(table.hears(0, says(100).sent_at(89).acting_as(Secondary), 89).role, Primary);
            assert_eq!(table.hears(0, says(100).sent_at(90).acting_as(Secondary), 90).role, Primary);
        }
    }

    #[test]
    fn a_group_that_is_created_is_in_doubt_for_there_may_have_been_one() {
        let created = |now: i64| {
            let mut table = group(60).in_another_history(30, 1_000);
            let moment = Moment { now: at(now), outages: &table.outages, history: table.history };
            table.group = Group::begin(seconds(60), Remains::default(), moment);
            table.unheard()
        };
        assert_ne!(created(40).hears(0, says(100).sent_at(89), 89).role, Primary);
        assert_eq!(created(40).hears(0, says(100).sent_at(31).acting_as(Primary), 41).role, Primary);
        let answer = created(90).hears(0, says(100).sent_at(90), 90);
        assert_eq!((answer.role, answer.term), (Primary, Term(1_001)));
    }

    #[test]
    fn a_group_that_is_deleted_by_force_leaves_its_doubt_behind() {
        let mut table = group(60).secondary(100, 60).in_another_history(30, 1_000).recreated(5, 31).unheard();
        assert_ne!(table.hears(0, says(100).sent_at(89), 89).role, Primary);
        assert_eq!(table.hears(0, says(100).sent_at(90), 90).role, Primary);
    }

    #[test]
    fn a_clock_that_is_set_forward_does_not_end_the_doubt() {
        let mut table = of_two();
        table.hears(0, says(100).sent_at(31).acting_as(Secondary), 31);
        table = table.set_forward(40, 1_000);
        assert_ne!(table.hears(0, says(100).sent_at(41), 1_089).role, Primary);
        assert_eq!(table.hears(0, says(100).sent_at(42), 1_090).role, Primary);
    }

    #[test]
    fn a_sweep_leads_a_group_over_as_well_and_once() {
        let mut table = of_two();
        table.lapses(31);
        assert_eq!((table.group.term, table.group.in_doubt_until), (Term(1_000), Some(at(90))));
        table.lapses(95);
        assert_eq!(table.roles(), [Secondary, Secondary]);
        assert_eq!(table.hears(1, says(100).sent_at(96), 96).term, Term(1_001));
    }

    #[test]
    fn a_second_history_begins_a_second_doubt() {
        let mut table = of_two();
        table.hears(0, says(100).sent_at(31).acting_as(Primary), 31);
        table = table.in_another_history(80, 2_000);
        assert_eq!(table.hears(0, says(100).sent_at(81).acting_as(Primary), 81).term, Term(2_000));
        assert_eq!(table.group.in_doubt_until, Some(at(140)));
    }

    #[test]
    fn a_higher_term_than_is_known_lifts_the_terms() {
        let mut table = group(60).secondary(100, 60).unheard();
        assert_eq!(table.hears(0, says(100).term_seen(9), 10).term, Term(10), "granted, and above it");
        assert_eq!(table.hears(1, says(100).term_seen(12), 11).term, Term(13), "held, by one that had no such term");
        assert_eq!(table.hears(1, says(100).term_seen(13), 12).term, Term(13));
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        let too_high = at(10).0 / 1_000 + 1;
        assert_eq!(table.hears(1, says(100).term_seen(too_high), 10).term, Term(1), "no history gave it");
        assert_eq!(table.hears(1, says(100).term_seen(too_high - 1), 10).term, Term(too_high));
    }

    /// What may happen, to a client where it happens to one.
    #[derive(Clone, Debug)]
    enum Event {
        Heartbeat {
            client: usize,
            percent: i64,
            is_heard: bool,
        },
        Sweep,
        Deletion(usize),
        Recreation,
        /// The database loses what so many events did, and that is noticed after so many seconds.
        Loss(usize, i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let heartbeat = (0..3_usize, prop_oneof![Just(40_i64), Just(60)], prop::bool::weighted(0.8))
            .prop_map(|(client, percent, is_heard)| Event::Heartbeat { client, percent, is_heard });
        prop_oneof![
            24 => heartbeat,
            2 => Just(Event::Sweep),
            1 => (0..3_usize).prop_map(Event::Deletion),
            1 => Just(Event::Recreation),
            2 => (0..12_usize, 0..6_i64).prop_map(|(events, seconds)| Event::Loss(events, seconds)),
        ]
    }

    /// The database, with which client is at which place.
    #[derive(Clone, Debug)]
    struct Database {
        table: Table,
        places: Vec<usize>,
        alive_at: i64,
    }

    #[derive(Clone, Debug, Default)]
    struct Client {
        acts_until: i64,
        term_seen: i64,
    }

    const TIMEOUT: i64 = 10;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

        #[test]
        fn nobody_acts_beside_another_and_no_term_goes_back_or_to_two(
            events in prop::collection::vec((0..4_i64, event()), 1..80)
        ) {
            let table = group(TIMEOUT).unheard().unheard().unheard();
            let mut database = Database { table, places: vec![0, 1, 2], alive_at: 0 };
            let mut before = vec![database.clone()];
            let mut clients = vec![Client::default(); 3];
            let mut terms: std::collections::BTreeMap<i64, usize> = Default::default();
            let (mut now, mut highest, mut histories) = (1_000_000, 0, 1);
            for (pause, event) in events {
                now += pause;
                match event {
                    Event::Heartbeat { client: id, percent, is_heard } => {
                        let acts = now < clients[id].acts_until;
                        let Some(s) = database.places.iter().position(|place| *place == id) else {
                            if is_heard {
                                clients[id].acts_until = 0;
                                database.places.push(id);
                                database.table = database.table.unheard();
                            }
                            continue;
                        };
                        let role = if acts { Primary } else { Secondary };
                        let report = says(percent).sent_at(now).acting_as(role).term_seen(clients[id].term_seen);
                        let answer = database.table.hears(s, report, now);
                        assert!(answer.term.0 >= highest, "{answer:?} after {highest}");
                        if answer.role == Primary {
                            assert_eq!(*terms.entry(answer.term.0).or_insert(id), id, "{answer:?}");
                        }
                        if is_heard {
                            highest = answer.term.0;
                            clients[id].term_seen = answer.term.0;
                            clients[id].acts_until = if answer.role == Primary { now + TIMEOUT } else { 0 };
                        }
                        let acting = clients.iter().filter(|client| now < client.acts_until).count();
                        assert!(acting <= 1, "{clients:?} at {now}");
                    }
                    Event::Sweep => database.table.lapses(now),
                    Event::Deletion(id) => {
                        if let Some(s) = database.places.iter().position(|place| *place == id) {
                            database.table.loses(s, By::Another, now);
                            database.places.remove(s);
                        }
                    }
                    Event::Recreation => {
                        database.table = database.table.recreated(TIMEOUT, now);
                        database.places.clear();
                    }
                    Event::Loss(events, seconds) => {
                        database = before[before.len().saturating_sub(events + 1)].clone();
                        now += seconds;
                        histories += 1;
                        let (history, outages) = (&mut database.table.history, &mut database.table.outages);
                        let id = HistoryId(histories);
                        *history = Some(History { id, noticed_at: at(now), base: Term(histories * 1_000) });
                        let (began_at, recovered_at) = (at(database.alive_at), Instant(at(now).0.max(at(database.alive_at).0 + 1)));
                        outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: 0 });
                    }
                }
                database.alive_at = now;
                before.push(database.clone());
            }
            // Whoever is there takes over, once the last doubt is over.
            let mut somebody = false;
            for second in now..now + 3 * TIMEOUT {
                for s in 0..database.places.len() {
                    somebody = database.table.hears(s, says(50).sent_at(second), second).role == Primary || somebody;
                }
            }
            assert!(somebody || database.places.is_empty());
        }
    }
}

mod clocks_of_clients {
    use super::*;

    /// 2099, and a second of it.
    const FAR_AHEAD: i64 = 4_070_908_800;

    /// A Primary of a group of 60 s that yields at 200 s, having sent one heartbeat as its clock
    /// said then and the others as it says now; then it says that it stopped. Whether that is
    /// believed.
    fn is_believed_after(wrong: i64, wrong_at: i64, right_by: i64) -> bool {
        let mut table = group(60).unheard().unheard();
        for now in (0..200).step_by(20) {
            let sent = if now == wrong_at { wrong } else { now + right_by };
            assert_eq!(table.hears(0, says(80).sent_at(sent), now).role, Primary);
            table.hears(1, says(80), now);
        }
        table.hears(1, says(90), 199);
        assert_eq!(table.hears(0, says(80).sent_at(200 + right_by), 200).role, Secondary);
        table.hears(0, says(80).sent_at(201 + right_by).acting_as(Secondary), 201);
        table.group.handover.is_none()
    }

    #[test]
    fn one_that_was_wrong_once_is_forgotten_with_the_lease_that_it_gave() {
        for right_by in [-20, -1, 0, 1, 3_600] {
            assert!(is_believed_after(FAR_AHEAD, 0, right_by), "{right_by}");
            assert!(is_believed_after(FAR_AHEAD, 120, right_by), "{right_by}");
            // Whoever it answered Primary may still act.
            assert!(!is_believed_after(FAR_AHEAD, 160, right_by), "{right_by}");
        }
    }

    #[test]
    fn one_that_is_behind_is_believed_when_it_has_caught_up_with_the_end_of_that_lease() {
        assert!(is_believed_after(FAR_AHEAD, 0, -140));
        assert!(!is_believed_after(FAR_AHEAD, 0, -141));
    }

    #[test]
    fn one_that_is_always_ahead_or_behind_is_as_good_as_any() {
        for right_by in [-FAR_AHEAD, -5, 0, 5, FAR_AHEAD] {
            assert!(is_believed_after(right_by, 0, right_by), "{right_by}");
        }
    }

    #[test]
    fn an_old_message_of_a_clock_that_is_ahead_is_not_believed() {
        for ahead in [1, 30, 59, 60, 61, 3_600, FAR_AHEAD] {
            for age in [1, 5, 30, 59, 60, 61, 100] {
                let mut table = group(60).unheard().unheard();
                for now in 0..=100 {
                    table.hears(0, says(80).sent_at(now + ahead), now);
                    table.hears(1, says(80), now);
                }
                table.hears(1, says(90), 100);
                assert_eq!(table.hears(0, says(80).sent_at(101 + ahead), 101).role, Secondary);
                table.hears(0, says(80).sent_at(101 + ahead - age).acting_as(Secondary), 110);
                assert!(table.group.handover.is_some(), "{age} s old, by a clock {ahead} s ahead");
            }
        }
    }

    #[test]
    fn an_old_message_of_a_time_in_which_the_clock_was_wrong_is_not_believed_even_when_that_is_forgotten() {
        let mut table = group(60).unheard().unheard();
        table.hears(0, says(80).sent_at(FAR_AHEAD), 0);
        for now in (20..200).step_by(20) {
            table.hears(0, says(80).sent_at(now), now);
            table.hears(1, says(80), now);
        }
        table.hears(1, says(90), 199);
        assert_eq!(table.hears(0, says(80).sent_at(200), 200).role, Secondary);
        table.hears(0, says(80).sent_at(FAR_AHEAD + 1).acting_as(Secondary), 201);
        assert!(table.group.handover.is_some());
    }

    #[test]
    fn an_older_message_that_comes_late_under_a_longer_timeout_keeps_what_was_heard() {
        let mut table = group(10).unheard().unheard();
        table.hears(0, says(80).sent_at(1_000), 0);
        table.timeout(60);
        // Sent before, and answered with a lease of a minute.
        assert_eq!(table.hears(0, says(80).sent_at(999), 5).role, Primary);
        table.hears(1, says(90), 14);
        assert_eq!(table.hears(0, says(80).sent_at(997), 15).role, Secondary);
        table.hears(0, says(80).sent_at(998).acting_as(Secondary), 16);
        assert!(table.group.handover.is_some());
    }
}

mod between_heartbeats {
    use super::*;

    #[test]
    fn a_sweep_takes_primary_and_pending_away_where_the_lease_has_lapsed() {
        let mut table = group(60).primary(80, 60).pending(90, 60);
        table.lapses(60);
        assert_eq!(table.roles(), [Secondary, Secondary]);
        assert_eq!(table.reasons(), [Reason::LeaseLapsed, Reason::LeaseLapsed]);
    }

    #[test]
    fn a_sweep_leaves_an_unexpired_lease_alone() {
        let mut table = group(60).primary(80, 60).pending(90, 60);
        table.lapses(59);
        assert_eq!(table.roles(), [Primary, PendingPrimary]);
        assert!(table.trace.is_empty());
    }

    #[test]
    fn a_sweep_never_grants() {
        let mut table = group(60).primary(80, 60).pending(90, 100);
        table.lapses(60);
        assert_eq!(table.roles(), [Secondary, PendingPrimary]);
        assert_eq!(table.group.term, Term(1));
    }

    #[test]
    fn a_sweep_does_not_close_a_handover() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        let handover = table.group.handover;
        table.lapses(20);
        assert_eq!(table.group.handover, handover);
    }

    #[test]
    fn a_second_sweep_finds_nothing_to_do() {
        let mut table = group(60).primary(80, 60).pending(90, 60);
        table.lapses(60);
        table.trace.clear();
        table.lapses(60);
        assert!(table.trace.is_empty());
    }
}

mod when_the_service_was_away {
    use super::*;

    #[test]
    fn a_lease_unexpired_when_it_began_lasts_one_timeout_from_the_return() {
        let table = group(60).primary(100, 60).away(59, 1_000);
        assert!(table.is_live(0, 1_059));
        assert!(!table.is_live(0, 1_060));
    }

    #[test]
    fn a_lease_that_ends_later_anyway_is_not_shortened() {
        let table = group(60).primary(100, 600).away(10, 20);
        assert!(table.is_live(0, 599));
    }

    #[test]
    fn a_lease_that_had_run_out_before_stays_lapsed() {
        let table = group(60).primary(100, 60).away(60, 1_000);
        assert!(!table.is_live(0, 1_000));
    }

    #[test]
    fn a_restart_of_any_length_leads_to_no_change_by_itself() {
        let mut table = group(60).primary(80, 60).secondary(80, 60).away(10, 100_000);
        table.lapses(100_029);
        assert_eq!(table.hears(1, says(80), 100_029).role, Secondary);
        assert_eq!(table.hears(0, says(80), 100_030).role, Primary);
        assert!(table.trace.is_empty());
    }

    #[test]
    fn a_primary_that_died_during_it_is_replaced_one_timeout_after_the_return() {
        let mut table = group(60).primary(80, 60).secondary(80, 60).away(10, 1_000);
        assert_eq!(table.hears(1, says(80), 1_030).role, Secondary);
        assert_eq!(table.hears(1, says(80), 1_060).role, Primary);
    }

    #[test]
    fn a_lease_that_lives_on_only_through_the_first_lives_on_through_the_second() {
        let table = group(60).primary(100, 60).away(50, 100).away(150, 300);
        assert!(table.is_live(0, 359));
        assert!(!table.is_live(0, 360));
    }

    #[test]
    fn a_lease_that_lapsed_between_two_stays_lapsed_through_the_second() {
        let table = group(60).primary(100, 60).away(50, 100).away(160, 300);
        assert!(!table.is_live(0, 300));
    }

    #[test]
    fn a_lease_given_after_the_return_is_not_touched() {
        let table = group(60).primary(100, 1_090).away(10, 1_000);
        assert!(!table.is_live(0, 1_090));
    }

    #[test]
    fn a_timeout_shortened_after_the_return_does_not_shorten_what_the_return_gave() {
        let mut table = group(60).primary(100, 60).secondary(100, 60).away(10, 1_000);
        table.timeout(1);
        assert_eq!(table.hears(1, says(100), 1_020).role, Secondary);
        assert_eq!(table.roles(), [Primary, Secondary]);
    }

    #[test]
    fn a_heartbeat_with_a_shortened_timeout_does_not_shorten_what_the_return_gave() {
        let mut table = group(60).primary(100, 60).secondary(100, 60).away(10, 1_000);
        table.timeout(1);
        table.hears(0, says(100), 1_010);
        assert_eq!(table.hears(1, says(100), 1_059).role, Secondary);
        assert_eq!(table.hears(1, says(100), 1_060).role, Primary);
    }

    #[test]
    fn a_timeout_lengthened_long_after_the_return_does_not_bring_a_dead_session_back() {
        let mut table = group(60).secondary(100, 60).primary(50, 60).away(10, 1_000);
        table.hears(1, says(50), 1_030);
        table.hears(1, says(50), 1_080);
        table.timeout(3_600);
        assert!(!table.is_live(0, 1_100));
        assert_eq!(table.hears(1, says(50), 1_100).role, Primary);
        assert_eq!(table.roles(), [Secondary, Primary]);
    }

    #[test]
    fn a_handover_is_not_lengthened_as_nobody_acts_on_a_lease_it_could_not_renew() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        table = table.away(20, 1_000);
        assert_eq!(table.hears(1, says(90), 1_000).role, Primary);
    }

    #[test]
    fn a_handover_stays_open_for_as_long_when_the_clock_is_set_forward() {
        let mut table = group(60).primary(80, 45).pending(90, 60);
        table.hears(0, says(80), 10);
        table = table.set_forward(20, 100);
        assert_eq!(table.hears(1, says(90), 144).role, PendingPrimary);
        assert_eq!(table.hears(1, says(90), 145).role, Primary, "25 seconds after the step, as before it");
    }

    #[test]
    fn a_primary_that_yields_right_after_the_clock_was_set_forward_is_waited_for() {
        let mut table = group(60).primary(80, 45).secondary(90, 60).set_forward(20, 100);
        assert_eq!(table.hears(0, says(80), 121).role, Secondary, "its lease stood");
        assert_eq!(table.hears(1, says(90), 144).role, PendingPrimary);
        assert_eq!(table.hears(1, says(90), 145).role, Primary);
    }

    #[test]
    fn a_handover_long_after_a_step_of_the_clock_is_none_the_longer() {
        let mut table = group(60).primary(80, 45).secondary(80, 60).set_forward(20, 100);
        table.hears(0, says(80), 150);
        table.hears(0, says(80), 200);
        table.hears(1, says(90), 201);
        table.hears(0, says(80), 210);
        assert_eq!(table.hears(1, says(90), 259).role, PendingPrimary);
        assert_eq!(table.hears(1, says(90), 260).role, Primary);
    }
}

mod known_traps {
    use super::*;

    #[test]
    fn health_equal_and_both_live_the_primary_stays() {
        let mut table = group(60).secondary(90, 60).primary(90, 60);
        table.hears(0, says(90), 10);
        table.hears(1, says(90), 10);
        assert_eq!(table.roles(), [Secondary, Primary]);
        assert!(table.trace.is_empty());
    }

    #[test]
    fn health_oscillating_by_less_than_the_margin_changes_nothing() {
        let mut table = group(60).margin(5).primary(90, 60).secondary(90, 60);
        for now in 1..50 {
            table.hears(0, says(90 - now % 3), now);
            table.hears(1, says(88 + now % 5), now);
        }
        assert!(table.trace.is_empty());
    }

    #[test]
    fn of_two_equal_secondaries_whichever_heartbeats_first_after_the_lapse_is_granted_at_once() {
        for first in [1, 2] {
            let mut table = group(60).primary(100, 50).secondary(90, 100).secondary(90, 100);
            assert_eq!(table.hears(first, says(90), 50).role, Primary);
            assert_eq!(table.hears(3 - first, says(90), 50).role, Secondary);
        }
    }

    #[test]
    fn the_healthier_secondary_is_pending_until_its_next_heartbeat() {
        let mut table = group(60).primary(100, 50).secondary(80, 100).secondary(90, 100);
        assert_eq!(table.hears(1, says(80), 50).role, Secondary);
        assert_eq!(table.roles(), [Secondary, Secondary, PendingPrimary]);
        assert_eq!(table.hears(2, says(90), 51).role, Primary);
    }

    #[test]
    fn if_the_healthier_secondary_lapses_first_the_other_is_granted() {
        let mut table = group(60).primary(100, 50).secondary(80, 60).secondary(90, 70);
        table.hears(1, says(80), 50);
        assert_eq!(table.hears(1, says(80), 70).role, Primary);
    }

    #[test]
    fn a_pending_one_that_falls_behind_goes_back_and_the_new_best_is_pending() {
        let mut table = group(60).primary(50, 60).pending(90, 60).secondary(80, 60);
        assert_eq!(table.hears(1, says(70), 10).role, Secondary);
        assert_eq!(table.roles(), [Primary, Secondary, PendingPrimary]);
    }

    #[test]
    fn a_repeated_heartbeat_is_answered_like_the_first() {
        let mut table = group(60).primary(100, 60).secondary(90, 60);
        let first = table.hears(0, says(100).data_until(5), 10);
        assert_eq!(table.hears(0, says(100).data_until(5), 10), first);
        assert!(table.trace.is_empty());
    }

    #[test]
    fn a_repeated_first_heartbeat_is_granted_once() {
        let mut table = group(60).unheard();
        let first = table.hears(0, says(100), 10);
        assert_eq!(table.hears(0, says(100), 11), first);
        assert_eq!(table.trace.len(), 1);
    }

    #[test]
    fn a_longer_lease_stands_when_the_timeout_is_shortened() {
        let mut table = group(60).primary(100, 60).secondary(100, 60);
        table.timeout(1);
        table.hears(0, says(100), 10);
        assert_eq!(table.lease_until(0), at(60));
        assert_eq!(table.hears(1, says(100), 59).role, Secondary);
        assert_eq!(table.hears(1, says(100), 60).role, Primary);
    }
}

mod histories {
    use super::*;

    const SESSIONS: usize = 4;

    #[derive(Clone, Debug)]
    enum Event {
        Heartbeat {
            session: usize,
            health: i64,
            acting_as: Option<Role>,
            data_age: Option<i64>,
            late_by: i64,
        },
        Sweep,
        Removal(usize, By),
        /// The group is deleted by force and another created at its path, with the same clients.
        Recreation,
        Timeout(i64),
        Outage(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let heartbeat = (
            0..SESSIONS,
            prop_oneof![Just(40_i64), Just(50), Just(60)],
            prop_oneof![Just(None), Just(Some(Secondary)), Just(Some(Primary))],
            prop::option::of(-5..20_i64),
            LATENESS,
        )
            .prop_map(|(session, health, acting_as, data_age, late_by)| Event::Heartbeat {
                session,
                health,
                acting_as,
                data_age,
                late_by,
            });
        prop_oneof![
            20 => heartbeat,
            2 => Just(Event::Sweep),
            1 => (0..SESSIONS, prop_oneof![Just(By::Itself), Just(By::Another)])
                .prop_map(|(session, by)| Event::Removal(session, by)),
            1 => Just(Event::Recreation),
            1 => prop_oneof![Just(5_i64), Just(10), Just(20)].prop_map(Event::Timeout),
            1 => (1..40_i64).prop_map(Event::Outage),
        ]
    }

    /// By how long a heartbeat may be older than the newest of its session.
    const LATENESS: std::ops::Range<i64> = 0..9;

    /// By how many seconds each client's clock is ahead of the database's.
    const AHEAD: [i64; SESSIONS] = [0, -50, 3, 10_000];

    /// In seconds of a client's clock: before anything that a test sends.
    const LONG_AGO: i64 = -1_000;

    /// Events and the seconds that pass before each.
    fn history() -> impl Strategy<Value = Vec<(i64, Event)>> {
        prop::collection::vec((prop_oneof![3 => Just(0_i64), 5 => 1..4_i64, 1 => 4..15_i64], event()), 1..60)
    }

    /// A session as the test follows it, whatever place it has.
    #[derive(Clone, Debug)]
    struct Follow {
        id: usize,
        newest_sent: i64,
        /// When it sent the newest of its heartbeats that was answered Primary.
        newest_primary_sent: i64,
        /// It may act as Primary before this instant.
        primary_until: Instant,
    }

    struct Step<'a> {
        now: Instant,
        outages: &'a [Outage],
        rules: &'a Rules,
        before: &'a Group,
        after: &'a Group,
        trace: &'a [Transition],
        heartbeat: Option<(usize, Report, Answer)>,
        follows: &'a [Follow],
        is_recreated: bool,
    }

    impl Step<'_> {
        fn grants(&self) -> Vec<usize> {
            self.trace.iter().filter(|change| change.to == Primary).map(|change| change.session).collect()
        }
    }

    /// Plays a history and shows every step to the check; removed sessions come back as new ones,
    /// under the same ids.
    fn play(events: &[(i64, Event)], mut check: impl FnMut(&Step<'_>)) {
        let mut table = group(10).unheard().unheard().unheard().unheard();
        let mut follows: Vec<Follow> = (0..SESSIONS)
            .map(|id| Follow { id, newest_sent: LONG_AGO, newest_primary_sent: LONG_AGO, primary_until: at(0) })
            .collect();
        let mut now = 0;
        for (pause, event) in events {
            now += pause;
            let before = table.group.clone();
            let place = |id: usize| follows.iter().position(|follow| follow.id == id).expect("each id has a place");
            table.trace.clear();
            let mut heard = None;
            let mut removed = None;
            let mut is_recreated = false;
            match event {
                Event::Heartbeat { session, health, acting_as, data_age, late_by } => {
                    let s = place(*session);
                    let ahead = AHEAD[*session];
                    let sent = ahead + now.max(follows[s].newest_sent - ahead + 1) - late_by;
                    let report = Report {
                        acting_as: *acting_as,
                        data_sent_until: data_age.map(|age| at(now - age)),
                        ..says(*health).sent_at(sent)
                    };
                    heard = Some((s, report, table.hears(s, report, now)));
                }
                Event::Sweep => table.lapses(now),
                Event::Removal(session, by) => {
                    let s = place(*session);
                    let moment = moment(at(now), &table.outages);
                    remove(&mut table.group, s, *by, moment, &mut table.trace);
                    removed = Some((s, *by));
                }
                Event::Recreation => {
                    table = table.recreated(10, now).unheard().unheard().unheard().unheard();
                    is_recreated = true;
                }
                Event::Timeout(timeout) => table.timeout(*timeout),
                Event::Outage(length) => {
                    table = table.away(now, now + length);
                    now += length;
                }
            }
            check(&Step {
                now: at(now),
                outages: &table.outages,
                rules: &table.rules,
                before: &before,
                after: &table.group,
                trace: &table.trace,
                heartbeat: heard,
                follows: &follows,
                is_recreated,
            });
            if let Some((s, report, answer)) = heard {
                let acknowledges = report.acting_as == Some(Secondary)
                    && report.sent_at.0 > follows[s].newest_primary_sent * SECOND
                    && before.handover.is_some_and(|handover| handover.is_from(s));
                let sent = report.sent_at.0 / SECOND;
                follows[s].newest_sent = follows[s].newest_sent.max(sent);
                if answer.role == Primary {
                    follows[s].newest_primary_sent = follows[s].newest_primary_sent.max(sent);
                    let until = follows[s].primary_until.max(at(now).plus(table.group.timeout));
                    follows[s].primary_until = until;
                } else if acknowledges {
                    follows[s].primary_until = at(0);
                }
            }
            if let Some((s, by)) = removed {
                drop_place(&mut table.group, s);
                let gone = follows.remove(s);
                table = table.unheard();
                // One that is deleted by another acts on; under its id there may be another process
                // by now.
                let primary_until = if by == By::Itself { at(0) } else { gone.primary_until };
                follows.push(Follow { primary_until, ..gone });
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_state_is_consistent_with_one_holder_of_a_role_at_most(events in history()) {
            play(&events, |step| {
                assert!(step.after.is_consistent());
                for role in [Primary, PendingPrimary] {
                    assert!(step.after.sessions.iter().filter(|session| session.role == role).count() <= 1);
                }
            });
        }

        #[test]
        fn the_term_rises_by_one_with_each_grant_and_only_then(events in history()) {
            play(&events, |step| {
                let grants = i64::try_from(step.grants().len()).expect("a few");
                assert!(grants <= 1);
                assert_eq!(step.after.term.0, step.before.term.0 + grants);
            });
        }

        #[test]
        fn the_watermark_never_falls_and_is_never_in_the_future(events in history()) {
            play(&events, |step| {
                assert!(step.is_recreated || step.after.watermark() >= step.before.watermark());
                assert!(step.after.watermark() <= Some(step.now));
            });
        }

        #[test]
        fn primary_is_granted_only_to_the_session_that_heartbeats(events in history()) {
            play(&events, |step| {
                for s in step.grants() {
                    let (sender, _, answer) = step.heartbeat.expect("only a heartbeat grants");
                    assert_eq!((s, answer.role), (sender, Primary));
                }
            });
        }

        #[test]
        fn the_trace_replays_to_the_roles(events in history()) {
            play(&events, |step| {
                let mut roles: Vec<Role> = step.before.sessions.iter().map(|session| session.role).collect();
                for change in step.trace {
                    assert_ne!(change.from, change.to);
                    assert_eq!(roles[change.session], change.from);
                    roles[change.session] = change.to;
                }
                let after: Vec<Role> = step.after.sessions.iter().map(|session| session.role).collect();
                assert_eq!(roles, after, "whoever is deleted has given up its role before");
            });
        }

        #[test]
        fn unexpired_primary_leases_of_two_sessions_never_overlap(events in history()) {
            play(&events, |step| {
                let grants = step.grants();
                for (i, follow) in step.follows.iter().enumerate() {
                    let may_act = step.now < follow.primary_until;
                    assert!(grants.is_empty() || grants == [i] || !may_act, "{follow:?} at {:?}", step.now);
                }
            });
        }

        #[test]
        fn no_stored_time_of_a_session_moves_back(events in history()) {
            play(&events, |step| {
                if step.is_recreated {
                    return;
                }
                for (before, after) in std::iter::zip(&step.before.sessions, &step.after.sessions) {
                    if let (Some(before), Some(after)) = (before.beat, after.beat) {
                        assert!(after.received_at >= before.received_at);
                        assert!(after.lease_until >= before.lease_until);
                    }
                    assert!(after.beat.is_none() || after.sent_until >= before.sent_until);
                }
            });
        }

        #[test]
        fn a_heartbeat_repeated_at_the_same_moment_changes_nothing(events in history()) {
            play(&events, |step| {
                let Some((s, report, answer)) = step.heartbeat else { return };
                let mut group = step.after.clone();
                let mut trace = Vec::new();
                let moment = moment(step.now, step.outages);
                let again = heartbeat(&mut group, s, &report, moment, step.rules, &mut trace);
                assert!(trace.is_empty(), "{trace:?}");
                // The report that came with a grant is that of a Primary when it comes again.
                let watermark = if step.grants().is_empty() { answer.watermark } else { again.watermark };
                assert_eq!(again, Answer { watermark, ..answer });
            });
        }

        /// What a part of the group says holds for all of it; but for the Primary that is outranked
        /// by one whose place as PendingPrimary was taken since, and which takes it again with its
        /// next heartbeat.
        #[test]
        fn what_changes_nothing_in_a_part_of_the_group_changes_nothing_in_all_of_it(events in history()) {
            play(&events, |step| {
                let Some((s, report, answer)) = step.heartbeat else { return };
                let kept: Vec<usize> =
                    (0..SESSIONS).filter(|i| *i == s || step.before.sessions[*i].role != Secondary).collect();
                let sessions: Vec<Session> = kept.iter().map(|i| step.before.sessions[*i].clone()).collect();
                let place = kept.iter().position(|i| *i == s).expect("it is kept");
                let of_others = step.before.watermark();
                let handover = step.before.handover.filter(|handover| matches!(handover.from, Former::Gone));
                let mut part = Group { sessions, handover, watermark_base: of_others, ..step.before.clone() };
                let moment = Moment { now: step.now, outages: step.outages, history: None };
                if step.before.handover != handover || !changes_nothing(&part, place, &report, moment, step.rules) {
                    return;
                }
                let mut trace = Vec::new();
                let told = heartbeat(&mut part, place, &report, moment, step.rules, &mut trace);
                assert!(trace.is_empty(), "{trace:?}");
                assert_eq!(part.sessions[place], Session { role: told.role, ..step.after.sessions[s].clone() });
                let primary = part.sessions[part.holder(Primary).expect("there is one")].beat.expect("it lives");
                let is_outranked = |session: &Session| {
                    session.beat.is_some_and(|beat| overtakes(beat.health, primary.health, step.rules))
                };
                if !step.before.sessions.iter().any(is_outranked) {
                    assert_eq!(told, answer);
                    assert!(step.trace.is_empty(), "{:?}", step.trace);
                }
            });
        }

        #[test]
        fn a_lapse_only_takes_away_and_a_second_one_finds_nothing(events in history()) {
            play(&events, |step| {
                let moment = moment(step.now, step.outages);
                let (mut group, mut first, mut second) = (step.after.clone(), Vec::new(), Vec::new());
                lapse(&mut group, moment, &mut first);
                lapse(&mut group, moment, &mut second);
                assert!(first.iter().all(|change| change.to == Secondary));
                assert!(second.is_empty());
            });
        }

        #[test]
        fn an_idle_healthy_group_never_changes_roles(
            healths in prop::collection::vec(prop_oneof![Just(40_i64), Just(60)], 1..5),
            beats in prop::collection::vec((1..4_i64, 0..5_usize, prop::option::of(1..100_i64)), 1..60),
        ) {
            let best = *healths.iter().max().expect("one at least");
            let first = healths.iter().position(|health| *health == best).expect("one at least");
            let mut table = healths.iter().fold(group(10), |table, _| table.unheard());
            let mut now = 0;
            table.hears(first, says(best), now);
            for (s, health) in healths.iter().enumerate() {
                table.hears(s, says(*health), now);
            }
            table.trace.clear();
            for (pause, rotation, outage) in beats {
                now += pause;
                for i in 0..healths.len() {
                    let s = (i + rotation) % healths.len();
                    table.hears(s, says(healths[s]), now);
                }
                if let Some(length) = outage {
                    table = table.away(now, now + length);
                    now += length;
                }
                table.lapses(now);
                prop_assert!(table.trace.is_empty(), "{:?}", table.trace);
            }
        }
    }
}
