//! How a role is decided: state and an instant in, decision out.
//!
//! This module is pure. It owns every rule about roles, leases, terms, handovers and the watermark,
//! and never waits, reads a clock, or knows a database. Instants are the database's; the caller
//! reads its clock once per attempt of a transaction and passes it in. Sessions are named by their
//! place in [`Group::sessions`], which is their order of registration, so that a decision compares
//! numbers and not names.
//!
//! Five entries: [`heartbeat`] decides (and [`changes_nothing`] tells where it need not see the
//! whole group), [`lapse`] takes away what has run out, [`remove`] deletes a session, and [`end`] a
//! group, [`doubt_for`] holds back grants; [`Group::begin`] makes the one that follows it.
//! Whichever comes first in a new history of the database leads the group over into it.

use rust_decimal::Decimal;

#[cfg(test)]
mod tests;

/// An instant of the database's clock: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub i64);

impl Instant {
    /// The instant one failover timeout later.
    pub fn plus(self, timeout: FailoverTimeout) -> Instant {
        Instant(self.0.saturating_add(timeout.micros()))
    }
}

/// An instant of one client's own clock, in microseconds since 1970-01-01 UTC. It is compared with
/// earlier instants of the same client: no decision rests on a client's clock being right. With the
/// database's it is compared only to bound for how long a wrong one is remembered, and to refuse a
/// leap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientInstant(pub i64);

/// A group's failover timeout in ticks of 100 ns, from 100 ms to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailoverTimeout(i64);

impl FailoverTimeout {
    /// Ticks in a millisecond.
    pub const TICKS_PER_MS: i64 = 10_000;
    /// The shortest timeout, 100 ms, in ticks.
    pub const MIN_TICKS: i64 = 100 * Self::TICKS_PER_MS;
    /// The longest timeout, 24 h, in ticks.
    pub const MAX_TICKS: i64 = 24 * 3_600_000 * Self::TICKS_PER_MS;
    /// What a group has that names none: one minute.
    pub const DEFAULT: FailoverTimeout = FailoverTimeout(60_000 * Self::TICKS_PER_MS);

    /// The timeout of so many ticks; `None` outside the bounds.
    pub fn from_ticks(ticks: i64) -> Option<FailoverTimeout> {
        (Self::MIN_TICKS..=Self::MAX_TICKS).contains(&ticks).then_some(FailoverTimeout(ticks))
    }

    /// The duration in ticks of 100 ns.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// The duration in whole microseconds, rounded up: a lease must not end before the client's
    /// trust in it.
    pub fn micros(self) -> i64 {
        (self.0 + 9) / 10
    }

    /// The duration in whole milliseconds, cut: a client must not trust its lease for longer than
    /// it has it.
    pub fn whole_ms(self) -> i64 {
        self.0 / Self::TICKS_PER_MS
    }
}

/// Per cent of a client's streams that are healthy, exactly as reported: 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Health(Decimal);

impl Health {
    /// By how much shares that add up to 100 may exceed it when they are added up as doubles.
    const ROUNDING: Decimal = Decimal::from_parts(1, 0, 0, false, 6);

    /// The health of so many per cent; `None` outside 0 to 100. What exceeds 100 by a millionth at
    /// most is 100.
    pub fn new(percent: Decimal) -> Option<Health> {
        let is_rounded_up = percent > Decimal::ONE_HUNDRED && percent - Decimal::ONE_HUNDRED <= Health::ROUNDING;
        let percent = if is_rounded_up { Decimal::ONE_HUNDRED } else { percent };
        (Decimal::ZERO..=Decimal::ONE_HUNDRED)
            .contains(&percent)
            // Zero has a sign in a decimal, and minus zero would be shown.
            .then_some(Health(percent.abs()))
    }

    /// The per cent as reported.
    pub fn percent(self) -> Decimal {
        self.0
    }
}

/// What a session is allowed to do. The numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Role {
    /// Everybody else, and everybody new.
    Secondary = 0,
    /// Holds the lease to send data; at most one in a group.
    Primary = 1,
    /// Chosen to take over; waits for the Primary to yield or lapse. At most one in a group.
    PendingPrimary = 2,
}

impl Role {
    /// The role of that number, if it is one.
    pub fn from_number(number: i16) -> Option<Role> {
        match number {
            0 => Some(Role::Secondary),
            1 => Some(Role::Primary),
            2 => Some(Role::PendingPrimary),
            _ => None,
        }
    }

    /// The number on the wire and in the database.
    pub fn number(self) -> i16 {
        self as i16
    }
}

