//! The audit trail: who changed what, written in the transaction that changed it.

use super::WorkError;
use super::connection::Connection;
use super::state::check_count;

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
    /// The request's id.
    pub operation_id: &'a str,
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
            (action, tenant_id, namespace_id, group_id, session_id, identity, operation_id, before, after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb)",
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
    .execute(connection)
    .await?
    .rows_affected();
    check_count("audit_log", 1, written)
}
