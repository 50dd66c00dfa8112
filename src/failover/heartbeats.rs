//! Group commit of heartbeats: those that arrive while a transaction runs share the next one.
//!
//! There is no timer: an idle service runs each heartbeat's transaction at once. The queue is
//! bounded, and so is the wait in it; who comes next is told by [`super::line`]. One heartbeat's
//! fault is never another's: a batch that cannot be committed is split until the one at fault
//! stands alone.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tracing::Level;

use super::deadlines::Deadlines;
use super::held::HeldGroups;
use super::line::{EXPENSIVE, Line, Waits};
use super::longer_leases::LongerLeases;
use super::turns::Turns;
use super::{
    Caller, FailoverError, FailoverOptions, RoleChange, changes_of, log_changes, no_such_group, no_such_session,
    session_of_another,
};
use crate::access::decision::beat_bound;
use crate::arbitration::{self, Answer, ClientInstant, FailoverTimeout, Health, Report, Role, Rules, Term};
use crate::ids::{GroupPath, SessionId};
use crate::limited;
use crate::log_limits::Lines;
use crate::metrics::{self, PoolUse};
use crate::store::connection::Connection;
use crate::store::groups::{self, LeaseLeft};
use crate::store::state::{self, Actor, Loaded, ReportedTimes, StoredGroup, instant};
use crate::store::{Kept, LostCommit, Store, StoreError, StoreOptions, WorkError};

/// How often a batch may meet others on the same rows before it is split.
const CONFLICTS_BEFORE_SPLIT: u32 = 3;

/// How many heartbeats that keep meeting others are tried at once, apart from the rest.
const MOST_ALONE: usize = 4;

/// How many of these may be groups of which somebody holds a row: they may be held for long.
const MOST_HELD: usize = 2;

/// How long it may take to see which groups are held. Where it takes longer, a table is locked.
const LOOK_FOR_HELD: Duration = Duration::from_millis(200);

/// From how many answers on others give them: the next transaction waits for the writer, and few
/// are given sooner than told to somebody else.
const ANSWERS_TO_HAND_ON: usize = 32;

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
    /// The highest term that it has been told, where it says so.
    pub term_seen: Option<Term>,
}

/// The way in for heartbeats. Cheap to clone; the writers stop when the last clone is gone.
#[derive(Clone)]
pub struct HeartbeatQueue {
    entrance: Arc<Entrance>,
    patience: Duration,
    /// The writers' store, once their thread has made it.
    store: Arc<OnceLock<Store>>,
}

/// Closes the line when the last way in is gone.
struct Entrance(Arc<Line<Waiting>>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a heartbeat is answered with.
type Outcome = Result<Answer, FailoverError>;

struct Waiting {
    request: Box<Request>,
    deadline: Instant,
    reply: oneshot::Sender<Outcome>,
}

struct Request {
    path: GroupPath,
    /// Of the group, computed where the request came in: the writer has no time for it.
    key: uuid::Uuid,
    session: SessionId,
    message: HeartbeatMessage,
    tenant: Arc<str>,
    /// Who sent it.
    caller: Arc<str>,
    arrived_at: Instant,
    /// Whether it counts only if they registered the session.
    is_bound: bool,
}

impl Request {
    /// What it says, for arbitration.
    fn report(&self, clock: &state::Clock) -> Report {
        Report {
            health: self.message.health,
            sent_at: ClientInstant(instant(self.times(clock).heartbeat_time).0),
            data_sent_until: self.message.last_data_send_time.map(instant),
            acting_as: self.message.acting_as,
            term_seen: self.message.term_seen,
        }
    }

    /// What it says besides.
    fn times(&self, clock: &state::Clock) -> ReportedTimes {
        ReportedTimes {
            heartbeat_time: self.message.heartbeat_time.unwrap_or(clock.now),
            last_data_send_time: self.message.last_data_send_time,
        }
    }
}

impl Waits for Waiting {
    fn of(&self) -> (&Arc<str>, &Arc<str>) {
        (&self.request.tenant, &self.request.caller)
    }

    fn group(&self) -> uuid::Uuid {
        self.request.key
    }

    fn is_waited_for(&self) -> bool {
        !self.reply.is_closed()
    }
}

/// What a committed transaction answers, one outcome per request, and what it changed.
struct Committed {
    outcomes: Vec<Outcome>,
    changes: Vec<RoleChange>,
    leases: Leases,
    /// How many sessions the groups have.
    sizes: Vec<(uuid::Uuid, usize)>,
    /// Groups with a lease that is longer than what its session had before, and for how long it was
    /// given.
    longer: Vec<(uuid::Uuid, FailoverTimeout)>,
    /// In which of the histories that this replica has worked in.
    epoch: u64,
}

/// Leases that were longer than those before them: what is lost of them, and what is given.
struct Longer<'a> {
    lost: &'a LongerLeases,
    epoch: u64,
    given: Vec<(uuid::Uuid, FailoverTimeout)>,
}

