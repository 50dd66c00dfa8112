//! Where an answer ends and whether its connection goes on, as clients and proxies of all kinds
//! have it.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::support::described::Described;
use crate::support::helpers::{Answer, TestApp, TestReplica, eventually};
use crate::support::wire::{Connection, GROUPS, Request};

const BEAT: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/clientsessions/s";

/// A group `g` with a session `s`.
async fn with_a_session() -> TestApp {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    app
}

fn says_close(answer: &Answer) -> bool {
    answer.headers.get("connection").is_some_and(|value| value == "close")
}

#[tokio::test]
async fn what_can_be_got_is_answered_to_head_alike_and_without_a_body() {
    let app = with_a_session().await;
    let described = Described::of(&app).await;
    let namespace = "/api/v1/tenants/t/namespaces/n";
    let mut paths: Vec<String> = described
        .operations()
        .iter()
        .filter(|operation| operation.method == reqwest::Method::GET)
        .map(|operation| operation.path.replace("/api/v1/tenants/{tenantId}/namespaces/{namespaceId}", namespace))
        .map(|path| path.replace("{groupid}", "g").replace("{sessionId}", "s").replace("{tenantId}", "t"))
        .collect();
    assert_eq!(paths.len(), 37);
    for more in [
        "/",
        "/page/main.js",
        "/docs",
        "/docs/start.js",
        "/nowhere",
        "/api/v1/tenants/t/namespaces/n/clientfailover/groups/none",
    ] {
        paths.push(more.to_owned());
    }
    paths.push(format!("{GROUPS}?skip=x"));
    let told = |answer: &Answer, name: &str| answer.headers.get(name).cloned();
    for path in paths {
        let mut connection = Connection::open(&app).await;
        connection.write(&Request::new("HEAD", &path).to_bytes()).await;
        let head = connection.read_head_only().await;
        let is_endless = path.ends_with("/events");
        let got = if is_endless {
            let mut stream = Connection::open(&app).await;
            stream.write(&Request::get(&path).to_bytes()).await;
            stream.read_head_only().await
        } else {
            Request::get(&path).send(&app).await
        };
        assert_eq!(head.status, got.status, "{path}");
        let mut names = vec!["content-type", "total-count", "cache-control", "etag", "transfer-encoding"];
        // What is counted meanwhile makes some longer, and times that go on have as many digits as
        // they need.
        if path != "/metrics" && !path.ends_with("/status") && !path.ends_with("/histories") {
            names.push("content-length");
        }
        for name in names {
            assert_eq!(told(&head, name), told(&got, name), "{path} {name}");
        }
        assert_eq!(told(&head, "operation-id").map(|id| id.len()), Some(32));
        if is_endless {
            assert!(says_close(&head), "{path}");
            connection.expect_end().await;
        } else {
            // No body stands between this answer and the next.
            connection.write(&Request::get("/health/live").to_bytes()).await;
            assert_eq!(connection.read().await.expect_ok(), "alive", "{path}");
        }
    }
    Request::new("HEAD", BEAT).send(&app).await;
    assert_eq!(Request::new("HEAD", BEAT).send(&app).await.header("allow"), "DELETE, POST");
}

/// One request on a connection that has served one before; whether its answer said that the
/// connection closes. That must be the truth.
async fn closes_after(app: &TestReplica, what: &str, request: &[u8], statuses: &[u16]) -> bool {
    let mut connection = Connection::open(app).await;
    connection.write(&Request::get(GROUPS).to_bytes()).await;
    assert!(!says_close(&connection.read().await), "{what}: before");
    connection.write(request).await;
    let answer = if request.starts_with(b"HEAD") { connection.read_head_only().await } else { connection.read().await };
    assert!(statuses.contains(&answer.status.as_u16()), "{what}: {}", answer.status);
    let closes = says_close(&answer) || answer.headers.get("connection").is_none() && what.contains("HTTP/1.0");
    if answer.status.is_client_error() && !request.starts_with(b"HEAD") {
        answer.expect_error(statuses[0]);
    }
    if closes {
        connection.expect_end().await;
    } else {
        connection.write(&Request::get("/health/live").to_bytes()).await;
        let next = connection.try_read().await.unwrap_or_else(|| panic!("{what}: it closed without a word"));
        assert_eq!(next.expect_ok(), "alive", "{what}");
    }
    closes
}

