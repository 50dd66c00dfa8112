//! Who is asking, and what they may do. Several ways to say who one is may be on at once; each ends
//! in an [`Identity`], and [`authorize`] is the one rule about it.
//!
//! Never decides about a group or a session, and never logs or shows a credential.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use client_failover_client::outgoing::NoAuthorities;
use serde::Deserialize;
use tokio::time::Instant;

use crate::ids::{EVERY_TENANT, GroupPattern, Groups};
use crate::rates::Rates;
use crate::store::Store;
use crate::tls::ClientTrust;
use api_keys::ApiKeys;
use basic::Users;
use bearer::{Oidc, OidcOptions};
use certificates::{ClientCertificate, Subjects};
use writes::{TooManyWrites, Write, WriteRates, Writes};

pub mod api_keys;
pub mod basic;
pub mod bearer;
mod cache;
pub mod certificates;
pub mod watched_file;
pub mod writes;

/// How often what credentials are checked against is looked at for changes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

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

/// What an identity may do, each including the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read the metrics, which are of all tenants, and nothing else.
    Metrics,
    /// Read.
    Viewer,
    /// Also register sessions, send heartbeats, delete sessions; create groups where a setting lets
    /// it.
    Client,
    /// Also create, change and delete groups, by force too.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Role; 4] = [Role::Metrics, Role::Viewer, Role::Client, Role::Admin];

    /// As it is written in files, tables and tokens.
    pub fn text(self) -> &'static str {
        match self {
            Role::Metrics => "metrics",
            Role::Viewer => "viewer",
            Role::Client => "client",
            Role::Admin => "admin",
        }
    }

    /// The role of that text.
    pub fn from_text(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.text() == text)
    }
}

/// A role in a tenant, or in some of its namespaces, or for some of the groups there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The tenant; `*` for all.
    pub tenant: String,
    /// The namespaces; `None` for all.
    #[serde(default)]
    pub namespaces: Option<Vec<String>>,
    /// Patterns of the groups there; `None` for all.
    #[serde(default)]
    pub groups: Option<Vec<GroupPattern>>,
    /// What may be done there.
    pub role: Role,
}

impl Grant {
    /// Whether it has something to say about a place.
    fn reaches(&self, place: &Place<'_>) -> bool {
        let in_tenant = |tenant: &str| self.tenant == EVERY_TENANT || self.tenant == tenant;
        let in_namespace = |namespace: &str| match &self.namespaces {
            None => true,
            Some(names) => names.iter().any(|name| name == namespace),
        };
        let for_group = |id: &str| self.groups.as_ref().is_none_or(|patterns| patterns.iter().any(|p| p.fits(id)));
        let for_all_groups = self.groups.is_none();
        match place {
            Place::Group { tenant, namespace, group } => {
                in_tenant(tenant) && in_namespace(namespace) && for_group(group)
            }
            Place::GroupsOf { tenant, namespace } => in_tenant(tenant) && in_namespace(namespace),
            Place::Namespace { tenant, namespace } => in_tenant(tenant) && in_namespace(namespace) && for_all_groups,
            Place::Tenant { tenant } => in_tenant(tenant) && self.namespaces.is_none() && for_all_groups,
            Place::Everywhere => self.tenant == EVERY_TENANT && self.namespaces.is_none() && for_all_groups,
        }
    }

    /// What makes it useless, if anything: an empty name can never be meant.
    pub fn fault(&self) -> Option<&'static str> {
        let for_some = self.tenant != EVERY_TENANT || self.namespaces.is_some() || self.groups.is_some();
        match &self.groups {
            _ if self.role == Role::Metrics && for_some => {
                return Some("the metrics are of all tenants: the role metrics takes tenant '*' and nothing narrower");
            }
            Some(patterns) if patterns.is_empty() => return Some("groups is empty: leave it out to mean all"),
            Some(patterns) => {
                if let Some(fault) = patterns.iter().find_map(GroupPattern::fault) {
                    return Some(fault);
                }
            }
            None => {}
        }
        let names = self.namespaces.iter().flatten().chain([&self.tenant]);
        match self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            true => Some("namespaces is empty: leave it out to mean all"),
            false if names.into_iter().any(String::is_empty) => Some("a tenant or namespace is empty"),
            false => None,
        }
    }
}

