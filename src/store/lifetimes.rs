//! When a group of a path existed: read from the changes of configuration, which outlive it, and
//! the audit trail.

use chrono::{DateTime, Utc};

use super::connection::ReadConnection;
use super::error::WorkError;
use super::rows::row;
use crate::ids::GroupKey;

/// The most changes that are looked at: a group is not created and deleted that often.
const MAX_TURNS: i64 = 400;

/// From when to when a group of a path existed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Its creation, as far as that is still kept.
    pub created: Option<Edge>,
    /// Its deletion, if it was deleted.
    pub deleted: Option<Edge>,
}

/// A creation or a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// When.
    pub at: DateTime<Utc>,
    /// Who, as the audit trail has it.
    pub identity: Option<String>,
}

row! {
    /// A creation or a deletion, or that the group exists.
    struct TurnRow, turn_columns! {
        turn: &'r str = "turn",
        at: DateTime<Utc> = "at",
        identity: Option<String> = "identity",
    }
}

/// The lifetimes of the groups that had this key, the latest first.
pub async fn read_lifetimes(connection: &mut ReadConnection, key: GroupKey) -> Result<Vec<Lifetime>, WorkError> {
    // Both rows of a change are written in one transaction, so their times are close, and few
    // blocks of the audit trail are looked through. The group as it is now comes last: it may be
    // older than what is kept.
    const READ: &str = concat!(
        "SELECT ",
        turn_columns!(),
        " FROM (
            SELECT c.change_id AS place, c.kind AS turn, c.recorded_at AS at, a.identity
            FROM (
                SELECT * FROM configuration_changes
                WHERE group_key = $1 AND kind IN ('group_created', 'group_deleted') ORDER BY change_id DESC LIMIT $2
            ) c
            LEFT JOIN LATERAL (
                SELECT identity FROM audit_log a
                WHERE a.recorded_at BETWEEN c.recorded_at - interval '10 s' AND c.recorded_at + interval '10 s'
                    AND a.tenant_id = c.tenant_id AND a.namespace_id = c.namespace_id AND a.group_id = c.group_id
                    AND a.action IN (c.kind, c.kind || '_by_force')
                ORDER BY abs(extract(epoch FROM a.recorded_at - c.recorded_at)) LIMIT 1
            ) a ON true
            UNION ALL
            SELECT 9223372036854775807, 'exists', created_at, NULL FROM groups WHERE group_key = $1
        ) turns ORDER BY place"
    );
    let rows = sqlx::query(READ).bind(key.0).bind(MAX_TURNS).fetch_all(connection).await?;
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    for row in rows.iter().map(TurnRow::of) {
        let turn = Edge { at: row.at()?, identity: row.identity()? };
        let open = lifetimes.last_mut().filter(|lifetime| lifetime.deleted.is_none());
        match (row.turn()?, open) {
            ("group_created", _) => lifetimes.push(Lifetime { created: Some(turn), deleted: None }),
            ("group_deleted", Some(open)) => open.deleted = Some(turn),
            ("group_deleted", None) => lifetimes.push(Lifetime { created: None, deleted: Some(turn) }),
            (_, Some(_)) => {}
            (_, None) => lifetimes.push(Lifetime { created: Some(turn), deleted: None }),
        }
    }
    lifetimes.reverse();
    Ok(lifetimes)
}
