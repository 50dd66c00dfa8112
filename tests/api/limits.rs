//! What one caller may take from the others: requests, connections, time, groups.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::credentials::{add_user, basic, create_key, new_dir};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::wire::{Connection, GROUPS, Request};
use client_failover::access::AuthOptions;
use client_failover::access::writes::WriteRates;

#[tokio::test]
async fn an_identity_that_asks_too_often_is_429_and_the_others_are_not() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth =
        AuthOptions { api_keys: true, rate_limit: Some(20), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, greedy) = create_key(&database, "greedy", &["--tenant", "t", "--role", "client"]).await;
    let (_, modest) = create_key(&database, "modest", &["--tenant", "t", "--role", "client"]).await;
    let ask = async |key: &str| Answer::of(app.http.get(format!("{}{GROUPS}", app.url)).bearer_auth(key)).await;
    let began = Instant::now();
    let answers = join_all((0..200).map(|_| ask(&greedy))).await;
    let elapsed = began.elapsed();
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    let most = 20.0 * (1.0 + elapsed.as_secs_f64()) + 1.0;
    println!("200 requests in {elapsed:?} at 20 per second: {} served, {} refused", served.len(), refused.len());
    assert!(served.len() >= 20 && (served.len() as f64) <= most, "{}", served.len());
    for answer in refused {
        assert_eq!(answer.header("retry-after"), "1");
        answer.expect_error(429);
    }
    ask(&modest).await.expect_ok();
    eventually("the greedy one is served again", async || ask(&greedy).await.status == 200).await;
    let health = app.http.get(format!("{}/health/live", app.url));
    Answer::of(health).await.expect_ok();
}

#[tokio::test]
async fn where_nobody_is_asked_the_rate_is_that_of_an_address() {
    let app = TestApp::start_with(|settings| settings.auth.rate_limit = Some(5)).await;
    let answers = join_all((0..30).map(|_| app.get(""))).await;
    assert!(answers.iter().any(|answer| answer.status == 429));
}

#[tokio::test]
async fn a_body_that_does_not_come_and_a_head_that_does_not_end_are_given_up() {
    let app = TestApp::start_with(|settings| {
        settings.http.connections.head = Duration::from_secs(4);
        settings.http.connections.progress = Duration::from_secs(4);
    })
    .await;
    app.group_of("g", 60_000, &["s"]).await;
    let request = Request::post(format!("{GROUPS}/g/clientsessions/s"), r#"{"PercentHealthyStreams":75}"#).to_bytes();
    let mut slow = Vec::new();
    for end in [5, request.len() / 2, request.len() - 10].repeat(100) {
        let mut connection = Connection::open(&app).await;
        connection.write(&request[..end]).await;
        slow.push((end, connection));
    }
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(app.beat("g", "s", 50.0).await, 1);
        slowest = slowest.max(asked.elapsed());
    }
    let ends = slow.iter_mut().map(async |(end, connection)| {
        // A byte now and then does not buy more time.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        connection.write(&request[*end..=*end]).await;
        let answer = connection.try_read().await;
        if let Some(answer) = &answer {
            assert_eq!(answer.status, 408, "{answer:?}");
        }
        connection.expect_end().await;
        answer.is_some()
    });
    let answered = join_all(ends).await.into_iter().filter(|answered| *answered).count();
    println!(
        "300 slow connections were given up after {:?}, {answered} with a 408; the slowest heartbeat beside them took {slowest:?}",
        began.elapsed()
    );
    // As long again as each may take, and not for as long as its bytes keep coming.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

#[tokio::test]
async fn too_large_a_head_or_body_is_refused_and_stops_nobody() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["s"]).await;
    let large = format!("{{\"Name\":\"{}\"}}", "x".repeat(65_536));
    for chunked in [false, true] {
        let mut connection = Connection::open(&app).await;
        let request = if !chunked {
            Request::put(format!("{GROUPS}/g"), large.clone()).to_bytes()
        } else {
            format!(
                "PUT {GROUPS}/g HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
                large.len()
            )
            .into_bytes()
        };
        connection.write(&request).await;
        connection.read().await.expect_error(413);
    }
    let authorization = format!("Bearer {}", "x".repeat(200_000));
    let request = Request::get(GROUPS).header("Authorization", authorization);
    let mut connection = Connection::open(&app).await;
    connection.write(&request.to_bytes()).await;
    if let Some(answer) = connection.try_read().await {
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    assert_eq!(app.beat("g", "s", 50.0).await, 1);
}

