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
