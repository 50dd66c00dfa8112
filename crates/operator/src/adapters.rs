//! Whether an adapter would work with a service: the command plays one, with nothing but what an
//! adapter sends, and tells of each step.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client_failover_wire::timespan;

use self::adapter::Adapter;
use self::login::LoginArgs;
use self::play::Play;
use self::report::{Fault, Report, Trouble};
use super::connection::{Connection, ConnectionArgs};
use super::output::Format;
use super::{FAILED, OperatorError};

mod adapter;
mod endpoint;
mod login;
mod play;
mod reading;
mod report;

/// What adapters take for the failover timeout where nobody says another.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What the command says at the end of its help.
pub const HELP: &str = "\
URL is what the adapter's configuration has as its Endpoint. Run this on the adapter's machine, with the adapter's \
credentials: its clock, its network and the authorities that it believes are part of what is tried.

  client-failover adapters check http://failover.plant.example:8080/api/v1/clientfailover
  client-failover adapters check https://failover.plant.example:8443/api/v1/clientfailover --user adapter-7 --password-file adapter-7.key
  client-failover adapters check https://failover.plant.example:8443/api/v1/Tenants/plant/Namespaces/line1/ClientFailover/ --client-id adapter-7 --client-secret-file secret

Without --group it works in a group of its own, which it deletes if it may. With --group it needs a group that has a \
live Primary, and looks for one before it registers anything: a session of its own with the score 0 cannot take the \
role from that, and is deleted again at once. If the group has no live Primary it refuses.

Credentials are never arguments. They come from the first of these places that has any: the flags; the environment, as \
CLIENT_FAILOVER_TOKEN (an API key or another bearer token), CLIENT_FAILOVER_TOKEN_FILE, or CLIENT_FAILOVER_USER with \
CLIENT_FAILOVER_PASSWORD or CLIENT_FAILOVER_PASSWORD_FILE; the profile that --profile names. No other profile counts.

Exit codes: 0 an adapter would work, with or without warnings; otherwise that of the first step that would not: 2 the \
URL is none for adapters, or the service did not understand; 3 nothing is served there, or no such group; 4 not \
authenticated or not allowed; 5 in conflict with what exists; 6 no answer, or none now; 1 anything else.";

/// What is tried.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What the adapter's configuration has as its Endpoint
    #[arg(value_name = "URL")]
    endpoint: String,
    /// A group that adapters use, in place of one of the command's own
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// What the adapter's configuration has as its FailoverTimeout, such as 00:01:00 or 60s
    /// [default: a minute]
    #[arg(long, value_name = "TIME", value_parser = read_timeout)]
    failover_timeout: Option<Duration>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Takes away the flag that names a service, which the endpoint does, and the default of the
/// profile.
pub fn without_server(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "server" => argument.hide(true).env(None::<&str>).conflicts_with("endpoint"),
        "profile" => argument
            .help("A profile that has what is not given otherwise; without this none counts")
            .long_help(None::<&str>),
        _ => argument,
    }
}

/// A timeout as adapters have it, or as people write it.
fn read_timeout(text: &str) -> Result<Duration, String> {
    let timeout = match timespan::parse(text).map(u64::try_from) {
        Some(Ok(ticks)) => Some(Duration::from_micros(ticks / 10)),
        _ => humantime::parse_duration(text).ok(),
    };
    timeout.filter(|timeout| !timeout.is_zero()).ok_or_else(|| "it is no duration such as 00:01:00 or 60s".to_owned())
}

/// Plays an adapter, takes away what that left, and says what came of it.
pub async fn check(args: CheckArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle_for_others(&args.connection)?;
    let login = args.login.settle(&connection)?;
    let group = args.group.as_deref().map(super::group_id).transpose()?;
    let mut report = Report::new(args.output, &args.endpoint);
    let url = match endpoint::read(&args.endpoint) {
        Ok(url) => url,
        Err(fault) => {
            report.fault("endpoint", fault)?;
            return report.end();
        }
    };
    report.ok("endpoint", format!("{url} is one for adapters"))?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let authorization = tokio::select! {
        authorization = login.authorization(&connection, &url) => authorization,
        _ = &mut interrupted => return Ok(ExitCode::from(FAILED)),
    };
    let authorization = match authorization {
        Ok(authorization) => authorization,
        Err(Trouble::Failed(error)) => return Err(error),
        Err(Trouble::WouldNotWork(fault)) => {
            report.fault("login", fault)?;
            return report.end();
        }
    };
    report.ok("login", login.told())?;
    let adapter = Adapter::new(url, &connection, authorization)?;
    let mut play = Play::new(&adapter, login.is_some(), group, args.failover_timeout, &mut report);
    tokio::select! {
        played = play.all() => played?,
        _ = &mut interrupted => play.stop(Fault {
            said: "it was interrupted".to_owned(),
            to_do: "Run it again.".to_owned(),
            code: FAILED,
        })?,
    }
    play.clean_up().await?;
    report.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_an_adapter_has_it_and_as_people_write_it() {
        for text in ["00:01:00", "60s", "1m", "0:01:00"] {
            assert_eq!(read_timeout(text), Ok(Duration::from_secs(60)), "{text}");
        }
        for text in ["", "0s", "00:00:00", "soon", "60", "-1s"] {
            assert!(read_timeout(text).is_err(), "{text}");
        }
    }
}
