//! What known callers were refused, on its way into the audit trail.
//!
//! No request waits for that, and none fails by it: where the database cannot be written to, or
//! somebody is refused all the time, entries are missing. The log has them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::rates::Rates;
use crate::store::audit::{self, Action};
use crate::store::{LostCommit, Store, StoreError};

/// How many of one caller are recorded in an hour.
const RECORDED_PER_HOUR: u32 = 600;

/// How many may wait, and how many are written at once.
const WAITING: usize = 1_000;
const BATCH: usize = 100;

/// After a failure, how long until the next are written.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A request that was refused although its caller is known.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Who asked.
    pub identity: Arc<str>,
    /// The request's id, which is ours.
    pub operation_id: Arc<str>,
    /// The trace that it belongs to by the caller's word.
    pub claimed_trace: Option<Arc<str>>,
    /// Where: the names in its path.
    pub tenant: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The method and the path that were asked for.
    pub request: String,
    /// What they were told.
    pub reason: String,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Refusals {
    sender: mpsc::Sender<Refusal>,
    rates: Arc<Rates>,
}

/// What is on its way.
pub struct OnTheirWay(mpsc::Receiver<Refusal>);

impl Refusals {
    /// A way in, and what comes of it.
    pub fn new() -> (Refusals, OnTheirWay) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Refusals { sender, rates: Arc::new(Rates::per_hour(RECORDED_PER_HOUR)) }, OnTheirWay(receiver))
    }

    /// Has one recorded soon.
    pub fn note(&self, refusal: Refusal) {
        if self.rates.take(&refusal.identity, Instant::now()).is_ok() {
            // Where too many wait, or nobody writes any more, the log has it.
            let _ = self.sender.try_send(refusal);
        }
    }
}

/// Writes them for as long as there is a way in.
pub async fn keep(mut refusals: OnTheirWay, store: Store) {
    let mut batch = Vec::new();
    while refusals.0.recv_many(&mut batch, BATCH).await > 0 {
        let refused = &std::mem::take(&mut batch);
        let written = store.serializable("record_refusals", LostCommit::Report, |connection, _| {
            Box::pin(async move {
                for refusal in refused {
                    let entry = audit::Entry {
                        action: Action::RequestRefused,
                        tenant: refusal.tenant.as_deref().unwrap_or("*"),
                        namespace: refusal.namespace.as_deref(),
                        group: refusal.group.as_deref(),
                        session: None,
                        identity: &refusal.identity,
                        operation_id: &refusal.operation_id,
                        claimed_trace_id: refusal.claimed_trace.as_deref(),
                        before: None,
                        after: Some(json!({"Request": refusal.request, "Reason": refusal.reason})),
                    };
                    audit::record(connection, entry).await?;
                }
                Ok(())
            })
        });
        let written: Result<(), StoreError> = written.await;
        if let Err(error) = written {
            tracing::debug!(%error, "refusals are missing in the audit trail");
            tokio::time::sleep(WAIT_AFTER_FAILURE).await;
        }
    }
}
