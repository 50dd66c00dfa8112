//! What recognising callers costs: heartbeats per second with each kind of credential against none,
//! in turns.

use std::time::{Duration, Instant};

use client_failover::access::AuthOptions;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::credentials::{add_user, all_but_certificates, basic, create_key, new_dir};
use crate::support::helpers::{Answer, TestDatabase, TestReplica, settings};
use crate::support::issuer::{SigningKey, TokenIssuer};
use crate::support::program::{Running, program};
use crate::support::wire::GROUPS;

/// How many clients heartbeat at once, each in a group of its own.
const CLIENTS: usize = 64;
const TURN: Duration = Duration::from_secs(4);
/// How often each kind has its turn; the median of them counts.
const TURNS: usize = 7;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --release --test suite -- --ignored --nocapture auth_cost"]
async fn heartbeats_per_second_with_each_kind_of_credential() {
    let database = TestDatabase::new().await;
    let open = TestReplica::start(settings(database.connect_options())).await;
    for n in 0..CLIENTS {
        open.group_of(&format!("g{n}"), 60_000, &["s"]).await;
    }
    let key = SigningKey::rsa();
    let issuer = TokenIssuer::start(vec![key.jwk("k")]).await;
    let users_file = new_dir().join("users.toml");
    add_user(&users_file, "adapter", "correct horse", &["--tenant", "t", "--role", "client"]).await;
    let auth = all_but_certificates(issuer.options(), users_file);
    let mut limited = auth.clone();
    limited.rate_limit = Some(1_000_000);
    let start = async |auth: AuthOptions, bind_sessions: bool| {
        let mut settings = settings(database.connect_options());
        settings.auth = auth;
        settings.failover.bind_sessions = bind_sessions;
        TestReplica::start(settings).await
    };
    let guarded = start(auth.clone(), false).await;
    let with_limit = start(limited, false).await;
    let bound = start(auth, true).await;
    // Sessions that are bound to nobody: the look is made all the same.
    database.execute("UPDATE sessions SET registered_by = NULL").await;
    let (_, api_key) = create_key(&database, "adapter", &["--tenant", "t", "--role", "client"]).await;
    let api_key = format!("Bearer {api_key}");
    let token = format!("Bearer {}", key.token(&json!({"alg": "RS256", "kid": "k"}), &issuer.claims()));
    measure(&[
        ("none", &open.url, vec![]),
        ("bearer token (RS256)", &guarded.url, vec![token]),
        ("API key", &guarded.url, vec![api_key.clone()]),
        ("Basic, remembered", &guarded.url, vec![basic("adapter", "correct horse")]),
        ("API key with rate-limit", &with_limit.url, vec![api_key.clone()]),
        ("API key with bind-sessions", &bound.url, vec![api_key]),
    ])
    .await;
}

/// Needs no time of its own for passwords, so that it says something in any build. Both are the
/// program as people start it, with the settings that it has by default.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --release --test suite -- --ignored --nocapture a_key_for_each_client"]
async fn heartbeats_per_second_with_a_key_for_each_client_and_the_limits_by_default() {
    let database = TestDatabase::new().await;
    let start = async |auth: &str| {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--auth", auth]).env("DATABASE_URL", database.url());
        Running::start(command).await
    };
    let (open, usual) = (start("none").await, start("api-key").await);
    let mut keys = Vec::new();
    for n in 0..CLIENTS {
        let (_, key) = create_key(&database, &format!("adapter-{n}"), &["--tenant", "t", "--role", "client"]).await;
        // Each session is bound to its key. Where nobody is asked no session is.
        let url = format!("{}{GROUPS}/g{n}", usual.url);
        let group = usual.http.put(&url).bearer_auth(&key).json(&json!({"Milliseconds": 60_000}));
        let session = usual.http.post(format!("{url}/clientsessions")).bearer_auth(&key).json(&json!({"Id": "s"}));
        Answer::of(group).await.expect_ok();
        Answer::of(session).await.expect_ok();
        keys.push(format!("Bearer {key}"));
    }
    let ratio = measure(&[("none", &open.url, vec![]), ("a key for each client", &usual.url, keys)]).await;
    assert!(ratio >= 0.9, "{ratio:.2}");
}

/// In turns, so that what else the machine does meets all of them, and every second time in the
/// other order. Prints the median of each, and the median of what it was of the first in the same
/// turn; returns that of the last.
async fn measure(kinds: &[(&str, &str, Vec<String>)]) -> f64 {
    let mut rates = vec![Vec::new(); kinds.len()];
    for turn in 0..=TURNS {
        let time = if turn == 0 { TURN / 4 } else { TURN };
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for kind in order {
            let (_, url, credentials) = &kinds[kind];
            let counts = join_all((0..CLIENTS).map(|n| beat_for(time, url, n, of_client(credentials, n)))).await;
            // The first turn warms up what is remembered.
            if turn > 0 {
                rates[kind].push(counts.iter().sum::<u64>() as f64 / time.as_secs_f64());
            }
        }
    }
    let median = |rates: &[f64]| {
        let mut sorted = rates.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let mut ratio = 1.0;
    for ((label, ..), theirs) in std::iter::zip(kinds, &rates) {
        let ratios: Vec<f64> = std::iter::zip(theirs, &rates[0]).map(|(rate, none)| rate / none).collect();
        ratio = median(&ratios);
        println!("{label:<28} {:>8.0} heartbeats/s  {ratio:.2} of none (in turns: {ratios:.2?})", median(theirs));
    }
    ratio
}

/// The credential of that client, where there are any.
fn of_client(credentials: &[String], n: usize) -> Option<&str> {
    Some(credentials.get(n % credentials.len().max(1))?.as_str())
}

/// Heartbeats one after the other on one connection; how many were answered 200.
async fn beat_for(time: Duration, url: &str, n: usize, authorization: Option<&str>) -> u64 {
    let address = url.trim_start_matches("http://");
    let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/g{n}/clientsessions/s");
    let authorization = authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
    let body = r#"{"PercentHealthyStreams":100}"#;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("it can be set");
    let mut buffer = vec![0; 4_096];
    let (mut count, began) = (0, Instant::now());
    while began.elapsed() < time {
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut length = 0;
        while !buffer[..length].ends_with(b"}") {
            let read = stream.read(&mut buffer[length..]).await.expect("it is answered");
            assert!(read > 0, "it hung up");
            length += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
        count += 1;
    }
    count
}
