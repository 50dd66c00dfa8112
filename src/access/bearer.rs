//! Bearer tokens of an OpenID Connect issuer: JWTs, verified by the issuer's published keys.
//!
//! Which algorithms count is a setting and never the token's own word. Keys are fetched one fetch
//! at a time, for an unknown `kid` at a bounded rate, and stay while the issuer is away.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use client_failover_client::outgoing;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::cache::Cache;
use super::watched_file::WatchedFile;
use super::{AuthError, AuthSetupError, Grade, Grant, Identity, unix_now};
use crate::ids::GroupPattern;
use crate::telemetry;

/// For how long a verified token is remembered at most: a key that the issuer withdraws counts for
/// so long more.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How often the keys are fetched without a reason.
const REFRESHED_EVERY: Duration = Duration::from_secs(300);

/// How often they are fetched at most, whatever tokens come.
const FETCHED_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// How long the issuer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that it may send, and the most keys of that which are kept.
const MOST_BYTES: usize = 1024 * 1024;
const MOST_KEYS: usize = 100;

/// The most keys that a token without a `kid` is tried with.
const MOST_TRIES: usize = 8;

/// Which signatures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
pub enum TokenAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[value(name = "RS256")]
    RS256,
    /// ECDSA on P-256 with SHA-256.
    #[value(name = "ES256")]
    ES256,
    /// Ed25519.
    #[value(name = "EdDSA")]
    EdDSA,
}

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [TokenAlgorithm; 3] = [TokenAlgorithm::RS256, TokenAlgorithm::ES256, TokenAlgorithm::EdDSA];

    fn as_jwt(self) -> Algorithm {
        match self {
            TokenAlgorithm::RS256 => Algorithm::RS256,
            TokenAlgorithm::ES256 => Algorithm::ES256,
            TokenAlgorithm::EdDSA => Algorithm::EdDSA,
        }
    }

    /// The one that a key of the issuer's is for, if it is for one of these.
    fn of_key(jwk: &Jwk) -> Option<TokenAlgorithm> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => TokenAlgorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => TokenAlgorithm::ES256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => TokenAlgorithm::EdDSA,
            // A symmetric key in a published set is nobody's secret.
            _ => return None,
        };
        let declared = jwk.common.key_algorithm.map(|declared| declared.to_string());
        let signs = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        let agrees = declared.is_none_or(|declared| declared == format!("{:?}", algorithm.as_jwt()));
        (signs && agrees).then_some(algorithm)
    }
}

/// Where the issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Found by `/.well-known/openid-configuration` below the issuer's URL.
    Discovery,
    /// In a file with a JSON Web Key Set, reread when it changes.
    File(PathBuf),
}

/// Which tokens count, and what their claims mean.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// The audiences that are us.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Which signatures count.
    pub algorithms: Vec<TokenAlgorithm>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that names the identity.
    pub name_claim: String,
    /// The claim with the tenant, or an array of them.
    pub tenant_claim: String,
    /// The claim with the namespaces; `None` for all of the tenant's.
    pub namespaces_claim: Option<String>,
    /// The claim with patterns of the groups; `None` for all of the namespaces'.
    pub groups_claim: Option<String>,
    /// The claim with the roles.
    pub roles_claim: String,
    /// What its values mean.
    pub roles: HashMap<String, Grade>,
}

/// Tokens of one issuer.
pub struct Oidc {
    options: OidcOptions,
    /// One for each algorithm: what a key is for decides, not what a token says.
    validations: Vec<(TokenAlgorithm, Validation)>,
    verified: Cache<Verified>,
    keys: Keys,
}

#[derive(Clone)]
struct Verified {
    identity: Arc<Identity>,
    until: Instant,
}

enum Keys {
    Fetched(Box<FetchedKeys>),
    File(WatchedFile<KeySet>),
}

#[derive(Default)]
struct KeySet {
    keys: Vec<IssuerKey>,
}

