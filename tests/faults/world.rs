//! Everything that runs: the cluster, the clients, and the notes that are taken of what is done to
//! them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Notebook, Weak};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines as TextLines};
use tokio::process::{Child, ChildStdout};
use tokio::sync::Mutex;

use super::client::{Command, HEARD, PART_VARIABLE, Part};
use super::clock::Stamp;
use super::cluster::{Lines, Replica, ReplicaSettings, signal_child};
use super::database::{Database, Way};
use super::member_process::{Receiver, Takes, agent, left_behind};
use super::record::{
    Audit, ClientLog, ClockStep, DatabaseClock, Deletion, Fault, GroupRow, HeartbeatRow, HistoryRow, Mode, OutageRow,
    PRIMARY, Record, SessionRow, ShownPrimary, TimeoutSet, Transition, WishMade,
};
use crate::support::helpers::scratch_dir;
use crate::support::program::{program, program_at};

/// Where adapters ask: either of the two bases.
const ADAPTERS_BASES: [&str; 2] = ["/api/v1/Tenants/t/Namespaces/faults/ClientFailover/", "/api/v1/clientfailover/"];

pub const GROUPS_PATH: &str = "/api/v1/tenants/t/namespaces/faults/clientfailover/groups";

/// The shortest timeout of adapters. They do not send again what is not answered, and leave out a
/// heartbeat that is due while another is under way: what holds one up must not cost a lease.
pub const ADAPTERS_LEAST_TIMEOUT_MS: u64 = 2_000;

/// The shortest timeout of members: a program has to be killed before the end of its lease by a
/// machine that is busy with all of this.
pub const MEMBERS_LEAST_TIMEOUT_MS: u64 = 1_500;

/// A thread that is woken this much too late says that the machine has no time.
const STARVED_US: i64 = 60_000;

/// How soon all is gone that an agent has started, once it is killed.
const GONE_WITHIN: Duration = Duration::from_secs(3);

/// How many clients are started before it is waited until they are heard.
const STARTED_AT_ONCE: usize = 4;

/// How much of everything there is.
#[derive(Clone, Debug)]
pub struct Scale {
    pub seed: u64,
    pub replicas: usize,
    pub groups: usize,
    /// How many groups of adapters there are besides. No group is of both.
    pub adapter_groups: usize,
    /// How many groups of members, with the library and with agents.
    pub member_groups: usize,
    /// Whether some adapters are behind a balancer that does not send on what a replica breaks off.
    pub adapters_lose_requests: bool,
    pub sessions: std::ops::RangeInclusive<usize>,
    /// The failover timeouts that groups have.
    pub timeouts_ms: &'static [u64],
    /// Whether the database has a standby, which replicas know of.
    pub with_standby: bool,
    pub replica_settings: ReplicaSettings,
}

pub struct World {
    pub scale: Scale,
    dir: PathBuf,
    pub way: Way,
    receiver: Option<Receiver>,
    pub database: Mutex<Database>,
    pub replicas: Vec<Mutex<Replica>>,
    pub lines: Vec<Lines>,
    pub groups: Vec<GroupState>,
    pub clients: Vec<Mutex<Slot>>,
    pub notes: Notebook<Notes>,
    finished: AtomicBool,
}

pub struct GroupState {
    pub id: String,
    pub timeout_ms: AtomicU64,
    pub is_of: Of,
    pub configuring: Mutex<()>,
}

/// Whom a group is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Clients that keep the trust rule.
    Clients,
    Adapters,
    Members,
}

/// What became of something that was asked for as an operator does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operated {
    /// Wall clock: from before it was asked for first.
    pub from: i64,
    /// How often it was asked for: whatever was not answered may be on its way.
    pub asked: usize,
    /// When it was answered with success or a refusal, and with which status.
    pub answered: Option<(i64, u16)>,
}

/// A place for a client: one process after another fills it.
pub struct Slot {
    pub group: usize,
    pub part: Part,
    place: usize,
    processes: u32,
    sessions: u32,
    /// The service, and the agent.
    program: Option<PathBuf>,
    child: Option<Child>,
    said: Option<TextLines<BufReader<ChildStdout>>>,
}

