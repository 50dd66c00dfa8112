use super::*;

const FORCED: Wish = Wish::Forced(WhenSilent::Replace);

fn looks_ahead(table: &Table, now: i64, clients: Clients) -> (Vec<(usize, Role, Role)>, i64) {
    let moment = Moment { now: at(now), outages: &table.outages, history: table.history };
    let course = Course::of(clients, table.group.timeout);
    let foreseen = foresee(&table.group, moment, &table.rules, course);
    let gap_us = without_primary_us(&table.group, &foreseen, course);
    (foreseen.into_iter().map(|change| (change.session, change.from, change.to)).collect(), gap_us)
}

fn wished(mut table: Table, s: usize, wish: Wish, now: i64) -> Table {
    let moment = Moment { now: at(now), outages: &table.outages, history: table.history };
    super::wish(&mut table.group, s, Wished { wish, until: None }, moment, &mut table.trace).expect("it can be wished");
    table
}

#[test]
fn of_silent_clients_the_old_lease_is_waited_for_and_of_attentive_ones_a_moment() {
    let table = wished(group(60).primary(100, 60).secondary(50, 70), 1, FORCED, 15);
    let handover = [(1, Secondary, PendingPrimary), (0, Primary, Secondary), (1, PendingPrimary, Primary)];
    let (mut changes, silent_us) = looks_ahead(&table, 15, Clients::Silent);
    changes.sort_by_key(|(session, from, _)| (*from == PendingPrimary, *session == 0));
    assert_eq!(changes, handover);
    assert!((30 * SECOND..=60 * SECOND).contains(&silent_us), "{silent_us}");
    let (changes, attentive_us) = looks_ahead(&table, 15, Clients::Attentive);
    assert_eq!(changes.len(), 3);
    assert!(attentive_us < SECOND / 100, "{attentive_us}");
}

#[test]
fn where_nothing_would_change_nothing_is_foreseen() {
    let table = group(60).primary(100, 60).secondary(50, 70);
    for clients in [Clients::Silent, Clients::Attentive] {
        assert_eq!(looks_ahead(&table, 15, clients), (vec![], 0));
    }
}

#[test]
fn where_nobody_would_be_left_that_is_until_the_end_of_what_is_looked_at() {
    let table = wished(group(60).primary(100, 60).secondary(50, 10), 0, Wish::Excluded, 15);
    let (changes, gap_us) = looks_ahead(&table, 15, Clients::Attentive);
    assert_eq!(changes, [(0, Primary, Secondary)]);
    assert!(gap_us > 3 * 60 * SECOND, "{gap_us}");
}

#[test]
fn clients_that_do_not_hear_of_a_much_shorter_timeout_lose_their_leases() {
    let mut table = group(60).primary(100, 60).secondary(100, 70);
    let moment = Moment { now: at(15), outages: &table.outages, history: table.history };
    let before = Course::of(Clients::Silent, table.group.timeout);
    table.group.timeout =
        FailoverTimeout::from_ticks(10 * FailoverTimeout::TICKS_PER_MS * 1_000).expect("it is in range");
    let foreseen = foresee(&table.group, moment, &table.rules, before);
    let lapses: Vec<i64> = foreseen
        .iter()
        .filter(|change| change.reason == Reason::LeaseLapsed && change.from == Primary)
        .map(|c| c.after_us)
        .collect();
    // The lease that was given lasts; the next ones are of ten seconds, and heartbeats come every
    // thirty.
    assert!(lapses.first().is_some_and(|first| *first >= 45 * SECOND), "{lapses:?}");
    assert!(lapses.len() > 1, "{lapses:?}");
    assert!(without_primary_us(&table.group, &foreseen, before) > 20 * SECOND);

    let after = Course::of(Clients::Attentive, table.group.timeout);
    assert_eq!(foresee(&table.group, moment, &table.rules, after), vec![]);
}
