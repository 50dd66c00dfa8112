//! Settings: from the command line, the environment, or a TOML file, in that order; validated once.
//!
//! One structure serves all three sources, so that a setting has one name: `--sweep-interval`,
//! `CLIENT_FAILOVER_SWEEP_INTERVAL` and `sweep-interval = "500ms"` are the same.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use client_failover_operator::suggest;
use client_failover_wire::Secret;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::access::bearer::{self, KeySource, OidcOptions, TokenAlgorithm};
use crate::access::writes::WriteRates;
use crate::access::{AuthOptions, Grade, Method};
use crate::arbitration::{HandoverMode, Rules};
use crate::failover::{EventOptions, FailoverOptions};
use crate::http::proxies::Proxies;
use crate::http::{AllowedHosts, ConnectionOptions, HttpOptions};
use crate::store::histories::DatabaseHistory;
use crate::store::hosts::Hosts;
use crate::store::password::PasswordFile;
use crate::store::{Pooler, StoreOptions};
use crate::telemetry::{LogFormat, TraceOptions};
use crate::tls::TlsOptions;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the settings file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file holds something that is not a setting.
    #[error("the settings file {}: {wrong}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What, and where.
        wrong: String,
    },
    /// The database's password cannot be had.
    #[error("{0}")]
    PasswordFile(std::io::Error),
    /// A value is out of bounds.
    #[error("{setting} is {value}: {wanted}")]
    OutOfBounds {
        /// Which.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: String,
    },
    /// A setting that another one needs.
    #[error("{setting} is missing: {why}")]
    Missing {
        /// Which.
        setting: &'static str,
        /// What needs it.
        why: &'static str,
    },
    /// Settings that cannot both be meant.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The address can be reached by others, and nobody would be asked who they are.
    #[error(
        "{address} can be reached from other machines and no authentication is set: give --auth oidc, basic, api-key or certificate with its settings, or --auth none to let everybody do everything"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A database URL that is not one. Its text is not shown: it may hold a password.
    #[error("{setting} is not a PostgreSQL URL such as postgres://user@host:5432/database: {wrong}")]
    DatabaseUrl {
        /// Which.
        setting: &'static str,
        /// Why.
        wrong: String,
    },
}

/// A duration such as `500ms`, `2s` or `1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Span, Self::Err> {
        humantime::parse_duration(text).map(Span)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| de::Error::custom(format!("'{text}' is not a duration such as 500ms: {error}")))
    }
}

/// Where to listen: an address, or all addresses of a name, with one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddresses(Vec<SocketAddr>);

impl ListenAddresses {
    /// The addresses of `HOST:PORT`, where the host may be a name.
    fn find(text: &str) -> Result<ListenAddresses, ConfigError> {
        let fault = |wanted: &str| ConfigError::OutOfBounds {
            setting: "listen",
            value: format!("'{text}'"),
            wanted: wanted.to_owned(),
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(ListenAddresses(vec![address]));
        }
        const FORM: &str =
            "it must be an address or a name, with a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fault(FORM))?;
        // What is left with a colon is an address of IPv6 without its brackets, or a URL.
        if host.is_empty() || host.contains([':', '/', '[', ']']) {
            return Err(fault(FORM));
        }
        let port: u16 = port.parse().map_err(|_| fault(FORM))?;
        let found = (host, port).to_socket_addrs();
        let found = found.map_err(|error| fault(&format!("the name cannot be resolved: {error}")))?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        // The first one is shown: the form that everybody reads.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        match addresses.is_empty() {
            true => Err(fault("the name has no address")),
            false => Ok(ListenAddresses(addresses)),
        }
    }

    /// All of them; there is at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }

    /// Their port.
    pub fn port(&self) -> u16 {
        self.0[0].port()
    }

    /// The same addresses with another port.
    pub fn set_port(&mut self, port: u16) {
        self.0.iter_mut().for_each(|address| address.set_port(port));
    }

    /// The first that can be reached from other machines.
    fn first_open(&self) -> Option<SocketAddr> {
        self.0.iter().copied().find(|address| !address.ip().is_loopback())
    }
}

impl<T: Into<IpAddr>> From<(T, u16)> for ListenAddresses {
    fn from(address: (T, u16)) -> ListenAddresses {
        ListenAddresses(vec![address.into()])
    }
}

/// What happens when a Primary yields to a healthier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandoverSetting {
    /// Its successor waits until it acknowledges, is deleted, or its lease has run out.
    Strict,
    /// Its successor is granted at once; safe only if the demoting answer arrives.
    Prompt,
}

/// What a promotion of a standby is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseHistorySetting {
    /// The latest commits may be lost: for one failover timeout nobody is Primary who does not act
    /// already.
    Fenced,
    /// Nothing that was committed is lost: commits wait for a standby, and no other is promoted.
    Trusted,
}

/// What stands between the service and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolerSetting {
    /// Nothing.
    None,
    /// PgBouncer or the like in transaction mode: no prepared statements are kept.
    Transaction,
}

