//! What somebody has been granted, told to themselves: the same grants that a decision looks at,
//! one place after another.
//!
//! Never decides anything.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Identity;
use super::grants::{Grade, Grant};
use crate::ids::{EVERY_TENANT, GroupPattern};

/// A role in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted<'a> {
    /// The tenant; `None` for all.
    pub tenant: Option<&'a str>,
    /// The namespace; `None` for all of the tenant's.
    pub namespace: Option<&'a str>,
    /// Patterns of the groups there; `None` for all.
    pub groups: Option<&'a [GroupPattern]>,
    /// The role.
    pub grade: Grade,
}

impl Identity {
    /// What they have been granted: the highest roles first, and of a role what is for all before
    /// what is for some. With at most so many places and patterns together, each with all of its
    /// patterns; and how many places were left out.
    pub fn granted(&self, most: usize) -> (Vec<Granted<'_>>, usize) {
        let granted: BTreeSet<_> = self.grants.iter().flat_map(places).collect();
        let (total, mut room) = (granted.len(), most);
        let mut told = Vec::new();
        for (Reverse(grade), tenant, namespace, groups) in granted {
            let Some(left) = room.checked_sub(1 + groups.map_or(0, <[_]>::len)) else { break };
            room = left;
            told.push(Granted { tenant, namespace, groups, grade });
        }
        let left_out = total - told.len();
        (told, left_out)
    }
}

type Place<'a> = (Reverse<Grade>, Option<&'a str>, Option<&'a str>, Option<&'a [GroupPattern]>);

/// What one grant is for. In the order of these `None` is the first.
fn places(grant: &Grant) -> impl Iterator<Item = Place<'_>> {
    let tenant = Some(grant.tenant.as_str()).filter(|tenant| *tenant != EVERY_TENANT);
    let names = grant.namespaces.iter().flatten().map(|name| Some(name.as_str()));
    let all = grant.namespaces.is_none().then_some(None);
    all.into_iter()
        .chain(names)
        .map(move |namespace| (Reverse(grant.grade), tenant, namespace, grant.groups.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Kind;

    fn grant(tenant: &str, namespaces: Option<&[&str]>, grade: Grade) -> Grant {
        let namespaces = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Grant { tenant: tenant.to_owned(), namespaces, groups: None, grade }
    }

    #[test]
    fn grants_are_told_with_the_highest_and_widest_first_each_once_and_no_more_than_are_wanted() {
        let for_some = Grant {
            groups: Some(vec![GroupPattern::from("line-*".to_owned())]),
            ..grant("b", Some(&["n"]), Grade::Admin)
        };
        let identity = Identity {
            name: "basic:x".into(),
            kind: Kind::User,
            grants: vec![
                grant("b", Some(&["n", "m"]), Grade::Client),
                grant("*", None, Grade::Viewer),
                grant("a", None, Grade::Client),
                grant("b", Some(&["m"]), Grade::Client),
                for_some,
            ],
        };
        let told = |most| {
            let (granted, left_out) = identity.granted(most);
            let each = granted.into_iter().map(|one| (one.grade, one.tenant, one.namespace, one.groups.is_some()));
            (each.collect::<Vec<_>>(), left_out)
        };
        let all = vec![
            (Grade::Admin, Some("b"), Some("n"), true),
            (Grade::Client, Some("a"), None, false),
            (Grade::Client, Some("b"), Some("m"), false),
            (Grade::Client, Some("b"), Some("n"), false),
            (Grade::Viewer, None, None, false),
        ];
        assert_eq!(told(6), (all.clone(), 0));
        assert_eq!(told(5), (all[..4].to_vec(), 1), "a pattern takes room too");
        assert_eq!(told(1), (Vec::new(), 5), "no place is told with some of its patterns");
    }

    #[test]
    fn a_name_is_told_without_how_it_is_recognised() {
        for (name, kind, own) in [
            ("basic:a:b", Kind::User, Some("a:b")),
            ("oidc:me", Kind::Token, Some("me")),
            ("key:3:adapter:7", Kind::ApiKey, Some("adapter:7")),
            ("certificate:cn:pump", Kind::Certificate, Some("cn:pump")),
            ("anonymous", Kind::Anonymous, None),
        ] {
            assert_eq!(Identity { name: name.into(), kind, grants: Vec::new() }.own_name(), own, "{name}");
        }
    }
}
