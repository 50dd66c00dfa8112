//! The streams of events: prompt, whole, in order, and resumable, whatever commits in whichever
//! order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::sse::{EventStream, NAMESPACE_EVENTS, Received};

const MINUTE: i64 = 60_000;

async fn two_replicas(database: &TestDatabase) -> (TestReplica, TestReplica) {
    let patient = || {
        let mut settings = settings(database.connect_options());
        // What is asked for must be done, however busy the machine is.
        settings.store.operation_timeout = Duration::from_secs(20);
        settings
    };
    (TestReplica::start(patient()).await, TestReplica::start(patient()).await)
}

fn group_events(group: &str) -> String {
    format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}/events")
}

#[tokio::test]
async fn every_change_of_role_and_configuration_is_an_event_in_order() {
    let database = TestDatabase::new().await;
    let (writer, reader) = two_replicas(&database).await;
    let mut namespace = EventStream::open(&reader, NAMESPACE_EVENTS, None).await;
    let mut group = EventStream::open(&reader, &group_events("g"), None).await;
    let mut everything = EventStream::open(&reader, "/api/v1/clientfailover/events", None).await;
    let mut tenant = EventStream::open(&reader, "/api/v1/tenants/t/clientfailover/events", None).await;
    let mut other_tenant = EventStream::open(&reader, "/api/v1/tenants/u/clientfailover/events", None).await;
    writer.put("/g", json!({"Name": "Pump", "Milliseconds": MINUTE})).await.expect_ok();
    writer.put("/g", json!({"Name": "Pump", "Milliseconds": MINUTE})).await.expect_ok();
    writer.post("/g/clientsessions", json!({"Id": "a", "Name": "A"})).await.expect_ok();
    writer.post("/g/clientsessions", json!({"Id": "b"})).await.expect_ok();
    writer.post("/g/clientsessions", json!({"Id": "b"})).await.expect_ok();
    assert_eq!(writer.beat("g", "a", 50.0).await, 1);
    assert_eq!(writer.beat("g", "a", 50.0).await, 1);
    assert_eq!(writer.beat("g", "b", 90.0).await, 2);
    writer.put("/g", json!({"Milliseconds": 2 * MINUTE, "Description": "d"})).await.expect_ok();
    writer.delete("/g/clientsessions/a").await.expect_ok();
    writer.delete("/g?force=true").await.expect_ok();
    let expected = [
        "GroupCreated g",
        "SessionRegistered g a",
        "SessionRegistered g b",
        "RoleChanged g a 0>1 first_heartbeat",
        "RoleChanged g b 0>2 healthier",
        "GroupChanged g",
        "RoleChanged g a 1>0 session_deleted",
        "SessionDeleted g a",
        "RoleChanged g b 2>0 session_deleted",
        "GroupDeleted g",
    ];
    let received = namespace.take(expected.len()).await;
    assert_eq!(received.iter().map(Received::line).collect::<Vec<_>>(), expected);
    assert!(received.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(group.lines(expected.len()).await, expected);
    assert_eq!(everything.lines(expected.len()).await, expected);
    assert_eq!(tenant.lines(expected.len()).await, expected);
    // From where it was before all that, it is read from the database.
    let from = Some(received[0].id - 1);
    let mut again = EventStream::open(&reader, "/api/v1/tenants/t/clientfailover/events", from).await;
    assert_eq!(again.lines(expected.len()).await, expected);
    // Of another tenant nothing is heard.
    let elsewhere = format!("{}/api/v1/tenants/u/namespaces/n/clientfailover/groups/h", writer.url);
    Answer::of(writer.http.put(elsewhere).json(&json!({}))).await.expect_ok();
    assert_eq!(other_tenant.lines(1).await, ["GroupCreated h"]);

    let created = &received[0].data;
    assert_eq!(created["TenantId"], "t");
    assert_eq!(created["NamespaceId"], "n");
    assert_eq!((&created["Name"], &created["Description"]), (&json!("Pump"), &Value::Null));
    assert_eq!((&created["FailoverTimeout"], &created["Milliseconds"]), (&json!("00:01:00"), &json!(MINUTE)));
    assert_eq!(received[1].data["Name"], "A");
    assert_eq!(received[2].data["Name"], Value::Null);
    let granted = &received[3].data;
    assert_eq!(
        (&granted["Term"], &granted["Actor"], &granted["Id"]),
        (&json!(1), &json!("heartbeat"), &json!(received[3].id))
    );
    assert!(granted["Time"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(received[5].data["Description"], "d");
    assert_eq!(received[5].data["Milliseconds"], 2 * MINUTE);
}

#[tokio::test]
async fn a_stream_has_only_its_own_scope() {
    let app = TestApp::start().await;
    let mut namespace = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let mut one = EventStream::open(&app, &group_events("one"), None).await;
    let elsewhere = format!("{}/api/v1/tenants/t/namespaces/other/clientfailover/groups/g", app.url);
    Answer::of(app.http.put(elsewhere).json(&json!({}))).await.expect_ok();
    app.group_of("two", MINUTE, &[]).await;
    app.group_of("one", MINUTE, &[]).await;
    assert_eq!(namespace.lines(2).await, ["GroupCreated two", "GroupCreated one"]);
    assert_eq!(one.lines(1).await, ["GroupCreated one"]);
}

#[tokio::test]
async fn a_change_through_one_replica_is_seen_on_the_others_stream_at_once() {
    const CHANGES: usize = 200;
    let database = TestDatabase::new().await;
    let (writer, reader) = two_replicas(&database).await;
    writer.group_of("g", MINUTE, &["a"]).await;
    let mut stream = EventStream::open(&reader, NAMESPACE_EVENTS, None).await;
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let asked = Instant::now();
        match change % 2 {
            0 => assert_eq!(writer.beat("g", "a", 100.0).await, 1),
            _ => drop(writer.delete("/g/clientsessions/a").await.expect_ok()),
        }
        let answered = Instant::now();
        answers.push(answered - asked);
        let last = stream.take(1 + change % 2).await.pop().expect("it came");
        latencies.push(last.at.saturating_duration_since(answered));
        if change % 2 == 1 {
            writer.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
            stream.take(1).await;
        }
    }
    latencies.sort_unstable();
    answers.sort_unstable();
    let (median, p99) = (latencies[CHANGES / 2], latencies[CHANGES * 99 / 100]);
    println!(
        "event latency over {CHANGES} changes: median {median:?}, p99 {p99:?}, longest {:?}",
        latencies[CHANGES - 1]
    );
    // Not by polling alone, half of whose interval is 100 ms; on a machine that is as busy as the
    // changes themselves show.
    assert!(median < Duration::from_millis(50) + answers[CHANGES / 2], "{latencies:?}");
}

#[tokio::test]
async fn a_lapse_is_seen_as_soon_as_the_sweep_has_written_it() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let mut stream = EventStream::open(&app, &group_events("g"), Some(0)).await;
    stream.take(3).await;
    app.database.let_time_pass(MINUTE).await;
    let event = stream.next().await.expect("it comes");
    assert_eq!(event.line(), "RoleChanged g a 1>0 lease_lapsed");
    assert_eq!(event.data["Actor"], "sweep");
}

#[tokio::test]
async fn a_stream_resumes_after_the_event_that_it_had_at_any_replica() {
    let database = TestDatabase::new().await;
    let (first, second) = two_replicas(&database).await;
    let mut stream = EventStream::open(&first, NAMESPACE_EVENTS, None).await;
    first.group_of("g", MINUTE, &["a", "b", "c"]).await;
    let had = stream.take(2).await.pop().expect("two came");
    drop(stream);
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    let expected = ["SessionRegistered g b", "SessionRegistered g c", "RoleChanged g a 0>1 first_heartbeat"];
    let mut resumed = Vec::new();
    for path in [NAMESPACE_EVENTS, &group_events("g"), "/api/v1/clientfailover/events"] {
        let mut by_header = EventStream::open(&second, path, Some(had.id)).await;
        assert_eq!(by_header.lines(3).await, expected, "{path}");
        let mut by_parameter = EventStream::open(&second, &format!("{path}?last-event-id={}", had.id), None).await;
        assert_eq!(by_parameter.lines(3).await, expected, "{path}");
        resumed.extend([by_header, by_parameter]);
    }
    // And goes on with what comes.
    first.put("/g", json!({"Milliseconds": 1_000})).await.expect_ok();
    for stream in &mut resumed {
        assert_eq!(stream.lines(1).await, ["GroupChanged g"]);
    }
}

#[tokio::test]
async fn a_stream_that_resumes_after_a_restore_does_not_walk_through_the_ids_that_were_skipped() {
    let app = TestApp::start().await;
    let mut before = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    app.put("/g", json!({"Milliseconds": MINUTE})).await.expect_ok();
    let seen = before.take(1).await[0].id;
    // Ids are lifted above whatever was given out; then there is a gap that no window of ids gets
    // through in time.
    app.database
        .execute("SELECT setval('role_transitions_transition_id_seq', nextval('role_transitions_transition_id_seq') + 100000000000)")
        .await;
    app.put("/h", json!({"Milliseconds": MINUTE})).await.expect_ok();
    before.take(1).await;
    let began = Instant::now();
    let mut resumed = EventStream::open(&app, NAMESPACE_EVENTS, Some(seen)).await;
    assert_eq!(resumed.lines(1).await, ["GroupCreated h"]);
    println!("resumed over 100,000,000,000 ids in {:?}", began.elapsed());
    // And where nothing of the namespace comes after the gap, the stream is at its end as soon.
    let path = "/api/v1/tenants/t/namespaces/other/clientfailover/events";
    let mut empty = EventStream::open(&app, path, Some(seen)).await;
    app.http
        .put(format!("{}/api/v1/tenants/t/namespaces/other/clientfailover/groups/i", app.url))
        .json(&json!({"Milliseconds": MINUTE}))
        .send()
        .await
        .expect("it answers");
    assert_eq!(empty.lines(1).await, ["GroupCreated i"]);
}

#[tokio::test]
async fn what_cannot_be_resumed_from_is_refused_or_said() {
    let app = TestApp::start().await;
    for value in ["-1", "x", "1.5", "99999999999999999999"] {
        let request = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url)).header("Last-Event-ID", value);
        Answer::of(request).await.expect_error(400);
    }
    // What is no text is not the same as nothing, and a good header does not make a bad parameter
    // good.
    let request = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url)).header("Last-Event-ID", &b"\xc2\x84"[..]);
    Answer::of(request).await.expect_error(400);
    let request = app.http.get(format!("{}{NAMESPACE_EVENTS}?last-event-id=x", app.url)).header("Last-Event-ID", "1");
    Answer::of(request).await.expect_error(400);
    app.group_of("g", MINUTE, &["a"]).await;
    // Past every id: a database that was restored has given them out once before.
    let request = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url)).header("Last-Event-ID", "1000000");
    let mut response = request.send().await.expect("it answers");
    let beginning = response.chunk().await.expect("it begins").expect("with something");
    assert!(String::from_utf8_lossy(&beginning).contains("event: EventsMissed"), "{beginning:?}");
}