#[derive(Default)]
pub struct Notes {
    pub faults: Vec<Fault>,
    pub timeouts: Vec<TimeoutSet>,
    deletions: Vec<Deletion>,
    wishes: Vec<WishMade>,
    starved: Vec<(i64, i64)>,
    audits: Vec<Audit>,
    shown: Vec<ShownPrimary>,
    nothing_commits: Vec<(i64, i64)>,
    clock: DatabaseClock,
    /// By their ids.
    outages: BTreeMap<i64, OutageRow>,
    /// Those of before the last promotion.
    former_outages: Vec<OutageRow>,
    promotions: usize,
    losses: Vec<(i64, i64)>,
    histories: BTreeMap<i64, HistoryRow>,
    orphans: Vec<String>,
}

impl World {
    /// Starts everything and returns once every group has a Primary.
    pub async fn start(scale: Scale) -> Arc<World> {
        let mut random = fastrand::Rng::with_seed(scale.seed ^ 0x5eed);
        let dir = scratch_dir("faults");
        let database = Database::start(&dir.join("database"), scale.with_standby).await;
        let (mut replicas, mut lines) = (Vec::new(), Vec::new());
        for number in 0..scale.replicas {
            let started = Replica::start(number, &dir, &database, &scale.replica_settings).await;
            replicas.push(Mutex::new(started.0));
            lines.push(started.1);
        }
        let ports: Vec<u16> = lines.iter().map(|lines| lines.to_clients.port).collect();
        let receiver = if scale.member_groups > 0 { Some(Receiver::start().await) } else { None };
        let receiver_url = receiver.as_ref().map(Receiver::url).unwrap_or_default();
        let (mut groups, mut clients) = (Vec::new(), Vec::new());
        for number in 0..scale.groups + scale.adapter_groups + scale.member_groups {
            let is_of = match number {
                _ if number < scale.groups => Of::Clients,
                _ if number < scale.groups + scale.adapter_groups => Of::Adapters,
                _ => Of::Members,
            };
            let is_of_adapters = is_of == Of::Adapters;
            let is_cold = is_of_adapters && random.u8(0..4) == 0;
            let mut timeout_ms = scale.timeouts_ms[random.usize(0..scale.timeouts_ms.len())];
            if is_of_adapters {
                timeout_ms = timeout_ms.max(ADAPTERS_LEAST_TIMEOUT_MS);
            }
            if is_of == Of::Members {
                timeout_ms = timeout_ms.max(MEMBERS_LEAST_TIMEOUT_MS);
            }
            let group = GroupState {
                id: format!("g{number}"),
                timeout_ms: AtomicU64::new(timeout_ms),
                is_of,
                configuring: Mutex::new(()),
            };
            for place in 0..random.usize(scale.sessions.clone()) {
                let telling = random.bool();
                let adapter = is_of_adapters.then_some(match place {
                    _ if is_cold => Mode::Cold,
                    0 | 1 => Mode::Hot,
                    // What it reports is newer than what the Primary does.
                    _ => Mode::Warm,
                });
                let groups_path = if is_of_adapters { ADAPTERS_BASES[place % 2] } else { GROUPS_PATH };
                let part = Part {
                    groups_path: groups_path.to_owned(),
                    group: group.id.clone(),
                    session: String::new(),
                    ports: ports.clone(),
                    log: PathBuf::new(),
                    timeout_ms,
                    health: 100,
                    clock_offset_us: 0,
                    telling,
                    says_time: telling || random.bool(),
                    roams: random.bool() && (!is_of_adapters || scale.adapters_lose_requests),
                    brags: random.u8(0..3) == 0,
                    adapter,
                    // One of each at least.
                    member: (is_of == Of::Members).then_some(if place % 2 == 0 {
                        Takes::AnAgent
                    } else {
                        Takes::ItsLease
                    }),
                    receiver: receiver_url.clone(),
                };
                clients.push(Mutex::new(Slot {
                    group: number,
                    part,
                    place,
                    processes: 0,
                    sessions: 0,
                    program: scale.replica_settings.program.clone(),
                    child: None,
                    said: None,
                }));
            }
            groups.push(group);
        }
        let world = Arc::new(World {
            dir,
            way: database.way.clone(),
            receiver,
            database: Mutex::new(database),
            replicas,
            lines,
            groups,
            clients,
            notes: Notebook::default(),
            finished: AtomicBool::new(false),
            scale,
        });
        world.begin().await;
        world
    }

