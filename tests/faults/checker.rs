//! Looks for breaches of the promises in a record. Knows the promises and the record, and nothing
//! of the code that is checked nor of how faults are injected.

use std::collections::BTreeMap;
use std::fmt;

use super::record::{ClientEvent, ClientLog, Deletion, Fault, FaultKind, Keeps, Outcome, Record, WishMade};

mod adapters;
mod answers;
mod gaps;
mod members;
mod needless;
#[cfg(test)]
mod tests;
mod trace;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A lease was cut short, or somebody was granted while another's lease stood.
    TwoGranted,
    /// Two clients acted, or were entitled to act, at once.
    TwoActing,
    /// A term fell, was skipped, was used twice, or an answer named a wrong one.
    Term,
    /// The watermark fell, or was taken from a session that was not Primary.
    Watermark,
    /// A heartbeat that was answered 200 is not in the database.
    HeartbeatLost,
    /// An answer and the trace disagree about a role.
    AnswerWithoutRow,
    /// The trace does not follow from itself, or not from the roles that are stored.
    TraceBroken,
    /// Nobody was Primary for longer than promised.
    NobodyPrimary,
    /// A lease was judged by a time in which the service was away.
    OutageJudged,
    /// A read showed a Primary whose lease had lapsed, or two.
    StaleRead,
    /// A new history of the database was noted where there was none, or none where there was one.
    HistoryNoted,
    /// A heartbeat was refused in a way that no fault accounts for.
    WrongRefusal,
    /// Two adapters acted at once where that is promised not to be, or for longer than that.
    AdaptersActing,
    /// An adapter dropped data as sent that nobody had sent.
    DataLost,
    /// A session was granted Primary while an operator had excluded it.
    WishIgnored,
    /// Two members acted at once.
    MembersActing,
    /// The receiver took an older term after a newer one.
    PastTheFence,
    /// Something that an agent had started was there without it.
    Orphan,
}

impl Kind {
    pub const ALL: [Kind; 18] = [
        Kind::TwoGranted,
        Kind::TwoActing,
        Kind::Term,
        Kind::Watermark,
        Kind::HeartbeatLost,
        Kind::AnswerWithoutRow,
        Kind::TraceBroken,
        Kind::NobodyPrimary,
        Kind::OutageJudged,
        Kind::StaleRead,
        Kind::HistoryNoted,
        Kind::WrongRefusal,
        Kind::AdaptersActing,
        Kind::DataLost,
        Kind::WishIgnored,
        Kind::MembersActing,
        Kind::PastTheFence,
        Kind::Orphan,
    ];
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub group: String,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.group, self.what)
    }
}

/// An answer may be read so much after it was given.
const ANSWERED_LATE_US: i64 = 500_000;

/// Something may be noted so much before it takes effect, and after it is undone.
const TAKES_EFFECT_US: i64 = 300_000;

/// What is allowed for the machine, which is not the service's to promise.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// How much later than every half timeout a heartbeat may leave or be answered and still be
    /// regular.
    pub beat_us: i64,
    /// How much longer than promised a group may be without a Primary.
    pub takeover_us: i64,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { beat_us: 100_000, takeover_us: 250_000 }
    }
}

/// What the checker found.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Primaries that were replaced without anything to explain it.
    pub needless: Vec<String>,
    pub heartbeats: usize,
    pub answered: usize,
    pub role_changes: usize,
    pub grants: usize,
    /// Of the times that a group was without a Primary although nothing disturbed it: the longest,
    /// in failover timeouts, and in ms.
    pub longest_gap: (f64, i64),
    /// How many such times there were.
    pub gaps: usize,
    /// How many exclusions were held to, because nothing else may have ended them.
    pub exclusions: usize,
    pub adapters: AdapterFindings,
    pub members: MemberFindings,
}

/// What was found about groups of members.
#[derive(Debug, Default)]
pub struct MemberFindings {
    /// Those with the library, and the programs that agents ran.
    pub processes: usize,
    pub acts: usize,
    /// What the receiver took, and what it refused because it came with an older term.
    pub taken: usize,
    pub refused: usize,
}

