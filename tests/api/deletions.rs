//! Deletions that a client does not know of, groups that follow others at a path, and clocks that
//! were wrong once: what an operator does by the book, and nobody acts twice.

use std::time::{Duration, Instant};

use client_failover::access::AuthOptions;
use client_failover::arbitration::HandoverMode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::credentials::create_key;
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, settings, without_sweeps};

const SECONDARY: i64 = 0;
const PRIMARY: i64 = 1;
const PENDING: i64 = 2;

const MINUTE: i64 = 60_000;

/// A Primary `a` whose lease has 30 s left, and `b`, which stands by.
async fn start_with_a_primary() -> TestApp {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, SECONDARY);
    app
}

#[tokio::test]
async fn a_primary_that_an_operator_deletes_is_waited_for_until_the_end_of_its_lease() {
    let app = start_with_a_primary().await;
    app.delete("/g/clientsessions/a?by=operator").await.expect_ok();
    assert_eq!(app.beat("g", "b", 100.0).await, PENDING);
    app.heartbeat("g", "a", json!({})).await.expect_error(404);
    // Another process may have taken the id: it speaks for itself.
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    assert_eq!(app.beat_acting_as("g", "a", 100.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 100.0).await, PENDING);
    let status = &app.database.rows("SELECT * FROM group_status").await[0];
    assert_eq!((&status["handover_from"], &status["vacant_because"]), (&Value::Null, &json!("deleted")));
    assert!(status["handover_until"].is_string(), "{status}");
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, PRIMARY);
    let trace = app.database.trace("g").await;
    assert_eq!(
        trace[1..],
        ["a 1>0 session_deleted operator 1", "b 0>2 session_deleted heartbeat 1", "b 2>1 session_deleted heartbeat 2"]
    );
    let deleted = &app.database.rows("SELECT before FROM audit_log WHERE session_id = 'a'").await[0];
    assert_eq!(deleted["before"], json!({"Role": 1, "By": "operator"}));
}

#[tokio::test]
async fn a_plain_deletion_is_the_client_s_goodbye_and_nobody_waits() {
    for query in ["", "?by=client", "?By=CLIENT"] {
        let app = start_with_a_primary().await;
        app.delete(&format!("/g/clientsessions/a{query}")).await.expect_ok();
        assert_eq!(app.beat("g", "b", 100.0).await, PRIMARY);
    }
    let app = start_with_a_primary().await;
    let reason = app.delete("/g/clientsessions/a?by=nobody").await.expect_error(400);
    assert!(reason.contains("'nobody'"), "{reason}");
}

#[tokio::test]
async fn a_prompt_handover_does_not_mean_that_a_deleted_primary_is_not_waited_for() {
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        settings.failover.rules.handover = HandoverMode::Prompt;
    })
    .await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.delete("/g/clientsessions/a?by=operator").await.expect_ok();
    assert_eq!(app.beat("g", "b", 100.0).await, PENDING);
}

#[tokio::test]
async fn where_callers_are_known_only_who_registered_a_session_says_goodbye_for_it() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    without_sweeps(&mut settings);
    let app = TestReplica::start(settings).await;
    let (_, own) = create_key(&database, "own", &["--tenant", "t", "--role", "client"]).await;
    let (_, boss) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let ask = async |key: &str, method: Method, below: &str, body: Value| {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups{below}", app.url);
        Answer::of(app.http.request(method, url).bearer_auth(key).json(&body)).await
    };
    for (group, deletes, forgets, waits) in
        [("one", &own, false, false), ("two", &boss, false, true), ("three", &own, true, true)]
    {
        ask(&own, Method::PUT, &format!("/{group}"), json!({"Milliseconds": MINUTE})).await.expect_ok();
        for session in ["a", "b"] {
            ask(&own, Method::POST, &format!("/{group}/clientsessions"), json!({"Id": session})).await.expect_ok();
            ask(&own, Method::POST, &format!("/{group}/clientsessions/{session}"), json!({})).await.expect_ok();
        }
        if forgets {
            // One that registered before that was noted: nobody is known to be its registrant.
            database.execute("UPDATE sessions SET registered_by = NULL").await;
        }
        ask(deletes, Method::DELETE, &format!("/{group}/clientsessions/a"), json!({})).await.expect_ok();
        let next = ask(&own, Method::POST, &format!("/{group}/clientsessions/b"), json!({})).await.expect_ok();
        assert_eq!(next["Role"], if waits { PENDING } else { PRIMARY }, "{group}");
    }
}

