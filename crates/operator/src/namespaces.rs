//! The tenants and namespaces that have groups.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::{Scope, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::{Connection, ConnectionArgs};
use super::output::{Format, List, Printer, Table, Tone, complain, printable};
use super::{OperatorError, missing};

/// How many are asked for at once.
const PAGE: usize = 1_000;

/// Which namespaces.
#[derive(Debug, Args)]
pub struct NamespacesArgs {
    /// Only those of this tenant
    #[arg(long, env = "CLIENT_FAILOVER_TENANT", value_name = "TENANT")]
    tenant: Option<String>,
    /// Only those with this in the name of the tenant or the namespace
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Namespace {
    tenant_id: String,
    namespace_id: String,
    groups: i64,
    groups_at_risk: i64,
}

impl Namespace {
    fn row(self) -> ([String; 4], Tone) {
        let tone = if self.groups_at_risk > 0 { Tone::Warning } else { Tone::Plain };
        ([self.tenant_id, self.namespace_id, self.groups.to_string(), self.groups_at_risk.to_string()], tone)
    }
}

/// Lists the namespaces, by tenant.
pub async fn run(args: NamespacesArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.connection)?;
    let tenant = connection.find_tenant(args.tenant.as_ref())?;
    let scope = tenant.as_ref().map_or(Scope::Everything, Scope::Tenant);
    let service = connection.service()?;
    let mut printer = Printer::stdout();
    let mut list = match args.output {
        Format::Table => None,
        format => Some(List::begin(&mut printer, format, None)?),
    };
    let mut table = Table::new(["TENANT", "NAMESPACE", " GROUPS", " AT RISK"]);
    let mut asked = 0;
    loop {
        let mut query = vec![("skip", asked.to_string()), ("count", PAGE.to_string())];
        query.extend(args.search.clone().map(|text| ("search", text)));
        let page: Vec<Box<RawValue>> = service.read(&scope.path(&["namespaces"]), &query).await?;
        asked += page.len();
        match &mut list {
            Some(list) => page.iter().try_for_each(|raw| list.add(&mut printer, raw))?,
            None if page.is_empty() => {}
            None => {
                let rows = page.iter().map(|raw| Ok(parse::<Namespace>(raw.get())?.row()));
                table.print(&mut printer, &rows.collect::<Result<Vec<_>, OperatorError>>()?)?;
            }
        }
        if page.len() < PAGE {
            break;
        }
    }
    if let Some(list) = list {
        list.end(&mut printer)?;
    }
    match (asked, &args.search, &tenant) {
        (0, Some(text), _) => {
            Err(OperatorError::Nothing(format!("no namespace has '{}' in its name", printable(text))))
        }
        (0, None, _) if missing::has_groups(&service, scope).await? => {
            complain("there are groups, but none was counted yet; ask again in a few seconds");
            Ok(ExitCode::SUCCESS)
        }
        (0, None, Some(tenant)) => Err(missing::no_groups(&service, Scope::Tenant(tenant)).await),
        (0, None, None) => {
            complain("no groups, and so no namespaces");
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
