//! The database: the only place for SQL, isolation, retries, locks and the clock.
//!
//! One way in for whatever decides or changes: [`Store::serializable`], a named transaction that may run several
//! times before it commits once. One way in for reads: [`Store::read`], outside serializable isolation, so that
//! a read is not tracked and conflicts with nothing. A work closure must not log, count or answer: it may be
//! run again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Row as _, SqlSafeStr};
use tracing::Instrument as _;

use crate::metrics::{self, PoolUse};
use crate::seeded_bugs::{SeededBug, active, takes_for_done};
use crate::telemetry;
use connection::Connection;
use fault::Fault;
use liveness::Life;
use password::PasswordFile;

mod advice;
pub mod api_keys;
pub mod audit;
mod clock_watch;
mod columns;
pub mod connection;
pub mod events;
mod fault;
pub mod groups;
pub mod lifetimes;
pub mod liveness;
pub mod migrate;
pub mod password;
pub mod reader;
pub mod reads;
pub mod state;
pub mod status;
pub mod turns;

/// How long a statement waits for a row that somebody else holds before the transaction is run again. Whoever holds it
/// may be a person at a prompt, and heartbeats of other groups may share the transaction.
const LOCK_TIMEOUT: &str = "50ms";

/// Connections for what the service does of its own accord: one for each thing that must not wait for another.
const OWN_CONNECTIONS: u32 = 4;

/// Why the database could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached in time. Nothing was changed, or the change is whole.
    #[error("the database cannot be reached in time: {0}")]
    Unavailable(String),
    /// Others changed the same rows for as long as there was time to try.
    #[error("the transaction {transaction} met others on the same rows {attempts} times")]
    Contended {
        /// Its name.
        transaction: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// Whether it waited in vain each time, for a row that somebody held, and met no change of others.
        held: bool,
    },
    /// What is stored breaks a rule that it was stored under.
    #[error("the database holds what must not be: {0}")]
    Inconsistent(String),
    /// A statement failed in a way that no retry mends.
    #[error("the transaction {transaction} failed: {cause}")]
    Failed {
        /// Its name.
        transaction: &'static str,
        /// What the database said.
        cause: Arc<sqlx::Error>,
    },
}

/// How the database is used. The durations bound every call.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The most connections that requests share.
    pub pool_size: u32,
    /// How long one operation may take with all its retries.
    pub operation_timeout: Duration,
    /// How long a transaction may stand idle before the server ends it: a paused replica must not hold up the others.
    pub idle_in_transaction_timeout: Duration,
    /// The longest time without a sign of life that is not an outage.
    pub outage_gap: Duration,
    /// What stands between the service and the server.
    pub pooler: Pooler,
    /// Where the account's password is, if it is not in the URL.
    pub password_file: Option<PasswordFile>,
}

/// What stands between the service and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: a connection is a server's session. Statements are prepared.
    None,
    /// A pooler that gives a server connection per transaction (PgBouncer's transaction mode): nothing of a
    /// session outlives a transaction, so statements are not kept prepared and settings are given with each BEGIN.
    Transaction,
}

/// What happens when the connection breaks during COMMIT, so that nobody knows whether it took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCommit {
    /// The work is done again: doing it twice is as doing it once.
    Repeat,
    /// The caller is told: doing it twice would answer something else.
    Report,
}

/// The work of one transaction.
pub type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, WorkError>> + Send + 'c>>;

/// Why the work of a transaction stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    /// The last sign of life is longer ago than the gap: an outage may have to be recorded before anything is
    /// decided.
    #[error("no sign of life of the service for too long")]
    ServiceWasAway,
    /// What was read breaks a rule.
    #[error("{0}")]
    Inconsistent(String),
}

/// A pool of connections, and the rules for using it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    /// Signs of life, the sweep, leases that end, and readiness: work that must not wait behind requests.
    own_pool: PgPool,
    /// The one connection that hears of events.
    listening_pool: PgPool,
    connect: PgConnectOptions,
    begin_serializable: Arc<str>,
    /// Where a read has to be a transaction.
    begin_read: Option<Arc<str>>,
    commit_and_begin: Arc<str>,
    asking_for_readiness: Arc<tokio::sync::Mutex<()>>,
    life: Arc<Life>,
    options: Arc<StoreOptions>,
}

