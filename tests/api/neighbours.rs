//! What a hostile neighbour costs, measured on the program as people run it: its memory, and the
//! time and the roles of others.
//!
//! Each of these needs the machine for itself: run it for its figures.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::defects::Defect;
use crate::support::helpers::TestDatabase;
use crate::support::program::{Running, program, program_at};
use crate::support::wire::{GROUPS, Request};

/// The program on that database. `arguments` are flags besides.
async fn serve(mut program: Command, database: &TestDatabase, arguments: &[&str]) -> Running {
    program.args(["--listen", "127.0.0.1:0"]).args(arguments).env("DATABASE_URL", database.url());
    Running::start(program).await
}

/// Groups of `sessions` sessions each, every one of which has sent a heartbeat and is live.
async fn fill(database: &TestDatabase, tenant: &str, groups: usize, sessions: usize) {
    database
        .execute(&format!(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
             SELECT gen_random_uuid(), '{tenant}', 'n', i::text, 6000000000 FROM generate_series(1, {groups}) i;
             INSERT INTO sessions (group_key, session_id)
             SELECT group_key, i::text FROM groups, generate_series(1, {sessions}) i WHERE tenant_id = '{tenant}';
             INSERT INTO heartbeats (group_key, session_id, percent_healthy_streams, heartbeat_time, received_at, lease_until, heard_until)
             SELECT group_key, session_id, 50, now(), now(), now() + interval '10 minutes', now()
             FROM sessions JOIN groups USING (group_key) WHERE tenant_id = '{tenant}'"
        ))
        .await;
    database.execute("ANALYZE").await;
}

/// The resident memory of a process, in MB.
fn resident(service: &Running) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1_024.0
}

/// A connection on which requests are sent and no answer is read.
async fn deaf(service: &Running, requests: &[u8]) -> TcpStream {
    let address = service.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(requests).await.expect("they fit in the buffers between");
    stream
}

#[tokio::test]
#[ignore = "needs the machine for itself: cargo test --release --test suite -- --ignored --nocapture a_thousand_connections"]
async fn a_thousand_connections_that_read_nothing_cost_little_memory() {
    const CONNECTIONS: usize = 1_000;
    let script = Request::get("/docs/swagger-ui-bundle.js").to_bytes();
    let list = Request::get(GROUPS).to_bytes();
    let page = Request::get("/page/main.js").to_bytes();
    let long_head = Request::get("/docs/swagger-ui-bundle.js").header("x", "x".repeat(3_000)).to_bytes();
    let mut most = 0.0_f64;
    for (kind, requests, flags) in [
        ("the script of /docs, 20 times each", script.repeat(20), &[][..]),
        ("the same with heads of 3 KB", long_head.repeat(20), &[]),
        ("a file of the page, 100 times each", page.repeat(100), &[]),
        ("lists of groups of 1,000 sessions, 20 times each", list.repeat(20), &[]),
    ] {
        let database = TestDatabase::new().await;
        fill(&database, "t", 100, 1_000).await;
        let service = serve(program(), &database, flags).await;
        // What the first of each kind makes once is no connection's.
        for path in ["/docs/swagger-ui-bundle.js".to_owned(), format!("{GROUPS}?count=3"), "/health/ready".to_owned()] {
            let answer = service.http.get(format!("{}{path}", service.url)).send().await.expect("it answers");
            assert!(answer.status().is_success() && answer.bytes().await.is_ok(), "{path}");
        }
        let before = resident(&service);
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(deaf(&service, &requests).await);
        }
        let (began, mut after) = (Instant::now(), 0.0_f64);
        while began.elapsed() < Duration::from_secs(8) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            after = after.max(resident(&service));
        }
        println!(
            "{CONNECTIONS} connections that ask for {kind}, and read nothing: {before:.0} MB before, {after:.0} MB at most"
        );
        most = most.max(after - before);
    }
    assert!(most < 100.0, "{most:.0} MB more");
}

/// What happened to a tenant's heartbeats for some time.
struct Beats {
    /// How long each took, sorted; one that was given up counts as long as it was waited for.
    took: Vec<Duration>,
    /// How many were not answered 200.
    failed: usize,
    role_changes: u64,
}

impl Beats {
    fn at(&self, part: f64) -> Duration {
        self.took[((self.took.len() - 1) as f64 * part) as usize]
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<44} {:>5} heartbeats, p50 {:>8.1?}, p99 {:>8.1?}, {} not answered 200, {} changes of roles",
            self.took.len(),
            self.at(0.5),
            self.at(0.99),
            self.failed,
            self.role_changes
        );
    }
}

/// The victim's groups, of two sessions each, and the timeout of each.
const VICTIMS: usize = 25;
const TIMEOUT: Duration = Duration::from_secs(2);

