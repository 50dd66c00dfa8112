//! The database: the only place for SQL, isolation, retries, locks and the clock.
//!
//! One way in for whatever decides or changes: [`Store::serializable`], a named transaction that
//! may run several times before it commits once. One way in for reads: [`Store::read`], outside
//! serializable isolation, so that a read is not tracked and conflicts with nothing. A work closure
//! must not log, count or answer: it may be run again.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tracing::Instrument as _;

use crate::metrics::{self, Outcome, PoolUse};
use crate::telemetry;
use admission::Admission;
use connection::{Connection, ReadConnection};
use fault::Fault;
use histories::{DatabaseHistory, Of};
use hosts::Hosts;
use liveness::Life;
use password::PasswordFile;
use pool::{Line, Pool, PoolOptions, Rank};

mod admission;
mod advice;
pub mod api_keys;
pub mod audit;
mod clock_watch;
mod columns;
pub mod connection;
pub mod events;
mod fault;
pub mod groups;
pub mod histories;
pub mod hosts;
pub mod lifetimes;
pub mod liveness;
pub mod migrate;
mod notices;
pub mod password;
mod pool;
pub mod private;
pub mod reader;
pub mod reads;
mod rows;
pub mod spread;
pub mod state;
pub mod status;
pub mod turns;

/// How long a statement waits for a row that somebody else holds before the transaction is run
/// again. Whoever holds it may be a person at a prompt, and heartbeats of other groups may share
/// the transaction.
const LOCK_TIMEOUT: &str = "50ms";

/// What is said of what was done on a connection while the replica entered another history.
const LEFT_HISTORY: &str = "the database entered another history meanwhile";

/// What makes a commit wait for a synchronous standby: a record in the log of the server, and no
/// row.
const WRITE_SOMETHING: &str = "SELECT pg_logical_emit_message(true, 'client-failover', '')";

/// Connections for what the service does of its own accord: one for each thing that must not wait
/// for another.
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
        /// Whether it waited in vain each time, for a row that somebody held, and met no change of
        /// others.
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
    /// How long a transaction may stand idle before the server ends it: a paused replica must not
    /// hold up the others.
    pub idle_in_transaction_timeout: Duration,
    /// The longest time without a sign of life that is not an outage.
    pub outage_gap: Duration,
    /// What stands between the service and the server.
    pub pooler: Pooler,
    /// What a promotion is taken for.
    pub database_history: DatabaseHistory,
    /// Where the account's password is, if it is not in the URL.
    pub password_file: Option<PasswordFile>,
}

/// What stands between the service and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: a connection is a server's session. Statements are prepared.
    None,
    /// A pooler that gives a server connection per transaction (PgBouncer's transaction mode):
    /// nothing of a session outlives a transaction, so statements are not kept prepared and
    /// settings are given with each BEGIN.
    Transaction,
}

/// What happens when the connection breaks during COMMIT, so that nobody knows whether it took
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCommit {
    /// The work is done again: doing it twice is as doing it once.
    Repeat,
    /// The caller is told: doing it twice would answer something else.
    Report,
}

/// The work of one transaction. It may be done several times, and borrow what is there for longer.
pub type Work<'c, T, E = WorkError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

/// Says to the compiler that what work borrows (`'e`) outlives each time that it is done (`'c`), so
/// that nothing has to be cloned for it. It holds nothing.
#[derive(Clone, Copy)]
pub struct Scope<'c, 'e: 'c>(PhantomData<&'c &'e ()>);

/// Why the work of a transaction gives no result.
#[derive(Debug)]
pub enum Stop<R> {
    /// It cannot be done, or not on this snapshot.
    Failed(WorkError),
    /// It is not to be done. That, too, is a decision on what was read, and is committed like any
    /// other before anybody hears of it; nothing was written before it.
    Refused(R),
}

impl<R> From<WorkError> for Stop<R> {
    fn from(error: WorkError) -> Stop<R> {
        Stop::Failed(error)
    }
}

/// What is done outside of serializable transactions.
#[derive(Clone, Copy)]
enum Access {
    Reads,
    Writes,
}