/// Every setting as it may be given; none has to be.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Given {
    /// Address to listen on, or a name, for all of its addresses; port 0 takes a free one [default:
    /// 127.0.0.1:8080]
    #[arg(long, env = "CLIENT_FAILOVER_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,

    /// PostgreSQL 14 or later, as postgres://user:password@host:5432/database; several hosts with
    /// commas between [default: a private PostgreSQL in the data directory]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,

    /// The same database past a pooler, for migrations and for hearing of events [default: the
    /// database URL]
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    database_direct_url: Option<Secret>,

    /// File with the password of the database's account, for URLs without one; read again for each
    /// new connection
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,

    /// What stands between the service and PostgreSQL: 'transaction' for PgBouncer in transaction
    /// mode, which turns prepared statements off [default: none]
    #[arg(long, env = "CLIENT_FAILOVER_POOLER", value_name = "KIND")]
    pooler: Option<PoolerSetting>,

    /// Where the private PostgreSQL keeps its data [default: /var/lib/client-failover as root, else
    /// ~/.local/share/client-failover]
    #[arg(long, env = "CLIENT_FAILOVER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where the programs of the private PostgreSQL are [default: found by PATH, else in the
    /// distribution's folders]
    #[arg(long, env = "CLIENT_FAILOVER_POSTGRES_BIN_DIR", value_name = "DIR")]
    postgres_bin_dir: Option<PathBuf>,

    /// Whether serve brings the tables up to date when it starts [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_MIGRATE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    migrate: Option<bool>,

    /// The most database connections that requests share; each replica has 5 more for heartbeats
    /// and up to 9 for its upkeep and events [default: 16]
    #[arg(long, env = "CLIENT_FAILOVER_POOL_SIZE", value_name = "N")]
    pool_size: Option<u32>,

    /// How long an operation may wait for the database, retries included, before it is answered 503
    /// [default: 3s]
    #[arg(long, env = "CLIENT_FAILOVER_OPERATION_TIMEOUT", value_name = "TIME")]
    operation_timeout: Option<Span>,

    /// How long a transaction may stand idle before PostgreSQL ends it, so that a paused replica
    /// holds nobody up [default: 2s]
    #[arg(long, env = "CLIENT_FAILOVER_IDLE_IN_TRANSACTION_TIMEOUT", value_name = "TIME")]
    idle_in_transaction_timeout: Option<Span>,

    /// The longest time in which no replica reaches the database that leases are still judged by
    /// [default: 2s]
    #[arg(long, env = "CLIENT_FAILOVER_OUTAGE_GAP", value_name = "TIME")]
    outage_gap: Option<Span>,

    /// How often lapsed roles are looked for [default: 500ms]
    #[arg(long, env = "CLIENT_FAILOVER_SWEEP_INTERVAL", value_name = "TIME")]
    sweep_interval: Option<Span>,

    /// Whether a lapse is also looked for at the moment when a lease ends, and not only by the
    /// sweep [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_PROMPT_LAPSES", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    prompt_lapses: Option<bool>,

    /// The most streams of events that a replica has open; more are answered 503 [default: 5000]
    #[arg(long, env = "CLIENT_FAILOVER_EVENT_STREAMS", value_name = "N")]
    event_streams: Option<usize>,

    /// How long changes of roles and of configuration are kept [default: 90d]
    #[arg(long, env = "CLIENT_FAILOVER_HISTORY_RETENTION", value_name = "TIME")]
    history_retention: Option<Span>,

    /// How long the audit trail is kept [default: 400d]
    #[arg(long, env = "CLIENT_FAILOVER_AUDIT_RETENTION", value_name = "TIME")]
    audit_retention: Option<Span>,

    /// What a promotion of a standby is taken for: 'fenced' expects that the latest commits are
    /// lost, 'trusted' that a standby has all of them [default: fenced]
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_HISTORY", value_name = "MODE")]
    database_history: Option<DatabaseHistorySetting>,

    /// When a Primary yields: 'strict' waits until it cannot be acting any more, 'prompt' does not
    /// wait [default: strict]
    #[arg(long, env = "CLIENT_FAILOVER_HANDOVER", value_name = "MODE")]
    handover: Option<HandoverSetting>,

    /// By how many per cent more another must be healthier before it replaces a live Primary
    /// [default: 0]
    #[arg(long, env = "CLIENT_FAILOVER_HANDOVER_MARGIN", value_name = "PERCENT")]
    handover_margin: Option<Decimal>,

    /// The most client sessions in a group [default: 1000]
    #[arg(long, env = "CLIENT_FAILOVER_SESSION_LIMIT", value_name = "N")]
    session_limit: Option<u32>,

    /// How many heartbeat transactions a replica runs at once [default: 1]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_WRITERS", value_name = "N")]
    heartbeat_writers: Option<usize>,

    /// The most heartbeats in one transaction [default: 512]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_BATCH", value_name = "N")]
    heartbeat_batch: Option<usize>,

    /// The most heartbeats that wait for a transaction; more are answered 503 [default: 10000]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_QUEUE", value_name = "N")]
    heartbeat_queue: Option<usize>,

    /// Threads that read requests and write answers [default: one per core]
    #[arg(long, env = "CLIENT_FAILOVER_HTTP_WORKERS", value_name = "N")]
    http_workers: Option<usize>,

    /// The most connections of clients at once; more are answered 503 [default: 20000]
    #[arg(long, env = "CLIENT_FAILOVER_CONNECTION_LIMIT", value_name = "N")]
    connection_limit: Option<usize>,

    /// The most of them from one address; behind a proxy, as many as it may open [default: half of
    /// the limit]
    #[arg(long, env = "CLIENT_FAILOVER_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    connections_per_address: Option<usize>,

    /// The most lists and other long answers that one caller has under way; more are answered 429
    /// [default: 8]
    #[arg(long, env = "CLIENT_FAILOVER_LISTS_PER_CALLER", value_name = "N")]
    lists_per_caller: Option<usize>,

    /// Whether there is the page /docs to try the API on [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_DOCS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    docs: Option<bool>,

    /// Names by which the service may be asked for, several with commas between, beside those of
    /// loopback [default: these alone where nobody is asked who they are on a loopback address, any
    /// elsewhere]
    #[arg(long, env = "CLIENT_FAILOVER_ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    allowed_hosts: Option<Vec<String>>,

    /// Proxies whose word (X-Forwarded-For) from where a request comes is believed: addresses and
    /// networks such as 10.0.0.0/8, several with commas between [default: none]
    #[arg(long, env = "CLIENT_FAILOVER_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',')]
    trusted_proxies: Option<Vec<String>>,

    /// How callers say who they are: oidc, basic, api-key, certificate, several with commas
    /// between, or none for no question asked [default: none on a loopback address, and nothing
    /// elsewhere]
    #[arg(
        long,
        env = "CLIENT_FAILOVER_AUTH",
        value_name = "METHODS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    auth: Option<Vec<Method>>,

    /// Issuer of bearer tokens, exactly as its tokens name it
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ISSUER", value_name = "URL")]
    oidc_issuer: Option<String>,

    /// Audiences that mean this service; a token has to be for one of them
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_AUDIENCE", value_name = "NAMES", value_delimiter = ',')]
    oidc_audience: Option<Vec<String>>,

    /// File with the issuer's keys, a JSON Web Key Set [default: found by the issuer's discovery]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_KEYS", value_name = "FILE")]
    oidc_keys: Option<PathBuf>,

    /// Signatures that count: some of RS256, ES256, EdDSA [default: all three]
    #[arg(
        long,
        env = "CLIENT_FAILOVER_OIDC_ALGORITHMS",
        value_name = "NAMES",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    oidc_algorithms: Option<Vec<TokenAlgorithm>>,

    /// By how much the issuer's clock may differ from this one [default: 30s]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_LEEWAY", value_name = "TIME")]
    oidc_leeway: Option<Span>,

    /// The claim that names the caller [default: sub]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_NAME_CLAIM", value_name = "CLAIM")]
    oidc_name_claim: Option<String>,

    /// The claim with the tenant, or an array of tenants, '*' for all [default: tenant]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_TENANT_CLAIM", value_name = "CLAIM")]
    oidc_tenant_claim: Option<String>,

    /// The claim with the namespaces [default: every namespace of the tenant]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_NAMESPACES_CLAIM", value_name = "CLAIM")]
    oidc_namespaces_claim: Option<String>,

    /// The claim with patterns of group ids, such as 'line-*' [default: every group there]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_GROUPS_CLAIM", value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,

    /// The claim with the roles; dots lead into objects, as in realm_access.roles [default: roles]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ROLES_CLAIM", value_name = "CLAIM")]
    oidc_roles_claim: Option<String>,

    /// What the values of that claim mean, as adapters=client,operators=admin [default: metrics,
    /// viewer, client and admin mean themselves]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ROLES", value_name = "MAP", value_delimiter = ',')]
    oidc_roles: Option<Vec<String>>,

    /// File with the users of Basic authentication; 'client-failover users add' writes it
    #[arg(long, env = "CLIENT_FAILOVER_USERS_FILE", value_name = "FILE")]
    users_file: Option<PathBuf>,

    /// File that says what the subjects of client certificates may do
    #[arg(long, env = "CLIENT_FAILOVER_SUBJECTS_FILE", value_name = "FILE")]
    subjects_file: Option<PathBuf>,

    /// Whether the role client may create groups, though not change them [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_CLIENTS_CREATE_GROUPS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    clients_create_groups: Option<bool>,

    /// Whether a client session takes heartbeats only from the caller that registered it [default:
    /// true where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_BIND_SESSIONS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    bind_sessions: Option<bool>,

    /// The most requests per second of one caller on a replica; more are answered 429 [default:
    /// 5000 where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_RATE_LIMIT", value_name = "N")]
    rate_limit: Option<u32>,

    /// How often one caller may change something in an hour, on a replica, as
    /// registrations=20000,changes=6000,deletions=20000,other=2000; those left out stay as they
    /// are, 'none' is any number [default: these where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_CALLER_WRITE_RATES", value_name = "MAP", value_delimiter = ',')]
    caller_write_rates: Option<Vec<String>>,

    /// The same for all callers of a tenant together [default:
    /// registrations=40000,changes=12000,deletions=40000,other=4000]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT_WRITE_RATES", value_name = "MAP", value_delimiter = ',')]
    tenant_write_rates: Option<Vec<String>>,

    /// The most client sessions of a tenant [default: 50000]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT_SESSION_LIMIT", value_name = "N")]
    tenant_session_limit: Option<u32>,

    /// The most groups of a tenant [default: 10000]
    #[arg(long, env = "CLIENT_FAILOVER_GROUP_LIMIT", value_name = "N")]
    group_limit: Option<u32>,

    /// The service's certificate with its chain (PEM), reread when it changes [default: plain HTTP]
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, env = "CLIENT_FAILOVER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The authority that client certificates have to come from (PEM), reread when it changes
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// What the authorities of client certificates have revoked (PEM, or one list in DER), reread
    /// when it changes; each of a chain needs a list
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CLIENT_CRL", value_name = "FILE")]
    tls_client_crl: Option<PathBuf>,

    /// Whether browsers are told, over TLS, to come over TLS alone from then on [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_HSTS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    hsts: Option<bool>,

    /// The account to go on as where the service is started as root, once the port is open and the
    /// TLS key is read [default: the one that starts it]
    #[arg(long, env = "CLIENT_FAILOVER_RUN_AS", value_name = "ACCOUNT")]
    run_as: Option<String>,

    /// How long /health/ready says 503 on SIGTERM before connections are refused: time for a load
    /// balancer to look elsewhere [default: 0s]
    #[arg(long, env = "CLIENT_FAILOVER_DRAIN", value_name = "TIME")]
    drain: Option<Span>,

    /// What is logged, as 'debug' or 'info,client_failover::store=debug' [default: info]
    #[arg(long, env = "CLIENT_FAILOVER_LOG", value_name = "FILTER")]
    log: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, env = "CLIENT_FAILOVER_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Where traces are sent, by OTLP over HTTP, as http://collector:4318 [default: nowhere]
    #[arg(long, env = "CLIENT_FAILOVER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// The part of the requests that is traced where the caller does not say, from 0 to 1 [default:
    /// 0.01]
    #[arg(long, env = "CLIENT_FAILOVER_TRACE_RATIO", value_name = "PART")]
    trace_ratio: Option<f64>,
}

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Database {
    /// A server of the customer's.
    Url {
        /// For requests.
        pooled: Hosts,
        /// For migrations, and for what reads in the background.
        direct: Hosts,
    },
    /// A private server that is started with the service.
    Private {
        /// Where it keeps its data.
        data_dir: PathBuf,
        /// Where its programs are looked for first.
        bin_dir: Option<PathBuf>,
    },
}

