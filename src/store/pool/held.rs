//! An open connection: kept idle in a pool, or in use.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::OwnedSemaphorePermit;

use super::Inner;
use super::line::Line;
use crate::store::fault;
use crate::store::histories::Destination;

/// An open connection, counted.
pub(super) struct Held {
    pub(super) connection: Option<PgConnection>,
    pub(super) generation: u64,
    /// In which of the histories that this replica worked in it was made.
    pub(super) epoch: u64,
    pub(super) place: Option<Destination>,
    /// When it was last seen well.
    pub(super) seen_at: Instant,
    pub(super) pool: Weak<Inner>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Held {
    /// Closes it, politely and not for long.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // An error says that it is closed already.
            let _ = tokio::time::timeout(Duration::from_millis(200), connection.close()).await;
        }
    }
}

/// A connection in use. Dropped, it is closed, unless it was handed back.
pub struct InUse {
    pub(super) held: Held,
    pub(super) pool: Arc<Inner>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Held {
    /// Whether nobody is to use it any more: all of its time are left, or it was made in another
    /// history.
    pub(super) fn is_left(&self, line: &Line) -> bool {
        self.generation != line.generation.load(Ordering::Acquire) || self.epoch != line.admission.epoch()
    }

    pub(super) async fn is_well(&mut self, line: &Line) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match tokio::time::timeout(line.timeout, line.admission.admit(connection)).await {
            Ok(Ok(())) => {
                self.seen_at = Instant::now();
                true
            }
            Ok(Err(error)) => {
                if fault::is_of_another_server(&error) {
                    line.leave_generation(self.generation);
                }
                tracing::debug!(%error, "an idle connection is closed");
                false
            }
            // Not an answer that it is gone, but none: the others of that time lead to the same
            // silence.
            Err(_) => {
                line.leave_generation(self.generation);
                false
            }
        }
    }
}

impl InUse {
    /// Gives it back to its pool for others.
    pub fn hand_back(self) {
        let InUse { held, pool, _permit } = self;
        pool.put_back(held);
    }

    /// Whether its database's groups are spread over several servers.
    pub fn is_spread(&self) -> bool {
        self.pool.line.admission.is_spread()
    }

    /// Whether all connections of its time are to be left.
    pub fn is_left(&self) -> bool {
        self.held.is_left(&self.pool.line)
    }

    /// Where it leads; `None` where it may lead elsewhere at any time.
    pub(in crate::store) fn place(&self) -> Option<Destination> {
        self.held.place.clone()
    }

    /// Whether it still answers as it should, asked where there is reason to.
    pub async fn is_well(&mut self) -> bool {
        let line = self.pool.line.clone();
        !self.is_left() && self.held.is_well(&line).await
    }

    /// It failed as one does whose server gives no answer.
    pub fn suspect_others(&self) {
        self.pool.line.suspect();
    }

    /// It led to a server that is not the one to write to.
    pub fn leave_others(&self) {
        self.pool.line.leave_generation(self.held.generation);
    }
}

impl InUse {
    /// The connection.
    pub fn get_mut(&mut self) -> &mut PgConnection {
        match &mut self.held.connection {
            Some(connection) => connection,
            None => unreachable!("it is taken only by what consumes it"),
        }
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("connection", &self.held.connection).finish_non_exhaustive()
    }
}
