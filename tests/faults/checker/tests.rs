//! The checker against records made by hand: a clean one passes, and each kind of breach is found.

use super::super::clock::Stamp;
use super::super::record::{
    ClientEvent, ClientLog, Fault, FaultKind, FencedWrite, GroupRow, HeartbeatRow, HistoryRow, Keeps, Mode, OutageRow,
    Outcome, PRIMARY, Record, SECONDARY, SessionRow, ShownPrimary, TimeoutSet, Transition, WishMade,
};
use super::{Ended, Findings, Kind, Tolerance, check};

const MS: i64 = 1_000;
/// The beginning of every record, and the failover timeout.
const START: i64 = 1_000_000_000;
const TIMEOUT_MS: i64 = 1_000;

fn at(ms: i64) -> Stamp {
    Stamp { mono: START + ms * MS, wall: START + ms * MS }
}

/// A client that is made up heartbeat by heartbeat.
struct Made {
    log: ClientLog,
    n: u32,
    health: u8,
    acting_as: Option<i16>,
    data_ms: Option<i64>,
}

impl Made {
    fn client(session: &str) -> Made {
        let keeps = Keeps::TheTrustRule;
        let log = ClientLog { group: "g".to_owned(), session: session.to_owned(), keeps, events: vec![] };
        Made { log, n: 0, health: 100, acting_as: None, data_ms: None }
    }

    fn sends(&mut self, ms: i64) {
        self.n += 1;
        self.log.events.push(ClientEvent::Sent {
            n: self.n,
            at: at(ms),
            acting_as: self.acting_as,
            health: self.health,
            heartbeat_time: Some(at(ms).wall),
            data_time: self.data_ms.map(|ms| at(ms).wall),
        });
    }

    /// A heartbeat that is answered 5 ms later.
    fn beat(&mut self, ms: i64, role: i16, term: i64, watermark_ms: Option<i64>) {
        self.sends(ms);
        let lease_ms = if role == PRIMARY { TIMEOUT_MS } else { 0 };
        let watermark = watermark_ms.map(|ms| at(ms).wall);
        let outcome = Outcome::Ok { role, term, lease_ms, watermark };
        self.log.events.push(ClientEvent::Answered { n: self.n, at: at(ms + 5), outcome });
        if role == PRIMARY {
            let (from, until) = (at(ms + 5).mono, at(ms + TIMEOUT_MS).mono);
            self.log.events.push(ClientEvent::May { from, until, term });
            self.log.events.push(ClientEvent::Acted { at: from, term });
        }
    }
}

fn row(ms: i64, session: &str, from: i16, to: i16, term: i64, reason: &str) -> Transition {
    let (group, session, reason) = ("g".to_owned(), session.to_owned(), reason.to_owned());
    Transition { group, session, from, to, term, reason, at: at(ms).wall }
}

fn stored_heartbeat(session: &str, ms: i64) -> HeartbeatRow {
    let (group, session) = ("g".to_owned(), session.to_owned());
    HeartbeatRow { group, session, heartbeat_time: at(ms).wall, received_at: at(ms + 2).wall }
}

fn fault(kind: FaultKind, session: &str, from_ms: i64, until_ms: i64) -> Fault {
    let client = Some(("g".to_owned(), session.to_owned()));
    Fault { kind, client, from: at(from_ms).wall, until: at(until_ms).wall }
}

fn timeout_set(at_ms: i64, ms: i64) -> TimeoutSet {
    TimeoutSet { group: "g".to_owned(), at: at(at_ms).wall, ms, held_at: Some(at(at_ms + 5).wall) }
}

