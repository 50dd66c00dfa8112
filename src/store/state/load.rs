//! Reading the state of groups.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::places::Sought;
use super::wishes::read_wishes;
use super::{Found, Loaded, Noted, Rhythm, StoredGroup, vacancy_from};
use crate::arbitration::{
    Beat, ClientInstant, FailoverTimeout, Former, Group, Handover, Health, HistoryId, Instant, Role, Session, Term,
};
use crate::ids::GroupKey;
use crate::store::clock::{Clock, NO_LIVENESS, moment, moment_columns, no_moment, read_clock};
use crate::store::columns::{Micros, RowPlace};
use crate::store::connection::{Connection, ReadConnection};
use crate::store::error::WorkError;
use crate::store::options::StoreOptions;
use crate::store::rows::row;
use crate::store::witness::Witness;

// Groups, sessions and heartbeats come in one result, each kind as rows of its own: what one column
// is for a group, another kind has something else in, or nothing.

row! {
    /// A group, and of any row to which of the groups it belongs and of which kind it is.
    struct GroupRow after (place: i64, last_data_send_time), group_columns! {
        kind: i16 = "0::smallint",
        handover_from: Option<&'r str> = "g.handover_from",
        watermark_base_at: Option<Micros> = "g.watermark_base_at",
        handover_until: Option<Micros> = "g.handover_until",
        handover_heard_until: Option<Micros> = "g.handover_heard_until",
        in_doubt_until: Option<Micros> = "g.in_doubt_until",
        _ = "NULL::timestamptz",
        has_wishes: Option<i16> = "g.has_wishes::integer::smallint",
        _ = "NULL::numeric",
        failover_timeout_ticks: Option<i64> = "g.failover_timeout_ticks",
        term: i64 = "g.term",
        vacancy: &'r str = "g.vacancy",
        row_place: Option<RowPlace> = "g.row_place",
        clock_set_back: Option<i64> = "g.clock_set_back",
        history_id: i64 = "g.history_id",
        settled_term: Option<i64> = "g.settled_term",
    }
}

row! {
    /// A session.
    struct SessionRow after (place, last_data_send_time), session_columns! {
        _ = "1::smallint",
        session_id: &'r str = "s.session_id",
        registered_at: Micros = "s.registered_at",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        role: i16 = "s.role",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        registered_by: Option<&'r str> = "s.registered_by",
        row_place: RowPlace = "s.row_place",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
    }
}

row! {
    /// A session's latest heartbeat.
    struct HeartbeatRow after (place, last_data_send_time: Option<Micros>), heartbeat_columns! {
        _ = "2::smallint",
        session_id: &'r str = "h.session_id",
        received_at: Micros = "h.received_at",
        lease_until: Micros = "h.lease_until",
        primary_sent_until: Option<Micros> = "h.primary_sent_until",
        heard_until: Micros = "h.heard_until",
        heard_counts_until: Option<Micros> = "h.heard_counts_until",
        _ = "NULL",
        percent_healthy_streams: Decimal = "h.percent_healthy_streams",
        data_still_ms: Option<i64> = "h.data_still_ms",
        rhythm: i64 = "h.rhythm",
        _ = "NULL",
        row_place: RowPlace = "h.row_place",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
    }
}

/// What is read first: the groups (`g`) in the order of their keys (`k`), and the moment (`m`).
macro_rules! groups_and_moment {
    () => {
        concat!(
            "k.place, NULL::timestamptz AS last_data_send_time, ",
            group_columns!(),
            ", ",
            moment_columns!(),
            ", m.clock_set_back AS latest_set_back"
        )
    };
}

const KIND_GROUP: i16 = 0;
const KIND_SESSION: i16 = 1;

/// Reads the whole state of these groups, in their order, and the clock, in one statement: what a
/// decision in a serializable transaction rests on. The clock is read in the statement that takes
/// the snapshot: not before it, and once. Where it was set back since their leases were given, they
/// are based anew on it first.
pub async fn load(
    connection: &mut Connection,
    keys: &[Uuid],
    options: &StoreOptions,
) -> Result<(Clock, Vec<Loaded>), WorkError> {
    let witness = call_witness(connection);
    load_before(&witness, connection, keys, options).await
}

