//! Heartbeats that change no role are read by where their rows lay: whatever has become of the rows
//! since.

use crate::support::helpers::{TestApp, TestReplica, eventually, settings, without_sweeps};

const MINUTE: i64 = 60_000;

/// So often that the places of all rows are known, and rows lie where others lay before.
const OFTEN: usize = 8;

async fn beat_often(app: &TestReplica, group: &str, session: &str, role: i64) {
    for _ in 0..OFTEN {
        assert_eq!(app.beat(group, session, 90.0).await, role, "{group} {session}");
    }
}

#[tokio::test]
async fn rows_that_change_places_with_those_of_other_groups_are_found_all_the_same() {
    let app = TestApp::start().await;
    let groups: Vec<String> = (0..10).map(|number| format!("g{number}")).collect();
    // In every second group the other session is Primary, and the terms of all differ.
    let sessions = |number: usize| if number.is_multiple_of(2) { ["a", "b"] } else { ["b", "a"] };
    for (number, group) in groups.iter().enumerate() {
        app.group_of(group, MINUTE, &["a", "b"]).await;
        let [primary, other] = sessions(number);
        app.database
            .execute(&format!("UPDATE groups SET term = {} WHERE group_id = '{group}'", 100 * (number + 1)))
            .await;
        beat_often(&app, group, primary, 1).await;
        beat_often(&app, group, other, 0).await;
    }
    for table in ["groups", "sessions", "heartbeats"] {
        let shuffle = format!("CREATE INDEX shuffled_{table} ON {table} (md5(group_key::text))");
        app.database.execute(&shuffle).await;
        app.database.execute(&format!("CLUSTER {table} USING shuffled_{table}")).await;
        for (number, group) in groups.iter().enumerate() {
            for (session, role) in std::iter::zip(sessions(number), [1, 0]) {
                let answer = app.heartbeat(group, session, serde_json::json!({"PercentHealthyStreams": 90})).await;
                assert_eq!(answer.header("Failover-Term"), (100 * (number + 1) + 1).to_string(), "{table} {group}");
                assert_eq!(answer.expect_ok()["Role"], role, "{table} {group} {session}");
            }
        }
    }
    for group in &groups {
        assert_eq!(app.database.trace(group).await.len(), 1, "nothing but the first grant");
    }
}

#[tokio::test]
async fn what_another_replica_has_changed_is_seen() {
    let app = TestApp::start().await;
    let other = TestReplica::start(settings(app.database.connect_options())).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    beat_often(&app, "g", "a", 1).await;
    beat_often(&app, "g", "b", 0).await;
    // The other replica has `b` take over; here nothing of that was written.
    assert_eq!(other.beat("g", "b", 95.0).await, 2);
    assert_eq!(app.beat("g", "a", 90.0).await, 0, "it yields");
    assert_eq!(other.beat_acting_as("g", "a", 90.0, 0).await, 0);
    assert_eq!(other.beat("g", "b", 95.0).await, 1);
    assert_eq!(app.beat("g", "a", 90.0).await, 0);
    // Both here again, and a lapse that the other one writes: all fall silent, and one comes back.
    beat_often(&app, "g", "b", 1).await;
    beat_often(&app, "g", "a", 0).await;
    app.database.let_time_pass(2 * MINUTE).await;
    assert_eq!(other.beat("g", "a", 90.0).await, 1);
    assert_eq!(app.beat("g", "b", 90.0).await, 0);
    // The other one deletes a session.
    beat_often(&app, "g", "a", 1).await;
    assert!(other.delete("/g/clientsessions/a").await.status.is_success());
    app.heartbeat("g", "a", serde_json::json!({"PercentHealthyStreams": 90})).await.expect_error(404);
    other.stop().await;
}

/// How many of the database's transactions were committed, and rolled back, as far as that is
/// counted.
async fn transactions(app: &TestApp) -> (i64, i64) {
    let counted = app
        .database
        .rows("SELECT xact_commit, xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        .await
        .remove(0);
    let count = |name: &str| counted[name].as_i64().expect("a number");
    (count("xact_commit"), count("xact_rollback"))
}

#[tokio::test]
async fn rows_that_another_replica_moves_cost_no_transaction() {
    let app = TestApp::start().await;
    let other = TestReplica::start(settings(app.database.connect_options())).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    beat_often(&app, "g", "a", 1).await;
    beat_often(&app, "g", "b", 0).await;
    let (committed, rolled_back) = transactions(&app).await;
    for _ in 0..OFTEN {
        assert_eq!(app.beat("g", "a", 90.0).await, 1);
        assert_eq!(app.beat("g", "a", 90.0).await, 1);
        assert_eq!(other.beat("g", "b", 90.0).await, 0);
        assert_eq!(app.beat("g", "b", 90.0).await, 0);
    }
    // They are counted once the connection has been quiet.
    eventually("the transactions are counted", async || {
        transactions(&app).await.0 >= committed + 4 * i64::try_from(OFTEN).expect("a few")
    })
    .await;
    assert_eq!(transactions(&app).await.1, rolled_back);
    other.stop().await;
}

#[tokio::test]
async fn the_table_of_heartbeats_does_not_grow() {
    // A sweep looks rows up too.
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    for _ in 0..1_000 {
        app.beat("g", "a", 90.0).await;
    }
    let pages = app.database.rows("SELECT pg_relation_size('heartbeats') / 8192 AS pages").await;
    let pages = pages[0]["pages"].as_i64().expect("a number");
    // A page has room for some fifty versions of a row. Now and then one is full before it is
    // cleared of dead ones.
    assert!(pages <= 6, "{pages} pages");
}
