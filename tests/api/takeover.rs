//! How a role changes hands, as clients and the trace see it. The sweep is kept out of the way, so
//! that every change is made by a heartbeat and the trace can be told exactly.

mod watermark;

use chrono::{DateTime, TimeDelta, Utc};
use client_failover::arbitration::HandoverMode;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp, without_sweeps};

const SECONDARY: i64 = 0;
const PRIMARY: i64 = 1;
const PENDING: i64 = 2;

const MINUTE: i64 = 60_000;
const NO_TIME: &str = "0001-01-01T00:00:00Z";

async fn start() -> TestApp {
    TestApp::start_with(without_sweeps).await
}

/// A Primary `a` of health 50 whose lease has 30 s left, and a healthier `b` that is to take over.
async fn start_with_a_challenger() -> TestApp {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, PRIMARY);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    app
}

/// The same after `a` has yielded: the handover runs out in 30 s.
async fn start_with_a_handover() -> TestApp {
    let app = start_with_a_challenger().await;
    assert_eq!(app.beat("g", "a", 50.0).await, SECONDARY);
    app
}

const TRACE_OF_A_HANDOVER: [&str; 3] =
    ["a 0>1 first_heartbeat heartbeat 1", "b 0>2 healthier heartbeat 1", "a 1>0 yielded heartbeat 1"];

/// What the trace of `g` has after what it began with.
async fn trace_after(app: &TestApp, beginning: &[&str]) -> Vec<String> {
    let trace = app.database.trace("g").await;
    assert!(trace.len() >= beginning.len() && trace[..beginning.len()] == *beginning, "{trace:#?}");
    trace[beginning.len()..].to_vec()
}

/// A heartbeat of full health that reports until when data was sent.
async fn beat_having_sent(app: &TestApp, session: &str, sent: Value) -> Answer {
    app.heartbeat("g", session, json!({"PercentHealthyStreams": 100, "LastDataSendTime": sent})).await
}

/// The watermark that such a heartbeat is answered with.
async fn watermark(app: &TestApp, session: &str, sent: Value) -> String {
    let body = beat_having_sent(app, session, sent).await.expect_ok();
    body["LastDataSendTime"].as_str().expect("a text").to_owned()
}

async fn database_now(app: &TestApp) -> DateTime<Utc> {
    let mut connection = app.database.connect().await;
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut connection).await.expect("it has a clock")
}

#[tokio::test]
async fn the_first_to_heartbeat_is_primary_and_the_next_is_not() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "b", 10.0).await, PRIMARY);
    assert_eq!(app.beat("g", "a", 10.0).await, SECONDARY);
    assert_eq!(app.database.trace("g").await, ["b 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn whoever_heartbeats_first_after_the_lapse_is_granted_at_once() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    for session in ["a", "b", "c"] {
        app.beat("g", session, 100.0).await;
    }
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "c", 100.0).await, SECONDARY);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 100.0).await, PRIMARY, "b, registered earlier, has not been heard of since");
    assert_eq!(app.beat("g", "b", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY, "it comes back to a group that has a Primary");
    assert_eq!(
        app.database.trace("g").await,
        ["a 0>1 first_heartbeat heartbeat 1", "a 1>0 lease_lapsed heartbeat 1", "c 0>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn a_lease_that_has_a_moment_left_is_respected() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(40_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, SECONDARY);
    assert_eq!(app.database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
}

#[tokio::test]
async fn a_primary_that_lapsed_and_finds_nobody_else_is_granted_anew_in_a_new_term() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(MINUTE).await;
    let answer = app.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await;
    assert_eq!(answer.header("Failover-Term"), "2");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
    assert_eq!(
        app.database.trace("g").await,
        ["a 0>1 first_heartbeat heartbeat 1", "a 1>0 lease_lapsed heartbeat 1", "a 0>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn after_a_lapse_the_healthier_is_pending_until_its_own_heartbeat() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(30_000).await;
    app.beat("g", "b", 90.0).await;
    app.beat("g", "c", 50.0).await;
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 50.0).await, SECONDARY);
    assert_eq!(app.beat("g", "c", 90.0).await, SECONDARY, "of equals the pending one comes first");
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(
        trace_after(&app, &["a 0>1 first_heartbeat heartbeat 1"]).await,
        ["a 1>0 lease_lapsed heartbeat 1", "b 0>2 lease_lapsed heartbeat 1", "b 2>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn a_pending_primary_that_falls_silent_too_gives_way() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(30_000).await;
    app.beat("g", "b", 90.0).await;
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 50.0).await, SECONDARY);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 50.0).await, PRIMARY);
    assert_eq!(
        trace_after(&app, &["a 0>1 first_heartbeat heartbeat 1"]).await,
        [
            "a 1>0 lease_lapsed heartbeat 1",
            "b 0>2 lease_lapsed heartbeat 1",
            "b 2>0 lease_lapsed heartbeat 1",
            "c 0>1 lease_lapsed heartbeat 2"
        ]
    );
}

