//! Keys: made, listed and revoked by HTTP and from the command line; how long they are good; and
//! for which groups.

use std::time::Duration;

use client_failover::access::AuthOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::credentials::create_key;
use crate::support::helpers::{Answer, TestDatabase, TestReplica, eventually, settings};
use crate::support::program::{program, run};
use crate::support::sse::{EventStream, NAMESPACE_EVENTS};

const TENANT_KEYS: &str = "/api/v1/tenants/t/clientfailover/keys";
const ALL_KEYS: &str = "/api/v1/clientfailover/keys";

const DAY_S: i64 = 86_400;

/// A replica that takes keys, and nothing else.
async fn replica(database: &TestDatabase) -> TestReplica {
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    settings.failover.bind_sessions = true;
    TestReplica::start(settings).await
}

async fn ask(app: &TestReplica, key: &str, method: Method, path: &str, body: Value) -> Answer {
    let request = app.http.request(method, format!("{}{path}", app.url)).bearer_auth(key);
    Answer::of(if body.is_null() { request } else { request.json(&body) }).await
}

fn group(below: &str) -> String {
    format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups{below}")
}

async fn listed(app: &TestReplica, key: &str, path: &str) -> Vec<i64> {
    let keys = ask(app, key, Method::GET, path, Value::Null).await.expect_ok();
    keys.as_array().expect("a list").iter().map(|key| key["Key"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn an_admin_makes_lists_and_revokes_the_keys_of_his_tenant_and_no_others() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    let (admin_number, admin) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let (foreign_number, foreign) = create_key(&database, "else", &["--tenant", "u", "--role", "admin"]).await;
    let (root_number, root) = create_key(&database, "root", &["--tenant", "*", "--role", "admin"]).await;

    let wanted = json!({"name": "adapter", "Role": "client", "Namespaces": ["n"], "ValidFor": "30.00:00:00"});
    let made = ask(&app, &admin, Method::POST, TENANT_KEYS, wanted).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.expect_ok();
    let (number, secret) = (made["Key"].as_i64().expect("a number"), made["Secret"].as_str().expect("a text"));
    ask(&app, secret, Method::PUT, &group("/g"), json!({})).await.expect_ok();
    ask(&app, secret, Method::GET, TENANT_KEYS, Value::Null).await.expect_error(403);

    assert_eq!(listed(&app, &admin, TENANT_KEYS).await, [admin_number, number]);
    assert_eq!(listed(&app, &foreign, "/api/v1/tenants/u/clientfailover/keys").await, [foreign_number]);
    assert_eq!(listed(&app, &root, ALL_KEYS).await, [admin_number, foreign_number, root_number, number]);
    assert_eq!(listed(&app, &root, &format!("{ALL_KEYS}?skip=1&count=2")).await, [foreign_number, root_number]);
    let list = ask(&app, &admin, Method::GET, TENANT_KEYS, Value::Null).await;
    assert_eq!(list.header("total-count"), "2");
    assert!(!list.text.contains("cfk_"), "no secret is shown again: {}", list.text);
    assert_eq!(list.body[1]["Namespaces"], json!(["n"]));
    let left = list.body[1]["ValidForSeconds"].as_i64().expect("it ends");
    assert!((30 * DAY_S - 600..=30 * DAY_S).contains(&left), "{left}");

    // Nothing beyond the tenant, and nothing that makes no sense.
    for (key, path) in [(&admin, ALL_KEYS), (&foreign, TENANT_KEYS)] {
        ask(&app, key, Method::GET, path, Value::Null).await.expect_error(403);
        ask(&app, key, Method::POST, path, json!({"Name": "x", "TenantId": "t", "Role": "client"}))
            .await
            .expect_error(403);
        ask(&app, key, Method::DELETE, &format!("{path}/{number}"), Value::Null).await.expect_error(403);
    }
    for (body, named) in [
        (json!({"Role": "client"}), "Name"),
        (json!({"Name": "x"}), "Role"),
        (json!({"Name": "x", "Role": "king"}), "Role"),
        (json!({"Name": "x", "Role": "client", "TenantId": "u"}), "TenantId"),
        (json!({"Name": "x", "Role": "client", "Namespaces": []}), "amespaces"),
        (json!({"Name": "x", "Role": "client", "Groups": ["a/b"]}), "slash"),
        (json!({"Name": "x", "Role": "client", "ValidFor": "soon"}), "ValidFor"),
        (json!({"Name": "x", "Role": "client", "ValidFor": "00:00:00"}), "36500"),
        (json!({"Name": "x", "Role": "client", "Overlap": "01:00:00"}), "Overlap"),
    ] {
        let reason = ask(&app, &admin, Method::POST, TENANT_KEYS, body.clone()).await.expect_error(400);
        assert!(reason.contains(named), "{body}: {reason}");
    }
    // The metrics are of all tenants, so only who may hand out keys for all of them gives that
    // role.
    ask(&app, &admin, Method::POST, TENANT_KEYS, json!({"Name": "p", "Role": "metrics"})).await.expect_error(400);
    let prometheus = json!({"Name": "p", "Role": "metrics", "TenantId": "*"});
    let prometheus = ask(&app, &root, Method::POST, ALL_KEYS, prometheus).await.expect_ok();
    let prometheus = prometheus["Secret"].as_str().expect("a text");
    assert_eq!(ask(&app, prometheus, Method::GET, "/metrics", Value::Null).await.status, 200);
    ask(&app, prometheus, Method::GET, &group(""), Value::Null).await.expect_error(403);

    // The keys of others are not there.
    for other in [foreign_number, root_number, 999_999] {
        ask(&app, &admin, Method::DELETE, &format!("{TENANT_KEYS}/{other}"), Value::Null).await.expect_error(404);
    }
    let revoked = ask(&app, &admin, Method::DELETE, &format!("{TENANT_KEYS}/{number}"), Value::Null).await.expect_ok();
    assert_eq!(revoked, json!(number));
    ask(&app, &admin, Method::DELETE, &format!("{TENANT_KEYS}/{number}"), Value::Null).await.expect_error(404);
    eventually("the key is refused", async || {
        ask(&app, secret, Method::GET, &group("/g"), Value::Null).await.status == 401
    })
    .await;

    let audit = database
        .rows(&format!(
            "SELECT * FROM audit_log WHERE identity = 'key:{admin_number}:boss' AND action <> 'request_refused'"
        ))
        .await;
    let actions: Vec<&str> = audit.iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(actions, ["key_created", "key_revoked"]);
    assert_eq!(audit[0]["after"]["Name"], "adapter");
    assert!(!format!("{audit:?}").contains("cfk_"));
}

#[tokio::test]
async fn an_admin_of_a_part_of_a_tenant_hands_out_nothing() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    for part in [["--namespace", "n"], ["--group", "line-*"]] {
        let grant = [&["--tenant", "t", "--role", "admin"][..], &part].concat();
        let (_, key) = create_key(&database, "part", &grant).await;
        ask(&app, &key, Method::GET, TENANT_KEYS, Value::Null).await.expect_error(403);
        ask(&app, &key, Method::POST, TENANT_KEYS, json!({"Name": "x", "Role": "viewer"})).await.expect_error(403);
    }
    // They are known, so it is in the audit trail.
    let refused =
        "SELECT tenant_id AS tenant, identity, after FROM audit_log WHERE action = 'request_refused' ORDER BY audit_id";
    eventually("each is recorded", async || database.rows(refused).await.len() == 4).await;
    let first = &database.rows(refused).await[0];
    assert_eq!(first["tenant"], "t");
    assert_eq!(first["after"]["Request"], format!("GET {TENANT_KEYS}"));
    assert!(first["identity"].as_str().is_some_and(|who| who.starts_with("key:")), "{first}");
    assert!(first["after"]["Reason"].as_str().is_some_and(|why| why.contains("admin")), "{first}");
}

#[tokio::test]
async fn a_service_that_takes_no_keys_hands_out_none() {
    let database = TestDatabase::new().await;
    let app = TestReplica::start(settings(database.connect_options())).await;
    let (number, _) = create_key(&database, "k", &["--tenant", "t", "--role", "admin"]).await;
    for path in [TENANT_KEYS, ALL_KEYS] {
        let wanted = json!({"Name": "x", "TenantId": "t", "Role": "admin"});
        let reason = Answer::of(app.http.post(format!("{}{path}", app.url)).json(&wanted)).await.expect_error(403);
        assert!(reason.contains("api-key"), "{reason}");
        Answer::of(app.http.get(format!("{}{path}", app.url))).await.expect_error(403);
        Answer::of(app.http.delete(format!("{}{path}/{number}", app.url))).await.expect_error(403);
    }
    assert_eq!(
        database.rows("SELECT count(*) AS keys FROM api_keys WHERE revoked_at IS NULL").await,
        [json!({"keys": 1})]
    );
}

#[tokio::test]
async fn a_key_ends_within_a_year_unless_somebody_says_otherwise() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    let client = ["--tenant", "t", "--role", "client"];
    create_key(&database, "usual", &client).await;
    create_key(&database, "lasting", &[&client[..], &["--expires", "never"]].concat()).await;
    create_key(&database, "quarter", &[&client[..], &["--expires", "90days"]].concat()).await;
    create_key(&database, "as-before", &[&client[..], &["--expires-in", "10days"]].concat()).await;
    let (_, short) = create_key(&database, "short", &[&client[..], &["--expires", "4s"]].concat()).await;
    let made = std::time::Instant::now();
    let days = "SELECT name, round(extract(epoch FROM expires_at - created_at) / 86400)::int AS days FROM api_keys
        WHERE name <> 'short' ORDER BY key_id";
    assert_eq!(
        database.rows(days).await,
        [
            json!({"name": "usual", "days": 365}),
            json!({"name": "lasting", "days": null}),
            json!({"name": "quarter", "days": 90}),
            json!({"name": "as-before", "days": 10}),
        ]
    );
    let mut list = program();
    list.args(["keys", "list"]).env("DATABASE_URL", database.url());
    let table = run(list).await.ok();
    let line = |name: &str| table.lines().find(|line| line.contains(name)).expect("it is listed").to_owned();
    assert!(line("lasting").contains(" never ") && line("lasting").trim_end().ends_with("valid"), "{table}");
    assert!(line("as-before").trim_end().ends_with("ends in 9days"), "{table}");
    assert!(line("usual").trim_end().ends_with("valid"), "{table}");

    if made.elapsed() < Duration::from_secs(3) {
        ask(&app, &short, Method::PUT, &group("/g"), json!({})).await.expect_ok();
    }
    eventually("the key is refused once its time is over", async || {
        ask(&app, &short, Method::GET, &group("/g"), Value::Null).await.status == 401
    })
    .await;
    assert!(made.elapsed() >= Duration::from_secs(3), "and not before");

    // Whose last key ends next is shown, one who has another left aside.
    let (number, old) = create_key(&database, "rotated", &[&client[..], &["--expires", "2days"]].concat()).await;
    create_key(&database, "rotated", &[&client[..], &["--replaces", &number.to_string()]].concat()).await;
    let (_, viewer) = create_key(&database, "metrics", &["--role", "metrics"]).await;
    ask(&app, &old, Method::GET, &group("/g"), Value::Null).await;
    eventually("the next end is that of the key of ten days", async || {
        let text = ask(&app, &viewer, Method::GET, "/metrics", Value::Null).await.text;
        let left = text.lines().find_map(|line| line.strip_prefix("client_failover_api_key_next_end_seconds "));
        let left: i64 = left.and_then(|left| left.parse().ok()).unwrap_or_default();
        // Other replicas of the test run are in this process and tell of theirs.
        (9 * DAY_S..=10 * DAY_S).contains(&left)
    })
    .await;
}

