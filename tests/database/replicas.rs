//! Several replicas on one database, and clients that keep to none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::helpers::{TestDatabase, TestReplica, eventually, settings};

/// So many replicas that start at once.
async fn start_replicas(database: &TestDatabase, count: usize) -> Vec<TestReplica> {
    let starts = (0..count).map(|_| TestReplica::start(settings(database.connect_options())));
    futures_util::future::join_all(starts).await
}

/// What one heartbeat was answered.
struct Heard {
    group: String,
    session: String,
    role: i64,
    term: i64,
}

/// A client that sends each heartbeat to any of the replicas, now and then to two at once, at a
/// health that wanders.
async fn hammer(replicas: &[TestReplica], group: &str, session: &str, heartbeats: usize) -> Vec<Heard> {
    let mut random = fastrand::Rng::with_seed(group.bytes().chain(session.bytes()).map(u64::from).product());
    let mut heard = Vec::new();
    let mut acting = 0;
    for _ in 0..heartbeats {
        let body = json!({"PercentHealthyStreams": random.u8(8..=10) * 10});
        let copies = if random.u8(0..4) == 0 { 2 } else { 1 };
        let sent = (0..copies).map(|_| {
            let replica = &replicas[random.usize(0..replicas.len())];
            replica.heartbeat_acting_as(group, session, body.clone(), acting)
        });
        for answer in futures_util::future::join_all(sent).await {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let term = answer.header("Failover-Term").parse().expect("a number");
            let role = answer.body["Role"].as_i64().expect("a number");
            acting = role;
            heard.push(Heard { group: group.to_owned(), session: session.to_owned(), role, term });
        }
    }
    heard
}

/// Plays the trace of every group again: roles change from what they were, one holds each of the
/// two, and the term rises by one with each grant and with nothing else. Ends in what is stored.
async fn check_traces(database: &TestDatabase) -> usize {
    // In one statement: a sweep may come between two.
    let found = database
        .rows(
            "SELECT
                (SELECT json_agg(t ORDER BY transition_id) FROM role_transitions t) AS trace,
                (SELECT json_agg(s) FROM (SELECT group_id, session_id, role FROM sessions JOIN groups USING (group_key)) s)
                    AS stored",
        )
        .await
        .remove(0);
    let trace = found["trace"].as_array().expect("there is a trace");
    let mut roles: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut terms: BTreeMap<String, i64> = BTreeMap::new();
    let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
    for row in trace {
        let group = text(row, "group_id");
        let (from, to) = (row["from_role"].as_i64().expect("a number"), row["to_role"].as_i64().expect("a number"));
        let role = roles.entry((group.clone(), text(row, "session_id"))).or_default();
        assert_eq!(*role, from, "{row}");
        *role = to;
        let term = terms.entry(group.clone()).or_default();
        *term += i64::from(to == 1);
        assert_eq!(*term, row["term"].as_i64().expect("a number"), "{row}");
        for held in [1, 2] {
            let holders = roles.iter().filter(|((of, _), role)| *of == group && **role == held).count();
            assert!(holders <= 1, "{holders} hold {held} after {row}");
        }
    }
    for row in found["stored"].as_array().into_iter().flatten() {
        let played = roles.get(&(text(row, "group_id"), text(row, "session_id"))).copied().unwrap_or_default();
        assert_eq!(row["role"], played, "{row}");
    }
    trace.len()
}

/// Within a term exactly one session is ever told that it is Primary.
fn check_answers(heard: &[Heard]) {
    let mut primaries: BTreeMap<(&str, i64), BTreeSet<&str>> = BTreeMap::new();
    for answer in heard.iter().filter(|answer| answer.role == 1) {
        primaries.entry((&answer.group, answer.term)).or_default().insert(&answer.session);
    }
    assert!(!primaries.is_empty());
    for (term, sessions) in primaries {
        assert_eq!(sessions.len(), 1, "{term:?}: {sessions:?}");
    }
}

async fn hammer_replicas(count: usize) {
    const HEARTBEATS: usize = 25;
    let database = TestDatabase::new().await;
    let replicas = start_replicas(&database, count).await;
    // Short leases lapse under the load, long ones change hands by health alone.
    let groups = [("short", 150), ("brief", 400), ("long", 60_000), ("day", 86_400_000)];
    let sessions = ["a", "b", "c", "d", "e", "f"];
    for (group, timeout_ms) in groups {
        replicas[0].group_of(group, timeout_ms, &sessions).await;
    }
    let clients = groups
        .iter()
        .flat_map(|(group, _)| sessions.iter().map(|session| hammer(&replicas, group, session, HEARTBEATS)));
    let heard: Vec<Heard> = futures_util::future::join_all(clients).await.into_iter().flatten().collect();
    check_answers(&heard);
    let changes = check_traces(&database).await;
    assert!(changes > groups.len(), "roles changed hands, or nothing was tried");
    for replica in replicas {
        replica.stop().await;
    }
    check_traces(&database).await;
}

#[tokio::test]
async fn two_replicas_under_fire_never_make_two_primaries() {
    hammer_replicas(2).await;
}

#[tokio::test]
async fn three_replicas_under_fire_never_make_two_primaries() {
    hammer_replicas(3).await;
}

