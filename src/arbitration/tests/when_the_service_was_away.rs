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
