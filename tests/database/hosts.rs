//! A database that may be at several hosts, and hosts that go: killed, dark, demoted, with another
//! password.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use client_failover::config::Settings;
use client_failover::store::hosts::Hosts;
use serde_json::json;

use crate::support::helpers::{TestReplica, eventually, scratch_dir, settings};
use crate::support::program::program;
use crate::support::proxy::{Gate, Proxy};
use crate::support::servers::Server;
use crate::support::sse::{EventStream, NAMESPACE_EVENTS};

const MINUTE: i64 = 60_000;
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine takes for what needs no waiting. Whoever waits for a connection to break
/// takes minutes.
const SOON: Duration = Duration::from_secs(6);

fn settings_at(ports: &[u16]) -> Settings {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url =
        format!("postgres://postgres@{}/postgres?target_session_attrs=read-write&sslmode=disable", hosts.join(","));
    let mut settings = settings(Hosts::parse(&url).expect("it is a URL"));
    settings.store.operation_timeout = TIMEOUT;
    settings
}

/// The Primary's and the standby's heartbeat, which say in which role they act, until both are
/// answered; how long that took.
async fn until_answered(replica: &TestReplica) -> Duration {
    let began = Instant::now();
    for (session, role) in [("a", 1), ("b", 0)] {
        eventually("a heartbeat is answered", async || {
            let body = json!({"PercentHealthyStreams": 100});
            let answer = replica.heartbeat_acting_as("g", session, body, role).await;
            if answer.status != 200 {
                answer.expect_error(503);
                return false;
            }
            assert_eq!(answer.body["Role"], role);
            true
        })
        .await;
    }
    began.elapsed()
}

async fn start_on(settings: Settings) -> TestReplica {
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    until_answered(&replica).await;
    replica
}

async fn role_changes(server: &Server) -> String {
    server.value("SELECT count(*)::text FROM role_transitions").await
}

#[tokio::test]
async fn a_primary_that_dies_is_left_for_the_standby_that_is_promoted() {
    let mut first = Server::start(&[]).await;
    let second = first.standby().await;
    // The standby is named first: it is passed over by migrations, heartbeats and the listening
    // connection alike.
    let replica = start_on(settings_at(&[second.port, first.port])).await;
    let mut events = EventStream::open(&replica, NAMESPACE_EVENTS, None).await;
    first.wait_for(&second).await;
    first.kill();
    let answer = replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await;
    answer.expect_error(503);
    second.promote().await;
    let took = until_answered(&replica).await;
    println!("answered {took:?} after the promotion");
    assert!(took < SOON, "{took:?}");
    assert_eq!(role_changes(&second).await, "1");
    replica.group_of("h", MINUTE, &["a"]).await;
    let mut lines = events.lines(3).await;
    if lines[0].starts_with("RoleChanged g a") {
        // Committed just before the stream began, and not read by then.
        lines.remove(0);
        lines.extend(events.lines(1).await);
    }
    assert_eq!(lines, ["DatabaseHistoryChanged another_timeline", "GroupCreated h", "SessionRegistered h a"]);
    replica.stop().await;
}

#[tokio::test]
async fn a_host_that_goes_dark_is_left_within_the_operation_timeout() {
    let first = Server::start(&[]).await;
    let second = first.standby().await;
    let gateway = Proxy::to_port(first.port).await;
    let replica = start_on(settings_at(&[gateway.port, second.port])).await;
    let listening = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    eventually("it listens", async || first.value(listening).await == "1").await;
    // As many idle connections as there may be.
    let reads = || futures_util::future::join_all((0..16).map(|_| replica.get("/g")));
    reads().await.into_iter().for_each(|answer| drop(answer.expect_ok()));
    first.wait_for(&second).await;
    gateway.set_gate(Gate::Held);
    second.promote().await;
    let went_dark = Instant::now();
    let took = until_answered(&replica).await;
    println!("heartbeats answered {took:?} after the promotion");
    assert!(took < TIMEOUT + SOON, "{took:?}");
    eventually("it listens at the new one", async || second.value(listening).await == "1").await;
    println!("listening {:?} after the promotion", went_dark.elapsed());
    assert!(went_dark.elapsed() < TIMEOUT + 2 * SOON, "{:?}", went_dark.elapsed());
    // None of the connections of before is left to be found out by a request.
    while went_dark.elapsed() < TIMEOUT + Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..3 {
        for answer in reads().await {
            answer.expect_ok();
        }
    }
    assert_eq!(role_changes(&second).await, "1");
    replica.stop().await;
}

#[tokio::test]
async fn a_primary_that_takes_no_writes_any_more_is_left_for_one_that_does() {
    let first = Server::start(&[]).await;
    let second = first.standby().await;
    let replica = start_on(settings_at(&[first.port, second.port])).await;
    first.wait_for(&second).await;
    second.promote().await;
    // As a manager of failovers fences it: it is there, and takes nothing.
    first.execute("ALTER SYSTEM SET default_transaction_read_only = on; ").await;
    first.execute("SELECT pg_reload_conf()").await;
    let took = until_answered(&replica).await;
    println!("answered {took:?} after the old one was closed to writes");
    assert!(took < SOON, "{took:?}");
    let of_the_service = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'client-failover'";
    eventually("nothing leads to the old one any more", async || first.value(of_the_service).await == "0").await;
    assert_eq!(role_changes(&second).await, "1");
    replica.stop().await;
}

#[tokio::test]
async fn a_password_that_changes_is_taken_without_a_restart() {
    let server = Server::start(&[]).await;
    server.execute("CREATE ROLE failover LOGIN PASSWORD 'one'").await;
    server.execute("CREATE DATABASE failover OWNER failover").await;
    server.set_hba("host all failover 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n").await;
    let dir = scratch_dir("pgpass");
    crate::support::helpers::remove_after_the_run(&dir);
    let file = dir.join("pgpass");
    let say = |password: &str| {
        std::fs::write(&file, format!("127.0.0.1:{}:failover:failover:{password}\n", server.port)).expect("it is ours");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    };
    say("one");
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--database-url"]);
    command.arg(format!("postgres://failover@127.0.0.1:{}/failover?sslmode=disable", server.port));
    command.env("PGPASSFILE", &file);
    let running = crate::support::program::Running::start(command).await;
    let replica = TestReplica::at(running.url.clone());
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    until_answered(&replica).await;
    server.execute("ALTER ROLE failover PASSWORD 'two'").await;
    say("two");
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'failover'").await;
    let took = until_answered(&replica).await;
    println!("answered {took:?} after all connections were ended");
    assert!(took < SOON, "{took:?}");
    replica.put("/h", json!({"Milliseconds": MINUTE})).await.expect_ok();
}
