//! The service behind PgBouncer in transaction mode, a real one on loopback with fewer connections
//! to the server than the service has to it.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use client_failover::config::{Database, Settings};
use client_failover::store::hosts::Hosts;
use client_failover::store::migrate::Readiness;
use client_failover::store::{Pooler, Store, StoreOptions};
use client_failover_workshop::needs;
use nix::unistd::{Uid, User, geteuid};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection as _, Row as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::support::helpers::{
    Answer, TestDatabase, TestReplica, eventually, free_port, remove_after_the_run, scratch_dir, settings,
    store_options,
};
use crate::support::sse::{EventStream, NAMESPACE_EVENTS};

const CONFIGURATION: &str = include_str!("../../deploy/pgbouncer.ini");
const MINUTE: i64 = 60_000;
const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);
/// What a busy machine may add to a bounded wait.
const SLACK: Duration = Duration::from_secs(4);

/// A running PgBouncer. Killed when dropped.
struct PgBouncer {
    child: Child,
    port: u16,
    configuration: std::path::PathBuf,
}

impl PgBouncer {
    async fn start(database: &TestDatabase, server_connections: u32) -> PgBouncer {
        let port = free_port();
        let server = database.connect_options();
        let database_line = format!(
            "* = host={} port={} user={}",
            server.get_socket().expect("it has a socket").display(),
            server.get_port(),
            server.get_username(),
        );
        let mut text = CONFIGURATION.to_owned();
        for (shipped, here) in [
            ("client_failover = host=db.plant.example port=5432 dbname=client_failover", database_line),
            ("listen_port = 6432", format!("listen_port = {port}")),
            ("auth_type = scram-sha-256\nauth_file = /etc/pgbouncer/userlist.txt", "auth_type = any".to_owned()),
            // Fewer than the service has connections to it, so that they are shared.
            ("default_pool_size = 10", format!("default_pool_size = {server_connections}")),
        ] {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, &here);
        }
        let dir = scratch_dir("pgbouncer");
        remove_after_the_run(&dir);
        let configuration = dir.join("pgbouncer.ini");
        std::fs::write(&configuration, text).expect("the folder is ours");
        let child = PgBouncer::spawn(database, &configuration);
        let bouncer = PgBouncer { child, port, configuration };
        bouncer.wait_until_up(database).await;
        bouncer
    }

    fn spawn(database: &TestDatabase, configuration: &std::path::Path) -> Child {
        let mut command = Command::new("pgbouncer");
        command.args(["-q"]).arg(configuration).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        if geteuid().is_root() {
            // It refuses to be root, and the server's socket is its account's alone.
            let connect = database.connect_options();
            let socket = connect.get_socket().expect("it has a socket");
            let socket = socket.join(format!(".s.PGSQL.{}", connect.get_port()));
            let owner = std::fs::metadata(socket).expect("the server runs").uid();
            let owner = User::from_uid(Uid::from_raw(owner)).ok().flatten().expect("an account").name;
            command.args(["-u", &owner]);
        }
        command.spawn().expect("it starts")
    }

    async fn wait_until_up(&self, database: &TestDatabase) {
        eventually("PgBouncer answers", async || {
            PgConnection::connect_with(&self.connect_options(database)).await.is_ok()
        })
        .await;
    }

    async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Starts it again on the same port.
    async fn start_again(&mut self, database: &TestDatabase) {
        self.child = PgBouncer::spawn(database, &self.configuration);
        self.wait_until_up(database).await;
    }

    fn connect_options(&self, database: &TestDatabase) -> PgConnectOptions {
        let direct = database.connect_options();
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(direct.get_username())
            .database(direct.get_database().expect("it has a name"))
            .ssl_mode(PgSslMode::Disable)
            .extra_float_digits(None)
    }

    /// A replica behind it, with the database itself for migrations and events where that is given.
    fn settings(&self, database: &TestDatabase, direct: Option<PgConnectOptions>) -> Settings {
        let mut settings = settings(database.connect_options());
        let pooled = Hosts::from(self.connect_options(database));
        let direct = direct.map_or_else(|| pooled.clone(), Hosts::from);
        settings.database = Database::Url { pooled, direct };
        settings.store.pooler = Pooler::Transaction;
        settings.store.operation_timeout = OPERATION_TIMEOUT;
        settings
    }

    /// What each of its server connections says to a question, asked in transactions that stand
    /// side by side.
    async fn ask_all_servers(&self, database: &TestDatabase, question: &'static str, connections: usize) -> Vec<i64> {
        let mut open = Vec::new();
        let mut said = Vec::new();
        for _ in 0..connections {
            let mut connection =
                PgConnection::connect_with(&self.connect_options(database)).await.expect("PgBouncer answers");
            sqlx::raw_sql("BEGIN").execute(&mut connection).await.expect("it begins");
            let row = sqlx::raw_sql(question).fetch_one(&mut connection).await.expect("it runs");
            said.push(row.try_get(0).expect("a number"));
            open.push(connection);
        }
        said
    }
}