#[tokio::test]
async fn a_replaced_key_goes_on_for_the_overlap_and_then_ends_while_its_sessions_go_on() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    let (_, admin) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let client = ["--tenant", "t", "--role", "client"];
    let (first_number, first) = create_key(&database, "adapter", &client).await;
    ask(&app, &first, Method::PUT, &group("/g"), json!({"Milliseconds": 60_000})).await.expect_ok();
    ask(&app, &first, Method::POST, &group("/g/clientsessions"), json!({"Id": "a"})).await.expect_ok();
    let beat = async |key: &str| {
        ask(&app, key, Method::POST, &group("/g/clientsessions/a"), json!({"PercentHealthyStreams": 100})).await
    };
    assert_eq!(beat(&first).await.expect_ok()["Role"], 1);

    let number = first_number.to_string();
    let (_, second) =
        create_key(&database, "adapter", &[&client[..], &["--replaces", &number, "--overlap", "5s"]].concat()).await;
    let replaced_at = std::time::Instant::now();
    assert_eq!(beat(&second).await.expect_ok()["Role"], 1);
    if replaced_at.elapsed() < Duration::from_secs(4) {
        assert_eq!(beat(&first).await.expect_ok()["Role"], 1, "both are good meanwhile");
    }
    eventually("the first has ended", async || beat(&first).await.status == 401).await;
    assert!(replaced_at.elapsed() > Duration::from_secs(4), "{:?}", replaced_at.elapsed());
    assert_eq!(beat(&second).await.expect_ok()["Role"], 1, "the session goes on, in its role");

    // By HTTP, and along the chain. An overlap never lengthens a life.
    let keys = ask(&app, &admin, Method::GET, TENANT_KEYS, Value::Null).await.expect_ok();
    let of = |name: &str| keys.as_array().expect("a list").iter().rfind(|key| key["Name"] == name).cloned();
    let second_number = of("adapter").expect("it is there")["Key"].clone();
    let wanted = json!({"Name": "adapter", "Role": "client", "Replaces": second_number, "Overlap": "1.00:00:00"});
    let made = ask(&app, &admin, Method::POST, TENANT_KEYS, wanted).await.expect_ok();
    assert!(made["ReplacedExpiresAt"].is_string(), "{made}");
    let third = made["Secret"].as_str().expect("a text");
    assert_eq!(beat(third).await.expect_ok()["Role"], 1);
    let ends = "SELECT round(extract(epoch FROM expires_at - created_at) / 3600)::int AS hours FROM api_keys
        WHERE name = 'adapter' ORDER BY key_id";
    assert_eq!(database.rows(ends).await, [json!({"hours": 0}), json!({"hours": 24}), json!({"hours": 8_760})]);
    // Another tenant's key is none to be replaced.
    let (foreign, _) = create_key(&database, "else", &["--tenant", "u", "--role", "client"]).await;
    let wanted = json!({"Name": "thief", "Role": "client", "Replaces": foreign});
    ask(&app, &admin, Method::POST, TENANT_KEYS, wanted).await.expect_error(404);
}

