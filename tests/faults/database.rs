//! The database under the replicas: a durable server whose clock and disk do as they are told and,
//! where a run wants one, a standby of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::process::{Child, Command};

use crate::support::helpers::free_port;
use crate::support::preload::{Disk, Shim};
use crate::support::proxy::{Gate, Proxy};
use crate::support::servers::{append, as_server, give_to_servers};

/// Small segments of the log, so that a full disk is soon felt; and a standby that is there again
/// soon.
const SETTINGS: &str = "
    wal_level = replica
    max_wal_senders = 4
    wal_keep_size = 64MB
    min_wal_size = 2MB
    max_wal_size = 32MB
    wal_retrieve_retry_interval = 100ms
    wal_receiver_status_interval = 1s
    unix_socket_directories = ''
    shared_buffers = 16MB
    fsync = on
";

/// The service needs a password; the injector does not, and neither does a standby.
const WHO_MAY_CONNECT: &str = "
host all service 127.0.0.1/32 password
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
";

/// The name of the database of the service, which its role owns.
const NAME: &str = "failover";

/// How to reach whichever server is the primary.
#[derive(Clone, Debug)]
pub struct Way {
    ports: Arc<[u16]>,
    primary: Arc<AtomicUsize>,
}

impl Way {
    /// Which of the servers is the primary.
    pub fn primary(&self) -> usize {
        self.primary.load(Ordering::Acquire)
    }

    /// Where the servers are.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// A connection of a superuser to the primary, if it answers soon.
    pub async fn connect(&self) -> Option<PgConnection> {
        connect(self.ports[self.primary()], NAME).await
    }
}

async fn connect(port: u16, database: &str) -> Option<PgConnection> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username("postgres")
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    tokio::time::timeout(Duration::from_secs(2), PgConnection::connect_with(&options)).await.ok()?.ok()
}

async fn execute(connection: &mut PgConnection, statement: &str) -> Option<()> {
    let run = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection);
    tokio::time::timeout(Duration::from_secs(10), run).await.ok()?.ok().map(drop)
}

