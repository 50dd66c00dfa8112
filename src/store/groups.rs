//! Rows of groups and sessions that come and go by request. Each function is a step of the caller's
//! transaction; one that changes something writes that down as well.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::clock::Clock;
use super::columns::Micros;
use super::configuration::timeout_of;
pub use super::configuration::{AdditionalData, GroupConfiguration};
use super::connection::{Connection, ReadConnection};
use super::error::{WorkError, check_count};
use super::events::{ConfigurationChange, Place, record_change, record_change_at};
use super::state::vacancy_text;
use crate::arbitration::{Group, Remains, Term};
use crate::ids::{GroupKey, GroupPath, SessionId, TenantId};

/// The configuration of a group, if it exists.
pub async fn find_configuration(
    connection: &mut ReadConnection,
    key: GroupKey,
) -> Result<Option<GroupConfiguration>, WorkError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        name: Option<String>,
        description: Option<String>,
        failover_timeout_ticks: i64,
        additional_data: Option<String>,
    }
    let row: Option<Row> = sqlx::query_as(
        "SELECT name, description, failover_timeout_ticks, additional_data::text FROM groups WHERE group_key = $1",
    )
    .bind(key.0)
    .fetch_optional(connection)
    .await?;
    row.map(|Row { name, description, failover_timeout_ticks, additional_data }| {
        Ok(GroupConfiguration {
            name,
            description,
            timeout: timeout_of(failover_timeout_ticks)?,
            additional_data: AdditionalData::stored(additional_data),
        })
    })
    .transpose()
}

/// A new group, which goes on from what the one before it at that path left behind.
pub async fn insert_group(
    connection: &mut Connection,
    path: &GroupPath,
    configuration: &GroupConfiguration,
    clock: &Clock,
) -> Result<(), WorkError> {
    let remains = find_remains(connection, path.key()).await?;
    let begins = Group::begin(configuration.timeout, remains, clock.moment());
    connection.life().note_term(begins.term.0);
    let written = sqlx::query(
        "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, name, description, failover_timeout_ticks,
             term, vacancy, handover_until, history_id, in_doubt_until, additional_data)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::json)",
    )
    .bind(path.key().0)
    .bind(path.parent.tenant.as_str())
    .bind(path.parent.namespace.as_str())
    .bind(path.group.as_str())
    .bind(&configuration.name)
    .bind(&configuration.description)
    .bind(configuration.timeout.ticks())
    .bind(begins.term.0)
    .bind(vacancy_text(begins.vacancy))
    .bind(begins.handover.map(|handover| Micros::from(handover.until)))
    .bind(begins.history.0)
    .bind(begins.in_doubt_until.map(Micros::from))
    .bind(configuration.additional_data.as_ref().map(AdditionalData::as_str))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    check_count("groups", 1, written)?;
    record_change(connection, path, ConfigurationChange::GroupCreated(configuration)).await
}

/// What the last group at a path left behind: nothing where there was none, or nobody was ever
/// Primary in it.
///
/// Its last change of a role, if that is still kept, knows the term as well: of a group that a
/// replica of an earlier version deleted, or a person at a prompt.
async fn find_remains(connection: &mut ReadConnection, key: GroupKey) -> Result<Remains, WorkError> {
    let (term, until): (Option<i64>, Option<Micros>) = sqlx::query_as(
        "SELECT greatest((SELECT last_term FROM former_groups WHERE group_key = $1),
             (SELECT term FROM role_transitions WHERE group_key = $1 ORDER BY transition_id DESC LIMIT 1)),
             (SELECT acted_on_until FROM former_groups WHERE group_key = $1)",
    )
    .bind(key.0)
    .fetch_one(connection)
    .await?;
    Ok(Remains { term: Term(term.unwrap_or(0)), acted_on_until: until.map(Into::into) })
}

