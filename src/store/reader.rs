//! A role of the database for people who look: it reads what operators need, changes nothing, and
//! stalls nobody by accident.
//!
//! What it may not do is withheld, not asked for: it owns nothing and is granted SELECT alone, so
//! it can lock no row, and no table against the service. What it could do by accident, such as
//! leaving a transaction open over lunch, is ended by settings of the role. Whoever logs in as it
//! can change these, and is trusted not to.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::Store;

/// What is read. A test compares it with what there is: whoever adds a relation decides here.
/// Relations of later migrations are readable by default for readers made before, so one with
/// secrets has to be revoked in the migration that makes it.
const READABLE: [&str; 23] = [
    "groups",
    "sessions",
    "heartbeats",
    "session_wishes",
    "former_groups",
    "role_transitions",
    "configuration_changes",
    "audit_log",
    "webhook_sender",
    "webhook_risks",
    "api_key_changes",
    "service_liveness",
    "service_outages",
    "service_clock_set_back",
    "service_histories",
    "refinery_schema_history",
    "group_status",
    "session_status",
    "group_risks",
    "group_doubts",
    "role_history",
    "api_key_status",
    "service_moment",
];

/// What is not: the hashes of keys are in the one, and the other is there for its lock alone.
const SECRET: [&str; 2] = ["api_keys", "heartbeat_turns"];

/// What the views call.
const CALLED: [&str; 2] = ["lease_end(timestamptz, interval)", "failover_timeout(bigint)"];

/// Settings of the role in this database, as `pg_db_role_setting` has them.
const SETTINGS: [(&str, &str); 7] = [
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "read committed"),
    // Whoever asks for SERIALIZABLE all the same waits for a snapshot that disturbs no writer.
    ("default_transaction_deferrable", "on"),
    // An old snapshot keeps dead versions of heartbeats on their pages, and the next writers walk
    // past them.
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "2s"),
    // A look at all groups takes one processor at most.
    ("max_parallel_workers_per_gather", "0"),
];

/// From PostgreSQL 17 on: bounds a transaction of many short statements.
const TRANSACTION_TIMEOUT: (&str, &str) = ("transaction_timeout", "60s");
const HAS_TRANSACTION_TIMEOUT: i32 = 170_000;

/// Connections are few, and the service needs them.
const CONNECTION_LIMIT: u32 = 10;

/// PostgreSQL cuts longer names short.
const LONGEST_NAME: usize = 63;

/// Why there is no such role.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// A role of that name must not be a reader.
    #[error("'{role}' cannot be a role that only reads: {why}")]
    Unusable {
        /// The name.
        role: String,
        /// What speaks against it.
        why: &'static str,
    },
    /// Our own account may not do it.
    #[error(
        "'{role}' cannot be made a role that only reads: {cause}. Give the account of --database-url CREATEROLE, or have somebody who has it run, and then run this again: {statements}"
    )]
    NotAllowed {
        /// The name.
        role: String,
        /// What the database said.
        cause: String,
        /// What somebody else can run.
        statements: String,
    },
    /// Everybody may create there, and so may a reader.
    #[error(
        "'{role}' cannot be made a role that only reads: it may make tables and functions in the schema {schema}, as everybody may before PostgreSQL 15. Have a superuser run, and then run this again: {statements}"
    )]
    OpenSchema {
        /// The name.
        role: String,
        /// Where the tables are.
        schema: String,
        /// What somebody else can run.
        statements: String,
    },
    /// The database failed, or cannot be reached.
    #[error("the database cannot be used: {0}")]
    Failed(#[from] sqlx::Error),
}

impl Store {
    /// Makes a role that reads, or brings one up to date: the same again changes nothing. It cannot
    /// log in unless somebody lets it. Needs a database that is migrated.
    pub async fn make_reader(&self, role: &str) -> Result<(), ReaderError> {
        let unusable = |why| ReaderError::Unusable { role: role.to_owned(), why };
        if role.is_empty() || role.len() > LONGEST_NAME || role.contains('\0') {
            return Err(unusable("a name has 1 to 63 bytes"));
        }
        let mut connection = self.connect().await?;
        // Two at once would meet on the same rows of the catalogue.
        let _lock = self.lock_migrations(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let found = find_role(&mut transaction, role).await?;
        if let Some(why) = found.as_ref().and_then(Found::objection) {
            return Err(unusable(why));
        }
        let names = find_names(&mut transaction, role).await?;
        let of_role = statements_of_role(&mut transaction, &names, found.is_none()).await?;
        for statement in of_role.iter().chain(&grants(&names)) {
            let ran = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
            ran.map_err(|error| match &error {
                sqlx::Error::Database(said) if said.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE) => {
                    let cause = said.message().to_owned();
                    ReaderError::NotAllowed { role: role.to_owned(), cause, statements: of_role.join("; ") }
                }
                _ => ReaderError::Failed(error),
            })?;
        }
        close_schema(&mut transaction, role, &names).await?;
        transaction.commit().await?;
        connection.close().await?;
        Ok(())
    }
}