    async fn begin(self: &Arc<World>) {
        for replica in &self.replicas {
            replica.lock().await.ready().await;
        }
        for group in &self.groups {
            assert!(self.put_timeout(group, group.timeout_ms.load(Ordering::Relaxed)).await, "a group is created");
        }
        self.have_rows_say_when_they_were_written().await;
        // Not all at once: while so many programs are loaded nobody is served, and leases lapse.
        for (place, slot) in self.clients.iter().enumerate() {
            slot.lock().await.start(&self.dir, NewSession::Yes);
            if place % STARTED_AT_ONCE == STARTED_AT_ONCE - 1 {
                self.comes_to("SELECT count(*) FROM heartbeats", place + 1).await;
            }
        }
        // They do not own the world: after a panic it is to be dropped, and its processes with it.
        let world = Arc::downgrade(self);
        std::thread::spawn(move || watch_the_machine(&world));
        let (world, probe) = (Arc::downgrade(self), self.dir.join("probe"));
        std::thread::spawn(move || watch_the_disk(&world, &probe));
        tokio::spawn(self.clone().audit());
        self.every_group_has_a_primary().await;
    }

    /// Has every change of a role say when it was written, by the clock that is never set: that the
    /// database's own is set is one of the faults.
    async fn have_rows_say_when_they_were_written(&self) {
        let mut connection = self.way.connect().await.expect("the database answers");
        let statements = "
            CREATE FUNCTION uptime_us() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER AS
                $$ SELECT (split_part(pg_read_file('/proc/uptime', 0, 100), ' ', 1)::numeric * 1000000)::bigint $$;
            ALTER TABLE role_transitions ADD COLUMN written_at bigint DEFAULT uptime_us()";
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("it runs");
    }

    pub async fn every_group_has_a_primary(&self) {
        self.comes_to("SELECT count(primary_session) FROM group_status", self.groups.len()).await;
    }

    /// Waits until that count is as high.
    async fn comes_to(&self, count: &'static str, wanted: usize) {
        let counted = async {
            let mut polls = tokio::time::interval(Duration::from_millis(50));
            loop {
                polls.tick().await;
                let Some(mut connection) = self.way.connect().await else { continue };
                let counted: Result<i64, _> = sqlx::query_scalar(count).fetch_one(&mut connection).await;
                if counted.is_ok_and(|counted| counted as usize >= wanted) {
                    return;
                }
            }
        };
        let soon = tokio::time::timeout(Duration::from_secs(60), counted).await;
        soon.unwrap_or_else(|_| panic!("{count} comes to {wanted} soon"));
    }

    pub fn note(&self, fault: Fault) {
        self.notes.lock().expect("nobody panics over the notes").faults.push(fault);
    }

    /// Notes a time from which on nobody could commit anything that lasts, until then.
    pub fn note_that_nothing_commits(&self, from: i64, until: i64) {
        self.notes.lock().expect("nobody panics over the notes").nothing_commits.push((from, until));
    }

    /// Notes that a standby was promoted, and from when until when what was committed is lost by
    /// it.
    pub fn note_promotion(&self, loss: Option<(i64, i64)>) {
        let mut notes = self.notes.lock().expect("nobody panics over the notes");
        notes.promotions += 1;
        notes.losses.extend(loss);
        // The numbers of those that are lost may come again.
        let (from, _) = loss.unwrap_or((i64::MAX, i64::MAX));
        let (kept, lost) = std::mem::take(&mut notes.outages).into_iter().partition(|(_, row)| row.recovered_at < from);
        notes.outages = kept;
        notes.former_outages.extend(BTreeMap::into_values(lost));
    }

    /// Sets the database's clock by so much.
    pub fn step_clock(&self, database: &mut Database, ms: i64) {
        // Nobody reads a time of the database while it is not known how far off its clock is.
        let mut notes = self.notes.lock().expect("nobody panics over the notes");
        let at = Stamp::now().wall;
        database.step_clock(ms);
        let (off_us, done_at) = (database.clock_off_ms * 1_000, Stamp::now().wall);
        notes.clock.step(ClockStep { at, done_at, off_us });
    }