/// Replaces the configuration of a group that exists.
pub async fn update_configuration(
    connection: &mut Connection,
    path: &GroupPath,
    configuration: &GroupConfiguration,
) -> Result<(), WorkError> {
    let written = sqlx::query(
        "UPDATE groups
         SET name = $2, description = $3, failover_timeout_ticks = $4, additional_data = $5::json,
             configured_at = statement_timestamp()
         WHERE group_key = $1",
    )
    .bind(path.key().0)
    .bind(&configuration.name)
    .bind(&configuration.description)
    .bind(configuration.timeout.ticks())
    .bind(configuration.additional_data.as_ref().map(AdditionalData::as_str))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    check_count("groups", 1, written)?;
    record_change(connection, path, ConfigurationChange::GroupChanged(configuration)).await
}

/// Deletes a group that exists, and its sessions with it. What it leaves behind is kept for good.
pub async fn delete_group(connection: &mut Connection, path: &GroupPath, remains: Remains) -> Result<(), WorkError> {
    if remains != Remains::default() {
        keep_remains(connection, path, remains).await?;
    }
    let written = sqlx::query("DELETE FROM groups WHERE group_key = $1")
        .bind(path.key().0)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    check_count("groups", 1, written)?;
    record_change(connection, path, ConfigurationChange::GroupDeleted).await
}

async fn keep_remains(connection: &mut Connection, path: &GroupPath, remains: Remains) -> Result<(), WorkError> {
    let written = sqlx::query(
        "INSERT INTO former_groups (group_key, tenant_id, namespace_id, group_id, last_term, acted_on_until)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (group_key) DO UPDATE
         SET last_term = greatest(former_groups.last_term, excluded.last_term),
             acted_on_until = greatest(former_groups.acted_on_until, excluded.acted_on_until),
             deleted_at = excluded.deleted_at",
    )
    .bind(path.key().0)
    .bind(path.parent.tenant.as_str())
    .bind(path.parent.namespace.as_str())
    .bind(path.group.as_str())
    .bind(remains.term.0)
    .bind(remains.acted_on_until.map(Micros::from))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    check_count("former_groups", 1, written)
}

/// What a session is registered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfiguration {
    /// A name for people.
    pub name: Option<String>,
    /// What its client keeps with it.
    pub additional_data: Option<AdditionalData>,
}

/// What a session is registered with, if it exists.
pub async fn find_session(
    connection: &mut ReadConnection,
    key: GroupKey,
    session: &SessionId,
) -> Result<Option<SessionConfiguration>, WorkError> {
    let row: Option<(Option<String>, Option<String>)> =
        sqlx::query_as("SELECT name, additional_data::text FROM sessions WHERE group_key = $1 AND session_id = $2")
            .bind(key.0)
            .bind(session.as_str())
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(name, data)| SessionConfiguration { name, additional_data: AdditionalData::stored(data) }))
}

/// Whether a session is there, and its group. By what the tables have had from the beginning: it is
/// asked where other statements fail.
pub async fn find_presence(
    connection: &mut ReadConnection,
    key: GroupKey,
    session: &SessionId,
) -> Result<Presence, WorkError> {
    const SESSION: &str = "SELECT 1 FROM sessions WHERE group_key = $1 AND session_id = $2";
    let found = sqlx::query(SESSION).bind(key.0).bind(session.as_str()).fetch_optional(&mut *connection).await?;
    if found.is_some() {
        return Ok(Presence::Both);
    }
    let found = sqlx::query("SELECT 1 FROM groups WHERE group_key = $1").bind(key.0).fetch_optional(connection).await?;
    Ok(if found.is_some() { Presence::GroupAlone } else { Presence::Neither })
}

/// What is there of a group and a session in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The group and the session.
    Both,
    /// The group.
    GroupAlone,
    /// Nothing.
    Neither,
}

