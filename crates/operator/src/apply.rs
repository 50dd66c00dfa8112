//! Makes groups be as a file says.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use client_failover_client::{ClientError, Scope, Service, parse};
use client_failover_wire::ids::NamespacePath;
use client_failover_wire::timespan;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::connection::Connection;
use super::group_file::{self, Configuration, WantedGroup};
use super::output::{Format, List, Printer, complain, printable};
use super::wishes::Outlook;
use super::{Common, OperatorError, foresight};

/// What is applied.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The file, in YAML or JSON: a group, a list of groups, or several documents; - for standard
    /// input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Changed,
    Unchanged,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    name: Option<String>,
    description: Option<String>,
    failover_timeout: String,
}

/// What became of a group, for programs.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Said<'a> {
    /// Its id.
    pub id: &'a str,
    /// What became of it.
    pub outcome: &'a str,
    /// Whether that was only said.
    pub dry_run: bool,
}

impl Said<'_> {
    /// As JSON.
    pub fn raw(&self) -> Result<Box<RawValue>, OperatorError> {
        to_raw_value(self).map_err(OperatorError::unintelligible)
    }
}

/// Applies a file, one group after the other. It is read whole before: what cannot be meant changes
/// nothing. A group that is refused does not keep the others from their turn; a service that does
/// not answer does.
pub async fn run(args: ApplyArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let service = connection.service()?;
    let wanted = group_file::read(&args.file)?;
    let format = args.common.output;
    let mut printer = Printer::stdout();
    let mut list = match format {
        Format::Table => None,
        Format::Json | Format::Yaml => Some(List::begin(&mut printer, format, None)?),
    };
    let mut first_code = None;
    for group in &wanted {
        match apply(&service, &namespace, group, args.dry_run).await {
            Ok((outcome, outlook)) => {
                let (id, outcome) = (group.id.as_str(), outcome.text());
                match &mut list {
                    None => {
                        let dry = if args.dry_run { " (dry run)" } else { "" };
                        printer.line(&format!("group {} {outcome}{dry}", printable(id)))?;
                        let lines = outlook.iter().flat_map(Outlook::lines_of_timeout);
                        lines.into_iter().try_for_each(|line| printer.line(&format!("  {line}")))?;
                    }
                    Some(list) => {
                        list.add(&mut printer, &Said { id, outcome, dry_run: args.dry_run }.raw()?)?;
                    }
                }
            }
            Err(error) if error.is_passing() => return Err(error),
            Err(error @ OperatorError::Service(ClientError::Refused(_))) => {
                complain(&format!("error: group {}: {error}", printable(group.id.as_str())));
                first_code.get_or_insert(error.exit_code());
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(list) = list {
        list.end(&mut printer)?;
    }
    Ok(first_code.map_or(ExitCode::SUCCESS, ExitCode::from))
}

async fn apply(
    service: &Service,
    namespace: &NamespacePath,
    wanted: &WantedGroup,
    dry_run: bool,
) -> Result<(Outcome, Option<Outlook>), OperatorError> {
    let path = Scope::Namespace(namespace).group(&wanted.id, &[]);
    let mut is_other_timeout = false;
    let outcome = match service.find_raw(&path).await? {
        None => Outcome::Created,
        Some(raw) => {
            let found: Found = parse(raw.get())?;
            let ticks = timespan::parse(&found.failover_timeout)
                .ok_or_else(|| OperatorError::unintelligible(printable(&found.failover_timeout)))?;
            is_other_timeout = wanted.configuration.ticks != ticks;
            if wanted.configuration.ticks < ticks {
                warn_of_a_shorter_timeout(wanted, ticks);
            }
            let is_so =
                wanted.configuration == Configuration { name: found.name, description: found.description, ticks };
            if is_so { Outcome::Unchanged } else { Outcome::Changed }
        }
    };
    if outcome != Outcome::Unchanged && !dry_run {
        service.put(&path, wanted.configuration.body()).await?;
    }
    // Another name has no consequences.
    let outlook = if dry_run && is_other_timeout {
        let body = Some(wanted.configuration.body());
        Some(parse(foresight::ask(service, Method::PUT, &path, &[], body).await?.get())?)
    } else {
        None
    };
    Ok((outcome, outlook))
}

/// Clients that go by a longer timeout than the service trust for longer than they are granted.
fn warn_of_a_shorter_timeout(wanted: &WantedGroup, ticks: i64) {
    complain(&format!(
        "warning: group {}: the timeout gets shorter, from {} to {}. Clients that do not heed Failover-Lease-Ms must go by \
         it before: otherwise two can act at once.",
        printable(wanted.id.as_str()),
        timespan::format(ticks),
        timespan::format(wanted.configuration.ticks)
    ));
}