/// How often Primary has been granted in the groups at a path to a session that did not hold it:
/// rises by one with each grant, never falls, is never reused, not even by another group at the
/// same path. Whoever receives the data can refuse a sender with an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub i64);

/// The number of a history of the database among those that it knows; 0 for none that was ever
/// noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(pub i64);

/// A history of the database that began without all of the one before: grants that clients were
/// told of may be missing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Its number.
    pub id: HistoryId,
    /// When it was noticed. Whatever was lost was answered before that.
    pub noticed_at: Instant,
    /// A term that nobody was given before.
    pub base: Term,
}

/// Why nobody holds Primary, so that the next grant can say what it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vacancy {
    /// Nobody has held it yet.
    NeverHeld,
    /// The holder's lease ran out.
    Lapsed,
    /// The holder yielded to a healthier session.
    Yielded,
    /// The holder was deleted, or the whole group at this path was.
    Deleted,
}

/// Why a role changed: the closed list that the trace of changes is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first Primary that the group ever had.
    FirstHeartbeat,
    /// A lease ran out, or the one before the new holder's did.
    LeaseLapsed,
    /// It is healthier than the Primary and is to take over.
    Healthier,
    /// The Primary stepped down for a healthier session.
    Yielded,
    /// The yielding Primary has stopped for certain, and its successor is granted.
    HandoverCompleted,
    /// The yielding Primary ranked first again before its handover closed; or a session that was
    /// acting already was believed, and the grant that it acts on was lost with a history of the
    /// database.
    Recovered,
    /// The session was deleted, or the Primary before the new holder was.
    SessionDeleted,
    /// Another session is now first in rank.
    Superseded,
}

/// A time in which nobody is granted Primary, because whoever held it last may not have heard that
/// it is over and may act on the lease it held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handover {
    /// Who may still act.
    pub from: Former,
    /// The end of the lease it held.
    pub until: Instant,
}

/// The last Primary of a group that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Former {
    /// A session that yielded. It can say that it has stopped.
    Yielding {
        /// Its place.
        session: usize,
        /// An acknowledgement counts only if it was sent after this, by the client's clock: see
        /// [`Beat::heard_until`]. An older one is from an earlier time as Secondary, and proves
        /// nothing about now.
        heard_until: ClientInstant,
    },
    /// One that is gone: somebody else deleted it, or its group. Nobody can speak for it, not even
    /// a session that registers under its id, for that may be another process.
    Gone,
}

/// Who deletes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The session itself: it says goodbye, having stopped before.
    Itself,
    /// Somebody else: it does not know.
    Another,
}

/// What a deleted group leaves behind for the next one at its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remains {
    /// The term of its last grant.
    pub term: Term,
    /// Until when a lease that was given in it may be acted on; `None` if none may.
    pub acted_on_until: Option<Instant>,
}

/// The latest heartbeat of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    /// The health it reported.
    pub health: Health,
    /// The latest client's time of all its heartbeats that have arrived. Up to then, one that says
    /// "I act as Secondary" may be an old message, delayed or repeated; at the same time too, for a
    /// client's clock may be coarse.
    pub heard_until: ClientInstant,
    /// Until when that counts in full, if it is ahead of the database's clock. After this it counts
    /// as this instant, for by then nobody can act any more on what was answered by it: a clock
    /// that was wrong once is forgotten as soon as it says a later time than this.
    pub heard_counts_until: Instant,
    /// When it arrived.
    pub received_at: Instant,
    /// The end of the lease that it gave. A stored instant: a later change of the timeout does not
    /// touch it.
    pub lease_until: Instant,
}

/// By how much further ahead of the database's clock a client's may be in an acknowledgement than
/// it was before, in microseconds. One that leaps is not believed: it may be an old message of a
/// time in which that clock was wrong.
const LONGEST_LEAP_US: i64 = 1_000_000;

impl Beat {
    /// The instant at which its lease really ends.
    pub fn lease_end(self, outages: &[Outage]) -> Instant {
        lease_end(self.received_at, self.lease_until, outages)
    }

    /// The latest client's time that still counts.
    fn heard_by(self, now: Instant) -> ClientInstant {
        match now < self.heard_counts_until {
            true => self.heard_until,
            false => self.heard_until.min(ClientInstant(self.heard_counts_until.0)),
        }
    }

    /// Whether a client's time is further ahead of the database's clock than this session's times
    /// were.
    fn is_leapt_by(self, sent_at: ClientInstant, now: Instant) -> bool {
        let lead_us = self.heard_by(now).0.saturating_sub(self.received_at.0).max(0);
        sent_at.0.saturating_sub(now.0) > lead_us.saturating_add(LONGEST_LEAP_US)
    }

