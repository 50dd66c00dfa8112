//! Sign-in on the page: the page is a public client of the issuer, and the service exchanges for it
//! what the browser brings back (authorization code with PKCE, or a refresh token) for an access
//! token.
//!
//! Never keeps a code or a token, and never logs one. Whether a token counts is decided when it
//! comes back with a request, as with any other.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client_failover_client::outgoing;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::keys::{self, is_safe_url};
use crate::access::network;
use crate::ids::HIDDEN;
use crate::rates::Rates;
use crate::telemetry;

/// How many exchanges one address may ask for in a second, and how many are under way at once. The
/// issuer may take seconds for each: no address alone takes all the places.
const PER_SECOND: u32 = 5;
const MAX_UNDER_WAY: usize = 64;

/// The longest token that is passed on: it has to fit into the head of a request.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest time that a token is said to be good for.
const MAX_LIFETIME_S: f64 = 10.0 * 365.0 * 86_400.0;

/// The most that is shown of what an issuer says.
const MAX_SAID_CHARS: usize = 300;

/// As which client of the issuer the page signs people in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageClient {
    /// The client's id.
    pub client_id: String,
    /// What its tokens are to be good for.
    pub scopes: Vec<String>,
}

/// Where people sign in, and where what they come back with is exchanged: as the issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where the browser goes.
    pub authorization: String,
    token: String,
    /// Whether the issuer says in each of its answers that it is its own (RFC 9207).
    pub names_issuer: bool,
}

impl Endpoints {
    /// By the issuer's configuration, or what is missing in it.
    pub fn read(configuration: &str) -> Result<Endpoints, &'static str> {
        #[derive(Deserialize)]
        struct Published {
            authorization_endpoint: Option<String>,
            token_endpoint: Option<String>,
            code_challenge_methods_supported: Option<Vec<String>>,
            #[serde(default)]
            authorization_response_iss_parameter_supported: bool,
        }
        let published: Published = serde_json::from_str(configuration)
            .map_err(|_| "the issuer's configuration is not an OpenID provider's")?;
        let safe = |url: Option<String>| url.filter(|url| is_safe_url(url));
        let authorization = safe(published.authorization_endpoint)
            .ok_or("the issuer has no authorization_endpoint over https, or on this machine")?;
        let token =
            safe(published.token_endpoint).ok_or("the issuer has no token_endpoint over https, or on this machine")?;
        // Some issuers take it and do not say so. One that says what it takes, and not this, would
        // give a token for a code that somebody has stolen.
        if published.code_challenge_methods_supported.is_some_and(|methods| methods.iter().all(|one| one != "S256")) {
            return Err("the issuer does not take PKCE with S256");
        }
        let names_issuer = published.authorization_response_iss_parameter_supported;
        Ok(Endpoints { authorization, token, names_issuer })
    }
}

/// What the page needs to know to send somebody to the issuer.
pub struct Offer<'a> {
    /// The issuer, as its answers name it.
    pub issuer: &'a str,
    /// As which client.
    pub client: &'a PageClient,
    /// Where to.
    pub endpoints: Endpoints,
}

/// What a browser has brought back, or was given before.
pub enum Proof {
    /// A code, good once.
    Code {
        /// The code.
        code: String,
        /// What the challenge was made of that the code was asked for with.
        verifier: String,
        /// Where the browser was sent back to.
        redirect_uri: String,
    },
    /// What goes on from one access token to the next.
    RefreshToken(String),
}

/// What the issuer gives for it.
pub struct Tokens {
    /// What requests are sent with.
    pub access_token: String,
    /// For how long that is good, if the issuer says so.
    pub lifetime: Option<Duration>,
    /// What the next one is had for, if there is to be one.
    pub refresh_token: Option<String>,
}

