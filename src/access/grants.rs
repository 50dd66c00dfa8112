//! What identities have been granted: a grade, and where it is good.

use serde::Deserialize;

use super::decision::Place;
use crate::ids::{EVERY_TENANT, GroupPattern};

/// What an identity may do, each including the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Read the metrics, which are of all tenants, and nothing else.
    Metrics,
    /// Read.
    Viewer,
    /// Also register sessions, send heartbeats, delete sessions; create groups where a setting lets
    /// it.
    Client,
    /// Also create, change and delete groups, by force too.
    Admin,
}

impl Grade {
    /// All of them, the least first.
    pub const ALL: [Grade; 4] = [Grade::Metrics, Grade::Viewer, Grade::Client, Grade::Admin];

    /// As it is written in files, tables and tokens.
    pub fn text(self) -> &'static str {
        match self {
            Grade::Metrics => "metrics",
            Grade::Viewer => "viewer",
            Grade::Client => "client",
            Grade::Admin => "admin",
        }
    }

    /// The grade of that text.
    pub fn from_text(text: &str) -> Option<Grade> {
        Grade::ALL.into_iter().find(|role| role.text() == text)
    }
}

/// A grade in a tenant, or in some of its namespaces, or for some of the groups there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The tenant; `*` for all.
    pub tenant: String,
    /// The namespaces; `None` for all.
    #[serde(default)]
    pub namespaces: Option<Vec<String>>,
    /// Patterns of the groups there; `None` for all.
    #[serde(default)]
    pub groups: Option<Vec<GroupPattern>>,
    /// What may be done there.
    #[serde(rename = "role")]
    pub grade: Grade,
}

impl Grant {
    /// Whether it has something to say about a place.
    pub(super) fn reaches(&self, place: &Place<'_>) -> bool {
        let in_tenant = |tenant: &str| self.tenant == EVERY_TENANT || self.tenant == tenant;
        let in_namespace = |namespace: &str| match &self.namespaces {
            None => true,
            Some(names) => names.iter().any(|name| name == namespace),
        };
        let for_group = |id: &str| self.groups.as_ref().is_none_or(|patterns| patterns.iter().any(|p| p.fits(id)));
        let for_all_groups = self.groups.is_none();
        match place {
            Place::Group { tenant, namespace, group } => {
                in_tenant(tenant) && in_namespace(namespace) && for_group(group)
            }
            Place::GroupsOf { tenant, namespace } => in_tenant(tenant) && in_namespace(namespace),
            Place::Namespace { tenant, namespace } => in_tenant(tenant) && in_namespace(namespace) && for_all_groups,
            Place::Tenant { tenant } => in_tenant(tenant) && self.namespaces.is_none() && for_all_groups,
            Place::Everywhere => self.tenant == EVERY_TENANT && self.namespaces.is_none() && for_all_groups,
        }
    }

    /// What makes it useless, if anything: an empty name can never be meant.
    pub fn fault(&self) -> Option<&'static str> {
        let for_some = self.tenant != EVERY_TENANT || self.namespaces.is_some() || self.groups.is_some();
        match &self.groups {
            _ if self.grade == Grade::Metrics && for_some => {
                return Some("the metrics are of all tenants: the role metrics takes tenant '*' and nothing narrower");
            }
            Some(patterns) if patterns.is_empty() => return Some("groups is empty: leave it out to mean all"),
            Some(patterns) => {
                if let Some(fault) = patterns.iter().find_map(GroupPattern::fault) {
                    return Some(fault);
                }
            }
            None => {}
        }
        let names = self.namespaces.iter().flatten().chain([&self.tenant]);
        match self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            true => Some("namespaces is empty: leave it out to mean all"),
            false if names.into_iter().any(String::is_empty) => Some("a tenant or namespace is empty"),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(tenant: &str, namespaces: Option<&[&str]>) -> Grant {
        let namespaces = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Grant { tenant: tenant.to_owned(), namespaces, groups: None, grade: Grade::Client }
    }

    #[test]
    fn a_grant_that_can_never_be_meant_is_a_fault() {
        assert_eq!(grant("a", Some(&["n"])).fault(), None);
        let for_no_group = Grant { groups: Some(vec![GroupPattern::from(String::new())]), ..grant("a", None) };
        let metrics_of_one = Grant { grade: Grade::Metrics, ..grant("a", None) };
        for grant in [grant("", None), grant("a", Some(&[])), grant("a", Some(&[""])), for_no_group, metrics_of_one] {
            assert!(grant.fault().is_some(), "{grant:?}");
        }
    }
}