#[tokio::test]
async fn a_group_that_is_created_again_goes_on_from_the_term_and_waits_for_the_old_lease() {
    for creates_by_post in [false, true] {
        let app = start_with_a_primary().await;
        app.delete("/g").await.expect_error(409);
        app.delete("/g?force=true").await.expect_ok();
        app.heartbeat("g", "a", json!({})).await.expect_error(404);
        if creates_by_post {
            app.post("", json!({"Id": "g", "Milliseconds": 1_000})).await.expect_ok()
        } else {
            app.put("/g", json!({"Milliseconds": 1_000})).await.expect_ok()
        };
        let reason = app.heartbeat("g", "a", json!({})).await.expect_error(404);
        assert!(reason.contains("'a'"), "{reason}");
        app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
        assert_eq!(app.beat_acting_as("g", "a", 100.0, SECONDARY).await, PENDING);
        // Not even by way of still another group.
        app.delete("/g?force=true").await.expect_ok();
        app.group_of("g", MINUTE, &["b"]).await;
        assert_eq!(app.beat("g", "b", 100.0).await, PENDING);
        app.database.let_time_pass(30_000).await;
        let answer = app.heartbeat("g", "b", json!({"PercentHealthyStreams": 100})).await;
        assert_eq!(answer.header("Failover-Term"), "2");
        assert_eq!(answer.expect_ok()["Role"], PRIMARY);
        let trace = app.database.trace("g").await;
        assert_eq!(trace.last().map(String::as_str), Some("b 2>1 session_deleted heartbeat 2"));
    }
}

#[tokio::test]
async fn after_a_goodbye_the_next_group_waits_for_nobody_and_goes_on_from_the_term() {
    let app = start_with_a_primary().await;
    for session in ["a", "b"] {
        app.delete(&format!("/g/clientsessions/{session}")).await.expect_ok();
    }
    app.delete("/g").await.expect_ok();
    let former = &app.database.rows("SELECT * FROM former_groups").await[0];
    assert_eq!((&former["group_id"], &former["last_term"]), (&json!("g"), &json!(1)));
    assert_eq!(former["acted_on_until"], Value::Null);
    app.group_of("g", MINUTE, &["a"]).await;
    let answer = app.heartbeat("g", "a", json!({})).await;
    assert_eq!(answer.header("Failover-Term"), "2");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
}

#[tokio::test]
async fn terms_go_on_after_a_deletion_that_kept_nothing_as_long_as_the_changes_of_roles_are_kept() {
    let app = start_with_a_primary().await;
    // A replica of an earlier version, or a person at a prompt.
    app.database.execute("DELETE FROM groups").await;
    app.group_of("g", MINUTE, &["a"]).await;
    let answer = app.heartbeat("g", "a", json!({})).await;
    assert_eq!(answer.header("Failover-Term"), "2");
}