/// Why the work of a transaction stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    /// The last sign of life is longer ago than the gap: an outage may have to be recorded before
    /// anything is decided.
    #[error("no sign of life of the service for too long")]
    ServiceWasAway,
    /// The database is in another history than the one that this replica works in, or lacks what it
    /// remembers of it: a sign of life has to say in which one before anything is decided.
    #[error("the database is in another history")]
    AnotherHistory,
    /// What was read breaks a rule.
    #[error("{0}")]
    Inconsistent(String),
}

/// A pool of connections, and the rules for using it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    line: Arc<Line>,
    pool: Pool,
    /// Signs of life, the sweep, leases that end, and readiness: work that must not wait behind
    /// requests.
    own_pool: Pool,
    texts: Arc<Texts>,
    places: Arc<spread::Places>,
    /// Whether a read has to be a transaction.
    reads_in_transactions: bool,
    asking_for_readiness: Arc<tokio::sync::Mutex<()>>,
    life: Arc<Life>,
    /// In which history the databases of its connections may be.
    of: Of,
    /// Over whose connections signs of life are given, if not over its own.
    signs_over: Option<Arc<Store>>,
    options: Arc<StoreOptions>,
}

impl Store {
    /// A store over that server. Connects on first use: the database need not be there yet. Must be
    /// called within a tokio runtime.
    pub fn open(hosts: impl Into<Hosts>, options: StoreOptions) -> Store {
        Store::open_with(hosts.into(), options, Arc::default(), None)
    }

    /// Another way to the same database, such as one past a pooler. What is known of its life is
    /// shared, and signs of life are given on the one way only: if the two led to different copies,
    /// they would call each other's histories lost.
    pub fn open_beside(&self, hosts: impl Into<Hosts>, options: StoreOptions) -> Store {
        Store::open_with(hosts.into(), options, self.life.clone(), Some(Arc::new(self.clone())))
    }

    fn open_with(hosts: Hosts, options: StoreOptions, life: Arc<Life>, signs_over: Option<Arc<Store>>) -> Store {
        let statement_ms = options.operation_timeout.as_millis();
        let idle_ms = options.idle_in_transaction_timeout.as_millis();
        let settings = vec![
            ("statement_timeout", format!("{statement_ms}ms")),
            ("lock_timeout", LOCK_TIMEOUT.to_owned()),
            ("idle_in_transaction_session_timeout", format!("{idle_ms}ms")),
            // A scan of a whole table would be tracked as a read of all of it and conflict with
            // every write.
            ("enable_seqscan", "off".to_owned()),
            // Every statement of a decision walks along primary keys, a row or a few at a time: a
            // bitmap costs more than the walk it would save.
            ("enable_bitmapscan", "off".to_owned()),
            ("jit", "off".to_owned()),
        ];
        let texts = Texts::new(&settings, options.pooler);
        let admission =
            Admission::new(settings, options.pooler, hosts.target(), options.password_file.clone(), life.clone());
        let patience = options.operation_timeout / 4;
        let line = Line::new(hosts, admission, patience);
        let pool = Pool::new(&line, PoolOptions { rank: Rank::Requests, most: options.pool_size, kept: 1 }, None);
        let own = PoolOptions { rank: Rank::Upkeep, most: OWN_CONNECTIONS, kept: 1 };
        Store {
            own_pool: Pool::new(&line, own, None),
            pool,
            line,
            texts: Arc::new(texts),
            places: Arc::default(),
            reads_in_transactions: options.pooler == Pooler::Transaction,
            asking_for_readiness: Arc::default(),
            life,
            of: Of::KnownHistory,
            signs_over,
            options: Arc::new(options),
        }
    }

    /// The same database for work that is less urgent than the upkeep: it has connections of its
    /// own, while there are enough.
    pub fn beside(&self) -> Store {
        let own = PoolOptions { rank: Rank::Background, most: OWN_CONNECTIONS, kept: 0 };
        Store { own_pool: Pool::new(&self.line, own, Some(&self.pool)), ..self.clone() }
    }

    /// The same store for work that must not wait behind requests: it has connections of its own.
    pub fn background(&self) -> Store {
        Store { pool: self.own_pool.clone(), ..self.clone() }
    }

    /// The same store for signs of life: reads of one statement that goes in one message, whatever
    /// history the database is in.
    fn for_signs_of_life(&self) -> Store {
        Store { reads_in_transactions: false, of: Of::AnyHistory, ..self.clone() }
    }

