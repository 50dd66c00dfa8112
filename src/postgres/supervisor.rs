//! The thread that prepares, runs, watches and stops the server.
//!
//! One thread for the whole life of a server, because the kernel ends the server with the thread
//! that started it; and a thread of its own, because all of this blocks.

use std::io;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::binaries::{self, Binaries};
use super::cluster::{self, outcome};
use super::directory::DataDir;
use super::server::{Server, Setup};
use super::server_log::ServerLog;
use super::settings::Settings;
use super::stop::{self, StopHandle, StopRequest};
use super::{Facts, PostgresError, PostgresOptions, socket};

/// How soon the end of the server is noticed.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
const LOG_SIZE_INTERVAL: Duration = Duration::from_mins(1);

const FIRST_RESTART_DELAY: Duration = Duration::from_millis(50);
const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(10);
/// A server that ran this long was not broken from the start.
const STEADY_AGE: Duration = Duration::from_mins(1);

/// The ends of a supervising thread that its owner keeps.
pub struct Supervisor {
    pub stop: StopHandle,
    pub started: oneshot::Receiver<Result<Facts, PostgresError>>,
    /// Comes after the directory has been released.
    pub finished: oneshot::Receiver<Result<(), PostgresError>>,
}

pub fn spawn(options: PostgresOptions) -> Result<Supervisor, PostgresError> {
    let (stop, stop_request) = stop::request();
    let (tell_started, started) = oneshot::channel();
    let (tell_finished, finished) = oneshot::channel();
    thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || {
            let end = run(&options, &stop_request, tell_started);
            // Nobody listens when the owner was dropped.
            let _ = tell_finished.send(end);
        })
        .map_err(PostgresError::Thread)?;
    Ok(Supervisor { stop, started, finished })
}

fn run(
    options: &PostgresOptions,
    stop: &StopRequest,
    tell_started: oneshot::Sender<Result<Facts, PostgresError>>,
) -> Result<(), PostgresError> {
    let begun = prepare(options, stop).and_then(|setup| {
        let server = start(&setup, stop)?;
        Ok((setup, server))
    });
    let (setup, server) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let _ = tell_started.send(Err(error));
            return Ok(());
        }
    };
    // An owner that is gone has dropped the stop handle too, so the watch ends at once.
    let _ = tell_started.send(Ok(Facts {
        socket_dir: setup.socket_dir.clone(),
        port: setup.settings.port,
        version: setup.binaries.version.text.clone(),
        bin_dir: setup.binaries.dir.clone(),
    }));
    watch(&setup, server, stop)
}

/// Everything up to the first start. Nothing is changed before the directory is locked.
fn prepare(options: &PostgresOptions, stop: &StopRequest) -> Result<Setup, PostgresError> {
    let settings = Settings::new(&options.settings)?;
    let usable = binaries::find(options.bin_dir.as_deref())?;
    let data = DataDir::open(&options.data_dir)?;
    cluster::remove_unfinished(&data);
    let made_by = cluster::made_by(&data)?;
    let binaries = binaries::choose(&usable, &data.cluster(), made_by.as_deref())?;
    check_ways(&data, &binaries)?;
    let socket_dir = socket::prepare(&data, settings.port)?;
    let log = ServerLog::open(data.log())?;
    if made_by.is_none() {
        cluster::create(&data, &binaries, &log, stop)?;
    }
    Ok(Setup { data, binaries, settings, socket_dir, log })
}

/// Tries whether the account can reach the data and the programs, and finds out why not. Trying is
/// surer than reading permission bits: access lists and the like have their say too.
fn check_ways(data: &DataDir, binaries: &Binaries) -> Result<(), PostgresError> {
    let account = data.account();
    let program = binaries.postgres();
    let tried = account.command(&program, Signal::SIGKILL).arg("--version").current_dir(data.path()).output();
    let Err(cause) = tried else {
        return Ok(());
    };
    if cause.kind() == io::ErrorKind::PermissionDenied {
        for target in [data.path(), &binaries.dir] {
            if let Some(closed) = account.first_closed(target) {
                return Err(PostgresError::Closed { user: account.name(), closed, target: target.to_owned() });
            }
        }
    }
    Err(PostgresError::Spawn { program, user: account.name(), cause })
}

fn start(setup: &Setup, stop: &StopRequest) -> Result<Server, PostgresError> {
    let mut server = setup.launch()?;
    match setup.wait_until_ready(&mut server, stop) {
        Ok(()) => Ok(server),
        Err(error) => {
            if let Err(further) = setup.stop(server) {
                warn!(%further, "after a failed start");
            }
            Err(error)
        }
    }
}

/// Keeps a server running until it is time to stop.
fn watch(setup: &Setup, server: Server, stop: &StopRequest) -> Result<(), PostgresError> {
    let mut delay = FIRST_RESTART_DELAY;
    let mut current = Some(server);
    loop {
        if let Some(server) = current.take() {
            match watch_one(setup, server, stop)? {
                End::Stopped => return Ok(()),
                End::Died { age } if age >= STEADY_AGE => delay = FIRST_RESTART_DELAY,
                End::Died { .. } => {}
            }
        }
        if stop.comes_within(delay) {
            return Ok(());
        }
        delay = (delay * 2).min(LONGEST_RESTART_DELAY);
        current = restart(setup, stop);
    }
}

/// Starts the server again, or says why not and leaves it to the next attempt.
fn restart(setup: &Setup, stop: &StopRequest) -> Option<Server> {
    setup.log.set_aside_if_large();
    let mut server = match setup.launch() {
        Ok(server) => server,
        Err(error) => {
            error!(%error, "cannot start PostgreSQL again");
            return None;
        }
    };
    match setup.wait_until_ready(&mut server, stop) {
        Ok(()) => info!(pid = server.pid(), "PostgreSQL runs again"),
        // Its end, or the request to stop, is for the watch to see. One that only takes its time
        // is left to it: to interrupt a recovery would be to begin it anew.
        Err(PostgresError::GivenUp | PostgresError::EndedAtStart { .. }) => {}
        Err(error) => error!(%error, "PostgreSQL was started again"),
    }
    Some(server)
}

enum End {
    Stopped,
    Died { age: Duration },
}

fn watch_one(setup: &Setup, mut server: Server, stop: &StopRequest) -> Result<End, PostgresError> {
    let mut log_checked = Instant::now();
    loop {
        if let Some(status) = server.ended()? {
            report_death(setup, &server, status);
            return Ok(End::Died { age: server.age() });
        }
        if stop.comes_within(WATCH_INTERVAL) {
            return setup.stop(server).map(|()| End::Stopped);
        }
        if log_checked.elapsed() >= LOG_SIZE_INTERVAL {
            setup.log.set_aside_if_large();
            log_checked = Instant::now();
        }
    }
}

fn report_death(setup: &Setup, server: &Server, status: ExitStatus) {
    error!(
        pid = server.pid(),
        outcome = %outcome(status),
        log = %setup.log.tail(server.log_start()),
        "PostgreSQL ended unexpectedly and is started again"
    );
}