/// The settings of `serve` and `migrate`, complete and valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: ListenAddresses,
    /// Where the database is.
    pub database: Database,
    /// Whether `serve` migrates.
    pub migrate: bool,
    /// How the database is used.
    pub store: StoreOptions,
    /// How roles are decided and heartbeats written.
    pub failover: FailoverOptions,
    /// How the server is run.
    pub http: HttpOptions,
    /// Who may come in.
    pub auth: AuthOptions,
    /// The server's TLS; `None` for plain HTTP.
    pub tls: Option<TlsOptions>,
    /// The account to go on as, where it is started as root.
    pub run_as: Option<String>,
    /// How long the service drains before it stops.
    pub drain: Duration,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Where traces go, if they are sent anywhere.
    pub traces: Option<TraceOptions>,
    /// The file that settings are from, if there is one.
    pub file: Option<PathBuf>,
}

const DEFAULT_LOG: &str = "info";

/// How long a stop may take in all, the drain left aside: requests in flight, then the private
/// server.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often all groups and sessions are counted; where they are many, it takes its time and comes
/// less often.
const CENSUS_INTERVAL: Duration = Duration::from_secs(10);

/// How often each replica looks for events that are older than their retention.
const PRUNE_INTERVAL: Duration = Duration::from_secs(300);

