//! Whether anybody's client keeps the rules: the client is run against a service that misbehaves,
//! scene by scene, and it is said which rule it broke, and when.
//!
//! What the service does is in `scenes`, how it does it in `service`; what is a breach is in
//! `judge`, which knows only what happened. That a client acts is seen by what it prints.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use client_failover_children::Tree;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use judge::{Broken, Verdict, judge, seconds};
use record::Event;
use rules::Rule;
use scenes::{SCENES, Scene};
use service::{ScriptedService, Stage};

mod judge;
mod record;
mod rules;
mod scenes;
mod service;

/// What the command says at the end of its help.
pub const HELP: &str = "\
The client has to print a line whenever it acts as Primary, some ten times or more in a timeout, and to flush it at once. In the PROGRAM's \
arguments {server}, {tenant}, {namespace}, {group} and {session} stand for what it has to know; its environment has the \
same as CLIENT_FAILOVER_SERVER, _TENANT, _NAMESPACE, _GROUP and _SESSION.

  client-failover clients test -- python3 client.py {server} {session}
  client-failover clients test --acts-like 'sent ' --only silence,paused -- ./adapter --url {server}
  client-failover clients test -- client-failover run --server {server} --group {tenant}/{namespace}/{group} --session {session} -- sh -c 'while echo acts; do sleep 0.05; done'

Exit codes: 0 it keeps every rule that it was put to; 1 it breaks one; 2 it cannot be run.";

/// What is run, and how.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The group's failover timeout. A shorter one is done sooner, and asks more of the machine
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Only these scenes, with commas between
    #[arg(long, value_name = "SCENES", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(playable().map(|scene| scene.name)))]
    only: Vec<String>,
    /// Only a line that has this in it is an act
    #[arg(long, value_name = "TEXT")]
    acts_like: Option<String>,
    /// How many scenes are played at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Where the service listens, for a client that cannot be told: then one scene at a time
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Show what the client says on its standard error
    #[arg(long)]
    stderr: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// The client and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Why the command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The client cannot be run.
    #[error("{} cannot be run: {error}", program.to_string_lossy())]
    Program {
        /// What was to be run.
        program: OsString,
        /// Why it was not.
        error: io::Error,
    },
    /// The service cannot listen.
    #[error("nobody can listen at {address}: {error}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why it does not.
        error: io::Error,
    },
    /// Nobody reads what is said.
    #[error("what is found cannot be printed: {0}")]
    Output(#[from] io::Error),
}

impl ConformanceError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConformanceError::Program { .. } | ConformanceError::Listen { .. } => 2,
            ConformanceError::Output(_) => 1,
        }
    }
}

/// The same in each scene.
const SESSION: &str = "client-under-test";
/// How long a client may take to start and to register.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How much of a client's standard output counts as one line.
const LONGEST_LINE: u64 = 64 * 1024;
/// How often a scene is played in which the machine itself had no time.
const TRIES: u8 = 4;

/// The scenes that can be played here: nobody can stop a program on Windows and let it go on.
fn playable() -> impl Iterator<Item = &'static Scene> {
    SCENES.iter().filter(|scene| cfg!(unix) || scene.pauses_after.is_none())
}

