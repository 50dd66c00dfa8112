//! Hearing of commits with new events.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Acquire as _, AssertSqlSafe};

use super::Store;
use super::notify::CHANNEL;
use super::options::Pooler;
use super::pool::Line;

impl Store {
    /// A connection that hears of commits with new events. Refused through a pooler: LISTEN belongs
    /// to a session, and one that the pooler's connections change under would seem to listen and
    /// hear nothing.
    pub async fn listen(&self) -> Result<Ears, sqlx::Error> {
        if self.options.pooler == Pooler::Transaction {
            let why = "LISTEN does not go through a pooler: give database-direct-url";
            return Err(sqlx::Error::Protocol(why.to_owned()));
        }
        if self.line.are_connections_few() {
            return Err(sqlx::Error::Protocol(
                "the database has few connections, and others need them more".to_owned(),
            ));
        }
        let timeout = self.options.operation_timeout;
        let listener = self.line.first(|options| async {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(timeout).connect_lazy_with(options);
            let mut listener = PgListener::connect_with(&pool).await?;
            self.line.admission().admit(listener.acquire().await?).await?;
            // A new one is made by whoever knows where the database is then.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        });
        let listener = tokio::time::timeout(timeout, listener).await.unwrap_or_else(|_| Err(no_answer()))?;
        Ok(Ears { listener, line: self.line.clone(), timeout: timeout / 2 })
    }
}

/// Hears of commits with new events.
pub struct Ears {
    listener: PgListener,
    line: Arc<Line>,
    timeout: Duration,
}

impl Ears {
    /// Waits until there may be new events, or for a while: then it makes sure that it would have
    /// heard. An error means that these ears are of no more use.
    pub async fn hear(&mut self) -> Result<(), sqlx::Error> {
        let heard = tokio::select! {
            heard = tokio::time::timeout(self.timeout, self.listener.try_recv()) => heard,
            () = self.line.room_is_wanted() => {
                return Err(sqlx::Error::Protocol("its connection is needed for something else".to_owned()));
            }
        };
        match heard {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Err(sqlx::Error::Protocol("the connection was lost".to_owned())),
            Ok(Err(error)) => return Err(error),
            // A line that went dark is as silent as one on which nothing happens.
            Err(_) => {
                let asked = async {
                    let connection = self.listener.acquire().await?;
                    self.line.admission().admit(connection).await?;
                    // Once more costs nothing, and shows in pg_stat_activity what the connection is
                    // for.
                    sqlx::raw_sql(AssertSqlSafe(format!("LISTEN {CHANNEL}"))).execute(connection).await
                };
                tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(|_| Err(no_answer()))?;
            }
        }
        // One look finds whatever a burst of commits has written.
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer"))
}
