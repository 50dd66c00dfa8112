//! The customer's API, property by property.

use serde_json::{Value, json};

use crate::support::helpers::TestApp;

const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The names of an object's properties, in order of the alphabet.
fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap_or_else(|| panic!("not an object: {object}")).keys().map(String::as_str).collect()
}

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

#[tokio::test]
async fn each_of_the_eight_operations_takes_and_answers_what_the_contract_shows() {
    let app = TestApp::start().await;
    let configuration =
        json!({"Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "00:00:30", "Milliseconds": 30_000});
    let heartbeat = json!({"PercentHealthyStreams": 75.5, "HeartbeatTime": "2019-08-24T14:15:22Z",
        "LastDataSendTime": "2019-08-24T14:15:21.5Z"});

    let list = app.get("").await;
    assert_eq!(list.header("content-type"), "application/json");
    assert_eq!(list.expect_ok(), json!([]));
    let posted = app.post("", configuration.clone()).await;
    assert_eq!(posted.header("content-type"), "application/json");
    assert_eq!(posted.text, r#""g""#);
    posted.expect_ok();
    assert_eq!(app.put("/g", configuration).await.expect_ok(), json!("g"));
    let session = app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await;
    assert_eq!(session.header("content-type"), "application/json");
    assert_eq!(session.expect_ok(), json!("s"));
    // What it sent before it was Primary is nobody's business to continue.
    let first = app.heartbeat("g", "s", heartbeat.clone()).await.expect_ok();
    assert_eq!(first, json!({"Role": 1, "LastDataSendTime": NO_TIME}));
    let answer = app.heartbeat("g", "s", heartbeat.clone()).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.expect_ok(), json!({"Role": 1, "LastDataSendTime": "2019-08-24T14:15:21.5Z"}));

    let shown = json!({
        "Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "00:00:30", "Milliseconds": 30_000,
        "Sessions": {"s": {"Id": "s", "Name": "S"}},
        "Clients": {"s": {"SessionId": "s", "Role": 1, "Heartbeat": heartbeat}},
    });
    let group = app.get("/g").await;
    assert_eq!(group.header("content-type"), "application/json");
    assert_eq!(group.expect_ok(), shown);
    assert_eq!(app.get("").await.expect_ok(), json!([shown]));

    assert_eq!(app.delete("/g/clientsessions/s").await.expect_ok(), json!("s"));
    assert_eq!(app.delete("/g").await.expect_ok(), json!("g"));
    assert_eq!(app.get("").await.expect_ok(), json!([]));
}

#[tokio::test]
async fn every_schema_has_its_properties_and_no_others_whatever_is_known() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["silent", "beating"]).await;
    let answer = app.heartbeat("g", "beating", json!({})).await.expect_ok();
    assert_eq!(names(&answer), ["LastDataSendTime", "Role"]);

    let list = app.get("").await.expect_ok();
    assert_eq!(list[0], app.get("/g").await.expect_ok());
    let group = &list[0];
    assert_eq!(names(group), ["Clients", "Description", "FailoverTimeout", "Id", "Milliseconds", "Name", "Sessions"]);
    assert_eq!(names(&group["Sessions"]), ["beating", "silent"]);
    assert_eq!(names(&group["Clients"]), ["beating", "silent"]);
    for id in ["beating", "silent"] {
        assert_eq!(group["Sessions"][id], json!({"Id": id, "Name": null}));
        assert_eq!(names(&group["Clients"][id]), ["Heartbeat", "Role", "SessionId"]);
        assert_eq!(group["Clients"][id]["SessionId"], id);
    }
    assert_eq!(group["Clients"]["silent"], json!({"SessionId": "silent", "Role": 0, "Heartbeat": null}));
    let heartbeat = &group["Clients"]["beating"]["Heartbeat"];
    assert_eq!(names(heartbeat), ["HeartbeatTime", "LastDataSendTime", "PercentHealthyStreams"]);
}

#[tokio::test]
async fn null_is_written_where_the_contract_allows_it_and_nowhere_else() {
    let app = TestApp::start().await;
    let nothing = json!({"Id": "g", "Name": null, "Description": null, "FailoverTimeout": null, "Milliseconds": null});
    app.post("", nothing).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "s", "Name": null})).await.expect_ok();
    let beat = json!({"PercentHealthyStreams": null, "HeartbeatTime": null, "LastDataSendTime": null});
    assert_eq!(app.heartbeat("g", "s", beat).await.expect_ok(), json!({"Role": 1, "LastDataSendTime": NO_TIME}));

    let mut group = app.get("/g").await.expect_ok();
    let received = group["Clients"]["s"]["Heartbeat"]["HeartbeatTime"].take();
    assert!(received.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{received}");
    assert_eq!(
        group,
        json!({
            "Id": "g", "Name": null, "Description": null, "FailoverTimeout": "00:01:00", "Milliseconds": 60_000,
            "Sessions": {"s": {"Id": "s", "Name": null}},
            "Clients": {"s": {"SessionId": "s", "Role": 1, "Heartbeat":
                {"PercentHealthyStreams": 0, "HeartbeatTime": null, "LastDataSendTime": NO_TIME}}},
        })
    );
}

#[tokio::test]
async fn an_empty_text_is_not_null_and_a_text_is_given_back_as_it_came() {
    let app = TestApp::start().await;
    for (name, description) in [
        ("", ""),
        (" \t\n", "\"\\/\u{8}\u{c}\r"),
        ("é\u{301} 漢字 😀", "<script>'--"),
        ("\u{feff}\u{202e}", "\u{7f}\u{1}"),
    ] {
        app.put("/g", json!({"Name": name, "Description": description})).await.expect_ok();
        let group = app.get("/g").await.expect_ok();
        assert_eq!((&group["Name"], &group["Description"]), (&json!(name), &json!(description)));
    }
    app.post("/g/clientsessions", json!({"Id": "s", "Name": ""})).await.expect_ok();
    assert_eq!(app.get("/g").await.expect_ok()["Sessions"]["s"]["Name"], "");
}

#[tokio::test]
async fn roles_are_the_numbers_of_the_contract() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a", "b", "c"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, 1);
    assert_eq!(app.beat("g", "c", 40.0).await, 0);
    assert_eq!(app.beat("g", "b", 100.0).await, 2);
    let clients = app.get("/g").await.expect_ok()["Clients"].take();
    let roles: Vec<&Value> = ["a", "b", "c"].iter().map(|id| &clients[id]["Role"]).collect();
    assert_eq!(roles, [&json!(1), &json!(2), &json!(0)]);
}

#[tokio::test]
async fn the_time_of_the_last_data_is_answered_to_whoever_is_to_continue_it() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a", "b"]).await;
    let sent = json!({"PercentHealthyStreams": 100, "LastDataSendTime": "2019-08-24T14:15:22.25Z"});
    app.beat("g", "a", 100.0).await;
    app.heartbeat("g", "a", sent).await.expect_ok();
    app.database.let_time_pass(60_000).await;
    let taken_over = app.heartbeat("g", "b", json!({"PercentHealthyStreams": 100})).await.expect_ok();
    assert_eq!(taken_over, json!({"Role": 1, "LastDataSendTime": "2019-08-24T14:15:22.25Z"}));
}