/// Commits, in another order than they took their ids in, rows like those of the service.
const INSERT: &str = "INSERT INTO role_transitions
    (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role, term, reason, actor, recorded_at)
    VALUES (gen_random_uuid(), 't', 'n', 'x', $1, 0, 1, 1, 'first_heartbeat', 'heartbeat', clock_timestamp())";

#[tokio::test]
async fn an_event_that_commits_after_a_later_one_is_neither_lost_nor_out_of_order() {
    let app = TestApp::start().await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let (mut one, mut two) = (app.database.connect().await, app.database.connect().await);
    let mut early = one.begin().await.expect("it begins");
    sqlx::query(INSERT).bind("early").execute(&mut *early).await.expect("it is written");
    sqlx::query(INSERT).bind("late").execute(&mut two).await.expect("it is written");
    let mut aborted = two.begin().await.expect("it begins");
    sqlx::query(INSERT).bind("never").execute(&mut *aborted).await.expect("it is written");
    aborted.rollback().await.expect("it ends");
    // What another replica would be asked for meanwhile begins before both.
    let began_at = stream.last_event_id;
    let mut resumed = EventStream::open(&app, NAMESPACE_EVENTS, began_at).await;
    // It has seen the later one, and asks whether the writer of the earlier is still there.
    let now = app.database.rows("SELECT clock_timestamp() AS now").await[0]["now"].to_string().replace('"', "'");
    let asks = format!(
        "SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
         AND query LIKE 'SELECT virtualtransaction FROM pg_locks%' AND query_start > {now}"
    );
    eventually("the feed waits for the writer", async || !app.database.rows(&asks).await.is_empty()).await;
    early.commit().await.expect("it commits");
    sqlx::query(INSERT).bind("last").execute(&mut two).await.expect("it is written");
    for stream in [&mut stream, &mut resumed] {
        let received = stream.take(3).await;
        let sessions: Vec<_> = received.iter().map(|event| event.data["SessionId"].as_str().unwrap_or("")).collect();
        assert_eq!(sessions, ["early", "late", "last"]);
        assert!(received.is_sorted_by(|a, b| a.id < b.id));
    }
}

