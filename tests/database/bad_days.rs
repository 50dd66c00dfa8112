//! A database that has a bad day: it cannot commit, a table of it is locked, its clock is set. No
//! role changes by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client_failover::postgres::Postgres;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::support::helpers::{
    TestApp, TestReplica, connect_options, eventually, remove_after_the_run, scratch_dir, settings, without_sweeps,
};
use crate::support::preload::Shim;

/// A durable server whose clock and disk do as they are told.
struct Server {
    server: Postgres,
    connect: PgConnectOptions,
    shim: Shim,
}

impl Server {
    async fn start() -> Server {
        let dir = scratch_dir("bad-day");
        remove_after_the_run(&dir);
        let shim = Shim::new(&dir.join("bin"));
        let server = shim.start_postgres(&dir.join("database")).await;
        let connect = connect_options(&server, "postgres");
        Server { server, connect, shim }
    }

    async fn execute(&self, statement: &'static str) {
        let mut connection = PgConnection::connect_with(&self.connect).await.expect("the server answers");
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("it runs");
    }

    async fn numbers(&self, query: &'static str) -> Vec<f64> {
        let mut connection = PgConnection::connect_with(&self.connect).await.expect("the server answers");
        sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("it runs")
    }

    async fn stop(self) {
        self.server.stop().await.expect("it stops");
    }
}

const TIMEOUT: Duration = Duration::from_secs(4);
const GROUPS: usize = 6;

/// Clients that heartbeat every half timeout until they are told to stop, and note when they act on
/// an answer.
struct Clients {
    stop: Arc<AtomicBool>,
    running: Vec<tokio::task::JoinHandle<Vec<(Instant, Instant)>>>,
}

impl Clients {
    /// Two for each group, of which the first is Primary.
    async fn start(replica: &TestReplica) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = Vec::new();
        for group in 0..GROUPS {
            let group = format!("g{group}");
            replica.group_of(&group, TIMEOUT.as_millis() as i64, &["a", "b"]).await;
            assert_eq!(replica.beat(&group, "a", 100.0).await, 1);
            assert_eq!(replica.beat(&group, "b", 100.0).await, 0);
            for session in ["a", "b"] {
                let (stop, http) = (stop.clone(), replica.http.clone());
                let path =
                    format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}/clientsessions/{session}");
                let url = format!("{}{path}", replica.url);
                running.push(tokio::spawn(async move {
                    let mut acted = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let sent = Instant::now();
                        let body = json!({"PercentHealthyStreams": 100});
                        let answer = http.post(&url).json(&body).timeout(Duration::from_secs(2)).send().await;
                        let answer = match answer {
                            Ok(answer) if answer.status() == 200 => answer.json::<Value>().await.ok(),
                            _ => None,
                        };
                        let wait = match answer {
                            Some(answer) => {
                                if answer["Role"] == 1 {
                                    acted.push((sent, sent + TIMEOUT));
                                }
                                TIMEOUT / 2
                            }
                            None => Duration::from_millis(200),
                        };
                        tokio::time::sleep(wait.saturating_sub(sent.elapsed())).await;
                    }
                    acted
                }));
            }
        }
        Clients { stop, running }
    }

    /// How many groups two clients acted in at once, each for as long as it may on the answers that
    /// it had.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let acted = join_all(self.running).await.into_iter().map(|acted| acted.expect("a client ends"));
        let acted: Vec<_> = acted.collect();
        let meet = |pair: &&[Vec<(Instant, Instant)>]| {
            pair[0].iter().any(|(from, until)| pair[1].iter().any(|(start, end)| start < until && from < end))
        };
        acted.chunks(2).filter(meet).count()
    }
}

async fn changed_roles(server: &Server) -> f64 {
    server.numbers("SELECT count(*)::float8 FROM role_transitions WHERE reason <> 'first_heartbeat'").await[0]
}