/// Plays all scenes, and says what came of them.
///
/// # Errors
///
/// The client cannot be run, or nobody can listen.
pub async fn run(args: TestArgs) -> Result<ExitCode, ConformanceError> {
    let args = Arc::new(args);
    let is_chosen = |scene: &&Scene| args.only.is_empty() || args.only.iter().any(|name| name == scene.name);
    let chosen: Vec<&'static Scene> = playable().filter(is_chosen).collect();
    let places = Arc::new(Semaphore::new(if args.listen.is_some() { 1 } else { usize::from(args.at_once) }));
    let mut playing = JoinSet::new();
    for (place, scene) in chosen.into_iter().enumerate() {
        let (args, places) = (args.clone(), places.clone());
        playing.spawn(async move {
            let _place = places.acquire_owned().await.expect("nobody closes it");
            Ok::<_, ConformanceError>((place, scene, play_until_certain(&args, scene).await?))
        });
    }
    let mut played = BTreeMap::new();
    while let Some(done) = playing.join_next().await {
        let (place, scene, verdict) = done.expect("a scene does not panic")?;
        played.insert(place, (scene, verdict));
    }
    let mut verdicts: Vec<(&'static Scene, Verdict)> = played.into_values().collect();
    same_id(&mut verdicts);
    let rules = of_rules(&verdicts);
    let is_kept = rules.iter().all(|rule| rule.outcome != Outcome::Broken);
    let text = if args.json { serde_json::to_string_pretty(&rules).unwrap_or_default() } else { as_text(&rules) };
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A client that is found again has one id, whenever it is started.
fn same_id(verdicts: &mut [(&'static Scene, Verdict)]) {
    let ids: BTreeSet<String> = verdicts.iter().flat_map(|(_, verdict)| verdict.sessions.clone()).collect();
    if ids.len() > 1
        && let Some((_, verdict)) = verdicts.first_mut()
    {
        let ids: Vec<String> = ids.into_iter().collect();
        let what = format!("it has another id at each start: {}", ids.join(", "));
        verdict.broken.push(Broken { rule: Rule::Registers, at: Duration::ZERO, what });
    }
}

/// Where the machine had no time, what was seen may be the machine's fault: it is seen again.
async fn play_until_certain(args: &TestArgs, scene: &'static Scene) -> Result<Verdict, ConformanceError> {
    let mut verdict = Verdict::default();
    for place in 0..TRIES {
        let (seen, longest_stall) = play(args, scene, place).await?;
        verdict = seen;
        // One that was stopped between its look at the clock and what it did has broken nothing:
        // that does not happen again and again.
        let may_be_chance = verdict.broken.iter().any(|broken| broken.rule == Rule::LooksAtTheClock);
        if verdict.broken.is_empty() || !may_be_chance && longest_stall < moment(args.timeout) / 4 {
            break;
        }
    }
    Ok(verdict)
}

/// What a client is allowed for the way from what it does to where it is seen.
fn moment(timeout: Duration) -> Duration {
    (timeout / 10).max(Duration::from_millis(100))
}

/// One scene; what came of it, and how long this process itself was held up.
async fn play(args: &TestArgs, scene: &'static Scene, place: u8) -> Result<(Verdict, Duration), ConformanceError> {
    let stage = Arc::new(Stage::new(scene, args.timeout));
    let address = args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let service = ScriptedService::start(address, stage.clone()).await;
    let service = service.map_err(|error| ConformanceError::Listen { address, error })?;
    let stall = Arc::new(AtomicU64::new(0));
    let watching = tokio::spawn(watch_the_machine(stall.clone()));
    let (mut client, tree) = start(args, service.address)?;
    let out = client.stdout.take().expect("it is piped");
    let reading = tokio::spawn(read_acts(out, args.acts_like.clone(), stage.clone()));
    let acting = async {
        if timeout(STARTS_WITHIN, stage.has_answered(1)).await.is_err() {
            return;
        }
        let until = Instant::now() + args.timeout.mul_f64(scene.lasts);
        if let Some(n) = scene.pauses_after {
            // A client that sends no such heartbeat has broken another rule.
            let _ = timeout(args.timeout * 4, stage.has_answered(n)).await;
            sleep(args.timeout.mul_f64(0.1 + 0.07 * f64::from(place))).await;
            stage.record.add(Event::Paused);
            pause(&tree);
            sleep(args.timeout.mul_f64(1.5)).await;
            stage.record.add(Event::Continued);
            go_on(&tree);
        }
        sleep_until(until).await;
    };
    let ended = tokio::select! {
        ended = client.wait() => Some(ended),
        () = acting => None,
    };
    match ended {
        Some(ended) => note_end(&stage, ended),
        None => {
            stage.record.add(Event::ToldToEnd);
            tree.ask_to_end();
            if let Ok(ended) = timeout(ENDS_WITHIN.max(args.timeout), client.wait()).await {
                note_end(&stage, ended);
            }
        }
    }
    // With all that it has started.
    tree.kill();
    let _ = client.kill().await;
    let _ = timeout(Duration::from_millis(500), reading).await;
    watching.abort();
    service.end().await;
    let stall = Duration::from_micros(stall.load(Ordering::Relaxed));
    Ok((judge(scene, &stage.record.events(), args.timeout, moment(args.timeout)), stall))
}

#[cfg(unix)]
fn pause(client: &Tree) {
    client.signal(nix::sys::signal::Signal::SIGSTOP);
}

#[cfg(unix)]
fn go_on(client: &Tree) {
    client.signal(nix::sys::signal::Signal::SIGCONT);
}

// No scene that can be played there does it.
#[cfg(windows)]
fn pause(_: &Tree) {}

#[cfg(windows)]
fn go_on(_: &Tree) {}

/// Measures how late this process itself is woken.
async fn watch_the_machine(longest: Arc<AtomicU64>) {
    const PAUSE: Duration = Duration::from_millis(10);
    loop {
        let before = Instant::now();
        sleep(PAUSE).await;
        let late = before.elapsed().saturating_sub(PAUSE);
        longest.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn start(args: &TestArgs, address: SocketAddr) -> Result<(Child, Tree), ConformanceError> {
    let server = format!("http://{address}");
    let known =
        [("server", server.as_str()), ("tenant", "t"), ("namespace", "n"), ("group", "pump"), ("session", SESSION)];
    let filled = |argument: &OsString| match argument.to_str() {
        Some(text) => {
            let fill = |text: String, (name, value): &(&str, &str)| text.replace(&format!("{{{name}}}"), value);
            OsString::from(known.iter().fold(text.to_owned(), fill))
        }
        None => argument.clone(),
    };
    let (program, arguments) = args.program.split_first().expect("one at least is required");
    let mut command = Command::new(filled(program));
    command.args(arguments.iter().map(filled));
    command.envs(known.map(|(name, value)| (format!("CLIENT_FAILOVER_{}", name.to_uppercase()), value)));
    // A line counts when it comes.
    command.env("PYTHONUNBUFFERED", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    if !args.stderr {
        command.stderr(Stdio::null());
    }
    Tree::spawn(&mut command).map_err(|error| ConformanceError::Program { program: program.clone(), error })
}

/// Takes each line that the client prints for something that it did.
async fn read_acts(out: impl tokio::io::AsyncRead + Unpin, like: Option<String>, stage: Arc<Stage>) {
    let mut out = BufReader::new(out);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut out).take(LONGEST_LINE);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                if like.as_ref().is_none_or(|like| text.contains(like.as_str())) {
                    stage.record.add(Event::Acted);
                }
            }
        }
    }
}

fn note_end(stage: &Stage, ended: io::Result<std::process::ExitStatus>) {
    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    stage.record.add(Event::Ended { how });
}

/// What came of one rule.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OfRule<'v> {
    rule: &'static str,
    says: &'static str,
    outcome: Outcome,
    breaches: Vec<Breach<'v>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
enum Outcome {
    Kept,
    Broken,
    NotSeen,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Breach<'v> {
    scene: &'static str,
    #[serde(skip)]
    happens: &'static str,
    #[serde(skip)]
    at: Duration,
    at_ms: u128,
    what: &'v str,
}

fn of_rules<'v>(verdicts: &'v [(&'static Scene, Verdict)]) -> Vec<OfRule<'v>> {
    let of_rule = |rule: &Rule| {
        let mut breaches = Vec::new();
        for (scene, verdict) in verdicts {
            let of_rule = verdict.broken.iter().filter(|broken| broken.rule == *rule);
            breaches.extend(of_rule.map(|broken| Breach {
                scene: scene.name,
                happens: scene.says,
                at: broken.at,
                at_ms: broken.at.as_millis(),
                what: &broken.what,
            }));
        }
        let is_tried = verdicts.iter().any(|(_, verdict)| verdict.tried.contains(rule));
        let outcome = match (breaches.is_empty(), is_tried) {
            (false, _) => Outcome::Broken,
            (true, true) => Outcome::Kept,
            (true, false) => Outcome::NotSeen,
        };
        OfRule { rule: rule.name(), says: rule.says(), outcome, breaches }
    };
    Rule::ALL.iter().map(of_rule).collect()
}

/// For people: each rule, and where it was broken.
fn as_text(rules: &[OfRule<'_>]) -> String {
    let mut lines = Vec::new();
    for OfRule { rule, says, outcome, breaches } in rules {
        let word = match outcome {
            Outcome::Broken => "BROKEN",
            Outcome::Kept => "kept",
            Outcome::NotSeen => "not seen",
        };
        lines.push(format!("{word:8}  {rule:20}  {says}"));
        for Breach { scene, happens, at, what, .. } in breaches {
            lines.push(format!("          in '{scene}' ({happens}), at {}: {what}", seconds(*at)));
        }
    }
    lines.push(match rules.iter().filter(|rule| rule.outcome == Outcome::Broken).count() {
        0 => "The client keeps every rule that it was put to.".to_owned(),
        1 => "The client breaks one rule.".to_owned(),
        count => format!("The client breaks {count} rules."),
    });
    lines.join("\n")
}
