//! The command line for operators: asks a running service over HTTP, from anywhere, and never the
//! database.
//!
//! Each command says what it wants of the service, through the client, and gives what comes to an
//! `output`. JSON and YAML are the service's own documents, property by property; tables are for
//! people.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use client_failover_client::{ClientError, Refusal};
use client_failover_wire::ids::{GroupId, SessionId};
use reqwest::StatusCode;

use self::connection::{ConnectionArgs, PlaceArgs};
use self::output::{Format, printable};

mod adapters;
mod apply;
pub mod audit;
pub mod completion;
mod confirmation;
pub mod connection;
mod create;
mod document;
mod events;
mod foresight;
mod group_file;
mod groups;
mod histories;
mod history;
pub mod keys;
pub mod manual;
mod missing;
mod namespaces;
pub mod output;
mod profile;
mod prune;
mod risk;
mod sessions;
mod status;
pub mod suggest;
mod switch_over;
pub mod version;
mod watch;
mod whoami;
mod wish;
mod wishes;

/// What the codes mean. On one line each: they are wrapped for whoever reads them.
macro_rules! exit_codes {
    () => {
        "\
Exit codes: 0 done; 1 failed; 2 called wrongly, or the service did not understand it; 3 not found, also where a \
name or a search is that of nothing; \
4 not authenticated or not allowed; 5 in conflict with what exists; 6 no answer, or none now (429, 503); \
7 a group is at risk (status --check)."
    };
}

const EXIT_CODES: &str = exit_codes!();

/// What every command says at the end of its help.
pub const CONNECTION_HELP: &str = concat!(
    "\
Credentials are never arguments. They come from the first of these places that has any: the flags above; the \
environment, as CLIENT_FAILOVER_TOKEN (an API key or another bearer token), CLIENT_FAILOVER_TOKEN_FILE, or \
CLIENT_FAILOVER_USER with CLIENT_FAILOVER_PASSWORD or CLIENT_FAILOVER_PASSWORD_FILE; the profile.

A profile is a table of the file that --profiles names, with the long flags as keys, and token or password if \
other accounts cannot open the file:

  [profiles.default]
  server = \"https://failover.plant.example:8443\"
  ca-file = \"/etc/ssl/plant-ca.pem\"
  token-file = \"/etc/client-failover/operator.key\"
  tenant = \"plant\"
  namespace = \"line1\"

",
    exit_codes!()
);

/// What an operator asks of a running service.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// List, show, create, change and delete groups, by a running service
    #[command(subcommand, after_help = EXIT_CODES)]
    Groups(GroupsCommand),
    /// List, delete and prune the client sessions of a group, by a running service
    #[command(subcommand, after_help = EXIT_CODES)]
    Sessions(SessionsCommand),
    /// Have another session of a group be Primary, once, and wait until it is
    #[command(name = "switchover", after_help = CONNECTION_HELP)]
    SwitchOver(switch_over::SwitchOverArgs),
    /// Have a session be Primary while it is live, whatever its health
    #[command(after_help = CONNECTION_HELP)]
    Force(wishes::ForceArgs),
    /// Have a session not be Primary, such as while its machine is worked on
    #[command(after_help = CONNECTION_HELP)]
    Exclude(wishes::ExcludeArgs),
    /// Take back that a session is forced or excluded
    #[command(after_help = CONNECTION_HELP)]
    Withdraw(wishes::WithdrawArgs),
    /// Find out whether an adapter would work with a service
    #[command(subcommand, after_help = EXIT_CODES)]
    Adapters(AdaptersCommand),
    /// Show who is Primary, since when, and which groups are at risk: those first
    #[command(after_help = CONNECTION_HELP)]
    Status(status::StatusArgs),
    /// List the tenants and namespaces that have groups
    #[command(after_help = CONNECTION_HELP)]
    Namespaces(namespaces::NamespacesArgs),
    /// Show when and why the roles of a group changed, the latest first
    #[command(after_help = CONNECTION_HELP)]
    History(history::HistoryArgs),
    /// Print what happened, or follow what happens: every change of a role and of configuration
    #[command(after_help = CONNECTION_HELP)]
    Events(events::EventsArgs),
    /// Show who you are to a service, and what you may do there
    #[command(after_help = CONNECTION_HELP)]
    Whoami(whoami::WhoamiArgs),
    /// Ask a running service whether it is alive: exit code 0 if it is, and another if not
    #[command(after_help = CONNECTION_HELP)]
    Health(ConnectionArgs),
}

