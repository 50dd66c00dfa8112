//! The commands that make, list and revoke credentials. A password is read from the terminal or
//! standard input and never taken as an argument, which other accounts on the machine could see.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use client_failover_operator::OperatorError;
use client_failover_operator::connection::{self, ConnectionArgs};
use client_failover_operator::keys;
use client_failover_operator::output::{self, Format};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{User, geteuid};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::api_keys::issue::{IssueError, Issuer, Keys, Lifetime, Replaced, USUAL_LIFETIME, WantedKey};
use crate::access::basic::{self, Users};
use crate::access::{AuthSetupError, Grade, Grant};
use crate::config::{Settings, Span};
use crate::http::keys::KeyBody;
use crate::ids::{EVERY_TENANT, GroupPattern, NamespaceId, TenantId};
use crate::serve::{self, ServeArgs, ServeError, SettleError, open_database};
use crate::store::migrate::MigrateError;
use crate::store::{Store, StoreError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// An argument that makes no sense.
    #[error("{0}")]
    Argument(String),
    /// The users file.
    #[error(transparent)]
    Users(#[from] AuthSetupError),
    /// The users file has that user already.
    #[error("the file {} has a user '{name}' already: edit or remove the entry first", path.display())]
    UserExists {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The terminal or a file.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
    /// The system gives no random numbers, or none that make a hash.
    #[error("no secret can be made: {0}")]
    NoSecret(String),
    /// What was read cannot be printed.
    #[error("{0}")]
    Output(String),
    /// The key was not made or revoked.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The service that was asked refused, or did not answer.
    #[error(transparent)]
    Service(#[from] OperatorError),
    /// The settings that lead to the database.
    #[error(transparent)]
    Settings(#[from] SettleError),
    /// The database cannot be had.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CredentialError {
    /// The exit code that scripts tell it by.
    pub fn exit_code(&self) -> u8 {
        match self {
            CredentialError::Settings(_)
            | CredentialError::Argument(_)
            | CredentialError::Issue(IssueError::Wanted(_)) => 2,
            CredentialError::Issue(IssueError::NoSuchKey(_)) => 3,
            CredentialError::Issue(IssueError::TooMany(_)) => 5,
            CredentialError::Service(error) => error.exit_code(),
            _ => 1,
        }
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> CredentialError {
    let what = what.into();
    move |cause| CredentialError::Io { what, cause }
}

/// What a new credential may do, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct GrantArgs {
    /// The tenant it is good in; '*' for all, which the role metrics needs and takes by itself
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// A namespace it is good in; may be given several times [default: all of the tenant's]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// A pattern of the groups it is good for, such as 'line-*'; may be given several times
    /// [default: all]
    #[arg(long, value_name = "PATTERN")]
    group: Vec<String>,
    /// metrics reads what is counted and nothing else, viewer reads, client also registers sessions
    /// and sends heartbeats, admin does everything
    #[arg(long, value_name = "ROLE")]
    role: Grade,
}

impl GrantArgs {
    /// The grant, if it makes sense.
    fn grant(&self) -> Result<Grant, CredentialError> {
        let wrong = |what: &str, error| CredentialError::Argument(format!("{what} is not valid: {error}"));
        let tenant = match (&self.tenant, self.role) {
            (Some(tenant), _) => tenant.clone(),
            (None, Grade::Metrics) => EVERY_TENANT.to_owned(),
            (None, _) => return Err(CredentialError::Argument("which tenant? Give --tenant, '*' for all".to_owned())),
        };
        if tenant != EVERY_TENANT {
            TenantId::parse(tenant.as_str()).map_err(|error| wrong("the tenant", error))?;
        }
        for namespace in &self.namespace {
            NamespaceId::parse(namespace.as_str()).map_err(|error| wrong("a namespace", error))?;
        }
        let distinct = |texts: &[String]| {
            let distinct: BTreeSet<&String> = texts.iter().collect();
            (!distinct.is_empty()).then(|| distinct.into_iter().cloned().collect::<Vec<_>>())
        };
        let groups = distinct(&self.group).map(|texts| texts.into_iter().map(GroupPattern::from).collect());
        let grant = Grant { tenant, namespaces: distinct(&self.namespace), groups, grade: self.role };
        match grant.fault() {
            Some(fault) => Err(CredentialError::Argument(fault.to_owned())),
            None => Ok(grant),
        }
    }
}

/// How long a key is good, as it is given.
#[derive(Clone, Copy, Debug)]
struct Expires(Lifetime);

impl FromStr for Expires {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Expires, Self::Err> {
        match text {
            "never" => Ok(Expires(Lifetime::Never)),
            text => text.parse().map(|Span(duration)| Expires(Lifetime::Ends(duration))),
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug, clap::Args)]
pub struct NewKeyArgs {
    /// A name for people, shown in lists and in the audit trail
    name: String,
    #[command(flatten)]
    grant: GrantArgs,
    /// How long it is good, such as 90days, or 'never' for one that does not end [default: 365days]
    #[arg(long, alias = "expires-in", value_name = "TIME")]
    expires: Option<Expires>,
    /// The number of a key of the same tenant whose place it takes: it counts as the same caller,
    /// so sessions that are bound to that one go on
    #[arg(long, value_name = "KEY")]
    replaces: Option<i64>,
    /// For how long the replaced key is still good, such as 1h [default: until its end, or until it
    /// is revoked]
    #[arg(long, value_name = "TIME", requires = "replaces")]
    overlap: Option<Span>,
}

impl NewKeyArgs {
    fn wanted(&self) -> Result<WantedKey, CredentialError> {
        let overlap = self.overlap.map(|Span(overlap)| overlap);
        Ok(WantedKey {
            name: self.name.clone(),
            grant: self.grant.grant()?,
            lifetime: self.expires.map_or(Lifetime::Ends(USUAL_LIFETIME), |Expires(lifetime)| lifetime),
            replaces: self.replaces.map(|key| Replaced { key, overlap }),
        })
    }
}

const BY_SERVICE: &str = "\
With --server (or --url), or with --profile, a running service is asked over HTTP, as an admin of the tenant or of all \
tenants; the other flags and variables for that are those of 'client-failover groups'. Without them the keys are \
changed in the database of the settings.";

/// What is done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it: the one time that it is shown
    #[command(mut_args = only_for_keys, after_help = BY_SERVICE)]
    Create(Box<CreateArgs>),
    /// List all keys and when they end, without their secrets
    #[command(mut_args = only_for_keys, after_help = BY_SERVICE)]
    List(Box<ListArgs>),
    /// Revoke a key; every replica refuses it within seconds
    #[command(mut_args = only_for_keys, after_help = BY_SERVICE)]
    Revoke(Box<RevokeArgs>),
}

/// Which key is made, and where.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten, next_help_heading = "Database")]
    serve: ServeArgs,
}

/// Which keys are listed, and where.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only those of that tenant [default: all]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten, next_help_heading = "Database")]
    serve: ServeArgs,
}

/// Which key is revoked, and where.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The key's number in the list
    key: i64,
    /// Only if it is one of that tenant; an admin of one tenant names it [default: of any]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten, next_help_heading = "Database")]
    serve: ServeArgs,
}

fn only_for_keys(argument: clap::Arg) -> clap::Arg {
    connection::by_flag_alone(serve::only_for_database(argument))
}

/// What a command says.
#[derive(Debug)]
pub struct Said {
    /// On standard output: what was asked for, and nothing else.
    pub output: String,
    /// On standard error, for people.
    pub note: Option<String>,
}

/// Runs a command on keys.
pub async fn run_keys(command: KeysCommand) -> Result<Said, CredentialError> {
    match command {
        KeysCommand::Create(args) => create_key(*args).await,
        KeysCommand::List(args) => list_keys(*args).await,
        KeysCommand::Revoke(args) => revoke_key(*args).await,
    }
}

/// What is done to a users file.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum UsersCommand {
    /// Print the hash of a password, read from the terminal or from standard input
    Hash,
    /// Add a user to the file, with a password read from the terminal or from standard input
    Add {
        /// The users file; made if it is not there
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// The user's name
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
    },
}

/// Runs a command on users; what to print.
pub fn run_users(command: UsersCommand) -> Result<String, CredentialError> {
    match command {
        UsersCommand::Hash => hash_password(),
        UsersCommand::Add { file, name, grant } => {
            let grant = grant.grant()?;
            if let Some(fault) = basic::name_fault(&name) {
                return Err(CredentialError::Argument(format!("'{name}': {fault}")));
            }
            add_user(&file, &name, &grant)?;
            Ok(format!("user '{name}' is in {}", file.display()))
        }
    }
}

fn hash_password() -> Result<String, CredentialError> {
    let password = read_password()?;
    basic::hash_password(&password).map_err(|error| CredentialError::NoSecret(error.to_string()))
}

fn add_user(path: &Path, name: &str, grant: &Grant) -> Result<(), CredentialError> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_error(format!("the file {} cannot be read", path.display()))(error)),
    };
    if !before.is_empty() && Users::open(path)?.has(name) {
        return Err(CredentialError::UserExists { path: path.to_owned(), name: name.to_owned() });
    }
    let hash = hash_password()?;
    // JSON's strings and arrays are TOML's.
    let namespaces =
        grant.namespaces.as_ref().map_or(String::new(), |names| format!(", namespaces = {}", json!(names)));
    let groups = grant.groups.as_ref().map_or(String::new(), |patterns| format!(", groups = {}", json!(patterns)));
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let text = format!(
        "{before}{separator}\n[users.{}]\npassword = {}\ngrants = [{{ tenant = {}{namespaces}{groups}, role = \"{}\" }}]\n",
        json!(name),
        json!(hash),
        json!(grant.tenant),
        grant.grade.text(),
    );
    replace_file(path, text.trim_start_matches('\n'))
}

