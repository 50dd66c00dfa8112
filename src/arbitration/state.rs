//! What decisions take and give: the state of a group (its sessions, their leases, and what is
//! waited for), what a client says, what it is answered, and what changed.

use rust_decimal::Decimal;

use super::values::{ClientInstant, FailoverTimeout, Health, History, HistoryId, Instant, Role, Term};
use super::wishes::Wished;

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
    /// An operator wished it so.
    Override,
    /// An operator's wish ended, by which alone it was to take over.
    OverrideEnded,
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
    pub(super) fn heard_by(self, now: Instant) -> ClientInstant {
        if now < self.heard_counts_until {
            self.heard_until
        } else {
            self.heard_until.min(ClientInstant(self.heard_counts_until.0))
        }
    }

    /// Whether a client's time is further ahead of the database's clock than this session's times
    /// were.
    pub(super) fn is_leapt_by(self, sent_at: ClientInstant, now: Instant) -> bool {
        let lead_us = self.heard_by(now).0.saturating_sub(self.received_at.0).max(0);
        sent_at.0.saturating_sub(now.0) > lead_us.saturating_add(LONGEST_LEAP_US)
    }

    /// This one, followed by another that arrives at `now` and gives a lease of `timeout`.
    ///
    /// What is heard must bind for as long as the client may act on an answer to a heartbeat that
    /// it sent no later. Those that arrive after the newest were sent before it, so that their
    /// leases are over no later than the newest's, unless a longer timeout holds by then.
    pub(super) fn followed_by(
        self,
        report: &Report,
        now: Instant,
        timeout: FailoverTimeout,
        outages: &[Outage],
    ) -> Beat {
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
    pub(super) fn first(report: &Report, now: Instant, timeout: FailoverTimeout) -> Beat {
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
    /// What an operator wishes of it.
    pub wish: Option<Wished>,
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
    pub(super) fn believed(&self, at: Moment<'_>) -> Option<usize> {
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

/// The instant at which a lease really ends.
///
/// A lease that was unexpired when an outage began could not be renewed: it ends no earlier than it
/// would if it had been given at the recovery. For that counts the time that it was given for, and
/// not the group's timeout, which may be another by now and must neither end it early nor bring a
/// dead session back. Outages are gone through in order, because a lease that lives on only through
/// the first may be alive when the second begins.
pub fn lease_end(received_at: Instant, lease_until: Instant, outages: &[Outage]) -> Instant {
    let given_for_us = lease_until.0 - received_at.0;
    outages.iter().fold(lease_until, |end, outage| {
        if end > outage.began_at && outage.counts_for(given_for_us) {
            end.max(Instant(outage.recovered_at.0.saturating_add(given_for_us)))
        } else {
            end
        }
    })
}

/// The instant until which a client may really act on a lease that was given for so long and ends
/// at that one. An outage does not lengthen it, for time passed in it, but a clock that was set
/// forward was no time. Whatever the clock did, nobody acts for longer than the lease was given
/// for.
pub(super) fn acted_on_until(until: Instant, given_for_us: i64, outages: &[Outage]) -> Instant {
    outages.iter().filter(|outage| outage.clock_step_us > 0).fold(until, |end, outage| {
        if end > outage.began_at {
            let shifted = end.0.saturating_add(outage.clock_step_us);
            end.max(Instant(shifted.min(outage.recovered_at.0.saturating_add(given_for_us))))
        } else {
            end
        }
    })
}
