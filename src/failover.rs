//! The use cases: what a client or an operator can ask for. Each is one transaction around a pure
//! decision.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::Denied;
use crate::arbitration::{self, FailoverTimeout};
use crate::ids::{self, GroupPath, Groups, NamespacePath, SessionId, TenantId};
use crate::metrics;
use crate::store::audit::{self, Action};
use crate::store::clock::{Clock, read_moment};
use crate::store::connection::Connection;
use crate::store::groups::{self, GroupConfiguration, Presence};
use crate::store::reads::{self, GroupView};
use crate::store::state::{self, Actor, StoredGroup};
use crate::store::{LostCommit, Stop, Store, StoreError, WorkError};

pub use caller::{Caller, Recognition};
use census::LatestCensus;
use deadlines::Deadlines;
pub use error::FailoverError;
use feed::Feed;
use gaps::{Gaps, Grants};
pub use heartbeats::HeartbeatMessage;
use heartbeats::HeartbeatQueue;
use log::{RoleChange, changes_of, log_changes, log_deed};
use longer_leases::LongerLeases;
use new_ids::Looks;
pub use options::{EventOptions, FailoverOptions};
pub use outcome::{Creation, Registered, Removal, Replacement};
use refusals::{OnTheirWay, Refusals};
use room::Room;
pub use wanted::{Deletion, ListRange, Speaker, WantedGroup, WantedSession};
use wishes::wisher_of;

mod caller;
pub mod census;
mod deadlines;
mod error;
pub mod feed;
mod gaps;
mod heartbeats;
mod held;
pub mod history;
mod line;
mod log;
mod longer_leases;
mod new_ids;
mod options;
mod outcome;
pub mod refusals;
mod rhythm;
pub mod risks;
mod room;
mod sessions;
pub mod silent_sessions;
mod trail;
mod turns;
pub mod upkeep;
mod wanted;
pub mod what_if;
pub mod wishes;

/// How many groups are read at a time for a list, and from how many of their sessions on fewer are:
/// what bounds its memory.
const LIST_PAGE: i64 = 100;
const LIST_PAGE_SESSIONS: i64 = 1_000;

/// The service behind its interfaces. Cheap to clone.
#[derive(Clone)]
pub struct Failover {
    store: Store,
    heartbeats: HeartbeatQueue,
    deadlines: Deadlines,
    feed: Feed,
    census: LatestCensus,
    room: Arc<Room>,
    longer_leases: Arc<LongerLeases>,
    new_ids: Arc<Looks>,
    refusals: Refusals,
    /// What is on its way into the audit trail, until somebody writes it.
    refused: Arc<Mutex<Option<OnTheirWay>>>,
    /// Grants that nobody has looked at yet, until somebody does.
    grants: Arc<Mutex<Option<Grants>>>,
    /// What works in the background, once it does.
    direct: Arc<OnceLock<Store>>,
    options: Arc<FailoverOptions>,
}

impl Failover {
    /// The use cases over a store. Must be called within a tokio runtime. The heartbeat writers run
    /// for as long as a clone of this value lives.
    pub fn start(store: Store, options: FailoverOptions) -> Failover {
        let deadlines = Deadlines::new();
        let longer_leases = Arc::default();
        let (refusals, refused) = Refusals::new();
        let (gaps, grants) = Gaps::new();
        let watched = options.prompt_lapses.then(|| deadlines.clone());
        let heartbeats = HeartbeatQueue::start(&store, &options, watched, &longer_leases, gaps);
        let feed = Feed::new(store.clone(), options.events.max_streams);
        let census = LatestCensus::naming(options.metrics_namespaces);
        Failover {
            store,
            heartbeats,
            deadlines,
            feed,
            census,
            new_ids: Arc::default(),
            room: Arc::default(),
            longer_leases,
            refusals,
            refused: Arc::new(Mutex::new(Some(refused))),
            grants: Arc::new(Mutex::new(Some(grants))),
            direct: Arc::default(),
            options: Arc::new(options),
        }
    }

    /// Says over which store events are read, history is pruned and groups are counted: its
    /// connections are shown, too.
    pub fn works_in_background_over(&self, direct: &Store) {
        // The first one counts; there is no other.
        let _ = self.direct.set(direct.clone());
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether leases are looked at as they end.
    pub fn looks_at_leases(&self) -> bool {
        self.options.prompt_lapses
    }

    /// What known callers are refused.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Writes what known callers are refused into the audit trail, for ever. The first to be asked
    /// does.
    pub async fn record_refusals(self, store: Store) {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        match refused {
            Some(refused) => refusals::keep(refused, store).await,
            None => std::future::pending().await,
        }
    }

    /// Observes for how long groups had no Primary, for ever. The first to be asked does.
    pub async fn observe_gaps(self, store: Store) {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner).take();
        match grants {
            Some(grants) => gaps::observe(grants, store.background()).await,
            None => std::future::pending().await,
        }
    }