#[tokio::test]
async fn an_answer_says_whether_its_connection_closes() {
    let app = with_a_session().await;
    let beat = || Request::post(BEAT, "{}");
    let with = |name: &str, value: &str| beat().header(name, value).to_bytes();
    let raw = |text: &str| text.as_bytes().to_vec();
    let json = "Content-Type: application/json\r\n";
    let long = |length: usize| "x".repeat(length);
    let chunked = |method: &str, path: &str, body: &str| {
        raw(&format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{json}Transfer-Encoding: chunked\r\n\r\n{body}"))
    };
    let websocket = beat().header("Connection", "keep-alive, Upgrade").header("Upgrade", "websocket").to_bytes();
    let http2 = beat()
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
        .to_bytes();
    let old = |more: &str| raw(&format!("POST {BEAT} HTTP/1.0\r\n{json}Content-Length: 2\r\n{more}\r\n{{}}"));
    let old_list = |more: &str| raw(&format!("GET {GROUPS} HTTP/1.0\r\n{more}\r\n"));
    let large = |length: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", length, " ".repeat(length));
    let bodied = |method: &str, path: &str| Request::new(method, path).body("{}").to_bytes();
    // What, the request, its status, and whether the connection must close (true), must be kept
    // (false), or either.
    let cases: Vec<(&str, Vec<u8>, u16, Option<bool>)> = vec![
        ("a heartbeat", beat().to_bytes(), 200, Some(false)),
        ("a list", Request::get(GROUPS).to_bytes(), 200, Some(false)),
        ("keep-alive", with("Connection", "keep-alive"), 200, Some(false)),
        ("another option", with("Connection", "TE"), 200, Some(false)),
        ("close", with("Connection", "Close"), 200, Some(true)),
        ("close among others", with("Connection", "keep-alive, close"), 200, Some(true)),
        ("upgrade", with("Connection", "upgrade"), 200, Some(true)),
        ("upgrade and keep-alive", with("Connection", "Upgrade, keep-alive"), 200, Some(true)),
        ("keep-alive and upgrade", with("Connection", "keep-alive, Upgrade"), 200, Some(true)),
        ("an offer of WebSocket", websocket, 200, Some(true)),
        ("an offer of HTTP/2", http2, 200, Some(true)),
        (
            "an upgrade of what is not there",
            Request::get("/none").header("Connection", "upgrade").to_bytes(),
            404,
            Some(true),
        ),
        ("an upgraded HEAD", Request::new("HEAD", GROUPS).header("Connection", "upgrade").to_bytes(), 200, Some(true)),
        ("HTTP/1.0", old(""), 200, Some(true)),
        ("kept HTTP/1.0", old("Connection: keep-alive\r\n"), 200, Some(false)),
        ("a list by HTTP/1.0", old_list(""), 200, Some(true)),
        ("a list by kept HTTP/1.0", old_list("Connection: keep-alive\r\n"), 200, Some(true)),
        ("100-continue", with("Expect", "100-continue"), 200, Some(false)),
        ("another expectation", with("Expect", "200-ok"), 200, Some(false)),
        ("chunks", chunked("POST", BEAT, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), 200, Some(false)),
        (
            "chunks with an extension and a trailer",
            chunked("POST", BEAT, "2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n"),
            200,
            None,
        ),
        ("a body on GET", bodied("GET", GROUPS), 200, None),
        ("a body on HEAD", bodied("HEAD", GROUPS), 200, None),
        ("a body on DELETE", bodied("DELETE", &format!("{GROUPS}/none")), 404, None),
        ("chunks on GET", chunked("GET", GROUPS, "2\r\n{}\r\n0\r\n\r\n"), 200, None),
        ("chunks on DELETE", chunked("DELETE", &format!("{GROUPS}/none"), "2\r\n{}\r\n0\r\n\r\n"), 404, None),
        ("no path", bodied("POST", "/none"), 404, None),
        ("no method", bodied("PATCH", GROUPS), 405, None),
        ("no JSON", Request::new("POST", BEAT).header("Content-Type", "text/plain").body("{}").to_bytes(), 415, None),
        ("bad JSON", Request::post(BEAT, "{").to_bytes(), 400, Some(false)),
        ("no session", Request::post(format!("{BEAT}x"), "{}").to_bytes(), 404, Some(false)),
        ("too large a body", Request::post(BEAT, " ".repeat(70_000)).to_bytes(), 413, Some(true)),
        (
            "the announcement of one",
            raw(&format!("POST {BEAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n")),
            413,
            Some(true),
        ),
        ("too large a body in a chunk", chunked("POST", BEAT, &large(70_000)), 413, Some(true)),
        ("a chunk that is none", chunked("POST", BEAT, "xyz\r\n{}\r\n0\r\n\r\n"), 400, Some(true)),
        ("no HTTP", raw("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n"), 400, Some(true)),
        ("another protocol", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400, Some(true)),
        ("no host", raw(&format!("GET {GROUPS} HTTP/1.1\r\n\r\n")), 400, Some(true)),
        ("two hosts", Request::get(GROUPS).header("Host", "other").to_bytes(), 400, Some(true)),
        ("two lengths", beat().header("Content-Length", "3").to_bytes(), 400, Some(true)),
        (
            "a bad length",
            raw(&format!("POST {BEAT} HTTP/1.1\r\nHost: h\r\nContent-Length: two\r\n\r\n{{}}")),
            400,
            Some(true),
        ),
        ("chunks and a length", beat().header("Transfer-Encoding", "chunked").to_bytes(), 400, Some(true)),
        ("a space in the path", raw("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"), 400, Some(true)),
        ("a long target", Request::get(format!("{GROUPS}?x={}", long(20_000))).to_bytes(), 414, Some(false)),
        ("a longer target", Request::get(format!("/{}", long(70_000))).to_bytes(), 414, Some(true)),
        ("the longest target", Request::get(format!("/{}", long(300_000))).to_bytes(), 414, Some(true)),
        ("a large header", Request::get(GROUPS).header("X", long(300_000)).to_bytes(), 431, Some(true)),
    ];
    for (what, request, status, must_close) in cases {
        let closes = closes_after(&app, what, &request, &[status]).await;
        assert!(must_close.is_none_or(|must| must == closes), "{what}: closes {closes}");
    }
}

#[tokio::test]
async fn the_first_request_of_a_connection_is_refused_with_the_error_body_too() {
    let app = TestApp::start().await;
    for (status, request) in [
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, format!("GET {GROUPS} HTTP/1.1\r\n\r\n")),
        (414, format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(300_000))),
        (431, format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(300_000))),
    ] {
        let mut connection = Connection::open(&app).await;
        connection.write(request.as_bytes()).await;
        let answer = connection.read().await;
        assert!(says_close(&answer) && answer.headers.contains_key("date"), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        answer.expect_error(status);
        connection.expect_end().await;
    }
    // What was asked before is answered before.
    let mut connection = Connection::open(&app).await;
    let two = [Request::get("/health/live").to_bytes(), b"nonsense\r\n\r\n".to_vec()].concat();
    connection.write(&two).await;
    assert_eq!(connection.read().await.expect_ok(), "alive");
    connection.read().await.expect_error(400);
    connection.expect_end().await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_without_a_word() {
    // Sooner than by default: it is waited for.
    let app = TestApp::start_with(|settings| settings.http.connections.head = Duration::from_secs(1)).await;
    let mut ahead = Connection::open(&app).await;
    let mut begun = Connection::open(&app).await;
    begun.write(b"GET /health/live HTTP/1.1\r\nHost").await;
    // No answer comes that nobody has asked for.
    let ((), answer) = tokio::join!(ahead.expect_end(), begun.read());
    assert!(says_close(&answer));
    let reason = answer.expect_error(408);
    assert!(reason.contains("in time"), "{reason}");
    begun.expect_end().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_with_its_connection() {
    let app = with_a_session().await;
    // Both at once: each waits for as long as a body may take.
    let framings = ["Content-Length: 2\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"];
    let given_up = framings.map(async |framing| {
        let mut connection = Connection::open(&app).await;
        connection.write(format!("POST {BEAT} HTTP/1.1\r\nHost: h\r\n{framing}").as_bytes()).await;
        let answer = connection.read().await;
        assert!(says_close(&answer), "{framing}");
        answer.expect_error(408);
        connection.expect_end().await;
    });
    futures_util::future::join_all(given_up).await;
}

#[tokio::test]
async fn an_answer_that_was_under_way_when_the_service_began_to_stop_says_that_its_connection_closes() {
    let app = TestApp::start_with(|settings| settings.drain = Duration::from_secs(3)).await;
    app.group_of("g", 60_000, &["s"]).await;
    let mut holder = app.database.connect().await;
    let mut lock = holder.begin().await.expect("a transaction begins");
    lock.execute("LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE").await.expect("nobody else holds it");
    let mut connection = Connection::open(&app).await;
    connection.write(&Request::post(BEAT, "{}").to_bytes()).await;
    let waiting = "SELECT 1 AS one FROM pg_locks WHERE relation = 'heartbeats'::regclass AND NOT granted";
    eventually("the heartbeat waits", async || !app.database.rows(waiting).await.is_empty()).await;
    let TestApp { replica, database } = app;
    let looking = TestReplica::at(replica.url.clone());
    let stopping = tokio::spawn(replica.stop());
    eventually("the service drains", async || !looking.is_ready().await).await;
    lock.rollback().await.expect("it ends");
    let answer = connection.read().await;
    assert!(says_close(&answer), "{answer:?}");
    assert_eq!(answer.expect_ok()["Role"], 1);
    connection.expect_end().await;
    stopping.await.expect("it stops");
    drop(database);
}

#[tokio::test]
async fn a_list_by_http_1_0_is_whole_without_chunks() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let app = with_a_session().await;
    let address = app.url.strip_prefix("http://").expect("a plain address");
    for more in ["", "Connection: keep-alive\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it accepts");
        stream.write_all(format!("GET {GROUPS} HTTP/1.0\r\n{more}\r\n").as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it ends by closing");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends");
        assert!(head.starts_with("HTTP/1.0 200 OK") && !head.contains("chunked"), "{head}");
        let list: serde_json::Value = serde_json::from_str(body).expect("the body alone");
        assert_eq!(list[0]["Id"], "g");
    }
}

#[tokio::test]
async fn a_target_may_be_absolute_as_proxies_send_it() {
    let app = with_a_session().await;
    for host in ["http://elsewhere.example", "http://127.0.0.1:1", "HTTPS://h"] {
        let groups = Request::get(format!("{host}{GROUPS}?count=1")).send(&app).await;
        assert_eq!(groups.expect_ok()[0]["Id"], "g");
        let mixed = format!("{host}{}", BEAT.replace("clientfailover/groups", "ClientFailover//Groups"));
        assert_eq!(Request::post(mixed, json!({}).to_string()).send(&app).await.expect_ok()["Role"], 1);
        Request::get(format!("{host}/")).send(&app).await;
    }
}
