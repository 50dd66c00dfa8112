//! What would come of a deletion or of another timeout, asked for before it is done.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::helpers::{TestApp, without_sweeps};

const MINUTE: i64 = 60_000;

/// A Primary `a`, a standby `b`, and a session `c` that never was heard of.
async fn start() -> TestApp {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.beat("g", "b", 90.0).await, 0);
    app
}

/// Everything that a dry run must leave as it is.
async fn all_rows(app: &TestApp) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for table in ["groups", "sessions", "heartbeats", "role_transitions", "configuration_changes", "audit_log"] {
        rows.push(app.database.rows(&format!("SELECT * FROM {table} ORDER BY 1")).await);
    }
    rows
}

fn grants(foresight: &Value) -> Vec<(&str, &str)> {
    let changes = foresight["Changes"].as_array().expect("a list");
    let granted = changes.iter().filter(|change| change["To"] == 1);
    granted.map(|c| (c["SessionId"].as_str().expect("text"), c["Reason"].as_str().expect("text"))).collect()
}

#[tokio::test]
async fn who_takes_over_from_a_session_that_is_deleted_is_said_and_nothing_is_done() {
    let app = start().await;
    let before = all_rows(&app).await;
    let outlook = app.delete("/g/clientsessions/a?by=operator&dry-run=true").await.expect_ok();
    assert_eq!(
        (&outlook["SessionId"], &outlook["Primary"], &outlook["Wish"]),
        (&json!("a"), &json!("a"), &Value::Null)
    );
    assert_eq!(grants(&outlook["IfSilent"]), [("b", "session_deleted")]);
    // Its client does not know, and may act until its lease is over.
    let gap_ms = outlook["IfSilent"]["WithoutPrimaryMs"].as_i64().expect("a number");
    assert!((MINUTE / 2..=2 * MINUTE).contains(&gap_ms), "{gap_ms}");
    // A goodbye is not waited for: only the next heartbeat is.
    let goodbye = app.delete("/g/clientsessions/a?dry-run=true").await.expect_ok();
    let gap_after_goodbye_ms = goodbye["IfSilent"]["WithoutPrimaryMs"].as_i64().expect("a number");
    assert!(gap_after_goodbye_ms < gap_ms, "{gap_after_goodbye_ms} of {gap_ms}");
    let of_standby = app.delete("/g/clientsessions/c?by=operator&dry-run=true").await.expect_ok();
    assert_eq!(of_standby["IfSilent"], json!({"WithoutPrimaryMs": 0, "Changes": []}));
    assert_eq!(all_rows(&app).await, before);
    assert_eq!(app.delete("/g/clientsessions/x?dry-run=true").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_goes_with_a_group_is_said_and_what_would_be_refused_is() {
    let app = start().await;
    let before = all_rows(&app).await;
    assert_eq!(app.delete("/g?dry-run=true").await.status, StatusCode::CONFLICT);
    let ending = app.delete("/g?force=true&dry-run=true").await.expect_ok();
    assert_eq!((&ending["Primary"], &ending["Sessions"], &ending["LiveSessions"]), (&json!("a"), &json!(3), &json!(2)));
    assert_eq!(all_rows(&app).await, before);
    assert_eq!(app.delete("/x?dry-run=true").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_timeout_that_clients_do_not_hear_of_is_foreseen_to_cost_leases() {
    let app = start().await;
    let before = all_rows(&app).await;
    let outlook = app.put("/g?dry-run=true", json!({"Milliseconds": MINUTE / 6})).await.expect_ok();
    assert_eq!(outlook["Primary"], "a");
    let reasons: Vec<&Value> =
        outlook["IfSilent"]["Changes"].as_array().expect("a list").iter().map(|change| &change["Reason"]).collect();
    assert!(reasons.contains(&&json!("lease_lapsed")), "{reasons:?}");
    assert!(outlook["IfSilent"]["WithoutPrimaryMs"].as_i64().is_some_and(|gap_ms| gap_ms > 0));
    assert_eq!(outlook["IfAttentive"], json!({"WithoutPrimaryMs": 0, "Changes": []}));

    let longer = app.put("/g?dry-run=true", json!({"Milliseconds": 2 * MINUTE})).await.expect_ok();
    assert_eq!(longer["IfSilent"], json!({"WithoutPrimaryMs": 0, "Changes": []}));
    let of_none = app.put("/new?dry-run=true", json!({"Milliseconds": MINUTE})).await.expect_ok();
    assert_eq!((&of_none["Primary"], &of_none["IfSilent"]["Changes"]), (&Value::Null, &json!([])));
    assert_eq!(app.get("/new").await.status, StatusCode::NOT_FOUND);
    assert_eq!(all_rows(&app).await, before);
}
