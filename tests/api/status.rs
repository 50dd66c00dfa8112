//! What operators look at: the groups at risk first, the others page by page.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp, eventually};

const MINUTE: i64 = 60_000;

/// A service that counts all the time.
async fn start() -> TestApp {
    TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await
}

async fn status(app: &TestApp, query: &str) -> Value {
    let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/status{query}", app.url);
    Answer::of(app.http.get(url)).await.expect_ok()
}

fn shown(page: &Value) -> Vec<String> {
    let groups = page["Groups"].as_array().expect("an array");
    let line = |group: &Value| {
        let risks: Vec<&str> = group["Risks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{} {}", group["GroupId"].as_str().unwrap_or_default(), risks.join(",")).trim_end().to_owned()
    };
    groups.iter().map(line).collect()
}

#[tokio::test]
async fn groups_at_risk_come_first_and_each_says_why() {
    let app = start().await;
    for group in ["fine", "alone", "ill", "vacant"] {
        app.group_of(group, MINUTE, &["a", "b"]).await;
    }
    app.group_of("unused", MINUTE, &[]).await;
    for (group, session, health) in
        [("fine", "a", 100.0), ("fine", "b", 95.0), ("alone", "a", 100.0), ("ill", "a", 40.5), ("ill", "b", 20.0)]
    {
        app.beat(group, session, health).await;
    }
    let expected = ["vacant NoPrimary", "alone NoStandby", "ill PrimaryUnhealthy", "fine", "unused"];
    eventually("the census has seen them", async || {
        let page = status(&app, "").await;
        shown(&page) == expected && page["Counted"]["LiveSessions"] == 5
    })
    .await;
    let page = status(&app, "").await;
    assert_eq!((&page["Total"], &page["AtRisk"]), (&json!(5), &json!(3)));
    assert_eq!(shown(&status(&app, "?at_risk=true").await), expected[..3]);
    assert_eq!(shown(&status(&app, "?count=2&skip=1").await), expected[1..3]);
    assert_eq!(shown(&status(&app, "?count=2&skip=3").await), expected[3..]);
    assert_eq!(shown(&status(&app, "?search=IN").await), ["fine"]);
    assert_eq!(shown(&status(&app, "?search=N&count=2").await), ["vacant NoPrimary", "alone NoStandby"]);
    assert_eq!(shown(&status(&app, "?search=n&skip=2").await), ["fine", "unused"]);
    assert_eq!(shown(&status(&app, "?search=100%25").await), Vec::<String>::new());
    for query in ["?count=201", "?count=x", "?skip=-1", "?at_risk=maybe"] {
        let url = format!("{}/api/v1/clientfailover/status{query}", app.url);
        Answer::of(app.http.get(url)).await.expect_error(400);
    }
    let everywhere = Answer::of(app.http.get(format!("{}/api/v1/ClientFailover/Status", app.url))).await.expect_ok();
    assert_eq!(shown(&everywhere), expected);
    let elsewhere = format!("{}/api/v1/tenants/t/namespaces/other/clientfailover/status", app.url);
    let elsewhere = Answer::of(app.http.get(elsewhere)).await.expect_ok();
    assert_eq!((&elsewhere["Total"], &elsewhere["AtRisk"], &elsewhere["Groups"]), (&json!(0), &json!(0), &json!([])));
    assert_eq!(elsewhere["Counted"]["Groups"], 0);
    for page in [&page, &everywhere] {
        let names = [
            "Groups",
            "AtRisk",
            "NoPrimary",
            "NoStandby",
            "PrimaryUnhealthy",
            "Flapping",
            "RegisteredSessions",
            "LiveSessions",
        ];
        assert_eq!(names.map(|name| page["Counted"][name].as_i64()), [5, 3, 1, 1, 1, 0, 8, 5].map(Some), "{page}");
        assert!(page["Counted"]["AgeMs"].as_i64().is_some_and(|age| age < 10_000));
    }
    let namespaces =
        Answer::of(app.http.get(format!("{}/api/v1/clientfailover/namespaces", app.url))).await.expect_ok();
    assert_eq!(namespaces, json!([{"TenantId": "t", "NamespaceId": "n", "Groups": 5, "GroupsAtRisk": 3}]));
    for (query, found, total) in
        [("?search=T", 1, "1"), ("?search=x", 0, "0"), ("?skip=1", 0, "1"), ("?count=0", 0, "1")]
    {
        let url = format!("{}/api/v1/clientfailover/namespaces{query}", app.url);
        let answer = Answer::of(app.http.get(url)).await;
        assert_eq!(answer.header("total-count"), total, "{query}");
        assert_eq!(answer.expect_ok().as_array().map(Vec::len), Some(found), "{query}");
    }
}

