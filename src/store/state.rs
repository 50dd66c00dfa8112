//! The state that roles are decided on: read whole, decided in memory, and what changed written
//! back.
//!
//! Rows are validated here, so that bad data is an error of one group and never a panic or a wrong
//! decision.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use uuid::Uuid;

use super::columns::{Micros, RowPlace};
use super::connection::{Connection, ReadConnection};
use super::histories::{Witness, moment, moment_columns, no_moment};
use super::rows::row;
use super::{StoreOptions, WorkError, events, spread};
use crate::arbitration::{
    Beat, ClientInstant, FailoverTimeout, Former, Group, Handover, Health, History, HistoryId, Instant, Moment, Outage,
    Role, Session, Term, Transition, Vacancy,
};
use crate::ids::GroupKey;

/// The database's clock at a snapshot, and the outages that leases are judged by.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Read once, after the snapshot.
    pub now: DateTime<Utc>,
    outages: Vec<Outage>,
    history: Option<History>,
    in_history_since: Option<std::time::Instant>,
}

impl Clock {
    /// As arbitration wants it.
    pub fn moment(&self) -> Moment<'_> {
        Moment { now: instant(self.now), outages: &self.outages, history: self.history }
    }

    /// Whether what reached this replica then was sent after the present history of the database
    /// was noticed, for certain.
    pub fn is_of_present_history(&self, arrived_at: std::time::Instant) -> bool {
        self.in_history_since.is_some_and(|since| arrived_at >= since)
    }
}

/// A group as a transaction found it, and what it has done to it since.
#[derive(Debug)]
pub struct StoredGroup {
    /// Its key.
    pub key: GroupKey,
    /// The state that is decided on. Changes to it are written by [`save`].
    pub group: Group,
    /// The ids of the sessions, in the order of [`Group::sessions`].
    pub session_ids: Vec<String>,
    /// The changes of roles, in order.
    pub trace: Vec<Transition>,
    /// Heartbeats to be written, by session: the latest counts.
    pub received: BTreeMap<usize, ReportedTimes>,
    found: Found,
}

/// What a heartbeat said that arbitration does not need, kept to be shown.
#[derive(Clone, Copy, Debug)]
pub struct ReportedTimes {
    /// When the client sent it, by its own clock.
    pub heartbeat_time: DateTime<Utc>,
    /// The time of the last data it sent, uncut.
    pub last_data_send_time: Option<DateTime<Utc>>,
}

/// What was there before, to tell what changed.
#[derive(Debug)]
struct Found {
    term: Term,
    vacancy: Vacancy,
    handover: Option<Handover>,
    watermark_base: Option<Instant>,
    history: HistoryId,
    in_doubt_until: Option<Instant>,
    roles: Vec<Role>,
    /// Where each session's heartbeat lies, if it has one.
    heartbeats: Vec<Option<RowPlace>>,
}

/// Who made a change.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// A client's heartbeat.
    Heartbeat,
    /// The background sweep.
    Sweep,
    /// A request that is not a heartbeat: a deletion.
    Operator,
}

impl StoredGroup {
    /// The place of a session in the group.
    pub fn find_session(&self, id: &str) -> Option<usize> {
        self.session_ids.iter().position(|known| known == id)
    }
}

/// What [`load`] found for one key: nothing, a group, or one whose rows break a rule.
pub type Loaded = Option<Result<StoredGroup, String>>;

// Groups, sessions and heartbeats come in one result, each kind as rows of its own: what one column
// is for a group, another kind has something else in, or nothing.

row! {
    /// A group, and of any row to which of the groups it belongs and of which kind it is.
    struct GroupRow after (place: i64, sent_until: Option<Micros>), group_columns! {
        kind: i16 = "0::smallint",
        handover_from: Option<&'r str> = "g.handover_from",
        watermark_base_at: Option<Micros> = "g.watermark_base_at",
        handover_until: Option<Micros> = "g.handover_until",
        handover_heard_until: Option<Micros> = "g.handover_heard_until",
        in_doubt_until: Option<Micros> = "g.in_doubt_until",
        _ = "NULL::timestamptz",
        _ = "NULL::smallint",
        _ = "NULL::numeric",
        failover_timeout_ticks: Option<i64> = "g.failover_timeout_ticks",
        term: i64 = "g.term",
        vacancy: &'r str = "g.vacancy",
        _ = "NULL::tid",
        clock_set_back: Option<i64> = "g.clock_set_back",
        history_id: i64 = "g.history_id",
    }
}

row! {
    /// A session.
    struct SessionRow after (place, sent_until), session_columns! {
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
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
    }
}

