//! Everything that can go wrong with the private server, each in one line: what, where, what to do.

use std::io;
use std::path::PathBuf;

/// Why the private server could not be started, kept running or stopped.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no database is given, and there are no PostgreSQL programs here to run a private one with; give \
         DATABASE_URL (or --database-url) as postgres://user:password@host:5432/database, or install PostgreSQL \
         (Debian and Ubuntu: postgresql, Fedora: postgresql-server, Homebrew: postgresql@17; of a container's image \
         take the tag with -standalone, which has it); they were looked for in {looked_in}"
    )]
    NotFound { looked_in: String },

    #[error(
        "found only PostgreSQL {found}, which is older than {minimum}; install PostgreSQL \
         {minimum} or later or name a running server with --database-url"
    )]
    TooOld { found: String, minimum: u32 },

    #[error(
        "the data in {dir} was made by PostgreSQL {made_by}, but only {found} was found; install \
         PostgreSQL {made_by} (Debian and Ubuntu: postgresql-{made_by}) or convert the data with \
         pg_upgrade"
    )]
    VersionMismatch { dir: PathBuf, made_by: String, found: String },

    #[error(
        "PostgreSQL does not run as root, and there is neither an account `postgres` nor `nobody` \
         to run it as; create one, or start the service as an ordinary user"
    )]
    NoAccount,

    #[error(
        "PostgreSQL's initdb wants an entry in /etc/passwd for the account it runs as, and uid {uid} has none; add \
         one, start the service as an account that has one, or name a running server with --database-url"
    )]
    NoEntry { uid: u32 },

    #[error(
        "the data directory {dir} is in use by another service{holder}; stop that one or choose \
         another data directory"
    )]
    InUse {
        dir: PathBuf,
        /// Empty, or ` (process N)`.
        holder: String,
    },

    #[error(
        "the user {user}, who runs PostgreSQL, may not enter {closed}, which leads to {target}; \
         allow it with `chmod o+x {closed}` or choose another place"
    )]
    Closed { user: String, closed: PathBuf, target: PathBuf },

    #[error(
        "{path} belongs to {owner}, not to {wanted}; run the service as that owner, change the \
         owner, or choose another data directory"
    )]
    WrongOwner { path: PathBuf, owner: String, wanted: String },

    #[error(
        "every local user may write to the data directory {path}, and so exchange what is in it; \
         close it with `chmod o-w {path}` or choose another data directory"
    )]
    OpenToAll { path: PathBuf },

    #[error("{path} is not a {wanted}; move it away or choose another data directory")]
    WrongKind { path: PathBuf, wanted: &'static str },

    #[error(
        "{dir} is not empty and is no PostgreSQL data directory (it has no PG_VERSION); move it \
         away or choose another data directory"
    )]
    NotACluster { dir: PathBuf },

    #[error(
        "found no place for the socket: its path may have at most {limit} bytes, which neither \
         {dir} nor the temporary directory allows; choose a data directory with a shorter path"
    )]
    SocketPathTooLong { dir: PathBuf, limit: usize },

    #[error(
        "the setting {name} = '{value}' cannot be used for the private PostgreSQL: {reason}; \
         remove it"
    )]
    Setting { name: String, value: String, reason: &'static str },

    #[error("cannot {action} {path}: {cause}{}", advice(cause))]
    Io { action: &'static str, path: PathBuf, cause: io::Error },

    #[error("cannot run {program} as {user}: {cause}; check that this user may execute it")]
    Spawn { program: PathBuf, user: String, cause: io::Error },

    #[error("cannot start the thread that looks after PostgreSQL: {0}")]
    Thread(io::Error),

    #[error("initdb could not make {dir} ({outcome}): {tail}; see {log}")]
    Initdb { dir: PathBuf, outcome: String, tail: String, log: PathBuf },

    #[error("PostgreSQL ended while starting on {dir} ({outcome}): {tail}; see {log}")]
    EndedAtStart { dir: PathBuf, outcome: String, tail: String, log: PathBuf },

    #[error(
        "PostgreSQL on {dir} accepts no connections after {seconds} s: {tail}; see {log} and try \
         again"
    )]
    NotReady { dir: PathBuf, seconds: u64, tail: String, log: PathBuf },

    #[error("other PostgreSQL processes work in {dir} and do not end: {pids}; end them and try again")]
    Remains { dir: PathBuf, pids: String },

    #[error("PostgreSQL on {dir} (process {pid}) did not end when told to; end it by hand")]
    DidNotStop { dir: PathBuf, pid: u32 },

    #[error("the start of the private PostgreSQL was given up")]
    GivenUp,

    #[error("the thread that looks after PostgreSQL is gone; restart the service")]
    SupervisorGone,
}

impl PostgresError {
    /// For `map_err`: `action` completes "cannot ... the path".
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PostgresError {
        let path = path.into();
        move |cause| PostgresError::Io { action, path, cause }
    }
}

/// What to do about the failures that have a usual cause.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; run the service as a user who may, or choose another data directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a data directory that can be written to",
        _ => "",
    }
}
