//! A database that has few connections to give, and one that gives them to others.

use std::time::Duration;

use client_failover::config::Settings;
use client_failover::store::hosts::Hosts;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::helpers::{TestReplica, eventually, settings};
use crate::support::servers::Server;

const MINUTE: i64 = 60_000;

fn settings_of(server: &Server, user: &str) -> Settings {
    let url = format!("postgres://{user}@127.0.0.1:{}/failover?sslmode=disable", server.port);
    let mut settings = settings(Hosts::parse(&url).expect("it is a URL"));
    settings.store.pool_size = 16;
    settings.store.operation_timeout = Duration::from_secs(8);
    settings
}

async fn server_with_role(settings: &[(&str, &str)], role: &str) -> Server {
    let server = Server::start(settings).await;
    server.execute(&format!("CREATE ROLE failover LOGIN {role}")).await;
    server.execute("CREATE DATABASE failover OWNER failover").await;
    server
}

/// Rounds of heartbeats, with more reads and writes at once than there are connections. Every
/// heartbeat is answered, in the role that the session had. How many of the others were not.
async fn load(replica: &TestReplica, group: &str, rounds: usize) -> usize {
    let mut unanswered = 0;
    for _ in 0..rounds {
        let others = (0..18).map(|n| async move {
            match n % 2 {
                0 => replica.get(&format!("/{group}/status")).await,
                _ => replica.put(&format!("/{group}"), json!({"Milliseconds": MINUTE})).await,
            }
        });
        let heartbeats = async {
            assert_eq!(replica.beat(group, "a", 100.0).await, 1);
            assert_eq!(replica.beat(group, "b", 100.0).await, 0);
        };
        let (others, ()) = tokio::join!(futures_util::future::join_all(others), heartbeats);
        unanswered += others.iter().filter(|answer| answer.status != 200).count();
    }
    unanswered
}

async fn start(settings: Settings, group: &str) -> TestReplica {
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    // While another replica still has what it is to give up, a request may be answered 503.
    // Heartbeats may not.
    let made = async |path: &str, body: Value| {
        eventually("it is made", async || replica.post(path, body.clone()).await.status == 200).await;
    };
    made("", json!({"Id": group, "Milliseconds": MINUTE})).await;
    for session in ["a", "b"] {
        made(&format!("/{group}/clientsessions"), json!({"Id": session})).await;
    }
    assert_eq!(replica.beat(group, "a", 100.0).await, 1);
    replica
}

async fn metric(replica: &TestReplica, name: &str) -> f64 {
    let text = replica.http.get(format!("{}/metrics", replica.url)).send().await.expect("it answers");
    let text = text.text().await.expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("there is such a metric");
    line.trim().parse().expect("a number")
}

/// Longer than what a busy machine does to a sign of life.
const SILENCES: &str = "SELECT count(*) FROM service_outages WHERE recovered_at - began_at > interval '1 s'";

async fn a_role_limited_to(limit: u32) {
    let server = server_with_role(&[], &format!("CONNECTION LIMIT {limit}")).await;
    let replica = start(settings_of(&server, "failover"), "g").await;
    let outages = async || {
        let connect = server.connect_options().database("failover");
        let mut connection = PgConnection::connect_with(&connect).await.expect("it answers");
        let count = sqlx::query_scalar(SILENCES).fetch_one(&mut connection).await;
        count.map(|count: i64| count).expect("it runs")
    };
    let before = outages().await;
    assert_eq!(load(&replica, "g", 20).await, 0);
    assert!(replica.is_ready().await);
    eventually("it is told", async || metric(&replica, "client_failover_database_connections_few").await == 1.0).await;
    assert_eq!(load(&replica, "g", 10).await, 0);
    assert_eq!(outages().await, before);
    replica.stop().await;
}

#[tokio::test]
async fn five_connections_are_enough_for_one_replica() {
    a_role_limited_to(5).await;
}

#[tokio::test]
async fn ten_connections_are_enough_for_one_replica() {
    a_role_limited_to(10).await;
}

#[tokio::test]
async fn eighteen_connections_are_enough_for_one_replica() {
    a_role_limited_to(18).await;
}

#[tokio::test]
async fn two_replicas_share_the_seven_connections_of_a_small_server() {
    // Three of the ten are for superusers.
    let server = server_with_role(&[("max_connections", "10"), ("max_wal_senders", "2")], "").await;
    let first = start(settings_of(&server, "failover"), "g").await;
    assert_eq!(load(&first, "g", 10).await, 0);
    // It has taken what it could get, and gives some of it to the other.
    let second = start(settings_of(&server, "failover"), "h").await;
    let (of_first, of_second) = tokio::join!(load(&first, "g", 20), load(&second, "h", 20));
    println!(
        "two replicas on seven connections: {of_first} and {of_second} of 360 other requests were not answered in time"
    );
    assert!(first.is_ready().await && second.is_ready().await);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_replica_without_a_connection_for_heartbeats_says_that_it_is_not_ready() {
    let server = server_with_role(&[], "CONNECTION LIMIT 5").await;
    let replica = start(settings_of(&server, "failover"), "g").await;
    // Somebody else takes what it gives up.
    server.execute("ALTER ROLE failover CONNECTION LIMIT 0").await;
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'failover'").await;
    eventually("it is not ready", async || !replica.is_ready().await).await;
    server.execute("ALTER ROLE failover CONNECTION LIMIT 8").await;
    replica.wait_until_ready().await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    replica.stop().await;
}

/// Whoever asks at once may be refused what another one was given a moment later. That is no want
/// that lasts.
#[tokio::test]
async fn a_replica_that_got_its_connections_one_by_one_says_that_it_is_ready() {
    let server = server_with_role(&[], "CONNECTION LIMIT 8").await;
    let replica = start(settings_of(&server, "failover"), "g").await;
    for _ in 0..8 {
        server.execute("ALTER ROLE failover CONNECTION LIMIT 1").await;
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'failover'").await;
        let asked = (0..8).map(|_| replica.is_ready());
        let heartbeats = (0..8).map(|_| replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})));
        tokio::join!(futures_util::future::join_all(asked), futures_util::future::join_all(heartbeats));
        server.execute("ALTER ROLE failover CONNECTION LIMIT 8").await;
        replica.wait_until_ready().await;
    }
    replica.stop().await;
}