/// What was found about groups of adapters.
#[derive(Debug, Default)]
pub struct AdapterFindings {
    pub processes: usize,
    /// Handovers to a healthier one, and goodbyes of a Primary.
    pub planned: usize,
    /// Times at which two acted at once, by why the older one was Primary no more.
    pub overlaps: BTreeMap<Ended, Overlaps>,
    /// Items that an adapter dropped as sent.
    pub trimmed: usize,
}

/// How an adapter ceased to be Primary that acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// Its lease ran out.
    Lapsed,
    /// It was to hand over, and no answer told it so before its lease was over.
    HandedOverUnheard,
    /// Its session was deleted, by somebody else or by a goodbye of before that arrived late.
    Deleted,
    /// It was stopped, and started again in the role that it had saved.
    SavedItsRole,
    /// Its grant was lost with a history of the database.
    WithItsHistory,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Overlaps {
    pub count: usize,
    pub longest_us: i64,
}

impl Findings {
    fn add(&mut self, kind: Kind, group: &str, what: String) {
        self.violations.push(Violation { kind, group: group.to_owned(), what });
    }
}

/// A heartbeat, and what became of it.
#[derive(Clone, Debug)]
struct Beat<'a> {
    session: &'a str,
    sent: i64,
    heartbeat_time: Option<i64>,
    data_time: Option<i64>,
    acting_as: Option<i16>,
    health: u8,
    /// An adapter is told that it stands by while it is about to be Primary.
    of_adapter: bool,
    /// When its end was known; `None` if the client did not live to see it.
    ended: Option<i64>,
    ok: Option<Ok>,
}

/// An answer 200.
#[derive(Clone, Copy, Debug)]
struct Ok {
    at: i64,
    role: i16,
    term: i64,
    lease_us: i64,
    watermark: Option<i64>,
}

/// A session said goodbye.
#[derive(Clone, Copy, Debug)]
struct Goodbye<'a> {
    session: &'a str,
    at: i64,
    /// When it was known to have been heard. One that is not may arrive later.
    answered: Option<i64>,
}

/// How long what was not answered may be on its way, and so count.
pub const ON_ITS_WAY_US: i64 = 15_000_000;

/// All that concerns one group.
struct GroupRecord<'a> {
    id: &'a str,
    record: &'a Record,
    logs: Vec<&'a ClientLog>,
    /// In order of sending.
    beats: Vec<Beat<'a>>,
    goodbyes: Vec<Goodbye<'a>>,
    /// By session: when it did not run.
    asleep: Vec<(&'a str, i64, i64)>,
    trace: trace::Trace<'a>,
}

/// Checks everything.
pub fn check(record: &Record, tolerance: Tolerance) -> Findings {
    let mut findings = Findings::default();
    for group in &record.groups {
        let group = GroupRecord::new(record, &group.group);
        findings.heartbeats += group.beats.len();
        findings.answered += group.beats.iter().filter(|beat| beat.ok.is_some()).count();
        trace::check(&group, &mut findings);
        answers::check(&group, &mut findings);
        gaps::check(&group, tolerance, &mut findings);
        needless::check(&group, &mut findings);
        adapters::check(&group, tolerance, &mut findings);
        members::check(&group, &mut findings);
        group.refusals(&mut findings);
        group.exclusions(&mut findings);
    }
    members::check_all(record, &mut findings);
    if record.histories.len() != record.promotions {
        let what = format!("{} histories were noted for {} promotions", record.histories.len(), record.promotions);
        findings.add(Kind::HistoryNoted, "all", what);
    }
    findings.role_changes = record.transitions.len();
    findings.grants = record.transitions.iter().filter(|row| row.to == super::record::PRIMARY).count();
    findings
}

