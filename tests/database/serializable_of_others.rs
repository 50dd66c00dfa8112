//! Somebody's serializable transaction that is left open.

use std::time::{Duration, Instant};

use client_failover::store::state::load;
use client_failover::store::{LostCommit, Stop, Store, StoreError};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::helpers::{TestReplica, settings, store_options};
use crate::support::servers::Server;

const MINUTE: i64 = 60_000;

#[tokio::test]
async fn one_that_is_left_open_uses_up_the_room_for_all_and_is_named_and_heartbeats_go_on_when_it_has_ended() {
    // The least that can be set: the room is used up by hundreds of transactions, and not by tens
    // of thousands.
    let server = Server::start(&[("max_pred_locks_per_transaction", "10"), ("max_connections", "40")]).await;
    let mut settings = settings(server.connect_options());
    settings.store.operation_timeout = Duration::from_secs(1);
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);

    let mut operator = PgConnection::connect_with(&server.connect_options()).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM groups").execute(&mut operator).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut operator).await.unwrap();
    let began = Instant::now();
    let refused = loop {
        let answer = replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the room is never used up");
    };
    refused.expect_error(503);

    // What is said of it, and who it is: not one of the service's own connections, which have read
    // things, too, and whose transactions have ended.
    let mut options = store_options();
    options.operation_timeout = Duration::from_secs(1);
    let store = Store::open(server.connect_options(), options);
    let nobody = [Uuid::nil()];
    let (nobody, options) = (&nobody, store.options());
    let read = store.serializable("other", LostCommit::Repeat, |connection, _| {
        Box::pin(async move { load(connection, nobody, options).await.map(drop).map_err(Stop::<StoreError>::from) })
    });
    let Err(StoreError::Unavailable(said)) = read.await else { panic!("there is room") };
    assert!(said.contains("max_pred_locks_per_transaction"), "{said}");
    let oldest = store.oldest_serializable_transaction().await.unwrap();
    assert_eq!(oldest.map(|oldest| oldest.pid), Some(pid));

    sqlx::raw_sql("ROLLBACK").execute(&mut operator).await.unwrap();
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    operator.close().await.unwrap();
    store.close().await;
    replica.stop().await;
}