/// How many sessions a group has.
pub async fn count_sessions(connection: &mut ReadConnection, key: GroupKey) -> Result<i64, WorkError> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM sessions WHERE group_key = $1")
        .bind(key.0)
        .fetch_one(connection)
        .await?)
}

/// How many sessions of a group have no lease that runs, outages left out of account.
pub async fn count_silent_sessions(connection: &mut ReadConnection, key: GroupKey) -> Result<i64, WorkError> {
    const COUNT: &str = "SELECT count(*) FROM sessions s
        LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        WHERE s.group_key = $1 AND (h.lease_until > clock_timestamp()) IS NOT TRUE";
    Ok(sqlx::query_scalar(COUNT).bind(key.0).fetch_one(connection).await?)
}

/// A new session: Secondary, without a lease.
pub async fn insert_session(
    connection: &mut Connection,
    path: &GroupPath,
    session: &SessionId,
    configuration: &SessionConfiguration,
    registered_by: &str,
) -> Result<(), WorkError> {
    let written = sqlx::query(
        "INSERT INTO sessions (group_key, session_id, name, registered_by, additional_data)
         VALUES ($1, $2, $3, $4, $5::json)",
    )
    .bind(path.key().0)
    .bind(session.as_str())
    .bind(&configuration.name)
    .bind(registered_by)
    .bind(configuration.additional_data.as_ref().map(AdditionalData::as_str))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    check_count("sessions", 1, written)?;
    let name = configuration.name.as_deref();
    record_change(connection, path, ConfigurationChange::SessionRegistered(session, name)).await
}

/// How many sessions each of these groups has, in their order; it is not counted further than to
/// `most`.
pub async fn count_some_sessions(
    connection: &mut ReadConnection,
    keys: &[Uuid],
    most: usize,
) -> Result<Vec<usize>, WorkError> {
    if connection.is_spread() {
        return count_sessions_spread(connection, keys).await;
    }
    let counts: Vec<i64> = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM (SELECT FROM sessions s WHERE s.group_key = k.group_key LIMIT $2) some_of_them)
         FROM unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, place) ORDER BY k.place",
    )
    .bind(keys)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    check_count("sessions", keys.len(), counts.len() as u64)?;
    Ok(counts.into_iter().map(|count| usize::try_from(count).unwrap_or(usize::MAX)).collect())
}

/// How many sessions a tenant has; they are not counted further than to `most`.
pub async fn count_tenant_sessions(
    connection: &mut ReadConnection,
    tenant: &TenantId,
    most: u32,
) -> Result<u64, WorkError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (
             SELECT 1 FROM groups g JOIN sessions s ON s.group_key = g.group_key WHERE g.tenant_id = $1 LIMIT $2
         ) some_of_them",
    )
    .bind(tenant.as_str())
    .bind(i64::from(most))
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
}

/// Whether a tenant has so many groups or more.
pub async fn has_groups(connection: &mut ReadConnection, tenant: &TenantId, count: u32) -> Result<bool, WorkError> {
    let found: i64 =
        sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM groups WHERE tenant_id = $1 LIMIT $2) some_of_them")
            .bind(tenant.as_str())
            .bind(i64::from(count))
            .fetch_one(connection)
            .await?;
    Ok(found >= i64::from(count))
}

/// Deletes a session that exists, and its heartbeat with it.
pub async fn delete_session(
    connection: &mut Connection,
    path: &GroupPath,
    session: &SessionId,
) -> Result<(), WorkError> {
    delete_session_at(connection, &Place::of(path), session.as_str()).await
}

/// Has a session be as one that was never heard of.
pub async fn forget_heartbeat(
    connection: &mut Connection,
    path: &GroupPath,
    session: &SessionId,
) -> Result<(), WorkError> {
    let delete = "DELETE FROM heartbeats WHERE group_key = $1 AND session_id = $2";
    sqlx::query(delete).bind(path.key().0).bind(session.as_str()).execute(connection).await?;
    Ok(())
}