#[tokio::test]
async fn more_connections_than_the_limit_are_503_and_health_is_told_all_the_same() {
    for (limit, per_address) in [(4, 100), (100, 4)] {
        let app = TestApp::start_with(|settings| {
            settings.http.connections.limit = limit;
            settings.http.connections.per_address = per_address;
        })
        .await;
        let (live, list) = (Request::get("/health/live").to_bytes(), Request::get(GROUPS).to_bytes());
        let mut open = Vec::new();
        for _ in 0..4 {
            let mut connection = Connection::open(&app).await;
            connection.write(&live).await;
            connection.read().await.expect_ok();
            open.push(connection);
        }
        let mut one_more = Connection::open(&app).await;
        one_more.write(&list).await;
        let answer = one_more.read().await;
        assert_eq!(answer.header("retry-after"), "1");
        answer.expect_error(503);
        one_more.expect_end().await;
        let mut checks = Vec::new();
        for _ in 0..8 {
            checks.push(Connection::open(&app).await);
        }
        let mut too_many = Connection::open(&app).await;
        too_many.read().await.expect_error(503);
        too_many.expect_end().await;
        for check in &mut checks {
            check.write(&live).await;
            check.read().await.expect_ok();
            check.expect_end().await;
        }
        open.truncate(2);
        eventually("another is served", async || {
            let mut served = Connection::open(&app).await;
            served.write(&list).await;
            served.read().await.status == 200
        })
        .await;
    }
}

/// Short times, so that what takes too long is seen to.
async fn hasty() -> TestApp {
    TestApp::start_with(|settings| {
        settings.http.connections.head = Duration::from_millis(800);
        settings.http.connections.progress = Duration::from_secs(1);
        settings.http.connections.idle = Duration::from_secs(2);
    })
    .await
}