#[tokio::test]
async fn of_two_equals_that_wait_the_one_registered_first_is_pending() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "z", "y", "c"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(30_000).await;
    app.beat("g", "y", 90.0).await;
    app.beat("g", "z", 90.0).await;
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 50.0).await, SECONDARY);
    assert_eq!(app.beat("g", "y", 90.0).await, SECONDARY);
    assert_eq!(app.beat("g", "z", 90.0).await, PRIMARY);
}

#[tokio::test]
async fn a_session_that_never_sent_a_heartbeat_takes_part_in_nothing() {
    let app = start().await;
    app.group_of("g", MINUTE, &["mute", "a"]).await;
    assert_eq!(app.beat("g", "a", 0.0).await, PRIMARY);
    let group = app.get("/g").await.expect_ok();
    assert_eq!(group["Clients"]["mute"]["Role"], SECONDARY);
    let status = app.database.rows("SELECT live, role FROM session_status WHERE session_id = 'mute'").await;
    assert_eq!(status, [json!({"live": false, "role": "Secondary"})]);
}

#[tokio::test]
async fn equal_health_keeps_the_primary() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "b", 80.0).await;
    for _ in 0..3 {
        assert_eq!(app.beat("g", "a", 80.0).await, SECONDARY);
        assert_eq!(app.beat("g", "b", 80.0).await, PRIMARY);
    }
    assert_eq!(app.database.trace("g").await.len(), 1);
}

#[tokio::test]
async fn a_healthier_session_is_pending_and_the_primary_yields_in_its_own_answer() {
    let app = start_with_a_challenger().await;
    let group = app.get("/g").await.expect_ok();
    assert_eq!(group["Clients"]["a"]["Role"], PRIMARY, "it has not been told yet");
    let answer = app.heartbeat("g", "a", json!({"PercentHealthyStreams": 50})).await;
    assert_eq!(answer.header("Failover-Lease-Ms"), "0");
    assert_eq!(answer.header("Failover-Term"), "1");
    assert_eq!(answer.expect_ok()["Role"], SECONDARY);
    assert_eq!(app.database.trace("g").await, TRACE_OF_A_HANDOVER);
    let status = app
        .database
        .rows("SELECT primary_session, pending_primary_session, handover_from FROM group_status WHERE group_id = 'g'")
        .await;
    assert_eq!(status, [json!({"primary_session": null, "pending_primary_session": "b", "handover_from": "a"})]);
}

#[tokio::test]
async fn a_handover_waits_until_the_lease_before_the_yielding_heartbeat_has_run_out() {
    let app = start_with_a_handover().await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.beat("g", "a", 50.0).await, SECONDARY, "a heartbeat that does not say how it acts closes nothing");
    app.database.let_time_pass(20_000).await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    app.database.let_time_pass(10_000).await;
    let answer = app.heartbeat("g", "b", json!({"PercentHealthyStreams": 90})).await;
    assert_eq!(answer.header("Failover-Term"), "2");
    assert_eq!(answer.header("Failover-Lease-Ms"), "60000");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
    assert_eq!(trace_after(&app, &TRACE_OF_A_HANDOVER).await, ["b 2>1 handover_completed heartbeat 2"]);
}

