//! Group commit of heartbeats: those that arrive while a transaction runs share the next one.
//!
//! There is no timer: an idle service runs each heartbeat's transaction at once. The queue is bounded, and so is
//! the wait in it. One heartbeat's fault is never another's: a batch that cannot be committed is split until the
//! one at fault stands alone.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::{FailoverError, FailoverOptions, RoleChange, changes_of, log_changes, no_such_group, no_such_session};
use crate::arbitration::{self, Answer, ClientInstant, Health, Report, Role, Rules};
use crate::ids::{GroupPath, SessionId};
use crate::metrics;
use crate::seeded_bugs::{self, FirstReading};
use crate::store::state::{self, Actor, Loaded, ReportedTimes, StoredGroup, instant};
use crate::store::{LostCommit, Store, StoreError};

/// How often a batch may meet others on the same rows before it is split.
const CONFLICTS_BEFORE_SPLIT: u32 = 3;

/// How many heartbeats that keep meeting others are tried at once, apart from the rest.
const MOST_ALONE: usize = 4;

/// What a client says in a heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatMessage {
    /// Its health.
    pub health: Health,
    /// When it sent it, by its own clock; `None` counts as the time of receipt.
    pub heartbeat_time: Option<DateTime<Utc>>,
    /// The time of the last data that it sent.
    pub last_data_send_time: Option<DateTime<Utc>>,
    /// The role it was acting in when it sent, where it says so.
    pub acting_as: Option<Role>,
}

/// The way in for heartbeats. Cheap to clone; the writers stop when the last clone is gone.
#[derive(Clone)]
pub struct HeartbeatQueue {
    sender: mpsc::Sender<Waiting>,
    patience: std::time::Duration,
}

struct Waiting {
    request: Request,
    deadline: Instant,
    reply: oneshot::Sender<Result<Answer, FailoverError>>,
}

#[derive(Clone)]
struct Request {
    path: GroupPath,
    session: SessionId,
    message: HeartbeatMessage,
}

/// What a committed transaction answers, one outcome per request, and what it changed.
struct Committed {
    outcomes: Vec<Result<Answer, FailoverError>>,
    changes: Vec<RoleChange>,
}

impl HeartbeatQueue {
    /// Starts the writers on the present runtime.
    pub fn start(store: &Store, options: &FailoverOptions) -> HeartbeatQueue {
        let (sender, receiver) = mpsc::channel(options.heartbeat_queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let alone = Arc::new(Semaphore::new(MOST_ALONE));
        let room = Arc::new(Semaphore::new(options.heartbeat_queue));
        for _ in 0..options.heartbeat_writers {
            let writer = Writer {
                store: store.clone(),
                rules: options.rules,
                batch_limit: options.heartbeat_batch,
                receiver: receiver.clone(),
                alone: alone.clone(),
                room: room.clone(),
            };
            tokio::spawn(writer.keep_running());
        }
        HeartbeatQueue { sender, patience: store.options().operation_timeout }
    }

    /// How many heartbeats wait for a transaction.
    pub fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Sends one heartbeat through and waits for its answer. A caller that goes away takes its heartbeat with
    /// it, unless its transaction has begun.
    pub async fn send(
        &self,
        path: GroupPath,
        session: SessionId,
        message: HeartbeatMessage,
    ) -> Result<Answer, FailoverError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.patience;
        let request = Request { path, session, message };
        let waiting = Waiting { request, deadline, reply };
        if self.sender.try_send(waiting).is_err() {
            return Err(FailoverError::Overloaded("too many heartbeats are waiting to be written"));
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(FailoverError::Overloaded("the heartbeat could not be written in time")),
        }
    }
}

#[derive(Clone)]
struct Writer {
    store: Store,
    rules: Rules,
    batch_limit: usize,
    receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>,
    alone: Arc<Semaphore>,
    /// Room for heartbeats that wait for their turn alone: as many as may wait in the queue.
    room: Arc<Semaphore>,
}

impl Writer {
    /// A defect that panics costs the heartbeats of one batch, which are answered 503, and not all that come after.
    async fn keep_running(self) {
        while let Err(panic) = tokio::spawn(self.clone().run()).await {
            tracing::error!(%panic, "a heartbeat writer failed and is started again");
        }
    }

    async fn run(self) {
        loop {
            let mut batch = Vec::new();
            let received = {
                let mut receiver = self.receiver.lock().await;
                receiver.recv_many(&mut batch, self.batch_limit).await
            };
            if received == 0 {
                return;
            }
            self.write(batch).await;
        }
    }

    /// Writes a batch and answers every request in it.
    async fn write(&self, batch: Vec<Waiting>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            part.retain(|waiting| !waiting.reply.is_closed());
            match self.commit(&part, CONFLICTS_BEFORE_SPLIT).await {
                Err(error) if part.len() > 1 && is_worth_splitting(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
                Err(StoreError::Contended { .. }) => drop(tokio::spawn(self.clone().write_alone(part))),
                outcome => answer(part, outcome),
            }
        }
    }

    /// Goes on with a heartbeat that keeps meeting others, for as long as it has time: those of other groups do not wait
    /// for it.
    async fn write_alone(self, mut part: Vec<Waiting>) {
        let Ok(_room) = self.room.try_acquire() else {
            return answer(
                part,
                Err(StoreError::Contended { transaction: "heartbeats", attempts: CONFLICTS_BEFORE_SPLIT }),
            );
        };
        let Ok(_permit) = self.alone.acquire().await else { return };
        part.retain(|waiting| !waiting.reply.is_closed());
        let outcome = self.commit(&part, u32::MAX).await;
        answer(part, outcome);
    }

