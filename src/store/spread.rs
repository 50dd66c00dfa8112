//! Statements for a database whose groups are spread over several servers (Citus), and what spreads
//! them.
//!
//! The tables with a group's key are cut into *places* (shards) by it, each on one node. A
//! transaction touches the groups of one place, so that all of it is one serializable transaction
//! of that node, and every statement of it names the keys of its groups: then each is one message
//! to one node. Nothing is told by where a row lies (`ctid`), which is true in one place only.
//!
//! The clock, the signs of life, outages and whatever names no group stay with the coordinator, to
//! which the service connects. See `docs/decisions/0019-beyond-one-postgresql.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use super::columns::Micros;
use super::connection::{Connection, ReadConnection};
use super::events::{CHANNEL, Event, Happening, NewHistory};
use super::groups::LeaseLeft;
use super::histories::{Witness, moment};
use super::state::{check_count, group_columns, heartbeat_columns, session_columns};
use super::status::CensusRow;
use super::{LOCK_TIMEOUT, Store, StoreError, WorkError};
use crate::arbitration::Role;

/// What every connection sets. A transaction has one connection to each node, so that what it does
/// there is one transaction; what is set in it, the nodes are told. A plan for keys that are not
/// known yet would be one for no place.
pub(super) const SETTINGS: &str = "
    SET citus.multi_shard_modify_mode = 'sequential';
    SET citus.max_adaptive_executor_pool_size = 1;
    SET citus.propagate_set_commands = 'local';
    SET plan_cache_mode = 'force_custom_plan'";

