//! `client-failover demo`: a newcomer sees a takeover happen.
//!
//! Everything is real: a running service, and adapters in processes of their own that are really
//! killed. What is shown and judged at the end is what the adapters wrote down themselves, on the
//! one clock of the machine.

use std::io;
use std::time::Duration;

use client_failover_children::{ServiceProcess, ServiceProcessError};
use client_failover_client::{ClientError, Scope, Service};
use client_failover_wire::ids::{GroupId, InvalidId, NamespaceId, NamespacePath, TenantId};
use client_failover_wire::timespan;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;

use screen::{Screen, Style};
use story::Story;

mod adapter;
mod board;
mod cast;
mod event;
mod record;
mod screen;
mod story;
mod timeline;

const TENANT: &str = "demo";
const NAMESPACE: &str = "demo";
const NAMES: [&str; 9] = ["A", "B", "C", "D", "E", "F", "G", "H", "I"];
/// How long the demo's own requests wait, and how long the service may take until it is ready for
/// the first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const READY_LIMIT: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// A service that has just started is not ready at once, which nobody needs to be told.
const WAITS_UNTOLD: u32 = 5;

/// Shows a takeover with adapters that are real processes, and checks that never two acted at once.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {
    /// The running service to use, such as http://127.0.0.1:8080 [default: a service of its own,
    /// with a private PostgreSQL in a temporary folder, both gone afterwards]
    #[arg(long, env = "CLIENT_FAILOVER_SERVER", value_name = "URL")]
    server: Option<String>,

    /// How many adapters take part, 2 to 9
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    adapters: u8,

    /// The group's failover timeout, 500ms to 1m: how long a dead Primary keeps the role
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_timeout)]
    timeout: Duration,

    /// One line for each event instead of a live table, as when the output is not a terminal
    #[arg(long)]
    plain: bool,
}

/// Runs one adapter of the demo: registers, heartbeats, acts while it may, and writes its record to
/// standard output. Standard input takes `health 40` and `quit`.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoAdapterArgs {
    /// The service
    #[arg(long, value_name = "URL")]
    server: String,
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// The namespace
    #[arg(long)]
    namespace: String,
    /// The group
    #[arg(long)]
    group: String,
    /// The id of the session to register
    #[arg(long)]
    session: String,
    /// The group's failover timeout in milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..))]
    timeout_ms: u64,
}

impl DemoAdapterArgs {
    fn to_flags(&self) -> Vec<String> {
        let timeout_ms = self.timeout_ms.to_string();
        [
            ("--server", &self.server),
            ("--tenant", &self.tenant),
            ("--namespace", &self.namespace),
            ("--group", &self.group),
            ("--session", &self.session),
            ("--timeout-ms", &timeout_ms),
        ]
        .map(|(flag, value)| [flag.to_owned(), value.clone()])
        .concat()
    }
}