    /// Notes the outages and histories that are new, while it is clear when they were.
    pub async fn audit_outages(&self, connection: &mut PgConnection) -> Option<()> {
        let rows = sqlx::query(
            "SELECT outage_id, (extract(epoch FROM began_at) * 1000000)::bigint,
                 (extract(epoch FROM recovered_at) * 1000000)::bigint, (extract(epoch FROM counts_from) * 1000000)::bigint
             FROM service_outages",
        );
        let rows = rows.fetch_all(&mut *connection).await.ok()?;
        let histories = sqlx::query(
            "SELECT history_id, (extract(epoch FROM noticed_at) * 1000000)::bigint, base
             FROM service_histories WHERE reason <> 'first'",
        );
        let histories = histories.fetch_all(connection).await.ok()?;
        let now = Stamp::now().wall;
        let mut notes = self.notes.lock().expect("nobody panics over the notes");
        for row in histories {
            let noticed_at = notes.clock.last_shown(row.get(1), now);
            notes.histories.entry(row.get(0)).or_insert(HistoryRow { noticed_at, base: row.get(2) });
        }
        for row in rows {
            let recovered_at = notes.clock.last_shown(row.get(2), now);
            let began_at = notes.clock.last_shown(row.get(1), recovered_at);
            notes.outages.entry(row.get(0)).or_insert(OutageRow { began_at, recovered_at, counts_from: row.get(3) });
        }
        Some(())
    }

    /// Sets the timeout of a group, past the proxies, at a replica that is left alone meanwhile;
    /// whether that is known to have worked.
    pub async fn put_timeout(&self, group: &GroupState, ms: u64) -> bool {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        for attempt in 0..20 {
            let number = attempt % self.replicas.len();
            let Ok(replica) = self.replicas[number].try_lock() else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let url = format!("http://127.0.0.1:{}{GROUPS_PATH}/{}", replica.port(), group.id);
            let before = Stamp::now().wall;
            let request = http.put(url).json(&json!({"Milliseconds": ms})).timeout(Duration::from_secs(5));
            let answer = request.send().await;
            // It may have worked even where that is not known, and counts from before it was tried.
            let known = answer.is_ok_and(|answer| answer.status().is_success());
            let held_at = known.then(|| Stamp::now().wall);
            let set = TimeoutSet { group: group.id.clone(), at: before, ms: ms as i64, held_at };
            self.notes.lock().expect("nobody panics over the notes").timeouts.push(set);
            if known {
                return true;
            }
        }
        false
    }