impl Given {
    /// The settings, those of the file filled in where the command line and the environment say
    /// nothing.
    pub fn settle(self, file: Option<&Path>) -> Result<Settings, ConfigError> {
        match file {
            None => self.complete(),
            Some(path) => {
                let settings = self.or(read_file(path)?).complete()?;
                Ok(Settings { file: Some(path.to_owned()), ..settings })
            }
        }
    }

    /// The settings of a command on the database: those of serve alone are as if they were not
    /// given.
    pub fn settle_for_database(self, file: Option<&Path>) -> Result<Settings, ConfigError> {
        let given = match file {
            None => self,
            Some(path) => self.or(read_file(path)?),
        };
        let for_database = Given {
            database_url: given.database_url,
            database_direct_url: given.database_direct_url,
            pooler: given.pooler,
            data_dir: given.data_dir,
            postgres_bin_dir: given.postgres_bin_dir,
            migrate: given.migrate,
            operation_timeout: given.operation_timeout,
            idle_in_transaction_timeout: given.idle_in_transaction_timeout,
            log: given.log,
            log_format: given.log_format,
            ..Given::default()
        };
        for_database.complete()
    }

    fn or(self, file: Given) -> Given {
        Given {
            listen: self.listen.or(file.listen),
            database_url: self.database_url.or(file.database_url),
            database_password_file: self.database_password_file.or(file.database_password_file),
            database_direct_url: self.database_direct_url.or(file.database_direct_url),
            pooler: self.pooler.or(file.pooler),
            data_dir: self.data_dir.or(file.data_dir),
            postgres_bin_dir: self.postgres_bin_dir.or(file.postgres_bin_dir),
            migrate: self.migrate.or(file.migrate),
            pool_size: self.pool_size.or(file.pool_size),
            operation_timeout: self.operation_timeout.or(file.operation_timeout),
            idle_in_transaction_timeout: self.idle_in_transaction_timeout.or(file.idle_in_transaction_timeout),
            outage_gap: self.outage_gap.or(file.outage_gap),
            sweep_interval: self.sweep_interval.or(file.sweep_interval),
            prompt_lapses: self.prompt_lapses.or(file.prompt_lapses),
            event_streams: self.event_streams.or(file.event_streams),
            history_retention: self.history_retention.or(file.history_retention),
            audit_retention: self.audit_retention.or(file.audit_retention),
            handover: self.handover.or(file.handover),
            database_history: self.database_history.or(file.database_history),
            handover_margin: self.handover_margin.or(file.handover_margin),
            session_limit: self.session_limit.or(file.session_limit),
            heartbeat_writers: self.heartbeat_writers.or(file.heartbeat_writers),
            heartbeat_batch: self.heartbeat_batch.or(file.heartbeat_batch),
            heartbeat_queue: self.heartbeat_queue.or(file.heartbeat_queue),
            http_workers: self.http_workers.or(file.http_workers),
            connection_limit: self.connection_limit.or(file.connection_limit),
            connections_per_address: self.connections_per_address.or(file.connections_per_address),
            lists_per_caller: self.lists_per_caller.or(file.lists_per_caller),
            docs: self.docs.or(file.docs),
            allowed_hosts: self.allowed_hosts.or(file.allowed_hosts),
            trusted_proxies: self.trusted_proxies.or(file.trusted_proxies),
            auth: self.auth.or(file.auth),
            oidc_issuer: self.oidc_issuer.or(file.oidc_issuer),
            oidc_audience: self.oidc_audience.or(file.oidc_audience),
            oidc_keys: self.oidc_keys.or(file.oidc_keys),
            oidc_algorithms: self.oidc_algorithms.or(file.oidc_algorithms),
            oidc_leeway: self.oidc_leeway.or(file.oidc_leeway),
            oidc_name_claim: self.oidc_name_claim.or(file.oidc_name_claim),
            oidc_tenant_claim: self.oidc_tenant_claim.or(file.oidc_tenant_claim),
            oidc_namespaces_claim: self.oidc_namespaces_claim.or(file.oidc_namespaces_claim),
            oidc_groups_claim: self.oidc_groups_claim.or(file.oidc_groups_claim),
            oidc_roles_claim: self.oidc_roles_claim.or(file.oidc_roles_claim),
            oidc_roles: self.oidc_roles.or(file.oidc_roles),
            users_file: self.users_file.or(file.users_file),
            subjects_file: self.subjects_file.or(file.subjects_file),
            clients_create_groups: self.clients_create_groups.or(file.clients_create_groups),
            bind_sessions: self.bind_sessions.or(file.bind_sessions),
            rate_limit: self.rate_limit.or(file.rate_limit),
            caller_write_rates: self.caller_write_rates.or(file.caller_write_rates),
            tenant_write_rates: self.tenant_write_rates.or(file.tenant_write_rates),
            tenant_session_limit: self.tenant_session_limit.or(file.tenant_session_limit),
            group_limit: self.group_limit.or(file.group_limit),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            tls_client_ca: self.tls_client_ca.or(file.tls_client_ca),
            tls_client_crl: self.tls_client_crl.or(file.tls_client_crl),
            hsts: self.hsts.or(file.hsts),
            run_as: self.run_as.or(file.run_as),
            drain: self.drain.or(file.drain),
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
            trace_ratio: self.trace_ratio.or(file.trace_ratio),
        }
    }

