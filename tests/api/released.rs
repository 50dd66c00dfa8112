//! The released form of the API, as adapters in the field ask for it: on the premises' base in any
//! case, and below tenants where the setting says so.

use client_failover::http::TenantApi;
use serde_json::{Value, json};

use crate::support::helpers::{TestApp, eventually};
use crate::support::wire::Request;

const ON_PREMISES: &str = "/api/v1/clientfailover";
const BELOW_TENANT: &str = "/api/v1/Tenants/t/Namespaces/n/ClientFailover/";

async fn app(tenant_api: TenantApi) -> TestApp {
    TestApp::start_with(|settings| settings.http.paths.tenant_api = tenant_api).await
}

/// What is asked of one base, with the status and the body that it is answered with.
async fn ask(app: &TestApp, base: &str, method: &str, below: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::new(method, format!("{base}{below}"));
    let request = match body {
        Some(body) => request.json(body.to_string()),
        None => request,
    };
    let answer = request.send(app).await;
    (answer.status.as_u16(), answer.body)
}

async fn a_group_goes_its_way(app: &TestApp, base: &str) {
    let ask = async |method: &str, below: &str, body: Option<Value>| ask(app, base, method, below, body).await;
    let group = json!({
        "Id": "G", "Name": null, "Description": null, "FailoverTimeout": "00:01:00", "AdditionalData": null,
    });
    let wanted = json!({"Id": "G", "FailoverTimeout": "00:01:00"});
    assert_eq!(ask("POST", "/groups/", Some(wanted.clone())).await, (201, group.clone()));
    assert_eq!(ask("POST", "/groups/", Some(wanted)).await, (200, group.clone()));
    let other = json!({"Id": "G", "FailoverTimeout": "00:02:00"});
    assert_eq!(ask("POST", "/groups", Some(other)).await.0, 409);
    assert_eq!(ask("GET", "/groups/G", None).await, (200, group.clone()));
    assert_eq!(ask("GET", "/groups?skip=0&count=5", None).await, (200, json!([group])));

    let name = "HOST-A1.OpcUa";
    let session = json!({"Id": name, "Name": "HOST-A1 OpcUa"});
    let fresh = json!({
        "Id": name, "Name": "HOST-A1 OpcUa", "Heartbeat": null, "Role": 0, "HeartbeatPosted": false,
        "RoleOverride": 0, "RoleOverrideExpirationTime": null, "AdditionalData": null,
    });
    assert_eq!(ask("POST", "/groups/G/clientsessions", Some(session.clone())).await, (201, fresh.clone()));
    assert_eq!(ask("POST", "/groups/G/clientsessions", Some(session)).await, (200, fresh));
    let (status, answer) = ask(
        "POST",
        "/groups/G/clientsessions/HOST-A1.OpcUa/heartbeat",
        Some(json!({
            "FailoverScore": 100, "LastDataProcessedTime": "0001-01-01T00:00:00",
        })),
    )
    .await;
    assert_eq!((status, answer), (200, json!({"Role": 1, "LastDataProcessedTime": "0001-01-01T00:00:00Z"})));
    let (_, answer) = ask(
        "POST",
        "/groups/G/clientsessions/HOST-A1.OpcUa/heartbeat/",
        Some(json!({
            "failoverstatus": 99.5, "LastDataProcessedTime": "2026-10-07T10:00:00.1234567Z",
        })),
    )
    .await;
    assert_eq!(answer, json!({"Role": 1, "LastDataProcessedTime": "2026-10-07T10:00:00.123456Z"}));
    let (_, shown) = ask("GET", "/groups/G/clientsessions/HOST-A1.OpcUa", None).await;
    assert_eq!((&shown["Role"], &shown["HeartbeatPosted"]), (&json!(1), &json!(true)));
    assert_eq!(shown["Heartbeat"]["FailoverScore"].to_string(), "99.5");
    assert_eq!(shown["Heartbeat"]["LastDataProcessedTime"], "2026-10-07T10:00:00.123456Z");
    assert!(shown["Heartbeat"]["HeartbeatTime"].is_string());
    assert_eq!(ask("GET", "/groups/G/clientsessions", None).await, (200, json!([shown])));
    let (_, status) = ask("GET", "/groups/G/status", None).await;
    assert_eq!((&status["Primary"], &status["PendingPrimary"]), (&json!(name), &Value::Null));
    assert_eq!(status["LastDataProcessedTime"], "2026-10-07T10:00:00.123456Z");

    assert_eq!(ask("DELETE", "/groups/G", None).await.0, 409);
    assert_eq!(ask("DELETE", "/groups/G/clientsessions/HOST-A1.OpcUa", None).await, (204, json!("")));
    assert_eq!(ask("DELETE", "/groups/G", None).await, (204, json!("")));
    assert_eq!(ask("GET", "/groups/G", None).await.0, 404);
    let heartbeat = json!({"FailoverScore": 100});
    assert_eq!(ask("POST", "/groups/G/clientsessions/HOST-A1.OpcUa/heartbeat", Some(heartbeat)).await.0, 404);
}