#[tokio::test]
async fn a_long_transaction_that_writes_no_events_holds_nothing_up() {
    let app = TestApp::start().await;
    let mut other = app.database.connect().await;
    let mut open = other.begin().await.expect("it begins");
    sqlx::query("CREATE TABLE other (x int)").execute(&mut *open).await.expect("it writes");
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let mut writer = app.database.connect().await;
    let mut aborted = writer.begin().await.expect("it begins");
    sqlx::query(INSERT).bind("never").execute(&mut *aborted).await.expect("it is written");
    aborted.rollback().await.expect("it ends");
    let began = Instant::now();
    sqlx::query(INSERT).bind("a").execute(&mut writer).await.expect("it is written");
    stream.take(1).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    open.rollback().await.expect("it ends");
}

/// Opens a stream, reads a few events, breaks off, and resumes at the other replica, until it has
/// seen the end.
async fn read_with_breaks(replicas: [&TestReplica; 2], from: i64, end: &str, seed: u64) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut last = Some(from);
    let mut ids = Vec::new();
    for turn in 0.. {
        let mut stream = EventStream::open(replicas[turn % 2], NAMESPACE_EVENTS, last).await;
        for _ in 0..random.usize(1..60) {
            let event = stream.next().await.expect("it goes on");
            if event.data["GroupId"] == end {
                return ids;
            }
            ids.push(event.id);
        }
        last = stream.last_event_id;
    }
    ids
}

