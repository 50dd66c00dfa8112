//! The settings of who may come in and how, and what is wrong with them.

use client_failover_client::outgoing::NoAuthorities;
use serde::Deserialize;

use super::bearer::OidcOptions;
use super::writes::WriteRates;

/// A way to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Nobody is asked: everybody may do everything.
    None,
    /// OAuth 2 / OpenID Connect bearer tokens.
    Oidc,
    /// Name and password, from a users file.
    Basic,
    /// Keys of the service's own, kept in the database.
    ApiKey,
    /// Client certificates, over TLS.
    Certificate,
}

/// How identities are told and what they may do.
#[derive(Clone, Debug, Default)]
pub struct AuthOptions {
    /// Bearer tokens, if they are on.
    pub oidc: Option<OidcOptions>,
    /// The users file, if Basic is on.
    pub users_file: Option<std::path::PathBuf>,
    /// Whether API keys are on.
    pub api_keys: bool,
    /// The file that says who the subjects of client certificates are, if these are on.
    pub subjects_file: Option<std::path::PathBuf>,
    /// Whether the role client may create groups.
    pub clients_create_groups: bool,
    /// The most requests per second of one identity; `None` for any number.
    pub rate_limit: Option<u32>,
    /// How often one caller may change something; `None` for any number of times.
    pub caller_writes: Option<WriteRates>,
    /// How often something of one tenant may be changed; `None` for any number of times.
    pub tenant_writes: Option<WriteRates>,
}

impl AuthOptions {
    /// Nobody is asked.
    pub fn open() -> AuthOptions {
        AuthOptions { clients_create_groups: true, ..AuthOptions::default() }
    }

    /// Whether nobody is asked.
    pub fn is_open(&self) -> bool {
        self.oidc.is_none() && self.users_file.is_none() && !self.api_keys && self.subjects_file.is_none()
    }
}

/// What credentials are checked against cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    /// A file cannot be read.
    #[error("the file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file holds something that it must not.
    #[error("the file {}: {wrong}", path.display())]
    Malformed {
        /// Which.
        path: std::path::PathBuf,
        /// What.
        wrong: String,
    },
    /// The issuer cannot be asked for its keys.
    #[error("the issuer cannot be asked for its keys: {0}; or give them as --oidc-keys")]
    Client(#[from] NoAuthorities),
}