/// The leases that the holders of roles have, as the transaction leaves them.
struct Leases {
    left: Vec<LeaseLeft>,
    /// When the database's clock had just been read.
    read_at: Instant,
}

impl HeartbeatQueue {
    /// Starts the writers on a thread of their own, with connections of their own. Must be called
    /// within a tokio runtime.
    ///
    /// On a runtime shared with other work each answer of the database would be heard by one thread
    /// and acted on by another, and that hand-over, several times in a transaction, costs as much
    /// as the transaction.
    pub fn start(
        store: &Store,
        options: &FailoverOptions,
        deadlines: Option<Deadlines>,
        longer_leases: &Arc<LongerLeases>,
    ) -> HeartbeatQueue {
        let longer = longer_leases.clone();
        let line = Arc::new(Line::new(options.heartbeat_queue));
        let entrance = Arc::new(Entrance(line.clone()));
        let patience = store.options().operation_timeout;
        let (store, options) = (store.clone(), options.clone());
        let others = Handle::current();
        let writers_store = Arc::new(OnceLock::new());
        let place = writers_store.clone();
        let thread = std::thread::Builder::new().name("heartbeats".to_owned());
        let started = thread.spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run_writers(store, options, line, others, deadlines, longer, &place)),
            Err(error) => tracing::error!(%error, "no runtime for heartbeats: each is answered 503"),
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread for heartbeats: each is answered 503");
        }
        HeartbeatQueue { entrance, patience, store: writers_store }
    }

    /// How many heartbeats wait for a transaction.
    pub fn waiting(&self) -> usize {
        self.entrance.0.len()
    }

    /// The writers' own connections.
    pub fn pool_use(&self) -> PoolUse {
        self.store.get().map(Store::pool_use).unwrap_or_default()
    }

    /// Sends one heartbeat through and waits for its answer. A caller that goes away takes its
    /// heartbeat with it, unless its transaction has begun.
    pub async fn send(
        &self,
        path: GroupPath,
        session: SessionId,
        message: HeartbeatMessage,
        caller: &Caller,
        is_bound: bool,
    ) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.patience;
        let key = path.key().0;
        let tenant = path.parent.tenant.as_str().into();
        let (caller, arrived_at) = (caller.identity.clone(), caller.arrived_at);
        let request = Box::new(Request { path, key, session, message, tenant, caller, arrived_at, is_bound });
        let waiting = Waiting { request, deadline, reply };
        if self.entrance.0.push(waiting).is_err() {
            return Err(FailoverError::Overloaded("too many heartbeats are waiting to be written"));
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(FailoverError::Overloaded("the heartbeat could not be written in time")),
        }
    }
}