/// Who is called before the first statement of a transaction that reads more than once.
pub fn call_witness(connection: &ReadConnection) -> Witness {
    connection.call_witness()
}

/// As [`load`], in a transaction that may have read before: its snapshot was taken after the
/// witness was called.
pub async fn load_before(
    witness: &Witness,
    connection: &mut Connection,
    keys: &[Uuid],
    options: &StoreOptions,
) -> Result<(Clock, Vec<Loaded>), WorkError> {
    let read = read_state(witness, connection, keys, options).await?;
    if read.of_an_old_clock.is_empty() {
        return Ok((read.clock, read.groups));
    }
    sqlx::query("SELECT base_leases_anew($1)").bind(&read.of_an_old_clock).execute(&mut *connection).await?;
    let read = read_state(witness, connection, keys, options).await?;
    Ok((read.clock, read.groups))
}

/// Of a group only what most heartbeats are decided on (`arbitration::changes_nothing`): some of
/// its sessions, its Primary, and those of whom something is wished. Nobody else holds a role, and
/// the watermark is that of all. `None` where that is not enough: the group is read whole then, and
/// decided on by this clock.
pub type Part = Option<Loaded>;

/// As [`load`], a part of each group: of these sessions, each given with its group's place among
/// the keys.
pub async fn load_in_part(
    witness: &Witness,
    connection: &mut ReadConnection,
    keys: &[Uuid],
    sessions: &[(usize, &str)],
    options: &StoreOptions,
) -> Result<(Clock, Vec<Part>), WorkError> {
    // The Primary is found by the index that allows one.
    const LOAD: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$4"),
        "),
        k AS MATERIALIZED (SELECT * FROM unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, place)),
        n AS MATERIALIZED (SELECT unnest($2::bigint[]) AS place, unnest($3::text[]) AS session_id),
        s AS MATERIALIZED (
            SELECT k.place, k.group_key, s.* FROM n JOIN k USING (place) CROSS JOIN LATERAL (
                SELECT session_id, registered_at, role, registered_by, ctid AS row_place FROM sessions
                WHERE group_key = k.group_key AND session_id = n.session_id OFFSET 0
            ) s
            UNION
            SELECT k.place, k.group_key, s.* FROM k CROSS JOIN LATERAL (
                SELECT session_id, registered_at, role, registered_by, ctid AS row_place FROM sessions
                WHERE group_key = k.group_key AND role = 1 OFFSET 0
            ) s
            UNION
            SELECT k.place, k.group_key, s.* FROM k CROSS JOIN LATERAL (
                SELECT s.session_id, s.registered_at, s.role, s.registered_by, s.ctid AS row_place
                FROM session_wishes JOIN sessions s USING (group_key, session_id)
                WHERE group_key = k.group_key AND EXISTS (SELECT FROM groups WHERE group_key = k.group_key AND has_wishes)
                OFFSET 0
            ) s
        )
        SELECT ",
        groups_and_moment!(),
        "
        FROM k
        LEFT JOIN (SELECT *, ctid AS row_place FROM groups) g ON g.group_key = k.group_key
        LEFT JOIN moment m ON k.place = 1
        UNION ALL
        SELECT s.place, NULL, ",
        session_columns!(),
        no_moment!(),
        ", NULL FROM s
        UNION ALL
        SELECT s.place, h.last_data_send_time, ",
        heartbeat_columns!(),
        no_moment!(),
        ", NULL FROM s CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM heartbeats h WHERE h.group_key = s.group_key AND h.session_id = s.session_id OFFSET 0
        ) h"
    );
    let places: Vec<i64> = sessions.iter().map(|(place, _)| *place as i64 + 1).collect();
    let ids: Vec<&str> = sessions.iter().map(|(_, id)| *id).collect();
    let query = sqlx::query(LOAD).bind(keys).bind(places).bind(ids).bind(witness.asks());
    let rows = query.fetch_all(&mut *connection).await?;
    let mut read = read_rows(&rows, None, keys, witness, options)?;
    read_wishes(connection, &mut read.groups).await?;
    Ok((read.clock, parts_of(read.groups, keys, &read.of_an_old_clock)))
}

