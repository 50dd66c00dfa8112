//! Writing what was done to groups.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use uuid::Uuid;

use super::wishes::save_wishes;
use super::{Actor, StoredGroup, vacancy_text};
use crate::arbitration::{Former, Role, Transition};
use crate::store::clock::Clock;
use crate::store::columns::{Micros, RowPlace};
use crate::store::connection::Connection;
use crate::store::error::{WorkError, check_count};
use crate::store::notify::{CHANNEL, wake_readers};

/// Writes what was done to these groups: heartbeats, roles, what their sessions share, wishes, and
/// the trace.
///
/// Each statement runs only where something of its kind changed. Rows are in order of key, so that
/// two that write the same rows wait for each other instead of locking each other out.
pub async fn save(
    connection: &mut Connection,
    clock: &Clock,
    groups: &mut [StoredGroup],
    actor: Actor,
) -> Result<(), WorkError> {
    groups.sort_unstable_by_key(|stored| stored.key);
    groups.iter_mut().for_each(StoredGroup::settle);
    save_heartbeats(connection, groups).await?;
    save_shared(connection, groups).await?;
    save_roles(connection, clock, groups).await?;
    save_wishes(connection, clock, groups).await?;
    save_trace(connection, clock, groups, actor).await
}

/// Heartbeats to be written, column by column.
#[derive(Default)]
struct Columns<'g> {
    keys: Vec<Uuid>,
    ids: Vec<&'g str>,
    places: Vec<RowPlace>,
    health: Vec<Decimal>,
    heartbeat_times: Vec<Micros>,
    data_times: Vec<Option<Micros>>,
    received: Vec<Micros>,
    leases: Vec<Micros>,
    sent: Vec<Option<Micros>>,
    heard: Vec<Micros>,
    heard_counts: Vec<Micros>,
    data_still: Vec<Option<i32>>,
    rhythms: Vec<i32>,
}

impl<'g> Columns<'g> {
    /// Those that have a row already, and those that have none.
    fn of(groups: &'g [StoredGroup]) -> (Columns<'g>, Columns<'g>) {
        let (mut stored_before, mut never_stored) = Default::default();
        for stored in groups {
            for (&i, times) in &stored.received {
                let place = stored.found.heartbeats[i];
                let session = &stored.group.sessions[i];
                let Some(beat) = session.beat else { continue };
                let columns: &mut Columns<'g> = match place {
                    Some(_) => &mut stored_before,
                    None => &mut never_stored,
                };
                columns.keys.push(stored.key.0);
                columns.ids.push(stored.session_ids[i].as_str());
                columns.places.extend(place);
                columns.health.push(beat.health.percent());
                columns.heartbeat_times.push(Micros(times.heartbeat_time.timestamp_micros()));
                columns.data_times.push(times.last_data_send_time.map(|time| Micros(time.timestamp_micros())));
                columns.received.push(beat.received_at.into());
                columns.leases.push(beat.lease_until.into());
                columns.sent.push(session.sent_until.map(Micros::from));
                columns.heard.push(Micros(beat.heard_until.0));
                columns.heard_counts.push(beat.heard_counts_until.into());
                let rhythm = stored.noted[i].rhythm;
                columns.data_still.push(rhythm.data_still_ms);
                columns.rhythms.push(rhythm.packed());
            }
        }
        (stored_before, never_stored)
    }

    /// Binds what is said of each heartbeat; what says which it is comes behind it.
    fn bind(&self, statement: &'static str) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(statement)
            .bind(&self.health)
            .bind(&self.heartbeat_times)
            .bind(&self.data_times)
            .bind(&self.received)
            .bind(&self.leases)
            .bind(&self.sent)
            .bind(&self.heard)
            .bind(&self.heard_counts)
            .bind(&self.data_still)
            .bind(&self.rhythms)
    }

    async fn write(
        &self,
        statement: Query<'_, Postgres, PgArguments>,
        connection: &mut Connection,
    ) -> Result<(), WorkError> {
        let written = statement.execute(connection).await?.rows_affected();
        check_count("heartbeats", self.keys.len(), written)
    }
}

/// What is said of a heartbeat, in the order in which it is bound: each column with its parameter.
macro_rules! heartbeat_values {
    ($as:ident) => {
        $as!(
            percent_healthy_streams = "$1::numeric[]",
            heartbeat_time = "$2::timestamptz[]",
            last_data_send_time = "$3::timestamptz[]",
            received_at = "$4::timestamptz[]",
            lease_until = "$5::timestamptz[]",
            primary_sent_until = "$6::timestamptz[]",
            heard_until = "$7::timestamptz[]",
            heard_counts_until = "$8::timestamptz[]",
            data_still_ms = "$9::integer[]",
            rhythm = "$10::integer[]"
        )
    };
}

