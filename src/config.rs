//! Settings: from the command line, the environment, or a TOML file, in that order; validated once.
//!
//! One structure serves all three sources, so that a setting has one name: `--sweep-interval`,
//! `CLIENT_FAILOVER_SWEEP_INTERVAL` and `sweep-interval = "500ms"` are the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::access::AuthOptions;
use crate::failover::FailoverOptions;
use crate::http::HttpOptions;
use crate::store::StoreOptions;
use crate::store::hosts::Hosts;
use crate::telemetry::{LogFormat, TraceOptions};
use crate::tls::TlsOptions;
use crate::webhook::WebhookOptions;

pub use given::{Given, Span};
pub use listen::ListenAddresses;

mod given;
mod listen;
mod settle;

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
    /// Whom to tell what happens, if anybody.
    pub webhook: Option<WebhookOptions>,
    /// The file that settings are from, if there is one.
    pub file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Method;
    use crate::access::writes::WriteRates;

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

    fn with_page(issuer: &str, client: Option<&str>, scopes: Option<&[&str]>) -> Result<Settings, ConfigError> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let given = Given {
            auth: Some(vec![Method::Oidc]),
            oidc_issuer: Some(issuer.to_owned()),
            oidc_audience: Some(texts(&["failover"])),
            oidc_page_client_id: client.map(str::to_owned),
            oidc_page_scopes: scopes.map(texts),
            ..Given::default()
        };
        given.settle(None)
    }

    #[test]
    fn the_page_is_a_client_of_the_issuer_where_it_has_an_id_of_its_own() {
        const ISSUER: &str = "https://login.example";
        let client = |client, scopes| {
            let settings = with_page(ISSUER, client, scopes).expect("they go together");
            settings.auth.oidc.expect("auth has it").page_client
        };
        let as_client = |scopes: &[&str]| {
            let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            Some(crate::access::bearer::sign_in::PageClient { client_id: "failover page".to_owned(), scopes })
        };
        assert_eq!(client(None, None), None);
        assert_eq!(client(Some("failover page"), None), as_client(&["openid"]));
        let scopes = ["openid", "offline_access", "api://failover/.default"];
        assert_eq!(client(Some("failover page"), Some(&scopes)), as_client(&scopes));
        for (issuer, client, scopes, named) in [
            (ISSUER, Some(""), None, "oidc-page-client-id"),
            (ISSUER, Some("a\nb"), None, "oidc-page-client-id"),
            // What tells the page who somebody is must not open the service.
            (ISSUER, Some("failover"), None, "oidc-audience"),
            (ISSUER, None, Some(&["openid"][..]), "oidc-page-client-id"),
            (ISSUER, Some("page"), Some(&[]), "oidc-page-scopes"),
            (ISSUER, Some("page"), Some(&[""]), "oidc-page-scopes"),
            (ISSUER, Some("page"), Some(&["openid profile"]), "oidc-page-scopes"),
            (ISSUER, Some("page"), Some(&["a\"b"]), "oidc-page-scopes"),
            ("http://login.example", Some("page"), None, "oidc-issuer"),
        ] {
            let wrong = with_page(issuer, client, scopes).expect_err(named).to_string();
            assert!(wrong.contains(named), "{client:?} {scopes:?}: {wrong}");
        }
        let without = Given { oidc_page_client_id: Some("page".to_owned()), ..Given::default() };
        assert!(
            without.settle(None).expect_err("there is no issuer").to_string().contains("auth does not have 'oidc'")
        );
    }
}
