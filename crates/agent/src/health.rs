//! How healthy the program is, and up to when it has sent data: asked of it, again and again.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_client::{Member, outgoing};
use client_failover_operator::output::complain;
use reqwest::{Client, Url};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use super::{AgentError, HealthArgs, shell};

/// The pause as long as the group's timeout is not known.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked at least, where the group's timeout is long.
const MOST_PAUSE: Duration = Duration::from_secs(10);
/// No time is longer.
const LONGEST_LINE: u64 = 256;

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
    let (mut was_well, mut has_complained) = (None, false);
    loop {
        if let Some(source) = &source {
            let asked = ask(source, args.health_timeout).await;
            let (percent, why) = match asked {
                Ok(percent) => (percent, None),
                Err(why) => (0, Some(why)),
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
            match time_from(command, args.health_timeout).await {
                Some(at) => member.set_data_sent(at),
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

async fn ask(source: &Source, within: Duration) -> Result<u8, String> {
    match source {
        Source::Url(http, url) => {
            let answer = timeout(within, http.get(url.clone()).send()).await;
            let answer = answer.map_err(|_| "its URL takes too long".to_owned())?;
            let answer = answer.map_err(|_| "its URL does not answer".to_owned())?;
            if answer.status().is_success() { Ok(100) } else { Err(format!("its URL answers {}", answer.status())) }
        }
        Source::Command(command) => {
            let said = output_of(command, within).await.map_err(|why| format!("its command {why}"))?;
            Ok(said.trim().parse::<u8>().map_or(100, |percent| percent.min(100)))
        }
    }
}

/// A time that a command prints.
async fn time_from(command: &str, within: Duration) -> Option<DateTime<Utc>> {
    output_of(command, within).await.ok()?.trim().parse().ok()
}

/// What a command prints that ends well.
async fn output_of(command: &str, within: Duration) -> Result<String, String> {
    let mut command = shell::command(command);
    command.stdout(Stdio::piped());
    shell::run(command, within).await
}

/// Takes each line for the time of data that was sent.
pub async fn follow(pipe: impl AsyncRead + Unpin, member: Member) {
    let mut reader = BufReader::new(pipe);
    let (mut line, mut has_complained) = (Vec::new(), false);
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => {
                complain("the data pipe cannot be read any more");
                return;
            }
            Ok(_) => {}
        }
        // What is no time is passed over: the program writes on, and has to be read.
        match std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok()) {
            Some(at) => member.set_data_sent(at),
            None if has_complained => {}
            None => {
                complain("a line of the data pipe is no time such as 2026-11-30T08:15:00Z");
                has_complained = true;
            }
        }
    }
}

/// When a file was written last.
fn written_at(path: &Path) -> Option<DateTime<Utc>> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok().map(DateTime::from)
}
