use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::guardian;

pub struct Line {
    pub guardian: Child,
    reports: UnixStream,
    /// The same, to write to: at once, or not at all.
    orders: StdUnixStream,
}

impl Line {
    /// The file that this process was started from, also where another has taken its place.
    pub fn program() -> io::Result<Command> {
        Ok(Command::new("/proc/self/exe"))
    }

    /// Starts a guardian.
    pub fn start(command: &mut Command) -> io::Result<Line> {
        let (ours, theirs) = StdUnixStream::pair()?;
        // What a terminal sends to the agent is not for the guardian.
        command.stdin(std::os::fd::OwnedFd::from(theirs)).process_group(0);
        let guardian = command.spawn()?;
        ours.set_nonblocking(true)?;
        let orders = ours.try_clone()?;
        Ok(Line { guardian, reports: UnixStream::from_std(ours)?, orders })
    }

    /// Says something, at once and whole; whether it could be said.
    pub fn say(&mut self, bytes: Vec<u8>) -> bool {
        matches!(self.orders.write(&bytes), Ok(written) if written == bytes.len())
    }

    /// Waits for what is said; nothing more comes at its end.
    pub async fn hear(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.reports.read_buf(into).await
    }

    /// Closes the line.
    pub fn hang_up(&mut self) {
        let _ = self.orders.shutdown(Shutdown::Both);
    }

    /// Kills the program, whose process id that is, and then the guardian.
    pub fn kill_both(&mut self, program: Option<i64>) {
        if let Some(pid) = program.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.guardian.kill();
    }

    /// What kills all that a guardian that is gone has left behind, and waits for it.
    pub fn killer(&self) -> impl FnOnce() + Send + 'static {
        // What the guardian had taken over is this process's now.
        || guardian::kill_orphans(&[])
    }
}
