//! What an issuer publishes: its configuration, and its keys, fetched from where it says they are
//! or read from a file.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use client_failover_client::outgoing;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::sign_in::Endpoints;
use super::{KeySource, TokenAlgorithm};
use crate::access::AuthSetupError;
use crate::access::watched_file::WatchedFile;
use crate::telemetry;

/// How often the keys are fetched without a reason.
const REFRESHED_EVERY: Duration = Duration::from_secs(300);

/// How often they are fetched at most, whatever tokens come.
const FETCHED_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// How long the issuer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most that it may send, and the most keys of that which are kept.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_KEYS: usize = 100;

/// The most keys that a token without a `kid` is tried with.
const MAX_TRIES: usize = 8;

/// Where the issuer's keys come from, with those that are there.
pub enum Keys {
    Fetched(Box<Published>),
    /// The issuer's configuration is fetched when somebody asks for it.
    File(WatchedFile<KeySet>, Box<Published>),
}

/// Keys of an issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<IssuerKey>,
}

/// One of them, and what it is for.
#[derive(Clone)]
pub struct IssuerKey {
    id: Option<String>,
    algorithm: TokenAlgorithm,
    /// What signatures are checked with.
    pub key: DecodingKey,
}

impl KeySet {
    fn read(text: &str) -> Result<KeySet, String> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published =
            serde_json::from_str(text).map_err(|error| format!("it is not a JSON Web Key Set: {error}"))?;
        let key = |value: Value| {
            // One that is not understood is left out: sets hold keys for other purposes, too.
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            let algorithm = TokenAlgorithm::of_key(&jwk)?;
            let key = DecodingKey::from_jwk(&jwk).ok()?;
            Some(IssuerKey { id: jwk.common.key_id, algorithm, key })
        };
        let keys: Vec<IssuerKey> = published.keys.into_iter().filter_map(key).take(MAX_KEYS).collect();
        if keys.is_empty() {
            Err("it holds no public key for RS256, ES256 or EdDSA".to_owned())
        } else {
            Ok(KeySet { keys })
        }
    }

    /// The keys that may have signed a token with that header.
    pub fn candidates(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Vec<IssuerKey> {
        let may_be = |key: &&IssuerKey| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        self.keys.iter().filter(may_be).take(MAX_TRIES).cloned().collect()
    }
}

impl Keys {
    /// From there. The issuer need not be there yet.
    pub fn open(source: &KeySource, issuer: &str) -> Result<Keys, AuthSetupError> {
        match source {
            KeySource::Discovery => {
                // What is missing is said at the start, and not when the first token comes.
                if let Ok(url) = reqwest::Url::parse(issuer) {
                    outgoing::client(&url, configure_client)?;
                }
                Ok(Keys::Fetched(Box::new(Published::new(issuer, true))))
            }
            KeySource::File(path) => {
                Ok(Keys::File(WatchedFile::open(path, KeySet::read)?, Box::new(Published::new(issuer, false))))
            }
        }
    }

    /// Keeps them fresh.
    pub async fn keep_up(&self) {
        match self {
            Keys::File(file, _) => file.reread_if_changed(),
            Keys::Fetched(published) if published.is_due() => drop(published.refresh(Instant::now()).await),
            Keys::Fetched(_) => {}
        }
    }

    /// Those that are here.
    pub fn current(&self) -> Arc<KeySet> {
        match self {
            Keys::Fetched(published) => published.current().keys.clone(),
            Keys::File(file, _) => file.get(),
        }
    }

    /// The issuer's configuration (a JSON document), as it was published last; `None` while it
    /// cannot be had.
    pub async fn configuration(&self) -> Option<Arc<str>> {
        self.published().await.configuration
    }

    /// Where people sign in by that configuration, or why they cannot; `None` as there.
    pub async fn endpoints(&self) -> Option<Result<Endpoints, &'static str>> {
        self.published().await.endpoints
    }

    async fn published(&self) -> Current {
        let (Keys::Fetched(published) | Keys::File(_, published)) = self;
        // Whoever comes before the first of it waits for that.
        if published.is_due() || published.current().configuration.is_none() {
            published.refresh(Instant::now()).await;
        }
        published.current()
    }

    /// Whether the keys are now known to be those that the issuer has.
    pub async fn refresh(&self, asked_at: Instant) -> bool {
        match self {
            Keys::Fetched(published) => published.refresh(asked_at).await,
            Keys::File(..) => true,
        }
    }
}

/// What an issuer publishes.
pub struct Published {
    issuer: String,
    /// Whether its keys are wanted, too.
    with_keys: bool,
    current: RwLock<Current>,
    fetching: tokio::sync::Mutex<()>,
    last: Mutex<LastFetch>,
}

/// What was fetched last.
#[derive(Clone, Default)]
struct Current {
    keys: Arc<KeySet>,
    configuration: Option<Arc<str>>,
    endpoints: Option<Result<Endpoints, &'static str>>,
}