    /// The same store with so many connections of its own, which belong to the runtime that this is
    /// called in: whoever waits for the database is then woken by the thread that hears from it.
    /// `kept` of them stay, whatever else needs some.
    ///
    /// They are for statements that find all their rows by key, whose plan is the same whatever the
    /// values: PostgreSQL would otherwise plan each anew where it takes few rows, which costs more
    /// than to run it.
    pub fn with_own_connections(&self, connections: u32, kept: u32) -> Store {
        let pooler = self.options.pooler;
        let own = PoolOptions { rank: Rank::Heartbeats, most: connections, kept };
        let pool = Pool::with_change(&self.line, own, Some(&self.pool), move |options| match pooler {
            Pooler::None => options.options([("plan_cache_mode", "force_generic_plan")]),
            Pooler::Transaction => options,
        });
        Store { pool, ..self.clone() }
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
        self.pool.usage()
    }

    /// The connections of [`Store::background`].
    pub fn background_pool_use(&self) -> PoolUse {
        self.own_pool.usage()
    }

    /// Counts how many more connections the server would give us, for the pools to go by. Behind a
    /// pooler that is the pooler's concern.
    pub async fn look_at_spare_connections(&self) -> Result<(), StoreError> {
        // Superusers have a few connections more, and no limit of their own.
        const SPARE: &str = "
            SELECT least(
                current_setting('max_connections')::bigint - used.of_all - CASE WHEN r.rolsuper THEN 0 ELSE
                    current_setting('superuser_reserved_connections')::bigint
                    + coalesce(current_setting('reserved_connections', true), '0')::bigint END,
                CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit - used.of_role END,
                CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit - used.of_database END)
            FROM pg_roles r, pg_database d, (
                SELECT count(*) AS of_all, count(*) FILTER (WHERE usename = session_user) AS of_role,
                    count(*) FILTER (WHERE datname = current_database()) AS of_database
                FROM pg_stat_activity WHERE datid IS NOT NULL) used
            WHERE r.rolname = session_user AND d.datname = current_database()";
        if self.options.pooler == Pooler::Transaction {
            return Ok(());
        }
        let store = self.background();
        let spare = store.read("spare_connections", |connection, _| {
            Box::pin(async move { Ok(sqlx::query_scalar::<_, i64>(SPARE).fetch_one(connection).await?) })
        });
        self.line.note_spare(spare.await?);
        Ok(())
    }

    /// From now on every connection that there is now is closed, and not used for anything more.
    pub fn leave_connections(&self) {
        self.line.leave();
    }

    /// Closes all connections once they are free.
    pub async fn close(&self) {
        self.line.close().await;
    }

    /// Runs `work` in one SERIALIZABLE transaction and commits it.
    ///
    /// A conflict, which may come from any statement and from COMMIT itself, runs it again from the
    /// start with a new snapshot and a new reading of the clock, after a short random wait; so does
    /// a broken connection, on another one. What was never committed was never decided. Ends within
    /// the operation timeout.
    pub async fn serializable<'e, T, R: From<StoreError>>(
        &self,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<T, R> {
        let deadline = Instant::now() + self.options.operation_timeout;
        self.serializable_on(&mut Kept::nothing(), deadline, u32::MAX, name, lost_commit, work).await
    }