impl Store {
    /// A store over that server. Connects on first use: the database need not be there yet.
    pub fn open(connect: PgConnectOptions, options: StoreOptions) -> Store {
        let statement_ms = options.operation_timeout.as_millis();
        let idle_ms = options.idle_in_transaction_timeout.as_millis();
        let (begin, connect) = match () {
            () if active(SeededBug::ReadCommitted) => ("BEGIN ISOLATION LEVEL READ COMMITTED", connect),
            () if active(SeededBug::CommitNotDurable) => {
                ("BEGIN ISOLATION LEVEL SERIALIZABLE", connect.options([("synchronous_commit", "off")]))
            }
            () => ("BEGIN ISOLATION LEVEL SERIALIZABLE", connect),
        };
        let settings = [
            ("statement_timeout", format!("{statement_ms}ms")),
            ("lock_timeout", LOCK_TIMEOUT.to_owned()),
            ("idle_in_transaction_session_timeout", format!("{idle_ms}ms")),
            // A scan of a whole table would be tracked as a read of all of it and conflict with every write.
            ("enable_seqscan", "off".to_owned()),
            // Every statement of a decision walks along primary keys, a row or a few at a time: a bitmap costs
            // more than the walk it would save.
            ("enable_bitmapscan", "off".to_owned()),
            ("jit", "off".to_owned()),
        ];
        let (connect, begin, begin_read) = match options.pooler {
            Pooler::None => (connect.options(settings), begin.to_owned(), None),
            Pooler::Transaction => {
                let set: String =
                    settings.iter().map(|(name, value)| format!("; SET LOCAL {name} = '{value}'")).collect();
                // PgBouncer refuses what it does not know of a connection's start, unless it is told to let it pass. Numbers come
                // in binary, which has all their digits anyway.
                let connect = connect.statement_cache_capacity(0).extra_float_digits(None);
                // A statement is parsed in one message and run in the next: outside a transaction another server connection
                // could get the second. And behind a pooler the server may become another one under a connection that stays.
                let begin_read = format!("BEGIN ISOLATION LEVEL READ COMMITTED{set}; {IS_STANDBY}");
                (connect, format!("{begin}{set}"), Some(begin_read.into()))
            }
        };
        let connect = connect.application_name("client-failover");
        Store {
            pool: pool(options.pool_size, &connect, &options),
            own_pool: pool(OWN_CONNECTIONS, &connect, &options),
            listening_pool: pool(1, &connect, &options),
            connect,
            commit_and_begin: format!("COMMIT; {begin}").into(),
            begin_serializable: begin.into(),
            begin_read,
            asking_for_readiness: Arc::default(),
            life: Arc::default(),
            options: Arc::new(options),
        }
    }

    /// The same store for work that must not wait behind requests: it has connections of its own.
    pub fn background(&self) -> Store {
        Store { pool: self.own_pool.clone(), ..self.clone() }
    }

    /// The same store for reads of one statement that goes in one message.
    fn without_transactions_around_reads(&self) -> Store {
        Store { begin_read: None, ..self.clone() }
    }

    /// The same store with so many connections of its own, which belong to the runtime that this is called in: whoever waits
    /// for the database is then woken by the thread that hears from it.
    ///
    /// They are for statements that find all their rows by key, whose plan is the same whatever the values: PostgreSQL would
    /// otherwise plan each anew where it takes few rows, which costs more than to run it.
    pub fn with_own_connections(&self, connections: u32) -> Store {
        let connect = match self.options.pooler {
            Pooler::None => self.connect.clone().options([("plan_cache_mode", "force_generic_plan")]),
            Pooler::Transaction => self.connect.clone(),
        };
        Store { pool: pool(connections, &connect, &self.options), ..self.clone() }
    }

    /// How the store was opened.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// What is known of the life of the database.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// The connections that requests share.
    pub fn pool_use(&self) -> PoolUse {
        pool_use(&self.pool)
    }

    /// The connections of [`Store::background`].
    pub fn background_pool_use(&self) -> PoolUse {
        pool_use(&self.own_pool)
    }

    /// The one connection that hears of events.
    pub fn listening_pool_use(&self) -> PoolUse {
        pool_use(&self.listening_pool)
    }

    /// Closes all connections once they are free.
    pub async fn close(&self) {
        self.pool.close().await;
        self.own_pool.close().await;
        self.listening_pool.close().await;
    }

