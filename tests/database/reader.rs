//! The role of the database that only reads: what it sees, what it cannot do, and that it stalls
//! nobody.

use std::time::{Duration, Instant};

use client_failover::store::{Store, reader};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::credentials::create_key;
use crate::support::helpers::{
    Answer, TestApp, TestDatabase, eventually, remove_after_the_run, scratch_dir, store_options,
};
use crate::support::program::{program, run_with};

const MINUTE: i64 = 60_000;

/// A role of one test's own, which goes with its database.
struct Role<'d> {
    name: String,
    database: &'d TestDatabase,
}

impl<'d> Role<'d> {
    fn of(database: &'d TestDatabase) -> Role<'d> {
        let name = database.connect_options().get_database().expect("it has a name").replace("test", "Reader of test");
        Role { name, database }
    }

    /// As an operator makes it.
    async fn make(&self) -> String {
        let mut command = program();
        command.args(["migrate", "--reader", &self.name]).env("DATABASE_URL", self.database.url());
        run_with(command, "").await.ok()
    }

    async fn log_in(&self) -> PgConnection {
        self.database.execute(&format!("ALTER ROLE \"{}\" LOGIN", self.name)).await;
        let connect = self.database.connect_options().username(&self.name);
        PgConnection::connect_with(&connect).await.expect("it may log in")
    }
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<u64, String> {
    let ran = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    ran.map(|done| done.rows_affected()).map_err(|error| error.to_string())
}

async fn count(connection: &mut PgConnection, query: &str) -> i64 {
    let counted = AssertSqlSafe(format!("SELECT count(*) FROM ({query}) q"));
    sqlx::query_scalar(counted).fetch_one(connection).await.expect(query)
}

#[tokio::test]
async fn a_reader_sees_what_operators_need_and_changes_nothing() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 80.0).await;
    create_key(&app.database, "adapter-7", &["--tenant", "t", "--role", "client"]).await;
    // As every database has it before PostgreSQL 15.
    app.database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let role = Role::of(&app.database);
    let said = role.make().await;
    assert!(said.contains("may read"), "{said}");
    let (cannot_log_in, settings): (bool, Vec<String>) = sqlx::query_as(
        "SELECT NOT rolcanlogin AND NOT rolsuper, setconfig FROM pg_roles JOIN pg_db_role_setting ON setrole = oid WHERE rolname = $1",
    )
    .bind(&role.name)
    .fetch_one(&mut app.database.connect().await)
    .await
    .expect("there is such a role");
    assert!(cannot_log_in);
    assert!(settings.contains(&"default_transaction_read_only=on".to_owned()), "{settings:?}");
    // The same again changes nothing and succeeds.
    role.make().await;

    let mut reader = role.log_in().await;
    for (query, rows) in [
        ("SELECT * FROM group_status", 1),
        ("SELECT * FROM session_status", 2),
        ("SELECT * FROM group_risks", 2),
        ("SELECT * FROM role_history", 1),
        ("SELECT * FROM audit_log", 2),
        ("SELECT * FROM configuration_changes", 3),
        ("SELECT * FROM api_key_status WHERE valid AND name = 'adapter-7'", 1),
        ("SELECT * FROM service_moment", 1),
        ("SELECT lease_end(lease_until, lease_until - received_at) FROM heartbeats", 1),
    ] {
        assert_eq!(count(&mut reader, query).await, rows, "{query}");
    }
    for statement in [
        "SELECT key_hash FROM api_keys",
        "SELECT name FROM api_keys",
        "TABLE pg_authid",
        "UPDATE groups SET term = 0",
        "DELETE FROM role_transitions",
        "INSERT INTO service_outages (began_at, recovered_at) VALUES (now(), now() + interval '1 s')",
        "SELECT note_service_alive('2 s', '1 s', '0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false)",
        "TRUNCATE audit_log",
        "CREATE TABLE mine (id int)",
        "DROP VIEW group_status",
        "SELECT setval('role_transitions_transition_id_seq', 1)",
        "SELECT * FROM heartbeats FOR UPDATE",
        "SELECT * FROM heartbeats FOR KEY SHARE",
        "BEGIN; LOCK TABLE heartbeats IN ROW SHARE MODE",
        "BEGIN; LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE",
    ] {
        // Also where it turns off what only keeps it from accidents.
        for keeps_from_accidents in [true, false] {
            if !keeps_from_accidents {
                run(&mut reader, "SET default_transaction_read_only = off").await.expect("anybody may");
            }
            let refused = run(&mut reader, statement).await.expect_err(statement);
            let is_withheld = ["permission denied", "must be owner"].iter().any(|why| refused.contains(why));
            assert!(
                is_withheld || keeps_from_accidents && refused.contains("read-only transaction"),
                "{statement}: {refused}"
            );
            // An error in a transaction would be the next statement's.
            reader.close().await.expect("it closes");
            reader = role.log_in().await;
        }
    }
    // A table of a later migration is readable, too.
    app.database.execute("CREATE TABLE later AS SELECT 1 AS one").await;
    assert_eq!(count(&mut reader, "SELECT * FROM later").await, 1);
    reader.close().await.expect("it closes");
}

