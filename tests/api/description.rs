//! The description of the API is true: whatever a running service takes and answers is as it says,
//! and it says all that there is.

use std::time::Duration;

use client_failover::access::AuthOptions;
use client_failover_workshop::needs;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::credentials::{basic, create_key};
use crate::support::described::Described;
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::issuer::{Mood, SigningKey, TokenIssuer};
use crate::support::sse::EventStream;
use crate::support::wire::{Connection, Request};

const NAMESPACE: &str = "/api/v1/tenants/t/namespaces/n/clientfailover";
const PREMISES: &str = "/api/v1/clientfailover";
const MINUTE: i64 = 60_000;

#[tokio::test]
async fn the_description_in_the_repository_is_the_one_that_is_served() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let app = TestApp::start().await;
    let served = Described::of(&app).await.document;
    let text = format!("{served:#}\n");
    if std::env::var_os("RENEW_DESCRIPTION").is_some() {
        std::fs::write(FILE, &text).expect("it can be written");
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    let renew = "RENEW_DESCRIPTION=1 cargo test --test suite description::the_description_in_the_repository";
    assert!(kept == text, "docs/openapi.json is not what the service says. To renew it: {renew}");
}

#[tokio::test]
async fn every_path_has_the_methods_that_are_described_and_no_others() {
    let app = TestApp::start().await;
    let described = Described::of(&app).await;
    let operations = described.operations();
    assert_eq!(operations.len(), 65);
    let mut ids: Vec<&str> = operations.iter().map(|operation| operation.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), operations.len(), "each has an id of its own");
    for path in described.document["paths"].as_object().expect("there are paths").keys() {
        let target = path.replace(['{', '}'], "");
        let odd = Method::from_bytes(b"ODD").expect("a method");
        let answer = Answer::of(app.http.request(odd, format!("{}{target}", app.url))).await;
        let allow = answer.header("allow").to_owned();
        answer.expect_error(405);
        let methods = operations.iter().filter(|operation| operation.path == path);
        let mut methods: Vec<String> = methods.map(|operation| operation.method.to_string()).collect();
        // As the description says at its beginning.
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
            methods.sort_unstable();
        }
        assert_eq!(allow, methods.join(", "), "{path}");
    }
}

#[tokio::test]
async fn every_example_is_as_its_schema_says() {
    let app = TestApp::start().await;
    let described = Described::of(&app).await;
    let (mut count, mut lacking) = (0, Vec::new());
    let mut judge = |schema: &Value, example: &Value, what: String| {
        count += 1;
        assert_eq!(described.wrong(schema, example), None, "{what}: {example:#}");
    };
    for operation in described.operations() {
        if let Some(content) = operation.value["requestBody"]["content"]["application/json"].as_object() {
            let examples = content["examples"].as_object().expect("a body has examples");
            for (name, example) in examples {
                judge(&content["schema"], &example["value"], format!("{} {name}", operation.id()));
            }
        }
        for (status, answer) in operation.value["responses"].as_object().expect("answers") {
            let answer = described.resolve(answer);
            let contents = answer["content"].as_object();
            assert_eq!(contents.is_none(), status == "204", "an answer has a body");
            for content in contents.into_iter().flat_map(|contents| contents.values()) {
                match content.get("example") {
                    Some(example) => judge(&content["schema"], example, format!("{} {status}", operation.id())),
                    None => lacking.push(format!("{} {status}", operation.id())),
                }
            }
        }
    }
    for place in ["headers", "parameters"] {
        for (name, it) in described.document["components"][place].as_object().expect("there are some") {
            judge(&it["schema"], &it["example"], format!("{place} {name}"));
        }
    }
    assert_eq!(lacking, Vec::<String>::new());
    println!("{count} examples are as their schemas say");
}