    /// As [`Store::serializable`], until a deadline and for so many conflicts at most, on a
    /// connection that the caller keeps from one transaction to the next.
    pub async fn serializable_on<'e, T, R: From<StoreError>>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<T, R> {
        let began = Instant::now();
        let attempts = self.attempts(kept, deadline, max_conflicts, name, lost_commit, work);
        let ended = attempts.instrument(telemetry::transaction_span(name)).await;
        let outcome = match &ended {
            Ok(Ok(_)) => Outcome::Committed,
            Ok(Err(_)) => Outcome::Refused,
            Err(StoreError::Contended { .. }) => Outcome::Contended,
            Err(StoreError::Unavailable(_)) => Outcome::Unavailable,
            Err(StoreError::Inconsistent(_) | StoreError::Failed { .. }) => Outcome::Failed,
        };
        metrics::transaction_ended(name, outcome, began.elapsed());
        ended.unwrap_or_else(|error| Err(error.into()))
    }

    async fn attempts<'e, T, R>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        mut work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<Result<T, R>, StoreError> {
        let mut conflicts = 0;
        let mut met_others = false;
        let mut lost = 0;
        let mut elsewhere = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt(name, kept, left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                Fault::AnotherHistory => {
                    self.enter_history(left).await?;
                    elsewhere += 1;
                    pause_elsewhere(elsewhere, deadline).await;
                }
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

    /// One attempt of a serializable transaction. A connection that is not known to be good is
    /// closed, never handed back.
    async fn attempt<'e, T, R>(
        &self,
        name: &'static str,
        kept: &mut Kept,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<Result<T, R>, Fault> {
        let (mut connection, has_begun) = match kept.take() {
            Keeping::Nothing => (self.connection(time_left).await?, false),
            Keeping::Idle(connection) => (connection, false),
            Keeping::Begun(connection) | Keeping::InTurn(connection) => (connection, true),
        };
        let begin = AssertSqlSafe(self.begins().serializable.clone());
        // A pooler would have to hold a connection of the server for a transaction that is begun
        // and not used.
        let begins_next = kept.keeps && self.options.pooler == Pooler::None;
        let commit = AssertSqlSafe(match begins_next {
            true => self.begins().commit_and_serializable.clone(),
            false => Arc::from("COMMIT"),
        });
        // Whether COMMIT was sent: after that, a broken connection leaves the outcome unknown.
        let mut committing = false;
        let epoch = self.life.epoch();
        let uncertain = self.line.uncertain_commits();
        let run = async {
            if !has_begun {
                sqlx::raw_sql(begin).execute(&mut *connection).await?;
            }
            if connection.is_spread() {
                spread::set_for_nodes(&mut connection).await?;
            }
            let done = match work(&mut connection, Scope(PhantomData)).await {
                Ok(done) => Ok(done),
                Err(Stop::Refused(refusal)) => Err(refusal),
                Err(Stop::Failed(error)) => return Err(error),
            };
            if uncertain.is_some() {
                // A commit that writes nothing waits for no standby.
                sqlx::raw_sql(WRITE_SOMETHING).execute(&mut *connection).await?;
            }
            committing = true;
            let commit = sqlx::raw_sql(commit).execute(&mut *connection);
            match notices::listening_for_warnings(commit).await {
                (Ok(_), warning) => Ok((done, warning)),
                (Err(error), _) => Err(WorkError::from(error)),
            }
        };
        let outcome = tokio::time::timeout(time_left, run).await;
        let fault = match outcome {
            // Nobody waits for the standby any more: it is committed here, and whether it survives
            // this server is unknown.
            Ok(Ok((_, Some(warning)))) => {
                tracing::warn!(transaction = name, warning, "a COMMIT is not known to be replicated");
                Fault::LostInCommit(warning)
            }
            // Committed where nobody looks any more, it may be.
            Ok(Ok(_)) if self.life.epoch() != epoch => Fault::LostInCommit(LEFT_HISTORY.to_owned()),
            Ok(Ok((done, _))) => {
                if let Some(uncertain) = uncertain {
                    self.line.note_certain_commit(uncertain);
                }
                if !kept.keeps {
                    connection.hand_back();
                } else if begins_next {
                    kept.keeping = Keeping::Begun(connection);
                } else {
                    kept.keeping = Keeping::Idle(connection);
                }
                return Ok(done);
            }
            Ok(Err(error)) => {
                connection.note(&error);
                Fault::of(error, committing)
            }
            Err(_) if committing => Fault::LostInCommit("no answer to COMMIT in time".to_owned()),
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if matches!(fault, Fault::LostInCommit(_)) {
            self.line.note_uncertain_commit();
        }
        if matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_)) {
            connection.suspect_others();
        } else if let Some(connection) = roll_back(connection).await {
            match kept.keeps {
                true => kept.keeping = Keeping::Idle(connection),
                false => connection.hand_back(),
            }
        }
        Err(fault)
    }

    /// Sees to it that there is a kept connection, and that it answers. Where there is none to be
    /// had, the next call tries again.
    pub async fn keep_connection(&self, kept: &mut Kept) {
        kept.rest().await;
        if matches!(kept.keeping, Keeping::Nothing)
            && let Ok(connection) = self.connection(self.options.operation_timeout).await
        {
            kept.keeping = Keeping::Idle(connection);
        }
    }

    /// Begins the next transaction on a kept connection and waits for its turn among those of all
    /// replicas. False where it was waited for in vain, or cannot be waited for: the transaction
    /// goes on without, or says what is wrong.
    pub async fn begin_in_turn(&self, kept: &mut Kept) -> bool {
        if self.is_spread() {
            return false;
        }
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
        let begin = AssertSqlSafe(self.begins().serializable.clone());
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

    /// Runs a read of one statement on a kept connection, so that it needs no other; what was begun
    /// on it is given up. `None` where that fails: what is wrong is found out by the transaction
    /// that follows.
    pub async fn read_on<'e, T>(
        &self,
        kept: &mut Kept,
        mut work: impl for<'c> FnMut(&'c mut ReadConnection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Option<T> {
        let patience = self.options.operation_timeout;
        let mut connection = match kept.take() {
            Keeping::Nothing => self.connection(patience).await.ok()?,
            Keeping::Idle(connection) => connection,
            Keeping::Begun(connection) | Keeping::InTurn(connection) => roll_back(connection).await?,
        };
        let done = tokio::time::timeout(patience, work(&mut connection, Scope(PhantomData))).await.ok()?.ok()?;
        kept.keeping = Keeping::Idle(connection);
        Some(done)
    }

    /// Runs a read outside serializable isolation, on another connection if one proves broken.
    pub async fn read<'e, T>(
        &self,
        name: &'static str,
        mut work: impl for<'c> FnMut(&'c mut ReadConnection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        self.outside_serializable(name, Access::Reads, |connection, scope| work(connection, scope)).await
    }

    /// Runs one statement that changes something, or locks it for a moment, and commits by itself.
    /// For what is done again where it fails, and decides on no role: where the connection breaks,
    /// it is.
    pub async fn autocommit<'e, T>(
        &self,
        name: &'static str,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        self.outside_serializable(name, Access::Writes, work).await
    }

    async fn outside_serializable<'e, T>(
        &self,
        name: &'static str,
        access: Access,
        mut work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.options.operation_timeout;
        let mut lost = 0;
        let mut elsewhere = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt_outside_serializable(access, left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                Fault::AnotherHistory => {
                    Box::pin(self.enter_history(left)).await?;
                    elsewhere += 1;
                    pause_elsewhere(elsewhere, deadline).await;
                }
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

    async fn attempt_outside_serializable<'e, T>(
        &self,
        access: Access,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, Fault> {
        let epoch = self.life.epoch();
        let mut connection = self.connection(time_left).await?;
        let run = async {
            if !self.reads_in_transactions {
                return work(&mut connection, Scope(PhantomData)).await;
            }
            let begin = match access {
                Access::Reads => &self.begins().read,
                Access::Writes => &self.begins().autocommit,
            };
            self.line.admission().admit_beginning(connection.raw(), begin).await?;
            let done = work(&mut connection, Scope(PhantomData)).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
            Ok(done)
        };
        let fault = match tokio::time::timeout(time_left, run).await {
            // What it says may be of a database that nobody goes by any more.
            Ok(Ok(_)) if self.life.epoch() != epoch && self.of == Of::KnownHistory => {
                Fault::Lost(LEFT_HISTORY.to_owned())
            }
            Ok(Ok(done)) => {
                connection.hand_back();
                return Ok(done);
            }
            Ok(Err(error)) => {
                connection.note(&error);
                Fault::of(error, false)
            }
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_)) {
            connection.suspect_others();
        } else if self.of == Of::AnyHistory {
            // Nobody has seen in which one it is.
            drop(connection);
        } else if !self.reads_in_transactions {
            connection.hand_back();
        } else if let Some(connection) = roll_back(connection).await {
            connection.hand_back();
        }
        Err(fault)
    }

    /// Has a sign of life say in which history the database is.
    async fn enter_history(&self, time_left: Duration) -> Result<(), StoreError> {
        match tokio::time::timeout(time_left, self.note_alive()).await {
            Ok(noted) => noted.map(drop),
            Err(_) => Err(StoreError::Unavailable(fault::ELSEWHERE.to_owned())),
        }
    }

    async fn connection(&self, time_left: Duration) -> Result<Connection, Fault> {
        match tokio::time::timeout(time_left, self.pool.acquire(self.of)).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection, self.options.pooler, self.life.clone())),
            Ok(Err(error)) => Err(Fault::of(error.into(), false)),
            Err(_) => Err(Fault::Lost("no connection in time".to_owned())),
        }
    }

    fn begins(&self) -> &Begins {
        &self.texts.by_commit[usize::from(self.line.admission().synchronous_commit() == "remote_apply")]
    }

    /// A connection of its own, outside the pools: for what needs a session, and for telling why
    /// one cannot be had.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.line.connect_apart().await
    }
}

