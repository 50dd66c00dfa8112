//! The protocol between clients, replicas and the database, in a model checker, around the real
//! decisions.
//!
//! What is checked is every interleaving within stated bounds, not a sample: heartbeats and answers
//! that are lost, late, reordered and repeated; clients that fall silent, come back, restart under
//! a new session, or say goodbye; an operator who deletes a session that does not know of it, or
//! the whole group by force to create it again; two replicas whose transactions overlap; sweeps,
//! changes of the timeout, outages of the service, a database that loses its last commits. The
//! decisions are [`client_failover::arbitration`]'s own; the model adds what surrounds them.
//!
//! What the model assumes:
//! - Time is discrete. A tick is 100 ms, the shortest timeout there is, and nothing else about it
//!   matters.
//! - A message that is never delivered is a lost one, so there is no action for losing it. A client
//!   that sends nothing for a while is a paused or crashed one, so there is none for that either.
//! - A transaction reads the group and the clock, and commits later. It commits only if the group
//!   is still as it was read; otherwise it reads both anew. That is what serializable isolation
//!   amounts to for one group.
//! - A client acts as Primary from hearing so until the lease in the answer has passed since it
//!   *sent* that heartbeat. It does not heed an answer to an older heartbeat than the newest that
//!   was answered. One that says in which role it acts does not heed an answer to a heartbeat older
//!   than its latest "as Secondary" either: it would otherwise take back what it said.
//! - A client that says goodbye has stopped before, and never uses that session again.
//! - A client that is answered that there is no such session stops, and may register again under
//!   the same id. So the operator's deletions are of sessions that come back; other restarts are
//!   under a new id.
//! - The database may lose its last commits: an older state is put back and found in another
//!   history, whose base is above every term so far. What was not committed by then never is. A
//!   heartbeat that says that its client acts, and was sent before that, is answered with an error
//!   that changes nothing.
//! - Every client's clock is off by something else, some are ahead of the database's, and one may
//!   be far ahead in one heartbeat.
//!
//! That somebody takes over is not stated as an `eventually` property: this checker overlooks those
//! on paths that end in a cycle or in a state that another path reached first. It is an `always`
//! property instead: from *every* state reached, whoever may survive, the survivors' heartbeats are
//! played on, and one of them must be Primary in time and stay it. Nothing after the failure is
//! left to chance there, as the promise presumes heartbeats that arrive.
//!
//! A checker that finds nothing may be looking at nothing. So every rule is also broken on purpose,
//! in [`Defect`], and each breach must be found.

use std::collections::HashMap;

use client_failover::arbitration::{
    Answer, By, ClientInstant, FailoverTimeout, Former, Group, Handover, HandoverMode, Health, History, HistoryId,
    Instant, Moment, Outage, Reason, Remains, Report, Role, Rules, Session, Term, Transition, end, heartbeat, lapse,
    remove,
};
use rust_decimal::Decimal;
use stateright::{Checker, HasDiscoveries, Model, Path, Property, UniformChooser};

const TICK_US: i64 = 100_000;

const ONE_GRANTED: &str = "no two granted Primaries";
const ONE_ACTING: &str = "no two acting Primaries";
const TERM_NAMES_ONE: &str = "the term never falls and names one holder";
const WATERMARK_STAYS: &str = "the watermark never falls";
const NO_NEEDLESS_CHANGE: &str = "no Primary is replaced without need";
const TAKEN_OVER: &str = "whoever survives takes over in time and stays";

/// Whether a client says in its heartbeats in which role it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silent,
    Telling,
}
use Kind::{Silent, Telling};

/// What one client may do within the bounds.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    kind: Kind,
    /// What it may report in a heartbeat, in per cent.
    healths: &'static [u8],
    heartbeats: u8,
}

