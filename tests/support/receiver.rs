//! A receiver of the webhook: takes messages on loopback, or does not, and keeps all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client_failover::access::unix_now;
use client_failover::webhook::{Receiver as Target, WebhookEvent, WebhookOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::helpers::{eventually, remove_after_the_run, scratch_dir, spawn_shared};

/// What messages are signed with.
pub const SECRET: &str = "a secret that only tests know";

/// What a message is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// That status.
    Status(u16),
    /// A redirect to there.
    Redirect(u16),
    /// Nothing, for ever.
    Hang,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Came {
    pub id: String,
    pub body: Value,
    pub reaction: Reaction,
}

type React = Box<dyn Fn(&Value) -> Reaction + Send>;

struct State {
    react: Mutex<React>,
    came: Mutex<Vec<Came>>,
}

/// See the module.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    state: Arc<State>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        // On the runtime that outlives the test's own.
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free again");
        listener.set_nonblocking(true).expect("it can be");
        let react: React = Box::new(|_| Reaction::Status(204));
        let state = Arc::new(State { react: Mutex::new(react), came: Mutex::default() });
        let receiver = Receiver { port, state: state.clone() };
        spawn_shared(async move {
            let listener = TcpListener::from_std(listener).expect("it is one");
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, state.clone()));
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?token=secret", self.port)
    }

    /// How it answers a message with that body from now on.
    pub fn react(&self, react: impl Fn(&Value) -> Reaction + Send + 'static) {
        *self.state.react.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(react);
    }

    /// Every message that came, in order, whatever became of it.
    pub fn came(&self) -> Vec<Came> {
        self.state.came.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that were taken.
    pub fn taken(&self) -> Vec<Came> {
        self.came().into_iter().filter(|came| came.reaction == Reaction::Status(204)).collect()
    }

    /// Waits until as many were taken, and that each was once.
    pub async fn wait_for(&self, count: usize) -> Vec<Came> {
        eventually("the receiver has them", async || self.taken().len() >= count).await;
        let taken = self.taken();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        taken.iter().for_each(|came| *times.entry(&came.id).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "{times:?}");
        assert_eq!(taken.len(), count, "{taken:?}");
        taken
    }

    /// Settings of a replica that tells it.
    pub fn options(&self, events: &[WebhookEvent]) -> WebhookOptions {
        WebhookOptions {
            receiver: Target::parse(&self.url()).expect("it is a URL"),
            secret_file: secret_file(),
            events: events.to_vec(),
            give_up_after: Duration::from_secs(600),
            hold_for: Duration::from_secs(2),
            risk_interval: Duration::from_millis(100),
        }
    }
}

/// A file with the secret.
pub fn secret_file() -> PathBuf {
    let dir = scratch_dir("secret");
    remove_after_the_run(&dir);
    let path = dir.join("webhook-secret");
    std::fs::write(&path, format!("{SECRET}\n")).expect("it can be written");
    path
}

async fn serve(mut connection: TcpStream, state: Arc<State>) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match connection.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).expect("ASCII");
        assert!(text.starts_with("POST /hook?token=secret HTTP/1.1\r\n"), "{text}");
        let header = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.unwrap_or_else(|| panic!("no {wanted}: {text}")).1.to_owned()
        };
        let length: usize = header("content-length").parse().expect("a number");
        while bytes.len() < head + length {
            match connection.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let body = String::from_utf8(bytes[head..head + length].to_vec()).expect("UTF-8");
        bytes.drain(..head + length);
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        check_signature(&id, &timestamp, &body, &header("webhook-signature"));
        assert_eq!(header("content-type"), "application/json");
        let body = serde_json::from_str(&body).expect("it is JSON");
        let reaction = (state.react.lock().unwrap_or_else(PoisonError::into_inner))(&body);
        let came = Came { id, body, reaction };
        state.came.lock().unwrap_or_else(PoisonError::into_inner).push(came);
        let answer = match reaction {
            Reaction::Status(status) => format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"),
            Reaction::Redirect(port) => format!(
                "HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:{port}/hook?token=secret\r\nContent-Length: 0\r\n\r\n"
            ),
            Reaction::Hang => std::future::pending().await,
        };
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn check_signature(id: &str, timestamp: &str, body: &str, signature: &str) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    assert_eq!(signature, format!("v1,{}", STANDARD.encode(tag)));
    let timestamp: i64 = timestamp.parse().expect("a number");
    assert!((unix_now() - timestamp).abs() < 30, "{timestamp}");
}