/// `a` is Primary from the beginning, reports data, and is killed after 2 s; `b` takes over at 3 s.
fn clean() -> Record {
    let (mut a, mut b) = (Made::client("a"), Made::client("b"));
    a.beat(0, PRIMARY, 1, None);
    a.data_ms = Some(450);
    for ms in [500, 1_000, 1_500, 2_000] {
        a.beat(ms, PRIMARY, 1, Some(450));
    }
    b.beat(250, SECONDARY, 1, None);
    for ms in [750, 1_250, 1_750, 2_250, 2_750] {
        b.beat(ms, SECONDARY, 1, Some(450));
    }
    for ms in [3_250, 3_750, 4_250] {
        b.beat(ms, PRIMARY, 2, Some(450));
    }
    let sessions = [("a", SECONDARY), ("b", PRIMARY)];
    Record {
        clients: vec![a.log, b.log],
        faults: vec![fault(FaultKind::ClientKilled, "a", 2_100, 9_000)],
        timeouts: vec![timeout_set(-100, TIMEOUT_MS)],
        transitions: vec![
            row(2, "a", 0, 1, 1, "first_heartbeat"),
            row(3_010, "a", 1, 0, 1, "lease_lapsed"),
            row(3_252, "b", 0, 1, 2, "lease_lapsed"),
        ],
        sessions: sessions
            .map(|(session, role)| SessionRow { group: "g".to_owned(), session: session.to_owned(), role })
            .to_vec(),
        groups: vec![GroupRow { group: "g".to_owned(), term: 2, watermark: Some(at(450).wall) }],
        heartbeats: vec![stored_heartbeat("a", 2_000), stored_heartbeat("b", 4_250)],
        stopped_from: at(4_500).wall,
        ended_at: at(4_500).wall,
        ..Record::default()
    }
}

fn findings(change: impl FnOnce(&mut Record)) -> Findings {
    let mut record = clean();
    change(&mut record);
    check(&record, Tolerance::default())
}

#[track_caller]
fn assert_found(kind: Kind, change: impl FnOnce(&mut Record)) {
    let found = findings(change).violations;
    assert!(found.iter().any(|violation| violation.kind == kind), "{kind:?} is not among {found:?}");
}

/// The events of `a` (0) or `b` (1).
fn events(record: &mut Record, client: usize) -> &mut Vec<ClientEvent> {
    &mut record.clients[client].events
}

/// Changes the answer to a heartbeat.
fn answer(record: &mut Record, client: usize, number: u32, change: impl FnOnce(&mut i16, &mut i64, &mut Option<i64>)) {
    let answered = events(record, client).iter_mut().find_map(|event| match event {
        ClientEvent::Answered { n, outcome: Outcome::Ok { role, term, watermark, .. }, .. } if *n == number => {
            Some((role, term, watermark))
        }
        _ => None,
    });
    let (role, term, watermark) = answered.expect("it was answered");
    change(role, term, watermark);
}

#[test]
fn a_clean_record_passes() {
    let found = findings(|_| {});
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert!(found.needless.is_empty(), "{:?}", found.needless);
    assert_eq!((found.heartbeats, found.answered, found.grants), (14, 14, 2));
    let (timeouts, ms) = found.longest_gap;
    assert!(timeouts > 1.0 && timeouts < 1.5 && ms > 1_000, "{:?}", found.longest_gap);
}

#[test]
fn a_lease_that_was_cut_short_is_found() {
    assert_found(Kind::TwoGranted, |record| record.transitions[1].at = at(2_900).wall);
}

#[test]
fn a_grant_beside_a_standing_lease_is_found() {
    assert_found(Kind::TwoGranted, |record| {
        record.transitions[1] = row(2_002, "a", 1, 0, 1, "yielded");
        record.transitions[2] = row(2_752, "b", 0, 1, 2, "handover_completed");
    });
}

#[test]
fn a_grant_after_an_acknowledgement_is_none() {
    let mut record = clean();
    record.transitions[1] = row(2_002, "a", 1, 0, 1, "yielded");
    record.transitions[2] = row(2_752, "b", 0, 1, 2, "handover_completed");
    let mut acknowledging = Made { n: 5, acting_as: Some(SECONDARY), ..Made::client("a") };
    acknowledging.beat(2_500, SECONDARY, 1, Some(450));
    events(&mut record, 0).extend(acknowledging.log.events);
    let found = check(&record, Tolerance::default()).violations;
    assert!(found.iter().all(|violation| violation.kind != Kind::TwoGranted), "{found:?}");
}

