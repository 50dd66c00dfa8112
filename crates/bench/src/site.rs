//! A site: one database with a fleet in it, and the replicas that serve it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover::store::histories::DatabaseHistory;
use client_failover::store::{Pooler, Store, StoreOptions};
use client_failover_children::{Folder, ServiceProcess};
use client_failover_client::Service;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};

use super::BenchError;
use super::fleet::Fleet;
use super::peer::Reach;
use super::usage;

/// The PostgreSQL server that is measured on.
pub struct DatabaseServer {
    folder: Folder,
    private: Option<Postgres>,
    given_url: Option<String>,
    /// Databases are named by it, so that nothing that is there is touched.
    run: String,
}

/// What the server has done in a database so far.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Counters {
    /// Transactions committed.
    pub committed: i64,
    /// Transactions rolled back: conflicts.
    pub rolled_back: i64,
    /// Heartbeat rows updated.
    pub updated: i64,
    /// Of them, those that touched no index.
    pub updated_hot: i64,
    /// Bytes of the table of heartbeats.
    pub heartbeats_bytes: i64,
    /// Bytes of its index.
    pub heartbeats_index_bytes: i64,
    /// Changes of roles.
    pub role_changes: i64,
}

impl DatabaseServer {
    /// The server of that URL, or a private one in a temporary folder with these further settings.
    pub async fn start(
        url: Option<&str>,
        bin_dir: Option<PathBuf>,
        settings: Vec<(String, String)>,
    ) -> Result<DatabaseServer, BenchError> {
        let folder = Folder::create().map_err(BenchError::Folder)?;
        let private = match url {
            Some(_) => None,
            None => {
                let options = PostgresOptions { data_dir: folder.path().join("data"), bin_dir, settings };
                Some(Postgres::start(options).await?)
            }
        };
        let run = format!("client_failover_bench_{:08x}", fastrand::u32(..));
        Ok(DatabaseServer { folder, private, given_url: url.map(str::to_owned), run })
    }

    /// A folder for passing files to PostgreSQL's programs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The version of the server.
    pub async fn version(&self) -> Result<String, BenchError> {
        let mut connection = PgConnection::connect_with(&self.connect_options(None)?).await?;
        Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?)
    }

    /// Processor time of the server's processes so far, in seconds; 0 where they are on another
    /// machine.
    pub fn processor_seconds(&self) -> f64 {
        self.postmaster().map_or(0.0, usage::family_processor_seconds)
    }

    fn postmaster(&self) -> Option<u32> {
        self.private.as_ref()?;
        let lock = self.folder.path().join("data/pg/postmaster.pid");
        std::fs::read_to_string(lock).ok()?.lines().next()?.trim().parse().ok()
    }

    /// How PostgreSQL's own programs reach it.
    pub fn reach(&self) -> Reach {
        match (&self.private, &self.given_url) {
            (Some(postgres), _) => Reach {
                bin_dir: Some(postgres.bin_dir().to_owned()),
                flags: [
                    "--host",
                    &postgres.socket_dir().display().to_string(),
                    "--port",
                    &postgres.port().to_string(),
                    "--username",
                    postgres.user(),
                ]
                .map(str::to_owned)
                .to_vec(),
                environment: Vec::new(),
            },
            (None, Some(url)) => reach_by_url(url),
            (None, None) => Reach { bin_dir: None, flags: Vec::new(), environment: Vec::new() },
        }
    }

    fn database_name(&self, label: &str) -> String {
        format!("{}_{label}", self.run)
    }

    /// The URL of one of its databases, as `serve` takes it.
    fn url(&self, database: &str) -> String {
        match (&self.private, &self.given_url) {
            (None, Some(url)) => with_database(url, database),
            (Some(postgres), _) => {
                let socket = postgres.socket_dir().display().to_string();
                let socket = utf8_percent_encode(&socket, NON_ALPHANUMERIC);
                format!(
                    "postgres://{}@localhost:{}/{database}?host={socket}&sslmode=disable",
                    postgres.user(),
                    postgres.port()
                )
            }
            (None, None) => String::new(),
        }
    }

    fn connect_options(&self, database: Option<&str>) -> Result<PgConnectOptions, BenchError> {
        match (&self.private, &self.given_url) {
            (None, Some(url)) => {
                let url = database.map_or_else(|| url.clone(), |database| with_database(url, database));
                url.parse().map_err(BenchError::DatabaseUrl)
            }
            (Some(postgres), _) => Ok(PgConnectOptions::new_without_pgpass()
                .socket(postgres.socket_dir())
                .port(postgres.port())
                .username(postgres.user())
                .ssl_mode(PgSslMode::Disable)
                .database(database.unwrap_or("postgres"))),
            (None, None) => Ok(PgConnectOptions::new()),
        }
    }

    /// Ends the private server. Databases on a given one are removed with their sites.
    pub async fn stop(self) -> Result<(), BenchError> {
        match self.private {
            Some(postgres) => Ok(postgres.stop().await?),
            None => Ok(()),
        }
    }
}

/// A fleet in a database, and its replicas.
pub struct Site {
    database: String,
    /// The fleet.
    pub fleet: Fleet,
    /// A connection for looking.
    pub connection: PgConnection,
    replicas: Vec<(ServiceProcess, SocketAddr)>,
}

impl Site {
    /// Makes a database, migrates it, and writes the fleet.
    pub async fn build(
        server: &DatabaseServer,
        label: &str,
        fleet: Fleet,
        with_peer: bool,
        seeded: impl FnMut(u64),
    ) -> Result<Site, BenchError> {
        let database = server.database_name(label);
        let mut admin = PgConnection::connect_with(&server.connect_options(None)?).await?;
        let create = format!("CREATE DATABASE \"{database}\"");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
        admin.close().await?;
        let connect = server.connect_options(Some(&database))?;
        let store = Store::open(connect.clone(), store_options());
        store.migrate().await?;
        store.close().await;
        let mut connection = PgConnection::connect_with(&connect).await?;
        fleet.seed(&mut connection, seeded).await?;
        if with_peer {
            fleet.seed_for_peer(&mut connection).await?;
        }
        Ok(Site { database, fleet, connection, replicas: Vec::new() })
    }

