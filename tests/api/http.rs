//! Requests as HTTP: paths, ids, methods, headers, and the one body of every error.

use reqwest::Method;
use serde_json::json;

use crate::support::helpers::TestApp;
use crate::support::wire::{GROUPS, Request};

/// A path below `/api/v1` with these ids in it, as they are.
fn path(tenant: &str, namespace: &str, group: &str, session: &str) -> String {
    format!("/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups/{group}/clientsessions/{session}")
}

#[tokio::test]
async fn literal_segments_match_in_any_case_and_a_trailing_slash_is_accepted() {
    let app = TestApp::start().await;
    let shouted = "/API/V1/TENANTS/t/NAMESPACES/n/CLIENTFAILOVER/GROUPS";
    let mixed = "/api/v1/Tenants/t/Namespaces/n/ClientFailover/Groups";
    for groups in [GROUPS, shouted, mixed] {
        for slash in ["", "/"] {
            let ok = async |request: Request| request.send(&app).await.expect_ok();
            assert_eq!(ok(Request::post(format!("{groups}{slash}"), r#"{"Id":"g"}"#)).await, "g");
            assert_eq!(ok(Request::put(format!("{groups}/g{slash}"), "{}")).await, "g");
            for sessions in ["clientsessions", "clientSessions", "CLIENTSESSIONS"] {
                assert_eq!(ok(Request::post(format!("{groups}/g/{sessions}{slash}"), r#"{"Id":"s"}"#)).await, "s");
                assert_eq!(ok(Request::post(format!("{groups}/g/{sessions}/s{slash}"), "{}")).await["Role"], 1);
                assert_eq!(ok(Request::new("DELETE", format!("{groups}/g/{sessions}/s{slash}"))).await, "s");
            }
            assert_eq!(ok(Request::get(format!("{groups}{slash}?count=1"))).await[0]["Id"], "g");
            assert_eq!(ok(Request::get(format!("{groups}/g{slash}"))).await["Id"], "g");
            assert_eq!(ok(Request::new("DELETE", format!("{groups}/g{slash}?force=true"))).await, "g");
        }
    }
}

#[tokio::test]
async fn an_empty_segment_counts_as_none_and_a_literal_may_be_encoded() {
    let app = TestApp::start().await;
    let doubled = "//api/v1/tenants/t//namespaces/n/ClientFailover//groups";
    let encoded = "/api/v1/%74enants/t/namespaces/n/client%46ailover/groups";
    for groups in [doubled, encoded, "/api//v1///tenants/t/namespaces/n/clientfailover/groups//"] {
        assert_eq!(Request::post(groups, r#"{"Id":"g"}"#).send(&app).await.expect_ok(), "g", "{groups}");
        let session = Request::post(format!("{groups}/g//clientsessions"), r#"{"Id":"s"}"#);
        assert_eq!(session.send(&app).await.expect_ok(), "s");
        let beat = Request::post(format!("{groups}//g/clientsessions//s//"), "{}").send(&app).await;
        assert_eq!(beat.expect_ok()["Role"], 1);
        assert_eq!(Request::get(format!("{groups}?count=1")).send(&app).await.expect_ok()[0]["Id"], "g");
    }
    for path in ["//health//live/", "/%68ealth/live"] {
        assert_eq!(Request::get(path).send(&app).await.expect_ok(), "alive", "{path}");
    }
    // What stands in the place of an id is one, and an id that is missing is not made up.
    Request::new("PUT", "/api/v1/tenants//namespaces/n/clientfailover/groups/g")
        .body("{}")
        .send(&app)
        .await
        .expect_error(404);
    assert_eq!(app.get("").await.header("total-count"), "1");
}

#[tokio::test]
async fn a_plus_in_a_query_is_a_space() {
    let app = TestApp::start().await;
    app.group_of("inlet valve", 60_000, &["s"]).await;
    app.group_of("inlet+valve", 60_000, &[]).await;
    app.beat("inlet valve", "s", 100.0).await;
    let namespace = "/api/v1/tenants/t/namespaces/n/clientfailover";
    for (search, found) in [("inlet+valve", "inlet valve"), ("inlet%20v", "inlet valve"), ("inlet%2Bv", "inlet+valve")]
    {
        let page = Request::get(format!("{namespace}/status?search={search}")).send(&app).await.expect_ok();
        assert_eq!((&page["Total"], &page["Groups"][0]["GroupId"]), (&json!(1), &json!(found)), "{search}: {page}");
    }
    let page = Request::get(format!("{namespace}/status?at%5Frisk=true")).send(&app).await.expect_ok();
    assert_eq!(page["Groups"].as_array().map(Vec::len), Some(1), "{page}");
    // In a date-time it is the sign of an offset, or the space before the clock.
    let transitions = format!("{GROUPS}/inlet%20valve/transitions");
    for since in
        ["2019-08-24T14:15:22+02:00", "2019-08-24T14:15:22%2B02:00", "2019-08-24+14:15:22", "2019-08-24+14:15:22+0200"]
    {
        let changes = Request::get(format!("{transitions}?since={since}")).send(&app).await.expect_ok();
        assert_eq!(changes.as_array().map(Vec::len), Some(1), "{since}");
    }
    let reason = Request::get(format!("{transitions}?since=a+b")).send(&app).await.expect_error(400);
    assert!(reason.contains("since") && reason.contains("'a b'"), "{reason}");
}

#[tokio::test]
async fn ids_keep_their_case_even_where_they_look_like_literal_segments() {
    let app = TestApp::start().await;
    let groups = "/api/v1/tenants/Tenants/namespaces/NAMESPACES/clientfailover/groups";
    for id in ["Groups", "groups", "ClientSessions", "api", "API"] {
        let body = json!({"Id": id}).to_string();
        assert_eq!(Request::post(groups, body.clone()).send(&app).await.expect_ok(), id);
        let sessions = format!("{groups}/{id}/clientSessions");
        assert_eq!(Request::post(&sessions, body).send(&app).await.expect_ok(), id);
        let shown = Request::get(format!("{groups}/{id}")).send(&app).await.expect_ok();
        assert_eq!((&shown["Id"], &shown["Sessions"][id]["Id"]), (&json!(id), &json!(id)));
    }
    let list = Request::get(groups).send(&app).await;
    assert_eq!(list.header("total-count"), "5");
    let elsewhere = Request::get(groups.replace("Tenants/n", "tenants/n")).send(&app).await;
    assert_eq!(elsewhere.header("total-count"), "0");
}

#[tokio::test]
async fn an_id_in_a_path_is_percent_decoded_once() {
    let app = TestApp::start().await;
    let long = "%F0%9F%98%80".repeat(260);
    for (raw, id) in [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%61", "a"),
        ("100%25", "100%"),
        ("%252F", "%2F"),
        ("%C3%A9", "é"),
        ("e%CC%81", "e\u{301}"),
        ("%e6%bc%a2", "漢"),
        ("...", "..."),
        (".a", ".a"),
        ("~!$&'()*,;=:@-_", "~!$&'()*,;=:@-_"),
        ("%22%3C%3E%7B%7D%7C%5E%60%3F%23", "\"<>{}|^`?#"),
        (long.as_str(), "😀".repeat(260).as_str()),
    ] {
        let group = format!("{GROUPS}/{raw}");
        assert_eq!(Request::put(&group, "{}").send(&app).await.expect_ok(), id, "{raw}");
        // The same name in a body is the same group.
        assert_eq!(Request::post(GROUPS, json!({"Id": id}).to_string()).send(&app).await.expect_ok(), id);
        let session = Request::post(format!("{group}/clientsessions"), json!({"Id": id}).to_string());
        assert_eq!(session.send(&app).await.expect_ok(), id);
        Request::post(format!("{group}/clientsessions/{raw}"), "{}").send(&app).await.expect_ok();
        let shown = Request::get(&group).send(&app).await.expect_ok();
        assert_eq!(shown["Id"], id);
        assert_eq!(shown["Clients"][id]["SessionId"], id);
        let tenant = format!("/api/v1/tenants/{raw}/namespaces/{raw}/clientfailover/groups/g");
        Request::put(tenant, "{}").send(&app).await.expect_ok();
    }
    let list = app.get("").await;
    assert_eq!(list.header("total-count"), "13");
}

#[tokio::test]
async fn an_id_in_a_path_that_is_no_id_is_named_in_a_400() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let before = app.get("").await.body;
    let too_long = "%C3%A9".repeat(261);
    let wrong = [
        "a%2Fb",
        "a%2fb",
        "%2F",
        "a%5Cb",
        "a%5cb",
        "%00",
        "a%00",
        "a%0Ab",
        "a%0D",
        "%1F",
        "%7F",
        "a%C2%85b",
        ".",
        "..",
        "%2E",
        "%2e%2E",
        "%20a",
        "a%20",
        "%20",
        "%09",
        "%C2%A0a",
        "a%E2%80%A8",
        "a%E3%80%80",
        "%FF",
        "a%C3",
        "%C0%AF",
        "%ED%A0%80",
        "%F5%80%80%80",
        &too_long,
    ];
    for wrong in wrong {
        for (name, path) in [
            ("tenantId", path(wrong, "n", "g", "s")),
            ("namespaceId", path("t", wrong, "g", "s")),
            ("groupid", path("t", "n", wrong, "s")),
            ("sessionId", path("t", "n", "g", wrong)),
        ] {
            let reason = Request::post(&path, "{}").send(&app).await.expect_error(400);
            assert!(reason.contains(name), "{path}: {reason}");
        }
        Request::get(format!("{GROUPS}/{wrong}")).send(&app).await.expect_error(400);
        Request::put(format!("{GROUPS}/{wrong}"), "{}").send(&app).await.expect_error(400);
        Request::new("DELETE", format!("{GROUPS}/{wrong}")).send(&app).await.expect_error(400);
        Request::new("DELETE", path("t", "n", "g", wrong)).send(&app).await.expect_error(400);
        Request::post(format!("{GROUPS}/{wrong}/clientsessions"), "{}").send(&app).await.expect_error(400);
    }
    assert_eq!(app.get("").await.body, before);
}

#[tokio::test]
async fn ids_of_the_greatest_length_in_every_place_are_stored() {
    let app = TestApp::start().await;
    let mut random = fastrand::Rng::with_seed(4);
    // Four bytes each and without a pattern: nothing that stores them can make them shorter.
    let mut id = || (0..260).map(|_| random.char('\u{10000}'..='\u{10ffff}')).collect::<String>();
    let (tenant, namespace, group, session) = (id(), id(), id(), id());
    let encode = |id: &str| id.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let groups = format!("/api/v1/tenants/{}/namespaces/{}/clientfailover/groups", encode(&tenant), encode(&namespace));
    assert_eq!(Request::post(&groups, json!({"Id": group}).to_string()).send(&app).await.expect_ok(), group);
    let sessions = format!("{groups}/{}/clientsessions", encode(&group));
    assert_eq!(Request::post(&sessions, json!({"Id": session}).to_string()).send(&app).await.expect_ok(), session);
    let beat = Request::post(format!("{sessions}/{}", encode(&session)), "{}").send(&app).await;
    assert_eq!(beat.expect_ok()["Role"], 1);
    let list = Request::get(&groups).send(&app).await.expect_ok();
    assert_eq!(list[0]["Clients"][&session]["SessionId"], session);
}

#[tokio::test]
async fn an_unknown_path_is_a_404_with_the_error_body() {
    let app = TestApp::start().await;
    for path in [
        "/page",
        "/page/main.js/more",
        "/api",
        "/api/v1",
        "/api/v2/tenants/t/namespaces/n/clientfailover/groups",
        "/api/v1/tenants/t/namespaces/n/clientfailover/groupsx",
        "/api/v1/tenants//namespaces/n/clientfailover/groups",
        "/api/v1/tenants/t/namespaces//clientfailover/groups",
        "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/sessions",
        "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/clientsessions/s/more",
        "/x/../api/v1/tenants/t/namespaces/n/clientfailover/groups",
        "/api%2Fv1/tenants/t/namespaces/n/clientfailover/groups",
        "/%00",
        "/%FF%FE",
        "/health",
        "*",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let answer = Request::new(method, path).body("{}").send(&app).await;
            assert_eq!(answer.header("content-type"), "application/json", "{method} {path}");
            assert_eq!(answer.status.as_u16(), 404, "{method} {path}");
            answer.expect_error(404);
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_a_405_that_says_which_it_has() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let before = app.get("").await.body;
    for (path, allow) in [
        (GROUPS.to_owned(), "GET, HEAD, POST"),
        (format!("{GROUPS}/g"), "DELETE, GET, HEAD, PUT"),
        (format!("{GROUPS}/g/clientsessions"), "POST"),
        (format!("{GROUPS}/g/clientsessions/s"), "DELETE, POST"),
        ("/health/live".to_owned(), "GET, HEAD"),
        ("/health/ready".to_owned(), "GET, HEAD"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW", "get"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = Request::new(method, &path).send(&app).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), allow, "{method} {path}");
            // HEAD has no body to look at.
            if method != "HEAD" {
                answer.expect_error(405);
            }
        }
    }
    assert_eq!(app.get("").await.body, before);
}

#[tokio::test]
async fn a_body_over_64_kib_is_a_413_however_it_is_sent() {
    let app = TestApp::start().await;
    let padded = |length: usize| format!(r#"{{"Name":"N"{}}}"#, " ".repeat(length - 12)).into_bytes();
    assert_eq!(padded(64).len(), 64);
    let path = format!("{GROUPS}/g");
    let chunked = |body: &[u8]| {
        let mut chunks = Vec::new();
        for chunk in body.chunks(1_000) {
            chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        [head.into_bytes(), chunks].concat()
    };
    let exchange = async |bytes: &[u8]| {
        let mut connection = crate::support::wire::Connection::open(&app).await;
        connection.write(bytes).await;
        connection.read().await
    };

    for length in [65_537, 70_000] {
        Request::put(&path, padded(length)).send(&app).await.expect_error(413);
        exchange(&chunked(&padded(length))).await.expect_error(413);
    }
    // Refused by its head: nothing of such a body need ever arrive.
    for length in ["65537", "1000000000000", "18446744073709551615"] {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        exchange(head.as_bytes()).await.expect_error(413);
    }
    app.get("/g").await.expect_error(404);
    assert_eq!(Request::put(&path, padded(65_536)).send(&app).await.expect_ok(), "g");
    assert_eq!(exchange(&chunked(&padded(65_536))).await.expect_ok(), "g");
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_in_utf_8_is_a_415() {
    let app = TestApp::start().await;
    let put = |headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(Request::new("PUT", format!("{GROUPS}/g")), |request, (name, value)| request.header(name, value))
            .body(r#"{"Name":"é"}"#)
    };
    for kind in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "json",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json;charset=\"latin1\"",
        "application/json; odata=verbose; charset=utf-7",
        "*/*",
        "\u{e9}",
    ] {
        put(&[("Content-Type", kind)]).send(&app).await.expect_error(415);
    }
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", coding)];
        let reason = put(&headers).send(&app).await.expect_error(415);
        assert!(reason.contains(coding), "{reason}");
    }
    // A page can have a browser send a body without a type to anybody, without being asked whether
    // it may.
    put(&[("Origin", "http://localhost")]).send(&app).await.expect_error(415);
    app.get("/g").await.expect_error(404);
    for headers in [
        &[][..],
        &[("Origin", "http://localhost"), ("Content-Type", "application/json")],
        &[("Content-Type", "application/json")],
        &[("Content-Type", "APPLICATION/JSON ; Charset=UTF-8")],
        &[("Content-Type", "application/json;charset=\"utf-8\"")],
        &[("Content-Type", "text/json")],
        &[("Content-Type", "application/problem+json")],
        &[("Content-Type", "application/json;odata=verbose")],
        &[("Content-Type", "application/json"), ("Content-Encoding", "identity")],
        &[("Content-Type", "application/json"), ("Expect", "100-continue")],
    ] {
        assert_eq!(put(headers).send(&app).await.expect_ok(), "g", "{headers:?}");
    }
    assert_eq!(app.get("/g").await.expect_ok()["Name"], "é");
}

#[tokio::test]
async fn the_operation_id_is_the_trace_id_of_a_well_formed_traceparent_and_otherwise_new() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let app = TestApp::start().await;
    for well_formed in [
        format!("00-{TRACE}-b7ad6b7169203331-01"),
        format!("00-{TRACE}-b7ad6b7169203331-ff"),
        format!("01-{TRACE}-b7ad6b7169203331-01"),
        format!("cc-{TRACE}-b7ad6b7169203331-01-what-the-future-brings"),
    ] {
        let ok = Request::get(GROUPS).header("traceparent", &well_formed).send(&app).await;
        assert_eq!(ok.header("operation-id"), TRACE, "{well_formed}");
        let error = Request::get(format!("{GROUPS}/g")).header("TraceParent", &well_formed).send(&app).await;
        assert_eq!(error.body["OperationId"], TRACE);
        error.expect_error(404);
    }
    let mut seen = std::collections::HashSet::new();
    for malformed in [
        String::new(),
        TRACE.to_owned(),
        format!("00-{TRACE}-b7ad6b7169203331"),
        format!("00-{TRACE}-b7ad6b7169203331-01-more"),
        format!("ff-{TRACE}-b7ad6b7169203331-01"),
        format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
        format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-b7ad6b7169203331-01", &TRACE[1..]),
        format!("00-{TRACE}0-b7ad6b7169203331-01"),
        format!("00-{TRACE}-b7ad6b716920333-01"),
        format!("00-{TRACE}-b7ad6b7169203331-1"),
        format!("0-{TRACE}-b7ad6b7169203331-01"),
        format!("00_{TRACE}_b7ad6b7169203331_01"),
        format!("00-{}-b7ad6b7169203331-01", TRACE.replace('0', "g")),
        format!("00-{}-b7ad6b7169203331-01", "é".repeat(16)),
    ] {
        for path in [GROUPS.to_owned(), format!("{GROUPS}/g"), "/nowhere".to_owned()] {
            let answer = Request::get(path).header("traceparent", &malformed).send(&app).await;
            let id = answer.header("operation-id").to_owned();
            assert_eq!((id.len(), id.bytes().all(|byte| byte.is_ascii_hexdigit())), (32, true), "{id}");
            assert_ne!(id.to_lowercase(), TRACE, "{malformed}");
            assert!(seen.insert(id), "an id was used twice");
            if answer.status != 200 {
                answer.expect_error(404);
            }
        }
    }
}

#[tokio::test]
async fn a_heartbeats_answer_tells_the_term_the_timeout_and_the_lease_and_is_not_to_be_cached() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a", "b"]).await;
    let expect = async |session: &str, health: u8, role: u8, term: &str, lease: &str| {
        let answer = app.heartbeat("g", session, json!({"PercentHealthyStreams": health})).await;
        assert_eq!(answer.header("failover-timeout-ms"), "60000");
        let shown =
            [answer.header("failover-term"), answer.header("failover-lease-ms"), answer.header("cache-control")];
        assert_eq!(shown, [term, lease, "no-store"]);
        assert_eq!(answer.expect_ok()["Role"], role);
    };
    expect("a", 50, 1, "1", "60000").await;
    expect("b", 50, 0, "1", "0").await;
    expect("b", 100, 2, "1", "0").await;
    app.database.let_time_pass(60_000).await;
    expect("b", 100, 1, "2", "60000").await;
    expect("a", 50, 0, "2", "0").await;

    // A client must not trust its lease for longer than it has it.
    app.put("/g", json!({"FailoverTimeout": "00:00:00.1009999"})).await.expect_ok();
    // A change is seen in the next answer, whatever the role.
    for (session, lease) in [("b", "100"), ("a", "0")] {
        let answer = app.heartbeat("g", session, json!({"PercentHealthyStreams": 50})).await;
        assert_eq!([answer.header("failover-timeout-ms"), answer.header("failover-lease-ms")], ["100", lease]);
    }
    for path in ["/g", ""] {
        assert_eq!(app.get(path).await.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn the_header_failover_role_is_one_of_three_numbers_or_left_out() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a"]).await;
    let beat = |role: &[u8]| Request::post(format!("{GROUPS}/g/clientsessions/a"), "{}").header("Failover-Role", role);
    for wrong in
        [&b""[..], b"3", b"-1", b"01", b"1.0", b"+1", b"Primary", b"null", b"1,1", b"0 1", b"\xff", "é".as_bytes()]
    {
        let reason = beat(wrong).send(&app).await.expect_error(400);
        assert!(reason.contains("Failover-Role"), "{reason}");
    }
    let client = app.get("/g").await.expect_ok()["Clients"]["a"].take();
    assert_eq!(client, json!({"SessionId": "a", "Role": 0, "Heartbeat": null}));
    for role in [&b"0"[..], b"1", b"2", b"  1\t"] {
        beat(role).send(&app).await.expect_ok();
    }
    let lower_case = Request::post(format!("{GROUPS}/g/clientsessions/a"), "{}").header("failover-role", "7");
    lower_case.send(&app).await.expect_error(400);
}

#[tokio::test]
async fn the_error_body_says_what_was_wrong_with_its_names_and_values() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    app.beat("g", "s", 100.0).await;
    for (method, below, body, status, told) in [
        (Method::GET, "/missing", None, 404, &["'missing'", "'n'", "'t'"][..]),
        (Method::DELETE, "/missing", None, 404, &["'missing'", "'n'", "'t'"]),
        (Method::POST, "/missing/clientsessions", Some(json!({})), 404, &["'missing'"]),
        (Method::POST, "/missing/clientsessions/s", Some(json!({})), 404, &["'missing'"]),
        (Method::DELETE, "/missing/clientsessions/s", None, 404, &["'missing'"]),
        (Method::POST, "/g/clientsessions/missing", Some(json!({})), 404, &["'missing'", "'g'"]),
        (Method::DELETE, "/g/clientsessions/missing", None, 404, &["'missing'", "'g'"]),
        (Method::POST, "", Some(json!({"Id": "g"})), 200, &[]),
        (Method::POST, "", Some(json!({"Id": "g", "Name": "N"})), 409, &["'g'"]),
        (Method::POST, "/g/clientsessions", Some(json!({"Id": "s", "Name": "N"})), 409, &["'s'", "'g'"]),
        (Method::DELETE, "/g", None, 409, &["'g'", "1 live"]),
        (Method::PUT, "/g", Some(json!({"Id": "G"})), 400, &["'G'", "'g'"]),
        (Method::GET, "?skip=x", None, 400, &["skip", "'x'"]),
    ] {
        let answer = app.send(method.clone(), below, body).await;
        if status == 200 {
            answer.expect_ok();
            continue;
        }
        let reason = answer.expect_error(status);
        for told in told {
            assert!(reason.contains(told), "{method} {below}: {told} is not in: {reason}");
        }
    }
}
