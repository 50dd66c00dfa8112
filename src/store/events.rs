//! Rows of what happened: changes of roles and of configuration. They share one sequence of ids, by
//! which streams of events are ordered and resumed.
//!
//! An id is taken before its transaction commits, so a lower one may become visible after a higher
//! one. Which ids can still come is told by the locks that every writer of the two tables holds
//! until it ends: see [`find_writers`] and `docs/decisions/0006-order-of-events.md`.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::columns::Micros;
use super::configuration::{GroupConfiguration, timeout_of};
use super::connection::{Connection, ReadConnection};
use super::error::{WorkError, check_count};
use super::notify::{CHANNEL, wake_readers};
use super::rows::row;
use super::wish_names::{when_silent_text, wish_end_text, wish_text};
use crate::arbitration::{Role, WishEnd, Wished};
use crate::ids::{GroupKey, GroupPath, Groups, NamespacePath, SessionId, TenantId, Within};

/// A change of a role or of configuration, as its row tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The row's id: later events of a group have higher ones.
    pub id: i64,
    /// The group that it is about; `None` for what concerns all of them.
    pub group: Option<EventGroup>,
    /// The session that it is about, where it is about one.
    pub session: Option<String>,
    /// When it was decided or made.
    pub recorded_at: DateTime<Utc>,
    /// What happened.
    pub what: Happening,
}

/// A group that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// Its key.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// Its id.
    pub id: String,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A session's role changed.
    RoleChanged(RoleChange),
    /// A group was created.
    GroupCreated(GroupConfiguration),
    /// A group's configuration was replaced.
    GroupChanged(GroupConfiguration),
    /// A group was deleted, and its sessions with it.
    GroupDeleted,
    /// A session was registered, with this name for people.
    SessionRegistered(Option<String>),
    /// A session was deleted.
    SessionDeleted,
    /// An operator wishes something of a session, or does not any more.
    Wish(WishChange),
    /// The database has a new history: what follows may lack the end of what went before.
    DatabaseHistoryChanged(NewHistory),
}

/// A history of the database that is not the first. Its base is the id of its event: ids of earlier
/// histories, those that were lost included, are below, and those of its own events above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHistory {
    /// What it is told from others by.
    pub history: Uuid,
    /// What it was noticed by.
    pub reason: String,
    /// The last sign of life of the one before that it has.
    pub last_sign_at: Option<DateTime<Utc>>,
    /// The highest id of before that it has: an event with a later one below the base was lost, if
    /// there was one.
    pub last_id_before: i64,
}

/// A wish that was set, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WishChange {
    /// What is wished, or was.
    pub wish: String,
    /// What happens while a forced session is silent.
    pub when_silent: Option<String>,
    /// Until when; `None` until it is withdrawn.
    pub until: Option<DateTime<Utc>>,
    /// How it ended, if it did.
    pub ended: Option<String>,
}

/// A change of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// The group's term after it.
    pub term: i64,
    /// Why, as the trace has it.
    pub reason: String,
    /// What made it: a heartbeat, the sweep, an operator.
    pub actor: String,
}