    fn complete(self) -> Result<Settings, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let tls = self.tls()?;
        let listen = self.listen_addresses()?;
        let auth = self.auth(&listen, tls.as_ref())?;
        let asks = !auth.is_open();
        let allowed_hosts = self.allowed_hosts(&listen, asks)?;
        Ok(Settings {
            database: self.database()?,
            auth,
            listen,
            tls,
            migrate: self.migrate.unwrap_or(true),
            store: StoreOptions {
                pool_size: bounded("pool-size", self.pool_size.unwrap_or(16), 2, 1_000)?,
                operation_timeout: span("operation-timeout", self.operation_timeout, 3_000, 100)?,
                idle_in_transaction_timeout: span(
                    "idle-in-transaction-timeout",
                    self.idle_in_transaction_timeout,
                    2_000,
                    100,
                )?,
                outage_gap: span("outage-gap", self.outage_gap, 2_000, 100)?,
                pooler: match self.pooler.unwrap_or(PoolerSetting::None) {
                    PoolerSetting::None => Pooler::None,
                    PoolerSetting::Transaction => Pooler::Transaction,
                },
                database_history: match self.database_history.unwrap_or(DatabaseHistorySetting::Fenced) {
                    DatabaseHistorySetting::Fenced => DatabaseHistory::Fenced,
                    DatabaseHistorySetting::Trusted => DatabaseHistory::Trusted,
                },
                password_file: self.password_file()?,
            },
            failover: FailoverOptions {
                rules: Rules {
                    handover_margin: percentage("handover-margin", self.handover_margin)?,
                    handover: match self.handover.unwrap_or(HandoverSetting::Strict) {
                        HandoverSetting::Strict => HandoverMode::Strict,
                        HandoverSetting::Prompt => HandoverMode::Prompt,
                    },
                },
                session_limit: bounded("session-limit", self.session_limit.unwrap_or(1_000), 1, 10_000)?,
                group_limit: Some(bounded("group-limit", self.group_limit.unwrap_or(10_000), 1, 10_000_000)?),
                tenant_session_limit: Some(bounded(
                    "tenant-session-limit",
                    self.tenant_session_limit.unwrap_or(50_000),
                    1,
                    100_000_000,
                )?),
                bind_sessions: self.bind_sessions.unwrap_or(asks),
                heartbeat_writers: bounded("heartbeat-writers", self.heartbeat_writers.unwrap_or(1), 1, 64)?,
                heartbeat_batch: bounded("heartbeat-batch", self.heartbeat_batch.unwrap_or(512), 1, 10_000)?,
                heartbeat_queue: bounded("heartbeat-queue", self.heartbeat_queue.unwrap_or(10_000), 1, 1_000_000)?,
                sweep_interval: span("sweep-interval", self.sweep_interval, 500, 10)?,
                prompt_lapses: self.prompt_lapses.unwrap_or(true),
                census_interval: CENSUS_INTERVAL,
                events: EventOptions {
                    most_streams: bounded("event-streams", self.event_streams.unwrap_or(5_000), 0, 1_000_000)?,
                    retention: retention("history-retention", self.history_retention, 90)?,
                    audit_retention: retention("audit-retention", self.audit_retention, 400)?,
                    prune_interval: PRUNE_INTERVAL,
                },
            },
            http: HttpOptions {
                workers: bounded("http-workers", self.http_workers.unwrap_or(cores), 1, 1_024)?,
                shutdown_timeout: SHUTDOWN_TIMEOUT,
                connections: ConnectionOptions {
                    proxies: trusted_proxies(self.trusted_proxies.as_deref().unwrap_or_default())?,
                    ..connections(self.connection_limit, self.connections_per_address)?
                },
                lists_per_caller: bounded("lists-per-caller", self.lists_per_caller.unwrap_or(8), 1, 1_000_000)?,
                docs: self.docs.unwrap_or(true),
                allowed_hosts,
                hsts: self.hsts.unwrap_or(true),
            },
            run_as: self.run_as,
            drain: span("drain", self.drain, 0, 0)?,
            traces: traces(self.otlp_endpoint, self.trace_ratio)?,
            file: None,
            log: self.log.unwrap_or_else(|| DEFAULT_LOG.to_owned()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
        })
    }

