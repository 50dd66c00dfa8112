//! `client-failover run`: any program as a member of a group.
//!
//! The agent is the member: it heartbeats, and knows the role. Cold, it runs the program while it
//! is Primary, and has it dead before the lease ends. Warm or hot, the program always runs, and is
//! told the role. Between the agent and the program is a guardian ([`guardian`]), which kills the
//! program at the end of the lease whatever the agent does.

// Elsewhere there is nothing that kills a program with all that it has started, which has to be
// dead before its lease ends.
#![cfg(any(target_os = "linux", windows))]

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use client_failover_client::{HasLeft, Join, JoinError, Member};
use client_failover_operator::OperatorError;
use client_failover_operator::connection::{Connection, ConnectionArgs};
use client_failover_operator::output::complain;

use self::agent::Agent;

mod agent;
mod endpoint;
mod guarded;
pub mod guardian;
mod health;
mod ladder;
mod line;
mod shell;
mod system;
mod telling;

/// What is run, and how it is told its role.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The group, as tenant/namespace/group
    #[arg(long, env = "CLIENT_FAILOVER_GROUP", value_name = "GROUP")]
    group: String,
    /// The id of this session, the same after each restart [default: the name of this host]
    #[arg(long, env = "CLIENT_FAILOVER_SESSION", value_name = "ID")]
    session: Option<String>,
    /// Create the group with this failover timeout if it is not there
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    create: Option<Duration>,
    /// Other replicas of the service, to be asked where the first does not answer
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    /// Whether the program runs while it is Primary alone, or always
    #[arg(long, value_enum, default_value_t = Mode::Cold)]
    mode: Mode,
    /// Cold: end with the program's code when it ends, instead of starting it again
    #[arg(long)]
    once: bool,
    /// How long the program has to end after SIGTERM where nothing presses
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    stop_timeout: Duration,
    /// How often in a row the program is started again at once; then the role is given up for a
    /// time
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    restarts: u32,
    /// For how long the role is given up, and what a run has to last to count as one that went well
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    restart_pause: Duration,
    #[command(flatten)]
    telling: TellingArgs,
    #[command(flatten)]
    health: HealthArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// When the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// While this session is Primary. It is dead before another's can start.
    Cold,
    /// Always; as a standby it is ready and does little.
    Warm,
    /// Always; as a standby it does all but act.
    Hot,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Cold => "cold",
            Mode::Warm => "warm",
            Mode::Hot => "hot",
        }
    }
}

/// How a program that always runs is told its role.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Telling the role")]
pub struct TellingArgs {
    /// A file with the role and the term as JSON, replaced as a whole at each change
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// A line on the program's standard input at each change: the role and the term
    #[arg(long)]
    stdin_lines: bool,
    /// A signal when it becomes Primary, such as USR1
    #[arg(long, value_name = "SIGNAL")]
    signal_primary: Option<String>,
    /// A signal when it is Primary no more, such as USR2
    #[arg(long, value_name = "SIGNAL")]
    signal_secondary: Option<String>,
    /// A command when it becomes Primary
    #[arg(long, value_name = "COMMAND")]
    on_primary: Option<String>,
    /// A command when it is Primary no more
    #[arg(long, value_name = "COMMAND")]
    on_secondary: Option<String>,
    /// Answer GET over HTTP at this address with 200 while it is Primary, else with 503: a health
    /// check for load balancers
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Warm and hot: how long the program may act on after it was told to stop
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    stops_within: Duration,
}

/// Where health and the time of the last data come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Health")]
pub struct HealthArgs {
    /// A URL that answers 2xx while the program is healthy
    #[arg(long, value_name = "URL", conflicts_with = "health_command")]
    health_url: Option<String>,
    /// A command that ends with 0 while it is healthy; a number from 0 to 100 that it prints is how
    /// much
    #[arg(long, value_name = "COMMAND")]
    health_command: Option<String>,
    /// How long each of these may take
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    health_timeout: Duration,
    /// A file that is written whenever data has been sent
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// A command that prints up to when data has been sent, such as 2026-11-30T08:15:00Z
    #[arg(long, value_name = "COMMAND")]
    data_command: Option<String>,
    /// A named pipe, made where there is none, to which the program writes a line whenever it has
    /// sent data: the time of that data
    #[arg(long, value_name = "FILE")]
    data_pipe: Option<PathBuf>,
}

/// Why the agent ends without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It was called wrongly, or cannot reach a service as it was told.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// It cannot join the group.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It is a member no more.
    #[error(transparent)]
    HasLeft(#[from] HasLeft),
    /// The program, or what is around it, cannot be had.
    #[error("{what}: {error}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why it was not.
        error: io::Error,
    },
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
}

impl AgentError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> AgentError {
        move |error| AgentError::Io { what: what.into(), error }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            AgentError::Operator(error) => error.exit_code(),
            AgentError::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Runs a program as a member of a group, until it is told to end.
///
/// # Errors
///
/// It cannot join, or not do what it was told to.
pub async fn run(args: RunArgs) -> Result<ExitCode, AgentError> {
    system::begin().map_err(AgentError::io("orphans cannot be taken over"))?;
    let session = match &args.session {
        Some(session) => session.clone(),
        None => host_name()?,
    };
    let connection = Connection::settle(&args.connection)?;
    let join = Join::group(&args.group, &session)?.with_health(if args.health.is_given() { 0 } else { 100 });
    let join = connection.join(join)?;
    let join = args.also.iter().try_fold(join, |join, url| join.at(url))?;
    let join = args.create.into_iter().fold(join, Join::creating);
    let stop = agent::Stop::on_signals().map_err(AgentError::io("signals cannot be heard"))?;
    let mut asked_to_stop = stop.clone();
    // A program that this session ran before may still be about to end, under an agent that was
    // killed. Nobody is to hear that it has stopped before it has.
    let name = guardian::name_of(connection.server(), &args.group, &session);
    while guardian::take_name(&name).map_err(AgentError::io("the guardian has no name"))?.is_none() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            () = asked_to_stop.requested() => return Ok(ExitCode::SUCCESS),
        }
    }
    let member = tokio::select! {
        member = Member::join(join) => member?,
        () = asked_to_stop.requested() => return Ok(ExitCode::SUCCESS),
    };
    complain(&format!("{session} is a member of {}", args.group));
    let timeout = loop {
        match member.timeout() {
            Some(timeout) => break timeout,
            None => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
                () = asked_to_stop.requested() => return Ok(ExitCode::SUCCESS),
            },
        }
    };
    if timeout < ladder::SHORTEST {
        member.leave().await;
        return Err(AgentError::Usage(format!(
            "the group's failover timeout is {}: it takes {} at least to end a program in time",
            humantime::format_duration(timeout),
            humantime::format_duration(ladder::SHORTEST)
        )));
    }
    Agent::new(args, session, name, member, stop).await?.run().await
}

fn host_name() -> Result<String, AgentError> {
    system::host_name()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| AgentError::Usage("this host has no name: give --session".to_owned()))
}