/// What is done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// List the groups of a namespace, in order of their ids
    #[command(after_help = CONNECTION_HELP)]
    List(groups::ListArgs),
    /// Show one group and its sessions
    #[command(after_help = CONNECTION_HELP)]
    Show(groups::ShowArgs),
    /// Create a group that is not there yet
    #[command(after_help = CONNECTION_HELP)]
    Create(create::CreateArgs),
    /// Create groups, or change their configuration, as a file wants them; sessions and roles stay
    #[command(after_help = CONNECTION_HELP)]
    Apply(apply::ApplyArgs),
    /// Delete a group
    #[command(after_help = CONNECTION_HELP)]
    Delete(groups::DeleteArgs),
}

/// What is done with client sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List the sessions of a group, with their roles and what is left of their leases
    #[command(after_help = CONNECTION_HELP)]
    List(sessions::ListArgs),
    /// Delete a session; if it is the Primary, another may take over at once
    #[command(after_help = CONNECTION_HELP)]
    Delete(sessions::DeleteArgs),
    /// Delete the sessions that have been silent for long
    #[command(after_help = CONNECTION_HELP)]
    Prune(prune::PruneArgs),
}

/// What is found out for adapters.
#[derive(Debug, Subcommand)]
pub enum AdaptersCommand {
    /// Play an adapter against a service, step by step, and say what would not work
    #[command(mut_args = adapters::without_server, after_help = adapters::HELP)]
    Check(adapters::CheckArgs),
}

/// What every command in a namespace takes.
#[derive(Clone, Debug, Args)]
struct Common {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It was called wrongly, or a file that it was given is not as it must be.
    #[error("{0}")]
    Usage(String),
    /// The service refused, was not there, or did not answer as it does.
    #[error(transparent)]
    Service(ClientError),
    /// What was named is not there, and was not.
    #[error("{0}")]
    Nothing(String),
    /// A file, the terminal or an output.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// Nobody reads what is printed any more.
    #[error("nobody reads the output")]
    ClosedPipe,
    /// A question was answered with no.
    #[error("nothing was {0}")]
    Declined(&'static str),
    /// What is to be created is there already.
    #[error("{0}")]
    Exists(String),
    /// What was asked for has not come about.
    #[error("{0}")]
    Unfulfilled(String),
}

/// The service's words with a sentence of ours.
fn with_sentence(mut refusal: Box<Refusal>, sentence: &str) -> OperatorError {
    refusal.text += "\n";
    refusal.text += sentence;
    ClientError::Refused(refusal).into()
}

/// The name of a group that was given as an argument.
fn group_id(text: &str) -> Result<GroupId, OperatorError> {
    GroupId::parse(text)
        .map_err(|error| OperatorError::usage(format!("the group '{}' is not valid: {error}", printable(text))))
}

/// The name of a session that was given as an argument.
fn session_id(text: &str) -> Result<SessionId, OperatorError> {
    SessionId::parse(text)
        .map_err(|error| OperatorError::usage(format!("the session '{}' is not valid: {error}", printable(text))))
}

impl From<ClientError> for OperatorError {
    fn from(error: ClientError) -> OperatorError {
        match error {
            ClientError::Unreachable { server, mut cause } => {
                if cause.contains("UnknownIssuer") {
                    cause += " (--ca-file names an authority of your own)";
                }
                OperatorError::Service(ClientError::Unreachable { server, cause })
            }
            error @ (ClientError::Credential | ClientError::NotPlainHttp(_) | ClientError::Http(_)) => {
                OperatorError::Usage(error.to_string())
            }
            error @ (ClientError::Refused(_) | ClientError::Unintelligible(_)) => OperatorError::Service(error),
        }
    }
}

impl OperatorError {
    /// The exit code that scripts tell it by.
    pub fn exit_code(&self) -> u8 {
        match self {
            OperatorError::ClosedPipe => 0,
            OperatorError::Io { .. } | OperatorError::Declined(_) | OperatorError::Unfulfilled(_) => FAILED,
            OperatorError::Usage(_) => CALLED_WRONGLY,
            OperatorError::Nothing(_) => 3,
            OperatorError::Exists(_) => code_of(StatusCode::CONFLICT),
            OperatorError::Service(ClientError::Refused(refusal)) => code_of(refusal.status),
            OperatorError::Service(ClientError::Unreachable { .. }) => NO_ANSWER,
            OperatorError::Service(_) => FAILED,
        }
    }

