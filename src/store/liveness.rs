//! Signs of life: how an outage of the service is told from the silence of a client.
//!
//! A heartbeat decides only on a snapshot in which the last sign of life is fresh. If it is not, an outage is
//! recorded first, so that no lease is ever judged by a time in which nobody could renew it. A sign of life commits as a
//! heartbeat does, so that one which cannot be committed is none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::clock_watch::{ClockWatch, Reading, Step};
use super::{Store, StoreError, StoreOptions};
use crate::seeded_bugs::{SeededBug, active};

/// The shortest silence that is recorded. Groups with a short timeout are hurt by outages that others do not notice: one
/// counts for a lease from a quarter of the time that it was given for.
pub const SHORTEST_OUTAGE: Duration = Duration::from_millis(250);

/// How old a sign of life may be, beyond the time that its commit takes, for another one to be needless.
const FRESH: Duration = Duration::from_millis(30);

/// What is said where a sign of life waits for its own commit.
const NOT_COMMITTED: &str = "no heartbeat can be committed: a commit is waited for";

/// So many of the latest commits tell how long one takes: the shortest of them does. One that hung is no rule.
const COMMITS: usize = 3;

/// What a replica knows of the life of its database.
#[derive(Debug, Default)]
pub struct Life {
    known: Mutex<Known>,
    /// One sign at a time: whoever waits for it finds it given.
    noting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    clock: ClockWatch,
    commits: [Duration; COMMITS],
    /// When the last sign of life is known to have been committed, and what it noted.
    noted: Option<(Instant, DateTime<Utc>)>,
    /// Why none could be since.
    failed: Option<String>,
}

impl Life {
    /// How old the last sign of life may be for a decision to be made on it.
    ///
    /// It cannot be younger than its own commit takes. Where every commit takes long, and comes, the service is slow and not
    /// away; a commit that hangs where others took a moment is a silence.
    pub fn longest_silence(&self, options: &StoreOptions) -> Duration {
        options.outage_gap.min(SHORTEST_OUTAGE + 2 * self.commit_time())
    }

    /// Whether a clock that has just been read is ahead of the time that passed, so that leases would end early by it.
    pub fn is_ahead(&self, now: DateTime<Utc>) -> bool {
        self.known().clock.is_ahead(now.timestamp_micros(), Instant::now())
    }

    /// How long ago the last sign of life was given that this replica knows of.
    pub fn age(&self) -> Option<Duration> {
        self.known().noted.map(|(at, _)| at.elapsed())
    }

    fn commit_time(&self) -> Duration {
        self.known().commits.iter().min().copied().unwrap_or_default()
    }

    fn noted_since(&self, instant: Instant) -> Option<DateTime<Utc>> {
        self.known().noted.and_then(|(at, noted)| (at >= instant).then_some(noted))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Notes that heartbeats can be committed; records an outage if the last sign of life is longer ago than the longest silence,
    /// and a clock that was set. Returns the instant noted.
    ///
    /// Not serializable: every heartbeat reads this row, and a serializable writer would conflict with them all.
    pub async fn note_alive(&self) -> Result<DateTime<Utc>, StoreError> {
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
        let step = self.life.known().clock.step_in(reading);
        let silence = self.life.longest_silence(self.options());
        let fresh = FRESH + self.life.commit_time();
        let statement = statement(self.options().outage_gap, silence, fresh, step);
        let began = Instant::now();
        let noted_us = self.ask_in_one_message("note_alive", statement).await?;
        let took = began.elapsed();
        let noted = DateTime::from_timestamp_micros(noted_us)
            .ok_or_else(|| StoreError::Inconsistent("the database's clock is out of range".to_owned()))?;
        if let Some(step) = step {
            tracing::warn!(
                seconds = step.most_us as f64 / 1e6,
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

    /// Why no heartbeat can be committed; `None` where the last sign of life is younger than the gap, or one can be given.
    pub(super) async fn why_nothing_commits(&self, patience: Duration) -> Option<String> {
        if self.life.age().is_some_and(|age| age <= self.options().outage_gap) {
            return None;
        }
        let failed = match tokio::time::timeout(patience, self.note_alive()).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => self.life.known().failed.clone().unwrap_or_else(|| NOT_COMMITTED.to_owned()),
        };
        // What others wait for says more than what we waited in vain for.
        Some(match tokio::time::timeout(patience, self.see_what_is_waited_for()).await {
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
            .read("see_what_is_waited_for", |connection| {
                Box::pin(async move { Ok(sqlx::query_scalar(LOOK).fetch_one(connection).await?) })
            })
            .await
    }

    /// Before the sign: what another replica decides by must not have been noted by a clock that nobody had compared.
    async fn read_clock(&self) -> Result<Reading, StoreError> {
        let asked = Instant::now();
        let clock_us = self
            .ask_in_one_message(
                "read_clock",
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint".to_owned(),
            )
            .await?;
        Ok(Reading { clock_us, asked, answered: Instant::now() })
    }

    /// Through a pooler other reads are a BEGIN, a statement and a COMMIT, and a replica that is paused between two of them would
    /// keep the row from all others until the server ends it, which would look like an outage.
    async fn ask_in_one_message(&self, name: &'static str, statement: String) -> Result<i64, StoreError> {
        let store = self.background().without_transactions_around_reads();
        let asked = store.read(name, move |connection| {
            let statement = AssertSqlSafe(statement.clone());
            Box::pin(async move { Ok(sqlx::raw_sql(statement).fetch_one(connection).await?.try_get::<i64, _>(0)?) })
        });
        asked.await.map_err(|error| match error {
            // A lock is waited for that every heartbeat needs: the database is as good as gone.
            StoreError::Contended { .. } => {
                StoreError::Unavailable("no heartbeat can be committed: a lock is waited for".to_owned())
            }
            other => other,
        })
    }
}

fn statement(gap: Duration, silence: Duration, fresh: Duration, step: Option<Step>) -> String {
    let (gap_us, silence_us, fresh_us) = (gap.as_micros(), silence.as_micros(), fresh.as_micros());
    let step = match step {
        None => "NULL, NULL, NULL".to_owned(),
        Some(Step { compared_at_us, least_us, most_us }) => format!(
            "'epoch'::timestamptz + {compared_at_us} * interval '1 us', {least_us} * interval '1 us', {most_us} * interval '1 us'"
        ),
    };
    let durability = match active(SeededBug::SignOfLifeNotDurable) {
        true => " FROM set_config('synchronous_commit', 'off', true)",
        false => "",
    };
    format!(
        "SELECT (extract(epoch FROM note_service_alive(
            {gap_us} * interval '1 us', {silence_us} * interval '1 us', {fresh_us} * interval '1 us', {step}
        )) * 1000000)::bigint{durability}"
    )
}