impl<'a> GroupRecord<'a> {
    fn new(record: &'a Record, id: &str) -> GroupRecord<'a> {
        let id = record.groups.iter().map(|group| group.group.as_str()).find(|known| *known == id).expect("it is one");
        let mut logs: Vec<&ClientLog> = record.clients.iter().filter(|log| log.group == id).collect();
        logs.sort_by_key(|log| first_instant(log));
        let mut beats = Vec::new();
        let mut goodbyes: Vec<Goodbye<'_>> = Vec::new();
        let mut asleep = Vec::new();
        for log in &logs {
            beats.extend(beats_of(log));
            for event in &log.events {
                match event {
                    ClientEvent::Leaving { at } => {
                        goodbyes.push(Goodbye { session: &log.session, at: at.wall, answered: None });
                    }
                    ClientEvent::Left { at } => {
                        if let Some(goodbye) = goodbyes.last_mut() {
                            goodbye.answered = Some(at.wall);
                        }
                    }
                    ClientEvent::Asleep { from, until } => asleep.push((log.session.as_str(), from.wall, until.wall)),
                    _ => {}
                }
            }
        }
        beats.sort_by_key(|beat| beat.sent);
        GroupRecord { id, record, logs, beats, goodbyes, asleep, trace: trace::Trace::of(record, id) }
    }

    /// Whether what was asked and answered then may be lost with a history of the database. An
    /// answer may be held up until long after, and is on its way for a moment when the server is
    /// gone already.
    fn may_be_lost(&self, sent: i64, answered: i64) -> bool {
        self.record.losses.iter().any(|(from, until)| sent < *until + ANSWERED_LATE_US && answered >= *from)
    }

    /// Whether it was in doubt then who acts: for one lease after the service noticed that the
    /// database knows less.
    fn is_in_doubt(&self, at: i64) -> bool {
        self.record.histories.iter().any(|history| {
            let lasts = gaps::timeout(self, history.noticed_at, history.noticed_at) + TAKES_EFFECT_US;
            (history.noticed_at - TAKES_EFFECT_US..history.noticed_at + lasts).contains(&at)
        })
    }

    /// The terms that groups went on from in histories that were noted until then.
    fn bases_until(&self, at: i64) -> impl Iterator<Item = i64> {
        let noted = self.record.histories.iter().filter(move |history| history.noticed_at <= at);
        noted.map(|history| history.base)
    }

    /// The session that held Primary with that term. Whoever held it when a history was noted goes
    /// on with its base.
    fn holder_of(&self, term: i64) -> Option<&trace::Tenure<'a>> {
        let of_base = self.record.histories.iter().find(|history| history.base == term);
        let holds = |tenure: &&trace::Tenure<'_>| match of_base {
            Some(history) => {
                tenure.from <= history.noticed_at && tenure.end.is_none_or(|(end, _)| end > history.noticed_at)
            }
            None => tenure.term == term,
        };
        self.trace.tenures.iter().find(holds)
    }

    /// Whether it is a group of members. They write down what they do, and not what they hear.
    fn is_of_members(&self) -> bool {
        self.logs.iter().any(|log| log.keeps == Keeps::ItsLease)
    }

    /// Whether a session says in which role it acts.
    fn tells_its_role(&self, session: &str) -> bool {
        self.is_of_members() || self.beats.iter().any(|beat| beat.session == session && beat.acting_as.is_some())
    }

    /// Whatever happens to the database, a client is told to come again (503), or that it is not
    /// known (404).
    fn refusals(&self, findings: &mut Findings) {
        for log in &self.logs {
            for event in &log.events {
                if let ClientEvent::Answered { at, outcome: Outcome::Refused(status), .. } = event
                    && !matches!(status, 404 | 503)
                {
                    let what = format!("{} was answered {status} at {}", log.session, seconds(at.wall));
                    findings.add(Kind::WrongRefusal, self.id, what);
                }
            }
        }
    }

    /// Whether a session's goodbye may have arrived between two instants.
    fn said_goodbye(&self, session: &str, after: i64, before: i64) -> bool {
        self.goodbyes.iter().filter(|goodbye| goodbye.session == session && goodbye.at <= before).any(|goodbye| {
            match goodbye.answered {
                // A heartbeat that was sent before it may have been granted meanwhile.
                Some(answered) => answered >= after,
                None => goodbye.at >= after || before - goodbye.at < ON_ITS_WAY_US,
            }
        })
    }

    /// The deletions by an operator that a session was touched by.
    fn deletions_of<'s>(&'s self, session: &'s str) -> impl Iterator<Item = &'s Deletion> {
        let touches = move |deletion: &&Deletion| deletion.session.as_deref().is_none_or(|deleted| deleted == session);
        self.deletions().filter(touches)
    }

    /// Whether an operator may have wished something of a session of the group between two
    /// instants.
    fn is_wished(&self, from: i64, until: i64) -> bool {
        let meets = |wish: &&WishMade| wish.group == self.id && wish.from <= until && wish.until >= from;
        self.record.wishes.iter().any(|wish| meets(&wish))
    }

    /// Nobody is granted whom an operator has excluded, for as long as that is known to hold: while
    /// nothing was lost, no clock was set, and the session was the same.
    fn exclusions(&self, findings: &mut Findings) {
        let excluded = self.record.wishes.iter().filter(|wish| wish.group == self.id && wish.excluded);
        for wish in excluded {
            let Some((from, until)) = wish.certain else { continue };
            let meets = |(f, u): (i64, i64)| f <= until && u >= from;
            // One session has one wish: what is wished of the others does not end this one.
            let replaced = self.record.wishes.iter().any(|other| {
                let is_of_session = other.group == self.id && other.session == wish.session;
                is_of_session && other.from != wish.from && other.changed.iter().any(|changed| meets(*changed))
            });
            if replaced
                || self.record.losses.iter().any(|loss| meets(*loss))
                || self.record.clock.is_set_between(from, until)
                || self.deletions().any(|deletion| meets((deletion.from, deletion.until)))
                || self.said_goodbye(&wish.session, from, until)
            {
                continue;
            }
            findings.exclusions += 1;
            let granted = |tenure: &&trace::Tenure<'_>| {
                tenure.session == wish.session && tenure.from > from && tenure.from < until
            };
            for tenure in self.trace.tenures.iter().filter(granted).filter(|tenure| !self.is_in_doubt(tenure.from)) {
                let what = format!("{} was granted at {}, and excluded", wish.session, seconds(tenure.from));
                findings.add(Kind::WishIgnored, self.id, what);
            }
        }
    }

    /// All of the group's deletions by an operator.
    fn deletions(&self) -> impl Iterator<Item = &Deletion> {
        self.record.deletions.iter().filter(|deletion| deletion.group == self.id)
    }

    /// What was done to the service, as far as this group is concerned: a row that is held is the
    /// trouble of one group alone.
    fn service_faults(&self) -> impl Iterator<Item = &'a Fault> {
        let concerns = |fault: &&Fault| match &fault.client {
            None => true,
            Some((group, _)) => fault.kind == FaultKind::RowHeld && group == self.id,
        };
        self.record.faults.iter().filter(concerns)
    }
}

