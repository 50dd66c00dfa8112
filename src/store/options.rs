//! How the database is used.

use std::time::Duration;

use super::histories::DatabaseHistory;
use super::password::PasswordFile;

/// How long a statement waits for a row that somebody else holds before the transaction is run
/// again. Whoever holds it may be a person at a prompt, and heartbeats of other groups may share
/// the transaction.
pub(super) const LOCK_TIMEOUT: &str = "50ms";

/// How the database is used. The durations bound every call.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The most connections that requests share.
    pub pool_size: u32,
    /// How long one operation may take with all its retries.
    pub operation_timeout: Duration,
    /// How long a transaction may stand idle before the server ends it: a paused replica must not
    /// hold up the others.
    pub idle_in_transaction_timeout: Duration,
    /// The longest time without a sign of life that is not an outage.
    pub outage_gap: Duration,
    /// What stands between the service and the server.
    pub pooler: Pooler,
    /// What a promotion is taken for.
    pub database_history: DatabaseHistory,
    /// Where the account's password is, if it is not in the URL.
    pub password_file: Option<PasswordFile>,
}

/// What stands between the service and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: a connection is a server's session. Statements are prepared.
    None,
    /// A pooler that gives a server connection per transaction (PgBouncer's transaction mode):
    /// nothing of a session outlives a transaction, so statements are not kept prepared and
    /// settings are given with each BEGIN.
    Transaction,
}