#[tokio::test]
async fn a_handover_closes_when_the_yielding_one_says_that_it_acts_as_secondary() {
    let app = start_with_a_handover().await;
    assert_eq!(app.beat_acting_as("g", "a", 50.0, PRIMARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING, "it still acts as Primary");
    assert_eq!(app.beat_acting_as("g", "b", 90.0, SECONDARY).await, PENDING, "only the yielding one can acknowledge");
    assert_eq!(app.beat_acting_as("g", "a", 50.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(trace_after(&app, &TRACE_OF_A_HANDOVER).await, ["b 2>1 handover_completed heartbeat 2"]);
}

#[tokio::test]
async fn a_handover_closes_when_the_yielding_one_is_deleted() {
    let app = start_with_a_handover().await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(trace_after(&app, &TRACE_OF_A_HANDOVER).await, ["b 2>1 handover_completed heartbeat 2"]);
}

#[tokio::test]
async fn a_session_that_yielded_and_registers_again_is_not_waited_for() {
    let app = start_with_a_handover().await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    assert_eq!(app.beat("g", "a", 50.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
}

#[tokio::test]
async fn an_acknowledgement_sent_before_the_yielding_heartbeat_is_not_believed() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    let at =
        |second: u32| json!({"PercentHealthyStreams": 50, "HeartbeatTime": format!("2024-05-01T12:00:{second:02}Z")});
    assert_eq!(app.heartbeat("g", "a", at(1)).await.expect_ok()["Role"], PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.heartbeat_acting_as("g", "a", at(30), PRIMARY).await.expect_ok()["Role"], SECONDARY);
    assert_eq!(app.heartbeat_acting_as("g", "a", at(29), SECONDARY).await.expect_ok()["Role"], SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING, "it may be a delayed message from before");
    assert_eq!(app.heartbeat_acting_as("g", "a", at(31), SECONDARY).await.expect_ok()["Role"], SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
}

#[tokio::test]
async fn a_prompt_handover_waits_for_the_demoting_answer_and_no_longer() {
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        settings.failover.rules.handover = HandoverMode::Prompt;
    })
    .await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 50.0).await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING, "nobody has told a yet");
    assert_eq!(app.beat("g", "a", 50.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(trace_after(&app, &TRACE_OF_A_HANDOVER).await, ["b 2>1 handover_completed heartbeat 2"]);
}

#[tokio::test]
async fn the_yielding_one_that_recovers_first_is_granted_at_once() {
    let app = start_with_a_handover().await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    let answer = app.heartbeat("g", "a", json!({"PercentHealthyStreams": 95})).await;
    assert_eq!(answer.header("Failover-Term"), "2");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    assert_eq!(
        trace_after(&app, &TRACE_OF_A_HANDOVER).await,
        ["b 2>0 superseded heartbeat 1", "a 0>1 recovered heartbeat 2"]
    );
}

#[tokio::test]
async fn a_third_session_is_not_granted_while_a_handover_is_open() {
    let app = start_with_a_handover().await;
    app.post("/g/clientsessions", json!({"Id": "c"})).await.expect_ok();
    assert_eq!(app.beat("g", "c", 100.0).await, PENDING);
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    assert_eq!(app.beat("g", "c", 100.0).await, PENDING);
    assert_eq!(app.beat_acting_as("g", "a", 50.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "c", 100.0).await, PRIMARY);
    assert_eq!(
        trace_after(&app, &TRACE_OF_A_HANDOVER).await,
        ["b 2>0 superseded heartbeat 1", "c 0>2 healthier heartbeat 1", "c 2>1 handover_completed heartbeat 2"]
    );
}

#[tokio::test]
async fn a_primary_that_falls_silent_before_it_yields_is_replaced_when_its_lease_lapses() {
    let app = start_with_a_challenger().await;
    app.database.let_time_pass(29_000).await;
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    app.database.let_time_pass(1_000).await;
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(
        trace_after(&app, &TRACE_OF_A_HANDOVER[..2]).await,
        ["a 1>0 lease_lapsed heartbeat 1", "b 2>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn the_margin_must_be_exceeded_and_counts_only_against_a_live_primary() {
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        settings.failover.rules.handover_margin = Decimal::TEN;
    })
    .await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    app.beat("g", "a", 50.0).await;
    assert_eq!(app.beat("g", "b", 60.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 60.001).await, PENDING);
    assert_eq!(app.beat("g", "b", 55.0).await, SECONDARY);
    assert_eq!(app.beat("g", "a", 50.0).await, PRIMARY);
    app.database.let_time_pass(30_000).await;
    app.beat("g", "b", 55.0).await;
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 54.0).await, SECONDARY, "without a Primary one per cent is enough");
    assert_eq!(app.beat("g", "b", 55.0).await, PRIMARY);
}

#[tokio::test]
async fn a_pending_primary_that_falls_behind_gives_way_to_the_new_best() {
    let app = start_with_a_challenger().await;
    app.post("/g/clientsessions", json!({"Id": "c"})).await.expect_ok();
    assert_eq!(app.beat("g", "c", 80.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 70.0).await, SECONDARY);
    assert_eq!(app.beat("g", "c", 80.0).await, PENDING);
    assert_eq!(app.beat("g", "c", 40.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 40.0).await, SECONDARY, "now nobody is healthier than the Primary");
    assert_eq!(app.beat("g", "a", 50.0).await, PRIMARY);
    assert_eq!(
        trace_after(&app, &TRACE_OF_A_HANDOVER[..2]).await,
        [
            "b 2>0 superseded heartbeat 1",
            "c 0>2 healthier heartbeat 1",
            "c 2>0 superseded heartbeat 1",
            "b 0>2 healthier heartbeat 1",
            "b 2>0 superseded heartbeat 1"
        ]
    );
}

#[tokio::test]
async fn a_primary_that_catches_up_before_it_yields_stays() {
    let app = start_with_a_challenger().await;
    assert_eq!(app.beat("g", "a", 90.0).await, PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    assert_eq!(trace_after(&app, &TRACE_OF_A_HANDOVER[..2]).await, ["b 2>0 superseded heartbeat 1"]);
}

#[tokio::test]
async fn arrival_and_not_heartbeat_time_decides_which_report_counts() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 50.0).await;
    let at = |health: i64, year: i64| json!({"PercentHealthyStreams": health, "HeartbeatTime": format!("{year}-01-01T00:00:00Z")});
    assert_eq!(app.heartbeat("g", "b", at(10, 2024)).await.expect_ok()["Role"], SECONDARY);
    assert_eq!(app.heartbeat("g", "b", at(90, 2020)).await.expect_ok()["Role"], PENDING);
}

