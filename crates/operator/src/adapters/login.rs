//! Who the adapter says it is: with nothing, with a name and a password that are sent unasked, or
//! with a bearer token, which an issuer may have given for a client's id and secret.

use std::path::PathBuf;

use clap::Args;
use client_failover_client::Credential;
use client_failover_wire::Secret;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::super::connection::{Connection, warn_of_open_credentials};
use super::super::{FAILED, OperatorError, code_of, profile};
use super::adapter::exchange;
use super::report::{Fault, Trouble};

/// Where adapters look for an issuer, at the root of the service's host.
const DISCOVERY: &str = "/Identity/.well-known/openid-configuration";

/// The exit code of who is not known.
const NOT_KNOWN: u8 = 4;

/// What adapters have for an issuer of tokens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Login of an adapter")]
pub struct LoginArgs {
    /// Get a bearer token for this ClientId, by client credentials. For a name and a password:
    /// --user
    #[arg(long, value_name = "ID", requires = "client_secret_file", conflicts_with_all = ["user", "token_file"])]
    client_id: Option<String>,
    /// A file with its ClientSecret
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// The TokenEndpoint [default: that of the issuer that the service's root names]
    #[arg(long, value_name = "URL", requires = "client_id")]
    token_endpoint: Option<Url>,
}

/// Who the adapter says it is.
pub enum Login {
    /// Nobody.
    Nobody,
    /// Whoever the command line's credential is.
    Given(Credential),
    /// A client of an issuer.
    Client {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Secret,
        /// Where it gets a token, where that is not found out.
        token_endpoint: Option<Url>,
    },
}

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl LoginArgs {
    /// Puts together what is said in the flags of adapters, and elsewhere.
    pub fn settle(&self, connection: &Connection) -> Result<Login, OperatorError> {
        Ok(match (&self.client_id, &self.client_secret_file) {
            (Some(id), Some(file)) => Login::Client {
                id: id.clone(),
                secret: profile::read_secret(file)?,
                token_endpoint: self.token_endpoint.clone(),
            },
            _ => connection.credential().cloned().map_or(Login::Nobody, Login::Given),
        })
    }
}

impl Login {
    /// Whether it is anybody.
    pub fn is_some(&self) -> bool {
        !matches!(self, Login::Nobody)
    }

    /// What is told of it. Nothing secret.
    pub fn told(&self) -> String {
        match self {
            Login::Nobody => "without credentials".to_owned(),
            Login::Given(Credential::Token(_)) => {
                "with a bearer token. An adapter has none of its own: give its UserName as --user, or its ClientId as --client-id, to try that".to_owned()
            }
            Login::Given(Credential::Basic { user, .. }) => {
                format!("as '{user}' by Basic authentication, sent unasked as adapters do")
            }
            Login::Client { id, .. } => format!("as the client '{id}', with a token of its issuer"),
        }
    }

    /// What goes with each request to that endpoint.
    pub async fn authorization(&self, connection: &Connection, endpoint: &Url) -> Result<Option<HeaderValue>, Trouble> {
        let credential = match self {
            Login::Nobody => return Ok(None),
            Login::Given(credential) => credential.clone(),
            Login::Client { id, secret, token_endpoint } => {
                let url = match token_endpoint {
                    Some(url) => url.clone(),
                    None => discover(connection, endpoint).await?,
                };
                Credential::Token(get_token(connection, &url, id, secret).await?)
            }
        };
        warn_of_open_credentials(endpoint);
        Ok(Some(credential.header()?))
    }
}

/// Where the issuer gives tokens, as the root of the service's host says.
async fn discover(connection: &Connection, endpoint: &Url) -> Result<Url, Trouble> {
    let mut url = endpoint.clone();
    url.set_path(DISCOVERY);
    let fault = |said: String, code: u8| {
        Fault {
        said,
        to_do: "Give the issuer's own address as TokenEndpoint, here as --token-endpoint, or tell the service its issuer (oidc-issuer). Without an issuer an API key goes as UserName and Password.".to_owned(),
        code,
    }
    };
    let answer = exchange(connection.http(&url)?.get(url.clone()), &url, connection.timeout()).await?;
    if !answer.status.is_success() {
        let said = format!("{url}, where an adapter looks for the issuer, was answered {}", answer.told());
        return Err(fault(said, code_of(answer.status)).into());
    }
    let found = serde_json::from_str::<Discovery>(&answer.text).ok();
    let found = found.and_then(|discovery| Url::parse(&discovery.token_endpoint).ok());
    Ok(found.ok_or_else(|| fault(format!("{url} names no token_endpoint"), FAILED))?)
}

/// A token for a client.
async fn get_token(connection: &Connection, url: &Url, id: &str, secret: &Secret) -> Result<Secret, Trouble> {
    warn_of_open_credentials(url);
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={}", encoded(id), encoded(secret.reveal()));
    let request = connection.http(url)?.post(url.clone());
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    let answer = exchange(request, url, connection.timeout()).await?;
    if !answer.status.is_success() {
        return Err(Fault {
            said: format!("the issuer's {url} was answered {}", answer.told()),
            to_do: "Compare ClientId and ClientSecret with what the issuer was told, and whether this client may have client credentials.".to_owned(),
            // Of a client that they do not know issuers say 400 or 401.
            code: if answer.status.is_client_error() { NOT_KNOWN } else { code_of(answer.status) },
        }
        .into());
    }
    // Not shown where it is not understood: it may hold a token.
    let token = serde_json::from_str::<Token>(&answer.text).map_err(|_| Fault {
        said: format!("the answer of {url} has no access_token"),
        to_do: "Give the address at which the issuer hands out tokens as TokenEndpoint.".to_owned(),
        code: FAILED,
    })?;
    Ok(Secret::from(token.access_token))
}
