//! What is true of all groups: counted in the background, and the list of those at risk.
//!
//! A census walks along all groups in short reads, at most a small part of the time, however many
//! there are. It is the only place that looks at all of them: metrics show its numbers, and what
//! operators see begins with the groups that it found at risk, brought up to date by what has
//! changed since.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use listed::CountedThere;
use named::Named;

use super::Failover;
use super::risks::{FLAPPING_GRANTS, FLAPPING_SPAN, Looked, Risk, risks};
use crate::arbitration::FailoverTimeout;
use crate::ids::{Groups, Within};
use crate::metrics::{self, Counted};
use crate::store::events;
use crate::store::status::{self, CensusRow, FIRST_HISTORY, GroupSearch};
use crate::store::{Store, StoreError};

pub mod listed;
mod named;

/// At most one part in so many of the time is spent on counting.
const SHARE: u32 = 20;
/// The same where somebody looks, and where a census takes no longer than [`QUICK`].
const SHARE_WHILE_LOOKED_AT: u32 = 4;
const QUICK: Duration = Duration::from_millis(100);
/// The longest that somebody who looks waits for a new one.
const TIMEOUT: Duration = Duration::from_millis(250);
/// How many groups one read counts.
const PAGE: i64 = 1_000;
/// The most groups at risk that are kept, and the most namespaces.
const MAX_KEPT: usize = 10_000;
/// Of each risk so many groups are kept at least, however many are at a worse one.
const MAX_KEPT_OF_EACH: usize = 1_000;
/// The most groups that are looked at again because their Primary has changed since the census.
const MAX_CHANGED: i64 = 200;

/// What a census found.
#[derive(Debug, Default)]
pub struct Census {
    /// What the metrics show.
    pub counted: Counted,
    /// The namespaces, in order: the first ten thousand.
    pub namespaces: BTreeMap<(String, String), NamespaceCount>,
    /// All of them together.
    pub everywhere: NamespaceCount,
    /// Groups at risk, the most urgent first, and those in a handover, then in order of their path.
    noted: Vec<Noted>,
    /// Those that flap, and whether it comes of health.
    flapping: HashMap<Uuid, bool>,
    /// The newest event when it began: what came later it may not have seen.
    newest_event: i64,
    /// When it ended; `None` for the one that stands for none.
    ended_at: Option<Instant>,
}

/// What a census found in a namespace, or everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceCount {
    /// Groups.
    pub groups: i64,
    /// Groups in which somebody is Primary.
    pub with_primary: i64,
    /// Groups without a live session.
    pub without_live_session: i64,
    /// Groups at risk.
    pub at_risk: i64,
    /// Groups with each of the risks, in their order.
    by_risk: [i64; Risk::ALL.len()],
    /// Groups in which somebody may act on a lease that was lost with a history of the database.
    pub in_doubt: i64,
    /// Groups in which somebody is waited for who stepped down for another.
    pub handing_over: i64,
    /// Registered sessions.
    pub sessions: i64,
    /// Those whose lease has not run out.
    pub live_sessions: i64,
}

impl NamespaceCount {
    /// Groups with that risk.
    pub fn with(&self, risk: Risk) -> i64 {
        // Each is at the place of its number.
        self.by_risk[risk as usize]
    }

    /// What is left of it without those.
    fn take_away(&mut self, other: &NamespaceCount) {
        self.groups -= other.groups;
        self.with_primary -= other.with_primary;
        self.without_live_session -= other.without_live_session;
        self.at_risk -= other.at_risk;
        for (count, other) in std::iter::zip(&mut self.by_risk, other.by_risk) {
            *count -= other;
        }
        self.handing_over -= other.handing_over;
        self.in_doubt -= other.in_doubt;
        self.sessions -= other.sessions;
        self.live_sessions -= other.live_sessions;
    }

    fn note(&mut self, row: &CensusRow, marks: Marks) {
        self.groups += 1;
        self.with_primary += i64::from(row.primary_health.is_some());
        self.without_live_session += i64::from(row.lease_ages.is_empty());
        self.at_risk += i64::from(marks.worst().is_some());
        for risk in Risk::ALL {
            self.by_risk[risk as usize] += i64::from(marks.has(risk));
        }
        self.handing_over += i64::from(marks.is_handing_over());
        self.in_doubt += i64::from(row.is_in_doubt);
        self.sessions += row.sessions;
        self.live_sessions += row.lease_ages.len() as i64;
    }
}