#[needs("pgbouncer")]
#[tokio::test]
async fn everything_works_behind_pgbouncer_and_no_statement_is_left_with_it() {
    let database = TestDatabase::empty().await;
    let bouncer = PgBouncer::start(&database, 4).await;
    let direct = || Some(database.connect_options());
    let patient = || {
        let mut settings = bouncer.settings(&database, direct());
        // What is asked for must be done, however busy the machine is.
        settings.store.operation_timeout = Duration::from_secs(20);
        settings
    };
    let first = TestReplica::start(patient()).await;
    let second = TestReplica::start(patient()).await;
    first.wait_until_ready().await;
    second.wait_until_ready().await;
    let mut events = EventStream::open(&second, NAMESPACE_EVENTS, None).await;
    let groups: Vec<String> = (0..12).map(|n| format!("g{n:02}")).collect();
    for group in &groups {
        first.group_of(group, MINUTE, &["a", "b"]).await;
        assert_eq!(first.beat(group, "a", 100.0).await, 1);
    }
    // More at once than there are connections to the server, of every kind: each gets its own
    // answer.
    let work = groups.iter().enumerate().map(|(n, group)| {
        let replica = [&first, &second][n % 2];
        async move {
            for _ in 0..15 {
                assert_eq!(replica.beat(group, "a", 100.0).await, 1);
                assert_eq!(replica.beat(group, "b", 100.0).await, 0);
                let [own, of_status, of_history] = ["", "/status", "/transitions"].map(|end| format!("/{group}{end}"));
                let (one, status, list, history) = tokio::join!(
                    replica.get(&own),
                    replica.get(&of_status),
                    replica.get("?count=3&skip=2"),
                    replica.get(&of_history),
                );
                assert_eq!(one.expect_ok()["Id"], *group);
                assert_eq!(status.expect_ok()["GroupId"], *group);
                let listed = list.expect_ok();
                assert_eq!(listed.as_array().expect("a list")[0]["Id"], "g02", "{listed}");
                assert_eq!(history.expect_ok().as_array().map(Vec::len), Some(1));
                replica.put(&format!("/{group}"), json!({"Milliseconds": MINUTE, "Name": group})).await.expect_ok();
            }
        }
    });
    let began = Instant::now();
    futures_util::future::join_all(work).await;
    println!("12 groups, 15 rounds of 7 requests behind PgBouncer with 4 server connections: {:?}", began.elapsed());
    // A takeover.
    database.let_time_pass(2 * MINUTE).await;
    assert_eq!(second.beat("g00", "b", 100.0).await, 1);
    assert_eq!(first.beat("g00", "a", 100.0).await, 0);
    first.delete("/g01?force=true").await.expect_ok();
    let trace = database.trace("g00").await;
    assert_eq!(trace[0], "a 0>1 first_heartbeat heartbeat 1");
    assert!(trace.last().is_some_and(|line| line.starts_with("b 0>1 lease_lapsed heartbeat 2")), "{trace:?}");
    // Through LISTEN on the direct connection, and whole.
    let mut lines = Vec::new();
    while !lines.iter().any(|line| line == "GroupDeleted g01") {
        lines.push(events.next().await.expect("the stream goes on").line());
    }
    assert!(lines.iter().any(|line| line.starts_with("RoleChanged g00 b 0>1 lease_lapsed")), "{lines:?}");
    let left = bouncer.ask_all_servers(&database, "SELECT count(*) FROM pg_prepared_statements", 3).await;
    assert_eq!(left, [0, 0, 0]);
    let settings =
        "SELECT count(*) FROM pg_settings WHERE source = 'session' AND name IN ('statement_timeout', 'enable_seqscan')";
    assert_eq!(bouncer.ask_all_servers(&database, settings, 3).await, [0, 0, 0]);
}