#[test]
fn two_primaries_in_the_trace_are_found() {
    assert_found(Kind::TwoGranted, |record| {
        record.transitions.remove(1);
    });
}

#[test]
fn two_that_are_entitled_to_act_are_found() {
    assert_found(Kind::TwoActing, |record| {
        let (from, until) = (at(2_500).mono, at(3_500).mono);
        events(record, 1).insert(12, ClientEvent::May { from, until, term: 1 });
    });
}

#[test]
fn data_of_an_older_term_after_newer_data_is_found() {
    assert_found(Kind::TwoActing, |record| {
        events(record, 0).push(ClientEvent::Acted { at: at(3_300).mono, term: 1 });
    });
}

/// The two of a clean record as members, which say when they acted and when that was received.
fn members(change: impl FnOnce(&mut Record)) -> Findings {
    findings(|record| {
        for log in &mut record.clients {
            log.keeps = Keeps::ItsLease;
            let acts = log.events.clone().into_iter().filter(|event| matches!(event, ClientEvent::Acted { .. }));
            log.events = acts.collect();
        }
        change(record);
    })
}

#[test]
fn members_that_act_at_once_are_found_and_what_is_past_the_fence_and_left_behind() {
    let kinds = |found: Findings| found.violations.iter().map(|violation| violation.kind).collect::<Vec<_>>();
    assert_eq!(kinds(members(|_| {})), []);
    // With the same term, and another in between.
    let acted = |ms: i64| ClientEvent::Acted { at: at(ms).mono, term: 2 };
    let found = members(|record| {
        events(record, 1).extend([acted(3_500), acted(3_520)]);
        events(record, 0).push(acted(3_510));
    });
    assert!(kinds(found).contains(&Kind::MembersActing));
    // It began before, and was received after.
    let found = members(|record| {
        let (at, until) = (at(2_000).mono, at(9_000).mono);
        events(record, 0).push(ClientEvent::Received { at, until, is_taken: false });
    });
    assert!(kinds(found).contains(&Kind::MembersActing));
    let found = members(|record| {
        record.fenced.extend([2, 1].map(|term| FencedWrite { group: "g".to_owned(), term }));
        record.orphans.push("a program".to_owned());
    });
    assert_eq!(kinds(found), [Kind::PastTheFence, Kind::Orphan]);
}

#[test]
fn a_term_that_was_not_raised_is_found() {
    assert_found(Kind::Term, |record| record.transitions[2].term = 1);
}

#[test]
fn a_term_in_the_group_that_no_row_has_is_found() {
    assert_found(Kind::Term, |record| record.groups[0].term = 3);
}

#[test]
fn a_term_in_an_answer_that_fell_is_found() {
    assert_found(Kind::Term, |record| answer(record, 1, 8, |_, term, _| *term = 1));
}

/// An exclusion of a session: when it was changed, and when it holds for certain, in ms.
fn excluded(session: &str, changed: &[(i64, i64)], certain: Option<(i64, i64)>) -> WishMade {
    let walls = |(from, until): (i64, i64)| (at(from).wall, at(until).wall);
    WishMade {
        group: "g".to_owned(),
        session: session.to_owned(),
        excluded: true,
        from: at(changed[0].0).wall,
        until: at(20_000).wall,
        changed: changed.iter().copied().map(walls).collect(),
        certain: certain.map(walls),
    }
}

#[test]
fn a_grant_to_one_that_is_excluded_is_found() {
    let whole = || excluded("b", &[(2_500, 2_510), (4_000, 4_010)], Some((2_510, 4_000)));
    assert_found(Kind::WishIgnored, |record| record.wishes = vec![whole()]);
    // What is wished of others meanwhile does not end it.
    let of_other = || excluded("a", &[(2_600, 2_610)], None);
    assert_found(Kind::WishIgnored, |record| record.wishes = vec![of_other(), whole()]);
    let passes = |wishes: Vec<WishMade>| {
        let found = findings(|record| record.wishes = wishes);
        assert!(found.violations.iter().all(|found| found.kind != Kind::WishIgnored), "{:?}", found.violations);
    };
    passes(vec![excluded("b", &[(2_500, 2_510), (3_000, 3_010)], Some((2_510, 3_000)))]);
    passes(vec![whole(), excluded("b", &[(2_600, 2_610)], None)]);
}