fn beats_of(log: &ClientLog) -> Vec<Beat<'_>> {
    let mut beats: Vec<Beat<'_>> = Vec::new();
    for event in &log.events {
        match event {
            ClientEvent::Sent { at, acting_as, health, heartbeat_time, data_time, .. } => beats.push(Beat {
                session: &log.session,
                sent: at.wall,
                heartbeat_time: *heartbeat_time,
                data_time: *data_time,
                acting_as: *acting_as,
                health: *health,
                of_adapter: matches!(log.keeps, Keeps::ItsRole(_)),
                ended: None,
                ok: None,
            }),
            ClientEvent::Answered { n, at, outcome } => {
                // Numbers begin at 1 and leave nothing out.
                let Some(beat) = beats.get_mut(*n as usize - 1) else { continue };
                beat.ended = Some(at.wall);
                if let Outcome::Ok { role, term, lease_ms, watermark } = *outcome {
                    beat.ok = Some(Ok { at: at.wall, role, term, lease_us: lease_ms * 1_000, watermark });
                }
            }
            _ => {}
        }
    }
    beats
}

/// When a process first did something (monotonic).
fn first_instant(log: &ClientLog) -> i64 {
    log.events.first().map_or(i64::MAX, ClientEvent::mono)
}

/// Seconds since some time before the run, for people.
fn seconds(us: i64) -> String {
    format!("{:.3}", (us % 100_000_000_000) as f64 / 1e6)
}
