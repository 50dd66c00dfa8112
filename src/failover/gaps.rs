//! For how long groups had no Primary: each such time is observed once, by the replica that
//! committed the grant which ended it.
//!
//! After the commit, outside of its transaction and of its way to the client: the rows of the
//! changes say when the group lost its Primary, and by what. Nobody waits for it. Where a replica
//! ends before it has looked, or more groups than [`WAITING`] change at once, some are missing.

use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::log::RoleChange;
use crate::arbitration::{Reason, Role};
use crate::metrics::{self, GapCause};
use crate::store::events::{self, Gap};
use crate::store::{Store, StoreError};

/// How many grants may wait to be looked at.
const WAITING: usize = 65_536;

/// After a failure, how long until the next is looked at.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// A grant that may have ended such a time.
struct Grant {
    group: Uuid,
    term: i64,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Gaps(mpsc::Sender<Grant>);

/// Grants that nobody has looked at yet.
pub struct Grants(mpsc::Receiver<Grant>);

impl Gaps {
    /// A way in, and what comes of it.
    pub fn new() -> (Gaps, Grants) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Gaps(sender), Grants(receiver))
    }

    /// Notes those of committed changes that are grants.
    pub fn note(&self, changes: &[RoleChange]) {
        for RoleChange { key, transition, .. } in changes {
            // Before the first there was none to lose.
            if transition.to == Role::Primary && transition.reason != Reason::FirstHeartbeat {
                let _ = self.0.try_send(Grant { group: *key, term: transition.term.0 });
            }
        }
    }
}

/// Observes them for as long as there is a way in, one at a time: where many groups change at once
/// the database has more urgent work.
pub async fn observe(mut grants: Grants, store: Store) {
    while let Some(Grant { group, term }) = grants.0.recv().await {
        let gap: Result<_, StoreError> = store
            .read("time_without_primary", |connection, _| Box::pin(events::find_gap_before(connection, group, term)))
            .await;
        match gap {
            Ok(None) => {}
            Ok(Some(Gap { reason, micros })) => {
                metrics::primary_regained(cause(&reason), Duration::from_micros(micros.unsigned_abs()));
            }
            Err(error) => {
                tracing::debug!(%error, %group, "for how long a group had no Primary is not known");
                tokio::time::sleep(WAIT_AFTER_FAILURE).await;
            }
        }
    }
}

/// What the group lost its Primary by, as the trace says it.
fn cause(reason: &str) -> GapCause {
    let is = |one: Reason| reason == one.name();
    if is(Reason::SessionDeleted) {
        GapCause::Deletion
    } else if is(Reason::Override) || is(Reason::OverrideEnded) {
        GapCause::Override
    } else if is(Reason::LeaseLapsed) {
        GapCause::Lapse
    } else {
        GapCause::Handover
    }
}
