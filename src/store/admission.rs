//! What a connection is opened with, and what it must show before it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};

use super::columns;
use super::error::{IS_OF_ANOTHER_HISTORY, IS_READ_ONLY, IS_STANDBY};
use super::histories::{Destination, Of};
use super::hosts::Target;
use super::life::Life;
use super::options::Pooler;
use super::password::PasswordFile;

/// What a server is and how it commits. It takes no writes where transactions are read-only unless
/// they say otherwise; the one that a look belongs to may be of a read, and say so itself.
const LOOK: &str =
    "SELECT pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS is_read_only,
    current_setting('synchronous_commit') AS synchronous_commit";

/// The latest history that it knows of. There is no such table before the database is migrated.
const LOOK_AT_HISTORY: &str = "(SELECT history::text FROM service_histories ORDER BY history_id DESC LIMIT 1)";

/// Where the connection leads.
const LOOK_AT_PLACE: &str = "(SELECT system_identifier::text FROM pg_control_system()) AS server,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database";

const NO_PLACE: &str = "NULL AS server, NULL AS database";

/// Whether groups are spread over several servers: there is a function then that tells a group's
/// place.
const LOOK_AT_SPREAD: &str = "to_regproc('place_of_group') IS NOT NULL AS is_spread";

/// What every connection sets where groups are spread. A transaction has one connection to each
/// node, so that what it does there is one transaction; what is set in it, the nodes are told. A
/// plan for keys that are not known yet would be one for no place.
const SETTINGS_WHERE_SPREAD: &str = "
    SET citus.multi_shard_modify_mode = 'sequential';
    SET citus.max_adaptive_executor_pool_size = 1;
    SET citus.propagate_set_commands = 'local';
    SET plan_cache_mode = 'force_custom_plan'";

/// How every connection of a store begins.
pub struct Admission {
    settings: Vec<(&'static str, String)>,
    pooler: Pooler,
    target: Target,
    /// Where the password is, for URLs without one.
    password_file: Option<PasswordFile>,
    life: Arc<Life>,
    /// Whether the server waits until a standby shows what is committed. Behind a pooler each
    /// transaction says how it commits, and must not say less.
    applies_remotely: AtomicBool,
    said_that_commits_are_weak: AtomicBool,
    is_spread: AtomicBool,
}

impl Admission {
    /// Connections with these settings, to a server that is what is wanted.
    pub fn new(
        settings: Vec<(&'static str, String)>,
        pooler: Pooler,
        target: Target,
        password_file: Option<PasswordFile>,
        life: Arc<Life>,
    ) -> Admission {
        Admission {
            settings,
            pooler,
            target,
            password_file,
            life,
            applies_remotely: AtomicBool::new(false),
            said_that_commits_are_weak: AtomicBool::new(false),
            is_spread: AtomicBool::new(false),
        }
    }

    /// Adds what every connection is opened with. A password from a file is the one that the file
    /// has now.
    pub fn shape(&self, options: PgConnectOptions) -> Result<PgConnectOptions, sqlx::Error> {
        let options = match &self.password_file {
            None => options,
            Some(file) => file.apply(options)?,
        };
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("client-failover"),
        };
        Ok(match self.pooler {
            Pooler::None => options.options(self.settings.iter().map(|(name, value)| (*name, value.as_str()))),
            // PgBouncer refuses what it does not know of a connection's start, unless it is told to
            // let it pass. Numbers come in binary, which has all their digits anyway.
            Pooler::Transaction => options.statement_cache_capacity(0).extra_float_digits(None),
        })
    }

    /// Looks at a new connection, and sees to it that what is committed on it is durable. Says
    /// where it leads, where it cannot lead elsewhere later.
    pub async fn admit_new(&self, connection: &mut PgConnection, of: Of) -> Result<Option<Destination>, sqlx::Error> {
        let place = match self.pooler {
            Pooler::None => LOOK_AT_PLACE,
            Pooler::Transaction => NO_PLACE,
        };
        let seen = self.look(connection, "", place, of).await?;
        self.commit_durably(connection, seen.try_get("synchronous_commit")?).await?;
        match (self.pooler, self.is_spread()) {
            (Pooler::None, is_spread) => {
                if is_spread {
                    sqlx::raw_sql(SETTINGS_WHERE_SPREAD).execute(connection).await?;
                }
                Ok(Some(Destination { server: seen.try_get("server")?, database: seen.try_get("database")? }))
            }
            (Pooler::Transaction, false) => {
                columns::learn_types(connection).await?;
                Ok(None)
            }
            (Pooler::Transaction, true) => Err(sqlx::Error::Protocol(
                "groups are spread over several servers, and their coordinator is not used through a pooler".to_owned(),
            )),
        }
    }

