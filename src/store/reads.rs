//! What `GET` shows: groups with their sessions, and the roles that are true at the moment of
//! reading.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::clock::{instant, moment, moment_columns, read_clock};
use super::configuration::{AdditionalData, GroupConfiguration, timeout_of};
use super::connection::ReadConnection;
use super::error::WorkError;
use super::options::StoreOptions;
use super::rows::row;
use super::wish_names::wished;
use crate::arbitration::{Lease, Role, Wished, true_now};
use crate::ids::{Groups, NamespacePath};

/// A group as it is shown.
#[derive(Debug)]
pub struct GroupView {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub configuration: GroupConfiguration,
    /// Its sessions, by id.
    pub sessions: Vec<SessionView>,
}

/// A session as it is shown.
#[derive(Debug)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// The role that is true now: Secondary once the lease has run out, whether or not a sweep has
    /// come by.
    pub role: Role,
    /// Its latest heartbeat as reported.
    pub heartbeat: Option<HeartbeatView>,
    /// What its client keeps with it.
    pub additional_data: Option<AdditionalData>,
    /// What an operator wishes of it now.
    pub wish: Option<Wished>,
}

/// A heartbeat as it was reported.
#[derive(Debug)]
pub struct HeartbeatView {
    /// Per cent of healthy streams.
    pub percent_healthy_streams: Decimal,
    /// When the client sent it, by its own clock.
    pub heartbeat_time: DateTime<Utc>,
    /// The time of the last data it sent.
    pub last_data_send_time: Option<DateTime<Utc>>,
}

/// How many such groups a namespace has.
pub async fn count_groups(
    connection: &mut ReadConnection,
    namespace: &NamespacePath,
    groups: &Groups,
) -> Result<i64, WorkError> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM groups
         WHERE hashtextextended(tenant_id || '/' || namespace_id, 0) = hashtextextended($1 || '/' || $2, 0)
             AND tenant_id = $1 AND namespace_id = $2 AND ($3::text[] IS NULL OR group_id LIKE ANY($3))",
    )
    .bind(namespace.tenant.as_str())
    .bind(namespace.namespace.as_str())
    .bind(groups.as_likes())
    .fetch_one(connection)
    .await?)
}

/// A group in a list, and how many sessions it has.
#[derive(Debug, sqlx::FromRow)]
pub struct Listed {
    /// Its key.
    pub group_key: Uuid,
    /// Its id.
    pub group_id: String,
    /// How many sessions it has.
    pub sessions: i64,
}

/// Such groups after an id, in order of id, the first `skip` left out.
pub async fn find_keys(
    connection: &mut ReadConnection,
    namespace: &NamespacePath,
    groups: &Groups,
    after_id: &str,
    skip: i64,
    limit: i64,
) -> Result<Vec<Listed>, WorkError> {
    Ok(sqlx::query_as(
        "SELECT group_key, group_id, (SELECT count(*) FROM sessions s WHERE s.group_key = groups.group_key) AS sessions
         FROM groups
         WHERE hashtextextended(tenant_id || '/' || namespace_id, 0) = hashtextextended($1 || '/' || $2, 0)
             AND tenant_id = $1 AND namespace_id = $2 AND group_id > $3
             AND ($6::text[] IS NULL OR group_id LIKE ANY($6))
         ORDER BY group_id OFFSET $4 LIMIT $5",
    )
    .bind(namespace.tenant.as_str())
    .bind(namespace.namespace.as_str())
    .bind(after_id)
    .bind(skip)
    .bind(limit)
    .bind(groups.as_likes())
    .fetch_all(connection)
    .await?)
}