#[tokio::test]
async fn a_deleted_primary_is_replaced_at_the_next_heartbeat() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.beat("g", "b", 10.0).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    assert_eq!(app.beat("g", "b", 10.0).await, PRIMARY);
    assert_eq!(
        app.database.trace("g").await,
        ["a 0>1 first_heartbeat heartbeat 1", "a 1>0 session_deleted operator 1", "b 0>1 session_deleted heartbeat 2"]
    );
}

#[tokio::test]
async fn registering_touches_neither_role_nor_lease() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.database.let_time_pass(30_000).await;
    let lease = "SELECT session_id, lease_until, received_at FROM heartbeats";
    let before = app.database.rows(lease).await;
    for session in ["a", "b", "c"] {
        app.post("/g/clientsessions", json!({"Id": session})).await.expect_ok();
    }
    assert_eq!(app.database.rows(lease).await, before);
    let group = app.get("/g").await.expect_ok();
    assert_eq!(group["Clients"]["a"]["Role"], PRIMARY);
    assert_eq!(app.database.trace("g").await.len(), 1);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "c", 1.0).await, PRIMARY);
}

#[tokio::test]
async fn a_repeated_heartbeat_has_the_same_answer_and_counts_once() {
    let app = start_with_a_challenger().await;
    let said = |answer: Answer| {
        let headers =
            ["Failover-Term", "Failover-Lease-Ms", "Cache-Control"].map(|name| answer.header(name).to_owned());
        (headers, answer.expect_ok())
    };
    let body = json!({"PercentHealthyStreams": 50, "HeartbeatTime": "2024-01-01T00:00:00Z", "LastDataSendTime": "2024-01-01T00:00:00Z"});
    for (session, role) in [("b", PENDING), ("a", SECONDARY)] {
        let body = if session == "b" { json!({"PercentHealthyStreams": 90}) } else { body.clone() };
        let first = said(app.heartbeat("g", session, body.clone()).await);
        assert_eq!(first.1["Role"], role);
        for _ in 0..3 {
            assert_eq!(said(app.heartbeat("g", session, body.clone()).await), first);
        }
    }
    assert_eq!(app.database.trace("g").await, TRACE_OF_A_HANDOVER);
}

#[tokio::test]
async fn a_shorter_timeout_does_not_shorten_a_lease_already_given() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 50.0).await;
    app.put("/g", json!({"Milliseconds": 1_000})).await.expect_ok();
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 50.0).await, SECONDARY);
    let answer = app.heartbeat("g", "a", json!({"PercentHealthyStreams": 50})).await;
    assert_eq!(answer.header("Failover-Lease-Ms"), "1000", "what is promised from now on is the new timeout");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
    app.database.let_time_pass(20_000).await;
    assert_eq!(app.beat("g", "b", 50.0).await, SECONDARY, "an answer from before may have promised a minute");
    app.database.let_time_pass(10_000).await;
    assert_eq!(app.beat("g", "b", 50.0).await, PRIMARY);
}

#[tokio::test]
async fn a_longer_timeout_does_not_lengthen_a_lease_already_given() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 50.0).await;
    app.put("/g", json!({"Milliseconds": 10 * MINUTE})).await.expect_ok();
    app.database.let_time_pass(MINUTE).await;
    assert_eq!(app.beat("g", "b", 50.0).await, PRIMARY);
}
