//! The feed of events: read once per replica, handed to everybody who listens.
//!
//! One task reads new rows when a commit says that there are some, and a few times a second in any
//! case, so that nothing is missed while the listening connection is down. It passes them on
//! strictly in order of id: where ids are missing, it first makes sure that their transactions have
//! ended (`docs/decisions/0006-order-of-events.md`). A listener waits in memory and reads the
//! database only to catch up: when it resumes, and when it was too slow.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};

use super::FailoverError;
use crate::ids::{GroupKey, Groups, NamespaceId, NamespacePath, TenantId};
use crate::metrics;
use crate::store::events::{self, Event, EventGroup, EventScope};
use crate::store::{Store, StoreError};

/// How often new rows are looked for when nobody says that there are some. One look is two steps
/// along an index.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The shortest time from one look to the next, where one commit follows the other.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// The most events of one look.
const PAGE: i64 = 1_000;

/// How many events wait for a listener before it is sent to the database to catch up.
const BACKLOG: usize = 256;

/// How often the writers that are waited for are looked at.
const SETTLE_INTERVAL: Duration = Duration::from_millis(3);

/// A feed whose latest look is older than that is not current: it looks five times a second.
const CURRENT: Duration = Duration::from_secs(1);

/// The longest that missing ids are waited for. A transaction of a replica cannot stand that long:
/// the server ends it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A new history is noted with the next sign of life. One that was not after so long was not
/// noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// How long a new stream waits for the feed's first look.
const START_TIMEOUT: Duration = Duration::from_secs(2);

/// An event on its way to many listeners, with its text, which the first of them writes for all.
#[derive(Debug)]
pub struct Published {
    /// The event.
    pub event: Event,
    text: OnceLock<Bytes>,
}

impl Published {
    fn new(event: Event) -> Arc<Published> {
        Arc::new(Published { event, text: OnceLock::new() })
    }

    /// The event as text, written once.
    pub fn text(&self, write: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.text.get_or_init(|| write(&self.event)).clone()
    }
}

/// Where events come in and listeners join. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<State>);

struct State {
    store: Store,
    max_streams: usize,
    streams: AtomicUsize,
    topics: Mutex<HashMap<EventScope, broadcast::Sender<Arc<Published>>>>,
    /// Every event up to this id has been read. Raised before they are handed out: whoever joins
    /// and then looks here gets what comes later, and finds in the database what came before.
    /// Negative until the first look.
    settled: AtomicI64,
    /// Every event up to this id has been handed out. Raised after that.
    handed_out: AtomicI64,
    /// Raised when events begin again with ids that were given out before: what a listener knows by
    /// its last id is worth nothing then.
    epoch: AtomicI64,
    /// When the latest look began that found whatever there was.
    looked_at: Mutex<Option<Instant>>,
    started: Notify,
    wake: Notify,
}

impl Feed {
    /// A feed without events until [`Feed::run`] brings some, for at most so many streams at once.
    pub fn new(store: Store, max_streams: usize) -> Feed {
        Feed(Arc::new(State {
            store,
            max_streams,
            streams: AtomicUsize::new(0),
            topics: Mutex::default(),
            settled: AtomicI64::new(-1),
            handed_out: AtomicI64::new(-1),
            epoch: AtomicI64::new(0),
            looked_at: Mutex::default(),
            started: Notify::new(),
            wake: Notify::new(),
        }))
    }

    /// Listens to such groups of a scope: to what comes from now on, or to everything after an id,
    /// however old.
    pub async fn listen(
        &self,
        scope: EventScope,
        groups: Groups,
        after: Option<i64>,
    ) -> Result<Listener, FailoverError> {
        let permit = self.take_permit().ok_or(FailoverError::TooManyStreams { limit: self.0.max_streams })?;
        self.wait_for_start().await?;
        let (receiver, epoch) = self.join(&scope);
        let settled = self.0.settled.load(Ordering::Acquire);
        let (at, missed) = match after {
            None => (settled, false),
            Some(after) if after < settled => {
                let oldest = self
                    .0
                    .store
                    .read("oldest_event", |connection, _| Box::pin(events::find_oldest_id(connection)))
                    .await?;
                (after, oldest.is_some_and(|oldest| after.saturating_add(1) < oldest))
            }
            Some(after) if after == settled => (after, false),
            // Another replica was a moment ahead of this one; or the id was given out by a database
            // that this one is an older copy of, and nobody has noticed that.
            Some(after) => {
                let newest = self
                    .0
                    .store
                    .read("newest_event", |connection, _| Box::pin(events::find_newest_id(connection)))
                    .await?;
                if after <= newest { (after, false) } else { (settled, true) }
            }
        };
        let catch_up_to = (at < settled).then_some(settled);
        Ok(Listener {
            feed: self.clone(),
            scope,
            groups,
            receiver,
            epoch,
            at,
            catch_up_to,
            ready: VecDeque::new(),
            missed,
            _permit: permit,
        })
    }