macro_rules! names {
    ($($column:ident = $parameter:literal),+) => { concat!($(stringify!($column), ", "),+) };
}

macro_rules! parameters {
    ($($column:ident = $parameter:literal),+) => { concat!($($parameter, ", "),+) };
}

macro_rules! unnested {
    ($($column:ident = $parameter:literal),+) => {
        concat!($("unnest(", $parameter, ") AS ", stringify!($column), ", "),+)
    };
}

macro_rules! assignments {
    ($first:ident = $first_parameter:literal $(, $column:ident = $parameter:literal)*) => {
        concat!(
            stringify!($first), " = n.", stringify!($first)
            $(, ", ", stringify!($column), " = n.", stringify!($column))*
        )
    };
}

/// By the place where the snapshot of this transaction has the row, so that no index is walked
/// again. A row that somebody has moved since is a conflict, as it would be by key. The arrays are
/// unnested side by side in the list of columns: as functions in FROM, each would be stored first.
const UPDATE_BY_PLACE: &str = concat!(
    "UPDATE heartbeats h SET ",
    heartbeat_values!(assignments),
    " FROM (SELECT ",
    heartbeat_values!(unnested),
    "unnest($11::tid[]) AS row_place) n WHERE h.ctid = n.row_place
    RETURNING n.row_place AS was, h.ctid AS is_now"
);

/// The same, and each row is looked up by its key first: that has PostgreSQL clear its page of dead
/// versions, which fetching a row by its place does not. Without it pages fill up, and then an
/// update moves its row to another page and writes into the index.
const UPDATE_AND_CLEAR: &str = concat!(
    "UPDATE heartbeats h SET ",
    heartbeat_values!(assignments),
    " FROM (SELECT n.*, found.row_place AS place_now FROM (SELECT ",
    heartbeat_values!(unnested),
    "unnest($11::tid[]) AS row_place, unnest($12::uuid[]) AS group_key, unnest($13::text[]) AS session_id) n
        CROSS JOIN LATERAL (
            SELECT ctid AS row_place FROM heartbeats WHERE group_key = n.group_key AND session_id = n.session_id OFFSET 0
        ) found) n WHERE h.ctid = n.place_now
    RETURNING n.row_place AS was, h.ctid AS is_now"
);

/// One transaction in so many clears pages. A new page has room for some 25 versions, and is
/// cleared whenever one of its rows is updated so: it is full before that once in a thousand times.
const CLEARS: u8 = 4;

/// Where groups are spread.
const UPDATE_BY_KEY: &str = concat!(
    "UPDATE heartbeats h SET ",
    heartbeat_values!(assignments),
    " FROM (SELECT ",
    heartbeat_values!(unnested),
    "unnest($11::uuid[]) AS group_key, unnest($12::text[]) AS session_id) n
    WHERE h.group_key = ANY($11) AND h.group_key = n.group_key AND h.session_id = n.session_id"
);

const INSERT_HEARTBEATS: &str = concat!(
    "INSERT INTO heartbeats (",
    heartbeat_values!(names),
    "group_key, session_id) SELECT * FROM unnest(",
    heartbeat_values!(parameters),
    "$11::uuid[], $12::text[])"
);

async fn save_heartbeats(connection: &mut Connection, groups: &mut [StoredGroup]) -> Result<(), WorkError> {
    let (stored_before, never_stored) = Columns::of(groups);
    if !never_stored.keys.is_empty() {
        let insert = never_stored.bind(INSERT_HEARTBEATS).bind(&never_stored.keys).bind(&never_stored.ids);
        never_stored.write(insert, connection).await?;
    }
    if stored_before.keys.is_empty() {
        return Ok(());
    }
    if connection.is_spread() {
        let update = stored_before.bind(UPDATE_BY_KEY).bind(&stored_before.keys).bind(&stored_before.ids);
        return stored_before.write(update, connection).await;
    }
    let update = if fastrand::u8(..CLEARS) == 0 {
        let update = stored_before.bind(UPDATE_AND_CLEAR).bind(&stored_before.places);
        update.bind(&stored_before.keys).bind(&stored_before.ids)
    } else {
        stored_before.bind(UPDATE_BY_PLACE).bind(&stored_before.places)
    };
    let moved = update.fetch_all(connection).await?;
    check_count("heartbeats", stored_before.keys.len(), moved.len() as u64)?;
    let moved = moved.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let moved: HashMap<RowPlace, RowPlace> = moved.collect::<Result<_, sqlx::Error>>()?;
    for stored in groups {
        for &i in stored.received.keys() {
            let place = &mut stored.found.heartbeats[i];
            *place = place.map(|was| moved.get(&was).copied().unwrap_or(was));
        }
    }
    Ok(())
}

