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
