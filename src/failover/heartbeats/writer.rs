//! Who takes what waits into transactions, one after the other.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::Level;
use uuid::Uuid;

use super::decision::{Committed, Decision, Leases};
use super::request::{Request, Waiting};
use crate::arbitration::Rules;
use crate::failover::deadlines::Deadlines;
use crate::failover::gaps::Gaps;
use crate::failover::held::HeldGroups;
use crate::failover::line::{EXPENSIVE, Line, SizeRead};
use crate::failover::longer_leases::LongerLeases;
use crate::failover::turns::Turns;
use crate::failover::{FailoverError, FailoverOptions, log_changes};
use crate::limited;
use crate::log_limits::Lines;
use crate::metrics;
use crate::store::groups;
use crate::store::{Kept, LostCommit, Store, StoreError};

/// How often a batch may meet others on the same rows before it is split.
const CONFLICTS_BEFORE_SPLIT: u32 = 3;

/// How many heartbeats that keep meeting others are tried at once, apart from the rest.
const MAX_ALONE: usize = 4;

/// How many of these may be groups of which somebody holds a row: they may be held for long.
const MAX_HELD: usize = 2;

/// How long it may take to see which groups are held. Where it takes longer, a table is locked.
const LOOK_FOR_HELD: Duration = Duration::from_millis(200);

/// From how many answers on others give them: the next transaction waits for the writer, and few
/// are given sooner than told to somebody else.
const ANSWERS_TO_HAND_ON: usize = 32;

/// Who is told of what was committed.
#[derive(Clone)]
pub(super) struct Watchers {
    /// Where leases are noted, if somebody looks when they end.
    pub(super) deadlines: Option<Deadlines>,
    /// Where grants are noted, to see for how long nobody was Primary.
    pub(super) gaps: Gaps,
}

/// Runs the writers until the last way in is gone.
pub(super) async fn run_writers(
    store: Store,
    options: FailoverOptions,
    line: Arc<Line<Waiting>>,
    others: Handle,
    watchers: Watchers,
    longer_leases: Arc<LongerLeases>,
    place: &OnceLock<Store>,
) {
    let connections = options.heartbeat_writers + MAX_ALONE;
    let count = |connections| u32::try_from(connections).unwrap_or(u32::MAX);
    let store = store.with_own_connections(count(connections), count(options.heartbeat_writers));
    // Nobody else sets it.
    let _ = place.set(store.clone());
    let alone = Arc::new(Semaphore::new(MAX_ALONE));
    let room = Arc::new(Semaphore::new(options.heartbeat_queue));
    let held = Arc::new(HeldGroups::default());
    let beside_held = Arc::new(Semaphore::new(MAX_HELD));
    let turns = Arc::new(Turns::default());
    let writers: Vec<_> = (0..options.heartbeat_writers)
        .map(|number| {
            let writer = Writer {
                number,
                store: store.clone(),
                rules: options.rules,
                batch_limit: options.heartbeat_batch,
                line: line.clone(),
                alone: alone.clone(),
                room: room.clone(),
                held: held.clone(),
                beside_held: beside_held.clone(),
                others: others.clone(),
                watchers: watchers.clone(),
                turns: turns.clone(),
                longer_leases: longer_leases.clone(),
            };
            tokio::spawn(writer.keep_running())
        })
        .collect();
    for writer in writers {
        // It ends by itself; a panic is caught within.
        let _ = writer.await;
    }
}

/// A defect that panics may do so with every heartbeat.
const WRITER_FAILED: Lines = Lines::new("a heartbeat writer failed and is started again", Level::ERROR);

#[derive(Clone)]
struct Writer {
    /// Counted from the first.
    number: usize,
    store: Store,
    rules: Rules,
    batch_limit: usize,
    line: Arc<Line<Waiting>>,
    alone: Arc<Semaphore>,
    /// Room for heartbeats that wait for their turn alone: as many as may wait in the queue.
    room: Arc<Semaphore>,
    held: Arc<HeldGroups>,
    beside_held: Arc<Semaphore>,
    /// The threads that the service started on.
    others: Handle,
    watchers: Watchers,
    turns: Arc<Turns>,
    longer_leases: Arc<LongerLeases>,
}

impl Writer {
    /// A defect that panics costs the heartbeats of one batch, which are answered 503, and not all
    /// that come after.
    async fn keep_running(self) {
        while let Err(panic) = tokio::spawn(self.clone().run()).await {
            limited!(WRITER_FAILED, "", %panic, "a heartbeat writer failed and is started again");
        }
    }