/// As [`load_in_part`], of groups whose rows are sought by their places. `None` also for one that
/// was not found so: what is wanted of it has to be read by key.
pub async fn load_by_places(
    witness: &Witness,
    connection: &mut ReadConnection,
    sought: &[&Sought],
    options: &StoreOptions,
) -> Result<(Clock, Vec<Option<StoredGroup>>), WorkError> {
    const LOAD: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$7"),
        "),
        k AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::tid[]) WITH ORDINALITY AS k (group_key, row_place, place)),
        members AS MATERIALIZED (
            SELECT unnest($3::bigint[]) AS place, unnest($4::uuid[]) AS group_key, unnest($5::tid[]) AS session, unnest($6::tid[]) AS heartbeat
        )
        SELECT ",
        groups_and_moment!(),
        "
        FROM k
        LEFT JOIN LATERAL (
            SELECT *, ctid AS row_place FROM groups g WHERE g.ctid = k.row_place AND g.group_key = k.group_key OFFSET 0
        ) g ON true
        LEFT JOIN moment m ON k.place = 1
        UNION ALL
        SELECT n.place, NULL, ",
        session_columns!(),
        no_moment!(),
        ", NULL FROM members n CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM sessions s WHERE s.ctid = n.session AND s.group_key = n.group_key OFFSET 0
        ) s
        UNION ALL
        SELECT n.place, h.last_data_send_time, ",
        heartbeat_columns!(),
        no_moment!(),
        ", NULL FROM members n CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM heartbeats h WHERE h.ctid = n.heartbeat AND h.group_key = n.group_key OFFSET 0
        ) h"
    );
    let keys: Vec<Uuid> = sought.iter().map(|sought| sought.key).collect();
    let count = sought.iter().map(|sought| sought.members.len()).sum();
    let (mut places, mut group_keys) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut sessions, mut heartbeats) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (place, sought) in sought.iter().enumerate() {
        for (session, heartbeat) in &sought.members {
            places.push(place as i64 + 1);
            group_keys.push(sought.key);
            sessions.push(*session);
            heartbeats.push(*heartbeat);
        }
    }
    let rows = sqlx::query(LOAD)
        .bind(&keys)
        .bind(sought.iter().map(|sought| sought.row).collect::<Vec<_>>())
        .bind(places)
        .bind(group_keys)
        .bind(sessions)
        .bind(heartbeats)
        .bind(witness.asks())
        .fetch_all(connection)
        .await?;
    let read = read_rows(&rows, None, &keys, witness, options)?;
    let parts = parts_of(read.groups, &keys, &read.of_an_old_clock).into_iter();
    // A group that is not where it was sought may be elsewhere, and so may its wishes.
    let found = parts.map(|part| part?.and_then(Result::ok).filter(|stored| !stored.found.has_wishes));
    Ok((read.clock, found.collect()))
}

/// What was read in part, where that is enough.
fn parts_of(groups: Vec<Loaded>, keys: &[Uuid], of_an_old_clock: &[Uuid]) -> Vec<Part> {
    let part = |(key, loaded): (&Uuid, Loaded)| match loaded {
        _ if of_an_old_clock.contains(key) => None,
        Some(Ok(stored)) if stored.group.handover.is_some() || !stored.is_settled() => None,
        Some(Ok(stored)) => Some(Some(Ok(StoredGroup { is_part: true, ..stored }))),
        none => Some(none),
    };
    std::iter::zip(keys, groups).map(part).collect()
}

/// What [`load`] reads.
struct StateRead {
    clock: Clock,
    groups: Vec<Loaded>,
    /// The groups whose leases were given before the clock was set back.
    of_an_old_clock: Vec<Uuid>,
}

