//! A group of many sessions: most heartbeats in it are decided on the sender and the holders of
//! roles alone.

use serde_json::json;

use crate::support::helpers::TestApp;

const MINUTE: i64 = 60_000;
/// More than the service reads for every heartbeat.
const SESSIONS: usize = 80;

/// A group of many, `s0` Primary, in which everybody has been heard; and its sessions' names.
async fn start() -> (TestApp, Vec<String>) {
    let app = TestApp::start().await;
    let names: Vec<String> = (0..SESSIONS).map(|i| format!("s{i}")).collect();
    app.group_of("g", MINUTE, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (i, name) in names.iter().enumerate() {
        assert_eq!(app.beat("g", name, 90.0).await, i64::from(i == 0));
    }
    (app, names)
}

async fn watermark_told(app: &TestApp, session: &str) -> String {
    let told = app.heartbeat("g", session, json!({"PercentHealthyStreams": 90})).await.expect_ok();
    told["LastDataSendTime"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn what_changes_no_role_is_decided_without_the_others() {
    let (app, names) = start().await;
    // Nobody can decide on all of it any more, so whoever is answered was answered without.
    app.database.execute("ALTER TABLE heartbeats DROP CONSTRAINT heartbeats_health_is_a_percentage").await;
    app.database.execute("UPDATE heartbeats SET percent_healthy_streams = 101 WHERE session_id = 's70'").await;
    assert_eq!(app.beat("g", &names[0], 90.0).await, 1);
    assert_eq!(app.beat("g", &names[1], 90.0).await, 0);
    assert_eq!(app.beat("g", &names[2], 10.0).await, 0);
    app.heartbeat("g", &names[3], json!({"PercentHealthyStreams": 95})).await.expect_error(500);
    app.heartbeat("g", &names[0], json!({"PercentHealthyStreams": 80})).await.expect_error(500);
    app.heartbeat("g", "nobody", json!({"PercentHealthyStreams": 80})).await.expect_error(404);
}

#[tokio::test]
async fn roles_change_hands_as_in_any_group() {
    let (app, names) = start().await;
    assert_eq!(app.beat("g", &names[40], 95.0).await, 2, "healthier");
    assert_eq!(app.beat("g", &names[41], 90.0).await, 0);
    assert_eq!(app.beat("g", &names[0], 90.0).await, 0, "it yields");
    assert_eq!(app.beat("g", &names[40], 95.0).await, 2, "the old one may still act");
    assert_eq!(app.beat_acting_as("g", &names[0], 90.0, 0).await, 0);
    assert_eq!(app.beat("g", &names[40], 95.0).await, 1);
    // All fall silent; the first to come back is Primary.
    app.database.let_time_pass(2 * MINUTE).await;
    assert_eq!(app.beat("g", &names[7], 50.0).await, 1);
    assert_eq!(app.beat("g", &names[40], 50.0).await, 0);
}

#[tokio::test]
async fn the_watermark_is_that_of_all_sessions() {
    let (app, names) = start().await;
    let sent = "2026-01-02T03:04:05Z";
    app.heartbeat("g", &names[0], json!({"PercentHealthyStreams": 90, "LastDataSendTime": sent})).await.expect_ok();
    assert_eq!(watermark_told(&app, &names[1]).await, sent);
    // Another is Primary by now, and has sent nothing.
    app.database.let_time_pass(2 * MINUTE).await;
    assert_eq!(app.beat("g", &names[5], 90.0).await, 1);
    assert_eq!(watermark_told(&app, &names[5]).await, sent);
    assert_eq!(watermark_told(&app, &names[6]).await, sent);
}