#[tokio::test]
async fn streams_that_break_and_resume_under_fire_lose_nothing_and_repeat_nothing() {
    const GROUPS: usize = 12;
    const ROUNDS: usize = 12;
    let database = TestDatabase::new().await;
    let (first, second) = two_replicas(&database).await;
    let start = EventStream::open(&first, NAMESPACE_EVENTS, None).await.last_event_id.expect("it has a position");
    let replicas = [&first, &second];
    let writers = (0..GROUPS).map(async |group| {
        let name = format!("g{group}");
        replicas[group % 2].group_of(&name, MINUTE, &["a", "b"]).await;
        for round in 0..ROUNDS {
            // Each goodbye and its successor are a transaction of its own at one of the replicas.
            let replica = replicas[(group + round) % 2];
            let (next, gone) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
            replica.beat(&name, next, 100.0).await;
            replica.delete(&format!("/{name}/clientsessions/{gone}")).await.expect_ok();
            replica.beat(&name, next, 100.0).await;
            replica.post(&format!("/{name}/clientsessions"), json!({"Id": gone})).await.expect_ok();
        }
    });
    // Takes ids and commits late, takes ids and does not commit at all.
    let disturbers = (0..4).map(async |disturber: u64| {
        let mut random = fastrand::Rng::with_seed(disturber);
        let mut connection = database.connect().await;
        for _ in 0..30 {
            let mut open = connection.begin().await.expect("it begins");
            sqlx::query(INSERT).bind("x").execute(&mut *open).await.expect("it is written");
            tokio::time::sleep(Duration::from_millis(random.u64(0..40))).await;
            if random.bool() {
                open.commit().await.expect("it commits");
            } else {
                open.rollback().await.expect("it ends");
            }
        }
    });
    let writing = async {
        tokio::join!(futures_util::future::join_all(writers), futures_util::future::join_all(disturbers));
        first.group_of("the end", MINUTE, &[]).await;
    };
    let readers = (0..4).map(|reader| read_with_breaks(replicas, start, "the end", reader));
    let ((), read) = tokio::join!(writing, futures_util::future::join_all(readers));
    let stored: Vec<i64> = database
        .rows(&format!(
            "SELECT id FROM (SELECT transition_id AS id FROM role_transitions
                UNION ALL SELECT change_id FROM configuration_changes WHERE group_id <> 'the end') e
             WHERE id > {start} ORDER BY id"
        ))
        .await
        .iter()
        .map(|row| row["id"].as_i64().expect("a number"))
        .collect();
    assert!(stored.len() > GROUPS * ROUNDS, "{}", stored.len());
    for ids in read {
        assert_eq!(ids, stored);
    }
}