    /// This one, followed by another that arrives at `now` and gives a lease of `timeout`.
    ///
    /// What is heard must bind for as long as the client may act on an answer to a heartbeat that
    /// it sent no later. Those that arrive after the newest were sent before it, so that their
    /// leases are over no later than the newest's, unless a longer timeout holds by then.
    fn followed_by(self, report: &Report, now: Instant, timeout: FailoverTimeout, outages: &[Outage]) -> Beat {
        let received_at = self.received_at.max(now);
        // As an outage left it: a shorter timeout since then must not cut what the return gave.
        let lease_until = self.lease_end(outages).max(now.plus(timeout));
        let heard = self.heard_by(received_at);
        let is_longer = timeout.micros() > self.lease_until.0 - self.received_at.0;
        let (heard_until, heard_counts_until) = match report.sent_at >= heard {
            true if report.sent_at.0 > received_at.0 => (report.sent_at, lease_until),
            true => (report.sent_at, received_at),
            false if heard.0 > received_at.0 && is_longer => (heard, self.heard_counts_until.max(lease_until)),
            false => (heard, self.heard_counts_until.max(received_at)),
        };
        Beat { health: report.health, heard_until, heard_counts_until, received_at, lease_until }
    }

    /// The first of its session.
    fn first(report: &Report, now: Instant, timeout: FailoverTimeout) -> Beat {
        let lease_until = now.plus(timeout);
        let heard_counts_until = if report.sent_at.0 > now.0 { lease_until } else { now };
        Beat { health: report.health, heard_until: report.sent_at, heard_counts_until, received_at: now, lease_until }
    }
}

/// One registered client session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The role that it was last told, or that was taken from it since.
    pub role: Role,
    /// `None` until its first heartbeat; such a session is not live and is never ranked.
    pub beat: Option<Beat>,
    /// The latest time of data sent that it reported while Primary.
    pub sent_until: Option<Instant>,
}

/// The whole state that roles in a group are decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The failover timeout now.
    pub timeout: FailoverTimeout,
    /// The term of the last grant; 0 before the first.
    pub term: Term,
    /// Why nobody holds Primary; without meaning while somebody does.
    pub vacancy: Vacancy,
    /// The open handover.
    pub handover: Option<Handover>,
    /// What sessions that are gone had contributed to the watermark.
    pub watermark_base: Option<Instant>,
    /// The history that its roles and its term belong to.
    pub history: HistoryId,
    /// Until then somebody may act on a lease that was given in a history that is lost.
    pub in_doubt_until: Option<Instant>,
    /// The sessions in order of registration (equal times: by id).
    pub sessions: Vec<Session>,
}

/// A time in which no replica could reach the database, so that no client could renew its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outage {
    /// The last sign of life before it.
    pub began_at: Instant,
    /// The first one after it.
    pub recovered_at: Instant,
    /// How long it must have lasted to count for every lease, in microseconds.
    pub gap_us: i64,
    /// By how much the database's clock was set forward in it, in microseconds: so much of it never
    /// passed.
    pub clock_step_us: i64,
}

impl Outage {
    /// Whether it counts for a lease that was given for so long. Clients heartbeat every half of
    /// that time, so that a short lease is hurt by an outage that a long one does not notice: of
    /// that, a quarter is enough.
    fn counts_for(&self, given_for_us: i64) -> bool {
        self.recovered_at.0 - self.began_at.0 > self.gap_us.min(given_for_us / 4)
    }
}

/// The instant that is decided at, and what must be known to judge a lease at it.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The database's clock, read after the snapshot that the state comes from.
    pub now: Instant,
    /// Past outages of the service, oldest first.
    pub outages: &'a [Outage],
    /// The present history of the database, if it is not the first.
    pub history: Option<History>,
}

/// Whether a yielding Primary is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverMode {
    /// Until it acknowledges, says goodbye, or its lease has run out.
    Strict,
    /// Not at all: its successor is granted on the next heartbeat. That nobody acts twice then
    /// rests on the arrival of the demoting answer. One that somebody else deletes is waited for
    /// all the same: it gets no answer.
    Prompt,
}

/// The settings that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// By how many per cent more a challenger must be healthier than a live Primary whose health is
    /// not 0.
    pub handover_margin: Decimal,
    /// What happens when a Primary yields.
    pub handover: HandoverMode,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { handover_margin: Decimal::ZERO, handover: HandoverMode::Strict }
    }
}

