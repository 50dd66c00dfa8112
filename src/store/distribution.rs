//! What spreads the groups of a database over the nodes of its cluster (Citus): see
//! [`super::spread`].

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _};

use super::Store;

/// The tables that are cut up: those with a group's key.
pub const OF_GROUPS: [&str; 7] = [
    "groups",
    "sessions",
    "heartbeats",
    "session_wishes",
    "role_transitions",
    "configuration_changes",
    "former_groups",
];

/// The oldest extension that hands on the isolation of a transaction and takes these statements, as
/// far as that was tried.
const OLDEST_EXTENSION: (u32, u32) = (12, 1);

/// How long a session of the service may take to end that was just closed.
const TIMEOUT: Duration = Duration::from_secs(3);

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
                others if began.elapsed() >= TIMEOUT => return Err(DistributeError::InUse(others)),
                _ => tokio::time::sleep(TIMEOUT / 20).await,
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
