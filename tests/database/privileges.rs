//! What the service may do on its machine and in its database, beyond what it needs: nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use client_failover_workshop::needs;
use nix::sys::signal::Signal;
use nix::unistd::User;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::support::credentials::{Authority, new_dir};
use crate::support::helpers::TestDatabase;
use crate::support::program::{GROUP, Running, new_data_dir, private, program_for_all, refusal};

/// The private server of a data directory, as one of its roles.
async fn inside(data_dir: &Path, role: &str, database: &str) -> PgConnection {
    let connect = PgConnectOptions::new_without_pgpass()
        .socket(data_dir.join("run"))
        .port(5432)
        .username(role)
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&connect).await.expect("the private server answers")
}

async fn number(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query(query).fetch_one(connection).await.expect("it is answered").try_get(0).expect("a number")
}

/// How much is in the private database that does not belong to the service's role.
const NOT_ITS_OWN: &str = "
    SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> 'client_failover'::regrole)
        + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner <> 'client_failover'::regrole)
        + (SELECT count(*) FROM pg_database WHERE datname = 'client_failover' AND datdba <> 'client_failover'::regrole)
        + (SELECT count(*) FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE')";

#[tokio::test]
async fn in_the_private_server_the_service_is_no_superuser_and_an_older_folder_is_handed_over() {
    let data_dir = new_data_dir();
    let service = Running::start(private(&data_dir)).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    let mut root = inside(&data_dir, "failover", "client_failover").await;
    assert_eq!(number(&mut root, NOT_ITS_OWN).await, 0);
    let rights = "SELECT count(*) FROM pg_roles WHERE rolname = 'client_failover'
        AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)";
    assert_eq!(number(&mut root, rights).await, 1);
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND usename = 'failover' AND pid <> pg_backend_pid()";
    assert_eq!(number(&mut root, connected).await, 0, "it is connected as its own role alone");
    let mut own = inside(&data_dir, "client_failover", "client_failover").await;
    let refused = sqlx::raw_sql("COPY groups TO PROGRAM 'true'").execute(&mut own).await.expect_err("it may not");
    assert!(refused.to_string().contains("permission denied") || refused.to_string().contains("must be"), "{refused}");

    // As a version before would have left it.
    drop(own);
    let objects = "SELECT format('ALTER TABLE %s OWNER TO failover', oid::regclass) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
        UNION ALL SELECT format('ALTER ROUTINE %s OWNER TO failover', oid::regprocedure) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace";
    let back: Vec<String> = sqlx::query_scalar(objects).fetch_all(&mut root).await.expect("it is answered");
    service.signal(Signal::SIGSTOP);
    let more = ["ALTER DATABASE client_failover OWNER TO failover", "GRANT CREATE ON SCHEMA public TO PUBLIC"];
    for statement in back.into_iter().chain(more.map(str::to_owned)) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut root).await.expect("it runs");
    }
    assert!(number(&mut root, NOT_ITS_OWN).await > 20);
    drop(root);
    service.signal(Signal::SIGCONT);
    service.signal(Signal::SIGTERM);
    service.end().await;

    let service = Running::start(private(&data_dir)).await;
    assert_eq!(service.beat("a").await, 1, "the group goes on as it was");
    let mut root = inside(&data_dir, "failover", "client_failover").await;
    assert_eq!(number(&mut root, NOT_ITS_OWN).await, 0);
    drop(root);
    service.signal(Signal::SIGTERM);
    service.end().await;
}

/// An account that root can become here, and that is nobody's in particular.
fn some_account() -> User {
    let named = |name| User::from_name(name).ok().flatten();
    named("postgres").or_else(|| named("daemon")).expect("there is an account for services")
}

/// The user ids of all threads of a process, each once.
fn users_of(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut users: Vec<String> = tasks
        .map(|task| fs::read_to_string(task.expect("a thread").path().join("status")).expect("it is readable"))
        .flat_map(|status| {
            let lines: Vec<String> = status
                .lines()
                .filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:") || line.starts_with("CapEff:"))
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            lines
        })
        .collect();
    users.sort();
    users.dedup();
    users
}

fn as_account(command: &mut Command, user: &User) {
    command.args(["--run-as", &user.name]);
}

#[needs("root")]
#[tokio::test]
async fn root_reads_the_key_opens_the_port_and_is_root_no_more() {
    let user = some_account();
    let database = TestDatabase::new().await;
    let authority = Authority::new();
    let tls = authority.server((-1, 90)).write(&new_dir());
    // The key is root's alone. The socket of the tests' PostgreSQL is for its own account, which is
    // this one.
    fs::set_permissions(&tls.key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let mut command = program_for_all();
    command.args(["--listen", "127.0.0.1:0"]);
    as_account(&mut command, &user);
    command.arg("--tls-certificate").arg(&tls.certificate).arg("--tls-key").arg(&tls.key);
    command.env("DATABASE_URL", database.url());
    let mut service = Running::start(command).await;
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one");
    service.http = reqwest::Client::builder().tls_certs_only([root]).build().expect("a client");
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let expected = [
        "CapEff: 0000000000000000".to_owned(),
        format!("Gid: {gid} {gid} {gid} {gid}"),
        format!("Uid: {uid} {uid} {uid} {uid}"),
    ];
    assert_eq!(users_of(service.pid()), expected, "every thread, and for good");
    service.signal(Signal::SIGTERM);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not seen before a restart"), "it says that the key cannot be read again: {said}");
}

#[needs("root")]
#[tokio::test]
async fn the_private_server_runs_as_the_account_that_root_becomes() {
    let user = some_account();
    let data_dir = new_data_dir().join("data");
    let start = async || {
        let mut command = program_for_all();
        command.args(["--listen", "127.0.0.1:0"]);
        as_account(&mut command, &user);
        command.arg("--data-dir").arg(&data_dir);
        Running::start(command).await
    };
    let service = start().await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    for path in [data_dir.clone(), data_dir.join("pg")] {
        assert_eq!(fs::metadata(&path).expect("it is there").uid(), user.uid.as_raw(), "{}", path.display());
    }
    service.signal(Signal::SIGTERM);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    let service = start().await;
    let (_, group) = service.ask(reqwest::Method::GET, GROUP, json!(null)).await;
    assert_eq!(group["Clients"]["a"]["Role"], 1, "its data is there again");
    service.signal(Signal::SIGTERM);
    service.end().await;
}

#[tokio::test]
async fn an_account_that_cannot_be_is_refused_with_what_to_do() {
    let mut command = private(&new_data_dir());
    command.args(["--run-as", "no-such-account"]);
    assert!(refusal(command).await.contains("useradd"));
}

#[needs("root")]
#[tokio::test]
async fn root_is_told_which_account_to_take_and_what_to_give_to_it() {
    let mut command = private(&new_data_dir());
    command.args(["--run-as", "nobody"]);
    assert!(refusal(command).await.contains("of the service's own"));
    let user = some_account();
    let data_dir = new_data_dir();
    fs::write(data_dir.join("lock"), "").expect("it can be written");
    let mut command = private(&data_dir);
    as_account(&mut command, &user);
    assert!(refusal(command).await.contains(&format!("chown -R {}:", user.name)));
}