/// What a client says in a heartbeat, as far as it matters to roles.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its health.
    pub health: Health,
    /// When it sent the heartbeat, by its own clock.
    pub sent_at: ClientInstant,
    /// The time of the last data that it sent; `None` where it sent none.
    pub data_sent_until: Option<Instant>,
    /// The role it was acting in when it sent, where it says so.
    pub acting_as: Option<Role>,
    /// The highest term that it has been told, where it says so.
    pub term_seen: Option<Term>,
}

/// What a heartbeat is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session's role from now on.
    pub role: Role,
    /// The group's term.
    pub term: Term,
    /// The group's watermark: the time up to which a Primary said that it sent data.
    pub watermark: Option<Instant>,
    /// For how long after sending the heartbeat the client may act as Primary; `None` if it is not.
    pub lease: Option<FailoverTimeout>,
    /// The group's timeout, whatever the role.
    pub timeout: FailoverTimeout,
}

/// One change of a session's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose, by place in [`Group::sessions`].
    pub session: usize,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// The group's term after the change.
    pub term: Term,
    /// Why.
    pub reason: Reason,
}

/// The instant at which a lease really ends.
///
/// A lease that was unexpired when an outage began could not be renewed: it ends no earlier than it
/// would if it had been given at the recovery. For that counts the time that it was given for, and
/// not the group's timeout, which may be another by now and must neither end it early nor bring a
/// dead session back. Outages are gone through in order, because a lease that lives on only through
/// the first may be alive when the second begins.
pub fn lease_end(received_at: Instant, lease_until: Instant, outages: &[Outage]) -> Instant {
    let given_for_us = lease_until.0 - received_at.0;
    outages.iter().fold(lease_until, |end, outage| match end > outage.began_at && outage.counts_for(given_for_us) {
        true => end.max(Instant(outage.recovered_at.0.saturating_add(given_for_us))),
        false => end,
    })
}

/// The instant until which a client may really act on a lease that was given for so long and ends
/// at that one. An outage does not lengthen it, for time passed in it, but a clock that was set
/// forward was no time. Whatever the clock did, nobody acts for longer than the lease was given
/// for.
fn acted_on_until(until: Instant, given_for_us: i64, outages: &[Outage]) -> Instant {
    outages.iter().filter(|outage| outage.clock_step_us > 0).fold(until, |end, outage| match end > outage.began_at {
        true => {
            let shifted = end.0.saturating_add(outage.clock_step_us);
            end.max(Instant(shifted.min(outage.recovered_at.0.saturating_add(given_for_us))))
        }
        false => end,
    })
}

/// One heartbeat from session `s`: takes away what has run out, records the report, ranks the live
/// sessions, and decides. Appends every change of a role to `trace`, in the order in which they
/// happened.
///
/// Primary is granted to `s` alone, never to anybody else, so that no session is called Primary
/// before it has been told.
pub fn heartbeat(
    group: &mut Group,
    s: usize,
    report: &Report,
    at: Moment<'_>,
    rules: &Rules,
    trace: &mut Vec<Transition>,
) -> Answer {
    lapse(group, at, trace);
    heed_term(group, report, at);
    let before = group.sessions[s].beat;
    let lease_before = before.map(|beat| beat.lease_until);
    let believed = group.believed(at);
    record(group, s, report, at);
    close_handover(group, s, before, report, at);
    let in_doubt = group.is_in_doubt(at);
    match in_doubt {
        false => group.in_doubt_until = None,
        true if believes(group, s, believed, before, report, at, trace) => return answer(group, s),
        true => {}
    }

    let best = first_in_rank(group, s, at, rules);
    match group.holder(Role::Primary) {
        Some(p) if best == p => replace_pending(group, None, Reason::Healthier, trace),
        Some(p) => {
            replace_pending(group, Some(best), Reason::Healthier, trace);
            if s == p {
                set_role(group, p, Role::Secondary, Reason::Yielded, trace);
                group.vacancy = Vacancy::Yielded;
                group.handover = open_handover(group, p, lease_before, at, rules);
            }
        }
        None if best != s || in_doubt => {
            let reason = why_pending(group);
            replace_pending(group, Some(best), reason, trace);
        }
        None => match group.handover {
            Some(handover) if !handover.is_from(s) => {
                let reason = why_pending(group);
                replace_pending(group, Some(s), reason, trace);
            }
            // Either nobody can still be acting, or only S itself can.
            _ => grant(group, s, why_granted(group), trace),
        },
    }
    answer(group, s)
}

