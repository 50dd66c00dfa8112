//! Groups that are spread over several servers, as far as one server can show it: what is said to
//! the database, and to whom it would go. A cluster is not at hand here; `docs/operations.md` says
//! what was seen on one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use client_failover::store::Store;
use client_failover::store::distribution::{OF_GROUPS, OF_NODES};
use client_failover::store::hosts::Hosts;
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::support::helpers::{
    TestApp, TestDatabase, TestReplica, eventually, remove_after_the_run, scratch_dir, settings, store_options,
};
use crate::support::servers::Server;
use crate::support::sse::{EventStream, NAMESPACE_EVENTS, Received};

/// What a cluster of one node has: places by the first byte of a key, that node, and what asks all
/// of them. That there is a function for places tells the service that groups are spread.
const PLACES: u8 = 4;
const CLUSTER: &str = "
    CREATE TABLE pg_dist_node AS SELECT 1 AS nodeid, 1 AS groupid, true AS answers;
    CREATE TABLE pg_dist_local_group AS SELECT 1 AS groupid;
    CREATE FUNCTION create_distributed_function(text) RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION run_command_on_all_nodes(command text, OUT nodeid integer, OUT success boolean, OUT result text)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE command INTO result;
        RETURN QUERY SELECT n.nodeid, n.answers, run_command_on_all_nodes.result FROM pg_dist_node n;
    END
    $$;
    CREATE FUNCTION place_of_group(key uuid) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN get_byte(uuid_send(key), 0) % 4";

fn statements_of_the_cluster() -> String {
    [&[CLUSTER], &OF_NODES[..]].concat().join(";\n")
}

/// Statements on rows of groups that name no key, each with the reason why they may go to every
/// node. None is part of a decision.
const OF_ALL_NODES: [(&str, &str); 12] = [
    ("SELECT virtualtransaction FROM pg_locks", "who writes events holds a lock at the coordinator; no row is read"),
    ("WITH moment AS MATERIALIZED (SELECT m.*, ARRAY[m.present_timeline", "groups that are shown, with the moment"),
    ("WITH page AS MATERIALIZED", "the sweep looks for roles whose lease is over, and decides on each by its key"),
    (
        "SELECT group_key FROM groups WHERE group_key > $1",
        "a walk along all groups, of the census or once the clock was set back",
    ),
    (
        "SELECT DISTINCT group_key FROM session_wishes",
        "the sweep looks for wishes that are over, and ends each by its key",
    ),
    ("SELECT s.group_key, s.session_id, greatest(", "a walk along all sessions, for those that are silent for long"),
    ("SELECT g.group_key, g.tenant_id", "the census counts a page of all groups"),
    ("SELECT group_key, count(*) FILTER (WHERE reason", "the census asks which groups flap"),
    ("SELECT * FROM ( (SELECT transition_id AS id", "events of all groups are read in order"),
    ("SELECT least((SELECT min(transition_id)", "the oldest event that is kept"),
    ("SELECT group_key, group_id, (SELECT count(*)", "the list of a namespace"),
    ("SELECT count(*) FROM groups WHERE hashtextextended", "the length of that list"),
];

/// A statement as the server's log has it.
struct Said {
    session: String,
    text: String,
    /// The keys of groups among its parameters.
    keys: Vec<Uuid>,
}

impl Said {
    fn is_of_groups(&self) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.text.split(|c| !is_name(c)).any(|word| OF_GROUPS.contains(&word))
    }

    fn names_its_groups(&self) -> bool {
        let named = ["group_key = ANY($1)", "group_key = ANY($11)", "group_key = $1", "INSERT INTO"];
        named.iter().any(|named| self.text.contains(named))
    }
}

fn read_log(dir: &Path) -> Vec<Said> {
    let files = std::fs::read_dir(dir).expect("the server made it").map(|file| file.expect("it is there").path());
    let text: String =
        files.map(|file| String::from_utf8_lossy(&std::fs::read(file).expect("it is there")).into_owned()).collect();
    let mut said: Vec<Said> = Vec::new();
    for line in text.split("@@").skip(1) {
        let Some((session, line)) = line.split_once("@ ") else { continue };
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        // From PostgreSQL 17 on with a capital.
        let parameters =
            ["DETAIL: parameters: ", "DETAIL: Parameters: "].iter().find_map(|word| line.strip_prefix(word));
        if let Some(parameters) = parameters {
            if let Some(last) = said.iter_mut().rev().find(|said| said.session == session) {
                let words = parameters.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
                last.keys = words.filter(|word| word.len() == 36).filter_map(|word| word.parse().ok()).collect();
            }
        } else if let Some(text) = line.strip_prefix("LOG: statement: ") {
            said.push(Said { session: session.to_owned(), text: text.to_owned(), keys: Vec::new() });
        } else if let Some((_, text)) = line.strip_prefix("LOG: execute ").and_then(|line| line.split_once(": ")) {
            said.push(Said { session: session.to_owned(), text: text.to_owned(), keys: Vec::new() });
        }
    }
    said
}

