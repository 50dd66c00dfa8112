//! Turns: a lock that one heartbeat transaction after the other holds, over all replicas.
//!
//! Large transactions of two replicas conflict although they touch different groups, because their
//! reads are tracked by page and not by row, and one of them is done again. One after the other,
//! each reads what the one before has written. It is about speed alone: whoever waits in vain goes
//! on without.

use std::time::Duration;

use super::connection::Connection;
use super::error::WorkError;
use super::options::LOCK_TIMEOUT;

/// The longest that a turn is waited for: a few large transactions of others. Short beside any
/// lease, since whoever has the turn may be paused.
const TIMEOUT: Duration = Duration::from_millis(60);

/// Waits for the turn, for `most` at the longest; it ends with the transaction. Must come first in
/// it: no snapshot has been taken then.
pub async fn take(connection: &mut Connection, most: Duration) -> Result<(), WorkError> {
    let timeout_ms = TIMEOUT.min(most).as_millis().max(1);
    let statements = format!(
        "SET LOCAL lock_timeout = '{timeout_ms}ms'; \
         LOCK TABLE heartbeat_turns IN SHARE UPDATE EXCLUSIVE MODE; \
         SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}
