//! Which namespaces the metrics name: those in trouble first, then the largest, and no more than
//! there is room for. The others are counted together, so that the sum is the whole.
//!
//! A name stays for as long as it can: a series that ends in the middle of a fault, or comes and
//! goes, helps nobody.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Census, NamespaceCount};
use crate::failover::risks::Risk;
use crate::metrics::{InNamespace, OTHER_NAMESPACES};

/// How long a namespace counts as in trouble after the last of it.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// By how much a namespace must be larger than one that has a name, to get its place.
const MARGIN: i64 = 2;

/// In how much trouble a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    AtRisk,
    /// Somebody is live in a group, and nobody sends.
    NoPrimary,
}

impl Trouble {
    fn of(count: &NamespaceCount) -> Trouble {
        match count {
            _ if count.groups - count.with_primary > count.without_live_session => Trouble::NoPrimary,
            _ if count.at_risk > 0 => Trouble::AtRisk,
            _ => Trouble::None,
        }
    }
}

type Place = (String, String);

/// The namespaces that have names now.
#[derive(Debug, Default)]
pub(super) struct Named {
    limit: usize,
    /// With the worst trouble of each that is remembered, and when it was last seen.
    kept: HashMap<Place, (Trouble, Instant)>,
}

impl Named {
    pub(super) fn at_most(limit: usize) -> Named {
        Named { limit, kept: HashMap::new() }
    }

    /// What is shown of a census, the sum of the others last.
    pub(super) fn choose(&mut self, census: &Census, now: Instant) -> Vec<InNamespace> {
        let mut ranked: Vec<_> = census
            .namespaces
            .iter()
            .map(|(place, count)| {
                let kept = self.kept.get(place).copied();
                let remembered = kept.filter(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
                let seen = (Trouble::of(count), now);
                let trouble = match remembered {
                    Some(worse) if worse.0 > seen.0 => worse,
                    _ => seen,
                };
                let weight = match trouble.0 {
                    Trouble::None => count.groups,
                    Trouble::AtRisk | Trouble::NoPrimary => count.at_risk.max(1),
                };
                let weight = weight * if kept.is_some() { MARGIN } else { 1 };
                (Reverse((trouble.0, weight)), place, count, trouble)
            })
            .collect();
        ranked.sort_unstable_by_key(|(rank, place, ..)| (*rank, *place));
        ranked.truncate(self.limit);
        // In one order, whatever the trouble.
        ranked.sort_unstable_by_key(|(_, place, ..)| *place);
        let mut others = census.everywhere;
        let mut shown: Vec<InNamespace> = ranked
            .iter()
            .map(|(_, (tenant, namespace), count, _)| {
                others.take_away(count);
                shown(tenant, namespace, count)
            })
            .collect();
        shown.push(self::shown(OTHER_NAMESPACES, OTHER_NAMESPACES, &others));
        self.kept = ranked.into_iter().map(|(_, place, _, trouble)| (place.clone(), trouble)).collect();
        shown
    }
}

fn shown(tenant: &str, namespace: &str, count: &NamespaceCount) -> InNamespace {
    InNamespace {
        tenant: tenant.to_owned(),
        namespace: namespace.to_owned(),
        groups: count.groups,
        groups_with_primary: count.with_primary,
        groups_without_live_session: count.without_live_session,
        groups_at_risk: count.at_risk,
        groups_by_risk: Risk::ALL.iter().map(|risk| (risk.name(), count.with(*risk))).collect(),
        sessions: count.sessions,
        live_sessions: count.live_sessions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(groups: i64, with_primary: i64, at_risk: i64) -> NamespaceCount {
        NamespaceCount { groups, with_primary, at_risk, sessions: 2 * groups, ..NamespaceCount::default() }
    }

    fn census(namespaces: &[(&str, NamespaceCount)]) -> Census {
        let mut census = Census::default();
        for (name, count) in namespaces {
            census.namespaces.insert(("t".to_owned(), (*name).to_owned()), *count);
            census.everywhere.groups += count.groups;
            census.everywhere.with_primary += count.with_primary;
            census.everywhere.at_risk += count.at_risk;
            census.everywhere.sessions += count.sessions;
        }
        census
    }

    fn names(shown: &[InNamespace]) -> Vec<&str> {
        shown.iter().map(|shown| shown.namespace.as_str()).collect()
    }

    #[test]
    fn those_in_trouble_have_names_then_the_largest_and_the_rest_is_one_sum() {
        let now = Instant::now();
        let found = census(&[
            ("large", count(90, 90, 0)),
            ("dark", count(3, 1, 2)),
            ("ill", count(50, 50, 40)),
            ("mid", count(60, 60, 0)),
            ("small", count(1, 1, 0)),
        ]);
        let shown = Named::at_most(3).choose(&found, now);
        assert_eq!(names(&shown), ["dark", "ill", "large", OTHER_NAMESPACES]);
        let others = &shown[3];
        assert_eq!((others.groups, others.groups_with_primary, others.sessions), (61, 61, 122));
        let none = Named::at_most(0).choose(&found, now);
        assert_eq!((names(&none), none[0].groups, none[0].groups_at_risk), (vec![OTHER_NAMESPACES], 204, 42));
    }

    #[test]
    fn a_name_stays_until_another_needs_its_place_clearly_more() {
        let mut named = Named::at_most(1);
        let now = Instant::now();
        let found = |first: NamespaceCount, second: NamespaceCount| census(&[("first", first), ("second", second)]);
        assert_eq!(names(&named.choose(&found(count(10, 10, 0), count(9, 9, 0)), now))[0], "first");
        assert_eq!(names(&named.choose(&found(count(10, 10, 0), count(19, 19, 0)), now))[0], "first");
        assert_eq!(names(&named.choose(&found(count(10, 10, 0), count(21, 21, 0)), now))[0], "second");
        // Trouble counts for more than size, and is remembered for an hour.
        assert_eq!(names(&named.choose(&found(count(10, 9, 1), count(21, 21, 0)), now))[0], "first");
        let soon = now + REMEMBERED / 2;
        assert_eq!(names(&named.choose(&found(count(10, 10, 0), count(99, 99, 3)), soon))[0], "first");
        let later = now + REMEMBERED;
        assert_eq!(names(&named.choose(&found(count(10, 10, 0), count(99, 99, 3)), later))[0], "second");
    }
}