#[test]
fn a_watermark_that_fell_is_found() {
    assert_found(Kind::Watermark, |record| answer(record, 1, 8, |_, _, watermark| *watermark = None));
    assert_found(Kind::Watermark, |record| record.groups[0].watermark = None);
}

#[test]
fn a_watermark_from_a_secondary_is_found() {
    assert_found(Kind::Watermark, |record| {
        let reported = at(740).wall;
        let Some(ClientEvent::Sent { data_time, .. }) = events(record, 1).get_mut(2) else { panic!("it was sent") };
        *data_time = Some(reported);
        answer(record, 1, 2, |_, _, watermark| *watermark = Some(reported));
    });
}

#[test]
fn an_answered_heartbeat_that_is_not_stored_is_found() {
    assert_found(Kind::HeartbeatLost, |record| record.heartbeats[1] = stored_heartbeat("b", 3_250));
    assert_found(Kind::HeartbeatLost, |record| {
        record.heartbeats.remove(0);
    });
}

#[test]
fn a_role_without_a_row_is_found() {
    assert_found(Kind::AnswerWithoutRow, |record| answer(record, 1, 3, |role, _, _| *role = PRIMARY));
    assert_found(Kind::AnswerWithoutRow, |record| {
        record.transitions.remove(2);
    });
}

#[test]
fn a_row_that_does_not_follow_is_found() {
    assert_found(Kind::TraceBroken, |record| record.transitions[1].from = 2);
    assert_found(Kind::TraceBroken, |record| record.transitions[1].at = at(9_000).wall);
    assert_found(Kind::TraceBroken, |record| record.sessions[1].role = SECONDARY);
}

#[test]
fn a_group_that_nobody_takes_over_is_found() {
    assert_found(Kind::NobodyPrimary, |record| {
        record.transitions.truncate(2);
        record.sessions[1].role = SECONDARY;
        record.groups[0].term = 1;
        for number in [7, 8, 9] {
            answer(record, 1, number, |role, term, _| (*role, *term) = (SECONDARY, 1));
        }
    });
}

#[test]
fn one_that_is_heard_again_under_a_longer_timeout_was_silent_all_the_same() {
    // 1.4 s after its last heartbeat: late for the timeout of 1 s, and in time for that of 4 s.
    let found = findings(|record| {
        record.timeouts.push(timeout_set(3_300, 4_000));
        let mut returning = Made { n: 5, ..Made::client("a") };
        returning.beat(3_400, SECONDARY, 2, Some(450));
        events(record, 0).extend(returning.log.events);
        record.heartbeats[0] = stored_heartbeat("a", 3_400);
    });
    assert!(found.violations.is_empty(), "{:?}", found.violations);
}

#[test]
fn a_lease_that_was_judged_by_an_outage_is_found() {
    assert_found(Kind::OutageJudged, |record| {
        let (began_at, recovered_at) = (at(2_050).wall, at(2_900).wall);
        record.outages.push(OutageRow { began_at, recovered_at, counts_from: 2_000 * MS });
    });
}

#[test]
fn a_lease_that_lapsed_while_the_last_sign_of_life_was_fresh_was_judged_rightly() {
    // It lapses at 3,010: 100 ms after the last sign of life before an outage.
    let found = findings(|record| {
        let (began_at, recovered_at) = (at(2_910).wall, at(3_700).wall);
        record.outages.push(OutageRow { began_at, recovered_at, counts_from: 2_000 * MS });
    });
    assert!(!found.violations.iter().any(|violation| violation.kind == Kind::OutageJudged), "{:?}", found.violations);
}