#[tokio::test]
async fn a_group_goes_its_way_on_the_premises_in_either_setting_and_below_tenants_where_it_is_set() {
    for (tenant_api, bases) in
        [(TenantApi::Preview, &[ON_PREMISES][..]), (TenantApi::Released, &[ON_PREMISES, BELOW_TENANT])]
    {
        let app = app(tenant_api).await;
        for base in bases {
            a_group_goes_its_way(&app, base).await;
            assert!(ask(&app, base, "GET", "", None).await.1["Version"].is_string());
        }
    }
}

/// It reads nothing but the status of its registrations: what the other form answers there serves
/// it as well.
#[tokio::test]
async fn an_adapter_works_below_tenants_with_default_settings() {
    let app = app(TenantApi::Preview).await;
    let ask = async |method: &str, below: &str, body: Value| ask(&app, BELOW_TENANT, method, below, Some(body)).await;
    assert_eq!(ask("POST", "groups/", json!({"Id": "G", "FailoverTimeout": "00:01:00"})).await.0, 200);
    assert_eq!(ask("POST", "groups/G/clientsessions", json!({"Id": "s"})).await.0, 200);
    let (status, answer) = ask("POST", "groups/G/clientsessions/s/heartbeat", json!({"FailoverScore": 1})).await;
    assert_eq!((status, &answer["Role"]), (200, &json!(1)));
}

#[tokio::test]
async fn both_bases_lead_to_the_same_group() {
    let app = app(TenantApi::Preview).await;
    ask(&app, ON_PREMISES, "POST", "/groups", Some(json!({"Id": "G"}))).await;
    assert_eq!(app.get("/G").await.expect_ok()["Id"], "G");
}

/// An adapter that is told that it is about to be Primary asks again at once, and logs an error.
#[tokio::test]
async fn nobody_is_told_that_it_is_about_to_be_primary_and_everybody_can_see_who_is() {
    let app = app(TenantApi::Preview).await;
    ask(&app, ON_PREMISES, "POST", "/groups", Some(json!({"Id": "G"}))).await;
    for session in ["a", "b"] {
        ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions", Some(json!({"Id": session}))).await;
    }
    let beat = async |session: &str, score: u8| {
        let below = format!("/groups/G/clientsessions/{session}/heartbeat");
        ask(&app, ON_PREMISES, "POST", &below, Some(json!({"FailoverScore": score}))).await.1["Role"].clone()
    };
    assert_eq!(beat("a", 50).await, 1);
    assert_eq!(beat("b", 100).await, 0, "b is healthier, and a may still act");
    let (_, shown) = ask(&app, ON_PREMISES, "GET", "/groups/G/clientsessions/b", None).await;
    assert_eq!(shown["Role"], 2);
    let (_, status) = ask(&app, ON_PREMISES, "GET", "/groups/G/status", None).await;
    assert_eq!((&status["Primary"], &status["PendingPrimary"]), (&json!("a"), &json!("b")));
    assert_eq!(beat("a", 50).await, 0);
    assert_eq!(beat("b", 100).await, 0, "a has a lease that it may act on");
    ask(&app, ON_PREMISES, "DELETE", "/groups/G/clientsessions/a", None).await;
    assert_eq!(beat("b", 100).await, 1);
}