/// As [`delete_session`], of the group that is found there.
pub async fn delete_session_at(connection: &mut Connection, place: &Place, session: &str) -> Result<(), WorkError> {
    let written = sqlx::query("DELETE FROM sessions WHERE group_key = $1 AND session_id = $2")
        .bind(place.key)
        .bind(session)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    check_count("sessions", 1, written)?;
    record_change_at(connection, place, ConfigurationChange::SessionDeleted(session)).await
}

/// Some of the sessions in order of their groups' keys: which of them are silent, and which is the
/// last that was looked at; `None` at the end.
#[derive(Debug)]
pub struct SessionPage {
    /// The group's key, and the session.
    pub silent: Vec<(Uuid, String)>,
    /// Where the next page begins.
    pub last: Option<(Uuid, String)>,
}

/// The next sessions after one, and those among them that have not been heard of for so long. None
/// is silent within a day of an outage in which nobody could be heard.
pub async fn find_silent_sessions(
    connection: &mut ReadConnection,
    silence: Duration,
    after_key: Uuid,
    after_id: &str,
    page_size: i64,
) -> Result<SessionPage, WorkError> {
    // Joined before the page is cut: on a cluster both are in one place, and only so.
    const FIND: &str = "
        SELECT s.group_key, s.session_id,
            greatest(h.received_at, s.registered_at) < clock_timestamp() - make_interval(secs => $4) AS is_silent
        FROM sessions s
        LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        WHERE (s.group_key, s.session_id) > ($1, $2) ORDER BY s.group_key, s.session_id LIMIT $3";
    const WAS_AWAY: &str = "SELECT EXISTS (
        SELECT FROM service_outages
        WHERE recovered_at > clock_timestamp() - interval '1 day' AND recovered_at - began_at > interval '10 minutes')";
    let was_away: bool = sqlx::query_scalar(WAS_AWAY).fetch_one(&mut *connection).await?;
    let query = sqlx::query_as(FIND).bind(after_key).bind(after_id).bind(page_size).bind(silence.as_secs_f64());
    let page: Vec<(Uuid, String, bool)> = query.fetch_all(connection).await?;
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count == page_size);
    let last = page.last().filter(|_| is_full).map(|(key, id, _)| (*key, id.clone()));
    let silent = page.into_iter().filter(|(.., is_silent)| *is_silent && !was_away);
    Ok(SessionPage { silent: silent.map(|(key, id, _)| (key, id)).collect(), last })
}

/// Those of a group's sessions that registered so long ago.
pub async fn find_registered_before(
    connection: &mut ReadConnection,
    key: Uuid,
    ids: &[String],
    silence: Duration,
) -> Result<Vec<String>, WorkError> {
    const FIND: &str = "SELECT session_id FROM sessions WHERE group_key = $1 AND session_id = ANY ($2)
        AND registered_at < statement_timestamp() - make_interval(secs => $3)";
    Ok(sqlx::query_scalar(FIND).bind(key).bind(ids).bind(silence.as_secs_f64()).fetch_all(connection).await?)
}

/// A role of which a group has at most one holder, for the sweep to look through.
#[derive(Clone, Copy, Debug)]
pub enum HeldRole {
    /// Primary.
    Primary,
    /// PendingPrimary.
    PendingPrimary,
}

/// One page of the holders of a role, in order of their group's key.
#[derive(Debug)]
pub struct HolderPage {
    /// The groups in which the holder's lease has run out, before any extension by an outage.
    pub lapsed: Vec<Uuid>,
    /// Where the next page begins; `None` after the last.
    pub next_after: Option<Uuid>,
}