impl std::ops::AddAssign for NamespaceCount {
    fn add_assign(&mut self, other: NamespaceCount) {
        let NamespaceCount {
            groups,
            with_primary,
            without_live_session,
            at_risk,
            by_risk,
            in_doubt,
            handing_over,
            sessions,
            live_sessions,
        } = other;
        self.groups += groups;
        self.with_primary += with_primary;
        self.without_live_session += without_live_session;
        self.at_risk += at_risk;
        for (sum, count) in self.by_risk.iter_mut().zip(by_risk) {
            *sum += count;
        }
        self.in_doubt += in_doubt;
        self.handing_over += handing_over;
        self.sessions += sessions;
        self.live_sessions += live_sessions;
    }
}

/// What makes a group one to look at: its risks, and whether a handover is under way. A bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks(u16);

impl Marks {
    /// Above the bits of the risks.
    const HANDOVER: u16 = 1 << Risk::ALL.len();

    fn of(risks: &[Risk], is_handing_over: bool) -> Marks {
        let handover = if is_handing_over { Marks::HANDOVER } else { 0 };
        Marks(risks.iter().fold(handover, |marks, risk| marks | 1 << *risk as u16))
    }

    fn has(self, risk: Risk) -> bool {
        self.0 & 1 << risk as u16 != 0
    }

    fn is_handing_over(self) -> bool {
        self.0 & Marks::HANDOVER != 0
    }

    fn worst(self) -> Option<Risk> {
        Risk::ALL.into_iter().find(|risk| self.has(*risk))
    }

    /// The place of the worst, with handovers at the end.
    fn urgency(self) -> u32 {
        self.0.trailing_zeros()
    }
}

/// A group to look at.
#[derive(Debug)]
struct Noted {
    marks: Marks,
    key: Uuid,
    path: (String, String, String),
}

impl Census {
    /// How long its reads took.
    fn took(&self) -> Duration {
        Duration::from_micros(self.counted.took_us)
    }

    /// Whether another one may be taken because somebody looks, so that what is counted and what is
    /// listed are of one moment wherever counting is quick.
    fn is_worth_taking_anew(&self) -> bool {
        let share = if self.took() <= QUICK { SHARE_WHILE_LOOKED_AT } else { SHARE };
        self.ended_at.is_none_or(|ended_at| ended_at.elapsed() >= self.took() * share)
    }

    fn note(&mut self, row: CensusRow) {
        let live = row.lease_ages.len() as i64;
        let is_handing_over = is_handing_over(row.is_handing_over, row.primary_health.is_some(), live);
        let risks = risks(Looked {
            // One that is out of bounds is nobody's: nothing is decided on its group.
            timeout: FailoverTimeout::from_ticks(row.failover_timeout_ticks).unwrap_or(FailoverTimeout::DEFAULT),
            sessions: row.sessions,
            live,
            primary_health: row.primary_health,
            is_handing_over: row.is_handing_over,
            is_flapping: self.flapping.contains_key(&row.group_key),
            seen: row.seen(),
            new_ids: row.new_ids,
        });
        let counted = &mut self.counted;
        counted.groups += 1;
        counted.groups_with_primary += i64::from(row.primary_health.is_some());
        counted.groups_without_live_session += i64::from(live == 0);
        for (count, risk) in [
            (&mut counted.groups_without_standby, Risk::NoStandby),
            (&mut counted.groups_with_unhealthy_primary, Risk::PrimaryUnhealthy),
            (&mut counted.groups_flapping, Risk::Flapping),
            (&mut counted.groups_with_same_id_twice, Risk::SameIdTwice),
            (&mut counted.groups_with_data_standing_still, Risk::DataStandsStill),
            (&mut counted.groups_with_clock_ahead, Risk::ClockAhead),
            (&mut counted.groups_with_seldom_heartbeats, Risk::SeldomHeartbeats),
            (&mut counted.groups_with_many_sessions, Risk::ManySessions),
            (&mut counted.groups_with_new_ids, Risk::NewIdEachStart),
        ] {
            *count += i64::from(risks.contains(&risk));
        }
        counted.groups_at_risk += i64::from(!risks.is_empty());
        counted.groups_in_doubt += i64::from(row.is_in_doubt);
        counted.sessions += row.sessions;
        counted.live_sessions += live;
        for quarter in &row.lease_ages {
            let last = counted.lease_ages.len() - 1;
            counted.lease_ages[usize::try_from(*quarter).unwrap_or(0).min(last)] += 1;
        }
        let marks = Marks::of(&risks, is_handing_over);
        let is_full = self.namespaces.len() >= MAX_KEPT;
        let place = (row.tenant_id.clone(), row.namespace_id.clone());
        if !is_full || self.namespaces.contains_key(&place) {
            self.namespaces.entry(place).or_default().note(&row, marks);
        }
        self.everywhere.note(&row, marks);
        if marks != Marks::of(&[], false) {
            let path = (row.tenant_id, row.namespace_id, row.group_id);
            self.noted.push(Noted { marks, key: row.group_key, path });
            // Where everything is at risk, the worst are kept.
            if self.noted.len() >= 3 * MAX_KEPT {
                self.shorten();
            }
        }
    }