#[test]
fn a_read_that_shows_a_lapsed_primary_is_found() {
    let shown = |session: &str, ms: i64| {
        let (group, session) = ("g".to_owned(), session.to_owned());
        ShownPrimary { group, session, at: at(ms).wall }
    };
    assert!(findings(|record| record.shown.push(shown("a", 2_500))).violations.is_empty());
    assert_found(Kind::StaleRead, |record| record.shown.push(shown("a", 3_200)));
    assert_found(Kind::StaleRead, |record| record.shown.extend([shown("a", 2_500), shown("b", 2_500)]));
}

#[test]
fn a_failover_that_nothing_explains_is_needless() {
    assert_eq!(findings(|record| record.faults.clear()).needless.len(), 1);
    let yielded = |record: &mut Record| record.transitions[1] = row(3_010, "a", 1, 0, 1, "yielded");
    assert_eq!(findings(yielded).needless.len(), 1);
    let deleted = |record: &mut Record| record.transitions[1] = row(3_010, "a", 1, 0, 1, "session_deleted");
    assert_eq!(findings(deleted).needless.len(), 1);
}

#[test]
fn a_goodbye_is_not_needless_whose_client_was_granted_while_it_was_on_its_way() {
    let leaves = |answered_ms: i64| {
        findings(move |record| {
            record.faults.clear();
            record.transitions[1] = row(3_010, "a", 1, 0, 1, "session_deleted");
            record.transitions[0] = row(1_990, "a", 0, 1, 1, "first_heartbeat");
            events(record, 0).push(ClientEvent::Leaving { at: at(1_900) });
            events(record, 0).push(ClientEvent::Left { at: at(answered_ms) });
        })
    };
    assert!(leaves(3_015).needless.is_empty(), "{:?}", leaves(3_015).needless);
    assert_eq!(leaves(1_950).needless.len(), 1, "it was over before");
}

#[test]
fn a_failover_to_a_healthier_session_is_not_needless() {
    let found = findings(|record| {
        record.transitions[1] = row(3_010, "a", 1, 0, 1, "yielded");
        for event in events(record, 0) {
            if let ClientEvent::Sent { health, .. } = event {
                *health = 50;
            }
        }
    });
    assert!(found.needless.is_empty(), "{:?}", found.needless);
}

#[test]
fn a_row_that_is_held_explains_no_failover_of_another_group() {
    let held = |group: &str| {
        findings(|record| {
            record.faults = vec![Fault {
                client: Some((group.to_owned(), String::new())),
                ..fault(FaultKind::RowHeld, "", 1_900, 3_000)
            }];
            // Its last heartbeat is not answered.
            events(record, 0).pop_if(|event| matches!(event, ClientEvent::Acted { .. }));
            events(record, 0).pop_if(|event| matches!(event, ClientEvent::May { .. }));
            events(record, 0).pop_if(|event| matches!(event, ClientEvent::Answered { .. }));
            record.heartbeats[0] = stored_heartbeat("a", 1_500);
        })
    };
    assert!(held("g").needless.is_empty(), "{:?}", held("g").needless);
    assert_eq!(held("h").needless.len(), 1);
}

#[test]
fn a_lease_that_was_judged_while_nothing_could_be_committed_is_found() {
    assert_found(Kind::OutageJudged, |record| record.nothing_commits.push((at(1_000).wall, at(4_000).wall)));
}

#[test]
fn a_refusal_that_nothing_accounts_for_is_found() {
    for (status, is_wrong) in [(503, false), (404, false), (500, true), (400, true)] {
        let found = findings(|record| {
            let refused = ClientEvent::Answered { n: 9, at: at(4_400), outcome: Outcome::Refused(status) };
            events(record, 1).push(refused);
        });
        let is_found = found.violations.iter().any(|violation| violation.kind == Kind::WrongRefusal);
        assert_eq!(is_found, is_wrong, "{status}");
    }
}