/// Runs the writers until the last way in is gone.
async fn run_writers(
    store: Store,
    options: FailoverOptions,
    line: Arc<Line<Waiting>>,
    others: Handle,
    deadlines: Option<Deadlines>,
    longer_leases: Arc<LongerLeases>,
    place: &OnceLock<Store>,
) {
    let connections = options.heartbeat_writers + MOST_ALONE;
    let count = |connections| u32::try_from(connections).unwrap_or(u32::MAX);
    let store = store.with_own_connections(count(connections), count(options.heartbeat_writers));
    // Nobody else sets it.
    let _ = place.set(store.clone());
    let alone = Arc::new(Semaphore::new(MOST_ALONE));
    let room = Arc::new(Semaphore::new(options.heartbeat_queue));
    let held = Arc::new(HeldGroups::default());
    let beside_held = Arc::new(Semaphore::new(MOST_HELD));
    let turns = Arc::new(Turns::default());
    let writers: Vec<_> = (0..options.heartbeat_writers)
        .map(|_| {
            let writer = Writer {
                store: store.clone(),
                rules: options.rules,
                batch_limit: options.heartbeat_batch,
                line: line.clone(),
                alone: alone.clone(),
                room: room.clone(),
                held: held.clone(),
                beside_held: beside_held.clone(),
                others: others.clone(),
                deadlines: deadlines.clone(),
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
    /// Where leases are noted, if somebody looks when they end.
    deadlines: Option<Deadlines>,
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
        let mut kept = Kept::empty();
        let patience = self.store.options().idle_in_transaction_timeout / 2;
        // Before the first heartbeat comes: where connections are few, others may have them all by
        // then.
        self.store.keep_connection(&mut kept).await;
        loop {
            match tokio::time::timeout(patience, self.line.take(self.batch_limit)).await {
                Ok(batch) if batch.is_empty() => return,
                Ok(batch) => {
                    let mut batch = self.without_expensive(&mut kept, batch).await;
                    if self.turns.are_taken() {
                        self.take_turn(&mut kept, &mut batch).await;
                    }
                    self.write(&mut kept, batch).await;
                }
                Err(_) => self.store.keep_connection(&mut kept).await,
            }
        }
    }

    /// Finds out how large groups are that have not been seen before; those that are expensive go
    /// back into the line.
    async fn without_expensive(&self, kept: &mut Kept, batch: Vec<Waiting>) -> Vec<Waiting> {
        let unknown: Vec<uuid::Uuid> = self.line.unknown_groups(&batch).into();
        if unknown.is_empty() {
            return batch;
        }
        let asked = &unknown;
        let counted = self
            .store
            .read_on(kept, |connection, _| Box::pin(groups::count_some_sessions(connection, asked, EXPENSIVE)));
        // Where that fails, so will the transaction, and says why.
        let Some(sizes) = counted.await else { return batch };
        self.line.note_sizes(std::iter::zip(unknown.iter().copied(), sizes));
        let (batch, without_place) = self.line.put_expensive_back(batch);
        for waiting in without_place {
            let _ = waiting.reply.send(Err(FailoverError::Overloaded("too many heartbeats are waiting to be written")));
        }
        batch
    }

    /// Waits for the turn of the next transaction, and takes along what has come meanwhile: where
    /// replicas wait for each other, that is most of it.
    async fn take_turn(&self, kept: &mut Kept, batch: &mut Vec<Waiting>) {
        let began = Instant::now();
        match self.store.begin_in_turn(kept).await {
            true => {
                metrics::turn_taken();
                self.turns.note_wait(began.elapsed());
            }
            false => self.turns.note_vain_wait(),
        }
        self.line.top_up(batch, self.batch_limit);
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
            self.turns.note_conflicts(kept.take_conflicts());
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
        let mut keys: Vec<uuid::Uuid> = part.iter().map(|waiting| waiting.request.key).collect();
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
                epoch: 0,
            });
        };
        let requests: &[&Request] = &part.iter().map(|waiting| &*waiting.request).collect::<Vec<_>>();
        let decision = Decision {
            rules: &self.rules,
            lost_leases: &self.longer_leases,
            // All of them are of one group then.
            is_of_large_group: self.line.is_expensive(requests[0].key),
            notes_leases: self.deadlines.is_some(),
        };
        let decision = &decision;
        self.store
            .serializable_on(kept, deadline, max_conflicts, "heartbeats", LostCommit::Repeat, |connection, _| {
                Box::pin(async move { Ok(decision.make(connection, requests, &self.store).await?) })
            })
            .await
            // Before anybody is answered.
            .inspect(|committed: &Committed| self.longer_leases.note(&committed.longer, committed.epoch))
    }

    /// Answers every request of a part.
    fn answer(&self, part: Vec<Waiting>, outcome: Result<Committed, StoreError>) {
        match outcome {
            Ok(committed) => {
                log_changes(&committed.changes);
                self.line.note_sizes(committed.sizes.into_iter());
                metrics::batch_committed(part.len());
                for (waiting, outcome) in std::iter::zip(part, committed.outcomes) {
                    // Nobody waits any more: the heartbeat counts all the same.
                    let _ = waiting.reply.send(outcome);
                }
                if let Some(deadlines) = &self.deadlines {
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

/// How a batch is decided.
struct Decision<'a> {
    rules: &'a Rules,
    /// Leases that were longer than those before them, where that may be lost.
    lost_leases: &'a LongerLeases,
    /// Whether all of it is of one group of many sessions.
    is_of_large_group: bool,
    /// Whether somebody looks at leases as they end.
    notes_leases: bool,
}

impl Decision<'_> {
    /// The work of one transaction: reads the state of the groups, decides one heartbeat after the
    /// other in memory, and writes what changed.
    async fn make(
        &self,
        connection: &mut Connection,
        requests: &[&Request],
        store: &Store,
    ) -> Result<Committed, WorkError> {
        let (keys, places) = distinct_keys(requests);
        let options = store.options();
        // Where groups are spread, a part is looked up in as many steps as the whole is read in.
        let (clock, part, whole) = match (self.is_of_large_group && !connection.is_spread(), &keys[..]) {
            (true, [key]) => {
                let (clock, part) = load_in_part(connection, *key, requests, options).await?;
                (clock, part, None)
            }
            _ => {
                let (clock, whole) = state::load(connection, &keys, options).await?;
                (clock, None, Some(whole))
            }
        };
        let read_at = Instant::now();
        let strangers = find_strangers(connection, requests).await?;
        // If it has risen since the snapshot was taken, nothing comes of this.
        let epoch = store.life().epoch();
        let mut longer = Longer { lost: self.lost_leases, epoch, given: Vec::new() };
        let in_part = part.and_then(|part| decide_in_part(requests, &strangers, part, &clock, self.rules, &mut longer));
        let is_whole = in_part.is_none();
        let (outcomes, loaded) = match in_part {
            Some((outcomes, part)) => (outcomes, Vec::from(part)),
            None => {
                // Where a part was not enough, by the clock of the statement that took the snapshot
                // all the same.
                let mut whole = match whole {
                    Some(whole) => whole,
                    None => state::load(connection, &keys, options).await?.1,
                };
                let outcomes = std::iter::zip(requests.iter(), places.iter())
                    .enumerate()
                    .map(|(i, (request, place))| match strangers.contains(&i) {
                        true => Err(session_of_another(&request.path, &request.session)),
                        false => decide(request, &mut whole[*place], &clock, self.rules, &mut longer),
                    })
                    .collect();
                (outcomes, whole)
            }
        };
        let changes = changes_in(requests, &places, &loaded);
        let leases = match self.notes_leases {
            true => Leases { left: leases_left(&loaded, &clock), read_at },
            false => Leases::none(),
        };
        let size = |stored: &StoredGroup| (stored.key.0, stored.session_ids.len());
        // Of a part of a group it is not known how large that is.
        let sizes = loaded.iter().flatten().flatten().filter(|_| is_whole).map(size).collect();
        let mut decided: Vec<StoredGroup> = loaded.into_iter().flatten().flatten().collect();
        state::save(connection, &clock, &mut decided, Actor::Heartbeat).await?;
        Ok(Committed { outcomes, changes, leases, sizes, longer: longer.given, epoch })
    }
}

impl Leases {
    fn none() -> Leases {
        Leases { left: Vec::new(), read_at: Instant::now() }
    }
}

/// Of each group with a holder of a role: how long until the first of their leases ends, outages
/// left out of account.
fn leases_left(loaded: &[Loaded], clock: &state::Clock) -> Vec<LeaseLeft> {
    let now = instant(clock.now);
    let of = |stored: &StoredGroup| {
        let held = stored.group.sessions.iter().filter(|session| session.role != Role::Secondary);
        let ends = held.filter_map(|session| session.beat).map(|beat| beat.lease_until).min()?;
        Some(LeaseLeft { group_key: stored.key.0, left_us: ends.0.saturating_sub(now.0) })
    };
    loaded.iter().flatten().flatten().filter_map(of).collect()
}

/// Whether the fault may be that of one request, so that the others would succeed without it.
fn is_worth_splitting(error: &StoreError) -> bool {
    match error {
        StoreError::Contended { .. } | StoreError::Inconsistent(_) | StoreError::Failed { .. } => true,
        StoreError::Unavailable(_) => false,
    }
}

/// The keys of the groups, each once, and for each request the place of its group's.
fn distinct_keys(requests: &[&Request]) -> (Vec<uuid::Uuid>, Vec<usize>) {
    let mut known = HashMap::with_capacity(requests.len());
    let mut keys = Vec::with_capacity(requests.len());
    let places = requests
        .iter()
        .map(|request| {
            let key = request.key;
            *known.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            })
        })
        .collect();
    (keys, places)
}