    /// Runs `work` in one SERIALIZABLE transaction and commits it.
    ///
    /// A conflict, which may come from any statement and from COMMIT itself, runs it again from the start with a
    /// new snapshot and a new reading of the clock, after a short random wait; so does a broken connection, on
    /// another one. What was never committed was never decided. Ends within the operation timeout.
    pub async fn serializable<T>(
        &self,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.options.operation_timeout;
        self.serializable_on(&mut Kept::nothing(), deadline, u32::MAX, name, lost_commit, work).await
    }

    /// As [`Store::serializable`], until a deadline and for so many conflicts at most, on a connection that the caller keeps from
    /// one transaction to the next.
    pub async fn serializable_on<T>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let attempts = self.attempts(kept, deadline, max_conflicts, name, lost_commit, work);
        attempts.instrument(telemetry::transaction_span(name)).await
    }

    async fn attempts<T>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        mut work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let mut conflicts = 0;
        let mut met_others = false;
        let mut lost = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt(kept, left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                Fault::ServiceWasAway => match tokio::time::timeout(left, self.note_alive()).await {
                    Ok(noted) => drop(noted?),
                    Err(_) => return Err(StoreError::Unavailable(fault::AWAY.to_owned())),
                },
                fault @ (Fault::Conflict | Fault::Held) => {
                    metrics::transaction_retried(name);
                    conflicts += 1;
                    let met = matches!(fault, Fault::Conflict);
                    kept.conflicts += u32::from(met);
                    met_others |= met;
                    if conflicts >= max_conflicts || left.is_zero() {
                        let (attempts, held) = (conflicts, !met_others);
                        return Err(StoreError::Contended { transaction: name, attempts, held });
                    }
                    pause(conflicts, deadline).await;
                }
                Fault::LostInCommit(cause) if lost_commit == LostCommit::Report => {
                    return Err(StoreError::Unavailable(format!(
                        "the connection broke during COMMIT ({cause}); the change is whole or was not made"
                    )));
                }
                Fault::Lost(cause) | Fault::LostInCommit(cause) => {
                    lost += 1;
                    if left.is_zero() {
                        return Err(StoreError::Unavailable(cause));
                    }
                    pause(lost, deadline).await;
                }
                Fault::Inconsistent(what) => return Err(StoreError::Inconsistent(what)),
                Fault::Failed(cause) => return Err(StoreError::Failed { transaction: name, cause: cause.into() }),
            }
        }
    }

    /// One attempt of a serializable transaction. A connection that is not known to be good is closed, never
    /// handed back.
    async fn attempt<T>(
        &self,
        kept: &mut Kept,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, Fault> {
        let (mut connection, has_begun) = match kept.take() {
            Keeping::Nothing => (self.connection(time_left).await?, false),
            Keeping::Idle(connection) => (connection, false),
            Keeping::Begun(connection) | Keeping::InTurn(connection) => (connection, true),
        };
        let begin = AssertSqlSafe(self.begin_serializable.clone());
        // A pooler would have to hold a connection of the server for a transaction that is begun and not used.
        let begins_next = kept.keeps && self.options.pooler == Pooler::None;
        let commit = AssertSqlSafe(if begins_next { self.commit_and_begin.clone() } else { Arc::from("COMMIT") });
        // Whether COMMIT was sent: after that, a broken connection leaves the outcome unknown.
        let mut committing = false;
        let run = async {
            if !has_begun {
                sqlx::raw_sql(begin).execute(&mut *connection).await?;
            }
            let done = work(&mut connection).await?;
            committing = true;
            if active(SeededBug::AnsweredBeforeCommit) {
                return Ok(done);
            }
            match sqlx::raw_sql(commit).execute(&mut *connection).await {
                Err(error) if !takes_for_done(&error) => Err(WorkError::from(error)),
                _ => Ok(done),
            }
        };
        let outcome = tokio::time::timeout(time_left, run).await;
        let fault = match outcome {
            Ok(Ok(done)) => {
                match (active(SeededBug::AnsweredBeforeCommit), kept.keeps) {
                    (true, _) => drop(tokio::spawn(commit_later(connection))),
                    (false, true) if begins_next => kept.keeping = Keeping::Begun(connection),
                    (false, true) => kept.keeping = Keeping::Idle(connection),
                    (false, false) => connection.hand_back(),
                }
                return Ok(done);
            }
            Ok(Err(error)) => Fault::of(error, committing),
            Err(_) if committing => Fault::LostInCommit("no answer to COMMIT in time".to_owned()),
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if !matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_))
            && let Some(connection) = roll_back(connection).await
        {
            match kept.keeps {
                true => kept.keeping = Keeping::Idle(connection),
                false => connection.hand_back(),
            }
        }
        Err(fault)
    }

    /// Begins the next transaction on a kept connection and waits for its turn among those of all replicas. False where it
    /// was waited for in vain, or cannot be waited for: the transaction goes on without, or says what is wrong.
    pub async fn begin_in_turn(&self, kept: &mut Kept) -> bool {
        let patience = self.options.operation_timeout;
        let (mut connection, has_begun) = match kept.take() {
            Keeping::Nothing => match self.connection(patience).await {
                Ok(connection) => (connection, false),
                Err(_) => return false,
            },
            Keeping::Idle(connection) => (connection, false),
            Keeping::Begun(connection) => (connection, true),
            in_turn @ Keeping::InTurn(_) => {
                kept.keeping = in_turn;
                return true;
            }
        };
        let begin = AssertSqlSafe(self.begin_serializable.clone());
        let wait = async {
            if !has_begun {
                sqlx::raw_sql(begin).execute(&mut *connection).await?;
            }
            turns::take(&mut connection, patience / 4).await
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(Ok(())) => {
                kept.keeping = Keeping::InTurn(connection);
                true
            }
            Ok(Err(_)) => {
                kept.keeping = Keeping::after(roll_back(connection).await);
                false
            }
            // Whatever it waits for, nobody reads the answer any more.
            Err(_) => false,
        }
    }

    /// Runs a read outside serializable isolation, on another connection if one proves broken.
    pub async fn read<T>(
        &self,
        name: &'static str,
        mut work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.options.operation_timeout;
        let mut lost = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt_read(left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                // Boxed because noting life is itself a read of this kind.
                Fault::ServiceWasAway => match tokio::time::timeout(left, Box::pin(self.note_alive())).await {
                    Ok(noted) => drop(noted?),
                    Err(_) => return Err(StoreError::Unavailable(fault::AWAY.to_owned())),
                },
                Fault::Conflict | Fault::Held | Fault::Lost(_) | Fault::LostInCommit(_) if !left.is_zero() => {
                    lost += 1;
                    pause(lost, deadline).await;
                }
                fault @ (Fault::Conflict | Fault::Held) => {
                    let held = matches!(fault, Fault::Held);
                    return Err(StoreError::Contended { transaction: name, attempts: lost, held });
                }
                Fault::Lost(cause) | Fault::LostInCommit(cause) => {
                    return Err(StoreError::Unavailable(cause));
                }
                Fault::Inconsistent(what) => return Err(StoreError::Inconsistent(what)),
                Fault::Failed(cause) => return Err(StoreError::Failed { transaction: name, cause: cause.into() }),
            }
        }
    }

    async fn attempt_read<T>(
        &self,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
    ) -> Result<T, Fault> {
        let mut connection = self.connection(time_left).await?;
        let run = async {
            let Some(begin) = &self.begin_read else { return work(&mut connection).await };
            refuse_standby(&mut connection, AssertSqlSafe(begin.clone())).await?;
            let done = work(&mut connection).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
            Ok(done)
        };
        let fault = match tokio::time::timeout(time_left, run).await {
            Ok(Ok(done)) => {
                connection.hand_back();
                return Ok(done);
            }
            Ok(Err(error)) => Fault::of(error, false),
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if !matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_)) {
            match &self.begin_read {
                None => connection.hand_back(),
                Some(_) => {
                    if let Some(connection) = roll_back(connection).await {
                        connection.hand_back();
                    }
                }
            }
        }
        Err(fault)
    }

    async fn connection(&self, time_left: Duration) -> Result<Connection, Fault> {
        self.look_at_password(&self.pool).map_err(|error| Fault::of(error.into(), false))?;
        match tokio::time::timeout(time_left, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection, self.options.pooler, self.life.clone())),
            Ok(Err(error)) => Err(Fault::of(error.into(), false)),
            Err(_) => Err(Fault::Lost("no connection in time".to_owned())),
        }
    }

    /// A connection of its own, outside the pools: for what needs a session, and for telling why one cannot be had.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options_now()?).await
    }

    /// How a new connection is made now.
    fn options_now(&self) -> Result<PgConnectOptions, sqlx::Error> {
        match &self.options.password_file {
            None => Ok(self.connect.clone()),
            Some(file) => Ok(file.apply(self.connect.clone())?),
        }
    }

    /// Reads the password again where the pool is about to need it: it has no connection left that nobody uses.
    fn look_at_password(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        if let Some(file) = &self.options.password_file
            && pool.num_idle() == 0
        {
            pool.set_connect_options(file.apply((*pool.connect_options()).clone())?);
        }
        Ok(())
    }
}