    /// Deletes a session that does not know of it, or by force a whole group, past the proxies. It
    /// may have worked even where that is not known.
    pub async fn delete_by_operator(&self, group: &str, session: Option<&str>) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        let below = match session {
            Some(session) => format!("{group}/clientsessions/{session}?by=operator"),
            None => format!("{group}?force=true"),
        };
        for attempt in 0..20 {
            let Ok(replica) = self.replicas[attempt % self.replicas.len()].try_lock() else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let url = format!("http://127.0.0.1:{}{GROUPS_PATH}/{below}", replica.port());
            let from = Stamp::now().wall;
            let answer = http.delete(url).timeout(Duration::from_secs(5)).send().await;
            let (group, session) = (group.to_owned(), session.map(str::to_owned));
            let deletion = Deletion { group, session, from, until: Stamp::now().wall };
            self.notes.lock().expect("nobody panics over the notes").deletions.push(deletion);
            if answer.is_ok_and(|answer| answer.status().is_success() || answer.status() == 404) {
                return;
            }
        }
    }

    /// Asks for something as an operator does, past the proxies, until somebody answers with
    /// success or a refusal.
    pub async fn operate(&self, method: reqwest::Method, below: &str, body: Option<&Value>) -> Operated {
        let mut operated = Operated { from: Stamp::now().wall, ..Operated::default() };
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        for attempt in 0..10 {
            let Ok(replica) = self.replicas[attempt % self.replicas.len()].try_lock() else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let url = format!("http://127.0.0.1:{}{GROUPS_PATH}/{below}", replica.port());
            let request = http.request(method.clone(), url).timeout(Duration::from_secs(3));
            let request = body.iter().fold(request, |request, body| request.json(body));
            operated.asked += 1;
            if let Ok(answer) = request.send().await
                && answer.status() != 503
            {
                operated.answered = Some((Stamp::now().wall, answer.status().as_u16()));
                break;
            }
        }
        operated
    }

    /// Waits until all is gone that an agent had started that was killed, and notes what is not.
    pub async fn note_orphans(&self, slot: &Slot) {
        if let Some(mark) = slot.mark() {
            let left = left_behind(&mark, GONE_WITHIN).await;
            let left = left.into_iter().map(|(pid, place)| format!("{place:?} {pid} of {mark}"));
            self.notes.lock().expect("nobody panics over the notes").orphans.extend(left);
        }
    }

    pub fn note_wish(&self, wish: WishMade) {
        self.notes.lock().expect("nobody panics over the notes").wishes.push(wish);
    }

    pub async fn tell_group(&self, group: usize, command: &Command) {
        for slot in &self.clients {
            let mut slot = slot.lock().await;
            if slot.group == group {
                slot.tell(command).await;
            }
        }
    }

    async fn audit(self: Arc<World>) {
        let mut times = tokio::time::interval(Duration::from_secs(1));
        while !self.finished.load(Ordering::Relaxed) {
            times.tick().await;
            self.audit_heartbeats().await;
            self.audit_reads().await;
        }
    }

    pub async fn audit_heartbeats(&self) {
        let at = Stamp::now().wall;
        let Some(mut connection) = self.way.connect().await else { return };
        let rows = tokio::time::timeout(Duration::from_secs(15), read_heartbeats(&mut connection)).await;
        if let Ok(Ok(mut heartbeats)) = rows {
            let until = Stamp::now().wall;
            let mut notes = self.notes.lock().expect("nobody panics over the notes");
            for row in &mut heartbeats {
                row.received_at = notes.clock.last_shown(row.received_at, until);
            }
            notes.audits.push(Audit { at, until, heartbeats });
        }
        let outages = self.audit_outages(&mut connection);
        drop(tokio::time::timeout(Duration::from_secs(15), outages).await);
    }

    /// Asks one replica who is Primary.
    async fn audit_reads(&self) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        let port = self.lines[fastrand::usize(0..self.lines.len())].to_clients.port;
        let at = Stamp::now().wall;
        let request = http.get(format!("http://127.0.0.1:{port}{GROUPS_PATH}")).timeout(Duration::from_secs(1));
        let Ok(answer) = request.send().await else { return };
        let Ok(groups) = answer.json::<serde_json::Value>().await else { return };
        for group in groups.as_array().into_iter().flatten() {
            for (session, client) in group["Clients"].as_object().into_iter().flatten() {
                if client["Role"] == PRIMARY {
                    let group = group["Id"].as_str().unwrap_or_default().to_owned();
                    let shown = ShownPrimary { group, session: session.clone(), at };
                    self.notes.lock().expect("nobody panics over the notes").shown.push(shown);
                }
            }
        }
    }

    /// How many changes of roles there have been.
    pub async fn count_transitions(&self) -> i64 {
        let mut connection = self.way.connect().await.expect("the database answers");
        let count = sqlx::query_scalar("SELECT count(*) FROM role_transitions");
        count.fetch_one(&mut connection).await.expect("the table is there")
    }

    /// Stops everything and gathers what is left behind.
    pub async fn end(&self) -> Record {
        let stopped_from = Stamp::now().wall;
        for slot in &self.clients {
            let mut slot = slot.lock().await;
            slot.kill().await;
            self.note_orphans(&slot).await;
        }
        self.finished.store(true, Ordering::Relaxed);
        let mut record = self.read_database().await;
        // Not left to the last owner of this value: the process may end before that.
        for replica in &self.replicas {
            let mut replica = replica.lock().await;
            replica.signal(Signal::SIGKILL);
            replica.ended().await;
        }
        self.database.lock().await.end().await;
        let notes = std::mem::take(&mut *self.notes.lock().expect("nobody panics over the notes"));
        record.stopped_from = stopped_from;
        record.faults = notes.faults;
        record.timeouts = notes.timeouts;
        record.deletions = notes.deletions;
        record.wishes = notes.wishes;
        record.starved = notes.starved;
        record.audits = notes.audits;
        record.shown = notes.shown;
        record.outages = notes.former_outages;
        record.outages.extend(notes.outages.into_values());
        record.promotions = notes.promotions;
        record.losses = notes.losses;
        record.histories = notes.histories.into_values().collect();
        record.nothing_commits = notes.nothing_commits;
        record.clock = notes.clock;
        record.orphans = notes.orphans;
        if let Some(receiver) = &self.receiver {
            record.fenced = receiver.writes().await;
        }
        let logs = std::fs::read_dir(self.dir.join("records")).expect("the records are there");
        record.clients =
            logs.filter_map(|entry| ClientLog::read(&entry.expect("the folder can be read").path())).collect();
        record
    }

    async fn read_database(&self) -> Record {
        let at = Stamp::now().wall;
        let mut connection = self.way.connect().await.expect("the database answers");
        let mut rows = connection.begin().await.expect("a transaction begins");
        sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *rows).await.expect("it runs");
        let clock = self.notes.lock().expect("nobody panics over the notes").clock.clone();
        let uptime = sqlx::query_scalar("SELECT uptime_us()").fetch_one(&mut *rows);
        let uptime: i64 = uptime.await.expect("it runs");
        let booted_at = Stamp::now().wall - uptime;
        let transitions = sqlx::query(
            "SELECT group_id, session_id, from_role, to_role, term, reason, (extract(epoch FROM recorded_at) * 1000000)::bigint,
                 written_at
             FROM role_transitions ORDER BY group_key, transition_id",
        )
        .fetch_all(&mut *rows);
        let transitions = transitions.await.expect("it runs").into_iter().map(|row| Transition {
            group: row.get(0),
            session: row.get(1),
            from: row.get(2),
            to: row.get(3),
            term: row.get(4),
            reason: row.get(5),
            at: clock.read_before(row.get(6), booted_at + row.get::<i64, _>(7)),
        });
        let transitions = transitions.collect();
        let sessions = sqlx::query("SELECT group_id, session_id, s.role FROM sessions s JOIN groups USING (group_key)");
        let sessions = sessions.fetch_all(&mut *rows).await.expect("it runs").into_iter();
        let sessions =
            sessions.map(|row| SessionRow { group: row.get(0), session: row.get(1), role: row.get(2) }).collect();
        let groups =
            sqlx::query("SELECT group_id, term, (extract(epoch FROM watermark) * 1000000)::bigint FROM group_status");
        let groups = groups.fetch_all(&mut *rows).await.expect("it runs").into_iter();
        let groups =
            groups.map(|row| GroupRow { group: row.get(0), term: row.get(1), watermark: row.get(2) }).collect();
        let mut heartbeats = read_heartbeats(&mut rows).await.expect("it runs");
        for row in &mut heartbeats {
            row.received_at = clock.last_shown(row.received_at, Stamp::now().wall);
        }
        self.audit_outages(&mut rows).await.expect("it runs");
        Record { transitions, sessions, groups, heartbeats, ended_at: at, ..Record::default() }
    }

    /// Where records and logs are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Notes a time in which the machine did nothing for us; whether anybody still wants to know.
