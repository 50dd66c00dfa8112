//! Migrations: refinery over an sqlx connection, under a lock, so that any number of replicas may start at once.

use std::time::Duration;

use refinery_core::error::Kind;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration, Report};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::connection::Connection;
use super::{Pooler, Store, advice, fault};
use crate::telemetry;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The oldest server that the statements work on.
const OLDEST_SERVER: i32 = 140_000;

/// Why the database is not fit for use (yet).
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It cannot be reached, or refuses us. Worth waiting for.
    #[error("the database cannot be used: {}", advice::explained(.0))]
    Unreachable(#[from] sqlx::Error),
    /// Too old a server. Waiting does not help.
    #[error("PostgreSQL {0} is too old: 14 or later is needed")]
    ServerTooOld(String),
    /// Names of any script are stored, and the encoding has no place for them. Waiting does not help.
    #[error(
        "the database's encoding is {0}, which cannot hold every name: UTF8 is needed. Move it: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, then pg_dump and pg_restore into it"
    )]
    Encoding(String),
    /// A standby. It may be promoted.
    #[error("the server is a physical standby: decisions are made on the primary server alone")]
    Standby,
    /// The line or the server went away meanwhile, or others were in the way. What is done is done, and the rest is worth
    /// another try.
    #[error("the migration was interrupted: {0}")]
    Interrupted(String),
    /// A migration failed, or one that ran is not the one in this binary.
    #[error("the migration failed: {0}")]
    Failed(String),
}

impl MigrateError {
    fn of(error: refinery_core::Error) -> MigrateError {
        let what = telemetry::error_chain(&error);
        let Kind::Connection(_, cause) = error.kind() else { return MigrateError::Failed(what) };
        match cause.downcast_ref() {
            Some(MigratorError::Statement(cause)) if fault::may_migrate_later(cause) => MigrateError::Interrupted(what),
            _ => MigrateError::Failed(what),
        }
    }

    /// Whether waiting may mend it.
    pub fn may_pass(&self) -> bool {
        match self {
            MigrateError::Unreachable(_) | MigrateError::Standby | MigrateError::Interrupted(_) => true,
            MigrateError::ServerTooOld(_) | MigrateError::Encoding(_) | MigrateError::Failed(_) => false,
        }
    }
}

/// Whether requests can be served.
#[derive(Debug, PartialEq, Eq)]
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
    /// Brings the tables up to this binary's version; returns how many migrations ran. A newer schema than this
    /// binary knows is left as it is.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        let mut connection = self.connect().await?;
        check_server(&mut connection).await?;
        let _lock = self.lock_migrations(&mut connection).await?;
        let mut migrator = Migrator(connection);
        let report: Report = embedded::migrations::runner()
            .set_abort_missing(false)
            .run_async(&mut migrator)
            .await
            .map_err(MigrateError::of)?;
        migrator.0.close().await?;
        Ok(report.applied_migrations().len())
    }

    /// Waits until nobody else migrates. The lock ends with the connection, or with the one that is returned, whatever happens.
    pub(super) async fn lock_migrations(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<PgConnection>, sqlx::Error> {
        match self.options.pooler {
            // A lock of the session, not of a transaction: each migration commits by itself. Migrating may take longer than a
            // request may.
            Pooler::None => {
                let lock =
                    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
                    SELECT pg_advisory_lock(hashtextextended('client-failover migrations', 0))";
                sqlx::raw_sql(lock).execute(connection).await?;
                Ok(None)
            }
            // What is of a session would stay with a connection of the pooler's, and the next to wait for the lock would
            // wait for ever: here a transaction beside the migrations holds it.
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

    /// Whether requests can be served, asked of the database within `patience`.
    pub async fn readiness(&self, patience: Duration) -> Readiness {
        let ask = async {
            // One at a time: however many ask, the signs of life and the sweep keep their connections.
            let _turn = self.asking_for_readiness.lock().await;
            self.look_at_password(&self.own_pool)?;
            let mut connection =
                Connection::new(self.own_pool.acquire().await?, self.options.pooler, self.life.clone());
            // One message each time, also here: see `refuse_standby`.
            let found = sqlx::raw_sql("SELECT max(version) FROM refinery_schema_history");
            let found: Option<i32> = found.fetch_one(&mut *connection).await?.try_get(0)?;
            connection.hand_back();
            Ok::<_, sqlx::Error>(found.unwrap_or(0))
        };
        match tokio::time::timeout(patience, ask).await {
            Ok(Ok(found)) => match (readiness_of(found), self.why_nothing_commits(patience).await) {
                (Readiness::Ready, Some(reason)) => Readiness::Away(reason),
                (readiness, _) => readiness,
            },
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("42P01") => readiness_of(0),
            Ok(Err(error)) => Readiness::Away(advice::explained(&error)),
            // The pool only says that it waited in vain; a try of our own says why.
            Err(_) => match tokio::time::timeout(patience, self.look_at_server()).await {
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

fn readiness_of(found: i32) -> Readiness {
    let versions = embedded::migrations::runner();
    let needed = versions.get_migrations().iter().map(Migration::version).max().unwrap_or(0);
    match found >= needed {
        true => Readiness::Ready,
        false => Readiness::Unmigrated { found, needed },
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let server = sqlx::raw_sql(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
            current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await?;
    if server.try_get::<i32, _>(0)? < OLDEST_SERVER {
        return Err(MigrateError::ServerTooOld(server.try_get(1)?));
    }
    let encoding: String = server.try_get(3)?;
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding(encoding));
    }
    if server.try_get(2)? {
        return Err(MigrateError::Standby);
    }
    Ok(())
}

/// Refinery has no driver for sqlx; with this one the service has one client, one URL dialect and one TLS stack.
struct Migrator(PgConnection);

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
        let mut transaction = self.0.begin().await?;
        let mut count = 0;
        for query in queries {
            // The text of our own migrations, and refinery's statements around them.
            sqlx::raw_sql(AssertSqlSafe(query.to_owned())).execute(&mut *transaction).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Migrator {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, MigratorError> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.0).await?;
        rows.iter()
            .map(|row| {
                let version: i32 = row.try_get(0)?;
                let name: String = row.try_get(1)?;
                let applied_on: String = row.try_get(2)?;
                let checksum: String = row.try_get(3)?;
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
