//! The service as a process: its settings, its database, its server, its upkeep, and how it ends.

use std::future::Future;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::dev::Server;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use crate::access::{AuthSetupError, Authenticator};
use crate::config::{ConfigError, Database, Given, ListenAddresses, Settings};
use crate::failover::Failover;
use crate::http::{self, Life, Served};
use crate::log_limits;
use crate::postgres::{Postgres, PostgresError, PostgresOptions};
use crate::store::distribution::DistributeError;
use crate::store::migrate::MigrateError;
use crate::store::private;
use crate::store::reader::ReaderError;
use crate::store::{Pooler, Store, StoreOptions};
use crate::telemetry::{self, TelemetryError};
use crate::tls::{Tls, TlsError};
use crate::version;
use crate::webhook::{Webhook, WebhookError};
use account::AccountError;
use background::Background;

mod account;
mod background;
mod banner;
mod exposure;
mod signals;

/// The settings of the service, as commands on its database take them too.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file (TOML); flags and environment variables come before it
    #[arg(long, env = "CLIENT_FAILOVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// One of them.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Those of logs and traces.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

impl ServeArgs {
    /// The settings, from everywhere that they may be given. Starts logging as they want it.
    pub fn settle(self) -> Result<Settings, SettleError> {
        let settings = self.given.settle(self.config.as_deref())?;
        telemetry::start(&settings.log, settings.log_format, settings.traces.as_ref())?;
        exposure::warn_about_arguments();
        Ok(settings)
    }

    /// The settings for a command on the database: whatever else the file says is for serve.
    pub fn settle_for_database(self) -> Result<Settings, SettleError> {
        let settings = self.given.settle_for_database(self.config.as_deref())?;
        telemetry::start(&settings.log, settings.log_format, None)?;
        exposure::warn_about_arguments();
        Ok(settings)
    }
}

/// The settings that a command on the database uses, of those of serve.
const FOR_DATABASE: [&str; 12] = [
    "config",
    "database_url",
    "database_direct_url",
    "database_password_file",
    "pooler",
    "data_dir",
    "postgres_bin_dir",
    "operation_timeout",
    "idle_in_transaction_timeout",
    "log",
    "log_format",
    MIGRATE,
];

/// The one of them that says nothing to a command that migrates.
const MIGRATE: &str = "migrate";

/// Leaves a command on the database the settings that it uses: the others are not shown, not read
/// from the environment, and refused as flags.
pub fn only_for_database(argument: clap::Arg) -> clap::Arg {
    static OF_SERVE: LazyLock<Vec<clap::Id>> = LazyLock::new(|| {
        let serve = <ServeArgs as clap::Args>::augment_args(clap::Command::new("serve"));
        serve.get_arguments().map(|argument| argument.get_id().clone()).collect()
    });
    let id = argument.get_id();
    if FOR_DATABASE.contains(&id.as_str()) || !OF_SERVE.contains(id) { argument } else { without_use(argument) }
}

/// The same for the command that migrates.
pub fn only_for_migration(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        MIGRATE => without_use(argument),
        _ => only_for_database(argument),
    }
}

fn without_use(argument: clap::Arg) -> clap::Arg {
    argument.hide(true).env(None::<&str>).value_parser(refuse_setting)
}

fn refuse_setting(_: &str) -> Result<String, &'static str> {
    Err("it is a setting of serve, which this command has no use for")
}