#[derive(Clone)]
struct IssuerKey {
    id: Option<String>,
    algorithm: TokenAlgorithm,
    key: DecodingKey,
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
        let keys: Vec<IssuerKey> = published.keys.into_iter().filter_map(key).take(MOST_KEYS).collect();
        match keys.is_empty() {
            true => Err("it holds no public key for RS256, ES256 or EdDSA".to_owned()),
            false => Ok(KeySet { keys }),
        }
    }

    /// The keys that may have signed a token with that header.
    fn candidates(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Vec<IssuerKey> {
        let may_be = |key: &&IssuerKey| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        self.keys.iter().filter(may_be).take(MOST_TRIES).cloned().collect()
    }
}

impl Oidc {
    /// Tokens by these options. The issuer need not be there yet.
    pub fn open(options: OidcOptions) -> Result<Oidc, AuthSetupError> {
        let keys = match &options.keys {
            KeySource::Discovery => Keys::Fetched(Box::new(FetchedKeys::new(&options.issuer)?)),
            KeySource::File(path) => Keys::File(WatchedFile::open(path, KeySet::read)?),
        };
        let validations = options.algorithms.iter().map(|algorithm| (*algorithm, validation(&options, *algorithm)));
        Ok(Oidc { validations: validations.collect(), verified: Cache::new(), keys, options })
    }

    /// Who that is, if the token was verified a short while ago.
    pub fn recall(&self, token: &str) -> Option<Arc<Identity>> {
        let verified = self.verified.find(self.verified.fingerprint(token.as_bytes()))?;
        (Instant::now() < verified.until).then_some(verified.identity)
    }

    /// Who that is.
    pub async fn recognise(&self, token: &str) -> Result<Arc<Identity>, AuthError> {
        let asked_at = Instant::now();
        let header = decode_header(token).map_err(|_| AuthError::Invalid("the bearer token is not a JWT"))?;
        let pinned = self.validations.iter().find(|(algorithm, _)| algorithm.as_jwt() == header.alg);
        let Some((algorithm, validation)) = pinned else {
            return Err(AuthError::Invalid("the token is signed with an algorithm that is not accepted here"));
        };
        if header.crit.is_some() {
            return Err(AuthError::Invalid("the token has a critical header that is not understood here"));
        }
        if !header.typ.as_deref().is_none_or(is_type_of_access) {
            return Err(AuthError::Invalid("the token is of another type than an access token (typ)"));
        }
        let id = header.kid.as_deref();
        let mut candidates = self.keys.current().candidates(id, *algorithm);
        if candidates.is_empty() {
            let can_tell = self.keys.refresh(asked_at).await;
            candidates = self.keys.current().candidates(id, *algorithm);
            if candidates.is_empty() {
                return Err(match can_tell {
                    true => AuthError::Invalid("the token is signed with a key that its issuer does not publish"),
                    false => AuthError::Unavailable("the keys of the tokens' issuer cannot be had"),
                });
            }
        }
        let mut outcome = Err(AuthError::Invalid("the token's signature is not good"));
        for candidate in candidates {
            outcome = self.verify(token, &candidate.key, validation);
            if outcome.is_ok() {
                break;
            }
        }
        let (identity, expires_at) = outcome?;
        let leeway = i64::try_from(self.options.leeway.as_secs()).unwrap_or(0);
        let left = Duration::from_secs(u64::try_from(expires_at + leeway - unix_now()).unwrap_or(0));
        let verified = Verified { identity: identity.clone(), until: asked_at + left.min(REMEMBERED_FOR) };
        self.verified.insert(self.verified.fingerprint(token.as_bytes()), verified);
        Ok(identity)
    }