async fn save_shared(connection: &mut Connection, groups: &[StoredGroup]) -> Result<(), WorkError> {
    macro_rules! update {
        ($of_these:literal) => {
            concat!(
                "UPDATE groups g
                SET term = n.term, vacancy = n.vacancy, watermark_base_at = n.watermark_base_at,
                    handover_from = n.handover_from, handover_until = n.handover_until,
                    handover_heard_until = n.handover_heard_until, history_id = n.history_id, in_doubt_until = n.in_doubt_until,
                    has_wishes = n.has_wishes, settled_term = n.settled_term
                FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[],
                    $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::timestamptz[], $10::boolean[], $11::bigint[])
                    AS n (group_key, term, vacancy, watermark_base_at, handover_from, handover_until, handover_heard_until,
                        history_id, in_doubt_until, has_wishes, settled_term)
                WHERE g.group_key = n.group_key",
                $of_these
            )
        };
    }
    let statement = if !connection.is_spread() { update!("") } else { update!(" AND g.group_key = ANY($1)") };

    let changed: Vec<&StoredGroup> = groups.iter().filter(|stored| stored.shared_changed()).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let handover = |stored: &&StoredGroup| stored.group.handover;
    let yielding = |stored: &&'_ StoredGroup| match handover(stored)?.from {
        Former::Yielding { session, heard_until } => Some((session, heard_until)),
        Former::Gone => None,
    };
    let keys: Vec<Uuid> = changed.iter().map(|stored| stored.key.0).collect();
    let life = connection.life();
    changed.iter().for_each(|stored| life.note_term(stored.group.term.0));
    let written = sqlx::query(statement)
        .bind(&keys)
        .bind(changed.iter().map(|stored| stored.group.term.0).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| vacancy_text(stored.group.vacancy)).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| stored.group.watermark_base.map(Micros::from)).collect::<Vec<_>>())
        .bind(
            changed
                .iter()
                .map(|stored| yielding(stored).map(|(session, _)| stored.session_ids[session].as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(changed.iter().map(|stored| handover(stored).map(|h| Micros::from(h.until))).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| yielding(stored).map(|(_, heard)| Micros(heard.0))).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| stored.group.history.0).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| stored.group.in_doubt_until.map(Micros::from)).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| stored.has_wishes()).collect::<Vec<_>>())
        .bind(changed.iter().map(|stored| stored.settled_term.map(|term| term.0)).collect::<Vec<_>>())
        .execute(connection)
        .await?
        .rows_affected();
    check_count("groups", keys.len(), written)
}

