//! Switch-overs: asked for, waited for, and taken back.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client_failover_wire::ids::SessionId;
use reqwest::Method;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::confirmation::ConfirmArgs;
use super::output::{Format, Printer, complain, exact_duration, printable};
use super::status::{GroupStatus, elapsed_ms};
use super::wish::clock_time;
use super::wishes::{Ground, Outlook, Request, read_span, say};
use super::{Common, OperatorError, session_id};

/// How often is looked whether it has come about.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

/// How long beyond its end is waited, to see that end.
const GRACE: Duration = Duration::from_secs(1);

/// For how many timeouts is waited for what has no end of its own.
const TIMEOUTS: f64 = 2.0;

/// To whom, and how. The Primary yields with its next heartbeat, and is waited for; if it is
/// healthier, it takes over again afterwards: exclude it to prevent that.
#[derive(Debug, Args)]
pub struct SwitchOverArgs {
    /// The group
    group: String,
    /// The session that is to be Primary [default: the best of the others]
    #[arg(long, value_name = "SESSION")]
    to: Option<String>,
    /// Give it up after so long, such as 30s [default: two failover timeouts]
    #[arg(long = "for", value_name = "TIME", value_parser = read_span)]
    lasts: Option<String>,
    /// Take back one that has not come about yet
    #[arg(long, conflicts_with_all = ["to", "lasts", "wait"])]
    cancel: bool,
    /// Wait for so long at most until it has come about; 0 returns at once [default: until it is
    /// given up]
    #[arg(long, value_name = "SECONDS", value_parser = read_wait, conflicts_with = "dry_run")]
    wait: Option<Duration>,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(rename = "For", skip_serializing_if = "Option::is_none")]
    lasts: Option<&'a str>,
}

/// How long to wait: in seconds, or with a unit.
fn read_wait(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| format!("{error}; give seconds, such as 20")),
    }
}

