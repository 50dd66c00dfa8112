//! A PostgreSQL of somebody else's, as it may be: another encoding, certificates of every kind, a
//! password that changes, tables in another schema, and readers who come by way of yet another
//! database.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover::store::Store;
use client_failover::store::password::PasswordFile;
use client_failover_workshop::needs;
use nix::unistd::{User, geteuid};
use rcgen::{CertificateParams, KeyPair};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use time::{Duration, OffsetDateTime};

use crate::support::credentials::Authority;
use crate::support::helpers::{
    TestDatabase, connect_options, eventually, free_port, remove_after_the_run, scratch_dir, store_options,
};
use crate::support::program::{program, run};

/// A server of one test's own that is reached over TCP, and lets in whom its `pg_hba.conf` says.
struct Foreign {
    server: Postgres,
    dir: PathBuf,
    port: u16,
}

impl Foreign {
    async fn start(client_authentication: &str) -> Foreign {
        let dir = scratch_dir("foreign");
        remove_after_the_run(&dir);
        let port = free_port();
        let foreign_file = |name: &str, text: &str| {
            let path = dir.join(name);
            Foreign::write(&path, text);
            path.display().to_string()
        };
        let hba = foreign_file("hba.conf", &format!("local all all trust\n{client_authentication}\n"));
        let settings = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("hba_file", hba),
            ("fsync", "off".to_owned()),
            ("ssl_cert_file", dir.join("server.pem").display().to_string()),
            ("ssl_key_file", dir.join("server.key").display().to_string()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let options = PostgresOptions { data_dir: dir.join("data"), bin_dir: None, settings };
        let server = Postgres::start(options).await.expect("it starts");
        Foreign { server, dir, port }
    }

    /// A file for the server's account, and for nobody else.
    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("it can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        if geteuid().is_root()
            && let Ok(Some(user)) = User::from_name("postgres")
        {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
        }
    }

    async fn execute(&self, statements: &[&str]) {
        let mut connection =
            PgConnection::connect_with(&connect_options(&self.server, "postgres")).await.expect("it answers");
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.expect("it runs");
        }
    }

    fn url(&self, query: &str) -> String {
        format!("postgres://failover@127.0.0.1:{}/postgres?{query}", self.port)
    }

    /// What `migrate` says of it.
    async fn migrate(&self, query: &str) -> (bool, String) {
        let mut command = program();
        command.args(["migrate", "--database-url", &self.url(query)]);
        let ran = run(command).await;
        (ran.code == 0, ran.err)
    }

