//! Migrations: refinery over an sqlx connection, under a lock, so that any number of replicas may
//! start at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use refinery_core::error::Kind;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration, Report, Runner};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, FromRow as _, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::connection::Connection;
use super::error::{IS_STANDBY, StoreError};
use super::histories::Of;
use super::options::Pooler;
use super::{Store, advice, fault};
use crate::telemetry;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The oldest server that the statements work on.
const OLDEST_SERVER: i32 = 140_000;

/// How long a migration waits for a lock. Everybody who wants to write waits behind it meanwhile,
/// heartbeats, too.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// How long it then lets others go first.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// How often it looks who is in its way, and how often it says so.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// Why the database is not fit for use (yet).
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It cannot be reached, or refuses us. Worth waiting for.
    #[error("the database cannot be used: {}", advice::explained(.0))]
    Unreachable(sqlx::Error),
    /// Too old a server. Waiting does not help.
    #[error("PostgreSQL {0} is too old: 14 or later is needed")]
    ServerTooOld(String),
    /// Names of any script are stored, and the encoding has no place for them. Waiting does not
    /// help.
    #[error(
        "the database's encoding is {0}, which cannot hold every name: UTF8 is needed. Move it: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, then pg_dump and pg_restore into it"
    )]
    Encoding(String),
    /// A standby. It may be promoted.
    #[error("the server is a physical standby: decisions are made on the primary server alone")]
    Standby,
    /// The line or the server went away meanwhile, or others were in the way. What is done is done,
    /// and the rest is worth another try.
    #[error("the migration was interrupted: {0}")]
    Interrupted(String),
    /// A migration that ran is not the one in this binary: before the first release, they were
    /// others. Waiting does not help.
    #[error(
        "the tables were not made by a release: {ran} ran on them, and this program has {known}. Give the service a new, empty database; docs/operations.md says under 'Upgrade' how to take groups and keys along"
    )]
    NotOfARelease {
        /// The one that ran.
        ran: String,
        /// The one of this version in this binary.
        known: String,
    },
    /// A migration failed.
    #[error("the migration failed: {0}")]
    Failed(String),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> MigrateError {
        match error {
            sqlx::Error::Protocol(what) if what == IS_STANDBY => MigrateError::Standby,
            error => MigrateError::Unreachable(error),
        }
    }
}

impl MigrateError {
    fn of(error: refinery_core::Error) -> MigrateError {
        let what = telemetry::error_chain(&error);
        let cause = match error.kind() {
            Kind::Connection(_, cause) => cause,
            Kind::DivergentVersion(ran, known) => {
                return MigrateError::NotOfARelease { ran: ran.to_string(), known: known.to_string() };
            }
            _ => return MigrateError::Failed(what),
        };
        match cause.downcast_ref() {
            Some(MigratorError::Statement(cause)) if fault::may_migrate_later(cause) => MigrateError::Interrupted(what),
            _ => MigrateError::Failed(what),
        }
    }

    /// Whether waiting may mend it.
    pub fn may_pass(&self) -> bool {
        match self {
            MigrateError::Unreachable(_) | MigrateError::Standby | MigrateError::Interrupted(_) => true,
            MigrateError::ServerTooOld(_)
            | MigrateError::Encoding(_)
            | MigrateError::NotOfARelease { .. }
            | MigrateError::Failed(_) => false,
        }
    }
}

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// The tables are missing or older than this binary.
    Unmigrated {
        /// The version that is there; 0 for none.
        found: i32,
        /// The version that is needed.
        needed: i32,
    },
    /// The database is not there, for this reason.
    Away(String),
}

