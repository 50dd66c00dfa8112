//! The commands for hosts that are clients: those against a running service, and those for programs
//! that are members of a group. The service's program has them, and so has one of their own, for
//! systems on which there is no service.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Subcommand};
#[cfg(any(target_os = "linux", windows))]
use client_failover_agent as agent;
use client_failover_conformance as conformance;
use client_failover_operator::completion::{self, CompletionArgs};
use client_failover_operator::version::{self, Program, VersionArgs};
use client_failover_operator::{self as operator, OperatorCommand, OperatorError, connection};

pub mod environment;

/// What such a host can be asked for.
#[derive(Subcommand)]
pub enum HostCommand {
    /// A command against a running service.
    #[command(flatten)]
    Operator(OperatorCommand),
    /// Show the version of this program, and of a running service where --server or --profile names
    /// one
    #[command(mut_args = connection::by_flag_alone, after_help = operator::CONNECTION_HELP)]
    Version(VersionArgs),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = completion::EXAMPLES)]
    Completion(CompletionArgs),
    /// Run any program as a member of a group: while it is Primary, or always and told its role
    #[cfg(any(target_os = "linux", windows))]
    #[command(after_help = operator::CONNECTION_HELP)]
    Run(Box<agent::RunArgs>),
    /// On Linux and Windows alone: run any program as a member of a group
    #[cfg(not(any(target_os = "linux", windows)))]
    Run(NotHere),
    /// Try whether a client keeps the rules
    #[command(subcommand)]
    Clients(ClientsCommand),
}

/// What is said of a command that is for other systems.
#[cfg(not(any(target_os = "linux", windows)))]
#[derive(clap::Args)]
pub struct NotHere {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    ignored: Vec<std::ffi::OsString>,
}

/// About clients of anybody's.
#[derive(Subcommand)]
pub enum ClientsCommand {
    /// Run a client against a service that misbehaves, and say which rule it breaks, and when
    #[command(after_help = conformance::HELP)]
    Test(conformance::TestArgs),
}

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// One against a running service.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The agent.
    #[cfg(any(target_os = "linux", windows))]
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
    /// The trial of a client.
    #[error(transparent)]
    Conformance(#[from] conformance::ConformanceError),
    /// It is for other systems.
    #[cfg(not(any(target_os = "linux", windows)))]
    #[error(
        "'run' is for Linux and Windows: this system cannot kill a program with all that it has started, which has to be dead before its lease ends"
    )]
    NotHere,
}

impl HostError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            HostError::Operator(error) => error.exit_code(),
            #[cfg(any(target_os = "linux", windows))]
            HostError::Agent(error) => error.exit_code(),
            HostError::Conformance(error) => error.exit_code(),
            #[cfg(not(any(target_os = "linux", windows)))]
            HostError::NotHere => 2,
        }
    }
}

/// Does it. `whole` is the command line of the program.
///
/// # Errors
///
/// It cannot be done.
pub async fn run(command: HostCommand, program: Program, whole: &mut Command) -> Result<ExitCode, HostError> {
    Ok(match command {
        HostCommand::Operator(command) => operator::run(command).await?,
        HostCommand::Version(args) => version::run(args, program).await?,
        HostCommand::Completion(args) => {
            completion::print(&args, whole);
            ExitCode::SUCCESS
        }
        #[cfg(any(target_os = "linux", windows))]
        HostCommand::Run(args) => agent::run(*args).await?,
        #[cfg(not(any(target_os = "linux", windows)))]
        HostCommand::Run(NotHere { ignored: _ }) => return Err(HostError::NotHere),
        HostCommand::Clients(ClientsCommand::Test(args)) => conformance::run(args).await?,
    })
}

/// Reads the command line and looks through the environment. What is wrong with either, or was
/// asked for in either, has been said where a code is returned.
///
/// # Errors
///
/// There is nothing left to do but to end with that code.
pub fn parse<C: CommandFactory + FromArgMatches>() -> Result<C, ExitCode> {
    let cli = C::command().try_get_matches().and_then(|matches| C::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help and version: written to standard output; a closed pipe is the reader's wish.
            let _ = error.print();
            return Err(ExitCode::SUCCESS);
        }
        Err(error) => return Err(complain(one_line(&error.to_string()), ExitCode::from(2))),
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    match environment::check(&C::command(), names) {
        Ok(warnings) => warnings.iter().for_each(|warning| {
            let _ = writeln!(std::io::stderr(), "warning: {warning}");
        }),
        Err(misspelt) => return Err(complain(format!("error: {misspelt}"), ExitCode::from(2))),
    }
    Ok(cli)
}

/// Says so, and what to end with.
pub fn complain(message: String, code: ExitCode) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{message}");
    code
}

/// The first paragraph of a message and its tips, on one line.
fn one_line(message: &str) -> String {
    let paragraphs = message.split("\n\n").enumerate();
    let kept = paragraphs.filter(|(place, text)| *place == 0 || text.trim_start().starts_with("tip:"));
    let lines = kept.map(|(_, text)| text.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("; ")
}
