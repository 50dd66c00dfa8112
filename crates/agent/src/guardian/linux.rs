//! On Linux. Its memory is locked. Whatever the program has started is its descendant, also what
//! has left the program's process group: it takes over what loses its parent
//! (`PR_SET_CHILD_SUBREAPER`), and ends when no descendant is left.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use client_failover_children::end_with_parent;
use client_failover_client::MachineTime;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{LONGEST_LINE, MESSAGE_BYTES, NOW, Order, Report};

/// How long a program has to say that it handles a signal.
const HANDLER_TAKES: Duration = Duration::from_millis(500);

struct Guardian {
    agent: UnixStream,
    program: Pid,
    input: Option<ChildStdin>,
    kill_at: i64,
    timer: TimerFd,
    /// How the program ended, once it has.
    ended: Option<Report>,
}

pub fn guard(program: &[OsString], takes_lines: bool, name: &str) -> io::Result<()> {
    // The agent is at the other end of standard input.
    let agent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Whoever wants this to end ends the agent. These signals are not for it; a child's end is.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let told = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    set_child_subreaper(true)?;
    // Pages as they are used: the program that this is part of is larger than what is needed of it.
    // Where it is not allowed, it may be swapped out like anything else.
    const ON_FAULT: i32 = 4;
    // What is needed at the end is used once before, so that nothing is read from a disk then.
    let _ = descendants();
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    let _ = mlockall(MlockAllFlags::from_bits_retain(flags.bits() | ON_FAULT));

    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let [file, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut command = Command::new(file);
    command.args(arguments).process_group(0);
    command.stdin(if takes_lines { Stdio::piped() } else { Stdio::null() });
    // Killed itself, it takes the program along; this thread is the only one.
    end_with_parent(&mut command, Signal::SIGKILL);
    let mut guardian = Guardian {
        agent,
        program: Pid::from_raw(0),
        input: None,
        // Before anything runs it is known until when.
        kill_at: i64::MAX,
        timer,
        ended: None,
    };
    guardian.hear()?;
    // The name goes with this process, and only with it.
    let _name = loop {
        if MachineTime::now().0 >= guardian.kill_at {
            guardian.report(Report::EndHasCome);
            guardian.report(Report::EndedBy(Signal::SIGKILL as i64));
            return Ok(());
        }
        if let Some(name) = take_name(name)? {
            break name;
        }
        // That of an agent that was killed has not ended yet, and neither has what it guards.
        if guardian.has_order(PollTimeout::from(10u8))? && guardian.hear().is_err() {
            return Ok(());
        }
    };
    // A program inherits what is blocked. One that ends before it is blocked again is found all the
    // same: it is looked for before anything is waited for.
    signals.thread_unblock()?;
    let spawned = command.spawn();
    signals.thread_block()?;
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            guardian.report(Report::NotStarted(error.raw_os_error().unwrap_or(0).into()));
            return Ok(());
        }
    };
    guardian.program = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    guardian.input = child.stdin.take();
    guardian.report(Report::Started(child.id().into()));
    guardian.watch(&told)
}