/// Why the service could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The private server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database, in a way that waiting does not mend.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A role of the database that only reads.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// Groups cannot be spread over several servers.
    #[error(transparent)]
    Distribute(#[from] DistributeError),
    /// What callers are recognised by.
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    /// Whoever is told what happens.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account that it should go on as.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The HTTP server.
    #[error("the HTTP server failed: {0}")]
    Server(#[from] std::io::Error),
}

/// A service that is bound to its port and has its database on the way.
pub struct Service {
    addresses: Vec<SocketAddr>,
    scheme: &'static str,
    server: Server,
    life: Life,
    store: Store,
    postgres: Option<Postgres>,
    preparation: tokio::task::JoinHandle<Result<(), ServeError>>,
    prepared: oneshot::Receiver<()>,
    drain: Duration,
}

impl Service {
    /// Binds the port, starts the private server if there is to be one, and begins to wait for the
    /// database. A customer's database need not be there yet; until it is, requests are answered 503.
    pub async fn start(settings: &Settings) -> Result<Service, ServeError> {
        let listeners = listen(&settings.listen)?;
        let local_addr = |listener: &TcpListener| listener.local_addr().map_err(ServeError::Server);
        let addresses: Vec<SocketAddr> = listeners.iter().map(local_addr).collect::<Result<_, _>>()?;
        // Before the database: what is wrong with the settings is said at once, and nothing was
        // begun.
        let tls = settings.tls.as_ref().map(Tls::open).transpose()?;
        let tls_config = tls.as_ref().map(Tls::config);
        let client_trust = tls.as_ref().and_then(Tls::client_trust);
        let webhook = settings.webhook.as_ref().map(Webhook::open).transpose()?;
        exposure::warn(settings, &addresses);
        // The last thing that needs root is done: the port is open and the key of the certificate
        // is read.
        leave_root(settings)?;
        let (store, direct, postgres) = open_database(settings).await?;
        let authenticator = match Authenticator::open(&settings.auth, &store) {
            Ok(authenticator) => Arc::new(authenticator.trusting(client_trust)),
            Err(error) => {
                if let Some(postgres) = postgres {
                    postgres.stop().await?;
                }
                return Err(error.into());
            }
        };
        let failover = Failover::start(store.clone(), settings.failover.clone());
        let life = Life::default();
        let served = Served { failover: failover.clone(), authenticator: authenticator.clone(), life: life.clone() };
        let server = http::server(listeners, served, tls_config, &settings.http)?;
        let (is_prepared, prepared) = oneshot::channel();
        let background = Background { failover, direct, migrates: settings.migrate, authenticator, tls, webhook };
        let preparation = tokio::spawn(background.run(is_prepared));
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        Ok(Service { addresses, scheme, server, life, store, postgres, preparation, prepared, drain: settings.drain })
    }

    /// Where it is found.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// Where it listens; the first of several addresses of one name.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Waits until the private server, if there is one, can be used. A customer's is not waited
    /// for: it may come later.
    pub async fn wait_for_private_database(&mut self) {
        if self.postgres.is_some() {
            // An error means that the preparation failed, which `run_until` reports.
            let _ = (&mut self.prepared).await;
        }
    }

    /// The URL of the private database, for commands on this machine. It holds no secret: who may
    /// use it is a matter of the socket's folder.
    pub fn private_database_url(&self) -> Option<String> {
        let postgres = self.postgres.as_ref()?;
        let folder = percent_encode(postgres.socket_dir().as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        Some(format!("postgres://{}@{folder}:{}/{}", private::OWNER, postgres.port(), private::DATABASE))
    }

    /// Serves until `stop` completes, then ends in order: readiness, new connections, requests in
    /// flight, database connections, the private server.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let handle = self.server.handle();
        let mut server = tokio::spawn(self.server);
        let mut upkeep = self.preparation;
        let served = tokio::select! {
            () = stop => Ok(()),
            ended = &mut server => flatten(ended.map(|ended| ended.map_err(ServeError::from))),
            // It goes on for ever unless the database can never be used.
            ended = &mut upkeep => flatten(ended),
        };
        self.life.end();
        tracing::info!("stopping");
        tokio::time::sleep(self.drain).await;
        handle.stop(true).await;
        upkeep.abort();
        // Connections in the middle of something are broken by the server's end; nothing committed
        // is lost.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.store.close()).await;
        log_limits::finish();
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        served
    }
}

/// How many connections may wait to be taken: when a replica dies, all its clients come to another
/// at once, and one that finds no room tries again only after a second.
const BACKLOG: u32 = 4_096;

/// How often another free port is tried where it is taken on one of several addresses.
const FREE_PORT_ATTEMPTS: usize = 20;

/// Listens on all addresses of a name, on one port. An address that this machine does not have, as
/// where IPv6 is off, is left out as long as another is there.
fn listen(wanted: &ListenAddresses) -> Result<Vec<TcpListener>, ServeError> {
    let mut attempts = if wanted.port() == 0 { FREE_PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let mut port = wanted.port();
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut missing = None;
        let mut taken = None;
        for address in wanted.addresses() {
            let address = SocketAddr::new(address.ip(), port);
            match listen_on(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((found, listener)) => {
                    port = found.port();
                    listeners.push(listener);
                }
                Err(cause) if is_missing(&cause) => missing = Some(ServeError::Listen { address, cause }),
                Err(cause) => taken = Some(ServeError::Listen { address, cause }),
            }
        }
        match (taken, missing) {
            (Some(_), _) if attempts > 0 => {}
            (Some(error), _) => return Err(error),
            (None, Some(error)) if listeners.is_empty() => return Err(error),
            (None, _) => return Ok(listeners),
        }
    }
}

/// Whether the machine does not have the address.
fn is_missing(cause: &std::io::Error) -> bool {
    cause.kind() == std::io::ErrorKind::AddrNotAvailable
        || cause.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the standard library does: a service that is started again need not wait for connections
    // of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Goes on as the account of the settings, if there is one.
fn leave_root(settings: &Settings) -> Result<(), AccountError> {
    let Some(user) = &settings.run_as else { return Ok(()) };
    let data_dir = match &settings.database {
        Database::Private { data_dir, .. } => Some(data_dir.as_path()),
        Database::Url { .. } => None,
    };
    account::become_user(user, data_dir)?;
    let tls = settings.tls.iter();
    account::warn_of_unreadable(
        tls.flat_map(|tls| [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()])
            .flatten()
            .map(PathBuf::as_path),
    );
    Ok(())
}

/// The outcome of a task that may have panicked.
fn flatten(ended: Result<Result<(), ServeError>, tokio::task::JoinError>) -> Result<(), ServeError> {
    ended.unwrap_or_else(|panic| Err(ServeError::Server(std::io::Error::other(panic))))
}

/// Migrates the database of these settings, starting the private server for it if there is to be
/// one, and makes these roles readers of it; returns how many migrations ran. Where that is asked
/// for, its groups are spread over the nodes of its cluster.
pub async fn migrate(settings: &Settings, readers: &[String], distribute: bool) -> Result<usize, ServeError> {
    let (_, direct, postgres) = open_database(settings).await?;
    let migrate = async {
        let count = direct.migrate().await?;
        if distribute {
            direct.distribute().await?;
        }
        // The owner of the private database may not make roles.
        let maker = postgres.as_ref().map(|postgres| {
            let superuser = private::superuser(postgres.socket_dir(), postgres.port(), postgres.user());
            Store::open(superuser, settings.store.clone())
        });
        for role in readers {
            maker.as_ref().unwrap_or(&direct).make_reader(role).await?;
        }
        if let Some(maker) = maker {
            maker.close().await;
        }
        Ok(count)
    };
    let migrated = migrate.await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    migrated
}

/// The store for requests, the store for migrations, and the private server.
pub(crate) async fn open_database(settings: &Settings) -> Result<(Store, Store, Option<Postgres>), ServeError> {
    match &settings.database {
        Database::Url { pooled, direct } => {
            let store = Store::open(pooled.clone(), settings.store.clone());
            let direct = if pooled.are_those_of(direct) {
                store.clone()
            } else if pooled.are_at_the_place_of(direct) {
                store.open_beside(direct.clone(), settings.store.clone())
            } else {
                store.open_beside(direct.clone(), StoreOptions { pooler: Pooler::None, ..settings.store.clone() })
            };
            let direct = direct.beside();
            Ok((store, direct, None))
        }
        Database::Private { data_dir, bin_dir } => {
            let options = PostgresOptions { data_dir: data_dir.clone(), bin_dir: bin_dir.clone(), settings: vec![] };
            let postgres = Postgres::start(options).await?;
            let superuser = private::superuser(postgres.socket_dir(), postgres.port(), postgres.user());
            private::prepare(&superuser).await.map_err(MigrateError::from)?;
            let store = Store::open(private::owner(superuser), settings.store.clone());
            let direct = store.beside();
            Ok((store, direct, Some(postgres)))
        }
    }
}

/// How a service came to a bad end.
#[derive(Debug, thiserror::Error)]
pub enum BadEnd {
    /// It did not start: its settings or the machine have to be changed.
    #[error(transparent)]
    NotStarted(ServeError),
    /// It ran, and failed.
    #[error(transparent)]
    Failed(#[from] ServeError),
}

/// Serves until a signal says that it is enough.
pub async fn run(settings: &Settings) -> Result<(), BadEnd> {
    // Before anything is started that has to be put away again.
    let stop = signals::Stop::listen().map_err(ServeError::from)?;
    let mut service = Service::start(settings).await.map_err(BadEnd::NotStarted)?;
    for address in &service.addresses {
        tracing::info!(version = version::VERSION, commit = version::COMMIT, %address, scheme = service.scheme, "listening");
    }
    service.wait_for_private_database().await;
    // `println!` would panic where the reader has gone, and whether anybody reads is not our
    // business.
    let _ = writeln!(std::io::stdout(), "{}", banner::text(&service, settings));
    Ok(service.run_until(stop.comes()).await?)
}
