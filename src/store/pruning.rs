//! What is kept for a time, and deleted after it. By id and not by time: ids rise with time, and
//! their index gives the oldest without a search.

use std::time::Duration;

use super::connection::Connection;
use super::error::WorkError;

/// One of the two tables that events are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTable {
    /// Changes of roles.
    RoleTransitions,
    /// Changes of configuration.
    ConfigurationChanges,
}

/// What one step of pruning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows it deleted.
    pub rows: i64,
    /// The highest id it deleted: where the next step begins.
    pub last_id: i64,
}

/// Of the `limit` oldest events of a table with `after < id`, deletes those that are older than the
/// retention. One statement and its own transaction; nothing is deleted while another replica is at
/// it.
pub async fn prune_events(
    connection: &mut Connection,
    table: EventTable,
    retention: Duration,
    after: i64,
    limit: i64,
) -> Result<Pruned, WorkError> {
    // By id and not by time: ids rise with time, and their index gives the oldest without a search.
    macro_rules! prune {
        ($table:literal, $id:literal) => {
            concat!(
                "WITH turn AS MATERIALIZED (
                    SELECT pg_try_advisory_xact_lock(hashtextextended('client-failover pruning', 0)) AS is_ours
                ), oldest AS MATERIALIZED (
                    SELECT group_key, ",
                $id,
                " AS id, recorded_at FROM ",
                $table,
                " WHERE (SELECT is_ours FROM turn) AND ",
                $id,
                " > $2 ORDER BY ",
                $id,
                " LIMIT $3
                ), deleted AS (
                    DELETE FROM ",
                $table,
                " t USING oldest o
                    WHERE t.group_key = o.group_key AND t.",
                $id,
                " = o.id AND o.recorded_at < statement_timestamp() - make_interval(secs => $1)
                    RETURNING o.id
                )
                SELECT count(*), coalesce(max(id), $2) FROM deleted"
            )
        };
    }
    let statement = match table {
        EventTable::RoleTransitions => prune!("role_transitions", "transition_id"),
        EventTable::ConfigurationChanges => prune!("configuration_changes", "change_id"),
    };
    let (rows, last_id): (i64, i64) =
        sqlx::query_as(statement).bind(retention.as_secs_f64()).bind(after).bind(limit).fetch_one(connection).await?;
    Ok(Pruned { rows, last_id })
}

/// Of the `limit` oldest entries with `after < id`, deletes those that are older than the
/// retention. One statement and its own transaction; nothing is deleted while another replica is at
/// it.
pub async fn prune_audit(
    connection: &mut Connection,
    retention: Duration,
    after: i64,
    limit: i64,
) -> Result<Pruned, WorkError> {
    // By id and not by time: ids rise with time, and their index gives the oldest without a search.
    const PRUNE: &str = "
        WITH turn AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock(hashtextextended('client-failover pruning', 0)) AS is_ours
        ), oldest AS MATERIALIZED (
            SELECT audit_id, recorded_at FROM audit_log
            WHERE (SELECT is_ours FROM turn) AND audit_id > $2 ORDER BY audit_id LIMIT $3
        ), deleted AS (
            DELETE FROM audit_log a USING oldest o
            WHERE a.audit_id = o.audit_id AND o.recorded_at < clock_timestamp() - make_interval(secs => $1)
            RETURNING o.audit_id
        )
        SELECT count(*), coalesce(max(audit_id), $2) FROM deleted";
    let (rows, last_id): (i64, i64) =
        sqlx::query_as(PRUNE).bind(retention.as_secs_f64()).bind(after).bind(limit).fetch_one(connection).await?;
    Ok(Pruned { rows, last_id })
}