    /// Looks at a connection that was idle, or after a fault: an error says that it is not to be
    /// used.
    pub async fn admit(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.look(connection, "", NO_PLACE, Of::KnownHistory).await.map(drop)
    }

    /// The same for one on which a transaction is begun by these statements.
    pub async fn admit_beginning(&self, connection: &mut PgConnection, begin: &str) -> Result<(), sqlx::Error> {
        self.look(connection, begin, NO_PLACE, Of::KnownHistory).await.map(drop)
    }

    /// Asks what the server is. Nothing is decided or shown from a physical standby, one that is
    /// promoted is taken on the next try; and nothing from a database in another history than the
    /// one that this replica works in, which only a sign of life moves.
    ///
    /// Asked in one message: a pooler need not send the second of two to the same server
    /// connection. Behind a pooler the server may become another one under a connection that stays.
    async fn look(
        &self,
        connection: &mut PgConnection,
        before: &str,
        place: &str,
        of: Of,
    ) -> Result<PgRow, sqlx::Error> {
        let known = self.life.history().filter(|_| of != Of::AnyHistory);
        let history = match (known, of) {
            (None, _) => "NULL".to_owned(),
            (Some(_), Of::KnownHistory) => LOOK_AT_HISTORY.to_owned(),
            (Some(known), _) => format!("(SELECT history::text FROM service_histories WHERE history = '{known}')"),
        };
        let asking = AssertSqlSafe(format!("{before}{LOOK}, {history} AS history, {place}, {LOOK_AT_SPREAD}"));
        let seen = sqlx::raw_sql(asking).fetch_one(connection).await?;
        let refused = match (seen.try_get("is_standby")?, seen.try_get("is_read_only")?, self.target) {
            (true, _, _) => Some(IS_STANDBY),
            (false, true, Target::ReadWrite) => Some(IS_READ_ONLY),
            (false, _, _) => None,
        };
        let refused = match known {
            Some(known) if refused.is_none() => {
                let found: Option<String> = seen.try_get("history")?;
                (found != Some(known.to_string())).then_some(IS_OF_ANOTHER_HISTORY)
            }
            _ => refused,
        };
        match refused {
            Some(why) => return Err(sqlx::Error::Protocol(why.to_owned())),
            None => self.is_spread.store(seen.try_get("is_spread")?, Ordering::Relaxed),
        }
        Ok(seen)
    }

    /// Whether groups are spread over several servers, as the last look has shown.
    pub fn is_spread(&self) -> bool {
        self.is_spread.load(Ordering::Relaxed)
    }

    /// The number of the history that this replica works in, among all that it has worked in.
    pub fn epoch(&self) -> u64 {
        self.life.epoch()
    }

    /// How a transaction commits whose settings are given with its BEGIN.
    pub fn synchronous_commit(&self) -> &'static str {
        if self.applies_remotely.load(Ordering::Relaxed) { "remote_apply" } else { "on" }
    }

    /// What is answered 200 must survive a loss of power, and the loss of a server where the other
    /// is waited for. A setting of the role or the database that promises less is overruled, and
    /// one that promises more is left.
    async fn commit_durably(&self, connection: &mut PgConnection, setting: &str) -> Result<(), sqlx::Error> {
        self.applies_remotely.store(setting == "remote_apply", Ordering::Relaxed);
        if matches!(setting, "on" | "remote_apply") {
            return Ok(());
        }
        if !self.said_that_commits_are_weak.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                synchronous_commit = setting,
                "the server, the database or the role commits without waiting: the service overrules it with 'on'"
            );
        }
        match self.pooler {
            Pooler::None => sqlx::raw_sql("SET synchronous_commit = on").execute(connection).await.map(drop),
            Pooler::Transaction => Ok(()),
        }
    }
}