    fn counted_in(&self, search: &GroupSearch) -> Option<CountedThere> {
        let age = self.ended_at?.elapsed();
        // Namespaces are counted as a whole, which is not for those who see a part.
        if search.groups != Groups::All {
            return None;
        }
        let count = match &search.within {
            Within::AllTenants => self.everywhere,
            // Some of its namespaces may be among those that are not kept.
            Within::Tenant(_) if self.namespaces.len() >= MAX_KEPT => return None,
            Within::Tenant(_) => {
                let mut count = NamespaceCount::default();
                for (_, of_namespace) in self.namespaces_within(&search.within) {
                    count += *of_namespace;
                }
                count
            }
            Within::Namespace(path) => {
                let place = (path.tenant.as_str().to_owned(), path.namespace.as_str().to_owned());
                match self.namespaces.get(&place) {
                    Some(count) => *count,
                    // It may be one of those that are not kept.
                    None if self.namespaces.len() >= MAX_KEPT => return None,
                    None => NamespaceCount::default(),
                }
            }
        };
        Some(CountedThere { count, age })
    }

    /// The namespaces there, in order.
    pub fn namespaces_within(&self, within: &Within) -> impl Iterator<Item = (&(String, String), &NamespaceCount)> {
        let first = (within.tenant().unwrap_or_default().to_owned(), within.namespace().unwrap_or_default().to_owned());
        let tenant = within.tenant().map(str::to_owned);
        let of_tenant =
            move |(place, _): &(&(String, String), _)| tenant.as_ref().is_none_or(|tenant| place.0 == *tenant);
        self.namespaces.range(first..).take_while(of_tenant)
    }

    /// The worst are kept, and of each risk some, for whoever asks for that one.
    fn shorten(&mut self) {
        self.noted.sort_by(|a, b| (a.marks.urgency(), &a.path).cmp(&(b.marks.urgency(), &b.path)));
        let mut place = 0;
        let mut kept_of_each = [0; Risk::ALL.len() + 1];
        self.noted.retain(|group| {
            place += 1;
            let bits = (0..kept_of_each.len()).filter(|bit| group.marks.0 & 1 << bit != 0);
            let is_kept = place <= MAX_KEPT || bits.clone().any(|bit| kept_of_each[bit] < MAX_KEPT_OF_EACH);
            for bit in bits.filter(|_| is_kept) {
                kept_of_each[bit] += 1;
            }
            is_kept
        });
    }
}

/// The latest census. Cheap to clone.
#[derive(Clone, Default)]
pub struct LatestCensus(Arc<Latest>);

#[derive(Default)]
struct Latest {
    census: Mutex<Arc<Census>>,
    /// Which namespaces the metrics name.
    named: Mutex<Named>,
    /// Held by whoever takes one because somebody looks.
    taking: tokio::sync::Mutex<()>,
}

