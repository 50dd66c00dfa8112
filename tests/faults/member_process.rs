//! Members as clients of the injector, each a process of its own: a program with the library, and
//! one that knows nothing of leases and that an agent runs. Either writes to a table with a fence,
//! and says with each act when it began and with which term.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as Notebook};
use std::time::Duration;

use client_failover_client::{Join, Member};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::sleep;

use super::client::{Command, PART_VARIABLE, Part};
use super::clock::Stamp;
use super::record::{ClientEvent, FencedWrite, Keeps, LogWriter};
use crate::support::helpers::TestDatabase;

/// How often one that is Primary acts.
const ACT_EVERY: Duration = Duration::from_millis(20);

/// In the environment of an agent and of all that it starts: which it is.
pub const MARK_VARIABLE: &str = "CLIENT_FAILOVER_FAULTS_AGENT";

/// The table that all members write to. It refuses what comes with an older term than it has seen.
const FENCE: &str = "
CREATE TABLE writes (place bigint GENERATED ALWAYS AS IDENTITY, group_id text, term bigint, sender text);
CREATE TABLE newest_terms (group_id text PRIMARY KEY, term bigint NOT NULL);
CREATE FUNCTION receive(sender_group text, sender_term bigint, sender_name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO newest_terms VALUES (sender_group, sender_term)
    ON CONFLICT (group_id) DO UPDATE SET term = excluded.term WHERE newest_terms.term <= excluded.term;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO writes (group_id, term, sender) VALUES (sender_group, sender_term, sender_name);
    RETURN true;
END $$;";

/// How a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Takes {
    /// With the library.
    ItsLease,
    /// By an agent that runs it.
    AnAgent,
}

/// The receiver of what members send, on a server that nothing is done to.
pub struct Receiver {
    database: TestDatabase,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let database = TestDatabase::empty().await;
        sqlx::raw_sql(FENCE).execute(&mut database.connect().await).await.expect("it runs");
        Receiver { database }
    }

    pub fn url(&self) -> String {
        self.database.url()
    }

    /// What has passed the fence, in its order.
    pub async fn writes(&self) -> Vec<FencedWrite> {
        let rows = sqlx::query("SELECT group_id, term FROM writes ORDER BY place");
        let rows = rows.fetch_all(&mut self.database.connect().await).await.expect("the table is there");
        rows.into_iter().map(|row| FencedWrite { group: row.get(0), term: row.get(1) }).collect()
    }
}

/// Sends to it, for one process.
struct Sender {
    group: String,
    name: String,
    to: PgConnection,
}

impl Sender {
    async fn connect(part: &Part) -> Sender {
        let to: PgConnectOptions = part.receiver.parse().expect("the injector wrote it");
        let to = PgConnection::connect_with(&to).await.expect("nothing is done to the receiver");
        Sender { group: part.group.clone(), name: part.session.clone(), to }
    }

    /// Whether it was taken.
    async fn send(&mut self, term: i64) -> bool {
        let receive = sqlx::query_scalar("SELECT receive($1, $2, $3)").bind(&self.group).bind(term).bind(&self.name);
        receive.fetch_one(&mut self.to).await.expect("nothing is done to the receiver")
    }
}

/// Runs with the library until it is told to leave, or the injector is gone.
pub async fn run(part: Part) {
    let log = LogWriter::create(&part.log, &part.group, &part.session, Keeps::ItsLease);
    let log = Arc::new(Notebook::new(log));
    let sender = Sender::connect(&part).await;
    let member = join(&part).await;
    tokio::spawn(act(member.clone(), log.clone(), sender));
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = commands.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Command::Health { percent }) => member.set_health(percent),
            Ok(Command::Leave) => {
                log.lock().expect("nobody panics over it").write(&ClientEvent::Leaving { at: Stamp::now() });
                member.leave().await;
                return;
            }
            // It has no clock that matters, and heeds the lease in the answer.
            Ok(Command::ClockOffset { .. } | Command::Timeout { .. }) => {}
            Err(_) => return,
        }
    }
}