/// Asks until the answer is yes, for some seconds.
async fn comes_true(connection: &mut PgConnection, question: &str) -> Option<()> {
    let asked = async {
        while !sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_one(&mut *connection).await.ok()? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(())
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.ok()?
}

pub struct Database {
    shim: Shim,
    nodes: Vec<Node>,
    /// The way to each server for its standby.
    replication: Vec<Proxy>,
    pub way: Way,
    /// Where the replicas find the password of their role.
    pub password_file: PathBuf,
    passwords: u32,
    /// By how much the servers' clock is off.
    pub clock_off_ms: i64,
}

impl Database {
    pub async fn start(dir: &Path, with_standby: bool) -> Database {
        let shim = Shim::new(&dir.join("bin"));
        let mut nodes = vec![Node::new(shim.programs(), &dir.join("node-0"))];
        nodes[0].initialise().await;
        nodes[0].start().await;
        let mut replication = vec![Proxy::to_port(nodes[0].port).await];
        if with_standby {
            let mut standby = Node::new(shim.programs(), &dir.join("node-1"));
            replication.push(Proxy::to_port(standby.port).await);
            standby.copy_from(replication[0].port).await;
            standby.start().await;
            nodes.push(standby);
        }
        let ports = nodes.iter().map(|node| node.port).collect();
        let way = Way { ports, primary: Arc::default() };
        let password_file = dir.join("password");
        let mut database = Database { shim, nodes, replication, way, password_file, passwords: 0, clock_off_ms: 0 };
        let mut connection = database.connect_to("postgres").await.expect("the server answers");
        for statement in ["CREATE ROLE service LOGIN", "CREATE DATABASE failover OWNER service"] {
            execute(&mut connection, statement).await.expect("it runs");
        }
        database.change_password(&mut connection, Duration::ZERO).await.expect("it runs");
        database
    }

    async fn connect_to(&self, database: &str) -> Option<PgConnection> {
        connect(self.ports()[self.primary()], database).await
    }

    pub fn ports(&self) -> &[u16] {
        self.way.ports()
    }

    fn primary(&self) -> usize {
        self.way.primary()
    }

    fn standby(&self) -> Option<usize> {
        (self.nodes.len() > 1).then(|| 1 - self.primary())
    }

    /// Whether there is a standby.
    pub fn has_standby(&self) -> bool {
        self.standby().is_some()
    }

    /// Ends the primary's main process with that signal, and leaves it down.
    pub async fn end_with(&mut self, signal: Signal) {
        let primary = self.primary();
        self.nodes[primary].end_with(signal).await;
    }

    pub async fn start_again(&mut self) {
        let primary = self.primary();
        self.nodes[primary].start().await;
    }

    /// Stops all there is.
    pub async fn end(&mut self) {
        for node in &mut self.nodes {
            node.end_with(Signal::SIGQUIT).await;
        }
    }

    /// Has every sync of the disk wait, or go on.
    pub fn stall_the_disk(&self, stalls: bool) {
        self.shim.stall_the_disk(stalls);
    }

    /// Has the disk be full, or have room again. A server that has given up is started again.
    pub async fn fill_the_disk(&mut self, disk: Disk) {
        self.shim.fill_the_disk(disk);
        if disk == Disk::HasRoom {
            for node in &mut self.nodes {
                node.start().await;
            }
        }
    }

    /// Sets the clock of the servers by so much more.
    pub fn step_clock(&mut self, ms: i64) {
        self.clock_off_ms += ms;
        self.shim.set_clock_by(self.clock_off_ms);
    }

    /// Gives the role of the service another password. The replicas' file has it so much later.
    pub async fn change_password(&mut self, connection: &mut PgConnection, later: Duration) -> Option<()> {
        self.passwords += 1;
        let password = format!("password {}", self.passwords);
        execute(connection, &format!("ALTER ROLE service PASSWORD '{password}'")).await?;
        tokio::time::sleep(later).await;
        let new = self.password_file.with_extension("new");
        std::fs::write(&new, password).and_then(|()| std::fs::rename(&new, &self.password_file)).expect("it is ours");
        Some(())
    }

    /// Has every commit wait for a standby, or go on. Over a connection that is there already:
    /// sessions that wait for their commit may have taken all others. Where there is a standby it
    /// has caught up by then.
    pub async fn wait_for_standby(&self, connection: &mut PgConnection, waits: bool) -> Option<()> {
        let set = if waits {
            "ALTER SYSTEM SET synchronous_standby_names = '*'"
        } else {
            "ALTER SYSTEM RESET synchronous_standby_names"
        };
        if waits && self.has_standby() {
            self.standby_has_caught_up(connection).await?;
        }
        // Each in a message of its own: it cannot be done in a transaction.
        execute(connection, set).await?;
        execute(connection, "SELECT pg_reload_conf()").await?;
        if waits && self.has_standby() {
            let waited_for = "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
            comes_true(connection, waited_for).await?;
        }
        Some(())
    }

    /// Waits until the standby has what is committed now.
    pub async fn standby_has_caught_up(&self, connection: &mut PgConnection) -> Option<()> {
        let now = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text");
        let now: String = now.fetch_one(&mut *connection).await.ok()?;
        let has_it = format!("SELECT count(*) > 0 FROM pg_stat_replication WHERE flush_lsn >= '{now}'");
        comes_true(connection, &has_it).await
    }

    /// Stops the standby as a machine that is suspended, or has it go on; whether there is one.
    pub fn freeze_standby(&self, frozen: bool) -> bool {
        let Some(standby) = self.standby() else { return false };
        self.nodes[standby].freeze(frozen);
        true
    }

    /// The same with the primary.
    pub fn freeze_primary(&self, frozen: bool) {
        self.nodes[self.primary()].freeze(frozen);
    }

    /// Waits until so many replicas work on the primary.
    pub async fn is_used_by(&self, connection: &mut PgConnection, replicas: usize) -> Option<()> {
        // Each of them listens.
        let listening = format!(
            "SELECT count(*) >= {replicas} FROM pg_stat_activity
             WHERE application_name = 'client-failover' AND query LIKE 'LISTEN%'"
        );
        comes_true(connection, &listening).await
    }

    /// Whether what is committed gets to the standby, is on its way to it for the time being, or
    /// never gets there.
    pub fn set_replication(&self, gate: Gate) {
        self.replication[self.primary()].set_gate(gate);
    }

    /// Makes the standby the primary. The old one is left as it is.
    pub async fn promote(&mut self) {
        let (old, new) = (self.primary(), 1 - self.primary());
        let mut connection = connect(self.nodes[new].port, NAME).await.expect("the standby answers");
        let promoted = sqlx::query_scalar("SELECT pg_promote(true, 20)").fetch_one(&mut connection).await;
        assert!(promoted.unwrap_or(false), "the standby is promoted");
        self.replication[old].set_gate(Gate::Open);
        self.way.primary.store(new, Ordering::Release);
    }

    /// Makes a new standby out of what was the primary before the promotion.
    pub async fn take_back_as_standby(&mut self) {
        let primary = self.primary();
        let upstream = self.replication[primary].port;
        let old = &mut self.nodes[1 - primary];
        old.end_with(Signal::SIGKILL).await;
        old.copy_from(upstream).await;
        old.start().await;
    }
}

/// One server.
struct Node {
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Node {
    fn new(programs: &Path, dir: &Path) -> Node {
        std::fs::create_dir_all(dir).expect("a folder can be made");
        give_to_servers(dir);
        Node { programs: programs.to_owned(), dir: dir.to_owned(), port: free_port(), child: None }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn command(&self, program: &str) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log"));
        let log = log.expect("a file can be written");
        let mut command = as_server(&self.programs.join(program));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be opened twice")).stderr(log);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    async fn initialise(&self) {
        let mut made = self.command("initdb");
        made.args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-locale",
            "-E",
            "UTF8",
            "--no-sync",
            "--wal-segsize=1",
            "-D",
        ]);
        assert!(made.arg(self.data()).status().await.expect("initdb runs").success());
        append(&self.data().join("postgresql.conf"), SETTINGS);
        std::fs::write(self.data().join("pg_hba.conf"), WHO_MAY_CONNECT).expect("it can be written");
    }

    /// Takes over all data of a server, as its standby.
    async fn copy_from(&self, port: u16) {
        for _ in 0..3 {
            let _ = std::fs::remove_dir_all(self.data());
            let mut copied = self.command("pg_basebackup");
            copied.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-p"]);
            copied.arg(port.to_string()).arg("-D").arg(self.data());
            let status = tokio::time::timeout(Duration::from_secs(20), copied.status()).await;
            if status.is_ok_and(|status| status.expect("pg_basebackup runs").success()) {
                return;
            }
        }
        panic!("the data is not copied: {}", self.dir.join("log").display());
    }

    /// Starts it if it does not run, and waits until it answers. What is left of one that was
    /// killed is waited for.
    async fn start(&mut self) {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while tokio::time::Instant::now() < until {
            let runs = self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()));
            if !runs {
                let mut command = self.command("postgres");
                command.arg("-D").arg(self.data());
                command.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", self.port)]);
                self.child = Some(command.spawn().expect("postgres runs"));
            }
            if connect(self.port, "postgres").await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("a server does not start: {}", self.dir.join("log").display());
    }

    async fn end_with(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = pid_of(&child) {
            let _ = kill(pid, signal);
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        ended.expect("a signalled server ends").expect("it can be waited for");
    }

    /// Its main process first, which would otherwise start others.
    fn freeze(&self, frozen: bool) {
        let Some(main) = self.child.as_ref().and_then(pid_of) else { return };
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        let _ = kill(main, signal);
        for child in children_of(main) {
            let _ = kill(child, signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A process that is stopped does not notice that its parent has gone.
        self.freeze(false);
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().map(|pid| Pid::from_raw(pid.cast_signed()))
}

/// The processes that one has started.
fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").expect("there are processes");
    let of_process = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
        (fields.get("PPid")?.trim().parse() == Ok(parent.as_raw())).then(|| Pid::from_raw(pid))
    };
    entries.filter_map(|entry| of_process(entry.ok()?)).collect()
}
