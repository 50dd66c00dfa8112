//! What runs between heartbeats: signs of life, and what takes roles from the dead: a look at each
//! lease as it ends, and the sweep, which misses none.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::deadlines::Deadlines;
use super::{Failover, changes_of, log_changes};
use crate::arbitration::{self, FailoverTimeout};
use crate::metrics;
use crate::store::groups::{self, HeldRole, LeaseLeft};
use crate::store::life::SHORTEST_OUTAGE;
use crate::store::state::{self, Actor};
use crate::store::{Kept, LostCommit, Store, StoreError};

/// How many holders of a role one round of the sweep looks at, and how many groups one transaction
/// changes.
const SCAN_PAGE: i64 = 2_000;
const LAPSE_BATCH: usize = 64;

/// From how many groups on such a transaction waits for its turn among those of heartbeats.
const MANY_LAPSES: usize = 8;

/// How often the connections that the server has to spare are counted.
const SPARE_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is looked whether the database is in another history: several times in the shortest
/// timeout.
const LOOK_AT_EPOCH: Duration = Duration::from_millis(25);

/// How many leases are looked at together as they end.
const LOOK_PAGE: usize = 1_000;

/// When they are looked at again, once a role was taken or the database could not be asked.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Notes signs of life for ever: several within a gap, so that a late one is no outage.
pub async fn keep_alive(store: Store) {
    let interval = store.options().outage_gap.min(SHORTEST_OUTAGE) / 5;
    let mut reached = true;
    loop {
        // Said once when it goes and once when it comes back, not all the time in between.
        let noted = store.note_alive().await;
        match &noted {
            Ok(_) if !reached => tracing::info!("heartbeats can be committed again"),
            Err(error) if reached => tracing::warn!(%error, "no heartbeat can be committed"),
            _ => {}
        }
        reached = noted.is_ok();
        tokio::time::sleep(interval).await;
    }
}

/// Looks for ever whether the database went over into another history, and has groups be in doubt
/// for as long as the longest lease that this replica remembers to have given in the one before. It
/// goes by that itself from the first heartbeat on; this tells the others.
pub async fn remember_longer_leases(failover: Failover) {
    let store = failover.store.background();
    let mut epoch = store.life().epoch();
    loop {
        tokio::time::sleep(LOOK_AT_EPOCH).await;
        if store.life().epoch() == epoch {
            continue;
        }
        let next = store.life().epoch();
        let lost = failover.longer_leases.lost(next);
        let mut is_said = true;
        for part in store.by_place(lost, |(group, _)| *group).await {
            for leases in part.chunks(LAPSE_BATCH) {
                match doubt_for(&store, leases).await {
                    Ok(()) => failover.longer_leases.forget_lost(leases, next),
                    Err(error) => {
                        tracing::warn!(%error, "groups with a longer lease in another history of the database: tried again");
                        is_said = false;
                    }
                }
            }
        }
        if is_said {
            epoch = next;
        }
    }
}

async fn doubt_for(store: &Store, leases: &[(Uuid, FailoverTimeout)]) -> Result<(), StoreError> {
    store
        .serializable("remember_leases", LostCommit::Repeat, |connection, _| {
            Box::pin(async move {
                let keys: Vec<Uuid> = leases.iter().map(|(group, _)| *group).collect();
                let (clock, loaded) = state::load(connection, &keys, store.options()).await?;
                let mut doubted = Vec::new();
                for ((_, given_for), loaded) in std::iter::zip(leases, loaded) {
                    // One with bad rows is left to its heartbeats, which say so.
                    if let Some(Ok(mut stored)) = loaded {
                        arbitration::doubt_for(&mut stored.group, *given_for, clock.moment());
                        doubted.push(stored);
                    }
                }
                Ok(state::save(connection, &clock, &mut doubted, Actor::Sweep).await?)
            })
        })
        .await
}

/// Looks for ever how many connections the server has to spare, so that another replica finds some.
pub async fn watch_spare_connections(store: Store) {
    loop {
        if let Err(error) = store.look_at_spare_connections().await {
            tracing::debug!(%error, "how many connections there are to spare is not known");
        }
        tokio::time::sleep(SPARE_INTERVAL).await;
    }
}

