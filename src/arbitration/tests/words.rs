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
