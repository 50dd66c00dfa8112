//! The chart, and what docs/kubernetes.md says of it: rendered by Helm's own engine, and the
//! program started as the render says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover_workshop::needs;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::helpers::{connect_options, eventually, free_port, remove_after_the_run, scratch_dir};
use crate::support::program::{GROUP, Running, find, output_of, program, run};

const PAGE: &str = include_str!("../../docs/kubernetes.md");

/// The script that renders, with the Python that has what it needs.
fn chart(arguments: &[&str]) -> tokio::process::Command {
    let python = find("kubernetes-validate").with_file_name("python3");
    let mut command = tokio::process::Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/chart.py")).args(arguments);
    command
}

#[needs("helm", "helm3", "kubectl", "kubernetes-validate")]
#[tokio::test]
async fn every_value_of_the_chart_does_what_is_said_of_it() {
    let said = output_of(&mut chart(&["check"])).await;
    assert!(said.contains(" cases, ") && said.contains(", 0 faults"), "{said}");
}

/// A server that asks for passwords, with an account of that name and password.
async fn server_with(dir: &Path, account: &str, password: &str) -> (Postgres, u16) {
    let port = free_port();
    let hba = dir.join("hba.conf");
    fs::write(&hba, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").expect("it can be written");
    let settings = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("hba_file", hba.display().to_string()),
        ("fsync", "off".to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let options = PostgresOptions { data_dir: dir.join("data"), bin_dir: None, settings };
    let server = Postgres::start(options).await.expect("it starts");
    let mut connection = PgConnection::connect_with(&connect_options(&server, "postgres")).await.expect("it answers");
    for statement in
        [format!("CREATE ROLE {account} LOGIN PASSWORD '{password}'"), format!("CREATE DATABASE app OWNER {account}")]
    {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("it runs");
    }
    (server, port)
}

/// A node of a cluster, as far as a container sees it: its environment, and its Secrets as files.
struct Node {
    documents: Vec<Value>,
    files: PathBuf,
}

impl Node {
    fn pod(&self, kind: &str) -> &Value {
        let found = self.documents.iter().find(|document| document["kind"] == kind);
        &found.expect("it is rendered")["spec"]["template"]["spec"]
    }

    /// The program with the variables of that container.
    fn in_container(&self, kind: &str) -> Command {
        let mut command = program();
        for variable in self.pod(kind)["containers"][0]["env"].as_array().expect("it has some") {
            let text = |key: &str| variable[key].as_str().expect("a text");
            let value = match text("name") {
                // Of a container the address would be its own.
                "CLIENT_FAILOVER_LISTEN" => "127.0.0.1:0".to_owned(),
                _ => text("value").replace("/etc/client-failover", &self.files.display().to_string()),
            };
            command.env(text("name"), value);
        }
        command
    }

    /// The same, run with the container's arguments.
    fn starts(&self, kind: &str) -> Command {
        let mut command = self.in_container(kind);
        let arguments = self.pod(kind)["containers"][0]["args"].as_array().expect("it has some");
        command.args(arguments.iter().map(|word| word.as_str().expect("a text")));
        command
    }

    /// What the page has somebody run in the container: the key that it prints.
    async fn key(&self, name: &str) -> String {
        let line = PAGE.lines().find(|line| line.contains(&format!("keys create {name}"))).expect("the page has it");
        let (_, inside) = line.split_once(" -- client-failover ").expect("it is run in the container");
        let mut command = self.in_container("Deployment");
        command.args(inside.split(' ').map(|word| word.trim_matches('\'')));
        run(command).await.ok().trim().to_owned()
    }
}

async fn status(service: &Running, path: &str, key: Option<&str>) -> u16 {
    let request = service.http.get(format!("{}{path}", service.url));
    let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
    request.send().await.expect("it answers").status().as_u16()
}

#[needs("helm", "kubernetes-validate")]
#[tokio::test]
async fn the_program_starts_as_the_chart_has_it_and_answers_its_probes() {
    let dir = scratch_dir("chart");
    remove_after_the_run(&dir);
    let (server, port) = server_with(&dir, "app", "of the Secret").await;
    let values = json!({
        "auth": ["api-key"],
        "migrations": "job",
        "drainSeconds": 1,
        "database": {
            "url": format!("postgres://app@127.0.0.1:{port}/app"),
            "passwordSecret": {"name": "database"},
        },
        "settings": {"log-format": "json", "handover": "prompt", "group-limit": 1, "oidc-leeway": "10s", "docs": false},
    });
    let file = dir.join("values.yaml");
    fs::write(&file, values.to_string()).expect("it can be written");
    let rendered = output_of(&mut chart(&["render", &file.display().to_string()])).await;
    let documents = serde_json::from_str(&rendered).expect("JSON");
    // As the kubelet mounts it: a folder for each Secret, a file for each key.
    let files = dir.join("etc");
    let secret = files.join("database-password/password");
    fs::create_dir_all(secret.parent().expect("a folder")).expect("it can be made");
    fs::write(&secret, "of the Secret\n").expect("it can be written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o440)).expect("it is ours");
    let node = Node { documents, files };

    // First the Job, then what serves, which does not migrate.
    let said = run(node.starts("Job")).await.ok();
    assert!(said.contains("the database is up to date"), "{said}");
    let service = Running::start(node.starts("Deployment")).await;
    let pod = node.pod("Deployment");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = pod["containers"][0][probe]["httpGet"]["path"].as_str().expect("it has a path").to_owned();
        eventually(probe, async || status(&service, &path, None).await == 200).await;
    }

    // Closed, but to the keys that the page makes.
    let groups = GROUP.strip_suffix("/g").expect("that is its end");
    let (admin, metrics) = (node.key("first").await, node.key("prometheus").await);
    assert_eq!(status(&service, groups, None).await, 401);
    assert_eq!(status(&service, groups, Some(&admin)).await, 200);
    assert_eq!(status(&service, groups, Some(&metrics)).await, 403);
    assert_eq!(status(&service, "/metrics", Some(&metrics)).await, 200);
    // The settings have come through.
    assert_eq!(status(&service, "/docs", Some(&admin)).await, 404);
    for (group, wanted) in [("g", 200_u16), ("h", 409)] {
        let put = service.http.put(format!("{}{groups}/{group}", service.url)).bearer_auth(&admin);
        assert_eq!(put.json(&json!({"Milliseconds": 60_000})).send().await.expect("it answers").status(), wanted);
    }

    // Told to stop, it says so and goes on serving, and is gone in time.
    let began = Instant::now();
    service.signal(Signal::SIGTERM);
    eventually("it says so", async || status(&service, "/health/ready", None).await == 503).await;
    assert_eq!(status(&service, "/health/live", None).await, 200);
    assert_eq!(status(&service, groups, Some(&admin)).await, 200);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.lines().all(|line| line.starts_with('{')), "{said}");
    let patience = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(patience), "{took:?} of {patience} s");
    server.stop().await.expect("it stops");
}
