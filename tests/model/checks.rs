//! Which steps are possible from a state, and what must be true in every one.

use client_failover::arbitration::{
    Answer, Group, History, HistoryId, Instant, Moment, Outage, Reason, Remains, Role, Term, Transition, WhenSilent,
    Wish, lapse,
};
use stateright::{Model, Property};

use crate::world::*;

impl State {
    pub fn outage_until_now(&self) -> Option<Outage> {
        self.down_since.map(|began| Outage {
            began_at: instant(began),
            recovered_at: instant(self.now),
            gap_us: 0,
            clock_step_us: 0,
        })
    }

    /// How often commits were lost so far.
    pub fn losses(&self, protocol: &Protocol) -> u8 {
        protocol.losses - self.losses_left
    }

    pub fn lease(&mut self, session: u8) -> &mut Lease {
        let i = self.leases.iter().position(|lease| lease.session == session);
        &mut self.leases[i.expect("every session has an entry")]
    }

    pub fn breach(&mut self, property: &'static str) {
        if !self.breached.contains(&property) {
            self.breached.push(property);
        }
    }

    /// Holds a committed transaction against the promises, and keeps the books that they are judged
    /// by.
    pub fn judge(
        &mut self,
        read: &Stored,
        after: &Stored,
        work: &Work,
        read_at: u8,
        answer: &Option<Answer>,
        trace: &[Transition],
    ) {
        let mut granted = None;
        self.wishings.retain(|wishing| wishing.until > read_at);
        // Whoever is Primary in a history that lost commits, and does not act, need not be the one
        // that acts.
        let in_doubt =
            read.group.in_doubt_until.max(after.group.in_doubt_until).is_some_and(|until| instant(read_at) < until);
        for change in trace {
            let session = read.sessions[change.session];
            if change.to == Role::Primary {
                granted = Some(session);
            }
            if change.from != Role::Primary {
                continue;
            }
            let needed = match change.reason {
                Reason::LeaseLapsed | Reason::Superseded if in_doubt => true,
                Reason::LeaseLapsed => self.lease(session).until <= read_at,
                Reason::SessionDeleted => {
                    [Work::Serve(Request::Goodbye { session }), Work::Delete(session), Work::Recreate].contains(work)
                }
                Reason::Override => self.wishings.iter().any(|wishing| match wishing.wish {
                    Wish::Excluded | Wish::SwitchAway => wishing.session == session,
                    Wish::Forced(_) | Wish::SwitchTo => {
                        let lives = self.leases.iter().any(|l| l.session == wishing.session && l.until > read_at);
                        wishing.session != session && lives
                    }
                }),
                Reason::Yielded => {
                    let group = &after.group;
                    let own = group.sessions[change.session].beat.map(|beat| beat.health);
                    (0..group.sessions.len()).any(|i| {
                        group.sessions[i].beat.map(|beat| beat.health) > own
                            && self.lease(after.sessions[i]).until > read_at
                    })
                }
                _ => false,
            };
            if !needed || change.to != Role::Secondary {
                self.breach(NO_NEEDLESS_CHANGE);
            }
        }

        if let Some(granted) = granted
            && self.leases.iter().any(|lease| lease.session != granted && lease.primary_until > read_at)
        {
            self.breach(ONE_GRANTED);
        }
        if after.group.sessions.iter().filter(|session| session.role == Role::Primary).count() > 1 {
            self.breach(ONE_GRANTED);
        }
        // In doubt, whoever says that it acts is believed.
        if let Some(granted) = granted.filter(|_| !in_doubt) {
            self.judge_wishes(granted, read_at);
        }
        self.keep_wishes(after, work, read_at, granted);

        if let Some(history) = self.history.filter(|_| read.group.history != after.group.history) {
            self.highest_term = self.highest_term.max(history.base.0);
        }
        let expected = self.highest_term + i64::from(granted.is_some());
        // Nobody is told the term of a group that nothing has been decided on in the present
        // history.
        let is_behind = self.history.is_some_and(|history| history.id != after.group.history);
        if after.group.term != Term(expected) && !is_behind {
            self.breach(TERM_NAMES_ONE);
        }
        self.highest_term = self.highest_term.max(after.group.term.0);

        if *work == Work::Recreate {
            self.highest_watermark = None;
        }
        let watermark = after.group.watermark();
        if watermark < self.highest_watermark {
            self.breach(WATERMARK_STAYS);
        }
        self.highest_watermark = self.highest_watermark.max(watermark);

        match (work, answer) {
            (Work::Serve(Request::Heartbeat { session, .. }), Some(answer)) => {
                let ticks = whole_ticks(after.group.timeout);
                let acknowledged = read.group.handover.is_some_and(|handover| {
                    read.sessions.iter().position(|s| s == session).is_some_and(|s| handover.is_from(s))
                }) && after.group.handover.is_none();
                // In doubt, one that is Primary and says newly that it stands by is believed, too.
                let holds = |stored: &Stored| {
                    stored.group.holder(Role::Primary).is_some_and(|p| stored.sessions.get(p) == Some(session))
                };
                let stands_by = matches!(work, Work::Serve(Request::Heartbeat { acts_as_primary: Some(false), .. }));
                let acknowledged = acknowledged
                    || (in_doubt && stands_by && holds(read) && !holds(after) && after.group.handover.is_none());
                let lease = self.lease(*session);
                lease.until = lease.until.max(read_at + ticks);
                lease.length = lease.until - read_at;
                if answer.role == Role::Primary {
                    lease.primary_until = lease.primary_until.max(read_at + ticks);
                } else if acknowledged {
                    lease.primary_until = 0;
                }
            }
            (Work::Serve(Request::Goodbye { session }), _) => {
                self.lease(*session).primary_until = 0;
            }
            // They are not live any more, and may act on what they have been told before.
            (Work::Delete(session), _) => self.lease(*session).until = 0,
            (Work::Recreate, _) => self.leases.iter_mut().for_each(|lease| lease.until = 0),
            _ => {}
        }
    }
}