/// A change of configuration that a transaction makes.
#[derive(Clone, Copy, Debug)]
pub enum ConfigurationChange<'a> {
    /// The group is new.
    GroupCreated(&'a GroupConfiguration),
    /// The group has another configuration.
    GroupChanged(&'a GroupConfiguration),
    /// The group is gone.
    GroupDeleted,
    /// The session is new, with this name for people.
    SessionRegistered(&'a SessionId, Option<&'a str>),
    /// The session is gone.
    SessionDeleted(&'a str),
    /// Something is wished of the session, or is not any more.
    Wish {
        /// The session.
        session: &'a str,
        /// What.
        wished: Wished,
        /// How it ended, if it did.
        ended: Option<WishEnd>,
    },
}

/// Where a group is found.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Place {
    /// Its key.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// Its id.
    pub group: String,
}

impl Place {
    /// Of the group of that path.
    pub fn of(path: &GroupPath) -> Place {
        Place {
            key: path.key().0,
            tenant: path.parent.tenant.as_str().to_owned(),
            namespace: path.parent.namespace.as_str().to_owned(),
            group: path.group.as_str().to_owned(),
        }
    }
}

/// Where a group is found that is there.
pub async fn find_place(connection: &mut Connection, key: Uuid) -> Result<Place, WorkError> {
    const FIND: &str = r#"SELECT group_key AS key, tenant_id AS tenant, namespace_id AS namespace, group_id AS "group"
        FROM groups WHERE group_key = $1"#;
    Ok(sqlx::query_as(FIND).bind(key).fetch_one(connection).await?)
}

/// Writes a change of configuration down, in the transaction that makes it, and has its commit wake
/// the readers.
pub async fn record_change(
    connection: &mut Connection,
    path: &GroupPath,
    change: ConfigurationChange<'_>,
) -> Result<(), WorkError> {
    record_change_at(connection, &Place::of(path), change).await
}

/// As [`record_change`], of the group that is found there.
pub async fn record_change_at(
    connection: &mut Connection,
    place: &Place,
    change: ConfigurationChange<'_>,
) -> Result<(), WorkError> {
    macro_rules! insert {
        () => {
            "INSERT INTO configuration_changes (group_key, tenant_id, namespace_id, group_id, session_id, kind,
                name, description, failover_timeout_ticks, wish, when_silent, wished_until, wish_ended)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING change_id"
        };
    }
    let statement = if !connection.is_spread() {
        concat!(
            "WITH written AS (",
            insert!(),
            ") SELECT count(*) AS written, max(change_id) AS newest, pg_notify($14, '') FROM written"
        )
    } else {
        insert!()
    };
    use ConfigurationChange as Change;
    let (kind, session, name, configuration) = match change {
        Change::GroupCreated(configuration) => ("group_created", None, None, Some(configuration)),
        Change::GroupChanged(configuration) => ("group_changed", None, None, Some(configuration)),
        Change::GroupDeleted => ("group_deleted", None, None, None),
        Change::SessionRegistered(session, name) => ("session_registered", Some(session.as_str()), name, None),
        Change::SessionDeleted(session) => ("session_deleted", Some(session), None, None),
        Change::Wish { session, ended: None, .. } => ("wish_set", Some(session), None, None),
        Change::Wish { session, ended: Some(_), .. } => ("wish_ended", Some(session), None, None),
    };
    let (wished, ended) = match change {
        Change::Wish { wished, ended, .. } => (Some(wished), ended),
        _ => (None, None),
    };
    let life = connection.life();
    let query = sqlx::query(statement)
        .bind(place.key)
        .bind(&place.tenant)
        .bind(&place.namespace)
        .bind(&place.group)
        .bind(session)
        .bind(kind)
        .bind(name.or(configuration.and_then(|configuration| configuration.name.as_deref())))
        .bind(configuration.and_then(|configuration| configuration.description.as_deref()))
        .bind(configuration.map(|configuration| configuration.timeout.ticks()))
        .bind(wished.map(|wished| wish_text(wished.wish)))
        .bind(wished.and_then(|wished| when_silent_text(wished.wish)))
        .bind(wished.and_then(|wished| wished.until).map(Micros::from))
        .bind(ended.map(wish_end_text));
    if connection.is_spread() {
        let written = query.fetch_one(&mut *connection).await?;
        life.note_event(written.try_get("change_id")?);
        return wake_readers(connection).await;
    }
    let written = query.bind(CHANNEL).fetch_one(connection).await?;
    life.note_event(written.try_get("newest")?);
    check_count("configuration_changes", 1, written.try_get::<i64, _>("written")?.unsigned_abs())
}

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventScope {
    /// Those of every tenant.
    Everything,
    /// Those of a tenant.
    Tenant(TenantId),
    /// Those of a namespace.
    Namespace(NamespacePath),
    /// Those of a group.
    Group(GroupKey),
}

