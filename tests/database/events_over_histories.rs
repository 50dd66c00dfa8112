//! Streams of events over a new history of the database: a standby that was promoted without the
//! last seconds, a copy of an older state, rows put back. What is stored arrives, in order, with a
//! word where something may be lost.

use std::time::{Duration, Instant};

use client_failover::config::Settings;
use client_failover::store::hosts::Hosts;
use client_failover_workshop::needs;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::program::operate;
use crate::support::servers::Server;
use crate::support::sse::{EventStream, NAMESPACE_EVENTS, Received};

const MINUTE: i64 = 60_000;
const ALL_EVENTS: &str = "/api/v1/clientfailover/events";
const GROUP_EVENTS: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/events";

/// Everything that a stream of all tenants has of what is stored, as `id name`.
const STORED: &str = "SELECT id || ' ' || kind AS line FROM (
        SELECT transition_id AS id, 'RoleChanged' AS kind FROM role_transitions
        UNION ALL SELECT change_id, replace(initcap(replace(kind, '_', ' ')), ' ', '') FROM configuration_changes
        UNION ALL SELECT base, 'DatabaseHistoryChanged' FROM service_histories WHERE base > 0
    ) e ORDER BY id";

fn settings_at(ports: &[u16]) -> Settings {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url =
        format!("postgres://postgres@{}/postgres?target_session_attrs=read-write&sslmode=disable", hosts.join(","));
    settings(Hosts::parse(&url).expect("it is a URL"))
}

fn line(event: &Received) -> String {
    format!("{} {}", event.id, event.name)
}

/// What comes up to the creation of a group, that included.
async fn up_to_group(stream: &mut EventStream, group: &str) -> Vec<Received> {
    let mut received = Vec::new();
    loop {
        received.push(stream.next().await.expect("the stream goes on"));
        let last = &received[received.len() - 1];
        if last.name == "GroupCreated" && last.data["GroupId"] == group {
            return received;
        }
    }
}

/// Goodbyes of the only session of a group, each followed by another registration and a grant.
async fn change_roles(replica: &TestReplica, group: &str, rounds: usize) {
    for _ in 0..rounds {
        replica.beat(group, "a", 100.0).await;
        replica.delete(&format!("/{group}/clientsessions/a")).await.expect_ok();
        replica.post(&format!("/{group}/clientsessions"), json!({"Id": "a"})).await.expect_ok();
    }
}

async fn stored_on(server: &Server) -> Vec<String> {
    let lines = server.value(&format!("SELECT string_agg(line, ',') FROM ({STORED}) s")).await;
    lines.split(',').map(str::to_owned).collect()
}

/// Where the ids of what is stored after that one begin.
fn after(stored: &[String], id: i64) -> &[String] {
    let id_of = |line: &String| line.split(' ').next().and_then(|id| id.parse::<i64>().ok()).expect("an id");
    &stored[stored.partition_point(|line| id_of(line) <= id)..]
}

async fn get(replica: &TestReplica, path: &str) -> Value {
    Answer::of(replica.http.get(format!("{}{path}", replica.url))).await.expect_ok()
}