#[tokio::test]
async fn the_second_head_of_a_connection_has_no_more_time_than_the_first() {
    let app = hasty().await;
    let live = Request::get("/health/live").to_bytes();
    // A byte with the request before it, one after its answer, and a head that comes byte by byte.
    for (with, after, drips) in [("G", "", false), ("", "G", false), ("", "GET /", true), ("\r\n", "\r\nG", true)] {
        let mut connection = Connection::open(&app).await;
        connection.write(&[&live, with.as_bytes()].concat()).await;
        connection.read().await.expect_ok();
        let began = Instant::now();
        connection.write(after.as_bytes()).await;
        let drip = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            while drips && began.elapsed() < Duration::from_secs(8) {
                ticks.tick().await;
                if connection.is_refused(b"x").await {
                    break;
                }
            }
            connection.try_read().await
        };
        if let Some(answer) = drip.await {
            answer.expect_error(408);
        }
        connection.expect_end().await;
        // A byte now and then does not buy more time.
        assert!(began.elapsed() < Duration::from_secs(6), "{with:?} {after:?} {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_without_an_answer() {
    let app = hasty().await;
    let mut new = Connection::open(&app).await;
    let mut used = Connection::open(&app).await;
    used.write(&Request::get("/health/live").to_bytes()).await;
    used.read().await.expect_ok();
    let began = Instant::now();
    new.expect_end().await;
    used.expect_end().await;
    assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_drips_after_its_request_was_refused_is_given_up() {
    let app = hasty().await;
    for head in ["Content-Length: 50000", "Transfer-Encoding: chunked"] {
        let mut connection = Connection::open(&app).await;
        connection.write(format!("POST /nowhere HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").as_bytes()).await;
        connection.read().await.expect_error(404);
        let began = Instant::now();
        let ended = async {
            loop {
                let piece: &[u8] = if head.starts_with('C') { b"x" } else { b"1\r\nx\r\n" };
                if connection.is_refused(piece).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(6), ended).await.expect("it is given up");
        println!("{head}: given up after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let app = hasty().await;
    let mut deaf = Connection::open(&app).await;
    // Far more than fits into the buffers between.
    let bundle = Request::get("/docs/swagger-ui-bundle.js").to_bytes();
    deaf.write(&bundle.repeat(14)).await;
    let ended = async {
        while !deaf.is_refused(b"x").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is given up");
    // One that reads, however long it is, is not.
    let mut slow = Connection::open(&app).await;
    slow.write(&bundle).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(slow.read().await.status, 200);
}

#[tokio::test]
async fn a_caller_has_so_many_lists_under_way_and_no_more() {
    let app = TestApp::start_with(|settings| settings.http.lists_per_caller = 2).await;
    // Far more than fits into the buffers between.
    app.database
        .execute(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks, description)
             SELECT gen_random_uuid(), 't', 'n', i::text, 600000000, repeat('d', 4096) FROM generate_series(1, 5000) i",
        )
        .await;
    let list = Request::get(GROUPS).to_bytes();
    let mut unread = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(&app).await;
        connection.write(&list).await;
        unread.push(connection);
    }
    eventually("a third is too many", async || {
        let mut third = Connection::open(&app).await;
        third.write(&Request::get(format!("{GROUPS}?count=1")).to_bytes()).await;
        third.read().await.status == 429
    })
    .await;
    app.put("/g", json!({})).await.expect_ok();
    assert_eq!(unread.remove(0).read().await.status, 200);
    eventually("there is room again", async || app.get("?count=1").await.status == 200).await;
}

/// The groups `a` to `e`.
async fn with_five_groups_of_600_sessions() -> TestApp {
    let app = TestApp::start().await;
    for group in ["a", "b", "c", "d", "e"] {
        app.put(&format!("/{group}"), json!({})).await.expect_ok();
    }
    app.database
        .execute("INSERT INTO sessions (group_key, session_id) SELECT group_key, i::text FROM groups, generate_series(1, 600) i")
        .await;
    app
}

#[tokio::test]
async fn groups_of_many_sessions_are_listed_a_few_at_a_time_and_all_of_them() {
    let app = with_five_groups_of_600_sessions().await;
    for (query, wanted) in [("", "abcde"), ("?skip=1&count=3", "bcd"), ("?skip=4", "e")] {
        let list = app.get(query).await.expect_ok();
        let groups = list.as_array().expect("a list");
        let ids: String = groups.iter().map(|group| group["Id"].as_str().expect("an id")).collect();
        assert_eq!(ids, wanted);
        assert!(groups.iter().all(|group| group["Clients"].as_object().expect("sessions").len() == 600));
    }
}

#[tokio::test]
async fn a_list_is_begun_before_all_of_its_groups_are_read() {
    let app = with_five_groups_of_600_sessions().await;
    // Whoever reads the last one fails, so what is told before was made without it.
    app.database
        .execute(
            "ALTER TABLE sessions DROP CONSTRAINT sessions_role_is_known;
             UPDATE sessions SET role = 9 FROM groups WHERE groups.group_key = sessions.group_key AND group_id = 'e'",
        )
        .await;
    let mut list = app.http.get(format!("{}{GROUPS}", app.url)).send().await.expect("it answers");
    assert_eq!(list.status(), 200);
    let mut told = Vec::new();
    while let Ok(Some(piece)) = list.chunk().await {
        told.extend_from_slice(&piece);
    }
    let told = String::from_utf8(told).expect("UTF-8");
    assert!(told.contains("\"Id\":\"b\"") && !told.contains("\"Id\":\"e\"") && !told.ends_with(']'));
    let last = app.http.get(format!("{}{GROUPS}?skip=4", app.url)).send().await.expect("it answers");
    assert_eq!(last.status(), 500);
}

#[tokio::test]
async fn the_page_to_try_the_api_on_can_be_left_out() {
    let app = TestApp::start_with(|settings| settings.http.docs = false).await;
    for (path, status) in
        [("/docs", 404), ("/docs/swagger-ui-bundle.js", 404), ("/docs/swagger-ui.css", 404), ("/openapi.json", 200)]
    {
        assert_eq!(Request::get(path).send(&app).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_groups_and_no_more() {
    let app = TestApp::start_with(|settings| settings.failover.group_limit = Some(3)).await;
    for group in ["a", "b", "c"] {
        app.put(&format!("/{group}"), json!({})).await.expect_ok();
    }
    app.put("/d", json!({})).await.expect_error(409);
    app.post("", json!({})).await.expect_error(409);
    // In whatever namespace; but what is there stays what it is, and another tenant has its own.
    let elsewhere = async |tenant: &str| {
        let url = format!("{}/api/v1/tenants/{tenant}/namespaces/m/clientfailover/groups/x", app.url);
        Answer::of(app.http.request(Method::PUT, url).json(&json!({}))).await
    };
    elsewhere("t").await.expect_error(409);
    elsewhere("u").await.expect_ok();
    app.put("/a", json!({"Name": "changed"})).await.expect_ok();
    app.post("", json!({"Id": "b"})).await.expect_ok();
    app.delete("/c").await.expect_ok();
    app.put("/d", json!({})).await.expect_ok();
}

#[tokio::test]
async fn wrong_passwords_from_elsewhere_keep_no_user_out_who_was_not_here_before() {
    let file = new_dir().join("users.toml");
    add_user(&file, "adapter", "correct horse", &["--tenant", "t", "--role", "client"]).await;
    let auth = AuthOptions { users_file: Some(file), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = auth).await;
    let elsewhere = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let elsewhere = elsewhere.build().expect("a client can be made");
    let ask = async |client: &reqwest::Client, name: &str, password: &str| {
        let request = client.get(format!("{}{GROUPS}", app.url)).header("authorization", basic(name, password));
        Answer::of(request).await.status.as_u16()
    };
    let strangers = join_all((0..70).map(|n| {
        let (ask, elsewhere) = (&ask, &elsewhere);
        async move {
            for round in 0.. {
                let name = if n % 2 == 0 { "adapter" } else { "nobody" };
                assert!(matches!(ask(elsewhere, name, &format!("wrong {n} {round}")).await, 401 | 429));
                // As fast as it is answered.
                tokio::task::yield_now().await;
            }
        }
    }));
    let user = async {
        // The strangers are under way.
        while ask(&elsewhere, "nobody", "wrong").await != 429 {
            tokio::task::yield_now().await;
        }
        ask(&app.http, "adapter", "correct horse").await
    };
    tokio::select! {
        _ = strangers => unreachable!("they never end"),
        status = user => assert_eq!(status, 200),
    }
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_does_not_keep_a_known_user_out() {
    let file = new_dir().join("users.toml");
    add_user(&file, "adapter", "correct horse", &["--tenant", "t", "--role", "client"]).await;
    let auth = AuthOptions { users_file: Some(file), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = auth).await;
    let ask = async |password: &str| {
        let request = app.http.get(format!("{}{GROUPS}", app.url)).header("authorization", basic("adapter", password));
        Answer::of(request).await
    };
    ask("correct horse").await.expect_ok();
    let ask = &ask;
    let flood = join_all((0..400).map(|n| async move { ask(&format!("wrong {n}")).await.status.as_u16() }));
    let known = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            ask("correct horse").await.expect_ok();
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (refused, slowest) = futures_util::future::join(flood, known).await;
    let too_many = refused.iter().filter(|status| **status == 429).count();
    println!(
        "400 wrong passwords at once: {too_many} were 429 and the others 401; a known user waited {slowest:?} at most"
    );
    assert!(refused.iter().all(|status| matches!(status, 401 | 429)));
    assert!(too_many > 0 && slowest < Duration::from_secs(5), "{too_many} {slowest:?}");
}

#[tokio::test]
async fn a_tenant_has_so_many_sessions_and_no_more() {
    let app = TestApp::start_with(|settings| settings.failover.tenant_session_limit = Some(3)).await;
    for group in ["a", "b"] {
        app.put(&format!("/{group}"), json!({})).await.expect_ok();
    }
    let register = async |group: &str, id: &str| app.post(&format!("/{group}/clientsessions"), json!({"Id": id})).await;
    for (group, id) in [("a", "1"), ("a", "2"), ("b", "1")] {
        register(group, id).await.expect_ok();
    }
    register("b", "2").await.expect_error(409);
    // What is there stays what it is, and what is deleted makes room.
    register("b", "1").await.expect_ok();
    app.delete("/a/clientsessions/1").await.expect_ok();
    register("b", "2").await.expect_ok();
}

#[tokio::test]
async fn changes_are_bounded_by_their_kind_for_a_caller_and_for_a_tenant_and_heartbeats_never_are() {
    let rates = |text: &str| WriteRates::UNBOUNDED.with(text);
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions {
        api_keys: true,
        clients_create_groups: true,
        caller_writes: rates("registrations=3"),
        tenant_writes: rates("changes=4"),
        ..AuthOptions::default()
    };
    let app = TestReplica::start(settings).await;
    let mut keys = Vec::new();
    for (name, tenant) in [("a", "t"), ("b", "t"), ("c", "u")] {
        keys.push(create_key(&database, name, &["--tenant", tenant, "--role", "client"]).await.1);
    }
    let [a, b, c] = &keys[..] else { unreachable!("there are three") };
    let send = async |key: &str, method: Method, tenant: &str, below: &str, body: serde_json::Value| {
        let url = format!("{}/api/v1/tenants/{tenant}/namespaces/n/clientfailover/groups{below}", app.url);
        Answer::of(app.http.request(method, url).bearer_auth(key).json(&body)).await
    };
    let put = async |key: &str, tenant: &str, group: &str| {
        send(key, Method::PUT, tenant, &format!("/{group}"), json!({"Milliseconds": 60_000})).await
    };
    // Four groups of the tenant, whoever makes them; of another tenant some more.
    for (key, group) in [(a, "1"), (b, "2"), (a, "3"), (b, "4")] {
        put(key, "t", group).await.expect_ok();
    }
    let refused = put(a, "t", "5").await;
    let wait: u64 = refused.header("retry-after").parse().expect("a number");
    assert!((2..=900).contains(&wait), "{wait}");
    assert!(refused.body["Reason"].as_str().is_some_and(|reason| reason.starts_with("This tenant had its 4 groups")));
    refused.expect_error(429);
    put(c, "u", "1").await.expect_ok();
    // Three registrations of the caller, and others have their own.
    let register =
        async |key: &str, id: &str| send(key, Method::POST, "t", "/1/clientsessions", json!({"Id": id})).await;
    for id in ["1", "2", "3"] {
        register(a, id).await.expect_ok();
    }
    let refused = register(a, "4").await;
    assert!(refused.body["Reason"].as_str().is_some_and(|reason| reason.starts_with("This caller had its 3 reg")));
    refused.expect_error(429);
    register(b, "5").await.expect_ok();
    // What keeps a Primary alive is none of it.
    for _ in 0..20 {
        let beat = send(a, Method::POST, "t", "/1/clientsessions/1", json!({"PercentHealthyStreams": 100})).await;
        assert_eq!(beat.expect_ok()["Role"], 1);
    }
    assert_eq!(send(a, Method::DELETE, "t", "/1/clientsessions/2", json!(null)).await.status, 200);
    let groups = database.rows("SELECT tenant_id || group_id AS id FROM groups ORDER BY id").await;
    assert_eq!(groups.len(), 5, "{groups:?}");
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let app = TestApp::start().await;
    let group = json!({"Name": "N", "Milliseconds": 60_000});
    app.put("/g", group.clone()).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await.expect_ok();
    // The version of every row that a request could have written, and how many there are.
    let stored = async || {
        app.database
            .rows(
                "SELECT (SELECT array_agg(xmin::text) FROM groups) AS groups, (SELECT array_agg(xmin::text) FROM sessions) AS sessions,
                    (SELECT count(*) FROM audit_log) AS audited, (SELECT count(*) FROM configuration_changes) AS changed,
                    (SELECT count(*) FROM role_transitions) AS moved, (SELECT count(*) FROM former_groups) AS former",
            )
            .await
    };
    let before = stored().await;
    for _ in 0..3 {
        app.put("/g", group.clone()).await.expect_ok();
        app.post("", json!({"Id": "g", "Name": "N", "Milliseconds": 60_000})).await.expect_ok();
        app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await.expect_ok();
        app.post("/g/clientsessions", json!({"Id": "s", "Name": "another"})).await.expect_error(409);
        app.delete("/g/clientsessions/nobody").await.expect_error(404);
        app.delete("/nothing").await.expect_error(404);
    }
    assert_eq!(stored().await, before);
}

#[tokio::test]
async fn however_many_ask_whether_it_is_ready_the_database_is_asked_a_few_times() {
    let app = TestApp::start().await;
    app.wait_until_ready().await;
    // Each look at the version is counted.
    app.database
        .execute(
            "CREATE SEQUENCE looks; ALTER TABLE refinery_schema_history RENAME TO real_history;
             CREATE VIEW refinery_schema_history AS SELECT h.version, h.name, h.checksum FROM real_history h, (SELECT nextval('looks')) look",
        )
        .await;
    let began = Instant::now();
    let answers = join_all((0..300).map(|_| app.http.get(format!("{}/health/ready", app.url)).send())).await;
    let windows = began.elapsed().as_millis() / 250 + 2;
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status() == 200)));
    let looks = app.database.rows("SELECT last_value AS n FROM looks").await[0]["n"].as_u64().expect("a number");
    assert!(u128::from(looks) <= windows, "{looks} looks in {windows} windows");
}