fn answer(group: &Group, s: usize) -> Answer {
    debug_assert!(group.is_consistent());
    let role = group.sessions[s].role;
    Answer {
        role,
        term: group.term,
        watermark: group.watermark(),
        lease: (role == Role::Primary).then_some(group.timeout),
        timeout: group.timeout,
    }
}

/// Whether a heartbeat renews its session's lease and changes nothing else, whatever other sessions
/// the group has, as can be told from `s` and the holders of roles alone: `group` need have no
/// others.
///
/// The Primary lives and stays: nobody is about to take over, it does not fall behind itself, and
/// `s` does not overtake it. A third session that is healthier than the Primary would have become
/// PendingPrimary with its own last heartbeat. Where it did and the PendingPrimary was taken from
/// it since, it does so again with its next.
pub fn changes_nothing(group: &Group, s: usize, report: &Report, at: Moment<'_>, rules: &Rules) -> bool {
    let Some(p) = group.holder(Role::Primary).filter(|p| group.is_live(*p, at)) else { return false };
    let Some(primary) = group.sessions[p].beat else { return false };
    let stays = match s == p {
        true => report.health >= primary.health,
        false => !overtakes(report.health, primary.health, rules),
    };
    let is_settled = at.history.is_none_or(|history| history.id == group.history) && group.in_doubt_until.is_none();
    let is_news = report.term_seen.is_some_and(|seen| seen > group.term);
    stays && is_settled && !is_news && group.holder(Role::PendingPrimary).is_none() && group.handover.is_none()
}

/// Makes every session whose lease has run out Secondary. Never grants. A group of an earlier
/// history begins anew.
pub fn lapse(group: &mut Group, at: Moment<'_>, trace: &mut Vec<Transition>) {
    group.begin_anew(at);
    for i in 0..group.sessions.len() {
        let role = group.sessions[i].role;
        if role == Role::Secondary || group.is_live(i, at) {
            continue;
        }
        if role == Role::Primary {
            group.vacancy = Vacancy::Lapsed;
        }
        set_role(group, i, Role::Secondary, Reason::LeaseLapsed, trace);
    }
}

/// Has a group be in doubt for as long as somebody may act on a lease that was given for so long in
/// a history that is lost. The change that made its timeout as long may be lost, too.
pub fn doubt_for(group: &mut Group, given_for: FailoverTimeout, at: Moment<'_>) {
    group.begin_anew(at);
    let Some(history) = at.history else { return };
    group.in_doubt_until = group.in_doubt_until.max(Some(history.noticed_at.plus(given_for)));
    group.in_doubt_until = group.in_doubt_until.filter(|_| group.is_in_doubt(at));
}

/// Takes the role from session `s`, which is about to be deleted, and keeps what it contributed to
/// the watermark. The next heartbeat of another session decides anew.
///
/// A session that says goodbye takes along any handover from it: it has stopped. Of one that
/// somebody else deletes nobody knows that, so what it may still act on is waited for, whatever the
/// mode.
pub fn remove(group: &mut Group, s: usize, by: By, at: Moment<'_>, trace: &mut Vec<Transition>) {
    group.begin_anew(at);
    let waited_for = group.handover.filter(|handover| handover.is_from(s)).map(|handover| handover.until);
    let mut acts_until = waited_for;
    if group.sessions[s].role == Role::Primary {
        group.vacancy = Vacancy::Deleted;
        acts_until = group.sessions[s].beat.map(|beat| beat.lease_until);
    }
    let acts_until = acts_until.filter(|until| may_act_until(group, s, *until, at) > at.now);
    set_role(group, s, Role::Secondary, Reason::SessionDeleted, trace);
    match (by, acts_until) {
        (By::Another, Some(until)) => group.handover = Some(Handover { from: Former::Gone, until }),
        _ if waited_for.is_some() => group.handover = None,
        _ => {}
    }
    group.watermark_base = group.watermark_base.max(group.sessions[s].sent_until);
    group.sessions[s].sent_until = None;
    group.sessions[s].beat = None;
}

/// Takes all roles from a group that is about to be deleted with its sessions, none of which knows
/// of it. What it leaves behind is for the next group at its path to go on from.
pub fn end(group: &mut Group, at: Moment<'_>, trace: &mut Vec<Transition>) -> Remains {
    group.begin_anew(at);
    for s in 0..group.sessions.len() {
        remove(group, s, By::Another, at, trace);
    }
    let waited_for = group.handover.filter(|handover| waited_until(group, *handover, at) > at.now);
    // Who acts on a lease that was lost does not know of the deletion either.
    let in_doubt_until = group.in_doubt_until.filter(|_| group.is_in_doubt(at));
    Remains { term: group.term, acted_on_until: waited_for.map(|handover| handover.until).max(in_doubt_until) }
}

