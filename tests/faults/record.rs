//! What a run leaves behind for the checker: what clients saw, what was injected, and what the
//! database holds.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clock::Stamp;
pub use crate::adapter::{ITEM_US, Mode};

/// The roles as numbers, as on the wire.
pub const SECONDARY: i16 = 0;
pub const PRIMARY: i16 = 1;

/// What one client process did and saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientLog {
    pub group: String,
    pub session: String,
    pub keeps: Keeps,
    pub events: Vec<ClientEvent>,
}

/// By what rule a client acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeps {
    /// It acts only while it may be trusted to.
    TheTrustRule,
    /// It is an adapter: it acts in the role that it was told last.
    ItsRole(Mode),
    /// It is a member: the library or an agent lets it act.
    ItsLease,
}

/// One line of a client's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClientEvent {
    /// A heartbeat leaves. It may arrive at any time after this, or never.
    Sent {
        n: u32,
        at: Stamp,
        acting_as: Option<i16>,
        health: u8,
        /// As reported, by the client's own clock.
        heartbeat_time: Option<i64>,
        data_time: Option<i64>,
    },
    /// What became of heartbeat `n`.
    Answered { n: u32, at: Stamp, outcome: Outcome },
    /// The client may act as Primary from now (monotonic) until then, unless it is told otherwise.
    May { from: i64, until: i64, term: i64 },
    /// It may not any more (monotonic).
    Stopped { at: i64 },
    /// It sent data, having looked at the clock right before (monotonic), with this term.
    Acted { at: i64, term: i64 },
    /// What it began to send then was taken by the receiver, or refused, by that time (monotonic).
    Received { at: i64, until: i64, is_taken: bool },
    /// It is about to say goodbye.
    Leaving { at: Stamp },
    /// It did not run in that time: it was paused, or the machine had no time for it.
    Asleep { from: Stamp, until: Stamp },
    /// An adapter runs, and so has what its source makes from now on.
    Started { at: Stamp },
    /// An adapter acts from now on until it stops. Term 0 is the role that it saved.
    Acts { from: Stamp, term: i64 },
    /// An adapter sent these items of its source: from when the first and the last of them are, in
    /// steps of [`ITEM_US`] (wall clock).
    Delivered { at: Stamp, first: i64, last: i64 },
    /// An adapter that stands by dropped these: it was told that they have been sent.
    Trimmed { at: Stamp, first: i64, last: i64 },
    /// Its goodbye was answered with success.
    Left { at: Stamp },
}