#[tokio::test]
async fn a_group_shows_who_holds_what_and_for_how_long() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b", "mute"]).await;
    // What it reports counts from its second heartbeat on: before that it was not Primary.
    for _ in 0..2 {
        let body = json!({"PercentHealthyStreams": 50.5, "LastDataSendTime": "2026-01-01T00:00:00Z"});
        app.heartbeat("g", "a", body).await.expect_ok();
    }
    app.database.let_time_pass(10_000).await;
    assert_eq!(app.beat("g", "b", 90.0).await, 2);
    let group = app.get("/g/status").await.expect_ok();
    assert_eq!((&group["Primary"], &group["PendingPrimary"], &group["Term"]), (&json!("a"), &json!("b"), &json!(1)));
    assert_eq!(group["LastDataSendTime"], "2026-01-01T00:00:00Z");
    assert!(group["LastDataSendAgeMs"].as_i64().is_some_and(|age| age > 1_000_000));
    let counts = ["RegisteredSessions", "LiveSessions", "StandbysReady"].map(|name| group[name].as_i64());
    assert_eq!(counts, [Some(3), Some(2), Some(1)]);
    let sessions = group["Sessions"].as_array().expect("an array");
    let ids: Vec<_> =
        sessions.iter().map(|session| (session["SessionId"].as_str(), session["Role"].as_i64())).collect();
    assert_eq!(ids, [(Some("a"), Some(1)), (Some("b"), Some(2)), (Some("mute"), Some(0))]);
    assert_eq!(sessions[0]["PercentHealthyStreams"], 50.5);
    assert!(sessions[0]["LeaseLeftMs"].as_i64().is_some_and(|left| (30_000..=50_000).contains(&left)), "{group}");
    assert!(sessions[0]["HeartbeatAgeMs"].as_i64().is_some_and(|age| (10_000..30_000).contains(&age)), "{group}");
    assert_eq!((&sessions[2]["LeaseLeftMs"], &sessions[2]["PercentHealthyStreams"]), (&Value::Null, &Value::Null));
    assert_eq!(shown(&json!({"Groups": [group]})), ["g PrimaryUnhealthy"]);
    app.get("/none/status").await.expect_error(404);
}

#[tokio::test]
async fn a_group_that_loses_its_primary_is_first_at_once() {
    let app = start().await;
    for group in ["a1", "z1"] {
        app.group_of(group, MINUTE, &["a", "b"]).await;
        app.beat(group, "a", 100.0).await;
        app.beat(group, "b", 100.0).await;
    }
    // The first census is over: it has seen both.
    eventually("there was a census", async || {
        let text =
            app.http.get(format!("{}/api/v1/clientfailover/namespaces", app.url)).send().await.expect("it answers");
        text.text().await.expect("it is whole").contains("\"Groups\":2")
    })
    .await;
    app.delete("/z1/clientsessions/a").await.expect_ok();
    assert_eq!(shown(&status(&app, "?count=2").await), ["z1 NoPrimary", "a1"]);
}

