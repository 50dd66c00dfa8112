use super::*;

const SESSIONS: usize = 4;

#[derive(Clone, Debug)]
enum Event {
    Heartbeat {
        session: usize,
        health: i64,
        acting_as: Option<Role>,
        data_age: Option<i64>,
        late_by: i64,
    },
    Sweep,
    Removal(usize, By),
    /// The group is deleted by force and another created at its path, with the same clients.
    Recreation,
    Timeout(i64),
    Outage(i64),
    /// What an operator wishes of a session, and for how many seconds.
    Wish(usize, Wish, Option<i64>),
    Withdrawal(usize),
}

fn a_wish() -> impl Strategy<Value = Event> {
    let wish = prop_oneof![
        Just(Wish::Forced(WhenSilent::Replace)),
        Just(Wish::Forced(WhenSilent::Hold)),
        Just(Wish::Excluded),
        Just(Wish::SwitchTo),
        Just(Wish::SwitchAway),
    ];
    (0..SESSIONS, wish, prop::option::of(1..30_i64))
        .prop_map(|(session, wish, lasts)| Event::Wish(session, wish, lasts))
}

fn event() -> impl Strategy<Value = Event> {
    let heartbeat = (
        0..SESSIONS,
        prop_oneof![Just(40_i64), Just(50), Just(60)],
        prop_oneof![Just(None), Just(Some(Secondary)), Just(Some(Primary))],
        prop::option::of(-5..20_i64),
        LATENESS,
    )
        .prop_map(|(session, health, acting_as, data_age, late_by)| Event::Heartbeat {
            session,
            health,
            acting_as,
            data_age,
            late_by,
        });
    prop_oneof![
        20 => heartbeat,
        2 => Just(Event::Sweep),
        1 => (0..SESSIONS, prop_oneof![Just(By::Itself), Just(By::Another)])
            .prop_map(|(session, by)| Event::Removal(session, by)),
        1 => Just(Event::Recreation),
        1 => prop_oneof![Just(5_i64), Just(10), Just(20)].prop_map(Event::Timeout),
        1 => (1..40_i64).prop_map(Event::Outage),
        2 => a_wish(),
        1 => (0..SESSIONS).prop_map(Event::Withdrawal),
    ]
}

/// By how long a heartbeat may be older than the newest of its session.
const LATENESS: std::ops::Range<i64> = 0..9;

/// By how many seconds each client's clock is ahead of the database's.
const AHEAD: [i64; SESSIONS] = [0, -50, 3, 10_000];

/// In seconds of a client's clock: before anything that a test sends.
const LONG_AGO: i64 = -1_000;

/// Events and the seconds that pass before each.
fn history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    prop::collection::vec((prop_oneof![3 => Just(0_i64), 5 => 1..4_i64, 1 => 4..15_i64], event()), 1..60)
}

/// A session as the test follows it, whatever place it has.
#[derive(Clone, Debug)]
struct Follow {
    id: usize,
    newest_sent: i64,
    /// When it sent the newest of its heartbeats that was answered Primary.
    newest_primary_sent: i64,
    /// It may act as Primary before this instant.
    primary_until: Instant,
}

struct Step<'a> {
    now: Instant,
    outages: &'a [Outage],
    rules: &'a Rules,
    before: &'a Group,
    after: &'a Group,
    trace: &'a [Transition],
    heartbeat: Option<(usize, Report, Answer)>,
    follows: &'a [Follow],
    is_recreated: bool,
}

impl Step<'_> {
    fn grants(&self) -> Vec<usize> {
        self.trace.iter().filter(|change| change.to == Primary).map(|change| change.session).collect()
    }
}

/// Whether a session is read where a group is read in part, whoever heartbeats.
fn is_read_in_part(session: &Session) -> bool {
    session.role != Secondary || session.wish.is_some()
}

