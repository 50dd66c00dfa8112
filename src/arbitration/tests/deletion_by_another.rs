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
