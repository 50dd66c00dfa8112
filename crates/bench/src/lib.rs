//! What the service does on this machine, beside what PostgreSQL does without it.
//!
//! Everything is real: replicas in processes of their own, a durable PostgreSQL, clients on TCP
//! connections, on one machine together. Figures of one machine at one time say little; so each is
//! set beside one of the same run, pgbench with one serializable transaction for each heartbeat, in
//! alternating rounds of which the median counts.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client_failover::postgres::PostgresError;
use client_failover::store::migrate::MigrateError;
use client_failover_children::ServiceProcessError;
use client_failover_client::{ClientError, Scope, Service};
use client_failover_wire::ids::InvalidId;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use bare::BareServer;
use fleet::{Fleet, Form, SHORT_TIMEOUT, lags_of_lapses};
use load::{Load, Outcome, Pace, Progress, Spread};
use peer::PeerOutcome;
use report::{
    ConnectionsPoint, Costs, Forms, Idle, Lapse, Listing, LoadPoint, Report, ScalePoint, Setup, SoakPoint, Throughput,
    median,
};
use site::{DatabaseServer, Site};

pub use bare::{BareArgs, serve_bare};

mod bare;
mod fleet;
mod load;
mod peer;
mod report;
mod site;
mod usage;

/// The shares of the full load at which latencies are measured.
const LOAD_SHARES: [f64; 6] = [0.1, 0.25, 0.5, 0.7, 0.85, 0.95];

/// Groups that lapse at the same time in the part of that name.
const LAPSING_GROUPS: u64 = 10_000;

/// How long the last of them is waited for.
const LONGEST_LAPSE: Duration = Duration::from_secs(120);

/// The longest silence while all groups are listed: a million take their time until the first byte.
const LONGEST_LIST_SILENCE: Duration = Duration::from_secs(300);

/// Measures heartbeats per second and latencies of a service of its own, beside pgbench on the same
/// PostgreSQL.
#[derive(clap::Args, Debug, Clone)]
pub struct BenchArgs {
    /// What is measured; without this: idle, throughput and latency
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    parts: Vec<Part>,

    /// Sessions in the database; the part 'scale' has its own
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2..))]
    sessions: u64,

    /// Sessions in each group
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    sessions_per_group: u64,

    /// Sizes of the fleet for the part 'scale'
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_values_t = [1_000, 100_000, 1_000_000])]
    sizes: Vec<u64>,

    /// Sessions in each group for the part 'groups', each time so many groups that the fleet has
    /// 'sessions' of them
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_values_t = [2, 10, 100, 1_000])]
    group_sizes: Vec<u64>,

    /// How many clients for the part 'connections'
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_values_t = [64, 256, 512])]
    connection_counts: Vec<u32>,

    /// Clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,

    /// Connections of pgbench
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pgbench_clients: u32,

    /// How long one round lasts
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    round: Duration,

    /// Rounds of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// How long each fleet of the part 'scale' is under load before it is measured, as one that has
    /// run for a while
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    settle: Duration,

    /// How long the part 'soak' lasts
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    soak: Duration,

    /// Write everything that was measured as JSON to this file; '-' for standard output, without
    /// the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw latency against load as SVG into this file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Draw processor time for a heartbeat against the size of the fleet as SVG into this file
    #[arg(long, value_name = "FILE")]
    plot_scale: Option<PathBuf>,

    /// Draw processor time for a heartbeat against the size of its group as SVG into this file
    #[arg(long, value_name = "FILE")]
    plot_groups: Option<PathBuf>,

    /// The PostgreSQL to measure on, as a user that may create databases [default: a private one in
    /// a temporary folder]
    #[arg(long, env = "CLIENT_FAILOVER_BENCH_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<client_failover_wire::Secret>,

    /// Where the programs of the private PostgreSQL are [default: found by PATH, else in the
    /// distribution's folders]
    #[arg(long, env = "CLIENT_FAILOVER_POSTGRES_BIN_DIR", value_name = "DIR")]
    postgres_bin_dir: Option<PathBuf>,

    /// A setting of the private PostgreSQL, such as shared_buffers=1GB
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    postgres_setting: Vec<(String, String)>,

    /// The program to measure, which is started with the command serve [default: the service that
    /// is built into this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// Flags for the service that is measured, after '--'
    #[arg(last = true, value_name = "FLAGS")]
    serve_flags: Vec<OsString>,
}