/// How transactions begin and end.
struct Texts {
    /// Where a server commits durably, and where it waits until a standby shows what is committed.
    by_commit: [Begins; 2],
}

struct Begins {
    serializable: Arc<str>,
    commit_and_serializable: Arc<str>,
    /// For a read that has to be a transaction, and for a statement that does. A look at the server
    /// follows in the same message.
    read: Arc<str>,
    autocommit: Arc<str>,
}

impl Texts {
    fn new(settings: &[(&'static str, String)], pooler: Pooler) -> Texts {
        let begins = |commit: &str| {
            // Behind a pooler nothing of a session outlives a transaction.
            let set: String = match pooler {
                Pooler::None => String::new(),
                Pooler::Transaction => settings
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .chain([("synchronous_commit", commit)])
                    .map(|(name, value)| format!("; SET LOCAL {name} = '{value}'"))
                    .collect(),
            };
            let serializable = format!("BEGIN ISOLATION LEVEL SERIALIZABLE{set}");
            Begins {
                commit_and_serializable: format!("COMMIT; {serializable}").into(),
                serializable: serializable.into(),
                // A statement is parsed in one message and run in the next: outside a transaction
                // another server connection could get the second. And behind a pooler the server
                // may become another one under a connection that stays.
                read: format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY{set}; ").into(),
                autocommit: format!("BEGIN ISOLATION LEVEL READ COMMITTED{set}; ").into(),
            }
        };
        Texts { by_commit: ["on", "remote_apply"].map(begins) }
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
/// COMMIT and the BEGIN of the next transaction go in one message, which saves each transaction a
/// round trip. What is begun so has no snapshot, no lock and no number yet: it takes its snapshot,
/// as any other, with its first statement.
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

    /// How often its transactions met those of others since this was last asked, rows that were
    /// merely held not counted.
    pub fn take_conflicts(&mut self) -> u32 {
        std::mem::take(&mut self.conflicts)
    }

    /// Ends what was begun and not used, before the server takes the caller for dead, and gives up
    /// a connection that does not answer.
    pub async fn rest(&mut self) {
        self.keeping = match self.take() {
            Keeping::Begun(connection) | Keeping::InTurn(connection) => Keeping::after(roll_back(connection).await),
            Keeping::Idle(connection) => Keeping::after(connection.if_well().await),
            Keeping::Nothing => Keeping::Nothing,
        };
    }

    /// What is kept, unless it leads to where nobody goes any more.
    fn take(&mut self) -> Keeping {
        match std::mem::replace(&mut self.keeping, Keeping::Nothing) {
            Keeping::Idle(connection) | Keeping::Begun(connection) | Keeping::InTurn(connection)
                if connection.is_left() =>
            {
                Keeping::Nothing
            }
            kept => kept,
        }
    }
}

impl Keeping {
    fn after(rolled_back: Option<Connection>) -> Keeping {
        rolled_back.map_or(Keeping::Nothing, Keeping::Idle)
    }
}

/// Connections may lead now to the one and now to the other of two databases: that is no reason to
/// ask without a pause.
async fn pause_elsewhere(times: u32, deadline: Instant) {
    if times > 1 {
        pause(times + 2, deadline).await;
    }
}

/// Waits a random time that grows with the number of failures, so that two that met do not meet
/// again.
async fn pause(failures: u32, deadline: Instant) {
    let longest_us = 1_000_u64 << failures.min(6);
    let wait = Duration::from_micros(fastrand::u64(0..longest_us));
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait.min(left)).await;
}
