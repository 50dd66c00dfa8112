//! The history of a group's roles, and how long it is kept.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::helpers::{TestApp, eventually};

const MINUTE: i64 = 60_000;

/// Changes `1` to `count` of group `g`, one a minute, the last one just now.
async fn fill(app: &TestApp, count: i64) {
    app.database
        .execute(&format!(
            "INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
                term, reason, actor, recorded_at)
             SELECT group_key, tenant_id, namespace_id, group_id, 'a', 0, 1, i, 'first_heartbeat', 'heartbeat',
                '2026-01-01T12:00:00Z'::timestamptz + i * interval '1 minute'
             FROM groups, generate_series(1, {count}) i WHERE group_id = 'g' ORDER BY i"
        ))
        .await;
}

fn terms(list: &Value) -> Vec<i64> {
    list.as_array().expect("an array").iter().map(|row| row["Term"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn a_history_is_paged_from_the_latest_back_and_cut_by_time() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.group_of("quiet", MINUTE, &["a"]).await;
    fill(&app, 250).await;
    for (query, expected) in [
        ("", (151..=250).rev().collect::<Vec<i64>>()),
        ("?count=3", vec![250, 249, 248]),
        ("?count=3&skip=100", vec![150, 149, 148]),
        ("?skip=249", vec![1]),
        ("?skip=250", vec![]),
        ("?count=0", vec![]),
        ("?count=1000", (1..=250).rev().collect()),
        ("?since=2026-01-01T16:08:00Z", vec![250, 249, 248]),
        ("?until=2026-01-01T12:03:00Z", vec![2, 1]),
        ("?since=2026-01-01T12:03:00Z&until=2026-01-01T12:05:00Z", vec![4, 3]),
        ("?since=2026-01-01T14:03:00+02:00&until=2026-01-01T14:05:00%2B02:00", vec![4, 3]),
        ("?since=0001-01-01T00:00:00Z&count=1", vec![250]),
    ] {
        let list = app.get(&format!("/g/transitions{query}")).await.expect_ok();
        assert_eq!(terms(&list), expected, "{query}");
    }
    assert_eq!(app.get("/quiet/transitions").await.expect_ok(), json!([]));
    for query in
        ["?count=1001", "?count=-1", "?count=x", "?skip=1.5", "?since=yesterday", "?until=", "?since=2026-01-01"]
    {
        app.get(&format!("/g/transitions{query}")).await.expect_error(400);
    }
    app.get("/none/transitions").await.expect_error(404);
    app.post("/g/transitions", json!({})).await.expect_error(405);
}

#[tokio::test]
async fn a_history_says_who_when_and_why_and_outlives_its_group() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    app.delete("/g?force=true").await.expect_ok();
    let list = app.get("/g/transitions").await.expect_ok();
    let row = &list[1];
    assert_eq!(
        (&row["SessionId"], &row["From"], &row["To"], &row["Term"], &row["Reason"], &row["Actor"]),
        (&json!("a"), &json!(0), &json!(1), &json!(1), &json!("first_heartbeat"), &json!("heartbeat"))
    );
    assert!(row["Time"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert!(row["Id"].as_i64() < list[0]["Id"].as_i64());
    assert_eq!(list[0]["Reason"], "session_deleted");
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_deleted_and_nothing_else() {
    let app = TestApp::start_with(|settings| {
        settings.failover.events.retention = Duration::from_secs(3_600);
        settings.failover.events.prune_interval = Duration::from_millis(100);
    })
    .await;
    app.group_of("g", MINUTE, &["a"]).await;
    let count = "SELECT (SELECT count(*) FROM role_transitions) AS roles, (SELECT count(*) FROM configuration_changes) AS changes";
    let fill = "INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
            term, reason, actor, recorded_at)
        SELECT gen_random_uuid(), 't', 'n', 'g', 'a', 0, 1, i, 'first_heartbeat', 'heartbeat',
            now() - interval '1 hour' + (i - 2500) * interval '10 s'
        FROM generate_series(1, 2560) i;
        INSERT INTO configuration_changes (group_key, tenant_id, namespace_id, group_id, session_id, kind, recorded_at)
        SELECT gen_random_uuid(), 't', 'n', 'g', 'a', 'session_deleted', now() - interval '1 day' FROM generate_series(1, 1500)";
    // Rows are pruned by their order, so what was made a moment ago must not stand before what is
    // older.
    app.database.execute("DELETE FROM configuration_changes").await;
    app.database.execute(fill).await;
    eventually("the old are gone", async || {
        let left = app.database.rows(count).await;
        // Ten seconds apart: the test may take a few of these.
        left[0]["changes"] == 0 && left[0]["roles"].as_i64().is_some_and(|roles| (50..=60).contains(&roles))
    })
    .await;
}

#[tokio::test]
async fn a_path_tells_when_there_was_a_group_and_who_made_and_deleted_it() {
    let app = TestApp::start().await;
    app.get("/pump/lifetimes").await.expect_error(404);
    app.group_of("pump", 60_000, &["a"]).await;
    let list = app.get("/pump/lifetimes").await.expect_ok();
    assert_eq!((&list[0]["CreatedBy"], &list[0]["Deleted"]), (&json!("anonymous"), &json!(null)));
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    app.delete("/pump").await.expect_ok();
    let list = app.get("/pump/lifetimes").await.expect_ok();
    assert_eq!((&list[0]["DeletedBy"], list.as_array().map(Vec::len)), (&json!("anonymous"), Some(1)));
    assert!(list[0]["Created"].as_str() <= list[0]["Deleted"].as_str());
    app.group_of("pump", 60_000, &[]).await;
    let list = app.get("/pump/lifetimes").await.expect_ok();
    assert_eq!((&list[0]["Deleted"], list.as_array().map(Vec::len)), (&json!(null), Some(2)));
    // What is no longer kept is not known; the group itself knows since when it is there.
    app.database.execute("DELETE FROM configuration_changes").await;
    let list = app.get("/pump/lifetimes").await.expect_ok();
    assert_eq!((&list[0]["CreatedBy"], list.as_array().map(Vec::len)), (&json!(null), Some(1)));
    assert!(list[0]["Created"].is_string());
}
