//! How long a group is without a Primary while an operator switches it over: `cargo test --release
//! --test suite switchover_times -- --ignored --nocapture` prints the figures.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::support::helpers::{TestApp, TestReplica};
use crate::support::sse::EventStream;

const SWITCHOVERS: usize = 50;
/// How often who is to take over asks whether it may.
const PENDING_BEAT_EVERY: Duration = Duration::from_millis(5);

const SECONDARY: i64 = 0;
const PRIMARY: i64 = 1;
const PENDING: i64 = 2;

#[tokio::test]
#[ignore = "measures for half a minute"]
async fn of_clients_that_acknowledge() {
    let app = Arc::new(TestApp::start().await);
    app.pair_with("g", 60_000).await;
    let clients = ["a", "b"].map(|session| follow(&app, "g", session));
    let mut taken = Vec::new();
    for _ in 0..SWITCHOVERS {
        taken.push(switch_over(&app, "g").await);
    }
    for client in clients {
        client.abort();
    }
    let (median_ms, longest_ms) = tell("of clients that acknowledge", &taken);
    assert!(median_ms < 500 && longest_ms < 5_000, "far below the lease of a minute");
}

#[tokio::test]
#[ignore = "measures for half a minute"]
async fn of_clients_that_are_silent() {
    const TIMEOUT_MS: i64 = 10_000;
    let app = Arc::new(TestApp::start().await);
    let groups: Vec<String> = (0..SWITCHOVERS).map(|n| format!("g{n}")).collect();
    let mut clients = Vec::new();
    for group in &groups {
        app.pair_with(group, TIMEOUT_MS).await;
        clients.extend(["a", "b"].map(|session| heartbeat(&app, group, session, TIMEOUT_MS)));
    }
    // Each switch-over comes somewhere between two heartbeats, and these are half a timeout apart:
    // before the clients' first ones there would be more left of the lease.
    let taken = join_all(groups.iter().map(async |group| {
        tokio::time::sleep(Duration::from_millis(TIMEOUT_MS as u64).mul_f64(0.6 + fastrand::f64())).await;
        switch_over(&app, group).await
    }))
    .await;
    for client in clients {
        client.abort();
    }
    let (_, longest_ms) = tell("of silent clients", &taken);
    // What is left of the lease, half of it, and then until the next heartbeat of who is to take
    // over.
    assert!(longest_ms <= TIMEOUT_MS + 500, "{longest_ms}");
}

/// Switches a group over; for how long nobody was Primary, and how long it took in all, in ms.
async fn switch_over(replica: &TestReplica, group: &str) -> (i64, i64) {
    let done = replica.post(&format!("/{group}/switchover?wait=60"), json!({})).await.expect_ok();
    let [without, took] = ["WithoutPrimaryMs", "TookMs"].map(|name| done["Outcome"][name].as_i64());
    (without.expect("it has come about"), took.expect("it has come about"))
}

/// The median and the longest time without a Primary, in ms.
fn tell(what: &str, taken: &[(i64, i64)]) -> (i64, i64) {
    let sorted = |of: fn(&(i64, i64)) -> i64| {
        let mut times: Vec<i64> = taken.iter().map(of).collect();
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() - 1])
    };
    let (without, took) = (sorted(|taken| taken.0), sorted(|taken| taken.1));
    println!(
        "{} switch-overs {what}: without a Primary median {} ms, longest {} ms; in all median {} ms, longest {} ms",
        taken.len(),
        without.0,
        without.1,
        took.0,
        took.1,
    );
    without
}

/// A client that follows the events of its group and says in which role it acts.
fn follow(app: &Arc<TestApp>, group: &'static str, session: &'static str) -> JoinHandle<()> {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}/events");
        let mut stream = EventStream::open(&app, &path, None).await;
        let mut role = SECONDARY;
        loop {
            let told = app.beat_acting_as(group, session, 100.0, i64::from(role == PRIMARY)).await;
            let has_yielded = role == PRIMARY && told != PRIMARY;
            role = told;
            if has_yielded {
                // It has stopped, and says so at once.
                continue;
            }
            if role == PENDING {
                tokio::time::sleep(PENDING_BEAT_EVERY).await;
            } else {
                stream.next().await.expect("the stream goes on");
            }
        }
    })
}

/// A client that heartbeats every half timeout, beginning somewhere in it, and says nothing else.
fn heartbeat(app: &Arc<TestApp>, group: &str, session: &'static str, timeout_ms: i64) -> JoinHandle<()> {
    let (app, group) = (Arc::clone(app), group.to_owned());
    let half = Duration::from_millis(timeout_ms.unsigned_abs() / 2);
    tokio::spawn(async move {
        tokio::time::sleep(half.mul_f64(fastrand::f64())).await;
        let mut beats = interval(half);
        loop {
            beats.tick().await;
            let body: Value = json!({"PercentHealthyStreams": 100});
            app.heartbeat(&group, session, body).await.expect_ok();
        }
    })
}
