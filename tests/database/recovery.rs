//! How soon the service serves again once its database does.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::support::helpers::{TestReplica, settings};
use crate::support::servers::Server;

const MINUTE: i64 = 60_000;
const ROUNDS: usize = 3;

/// When this first holds, asked without a pause to speak of.
async fn first_time(mut holds: impl AsyncFnMut() -> bool) -> Instant {
    loop {
        let asked = Instant::now();
        if holds().await {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(2).saturating_sub(asked.elapsed())).await;
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn heartbeats_are_answered_and_all_replicas_ready_a_moment_after_the_database_is_back() {
    let mut server = Server::start(&[]).await;
    let first = TestReplica::start(settings(server.connect_options())).await;
    first.wait_until_ready().await;
    let second = TestReplica::start(settings(server.connect_options())).await;
    second.wait_until_ready().await;
    first.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    let (mut beats, mut readies) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        server.kill();
        // Long enough for every pause between two tries to be as long as it gets.
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.start_again();
        let connect = server.connect_options();
        // A try that began before the server was there must not be counted against it: each is for
        // a moment only, as that of a client that has others to try.
        let beat = async || {
            let beat = first.heartbeat("g", "a", json!({"PercentHealthyStreams": 100}));
            tokio::time::timeout(Duration::from_secs(1), beat).await.is_ok_and(|answer| answer.status == 200)
        };
        let (accepts, beaten, ready, ready_too) = tokio::join!(
            first_time(async || PgConnection::connect_with(&connect).await.is_ok()),
            first_time(beat),
            first_time(|| first.is_ready()),
            first_time(|| second.is_ready()),
        );
        beats.push(beaten.saturating_duration_since(accepts));
        readies.push(ready.max(ready_too).saturating_duration_since(accepts));
    }
    println!(
        "from the server's first connection: to the first 200 of a heartbeat {beats:?}, to all replicas ready {readies:?}"
    );
    let (beat, ready) = (median(&mut beats), median(&mut readies));
    println!("medians: {beat:?} and {ready:?}");
    // The aim is 0.3 s, of a machine that has nothing else to do. Whoever waited for the end of a
    // timeout would be far from it.
    let far = settings(server.connect_options()).store.operation_timeout;
    assert!(beat < far && ready < far, "{beat:?} {ready:?}");
}