fn pool(size: u32, connect: &PgConnectOptions, options: &StoreOptions) -> PgPool {
    let pooler = options.pooler;
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(options.operation_timeout)
        // A ping before each use would be one more round trip; a broken connection is noticed by use.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                refuse_standby(connection, IS_STANDBY).await?;
                match pooler {
                    Pooler::None => Ok(()),
                    Pooler::Transaction => columns::learn_types(connection).await,
                }
            })
        })
        .connect_lazy_with(connect.clone())
}

fn pool_use(pool: &PgPool) -> PoolUse {
    PoolUse { open: pool.size(), idle: pool.num_idle(), most: pool.options().get_max_connections() }
}

/// Asked in one message: a pooler need not send the second of two to the same server connection.
const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";

/// Nothing is decided or shown from a physical standby. One that is promoted is taken on the next try.
async fn refuse_standby(connection: &mut PgConnection, asking: impl SqlSafeStr) -> Result<(), sqlx::Error> {
    match sqlx::raw_sql(asking).fetch_one(connection).await?.try_get(0)? {
        true => Err(sqlx::Error::Protocol("the server is a physical standby".to_owned())),
        false => Ok(()),
    }
}

/// What [`SeededBug::AnsweredBeforeCommit`] does about COMMIT.
async fn commit_later(mut connection: Connection) {
    if sqlx::raw_sql("COMMIT").execute(&mut *connection).await.is_ok() {
        connection.hand_back();
    }
}

