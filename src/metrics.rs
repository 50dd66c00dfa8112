//! What is counted, and its text for Prometheus.
//!
//! Counters are plain atomics of the process: counting costs a few nanoseconds, nothing is looked
//! up and nothing grows, because every label comes from a closed list. The one exception are names
//! of tenants and namespaces, of which there are at most as many as a setting says. Nothing here
//! asks the database: what is true of all groups is counted in the background
//! (`failover/census.rs`) and shown as it was then.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::namespaces::{InNamespace, OTHER_NAMESPACES};
use self::text::line;
pub use self::text::render;
pub use self::webhook::{WebhookOutcome, webhook_attempted, webhook_gave_up, webhook_oldest_message, webhook_sends};
use crate::arbitration::Reason;

mod namespaces;
mod process;
mod text;
mod webhook;

/// What a request is about, as its path is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The groups of a namespace.
    Groups,
    /// One group.
    Group,
    /// The client sessions of a group.
    Sessions,
    /// One client session: its heartbeats, and its end.
    Session,
    /// The history of a group.
    Transitions,
    /// The events of a group.
    GroupEvents,
    /// The state of a group.
    GroupStatus,
    /// What is wished of sessions, and switch-overs.
    Wishes,
    /// The events of a namespace.
    NamespaceEvents,
    /// The state of the groups of a namespace.
    NamespaceStatus,
    /// Whatever operators ask about all tenants.
    Overview,
    /// API keys.
    Keys,
    /// The page for operators.
    Page,
    /// Health.
    Health,
    /// Metrics.
    Metrics,
    /// The description of the API, and the page to try it on.
    Description,
    /// Everything else.
    Other,
}

const ROUTES: [(Route, &str); 17] = [
    (Route::Groups, "groups"),
    (Route::Group, "groups/{groupid}"),
    (Route::Sessions, "groups/{groupid}/clientsessions"),
    (Route::Session, "groups/{groupid}/clientsessions/{sessionid}"),
    (Route::Transitions, "groups/{groupid}/transitions"),
    (Route::GroupEvents, "groups/{groupid}/events"),
    (Route::GroupStatus, "groups/{groupid}/status"),
    (Route::Wishes, "groups/{groupid}/wishes"),
    (Route::NamespaceEvents, "events"),
    (Route::NamespaceStatus, "status"),
    (Route::Overview, "overview"),
    (Route::Keys, "keys"),
    (Route::Page, "page"),
    (Route::Health, "health"),
    (Route::Metrics, "metrics"),
    (Route::Description, "description"),
    (Route::Other, "other"),
];

impl Route {
    /// As the metrics and traces name it.
    pub fn label(self) -> &'static str {
        // Each is at the place of its number.
        ROUTES[self as usize].1
    }
}

const METHODS: [&str; 5] = ["POST", "GET", "PUT", "DELETE", "other"];

/// Each status is counted by its number, from 100 to 599.
const FIRST_STATUS: usize = 100;
const STATUSES: usize = 500;

/// The transactions that decide or change something, by name.
const TRANSACTIONS: [&str; 14] = [
    "heartbeats",
    "sweep",
    "remember_leases",
    "register_session",
    "delete_session",
    "create_group",
    "put_group",
    "delete_group",
    "change_wishes",
    "what_if",
    "create_key",
    "revoke_key",
    "record_refusals",
    "other",
];

/// How a transaction ended, with all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was committed.
    Committed,
    /// It was committed, and was to refuse.
    Refused,
    /// It kept meeting others for as long as there was time.
    Contended,
    /// The database could not be reached, or not be reached any more.
    Unavailable,
    /// A statement failed in a way that no retry mends, or what is stored breaks a rule.
    Failed,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Committed, "committed"),
    (Outcome::Refused, "refused"),
    (Outcome::Contended, "contended"),
    (Outcome::Unavailable, "unavailable"),
    (Outcome::Failed, "failed"),
];

/// How a new history of the database is noticed.
pub const HISTORIES: [&str; 5] = ["another_server", "another_database", "another_timeline", "came_back", "went_back"];

/// How many buckets a histogram has, the one without a bound included.
const BUCKETS: usize = 15;

/// Bounds of durations, in microseconds.
const DURATIONS_US: [u64; BUCKETS - 1] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Bounds of the times in which a group has no Primary, in microseconds: from 10 ms to 10 minutes.
const GAPS_US: [u64; BUCKETS - 1] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
];

