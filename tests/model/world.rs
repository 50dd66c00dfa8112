//! What there is in the model: the bounds of a check, clients, messages, the database, and what may
//! happen next.

use client_failover::arbitration::{
    FailoverTimeout, Former, Group, Handover, HandoverMode, Health, History, Instant, Moment, Outage, Role, Session,
    Wish,
};
use rust_decimal::Decimal;

pub const TICK_US: i64 = 100_000;

pub const ONE_GRANTED: &str = "no two granted Primaries";
pub const ONE_ACTING: &str = "no two acting Primaries";
pub const TERM_NAMES_ONE: &str = "the term never falls and names one holder";
pub const WATERMARK_STAYS: &str = "the watermark never falls";
pub const NO_NEEDLESS_CHANGE: &str = "no Primary is replaced without need";
pub const WISHES_HEEDED: &str = "an operator's wish is heeded by every grant";
pub const TAKEN_OVER: &str = "whoever survives takes over in time and stays";

/// Whether a client says in its heartbeats in which role it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Silent,
    Telling,
}
pub use Kind::{Silent, Telling};

/// What one client may do within the bounds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub kind: Kind,
    /// What it may report in a heartbeat, in per cent.
    pub healths: &'static [u8],
    pub heartbeats: u8,
}

pub fn client(kind: Kind, healths: &'static [u8], heartbeats: u8) -> Bounds {
    Bounds { kind, healths, heartbeats }
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
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
    ForcedOneDoesNotWait,
    ExclusionForgotten,
    HeldPlaceGivenAway,
    WishOutlivesItsEnd,
}

