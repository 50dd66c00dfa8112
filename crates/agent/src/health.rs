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
    let mut was_well = None;
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

/// When a file was written last.
fn written_at(path: &Path) -> Option<DateTime<Utc>> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok().map(DateTime::from)
}
