//! What one transaction decides of many heartbeats.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use uuid::Uuid;

use super::request::{Outcome, Request, Waiting};
use crate::access::decision::beat_bound;
use crate::arbitration::{self, FailoverTimeout, Report, Role, Rules};
use crate::failover::line::{Line, SizeRead};
use crate::failover::longer_leases::LongerLeases;
use crate::failover::rhythm;
use crate::failover::{FailoverError, RoleChange, changes_of, no_such_group, no_such_session, session_of_another};
use crate::store::clock::{Clock, instant};
use crate::store::connection::Connection;
use crate::store::groups::LeaseLeft;
use crate::store::state::{self, Actor, Loaded, Sought, StoredGroup, Witness};
use crate::store::{Store, StoreError, WorkError};

/// What a committed transaction answers, one outcome per request, and what it changed.
pub(super) struct Committed {
    /// `None` for one whose group has to be read whole, has many sessions, and was not alone: it
    /// was not decided.
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) changes: Vec<RoleChange>,
    pub(super) leases: Leases,
    /// How much was read of the groups.
    pub(super) sizes: Vec<(Uuid, SizeRead)>,
    /// Groups with a lease that is longer than what its session had before, and for how long it was
    /// given.
    pub(super) longer: Vec<(Uuid, FailoverTimeout)>,
    /// The groups as they were written.
    pub(super) decided: Vec<StoredGroup>,
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
    /// Who knows which groups have many sessions.
    pub(super) line: &'a Line<Waiting>,
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
        // If it rises before the snapshot is taken, or after, nothing comes of this.
        let epoch = store.life().epoch();
        let is_large = self.line.are_large(&keys);
        let asked = Asked { keys: &keys, places: &places, requests, is_large: &is_large };
        let witness = state::call_witness(connection);
        let (clock, mut reads) = asked.read(&witness, connection, store, epoch).await?;
        let read_at = Instant::now();
        let mut longer = Longer { lost: self.lost_leases, epoch, given: Vec::new() };
        let mut outcomes: Vec<Option<Outcome>> = requests.iter().map(|_| None).collect();
        for (n, (request, place)) in std::iter::zip(requests, &places).enumerate() {
            let read = &mut reads[*place];
            outcomes[n] = match read {
                Read::Nothing => continue,
                Read::Whole(whole) => Some(decide(request, whole, &clock, self.rules, &mut longer)),
                Read::Part(part, how) => decide_in_part(request, part, *how, &clock, self.rules, &mut longer),
            };
            if outcomes[n].is_none() {
                *read = Read::Nothing;
            }
        }
        // One of many sessions is read whole where nobody else waits for that.
        let is_wanting =
            |place: &usize| matches!(reads[*place], Read::Nothing) && (keys.len() == 1 || !is_large[*place]);
        let wanting: Vec<usize> = (0..keys.len()).filter(is_wanting).collect();
        if !wanting.is_empty() {
            // By the clock of the statement that took the snapshot all the same.
            let wanted: Vec<Uuid> = wanting.iter().map(|place| keys[*place]).collect();
            let (_, whole) = state::load_before(&witness, connection, &wanted, options).await?;
            let mut is_wanted = vec![false; keys.len()];
            for (place, whole) in std::iter::zip(wanting, whole) {
                reads[place] = Read::Whole(whole);
                is_wanted[place] = true;
            }
            for (n, (request, place)) in std::iter::zip(requests, &places).enumerate() {
                if let Read::Whole(whole) = &mut reads[*place]
                    && is_wanted[*place]
                {
                    outcomes[n] = Some(decide(request, whole, &clock, self.rules, &mut longer));
                }
            }
        }
        for (outcome, place) in std::iter::zip(&mut outcomes, &places) {
            if matches!(reads[*place], Read::Nothing) {
                *outcome = None;
            }
        }
        let sizes = std::iter::zip(&keys, &reads).filter_map(|(key, read)| Some((*key, read.size()?))).collect();
        let loaded: Vec<Loaded> = reads.into_iter().map(Read::into_loaded).collect();
        let changes = changes_in(requests, &places, &loaded);
        let leases =
            if self.notes_leases { Leases { left: leases_left(&loaded, &clock), read_at } } else { Leases::none() };
        let mut decided: Vec<StoredGroup> = loaded.into_iter().flatten().flatten().collect();
        store.row_places().compare(&mut decided, epoch);
        state::save(connection, &clock, &mut decided, Actor::Heartbeat).await?;
        Ok(Committed { outcomes, changes, leases, sizes, longer: longer.given, decided, epoch })
    }
}

/// What a batch asks about.
struct Asked<'a> {
    /// The groups, each once.
    keys: &'a [Uuid],
    /// Of each request which of the groups.
    places: &'a [usize],
    requests: &'a [&'a Request],
    is_large: &'a [bool],
}

