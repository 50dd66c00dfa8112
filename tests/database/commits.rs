//! What is answered 200 is committed where it was promised to be: on a standby, too, where the
//! server waits for one.

use std::time::{Duration, Instant};

use client_failover::store::hosts::Hosts;
use client_failover::store::{Pooler, Store, StoreOptions};
use serde_json::json;

use crate::support::helpers::{TestReplica, eventually, settings, store_options};
use crate::support::servers::Server;

const MINUTE: i64 = 60_000;

/// Ends every wait for a standby as soon as it begins, as an operator may. The transactions are
/// committed here all the same.
async fn cancel_waits(server: &Server) {
    let cancel = "SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    loop {
        server.value(cancel).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_any_more_is_not_answered_200() {
    let server = Server::start(&[]).await;
    let mut settings = settings(server.connect_options());
    settings.store.operation_timeout = Duration::from_secs(2);
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    // A standby that is not there.
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await;
    server.execute("SELECT pg_reload_conf()").await;
    // From when on commits wait, one after the other of its processes learns. Signs of life are the
    // first to.
    let waiting = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("commits wait", async || server.value(waiting).await != "0").await;
    let requests = async {
        let put = replica.put("/h", json!({"Milliseconds": MINUTE})).await;
        let deletion = replica.delete("/g/clientsessions/b").await;
        let beat = replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await;
        (put, deletion, beat)
    };
    let (put, deletion, beat) = tokio::select! {
        answers = requests => answers,
        () = cancel_waits(&server) => unreachable!("it goes on for ever"),
    };
    for answer in [put, deletion, beat] {
        answer.expect_error(503);
    }
    server.execute("ALTER SYSTEM RESET synchronous_standby_names").await;
    server.execute("SELECT pg_reload_conf()").await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    replica.put("/h", json!({"Milliseconds": MINUTE})).await.expect_ok();
    replica.stop().await;
}

#[tokio::test]
async fn a_sign_of_life_that_nobody_waits_for_any_more_is_none() {
    const SHORT: i64 = 1_500;
    let server = Server::start(&[]).await;
    let mut settings = settings(server.connect_options());
    settings.store.operation_timeout = Duration::from_secs(1);
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", SHORT, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    assert_eq!(replica.beat("g", "b", 100.0).await, 0);
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await;
    server.execute("SELECT pg_reload_conf()").await;
    let waiting = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("commits wait", async || server.value(waiting).await != "0").await;
    // Nobody can renew, and each commit that is not waited for can be seen here.
    let heartbeats = async {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3 * SHORT as u64) {
            for session in ["a", "b"] {
                replica.heartbeat("g", session, json!({"PercentHealthyStreams": 100})).await.expect_error(503);
            }
        }
        replica.is_ready().await
    };
    let is_ready = tokio::select! {
        is_ready = heartbeats => is_ready,
        () = cancel_waits(&server) => unreachable!("it goes on for ever"),
    };
    assert!(!is_ready, "nothing can be committed");
    server.execute("ALTER SYSTEM RESET synchronous_standby_names").await;
    server.execute("SELECT pg_reload_conf()").await;
    for (session, role) in [("b", 0), ("a", 1)] {
        eventually("it is answered again", async || {
            let answer = replica.heartbeat("g", session, json!({"PercentHealthyStreams": 100})).await;
            assert!(answer.status == 503 || answer.body["Role"] == role, "{session}: {}", answer.body);
            answer.status == 200
        })
        .await;
    }
    assert_eq!(server.value("SELECT count(*)::text FROM role_transitions").await, "1");
    replica.stop().await;
}

/// Each replica would give one such sign before it knew better, the last of them long after the
/// others knew, and leases would be judged by it.
#[tokio::test]
async fn the_first_sign_of_a_replica_that_meets_an_outage_late_is_none_either() {
    let server = Server::start(&[]).await;
    let replica = TestReplica::start(settings(server.connect_options())).await;
    replica.wait_until_ready().await;
    replica.stop().await;
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await;
    server.execute("SELECT pg_reload_conf()").await;
    let alive_at = "SELECT alive_at::text FROM service_liveness";
    let before = server.value(alive_at).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", server.port);
    let store = Store::open(Hosts::parse(&url).expect("it is a URL"), store_options());
    let sign = tokio::select! {
        sign = store.note_alive() => sign,
        () = cancel_waits(&server) => unreachable!("it goes on for ever"),
    };
    assert!(sign.is_err(), "it is not known to last");
    assert_eq!(server.value(alive_at).await, before, "and nobody goes by it");
    store.close().await;
}

async fn synchronous_commit(server: &Server, role: &str, options: StoreOptions) -> String {
    let url = format!("postgres://{role}@127.0.0.1:{}/postgres?sslmode=disable", server.port);
    let store = Store::open(Hosts::parse(&url).expect("it is a URL"), options);
    let shown = store
        .read("synchronous_commit", |connection, _| {
            Box::pin(async move { Ok(sqlx::query_scalar("SHOW synchronous_commit").fetch_one(connection).await?) })
        })
        .await;
    store.close().await;
    shown.expect("it is shown")
}

#[tokio::test]
async fn no_setting_of_a_role_makes_commits_weaker_and_one_that_makes_them_stronger_counts() {
    let server = Server::start(&[]).await;
    for (setting, used) in
        [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
    {
        server.execute(&format!("CREATE ROLE {setting}_role LOGIN")).await;
        server.execute(&format!("ALTER ROLE {setting}_role SET synchronous_commit = {setting}")).await;
        for pooler in [Pooler::None, Pooler::Transaction] {
            let options = StoreOptions { pooler, ..store_options() };
            let shown = synchronous_commit(&server, &format!("{setting}_role"), options).await;
            assert_eq!(shown, used, "{setting}, {pooler:?}");
        }
    }
}
