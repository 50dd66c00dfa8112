//! The audit trail: who changed what, written in the transaction that changed it, and who was
//! refused what.

use chrono::{DateTime, Utc};

use super::connection::{Connection, ReadConnection};
use super::error::{WorkError, check_count};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A group was created.
    GroupCreated,
    /// A group's configuration was changed.
    GroupChanged,
    /// A group was deleted that no session was live in.
    GroupDeleted,
    /// A group was deleted in spite of live sessions.
    GroupDeletedByForce,
    /// A session was deleted that was live.
    LiveSessionDeleted,
    /// An API key was made.
    KeyCreated,
    /// An API key was revoked.
    KeyRevoked,
    /// A session was deleted whose client was silent: by the service after a long time, or by an
    /// operator.
    SilentSessionDeleted,
    /// A wish of a session was set.
    WishSet,
    /// A wish of a session ended.
    WishEnded,
    /// A known caller was refused.
    RequestRefused,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Action::GroupCreated => "group_created",
            Action::GroupChanged => "group_changed",
            Action::GroupDeleted => "group_deleted",
            Action::GroupDeletedByForce => "group_deleted_by_force",
            Action::LiveSessionDeleted => "live_session_deleted",
            Action::KeyCreated => "key_created",
            Action::KeyRevoked => "key_revoked",
            Action::SilentSessionDeleted => "silent_session_deleted",
            Action::WishSet => "wish_set",
            Action::WishEnded => "wish_ended",
            Action::RequestRefused => "request_refused",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// What was done.
    pub action: Action,
    /// The tenant.
    pub tenant: &'a str,
    /// The namespace.
    pub namespace: Option<&'a str>,
    /// The group.
    pub group: Option<&'a str>,
    /// The session.
    pub session: Option<&'a str>,
    /// Who did it.
    pub identity: &'a str,
    /// The request's id, which is ours.
    pub operation_id: &'a str,
    /// The trace that the caller says it belongs to.
    pub claimed_trace_id: Option<&'a str>,
    /// What was there before.
    pub before: Option<serde_json::Value>,
    /// What was there after.
    pub after: Option<serde_json::Value>,
}

/// Writes an entry.
pub async fn record(connection: &mut Connection, entry: Entry<'_>) -> Result<(), WorkError> {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map(serde_json::Value::to_string);
    let written = sqlx::query(
        "INSERT INTO audit_log
            (action, tenant_id, namespace_id, group_id, session_id, identity, operation_id, before, after,
             claimed_trace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb, $10)",
    )
    .bind(entry.action.text())
    .bind(entry.tenant)
    .bind(entry.namespace)
    .bind(entry.group)
    .bind(entry.session)
    .bind(entry.identity)
    .bind(entry.operation_id)
    .bind(text(&entry.before))
    .bind(text(&entry.after))
    .bind(entry.claimed_trace_id)
    .execute(connection)
    .await?
    .rows_affected();
    check_count("audit_log", 1, written)
}

/// Which entries are read.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Not before that.
    pub since: Option<DateTime<Utc>>,
    /// Before that.
    pub until: Option<DateTime<Utc>>,
    /// Of that tenant alone.
    pub tenant: Option<String>,
}

/// The entries after one, in their order, as many as a page holds: each with its number and, where
/// it is of the range, as a line of JSON. What is left out counts too, so that no page takes long,
/// however little of a large table is wanted.
pub async fn read_page(
    connection: &mut ReadConnection,
    range: &Range,
    after: i64,
    page_size: i64,
) -> Result<Vec<(i64, Option<String>)>, WorkError> {
    const READ: &str = r#"
        SELECT audit_id, CASE
            WHEN ($3::timestamptz IS NULL OR recorded_at >= $3) AND ($4::timestamptz IS NULL OR recorded_at < $4)
                AND ($5::text IS NULL OR tenant_id = $5)
            THEN json_build_object(
                'AuditId', audit_id, 'RecordedAt', to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'Action', action, 'TenantId', tenant_id, 'NamespaceId', namespace_id, 'GroupId', group_id,
                'SessionId', session_id, 'Identity', identity, 'OperationId', operation_id,
                'ClaimedTraceId', claimed_trace_id, 'Before', before, 'After', after)::text
            END
        FROM audit_log WHERE audit_id > $1 ORDER BY audit_id LIMIT $2"#;
    let page = sqlx::query_as(READ)
        .bind(after)
        .bind(page_size)
        .bind(range.since)
        .bind(range.until)
        .bind(&range.tenant)
        .fetch_all(connection)
        .await?;
    Ok(page)
}