/// Which of the heartbeats come from somebody else than their session is bound to. Asks nothing
/// where none is.
async fn find_strangers(connection: &mut Connection, requests: &[&Request]) -> Result<HashSet<usize>, WorkError> {
    if requests.iter().all(|request| !request.is_bound) {
        return Ok(HashSet::new());
    }
    let keys: Vec<uuid::Uuid> = requests.iter().map(|request| request.key).collect();
    let sessions: Vec<String> = requests.iter().map(|request| request.session.as_str().to_owned()).collect();
    let registrants = groups::find_registrants(connection, &keys, &sessions).await?;
    let is_stranger = |(i, request): (usize, &&Request)| {
        let registrant = registrants.seen_by(&request.caller, i);
        let is_theirs = !request.is_bound || beat_bound(registrant, &request.path.group, &request.session).is_ok();
        (!is_theirs).then_some(i)
    };
    Ok(requests.iter().enumerate().filter_map(is_stranger).collect())
}

/// What these heartbeats of one group of many sessions are decided on, unless that turns out to be
/// the whole group.
async fn load_in_part(
    connection: &mut Connection,
    key: uuid::Uuid,
    requests: &[&Request],
    options: &StoreOptions,
) -> Result<(state::Clock, Option<Loaded>), WorkError> {
    let sessions: Vec<&str> = requests.iter().map(|request| request.session.as_str()).collect();
    state::load_in_part(connection, key, &sessions, options).await
}

