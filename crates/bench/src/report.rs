//! What was measured, as a table for people, as JSON, and as a plot.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, IntoDrawingArea, IntoFont as _, IntoLogRange as _, LineSeries, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};
use serde::Serialize;

use super::fleet::Lags;
use super::load::Outcome;
use super::peer::PeerOutcome;
use super::site::Counters;
use super::{BenchArgs, Part};

/// Everything that was measured. Absent parts were not.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of the service.
    pub version: &'static str,
    /// Of PostgreSQL.
    pub postgres: String,
    /// Of this machine, shared by everything.
    pub cores: usize,
    /// Sessions in the database.
    pub sessions: u64,
    /// Sessions in each group.
    pub sessions_per_group: u64,
    /// Clients of the service.
    pub connections: u32,
    /// Connections of pgbench.
    pub pgbench_clients: u32,
    /// How long a round lasted.
    pub round_seconds: f64,
    /// One client.
    pub idle: Option<Idle>,
    /// As many as go through.
    pub throughput: Option<Throughput>,
    /// Latency at shares of the full load.
    pub latency: Vec<LoadPoint>,
    /// Numbers of clients.
    #[serde(rename = "connection_counts")]
    pub connections_points: Vec<ConnectionsPoint>,
    /// Sizes of the fleet.
    pub scale: Vec<ScalePoint>,
    /// Sizes of groups.
    pub groups: Vec<ScalePoint>,
    /// Two replicas beside one.
    pub replicas: Vec<Setup>,
    /// Several writers in a replica beside one.
    pub writers: Vec<Setup>,
    /// Both forms of the API.
    pub forms: Option<Forms>,
    /// A list of all groups.
    pub list: Option<Listing>,
    /// Many groups that lapse.
    pub lapse: Option<Lapse>,
    /// Full load for longer.
    pub soak: Vec<SoakPoint>,
}

/// One client on an idle service, and one of pgbench on an idle PostgreSQL.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Through the service.
    pub service: Outcome,
    /// Without it.
    pub pgbench: PeerOutcome,
    /// The median latency of the service in that of pgbench; median of the rounds.
    pub ratio: f64,
}

/// As many heartbeats as go through.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// Through the service.
    pub service: Outcome,
    /// One transaction each.
    pub pgbench: PeerOutcome,
    /// Heartbeats per second of the service over those of pgbench; median of the rounds.
    pub ratio: f64,
    /// The ratio of each round.
    pub ratios: Vec<f64>,
    /// What a heartbeat costs.
    pub costs: Costs,
    /// Updates of heartbeats that touched no index, as a share.
    pub hot_share: f64,
    /// Resident memory of the service.
    pub resident_bytes: u64,
}

/// Processor time for a heartbeat, in microseconds, over all cores.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Costs {
    /// In the service.
    pub service_us: f64,
    /// In PostgreSQL.
    pub postgres_us: f64,
    /// In the clients, which are on the same machine.
    pub clients_us: f64,
    #[serde(skip)]
    heartbeats: f64,
}

/// Latency at a share of the full load, from the instant at which a heartbeat was to be sent.
#[derive(Debug, Serialize)]
pub struct LoadPoint {
    /// Of the full load.
    pub share: f64,
    /// What the clients were to send.
    pub intended_per_second: f64,
    /// What came of it.
    pub outcome: Outcome,
}

/// As many heartbeats as go through with so many clients.
#[derive(Debug, Serialize)]
pub struct ConnectionsPoint {
    /// How many clients.
    pub connections: u32,
    /// Through the service.
    pub service: Outcome,
    /// The same answers from memory, by a handler that does nothing else.
    pub http: Outcome,
    /// One transaction each.
    pub pgbench: PeerOutcome,
    /// Heartbeats per second of the service over those of pgbench; median of the rounds.
    pub to_pgbench: f64,
    /// The same over those of HTTP alone.
    pub to_http: f64,
    /// What a heartbeat costs.
    pub costs: Costs,
    /// What it costs with HTTP alone.
    pub http_costs: Costs,
    /// Resident memory of the service.
    pub resident_bytes: u64,
}

/// A fleet of a size.
#[derive(Debug, Serialize)]
pub struct ScalePoint {
    /// Its size.
    pub sessions: u64,
    /// That of its groups.
    pub sessions_per_group: u64,
    /// Full load.
    pub outcome: Outcome,
    /// What a heartbeat costs.
    pub costs: Costs,
    /// Resident memory of the service after it.
    pub resident_bytes: u64,
    /// Processor time of service and PostgreSQL with nothing to do, in cores.
    pub idle_processor_share: f64,
    /// What the database says.
    pub counters: Tables,
}

