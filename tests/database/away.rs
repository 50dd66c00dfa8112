//! The database as it is, and the database that goes away: restarted, read-only, cut off, slow to
//! answer.

mod tables;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client_failover::config::Settings;
use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover::store::Store;
use refinery_core::{Migration, Runner};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::instrument::WithSubscriber as _;

use crate::support::helpers::{
    Answer, TestApp, TestDatabase, TestReplica, connect_options, eventually, remove_after_the_run, scratch_dir,
    settings, store_options, without_sweeps,
};
use crate::support::proxy::{Gate, Proxy};

const MINUTE: i64 = 60_000;
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add to a bounded wait.
const SLACK: Duration = Duration::from_secs(4);

fn is_bounded_503(answer: Answer, asked: Instant) -> String {
    let reason = answer.expect_error(503);
    assert!(asked.elapsed() < TIMEOUT + SLACK, "{:?}", asked.elapsed());
    reason
}

/// A proxy in front of the tests' server.
async fn proxy_to(server: &PgConnectOptions) -> Proxy {
    let socket = server.get_socket().expect("it has a socket").join(format!(".s.PGSQL.{}", server.get_port()));
    Proxy::to_socket(socket).await
}

/// Of a replica that reaches its database through a proxy, and gives up on it after [`TIMEOUT`].
fn settings_through(proxy: &Proxy, database: &TestDatabase) -> Settings {
    let through = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(proxy.port)
        .username(database.connect_options().get_username())
        .database(database.connect_options().get_database().expect("it has a name"))
        .ssl_mode(PgSslMode::Disable);
    let mut settings = settings(through);
    settings.store.operation_timeout = TIMEOUT;
    settings
}

/// The next COMMIT reaches the server, and the connection breaks before its answer comes back.
const LOSES_COMMIT: Gate = Gate::LosesAnswer { to: "COMMIT" };

/// A database behind a proxy, and a group `g` in it with the Primary `a` and the standby `b`.
async fn start_behind_a_proxy() -> (Proxy, TestDatabase, TestReplica) {
    let database = TestDatabase::new().await;
    let proxy = proxy_to(&database.connect_options()).await;
    let mut settings = settings_through(&proxy, &database);
    // The tables are there, and what is lost later is not what it begins with.
    settings.migrate = false;
    let replica = TestReplica::start(settings).await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    assert_eq!(replica.beat("g", "b", 100.0).await, 0);
    (proxy, database, replica)
}

async fn is_good_again(replica: &TestReplica) {
    eventually("heartbeats are answered again", async || {
        let answer = replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await;
        match answer.status.as_u16() {
            200 => {
                assert_eq!(answer.body["Role"], 1);
                true
            }
            _ => {
                answer.expect_error(503);
                false
            }
        }
    })
    .await;
    assert_eq!(replica.beat("g", "b", 100.0).await, 0);
}

