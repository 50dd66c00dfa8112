//! The private PostgreSQL server that the service runs when it is given no database URL.
//!
//! Owns one data directory (see `directory`): locks it, initialises it, runs one server on it that
//! only this account can reach, restarts that server when it dies and stops it with the service.
//! Never speaks SQL, never opens a TCP port, never creates a database or table, and never signals
//! a process that it has not seen to be a PostgreSQL working in that directory.

mod account;
mod binaries;
mod cluster;
mod directory;
mod error;
mod remains;
mod server;
mod server_log;
mod settings;
mod socket;
mod stop;
mod supervisor;

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use tokio::sync::oneshot;

pub use error::PostgresError;

/// The superuser of every cluster made here, and the name to connect as.
const SUPERUSER: &str = "failover";

/// How to run the private server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Where everything is kept; made when missing.
    pub data_dir: PathBuf,
    /// Where to look for the server's programs first; else `PATH`, else the versioned folders of
    /// the distributions, newest first. Programs that fit an existing data directory go before all.
    pub bin_dir: Option<PathBuf>,
    /// Further `postgresql.conf` settings. They win over the defaults.
    pub settings: Vec<(String, String)>,
}

/// A running private server. Dropping it asks the server to stop without waiting for that.
#[derive(Debug)]
pub struct Postgres {
    facts: Facts,
    /// Dropping this is the request to stop.
    stop: stop::StopHandle,
    finished: oneshot::Receiver<Result<(), PostgresError>>,
}

/// What does not change while the service lives, restarts of the server included.
#[derive(Debug, Clone)]
struct Facts {
    socket_dir: PathBuf,
    port: u16,
    version: String,
    bin_dir: PathBuf,
}

impl Postgres {
    /// Starts the server, initialising its directory first when that is new, and returns once it
    /// accepts connections. Dropping the future stops what was begun.
    pub async fn start(options: PostgresOptions) -> Result<Postgres, PostgresError> {
        let supervisor = supervisor::spawn(options)?;
        let facts = supervisor.started.await.map_err(|_| PostgresError::SupervisorGone)??;
        Ok(Postgres { facts, stop: supervisor.stop, finished: supervisor.finished })
    }

    /// The directory of the Unix socket: the `host` of a connection.
    pub fn socket_dir(&self) -> &Path {
        &self.facts.socket_dir
    }

    /// The superuser of the cluster.
    pub fn user(&self) -> &str {
        SUPERUSER
    }

    /// The number in the socket's name; nothing listens on TCP unless a setting asks for it.
    pub fn port(&self) -> u16 {
        self.facts.port
    }

    /// The version of the programs, such as `15.13 (Debian 15.13-0+deb12u1)`.
    pub fn version(&self) -> &str {
        &self.facts.version
    }

    /// The folder the programs were found in.
    pub fn bin_dir(&self) -> &Path {
        &self.facts.bin_dir
    }

    /// Stops the server: a fast shutdown, and after a bounded wait an immediate one. The directory
    /// is free for the next owner when this returns.
    pub async fn stop(self) -> Result<(), PostgresError> {
        drop(self.stop);
        self.finished.await.map_err(|_| PostgresError::SupervisorGone)?
    }
}

/// Where the data goes when nobody says: `/var/lib/client-failover` for root, the account's own
/// data home for others.
pub fn default_data_dir() -> PathBuf {
    if geteuid().is_root() {
        return PathBuf::from("/var/lib/client-failover");
    }
    data_home().join("client-failover")
}

fn data_home() -> PathBuf {
    // The XDG rules say that a relative path is to be ignored.
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(path) = absolute("XDG_DATA_HOME") {
        return path;
    }
    absolute("HOME")
        .or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))
        .unwrap_or_else(env::temp_dir)
        .join(".local/share")
}
