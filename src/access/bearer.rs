//! Bearer tokens of an OpenID Connect issuer: JWTs, verified by the issuer's published keys.
//!
//! Which algorithms count is a setting and never the token's own word. Keys are fetched one fetch
//! at a time, for an unknown `kid` at a bounded rate, and stay while the issuer is away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::cache::Cache;
use super::{AuthError, AuthSetupError, Grade, Grant, Identity, Kind, unix_now};
use crate::ids::GroupPattern;
use claims::{find_claim, is_of_another_kind, is_type_of_access, names_of, words_of};
use keys::Keys;
pub use keys::is_safe_url;
use sign_in::{Offer, PageClient, Proof, SignIn, SignInError, Tokens};

mod claims;
mod keys;
pub mod sign_in;

/// For how long a verified token is remembered at most: a key that the issuer withdraws counts for
/// so long more.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

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
    /// As which client the page signs people in; `None` where it does not.
    pub page_client: Option<PageClient>,
}

/// Tokens of one issuer.
pub struct Oidc {
    options: OidcOptions,
    /// One for each algorithm: what a key is for decides, not what a token says.
    validations: Vec<(TokenAlgorithm, Validation)>,
    verified: Cache<Verified>,
    keys: Keys,
    sign_in: Option<SignIn>,
}

#[derive(Clone)]
struct Verified {
    identity: Arc<Identity>,
    until: Instant,
}

impl Oidc {
    /// Tokens by these options. The issuer need not be there yet.
    pub fn open(options: OidcOptions) -> Result<Oidc, AuthSetupError> {
        let keys = Keys::open(&options.keys, &options.issuer)?;
        let validations = options.algorithms.iter().map(|algorithm| (*algorithm, validation(&options, *algorithm)));
        let sign_in = options.page_client.clone().map(SignIn::new);
        Ok(Oidc { validations: validations.collect(), verified: Cache::new(), keys, sign_in, options })
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
                return Err(if can_tell {
                    AuthError::Invalid("the token is signed with a key that its issuer does not publish")
                } else {
                    AuthError::Unavailable("the keys of the tokens' issuer cannot be had")
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
        Some(Identity { name: format!("oidc:{name}").into(), kind: Kind::Token, grants })
    }

    /// The issuer's configuration, as it publishes it; `None` while it cannot be had.
    pub async fn issuer_configuration(&self) -> Option<Arc<str>> {
        self.keys.configuration().await
    }

    /// What the page needs to send somebody to the issuer.
    pub async fn offer(&self) -> Result<Offer<'_>, SignInError> {
        let sign_in = self.sign_in.as_ref().ok_or(SignInError::NotOffered)?;
        let endpoints = self.endpoints().await?;
        Ok(Offer { issuer: &self.options.issuer, client: sign_in.client(), endpoints })
    }

    /// What the issuer gives for what somebody who asks from there has brought.
    pub async fn exchange(&self, proof: &Proof, peer: Option<IpAddr>) -> Result<Tokens, SignInError> {
        let sign_in = self.sign_in.as_ref().ok_or(SignInError::NotOffered)?;
        let _place = sign_in.enter(peer)?;
        sign_in.exchange(&self.endpoints().await?, proof).await
    }

    async fn endpoints(&self) -> Result<sign_in::Endpoints, SignInError> {
        const AWAY: SignInError = SignInError::Away("the configuration of the tokens' issuer cannot be had");
        self.keys.endpoints().await.ok_or(AWAY)?.map_err(SignInError::Away)
    }

    /// Keeps the keys fresh.
    pub async fn keep_up(&self) {
        self.keys.keep_up().await;
    }
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
            page_client: None,
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
}