#[tokio::test]
async fn a_grant_for_some_groups_shows_and_changes_these_alone() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    let (_, admin) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let grant = ["--tenant", "t", "--namespace", "n", "--group", "line-*", "--group", "50%_*", "--role", "client"];
    let (_, some) = create_key(&database, "some", &grant).await;
    for id in ["line-1", "line-2", "line", "pump", "50%25_x", "500_x"] {
        ask(&app, &admin, Method::PUT, &group(&format!("/{id}")), json!({"Milliseconds": 60_000})).await.expect_ok();
        ask(&app, &admin, Method::POST, &group(&format!("/{id}/clientsessions")), json!({"Id": "s"})).await.expect_ok();
        ask(&app, &admin, Method::POST, &group(&format!("/{id}/clientsessions/s")), json!({})).await.expect_ok();
    }
    let get = async |path: &str| ask(&app, &some, Method::GET, path, Value::Null).await;
    let ids = |list: &Value, name: &str| {
        let list = list.as_array().expect("a list").iter();
        let mut ids: Vec<String> = list.map(|one| one[name].as_str().expect("an id").to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    const GRANTED: [&str; 3] = ["50%_x", "line-1", "line-2"];

    let list = get(&group("")).await;
    assert_eq!(list.header("total-count"), "3");
    assert_eq!(ids(&list.expect_ok(), "Id"), GRANTED);
    assert_eq!(ids(&get(&group("?skip=1&count=1")).await.expect_ok(), "Id"), ["line-1"]);
    let status = get("/api/v1/tenants/t/namespaces/n/clientfailover/status").await.expect_ok();
    assert_eq!(ids(&status["Groups"], "GroupId"), GRANTED);
    assert_eq!((&status["Total"], &status["AtRisk"], &status["Counted"]), (&json!(3), &json!(3), &Value::Null));
    let found = get("/api/v1/tenants/t/namespaces/n/clientfailover/status?search=p&count=10").await.expect_ok();
    assert_eq!(found["Total"], 0, "what is not granted is not found either: {found}");
    let transitions = get("/api/v1/tenants/t/namespaces/n/clientfailover/transitions").await.expect_ok();
    assert_eq!(ids(&transitions, "GroupId"), GRANTED);

    // One group after the other, whether or not it is there.
    for (id, granted) in [("line-1", true), ("line-new", true), ("pump", false), ("valve", false), ("Line-1", false)] {
        for below in ["", "/status", "/transitions", "/lifetimes"] {
            let status = get(&group(&format!("/{id}{below}"))).await.status.as_u16();
            let expected = match (granted, id) {
                (false, _) => 403,
                (true, "line-1") => 200,
                (true, _) => 404,
            };
            assert_eq!(status, expected, "{id}{below}");
        }
        let put = ask(&app, &some, Method::PUT, &group(&format!("/{id}")), json!({"Milliseconds": 60_000})).await;
        assert_eq!(put.status == 200, granted, "{id}");
    }
    ask(&app, &some, Method::POST, &group("/pump/clientsessions"), json!({"Id": "x"})).await.expect_error(403);
    ask(&app, &some, Method::POST, &group("/line-1/clientsessions"), json!({"Id": "x"})).await.expect_ok();
    ask(&app, &some, Method::POST, &group("/line-1/clientsessions/x"), json!({})).await.expect_ok();
    ask(&app, &some, Method::DELETE, &group("/line-1"), Value::Null).await.expect_error(403);
    // A group whose Id is in the body.
    ask(&app, &some, Method::POST, &group(""), json!({"Id": "line-3"})).await.expect_ok();
    for body in [json!({"Id": "pump-2"}), json!({})] {
        ask(&app, &some, Method::POST, &group(""), body).await.expect_error(403);
    }
    // Elsewhere, and all of it at once.
    get("/api/v1/tenants/t/namespaces/m/clientfailover/groups").await.expect_error(403);
    get("/api/v1/clientfailover/status").await.expect_error(403);

    // Events: of before and of now.
    let http = reqwest::Client::builder()
        .default_headers(
            [(reqwest::header::AUTHORIZATION, format!("Bearer {some}").parse().expect("a value"))]
                .into_iter()
                .collect(),
        )
        .build()
        .expect("a client");
    let mut eyes = TestReplica::at(app.url.clone());
    eyes.http = http;
    let mut stream = EventStream::open(&eyes, NAMESPACE_EVENTS, Some(0)).await;
    ask(&app, &admin, Method::PUT, &group("/pump-9"), json!({})).await.expect_ok();
    ask(&app, &admin, Method::PUT, &group("/line-9"), json!({})).await.expect_ok();
    loop {
        let event = stream.next().await.expect("it goes on");
        let id = event.data["GroupId"].as_str().expect("a group").to_owned();
        assert!(id.starts_with("line-") || id == "50%_x", "{id}");
        if id == "line-9" {
            break;
        }
    }
    ask(&eyes_of(&app), &some, Method::GET, &group("/pump/events"), Value::Null).await.expect_error(403);

    // A version that knows nothing of groups in a grant takes the role for none.
    let role = database.rows("SELECT role FROM api_keys WHERE name = 'some'").await;
    assert_eq!(role, [json!({"role": "group-client"})]);
    let shown = database.rows("SELECT role, groups FROM api_key_status WHERE name = 'some'").await;
    assert_eq!(shown, [json!({"role": "client", "groups": ["50%_*", "line-*"]})]);
}

/// The same replica, asked by a client of its own.
fn eyes_of(app: &TestReplica) -> TestReplica {
    TestReplica::at(app.url.clone())
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_from_the_command_line_by_a_running_service() {
    let database = TestDatabase::new().await;
    let app = replica(&database).await;
    let (_, admin) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let called = async |key: &str, arguments: &[&str]| {
        let mut command = program();
        // What is set for other commands must not send this one elsewhere; nor does it need a
        // database.
        command.arg("keys").args(arguments).args(["--url", &app.url]).env("CLIENT_FAILOVER_TOKEN", key);
        tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let made = called(&admin, &["create", "seven", "--tenant", "t", "--role", "client", "--group", "line-*"]).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let (secret, note) = (text(&made.stdout).trim().to_owned(), text(&made.stderr));
    assert!(secret.starts_with("cfk_") && note.contains("It ends 20"), "{note}");
    ask(&app, &secret, Method::PUT, &group("/line-7"), json!({})).await.expect_ok();
    let list = called(&admin, &["list", "--tenant", "t"]).await;
    let table = text(&list.stdout);
    assert!(table.lines().any(|line| line.contains("seven") && line.contains("line-*")), "{table}");
    let list = called(&admin, &["list", "--tenant", "t", "-o", "json"]).await;
    let keys: Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let number = keys[1]["Key"].to_string();
    // Not all tenants', with a key of one; and with one of no admin not even that.
    assert_eq!(called(&admin, &["list"]).await.status.code(), Some(4));
    assert_eq!(called(&secret, &["list", "--tenant", "t"]).await.status.code(), Some(4));
    assert_eq!(called(&admin, &["revoke", "999999", "--tenant", "t"]).await.status.code(), Some(3));
    assert!(called(&admin, &["revoke", &number, "--tenant", "t"]).await.status.success());
    eventually("the key is refused", async || {
        ask(&app, &secret, Method::GET, &group("/line-7"), Value::Null).await.status == 401
    })
    .await;

    // Without the flag it is the database, whatever is set for other commands.
    let mut command = program();
    command
        .args(["keys", "list"])
        .env("DATABASE_URL", database.url())
        .env("CLIENT_FAILOVER_SERVER", "http://127.0.0.1:1");
    assert!(run(command).await.ok().contains("boss"));
}