#[tokio::test]
async fn no_transaction_of_spread_groups_goes_to_two_places_and_every_statement_says_where_it_goes() {
    let log = scratch_dir("statements");
    remove_after_the_run(&log);
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&log, anybody).expect("it is ours");
    let server = Server::start(&[
        ("logging_collector", "on"),
        ("log_directory", log.to_str().expect("a path of letters")),
        ("log_file_mode", "0644"),
        ("log_statement", "all"),
        ("log_line_prefix", "@@%c@ "),
    ])
    .await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", server.port);
    let hosts = Hosts::parse(&url).expect("it is a URL");
    let store = Store::open(hosts.clone(), store_options());
    store.migrate().await.expect("it migrates");
    store.close().await;
    server.execute(&statements_of_the_cluster()).await;

    let replica = TestReplica::start(settings(hosts)).await;
    replica.wait_until_ready().await;
    let groups: Vec<String> = (0..16).map(|n| format!("g{n}")).collect();
    for group in &groups {
        replica.group_of(group, 300, &["a", "b"]).await;
    }
    for _ in 0..3 {
        join_all(groups.iter().map(async |group| replica.beat(group, "a", 100.0).await)).await;
        join_all(groups.iter().map(async |group| replica.beat(group, "b", 50.0).await)).await;
    }
    // All fall silent, and the sweep or whoever looks at leases takes the roles.
    let held = "SELECT count(*)::text FROM sessions WHERE role <> 0";
    eventually("nobody holds a role", async || server.value(held).await == "0").await;
    let taken_over = join_all(groups.iter().map(async |group| replica.beat(group, "b", 50.0).await)).await;
    assert_eq!(taken_over, vec![1; groups.len()]);
    replica.put("/g0", json!({"Milliseconds": 400})).await.expect_ok();
    replica.get("").await.expect_ok();
    replica.get("/g1/status").await.expect_ok();
    replica.delete("/g1/clientsessions/b").await.expect_ok();
    eventually("nobody is live", async || server.value(held).await == "0").await;
    replica.delete("/g2").await.expect_ok();
    replica.put("/g2", json!({"Milliseconds": 400})).await.expect_ok();
    // Everybody was Primary once, and once more; on a slow machine more often.
    let grants = "SELECT (count(*) >= 32)::text FROM role_transitions WHERE to_role = 1";
    assert_eq!(server.value(grants).await, "true");
    replica.stop().await;

    let said = read_log(&log);
    let mut of_one: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    let mut places_seen = BTreeSet::new();
    let mut most_groups = 0;
    let mut decided = 0;
    let began = said.iter().position(|said| said.text.contains("CREATE FUNCTION place_of_group")).expect("it was made");
    for said in &said[began + 1..] {
        let is_ours = !said.text.contains("::text FROM");
        if said.text.contains("BEGIN ISOLATION LEVEL SERIALIZABLE") || said.text == "COMMIT" || said.text == "ROLLBACK"
        {
            of_one.remove(said.session.as_str());
        }
        if said.text.contains("BEGIN ISOLATION LEVEL SERIALIZABLE") {
            of_one.insert(&said.session, BTreeSet::new());
            continue;
        }
        if !is_ours || !said.is_of_groups() {
            continue;
        }
        assert!(!said.text.contains("ctid") && !said.text.contains("tid[]"), "told by where it lies: {}", said.text);
        if let Some(keys) = of_one.get_mut(said.session.as_str()) {
            assert!(said.names_its_groups(), "in a decision, and of all groups: {}", said.text);
            keys.extend(&said.keys);
            let places: BTreeSet<u8> = keys.iter().map(|key| key.as_bytes()[0] % PLACES).collect();
            assert!(places.len() <= 1, "a transaction goes to {places:?}, here with {}", said.text);
            places_seen.extend(places);
            most_groups = most_groups.max(keys.len());
            decided += 1;
        } else {
            let is_known = OF_ALL_NODES.iter().any(|(begins, _)| said.text.starts_with(begins));
            assert!(is_known || said.names_its_groups(), "of all groups, for no known reason: {}", said.text);
        }
    }
    // Otherwise nothing was shown.
    assert_eq!(places_seen.len(), usize::from(PLACES));
    assert!(most_groups > 1 && decided > 100, "{most_groups} groups in one, {decided} statements");
}