/// How many ids one look for the events of a tenant or a namespace passes over: what bounds a
/// statement where others are busy.
const ID_WINDOW: i64 = 20_000;

// Three kinds of rows in one result, with the same columns as far as events have them in common.

row! {
    /// A change of a role. Of any event, what all have.
    struct RoleChangeRow, role_change_columns! {
        id: i64 = "transition_id",
        group_key: Option<Uuid> = "group_key",
        tenant_id: String = "tenant_id",
        namespace_id: String = "namespace_id",
        group_id: String = "group_id",
        session_id: Option<String> = "session_id",
        recorded_at: DateTime<Utc> = "recorded_at",
        kind: &'r str = "'role_changed'",
        from_role: i16 = "from_role",
        to_role: i16 = "to_role",
        term: i64 = "term",
        reason: String = "reason",
        actor: String = "actor",
        _ = "NULL::text",
        _ = "NULL::text",
        _ = "NULL::bigint",
        _ = "NULL::uuid",
        _ = "NULL::timestamptz",
        _ = "NULL::bigint",
        _ = "NULL::text",
        _ = "NULL::text",
    }
}

row! {
    /// A change of configuration, whose name may be the session's.
    struct ConfigurationRow, configuration_columns! {
        _ = "change_id",
        _ = "group_key",
        _ = "tenant_id",
        _ = "namespace_id",
        _ = "group_id",
        _ = "session_id",
        _ = "recorded_at",
        _ = "kind",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        // Of a wish: what is wished.
        name: Option<String> = "coalesce(wish, name)",
        description: Option<String> = "description",
        failover_timeout_ticks: i64 = "failover_timeout_ticks",
        _ = "NULL",
        wished_until: Option<DateTime<Utc>> = "wished_until",
        _ = "NULL",
        when_silent: Option<String> = "when_silent",
        wish_ended: Option<String> = "wish_ended",
    }
}

row! {
    /// A history of the database, as `h`.
    struct HistoryRow, history_columns! {
        _ = "base",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "noticed_at",
        _ = "'database_history_changed'",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        reason: String = "reason",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        history: Uuid = "history",
        last_sign_at: Option<DateTime<Utc>> = "last_sign_at",
        last_id_before: i64 = "greatest(0, (SELECT max(transition_id) FROM role_transitions WHERE transition_id < base),
            (SELECT max(change_id) FROM configuration_changes WHERE change_id < base),
            (SELECT max(b.base) FROM service_histories b WHERE b.base < h.base))",
        _ = "NULL",
        _ = "NULL",
    }
}

/// Some of the events after an id, and how far they reach.
#[derive(Debug)]
pub struct EventPage {
    /// In order of id.
    pub events: Vec<Event>,
    /// Every event of the scope up to this id is in the page or before it.
    pub complete_to: i64,
}