    fn verify(
        &self,
        token: &str,
        key: &DecodingKey,
        validation: &Validation,
    ) -> Result<(Arc<Identity>, i64), AuthError> {
        let claims = decode::<Map<String, Value>>(token, key, validation)
            .map_err(|error| AuthError::Invalid(fault_text(error.kind())))?
            .claims;
        // The library also takes an array of issuers.
        if claims.get("iss").and_then(Value::as_str) != Some(&self.options.issuer) {
            return Err(AuthError::Invalid(fault_text(&ErrorKind::InvalidIssuer)));
        }
        if is_of_another_kind(&claims) {
            return Err(AuthError::Invalid("the token is no access token by its claims"));
        }
        let expires_at = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0).clamp(0.0, 1e12) as i64;
        let identity = self.identity(&claims).ok_or(AuthError::Invalid("the token does not name its subject"))?;
        Ok((Arc::new(identity), expires_at))
    }

    fn identity(&self, claims: &Map<String, Value>) -> Option<Identity> {
        let name = find_claim(claims, &self.options.name_claim)?.as_str().filter(|name| !name.is_empty())?;
        // A claim that is named in the settings and not in the token grants nothing.
        let names = |claim: &str| find_claim(claims, claim).map(names_of).unwrap_or_default();
        let namespaces = self.options.namespaces_claim.as_deref().map(names);
        let roles = find_claim(claims, &self.options.roles_claim).map(words_of).unwrap_or_default();
        let grade = roles.iter().filter_map(|role| self.options.roles.get(role)).max();
        let groups = self.options.groups_claim.as_deref().map(names);
        let groups = groups.map(|patterns| patterns.into_iter().map(GroupPattern::from).collect::<Vec<_>>());
        let grants = match (grade, &namespaces) {
            (None, _) => Vec::new(),
            (_, Some(names)) if names.is_empty() => Vec::new(),
            _ if groups.as_ref().is_some_and(Vec::is_empty) => Vec::new(),
            (Some(grade), _) => names(&self.options.tenant_claim)
                .into_iter()
                .map(|tenant| Grant { tenant, namespaces: namespaces.clone(), groups: groups.clone(), grade: *grade })
                .collect(),
        };
        Some(Identity { name: format!("oidc:{name}").into(), grants })
    }

    /// Keeps the keys fresh.
    pub async fn keep_up(&self) {
        match &self.keys {
            Keys::File(file) => file.reread_if_changed(),
            Keys::Fetched(keys) if keys.is_due() => drop(keys.refresh(Instant::now()).await),
            Keys::Fetched(_) => {}
        }
    }
}

/// Whether a token with that `typ` in its header may be one for access: by RFC 9068, or by what
/// older issuers write of all their tokens. Those for logging out, for events and for proofs have
/// types of their own.
fn is_type_of_access(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "at+jwt" | "jwt")
}

/// Whether claims say what the header did not: an id token has a hash of another token with it,
/// Keycloak and Cognito name the kind in a claim, and a token of events holds them.
fn is_of_another_kind(claims: &Map<String, Value>) -> bool {
    ["at_hash", "c_hash", "s_hash", "events"].iter().any(|claim| claims.contains_key(*claim))
        || [("typ", "bearer"), ("token_use", "access")].iter().any(|(claim, access)| {
            claims.get(*claim).is_some_and(|kind| kind.as_str().is_none_or(|kind| !kind.eq_ignore_ascii_case(access)))
        })
}

fn validation(options: &OidcOptions, algorithm: TokenAlgorithm) -> Validation {
    let mut validation = Validation::new(algorithm.as_jwt());
    validation.leeway = options.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[&options.issuer]);
    validation.set_audience(&options.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation
}

fn fault_text(fault: &ErrorKind) -> &'static str {
    match fault {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of the claims exp, iss and aud",
        ErrorKind::InvalidSignature => "the token's signature is not good",
        _ => "the token is not one that is understood here",
    }
}

/// A claim by its name, or by a path of names with dots between (`realm_access.roles`).
fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find_claim(claims.get(first)?.as_object()?, rest)
}

/// A text as its words (as OAuth's `scope` has them), or an array of texts.
fn words_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        other => names_of(other),
    }
}

/// One name, or an array of names. A name may hold spaces: split, it would be the names of others.
fn names_of(value: &Value) -> Vec<String> {
    let name = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    match value {
        Value::Array(values) => values.iter().filter_map(name).collect(),
        one => name(one).into_iter().collect(),
    }
}

