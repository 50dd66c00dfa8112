//! A database that is in another history than before, on real servers: a standby that was promoted
//! without the last commits, a dump or a copy of the files that was put back, a former primary that
//! comes back. Nobody acts beside another for that, and no term goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client_failover::config::Settings;
use client_failover::store::histories::DatabaseHistory;
use client_failover::store::hosts::Hosts;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings, without_sweeps};
use crate::support::servers::Server;

const TIMEOUT: Duration = Duration::from_secs(4);
const TIMEOUT_MS: i64 = 4_000;
const MINUTE: i64 = 60_000;
const GROUPS: usize = 4;

/// A replica that finds whichever of these servers takes writes.
fn settings_of(servers: &[&Server]) -> Settings {
    let hosts: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let url =
        format!("postgres://postgres@{}/postgres?sslmode=disable&target_session_attrs=read-write", hosts.join(","));
    let mut settings = settings(Hosts::parse(&url).expect("it is a URL"));
    settings.store.operation_timeout = Duration::from_secs(2);
    settings
}

/// What a client was answered.
#[derive(Clone, Debug)]
struct Heard {
    group: usize,
    session: usize,
    sent_at: Instant,
    answered_at: Instant,
    role: i64,
    term: i64,
    lease: Duration,
}

/// Clients that keep the trust rule, two of each group, until they are stopped.
struct Fleet {
    clients: Vec<tokio::task::JoinHandle<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    /// While it is set, the first session of each group is less healthy than the other.
    is_first_ill: Arc<AtomicBool>,
}

impl Fleet {
    async fn start(replica: &TestReplica) -> Fleet {
        for group in 0..GROUPS {
            replica.group_of(&format!("g{group}"), TIMEOUT_MS, &["s0", "s1"]).await;
        }
        let (stop, is_first_ill) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let clients = (0..GROUPS)
            .flat_map(|group| [(group, 0), (group, 1)])
            .map(|(group, session)| {
                let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups", replica.url);
                tokio::spawn(act(url, group, session, is_first_ill.clone(), stop.clone()))
            })
            .collect();
        Fleet { clients, stop, is_first_ill }
    }

    async fn end(self) -> Vec<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        let mut heard = Vec::new();
        for client in self.clients {
            heard.extend(client.await.expect("a client does not panic"));
        }
        heard.sort_by_key(|one| one.answered_at);
        heard
    }
}