/// The table of heartbeats.
#[derive(Debug, Serialize)]
pub struct Tables {
    /// Its bytes.
    pub heartbeats_bytes: i64,
    /// Those of its index.
    pub index_bytes: i64,
    /// Updates that touched no index, as a share.
    pub hot_share: f64,
    /// Changes of roles, of which there are to be none.
    pub role_changes: i64,
}

/// A way of serving beside others, in turns.
#[derive(Debug, Serialize)]
pub struct Setup {
    /// Which.
    pub what: String,
    /// Full load.
    pub outcome: Outcome,
    /// Heartbeats per second, in those of the first setup: the median of the rounds' ratios.
    pub to_first: f64,
    /// Of all transactions, the share that was rolled back: conflicts, and such as were begun ahead
    /// and not used.
    pub rolled_back: f64,
    /// What a heartbeat costs.
    pub costs: Costs,
}

/// Heartbeats in both forms of the API.
#[derive(Debug, Serialize)]
pub struct Forms {
    /// In the one that was published first.
    pub first: Outcome,
    /// In the one that adapters speak.
    pub released: Outcome,
    /// Of each round: heartbeats per second in the released form in those of the first.
    pub ratios: Vec<f64>,
    /// Their median.
    pub ratio: f64,
}

/// A list of all groups.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// How many.
    pub groups: u64,
    /// To its last byte.
    pub seconds: f64,
    /// To its head.
    pub first_byte_ms: f64,
    /// How much it was.
    pub bytes: u64,
    /// Resident memory before.
    pub resident_before: u64,
    /// The most resident memory during it.
    pub resident_bytes: u64,
}

/// Many groups that lapse at once.
#[derive(Debug, Serialize)]
pub struct Lapse {
    /// How long after the end of its lease each Primary had lost its role in the tables.
    pub lags: Lags,
    /// The heartbeats of the others, before.
    pub before: Outcome,
    /// And meanwhile.
    pub during: Outcome,
}

/// Full load, some minutes on.
#[derive(Debug, Serialize)]
pub struct SoakPoint {
    /// Since its beginning.
    pub minutes: f64,
    /// In the time since the point before.
    pub outcome: Outcome,
    /// Resident memory of the service.
    pub resident_bytes: u64,
    /// What the database says.
    pub counters: Tables,
}

/// The middle one by a key; of an even number the lower one.
pub fn median<T: Default>(mut outcomes: Vec<T>, key: impl Fn(&T) -> f64) -> T {
    outcomes.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let middle = outcomes.len().saturating_sub(1) / 2;
    outcomes.into_iter().nth(middle).unwrap_or_default()
}

impl From<Counters> for Tables {
    fn from(counters: Counters) -> Tables {
        Tables {
            heartbeats_bytes: counters.heartbeats_bytes,
            index_bytes: counters.heartbeats_index_bytes,
            hot_share: share(counters.updated_hot, counters.updated),
            role_changes: counters.role_changes,
        }
    }
}

fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Costs { service_us, postgres_us, clients_us, .. } = self;
        write!(f, "{service_us:.1} µs service, {postgres_us:.1} PostgreSQL, {clients_us:.1} clients")
    }
}

impl Costs {
    fn all_us(&self) -> f64 {
        self.service_us + self.postgres_us + self.clients_us
    }

    /// Adds what was used between two readings, by what came of a load within that time: the
    /// warm-up is part of what was used, so it is part of what is divided by.
    pub fn add(&mut self, before: [f64; 3], after: [f64; 3], outcome: &Outcome, whole: Duration) {
        let heartbeats = outcome.per_second * whole.as_secs_f64();
        let all = self.heartbeats + heartbeats;
        let merged = |mean: f64, place: usize| {
            (mean * self.heartbeats + (after[place] - before[place]) * 1_000_000.0) / all.max(1.0)
        };
        *self = Costs {
            service_us: merged(self.service_us, 0),
            postgres_us: merged(self.postgres_us, 1),
            clients_us: merged(self.clients_us, 2),
            heartbeats: all,
        };
    }
}

