//! The adapter itself, against a service that answers what it is told to: whether it asks and takes
//! the answers as those in the field do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::adapter::{Balance, Configuration, Event, Mode, Role, newest_item};
use super::plant::{Destination, Running};
use crate::support::helpers::eventually;

const SOON: Duration = Duration::from_millis(200);
/// In place of a status: it is not answered.
const NEVER: u16 = 0;
const HOUR: Duration = Duration::from_secs(3_600);

/// What was asked.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    body: Value,
    at: Instant,
}

/// A service that answers registrations with success, and the rest by a script.
struct Scripted {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Script = dyn Fn(&Asked, usize) -> (u16, String) + Send + Sync;

impl Scripted {
    /// The script is told what is asked, and how many heartbeats were asked for before.
    async fn start(script: impl Fn(&Asked, usize) -> (u16, String) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (noted, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, noted.clone(), script.clone()));
            }
        });
        Scripted { port, asked }
    }

    fn adapter(&self, timeout: Duration) -> Running {
        self.adapter_of("G", timeout)
    }

    fn adapter_of(&self, group: &str, timeout: Duration) -> Running {
        let configuration = Configuration {
            endpoints: vec![format!("http://127.0.0.1:{}/base/", self.port)],
            balance: Balance::TheNextAfterAFailure,
            group: group.to_owned(),
            id: "HOST-A1.OpcUa".to_owned(),
            timeout,
            mode: Mode::Hot,
            score: 100.0,
            saved: Role::Secondary,
        };
        Running::start(configuration, Destination::default())
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics over it").clone()
    }

    fn heartbeats(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(is_heartbeat).collect()
    }

    async fn has_heard(&self, heartbeats: usize) {
        eventually("it heartbeats", async || self.heartbeats().len() >= heartbeats).await;
    }
}

fn is_heartbeat(asked: &Asked) -> bool {
    asked.line.ends_with("/heartbeat")
}

async fn answer(stream: TcpStream, noted: Arc<Mutex<Vec<Asked>>>, script: Arc<Script>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            } else if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = given.trim().parse().expect("a number");
            } else if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("it sends what it announced");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let asked = Asked { line: first, body, at: Instant::now() };
        let (status, text) = {
            let mut noted = noted.lock().expect("nobody panics over it");
            let before = noted.iter().filter(|asked| is_heartbeat(asked)).count();
            noted.push(asked.clone());
            script(&asked, before)
        };
        if status == NEVER {
            std::future::pending::<()>().await;
        }
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers heartbeats one after another with these, the last again and again, and all else with
/// 201.
fn heartbeats(answers: &[(u16, &str)]) -> impl Fn(&Asked, usize) -> (u16, String) + Send + Sync + 'static {
    let answers: Vec<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    move |asked, before| {
        if is_heartbeat(asked) { answers[before.min(answers.len() - 1)].clone() } else { (201, "not read".to_owned()) }
    }
}

const PRIMARY: &str = r#"{"Role":1,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#;
const SECONDARY: &str = r#"{"Role":0,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#;
const PENDING: &str = r#"{"Role":2,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn it_registers_heartbeats_and_says_goodbye() {
    let service = Scripted::start(heartbeats(&[(200, PRIMARY)])).await;
    let adapter = service.adapter_of("Anlage Süd|1", Duration::from_millis(90_500));
    service.has_heard(1).await;
    eventually("it sends", async || adapter.events().iter().any(|event| matches!(event, Event::Delivered(_)))).await;
    service.has_heard(2).await;
    assert_eq!(adapter.stop().await, Role::Primary);
    let asked = service.asked();
    let group = "/base/groups/Anlage%20S%C3%BCd%7C1";
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /base/groups/".to_owned(),
            format!("POST {group}/clientsessions"),
            format!("POST {group}/clientsessions/HOST-A1.OpcUa/heartbeat"),
            format!("POST {group}/clientsessions/HOST-A1.OpcUa/heartbeat"),
            format!("DELETE {group}/clientsessions/HOST-A1.OpcUa"),
        ]
    );
    assert_eq!(asked[0].body, json!({"Id": "Anlage Süd|1", "FailoverTimeout": "00:01:30.5000000"}));
    assert_eq!(asked[1].body, json!({"Id": "HOST-A1.OpcUa", "Name": "HOST-A1 OpcUa"}));
    assert_eq!(asked[2].body, json!({"FailoverScore": 100, "LastDataProcessedTime": "0001-01-01T00:00:00"}));
    let second = asked[3].body["LastDataProcessedTime"].as_str().expect("a text");
    assert!(second.ends_with("7Z") && second.len() == "2026-10-07T10:00:00.1234567Z".len(), "{second}");
    assert!(asked[3].at - asked[2].at >= Duration::from_millis(900), "the second follows after a second");
}