async fn act(
    url: String,
    group: usize,
    session: usize,
    is_first_ill: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> Vec<Heard> {
    let http = reqwest::Client::new();
    let mut heard = Vec::new();
    let mut acts_until: Option<Instant> = None;
    let mut term_seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let sent_at = Instant::now();
        let acts = acts_until.is_some_and(|until| sent_at < until);
        let health = if session == 0 && is_first_ill.load(Ordering::Relaxed) { 50 } else { 100 };
        let answer = http
            .post(format!("{url}/g{group}/clientsessions/s{session}"))
            .header("Failover-Role", i64::from(acts))
            .header("Failover-Term", term_seen)
            .timeout(TIMEOUT / 2)
            .json(&json!({"PercentHealthyStreams": health, "HeartbeatTime": wire_now()}))
            .send()
            .await;
        let answer = match answer {
            Ok(answer) if answer.status() == 200 => answer,
            // It acts on, as long as it may, and tries again soon.
            _ => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let number = |name: &str| {
            answer.headers()[name].to_str().ok().and_then(|text| text.parse::<i64>().ok()).expect("a number")
        };
        let (term, lease) =
            (number("failover-term"), Duration::from_millis(number("failover-lease-ms").unsigned_abs()));
        let body: Value = answer.json().await.expect("it is whole");
        let role = body["Role"].as_i64().expect("a role is a number");
        term_seen = term_seen.max(term);
        acts_until = (role == 1).then_some(sent_at + lease);
        heard.push(Heard { group, session, sent_at, answered_at: Instant::now(), role, term, lease });
        tokio::time::sleep_until((sent_at + TIMEOUT / 2).into()).await;
    }
    heard
}

fn wire_now() -> String {
    use std::time::UNIX_EPOCH;
    #[expect(clippy::disallowed_methods, reason = "a client's own clock")]
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    chrono::DateTime::from_timestamp(now.as_secs() as i64, now.subsec_nanos()).expect("in range").to_rfc3339()
}

/// Holds what clients were answered against the promises: nobody acted beside another, and no term
/// went back or to two.
#[track_caller]
fn judge(heard: &[Heard]) {
    for group in 0..GROUPS {
        let of_group: Vec<&Heard> = heard.iter().filter(|one| one.group == group).collect();
        let mut holders: BTreeMap<i64, usize> = BTreeMap::new();
        for (i, one) in of_group.iter().enumerate() {
            if one.role == 1 {
                assert_eq!(*holders.entry(one.term).or_insert(one.session), one.session, "the term of two: {one:?}");
            }
            // Only a heartbeat that was sent after that answer must know of it.
            let newest =
                of_group[..i].iter().filter(|before| before.answered_at < one.sent_at).map(|one| one.term).max();
            assert!(newest.is_none_or(|newest| one.term >= newest), "{one:?} after {newest:?}");
        }
        let spans = |session: usize| -> Vec<(Instant, Instant)> {
            let own: Vec<&&Heard> = of_group.iter().filter(|one| one.session == session).collect();
            let ends = |i: usize| {
                let otherwise = own[i..].iter().find(|later| later.role != 1).map(|later| later.answered_at);
                let lease = own[i].sent_at + own[i].lease;
                otherwise.map_or(lease, |otherwise| otherwise.min(lease))
            };
            (0..own.len()).filter(|i| own[*i].role == 1).map(|i| (own[i].answered_at, ends(i))).collect()
        };
        for (a, b) in spans(0) {
            for (c, d) in spans(1) {
                assert!(b.min(d) <= a.max(c), "two of group {group} act at once for {:?}", b.min(d) - a.max(c));
            }
        }
    }
}

/// Who was told last that it is Primary, in each group.
fn holders(heard: &[Heard]) -> Vec<Option<usize>> {
    let last = |group| heard.iter().rev().find(|one| one.group == group && one.role == 1).map(|one| one.session);
    (0..GROUPS).map(last).collect()
}

/// The histories that a server knows, as `reason` and whether terms and ids go on above a base.
async fn histories(server: &Server) -> String {
    server
        .value("SELECT string_agg(reason || CASE WHEN base > 0 THEN ' above' ELSE '' END, ', ' ORDER BY history_id) FROM service_histories")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_that_lost_the_last_grants_lets_nobody_act_beside_another() {
    let mut primary = Server::start(&[]).await;
    let standby = primary.standby().await;
    let replica = TestReplica::start(settings_of(&[&primary, &standby])).await;
    replica.wait_until_ready().await;
    let fleet = Fleet::start(&replica).await;
    let has_primary = format!("SELECT (count(*) = {GROUPS})::text FROM sessions WHERE role = 1");
    eventually("each group has a Primary", async || primary.value(&has_primary).await == "true").await;
    primary.wait_for(&standby).await;
    // The standby receives nothing more; then every group hands over.
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''").await;
    standby.execute("SELECT pg_reload_conf()").await;
    let streaming = "SELECT count(*)::text FROM pg_stat_replication";
    eventually("nobody receives", async || primary.value(streaming).await == "0").await;
    fleet.is_first_ill.store(true, Ordering::Relaxed);
    let healthier = format!("SELECT (count(*) = {GROUPS})::text FROM sessions WHERE session_id = 's1' AND role = 1");
    eventually("all have handed over", async || primary.value(&healthier).await == "true").await;
    // Everybody has heard so.
    tokio::time::sleep(TIMEOUT / 2).await;
    primary.kill();
    standby.promote().await;
    tokio::time::sleep(TIMEOUT * 3).await;
    let heard = fleet.end().await;
    judge(&heard);
    assert!(holders(&heard).iter().all(Option::is_some));
    assert_eq!(histories(&standby).await, "first, another_timeline above");
    let audited = "SELECT count(*)::text FROM audit_log WHERE action = 'history_noted' AND tenant_id = '*'";
    assert_eq!(standby.value(audited).await, "1");
    replica.stop().await;
}

/// What the database does not know any more, the replica that gave the lease does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_lengthened_timeout_that_a_promotion_lost_is_waited_for() {
    let longer = Duration::from_secs(6);
    let mut primary = Server::start(&[]).await;
    let standby = primary.standby().await;
    let replica = TestReplica::start(settings_of(&[&primary, &standby])).await;
    replica.wait_until_ready().await;
    replica.group_of("g", 500, &["a", "b"]).await;
    assert_eq!(replica.beat_acting_as("g", "a", 100.0, 0).await, 1);
    primary.wait_for(&standby).await;
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''").await;
    standby.execute("SELECT pg_reload_conf()").await;
    let streaming = "SELECT count(*)::text FROM pg_stat_replication";
    eventually("nobody receives", async || primary.value(streaming).await == "0").await;
    replica.put("/g", json!({"Milliseconds": 6_000})).await.expect_ok();
    let acts_since = Instant::now();
    assert_eq!(replica.beat_acting_as("g", "a", 100.0, 1).await, 1);
    primary.kill();
    standby.promote().await;
    eventually("the other is worked on", async || histories(&standby).await == "first, another_timeline above").await;
    assert_eq!(standby.value("SELECT failover_timeout_ticks::text FROM groups").await, "5000000", "the change is lost");
    let message = json!({"PercentHealthyStreams": 100});
    let beat = async || {
        let answer = replica.heartbeat_acting_as("g", "b", message.clone(), 0).await;
        answer.status == 200 && answer.expect_ok()["Role"] == 1
    };
    eventually("the other is Primary", beat).await;
    let waited = acts_since.elapsed();
    assert!(waited >= longer, "it was granted {waited:?} after a lease of {longer:?} was given");
    replica.stop().await;
}

#[tokio::test]
async fn a_promotion_that_lost_nothing_changes_no_role_of_whoever_says_that_it_acts() {
    let mut primary = Server::start(&[]).await;
    let standby = primary.standby().await;
    let replica = TestReplica::start(settings_of(&[&primary, &standby])).await;
    replica.wait_until_ready().await;
    for group in ["g", "h"] {
        replica.group_of(group, MINUTE, &["a", "b"]).await;
        assert_eq!(replica.beat_acting_as(group, "a", 100.0, 0).await, 1);
        assert_eq!(replica.beat_acting_as(group, "b", 100.0, 0).await, 0);
    }
    primary.stop();
    standby.promote().await;
    let noted = "first, another_timeline above";
    eventually("it is noted", async || histories(&standby).await == noted).await;
    for (session, acts, role) in [("b", 0, 0), ("a", 1, 1), ("b", 0, 0), ("a", 1, 1)] {
        assert_eq!(replica.beat_acting_as("g", session, 100.0, acts).await, role);
    }
    let changes = "SELECT count(*)::text FROM role_transitions WHERE group_id = ";
    assert_eq!(standby.value(&format!("{changes}'g'")).await, "1", "the first grant");
    // One that does not say so is waited for.
    assert_ne!(replica.beat("h", "a", 100.0).await, 1);
    assert_eq!(standby.value(&format!("{changes}'h' AND reason = 'lease_lapsed' AND from_role = 1")).await, "1");
    replica.stop().await;
}

#[tokio::test]
async fn a_promotion_that_is_trusted_is_noted_and_nothing_is_fenced_off_but_what_a_replica_knows_to_be_missing() {
    let mut primary = Server::start(&[("synchronous_standby_names", "")]).await;
    let standby = primary.standby().await;
    let mut settings = settings_of(&[&primary, &standby]);
    settings.store.database_history = DatabaseHistory::Trusted;
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    primary.stop();
    standby.promote().await;
    eventually("it is ready again", async || replica.is_ready().await).await;
    // A client that does not say what it acts as, too.
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    assert_eq!(standby.value("SELECT term::text FROM groups").await, "1");
    assert_eq!(histories(&standby).await, "first, another_timeline");
    assert_eq!(
        standby.value("SELECT is_trusted::text FROM service_histories ORDER BY history_id DESC LIMIT 1").await,
        "true"
    );
    // Signs of life that were committed are gone.
    standby.execute("UPDATE service_liveness SET signs = 0").await;
    let went_back = "first, another_timeline, went_back above";
    eventually("it is noticed", async || histories(&standby).await == went_back).await;
    assert_eq!(replica.beat("g", "b", 100.0).await, 0);
    assert_ne!(replica.beat("g", "a", 100.0).await, 1, "it does not say that it acts");
    replica.stop().await;
}

#[tokio::test]
async fn a_copy_of_the_files_that_is_put_back_is_noticed_by_a_replica_that_lives() {
    let mut server = Server::start(&[]).await;
    let mut settings = settings_of(&[&server]);
    without_sweeps(&mut settings);
    let replica = TestReplica::start(settings).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 50.0).await, 1);
    let copy = server.copy().await;
    // b takes over, of which the copy knows nothing.
    assert_eq!(replica.beat("g", "b", 100.0).await, 2);
    assert_eq!(replica.beat_acting_as("g", "a", 50.0, 1).await, 0);
    assert_eq!(replica.beat_acting_as("g", "a", 50.0, 0).await, 0);
    assert_eq!(replica.beat("g", "b", 100.0).await, 1);
    server.kill();
    server.put_back(copy).await;
    eventually("it is noticed", async || histories(&server).await == "first, went_back above").await;
    eventually("it is ready again", async || replica.is_ready().await).await;
    assert_eq!(server.value("SELECT session_id FROM sessions WHERE role = 1").await, "a");
    let answer = replica.heartbeat_acting_as("g", "b", json!({"PercentHealthyStreams": 100}), 1).await;
    assert!(answer.header("failover-term").parse::<i64>().expect("a number") > 1_000_000_000_000);
    assert_eq!(answer.expect_ok()["Role"], 1);
    assert_eq!(replica.beat_acting_as("g", "a", 50.0, 0).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_dump_that_is_loaded_into_another_database_is_another_history() {
    let server = Server::start(&[]).await;
    let replica = TestReplica::start(settings_of(&[&server])).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    let last_event = server.value("SELECT max(transition_id)::text FROM role_transitions").await;
    replica.stop().await;
    server.execute("CREATE DATABASE restored").await;
    server.load_dump_into("restored");
    let replica = TestReplica::start(settings(server.connect_options().database("restored"))).await;
    replica.wait_until_ready().await;
    assert_ne!(replica.beat("g", "b", 100.0).await, 1, "somebody may act");
    let answer = replica.heartbeat_acting_as("g", "a", json!({"PercentHealthyStreams": 100}), 1).await;
    assert!(answer.header("failover-term").parse::<i64>().expect("a number") > 1_000_000_000_000);
    assert_eq!(answer.expect_ok()["Role"], 1);
    // Ids of events go on above the base, too.
    replica.group_of("h", MINUTE, &["c"]).await;
    let events = replica.get("/h/lifetimes").await;
    events.expect_ok();
    let mut connection =
        PgConnection::connect_with(&server.connect_options().database("restored")).await.expect("it answers");
    let newest: i64 = sqlx::query_scalar("SELECT max(change_id) FROM configuration_changes")
        .fetch_one(&mut connection)
        .await
        .expect("it is answered");
    assert!(newest > 1_000_000_000_000 + last_event.parse::<i64>().expect("a number"));
    let reason: String = sqlx::query_scalar("SELECT reason FROM service_histories ORDER BY history_id DESC LIMIT 1")
        .fetch_one(&mut connection)
        .await
        .expect("it is answered");
    assert_eq!(reason, "another_database");
    drop(connection);
    replica.stop().await;
}

/// The former primary stands still while its standby is promoted, and wakes up when the replica
/// works on that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_primary_that_comes_back_is_neither_read_nor_written() {
    let primary = Server::start(&[]).await;
    let standby = primary.standby().await;
    let replica = TestReplica::start(settings_of(&[&primary, &standby])).await;
    replica.wait_until_ready().await;
    replica.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    primary.wait_for(&standby).await;
    let put = async |id: String| {
        let answer = replica.put(&format!("/{id}"), json!({"Milliseconds": MINUTE})).await;
        (id, answer.status, answer.text)
    };
    // So that many connections to it are idle.
    futures_util::future::join_all((0..8).map(|i| put(format!("before{i}")))).await;
    primary.wait_for(&standby).await;
    primary.pause();
    // Some wait for it.
    let waiting = futures_util::future::join_all((0..4).map(|i| put(format!("waiting{i}"))));
    let (waiting, ()) = tokio::join!(waiting, async {
        standby.promote().await;
        primary.resume_soon(Duration::from_millis(2_500)).await;
    });
    eventually("the other is worked on", async || histories(&standby).await == "first, another_timeline above").await;
    let after = futures_util::future::join_all((0..40).map(|i| put(format!("after{i}")))).await;
    assert!(after.iter().any(|(_, status, _)| *status == 200), "{after:?}");
    println!("{waiting:?}\n{after:?}");
    for (id, status, _) in waiting.into_iter().chain(after) {
        if status == 200 {
            let there = format!("SELECT count(*)::text FROM groups WHERE group_id = '{id}'");
            assert_eq!(standby.value(&there).await, "1", "{id} was answered 200 and is not there");
            assert_eq!(replica.get(&format!("/{id}")).await.status, 200);
        }
    }
    primary.execute("DELETE FROM groups WHERE group_id = 'g'").await;
    for _ in 0..20 {
        assert_eq!(replica.get("/g").await.status, 200, "it is gone from the former one alone");
    }
    // The one that it works on is slow to answer for a while: that is no reason to go back.
    let known = histories(&primary).await;
    standby.pause();
    let meanwhile = futures_util::future::join_all((0..10).map(|i| put(format!("meanwhile{i}"))));
    let (meanwhile, ()) = tokio::join!(meanwhile, standby.resume_soon(Duration::from_secs(4)));
    eventually("it answers again", async || replica.get("/g").await.status == 200).await;
    assert_eq!(histories(&primary).await, known);
    for (id, ..) in meanwhile.into_iter().filter(|(_, status, _)| *status == 200) {
        assert_eq!(replica.get(&format!("/{id}")).await.status, 200);
    }
    replica.stop().await;
}

