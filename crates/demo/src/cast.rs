//! The adapters' processes: started, told, killed, and never left behind.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use client_failover_client::MachineTime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time;

use super::event::Report;
use super::{DemoAdapterArgs, DemoError};
use client_failover_children::missing_pipe;

/// How many lines of an adapter's complaints are kept to explain its end.
const LAST_WORDS_LINES: usize = 5;
const QUIT_LIMIT: Duration = Duration::from_secs(3);

/// What comes from an adapter's process.
#[derive(Debug)]
pub struct Message {
    /// Which adapter.
    pub adapter: usize,
    /// What.
    pub news: News,
}

/// See [`Message`].
#[derive(Debug)]
pub enum News {
    /// A line of its record.
    Told(Report),
    /// There is nothing more to come: the process has ended.
    Ended {
        /// What it wrote to its standard error last.
        last_words: String,
    },
}

struct Player {
    args: DemoAdapterArgs,
    process: Option<(Child, ChildStdin)>,
}

/// All adapters. Their processes are killed when this is dropped.
pub struct Cast {
    players: Vec<Player>,
    sender: mpsc::UnboundedSender<Message>,
}

impl Cast {
    /// Adapters that are not started yet, and where their messages will come.
    pub fn new(args: Vec<DemoAdapterArgs>) -> (Cast, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let players = args.into_iter().map(|args| Player { args, process: None }).collect();
        (Cast { players, sender }, receiver)
    }

    /// Starts an adapter and gives the id of its process.
    pub fn start(&mut self, adapter: usize) -> Result<u32, DemoError> {
        let program = std::env::current_exe().map_err(DemoError::Spawn)?;
        let player = &mut self.players[adapter];
        let mut child = Command::new(program)
            .arg("demo-adapter")
            .args(player.args.to_flags())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the demo alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::Spawn)?;
        let (Some(stdin), Some(stdout), Some(stderr), Some(id)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take(), child.id())
        else {
            return Err(DemoError::Spawn(missing_pipe()));
        };
        player.process = Some((child, stdin));

        let last_words = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            let mut last = VecDeque::new();
            while let Ok(Some(line)) = lines.next_line().await {
                last.push_back(line);
                if last.len() > LAST_WORDS_LINES {
                    last.pop_front();
                }
            }
            Vec::from(last).join("\n")
        });
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(report) = serde_json::from_str(&line) {
                    // Where nobody listens any more, the demo is over.
                    let _ = sender.send(Message { adapter, news: News::Told(report) });
                }
            }
            let last_words = last_words.await.unwrap_or_default();
            let _ = sender.send(Message { adapter, news: News::Ended { last_words } });
        });
        Ok(id)
    }

    /// Kills an adapter's process as `kill -9` does. Gives an instant at which it was certainly
    /// gone.
    pub async fn kill(&mut self, adapter: usize) -> Result<MachineTime, DemoError> {
        if let Some((mut child, _)) = self.players[adapter].process.take() {
            child.kill().await.map_err(DemoError::Kill)?;
        }
        Ok(MachineTime::now())
    }

    /// Sets the health that an adapter reports from now on.
    pub async fn set_health(&mut self, adapter: usize, percent: u8) -> Result<(), DemoError> {
        if let Some((_, stdin)) = &mut self.players[adapter].process {
            stdin.write_all(format!("health {percent}\n").as_bytes()).await.map_err(DemoError::Tell)?;
        }
        Ok(())
    }

    /// Lets an adapter leave in order.
    pub async fn quit(&mut self, adapter: usize) {
        let Some((mut child, mut stdin)) = self.players[adapter].process.take() else { return };
        // One that cannot be told is gone already.
        let _ = stdin.write_all(b"quit\n").await;
        drop(stdin);
        if time::timeout(QUIT_LIMIT, child.wait()).await.is_err() {
            // It cannot be killed only if it is gone.
            let _ = child.kill().await;
        }
    }
}
