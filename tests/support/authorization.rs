//! The part of the tests' issuer that people see: where a browser signs in, and where what it comes
//! back with is exchanged for a token, once, by whoever knows the verifier (PKCE).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::{Value, json};

use crate::support::issuer::SigningKey;

/// The page, as the issuer knows it.
pub const PAGE: &str = "failover-page";

/// What a browser is sent back with.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// As it should be.
    Code,
    /// A code that answers another question.
    CodeOfAnother,
    /// A code from an issuer of another name.
    CodeOfOtherIssuer,
    /// A code from nobody says whom.
    CodeOfNobody,
    /// An error, with a text for people.
    Error(&'static str, &'static str),
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    pub back: Back,
    /// For how many seconds its tokens are good.
    pub lifetime_s: i64,
    /// Whether there is a refresh token with each.
    pub renews: bool,
    /// Whether it fails when it is asked for a token.
    pub is_failing: bool,
    /// What its tokens say, beside what all of them say.
    pub claims: Value,
}

/// What people sign in with.
pub struct Authorization {
    key: SigningKey,
    known: Mutex<Known>,
}

struct Known {
    manners: Manners,
    redirect_uris: HashSet<String>,
    codes: HashMap<String, Asked>,
    refresh_tokens: HashSet<String>,
    heard: Vec<String>,
    given: Vec<String>,
}

/// What a code was asked for with.
struct Asked {
    challenge: String,
    redirect_uri: String,
}

/// A status, further lines of the head, and a body.
pub type Said = (&'static str, String, String);

impl Authorization {
    /// It signs with that key, which is published as `k`.
    pub fn new(key: SigningKey) -> Authorization {
        let claims = json!({"sub": "zoe", "tenant": "*", "roles": ["viewer"]});
        let manners = Manners { back: Back::Code, lifetime_s: 3_600, renews: true, is_failing: false, claims };
        Authorization {
            key,
            known: Mutex::new(Known {
                manners,
                redirect_uris: HashSet::new(),
                codes: HashMap::new(),
                refresh_tokens: HashSet::new(),
                heard: Vec::new(),
                given: Vec::new(),
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics")
    }

    /// Where the page is.
    pub fn register(&self, redirect_uri: String) {
        self.known().redirect_uris.insert(redirect_uri);
    }

    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.known().manners);
    }

    /// The refresh tokens so far count no more.
    pub fn withdraw(&self) {
        self.known().refresh_tokens.clear();
    }

    /// The requests so far, with head and body.
    pub fn heard(&self) -> Vec<String> {
        self.known().heard.clone()
    }

    /// How often a token was asked for.
    pub fn exchanges(&self) -> usize {
        self.known().heard.iter().filter(|request| request.starts_with("POST /token ")).count()
    }

    /// Every code and every token that it has given.
    pub fn given(&self) -> Vec<String> {
        self.known().given.clone()
    }

    /// What is added to the issuer's configuration.
    pub fn published(url: &str) -> Value {
        json!({
            "authorization_endpoint": format!("{url}/authorize?from=here"),
            "token_endpoint": format!("{url}/token"),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// Answers what is asked of it; `issuer` is its URL, `claims` are those of every token.
    pub fn answer(&self, issuer: &str, claims: Value, head: &str, body: &str) -> Option<Said> {
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let url = Url::parse(&format!("{issuer}{target}")).ok()?;
        match (method, url.path()) {
            ("GET", "/authorize") => {
                self.known().heard.push(format!("{head}{body}"));
                Some(self.authorize(issuer, &url))
            }
            ("POST", "/token") => {
                self.known().heard.push(format!("{head}{body}"));
                Some(self.exchange(claims, &Url::parse(&format!("{issuer}/?{body}")).ok()?))
            }
            _ => None,
        }
    }

    fn authorize(&self, issuer: &str, url: &Url) -> Said {
        let asked: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let mut known = self.known();
        let is_good = of("response_type") == "code"
            && of("client_id") == PAGE
            && of("scope").split(' ').any(|scope| scope == "openid")
            && of("code_challenge_method") == "S256"
            && of("code_challenge").len() == 43
            && of("from") == "here"
            && known.redirect_uris.contains(&of("redirect_uri"));
        if !is_good {
            return ("400 Bad Request", String::new(), format!("This is no request of a client: {asked:?}"));
        }
        let (code, mut back) = (secret(), Url::parse(&of("redirect_uri")).expect("it is registered"));
        let asked = Asked { challenge: of("code_challenge"), redirect_uri: of("redirect_uri") };
        known.codes.insert(code.clone(), asked);
        known.given.push(code.clone());
        let (state, elsewhere) = (of("state"), secret());
        let parameters: Vec<(&str, &str)> = match known.manners.back {
            Back::Code => vec![("code", &code), ("state", &state), ("iss", issuer), ("session_state", "x")],
            Back::CodeOfAnother => vec![("code", &code), ("state", &elsewhere), ("iss", issuer)],
            Back::CodeOfOtherIssuer => vec![("code", &code), ("state", &state), ("iss", "https://evil.example")],
            Back::CodeOfNobody => vec![("code", &code), ("state", &state)],
            Back::Error(error, text) => {
                vec![("error", error), ("error_description", text), ("state", &state), ("iss", issuer)]
            }
        };
        back.query_pairs_mut().extend_pairs(parameters);
        ("302 Found", format!("Location: {back}\r\n"), String::new())
    }

    fn exchange(&self, mut claims: Value, form: &Url) -> Said {
        let sent: HashMap<_, _> = form.query_pairs().into_owned().collect();
        let of = |name: &str| sent.get(name).cloned().unwrap_or_default();
        let mut known = self.known();
        if known.manners.is_failing {
            return ("502 Bad Gateway", String::new(), "<html>".to_owned());
        }
        let is_good = of("client_id") == PAGE
            && match of("grant_type").as_str() {
                // A code counts once, whoever tries.
                "authorization_code" => known.codes.remove(&of("code")).is_some_and(|asked| {
                    let hash = digest(&SHA256, of("code_verifier").as_bytes());
                    asked.challenge == URL_SAFE_NO_PAD.encode(hash) && asked.redirect_uri == of("redirect_uri")
                }),
                "refresh_token" => known.refresh_tokens.remove(&of("refresh_token")),
                _ => false,
            };
        if !is_good {
            let body = json!({"error": "invalid_grant", "error_description": "That is <b>not</b> good (any more)."});
            return ("400 Bad Request", String::new(), body.to_string());
        }
        let manners = known.manners.clone();
        claims["exp"] = (claims["iat"].as_i64().expect("a time") + manners.lifetime_s).into();
        claims["jti"] = secret().into();
        for (name, value) in manners.claims.as_object().expect("they have names") {
            claims[name] = value.clone();
        }
        let token = self.key.token(&json!({"alg": self.key.algorithm(), "kid": "k", "typ": "at+jwt"}), &claims);
        known.given.push(token.clone());
        let mut body = json!({"access_token": token, "token_type": "Bearer", "expires_in": manners.lifetime_s});
        if manners.renews {
            let refresh_token = secret();
            known.given.push(refresh_token.clone());
            body["refresh_token"] = refresh_token.clone().into();
            known.refresh_tokens.insert(refresh_token);
        }
        ("200 OK", String::new(), body.to_string())
    }
}

fn secret() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(32).collect()
}