impl Handover {
    /// Whether that session is waited for.
    pub fn is_from(&self, s: usize) -> bool {
        matches!(self.from, Former::Yielding { session, .. } if session == s)
    }
}

impl Group {
    /// A new group, which goes on from what one that was deleted at its path left behind: its first
    /// term is the one above, and nobody is granted while a client may act on a lease of the old
    /// one. All else begins anew.
    ///
    /// Where the database is in another history than the first, there may have been such a group in
    /// the one that is lost.
    pub fn begin(timeout: FailoverTimeout, remains: Remains, at: Moment<'_>) -> Group {
        let mut group = Group {
            timeout,
            term: remains.term,
            vacancy: if remains == Remains::default() { Vacancy::NeverHeld } else { Vacancy::Deleted },
            handover: remains.acted_on_until.map(|until| Handover { from: Former::Gone, until }),
            watermark_base: None,
            history: HistoryId::default(),
            in_doubt_until: None,
            sessions: Vec::new(),
        };
        group.begin_anew(at);
        group
    }

    /// Goes over into the present history, if it comes from another one.
    ///
    /// Whatever was lost was answered before the history was noticed, so nobody acts on it for
    /// longer than a lease after that; and what terms it gave are below the base. Whoever holds
    /// Primary keeps it: its term is the base, which nobody else ever had.
    pub fn begin_anew(&mut self, at: Moment<'_>) {
        let Some(history) = at.history.filter(|history| history.id != self.history) else { return };
        self.history = history.id;
        self.term = self.term.max(history.base);
        let given_for_us = self.sessions.iter().filter_map(|session| session.beat);
        let given_for_us = given_for_us.map(|beat| beat.lease_until.0 - beat.received_at.0).max();
        let longest_us = given_for_us.unwrap_or(0).max(self.timeout.micros());
        let until = Instant(history.noticed_at.0.saturating_add(longest_us));
        self.in_doubt_until = self.in_doubt_until.max(Some(until));
        self.in_doubt_until = self.in_doubt_until.filter(|_| self.is_in_doubt(at));
    }

    /// Whether somebody may act on a lease that was given in a history that is lost.
    pub fn is_in_doubt(&self, at: Moment<'_>) -> bool {
        let noticed_at = at.history.map(|history| history.noticed_at);
        self.in_doubt_until.is_some_and(|until| {
            let given_for_us = noticed_at.map_or(0, |noticed_at| until.0.saturating_sub(noticed_at.0));
            at.now < acted_on_until(until, given_for_us, at.outages)
        })
    }

    /// Who was believed to be acting since the present history was noticed.
    fn believed(&self, at: Moment<'_>) -> Option<usize> {
        let noticed_at = at.history?.noticed_at;
        let is_since = |p: &usize| self.sessions[*p].beat.is_some_and(|beat| beat.received_at > noticed_at);
        self.holder(Role::Primary).filter(is_since)
    }

    /// The latest time of data sent that any session reported while Primary.
    pub fn watermark(&self) -> Option<Instant> {
        self.sessions.iter().map(|session| session.sent_until).fold(self.watermark_base, Option::max)
    }

    /// The session that holds a role of which there is at most one.
    pub fn holder(&self, role: Role) -> Option<usize> {
        self.sessions.iter().position(|session| session.role == role)
    }

    /// Whether session `i` has sent a heartbeat and its lease has not run out.
    pub fn is_live(&self, i: usize, at: Moment<'_>) -> bool {
        self.sessions[i].beat.is_some_and(|beat| at.now < beat.lease_end(at.outages))
    }

    /// At most one Primary, at most one PendingPrimary, and no Primary beside an open handover.
    pub fn is_consistent(&self) -> bool {
        let held_by = |role| self.sessions.iter().filter(|s| s.role == role).count();
        let primaries = held_by(Role::Primary);
        primaries <= 1
            && held_by(Role::PendingPrimary) <= 1
            && !(primaries == 1 && self.handover.is_some())
            && self.handover.is_none_or(|handover| match handover.from {
                Former::Yielding { session, .. } => session < self.sessions.len(),
                Former::Gone => true,
            })
    }
}