impl Guardian {
    fn watch(&mut self, told: &SignalFd) -> io::Result<()> {
        loop {
            let is_there = self.reap();
            if self.ended.is_some() || !is_there {
                // What it left behind would act on, and nobody would know.
                self.kill_all();
                self.report_end();
                return Ok(());
            }
            // What was said while this process was held up counts before the clock does.
            while self.has_order(PollTimeout::ZERO)? {
                if self.hear().is_err() {
                    // The agent is gone: nobody renews the lease.
                    self.kill_all();
                    return Ok(());
                }
            }
            if MachineTime::now().0 >= self.kill_at {
                self.report(Report::EndHasCome);
                self.kill_all();
                self.report_end();
                return Ok(());
            }
            let mut files = [
                PollFd::new(self.agent.as_fd(), PollFlags::POLLIN),
                PollFd::new(told.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            while matches!(told.read_signal(), Ok(Some(_))) {}
        }
    }

    fn has_order(&self, within: PollTimeout) -> io::Result<bool> {
        let mut files = [PollFd::new(self.agent.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, within) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes one order.
    fn hear(&mut self) -> io::Result<()> {
        let mut bytes = [0; MESSAGE_BYTES];
        self.agent.read_exact(&mut bytes)?;
        match Order::from_bytes(bytes).ok_or(io::ErrorKind::InvalidData)? {
            // What is to be killed stays so.
            Order::KillAt(_) if self.kill_at == NOW => {}
            Order::KillAt(at) => {
                self.kill_at = at;
                self.set_timer()?;
            }
            // There is none yet: one that is not begun need not be ended.
            Order::Signal(_) | Order::Line(_) if self.program.as_raw() == 0 => self.kill_at = NOW,
            Order::Signal(number) => {
                let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
                let done = signal.map(|signal| match signal {
                    // To all of it: a shell does not pass it on.
                    Signal::SIGTERM => killpg(self.program, signal),
                    // Whoever has no handler is killed by it: only the program said that it has
                    // one.
                    _ => self.tell_by(signal),
                });
                if done.is_none_or(|done| done.is_err()) {
                    self.kill_at = NOW;
                }
            }
            Order::Kill => self.kill_at = NOW,
            Order::Line(bytes) => {
                let mut line = vec![0; usize::try_from(bytes).unwrap_or(0).min(LONGEST_LINE)];
                self.agent.read_exact(&mut line)?;
                // One that does not read what it is told is not told to stop, either.
                if !self.input.as_mut().is_some_and(|input| write_if_room(input, &line)) {
                    self.kill_at = NOW;
                }
            }
            Order::Ask(number) => self.report(Report::Heard(number)),
        }
        Ok(())
    }

    /// Sends it a signal once it has a handler for it: one that has just begun has none yet, and
    /// would be killed.
    fn tell_by(&self, signal: Signal) -> nix::Result<()> {
        let until = MachineTime::now().plus(HANDLER_TAKES).min(MachineTime(self.kill_at));
        while !handles(self.program, signal) && MachineTime::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        kill(self.program, signal)
    }

    fn set_timer(&self) -> io::Result<()> {
        match self.kill_at {
            i64::MAX => self.timer.unset()?,
            at => {
                let at = TimeSpec::from_duration(Duration::from_micros(u64::try_from(at).unwrap_or(0).max(1)));
                self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, report: Report) {
        // Where nobody hears it, nobody is there.
        let _ = self.agent.write_all(&report.to_bytes());
    }

    fn report_end(&mut self) {
        let ended = self.ended.unwrap_or(Report::EndedBy(Signal::SIGKILL as i64));
        self.report(ended);
    }

    /// Takes note of all that have ended; whether some are left.
    fn reap(&mut self) -> bool {
        loop {
            let (pid, report) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Report::Ended(code.into())),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Report::EndedBy(signal as i64)),
                Ok(WaitStatus::StillAlive) => return true,
                Err(Errno::ECHILD) => return false,
                // Among them one that has ended by a signal that has no name here.
                Ok(_) | Err(_) => {
                    if self.ended.is_none() && kill(self.program, None) == Err(Errno::ESRCH) {
                        self.ended = Some(Report::EndedBy(0));
                    }
                    continue;
                }
            };
            if pid == self.program {
                self.ended = Some(report);
            }
        }
    }

    /// Kills all that the program has started, and waits until it is gone.
    fn kill_all(&mut self) {
        let mut pause = Duration::from_micros(200);
        let mut known = 0;
        loop {
            if self.ended.is_none() {
                let _ = killpg(self.program, Signal::SIGKILL);
            }
            // One that is started meanwhile is found the next time.
            let found = descendants();
            for pid in &found {
                let _ = kill(*pid, Signal::SIGKILL);
            }
            if !self.reap() {
                return;
            }
            // Where there are more and more, nothing is waited for.
            if found.len() <= known {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            known = found.len();
        }
    }
}

/// Writes it all, unless the reader has left too much unread.
fn write_if_room(input: &mut ChildStdin, line: &[u8]) -> bool {
    // A pipe takes a short text whole or not at all, and this one must not be waited for.
    let mut files = [PollFd::new(input.as_fd(), PollFlags::POLLOUT)];
    let has_room = poll(&mut files, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    has_room && files[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT)) && {
        let _ = files;
        input.write_all(line).is_ok()
    }
}

/// Whose guardians these are: a name of another account's is another one.
pub fn account() -> String {
    nix::unistd::getuid().to_string()
}

/// Takes that name, for as long as what is returned is kept; `None` where another guardian has it.
pub fn take_name(name: &str) -> io::Result<Option<UnixListener>> {
    // In no folder: whoever has it, has it until the process is gone, however that ends.
    match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process has a handler for a signal.
fn handles(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught & (1 << (signal as i32 - 1)) != 0
}

/// All below this process, as far as they can be seen.
fn descendants() -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name is in parentheses, and may hold some itself.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![nix::unistd::getpid().as_raw()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, above)| *above == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

/// Kills what a guardian that was killed has left behind, and waits until it is gone: all that this
/// process has taken over since, but for what it has started itself.
pub fn kill_orphans(spared: &[Pid]) {
    let mut empty = 0;
    // One that is between two parents is not seen: it is looked for twice.
    while empty < 2 {
        let left: Vec<Pid> = descendants().into_iter().filter(|pid| !spared.contains(pid)).collect();
        empty = if left.is_empty() { empty + 1 } else { 0 };
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        thread::sleep(Duration::from_millis(1));
    }
}
