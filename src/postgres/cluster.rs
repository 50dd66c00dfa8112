//! The cluster's files: which version made them, and making them all or not at all.
//!
//! initdb works in a directory beside the final one, which gets its name only when all is written:
//! a kill at any point leaves either no cluster or a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use tracing::{info, warn};

use super::account::name_of;
use super::binaries::Binaries;
use super::directory::{DataDir, UNFINISHED, close_cluster, private_dir};
use super::server_log::ServerLog;
use super::stop::StopRequest;
use super::{PostgresError, SUPERUSER};

/// Half a second on an idle machine; much more on one with a slow disk.
const INITDB_TIMEOUT: Duration = Duration::from_mins(5);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Local connections only: what reaches the socket may enter, and nothing else reaches anything.
const CLIENT_AUTHENTICATION: &str = "\
# TYPE  DATABASE  USER  METHOD
local   all       all   trust
";

/// The content of `PG_VERSION`, or `None` when there is no cluster yet.
pub fn made_by(data: &DataDir) -> Result<Option<String>, PostgresError> {
    let dir = data.cluster();
    let found = match fs::symlink_metadata(&dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PostgresError::io("inspect", dir)(error)),
    };
    if !found.is_dir() {
        return Err(PostgresError::WrongKind { path: dir, wanted: "directory" });
    }
    let file = dir.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(version) => {
            check_owner(data, &dir, &found)?;
            close_cluster(&dir)?;
            Ok(Some(version.trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(&dir).map_err(PostgresError::io("read", &dir))?;
            match entries.next() {
                // An empty one gives way to the rename.
                None => Ok(None),
                Some(_) => Err(PostgresError::NotACluster { dir }),
            }
        }
        Err(error) => {
            // The likelier reason, and the clearer message.
            check_owner(data, &dir, &found)?;
            Err(PostgresError::io("read", file)(error))
        }
    }
}

fn check_owner(data: &DataDir, dir: &Path, found: &fs::Metadata) -> Result<(), PostgresError> {
    let owner = Uid::from_raw(found.uid());
    if owner == data.account().uid() {
        return Ok(());
    }
    Err(PostgresError::WrongOwner { path: dir.to_owned(), owner: name_of(owner), wanted: data.account().name() })
}

/// Removes what an interrupted initdb left. What cannot be removed only takes space.
pub fn remove_unfinished(data: &DataDir) {
    let Ok(entries) = fs::read_dir(data.path()) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let path = entry.path();
        match fs::remove_dir_all(&path) {
            Ok(()) => info!(directory = %path.display(), "removed an unfinished cluster"),
            Err(error) => {
                warn!(directory = %path.display(), %error, "cannot remove an unfinished cluster");
            }
        }
    }
}

/// Makes a new cluster.
pub fn create(data: &DataDir, binaries: &Binaries, log: &ServerLog, stop: &StopRequest) -> Result<(), PostgresError> {
    // initdb's own words for it name no way out.
    if let Ok(None) = User::from_uid(data.account().uid()) {
        return Err(PostgresError::NoEntry { uid: data.account().uid().as_raw() });
    }
    let dir = data.cluster();
    info!(directory = %dir.display(), version = %binaries.version.text, "initialising PostgreSQL");
    let unfinished = unfinished_name(data);
    let made = fill(data, binaries, log, stop, &unfinished).and_then(|()| {
        fs::rename(&unfinished, &dir).map_err(PostgresError::io("finish", &dir))?;
        sync_dir(data.path())
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made
}

/// One that is not there yet: what an earlier initdb left may have resisted removal.
fn unfinished_name(data: &DataDir) -> PathBuf {
    let start = format!("{UNFINISHED}{}", std::process::id());
    let mut path = data.path().join(&start);
    let mut count = 0;
    while path.exists() {
        count += 1;
        path = data.path().join(format!("{start}.{count}"));
    }
    path
}

fn fill(
    data: &DataDir,
    binaries: &Binaries,
    log: &ServerLog,
    stop: &StopRequest,
    dir: &Path,
) -> Result<(), PostgresError> {
    private_dir(dir, data.account())?;
    run_initdb(data, binaries, log, stop, dir)?;
    write_client_authentication(dir)?;
    sync_dir(dir)
}

fn run_initdb(
    data: &DataDir,
    binaries: &Binaries,
    log: &ServerLog,
    stop: &StopRequest,
    dir: &Path,
) -> Result<(), PostgresError> {
    let program = binaries.initdb();
    let log_start = log.end();
    let mut initdb = data
        .account()
        .command(&program, Signal::SIGTERM)
        .arg("--pgdata")
        .arg(dir)
        .args(["--username", SUPERUSER])
        .args(["--auth-local=trust", "--auth-host=reject"])
        .args(["--encoding=UTF8", "--no-locale"])
        .args(["--data-checksums", "--no-instructions"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.for_child()?)
        .spawn()
        .map_err(|cause| PostgresError::Spawn { program: program.clone(), user: data.account().name(), cause })?;
    let deadline = Instant::now() + INITDB_TIMEOUT;
    let ended = loop {
        match initdb.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) => {}
            Err(error) => break Err(PostgresError::io("wait for", &program)(error)),
        }
        if stop.comes_within(POLL_INTERVAL) {
            break Err(PostgresError::GivenUp);
        }
        if Instant::now() > deadline {
            break Err(failed(dir, log, log_start, "it does not end".to_owned()));
        }
    };
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(dir, log, log_start, outcome(status))),
        Err(error) => {
            let _ = initdb.kill();
            let _ = initdb.wait();
            Err(error)
        }
    }
}

fn failed(dir: &Path, log: &ServerLog, log_start: u64, outcome: String) -> PostgresError {
    PostgresError::Initdb { dir: dir.to_owned(), outcome, tail: log.tail(log_start), log: log.path().to_owned() }
}

/// How a process ended, for a message.
pub fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// initdb always writes lines for TCP connections too.
fn write_client_authentication(dir: &Path) -> Result<(), PostgresError> {
    let path = dir.join("pg_hba.conf");
    // Overwritten, not replaced: it keeps its owner.
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .and_then(|mut file| {
            file.write_all(CLIENT_AUTHENTICATION.as_bytes())?;
            file.sync_all()
        })
        .map_err(PostgresError::io("write", &path))
}

fn sync_dir(dir: &Path) -> Result<(), PostgresError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(PostgresError::io("sync", dir))
}