/// A client that was told a higher term than is known here was told so in a history that is lost:
/// the next one is above it.
///
/// A second net, beneath the base of a history. No term is believed that no base can have reached,
/// so that nobody can use them up.
fn heed_term(group: &mut Group, report: &Report, at: Moment<'_>) {
    let Some(seen) = report.term_seen.filter(|seen| *seen > group.term && seen.0 <= at.now.0 / 1_000) else { return };
    // Whoever holds Primary has a term of its own, as always.
    let is_held = group.holder(Role::Primary).is_some();
    group.term = Term(seen.0 + i64::from(is_held));
}

/// Whether S, which heartbeats while it is in doubt who acts, is Primary by its own word.
///
/// One client at most acts, whether the grant that it acts on is known here or lost; and it says
/// so. An older message than the last one that was heard may be of a time before that. Nobody else
/// is granted, whatever the rank: not before all leases that can have been lost are over. Whoever
/// is Primary here and does not act is none any more, for another may.
fn believes(
    group: &mut Group,
    s: usize,
    believed: Option<usize>,
    before: Option<Beat>,
    report: &Report,
    at: Moment<'_>,
    trace: &mut Vec<Transition>,
) -> bool {
    let is_newer = before.is_none_or(|before| report.sent_at > before.heard_by(at.now));
    let says_so = report.acting_as == Some(Role::Primary);
    match believed {
        Some(p) if p == s && (says_so || !is_newer) => return true,
        Some(p) if p != s => return false,
        None if says_so && is_newer => {
            take_up(group, s, trace);
            return true;
        }
        _ => {}
    }
    if group.sessions[s].role == Role::Primary {
        set_role(group, s, Role::Secondary, Reason::LeaseLapsed, trace);
        group.vacancy = Vacancy::Lapsed;
        // One that was believed has a lease that may outlast the doubt. Unless it says that it
        // stands by, it is waited for as one that yields is.
        let stands_by = report.acting_as == Some(Role::Secondary)
            && !before.is_some_and(|before| before.is_leapt_by(report.sent_at, at.now));
        if believed == Some(s) && !stands_by {
            group.handover = wait_for(group, s, before.map(|before| before.lease_until), at);
        }
    }
    false
}

/// Makes S Primary, which acts as one already: on a grant that is known here, or on one that is
/// lost.
fn take_up(group: &mut Group, s: usize, trace: &mut Vec<Transition>) {
    match group.holder(Role::Primary) {
        Some(p) if p == s => return,
        Some(p) => set_role(group, p, Role::Secondary, Reason::Superseded, trace),
        None => {}
    }
    grant(group, s, Reason::Recovered, trace);
}

/// Stores the heartbeat. No stored time of the session moves backwards, whatever the clock or the
/// timeout did.
fn record(group: &mut Group, s: usize, report: &Report, at: Moment<'_>) {
    let now = at.now;
    let timeout = group.timeout;
    let session = &mut group.sessions[s];
    session.beat = Some(match session.beat {
        Some(before) => before.followed_by(report, now, timeout, at.outages),
        None => Beat::first(report, now, timeout),
    });
    if session.role == Role::Primary {
        let sent_until = report.data_sent_until.map(|sent| sent.min(now));
        session.sent_until = session.sent_until.max(sent_until);
    }
}

/// Closes the handover if it has run out, or if this heartbeat of the session that yielded says
/// that it acts as Secondary. Only one that was sent after every heartbeat that had arrived when it
/// yielded counts: any of those may have been answered Primary, so that the client took an older
/// word back since (a delayed or repeated message). And only one by the clock as it was before:
/// what that clock said while it was wrong may be forgotten by now.
fn close_handover(group: &mut Group, s: usize, before: Option<Beat>, report: &Report, at: Moment<'_>) {
    let Some(handover) = group.handover else { return };
    let acknowledged = match handover.from {
        Former::Yielding { session, heard_until } => {
            session == s
                && report.acting_as == Some(Role::Secondary)
                && report.sent_at > heard_until
                && !before.is_some_and(|before| before.is_leapt_by(report.sent_at, at.now))
        }
        Former::Gone => false,
    };
    if acknowledged || at.now >= waited_until(group, handover, at) {
        group.handover = None;
    }
}

/// Until when nobody is granted because of that handover.
fn waited_until(group: &Group, handover: Handover, at: Moment<'_>) -> Instant {
    match handover.from {
        Former::Yielding { session, .. } => may_act_until(group, session, handover.until, at),
        // For how long its lease was given is not known any more: as long as any can be.
        Former::Gone => acted_on_until(handover.until, FailoverTimeout::MAX_TICKS / 10, at.outages),
    }
}

