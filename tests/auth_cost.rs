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
    let kinds: [(&str, &TestReplica, Option<String>); 6] = [
        ("none", &open, None),
        ("bearer token (RS256)", &guarded, Some(token)),
        ("API key", &guarded, Some(api_key.clone())),
        ("Basic, remembered", &guarded, Some(basic("adapter", "correct horse"))),
        ("API key with rate-limit", &with_limit, Some(api_key.clone())),
        ("API key with bind-sessions", &bound, Some(api_key)),
    ];
    let mut rates = vec![Vec::new(); kinds.len()];
    for turn in 0..=TURNS {
        for (kind, (_, replica, authorization)) in kinds.iter().enumerate() {
            let time = if turn == 0 { TURN / 4 } else { TURN };
            let counts = join_all((0..CLIENTS).map(|n| beat_for(time, replica, n, authorization.as_deref()))).await;
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
    for ((label, ..), rates) in std::iter::zip(&kinds, &rates) {
        println!("{label:<28} {:>8.0} heartbeats/s  {:.2} of none", median(rates), median(rates) / none);
    }
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
