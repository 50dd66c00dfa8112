//! The database: the only place for SQL, isolation, retries, locks and the clock.
//!
//! One way in for whatever decides or changes: [`Store::serializable`], a named transaction that
//! may run several times before it commits once. One way in for reads: [`Store::read`], outside
//! serializable isolation, so that a read is not tracked and conflicts with nothing. A work closure
//! must not log, count or answer: it may be run again.
//!
//! To read it: `work` and `transaction` (how work is run), [`clock`] (the moment that it is decided
//! at), [`state`] (what heartbeats are decided on), then the other rows by their names. Below these
//! are `connection` and `pool`, what a connection has to pass (`admission`), and how the database
//! is known for the one that it was (`histories`, `witness`, [`life`], `liveness`).

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::metrics::PoolUse;
use admission::Admission;
use begins::{Begins, Texts};
use connection::Connection;
pub use error::{Stop, StoreError, WorkError};
use fault::Fault;
use histories::Of;
use hosts::Hosts;
pub use kept::Kept;
use life::Life;
use options::LOCK_TIMEOUT;
pub use options::{Pooler, StoreOptions};
use pool::{Line, Pool, PoolOptions, Rank};
pub use work::{LostCommit, Scope, Work};

mod admission;
mod advice;
pub mod api_keys;
pub mod audit;
pub mod audit_search;
mod backoff;
mod begins;
pub mod clock;
mod clock_watch;
mod columns;
mod configuration;
pub mod connection;
pub mod distribution;
mod error;
pub mod events;
mod fault;
pub mod groups;
pub mod histories;
pub mod hosts;
mod kept;
pub mod life;
pub mod lifetimes;
mod listening;
mod liveness;
pub mod migrate;
mod notices;
mod notify;
mod options;
pub mod password;
mod pool;
pub mod predicate_locks;
pub mod private;
pub mod pruning;
pub mod reader;
mod reading;
pub mod reads;
pub mod registrant;
mod rows;
pub mod spread;
pub mod state;
pub mod status;
mod transaction;
pub mod turns;
pub mod webhook;
pub mod wish_names;
mod witness;
mod work;

/// Connections for what the service does of its own accord: one for each thing that must not wait
/// for another.
const OWN_CONNECTIONS: u32 = 4;

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
    row_places: Arc<state::RowPlaces>,
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
        let timeout = options.operation_timeout / 4;
        let line = Line::new(hosts, admission, timeout);
        let pool = Pool::new(&line, PoolOptions { rank: Rank::Requests, most: options.pool_size, kept: 1 }, None);
        let own = PoolOptions { rank: Rank::Upkeep, most: OWN_CONNECTIONS, kept: 1 };
        Store {
            own_pool: Pool::new(&line, own, None),
            pool,
            line,
            texts: Arc::new(texts),
            places: Arc::default(),
            row_places: Arc::default(),
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

    /// Where rows of groups lie, as far as that is known.
    pub fn row_places(&self) -> &state::RowPlaces {
        &self.row_places
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