/// `b` was granted in a history that is lost, and the old Primary's last heartbeats with it.
fn promotion(record: &mut Record) {
    record.promotions = 1;
    record.losses.push((at(1_700).wall, at(2_300).wall));
    record.histories.push(HistoryRow { noticed_at: at(2_350).wall, base: 1_000 });
    record.heartbeats[0] = stored_heartbeat("a", 1_500);
    record.transitions[2].term = 1_001;
    record.transitions[1].term = 1_000;
    record.groups[0].term = 1_001;
    for number in [7, 8, 9] {
        answer(record, 1, number, |_, term, _| *term = 1_001);
    }
    answer(record, 1, 6, |_, term, _| *term = 1_000);
}

#[test]
fn what_a_promotion_lost_is_allowed_for_and_nothing_else() {
    let found = findings(promotion).violations;
    assert!(found.is_empty(), "{found:?}");
    // One that was answered before.
    assert_found(Kind::HeartbeatLost, |record| {
        promotion(record);
        record.heartbeats[0] = stored_heartbeat("a", 1_000);
    });
}

#[test]
fn an_answer_that_was_held_up_until_after_a_loss_is_allowed_for() {
    let held_up = |record: &mut Record| {
        promotion(record);
        // Sent before anything is lost, and committed to what is.
        let answered = events(record, 0).iter_mut().find_map(|event| match event {
            ClientEvent::Answered { n: 4, at, .. } => Some(at),
            _ => None,
        });
        *answered.expect("it was answered") = at(3_900);
        record.heartbeats[0] = stored_heartbeat("a", 1_000);
    };
    let found = findings(held_up).violations;
    assert!(found.iter().all(|violation| violation.kind != Kind::HeartbeatLost), "{found:?}");
}

#[test]
fn a_history_that_was_not_noted_or_noted_without_need_is_found() {
    assert_found(Kind::HistoryNoted, |record| record.promotions = 1);
    assert_found(Kind::HistoryNoted, |record| {
        record.histories.push(HistoryRow { noticed_at: at(2_350).wall, base: 1_000 });
    });
}

#[test]
fn a_term_that_is_given_again_after_a_loss_is_found() {
    assert_found(Kind::Term, |record| {
        promotion(record);
        // What `a` was told is lost, and forgotten.
        answer(record, 0, 5, |_, term, _| *term = 1_001);
    });
    assert_found(Kind::Term, |record| {
        promotion(record);
        answer(record, 1, 4, |_, term, _| *term = 2_000);
    });
}

/// The same with adapters: `a` acts until it is killed, and sends what it has at each heartbeat;
/// `b` keeps what `a` may not have sent, and sends it when it takes over.
fn adapters() -> Record {
    let mut record = clean();
    for log in &mut record.clients {
        log.keeps = Keeps::ItsRole(Mode::Hot);
        log.events.retain(|event| !matches!(event, ClientEvent::May { .. } | ClientEvent::Acted { .. }));
        for event in &mut log.events {
            if let ClientEvent::Sent { heartbeat_time, .. } = event {
                *heartbeat_time = None;
            }
        }
        log.events.insert(0, ClientEvent::Started { at: at(-10) });
    }
    let deliveries = [(5, 0, 440), (460, 460, 500), (2_005, 520, 2_000)];
    events(&mut record, 0).push(acts(5, 1));
    events(&mut record, 0).extend(deliveries.map(|(ms, first, last)| delivered(ms, first, last)));
    events(&mut record, 1).extend([
        trimmed(1_255, 0, 0),
        acts(3_255, 2),
        delivered(3_255, 20, 3_240),
        delivered(4_400, 3_260, 4_400),
    ]);
    record
}

fn acts(ms: i64, term: i64) -> ClientEvent {
    ClientEvent::Acts { from: at(ms), term }
}

fn delivered(ms: i64, first_ms: i64, last_ms: i64) -> ClientEvent {
    ClientEvent::Delivered { at: at(ms), first: at(first_ms).wall, last: at(last_ms).wall }
}

fn trimmed(ms: i64, first_ms: i64, last_ms: i64) -> ClientEvent {
    ClientEvent::Trimmed { at: at(ms), first: at(first_ms).wall, last: at(last_ms).wall }
}

