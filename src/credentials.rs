//! The commands that make, list and revoke credentials. A password is read from the terminal or standard input and
//! never taken as an argument, which other accounts on the machine could see.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};

use crate::auth::api_keys;
use crate::auth::basic::{self, Users};
use crate::auth::{AuthSetupError, Role};
use crate::config::{Settings, Span};
use crate::ids::{NamespaceId, TenantId};
use crate::operator::output::{self, Format};
use crate::serve::{self, ServeArgs, ServeError, SettleError, open_database};
use crate::store::api_keys::{self as stored, ListedKey, NewKey};
use crate::store::audit::{self, Action, Entry};
use crate::store::connection::Connection;
use crate::store::migrate::MigrateError;
use crate::store::{LostCommit, Store, StoreError, Work};

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
    /// There is no such key that could be revoked.
    #[error("there is no key {0}, or it was revoked already")]
    NoSuchKey(i64),
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

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> CredentialError {
    let what = what.into();
    move |cause| CredentialError::Io { what, cause }
}

/// What a new credential may do, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct GrantArgs {
    /// The tenant it is good in; '*' for all
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// A namespace it is good in; may be given several times [default: all of the tenant's]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// viewer reads, client also registers sessions and sends heartbeats, admin does everything
    #[arg(long, value_name = "ROLE")]
    role: Role,
}

impl GrantArgs {
    fn check(&self) -> Result<(), CredentialError> {
        let wrong = |what: &str, error| CredentialError::Argument(format!("{what} is not valid: {error}"));
        if self.tenant != "*" {
            TenantId::parse(self.tenant.as_str()).map_err(|error| wrong("the tenant", error))?;
        }
        for namespace in &self.namespace {
            NamespaceId::parse(namespace.as_str()).map_err(|error| wrong("a namespace", error))?;
        }
        Ok(())
    }

    fn namespaces(&self) -> Option<Vec<String>> {
        let distinct: BTreeSet<&String> = self.namespace.iter().collect();
        (!distinct.is_empty()).then(|| distinct.into_iter().cloned().collect())
    }
}

/// A key to be made.
#[derive(Clone, Debug, clap::Args)]
pub struct NewKeyArgs {
    /// A name for people, shown in lists and in the audit trail
    name: String,
    #[command(flatten)]
    grant: GrantArgs,
    /// How long it is good, such as 90days [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<Span>,
    /// The number of a key of the same tenant whose place it takes: it counts as the same caller, so sessions that are bound to that one go on; both are good until that one is revoked
    #[arg(long, value_name = "KEY")]
    replaces: Option<i64>,
}

