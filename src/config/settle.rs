//! What was given becomes settings: complete, within bounds, and such that they go together.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client_failover_wire::Secret;
use rust_decimal::Decimal;

use super::given::{DatabaseHistorySetting, Given, HandoverSetting, PoolerSetting, Span, read_file};
use super::listen::ListenAddresses;
use super::{ConfigError, Database, Settings};
use crate::access::bearer::sign_in::PageClient;
use crate::access::bearer::{self, KeySource, OidcOptions, TokenAlgorithm};
use crate::access::writes::WriteRates;
use crate::access::{AuthOptions, Grade, Method};
use crate::arbitration::{HandoverMode, Rules};
use crate::failover::{EventOptions, FailoverOptions};
use crate::http::proxies::Proxies;
use crate::http::{AllowedHosts, ApiPaths, ConnectionOptions, HttpOptions};
use crate::ids::{InvalidId, NamespaceId, NamespacePath, TenantId};
use crate::store::histories::DatabaseHistory;
use crate::store::hosts::Hosts;
use crate::store::password::PasswordFile;
use crate::store::{Pooler, StoreOptions};
use crate::telemetry::{LogFormat, TraceOptions};
use crate::tls::TlsOptions;
use crate::webhook::{Receiver, WebhookEvent, WebhookOptions};

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
            database_password_file: given.database_password_file,
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
                    handover_margin: bounded(
                        "handover-margin",
                        self.handover_margin.unwrap_or_default(),
                        Decimal::ZERO,
                        Decimal::ONE_HUNDRED,
                    )?,
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
                session_retention: session_retention(self.session_retention)?,
                census_interval: CENSUS_INTERVAL,
                metrics_namespaces: bounded("metrics-namespaces", self.metrics_namespaces.unwrap_or(100), 0, 10_000)?,
                events: EventOptions {
                    max_streams: bounded("event-streams", self.event_streams.unwrap_or(5_000), 0, 1_000_000)?,
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
                paths: ApiPaths {
                    tenant_api: self.tenant_api.unwrap_or_default(),
                    premises: NamespacePath {
                        tenant: premises("premises-tenant", self.premises_tenant, TenantId::parse)?,
                        namespace: premises("premises-namespace", self.premises_namespace, NamespaceId::parse)?,
                    },
                },
                allowed_hosts,
                hsts: self.hsts.unwrap_or(true),
            },
            run_as: self.run_as,
            drain: span("drain", self.drain, 0, 0)?,
            traces: traces(self.otlp_endpoint, self.trace_ratio)?,
            webhook: webhook(
                self.webhook_url,
                self.webhook_secret_file,
                self.webhook_events,
                self.webhook_give_up_after,
            )?,
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
                options.oidc.is_none() && self.oidc_page_client_id.is_some(),
                "oidc-page-client-id is set and auth does not have 'oidc'",
            ),
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
            page_client: self.page_client(&issuer, &audiences)?,
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

    /// As which client the page signs people in.
    fn page_client(&self, issuer: &str, audiences: &[String]) -> Result<Option<PageClient>, ConfigError> {
        const CLIENT_ID: &str = "oidc-page-client-id";
        let Some(client_id) = self.oidc_page_client_id.clone() else {
            return match &self.oidc_page_scopes {
                None => Ok(None),
                Some(_) => Err(missing(CLIENT_ID, "oidc-page-scopes is set")),
            };
        };
        let out_of_bounds = |setting, value: &str, wanted: &str| ConfigError::OutOfBounds {
            setting,
            value: format!("'{value}'"),
            wanted: wanted.to_owned(),
        };
        // As OAuth 2 has them (RFC 6749, appendix A).
        if client_id.is_empty() || !client_id.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            return Err(out_of_bounds(CLIENT_ID, &client_id, "it must be the page's id at the issuer, in ASCII"));
        }
        if !bearer::is_safe_url(issuer) {
            let wanted = "it must be an https:// URL, or one of this machine, for people to sign in there";
            return Err(out_of_bounds("oidc-issuer", issuer, wanted));
        }
        if audiences.contains(&client_id) {
            return Err(ConfigError::Contradiction(
                "oidc-page-client-id is one of oidc-audience: the tokens that tell the page who somebody is would count as those for access, so give the page an id of its own",
            ));
        }
        let scopes = self.oidc_page_scopes.clone().unwrap_or_else(|| vec!["openid".to_owned()]);
        let is_scope = |scope: &&String| {
            !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        };
        match scopes.iter().find(|scope| !is_scope(scope)) {
            Some(wrong) => Err(out_of_bounds(
                "oidc-page-scopes",
                wrong,
                "it must be names of scopes in ASCII, one each, without spaces",
            )),
            None if scopes.is_empty() => Err(missing("oidc-page-scopes", "it is given and empty")),
            None => Ok(Some(PageClient { client_id, scopes })),
        }
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