/// What a time without a Primary began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The Primary's lease ran out.
    Lapse,
    /// The Primary yielded to a healthier session.
    Handover,
    /// An operator wished it so.
    Override,
    /// The Primary was deleted: it said goodbye, or somebody else deleted it.
    Deletion,
}

const GAP_CAUSES: [(GapCause, &str); 4] = [
    (GapCause::Lapse, "lapse"),
    (GapCause::Handover, "handover"),
    (GapCause::Override, "override"),
    (GapCause::Deletion, "deletion"),
];

/// Bounds of the number of heartbeats in a transaction.
const BATCH_SIZES: [u64; BUCKETS - 1] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192];

/// Values sorted into buckets, and their sum.
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    const fn new() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    fn note(&self, bounds: &[u64; BUCKETS - 1], value: u64) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(BUCKETS - 1);
        add(&self.buckets[bucket], 1);
        add(&self.sum, value);
    }

    /// Its lines. `unit` is how many of the values make one of what is shown.
    fn write(&self, text: &mut String, name: &str, labels: &str, bounds: &[u64; BUCKETS - 1], unit: f64) {
        let (opening, closing) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bucket, bound) in std::iter::zip(&self.buckets, bounds) {
            count += read(bucket);
            let bound = *bound as f64 / unit;
            line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
        }
        // From the same reading as the buckets: a scrape during a request must not show more of the
        // one than of the other.
        count += read(&self.buckets[BUCKETS - 1]);
        line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
        line(text, format_args!("{name}_sum{opening}{labels}{closing} {}", read(&self.sum) as f64 / unit));
        line(text, format_args!("{name}_count{opening}{labels}{closing} {count}"));
    }

    fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| read(bucket) == 0)
    }
}

static REQUESTS: [[[AtomicU64; STATUSES]; METHODS.len()]; ROUTES.len()] =
    [const { [const { [const { AtomicU64::new(0) }; STATUSES] }; METHODS.len()] }; ROUTES.len()];
static REQUEST_DURATIONS: [[Histogram; METHODS.len()]; ROUTES.len()] =
    [const { [const { Histogram::new() }; METHODS.len()] }; ROUTES.len()];
static HEARTBEATS: AtomicU64 = AtomicU64::new(0);
static BATCHES: Histogram = Histogram::new();
static RETRIES: [AtomicU64; TRANSACTIONS.len()] = [const { AtomicU64::new(0) }; TRANSACTIONS.len()];
static TRANSACTIONS_ENDED: [[AtomicU64; OUTCOMES.len()]; TRANSACTIONS.len()] =
    [const { [const { AtomicU64::new(0) }; OUTCOMES.len()] }; TRANSACTIONS.len()];
static TRANSACTION_DURATIONS: [Histogram; TRANSACTIONS.len()] = [const { Histogram::new() }; TRANSACTIONS.len()];
static ROLE_CHANGES: [AtomicU64; Reason::ALL.len()] = [const { AtomicU64::new(0) }; Reason::ALL.len()];
static HISTORIES_ENTERED: [AtomicU64; HISTORIES.len()] = [const { AtomicU64::new(0) }; HISTORIES.len()];
static TURNS: AtomicU64 = AtomicU64::new(0);
static SWEEPS: Histogram = Histogram::new();
static SWEEPS_FAILED: AtomicU64 = AtomicU64::new(0);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static EVENTS_PRUNED: AtomicU64 = AtomicU64::new(0);
static EVENT_STREAMS: AtomicI64 = AtomicI64::new(0);
static LISTENING: AtomicU64 = AtomicU64::new(0);
static CONNECTIONS_REFUSED: AtomicU64 = AtomicU64::new(0);
static CONNECTIONS_FEW: AtomicU64 = AtomicU64::new(0);
/// Seconds since 1970, or 0 where there is no certificate.
static CERTIFICATE_EXPIRY: AtomicI64 = AtomicI64::new(0);
static NEXT_KEY_END: Mutex<Option<Instant>> = Mutex::new(None);
static COUNTED: Mutex<Option<(Counted, Vec<InNamespace>, Instant)>> = Mutex::new(None);
static WITHOUT_PRIMARY: [Histogram; GAP_CAUSES.len()] = [const { Histogram::new() }; GAP_CAUSES.len()];

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A request was answered. For a stream this is its beginning.
pub fn request_answered(route: Route, method: &str, status: u16, elapsed: Duration) {
    // As in the list of routes: each is at the place of its number.
    let route = route as usize;
    let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
    add(&REQUESTS[route][method][place_of_status(status)], 1);
    REQUEST_DURATIONS[route][method].note(&DURATIONS_US, micros(elapsed));
}

