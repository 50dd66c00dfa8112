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