/// Every operation, succeeding.
async fn everything_that_succeeds(described: &Described, app: &TestReplica) {
    let ask = async |method: Method, target: &str, body: Option<Value>| {
        described.exchange(app, method, target, body).await.expect_ok()
    };
    let groups = &format!("{NAMESPACE}/groups");
    let configuration = json!({"Id": "g", "Name": "N", "Description": null, "FailoverTimeout": "0:00:30.5"});
    ask(Method::GET, groups, None).await;
    ask(Method::POST, groups, Some(configuration.clone())).await;
    ask(Method::POST, groups, Some(json!({}))).await;
    ask(Method::PUT, &format!("{groups}/g"), Some(configuration)).await;
    ask(Method::PUT, &format!("{groups}/odd%20n%C3%A4me"), Some(json!({"Milliseconds": 100.5}))).await;
    for session in ["a", "b", "silent"] {
        ask(Method::POST, &format!("{groups}/g/clientsessions"), Some(json!({"Id": session, "Name": "S"}))).await;
    }
    let beats = [
        ("a", json!({"PercentHealthyStreams": 99.5, "HeartbeatTime": "2019-08-24T14:15:22.1234567+02:00"})),
        ("a", json!({"PercentHealthyStreams": 80, "LastDataSendTime": "2019-08-24T14:15:21.25Z"})),
        ("b", json!({"PercentHealthyStreams": null})),
        ("b", json!({"PercentHealthyStreams": 100, "LastDataSendTime": "0001-01-01T00:00:00Z"})),
    ];
    for (session, body) in beats {
        let target = format!("{groups}/g/clientsessions/{session}");
        let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let headers = [("failover-role", "0"), trace];
        described.exchange_with(&app.http, app, Method::POST, &target, &headers, Some(body)).await.expect_ok();
    }
    eventually("the census has seen the namespace", async || {
        !described.exchange(app, Method::GET, "/api/v1/clientfailover/namespaces", None).await.expect_ok()[0].is_null()
    })
    .await;
    for target in [
        format!("{groups}?skip=0&count=10"),
        format!("{groups}/g"),
        format!("{groups}/g/status"),
        format!("{NAMESPACE}/status?search=G&at_risk=false&skip=0&count=200"),
        "/api/v1/clientfailover/status?at_risk=true".to_owned(),
        "/api/v1/tenants/t/clientfailover/status?risk=NoStandby&sort=-term".to_owned(),
        "/api/v1/tenants/t/clientfailover/status?handing_over=true&sort=group".to_owned(),
        "/api/v1/tenants/t/clientfailover/namespaces?search=N&skip=0&count=10".to_owned(),
        format!("{groups}/g/deeds?count=10"),
        "/api/v1/tenants/t/clientfailover/transitions?count=200".to_owned(),
        format!("{NAMESPACE}/histories"),
        "/api/v1/clientfailover/histories".to_owned(),
        format!("{groups}/g/transitions?since=2019-08-24T14:15:22Z&until=2999-01-01T00%3A00%3A00Z&count=1000"),
        format!("{groups}/g/lifetimes"),
        format!("{NAMESPACE}/transitions?count=200"),
        "/api/v1/clientfailover/transitions".to_owned(),
        "/whoami".to_owned(),
        "/api/v1/clientfailover/audit?action=group_created,group_changed&who=anonymous&before=1000&count=10".to_owned(),
        "/api/v1/tenants/t/clientfailover/audit?since=2019-08-24T14:15:22Z&until=2999-01-01T00%3A00%3A00Z&after=0"
            .to_owned(),
        "/metrics".to_owned(),
        "/health/live".to_owned(),
        "/health/ready".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        ask(Method::GET, &target, None).await;
    }
    the_operators_word(described, app, &format!("{groups}/g")).await;
    the_released_form(described, app).await;
    ask(Method::DELETE, &format!("{groups}/g/clientsessions/a?by=operator&dry-run=true"), None).await;
    ask(Method::DELETE, &format!("{groups}/g?force=true&dry-run=true"), None).await;
    ask(Method::PUT, &format!("{groups}/g?dry-run=true"), Some(json!({"Milliseconds": 30_000}))).await;
    ask(Method::DELETE, &format!("{groups}/g/clientsessions/a"), None).await;
    ask(Method::DELETE, &format!("{groups}/g?force=true"), None).await;
    assert_ne!(ask(Method::GET, &format!("{groups}/g/transitions"), None).await, json!([]));
}

/// What operators wish in a group, and what they are refused.
async fn the_operators_word(described: &Described, app: &TestReplica, group: &str) {
    let session = if group.ends_with("/g") { "b" } else { "s" };
    let of_session = format!("{group}/clientsessions/{session}");
    let long = "x".repeat(261);
    for (status, method, target, body) in [
        (200, Method::POST, format!("{of_session}/wish?dry-run=true"), Some(json!({"Wish": "Forced"}))),
        (202, Method::POST, format!("{of_session}/wish"), Some(json!({"Wish": "Excluded", "For": "1.02:03:04.5"}))),
        (409, Method::POST, format!("{group}/switchover"), Some(json!({"To": session}))),
        (200, Method::DELETE, format!("{of_session}/wish?dry-run=true"), None),
        (202, Method::DELETE, format!("{of_session}/wish"), None),
        (200, Method::POST, format!("{group}/switchover?dry-run=true"), Some(json!({"To": session}))),
        (
            202,
            Method::POST,
            format!("{group}/switchover"),
            Some(json!({"To": session, "Until": "2999-01-01T00:00:00Z"})),
        ),
        (200, Method::DELETE, format!("{group}/switchover?dry-run=true"), None),
        (202, Method::DELETE, format!("{group}/switchover"), None),
        (200, Method::POST, format!("{of_session}/roleoverride"), Some(json!({"Value": 1}))),
        (200, Method::POST, format!("{of_session}/roleoverride"), Some(json!({"Value": "Off"}))),
        (400, Method::POST, format!("{of_session}/roleoverride"), Some(json!({"Value": 2}))),
        (400, Method::POST, format!("{of_session}/wish"), Some(json!({"Wish": "Forced", "For": "00:00:00"}))),
        (400, Method::DELETE, format!("{group}/clientsessions/{long}/wish"), None),
        (400, Method::POST, format!("{group}/switchover"), Some(json!({"To": long}))),
        (400, Method::DELETE, format!("{group}/switchover?dry-run=perhaps"), None),
        (404, Method::POST, format!("{group}/clientsessions/none/wish"), Some(json!({"Wish": "Forced"}))),
        (404, Method::DELETE, format!("{group}/clientsessions/none/wish"), None),
        (404, Method::POST, format!("{group}/clientsessions/none/roleoverride"), Some(json!({"Value": 1}))),
        (404, Method::POST, format!("{group}/switchover"), Some(json!({"To": "none"}))),
        (404, Method::DELETE, format!("{group}-none/switchover"), None),
    ] {
        let answer = described.exchange(app, method, &target, body).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text);
    }
}

