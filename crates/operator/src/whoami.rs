//! Who one is to a service, and what one may do there.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::parse;
use serde::Deserialize;

use super::OperatorError;
use super::connection::{Connection, ConnectionArgs};
use super::output::{Format, NOTHING, Printer, Table, Tone, printable};

/// Whom to ask.
#[derive(Debug, Args)]
pub struct WhoamiArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Where the service tells it.
pub const PATH: [&str; 1] = ["whoami"];

/// What the service tells.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Told {
    identity: Option<String>,
    kind: String,
    rights: Vec<Right>,
    rights_left_out: usize,
    clients_create_groups: bool,
    /// The version of the service.
    pub version: String,
    /// What it was built from.
    pub commit: Option<String>,
    /// Which replica answered.
    pub replica: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Right {
    tenant_id: String,
    namespace_id: String,
    groups: Option<Vec<String>>,
    role: String,
}

impl Right {
    fn row(self) -> ([String; 4], Tone) {
        let groups = self.groups.map_or_else(|| "*".to_owned(), |patterns| patterns.join(", "));
        ([self.role, self.tenant_id, self.namespace_id, groups], Tone::Plain)
    }
}

/// How somebody was recognised.
fn how(kind: &str) -> String {
    match kind {
        "User" => "a name and a password".to_owned(),
        "ApiKey" => "an API key".to_owned(),
        "Token" => "a token of the issuer".to_owned(),
        "Certificate" => "a client certificate".to_owned(),
        other => printable(other),
    }
}

impl Told {
    fn who(&self) -> String {
        match &self.identity {
            Some(identity) => format!("{}, by {}", printable(identity), how(&self.kind)),
            None => "anybody: nobody is asked who they are".to_owned(),
        }
    }

    /// The service, and what it was built from.
    pub fn service(&self) -> String {
        let commit = self.commit.as_deref().map_or_else(String::new, |commit| format!(" ({})", printable(commit)));
        format!("{}{commit}, answered by {}", printable(&self.version), printable(&self.replica))
    }
}

/// Shows it.
pub async fn run(args: WhoamiArgs) -> Result<ExitCode, OperatorError> {
    let service = Connection::settle(&args.connection)?.service()?;
    let raw = service.read_raw(&PATH, &[]).await?;
    let mut printer = Printer::stdout();
    if args.output != Format::Table {
        printer.document(args.output, &raw)?;
        return Ok(ExitCode::SUCCESS);
    }
    let told: Told = parse(raw.get())?;
    printer.line(&format!("You are  {}", told.who()))?;
    printer.line(&format!("Service  {}", told.service()))?;
    if told.rights.is_empty() {
        printer.line(&format!("Rights   {NOTHING}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (left_out, clients_create_groups) = (told.rights_left_out, told.clients_create_groups);
    let is_client = told.rights.iter().any(|right| right.role == "client");
    printer.line("")?;
    let rows: Vec<_> = told.rights.into_iter().map(Right::row).collect();
    Table::new(["ROLE", "TENANT", "NAMESPACE", "GROUPS"]).print(&mut printer, &rows)?;
    if left_out > 0 {
        printer.line(&format!("and {left_out} more"))?;
    }
    if is_client && !clients_create_groups {
        printer.line("\nThe role client does not create groups here.")?;
    }
    Ok(ExitCode::SUCCESS)
}