fn note_starved(world: &Weak<World>, from: Stamp, allowed_us: i64) -> bool {
    let Some(world) = world.upgrade().filter(|world| !world.finished.load(Ordering::Relaxed)) else { return false };
    let now = Stamp::now();
    if now.mono - from.mono > allowed_us {
        world.notes.lock().expect("nobody panics over the notes").starved.push((from.wall, now.wall));
    }
    true
}

fn watch_the_machine(world: &Weak<World>) {
    let mut before = Stamp::now();
    while note_starved(world, before, 20_000 + STARVED_US) {
        before = Stamp::now();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A commit is no faster than the disk: what keeps a file of ours waiting keeps the database
/// waiting too.
fn watch_the_disk(world: &Weak<World>, probe: &Path) {
    let mut file = std::fs::File::create(probe).expect("a file can be made");
    let mut before = Stamp::now();
    while note_starved(world, before, STARVED_US) {
        std::thread::sleep(Duration::from_millis(100));
        before = Stamp::now();
        file.write_all(b"probe").and_then(|()| file.sync_all()).expect("the disk has room");
    }
}

async fn read_heartbeats(connection: &mut sqlx::PgConnection) -> Result<Vec<HeartbeatRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT group_id, session_id, (extract(epoch FROM heartbeat_time) * 1000000)::bigint,
             (extract(epoch FROM received_at) * 1000000)::bigint
         FROM heartbeats JOIN groups USING (group_key)",
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    let rows = rows.map(|row| HeartbeatRow {
        group: row.get(0),
        session: row.get(1),
        heartbeat_time: row.get(2),
        received_at: row.get(3),
    });
    Ok(rows.collect())
}

/// Whether a client that starts registers anew or goes on under the id it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSession {
    Yes,
    No,
}