#[tokio::test]
async fn every_relation_is_known_to_be_readable_or_secret() {
    let database = TestDatabase::new().await;
    let (readable, secret) = reader::known_relations();
    let mut known: Vec<Value> = readable.iter().chain(secret).map(|name| json!({"name": name})).collect();
    known.sort_by_key(ToString::to_string);
    let mut found = database
        .rows("SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')")
        .await;
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, known);
}

#[tokio::test]
async fn a_reader_that_lingers_is_ended_and_stalls_nobody() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let role = Role::of(&app.database);
    role.make().await;
    let mut reader = role.log_in().await;
    // Everything it can hold: a snapshot, the strongest lock it may take, in the strictest
    // isolation.
    run(&mut reader, "SET idle_in_transaction_session_timeout = '2s'").await.expect("it may be stricter with itself");
    run(&mut reader, "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE groups, sessions, heartbeats IN ACCESS SHARE MODE; SELECT * FROM heartbeats, groups, sessions")
        .await
        .expect("it may look");
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(app.beat("g", "a", 100.0).await, 1);
        assert_eq!(app.beat("g", "b", 100.0).await, 0);
        slowest = slowest.max(asked.elapsed());
    }
    app.put("/g", json!({"Milliseconds": 2 * MINUTE})).await.expect_ok();
    app.put("/h", json!({"Milliseconds": MINUTE})).await.expect_ok();
    app.delete("/g?force=true").await.expect_ok();
    println!("slowest of 50 pairs of heartbeats beside a reader in a serializable transaction: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    tokio::time::timeout(Duration::from_secs(10), async {
        while run(&mut reader, "SELECT").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
    })
    .await
    .expect("the server ends it");
    let mut reader = role.log_in().await;
    let asked = Instant::now();
    run(&mut reader, "SET statement_timeout = '300ms'; SELECT pg_sleep(20)").await.expect_err("it is cut short");
    assert!(asked.elapsed() < Duration::from_secs(5));
    let (statement, idle): (String, String) = sqlx::query_as(
        "SELECT reset_val, (SELECT reset_val FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout')
         FROM pg_settings WHERE name = 'statement_timeout'",
    )
    .fetch_one(&mut reader)
    .await
    .expect("it may look at settings");
    assert_eq!((statement.as_str(), idle.as_str()), ("30000", "10000"));
}

#[tokio::test]
async fn readers_take_only_so_many_connections() {
    let database = TestDatabase::new().await;
    let role = Role::of(&database);
    role.make().await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(role.log_in().await);
    }
    let connect = database.connect_options().username(&role.name);
    let refused = PgConnection::connect_with(&connect).await.expect_err("there are ten already").to_string();
    assert!(refused.contains("too many connections"), "{refused}");
}

