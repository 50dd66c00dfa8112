//! The way to one server, which all pools of a store share.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::Notify;

use super::{Change, Inner, ROOM_PAUSE, ROOM_TRIES, Rank, lock};
use crate::metrics;
use crate::store::admission::Admission;
use crate::store::error::IS_OF_ANOTHER_HISTORY;
use crate::store::fault;
use crate::store::histories::{Destination, Of};
use crate::store::hosts::Hosts;

/// How often pools are tended.
const TENDING_INTERVAL: Duration = Duration::from_secs(1);

/// For how long after a refusal connections count as few, and how often one more is tried then.
const FEW_FOR: Duration = Duration::from_secs(10);

/// How many connections the server should have to spare: what another replica needs to begin with.
const SPARE_CONNECTIONS: i64 = 3;

/// For how long every host that answers must have been in another history before this replica
/// follows one there. The one that it worked on may only be slow to answer, beside a former primary
/// that woke up.
const STRANGERS_AFTER: Duration = Duration::from_secs(10);

/// The way to one server, and what is known of it. All pools of a store share it.
pub struct Line {
    hosts: Hosts,
    pub(super) admission: Admission,
    /// How long a look may take.
    pub(super) timeout: Duration,
    /// Raised whenever all connections made so far are to be left.
    pub(super) generation: AtomicU64,
    /// Connections that were not seen well since then are looked at before use.
    pub(super) suspected_at: Mutex<Option<Instant>>,
    refused_at: Mutex<Option<Instant>>,
    /// Since when no host is found that has been in the history that this replica works in, though
    /// others answer.
    strangers_since: Mutex<Option<Instant>>,
    pub(super) few_left: AtomicBool,
    /// Told when the connection that listens is to make room.
    room_wanted: Notify,
    pools: Mutex<Vec<Weak<Inner>>>,
    is_closed: AtomicBool,
    /// How many commits of this process may not have been replicated, and how many of them are
    /// known to be by now.
    uncertain_commits: AtomicU64,
    certain_commits: AtomicU64,
}

impl Line {
    /// A line to one of the hosts. Must be called within a tokio runtime.
    pub fn new(hosts: Hosts, admission: Admission, timeout: Duration) -> Arc<Line> {
        let line = Arc::new(Line {
            hosts,
            admission,
            timeout,
            generation: AtomicU64::new(0),
            suspected_at: Mutex::default(),
            refused_at: Mutex::default(),
            strangers_since: Mutex::default(),
            few_left: AtomicBool::new(false),
            room_wanted: Notify::new(),
            pools: Mutex::default(),
            is_closed: AtomicBool::new(false),
            uncertain_commits: AtomicU64::new(0),
            certain_commits: AtomicU64::new(0),
        });
        tokio::spawn(tend(Arc::downgrade(&line)));
        line
    }

    /// Every connection that was made so far is closed, not used: those in use when they are given
    /// back.
    pub fn leave(&self) {
        self.leave_generation(self.generation.load(Ordering::Acquire));
    }

    /// The same, unless somebody else did meanwhile.
    pub(super) fn leave_generation(&self, generation: u64) {
        let next = generation + 1;
        if self.generation.compare_exchange(generation, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            for pool in self.pools() {
                pool.idle().clear();
            }
        }
    }

    /// Something did not answer: whoever is idle is looked at before use.
    pub fn suspect(&self) {
        *lock(&self.suspected_at) = Some(Instant::now());
    }

    /// A commit may be on this server alone: until another one was waited for, nobody is told of
    /// what they find there.
    pub fn note_uncertain_commit(&self) {
        self.uncertain_commits.fetch_add(1, Ordering::AcqRel);
    }

    /// How many commits are uncertain that were not followed by one that is certain, and so covers
    /// them.
    pub fn uncertain_commits(&self) -> Option<u64> {
        let uncertain = self.uncertain_commits.load(Ordering::Acquire);
        (uncertain > self.certain_commits.load(Ordering::Acquire)).then_some(uncertain)
    }

    /// A commit was waited for that came after these.
    pub fn note_certain_commit(&self, uncertain: u64) {
        self.certain_commits.fetch_max(uncertain, Ordering::AcqRel);
    }

    /// A new connection outside the pools, for what needs a session of its own.
    pub async fn connect_apart(&self) -> Result<PgConnection, sqlx::Error> {
        let mut tries = 0;
        loop {
            match self.connect(&|options| options, Of::AnyHistory).await {
                Err(error) if fault::are_connections_used_up(&error) && tries < ROOM_TRIES => {
                    self.note_refusal();
                    self.make_room(Rank::Upkeep).await;
                    tries += 1;
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                connected => return connected.map(|(connection, _)| connection),
            }
        }
    }

    /// Opens a client of its own at the first host at which it can be opened. It has to look at
    /// what it connects to.
    pub async fn first<T, F>(&self, open: impl Fn(PgConnectOptions) -> F) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        self.hosts
            .first(|options| {
                let opened = self.admission.shape(options).map(&open);
                async move { opened?.await }
            })
            .await
    }