#[tokio::test]
async fn a_score_that_is_none_is_refused_by_its_name() {
    let app = app(TenantApi::Preview).await;
    ask(&app, ON_PREMISES, "POST", "/groups", Some(json!({"Id": "G"}))).await;
    ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions", Some(json!({"Id": "s"}))).await;
    for body in [
        json!({}),
        json!({"FailoverScore": null}),
        json!({"FailoverScore": "NaN"}),
        json!({"FailoverScore": "100"}),
        json!({"FailoverScore": -1}),
        json!({"FailoverScore": 101}),
        json!({"FailoverScore": null, "FailoverStatus": null}),
    ] {
        let (status, answer) =
            ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions/s/heartbeat", Some(body.clone())).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["Reason"].as_str().is_some_and(|reason| reason.starts_with("FailoverScore ")), "{answer}");
    }
}

#[tokio::test]
async fn whoever_follows_the_manual_to_a_wrong_endpoint_is_told_the_right_one() {
    let app = app(TenantApi::Preview).await;
    for (path, named) in [
        ("/api/v1/configuration/System/ClientFailover/groups", "/api/v1/clientfailover"),
        ("/api/v1/accesscontrol/clientfailover/groups", "roles"),
        ("/api/v1/clientfailover/groups/G/accesscontrol", "roles"),
    ] {
        let (status, answer) = ask(&app, path, "GET", "", None).await;
        assert_eq!(status, 404);
        assert!(answer["Resolution"].as_str().is_some_and(|text| text.contains(named)), "{answer}");
    }
}