/// Groups, sessions and heartbeats come as rows of their own, each kind by one walk along its
/// primary key for each group: joined, a heartbeat would be looked up for each session, and the
/// group's columns repeated. The walks are held apart from the planner (OFFSET 0): where a tenant
/// has large groups, it would read whole tables for a batch of small ones.
async fn read_state(
    witness: &Witness,
    connection: &mut ReadConnection,
    keys: &[Uuid],
    options: &StoreOptions,
) -> Result<StateRead, WorkError> {
    // The clock comes with the first row, and only with it. Of a group that is not there, only its
    // place comes.
    const LOAD: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$2"),
        "),
        k AS MATERIALIZED (SELECT * FROM unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, place))
        SELECT ",
        groups_and_moment!(),
        "
        FROM k
        LEFT JOIN (SELECT *, ctid AS row_place FROM groups) g ON g.group_key = k.group_key
        LEFT JOIN moment m ON k.place = 1
        UNION ALL
        SELECT k.place, NULL, ",
        session_columns!(),
        no_moment!(),
        ", NULL FROM k CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM sessions s WHERE s.group_key = k.group_key OFFSET 0
        ) s
        UNION ALL
        SELECT k.place, h.last_data_send_time, ",
        heartbeat_columns!(),
        no_moment!(),
        ", NULL FROM k CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM heartbeats h WHERE h.group_key = k.group_key OFFSET 0
        ) h"
    );
    if connection.is_spread() {
        let (rows, moment) = load_spread(connection, keys, witness).await?;
        let mut read = read_rows(&rows, moment.as_ref(), keys, witness, options)?;
        read_wishes(connection, &mut read.groups).await?;
        return Ok(read);
    }
    let rows = sqlx::query(LOAD).bind(keys).bind(witness.asks()).fetch_all(&mut *connection).await?;
    let mut read = read_rows(&rows, None, keys, witness, options)?;
    read_wishes(connection, &mut read.groups).await?;
    Ok(read)
}

/// The moment is a row of its own where groups are spread, and otherwise within the first of the
/// rows.
fn read_rows(
    rows: &[PgRow],
    moment: Option<&PgRow>,
    keys: &[Uuid],
    witness: &Witness,
    options: &StoreOptions,
) -> Result<StateRead, WorkError> {
    let mut found: Vec<Rows<'_>> = keys.iter().map(|_| Rows::default()).collect();
    let mut clock = moment.map(|moment| read_clock(moment, witness, options)).transpose()?;
    let mut set_back = moment.map_or(Ok(0), |moment| moment.try_get("clock_set_back"))?;
    let mut of_an_old_clock = Vec::new();
    for row in rows {
        let group = GroupRow::of(row);
        let place = group.place()?;
        let Some(rows) = found.get_mut(place as usize - 1) else { continue };
        match group.kind()? {
            KIND_GROUP => {
                let has_moment = || Ok::<_, sqlx::Error>(row.try_get::<Option<DateTime<Utc>>, _>("now")?.is_some());
                if moment.is_none() && place == 1 && has_moment()? {
                    clock = Some(read_clock(row, witness, options)?);
                    set_back = row.try_get("latest_set_back")?;
                }
                // The first row is the first of the first group's, and groups come first.
                if group.clock_set_back()?.is_some_and(|known| known < set_back) {
                    of_an_old_clock.push(keys[place as usize - 1]);
                }
                rows.group = Some(group);
            }
            KIND_SESSION => rows.sessions.push(SessionRow::of(row)),
            _ => {
                let heartbeat = HeartbeatRow::of(row);
                rows.heartbeats.push((heartbeat.session_id()?, heartbeat));
            }
        }
    }
    let clock = match (clock, keys) {
        (Some(clock), _) => clock,
        // Without groups there is no row to bring the clock, and nothing to decide by it.
        (None, []) => Clock::of_nothing(),
        (None, _) => return Err(WorkError::Inconsistent(NO_LIVENESS.to_owned())),
    };
    let groups = std::iter::zip(keys, found)
        .map(|(key, rows)| read_group(GroupKey(*key), rows))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(StateRead { clock, groups, of_an_old_clock })
}

/// The rows of one group.
#[derive(Default)]
struct Rows<'r> {
    group: Option<GroupRow<'r>>,
    sessions: Vec<SessionRow<'r>>,
    /// By the id of their session.
    heartbeats: Vec<(&'r str, HeartbeatRow<'r>)>,
}

