//! The service on a real Patroni cluster: two PostgreSQL nodes, etcd, and HAProxy in front of
//! whoever leads. What happens to groups at a switchover, when the leader is killed, and when its
//! whole node stops and wakes up again.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use client_failover::store::histories::DatabaseHistory;
use client_failover_workshop::needs;

use cluster::Cluster;

use crate::support::helpers::{TestReplica, free_port, remove_after_the_run, scratch_dir, settings};

const GROUPS: usize = 12;
const TIMEOUT: Duration = Duration::from_secs(12);
/// Twice as often as a client has to: on a busy machine one may be late by most of a lease before
/// it loses its role for that.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// What one heartbeat came to.
struct Heard {
    group: usize,
    session: usize,
    sent_at: Instant,
    answered_at: Instant,
    status: u16,
    role: i64,
    term: i64,
    lease: Duration,
}

/// A client that keeps the trust rule and remembers all it was answered.
async fn run_client(
    urls: Vec<String>,
    group: usize,
    session: usize,
    is_first_ill: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> Vec<Heard> {
    let http = reqwest::Client::new();
    let mut heard = Vec::new();
    let mut turn = group + session;
    let mut acting_until: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + BEAT_EVERY;
        loop {
            turn += 1;
            let url = &urls[turn % urls.len()];
            let path = "api/v1/tenants/t/namespaces/n/clientfailover/groups";
            let sent_at = Instant::now();
            let health = if session == 0 && is_first_ill.load(Ordering::Relaxed) { 50 } else { 100 };
            let acting = acting_until.is_some_and(|until| sent_at < until);
            let request = http
                .post(format!("{url}/{path}/g{group}/clientsessions/s{session}"))
                .header("Failover-Role", i64::from(acting))
                .timeout(BEAT_EVERY)
                .json(&json!({"PercentHealthyStreams": health, "HeartbeatTime": wire_now()}));
            let answer = request.send().await;
            let mut one = Heard {
                group,
                session,
                sent_at,
                answered_at: Instant::now(),
                status: 0,
                role: 0,
                term: 0,
                lease: Duration::ZERO,
            };
            if let Ok(answer) = answer {
                one.status = answer.status().as_u16();
                let number = |name: &str| {
                    answer.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<i64>().ok()).unwrap_or(0)
                };
                one.term = number("Failover-Term");
                one.lease = Duration::from_millis(number("Failover-Lease-Ms").unsigned_abs());
                one.role = answer.json::<Value>().await.ok().and_then(|body| body["Role"].as_i64()).unwrap_or_default();
            }
            one.answered_at = Instant::now();
            let is_good = one.status == 200;
            if is_good {
                acting_until = (one.role == 1).then_some(sent_at + one.lease);
            }
            heard.push(one);
            if is_good || stop.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep_until(next.into()).await;
    }
    heard
}

fn wire_now() -> String {
    use std::time::UNIX_EPOCH;
    #[expect(clippy::disallowed_methods, reason = "a client's own clock")]
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    chrono::DateTime::from_timestamp(now.as_secs() as i64, now.subsec_nanos()).expect("in range").to_rfc3339()
}

/// What a run came to.
#[derive(Debug)]
struct Outcome {
    heartbeats: usize,
    /// The longest time in which no client got a good answer.
    silence: Duration,
    /// Changes of roles in the trace after the first grants.
    changes: Vec<String>,
    /// Groups in which a term that a client was told went back, or went to two sessions.
    terms_back: BTreeSet<usize>,
    terms_of_two: BTreeSet<(usize, i64)>,
    /// The longest that two of a group acted at once.
    two_acting: Duration,
    /// From the moment that a leader answers again until the first good answer.
    recovery: Duration,
}