impl Slot {
    /// Starts the next process of this place.
    pub fn start(&mut self, dir: &Path, new_session: NewSession) {
        if self.part.adapter.is_some() {
            // It is named after its host, whatever became of it.
            self.part.session = format!("HOST-{}1.OpcUa", self.place);
        } else if new_session == NewSession::Yes {
            self.sessions += 1;
            self.part.session = format!("c{}-{}", self.place, self.sessions);
        }
        self.processes += 1;
        let records = dir.join("records");
        std::fs::create_dir_all(&records).expect("a folder can be made");
        self.part.log = records.join(format!("{}-{}-{}.jsonl", self.part.group, self.place, self.processes));
        if self.part.member == Some(Takes::AnAgent) {
            let mark = self.mark().expect("it is an agent");
            let program = self.program.as_ref().map_or_else(program, program_at);
            let log = dir.join(format!("agent-{}-{}.log", self.part.group, self.place));
            let mut agent = agent(&self.part, &mark, program, &log);
            // Where nobody is left to kill it. The threads of the runtime are there until the end.
            client_failover_children::end_with_parent(&mut agent, Signal::SIGKILL);
            let mut agent = tokio::process::Command::from(agent);
            self.said = None;
            self.child = Some(agent.kill_on_drop(true).spawn().expect("the agent can be started"));
            return;
        }
        let part = serde_json::to_string(&self.part).expect("a part can be written");
        let test = format!("{}::runs_as_a_process_of_the_injector", client_module());
        let mut child = tokio::process::Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", &test, "--ignored", "--nocapture"])
            .env(PART_VARIABLE, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started");
        self.said = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        self.child = Some(child);
    }

    /// What the latest process of this place and all that it starts bear, where it is an agent.
    pub fn mark(&self) -> Option<String> {
        let mark = || format!("{}-{}-{}", self.part.log.display(), self.place, self.processes);
        (self.part.member == Some(Takes::AnAgent)).then(mark)
    }

    pub fn signal(&self, signal: Signal) {
        signal_child(self.child.as_ref(), signal);
    }

    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Waits for its end, which it was told to come to.
    pub async fn ended(&mut self, within: Duration) {
        if let Some(child) = &mut self.child
            && tokio::time::timeout(within, child.wait()).await.is_err()
        {
            self.kill().await;
        }
    }

    pub async fn tell(&mut self, command: &Command) {
        match command {
            Command::Timeout { ms } => self.part.timeout_ms = *ms,
            Command::Health { percent } => self.part.health = *percent,
            Command::ClockOffset { us } => self.part.clock_offset_us = *us,
            Command::Leave => {}
        }
        match (self.part.member, command) {
            (Some(Takes::AnAgent), Command::Leave) => return self.signal(Signal::SIGTERM),
            (Some(Takes::ItsLease), Command::Leave | Command::Health { .. }) | (None, _) => {}
            (Some(_), _) => return,
        }
        let mut line = serde_json::to_string(command).expect("a command can be written");
        line.push('\n');
        if let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            // One that has ended does not read it, and its successor starts with it.
            let _ = stdin.write_all(line.as_bytes()).await;
        }
        if let (Command::Timeout { .. }, Some(said)) = (command, &mut self.said) {
            let heard = async { while said.next_line().await.ok().flatten().is_some_and(|line| line != HEARD) {} };
            if tokio::time::timeout(Duration::from_secs(5), heard).await.is_err() {
                // It must not go on trusting a longer timeout.
                self.kill().await;
            }
        }
    }
}

/// The path of the client's test within this program.
fn client_module() -> String {
    let module = module_path!().split_once("::").expect("this is not the crate's root").1;
    let parent = module.rsplit_once("::").expect("this is a module's module").0;
    format!("{parent}::client")
}