#[tokio::test]
async fn a_list_narrows_to_a_risk_and_is_put_in_order() {
    let app = start().await;
    for group in ["b-fine", "a-alone", "d-alone", "c-ill"] {
        app.group_of(group, MINUTE, &["a", "b"]).await;
        app.beat(group, "a", if group == "c-ill" { 40.0 } else { 100.0 }).await;
    }
    for group in ["b-fine", "c-ill"] {
        app.beat(group, "b", 40.0).await;
    }
    // Another Primary, and so another term.
    app.delete("/d-alone/clientsessions/a").await.expect_ok();
    app.beat("d-alone", "b", 100.0).await;
    eventually("the census has seen them", async || status(&app, "").await["Counted"]["LiveSessions"] == 6).await;
    let ids = async |query: &str| -> Vec<String> {
        let page = status(&app, query).await;
        let ids = page["Groups"].as_array().expect("an array").iter().map(|group| group["GroupId"].as_str());
        ids.map(|id| id.unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(ids("").await, ["a-alone", "d-alone", "c-ill", "b-fine"]);
    assert_eq!(ids("?sort=risk").await, ["a-alone", "d-alone", "c-ill", "b-fine"]);
    assert_eq!(ids("?sort=group").await, ["a-alone", "b-fine", "c-ill", "d-alone"]);
    assert_eq!(ids("?sort=-group&count=2&skip=1").await, ["c-ill", "b-fine"]);
    assert_eq!(ids("?sort=-term").await, ["d-alone", "a-alone", "b-fine", "c-ill"]);
    assert_eq!(ids("?sort=term&at_risk=true").await, ["a-alone", "c-ill", "d-alone"]);
    assert_eq!(ids("?risk=NoStandby").await, ["a-alone", "d-alone"]);
    assert_eq!(ids("?risk=nostandby&sort=-group").await, ["d-alone", "a-alone"]);
    assert_eq!(ids("?risk=PrimaryUnhealthy&search=ILL").await, ["c-ill"]);
    assert_eq!(ids("?risk=Flapping").await, Vec::<String>::new());
    let narrowed = status(&app, "?risk=NoStandby&count=1").await;
    assert_eq!((&narrowed["Total"], &narrowed["AtRisk"]), (&json!(2), &json!(2)));
    for query in ["?sort=health", "?sort=", "?risk=", "?risk=Boredom", "?handing_over=maybe"] {
        let url = format!("{}/api/v1/clientfailover/status{query}", app.url);
        Answer::of(app.http.get(url)).await.expect_error(400);
    }

    // A handover is no risk, and is found all the same; for as long as it lasts.
    assert_eq!(ids("?handing_over=true").await, Vec::<String>::new());
    assert_eq!(app.beat("b-fine", "b", 100.0).await, 0);
    assert_eq!(app.beat("b-fine", "a", 50.0).await, 0);
    assert_eq!(ids("?handing_over=true").await, ["b-fine"]);
    assert_eq!(status(&app, "?handing_over=true").await["AtRisk"], 0);
    eventually("it is counted", async || status(&app, "").await["Counted"]["HandingOver"] == 1).await;
    assert_eq!(app.beat_acting_as("b-fine", "a", 50.0, 0).await, 0);
    assert_eq!(app.beat("b-fine", "b", 100.0).await, 1);
    assert_eq!(ids("?handing_over=true").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_search_finds_sessions_and_descriptions() {
    let app = start().await;
    let described = json!({"Milliseconds": MINUTE, "Name": "Pumps", "Description": "Ask Ann about the Boiler."});
    app.put("/p1", described).await.expect_ok();
    app.group_of("p2", MINUTE, &["Adapter-7", "x_%"]).await;
    app.group_of("p3", MINUTE, &["adapter-8"]).await;
    let elsewhere = format!("{}/api/v1/tenants/t/namespaces/m/clientfailover/groups/p4", app.url);
    Answer::of(app.http.put(&elsewhere).json(&json!({}))).await.expect_ok();
    let session = app.http.post(format!("{elsewhere}/clientsessions")).json(&json!({"Id": "adapter-9"}));
    Answer::of(session).await.expect_ok();
    let found = async |base: &str, text: &str| -> Vec<String> {
        let url = format!("{}/api/v1{base}/clientfailover/status?sort=group&search={text}", app.url);
        let page = Answer::of(app.http.get(url)).await.expect_ok();
        let ids = page["Groups"].as_array().expect("an array").iter().map(|group| group["GroupId"].as_str());
        let ids: Vec<_> = ids.map(|id| id.unwrap_or_default().to_owned()).collect();
        assert_eq!(page["Total"], ids.len());
        ids
    };
    assert_eq!(found("", "aDAPTER").await, ["p2", "p3", "p4"]);
    assert_eq!(found("/tenants/t", "adapter").await, ["p2", "p3", "p4"]);
    assert_eq!(found("/tenants/t/namespaces/n", "adapter").await, ["p2", "p3"]);
    assert_eq!(found("/tenants/u", "adapter").await, Vec::<String>::new());
    assert_eq!(found("", "boiler").await, ["p1"]);
    assert_eq!(found("/tenants/t/namespaces/n", "x_%25").await, ["p2"]);
    assert_eq!(found("/tenants/t", "m").await, ["p1", "p4"], "a name, and a namespace");
    assert_eq!(found("", "no such").await, Vec::<String>::new());
}

#[tokio::test]
async fn one_tenant_has_an_overview_of_its_own() {
    let app = start().await;
    app.group_of("g1", MINUTE, &["a"]).await;
    app.beat("g1", "a", 100.0).await;
    for (tenant, namespace) in [("t", "m"), ("t-2", "n"), ("s", "n")] {
        let group = format!("{}/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups/g2", app.url);
        Answer::of(app.http.put(&group).json(&json!({}))).await.expect_ok();
        Answer::of(app.http.post(format!("{group}/clientsessions")).json(&json!({"Id": "a"}))).await.expect_ok();
        let beat = app.http.post(format!("{group}/clientsessions/a")).json(&json!({"PercentHealthyStreams": 100}));
        Answer::of(beat).await.expect_ok();
    }
    let ask = async |below: &str| {
        Answer::of(app.http.get(format!("{}/api/v1/tenants/t/clientfailover{below}", app.url))).await.expect_ok()
    };
    eventually("the census has seen them", async || ask("/status").await["Counted"]["LiveSessions"] == 2).await;
    let page = ask("/status?sort=group").await;
    assert_eq!(shown(&page), ["g1 NoStandby", "g2 NoStandby"]);
    assert_eq!((&page["Total"], &page["Counted"]["Groups"]), (&json!(2), &json!(2)));
    let namespaces = ask("/namespaces").await;
    let names: Vec<_> =
        namespaces.as_array().expect("an array").iter().map(|one| one["NamespaceId"].as_str()).collect();
    assert_eq!(names, [Some("m"), Some("n")]);
    assert_eq!(ask("/namespaces?search=t").await, json!([]), "the tenant's own name is that of all of them");
    assert_eq!(ask("/namespaces?search=M").await.as_array().map(Vec::len), Some(1));
    let changes = ask("/transitions").await;
    let places: Vec<_> = changes.as_array().expect("an array").iter().map(|one| one["NamespaceId"].as_str()).collect();
    assert_eq!(places, [Some("m"), Some("n")]);
}

/// So many groups of two, the i-th in the namespace that the expression gives. The leases of one in
/// fifty have run out.
pub async fn fill(app: &TestApp, namespace: &str, groups: u32) {
    let statement = "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
         SELECT gen_random_uuid(), 't', $namespace, 'g' || i, 600000000 FROM generate_series(1, $groups) i;
         INSERT INTO sessions (group_key, session_id, role)
         SELECT group_key, s, CASE s WHEN 'a' THEN 1 ELSE 0 END FROM groups, unnest(ARRAY['a', 'b']) s;
         INSERT INTO heartbeats (group_key, session_id, percent_healthy_streams, heartbeat_time, received_at, lease_until, heard_until)
         SELECT group_key, session_id, 100, now(), now(),
            now() + CASE WHEN group_key < '05000000-0000-0000-0000-000000000000' THEN interval '0 s' ELSE interval '1 h' END, now()
         FROM sessions;
         ANALYZE groups; ANALYZE sessions; ANALYZE heartbeats";
    let statement = statement.replace("$namespace", namespace).replace("$groups", &groups.to_string());
    app.database.execute(&statement).await;
}

/// A measurement: cargo test --test suite -- --ignored --nocapture 100_000_groups
#[tokio::test]
#[ignore = "its data take half a minute: run it for its figures"]
async fn the_first_page_of_100_000_groups_comes_at_once() {
    let app = TestApp::start().await;
    fill(&app, "'n'", 100_000).await;
    let everything = format!("{}/api/v1/clientfailover/status", app.url);
    eventually("a census has seen them", async || {
        Answer::of(app.http.get(&everything)).await.expect_ok()["AtRisk"].as_i64() > Some(1_000)
    })
    .await;
    for query in [
        "",
        "?skip=90000",
        "?search=99999",
        "?search=no-such",
        "?at_risk=true",
        "?risk=NoStandby",
        "?sort=group",
        "?sort=-term&skip=90000",
    ] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let asked = Instant::now();
            Answer::of(app.http.get(format!("{everything}{query}"))).await.expect_ok();
            status(&app, query).await;
            times.push(asked.elapsed() / 2);
        }
        times.sort_unstable();
        println!("100,000 groups, status{query}: median {:?}", times[2]);
        assert!(times[2].as_millis() < 1_000, "{query}: {times:?}");
    }
}

/// A measurement: cargo test --test suite -- --ignored --nocapture at_a_million_sessions
#[tokio::test]
#[ignore = "takes a minute: run it for its figures"]
async fn at_a_million_sessions() {
    let app = TestApp::start().await;
    fill(&app, "'n' || i % 100", 500_000).await;
    let url = format!("{}/metrics", app.url);
    let scrape = async || app.http.get(&url).send().await.expect("it answers").text().await.expect("it is whole");
    let asked = Instant::now();
    while !scrape().await.contains("client_failover_sessions_registered 1000000") {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(asked.elapsed().as_secs() < 120, "a census sees them");
    }
    let mut times: Vec<_> = Vec::new();
    for _ in 0..50 {
        let asked = Instant::now();
        scrape().await;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    println!("scrape: median {:?}, longest {:?}", times[25], times[49]);
    for line in scrape().await.lines().filter(|line| line.contains("census") && !line.starts_with('#')) {
        println!("{line}");
    }
    for query in ["", "?skip=400000", "?search=499999", "?at_risk=true"] {
        let asked = Instant::now();
        Answer::of(app.http.get(format!("{}/api/v1/clientfailover/status{query}", app.url))).await.expect_ok();
        println!("status{query}: {:?}", asked.elapsed());
    }
}