#[tokio::test]
async fn the_same_heartbeat_through_all_replicas_at_once_is_one_primary_with_one_term() {
    let database = TestDatabase::new().await;
    let replicas = start_replicas(&database, 3).await;
    replicas[0].group_of("g", 60_000, &["a"]).await;
    let sent = (0..30).map(|n| replicas[n % 3].heartbeat("g", "a", json!({"PercentHealthyStreams": 100})));
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!(answer.header("Failover-Term"), "1");
        assert_eq!(answer.expect_ok()["Role"], 1);
    }
    assert_eq!(database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn sessions_that_come_and_go_at_all_replicas_leave_one_primary() {
    let database = TestDatabase::new().await;
    let replicas = start_replicas(&database, 3).await;
    replicas[0].group_of("g", 60_000, &[]).await;
    let lives = ["a", "b", "c", "d"].map(async |session| {
        let mut heard = Vec::new();
        for round in 0..6 {
            let at = |step: usize| &replicas[(round + step) % 3];
            at(0).post("/g/clientsessions", json!({"Id": session})).await.expect_ok();
            for step in 1..3 {
                let answer = at(step).heartbeat("g", session, json!({"PercentHealthyStreams": 50 + round})).await;
                let term = answer.header("Failover-Term").parse().expect("a number");
                let role = answer.expect_ok()["Role"].as_i64().expect("a number");
                heard.push(Heard { group: "g".to_owned(), session: session.to_owned(), role, term });
            }
            at(1).delete(&format!("/g/clientsessions/{session}")).await.expect_ok();
        }
        heard
    });
    let heard: Vec<Heard> = futures_util::future::join_all(lives).await.into_iter().flatten().collect();
    check_answers(&heard);
    check_traces(&database).await;
    let status = database.rows("SELECT registered_sessions, primary_session FROM group_status").await;
    assert_eq!(status, [json!({"registered_sessions": 0, "primary_session": null})]);
}

#[tokio::test]
async fn replicas_that_start_together_on_an_empty_database_migrate_it_once() {
    let database = TestDatabase::empty().await;
    let replicas = start_replicas(&database, 3).await;
    for replica in &replicas {
        replica.wait_until_ready().await;
    }
    let history = database.rows("SELECT count(*) = count(DISTINCT version) AS once FROM refinery_schema_history").await;
    assert_eq!(history, [json!({"once": true})]);
    replicas[0].group_of("g", 60_000, &["a"]).await;
    assert_eq!(replicas[1].beat("g", "a", 100.0).await, 1);
    assert_eq!(replicas[2].get("/g").await.expect_ok()["Clients"]["a"]["Role"], 1);
}

#[tokio::test]
async fn the_clients_of_a_replica_that_stops_go_on_at_another() {
    let database = TestDatabase::new().await;
    let mut replicas = start_replicas(&database, 2).await;
    let (second, first) = (replicas.remove(1), replicas.remove(0));
    first.group_of("g", 60_000, &["a", "b"]).await;
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    assert_eq!(first.beat("g", "b", 100.0).await, 0);
    tokio::time::timeout(Duration::from_secs(10), first.stop()).await.expect("it ends in time");
    assert_eq!(second.beat("g", "b", 100.0).await, 0);
    assert_eq!(second.beat("g", "a", 100.0).await, 1);
    assert_eq!(database.trace("g").await.len(), 1);
}

/// How many heartbeat transactions of this process have waited for their turn.
async fn turns_taken(replica: &TestReplica) -> u64 {
    let metrics = reqwest::get(format!("{}/metrics", replica.url)).await.expect("it answers");
    let metrics = metrics.text().await.expect("text");
    let line = metrics.lines().find_map(|line| line.strip_prefix("client_failover_heartbeat_turns_total "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

#[tokio::test]
async fn replicas_that_keep_meeting_take_turns_and_one_that_keeps_its_turn_stops_nobody() {
    const CLIENTS: usize = 32;
    let database = TestDatabase::new().await;
    let replicas = start_replicas(&database, 2).await;
    for client in 0..CLIENTS {
        replicas[0].group_of(&format!("g{client}"), 60_000, &["a"]).await;
    }
    // Their groups are on the same few pages, and reads are tracked by the page.
    let before = turns_taken(&replicas[0]).await;
    let is_over = AtomicBool::new(false);
    let clients = (0..CLIENTS).map(async |client| {
        let mut beats = 0;
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(replicas[client % 2].beat(&format!("g{client}"), "a", 100.0).await, 1);
            beats += 1;
        }
        beats
    });
    let watch = async {
        eventually("turns are taken", async || turns_taken(&replicas[0]).await > before + 20).await;
        // As a replica that was paused in the middle of its turn.
        let mut holder = database.connect().await;
        let mut turn = holder.begin().await.expect("it begins");
        sqlx::query("LOCK TABLE heartbeat_turns IN SHARE UPDATE EXCLUSIVE MODE")
            .execute(&mut *turn)
            .await
            .expect("a turn");
        let asked = Instant::now();
        for client in 0..4 {
            assert_eq!(replicas[client % 2].beat(&format!("g{client}"), "a", 100.0).await, 1);
        }
        let waited = asked.elapsed();
        turn.rollback().await.expect("it ends");
        is_over.store(true, Ordering::Relaxed);
        // And not until it times out, after which it would be refused.
        println!("four heartbeats took {waited:?} beside a turn that was kept");
    };
    let (beats, ()) = tokio::join!(futures_util::future::join_all(clients), watch);
    assert!(beats.iter().all(|beats| *beats > 0), "{beats:?}");
}
