//! How a program is told its role, by what it can take.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use client_failover_client::Lease;
use client_failover_operator::output::complain;
use serde_json::json;
use tokio::sync::watch;

use super::guarded::Guarded;
use super::{AgentError, TellingArgs, shell, system};

/// The role, as it was told last.
#[derive(Clone, Debug)]
pub struct Told {
    /// The right to act, while there is one.
    pub lease: Option<Lease>,
    /// The term of the last right.
    pub term: i64,
}

impl Told {
    /// Nothing yet.
    pub fn nothing() -> Told {
        Told { lease: None, term: 0 }
    }

    /// Whether it may act at this instant.
    pub fn is_primary(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.check().is_ok())
    }

    fn role(&self) -> &'static str {
        if self.is_primary() { "Primary" } else { "Secondary" }
    }

    /// As a document.
    pub fn to_json(&self) -> String {
        json!({ "Role": self.role(), "Term": self.term }).to_string() + "\n"
    }

    /// As variables of an environment.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [
            ("CLIENT_FAILOVER_ROLE", self.role().to_lowercase().into()),
            ("CLIENT_FAILOVER_TERM", self.term.to_string().into()),
        ]
    }
}

/// Everything that is told.
pub struct Telling {
    args: TellingArgs,
    signals: [Option<i64>; 2],
    told: watch::Sender<Told>,
}

impl Telling {
    /// As it was asked for.
    pub fn new(args: TellingArgs) -> Result<Telling, AgentError> {
        let signals = [&args.signal_secondary, &args.signal_primary];
        let numbers = signals.map(|name| name.as_deref().map(system::signal_named).transpose());
        let [secondary, primary] = numbers.map(|number| number.map_err(AgentError::Usage));
        Ok(Telling { signals: [secondary?, primary?], args, told: watch::Sender::new(Told::nothing()) })
    }

    /// What was told last, and whatever is told next.
    pub fn follow(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Whether lines go to the program's standard input.
    pub fn takes_lines(&self) -> bool {
        self.args.stdin_lines
    }

    /// How long the program may act on after it was told to stop.
    pub fn stops_within(&self) -> Duration {
        self.args.stops_within
    }

    /// Writes down that nothing was told yet, before there is anybody who reads it.
    pub async fn begin(&self) -> std::io::Result<()> {
        self.told.send_replace(Told::nothing());
        match &self.args.status_file {
            Some(path) => replace(path, &Told::nothing().to_json()).await,
            None => Ok(()),
        }
    }

    /// Tells the role in every way that was asked for; whether all of it could be told, as far as
    /// that is known here: what goes by the guardian it says itself. `hook_within` is how long a
    /// command may take.
    pub async fn tell(&self, told: Told, program: Option<&mut Guarded>, hook_within: Duration) -> bool {
        self.told.send_replace(told.clone());
        let is_primary = told.is_primary();
        let mut is_told = true;
        if let Some(path) = &self.args.status_file
            && let Err(error) = replace(path, &told.to_json()).await
        {
            complain(&format!("the status file cannot be written: {error}"));
            is_told = false;
        }
        if let Some(program) = program {
            if self.args.stdin_lines {
                program.write_line(&format!("{} {}", told.role(), told.term));
            }
            if let Some(signal) = self.signals[usize::from(is_primary)] {
                program.signal(signal);
            }
        }
        let hook = if is_primary { &self.args.on_primary } else { &self.args.on_secondary };
        if let Some(hook) = hook {
            is_told &= run_hook(hook, &told, hook_within).await;
        }
        is_told
    }
}

/// Nobody reads half of it.
async fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}

/// Runs a command to its end; whether it did what it was to do.
async fn run_hook(hook: &str, told: &Told, within: Duration) -> bool {
    let mut command = shell::command(hook);
    command.envs(told.environment());
    match shell::run(command, within).await {
        Ok(_) => true,
        Err(why) => {
            complain(&format!("the command '{hook}' {why}"));
            false
        }
    }
}
