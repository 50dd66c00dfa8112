//! A process with what it starts, to be ended as one.

use std::io;

use tokio::process::{Child, Command};

/// A process's group; on Windows, the job that it and all below it are in.
pub struct Tree(Kept);

#[cfg(unix)]
type Kept = nix::unistd::Pid;
#[cfg(windows)]
type Kept = (super::windows::Job, u32);

impl Tree {
    /// Starts a process as the first of its tree.
    ///
    /// # Errors
    ///
    /// It cannot be started, or not be held.
    #[cfg(unix)]
    pub fn spawn(command: &mut Command) -> io::Result<(Child, Tree)> {
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
        Ok((child, Tree(nix::unistd::Pid::from_raw(id))))
    }

    /// Asks all of it to end.
    #[cfg(unix)]
    pub fn ask_to_end(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    /// Kills all of it.
    #[cfg(unix)]
    pub fn kill(&self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Sends all of it that signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        // It fails only where nobody is left.
        let _ = nix::sys::signal::killpg(self.0, signal);
    }

    /// Starts a process as the first of its tree.
    ///
    /// # Errors
    ///
    /// It cannot be started, or not be held.
    #[cfg(windows)]
    pub fn spawn(command: &mut Command) -> io::Result<(Child, Tree)> {
        let job = super::windows::Job::new()?;
        let mut child = command.creation_flags(super::windows::HELD_GROUP).spawn()?;
        let handle = child.raw_handle().ok_or(io::ErrorKind::NotFound)?;
        let id = child.id().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = job.take_and_let_run(handle, id) {
            let _ = child.start_kill();
            return Err(error);
        }
        Ok((child, Tree((job, id))))
    }

    /// Asks the first of it to end, and who shares its group.
    #[cfg(windows)]
    pub fn ask_to_end(&self) {
        // One that has no console is not asked, and is killed when its time is over.
        let _ = super::windows::ask_to_end(self.0.1);
    }

    /// Kills all of it.
    #[cfg(windows)]
    pub fn kill(&self) {
        self.0.0.kill();
    }
}
