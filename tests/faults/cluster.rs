//! The system under test: a durable PostgreSQL of its own, and replicas as processes, with a proxy on either side of
//! each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use client_failover::postgres::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::helpers::{connect_options, free_port};
use crate::preload::Shim;
use tokio::process::{Child, Command};

use super::proxy::{Proxy, Upstream};

const SOON: Duration = Duration::from_secs(20);

/// How the replicas are set, beyond their addresses.
#[derive(Clone, Debug, Default)]
pub struct ReplicaSettings {
    pub arguments: Vec<String>,
    /// A defect to run with; only a binary with the feature `seeded-bugs` heeds it.
    pub seeded_bug: Option<String>,
}

pub struct Database {
    server: Option<Postgres>,
    shim: Shim,
    dir: PathBuf,
    pub connect: PgConnectOptions,
    pub socket: PathBuf,
}

impl Database {
    pub async fn start(dir: &Path) -> Database {
        let shim = Shim::new(&dir.join("bin"));
        let server = shim.start_postgres(&dir.join("data")).await;
        let connect = connect_options(&server, "postgres");
        let socket = server.socket_dir().join(format!(".s.PGSQL.{}", server.port()));
        Database { server: Some(server), shim, dir: dir.join("data"), connect, socket }
    }

    /// Ends the server's main process with that signal, and leaves it down.
    pub async fn end_with(&mut self, signal: Signal) {
        let Some(server) = self.server.take() else { return };
        let pid_file = std::fs::read_to_string(self.dir.join("pg/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid_file.lines().next().and_then(|line| line.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        server.stop().await.expect("what is left of the server goes away");
    }

    pub async fn start_again(&mut self) {
        if self.server.is_none() {
            self.server = Some(self.shim.start_postgres(&self.dir).await);
        }
    }

    /// Has every sync of the disk wait, or go on.
    pub fn stall_the_disk(&self, stalls: bool) {
        self.shim.stall_the_disk(stalls);
    }

    /// Has every commit wait for a standby that is not there, or go on. Over a connection that is there already: sessions that
    /// wait for their commit may have taken all others.
    pub async fn wait_for_a_standby(connection: &mut PgConnection, waits: bool) -> Option<()> {
        let set = match waits {
            true => "ALTER SYSTEM SET synchronous_standby_names = 'gone'",
            false => "ALTER SYSTEM RESET synchronous_standby_names",
        };
        // Each in a message of its own: it cannot be done in a transaction.
        sqlx::raw_sql(set).execute(&mut *connection).await.ok()?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut *connection).await.ok()?;
        Some(())
    }

    pub async fn connection(connect: &PgConnectOptions) -> Option<PgConnection> {
        tokio::time::timeout(Duration::from_secs(2), PgConnection::connect_with(connect)).await.ok()?.ok()
    }
}

pub struct Replica {
    child: Option<Child>,
    port: u16,
    database_url: String,
    log: PathBuf,
    settings: ReplicaSettings,
}

/// The proxies on either side of a replica.
pub struct Lines {
    pub to_clients: Proxy,
    pub to_database: Proxy,
}

impl Replica {
    pub async fn start(number: usize, dir: &Path, socket: &Path, settings: &ReplicaSettings) -> (Replica, Lines) {
        let to_database = Proxy::start(Upstream::Socket(socket.to_owned())).await;
        let port = free_port();
        let to_clients = Proxy::start(Upstream::Port(port)).await;
        let mut replica = Replica {
            child: None,
            port,
            database_url: format!("postgres://failover@127.0.0.1:{}/postgres?sslmode=disable", to_database.port),
            log: dir.join(format!("replica-{number}.log")),
            settings: settings.clone(),
        };
        replica.start_again();
        (replica, Lines { to_clients, to_database })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn start_again(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_client-failover"));
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--database-url", &self.database_url])
            .args(["--pool-size", "6", "--http-workers", "1", "--log", "warn"])
            .args(&self.settings.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(bug) = &self.settings.seeded_bug {
            command.env("CLIENT_FAILOVER_SEEDED_BUG", bug);
        }
        self.child = Some(command.spawn().expect("the service can be started"));
    }

    pub fn signal(&self, signal: Signal) {
        signal_child(self.child.as_ref(), signal);
    }

    /// Waits for its end, having been signalled.
    pub async fn ended(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = tokio::time::timeout(SOON, child.wait()).await.expect("a signalled replica ends");
        }
    }

    /// Waits until it says that it can serve.
    pub async fn ready(&self) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        let url = format!("http://127.0.0.1:{}/health/ready", self.port);
        let ready = async {
            let mut polls = tokio::time::interval(Duration::from_millis(20));
            loop {
                polls.tick().await;
                let answer = http.get(&url).timeout(Duration::from_secs(2)).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, ready).await.expect("a replica is ready soon");
    }
}

pub fn signal_child(child: Option<&Child>, signal: Signal) {
    if let Some(pid) = child.and_then(Child::id) {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}
