//! Why something cannot be had of the database: as a work of a transaction meets it, and as whoever
//! asked for the transaction is told.

use std::sync::Arc;

/// What is said of a physical standby.
pub(super) const IS_STANDBY: &str = "the server is a physical standby";

/// What is said of a server that takes no writes where one that does was asked for.
pub(super) const IS_READ_ONLY: &str = "the server is read-only";

/// What is said of a database that is in another history than the one that this replica works in.
pub(super) const IS_OF_ANOTHER_HISTORY: &str = "the database is in another history";

/// Why the database could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached in time. Nothing was changed, or the change is whole.
    #[error("the database cannot be reached in time: {0}")]
    Unavailable(String),
    /// Others changed the same rows for as long as there was time to try.
    #[error("the transaction {transaction} met others on the same rows {attempts} times")]
    Contended {
        /// Its name.
        transaction: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// Whether it waited in vain each time, for a row that somebody held, and met no change of
        /// others.
        held: bool,
    },
    /// What is stored breaks a rule that it was stored under.
    #[error("the database holds what must not be: {0}")]
    Inconsistent(String),
    /// A statement failed in a way that no retry mends.
    #[error("the transaction {transaction} failed: {cause}")]
    Failed {
        /// Its name.
        transaction: &'static str,
        /// What the database said.
        cause: Arc<sqlx::Error>,
    },
}

/// Why the work of a transaction stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    /// The last sign of life is longer ago than the gap: an outage may have to be recorded before
    /// anything is decided.
    #[error("no sign of life of the service for too long")]
    ServiceWasAway,
    /// The database is in another history than the one that this replica works in, or lacks what it
    /// remembers of it: a sign of life has to say in which one before anything is decided.
    #[error("the database is in another history")]
    AnotherHistory,
    /// What was read breaks a rule.
    #[error("{0}")]
    Inconsistent(String),
}

/// Why the work of a transaction gives no result.
#[derive(Debug)]
pub enum Stop<R> {
    /// It cannot be done, or not on this snapshot.
    Failed(WorkError),
    /// It is not to be done. That, too, is a decision on what was read, and is committed like any
    /// other before anybody hears of it; nothing was written before it.
    Refused(R),
}

impl<R> From<WorkError> for Stop<R> {
    fn from(error: WorkError) -> Stop<R> {
        Stop::Failed(error)
    }
}

/// A statement that names its rows by key touches exactly those, or the snapshot and the code
/// disagree.
pub(super) fn check_count(table: &str, expected: usize, written: u64) -> Result<(), WorkError> {
    if u64::try_from(expected) == Ok(written) {
        Ok(())
    } else {
        Err(WorkError::Inconsistent(format!("{expected} rows of {table} were to be written, and {written} were")))
    }
}
