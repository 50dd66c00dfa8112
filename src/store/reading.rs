//! What is done outside of serializable transactions: reads, which are tracked by nothing and
//! conflict with nothing, and statements that commit by themselves.

use std::time::{Duration, Instant};

use super::Store;
use super::backoff::{pause, pause_elsewhere};
use super::connection::{Connection, ReadConnection};
use super::error::StoreError;
use super::fault::{self, Fault};
use super::histories::Of;
use super::predicate_locks::NO_ROOM;
use super::transaction::LEFT_HISTORY;
use super::work::{Scope, Work};

/// What something is.
#[derive(Clone, Copy)]
enum Access {
    Reads,
    Writes,
}

impl Store {
    /// Runs a read outside serializable isolation, on another connection if one proves broken.
    pub async fn read<'e, T>(
        &self,
        name: &'static str,
        mut work: impl for<'c> FnMut(&'c mut ReadConnection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        self.outside_serializable(name, Access::Reads, |connection, scope| work(connection, scope)).await
    }

    /// Runs one statement that changes something, or locks it for a moment, and commits by itself.
    /// For what is done again where it fails, and decides on no role: where the connection breaks,
    /// it is.
    pub async fn autocommit<'e, T>(
        &self,
        name: &'static str,
        work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        self.outside_serializable(name, Access::Writes, work).await
    }

    async fn outside_serializable<'e, T>(
        &self,
        name: &'static str,
        access: Access,
        mut work: impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.options.operation_timeout;
        let mut lost = 0;
        let mut elsewhere = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.attempt_outside_serializable(access, left, &mut work).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                Fault::AnotherHistory => {
                    Box::pin(self.enter_history(left)).await?;
                    elsewhere += 1;
                    pause_elsewhere(elsewhere, deadline).await;
                }
                // Boxed because noting life is itself a read of this kind.
                Fault::ServiceWasAway => match tokio::time::timeout(left, Box::pin(self.note_alive())).await {
                    Ok(noted) => drop(noted?),
                    Err(_) => return Err(StoreError::Unavailable(fault::AWAY.to_owned())),
                },
                Fault::NoRoom => {
                    lost += 1;
                    pause(lost, deadline).await;
                    if Instant::now() >= deadline {
                        return Err(StoreError::Unavailable(NO_ROOM.to_owned()));
                    }
                }
                Fault::Conflict | Fault::Held | Fault::Lost(_) | Fault::LostInCommit(_) if !left.is_zero() => {
                    lost += 1;
                    pause(lost, deadline).await;
                }
                fault @ (Fault::Conflict | Fault::Held) => {
                    let held = matches!(fault, Fault::Held);
                    return Err(StoreError::Contended { transaction: name, attempts: lost, held });
                }
                Fault::Lost(cause) | Fault::LostInCommit(cause) => {
                    return Err(StoreError::Unavailable(cause));
                }
                Fault::Inconsistent(what) => return Err(StoreError::Inconsistent(what)),
                Fault::Failed(cause) => return Err(StoreError::Failed { transaction: name, cause: cause.into() }),
            }
        }
    }

    async fn attempt_outside_serializable<'e, T>(
        &self,
        access: Access,
        time_left: Duration,
        work: &mut impl for<'c> FnMut(&'c mut Connection, Scope<'c, 'e>) -> Work<'c, T>,
    ) -> Result<T, Fault> {
        let epoch = self.life.epoch();
        let mut connection = self.connection(time_left).await?;
        let run = async {
            if !self.reads_in_transactions {
                return work(&mut connection, Scope::new()).await;
            }
            let begin = match access {
                Access::Reads => &self.begins().read,
                Access::Writes => &self.begins().autocommit,
            };
            self.line.admission().admit_beginning(connection.raw(), begin).await?;
            let done = work(&mut connection, Scope::new()).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
            Ok(done)
        };
        let fault = match tokio::time::timeout(time_left, run).await {
            // What it says may be of a database that nobody goes by any more.
            Ok(Ok(_)) if self.life.epoch() != epoch && self.of == Of::KnownHistory => {
                Fault::Lost(LEFT_HISTORY.to_owned())
            }
            Ok(Ok(done)) => {
                connection.hand_back();
                return Ok(done);
            }
            Ok(Err(error)) => {
                connection.note(&error);
                Fault::of(error, false)
            }
            Err(_) => Fault::Lost("no answer in time".to_owned()),
        };
        if matches!(fault, Fault::Lost(_) | Fault::LostInCommit(_)) {
            connection.suspect_others();
        } else if self.of == Of::AnyHistory {
            // Nobody has seen in which one it is.
            drop(connection);
        } else if !self.reads_in_transactions {
            connection.hand_back();
        } else if let Some(connection) = connection.roll_back().await {
            connection.hand_back();
        }
        Err(fault)
    }
}