/// Puts a whole new file in its place: a service that reads it at this moment sees one or the
/// other.
fn replace_file(path: &Path, text: &str) -> Result<(), CredentialError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let fault = || io_error(format!("the file {} cannot be written", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new).map_err(fault())?;
    // Who could read it before may read it after: the service may run under another account.
    if let Ok(metadata) = fs::metadata(path) {
        file.set_permissions(metadata.permissions()).map_err(fault())?;
        let (uid, gid) =
            (std::os::unix::fs::MetadataExt::uid(&metadata), std::os::unix::fs::MetadataExt::gid(&metadata));
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(fault())?;
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fault())?;
    fs::rename(&new, path).map_err(fault())
}

/// One line: from a terminal twice and without showing it, else as it comes.
fn read_password() -> Result<String, CredentialError> {
    let input = io::stdin();
    let password = if !input.is_terminal() {
        read_line()?
    } else {
        let first = without_echo("Password: ")?;
        if without_echo("Again: ")? != first {
            return Err(CredentialError::Argument("the two passwords differ".to_owned()));
        }
        first
    };
    if password.is_empty() { Err(CredentialError::Argument("the password is empty".to_owned())) } else { Ok(password) }
}

fn read_line() -> Result<String, CredentialError> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(io_error("the password cannot be read"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn without_echo(prompt: &str) -> Result<String, CredentialError> {
    let fault =
        |error: nix::errno::Errno| io_error("the terminal cannot be kept from showing the password")(error.into());
    let input = io::stdin();
    let shown = tcgetattr(input.as_fd()).map_err(fault)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    let _ = write!(io::stderr(), "{prompt}");
    tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &hidden).map_err(fault)?;
    let line = read_line();
    let restored = tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &shown).map_err(fault);
    let _ = writeln!(io::stderr());
    restored.and(line)
}