/// What is done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it: the one time that it is shown
    #[command(mut_args = serve::only_for_database)]
    Create {
        #[command(flatten)]
        key: NewKeyArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// List all keys, without their secrets
    #[command(mut_args = serve::only_for_database)]
    List {
        /// How to print
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: Format,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Revoke a key; every replica refuses it within seconds
    #[command(mut_args = serve::only_for_database)]
    Revoke {
        /// The key's number in the list
        key: i64,
        #[command(flatten)]
        serve: ServeArgs,
    },
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
        KeysCommand::Create { key, serve } => {
            let (text, key_id) = create_key(&serve.settle_for_database()?, key).await?;
            let note = format!(
                "This is key {key_id}. It is shown this once and kept nowhere: put it where its user finds it."
            );
            Ok(Said { output: text, note: Some(note) })
        }
        KeysCommand::List { output, serve } => {
            let output = list_keys(&serve.settle_for_database()?, output).await?;
            Ok(Said { output, note: None })
        }
        KeysCommand::Revoke { key, serve } => {
            let output = revoke_key(&serve.settle_for_database()?, key).await?;
            Ok(Said { output, note: None })
        }
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
            grant.check()?;
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

fn add_user(path: &Path, name: &str, grant: &GrantArgs) -> Result<(), CredentialError> {
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
    let namespaces = grant.namespaces().map_or(String::new(), |names| format!(", namespaces = {}", json!(names)));
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let text = format!(
        "{before}{separator}\n[users.{}]\npassword = {}\ngrants = [{{ tenant = {}{namespaces}, role = \"{}\" }}]\n",
        json!(name),
        json!(hash),
        json!(grant.tenant),
        grant.role.text(),
    );
    replace_file(path, text.trim_start_matches('\n'))
}

/// Puts a whole new file in its place: a service that reads it at this moment sees one or the other.
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
    let password = match input.is_terminal() {
        false => read_line()?,
        true => {
            let first = without_echo("Password: ")?;
            if without_echo("Again: ")? != first {
                return Err(CredentialError::Argument("the two passwords differ".to_owned()));
            }
            first
        }
    };
    match password.is_empty() {
        true => Err(CredentialError::Argument("the password is empty".to_owned())),
        false => Ok(password),
    }
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

/// Makes a key; its text and its number.
async fn create_key(settings: &Settings, args: NewKeyArgs) -> Result<(String, i64), CredentialError> {
    args.grant.check()?;
    if args.name.trim().is_empty() || args.name.chars().any(char::is_control) {
        return Err(CredentialError::Argument("the name is empty or holds a control character".to_owned()));
    }
    let (text, key_hash) = api_keys::generate().map_err(|error| CredentialError::NoSecret(error.to_string()))?;
    let key = NewKey {
        key_hash,
        name: args.name,
        tenant_id: args.grant.tenant.clone(),
        namespaces: args.grant.namespaces(),
        role: args.grant.role.text(),
        valid_for_s: args.expires_in.map(|Span(duration)| duration.as_secs_f64()),
        replaces: args.replaces,
    };
    let operator = Operator::here();
    let work = Arc::new((key, operator));
    let key_id = in_database(settings, "create_key", move |connection| {
        let work = work.clone();
        Box::pin(async move {
            let (key, operator) = &*work;
            let Some(key_id) = stored::insert_key(connection, key).await? else { return Ok(None) };
            let after = json!({
                "Key": key_id, "Name": key.name, "Namespaces": key.namespaces, "Role": key.role,
                "ValidForSeconds": key.valid_for_s, "Replaces": key.replaces,
            });
            audit::record(connection, operator.entry(Action::KeyCreated, &key.tenant_id, None, Some(after))).await?;
            Ok(Some(key_id))
        })
    })
    .await?;
    let key_id = key_id.ok_or(CredentialError::NoSuchKey(args.replaces.unwrap_or_default()))?;
    Ok((text, key_id))
}

/// Revokes a key; what to print.
async fn revoke_key(settings: &Settings, key_id: i64) -> Result<String, CredentialError> {
    let operator = Arc::new(Operator::here());
    let revoked = in_database(settings, "revoke_key", move |connection| {
        let operator = operator.clone();
        Box::pin(async move {
            let Some((name, tenant)) = stored::revoke_key(connection, key_id).await? else { return Ok(None) };
            let before = json!({"Key": key_id, "Name": name});
            audit::record(connection, operator.entry(Action::KeyRevoked, &tenant, Some(before), None)).await?;
            Ok(Some(name))
        })
    })
    .await?;
    let name = revoked.ok_or(CredentialError::NoSuchKey(key_id))?;
    Ok(format!("key {key_id} '{name}' is revoked; every replica refuses it within seconds"))
}

/// Lists the keys; what to print.
async fn list_keys(settings: &Settings, format: Format) -> Result<String, CredentialError> {
    let keys = in_database(settings, "list_keys", |connection| Box::pin(stored::list_keys(connection))).await?;
    if format != Format::Table {
        let list = Value::from(keys.iter().map(json_of).collect::<Vec<Value>>()).to_string();
        return output::text_of(format, &list).map_err(|error| CredentialError::Output(error.to_string()));
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["key", "name", "tenant", "namespaces", "role", "created", "expires", "last used", "state"]);
    for key in keys {
        table.add_row(row_of(&key));
    }
    Ok(table.to_string())
}

/// A key for programs.
fn json_of(key: &ListedKey) -> Value {
    let time = |time: Option<chrono::DateTime<chrono::Utc>>| time.map(crate::operator::wire_time);
    json!({
        "Key": key.key_id,
        "Name": key.name,
        "TenantId": key.tenant_id,
        "Namespaces": key.namespaces,
        "Role": key.role,
        "Valid": key.valid,
        "CreatedAt": time(Some(key.created_at)),
        "ExpiresAt": time(key.expires_at),
        "LastUsedAt": time(key.last_used_at),
        "RevokedAt": time(key.revoked_at),
    })
}

fn row_of(key: &ListedKey) -> [String; 9] {
    let time = |time: Option<chrono::DateTime<chrono::Utc>>| {
        time.map_or("-".to_owned(), |time| time.format("%Y-%m-%d %H:%M").to_string())
    };
    let state = match (key.valid, key.revoked_at) {
        (true, _) => "valid".to_owned(),
        (false, Some(at)) => format!("revoked {}", time(Some(at))),
        (false, None) => "expired".to_owned(),
    };
    [
        key.key_id.to_string(),
        key.name.clone(),
        key.tenant_id.clone(),
        key.namespaces.as_ref().map_or("all".to_owned(), |names| names.join(", ")),
        key.role.clone(),
        time(Some(key.created_at)),
        time(key.expires_at),
        time(key.last_used_at),
        state,
    ]
}

/// One transaction in the database of the settings, which is brought up to date first.
async fn in_database<T>(
    settings: &Settings,
    name: &'static str,
    work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
) -> Result<T, CredentialError> {
    let (store, direct, postgres) = open_database(settings).await?;
    let outcome = migrate_and_run(&store, &direct, settings.migrate, name, work).await;
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
    name: &'static str,
    work: impl for<'c> FnMut(&'c mut Connection) -> Work<'c, T>,
) -> Result<T, CredentialError> {
    if migrate {
        direct.migrate().await.map_err(|error: MigrateError| ServeError::from(error))?;
    }
    // Told where it is not known whether it was done: a second key would be nobody's.
    Ok(store.serializable(name, LostCommit::Report, work).await?)
}

/// Whoever runs the command.
struct Operator {
    identity: String,
    operation_id: String,
}

impl Operator {
    fn here() -> Operator {
        let uid = geteuid();
        let account = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Operator { identity: format!("command:{account}"), operation_id: format!("{:032x}", fastrand::u128(1..)) }
    }

    fn entry<'a>(&'a self, action: Action, tenant: &'a str, before: Option<Value>, after: Option<Value>) -> Entry<'a> {
        Entry {
            action,
            tenant,
            namespace: None,
            group: None,
            session: None,
            identity: &self.identity,
            operation_id: &self.operation_id,
            claimed_trace_id: None,
            before,
            after,
        }
    }
}
