//! What a killed service or a killed server leaves: processes that still work on the data, and
//! files with the numbers of processes that are gone.
//!
//! Finds processes by what they are and where they work, never by a number in a file alone: such
//! a number may belong to anybody by now.

use std::fs;
use std::path::Path;

use super::PostgresError;

/// What `postmaster.pid` says.
#[derive(Debug, PartialEq, Eq)]
pub struct PidFile {
    pub pid: u32,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Accepts connections.
    Ready,
    /// Starts or stops.
    Underway,
    /// Somebody works on the data by hand, in PostgreSQL's single-user mode.
    SingleUser,
}

impl PidFile {
    pub fn read(cluster: &Path) -> Option<PidFile> {
        PidFile::parse(&fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
    }

    /// Line 1 is the process, negative in single-user mode; line 8 is the state.
    fn parse(text: &str) -> Option<PidFile> {
        let mut lines = text.lines();
        let number: i64 = lines.next()?.trim().parse().ok()?;
        let state = if number < 0 {
            State::SingleUser
        } else if lines.nth(6).is_some_and(|state| state.trim() == "ready") {
            State::Ready
        } else {
            State::Underway
        };
        Some(PidFile { pid: u32::try_from(number.unsigned_abs()).ok()?, state })
    }
}

/// Makes sure that nothing works on the cluster any more. Only for the holder of the directory's
/// lock, and only while it has no server of its own.
#[cfg(target_os = "linux")]
pub fn clear(cluster: &Path) -> Result<(), PostgresError> {
    linux::clear(cluster)
}

/// Without /proc nothing can be said for sure. PostgreSQL itself refuses to start beside another.
#[cfg(not(target_os = "linux"))]
pub fn clear(_cluster: &Path) -> Result<(), PostgresError> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use tracing::{info, warn};

    use super::{PidFile, PostgresError, State};

    /// For a server to shut down in order.
    const FAST_TIMEOUT: Duration = Duration::from_secs(8);
    /// For processes whose server is gone to notice.
    const ABANDONED_TIMEOUT: Duration = Duration::from_secs(1);
    /// For processes told to end at once.
    const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(6);

    const POLL_INTERVAL: Duration = Duration::from_millis(10);

    pub fn clear(cluster: &Path) -> Result<(), PostgresError> {
        let inode = match fs::metadata(cluster) {
            Ok(found) => Inode(found.dev(), found.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PostgresError::io("inspect", cluster)(error)),
        };
        let noted = PidFile::read(cluster);
        end_processes(cluster, inode, noted.as_ref())?;
        if let Some(noted) = noted {
            remove_misleading_pid_file(cluster, noted.pid)?;
        }
        Ok(())
    }

    fn end_processes(cluster: &Path, inode: Inode, noted: Option<&PidFile>) -> Result<(), PostgresError> {
        let found = processes(inode);
        if found.is_empty() {
            return Ok(());
        }
        let noted = noted.filter(|noted| found.contains(&noted.pid));
        if noted.is_some_and(|noted| noted.state == State::SingleUser) {
            return Err(remaining(cluster, &found));
        }
        let server = noted.map(|noted| noted.pid).filter(|pid| is_server(*pid));
        let timeout = if let Some(pid) = server {
            warn!(pid, directory = %cluster.display(), "stopping the server of an earlier service");
            send(pid, Signal::SIGINT);
            FAST_TIMEOUT
        } else {
            warn!(
                pids = %listed(&found),
                directory = %cluster.display(),
                "waiting for the processes of a killed server"
            );
            ABANDONED_TIMEOUT
        };
        if gone_within(inode, timeout) {
            return Ok(());
        }
        let found = processes(inode);
        warn!(pids = %listed(&found), "they take too long, telling them to end at once");
        for pid in found {
            send(pid, Signal::SIGQUIT);
        }
        if gone_within(inode, IMMEDIATE_TIMEOUT) {
            return Ok(());
        }
        Err(remaining(cluster, &processes(inode)))
    }

    fn remaining(cluster: &Path, pids: &[u32]) -> PostgresError {
        PostgresError::Remains { dir: cluster.to_owned(), pids: listed(pids) }
    }

    /// PostgreSQL takes a file with the number of a living process of its own account for the sign
    /// of a running server and does not start. Nothing runs here, so that process is somebody else;
    /// after a restart of the machine, or of a container, that is not rare. In all other cases the
    /// file stays, for PostgreSQL to judge.
    fn remove_misleading_pid_file(cluster: &Path, pid: u32) -> Result<(), PostgresError> {
        let path = cluster.join("postmaster.pid");
        if !Path::new("/proc").join(pid.to_string()).exists() {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                info!(pid, file = %path.display(), "removed the note of a server that is gone");
                Ok(())
            }
            // The server took it away while it ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(PostgresError::io("remove", path)(error)),
        }
    }

    /// A directory, whatever it is called: device and inode.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Inode(u64, u64);

    /// The PostgreSQL processes that work in `inode`. All of a server's do, from its first moments
    /// on. Those of other accounts stay unseen unless we are root, but they cannot enter it either.
    fn processes(inode: Inode) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| works_in(*pid, inode))
            .collect()
    }

    fn works_in(pid: u32, inode: Inode) -> bool {
        let process = Path::new("/proc").join(pid.to_string());
        let Ok(cwd) = fs::metadata(process.join("cwd")) else {
            return false;
        };
        if Inode(cwd.dev(), cwd.ino()) != inode {
            return false;
        }
        // Not the name alone: packagers wrap the program, and once an upgrade has removed its file
        // the kernel says so behind the name.
        fs::read_link(process.join("exe"))
            .is_ok_and(|program| program.file_name().is_some_and(|name| name.to_string_lossy().contains("postgres")))
    }

    /// Whether it is the server itself rather than one of its workers, which change their titles.
    fn is_server(pid: u32) -> bool {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|title| !title.is_empty() && !title.starts_with(b"postgres: "))
    }

    fn send(pid: u32, signal: Signal) {
        let Ok(raw) = i32::try_from(pid) else {
            return;
        };
        // Gone already is as good.
        if let Err(error) = kill(Pid::from_raw(raw), signal) {
            info!(pid, %signal, %error, "could not signal a process");
        }
    }

    fn gone_within(inode: Inode, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if processes(inode).is_empty() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn listed(pids: &[u32]) -> String {
        let texts: Vec<String> = pids.iter().map(ToString::to_string).collect();
        texts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_from_the_pid_file() {
        let text = |pid, state| format!("{pid}\n/data/pg\n1700000000\n5432\n/run\n\n  1 0\n{state}\n");
        let state = |text: &str| PidFile::parse(text).map(|file| (file.pid, file.state));
        assert_eq!(state(&text("4711", "ready   ")), Some((4711, State::Ready)));
        assert_eq!(state(&text("4711", "starting")), Some((4711, State::Underway)));
        assert_eq!(state("4711\n/data/pg\n"), Some((4711, State::Underway)));
        assert_eq!(state("-4711\n/data/pg\n"), Some((4711, State::SingleUser)));
        assert_eq!(state(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_no_server_is_left_alone_and_its_number_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let mut bystander = std::process::Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
        let pid_file = dir.path().join("postmaster.pid");
        fs::write(&pid_file, format!("{}\n", bystander.id())).unwrap();

        clear(dir.path()).unwrap();

        assert!(!pid_file.exists());
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}
