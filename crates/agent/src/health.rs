//! How healthy the program is, and up to when it has sent data: asked of it, again and again.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_client::{Member, outgoing};
use client_failover_operator::output::complain;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use reqwest::{Client, Url};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{AgentError, HealthArgs};

/// The pause as long as the group's timeout is not known.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked at least, where the group's timeout is long.
const MOST_PAUSE: Duration = Duration::from_secs(10);

impl HealthArgs {
    /// Whether anybody is asked how healthy the program is.
    pub fn is_given(&self) -> bool {
        self.health_url.is_some() || self.health_command.is_some()
    }
}

enum Source {
    Url(Client, Url),
    Command(String),
}

/// Keeps the member up to date for as long as this is waited for.
pub async fn watch(args: HealthArgs, member: Member, is_resting: Arc<AtomicBool>) -> Result<(), AgentError> {
    let source = match (&args.health_url, &args.health_command) {
        (Some(url), _) => {
            let url = Url::parse(url).map_err(|_| AgentError::Usage(format!("'{url}' is not a URL")))?;
            let http = outgoing::client(&url, Client::builder).map_err(|error| AgentError::Usage(error.to_string()))?;
            Some(Source::Url(http, url))
        }
        (None, Some(command)) => Some(Source::Command(command.clone())),
        (None, None) => None,
    };
    if let Some(path) = &args.data_pipe {
        let pipe = open_pipe(path).map_err(AgentError::io(format!("{} cannot be a pipe", path.display())))?;
        tokio::spawn(follow(pipe, member.clone()));
    }
    let (mut was_well, mut has_complained) = (None, false);
    loop {
        if let Some(source) = &source {
            let asked = timeout(args.health_timeout, ask(source)).await;
            let (percent, why) = match asked {
                Ok(Ok(percent)) => (percent, None),
                Ok(Err(why)) => (0, Some(why)),
                Err(_) => (0, Some("it takes too long".to_owned())),
            };
            if was_well != Some(percent > 0) {
                match why {
                    Some(why) => complain(&format!("the program is not healthy: {why}")),
                    None => complain(&format!("the program is healthy: {percent} %")),
                }
            }
            was_well = Some(percent > 0);
            // Whoever has given the role up does not want it back yet.
            member.set_health(if is_resting.load(Ordering::Relaxed) { 0 } else { percent });
        }
        if let Some(at) = args.data_file.as_deref().and_then(written_at) {
            member.set_data_sent(at);
        }
        if let Some(command) = &args.data_command {
            match timeout(args.health_timeout, time_from(command)).await {
                Ok(Some(at)) => member.set_data_sent(at),
                _ if has_complained => {}
                _ => {
                    complain(
                        "the command for the time of the last data does not print one, such as 2026-11-30T08:15:00Z",
                    );
                    has_complained = true;
                }
            }
        }
        let half = member.timeout().map_or(FIRST_PAUSE, |timeout| timeout / 2);
        sleep(half.min(MOST_PAUSE)).await;
    }
}

async fn ask(source: &Source) -> Result<u8, String> {
    match source {
        Source::Url(http, url) => {
            let answer = http.get(url.clone()).send().await.map_err(|_| "its URL does not answer".to_owned())?;
            if answer.status().is_success() { Ok(100) } else { Err(format!("its URL answers {}", answer.status())) }
        }
        Source::Command(command) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
            let output = shell.output().await.map_err(|error| format!("its command cannot be run: {error}"))?;
            if !output.status.success() {
                return Err(format!("its command failed: {}", output.status));
            }
            let said = String::from_utf8_lossy(&output.stdout);
            Ok(said.trim().parse::<u8>().map_or(100, |percent| percent.min(100)))
        }
    }
}

/// A time that a command prints.
async fn time_from(command: &str) -> Option<DateTime<Utc>> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = shell.output().await.ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// A named pipe, made where there is none. It is held open for writing as well, so that it has no
/// end when the program has one.
fn open_pipe(path: &Path) -> std::io::Result<pipe::Receiver> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    pipe::OpenOptions::new().read_write(true).open_receiver(path)
}

/// Takes each line for data that was sent: at the time that it says, or now where it is empty.
async fn follow(pipe: pipe::Receiver, member: Member) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(line) = lines.next_line().await {
        let Some(line) = line else { return };
        match line.trim() {
            "" => member.set_data_sent(now()),
            text => match text.parse() {
                Ok(at) => member.set_data_sent(at),
                Err(_) => tracing::warn!("a line of the data pipe is no time"),
            },
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a client's data is its own")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// When a file was written last.
fn written_at(path: &Path) -> Option<DateTime<Utc>> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok().map(DateTime::from)
}
