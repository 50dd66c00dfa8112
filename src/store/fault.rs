//! What an error of the database means for the transaction it struck: the only reading of SQLSTATE
//! codes.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::error::{IS_OF_ANOTHER_HISTORY, IS_READ_ONLY, IS_STANDBY, WorkError};

/// What is said where an outage could not be recorded in time.
pub(super) const AWAY: &str = "the last sign of life of the service is too long ago";

/// What is said where no sign of life said in time which history the database is in.
pub(super) const ELSEWHERE: &str =
    "the database is in another history than before, and that could not be noted in time";

/// What to do about a failed attempt.
pub(super) enum Fault {
    /// Somebody else's transaction came between: run it again.
    Conflict,
    /// Somebody holds a lock for too long: run it again.
    Held,
    /// There is no room for what the transaction has read: run it again, in the hope that somebody
    /// else's has ended.
    NoRoom,
    /// The connection or its server is gone, or is no longer the one to write to: try another
    /// connection.
    Lost(String),
    /// The same, after COMMIT was sent: whether it took place is unknown.
    LostInCommit(String),
    /// An outage may have to be recorded first.
    ServiceWasAway,
    /// The database is in another history than this replica: a sign of life says in which one it
    /// goes on.
    AnotherHistory,
    /// Stored data breaks a rule.
    Inconsistent(String),
    /// No retry mends it.
    Failed(sqlx::Error),
}

impl Fault {
    /// What the error means; `committing` says whether COMMIT had been sent.
    pub(super) fn of(error: WorkError, committing: bool) -> Fault {
        let error = match error {
            WorkError::Statement(error) => error,
            WorkError::ServiceWasAway => return Fault::ServiceWasAway,
            WorkError::AnotherHistory => return Fault::AnotherHistory,
            WorkError::Inconsistent(what) => return Fault::Inconsistent(what),
        };
        let lost = |cause: String| if committing { Fault::LostInCommit(cause) } else { Fault::Lost(cause) };
        match &error {
            sqlx::Error::Protocol(what) if what == IS_OF_ANOTHER_HISTORY => Fault::AnotherHistory,
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                match code.as_ref() {
                    // serialization_failure, deadlock_detected
                    "40001" | "40P01" => Fault::Conflict,
                    // lock_not_available
                    "55P03" => Fault::Held,
                    // unique_violation, foreign_key_violation: a row that this snapshot could not
                    // see. The next one can, and then decides by it.
                    "23505" | "23503" => Fault::Conflict,
                    // out_of_memory, of what all connections share: the connection is as good as
                    // any. A hint may be translated, but not the name of a setting, or of a pool.
                    "53200" if hint(database.as_ref()).contains("max_pred_locks_per_transaction") => Fault::NoRoom,
                    "53200" if database.message().contains("RWConflictPool") => Fault::Conflict,
                    // query_canceled (the statement took too long)
                    "57014" => Fault::Lost(database.message().to_owned()),
                    // read_only_sql_transaction: the server was demoted; another connection may
                    // reach the new one. invalid_sql_statement_name, duplicate_prepared_statement:
                    // a pooler handed out another server connection. undefined_table,
                    // undefined_function, undefined_column: not migrated yet.
                    // feature_not_supported: serializable isolation on a standby, which may be
                    // promoted. object_not_in_prerequisite_state: the log of a standby, which may
                    // be promoted, has no place to write to. invalid_catalog_name,
                    // invalid_password, invalid_authorization: the database is not ready for us.
                    "55000" | "0A000" | "25006" | "26000" | "42P05" | "42P01" | "42883" | "42703" | "3D000"
                    | "28P01" | "28000" => Fault::Lost(database.message().to_owned()),
                    // internal_error, as a server says it that hands a COMMIT on to others: one of
                    // them refused it, or did not answer.
                    "XX000" if committing => Fault::LostInCommit(database.message().to_owned()),
                    // The same of a server that copied rows to another one, and passes on what that
                    // said, but not its code.
                    "XX000" if database.message().starts_with("could not serialize access") => Fault::Conflict,
                    // transaction_resolution_unknown
                    "08007" => Fault::LostInCommit(database.message().to_owned()),
                    _ if is_of_a_lost_server(&code) => lost(database.message().to_owned()),
                    _ => Fault::Failed(error),
                }
            }
            _ if is_of_a_lost_line(&error) => lost(error.to_string()),
            _ => Fault::Failed(error),
        }
    }
}

fn hint(error: &dyn DatabaseError) -> &str {
    error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint).unwrap_or_default()
}

/// Whether a migration that failed with this may succeed when it is tried again: each is a
/// transaction of its own, and what failed in it left nothing. Narrower than what a request tries
/// again: a table that is not there is no reason to wait here.
pub(super) fn may_migrate_later(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // Older replicas go on while a new one migrates: serialization_failure,
            // deadlock_detected, lock_not_available. read_only_sql_transaction: the server was
            // demoted.
            matches!(code.as_ref(), "40001" | "40P01" | "55P03" | "25006") || is_of_a_lost_server(&code)
        }
        _ => is_of_a_lost_line(error),
    }
}

/// Whether the server gives no connection because there are too many: of its own, of the role's or
/// of the database's.
pub(super) fn are_connections_used_up(error: &sqlx::Error) -> bool {
    // too_many_connections
    matches!(error, sqlx::Error::Database(database) if database.code().as_deref() == Some("53300"))
}

/// Whether it says that the server is not the one to write to.
pub(super) fn is_of_another_server(error: &sqlx::Error) -> bool {
    match error {
        // read_only_sql_transaction
        sqlx::Error::Database(database) => database.code().as_deref() == Some("25006"),
        sqlx::Error::Protocol(what) => what == IS_STANDBY || what == IS_READ_ONLY,
        _ => false,
    }
}

/// Whether it says that the database is in another history than this replica.
pub(super) fn is_of_another_history(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Protocol(what) if what == IS_OF_ANOTHER_HISTORY)
}

/// Whether a lock was waited for in vain.
pub(super) fn is_of_a_lock(error: &sqlx::Error) -> bool {
    // deadlock_detected, lock_not_available
    matches!(error, sqlx::Error::Database(database) if matches!(database.code().as_deref(), Some("40P01" | "55P03")))
}

/// connection_exception, insufficient_resources, operator_intervention, system_error,
/// idle_in_transaction_session_timeout
fn is_of_a_lost_server(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25P03"
}

fn is_of_a_lost_line(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}