/// Until when session `i` may act on a lease that it held and that ended at that instant.
fn may_act_until(group: &Group, i: usize, until: Instant, at: Moment<'_>) -> Instant {
    let beat_us = group.sessions[i].beat.map_or(0, |beat| beat.lease_until.0 - beat.received_at.0);
    acted_on_until(until, beat_us.max(group.timeout.micros()), at.outages)
}

fn open_handover(
    group: &Group,
    p: usize,
    lease_before: Option<Instant>,
    at: Moment<'_>,
    rules: &Rules,
) -> Option<Handover> {
    wait_for(group, p, lease_before, at).filter(|_| rules.handover == HandoverMode::Strict)
}

/// A handover from `p`, which may act on the lease that it held before this heartbeat.
fn wait_for(group: &Group, p: usize, lease_before: Option<Instant>, at: Moment<'_>) -> Option<Handover> {
    let until = lease_before.filter(|until| may_act_until(group, p, *until, at) > at.now)?;
    let heard_until = group.sessions[p].beat?.heard_until;
    Some(Handover { from: Former::Yielding { session: p, heard_until }, until })
}

/// The first of the live sessions: by health; then the Primary, the PendingPrimary, the one that is
/// heartbeating, the one registered first. A live Primary is outranked only by more than the
/// margin.
///
/// `s` has just been recorded and so is live: there always is a first.
fn first_in_rank(group: &Group, s: usize, at: Moment<'_>, rules: &Rules) -> usize {
    let health = |i: usize| group.sessions[i].beat.map_or(Health::default(), |beat| beat.health);
    let preference = |i: usize| match group.sessions[i].role {
        Role::Primary => 0,
        Role::PendingPrimary => 1,
        Role::Secondary if i == s => 2,
        Role::Secondary => 3,
    };
    let mut best = s;
    for i in (0..group.sessions.len()).filter(|i| *i != s && group.is_live(*i, at)) {
        let order =
            health(i).cmp(&health(best)).then_with(|| preference(best).cmp(&preference(i))).then_with(|| best.cmp(&i));
        if order.is_gt() {
            best = i;
        }
    }
    match group.holder(Role::Primary) {
        Some(p) if !overtakes(health(best), health(p), rules) => p,
        _ => best,
    }
}

/// Whether one of that health outranks a live Primary of another: by more than the margin, or by
/// anything where the Primary has no health at all.
fn overtakes(challenger: Health, primary: Health, rules: &Rules) -> bool {
    let margin = if primary == Health::default() { Decimal::ZERO } else { rules.handover_margin };
    challenger.percent() > primary.percent() + margin
}

fn why_granted(group: &Group) -> Reason {
    match group.vacancy {
        Vacancy::NeverHeld => Reason::FirstHeartbeat,
        Vacancy::Lapsed => Reason::LeaseLapsed,
        Vacancy::Deleted => Reason::SessionDeleted,
        Vacancy::Yielded if group.handover.is_some() => Reason::Recovered,
        Vacancy::Yielded => Reason::HandoverCompleted,
    }
}

fn grant(group: &mut Group, s: usize, reason: Reason, trace: &mut Vec<Transition>) {
    if group.sessions[s].role != Role::PendingPrimary {
        replace_pending(group, None, Reason::Superseded, trace);
    }
    group.handover = None;
    group.term = Term(group.term.0 + 1);
    set_role(group, s, Role::Primary, reason, trace);
}

/// Makes `next` the PendingPrimary, and whoever else was it Secondary.
fn replace_pending(group: &mut Group, next: Option<usize>, reason: Reason, trace: &mut Vec<Transition>) {
    let present = group.holder(Role::PendingPrimary);
    if present == next {
        return;
    }
    if let Some(present) = present {
        set_role(group, present, Role::Secondary, Reason::Superseded, trace);
    }
    if let Some(next) = next {
        set_role(group, next, Role::PendingPrimary, reason, trace);
    }
}

fn why_pending(group: &Group) -> Reason {
    match group.vacancy {
        Vacancy::NeverHeld => Reason::FirstHeartbeat,
        Vacancy::Lapsed => Reason::LeaseLapsed,
        Vacancy::Deleted => Reason::SessionDeleted,
        Vacancy::Yielded => Reason::Healthier,
    }
}

fn set_role(group: &mut Group, i: usize, to: Role, reason: Reason, trace: &mut Vec<Transition>) {
    let from = std::mem::replace(&mut group.sessions[i].role, to);
    if from != to {
        let term = group.term;
        trace.push(Transition { session: i, from, to, term, reason });
    }
}