#[tokio::test]
async fn a_stream_over_a_promotion_without_the_last_seconds_says_so_and_has_every_change_that_is_stored() {
    let mut first = Server::start(&[]).await;
    let second = first.standby().await;
    let replica = TestReplica::start(settings_at(&[first.port, second.port])).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    change_roles(&replica, "g", 2).await;
    let mut all = EventStream::open(&replica, ALL_EVENTS, Some(0)).await;
    let mut namespace = EventStream::open(&replica, NAMESPACE_EVENTS, Some(0)).await;
    let mut group = EventStream::open(&replica, GROUP_EVENTS, Some(0)).await;
    replica.group_of("kept", MINUTE, &[]).await;
    for stream in [&mut all, &mut namespace] {
        up_to_group(stream, "kept").await;
    }
    let kept = all.last_event_id.expect("it has one");
    first.wait_for(&second).await;
    second.leave_its_primary().await;
    // Ten changes of roles are answered, and told to all who listen, and then lost.
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    change_roles(&replica, "g", 4).await;
    replica.group_of("lost", MINUTE, &[]).await;
    for stream in [&mut all, &mut namespace] {
        up_to_group(stream, "lost").await;
    }
    let lost = all.last_event_id.expect("it has one");
    assert_eq!(replica.beat("g", "b", 100.0).await, 1, "it takes over, and the standby never hears of it");
    let lost_too = all.take(1).await.remove(0);
    assert_eq!(lost_too.line(), "RoleChanged g b 0>1 session_deleted");
    namespace.take(1).await;
    first.kill();
    second.promote().await;

    eventually("heartbeats are answered again", async || {
        replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await.status == 200
    })
    .await;
    let in_doubt = replica.get("/g/status").await.expect_ok();
    assert!(in_doubt["InDoubtUntil"].is_string(), "{in_doubt}");
    assert_eq!(in_doubt["Primary"], Value::Null);
    let why = "SELECT vacant_because FROM group_status WHERE group_id = 'g'";
    assert_eq!(second.value(why).await, "in_doubt");
    // The one that acts says so, and is believed.
    assert_eq!(replica.beat_acting_as("g", "b", 100.0, 1).await, 1);
    replica.group_of("h", 500, &["a"]).await;
    eventually("the doubt is over in a group with a short timeout", async || replica.beat("h", "a", 100.0).await == 1)
        .await;
    change_roles(&replica, "h", 8).await;
    replica.group_of("the end", MINUTE, &[]).await;

    let received = up_to_group(&mut all, "the end").await;
    let stored = stored_on(&second).await;
    let expected = after(&stored, lost_too.id);
    assert_eq!(received.iter().map(line).collect::<Vec<_>>(), expected, "all of it, in order");
    assert!(received.iter().filter(|event| event.name == "RoleChanged").count() > 16, "{received:?}");
    let of_namespace = up_to_group(&mut namespace, "the end").await;
    assert_eq!(of_namespace.iter().map(line).collect::<Vec<_>>(), expected);
    let notice = &received[0];
    assert_eq!(notice.name, "DatabaseHistoryChanged");
    assert_eq!(notice.data["Reason"], "another_timeline");
    let last_id_before = notice.data["LastIdBefore"].as_i64().expect("a number");
    assert!((kept..lost).contains(&last_id_before), "{notice:?}, {kept}, {lost}");
    assert!(notice.data["LastSignAt"].as_str() < notice.data["Time"].as_str(), "{notice:?}");
    assert!(notice.id > lost_too.id, "ids go on above all that was told");
    // What a group was listened to has it, too.
    while group.next().await.expect("it goes on").name != "DatabaseHistoryChanged" {}
    while group.next().await.expect("it goes on").line() != "RoleChanged g b 0>1 recovered" {}

    // Whoever resumes after what was lost, at a replica that never had it, gets the same; and so
    // does who had less.
    let fresh = TestReplica::start(settings_at(&[second.port])).await;
    fresh.wait_until_ready().await;
    let began = Instant::now();
    for replica in [&replica, &fresh] {
        for (path, id) in [(NAMESPACE_EVENTS, lost), (NAMESPACE_EVENTS, lost_too.id), (ALL_EVENTS, kept)] {
            let mut resumed = EventStream::open(replica, path, Some(id)).await;
            let received = up_to_group(&mut resumed, "the end").await;
            assert_eq!(received.iter().map(line).collect::<Vec<_>>(), after(&stored, id), "{path} after {id}");
        }
    }
    let took = began.elapsed();
    println!("six streams resumed over {} ids in {took:?}", notice.id - kept);
    assert!(took < Duration::from_secs(3), "ids that nobody has are not walked through: {took:?}");

    look_at_it_as_an_operator_does(&replica, notice, lost).await;
    fresh.stop().await;
    replica.stop().await;
}

async fn look_at_it_as_an_operator_does(replica: &TestReplica, notice: &Received, lost: i64) {
    let histories = get(replica, "/api/v1/tenants/t/namespaces/n/clientfailover/histories").await;
    assert_eq!(histories[0]["Base"], notice.id);
    assert_eq!(histories[0]["History"], notice.data["History"]);
    assert_eq!(histories[1]["Reason"], "first");
    assert_eq!(get(replica, "/api/v1/clientfailover/histories").await[1]["History"], histories[1]["History"]);
    let status = get(replica, "/api/v1/clientfailover/status").await;
    assert_eq!(status["DatabaseHistory"]["Base"], notice.id);

    let events = operate(replica, &["events", "--after", &lost.to_string(), "-o", "json"]).await.ok();
    assert!(events.contains("\"Event\":\"DatabaseHistoryChanged\""), "{events}");
    let events = operate(replica, &["events", "--after", &lost.to_string()]).await.ok();
    let row = events.lines().find(|line| line.contains("DatabaseHistoryChanged")).expect("it is a row");
    assert!(row.contains("may be lost"), "{row}");
    let history = operate(replica, &["history", "g"]).await.ok();
    let rows: Vec<&str> = history.lines().collect();
    let at = rows.iter().position(|row| row.contains("new database history")).expect("it is a row");
    assert!(rows[at].contains("another_timeline"), "{history}");
    assert!(rows[..at].iter().any(|row| row.contains("recovered")), "what came after it stands above: {history}");
    assert!(rows.len() > at + 2, "and what came before it below: {history}");
    let checked = operate(replica, &["status", "--check"]).await;
    assert!(checked.err.contains("the database has a new history since"), "{checked:?}");
}

