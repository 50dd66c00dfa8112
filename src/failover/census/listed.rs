//! What operators see of all groups: pages of them, those at risk first, and one with its risks.
//! The census knows which are worth a look; what is shown of them is read anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Census, MAX_CHANGED, Marks, NamespaceCount, Noted, TIMEOUT, is_handing_over, is_within, take};
use crate::arbitration::Role;
use crate::failover::risks::{Looked, Risk, most_seen, risks};
use crate::failover::{Failover, FailoverError, new_ids, no_such_group};
use crate::ids::GroupPath;
use crate::store::StoreError;
use crate::store::status::{self, FIRST_HISTORY, GroupOrder, GroupSearch, GroupStatus, History};
use crate::store::webhook::SeenRisk;

/// Which of the groups somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    #[default]
    All,
    /// Those at any risk.
    AtRisk,
    /// Those at that risk.
    With(Risk),
    /// Those in which a handover is under way.
    HandingOver,
}

impl Wanted {
    /// Whether a group with these marks is among those that are listed before all others.
    fn includes(self, marks: Marks) -> bool {
        match self {
            Wanted::All | Wanted::AtRisk => marks.worst().is_some(),
            Wanted::With(risk) => marks.has(risk),
            Wanted::HandingOver => marks.is_handing_over(),
        }
    }
}

/// Risks that a census found.
#[derive(Debug)]
pub struct FoundRisks {
    /// Of each group all that it has.
    pub risks: Vec<SeenRisk>,
    /// Whether these are all: where very many groups are at risk, the worst are kept.
    pub are_all: bool,
    /// When the census ended.
    pub counted_at: Instant,
}

/// Which groups an operator wants to see.
#[derive(Clone, Debug, Default)]
pub struct StatusQuery {
    /// Where, and with what in their names.
    pub search: GroupSearch,
    /// Which of them.
    pub wanted: Wanted,
    /// In which order; where none is said, those at risk first.
    pub order: Option<GroupOrder>,
    /// How many are left out at the beginning.
    pub skip: i64,
    /// The most that are wanted.
    pub count: i64,
}

/// A page of what an operator wants to see.
#[derive(Debug)]
pub struct StatusPage {
    /// Those of the page, in order.
    pub groups: Vec<GroupAtRisk>,
    /// How many there are in all.
    pub total: i64,
    /// How many of them are at risk, as far as is known.
    pub at_risk: i64,
    /// What the latest census counted there, whatever is searched for; `None` before the first.
    pub counted: Option<CountedThere>,
    /// The history that the database is in, if it is not the first.
    pub new_history: Option<History>,
}

/// A group with what puts it at risk.
#[derive(Debug)]
pub struct GroupAtRisk {
    /// What is true of it now.
    pub status: GroupStatus,
    /// Its risks, the most urgent first.
    pub risks: Vec<Risk>,
    /// Whether it flaps because the health of its sessions swings.
    pub health_swings: bool,
}

/// What was counted, and how long ago.
#[derive(Clone, Copy, Debug)]
pub struct CountedThere {
    /// The counts.
    pub count: NamespaceCount,
    /// Since the census ended.
    pub age: Duration,
}

