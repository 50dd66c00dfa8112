//! Connections to the database, kept for use: pools of them, in an order of importance, over one
//! line to the server.
//!
//! Where the server gives no more connections, what is less important gives up its idle ones for
//! what is more important, and the pool of requests shares fewer. Whatever lets the service live
//! (heartbeats, signs of life) keeps what it has. After a fault, connections that were made before
//! it are looked at before they are used, or left altogether.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::admission::{self, Admission};
use super::fault;
use super::histories::{Of, Place};
use super::hosts::Hosts;
use crate::metrics::{self, PoolUse};

/// After so long without use a connection is looked at before it is used: its server may have gone
/// dark meanwhile, or be another.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(1);

/// How long a connection may stay without use, and how long where connections are few.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
const SHORT_IDLE_LIMIT: Duration = Duration::from_secs(1);

/// How often pools are tended.
const TENDING_INTERVAL: Duration = Duration::from_secs(1);

/// For how long after a refusal connections count as few, and how often one more is tried then.
const FEW_FOR: Duration = Duration::from_secs(10);

/// A server ends a session a moment after it was told to.
const ROOM_PATIENCE: Duration = Duration::from_millis(20);

/// How often a connection is tried again for which others made room.
const ROOM_TRIES: u32 = 5;

/// How many connections the server should have to spare: what another replica needs to begin with.
const SPARE_CONNECTIONS: i64 = 3;

/// For how long every host that answers must have been in another history before this replica
/// follows one there. The one that it worked on may only be slow to answer, beside a former primary
/// that woke up.
const STRANGERS_AFTER: Duration = Duration::from_secs(10);

/// What connections are for, the least important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Reading events, pruning and counting: they can share those of requests.
    Background,
    /// What clients and operators ask, heartbeats left out.
    Requests,
    /// Signs of life, the sweep, leases that end, readiness.
    Upkeep,
    /// The writers of heartbeats.
    Heartbeats,
}