impl LatestCensus {
    fn get(&self) -> Arc<Census> {
        self.0.census.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For metrics that name at most so many namespaces.
    pub(super) fn naming(namespaces: usize) -> LatestCensus {
        let named = Mutex::new(Named::at_most(namespaces));
        LatestCensus(Arc::new(Latest { named, ..Latest::default() }))
    }

    fn set(&self, census: Census) {
        let mut named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::counted(census.counted, named.choose(&census, Instant::now()));
        drop(named);
        *self.0.census.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(census);
    }
}

/// Counts for ever, over a store of its own: signs of life must not wait for it.
pub async fn keep_counting(failover: Failover, direct: Store) {
    let store = direct.background();
    loop {
        let mut took = Duration::ZERO;
        match take(&store).await {
            Ok(census) => {
                took = census.took();
                failover.census.set(census);
            }
            Err(error) => tracing::debug!(%error, "the census failed; the next one tries again"),
        }
        let interval = failover.options.census_interval;
        tokio::time::sleep(interval.max(took * SHARE).mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// Whether a group is among those that are searched, whatever its name.
fn is_within(search: &GroupSearch, tenant: &str, namespace: &str, group: &str) -> bool {
    search.within.includes(tenant, namespace) && search.groups.include(group)
}

/// Whether nobody is Primary because one has stepped down, and somebody is there to take over.
fn is_handing_over(is_waited_for: bool, has_primary: bool, live: i64) -> bool {
    is_waited_for && !has_primary && live > 0
}

/// One census. The time it takes is that of its reads: between them it rests.
pub async fn take(store: &Store) -> Result<Census, StoreError> {
    let mut census = Census::default();
    let mut busy = Duration::ZERO;
    let began = Instant::now();
    let (newest_event, flapping, outages, latest) = store
        .read("census_begins", |connection, _| {
            Box::pin(async move {
                let newest_event = events::find_newest_id(connection).await?;
                let limit = MAX_KEPT as i64;
                let flapping =
                    status::find_flapping(connection, FLAPPING_GRANTS, FLAPPING_SPAN.as_secs_f64(), limit).await?;
                let outages = status::count_outages(connection).await?;
                Ok((newest_event, flapping, outages, status::read_histories(connection, 1).await?.pop()))
            })
        })
        .await?;
    census.newest_event = newest_event;
    census.flapping = flapping.into_iter().map(|group| (group.group_key, group.by_health)).collect();
    census.counted.outages = outages;
    let new = latest.filter(|latest| latest.reason != FIRST_HISTORY);
    census.counted.history_noticed_at_s = new.map_or(0, |new| new.noticed_at.timestamp());
    busy += began.elapsed();
    let mut after = Uuid::nil();
    loop {
        let began = Instant::now();
        let page =
            store.read("census", |connection, _| Box::pin(status::read_census_page(connection, after, PAGE))).await?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().map_or(after, |row| row.group_key);
        for row in page {
            census.note(row);
        }
        let took = began.elapsed();
        busy += took;
        if is_last {
            break;
        }
        // Heartbeats come first.
        tokio::time::sleep(took).await;
    }
    census.shorten();
    census.ended_at = Some(Instant::now());
    census.counted.took_us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
    Ok(census)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_groups_at_risk_than_are_kept_the_worst_are() {
        let mut census = Census::default();
        for number in 0..3 * MAX_KEPT {
            census.note(CensusRow {
                group_key: Uuid::from_u128(number as u128 + 1),
                tenant_id: "t".to_owned(),
                namespace_id: "n".to_owned(),
                group_id: format!("{number:06}"),
                failover_timeout_ticks: FailoverTimeout::DEFAULT.ticks(),
                sessions: 2,
                lease_ages: vec![0],
                primary_health: (number < 2 * MAX_KEPT).then_some(100.0),
                is_handing_over: false,
                is_in_doubt: false,
                signs_of_two: 0,
                late_in_a_row: 0,
                still_ms: None,
                ahead_s: 0.0,
                new_ids: 0,
            });
        }
        census.shorten();
        let worst: Vec<_> = census.noted.iter().map(|found| found.marks.worst()).collect();
        assert_eq!(worst[..MAX_KEPT], vec![Some(Risk::NoPrimary); MAX_KEPT]);
        assert_eq!(worst[MAX_KEPT..], vec![Some(Risk::NoStandby); MAX_KEPT_OF_EACH]);
        assert!(census.noted[..MAX_KEPT].is_sorted_by_key(|found| &found.path));
        assert_eq!(census.counted.groups, 3 * MAX_KEPT as i64);
        assert_eq!(census.namespaces[&("t".to_owned(), "n".to_owned())].at_risk, 3 * MAX_KEPT as i64);
    }
}
