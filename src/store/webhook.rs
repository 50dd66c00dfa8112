//! Who tells the receiver of a webhook what happens, and how far that has come.
//!
//! A replica sends for as long as the row says so, by the database's clock, and moves that on; when
//! it is gone, another takes it over. No lock is held while the receiver is waited for: that would
//! keep the database from clearing up after heartbeats.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::connection::{Connection, ReadConnection};
use super::error::WorkError;

/// This replica is the one that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Held {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// Every event up to this id has been told, or is not to be.
    pub told_to: i64,
    /// Whether nobody has sent for so long that what happened meanwhile is not told any more.
    pub is_new: bool,
}

/// Becomes the one that sends for so long, or stays it; nothing where another is. One that finds
/// that nobody has sent for longer than `forgotten_after` begins after what there is.
pub async fn hold(
    connection: &mut Connection,
    sender: Uuid,
    hold_for: Duration,
    forgotten_after: Duration,
) -> Result<Option<Held>, WorkError> {
    // One that holds on for longer than anybody does was left so by a clock that was set back.
    const HOLD: &str = "
        WITH before AS MATERIALIZED (
            SELECT sends_until < clock_timestamp() - make_interval(secs => $3) AS is_forgotten FROM webhook_sender
        ), newest AS MATERIALIZED (
            SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM role_transitions_transition_id_seq
        )
        INSERT INTO webhook_sender AS w (sender, sends_until, told_to)
        SELECT $1, clock_timestamp() + make_interval(secs => $2), id FROM newest
        ON CONFLICT (is_it) DO UPDATE SET sender = excluded.sender, sends_until = excluded.sends_until,
            told_to = CASE WHEN (SELECT is_forgotten FROM before) THEN excluded.told_to ELSE w.told_to END
        WHERE w.sender = $1 OR w.sends_until < clock_timestamp()
            OR w.sends_until > clock_timestamp() + make_interval(secs => 2 * $2)
        RETURNING clock_timestamp() AS now, told_to, coalesce((SELECT is_forgotten FROM before), true) AS is_new";
    let hold = sqlx::query_as(HOLD).bind(sender).bind(hold_for.as_secs_f64()).bind(forgotten_after.as_secs_f64());
    Ok(hold.fetch_optional(connection).await?)
}

/// Notes how far it has come, where it still is the one that sends.
pub async fn note_told(connection: &mut Connection, sender: Uuid, told_to: i64) -> Result<(), WorkError> {
    const NOTE: &str = "UPDATE webhook_sender SET told_to = $2 WHERE sender = $1 AND told_to < $2";
    sqlx::query(NOTE).bind(sender).bind(told_to).execute(connection).await?;
    Ok(())
}

/// A risk that was seen at a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenRisk {
    /// The group's key.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// The group's id.
    pub group: String,
    /// Which risk.
    pub risk: &'static str,
}

/// Forgets every risk that was seen before.
pub async fn forget_risks(connection: &mut Connection) -> Result<(), WorkError> {
    sqlx::query("DELETE FROM webhook_risks").execute(connection).await?;
    Ok(())
}

/// Notes which risks there are now: those that are new begin, if they last already, and those that
/// are not among them any more end, if these are all.
pub async fn note_risks(
    connection: &mut Connection,
    seen: &[(SeenRisk, bool)],
    are_all: bool,
) -> Result<(), WorkError> {
    const NOTE: &str = "
        WITH seen AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
                AS s (of_group, tenant_id, namespace_id, group_id, risk, lasts)
        ), ended AS (
            UPDATE webhook_risks r SET ended_at = clock_timestamp()
            WHERE r.ended_at IS NULL AND $7
                AND NOT EXISTS (SELECT FROM seen s WHERE s.of_group = r.of_group AND s.risk = r.risk)
        )
        INSERT INTO webhook_risks (of_group, tenant_id, namespace_id, group_id, risk, began_at)
        SELECT of_group, tenant_id, namespace_id, group_id, risk, clock_timestamp() FROM seen WHERE lasts
        ON CONFLICT (of_group, risk) WHERE ended_at IS NULL DO NOTHING";
    let column = |of: fn(&SeenRisk) -> &str| seen.iter().map(|(risk, _)| of(risk)).collect::<Vec<&str>>();
    sqlx::query(NOTE)
        .bind(seen.iter().map(|(risk, _)| risk.key).collect::<Vec<_>>())
        .bind(column(|risk| &risk.tenant))
        .bind(column(|risk| &risk.namespace))
        .bind(column(|risk| &risk.group))
        .bind(column(|risk| risk.risk))
        .bind(seen.iter().map(|(_, lasts)| *lasts).collect::<Vec<_>>())
        .bind(are_all)
        .execute(connection)
        .await?;
    Ok(())
}

/// A risk of which something is to be told.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RiskToTell {
    /// The group's key.
    pub of_group: Uuid,
    /// What it is told by.
    pub risk_id: Uuid,
    /// The tenant.
    pub tenant_id: String,
    /// The namespace.
    pub namespace_id: String,
    /// The group's id.
    pub group_id: String,
    /// Which risk.
    pub risk: String,
    /// When it was seen.
    pub began_at: DateTime<Utc>,
    /// When it was seen to be over, if it was.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether its beginning was told.
    pub is_begin_told: bool,
}

/// Some of the risks of which something is to be told, the oldest first.
pub async fn read_risks_to_tell(connection: &mut ReadConnection, limit: i64) -> Result<Vec<RiskToTell>, WorkError> {
    const READ: &str = "
        SELECT of_group, risk_id, tenant_id, namespace_id, group_id, risk, began_at, ended_at, is_begin_told
        FROM webhook_risks WHERE ended_at IS NOT NULL OR NOT is_begin_told ORDER BY began_at, risk_id LIMIT $1";
    Ok(sqlx::query_as(READ).bind(limit).fetch_all(connection).await?)
}

/// Its beginning was told.
pub async fn note_begin_told(connection: &mut Connection, key: Uuid, risk_id: Uuid) -> Result<(), WorkError> {
    const NOTE: &str = "UPDATE webhook_risks SET is_begin_told = true WHERE of_group = $1 AND risk_id = $2";
    sqlx::query(NOTE).bind(key).bind(risk_id).execute(connection).await?;
    Ok(())
}

/// Its end was told.
pub async fn note_end_told(connection: &mut Connection, key: Uuid, risk_id: Uuid) -> Result<(), WorkError> {
    const NOTE: &str = "DELETE FROM webhook_risks WHERE of_group = $1 AND risk_id = $2";
    sqlx::query(NOTE).bind(key).bind(risk_id).execute(connection).await?;
    Ok(())
}