/// Something that can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// One client on an idle service
    Idle,
    /// As many heartbeats as go through
    Throughput,
    /// Latency from the instant of sending that was intended, at shares of the full load
    Latency,
    /// As many as go through with few clients and with many, beside pgbench and beside HTTP alone
    Connections,
    /// Fleets of several sizes
    Scale,
    /// Groups of several sizes
    Groups,
    /// Heartbeats in both forms of the API, in turns
    Forms,
    /// Two replicas on one database
    Replicas,
    /// Two and four writers in a replica
    Writers,
    /// A list of all groups
    List,
    /// Ten thousand groups that lapse together under half the load
    Lapse,
    /// Full load for longer: tables, memory
    Soak,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "it is not NAME=VALUE".to_owned())
}

/// A way of serving.
struct Way {
    what: &'static str,
    replicas: usize,
    writers: usize,
    /// The most heartbeats in a transaction, if not the default.
    batch: Option<usize>,
    spread: Spread,
}

const ONE: Way = Way { what: "one replica, one writer", replicas: 1, writers: 1, batch: None, spread: Spread::Random };

const REPLICAS: [Way; 3] = [
    ONE,
    Way { what: "two replicas, any takes any", replicas: 2, ..ONE },
    Way { what: "two replicas, a group each", replicas: 2, spread: Spread::ByGroup, ..ONE },
];