/// Decides heartbeats of one group on a part of it; nothing where one of them may change more than
/// its own lease.
fn decide_in_part(
    requests: &[&Request],
    strangers: &HashSet<usize>,
    loaded: Loaded,
    clock: &state::Clock,
    rules: &Rules,
    longer: &mut Longer<'_>,
) -> Option<(Vec<Outcome>, [Loaded; 1])> {
    let mut loaded = [loaded];
    let mut outcomes = Vec::with_capacity(requests.len());
    for (i, request) in requests.iter().enumerate() {
        if strangers.contains(&i) {
            outcomes.push(Err(session_of_another(&request.path, &request.session)));
            continue;
        }
        if let Some(Ok(stored)) = &loaded[0]
            && let Some(s) = stored.find_session(request.session.as_str())
            && !arbitration::changes_nothing(&stored.group, s, &request.report(clock), clock.moment(), rules)
        {
            return None;
        }
        outcomes.push(decide(request, &mut loaded[0], clock, rules, longer));
    }
    Some((outcomes, loaded))
}

/// One heartbeat on the state of its group, as those before it in the batch have left it. Notes a
/// lease that is longer than the one before.
fn decide(
    request: &Request,
    loaded: &mut Loaded,
    clock: &state::Clock,
    rules: &Rules,
    longer: &mut Longer<'_>,
) -> Outcome {
    let stored = match loaded {
        None => return Err(no_such_group(&request.path)),
        Some(Err(what)) => return Err(StoreError::Inconsistent(what.clone()).into()),
        Some(Ok(stored)) => stored,
    };
    let Some(s) = stored.find_session(request.session.as_str()) else {
        return Err(no_such_session(&request.path, &request.session));
    };
    let moment = clock.moment();
    stored.group.begin_anew(moment);
    if let Some(given_for) = longer.lost.lost_of(request.key, longer.epoch) {
        arbitration::doubt_for(&mut stored.group, given_for, moment);
    }
    if stored.group.is_in_doubt(moment)
        && request.message.acting_as == Some(Role::Primary)
        && !clock.is_of_present_history(request.arrived_at)
    {
        // It was true when it was sent. Since then another may have been granted Primary in the
        // history that is lost: one that waited here while a replica went on that had not lost the
        // database. Sent anew, it can be believed.
        return Err(FailoverError::SaidInAnotherHistory(request.path.group.clone()));
    }
    let report = request.report(clock);
    let StoredGroup { group, trace, .. } = stored;
    let given_for_us = group.sessions[s].beat.map_or(0, |beat| beat.lease_until.0 - beat.received_at.0);
    let answer = arbitration::heartbeat(group, s, &report, moment, rules, trace);
    longer.given.extend(answer.lease.filter(|lease| lease.micros() > given_for_us).map(|lease| (request.key, lease)));
    stored.received.insert(s, request.times(clock));
    Ok(answer)
}

fn changes_in(requests: &[&Request], places: &[usize], loaded: &[Loaded]) -> Vec<RoleChange> {
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