fn hosts(setting: &'static str, url: &Secret) -> Result<Hosts, ConfigError> {
    Hosts::parse(url.reveal()).map_err(|error| ConfigError::DatabaseUrl { setting, wrong: error.to_string() })
}

/// A name of the namespace of the premises.
fn premises<T>(
    setting: &'static str,
    given: Option<String>,
    parse: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<T, ConfigError> {
    let text = given.unwrap_or_else(|| "default".to_owned());
    parse(text.clone()).map_err(|wrong| ConfigError::OutOfBounds { setting, value: text, wanted: wrong.to_string() })
}

fn missing(setting: &'static str, why: &'static str) -> ConfigError {
    ConfigError::Missing { setting, why }
}

fn bounded<T: PartialOrd + fmt::Display>(setting: &'static str, value: T, min: T, max: T) -> Result<T, ConfigError> {
    if min <= value && value <= max {
        Ok(value)
    } else {
        Err(ConfigError::OutOfBounds {
            setting,
            value: value.to_string(),
            wanted: format!("it must be from {min} to {max}"),
        })
    }
}

fn span(setting: &'static str, given: Option<Span>, default_ms: u64, min_ms: u64) -> Result<Duration, ConfigError> {
    let value = given.map_or(Duration::from_millis(default_ms), |Span(value)| value);
    bounded_span(setting, value, Duration::from_millis(min_ms), (Duration::from_secs(3_600), "1h"))
}

/// The upper bound comes with its text: of a long time there are shorter ones than are made for it.
fn bounded_span(
    setting: &'static str,
    value: Duration,
    min: Duration,
    (max, max_text): (Duration, &str),
) -> Result<Duration, ConfigError> {
    if min <= value && value <= max {
        Ok(value)
    } else {
        Err(ConfigError::OutOfBounds {
            setting,
            value: humantime::format_duration(value).to_string(),
            wanted: format!("it must be from {} to {max_text}", humantime::format_duration(min)),
        })
    }
}

fn traces(endpoint: Option<String>, ratio: Option<f64>) -> Result<Option<TraceOptions>, ConfigError> {
    let ratio = bounded("trace-ratio", ratio.unwrap_or(0.01), 0.0, 1.0)?;
    let Some(endpoint) = endpoint else { return Ok(None) };
    if ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        Ok(Some(TraceOptions { endpoint, ratio }))
    } else {
        Err(ConfigError::OutOfBounds {
            setting: "otlp-endpoint",
            value: endpoint,
            wanted: "it must be a URL such as http://collector:4318".to_owned(),
        })
    }
}

fn webhook(
    url: Option<Secret>,
    secret_file: Option<PathBuf>,
    events: Option<Vec<WebhookEvent>>,
    give_up_after: Option<Span>,
) -> Result<Option<WebhookOptions>, ConfigError> {
    let Some(url) = url else {
        // What is set for it was meant to be used.
        return match secret_file {
            None => Ok(None),
            Some(_) => Err(missing("webhook-url", "webhook-secret-file is set")),
        };
    };
    let receiver = Receiver::parse(url.reveal()).ok_or_else(|| ConfigError::OutOfBounds {
        setting: "webhook-url",
        // Its path may be a secret.
        value: "no such URL".to_owned(),
        wanted: "it must be a URL such as https://receiver.example/hook".to_owned(),
    })?;
    let events = events.unwrap_or_else(|| vec![WebhookEvent::Primary, WebhookEvent::Risks]);
    if events.is_empty() {
        return Err(missing("webhook-events", "it is given and empty"));
    }
    let give_up_after = give_up_after.map_or(Duration::from_secs(3_600), |Span(value)| value);
    Ok(Some(WebhookOptions {
        receiver,
        secret_file: secret_file.ok_or_else(|| missing("webhook-secret-file", "webhook-url is set"))?,
        events,
        give_up_after: bounded_span(
            "webhook-give-up-after",
            give_up_after,
            Duration::from_secs(1),
            (Duration::from_secs(30 * 86_400), "30d"),
        )?,
        hold_for: WebhookOptions::HOLD_FOR,
        risk_interval: WebhookOptions::RISK_INTERVAL,
    }))
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

/// As [`retention`], or none for 0.
fn session_retention(given: Option<Span>) -> Result<Option<Duration>, ConfigError> {
    match given {
        Some(Span(Duration::ZERO)) => Ok(None),
        given => retention("session-retention", given, 30).map(Some),
    }
}

fn retention(setting: &'static str, given: Option<Span>, default_days: u64) -> Result<Duration, ConfigError> {
    const DAY_S: u64 = 86_400;
    let value = given.map_or(Duration::from_secs(default_days * DAY_S), |Span(value)| value);
    bounded_span(setting, value, Duration::from_secs(3_600), (Duration::from_secs(36_500 * DAY_S), "36500d"))
}