row! {
    /// A session with its group and its latest heartbeat; a group without sessions has one as well.
    struct ViewRow, view_columns! {
        group_id: &'r str = "g.group_id",
        group_name: Option<String> = "g.name",
        description: Option<String> = "g.description",
        failover_timeout_ticks: i64 = "g.failover_timeout_ticks",
        // With the first of the group's rows alone: it may be long.
        group_data: Option<String> = "CASE WHEN g.additional_data IS NOT NULL AND NOT EXISTS (
            SELECT FROM sessions e WHERE e.group_key = g.group_key AND e.session_id < s.session_id)
            THEN g.additional_data::text END",
        session_id: Option<String> = "s.session_id",
        session_name: Option<String> = "s.name",
        session_data: Option<String> = "s.additional_data::text",
        role: i16 = "s.role",
        percent_healthy_streams: Option<Decimal> = "h.percent_healthy_streams",
        heartbeat_time: DateTime<Utc> = "h.heartbeat_time",
        last_data_send_time: Option<DateTime<Utc>> = "h.last_data_send_time",
        received_at: Option<DateTime<Utc>> = "h.received_at",
        lease_until: DateTime<Utc> = "h.lease_until",
        wish: Option<&'r str> = "w.wish",
        when_silent: Option<&'r str> = "w.when_silent",
        wished_until: Option<DateTime<Utc>> = "w.wished_until",
    }
}

/// These groups with their sessions, in order of id; one that is gone is left out.
pub async fn read_groups(
    connection: &mut ReadConnection,
    keys: &[Uuid],
    options: &StoreOptions,
) -> Result<Vec<GroupView>, WorkError> {
    const READ: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$2"),
        ")
        SELECT ",
        view_columns!(),
        ", ",
        moment_columns!(),
        "
        FROM moment m
        CROSS JOIN groups g
        LEFT JOIN sessions s ON s.group_key = g.group_key
        LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        LEFT JOIN session_wishes w ON w.group_key = s.group_key AND w.session_id = s.session_id
            AND (w.wished_until IS NULL OR w.wished_until > m.now)
        WHERE g.group_key = ANY($1)
        ORDER BY g.group_id, s.session_id"
    );
    let witness = connection.call_witness();
    let rows = sqlx::query(READ).bind(keys).bind(witness.asks()).fetch_all(connection).await?;
    let mut groups: Vec<GroupView> = Vec::with_capacity(keys.len());
    let Some(first) = rows.first() else { return Ok(groups) };
    let clock = read_clock(first, &witness, options)?;
    let at = clock.moment();
    for row in rows.iter().map(ViewRow::of) {
        let id = row.group_id()?;
        if groups.last().is_none_or(|group| group.id != id) {
            let configuration = GroupConfiguration {
                name: row.group_name()?,
                description: row.description()?,
                timeout: timeout_of(row.failover_timeout_ticks()?)?,
                additional_data: AdditionalData::stored(row.group_data()?),
            };
            groups.push(GroupView { id: id.to_owned(), configuration, sessions: Vec::new() });
        }
        let (Some(group), Some(session)) = (groups.last_mut(), row.session_id()?) else { continue };
        let stored = Role::from_number(row.role()?)
            .ok_or_else(|| WorkError::Inconsistent(format!("role of session '{session}'")))?;
        group.sessions.push(SessionView {
            name: row.session_name()?,
            role: true_now(stored, read_lease(row)?, at).role,
            heartbeat: read_heartbeat(row)?,
            additional_data: AdditionalData::stored(row.session_data()?),
            wish: wished(row.wish()?, row.when_silent()?, row.wished_until()?),
            id: session,
        });
    }
    Ok(groups)
}

/// The lease that the session's latest heartbeat gave; `None` before its first.
fn read_lease(row: ViewRow<'_>) -> Result<Option<Lease>, sqlx::Error> {
    let Some(received_at) = row.received_at()? else { return Ok(None) };
    Ok(Some(Lease { received_at: instant(received_at), until: instant(row.lease_until()?) }))
}

fn read_heartbeat(row: ViewRow<'_>) -> Result<Option<HeartbeatView>, sqlx::Error> {
    let Some(percent_healthy_streams) = row.percent_healthy_streams()? else { return Ok(None) };
    Ok(Some(HeartbeatView {
        percent_healthy_streams,
        heartbeat_time: row.heartbeat_time()?,
        last_data_send_time: row.last_data_send_time()?,
    }))
}