/// The outer error is the connection's; the inner one is the group's.
fn read_group(key: GroupKey, mut rows: Rows<'_>) -> Result<Loaded, sqlx::Error> {
    let Some(row) = rows.group else { return Ok(None) };
    let Some(ticks) = row.failover_timeout_ticks()? else { return Ok(None) };
    rows.heartbeats.sort_unstable_by_key(|(id, _)| *id);
    let mut sessions = Vec::with_capacity(rows.sessions.len());
    for row in rows.sessions {
        sessions.push((row.registered_at()?, row.session_id()?, row));
    }
    sessions.sort_unstable_by_key(|(registered_at, id, _)| (*registered_at, *id));

    let session_ids: Vec<String> = sessions.iter().map(|(_, id, _)| (*id).to_owned()).collect();
    let mut read = Vec::with_capacity(sessions.len());
    let mut places = Vec::with_capacity(sessions.len());
    let mut session_places = Vec::with_capacity(sessions.len());
    let mut registrants = Vec::with_capacity(sessions.len());
    let mut noted = Vec::with_capacity(sessions.len());
    for (_, id, row) in &sessions {
        registrants.push(row.registered_by()?.map(Box::from));
        session_places.push(Some(row.row_place()?));
        let heartbeat = rows.heartbeats.binary_search_by_key(id, |(id, _)| *id).ok().map(|at| rows.heartbeats[at].1);
        places.push(heartbeat.map(HeartbeatRow::row_place).transpose()?);
        noted.push(heartbeat.map(read_noted).transpose()?.unwrap_or_default());
        match read_session(*row, heartbeat)? {
            Some(session) => read.push(session),
            None => return Ok(Some(Err(format!("role or health of session '{id}'")))),
        }
    }
    let (Some(timeout), Some(vacancy)) = (FailoverTimeout::from_ticks(ticks), vacancy_from(row.vacancy()?)) else {
        return Ok(Some(Err("failover_timeout_ticks or vacancy".to_owned())));
    };
    let micros = |at: Option<Micros>| at.map(Instant::from);
    let handover = match (row.handover_from()?, micros(row.handover_until()?), row.handover_heard_until()?) {
        (None, Some(until), _) => Some(Handover { from: Former::Gone, until }),
        (Some(from), Some(until), Some(Micros(heard_until))) => {
            // One that yielded and is not there any more was deleted by a replica that keeps no
            // handover from it.
            session_ids.iter().position(|id| id == from).map(|session| {
                let heard_until = ClientInstant(heard_until);
                Handover { from: Former::Yielding { session, heard_until }, until }
            })
        }
        _ => None,
    };
    let group = Group {
        timeout,
        term: Term(row.term()?),
        vacancy,
        handover,
        watermark_base: micros(row.watermark_base_at()?),
        history: HistoryId(row.history_id()?),
        in_doubt_until: micros(row.in_doubt_until()?),
        sessions: read,
    };
    if !group.is_consistent() {
        return Ok(Some(Err("more than one holder of a role, or a Primary beside a handover".to_owned())));
    }
    let found = Found {
        term: group.term,
        vacancy: group.vacancy,
        handover: group.handover,
        watermark_base: group.watermark_base,
        history: group.history,
        in_doubt_until: group.in_doubt_until,
        roles: group.sessions.iter().map(|session| session.role).collect(),
        has_wishes: row.has_wishes()? == Some(1),
        wishes: vec![None; group.sessions.len()],
        settled_term: row.settled_term()?.map(Term),
        row: row.row_place()?,
        sessions: session_places,
        heartbeats: places,
    };
    Ok(Some(Ok(StoredGroup {
        key,
        group,
        session_ids,
        registrants,
        noted,
        trace: Vec::new(),
        received: BTreeMap::new(),
        wisher: None,
        is_part: false,
        stayed: false,
        settled_term: found.settled_term,
        found,
    })))
}

