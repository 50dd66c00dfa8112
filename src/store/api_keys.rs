//! Rows of API keys. Their secrets are not here: a hash is all that is kept.

use chrono::{DateTime, Utc};

use super::connection::{Connection, ReadConnection};
use super::{Store, StoreError, WorkError};

/// A key that may be used, as it is stored.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// Its number.
    pub key_id: i64,
    /// The number of the caller that it stands for: its own, or that of the first of the keys that
    /// took each other's place.
    pub identity_id: i64,
    /// The name of that one.
    pub identity_name: String,
    /// SHA-256 of its text.
    pub key_hash: Vec<u8>,
    /// The tenant; `*` for all.
    pub tenant_id: String,
    /// The namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Patterns of the groups; `None` for all.
    pub groups: Option<Vec<String>>,
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
    /// Patterns of the groups; `None` for all.
    pub groups: Option<Vec<String>>,
    /// Its role.
    pub role: String,
    /// The number of the key as whose caller it counts; `None` for its own.
    pub identity_id: Option<i64>,
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
    /// For how many seconds more; `None` for ever.
    pub valid_for_s: Option<f64>,
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
    /// Patterns of the groups; `None` for all.
    pub groups: Option<Vec<String>>,
    /// Its role.
    pub role: &'static str,
    /// For how many seconds; `None` for ever.
    pub valid_for_s: Option<f64>,
    /// The key whose place it takes.
    pub replaces: Option<i64>,
}

// The role of a key for some groups is stored under a name that a replica of a version without such
// keys does not know.
macro_rules! role_column {
    () => {
        "CASE WHEN k.groups IS NULL THEN k.role ELSE substr(k.role, 7) END AS role"
    };
}

macro_rules! is_valid {
    () => {
        "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())"
    };
}

/// A number that rises with every change of what keys there are.
pub async fn find_revision(store: &Store) -> Result<i64, StoreError> {
    store
        .read("find_key_revision", |connection, _| {
            Box::pin(async move {
                Ok(sqlx::query_scalar("SELECT revision FROM api_key_changes").fetch_one(connection).await?)
            })
        })
        .await
}

/// All keys that may be used.
pub async fn find_valid(store: &Store) -> Result<Vec<StoredKey>, StoreError> {
    store
        .read("find_keys_in_use", |connection, _| {
            Box::pin(async move {
                Ok(sqlx::query_as(concat!(
                    "SELECT k.key_id, COALESCE(k.identity_id, k.key_id) AS identity_id, COALESCE(first.name, k.name) AS identity_name,
                        k.key_hash, k.tenant_id, k.namespaces, k.groups, ",
                    role_column!(),
                    ", extract(epoch FROM k.expires_at - clock_timestamp())::float8 AS valid_for_s
                     FROM api_keys k LEFT JOIN api_keys first ON first.key_id = k.identity_id
                     WHERE ",
                    is_valid!()
                ))
                .fetch_all(connection)
                .await?)
            })
        })
        .await
}

/// Notes that these keys were used, to the minute.
pub async fn note_use(store: &Store, keys: &[i64]) -> Result<(), StoreError> {
    store
        .autocommit("note_key_use", |connection, _| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE api_keys SET last_used_at = clock_timestamp()
                     WHERE key_id = ANY($1)
                         AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')",
                )
                .bind(keys)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
}

/// Whether a tenant has so many valid keys or more.
pub async fn has_keys(connection: &mut ReadConnection, tenant: &str, count: i64) -> Result<bool, WorkError> {
    let found: i64 = sqlx::query_scalar(concat!(
        "SELECT count(*) FROM (SELECT FROM api_keys k WHERE k.tenant_id = $1 AND ",
        is_valid!(),
        " LIMIT $2) some_of_them"
    ))
    .bind(tenant)
    .bind(count)
    .fetch_one(connection)
    .await?;
    Ok(found >= count)
}