/// `a` lives on, acts until then, and is answered at 3.5 s.
fn acts_until(record: &mut Record, ms: i64) {
    let mut late = Made { n: 5, ..Made::client("a") };
    late.beat(3_500, SECONDARY, 2, Some(450));
    events(record, 0).extend(late.log.events);
    events(record, 0).push(ClientEvent::Stopped { at: at(ms).mono });
    record.heartbeats[0] = stored_heartbeat("a", 3_500);
}

/// What is found in the record of adapters that was changed.
fn adapter_findings(change: impl FnOnce(&mut Record)) -> Findings {
    let mut record = adapters();
    change(&mut record);
    check(&record, Tolerance::default())
}

#[test]
fn a_clean_record_of_adapters_passes() {
    let found = adapter_findings(|_| {});
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert!(found.needless.is_empty(), "{:?}", found.needless);
    assert_eq!((found.adapters.processes, found.adapters.planned, found.adapters.trimmed), (2, 0, 1));
    assert!(found.adapters.overlaps.is_empty());
}

#[test]
fn two_adapters_may_act_after_a_lapse_until_the_next_answer_and_no_longer() {
    let found = adapter_findings(|record| acts_until(record, 3_506));
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    let overlaps = found.adapters.overlaps[&Ended::Lapsed];
    assert_eq!((overlaps.count, overlaps.longest_us / MS), (1, 3_506 - 3_255));
    let found = adapter_findings(|record| acts_until(record, 3_900));
    assert!(found.violations.iter().any(|violation| violation.kind == Kind::AdaptersActing), "{:?}", found.violations);
}

/// `a` yields at 2 s to `b`, and is told so at that time, or not before 3.5 s; its lease is over at
/// 2.5 s, and `b` acts from then on.
fn handover(record: &mut Record, told_ms: Option<i64>, acts_from_ms: i64) {
    record.transitions[1] = row(2_002, "a", 1, 0, 1, "yielded");
    record.transitions[2] = row(acts_from_ms - 3, "b", 0, 1, 2, "handover_completed");
    for event in events(record, 0) {
        if let ClientEvent::Sent { health, .. } = event {
            *health = 50;
        }
        if let (ClientEvent::Answered { n: 5, at: told, outcome }, Some(told_ms)) = (&mut *event, told_ms) {
            *told = at(told_ms);
            *outcome = Outcome::Ok { role: SECONDARY, term: 1, lease_ms: 0, watermark: None };
        }
    }
    if told_ms.is_none() {
        events(record, 0).retain(|event| !matches!(event, ClientEvent::Answered { n: 5, .. }));
    }
    acts_until(record, told_ms.unwrap_or(3_505));
    for event in events(record, 1) {
        if let ClientEvent::Acts { from, .. } = event {
            *from = at(acts_from_ms);
        }
    }
}

#[test]
fn two_adapters_that_act_at_a_handover_that_was_told_in_time_are_found() {
    let overlaps = |found: &Findings| found.violations.iter().any(|violation| violation.kind == Kind::AdaptersActing);
    let in_time = adapter_findings(|record| handover(record, Some(2_005), 2_600));
    assert!(!overlaps(&in_time) && in_time.adapters.overlaps.is_empty(), "{:?}", in_time.violations);
    assert_eq!(in_time.adapters.planned, 1);
    let too_early = adapter_findings(|record| handover(record, Some(2_205), 2_100));
    assert!(overlaps(&too_early), "{:?}", too_early.violations);
    let unheard = adapter_findings(|record| handover(record, None, 2_600));
    assert!(!overlaps(&unheard), "{:?}", unheard.violations);
    assert_eq!(unheard.adapters.overlaps[&Ended::HandedOverUnheard].count, 1);
}