    async fn run(self) {
        // Also what it had when it panicked, if it did: others wait for these groups.
        self.line.release(self.number);
        let mut kept = Kept::empty();
        let timeout = self.store.options().idle_in_transaction_timeout / 2;
        // Before the first heartbeat comes: where connections are few, others may have them all by
        // then.
        self.store.keep_connection(&mut kept).await;
        loop {
            match tokio::time::timeout(timeout, self.line.take(self.number, self.batch_limit)).await {
                Ok(batch) if batch.is_empty() => return,
                Ok(batch) => {
                    let mut batch = self.without_expensive(&mut kept, batch).await;
                    if self.turns.are_taken() {
                        self.take_turn(&mut kept, &mut batch).await;
                    }
                    self.write(&mut kept, batch).await;
                    self.line.release(self.number);
                }
                Err(_) => self.store.keep_connection(&mut kept).await,
            }
        }
    }

    /// Finds out how large groups are that have not been seen before; those that are expensive go
    /// back into the line.
    async fn without_expensive(&self, kept: &mut Kept, batch: Vec<Waiting>) -> Vec<Waiting> {
        let unknown = self.line.unknown_groups(&batch);
        if unknown.is_empty() {
            return batch;
        }
        let asked = &unknown;
        let counted = self
            .store
            .read_on(kept, |connection, _| Box::pin(groups::count_some_sessions(connection, asked, EXPENSIVE)));
        // Where that fails, so will the transaction, and says why.
        let Some(sizes) = counted.await else { return batch };
        self.line.note_sizes(std::iter::zip(unknown.iter().copied(), sizes.into_iter().map(SizeRead::Whole)));
        let (batch, without_place) = self.line.put_expensive_back(self.number, batch);
        without_place.into_iter().for_each(refuse_place);
        batch
    }

    /// Waits for the turn of the next transaction, and takes along what has come meanwhile: where
    /// replicas wait for each other, that is most of it.
    async fn take_turn(&self, kept: &mut Kept, batch: &mut Vec<Waiting>) {
        let began = Instant::now();
        if self.store.begin_in_turn(kept).await {
            metrics::turn_taken();
            self.turns.note_wait(began.elapsed());
        } else {
            self.turns.note_vain_wait();
        }
        self.line.top_up(self.number, batch, self.batch_limit);
    }

