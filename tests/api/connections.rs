//! Connections that misbehave: each is refused or dropped by itself, and no other notices.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::helpers::TestApp;
use crate::support::wire::{Connection, GROUPS, Request};

#[tokio::test]
async fn what_is_not_http_is_refused_and_hurts_nobody() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let put = format!("PUT {GROUPS}/g HTTP/1.1\r\nHost: h\r\n");
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(300_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let lengths = format!("{put}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}");
    let both = format!("{put}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let coding = format!("{put}Transfer-Encoding: gzip\r\n\r\n{{}}");
    let negative = format!("{put}Content-Length: -1\r\n\r\n{{}}");
    let signed = format!("{put}Content-Length: +2\r\n\r\n{{}}");
    let hexadecimal = format!("{put}Content-Length: 0x2\r\n\r\n{{}}");
    let malformed: [&[u8]; 20] = [
        b"\r\n\r\n\r\n",
        b"\0\0\0\0",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        both.as_bytes(),
        lengths.as_bytes(),
        coding.as_bytes(),
        negative.as_bytes(),
        signed.as_bytes(),
        hexadecimal.as_bytes(),
    ];
    let bystander = &mut Connection::open(&app).await;
    let before = app.get("").await.text;
    for bytes in malformed.into_iter().chain([long_line.as_bytes(), many_headers.as_bytes()]) {
        let mut connection = Connection::open(&app).await;
        connection.write(bytes).await;
        connection.close_writing_half().await;
        if let Some(answer) = connection.try_read().await {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            assert!(answer.status.is_client_error(), "{shown}: {answer:?}");
        }
        bystander.write(&Request::get(GROUPS).to_bytes()).await;
        assert_eq!(bystander.read().await.text, before);
    }
}

#[tokio::test]
async fn slow_clients_stop_nobody_and_are_answered_when_they_are_done() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let request = Request::post(format!("{GROUPS}/g/clientsessions/s"), r#"{"PercentHealthyStreams":75}"#).to_bytes();
    // Some stop in the request line, some in a header, some in the body.
    let stops = [1, 5, 40, request.len() / 2, request.len() - 29, request.len() - 28, request.len() - 1];
    let mut slow = Vec::new();
    for stop in stops.repeat(10) {
        let mut connection = Connection::open(&app).await;
        connection.write(&request[..stop]).await;
        slow.push((connection, stop));
    }
    for _ in 0..5 {
        assert_eq!(app.beat("g", "s", 50.0).await, 1);
    }
    let answers = slow.iter_mut().map(async |(connection, stop)| {
        for byte in &request[*stop..] {
            connection.write(&[*byte]).await;
        }
        connection.read().await.expect_ok()["Role"].take()
    });
    assert!(join_all(answers).await.into_iter().all(|role| role == json!(1)));
}

#[tokio::test]
async fn clients_that_vanish_stop_nobody() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let request = Request::post(format!("{GROUPS}/g/clientsessions/s"), r#"{"PercentHealthyStreams":75}"#).to_bytes();
    for end in [0, 10, request.len() - 10, request.len()].repeat(10) {
        let mut vanishing = Connection::open(&app).await;
        vanishing.write(&request[..end]).await;
    }
    for end in [10, request.len() - 10, request.len()].repeat(10) {
        let mut half_closed = Connection::open(&app).await;
        half_closed.write(&request[..end]).await;
        half_closed.close_writing_half().await;
        // Whole or not, answered or not: it comes to an end.
        if let Some(answer) = half_closed.try_read().await {
            assert!(answer.status == 200 || answer.status.is_client_error(), "{answer:?}");
            half_closed.expect_end().await;
        }
    }
    assert_eq!(app.beat("g", "s", 50.0).await, 1);
    assert_eq!(app.get("/g").await.expect_ok()["Clients"]["s"]["Heartbeat"]["PercentHealthyStreams"], 50.0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_an_error_is_only_the_answer_of_its_own() {
    let app = TestApp::start().await;
    let requests = [
        (Request::put(format!("{GROUPS}/g"), "{}"), 200),
        (Request::post(format!("{GROUPS}/g/clientsessions"), r#"{"Id":"s"}"#), 200),
        (Request::post(format!("{GROUPS}/g/clientsessions/s"), "{}"), 200),
        (Request::get(format!("{GROUPS}/missing")), 404),
        (Request::put(format!("{GROUPS}/g"), "{"), 400),
        (Request::new("PATCH", format!("{GROUPS}/g")).json("{}"), 405),
        (Request::put(format!("{GROUPS}/g"), "{}").header("Content-Encoding", "gzip"), 415),
        (Request::post("/nowhere", "{}"), 404),
        (Request::post(format!("{GROUPS}/.."), "{}"), 405),
        (Request::put(format!("{GROUPS}/.."), "{}"), 400),
        (Request::new("DELETE", format!("{GROUPS}/g")).json("{}"), 409),
        (Request::get(GROUPS), 200),
        (Request::new("DELETE", format!("{GROUPS}/g?force=true")), 200),
        (Request::get(format!("{GROUPS}/g")), 404),
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|(request, _)| request.to_bytes()).collect();
    let mut connection = Connection::open(&app).await;
    connection.write(&bytes).await;
    for (request, status) in &requests {
        let answer = connection.read().await;
        assert_eq!(answer.status.as_u16(), *status, "{}: {answer:?}", String::from_utf8_lossy(&request.to_bytes()));
        if *status != 200 {
            answer.expect_error(*status);
        }
    }
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_stops_nobody() {
    let app = TestApp::start().await;
    for group in 0..20 {
        app.put(&format!("/{group}"), json!({"Description": "d".repeat(4_096)})).await.expect_ok();
    }
    // Far more than fits into the buffers between.
    let requests = Request::get(GROUPS).to_bytes().repeat(200);
    let mut deaf: Vec<Connection> = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(&app).await;
        connection.write(&requests).await;
        deaf.push(connection);
    }
    for _ in 0..5 {
        assert_eq!(app.get("/7").await.expect_ok()["Id"], "7");
    }
}
