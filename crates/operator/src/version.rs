//! Which version this program has, and which a service.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::parse;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::connection::{Connection, ConnectionArgs};
use super::output::{Format, Printer, complain, printable};
use super::whoami::{PATH, Told};
use super::{OperatorError, whatever_is_read};

/// Of what.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// This program.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Program {
    /// Its version.
    pub version: &'static str,
    /// The commit that it was built from, where that is known.
    pub commit: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Both<'a> {
    #[serde(flatten)]
    program: Program,
    service: Option<Service<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    version: &'a str,
    commit: Option<&'a str>,
    replica: &'a str,
}

/// Says it; of a service where an argument names one.
pub async fn run(args: VersionArgs, program: Program) -> Result<ExitCode, OperatorError> {
    whatever_is_read(tell(args, program).await)
}

async fn tell(args: VersionArgs, program: Program) -> Result<ExitCode, OperatorError> {
    let mut printer = Printer::stdout();
    let is_for_people = args.output == Format::Table;
    if is_for_people {
        let commit = program.commit.map_or_else(String::new, |commit| format!(" ({commit})"));
        printer.line(&format!("client-failover {}{commit}", program.version))?;
    }
    let told = if args.connection.names_a_service() { Some(ask(&args.connection).await?) } else { None };
    if !is_for_people {
        let service = told.as_ref().map(|(_, told)| Service {
            version: &told.version,
            commit: told.commit.as_deref(),
            replica: &told.replica,
        });
        let raw: Box<RawValue> = to_raw_value(&Both { program, service }).map_err(OperatorError::unintelligible)?;
        printer.document(args.output, &raw)?;
    } else if let Some((name, told)) = &told {
        printer.line(&format!("{name}  {}", told.service()))?;
    }
    if let Some((name, told)) = told
        && (told.version != program.version || differ(told.commit.as_deref(), program.commit))
    {
        complain(&format!("{} is of another version than this program", printable(&name)));
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &ConnectionArgs) -> Result<(String, Told), OperatorError> {
    let service = Connection::settle(args)?.service()?;
    let raw = service.read_raw(&PATH, &[]).await?;
    Ok((service.name(), parse(raw.get())?))
}

/// Whether two commits are known to differ.
fn differ(one: Option<&str>, other: Option<&str>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