/// The holders of a role after a key: a bounded walk along the role's own index, so that a sweep of
/// a large fleet costs little at a time.
pub async fn find_lapsed_holders(
    connection: &mut ReadConnection,
    role: HeldRole,
    after: Uuid,
    page_size: i64,
) -> Result<HolderPage, WorkError> {
    // The role is written out in each: with a parameter in its place the partial index could not be
    // used.
    macro_rules! holders_of {
        ($role:literal) => {
            concat!(
                "WITH page AS MATERIALIZED (
                    SELECT group_key, session_id FROM sessions
                    WHERE role = ",
                $role,
                " AND group_key > $1 ORDER BY group_key LIMIT $2
                )
                SELECT
                    ARRAY(SELECT p.group_key FROM page p JOIN heartbeats h USING (group_key, session_id)
                        WHERE h.lease_until <= clock_timestamp()) AS lapsed,
                    (SELECT count(*) FROM page) AS scanned,
                    (SELECT group_key FROM page ORDER BY group_key DESC LIMIT 1) AS last"
            )
        };
    }
    let statement = match role {
        HeldRole::Primary => holders_of!(1),
        HeldRole::PendingPrimary => holders_of!(2),
    };
    #[derive(sqlx::FromRow)]
    struct Page {
        lapsed: Vec<Uuid>,
        scanned: i64,
        last: Option<Uuid>,
    }
    let page: Page = sqlx::query_as(statement).bind(after).bind(page_size).fetch_one(connection).await?;
    Ok(HolderPage { lapsed: page.lapsed, next_after: page.last.filter(|_| page.scanned == page_size) })
}

/// Groups with a wish whose time is over, some of them.
pub async fn find_ended_wishes(connection: &mut ReadConnection, limit: i64) -> Result<Vec<Uuid>, WorkError> {
    let ended = "SELECT DISTINCT group_key FROM session_wishes WHERE wished_until <= clock_timestamp() LIMIT $1";
    Ok(sqlx::query_scalar(ended).bind(limit).fetch_all(connection).await?)
}

/// How long the leases of those who hold a role in a group still last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LeaseLeft {
    /// The group's key.
    pub group_key: Uuid,
    /// Until the first of them ends, from the reading of the clock that went with it, in
    /// microseconds; 0 or less once it has.
    pub left_us: i64,
}