#[needs("pgbouncer")]
#[tokio::test]
async fn without_a_direct_url_it_migrates_and_streams_through_pgbouncer_and_leaves_no_lock() {
    let database = TestDatabase::empty().await;
    let bouncer = PgBouncer::start(&database, 5).await;
    let start = || TestReplica::start(bouncer.settings(&database, None));
    let (first, second) = tokio::join!(start(), start());
    first.wait_until_ready().await;
    second.wait_until_ready().await;
    // The second may still be looking at what the first has made.
    eventually("no lock is left behind", async || {
        let locks = database.rows("SELECT count(*) AS held FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await;
        locks == [json!({"held": 0})]
    })
    .await;
    let mut events = EventStream::open(&second, NAMESPACE_EVENTS, None).await;
    first.group_of("g", MINUTE, &["a"]).await;
    let written = Instant::now();
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    let lines = events.lines(3).await;
    println!("without LISTEN an event came after {:?}", written.elapsed());
    assert_eq!(lines[2], "RoleChanged g a 0>1 first_heartbeat");
    let third = start().await;
    third.wait_until_ready().await;
    assert_eq!(third.beat("g", "a", 100.0).await, 1);
}

#[needs("pgbouncer")]
#[tokio::test]
async fn pgbouncer_killed_and_started_again_under_load_costs_503s_and_no_role() {
    let database = TestDatabase::new().await;
    let mut bouncer = PgBouncer::start(&database, 4).await;
    let replica = TestReplica::start(bouncer.settings(&database, Some(database.connect_options()))).await;
    replica.wait_until_ready().await;
    let groups = ["g0", "g1", "g2"];
    for group in groups {
        replica.group_of(group, MINUTE, &["a", "b"]).await;
        assert_eq!(replica.beat(group, "a", 100.0).await, 1);
        assert_eq!(replica.beat(group, "b", 100.0).await, 0);
    }
    let (away, is_away) = watch::channel(0);
    let (back, is_back) = watch::channel(false);
    let client = async |group: &str, session: &str, role: i64| {
        let mut answered = (0, 0);
        loop {
            let asked = Instant::now();
            let was_back = *is_back.borrow();
            let answer = replica.heartbeat(group, session, json!({"PercentHealthyStreams": 100})).await;
            if answer.status == 200 {
                assert_eq!(answer.body["Role"], role);
                answered.0 += 1;
                if was_back {
                    return answered;
                }
            } else {
                is_bounded_503(answer, asked);
                answered.1 += 1;
                away.send_modify(|count| *count += 1);
            }
        }
    };
    let clients = groups.iter().flat_map(|group| [client(group, "a", 1), client(group, "b", 0)]);
    let restart = async {
        for round in 1..=2 {
            bouncer.kill().await;
            is_away.clone().wait_for(|count| *count >= 6 * round).await.expect("clients are there");
            bouncer.start_again(&database).await;
        }
        back.send_replace(true);
    };
    let all = futures_util::future::join(futures_util::future::join_all(clients), restart);
    let (answered, ()) = tokio::time::timeout(Duration::from_secs(40), all).await.expect("it is good again");
    let (good, bad) = answered.iter().fold((0, 0), |sum, (good, bad)| (sum.0 + good, sum.1 + bad));
    println!("PgBouncer killed twice: {good} heartbeats answered, {bad} 503");
    for group in groups {
        assert_eq!(database.trace(group).await, ["a 0>1 first_heartbeat heartbeat 1"]);
    }
}

fn is_bounded_503(answer: Answer, asked: Instant) {
    let took = asked.elapsed();
    answer.expect_error(503);
    assert!(took < OPERATION_TIMEOUT + SLACK, "{took:?}");
}

#[needs("pgbouncer")]
#[tokio::test]
async fn a_standby_behind_pgbouncer_is_refused() {
    // Not a standby, but a server that says so: what matters is that each transaction asks.
    let database = TestDatabase::new().await;
    let bouncer = PgBouncer::start(&database, 4).await;
    let replica = TestReplica::start(bouncer.settings(&database, Some(database.connect_options()))).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a"]).await;
    database
        .execute(
            "CREATE SCHEMA shadow;
             CREATE FUNCTION shadow.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true';
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = shadow, pg_catalog, public', current_database()); END $$",
        )
        .await;
    // The connections of PgBouncer are made anew, the service's to it stay.
    database
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await;
    eventually("a read is refused", async || replica.get("/g").await.status == 503).await;
    let Database::Url { pooled, .. } = bouncer.settings(&database, None).database else { unreachable!("it has a URL") };
    let store = Store::open(pooled, StoreOptions { pooler: Pooler::Transaction, ..store_options() });
    let refused = store.readiness(Duration::from_secs(1)).await;
    assert!(matches!(&refused, Readiness::Away(why) if why.contains("standby")), "{refused:?}");
    store.close().await;
}
