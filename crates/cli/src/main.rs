//! The program for hosts that are clients, on systems on which there is no service.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use client_failover_cli::{self as cli, HostCommand, HostError, complain};
use client_failover_operator::version::Program;
use client_failover_operator::{self as operator, audit};

/// The commands of client-failover for hosts that are clients. The service itself is for Linux.
#[derive(Parser)]
#[command(name = "client-failover", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Host(HostCommand),
    /// Show who changed what
    #[command(after_help = operator::CONNECTION_HELP)]
    Audit(audit::AuditArgs),
}

fn main() -> ExitCode {
    #[cfg(any(target_os = "linux", windows))]
    if let Some(code) = client_failover_agent::guardian::if_asked() {
        return code;
    }
    let Cli { command } = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(format!("error: no runtime: {error}"), ExitCode::FAILURE),
    };
    let program = Program { version: env!("CARGO_PKG_VERSION"), commit: option_env!("SOURCE_COMMIT") };
    let ended = runtime.block_on(async {
        match command {
            Command::Host(command) => cli::run(command, program, &mut Cli::command()).await,
            Command::Audit(args) => Ok(audit::run(args).await?),
        }
    });
    ended.unwrap_or_else(|error: HostError| complain(format!("error: {error}"), ExitCode::from(error.exit_code())))
}