impl Idle {
    /// The medians of rounds.
    pub fn of(pairs: Vec<(Outcome, PeerOutcome)>) -> Idle {
        let ratios = pairs.iter().map(|(service, peer)| service.p50_ms / peer.p50_ms).collect();
        let (service, pgbench) = pairs.into_iter().unzip();
        Idle {
            service: median(service, |outcome: &Outcome| outcome.p50_ms),
            pgbench: median(pgbench, |outcome: &PeerOutcome| outcome.p50_ms),
            ratio: median(ratios, |ratio| *ratio),
        }
    }
}

impl Throughput {
    /// The medians of rounds, and what the database counted around them.
    pub fn of(
        pairs: Vec<(Outcome, PeerOutcome)>,
        costs: Costs,
        before: Counters,
        after: Counters,
        resident_bytes: u64,
    ) -> Throughput {
        let ratios: Vec<f64> = pairs.iter().map(|(service, peer)| service.per_second / peer.per_second).collect();
        let (service, pgbench) = pairs.into_iter().unzip();
        Throughput {
            service: median(service, |outcome: &Outcome| outcome.per_second),
            pgbench: median(pgbench, |outcome: &PeerOutcome| outcome.per_second),
            ratio: median(ratios.clone(), |ratio| *ratio),
            ratios,
            costs,
            hot_share: share(after.updated_hot - before.updated_hot, after.updated - before.updated),
            resident_bytes,
        }
    }
}

impl ConnectionsPoint {
    /// The medians of rounds.
    pub fn of(
        connections: u32,
        rounds: Vec<(Outcome, Outcome, PeerOutcome)>,
        costs: Costs,
        http_costs: Costs,
        resident_bytes: u64,
    ) -> ConnectionsPoint {
        let ratio = |of: fn(&(Outcome, Outcome, PeerOutcome)) -> f64| {
            median(rounds.iter().map(|round| round.0.per_second / of(round)).collect(), |ratio| *ratio)
        };
        let (to_http, to_pgbench) = (ratio(|round| round.1.per_second), ratio(|round| round.2.per_second));
        let (mut service, mut http, mut pgbench) = (Vec::new(), Vec::new(), Vec::new());
        for (one, two, three) in rounds {
            service.push(one);
            http.push(two);
            pgbench.push(three);
        }
        ConnectionsPoint {
            connections,
            service: median(service, |outcome| outcome.per_second),
            http: median(http, |outcome| outcome.per_second),
            pgbench: median(pgbench, |outcome| outcome.per_second),
            to_pgbench,
            to_http,
            costs,
            http_costs,
            resident_bytes,
        }
    }
}

impl Forms {
    /// The medians of rounds.
    pub fn of(pairs: Vec<(Outcome, Outcome)>) -> Forms {
        let ratios: Vec<f64> = pairs.iter().map(|(first, released)| released.per_second / first.per_second).collect();
        let (first, released) = pairs.into_iter().unzip();
        Forms {
            first: median(first, |outcome: &Outcome| outcome.per_second),
            released: median(released, |outcome: &Outcome| outcome.per_second),
            ratio: median(ratios.clone(), |ratio| *ratio),
            ratios,
        }
    }
}

impl Setup {
    /// The median of rounds, beside those of the first setup.
    pub fn of(what: String, rounds: Vec<Outcome>, first: &[f64], rolled_back: f64, costs: Costs) -> Setup {
        let ratios = std::iter::zip(&rounds, first).map(|(outcome, first)| outcome.per_second / first).collect();
        Setup {
            what,
            to_first: median(ratios, |ratio| *ratio),
            outcome: median(rounds, |outcome| outcome.per_second),
            rolled_back,
            costs,
        }
    }
}