/// In two steps, first taking and then giving: the indexes that allow one holder are checked row by
/// row.
async fn save_roles(connection: &mut Connection, clock: &Clock, groups: &[StoredGroup]) -> Result<(), WorkError> {
    macro_rules! update {
        ($of_these:literal) => {
            concat!(
                "UPDATE sessions s
                SET role = n.role, role_changed_at = $4
                FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS n (group_key, session_id, role)
                WHERE s.group_key = n.group_key AND s.session_id = n.session_id",
                $of_these
            )
        };
    }
    let statement = if !connection.is_spread() { update!("") } else { update!(" AND s.group_key = ANY($1)") };

    let changes: Vec<(Uuid, &str, Role, Role)> = groups
        .iter()
        .flat_map(|stored| {
            let sessions = stored.group.sessions.iter().zip(&stored.found.roles).enumerate();
            sessions
                .filter(|(_, (session, found))| session.role != **found)
                .map(|(i, (session, found))| (stored.key.0, stored.session_ids[i].as_str(), *found, session.role))
        })
        .collect();
    let taken = changes
        .iter()
        .filter(|(_, _, found, _)| *found != Role::Secondary)
        .map(|(key, id, _, _)| (*key, *id, Role::Secondary));
    let given =
        changes.iter().filter(|(_, _, _, role)| *role != Role::Secondary).map(|(key, id, _, role)| (*key, *id, *role));
    for step in [taken.collect::<Vec<_>>(), given.collect::<Vec<_>>()] {
        if step.is_empty() {
            continue;
        }
        let written = sqlx::query(statement)
            .bind(step.iter().map(|(key, _, _)| *key).collect::<Vec<_>>())
            .bind(step.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
            .bind(step.iter().map(|(_, _, role)| role.number()).collect::<Vec<_>>())
            .bind(clock.now)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        check_count("sessions", step.len(), written)?;
    }
    Ok(())
}

async fn save_trace(
    connection: &mut Connection,
    clock: &Clock,
    groups: &[StoredGroup],
    actor: Actor,
) -> Result<(), WorkError> {
    // The commit wakes whoever streams events. It takes a lock that is global to the server, so
    // only here, where a role changed, and never for an ordinary heartbeat.
    const INSERT: &str = "
        WITH written AS (
            INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id,
                from_role, to_role, term, reason, actor, recorded_at)
            SELECT g.group_key, g.tenant_id, g.namespace_id, g.group_id, n.session_id,
                n.from_role, n.to_role, n.term, n.reason, $7, $8
            FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::smallint[], $5::bigint[], $6::text[])
                WITH ORDINALITY AS n (group_key, session_id, from_role, to_role, term, reason, place)
            JOIN groups g ON g.group_key = n.group_key
            ORDER BY n.place
            RETURNING transition_id
        )
        SELECT count(*) AS written, max(transition_id) AS newest, pg_notify($9, '') FROM written";

    let rows: Vec<(&StoredGroup, &Transition)> =
        groups.iter().flat_map(|stored| stored.trace.iter().map(move |transition| (stored, transition))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    if connection.is_spread() {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(stored, t)| TraceRow {
                key: stored.key.0,
                session: &stored.session_ids[t.session],
                from: t.from,
                to: t.to,
                term: t.term.0,
                reason: t.reason.name(),
            })
            .collect();
        return save_trace_spread(connection, &rows, actor_text(actor), clock.now).await;
    }
    let life = connection.life();
    let written = sqlx::query(INSERT)
        .bind(rows.iter().map(|(stored, _)| stored.key.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|(stored, t)| stored.session_ids[t.session].as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, t)| t.from.number()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, t)| t.to.number()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, t)| t.term.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, t)| t.reason.name()).collect::<Vec<_>>())
        .bind(actor_text(actor))
        .bind(clock.now)
        .bind(CHANNEL)
        .fetch_one(connection)
        .await?;
    life.note_event(written.try_get("newest")?);
    check_count("role_transitions", rows.len(), written.try_get::<i64, _>("written")?.unsigned_abs())
}

/// A change of a role to be written down.
struct TraceRow<'a> {
    key: Uuid,
    session: &'a str,
    from: Role,
    to: Role,
    term: i64,
    reason: &'static str,
}

/// Where a group is found.
#[derive(sqlx::FromRow)]
struct PathRow {
    group_key: Uuid,
    tenant_id: String,
    namespace_id: String,
    group_id: String,
}

/// Writes changes of roles down, each with an id from the coordinator, and has the commit wake the
/// readers.
async fn save_trace_spread(
    connection: &mut Connection,
    rows: &[TraceRow<'_>],
    actor: &str,
    now: DateTime<Utc>,
) -> Result<(), WorkError> {
    const PATHS: &str = "SELECT group_key, tenant_id, namespace_id, group_id FROM groups WHERE group_key = ANY($1)";
    const INSERT: &str = "
        INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id,
            from_role, to_role, term, reason, actor, recorded_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        RETURNING transition_id AS newest";
    let life = connection.life();
    let keys: Vec<Uuid> = rows.iter().map(|row| row.key).collect();
    let paths: Vec<PathRow> = sqlx::query_as(PATHS).bind(&keys).fetch_all(&mut *connection).await?;
    let paths: HashMap<Uuid, _> = paths.into_iter().map(|path| (path.group_key, path)).collect();
    // One by one: a row that is computed from others would be sent to the coordinator and back.
    // Roles change seldom.
    for row in rows {
        let Some(path) = paths.get(&row.key) else {
            return Err(WorkError::Inconsistent(format!("group {} of a change of role is not there", row.key)));
        };
        let insert = sqlx::query(INSERT).bind(row.key).bind(&path.tenant_id).bind(&path.namespace_id);
        let insert = insert.bind(&path.group_id).bind(row.session);
        let insert = insert.bind(row.from.number()).bind(row.to.number()).bind(row.term).bind(row.reason);
        let written = insert.bind(actor).bind(now).fetch_one(&mut *connection).await?;
        life.note_event(written.try_get("newest")?);
    }
    wake_readers(connection).await
}

fn actor_text(actor: Actor) -> &'static str {
    match actor {
        Actor::Heartbeat => "heartbeat",
        Actor::Sweep => "sweep",
        Actor::Operator => "operator",
    }
}
