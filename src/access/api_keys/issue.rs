//! Keys made, listed and revoked: each in one transaction with its row of the audit trail. The same
//! for whoever asks over HTTP and for whoever can reach the database.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::generate;
use crate::access::decision::{Denied, hand_on};
use crate::access::grants::Grant;
use crate::ids::{EVERY_TENANT, GroupPattern, NamespaceId, TenantId};
use crate::store::api_keys::{self as stored, ListedKey, NewKey};
use crate::store::audit::{self, Action, Entry};
use crate::store::{LostCommit, Stop, Store, StoreError};

/// How long a key is good where nobody says.
pub const USUAL_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// The longest that it may be said to be: a time of the calendar that everybody can write.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(36_500 * 86_400);

/// The most valid keys of a tenant: every replica has all of them in memory.
const MAX_KEYS_OF_TENANT: i64 = 10_000;

/// The longest name, in characters, and the most namespaces and patterns of one key.
pub const MAX_NAME_CHARS: usize = 260;
pub const MAX_PLACES: usize = 100;

/// How long a key is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For that long.
    Ends(Duration),
    /// Until it is revoked.
    Never,
}

/// A key whose place another takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its number.
    pub key: i64,
    /// For how long it is still good; `None` to leave its end as it is.
    pub overlap: Option<Duration>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct WantedKey {
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// How long it is good.
    pub lifetime: Lifetime,
    /// The key whose place it takes, whose caller it then counts as.
    pub replaces: Option<Replaced>,
}

/// A key that was made.
#[derive(Debug)]
pub struct MadeKey {
    /// Its number.
    pub key: i64,
    /// Its text, which is nowhere kept.
    pub secret: String,
    /// When it ends.
    pub ends_at: Option<DateTime<Utc>>,
    /// When the one ends whose place it takes, where that was asked for.
    pub replaced_ends_at: Option<DateTime<Utc>>,
}

/// On whose behalf, as the audit trail has it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Their name.
    pub identity: Arc<str>,
    /// The id of the request.
    pub operation_id: Arc<str>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The key that is wanted makes no sense.
    #[error("{0}")]
    Wanted(String),
    /// The system gives no random numbers.
    #[error("no secret can be made: the system gives no random numbers")]
    NoSecret,
    /// There is no such key to be revoked, or to be replaced.
    #[error("there is no key {0} there, or it was revoked already")]
    NoSuchKey(i64),
    /// The tenant has as many as it may.
    #[error("tenant '{0}' has {MAX_KEYS_OF_TENANT} valid keys, which is its limit")]
    TooMany(String),
    /// They may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a tenant, or of all, in the hands of somebody who may make and revoke them.
pub struct Keys<'a> {
    store: &'a Store,
    issuer: Issuer,
    tenant: Option<&'a str>,
}

impl WantedKey {
    /// What is wrong with it, if anything.
    fn fault(&self) -> Option<String> {
        let Grant { tenant, namespaces, groups, .. } = &self.grant;
        let namespaces = || namespaces.iter().flatten();
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return Some("the name is empty or holds a control character".to_owned());
        }
        if self.name.chars().count() > MAX_NAME_CHARS {
            return Some(format!("the name is longer than {MAX_NAME_CHARS} characters"));
        }
        if namespaces().count().max(groups.iter().flatten().count()) > MAX_PLACES {
            return Some(format!("a key has at most {MAX_PLACES} namespaces, and as many patterns of groups"));
        }
        if let Some(fault) = self.grant.fault() {
            return Some(fault.to_owned());
        }
        if tenant != EVERY_TENANT
            && let Err(error) = TenantId::parse(tenant.as_str())
        {
            return Some(format!("the tenant is not valid: {error}"));
        }
        if let Some(error) = namespaces().find_map(|namespace| NamespaceId::parse(namespace.as_str()).err()) {
            return Some(format!("a namespace is not valid: {error}"));
        }
        match self.lifetime {
            Lifetime::Ends(lifetime) if lifetime.is_zero() || lifetime > LONGEST_LIFETIME => {
                Some("a key is good for more than nothing and at most 36500 days, or for ever".to_owned())
            }
            _ if self.replaces.and_then(|replaced| replaced.overlap) > Some(LONGEST_LIFETIME) => {
                Some("an overlap is at most 36500 days".to_owned())
            }
            _ => None,
        }
    }
}