/// Why nobody is signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The page is no client of an issuer.
    #[error("the page is no client of an issuer here")]
    NotOffered,
    /// The issuer says no.
    #[error("the issuer says '{0}'")]
    Refused(String),
    /// The issuer cannot be asked, or does not answer as it should.
    #[error("{0}")]
    Away(&'static str),
    /// Too many ask.
    #[error("{0}")]
    TooMany(&'static str),
}

/// Exchanges what browsers bring. Shared by all workers.
pub struct SignIn {
    client: PageClient,
    rates: Rates,
    places: Semaphore,
    /// Whether the last exchange failed by the issuer's fault: of many such in a row one is worth a
    /// warning.
    is_failing: AtomicBool,
}

impl SignIn {
    /// As that client.
    pub fn new(client: PageClient) -> SignIn {
        let (rates, places) = (Rates::per_second(PER_SECOND), Semaphore::new(MAX_UNDER_WAY));
        SignIn { client, rates, places, is_failing: AtomicBool::new(false) }
    }

    /// As which client.
    pub fn client(&self) -> &PageClient {
        &self.client
    }

    /// Has a place at the issuer for somebody who asks from there, or says that there is none.
    pub fn enter(&self, peer: Option<IpAddr>) -> Result<SemaphorePermit<'_>, SignInError> {
        let who = peer.map(|peer| network(peer).to_string()).unwrap_or_default();
        let within = self.rates.take(&who, Instant::now());
        within
            .map_err(|_| SignInError::TooMany("this address has asked for as many sign-ins as it may in a second"))?;
        self.places.try_acquire().map_err(|_| SignInError::TooMany("as many sign-ins are under way as there may be"))
    }

    /// What the issuer gives for that.
    pub async fn exchange(&self, endpoints: &Endpoints, proof: &Proof) -> Result<Tokens, SignInError> {
        let outcome = self.ask(&endpoints.token, proof).await;
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        let (status, body) = outcome.map_err(|error| {
            if was_failing {
                tracing::debug!(endpoint = endpoints.token, error, "the issuer cannot be asked for a token");
            } else {
                tracing::warn!(endpoint = endpoints.token, error, "the issuer cannot be asked for a token");
            }
            SignInError::Away("the issuer cannot be asked for a token: the service's log says why")
        })?;
        read_answer(status, &body)
    }

    async fn ask(&self, endpoint: &str, proof: &Proof) -> Result<(StatusCode, String), String> {
        let url = reqwest::Url::parse(endpoint).map_err(|error| error.to_string())?;
        let http = outgoing::client(&url, keys::configure_client).map_err(|error| error.to_string())?;
        let request = http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.header(ACCEPT, "application/json").body(self.form(proof));
        let fault = |error: reqwest::Error| telemetry::error_chain(&error.without_url());
        let response = request.send().await.map_err(fault)?;
        let status = response.status();
        if status.is_server_error() || status.is_redirection() {
            return Err(format!("it was answered {status}"));
        }
        Ok((status, keys::read_body(response).await?))
    }

    fn form(&self, proof: &Proof) -> String {
        let mut form = format!("client_id={}", escaped(&self.client.client_id));
        let mut add = |name: &str, value: &str| {
            // Writing to a text does not fail.
            let _ = write!(form, "&{name}={}", escaped(value));
        };
        match proof {
            Proof::Code { code, verifier, redirect_uri } => {
                add("grant_type", "authorization_code");
                add("code", code);
                add("code_verifier", verifier);
                add("redirect_uri", redirect_uri);
            }
            Proof::RefreshToken(token) => {
                add("grant_type", "refresh_token");
                add("refresh_token", token);
            }
        }
        form
    }
}

fn escaped(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, NON_ALPHANUMERIC)
}

fn read_answer(status: StatusCode, body: &str) -> Result<Tokens, SignInError> {
    const ODD: SignInError = SignInError::Away("the issuer's answer is not one that gives a token or says why not");
    #[derive(Deserialize)]
    struct Given {
        access_token: Option<String>,
        token_type: Option<String>,
        expires_in: Option<Value>,
        refresh_token: Option<String>,
        error: Option<String>,
        error_description: Option<String>,
    }
    let given: Given = serde_json::from_str(body).map_err(|_| ODD)?;
    if let Some(error) = given.error {
        let said = match given.error_description {
            Some(description) => format!("{error}: {description}"),
            None => error,
        };
        // It is shown within a sentence of ours, which it must not turn round or break.
        let is_hidden = |c: &char| HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(c));
        let is_shown = |c: &char| !c.is_control() && !is_hidden(c);
        return Err(SignInError::Refused(said.chars().filter(is_shown).take(MAX_SAID_CHARS).collect()));
    }
    let is_bearer = given.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    let token = |token: &String| (1..=MAX_TOKEN_BYTES).contains(&token.len());
    let in_header = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
    match given.access_token.filter(token).filter(in_header) {
        Some(access_token) if status.is_success() && is_bearer => Ok(Tokens {
            access_token,
            lifetime: given.expires_in.as_ref().and_then(lifetime),
            refresh_token: given.refresh_token.filter(token),
        }),
        _ => Err(ODD),
    }
}

