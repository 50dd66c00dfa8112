//! The one way in for whatever decides or changes: a named SERIALIZABLE transaction, which may run
//! several times before it commits once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use tracing::Instrument as _;

use super::backoff::{pause, pause_elsewhere};
use super::connection::Connection;
use super::error::{Stop, StoreError, WorkError};
use super::fault::{self, Fault};
use super::kept::{Keeping, Kept};
use super::options::Pooler;
use super::predicate_locks::NO_ROOM;
use super::work::{LostCommit, Scope, Work};
use super::{Store, notices, spread};
use crate::metrics::{self, Outcome};
use crate::telemetry;

/// What is said of what was done on a connection while the replica entered another history.
pub(super) const LEFT_HISTORY: &str = "the database entered another history meanwhile";

/// What makes a commit wait for a synchronous standby: a record in the log of the server, and no
/// row.
pub(super) const WRITE_SOMETHING: &str = "SELECT pg_logical_emit_message(true, 'client-failover', '')";

impl Store {
    /// Runs `work` in one SERIALIZABLE transaction and commits it.
    ///
    /// A conflict, which may come from any statement and from COMMIT itself, runs it again from the
    /// start with a new snapshot and a new reading of the clock, after a short random wait; so does
    /// a broken connection, on another one. What was never committed was never decided. Ends within
    /// the operation timeout.
    pub async fn serializable<'e, T, R: From<StoreError>>(
        &self,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<T, R> {
        let deadline = Instant::now() + self.options.operation_timeout;
        self.serializable_on(&mut Kept::nothing(), deadline, u32::MAX, name, lost_commit, work).await
    }