async fn a_fault_of_the_line_is_a_503_in_time(fault: Gate) {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    for _ in 0..2 {
        proxy.set_gate(fault);
        let asked = Instant::now();
        let beats = (0..8).map(|_| replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})));
        let all = futures_util::future::join4(
            futures_util::future::join_all(beats),
            replica.get("/g"),
            replica.put("/h", json!({"Milliseconds": 1_000})),
            replica.delete("/g/clientsessions/a"),
        );
        let (beats, read, put, deletion) = all.await;
        for answer in beats.into_iter().chain([read, put, deletion]) {
            is_bounded_503(answer, asked);
        }
        let ready = Answer::of(replica.http.get(format!("{}/health/ready", replica.url))).await;
        ready.expect_error(503);
        proxy.set_gate(Gate::Open);
        is_good_again(&replica).await;
    }
    assert_eq!(database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn cut_connections_are_503_in_time_and_good_again_without_a_role_change() {
    a_fault_of_the_line_is_a_503_in_time(Gate::Closed).await;
}

#[tokio::test]
async fn a_line_that_stalls_is_503_in_time_and_good_again_without_a_role_change() {
    a_fault_of_the_line_is_a_503_in_time(Gate::Held).await;
}

#[tokio::test]
async fn connections_cut_at_any_moment_leave_every_200_committed() {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    let mut confirmed = String::new();
    for round in 0..12_u64 {
        let cut = async {
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            proxy.cut();
        };
        let sent = format!("2024-01-01T00:00:{round:02}Z");
        let beat = replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100, "HeartbeatTime": sent}));
        let (answer, ()) = futures_util::future::join(beat, cut).await;
        match answer.status.as_u16() {
            200 => confirmed = sent,
            _ => drop(answer.expect_error(503)),
        }
        let stored = database
            .rows("SELECT heartbeat_time AT TIME ZONE 'UTC' AS at FROM heartbeats WHERE session_id = 'a'")
            .await;
        let stored = format!("{}Z", stored[0]["at"].as_str().expect("a time"));
        assert!(stored >= confirmed || confirmed.is_empty(), "{stored} {confirmed}");
    }
    is_good_again(&replica).await;
    assert_eq!(database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn answers_that_are_swallowed_are_503_in_time_and_harmless() {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    proxy.set_gate(Gate::Mute);
    let asked = Instant::now();
    is_bounded_503(replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await, asked);
    proxy.set_gate(Gate::Open);
    is_good_again(&replica).await;
    assert_eq!(database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn a_heartbeat_whose_commit_is_not_confirmed_is_repeated_and_counts_once() {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    proxy.set_gate(LOSES_COMMIT);
    assert_eq!(replica.beat("g", "b", 200.0 / 2.0).await, 0);
    assert_eq!(proxy.gate(), Gate::Open, "it was lost, or nothing was tried");
    replica.delete("/g/clientsessions/a").await.expect_ok();
    proxy.set_gate(LOSES_COMMIT);
    // A standby may say a time of data, too. It has sent none, however often that is decided.
    let as_standby = json!({"PercentHealthyStreams": 100, "LastDataSendTime": "2026-08-24T14:15:22Z"});
    let answer = replica.heartbeat("g", "b", as_standby).await;
    assert_eq!(proxy.gate(), Gate::Open);
    assert_eq!(answer.header("Failover-Term"), "2");
    let answer = answer.expect_ok();
    assert_eq!((&answer["Role"], &answer["LastDataSendTime"]), (&json!(1), &json!("0001-01-01T00:00:00Z")));
    assert_eq!(
        database.trace("g").await[1..],
        ["a 1>0 session_deleted operator 1", "b 0>1 session_deleted heartbeat 2"]
    );
}

#[tokio::test]
async fn a_yielding_heartbeat_whose_commit_is_not_confirmed_yields_once() {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    proxy.set_gate(LOSES_COMMIT);
    assert_eq!(replica.beat("g", "a", 10.0).await, 0);
    assert_eq!(proxy.gate(), Gate::Open);
    assert_eq!(replica.beat("g", "b", 100.0).await, 2, "the handover is open until the old lease has run out");
    assert_eq!(database.trace("g").await[1..], ["b 0>2 healthier heartbeat 1", "a 1>0 yielded heartbeat 1"]);
}

#[tokio::test]
async fn a_deletion_whose_commit_is_not_confirmed_is_503_and_not_404() {
    let (proxy, database, replica) = start_behind_a_proxy().await;
    proxy.set_gate(LOSES_COMMIT);
    replica.delete("/g/clientsessions/b").await.expect_error(503);
    replica.delete("/g/clientsessions/b").await.expect_error(404);
    proxy.set_gate(LOSES_COMMIT);
    replica.delete("/g?force=true").await.expect_error(503);
    replica.delete("/g").await.expect_error(404);
    assert_eq!(database.trace("g").await[1..], ["a 1>0 session_deleted operator 1"]);
}

#[tokio::test]
async fn what_is_idempotent_succeeds_although_its_commit_is_not_confirmed() {
    let (proxy, _database, replica) = start_behind_a_proxy().await;
    proxy.set_gate(LOSES_COMMIT);
    replica.post("", json!({"Id": "new"})).await.expect_ok();
    proxy.set_gate(LOSES_COMMIT);
    replica.put("/new", json!({"Milliseconds": 5_000})).await.expect_ok();
    proxy.set_gate(LOSES_COMMIT);
    replica.post("/new/clientsessions", json!({"Id": "s"})).await.expect_ok();
    assert_eq!(proxy.gate(), Gate::Open);
    assert!(replica.get("/new").await.expect_ok()["Clients"]["s"].is_object());
}

#[tokio::test]
async fn a_database_restarted_under_load_costs_503s_and_no_role() {
    let dir = scratch_dir("restart");
    remove_after_the_run(&dir);
    let options = || PostgresOptions { data_dir: dir.clone(), bin_dir: None, settings: Vec::new() };
    let server = Postgres::start(options()).await.expect("it starts");
    let connect = connect_options(&server, "postgres");
    let mut settings = settings(connect.clone());
    settings.store.operation_timeout = TIMEOUT;
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    assert_eq!(replica.beat("g", "b", 100.0).await, 0);

    // Two clients that never pause, until both have seen it go and come back.
    let (away, is_away) = watch::channel(0);
    let (back, is_back) = watch::channel(false);
    let client = async |session: &str, role: i64| {
        loop {
            let asked = Instant::now();
            let answer = replica.heartbeat("g", session, json!({"PercentHealthyStreams": 100})).await;
            if answer.status == 200 {
                assert_eq!(answer.body["Role"], role);
                if *is_back.borrow() {
                    return;
                }
            } else {
                is_bounded_503(answer, asked);
                away.send_modify(|count| *count += 1);
            }
        }
    };
    let restart = async {
        server.stop().await.expect("it stops");
        is_away.clone().wait_for(|count| *count >= 4).await.expect("clients are there");
        let server = Postgres::start(options()).await.expect("it starts again");
        back.send_replace(true);
        server
    };
    let all = futures_util::future::join3(client("a", 1), client("b", 0), restart);
    let ((), (), server) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("it is good again");
    let mut connection = PgConnection::connect_with(&connect).await.expect("it answers");
    let changes: i64 =
        sqlx::query_scalar("SELECT count(*) FROM role_transitions").fetch_one(&mut connection).await.expect("it runs");
    assert_eq!(changes, 1);
    drop(connection);
    replica.stop().await;
    server.stop().await.expect("it stops");
}

#[tokio::test]
async fn connections_that_an_operator_ends_fail_no_request() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    for _ in 0..5 {
        let end = app.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        let beats = futures_util::future::join_all((0..20).map(|n| app.beat("g", ["a", "b"][n % 2], 100.0)));
        let (roles, (), read, put) =
            tokio::join!(beats, end, app.get("/g"), app.put("/h", json!({"Milliseconds": 1_000})));
        assert_eq!(roles, [1, 0].repeat(10));
        read.expect_ok();
        put.expect_ok();
    }
    assert_eq!(app.database.trace("g").await.len(), 1);
}

#[tokio::test]
async fn a_server_turned_read_only_is_503_until_it_is_writable_again() {
    let app = TestApp::start_with(|settings| settings.store.operation_timeout = TIMEOUT).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let name = app.database.connect_options().get_database().expect("it has a name").to_owned();
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    app.database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    app.database.execute(end_all).await;
    let asked = Instant::now();
    is_bounded_503(app.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await, asked);
    let asked = Instant::now();
    is_bounded_503(app.put("/h", json!({"Milliseconds": 1_000})).await, asked);
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    let writable = format!("BEGIN READ WRITE; {reset}; COMMIT");
    app.database.execute(&writable).await;
    is_good_again(&app).await;
    assert_eq!(app.database.trace("g").await.len(), 1);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_503_in_time_and_recovers() {
    let app = TestApp::start_with(|settings| {
        settings.store.operation_timeout = TIMEOUT;
        settings.store.pool_size = 1;
    })
    .await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let mut holder = app.database.connect().await;
    let mut transaction = holder.begin().await.expect("it begins");
    let lock = "SELECT 1 FROM groups FOR UPDATE";
    sqlx::query(lock).execute(&mut *transaction).await.expect("it locks");
    let asked = Instant::now();
    let (put, read) = tokio::join!(app.put("/g", json!({"Milliseconds": 90_000})), async {
        is_waiting_for_a_lock(&app.database).await;
        app.get("/g").await
    });
    is_bounded_503(put, asked);
    // It may have come late enough for the connection to be free again.
    if read.status != 200 {
        is_bounded_503(read, asked);
    }
    transaction.rollback().await.expect("it ends");
    is_good_again(&app).await;
}

async fn is_waiting_for_a_lock(database: &TestDatabase) {
    let waiting =
        "SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a statement waits for the lock", async || !database.rows(waiting).await.is_empty()).await;
}

#[tokio::test]
async fn a_request_whose_client_goes_away_leaves_no_open_transaction_to_the_next() {
    let app = TestApp::start_with(|settings| settings.store.pool_size = 1).await;
    app.group_of("g", MINUTE, &["a"]).await;
    let mut holder = app.database.connect().await;
    let mut transaction = holder.begin().await.expect("it begins");
    let lock = "SELECT 1 FROM groups WHERE group_id = 'g' FOR UPDATE";
    sqlx::query(lock).execute(&mut *transaction).await.expect("it locks");
    let mut client = TcpStream::connect(app.url.trim_start_matches("http://")).await.expect("it listens");
    let deletion = "DELETE /api/v1/tenants/t/namespaces/n/clientfailover/groups/g HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(deletion.as_bytes()).await.expect("it is sent");
    is_waiting_for_a_lock(&app.database).await;
    drop(client);
    // A request of its own connection that is answered has been read after that end.
    app.http.get(format!("{}/health/live", app.url)).send().await.expect("it is alive");
    transaction.rollback().await.expect("it ends");
    app.put("/h", json!({"Milliseconds": 1_000})).await.expect_ok();
    let open = "SELECT state FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'client-failover' AND state LIKE 'idle in%'";
    assert_eq!(app.database.rows(open).await, Vec::<Value>::new());
    app.get("/g").await.expect_ok();
}

#[tokio::test]
async fn an_unmigrated_database_is_said_to_be_one_and_served_once_it_is_migrated() {
    let database = TestDatabase::empty().await;
    let mut settings = settings(database.connect_options());
    settings.migrate = false;
    settings.store.operation_timeout = TIMEOUT;
    let replica = TestReplica::start(settings).await;
    let ready = || Answer::of(replica.http.get(format!("{}/health/ready", replica.url)));
    let reason = ready().await.expect_error(503);
    assert!(reason.contains("version 0"), "{reason}");
    let asked = Instant::now();
    is_bounded_503(replica.put("/g", json!({"Milliseconds": 1_000})).await, asked);
    let asked = Instant::now();
    is_bounded_503(replica.heartbeat("g", "a", json!({})).await, asked);

    let store = Store::open(database.connect_options(), store_options());
    assert!(store.migrate().await.expect("it migrates") > 0);
    assert_eq!(store.migrate().await.expect("it is up to date"), 0);
    store.close().await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
}

#[tokio::test]
async fn a_line_that_breaks_while_it_migrates_is_waited_for() {
    let database = TestDatabase::empty().await;
    let proxy = proxy_to(&database.connect_options()).await;
    // Nothing but migrations commits where there are no tables.
    proxy.set_gate(LOSES_COMMIT);
    let replica = TestReplica::start(settings_through(&proxy, &database)).await;
    replica.wait_until_ready().await;
    assert_eq!(proxy.gate(), Gate::Open, "it was lost, or nothing was tried");
    replica.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    replica.stop().await;
}

/// What the database says to a statement that it refuses.
/// Where what is logged goes.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_migration_behind_a_reader_stops_no_heartbeat_and_says_who_is_in_its_way() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    // As a dump does, for an hour.
    let mut reader = PgConnection::connect_with(&app.database.connect_options().application_name("nightly dump"))
        .await
        .expect("it answers");
    sqlx::raw_sql("BEGIN; SELECT * FROM heartbeats").execute(&mut reader).await.expect("it reads");
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let next = Migration::unapplied("V99__one_more_column", "ALTER TABLE heartbeats ADD COLUMN one_more integer");
    let runner = Runner::new(&[next.expect("it is one")]);
    let store = Store::open(app.database.connect_options(), store_options());
    let migration = tokio::spawn({
        let store = store.clone();
        async move { store.apply(runner).await }.with_subscriber(subscriber)
    });
    let mut longest = Duration::ZERO;
    let said = || String::from_utf8_lossy(&log.0.lock().expect("nobody panics with it")).into_owned();
    let mut beat = async || {
        let asked = Instant::now();
        assert_eq!(app.beat("g", "a", 100.0).await, 1);
        assert_eq!(app.beat("g", "b", 100.0).await, 0);
        longest = longest.max(asked.elapsed());
    };
    // While it tries, and when it has given up and tries again.
    while !said().contains("nightly dump") {
        beat().await;
    }
    is_waiting_for_a_lock(&app.database).await;
    beat().await;
    println!("the longest two heartbeats took {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert!(!migration.is_finished());
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("it ends");
    assert_eq!(migration.await.expect("no panic").expect("it migrates"), 1);
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    store.close().await;
}