/// Signs of life cannot be given while the row is held, so nobody can say which history it is.
#[tokio::test]
async fn nothing_is_decided_while_it_is_not_noted_which_history_the_database_is_in() {
    let app = TestApp::start_with(|settings| settings.store.operation_timeout = Duration::from_secs(1)).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let mut holder = app.database.connect().await;
    let hold = "BEGIN; SELECT FROM service_liveness FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut holder).await.expect("it runs");
    app.database.execute("UPDATE service_histories SET timeline = '0000000F'").await;
    let state = "SELECT (SELECT count(*) FROM groups) AS groups, (SELECT count(*) FROM sessions) AS sessions,
        (SELECT count(*) FROM role_transitions) AS changes, (SELECT max(received_at) FROM heartbeats) AS received_at";
    let before = app.database.rows(state).await;
    let session = json!({"Id": "c"});
    let answers = tokio::join!(
        app.put("/h", json!({"Milliseconds": MINUTE})),
        app.put("/g", json!({"Milliseconds": 2 * MINUTE})),
        app.post("", json!({"Id": "i"})),
        app.post("/g/clientsessions", session),
        app.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})),
        app.delete("/g/clientsessions/b"),
        app.delete("/g?force=true"),
        app.get("/g"),
    );
    let (a, b, c, d, e, f, g, h) = answers;
    for answer in [a, b, c, d, e, f, g, h] {
        answer.expect_error(503);
    }
    assert_eq!(app.database.rows(state).await, before);
    drop(holder);
    eventually("it is believed", async || answer_role(&app).await == Some(1)).await;
    let noted = app.database.rows("SELECT reason FROM service_histories ORDER BY history_id").await;
    assert_eq!(noted, [json!({"reason": "first"}), json!({"reason": "another_timeline"})]);
}