#[tokio::test]
async fn it_takes_each_answer_as_those_in_the_field_do() {
    use Role::{Primary, Secondary};
    let keeps = |status| (status, r#"{"Role":0,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, Primary);
    let table = [
        (200, SECONDARY, Secondary),
        (200, PRIMARY, Primary),
        (200, r#"{"Role":0,"LastDataProcessedTime":null}"#, Primary),
        (200, r#"{"Role":null,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, Primary),
        (200, r#"{"Role":9,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, Primary),
        (200, "", Primary),
        (200, "<html>", Primary),
        keeps(204),
        keeps(400),
        keeps(401),
        keeps(403),
        keeps(409),
        keeps(429),
        keeps(500),
        keeps(503),
        (200, "{}", Secondary),
        (200, r#"{"role":"PRIMARY","lastdataprocessedtime":"2026-10-07T10:00:00.1234567Z"}"#, Primary),
        (200, r#"{"Role":"secondary"}"#, Secondary),
        (200, r#"{"Role":1,"LastDataProcessedTime":"2026-10-07T10:00:00+02:00"}"#, Primary),
    ];
    let answers: Vec<(u16, &str)> = table.iter().map(|(status, body, _)| (*status, *body)).collect();
    let service = Scripted::start(heartbeats(&answers)).await;
    let adapter = service.adapter(SOON);
    service.has_heard(table.len() + 1).await;
    // The role that it has when it heartbeats next.
    let mut role = Secondary;
    let mut roles = Vec::new();
    for event in adapter.events() {
        match event {
            Event::Took(taken) => role = taken,
            Event::Sent { .. } => roles.push(role),
            _ => {}
        }
    }
    for ((status, body, expected), role) in table.iter().zip(&roles[1..]) {
        assert_eq!(role, expected, "{status} {body}");
    }
    assert_eq!(service.asked().len() - service.heartbeats().len(), 2, "it registers once");
}

#[tokio::test]
async fn told_that_it_is_about_to_be_primary_it_asks_again_at_once_ten_times() {
    let service = Scripted::start(heartbeats(&[(200, PENDING)])).await;
    let adapter = service.adapter(HOUR);
    let logs = || adapter.events().iter().filter(|event| matches!(event, Event::LoggedError(_))).count();
    eventually("it logs an error", async || logs() == 1).await;
    assert_eq!(service.heartbeats().len(), 11);
    assert_eq!(adapter.role(), Role::Secondary);
    eventually("it goes on at its next tick", async || logs() == 2).await;
    let heartbeats = service.heartbeats();
    assert_eq!(heartbeats.len(), 22);
    assert!(heartbeats[11].at - heartbeats[0].at >= Duration::from_millis(900));
}

#[tokio::test]
async fn told_that_it_is_not_known_it_registers_again_and_heartbeats_at_its_next_tick() {
    let service = Scripted::start(heartbeats(&[(200, PRIMARY), (404, ""), (200, SECONDARY)])).await;
    let adapter = service.adapter(Duration::from_secs(2));
    service.has_heard(3).await;
    let asked = service.asked();
    let lines: Vec<&str> = asked.iter().skip(4).map(|asked| asked.line.as_str()).collect();
    assert_eq!(lines[..2], ["POST /base/groups/", "POST /base/groups/G/clientsessions"]);
    assert!(asked[6].at - asked[5].at >= Duration::from_millis(700), "half a timeout after the one before");
    let role_at_404 = adapter.events().into_iter().filter_map(|event| match event {
        Event::Took(role) => Some(role),
        _ => None,
    });
    assert_eq!(role_at_404.collect::<Vec<_>>()[..1], [Role::Primary]);
}

#[tokio::test]
async fn a_group_with_another_timeout_gives_it_its_own() {
    let of_heartbeats = heartbeats(&[(200, SECONDARY)]);
    let service = Scripted::start(move |asked, before| match asked.line.as_str() {
        "POST /base/groups/" => (409, "not read".to_owned()),
        "GET /base/groups/G" => (200, r#"{"FailoverTimeout":"00:00:00.2"}"#.to_owned()),
        _ => of_heartbeats(asked, before),
    })
    .await;
    let _adapter = service.adapter(HOUR);
    service.has_heard(4).await;
}

#[tokio::test]
async fn a_registration_that_fails_is_tried_again() {
    let of_heartbeats = heartbeats(&[(200, SECONDARY)]);
    let tries = AtomicUsize::new(0);
    let service = Scripted::start(move |asked, before| match asked.line.as_str() {
        "POST /base/groups/" if tries.fetch_add(1, Ordering::Relaxed) < 2 => (503, String::new()),
        _ => of_heartbeats(asked, before),
    })
    .await;
    let _adapter = service.adapter(SOON);
    service.has_heard(1).await;
    assert_eq!(service.asked().iter().filter(|asked| asked.line == "POST /base/groups/").count(), 3);
}

#[tokio::test]
async fn one_heartbeat_is_under_way_at_a_time() {
    let service = Scripted::start(heartbeats(&[(200, SECONDARY), (NEVER, "")])).await;
    let adapter = service.adapter(SOON);
    service.has_heard(2).await;
    // So many ticks that are left out, by the clock of the adapter's own source.
    let until = newest_item() + 50;
    eventually("some ticks pass", async || newest_item() > until).await;
    assert_eq!(service.heartbeats().len(), 2);
    assert_eq!(adapter.role(), Role::Secondary);
}

/// A hot standby keeps what the Primary may not have sent, and drops the rest.
#[tokio::test]
async fn a_hot_standby_keeps_what_is_no_older_than_the_watermark_less_half_a_timeout() {
    let far_future = r#"{"Role":0,"LastDataProcessedTime":"2999-01-01T00:00:00Z"}"#;
    let service = Scripted::start(heartbeats(&[(200, SECONDARY), (200, SECONDARY), (200, far_future)])).await;
    let adapter = service.adapter(Duration::from_secs(1));
    eventually("it trims", async || !adapter.trimmed().is_empty()).await;
    assert_eq!(service.heartbeats().len(), 3, "of an unset time nothing is older");
    let trimmed = adapter.trimmed();
    assert_eq!(trimmed.len() as i64, trimmed.last().expect("one") - trimmed.first().expect("one") + 1);

    let kept = Scripted::start(heartbeats(&[(200, SECONDARY), (200, SECONDARY), (200, PRIMARY)])).await;
    let adapter = kept.adapter(Duration::from_secs(1));
    adapter.takes(Role::Primary).await;
    let first = adapter.first_item;
    let sent = || {
        adapter.events().into_iter().find_map(|event| match event {
            Event::Delivered(items) => Some(items),
            _ => None,
        })
    };
    eventually("it sends what it kept", async || sent().is_some()).await;
    assert!(*sent().expect("it was there").start() <= first);
}
