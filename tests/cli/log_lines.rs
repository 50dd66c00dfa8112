//! The log: bounded where a client, a stranger or an outage could fill it, and saying what an
//! operator looks for.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::credentials::{add_user, new_dir};
use crate::support::helpers::{TestDatabase, eventually};
use crate::support::program::{Running, program};

/// A service in a process of its own, its log in a file of JSON lines.
pub struct Logging {
    service: Option<Running>,
    pub url: String,
    log: std::path::PathBuf,
}

impl Logging {
    pub async fn start(mut command: Command) -> Logging {
        let log = new_dir().join("log");
        command.args(["--log-format", "json"]).stderr(std::fs::File::create(&log).expect("the folder is ours"));
        let service = Running::start(command).await;
        Logging { url: service.url.clone(), service: Some(service), log }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).expect("it is there");
        // The last one may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn with_message(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == message).collect()
    }

    async fn stop(&mut self) {
        let service = self.service.take().expect("it is stopped once");
        service.signal(Signal::SIGTERM);
        service.end().await;
    }
}

/// A service whose database is not there.
async fn without_database(more: &[&str]) -> Logging {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one");
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--operation-timeout", "100ms"]).args(more);
    command.env("DATABASE_URL", format!("postgres://nobody@{nobody}/none"));
    Logging::start(command).await
}

#[tokio::test]
async fn an_outage_writes_a_few_lines_and_how_many_were_left_out() {
    let mut service = without_database(&[]).await;
    let http = reqwest::Client::new();
    let path = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/clientsessions/s", service.url);
    let beats = (0..300).map(|_| async {
        let beat = http.post(&path).json(&json!({"PercentHealthyStreams": 100})).timeout(Duration::from_secs(30));
        assert_eq!(beat.send().await.expect("it answers").status(), 503);
    });
    futures_util::future::join_all(beats).await;
    service.stop().await;
    let failed = service.with_message("request failed");
    assert!((1..=60).contains(&failed.len()), "{}", failed.len());
    assert!(failed[0]["operation_id"].is_string() && failed[0]["cause"].is_string(), "{}", failed[0]);
    let left_out: u64 = service
        .with_message("lines were left out")
        .iter()
        .filter(|line| line["line"] == "request failed")
        .filter_map(|line| line["left_out"].as_u64())
        .sum();
    assert_eq!(failed.len() as u64 + left_out, 300, "{:?}", service.lines());
    let size = std::fs::metadata(&service.log).expect("it is there").len();
    assert!(size < 30_000, "{size} bytes for 300 heartbeats");
}