fn client(kind: Kind, healths: &'static [u8], heartbeats: u8) -> Bounds {
    Bounds { kind, healths, heartbeats }
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    HandoverNotOpened,
    OldAcknowledgementBelieved,
    LeaseFromAReplicasClock,
    OutageForgotten,
    TermNotRaised,
    ConflictNotDetected,
    NowReusedOnRetry,
    LeaseRecomputedOnChange,
    WatermarkForgottenOnDeletion,
    DeadPrimaryNeverLapses,
    TrustCountedFromReceipt,
    AcknowledgementTakenBack,
    DeletionTakenForGoodbye,
    GoneOneAcknowledges,
    TermBeginsAgain,
    NewGroupWaitsForNobody,
    ClocksBoundedOnly,
    TermsNotLifted,
    DoubtIgnored,
    OldClaimBelieved,
}

/// The bounds of one check, and the rules under which it runs.
#[derive(Clone, Debug)]
struct Protocol {
    clients: Vec<Bounds>,
    /// The failover timeouts, in ticks, that the group is switched between; the first holds at the
    /// start.
    timeouts: &'static [u8],
    last_tick: u8,
    /// Whether two replicas' transactions may overlap; if not, each is over as soon as it begins.
    transactions_overlap: bool,
    repeats: u8,
    restarts: u8,
    goodbyes: u8,
    /// How often an operator deletes a session.
    deletions: u8,
    /// How often an operator deletes the group by force and creates it again.
    recreations: u8,
    timeout_changes: u8,
    outages: u8,
    /// How often the database loses commits: up to so many of the last ones.
    losses: u8,
    lost_commits: usize,
    /// How many heartbeats are dated far in the future.
    wrong_dates: u8,
    /// By how many ticks the clock of each odd session is ahead of the database's.
    clocks_ahead: u8,
    sweeps: bool,
    /// Whether a Primary reports until when it sent data.
    reports_data: bool,
    /// Whether the takeover is played on from every state.
    checks_takeover: bool,
    handover: HandoverMode,
    defect: Option<Defect>,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[50], 2)],
            timeouts: &[2],
            last_tick: 4,
            transactions_overlap: false,
            repeats: 0,
            restarts: 0,
            goodbyes: 0,
            deletions: 0,
            recreations: 0,
            timeout_changes: 0,
            outages: 0,
            losses: 0,
            lost_commits: 2,
            wrong_dates: 0,
            clocks_ahead: 0,
            sweeps: false,
            reports_data: false,
            checks_takeover: false,
            handover: HandoverMode::Strict,
            defect: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    session: u8,
    said_goodbye: bool,
    /// It was told that there is no such session, and has not registered again.
    unknown: bool,
    heartbeats_left: u8,
    /// The number of the latest heartbeat that it sent.
    sent: u8,
    /// The number of the newest heartbeat whose answer it heeded.
    answered: u8,
    /// The number of the latest heartbeat in which it said that it acts as Secondary.
    said_secondary: u8,
    /// It acts as Primary before this tick.
    acts_until: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Request {
    Heartbeat {
        session: u8,
        number: u8,
        sent_at: u8,
        /// How many losses there were when it was sent.
        losses: u8,
        dated_wrong: bool,
        health: u8,
        acts_as_primary: Option<bool>,
        data_sent_until: Option<u8>,
    },
    Goodbye {
        session: u8,
    },
}