impl Asked<'_> {
    /// Reads what these heartbeats are decided on, in one statement or two: what is known of by its
    /// place, the rest by key, of which groups of many sessions in part.
    async fn read(
        &self,
        witness: &Witness,
        connection: &mut Connection,
        store: &Store,
        epoch: u64,
    ) -> Result<(Clock, Vec<Read>), WorkError> {
        let options = store.options();
        // Where groups are spread, what lies where is nobody's business but the node's.
        if connection.is_spread() {
            let (clock, whole) = state::load_before(witness, connection, self.keys, options).await?;
            return Ok((clock, whole.into_iter().map(Read::Whole).collect()));
        }
        let mut reads: Vec<Read> = self.keys.iter().map(|_| Read::Nothing).collect();
        let mut clock = None;
        let ids = self.requests.iter().map(|request| request.session.as_str());
        let sought = store.row_places().seek(self.keys, std::iter::zip(self.places.iter().copied(), ids), epoch);
        let known: Vec<&Sought> = sought.iter().flatten().collect();
        if !known.is_empty() {
            let (read_at, found) = state::load_by_places(witness, connection, &known, options).await?;
            clock = Some(read_at);
            let at = (0..self.keys.len()).filter(|place| sought[*place].is_some());
            for (place, found) in std::iter::zip(at, found) {
                reads[place] = found.map_or(Read::Nothing, |part| Read::Part(part, How::ByPlace));
            }
        }
        let is_missing = |place: &usize| self.is_large[*place] && matches!(reads[*place], Read::Nothing);
        let missing: Vec<usize> = (0..self.keys.len()).filter(is_missing).collect();
        if !missing.is_empty() {
            let keys: Vec<Uuid> = missing.iter().map(|place| self.keys[*place]).collect();
            let among = |place: &usize| missing.binary_search(place).ok();
            let of_missing = std::iter::zip(self.places, self.requests);
            let sessions: Vec<(usize, &str)> =
                of_missing.filter_map(|(place, request)| Some((among(place)?, request.session.as_str()))).collect();
            let (read_at, parts) = state::load_in_part(witness, connection, &keys, &sessions, options).await?;
            clock.get_or_insert(read_at);
            for (place, part) in std::iter::zip(missing, parts) {
                reads[place] = match part {
                    None => Read::Nothing,
                    Some(Some(Ok(part))) => Read::Part(part, How::ByKey),
                    Some(none) => Read::Whole(none),
                };
            }
        }
        if let Some(clock) = clock {
            return Ok((clock, reads));
        }
        let (clock, whole) = state::load_before(witness, connection, self.keys, options).await?;
        Ok((clock, whole.into_iter().map(Read::Whole).collect()))
    }
}

/// What was read of a group.
enum Read {
    /// Nothing yet, or too little.
    Nothing,
    /// Its Primary and those whose heartbeats are decided.
    Part(StoredGroup, How),
    /// All of it.
    Whole(Loaded),
}

/// How a part of a group was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// By where its rows lay last.
    ByPlace,
    /// By its key.
    ByKey,
}

impl Read {
    fn size(&self) -> Option<SizeRead> {
        match self {
            Read::Nothing => Some(SizeRead::Nothing),
            Read::Part(..) => Some(SizeRead::Part),
            Read::Whole(Some(Ok(stored))) => Some(SizeRead::Whole(stored.session_ids.len())),
            Read::Whole(_) => None,
        }
    }

    fn into_loaded(self) -> Loaded {
        match self {
            Read::Nothing => None,
            Read::Part(part, _) => Some(Ok(part)),
            Read::Whole(whole) => whole,
        }
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

/// Decides a heartbeat on a part of its group; nothing where it may change more than its own lease.
fn decide_in_part(
    request: &Request,
    part: &mut StoredGroup,
    how: How,
    clock: &Clock,
    rules: &Rules,
    longer: &mut Longer<'_>,
) -> Option<Outcome> {
    let given_before = longer.given.len();
    match part.find_session(request.session.as_str()) {
        Some(s) if is_from_a_stranger(request, part, s) => {}
        // Its latest heartbeat may lie elsewhere by now.
        Some(s) if how == How::ByPlace && part.group.sessions[s].beat.is_none() => return None,
        Some(s)
            if longer.lost.lost_of(request.key, longer.epoch).is_none()
                && arbitration::changes_nothing(&part.group, s, &request.report(clock), clock.moment(), rules) => {}
        // By its key it would have been found, were it there.
        None if how == How::ByKey => {}
        Some(_) | None => return None,
    }
    let outcome = decide_on(request, part, clock, rules, longer);
    if !part.trace.is_empty() {
        // Roles changed all the same: that is for all of the group to decide.
        longer.given.truncate(given_before);
        return None;
    }
    Some(outcome)
}

/// One heartbeat on the state of its group, as those before it in the batch have left it. Notes a
/// lease that is longer than the one before.
fn decide(request: &Request, loaded: &mut Loaded, clock: &Clock, rules: &Rules, longer: &mut Longer<'_>) -> Outcome {
    match loaded {
        None => Err(no_such_group(&request.path)),
        Some(Err(what)) => Err(StoreError::Inconsistent(what.clone()).into()),
        Some(Ok(stored)) => decide_on(request, stored, clock, rules, longer),
    }
}

fn decide_on(
    request: &Request,
    stored: &mut StoredGroup,
    clock: &Clock,
    rules: &Rules,
    longer: &mut Longer<'_>,
) -> Outcome {
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