#[tokio::test]
async fn events_come_by_polling_while_nobody_listens_and_the_listening_is_taken_up_again() {
    let app = TestApp::start().await;
    let listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    eventually("it listens", async || app.database.rows(listening).await.len() == 1).await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let before = app.database.rows(listening).await;
    // Nobody says that there is something new, as while the connection is down.
    app.database.execute(&INSERT.replace("$1", "'unheard'")).await;
    assert_eq!(stream.take(1).await[0].data["SessionId"], "unheard");
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    app.database.execute(kill).await;
    app.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(stream.lines(2).await, ["GroupCreated g", "SessionRegistered g a"]);
    eventually("it listens again", async || {
        let now = app.database.rows(listening).await;
        now.len() == 1 && now != before
    })
    .await;
    // And is woken by it: well within what polling takes on average, on a machine that is as busy
    // as the change itself shows.
    let mut woken = 0;
    for round in 0..20 {
        let asked = Instant::now();
        app.put("/g", json!({"Milliseconds": 1_000 + round})).await.expect_ok();
        let changed = asked.elapsed();
        stream.take(1).await;
        woken += usize::from(asked.elapsed() < changed * 2 + Duration::from_millis(50));
    }
    assert!(woken >= 12, "{woken} of 20 were prompt");
}

#[tokio::test]
async fn streams_survive_a_database_that_kills_every_connection() {
    let app = TestApp::start().await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    for group in ["g1", "g2", "g3"] {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        app.database.execute(kill).await;
        app.group_of(group, MINUTE, &[]).await;
        assert_eq!(stream.lines(1).await, [format!("GroupCreated {group}")]);
    }
}

#[tokio::test]
async fn a_listener_that_is_too_slow_gets_everything_all_the_same() {
    const CHANGES: i64 = 1_500;
    let app = TestApp::start().await;
    let mut stream = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let mut prompt = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    // More at once than wait in memory, in names long enough that the sockets do not hold them.
    let name = "x".repeat(250);
    app.database
        .execute(&format!(
            "INSERT INTO configuration_changes (group_key, tenant_id, namespace_id, group_id, session_id, kind)
             SELECT gen_random_uuid(), 't', 'n', '{name}', '{name}' || i, 'session_deleted' FROM generate_series(1, {CHANGES}) i"
        ))
        .await;
    // What another has got has been offered to all.
    prompt.take(CHANGES as usize).await;
    let ids: BTreeSet<i64> = stream.take(CHANGES as usize).await.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), CHANGES as usize);
}

