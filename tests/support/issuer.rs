//! An issuer of tokens for the tests: keys made at run time, discovery and key set served on
//! loopback, and tokens of every kind, also such as no library would make.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client_failover::access::Grade;
use client_failover::access::bearer::{KeySource, OidcOptions, TokenAlgorithm};
use client_failover::access::unix_now;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::authorization::Authorization;

pub const AUDIENCE: &str = "client-failover";

/// A pair of keys of the issuer's.
pub enum SigningKey {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    pub fn rsa() -> SigningKey {
        SigningKey::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made")))
    }

    pub fn ec() -> SigningKey {
        SigningKey::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made"))
    }

    pub fn ed() -> SigningKey {
        SigningKey::Ed(Ed25519KeyPair::generate().expect("a key can be made"))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            SigningKey::Rsa(_) => "RS256",
            SigningKey::Ec(_) => "ES256",
            SigningKey::Ed(_) => "EdDSA",
        }
    }

    /// What is published of it.
    pub fn jwk(&self, kid: &str) -> Value {
        let public = self.public();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            // RSAPublicKey in DER: a sequence of the modulus, of 2048 bits, and the exponent 65537.
            SigningKey::Rsa(_) => json!({"kty": "RSA", "n": text(&public[9..265]), "e": "AQAB"}),
            SigningKey::Ec(_) => {
                json!({"kty": "EC", "crv": "P-256", "x": text(&public[1..33]), "y": text(&public[33..])})
            }
            SigningKey::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(&public)}),
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    pub fn public(&self) -> Vec<u8> {
        match self {
            SigningKey::Rsa(key) => key.public_key().as_ref().to_vec(),
            SigningKey::Ec(key) => key.public_key().as_ref().to_vec(),
            SigningKey::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("it signs");
                signature
            }
            SigningKey::Ec(key) => key.sign(&random, message).expect("it signs").as_ref().to_vec(),
            SigningKey::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims, whatever they say.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", text(header), text(claims))
}

/// A token signed with a secret that an attacker could try: a public key.
pub fn token_by_hmac(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A token that nobody signed.
pub fn unsigned_token(header: &Value, claims: &Value) -> String {
    format!("{}.", unsigned(header, claims))
}

/// How the issuer behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Good,
    Slow(Duration),
    Failing,
    Babbling,
}

/// The issuer, on a port of its own.
pub struct TokenIssuer {
    pub url: String,
    state: Arc<State>,
}

struct State {
    url: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    fetches: AtomicUsize,
    authorization: Mutex<Option<Arc<Authorization>>>,
}

impl TokenIssuer {
    /// Publishes these keys.
    pub async fn start(keys: Vec<Value>) -> TokenIssuer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it can be set");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(State {
            url: Mutex::new(url.clone()),
            keys: Mutex::new(keys),
            mood: Mutex::new(Mood::Good),
            fetches: AtomicUsize::new(0),
            authorization: Mutex::new(None),
        });
        let shared = state.clone();
        crate::support::helpers::spawn_shared(async move {
            // On the runtime that stays: that of the test may end before its issuer.
            let listener = TcpListener::from_std(listener).expect("it is not blocking");
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move { drop(state.answer(stream).await) });
            }
        });
        TokenIssuer { url, state }
    }

    pub fn publish(&self, keys: Vec<Value>) {
        *self.state.keys.lock().expect("nobody panics") = keys;
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().expect("nobody panics") = mood;
    }

    /// Publishes a key of that kind as `k`, and lets people sign in for tokens of it.
    pub async fn of_people() -> (TokenIssuer, Arc<Authorization>) {
        let key = SigningKey::ed();
        let issuer = TokenIssuer::start(vec![key.jwk("k")]).await;
        let authorization = Arc::new(Authorization::new(key));
        *issuer.state.authorization.lock().expect("nobody panics") = Some(authorization.clone());
        (issuer, authorization)
    }

    /// How often its key set was asked for.
    pub fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::Relaxed)
    }

    /// Claims of a token that is good for an hour.
    pub fn claims(&self) -> Value {
        claims(&self.url)
    }

    /// The settings of a service that believes it.
    pub fn options(&self) -> OidcOptions {
        OidcOptions {
            issuer: self.url.clone(),
            audiences: vec![AUDIENCE.to_owned(), "another-name".to_owned()],
            keys: KeySource::Discovery,
            algorithms: TokenAlgorithm::ALL.to_vec(),
            leeway: Duration::from_secs(5),
            name_claim: "sub".to_owned(),
            tenant_claim: "tenant".to_owned(),
            namespaces_claim: None,
            groups_claim: None,
            roles_claim: "roles".to_owned(),
            roles: [Grade::Viewer, Grade::Client, Grade::Admin].map(|role| (role.text().to_owned(), role)).into(),
            page_client: None,
        }
    }
}

impl State {
    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await?);
        }
        let mood = *self.mood.lock().expect("nobody panics");
        if let Mood::Slow(time) = mood {
            tokio::time::sleep(time).await;
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok();
        let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let url = self.url.lock().expect("nobody panics").clone();
        let authorization = self.authorization.lock().expect("nobody panics").clone();
        let serves = !matches!(mood, Mood::Failing | Mood::Babbling);
        let for_people = authorization
            .as_ref()
            .filter(|_| serves)
            .and_then(|authorization| authorization.answer(&url, claims(&url), &head, &String::from_utf8_lossy(&body)));
        if let Some((status, headers, body)) = for_people {
            let end = format!("{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            return stream.write_all(format!("HTTP/1.1 {status}\r\n{end}").as_bytes()).await;
        }
        let body = match head.split(' ').nth(1) {
            Some("/.well-known/openid-configuration") => {
                let mut published = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
                if let (true, Value::Object(more)) = (authorization.is_some(), Authorization::published(&url)) {
                    more.into_iter().for_each(|(name, value)| published[name] = value);
                }
                published
            }
            _ => {
                self.fetches.fetch_add(1, Ordering::Relaxed);
                json!({"keys": *self.keys.lock().expect("nobody panics")})
            }
        };
        let (status, body) = match mood {
            Mood::Failing => ("500 Internal Server Error", "{}".to_owned()),
            Mood::Babbling => ("200 OK", "<html>hello</html>".to_owned()),
            Mood::Good | Mood::Slow(_) => ("200 OK", body.to_string()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await
    }
}

/// Claims of a token of that issuer which is good for an hour.
fn claims(url: &str) -> Value {
    let now = unix_now();
    json!({
        "iss": url, "aud": AUDIENCE, "sub": "adapter", "iat": now, "nbf": now - 5, "exp": now + 3_600,
        "tenant": "t", "roles": ["client"]
    })
}
