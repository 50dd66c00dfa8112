//! Who is asking, and what they may do. Several ways to say who one is may be on at once; each ends
//! in an [`Identity`], and [`decision`] is the one place that says whether that may do something.
//!
//! Never looks at a role of a session, and never logs or shows a credential.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use crate::ids::EVERY_TENANT;
use crate::rates::Rates;
use crate::store::Store;
use crate::tls::ClientTrust;
use api_keys::ApiKeys;
use api_keys::issue::{Issuer, Keys};
use basic::Users;
use bearer::Oidc;
use bearer::sign_in::{Offer, Proof, SignInError, Tokens};
use certificates::{ClientCertificate, Subjects};
pub use decision::{Denied, Permission, Place, Rights};
pub use granted::Granted;
pub use grants::{Grade, Grant};
pub use options::{AuthOptions, AuthSetupError, Method};
use writes::{TooManyWrites, Write, WriteRates, Writes};

pub mod api_keys;
pub mod basic;
pub mod bearer;
mod cache;
pub mod certificates;
pub mod decision;
pub mod granted;
pub mod grants;
pub mod options;
pub mod watched_file;
pub mod writes;

/// How often what credentials are checked against is looked at for changes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Somebody who was recognised.
#[derive(Debug)]
pub struct Identity {
    /// Who they are, and nobody else is, with the way they were recognised: `basic:adapter-7`,
    /// `key:3:adapter-7`. So they are named in logs, in the audit trail, and where a session is
    /// bound to its registrant.
    pub name: Arc<str>,
    /// How they were recognised.
    pub kind: Kind,
    /// What they may do where.
    pub grants: Vec<Grant>,
}

/// How somebody is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not at all: nobody is asked.
    Anonymous,
    /// By a name and a password of the users file.
    User,
    /// By a key of the service's own.
    ApiKey,
    /// By a token of the issuer.
    Token,
    /// By the certificate of the connection.
    Certificate,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Anonymous, Kind::User, Kind::ApiKey, Kind::Token, Kind::Certificate];

    /// As it is told to those who ask.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Anonymous => "Anonymous",
            Kind::User => "User",
            Kind::ApiKey => "ApiKey",
            Kind::Token => "Token",
            Kind::Certificate => "Certificate",
        }
    }
}

impl Identity {
    /// Everybody, where nobody is asked.
    fn anonymous() -> Identity {
        let tenant = EVERY_TENANT.to_owned();
        let everything = Grant { tenant, namespaces: None, groups: None, grade: Grade::Admin };
        Identity { name: ANONYMOUS.into(), kind: Kind::Anonymous, grants: vec![everything] }
    }

    /// What they are called where they were given their name, without how they are recognised;
    /// `None` of those who have none.
    pub fn own_name(&self) -> Option<&str> {
        let parts_before = match self.kind {
            Kind::Anonymous => return None,
            // Of several keys with one name the number tells which.
            Kind::ApiKey => 2,
            Kind::User | Kind::Token | Kind::Certificate => 1,
        };
        self.name.splitn(parts_before + 1, ':').nth(parts_before)
    }
}

/// The name of everybody, where nobody is asked.
pub const ANONYMOUS: &str = "anonymous";