/// The way to one server, and what is known of it. All pools of a store share it.
pub struct Line {
    hosts: Hosts,
    admission: Admission,
    /// How long a look may take.
    patience: Duration,
    /// Raised whenever all connections made so far are to be left.
    generation: AtomicU64,
    /// Connections that were not seen well since then are looked at before use.
    suspected_at: Mutex<Option<Instant>>,
    refused_at: Mutex<Option<Instant>>,
    /// Since when no host is found that has been in the history that this replica works in, though
    /// others answer.
    strangers_since: Mutex<Option<Instant>>,
    few_left: AtomicBool,
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
    pub fn new(hosts: Hosts, admission: Admission, patience: Duration) -> Arc<Line> {
        let line = Arc::new(Line {
            hosts,
            admission,
            patience,
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
    fn leave_generation(&self, generation: u64) {
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
                    tokio::time::sleep(ROOM_PATIENCE).await;
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
    async fn connect(&self, change: &Change, of: Of) -> Result<(PgConnection, Option<Place>), sqlx::Error> {
        if of != Of::AnyHistory || !self.hosts.are_several() {
            return self.connect_to(change, of, &AtomicBool::default()).await;
        }
        let is_stranger_there = AtomicBool::default();
        let mut connecting = pin!(self.connect_to(change, Of::Successor, &is_stranger_there));
        let connected = match tokio::time::timeout(self.patience / 2, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) if is_stranger_there.load(Ordering::Relaxed) => {
                Err(sqlx::Error::Protocol(admission::IS_OF_ANOTHER_HISTORY.to_owned()))
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
    ) -> Result<(PgConnection, Option<Place>), sqlx::Error> {
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
            match few {
                true => tracing::warn!(spare, "the database has few connections to spare: requests share fewer"),
                false => tracing::info!(spare, "the database has connections to spare again"),
            }
        }
    }

    /// Why what keeps the service alive has no connection, if it has none.
    pub fn starved(&self) -> Option<&'static str> {
        let starved = |pool: &Arc<Inner>| pool.rank >= Rank::Upkeep && pool.is_starved.load(Ordering::Relaxed);
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

    fn note_refusal(&self) {
        metrics::connection_refused();
        let before = lock(&self.refused_at).replace(Instant::now());
        if !is_recent(before) {
            tracing::warn!("the database refuses connections because it has too many: requests share fewer");
        }
    }

    /// Closes an idle connection of something less important, or one that something else has beyond
    /// what it needs; false where there is none.
    async fn make_room(&self, rank: Rank) -> bool {
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

    fn pools(&self) -> Vec<Arc<Inner>> {
        lock(&self.pools).iter().filter_map(Weak::upgrade).collect()
    }

    fn adopt(&self, pool: &Arc<Inner>) {
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

fn is_recent(refused_at: Option<Instant>) -> bool {
    refused_at.is_some_and(|at| at.elapsed() < FEW_FOR)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a pool is used.
pub struct PoolOptions {
    /// What its connections are for.
    pub rank: Rank,
    /// The most that there are.
    pub most: u32,
    /// How many of them stay, however long nobody needs them.
    pub kept: u32,
}

/// Some connections for one purpose. Cheap to clone.
pub struct Pool(Arc<Inner>);

impl Clone for Pool {
    fn clone(&self) -> Pool {
        Pool(self.0.clone())
    }
}

type Change = dyn Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync;

struct Inner {
    line: Arc<Line>,
    rank: Rank,
    most: u32,
    kept: u32,
    change: Box<Change>,
    /// Whose connections are used where the server gives this pool none.
    instead: Option<Pool>,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    /// How many of them were taken away, because the server gives no more connections.
    taken_away: AtomicU32,
    /// Connections that there are, in use and idle.
    open: AtomicU32,
    idle: Mutex<Vec<Held>>,
    is_starved: AtomicBool,
}

/// An open connection, counted.
struct Held {
    connection: Option<PgConnection>,
    generation: u64,
    /// In which of the histories that this replica worked in it was made.
    epoch: u64,
    place: Option<Place>,
    /// When it was last seen well.
    seen_at: Instant,
    pool: Weak<Inner>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Held {
    /// Closes it, politely and not for long.
    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // An error says that it is closed already.
            let _ = tokio::time::timeout(Duration::from_millis(200), connection.close()).await;
        }
    }
}

/// A connection in use. Dropped, it is closed, unless it was handed back.
pub struct InUse {
    held: Held,
    pool: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool over a line, which connects when it is first used.
    pub fn new(line: &Arc<Line>, options: PoolOptions, instead: Option<&Pool>) -> Pool {
        Pool::with_change(line, options, instead, |options| options)
    }

    /// The same with something of its own in how it connects.
    pub fn with_change(
        line: &Arc<Line>,
        options: PoolOptions,
        instead: Option<&Pool>,
        change: impl Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync + 'static,
    ) -> Pool {
        let inner = Arc::new(Inner {
            line: line.clone(),
            rank: options.rank,
            most: options.most,
            kept: options.kept,
            change: Box::new(change),
            instead: instead.cloned(),
            permits: Arc::new(Semaphore::new(options.most as usize)),
            taken_away: AtomicU32::new(0),
            open: AtomicU32::new(0),
            idle: Mutex::default(),
            is_starved: AtomicBool::new(false),
        });
        line.adopt(&inner);
        Pool(inner)
    }

    /// A connection that is free, or a new one. Waits while all are in use: the caller says for how
    /// long.
    pub async fn acquire(&self, of: Of) -> Result<InUse, sqlx::Error> {
        let pool = &self.0;
        let mut tries = 0;
        loop {
            let permit = pool.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
            if let Some(held) = pool.take_idle().await {
                return Ok(InUse { held, pool: pool.clone(), _permit: permit });
            }
            // To ask for one more would mean to wait for a refusal.
            if pool.line.are_connections_few() && pool.has_some() {
                if let Some(instead) = &pool.instead {
                    drop(permit);
                    return Box::pin(instead.acquire(of)).await;
                }
                if pool.shares_instead() {
                    permit.forget();
                    continue;
                }
            }
            let generation = pool.line.generation.load(Ordering::Acquire);
            let epoch = pool.line.admission.epoch();
            let error = match pool.line.connect(&*pool.change, of).await {
                Ok((connection, place)) => {
                    pool.open.fetch_add(1, Ordering::AcqRel);
                    pool.is_starved.store(false, Ordering::Relaxed);
                    let held = Held {
                        connection: Some(connection),
                        generation,
                        epoch,
                        place,
                        seen_at: Instant::now(),
                        pool: Arc::downgrade(pool),
                    };
                    return Ok(InUse { held, pool: pool.clone(), _permit: permit });
                }
                Err(error) => error,
            };
            if fault::is_of_another_history(&error) {
                // Those that were made before lead elsewhere, or to what it was before. The next
                // sign of life is given where new connections lead.
                pool.line.leave_generation(generation);
            }
            if !fault::are_connections_used_up(&error) {
                return Err(error);
            }
            pool.line.note_refusal();
            if tries < ROOM_TRIES && pool.line.make_room(pool.rank).await {
                tries += 1;
                drop(permit);
                tokio::time::sleep(ROOM_PATIENCE).await;
            } else if let Some(instead) = &pool.instead {
                drop(permit);
                let lent = Box::pin(instead.acquire(of)).await;
                pool.is_starved.store(lent.is_err() && !pool.has_some(), Ordering::Relaxed);
                return lent;
            } else if pool.shares_instead() {
                permit.forget();
            } else {
                pool.is_starved.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
    }

    /// How it is used now.
    pub fn usage(&self) -> PoolUse {
        let most = self.0.most.saturating_sub(self.0.taken_away.load(Ordering::Relaxed));
        PoolUse { open: self.0.open.load(Ordering::Relaxed), idle: self.0.idle().len(), most }
    }
}

impl Inner {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        lock(&self.idle)
    }

    /// The idle connection that was used last, if it is still good.
    async fn take_idle(self: &Arc<Self>) -> Option<Held> {
        loop {
            let mut held = self.idle().pop()?;
            if held.is_left(&self.line) {
                continue;
            }
            let is_suspect = lock(&self.line.suspected_at).is_some_and(|at| held.seen_at <= at);
            if !is_suspect && held.seen_at.elapsed() < LOOKED_AT_AFTER {
                return Some(held);
            }
            if held.is_well(&self.line).await {
                return Some(held);
            }
        }
    }

    fn has_some(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Whether this pool has connections that it can do with. It shares those from now on, and the
    /// caller's permit is to be forgotten.
    fn shares_instead(&self) -> bool {
        // One is left in any case: what is open may be about to be closed.
        let take = |taken: u32| (taken + 1 < self.most).then_some(taken + 1);
        self.has_some() && self.taken_away.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn put_back(&self, mut held: Held) {
        if !held.is_left(&self.line) && !self.permits.is_closed() {
            held.seen_at = Instant::now();
            self.idle().push(held);
        }
    }

    async fn close(&self) {
        // Waits for those in use, which then find the pool closed or are put among the idle.
        let all = self.most.saturating_sub(self.taken_away.load(Ordering::Acquire));
        let all = self.permits.acquire_many(all).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        drop(all);
        for mut held in idle {
            held.close().await;
        }
    }

    /// Gives up what is not needed, and takes back what may be had again.
    async fn tend(&self) {
        let few = self.line.are_connections_few();
        let limit = if few { SHORT_IDLE_LIMIT } else { IDLE_LIMIT };
        loop {
            let longest_idle = {
                let mut idle = self.idle();
                let is_surplus = self.open.load(Ordering::Acquire) > self.kept;
                let is_old = idle.first().is_some_and(|held| held.seen_at.elapsed() >= limit);
                (is_surplus && is_old).then(|| idle.remove(0))
            };
            match longest_idle {
                Some(mut held) => held.close().await,
                None => break,
            }
        }
        if self.line.few_left.load(Ordering::Relaxed) {
            // Under load nothing is idle: one connection less may be in use, down to one, until
            // there are some to spare.
            if self.rank <= Rank::Requests
                && self.most.saturating_sub(self.taken_away.load(Ordering::Acquire)) > 1
                && let Ok(permit) = self.permits.try_acquire()
            {
                permit.forget();
                self.taken_away.fetch_add(1, Ordering::AcqRel);
            }
        } else if !few && self.taken_away.load(Ordering::Acquire) > 0 {
            self.taken_away.fetch_sub(1, Ordering::AcqRel);
            self.permits.add_permits(1);
        }
    }
}

impl Held {
    /// Whether nobody is to use it any more: all of its time are left, or it was made in another
    /// history.
    fn is_left(&self, line: &Line) -> bool {
        self.generation != line.generation.load(Ordering::Acquire) || self.epoch != line.admission.epoch()
    }

    async fn is_well(&mut self, line: &Line) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match tokio::time::timeout(line.patience, line.admission.admit(connection)).await {
            Ok(Ok(())) => {
                self.seen_at = Instant::now();
                true
            }
            Ok(Err(error)) => {
                if fault::is_of_another_server(&error) {
                    line.leave_generation(self.generation);
                }
                tracing::debug!(%error, "an idle connection is closed");
                false
            }
            // Not an answer that it is gone, but none: the others of that time lead to the same
            // silence.
            Err(_) => {
                line.leave_generation(self.generation);
                false
            }
        }
    }
}

impl InUse {
    /// Gives it back to its pool for others.
    pub fn hand_back(self) {
        let InUse { held, pool, _permit } = self;
        pool.put_back(held);
    }

    /// Whether its database's groups are spread over several servers.
    pub fn is_spread(&self) -> bool {
        self.pool.line.admission.is_spread()
    }

    /// Whether all connections of its time are to be left.
    pub fn is_left(&self) -> bool {
        self.held.is_left(&self.pool.line)
    }

    /// Where it leads; `None` where it may lead elsewhere at any time.
    pub(super) fn place(&self) -> Option<Place> {
        self.held.place.clone()
    }

    /// Whether it still answers as it should, asked where there is reason to.
    pub async fn is_well(&mut self) -> bool {
        let line = self.pool.line.clone();
        !self.is_left() && self.held.is_well(&line).await
    }

    /// It failed as one does whose server gives no answer.
    pub fn suspect_others(&self) {
        self.pool.line.suspect();
    }

    /// It led to a server that is not the one to write to.
    pub fn leave_others(&self) {
        self.pool.line.leave_generation(self.held.generation);
    }
}

impl InUse {
    /// The connection.
    pub fn get_mut(&mut self) -> &mut PgConnection {
        match &mut self.held.connection {
            Some(connection) => connection,
            None => unreachable!("it is taken only by what consumes it"),
        }
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("connection", &self.held.connection).finish_non_exhaustive()
    }
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