    async fn says(&self, query: &str, wanted: &[&str]) {
        let mut said = String::new();
        // The server reads new certificates when it comes to it.
        let what = format!("{query} is answered with {wanted:?}");
        eventually(&what, async || {
            said = self.migrate(query).await.1;
            wanted.iter().all(|word| said.contains(word))
        })
        .await;
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    async fn show(&self, certificate: &str, key: &str) {
        Foreign::write(&self.dir.join("server.pem"), certificate);
        Foreign::write(&self.dir.join("server.key"), key);
        self.execute(&["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"]).await;
    }
}

/// A certificate for that name, signed by itself, valid for so many days from so many days ago.
fn certificate(name: &str, begins_days: i64, ends_days: i64) -> (String, String) {
    let key = KeyPair::generate().expect("a key can be made");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::days(begins_days);
    params.not_after = now + Duration::days(ends_days);
    let certificate = params.self_signed(&key).expect("it can be signed");
    (certificate.pem(), key.serialize_pem())
}

/// One of X.509 version 1, as long-lived servers have them. No library of today makes one.
fn certificate_of_version_1(dir: &Path) -> Option<(String, String)> {
    let script = "
        openssl genrsa -out v1.key 2048 && openssl req -new -key v1.key -subj /CN=old -out v1.csr &&
        openssl x509 -req -in v1.csr -signkey v1.key -days 30 -out v1.pem &&
        openssl x509 -in v1.pem -noout -text | grep -q 'Version: 1 '";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    let is_made = shell.status().is_ok_and(|status| status.success());
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("it was made");
    is_made.then(|| (read("v1.pem"), read("v1.key")))
}

#[tokio::test]
async fn each_failure_of_tls_says_what_to_do() {
    let foreign = Foreign::start("hostssl all all 127.0.0.1/32 trust").await;
    foreign.says("sslmode=require", &["does not support TLS", "sslmode=disable"]).await;

    match certificate_of_version_1(&foreign.dir) {
        None => println!("a certificate of version 1 is not tried: openssl does not make one here"),
        Some((certificate, key)) => {
            foreign.show(&certificate, &key).await;
            foreign.says("", &["UnsupportedCertVersion", "version 1", "sslmode=disable"]).await;
        }
    }

    let (for_another, key) = certificate("db.example", -1, 30);
    foreign.show(&for_another, &key).await;
    let roots = foreign.dir.join("roots.pem");
    fs::write(&roots, &for_another).expect("it can be written");
    let root = format!("&sslrootcert={}", roots.display());
    foreign.says(&format!("sslmode=verify-full{root}"), &["is for another name", "verify-ca"]).await;
    assert!(foreign.migrate("sslmode=require").await.0);
    foreign.says("sslmode=disable", &["without TLS", "sslmode=require"]).await;
    let other = foreign.dir.join("other.pem");
    fs::write(&other, certificate("other.example", -1, 30).0).expect("it can be written");
    let unknown = format!("sslmode=verify-ca&sslrootcert={}", other.display());
    foreign.says(&unknown, &["an authority that is not believed", "sslrootcert"]).await;

    for (begins, ends, wanted) in [(-20, -10, "has expired"), (10, 20, "is not valid yet")] {
        let (certificate, key) = certificate("127.0.0.1", begins, ends);
        foreign.show(&certificate, &key).await;
        fs::write(&roots, &certificate).expect("it can be written");
        foreign.says(&format!("sslmode=verify-ca{root}"), &[wanted]).await;
    }

    // A certificate of ours is wanted: as the server's own rule, and by the line of its file.
    let (own, key) = certificate("127.0.0.1", -1, 30);
    Foreign::write(&foreign.dir.join("clients.pem"), &Authority::new().pem());
    let clients = format!("ALTER SYSTEM SET ssl_ca_file = '{}'", foreign.dir.join("clients.pem").display());
    foreign.execute(&[&clients]).await;
    Foreign::write(
        &foreign.dir.join("hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n",
    );
    foreign.show(&own, &key).await;
    foreign.says("sslmode=require", &["client certificate", "sslcert and sslkey"]).await;
    foreign.server.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_password_from_a_file_is_read_anew_for_each_connection() {
    let foreign = Foreign::start("host all all 127.0.0.1/32 scram-sha-256").await;
    foreign.execute(&["CREATE ROLE app LOGIN SUPERUSER PASSWORD 'first'"]).await;
    let file = foreign.dir.join("password");
    fs::write(&file, "first\n").expect("it can be written");
    let url = format!("postgres://app@127.0.0.1:{}/postgres", foreign.port);
    let options: PgConnectOptions = url.parse().expect("a URL");
    let file_of_store = Some(PasswordFile::new(file.clone()));
    let store =
        Store::open(options, client_failover::store::StoreOptions { password_file: file_of_store, ..store_options() });
    store.migrate().await.expect("the first password is the account's");
    assert!(store.note_alive().await.is_ok());

    // Rotated, and every connection of before is broken: only new ones can answer.
    foreign
        .execute(&[
            "ALTER ROLE app PASSWORD 'second'",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        ])
        .await;
    fs::write(&file, "second").expect("it can be written");
    eventually("the second password is used", async || store.note_alive().await.is_ok()).await;
    assert_eq!(store.migrate().await.expect("it is used here too"), 0);

    // What is wrong with the setting is said at once.
    let database_url = url.replace("app@", "app:first@");
    for (given, wanted) in [
        (vec!["--database-url", &database_url], "holds a password"),
        (vec!["--database-url", &url, "--database-password-file", "/nonexistent/file"], "/nonexistent/file"),
        (vec![], "database-url is missing"),
    ] {
        let mut command = program();
        let file = file.display().to_string();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(&given);
        command.env("CLIENT_FAILOVER_DATABASE_PASSWORD_FILE", file);
        let said = crate::support::program::refusal(command).await;
        assert!(said.contains(wanted), "{said}");
    }
    store.close().await;
    foreign.server.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused_at_the_start() {
    let database = TestDatabase::empty().await;
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("encoded_{}", encoding.to_lowercase());
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        database.execute(&create).await;
        let (at, _) =
            database.url().rsplit_once('/').map(|(at, name)| (at.to_owned(), name.to_owned())).expect("a URL");
        for arguments in [["serve", "--migrate=true"], ["serve", "--migrate=false"]] {
            let mut command = program();
            command.args(arguments).args(["--listen", "127.0.0.1:0", "--database-url", &format!("{at}/{name}")]);
            if arguments[1] == "--migrate=false" {
                // As one that was migrated before this was looked at.
                let options = database.connect_options().database(&name);
                let mut connection = PgConnection::connect_with(&options).await.expect("it answers");
                let tables = "CREATE TABLE refinery_schema_history (version int); INSERT INTO refinery_schema_history VALUES (1000)";
                sqlx::raw_sql(tables).execute(&mut connection).await.expect("it runs");
            }
            let ran = run(command).await;
            assert_ne!(ran.code, 0, "{ran:?}");
            let last = ran.err.lines().last().unwrap_or_default();
            assert!(last.contains(encoding) && last.contains("ENCODING 'UTF8'"), "{ran:?}");
        }
        database.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

/// What a look needs that goes all the way: a lease from before an outage, for which a view calls a
/// function.
const BEFORE_AN_OUTAGE: &str = "
    INSERT INTO {schema}service_outages (began_at, recovered_at, counts_from)
        VALUES (clock_timestamp() - interval '10 s', clock_timestamp() + interval '10 s', interval '2 s');
    INSERT INTO {schema}groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
        VALUES ('00000000-0000-0000-0000-000000000001', 't', 'n', 'g', 600000000);
    INSERT INTO {schema}sessions (group_key, session_id) VALUES ('00000000-0000-0000-0000-000000000001', 's');
    INSERT INTO {schema}heartbeats (group_key, session_id, percent_healthy_streams, heartbeat_time, received_at, lease_until, heard_until)
        VALUES ('00000000-0000-0000-0000-000000000001', 's', 100, now(), now(), now() + interval '1 minute', now())";

const VIEWS: [&str; 6] =
    ["session_status", "group_status", "group_risks", "role_history", "api_key_status", "service_outages"];

#[needs("pg_dump", "psql")]
#[tokio::test]
async fn the_views_work_by_way_of_another_database_and_after_a_restore() {
    let database = TestDatabase::empty().await;
    // In a schema that is on nobody's path but the service's.
    database.execute("CREATE SCHEMA tables_apart").await;
    let store = Store::open(database.connect_options().options([("search_path", "tables_apart")]), store_options());
    store.migrate().await.expect("it migrates");
    store.close().await;
    database.execute(&BEFORE_AN_OUTAGE.replace("{schema}", "tables_apart.")).await;
    let rows = database.rows("SELECT * FROM tables_apart.session_status").await;
    assert_eq!(rows.len(), 1, "somebody without that path");

    let reader = TestDatabase::empty().await;
    let connect = database.connect_options();
    let import = format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER failover FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{}', port '{}', dbname '{}');
         CREATE USER MAPPING FOR CURRENT_USER SERVER failover OPTIONS (user '{}', password_required 'false');
         IMPORT FOREIGN SCHEMA tables_apart LIMIT TO ({}, api_keys) FROM SERVER failover INTO public",
        connect.get_socket().expect("a socket").display(),
        connect.get_port(),
        connect.get_database().expect("a database"),
        connect.get_username(),
        VIEWS.join(", "),
    );
    reader.execute(&import).await;
    for view in VIEWS {
        reader.rows(&format!("SELECT * FROM {view}")).await;
    }
    let through = reader.rows("SELECT live, lease_seconds_left FROM session_status").await;
    assert_eq!(through[0]["live"], true, "{through:?}");
    // A trigger's function, too.
    reader.execute("UPDATE api_keys SET revoked_at = now()").await;
    reader.execute("DELETE FROM api_keys").await;

    // A restore, with the tools of the server's version.
    let restored = TestDatabase::empty().await;
    let dump = format!(
        "pg_dump -h '{0}' -p {1} -U {2} {3} | psql -v ON_ERROR_STOP=1 -q -h '{0}' -p {1} -U {2} {4}",
        connect.get_socket().expect("a socket").display(),
        connect.get_port(),
        connect.get_username(),
        connect.get_database().expect("a database"),
        restored.connect_options().get_database().expect("a database"),
    );
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &dump]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(shell).await.ok();
    for view in VIEWS {
        restored.rows(&format!("SELECT * FROM tables_apart.{view}")).await;
    }
    let rows = restored.rows("SELECT live FROM tables_apart.session_status").await;
    assert_eq!(rows[0]["live"], true);
}
