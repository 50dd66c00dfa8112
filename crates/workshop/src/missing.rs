//! What is missing of what a test needs, as the build found it.

use super::table::{ROOT, TOOLS};

/// Something missing, for which a test is skipped or fails.
#[derive(Debug, PartialEq)]
pub struct Missing {
    /// What it needs and where that is from, as `needs haproxy (Debian: haproxy)`.
    pub reason: String,
    /// Whether it is skipped. Where CI is set, no tool may be missing.
    pub is_skipped: bool,
}

/// Whether anything in the table has that name.
pub fn is_known(name: &str) -> bool {
    name == ROOT || TOOLS.iter().any(|(tool, _)| *tool == name)
}

/// What is missing of these here.
pub fn of(needed: &[String]) -> Option<Missing> {
    of_these(needed, env!("MISSING_TOOLS"), env!("NOTHING_IS_SKIPPED") == "true")
}

fn of_these(needed: &[String], missing: &str, nothing_is_skipped: bool) -> Option<Missing> {
    let missing: Vec<&str> = missing.split(' ').filter(|name| needed.iter().any(|needed| needed == name)).collect();
    if missing.is_empty() {
        return None;
    }
    let source = |name: &str| TOOLS.iter().find(|(tool, _)| *tool == name).map(|(_, source)| format!(" ({source})"));
    let named: Vec<String> = missing.iter().map(|name| format!("{name}{}", source(name).unwrap_or_default())).collect();
    let is_skipped = !nothing_is_skipped || missing == [ROOT];
    Some(Missing { reason: format!("needs {}", named.join(" and ")), is_skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(needed: &[&str], missing: &str, nothing_is_skipped: bool) -> Option<(String, bool)> {
        let needed: Vec<String> = needed.iter().map(|name| (*name).to_owned()).collect();
        of_these(&needed, missing, nothing_is_skipped).map(|missing| (missing.reason, missing.is_skipped))
    }

    #[test]
    fn a_test_that_has_all_it_needs_is_not_skipped() {
        assert_eq!(reason_of(&["haproxy"], "", false), None);
        assert_eq!(reason_of(&["haproxy"], "etcd patroni", false), None);
    }

    #[test]
    fn a_test_that_is_skipped_says_what_it_needs_and_where_that_is_from() {
        let reason = "needs etcd (Debian: etcd-server) and patroni (Debian: patroni)".to_owned();
        assert_eq!(reason_of(&["patroni", "etcd", "haproxy"], "chromium etcd patroni", false), Some((reason, true)));
        assert_eq!(reason_of(&["root"], "etcd root", false), Some(("needs root".to_owned(), true)));
    }

    #[test]
    fn where_ci_is_set_no_test_is_skipped_for_a_tool() {
        let reason = "needs haproxy (Debian: haproxy)".to_owned();
        assert_eq!(reason_of(&["haproxy", "root"], "haproxy", true), Some((reason, false)));
        assert_eq!(reason_of(&["haproxy", "root"], "root", true), Some(("needs root".to_owned(), true)));
    }
}