/// The others join in only where a whole transaction is left waiting, which with the default takes
/// more clients than these.
const SMALL: Way = Way { batch: Some(64), ..ONE };
const WRITERS: [Way; 3] = [
    Way { what: "one writer, batches of 64", ..SMALL },
    Way { what: "two writers", writers: 2, ..SMALL },
    Way { what: "four writers", writers: 4, ..SMALL },
];

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The temporary folder.
    #[error("the temporary folder cannot be made: {0}")]
    Folder(#[source] io::Error),
    /// The private server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The service.
    #[error(transparent)]
    Service(#[from] ServiceProcessError),
    /// The service said something else than its address.
    #[error("'{0}' is not an address that the service can be reached at")]
    NoAddress(String),
    /// The service has no database.
    #[error("the service did not become ready within 30 s")]
    NotReady,
    /// The URL of the database.
    #[error("the database URL is none: {0}")]
    DatabaseUrl(#[source] sqlx::Error),
    /// The tables.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A statement.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// A name of the fleet.
    #[error("a name of the fleet: {0}")]
    Name(#[from] InvalidId),
    /// pgbench.
    #[error("pgbench cannot be used (Debian has it in the package postgresql): {0}")]
    Peer(String),
    /// A heartbeat.
    #[error("a heartbeat failed: {0}")]
    Heartbeat(#[source] io::Error),
    /// A request that is not a heartbeat.
    #[error("a request failed: {0}")]
    Request(#[from] ClientError),
    /// The report.
    #[error("the report cannot be written: {0}")]
    Report(String),
}

/// Measures, and gives the report as text; with `--json -` as JSON.
pub async fn run(args: BenchArgs) -> Result<String, BenchError> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(ServiceProcessError::Spawn)?,
    };
    let url = args.database_url.as_ref().map(|url| url.reveal().to_owned());
    let server =
        DatabaseServer::start(url.as_deref(), args.postgres_bin_dir.clone(), args.postgres_setting.clone()).await?;
    let postgres = server.version().await?;
    let mut bench = Bench { report: Report::new(postgres, &args), server, program, bar: bar(), args };
    let measured = tokio::select! {
        measured = bench.measure() => measured,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    bench.bar.finish_and_clear();
    let Bench { server, report, args, .. } = bench;
    server.stop().await?;
    measured?;
    type Draw = fn(&Report, &Path) -> Result<(), String>;
    let plots: [(_, Draw); 3] = [
        (&args.plot, Report::draw_latency),
        (&args.plot_scale, Report::draw_scale),
        (&args.plot_groups, Report::draw_groups),
    ];
    for (file, draw) in plots {
        file.as_ref().map_or(Ok(()), |file| draw(&report, file)).map_err(BenchError::Report)?;
    }
    let json = || serde_json::to_string_pretty(&report).map_err(|error| BenchError::Report(error.to_string()));
    match &args.json {
        Some(file) if file.as_os_str() == "-" => json(),
        Some(file) => {
            std::fs::write(file, json()? + "\n").map_err(|error| BenchError::Report(error.to_string()))?;
            Ok(report.table())
        }
        None => Ok(report.table()),
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

struct Bench {
    args: BenchArgs,
    server: DatabaseServer,
    /// What is started as the service.
    program: PathBuf,
    report: Report,
    bar: ProgressBar,
}

impl Bench {
    async fn measure(&mut self) -> Result<(), BenchError> {
        let parts = if self.args.parts.is_empty() {
            vec![Part::Idle, Part::Throughput, Part::Latency]
        } else {
            self.args.parts.clone()
        };
        let one_site = [
            Part::Idle,
            Part::Throughput,
            Part::Latency,
            Part::Connections,
            Part::Forms,
            Part::Replicas,
            Part::Writers,
            Part::List,
            Part::Lapse,
            Part::Soak,
        ];
        if parts.iter().any(|part| one_site.contains(part)) {
            let mut site = self.build_site(self.fleet(self.args.sessions), true).await?;
            for part in one_site.into_iter().filter(|part| parts.contains(part)) {
                match part {
                    Part::Idle => self.measure_idle(&mut site).await?,
                    Part::Throughput => self.measure_throughput(&mut site).await?,
                    Part::Latency => self.measure_latency(&mut site).await?,
                    Part::Forms => self.measure_forms(&mut site).await?,
                    Part::Replicas => self.report.replicas = self.measure_setups(&mut site, &REPLICAS).await?,
                    Part::Writers => self.report.writers = self.measure_setups(&mut site, &WRITERS).await?,
                    Part::List => self.measure_list(&mut site).await?,
                    Part::Lapse => self.measure_lapse(&mut site).await?,
                    Part::Soak => self.measure_soak(&mut site).await?,
                    Part::Connections => self.measure_connections(&mut site).await?,
                    Part::Scale | Part::Groups => {}
                }
            }
            site.demolish(&self.server).await?;
        }
        if parts.contains(&Part::Scale) {
            let fleets = self.args.sizes.iter().map(|sessions| self.fleet(*sessions)).collect();
            self.report.scale = self.measure_fleets(fleets).await?;
        }
        if parts.contains(&Part::Groups) {
            let of_size = |size: &u64| Fleet::new(self.args.sessions / size, *size);
            let fleets = self.args.group_sizes.iter().map(of_size).collect();
            self.report.groups = self.measure_fleets(fleets).await?;
        }
        Ok(())
    }

    fn fleet(&self, sessions: u64) -> Fleet {
        Fleet::new(sessions / self.args.sessions_per_group, self.args.sessions_per_group)
    }

    async fn build_site(&self, fleet: Fleet, with_peer: bool) -> Result<Site, BenchError> {
        self.bar.set_length(fleet.groups());
        self.bar.set_message(format!("{} sessions are written", fleet.sessions()));
        let bar = self.bar.clone();
        let label = format!("{}_{}", fleet.groups(), fleet.sessions_per_group());
        let mut site = Site::build(&self.server, &label, fleet, with_peer, move |done| bar.set_position(done)).await?;
        site.serve_with(&self.server, 1, &self.program, &self.args.serve_flags).await?;
        Ok(site)
    }

    fn load(&self, site: &Site, pace: Pace) -> Load {
        Load {
            replicas: site.addresses(),
            spread: Spread::Random,
            fleet: site.fleet,
            connections: self.args.connections as usize,
            pace,
            warm_up: self.args.round.min(Duration::from_secs(1)) / 2,
            duration: self.args.round,
        }
    }

    async fn run_load(&self, load: &Load, what: &str) -> Outcome {
        let progress = Progress::default();
        let whole = load.warm_up + load.duration;
        self.bar.set_length(whole.as_millis() as u64);
        let begin = Instant::now();
        let watch = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let answered = progress.answered();
                self.bar.set_position(begin.elapsed().as_millis() as u64);
                self.bar.set_message(format!("{what}: {} heartbeats/s", (answered - before) * 2));
                before = answered;
            }
        };
        tokio::select! {
            outcome = load::run(load, &progress) => outcome,
            () = watch => Outcome::default(),
        }
    }

    async fn run_peer(&self, site: &Site, clients: usize) -> Result<PeerOutcome, BenchError> {
        self.bar.set_message("pgbench");
        let fleet = (site.fleet.groups(), site.fleet.sessions_per_group());
        peer::run(&self.server.reach(), site.database(), self.server.folder(), fleet, clients, self.args.round).await
    }

    async fn measure_idle(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let mut pairs = Vec::new();
        for _ in 0..self.args.rounds {
            let load = Load { connections: 1, ..self.load(site, Pace::Unbounded) };
            let service = self.run_load(&load, "one client").await;
            pairs.push((service, self.run_peer(site, 1).await?));
        }
        self.report.idle = Some(Idle::of(pairs));
        Ok(())
    }

    async fn measure_throughput(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let mut pairs = Vec::new();
        let mut costs = Costs::default();
        let before = site.counters().await?;
        for _ in 0..self.args.rounds {
            let load = self.load(site, Pace::Unbounded);
            let usage = self.usage(site);
            let service = self.run_load(&load, "as many as go through").await;
            costs.add(usage, self.usage(site), &service, load.duration + load.warm_up);
            pairs.push((service, self.run_peer(site, self.args.pgbench_clients as usize).await?));
        }
        let after = site.counters().await?;
        let resident_bytes = site.resident_bytes();
        self.report.throughput = Some(Throughput::of(pairs, costs, before, after, resident_bytes));
        Ok(())
    }

    /// Processor seconds so far of the service, of PostgreSQL, and of this process.
    fn usage(&self, site: &Site) -> [f64; 3] {
        [site.processor_seconds(), self.server.processor_seconds(), usage::processor_seconds(std::process::id())]
    }

    async fn full_load(&self, site: &Site) -> f64 {
        match &self.report.throughput {
            Some(throughput) => throughput.service.per_second,
            None => self.run_load(&self.load(site, Pace::Unbounded), "as many as go through").await.per_second,
        }
    }

    async fn measure_latency(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let full = self.full_load(site).await;
        for share in LOAD_SHARES {
            let rate = full * share;
            let what = format!("{:.0}% of the full load", share * 100.0);
            let load = self.load(site, Pace::PerSecond(rate));
            let mut rounds = Vec::new();
            // The one that is promised about is the median of as many rounds as the others.
            for _ in 0..if share == 0.5 { self.args.rounds } else { 1 } {
                rounds.push(self.run_load(&load, &what).await);
            }
            self.report.latency.push(LoadPoint {
                share,
                intended_per_second: rate,
                outcome: median(rounds, |o| o.p99_ms),
            });
        }
        Ok(())
    }

    /// What HTTP alone can do is measured with the very answer that the service gave.
    async fn measure_connections(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let Some(address) = site.addresses().first().copied() else { return Ok(()) };
        let answer = load::ask_once(address, &site.fleet).await.map_err(BenchError::Heartbeat)?;
        let bare = BareServer::start(&answer).await?;
        for connections in self.args.connection_counts.clone() {
            let (mut rounds, mut costs, mut bare_costs) = (Vec::new(), Costs::default(), Costs::default());
            for _ in 0..self.args.rounds {
                let load = Load { connections: connections as usize, ..self.load(site, Pace::Unbounded) };
                let whole = load.duration + load.warm_up;
                let before = self.usage(site);
                let service = self.run_load(&load, &format!("{connections} clients")).await;
                costs.add(before, self.usage(site), &service, whole);
                let load = Load { replicas: vec![bare.address], ..load };
                let usage = || [bare.id().map_or(0.0, usage::processor_seconds), 0.0, self.usage(site)[2]];
                let before = usage();
                let http = self.run_load(&load, &format!("{connections} clients, HTTP alone")).await;
                bare_costs.add(before, usage(), &http, whole);
                let peer = self.run_peer(site, self.args.pgbench_clients as usize).await?;
                rounds.push((service, http, peer));
            }
            let point = ConnectionsPoint::of(connections, rounds, costs, bare_costs, site.resident_bytes());
            self.report.connections_points.push(point);
        }
        bare.stop().await;
        Ok(())
    }

    /// Several fleets, each in a database of its own, in turns.
    async fn measure_fleets(&mut self, fleets: Vec<Fleet>) -> Result<Vec<ScalePoint>, BenchError> {
        let mut sites = Vec::new();
        for fleet in fleets {
            sites.push(self.build_site(fleet, false).await?);
        }
        for site in &sites {
            let load = Load { duration: self.args.settle, ..self.load(site, Pace::Unbounded) };
            self.run_load(&load, "settling").await;
        }
        let mut measured: Vec<(Vec<Outcome>, Costs)> = sites.iter().map(|_| Default::default()).collect();
        for _ in 0..self.args.rounds {
            for (site, (outcomes, costs)) in std::iter::zip(&sites, &mut measured) {
                let what =
                    format!("{} sessions, {} in a group", site.fleet.sessions(), site.fleet.sessions_per_group());
                let load = self.load(site, Pace::Unbounded);
                let before = self.usage(site);
                let outcome = self.run_load(&load, &what).await;
                costs.add(before, self.usage(site), &outcome, load.duration + load.warm_up);
                outcomes.push(outcome);
            }
        }
        let mut points = Vec::new();
        for (mut site, (outcomes, costs)) in std::iter::zip(sites, measured) {
            let outcome = median(outcomes, |outcome| outcome.per_second);
            self.bar.set_message("nothing to do");
            let quiet = self.usage(&site);
            tokio::time::sleep(self.args.round).await;
            let after = self.usage(&site);
            let counters = site.counters().await?;
            points.push(ScalePoint {
                sessions: site.fleet.sessions(),
                sessions_per_group: site.fleet.sessions_per_group(),
                outcome,
                costs,
                resident_bytes: site.resident_bytes(),
                idle_processor_share: (after[0] - quiet[0] + after[1] - quiet[1]) / self.args.round.as_secs_f64(),
                counters: counters.into(),
            });
            site.demolish(&self.server).await?;
        }
        Ok(points)
    }

    async fn measure_forms(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let mut pairs = Vec::new();
        for round in 0..self.args.rounds {
            let mut outcomes = [Outcome::default(), Outcome::default()];
            // Each begins as often as the other: what runs second finds more in the tables.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for place in order {
                let form = [Form::First, Form::Released][place];
                let load = Load { fleet: site.fleet.in_form(form), ..self.load(site, Pace::Unbounded) };
                outcomes[place] = self.run_load(&load, "both forms in turns").await;
            }
            let [first, released] = outcomes;
            pairs.push((first, released));
        }
        self.report.forms = Some(Forms::of(pairs));
        Ok(())
    }

    /// Ways of serving, in turns. Each has been under load for a while before it is measured.
    async fn measure_setups(&mut self, site: &mut Site, ways: &[Way]) -> Result<Vec<Setup>, BenchError> {
        let mut measured: Vec<_> = ways.iter().map(|_| (Vec::new(), Costs::default(), 0.0, 0.0)).collect();
        for _ in 0..self.args.rounds {
            for (way, (rounds, costs, committed, rolled_back)) in std::iter::zip(ways, &mut measured) {
                site.stop_serving().await;
                let mut flags = self.args.serve_flags.clone();
                let writers = (way.writers > 1).then_some(way.writers);
                for (flag, value) in [("--heartbeat-writers", writers), ("--heartbeat-batch", way.batch)] {
                    if let Some(value) = value
                        && !flags.contains(&OsString::from(flag))
                    {
                        flags.extend([OsString::from(flag), value.to_string().into()]);
                    }
                }
                site.serve_with(&self.server, way.replicas, &self.program, &flags).await?;
                let load = Load { spread: way.spread, ..self.load(site, Pace::Unbounded) };
                let settle = Load { duration: self.args.settle.min(self.args.round), ..load.clone() };
                self.run_load(&settle, way.what).await;
                let before = site.counters().await?;
                let usage = self.usage(site);
                let outcome = self.run_load(&load, way.what).await;
                costs.add(usage, self.usage(site), &outcome, load.duration + load.warm_up);
                let after = site.counters().await?;
                *committed += (after.committed - before.committed) as f64;
                *rolled_back += (after.rolled_back - before.rolled_back) as f64;
                rounds.push(outcome);
            }
        }
        site.stop_serving().await;
        site.serve_with(&self.server, 1, &self.program, &self.args.serve_flags).await?;
        let first: Vec<f64> =
            measured.first().into_iter().flat_map(|(rounds, ..)| rounds).map(|one| one.per_second).collect();
        let setup = |(way, (rounds, costs, committed, rolled_back)): (&Way, (Vec<Outcome>, Costs, f64, f64))| {
            Setup::of(way.what.to_owned(), rounds, &first, rolled_back / (committed + rolled_back).max(1.0), costs)
        };
        Ok(std::iter::zip(ways, measured).map(setup).collect())
    }

    async fn measure_list(&mut self, site: &mut Site) -> Result<(), BenchError> {
        self.bar.set_message("all groups are listed");
        let Some(address) = site.addresses().first().copied() else { return Ok(()) };
        let resident_before = site.resident_bytes();
        let mut resident_bytes = resident_before;
        let begin = Instant::now();
        let service = Service::plain(&format!("http://{address}"), LONGEST_LIST_SILENCE)?;
        let namespace = fleet::namespace()?;
        let path = Scope::Namespace(&namespace).path(&["groups"]);
        let query = [("skip", "0".to_owned()), ("count", site.fleet.groups().to_string())];
        let mut answer = service.open(&path, &query, None).await?;
        let first_byte_ms = begin.elapsed().as_secs_f64() * 1_000.0;
        let mut bytes = 0;
        while let Some(chunk) = service.chunk(&mut answer, LONGEST_LIST_SILENCE).await? {
            bytes += chunk.len() as u64;
            resident_bytes = resident_bytes.max(site.resident_bytes());
        }
        self.report.list = Some(Listing {
            groups: site.fleet.groups(),
            seconds: begin.elapsed().as_secs_f64(),
            first_byte_ms,
            bytes,
            resident_before,
            resident_bytes,
        });
        Ok(())
    }

    async fn measure_lapse(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let rate = self.full_load(site).await / 2.0;
        let silent = Fleet::soon_silent(LAPSING_GROUPS, self.args.sessions_per_group);
        // Until all of them have lapsed.
        let duration = self.args.round.max(SHORT_TIMEOUT * 3 / 2);
        let half = Load { duration, ..self.load(site, Pace::PerSecond(rate)) };
        let before = self.run_load(&half, "half the load").await;
        // The replica gives them leases, and hears no more of them.
        silent.write(&mut site.connection, |_| ()).await?;
        let last_words = Load { fleet: silent, warm_up: Duration::ZERO, ..self.load(site, Pace::Unbounded) };
        self.run_load(&last_words, "the last heartbeats of some groups").await;
        let during = self.run_load(&half, "half the load, groups lapse").await;
        let begin = Instant::now();
        let lags = loop {
            let lags = lags_of_lapses(&mut site.connection).await?;
            if lags.lapsed >= LAPSING_GROUPS || begin.elapsed() > LONGEST_LAPSE {
                break lags;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        self.report.lapse = Some(Lapse { lags, before, during });
        Ok(())
    }

    async fn measure_soak(&mut self, site: &mut Site) -> Result<(), BenchError> {
        let slices = 10;
        let begin = Instant::now();
        for _ in 0..slices {
            let load = Load { duration: self.args.soak / slices, ..self.load(site, Pace::Unbounded) };
            let outcome = self.run_load(&load, "soak").await;
            let counters = site.counters().await?;
            self.report.soak.push(SoakPoint {
                minutes: begin.elapsed().as_secs_f64() / 60.0,
                outcome,
                resident_bytes: site.resident_bytes(),
                counters: counters.into(),
            });
        }
        Ok(())
    }
}