    /// The name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Starts replicas until there are so many.
    pub async fn serve_with(
        &mut self,
        server: &DatabaseServer,
        replicas: usize,
        program: &Path,
        flags: &[OsString],
    ) -> Result<(), BenchError> {
        while self.replicas.len() < replicas {
            let mut all = vec![OsString::from("--database-url"), OsString::from(server.url(&self.database))];
            all.extend_from_slice(flags);
            let mut process = ServiceProcess::spawn(program, &all)?;
            let url = process.url().await?;
            let address = url.trim_start_matches("http://").parse().map_err(|_| BenchError::NoAddress(url.clone()))?;
            wait_until_ready(&url).await?;
            self.replicas.push((process, address));
        }
        Ok(())
    }

    /// Where the replicas listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|(_, address)| *address).collect()
    }

    /// Processor time of all replicas so far, in seconds.
    pub fn processor_seconds(&self) -> f64 {
        self.replicas.iter().filter_map(|(process, _)| process.id()).map(usage::processor_seconds).sum()
    }

    /// Resident memory of the largest replica, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.replicas.iter().filter_map(|(process, _)| process.id()).map(usage::resident_bytes).max().unwrap_or(0)
    }

    /// What the database counted so far.
    pub async fn counters(&mut self) -> Result<Counters, BenchError> {
        // What a backend has done is counted a moment after it did it.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        Ok(sqlx::query_as(
            "SELECT d.xact_commit AS committed, d.xact_rollback AS rolled_back,
                 t.n_tup_upd AS updated, t.n_tup_hot_upd AS updated_hot,
                 pg_table_size('heartbeats') AS heartbeats_bytes,
                 pg_indexes_size('heartbeats') AS heartbeats_index_bytes,
                 (SELECT count(*) FROM role_transitions) AS role_changes
             FROM pg_stat_database d, pg_stat_user_tables t
             WHERE d.datname = current_database() AND t.relname = 'heartbeats'",
        )
        .fetch_one(&mut self.connection)
        .await?)
    }

    /// Stops the replicas.
    pub async fn stop_serving(&mut self) {
        for (process, _) in self.replicas.drain(..) {
            process.stop().await;
        }
    }

    /// Stops the replicas and removes the database.
    pub async fn demolish(mut self, server: &DatabaseServer) -> Result<(), BenchError> {
        self.stop_serving().await;
        self.connection.close().await?;
        let mut admin = PgConnection::connect_with(&server.connect_options(None)?).await?;
        let remove = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.database);
        sqlx::raw_sql(AssertSqlSafe(remove)).execute(&mut admin).await?;
        admin.close().await?;
        Ok(())
    }
}

async fn wait_until_ready(url: &str) -> Result<(), BenchError> {
    let service = Service::plain(url, Duration::from_secs(5))?;
    for _ in 0..300 {
        if service.is_ready().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(BenchError::NotReady)
}

/// For migrating only.
fn store_options() -> StoreOptions {
    StoreOptions {
        pool_size: 2,
        operation_timeout: Duration::from_secs(60),
        idle_in_transaction_timeout: Duration::from_secs(60),
        outage_gap: Duration::from_secs(2),
        pooler: Pooler::None,
        database_history: DatabaseHistory::Fenced,
        password_file: None,
    }
}

/// A URL with another database in it.
fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let (scheme, rest) = address.split_once("://").unwrap_or(("postgres", address));
    let authority = rest.split('/').next().unwrap_or(rest);
    match query {
        Some(query) => format!("{scheme}://{authority}/{database}?{query}"),
        None => format!("{scheme}://{authority}/{database}"),
    }
}

/// The parts of a URL as PostgreSQL's programs take them. The password goes by the environment,
/// where others cannot see it.
fn reach_by_url(url: &str) -> Reach {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => (host, ""),
    };
    let in_query = |name: &str| {
        let query = rest.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(decoded)
    };
    let host = in_query("host").unwrap_or_else(|| decoded(host));
    let mut flags = Vec::new();
    for (flag, value) in [("--host", host), ("--port", port.to_owned()), ("--username", decoded(user))] {
        if !value.is_empty() {
            flags.extend([flag.to_owned(), value]);
        }
    }
    let mut environment = Vec::new();
    if !password.is_empty() {
        environment.push(("PGPASSWORD".to_owned(), decoded(password)));
    }
    environment.extend(in_query("sslmode").map(|mode| ("PGSSLMODE".to_owned(), mode)));
    Reach { bin_dir: None, flags, environment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_without_showing_its_password() {
        let reach = reach_by_url("postgres://ada:p%40ss@db.example:6432/failover?sslmode=require");
        assert_eq!(reach.flags, ["--host", "db.example", "--port", "6432", "--username", "ada"]);
        assert_eq!(reach.environment[0], ("PGPASSWORD".to_owned(), "p@ss".to_owned()));
        let reach = reach_by_url("postgres:///failover?host=%2Frun%2Fpostgresql");
        assert_eq!(reach.flags, ["--host", "/run/postgresql"]);
    }

    #[test]
    fn another_database_keeps_the_rest_of_the_url() {
        assert_eq!(with_database("postgres://a@h/x?sslmode=require", "y"), "postgres://a@h/y?sslmode=require");
        assert_eq!(with_database("postgres://a@h", "y"), "postgres://a@h/y");
    }
}
