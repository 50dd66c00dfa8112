//! A connection in use, and how statements go through it: prepared and kept, or neither where a pooler stands between.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Either, Execute, Executor, SqlStr};

use super::Pooler;
use super::liveness::Life;

/// A connection in the middle of something. Dropped, it is closed, unless it was handed back: a request whose client
/// goes away is dropped wherever it waits, and its open transaction must not become part of another's.
#[derive(Debug)]
pub struct Connection {
    inner: Option<PoolConnection<Postgres>>,
    keeps_statements: bool,
    life: Arc<Life>,
}

impl Connection {
    pub(super) fn new(inner: PoolConnection<Postgres>, pooler: Pooler, life: Arc<Life>) -> Connection {
        Connection { inner: Some(inner), keeps_statements: pooler == Pooler::None, life }
    }

    /// What is known of the life of its database.
    pub(super) fn life(&self) -> Arc<Life> {
        self.life.clone()
    }

    pub(super) fn hand_back(mut self) {
        self.inner = None;
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.inner {
            Some(connection) => connection,
            None => unreachable!("it is taken only by what consumes it"),
        }
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Some(connection) => connection,
            None => unreachable!("it is taken only by what consumes it"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(connection) = self.inner.take() {
            drop(connection.detach());
        }
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = Statement { query, is_kept: self.keeps_statements };
        self.deref_mut().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = Statement { query, is_kept: self.keeps_statements };
        self.deref_mut().fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.deref_mut().prepare_with(sql, parameters)
    }
}

/// A statement that is kept under a name, or goes without one.
///
/// A cache of no statements is not enough: sqlx then still gives each a name, and never takes it back. Behind a pooler the names
/// of all clients meet on the server's few connections.
struct Statement<E> {
    query: E,
    is_kept: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Statement<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
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
