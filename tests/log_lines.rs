//! The log: bounded where a client, a stranger or an outage could fill it, and saying what an operator looks for.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::credentials::{new_dir, program};
use crate::helpers::eventually;

/// A service in a process of its own, its log in a file of JSON lines.
struct Logging {
    child: Child,
    url: String,
    log: std::path::PathBuf,
}

impl Logging {
    async fn start(mut command: Command) -> Logging {
        let log = new_dir().join("log");
        command.args(["--log-format", "json"]).stderr(std::fs::File::create(&log).expect("the folder is ours"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut output = child.stdout.take().expect("it is piped");
        let mut said = String::new();
        let read = tokio::task::spawn_blocking(move || {
            let mut byte = [0];
            while !said.ends_with('\n') && output.read(&mut byte).is_ok_and(|count| count > 0) {
                said.push(char::from(byte[0]));
            }
            said
        });
        let said = read.await.expect("it is read");
        let url = said.trim().strip_prefix("listening on ");
        let url = url.unwrap_or_else(|| panic!("{said}: {}", std::fs::read_to_string(&log).unwrap_or_default()));
        Logging { child, url: url.to_owned(), log }
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
        kill(Pid::from_raw(self.child.id().try_into().expect("a number")), Signal::SIGTERM).expect("it is ours");
        eventually("it ends", async || self.child.try_wait().expect("it is ours").is_some()).await;
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service whose database is not there.
async fn without_database() -> Logging {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one");
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--operation-timeout", "100ms"]);
    command.env("DATABASE_URL", format!("postgres://nobody@{nobody}/none"));
    Logging::start(command).await
}

#[tokio::test]
async fn an_outage_writes_a_few_lines_and_how_many_were_left_out() {
    let mut service = without_database().await;
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