impl<'a> Keys<'a> {
    /// Those of a tenant (`None`: of all). Whether keys are a way in, and whether the issuer is an
    /// admin there, is for the caller to have seen.
    pub fn of_tenant(store: &'a Store, issuer: Issuer, tenant: Option<&'a str>) -> Keys<'a> {
        Keys { store, issuer, tenant }
    }

    /// Makes a key. Where it is not known whether that was committed, it is an error: a second key
    /// would be nobody's.
    pub async fn create(self, wanted: WantedKey) -> Result<MadeKey, IssueError> {
        let Keys { store, issuer, tenant } = self;
        hand_on(&issuer.identity, tenant, &wanted.grant)?;
        if let Some(fault) = wanted.fault() {
            return Err(IssueError::Wanted(fault));
        }
        let (secret, key_hash) = generate().map_err(|_| IssueError::NoSecret)?;
        let WantedKey { name, grant, lifetime, replaces } = wanted;
        let patterns = |groups: Vec<GroupPattern>| groups.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        let key = NewKey {
            key_hash,
            name,
            tenant_id: grant.tenant,
            namespaces: grant.namespaces,
            groups: grant.groups.map(patterns),
            role: grant.grade.text(),
            valid_for_s: match lifetime {
                Lifetime::Ends(lifetime) => Some(lifetime.as_secs_f64()),
                Lifetime::Never => None,
            },
            replaces: replaces.map(|replaced| replaced.key),
        };
        let (key, issuer) = (&key, &issuer);
        let made = store.serializable("create_key", LostCommit::Report, |connection, _| {
            Box::pin(async move {
                if stored::has_keys(connection, &key.tenant_id, MAX_KEYS_OF_TENANT).await? {
                    return Err(Stop::Refused(IssueError::TooMany(key.tenant_id.clone())));
                }
                let Some((number, ends_at)) = stored::insert_key(connection, key).await? else {
                    return Err(Stop::Refused(IssueError::NoSuchKey(key.replaces.unwrap_or_default())));
                };
                let replaced_ends_at = match replaces {
                    Some(Replaced { key, overlap: Some(overlap) }) => {
                        stored::end_key(connection, key, overlap.as_secs_f64()).await?
                    }
                    _ => None,
                };
                let replaced_end = replaced_ends_at.map(|at| at.to_rfc3339());
                let after = json!({
                    "Key": number, "Name": key.name, "Namespaces": key.namespaces, "Groups": key.groups, "Role": key.role,
                    "ValidForSeconds": key.valid_for_s, "Replaces": key.replaces, "ReplacedEndsAt": replaced_end,
                });
                record(connection, issuer, Action::KeyCreated, &key.tenant_id, None, Some(after)).await?;
                Ok((number, ends_at, replaced_ends_at))
            })
        });
        let (key, ends_at, replaced_ends_at) = made.await?;
        Ok(MadeKey { key, secret, ends_at, replaced_ends_at })
    }

    /// Some of the keys, also those that are not valid any more, and how many there are.
    pub async fn list(&self, skip: i64, count: Option<i64>) -> Result<(Vec<ListedKey>, i64), StoreError> {
        let Keys { store, tenant, .. } = *self;
        let listed = store.read("list_keys", |connection, _| {
            Box::pin(async move {
                let total = stored::count_keys(connection, tenant).await?;
                Ok((stored::list_keys(connection, tenant, skip, count).await?, total))
            })
        });
        listed.await
    }

    /// Revokes one of the keys; its name.
    pub async fn revoke(&self, key: i64) -> Result<String, IssueError> {
        let Keys { store, ref issuer, tenant } = *self;
        let revoked = store.serializable("revoke_key", LostCommit::Report, |connection, _| {
            Box::pin(async move {
                let Some((name, tenant)) = stored::revoke_key(connection, tenant, key).await? else {
                    return Err(Stop::Refused(IssueError::NoSuchKey(key)));
                };
                let before = json!({"Key": key, "Name": name});
                record(connection, issuer, Action::KeyRevoked, &tenant, Some(before), None).await?;
                Ok(name)
            })
        });
        revoked.await
    }
}

async fn record(
    connection: &mut crate::store::connection::Connection,
    issuer: &Issuer,
    action: Action,
    tenant: &str,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Result<(), crate::store::WorkError> {
    let entry = Entry {
        action,
        tenant,
        namespace: None,
        group: None,
        session: None,
        identity: &issuer.identity,
        operation_id: &issuer.operation_id,
        claimed_trace_id: None,
        before,
        after,
    };
    audit::record(connection, entry).await
}
