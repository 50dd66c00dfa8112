//! What one transaction decides of many heartbeats.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use uuid::Uuid;

use super::request::{Outcome, Request};
use crate::access::decision::beat_bound;
use crate::arbitration::{self, FailoverTimeout, Report, Role, Rules};
use crate::failover::longer_leases::LongerLeases;
use crate::failover::rhythm;
use crate::failover::{FailoverError, RoleChange, changes_of, no_such_group, no_such_session, session_of_another};
use crate::store::clock::{Clock, instant};
use crate::store::connection::Connection;
use crate::store::groups::LeaseLeft;
use crate::store::state::{self, Actor, Loaded, StoredGroup};
use crate::store::{Store, StoreError, StoreOptions, WorkError};

/// What a committed transaction answers, one outcome per request, and what it changed.
pub(super) struct Committed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) changes: Vec<RoleChange>,
    pub(super) leases: Leases,
    /// How many sessions the groups have.
    pub(super) sizes: Vec<(Uuid, usize)>,
    /// Groups with a lease that is longer than what its session had before, and for how long it was
    /// given.
    pub(super) longer: Vec<(Uuid, FailoverTimeout)>,
    /// In which of the histories that this replica has worked in.
    pub(super) epoch: u64,
}

/// The leases that the holders of roles have, as the transaction leaves them.
pub(super) struct Leases {
    pub(super) left: Vec<LeaseLeft>,
    /// When the database's clock had just been read.
    pub(super) read_at: Instant,
}

/// Leases that were longer than those before them: what is lost of them, and what is given.
struct Longer<'a> {
    lost: &'a LongerLeases,
    epoch: u64,
    given: Vec<(Uuid, FailoverTimeout)>,
}

/// How a batch is decided.
pub(super) struct Decision<'a> {
    pub(super) rules: &'a Rules,
    /// Leases that were longer than those before them, where that may be lost.
    pub(super) lost_leases: &'a LongerLeases,
    /// Whether all of it is of one group of many sessions.
    pub(super) is_of_large_group: bool,
    /// Whether somebody looks at leases as they end.
    pub(super) notes_leases: bool,
}

impl Decision<'_> {
    /// The work of one transaction: reads the state of the groups, decides one heartbeat after the
    /// other in memory, and writes what changed.
    pub(super) async fn make(
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
        // If it has risen since the snapshot was taken, nothing comes of this.
        let epoch = store.life().epoch();
        let mut longer = Longer { lost: self.lost_leases, epoch, given: Vec::new() };
        let in_part = part.and_then(|part| decide_in_part(requests, part, &clock, self.rules, &mut longer));
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
                    .map(|(request, place)| decide(request, &mut whole[*place], &clock, self.rules, &mut longer))
                    .collect();
                (outcomes, whole)
            }
        };
        let changes = changes_in(requests, &places, &loaded);
        let leases =
            if self.notes_leases { Leases { left: leases_left(&loaded, &clock), read_at } } else { Leases::none() };
        let size = |stored: &StoredGroup| (stored.key.0, stored.session_ids.len());
        // Of a part of a group it is not known how large that is.
        let sizes = loaded.iter().flatten().flatten().filter(|_| is_whole).map(size).collect();
        let mut decided: Vec<StoredGroup> = loaded.into_iter().flatten().flatten().collect();
        state::save(connection, &clock, &mut decided, Actor::Heartbeat).await?;
        Ok(Committed { outcomes, changes, leases, sizes, longer: longer.given, epoch })
    }
}

impl Leases {
    pub(super) fn none() -> Leases {
        Leases { left: Vec::new(), read_at: Instant::now() }
    }
}

/// Of each group with a holder of a role: how long until the first of their leases ends, outages
/// left out of account.
fn leases_left(loaded: &[Loaded], clock: &Clock) -> Vec<LeaseLeft> {
    let now = instant(clock.now);
    let of = |stored: &StoredGroup| {
        let held = stored.group.sessions.iter().filter(|session| session.role != Role::Secondary);
        let ends = held.filter_map(|session| session.beat).map(|beat| beat.lease_until).min()?;
        Some(LeaseLeft { group_key: stored.key.0, left_us: ends.0.saturating_sub(now.0) })
    };
    loaded.iter().flatten().flatten().filter_map(of).collect()
}

/// The keys of the groups, each once, and for each request the place of its group's.
fn distinct_keys(requests: &[&Request]) -> (Vec<Uuid>, Vec<usize>) {
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

/// Whether a heartbeat comes from somebody else than its session is bound to.
fn is_from_a_stranger(request: &Request, stored: &StoredGroup, s: usize) -> bool {
    let registrant = || stored.registrant(s, &request.caller);
    request.is_bound && beat_bound(registrant(), &request.path.group, &request.session).is_err()
}

/// What these heartbeats of one group of many sessions are decided on, unless that turns out to be
/// the whole group.
async fn load_in_part(
    connection: &mut Connection,
    key: Uuid,
    requests: &[&Request],
    options: &StoreOptions,
) -> Result<(Clock, Option<Loaded>), WorkError> {
    let sessions: Vec<&str> = requests.iter().map(|request| request.session.as_str()).collect();
    state::load_in_part(connection, key, &sessions, options).await
}

/// Decides heartbeats of one group on a part of it; nothing where one of them may change more than
/// its own lease.
fn decide_in_part(
    requests: &[&Request],
    loaded: Loaded,
    clock: &Clock,
    rules: &Rules,
    longer: &mut Longer<'_>,
) -> Option<(Vec<Outcome>, [Loaded; 1])> {
    let mut loaded = [loaded];
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        if let Some(Ok(stored)) = &loaded[0]
            && let Some(s) = stored.find_session(request.session.as_str())
            && !is_from_a_stranger(request, stored, s)
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
fn decide(request: &Request, loaded: &mut Loaded, clock: &Clock, rules: &Rules, longer: &mut Longer<'_>) -> Outcome {
    let stored = match loaded {
        None => return Err(no_such_group(&request.path)),
        Some(Err(what)) => return Err(StoreError::Inconsistent(what.clone()).into()),
        Some(Ok(stored)) => stored,
    };
    let Some(s) = stored.find_session(request.session.as_str()) else {
        return Err(no_such_session(&request.path, &request.session));
    };
    if is_from_a_stranger(request, stored, s) {
        return Err(session_of_another(&request.path, &request.session));
    }
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
    let StoredGroup { group, trace, noted, .. } = stored;
    let (role, before) = (group.sessions[s].role, group.sessions[s].beat);
    let given_for_us = before.map_or(0, |beat| beat.lease_until.0 - beat.received_at.0);
    let as_primary = !request.was_granted.load(Ordering::Relaxed);
    let counted = Report { data_sent_until: report.data_sent_until.filter(|_| as_primary), ..report };
    let changes_before = trace.len();
    let answer = arbitration::heartbeat(group, s, &counted, moment, rules, trace);
    let is_grant = |change: &arbitration::Transition| change.session == s && change.to == Role::Primary;
    if trace[changes_before..].iter().any(is_grant) {
        request.was_granted.store(true, Ordering::Relaxed);
    }
    longer.given.extend(answer.lease.filter(|lease| lease.micros() > given_for_us).map(|lease| (request.key, lease)));
    noted[s] = rhythm::follow(noted[s], role, before, &report, group.timeout, moment);
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