    /// The streams of events.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What a scrape of the metrics reads at its moment.
    pub fn readings(&self) -> metrics::Readings {
        let direct = self.direct.get();
        metrics::Readings {
            requests: self.store.pool_use(),
            heartbeats: self.heartbeats.pool_use(),
            upkeep: self.store.background_pool_use(),
            background: direct.map(Store::background_pool_use).unwrap_or_default() + metrics::listening_pool_use(),
            waiting: self.heartbeats.waiting(),
            leases_watched: self.deadlines.len(),
            sign_of_life_age: self.store.life().age(),
        }
    }

    /// Creates a group. The same again changes nothing and succeeds.
    pub async fn create_group(
        &self,
        caller: &Caller,
        path: GroupPath,
        wanted: WantedGroup,
    ) -> Result<Creation, FailoverError> {
        caller.rights.create(&caller.identity, &path.group)?;
        let full = self.full_tenant(&path.parent.tenant).await?;
        let (path, wanted, full) = (&path, &wanted, &full);
        let done = self
            .store
            .serializable("create_group", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    let clock = read_moment(connection, self.store.options()).await?;
                    match groups::find_configuration(connection, path.key()).await? {
                        None => {
                            may_be_created(path, full)?;
                            insert_group(connection, caller, path, &wanted.configuration(), &clock).await?;
                            Ok(Creation::Created)
                        }
                        Some(found) if wanted.agrees_with(&found) => Ok(Creation::FoundTheSame),
                        Some(_) => Err(FailoverError::GroupDiffers(path.group.clone()).into()),
                    }
                })
            })
            .await?;
        log_deed((done == Creation::Created).then_some(log::GROUP_CREATED), caller, &path.label(), None);
        Ok(done)
    }

    /// Creates a group or replaces its configuration. Sessions, roles and leases already given
    /// stay.
    ///
    /// Only an admin replaces one; for others it has to be as they want it, or not there yet.
    pub async fn put_group(
        &self,
        caller: &Caller,
        path: GroupPath,
        wanted: WantedGroup,
    ) -> Result<Replacement, FailoverError> {
        let full = self.full_tenant(&path.parent.tenant).await?;
        let (path, wanted, full) = (&path, &wanted, &full);
        let done = self
            .store
            .serializable("put_group", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    let clock = read_moment(connection, self.store.options()).await?;
                    match groups::find_configuration(connection, path.key()).await? {
                        None => {
                            may_be_created(path, full)?;
                            insert_group(connection, caller, path, &wanted.configuration(), &clock).await?;
                            Ok(Replacement::Created)
                        }
                        Some(found) if found == wanted.in_place_of(&found) => Ok(Replacement::FoundTheSame),
                        Some(found) => {
                            caller.rights.change(&path.group).map_err(FailoverError::from)?;
                            let configuration = wanted.in_place_of(&found);
                            groups::update_configuration(connection, path, &configuration).await?;
                            let change = Change {
                                before: Some(configuration_json(&found)),
                                after: Some(configuration_json(&configuration)),
                            };
                            record(connection, caller, Action::GroupChanged, path, None, change).await?;
                            Ok(Replacement::Replaced)
                        }
                    }
                })
            })
            .await?;
        let deed = match done {
            Replacement::Created => Some(log::GROUP_CREATED),
            Replacement::Replaced => Some(log::GROUP_CHANGED),
            Replacement::FoundTheSame => None,
        };
        log_deed(deed, caller, &path.label(), None);
        Ok(done)
    }

    /// What a new group of that tenant is refused with, if it is. Counted outside of the
    /// transaction, which would meet every heartbeat of the tenant if it read all of its groups:
    /// those created at the same moment may exceed it.
    async fn full_tenant(&self, tenant: &TenantId) -> Result<Option<FailoverError>, StoreError> {
        let Some(limit) = self.options.group_limit else { return Ok(None) };
        let full = self
            .store
            .read("count_tenant_groups", |connection, _| Box::pin(groups::has_groups(connection, tenant, limit)));
        Ok(full.await?.then(|| FailoverError::TooManyGroups { tenant: tenant.clone(), limit }))
    }

    /// Deletes a group and its sessions; a live one only where `deletion` forces it. The next group
    /// at its path goes on from the term that it had, and grants nobody before its Primary has
    /// stopped acting.
    pub async fn delete_group(
        &self,
        caller: &Caller,
        path: &GroupPath,
        deletion: Deletion,
    ) -> Result<Removal, FailoverError> {
        let (changes, done) = self
            .store
            .serializable("delete_group", LostCommit::Report, |connection, _| {
                Box::pin(async move {
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    stored.wisher = Some(wisher_of(caller));
                    let live = deletion.allows(path, &stored, &clock)?;
                    let remains = arbitration::end(&mut stored.group, clock.moment(), &mut stored.trace);
                    let mut stored = [stored];
                    state::save(connection, &clock, &mut stored, Actor::Operator).await?;
                    let configuration = groups::find_configuration(connection, path.key()).await?;
                    groups::delete_group(connection, path, remains).await?;
                    let action = if live > 0 { Action::GroupDeletedByForce } else { Action::GroupDeleted };
                    let mut before = configuration.as_ref().map(configuration_json).unwrap_or_default();
                    before["Sessions"] = stored[0].session_ids.clone().into();
                    before["LiveSessions"] = live.into();
                    let change = Change { before: Some(before), after: None };
                    record(connection, caller, action, path, None, change).await?;
                    Ok((changes_of(&path.label(), &stored[0]), Removal::of(live > 0)))
                })
            })
            .await?;
        log_changes(&changes);
        log_deed(Some(log::GROUP_DELETED), caller, &path.label(), None);
        Ok(done)
    }

    /// The state of a group that is decided on, and the clock that belongs to it.
    async fn load_group(
        &self,
        connection: &mut Connection,
        path: &GroupPath,
    ) -> Result<(Clock, StoredGroup), Stop<FailoverError>> {
        let (clock, mut loaded) = state::load(connection, &[path.key().0], self.store.options()).await?;
        let found = loaded.pop().flatten().transpose().map_err(WorkError::Inconsistent)?;
        Ok((clock, found.ok_or_else(|| no_such_group(path))?))
    }

    /// One group with its sessions and the roles that are true now.
    pub async fn find_group(&self, path: &GroupPath) -> Result<GroupView, FailoverError> {
        let found = self.read_groups(&[path.key().0]).await?.pop();
        found.ok_or_else(|| no_such_group(path))
    }

    /// That a group or a session is not there; `None` where both are.
    pub async fn find_absent(
        &self,
        path: &GroupPath,
        session: &SessionId,
    ) -> Result<Option<FailoverError>, FailoverError> {
        let key = path.key();
        let found =
            self.store.read("find_absent", |connection, _| Box::pin(groups::find_presence(connection, key, session)));
        Ok(match found.await? {
            Presence::Neither => Some(no_such_group(path)),
            Presence::GroupAlone => Some(no_such_session(path, session)),
            Presence::Both => None,
        })
    }

    /// How many such groups a namespace has.
    pub async fn count_groups(&self, namespace: &NamespacePath, groups: &Groups) -> Result<i64, FailoverError> {
        let count = self
            .store
            .read("count_groups", |connection, _| Box::pin(reads::count_groups(connection, namespace, groups)));
        Ok(count.await?)
    }

    /// Such groups of a namespace in order of id, page by page as they are asked for.
    ///
    /// Each page is a read of its own: a list of any length holds neither memory nor a snapshot
    /// that would keep the database from clearing up after heartbeats.
    pub fn list_groups(
        &self,
        namespace: NamespacePath,
        groups: Groups,
        range: ListRange,
    ) -> impl Stream<Item = Result<Vec<GroupView>, FailoverError>> + use<> {
        let next = ListPosition { after_id: String::new(), skip: range.skip, left: range.count };
        let wanted = (namespace, groups);
        stream::try_unfold((self.clone(), wanted, next), |(failover, wanted, next)| async move {
            let limit = next.left.map_or(LIST_PAGE, |left| left.min(LIST_PAGE));
            if limit == 0 {
                return Ok(None);
            }
            let mut listed = failover.find_keys(&wanted, &next, limit).await?;
            let is_last = (listed.len() as i64) < limit;
            let found = listed.len();
            let mut sessions = 0;
            let fit = listed.iter().take_while(|group| {
                let is_room = sessions < LIST_PAGE_SESSIONS;
                sessions += group.sessions;
                is_room
            });
            let fit = fit.count();
            listed.truncate(fit);
            let Some(last_id) = listed.last().map(|group| group.group_id.clone()) else { return Ok(None) };
            let listed: Vec<Uuid> = listed.into_iter().map(|group| group.group_key).collect();
            let count = listed.len() as i64;
            // All of them may be deleted by now: the page is empty then, and the list goes on.
            let page = failover.read_groups(&listed).await?;
            let next = ListPosition {
                after_id: last_id,
                skip: 0,
                left: if is_last && fit == found { Some(0) } else { next.left.map(|left| left - count) },
            };
            Ok(Some((page, (failover, wanted, next))))
        })
    }

    async fn find_keys(
        &self,
        (namespace, groups): &(NamespacePath, Groups),
        position: &ListPosition,
        limit: i64,
    ) -> Result<Vec<reads::Listed>, StoreError> {
        self.store
            .read("list_groups", |connection, _| {
                let ListPosition { after_id, skip, .. } = position;
                Box::pin(reads::find_keys(connection, namespace, groups, after_id, *skip, limit))
            })
            .await
    }

    async fn read_groups(&self, keys: &[Uuid]) -> Result<Vec<GroupView>, StoreError> {
        self.store
            .read("read_groups", |connection, _| Box::pin(reads::read_groups(connection, keys, self.store.options())))
            .await
    }
}