/// Two replicas and their clients on the cluster; `disturb` does something to it.
async fn run(cluster: &mut Cluster, disturb: impl AsyncFnOnce(&mut Cluster)) -> Outcome {
    let name = format!("plant_{}", fastrand::u32(..));
    let mut admin = PgConnection::connect_with(&cluster.connect_options("postgres")).await.expect("the leader answers");
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("it is made");
    drop(admin);
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let mut settings = settings(cluster.connect_options(&name));
        settings.store.operation_timeout = Duration::from_secs(2);
        if cluster.is_synchronous {
            // As its documentation has it for those whose standby has all that was answered.
            settings.store.database_history = DatabaseHistory::Trusted;
        }
        replicas.push(TestReplica::start(settings).await);
    }
    for replica in &replicas {
        replica.wait_until_ready().await;
    }
    let timeout_ms = i64::try_from(TIMEOUT.as_millis()).expect("it is short");
    for group in 0..GROUPS {
        replicas[0].group_of(&format!("g{group}"), timeout_ms, &["s0", "s1"]).await;
        assert_eq!(replicas[0].beat(&format!("g{group}"), "s0", 100.0).await, 1);
        assert_eq!(replicas[1].beat(&format!("g{group}"), "s1", 100.0).await, 0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let clients: Vec<_> = (0..GROUPS)
        .flat_map(|group| [(group, 0), (group, 1)])
        .enumerate()
        .map(|(i, (group, session))| {
            // One after the other, so that an answer that is missing is missed at once.
            let wait = BEAT_EVERY * i as u32 / (2 * GROUPS as u32);
            let client = run_client(urls.clone(), group, session, cluster.is_first_ill.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                client.await
            })
        })
        .collect();
    tokio::time::sleep(TIMEOUT).await;
    disturb(cluster).await;
    let led_at = Instant::now();
    // As long as a lease that was lost, or given in the wrong history, could show.
    tokio::time::sleep(TIMEOUT * 3).await;
    stop.store(true, Ordering::Relaxed);
    let mut heard = Vec::new();
    for client in clients {
        heard.extend(client.await.expect("a client does not panic"));
    }
    // At once: leases that nobody renews any more end soon.
    let mut connection = PgConnection::connect_with(&cluster.connect_options(&name)).await.expect("the leader answers");
    let rows = sqlx::raw_sql(
        "SELECT group_id || ' ' || session_id || ' ' || from_role || '>' || to_role || ' ' || reason || ' ' || term
         FROM role_transitions WHERE reason <> 'first_heartbeat' ORDER BY transition_id",
    )
    .fetch_all(&mut connection)
    .await
    .expect("it runs");
    let changes = rows.iter().map(|row| row.try_get(0).expect("a text")).collect();
    drop(connection);
    for replica in replicas {
        replica.stop().await;
    }
    cluster.wait_until_whole(Duration::from_secs(60)).await;
    judge(&heard, changes, led_at)
}

fn judge(heard: &[Heard], changes: Vec<String>, led_at: Instant) -> Outcome {
    let mut good: Vec<&Heard> = heard.iter().filter(|one| one.status == 200).collect();
    good.sort_by_key(|one| one.answered_at);
    let silence = good.windows(2).map(|two| two[1].answered_at - two[0].answered_at).max().unwrap_or_default();
    let recovery =
        good.iter().find(|one| one.answered_at > led_at).map_or(Duration::MAX, |one| one.answered_at - led_at);
    let (mut terms_back, mut terms_of_two) = (BTreeSet::new(), BTreeSet::new());
    let mut newest: BTreeMap<usize, (i64, Instant)> = BTreeMap::new();
    let mut told: BTreeMap<(usize, i64), usize> = BTreeMap::new();
    for one in &good {
        // Only a heartbeat that was sent after that answer must know of it.
        if let Some((term, at)) = newest.get(&one.group)
            && one.term < *term
            && one.sent_at > *at
        {
            terms_back.insert(one.group);
        }
        if newest.get(&one.group).is_none_or(|(term, _)| one.term > *term) {
            newest.insert(one.group, (one.term, one.answered_at));
        }
        if one.role == 1 && *told.entry((one.group, one.term)).or_insert(one.session) != one.session {
            terms_of_two.insert((one.group, one.term));
        }
    }
    let two_acting = (0..GROUPS).map(|group| overlap(&good, group)).max().unwrap_or_default();
    Outcome { heartbeats: good.len(), silence, changes, terms_back, terms_of_two, two_acting, recovery }
}

/// For how long at once both sessions of a group acted, by the trust rule.
fn overlap(good: &[&Heard], group: usize) -> Duration {
    let spans = |session: usize| {
        let own: Vec<&&Heard> = good.iter().filter(|one| one.group == group && one.session == session).collect();
        let mut spans = Vec::new();
        for (i, one) in own.iter().enumerate().filter(|(_, one)| one.role == 1) {
            let told_otherwise = own[i + 1..].iter().find(|later| later.role != 1).map(|later| later.answered_at);
            let end = (one.sent_at + one.lease).min(told_otherwise.unwrap_or(one.sent_at + one.lease));
            spans.push((one.answered_at, end));
        }
        spans
    };
    let (first, second) = (spans(0), spans(1));
    let both = first.iter().flat_map(|(a, b)| {
        second.iter().map(move |(c, d)| (*b.min(d)).checked_duration_since(*a.max(c)).unwrap_or_default())
    });
    both.max().unwrap_or_default()
}

/// What roles may do in a run.
#[derive(Clone, Copy, PartialEq)]
enum Changes {
    /// Nobody's changes.
    None,
    /// Whose lease ran out while nobody could answer is fenced off for one timeout, and is Primary
    /// again: nobody else takes over.
    SameHolder,
    /// Sessions hand over.
    Some,
}

