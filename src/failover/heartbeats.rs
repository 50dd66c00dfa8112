//! Group commit of heartbeats: those that arrive while a transaction runs share the next one.
//!
//! There is no timer: an idle service runs each heartbeat's transaction at once. The queue is
//! bounded, and so is the wait in it; who comes next is told by [`super::line`]. One heartbeat's
//! fault is never another's: a batch that cannot be committed is split until the one at fault
//! stands alone.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::deadlines::Deadlines;
use super::gaps::Gaps;
use super::line::Line;
use super::longer_leases::LongerLeases;
use super::{Caller, FailoverError, FailoverOptions};
use crate::ids::{GroupPath, SessionId};
use crate::metrics::PoolUse;
use crate::store::Store;

pub use request::HeartbeatMessage;
use request::{Outcome, Request, Waiting};
use writer::{Watchers, run_writers};

mod decision;
mod request;
mod writer;

/// The way in for heartbeats. Cheap to clone; the writers stop when the last clone is gone.
#[derive(Clone)]
pub struct HeartbeatQueue {
    entrance: Arc<Entrance>,
    timeout: Duration,
    /// The writers' store, once their thread has made it.
    store: Arc<OnceLock<Store>>,
}

/// Closes the line when the last way in is gone.
struct Entrance(Arc<Line<Waiting>>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl HeartbeatQueue {
    /// Starts the writers on a thread of their own, with connections of their own. Must be called
    /// within a tokio runtime.
    ///
    /// On a runtime shared with other work each answer of the database would be heard by one thread
    /// and acted on by another, and that hand-over, several times in a transaction, costs as much
    /// as the transaction.
    pub fn start(
        store: &Store,
        options: &FailoverOptions,
        deadlines: Option<Deadlines>,
        longer_leases: &Arc<LongerLeases>,
        gaps: Gaps,
    ) -> HeartbeatQueue {
        let longer = longer_leases.clone();
        let watchers = Watchers { deadlines, gaps };
        let of_places = store.clone();
        let line = Line::new(options.heartbeat_queue, move |key| of_places.row_places().knows(key));
        let line = Arc::new(line.for_writers(options.heartbeat_writers, options.heartbeat_batch));
        let entrance = Arc::new(Entrance(line.clone()));
        let timeout = store.options().operation_timeout;
        let (store, options) = (store.clone(), options.clone());
        let others = Handle::current();
        let writers_store = Arc::new(OnceLock::new());
        let place = writers_store.clone();
        let thread = std::thread::Builder::new().name("heartbeats".to_owned());
        let started = thread.spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run_writers(store, options, line, others, watchers, longer, &place)),
            Err(error) => tracing::error!(%error, "no runtime for heartbeats: each is answered 503"),
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread for heartbeats: each is answered 503");
        }
        HeartbeatQueue { entrance, timeout, store: writers_store }
    }

    /// How many heartbeats wait for a transaction.
    pub fn waiting(&self) -> usize {
        self.entrance.0.len()
    }

    /// The writers' own connections.
    pub fn pool_use(&self) -> PoolUse {
        self.store.get().map(Store::pool_use).unwrap_or_default()
    }

    /// Sends one heartbeat through and waits for its answer. A caller that goes away takes its
    /// heartbeat with it, unless its transaction has begun.
    pub async fn send(
        &self,
        path: GroupPath,
        session: SessionId,
        message: HeartbeatMessage,
        caller: &Caller,
        is_bound: bool,
    ) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let key = path.key().0;
        let tenant = path.parent.tenant.as_str().into();
        let (caller, arrived_at) = (caller.identity.clone(), caller.arrived_at);
        let request = Box::new(Request {
            path,
            key,
            session,
            message,
            tenant,
            caller,
            arrived_at,
            is_bound,
            was_granted: AtomicBool::new(false),
        });
        let waiting = Waiting { request, deadline, reply };
        if self.entrance.0.push(waiting).is_err() {
            return Err(FailoverError::Overloaded("too many heartbeats are waiting to be written"));
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(FailoverError::Overloaded("the heartbeat could not be written in time")),
        }
    }
}