/// Some issuers write the number as a text.
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_LIFETIME_S)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sign_in() -> SignIn {
        SignIn::new(PageClient { client_id: "the page".to_owned(), scopes: vec!["openid".to_owned()] })
    }

    #[test]
    fn an_issuer_is_asked_only_where_nobody_listens_and_with_pkce() {
        let read = |change: Value| {
            let mut published = json!({
                "authorization_endpoint": "https://issuer.example/authorize",
                "token_endpoint": "https://issuer.example/token",
            });
            published.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            Endpoints::read(&published.to_string())
        };
        assert!(!read(json!({})).unwrap().names_issuer);
        assert!(read(json!({"authorization_response_iss_parameter_supported": true})).unwrap().names_issuer);
        assert!(read(json!({"code_challenge_methods_supported": ["plain", "S256"]})).is_ok());
        assert!(read(json!({"token_endpoint": "http://127.0.0.1:1/token"})).is_ok());
        for (change, word) in [
            (json!({"authorization_endpoint": "http://issuer.example/authorize"}), "authorization_endpoint"),
            (json!({"authorization_endpoint": "javascript:alert(1)"}), "authorization_endpoint"),
            (json!({"authorization_endpoint": null}), "authorization_endpoint"),
            (json!({"token_endpoint": "http://issuer.example/token"}), "token_endpoint"),
            (json!({"code_challenge_methods_supported": ["plain"]}), "PKCE"),
            (json!({"code_challenge_methods_supported": []}), "PKCE"),
            (json!({"token_endpoint": 1}), "not an OpenID provider's"),
        ] {
            let wrong = read(change.clone()).expect_err("it must not be asked");
            assert!(wrong.contains(word), "{change}: {wrong}");
        }
    }

    #[test]
    fn what_is_sent_stays_one_value_each() {
        let code = Proof::Code {
            code: "a&client_id=b".to_owned(),
            verifier: "v~_".to_owned(),
            redirect_uri: "https://h/?x=y".to_owned(),
        };
        assert_eq!(
            sign_in().form(&code),
            "client_id=the%20page&grant_type=authorization%5Fcode&code=a%26client%5Fid%3Db&code_verifier=v%7E%5F\
             &redirect_uri=https%3A%2F%2Fh%2F%3Fx%3Dy"
        );
        let refresh = Proof::RefreshToken("r+".to_owned());
        assert_eq!(sign_in().form(&refresh), "client_id=the%20page&grant_type=refresh%5Ftoken&refresh_token=r%2B");
    }

    #[test]
    fn an_answer_gives_a_token_for_a_header_or_says_why_not() {
        let read = |status: u16, body: Value| read_answer(StatusCode::from_u16(status).unwrap(), &body.to_string());
        let good = json!({"access_token": "a.b", "token_type": "bearer", "expires_in": 300, "refresh_token": "r"});
        let tokens = read(200, good).ok().unwrap();
        assert_eq!((tokens.access_token.as_str(), tokens.refresh_token.as_deref()), ("a.b", Some("r")));
        assert_eq!(tokens.lifetime, Some(Duration::from_secs(300)));
        let lifetime = |value: Value| {
            let tokens = read(200, json!({"access_token": "a", "token_type": "Bearer", "expires_in": value}));
            tokens.ok().unwrap().lifetime
        };
        assert_eq!(lifetime(json!("60")), Some(Duration::from_secs(60)));
        assert_eq!(lifetime(json!(1e300)), Some(Duration::from_secs_f64(MAX_LIFETIME_S)));
        for none in [json!(null), json!(0), json!(-5), json!("soon"), json!({})] {
            assert_eq!(lifetime(none), None);
        }
        let refused = |body: Value| read(400, body).err();
        let said = |text: &str| Some(SignInError::Refused(text.to_owned()));
        assert_eq!(refused(json!({"error": "invalid_grant"})), said("invalid_grant"));
        let marked = json!({"error": "e", "error_description": "a\r\nb\u{1b}[1m\u{202e}\u{2028}c"});
        assert_eq!(refused(marked), said("e: ab[1mc"));
        let long = refused(json!({"error": "é".repeat(1_000)}));
        assert!(matches!(long, Some(SignInError::Refused(text)) if text.chars().count() == MAX_SAID_CHARS));
        for odd in [
            json!({}),
            json!([]),
            json!({"access_token": "a"}),
            json!({"access_token": "a", "token_type": "DPoP"}),
            json!({"access_token": "a\r\nX: y", "token_type": "Bearer"}),
            json!({"access_token": "", "token_type": "Bearer"}),
            json!({"access_token": "a".repeat(MAX_TOKEN_BYTES + 1), "token_type": "Bearer"}),
        ] {
            assert!(matches!(read(200, odd.clone()).err(), Some(SignInError::Away(_))), "{odd}");
        }
        let with_failure = read(400, json!({"access_token": "a", "token_type": "Bearer"}));
        assert!(matches!(with_failure.err(), Some(SignInError::Away(_))));
    }

    #[test]
    fn nobody_takes_all_the_places() {
        let sign_in = sign_in();
        let one = Some(IpAddr::from([192, 0, 2, 7]));
        let places: Vec<_> = std::iter::from_fn(|| sign_in.enter(one).ok()).collect();
        assert_eq!(places.len(), PER_SECOND as usize);
        assert!(sign_in.enter(Some(IpAddr::from([192, 0, 2, 8]))).is_ok());
        // An IPv4 address in the form of IPv6 is the same one.
        assert!(sign_in.enter("::ffff:192.0.2.7".parse().ok()).is_err());
        let many: Vec<_> =
            (0..=u8::MAX).filter_map(|last| sign_in.enter(Some(IpAddr::from([198, 51, 100, last]))).ok()).collect();
        assert_eq!(many.len(), MAX_UNDER_WAY - places.len());
        drop(places);
        assert!(sign_in.enter(Some(IpAddr::from([192, 0, 2, 9]))).is_ok());
    }
}