#[tokio::test]
async fn replicas_note_one_history_and_the_metrics_of_each_count_it() {
    let database = TestDatabase::new().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica = TestReplica::start(settings(database.connect_options())).await;
        replica.wait_until_ready().await;
        replicas.push(replica);
    }
    replicas[0].group_of("g", MINUTE, &["a"]).await;
    assert_eq!(replicas[0].beat("g", "a", 100.0).await, 1);
    database.execute("UPDATE service_histories SET system_identifier = '1'").await;
    for replica in &replicas {
        let answer = replica.heartbeat_acting_as("g", "a", json!({"PercentHealthyStreams": 100}), 1);
        let acts = async || answer_role(replica).await == Some(1);
        drop(answer);
        eventually("it is believed", acts).await;
    }
    let noted = database.rows("SELECT reason FROM service_histories ORDER BY history_id").await;
    assert_eq!(noted, [json!({"reason": "first"}), json!({"reason": "another_server"})]);
    let text = replicas[2].http.get(format!("{}/metrics", replicas[2].url)).send().await.expect("it answers");
    let text = text.text().await.expect("it is whole");
    let count = text.lines().find(|line| line.contains("histories_entered_total{reason=\"another_server\"}"));
    let count: f64 = count.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("it is counted");
    assert!(count >= 3.0, "{count}");
}

