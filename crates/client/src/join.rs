//! What a member joins, and how.

use std::sync::Arc;
use std::time::Duration;

use client_failover_wire::Secret;
use client_failover_wire::ids::{GroupId, InvalidId, NamespaceId, NamespacePath, SessionId, TenantId};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{ClientError, ClientSession, Credential, Service, outgoing};

/// Where a service is without being told.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How long before the end of what the service granted a lease ends for the work: a part of it, for
/// the time between the last look at a lease and the end of what is done on it.
///
/// The service's own lease begins later than the member's, by as much as the heartbeat was under
/// way. The margin is what is certain besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafetyMargin(Option<Duration>);

impl SafetyMargin {
    /// As long as that, and at most a quarter of each lease: a longer one would end it before it is
    /// renewed.
    pub fn of(margin: Duration) -> SafetyMargin {
        SafetyMargin(Some(margin))
    }

    /// None: the work has to end its actions in time by itself.
    pub const NONE: SafetyMargin = SafetyMargin(Some(Duration::ZERO));

    /// What is left of a lease.
    pub(crate) fn shorten(self, lease: Duration) -> Duration {
        let margin = self.0.unwrap_or_else(|| USUAL_MARGIN.max(lease / MOST_DRIFT));
        lease - margin.min(lease / 4)
    }
}

/// More than a pause of a busy machine usually takes.
const USUAL_MARGIN: Duration = Duration::from_millis(50);
/// Two clocks that nobody sets differ by less than this part of a time.
const MOST_DRIFT: u32 = 500;

/// 50 ms, or a five hundredth of a lease where that is longer: clocks do not go at one rate.
impl Default for SafetyMargin {
    fn default() -> SafetyMargin {
        SafetyMargin(None)
    }
}

/// What a member joins, and how. Where nothing else is said, the service is at
/// `http://127.0.0.1:8080`, asks nobody who they are, and has the group.
#[derive(Clone)]
pub struct Join {
    namespace: NamespacePath,
    group: GroupId,
    session: SessionId,
    name: Option<String>,
    urls: Vec<Url>,
    credential: Option<Credential>,
    http: Arc<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>,
    pub(crate) creates: Option<Duration>,
    pub(crate) margin: SafetyMargin,
    pub(crate) health_percent: u8,
    pub(crate) listens: bool,
}

/// Why nothing can be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The group is not named by three names.
    #[error("'{0}' is not a group: it is tenant/namespace/group, with a % in a name written as %25")]
    Group(String),
    /// One of the names is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// An address is none.
    #[error("'{0}' is not the address of a service, such as https://failover.example")]
    Url(String),
    /// No service can be asked, or it refuses in a way that asking again does not mend.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The thread of the heartbeats cannot be started.
    #[error("no thread for the heartbeats: {0}")]
    Thread(#[from] std::io::Error),
}

impl Join {
    /// The session of that id in a group: `tenant/namespace/group`.
    ///
    /// Take a fixed id for each client, such as its host and its name. By that it is found again
    /// after a restart.
    ///
    /// ```
    /// # use client_failover_client::Join;
    /// let join = Join::group("plant/line1/pump", "adapter-1")?.at("https://failover.example")?;
    /// # Ok::<(), client_failover_client::JoinError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The text is not a group, or a name is none.
    pub fn group(path: &str, session: &str) -> Result<Join, JoinError> {
        let decode = |name: &str| percent_decode_str(name).decode_utf8().map(std::borrow::Cow::into_owned);
        let names: Vec<String> = path.split('/').map(decode).collect::<Result<_, _>>().unwrap_or_default();
        let Ok([tenant, namespace, group]) = <[String; 3]>::try_from(names) else {
            return Err(JoinError::Group(super::shown::printable(path)));
        };
        let namespace = NamespacePath { tenant: TenantId::parse(tenant)?, namespace: NamespaceId::parse(namespace)? };
        Ok(Join::new(namespace, GroupId::parse(group)?, SessionId::parse(session)?))
    }

    /// The same of names that are known to be good.
    pub fn new(namespace: NamespacePath, group: GroupId, session: SessionId) -> Join {
        Join {
            namespace,
            group,
            session,
            name: None,
            urls: Vec::new(),
            credential: None,
            http: Arc::new(reqwest::Client::builder),
            creates: None,
            margin: SafetyMargin::default(),
            health_percent: 100,
            listens: true,
        }
    }

