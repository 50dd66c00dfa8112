//! The one decision about access: who is asking, what for, and where, down to a group.
//!
//! What can be told by the request alone is decided at the door, by [`decide`]; it gives
//! [`Rights`]. What depends on what is found there is asked of these, within the transaction that
//! found it. Nobody else says no.

use std::borrow::Cow;
use std::fmt;

use super::Identity;
use super::grants::{Grade, Grant};
use crate::ids::{GroupId, Groups, SessionId};
use crate::store::registrant::Registrant;

/// Where something is to be done.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// In a group, whether or not there is one.
    Group {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The group.
        group: Cow<'a, str>,
    },
    /// In as many of a namespace's groups as are granted, for whoever then looks at
    /// [`Rights::groups`].
    GroupsOf {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// In a tenant's namespace, all of its groups included.
    Namespace {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// In a tenant, outside of its namespaces, which takes a grant for all of them.
    Tenant {
        /// The tenant.
        tenant: Cow<'a, str>,
    },
    /// Outside of any, which takes a grant for all tenants.
    Everywhere,
}

impl Place<'_> {
    /// The tenant that it is in, if it is in one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Place::Everywhere => None,
            Place::Tenant { tenant }
            | Place::Namespace { tenant, .. }
            | Place::GroupsOf { tenant, .. }
            | Place::Group { tenant, .. } => Some(tenant),
        }
    }

    /// The namespace that it is in, if it is in one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Place::Everywhere | Place::Tenant { .. } => None,
            Place::Namespace { namespace, .. } | Place::GroupsOf { namespace, .. } | Place::Group { namespace, .. } => {
                Some(namespace)
            }
        }
    }

    /// The group that it is, if it is one.
    pub fn group(&self) -> Option<&str> {
        match self {
            Place::Group { group, .. } => Some(group),
            _ => None,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Not by its name: the same words for every group that is refused.
            Place::Group { tenant, namespace, .. } => {
                write!(f, "for this group in namespace '{namespace}' of tenant '{tenant}'")
            }
            Place::GroupsOf { tenant, namespace } | Place::Namespace { tenant, namespace } => {
                write!(f, "in namespace '{namespace}' of tenant '{tenant}'")
            }
            Place::Tenant { tenant } => write!(f, "in tenant '{tenant}' as a whole"),
            Place::Everywhere => f.write_str("outside of a tenant's namespaces"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Look at what is counted.
    ReadMetrics,
    /// Look.
    Read,
    /// Register sessions, send heartbeats, delete sessions.
    UseSessions,
    /// Create a group, or find it there as it is wanted.
    CreateGroups,
    /// Change or delete a group, and whatever is not named above.
    Administer,
}

impl Permission {
    /// The least grade that has it.
    fn needs(self, clients_create_groups: bool) -> Grade {
        match self {
            Permission::ReadMetrics => Grade::Metrics,
            Permission::Read => Grade::Viewer,
            Permission::UseSessions => Grade::Client,
            Permission::CreateGroups if clients_create_groups => Grade::Client,
            Permission::CreateGroups | Permission::Administer => Grade::Admin,
        }
    }
}

/// Why somebody may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They have not been granted it there, whatever there is.
    #[error("'{identity}' is not '{needed}' {place}", needed = needed.text())]
    NotGranted {
        /// Who they are.
        identity: String,
        /// The grade that they lack.
        needed: Grade,
        /// Where: as it is told to them.
        place: String,
    },
    /// They may create groups there, but none of that id.
    #[error("'{identity}' may create groups here, but none of this id")]
    NotThisGroup {
        /// Who they are.
        identity: String,
    },
    /// The group exists with another configuration, and they may create groups but not change them.
    #[error("group '{0}' exists with another configuration, which only the role 'admin' may change")]
    OnlyAdminsChangeGroups(GroupId),
    /// The session was registered by somebody else, and is bound to them.
    #[error("client session '{session}' of group '{group}' was registered by another identity")]
    SessionOfAnother {
        /// The group.
        group: GroupId,
        /// The id.
        session: SessionId,
    },
    /// They would give more than they have.
    #[error("'{identity}' may not give what this key would be good for")]
    MoreThanTheyHave {
        /// Who they are.
        identity: String,
    },
    /// Nobody comes in by a key here, so nobody is given one.
    #[error(
        "this service does not take API keys ('api-key' is not among its ways to say who one is), so it hands out none"
    )]
    KeysAreNoWayIn,
}

/// What somebody may do at the place where they were let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    grade: Grade,
    groups: Groups,
}

impl Rights {
    /// The groups that are theirs, where the place is that of many.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Whether they may create a group of that id, which the place does not name.
    pub fn create(&self, identity: &str, group: &GroupId) -> Result<(), Denied> {
        if self.groups.include(group.as_str()) {
            Ok(())
        } else {
            Err(Denied::NotThisGroup { identity: identity.to_owned() })
        }
    }

    /// Whether they may give a group that is there another configuration.
    pub fn change(&self, group: &GroupId) -> Result<(), Denied> {
        match self.grade {
            Grade::Admin => Ok(()),
            Grade::Metrics | Grade::Viewer | Grade::Client => Err(Denied::OnlyAdminsChangeGroups(group.clone())),
        }
    }