    /// As [`Store::serializable`], until a deadline and for so many conflicts at most, on a
    /// connection that the caller keeps from one transaction to the next.
    pub async fn serializable_on<'e, T, R: From<StoreError>>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<T, R> {
        let began = Instant::now();
        let attempts = self.attempts(kept, deadline, max_conflicts, name, lost_commit, work);
        let ended = attempts.instrument(telemetry::transaction_span(name)).await;
        let outcome = match &ended {
            Ok(Ok(_)) => Outcome::Committed,
            Ok(Err(_)) => Outcome::Refused,
            Err(StoreError::Contended { .. }) => Outcome::Contended,
            Err(StoreError::Unavailable(_)) => Outcome::Unavailable,
            Err(StoreError::Inconsistent(_) | StoreError::Failed { .. }) => Outcome::Failed,
        };
        metrics::transaction_ended(name, outcome, began.elapsed());
        ended.unwrap_or_else(|error| Err(error.into()))
    }

    async fn attempts<'e, T, R>(
        &self,
        kept: &mut Kept,
        deadline: Instant,
        max_conflicts: u32,
        name: &'static str,
        lost_commit: LostCommit,
        mut work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<Result<T, R>, StoreError> {
        let mut conflicts = 0;
        let mut met_others = false;
        let mut lost = 0;
        let mut elsewhere = 0;
        let mut had_no_room = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt(name, kept, left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                Fault::AnotherHistory => {
                    self.enter_history(left).await?;
                    elsewhere += 1;
                    pause_elsewhere(elsewhere, deadline).await;
                }
                Fault::ServiceWasAway => match tokio::time::timeout(left, self.note_alive()).await {
                    Ok(noted) => drop(noted?),
                    Err(_) => return Err(StoreError::Unavailable(fault::AWAY.to_owned())),
                },
                fault @ (Fault::Conflict | Fault::Held) => {
                    metrics::transaction_retried(name);
                    conflicts += 1;
                    let met = matches!(fault, Fault::Conflict);
                    kept.conflicts += u32::from(met);
                    met_others |= met;
                    if conflicts >= max_conflicts || left.is_zero() {
                        let (attempts, held) = (conflicts, !met_others);
                        return Err(StoreError::Contended { transaction: name, attempts, held });
                    }
                    pause(conflicts, deadline).await;
                }
                Fault::NoRoom => {
                    metrics::transaction_retried(name);
                    had_no_room = true;
                    self.warn_of_oldest_transaction();
                    lost += 1;
                    pause(lost, deadline).await;
                    // One more attempt would be cut short, and cost a good connection.
                    if Instant::now() >= deadline {
                        return Err(StoreError::Unavailable(NO_ROOM.to_owned()));
                    }
                }
                Fault::LostInCommit(cause) if lost_commit == LostCommit::Report => {
                    return Err(StoreError::Unavailable(format!(
                        "the connection broke during COMMIT ({cause}); the change is whole or was not made"
                    )));
                }
                Fault::Lost(cause) | Fault::LostInCommit(cause) => {
                    lost += 1;
                    if left.is_zero() {
                        // The time ran out in the middle of one more attempt; what was wrong before
                        // says more than that.
                        let cause = if had_no_room { NO_ROOM.to_owned() } else { cause };
                        return Err(StoreError::Unavailable(cause));
                    }
                    pause(lost, deadline).await;
                }
                Fault::Inconsistent(what) => return Err(StoreError::Inconsistent(what)),
                Fault::Failed(cause) => return Err(StoreError::Failed { transaction: name, cause: cause.into() }),
            }
        }
    }

    /// One attempt of a serializable transaction. A connection that is not known to be good is
    /// closed, never handed back.
    async fn attempt<'e, T, R>(
        &self,
        name: &'static str,
        kept: &mut Kept,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T, Stop<R>>,
    ) -> Result<Result<T, R>, Fault> {
        let (mut connection, has_begun) = match kept.take() {
            Keeping::Nothing => (self.connection(time_left).await?, false),
            Keeping::Idle(connection) => (connection, false),
            Keeping::Begun(connection) | Keeping::InTurn(connection) => (connection, true),
        };
        let begin = AssertSqlSafe(self.begins().serializable.clone());
        // A pooler would have to hold a connection of the server for a transaction that is begun
        // and not used.
        let begins_next = kept.keeps && self.options.pooler == Pooler::None;
        let commit = AssertSqlSafe(if begins_next {
            self.begins().commit_and_serializable.clone()
        } else {
            Arc::from("COMMIT")
        });
        // Whether COMMIT was sent: after that, a broken connection leaves the outcome unknown.
        let mut committing = false;
        let epoch = self.life.epoch();
        let uncertain = self.line.uncertain_commits();
        let run = async {
            if !has_begun {
                sqlx::raw_sql(begin).execute(&mut *connection).await?;
            }
            if connection.is_spread() {
                spread::set_for_nodes(&mut connection).await?;
            }
            let done = match work(&mut connection, Scope::new()).await {
                Ok(done) => Ok(done),
                Err(Stop::Refused(refusal)) => Err(refusal),
                Err(Stop::Failed(error)) => return Err(error),
            };
            if uncertain.is_some() {
                // A commit that writes nothing waits for no standby.
                sqlx::raw_sql(WRITE_SOMETHING).execute(&mut *connection).await?;
            }
            committing = true;
            let commit = sqlx::raw_sql(commit).execute(&mut *connection);
            match notices::listening_for_warnings(commit).await {
                (Ok(_), warning) => Ok((done, warning)),
                (Err(error), _) => Err(WorkError::from(error)),
            }
        };
        let outcome = tokio::time::timeout(time_left, run).await;
        let fault = match outcome {
            // Nobody waits for the standby any more: it is committed here, and whether it survives
            // this server is unknown.
            Ok(Ok((_, Some(warning)))) => {
                tracing::warn!(transaction = name, warning, "a COMMIT is not known to be replicated");
                Fault::LostInCommit(warning)
            }
            // Committed where nobody looks any more, it may be.
            Ok(Ok(_)) if self.life.epoch() != epoch => Fault::LostInCommit(LEFT_HISTORY.to_owned()),
            Ok(Ok((done, _))) => {
                if let Some(uncertain) = uncertain {
                    self.line.note_certain_commit(uncertain);
                }
                if !kept.keeps {
                    connection.hand_back();
                } else if begins_next {
                    kept.keeping = Keeping::Begun(connection);
                } else {
                    kept.keeping = Keeping::Idle(connection);
                }
                return Ok(done);
            }
            Ok(Err(error)) => {
                connection.note(&error);
                Fault::of(error, committing)
            }
            Err(_) if committing => Fault::LostInCommit("no answer to COMMIT in time".to_owned()),
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if matches!(fault, Fault::LostInCommit(_)) {
            self.line.note_uncertain_commit();
        }
        if matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_)) {
            connection.suspect_others();
        } else if let Some(connection) = connection.roll_back().await {
            if kept.keeps { kept.keeping = Keeping::Idle(connection) } else { connection.hand_back() }
        }
        Err(fault)
    }

    /// Has a sign of life say in which history the database is.
    pub(super) async fn enter_history(&self, time_left: Duration) -> Result<(), StoreError> {
        match tokio::time::timeout(time_left, self.note_alive()).await {
            Ok(noted) => noted.map(drop),
            Err(_) => Err(StoreError::Unavailable(fault::ELSEWHERE.to_owned())),
        }
    }
}