/// Nobody but the owner of the tables creates among them: what somebody else makes there may be
/// called in the place of what is meant. Changes nothing where that is so.
async fn close_schema(connection: &mut PgConnection, role: &str, names: &QuotedNames) -> Result<(), ReaderError> {
    const MAY_CREATE: &str = "SELECT has_schema_privilege($1, oid, 'CREATE') AS may_create,
        pg_has_role(nspowner, 'USAGE') AS is_ours FROM pg_namespace WHERE oid = $2::regnamespace";
    let may_create = async |connection: &mut PgConnection| {
        let query = sqlx::query_as::<_, (bool, bool)>(MAY_CREATE).persistent(false).bind(role).bind(&names.schema);
        query.fetch_one(connection).await
    };
    let QuotedNames { role: quoted, schema, owner, .. } = names;
    let (is_open, is_ours) = may_create(connection).await?;
    if !is_open {
        return Ok(());
    }
    let statements =
        format!("GRANT ALL ON SCHEMA {schema} TO {owner}; REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {quoted}");
    if is_ours {
        sqlx::raw_sql(AssertSqlSafe(statements.clone())).execute(&mut *connection).await?;
        if !may_create(connection).await?.0 {
            return Ok(());
        }
    }
    Err(ReaderError::OpenSchema { role: role.to_owned(), schema: schema.clone(), statements })
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a role may do that is there already.
#[derive(sqlx::FromRow)]
struct Found {
    is_superuser: bool,
    is_ours: bool,
    writes: bool,
    sees_secrets: bool,
}

impl Found {
    fn objection(&self) -> Option<&'static str> {
        match () {
            () if self.is_superuser => Some("it is a superuser"),
            () if self.is_ours => Some("it is the account that this command uses"),
            () if self.writes => Some("it may write to the service's tables"),
            () if self.sees_secrets => Some("it may read the hashes of API keys"),
            () => None,
        }
    }
}

async fn find_role(connection: &mut PgConnection, role: &str) -> Result<Option<Found>, sqlx::Error> {
    const FIND: &str = "
        SELECT rolsuper AS is_superuser, rolname = session_user AS is_ours,
            (SELECT bool_or(has_table_privilege(oid, relation, 'INSERT, UPDATE, DELETE, TRUNCATE')
                    OR has_any_column_privilege(oid, relation, 'INSERT, UPDATE'))
                FROM unnest($2::text[] || $3::text[]) relation) AS writes,
            has_any_column_privilege(oid, 'api_keys', 'SELECT') AS sees_secrets
        FROM pg_roles WHERE rolname = $1";
    let query = sqlx::query_as(FIND).persistent(false).bind(role).bind(&READABLE[..]).bind(&SECRET[..]);
    query.fetch_optional(connection).await
}

/// Names, quoted as SQL wants them.
#[derive(sqlx::FromRow)]
struct QuotedNames {
    role: String,
    database: String,
    schema: String,
    /// Whose tables they are, and those of later migrations.
    owner: String,
}

async fn find_names(connection: &mut PgConnection, role: &str) -> Result<QuotedNames, sqlx::Error> {
    // The schema is that of the tables, which need not be the first of the path.
    let names = "SELECT quote_ident($1) AS role, quote_ident(current_database()) AS database,
        relnamespace::regnamespace::text AS schema, relowner::regrole::text AS owner
        FROM pg_class WHERE oid = 'groups'::regclass";
    sqlx::query_as(names).persistent(false).bind(role).fetch_one(connection).await
}

/// What makes the role and its settings as far as they are not as they should be: somebody who may
/// create roles can have done that, so that our own account need not.
async fn statements_of_role(
    connection: &mut PgConnection,
    names: &QuotedNames,
    is_new: bool,
) -> Result<Vec<String>, sqlx::Error> {
    const SETTINGS_NOW: &str = "
        SELECT current_setting('server_version_num')::int AS version,
            coalesce(array_agg(setting) FILTER (WHERE setting IS NOT NULL), '{}') AS present
        FROM (SELECT) nothing LEFT JOIN (
            SELECT unnest(s.setconfig) AS setting FROM pg_db_role_setting s
            JOIN pg_roles r ON r.oid = s.setrole JOIN pg_database d ON d.oid = s.setdatabase
            WHERE quote_ident(r.rolname) = $1 AND d.datname = current_database()
        ) settings ON true";
    let row = sqlx::query(SETTINGS_NOW).persistent(false).bind(&names.role).fetch_one(connection).await?;
    let version: i32 = row.try_get("version")?;
    let present: Vec<String> = row.try_get("present")?;
    let QuotedNames { role, database, .. } = names;
    let mut statements = Vec::new();
    if is_new {
        statements.push(format!("CREATE ROLE {role} NOLOGIN CONNECTION LIMIT {CONNECTION_LIMIT}"));
    }
    let of_17 = (version >= HAS_TRANSACTION_TIMEOUT).then_some(TRANSACTION_TIMEOUT);
    for (name, value) in SETTINGS.into_iter().chain(of_17) {
        if !present.contains(&format!("{name}={value}")) {
            statements.push(format!("ALTER ROLE {role} IN DATABASE {database} SET {name} = '{value}'"));
        }
    }
    Ok(statements)
}

fn grants(names: &QuotedNames) -> [String; 6] {
    let QuotedNames { role, database, schema, owner } = names;
    let of_schema = |names: &[&str]| names.iter().map(|name| format!("{schema}.{name}")).collect::<Vec<_>>().join(", ");
    [
        format!("GRANT CONNECT ON DATABASE {database} TO {role}"),
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT ON {} TO {role}", of_schema(&READABLE)),
        format!("GRANT EXECUTE ON FUNCTION {} TO {role}", of_schema(&CALLED)),
        // Made again by a restore, they would have been granted by default.
        format!("REVOKE ALL ON {} FROM {role}", of_schema(&SECRET)),
        format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}"),
    ]
}

/// What is read and what is not, for the test that compares it with what there is.
pub fn known_relations() -> (&'static [&'static str], &'static [&'static str]) {
    (&READABLE, &SECRET)
}