    /// What connections have to pass.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Where any history will do, and there are several hosts, one that has been in the history
    /// that this replica works in comes first: a former primary that wakes up must not be followed
    /// because it answers sooner than its successor.
    pub(super) async fn connect(
        &self,
        change: &Change,
        of: Of,
    ) -> Result<(PgConnection, Option<Destination>), sqlx::Error> {
        if of != Of::AnyHistory || !self.hosts.are_several() {
            return self.connect_to(change, of, &AtomicBool::default()).await;
        }
        let is_stranger_there = AtomicBool::default();
        let mut connecting = pin!(self.connect_to(change, Of::Successor, &is_stranger_there));
        let connected = match tokio::time::timeout(self.timeout / 2, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) if is_stranger_there.load(Ordering::Relaxed) => {
                Err(sqlx::Error::Protocol(IS_OF_ANOTHER_HISTORY.to_owned()))
            }
            Err(_) => connecting.await,
        };
        if connected.is_ok() {
            *lock(&self.strangers_since) = None;
            return connected;
        }
        if !is_stranger_there.load(Ordering::Relaxed) {
            return connected;
        }
        let since = *lock(&self.strangers_since).get_or_insert_with(Instant::now);
        if since.elapsed() < STRANGERS_AFTER {
            return connected;
        }
        self.connect_to(change, Of::AnyHistory, &AtomicBool::default()).await
    }

    /// Says in the last whether there was a server that was refused for its history.
    async fn connect_to(
        &self,
        change: &Change,
        of: Of,
        is_stranger_there: &AtomicBool,
    ) -> Result<(PgConnection, Option<Destination>), sqlx::Error> {
        self.hosts
            .first(|options| async move {
                let shaped = change(self.admission.shape(options)?);
                let mut connection = PgConnection::connect_with(&shaped).await?;
                let place = self.admission.admit_new(&mut connection, of).await.inspect_err(|error| {
                    is_stranger_there.fetch_or(fault::is_of_another_history(error), Ordering::Relaxed);
                })?;
                Ok((connection, place))
            })
            .await
    }

    /// Whether the server has lately refused a connection because there are too many, or is about
    /// to.
    pub fn are_connections_few(&self) -> bool {
        self.few_left.load(Ordering::Relaxed) || is_recent(*lock(&self.refused_at))
    }

    /// Completes when a connection that listens should be given up for one that is needed more.
    pub async fn room_is_wanted(&self) {
        self.room_wanted.notified().await;
    }

    /// Says how many connections the server has to spare.
    pub fn note_spare(&self, spare: i64) {
        let was_few = self.few_left.load(Ordering::Relaxed);
        // Somewhat more for the way back, so that it is not said again and again.
        let few = spare < if was_few { 2 * SPARE_CONNECTIONS } else { SPARE_CONNECTIONS };
        if few != self.few_left.swap(few, Ordering::Relaxed) {
            if few {
                tracing::warn!(spare, "the database has few connections to spare: requests share fewer");
            } else {
                tracing::info!(spare, "the database has connections to spare again");
            }
        }
    }

    /// Why what keeps the service alive has no connection, if it has none.
    pub fn starved(&self) -> Option<&'static str> {
        let starved = |pool: &Arc<Inner>| pool.rank >= Rank::Upkeep && pool.is_starved();
        self.pools().iter().any(starved).then_some("the server gives no connection for heartbeats: it has too many")
    }

    /// Closes every pool once its connections are free.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // The writers of heartbeats keep theirs until they end.
        for pool in self.pools().iter().filter(|pool| pool.rank != Rank::Heartbeats) {
            pool.close().await;
        }
    }

    pub(super) fn note_refusal(&self) {
        metrics::connection_refused();
        let before = lock(&self.refused_at).replace(Instant::now());
        if !is_recent(before) {
            tracing::warn!("the database refuses connections because it has too many: requests share fewer");
        }
    }

    /// Closes an idle connection of something less important, or one that something else has beyond
    /// what it needs; false where there is none.
    pub(super) async fn make_room(&self, rank: Rank) -> bool {
        let mut pools = self.pools();
        pools.sort_by_key(|pool| pool.rank);
        let spare = pools.iter().find_map(|pool| {
            let mut idle = pool.idle();
            let keeps = if pool.rank < rank { 0 } else { pool.kept };
            (!idle.is_empty() && pool.open.load(Ordering::Acquire) > keeps).then(|| idle.pop()).flatten()
        });
        match spare {
            Some(mut spare) => {
                spare.close().await;
                true
            }
            None => {
                self.room_wanted.notify_waiters();
                false
            }
        }
    }

    pub(super) fn pools(&self) -> Vec<Arc<Inner>> {
        lock(&self.pools).iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn adopt(&self, pool: &Arc<Inner>) {
        let mut pools = lock(&self.pools);
        pools.retain(|known| known.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.hosts).finish()
    }
}

pub(super) fn is_recent(refused_at: Option<Instant>) -> bool {
    refused_at.is_some_and(|at| at.elapsed() < FEW_FOR)
}

/// Tends all pools of a line for as long as there is one.
async fn tend(line: Weak<Line>) {
    loop {
        tokio::time::sleep(TENDING_INTERVAL).await;
        let Some(line) = line.upgrade().filter(|line| !line.is_closed.load(Ordering::Acquire)) else { return };
        metrics::connections_are_few(line.are_connections_few());
        for pool in line.pools() {
            pool.tend().await;
        }
    }
}