/// Every operation of the released form, on the premises, with what it is answered.
async fn the_released_form(described: &Described, app: &TestReplica) {
    let data = json!({"from": "a test", "numbers": [1, 2.5]});
    let group = json!({"Id": "released", "FailoverTimeout": "00:01:00", "AdditionalData": data});
    let session = json!({"Id": "s", "Name": "S", "AdditionalData": data});
    let beat = json!({"FailoverScore": 99.5, "LastDataProcessedTime": "2019-08-24T14:15:22.1234567Z"});
    for (status, method, below, body) in [
        (200, Method::GET, "", None),
        (200, Method::GET, "/groups?skip=0&count=10", None),
        (201, Method::POST, "/groups", Some(group.clone())),
        (200, Method::POST, "/groups", Some(group.clone())),
        (409, Method::POST, "/groups", Some(json!({"Id": "released", "AdditionalData": {}}))),
        (400, Method::POST, "/groups", Some(json!({"Id": "a#b"}))),
        (200, Method::PUT, "/groups/released", Some(group)),
        (200, Method::GET, "/groups/released", None),
        (404, Method::GET, "/groups/none", None),
        (201, Method::POST, "/groups/released/clientsessions", Some(session.clone())),
        (200, Method::POST, "/groups/released/clientsessions", Some(session)),
        (409, Method::POST, "/groups/released/clientsessions", Some(json!({"Id": "s", "Name": null}))),
        (404, Method::POST, "/groups/none/clientsessions", Some(json!({}))),
        (200, Method::GET, "/groups/released/clientsessions", None),
        (404, Method::GET, "/groups/none/clientsessions", None),
        (200, Method::GET, "/groups/released/clientsessions/s", None),
        (404, Method::GET, "/groups/released/clientsessions/none", None),
        (200, Method::POST, "/groups/released/clientsessions/s/heartbeat", Some(beat.clone())),
        (400, Method::POST, "/groups/released/clientsessions/s/heartbeat", Some(json!({"FailoverScore": 101}))),
        (404, Method::POST, "/groups/released/clientsessions/none/heartbeat", Some(beat)),
        (200, Method::POST, "/groups/released/clientsessions/s", Some(json!({"PercentHealthyStreams": 100}))),
        (200, Method::GET, "/groups/released/clientsessions", None),
        (200, Method::GET, "/groups/released/status", None),
        (404, Method::GET, "/groups/none/status", None),
        (409, Method::DELETE, "/groups/released", None),
        (200, Method::DELETE, "/groups/released/clientsessions/s?dry-run=true", None),
        (200, Method::DELETE, "/groups/released?force=true&dry-run=true", None),
        (200, Method::PUT, "/groups/released?dry-run=true", Some(json!({"Milliseconds": 30_000}))),
        (204, Method::DELETE, "/groups/released/clientsessions/s", None),
        (404, Method::DELETE, "/groups/released/clientsessions/s", None),
        (204, Method::DELETE, "/groups/released", None),
        (404, Method::DELETE, "/groups/released", None),
    ] {
        let answer = described.exchange(app, method.clone(), &format!("{PREMISES}{below}"), body).await;
        assert_eq!(answer.status, status, "{method} {below}: {}", answer.text);
    }
    let wished = format!("{PREMISES}/groups/wished");
    described.exchange(app, Method::POST, &format!("{PREMISES}/groups"), Some(json!({"Id": "wished"}))).await;
    described.exchange(app, Method::POST, &format!("{wished}/clientsessions"), Some(json!({"Id": "s"}))).await;
    let beat = Some(json!({"FailoverScore": 1}));
    described.exchange(app, Method::POST, &format!("{wished}/clientsessions/s/heartbeat"), beat).await;
    the_operators_word(described, app, &wished).await;
    let below_tenant = format!("{NAMESPACE}/groups/g/clientsessions/b/heartbeat");
    described.exchange(app, Method::GET, NAMESPACE, None).await.expect_ok();
    described.exchange(app, Method::POST, &below_tenant, Some(json!({"FailoverScore": 1}))).await.expect_ok();
}

/// Where tokens are to be had, with an issuer, without one, and while it is away.
async fn issuer(described: &Described, without: &TestReplica) {
    const PATH: &str = "/Identity/.well-known/openid-configuration";
    described.exchange(without, Method::GET, PATH, None).await.expect_error(404);
    let issuer = TokenIssuer::start(vec![SigningKey::ed().jwk("k")]).await;
    for mood in [Mood::Failing, Mood::Good] {
        issuer.set_mood(mood);
        let database = TestDatabase::new().await;
        let mut settings = settings(database.connect_options());
        settings.auth = AuthOptions { oidc: Some(issuer.options()), ..AuthOptions::default() };
        let app = TestReplica::start(settings).await;
        let answer = described.exchange(&app, Method::GET, PATH, None).await;
        assert_eq!(answer.status, if mood == Mood::Good { 200 } else { 503 });
    }
}