/// The events of a scope with `after < id <= up_to`, in order, at most `limit` of them.
pub async fn read_events(
    connection: &mut ReadConnection,
    scope: &EventScope,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<EventPage, WorkError> {
    let wanted_up_to = up_to;
    let is_spread = connection.is_spread();
    // One statement, and so one snapshot, for all tables where they are on one server. A new
    // history concerns every scope.
    macro_rules! events_where {
        ($condition:literal, $histories:expr) => {
            concat!(
                "SELECT * FROM (
                    (SELECT ",
                role_change_columns!(),
                " FROM role_transitions WHERE transition_id > $1 AND transition_id <= $2 AND ",
                $condition,
                " ORDER BY transition_id LIMIT $3)
                    UNION ALL
                    (SELECT ",
                configuration_columns!(),
                " FROM configuration_changes WHERE change_id > $1 AND change_id <= $2 AND ",
                $condition,
                " ORDER BY change_id LIMIT $3)",
                $histories,
                ") e ORDER BY id LIMIT $3"
            )
        };
        ($condition:literal) => {
            match is_spread {
                true => events_where!($condition, ""),
                false => events_where!(
                    $condition,
                    concat!(
                        " UNION ALL (SELECT ",
                        history_columns!(),
                        " FROM service_histories h
                        WHERE base > $1 AND base <= $2 AND reason <> 'first' ORDER BY base LIMIT $3)"
                    )
                ),
            }
        };
    }
    let (query, up_to) = match scope {
        EventScope::Everything => (sqlx::query(events_where!("true")).bind(after).bind(up_to).bind(limit), up_to),
        EventScope::Tenant(tenant) => {
            let up_to = up_to.min(after.saturating_add(ID_WINDOW));
            let query = sqlx::query(events_where!("tenant_id = $4"));
            (query.bind(after).bind(up_to).bind(limit).bind(tenant.as_str()), up_to)
        }
        EventScope::Namespace(path) => {
            let up_to = up_to.min(after.saturating_add(ID_WINDOW));
            let query = sqlx::query(events_where!("tenant_id = $4 AND namespace_id = $5"));
            let query = query.bind(after).bind(up_to).bind(limit);
            (query.bind(path.tenant.as_str()).bind(path.namespace.as_str()), up_to)
        }
        EventScope::Group(key) => {
            (sqlx::query(events_where!("group_key = $4")).bind(after).bind(up_to).bind(limit).bind(key.0), up_to)
        }
    };
    let rows = query.fetch_all(&mut *connection).await?;
    let mut events = rows.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
    if is_spread {
        // Two snapshots: whatever took an id up to this one has ended, as the reader has seen to.
        events.extend(read_histories(connection, after, up_to, limit).await?);
        events.sort_unstable_by_key(|event| event.id);
        events.truncate(usize::try_from(limit).unwrap_or(0));
    }
    let is_cut = i64::try_from(events.len()).is_ok_and(|count| count >= limit);
    let mut complete_to = events.last().filter(|_| is_cut).map_or(up_to, |event| event.id);
    if events.is_empty() && up_to < wanted_up_to {
        // Nothing in this window; there may be nothing in many more, as below the base of a new
        // history.
        complete_to = find_first_id_after(connection, up_to).await?.map_or(wanted_up_to, |id| wanted_up_to.min(id - 1));
    }
    Ok(EventPage { events, complete_to })
}

fn read_event(row: &PgRow) -> Result<Event, WorkError> {
    let event = RoleChangeRow::of(row);
    let change = ConfigurationRow::of(row);
    let id = event.id()?;
    let configuration = || {
        Ok::<_, WorkError>(GroupConfiguration {
            name: change.name()?,
            description: change.description()?,
            timeout: timeout_of(change.failover_timeout_ticks()?)?,
            // No event tells of it.
            additional_data: None,
        })
    };
    let what = match event.kind()? {
        "role_changed" => Happening::RoleChanged(RoleChange {
            from: role_of(id, event.from_role()?)?,
            to: role_of(id, event.to_role()?)?,
            term: event.term()?,
            reason: event.reason()?,
            actor: event.actor()?,
        }),
        "group_created" => Happening::GroupCreated(configuration()?),
        "group_changed" => Happening::GroupChanged(configuration()?),
        "group_deleted" => Happening::GroupDeleted,
        "session_registered" => Happening::SessionRegistered(change.name()?),
        "session_deleted" => Happening::SessionDeleted,
        "wish_set" | "wish_ended" => Happening::Wish(WishChange {
            wish: change.name()?.unwrap_or_default(),
            when_silent: change.when_silent()?,
            until: change.wished_until()?,
            ended: change.wish_ended()?,
        }),
        "database_history_changed" => {
            let new = HistoryRow::of(row);
            Happening::DatabaseHistoryChanged(NewHistory {
                history: new.history()?,
                reason: new.reason()?,
                last_sign_at: new.last_sign_at()?,
                last_id_before: new.last_id_before()?,
            })
        }
        other => return Err(WorkError::Inconsistent(format!("event {id} is of the kind '{other}'"))),
    };
    let group = match event.group_key()? {
        None => None,
        Some(key) => Some(EventGroup {
            key,
            tenant: event.tenant_id()?,
            namespace: event.namespace_id()?,
            id: event.group_id()?,
        }),
    };
    Ok(Event { id, group, session: event.session_id()?, recorded_at: event.recorded_at()?, what })
}

fn role_of(id: i64, number: i16) -> Result<Role, WorkError> {
    Role::from_number(number).ok_or_else(|| WorkError::Inconsistent(format!("a role of event {id} is {number}")))
}

/// The highest id that was ever taken, whether its transaction committed or not; 0 before the
/// first.
pub async fn find_newest_id(connection: &mut ReadConnection) -> Result<i64, WorkError> {
    let newest = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM role_transitions_transition_id_seq";
    Ok(sqlx::query_scalar(newest).fetch_one(connection).await?)
}

/// The id that the latest history begins above; 0 for the first.
pub async fn find_latest_base(connection: &mut ReadConnection) -> Result<i64, WorkError> {
    let latest = "SELECT base FROM service_histories WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1";
    Ok(sqlx::query_scalar(latest).fetch_optional(connection).await?.unwrap_or(0))
}

/// The lowest id of an event of anybody after that one.
async fn find_first_id_after(connection: &mut ReadConnection, id: i64) -> Result<Option<i64>, WorkError> {
    let first = "SELECT least((SELECT min(transition_id) FROM role_transitions WHERE transition_id > $1),
        (SELECT min(change_id) FROM configuration_changes WHERE change_id > $1),
        (SELECT min(base) FROM service_histories WHERE base > $1))";
    Ok(sqlx::query_scalar(first).bind(id).fetch_one(connection).await?)
}

/// The lowest id that is still kept, if there is one.
pub async fn find_oldest_id(connection: &mut ReadConnection) -> Result<Option<i64>, WorkError> {
    let oldest = "SELECT least((SELECT min(transition_id) FROM role_transitions),
        (SELECT min(change_id) FROM configuration_changes))";
    Ok(sqlx::query_scalar(oldest).fetch_one(connection).await?)
}