    /// Every event up to this id has been read, and none of them can still come; negative until the
    /// first look.
    pub fn settled(&self) -> i64 {
        self.0.settled.load(Ordering::Acquire)
    }

    fn take_permit(&self) -> Option<StreamPermit> {
        let take = |streams: usize| (streams < self.0.max_streams).then_some(streams + 1);
        self.0.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        metrics::event_stream_opened();
        Some(StreamPermit(self.0.clone()))
    }

    async fn wait_for_start(&self) -> Result<(), FailoverError> {
        let started = async {
            loop {
                let mut notified = pin!(self.0.started.notified());
                notified.as_mut().enable();
                if self.0.settled.load(Ordering::Acquire) >= 0 {
                    return;
                }
                notified.await;
            }
        };
        match tokio::time::timeout(START_TIMEOUT, started).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StoreError::Unavailable("events have not been read yet".to_owned()).into()),
        }
    }

    /// A place among those who listen to a scope, and the epoch of it.
    fn join(&self, scope: &EventScope) -> (broadcast::Receiver<Arc<Published>>, i64) {
        let mut topics = self.0.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = match topics.get(scope) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(BACKLOG);
                topics.insert(scope.clone(), sender);
                receiver
            }
        };
        (receiver, self.0.epoch.load(Ordering::Acquire))
    }

    /// Ends all streams: ids begin again.
    fn begin_epoch(&self) {
        let mut topics = self.0.topics.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
        topics.clear();
    }

    /// Reads events and hands them out, for ever. The store must lead past any pooler, or commits
    /// are not heard of and only the polling finds their events.
    pub async fn run(self, direct: Store) {
        let reader = Reader {
            feed: self.clone(),
            store: direct.background(),
            at: -1,
            settled_to: -1,
            reached: true,
            base: None,
            behind_since: None,
        };
        tokio::join!(reader.run(), self.keep_listening(direct));
    }

    async fn keep_listening(&self, direct: Store) {
        let mut said = false;
        loop {
            let error = match direct.listen().await {
                Ok(mut ears) => {
                    metrics::listening(true);
                    said = false;
                    loop {
                        // Also at the first turn: something may have come before these ears were
                        // there.
                        self.0.wake.notify_one();
                        if let Err(error) = ears.hear().await {
                            break error;
                        }
                    }
                }
                Err(error) => error,
            };
            metrics::listening(false);
            if !said {
                tracing::warn!(%error, "commits are not heard of; events are found by polling");
                said = true;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn hand_out(&self, event: Event) {
        let id = event.id;
        // Before it is handed out: see the field. And no other history gives its id out again.
        self.0.settled.store(id, Ordering::Release);
        self.0.store.life().note_event(id);
        metrics::event_handed_out();
        let scopes = event.group.as_ref().map(|group| {
            let of_group = EventScope::Group(GroupKey(group.key));
            [Some(EventScope::Everything), tenant_of(group), namespace_of(group), Some(of_group)]
        });
        let published = Published::new(event);
        let topics = self.0.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let senders: Vec<_> = match &scopes {
            // It concerns everybody.
            None => topics.values().collect(),
            Some(scopes) => scopes.iter().flatten().filter_map(|scope| topics.get(scope)).collect(),
        };
        for sender in senders {
            // An error says that nobody is there any more.
            let _ = sender.send(published.clone());
        }
    }
}

fn tenant_of(group: &EventGroup) -> Option<EventScope> {
    TenantId::parse(group.tenant.as_str()).ok().map(EventScope::Tenant)
}

fn namespace_of(group: &EventGroup) -> Option<EventScope> {
    let tenant = TenantId::parse(group.tenant.as_str()).ok()?;
    let namespace = NamespaceId::parse(group.namespace.as_str()).ok()?;
    Some(EventScope::Namespace(NamespacePath { tenant, namespace }))
}

/// One of the places for streams, given back when dropped.
struct StreamPermit(Arc<State>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        metrics::event_stream_closed();
    }
}

/// One who listens: gets every event of its scope once, in order.
pub struct Listener {
    feed: Feed,
    scope: EventScope,
    /// Those of the scope that are listened to.
    groups: Groups,
    receiver: broadcast::Receiver<Arc<Published>>,
    /// The one of the feed when it began.
    epoch: i64,
    /// Everything up to this id has been given out or is in `ready`.
    at: i64,
    /// Up to where the database has to be read before the receiver is.
    catch_up_to: Option<i64>,
    ready: VecDeque<Arc<Published>>,
    missed: bool,
    _permit: StreamPermit,
}

impl Listener {
    /// Whether events after the id that it began with are no longer kept, so that some may be
    /// missing.
    pub fn has_missed(&self) -> bool {
        self.missed
    }

    /// Whether events that are a moment old have been handed out: it is not so while the database
    /// cannot be read.
    pub fn is_current(&self) -> bool {
        let looked_at = *self.feed.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        looked_at.is_some_and(|at| at.elapsed() < CURRENT)
    }

    /// Whether there are events of before, to be read from the database.
    pub fn is_behind(&self) -> bool {
        self.catch_up_to.is_some()
    }

    /// The next event of those that there were when it began; `None` once all of them have been
    /// given out. Can be dropped while it waits, and loses nothing by it.
    pub async fn next_of_before(&mut self) -> Result<Option<Arc<Published>>, FailoverError> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(Some(next));
            }
            let Some(up_to) = self.catch_up_to else { return Ok(None) };
            self.catch_up(up_to).await?;
        }
    }

    /// Whether the listener may be told of it: of its groups, or of what concerns all.
    fn is_for_caller(&self, event: &Event) -> bool {
        event.group.as_ref().is_none_or(|group| self.groups.include(&group.id))
    }

    /// The next event. Can be dropped while it waits, and loses nothing by it.
    pub async fn next(&mut self) -> Result<Arc<Published>, FailoverError> {
        loop {
            if let Some(next) = self.next_of_before().await? {
                return Ok(next);
            }
            match self.receiver.recv().await {
                // What was read from the database may be in memory too.
                Ok(published) if published.event.id <= self.at => {}
                Ok(published) if !self.is_for_caller(&published.event) => self.at = published.event.id,
                Ok(published) => {
                    self.at = published.event.id;
                    return Ok(published);
                }
                // Too slow: what it missed is in the database.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.catch_up_to = Some(self.feed.0.settled.load(Ordering::Acquire));
                }
                // Topics go with their last listener, or all at once where ids begin again. Whoever
                // resumes is told what that came to.
                Err(broadcast::error::RecvError::Closed) => {
                    let (receiver, epoch) = self.feed.join(&self.scope);
                    self.receiver = receiver;
                    if self.epoch != epoch {
                        return Err(StoreError::Unavailable("the database has gone back in time".to_owned()).into());
                    }
                    self.catch_up_to = Some(self.feed.0.settled.load(Ordering::Acquire));
                }
            }
        }
    }

    /// An id that stands for everything given out so far, and for what came in other scopes
    /// meanwhile: a stream that resumes after it does not search through those again.
    pub fn position(&mut self) -> i64 {
        let handed_out = self.feed.0.handed_out.load(Ordering::Acquire);
        // Whatever was handed out by then is in the receiver, so if that is empty, it has been
        // given out.
        if self.catch_up_to.is_none() && self.ready.is_empty() && self.receiver.is_empty() {
            self.at = self.at.max(handed_out);
        }
        self.ready.front().map_or(self.at, |next| next.event.id - 1)
    }

    async fn catch_up(&mut self, up_to: i64) -> Result<(), FailoverError> {
        if self.at >= up_to {
            self.catch_up_to = None;
            return Ok(());
        }
        let (scope, after) = (&self.scope, self.at);
        let store = &self.feed.0.store;
        let page = store
            .read("catch_up", |connection, _| Box::pin(events::read_events(connection, scope, after, up_to, PAGE)))
            .await?;
        self.at = page.complete_to;
        let wanted: Vec<_> = page.events.into_iter().filter(|event| self.is_for_caller(event)).collect();
        self.ready.extend(wanted.into_iter().map(Published::new));
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Under the lock under which others join: a topic that is removed has nobody.
        let mut topics = self.feed.0.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // That of a later epoch is not the one that this listened to.
        let own = usize::from(self.epoch == self.feed.0.epoch.load(Ordering::Acquire));
        if topics.get(&self.scope).is_some_and(|sender| sender.receiver_count() <= own) {
            topics.remove(&self.scope);
        }
    }
}