/// Makes a key: its text alone is the output, the rest is for people.
async fn create_key(args: CreateArgs) -> Result<Said, CredentialError> {
    let wanted = args.key.wanted()?;
    let tenant = wanted.grant.tenant.clone();
    let (secret, key, ends, replaced_ends) = if args.connection.names_a_service() {
        let made = keys::Keys::at(&args.connection, Some(&tenant))?.create(&asked_for(&wanted)).await?;
        let end = |at: Option<String>| at.map(|at| output::instant(&at));
        (made.secret, made.key, end(made.expires_at), end(made.replaced_expires_at))
    } else {
        let settings = args.serve.settle_for_database()?;
        let made =
            in_database(&settings, async |store| Ok(Keys::of_tenant(store, here(), None).create(wanted).await?))
                .await?;
        let end = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
        (made.secret, made.key, end(made.ends_at), end(made.replaced_ends_at))
    };
    let mut note =
        format!("This is key {key}. It is shown this once and kept nowhere: put it where its user finds it.");
    note += &ends.map_or("\nIt does not end.".to_owned(), |at| format!("\nIt ends {at} UTC."));
    if let (Some(at), Some(replaced)) = (replaced_ends, args.key.replaces) {
        note += &format!("\nKey {replaced}, whose place it takes, ends {at} UTC.");
    }
    Ok(Said { output: secret, note: Some(note) })
}

/// A key to be made, as a service is asked for it.
fn asked_for(wanted: &WantedKey) -> keys::WantedKey {
    let patterns = |groups: &Vec<GroupPattern>| groups.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    keys::WantedKey {
        name: wanted.name.clone(),
        tenant: wanted.grant.tenant.clone(),
        namespaces: wanted.grant.namespaces.clone(),
        groups: wanted.grant.groups.as_ref().map(patterns),
        role: wanted.grant.grade.text(),
        valid_for: match wanted.lifetime {
            Lifetime::Ends(duration) => Some(duration),
            Lifetime::Never => None,
        },
        replaces: wanted.replaces.map(|replaced| replaced.key),
        overlap: wanted.replaces.and_then(|replaced| replaced.overlap),
    }
}

