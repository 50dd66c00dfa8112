//! What values mean and how they are written back: durations, date-times, decimals, texts, and ids
//! that the service makes up.

use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp, TestReplica};
use crate::support::wire::{GROUPS, Request};

/// A heartbeat whose body is this text. JSON numbers lose digits as [`Value`]s.
async fn beat(replica: &TestReplica, body: &str) -> Answer {
    Request::post(format!("{GROUPS}/g/clientsessions/s"), body).send(replica).await
}

/// The heartbeat of session `s` as it is shown, as text.
async fn shown_heartbeat(replica: &TestReplica) -> String {
    let text = replica.get("/g").await.text;
    let (_, heartbeat) = text.split_once("\"Heartbeat\":").expect("a heartbeat is shown");
    heartbeat.trim_end_matches('}').to_owned()
}

#[tokio::test]
async fn a_timeout_is_read_as_a_time_span_or_milliseconds_and_shown_as_both() {
    let app = TestApp::start().await;
    for (body, span, milliseconds) in [
        ("{}", "00:01:00", "60000"),
        (r#"{"FailoverTimeout":null,"Milliseconds":null}"#, "00:01:00", "60000"),
        (r#"{"FailoverTimeout":"00:00:00","Milliseconds":0}"#, "00:01:00", "60000"),
        (r#"{"FailoverTimeout":"0.00:00:00.0000000","Milliseconds":-0.0}"#, "00:01:00", "60000"),
        (r#"{"FailoverTimeout":"0:00:30"}"#, "00:00:30", "30000"),
        (r#"{"FailoverTimeout":"00:02"}"#, "00:02:00", "120000"),
        (r#"{"FailoverTimeout":"0.5:00"}"#, "05:00:00", "18000000"),
        (r#"{"FailoverTimeout":"1.00:00:00"}"#, "1.00:00:00", "86400000"),
        (r#"{"FailoverTimeout":"00000001.0:00"}"#, "1.00:00:00", "86400000"),
        (r#"{"FailoverTimeout":"23:59:59.9999999"}"#, "23:59:59.9999999", "86399999.9999"),
        (r#"{"FailoverTimeout":"00:00:00.1"}"#, "00:00:00.1000000", "100"),
        (r#"{"FailoverTimeout":"00:00:00.1000001"}"#, "00:00:00.1000001", "100.0001"),
        (r#"{"FailoverTimeout":"00:00:01.50"}"#, "00:00:01.5000000", "1500"),
        (r#"{"Milliseconds":100}"#, "00:00:00.1000000", "100"),
        (r#"{"Milliseconds":86400000}"#, "1.00:00:00", "86400000"),
        (r#"{"Milliseconds":86400000.0}"#, "1.00:00:00", "86400000"),
        (r#"{"Milliseconds":1e3}"#, "00:00:01", "1000"),
        (r#"{"Milliseconds":15000E-1}"#, "00:00:01.5000000", "1500"),
        (r#"{"Milliseconds":1234.5678}"#, "00:00:01.2345678", "1234.5678"),
        (r#"{"FailoverTimeout":"00:00:30","Milliseconds":30000}"#, "00:00:30", "30000"),
        (r#"{"FailoverTimeout":"00:00:30","Milliseconds":0}"#, "00:00:30", "30000"),
        (r#"{"FailoverTimeout":"00:00:00","Milliseconds":30000}"#, "00:00:30", "30000"),
        // They agree to the microsecond, and the time span is the finer of the two.
        (r#"{"FailoverTimeout":"00:00:01.0000009","Milliseconds":1000}"#, "00:00:01.0000009", "1000.0009"),
        (r#"{"FailoverTimeout":"00:00:01","Milliseconds":1000.0009}"#, "00:00:01", "1000"),
    ] {
        Request::put(format!("{GROUPS}/g"), body).send(&app).await.expect_ok();
        let shown = app.get("/g").await.text;
        let wanted = format!(r#""FailoverTimeout":"{span}","Milliseconds":{milliseconds},"#);
        assert!(shown.contains(&wanted), "{body}: {shown}");
    }
}

#[tokio::test]
async fn what_get_shows_can_be_put_and_posted_back_and_changes_nothing() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Name": "N", "FailoverTimeout": "12:34:56.7654321"})).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await.expect_ok();
    beat(&app, r#"{"PercentHealthyStreams":99.90,"LastDataSendTime":"2019-08-24T14:15:22.123456Z"}"#).await.expect_ok();
    let shown = app.get("/g").await.text;
    Request::put(format!("{GROUPS}/g"), shown.clone()).send(&app).await.expect_ok();
    Request::post(GROUPS, shown.clone()).send(&app).await.expect_ok();
    assert_eq!(app.get("/g").await.text, shown);
    assert_eq!(app.get("").await.text, format!("[{shown}]"));
}

#[tokio::test]
async fn a_percentage_keeps_every_digit_that_was_sent() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    for (sent, shown) in [
        ("0", "0"),
        ("100", "100"),
        ("100.00", "100.00"),
        ("1.50", "1.50"),
        ("33.3333333333333333", "33.3333333333333333"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.1234567890123456789012345678", "0.1234567890123456789012345678"),
        ("99.99999999999999999999999999", "99.99999999999999999999999999"),
        ("0.0000000000000000000000000001", "0.0000000000000000000000000001"),
        ("10000e-2", "100.00"),
        ("1e1", "10"),
        ("1E+2", "100"),
        ("1.5e1", "15"),
        ("500e-1", "50.0"),
        ("1e-28", "0.0000000000000000000000000001"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.00", "0"),
        // Six equal shares add up to the first of these, as doubles.
        ("100.00000000000001", "100"),
        ("100.000001", "100"),
        ("1.00000001e2", "100"),
        ("100.0000000000000000000000001", "100"),
        ("-0e0", "0"),
        ("null", "0"),
    ] {
        beat(&app, &format!(r#"{{"PercentHealthyStreams":{sent}}}"#)).await.expect_ok();
        let heartbeat = shown_heartbeat(&app).await;
        assert!(heartbeat.starts_with(&format!(r#"{{"PercentHealthyStreams":{shown},"#)), "{sent}: {heartbeat}");
    }
}

#[tokio::test]
async fn a_date_time_is_read_in_every_form_and_written_in_utc() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    for (sent, shown) in [
        ("2019-08-24T14:15:22Z", "2019-08-24T14:15:22Z"),
        ("2019-08-24T14:15:22", "2019-08-24T14:15:22Z"),
        ("2019-08-24T14:15Z", "2019-08-24T14:15:00Z"),
        ("2019-08-24T14:15:22.1234567+0200", "2019-08-24T12:15:22.123456Z"),
        ("2019-08-24 14:15:22,5 UTC", "2019-08-24T14:15:22.5Z"),
        ("2019-08-24T14:15:22+02:00[Europe/Berlin]", "2019-08-24T12:15:22Z"),
        ("2019-08-24t14:15:22z", "2019-08-24T14:15:22Z"),
        ("2019-08-24T14:15:22.5Z", "2019-08-24T14:15:22.5Z"),
        ("2019-08-24T14:15:22.1234567Z", "2019-08-24T14:15:22.123456Z"),
        ("2019-08-24T14:15:22.1234567", "2019-08-24T14:15:22.123456Z"),
        ("2019-08-24T14:15:22.99999999999999999999999999Z", "2019-08-24T14:15:22.999999Z"),
        ("2019-08-24T14:15:22.1000000Z", "2019-08-24T14:15:22.1Z"),
        ("2019-08-24T14:15:22.0000009Z", "2019-08-24T14:15:22Z"),
        ("2019-08-24T14:15:22+02:00", "2019-08-24T12:15:22Z"),
        ("2019-08-24T00:15:22.25+05:30", "2019-08-23T18:45:22.25Z"),
        ("2019-08-24T14:15:22-00:00", "2019-08-24T14:15:22Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0002-01-01T00:00:00Z", "0002-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
    ] {
        let body = json!({"HeartbeatTime": sent, "LastDataSendTime": sent, "PercentHealthyStreams": 1});
        beat(&app, &body.to_string()).await.expect_ok();
        assert_eq!(
            shown_heartbeat(&app).await,
            format!(r#"{{"PercentHealthyStreams":1,"HeartbeatTime":"{shown}","LastDataSendTime":"{shown}""#),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_a_body_is_passed_over_and_of_two_like_properties_the_last_counts() {
    let app = TestApp::start().await;
    let marked = |text: &str| format!("\u{feff}{text}");
    Request::put(format!("{GROUPS}/g"), marked(r#"{"Milliseconds":60000}"#)).send(&app).await.expect_ok();
    Request::post(format!("{GROUPS}/g/clientsessions"), marked(r#"{"Id":"s"}"#)).send(&app).await.expect_ok();
    for (body, shown) in [
        (marked(r#"{"PercentHealthyStreams":25}"#), "25"),
        (r#"{"PercentHealthyStreams":1,"percentHealthyStreams":2}"#.to_owned(), "2"),
        (r#"{"percenthealthystreams":2,"PercentHealthyStreams":1}"#.to_owned(), "1"),
    ] {
        beat(&app, &body).await.expect_ok();
        let heartbeat = shown_heartbeat(&app).await;
        assert!(heartbeat.starts_with(&format!(r#"{{"PercentHealthyStreams":{shown},"#)), "{body}: {heartbeat}");
    }
}

#[tokio::test]
async fn year_1_null_and_absence_all_say_that_no_time_is_known() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    for none in [
        r#""0001-01-01T00:00:00Z""#,
        r#""0001-01-01T00:00:00""#,
        r#""0001-01-01T00:00:00.0000000+02:00""#,
        r#""0001-01-01T00:00:00-08:00""#,
        "null",
    ] {
        let known = r#"{"HeartbeatTime":"2019-08-24T14:15:22Z","LastDataSendTime":"2019-08-24T14:15:22Z"}"#;
        for unknown in ["{}".to_owned(), format!(r#"{{"HeartbeatTime":{none},"LastDataSendTime":{none}}}"#)] {
            beat(&app, known).await.expect_ok();
            beat(&app, &unknown).await.expect_ok();
            // Each heartbeat is shown as reported: what the one before said is not kept in its
            // place.
            let heartbeat = shown_heartbeat(&app).await;
            assert!(heartbeat.ends_with(r#""LastDataSendTime":"0001-01-01T00:00:00Z""#), "{unknown}: {heartbeat}");
            let times = app.database.rows("SELECT heartbeat_time = received_at AS same FROM heartbeats").await;
            assert_eq!(times, [json!({"same": true})], "{unknown}");
        }
    }
}

#[tokio::test]
async fn property_names_are_read_in_any_case_and_unknown_ones_are_ignored() {
    let app = TestApp::start().await;
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let configuration = format!(
        r#"{{"ID":"g","name":"N","DESCRIPTION":"D","failoverTimeout":"00:00:30","milliSeconds":30000,
            "Unknown":{deep},"":1e999,"\u0000":"\u0000","Name ":5,"Nаme":6,"Sessions":7,"Clients":[]}}"#
    );
    assert_eq!(Request::post(GROUPS, configuration).send(&app).await.expect_ok(), "g");
    let session = Request::post(format!("{GROUPS}/g/clientsessions"), r#"{"id":"s","nAmE":"S","x":{"Id":1}}"#);
    assert_eq!(session.send(&app).await.expect_ok(), "s");
    let heartbeat = r#"{"percenthealthystreams":75,"heartbeattime":"2019-08-24T14:15:22Z",
        "lastDataSendTime":"2019-08-24T14:15:21Z","PercentHealthyStreams2":"x"}"#;
    beat(&app, heartbeat).await.expect_ok();
    assert_eq!(
        app.get("/g").await.expect_ok(),
        json!({
            "Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "00:00:30", "Milliseconds": 30_000,
            "Sessions": {"s": {"Id": "s", "Name": "S"}},
            "Clients": {"s": {"SessionId": "s", "Role": 1, "Heartbeat": {"PercentHealthyStreams": 75,
                "HeartbeatTime": "2019-08-24T14:15:22Z", "LastDataSendTime": "2019-08-24T14:15:21Z"}}},
        })
    );
}

#[tokio::test]
async fn names_and_descriptions_are_limited_in_characters_not_bytes() {
    let app = TestApp::start().await;
    for letter in ["a", "é", "😀"] {
        let (name, description) = (letter.repeat(260), letter.repeat(4_096));
        app.put("/g", json!({"Name": name, "Description": description})).await.expect_ok();
        let group = app.get("/g").await;
        assert_eq!((&group.body["Name"], &group.body["Description"]), (&json!(name), &json!(description)));
        let session = json!({"Id": letter, "Name": name});
        app.post("/g/clientsessions", session).await.expect_ok();

        for (property, limit, body) in [
            ("Name", "260", json!({"Name": name.clone() + letter})),
            ("Description", "4096", json!({"Description": description + letter})),
        ] {
            let reason = app.put("/g", body).await.expect_error(400);
            assert!(reason.contains(property) && reason.contains(limit), "{reason}");
        }
        let session = json!({"Id": "s", "Name": name + letter});
        let reason = app.post("/g/clientsessions", session).await.expect_error(400);
        assert!(reason.contains("Name"), "{reason}");
        assert_eq!(app.get("/g").await.body["Description"], group.body["Description"]);
    }
}

#[tokio::test]
async fn a_group_or_session_without_an_id_is_given_a_new_one() {
    let app = TestApp::start().await;
    let mut ids = std::collections::HashSet::new();
    for body in [json!({}), json!({"Id": null}), json!({"Id": ""}), json!({"Name": "N"}), json!({"Name": "N"})] {
        let group = app.post("", body.clone()).await.expect_ok();
        let group = group.as_str().expect("an id is a string");
        assert_eq!(app.get(&format!("/{group}")).await.expect_ok()["Id"], group);
        let session = app.post(&format!("/{group}/clientsessions"), body).await.expect_ok();
        let session = session.as_str().expect("an id is a string");
        assert_eq!(app.beat(group, session, 1.0).await, 1);
        for id in [group, session] {
            assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
            assert!(ids.insert(id.to_owned()), "{id} was given twice");
        }
    }
}

#[tokio::test]
async fn a_repeated_request_succeeds_and_changes_nothing() {
    let app = TestApp::start().await;
    let configuration = json!({"Id": "g", "Name": "N", "Milliseconds": 30_000});
    let session = json!({"Id": "s", "Name": "S"});
    app.post("", configuration.clone()).await.expect_ok();
    app.post("/g/clientsessions", session.clone()).await.expect_ok();
    app.beat("g", "s", 100.0).await;
    let stored = async || {
        let tables = ["groups", "sessions", "heartbeats", "role_transitions"];
        let mut rows: Vec<Value> = Vec::new();
        for table in tables {
            rows.extend(app.database.rows(&format!("SELECT * FROM {table}")).await);
        }
        rows
    };
    let before = stored().await;
    let same = json!({"id": "g", "Name": "N", "Description": null, "FailoverTimeout": "0:00:30"});
    for body in [configuration, same] {
        assert_eq!(app.post("", body.clone()).await.expect_ok(), "g");
        assert_eq!(app.put("/g", body).await.expect_ok(), "g");
    }
    assert_eq!(app.put("/g", json!({"Id": "", "Name": "N", "Milliseconds": 30_000})).await.expect_ok(), "g");
    assert_eq!(app.post("/g/clientsessions", session).await.expect_ok(), "s");
    assert_eq!(stored().await, before);
}

#[tokio::test]
async fn put_replaces_the_whole_configuration_and_leaves_sessions_and_roles() {
    let app = TestApp::start().await;
    let full = json!({"Id": "g", "Name": "N", "Description": "D", "FailoverTimeout": "00:00:30"});
    app.put("/g", full).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await.expect_ok();
    app.beat("g", "s", 100.0).await;
    let before = app.get("/g").await.expect_ok();
    app.put("/g", json!({"Milliseconds": 5_000})).await.expect_ok();
    let after = app.get("/g").await.expect_ok();
    assert_eq!((&after["Sessions"], &after["Clients"]), (&before["Sessions"], &before["Clients"]));
    assert_eq!((&after["Name"], &after["Description"]), (&Value::Null, &Value::Null));
    assert_eq!((&after["FailoverTimeout"], &after["Milliseconds"]), (&json!("00:00:05"), &json!(5_000)));
    assert_eq!(app.beat("g", "s", 100.0).await, 1);
}
