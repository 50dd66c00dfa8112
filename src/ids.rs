//! The names in a path: tenant, namespace, group, client session. What a name is is said in `wire`,
//! for both sides; what only the service makes of them is here: a group's key in the database, and
//! patterns of names by which somebody may be let in.

use uuid::Uuid;

pub use client_failover_wire::ids::{
    EVERY_TENANT, GroupId, HIDDEN, InvalidId, MAX_CHARS, NamespaceId, NamespacePath, SessionId, TenantId,
    hidden_character,
};
pub use patterns::{GroupPattern, Groups};

mod patterns;

/// A group, named from the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupPath {
    /// Where it is.
    pub parent: NamespacePath,
    /// Its name there.
    pub group: GroupId,
}

/// Where groups are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Within {
    /// Everywhere.
    #[default]
    AllTenants,
    /// In all namespaces of a tenant.
    Tenant(TenantId),
    /// In a namespace.
    Namespace(NamespacePath),
}

impl Within {
    /// The tenant, where there is one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Within::AllTenants => None,
            Within::Tenant(tenant) => Some(tenant.as_str()),
            Within::Namespace(path) => Some(path.tenant.as_str()),
        }
    }

    /// The namespace, where there is one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Within::AllTenants | Within::Tenant(_) => None,
            Within::Namespace(path) => Some(path.namespace.as_str()),
        }
    }

    /// Whether a namespace of a tenant is there.
    pub fn includes(&self, tenant: &str, namespace: &str) -> bool {
        self.tenant().is_none_or(|wanted| wanted == tenant) && self.namespace().is_none_or(|wanted| wanted == namespace)
    }
}

/// The key of a group in the database: computed from its path, so that no look-up by name is
/// needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub Uuid);

/// For tables of many groups. A group's key is a hash already, but for the bits that say of which
/// kind it is.
pub(crate) fn hash_of(key: &Uuid) -> u64 {
    let (first, second) = key.as_u64_pair();
    first ^ second.rotate_left(32)
}

impl GroupPath {
    /// Tenant, namespace and id, for people.
    pub fn label(&self) -> String {
        // No name holds a slash, so this text has one reading.
        format!("{}/{}/{}", self.parent.tenant, self.parent.namespace, self.group)
    }

    /// The group's key.
    pub fn key(&self) -> GroupKey {
        /// The name space of the keys. Changing it would orphan every stored group.
        const KEYS: Uuid = Uuid::from_u128(0x5f0b_96a2_6a5c_4c0e_9d0b_7f5f_1e6a_2b34);
        GroupKey(Uuid::new_v5(&KEYS, self.label().as_bytes()))
    }
}
