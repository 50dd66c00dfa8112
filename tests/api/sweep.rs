//! What is true between heartbeats, and who writes it down.

use std::time::Duration;

use client_failover::config::Settings;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::helpers::{TestApp, TestDatabase, TestReplica, eventually, settings, without_sweeps};

const MINUTE: i64 = 60_000;

async fn stored_roles(app: &TestApp) -> Vec<Value> {
    app.database.rows("SELECT session_id || ' ' || role AS role FROM sessions ORDER BY group_key, session_id").await
}

async fn roles_held(database: &TestDatabase) -> i64 {
    database.rows("SELECT count(*) AS held FROM sessions WHERE role <> 0").await[0]["held"].as_i64().expect("a number")
}

#[tokio::test]
async fn a_group_that_died_as_a_whole_becomes_secondary_in_the_table_and_nobody_is_granted() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, 1);
    assert_eq!(app.beat("g", "b", 90.0).await, 2);
    app.database.let_time_pass(MINUTE).await;
    eventually("nobody holds a role", async || roles_held(&app.database).await == 0).await;
    assert_eq!(app.database.trace("g").await[2..], ["a 1>0 lease_lapsed sweep 1", "b 2>0 lease_lapsed sweep 1"]);
    let status = app.database.rows("SELECT term, live_sessions FROM group_status").await;
    assert_eq!(status, [json!({"term": 1, "live_sessions": 0})]);
    assert_eq!(app.beat("g", "b", 10.0).await, 1);
    assert_eq!(app.database.trace("g").await[4..], ["b 0>1 lease_lapsed heartbeat 2"]);
}

#[tokio::test]
async fn a_sweep_takes_from_the_dead_only_and_leaves_the_vacancy_to_a_heartbeat() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 90.0).await, 1);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 50.0).await, 0);
    app.database.let_time_pass(30_000).await;
    eventually("nobody holds a role", async || roles_held(&app.database).await == 0).await;
    let group = app.get("/g").await.expect_ok();
    assert_eq!(group["Clients"]["b"]["Role"], 0, "a sweep never grants");
    assert_eq!(app.beat("g", "b", 50.0).await, 1);
    assert_eq!(
        app.database.trace("g").await,
        ["a 0>1 first_heartbeat heartbeat 1", "a 1>0 lease_lapsed sweep 1", "b 0>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn reads_and_views_show_the_lapse_before_any_sweep() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 50.0).await;
    app.beat("g", "b", 90.0).await;
    let roles = async || {
        let shown = app.get("/g").await.expect_ok();
        let views = app.database.rows("SELECT session_id, role, live FROM session_status ORDER BY session_id").await;
        let status =
            app.database.rows("SELECT primary_session, pending_primary_session, live_sessions FROM group_status").await;
        let listed = app.get("").await.expect_ok();
        assert_eq!(listed[0], shown);
        let shown = ["a", "b"].map(|session| shown["Clients"][session]["Role"].as_i64().expect("a number"));
        (shown, views, status)
    };
    let (shown, views, status) = roles().await;
    assert_eq!(shown, [1, 2]);
    assert_eq!(
        views,
        [
            json!({"session_id": "a", "role": "Primary", "live": true}),
            json!({"session_id": "b", "role": "PendingPrimary", "live": true})
        ]
    );
    assert_eq!(status, [json!({"primary_session": "a", "pending_primary_session": "b", "live_sessions": 2})]);

    app.database.let_time_pass(MINUTE).await;
    let (shown, views, status) = roles().await;
    assert_eq!(shown, [0, 0]);
    assert_eq!(
        views,
        [
            json!({"session_id": "a", "role": "Secondary", "live": false}),
            json!({"session_id": "b", "role": "Secondary", "live": false})
        ]
    );
    assert_eq!(status, [json!({"primary_session": null, "pending_primary_session": null, "live_sessions": 0})]);
    assert_eq!(stored_roles(&app).await, [json!({"role": "a 1"}), json!({"role": "b 2"})], "nothing was written");
    assert_eq!(app.database.trace("g").await.len(), 2);
}

#[tokio::test]
async fn many_groups_that_lapse_together_hold_up_nobody() {
    const DEAD: usize = 200;
    let app = TestApp::start().await;
    let names: Vec<String> = (0..DEAD).map(|n| format!("dead{n}")).collect();
    let died = names.iter().map(async |name| {
        app.group_of(name, MINUTE, &["a"]).await;
        assert_eq!(app.beat(name, "a", 100.0).await, 1);
    });
    // A few at a time: that all are set up is not what is tested.
    stream::iter(died).buffer_unordered(8).collect::<Vec<()>>().await;
    app.group_of("alive", MINUTE, &["a"]).await;
    assert_eq!(app.beat("alive", "a", 100.0).await, 1);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("alive", "a", 100.0).await, 1);
    app.database.let_time_pass(30_000).await;
    let mut beats = 0;
    eventually("only the live one holds a role", async || {
        assert_eq!(app.beat("alive", "a", 100.0).await, 1);
        beats += 1;
        roles_held(&app.database).await == 1
    })
    .await;
    assert!(beats > 0);
    let swept = app
        .database
        .rows("SELECT count(*) AS rows, count(DISTINCT group_id) AS groups FROM role_transitions WHERE actor = 'sweep'")
        .await;
    assert_eq!(swept, [json!({"rows": DEAD, "groups": DEAD})], "each exactly once");
    assert_eq!(app.database.trace("alive").await.len(), 1);
}

