//! The file that the server and initdb write to, kept to a bounded size, and its last words for
//! messages.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tracing::warn;

use super::PostgresError;
use super::directory::private_file;

/// The size from which the file is set aside. One older file of about this size is kept.
const LARGE: u64 = 8 * 1024 * 1024;

/// How much of the end is looked at, and how many lines of it go into a message.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 6;

#[derive(Debug)]
pub struct ServerLog {
    path: PathBuf,
    file: File,
}

impl ServerLog {
    pub fn open(path: PathBuf) -> Result<ServerLog, PostgresError> {
        let file = private_file(&path, OpenOptions::new().read(true).append(true))?;
        let log = ServerLog { path, file };
        log.set_aside_if_large();
        Ok(log)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for a child process to write to.
    pub fn for_child(&self) -> Result<Stdio, PostgresError> {
        self.file.try_clone().map(Stdio::from).map_err(PostgresError::io("open", &self.path))
    }

    /// Where what comes next will begin.
    pub fn end(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len())
    }

    /// Keeps the size bounded. The server has the file open, so it is copied and emptied rather
    /// than renamed; a line written in between may be lost.
    pub fn set_aside_if_large(&self) {
        if self.end() <= LARGE {
            return;
        }
        if let Err(error) = self.copy_aside() {
            warn!(log = %self.path.display(), %error, "cannot keep the old server log, emptying it");
        }
        if let Err(error) = self.file.set_len(0) {
            warn!(log = %self.path.display(), %error, "cannot empty the server log");
        }
    }

    fn copy_aside(&self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        let mut target =
            private_file(Path::new(&older), OpenOptions::new().write(true).truncate(true)).map_err(io::Error::other)?;
        let mut source = self.file.try_clone()?;
        // All writers append, so moving the shared position disturbs nobody.
        source.seek(SeekFrom::Start(0))?;
        io::copy(&mut source.take(2 * LARGE), &mut target)?;
        Ok(())
    }

    /// The last lines written since `start`, as one.
    pub fn tail(&self, start: u64) -> String {
        let end = self.end();
        let start = if start > end { 0 } else { start };
        let from = start.max(end.saturating_sub(TAIL_BYTES));
        let length = usize::try_from(end - from).unwrap_or(0);
        let mut bytes = vec![0; length];
        if let Err(error) = self.file.read_exact_at(&mut bytes, from) {
            return format!("its log cannot be read: {error}");
        }
        one_line(&String::from_utf8_lossy(&bytes))
    }
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines[lines.len().saturating_sub(TAIL_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log_in(dir: &Path) -> ServerLog {
        ServerLog::open(dir.join("postgres.log")).unwrap()
    }

    #[test]
    fn the_tail_is_what_came_since_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path());
        (&log.file).write_all(b"before\n").unwrap();
        let start = log.end();
        assert_eq!(log.tail(start), "it said nothing");
        (&log.file).write_all(b"one\n\n two\n").unwrap();
        assert_eq!(log.tail(start), "one | two");
    }

    #[test]
    fn a_large_log_is_set_aside_while_others_write_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path());
        let mut child = log.file.try_clone().unwrap();
        let large = vec![b'x'; usize::try_from(LARGE).unwrap() + 1];
        child.write_all(&large).unwrap();
        let start = log.end();
        log.set_aside_if_large();
        child.write_all(b"after\n").unwrap();

        assert_eq!(std::fs::read(dir.path().join("postgres.log.1")).unwrap(), large);
        assert_eq!(std::fs::read(dir.path().join("postgres.log")).unwrap(), b"after\n");
        assert_eq!(log.tail(start), "after");
    }
}