/// The transactions under way that may have taken ids of events, by names that are not used again.
///
/// PostgreSQL locks a table for a writer before the writer takes an id, and until it ends. So once
/// those that this has named are gone, no id that was taken before can still appear.
pub async fn find_writers(connection: &mut ReadConnection) -> Result<HashSet<String>, WorkError> {
    let writers: Vec<String> = sqlx::query_scalar(
        "SELECT virtualtransaction FROM pg_locks
         WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND relation IN ('role_transitions'::regclass, 'configuration_changes'::regclass, 'service_histories'::regclass)
             AND pid IS DISTINCT FROM pg_backend_pid()",
    )
    .fetch_all(connection)
    .await?;
    Ok(writers.into_iter().collect())
}

/// The changes of a group's roles in a span of time, the latest first.
pub async fn read_transitions(
    connection: &mut ReadConnection,
    key: GroupKey,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    skip: i64,
    count: i64,
) -> Result<Vec<Event>, WorkError> {
    // Walks the primary key backwards; the rows of one group are few.
    const READ: &str = concat!(
        "SELECT ",
        role_change_columns!(),
        " FROM role_transitions
        WHERE group_key = $1 AND recorded_at >= coalesce($2, '-infinity') AND recorded_at < coalesce($3, 'infinity')
        ORDER BY transition_id DESC OFFSET $4 LIMIT $5"
    );
    let rows =
        sqlx::query(READ).bind(key.0).bind(since).bind(until).bind(skip).bind(count).fetch_all(connection).await?;
    rows.iter().map(read_event).collect()
}

/// A change of a group's configuration or of what is wished in it, and who made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deed {
    /// The change.
    pub event: Event,
    /// Who, as the audit trail has it; `None` where it has nothing of that.
    pub identity: Option<String>,
}