    fn listen_addresses(&self) -> Result<ListenAddresses, ConfigError> {
        match &self.listen {
            None => Ok(ListenAddresses::from(([127, 0, 0, 1], 8080))),
            Some(text) => ListenAddresses::find(text),
        }
    }

    fn tls(&self) -> Result<Option<TlsOptions>, ConfigError> {
        if self.tls_client_crl.is_some() && self.tls_client_ca.is_none() {
            return Err(missing("tls-client-ca", "tls-client-crl is set"));
        }
        match (&self.tls_certificate, &self.tls_key, &self.tls_client_ca) {
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), client_ca) => Ok(Some(TlsOptions {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
                client_crl: self.tls_client_crl.clone(),
            })),
            (None, ..) => Err(missing("tls-certificate", "a certificate and its key are given together")),
            (_, None, _) => Err(missing("tls-key", "a certificate and its key are given together")),
        }
    }

    fn auth(&self, listen: &ListenAddresses, tls: Option<&TlsOptions>) -> Result<AuthOptions, ConfigError> {
        let mut options =
            AuthOptions { clients_create_groups: self.clients_create_groups.unwrap_or(true), ..AuthOptions::default() };
        let methods = match &self.auth {
            Some(methods) => methods.as_slice(),
            None => match listen.first_open() {
                None => &[Method::None],
                Some(address) => return Err(ConfigError::Open { address }),
            },
        };
        if methods.is_empty() {
            return Err(missing("auth", "it is given and empty: name the methods, or 'none'"));
        }
        if methods.contains(&Method::None) && methods.len() > 1 {
            return Err(ConfigError::Contradiction("auth is 'none' and another method: leave one of the two out"));
        }
        for method in methods {
            match method {
                Method::None => {}
                Method::Oidc => options.oidc = Some(self.oidc()?),
                Method::Basic => {
                    let file = self.users_file.clone();
                    options.users_file = Some(file.ok_or_else(|| missing("users-file", "auth has 'basic'"))?);
                }
                Method::ApiKey => options.api_keys = true,
                Method::Certificate => {
                    if tls.is_none_or(|tls| tls.client_ca.is_none()) {
                        return Err(missing("tls-client-ca", "auth has 'certificate'"));
                    }
                    let file = self.subjects_file.clone();
                    options.subjects_file =
                        Some(file.ok_or_else(|| missing("subjects-file", "auth has 'certificate'"))?);
                }
            }
        }
        // What is set for a method that is off was meant to be on.
        let set_and_off = [
            (options.oidc.is_none() && self.oidc_issuer.is_some(), "oidc-issuer is set and auth does not have 'oidc'"),
            (
                options.users_file.is_none() && self.users_file.is_some(),
                "users-file is set and auth does not have 'basic'",
            ),
            (
                options.subjects_file.is_none() && self.subjects_file.is_some(),
                "subjects-file is set and auth does not have 'certificate'",
            ),
        ];
        match set_and_off.iter().find(|(wrong, _)| *wrong) {
            Some((_, wrong)) => Err(ConfigError::Contradiction(wrong)),
            None => {
                // Where nobody is asked, all that come through a proxy are one.
                let usual = (!options.is_open()).then_some(5_000);
                let rate = self.rate_limit.or(usual);
                options.rate_limit = rate.map(|n| bounded("rate-limit", n, 1, 1_000_000)).transpose()?;
                let usual = if options.is_open() { WriteRates::UNBOUNDED } else { WriteRates::OF_CALLERS };
                options.caller_writes = Some(write_rates("caller-write-rates", usual, &self.caller_write_rates)?);
                let usual = WriteRates::OF_TENANTS;
                options.tenant_writes = Some(write_rates("tenant-write-rates", usual, &self.tenant_write_rates)?);
                Ok(options)
            }
        }
    }

    /// Where nobody is asked who they are, a page of somebody else that a browser takes for one of
    /// ours may do everything.
    fn allowed_hosts(&self, listen: &ListenAddresses, asks: bool) -> Result<AllowedHosts, ConfigError> {
        let is_name = |name: &String| !name.is_empty() && !name.contains(['/', '*', '@', ' ']);
        if let Some(wrong) = self.allowed_hosts.iter().flatten().find(|name| !is_name(name)) {
            return Err(ConfigError::OutOfBounds {
                setting: "allowed-hosts",
                value: format!("'{wrong}'"),
                wanted: "it must be names or addresses, without scheme, port or wildcard".to_owned(),
            });
        }
        match &self.allowed_hosts {
            None if asks || listen.first_open().is_some() => Ok(AllowedHosts::any()),
            given => {
                // The name that was given to listen on is the service's own, too.
                let own =
                    self.listen.as_deref().and_then(|text| text.rsplit_once(':')).map(|(host, _)| host.to_owned());
                Ok(AllowedHosts::only(given.iter().flatten().cloned().chain(own)))
            }
        }
    }

    fn oidc(&self) -> Result<OidcOptions, ConfigError> {
        const WHY: &str = "auth has 'oidc'";
        let issuer = self.oidc_issuer.clone().filter(|issuer| !issuer.is_empty());
        let issuer = issuer.ok_or_else(|| missing("oidc-issuer", WHY))?;
        let audiences = self.oidc_audience.clone().unwrap_or_default();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(missing("oidc-audience", WHY));
        }
        let keys = match &self.oidc_keys {
            Some(file) => KeySource::File(file.clone()),
            None if bearer::is_safe_url(&issuer) => KeySource::Discovery,
            None => {
                let wanted = "it must be an https:// URL, or one of this machine, for its keys to be found".to_owned();
                return Err(ConfigError::OutOfBounds { setting: "oidc-issuer", value: issuer, wanted });
            }
        };
        let algorithms = self.oidc_algorithms.clone().unwrap_or_else(|| TokenAlgorithm::ALL.to_vec());
        if algorithms.is_empty() {
            return Err(missing("oidc-algorithms", "it is given and empty"));
        }
        let claim = |setting, given: &Option<String>, default: &str| match given.as_deref() {
            Some("") => Err(missing(setting, "it is given and empty")),
            given => Ok(given.unwrap_or(default).to_owned()),
        };
        let leeway = span("oidc-leeway", self.oidc_leeway, 30_000, 0)?;
        let claim_if_given = |setting, given: &Option<String>| match given {
            None => Ok(None),
            given => claim(setting, given, "").map(Some),
        };
        Ok(OidcOptions {
            issuer,
            audiences,
            keys,
            algorithms,
            leeway: leeway.min(Duration::from_secs(600)),
            name_claim: claim("oidc-name-claim", &self.oidc_name_claim, "sub")?,
            tenant_claim: claim("oidc-tenant-claim", &self.oidc_tenant_claim, "tenant")?,
            namespaces_claim: claim_if_given("oidc-namespaces-claim", &self.oidc_namespaces_claim)?,
            groups_claim: claim_if_given("oidc-groups-claim", &self.oidc_groups_claim)?,
            roles_claim: claim("oidc-roles-claim", &self.oidc_roles_claim, "roles")?,
            roles: self.oidc_role_map()?,
        })
    }

    fn oidc_role_map(&self) -> Result<HashMap<String, Grade>, ConfigError> {
        let Some(given) = &self.oidc_roles else {
            return Ok(Grade::ALL.map(|role| (role.text().to_owned(), role)).into());
        };
        let pair = |pair: &String| {
            let (value, role) = pair.rsplit_once('=')?;
            Some((value.to_owned(), Grade::from_text(role)?)).filter(|(value, _)| !value.is_empty())
        };
        let one = |text: &String| {
            pair(text).ok_or_else(|| ConfigError::OutOfBounds {
                setting: "oidc-roles",
                value: text.clone(),
                wanted: "it must be VALUE=ROLE, where ROLE is metrics, viewer, client or admin".to_owned(),
            })
        };
        given.iter().map(one).collect()
    }

    fn password_file(&self) -> Result<Option<PasswordFile>, ConfigError> {
        let Some(path) = &self.database_password_file else { return Ok(None) };
        if self.database_url.is_none() {
            return Err(missing("database-url", "database-password-file is set"));
        }
        for url in [&self.database_url, &self.database_direct_url].into_iter().flatten() {
            if reqwest::Url::parse(url.reveal()).is_ok_and(|url| url.password().is_some()) {
                return Err(ConfigError::Contradiction(
                    "database-password-file is set, and a database URL holds a password: leave one of the two out",
                ));
            }
        }
        let file = PasswordFile::new(path.clone());
        // What is wrong with it from the start is not worth waiting for.
        file.check().map_err(ConfigError::PasswordFile)?;
        Ok(Some(file))
    }

    fn database(&self) -> Result<Database, ConfigError> {
        let Some(url) = &self.database_url else {
            return Ok(Database::Private {
                data_dir: self.data_dir.clone().unwrap_or_else(crate::postgres::default_data_dir),
                bin_dir: self.postgres_bin_dir.clone(),
            });
        };
        let pooled = hosts("database-url", url)?;
        let direct = match &self.database_direct_url {
            Some(url) => hosts("database-direct-url", url)?,
            None => pooled.clone(),
        };
        Ok(Database::Url { pooled, direct })
    }
}