#[tokio::test]
async fn a_group_that_somebody_else_holds_is_passed_by_and_taken_later() {
    let app = TestApp::start().await;
    for group in ["free", "held"] {
        app.group_of(group, MINUTE, &["a"]).await;
        app.beat(group, "a", 100.0).await;
    }
    let mut holder = app.database.connect().await;
    let mut transaction = holder.begin().await.expect("it begins");
    let lock = "SELECT 1 FROM groups WHERE group_id = 'held' FOR UPDATE";
    sqlx::query(lock).execute(&mut *transaction).await.expect("it locks");
    // Not let_time_pass: that would wait for the lock too.
    app.database.execute("UPDATE heartbeats SET lease_until = lease_until - interval '1 min'").await;
    let held_by =
        "SELECT count(*) AS held FROM sessions s JOIN groups g USING (group_key) WHERE role = 1 AND group_id =";
    let holds = async |group: &str| app.database.rows(&format!("{held_by} '{group}'")).await[0]["held"] == 1;
    eventually("the free group is swept", async || !holds("free").await).await;
    assert!(holds("held").await);
    transaction.rollback().await.expect("it ends");
    eventually("the other one is swept too", async || !holds("held").await).await;
}

/// The sweep alone would not come by within the test.
fn lapses_by_the_clock_alone(settings: &mut Settings) {
    settings.failover.sweep_interval = Duration::from_secs(3_600);
}

#[tokio::test]
async fn a_lease_that_ends_is_looked_at_then_and_the_sweep_not_waited_for() {
    let app = TestApp::start_with(lapses_by_the_clock_alone).await;
    app.group_of("g", 300, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, 1);
    assert_eq!(app.beat("g", "b", 90.0).await, 2);
    eventually("nobody holds a role", async || roles_held(&app.database).await == 0).await;
    assert_eq!(app.database.trace("g").await[2..], ["a 1>0 lease_lapsed sweep 1", "b 2>0 lease_lapsed sweep 1"]);
    let late = app
        .database
        .rows("SELECT max(t.recorded_at - h.lease_until) < interval '2 s' AS soon FROM role_transitions t JOIN heartbeats h USING (group_key, session_id) WHERE t.actor = 'sweep'")
        .await;
    assert_eq!(late, [json!({"soon": true})]);
}

#[tokio::test]
async fn a_lease_that_another_replica_renews_is_left_alone() {
    let database = TestDatabase::new().await;
    let replica = async || {
        let mut settings = settings(database.connect_options());
        lapses_by_the_clock_alone(&mut settings);
        TestReplica::start(settings).await
    };
    let (first, second) = (replica().await, replica().await);
    first.group_of("g", 1_000, &["a"]).await;
    first.group_of("other", 3_000, &["a"]).await;
    assert_eq!(first.beat("g", "a", 50.0).await, 1);
    assert_eq!(first.beat("other", "a", 50.0).await, 1);
    // Until the other group's lease has been looked at: three of the first group's leases would
    // have ended by then.
    eventually("the other group's role is taken", async || {
        assert_eq!(second.beat("g", "a", 50.0).await, 1);
        roles_held(&database).await == 1
    })
    .await;
    assert_eq!(database.trace("g").await, ["a 0>1 first_heartbeat heartbeat 1"]);
    eventually("and its own, once nobody renews it", async || roles_held(&database).await == 0).await;
    assert_eq!(database.trace("g").await[1..], ["a 1>0 lease_lapsed sweep 1"]);
}

#[tokio::test]
async fn a_lease_that_an_outage_extended_lapses_at_its_new_end() {
    let app = TestApp::start_with(lapses_by_the_clock_alone).await;
    app.group_of("g", 1_000, &["a"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, 1);
    app.database.let_an_outage_pass(900).await;
    eventually("the outage is recorded", async || {
        !app.database.rows("SELECT 1 AS one FROM service_outages").await.is_empty()
    })
    .await;
    eventually("nobody holds the role", async || roles_held(&app.database).await == 0).await;
    let late = app
        .database
        .rows(
            "SELECT recorded_at >= ends AS in_time, recorded_at < ends + interval '2 s' AS soon, ends > lease_until AS extended
             FROM role_transitions JOIN heartbeats USING (group_key, session_id),
                 lease_end(lease_until, lease_until - received_at) AS ends
             WHERE actor = 'sweep'",
        )
        .await;
    assert_eq!(late, [json!({"in_time": true, "soon": true, "extended": true})]);
}

#[tokio::test]
async fn a_session_that_is_silent_for_longer_than_it_is_kept_is_deleted() {
    const KEPT: i64 = 60_000;
    let app = TestApp::start_with(|settings| {
        settings.failover.session_retention = Some(Duration::from_millis(KEPT as u64));
        settings.failover.events.prune_interval = Duration::from_millis(100);
    })
    .await;
    app.group_of("g", 1_000, &["old", "young", "unheard"]).await;
    assert_eq!(app.beat("g", "old", 100.0).await, 1);
    app.database.let_time_pass(KEPT - 5_000).await;
    app.database.execute("UPDATE sessions SET registered_at = registered_at - interval '55 s'").await;
    app.beat("g", "young", 100.0).await;
    app.database.let_time_pass(10_000).await;
    app.database.execute("UPDATE sessions SET registered_at = registered_at - interval '10 s'").await;
    eventually("those are gone", async || {
        let left = app.database.rows("SELECT session_id FROM sessions").await;
        left == [json!({"session_id": "young"})]
    })
    .await;
    let told = "SELECT session_id, identity FROM audit_log WHERE action = 'silent_session_deleted' ORDER BY session_id";
    let service = |id: &str| json!({"session_id": id, "identity": "service"});
    assert_eq!(app.database.rows(told).await, [service("old"), service("unheard")]);
    let events = "SELECT count(*) AS count FROM configuration_changes WHERE kind = 'session_deleted'";
    assert_eq!(app.database.rows(events).await, [json!({"count": 2})]);
}