/// A new key; its number, and when it ends. `None` where it is to take the place of one that its
/// tenant does not have.
pub async fn insert_key(
    connection: &mut Connection,
    key: &NewKey,
) -> Result<Option<(i64, Option<DateTime<Utc>>)>, WorkError> {
    Ok(sqlx::query_as(
        "INSERT INTO api_keys (key_hash, name, tenant_id, namespaces, role, expires_at, identity_id, groups)
         SELECT $1, $2, $3, $4, CASE WHEN $8::text[] IS NULL THEN $5 ELSE 'group-' || $5 END,
             clock_timestamp() + make_interval(secs => $6),
             (SELECT COALESCE(identity_id, key_id) FROM api_keys WHERE key_id = $7), $8
         WHERE $7 IS NULL OR EXISTS (SELECT FROM api_keys WHERE key_id = $7 AND tenant_id = $3)
         RETURNING key_id, expires_at",
    )
    .bind(key.key_hash.as_slice())
    .bind(&key.name)
    .bind(&key.tenant_id)
    .bind(&key.namespaces)
    .bind(key.role)
    .bind(key.valid_for_s)
    .bind(key.replaces)
    .bind(&key.groups)
    .fetch_optional(connection)
    .await?)
}

/// Lets a key end in so many seconds, unless it does before; when it ends, if it is there.
pub async fn end_key(
    connection: &mut Connection,
    key_id: i64,
    in_seconds: f64,
) -> Result<Option<DateTime<Utc>>, WorkError> {
    Ok(sqlx::query_scalar(
        "UPDATE api_keys SET expires_at = LEAST(expires_at, clock_timestamp() + make_interval(secs => $2))
         WHERE key_id = $1 RETURNING expires_at",
    )
    .bind(key_id)
    .bind(in_seconds)
    .fetch_optional(connection)
    .await?)
}

/// Revokes a key of that tenant (`None`: of any) that was not revoked before; its name and tenant,
/// if there is such a key.
pub async fn revoke_key(
    connection: &mut Connection,
    tenant: Option<&str>,
    key_id: i64,
) -> Result<Option<(String, String)>, WorkError> {
    Ok(sqlx::query_as(
        "UPDATE api_keys SET revoked_at = clock_timestamp()
         WHERE key_id = $1 AND revoked_at IS NULL AND ($2::text IS NULL OR tenant_id = $2)
         RETURNING name, tenant_id",
    )
    .bind(key_id)
    .bind(tenant)
    .fetch_optional(connection)
    .await?)
}

/// How many keys a tenant has (`None`: all of them), also those that are not valid any more.
pub async fn count_keys(connection: &mut ReadConnection, tenant: Option<&str>) -> Result<i64, WorkError> {
    let count = "SELECT count(*) FROM api_keys WHERE $1::text IS NULL OR tenant_id = $1";
    Ok(sqlx::query_scalar(count).bind(tenant).fetch_one(connection).await?)
}

/// The keys of a tenant (`None`: of all), also those that are not valid any more, in order of their
/// numbers.
pub async fn list_keys(
    connection: &mut ReadConnection,
    tenant: Option<&str>,
    skip: i64,
    count: Option<i64>,
) -> Result<Vec<ListedKey>, WorkError> {
    Ok(sqlx::query_as(concat!(
        "SELECT k.key_id, k.name, k.tenant_id, k.namespaces, k.groups, ",
        role_column!(),
        ", k.identity_id, k.created_at, k.expires_at, k.last_used_at, k.revoked_at, ",
        is_valid!(),
        " AS valid, extract(epoch FROM k.expires_at - clock_timestamp())::float8 AS valid_for_s
         FROM api_keys k WHERE $1::text IS NULL OR k.tenant_id = $1 ORDER BY k.key_id OFFSET $2 LIMIT $3"
    ))
    .bind(tenant)
    .bind(skip)
    .bind(count)
    .fetch_all(connection)
    .await?)
}