impl Failover {
    /// A page of groups with what is true of them now, those at risk first.
    pub async fn list_status(&self, query: StatusQuery) -> Result<StatusPage, FailoverError> {
        let census = self.recent_census().await;
        let changed = self.find_changed(&census).await?;
        let mut found: Vec<(Marks, Uuid)> = Vec::new();
        let mut is_known_anew = HashSet::new();
        for group in
            changed.iter().filter(|group| is_within(&query.search, &group.tenant, &group.namespace, &group.group))
        {
            is_known_anew.insert(group.key);
            found.push((self.marks_of(&census, group), group.key));
        }
        let from_census = census.noted.iter().filter(|noted| {
            let (tenant, namespace, group) = &noted.path;
            !is_known_anew.contains(&noted.key) && is_within(&query.search, tenant, namespace, group)
        });
        found.extend(from_census.map(|noted| (noted.marks, noted.key)));
        found.retain(|(marks, _)| query.wanted.includes(*marks));
        // Of equal urgency those that have changed come first, the latest before the others.
        found.sort_by_key(|(marks, _)| marks.urgency());
        let counted = census.counted_in(&query.search);
        let (keys, total, at_risk) = self.find_page(&query, &found).await?;
        let groups = self.read_status(&keys).await?;
        let groups = groups.into_iter().map(|status| self.look_at(&census, status)).collect();
        let new_history = self.list_histories(1).await?.pop().filter(|latest| latest.reason != FIRST_HISTORY);
        Ok(StatusPage { groups, total, at_risk, counted, new_history })
    }

    /// The risks that the latest census found, if that is at least so much later than the one
    /// before.
    pub fn found_risks(&self, before: Option<Instant>, interval: Duration) -> Option<FoundRisks> {
        let census = self.census.get();
        let is_later = |at: &Instant| before.is_none_or(|before| at.saturating_duration_since(before) >= interval);
        let counted_at = census.ended_at.filter(is_later)?;
        let seen = |found: &Noted, risk: Risk| SeenRisk {
            key: found.key,
            tenant: found.path.0.clone(),
            namespace: found.path.1.clone(),
            group: found.path.2.clone(),
            risk: risk.name(),
        };
        let at_risk = || census.noted.iter().filter(|found| found.marks.worst().is_some());
        let risks_of = |marks: Marks| Risk::ALL.into_iter().filter(move |risk| marks.has(*risk));
        let risks = at_risk().flat_map(|found| risks_of(found.marks).map(move |risk| seen(found, risk)));
        let are_all = at_risk().count() as i64 == census.everywhere.at_risk;
        Some(FoundRisks { risks: risks.collect(), are_all, counted_at })
    }

    /// The histories of the database, the latest first.
    pub async fn list_histories(&self, limit: i64) -> Result<Vec<History>, StoreError> {
        self.store.read("histories", |connection, _| Box::pin(status::read_histories(connection, limit))).await
    }

    /// One group with what is true of it now.
    pub async fn find_status(&self, path: &GroupPath) -> Result<GroupAtRisk, FailoverError> {
        let found = self.read_status(&[path.key().0]).await?.pop();
        Ok(self.look_at(&self.census.get(), found.ok_or_else(|| no_such_group(path))?))
    }

    /// The namespaces that have groups, as a census found them.
    pub async fn list_namespaces(&self) -> Arc<Census> {
        self.recent_census().await
    }

    /// A census of a moment ago, where it costs little; else the latest. However many look, one is
    /// taken at a time.
    async fn recent_census(&self) -> Arc<Census> {
        let latest = self.census.get();
        if !latest.is_worth_taking_anew() {
            return latest;
        }
        let (latest, store) = (self.census.clone(), self.store.clone());
        let taken = tokio::spawn(async move {
            let _one = latest.0.taking.lock().await;
            if latest.get().is_worth_taking_anew() {
                match take(&store).await {
                    Ok(census) => latest.set(census),
                    // Whoever asked is about to read from the same database, and hears of it then.
                    Err(error) => tracing::debug!(%error, "the census failed; the latest one is shown"),
                }
            }
        });
        // Where it takes longer, it is for those who look next.
        let _ = tokio::time::timeout(TIMEOUT, taken).await;
        self.census.get()
    }

    fn look_at(&self, census: &Census, status: GroupStatus) -> GroupAtRisk {
        let risks = self.risks_of(census, &status);
        let health_swings =
            risks.contains(&Risk::Flapping) && census.flapping.get(&status.key).copied().unwrap_or_default();
        GroupAtRisk { status, risks, health_swings }
    }

