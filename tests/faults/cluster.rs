//! The replicas, as processes, with proxies on either side of each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::database::{Database, Way};
use crate::support::helpers::free_port;
use crate::support::program::{program, program_at};
use crate::support::proxy::{Gate, Proxy};

const SOON: Duration = Duration::from_secs(20);

/// How the replicas are set, beyond their addresses.
#[derive(Clone, Debug, Default)]
pub struct ReplicaSettings {
    pub arguments: Vec<String>,
    /// The service; `None` is the one under test.
    pub program: Option<PathBuf>,
}

pub struct Replica {
    child: Option<Child>,
    port: u16,
    database_url: String,
    password_file: PathBuf,
    log: PathBuf,
    settings: ReplicaSettings,
}

/// The proxies on either side of a replica.
pub struct Lines {
    pub to_clients: Proxy,
    /// One for each server of the database.
    to_databases: Vec<Proxy>,
    way: Way,
}

impl Lines {
    /// The one to the server that is the primary now.
    pub fn to_database(&self) -> &Proxy {
        &self.to_databases[self.way.primary()]
    }

    pub fn set_database_gates(&self, gate: Gate) {
        self.to_databases.iter().for_each(|proxy| proxy.set_gate(gate));
    }

    pub fn slow_the_database_down(&self, longest: Duration) {
        self.to_databases.iter().for_each(|proxy| proxy.slow_down(longest));
    }
}

impl Replica {
    pub async fn start(number: usize, dir: &Path, database: &Database, settings: &ReplicaSettings) -> (Replica, Lines) {
        let mut to_databases = Vec::new();
        for port in database.ports() {
            to_databases.push(Proxy::to_port(*port).await);
        }
        let hosts: Vec<String> = to_databases.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port)).collect();
        let port = free_port();
        let to_clients = Proxy::to_port(port).await;
        let mut replica = Replica {
            child: None,
            port,
            database_url: format!("postgres://service@{}/failover?sslmode=disable", hosts.join(",")),
            password_file: database.password_file.clone(),
            log: dir.join(format!("replica-{number}.log")),
            settings: settings.clone(),
        };
        replica.start_again();
        (replica, Lines { to_clients, to_databases, way: database.way.clone() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn start_again(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let mut command = Command::from(self.settings.program.as_ref().map_or_else(program, program_at));
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--database-url", &self.database_url])
            .arg("--database-password-file")
            .arg(&self.password_file)
            .args(["--pool-size", "6", "--http-workers", "1", "--log", "warn"])
            .args(["--premises-tenant", "t", "--premises-namespace", "faults"])
            .args(&self.settings.arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
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
