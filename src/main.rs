//! The command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use client_failover::audit_export::{self, AuditCommand, AuditError};
use client_failover::credentials::{self, KeysCommand, UsersCommand};
use client_failover::serve::{self, BadEnd, ServeArgs};
use client_failover::{environment, telemetry, version as own_version};
use client_failover_agent as agent;
use client_failover_cli::{self as cli, HostCommand, complain};
use client_failover_demo as demo;
use client_failover_operator::manual::{self, ManualArgs};
use client_failover_operator::version::Program;
use client_failover_operator::{self as operator, audit};

// A heartbeat allocates often, and on several threads.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells redundant clients which of them acts: failover groups with leases and terms, on
/// PostgreSQL.
///
/// Without a command it serves. Without a database URL it runs a private PostgreSQL of its own,
/// from the programs installed on this machine, and keeps its data between runs.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

const EXAMPLES: &str = "\
Every flag is also an environment variable, shown beside it, and a key of the settings file without its dashes.

Examples:
  client-failover                                     serve on 127.0.0.1:8080 with a private PostgreSQL
  client-failover demo                                watch a takeover happen
  client-failover status --watch                      watch the groups of the service at 127.0.0.1:8080
  DATABASE_URL=postgres://failover@db/failover client-failover serve --listen 0.0.0.0:8080 --auth api-key
  DATABASE_URL=postgres://failover@db/failover client-failover keys create adapter-7 --tenant plant --role client";

#[derive(Subcommand)]
enum Command {
    /// Serve the API (what is done without a command)
    Serve(ServeArgs),
    /// Bring the database's tables up to date, and end
    #[command(mut_args = serve::only_for_migration)]
    Migrate(MigrateArgs),
    /// Make, list and revoke API keys, in the database of the same settings as serve
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show who changed what, by a running service; or export it from the database
    #[command(args_conflicts_with_subcommands = true, after_help = operator::CONNECTION_HELP)]
    Audit(Box<TrailArgs>),
    /// Write entries of the users file for Basic authentication
    #[command(subcommand)]
    Users(UsersCommand),
    #[command(flatten)]
    Host(HostCommand),
    /// Watch a takeover happen: several adapters, one killed, one falling ill
    Demo(demo::DemoArgs),
    /// One adapter of the demo
    #[command(hide = true)]
    DemoAdapter(demo::DemoAdapterArgs),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    ManualPages(ManualArgs),
}

#[derive(clap::Args)]
struct TrailArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    of_service: audit::AuditArgs,
}

#[derive(clap::Args)]
struct MigrateArgs {
    /// Also let this role of the database read everything but the hashes of keys, and change
    /// nothing; it is made where it is missing. May be given several times
    #[arg(long, value_name = "ROLE")]
    reader: Vec<String>,
    /// Also spread the groups over the nodes of the cluster (Citus 12.1 or later) whose coordinator
    /// the database is. All replicas have to be stopped
    #[arg(long)]
    distribute: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What ends the process with a message.
type Failure = (anyhow::Error, ExitCode);

fn main() -> ExitCode {
    if let Some(code) = agent::guardian::if_asked() {
        return code;
    }
    environment::forget_session_settings();
    let cli: Cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(format!("error: no runtime: {error}"), ExitCode::FAILURE),
    };
    let ended = runtime.block_on(run(cli));
    telemetry::finish();
    match ended {
        Ok(code) => code,
        Err((error, code)) => complain(format!("error: {error}"), code),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => {
            serve::run(&args.settle().map_err(with(2))?).await.map_err(|error| match error {
                BadEnd::NotStarted(error) => with(2)(error),
                BadEnd::Failed(error) => with(1)(error),
            })?;
        }
        Command::Migrate(args) => {
            let settings = args.serve.settle_for_database().map_err(with(2))?;
            let count = serve::migrate(&settings, &args.reader, args.distribute).await.map_err(with(1))?;
            say(&format!("{count} migrations applied; the database is up to date"));
            if args.distribute {
                say("the groups are spread over the nodes of the cluster");
            }
            for role in &args.reader {
                say(&format!("role '{role}' may read; ALTER ROLE … LOGIN PASSWORD '…' lets somebody log in as it"));
            }
        }
        Command::Keys(command) => {
            let said =
                credentials::run_keys(command).await.map_err(|error| (error.exit_code(), error)).map_err(coded)?;
            say(&said.output);
            if let Some(note) = said.note {
                let _ = writeln!(std::io::stderr(), "{note}");
            }
        }
        Command::Audit(args) => return audit(*args).await,
        Command::Users(command) => say(&credentials::run_users(command).map_err(with(2))?),
        Command::Host(command) => {
            let program = Program { version: own_version::VERSION, commit: own_version::COMMIT };
            let ended = cli::run(command, program, &mut Cli::command()).await;
            return ended.map_err(|error| (error.exit_code(), error)).map_err(coded);
        }
        Command::Demo(args) => {
            if !demo::run(args).await.map_err(|error| (error.exit_code(), error)).map_err(coded)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::DemoAdapter(args) => {
            demo::run_adapter(args).await.map_err(|error| (error.exit_code(), error)).map_err(coded)?;
        }
        Command::ManualPages(args) => manual::write(&args, Cli::command()).map_err(with(1))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn audit(args: TrailArgs) -> Result<ExitCode, Failure> {
    let Some(command) = args.command else {
        return audit::run(args.of_service).await.map_err(|error| (error.exit_code(), error)).map_err(coded);
    };
    match audit_export::run(command).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever reads has gone, as `head` does.
        Err(AuditError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(AuditError::Settings(error)) => Err(with(2)(error)),
        Err(error) => Err(with(1)(error)),
    }
}

/// Ends with that code: 2 is for how it was called or for this machine, which the caller has to
/// change; 1 for the rest.
fn with<E: Into<anyhow::Error>>(code: u8) -> impl FnOnce(E) -> Failure {
    move |error| coded((code, error))
}

fn coded<E: Into<anyhow::Error>>((code, error): (u8, E)) -> Failure {
    (error.into(), ExitCode::from(code))
}

/// To standard output. `println!` would panic where the reader has gone, and whether anybody reads
/// is not our business.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