/// Has a disturbance for as long as it takes a lease to run out, and a half; nothing may have
/// changed by it.
async fn no_role_changes_by(begin: impl AsyncFn(&Server), end: impl AsyncFn(&Server), reason: &str) {
    let server = Server::start().await;
    let replica = TestReplica::start(settings(server.connect.clone())).await;
    replica.wait_until_ready().await;
    let clients = Clients::start(&replica).await;
    begin(&server).await;
    let began = Instant::now();
    eventually("readiness says what is wrong", async || {
        let answer = replica.http.get(format!("{}/health/ready", replica.url)).send().await.expect("it answers");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        status == 503 && text.contains(reason)
    })
    .await;
    tokio::time::sleep((TIMEOUT * 3 / 2).saturating_sub(began.elapsed())).await;
    end(&server).await;
    replica.wait_until_ready().await;
    eventually("the outage is recorded", async || {
        let longest =
            "SELECT coalesce(max(extract(epoch FROM recovered_at - began_at)), 0)::float8 FROM service_outages";
        server.numbers(longest).await[0] > TIMEOUT.as_secs_f64()
    })
    .await;
    tokio::time::sleep(TIMEOUT * 3 / 2).await;
    assert_eq!(clients.stop().await, 0, "groups in which two acted");
    assert_eq!(changed_roles(&server).await, 0.0, "roles changed");
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_that_is_gone_changes_no_role() {
    let set = async |server: &Server| {
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await;
        server.execute("SELECT pg_reload_conf()").await;
    };
    let reset = async |server: &Server| {
        server.execute("ALTER SYSTEM RESET synchronous_standby_names").await;
        server.execute("SELECT pg_reload_conf()").await;
    };
    no_role_changes_by(set, reset, "synchronous standby").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_changes_no_role() {
    let stall = async |server: &Server| server.shim.stall_the_disk(true);
    let go_on = async |server: &Server| server.shim.stall_the_disk(false);
    no_role_changes_by(stall, go_on, "wait for the disk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_changes_no_role() {
    let holder = tokio::sync::Mutex::new(None);
    let lock = async |server: &Server| {
        let mut connection = PgConnection::connect_with(&server.connect).await.expect("the server answers");
        let lock = "BEGIN; LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut connection).await.expect("it locks");
        *holder.lock().await = Some(connection);
    };
    let free = async |_: &Server| drop(holder.lock().await.take());
    no_role_changes_by(lock, free, "holds a lock on heartbeats").await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_its_group_s_trouble_alone() {
    const SHORT: i64 = 1_500;
    let app = TestApp::start().await;
    for group in 0..40 {
        app.group_of(&format!("g{group}"), SHORT, &["a", "b"]).await;
        assert_eq!(app.beat(&format!("g{group}"), "a", 100.0).await, 1);
        assert_eq!(app.beat(&format!("g{group}"), "b", 100.0).await, 0);
    }
    let groups: Vec<String> = (1..40).map(|group| format!("g{group}")).collect();
    let round = async || {
        let sent = Instant::now();
        let roles = join_all(groups.iter().map(|group| app.beat(group, "a", 100.0))).await;
        assert!(roles.iter().all(|role| *role == 1), "nobody's lease was in danger");
        sent.elapsed()
    };
    let usual = round().await.max(round().await);
    let mut holder = app.database.connect().await;
    let hold =
        "BEGIN; SELECT FROM heartbeats JOIN groups USING (group_key) WHERE group_id = 'g0' FOR UPDATE OF heartbeats";
    sqlx::raw_sql(hold).execute(&mut holder).await.expect("it locks");
    let outages = "SELECT count(*) AS n FROM service_outages WHERE recovered_at - began_at > '1 s'";
    let before = app.database.rows(outages).await;
    let held = "/g0/clientsessions/a";
    let held_answers = async {
        app.post(held, json!({"PercentHealthyStreams": 100})).await.expect_error(503);
    };
    let began = Instant::now();
    let others = async {
        let mut rounds = Vec::new();
        while began.elapsed() < Duration::from_millis(2 * SHORT as u64) {
            // The clients of the held group go on trying, as they do.
            let tries = app.http.post(format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups{held}", app.url));
            let tries = tries.json(&json!({"PercentHealthyStreams": 100})).timeout(Duration::from_millis(300)).send();
            let (took, _) = tokio::join!(round(), tries);
            rounds.push(took);
        }
        rounds.sort_unstable();
        rounds
    };
    let ((), rounds) = tokio::join!(held_answers, others);
    println!("rounds of the others: {rounds:?}, before {usual:?}");
    // Some meet the row before it is known to be held.
    assert!(rounds[rounds.len() / 2] < usual * 4 + Duration::from_millis(200), "the others wait for it: {rounds:?}");
    assert_eq!(app.database.rows(outages).await, before, "the service is not away for it");
    drop(holder);
    eventually("the held group is served again", async || {
        app.post(held, json!({"PercentHealthyStreams": 100})).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_ends_no_lease_early() {
    let server = Server::start().await;
    let replicas = join_all((0..2).map(|_| TestReplica::start(settings(server.connect.clone())))).await;
    for replica in &replicas {
        replica.wait_until_ready().await;
    }
    let clients = Clients::start(&replicas[0]).await;
    // Less than the gap, more than the rest of a lease; small ones too.
    for ms in [1_800, 3_600, 3_700, 15_000] {
        tokio::time::sleep(TIMEOUT / 4).await;
        server.shim.set_clock_by(ms);
    }
    tokio::time::sleep(TIMEOUT * 3 / 2).await;
    assert_eq!(clients.stop().await, 0, "groups in which two acted");
    assert_eq!(changed_roles(&server).await, 0.0, "roles changed");
    let steps = "SELECT round(extract(epoch FROM clock_step), 1)::float8 FROM service_outages WHERE clock_step IS NOT NULL ORDER BY outage_id";
    assert_eq!(server.numbers(steps).await, [1.8, 1.8, 0.1, 11.3], "each is noted once, whichever replica saw it");
    for replica in replicas {
        replica.stop().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_that_is_open_when_the_clock_is_set_forward_stays_open_for_as_long() {
    let server = Server::start().await;
    let mut settings = settings(server.connect.clone());
    without_sweeps(&mut settings);
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", 20_000, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 50.0).await, 1);
    assert_eq!(replica.beat("g", "b", 90.0).await, 2);
    assert_eq!(replica.beat("g", "a", 50.0).await, 0, "it yields, and may not have heard");
    server.shim.set_clock_by(60_000);
    assert_eq!(replica.beat("g", "b", 90.0).await, 2, "no time has passed");
    assert_eq!(replica.beat_acting_as("g", "a", 50.0, 0).await, 0);
    assert_eq!(replica.beat("g", "b", 90.0).await, 1);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_step_back_leases_end_one_of_their_lengths_after_it_was_noticed() {
    const SHORT: i64 = 2_000;
    let server = Server::start().await;
    let replica = TestReplica::start(settings(server.connect.clone())).await;
    replica.wait_until_ready().await;
    for group in ["dead", "left"] {
        replica.group_of(group, SHORT, &["a", "b"]).await;
        assert_eq!(replica.beat(group, "a", 100.0).await, 1);
        assert_eq!(replica.beat(group, "b", 100.0).await, 0);
    }
    server.shim.set_clock_by(-600_000);
    let noticed = Instant::now();
    eventually("the standby is granted", async || replica.beat("left", "b", 100.0).await == 1).await;
    let waited = noticed.elapsed();
    assert!(waited >= Duration::from_millis(SHORT as u64 - 200), "{waited:?}: not before the lease may have ended");
    assert!(waited <= Duration::from_millis(SHORT as u64 * 5), "{waited:?}: far less than the clock was set back");
    eventually("nobody is left Primary of the dead group", async || {
        let held =
            "SELECT count(*)::float8 FROM sessions JOIN groups USING (group_key) WHERE group_id = 'dead' AND role = 1";
        server.numbers(held).await == [0.0]
    })
    .await;
    // And on it goes by the new clock.
    assert_eq!(replica.beat("left", "b", 100.0).await, 1);
    let ahead = "SELECT count(*)::float8 FROM heartbeats WHERE received_at > clock_timestamp()";
    assert_eq!(server.numbers(ahead).await, [0.0]);
    replica.stop().await;
    server.stop().await;
}
