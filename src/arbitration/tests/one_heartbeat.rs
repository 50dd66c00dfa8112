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