row! {
    /// A session's latest heartbeat.
    struct HeartbeatRow after (place, sent_until), heartbeat_columns! {
        _ = "2::smallint",
        session_id: &'r str = "h.session_id",
        received_at: Micros = "h.received_at",
        lease_until: Micros = "h.lease_until",
        primary_sent_until: Option<Micros> = "h.primary_sent_until",
        heard_until: Micros = "h.heard_until",
        heard_counts_until: Option<Micros> = "h.heard_counts_until",
        _ = "NULL",
        percent_healthy_streams: Decimal = "h.percent_healthy_streams",
        _ = "NULL",
        _ = "NULL",
        _ = "NULL",
        row_place: RowPlace = "h.row_place",
        _ = "NULL",
        _ = "NULL",
    }
}

pub(super) use {group_columns, heartbeat_columns, session_columns};

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
    let read = read_state(connection, keys, options).await?;
    if read.of_an_old_clock.is_empty() {
        return Ok((read.clock, read.groups));
    }
    sqlx::query("SELECT base_leases_anew($1)").bind(&read.of_an_old_clock).execute(&mut *connection).await?;
    let read = read_state(connection, keys, options).await?;
    Ok((read.clock, read.groups))
}

/// As [`load`], for one group of many sessions: only these sessions of it and those that hold a
/// role, which is all that most heartbeats are decided on (`arbitration::changes_nothing`). The
/// watermark is that of all. Nothing where that is not enough: where a handover is open, or leases
/// have to be based anew. What is read whole after that is decided on by this clock.
pub async fn load_in_part(
    connection: &mut ReadConnection,
    key: Uuid,
    session_ids: &[&str],
    options: &StoreOptions,
) -> Result<(Clock, Option<Loaded>), WorkError> {
    // Holders are found by the indexes that allow one of each. What the others sent is one number,
    // made where the rows are.
    const LOAD: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$3"),
        "),
        s AS MATERIALIZED (
            SELECT session_id, registered_at, role FROM sessions WHERE group_key = $1 AND session_id = ANY ($2)
            UNION
            SELECT session_id, registered_at, role FROM sessions WHERE group_key = $1 AND role = 1
            UNION
            SELECT session_id, registered_at, role FROM sessions WHERE group_key = $1 AND role = 2
        )
        SELECT k.place, (SELECT max(primary_sent_until) FROM heartbeats WHERE group_key = $1) AS sent_until, ",
        group_columns!(),
        ", ",
        moment_columns!(),
        ", m.clock_set_back AS latest_set_back
        FROM (VALUES (1::bigint)) k (place)
        CROSS JOIN moment m
        LEFT JOIN groups g ON g.group_key = $1
        UNION ALL
        SELECT 1, NULL, ",
        session_columns!(),
        no_moment!(),
        ", NULL FROM s
        UNION ALL
        SELECT 1, NULL, ",
        heartbeat_columns!(),
        no_moment!(),
        ", NULL FROM s CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM heartbeats h WHERE h.group_key = $1 AND h.session_id = s.session_id OFFSET 0
        ) h"
    );
    let witness = connection.call_witness();
    let rows = sqlx::query(LOAD).bind(key).bind(session_ids).bind(witness.asks()).fetch_all(connection).await?;
    let mut read = read_rows(&rows, None, &[key], &witness, options)?;
    let is_of_an_old_clock = !read.of_an_old_clock.is_empty();
    let loaded = read.groups.pop().flatten();
    let is_enough = !is_of_an_old_clock
        && loaded.as_ref().is_none_or(|loaded| loaded.as_ref().is_ok_and(|stored| stored.group.handover.is_none()));
    Ok((read.clock, is_enough.then_some(loaded)))
}

/// The clock alone, for a serializable transaction that decides on no state of a group. It comes
/// first in it.
pub async fn read_moment(connection: &mut ReadConnection, options: &StoreOptions) -> Result<Clock, WorkError> {
    let witness = connection.call_witness();
    let asked = sqlx::query(moment!("$1")).bind(witness.asks()).fetch_optional(connection).await?;
    let row = asked.ok_or_else(|| WorkError::Inconsistent(NO_LIVENESS.to_owned()))?;
    read_clock(&row, &witness, options)
}

