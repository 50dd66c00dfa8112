//! Settings as they are given: by flags, by the environment, or by a file.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use client_failover_operator::suggest;
use client_failover_wire::Secret;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::ConfigError;
use crate::access::Method;
use crate::access::bearer::TokenAlgorithm;
use crate::http::TenantApi;
use crate::telemetry::LogFormat;
use crate::webhook::WebhookEvent;

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
    pub(super) listen: Option<String>,

    /// PostgreSQL 14 or later, as postgres://user:password@host:5432/database; several hosts with
    /// commas between [default: a private PostgreSQL in the data directory]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(super) database_url: Option<Secret>,

    /// The same database past a pooler, for migrations and for hearing of events [default: the
    /// database URL]
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    pub(super) database_direct_url: Option<Secret>,

    /// File with the password of the database's account, for URLs without one; read again for each
    /// new connection
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub(super) database_password_file: Option<PathBuf>,

    /// What stands between the service and PostgreSQL: 'transaction' for PgBouncer in transaction
    /// mode, which turns prepared statements off [default: none]
    #[arg(long, env = "CLIENT_FAILOVER_POOLER", value_name = "KIND")]
    pub(super) pooler: Option<PoolerSetting>,

    /// Where the private PostgreSQL keeps its data [default: /var/lib/client-failover as root, else
    /// ~/.local/share/client-failover]
    #[arg(long, env = "CLIENT_FAILOVER_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,

    /// Where the programs of the private PostgreSQL are [default: found by PATH, else in the
    /// distribution's folders]
    #[arg(long, env = "CLIENT_FAILOVER_POSTGRES_BIN_DIR", value_name = "DIR")]
    pub(super) postgres_bin_dir: Option<PathBuf>,

    /// Whether serve brings the tables up to date when it starts [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_MIGRATE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) migrate: Option<bool>,

    /// The most database connections that requests share; each replica has 5 more for heartbeats
    /// and up to 9 for its upkeep and events [default: 16]
    #[arg(long, env = "CLIENT_FAILOVER_POOL_SIZE", value_name = "N")]
    pub(super) pool_size: Option<u32>,

    /// How long an operation may wait for the database, retries included, before it is answered 503
    /// [default: 3s]
    #[arg(long, env = "CLIENT_FAILOVER_OPERATION_TIMEOUT", value_name = "TIME")]
    pub(super) operation_timeout: Option<Span>,

    /// How long a transaction may stand idle before PostgreSQL ends it, so that a paused replica
    /// holds nobody up [default: 2s]
    #[arg(long, env = "CLIENT_FAILOVER_IDLE_IN_TRANSACTION_TIMEOUT", value_name = "TIME")]
    pub(super) idle_in_transaction_timeout: Option<Span>,

    /// The longest time in which no replica reaches the database that leases are still judged by
    /// [default: 2s]
    #[arg(long, env = "CLIENT_FAILOVER_OUTAGE_GAP", value_name = "TIME")]
    pub(super) outage_gap: Option<Span>,

    /// How often lapsed roles are looked for [default: 500ms]
    #[arg(long, env = "CLIENT_FAILOVER_SWEEP_INTERVAL", value_name = "TIME")]
    pub(super) sweep_interval: Option<Span>,

    /// Whether a lapse is also looked for at the moment when a lease ends, and not only by the
    /// sweep [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_PROMPT_LAPSES", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) prompt_lapses: Option<bool>,

    /// The most streams of events that a replica has open; more are answered 503 [default: 5000]
    #[arg(long, env = "CLIENT_FAILOVER_EVENT_STREAMS", value_name = "N")]
    pub(super) event_streams: Option<usize>,

    /// How long changes of roles and of configuration are kept [default: 90d]
    #[arg(long, env = "CLIENT_FAILOVER_HISTORY_RETENTION", value_name = "TIME")]
    pub(super) history_retention: Option<Span>,

    /// How long a session is kept whose client is silent; 0 for good [default: 30d]
    #[arg(long, env = "CLIENT_FAILOVER_SESSION_RETENTION", value_name = "TIME")]
    pub(super) session_retention: Option<Span>,

    /// How long the audit trail is kept [default: 400d]
    #[arg(long, env = "CLIENT_FAILOVER_AUDIT_RETENTION", value_name = "TIME")]
    pub(super) audit_retention: Option<Span>,

    /// What a promotion of a standby is taken for: 'fenced' expects that the latest commits are
    /// lost, 'trusted' that a standby has all of them [default: fenced]
    #[arg(long, env = "CLIENT_FAILOVER_DATABASE_HISTORY", value_name = "MODE")]
    pub(super) database_history: Option<DatabaseHistorySetting>,

    /// When a Primary yields: 'strict' waits until it cannot be acting any more, 'prompt' does not
    /// wait [default: strict]
    #[arg(long, env = "CLIENT_FAILOVER_HANDOVER", value_name = "MODE")]
    pub(super) handover: Option<HandoverSetting>,

    /// By how many per cent more another must be healthier before it replaces a live Primary
    /// [default: 0]
    #[arg(long, env = "CLIENT_FAILOVER_HANDOVER_MARGIN", value_name = "PERCENT")]
    pub(super) handover_margin: Option<Decimal>,

    /// The most client sessions in a group [default: 1000]
    #[arg(long, env = "CLIENT_FAILOVER_SESSION_LIMIT", value_name = "N")]
    pub(super) session_limit: Option<u32>,

    /// How many heartbeat transactions a replica runs at once [default: 1]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_WRITERS", value_name = "N")]
    pub(super) heartbeat_writers: Option<usize>,

    /// The most heartbeats in one transaction [default: 512]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_BATCH", value_name = "N")]
    pub(super) heartbeat_batch: Option<usize>,

    /// The most heartbeats that wait for a transaction; more are answered 503 [default: 10000]
    #[arg(long, env = "CLIENT_FAILOVER_HEARTBEAT_QUEUE", value_name = "N")]
    pub(super) heartbeat_queue: Option<usize>,

    /// Threads that read requests and write answers [default: one per core]
    #[arg(long, env = "CLIENT_FAILOVER_HTTP_WORKERS", value_name = "N")]
    pub(super) http_workers: Option<usize>,

    /// The most connections of clients at once; more are answered 503 [default: 20000]
    #[arg(long, env = "CLIENT_FAILOVER_CONNECTION_LIMIT", value_name = "N")]
    pub(super) connection_limit: Option<usize>,

    /// The most of them from one address; behind a proxy, as many as it may open [default: half of
    /// the limit]
    #[arg(long, env = "CLIENT_FAILOVER_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub(super) connections_per_address: Option<usize>,

    /// The most lists and other long answers that one caller has under way; more are answered 429
    /// [default: 8]
    #[arg(long, env = "CLIENT_FAILOVER_LISTS_PER_CALLER", value_name = "N")]
    pub(super) lists_per_caller: Option<usize>,

    /// Whether there is the page /docs to try the API on [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_DOCS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) docs: Option<bool>,

    /// Which form of the API serves the paths below tenants that both forms have [default: preview]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT_API", value_name = "FORM")]
    pub(super) tenant_api: Option<TenantApi>,

    /// The tenant of what is asked for without one, as adapters on the premises do [default:
    /// default]
    #[arg(long, env = "CLIENT_FAILOVER_PREMISES_TENANT", value_name = "TENANT")]
    pub(super) premises_tenant: Option<String>,

    /// The namespace of that [default: default]
    #[arg(long, env = "CLIENT_FAILOVER_PREMISES_NAMESPACE", value_name = "NAMESPACE")]
    pub(super) premises_namespace: Option<String>,

    /// Names by which the service may be asked for, several with commas between, beside those of
    /// loopback [default: these alone where nobody is asked who they are on a loopback address, any
    /// elsewhere]
    #[arg(long, env = "CLIENT_FAILOVER_ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub(super) allowed_hosts: Option<Vec<String>>,

    /// Proxies whose word (X-Forwarded-For) from where a request comes is believed: addresses and
    /// networks such as 10.0.0.0/8, several with commas between [default: none]
    #[arg(long, env = "CLIENT_FAILOVER_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',')]
    pub(super) trusted_proxies: Option<Vec<String>>,

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
    pub(super) auth: Option<Vec<Method>>,

    /// Issuer of bearer tokens, exactly as its tokens name it
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ISSUER", value_name = "URL")]
    pub(super) oidc_issuer: Option<String>,

    /// Audiences that mean this service; a token has to be for one of them
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_AUDIENCE", value_name = "NAMES", value_delimiter = ',')]
    pub(super) oidc_audience: Option<Vec<String>>,

    /// File with the issuer's keys, a JSON Web Key Set [default: found by the issuer's discovery]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_KEYS", value_name = "FILE")]
    pub(super) oidc_keys: Option<PathBuf>,

    /// Signatures that count: some of RS256, ES256, EdDSA [default: all three]
    #[arg(
        long,
        env = "CLIENT_FAILOVER_OIDC_ALGORITHMS",
        value_name = "NAMES",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(super) oidc_algorithms: Option<Vec<TokenAlgorithm>>,

    /// By how much the issuer's clock may differ from this one [default: 30s]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_LEEWAY", value_name = "TIME")]
    pub(super) oidc_leeway: Option<Span>,

    /// The claim that names the caller [default: sub]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_NAME_CLAIM", value_name = "CLAIM")]
    pub(super) oidc_name_claim: Option<String>,

    /// The claim with the tenant, or an array of tenants, '*' for all [default: tenant]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_TENANT_CLAIM", value_name = "CLAIM")]
    pub(super) oidc_tenant_claim: Option<String>,

    /// The claim with the namespaces [default: every namespace of the tenant]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_NAMESPACES_CLAIM", value_name = "CLAIM")]
    pub(super) oidc_namespaces_claim: Option<String>,

    /// The claim with patterns of group ids, such as 'line-*' [default: every group there]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_GROUPS_CLAIM", value_name = "CLAIM")]
    pub(super) oidc_groups_claim: Option<String>,

    /// The claim with the roles; dots lead into objects, as in realm_access.roles [default: roles]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ROLES_CLAIM", value_name = "CLAIM")]
    pub(super) oidc_roles_claim: Option<String>,

    /// What the values of that claim mean, as adapters=client,operators=admin [default: metrics,
    /// viewer, client and admin mean themselves]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_ROLES", value_name = "MAP", value_delimiter = ',')]
    pub(super) oidc_roles: Option<Vec<String>>,

    /// The page's id as a client of the issuer, for people to sign in on it (authorization code
    /// with PKCE, no secret) [default: nobody signs in there by the issuer]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_PAGE_CLIENT_ID", value_name = "ID")]
    pub(super) oidc_page_client_id: Option<String>,

    /// The scopes that the page asks for [default: openid]
    #[arg(long, env = "CLIENT_FAILOVER_OIDC_PAGE_SCOPES", value_name = "NAMES", value_delimiter = ',')]
    pub(super) oidc_page_scopes: Option<Vec<String>>,

    /// File with the users of Basic authentication; 'client-failover users add' writes it
    #[arg(long, env = "CLIENT_FAILOVER_USERS_FILE", value_name = "FILE")]
    pub(super) users_file: Option<PathBuf>,

    /// File that says what the subjects of client certificates may do
    #[arg(long, env = "CLIENT_FAILOVER_SUBJECTS_FILE", value_name = "FILE")]
    pub(super) subjects_file: Option<PathBuf>,

    /// Whether the role client may create groups, though not change them [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_CLIENTS_CREATE_GROUPS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) clients_create_groups: Option<bool>,

    /// Whether a client session takes heartbeats only from the caller that registered it [default:
    /// true where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_BIND_SESSIONS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) bind_sessions: Option<bool>,

    /// The most requests per second of one caller on a replica; more are answered 429 [default:
    /// 5000 where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_RATE_LIMIT", value_name = "N")]
    pub(super) rate_limit: Option<u32>,

    /// How often one caller may change something in an hour, on a replica, as
    /// registrations=20000,changes=6000,deletions=20000,other=2000; those left out stay as they
    /// are, 'none' is any number [default: these where callers are asked who they are]
    #[arg(long, env = "CLIENT_FAILOVER_CALLER_WRITE_RATES", value_name = "MAP", value_delimiter = ',')]
    pub(super) caller_write_rates: Option<Vec<String>>,

    /// The same for all callers of a tenant together [default:
    /// registrations=40000,changes=12000,deletions=40000,other=4000]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT_WRITE_RATES", value_name = "MAP", value_delimiter = ',')]
    pub(super) tenant_write_rates: Option<Vec<String>>,

    /// The most client sessions of a tenant [default: 50000]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT_SESSION_LIMIT", value_name = "N")]
    pub(super) tenant_session_limit: Option<u32>,

    /// The most groups of a tenant [default: 10000]
    #[arg(long, env = "CLIENT_FAILOVER_GROUP_LIMIT", value_name = "N")]
    pub(super) group_limit: Option<u32>,

    /// The service's certificate with its chain (PEM), reread when it changes [default: plain HTTP]
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, env = "CLIENT_FAILOVER_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// The authority that client certificates have to come from (PEM), reread when it changes
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CLIENT_CA", value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,

    /// What the authorities of client certificates have revoked (PEM, or one list in DER), reread
    /// when it changes; each of a chain needs a list
    #[arg(long, env = "CLIENT_FAILOVER_TLS_CLIENT_CRL", value_name = "FILE")]
    pub(super) tls_client_crl: Option<PathBuf>,

    /// Whether browsers are told, over TLS, to come over TLS alone from then on [default: true]
    #[arg(long, env = "CLIENT_FAILOVER_HSTS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) hsts: Option<bool>,

    /// The account to go on as where the service is started as root, once the port is open and the
    /// TLS key is read [default: the one that starts it]
    #[arg(long, env = "CLIENT_FAILOVER_RUN_AS", value_name = "ACCOUNT")]
    pub(super) run_as: Option<String>,

    /// How long /health/ready says 503 on SIGTERM before connections are refused: time for a load
    /// balancer to look elsewhere [default: 0s]
    #[arg(long, env = "CLIENT_FAILOVER_DRAIN", value_name = "TIME")]
    pub(super) drain: Option<Span>,

    /// What is logged, as 'debug' or 'info,client_failover::store=debug' [default: info]
    #[arg(long, env = "CLIENT_FAILOVER_LOG", value_name = "FILTER")]
    pub(super) log: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, env = "CLIENT_FAILOVER_LOG_FORMAT", value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,

    /// Where changes of Primary and risks are told, each as a signed HTTP POST [default: nowhere]
    #[arg(long, env = "CLIENT_FAILOVER_WEBHOOK_URL", value_name = "URL", hide_env_values = true)]
    pub(super) webhook_url: Option<Secret>,

    /// File with what these are signed with; two lines while one secret replaces another
    #[arg(long, env = "CLIENT_FAILOVER_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub(super) webhook_secret_file: Option<PathBuf>,

    /// What is told, with commas between: primary, roles, risks, configuration, wishes, history
    /// [default: primary,risks]
    #[arg(
        long,
        env = "CLIENT_FAILOVER_WEBHOOK_EVENTS",
        value_name = "KINDS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(super) webhook_events: Option<Vec<WebhookEvent>>,

    /// How old a message gets that the receiver does not take, before it is given up [default: 1h]
    #[arg(long, env = "CLIENT_FAILOVER_WEBHOOK_GIVE_UP_AFTER", value_name = "TIME")]
    pub(super) webhook_give_up_after: Option<Span>,

    /// How many namespaces the metrics name; the others are counted together, and with 0 all are
    /// [default: 100]
    #[arg(long, env = "CLIENT_FAILOVER_METRICS_NAMESPACES", value_name = "N")]
    pub(super) metrics_namespaces: Option<usize>,

    /// Where traces are sent, by OTLP over HTTP, as http://collector:4318 [default: nowhere]
    #[arg(long, env = "CLIENT_FAILOVER_OTLP_ENDPOINT", value_name = "URL")]
    pub(super) otlp_endpoint: Option<String>,

    /// The part of the requests that is traced where the caller does not say, from 0 to 1 [default:
    /// 0.01]
    #[arg(long, env = "CLIENT_FAILOVER_TRACE_RATIO", value_name = "PART")]
    pub(super) trace_ratio: Option<f64>,
}

impl Given {
    /// These, with what the file says where they say nothing.
    pub(super) fn or(self, file: Given) -> Given {
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
            session_retention: self.session_retention.or(file.session_retention),
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
            tenant_api: self.tenant_api.or(file.tenant_api),
            premises_tenant: self.premises_tenant.or(file.premises_tenant),
            premises_namespace: self.premises_namespace.or(file.premises_namespace),
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
            oidc_page_client_id: self.oidc_page_client_id.or(file.oidc_page_client_id),
            oidc_page_scopes: self.oidc_page_scopes.or(file.oidc_page_scopes),
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
            webhook_url: self.webhook_url.or(file.webhook_url),
            webhook_secret_file: self.webhook_secret_file.or(file.webhook_secret_file),
            webhook_events: self.webhook_events.or(file.webhook_events),
            webhook_give_up_after: self.webhook_give_up_after.or(file.webhook_give_up_after),
            metrics_namespaces: self.metrics_namespaces.or(file.metrics_namespaces),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
            trace_ratio: self.trace_ratio.or(file.trace_ratio),
        }
    }
}

/// The settings of a file.
pub(super) fn read_file(path: &Path) -> Result<Given, ConfigError> {
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