/// What came on a connection was refused before it was known for a request: too long, too slow, or
/// none.
pub fn refused_unread(status: u16) {
    add(&REQUESTS[Route::Other as usize][METHODS.len() - 1][place_of_status(status)], 1);
}

/// What is no status of HTTP is counted as the last of them.
fn place_of_status(status: u16) -> usize {
    usize::from(status).saturating_sub(FIRST_STATUS).min(STATUSES - 1)
}

/// A transaction with so many heartbeats was committed.
pub fn batch_committed(heartbeats: usize) {
    if heartbeats == 0 {
        return;
    }
    add(&HEARTBEATS, heartbeats as u64);
    BATCHES.note(&BATCH_SIZES, heartbeats as u64);
}

fn place_of_transaction(name: &str) -> usize {
    TRANSACTIONS.iter().position(|known| *known == name).unwrap_or(TRANSACTIONS.len() - 1)
}

/// A transaction met others on the same rows and runs again.
pub fn transaction_retried(name: &str) {
    add(&RETRIES[place_of_transaction(name)], 1);
}

/// A transaction ended, after so long with all its attempts.
pub fn transaction_ended(name: &str, outcome: Outcome, elapsed: Duration) {
    let place = place_of_transaction(name);
    // Each outcome is at the place of its number.
    add(&TRANSACTIONS_ENDED[place][outcome as usize], 1);
    TRANSACTION_DURATIONS[place].note(&DURATIONS_US, micros(elapsed));
}

/// A transaction waited for its turn among replicas, and got it.
pub fn turn_taken() {
    add(&TURNS, 1);
}

/// A change of a role was committed by this replica, in the group of that label.
pub fn role_changed(reason: Reason, group: &str) {
    // Each is at the place of its number.
    add(&ROLE_CHANGES[reason as usize], 1);
    namespaces::role_changed(group);
}

/// A time in which a group had no Primary is over, by a grant that this replica committed.
pub fn primary_regained(cause: GapCause, after: Duration) {
    // Each is at the place of its number.
    WITHOUT_PRIMARY[cause as usize].note(&GAPS_US, micros(after));
}

/// This replica went over into another history of the database, which was noticed so.
pub fn history_entered(reason: &str) {
    if let Some(place) = HISTORIES.iter().position(|known| *known == reason) {
        add(&HISTORIES_ENTERED[place], 1);
    }
}

/// A round of the sweep ended.
pub fn sweep_ended(elapsed: Duration, succeeded: bool) {
    SWEEPS.note(&DURATIONS_US, micros(elapsed));
    add(&SWEEPS_FAILED, u64::from(!succeeded));
}

/// An event was handed to those who listen.
pub fn event_handed_out() {
    add(&EVENTS, 1);
}

/// Old events were deleted by this replica.
pub fn events_pruned(rows: u64) {
    add(&EVENTS_PRUNED, rows);
}

/// A stream of events was opened.
pub fn event_stream_opened() {
    EVENT_STREAMS.fetch_add(1, Ordering::Relaxed);
}

/// A stream of events ended.
pub fn event_stream_closed() {
    EVENT_STREAMS.fetch_sub(1, Ordering::Relaxed);
}

/// Whether this replica hears of commits with events, or has to poll for them.
pub fn listening(listens: bool) {
    LISTENING.store(u64::from(listens), Ordering::Relaxed);
}

/// The connection that hears of events, where there is one.
pub fn listening_pool_use() -> PoolUse {
    let open = u32::from(read(&LISTENING) > 0);
    PoolUse { open, idle: 0, most: 1 }
}

/// The database refused a connection because it has too many.
pub fn connection_refused() {
    add(&CONNECTIONS_REFUSED, 1);
}

/// Whether the database has so few connections to spare that requests share fewer.
pub fn connections_are_few(few: bool) {
    CONNECTIONS_FEW.store(u64::from(few), Ordering::Relaxed);
}

/// When the certificate in use ends, in seconds since 1970.
pub fn certificate_expires_at(unix_seconds: i64) {
    CERTIFICATE_EXPIRY.store(unix_seconds, Ordering::Relaxed);
}

