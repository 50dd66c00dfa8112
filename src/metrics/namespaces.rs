//! What is counted by tenant and namespace, for those that are named, and of the others the sum.
//!
//! Which are named is chosen with a census (`failover/census/named.rs`). A change of a role counts
//! for the name that its namespace has at that moment, so that no counter falls or leaps where
//! names change.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, PoisonError, RwLock};

use super::text::{family, line};
use super::{add, read};

/// What stands for the tenant and the namespace of those that are not named: no name holds a slash.
pub const OTHER_NAMESPACES: &str = "/other";

/// What a census counted in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InNamespace {
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// Groups.
    pub groups: i64,
    /// Groups in which somebody is Primary.
    pub groups_with_primary: i64,
    /// Groups without a live session.
    pub groups_without_live_session: i64,
    /// Groups with any risk.
    pub groups_at_risk: i64,
    /// Groups by risk, with the name of each; one with two of them counts for both.
    pub groups_by_risk: Vec<(&'static str, i64)>,
    /// Registered sessions.
    pub sessions: i64,
    /// Those whose lease has not run out.
    pub live_sessions: i64,
}

/// Changes of roles by the namespaces that are named, as the labels of groups begin.
static ROLE_CHANGES: LazyLock<RwLock<HashMap<String, AtomicU64>>> = LazyLock::new(RwLock::default);
/// Those of the others.
static OTHER_ROLE_CHANGES: AtomicU64 = AtomicU64::new(0);

/// These are named from now on.
pub(super) fn name(named: &[InNamespace]) {
    let mut counters = ROLE_CHANGES.write().unwrap_or_else(PoisonError::into_inner);
    let mut before = std::mem::take(&mut *counters);
    let named = named.iter().filter(|named| named.tenant != OTHER_NAMESPACES);
    *counters = named
        .map(|InNamespace { tenant, namespace, .. }| {
            let place = format!("{tenant}/{namespace}");
            let count = before.remove(&place).unwrap_or_default();
            (place, count)
        })
        .collect();
}

/// A role changed in the group of that label.
pub(super) fn role_changed(group: &str) {
    let namespace = group.rsplit_once('/').map_or("", |(namespace, _)| namespace);
    let counters = ROLE_CHANGES.read().unwrap_or_else(PoisonError::into_inner);
    add(counters.get(namespace).unwrap_or(&OTHER_ROLE_CHANGES), 1);
}

/// A value of a label, as it is written.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Which number is shown.
type Value = fn(&InNamespace) -> i64;

/// The labels of each, and then what there is of it.
pub(super) fn render(text: &mut String, named: &[InNamespace]) {
    let labels: Vec<String> = named
        .iter()
        .map(|shown| format!("tenant=\"{}\",namespace=\"{}\"", escape(&shown.tenant), escape(&shown.namespace)))
        .collect();
    let each = || std::iter::zip(&labels, named);
    const GROUPS: &str = "namespace_groups";
    family(text, GROUPS, "gauge", "Groups of a namespace by whether somebody is Primary. The same at every replica.");
    for (labels, shown) in each() {
        let without = shown.groups - shown.groups_with_primary;
        for (primary, count) in [("yes", shown.groups_with_primary), ("no", without)] {
            line(text, format_args!("client_failover_{GROUPS}{{{labels},primary=\"{primary}\"}} {count}"));
        }
    }
    let gauges: [(&str, &str, Value); 4] = [
        ("namespace_groups_without_live_session", "Groups of a namespace without any live session.", |shown| {
            shown.groups_without_live_session
        }),
        ("namespace_groups_at_risk", "Groups of a namespace with any risk.", |shown| shown.groups_at_risk),
        ("namespace_sessions_registered", "Registered client sessions of a namespace.", |shown| shown.sessions),
        ("namespace_sessions_live", "Client sessions of a namespace whose lease has not run out.", |shown| {
            shown.live_sessions
        }),
    ];
    for (name, help, value) in gauges {
        family(text, name, "gauge", help);
        for (labels, shown) in each() {
            line(text, format_args!("client_failover_{name}{{{labels}}} {}", value(shown)));
        }
    }
    const RISKS: &str = "namespace_groups_by_risk";
    family(text, RISKS, "gauge", "Groups of a namespace by risk; one with two risks counts for both.");
    for (labels, shown) in each() {
        for (risk, count) in &shown.groups_by_risk {
            line(text, format_args!("client_failover_{RISKS}{{{labels},risk=\"{risk}\"}} {count}"));
        }
    }
    const CHANGES: &str = "namespace_role_changes_total";
    family(text, CHANGES, "counter", "Changes of roles in a namespace that were committed by this replica.");
    let counters = ROLE_CHANGES.read().unwrap_or_else(PoisonError::into_inner);
    let mut place = String::new();
    for (labels, InNamespace { tenant, namespace, .. }) in each() {
        place.clear();
        // Writing to a String cannot fail.
        let _ = write!(place, "{tenant}/{namespace}");
        let count = read(counters.get(&place).unwrap_or(&OTHER_ROLE_CHANGES));
        line(text, format_args!("client_failover_{CHANGES}{{{labels}}} {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_it_ends_where_it_ends() {
        assert_eq!(escape("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
