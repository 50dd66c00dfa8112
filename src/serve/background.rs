//! What runs beside requests, from the beginning of the service to its end. All of it is started
//! here; only the writers of heartbeats come with their queue, and what tends connections with its
//! pools.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{ServeError, flatten};
use crate::access::Authenticator;
use crate::failover::{Failover, census, history, silent_sessions, upkeep};
use crate::log_limits;
use crate::store::Store;
use crate::store::migrate::Readiness;
use crate::tls::Tls;
use crate::webhook::Webhook;

/// How often a database that is not there is tried again.
const DATABASE_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// What it needs.
pub(super) struct Background {
    pub(super) failover: Failover,
    /// The store for whatever needs a session, or must not be in the way of signs of life.
    pub(super) direct: Store,
    /// Whether this replica brings the tables up to date.
    pub(super) migrates: bool,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) tls: Option<Tls>,
    pub(super) webhook: Option<Webhook>,
}

impl Background {
    /// Runs all of it for ever, and says when the database can be used. Ends only with an error
    /// that waiting does not mend.
    pub(super) async fn run(self, is_prepared: oneshot::Sender<()>) -> Result<(), ServeError> {
        let Background { failover, direct, migrates, authenticator, tls, webhook } = self;
        let store = failover.store().clone();
        failover.works_in_background_over(&direct);
        let once_there_is_a_database = async {
            wait_for_database(&store, &direct, migrates).await?;
            // Nobody may be waiting.
            let _ = is_prepared.send(());
            work_on_database(failover, direct, webhook).await
        };
        let follow_certificate = async {
            match &tls {
                Some(tls) => tls.keep_up().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = once_there_is_a_database => ended,
            // From the start: where the tables are there already, heartbeats are answered while
            // others still migrate, and a replica that answers them without a sign of life would
            // look like an outage.
            () = upkeep::keep_alive(store.clone()) => Ok(()),
            () = upkeep::watch_spare_connections(store.clone()) => Ok(()),
            () = authenticator.keep_up() => Ok(()),
            () = follow_certificate => Ok(()),
            () = log_limits::keep_up() => Ok(()),
        }
    }
}

async fn work_on_database(failover: Failover, direct: Store, webhook: Option<Webhook>) -> Result<(), ServeError> {
    // Each on a thread of its own: signs of life and sweeps do not wait for them. They go with this
    // task.
    let mut apart = JoinSet::new();
    apart.spawn(failover.feed().clone().run(direct.clone()));
    apart.spawn(upkeep::remember_longer_leases(failover.clone()));
    if failover.looks_at_leases() {
        apart.spawn(upkeep::watch_leases(failover.clone()));
    }
    apart.spawn(history::prune(failover.clone(), direct.clone()));
    apart.spawn(silent_sessions::remove(failover.clone(), direct.clone()));
    apart.spawn(failover.clone().record_refusals(direct.clone()));
    apart.spawn(failover.clone().observe_gaps(direct.clone()));
    if let Some(webhook) = webhook {
        apart.spawn(webhook.keep_telling(failover.clone(), direct.clone()));
    }
    apart.spawn(census::keep_counting(failover.clone(), direct));
    tokio::select! {
        () = upkeep::sweep(failover) => Ok(()),
        Some(ended) = apart.join_next() => flatten(ended.map(Ok)),
    }
}

/// Waits for the database, and brings it up to date.
async fn wait_for_database(store: &Store, direct: &Store, migrates: bool) -> Result<(), ServeError> {
    let mut said = String::new();
    loop {
        let reason = if migrates {
            match direct.migrate().await {
                Ok(0) => break,
                Ok(count) => {
                    tracing::info!(count, "migrations applied");
                    break;
                }
                Err(error) if error.may_pass() => error.to_string(),
                Err(error) => return Err(error.into()),
            }
        } else {
            match direct.look_at_server().await {
                Err(error) if error.may_pass() => error.to_string(),
                Err(error) => return Err(error.into()),
                Ok(()) => match store.readiness(Duration::from_secs(1)).await {
                    Readiness::Ready => break,
                    Readiness::Unmigrated { found, needed } => {
                        format!(
                            "the tables have version {found}, and {needed} is needed: run 'client-failover migrate'"
                        )
                    }
                    Readiness::Away(reason) => format!("the database cannot be used: {reason}"),
                },
            }
        };
        if reason != said {
            tracing::warn!("waiting: {reason}");
            said = reason;
        }
        tokio::time::sleep(DATABASE_RETRY_INTERVAL).await;
    }
    tracing::info!("the database is ready");
    Ok(())
}