/// The one task that reads.
struct Reader {
    feed: Feed,
    store: Store,
    /// Every event up to this id has been handed out; negative before the first look.
    at: i64,
    /// Every transaction that took an id up to this one has ended.
    settled_to: i64,
    reached: bool,
    /// What the latest history begins above, as far as is known.
    base: Option<i64>,
    /// Since when the database has given out fewer ids than were read.
    behind_since: Option<Instant>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            let began = tokio::time::Instant::now();
            let looked = self.look().await;
            if looked.is_ok() {
                *self.feed.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(began.into_std());
            }
            match &looked {
                Ok(()) if !self.reached => tracing::info!("events are read again"),
                Err(error) if self.reached => tracing::warn!(%error, "events cannot be read"),
                _ => {}
            }
            self.reached = looked.is_ok();
            // A commit that was heard of during the look wakes at once, but not as often as there
            // are commits.
            if tokio::time::timeout(POLL_INTERVAL, self.feed.0.wake.notified()).await.is_ok() {
                tokio::time::sleep_until(began + MIN_INTERVAL).await;
            } else if let Err(error) = self.begin_again_if_set_back().await {
                tracing::debug!(%error, "the newest event cannot be looked for");
            }
        }
    }

    /// Hands out whatever is new.
    async fn look(&mut self) -> Result<(), StoreError> {
        if self.at < 0 {
            self.begin().await?;
        }
        loop {
            let after = self.at;
            let (page, base) = self
                .store
                .read("events", |connection, _| {
                    Box::pin(async move {
                        let page =
                            events::read_events(connection, &EventScope::Everything, after, i64::MAX, PAGE).await?;
                        Ok((page, events::find_latest_base(connection).await?))
                    })
                })
                .await?;
            if self.base.is_some_and(|known| known < base) && base <= after {
                // Whoever noted this history knew of fewer ids than were read here, and its clock
                // was behind.
                tracing::warn!(
                    base,
                    "the database has a new history with ids that were read before; streams begin anew"
                );
                self.base = Some(base);
                self.begin_after(base - 1);
                self.feed.begin_epoch();
                continue;
            }
            self.base = Some(base);
            let is_last = page.events.len() < PAGE as usize;
            let mut gap_before = None;
            for event in page.events {
                if event.id > self.at + 1 && event.id > self.settled_to + 1 {
                    gap_before = Some(event.id);
                    break;
                }
                self.at = event.id;
                self.feed.hand_out(event);
            }
            self.feed.0.handed_out.store(self.at, Ordering::Release);
            match gap_before {
                // After that the rows are read anew: what was missing is there, or was never
                // committed.
                Some(id) => self.settle(id - 1).await?,
                None if is_last => return Ok(()),
                None => {}
            }
        }
    }

    /// Begins after everything that there is.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let newest = self.find_newest_id().await?;
        self.settle(newest).await?;
        self.begin_after(newest);
        Ok(())
    }

    fn begin_after(&mut self, id: i64) {
        self.at = id;
        self.store.life().note_event(id);
        self.feed.0.settled.store(id, Ordering::Release);
        self.feed.0.handed_out.store(id, Ordering::Release);
        self.feed.0.started.notify_waiters();
    }

    /// A database that went back in time gives out ids again. The next sign of life notes a new
    /// history, whose ids are above all that this replica has read, and then nothing has to begin
    /// again: the events go on, with one that says so. What is not noticed, such as a sequence that
    /// somebody has set by hand, is begun again with, and no stream goes on as if nothing had
    /// happened.
    async fn begin_again_if_set_back(&mut self) -> Result<(), StoreError> {
        if self.at < 0 || self.find_newest_id().await? >= self.at {
            self.behind_since = None;
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        if since.elapsed() < NOTICED_WITHIN {
            return Ok(());
        }
        tracing::warn!("the database has gone back in time; events go on from there, and streams begin anew");
        self.behind_since = None;
        self.settled_to = -1;
        self.begin().await?;
        self.feed.begin_epoch();
        Ok(())
    }

    async fn find_newest_id(&self) -> Result<i64, StoreError> {
        self.store.read("newest_event", |connection, _| Box::pin(events::find_newest_id(connection))).await
    }

    /// Waits until every transaction that took an id up to this one has ended.
    async fn settle(&mut self, id: i64) -> Result<(), StoreError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut awaited = self.find_writers().await?;
        while !awaited.is_empty() {
            if Instant::now() > deadline {
                tracing::warn!(id, ?awaited, "a transaction holds up the events for too long and is not waited for");
                break;
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
            let under_way = self.find_writers().await?;
            awaited.retain(|writer| under_way.contains(writer));
        }
        self.settled_to = id;
        Ok(())
    }

    async fn find_writers(&self) -> Result<HashSet<String>, StoreError> {
        self.store.read("event_writers", |connection, _| Box::pin(events::find_writers(connection))).await
    }
}