/// Where a list has come to.
struct ListPosition {
    after_id: String,
    skip: i64,
    left: Option<i64>,
}

/// Refuses a new group of that path where its tenant is full, or a name in it is not to be had.
fn may_be_created(path: &GroupPath, full: &Option<FailoverError>) -> Result<(), FailoverError> {
    match hidden_in_path(path).or_else(|| full.clone()) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// What a new group of that path is refused with, if a name in it holds what nobody sees. One that
/// is there is served as ever.
fn hidden_in_path(path: &GroupPath) -> Option<FailoverError> {
    hidden_in("id of the tenant", path.parent.tenant.as_str())
        .or_else(|| hidden_in("id of the namespace", path.parent.namespace.as_str()))
        .or_else(|| hidden_in("id of the group", path.group.as_str()))
}

fn hidden_in(what: &'static str, name: &str) -> Option<FailoverError> {
    ids::hidden_character(name).map(|character| FailoverError::HiddenCharacter { what, character })
}

fn no_such_group(path: &GroupPath) -> FailoverError {
    FailoverError::NoSuchGroup { parent: path.parent.clone(), group: path.group.clone() }
}

fn no_such_session(path: &GroupPath, session: &SessionId) -> FailoverError {
    FailoverError::NoSuchSession { group: path.group.clone(), session: session.clone() }
}

fn session_of_another(path: &GroupPath, session: &SessionId) -> FailoverError {
    Denied::SessionOfAnother { group: path.group.clone(), session: session.clone() }.into()
}

async fn insert_group(
    connection: &mut Connection,
    caller: &Caller,
    path: &GroupPath,
    configuration: &GroupConfiguration,
    clock: &Clock,
) -> Result<(), WorkError> {
    groups::insert_group(connection, path, configuration, clock).await?;
    let change = Change { before: None, after: Some(configuration_json(configuration)) };
    record(connection, caller, Action::GroupCreated, path, None, change).await
}

/// What an entry of the audit trail shows.
struct Change {
    before: Option<Value>,
    after: Option<Value>,
}

async fn record(
    connection: &mut Connection,
    caller: &Caller,
    action: Action,
    path: &GroupPath,
    session: Option<&SessionId>,
    change: Change,
) -> Result<(), WorkError> {
    let entry = audit::Entry {
        action,
        tenant: path.parent.tenant.as_str(),
        namespace: Some(path.parent.namespace.as_str()),
        group: Some(path.group.as_str()),
        session: session.map(SessionId::as_str),
        identity: &caller.identity,
        operation_id: &caller.operation_id,
        claimed_trace_id: caller.claimed_trace.as_deref(),
        before: change.before,
        after: change.after,
    };
    audit::record(connection, entry).await
}

fn configuration_json(configuration: &GroupConfiguration) -> Value {
    let mut written = json!({
        "Name": configuration.name,
        "Description": configuration.description,
        "Milliseconds": configuration.timeout.ticks() as f64 / FailoverTimeout::TICKS_PER_MS as f64,
    });
    if let Some(data) = &configuration.additional_data {
        // As text: the trail shows what was sent, and takes what a value of its own could not hold.
        written["AdditionalData"] = data.as_str().into();
    }
    written
}