    /// The address of a service. Of several, which must be replicas of one service, another is
    /// asked where one does not answer.
    ///
    /// # Errors
    ///
    /// The text is not an address of HTTP.
    pub fn at(mut self, url: &str) -> Result<Join, JoinError> {
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
        let url = Url::parse(url).ok().filter(is_http).ok_or_else(|| JoinError::Url(super::shown::printable(url)))?;
        self.urls.push(url);
        Ok(self)
    }

    /// Asks as whoever has that API key, or that token.
    pub fn with_token(mut self, token: Secret) -> Join {
        self.credential = Some(Credential::Token(token));
        self
    }

    /// Asks as whoever has that credential.
    pub fn with_credential(mut self, credential: Credential) -> Join {
        self.credential = Some(credential);
        self
    }

    /// Asks by HTTP clients that are set up in that way: with certificates, for one. Each member
    /// has its own, so that no other work of the program can hold its heartbeats up.
    pub fn by(mut self, http: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static) -> Join {
        self.http = Arc::new(http);
        self
    }

    /// What people call the session. Without it, that is its id.
    pub fn named(mut self, name: &str) -> Join {
        self.name = Some(name.to_owned());
        self
    }

    /// Creates the group with that failover timeout, where it is not there.
    pub fn creating(mut self, timeout: Duration) -> Join {
        self.creates = Some(timeout);
        self
    }

    /// Another margin before the end of a lease.
    pub fn with_margin(mut self, margin: SafetyMargin) -> Join {
        self.margin = margin;
        self
    }

    /// How healthy it is as it joins, in per cent; 100 if nothing is said.
    pub fn with_health(mut self, percent: u8) -> Join {
        self.health_percent = percent.min(100);
        self
    }

    /// Does not listen to events: one connection less, and a takeover at the next heartbeat instead
    /// of at once.
    pub fn without_events(mut self) -> Join {
        self.listens = false;
        self
    }

    /// What is one session, wherever it is named.
    pub(crate) fn key(&self) -> String {
        format!("{:?}", (&self.namespace, &self.group, &self.session))
    }

    /// What people call the session.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.session.as_str())
    }

    /// The session, by each of the addresses.
    pub(crate) fn sessions(&self) -> Result<Vec<ClientSession>, ClientError> {
        let default = || Url::parse(DEFAULT_URL).expect("it is an address");
        let urls = if self.urls.is_empty() { vec![default()] } else { self.urls.clone() };
        let session = |url: Url| {
            let http = outgoing::client(&url, || (self.http)().connect_timeout(CONNECT));
            let http = http.map_err(|error| ClientError::Http(error.to_string()))?;
            let service = Service::new(url, http, self.credential.as_ref(), LONGEST_ANSWER)?;
            Ok(ClientSession::new(service, self.namespace.clone(), self.group.clone(), self.session.clone()))
        };
        urls.into_iter().map(session).collect()
    }
}

/// How long it may take until somebody can be asked.
const CONNECT: Duration = Duration::from_secs(5);

/// How long any answer is waited for. A heartbeat's is waited for by the group's own measure.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<&str> = self.urls.iter().map(Url::as_str).collect();
        f.debug_struct("Join")
            .field("namespace", &self.namespace)
            .field("group", &self.group)
            .field("session", &self.session)
            .field("urls", &urls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_three_names() {
        let join = Join::group("plant/line%201 100%25/pump", "a").expect("it is one");
        assert_eq!(join.namespace.namespace.as_str(), "line 1 100%");
        for wrong in ["plant/line1", "plant/line1/pump/a", "", "plant/line1/%ff"] {
            assert!(matches!(Join::group(wrong, "a"), Err(JoinError::Group(_))), "{wrong}");
        }
        assert!(matches!(Join::group("plant//pump", "a"), Err(JoinError::Id(_))));
        for wrong in ["failover", "ftp://failover", "http://"] {
            assert!(Join::group("t/n/g", "a").expect("it is one").at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_margin_is_never_more_than_a_quarter_of_a_lease() {
        let ms = Duration::from_millis;
        assert_eq!(SafetyMargin::default().shorten(ms(1_000)), ms(950));
        assert_eq!(SafetyMargin::default().shorten(ms(100)), ms(75));
        assert_eq!(SafetyMargin::default().shorten(ms(600_000)), ms(598_800));
        assert_eq!(SafetyMargin::of(ms(5_000)).shorten(ms(1_000)), ms(750));
        assert_eq!(SafetyMargin::NONE.shorten(ms(60)), ms(60));
    }
}