async fn join(part: &Part) -> Member {
    loop {
        let join = Join::group(&format!("t/faults/{}", part.group), &part.session).expect("it is one");
        let join = join.by(|| reqwest::Client::builder().no_proxy()).with_health(part.health);
        let at = |join: Join, port: &u16| join.at(&format!("http://127.0.0.1:{port}"));
        match Member::join(part.ports.iter().try_fold(join, at).expect("they are addresses")).await {
            Ok(member) => return member,
            // Its group is deleted at the moment, for one.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn act(member: Member, log: Arc<Notebook<LogWriter>>, mut sender: Sender) {
    while let Ok(lease) = member.primary().await {
        let term = lease.term();
        loop {
            // Before it looks at the lease: what it does after that is allowed until its end.
            let at = Stamp::now().mono;
            let done = lease.guard(async {
                log.lock().expect("nobody panics over it").write(&ClientEvent::Acted { at, term });
                let is_taken = sender.send(term).await;
                log.lock().expect("nobody panics over it").write(&ClientEvent::Received {
                    at,
                    until: Stamp::now().mono,
                    is_taken,
                });
            });
            if done.await.is_err() {
                break;
            }
            sleep(ACT_EVERY).await;
        }
    }
}

#[test]
#[ignore = "not a test: agents run it in the injector's runs"]
fn is_the_program_of_an_agent() {
    let Ok(part) = std::env::var(PART_VARIABLE) else { return };
    let part: Part = serde_json::from_str(&part).expect("the injector wrote it");
    let term = std::env::var("CLIENT_FAILOVER_TERM").expect("the agent says so");
    let term = term.parse().expect("a number");
    // A process id may come again.
    let stem = part.log.file_stem().expect("a name").to_string_lossy();
    let file = format!("{stem}-{}-{}.jsonl", std::process::id(), Stamp::now().mono);
    let mut log = LogWriter::create(&part.log.with_file_name(file), &part.group, &part.session, Keeps::ItsLease);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    runtime.block_on(async {
        let mut sender = Sender::connect(&part).await;
        loop {
            let at = Stamp::now().mono;
            log.write(&ClientEvent::Acted { at, term });
            let is_taken = sender.send(term).await;
            log.write(&ClientEvent::Received { at, until: Stamp::now().mono, is_taken });
            sleep(ACT_EVERY).await;
        }
    });
}

/// The agent that runs that, and all that it starts bears its mark.
pub fn agent(part: &Part, mark: &str, program: std::process::Command, log: &Path) -> std::process::Command {
    let mut command = program;
    let url = |port: &u16| format!("http://127.0.0.1:{port}");
    let (first, others) = part.ports.split_first().expect("there are replicas");
    command.args(["run", "--group", &format!("t/faults/{}", part.group), "--session", &part.session]);
    command.args(["--server", &url(first), "--restart-pause", "1s"]);
    for port in others {
        command.args(["--also", &url(port)]);
    }
    let module = module_path!().split_once("::").expect("this is not the crate's root").1;
    let test = format!("{module}::is_the_program_of_an_agent");
    command.arg("--").arg(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", &test, "--ignored", "--nocapture"]);
    command.env(PART_VARIABLE, serde_json::to_string(part).expect("a part can be written")).env(MARK_VARIABLE, mark);
    let log = std::fs::File::options().create(true).append(true).open(log).expect("the log can be written");
    command.stdout(std::process::Stdio::null()).stderr(log);
    command
}

/// What a process with an agent's mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Agent,
    Guardian,
    Program,
}

/// The processes that bear an agent's mark.
pub fn processes_of(mark: &str) -> Vec<(Pid, Place)> {
    let mark = format!("{MARK_VARIABLE}={mark}");
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    let place_of = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        // That of a process that has ended is empty.
        let environment = read(entry.path().join("environ"));
        environment.split(|byte| *byte == 0).find(|variable| *variable == mark.as_bytes())?;
        let arguments = read(entry.path().join("cmdline"));
        let place = match arguments.split(|byte| *byte == 0).nth(1) {
            Some(b"run") => Place::Agent,
            Some(b"guardian") => Place::Guardian,
            _ => Place::Program,
        };
        Some((Pid::from_raw(pid), place))
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(place_of).collect()
}

/// Waits until nothing is left that a killed agent has started; what is there still after that
/// time.
pub async fn left_behind(mark: &str, within: Duration) -> Vec<(Pid, Place)> {
    let until = tokio::time::Instant::now() + within;
    let mut empty = 0;
    loop {
        let left = processes_of(mark);
        // One that is about to be another program is not seen: it is looked for twice.
        empty = if left.is_empty() { empty + 1 } else { 0 };
        if empty > 1 || tokio::time::Instant::now() > until {
            return left;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