/// Sweeps for ever, at jittered intervals so that replicas spread out.
pub async fn sweep(failover: Failover) {
    let store = failover.store.background();
    let mut sweeper = Sweeper { store, primaries: Uuid::nil(), pending: Uuid::nil(), clock_set_back: 0 };
    let interval = failover.options.sweep_interval;
    loop {
        tokio::time::sleep(interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let began = Instant::now();
        let round = sweeper.round().await;
        metrics::sweep_ended(began.elapsed(), round.is_ok());
        if let Err(error) = round {
            // Nothing is lost by it: reads show true roles, and the next heartbeat or sweep takes
            // the lapsed ones away.
            tracing::debug!(%error, "the sweep failed; the next one tries again");
        }
    }
}

/// Looks at each lease that this replica knows of as it ends, for ever, and takes the role of
/// whoever let it lapse.
pub async fn watch_leases(failover: Failover) {
    let store = failover.store.background();
    let deadlines = failover.deadlines.clone();
    loop {
        let due = deadlines.due(LOOK_PAGE).await;
        if let Err(error) = look(&store, &deadlines, &due).await {
            tracing::debug!(%error, "leases that ended cannot be looked at; they are in a moment");
            note_again(&deadlines, &due);
        }
    }
}

async fn look(store: &Store, deadlines: &Deadlines, due: &[Uuid]) -> Result<(), StoreError> {
    // Not in the transaction that takes the role: many of them were renewed by another replica, and
    // to read those there could get in the way of their next heartbeat.
    let held = store.read("look_at_leases", |connection, _| Box::pin(groups::find_leases_left(connection, due)));
    let (lapsed, running): (Vec<_>, Vec<_>) = held.await?.into_iter().partition(|lease| lease.left_us <= 0);
    deadlines.note(&running, Instant::now());
    let mut lapsed: Vec<Uuid> = lapsed.into_iter().map(|lease| lease.group_key).collect();
    lapsed.sort_unstable();
    lapse_all(store, &lapsed).await?;
    // Looked at once more: somebody else may have held a group, or another role in it may lapse
    // later.
    note_again(deadlines, &lapsed);
    Ok(())
}

fn note_again(deadlines: &Deadlines, keys: &[Uuid]) {
    let left_us = i64::try_from(LOOK_AGAIN.as_micros()).unwrap_or(i64::MAX);
    let again: Vec<LeaseLeft> = keys.iter().map(|key| LeaseLeft { group_key: *key, left_us }).collect();
    deadlines.note(&again, Instant::now());
}

/// Takes roles away from sessions whose lease has run out, so that what SQL shows is true even
/// where a whole group has died. Never grants.
struct Sweeper {
    store: Store,
    /// Where the walk along the Primaries has come to.
    primaries: Uuid,
    /// Where the walk along the PendingPrimaries has come to.
    pending: Uuid,
    /// The last time that the database's clock was set back for which all groups have been gone
    /// through.
    clock_set_back: i64,
}

impl Sweeper {
    async fn round(&mut self) -> Result<(), StoreError> {
        self.base_leases_anew().await?;
        let primaries = self.find_lapsed(HeldRole::Primary, self.primaries).await?;
        let pending = self.find_lapsed(HeldRole::PendingPrimary, self.pending).await?;
        let ended = self.store.read("find_ended_wishes", |connection, _| {
            Box::pin(groups::find_ended_wishes(connection, LAPSE_BATCH as i64))
        });
        let mut lapsed = [primaries.lapsed, pending.lapsed, ended.await?].concat();
        lapsed.sort_unstable();
        lapsed.dedup();
        lapse_all(&self.store, &lapsed).await?;
        self.primaries = primaries.next_after.unwrap_or(Uuid::nil());
        self.pending = pending.next_after.unwrap_or(Uuid::nil());
        Ok(())
    }

    /// Goes through all groups once the clock was set back: leases of the old clock end in the
    /// future of the new one. Whoever decides on such a group does it by itself; this is for those
    /// in which nobody is left.
    async fn base_leases_anew(&mut self) -> Result<(), StoreError> {
        let latest =
            self.store.read("find_clock_set_back", |connection, _| Box::pin(groups::find_clock_set_back(connection)));
        let latest = latest.await?;
        let mut after = Uuid::nil();
        while latest > self.clock_set_back {
            let page = self
                .store
                .read("find_groups_of_old_clock", |connection, _| {
                    Box::pin(groups::find_groups_of_old_clock(connection, latest, after, LAPSE_BATCH as i64))
                })
                .await?;
            match page.last() {
                None => self.clock_set_back = latest,
                Some(last) => after = *last,
            }
            if !page.is_empty() {
                lapse_all(&self.store, &page).await?;
            }
        }
        Ok(())
    }

    async fn find_lapsed(&self, role: HeldRole, after: Uuid) -> Result<groups::HolderPage, StoreError> {
        self.store
            .read("find_lapsed", |connection, _| {
                Box::pin(groups::find_lapsed_holders(connection, role, after, SCAN_PAGE))
            })
            .await
    }
}

/// The same on any number of groups, so many in a transaction, and where they are spread, those of
/// one place.
async fn lapse_all(store: &Store, keys: &[Uuid]) -> Result<(), StoreError> {
    for part in store.by_place(keys.to_vec(), |key| *key).await {
        for keys in part.chunks(LAPSE_BATCH) {
            lapse(store, keys).await?;
        }
    }
    Ok(())
}

/// The rule of arbitration on these groups, less those that somebody else holds: theirs is a later
/// word.
async fn lapse(store: &Store, keys: &[Uuid]) -> Result<(), StoreError> {
    let mut kept = Kept::nothing();
    if keys.len() >= MANY_LAPSES {
        // Otherwise it would meet the heartbeats of others again and again, and each time one of
        // the two is done again.
        store.begin_in_turn(&mut kept).await;
    }
    let deadline = Instant::now() + store.options().operation_timeout;
    let changes: Result<_, StoreError> = store
        .serializable_on(&mut kept, deadline, u32::MAX, "sweep", LostCommit::Repeat, |connection, _| {
            Box::pin(async move {
                let free = groups::lock_free_groups(connection, keys).await?;
                let free_keys: Vec<Uuid> = free.iter().map(|group| group.group_key).collect();
                let (clock, loaded) = state::load(connection, &free_keys, store.options()).await?;
                let mut lapsed = Vec::new();
                let mut changes = Vec::new();
                for (named, loaded) in std::iter::zip(&free, loaded) {
                    // A group with bad rows is left to the heartbeats, which say so.
                    let Some(Ok(mut stored)) = loaded else { continue };
                    arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
                    changes.extend(changes_of(&named.label, &stored));
                    lapsed.push(stored);
                }
                state::save(connection, &clock, &mut lapsed, Actor::Sweep).await?;
                Ok(changes)
            })
        })
        .await;
    log_changes(&changes?);
    Ok(())
}