/// Has another session be Primary, or no longer.
pub async fn run(args: SwitchOverArgs) -> Result<ExitCode, OperatorError> {
    let ground = Ground::settle(&args.common, &args.group)?;
    if args.cancel {
        return cancel(&args, &ground).await;
    }
    let to = args.to.as_deref().map(session_id).transpose()?;
    let shown = to.as_ref().map_or_else(|| "the best of the others".to_owned(), |to| printable(to.as_str()));
    let wanted = Wanted { to: to.as_ref().map(SessionId::as_str), lasts: args.lasts.as_deref() };
    let request = Request {
        method: Method::POST,
        below: &["switchover"],
        body: Some(serde_json::to_string(&wanted).map_err(OperatorError::unintelligible)?),
        session: to.as_ref(),
        question: Some((args.confirm, format!("Switch over to {shown} in the group {}?", ground.shown()))),
    };
    let format = args.common.output;
    let Some(outlook) = ground.carry_out(&request, args.dry_run, format).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let to = to.as_ref().map(SessionId::as_str);
    // The document of what was asked for is printed already, and the only one.
    let tell = |done: &str| match format {
        Format::Table => Printer::stdout().line(done),
        Format::Json | Format::Yaml => {
            complain(done);
            Ok(())
        }
    };
    if to.is_some() && outlook.primary.as_deref() == to {
        tell(&format!("{shown} is Primary already"))?;
    } else if args.wait == Some(Duration::ZERO) {
        let until = outlook.wish.as_ref().and_then(|wish| wish.until.as_deref());
        let until = until.map_or_else(String::new, |until| format!(" until {}", clock_time(until, &outlook.time)));
        let done = format!("the switch-over to {shown} is under way{until}");
        match format {
            Format::Table => say(&done, &outlook, args.confirm.asks())?,
            Format::Json | Format::Yaml => tell(&done)?,
        }
    } else {
        tell(&wait(&ground, &args, &outlook, to).await?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until it has come about, and says how it did.
async fn wait(
    ground: &Ground,
    args: &SwitchOverArgs,
    outlook: &Outlook,
    to: Option<&str>,
) -> Result<String, OperatorError> {
    let began = Instant::now();
    let most = match (args.wait, outlook.tried_for()) {
        (Some(wait), _) => wait,
        (None, Some(tried_for)) => tried_for + GRACE,
        // To one that is forced already: it is for as long as that lasts.
        (None, None) => {
            Duration::from_secs_f64((ground.status().await?.milliseconds * TIMEOUTS / 1_000.0).clamp(0.0, 1e6))
        }
    };
    if Printer::stdout().is_terminal() {
        let most = exact_duration(i64::try_from(most.as_millis()).unwrap_or(i64::MAX));
        complain(&format!("{} Waiting for up to {most}.", outlook.headline()));
    }
    loop {
        let fault = match ground.status().await.map_err(OperatorError::from) {
            Ok(status) => {
                if let Some(done) = outlook.how_done(&status, to) {
                    return Ok(done);
                }
                if !outlook.is_under_way(&status) {
                    return Err(given_up(ground, &status));
                }
                None
            }
            // It goes on without anybody who looks.
            Err(error) if error.is_passing() => Some(error),
            Err(error) => return Err(error),
        };
        if began.elapsed() >= most {
            return Err(fault.unwrap_or_else(|| {
                let waited = exact_duration(i64::try_from(most.as_millis()).unwrap_or(i64::MAX));
                OperatorError::Unfulfilled(format!(
                    "in {waited} the switch-over has not come about. It is still under way; --cancel takes it back"
                ))
            }));
        }
        sleep(LOOKED_AT_EVERY).await;
    }
}

impl Outlook {
    /// For how long a switch-over is tried.
    fn tried_for(&self) -> Option<Duration> {
        let until = self.wish.as_ref()?.until.as_deref()?;
        let ms = elapsed_ms(&self.time, until)?;
        Some(Duration::from_millis(ms.unsigned_abs()))
    }

    /// Who took over and how long it took, if it has come about.
    fn how_done(&self, status: &GroupStatus, to: Option<&str>) -> Option<String> {
        let primary = status.primary.as_deref()?;
        let is_done = match to {
            Some(to) => primary == to,
            None => self.primary.as_deref() != Some(primary),
        };
        let since = status.primary_since.as_deref().unwrap_or(&status.time);
        let took =
            elapsed_ms(&self.time, since).map_or_else(String::new, |ms| format!(" after {}", exact_duration(ms)));
        let primary = printable(primary);
        is_done.then(|| match &self.primary {
            Some(before) => format!("{primary} took over from {}{took}", printable(before)),
            None => format!("{primary} became Primary{took}"),
        })
    }

    /// Whether it is still wished.
    fn is_under_way(&self, status: &GroupStatus) -> bool {
        let is_wished =
            |id: &String| status.sessions.iter().any(|known| known.session_id == *id && known.wish.is_some());
        self.session_id.as_ref().is_some_and(is_wished)
    }
}

/// Its end without anything to show for it. It may also have come about, and been undone by
/// somebody healthier, between two looks.
fn given_up(ground: &Ground, status: &GroupStatus) -> OperatorError {
    let primary = status.primary.as_deref().map_or_else(|| "nobody".to_owned(), printable);
    OperatorError::Unfulfilled(format!(
        "the switch-over was given up, and {primary} is Primary. What happened is shown by: client-failover history {}",
        printable(ground.group.as_str())
    ))
}

async fn cancel(args: &SwitchOverArgs, ground: &Ground) -> Result<ExitCode, OperatorError> {
    let request = Request { method: Method::DELETE, below: &["switchover"], body: None, session: None, question: None };
    let format = args.common.output;
    if let Some(outlook) = ground.carry_out(&request, args.dry_run, format).await?
        && format == Format::Table
    {
        say("no switch-over is under way any more", &outlook, false)?;
    }
    Ok(ExitCode::SUCCESS)
}
