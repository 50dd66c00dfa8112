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