#[tokio::test]
async fn an_account_that_may_not_create_roles_is_told_who_can_do_what() {
    let database = TestDatabase::empty().await;
    let name = database.connect_options().get_database().expect("it has a name").to_owned();
    database
        .execute(&format!(
            "CREATE ROLE owner_of_{name} LOGIN; ALTER DATABASE {name} OWNER TO owner_of_{name}; ALTER SCHEMA public OWNER TO owner_of_{name}"
        ))
        .await;
    let connect = database.connect_options().username(&format!("owner_of_{name}"));
    let store = Store::open(connect.clone(), store_options());
    store.migrate().await.expect("an owner migrates");
    let role = format!("reader_of_{name}");
    let refused = store.make_reader(&role).await.expect_err("it may not create roles").to_string();
    assert!(refused.contains("CREATEROLE") && refused.contains(&format!("CREATE ROLE {role} NOLOGIN")), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
    // What it says can be run by somebody who may, and then the owner can do the rest.
    let (_, statements) = refused.split_once("run this again: ").expect("it says what to run");
    database.execute(statements).await;
    store.make_reader(&role).await.expect("the rest is the owner's");
    store.make_reader(&role).await.expect("and again");
    database.execute(&format!("ALTER ROLE {role} LOGIN")).await;
    let mut reader = PgConnection::connect_with(&database.connect_options().username(&role)).await.expect("it may");
    assert_eq!(count(&mut reader, "SELECT * FROM group_status").await, 0);
    reader.close().await.expect("it closes");
    // Where everybody may create, and it is not the owner's to take that away.
    database.execute("ALTER SCHEMA public OWNER TO CURRENT_USER; GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let refused = store.make_reader(&role).await.expect_err("a reader could create").to_string();
    assert!(refused.contains("in the schema public, as everybody may"), "{refused}");
    let (_, statements) = refused.split_once("run this again: ").expect("it says what to run");
    database.execute(statements).await;
    store.make_reader(&role).await.expect("nobody else creates there any more");
    assert_eq!(
        database.rows(&format!("SELECT has_schema_privilege('owner_of_{name}', 'public', 'CREATE') AS may")).await[0]["may"],
        true
    );

    let unusable = |role: String| {
        let store = store.clone();
        async move { store.make_reader(&role).await.expect_err(&role).to_string() }
    };
    let own = format!("owner_of_{name}");
    assert!(unusable(own).await.contains("the account that this command uses"));
    assert!(unusable(database.connect_options().get_username().to_owned()).await.contains("superuser"));
    database.execute(&format!("CREATE ROLE writer_of_{name}; GRANT INSERT ON groups TO writer_of_{name}")).await;
    assert!(unusable(format!("writer_of_{name}")).await.contains("may write"));
    database.execute(&format!("CREATE ROLE seer_of_{name} IN ROLE pg_read_all_data")).await;
    assert!(unusable(format!("seer_of_{name}")).await.contains("hashes"));
    assert!(unusable("x".repeat(64)).await.contains("63 bytes"));
    for reserved in ["public", "none", "pg_reader"] {
        assert!(store.make_reader(reserved).await.is_err(), "{reserved}");
    }
    store.close().await;
}

/// Beside a reader, the page of the service and the view say the same.
#[tokio::test]
async fn the_view_of_risks_has_the_rules_of_the_service() {
    let app = TestApp::start().await;
    for (group, beats) in [
        ("safe", &[("a", 100.0), ("b", 100.0)][..]),
        ("alone", &[("a", 100.0)]),
        ("ill", &[("a", 89.9), ("b", 50.0)]),
        ("ill-and-alone", &[("a", 10.0)]),
        ("dark", &[]),
    ] {
        app.group_of(group, MINUTE, &["a", "b"]).await;
        for (session, health) in beats {
            app.beat(group, session, *health).await;
        }
    }
    app.put("/unused", json!({"Milliseconds": MINUTE})).await.expect_ok();
    app.group_of("flapping", MINUTE, &["a", "b"]).await;
    for n in 0..4 {
        let session = ["a", "b"][n % 2];
        app.database.let_time_pass(0).await;
        app.database.execute("UPDATE heartbeats SET lease_until = received_at FROM groups WHERE groups.group_key = heartbeats.group_key AND group_id = 'flapping'").await;
        assert_eq!(app.beat("flapping", session, 100.0).await, 1);
    }
    app.beat("flapping", "a", 100.0).await;
    let listed = async || {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/status?at_risk=true", app.url);
        let page = Answer::of(app.http.get(url)).await.expect_ok();
        let mut risks: Vec<String> = page["Groups"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|group| {
                let id = group["GroupId"].as_str().expect("an id").to_owned();
                group["Risks"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(move |risk| format!("{id} {}", risk.as_str().expect("a text")))
                    .collect::<Vec<_>>()
            })
            .collect();
        risks.sort();
        risks
    };
    let seen = app.database.rows("SELECT group_id || ' ' || risk AS line FROM group_risks ORDER BY 1").await;
    let mut seen: Vec<String> = seen.iter().map(|row| row["line"].as_str().expect("a text").to_owned()).collect();
    seen.sort();
    let expected = [
        "alone NoStandby",
        "dark NoPrimary",
        "flapping Flapping",
        "ill PrimaryUnhealthy",
        "ill-and-alone NoStandby",
        "ill-and-alone PrimaryUnhealthy",
    ];
    assert_eq!(seen, expected);
    eventually("a census has seen the same", async || listed().await == expected).await;
}

/// The private server's database has readers, too: they come by its socket, which only its own
/// account reaches.
#[tokio::test]
async fn a_private_database_has_readers_as_well() {
    let dir = scratch_dir("reader");
    remove_after_the_run(&dir);
    let mut command = program();
    command.args(["migrate", "--reader", "operators", "--data-dir"]).arg(&dir);
    let said = run_with(command, "").await.ok();
    assert!(said.contains("'operators' may read"), "{said}");
}
