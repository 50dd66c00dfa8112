//! What recognising callers costs: heartbeats per second with each kind of credential against none, in turns.

use std::time::{Duration, Instant};

use client_failover::auth::AuthOptions;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::credentials::{add_user, all_but_certificates, basic, create_key, new_dir};
use crate::helpers::{TestDatabase, TestReplica, settings};
use crate::issuer::{SigningKey, TokenIssuer};

/// How many clients heartbeat at once, each in a group of its own.
const CLIENTS: usize = 64;
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 5;

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
        ("none", &open, vec![]),
        ("bearer token (RS256)", &guarded, vec![token]),
        ("API key", &guarded, vec![api_key.clone()]),
        ("Basic, remembered", &guarded, vec![basic("adapter", "correct horse")]),
        ("API key with rate-limit", &with_limit, vec![api_key.clone()]),
        ("API key with bind-sessions", &bound, vec![api_key]),
    ])
    .await;
}

/// Needs no time of its own for passwords, so that it says something in any build.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --release --test suite -- --ignored --nocapture a_key_for_each_client"]
async fn heartbeats_per_second_with_a_key_for_each_client_and_the_limits_by_default() {
    let database = TestDatabase::new().await;
    let open = TestReplica::start(settings(database.connect_options())).await;
    let mut usual = settings(database.connect_options());
    usual.auth =
        AuthOptions { api_keys: true, clients_create_groups: true, rate_limit: Some(5_000), ..AuthOptions::default() };
    usual.failover.bind_sessions = true;
    let usual = TestReplica::start(usual).await;
    let mut keys = Vec::new();
    for n in 0..CLIENTS {
        open.group_of(&format!("g{n}"), 60_000, &["s"]).await;
        let grant = ["--tenant", "t", "--role", "client"];
        keys.push(format!("Bearer {}", create_key(&database, &format!("adapter-{n}"), &grant).await.1));
    }
    database.execute("UPDATE sessions SET registered_by = NULL").await;
    measure(&[("none", &open, vec![]), ("a key for each client", &usual, keys)]).await;
}

/// In turns, so that what else the machine does meets all of them; prints the median of each and its part of the first.
async fn measure(kinds: &[(&str, &TestReplica, Vec<String>)]) {
    let mut rates = vec![Vec::new(); kinds.len()];
    for turn in 0..=TURNS {
        for (kind, (_, replica, credentials)) in kinds.iter().enumerate() {
            let time = if turn == 0 { TURN / 4 } else { TURN };
            let counts = join_all((0..CLIENTS).map(|n| beat_for(time, replica, n, of_client(credentials, n)))).await;
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
    let none = median(&rates[0]);
    for ((label, ..), rates) in std::iter::zip(kinds, &rates) {
        println!("{label:<28} {:>8.0} heartbeats/s  {:.2} of none", median(rates), median(rates) / none);
    }
}

/// The credential of that client, where there are any.
fn of_client(credentials: &[String], n: usize) -> Option<&str> {
    Some(credentials.get(n % credentials.len().max(1))?.as_str())
}

/// Heartbeats one after the other on one connection; how many were answered 200.
async fn beat_for(time: Duration, replica: &TestReplica, n: usize, authorization: Option<&str>) -> u64 {
    let address = replica.url.trim_start_matches("http://");
    let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/g{n}/clientsessions/s");
    let authorization = authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
    let body = r#"{"PercentHealthyStreams":100}"#;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
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