impl Store {
    /// Brings the tables up to this binary's version; returns how many migrations ran. A newer
    /// schema than this binary knows is left as it is.
    ///
    /// No migration waits long for a lock: a reader whose transaction stands, such as a dump, would
    /// stop every heartbeat. It is tried again until nobody is in the way, and the log says who is.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        self.apply(embedded::migrations::runner()).await
    }

    /// Runs those of these migrations that have not been run on this database.
    pub async fn apply(&self, migrations: Runner) -> Result<usize, MigrateError> {
        let mut connection = self.connect().await?;
        check_server(&mut connection).await?;
        let _lock = self.lock_migrations(&mut connection).await?;
        let mut migrator = Migrator { connection, onlooker: self.background(), said_at: None };
        let report: Report =
            migrations.set_abort_missing(false).run_async(&mut migrator).await.map_err(MigrateError::of)?;
        migrator.connection.close().await?;
        Ok(report.applied_migrations().len())
    }

    /// Waits until nobody else migrates. The lock ends with the connection, or with the one that is
    /// returned, whatever happens.
    pub(super) async fn lock_migrations(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<PgConnection>, sqlx::Error> {
        match self.options.pooler {
            // A lock of the session, not of a transaction: each migration commits by itself.
            // Migrating may take longer than a request may.
            Pooler::None => {
                let lock =
                    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
                    SELECT pg_advisory_lock(hashtextextended('client-failover migrations', 0))";
                sqlx::raw_sql(lock).execute(connection).await?;
                Ok(None)
            }
            // What is of a session would stay with a connection of the pooler's, and the next to
            // wait for the lock would wait for ever: here a transaction beside the migrations holds
            // it.
            Pooler::Transaction => {
                let mut holder = self.connect().await?;
                let lock = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
                    SET LOCAL idle_in_transaction_session_timeout = 0;
                    SELECT pg_advisory_xact_lock(hashtextextended('client-failover migrations', 0))";
                sqlx::raw_sql(lock).execute(&mut holder).await?;
                Ok(Some(holder))
            }
        }
    }

    /// Whether requests can be served, asked of the database within `timeout`.
    pub async fn readiness(&self, timeout: Duration) -> Readiness {
        let ask = async {
            // One at a time: however many ask, the signs of life and the sweep keep their
            // connections.
            let _turn = self.asking_for_readiness.lock().await;
            let pooled = self.background().pool.acquire(Of::AnyHistory).await?;
            let mut connection = Connection::new(pooled, self.options.pooler, self.life.clone());
            // One message each time, also here: see `admission::LOOK`.
            let rows = sqlx::raw_sql("SELECT version, name, checksum FROM refinery_schema_history");
            let rows = rows.fetch_all(&mut *connection).await?;
            let applied = rows.iter().map(Applied::from_row).collect::<Result<Vec<_>, _>>()?;
            connection.hand_back();
            Ok::<_, sqlx::Error>(applied)
        };
        match tokio::time::timeout(timeout, ask).await {
            Ok(Ok(applied)) => match (readiness_of(&applied), self.line.starved()) {
                (Readiness::Ready, Some(why)) => Readiness::Away(why.to_owned()),
                (Readiness::Ready, None) => {
                    self.why_nothing_commits(timeout).await.map_or(Readiness::Ready, Readiness::Away)
                }
                (unready, _) => unready,
            },
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("42P01") => readiness_of(&[]),
            Ok(Err(error)) => Readiness::Away(advice::explained(&error)),
            // The pool only says that it waited in vain; a try of our own says why.
            Err(_) => match tokio::time::timeout(timeout, self.look_at_server()).await {
                Ok(Err(error)) => Readiness::Away(error.to_string()),
                Ok(Ok(())) => Readiness::Away("the database answers too slowly".to_owned()),
                Err(_) => Readiness::Away("the database does not answer".to_owned()),
            },
        }
    }
}

impl Store {
    /// Whether this is a server and a database that the service can work on at all.
    pub async fn look_at_server(&self) -> Result<(), MigrateError> {
        check_server(&mut self.connect().await?).await
    }
}

/// A migration that ran on the database, by refinery's own account.
#[derive(Debug, sqlx::FromRow)]
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

fn readiness_of(applied: &[Applied]) -> Readiness {
    let migrations = embedded::migrations::runner();
    for known in migrations.get_migrations() {
        let ran = applied.iter().find(|ran| ran.version == known.version());
        if let Some(ran) = ran.filter(|ran| ran.checksum != known.checksum().to_string()) {
            let ran = format!("V{}__{}", ran.version, ran.name);
            return Readiness::Away(MigrateError::NotOfARelease { ran, known: known.to_string() }.to_string());
        }
    }
    let needed = migrations.get_migrations().iter().map(Migration::version).max().unwrap_or(0);
    let found = applied.iter().map(|ran| ran.version).max().unwrap_or(0);
    if found >= needed { Readiness::Ready } else { Readiness::Unmigrated { found, needed } }
}