    /// Whether they are told who made and deleted a group.
    pub fn see_who_changed_groups(&self) -> bool {
        self.grade == Grade::Admin
    }

    /// Whether they may delete a session that is bound to its registrant.
    pub fn delete_bound(&self, registrant: Registrant, group: &GroupId, session: &SessionId) -> Result<(), Denied> {
        match self.grade {
            Grade::Admin => Ok(()),
            Grade::Metrics | Grade::Viewer | Grade::Client => beat_bound(registrant, group, session),
        }
    }
}

/// Whether a heartbeat counts for a session that is bound to its registrant: no grade makes
/// somebody else's count.
pub fn beat_bound(registrant: Registrant, group: &GroupId, session: &SessionId) -> Result<(), Denied> {
    match registrant {
        Registrant::Caller | Registrant::NotKnown => Ok(()),
        Registrant::Another => Err(Denied::SessionOfAnother { group: group.clone(), session: session.clone() }),
    }
}

/// Whether an identity may do something somewhere: what else it may do there, or why not.
///
/// The outcome depends on the identity, the place and the permission alone, never on what exists
/// there.
pub fn decide(
    identity: &Identity,
    place: &Place<'_>,
    permission: Permission,
    clients_create_groups: bool,
) -> Result<Rights, Denied> {
    let needed = permission.needs(clients_create_groups);
    let sufficient = || identity.grants.iter().filter(|grant| grant.grade >= needed && grant.reaches(place));
    let is_of_many = matches!(place, Place::GroupsOf { .. });
    let whole = sufficient().filter(|grant| !is_of_many || grant.groups.is_none()).map(|grant| grant.grade).max();
    if let Some(grade) = whole {
        return Ok(Rights { grade, groups: Groups::All });
    }
    let mut patterns = sufficient().flat_map(|grant| grant.groups.iter().flatten()).cloned().peekable();
    match patterns.peek() {
        // Of several grades the one that holds for all of these groups.
        Some(_) => Ok(Rights { grade: needed, groups: Groups::fitting(patterns) }),
        None => Err(Denied::NotGranted { identity: identity.name.to_string(), needed, place: place.to_string() }),
    }
}