const NO_LIVENESS: &str = "service_liveness has no row";

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
        SELECT k.place, NULL::timestamptz AS sent_until, ",
        group_columns!(),
        ", ",
        moment_columns!(),
        ", m.clock_set_back AS latest_set_back
        FROM k
        LEFT JOIN groups g ON g.group_key = k.group_key
        LEFT JOIN moment m ON k.place = 1
        UNION ALL
        SELECT k.place, NULL, ",
        session_columns!(),
        no_moment!(),
        ", NULL FROM k CROSS JOIN LATERAL (
            SELECT * FROM sessions s WHERE s.group_key = k.group_key OFFSET 0
        ) s
        UNION ALL
        SELECT k.place, NULL, ",
        heartbeat_columns!(),
        no_moment!(),
        ", NULL FROM k CROSS JOIN LATERAL (
            SELECT *, ctid AS row_place FROM heartbeats h WHERE h.group_key = k.group_key OFFSET 0
        ) h"
    );
    let witness = connection.call_witness();
    if connection.is_spread() {
        let (rows, moment) = spread::load(connection, keys, &witness).await?;
        return read_rows(&rows, moment.as_ref(), keys, &witness, options);
    }
    let rows = sqlx::query(LOAD).bind(keys).bind(witness.asks()).fetch_all(connection).await?;
    read_rows(&rows, None, keys, &witness, options)
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
        (None, []) => {
            Clock { now: DateTime::<Utc>::MIN_UTC, outages: Vec::new(), history: None, in_history_since: None }
        }
        (None, _) => return Err(WorkError::Inconsistent(NO_LIVENESS.to_owned())),
    };
    let groups = std::iter::zip(keys, found)
        .map(|(key, rows)| read_group(GroupKey(*key), rows))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(StateRead { clock, groups, of_an_old_clock })
}

/// By so much two readings of a clock that nobody sets may seem to go back.
const READINGS_OF_ONE_CLOCK: TimeDelta = TimeDelta::milliseconds(20);

/// The rows of one group.
#[derive(Default)]
struct Rows<'r> {
    group: Option<GroupRow<'r>>,
    sessions: Vec<SessionRow<'r>>,
    /// By the id of their session.
    heartbeats: Vec<(&'r str, HeartbeatRow<'r>)>,
}

/// Where the database is in another history, the last sign of life is too old, or the clock was set
/// since it was given: nothing is decided before that is recorded.
pub(super) fn read_clock(row: &PgRow, witness: &Witness, options: &StoreOptions) -> Result<Clock, WorkError> {
    let history = witness.look_at(row)?;
    let life = &witness.life;
    let now: DateTime<Utc> = row.try_get("now")?;
    let alive_at: DateTime<Utc> = row.try_get("alive_at")?;
    let is_alive = match (now - alive_at).to_std() {
        Ok(silence) => silence <= life.longest_silence(options),
        Err(_) => alive_at - now <= READINGS_OF_ONE_CLOCK,
    };
    if !is_alive || life.is_ahead(now) {
        return Err(WorkError::ServiceWasAway);
    }
    let began: Vec<Micros> = row.try_get("began")?;
    let recovered: Vec<Micros> = row.try_get("recovered")?;
    let gaps_us: Vec<i64> = row.try_get("gaps_us")?;
    let steps_us: Vec<i64> = row.try_get("steps_us")?;
    let outages = std::iter::zip(std::iter::zip(began, recovered), std::iter::zip(gaps_us, steps_us))
        .map(|((began, recovered), (gap_us, clock_step_us))| Outage {
            began_at: began.into(),
            recovered_at: recovered.into(),
            gap_us,
            clock_step_us,
        })
        .collect();
    Ok(Clock { now, outages, history, in_history_since: witness.in_history_since() })
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
    for (_, id, row) in &sessions {
        let heartbeat = rows.heartbeats.binary_search_by_key(id, |(id, _)| *id).ok().map(|at| rows.heartbeats[at].1);
        places.push(heartbeat.map(HeartbeatRow::row_place).transpose()?);
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
        // What was sent by sessions that are not read is as much beneath the watermark as what is
        // kept of deleted ones.
        watermark_base: micros(row.watermark_base_at()?.max(row.sent_until()?)),
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
        heartbeats: places,
    };
    Ok(Some(Ok(StoredGroup { key, group, session_ids, trace: Vec::new(), received: BTreeMap::new(), found })))
}

fn read_session(session: SessionRow<'_>, heartbeat: Option<HeartbeatRow<'_>>) -> Result<Option<Session>, sqlx::Error> {
    let Some(role) = Role::from_number(session.role()?) else { return Ok(None) };
    let Some(row) = heartbeat else { return Ok(Some(Session { role, beat: None, sent_until: None })) };
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
    Ok(Some(Session { role, beat: Some(beat), sent_until: row.primary_sent_until()?.map(Instant::from) }))
}

/// Writes what was done to these groups: heartbeats, roles, what their sessions share, and the
/// trace.
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
    save_heartbeats(connection, groups).await?;
    save_shared(connection, groups).await?;
    save_roles(connection, clock, groups).await?;
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
            heard_counts_until = "$8::timestamptz[]"
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
    "unnest($9::tid[]) AS row_place) n WHERE h.ctid = n.row_place"
);