/// Plays a history and shows every step to the check; removed sessions come back as new ones,
/// under the same ids.
fn play(events: &[(i64, Event)], mut check: impl FnMut(&Step<'_>)) {
    let mut table = group(10).unheard().unheard().unheard().unheard();
    let mut follows: Vec<Follow> = (0..SESSIONS)
        .map(|id| Follow { id, newest_sent: LONG_AGO, newest_primary_sent: LONG_AGO, primary_until: at(0) })
        .collect();
    let mut now = 0;
    for (pause, event) in events {
        now += pause;
        let before = table.group.clone();
        let place = |id: usize| follows.iter().position(|follow| follow.id == id).expect("each id has a place");
        table.trace.clear();
        let mut heard = None;
        let mut removed = None;
        let mut is_recreated = false;
        match event {
            Event::Heartbeat { session, health, acting_as, data_age, late_by } => {
                let s = place(*session);
                let ahead = AHEAD[*session];
                let sent = ahead + now.max(follows[s].newest_sent - ahead + 1) - late_by;
                let report = Report {
                    acting_as: *acting_as,
                    data_sent_until: data_age.map(|age| at(now - age)),
                    ..says(*health).sent_at(sent)
                };
                heard = Some((s, report, table.hears(s, report, now)));
            }
            Event::Sweep => table.lapses(now),
            Event::Removal(session, by) => {
                let s = place(*session);
                let moment = moment(at(now), &table.outages);
                remove(&mut table.group, s, *by, moment, &mut table.trace);
                removed = Some((s, *by));
            }
            Event::Recreation => {
                table = table.recreated(10, now).unheard().unheard().unheard().unheard();
                is_recreated = true;
            }
            Event::Timeout(timeout) => table.timeout(*timeout),
            Event::Wish(session, what, lasts) => {
                let wished = Wished { wish: *what, until: lasts.map(|lasts| at(now + lasts)) };
                let moment = moment(at(now), &table.outages);
                let unwishable = wish(&mut table.group, place(*session), wished, moment, &mut table.trace).err();
                assert!(unwishable.is_none() || what.is_once(), "{unwishable:?}");
            }
            Event::Withdrawal(session) => {
                let moment = moment(at(now), &table.outages);
                withdraw(&mut table.group, place(*session), moment, &mut table.trace);
            }
            Event::Outage(length) => {
                table = table.away(now, now + length);
                now += length;
            }
        }
        check(&Step {
            now: at(now),
            outages: &table.outages,
            rules: &table.rules,
            before: &before,
            after: &table.group,
            trace: &table.trace,
            heartbeat: heard,
            follows: &follows,
            is_recreated,
        });
        if let Some((s, report, answer)) = heard {
            let acknowledges = report.acting_as == Some(Secondary)
                && report.sent_at.0 > follows[s].newest_primary_sent * SECOND
                && before.handover.is_some_and(|handover| handover.is_from(s));
            let sent = report.sent_at.0 / SECOND;
            follows[s].newest_sent = follows[s].newest_sent.max(sent);
            if answer.role == Primary {
                follows[s].newest_primary_sent = follows[s].newest_primary_sent.max(sent);
                let until = follows[s].primary_until.max(at(now).plus(table.group.timeout));
                follows[s].primary_until = until;
            } else if acknowledges {
                follows[s].primary_until = at(0);
            }
        }
        if let Some((s, by)) = removed {
            drop_place(&mut table.group, s);
            let gone = follows.remove(s);
            table = table.unheard();
            // One that is deleted by another acts on; under its id there may be another process
            // by now.
            let primary_until = if by == By::Itself { at(0) } else { gone.primary_until };
            follows.push(Follow { primary_until, ..gone });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_is_consistent_with_one_holder_of_a_role_at_most(events in history()) {
        play(&events, |step| {
            assert!(step.after.is_consistent());
            for role in [Primary, PendingPrimary] {
                assert!(step.after.sessions.iter().filter(|session| session.role == role).count() <= 1);
            }
        });
    }

    #[test]
    fn the_term_rises_by_one_with_each_grant_and_only_then(events in history()) {
        play(&events, |step| {
            let grants = i64::try_from(step.grants().len()).expect("a few");
            assert!(grants <= 1);
            assert_eq!(step.after.term.0, step.before.term.0 + grants);
        });
    }

    #[test]
    fn the_watermark_never_falls_and_is_never_in_the_future(events in history()) {
        play(&events, |step| {
            assert!(step.is_recreated || step.after.watermark() >= step.before.watermark());
            assert!(step.after.watermark() <= Some(step.now));
        });
    }

    #[test]
    fn primary_is_granted_only_to_the_session_that_heartbeats(events in history()) {
        play(&events, |step| {
            for s in step.grants() {
                let (sender, _, answer) = step.heartbeat.expect("only a heartbeat grants");
                assert_eq!((s, answer.role), (sender, Primary));
            }
        });
    }

    #[test]
    fn the_trace_replays_to_the_roles(events in history()) {
        play(&events, |step| {
            let mut roles: Vec<Role> = step.before.sessions.iter().map(|session| session.role).collect();
            for change in step.trace {
                assert_ne!(change.from, change.to);
                assert_eq!(roles[change.session], change.from);
                roles[change.session] = change.to;
            }
            let after: Vec<Role> = step.after.sessions.iter().map(|session| session.role).collect();
            assert_eq!(roles, after, "whoever is deleted has given up its role before");
        });
    }

    #[test]
    fn unexpired_primary_leases_of_two_sessions_never_overlap(events in history()) {
        play(&events, |step| {
            let grants = step.grants();
            for (i, follow) in step.follows.iter().enumerate() {
                let may_act = step.now < follow.primary_until;
                assert!(grants.is_empty() || grants == [i] || !may_act, "{follow:?} at {:?}", step.now);
            }
        });
    }

    #[test]
    fn no_stored_time_of_a_session_moves_back(events in history()) {
        play(&events, |step| {
            if step.is_recreated {
                return;
            }
            for (before, after) in std::iter::zip(&step.before.sessions, &step.after.sessions) {
                if let (Some(before), Some(after)) = (before.beat, after.beat) {
                    assert!(after.received_at >= before.received_at);
                    assert!(after.lease_until >= before.lease_until);
                }
                assert!(after.beat.is_none() || after.sent_until >= before.sent_until);
            }
        });
    }

    #[test]
    fn a_heartbeat_repeated_at_the_same_moment_changes_nothing(events in history()) {
        play(&events, |step| {
            let Some((s, report, answer)) = step.heartbeat else { return };
            // What was wished once is over with the grant, and whoever is healthier is first again.
            let was_once = step.before.sessions.iter().any(|s| s.wish.is_some_and(|wished| wished.wish.is_once()));
            if was_once && !step.grants().is_empty() {
                return;
            }
            let mut group = step.after.clone();
            let mut trace = Vec::new();
            let moment = moment(step.now, step.outages);
            let again = heartbeat(&mut group, s, &report, moment, step.rules, &mut trace);
            assert!(trace.is_empty(), "{trace:?}");
            // The report that came with a grant is that of a Primary when it comes again.
            let watermark = if step.grants().is_empty() { answer.watermark } else { again.watermark };
            assert_eq!(again, Answer { watermark, ..answer });
        });
    }

    /// What a part of the group says holds for all of it; but for the Primary that is outranked
    /// by one whose place as PendingPrimary was taken since, and which takes it again with its
    /// next heartbeat.
    #[test]
    fn what_changes_nothing_in_a_part_of_the_group_changes_nothing_in_all_of_it(events in history()) {
        play(&events, |step| {
            let Some((s, report, answer)) = step.heartbeat else { return };
            let kept: Vec<usize> =
                (0..SESSIONS).filter(|i| *i == s || is_read_in_part(&step.before.sessions[*i])).collect();
            let sessions: Vec<Session> = kept.iter().map(|i| step.before.sessions[*i].clone()).collect();
            let place = kept.iter().position(|i| *i == s).expect("it is kept");
            let of_others = step.before.watermark();
            let handover = step.before.handover.filter(|handover| matches!(handover.from, Former::Gone));
            let mut part = Group { sessions, handover, watermark_base: of_others, ..step.before.clone() };
            let moment = Moment { now: step.now, outages: step.outages, history: None };
            if step.before.handover != handover || !changes_nothing(&part, place, &report, moment, step.rules) {
                return;
            }
            let mut trace = Vec::new();
            let told = heartbeat(&mut part, place, &report, moment, step.rules, &mut trace);
            assert!(trace.is_empty(), "{trace:?}");
            assert_eq!(part.sessions[place], Session { role: told.role, ..step.after.sessions[s].clone() });
            let primary = part.sessions[part.holder(Primary).expect("there is one")].beat.expect("it lives");
            let is_outranked = |session: &Session| {
                session.beat.is_some_and(|beat| overtakes(beat.health, primary.health, step.rules))
            };
            if !step.before.sessions.iter().any(is_outranked) {
                assert_eq!(told, answer);
                assert!(step.trace.is_empty(), "{:?}", step.trace);
            }
        });
    }

    #[test]
    fn wishes_are_heeded_by_every_grant(events in history()) {
        play(&events, |step| {
            let [s] = step.grants()[..] else { return };
            let moment = moment(step.now, step.outages);
            for (i, session) in step.before.sessions.iter().enumerate() {
                let wish = session.wish.filter(|wished| !wished.is_over(moment)).map(|wished| wished.wish);
                match wish {
                    Some(Wish::Excluded) => assert_ne!(i, s),
                    Some(Wish::Forced(WhenSilent::Hold)) => assert_eq!(i, s),
                    Some(wish) if wish.puts_first() => assert!(i == s || !step.before.is_live(i, moment)),
                    _ => {}
                }
            }
        });
    }

    #[test]
    fn a_wish_takes_no_lease_from_a_primary(events in history()) {
        play(&events, |step| {
            if step.heartbeat.is_none() {
                let demoted = step.trace.iter().filter(|change| change.from == Primary);
                for change in demoted {
                    assert!(matches!(change.reason, Reason::LeaseLapsed | Reason::SessionDeleted), "{change:?}");
                }
            }
        });
    }

    #[test]
    fn a_lapse_only_takes_away_and_a_second_one_finds_nothing(events in history()) {
        play(&events, |step| {
            let moment = moment(step.now, step.outages);
            let (mut group, mut first, mut second) = (step.after.clone(), Vec::new(), Vec::new());
            lapse(&mut group, moment, &mut first);
            lapse(&mut group, moment, &mut second);
            assert!(first.iter().all(|change| change.to == Secondary));
            assert!(second.is_empty());
        });
    }

    #[test]
    fn an_idle_healthy_group_never_changes_roles(
        healths in prop::collection::vec(prop_oneof![Just(40_i64), Just(60)], 1..5),
        beats in prop::collection::vec((1..4_i64, 0..5_usize, prop::option::of(1..100_i64)), 1..60),
    ) {
        let best = *healths.iter().max().expect("one at least");
        let first = healths.iter().position(|health| *health == best).expect("one at least");
        let mut table = healths.iter().fold(group(10), |table, _| table.unheard());
        let mut now = 0;
        table.hears(first, says(best), now);
        for (s, health) in healths.iter().enumerate() {
            table.hears(s, says(*health), now);
        }
        table.trace.clear();
        for (pause, rotation, outage) in beats {
            now += pause;
            for i in 0..healths.len() {
                let s = (i + rotation) % healths.len();
                table.hears(s, says(healths[s]), now);
            }
            if let Some(length) = outage {
                table = table.away(now, now + length);
                now += length;
            }
            table.lapses(now);
            prop_assert!(table.trace.is_empty(), "{:?}", table.trace);
        }
    }
}