impl Report {
    /// A report in which nothing has been measured yet.
    pub fn new(postgres: String, args: &BenchArgs) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            postgres,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            sessions: args.sessions,
            sessions_per_group: args.sessions_per_group,
            connections: args.connections,
            pgbench_clients: args.pgbench_clients,
            round_seconds: args.round.as_secs_f64(),
            idle: None,
            throughput: None,
            latency: Vec::new(),
            connections_points: Vec::new(),
            scale: Vec::new(),
            groups: Vec::new(),
            replicas: Vec::new(),
            writers: Vec::new(),
            forms: None,
            list: None,
            lapse: None,
            soak: Vec::new(),
        }
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["what", "heartbeats/s", "p50 ms", "p99 ms", "max ms", "other"]);
        for column in 1..=4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut notes = Vec::new();
        let mut row = |what: String, outcome: &Outcome, other: String| {
            let refused: u64 = outcome.refused.values().sum();
            let troubles = match refused + outcome.broken {
                0 => other,
                _ => format!("{other}; refused {:?}, broken {}", outcome.refused, outcome.broken),
            };
            table.add_row([
                what,
                format!("{:.0}", outcome.per_second),
                format!("{:.2}", outcome.p50_ms),
                format!("{:.2}", outcome.p99_ms),
                format!("{:.1}", outcome.max_ms),
                troubles,
            ]);
        };
        let peer = |peer: &PeerOutcome| Outcome {
            per_second: peer.per_second,
            p50_ms: peer.p50_ms,
            p99_ms: peer.p99_ms,
            ..Outcome::default()
        };
        if let Some(idle) = &self.idle {
            row("one client".into(), &idle.service, format!("{:.2} times the latency of pgbench", idle.ratio));
            row("  pgbench, one client".into(), &peer(&idle.pgbench), String::new());
        }
        if let Some(full) = &self.throughput {
            row(
                format!("full load, {} clients", self.connections),
                &full.service,
                format!("{:.2} times pgbench; {:.0} MB resident", full.ratio, megabytes(full.resident_bytes)),
            );
            row(format!("  pgbench, {} clients", self.pgbench_clients), &peer(&full.pgbench), String::new());
            notes.push(format!(
                "A heartbeat costs {:.1} µs of processor time: {}; {:.2}% of updates touch no index",
                full.costs.all_us(),
                full.costs,
                full.hot_share * 100.0
            ));
        }
        for point in &self.latency {
            let what = format!("{:.0}% of the full load", point.share * 100.0);
            row(what, &point.outcome, format!("p99.9 {:.2} ms", point.outcome.p999_ms));
        }
        for point in &self.connections_points {
            let (costs, http) = (point.costs, point.http_costs);
            let other = format!(
                "{:.2} times pgbench, {:.2} times HTTP alone; {costs}; {:.0} MB resident",
                point.to_pgbench,
                point.to_http,
                megabytes(point.resident_bytes),
            );
            row(format!("{} clients", point.connections), &point.service, other);
            row(
                "  HTTP alone".into(),
                &point.http,
                format!("{:.1} µs server, {:.1} clients", http.service_us, http.clients_us),
            );
            row(format!("  pgbench, {} clients", self.pgbench_clients), &peer(&point.pgbench), String::new());
        }
        for point in self.scale.iter().chain(&self.groups) {
            let other = format!(
                "{}; {:.0} MB resident; idle {:.3} cores; table {:.0} MB, index {:.0} MB, {:.2}% HOT; {} role changes",
                point.costs,
                megabytes(point.resident_bytes),
                point.idle_processor_share,
                megabytes(point.counters.heartbeats_bytes as u64),
                megabytes(point.counters.index_bytes as u64),
                point.counters.hot_share * 100.0,
                point.counters.role_changes,
            );
            let what = format!("{} sessions, {} in a group", point.sessions, point.sessions_per_group);
            row(what, &point.outcome, other);
        }
        if let Some(forms) = &self.forms {
            row("the first form".into(), &forms.first, String::new());
            row("the released form".into(), &forms.released, format!("{:.3} times the first", forms.ratio));
        }
        for setup in self.replicas.iter().chain(&self.writers) {
            let Setup { what, outcome, to_first, rolled_back, costs } = setup;
            let rolled_back = rolled_back * 100.0;
            row(
                what.clone(),
                outcome,
                format!("{to_first:.2} times the first; {rolled_back:.2}% rolled back; {costs}"),
            );
        }
        if let Some(lapse) = &self.lapse {
            row("half the load".into(), &lapse.before, String::new());
            let Lags { lapsed, p50_ms, p99_ms, max_ms } = lapse.lags;
            let lags = format!("{p50_ms:.0} ms p50, {p99_ms:.0} p99, {max_ms:.0} max");
            row("  while groups lapse".into(), &lapse.during, format!("{lapsed} lapses, each written after {lags}"));
        }
        for point in &self.soak {
            let other = format!(
                "{:.0} MB resident; table {:.0} MB, index {:.0} MB, {:.2}% HOT; {} role changes",
                megabytes(point.resident_bytes),
                megabytes(point.counters.heartbeats_bytes as u64),
                megabytes(point.counters.index_bytes as u64),
                point.counters.hot_share * 100.0,
                point.counters.role_changes,
            );
            row(format!("after {:.1} minutes", point.minutes), &point.outcome, other);
        }
        let mut text = format!(
            "client-failover {} on PostgreSQL {}, {} cores for all; {} sessions, {} in a group\n\n{table}\n",
            self.version, self.postgres, self.cores, self.sessions, self.sessions_per_group,
        );
        if let Some(list) = &self.list {
            notes.push(format!(
                "A list of {} groups: {:.1} MB in {:.2} s, its head after {:.1} ms; resident memory {:.1} MB before, {:.1} MB at most",
                list.groups,
                megabytes(list.bytes),
                list.seconds,
                list.first_byte_ms,
                megabytes(list.resident_before),
                megabytes(list.resident_bytes),
            ));
        }
        for note in notes {
            text += &format!("\n{note}\n");
        }
        text.lines().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    /// Processor time for a heartbeat against the size of the fleet, as SVG.
    pub fn draw_scale(&self, file: &Path) -> Result<(), String> {
        let points: Vec<_> = self.scale.iter().map(|point| (point.sessions as f64, point.costs)).collect();
        draw_costs(file, &points, "Processor time for a heartbeat, by the size of the fleet", "sessions")
    }

    /// Processor time for a heartbeat against the size of its group, as SVG.
    pub fn draw_groups(&self, file: &Path) -> Result<(), String> {
        let points: Vec<_> = self.groups.iter().map(|point| (point.sessions_per_group as f64, point.costs)).collect();
        draw_costs(file, &points, "Processor time for a heartbeat, by the size of its group", "sessions in a group")
    }

    /// Latency against load, as SVG.
    pub fn draw_latency(&self, file: &Path) -> Result<(), String> {
        if self.latency.is_empty() {
            return Err(format!("nothing to draw: the part '{:?}' was not measured", Part::Latency));
        }
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let most_per_second = self.latency.iter().map(|point| point.outcome.per_second).fold(0.0, f64::max) * 1.05;
        let most_ms = self.latency.iter().map(|point| point.outcome.p999_ms).fold(10.0, f64::max) * 2.0;
        let area = SVGBackend::new(file, (800, 480)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Latency from the intended instant of sending", ("sans-serif", 18).into_font())
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most_per_second, (0.1..most_ms).log_scale())
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .x_desc("heartbeats per second")
            .y_desc("milliseconds")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()
            .map_err(|error| failed(&error))?;
        type Pick = fn(&Outcome) -> f64;
        let series: [(&str, RGBColor, Pick); 3] = [
            ("p50", RGBColor(0, 114, 178), |outcome| outcome.p50_ms),
            ("p99", RGBColor(213, 94, 0), |outcome| outcome.p99_ms),
            ("p99.9", RGBColor(90, 90, 90), |outcome| outcome.p999_ms),
        ];
        for (name, colour, pick) in series {
            let points: Vec<(f64, f64)> =
                self.latency.iter().map(|p| (p.outcome.per_second, pick(&p.outcome).max(0.1))).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
                .map_err(|error| failed(&error))?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
            chart
                .draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))
                .map_err(|error| failed(&error))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .draw()
            .map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))
    }
}

