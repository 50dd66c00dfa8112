//! The command line.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use client_failover::config::Given;
use client_failover::serve::{self, Service};
use client_failover::{bench, credentials, demo, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Tells redundant clients which of them acts: failover groups with leases and terms, on PostgreSQL.
///
/// Without a command it serves. Without a database URL it runs a private PostgreSQL of its own, from the programs
/// installed on this machine, and keeps its data between runs.
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
  DATABASE_URL=postgres://failover@db/failover client-failover serve --listen 0.0.0.0:8080 --auth api-key
  DATABASE_URL=postgres://failover@db/failover client-failover keys create adapter-7 --tenant plant --role client";

#[derive(clap::Args)]
struct ServeArgs {
    /// Settings file (TOML); flags and environment variables come before it
    #[arg(long, env = "CLIENT_FAILOVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (what is done without a command)
    Serve(ServeArgs),
    /// Bring the database's tables up to date, and end
    Migrate(MigrateArgs),
    /// Make, list and revoke API keys, in the database of the same settings as serve
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Write entries of the users file for Basic authentication
    #[command(subcommand)]
    Users(credentials::UsersCommand),
    /// Watch a takeover happen: several adapters, one killed, one falling ill
    Demo(demo::DemoArgs),
    /// Measure heartbeats per second and latencies on this machine, beside pgbench on the same PostgreSQL
    Bench(Box<bench::BenchArgs>),
    /// Ask a running service whether it is alive: exit code 0 if it is
    Health(HealthArgs),
    /// One adapter of the demo
    #[command(hide = true)]
    DemoAdapter(demo::DemoAdapterArgs),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key and print it: the one time that it is shown
    Create {
        #[command(flatten)]
        key: credentials::NewKeyArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// List all keys, without their secrets
    List(ServeArgs),
    /// Revoke a key; every replica refuses it within seconds
    Revoke {
        /// The key's number in the list
        key: i64,
        #[command(flatten)]
        serve: ServeArgs,
    },
}

#[derive(clap::Args)]
struct MigrateArgs {
    /// Also let this role of the database read everything but the hashes of keys, and change nothing; it is made where it is missing. May be given several times
    #[arg(long, value_name = "ROLE")]
    reader: Vec<String>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(clap::Args)]
struct HealthArgs {
    /// The service to ask
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
}

/// What ends the process with a message.
type Failure = (anyhow::Error, ExitCode);

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            // Help and version: written to standard output; a closed pipe is the reader's wish.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return complain(one_line(&error.to_string()), ExitCode::from(2)),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return complain(one_line(&error.to_string()), ExitCode::from(2)),
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
        Command::Serve(args) => run_service(args).await,
        Command::Migrate(args) => {
            let count = serve::migrate(&settle(args.serve)?, &args.reader).await.map_err(failed)?;
            say(&format!("{count} migrations applied; the database is up to date"));
            for role in &args.reader {
                say(&format!("role '{role}' may read; ALTER ROLE … LOGIN PASSWORD '…' lets somebody log in as it"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys(command) => {
            say(&run_keys(command).await?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Users(command) => {
            say(&credentials::run_users(command).map_err(unusable)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => match demo::run(args).await.map_err(demo_failed)? {
            true => Ok(ExitCode::SUCCESS),
            false => Ok(ExitCode::FAILURE),
        },
        Command::Bench(args) => {
            say(&bench::run(*args).await.map_err(failed)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::DemoAdapter(args) => {
            demo::run_adapter(args).await.map_err(demo_failed)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Health(args) => {
            let url = format!("{}/health/live", args.url.trim_end_matches('/'));
            let answer = reqwest::get(url).await.map_err(failed)?;
            answer.error_for_status().map_err(failed)?;
            say("alive");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_keys(command: KeysCommand) -> Result<String, Failure> {
    match command {
        KeysCommand::Create { key, serve } => credentials::create_key(&settle(serve)?, key).await,
        KeysCommand::List(serve) => credentials::list_keys(&settle(serve)?).await,
        KeysCommand::Revoke { key, serve } => credentials::revoke_key(&settle(serve)?, key).await,
    }
    .map_err(failed)
}

async fn run_service(args: ServeArgs) -> Result<ExitCode, Failure> {
    let settings = settle(args)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut service = Service::start(&settings).await.map_err(unusable)?;
    service.wait_for_private_database().await;
    say(&serve::banner(&service));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    service.run_until(stop).await.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn settle(args: ServeArgs) -> Result<client_failover::config::Settings, Failure> {
    let settings = args.given.settle(args.config.as_deref()).map_err(unusable)?;
    telemetry::start(&settings.log, settings.log_format, settings.traces.as_ref()).map_err(unusable)?;
    Ok(settings)
}

/// Something about how it was called, or about this machine, that the caller has to change.
fn unusable(error: impl Into<anyhow::Error>) -> Failure {
    (error.into(), ExitCode::from(2))
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    (error.into(), ExitCode::FAILURE)
}

fn demo_failed(error: demo::DemoError) -> Failure {
    let code = ExitCode::from(error.exit_code());
    (error.into(), code)
}

/// To standard output. `println!` would panic where the reader has gone, and whether anybody reads is not our business.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(message: String, code: ExitCode) -> ExitCode {
    eprintln!("{message}");
    code
}

/// The first paragraph of a message, on one line.
fn one_line(message: &str) -> String {
    let paragraph = message.lines().take_while(|line| !line.trim().is_empty());
    paragraph.map(str::trim).collect::<Vec<_>>().join(" ")
}
