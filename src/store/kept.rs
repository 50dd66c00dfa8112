//! A connection that a writer keeps from one transaction to the next.

use sqlx::AssertSqlSafe;

use super::connection::{Connection, ReadConnection};
use super::work::{Scope, Work};
use super::{Store, turns};

/// A connection that is kept for the next transaction, which may have been begun on it already.
///
/// COMMIT and the BEGIN of the next transaction go in one message, which saves each transaction a
/// round trip. What is begun so has no snapshot, no lock and no number yet: it takes its snapshot,
/// as any other, with its first statement.
pub struct Kept {
    pub(super) keeps: bool,
    pub(super) keeping: Keeping,
    pub(super) conflicts: u32,
}

/// What is kept.
pub(super) enum Keeping {
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
            Keeping::Begun(connection) | Keeping::InTurn(connection) => Keeping::after(connection.roll_back().await),
            Keeping::Idle(connection) => Keeping::after(connection.if_well().await),
            Keeping::Nothing => Keeping::Nothing,
        };
    }

    /// What is kept, unless it leads to where nobody goes any more.
    pub(super) fn take(&mut self) -> Keeping {
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
    pub(super) fn after(rolled_back: Option<Connection>) -> Keeping {
        rolled_back.map_or(Keeping::Nothing, Keeping::Idle)
    }
}

impl Store {
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
        let timeout = self.options.operation_timeout;
        let (mut connection, has_begun) = match kept.take() {
            Keeping::Nothing => match self.connection(timeout).await {
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
            turns::take(&mut connection, timeout / 4).await
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(Ok(())) => {
                kept.keeping = Keeping::InTurn(connection);
                true
            }
            Ok(Err(_)) => {
                kept.keeping = Keeping::after(connection.roll_back().await);
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
        let timeout = self.options.operation_timeout;
        let mut connection = match kept.take() {
            Keeping::Nothing => self.connection(timeout).await.ok()?,
            Keeping::Idle(connection) => connection,
            Keeping::Begun(connection) | Keeping::InTurn(connection) => connection.roll_back().await?,
        };
        let done = tokio::time::timeout(timeout, work(&mut connection, Scope::new())).await.ok()?.ok()?;
        kept.keeping = Keeping::Idle(connection);
        Some(done)
    }
}