#[tokio::test]
async fn what_clients_keep_is_given_back_as_it_was_sent_and_stays_until_they_name_it() {
    let app = app(TenantApi::Released).await;
    let ask = async |method: &str, below: &str, body: Option<Value>| ask(&app, ON_PREMISES, method, below, body).await;
    let text = r#"{"b": 1.50, "a":[null, "\u0000ü"],"a":{}}"#;
    let body = format!(r#"{{"Id": "G", "AdditionalData": {text}}}"#);
    let created = Request::post(format!("{ON_PREMISES}/groups"), body).send(&app).await;
    assert_eq!(created.status, 201);
    let read = Request::get(format!("{ON_PREMISES}/groups/G")).send(&app).await;
    assert!(read.text.contains(&format!(r#""AdditionalData":{text}"#)), "{}", read.text);
    let listed = Request::get(format!("{ON_PREMISES}/groups")).send(&app).await;
    assert!(listed.text.contains(text), "{}", listed.text);
    assert_eq!(ask("POST", "/groups", Some(json!({"Id": "G"}))).await.0, 200, "no opinion");
    assert_eq!(ask("POST", "/groups", Some(json!({"Id": "G", "AdditionalData": null}))).await.0, 409);
    assert_eq!(ask("POST", "/groups", Some(json!({"Id": "G", "AdditionalData": {"b": 2}}))).await.0, 409);
    // An operator who knows nothing of it changes the timeout.
    assert_eq!(ask("PUT", "/groups/G", Some(json!({"Milliseconds": 5_000}))).await.0, 200);
    let (_, changed) = ask("GET", "/groups/G", None).await;
    assert_eq!((&changed["FailoverTimeout"], &changed["AdditionalData"]["b"]), (&json!("00:00:05"), &json!(1.5)));
    assert_eq!(ask("PUT", "/groups/G", Some(json!({"AdditionalData": null}))).await.0, 200);
    assert_eq!(ask("GET", "/groups/G", None).await.1["AdditionalData"], Value::Null);

    let session = json!({"Id": "s", "AdditionalData": {"host": "A1", "place": [1, 2]}});
    let (status, registered) = ask("POST", "/groups/G/clientsessions", Some(session.clone())).await;
    assert_eq!((status, &registered["AdditionalData"]), (201, &session["AdditionalData"]));
    let in_another_order = json!({"Id": "s", "AdditionalData": {"place": [1, 2], "host": "A1"}});
    assert_eq!(ask("POST", "/groups/G/clientsessions", Some(in_another_order)).await.0, 200);
    assert_eq!(ask("POST", "/groups/G/clientsessions", Some(json!({"Id": "s", "AdditionalData": {}}))).await.0, 409);
    assert_eq!(ask("GET", "/groups/G/clientsessions/s", None).await.1["AdditionalData"], session["AdditionalData"]);

    let just_fits = format!(r#"{{"x":"{}"}}"#, "x".repeat(16 * 1024 - 8));
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (data, status) in [
        (just_fits.as_str(), 201),
        (&format!("{} }}", &just_fits[..just_fits.len() - 1]), 400),
        (&deep, 400),
        ("[]", 400),
        ("\"x\"", 400),
        ("1", 400),
    ] {
        let body = format!(r#"{{"AdditionalData": {data}}}"#);
        let answer = Request::post(format!("{ON_PREMISES}/groups/G/clientsessions"), body).send(&app).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 400 {
            assert!(answer.body["Reason"].as_str().is_some_and(|reason| reason.starts_with("AdditionalData ")));
        }
    }
}

/// It is all by which an adapter learns that it has to register again.
#[tokio::test]
async fn a_heartbeat_for_what_is_not_there_is_404_whatever_else_is_wrong() {
    let app = TestApp::start_with(|settings| settings.auth.rate_limit = Some(8)).await;
    ask(&app, ON_PREMISES, "POST", "/groups", Some(json!({"Id": "G"}))).await;
    ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions", Some(json!({"Id": "s"}))).await;
    let beat = async |below: &str, body: &str| {
        let target = format!("{ON_PREMISES}/groups/{below}");
        Request::post(target, body).send(&app).await.status.as_u16()
    };
    for body in ["", "{", "[]", r#"{"FailoverScore": "NaN"}"#, r#"{"FailoverScore": 1000}"#, "{}"] {
        eventually("a wrong body is refused", async || beat("G/clientsessions/s/heartbeat", body).await == 400).await;
        eventually("no session", async || beat("G/clientsessions/x/heartbeat", body).await == 404).await;
        eventually("no group", async || beat("H/clientsessions/s/heartbeat", body).await == 404).await;
    }
    let good = r#"{"FailoverScore": 100}"#;
    eventually("there is a rate", async || beat("G/clientsessions/s/heartbeat", good).await == 429).await;
    let mut refused = 0;
    for _ in 0..30 {
        refused += usize::from(beat("G/clientsessions/s/heartbeat", good).await == 429);
        assert_eq!(beat("G/clientsessions/x/heartbeat", good).await, 404);
    }
    assert!(refused > 0, "the rate was exceeded all the time");
    // A table that this program does not know.
    app.database.execute("ALTER TABLE heartbeats RENAME COLUMN received_at TO heard_at").await;
    eventually("it cannot be decided", async || beat("G/clientsessions/s/heartbeat", good).await >= 500).await;
    assert_eq!(beat("G/clientsessions/x/heartbeat", good).await, 404);
    assert_eq!(beat("H/clientsessions/s/heartbeat", good).await, 404);
}

#[tokio::test]
async fn ids_work_as_adapters_put_them_into_paths_or_are_refused_by_the_character() {
    let app = app(TenantApi::Released).await;
    // As .NET's client sends them.
    for (id, sent) in [
        ("Pumpe 1", "Pumpe%201"),
        ("Prüfstand Süd", "Pr%C3%BCfstand%20S%C3%BCd"),
        ("100% sure", "100%25%20sure"),
        ("a+b&c=d;e,f'(g)!", "a+b&c=d;e,f'(g)!"),
        ("HOST-A1.OpcUa", "HOST-A1.OpcUa"),
        ("[x]@{y}|z", "%5Bx%5D@%7By%7D%7Cz"),
        ("\"quoted\" <x>", "%22quoted%22%20%3Cx%3E"),
        ("設備", "%E8%A8%AD%E5%82%99"),
    ] {
        assert_eq!(ask(&app, ON_PREMISES, "POST", "/groups/", Some(json!({"Id": id}))).await.0, 201, "{id}");
        let sessions = format!("/groups/{sent}/clientsessions");
        assert_eq!(ask(&app, ON_PREMISES, "POST", &sessions, Some(json!({"Id": id}))).await.0, 201, "{id}");
        let beat = format!("{sessions}/{sent}/heartbeat");
        let (status, answer) = ask(&app, ON_PREMISES, "POST", &beat, Some(json!({"FailoverScore": 1}))).await;
        assert_eq!((status, &answer["Role"]), (200, &json!(1)), "{id}");
        assert_eq!(ask(&app, ON_PREMISES, "DELETE", &format!("{sessions}/{sent}"), None).await.0, 204, "{id}");
    }
    ask(&app, ON_PREMISES, "POST", "/groups/", Some(json!({"Id": "G"}))).await;
    for (id, character) in
        [("a#b", "'#'"), ("what?", "'?'"), ("100%25", "'%'"), ("x%c3", "'%'"), ("a/b", "'/'"), ("a\\b", "'\\'")]
    {
        for below in ["/groups/", "/groups/G/clientsessions"] {
            let (status, answer) = ask(&app, ON_PREMISES, "POST", below, Some(json!({"Id": id}))).await;
            assert_eq!(status, 400, "{id}");
            assert!(answer.to_string().contains(&character.replace('\\', "\\\\")), "{id}: {answer}");
        }
    }
}

#[tokio::test]
async fn times_are_read_as_adapters_write_them() {
    let app = app(TenantApi::Preview).await;
    ask(&app, ON_PREMISES, "POST", "/groups", Some(json!({"Id": "G"}))).await;
    ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions", Some(json!({"Id": "s"}))).await;
    for (sent, told) in [
        (json!(null), "0001-01-01T00:00:00Z"),
        (json!("0001-01-01T00:00:00"), "0001-01-01T00:00:00Z"),
        (json!("2026-10-07T10:00:00.1234567Z"), "2026-10-07T10:00:00.123456Z"),
        (json!("2026-10-07T10:00:01"), "2026-10-07T10:00:01Z"),
        (json!("2026-10-07T12:00:02+02:00"), "2026-10-07T10:00:02Z"),
    ] {
        let body = json!({"FailoverScore": 100, "LastDataProcessedTime": sent, "HeartbeatTime": "nonsense"});
        let (status, answer) = ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions/s/heartbeat", Some(body)).await;
        assert_eq!((status, &answer["LastDataProcessedTime"]), (200, &json!(told)), "{sent}: {answer}");
    }
    let (_, shown) = ask(&app, ON_PREMISES, "GET", "/groups/G/clientsessions/s", None).await;
    let received = shown["Heartbeat"]["HeartbeatTime"].as_str().expect("a time");
    assert!(received.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "by the service's own clock: {received}");
    let body = json!({"FailoverScore": 100, "LastDataProcessedTime": "yesterday"});
    let (status, answer) = ask(&app, ON_PREMISES, "POST", "/groups/G/clientsessions/s/heartbeat", Some(body)).await;
    assert_eq!(status, 400);
    assert!(answer["Reason"].as_str().is_some_and(|reason| reason.starts_with("LastDataProcessedTime ")), "{answer}");
}