#[tokio::test]
async fn a_group_in_which_nobody_was_ever_primary_leaves_nothing_behind() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.delete("/g").await.expect_ok();
    assert_eq!(app.database.rows("SELECT * FROM former_groups").await.len(), 0);
    app.group_of("g", MINUTE, &["a"]).await;
    app.heartbeat("g", "a", json!({})).await.expect_ok();
    assert_eq!(app.database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn a_client_s_clock_that_was_wrong_once_is_forgotten_with_the_lease_it_gave() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    let wrong = json!({"PercentHealthyStreams": 50, "HeartbeatTime": "2099-01-01T00:00:00Z"});
    assert_eq!(app.heartbeat_acting_as("g", "a", wrong, SECONDARY).await.expect_ok()["Role"], PRIMARY);
    for _ in 0..3 {
        app.database.let_time_pass(25_000).await;
        // Registering again, as a client does that starts anew, is not what makes it forgotten.
        app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
        assert_eq!(app.beat_acting_as("g", "a", 50.0, PRIMARY).await, PRIMARY);
    }
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.beat_acting_as("g", "a", 50.0, PRIMARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING, "it may not have heard");
    assert_eq!(app.beat_acting_as("g", "a", 50.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
}

#[tokio::test]
async fn a_client_s_clock_that_was_wrong_once_is_forgotten_with_the_registration() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    let wrong = json!({"PercentHealthyStreams": 50, "HeartbeatTime": "2099-01-01T00:00:00Z"});
    app.heartbeat("g", "a", wrong).await.expect_ok();
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    assert_eq!(app.beat("g", "a", 50.0).await, PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.beat_acting_as("g", "a", 50.0, PRIMARY).await, SECONDARY);
    assert_eq!(app.beat_acting_as("g", "a", 50.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
}

/// Of the clients below.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A client that keeps the trust rule of docs/clients.md; the times in which it acted, once it is
/// told to stop. It says when it acts.
async fn acts(
    url: String,
    session: &'static str,
    mut stop: watch::Receiver<bool>,
    acting: watch::Sender<bool>,
) -> Vec<(Instant, Instant)> {
    let http = reqwest::Client::new();
    let sessions = format!("{url}/clientsessions");
    let mut acted: Vec<(Instant, Instant)> = Vec::new();
    let mut pause = Duration::ZERO;
    while tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_err() {
        let sent = Instant::now();
        let beat = http.post(format!("{sessions}/{session}")).json(&json!({"PercentHealthyStreams": 100}));
        let answer = Answer::of(beat).await;
        let (now, until) = (Instant::now(), sent + TIMEOUT);
        pause = TIMEOUT / 2;
        match (answer.status.as_u16(), answer.body["Role"].as_i64()) {
            (200, Some(PRIMARY)) => {
                match acted.last_mut().filter(|(_, before)| *before > now) {
                    Some(present) => present.1 = until,
                    None => acted.push((now, until.max(now))),
                }
                acting.send_replace(true);
            }
            (200 | 404, _) => {
                if let Some(present) = acted.last_mut() {
                    present.1 = present.1.min(now);
                }
                if answer.status == 404 {
                    Answer::of(http.post(&sessions).json(&json!({"Id": session}))).await;
                    pause = TIMEOUT / 20;
                }
            }
            // It goes on until its trust ends.
            _ => {}
        }
    }
    acted
}

/// For how long two acted at once.
fn overlap(one: &[(Instant, Instant)], other: &[(Instant, Instant)]) -> Duration {
    let both = one.iter().flat_map(|a| other.iter().map(move |b| a.1.min(b.1).saturating_duration_since(a.0.max(b.0))));
    both.sum()
}

/// What an operator does to a group of which `a` is Primary.
#[derive(Clone, Copy, Debug)]
enum Deed {
    DeletesThePrimary,
    DeletesTheGroupAndCreatesItAgain,
}

/// One run: two clients, and the deed so long after the first is Primary. For how long two acted.
async fn run(app: &TestReplica, group: String, deed: Deed, after: Duration) -> Duration {
    let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}", app.url);
    let (stop, stopped) = watch::channel(false);
    let (acting, mut first_acts) = watch::channel(false);
    let first = tokio::spawn(acts(url.clone(), "a", stopped.clone(), acting));
    first_acts.wait_for(|acts| *acts).await.expect("a is Primary");
    // Half way between two heartbeats of the other: so that sometimes the one is the next to be
    // heard, and sometimes the other.
    tokio::time::sleep(TIMEOUT / 4).await;
    let second = tokio::spawn(acts(url, "b", stopped, watch::channel(false).0));
    tokio::time::sleep(after).await;
    match deed {
        Deed::DeletesThePrimary => {
            app.delete(&format!("/{group}/clientsessions/a?by=operator")).await.expect_ok();
        }
        Deed::DeletesTheGroupAndCreatesItAgain => {
            app.delete(&format!("/{group}?force=true")).await.expect_ok();
            app.group_of(&group, TIMEOUT.as_millis() as i64, &["b"]).await;
        }
    }
    tokio::time::sleep(TIMEOUT * 2).await;
    stop.send_replace(true);
    overlap(&first.await.expect("it runs"), &second.await.expect("it runs"))
}

/// So many runs of each deed. The clients are real and so is the time: what two do at once can be
/// seen only as it passes.
async fn nobody_acts_twice(runs_of_each: u32) {
    let app = std::sync::Arc::new(TestApp::start().await);
    let mut longest = Vec::new();
    for deed in [Deed::DeletesThePrimary, Deed::DeletesTheGroupAndCreatesItAgain] {
        let mut runs = JoinSet::new();
        for number in 0..runs_of_each {
            let group = format!("{deed:?}-{number}");
            app.group_of(&group, TIMEOUT.as_millis() as i64, &["a", "b"]).await;
            let app = app.clone();
            let after = TIMEOUT / 5 + TIMEOUT * number / runs_of_each;
            runs.spawn(async move { run(&app, group, deed, after).await });
        }
        let overlaps = runs.join_all().await;
        let both = overlaps.iter().filter(|overlap| !overlap.is_zero()).count();
        let most = overlaps.into_iter().max().expect("a few runs");
        println!("{deed:?}: in {both} of {runs_of_each} runs two acted at once, for {most:?} at most, of {TIMEOUT:?}");
        longest.push(most);
    }
    assert!(longest.iter().all(Duration::is_zero));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_keep_the_trust_rule_never_act_at_once_whatever_an_operator_deletes() {
    nobody_acts_twice(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same with twenty runs of each"]
async fn two_clients_never_act_at_once_in_twenty_runs() {
    nobody_acts_twice(20).await;
}