/// Why somebody was not recognised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// They did not say who they are.
    #[error("the request carries no credentials")]
    Missing,
    /// They did not say it in a way that is on, or not convincingly.
    #[error("{0}")]
    Invalid(&'static str),
    /// It cannot be told now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// They, or others, ask too often.
    #[error("{0}")]
    TooMany(&'static str),
}

/// What counts as one address: of IPv6 whoever has one has 2⁶⁴.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// What a request says about who sends it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    /// Where it comes from.
    pub peer: Option<IpAddr>,
    /// The header `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The certificate of its connection.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Tells who is asking. Shared by all workers.
pub struct Authenticator {
    anonymous: Option<Arc<Identity>>,
    oidc: Option<Oidc>,
    users: Option<Users>,
    api_keys: Option<ApiKeys>,
    subjects: Option<Subjects>,
    rates: Option<Rates>,
    writes: Writes,
    client_trust: Option<Arc<ClientTrust>>,
    clients_create_groups: bool,
    challenge: String,
    challenge_for_scripts: String,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Reads the files that there are. The issuer and the database need not be there yet.
    pub fn open(options: &AuthOptions, store: &Store) -> Result<Authenticator, AuthSetupError> {
        let bearer = options.oidc.is_some() || options.api_keys;
        let schemes = [
            (bearer, "Bearer realm=\"client-failover\""),
            (options.users_file.is_some(), "Basic realm=\"client-failover\", charset=\"UTF-8\""),
        ];
        let challenge: Vec<&str> = schemes.iter().filter(|(on, _)| *on).map(|(_, scheme)| *scheme).collect();
        // An answer 401 has to name a scheme; for certificates there is none.
        let challenge = if challenge.is_empty() { "Certificate".to_owned() } else { challenge.join(", ") };
        Ok(Authenticator {
            anonymous: options.is_open().then(|| Arc::new(Identity::anonymous())),
            oidc: options.oidc.clone().map(Oidc::open).transpose()?,
            users: options.users_file.as_deref().map(Users::open).transpose()?,
            api_keys: options.api_keys.then(|| ApiKeys::open(store.background())),
            subjects: options.subjects_file.as_deref().map(Subjects::open).transpose()?,
            rates: options.rate_limit.map(Rates::per_second),
            writes: Writes::new(
                options.caller_writes.unwrap_or(WriteRates::UNBOUNDED),
                options.tenant_writes.unwrap_or(WriteRates::UNBOUNDED),
            ),
            client_trust: None,
            clients_create_groups: options.clients_create_groups,
            challenge_for_scripts: challenge.replace("Basic", "xBasic"),
            challenge,
        })
    }

    /// The same, where client certificates are believed for as long as this does.
    #[must_use]
    pub fn trusting(self, client_trust: Option<Arc<ClientTrust>>) -> Authenticator {
        Authenticator { client_trust, ..self }
    }

    /// What the header `WWW-Authenticate` of an answer 401 says.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The same for a script in a browser, which asks for a password by itself: with a scheme of
    /// another name, because at the sight of `Basic` the browser would ask.
    pub fn challenge_for_scripts(&self) -> &str {
        &self.challenge_for_scripts
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.anonymous.is_some()
    }

    /// Whether the role `client` is enough to create groups.
    pub fn clients_create_groups(&self) -> bool {
        self.clients_create_groups
    }

    /// Whether somebody may do something somewhere.
    pub fn decide(&self, identity: &Identity, permission: Permission, place: &Place<'_>) -> Result<Rights, Denied> {
        decision::decide(identity, place, permission, self.clients_create_groups)
    }

    /// The keys of a tenant (`None`: of all), for an admin of it.
    ///
    /// Where keys are no way in, whoever comes in another way, or without a word, could make one
    /// for the day when they are; and on the same database another replica may take them.
    pub fn keys_for<'a>(&self, store: &'a Store, issuer: Issuer, tenant: Option<&'a str>) -> Result<Keys<'a>, Denied> {
        match self.api_keys {
            Some(_) => Ok(Keys::of_tenant(store, issuer, tenant)),
            None => Err(Denied::KeysAreNoWayIn),
        }
    }

    /// Who is asking, where that needs no waiting: nobody is asked, or they were recognised a short
    /// while ago.
    pub fn recall(&self, presented: Presented<'_>) -> Option<Arc<Identity>> {
        if let Some(anonymous) = &self.anonymous {
            return Some(anonymous.clone());
        }
        match Credentials::of(presented.authorization?)? {
            Credentials::Key(secret) => self.api_keys.as_ref()?.recall(secret),
            Credentials::NamedKey(pair) => {
                let (name, secret) = pair.split_once(':')?;
                let known = self.api_keys.as_ref()?.recall(secret)?;
                api_keys::is_name_of(name, &known).then_some(known)
            }
            Credentials::Token(token) => self.oidc.as_ref()?.recall(token),
            Credentials::Password(encoded) => self.users.as_ref()?.recall(encoded),
        }
    }

    /// What the issuer of tokens publishes of itself: `None` where there is no issuer.
    pub async fn issuer_configuration(&self) -> Option<Result<Arc<str>, AuthError>> {
        const AWAY: AuthError = AuthError::Unavailable("the configuration of the tokens' issuer cannot be had");
        Some(self.oidc.as_ref()?.issuer_configuration().await.ok_or(AWAY))
    }

    /// What the page needs to have somebody signed in by the issuer of tokens.
    pub async fn sign_in_offer(&self) -> Result<Offer<'_>, SignInError> {
        self.oidc.as_ref().ok_or(SignInError::NotOffered)?.offer().await
    }

    /// What that issuer gives for what somebody who asks from there has brought back.
    pub async fn exchange(&self, proof: &Proof, peer: Option<IpAddr>) -> Result<Tokens, SignInError> {
        self.oidc.as_ref().ok_or(SignInError::NotOffered)?.exchange(proof, peer).await
    }

    /// Who is asking.
    pub async fn recognise(&self, presented: Presented<'_>) -> Result<Arc<Identity>, AuthError> {
        if let Some(known) = self.recall(presented) {
            return Ok(known);
        }
        let Some(authorization) = presented.authorization else {
            return match (presented.certificate, &self.subjects) {
                (Some(certificate), Some(subjects)) => {
                    // The connection may be older than a revocation.
                    if self.client_trust.as_ref().is_some_and(|trust| !certificate.is_good(trust)) {
                        return Err(AuthError::Invalid("the client certificate is not good any more"));
                    }
                    subjects.recognise(certificate)
                }
                _ => Err(AuthError::Missing),
            };
        };
        const OF_ANOTHER_NAME: AuthError =
            AuthError::Invalid("the user's name is not that of the API key which is the password");
        const NOT_ON: AuthError = AuthError::Invalid("these are credentials of a kind that is not accepted here");
        match Credentials::of(authorization) {
            None if is_of_windows(authorization) => Err(AuthError::Invalid(
                "a Windows account is no way in here: use Basic with the name of an API key as the user and the key \
                 as the password, or the client credentials of the issuer",
            )),
            None => Err(AuthError::Invalid("the header Authorization is neither 'Bearer' nor 'Basic' with a value")),
            Some(Credentials::Key(secret)) => match &self.api_keys {
                Some(keys) => keys.recognise(secret).await,
                None => Err(NOT_ON),
            },
            Some(Credentials::NamedKey(pair)) => match (&self.api_keys, pair.split_once(':')) {
                (Some(keys), Some((name, secret))) => {
                    let known = keys.recognise(secret).await?;
                    if api_keys::is_name_of(name, &known) { Ok(known) } else { Err(OF_ANOTHER_NAME) }
                }
                _ => Err(NOT_ON),
            },
            Some(Credentials::Token(token)) => match &self.oidc {
                Some(oidc) => oidc.recognise(token).await,
                None => Err(NOT_ON),
            },
            Some(Credentials::Password(encoded)) => match &self.users {
                Some(users) => users.recognise(encoded, presented.peer).await,
                None => Err(NOT_ON),
            },
        }
    }

    /// Counts a request of theirs. Those that nobody asked for a name are told apart by where they
    /// come from.
    pub fn count_request(&self, identity: &Identity, peer: Option<IpAddr>) -> Result<(), AuthError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        rates
            .take(&self.counted_as(identity, peer), Instant::now())
            .map_err(|_| AuthError::TooMany("this identity has sent as many requests as it may in a second"))
    }

    /// Counts a change that they ask for, in that tenant.
    pub fn count_write(
        &self,
        write: Write,
        identity: &Identity,
        peer: Option<IpAddr>,
        tenant: Option<&str>,
    ) -> Result<(), TooManyWrites> {
        self.writes.count(write, &self.counted_as(identity, peer), tenant, Instant::now())
    }

    fn counted_as<'a>(&self, identity: &'a Identity, peer: Option<IpAddr>) -> Cow<'a, str> {
        match (&self.anonymous, peer) {
            (Some(_), Some(peer)) => network(peer).to_string().into(),
            _ => Cow::Borrowed(&identity.name),
        }
    }

    /// Follows changes of keys, files and the issuer's key set for ever.
    pub async fn keep_up(&self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(users) = &self.users {
                users.reread_if_changed();
            }
            if let Some(subjects) = &self.subjects {
                subjects.reread_if_changed();
            }
            // An issuer or a database that takes its time must not hold up the other.
            let keys = async {
                if let Some(keys) = &self.api_keys {
                    keys.keep_up().await;
                }
            };
            let oidc = async {
                if let Some(oidc) = &self.oidc {
                    oidc.keep_up().await;
                }
            };
            tokio::join!(keys, oidc);
        }
    }
}