#[test]
fn an_answer_that_an_adapter_waited_for_since_long_before_explains_a_lapse() {
    let held = |until_ms: i64| {
        adapter_findings(|record| {
            // Sent at 500 ms, and answered when its lease has been over for long.
            record.faults = vec![Fault { client: None, ..fault(FaultKind::ClientConnectionsHeld, "", 600, until_ms) }];
            let is_of_later = |event: &ClientEvent| matches!(event, ClientEvent::Sent { n, .. } | ClientEvent::Answered { n, .. } if *n > 2);
            events(record, 0).retain(|event| !is_of_later(event));
            for event in events(record, 0) {
                if let ClientEvent::Answered { n: 2, at: answered, .. } = event {
                    *answered = at(2_900);
                }
            }
        })
    };
    assert!(held(2_890).needless.is_empty(), "{:?}", held(2_890).needless);
    let found = adapter_findings(|record| record.faults.clear());
    assert_eq!(found.needless.len(), 1);
}

#[test]
fn one_that_starts_in_the_role_it_saved_may_act_until_its_first_answer() {
    let restarted = |stops_ms: i64| {
        adapter_findings(|record| {
            let mut again = Made::client("a");
            again.log.keeps = Keeps::ItsRole(Mode::Hot);
            again.log.events.extend([ClientEvent::Started { at: at(3_400) }, acts(3_400, 0)]);
            again.beat(3_420, SECONDARY, 2, Some(450));
            again.log.events.push(ClientEvent::Stopped { at: at(stops_ms).mono });
            record.heartbeats[0] = stored_heartbeat("a", 3_420);
            record.clients.push(again.log);
        })
    };
    let found = restarted(3_426);
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert_eq!(found.adapters.overlaps[&Ended::SavedItsRole].longest_us / MS, 26);
    assert!(restarted(3_600).violations.iter().any(|violation| violation.kind == Kind::AdaptersActing));
}

#[test]
fn data_that_was_dropped_as_sent_and_was_not_is_found() {
    let lost = |found: &Findings| found.violations.iter().any(|violation| violation.kind == Kind::DataLost);
    // Not sent before it was dropped, though later.
    let too_early = adapter_findings(|record| events(record, 1).insert(1, trimmed(1_255, 20, 520)));
    assert!(lost(&too_early), "{:?}", too_early.violations);
    let without_the_first =
        |event: &ClientEvent| !matches!(event, ClientEvent::Delivered { at: sent, .. } if *sent == at(5));
    let never = adapter_findings(|record| events(record, 0).retain(without_the_first));
    assert!(lost(&never), "{:?}", never.violations);
}

#[test]
fn data_of_before_the_primary_ran_is_not_the_services_to_keep() {
    let found = adapter_findings(|record| {
        // It begins after what `b` dropped, which nobody has sent.
        events(record, 0)[0] = ClientEvent::Started { at: at(4) };
        events(record, 0)
            .retain(|event| !matches!(event, ClientEvent::Delivered { at: sent, .. } if sent.mono == at(5).mono));
    });
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    let warm = adapter_findings(|record| {
        // It was told to stand by in between, and keeps nothing then.
        record.clients[0].keeps = Keeps::ItsRole(Mode::Warm);
        events(record, 1).insert(1, trimmed(2_255, 500, 520));
        events(record, 0).retain(|event| !matches!(event, ClientEvent::Delivered { at: sent, .. } if *sent == at(460)));
    });
    assert!(warm.violations.is_empty(), "{:?}", warm.violations);
}

#[test]
fn an_adapter_is_told_that_it_stands_by_while_it_is_about_to_be_primary() {
    let pending = |record: &mut Record| {
        record.transitions.insert(2, row(3_100, "b", 0, 2, 1, "lease_lapsed"));
        record.transitions[3].from = 2;
        let mut waiting = Made { n: 9, ..Made::client("b") };
        waiting.beat(3_150, SECONDARY, 1, Some(450));
        record.clients[1].events.extend(waiting.log.events);
    };
    let is_wrong = |found: &Findings| found.violations.iter().any(|found| found.kind == Kind::AnswerWithoutRow);
    assert!(!is_wrong(&adapter_findings(pending)));
    assert!(is_wrong(&findings(pending)), "another is told the truth");
}