/// Whether an admin of a tenant as a whole (`None`: of everything) may give that to another:
/// nothing beyond the tenant.
pub fn hand_on(identity: &str, tenant: Option<&str>, grant: &Grant) -> Result<(), Denied> {
    if tenant.is_none_or(|tenant| grant.tenant == tenant) {
        Ok(())
    } else {
        Err(Denied::MoreThanTheyHave { identity: identity.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Kind;
    use crate::ids::GroupPattern;

    fn grant(tenant: &str, namespaces: Option<&[&str]>, grade: Grade) -> Grant {
        let namespaces = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Grant { tenant: tenant.to_owned(), namespaces, groups: None, grade }
    }

    fn for_groups(pattern: &str, grade: Grade) -> Grant {
        Grant { groups: Some(vec![GroupPattern::from(pattern.to_owned())]), ..grant("a", Some(&["n"]), grade) }
    }

    fn needed(denied: Denied) -> Grade {
        match denied {
            Denied::NotGranted { needed, .. } => needed,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_permission_takes_a_role_there() {
        let identity = Identity {
            name: "x".into(),
            kind: Kind::User,
            grants: vec![grant("a", None, Grade::Viewer), grant("a", Some(&["n"]), Grade::Client)],
        };
        let may = |tenant: &'static str, namespace: &'static str, permission| {
            decide(
                &identity,
                &Place::Namespace { tenant: Cow::from(tenant), namespace: Cow::from(namespace) },
                permission,
                true,
            )
            .map(|rights| rights.grade)
            .map_err(needed)
        };
        assert_eq!(may("a", "n", Permission::UseSessions), Ok(Grade::Client));
        assert_eq!(may("a", "n", Permission::CreateGroups), Ok(Grade::Client));
        assert_eq!(may("a", "n", Permission::Administer), Err(Grade::Admin));
        assert_eq!(may("a", "m", Permission::Read), Ok(Grade::Viewer));
        assert_eq!(may("a", "m", Permission::UseSessions), Err(Grade::Client));
        assert_eq!(may("b", "n", Permission::Read), Err(Grade::Viewer));
        assert_eq!(decide(&identity, &Place::Everywhere, Permission::Read, true).map_err(needed), Err(Grade::Viewer));
        let in_n = Place::Namespace { tenant: "a".into(), namespace: "n".into() };
        assert_eq!(decide(&identity, &in_n, Permission::CreateGroups, false).map_err(needed), Err(Grade::Admin));
    }

    #[test]
    fn a_grant_for_some_groups_is_good_for_these_and_for_what_is_told_of_them_alone() {
        let grants = vec![for_groups("line-*", Grade::Client), for_groups("pump", Grade::Admin)];
        let identity = Identity { name: "x".into(), kind: Kind::User, grants };
        let (tenant, namespace) = (|| Cow::from("a"), || Cow::from("n"));
        let may = |place: Place<'_>, permission| decide(&identity, &place, permission, true);
        let on = |group: &str, permission| {
            let place = Place::Group { tenant: tenant(), namespace: namespace(), group: group.into() };
            may(place, permission).map(|rights| rights.grade).map_err(needed)
        };
        let groups_of = |namespace| Place::GroupsOf { tenant: tenant(), namespace };
        assert_eq!(on("line-7", Permission::UseSessions), Ok(Grade::Client));
        assert_eq!(on("line-7", Permission::Administer), Err(Grade::Admin));
        assert_eq!(on("pump", Permission::Administer), Ok(Grade::Admin));
        assert_eq!(on("valve", Permission::Read), Err(Grade::Viewer));
        let some = may(groups_of(namespace()), Permission::Read).unwrap();
        assert_eq!(some.grade, Grade::Viewer, "the grade that holds for all of them");
        for (group, expected) in [("line-7", true), ("pump", true), ("valve", false)] {
            assert_eq!(some.groups.include(group), expected, "{group}");
        }
        let change = may(groups_of(namespace()), Permission::Administer).unwrap();
        assert!(change.groups.include("pump") && !change.groups.include("line-7"));
        let whole = Place::Namespace { tenant: tenant(), namespace: namespace() };
        for place in [whole, Place::Tenant { tenant: tenant() }, Place::Everywhere] {
            assert_eq!(may(place.clone(), Permission::Read).map_err(needed), Err(Grade::Viewer), "{place:?}");
        }
        assert_eq!(may(groups_of("m".into()), Permission::Read).map_err(needed), Err(Grade::Viewer));
    }

    #[test]
    fn a_tenant_as_a_whole_takes_a_grant_for_all_of_it() {
        let may = |grant| {
            let identity = Identity { name: "x".into(), kind: Kind::User, grants: vec![grant] };
            decide(&identity, &Place::Tenant { tenant: "a".into() }, Permission::Administer, true).is_ok()
        };
        assert!(may(grant("a", None, Grade::Admin)));
        assert!(may(grant("*", None, Grade::Admin)));
        assert!(!may(grant("a", Some(&["n"]), Grade::Admin)));
        assert!(!may(grant("b", None, Grade::Admin)));
        assert!(!may(grant("a", None, Grade::Client)));
    }

    #[test]
    fn nobody_hands_on_more_than_they_have() {
        let handed = |tenant: &str| hand_on("x", Some("a"), &grant(tenant, None, Grade::Viewer)).is_ok();
        assert!(handed("a") && !handed("b") && !handed("*"));
        assert_eq!(hand_on("x", None, &grant("*", None, Grade::Admin)), Ok(()));
    }

    #[test]
    fn a_bound_session_is_its_registrants_and_an_admin_may_delete_it() {
        let (group, session) = (GroupId::parse("g").unwrap(), SessionId::parse("s").unwrap());
        let rights = |grade| Rights { grade, groups: Groups::All };
        for (registrant, beats) in
            [(Registrant::Caller, true), (Registrant::NotKnown, true), (Registrant::Another, false)]
        {
            assert_eq!(beat_bound(registrant, &group, &session).is_ok(), beats, "{registrant:?}");
            let client = rights(Grade::Client).delete_bound(registrant, &group, &session);
            assert_eq!(client.is_ok(), beats, "{registrant:?}");
            assert_eq!(rights(Grade::Admin).delete_bound(registrant, &group, &session), Ok(()), "{registrant:?}");
        }
    }

    #[test]
    fn only_an_admin_changes_a_group_that_is_there_and_is_told_who_did() {
        let group = GroupId::parse("g").unwrap();
        for grade in Grade::ALL {
            let rights = Rights { grade, groups: Groups::All };
            assert_eq!(rights.change(&group).is_ok(), grade == Grade::Admin, "{grade:?}");
            assert_eq!(rights.see_who_changed_groups(), grade == Grade::Admin, "{grade:?}");
        }
    }

    #[test]
    fn the_role_metrics_reads_what_is_counted_and_nothing_else() {
        let identity = Identity { name: "x".into(), kind: Kind::User, grants: vec![grant("*", None, Grade::Metrics)] };
        let may = |place: Place<'_>, permission| decide(&identity, &place, permission, true).is_ok();
        assert!(may(Place::Everywhere, Permission::ReadMetrics));
        assert!(!may(Place::Everywhere, Permission::Read));
        assert!(!may(Place::Group { tenant: "a".into(), namespace: "n".into(), group: "g".into() }, Permission::Read));
    }

    #[test]
    fn only_a_grant_for_all_tenants_and_namespaces_reaches_outside_of_them() {
        let reaches = |grant| {
            let identity = Identity { name: "x".into(), kind: Kind::User, grants: vec![grant] };
            decide(&identity, &Place::Everywhere, Permission::Read, true).is_ok()
        };
        assert!(reaches(grant("*", None, Grade::Viewer)));
        assert!(!reaches(grant("*", Some(&["n"]), Grade::Admin)));
        assert!(!reaches(grant("a", None, Grade::Admin)));
    }
}