impl Keys {
    fn current(&self) -> Arc<KeySet> {
        match self {
            Keys::Fetched(keys) => keys.current.read().unwrap_or_else(PoisonError::into_inner).clone(),
            Keys::File(file) => file.get(),
        }
    }

    /// Whether the keys are now known to be those that the issuer has.
    async fn refresh(&self, asked_at: Instant) -> bool {
        match self {
            Keys::Fetched(keys) => keys.refresh(asked_at).await,
            Keys::File(_) => true,
        }
    }
}

/// The issuer's keys, fetched from where it says they are.
struct FetchedKeys {
    issuer: String,
    current: RwLock<Arc<KeySet>>,
    fetching: tokio::sync::Mutex<()>,
    last: Mutex<LastFetch>,
}

#[derive(Clone, Copy, Default)]
struct LastFetch {
    began_at: Option<Instant>,
    succeeded: bool,
}

impl FetchedKeys {
    fn new(issuer: &str) -> Result<FetchedKeys, AuthSetupError> {
        // What is missing is said at the start, and not when the first token comes.
        if let Ok(url) = reqwest::Url::parse(issuer) {
            outgoing::client(&url, FetchedKeys::configure_client)?;
        }
        Ok(FetchedKeys {
            issuer: issuer.to_owned(),
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
            last: Mutex::default(),
        })
    }

