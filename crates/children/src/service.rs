//! A service in a process of its own, with a folder of its own, for the demo and the benchmark.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time;

use super::end_with_parent;

/// How long a new service may take until it listens: it may have a database to create first.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const LISTENING: &str = "listening on http://";
const LOG_TAIL_LINES: usize = 15;

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceProcessError {
    /// The temporary folder cannot be used.
    #[error("the temporary folder for the service cannot be made: {0}")]
    Folder(#[source] io::Error),
    /// The process cannot be started.
    #[error("the service could not be started: {0}")]
    Spawn(#[source] io::Error),
    /// It does not come up.
    #[error("the service did not come up: {what}\nIts log ends with:\n{log}")]
    NoService {
        /// How it failed.
        what: String,
        /// The end of its log.
        log: String,
    },
}

/// A running service.
pub struct ServiceProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: Folder,
}

/// A folder that is removed when it is dropped.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing can be done about what is left of it, and it lies where such things are swept
        // away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// A new folder among the temporary ones. Others may pass through it but not look.
    pub fn create() -> io::Result<Folder> {
        let name = format!("client-failover-{:08x}", fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let folder = Folder(path);
        // The service may run its database as another user.
        fs::set_permissions(&folder.0, Permissions::from_mode(0o711))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn log(&self) -> PathBuf {
        self.0.join("service.log")
    }
}

impl ServiceProcess {
    /// Starts that program as a service on a free port, with further flags for `serve`; its
    /// database is these flags' or a private one. Call this on a thread that stays, such as the one
    /// that runs `main`: the service ends with it.
    pub fn spawn(program: &Path, flags: &[OsString]) -> Result<ServiceProcess, ServiceProcessError> {
        let folder = Folder::create().map_err(ServiceProcessError::Folder)?;
        let log = File::create(folder.log()).map_err(ServiceProcessError::Folder)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.0.join("data"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in the terminal is for the caller alone, which then stops everything in order.
            .process_group(0);
        // What is set for a real service, its database above all, is not for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_service_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        end_with_parent(command.as_std_mut(), Signal::SIGTERM);
        let mut child = command.spawn().map_err(ServiceProcessError::Spawn)?;
        let stdout = child.stdout.take().ok_or_else(|| ServiceProcessError::Spawn(missing_pipe()))?;
        Ok(ServiceProcess { child, lines: BufReader::new(stdout).lines(), folder })
    }

    /// The id of the process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the service listens, and gives its address.
    pub async fn url(&mut self) -> Result<String, ServiceProcessError> {
        let failed = |what: String, log: &Path| ServiceProcessError::NoService { what, log: tail(log) };
        let log = self.folder.log();
        let found = time::timeout(START_LIMIT, async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(address) = line.trim().strip_prefix(LISTENING) {
                    return Ok(Some(format!("http://{address}")));
                }
            }
            Ok::<_, io::Error>(None)
        });
        match found.await {
            Ok(Ok(Some(url))) => Ok(url),
            Ok(Ok(None)) => {
                let status = time::timeout(STOP_LIMIT, self.child.wait()).await;
                let what = match status {
                    Ok(Ok(status)) => format!("it ended by itself ({status})"),
                    _ => "it closed its output".to_owned(),
                };
                Err(failed(what, &log))
            }
            Ok(Err(error)) => Err(failed(format!("its output could not be read: {error}"), &log)),
            Err(_) => {
                let limit = humantime::format_duration(START_LIMIT);
                Err(failed(format!("it did not listen within {limit}"), &log))
            }
        }
    }

    /// Stops the service and removes its folder.
    pub async fn stop(mut self) {
        self.ask_to_stop();
        if time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            // It cannot be killed only if it is gone.
            let _ = self.child.kill().await;
        }
    }

    fn ask_to_stop(&self) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It fails only for a process that is gone.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        // Not a kill: the service has a database to put away. After `stop` there is nobody to ask
        // any more.
        self.ask_to_stop();
    }
}

/// Where PostgreSQL's programs are is a matter of the machine, so that one stays.
fn is_service_setting(name: &str) -> bool {
    name == "DATABASE_URL" || name.starts_with("CLIENT_FAILOVER_") && name != "CLIENT_FAILOVER_POSTGRES_BIN_DIR"
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match lines.split_at(lines.len().saturating_sub(LOG_TAIL_LINES)).1 {
        [] => "  (it is empty)".to_owned(),
        last => last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"),
    }
}

/// A pipe that was asked for is there; this is what is said where it is not.
pub fn missing_pipe() -> io::Error {
    io::Error::other("a pipe to the new process is missing")
}