/// Why the demo could not be shown to the end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// By Ctrl-C, or another signal that asks to end.
    #[error("interrupted")]
    Interrupted,
    /// There is no way to ask the service.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// A name is not one.
    #[error("a name is not valid: {0}")]
    Name(#[from] InvalidId),
    /// A process cannot be started.
    #[error("a process could not be started: {0}")]
    Spawn(#[source] io::Error),
    /// A process cannot be killed.
    #[error("an adapter could not be killed: {0}")]
    Kill(#[source] io::Error),
    /// A command does not reach an adapter.
    #[error("an adapter could not be told something: {0}")]
    Tell(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("signals cannot be received: {0}")]
    Signals(#[source] io::Error),
    /// There is no service of the demo's own.
    #[error(transparent)]
    Service(#[from] ServiceProcessError),
    /// A request to the service failed.
    #[error("could not {what}: {error}")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        error: ClientError,
    },
    /// An adapter's process ended by itself.
    #[error("adapter {name} ended by itself; it said: {last_words}")]
    AdapterEnded {
        /// Which.
        name: String,
        /// What it wrote last.
        last_words: String,
    },
    /// A stage did not come to its end.
    #[error("gave up after {limit} of waiting until {what}")]
    Overdue {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: String,
    },
    /// The output does not take what is written to it.
    #[error("the output cannot be written: {0}")]
    Output(#[source] io::Error),
}

impl DemoError {
    /// The exit code that says it: 130 for an interruption, 2 for a wrong address, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            DemoError::Interrupted => 130,
            DemoError::Connection(ClientError::NotPlainHttp(_)) | DemoError::Name(_) => 2,
            _ => 1,
        }
    }
}

/// Shows the demo. Says whether the promise held.
pub async fn run(args: DemoArgs) -> Result<bool, DemoError> {
    let mut interrupts = Interrupts::listen()?;
    let style = if args.plain { Style::Lines } else { Style::of_stdout() };
    let mut screen = Screen::new(style);
    if let Some(url) = &args.server {
        return show(&args, url, &mut screen, &mut interrupts).await;
    }
    screen.print("Starting a service for this demo, with a private PostgreSQL ...")?;
    let program = std::env::current_exe().map_err(DemoError::Spawn)?;
    let mut server = ServiceProcess::spawn(&program, &[])?;
    let url = tokio::select! {
        url = server.url() => url.map_err(DemoError::from),
        () = interrupts.next() => Err(DemoError::Interrupted),
    };
    let outcome = match url {
        Ok(url) => show(&args, &url, &mut screen, &mut interrupts).await,
        Err(error) => Err(error),
    };
    server.stop().await;
    outcome
}

/// Runs one adapter until it is told to quit or its standard input ends.
pub async fn run_adapter(args: DemoAdapterArgs) -> Result<(), DemoError> {
    adapter::run(args).await
}

async fn show(
    args: &DemoArgs,
    server: &str,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<bool, DemoError> {
    let group = DemoGroup {
        service: Service::plain(server, REQUEST_TIMEOUT)?,
        namespace: NamespacePath { tenant: TenantId::parse(TENANT)?, namespace: NamespaceId::parse(NAMESPACE)? },
        group: GroupId::parse(format!("demo-{:08x}", fastrand::u32(..)))?,
    };
    let outcome = tokio::select! {
        outcome = perform(args, server, &group, screen) => outcome,
        () = interrupts.next() => Err(DemoError::Interrupted),
    };
    match group.delete().await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        // Where there is no service, there is nothing left behind in it that anybody could delete.
        Err(_) if outcome.is_err() => {}
        Err(error) => return Err(DemoError::Request { what: "delete the demo's group", error }),
    }
    outcome
}

async fn perform(args: &DemoArgs, server: &str, group: &DemoGroup, screen: &mut Screen) -> Result<bool, DemoError> {
    prepare(group, args.timeout, server, screen).await?;
    screen.print(&format!(
        "{} adapters, of which one at a time may act. Each heartbeats every {}.\n\
         The failover timeout is {}: for so long a dead Primary keeps its lease.\n\
         Meanwhile, look for yourself:\n  curl {}",
        args.adapters,
        humantime::format_duration(args.timeout / 2),
        humantime::format_duration(args.timeout),
        group.address(),
    ))?;
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let adapter = |name: &&str| DemoAdapterArgs {
        server: server.to_owned(),
        tenant: TENANT.to_owned(),
        namespace: NAMESPACE.to_owned(),
        group: group.group.to_string(),
        session: (*name).to_owned(),
        timeout_ms,
    };
    let adapters = NAMES[..usize::from(args.adapters)].iter().map(adapter).collect();
    let record = Story::new(screen, adapters, args.timeout).tell().await?;
    screen.print(&format!("\n{}", timeline::render(&record).trim_end()))?;
    Ok(record.breaches().is_empty())
}

/// Waits until the service is ready, and creates the group.
async fn prepare(group: &DemoGroup, timeout: Duration, server: &str, screen: &mut Screen) -> Result<(), DemoError> {
    let deadline = time::Instant::now() + READY_LIMIT;
    let mut waits = 0;
    loop {
        let (what, outcome) = match group.service.is_ready().await {
            Ok(()) => ("create the demo's group", group.put(timeout).await),
            Err(error) => ("reach a service that is ready", Err(error)),
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() && time::Instant::now() < deadline => {
                waits += 1;
                if waits == WAITS_UNTOLD {
                    screen.print(&format!("Waiting for {server}. For now: {error}"))?;
                }
                time::sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(DemoError::Request { what, error }),
        }
    }
}

/// The group of the demo, as the demo itself reaches it.
struct DemoGroup {
    service: Service,
    namespace: NamespacePath,
    group: GroupId,
}

impl DemoGroup {
    fn path(&self) -> Vec<&str> {
        Scope::Namespace(&self.namespace).group(&self.group, &[])
    }

    /// Where it can be looked at.
    fn address(&self) -> String {
        self.service.address(&self.path())
    }

    async fn put(&self, timeout: Duration) -> Result<(), ClientError> {
        let ticks = i64::try_from(timeout.as_nanos() / 100).unwrap_or(i64::MAX);
        let body = json!({ "Name": "client-failover demo", "FailoverTimeout": timespan::format(ticks) });
        self.service.put(&self.path(), body.to_string()).await
    }

    async fn delete(&self) -> Result<(), ClientError> {
        self.service.delete(&self.path(), &[("force", "true".to_owned())]).await
    }
}

/// A duration as people read it: seconds with two digits.
fn in_seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

struct Interrupts([Signal; 3]);

impl Interrupts {
    fn listen() -> Result<Interrupts, DemoError> {
        let listen = |kind| signal(kind).map_err(DemoError::Signals);
        Ok(Interrupts([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(500)..=Duration::from_secs(60);
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("it must be 500ms to 1m".to_owned()) }
}