/// The streams, which do not end: their heads, and every event that came of
/// [`everything_that_succeeds`].
async fn streams(described: &Described, app: &TestReplica) {
    for path in [
        &format!("{NAMESPACE}/events"),
        &format!("{NAMESPACE}/groups/g/events"),
        "/api/v1/tenants/t/clientfailover/events",
        "/api/v1/clientfailover/events",
    ] {
        let response = app.http.get(format!("{}{path}", app.url)).send().await.expect("it answers");
        let (status, headers) = (response.status(), response.headers().clone());
        described.judge_answer(&Method::GET, path, &Answer::new(status, headers, String::new()));
        let mut stream = EventStream::open(app, path, Some(0)).await;
        let mut kinds = Vec::new();
        loop {
            let event = stream.next().await.expect("the stream goes on");
            let schema = json!({"$ref": format!("#/components/schemas/{}", event.name)});
            assert_eq!(described.wrong_answer(&schema, &event.data), None, "{}", event.name);
            let sent = json!({"id": event.id.to_string(), "event": event.name, "data": event.data.to_string()});
            let schema = json!({"$ref": "#/components/schemas/ServerSentEvent"});
            assert_eq!(described.wrong(&schema, &sent), None, "{}", event.name);
            kinds.push(event.name);
            if kinds.last().is_some_and(|last| last == "GroupDeleted") {
                break;
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        let expected = [
            "GroupCreated",
            "GroupDeleted",
            "RoleChanged",
            "SessionDeleted",
            "SessionRegistered",
            "WishEnded",
            "WishSet",
        ]
        .map(str::to_owned);
        assert_eq!(kinds, expected);
    }
}

/// The operations on keys, where they are a way in: what succeeds, and what does not.
async fn keys(described: &Described) {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, key) = create_key(&database, "boss", &["--tenant", "*", "--role", "admin"]).await;
    let authorization = format!("Bearer {key}");
    let ask = async |method: Method, target: &str, body: Option<Value>| {
        described.exchange_with(&app.http, &app, method, target, &[("authorization", &authorization)], body).await
    };
    let places = ["/api/v1/tenants/t/clientfailover/keys", "/api/v1/clientfailover/keys"];
    for keys in places {
        let wanted = json!({"Name": "a", "TenantId": "t", "Role": "client", "Namespaces": ["n"], "Groups": ["g-*"]});
        let first = ask(Method::POST, keys, Some(wanted.clone())).await.expect_ok()["Key"].clone();
        let mut replacing = wanted.clone();
        (replacing["Replaces"], replacing["Overlap"], replacing["ValidFor"]) =
            (first.clone(), json!("0:01"), json!("never"));
        ask(Method::POST, keys, Some(replacing)).await.expect_ok();
        ask(Method::DELETE, &format!("{keys}/{first}"), None).await.expect_ok();
        ask(Method::DELETE, &format!("{keys}/{first}"), None).await.expect_error(404);
        ask(Method::DELETE, &format!("{keys}/x"), None).await.expect_error(400);
        ask(Method::GET, keys, None).await.expect_ok();
        ask(Method::GET, &format!("{keys}?count=1001"), None).await.expect_error(400);
        let mut of_none = wanted.clone();
        of_none["Replaces"] = json!(999_999);
        ask(Method::POST, keys, Some(of_none)).await.expect_error(404);
        // What the schema takes the service takes, and nothing else.
        for (name, values) in [
            ("Name", vec![json!("N"), json!(""), json!("  "), json!("a\nb"), json!(1), json!(null)]),
            ("Role", vec![json!("viewer"), json!("Viewer"), json!("metrics-of-t"), json!(null)]),
            ("Namespaces", vec![json!(null), json!([]), json!(["a/b"]), json!(["."]), json!(["n", "m"]), json!("n")]),
            ("Groups", vec![json!(null), json!([]), json!([""]), json!(["*"]), json!(["a\\b"]), json!([1])]),
            ("ValidFor", vec![json!("never"), json!("1.00:00"), json!("0:00:01"), json!("1h"), json!(60), json!(null)]),
            ("Replaces", vec![json!(null), json!("1"), json!(1.5)]),
        ] {
            for value in values {
                let mut body = wanted.clone();
                body[name] = value;
                let is_taken = ask(Method::POST, keys, Some(body.clone())).await.status == 200;
                let wrong = described.wrong(&json!({"$ref": "#/components/schemas/ApiKeyWanted"}), &body);
                assert_eq!(is_taken, wrong.is_none(), "{body}: {}", wrong.unwrap_or_default());
            }
        }
        let large = app.http.post(format!("{}{keys}", app.url)).header("authorization", &authorization);
        let answer = Answer::of(large.header("content-type", "application/json").body(" ".repeat(65 * 1024))).await;
        described.judge_answer(&Method::POST, keys, &answer);
        answer.expect_error(413);
        let text = app.http.post(format!("{}{keys}", app.url)).header("authorization", &authorization);
        let answer = Answer::of(text.header("content-type", "text/plain").body("{}")).await;
        described.judge_answer(&Method::POST, keys, &answer);
        answer.expect_error(415);
    }
    database.execute("ALTER TABLE api_keys RENAME TO api_keys_kept").await;
    for keys in places {
        let wanted = json!({"Name": "a", "TenantId": "t", "Role": "client"});
        for (method, target, body) in [
            (Method::GET, keys.to_owned(), None),
            (Method::POST, keys.to_owned(), Some(wanted)),
            (Method::DELETE, format!("{keys}/1"), None),
        ] {
            let answer = ask(method, &target, body).await;
            assert!(answer.status.is_server_error(), "{target}: {}", answer.text);
        }
    }
}

/// The errors that a service without authentication gives.
async fn errors_of_an_open_service(described: &Described, app: &TestApp) {
    let groups = &format!("{NAMESPACE}/groups");
    app.group_of("live", MINUTE, &["s"]).await;
    app.beat("live", "s", 100.0).await;
    let long = "x".repeat(261);
    let refused = [
        (400, Method::GET, format!("{groups}?skip=-1"), None),
        (400, Method::GET, "/api/v1/clientfailover/audit?action=group_blessed".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/audit?before=1&after=1".to_owned(), None),
        (400, Method::POST, groups.clone(), Some(json!({"Milliseconds": 1}))),
        (400, Method::GET, format!("{groups}/{long}"), None),
        (400, Method::PUT, format!("{groups}/g"), Some(json!({"Id": "other"}))),
        (400, Method::DELETE, format!("{groups}/g?force=perhaps"), None),
        (400, Method::POST, format!("{groups}/g/clientsessions"), Some(json!({"Id": "a/b"}))),
        (400, Method::POST, format!("{groups}/live/clientsessions/s"), Some(json!({"PercentHealthyStreams": 101}))),
        (400, Method::DELETE, format!("{groups}/g/clientsessions/{long}"), None),
        (400, Method::GET, format!("{groups}/g/transitions?since=yesterday"), None),
        (400, Method::GET, format!("{groups}/g/events?last-event-id=x"), None),
        (400, Method::GET, format!("{NAMESPACE}/events?last-event-id=x"), None),
        (400, Method::GET, "/api/v1/clientfailover/events?last-event-id=x".to_owned(), None),
        (400, Method::GET, format!("{groups}/{long}/status"), None),
        (400, Method::GET, format!("{NAMESPACE}/status?count=201"), None),
        (400, Method::GET, "/api/v1/clientfailover/status?at_risk=".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/status?risk=Boredom".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/status?sort=health".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/namespaces?skip=x".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/transitions?count=201".to_owned(), None),
        (400, Method::GET, "/api/v1/tenants/t/clientfailover/events?last-event-id=x".to_owned(), None),
        (400, Method::GET, "/api/v1/clientfailover/transitions?count=201".to_owned(), None),
        (400, Method::GET, format!("{groups}/{long}/lifetimes"), None),
        (400, Method::GET, format!("/api/v1/tenants/t/namespaces/{long}/clientfailover/histories"), None),
        (404, Method::GET, format!("{groups}/none"), None),
        (404, Method::DELETE, format!("{groups}/none"), None),
        (404, Method::GET, format!("{groups}/none/status"), None),
        (404, Method::GET, format!("{groups}/none/transitions"), None),
        (404, Method::GET, format!("{groups}/none/lifetimes"), None),
        (400, Method::GET, format!("{NAMESPACE}/transitions?count=201"), None),
        (400, Method::GET, format!("{NAMESPACE}/events?keep-alive=0"), None),
        (404, Method::POST, format!("{groups}/none/clientsessions"), Some(json!({}))),
        (404, Method::POST, format!("{groups}/live/clientsessions/none"), Some(json!({}))),
        (404, Method::DELETE, format!("{groups}/live/clientsessions/none"), None),
        (409, Method::POST, groups.clone(), Some(json!({"Id": "live", "Milliseconds": 1_000}))),
        (409, Method::DELETE, format!("{groups}/live"), None),
        (400, Method::GET, format!("{PREMISES}/groups?skip=-1"), None),
        (400, Method::GET, format!("{PREMISES}/groups/{long}"), None),
        (400, Method::GET, format!("{PREMISES}/groups/{long}/status"), None),
        (400, Method::PUT, format!("{PREMISES}/groups/g"), Some(json!({"Id": "other"}))),
        (400, Method::DELETE, format!("{PREMISES}/groups/g?force=perhaps"), None),
        (400, Method::GET, format!("{PREMISES}/groups/{long}/clientsessions"), None),
        (400, Method::POST, format!("{PREMISES}/groups/g/clientsessions"), Some(json!({"Id": "a?b"}))),
        (400, Method::GET, format!("{PREMISES}/groups/g/clientsessions/{long}"), None),
        (400, Method::DELETE, format!("{PREMISES}/groups/g/clientsessions/{long}"), None),
        (400, Method::POST, format!("{PREMISES}/groups/live/clientsessions/s"), Some(json!({"HeartbeatTime": 1}))),
        (404, Method::POST, format!("{PREMISES}/groups/live/clientsessions/none"), Some(json!({}))),
        (409, Method::POST, format!("{groups}/live/clientsessions"), Some(json!({"Id": "s", "Name": "other"}))),
    ];
    for (status, method, target, body) in refused {
        described.exchange(app, method, &target, body).await.expect_error(status);
    }
    let mut slow = Vec::new();
    for (method, target) in [
        (Method::POST, groups.clone()),
        (Method::PUT, format!("{groups}/g")),
        (Method::POST, format!("{groups}/live/clientsessions")),
        (Method::POST, format!("{groups}/live/clientsessions/s")),
        (Method::POST, format!("{groups}/live/clientsessions/s/heartbeat")),
        (Method::POST, format!("{groups}/live/switchover")),
        (Method::POST, format!("{groups}/live/clientsessions/s/wish")),
        (Method::POST, format!("{groups}/live/clientsessions/s/roleoverride")),
        (Method::POST, format!("{PREMISES}/groups/live/switchover")),
        (Method::POST, format!("{PREMISES}/groups/live/clientsessions/s/wish")),
        (Method::POST, format!("{PREMISES}/groups/live/clientsessions/s/roleoverride")),
        (Method::POST, format!("{PREMISES}/groups")),
        (Method::PUT, format!("{PREMISES}/groups/g")),
        (Method::POST, format!("{PREMISES}/groups/live/clientsessions")),
        (Method::POST, format!("{PREMISES}/groups/live/clientsessions/s")),
        (Method::POST, format!("{PREMISES}/groups/live/clientsessions/s/heartbeat")),
    ] {
        let large = Request::new(method.as_str(), &target).json(vec![b' '; 65 * 1024]);
        let other = Request::new(method.as_str(), &target).header("Content-Type", "text/plain").body("{}");
        for (status, answer) in [(413, large.send(app).await), (415, other.send(app).await)] {
            described.judge_answer(&method, &target, &answer);
            answer.expect_error(status);
        }
        let request = Request::new(method.as_str(), &target).json("{}").to_bytes();
        let mut connection = Connection::open(app).await;
        connection.write(&request[..request.len() - 1]).await;
        slow.push((method, target, connection));
    }
    // All at once: each is waited for as long as a body may take.
    for (method, target, mut connection) in slow {
        let answer = connection.read().await;
        described.judge_answer(&method, &target, &answer);
        answer.expect_error(408);
    }
}

/// What callers get who are not known, not allowed, or too many.
async fn errors_of_the_door(described: &Described) {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth =
        AuthOptions { api_keys: true, rate_limit: Some(10), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, key) = create_key(&database, "elsewhere", &["--tenant", "elsewhere", "--role", "viewer"]).await;
    let authorization = format!("Bearer {key}");
    for operation in described.operations() {
        if operation.value["security"] == json!([]) {
            continue;
        }
        let target = operation.path.replace(['{', '}'], "");
        let unknown = basic("nobody", "nothing");
        for headers in [vec![], vec![("authorization", unknown.as_str())]] {
            let method = operation.method.clone();
            let answer = described.exchange_with(&app.http, &app, method, &target, &headers, None).await;
            answer.expect_error(401);
        }
        let known = [("authorization", authorization.as_str())];
        eventually("both a refusal and a rate were met", async || {
            for _ in 0..15 {
                let method = operation.method.clone();
                described.exchange_with(&app.http, &app, method, &target, &known, None).await;
            }
            let seen = described.seen();
            // Who somebody is they are told whatever they may do.
            let refusals: &[u16] = if operation.id() == "getWhoami" { &[429] } else { &[403, 429] };
            refusals.iter().all(|status| seen.contains(&(operation.id().to_owned(), *status)))
        })
        .await;
    }
}

/// What is answered where the database lacks its tables, and where statements fail for a reason
/// that no waiting mends.
async fn errors_of_the_database(described: &Described) {
    for instead in ["", "CREATE VIEW {} AS SELECT * FROM {}_kept WHERE 1 / 0 = 0 WITH CHECK OPTION"] {
        let app = TestApp::start_with(|settings| settings.store.operation_timeout = Duration::from_millis(500)).await;
        app.group_of("g", MINUTE, &["s"]).await;
        for table in ["groups", "sessions", "heartbeats", "role_transitions"] {
            let spoil = format!("ALTER TABLE {table} RENAME TO {table}_kept; {}", instead.replace("{}", table));
            app.database.execute(&spoil).await;
        }
        for operation in described.operations().iter().filter(|it| it.statuses().any(|status| status == 500)) {
            // A stream that was open already would go on; the table of histories is whole, without
            // which nothing is decided at all; that of the audit trail is whole too; and keys are
            // handed out where they are taken, see `keys`.
            let others = ["/events", "/histories", "/audit"];
            if others.iter().any(|end| operation.path.ends_with(end)) || operation.path.contains("/keys") {
                continue;
            }
            let target = operation.path.replace("{groupid}", "g").replace("{sessionId}", "s");
            let target = target.replace("{tenantId}", "t").replace("{namespaceId}", "n");
            let body = operation.value["requestBody"]
                .is_object()
                .then(|| json!({"FailoverScore": 1, "Wish": "Forced", "Value": 1}));
            let answer = described.exchange(&app, operation.method.clone(), &target, body).await;
            assert!(answer.status.is_server_error(), "{}: {}", operation.id(), answer.text);
        }
    }
}

/// What is answered where more is asked for than there is room for, and where the service is not
/// ready.
async fn errors_of_a_service_that_cannot(described: &Described) {
    let app = TestApp::start_with(|settings| {
        settings.failover.events.max_streams = 0;
        settings.failover.group_limit = Some(1);
    })
    .await;
    app.group_of("g", MINUTE, &[]).await;
    let one_more = format!("{NAMESPACE}/groups/one-more");
    described.exchange(&app, Method::PUT, &one_more, Some(json!({}))).await.expect_error(409);
    for path in [
        &format!("{NAMESPACE}/events"),
        &format!("{NAMESPACE}/groups/g/events"),
        "/api/v1/tenants/t/clientfailover/events",
        "/api/v1/clientfailover/events",
    ] {
        described.exchange(&app, Method::GET, path, None).await.expect_error(503);
    }
    let database = TestDatabase::empty().await;
    let mut unmigrated = settings(database.connect_options());
    unmigrated.migrate = false;
    let app = TestReplica::start(unmigrated).await;
    for path in ["/health/ready", "/api/v1/clientfailover/histories", &format!("{NAMESPACE}/histories")] {
        described.exchange(&app, Method::GET, path, None).await.expect_error(503);
    }
}

#[tokio::test]
async fn what_a_running_service_answers_is_described() {
    let app = TestApp::start().await;
    let described = Described::of(&app).await;
    everything_that_succeeds(&described, &app).await;
    streams(&described, &app).await;
    keys(&described).await;
    issuer(&described, &app).await;
    let mut not_seen = Vec::new();
    for operation in described.operations() {
        for status in operation.statuses().filter(|status| (200..300).contains(status)) {
            if !described.seen().contains(&(operation.id().to_owned(), status)) {
                not_seen.push(format!("{} {status}", operation.id()));
            }
        }
    }
    assert_eq!(not_seen, Vec::<String>::new());
    errors_of_an_open_service(&described, &app).await;
    errors_of_the_door(&described).await;
    errors_of_the_database(&described).await;
    errors_of_a_service_that_cannot(&described).await;
    let seen = described.seen();
    let all = described.operations().into_iter();
    let all = all.flat_map(|it| it.statuses().map(|status| (it.id().to_owned(), status)).collect::<Vec<_>>());
    let (met, not_met): (Vec<_>, Vec<_>) = all.partition(|it| seen.contains(it));
    assert!(met.len() > 9 * not_met.len(), "{not_met:?}");
    println!("{} of {} described answers were met", met.len(), met.len() + not_met.len());
    println!("not met: {not_met:?}");
}

/// Bodies are read by hand, and their schemas are written by hand: both must say the same of
/// whatever comes.
#[tokio::test]
async fn the_service_takes_the_bodies_that_the_description_takes_and_no_others() {
    let app = TestApp::start().await;
    let described = Described::of(&app).await;
    app.group_of("g", MINUTE, &["s"]).await;
    let mut verdicts = [0, 0];
    let mut judge = async |name: &str, method: Method, below: &str, body: Value| {
        let is_taken = app.send(method, below, Some(body.clone())).await.status == 200;
        let wrong = described.wrong(&json!({"$ref": format!("#/components/schemas/{name}")}), &body);
        assert_eq!(is_taken, wrong.is_none(), "{name} {body}: {}", wrong.unwrap_or_default());
        verdicts[usize::from(is_taken)] += 1;
    };
    let texts = ["", "N", "é漢😀", "\u{1}\n", "\u{0}", "a\u{0}b"].map(Value::from);
    let long = |length: usize| json!("é".repeat(length));
    let names = texts.into_iter().chain([json!(null), json!(1), json!(["N"]), long(260), long(261)]);
    for name in names {
        judge("GroupConfiguration", Method::PUT, "/g", json!({"Name": name})).await;
        judge("GroupConfiguration", Method::PUT, "/g", json!({"Description": name})).await;
        app.delete("/g/clientsessions/named").await;
        let body = json!({"Id": "named", "Name": name});
        judge("ClientSessionRegistration", Method::POST, "/g/clientsessions", body).await;
    }
    judge("GroupConfiguration", Method::PUT, "/g", json!({"Description": long(4_096)})).await;
    judge("GroupConfiguration", Method::PUT, "/g", json!({"Description": long(4_097)})).await;
    let spans = "0:01:00 00:01:00 00:01 1.00:00:00 1.0:00 1.00:00:00.0 1.00:00:00.1 1.00:00:01 1.00:01 2.00:00:00 24:00:00 23:59:59.9999999 \
        00:00:00 0:00 0.00:00:00 00000000.00:00 000000000.00:00 00000001.00:00:00 00:00:00.1 00:00:00.0999999 00:00:00.09 00:00:00.10 00:00:00.01 \
        00:00:00.0000000 0.00:00:00.05 00:00:00.00000001 00:00:01.0000001 00:00:01.12345678 60 1:2 1:2:3 00:60:00 00:00:60 -00:01:00 00:01:00. PT1M \
        1.2.00:00:00 000:01:00 00:01:00:00 00:00:+1 a0:01:00 .00:01:00 1.00 00:\u{ff10}1:00";
    for span in spans.split(' ').chain(["", " 00:01:00", "00:01:00 ", "00:01:00\n"]) {
        judge("GroupConfiguration", Method::PUT, "/g", json!({"FailoverTimeout": span})).await;
    }
    judge("GroupConfiguration", Method::PUT, "/g", json!({"FailoverTimeout": null})).await;
    judge("GroupConfiguration", Method::PUT, "/g", json!({"FailoverTimeout": 60})).await;
    let numbers = ["0", "-0.0", "100", "99.999", "100.0001", "86400000", "86400000.1", "1e3", "-1", "0.5", "1e300"];
    let numbers = numbers.map(|text| serde_json::from_str::<Value>(text).expect("a number"));
    for number in numbers.into_iter().chain([json!(null), json!("1000"), json!(true), json!({})]) {
        judge("GroupConfiguration", Method::PUT, "/g", json!({"Milliseconds": number})).await;
    }
    for body in [json!({}), json!({"Else": 1}), json!([]), json!(null), json!("g"), json!(1)] {
        judge("GroupConfiguration", Method::PUT, "/g", body).await;
    }

    let ids = "a . .. ... a. .a ..a a/b a\\b é 漢 😀 \u{7f} a\u{85}b \u{2028}a %2F a%20b";
    let spaced =
        ["", " ", " a", "a ", "a b", "a  b", ". .", "a\u{a0}", "\u{3000}a", "a\u{a0}b", "a\tb", "a\n", "..\n", "\u{0}"];
    for id in ids.split(' ').chain(spaced).map(Value::from).chain([long(260), long(261), json!(null), json!(7)]) {
        judge("ClientSessionRegistration", Method::POST, "/g/clientsessions", json!({"Id": id})).await;
        judge("GroupConfiguration", Method::POST, "", json!({"Id": id})).await;
    }

    let percents = [
        "0",
        "100",
        "99.9999999999999999999999",
        "100.00000000000001",
        "100.000001",
        "100.1",
        "-1",
        "1e1",
        "1e3",
        "5e-1",
        "\"50\"",
        "null",
        "true",
        "{}",
    ];
    for percent in percents {
        let body: Value = serde_json::from_str(&format!("{{\"PercentHealthyStreams\": {percent}}}")).expect("JSON");
        judge("FailoverHeartbeat", Method::POST, "/g/clientsessions/s", body).await;
    }
    let times = "2019-08-24T14:15:22Z 2019-08-24T14:15:22.123456789Z 2019-08-24t14:15:22z 2019-08-24T14:15:22+02:00 2019-08-24T14:15:22-23:59 \
        0001-01-01T00:00:00Z 2016-12-31T23:59:60Z 2019-02-29T00:00:00Z 2019-08-24T24:00:00Z 2019-08-24T14:15:22+24:00 2019-08-24 yesterday 2019-8-24T14:15:22Z";
    for time in times.split_whitespace().chain([""]) {
        for name in ["HeartbeatTime", "LastDataSendTime"] {
            judge("FailoverHeartbeat", Method::POST, "/g/clientsessions/s", json!({name: time})).await;
        }
    }
    judge("FailoverHeartbeat", Method::POST, "/g/clientsessions/s", json!({"HeartbeatTime": null})).await;
    judge("FailoverHeartbeat", Method::POST, "/g/clientsessions/s", json!({"LastDataSendTime": 0})).await;
    let [refused, taken] = verdicts;
    println!("{taken} bodies were taken and {refused} refused, by the service as by the description");
    assert!(taken > 50 && refused > 50);
}

/// One of the files that the page loads.
async fn docs_file(app: &TestApp, path: &str) -> reqwest::Response {
    let response = app.http.get(format!("{}{path}", app.url)).send().await.expect("it answers");
    assert_eq!(response.status(), 200, "{path}");
    response
}

#[tokio::test]
async fn the_page_to_try_it_comes_whole_unchanged_and_to_anybody() {
    let database = TestDatabase::new().await;
    let mut closed = settings(database.connect_options());
    closed.auth = AuthOptions { api_keys: true, ..AuthOptions::default() };
    let app = TestApp { replica: TestReplica::start(closed).await, database };
    const README: &str = include_str!("../../src/http/docs/swagger-ui/README.md");
    for path in ["/docs", "/docs/", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"] {
        let response = docs_file(&app, path).await;
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(headers.contains_key("operation-id"));
        let body = response.bytes().await.expect("it is whole");
        if let Some(file) = path.strip_prefix("/docs/").filter(|file| file.starts_with("swagger-ui")) {
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
            let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(README.contains(&format!("{sum}  {file}")), "{file} is {sum}");
        }
    }
    Answer::of(app.http.get(format!("{}/docs/else", app.url))).await.expect_error(404);
    Answer::of(app.http.post(format!("{}/docs", app.url))).await.expect_error(405);
    docs_file(&app, "/openapi.json").await;
    app.get("").await.expect_error(401);
}

#[needs("chromium")]
#[tokio::test]
async fn the_page_to_try_it_shows_every_operation_in_a_browser_without_anything_from_elsewhere() {
    let app = TestApp::start().await;
    let described = Described::of(&app).await;
    let dir = crate::support::credentials::new_dir();
    let mut command = tokio::process::Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        // Every other name leads nowhere.
        .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", dir.display()))
        .arg(format!("{}/docs", app.url))
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(90), command.output()).await.expect("it ends in time");
    let output = output.expect("it starts");
    let (page, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for operation in described.operations() {
        assert!(page.contains(&format!("-{}\"", operation.id())), "{} is not shown: {log}", operation.id());
    }
    let said: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert_eq!(said, Vec::<&str>::new());
}