#[tokio::test]
async fn a_copy_of_an_older_state_is_told_to_those_who_resume_from_what_it_lacks() {
    let database = TestDatabase::new().await;
    let replica = TestReplica::start(settings(database.connect_options())).await;
    replica.group_of("g", MINUTE, &["a"]).await;
    change_roles(&replica, "g", 2).await;
    replica.stop().await;
    let copy = database.copy().await;
    let replica = TestReplica::start(settings(database.connect_options())).await;
    let mut stream = EventStream::open(&replica, NAMESPACE_EVENTS, None).await;
    change_roles(&replica, "g", 5).await;
    replica.group_of("lost", MINUTE, &[]).await;
    let lost = up_to_group(&mut stream, "lost").await;
    replica.stop().await;

    let replica = TestReplica::start(settings(copy.connect_options())).await;
    replica.wait_until_ready().await;
    let mut resumed = EventStream::open(&replica, NAMESPACE_EVENTS, stream.last_event_id).await;
    replica.group_of("h", 500, &["a"]).await;
    eventually("it is Primary", async || replica.beat("h", "a", 100.0).await == 1).await;
    change_roles(&replica, "h", 5).await;
    replica.group_of("the end", MINUTE, &[]).await;
    let received = up_to_group(&mut resumed, "the end").await;
    let stored: Vec<String> =
        copy.rows(STORED).await.iter().map(|row| row["line"].as_str().expect("a text").to_owned()).collect();
    let last = lost.last().expect("there are some").id;
    assert_eq!(received.iter().map(line).collect::<Vec<_>>(), after(&stored, last));
    assert_eq!(received[0].name, "DatabaseHistoryChanged");
    assert_eq!(received[0].data["Reason"], "another_database");
    replica.stop().await;
}

/// Puts an older state back under a replica that lives: the latest events are gone, ids begin
/// again, and so do signs of life.
async fn put_back(database: &TestDatabase, id: i64) {
    database
        .execute(&format!(
            "BEGIN; DELETE FROM role_transitions WHERE transition_id > {id};
             DELETE FROM configuration_changes WHERE change_id > {id};
             SELECT setval('role_transitions_transition_id_seq', {id});
             UPDATE service_liveness SET signs = 1; COMMIT"
        ))
        .await;
}

#[tokio::test]
async fn a_state_put_back_under_open_streams_is_told_and_their_ids_go_on() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, Some(0)).await;
    let kept = stream.take(2).await[1].id;
    change_roles(&app, "g", 5).await;
    let lost = stream.take(20).await[19].id;
    put_back(&app.database, kept).await;
    let notice = stream.take(1).await.remove(0);
    assert_eq!((notice.name.as_str(), &notice.data["Reason"]), ("DatabaseHistoryChanged", &json!("went_back")));
    assert_eq!(notice.data["LastIdBefore"], kept);
    assert!(notice.id > lost);
    app.group_of("h", MINUTE, &["a"]).await;
    assert_eq!(stream.lines(2).await, ["GroupCreated h", "SessionRegistered h a"]);
    assert!(stream.last_event_id > Some(notice.id));
}

#[tokio::test]
async fn ids_that_begin_again_unnoticed_end_the_streams_and_whoever_resumes_is_told() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, Some(0)).await;
    let first = stream.take(4).await[0].id;
    // By hand: no sign of life is missing.
    app.database
        .execute(&format!(
            "BEGIN; DELETE FROM configuration_changes WHERE change_id > {first};
             SELECT setval('role_transitions_transition_id_seq', {first}); COMMIT"
        ))
        .await;
    assert!(stream.next().await.is_none(), "it does not go on as if nothing had happened");
    let last = stream.last_event_id.expect("it has one").to_string();
    let request = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url)).header("Last-Event-ID", last);
    let mut resumed = request.send().await.expect("it answers");
    let beginning = resumed.chunk().await.expect("it begins").expect("with something");
    assert!(String::from_utf8_lossy(&beginning).contains("event: EventsMissed"), "{beginning:?}");
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn the_page_says_that_the_database_has_a_new_history_and_which_group_is_in_doubt() {
    let browser = Browser::start().await;
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    browser.go(&format!("{}/", app.url)).await;
    browser.shows("tbody", "Fine").await;
    assert_eq!(browser.eval("document.querySelector('.news').hidden").await, true);
    put_back(&app.database, 1).await;
    browser.shows(".news", "The database has a new history since").await;
    browser.shows("tbody", "In doubt").await;
    browser.shows(".news", "1 group is in doubt").await;
    browser.go(&format!("{}/#/g/t/n/g", app.url)).await;
    browser.shows(".risks", "In doubt until").await;
}