fn read_file(path: &Path) -> Result<Given, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        let message = error.message().replace('\n', " ");
        let wrong = match unknown_key(&message) {
            // The parser would list all that there are.
            Some(key) => format!("{place}there is no setting '{key}'{}", suggest::question(key, setting_names())),
            None => format!("{place}{message}"),
        };
        ConfigError::Malformed { path: path.to_owned(), wrong }
    })
}

/// The key that is that of no setting, in the parser's message about it.
fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// The names of all settings, as keys of the file.
fn setting_names() -> impl Iterator<Item = &'static str> {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let flags = <Given as clap::Args>::augment_args(clap::Command::new("serve"));
        flags.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect()
    });
    NAMES.iter().map(String::as_str)
}

fn hosts(setting: &'static str, url: &Secret) -> Result<Hosts, ConfigError> {
    Hosts::parse(url.reveal()).map_err(|error| ConfigError::DatabaseUrl { setting, wrong: error.to_string() })
}

fn missing(setting: &'static str, why: &'static str) -> ConfigError {
    ConfigError::Missing { setting, why }
}

fn bounded<T: PartialOrd + fmt::Display>(setting: &'static str, value: T, least: T, most: T) -> Result<T, ConfigError> {
    match least <= value && value <= most {
        true => Ok(value),
        false => Err(ConfigError::OutOfBounds {
            setting,
            value: value.to_string(),
            wanted: format!("it must be from {least} to {most}"),
        }),
    }
}