row! {
    /// Who made a change.
    struct DoerRow, doer_columns! {
        change_id: i64 = "c.change_id",
        identity: Option<String> = "a.identity",
    }
}

/// The changes of a group's configuration and of what is wished in it in a span of time, the latest
/// first, with who made them. Registrations are not among them: they are what clients do.
pub async fn read_deeds(
    connection: &mut ReadConnection,
    key: GroupKey,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    skip: i64,
    count: i64,
) -> Result<Vec<Deed>, WorkError> {
    // The first part has no rows: it gives the columns their names. The other walks the primary key
    // backwards.
    const READ: &str = concat!(
        "(SELECT ",
        role_change_columns!(),
        " FROM role_transitions WHERE group_key = $1 LIMIT 0) UNION ALL (SELECT ",
        configuration_columns!(),
        " FROM configuration_changes
        WHERE group_key = $1 AND kind <> 'session_registered'
            AND recorded_at >= coalesce($2, '-infinity') AND recorded_at < coalesce($3, 'infinity')
        ORDER BY change_id DESC OFFSET $4 LIMIT $5) ORDER BY id DESC"
    );
    // As in `lifetimes`: both rows of a change are written in one transaction, so their times are
    // close, and few blocks of the audit trail are looked through.
    const WHO: &str = concat!(
        "SELECT ",
        doer_columns!(),
        " FROM (SELECT * FROM configuration_changes WHERE group_key = $1 AND change_id = ANY($2)) c
        LEFT JOIN LATERAL (
            SELECT identity FROM audit_log a
            WHERE a.recorded_at BETWEEN c.recorded_at - interval '10 s' AND c.recorded_at + interval '10 s'
                AND a.tenant_id = c.tenant_id AND a.namespace_id = c.namespace_id AND a.group_id = c.group_id
                AND a.session_id IS NOT DISTINCT FROM c.session_id
                AND a.action IN (c.kind, c.kind || '_by_force', 'live_' || c.kind, 'silent_' || c.kind)
            ORDER BY abs(extract(epoch FROM a.recorded_at - c.recorded_at)) LIMIT 1
        ) a ON true"
    );
    let query = sqlx::query(READ).bind(key.0).bind(since).bind(until).bind(skip).bind(count);
    let events = query.fetch_all(&mut *connection).await?.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    let rows = sqlx::query(WHO).bind(key.0).bind(ids).fetch_all(connection).await?;
    let mut doers = HashMap::new();
    for row in rows.iter().map(DoerRow::of) {
        doers.insert(row.change_id()?, row.identity()?);
    }
    Ok(events.into_iter().map(|event| Deed { identity: doers.remove(&event.id).flatten(), event }).collect())
}

/// How many of the latest events of all are looked through for those of a tenant or a namespace.
const LATEST_WINDOW: i64 = 100_000;

/// The latest changes of roles in such groups there, the latest first.
pub async fn read_latest_transitions(
    connection: &mut ReadConnection,
    within: &Within,
    groups: &Groups,
    count: i64,
) -> Result<Vec<Event>, WorkError> {
    // Walks the index by id backwards. So many rows and not ids: these go up by far with a new
    // history of the database.
    const EVERYWHERE: &str =
        concat!("SELECT ", role_change_columns!(), " FROM role_transitions ORDER BY transition_id DESC LIMIT $1");
    const OF_SOME: &str = concat!(
        "SELECT * FROM (SELECT ",
        role_change_columns!(),
        " FROM role_transitions ORDER BY transition_id DESC LIMIT $4) latest
        WHERE tenant_id = $2 AND ($3::text IS NULL OR namespace_id = $3) AND ($5::text[] IS NULL OR group_id LIKE ANY($5))
        ORDER BY id DESC LIMIT $1"
    );
    let query = match within {
        Within::AllTenants => sqlx::query(EVERYWHERE).bind(count),
        Within::Tenant(_) | Within::Namespace(_) => sqlx::query(OF_SOME)
            .bind(count)
            .bind(within.tenant())
            .bind(within.namespace())
            .bind(LATEST_WINDOW)
            .bind(groups.as_likes()),
    };
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(read_event).collect()
}