impl ClientEvent {
    /// When it was (monotonic).
    pub fn mono(&self) -> i64 {
        match self {
            ClientEvent::Sent { at, .. }
            | ClientEvent::Answered { at, .. }
            | ClientEvent::Leaving { at }
            | ClientEvent::Started { at }
            | ClientEvent::Delivered { at, .. }
            | ClientEvent::Trimmed { at, .. }
            | ClientEvent::Left { at } => at.mono,
            ClientEvent::Asleep { from, .. } | ClientEvent::Acts { from, .. } => from.mono,
            ClientEvent::May { from, .. } => *from,
            ClientEvent::Stopped { at } | ClientEvent::Acted { at, .. } | ClientEvent::Received { at, .. } => *at,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Ok { role: i16, term: i64, lease_ms: i64, watermark: Option<i64> },
    Refused(u16),
    Lost,
}

/// Something that was done to the system.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// The client it was done to; `None` if it was done to the service.
    pub client: Option<(String, String)>,
    /// Wall clock: from before it was done until after it was undone.
    pub from: i64,
    pub until: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    ClientKilled,
    ClientPaused,
    ClientClockStepped,
    ClientHealthChanged,
    ClientSaidGoodbye,
    /// Of an agent, its guardian and its program some were killed.
    AgentKilled,
    /// Some were stopped for a while.
    AgentPaused,
    /// An operator deleted its session, without its knowledge.
    SessionDeleted,
    /// An operator deleted the group by force, and created it again.
    GroupRecreated,
    TimeoutChanged,
    /// An operator forced a session, excluded one, or switched over.
    Wished,
    ReplicaKilled,
    ReplicaPaused,
    ReplicaRestarted,
    RollingRestart,
    DatabaseKilled,
    DatabaseRestarted,
    /// Every COMMIT waited for a synchronous standby that did not answer.
    CommitsHang,
    /// The same, and somebody cancelled the waits.
    CommitWaitsCancelled,
    DiskStalled,
    DiskFull,
    /// Nobody could write a heartbeat, or the sign of life.
    TablesLocked,
    /// Nobody could write a change of a role.
    ChangesLocked,
    /// Tables were rewritten under exclusive locks.
    TablesRewritten,
    /// Somebody held a row of one group.
    RowHeld,
    /// Somebody read all of it in a serializable transaction, and left that open.
    SerializableLeftOpen,
    DatabaseClockStepped,
    PasswordChanged,
    ConnectionsFew,
    /// The primary's host answered nobody; the standby's did.
    HostDark,
    /// The standby that all commits waited for became the primary.
    StandbyPromoted,
    /// The standby became the primary, and the last commits were not there.
    StandbyPromotedWithLoss,
    BackendsTerminated,
    ClientConnectionsCut,
    ClientConnectionsHeld,
    AnswersSwallowed,
    RequestsDelivedLate,
    DatabaseConnectionsCut,
    DatabaseConnectionsHeld,
    DatabaseAnswersSwallowed,
    DatabaseSlow,
}

/// A row of `role_transitions`, in order of its id. Here and below the times of the database are
/// given as the machine's wall clock had them, by which clients' records go.
#[derive(Clone, Debug)]
pub struct Transition {
    pub group: String,
    pub session: String,
    pub from: i16,
    pub to: i16,
    pub term: i64,
    pub reason: String,
    pub at: i64,
}

#[derive(Clone, Debug)]
pub struct HeartbeatRow {
    pub group: String,
    pub session: String,
    pub heartbeat_time: i64,
    pub received_at: i64,
}

#[derive(Clone, Debug)]
pub struct SessionRow {
    pub group: String,
    pub session: String,
    pub role: i16,
}

#[derive(Clone, Debug)]
pub struct GroupRow {
    pub group: String,
    pub term: i64,
    pub watermark: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct OutageRow {
    pub began_at: i64,
    pub recovered_at: i64,
    /// How long it must have lasted to count for every lease; for a short one, a quarter of the
    /// lease is enough.
    pub counts_from: i64,
}

/// A history of the database that the service has noted, the first left out.
#[derive(Clone, Copy, Debug)]
pub struct HistoryRow {
    pub noticed_at: i64,
    /// What its terms are above.
    pub base: i64,
}

/// What members sent and the receiver took.
#[derive(Clone, Debug)]
pub struct FencedWrite {
    pub group: String,
    pub term: i64,
}

/// The heartbeats as they were stored at some time in between.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Wall clock, before the rows were read, and after.
    pub at: i64,
    pub until: i64,
    pub heartbeats: Vec<HeartbeatRow>,
}

/// A session that `GET` showed as Primary.
#[derive(Clone, Debug)]
pub struct ShownPrimary {
    pub group: String,
    pub session: String,
    /// Wall clock, before it was asked.
    pub at: i64,
}

/// The failover timeout of a group from some time on.
#[derive(Clone, Debug)]
pub struct TimeoutSet {
    pub group: String,
    /// Wall clock, before it was asked for.
    pub at: i64,
    pub ms: i64,
    /// When it was answered that it holds. Without that answer it may or may not hold.
    pub held_at: Option<i64>,
}

/// The database's clock was set: from then on (wall clock) it was off by so much. A machine that is
/// busy may have done it some time after it was told to.
#[derive(Clone, Copy, Debug)]
pub struct ClockStep {
    pub at: i64,
    pub done_at: i64,
    pub off_us: i64,
}

/// The steps of the database's clock, in order.
#[derive(Clone, Debug, Default)]
pub struct DatabaseClock(Vec<ClockStep>);

/// How exactly it is known when a step was made.
const STEP_KNOWN_US: i64 = 20_000;

/// By how much the clock never came to show that in such a time.
fn off_by(shown: i64, (from, until, off_us): (i64, i64, i64)) -> i64 {
    let at = shown - off_us;
    (at - at.clamp(from.saturating_sub(STEP_KNOWN_US), until.saturating_add(STEP_KNOWN_US))).abs()
}

/// When the clock showed that in such a time, or came nearest to it.
fn nearest(shown: i64, spell: Option<(i64, i64, i64)>) -> i64 {
    let (from, until, off_us) = spell.expect("there is always one");
    (shown - off_us).clamp(from, until)
}

impl DatabaseClock {
    pub fn step(&mut self, step: ClockStep) {
        self.0.push(step);
    }