/// Where groups are spread.
const UPDATE_BY_KEY: &str = concat!(
    "UPDATE heartbeats h SET ",
    heartbeat_values!(assignments),
    " FROM (SELECT ",
    heartbeat_values!(unnested),
    "unnest($9::uuid[]) AS group_key, unnest($10::text[]) AS session_id) n
    WHERE h.group_key = ANY($9) AND h.group_key = n.group_key AND h.session_id = n.session_id"
);

const INSERT_HEARTBEATS: &str = concat!(
    "INSERT INTO heartbeats (",
    heartbeat_values!(names),
    "group_key, session_id) SELECT * FROM unnest(",
    heartbeat_values!(parameters),
    "$9::uuid[], $10::text[])"
);

async fn save_heartbeats(connection: &mut Connection, groups: &[StoredGroup]) -> Result<(), WorkError> {
    let (stored_before, never_stored) = Columns::of(groups);
    if !stored_before.keys.is_empty() {
        let update = match connection.is_spread() {
            false => stored_before.bind(UPDATE_BY_PLACE).bind(&stored_before.places),
            true => stored_before.bind(UPDATE_BY_KEY).bind(&stored_before.keys).bind(&stored_before.ids),
        };
        stored_before.write(update, connection).await?;
    }
    if !never_stored.keys.is_empty() {
        let insert = never_stored.bind(INSERT_HEARTBEATS).bind(&never_stored.keys).bind(&never_stored.ids);
        never_stored.write(insert, connection).await?;
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
                    handover_heard_until = n.handover_heard_until, history_id = n.history_id, in_doubt_until = n.in_doubt_until
                FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[],
                    $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::timestamptz[])
                    AS n (group_key, term, vacancy, watermark_base_at, handover_from, handover_until, handover_heard_until,
                        history_id, in_doubt_until)
                WHERE g.group_key = n.group_key",
                $of_these
            )
        };
    }
    let statement = match connection.is_spread() {
        false => update!(""),
        true => update!(" AND g.group_key = ANY($1)"),
    };

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
    let statement = match connection.is_spread() {
        false => update!(""),
        true => update!(" AND s.group_key = ANY($1)"),
    };

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
            .map(|(stored, t)| spread::TraceRow {
                key: stored.key.0,
                session: &stored.session_ids[t.session],
                from: t.from,
                to: t.to,
                term: t.term.0,
                reason: t.reason.name(),
            })
            .collect();
        return spread::save_trace(connection, &rows, actor_text(actor), clock.now).await;
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
        .bind(events::CHANNEL)
        .fetch_one(connection)
        .await?;
    life.note_event(written.try_get("newest")?);
    check_count("role_transitions", rows.len(), written.try_get::<i64, _>("written")?.unsigned_abs())
}

impl StoredGroup {
    fn shared_changed(&self) -> bool {
        self.group.term != self.found.term
            || self.group.vacancy != self.found.vacancy
            || self.group.handover != self.found.handover
            || self.group.watermark_base != self.found.watermark_base
            || self.group.history != self.found.history
            || self.group.in_doubt_until != self.found.in_doubt_until
    }
}

/// A statement that names its rows by key touches exactly those, or the snapshot and the code
/// disagree.
pub(super) fn check_count(table: &str, expected: usize, written: u64) -> Result<(), WorkError> {
    match u64::try_from(expected) == Ok(written) {
        true => Ok(()),
        false => {
            Err(WorkError::Inconsistent(format!("{expected} rows of {table} were to be written, and {written} were")))
        }
    }
}

/// An instant as arbitration counts it.
pub fn instant(time: DateTime<Utc>) -> Instant {
    Instant(time.timestamp_micros())
}

pub(super) fn vacancy_text(vacancy: Vacancy) -> &'static str {
    match vacancy {
        Vacancy::NeverHeld => "never_held",
        Vacancy::Lapsed => "lapsed",
        Vacancy::Yielded => "yielded",
        Vacancy::Deleted => "deleted",
    }
}

fn vacancy_from(text: &str) -> Option<Vacancy> {
    [Vacancy::NeverHeld, Vacancy::Lapsed, Vacancy::Yielded, Vacancy::Deleted]
        .into_iter()
        .find(|vacancy| vacancy_text(*vacancy) == text)
}

fn actor_text(actor: Actor) -> &'static str {
    match actor {
        Actor::Heartbeat => "heartbeat",
        Actor::Sweep => "sweep",
        Actor::Operator => "operator",
    }
}
