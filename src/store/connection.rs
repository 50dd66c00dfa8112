//! A connection in use, and how statements go through it: prepared and kept, or neither where a
//! pooler stands between.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Either, Execute, Executor, SqlStr};

use super::error::WorkError;
use super::fault;
use super::histories::Destination;
use super::life::Life;
use super::options::Pooler;
use super::pool::InUse;
use super::witness::Witness;

/// A connection in the middle of something. Dropped, it is closed, unless it was handed back: a
/// request whose client goes away is dropped wherever it waits, and its open transaction must not
/// become part of another's.
#[derive(Debug)]
pub struct Connection(ReadConnection);

/// The same for what only reads. A statement that writes is a defect, which shows in every test
/// that comes across it; behind a pooler the server refuses it as well.
#[derive(Debug)]
pub struct ReadConnection {
    inner: InUse,
    keeps_statements: bool,
    is_spread: bool,
    life: Arc<Life>,
}

impl Connection {
    pub(super) fn new(inner: InUse, pooler: Pooler, life: Arc<Life>) -> Connection {
        let is_spread = inner.is_spread();
        Connection(ReadConnection { inner, keeps_statements: pooler == Pooler::None, is_spread, life })
    }

    pub(super) fn hand_back(self) {
        self.0.inner.hand_back();
    }

    /// Itself, if it answers as it should.
    pub(super) async fn if_well(mut self) -> Option<Connection> {
        self.0.inner.is_well().await.then_some(self)
    }

    /// Ends its transaction; a connection on which even that fails is closed.
    pub(super) async fn roll_back(mut self) -> Option<Connection> {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut self);
        let ended = tokio::time::timeout(Duration::from_secs(1), rollback).await;
        matches!(ended, Ok(Ok(_))).then_some(self)
    }

    /// For what is said of the connection and not through it.
    pub(super) fn raw(&mut self) -> &mut PgConnection {
        self.0.inner.get_mut()
    }
}

impl ReadConnection {
    /// Whether its database's groups are spread over several servers.
    pub fn is_spread(&self) -> bool {
        self.is_spread
    }

    /// What is known of the life of its database.
    pub(super) fn life(&self) -> Arc<Life> {
        self.life.clone()
    }

    /// Where it leads; `None` where it may lead elsewhere at any time.
    pub(super) fn place(&self) -> Option<Destination> {
        self.inner.place()
    }

    /// What a snapshot that is taken from now on is held against.
    pub(super) fn call_witness(&self) -> Witness {
        Witness::call(self.life(), self.place())
    }

    /// Whether nobody is to use connections of its time any more.
    pub(super) fn is_left(&self) -> bool {
        self.inner.is_left()
    }

    /// It failed with this: where that says that its server is not the one to write to, others to
    /// it are left, too.
    pub(super) fn note(&self, error: &WorkError) {
        let is_elsewhere = match error {
            WorkError::Statement(error) => fault::is_of_another_server(error),
            WorkError::AnotherHistory => true,
            _ => false,
        };
        if is_elsewhere {
            self.inner.leave_others();
        }
    }

    /// What goes over it.
    fn statement<E>(&self, query: E, may_write: bool) -> Statement<E> {
        Statement { query, is_kept: self.keeps_statements, may_write }
    }

    /// It broke or did not answer: others are looked at before they are used.
    pub(super) fn suspect_others(&self) {
        self.inner.suspect_others();
    }
}

impl Deref for Connection {
    type Target = ReadConnection;

    fn deref(&self) -> &ReadConnection {
        &self.0
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ReadConnection {
        &mut self.0
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.statement(query, true);
        self.raw().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.statement(query, true);
        self.raw().fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.raw().prepare_with(sql, parameters)
    }
}

impl<'c> Executor<'c> for &'c mut ReadConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.statement(query, false);
        self.inner.get_mut().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.statement(query, false);
        self.inner.get_mut().fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner.get_mut().prepare_with(sql, parameters)
    }
}

/// A statement that is kept under a name, or goes without one.
///
/// A cache of no statements is not enough: sqlx then still gives each a name, and never takes it
/// back. Behind a pooler the names of all clients meet on the server's few connections.
struct Statement<E> {
    query: E,
    is_kept: bool,
    may_write: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Statement<E> {
    fn sql(self) -> SqlStr {
        let sql = self.query.sql();
        debug_assert!(self.may_write || only_reads(sql.as_str()), "a read that writes: {}", sql.as_str());
        sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.is_kept && self.query.persistent()
    }
}

/// What a statement says that changes something, locks a row, or calls what does.
const WRITES: [&str; 14] = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "LOCK",
    "CREATE",
    "ALTER",
    "DROP",
    "NOTIFY",
    "pg_notify",
    "nextval",
    "note_service_alive",
    "note_nodes",
    "base_leases_anew",
];

/// Whether a statement of ours is one that only reads.
fn only_reads(sql: &str) -> bool {
    let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    !words.any(|word| WRITES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::only_reads;

    #[test]
    fn a_statement_that_writes_or_locks_is_told_from_one_that_reads() {
        assert!(only_reads("SELECT deleted_at, 'group_deleted' FROM groups"));
        for writes in [
            "WITH d AS (DELETE FROM groups RETURNING 1) SELECT count(*) FROM d",
            "SELECT group_key FROM groups FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT alive FROM note_service_alive()",
        ] {
            assert!(!only_reads(writes), "{writes}");
        }
    }
}