impl Request {
    fn session(&self) -> u8 {
        match self {
            Request::Heartbeat { session, .. } | Request::Goodbye { session } => *session,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Reply {
    session: u8,
    number: u8,
    sent_at: u8,
    /// For how many ticks since the sending the client may act; 0 if it is not Primary, `None` if
    /// there is no such session.
    lease: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Serve(Request),
    Sweep,
    ChangeTimeout(u8),
    /// An operator's deletion of a session.
    Delete(u8),
    /// The group is deleted by force, and another created at its path.
    Recreate,
}

/// What the database holds of the group: its state, and whose session stands at which place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    group: Group,
    sessions: Vec<u8>,
}

impl Stored {
    fn register(&mut self, session: u8) {
        self.group.sessions.push(NEW_SESSION);
        self.sessions.push(session);
    }

    /// Takes away the place of a session that has been removed.
    fn drop_place(&mut self, s: usize) {
        self.group.sessions.remove(s);
        self.sessions.remove(s);
        if let Some(Handover { from: Former::Yielding { session, .. }, .. }) = &mut self.group.handover
            && *session > s
        {
            *session -= 1;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transaction {
    work: Work,
    /// The clock as it decides by it.
    now: u8,
    /// The clock as it was when the state was read: another only under a defect.
    read_at: u8,
    conflicts: bool,
    /// Kept only where conflicts go undetected: elsewhere it equals what is stored at the commit.
    snapshot: Option<Stored>,
}

/// What must be true of a session's lease, kept without looking at what the decisions stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    session: u8,
    until: u8,
    length: u8,
    /// It was granted Primary and may act on it before this tick, whatever its role is now.
    primary_until: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    stored: Stored,
    outages: Vec<Outage>,
    down_since: Option<u8>,
    clients: Vec<Client>,
    next_session: u8,
    requests: Vec<Request>,
    replies: Vec<Reply>,
    transactions: Vec<Transaction>,
    repeats_left: u8,
    restarts_left: u8,
    goodbyes_left: u8,
    deletions_left: u8,
    recreations_left: u8,
    wrong_dates_left: u8,
    timeout_changes_left: u8,
    outages_left: u8,
    losses_left: u8,
    /// The present history, if it is not the first.
    history: Option<History>,
    /// What the database was before its last commits, the latest first, and when it was still that.
    earlier: Vec<(u8, Stored, Vec<Outage>)>,
    leases: Vec<Lease>,
    highest_term: i64,
    highest_watermark: Option<Instant>,
    /// The safety properties that were breached on the way here.
    breached: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Tick,
    Send {
        client: usize,
        health: u8,
        dated_wrong: bool,
    },
    Read {
        request: usize,
        again: bool,
        clock_ahead: bool,
    },
    BeginSweep,
    BeginChangeTimeout(u8),
    Commit(usize),
    Retry(usize),
    Hear(usize),
    Restart(usize),
    RegisterAgain(usize),
    SayGoodbye(usize),
    BeginDelete(u8),
    BeginRecreate,
    ServiceGoes,
    ServiceReturns,
    /// The database is what it was before so many commits.
    Lose(usize),
}

fn instant(tick: u8) -> Instant {
    Instant(i64::from(tick) * TICK_US)
}

fn timeout(ticks: u8) -> FailoverTimeout {
    FailoverTimeout::from_ticks(i64::from(ticks) * FailoverTimeout::MIN_TICKS).expect("a tick is the shortest timeout")
}

fn whole_ticks(timeout: FailoverTimeout) -> u8 {
    u8::try_from(timeout.micros() / TICK_US).expect("timeouts are a few ticks")
}

fn health(percent: u8) -> Health {
    Health::new(Decimal::from(percent)).expect("between 0 and 100")
}

/// A time before which everything was lost long ago.
const LONG_AGO: Instant = Instant(-1_000 * TICK_US);

const BEGINNING: Moment<'static> = Moment { now: Instant(0), outages: &[], history: None };

const NEW_SESSION: Session = Session { role: Role::Secondary, beat: None, sent_until: None };

impl Protocol {
    fn rules(&self) -> Rules {
        Rules { handover: self.handover, ..Rules::default() }
    }

    fn breaks(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// The history as decisions are made in it.
    fn of_history(&self, history: History) -> History {
        let base = if self.breaks(Defect::TermsNotLifted) { Term(0) } else { history.base };
        let noticed_at = if self.breaks(Defect::DoubtIgnored) { LONG_AGO } else { history.noticed_at };
        History { base, noticed_at, ..history }
    }

    /// Whether a heartbeat is answered with an error, because it says that its client acts and was
    /// sent before commits were lost.
    fn is_refused(&self, state: &State, work: &Work, now: Instant) -> bool {
        let Work::Serve(Request::Heartbeat { losses, acts_as_primary: Some(true), .. }) = work else { return false };
        let at =
            Moment { now, outages: &state.outages, history: state.history.map(|history| self.of_history(history)) };
        let mut group = state.stored.group.clone();
        group.begin_anew(at);
        *losses < state.losses(self) && group.is_in_doubt(at) && !self.breaks(Defect::OldClaimBelieved)
    }

    /// A transaction's decision on what is stored, at its instant; the answer and what changed.
    fn decide(
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
                let answer = heartbeat(group, s, &report, at, &self.rules(), trace);
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

    fn commit(&self, state: &mut State, i: usize) {
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

    fn register(&self, state: &mut State, session: u8) {
        state.stored.register(session);
        for transaction in &mut state.transactions {
            transaction.conflicts = !self.breaks(Defect::ConflictNotDetected);
        }
    }

    fn begin(&self, state: &mut State, work: Work, ahead: u8) {
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
    fn date(&self, session: u8, sent_at: u8, wrong: bool) -> ClientInstant {
        const FAR_AHEAD_US: i64 = 1_000_000_000;
        let off_us = match session % 2 == 1 {
            true => i64::from(self.clocks_ahead) * TICK_US,
            false => -1_000 * i64::from(session),
        };
        ClientInstant(i64::from(sent_at) * TICK_US + off_us + if wrong { FAR_AHEAD_US } else { 0 })
    }

    fn send(&self, state: &mut State, i: usize, health: u8, dated_wrong: bool) {
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

    fn heeds(&self, client: &Client, reply: &Reply) -> bool {
        reply.session == client.session
            && !client.said_goodbye
            && reply.number > client.answered
            && (reply.number >= client.said_secondary || self.breaks(Defect::AcknowledgementTakenBack))
    }

    fn hear(&self, state: &mut State, i: usize) {
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
    fn forget_the_irrelevant(&self, state: &mut State) {
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
    fn is_taken_over(&self, state: &State, survivors: &[usize]) -> bool {
        let longest = self.timeouts.iter().copied().max().expect("there is a timeout");
        // A doubt of a history that is lost is waited for.
        let noticed_at =
            state.history.map_or(0, |history| u8::try_from(history.noticed_at.0 / TICK_US).unwrap_or(u8::MAX));
        let doubt = if state.history.is_some() { noticed_at + longest } else { 0 };
        let in_time = state.now.max(doubt) + longest + longest / 2;
        let settled = in_time + longest;

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

    fn somebody_always_can_take_over(&self, state: &State) -> bool {
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

impl State {
    fn outage_until_now(&self) -> Option<Outage> {
        self.down_since.map(|began| Outage {
            began_at: instant(began),
            recovered_at: instant(self.now),
            gap_us: 0,
            clock_step_us: 0,
        })
    }

    /// How often commits were lost so far.
    fn losses(&self, protocol: &Protocol) -> u8 {
        protocol.losses - self.losses_left
    }

    fn lease(&mut self, session: u8) -> &mut Lease {
        let i = self.leases.iter().position(|lease| lease.session == session);
        &mut self.leases[i.expect("every session has an entry")]
    }

    fn breach(&mut self, property: &'static str) {
        if !self.breached.contains(&property) {
            self.breached.push(property);
        }
    }

    /// Holds a committed transaction against the promises, and keeps the books that they are judged
    /// by.
    fn judge(
        &mut self,
        read: &Stored,
        after: &Stored,
        work: &Work,
        read_at: u8,
        answer: &Option<Answer>,
        trace: &[Transition],
    ) {
        let mut granted = None;
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
            Property::always(TAKEN_OVER, |protocol: &Protocol, state: &State| {
                protocol.somebody_always_can_take_over(state)
            }),
        ]
    }
}

/// One line per step, and the names of the properties that fail.
fn tell(name: &str, path: Path<State, Action>) -> String {
    let steps: Vec<String> = path.into_actions().iter().map(|action| format!("  {action:?}")).collect();
    format!("{name}:\n{}", steps.join("\n"))
}

/// More states than any of the bounds below has; a check that meets it has not been exhaustive.
const TOO_MANY_STATES: usize = 400_000_000;

/// Goes through every state within the bounds; fails with the way to a breach.
fn holds(what: &str, protocol: Protocol) {
    let began = std::time::Instant::now();
    // Depth first: breadth first keeps a whole generation of states in memory, which are most of
    // them.
    let checker = protocol
        .clone()
        .checker()
        .threads(2)
        .target_state_count(TOO_MANY_STATES)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    println!(
        "{what}: {} unique states in {:.1} s, all there are within {protocol:?}",
        checker.unique_state_count(),
        began.elapsed().as_secs_f32(),
    );
    fail_on_breaches(what, checker.discoveries());
    assert!(checker.state_count() < TOO_MANY_STATES, "{what}: the bounds are too wide to be gone through");
}

/// Follows random ways through far wider bounds than can be gone through whole.
fn holds_on_random_ways(what: &str, protocol: Protocol, states: usize, seed: u64) {
    let began = std::time::Instant::now();
    let checker = protocol
        .clone()
        .checker()
        .target_state_count(states)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_simulation(seed, UniformChooser)
        .join();
    println!(
        "{what}: {} states on random ways from seed {seed} in {:.1} s, within {protocol:?}",
        checker.state_count(),
        began.elapsed().as_secs_f32(),
    );
    fail_on_breaches(what, checker.discoveries());
}

fn fail_on_breaches(what: &str, breaches: HashMap<&'static str, Path<State, Action>>) {
    let told: Vec<String> = breaches.into_iter().map(|(property, path)| tell(property, path)).collect();
    assert!(told.is_empty(), "{what}\n{}", told.join("\n"));
}

/// A breach of that property must be found.
fn finds(property: &'static str, protocol: Protocol) {
    let began = std::time::Instant::now();
    let checker = protocol
        .clone()
        .checker()
        .threads(2)
        .target_state_count(TOO_MANY_STATES)
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let what = protocol.defect.map_or_else(|| format!("{:?}", protocol.handover), |defect| format!("{defect:?}"));
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{what} goes unnoticed by \"{property}\""));
    println!(
        "{what}: found after {} unique states in {:.1} s\n{}",
        checker.unique_state_count(),
        began.elapsed().as_secs_f32(),
        tell(property, path)
    );
}

#[test]
fn a_handover_between_clients_that_do_not_tell_their_role() {
    holds(
        "silent handover",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[90], 2)],
            last_tick: 2,
            repeats: 1,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_handover_that_is_acknowledged() {
    holds(
        "telling handover",
        Protocol {
            clients: vec![client(Telling, &[50], 3), client(Silent, &[90], 2)],
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn health_that_goes_up_and_down() {
    holds(
        "health",
        Protocol {
            clients: vec![client(Telling, &[40, 60], 2), client(Silent, &[50], 2)],
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn transactions_of_two_replicas_that_overlap() {
    holds(
        "overlap",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Telling, &[60], 1)],
            transactions_overlap: true,
            last_tick: 3,
            sweeps: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn changes_of_the_timeout_around_an_outage() {
    holds(
        "timeouts",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[50], 1)],
            timeouts: &[3, 2],
            timeout_changes: 1,
            outages: 1,
            last_tick: 4,
            ..Protocol::default()
        },
    );
}

#[test]
fn outages_and_whoever_survives_them() {
    holds(
        "outages",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[60], 1)],
            outages: 1,
            last_tick: 3,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_database_that_loses_its_last_commits() {
    holds(
        "lost commits",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Telling, &[60], 2)],
            losses: 1,
            lost_commits: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_database_that_loses_its_last_commits_where_somebody_does_not_tell_its_role() {
    holds(
        "lost commits, silent",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 1)],
            losses: 1,
            last_tick: 3,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_and_a_database_that_loses_its_last_commits() {
    holds(
        "lost commits and deletions",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 1)],
            losses: 1,
            deletions: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn goodbyes_and_restarts() {
    holds(
        "goodbyes",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[60], 1)],
            goodbyes: 1,
            restarts: 1,
            reports_data: true,
            sweeps: true,
            last_tick: 3,

            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_by_an_operator() {
    holds(
        "deletions",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 2)],
            deletions: 1,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_where_handovers_are_prompt() {
    holds(
        "deletions, prompt",
        Protocol {
            // Equals: nobody yields, which is what the prompt mode does not wait for.
            clients: vec![client(Telling, &[50], 2), client(Silent, &[50], 2)],
            deletions: 2,
            last_tick: 2,
            handover: HandoverMode::Prompt,
            ..Protocol::default()
        },
    );
}

#[test]
fn groups_that_are_deleted_and_created_again() {
    holds(
        "recreations",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 2)],
            deletions: 1,
            recreations: 1,
            reports_data: true,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn clocks_of_clients_that_are_ahead() {
    holds(
        "clocks ahead",
        Protocol {
            clients: vec![client(Silent, &[90], 1), client(Telling, &[50], 3)],
            clocks_ahead: 1,
            repeats: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn clocks_of_clients_that_were_wrong_once() {
    holds(
        "wrong dates",
        Protocol {
            clients: vec![client(Silent, &[90], 1), client(Telling, &[50], 3)],
            wrong_dates: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
}

#[test]
fn three_clients() {
    holds(
        "three clients",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Telling, &[60], 1), client(Silent, &[60], 1)],
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn random_ways_of_four_clients_with_everything_at_once() {
    holds_on_random_ways("random ways", Protocol { checks_takeover: false, ..everything(8) }, 50_000, 1);
}

#[test]
fn every_broken_rule_is_noticed() {
    let silent = |healths| client(Silent, healths, 2);
    let equals = Protocol { clients: vec![silent(&[50]), silent(&[50])], ..Protocol::default() };
    let handover = Protocol { clients: vec![silent(&[50]), silent(&[90])], ..Protocol::default() };
    let telling =
        Protocol { clients: vec![client(Telling, &[50], 3), silent(&[90])], last_tick: 1, ..Protocol::default() };
    let with = |defect, protocol: &Protocol| Protocol { defect: Some(defect), ..protocol.clone() };

    finds(ONE_GRANTED, with(Defect::HandoverNotOpened, &handover));
    finds(ONE_ACTING, with(Defect::HandoverNotOpened, &handover));
    finds(ONE_ACTING, Protocol { handover: HandoverMode::Prompt, ..handover.clone() });
    let repeated = Protocol { clients: vec![client(Telling, &[50], 2), silent(&[90])], repeats: 1, ..telling.clone() };
    finds(ONE_ACTING, with(Defect::OldAcknowledgementBelieved, &repeated));
    finds(ONE_ACTING, with(Defect::AcknowledgementTakenBack, &telling));
    finds(ONE_ACTING, with(Defect::LeaseFromAReplicasClock, &equals));
    finds(ONE_ACTING, with(Defect::TrustCountedFromReceipt, &equals));
    finds(TERM_NAMES_ONE, with(Defect::TermNotRaised, &equals));
    finds(TAKEN_OVER, Protocol { checks_takeover: true, ..with(Defect::DeadPrimaryNeverLapses, &equals) });
    finds(NO_NEEDLESS_CHANGE, Protocol { outages: 1, ..with(Defect::OutageForgotten, &equals) });

    let overlap = Protocol { transactions_overlap: true, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::ConflictNotDetected, &overlap));
    finds(ONE_GRANTED, with(Defect::ConflictNotDetected, &overlap));
    let retried = Protocol { clients: vec![silent(&[50]), client(Silent, &[50], 1)], ..overlap };
    finds(NO_NEEDLESS_CHANGE, with(Defect::NowReusedOnRetry, &retried));

    let changing = Protocol { timeouts: &[3, 2], timeout_changes: 1, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::LeaseRecomputedOnChange, &changing));

    let leaving = Protocol { reports_data: true, goodbyes: 1, ..equals.clone() };
    finds(WATERMARK_STAYS, with(Defect::WatermarkForgottenOnDeletion, &leaving));

    let deleting = Protocol { deletions: 1, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::DeletionTakenForGoodbye, &deleting));
    let returning = Protocol {
        clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 2)],
        deletions: 1,
        ..Protocol::default()
    };
    finds(ONE_ACTING, with(Defect::GoneOneAcknowledges, &returning));
    let recreating = Protocol { recreations: 1, ..equals };
    finds(TERM_NAMES_ONE, with(Defect::TermBeginsAgain, &recreating));
    finds(ONE_ACTING, with(Defect::NewGroupWaitsForNobody, &recreating));

    let losing = Protocol { losses: 1, lost_commits: 1, ..Protocol::default() };
    finds(TERM_NAMES_ONE, with(Defect::TermsNotLifted, &losing));
    finds(ONE_ACTING, with(Defect::DoubtIgnored, &losing));
    let claiming =
        Protocol { clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 1)], last_tick: 2, ..losing };
    finds(ONE_ACTING, with(Defect::OldClaimBelieved, &claiming));

    let ahead = Protocol {
        clients: vec![silent(&[90]), client(Telling, &[50], 4)],
        clocks_ahead: 2,
        last_tick: 3,
        ..Protocol::default()
    };
    finds(ONE_ACTING, with(Defect::ClocksBoundedOnly, &ahead));
}

#[test]
fn acknowledgements_late_and_repeated() {
    holds(
        "late acknowledgements",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[90], 2)],
            last_tick: 1,
            repeats: 2,
            ..Protocol::default()
        },
    );
}

fn everything(heartbeats: u8) -> Protocol {
    Protocol {
        clients: vec![
            client(Telling, &[40, 60], heartbeats),
            client(Silent, &[50], heartbeats),
            client(Telling, &[50], heartbeats),
            client(Silent, &[40, 60], heartbeats),
        ],
        timeouts: &[2, 3],
        timeout_changes: 2,
        outages: 2,
        losses: 2,
        lost_commits: 4,
        repeats: 4,
        restarts: 2,
        goodbyes: 1,
        deletions: 2,
        recreations: 1,
        clocks_ahead: 1,
        last_tick: 24,
        transactions_overlap: true,
        sweeps: true,
        reports_data: true,
        checks_takeover: true,
        ..Protocol::default()
    }
}

/// Minutes, not seconds: `cargo test --release --test model -- --ignored --nocapture --test-threads
/// 1`
#[test]
#[ignore = "takes minutes"]
fn wider_bounds() {
    let silent = |healths, heartbeats| client(Silent, healths, heartbeats);
    let telling = |healths, heartbeats| client(Telling, healths, heartbeats);
    holds(
        "silent handover, wider",
        Protocol { clients: vec![silent(&[50], 2), silent(&[90], 2)], last_tick: 4, repeats: 1, ..Protocol::default() },
    );
    holds(
        "telling handover, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[90], 2)],
            last_tick: 2,
            repeats: 1,
            ..Protocol::default()
        },
    );
    holds(
        "two telling clients, wider",
        Protocol {
            clients: vec![telling(&[40, 60], 2), telling(&[50], 2)],
            last_tick: 3,
            repeats: 1,
            ..Protocol::default()
        },
    );
    holds(
        "overlap, wider",
        Protocol {
            clients: vec![silent(&[50], 2), telling(&[60], 2)],
            transactions_overlap: true,
            last_tick: 2,
            sweeps: true,
            ..Protocol::default()
        },
    );
    holds(
        "timeouts, wider",
        Protocol {
            clients: vec![silent(&[50], 2), silent(&[60], 1)],
            timeouts: &[2, 3],
            timeout_changes: 2,
            outages: 1,
            last_tick: 5,
            ..Protocol::default()
        },
    );
    holds(
        "outages, wider",
        Protocol {
            clients: vec![silent(&[50], 2), silent(&[60], 1)],
            outages: 2,
            last_tick: 5,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "deletions, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[60], 2)],
            deletions: 2,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "recreations, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[60], 2)],
            deletions: 1,
            recreations: 2,
            reports_data: true,
            last_tick: 2,
            ..Protocol::default()
        },
    );
    holds(
        "lost commits, wider",
        Protocol {
            clients: vec![telling(&[50], 2), telling(&[60], 2)],
            losses: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
    holds(
        "clocks ahead, wider",
        Protocol {
            clients: vec![silent(&[90], 2), telling(&[50], 3)],
            clocks_ahead: 1,
            repeats: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
    holds(
        "clocks ahead and timeouts, wider",
        Protocol {
            clients: vec![silent(&[90], 1), telling(&[50], 4)],
            timeouts: &[2, 3],
            timeout_changes: 1,
            clocks_ahead: 2,
            last_tick: 3,
            ..Protocol::default()
        },
    );
    for seed in 1..=8 {
        holds_on_random_ways("random ways, wider", everything(8), 200_000, seed);
    }
}