    /// All times between two steps: from when to when at most, and by how much the clock was off.
    fn spells(&self) -> impl DoubleEndedIterator<Item = (i64, i64, i64)> {
        let begins = std::iter::once((i64::MIN, 0)).chain(self.0.iter().map(|step| (step.at, step.off_us)));
        let ends = self.0.iter().map(|step| step.done_at).chain([i64::MAX]);
        begins.zip(ends).map(|((from, off_us), until)| (from, until, off_us)).collect::<Vec<_>>().into_iter()
    }

    /// When the database's clock showed that, of all times until then the latest; or the time at
    /// which it came nearest to it.
    pub fn last_shown(&self, shown: i64, until: i64) -> i64 {
        let spells = self.spells().filter(|(from, ..)| *from <= until);
        nearest(shown, spells.rev().min_by_key(|spell| off_by(shown, *spell)))
    }

    /// When a transaction read the clock that showed that, and wrote it down not long after, at
    /// that time of the clock that is never set.
    pub fn read_before(&self, shown: i64, written_at: i64) -> i64 {
        let spells = self.spells().filter(|(from, ..)| *from <= written_at);
        let key = |(from, until, off_us): (i64, i64, i64)| {
            // A time that had not come yet when it was written down is none.
            let by = off_by(shown, (from, until.min(written_at), off_us));
            (by, written_at - (shown - off_us))
        };
        nearest(shown, spells.min_by_key(|spell| key(*spell)))
    }

    /// By how much the clock was set, each time until then.
    pub fn steps_until(&self, at: i64) -> impl Iterator<Item = i64> {
        let before = std::iter::once(0).chain(self.0.iter().map(|step| step.off_us));
        let steps = self.0.iter().zip(before).filter(move |(step, _)| step.at <= at);
        steps.map(|(step, before)| step.off_us - before)
    }

    /// Whether the clock was set between two times.
    pub fn is_set_between(&self, from: i64, until: i64) -> bool {
        self.0.iter().any(|step| step.at <= until && step.done_at >= from)
    }

    /// By how much the clock was off at times between two: the least, which is negative where it
    /// was behind.
    pub fn least_off_between(&self, from: i64, until: i64) -> i64 {
        let within = self.spells().filter(|(begins, ends, _)| *begins <= until && *ends >= from);
        within.map(|(.., off_us)| off_us).min().unwrap_or(0)
    }
}

/// A deletion by an operator.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub group: String,
    /// `None` where the whole group was deleted.
    pub session: Option<String>,
    /// Wall clock: from before it was asked for until it was answered, or given up.
    pub from: i64,
    pub until: i64,
}

/// What an operator wished of a session, for a while.
#[derive(Clone, Debug)]
pub struct WishMade {
    pub group: String,
    pub session: String,
    pub excluded: bool,
    /// Wall clock: from before it was asked for, and until it cannot hold any more.
    pub from: i64,
    pub until: i64,
    /// When what is wished of the session may have been changed: when it was asked for, and when it
    /// was withdrawn.
    pub changed: Vec<(i64, i64)>,
    /// When it holds for certain; `None` where it was never known to.
    pub certain: Option<(i64, i64)>,
}