/// The victim's sessions heartbeat twice as often as they have to; each waits for an answer for
/// half a timeout at most.
async fn beats_of_the_victim(service: &Running, database: &TestDatabase, lasting: Duration) -> Beats {
    let changes = async || {
        let counted = database.rows("SELECT count(*) AS n FROM role_transitions WHERE tenant_id = 'victim'").await;
        counted[0]["n"].as_u64().expect("a number")
    };
    let before = changes().await;
    let beats = (0..2 * VICTIMS).map(async |n| {
        let (group, session) = (n / 2, ["a", "b"][n % 2]);
        let url = format!("{}{}/{group}/clientsessions/{session}", service.url, GROUPS.replace("/t/", "/victim/"));
        // Each at its own phase.
        let first = tokio::time::Instant::now() + TIMEOUT / 4 * n as u32 / (2 * VICTIMS) as u32;
        let mut ticks = tokio::time::interval_at(first, TIMEOUT / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (began, mut took, mut failed) = (Instant::now(), Vec::new(), 0);
        while began.elapsed() < lasting {
            ticks.tick().await;
            let asked = Instant::now();
            let request = service.http.post(&url).json(&json!({"PercentHealthyStreams": 100}));
            let answer = tokio::time::timeout(TIMEOUT / 2, request.send()).await;
            failed += usize::from(!answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == 200)));
            took.push(asked.elapsed());
        }
        (took, failed)
    });
    let (took, failed): (Vec<_>, Vec<usize>) = join_all(beats).await.into_iter().unzip();
    let mut took = took.concat();
    took.sort();
    Beats { took, failed: failed.into_iter().sum(), role_changes: changes().await - before }
}

/// The attack: two hundred heartbeats a second by one client, in groups of a thousand sessions.
async fn attack(service: &Running, groups: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut sent = FuturesUnordered::new();
    loop {
        ticks.tick().await;
        let (group, session) = (fastrand::usize(1..=groups), fastrand::usize(1..=1_000));
        let url = format!("{}{GROUPS}/{group}/clientsessions/{session}", service.url);
        sent.push(service.http.post(url).json(&json!({"PercentHealthyStreams": 50})).send());
        while sent.len() > 1_000 {
            sent.next().await;
        }
        // Answers are taken as they come.
        while let Some(Some(_)) = sent.next().now_or_never() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the machine for itself: cargo test --release --test suite -- --ignored --nocapture large_groups_of_one"]
async fn large_groups_of_one_tenant_cost_another_neither_its_time_nor_its_roles() {
    const LARGE: usize = 400;
    const QUIET: Duration = Duration::from_secs(10);
    const ATTACKED: Duration = Duration::from_secs(20);
    let database = TestDatabase::new().await;
    fill(&database, "t", LARGE, 1_000).await;
    let set_up = async |service: &Running| {
        for group in 0..VICTIMS {
            let url = format!("{}{}/{group}", service.url, GROUPS.replace("/t/", "/victim/"));
            let timeout = json!({"Milliseconds": TIMEOUT.as_millis() as u64});
            assert_eq!(service.http.put(&url).json(&timeout).send().await.expect("it answers").status(), 200);
            for session in ["a", "b"] {
                let register = service.http.post(format!("{url}/clientsessions")).json(&json!({"Id": session}));
                assert_eq!(register.send().await.expect("it answers").status(), 200);
            }
        }
        // Everybody has a role.
        beats_of_the_victim(service, &database, TIMEOUT * 2).await;
    };
    let attacked = async |service: &Running| {
        tokio::select! {
            beats = beats_of_the_victim(service, &database, ATTACKED) => beats,
            () = attack(service, LARGE) => unreachable!("it goes on for ever"),
        }
    };
    // As it was before the protection: whoever comes first is served first, and every group is read
    // whole.
    let without = Defect::named("batches-unfair").build();
    let unprotected = serve(program_at(without), &database, &[]).await;
    set_up(&unprotected).await;
    attacked(&unprotected).await.print("attacked, served in order of arrival");
    drop(unprotected);
    let service = serve(program(), &database, &[]).await;
    set_up(&service).await;
    let quiet = beats_of_the_victim(&service, &database, QUIET).await;
    quiet.print("quiet");
    let protected = attacked(&service).await;
    protected.print("attacked, with the settings by default");
    let ratio = protected.at(0.99).as_secs_f64() / quiet.at(0.99).as_secs_f64();
    println!("p99 attacked: {ratio:.1} times the quiet one");
    assert_eq!((quiet.role_changes, protected.role_changes, protected.failed), (0, 0, 0));
    assert!(ratio <= 3.0, "{ratio}");
}
