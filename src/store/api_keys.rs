//! Rows of API keys. Their secrets are not here: a hash is all that is kept.

use chrono::{DateTime, Utc};

use super::connection::Connection;
use super::{Store, StoreError, WorkError};

/// A key that may be used, as it is stored.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// Its number.
    pub key_id: i64,
    /// The number of the caller that it stands for: its own, or that of the first of the keys that took each other's place.
    pub identity_id: i64,
    /// The name of that one.
    pub identity_name: String,
    /// SHA-256 of its text.
    pub key_hash: Vec<u8>,
    /// The tenant; `*` for all.
    pub tenant_id: String,
    /// The namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Its role.
    pub role: String,
    /// For how many seconds more; `None` for ever.
    pub valid_for_s: Option<f64>,
}

/// What is listed of a key.
#[derive(Debug, sqlx::FromRow)]
pub struct ListedKey {
    /// Its number.
    pub key_id: i64,
    /// A name for people.
    pub name: String,
    /// The tenant; `*` for all.
    pub tenant_id: String,
    /// The namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Its role.
    pub role: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Whether it may be used now.
    pub valid: bool,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// SHA-256 of its text.
    pub key_hash: [u8; 32],
    /// A name for people.
    pub name: String,
    /// The tenant; `*` for all.
    pub tenant_id: String,
    /// The namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Its role.
    pub role: &'static str,
    /// For how many seconds; `None` for ever.
    pub valid_for_s: Option<f64>,
    /// The key whose place it takes.
    pub replaces: Option<i64>,
}

/// A number that rises with every change of what keys there are.
pub async fn find_revision(store: &Store) -> Result<i64, StoreError> {
    store
        .read("find_key_revision", |connection| {
            Box::pin(async move {
                Ok(sqlx::query_scalar("SELECT revision FROM api_key_changes").fetch_one(connection).await?)
            })
        })
        .await
}

/// All keys that may be used.
pub async fn find_valid(store: &Store) -> Result<Vec<StoredKey>, StoreError> {
    store
        .read("find_keys_in_use", |connection| {
            Box::pin(async move {
                Ok(sqlx::query_as(
                    "SELECT k.key_id, COALESCE(k.identity_id, k.key_id) AS identity_id, COALESCE(first.name, k.name) AS identity_name,
                        k.key_hash, k.tenant_id, k.namespaces, k.role,
                        extract(epoch FROM k.expires_at - clock_timestamp())::float8 AS valid_for_s
                     FROM api_keys k LEFT JOIN api_keys first ON first.key_id = k.identity_id
                     WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())",
                )
                .fetch_all(connection)
                .await?)
            })
        })
        .await
}

/// Notes that these keys were used, to the minute.
pub async fn note_use(store: &Store, keys: Vec<i64>) -> Result<(), StoreError> {
    let keys = std::sync::Arc::new(keys);
    store
        .read("note_key_use", move |connection| {
            let keys = keys.clone();
            Box::pin(async move {
                sqlx::query(
                    "UPDATE api_keys SET last_used_at = clock_timestamp()
                     WHERE key_id = ANY($1)
                         AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')",
                )
                .bind(&*keys)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
}

/// A new key; its number. `None` where it is to take the place of one that its tenant does not have.
pub async fn insert_key(connection: &mut Connection, key: &NewKey) -> Result<Option<i64>, WorkError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO api_keys (key_hash, name, tenant_id, namespaces, role, expires_at, identity_id)
         SELECT $1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6),
             (SELECT COALESCE(identity_id, key_id) FROM api_keys WHERE key_id = $7)
         WHERE $7 IS NULL OR EXISTS (SELECT FROM api_keys WHERE key_id = $7 AND tenant_id = $3)
         RETURNING key_id",
    )
    .bind(key.key_hash.as_slice())
    .bind(&key.name)
    .bind(&key.tenant_id)
    .bind(&key.namespaces)
    .bind(key.role)
    .bind(key.valid_for_s)
    .bind(key.replaces)
    .fetch_optional(connection)
    .await?)
}

/// Revokes a key that was not revoked before; its name and tenant, if there is such a key.
pub async fn revoke_key(connection: &mut Connection, key_id: i64) -> Result<Option<(String, String)>, WorkError> {
    Ok(sqlx::query_as(
        "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE key_id = $1 AND revoked_at IS NULL
         RETURNING name, tenant_id",
    )
    .bind(key_id)
    .fetch_optional(connection)
    .await?)
}

/// All keys, also those that are not valid any more, in order of their numbers.
pub async fn list_keys(connection: &mut Connection) -> Result<Vec<ListedKey>, WorkError> {
    Ok(sqlx::query_as(
        "SELECT key_id, name, tenant_id, namespaces, role, created_at, expires_at, last_used_at, revoked_at,
            revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS valid
         FROM api_keys ORDER BY key_id",
    )
    .fetch_all(connection)
    .await?)
}