/// Of those of the groups in which somebody holds a role, how long until the first of their leases
/// ends.
pub async fn find_leases_left(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<LeaseLeft>, WorkError> {
    if connection.is_spread() {
        return find_leases_left_spread(connection, keys).await;
    }
    // Outages only extend a lease, so the function that judges by them is called for those that
    // would be over.
    const READ: &str = "
        SELECT group_key, (extract(epoch FROM min(ends) - clock_timestamp()) * 1000000)::bigint AS left_us
        FROM (
            SELECT h.group_key, CASE WHEN h.lease_until <= clock_timestamp()
                THEN lease_end(h.lease_until, h.lease_until - h.received_at) ELSE h.lease_until END AS ends
            FROM unnest($1::uuid[]) AS k (group_key)
            JOIN sessions s ON s.group_key = k.group_key AND s.role IN (1, 2)
            JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        ) held
        GROUP BY group_key";
    Ok(sqlx::query_as(READ).bind(keys).fetch_all(connection).await?)
}

/// The last time that the database's clock was set back; 0 if it never was.
pub async fn find_clock_set_back(connection: &mut ReadConnection) -> Result<i64, WorkError> {
    let latest = "SELECT clock_set_back FROM service_moment";
    Ok(sqlx::query_scalar(latest).fetch_one(connection).await?)
}

/// The groups after a key whose leases are still of a clock before that, in order of key.
pub async fn find_groups_of_old_clock(
    connection: &mut ReadConnection,
    clock_set_back: i64,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, WorkError> {
    let query = "SELECT group_key FROM groups WHERE group_key > $1 AND clock_set_back < $2 ORDER BY group_key LIMIT $3";
    Ok(sqlx::query_scalar(query).bind(after).bind(clock_set_back).bind(limit).fetch_all(connection).await?)
}

/// Those of the groups of which somebody else holds a row that a heartbeat writes. They are looked
/// at and left as they are: the locks end with the statement.
pub async fn find_held(connection: &mut Connection, keys: &[Uuid]) -> Result<Vec<Uuid>, WorkError> {
    // Rows that cannot be had are left out; what is left out is held.
    const LOOK: &str = "
        WITH free_groups AS MATERIALIZED (
            SELECT group_key FROM groups WHERE group_key = ANY($1) FOR NO KEY UPDATE SKIP LOCKED
        ), free_sessions AS MATERIALIZED (
            SELECT group_key, session_id FROM sessions WHERE group_key = ANY($1) FOR NO KEY UPDATE SKIP LOCKED
        ), free_heartbeats AS MATERIALIZED (
            SELECT group_key, session_id FROM heartbeats WHERE group_key = ANY($1) FOR NO KEY UPDATE SKIP LOCKED
        )
        SELECT group_key FROM groups g WHERE group_key = ANY($1) AND (
            NOT EXISTS (SELECT FROM free_groups f WHERE f.group_key = g.group_key)
            OR EXISTS (SELECT FROM sessions s WHERE s.group_key = g.group_key AND NOT EXISTS (
                SELECT FROM free_sessions f WHERE f.group_key = s.group_key AND f.session_id = s.session_id))
            OR EXISTS (SELECT FROM heartbeats h WHERE h.group_key = g.group_key AND NOT EXISTS (
                SELECT FROM free_heartbeats f WHERE f.group_key = h.group_key AND f.session_id = h.session_id)))";
    Ok(sqlx::query_scalar(LOOK).bind(keys).fetch_all(connection).await?)
}

/// A group's key, and its path for people.
#[derive(Debug, sqlx::FromRow)]
pub struct NamedGroup {
    /// The key.
    pub group_key: Uuid,
    /// Tenant, namespace and id.
    pub label: String,
}

/// Locks those of the groups that nobody else has locked, and says which: two sweeps pass each
/// other by.
pub async fn lock_free_groups(connection: &mut Connection, keys: &[Uuid]) -> Result<Vec<NamedGroup>, WorkError> {
    Ok(sqlx::query_as(
        "SELECT group_key, tenant_id || '/' || namespace_id || '/' || group_id AS label
         FROM groups WHERE group_key = ANY($1) ORDER BY group_key FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind(keys)
    .fetch_all(connection)
    .await?)
}

/// The same where groups are spread: how many sessions each of these has.
async fn count_sessions_spread(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<usize>, WorkError> {
    const COUNT: &str = "SELECT group_key, count(*) FROM sessions WHERE group_key = ANY($1) GROUP BY group_key";
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(COUNT).bind(keys).fetch_all(connection).await?;
    let counts: HashMap<Uuid, i64> = counts.into_iter().collect();
    let of = |key| usize::try_from(counts.get(key).copied().unwrap_or(0)).unwrap_or(usize::MAX);
    Ok(keys.iter().map(of).collect())
}

/// Where groups are spread: how long until the first lease ends of those who hold a role.
///
/// Outages, which are the coordinator's, are left out of account: a lease that one of them extends
/// is looked at too early, and judged by the transaction that would take the role.
async fn find_leases_left_spread(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<LeaseLeft>, WorkError> {
    const READ: &str = "
        SELECT s.group_key, min(h.lease_until)
        FROM sessions s
        JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        WHERE s.group_key = ANY($1) AND h.group_key = ANY($1) AND s.role IN (1, 2)
        GROUP BY s.group_key";
    let ends: Vec<(Uuid, Micros)> = sqlx::query_as(READ).bind(keys).fetch_all(&mut *connection).await?;
    // The coordinator's clock, by which leases are given.
    let Micros(now) = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?;
    Ok(ends.into_iter().map(|(group_key, Micros(ends))| LeaseLeft { group_key, left_us: ends - now }).collect())
}