    fn configure_client() -> reqwest::ClientBuilder {
        // Where the keys are is what the issuer says, and nobody else.
        reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none())
    }

    fn last(&self) -> LastFetch {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        let last = self.last();
        let wait = if last.succeeded { REFRESHED_EVERY } else { FETCHED_AT_MOST_EVERY };
        last.began_at.is_none_or(|at| at.elapsed() >= wait)
    }

    /// Fetches the keys, unless that was done a moment ago. Whoever waits for another's fetch takes
    /// its outcome. Whether the last fetch succeeded.
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
            Ok(keys) => {
                if !last.succeeded {
                    tracing::info!(issuer = self.issuer, keys = keys.keys.len(), "the issuer's keys are here");
                }
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) if last.succeeded || last.began_at.is_none() => {
                tracing::warn!(issuer = self.issuer, error, "the issuer's keys cannot be fetched");
            }
            Err(error) => tracing::debug!(issuer = self.issuer, error, "the issuer's keys cannot be fetched"),
        }
        succeeded
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let found: Discovery = serde_json::from_str(&FetchedKeys::get(&url).await?)
            .map_err(|error| format!("{url} is not an OpenID configuration: {error}"))?;
        if found.issuer != self.issuer {
            return Err(format!("{url} is the configuration of another issuer, '{}'", found.issuer));
        }
        if !is_safe_url(&found.jwks_uri) {
            return Err(format!("its jwks_uri is neither https nor on this machine: {}", found.jwks_uri));
        }
        KeySet::read(&FetchedKeys::get(&found.jwks_uri).await?)
    }

    async fn get(url: &str) -> Result<String, String> {
        let fault = |error: reqwest::Error| format!("{url}: {}", telemetry::error_chain(&error.without_url()));
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        // Made anew for each: it is asked for rarely, and so believes the authorities that the
        // machine has now.
        let http =
            outgoing::client(&parsed, FetchedKeys::configure_client).map_err(|error| format!("{url}: {error}"))?;
        let mut response = http.get(parsed).send().await.map_err(fault)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} was answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(format!("{url} is longer than {MOST_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| format!("{url} is not UTF-8"))
    }
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
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn oidc(namespaces_claim: Option<&str>) -> Oidc {
        let options = OidcOptions {
            issuer: "https://issuer.example".to_owned(),
            audiences: vec!["us".to_owned()],
            keys: KeySource::Discovery,
            algorithms: TokenAlgorithm::ALL.to_vec(),
            leeway: Duration::from_secs(30),
            name_claim: "sub".to_owned(),
            tenant_claim: "tenant".to_owned(),
            namespaces_claim: namespaces_claim.map(str::to_owned),
            groups_claim: None,
            roles_claim: "realm_access.roles".to_owned(),
            roles: [("adapters".to_owned(), Grade::Client), ("operators".to_owned(), Grade::Admin)].into(),
        };
        Oidc::open(options).expect("it needs no issuer yet")
    }

    #[test]
    fn claims_grant_the_highest_of_their_roles_in_each_of_their_tenants() {
        let token = claims(json!({
            "sub": "me", "tenant": ["a", "b"], "realm_access": {"roles": ["adapters", "operators", "else"]}
        }));
        let identity = oidc(None).identity(&token).expect("it names a subject");
        assert_eq!(&*identity.name, "oidc:me");
        let grant =
            |tenant: &str| Grant { tenant: tenant.to_owned(), namespaces: None, groups: None, grade: Grade::Admin };
        assert_eq!(identity.grants, [grant("a"), grant("b")]);
    }

    #[test]
    fn claims_that_are_missing_or_of_another_type_grant_nothing() {
        let roles = json!({"roles": "adapters"});
        for (token, named) in [
            (json!({"sub": "me", "tenant": "a"}), None),
            (json!({"sub": "me", "tenant": "a", "realm_access": "adapters"}), None),
            (json!({"sub": "me", "tenant": "a", "realm_access": {"roles": ["client"]}}), None),
            (json!({"sub": "me", "realm_access": roles}), None),
            (json!({"sub": "me", "tenant": "", "realm_access": roles}), None),
            (json!({"sub": "me", "tenant": {"a": 1}, "realm_access": roles}), None),
            (json!({"sub": "me", "tenant": "a", "realm_access": roles}), Some("ns")),
            (json!({"sub": "me", "tenant": "a", "realm_access": roles, "ns": []}), Some("ns")),
        ] {
            let identity = oidc(named).identity(&claims(token.clone())).expect("it names a subject");
            assert_eq!(identity.grants, [], "{token}");
        }
        for nameless in [json!({}), json!({"sub": ""}), json!({"sub": 1})] {
            assert!(oidc(None).identity(&claims(nameless)).is_none());
        }
    }

    #[test]
    fn a_name_with_a_space_is_one_name_and_not_two() {
        let grants = |tenant: Value, namespaces: Value| {
            let roles = json!({"roles": "operators"});
            let token = json!({"sub": "me", "tenant": tenant, "ns": namespaces, "realm_access": roles});
            let identity = oidc(Some("ns")).identity(&claims(token)).expect("it names a subject");
            identity.grants.into_iter().map(|grant| (grant.tenant, grant.namespaces)).collect::<Vec<_>>()
        };
        let one = |tenant: &str, namespace: &str| vec![(tenant.to_owned(), Some(vec![namespace.to_owned()]))];
        assert_eq!(grants(json!("North plant"), json!("line 1")), one("North plant", "line 1"));
        assert_eq!(grants(json!(["shop *"]), json!(["a b"])), one("shop *", "a b"));
        assert_eq!(grants(json!("* "), json!("n")), one("* ", "n"));
        assert_eq!(grants(json!(["", "t"]), json!(["", "n"])), one("t", "n"));
    }

    #[test]
    fn a_token_for_another_purpose_is_told_by_its_type_and_its_claims() {
        for good in ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"] {
            assert!(is_type_of_access(good), "{good}");
        }
        for bad in ["", "logout+jwt", "dpop+jwt", "secevent+jwt", "id_token", "at+jwt+x", "JOSE"] {
            assert!(!is_type_of_access(bad), "{bad}");
        }
        assert!(!is_of_another_kind(&claims(json!({"sub": "me", "nonce": "n"}))));
        assert!(!is_of_another_kind(&claims(json!({"typ": "Bearer"}))));
        for other in [
            json!({"typ": "ID"}),
            json!({"typ": "Refresh"}),
            json!({"typ": 1}),
            json!({"token_use": "id"}),
            json!({"at_hash": "x"}),
            json!({"events": {}}),
        ] {
            assert!(is_of_another_kind(&claims(other.clone())), "{other}");
        }
    }

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