    /// Writes a batch and answers every request in it.
    async fn write(&self, kept: &mut Kept, batch: Vec<Waiting>) {
        let mut parts = self.store.by_place(batch, |waiting| waiting.request.key).await;
        while let Some(mut part) = parts.pop() {
            part.retain(|waiting| !waiting.reply.is_closed());
            for held in self.held.take_out(&mut part, |waiting| waiting.request.key) {
                drop(tokio::spawn(self.clone().write_held(held)));
            }
            if part.is_empty() {
                // Its turn, if it has one, is for those who wait.
                kept.rest().await;
                continue;
            }
            let outcome = self.commit(kept, &part, CONFLICTS_BEFORE_SPLIT).await;
            self.turns.note_written(kept.take_conflicts());
            match outcome {
                Err(StoreError::Contended { held: true, .. }) if self.look_for_held(&part).await => parts.push(part),
                Err(error) if part.len() > 1 && is_worth_splitting(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
                Err(StoreError::Contended { .. }) => drop(tokio::spawn(self.clone().write_alone(part))),
                outcome if part.len() < ANSWERS_TO_HAND_ON => self.answer(part, outcome),
                outcome => {
                    let writer = self.clone();
                    drop(self.others.spawn(async move { writer.answer(part, outcome) }));
                }
            }
        }
    }

    /// Finds out which of the groups somebody holds a row of; whether there are such.
    async fn look_for_held(&self, part: &[Waiting]) -> bool {
        let mut keys: Vec<Uuid> = part.iter().map(|waiting| waiting.request.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let store = self.store.background();
        let keys = &keys;
        let look = store.autocommit("find_held", |connection, _| Box::pin(groups::find_held(connection, keys)));
        match tokio::time::timeout(LOOK_FOR_HELD, look).await {
            Ok(Ok(held)) => {
                self.held.note(&held);
                !held.is_empty()
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Goes on with the heartbeats of a group of which somebody held a row of late, for as long as
    /// they have time.
    async fn write_held(self, mut part: Vec<Waiting>) {
        let Ok(_permit) = self.beside_held.acquire().await else { return };
        let Ok(_as_any) = self.alone.acquire().await else { return };
        part.retain(|waiting| !waiting.reply.is_closed());
        let outcome = self.commit(&mut Kept::nothing(), &part, u32::MAX).await;
        self.answer(part, outcome);
    }

    /// Goes on with a heartbeat that keeps meeting others, for as long as it has time: those of
    /// other groups do not wait for it.
    async fn write_alone(self, mut part: Vec<Waiting>) {
        let Ok(_room) = self.room.try_acquire() else {
            return self.answer(
                part,
                Err(StoreError::Contended { transaction: "heartbeats", attempts: CONFLICTS_BEFORE_SPLIT, held: false }),
            );
        };
        let Ok(_permit) = self.alone.acquire().await else { return };
        part.retain(|waiting| !waiting.reply.is_closed());
        let outcome = self.commit(&mut Kept::nothing(), &part, u32::MAX).await;
        self.answer(part, outcome);
    }

    async fn commit(&self, kept: &mut Kept, part: &[Waiting], max_conflicts: u32) -> Result<Committed, StoreError> {
        // A defect that panics is the fault of one request too, and must not take the others with
        // it.
        let outcome = AssertUnwindSafe(self.try_commit(kept, part, max_conflicts)).catch_unwind().await;
        outcome.unwrap_or_else(|_| Err(StoreError::Inconsistent("the decision panicked".to_owned())))
    }

    async fn try_commit(&self, kept: &mut Kept, part: &[Waiting], max_conflicts: u32) -> Result<Committed, StoreError> {
        let Some(deadline) = part.iter().map(|waiting| waiting.deadline).max() else {
            return Ok(Committed {
                outcomes: Vec::new(),
                changes: Vec::new(),
                leases: Leases::none(),
                sizes: Vec::new(),
                longer: Vec::new(),
                decided: Vec::new(),
                epoch: 0,
            });
        };
        let requests: &[&Request] = &part.iter().map(|waiting| &*waiting.request).collect::<Vec<_>>();
        let decision = Decision {
            rules: &self.rules,
            lost_leases: &self.longer_leases,
            line: &self.line,
            notes_leases: self.watchers.deadlines.is_some(),
        };
        let decision = &decision;
        self.store
            .serializable_on(kept, deadline, max_conflicts, "heartbeats", LostCommit::Repeat, |connection, _| {
                Box::pin(async move { Ok(decision.make(connection, requests, &self.store).await?) })
            })
            .await
            // Before anybody is answered.
            .inspect(|committed: &Committed| {
                self.longer_leases.note(&committed.longer, committed.epoch);
                self.store.row_places().learn(&committed.decided, committed.epoch);
            })
    }

    /// Answers every request of a part.
    fn answer(&self, part: Vec<Waiting>, outcome: Result<Committed, StoreError>) {
        match outcome {
            Ok(committed) => {
                log_changes(&committed.changes);
                self.watchers.gaps.note(&committed.changes);
                self.line.note_sizes(committed.sizes.into_iter());
                metrics::batch_committed(committed.outcomes.iter().flatten().count());
                for (waiting, outcome) in std::iter::zip(part, committed.outcomes) {
                    match outcome {
                        // If nobody waits any more, the heartbeat counts all the same.
                        Some(outcome) => drop(waiting.reply.send(outcome)),
                        None => self.line.push(waiting).unwrap_or_else(refuse_place),
                    }
                }
                if let Some(deadlines) = &self.watchers.deadlines {
                    deadlines.note(&committed.leases.left, committed.leases.read_at);
                }
            }
            Err(error) => {
                for waiting in part {
                    let _ = waiting.reply.send(Err(error.clone().into()));
                }
            }
        }
    }
}

fn refuse_place(waiting: Waiting) {
    let _ = waiting.reply.send(Err(FailoverError::Overloaded("too many heartbeats are waiting to be written")));
}

/// Whether the fault may be that of one request, so that the others would succeed without it.
fn is_worth_splitting(error: &StoreError) -> bool {
    match error {
        StoreError::Contended { .. } | StoreError::Inconsistent(_) | StoreError::Failed { .. } => true,
        StoreError::Unavailable(_) => false,
    }
}