/// What a header `Authorization` holds.
enum Credentials<'a> {
    /// An API key.
    Key(&'a str),
    /// A name, a colon, and an API key as the password of that name: all that some clients can
    /// send.
    NamedKey(String),
    /// Another bearer token.
    Token(&'a str),
    /// Name and password in base64.
    Password(&'a str),
}

impl<'a> Credentials<'a> {
    fn of(header: &'a [u8]) -> Option<Credentials<'a>> {
        let (scheme, value) = std::str::from_utf8(header).ok()?.trim().split_once(' ')?;
        let value = value.trim_start();
        if value.is_empty() {
            return None;
        }
        match scheme {
            _ if scheme.eq_ignore_ascii_case("bearer") && value.starts_with(api_keys::PREFIX) => {
                Some(Credentials::Key(value))
            }
            _ if scheme.eq_ignore_ascii_case("bearer") => Some(Credentials::Token(value)),
            _ if scheme.eq_ignore_ascii_case("basic") => Some(match named_key(value) {
                Some(pair) => Credentials::NamedKey(pair),
                None => Credentials::Password(value),
            }),
            _ => None,
        }
    }
}

/// The name and the API key that were sent as name and password.
fn named_key(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let is_key = pair.split_once(':').is_some_and(|(_, password)| password.starts_with(api_keys::PREFIX));
    is_key.then_some(pair)
}

/// Whether somebody would sign in with an account of Windows.
fn is_of_windows(header: &[u8]) -> bool {
    let scheme = header.split(|byte| *byte == b' ').next().unwrap_or_default();
    [&b"negotiate"[..], b"ntlm", b"kerberos"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The calendar's time, in seconds since 1970: tokens and certificates are issued for times of the
/// calendar.
pub fn unix_now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap_or(i64::MAX)
}