/// Somebody who was recognised.
#[derive(Debug)]
pub struct Identity {
    /// Who they are, and nobody else is, with the way they were recognised: `basic:adapter-7`,
    /// `key:3:adapter-7`. So they are named in logs, in the audit trail, and where a session is
    /// bound to its registrant.
    pub name: Arc<str>,
    /// What they may do where.
    pub grants: Vec<Grant>,
}

impl Identity {
    /// Everybody, where nobody is asked.
    fn anonymous() -> Identity {
        let tenant = EVERY_TENANT.to_owned();
        let everything = Grant { tenant, namespaces: None, groups: None, role: Role::Admin };
        Identity { name: ANONYMOUS.into(), grants: vec![everything] }
    }
}

/// The name of everybody, where nobody is asked.
pub const ANONYMOUS: &str = "anonymous";

/// Where something is to be done.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// In a group, whether or not there is one.
    Group {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The group.
        group: Cow<'a, str>,
    },
    /// In as many of a namespace's groups as are granted, for whoever then looks at
    /// [`Allowed::groups`].
    GroupsOf {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// In a tenant's namespace, all of its groups included.
    Namespace {
        /// The tenant.
        tenant: Cow<'a, str>,
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// In a tenant, outside of its namespaces, which takes a grant for all of them.
    Tenant {
        /// The tenant.
        tenant: Cow<'a, str>,
    },
    /// Outside of any, which takes a grant for all tenants.
    Everywhere,
}

impl Place<'_> {
    /// The tenant that it is in, if it is in one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Place::Everywhere => None,
            Place::Tenant { tenant }
            | Place::Namespace { tenant, .. }
            | Place::GroupsOf { tenant, .. }
            | Place::Group { tenant, .. } => Some(tenant),
        }
    }

    /// The namespace that it is in, if it is in one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Place::Everywhere | Place::Tenant { .. } => None,
            Place::Namespace { namespace, .. } | Place::GroupsOf { namespace, .. } | Place::Group { namespace, .. } => {
                Some(namespace)
            }
        }
    }

    /// The group that it is, if it is one.
    pub fn group(&self) -> Option<&str> {
        match self {
            Place::Group { group, .. } => Some(group),
            _ => None,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Not by its name: the same words for every group that is refused.
            Place::Group { tenant, namespace, .. } => {
                write!(f, "for this group in namespace '{namespace}' of tenant '{tenant}'")
            }
            Place::GroupsOf { tenant, namespace } | Place::Namespace { tenant, namespace } => {
                write!(f, "in namespace '{namespace}' of tenant '{tenant}'")
            }
            Place::Tenant { tenant } => write!(f, "in tenant '{tenant}' as a whole"),
            Place::Everywhere => f.write_str("outside of a tenant's namespaces"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Look at what is counted.
    ReadMetrics,
    /// Look.
    Read,
    /// Register sessions, send heartbeats, delete sessions.
    UseSessions,
    /// Create a group, or find it there as it is wanted.
    CreateGroups,
    /// Change or delete a group, and whatever is not named above.
    Administer,
}

impl Permission {
    /// The least role that has it.
    fn needs(self, clients_create_groups: bool) -> Role {
        match self {
            Permission::ReadMetrics => Role::Metrics,
            Permission::Read => Role::Viewer,
            Permission::UseSessions => Role::Client,
            Permission::CreateGroups if clients_create_groups => Role::Client,
            Permission::CreateGroups | Permission::Administer => Role::Admin,
        }
    }
}

/// How far somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The role that they have for it.
    pub role: Role,
    /// For which groups, where the place is that of many.
    pub groups: Groups,
}

/// Whether an identity may do something somewhere: how far, or the role that it lacks.
///
/// The outcome depends on the identity, the place and the permission alone, never on what exists
/// there.
pub fn authorize(
    identity: &Identity,
    place: &Place<'_>,
    permission: Permission,
    clients_create_groups: bool,
) -> Result<Allowed, Role> {
    let needed = permission.needs(clients_create_groups);
    let sufficient = || identity.grants.iter().filter(|grant| grant.role >= needed && grant.reaches(place));
    let is_of_many = matches!(place, Place::GroupsOf { .. });
    let whole = sufficient().filter(|grant| !is_of_many || grant.groups.is_none()).map(|grant| grant.role).max();
    if let Some(role) = whole {
        return Ok(Allowed { role, groups: Groups::All });
    }
    let mut patterns = sufficient().flat_map(|grant| grant.groups.iter().flatten()).cloned().peekable();
    match patterns.peek() {
        // Of several roles the one that holds for all of these groups.
        Some(_) => Ok(Allowed { role: needed, groups: Groups::fitting(patterns) }),
        None => Err(needed),
    }
}

/// Whether somebody with that role in a tenant as a whole (`None`: everywhere) may give that to
/// another: nothing beyond the tenant, and no more than they have.
pub fn may_hand_on(role: Role, tenant: Option<&str>, grant: &Grant) -> bool {
    grant.role <= role && tenant.is_none_or(|tenant| grant.tenant == tenant)
}

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

    /// Whether API keys are among the ways to say who one is.
    pub fn takes_api_keys(&self) -> bool {
        self.api_keys.is_some()
    }

    /// Whether the role client may create groups.
    pub fn clients_create_groups(&self) -> bool {
        self.clients_create_groups
    }

    /// Who is asking, where that needs no waiting: nobody is asked, or they were recognised a short
    /// while ago.
    pub fn recall(&self, presented: Presented<'_>) -> Option<Arc<Identity>> {
        if let Some(anonymous) = &self.anonymous {
            return Some(anonymous.clone());
        }
        match Credentials::of(presented.authorization?)? {
            Credentials::Key(secret) => self.api_keys.as_ref()?.recall(secret),
            Credentials::Token(token) => self.oidc.as_ref()?.recall(token),
            Credentials::Password(encoded) => self.users.as_ref()?.recall(encoded),
        }
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
        const NOT_ON: AuthError = AuthError::Invalid("these are credentials of a kind that is not accepted here");
        match Credentials::of(authorization) {
            None => Err(AuthError::Invalid("the header Authorization is neither 'Bearer' nor 'Basic' with a value")),
            Some(Credentials::Key(secret)) => match &self.api_keys {
                Some(keys) => keys.recognise(secret).await,
                None => Err(NOT_ON),
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
            _ if scheme.eq_ignore_ascii_case("basic") => Some(Credentials::Password(value)),
            _ => None,
        }
    }
}

/// The calendar's time, in seconds since 1970: tokens and certificates are issued for times of the
/// calendar.
pub fn unix_now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(tenant: &str, namespaces: Option<&[&str]>, role: Role) -> Grant {
        let namespaces = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Grant { tenant: tenant.to_owned(), namespaces, groups: None, role }
    }

    fn for_groups(pattern: &str, role: Role) -> Grant {
        Grant { groups: Some(vec![GroupPattern::from(pattern.to_owned())]), ..grant("a", Some(&["n"]), role) }
    }

    #[test]
    fn a_permission_takes_a_role_there() {
        let identity = Identity {
            name: "x".into(),
            grants: vec![grant("a", None, Role::Viewer), grant("a", Some(&["n"]), Role::Client)],
        };
        let may = |tenant: &'static str, namespace: &'static str, permission| {
            authorize(
                &identity,
                &Place::Namespace { tenant: Cow::from(tenant), namespace: Cow::from(namespace) },
                permission,
                true,
            )
            .map(|allowed| allowed.role)
        };
        assert_eq!(may("a", "n", Permission::UseSessions), Ok(Role::Client));
        assert_eq!(may("a", "n", Permission::CreateGroups), Ok(Role::Client));
        assert_eq!(may("a", "n", Permission::Administer), Err(Role::Admin));
        assert_eq!(may("a", "m", Permission::Read), Ok(Role::Viewer));
        assert_eq!(may("a", "m", Permission::UseSessions), Err(Role::Client));
        assert_eq!(may("b", "n", Permission::Read), Err(Role::Viewer));
        assert_eq!(authorize(&identity, &Place::Everywhere, Permission::Read, true), Err(Role::Viewer));
        let in_n = Place::Namespace { tenant: "a".into(), namespace: "n".into() };
        assert_eq!(authorize(&identity, &in_n, Permission::CreateGroups, false), Err(Role::Admin));
    }

    #[test]
    fn a_grant_for_some_groups_is_good_for_these_and_for_what_is_told_of_them_alone() {
        let grants = vec![for_groups("line-*", Role::Client), for_groups("pump", Role::Admin)];
        let identity = Identity { name: "x".into(), grants };
        let (tenant, namespace) = (|| Cow::from("a"), || Cow::from("n"));
        let may = |place: Place<'_>, permission| authorize(&identity, &place, permission, true);
        let on = |group: &str, permission| {
            let place = Place::Group { tenant: tenant(), namespace: namespace(), group: group.into() };
            may(place, permission).map(|allowed| allowed.role)
        };
        let groups_of = |namespace| Place::GroupsOf { tenant: tenant(), namespace };
        assert_eq!(on("line-7", Permission::UseSessions), Ok(Role::Client));
        assert_eq!(on("line-7", Permission::Administer), Err(Role::Admin));
        assert_eq!(on("pump", Permission::Administer), Ok(Role::Admin));
        assert_eq!(on("valve", Permission::Read), Err(Role::Viewer));
        let some = may(groups_of(namespace()), Permission::Read).unwrap();
        assert_eq!(some.role, Role::Viewer, "the role that holds for all of them");
        for (group, expected) in [("line-7", true), ("pump", true), ("valve", false)] {
            assert_eq!(some.groups.include(group), expected, "{group}");
        }
        let change = may(groups_of(namespace()), Permission::Administer).unwrap();
        assert!(change.groups.include("pump") && !change.groups.include("line-7"));
        let whole = Place::Namespace { tenant: tenant(), namespace: namespace() };
        for place in [whole, Place::Tenant { tenant: tenant() }, Place::Everywhere] {
            assert_eq!(may(place.clone(), Permission::Read), Err(Role::Viewer), "{place:?}");
        }
        assert_eq!(may(groups_of("m".into()), Permission::Read), Err(Role::Viewer));
    }

    #[test]
    fn a_tenant_as_a_whole_takes_a_grant_for_all_of_it() {
        let may = |grant| {
            let identity = Identity { name: "x".into(), grants: vec![grant] };
            authorize(&identity, &Place::Tenant { tenant: "a".into() }, Permission::Administer, true).is_ok()
        };
        assert!(may(grant("a", None, Role::Admin)));
        assert!(may(grant("*", None, Role::Admin)));
        assert!(!may(grant("a", Some(&["n"]), Role::Admin)));
        assert!(!may(grant("b", None, Role::Admin)));
        assert!(!may(grant("a", None, Role::Client)));
    }

    #[test]
    fn nobody_hands_on_more_than_they_have() {
        let handed = |role, tenant| may_hand_on(Role::Client, Some("a"), &grant(tenant, None, role));
        assert!(handed(Role::Client, "a") && handed(Role::Viewer, "a"));
        assert!(!handed(Role::Admin, "a") && !handed(Role::Client, "b") && !handed(Role::Viewer, "*"));
        assert!(may_hand_on(Role::Admin, None, &grant("*", None, Role::Admin)));
    }

    #[test]
    fn the_role_metrics_reads_what_is_counted_and_nothing_else() {
        let identity = Identity { name: "x".into(), grants: vec![grant("*", None, Role::Metrics)] };
        let may = |place: Place<'_>, permission| authorize(&identity, &place, permission, true).is_ok();
        assert!(may(Place::Everywhere, Permission::ReadMetrics));
        assert!(!may(Place::Everywhere, Permission::Read));
        assert!(!may(Place::Group { tenant: "a".into(), namespace: "n".into(), group: "g".into() }, Permission::Read));
        assert!(grant("a", None, Role::Metrics).fault().is_some(), "they are of all tenants");
    }

    #[test]
    fn only_a_grant_for_all_tenants_and_namespaces_reaches_outside_of_them() {
        let reaches = |grant| {
            let identity = Identity { name: "x".into(), grants: vec![grant] };
            authorize(&identity, &Place::Everywhere, Permission::Read, true).is_ok()
        };
        assert!(reaches(grant("*", None, Role::Viewer)));
        assert!(!reaches(grant("*", Some(&["n"]), Role::Admin)));
        assert!(!reaches(grant("a", None, Role::Admin)));
    }

    #[test]
    fn a_grant_that_can_never_be_meant_is_a_fault() {
        assert_eq!(grant("a", Some(&["n"]), Role::Client).fault(), None);
        for grant in [
            grant("", None, Role::Client),
            grant("a", Some(&[]), Role::Client),
            grant("a", Some(&[""]), Role::Client),
            for_groups("", Role::Client),
        ] {
            assert!(grant.fault().is_some(), "{grant:?}");
        }
    }
}