/// When the next caller is left without a valid API key; `None` where none of their keys ends.
pub fn next_key_ends(at: Option<Instant>) {
    *NEXT_KEY_END.lock().unwrap_or_else(PoisonError::into_inner) = at;
}

/// What is true of all groups and sessions, as a census found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Groups.
    pub groups: i64,
    /// Groups in which somebody is Primary.
    pub groups_with_primary: i64,
    /// Groups with a Primary and nobody live beside it.
    pub groups_without_standby: i64,
    /// Groups without a live session.
    pub groups_without_live_session: i64,
    /// Groups with any of the risks.
    pub groups_at_risk: i64,
    /// Groups whose Primary reports a health below 90 per cent.
    pub groups_with_unhealthy_primary: i64,
    /// Groups that changed their Primary several times of late.
    pub groups_flapping: i64,
    /// Groups in which two clients seem to heartbeat as one session.
    pub groups_with_same_id_twice: i64,
    /// Groups whose Primary has reported no newer data for long.
    pub groups_with_data_standing_still: i64,
    /// Groups with a session whose times are ahead of the clock.
    pub groups_with_clock_ahead: i64,
    /// Groups with a session that heartbeats more seldom than every half timeout.
    pub groups_with_seldom_heartbeats: i64,
    /// Groups with more live sessions than two pairs have.
    pub groups_with_many_sessions: i64,
    /// Groups in which clients register with a new id at each start.
    pub groups_with_new_ids: i64,
    /// Groups in which somebody may act on a lease that was lost with a history of the database.
    pub groups_in_doubt: i64,
    /// Sessions.
    pub sessions: i64,
    /// Sessions whose lease has not run out.
    pub live_sessions: i64,
    /// Live sessions by the part of their lease that is over: under a quarter, a half, three
    /// quarters, more.
    pub lease_ages: [i64; 4],
    /// Outages of the service ever recorded in this database.
    pub outages: i64,
    /// When the history that the database is in was noticed, in seconds since 1970; 0 while it is
    /// the first.
    pub history_noticed_at_s: i64,
    /// How long the count took, in microseconds.
    pub took_us: u64,
}

/// A census was taken; these are the namespaces that are named, and the sum of the others last.
pub fn counted(counted: Counted, named: Vec<InNamespace>) {
    namespaces::name(&named);
    *COUNTED.lock().unwrap_or_else(PoisonError::into_inner) = Some((counted, named, Instant::now()));
}

/// How many connections a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Open ones.
    pub open: u32,
    /// Those of them that wait for use.
    pub idle: usize,
    /// The most there may be.
    pub most: u32,
}

impl std::ops::Add for PoolUse {
    type Output = PoolUse;

    fn add(self, other: PoolUse) -> PoolUse {
        PoolUse { open: self.open + other.open, idle: self.idle + other.idle, most: self.most + other.most }
    }
}

/// What is read at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// Connections for requests.
    pub requests: PoolUse,
    /// Those of the writers of heartbeats.
    pub heartbeats: PoolUse,
    /// Those for upkeep.
    pub upkeep: PoolUse,
    /// Those that read events, prune and count in the background, and the one that listens.
    pub background: PoolUse,
    /// Heartbeats that wait for a transaction.
    pub waiting: usize,
    /// Groups whose leases are looked at as they end.
    pub leases_watched: usize,
    /// How long ago a heartbeat could be committed, as far as this replica knows.
    pub sign_of_life_age: Option<Duration>,
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_at_the_place_of_its_number() {
        for (place, (route, _)) in ROUTES.iter().enumerate() {
            assert_eq!(*route as usize, place);
        }
        for (place, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
        for (place, (cause, _)) in GAP_CAUSES.iter().enumerate() {
            assert_eq!(*cause as usize, place);
        }
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let histogram = Histogram::new();
        for value in [1, 500, 501, 20_000_000] {
            histogram.note(&DURATIONS_US, value);
        }
        let mut text = String::new();
        histogram.write(&mut text, "h", "a=\"b\"", &DURATIONS_US, 1e6);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "h_bucket{a=\"b\",le=\"0.0005\"} 2");
        assert_eq!(lines[1], "h_bucket{a=\"b\",le=\"0.001\"} 3");
        assert_eq!(
            lines[BUCKETS - 1..],
            ["h_bucket{a=\"b\",le=\"+Inf\"} 4", "h_sum{a=\"b\"} 20.001002", "h_count{a=\"b\"} 4"]
        );
    }
}