#[tokio::test]
async fn on_a_node_that_is_another_nothing_is_decided_before_a_new_history_is_noted_and_streams_say_so() {
    let database = TestDatabase::new().await;
    database.execute(&statements_of_the_cluster()).await;
    let replica = TestReplica::start(settings(database.connect_options())).await;
    replica.wait_until_ready().await;
    replica.group_of("g", 60_000, &["a", "b"]).await;
    let mut stream = EventStream::open(&replica, NAMESPACE_EVENTS, Some(0)).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    let noted = "SELECT count(*)::int AS noted FROM service_histories";
    assert_eq!(database.rows(noted).await, [json!({"noted": 1})], "nothing is another");

    // A standby is promoted, and signs of life do not see it yet.
    database.execute("UPDATE pg_dist_node SET answers = false; UPDATE pg_dist_local_group SET groupid = 2").await;
    replica.heartbeat("g", "a", json!({"PercentHealthyStreams": 100})).await.expect_error(503);
    assert_eq!(database.rows(noted).await, [json!({"noted": 1})]);
    database.execute("UPDATE pg_dist_node SET answers = true").await;
    let is_answered = async || replica.heartbeat("g", "b", json!({"PercentHealthyStreams": 100})).await.status == 200;
    eventually("heartbeats are answered again", is_answered).await;
    let status = replica.get("/g/status").await.expect_ok();
    assert!(status["InDoubtUntil"].is_string() && status["Term"].as_i64() > Some(1_000_000), "{status}");
    assert_eq!(replica.beat_acting_as("g", "a", 100.0, 1).await, 1, "it says that it acts");
    replica.delete("/g/clientsessions/b").await.expect_ok();

    let histories = "SELECT reason, base > 0 AS is_fenced, timeline LIKE '% and node 1/%' AS names_the_node
        FROM service_histories ORDER BY history_id";
    let expected = [
        json!({"reason": "first", "is_fenced": false, "names_the_node": true}),
        json!({"reason": "another_timeline", "is_fenced": true, "names_the_node": false}),
    ];
    assert_eq!(database.rows(histories).await, expected);
    let events = stream.take(6).await;
    let lines: Vec<String> = events.iter().map(Received::line).collect();
    let expected =
        ["GroupCreated g", "SessionRegistered g a", "SessionRegistered g b", "RoleChanged g a 0>1 first_heartbeat"];
    assert_eq!(lines[..4], expected);
    assert_eq!(events[4].name, "DatabaseHistoryChanged");
    assert_eq!(events[4].data["LastIdBefore"], json!(events[3].id));
    assert_eq!(lines[5], "SessionDeleted g b");
    assert!(events.is_sorted_by_key(|event| event.id));
    replica.stop().await;
}

/// Rows of an INSERT that is made of others are copied to their node by the coordinator.
#[tokio::test]
async fn a_heartbeat_that_meets_another_one_at_a_node_is_tried_again_though_the_coordinator_drops_the_code() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a"]).await;
    let once = "CREATE SEQUENCE times;
        GRANT ALL ON SEQUENCE times TO PUBLIC;
        CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('times') = 1 THEN
                RAISE 'could not serialize access due to read/write dependencies among transactions' USING ERRCODE = 'XX000';
            END IF;
            RETURN NEW;
        END
        $$;
        CREATE TRIGGER refuse_once BEFORE INSERT ON heartbeats FOR EACH ROW EXECUTE FUNCTION refuse_once()";
    app.database.execute(once).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.database.rows("SELECT last_value::int AS times FROM times").await, [json!({"times": 2})]);
}

#[tokio::test]
async fn every_table_with_a_groups_key_is_spread_by_it() {
    let database = TestDatabase::new().await;
    let tables = database
        .rows(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relkind = 'r' AND a.attname = 'group_key' AND c.relnamespace = 'public'::regnamespace",
        )
        .await;
    let tables: BTreeSet<&str> = tables.iter().map(|row| row["relname"].as_str().expect("a name")).collect();
    assert_eq!(tables, BTreeSet::from(OF_GROUPS));
    // What is unique is so within a group, or nobody could tell on several servers.
    let across = "SELECT indexrelid::regclass AS across FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'group_key'
        WHERE c.relkind = 'r' AND i.indisunique AND i.indkey[0] <> a.attnum";
    assert_eq!(database.rows(across).await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn groups_are_not_spread_where_there_is_one_server() {
    let database = TestDatabase::new().await;
    let store = Store::open(database.connect_options(), store_options());
    let refused = store.distribute().await.expect_err("there is no cluster").to_string();
    assert!(refused.starts_with("groups cannot be spread: the database has no extension 'citus'."), "{refused}");
    let untouched = database.rows("SELECT to_regclass('service_signs_of_nodes') IS NULL AS untouched").await;
    assert_eq!(untouched, [json!({"untouched": true})]);
    store.close().await;
}