async fn answer_role(replica: &TestReplica) -> Option<i64> {
    let answer = replica.heartbeat_acting_as("g", "a", json!({"PercentHealthyStreams": 100}), 1).await;
    if answer.status == 200 { answer.body["Role"].as_i64() } else { None }
}

#[tokio::test]
async fn a_client_that_was_told_a_higher_term_lifts_the_terms_of_its_group() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    let term = async |session: &str, seen: &str| {
        let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/clientsessions/{session}");
        let request = app.http.request(Method::POST, format!("{}{path}", app.url)).header("Failover-Term", seen);
        let answer = Answer::of(request.json(&json!({"PercentHealthyStreams": 100}))).await;
        if answer.status != 200 {
            return Err(answer.expect_error(400));
        }
        Ok(answer.header("failover-term").to_owned())
    };
    assert_eq!(term("a", "41").await, Ok("42".to_owned()));
    assert_eq!(term("b", "42").await, Ok("42".to_owned()));
    assert_eq!(term("b", "50").await, Ok("51".to_owned()), "the Primary's own is above it");
    // No clock has come so far, and no history gave it out.
    assert_eq!(term("b", "9999999999999999").await, Ok("51".to_owned()));
    for wrong in ["-1", "1.5", "x", "", "99999999999999999999999"] {
        let reason = term("b", wrong).await.expect_err("no answer can have had it");
        assert!(reason.contains("Failover-Term"), "{reason}");
    }
    assert_eq!(app.database.rows("SELECT term FROM groups").await, [json!({"term": 51})]);
}