/// A time in which a group had no Primary.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Gap {
    /// Why the one before lost the role, as the trace has it.
    pub reason: String,
    /// From then to the grant, in microseconds.
    pub micros: i64,
}

/// The time without a Primary that the grant of that term ended; nothing where the group was
/// created since somebody held it.
pub async fn find_gap_before(connection: &mut ReadConnection, key: Uuid, term: i64) -> Result<Option<Gap>, WorkError> {
    // Both walk the primary key backwards, and stop at the first. In one transaction a role is
    // taken before it is given.
    const FIND: &str = "
        SELECT lost.reason, greatest(0, (extract(epoch FROM given.recorded_at - lost.recorded_at) * 1000000)::bigint) AS micros
        FROM (
            SELECT transition_id, recorded_at FROM role_transitions
            WHERE group_key = $1 AND to_role = 1 AND term = $2 ORDER BY transition_id DESC LIMIT 1
        ) given
        CROSS JOIN LATERAL (
            SELECT reason, recorded_at FROM role_transitions
            WHERE group_key = $1 AND from_role = 1 AND transition_id < given.transition_id
            ORDER BY transition_id DESC LIMIT 1
        ) lost
        WHERE lost.recorded_at >= (SELECT created_at FROM groups WHERE group_key = $1)";
    Ok(sqlx::query_as(FIND).bind(key).bind(term).fetch_optional(connection).await?)
}

/// Whether there is or was such a group, as far as is still known.
pub async fn is_known_group(connection: &mut ReadConnection, key: GroupKey) -> Result<bool, WorkError> {
    let known = "SELECT EXISTS (SELECT FROM groups WHERE group_key = $1)
        OR EXISTS (SELECT FROM role_transitions WHERE group_key = $1)
        OR EXISTS (SELECT FROM configuration_changes WHERE group_key = $1)";
    Ok(sqlx::query_scalar(known).bind(key.0).fetch_one(connection).await?)
}

/// New histories of the database whose bases are among these ids, as events. What else happened is
/// read by itself: one statement is not of the coordinator's rows and of those of all nodes.
async fn read_histories(
    connection: &mut ReadConnection,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Event>, WorkError> {
    const READ: &str = "
        SELECT h.base, h.noticed_at, h.history, h.reason, h.last_sign_at,
            coalesce((SELECT max(b.base) FROM service_histories b WHERE b.base < h.base), 0) AS base_before
        FROM service_histories h WHERE h.base > $1 AND h.base <= $2 AND h.reason <> 'first' ORDER BY h.base LIMIT $3";
    const LAST_ID_BEFORE: &str = "
        SELECT greatest($2, (SELECT max(transition_id) FROM role_transitions WHERE transition_id < $1),
            (SELECT max(change_id) FROM configuration_changes WHERE change_id < $1))";
    #[derive(sqlx::FromRow)]
    struct Row {
        base: i64,
        noticed_at: DateTime<Utc>,
        history: Uuid,
        reason: String,
        last_sign_at: Option<DateTime<Utc>>,
        base_before: i64,
    }
    let rows: Vec<Row> = sqlx::query_as(READ).bind(after).bind(up_to).bind(limit).fetch_all(&mut *connection).await?;
    let mut events = Vec::with_capacity(rows.len());
    for Row { base, noticed_at, history, reason, last_sign_at, base_before } in rows {
        let last_id_before = sqlx::query_scalar(LAST_ID_BEFORE).bind(base).bind(base_before);
        let last_id_before = last_id_before.fetch_one(&mut *connection).await?;
        let what = Happening::DatabaseHistoryChanged(NewHistory { history, reason, last_sign_at, last_id_before });
        events.push(Event { id: base, group: None, session: None, recorded_at: noticed_at, what });
    }
    Ok(events)
}
