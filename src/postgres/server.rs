//! One run of the server: starting it, knowing when it is ready, stopping it.

use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::{info, warn};

use super::PostgresError;
use super::binaries::Binaries;
use super::cluster::outcome;
use super::directory::DataDir;
use super::remains::{self, PidFile, State};
use super::server_log::ServerLog;
use super::settings::Settings;
use super::socket;
use super::stop::StopRequest;

/// Long enough for a recovery after a crash.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(15);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// For a shutdown in order: clients are disconnected, everything is written.
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// For an immediate one, after which the next start recovers. PostgreSQL itself kills what has
/// not ended after five seconds.
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(7);
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// All that is needed to run the server, any number of times.
#[derive(Debug)]
pub struct Setup {
    pub data: DataDir,
    pub binaries: Binaries,
    pub settings: Settings,
    pub socket_dir: PathBuf,
    pub log: ServerLog,
}

impl Setup {
    /// Starts a server. Whoever gets it must stop it: dropping it leaves it running.
    pub fn launch(&self) -> Result<Server, PostgresError> {
        let cluster = self.data.cluster();
        remains::clear(&cluster)?;
        socket::remove_stale(&self.socket_dir)?;
        let log_start = self.log.end();
        let program = self.binaries.postgres();
        let child = self
            .data
            .account()
            .command(&program, Signal::SIGINT)
            .arg("-D")
            .arg(cluster)
            .args(self.settings.arguments(&self.socket_dir))
            .stdin(Stdio::null())
            .stdout(self.log.for_child()?)
            .stderr(self.log.for_child()?)
            .spawn()
            .map_err(|cause| PostgresError::Spawn { program, user: self.data.account().name(), cause })?;
        Ok(Server { child, log_start, started: Instant::now() })
    }

    /// Returns once the server accepts connections.
    pub fn wait_until_ready(&self, server: &mut Server, stop: &StopRequest) -> Result<(), PostgresError> {
        let cluster = self.data.cluster();
        let mut progress = PROGRESS_INTERVAL;
        loop {
            if let Some(status) = server.ended()? {
                return Err(PostgresError::EndedAtStart {
                    dir: cluster,
                    outcome: outcome(status),
                    tail: self.log.tail(server.log_start),
                    log: self.log.path().to_owned(),
                });
            }
            // A file left by an earlier server has another number, and its state means nothing.
            let noted = PidFile::read(&cluster);
            if noted.is_some_and(|file| file.state == State::Ready && file.pid == server.pid()) {
                return Ok(());
            }
            let passed = server.age();
            if passed > READY_TIMEOUT {
                return Err(PostgresError::NotReady {
                    dir: cluster,
                    seconds: passed.as_secs(),
                    tail: self.log.tail(server.log_start),
                    log: self.log.path().to_owned(),
                });
            }
            if passed > progress {
                info!(
                    seconds = passed.as_secs(),
                    log = %self.log.tail(server.log_start),
                    "waiting for PostgreSQL"
                );
                progress += PROGRESS_INTERVAL;
            }
            if stop.comes_within(READY_POLL_INTERVAL) {
                return Err(PostgresError::GivenUp);
            }
        }
    }

    /// Stops the server in order if it can be, and at once if not.
    pub fn stop(&self, mut server: Server) -> Result<(), PostgresError> {
        let steps = [(Signal::SIGINT, FAST_STOP_TIMEOUT), (Signal::SIGQUIT, IMMEDIATE_STOP_TIMEOUT)];
        for (signal, timeout) in steps {
            server.send(signal);
            if server.ended_within(timeout)? {
                return Ok(());
            }
            warn!(pid = server.pid(), %signal, "PostgreSQL takes too long to stop");
        }
        Err(PostgresError::DidNotStop { dir: self.data.cluster(), pid: server.pid() })
    }
}

/// A server process that has not been waited for, so that its number is its own.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log_start: u64,
    started: Instant,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where in the log its words begin.
    pub fn log_start(&self) -> u64 {
        self.log_start
    }

    pub fn ended(&mut self) -> Result<Option<ExitStatus>, PostgresError> {
        self.child.try_wait().map_err(PostgresError::io("wait for", "postgres"))
    }

    fn ended_within(&mut self, timeout: Duration) -> Result<bool, PostgresError> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.ended()?.is_some() {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(STOP_POLL_INTERVAL);
        }
    }

    fn send(&mut self, signal: Signal) {
        // Once it has been waited for, the number may be another's.
        if !matches!(self.ended(), Ok(None)) {
            return;
        }
        let Ok(raw) = i32::try_from(self.pid()) else {
            return;
        };
        if let Err(error) = kill(Pid::from_raw(raw), signal) {
            warn!(pid = raw, %signal, %error, "cannot signal PostgreSQL");
        }
    }
}