impl Changes {
    fn hold_for(self, changes: &[String]) -> bool {
        match self {
            Changes::None => changes.is_empty(),
            Changes::SameHolder => changes.iter().all(|change| change.split(' ').nth(1) == Some("s0")),
            Changes::Some => true,
        }
    }
}

/// Prints what it came to; whether all was kept that must be.
fn holds(what: &str, outcome: &Outcome, changes: Changes) -> bool {
    println!(
        "{what}: {} heartbeats, longest without an answer {:.1} s, first answer {:.1} s after, {} changes of roles, terms back in {}, of two {}, two acting {:.1} s",
        outcome.heartbeats,
        outcome.silence.as_secs_f64(),
        outcome.recovery.as_secs_f64(),
        outcome.changes.len(),
        outcome.terms_back.len(),
        outcome.terms_of_two.len(),
        outcome.two_acting.as_secs_f64()
    );
    let terms_hold = outcome.terms_back.is_empty() && outcome.terms_of_two.is_empty();
    let holds = terms_hold && outcome.two_acting.is_zero() && changes.hold_for(&outcome.changes);
    if !holds {
        println!("{outcome:?}");
    }
    holds
}

#[needs("patroni", "etcd", "haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_of_patroni_changes_no_role() {
    let mut cluster = Cluster::start(false).await;
    let outcome = run(&mut cluster, async |cluster| cluster.switch_over().await).await;
    assert!(holds("switchover, asynchronous", &outcome, Changes::None));
}

/// Five times each: switchover, a killed server, a node that stops and wakes up; with an
/// asynchronous and with a synchronous standby. The standby receives nothing for a while, in which
/// every group hands over; then the leader is gone, and the standby is promoted without any of
/// that.
async fn lose_the_last_seconds(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let receivers = cluster.processes(1 - leader, "walreceiver");
    assert_eq!(receivers.len(), 1, "the standby streams");
    let _ = kill(receivers[0], Signal::SIGSTOP);
    cluster.is_first_ill.store(true, Ordering::Relaxed);
    tokio::time::sleep(TIMEOUT * 2).await;
    cluster.kill_node(leader);
    let _ = kill(receivers[0], Signal::SIGKILL);
    cluster.is_first_ill.store(false, Ordering::Relaxed);
    // Somebody in a hurry: the others need not wait until the leader's claim has run out.
    let claim = format!("http://127.0.0.1:{}/v2/keys/service/plant/leader", cluster.etcd_port);
    reqwest::Client::new().delete(claim).send().await.expect("etcd answers");
    while cluster.states().await[1 - leader].as_deref() != Some("leader") {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.start_node(leader);
}

/// Twelve groups hand over, the promoted server does not know of it, and nobody acts beside another
/// for all that.
#[needs("patroni", "etcd", "haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_that_lost_the_last_grants_is_fenced() {
    let mut cluster = Cluster::start(false).await;
    let outcome = run(&mut cluster, lose_the_last_seconds).await;
    assert!(holds("lossy promotion", &outcome, Changes::Some));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour: cargo test --release --test suite -- --ignored --nocapture patroni_long"]
async fn patroni_long() {
    let mut all_hold = true;
    let times = std::env::var("CLIENT_FAILOVER_PATRONI_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    for is_synchronous in [false, true] {
        let (kind, changes) =
            if is_synchronous { ("synchronous", Changes::None) } else { ("asynchronous", Changes::SameHolder) };
        let mut cluster = Cluster::start(is_synchronous).await;
        for time in 0..times {
            let outcome = run(&mut cluster, async |cluster| cluster.switch_over().await).await;
            all_hold &= holds(&format!("switchover, {kind}, {time}"), &outcome, Changes::None);
            let outcome = run(&mut cluster, async |cluster| {
                let leader = cluster.leader().await;
                cluster.signal_server(leader, Signal::SIGKILL);
                tokio::time::sleep(Duration::from_secs(1)).await;
                cluster.leader().await;
            })
            .await;
            all_hold &= holds(&format!("server killed, {kind}, {time}"), &outcome, changes);
            let outcome = run(&mut cluster, async |cluster| {
                let leader = cluster.leader().await;
                cluster.signal_node(leader, Signal::SIGSTOP);
                while cluster.states().await[1 - leader].as_deref() != Some("leader") {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                // It wakes up beside its successor.
                cluster.signal_node(leader, Signal::SIGCONT);
            })
            .await;
            all_hold &= holds(&format!("node stopped and woken, {kind}, {time}"), &outcome, changes);
        }
    }
    assert!(all_hold);
}