#[tokio::test]
async fn a_stream_ends_when_the_service_stops_and_does_not_hold_it_up() {
    let database = TestDatabase::new().await;
    let mut long_drain = settings(database.connect_options());
    long_drain.http.shutdown_timeout = Duration::from_secs(30);
    let replica = TestReplica::start(long_drain).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(EventStream::open(&replica, NAMESPACE_EVENTS, None).await);
    }
    let began = Instant::now();
    replica.stop().await;
    for mut stream in streams {
        assert!(stream.next().await.is_none());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let app = TestApp::start_with(|settings| settings.failover.events.max_streams = 2).await;
    let one = EventStream::open(&app, NAMESPACE_EVENTS, None).await;
    let _two = EventStream::open(&app, &group_events("g"), None).await;
    let refused = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url)).send().await.expect("it answers");
    // Before its body is read: that of a stream would not end.
    assert_eq!(refused.status(), 503);
    let (status, headers) = (refused.status(), refused.headers().clone());
    let reason = Answer::new(status, headers, refused.text().await.expect("it is whole")).expect_error(503);
    assert!(reason.contains('2'), "{reason}");
    drop(one);
    eventually("there is room again", async || {
        let request = app.http.get(format!("{}{NAMESPACE_EVENTS}", app.url));
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

/// Heartbeats that so many clients get answered in so long, one after the other each.
async fn heartbeats_in(replica: &TestReplica, clients: usize, span: Duration) -> usize {
    let until = Instant::now() + span;
    let beating = (0..clients).map(async |client| {
        let mut answered = 0;
        while Instant::now() < until {
            replica.beat(&format!("g{client}"), "a", 100.0).await;
            answered += 1;
        }
        answered
    });
    futures_util::future::join_all(beating).await.iter().sum()
}

/// A measurement: cargo test --test suite -- --ignored --nocapture a_thousand_listeners
#[tokio::test]
#[ignore = "takes a minute and needs the machine for itself: run it for its figures"]
async fn a_thousand_listeners_cost_the_heartbeats_nothing_noticeable() {
    const CLIENTS: usize = 64;
    const ROUND: Duration = Duration::from_secs(5);
    let app = TestApp::start_with(|settings| settings.http.workers = 2).await;
    for client in 0..CLIENTS {
        app.group_of(&format!("g{client}"), MINUTE, &["a"]).await;
    }
    heartbeats_in(&app, CLIENTS, ROUND).await;
    let mut figures = Vec::new();
    for _ in 0..3 {
        let without = heartbeats_in(&app, CLIENTS, ROUND).await;
        let streams = (0..1_000).map(|_| EventStream::open(&app, NAMESPACE_EVENTS, None));
        let streams = futures_util::future::join_all(streams).await;
        let scraping = async {
            loop {
                app.http.get(format!("{}/metrics", app.url)).send().await.expect("it answers");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        let with = tokio::select! {
            with = heartbeats_in(&app, CLIENTS, ROUND) => with,
            () = scraping => unreachable!("it goes on for ever"),
        };
        drop(streams);
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("heartbeats in {ROUND:?}: {without} without, {with} with 1,000 listeners and scraping");
        figures.push(with as f64 / without as f64);
    }
    println!("with / without: {figures:.3?}");
}

#[tokio::test]
async fn a_stream_without_news_says_so_as_often_as_it_is_asked_and_only_while_it_knows() {
    let app = TestApp::start().await;
    let url = format!("{}/api/v1/clientfailover/events", app.url);
    for keep_alive in ["0", "16", "x", "-1"] {
        Answer::of(app.http.get(format!("{url}?keep-alive={keep_alive}"))).await.expect_error(400);
    }
    let mut stream = app.http.get(format!("{url}?keep-alive=1")).send().await.expect("it answers");
    let mut said = async |wanted: &str| {
        let heard = async {
            loop {
                let chunk = stream.chunk().await.expect("it goes on").expect("it goes on");
                if String::from_utf8_lossy(&chunk).starts_with(wanted) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(12), heard).await.expect(wanted);
    };
    said(": still here").await;
    // Nothing can be read: somebody holds the table.
    let mut holder = app.database.connect().await;
    let lock = "BEGIN; LOCK TABLE role_transitions IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.expect("it locks");
    said(": nothing new can be read").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("it ends");
    said(": still here").await;
}
