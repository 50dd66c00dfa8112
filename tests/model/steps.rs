//! What happens at each step: heartbeats, transactions that overlap, outages, and what was lost;
//! each decision is the service's own.

use client_failover::arbitration::{
    Answer, By, ClientInstant, Former, Group, History, Instant, Moment, Outage, Remains, Report, Role, Rules, Term,
    Transition, WhenSilent, Wish, Wished, end, heartbeat, lapse, remove, wish, withdraw,
};

use crate::world::*;

impl Protocol {
    pub fn rules(&self) -> Rules {
        Rules { handover: self.handover, ..Rules::default() }
    }

    pub fn breaks(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// The history as decisions are made in it.
    pub fn of_history(&self, history: History) -> History {
        let base = if self.breaks(Defect::TermsNotLifted) { Term(0) } else { history.base };
        let noticed_at = if self.breaks(Defect::DoubtIgnored) { LONG_AGO } else { history.noticed_at };
        History { base, noticed_at, ..history }
    }

    /// Whether a heartbeat is answered with an error, because it says that its client acts and was
    /// sent before commits were lost.
    pub fn is_refused(&self, state: &State, work: &Work, now: Instant) -> bool {
        let Work::Serve(Request::Heartbeat { losses, acts_as_primary: Some(true), .. }) = work else { return false };
        let at =
            Moment { now, outages: &state.outages, history: state.history.map(|history| self.of_history(history)) };
        let mut group = state.stored.group.clone();
        group.begin_anew(at);
        *losses < state.losses(self) && group.is_in_doubt(at) && !self.breaks(Defect::OldClaimBelieved)
    }

    /// A transaction's decision on what is stored, at its instant; the answer and what changed.
    pub fn decide(
        &self,
        stored: &mut Stored,
        work: &Work,
        now: Instant,
        outages: &[Outage],
        history: Option<History>,
        trace: &mut Vec<Transition>,
    ) -> Option<Answer> {
        let outages = if self.breaks(Defect::OutageForgotten) { &[] } else { outages };
        let at = Moment { now, outages, history: history.map(|history| self.of_history(history)) };
        let group = &mut stored.group;
        let place = |session: u8| stored.sessions.iter().position(|s| *s == session);
        match work {
            Work::Sweep => lapse(group, at, trace),
            Work::ChangeTimeout(ticks) => {
                group.timeout = timeout(*ticks);
                if self.breaks(Defect::LeaseRecomputedOnChange) {
                    for beat in group.sessions.iter_mut().filter_map(|s| s.beat.as_mut()) {
                        beat.lease_until = beat.received_at.plus(timeout(*ticks));
                    }
                }
            }
            Work::Wish(session, wanted) => {
                let s = place(*session)?;
                let before = group.clone();
                let ends = self.wishes_last > 0 && !self.breaks(Defect::WishOutlivesItsEnd);
                let until = ends.then(|| Instant(now.0 + i64::from(self.wishes_last) * TICK_US));
                // One that is refused changes nothing.
                if wish(group, s, Wished { wish: *wanted, until }, at, trace).is_err() {
                    *group = before;
                    trace.clear();
                }
            }
            Work::Withdraw(session) => withdraw(group, place(*session)?, at, trace),
            Work::Recreate => {
                let remains = match end(group, at, trace) {
                    _ if self.breaks(Defect::TermBeginsAgain) => Remains::default(),
                    remains if self.breaks(Defect::NewGroupWaitsForNobody) => {
                        Remains { acted_on_until: None, ..remains }
                    }
                    remains => remains,
                };
                stored.group = Group::begin(group.timeout, remains, at);
                stored.sessions.clear();
            }
            Work::Serve(Request::Goodbye { session }) | Work::Delete(session) => {
                let s = place(*session)?;
                let base = group.watermark_base;
                let by = match work {
                    Work::Delete(_) if !self.breaks(Defect::DeletionTakenForGoodbye) => By::Another,
                    _ => By::Itself,
                };
                remove(group, s, by, at, trace);
                if self.breaks(Defect::WatermarkForgottenOnDeletion) {
                    group.watermark_base = base;
                }
                stored.drop_place(s);
            }
            Work::Serve(Request::Heartbeat {
                session,
                sent_at,
                dated_wrong,
                health: percent,
                acts_as_primary,
                data_sent_until,
                ..
            }) => {
                let s = place(*session)?;
                let report = Report {
                    health: health(*percent),
                    sent_at: self.date(*session, *sent_at, *dated_wrong),
                    data_sent_until: data_sent_until.map(instant),
                    acting_as: acts_as_primary.map(|primary| if primary { Role::Primary } else { Role::Secondary }),
                    term_seen: None,
                };
                if self.breaks(Defect::OldAcknowledgementBelieved)
                    && report.acting_as == Some(Role::Secondary)
                    && group.handover.is_some_and(|handover| handover.is_from(s))
                {
                    group.handover = None;
                }
                if self.breaks(Defect::GoneOneAcknowledges)
                    && report.acting_as == Some(Role::Secondary)
                    && group.handover.is_some_and(|handover| handover.from == Former::Gone)
                {
                    group.handover = None;
                }
                if self.breaks(Defect::ClocksBoundedOnly)
                    && let Some(beat) = &mut group.sessions[s].beat
                {
                    beat.heard_until = beat.heard_until.min(ClientInstant(beat.received_at.0));
                }
                if self.breaks(Defect::DeadPrimaryNeverLapses)
                    && let Some(p) = group.holder(Role::Primary)
                    && let Some(beat) = &mut group.sessions[p].beat
                {
                    beat.lease_until = beat.lease_until.max(Instant(now.0 + 1));
                }
                let term = group.term;
                if self.breaks(Defect::ForcedOneDoesNotWait) && group.wish_of(s).is_some_and(Wish::puts_first) {
                    group.handover = None;
                }
                let stored_wishes: Vec<Option<Wished>> = group.sessions.iter().map(|session| session.wish).collect();
                for session in &mut group.sessions {
                    match session.wish.map(|wished| wished.wish) {
                        Some(Wish::Excluded) if self.breaks(Defect::ExclusionForgotten) => session.wish = None,
                        Some(Wish::Forced(WhenSilent::Hold)) if self.breaks(Defect::HeldPlaceGivenAway) => {
                            session.wish = None;
                        }
                        _ => {}
                    }
                }
                let answer = heartbeat(group, s, &report, at, &self.rules(), trace);
                if self.breaks(Defect::ExclusionForgotten) || self.breaks(Defect::HeldPlaceGivenAway) {
                    for (session, wished) in std::iter::zip(&mut group.sessions, stored_wishes) {
                        session.wish = wished;
                    }
                }
                if self.breaks(Defect::HandoverNotOpened) {
                    group.handover = None;
                }
                if self.breaks(Defect::TermNotRaised) {
                    group.term = term;
                }
                return Some(answer);
            }
        }
        None
    }

    pub fn commit(&self, state: &mut State, i: usize) {
        let transaction = state.transactions.remove(i);
        let before = state.stored.clone();
        let read = transaction.snapshot.unwrap_or_else(|| before.clone());
        let mut after = read.clone();
        let mut trace = Vec::new();
        let now = instant(transaction.now);
        if self.is_refused(state, &transaction.work, now) {
            return;
        }
        let answer = self.decide(&mut after, &transaction.work, now, &state.outages, state.history, &mut trace);

        state.judge(&read, &after, &transaction.work, transaction.read_at, &answer, &trace);
        if let Work::Serve(Request::Heartbeat { session, number, sent_at, .. }) = &transaction.work {
            let lease = answer.map(|answer| answer.lease.map_or(0, whole_ticks));
            state.replies.push(Reply { session: *session, number: *number, sent_at: *sent_at, lease });
        }
        if after != before && state.losses_left > 0 {
            state.earlier.insert(0, (state.now, before.clone(), state.outages.clone()));
            state.earlier.truncate(self.lost_commits);
        }
        if after != before {
            for other in &mut state.transactions {
                other.conflicts = !self.breaks(Defect::ConflictNotDetected);
            }
        }
        state.stored = after;
    }

    pub fn register(&self, state: &mut State, session: u8) {
        state.stored.register(session);
        for transaction in &mut state.transactions {
            transaction.conflicts = !self.breaks(Defect::ConflictNotDetected);
        }
    }

    pub fn begin(&self, state: &mut State, work: Work, ahead: u8) {
        state.transactions.push(Transaction {
            work,
            now: state.now + ahead,
            read_at: state.now,
            conflicts: false,
            snapshot: self.breaks(Defect::ConflictNotDetected).then(|| state.stored.clone()),
        });
        if !self.transactions_overlap {
            self.commit(state, 0);
        }
    }

    /// What a client's clock says at a tick.
    pub fn date(&self, session: u8, sent_at: u8, wrong: bool) -> ClientInstant {
        const FAR_AHEAD_US: i64 = 1_000_000_000;
        let off_us =
            if session % 2 == 1 { i64::from(self.clocks_ahead) * TICK_US } else { -1_000 * i64::from(session) };
        ClientInstant(i64::from(sent_at) * TICK_US + off_us + if wrong { FAR_AHEAD_US } else { 0 })
    }

    pub fn send(&self, state: &mut State, i: usize, health: u8, dated_wrong: bool) {
        let now = state.now;
        let losses = state.losses(self);
        let client = &mut state.clients[i];
        let acts = now < client.acts_until;
        client.heartbeats_left -= 1;
        client.sent += 1;
        let tells = self.clients[i].kind == Telling;
        if tells && !acts {
            client.said_secondary = client.sent;
        }
        state.requests.push(Request::Heartbeat {
            session: client.session,
            number: client.sent,
            sent_at: now,
            losses,
            dated_wrong,
            health,
            acts_as_primary: tells.then_some(acts),
            data_sent_until: (self.reports_data && acts).then_some(now),
        });
    }

    pub fn heeds(&self, client: &Client, reply: &Reply) -> bool {
        reply.session == client.session
            && !client.said_goodbye
            && reply.number > client.answered
            && (reply.number >= client.said_secondary || self.breaks(Defect::AcknowledgementTakenBack))
    }

    pub fn hear(&self, state: &mut State, i: usize) {
        let reply = state.replies.remove(i);
        let now = state.now;
        let Some(client) = state.clients.iter_mut().find(|client| self.heeds(client, &reply)) else {
            return;
        };
        client.answered = client.answered.max(reply.number);
        let from = if self.breaks(Defect::TrustCountedFromReceipt) { now } else { reply.sent_at };
        client.acts_until = match reply.lease {
            None => {
                client.unknown = true;
                0
            }
            Some(0) => 0,
            Some(lease) => from + lease,
        };
    }

    /// Two states that no future can tell apart become one: what nobody will look at again is
    /// forgotten.
    pub fn forget_the_irrelevant(&self, state: &mut State) {
        let now = state.now;
        for client in &mut state.clients {
            if client.acts_until <= now {
                client.acts_until = 0;
            }
        }
        for lease in &mut state.leases {
            if lease.primary_until <= now {
                lease.primary_until = 0;
            }
        }
        state.wishings.retain(|wishing| wishing.until > now);
        let State { requests, replies, clients, stored, .. } = state;
        replies.retain(|reply| clients.iter().any(|client| self.heeds(client, reply)));
        // One that meets no session is answered so, which matters to whoever still goes by that
        // session.
        let is_awaited = |request: &Request| match request {
            Request::Heartbeat { session, .. } => {
                clients.iter().any(|client| client.session == *session && !client.said_goodbye && !client.unknown)
            }
            Request::Goodbye { .. } => false,
        };
        requests.retain(|request| stored.sessions.contains(&request.session()) || is_awaited(request));
        requests.sort();
        replies.sort();
    }

    /// Whether one of the survivors is Primary in time, and soon nothing changes any more, if from
    /// here on only they send, every half timeout, and nothing of theirs is lost.
    pub fn is_taken_over(&self, state: &State, survivors: &[usize]) -> bool {
        let longest = self.timeouts.iter().copied().max().expect("there is a timeout");
        // A doubt of a history that is lost is waited for.
        let noticed_at =
            state.history.map_or(0, |history| u8::try_from(history.noticed_at.0 / TICK_US).unwrap_or(u8::MAX));
        let doubt = if state.history.is_some() { noticed_at + longest } else { 0 };
        let survives = |session: u8| survivors.iter().any(|i| state.clients[*i].session == session);
        let wished = || state.wishings.iter().filter(|wishing| wishing.until > state.now);
        let is_excluded = |i: &usize| {
            wished().any(|wishing| wishing.wish == Wish::Excluded && wishing.session == state.clients[*i].session)
        };
        // Nobody takes over while a wish is in the way.
        let in_the_way = |wishing: &&Wishing| match wishing.wish {
            Wish::Excluded => survivors.iter().all(is_excluded),
            Wish::Forced(WhenSilent::Hold) => !survives(wishing.session),
            _ => false,
        };
        let kept_until = wished().filter(in_the_way).map(|wishing| wishing.until).max().unwrap_or(0);
        if kept_until == FOREVER {
            return true;
        }
        let in_time = state.now.max(doubt).max(kept_until) + longest + longest / 2;
        let last_end = wished().map(|wishing| wishing.until).filter(|until| *until != FOREVER).max().unwrap_or(0);
        let settled = in_time.max(last_end + longest) + longest;

        let mut stored = state.stored.clone();
        let mut outages = state.outages.clone();
        outages.extend(state.outage_until_now());
        let mut first_at = None;
        for tick in state.now + 1..=settled + longest {
            for &i in survivors {
                let client = &state.clients[i];
                if !stored.sessions.contains(&client.session) {
                    stored.register(client.session);
                }
                let beat = Work::Serve(Request::Heartbeat {
                    session: client.session,
                    number: 0,
                    sent_at: tick,
                    losses: state.losses(self),
                    dated_wrong: false,
                    health: *self.clients[i].healths.last().expect("it reports some health"),
                    acts_as_primary: None,
                    data_sent_until: None,
                });
                let mut trace = Vec::new();
                let answer = self.decide(&mut stored, &beat, instant(tick), &outages, state.history, &mut trace);
                if answer.is_some_and(|answer| answer.role == Role::Primary) {
                    first_at = first_at.or(Some(tick));
                }
                let restless = trace.iter().any(|change| change.from == Role::Primary || change.to == Role::Primary);
                if tick > settled && restless {
                    return false;
                }
            }
        }
        let holder = stored.group.holder(Role::Primary).map(|p| stored.sessions[p]);
        first_at.is_some_and(|tick| tick <= in_time)
            && survivors.iter().any(|i| Some(state.clients[*i].session) == holder)
    }

    pub fn somebody_always_can_take_over(&self, state: &State) -> bool {
        if !self.checks_takeover {
            return true;
        }
        let able: Vec<usize> = (0..state.clients.len()).filter(|i| !state.clients[*i].said_goodbye).collect();
        (1..1_usize << able.len()).all(|chosen| {
            let survivors: Vec<usize> =
                (0..able.len()).filter(|bit| chosen & (1 << bit) != 0).map(|bit| able[bit]).collect();
            self.is_taken_over(state, &survivors)
        })
    }
}