impl State {
    /// Whoever is granted is not kept out, nor is the place anybody else's by a wish.
    fn judge_wishes(&mut self, granted: u8, read_at: u8) {
        let lives = |session: u8| self.leases.iter().any(|lease| lease.session == session && lease.until > read_at);
        let is_against = |wishing: &Wishing| match wishing.wish {
            Wish::Excluded => wishing.session == granted,
            Wish::Forced(WhenSilent::Hold) => wishing.session != granted,
            Wish::Forced(WhenSilent::Replace) | Wish::SwitchTo => wishing.session != granted && lives(wishing.session),
            Wish::SwitchAway => false,
        };
        if self.wishings.iter().any(is_against) {
            self.breach(WISHES_HEEDED);
        }
    }

    /// Keeps the books of what is wished.
    fn keep_wishes(&mut self, after: &Stored, work: &Work, read_at: u8, granted: Option<u8>) {
        let wishings = &mut self.wishings;
        match work {
            Work::Wish(session, wish) => {
                let s = after.sessions.iter().position(|known| known == session);
                // A switch-over may be refused, or need not be.
                if s.is_some_and(|s| after.group.wish_of(s) == Some(*wish)) {
                    wishings.retain(|kept| kept.session != *session && !(wish.puts_first() && kept.wish.puts_first()));
                    let until = if self.wishes_last == 0 { FOREVER } else { read_at + self.wishes_last };
                    wishings.push(Wishing { session: *session, wish: *wish, until });
                } else if s.is_some_and(|s| after.group.sessions[s].role == Role::Primary) {
                    wishings.retain(|kept| !kept.wish.is_once());
                }
            }
            Work::Withdraw(session) | Work::Delete(session) | Work::Serve(Request::Goodbye { session }) => {
                wishings.retain(|kept| kept.session != *session);
            }
            Work::Recreate => wishings.clear(),
            Work::Serve(Request::Heartbeat { .. }) | Work::Sweep | Work::ChangeTimeout(_) => {}
        }
        if let Some(granted) = granted {
            wishings.retain(|kept| match kept.wish {
                Wish::SwitchTo => kept.session != granted,
                Wish::SwitchAway => kept.session == granted,
                Wish::Forced(_) | Wish::Excluded => true,
            });
        }
        wishings.sort_by_key(|wishing| wishing.session);
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let count = u8::try_from(self.clients.len()).expect("a handful of clients");
        let leases = (0..count + self.restarts)
            .map(|session| Lease { session, until: 0, length: 0, primary_until: 0 })
            .collect();
        vec![State {
            now: 0,
            stored: Stored {
                group: Group {
                    sessions: vec![NEW_SESSION; self.clients.len()],
                    ..Group::begin(timeout(self.timeouts[0]), Remains::default(), BEGINNING)
                },
                sessions: (0..count).collect(),
            },
            outages: Vec::new(),
            down_since: None,
            clients: (0..count)
                .zip(&self.clients)
                .map(|(session, bounds)| Client {
                    session,
                    said_goodbye: false,
                    unknown: false,
                    heartbeats_left: bounds.heartbeats,
                    sent: 0,
                    answered: 0,
                    said_secondary: 0,
                    acts_until: 0,
                })
                .collect(),
            next_session: count,
            requests: Vec::new(),
            replies: Vec::new(),
            transactions: Vec::new(),
            repeats_left: self.repeats,
            restarts_left: self.restarts,
            goodbyes_left: self.goodbyes,
            deletions_left: self.deletions,
            recreations_left: self.recreations,
            wrong_dates_left: self.wrong_dates,
            timeout_changes_left: self.timeout_changes,
            outages_left: self.outages,
            losses_left: self.losses,
            wishes_left: self.wishes,
            wishes_last: self.wishes_last,
            withdrawals_left: self.withdrawals,
            wishings: Vec::new(),
            history: None,
            earlier: Vec::new(),
            leases,
            highest_term: 0,
            highest_watermark: None,
            breached: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.last_tick {
            actions.push(Action::Tick);
        }
        for (i, client) in state.clients.iter().enumerate() {
            if !client.said_goodbye && !client.unknown && client.heartbeats_left > 0 {
                for dated_wrong in [false, true] {
                    if dated_wrong && state.wrong_dates_left == 0 {
                        continue;
                    }
                    let healths = self.clients[i].healths.iter();
                    actions.extend(healths.map(|&health| Action::Send { client: i, health, dated_wrong }));
                }
            }
            if client.unknown && !client.said_goodbye {
                actions.push(Action::RegisterAgain(i));
            }
            if state.restarts_left > 0 {
                actions.push(Action::Restart(i));
            }
            if !client.said_goodbye && state.goodbyes_left > 0 {
                actions.push(Action::SayGoodbye(i));
            }
        }
        actions.extend((0..state.replies.len()).map(Action::Hear));

        if let Some(began) = state.down_since {
            if state.now > began {
                actions.push(Action::ServiceReturns);
            }
            return;
        }
        if state.outages_left > 0 {
            actions.push(Action::ServiceGoes);
        }
        if state.losses_left > 0 {
            actions.extend((0..=state.earlier.len()).map(Action::Lose));
        }
        for (i, transaction) in state.transactions.iter().enumerate() {
            actions.push(if transaction.conflicts { Action::Retry(i) } else { Action::Commit(i) });
        }
        if state.transactions.len() == 2 {
            return;
        }
        for request in 0..state.requests.len() {
            for again in [false, true] {
                if again && state.repeats_left == 0 {
                    continue;
                }
                actions.push(Action::Read { request, again, clock_ahead: false });
                if self.breaks(Defect::LeaseFromAReplicasClock) {
                    actions.push(Action::Read { request, again, clock_ahead: true });
                }
            }
        }
        if self.sweeps {
            let mut trace = Vec::new();
            let at = Moment { now: instant(state.now), outages: &state.outages, history: state.history };
            lapse(&mut state.stored.group.clone(), at, &mut trace);
            if !trace.is_empty() {
                actions.push(Action::BeginSweep);
            }
        }
        if state.deletions_left > 0 {
            let used = state.stored.sessions.iter().filter(|session| {
                state.clients.iter().any(|client| client.session == **session && !client.said_goodbye)
            });
            actions.extend(used.map(|session| Action::BeginDelete(*session)));
        }
        if state.recreations_left > 0 {
            actions.push(Action::BeginRecreate);
        }
        if state.wishes_left > 0 {
            for session in &state.stored.sessions {
                actions.extend(self.kinds_of_wishes.iter().map(|wish| Action::BeginWish(*session, *wish)));
            }
        }
        if state.withdrawals_left > 0 {
            let wished = (0..state.stored.sessions.len()).filter(|s| state.stored.group.wish_of(*s).is_some());
            actions.extend(wished.map(|s| Action::BeginWithdraw(state.stored.sessions[s])));
        }
        if state.timeout_changes_left > 0 {
            let others = self.timeouts.iter().filter(|ticks| timeout(**ticks) != state.stored.group.timeout);
            actions.extend(others.map(|ticks| Action::BeginChangeTimeout(*ticks)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Send { client, health, dated_wrong } => {
                state.wrong_dates_left -= u8::from(dated_wrong);
                self.send(&mut state, client, health, dated_wrong);
            }
            Action::Read { request, again, clock_ahead } => {
                let served = if again {
                    state.repeats_left -= 1;
                    state.requests[request].clone()
                } else {
                    state.requests.remove(request)
                };
                self.begin(&mut state, Work::Serve(served), u8::from(clock_ahead));
            }
            Action::BeginSweep => self.begin(&mut state, Work::Sweep, 0),
            Action::BeginChangeTimeout(ticks) => {
                state.timeout_changes_left -= 1;
                self.begin(&mut state, Work::ChangeTimeout(ticks), 0);
            }
            Action::Commit(i) => self.commit(&mut state, i),
            Action::Retry(i) => {
                let now = state.now;
                let transaction = &mut state.transactions[i];
                transaction.conflicts = false;
                transaction.read_at = now;
                if !self.breaks(Defect::NowReusedOnRetry) {
                    transaction.now = now;
                }
            }
            Action::Hear(i) => self.hear(&mut state, i),
            Action::Restart(i) => {
                state.restarts_left -= 1;
                let session = state.next_session;
                state.next_session += 1;
                let client = &mut state.clients[i];
                *client = Client {
                    session,
                    said_goodbye: false,
                    unknown: false,
                    answered: client.sent,
                    said_secondary: 0,
                    acts_until: 0,
                    ..client.clone()
                };
                self.register(&mut state, session);
            }
            Action::RegisterAgain(i) => {
                let client = &mut state.clients[i];
                client.unknown = false;
                let session = client.session;
                // Another of its requests may have found out before.
                if !state.stored.sessions.contains(&session) {
                    self.register(&mut state, session);
                }
            }
            Action::BeginDelete(session) => {
                state.deletions_left -= 1;
                self.begin(&mut state, Work::Delete(session), 0);
            }
            Action::BeginWish(session, wish) => {
                state.wishes_left -= 1;
                self.begin(&mut state, Work::Wish(session, wish), 0);
            }
            Action::BeginWithdraw(session) => {
                state.withdrawals_left -= 1;
                self.begin(&mut state, Work::Withdraw(session), 0);
            }
            Action::BeginRecreate => {
                state.recreations_left -= 1;
                self.begin(&mut state, Work::Recreate, 0);
            }
            Action::SayGoodbye(i) => {
                state.goodbyes_left -= 1;
                let client = &mut state.clients[i];
                client.said_goodbye = true;
                client.acts_until = 0;
                let session = client.session;
                state.requests.push(Request::Goodbye { session });
            }
            Action::ServiceGoes => {
                state.outages_left -= 1;
                state.down_since = Some(state.now);
                // What was not committed by then never was, and its client gets no answer.
                state.transactions.clear();
            }
            Action::Lose(commits) => {
                state.losses_left -= 1;
                state.transactions.clear();
                let now = state.now;
                let mut alive = now;
                if let Some((at, stored, outages)) = commits.checked_sub(1).map(|i| state.earlier[i].clone()) {
                    (alive, state.stored, state.outages) = (at, stored, outages);
                }
                // Whatever is there was alive when the rest was lost.
                let began_at = Instant(instant(alive).0 - 1);
                let recovered_at = instant(now);
                state.outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: 0 });
                for lease in state.leases.iter_mut().filter(|lease| lease.until >= alive) {
                    lease.until = lease.until.max(now + lease.length);
                }
                state.history = Some(History {
                    id: HistoryId(state.history.map_or(1, |history| history.id.0) + 1),
                    noticed_at: recovered_at,
                    base: Term(state.highest_term + 1),
                });
                state.highest_watermark = state.stored.group.watermark();
                state.wishings = wishings_of(&state.stored);
                state.earlier.clear();
            }
            Action::ServiceReturns => {
                let outage = state.outage_until_now()?;
                let (began, now) = (state.down_since?, state.now);
                for lease in state.leases.iter_mut().filter(|lease| lease.until > began) {
                    lease.until = lease.until.max(now + lease.length);
                }
                state.outages.push(outage);
                state.down_since = None;
            }
        }
        self.forget_the_irrelevant(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_GRANTED, |_, state: &State| !state.breached.contains(&ONE_GRANTED)),
            Property::always(ONE_ACTING, |_, state: &State| {
                state.clients.iter().filter(|client| state.now < client.acts_until).count() <= 1
            }),
            Property::always(TERM_NAMES_ONE, |_, state: &State| !state.breached.contains(&TERM_NAMES_ONE)),
            Property::always(WATERMARK_STAYS, |_, state: &State| !state.breached.contains(&WATERMARK_STAYS)),
            Property::always(NO_NEEDLESS_CHANGE, |_, state: &State| !state.breached.contains(&NO_NEEDLESS_CHANGE)),
            Property::always(WISHES_HEEDED, |_, state: &State| !state.breached.contains(&WISHES_HEEDED)),
            Property::always(TAKEN_OVER, |protocol: &Protocol, state: &State| {
                protocol.somebody_always_can_take_over(state)
            }),
        ]
    }
}

/// What is wished by what is stored: after commits were lost, that is what counts.
fn wishings_of(stored: &Stored) -> Vec<Wishing> {
    let tick = |until: Instant| u8::try_from(until.0 / TICK_US).unwrap_or(FOREVER);
    let sessions = std::iter::zip(&stored.sessions, &stored.group.sessions);
    let mut wishings: Vec<Wishing> = sessions
        .filter_map(|(session, kept)| {
            let wished = kept.wish?;
            Some(Wishing { session: *session, wish: wished.wish, until: wished.until.map_or(FOREVER, tick) })
        })
        .collect();
    wishings.sort_by_key(|wishing| wishing.session);
    wishings
}