/// Revokes a key.
async fn revoke_key(args: RevokeArgs) -> Result<Said, CredentialError> {
    let (key, tenant) = (args.key, args.tenant.as_deref());
    let shown = if args.connection.names_a_service() {
        keys::Keys::at(&args.connection, tenant)?.revoke(key).await?;
        format!("key {key}")
    } else {
        let settings = args.serve.settle_for_database()?;
        let name =
            in_database(&settings, async |store| Ok(Keys::of_tenant(store, here(), tenant).revoke(key).await?)).await?;
        format!("key {key} '{name}'")
    };
    let output = format!("{shown} is revoked; every replica refuses it within seconds");
    Ok(Said { output, note: None })
}

/// Lists the keys.
async fn list_keys(args: ListArgs) -> Result<Said, CredentialError> {
    let tenant = args.tenant.as_deref();
    let keys: Vec<Value> = if args.connection.names_a_service() {
        keys::Keys::at(&args.connection, tenant)?.list().await?
    } else {
        let settings = args.serve.settle_for_database()?;
        let (keys, _) =
            in_database(&settings, async |store| Ok(Keys::of_tenant(store, here(), tenant).list(0, None).await?))
                .await?;
        keys.iter().map(|key| json!(KeyBody::of(key))).collect()
    };
    let unreadable = |error: String| CredentialError::Output(error);
    let output = if args.output != Format::Table {
        let list = Value::from(keys).to_string();
        output::text_of(args.output, &list).map_err(|error| unreadable(error.to_string()))?
    } else {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "key",
            "name",
            "tenant",
            "namespaces",
            "groups",
            "role",
            "created",
            "expires",
            "last used",
            "state",
        ]);
        for key in keys {
            let key: ShownKey = serde_json::from_value(key).map_err(|error| unreadable(error.to_string()))?;
            table.add_row(key.row());
        }
        table.to_string()
    };
    Ok(Said { output, note: None })
}

/// What a table shows of a key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShownKey {
    key: i64,
    name: String,
    tenant_id: String,
    namespaces: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    role: String,
    valid: bool,
    created_at: String,
    expires_at: Option<String>,
    valid_for_seconds: Option<u64>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

impl ShownKey {
    /// From how many days before its end that is said.
    const SOON_DAYS: u64 = 30;

    fn row(&self) -> [String; 10] {
        let text = |text: &str| output::printable(text);
        // Up to the minute: 2026-11-23T03:12:04.251Z.
        let time = |time: Option<&String>| {
            time.map_or("-".to_owned(), |time| text(&time.replacen('T', " ", 1).chars().take(16).collect::<String>()))
        };
        let list =
            |names: &Option<Vec<String>>| names.as_ref().map_or("all".to_owned(), |names| text(&names.join(", ")));
        let state = match (self.valid, &self.revoked_at) {
            (true, _) => match self.valid_for_seconds {
                Some(seconds) if seconds < Self::SOON_DAYS * 86_400 => {
                    format!("ends in {}", brief(Duration::from_secs(seconds)))
                }
                _ => "valid".to_owned(),
            },
            (false, Some(at)) => format!("revoked {}", time(Some(at))),
            (false, None) => "expired".to_owned(),
        };
        [
            self.key.to_string(),
            text(&self.name),
            text(&self.tenant_id),
            list(&self.namespaces),
            list(&self.groups),
            text(&self.role),
            time(Some(&self.created_at)),
            self.expires_at.as_ref().map_or("never".to_owned(), |at| time(Some(at))),
            time(self.last_used_at.as_ref()),
            state,
        ]
    }
}

/// A duration by its greatest unit.
fn brief(duration: Duration) -> String {
    let whole = humantime::format_duration(duration).to_string();
    whole.split(' ').next().unwrap_or_default().to_owned()
}

/// Something done in the database of the settings, which is brought up to date first.
async fn in_database<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Store) -> Result<T, CredentialError>,
) -> Result<T, CredentialError> {
    let (store, direct, postgres) = open_database(settings).await?;
    let outcome = migrate_and_run(&store, &direct, settings.migrate, work).await;
    store.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await.map_err(ServeError::from)?;
    }
    outcome
}

async fn migrate_and_run<T>(
    store: &Store,
    direct: &Store,
    migrate: bool,
    work: impl AsyncFnOnce(&Store) -> Result<T, CredentialError>,
) -> Result<T, CredentialError> {
    if migrate {
        direct.migrate().await.map_err(|error: MigrateError| ServeError::from(error))?;
    }
    work(store).await
}

/// Whoever runs the command.
fn here() -> Issuer {
    let uid = geteuid();
    let account = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    Issuer {
        identity: format!("command:{account}").into(),
        operation_id: format!("{:032x}", fastrand::u128(1..)).into(),
    }
}
