//! The proxy of the compose stack, run by itself on this machine: the same configuration file, with the addresses of
//! two replicas on loopback. Skipped with a printed line where HAProxy is not installed.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval};

use crate::helpers::{Answer, TestDatabase, TestReplica, free_port, remove_after_the_run, scratch_dir};

const CONFIGURATION: &str = include_str!("../deploy/haproxy.cfg");
const BEAT_EVERY: Duration = Duration::from_millis(100);
const ROUNDS_AFTER_THE_FAULTS: usize = 15;

#[tokio::test]
async fn no_heartbeat_through_the_proxy_fails_while_a_replica_is_restarted_and_one_is_killed() {
    let Some(Stack { proxy, mut replicas, ports, url, database }) = Stack::start().await else { return };

    let groups: Vec<String> = (0..8).map(|n| format!("g{n}")).collect();
    for group in &groups {
        proxy.service.group_of(group, 5_000, &["a", "b"]).await;
        assert_eq!(proxy.service.beat(group, "a", 100.0).await, 1);
    }
    let faults_are_over = AtomicBool::new(false);
    let heartbeats = async {
        let mut sent = 0;
        let mut rounds_left = ROUNDS_AFTER_THE_FAULTS;
        let mut beats = interval(BEAT_EVERY);
        while rounds_left > 0 {
            beats.tick().await;
            let beat = async |group: &String| {
                assert_eq!(proxy.service.beat(group, "a", 100.0).await, 1, "the Primary of {group} stays");
                assert_eq!(proxy.service.beat(group, "b", 100.0).await, 0);
            };
            futures_util::future::join_all(groups.iter().map(beat)).await;
            sent += 2 * groups.len();
            rounds_left -= usize::from(faults_are_over.load(Ordering::Relaxed));
        }
        sent
    };
    let faults = async {
        // Stopped in order: it drains first, and the proxy looks elsewhere.
        replicas[0].terminate().await;
        replicas[0] = Replica::start(&url, ports[0]).await;
        proxy.wait_until_up("failover-1").await;
        // Killed: what was under way is repeated on the other one.
        replicas[1].child.kill().await.expect("it runs");
        faults_are_over.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(heartbeats, faults);
    println!("{sent} heartbeats through the proxy, none failed");
    for group in &groups {
        assert_eq!(database.trace(group).await, ["a 0>1 first_heartbeat heartbeat 1"]);
    }
}

/// Two replicas on a database of their own, and the proxy before them.
struct Stack {
    proxy: Proxy,
    replicas: [Replica; 2],
    ports: [u16; 2],
    url: String,
    database: TestDatabase,
}

impl Stack {
    /// `None`, and a printed line, where HAProxy is not installed.
    async fn start() -> Option<Stack> {
        if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().await.is_err() {
            println!("skipped: haproxy is not installed");
            return None;
        }
        let database = TestDatabase::new().await;
        let url = database.url();
        let ports = [free_port(), free_port()];
        let replicas = [Replica::start(&url, ports[0]).await, Replica::start(&url, ports[1]).await];
        let proxy = Proxy::start(ports).await;
        Some(Stack { proxy, replicas, ports, url, database })
    }
}

struct Replica {
    child: Child,
}

impl Replica {
    async fn start(database_url: &str, port: u16) -> Replica {
        let mut child = Command::new(env!("CARGO_BIN_EXE_client-failover"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--drain", "2s", "--log", "warn"])
            .env("DATABASE_URL", database_url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary is built");
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next_line().await.expect("it speaks").unwrap_or_default();
        assert!(line.starts_with("listening on "), "{line}");
        Replica { child }
    }

    async fn terminate(&mut self) {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).expect("it is ours");
        assert!(self.child.wait().await.expect("it ends").success());
    }
}

struct Proxy {
    service: TestReplica,
    status_url: String,
    _child: Child,
}

impl Proxy {
    async fn start(replicas: [u16; 2]) -> Proxy {
        let (port, status_port) = (free_port(), free_port());
        let mut configuration = CONFIGURATION
            .replace("bind :8080", &format!("bind 127.0.0.1:{port}"))
            .replace("bind :8404", &format!("bind 127.0.0.1:{status_port}"))
            .replace(" resolvers docker resolve-prefer ipv4 init-addr last,libc,none", "");
        for (n, replica) in replicas.iter().enumerate() {
            let name = format!("failover-{}:8080", n + 1);
            assert!(configuration.contains(&name), "the configuration names the replicas");
            configuration = configuration.replace(&name, &format!("127.0.0.1:{replica}"));
        }
        let dir = scratch_dir("proxy");
        remove_after_the_run(&dir);
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, configuration).expect("the folder is ours");
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(file)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("haproxy is installed");
        let service = TestReplica::at(format!("http://127.0.0.1:{port}"));
        let proxy = Proxy { service, status_url: format!("http://127.0.0.1:{status_port}/;csv"), _child: child };
        proxy.wait_until_up("failover-1").await;
        proxy.wait_until_up("failover-2").await;
        proxy
    }

    /// Waits until the proxy sends requests to that replica.
    async fn wait_until_up(&self, replica: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut looks = interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            let status = self.service.http.get(&self.status_url).send().await;
            if let Ok(status) = status {
                let csv = status.text().await.expect("the page is whole");
                let line = csv.lines().find(|line| line.starts_with(&format!("replicas,{replica},")));
                if line.is_some_and(|line| line.split(',').nth(17) == Some("UP")) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "{replica} never came up");
        }
    }
}

#[tokio::test]
async fn the_proxys_own_errors_have_the_one_error_body() {
    let Some(Stack { proxy, mut replicas, database: _database, .. }) = Stack::start().await else { return };
    for replica in &mut replicas {
        replica.child.kill().await.expect("it runs");
    }
    let request = proxy.service.http.get(format!("{}/health/ready", proxy.service.url));
    Answer::of(request).await.expect_error(503);
}
