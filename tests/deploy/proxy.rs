//! The proxy of the compose stack, run by itself on this machine: the same configuration file, with
//! the addresses of two replicas on loopback.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client_failover_workshop::needs;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval};

use crate::support::helpers::{
    Answer, TestDatabase, TestReplica, eventually, free_port, remove_after_the_run, scratch_dir,
};
use crate::support::program::{Running, program};
use crate::support::wire::{Connection, Request};

const CONFIGURATION: &str = include_str!("../../deploy/haproxy.cfg");
const BEAT_EVERY: Duration = Duration::from_millis(100);
const ROUNDS_AFTER_THE_FAULTS: usize = 15;

#[needs("haproxy")]
#[tokio::test]
async fn no_heartbeat_through_the_proxy_fails_while_a_replica_is_restarted_and_one_is_killed() {
    let Stack { proxy, replicas: [first, second], ports, url, database } = Stack::start().await;

    let groups: Vec<String> = (0..8).map(|n| format!("g{n}")).collect();
    for group in &groups {
        // A lease that no busy machine can let run out: what is looked at is each heartbeat.
        proxy.service.group_of(group, 60_000, &["a", "b"]).await;
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
        first.signal(Signal::SIGTERM);
        assert_eq!(first.end().await.0, Some(0));
        let first = start_replica(&url, ports[0]).await;
        proxy.wait_until_up("failover-1").await;
        // Killed: what was under way is repeated on the other one.
        drop(second);
        faults_are_over.store(true, Ordering::Relaxed);
        first
    };
    let (sent, _first) = tokio::join!(heartbeats, faults);
    println!("{sent} heartbeats through the proxy, none failed");
    for group in &groups {
        assert_eq!(database.trace(group).await, ["a 0>1 first_heartbeat heartbeat 1"]);
    }
}

/// Two replicas on a database of their own, and the proxy before them.
struct Stack {
    proxy: Proxy,
    replicas: [Running; 2],
    ports: [u16; 2],
    url: String,
    database: TestDatabase,
}

impl Stack {
    async fn start() -> Stack {
        Stack::start_with(CONFIGURATION).await
    }

    /// The same with that configuration of the proxy.
    async fn start_with(configuration: &str) -> Stack {
        let database = TestDatabase::new().await;
        let url = database.url();
        let ports = [free_port(), free_port()];
        let replicas = [start_replica(&url, ports[0]).await, start_replica(&url, ports[1]).await];
        let proxy = Proxy::start(configuration, ports).await;
        Stack { proxy, replicas, ports, url, database }
    }
}

/// A replica on a port that the proxy knows.
async fn start_replica(database_url: &str, port: u16) -> Running {
    let mut command = program();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--drain", "2s", "--log", "warn"]);
    command.env("DATABASE_URL", database_url);
    Running::start(command).await
}

struct Proxy {
    service: TestReplica,
    status_url: String,
    _child: Child,
}

impl Proxy {
    async fn start(configuration: &str, replicas: [u16; 2]) -> Proxy {
        let (port, status_port) = (free_port(), free_port());
        let mut configuration = configuration
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

#[needs("haproxy")]
#[tokio::test]
async fn the_proxys_own_errors_have_the_one_error_body() {
    let Stack { proxy, replicas, database: _database, .. } = Stack::start().await;
    drop(replicas);
    let request = proxy.service.http.get(format!("{}/health/ready", proxy.service.url));
    Answer::of(request).await.expect_error(503);
}

#[needs("haproxy")]
#[tokio::test]
async fn one_address_has_its_share_of_the_proxys_connections_and_what_drips_is_given_up() {
    // As many as this machine opens without a thought; the share in the file is a matter of
    // thousands.
    const SHARE: usize = 20;
    assert!(CONFIGURATION.contains(" gt 4000 }"), "the file has a share for each address");
    let configuration = CONFIGURATION.replace(" gt 4000 }", &format!(" gt {SHARE} }}"));
    let Stack { proxy, replicas: _replicas, database: _database, .. } = Stack::start_with(&configuration).await;
    let live = Request::get("/health/live").to_bytes();
    let is_served = async |connection: &mut Connection| {
        connection.write(&live).await;
        connection.try_read().await.is_some_and(|answer| answer.status == 200)
    };
    let mut open = Vec::new();
    for n in 0.. {
        let Some(mut connection) = Connection::try_open(&proxy.service).await else { break };
        if !is_served(&mut connection).await {
            break;
        }
        open.push(connection);
        assert!(n < SHARE, "there is no end");
    }
    // Another address has connections of its own.
    let elsewhere = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let elsewhere = elsewhere.build().expect("a client can be made");
    Answer::of(elsewhere.get(format!("{}/health/live", proxy.service.url))).await.expect_ok();
    // The first head of a connection and a later one; and a body.
    open.truncate(1);
    let mut later = open.remove(0);
    let (mut first, mut body) = eventually_open(&proxy.service).await;
    body.write(b"PUT /api HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n").await;
    let began = Instant::now();
    for connection in [&mut first, &mut later] {
        connection.write(b"GET /health/live HTTP/1.1\r\n").await;
    }
    let drips = [&mut first, &mut later, &mut body].map(async |connection| {
        let drip = async {
            let mut ticks = interval(Duration::from_millis(200));
            while !connection.is_refused(b"x").await {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), drip).await.expect("it is given up");
    });
    futures_util::future::join_all(drips).await;
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Two connections, once the proxy has noticed that others were closed.
async fn eventually_open(service: &TestReplica) -> (Connection, Connection) {
    eventually("there is room again", async || {
        let live = service.http.get(format!("{}/health/live", service.url)).send().await;
        live.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    (Connection::open(service).await, Connection::open(service).await)
}