async fn check_server(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let server = sqlx::raw_sql(
        "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,
            current_setting('server_encoding') AS encoding",
    )
    .fetch_one(connection)
    .await?;
    if server.try_get::<i32, _>("number")? < OLDEST_SERVER {
        return Err(MigrateError::ServerTooOld(server.try_get("version")?));
    }
    let encoding: String = server.try_get("encoding")?;
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding(encoding));
    }
    Ok(())
}

/// Refinery has no driver for sqlx; with this one the service has one client, one URL dialect and
/// one TLS stack.
struct Migrator {
    connection: PgConnection,
    /// For a look at what it waits for.
    onlooker: Store,
    said_at: Option<Instant>,
}

/// Who holds a lock that a migration waits for.
#[derive(Debug, sqlx::FromRow)]
struct InTheWay {
    pid: i32,
    application: String,
    account: Option<String>,
    /// How long its transaction has stood, as far as it may be known.
    age_s: Option<i64>,
}

impl Migrator {
    /// Runs statements in one transaction that waits for no lock for long.
    async fn attempt(&mut self, queries: &[&str], in_the_way: &Mutex<Vec<InTheWay>>) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        let timeout_ms = LOCK_TIMEOUT.as_millis();
        let begin = format!("SET LOCAL lock_timeout = '{timeout_ms}ms'; SELECT pg_backend_pid() AS pid");
        let pid: i32 = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_one(&mut *transaction).await?.try_get("pid")?;
        let run = async {
            for query in queries {
                // The text of our own migrations, and refinery's statements around them.
                sqlx::raw_sql(AssertSqlSafe((*query).to_owned())).execute(&mut *transaction).await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        let look = async {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                // What cannot be seen is not said.
                if let Ok(found) = find_in_the_way(&self.onlooker, pid).await
                    && !found.is_empty()
                {
                    *in_the_way.lock().unwrap_or_else(PoisonError::into_inner) = found;
                }
            }
        };
        tokio::select! {
            ran = run => ran?,
            () = look => {}
        }
        transaction.commit().await
    }

    fn say(&mut self, in_the_way: Vec<InTheWay>) {
        if self.said_at.is_some_and(|at| at.elapsed() < SAY_INTERVAL) {
            return;
        }
        self.said_at = Some(Instant::now());
        if in_the_way.is_empty() {
            tracing::warn!("a migration waits for a lock that somebody holds, and is tried again");
        }
        for InTheWay { pid, application, account, age_s } in in_the_way {
            let account = account.unwrap_or_default();
            tracing::warn!(
                pid,
                application,
                account,
                age_s,
                "a migration waits for this transaction to end, and is tried again: SELECT pg_terminate_backend({pid}) ends it"
            );
        }
    }
}

async fn find_in_the_way(store: &Store, pid: i32) -> Result<Vec<InTheWay>, StoreError> {
    const FIND: &str = "
        SELECT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown') AS application,
            a.usename::text AS account, extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_s
        FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids($1))";
    store
        .read("find_in_the_way", |connection, _| {
            Box::pin(async move { Ok(sqlx::query_as(FIND).bind(pid).fetch_all(connection).await?) })
        })
        .await
}

/// Why a statement of the migrator failed.
#[derive(Debug, thiserror::Error)]
enum MigratorError {
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    #[error("refinery_schema_history holds a row that cannot be read: {0}")]
    History(String),
}

impl AsyncTransaction for Migrator {
    type Error = MigratorError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, MigratorError> {
        let queries: Vec<&str> = queries.collect();
        loop {
            let in_the_way = Mutex::default();
            match self.attempt(&queries, &in_the_way).await {
                Ok(()) => return Ok(queries.len()),
                Err(error) if fault::is_of_a_lock(&error) => {
                    self.say(in_the_way.into_inner().unwrap_or_else(PoisonError::into_inner));
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsyncQuery<Vec<Migration>> for Migrator {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, MigratorError> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row| {
                // As refinery's statement names them.
                let version: i32 = row.try_get("version")?;
                let name: String = row.try_get("name")?;
                let applied_on: String = row.try_get("applied_on")?;
                let checksum: String = row.try_get("checksum")?;
                let applied_on = OffsetDateTime::parse(&applied_on, &Rfc3339)
                    .map_err(|error| MigratorError::History(error.to_string()))?;
                let checksum =
                    checksum.parse().map_err(|_| MigratorError::History(format!("checksum '{checksum}'")))?;
                Ok(Migration::applied(version, name, applied_on, checksum))
            })
            .collect()
    }
}

impl AsyncMigrate for Migrator {}
