//! How a commit says that there are new events.

use super::connection::Connection;
use super::error::WorkError;

/// The channel on which a transaction that wrote events says so when it commits.
pub(super) const CHANNEL: &str = "client_failover_events";

/// Has the commit wake whoever listens. They listen at the coordinator: said within a statement on
/// rows of a node, it would be said there.
pub(super) async fn wake_readers(connection: &mut Connection) -> Result<(), WorkError> {
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(connection).await?;
    Ok(())
}
