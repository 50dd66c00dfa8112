//! Signs of life: how an outage of the service is told from the silence of a client.
//!
//! A heartbeat decides only on a snapshot in which the last sign of life is fresh. If it is not, an
//! outage is recorded first, so that no lease is ever judged by a time in which nobody could renew
//! it. A sign of life commits as a heartbeat does, so that one which cannot be committed is none.
//! It also says in which history of the database it is given: see [`super::histories`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::clock_watch::{Reading, Step};
use super::connection::Connection;
use super::error::{StoreError, WorkError};
use super::histories::{DatabaseHistory, Destination, Remembered};
use super::life::COMMITS;
use super::transaction::WRITE_SOMETHING;
use super::{Store, fault, notices};
use crate::metrics;

/// How old a sign of life may be, beyond the time that its commit takes, for another one to be
/// needless.
const FRESH: Duration = Duration::from_millis(30);

/// From when on after this replica's last sign of life its next one is late, beyond the time that
/// commits take. Something may have happened meanwhile that it has not met yet.
const LATE: Duration = Duration::from_millis(100);

/// What is said where a sign of life waits for its own commit.
const NOT_COMMITTED: &str = "no heartbeat can be committed: a commit is waited for";

impl Store {
    /// Notes that heartbeats can be committed; records an outage if the last sign of life is longer
    /// ago than the longest silence, and a clock that was set. Returns the instant noted.
    ///
    /// Not serializable: every heartbeat reads this row, and a serializable writer would conflict
    /// with them all.
    pub async fn note_alive(&self) -> Result<DateTime<Utc>, StoreError> {
        if let Some(store) = &self.signs_over {
            return Box::pin(store.note_alive()).await;
        }
        let asked = Instant::now();
        let _noting = self.life.noting.lock().await;
        if let Some(noted) = self.life.noted_since(asked) {
            return Ok(noted);
        }
        let outcome = self.give_sign().await;
        let mut known = self.life.known();
        match &outcome {
            Ok(noted) => {
                known.noted = Some((Instant::now(), *noted));
                known.failed = None;
            }
            Err(error) => known.failed = Some(error.to_string()),
        }
        outcome
    }

    async fn give_sign(&self) -> Result<DateTime<Utc>, StoreError> {
        let reading = self.read_clock().await?;
        if self.is_spread() {
            self.note_nodes_in_question().await?;
        }
        let step = self.life.known().clock.step_in(reading);
        let silence = self.life.longest_silence(self.options());
        let fresh = FRESH + self.life.commit_time();
        let spans = Spans { gap: self.options().outage_gap, silence, fresh, step };
        let remembered = self.life.remembered();
        let trusts = self.options().database_history == DatabaseHistory::Trusted;
        let newest = (self.life.newest_event.load(Ordering::Acquire), self.life.highest_term.load(Ordering::Acquire));
        let began = Instant::now();
        let sign = self.write_sign(move |place| statement(&spans, place, remembered, newest, trusts)).await?;
        let took = began.elapsed();
        let noted_us = sign.noted_us;
        let noted = DateTime::from_timestamp_micros(noted_us)
            .ok_or_else(|| StoreError::Inconsistent("the database's clock is out of range".to_owned()))?;
        let is_another = self.life.enter(sign.history, sign.signs);
        if sign.is_new || is_another {
            sign.say();
        }
        if let Some(step) = step {
            tracing::warn!(
                seconds = step.max_us as f64 / 1e6,
                "the database's clock was set forward: an outage is recorded"
            );
        }
        let mut known = self.life.known();
        known.clock.take_in(reading);
        // An older one is another replica's, and nothing was committed.
        if noted_us >= reading.clock_us {
            known.commits.rotate_left(1);
            known.commits[COMMITS - 1] = took;
        }
        Ok(noted)
    }

