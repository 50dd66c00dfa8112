//! Connections to the database, kept for use: pools of them, in an order of importance, over one
//! line to the server.
//!
//! Where the server gives no more connections, what is less important gives up its idle ones for
//! what is more important, and the pool of requests shares fewer. Whatever lets the service live
//! (heartbeats, signs of life) keeps what it has. After a fault, connections that were made before
//! it are looked at before they are used, or left altogether.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;

use super::fault;
use super::histories::Of;
use crate::metrics::PoolUse;

use held::Held;
pub use held::InUse;
pub use line::Line;

mod held;
mod line;

/// After so long without use a connection is looked at before it is used: its server may have gone
/// dark meanwhile, or be another.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(1);

/// How long a connection may stay without use, and how long where connections are few.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
const SHORT_IDLE_LIMIT: Duration = Duration::from_secs(1);

/// A server ends a session a moment after it was told to.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How often a connection is tried again for which others made room.
const ROOM_TRIES: u32 = 5;

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
    /// When it was last refused a connection and could borrow none.
    starved_at: Mutex<Option<Instant>>,
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
            starved_at: Mutex::default(),
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
            // To ask for one more would mean to wait for a refusal, or to take what somebody needs
            // who has none.
            if pool.line.are_connections_few() && pool.can_do_without() {
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
                    pool.note_starved(false);
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
                tokio::time::sleep(ROOM_PAUSE).await;
            } else if let Some(instead) = &pool.instead {
                drop(permit);
                let lent = Box::pin(instead.acquire(of)).await;
                pool.note_starved(lent.is_err());
                return lent;
            } else if pool.shares_instead() {
                permit.forget();
            } else {
                pool.note_starved(true);
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
    fn idle(&self) -> MutexGuard<'_, Vec<Held>> {
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

    /// Whether one connection more is none that it needs: it has one, or works on those of requests
    /// as well.
    fn can_do_without(&self) -> bool {
        let borrows = self.rank == Rank::Background && self.instead.as_ref().is_some_and(|pool| pool.0.has_some());
        self.has_some() || borrows
    }

    fn note_starved(&self, is_starved: bool) {
        *lock(&self.starved_at) = is_starved.then(Instant::now);
    }

    /// Whether it has no connection, and was refused one lately. Not for longer: a replica that is
    /// not ready gets no heartbeats, and so would never ask for a connection for them again.
    fn is_starved(&self) -> bool {
        !self.has_some() && line::is_recent(*lock(&self.starved_at))
    }

    /// Whether this pool has connections that it can do with. It shares those from now on, and the
    /// caller's permit is to be forgotten.
    fn shares_instead(&self) -> bool {
        self.has_some() && self.takes_one_away()
    }

    /// Takes one permit away, which is then to be forgotten. One is left in any case: what is open
    /// may be about to be closed.
    fn takes_one_away(&self) -> bool {
        let take = |taken: u32| (taken + 1 < self.most).then_some(taken + 1);
        self.taken_away.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
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
        let limit = match (few, self.rank) {
            // It has those of requests.
            (true, Rank::Background) => Duration::ZERO,
            (true, _) => SHORT_IDLE_LIMIT,
            (false, _) => IDLE_LIMIT,
        };
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
                && let Ok(permit) = self.permits.try_acquire()
                && self.takes_one_away()
            {
                permit.forget();
            }
        } else if !few && self.taken_away.load(Ordering::Acquire) > 0 {
            self.taken_away.fetch_sub(1, Ordering::AcqRel);
            self.permits.add_permits(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