/// Everything that the checker looks at.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub clients: Vec<ClientLog>,
    pub faults: Vec<Fault>,
    pub timeouts: Vec<TimeoutSet>,
    pub deletions: Vec<Deletion>,
    pub wishes: Vec<WishMade>,
    pub clock: DatabaseClock,
    /// How often a standby became the primary, and when what was committed was lost by that (wall
    /// clock).
    pub promotions: usize,
    pub losses: Vec<(i64, i64)>,
    pub histories: Vec<HistoryRow>,
    /// Times in which nobody could commit anything that lasts (wall clock).
    pub nothing_commits: Vec<(i64, i64)>,
    /// When the machine had no time, or its disk none, for the injector itself (wall clock).
    pub starved: Vec<(i64, i64)>,
    pub audits: Vec<Audit>,
    pub shown: Vec<ShownPrimary>,
    pub transitions: Vec<Transition>,
    pub sessions: Vec<SessionRow>,
    pub groups: Vec<GroupRow>,
    pub heartbeats: Vec<HeartbeatRow>,
    pub outages: Vec<OutageRow>,
    /// In the order in which they were taken.
    pub fenced: Vec<FencedWrite>,
    /// What was there still after the agent was gone that had started it.
    pub orphans: Vec<String>,
    /// When the first client was stopped for good (wall clock).
    pub stopped_from: i64,
    /// When the rows above were read (wall clock), all clients having been stopped.
    pub ended_at: i64,
}

/// Writes a client's record line by line: a line that was written outlives the process, whatever
/// ends it.
pub struct LogWriter(File);

impl LogWriter {
    pub fn create(path: &Path, group: &str, session: &str, keeps: Keeps) -> LogWriter {
        let mut file = File::create(path).expect("the record's folder is there");
        writeln!(file, "{}", serde_json::json!([group, session, keeps])).expect("the disk has room");
        LogWriter(file)
    }

    pub fn write(&mut self, event: &ClientEvent) {
        let mut line = serde_json::to_string(event).expect("an event can be written");
        line.push('\n');
        self.0.write_all(line.as_bytes()).expect("the disk has room");
    }
}

impl ClientLog {
    /// Reads a client's record. A last line that the process did not come to finish is left out.
    pub fn read(path: &Path) -> Option<ClientLog> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        let (group, session, keeps) = serde_json::from_str(lines.next()?).ok()?;
        let events = lines.map_while(|line| serde_json::from_str(line).ok()).collect();
        Some(ClientLog { group, session, keeps, events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set forward by 100 at 1,000, and back by 300 at 2,000; all in milliseconds.
    fn clock() -> DatabaseClock {
        let step = |at: i64, off_ms: i64| ClockStep { at: at * 1_000, done_at: at * 1_000, off_us: off_ms * 1_000 };
        DatabaseClock(vec![step(1_000, 100), step(2_000, -200)])
    }

    #[test]
    fn a_time_that_the_clock_showed_twice_is_the_later_one_that_has_passed() {
        let shown = |ms: i64, until_ms: i64| clock().last_shown(ms * 1_000, until_ms * 1_000) / 1_000;
        assert_eq!(shown(500, 900), 500);
        assert_eq!(shown(1_500, 1_600), 1_400);
        assert_eq!(shown(2_000, 1_950), 1_900, "it is not set back yet");
        assert_eq!(shown(2_000, 2_500), 2_200);
    }

    #[test]
    fn a_time_that_was_shown_while_the_clock_was_being_set_is_neither_cut_nor_moved() {
        let step = ClockStep { at: 1_000_000, done_at: 1_500_000, off_us: 10_000_000 };
        let shown = |ms: i64| DatabaseClock(vec![step]).last_shown(ms * 1_000, 9_000_000) / 1_000;
        assert_eq!(shown(1_400), 1_400, "by the clock as it was before");
        assert_eq!(shown(11_450), 1_450, "and after");
    }

    #[test]
    fn a_time_that_was_read_and_written_down_is_the_latest_that_had_come_by_then() {
        let read = |ms: i64, written_ms: i64| clock().read_before(ms * 1_000, written_ms * 1_000) / 1_000;
        assert_eq!(read(900, 905), 900);
        assert_eq!(read(1_900, 1_805), 1_800);
        assert_eq!(read(1_900, 2_105), 2_100);
        // Under way when the clock was set: forward, and back.
        assert_eq!(read(999, 1_005), 999);
        assert_eq!(read(2_095, 2_005), 1_995);
    }
}
