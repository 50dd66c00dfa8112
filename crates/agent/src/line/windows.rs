use std::io::{self, Write as _};
use std::os::windows::io::AsRawHandle as _;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use client_failover_children::windows::{self, Job};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use crate::guardian::Order;

/// How many orders may be on their way.
const ROOM: usize = 64;

pub struct Line {
    pub guardian: Child,
    /// The guardian, and all that it has started. It ends with this process.
    job: Arc<Job>,
    reports: ChildStdout,
    /// To a thread that may wait until they are taken.
    orders: Option<SyncSender<Vec<u8>>>,
}

impl Line {
    /// The file that this process was started from.
    pub fn program() -> io::Result<Command> {
        Ok(Command::new(std::env::current_exe()?))
    }

    /// Starts a guardian.
    pub fn start(command: &mut Command) -> io::Result<Line> {
        let job = Job::new()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).creation_flags(windows::guardian_flags());
        let mut guardian = command.spawn()?;
        // It starts nothing before it has an order: all that it starts is in the job.
        if let Err(error) = job.take(guardian.as_raw_handle()) {
            let _ = guardian.kill();
            return Err(error);
        }
        let (Some(mut stdin), Some(stdout)) = (guardian.stdin.take(), guardian.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (orders, to_write) = sync_channel::<Vec<u8>>(ROOM);
        thread::spawn(move || {
            while let Ok(order) = to_write.recv() {
                if stdin.write_all(&order).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        let output = windows::hand_over(io::stdout().as_raw_handle(), guardian.as_raw_handle()).unwrap_or(0);
        let mut line =
            Line { guardian, job: Arc::new(job), reports: ChildStdout::from_std(stdout)?, orders: Some(orders) };
        line.say(Order::Output(output).to_bytes().to_vec());
        Ok(line)
    }

    /// Says something, at once and whole; whether it could be said.
    pub fn say(&mut self, bytes: Vec<u8>) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(bytes).is_ok())
    }

    /// Waits for what is said; nothing more comes at its end.
    pub async fn hear(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.reports.read_buf(into).await
    }

    /// Closes the line.
    pub fn hang_up(&mut self) {
        self.orders = None;
    }

    /// Kills the program and the guardian.
    pub fn kill_both(&mut self, _program: Option<i64>) {
        self.job.kill();
    }

    /// What kills all that a guardian that is gone has left behind, and waits for it.
    pub fn killer(&self) -> impl FnOnce() + Send + 'static {
        let job = self.job.clone();
        move || {
            job.kill();
            while !matches!(job.is_empty(), Ok(true)) {
                thread::sleep(Duration::from_millis(1));
                job.kill();
            }
        }
    }
}