/// Ends a transaction; a connection on which even that fails is closed.
async fn roll_back(mut connection: Connection) -> Option<Connection> {
    let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
    let ended = tokio::time::timeout(Duration::from_secs(1), rollback).await;
    matches!(ended, Ok(Ok(_))).then_some(connection)
}

/// A connection that is kept for the next transaction, which may have been begun on it already.
///
/// COMMIT and the BEGIN of the next transaction go in one message, which saves each transaction a round trip. What is
/// begun so has no snapshot, no lock and no number yet: it takes its snapshot, as any other, with its first statement.
pub struct Kept {
    keeps: bool,
    keeping: Keeping,
    conflicts: u32,
}

/// What is kept.
enum Keeping {
    /// No connection.
    Nothing,
    /// One on which nothing has been begun.
    Idle(Connection),
    /// One with a transaction that nothing has been done in.
    Begun(Connection),
    /// The same, and it is that transaction's turn.
    InTurn(Connection),
}

impl Kept {
    /// A place for a connection, taken from the pool when it is first needed.
    pub fn empty() -> Kept {
        Kept { keeps: true, keeping: Keeping::Nothing, conflicts: 0 }
    }

    /// For a caller that hands each connection back.
    pub fn nothing() -> Kept {
        Kept { keeps: false, keeping: Keeping::Nothing, conflicts: 0 }
    }

    /// How often its transactions met those of others since this was last asked, rows that were merely held not counted.
    pub fn take_conflicts(&mut self) -> u32 {
        std::mem::take(&mut self.conflicts)
    }

    /// Ends what was begun and not used, before the server takes the caller for dead.
    pub async fn rest(&mut self) {
        self.keeping = match self.take() {
            Keeping::Begun(connection) | Keeping::InTurn(connection) => Keeping::after(roll_back(connection).await),
            other => other,
        };
    }

    fn take(&mut self) -> Keeping {
        std::mem::replace(&mut self.keeping, Keeping::Nothing)
    }
}

impl Keeping {
    fn after(rolled_back: Option<Connection>) -> Keeping {
        rolled_back.map_or(Keeping::Nothing, Keeping::Idle)
    }
}

/// Waits a random time that grows with the number of failures, so that two that met do not meet again.
async fn pause(failures: u32, deadline: Instant) {
    let longest_us = 1_000_u64 << failures.min(6);
    let wait = Duration::from_micros(fastrand::u64(0..longest_us));
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait.min(left)).await;
}