    fn marks_of(&self, census: &Census, group: &GroupStatus) -> Marks {
        let live = group.sessions.iter().filter(|session| session.live).count() as i64;
        let has_primary = group.sessions.iter().any(|session| session.role == Role::Primary);
        let is_handing_over = is_handing_over(group.handover_from.is_some(), has_primary, live);
        Marks::of(&self.risks_of(census, group), is_handing_over)
    }

    fn risks_of(&self, census: &Census, group: &GroupStatus) -> Vec<Risk> {
        let live = group.sessions.iter().filter(|session| session.live).count();
        let primary = group.sessions.iter().find(|session| session.role == Role::Primary);
        let health = primary.and_then(|session| session.beat).map(|beat| {
            // Only to compare it with a round number.
            f64::try_from(beat.health).unwrap_or_default()
        });
        risks(Looked {
            timeout: group.timeout,
            sessions: group.sessions.len() as i64,
            live: live as i64,
            primary_health: health,
            is_handing_over: group.handover_from.is_some(),
            is_flapping: census.flapping.contains_key(&group.key),
            seen: most_seen(&group.sessions),
            new_ids: new_ids::count(&group.sessions),
        })
    }

    /// The groups whose Primary has changed since the census.
    async fn find_changed(&self, census: &Census) -> Result<Vec<GroupStatus>, StoreError> {
        let after = census.newest_event;
        let keys = self
            .store
            .read("changed_groups", |connection, _| {
                Box::pin(status::find_changed_since(connection, after, MAX_CHANGED))
            })
            .await?;
        self.read_status(&keys).await
    }

    pub(in crate::failover) async fn read_status(&self, keys: &[Uuid]) -> Result<Vec<GroupStatus>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.store
            .read("status", |connection, _| Box::pin(status::read_status(connection, keys, self.store.options())))
            .await
    }

    /// The keys of a page, how many groups there are, and how many of them are at risk. `noted` are
    /// those that come first, or all that are wanted.
    async fn find_page(
        &self,
        query: &StatusQuery,
        noted: &[(Marks, Uuid)],
    ) -> Result<(Vec<Uuid>, i64, i64), StoreError> {
        let at_risk: HashSet<Uuid> =
            noted.iter().filter(|(marks, _)| marks.worst().is_some()).map(|(_, key)| *key).collect();
        let at_risk = &at_risk;
        let noted: Vec<Uuid> = noted.iter().map(|(_, key)| *key).collect();
        let noted = &noted;
        self.store
            .read("status_page", |connection, _| {
                Box::pin(async move {
                    let search = query.search.among_sessions(connection).await?;
                    let noted = match query.search.text {
                        Some(_) => status::keep_found(connection, &search, noted).await?,
                        // All are in the scope already; one that is gone by now is left out where
                        // it is read.
                        None => noted.clone(),
                    };
                    let at_risk = noted.iter().filter(|key| at_risk.contains(key)).count() as i64;
                    let known = noted.len() as i64;
                    let is_all = query.wanted == Wanted::All;
                    let total = if is_all { status::count_found(connection, &search).await? } else { known };
                    if let Some(order) = query.order {
                        let of = (!is_all).then_some(&*noted);
                        let (skip, count) = (query.skip, query.count);
                        let keys = status::find_in_order(connection, &search, order, of, skip, count).await?;
                        return Ok((keys, total, at_risk));
                    }
                    let mut keys: Vec<Uuid> = noted
                        .iter()
                        .copied()
                        .skip(usize::try_from(query.skip).unwrap_or(usize::MAX))
                        .take(usize::try_from(query.count).unwrap_or(0))
                        .collect();
                    let left = query.count - keys.len() as i64;
                    if is_all && left > 0 {
                        let skip = (query.skip - known).max(0);
                        keys.extend(status::find_others(connection, &search, &noted, skip, left).await?);
                    }
                    Ok((keys, total, at_risk))
                })
            })
            .await
    }
}