/// The bounds of one check, and the rules under which it runs.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub clients: Vec<Bounds>,
    /// The failover timeouts, in ticks, that the group is switched between; the first holds at the
    /// start.
    pub timeouts: &'static [u8],
    pub last_tick: u8,
    /// Whether two replicas' transactions may overlap; if not, each is over as soon as it begins.
    pub transactions_overlap: bool,
    pub repeats: u8,
    pub restarts: u8,
    pub goodbyes: u8,
    /// How often an operator deletes a session.
    pub deletions: u8,
    /// How often an operator deletes the group by force and creates it again.
    pub recreations: u8,
    pub timeout_changes: u8,
    pub outages: u8,
    /// How often the database loses commits: up to so many of the last ones.
    pub losses: u8,
    pub lost_commits: usize,
    /// How often an operator wishes something of a session, what, and for how many ticks; until it
    /// is withdrawn where that is 0.
    pub wishes: u8,
    pub kinds_of_wishes: &'static [Wish],
    pub wishes_last: u8,
    pub withdrawals: u8,
    /// How many heartbeats are dated far in the future.
    pub wrong_dates: u8,
    /// By how many ticks the clock of each odd session is ahead of the database's.
    pub clocks_ahead: u8,
    pub sweeps: bool,
    /// Whether a Primary reports until when it sent data.
    pub reports_data: bool,
    /// Whether the takeover is played on from every state.
    pub checks_takeover: bool,
    pub handover: HandoverMode,
    pub defect: Option<Defect>,
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
            wishes: 0,
            kinds_of_wishes: &[],
            wishes_last: 0,
            withdrawals: 0,
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
pub struct Client {
    pub session: u8,
    pub said_goodbye: bool,
    /// It was told that there is no such session, and has not registered again.
    pub unknown: bool,
    pub heartbeats_left: u8,
    /// The number of the latest heartbeat that it sent.
    pub sent: u8,
    /// The number of the newest heartbeat whose answer it heeded.
    pub answered: u8,
    /// The number of the latest heartbeat in which it said that it acts as Secondary.
    pub said_secondary: u8,
    /// It acts as Primary before this tick.
    pub acts_until: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
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
    pub fn session(&self) -> u8 {
        match self {
            Request::Heartbeat { session, .. } | Request::Goodbye { session } => *session,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reply {
    pub session: u8,
    pub number: u8,
    pub sent_at: u8,
    /// For how many ticks since the sending the client may act; 0 if it is not Primary, `None` if
    /// there is no such session.
    pub lease: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Serve(Request),
    Sweep,
    ChangeTimeout(u8),
    /// An operator's deletion of a session.
    Delete(u8),
    /// The group is deleted by force, and another created at its path.
    Recreate,
    /// What an operator wishes of a session.
    Wish(u8, Wish),
    /// An operator takes a wish back.
    Withdraw(u8),
}

/// What the database holds of the group: its state, and whose session stands at which place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    pub group: Group,
    pub sessions: Vec<u8>,
}

impl Stored {
    pub fn register(&mut self, session: u8) {
        self.group.sessions.push(NEW_SESSION);
        self.sessions.push(session);
    }

    /// Takes away the place of a session that has been removed.
    pub fn drop_place(&mut self, s: usize) {
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
pub struct Transaction {
    pub work: Work,
    /// The clock as it decides by it.
    pub now: u8,
    /// The clock as it was when the state was read: another only under a defect.
    pub read_at: u8,
    pub conflicts: bool,
    /// Kept only where conflicts go undetected: elsewhere it equals what is stored at the commit.
    pub snapshot: Option<Stored>,
}

/// What an operator wishes of a session, kept without looking at what the decisions stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wishing {
    pub session: u8,
    pub wish: Wish,
    /// It holds before this tick.
    pub until: u8,
}

/// What must be true of a session's lease, kept without looking at what the decisions stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub session: u8,
    pub until: u8,
    pub length: u8,
    /// It was granted Primary and may act on it before this tick, whatever its role is now.
    pub primary_until: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub now: u8,
    pub stored: Stored,
    pub outages: Vec<Outage>,
    pub down_since: Option<u8>,
    pub clients: Vec<Client>,
    pub next_session: u8,
    pub requests: Vec<Request>,
    pub replies: Vec<Reply>,
    pub transactions: Vec<Transaction>,
    pub repeats_left: u8,
    pub restarts_left: u8,
    pub goodbyes_left: u8,
    pub deletions_left: u8,
    pub recreations_left: u8,
    pub wrong_dates_left: u8,
    pub timeout_changes_left: u8,
    pub outages_left: u8,
    pub losses_left: u8,
    pub wishes_left: u8,
    pub wishes_last: u8,
    pub withdrawals_left: u8,
    pub wishings: Vec<Wishing>,
    /// The present history, if it is not the first.
    pub history: Option<History>,
    /// What the database was before its last commits, the latest first, and when it was still that.
    pub earlier: Vec<(u8, Stored, Vec<Outage>)>,
    pub leases: Vec<Lease>,
    pub highest_term: i64,
    pub highest_watermark: Option<Instant>,
    /// The safety properties that were breached on the way here.
    pub breached: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
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
    BeginWish(u8, Wish),
    BeginWithdraw(u8),
    ServiceGoes,
    ServiceReturns,
    /// The database is what it was before so many commits.
    Lose(usize),
}

pub fn instant(tick: u8) -> Instant {
    Instant(i64::from(tick) * TICK_US)
}

pub fn timeout(ticks: u8) -> FailoverTimeout {
    FailoverTimeout::from_ticks(i64::from(ticks) * FailoverTimeout::MIN_TICKS).expect("a tick is the shortest timeout")
}

pub fn whole_ticks(timeout: FailoverTimeout) -> u8 {
    u8::try_from(timeout.micros() / TICK_US).expect("timeouts are a few ticks")
}

pub fn health(percent: u8) -> Health {
    Health::new(Decimal::from(percent)).expect("between 0 and 100")
}

/// The end of a wish that has none.
pub const FOREVER: u8 = u8::MAX;

/// A time before which everything was lost long ago.
pub const LONG_AGO: Instant = Instant(-1_000 * TICK_US);

pub const BEGINNING: Moment<'static> = Moment { now: Instant(0), outages: &[], history: None };

pub const NEW_SESSION: Session = Session { role: Role::Secondary, beat: None, sent_until: None, wish: None };