#[derive(Clone, Copy, Default)]
struct LastFetch {
    began_at: Option<Instant>,
    succeeded: bool,
}

impl Published {
    fn new(issuer: &str, with_keys: bool) -> Published {
        Published {
            issuer: issuer.to_owned(),
            with_keys,
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
            last: Mutex::default(),
        }
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn last(&self) -> LastFetch {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        let last = self.last();
        let wait = if last.succeeded { REFRESHED_EVERY } else { FETCHED_AT_MOST_EVERY };
        last.began_at.is_none_or(|at| at.elapsed() >= wait)
    }

    /// Fetches all of it, unless that was done a moment ago. Whoever waits for another's fetch
    /// takes its outcome. Whether the last fetch succeeded.
    async fn refresh(&self, asked_at: Instant) -> bool {
        let _one = self.fetching.lock().await;
        let last = self.last();
        if last.began_at.is_some_and(|at| at >= asked_at || at.elapsed() < FETCHED_AT_MOST_EVERY) {
            return last.succeeded;
        }
        let began_at = Some(Instant::now());
        // Before it begins: a fetch that is given up because its request went away counts for the
        // rate as well.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = LastFetch { began_at, succeeded: false };
        let outcome = self.fetch().await;
        let succeeded = outcome.is_ok();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = LastFetch { began_at, succeeded };
        match outcome {
            Ok(published) => {
                if !last.succeeded && self.with_keys {
                    tracing::info!(
                        issuer = self.issuer,
                        keys = published.keys.keys.len(),
                        "the issuer's keys are here"
                    );
                }
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = published;
            }
            Err(error) if last.succeeded || last.began_at.is_none() => {
                tracing::warn!(issuer = self.issuer, error, "what the issuer publishes cannot be fetched");
            }
            Err(error) => {
                tracing::debug!(issuer = self.issuer, error, "what the issuer publishes cannot be fetched");
            }
        }
        succeeded
    }

    async fn fetch(&self) -> Result<Current, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let text = Published::get(&url).await?;
        let found: Discovery =
            serde_json::from_str(&text).map_err(|error| format!("{url} is not an OpenID configuration: {error}"))?;
        if found.issuer != self.issuer {
            return Err(format!("{url} is the configuration of another issuer, '{}'", found.issuer));
        }
        if !is_safe_url(&found.jwks_uri) {
            return Err(format!("its jwks_uri is neither https nor on this machine: {}", found.jwks_uri));
        }
        let keys =
            if self.with_keys { KeySet::read(&Published::get(&found.jwks_uri).await?)? } else { KeySet::default() };
        let endpoints = Some(Endpoints::read(&text));
        Ok(Current { keys: Arc::new(keys), configuration: Some(text.into()), endpoints })
    }

    async fn get(url: &str) -> Result<String, String> {
        let fault = |error: reqwest::Error| format!("{url}: {}", telemetry::error_chain(&error.without_url()));
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        // Made anew for each: it is asked for rarely, and so believes the authorities that the
        // machine has now.
        let http = outgoing::client(&parsed, configure_client).map_err(|error| format!("{url}: {error}"))?;
        let response = http.get(parsed).send().await.map_err(fault)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} was answered {}", response.status()));
        }
        read_body(response).await.map_err(|error| format!("{url}: {error}"))
    }
}

/// How the issuer is asked.
pub fn configure_client() -> reqwest::ClientBuilder {
    // Where something of it is, is what the issuer says, and nobody else.
    reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none())
}

/// The body of one of its answers.
pub async fn read_body(mut response: reqwest::Response) -> Result<String, String> {
    let mut body = Vec::new();
    let fault = |error: reqwest::Error| telemetry::error_chain(&error.without_url());
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("the answer is longer than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())
}

/// Whether what comes from there can be believed: over TLS, or from this machine.
pub fn is_safe_url(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !host.is_empty() && (url.scheme() == "https" || (url.scheme() == "http" && local))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in ["https://issuer.example/x", "http://127.0.0.1:1/x", "http://[::1]:1", "http://localhost"] {
            assert!(is_safe_url(good), "{good}");
        }
        for bad in ["http://issuer.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "file:///etc/x", "x", ""] {
            assert!(!is_safe_url(bad), "{bad}");
        }
    }

    #[test]
    fn symmetric_and_foreign_keys_in_a_set_are_left_out() {
        let only = |key: Value| KeySet::read(&json!({"keys": [key]}).to_string()).map(|set| set.keys.len());
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(only(json!({"kty": "OKP", "crv": "Ed25519", "x": x})), Ok(1));
        assert_eq!(only(json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": "EdDSA"})), Ok(1));
        for other in [
            json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "RS256"}),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}),
            json!({"kty": "what"}),
            json!(1),
        ] {
            assert!(only(other.clone()).is_err(), "{other}");
        }
    }
}