    /// Whether the same request may succeed a little later.
    fn is_passing(&self) -> bool {
        matches!(self, OperatorError::Service(error) if error.is_passing())
    }

    /// An answer that is not one that the service gives.
    fn unintelligible(what: impl ToString) -> OperatorError {
        OperatorError::Service(ClientError::Unintelligible(what.to_string()))
    }

    fn usage(text: impl Into<String>) -> OperatorError {
        OperatorError::Usage(text.into())
    }
}

/// The exit code where something is not as it has to be, and no other code says what.
const FAILED: u8 = 1;
/// The exit code of who is called wrongly.
const CALLED_WRONGLY: u8 = 2;
/// The exit code where nobody answers.
const NO_ANSWER: u8 = 6;
/// The exit code of `status --check` where a group is at risk.
const AT_RISK: u8 = 7;

/// The exit code for an answer of that status, which is no success.
fn code_of(status: StatusCode) -> u8 {
    match status {
        StatusCode::BAD_REQUEST => CALLED_WRONGLY,
        StatusCode::NOT_FOUND => 3,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 4,
        StatusCode::CONFLICT => 5,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => NO_ANSWER,
        _ => FAILED,
    }
}

/// Runs a command. A closed pipe at the other end of the output is no error: its reader has what it
/// wanted.
pub async fn run(command: OperatorCommand) -> Result<ExitCode, OperatorError> {
    let done = match command {
        OperatorCommand::Groups(GroupsCommand::List(args)) => groups::list(args).await,
        OperatorCommand::Groups(GroupsCommand::Show(args)) => groups::show(args).await,
        OperatorCommand::Groups(GroupsCommand::Create(args)) => create::run(args).await,
        OperatorCommand::Groups(GroupsCommand::Apply(args)) => apply::run(args).await,
        OperatorCommand::Groups(GroupsCommand::Delete(args)) => groups::delete(args).await,
        OperatorCommand::Sessions(SessionsCommand::List(args)) => sessions::list(args).await,
        OperatorCommand::Sessions(SessionsCommand::Delete(args)) => sessions::delete(args).await,
        OperatorCommand::Sessions(SessionsCommand::Prune(args)) => prune::run(args).await,
        OperatorCommand::SwitchOver(args) => switch_over::run(args).await,
        OperatorCommand::Force(args) => wishes::force(args).await,
        OperatorCommand::Exclude(args) => wishes::exclude(args).await,
        OperatorCommand::Withdraw(args) => wishes::withdraw(args).await,
        OperatorCommand::Adapters(AdaptersCommand::Check(args)) => adapters::check(args).await,
        OperatorCommand::Status(args) => status::run(args).await,
        OperatorCommand::Namespaces(args) => namespaces::run(args).await,
        OperatorCommand::History(args) => history::run(args).await,
        OperatorCommand::Events(args) => events::run(args).await,
        OperatorCommand::Whoami(args) => whoami::run(args).await,
        OperatorCommand::Health(args) => health(args).await,
    };
    whatever_is_read(done)
}

/// A closed pipe at the other end of the output is no error.
fn whatever_is_read(done: Result<ExitCode, OperatorError>) -> Result<ExitCode, OperatorError> {
    match done {
        Err(OperatorError::ClosedPipe) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

/// A container engine takes any code but 0 for not healthy.
async fn health(args: ConnectionArgs) -> Result<ExitCode, OperatorError> {
    let service = connection::Connection::settle(&args)?.without_credentials().service()?;
    service.is_alive().await?;
    output::Printer::stdout().line("alive")?;
    Ok(ExitCode::SUCCESS)
}