/// What the nodes are told, because it has to hold there as well: some of what sessions of the
/// coordinator begin with. They are told with the first statement that goes to them, and so without
/// a message more.
///
/// One message each: of several statements in one, the nodes would be told all, the BEGIN among
/// them.
pub(super) async fn set_for_nodes(connection: &mut Connection) -> Result<(), WorkError> {
    let settings = [("lock_timeout", LOCK_TIMEOUT), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")];
    for (name, value) in settings {
        let set = format!("SET LOCAL {name} = '{value}'");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// How many places are kept in mind, and for how long: the cluster may be given other places
/// meanwhile. A wrong one costs time, and nothing else: every group is whole at its place, and a
/// transaction of two places is one at each.
const MOST_PLACES: usize = 200_000;
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Where groups are, as far as that was asked.
#[derive(Default)]
pub(super) struct Places(Mutex<Known>);

#[derive(Default)]
struct Known {
    places: HashMap<Uuid, i64>,
    since: Option<Instant>,
}

impl Places {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the keys whose place is not known.
    fn unknown(&self, keys: &[Uuid]) -> Vec<Uuid> {
        let mut known = self.known();
        if known.places.len() >= MOST_PLACES || known.since.is_none_or(|since| since.elapsed() >= KNOWN_FOR) {
            *known = Known { places: HashMap::new(), since: Some(Instant::now()) };
        }
        keys.iter().filter(|key| !known.places.contains_key(key)).copied().collect()
    }
}

impl Store {
    /// Looks whether each node is as it was noted, at first and after a decision that met one that
    /// is not: then the database is in another history, which the sign of life that follows notes.
    /// Not with each sign: nodes are asked on connections that are made for it.
    pub(super) async fn note_nodes_in_question(&self) -> Result<(), StoreError> {
        if !self.life().takes_question_of_nodes() {
            return Ok(());
        }
        let store = self.background().for_signs_of_life();
        let noted = store.autocommit("note_nodes", |connection, _| {
            Box::pin(async move { Ok(sqlx::raw_sql("SELECT note_nodes()").execute(connection).await.map(drop)?) })
        });
        let noted = noted.await;
        if noted.is_err() {
            self.life().question_nodes();
        }
        noted
    }

    /// Whether the database's groups are spread over several places, as far as its connections have
    /// shown.
    pub fn is_spread(&self) -> bool {
        self.line.admission().is_spread()
    }

    /// Cuts up by the places of their groups what a transaction each is to be made of. All is of
    /// one place where the database is one, or does not say.
    pub async fn by_place<T>(&self, all: Vec<T>, key_of: impl Fn(&T) -> Uuid) -> Vec<Vec<T>> {
        if !self.is_spread() || all.len() < 2 {
            return vec![all];
        }
        let mut keys: Vec<Uuid> = all.iter().map(&key_of).collect();
        keys.sort_unstable();
        keys.dedup();
        let unknown = self.places.unknown(&keys);
        if !unknown.is_empty() {
            let asked = &unknown;
            let store = self.background();
            let places = store.read("find_places", |connection, _| Box::pin(find_places(connection, asked)));
            match places.await {
                Ok(places) => self.places.known().places.extend(std::iter::zip(unknown.iter().copied(), places)),
                // Whatever is wrong, the transaction finds it too.
                Err(_) => return vec![all],
            }
        }
        let known = self.places.known();
        let mut parts: BTreeMap<Option<i64>, Vec<T>> = BTreeMap::new();
        for one in all {
            parts.entry(known.places.get(&key_of(&one)).copied()).or_default().push(one);
        }
        parts.into_values().collect()
    }
}

async fn find_places(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<i64>, WorkError> {
    const FIND: &str =
        "SELECT place_of_group(group_key) FROM unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, n) ORDER BY n";
    let places: Vec<i64> = sqlx::query_scalar(FIND).bind(keys).fetch_all(connection).await?;
    check_count("places", keys.len(), places.len() as u64)?;
    Ok(places)
}

/// The state of these groups in rows of the form that [`super::state`] reads, and after that the
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
pub(super) async fn load(
    connection: &mut ReadConnection,
    keys: &[Uuid],
    witness: &Witness,
) -> Result<(Vec<PgRow>, Option<PgRow>), WorkError> {
    // What a row's place in the table is does not matter here; that there is a row does.
    const LOAD: &str = concat!(
        "SELECT array_position($1::uuid[], g.group_key)::bigint AS place, NULL::timestamptz AS sent_until, ",
        group_columns!(),
        ", identity_of_node() AS node
        FROM groups g WHERE g.group_key = ANY($1)
        UNION ALL
        SELECT array_position($1::uuid[], s.group_key)::bigint, NULL, ",
        session_columns!(),
        ", NULL FROM sessions s WHERE s.group_key = ANY($1)
        UNION ALL
        SELECT array_position($1::uuid[], h.group_key)::bigint, NULL, ",
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

/// A change of a role to be written down.
pub(super) struct TraceRow<'a> {
    pub(super) key: Uuid,
    pub(super) session: &'a str,
    pub(super) from: Role,
    pub(super) to: Role,
    pub(super) term: i64,
    pub(super) reason: &'static str,
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
pub(super) async fn save_trace(
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

/// Has the commit wake whoever listens. They listen at the coordinator: said within a statement on
/// rows of a node, it would be said there.
pub(super) async fn wake_readers(connection: &mut Connection) -> Result<(), WorkError> {
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(connection).await?;
    Ok(())
}

/// New histories of the database whose bases are among these ids, as events. What else happened is
/// read by itself: one statement is not of the coordinator's rows and of those of all nodes.
pub(super) async fn read_histories(
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

/// How many sessions each of these groups has, in their order.
pub(super) async fn count_sessions(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<usize>, WorkError> {
    const COUNT: &str = "SELECT group_key, count(*) FROM sessions WHERE group_key = ANY($1) GROUP BY group_key";
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(COUNT).bind(keys).fetch_all(connection).await?;
    let counts: HashMap<Uuid, i64> = counts.into_iter().collect();
    let of = |key| usize::try_from(counts.get(key).copied().unwrap_or(0)).unwrap_or(usize::MAX);
    Ok(keys.iter().map(of).collect())
}

/// Of those of the groups in which somebody holds a role, how long until the first of their leases
/// ends.
///
/// Outages, which are the coordinator's, are left out of account: a lease that one of them extends
/// is looked at too early, and judged by the transaction that would take the role.
pub(super) async fn find_leases_left(
    connection: &mut ReadConnection,
    keys: &[Uuid],
) -> Result<Vec<LeaseLeft>, WorkError> {
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

/// What is counted of the next groups in order of key: see [`super::status::read_census_page`].
///
/// By the coordinator's clock and the latest outage that counted for every lease: the function that
/// judges by all of them is not where the rows are, and the difference is over within a timeout.
pub(super) async fn read_census_page(
    connection: &mut ReadConnection,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CensusRow>, WorkError> {
    const PAGE: &str = "SELECT group_key FROM groups WHERE group_key > $1 ORDER BY group_key LIMIT $2";
    const MOMENT: &str = "
        SELECT clock_timestamp() AS now, began_at, recovered_at, history_id, noticed_at FROM (VALUES (1)) one (row) LEFT JOIN (
            SELECT began_at, recovered_at FROM service_outages
            WHERE recovered_at - began_at > counts_from ORDER BY outage_id DESC LIMIT 1
        ) latest ON true LEFT JOIN (
            SELECT history_id, noticed_at FROM service_histories WHERE base > 0 ORDER BY history_id DESC LIMIT 1
        ) history ON true";
    const READ: &str = "
        SELECT g.group_key, g.tenant_id, g.namespace_id, g.group_id, count(m.session_id) AS sessions,
            coalesce(array_agg(trunc(least(3, 4 * date_part('epoch', $3 - m.received_at)
                    / nullif(date_part('epoch', m.ends - m.received_at), 0)))::smallint)
                FILTER (WHERE m.ends > $3), '{}') AS lease_ages,
            (max(m.percent_healthy_streams) FILTER (WHERE m.role = 1 AND m.ends > $3))::float8 AS primary_health,
            coalesce(g.handover_until > $3, false) AS is_handing_over,
            coalesce(CASE
                WHEN g.history_id < $6 THEN greatest(g.in_doubt_until, $7
                    + greatest(g.failover_timeout_ticks / 10 * interval '1 us', max(m.lease_until - m.received_at)))
                ELSE g.in_doubt_until
            END > $3, false) AS is_in_doubt
        FROM groups g
        LEFT JOIN (
            SELECT s.group_key, s.session_id, s.role, h.percent_healthy_streams, h.received_at, h.lease_until,
                CASE
                    WHEN h.received_at < $5 AND h.lease_until > $4
                        THEN greatest(h.lease_until, $5 + (h.lease_until - h.received_at))
                    ELSE h.lease_until
                END AS ends
            FROM sessions s
            LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
                AND h.group_key > $1 AND h.group_key <= $2
            WHERE s.group_key > $1 AND s.group_key <= $2
        ) m ON m.group_key = g.group_key
        WHERE g.group_key > $1 AND g.group_key <= $2
        GROUP BY g.group_key ORDER BY g.group_key";
    let page: Vec<Uuid> = sqlx::query_scalar(PAGE).bind(after).bind(limit).fetch_all(&mut *connection).await?;
    let Some(last) = page.last() else { return Ok(Vec::new()) };
    #[derive(sqlx::FromRow)]
    struct Latest {
        now: Micros,
        began_at: Option<Micros>,
        recovered_at: Option<Micros>,
        history_id: Option<i64>,
        noticed_at: Option<Micros>,
    }
    let latest: Latest = sqlx::query_as(MOMENT).fetch_one(&mut *connection).await?;
    let read = sqlx::query_as(READ).bind(after).bind(last);
    let read = read.bind(latest.now).bind(latest.began_at).bind(latest.recovered_at);
    Ok(read.bind(latest.history_id).bind(latest.noticed_at).fetch_all(connection).await?)
}

/// The tables that are cut up: those with a group's key.
pub const OF_GROUPS: [&str; 6] =
    ["groups", "sessions", "heartbeats", "role_transitions", "configuration_changes", "former_groups"];

/// The oldest extension that hands on the isolation of a transaction and takes these statements, as
/// far as that was tried.
const OLDEST_EXTENSION: (u32, u32) = (12, 1);

/// How long a session of the service may take to end that was just closed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why groups cannot be spread.
#[derive(Debug, thiserror::Error)]
pub enum DistributeError {
    /// The server has no notion of other servers.
    #[error(
        "groups cannot be spread: the database has no extension 'citus'. Make it one of a Citus cluster's coordinator (CREATE EXTENSION citus), or leave --distribute out: on one server nothing is to be spread"
    )]
    NoExtension,
    /// Too old.
    #[error("groups cannot be spread: the extension 'citus' has version {0}, and 12.1 or later is needed")]
    ExtensionTooOld(String),
    /// The cluster is not complete.
    #[error("groups cannot be spread: {0}")]
    NoNodes(&'static str),
    /// Replicas use the tables.
    #[error(
        "groups cannot be spread while the service runs: {0} of its sessions are connected. Stop all replicas, and run this again"
    )]
    InUse(i64),
    /// The database failed, or cannot be reached.
    #[error("the database cannot be used: {0}")]
    Failed(#[from] sqlx::Error),
}

impl Store {
    /// Spreads the groups of a migrated database over the nodes of its cluster; false where they
    /// are spread already. All of it is one transaction. No replica may run: one that began on one
    /// server tells rows by where they lie.
    pub async fn distribute(&self) -> Result<bool, DistributeError> {
        // Those of the migration before.
        self.leave_connections();
        let mut connection = self.connect().await?;
        let _lock = self.lock_migrations(&mut connection).await?;
        if sqlx::query_scalar("SELECT to_regproc('place_of_group') IS NOT NULL").fetch_one(&mut connection).await? {
            return Ok(false);
        }
        let version: Option<String> = sqlx::query_scalar("SELECT extversion FROM pg_extension WHERE extname = 'citus'")
            .fetch_optional(&mut connection)
            .await?;
        let version = version.ok_or(DistributeError::NoExtension)?;
        if !is_new_enough(&version) {
            return Err(DistributeError::ExtensionTooOld(version));
        }
        let (coordinators, nodes): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE groupid = 0), count(*) FILTER (WHERE shouldhaveshards AND isactive) FROM pg_dist_node",
        )
        .fetch_one(&mut connection)
        .await?;
        if coordinators == 0 {
            let what = "the coordinator is not known to its nodes: SELECT citus_set_coordinator_host('…') tells them";
            return Err(DistributeError::NoNodes(what));
        }
        if nodes == 0 {
            return Err(DistributeError::NoNodes("no node takes groups: SELECT citus_add_node('…', 5432) adds one"));
        }
        let began = Instant::now();
        loop {
            let others: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE application_name = 'client-failover' AND datname = current_database() AND pid <> pg_backend_pid()",
            )
            .fetch_one(&mut connection)
            .await?;
            match others {
                0 => break,
                others if began.elapsed() >= PATIENCE => return Err(DistributeError::InUse(others)),
                _ => tokio::time::sleep(PATIENCE / 20).await,
            }
        }
        let mut transaction = connection.begin().await?;
        for statement in statements_that_distribute() {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST_EXTENSION
}

/// Which server each node is. A standby that is promoted without the last commits lacks grants, one
/// of a node as one of the coordinator: so each node says with a group which server it is and on
/// which timeline, and that is noted with the history.
pub const OF_NODES: [&str; 7] = [
    "CREATE TABLE service_nodes (
        node integer NOT NULL,
        identity text NOT NULL,
        CONSTRAINT service_nodes_one_row_per_node PRIMARY KEY (node)
    )",
    "COMMENT ON TABLE service_nodes IS 'Each node of the cluster as the present history has it. On one that is another, nothing is decided.'",
    "COMMENT ON COLUMN service_nodes.identity IS 'Its number, its server as pg_control_system() names it, and the timeline of its log.'",
    "CREATE FUNCTION identity_of_node() RETURNS text LANGUAGE sql VOLATILE RETURN (
        SELECT format('%s/%s/%s', g.groupid, c.system_identifier, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))
        FROM pg_dist_local_group g, pg_control_system() c
    )",
    "SELECT create_distributed_function('identity_of_node()')",
    // Looks again under a lock where something is another: what somebody else saw before may be
    // noted by now.
    //
    // The mark is what an operator does who wants a new history: no server is on a timeline of that
    // name.
    "
    CREATE FUNCTION note_nodes() RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        asking CONSTANT text := format('SELECT %s.identity_of_node()',
            (SELECT p.pronamespace::regnamespace FROM pg_proc p WHERE p.oid = 'identity_of_node'::regproc));
        seen jsonb;
    BEGIN
        FOR is_locked IN 0..1 LOOP
            IF is_locked = 1 THEN
                LOCK TABLE service_nodes IN SHARE ROW EXCLUSIVE MODE;
            END IF;
            SELECT jsonb_object_agg(n.groupid, r.result) INTO seen
            FROM run_command_on_all_nodes(asking) r JOIN pg_dist_node n ON n.nodeid = r.nodeid WHERE r.success;
            IF NOT EXISTS (
                SELECT FROM jsonb_each_text(seen) s LEFT JOIN service_nodes k ON k.node = s.key::integer
                WHERE k.identity IS DISTINCT FROM s.value
            ) THEN
                RETURN;
            END IF;
        END LOOP;
        UPDATE service_histories h SET timeline = h.timeline || was.nodes
        FROM (
            SELECT string_agg(format(' and node %s', k.identity), '' ORDER BY k.node) AS nodes
            FROM jsonb_each_text(seen) s JOIN service_nodes k ON k.node = s.key::integer WHERE k.identity <> s.value
        ) was
        WHERE was.nodes IS NOT NULL AND h.history_id = (SELECT max(history_id) FROM service_histories);
        INSERT INTO service_nodes (node, identity) SELECT s.key::integer, s.value FROM jsonb_each_text(seen) s
        ON CONFLICT (node) DO UPDATE SET identity = excluded.identity;
        DELETE FROM service_nodes k WHERE NOT EXISTS (SELECT FROM pg_dist_node n WHERE n.groupid = k.node);
    END
    $$",
    "COMMENT ON FUNCTION note_nodes() IS 'Looks at every node that answers. Where one is another than noted, the latest history is marked: it is over, and the next sign of life notes a new one.'",
];

fn statements_that_distribute() -> Vec<String> {
    let mut statements = vec![
        // One connection to each node: what one statement makes, the next refers to.
        "SET LOCAL citus.multi_shard_modify_mode = 'sequential'".to_owned(),
        "SET LOCAL statement_timeout = 0".to_owned(),
        "SET LOCAL client_min_messages = 'warning'".to_owned(),
    ];
    statements.extend(OF_GROUPS.map(|table| match table {
        "groups" => "SELECT create_distributed_table('groups', 'group_key')".to_owned(),
        table => format!("SELECT create_distributed_table('{table}', 'group_key', colocate_with => 'groups')"),
    }));
    // A sign of life needs what a heartbeat needs, and that is a commit on every node: the row that
    // all replicas share is written at the coordinator, and with it one on each, in the same
    // transaction. Every node has to have prepared it.
    statements.extend(
        [
            "CREATE TABLE service_signs_of_nodes (
                only_row boolean NOT NULL DEFAULT true,
                signed_at timestamptz NOT NULL,
                CONSTRAINT service_signs_of_nodes_has_one_row PRIMARY KEY (only_row),
                CONSTRAINT service_signs_of_nodes_only_row_is_true CHECK (only_row)
            )",
            "COMMENT ON TABLE service_signs_of_nodes IS 'The last sign of life of any replica, as each node has committed it.'",
            "INSERT INTO service_signs_of_nodes (signed_at) VALUES (clock_timestamp())",
            "SELECT create_reference_table('service_signs_of_nodes')",
            "CREATE FUNCTION sign_on_every_node() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                UPDATE service_signs_of_nodes SET signed_at = NEW.alive_at;
                RETURN NULL;
            END
            $$",
            "CREATE TRIGGER signs_are_given_on_every_node AFTER UPDATE ON service_liveness
                FOR EACH ROW EXECUTE FUNCTION sign_on_every_node()",
            // Known to the coordinator's bookkeeping, so that it commits together with what it is
            // about on a node.
            "SELECT citus_add_local_table_to_metadata('audit_log')",
            "CREATE FUNCTION place_of_group(key uuid) RETURNS bigint LANGUAGE sql STABLE
                RETURN get_shard_id_for_distribution_column('groups', key)",
            "COMMENT ON FUNCTION place_of_group(uuid) IS 'Where the rows of a group are. That there is this function tells the service that groups are spread.'",
        ]
        .map(str::to_owned),
    );
    statements.extend(OF_NODES.map(str::to_owned));
    // What was copied to the nodes is still here, unseen.
    statements.extend(OF_GROUPS.map(|table| format!("SELECT truncate_local_data_after_distributing_table('{table}')")));
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_new_enough_from_12_1_on() {
        assert!(["12.1-1", "12.2", "13.0-1", "14.0"].into_iter().all(is_new_enough));
        assert!(!["11.3-1", "12.0-2", "", "x"].into_iter().any(is_new_enough));
    }
}
