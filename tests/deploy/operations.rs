//! What docs/operations.md says is true: each of its queries runs and sees what is there, a reader
//! may run it, backups come back, and every alert has a paragraph.

use std::collections::BTreeSet;
use std::process::Stdio;

use client_failover_workshop::needs;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::credentials::{create_key, new_dir};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, settings};
use crate::support::program::{program, run_with};

const PAGE: &str = include_str!("../../docs/operations.md");
const MINUTE: i64 = 60_000;

/// The blocks of a language, without the indentation of the list they stand in.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in PAGE.lines().map(str::trim_start) {
        match &mut open {
            None if line == format!("```{language}") => open = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => *block += &format!("{line}\n"),
        }
    }
    blocks
}

fn block_with(language: &str, text: &str) -> String {
    let found: Vec<String> = blocks(language).into_iter().filter(|block| block.contains(text)).collect();
    assert_eq!(found.len(), 1, "one block has {text}");
    found.into_iter().next().expect("there is one")
}

/// A request below the groups of the examples.
async fn ask(app: &TestReplica, method: reqwest::Method, below: &str, body: Value) -> Value {
    let url = format!("{}/api/v1/tenants/plant/namespaces/line1/clientfailover/groups{below}", app.url);
    Answer::of(app.http.request(method, url).json(&body)).await.expect_ok()
}

async fn plant_group(app: &TestReplica, group: &str) {
    ask(app, reqwest::Method::PUT, &format!("/{group}"), json!({"Milliseconds": MINUTE})).await;
    for session in ["a", "b"] {
        ask(app, reqwest::Method::POST, &format!("/{group}/clientsessions"), json!({"Id": session})).await;
    }
}

async fn plant_beat(app: &TestReplica, group: &str, session: &str) -> i64 {
    let path = format!("/{group}/clientsessions/{session}");
    let answer = ask(app, reqwest::Method::POST, &path, json!({"PercentHealthyStreams": 100})).await;
    answer["Role"].as_i64().expect("a role is a number")
}

/// The same from a client that says in which role it acts; the answer's role and term.
async fn plant_beat_acting(app: &TestReplica, group: &str, session: &str, acts_as: i64) -> (i64, i64) {
    let path = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups";
    let request = app.http.post(format!("{}{path}/{group}/clientsessions/{session}", app.url));
    let request = request.header("Failover-Role", acts_as).json(&json!({"PercentHealthyStreams": 100}));
    let answer = Answer::of(request).await;
    let term = answer.header("failover-term").parse().expect("a number");
    (answer.expect_ok()["Role"].as_i64().expect("a role is a number"), term)
}

/// As if the time in which somebody may act on a lease that was lost had passed.
async fn end_doubts(database: &PgConnectOptions) {
    let mut connection = PgConnection::connect_with(database).await.expect("it answers");
    run(&mut connection, "UPDATE groups SET in_doubt_until = NULL").await;
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.expect(statements);
}

#[tokio::test]
async fn every_query_of_the_page_runs_as_a_reader_and_finds_something() {
    let app = TestApp::start().await;
    plant_group(&app, "pump").await;
    plant_group(&app, "late").await;
    assert_eq!(plant_beat(&app, "late", "a").await, 1);
    app.database.let_time_pass(50_000).await;
    assert_eq!(plant_beat(&app, "pump", "a").await, 1);
    // One whose only live session is kept out.
    plant_group(&app, "kept-out").await;
    let path = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/kept-out/clientsessions/a/wish";
    let exclude = app.http.post(format!("{}{path}", app.url)).json(&json!({"Wish": "Excluded"}));
    Answer::of(exclude).await.expect_accepted();
    assert_eq!(plant_beat(&app, "kept-out", "a").await, 0);
    create_key(&app.database, "adapter-7", &["--tenant", "plant", "--role", "client", "--expires-in", "10days"]).await;
    app.database
        .execute("INSERT INTO service_outages (began_at, recovered_at) VALUES (now() - interval '2 h', now() - interval '1 h')")
        .await;

    // As the page says it is done, with a role of this test's own.
    let role = format!("anna_of_{}", app.database.connect_options().get_database().expect("it has a name"));
    let make = block_with("sh", "--reader anna");
    assert!(make.contains("client-failover migrate --reader anna"));
    let mut command = program();
    command.args(["migrate", "--reader", &role]).env("DATABASE_URL", app.database.url());
    run_with(command, "").await.ok();
    let mut admin = app.database.connect().await;
    run(&mut admin, &block_with("sql", "as a superuser").replace("anna", &role)).await;
    let mut reader =
        PgConnection::connect_with(&app.database.connect_options().username(&role)).await.expect("it may log in");

    // And somebody's transaction, which is open and has read.
    let mut left_open = app.database.connect().await;
    run(&mut left_open, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM groups").await;

    let mut queries = 0;
    for block in blocks("sql").iter().filter(|block| !block.starts_with("-- as ")) {
        for query in block.split(";\n").filter(|query| !query.trim().is_empty()) {
            let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut reader).await;
            let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
            assert!(!rows.is_empty(), "{query} finds nothing");
            queries += 1;
        }
    }
    assert!(queries >= 12, "{queries}");
    println!("{queries} queries of docs/operations.md ran as a reader, and each found something");
}

