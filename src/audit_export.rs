//! The audit trail as lines of JSON, for an archive that keeps it for longer than the database
//! does.

use std::io::Write as _;

use chrono::{DateTime, Utc};

use crate::ids::TenantId;
use crate::serve::{self, ServeArgs, ServeError, SettleError, open_database};
use crate::store::audit::{self, Range};
use crate::store::{Store, StoreError};

/// How many entries are looked at at a time.
const PAGE: i64 = 1_000;

/// What is done with the audit trail.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Print its entries, each as a JSON object on a line, the oldest first
    #[command(mut_args = serve::only_for_database)]
    Export {
        /// Not those before that time, as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<DateTime<Utc>>,
        /// Only those before that time
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
        /// Only those of that tenant
        #[arg(long, value_name = "TENANT", value_parser = read_tenant)]
        tenant: Option<String>,
        #[command(flatten)]
        serve: ServeArgs,
    },
}

/// `*` is the tenant of keys for all tenants.
fn read_tenant(text: &str) -> Result<String, String> {
    match text {
        crate::ids::EVERY_TENANT => Ok(text.to_owned()),
        _ => TenantId::parse(text).map(|tenant| tenant.to_string()).map_err(|error| error.to_string()),
    }
}

/// Why the audit trail could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The settings that lead to the database.
    #[error(transparent)]
    Settings(#[from] SettleError),
    /// The database cannot be had.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody takes what is printed.
    #[error("the lines cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

/// Runs a command on the audit trail, and prints.
pub async fn run(command: AuditCommand) -> Result<(), AuditError> {
    let AuditCommand::Export { since, until, tenant, serve } = command;
    let settings = serve.settle_for_database()?;
    let (store, _, postgres) = open_database(&settings).await?;
    let exported = export(&store, Range { since, until, tenant }).await;
    store.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await.map_err(ServeError::from)?;
    }
    exported
}

/// Page by page, each a read of its own: neither memory nor a snapshot grows with it.
async fn export(store: &Store, range: Range) -> Result<(), AuditError> {
    let range = &range;
    let mut after = 0;
    loop {
        let page =
            store.read("export_audit", |connection, _| Box::pin(audit::read_page(connection, range, after, PAGE)));
        let page = page.await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        let mut output = std::io::stdout().lock();
        for line in page.iter().filter_map(|(_, line)| line.as_ref()) {
            writeln!(output, "{line}")?;
        }
        output.flush()?;
    }
}