    async fn commit(&self, part: &[Waiting], max_conflicts: u32) -> Result<Committed, StoreError> {
        // A defect that panics is the fault of one request too, and must not take the others with it.
        let outcome = AssertUnwindSafe(self.try_commit(part, max_conflicts)).catch_unwind().await;
        outcome.unwrap_or_else(|_| Err(StoreError::Inconsistent("the decision panicked".to_owned())))
    }

    async fn try_commit(&self, part: &[Waiting], max_conflicts: u32) -> Result<Committed, StoreError> {
        let Some(deadline) = part.iter().map(|waiting| waiting.deadline).max() else {
            return Ok(Committed { outcomes: Vec::new(), changes: Vec::new() });
        };
        let requests: Arc<[Request]> = part.iter().map(|waiting| waiting.request.clone()).collect();
        let store = self.store.clone();
        let rules = self.rules;
        let first_reading = Arc::new(FirstReading::default());
        self.store
            .serializable_until(deadline, max_conflicts, "heartbeats", LostCommit::Repeat, move |connection| {
                let requests = requests.clone();
                let store = store.clone();
                let first_reading = first_reading.clone();
                Box::pin(async move {
                    let (keys, places) = distinct_keys(&requests);
                    let (clock, mut loaded) = state::load(connection, &keys, store.options()).await?;
                    let clock = first_reading.or(clock);
                    let outcomes = std::iter::zip(requests.iter(), places.iter())
                        .map(|(request, place)| decide(request, &mut loaded[*place], &clock, &rules))
                        .collect();
                    let changes = changes_in(&requests, &places, &loaded);
                    let mut decided: Vec<StoredGroup> = loaded.into_iter().flatten().flatten().collect();
                    state::save(connection, &clock, &mut decided, Actor::Heartbeat).await?;
                    Ok(Committed { outcomes, changes })
                })
            })
            .await
    }
}

/// Answers every request of a part.
fn answer(part: Vec<Waiting>, outcome: Result<Committed, StoreError>) {
    match outcome {
        Ok(committed) => {
            log_changes(&committed.changes);
            metrics::batch_committed(part.len());
            for (waiting, outcome) in std::iter::zip(part, committed.outcomes) {
                // Nobody waits any more: the heartbeat counts all the same.
                let _ = waiting.reply.send(outcome);
            }
        }
        Err(error) => {
            for waiting in part {
                let _ = waiting.reply.send(Err(error.clone().into()));
            }
        }
    }
}

/// Whether the fault may be that of one request, so that the others would succeed without it.
fn is_worth_splitting(error: &StoreError) -> bool {
    match error {
        StoreError::Contended { .. } | StoreError::Inconsistent(_) | StoreError::Failed { .. } => true,
        StoreError::Unavailable(_) => false,
    }
}

/// The keys of the groups, each once, and for each request the place of its group's.
fn distinct_keys(requests: &[Request]) -> (Vec<uuid::Uuid>, Vec<usize>) {
    let mut known = HashMap::with_capacity(requests.len());
    let mut keys = Vec::with_capacity(requests.len());
    let places = requests
        .iter()
        .map(|request| {
            let key = request.path.key().0;
            *known.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            })
        })
        .collect();
    (keys, places)
}

/// One heartbeat on the state of its group, as those before it in the batch have left it.
fn decide(
    request: &Request,
    loaded: &mut Loaded,
    clock: &state::Clock,
    rules: &Rules,
) -> Result<Answer, FailoverError> {
    let stored = match loaded {
        None => return Err(no_such_group(&request.path)),
        Some(Err(what)) => return Err(StoreError::Inconsistent(what.clone()).into()),
        Some(Ok(stored)) => stored,
    };
    let Some(s) = stored.find_session(request.session.as_str()) else {
        return Err(no_such_session(&request.path, &request.session));
    };
    let message = &request.message;
    let times = ReportedTimes {
        heartbeat_time: message.heartbeat_time.unwrap_or(clock.now),
        last_data_send_time: message.last_data_send_time,
    };
    let report = Report {
        health: message.health,
        sent_at: ClientInstant(instant(times.heartbeat_time).0),
        data_sent_until: message.last_data_send_time.map(instant),
        acting_as: message.acting_as,
    };
    let StoredGroup { group, trace, .. } = stored;
    let answer = arbitration::heartbeat(group, s, &report, clock.moment(), rules, trace);
    seeded_bugs::after_heartbeat(group, s, &report);
    stored.received.insert(s, times);
    Ok(answer)
}

fn changes_in(requests: &[Request], places: &[usize], loaded: &[Loaded]) -> Vec<RoleChange> {
    let mut changes = Vec::new();
    for (place, loaded) in loaded.iter().enumerate() {
        let Some(Ok(stored)) = loaded else { continue };
        if stored.trace.is_empty() {
            continue;
        }
        let request = std::iter::zip(requests, places).find(|(_, at)| **at == place);
        if let Some((request, _)) = request {
            changes.extend(changes_of(&request.path.label(), stored));
        }
    }
    changes
}
