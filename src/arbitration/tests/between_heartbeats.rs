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
