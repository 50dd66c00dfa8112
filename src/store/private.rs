//! The database in the private server: who owns it, and that this one is no superuser.
//!
//! What reaches the server's socket may be anybody in it; so this keeps nobody out who is on this
//! machine under the service's account. It bounds what a statement of the service can do: no file
//! is read, no program run, no other role taken.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};

/// The role that owns the private database and all that is in it, and that the service connects as.
pub const OWNER: &str = "client_failover";

/// The private database.
pub const DATABASE: &str = "client_failover";

/// What was made by a superuser, as earlier versions did, is handed to its owner. Columns and
/// indexes go with their tables, and so do the sequences that belong to columns. Readers that were
/// made keep their right to what is made later.
const HAND_OVER: &str = "
    DO $$
    DECLARE thing record;
    BEGIN
        FOR thing IN
            SELECT c.oid::regclass AS name FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relowner <> 'client_failover'::regrole
                AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                AND NOT (c.relkind = 'S' AND EXISTS (
                    SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
        LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO client_failover', thing.name);
        END LOOP;
        FOR thing IN
            SELECT p.oid::regprocedure AS name FROM pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace AND p.proowner <> 'client_failover'::regrole
        LOOP
            EXECUTE format('ALTER ROUTINE %s OWNER TO client_failover', thing.name);
        END LOOP;
        FOR thing IN
            SELECT DISTINCT a.grantee::regrole AS reader
            FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) a
            WHERE d.defaclnamespace = 'public'::regnamespace AND d.defaclrole = current_user::regrole
                AND d.defaclobjtype = 'r' AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, d.defaclrole)
        LOOP
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE client_failover IN SCHEMA public GRANT SELECT ON TABLES TO %s',
                thing.reader);
        END LOOP;
        GRANT ALL ON SCHEMA public TO client_failover;
        -- Before PostgreSQL 15 everybody may create there, and so could a reader.
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END
    $$";

/// The way to it as the superuser of its server, and as the one that it was made with.
pub fn superuser(socket_dir: &Path, port: u16, user: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(port)
        .username(user)
        .ssl_mode(PgSslMode::Disable)
        .database(DATABASE)
}

/// The same way as its owner, as whom the service connects.
pub fn owner(superuser: PgConnectOptions) -> PgConnectOptions {
    superuser.username(OWNER)
}

/// Makes the database and its owner where they are missing, and hands over what is not its owner's.
/// `superuser` leads to the server as the one that it was made with. The same again changes
/// nothing.
pub async fn prepare(superuser: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut server = PgConnection::connect_with(&superuser.clone().database("postgres")).await?;
    let (has_owner, owner_of_database): (bool, Option<String>) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
            (SELECT datdba::regrole::text FROM pg_database WHERE datname = $2)",
    )
    .bind(OWNER)
    .bind(DATABASE)
    .fetch_one(&mut server)
    .await?;
    let mut statements = Vec::new();
    if !has_owner {
        statements.push(format!("CREATE ROLE {OWNER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"));
    }
    match owner_of_database.as_deref() {
        None => statements.push(format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")),
        Some(OWNER) => {}
        Some(_) => statements.push(format!("ALTER DATABASE {DATABASE} OWNER TO {OWNER}")),
    }
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await?;
    }
    server.close().await?;
    let mut database = PgConnection::connect_with(&superuser.clone().database(DATABASE)).await?;
    sqlx::raw_sql(HAND_OVER).execute(&mut database).await?;
    database.close().await
}
