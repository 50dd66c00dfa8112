//! The program that measures. It is one of its own, so that nobody who runs the service ships what
//! draws plots.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use client_failover::serve::{self, BadEnd, ServeArgs};
use client_failover::{environment, telemetry};
use client_failover_bench::{BareArgs, BenchArgs};

/// Measures heartbeats per second and latencies of a client-failover of its own on this machine,
/// beside pgbench on the same PostgreSQL.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    bench: BenchArgs,
}

#[derive(Subcommand)]
enum Command {
    /// The service that is measured, in a process of its own
    #[command(hide = true)]
    Serve(Box<ServeArgs>),
    /// What HTTP alone costs: one answer from memory, in a process of its own
    #[command(hide = true)]
    Bare(BareArgs),
}

fn main() -> ExitCode {
    environment::forget_session_settings();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), 1),
    };
    let ended = runtime.block_on(run(cli));
    telemetry::finish();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => complain(&error.to_string(), code),
    }
}

async fn run(cli: Cli) -> Result<(), (anyhow::Error, u8)> {
    match cli.command {
        Some(Command::Serve(args)) => {
            let settings = args.settle().map_err(|error| (error.into(), 2))?;
            serve::run(&settings).await.map_err(|error| match error {
                BadEnd::NotStarted(error) => (error.into(), 2),
                BadEnd::Failed(error) => (error.into(), 1),
            })
        }
        Some(Command::Bare(args)) => client_failover_bench::serve_bare(args).await.map_err(|error| (error.into(), 1)),
        None => {
            let report = client_failover_bench::run(cli.bench).await.map_err(|error| (error.into(), 1))?;
            // `println!` would panic where the reader has gone, and whether anybody reads is not
            // our business.
            let _ = writeln!(std::io::stdout(), "{report}");
            Ok(())
        }
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::from(code)
}