#[test]
fn every_alert_has_a_paragraph_and_a_test_and_every_metric_named_exists() {
    let names = |text: &str, before: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(before));
        lines.map(|rest| rest.split(['*', ' ']).next().unwrap_or_default().to_owned()).collect()
    };
    let alerts = names(include_str!("../../deploy/monitoring/alerts.yml"), "- alert: ");
    assert!(alerts.len() >= 16, "{alerts:?}");
    let tested = names(include_str!("../../deploy/monitoring/alerts.test.yml"), "alertname: ");
    assert_eq!(tested, alerts, "each is tested");
    assert_eq!(names(PAGE, "#### "), alerts, "each has a section");
    let critical = include_str!("../../deploy/monitoring/alerts.yml").split("- alert: ").skip(1);
    for rule in critical {
        let name = rule.split_whitespace().next().expect("it has a name");
        let wakes = PAGE.contains(&format!("#### {name}\n\nWakes you."));
        assert_eq!(wakes, rule.contains("severity: critical"), "{name}");
        let section = format!("docs/operations.md{{{{ end }}}}#{}'", name.to_lowercase());
        assert!(
            rule.contains("runbook_url: '{{ with $externalLabels.runbooks }}") && rule.contains(&section),
            "{name}"
        );
    }
    let metrics = [
        include_str!("../../src/metrics/text.rs"),
        include_str!("../../src/metrics/namespaces.rs"),
        include_str!("../../src/metrics/webhook.rs"),
    ]
    .concat();
    let words = PAGE.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for name in words.filter_map(|word| word.strip_prefix("client_failover_")).filter(|name| !name.is_empty()) {
        assert!(metrics.contains(&format!("\"{name}\"")) || name == "namespace_", "{name}");
    }
}