/// A plot of costs, with sizes by powers of ten.
fn draw_costs(file: &Path, points: &[(f64, Costs)], caption: &str, sizes: &str) -> Result<(), String> {
    let [(first, _), .., (last, _)] = points else {
        return Err(format!("nothing to draw: costs by {sizes} were not measured at two sizes"));
    };
    let failed = |error: &dyn fmt::Display| error.to_string();
    let highest = points.iter().map(|(_, costs)| costs.service_us.max(costs.postgres_us)).fold(1.0, f64::max) * 1.2;
    let area = SVGBackend::new(file, (800, 400)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18).into_font())
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d((first * 0.9..last * 1.1).log_scale(), 0.0..highest)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc(sizes)
        .y_desc("microseconds")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()
        .map_err(|error| failed(&error))?;
    type Pick = fn(&Costs) -> f64;
    let series: [(&str, RGBColor, Pick); 2] = [
        ("PostgreSQL", RGBColor(0, 114, 178), |costs| costs.postgres_us),
        ("service", RGBColor(213, 94, 0), |costs| costs.service_us),
    ];
    for (name, colour, pick) in series {
        let points: Vec<(f64, f64)> = points.iter().map(|(size, costs)| (*size, pick(costs))).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        chart
            .draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))
            .map_err(|error| failed(&error))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1_000_000.0
}
