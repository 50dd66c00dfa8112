//! Processes that are started here and end with whoever started them: the private PostgreSQL of the
//! service, and the service itself for the demo and the benchmark.
//!
//! A child is stopped in order by its owner. What is here besides is for the owner that is killed
//! and can do it no longer.

#[cfg(unix)]
use std::process::Command;

#[cfg(unix)]
use nix::sys::signal::Signal;

#[cfg(unix)]
pub use service::{Folder, ServiceProcess, ServiceProcessError, missing_pipe};
pub use tree::Tree;

#[cfg(unix)]
mod service;
mod tree;
#[cfg(windows)]
pub mod windows;

/// Ties the child's life to the thread that starts it. The kernel goes by the thread, not the
/// process: call this only on a thread that stays until the child is gone. Elsewhere than on Linux
/// an abandoned child stays.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "pre_exec has no safe counterpart")]
pub fn end_with_parent(command: &mut Command, signal: Signal) {
    use std::os::unix::process::CommandExt as _;

    use nix::errno::Errno;
    use nix::sys::prctl::set_pdeathsig;
    use nix::unistd::{getpid, getppid};

    let parent = getpid();
    let hook = move || -> std::io::Result<()> {
        // After a change of account, which would clear it again; the standard library runs these
        // hooks last.
        set_pdeathsig(signal)?;
        // The parent may have died before the line above, and then no signal will ever come.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec in a process with threads only async-signal-safe functions may
    // be called. The hook makes two plain system calls, prctl and getppid, and builds an io::Error
    // from an error number, which does not allocate; what it captures is Copy and has no
    // destructor.
    unsafe {
        command.pre_exec(hook);
    }
}

/// Elsewhere than on Linux an abandoned child stays.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn end_with_parent(_command: &mut Command, _signal: Signal) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let child = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("600");
            end_with_parent(&mut command, Signal::SIGKILL);
            command.spawn().expect("every system has sleep")
        });
        let mut child = child.join().expect("it does not panic");
        let begin = Instant::now();
        while child.try_wait().expect("it is ours").is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the child lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_child_whose_parent_stays_runs_on() {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        end_with_parent(&mut command, Signal::SIGKILL);
        let mut child = command.spawn().expect("every system has cat");
        std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), b"here\n").expect("it reads");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it answers");
        assert_eq!(line, "here\n");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), Signal::SIGKILL).expect("it is there");
        child.wait().expect("it is ours");
    }
}
