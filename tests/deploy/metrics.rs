//! The metrics: they move with what happens, their labels stay few, and Prometheus can read them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use client_failover_workshop::needs;
use serde_json::json;

use crate::support::helpers::{Answer, TestApp, TestDatabase, eventually};
use crate::support::program::{GROUP, Running, program};
use crate::support::sse::{EventStream, NAMESPACE_EVENTS};
use crate::support::wire::Connection;

const MINUTE: i64 = 60_000;

async fn scrape(app: &TestApp) -> String {
    let answer = app.http.get(format!("{}/metrics", app.url)).send().await.expect("it answers");
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.expect("it is whole")
}

/// Every sample by its name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("a sample has a value: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("a value is a number: {line}")))
    };
    let samples: BTreeMap<String, f64> = lines.map(sample).collect();
    let is_known = |name: &String| name.starts_with("client_failover_") || name.starts_with("process_");
    assert!(samples.keys().all(is_known), "{samples:?}");
    samples
}

/// All replicas of the test run are in this process and count together, so that a count has risen
/// by this or by more.
#[tokio::test]
async fn counters_move_with_what_happens() {
    let app = TestApp::start().await;
    let before = samples(&scrape(&app).await);
    app.group_of("g", MINUTE, &["a", "b"]).await;
    for _ in 0..5 {
        app.beat("g", "a", 100.0).await;
    }
    app.get("/none").await.expect_error(404);
    app.post("", json!({"Id": "g", "Milliseconds": MINUTE + 1})).await.expect_error(409);
    let stream = EventStream::open(&app, NAMESPACE_EVENTS, Some(0)).await;
    // In its own time, and not in the heartbeat's.
    eventually("the change of a role is read for those who listen", async || {
        let name = "client_failover_events_total";
        samples(&scrape(&app).await)[name] > before.get(name).copied().unwrap_or_default()
    })
    .await;
    let after = samples(&scrape(&app).await);
    for (name, rises_by) in [
        ("heartbeats_total", 5.0),
        ("heartbeat_batch_size_count", 5.0),
        ("role_changes_total{reason=\"first_heartbeat\"}", 1.0),
        ("transactions_total{transaction=\"heartbeats\",outcome=\"committed\"}", 5.0),
        ("transactions_total{transaction=\"put_group\",outcome=\"committed\"}", 1.0),
        ("transactions_total{transaction=\"create_group\",outcome=\"refused\"}", 1.0),
        ("transaction_duration_seconds_count{transaction=\"register_session\"}", 2.0),
        (
            "http_requests_total{route=\"groups/{groupid}/clientsessions/{sessionid}\",method=\"POST\",status=\"200\"}",
            5.0,
        ),
        ("http_requests_total{route=\"groups/{groupid}\",method=\"GET\",status=\"404\"}", 1.0),
        ("http_requests_total{route=\"groups/{groupid}\",method=\"PUT\",status=\"200\"}", 1.0),
        ("http_request_duration_seconds_count{route=\"groups/{groupid}\",method=\"PUT\"}", 1.0),
        ("http_requests_total{route=\"events\",method=\"GET\",status=\"200\"}", 1.0),
        ("events_total", 1.0),
    ] {
        let name = format!("client_failover_{name}");
        let was = before.get(&name).copied().unwrap_or_default();
        assert!(after[&name] >= was + rises_by, "{name}: {was}, then {}", after[&name]);
    }
    assert!(after["client_failover_event_streams"] >= 1.0);
    let version = format!("client_failover_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(after[&version], 1.0);
    // Of each pool: the heartbeat went over a connection of the writers', and the stream is fed by
    // those in the background.
    for (pool, most) in [("requests", 8.0), ("heartbeats", 5.0), ("upkeep", 4.0), ("background", 5.0)] {
        assert_eq!(after[&format!("client_failover_database_connections_max{{pool=\"{pool}\"}}")], most);
        let [idle, busy] = ["idle", "busy"]
            .map(|state| after[&format!("client_failover_database_connections{{pool=\"{pool}\",state=\"{state}\"}}")]);
        assert!((1.0..=most).contains(&(idle + busy)), "{pool}: {idle} idle, {busy} busy");
    }
    drop(stream);
    eventually("sweeps are counted", async || {
        let name = "client_failover_sweep_duration_seconds_count";
        samples(&scrape(&app).await)[name] > before[name]
    })
    .await;
}

#[tokio::test]
async fn every_status_is_counted_by_its_number() {
    let app = TestApp::start().await;
    let path = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";
    let before = samples(&scrape(&app).await);
    let slow = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{{");
    let too_long = format!("/{}", "x".repeat(20_000));
    let huge_head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for (bytes, status, label) in [
        // The first of these are refused with a route, the others before one is looked for.
        (slow, 408, "route=\"groups\",method=\"POST\""),
        (format!("GET {too_long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414, "route=\"other\",method=\"GET\""),
        (huge_head, 431, "route=\"other\",method=\"other\""),
        ("NONSENSE\r\n\r\n".to_owned(), 400, "route=\"other\",method=\"other\""),
    ] {
        let mut connection = Connection::open(&app).await;
        connection.write(bytes.as_bytes()).await;
        assert_eq!(connection.read().await.status, status);
        let name = format!("client_failover_http_requests_total{{{label},status=\"{status}\"}}");
        let after = samples(&scrape(&app).await);
        let count = |samples: &BTreeMap<String, f64>| samples.get(&name).copied().unwrap_or_default();
        assert!(count(&after) > count(&before), "{name}");
        assert!(!after.keys().any(|name| name.contains("status=\"other\"")), "{after:?}");
    }
}

/// What operators were promised, by name.
#[tokio::test]
async fn everything_that_is_to_be_measured_is_there() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    eventually("there was a census", async || scrape(&app).await.contains("client_failover_groups{")).await;
    let text = scrape(&app).await;
    for sample in [
        "http_requests_total{route=",
        "http_request_duration_seconds_bucket{route=",
        "heartbeats_total ",
        "heartbeat_batch_size_bucket{le=",
        "heartbeats_waiting ",
        "transaction_retries_total{transaction=\"heartbeats\"} ",
        "transactions_total{transaction=\"heartbeats\",outcome=\"committed\"} ",
        "transaction_duration_seconds_bucket{transaction=\"heartbeats\",le=",
        "database_connections{pool=\"heartbeats\",state=\"busy\"} ",
        "sweep_duration_seconds_bucket{le=",
        "sweep_failures_total ",
        "sign_of_life_age_seconds ",
        "role_changes_total{reason=\"lease_lapsed\"} ",
        "groups{primary=\"yes\"} ",
        "groups{primary=\"no\"} ",
        "groups_without_standby ",
        "sessions_live ",
        "sessions_registered ",
        "leases{age_up_to=\"0.25\"} ",
        "outages_total ",
        "events_listening ",
        "build_info{version=",
        "groups_at_risk ",
        "namespace_groups{tenant=\"/other\",namespace=\"/other\",primary=\"no\"} ",
        "namespace_groups_at_risk{tenant=\"/other\",namespace=\"/other\"} ",
        "namespace_groups_by_risk{tenant=\"/other\",namespace=\"/other\",risk=\"NoPrimary\"} ",
        "namespace_groups_without_live_session{tenant=\"/other\",namespace=\"/other\"} ",
        "namespace_sessions_live{tenant=\"/other\",namespace=\"/other\"} ",
        "namespace_role_changes_total{tenant=\"/other\",namespace=\"/other\"} ",
        "webhook_dead_letters_total ",
        "without_primary_seconds_bucket{cause=\"lapse\",le=\"0.01\"} ",
        "without_primary_seconds_bucket{cause=\"handover\",le=\"600\"} ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("client_failover_{sample}"))), "{sample}");
    }
}

/// The service as a process: what it counts is its own.
async fn serve(database: &TestDatabase, arguments: &[&str]) -> Running {
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).env("DATABASE_URL", database.url());
    let running = Running::start(command).await;
    let ready = format!("{}/health/ready", running.url);
    eventually("it is ready", async || running.http.get(&ready).send().await.is_ok_and(|ready| ready.status() == 200))
        .await;
    running
}

async fn scrape_process(running: &Running) -> BTreeMap<String, f64> {
    let answer = running.http.get(format!("{}/metrics", running.url)).send().await.expect("it answers");
    samples(&answer.text().await.expect("it is whole"))
}

/// What a family has in all, of the samples with that among their labels.
fn sum_of(samples: &BTreeMap<String, f64>, family: &str, label: &str) -> f64 {
    let of_family = samples.iter().filter(|(name, _)| name.split('{').next() == Some(family));
    of_family.filter(|(name, _)| name.contains(label)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn namespaces_are_named_up_to_a_bound_and_their_sum_is_the_whole() {
    let database = TestDatabase::new().await;
    let running = serve(&database, &["--metrics-namespaces", "2"]).await;
    // In "dark" somebody lives and nobody is Primary; "large" is large; "odd" has a quote.
    let post = async |path: String, body| {
        let (status, body) = running.ask(reqwest::Method::POST, &path, body).await;
        assert_eq!(status, 200, "{body}");
    };
    for (namespace, groups) in [("small", 1), ("odd\"", 2), ("large", 5), ("dark", 1)] {
        let namespace = namespace.replace('"', "%22");
        for group in 0..groups {
            let groups = format!("/api/v1/tenants/t/namespaces/{namespace}/clientfailover/groups");
            post(groups.clone(), json!({"Id": format!("g{group}"), "Milliseconds": MINUTE})).await;
            for session in ["a", "b"] {
                let sessions = format!("{groups}/g{group}/clientsessions");
                post(sessions.clone(), json!({"Id": session})).await;
                if namespace == "dark" {
                    let wish = format!("{sessions}/{session}/wish");
                    let (status, body) = running.ask(reqwest::Method::POST, &wish, json!({"Wish": "Excluded"})).await;
                    assert_eq!(status, 202, "{body}");
                }
                post(format!("{sessions}/{session}"), json!({"PercentHealthyStreams": 100})).await;
            }
        }
    }
    let mut found = BTreeMap::new();
    eventually("a census has counted them", async || {
        // Whoever looks has one taken.
        running.ask(reqwest::Method::GET, "/api/v1/clientfailover/status", json!(null)).await;
        found = scrape_process(&running).await;
        found.get("client_failover_sessions_live") == Some(&18.0)
    })
    .await;
    let namespaces: Vec<&str> =
        found.keys().filter_map(|name| name.strip_prefix("client_failover_namespace_sessions_live{tenant=")).collect();
    let expected = ["\"/other\",namespace=\"/other\"}", "\"t\",namespace=\"dark\"}", "\"t\",namespace=\"large\"}"];
    assert_eq!(namespaces, expected);
    let at = |name: &str| found[&format!("client_failover_{name}")];
    assert_eq!(at("namespace_groups{tenant=\"t\",namespace=\"dark\",primary=\"no\"}"), 1.0);
    assert_eq!(at("namespace_groups_by_risk{tenant=\"t\",namespace=\"dark\",risk=\"NoPrimary\"}"), 1.0);
    assert_eq!(at("namespace_groups{tenant=\"/other\",namespace=\"/other\",primary=\"yes\"}"), 3.0);
    for (family, label, whole) in [
        ("namespace_groups", "primary=\"yes\"", at("groups{primary=\"yes\"}")),
        ("namespace_groups", "primary=\"no\"", at("groups{primary=\"no\"}")),
        ("namespace_groups_at_risk", "", at("groups_at_risk")),
        ("namespace_groups_without_live_session", "", at("groups_without_live_session")),
        ("namespace_groups_by_risk", "risk=\"NoStandby\"", at("groups_without_standby")),
        ("namespace_sessions_live", "", 18.0),
        ("namespace_sessions_registered", "", at("sessions_registered")),
        ("namespace_role_changes_total", "", sum_of(&found, "client_failover_role_changes_total", "")),
    ] {
        assert_eq!(sum_of(&found, &format!("client_failover_{family}"), label), whole, "{family} {label}");
    }
}

#[tokio::test]
async fn a_time_without_a_primary_is_observed_once_whichever_replica_ends_it() {
    let database = TestDatabase::new().await;
    let replicas = [serve(&database, &[]).await, serve(&database, &[]).await];
    let put = replicas[0].ask(reqwest::Method::PUT, GROUP, json!({"Milliseconds": 300})).await;
    assert_eq!(put.0, 200, "{}", put.1);
    for session in ["a", "b"] {
        let path = format!("{GROUP}/clientsessions");
        assert_eq!(replicas[0].ask(reqwest::Method::POST, &path, json!({"Id": session})).await.0, 200);
    }
    assert_eq!(replicas[0].beat("a").await, 1);
    let lapsed = "SELECT 1 FROM role_transitions WHERE reason = 'lease_lapsed'";
    eventually("the lease runs out", async || !database.rows(lapsed).await.is_empty()).await;
    // Nobody else is to lapse, however busy the machine is.
    let longer = replicas[1].ask(reqwest::Method::PUT, GROUP, json!({"Milliseconds": 600_000})).await;
    assert_eq!(longer.0, 200, "{}", longer.1);
    assert_eq!(replicas[1].beat("b").await, 1);
    // And one that begins otherwise: the Primary is deleted.
    assert_eq!(
        replicas[1].ask(reqwest::Method::DELETE, &format!("{GROUP}/clientsessions/b"), json!(null)).await.0,
        200
    );
    eventually("the other takes over", async || replicas[0].beat("a").await == 1).await;
    let family = "client_failover_without_primary_seconds_count";
    let mut found = Vec::new();
    eventually("both are observed", async || {
        found = vec![scrape_process(&replicas[0]).await, scrape_process(&replicas[1]).await];
        found.iter().map(|samples| sum_of(samples, family, "")).sum::<f64>() >= 2.0
    })
    .await;
    let count = |replica: usize, cause: &str| sum_of(&found[replica], family, &format!("cause=\"{cause}\""));
    let counts = [count(0, "lapse"), count(0, "deletion"), count(1, "lapse"), count(1, "deletion")];
    assert_eq!(counts, [0.0, 1.0, 1.0, 0.0], "by whoever committed the grant");
    // As long as the rows say.
    let seconds = "SELECT extract(epoch FROM max(recorded_at) FILTER (WHERE reason = 'lease_lapsed' AND to_role = 1)
            - max(recorded_at) FILTER (WHERE reason = 'lease_lapsed' AND to_role = 0))::float8 AS seconds FROM role_transitions";
    let seconds = database.rows(seconds).await[0]["seconds"].as_f64().expect("a number");
    let observed = found[1]["client_failover_without_primary_seconds_sum{cause=\"lapse\"}"];
    assert!(seconds > 0.0 && (observed - seconds).abs() < 1e-5, "{observed} and {seconds}");
}

#[tokio::test]
async fn what_the_process_uses_is_shown() {
    let app = TestApp::start().await;
    let found = samples(&scrape(&app).await);
    let at = |name: &str| found[&format!("process_{name}")];
    assert!(at("cpu_seconds_total") > 0.0 && at("open_fds") > 3.0 && at("max_fds") >= at("open_fds"), "{found:?}");
    assert!(at("resident_memory_bytes") > 1e6 && at("virtual_memory_bytes") > at("resident_memory_bytes"));
    #[expect(clippy::disallowed_methods)]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later").as_secs_f64();
    let age = now - at("start_time_seconds");
    assert!((-2.0..7_200.0).contains(&age), "{age}");
}

#[tokio::test]
async fn labels_do_not_grow_with_groups_sessions_or_paths() {
    let app = TestApp::start().await;
    for number in 0..30 {
        app.group_of(&format!("wild-{number}"), MINUTE, &["tame"]).await;
        app.beat(&format!("wild-{number}"), "tame", 100.0).await;
        let elsewhere = format!("{}/wild-{number}/wild", app.url);
        Answer::of(app.http.get(elsewhere)).await.expect_error(404);
        let odd = reqwest::Method::from_bytes(format!("WILD{number}").as_bytes()).expect("a method");
        app.send(odd, "/g", None).await;
    }
    let text = scrape(&app).await;
    assert!(!text.to_lowercase().contains("wild") && !text.contains("tame"), "{text}");
    // Other tests of this process have made some of them, with every status that they were told.
    assert!(text.lines().count() < 4_000, "{} lines", text.lines().count());
}

#[tokio::test]
async fn groups_and_sessions_are_counted_as_they_are() {
    use client_failover::failover::census;
    let app = TestApp::start().await;
    app.group_of("both", MINUTE, &["a", "b"]).await;
    app.group_of("one", MINUTE, &["a", "b"]).await;
    app.group_of("none", MINUTE, &["a"]).await;
    for (group, session) in [("both", "a"), ("both", "b"), ("one", "a")] {
        app.beat(group, session, 100.0).await;
    }
    let store =
        client_failover::store::Store::open(app.database.connect_options(), crate::support::helpers::store_options());
    let counted = census::take(&store).await.expect("it counts").counted;
    store.close().await;
    assert_eq!((counted.groups, counted.groups_with_primary), (3, 2));
    assert_eq!((counted.groups_without_standby, counted.groups_without_live_session), (1, 1));
    assert_eq!((counted.sessions, counted.live_sessions), (5, 3));
    assert_eq!(counted.lease_ages, [3, 0, 0, 0]);
    app.database.let_time_pass(40_000).await;
    let store =
        client_failover::store::Store::open(app.database.connect_options(), crate::support::helpers::store_options());
    let counted = census::take(&store).await.expect("it counts").counted;
    store.close().await;
    assert_eq!(counted.lease_ages, [0, 0, 3, 0]);
    eventually("a scrape shows a census", async || scrape(&app).await.contains("client_failover_sessions_live ")).await;
}

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring");

/// Runs Prometheus' own checker: whether it accepts that, and what it says.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[needs("promtool")]
#[tokio::test]
async fn prometheus_accepts_the_metrics() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.beat("g", "a", 100.0).await;
    eventually("there was a census", async || scrape(&app).await.contains("client_failover_groups{")).await;
    let (accepted, said) = promtool(&["check", "metrics"], &scrape(&app).await);
    assert!(accepted && said.is_empty(), "{said}");
}

#[tokio::test]
async fn the_alert_rules_and_the_dashboard_ask_for_metrics_that_there_are() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.beat("g", "a", 100.0).await;
    eventually("there was a census", async || scrape(&app).await.contains("client_failover_groups{")).await;
    let text = scrape(&app).await;
    let rules = std::fs::read_to_string(format!("{MONITORING}/alerts.yml")).expect("it is there");
    let dashboard = std::fs::read_to_string(format!("{MONITORING}/dashboard.json")).expect("it is there");
    let panels: serde_json::Value = serde_json::from_str(&dashboard).expect("it is JSON");
    assert!(panels["panels"].as_array().is_some_and(|panels| panels.len() >= 10));
    for file in [&rules, &dashboard] {
        let names = file
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("client_failover_"));
        for name in names {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let is_there = [name, family].iter().any(|name| text.contains(&format!("# TYPE {name} ")));
            // Where there is a certificate, and where keys have an end.
            let only_there = ["certificate_expiry_timestamp_seconds", "api_key_next_end_seconds"];
            let is_only_there = only_there.iter().any(|only| name == format!("client_failover_{only}"));
            assert!(is_there || is_only_there, "{name}");
        }
    }
}

#[needs("promtool")]
#[test]
fn prometheus_accepts_the_alert_rules_and_its_settings() {
    for (check, file) in [
        (&["check", "rules"][..], "alerts.yml"),
        (&["test", "rules"], "alerts.test.yml"),
        (&["check", "config", "--syntax-only"], "prometheus.yml"),
    ] {
        let file = format!("{MONITORING}/{file}");
        let (accepted, said) = promtool(&[check, &[&file]].concat(), "");
        assert!(accepted, "{said}");
    }
}
