//! The audit trail: who changed what, as SQL shows it.

use serde_json::{Value, json};

use crate::credentials::{create_key, revoke_key};
use crate::helpers::TestApp;

#[tokio::test]
async fn every_change_is_a_row_with_who_made_it_and_what_was_before_and_after() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Name": "N", "Milliseconds": 30_000})).await.expect_ok();
    let same = app.put("/g", json!({"Name": "N", "Milliseconds": 30_000})).await;
    let changed = app.put("/g", json!({"Name": "M", "Milliseconds": 30_000})).await;
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "silent"})).await.expect_ok();
    app.beat("g", "a", 50.0).await;
    app.get("/g").await.expect_ok();
    app.delete("/g").await.expect_error(409);
    app.delete("/g/clientsessions/silent").await.expect_ok();
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "b"})).await.expect_ok();
    app.beat("g", "b", 50.0).await;
    app.delete("/g?force=true").await.expect_ok();
    app.post("", json!({"Id": "h"})).await.expect_ok();
    app.post("", json!({"Id": "h"})).await.expect_ok();
    app.delete("/h").await.expect_ok();
    let (key, _) = create_key(&app.database, "k", &["--tenant", "t", "--role", "client"]).await;
    revoke_key(&app.database, key).await;

    let rows = app.database.rows("SELECT * FROM audit_log ORDER BY audit_id").await;
    let configuration = |name: &str| json!({"Name": name, "Description": null, "Milliseconds": 30_000.0});
    let was = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        [text("action"), text("tenant_id"), text("namespace_id"), text("group_id"), text("session_id")].join(" ")
    };
    assert_eq!(
        rows.iter().map(was).collect::<Vec<_>>(),
        [
            "group_created t n g -",
            "group_changed t n g -",
            "live_session_deleted t n g a",
            "group_deleted_by_force t n g -",
            "group_created t n h -",
            "group_deleted t n h -",
            "key_created t - - -",
            "key_revoked t - - -",
        ]
    );
    assert_eq!((&rows[0]["before"], &rows[0]["after"]), (&Value::Null, &configuration("N")));
    assert_eq!((&rows[1]["before"], &rows[1]["after"]), (&configuration("N"), &configuration("M")));
    assert_eq!(rows[2]["before"], json!({"Role": 1, "By": "client"}));
    assert_eq!((&rows[3]["before"]["LiveSessions"], &rows[3]["before"]["Sessions"]), (&json!(1), &json!(["b"])));
    assert_eq!(rows[6]["after"]["Name"], "k");
    assert!(rows[..6].iter().all(|row| row["identity"] == "anonymous"));
    assert!(rows[6..].iter().all(|row| row["identity"].as_str().is_some_and(|who| who.starts_with("command:"))));
    assert_eq!(rows[1]["operation_id"], changed.header("operation-id"));
    assert!(rows.iter().all(|row| row["operation_id"] != same.header("operation-id")));
}
