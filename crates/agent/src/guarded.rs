//! The program, as the agent has it: behind its guardian.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use client_failover_client::MachineTime;
use tokio::task::JoinHandle;

use super::guardian::{self, MESSAGE_BYTES, Order, Report};
use super::line::Line;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with that code.
    Code(i64),
    /// By that signal.
    Signal(i64),
    /// It could not be started, for the reason of that number.
    NotStarted(i64),
    /// Its guardian was killed, and it with it.
    Unguarded,
}

/// A program that runs. It does not outlive this value, nor this process.
pub struct Guarded {
    /// Its guardian.
    line: Line,
    /// How many questions were asked, and which was answered last.
    asked: i64,
    heard_up_to: i64,
    /// What its guardian left behind, while that is killed.
    orphans: Option<JoinHandle<()>>,
    /// The part of a report that has come.
    heard: Vec<u8>,
    /// Its process id, which is that of its process group.
    pid: Option<i64>,
    /// Whether the end of the lease has killed it.
    pub was_too_late: bool,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file and its arguments.
    pub command: Vec<OsString>,
    /// What is in its environment besides.
    pub environment: Vec<(&'static str, OsString)>,
    /// Whether it is told its role on its standard input.
    pub takes_lines: bool,
    /// The name of its guardian: there is one at a time.
    pub guardian: String,
}

impl Program {
    /// Starts it. It is killed at that instant unless another one is said.
    pub fn start(&self, kill_at: MachineTime) -> io::Result<Guarded> {
        let mut command = Line::program()?;
        command.arg(guardian::ARGUMENT).arg(if self.takes_lines { "lines" } else { "quiet" }).arg(&self.guardian);
        command.args(&self.command).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // By them the agent is known to the service, and nobody else has to be.
        for secret in ["CLIENT_FAILOVER_TOKEN", "CLIENT_FAILOVER_PASSWORD"] {
            command.env_remove(secret);
        }
        let line = Line::start(&mut command)?;
        let (asked, heard_up_to, orphans) = (0, 0, None);
        let mut guarded =
            Guarded { line, asked, heard_up_to, orphans, heard: Vec::new(), pid: None, was_too_late: false };
        guarded.order(Order::KillAt(kill_at.0), &[]);
        Ok(guarded)
    }
}

impl Guarded {
    /// Has it killed at that instant.
    pub fn kill_at(&mut self, at: MachineTime) {
        self.order(Order::KillAt(at.0), &[]);
    }

    /// Has it killed by its end alone, and not by the clock.
    pub fn let_run(&mut self) {
        self.order(Order::KillAt(i64::MAX), &[]);
    }

    /// Sends it a signal.
    pub fn signal(&mut self, number: i64) {
        self.order(Order::Signal(number), &[]);
    }

    /// Kills it, with all that it has started.
    pub fn kill(&mut self) {
        self.order(Order::Kill, &[]);
    }

    /// Kills it, and its guardian, which may not be listening. What it has started besides is
    /// killed once the guardian is gone.
    pub fn kill_without_guardian(&mut self) {
        self.line.kill_both(self.pid);
    }

    /// Writes a line to its standard input.
    pub fn write_line(&mut self, line: &str) {
        let bytes = [line.as_bytes(), b"\n"].concat();
        self.order(Order::Line(i64::try_from(bytes.len()).unwrap_or(0)), &bytes);
    }

    /// Waits until it has ended, with all that it has started.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.next().await {
                return ended;
            }
        }
    }

    /// Takes one report; how the program ended, where that is one of it.
    async fn next(&mut self) -> Option<Ended> {
        match self.report().await {
            Some(Report::Started(pid)) => self.pid = Some(pid),
            Some(Report::EndHasCome) => self.was_too_late = true,
            Some(Report::Heard(number)) => self.heard_up_to = number,
            Some(Report::Ended(code)) => return Some(self.gone(Ended::Code(code))),
            Some(Report::EndedBy(signal)) => return Some(self.gone(Ended::Signal(signal))),
            Some(Report::NotStarted(error)) => return Some(self.gone(Ended::NotStarted(error))),
            None => {
                let ended = self.gone(Ended::Unguarded);
                let kill = self.line.killer();
                let orphans = self.orphans.get_or_insert_with(|| tokio::task::spawn_blocking(kill));
                let _ = orphans.await;
                return Some(ended);
            }
        }
        None
    }

    /// Waits until the guardian has done all that it was told, and then for so long; how the
    /// program ended, if it did meanwhile. `None` also where the guardian does not listen: then
    /// that is for whoever waits to see.
    pub async fn settles(&mut self, pause: Duration) -> Settled {
        self.asked += 1;
        let question = self.asked;
        self.order(Order::Ask(question), &[]);
        while self.heard_up_to < question {
            if let Some(ended) = self.next().await {
                return Settled::Ended(ended);
            }
        }
        match tokio::time::timeout(pause, self.ended()).await {
            Ok(ended) => Settled::Ended(ended),
            Err(_) => Settled::Heard,
        }
    }

    fn gone(&mut self, ended: Ended) -> Ended {
        // Nothing is left for it to do, or it is gone: a stopped one would never end by itself.
        let _ = self.line.guardian.kill();
        let _ = self.line.guardian.wait();
        ended
    }

    async fn report(&mut self) -> Option<Report> {
        while self.heard.len() < MESSAGE_BYTES {
            // Whatever has come stays where this is not waited for any more.
            match self.line.hear(&mut self.heard).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        let rest = self.heard.split_off(MESSAGE_BYTES);
        let bytes = std::mem::replace(&mut self.heard, rest);
        Report::from_bytes(bytes.try_into().ok()?)
    }

    fn order(&mut self, order: Order, more: &[u8]) {
        // Few and short, they find room; a guardian that takes none is stopped, and then the order
        // that it has last counts.
        let bytes = [&order.to_bytes()[..], more].concat();
        if !self.line.say(bytes) {
            tracing::warn!("the guardian does not listen: it is killed, and the program with it");
            let _ = self.line.guardian.kill();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.line.guardian.try_wait() {
            return;
        }
        // Where nobody has waited for its end: at the end of the line the guardian kills what it
        // guards. One that does not is killed, and its program with it.
        self.line.hang_up();
        for _ in 0..200 {
            if matches!(self.line.guardian.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill_without_guardian();
        let _ = self.line.guardian.wait();
        self.line.killer()();
    }
}

/// What came of telling a program something.
pub enum Settled {
    /// It has been told, and had the time to do it.
    Heard,
    /// It has ended.
    Ended(Ended),
}