fn read_session(session: SessionRow<'_>, heartbeat: Option<HeartbeatRow<'_>>) -> Result<Option<Session>, sqlx::Error> {
    let Some(role) = Role::from_number(session.role()?) else { return Ok(None) };
    let Some(row) = heartbeat else { return Ok(Some(Session { role, beat: None, sent_until: None, wish: None })) };
    let Some(health) = Health::new(row.percent_healthy_streams()?) else { return Ok(None) };
    let Micros(heard_until) = row.heard_until()?;
    let received_at = row.received_at()?.into();
    let lease_until = row.lease_until()?.into();
    // A replica of an earlier version leaves this as it was when it stores a heartbeat, or null:
    // then nothing is known of when what it heard was heard, and it counts as if with that
    // heartbeat.
    let heard_counts_until = row.heard_counts_until()?.map(Instant::from);
    let heard_counts_until = heard_counts_until.filter(|until| *until >= received_at).unwrap_or(lease_until);
    let beat = Beat { health, heard_until: ClientInstant(heard_until), heard_counts_until, received_at, lease_until };
    Ok(Some(Session { role, beat: Some(beat), sent_until: row.primary_sent_until()?.map(Instant::from), wish: None }))
}

fn read_noted(row: HeartbeatRow<'_>) -> Result<Noted, sqlx::Error> {
    // They are of that size in the table.
    let small = |number: i64| i32::try_from(number).unwrap_or_default();
    Ok(Noted {
        data_sent_until: row.last_data_send_time()?.map(Instant::from),
        rhythm: Rhythm::unpacked(small(row.rhythm()?), row.data_still_ms()?.map(small)),
    })
}

/// Where groups are spread: their state in rows of the same form, and after that the
/// moment of the decision, which is the coordinator's: the snapshot is that of the groups' node,
/// and the clock is read after it.
///
/// The coordinator's own snapshot is a little older. Where an outage or a set clock was noted in
/// between, its last sign of life is too old or of the future, and nothing is decided. Where a
/// history was, a group that has gone over into it may be led over twice, which leaves it in doubt
/// for no longer.
///
/// Each group is told with the node that told it. One that is not as it was noted, because a
/// standby was promoted, may lack grants: nothing is decided on it before a sign of life has noted
/// another history.
async fn load_spread(
    connection: &mut ReadConnection,
    keys: &[Uuid],
    witness: &Witness,
) -> Result<(Vec<PgRow>, Option<PgRow>), WorkError> {
    // What a row's place in the table is does not matter here; that there is a row does.
    const LOAD: &str = concat!(
        "SELECT array_position($1::uuid[], g.group_key)::bigint AS place, NULL::timestamptz AS last_data_send_time, ",
        group_columns!(),
        ", identity_of_node() AS node
        FROM (SELECT *, '(0,1)'::tid AS row_place FROM groups WHERE group_key = ANY($1)) g
        UNION ALL
        SELECT array_position($1::uuid[], s.group_key)::bigint, NULL, ",
        session_columns!(),
        ", NULL FROM (SELECT *, '(0,1)'::tid AS row_place FROM sessions WHERE group_key = ANY($1)) s
        UNION ALL
        SELECT array_position($1::uuid[], h.group_key)::bigint, h.last_data_send_time, ",
        heartbeat_columns!(),
        ", NULL FROM (SELECT *, '(0,1)'::tid AS row_place FROM heartbeats WHERE group_key = ANY($1)) h"
    );
    if keys.is_empty() {
        return Ok((Vec::new(), None));
    }
    const MOMENT: &str =
        concat!("SELECT m.*, ARRAY(SELECT identity FROM service_nodes) AS nodes FROM (", moment!("$1"), ") m");
    let rows = sqlx::query(LOAD).bind(keys).fetch_all(&mut *connection).await?;
    let moment = sqlx::query(MOMENT).bind(witness.asks()).fetch_optional(connection).await?;
    if let Some(moment) = &moment {
        let known: Vec<String> = moment.try_get("nodes")?;
        for row in &rows {
            let node: Option<String> = row.try_get("node")?;
            if node.is_some_and(|node| !known.contains(&node)) {
                witness.life.question_nodes();
                return Err(WorkError::AnotherHistory);
            }
        }
    }
    Ok((rows, moment))
}