fn span(setting: &'static str, given: Option<Span>, default_ms: u64, least_ms: u64) -> Result<Duration, ConfigError> {
    let value = given.map_or(Duration::from_millis(default_ms), |Span(value)| value);
    let least = Duration::from_millis(least_ms);
    let bounds = least..=Duration::from_secs(3_600);
    match bounds.contains(&value) {
        true => Ok(value),
        false => Err(ConfigError::OutOfBounds {
            setting,
            value: humantime::format_duration(value).to_string(),
            wanted: format!("it must be from {} to 1h", humantime::format_duration(least)),
        }),
    }
}

fn traces(endpoint: Option<String>, ratio: Option<f64>) -> Result<Option<TraceOptions>, ConfigError> {
    let ratio = bounded("trace-ratio", ratio.unwrap_or(0.01), 0.0, 1.0)?;
    let Some(endpoint) = endpoint else { return Ok(None) };
    match ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        true => Ok(Some(TraceOptions { endpoint, ratio })),
        false => Err(ConfigError::OutOfBounds {
            setting: "otlp-endpoint",
            value: endpoint,
            wanted: "it must be a URL such as http://collector:4318".to_owned(),
        }),
    }
}

fn write_rates(
    setting: &'static str,
    usual: WriteRates,
    given: &Option<Vec<String>>,
) -> Result<WriteRates, ConfigError> {
    given.iter().flatten().try_fold(usual, |rates, text| {
        rates.with(text).ok_or_else(|| ConfigError::OutOfBounds {
            setting,
            value: format!("'{text}'"),
            wanted: "it must be KIND=NUMBER or KIND=none, where KIND is registrations, changes, deletions or other"
                .to_owned(),
        })
    })
}

fn connections(limit: Option<usize>, per_address: Option<usize>) -> Result<ConnectionOptions, ConfigError> {
    let usual = ConnectionOptions::default();
    let limit = bounded("connection-limit", limit.unwrap_or(usual.limit), 1, 10_000_000)?;
    let per_address = per_address.unwrap_or(limit.div_ceil(2));
    let per_address = bounded("connections-per-address", per_address, 1, 10_000_000)?;
    Ok(ConnectionOptions { limit, per_address, ..usual })
}

fn trusted_proxies(given: &[String]) -> Result<Proxies, ConfigError> {
    Proxies::of(given).map_err(|wrong| ConfigError::OutOfBounds {
        setting: "trusted-proxies",
        value: format!("'{wrong}'"),
        wanted: "it must be addresses or networks, such as 192.0.2.7 or 10.0.0.0/8".to_owned(),
    })
}

fn retention(setting: &'static str, given: Option<Span>, default_days: u64) -> Result<Duration, ConfigError> {
    const DAY_S: u64 = 86_400;
    let value = given.map_or(Duration::from_secs(default_days * DAY_S), |Span(value)| value);
    let bounds = Duration::from_secs(3_600)..=Duration::from_secs(36_500 * DAY_S);
    match bounds.contains(&value) {
        true => Ok(value),
        false => Err(ConfigError::OutOfBounds {
            setting,
            value: humantime::format_duration(value).to_string(),
            wanted: "it must be from 1h to 36500d".to_owned(),
        }),
    }
}

fn percentage(setting: &'static str, given: Option<Decimal>) -> Result<Decimal, ConfigError> {
    let value = given.unwrap_or_default();
    match (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(&value) {
        true => Ok(value),
        false => Err(ConfigError::OutOfBounds {
            setting,
            value: value.to_string(),
            wanted: "it must be from 0 to 100".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_callers_and_tenants_from_each_other_is_on_by_default() {
        let open = Given::default().settle(None).expect("nothing has to be given");
        let asks = Given { auth: Some(vec![Method::ApiKey]), ..Given::default() };
        let asks = asks.settle(None).expect("keys need nothing else");
        for settings in [&open, &asks] {
            let failover = &settings.failover;
            let limits = (failover.session_limit, failover.group_limit, failover.tenant_session_limit);
            assert_eq!(limits, (1_000, Some(10_000), Some(50_000)));
            let days = |days: u64| Duration::from_secs(days * 86_400);
            assert_eq!((failover.events.retention, failover.events.audit_retention), (days(90), days(400)));
            assert_eq!(settings.auth.tenant_writes, Some(WriteRates::OF_TENANTS));
            let connections = &settings.http.connections;
            assert!(connections.per_address <= connections.limit / 2 && connections.health_reserve > 0);
            assert_eq!(settings.http.lists_per_caller, 8);
        }
        assert_eq!((asks.auth.rate_limit, asks.auth.caller_writes), (Some(5_000), Some(WriteRates::OF_CALLERS)));
        // Where nobody is asked, all are one caller, and sessions are nobody's.
        assert_eq!((open.auth.rate_limit, open.auth.caller_writes), (None, Some(WriteRates::UNBOUNDED)));
        assert_eq!((asks.failover.bind_sessions, open.failover.bind_sessions), (true, false));
    }
}
