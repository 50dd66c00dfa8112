//! The customer's API, property by property.

use serde_json::json;

use crate::helpers::TestApp;

#[tokio::test]
async fn a_group_is_created_read_and_deleted() {
    let app = TestApp::start().await;
    let id = app.post("", json!({"Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "0:00:30"})).await;
    assert_eq!(id.expect_ok(), "g");
    let group = app.get("/g").await.expect_ok();
    assert_eq!(
        group,
        json!({"Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "00:00:30", "Milliseconds": 30_000,
            "Sessions": {}, "Clients": {}})
    );
    assert_eq!(app.delete("/g").await.expect_ok(), "g");
    app.get("/g").await.expect_error(404);
}

#[tokio::test]
async fn a_standby_takes_over_when_the_primary_lapses() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    app.database.let_time_pass(60_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1);
    assert_eq!(app.beat("g", "a", 100.0).await, 0);
}