/// The commands of the page, run. The new database is the server's to keep until it ends.
async fn back_up_and_restore(database: &TestDatabase, meanwhile: impl AsyncFnOnce()) -> PgConnectOptions {
    let name = database.connect_options().get_database().expect("it has a name").to_owned();
    let new = format!("{name}_restored");
    let script = block_with("sh", "pg_restore").replace("client_failover", &new);
    let (dump, restore) = script.split_once("createdb").expect("it makes a database");
    let dir = new_dir();
    let shell = async |script: String| {
        let mut command = std::process::Command::new("bash");
        let of =
            |name: &str| database.url().rsplit_once('/').map(|(server, _)| format!("{server}/{name}")).expect("a URL");
        command.args(["-euc", &script]).current_dir(&dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("DATABASE_URL", of(&name)).env("SERVER_URL", of("postgres")).env("NEW_DATABASE_URL", of(&new));
        run_with(command, "").await.ok();
    };
    shell(dump.to_owned()).await;
    meanwhile().await;
    shell(format!("createdb{restore}")).await;
    database.connect_options().database(&new)
}

async fn serve_on(database: PgConnectOptions) -> TestReplica {
    let replica = TestReplica::start(settings(database)).await;
    replica.wait_until_ready().await;
    replica
}

async fn trace(database: &PgConnectOptions) -> Vec<(String, i16, i16, String, i64, i64)> {
    let mut connection = PgConnection::connect_with(database).await.expect("it answers");
    let trace = "SELECT session_id, from_role, to_role, reason, term, transition_id FROM role_transitions ORDER BY transition_id";
    sqlx::query_as(trace).fetch_all(&mut connection).await.expect("it runs")
}

#[needs("pg_dump")]
#[tokio::test]
async fn a_database_that_is_moved_changes_no_role_of_whoever_says_that_it_acts() {
    let TestApp { replica, database } = TestApp::start().await;
    plant_group(&replica, "pump").await;
    assert_eq!(plant_beat(&replica, "pump", "a").await, 1);
    assert_eq!(plant_beat(&replica, "pump", "b").await, 0);
    replica.stop().await;
    let moved = back_up_and_restore(&database, async || ()).await;
    let replica = serve_on(moved.clone()).await;
    assert_eq!(plant_beat_acting(&replica, "pump", "b", 0).await.0, 0);
    let (role, base) = plant_beat_acting(&replica, "pump", "a", 1).await;
    assert_eq!((role, base > 1), (1, true), "it acts, and its term is above all that were given");
    assert_eq!(trace(&moved).await.len(), 1, "no role changed");
    ask(&replica, reqwest::Method::DELETE, "/pump/clientsessions/a", Value::Null).await;
    assert_ne!(plant_beat_acting(&replica, "pump", "b", 0).await.0, 1, "somebody may act");
    end_doubts(&moved).await;
    assert_eq!(plant_beat_acting(&replica, "pump", "b", 0).await, (1, base + 1), "terms go on");
    let trace = trace(&moved).await;
    assert!(trace.is_sorted_by(|a, b| a.5 < b.5));
    replica.stop().await;
}

#[needs("pg_dump")]
#[tokio::test]
async fn after_going_back_to_an_older_backup_terms_and_ids_never_fall() {
    let TestApp { replica, database } = TestApp::start().await;
    plant_group(&replica, "pump").await;
    assert_eq!(plant_beat(&replica, "pump", "a").await, 1);
    // What the backup lacks: a takeover, and everything of another group.
    let meanwhile = async || {
        ask(&replica, reqwest::Method::DELETE, "/pump/clientsessions/a", Value::Null).await;
        assert_eq!(plant_beat(&replica, "pump", "b").await, 1);
        plant_group(&replica, "newer").await;
        assert_eq!(plant_beat(&replica, "newer", "a").await, 1);
    };
    let older = back_up_and_restore(&database, meanwhile).await;
    let given_out = trace(&database.connect_options()).await;
    let (newest_term, newest_id) = (2, given_out.last().expect("there are changes").5);
    assert!(given_out.iter().any(|change| change.4 == newest_term));
    replica.stop().await;

    let replica = serve_on(older.clone()).await;
    // The restored state has a as the Primary. It has said goodbye since, and b acts.
    assert_ne!(plant_beat_acting(&replica, "pump", "a", 0).await.0, 1);
    let (role, term) = plant_beat_acting(&replica, "pump", "b", 1).await;
    assert_eq!((role, term > newest_term), (1, true), "{term}");
    ask(&replica, reqwest::Method::DELETE, "/pump/clientsessions/b", Value::Null).await;
    end_doubts(&older).await;
    assert_eq!(plant_beat_acting(&replica, "pump", "a", 0).await, (1, term + 1));
    let after = trace(&older).await;
    let latest = after.last().expect("there are changes");
    assert!(latest.4 > newest_term && latest.5 > newest_id, "{after:?}");
    // A listener that had come further than the backup is told so, and gets all that comes now.
    let events = "/api/v1/clientfailover/events";
    let request = replica.http.get(format!("{}{events}", replica.url)).header("Last-Event-ID", newest_id.to_string());
    let mut response = request.send().await.expect("it answers");
    let mut text = String::new();
    while !text.contains("event: RoleChanged") {
        let chunk = response.chunk().await.expect("it goes on").expect("it goes on");
        text += std::str::from_utf8(&chunk).expect("UTF-8");
    }
    let told = text.find("event: DatabaseHistoryChanged");
    assert!(told.is_some() && told < text.find("event: RoleChanged"), "{text}");
    let first = after.iter().find(|change| change.5 > newest_id).expect("there are changes").5;
    assert!(text.contains(&format!("id: {first}\nevent: RoleChanged")), "{text}");
    replica.stop().await;
}

#[tokio::test]
async fn a_replica_goes_on_beside_tables_that_are_newer_than_it_knows() {
    let database = TestDatabase::new().await;
    database
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             VALUES (99, 'of_a_later_version', '2030-01-01T00:00:00Z', '1');
             ALTER TABLE groups ADD COLUMN of_a_later_version text; CREATE TABLE of_a_later_version (id bigint)",
        )
        .await;
    let replica = serve_on(database.connect_options()).await;
    plant_group(&replica, "pump").await;
    assert_eq!(plant_beat(&replica, "pump", "a").await, 1);
    let mut settings = settings(database.connect_options());
    settings.migrate = false;
    let waiting = TestReplica::start(settings).await;
    waiting.wait_until_ready().await;
    assert_eq!(plant_beat(&waiting, "pump", "b").await, 0);
}