    /// Why no heartbeat can be committed; `None` where the last sign of life is younger than the
    /// gap, or one can be given.
    pub(super) async fn why_nothing_commits(&self, timeout: Duration) -> Option<String> {
        if self.life.age().is_some_and(|age| age <= self.options().outage_gap) {
            return None;
        }
        let failed = match tokio::time::timeout(timeout, self.note_alive()).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => self.life.known().failed.clone().unwrap_or_else(|| NOT_COMMITTED.to_owned()),
        };
        // What others wait for says more than what we waited in vain for.
        Some(match tokio::time::timeout(timeout, self.see_what_is_waited_for()).await {
            Ok(Ok(Some(what))) => format!("no heartbeat can be committed: {what}"),
            _ => failed,
        })
    }

    /// What the sessions of the service wait for in the database, for people to read.
    async fn see_what_is_waited_for(&self) -> Result<Option<String>, StoreError> {
        const LOOK: &str = "
            SELECT coalesce(
                (SELECT 'commits wait for a synchronous standby' FROM pg_stat_activity
                    WHERE application_name = 'client-failover' AND wait_event = 'SyncRep' LIMIT 1),
                (SELECT 'commits wait for the disk' FROM pg_stat_activity
                    WHERE application_name = 'client-failover' AND state_change < clock_timestamp() - interval '1 s'
                        AND (wait_event_type = 'IO' OR wait_event = 'WALWrite') LIMIT 1),
                (SELECT 'process ' || pid || ' of the database holds a lock on ' || relation::regclass FROM pg_locks
                    WHERE granted AND locktype = 'relation' AND pid <> pg_backend_pid()
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND relation IN ('heartbeats'::regclass, 'sessions'::regclass, 'groups'::regclass)
                        AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') LIMIT 1))";
        self.background()
            .read("see_what_is_waited_for", |connection, _| {
                Box::pin(async move { Ok(sqlx::query_scalar(LOOK).fetch_one(connection).await?) })
            })
            .await
    }

    /// Before the sign: what another replica decides by must not have been noted by a clock that
    /// nobody had compared.
    async fn read_clock(&self) -> Result<Reading, StoreError> {
        let asked = Instant::now();
        let store = self.background().for_signs_of_life();
        let clock_us = store.read("read_clock", |connection, _| {
            let question = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock_us";
            Box::pin(
                async move { Ok(sqlx::raw_sql(question).fetch_one(connection).await?.try_get::<i64, _>("clock_us")?) },
            )
        });
        let clock_us = clock_us.await?;
        Ok(Reading { clock_us, asked, answered: Instant::now() })
    }

    /// Writes a sign, and waits until it lasts.
    ///
    /// In one message: through a pooler other reads are a BEGIN, a statement and a COMMIT, and a
    /// replica that is paused between two of them would keep the row from all others until the
    /// server ends it, which would look like an outage.
    async fn write_sign(&self, statement: impl Fn(Option<Destination>) -> String) -> Result<Sign, StoreError> {
        let store = self.background().for_signs_of_life();
        let written = store.autocommit("note_alive", |connection, _| {
            let statement = statement(connection.place());
            Box::pin(async move {
                let life = connection.life();
                // A sign whose wait was ended, however that came, can be seen and may not last.
                // Whoever found it fresh would go by it without having waited for anything. So one
                // more commit is waited for first; and also where this one comes late: of several
                // replicas, each would give such a sign once, the last of them when the others
                // have known for long.
                let is_late = life.age().is_none_or(|age| age > LATE + 3 * life.commit_time());
                if (is_late || life.is_sign_uncertain.load(Ordering::Acquire))
                    && let Err(unsure) = commit(connection, WRITE_SOMETHING.to_owned()).await?
                {
                    return Ok(Err(unsure));
                }
                life.is_sign_uncertain.store(true, Ordering::Release);
                let written = commit(connection, statement).await;
                let is_certain = match &written {
                    Ok(lasts) => lasts.is_ok(),
                    // It was rolled back.
                    Err(WorkError::Statement(error)) => fault::is_of_a_lock(error),
                    Err(_) => false,
                };
                life.is_sign_uncertain.store(!is_certain, Ordering::Release);
                Ok(match written? {
                    Ok(row) => Ok(Sign::read(&row)?),
                    Err(unsure) => Err(unsure),
                })
            })
        });
        match written.await {
            Ok(Ok(sign)) => Ok(sign),
            Ok(Err(Unsure(warning))) => {
                Err(StoreError::Unavailable(format!("no heartbeat can be committed for certain: {warning}")))
            }
            // A lock is waited for that every heartbeat needs: the database is as good as gone.
            Err(StoreError::Contended { .. }) => {
                Err(StoreError::Unavailable("no heartbeat can be committed: a lock is waited for".to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Why what was committed may not last: the server's warning.
struct Unsure(String);

/// Runs a statement with one row, which commits by itself, to its end: the warning that nobody
/// waits for a standby any more comes after the row.
async fn commit(connection: &mut Connection, statement: String) -> Result<Result<PgRow, Unsure>, WorkError> {
    let run = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(&mut *connection);
    let (rows, warning) = notices::listening_for_warnings(run).await;
    let row = rows?.pop().ok_or(sqlx::Error::RowNotFound)?;
    Ok(warning.map_or(Ok(row), |warning| Err(Unsure(warning))))
}

/// What is said of a history that something was fenced off at, and of one that is trusted.
const FENCED: &str = "the database is in another history, in which the latest grants may be missing: terms go on above the base, and \
    for one failover timeout Primary is only who says that it acts";
const TRUSTED: &str = "the database is on another timeline, and is trusted to have all that was committed";

/// What a sign of life came to.
struct Sign {
    noted_us: i64,
    signs: i64,
    history: Uuid,
    reason: String,
    base: i64,
    is_trusted: bool,
    /// Whether this sign noted it.
    is_new: bool,
    was_in: Option<String>,
    is_in: Option<String>,
}

impl Sign {
    fn read(row: &PgRow) -> Result<Sign, sqlx::Error> {
        Ok(Sign {
            noted_us: row.try_get("noted_us")?,
            signs: row.try_get("signs_given")?,
            history: row.try_get("of_history")?,
            reason: row.try_get("for_reason")?,
            base: row.try_get("at_base")?,
            is_trusted: row.try_get("trusted")?,
            is_new: row.try_get("is_new")?,
            was_in: row.try_get("was_in")?,
            is_in: row.try_get("is_in")?,
        })
    }

    /// Tells of a history that this replica enters from another one, or that it has noted.
    fn say(&self) {
        const FIRST: &str = "first";
        let Sign { history, reason, base, .. } = self;
        if reason == FIRST {
            tracing::info!(%history, "the history of the database is noted from now on");
            return;
        }
        let what = if self.is_trusted { TRUSTED } else { FENCED };
        match (&self.was_in, &self.is_in) {
            (Some(was), Some(is)) => tracing::warn!(reason, %history, was, is, base, "{what}"),
            _ => tracing::warn!(reason, %history, base, "{what}; another replica has noted it"),
        }
        metrics::history_entered(reason);
    }
}

/// How long what counts as silence, and what the clock did.
struct Spans {
    gap: Duration,
    silence: Duration,
    fresh: Duration,
    step: Option<Step>,
}

fn statement(
    spans: &Spans,
    place: Option<Destination>,
    remembered: Option<Remembered>,
    (newest_event, highest_term): (i64, i64),
    trusts_timelines: bool,
) -> String {
    let (gap_us, silence_us, fresh_us) = (spans.gap.as_micros(), spans.silence.as_micros(), spans.fresh.as_micros());
    // The server wrote these numbers itself; what is no number is asked for anew.
    let place = match place.filter(|place| place.server.bytes().all(|byte| byte.is_ascii_digit())) {
        None => "NULL, NULL".to_owned(),
        Some(Destination { server, database }) => format!("'{server}', {database}"),
    };
    let remembered = match remembered {
        None => "NULL, NULL".to_owned(),
        Some(Remembered { history, signs, .. }) => format!("'{history}', {signs}"),
    };
    let step = match spans.step {
        None => "NULL, NULL, NULL".to_owned(),
        Some(Step { compared_at_us, min_us, max_us }) => format!(
            "'epoch'::timestamptz + {compared_at_us} * interval '1 us', {min_us} * interval '1 us', {max_us} * interval '1 us'"
        ),
    };
    format!(
        "SELECT (extract(epoch FROM alive) * 1000000)::bigint AS noted_us, signs_given, of_history, for_reason, at_base,
            trusted, is_new, was_in, is_in
        FROM note_service_alive(
            {gap_us} * interval '1 us', {silence_us} * interval '1 us', {fresh_us} * interval '1 us', {step},
            {place}, {remembered}, {newest_event}, {highest_term}, {trusts_timelines}
        )"
    )
}