#[tokio::test]
async fn the_log_says_what_runs_where_and_who_made_and_deleted_what_each_once() {
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", database.url());
    let mut service = Logging::start(command).await;
    let listening = &service.with_message("listening")[0];
    assert_eq!(listening["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(format!("http://{}", listening["address"].as_str().expect("a text")), service.url);

    let http = reqwest::Client::new();
    let groups = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups", service.url);
    let sent = async |method: reqwest::Method, below: &str, body: Value| {
        let answer = http.request(method, format!("{groups}{below}")).json(&body).send().await.expect("it answers");
        assert!(answer.status().is_success(), "{below}: {}", answer.status());
    };
    use reqwest::Method;
    for _ in 0..3 {
        sent(Method::PUT, "/pump", json!({"Milliseconds": 60_000})).await;
        sent(Method::POST, "", json!({"Id": "valve"})).await;
        sent(Method::POST, "/pump/clientsessions", json!({"Id": "a"})).await;
    }
    sent(Method::PUT, "/pump", json!({"Milliseconds": 30_000})).await;
    sent(Method::DELETE, "/pump/clientsessions/a", Value::Null).await;
    sent(Method::DELETE, "/pump", Value::Null).await;
    service.stop().await;
    for (message, count, session) in [
        ("group created", 2, Value::Null),
        ("group changed", 1, Value::Null),
        ("group deleted", 1, Value::Null),
        ("session registered", 1, json!("a")),
        ("session deleted", 1, json!("a")),
    ] {
        let lines = service.with_message(message);
        assert_eq!(lines.len(), count, "{message}: {lines:?}");
        let line = &lines[0];
        assert_eq!((&line["group"], &line["session"], &line["level"]), (&json!("t/n/pump"), &session, &json!("INFO")));
        assert!(line["identity"].is_string() && line["operation_id"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn notices_of_the_database_are_not_in_the_log() {
    let database = TestDatabase::empty().await;
    // PostgreSQL warns about it on each connection, as after an update of the system's libraries.
    database.execute("UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()").await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--log", "info"]).env("DATABASE_URL", database.url());
    let mut service = Logging::start(command).await;
    eventually("it is ready", async || !service.with_message("the database is ready").is_empty()).await;
    service.stop().await;
    for line in service.lines() {
        assert!(!line["target"].as_str().is_some_and(|target| target.starts_with("sqlx")), "{line}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_are_logged_with_who_sent_them_and_not_as_an_error() {
    let mut service = without_database(&[]).await;
    let address = service.url.trim_start_matches("http://").to_owned();
    let send = async |bytes: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("it listens");
        let peer = stream.local_addr().expect("it is connected").to_string();
        stream.write_all(bytes).await.expect("it is taken");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        peer
    };
    let tls = send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting of TLS\r\n\r\n").await;
    let garbage = send(b"\x00\xff garbage\r\n\r\n").await;
    for _ in 0..100 {
        send(b"\x00\xff garbage\r\n\r\n").await;
    }
    service.stop().await;
    let lines = service.with_message("what came is no request");
    assert_eq!(lines.len(), 10, "of one address: {lines:?}");
    assert!(
        lines[0]["peer"] == tls && lines[0]["cause"].as_str().is_some_and(|cause| cause.contains("TLS")),
        "{lines:?}"
    );
    assert!(lines[1]["peer"] == garbage && lines[1]["level"] == "INFO", "{lines:?}");
    let left_out = service.with_message("lines were left out");
    assert!(left_out.iter().any(|line| line["left_out"] == 92 && line["most_of"] == "127.0.0.1"), "{left_out:?}");
    assert!(service.lines().iter().all(|line| line["level"] != "ERROR"), "{:?}", service.lines());
}

#[tokio::test]
async fn what_a_known_caller_is_refused_is_logged_each_time() {
    let users = new_dir().join("users.toml");
    add_user(&users, "vic", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let mut service = without_database(&["--auth", "basic", "--users-file", users.to_str().expect("a text")]).await;
    let group = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/g", service.url);
    for _ in 0..120 {
        let delete = reqwest::Client::new().delete(&group).basic_auth("vic", Some("correct horse"));
        assert_eq!(delete.send().await.expect("it answers").status(), 403);
    }
    service.stop().await;
    let refused = service.with_message("request refused: not allowed");
    assert_eq!(refused.len(), 120);
    assert!(refused[0]["identity"] == "basic:vic" && refused[0]["peer"] == "127.0.0.1", "{}", refused[0]);
}

#[tokio::test]
async fn behind_a_proxy_that_is_named_the_address_it_tells_is_the_one_that_counts() {
    let users = new_dir().join("users.toml");
    add_user(&users, "vic", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let users = users.to_str().expect("a text");
    let refused = async |more: &[&str]| {
        let mut service = without_database(&[&["--auth", "basic", "--users-file", users], more].concat()).await;
        let group = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/g", service.url);
        for n in 0..20 {
            // The first is what the client itself says.
            let forwarded = format!("192.0.2.1, 198.51.100.{n}");
            let asked = reqwest::Client::new().get(&group).header("X-Forwarded-For", forwarded).send().await;
            assert_eq!(asked.expect("it answers").status(), 401);
        }
        service.stop().await;
        let lines = service.with_message("request refused: the caller is not recognised");
        lines.iter().map(|line| line["peer"].as_str().expect("an address").to_owned()).collect::<Vec<_>>()
    };
    let told = refused(&["--trusted-proxies", "127.0.0.0/8,::1"]).await;
    assert_eq!(told, (0..20).map(|n| format!("198.51.100.{n}")).collect::<Vec<_>>());
    assert_eq!(refused(&["--trusted-proxies", "10.0.0.0/8"]).await, vec!["127.0.0.1"; 10]);
}

#[tokio::test]
async fn refusals_are_counted_by_address_and_kind_and_one_kind_hides_no_other() {
    let users = new_dir().join("users.toml");
    add_user(&users, "vic", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let mut service = without_database(&["--auth", "basic", "--users-file", users.to_str().expect("a text")]).await;
    let http = reqwest::Client::new();
    let group = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/g", service.url);
    for _ in 0..100 {
        assert_eq!(http.get(&group).send().await.expect("it answers").status(), 401);
    }
    for _ in 0..3 {
        let delete = http.delete(&group).basic_auth("vic", Some("correct horse"));
        assert_eq!(delete.send().await.expect("it answers").status(), 403);
    }
    service.stop().await;
    let unknown = service.with_message("request refused: the caller is not recognised");
    assert_eq!(unknown.len(), 10, "of one address: {unknown:?}");
    assert!(unknown[0]["peer"] == "127.0.0.1" && unknown[0]["operation_id"].is_string(), "{}", unknown[0]);
    assert_eq!(service.with_message("request refused: not allowed").len(), 3, "{:?}", service.lines());
    let left_out = service.with_message("lines were left out");
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0]["left_out"] == 90 && left_out[0]["most_of"] == "127.0.0.1", "{left_out:?}");
}
