//! Where the database is: one host or several, written as libpq's URLs have it.
//!
//! sqlx knows one host. Here a URL becomes one set of options for each host, made anew for every
//! connection: what may change under a service that runs (`.pgpass`, certificates) counts from the
//! next connection on.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::fault;

/// How long one host is waited for before the next is tried beside it. One that is there answers
/// sooner, and one that went dark never does.
const STAGGER: Duration = Duration::from_millis(250);

/// What a URL says that is passed on to sqlx as it is.
const PASSED_ON: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Why a URL cannot be used. Shows no part of it but names of parameters and hosts: the rest may be
/// a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// It begins with something else.
    #[error("it does not begin with postgres://")]
    Scheme,
    /// A parameter that this service does not know.
    #[error("the parameter '{0}' is not known")]
    UnknownParameter(String),
    /// A parameter with a value that it cannot have.
    #[error("the parameter '{parameter}' {wrong}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// What is wrong with it.
        wrong: String,
    },
    /// A port that is none.
    #[error("invalid port number of host {0}")]
    Port(String),
    /// What sqlx says of it.
    #[error("{0}")]
    Other(String),
}

/// What a server must be for a connection to it to be used. Nothing is decided or shown from a
/// physical standby in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The primary server, also while it takes no writes: what is stored can still be read.
    Primary,
    /// One that takes writes.
    ReadWrite,
}

/// The hosts that a database may be found at, in the order in which they are tried.
#[derive(Clone)]
pub struct Hosts {
    hosts: Arc<[Host]>,
    target: Target,
    connect_timeout: Option<Duration>,
    /// The place of the host that was connected to last.
    current: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Host {
    /// The URL of one host, for sqlx.
    Url {
        url: String,
        name: String,
    },
    Options(Box<PgConnectOptions>),
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts.iter().map(Host::name)).finish()
    }
}

impl From<PgConnectOptions> for Hosts {
    fn from(options: PgConnectOptions) -> Hosts {
        Hosts::of(vec![Host::Options(Box::new(options))], Target::Primary, None)
    }
}

impl Hosts {
    /// Reads a URL such as `postgres://user@a,b:5433/database?target_session_attrs=read-write`.
    pub fn parse(url: &str) -> Result<Hosts, HostsError> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let mut given = Given::read(rest.ok_or(HostsError::Scheme)?)?;
        let target = match given.take("target_session_attrs").as_deref() {
            None if given.places()?.len() > 1 => Target::ReadWrite,
            None | Some("any" | "primary") => Target::Primary,
            Some("read-write") => Target::ReadWrite,
            Some(_) => {
                let wrong = "must be read-write, primary or any: the service writes".to_owned();
                return Err(HostsError::Parameter { parameter: "target_session_attrs", wrong });
            }
        };
        let connect_timeout = match given.take("connect_timeout") {
            None => None,
            Some(seconds) => match seconds.parse::<u32>() {
                // As in libpq: 0 is no limit, and 1 would be too short for a resolver.
                Ok(0) => None,
                Ok(seconds) => Some(Duration::from_secs(seconds.max(2).into())),
                Err(_) => {
                    let wrong = "must be a number of seconds".to_owned();
                    return Err(HostsError::Parameter { parameter: "connect_timeout", wrong });
                }
            },
        };
        let hosts = given.places()?.iter().map(|place| given.of_host(place)).collect::<Result<Vec<_>, _>>()?;
        Ok(Hosts::of(hosts, target, connect_timeout))
    }

    fn of(hosts: Vec<Host>, target: Target, connect_timeout: Option<Duration>) -> Hosts {
        Hosts { hosts: hosts.into(), target, connect_timeout, current: Arc::default() }
    }

    /// Whether these are the same hosts in the same order.
    pub fn are_at_the_place_of(&self, other: &Hosts) -> bool {
        self.hosts.iter().map(Host::name).eq(other.hosts.iter().map(Host::name))
    }

    /// Whether they are from the same URL.
    pub fn are_those_of(&self, other: &Hosts) -> bool {
        Arc::ptr_eq(&self.hosts, &other.hosts)
    }

    /// The hosts of the network that are not proven to be who they are, each with its `sslmode`. On
    /// this machine nobody stands between.
    pub fn unverified(&self) -> Vec<(String, &'static str)> {
        let unverified = |host: &Host| {
            let options = host.options().ok()?;
            let sslmode = match options.get_ssl_mode() {
                PgSslMode::VerifyCa | PgSslMode::VerifyFull => return None,
                PgSslMode::Disable => "disable",
                PgSslMode::Allow => "allow",
                PgSslMode::Prefer => "prefer",
                PgSslMode::Require => "require",
            };
            let name = options.get_host();
            let is_here = options.get_socket().is_some()
                || name.starts_with('/')
                || name == "localhost"
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
            (!is_here).then(|| (host.name(), sslmode))
        };
        self.hosts.iter().filter_map(unverified).collect()
    }

    /// What a server must be.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether there is another host to go to.
    pub fn are_several(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Opens something at the first host at which it can be opened, beginning with the one that was
    /// last good. One that does not answer soon is waited for beside the next.
    pub async fn first<T, F>(&self, open: impl Fn(PgConnectOptions) -> F) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let count = self.hosts.len();
        let current = self.current.load(Ordering::Relaxed);
        let mut order = (0..count).map(|i| (current + i) % count);
        let mut under_way = FuturesUnordered::new();
        let mut failures: Vec<(usize, sqlx::Error)> = Vec::new();
        let mut is_left = true;
        loop {
            match order.next() {
                Some(place) => under_way.push(self.at(place, &open)),
                None => is_left = false,
            }
            let next = if is_left {
                tokio::time::timeout(STAGGER, under_way.next()).await.ok().flatten()
            } else {
                under_way.next().await
            };
            match next {
                Some((place, Ok(opened))) => {
                    if self.current.swap(place, Ordering::Relaxed) != place {
                        tracing::info!(host = self.hosts[place].name(), "the database is at another host");
                    }
                    return Ok(opened);
                }
                Some((place, Err(error))) => failures.push((place, error)),
                None if is_left => {}
                None => return Err(self.summary(failures)),
            }
        }
    }

    async fn at<T, F>(&self, place: usize, open: &impl Fn(PgConnectOptions) -> F) -> (usize, Result<T, sqlx::Error>)
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let opened = async { open(self.hosts[place].options()?).await };
        let opened = match self.connect_timeout {
            None => opened.await,
            Some(limit) => tokio::time::timeout(limit, opened).await.unwrap_or_else(|_| {
                Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")))
            }),
        };
        (place, opened)
    }

    /// One error for all: that a server leads in another history says what is to be done, and what
    /// one says of itself says more than that another one is not there.
    fn summary(&self, mut failures: Vec<(usize, sqlx::Error)>) -> sqlx::Error {
        let stranger = failures.iter().position(|(_, error)| fault::is_of_another_history(error));
        let told = || failures.iter().position(|(_, error)| matches!(error, sqlx::Error::Database(_)));
        let Some(told) = stranger.or_else(told) else {
            if failures.len() == 1
                && let Some((_, error)) = failures.pop()
            {
                return error;
            }
            let each = failures.iter().map(|(place, error)| format!("{}: {error}", self.hosts[*place].name()));
            return sqlx::Error::Protocol(each.collect::<Vec<_>>().join("; "));
        };
        failures.swap_remove(told).1
    }
}

impl Host {
    fn name(&self) -> String {
        match self {
            Host::Url { name, .. } => name.clone(),
            Host::Options(options) => match options.get_socket() {
                Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
        }
    }

    /// Reads the password file again, where the URL has no password.
    fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        match self {
            Host::Url { url, .. } => url.parse(),
            Host::Options(options) => Ok((**options).clone()),
        }
    }
}

/// A host and a port, where they are given.
struct HostAndPort {
    host: Option<String>,
    port: Option<u16>,
}

/// What a URL says, taken apart.
struct Given {
    hosts: Vec<String>,
    ports: Vec<String>,
    /// Everything else, by name.
    parameters: Vec<(String, String)>,
}

impl Given {
    fn read(rest: &str) -> Result<Given, HostsError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let mut given = Given { hosts: Vec::new(), ports: Vec::new(), parameters: Vec::new() };
        for (name, text) in [("user", user), ("password", password), ("dbname", database)] {
            if !text.is_empty() {
                given.set(name, decode(name, text)?);
            }
        }
        if !hosts.is_empty() {
            for host in hosts.split(',') {
                let (host, port) = split_port(host)?;
                given.hosts.push(decode("host", host)?);
                given.ports.push(port.to_owned());
            }
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode("name", name)?;
            let value = decode("value", value)?;
            match name.as_str() {
                "host" | "hostaddr" => given.hosts = value.split(',').map(str::to_owned).collect(),
                "port" => given.ports = value.split(',').map(str::to_owned).collect(),
                "options" => given.parameters.push((name, value)),
                "target_session_attrs" | "connect_timeout" => given.set(&name, value),
                known if PASSED_ON.contains(&known) || (known.starts_with("options[") && known.ends_with(']')) => {
                    given.set(known, value);
                }
                _ => return Err(HostsError::UnknownParameter(name)),
            }
        }
        Ok(given)
    }

    fn set(&mut self, name: &str, value: String) {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value));
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// One port is for all hosts; several are one for each.
    fn places(&self) -> Result<Vec<HostAndPort>, HostsError> {
        let count = self.hosts.len().max(1);
        if self.ports.len() > 1 && self.ports.len() != count {
            let wrong = format!("names {} ports for {count} hosts", self.ports.len());
            return Err(HostsError::Parameter { parameter: "port", wrong });
        }
        let place = |i: usize| {
            let host = self.hosts.get(i).filter(|host| !host.is_empty()).cloned();
            let port = self.ports.get(i).or_else(|| self.ports.first().filter(|_| self.ports.len() == 1));
            let port = match port.map(String::as_str) {
                None | Some("") => None,
                Some(port) => match port.parse() {
                    Ok(0) | Err(_) => return Err(HostsError::Port(host.unwrap_or_default())),
                    Ok(port) => Some(port),
                },
            };
            Ok(HostAndPort { host, port })
        };
        (0..count).map(place).collect()
    }

    fn of_host(&self, place: &HostAndPort) -> Result<Host, HostsError> {
        let mut pairs: Vec<(&str, String)> =
            self.parameters.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        pairs.extend(place.host.iter().map(|host| ("host", host.clone())));
        pairs.extend(place.port.iter().map(|port| ("port", port.to_string())));
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let url = format!("postgres:///?{}", pairs.collect::<Vec<_>>().join("&"));
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            // The text around it says only that it is about configuration.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            HostsError::Other(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let name = match options.get_socket().map(|socket| Path::display(socket)) {
            Some(socket) => format!("{socket}:{}", options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Ok(Host::Url { url, name })
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn split_port(text: &str) -> Result<(&str, &str), HostsError> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or_else(|| HostsError::Port(text.to_owned()))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if rest.is_empty() => Ok((host, "")),
            None => Err(HostsError::Port(host.to_owned())),
        };
    }
    Ok(text.split_once(':').unwrap_or((text, "")))
}

fn decode(what: &str, text: &str) -> Result<String, HostsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| HostsError::Other(format!("its {what} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Vec<String> {
        Hosts::parse(url).expect("it is one").hosts.iter().map(Host::name).collect()
    }

    fn wrong(url: &str) -> String {
        Hosts::parse(url).expect_err("it is none").to_string()
    }

    #[test]
    fn several_hosts_are_read_as_libpq_reads_them() {
        assert_eq!(names("postgres://u:p@a,b:5433,[::1]:5434/db"), ["a:5432", "b:5433", "::1:5434"]);
        assert_eq!(names("postgresql:///db?host=a,b&port=5433"), ["a:5433", "b:5433"]);
        assert_eq!(names("postgres:///db?host=a,b&port=5433,5434"), ["a:5433", "b:5434"]);
        assert_eq!(names("postgres://%2Frun%2Fpg:5433/db"), ["/run/pg:5433"]);
        assert_eq!(names("postgres:///db?host=/run/pg,b"), ["/run/pg:5432", "b:5432"]);
        assert_eq!(names("postgres://a,b/db?target_session_attrs=read-write"), ["a:5432", "b:5432"]);
    }

    #[test]
    fn what_a_url_says_reaches_every_host() {
        let url = "postgres://us%40er:p%3Aw@a,b/d%20b?sslmode=verify-full&application_name=x&options=-c%20a%3Db&connect_timeout=1";
        let hosts = Hosts::parse(url).expect("it is one");
        assert_eq!(hosts.connect_timeout, Some(Duration::from_secs(2)));
        for host in hosts.hosts.iter() {
            let options = host.options().expect("sqlx reads it");
            assert_eq!(options.get_username(), "us@er");
            assert_eq!(options.get_database(), Some("d b"));
            assert_eq!(options.get_application_name(), Some("x"));
            assert_eq!(options.get_options(), Some("-c a=b"));
            assert!(format!("{options:?}").contains("p:w"));
        }
        assert!(!format!("{hosts:?}").contains("p:w"));
    }

    #[test]
    fn a_host_elsewhere_without_verification_is_named() {
        let unverified = |url: &str| Hosts::parse(url).expect("it is one").unverified();
        let named = |host: &str, sslmode| vec![(host.to_owned(), sslmode)];
        assert_eq!(unverified("postgres://u@db.example/d?sslmode=prefer"), named("db.example:5432", "prefer"));
        assert_eq!(unverified("postgres://u@db.example/d?sslmode=require"), named("db.example:5432", "require"));
        assert_eq!(unverified("postgres://u@127.0.0.1,10.0.0.1/d?sslmode=disable"), named("10.0.0.1:5432", "disable"));
        for good in [
            "postgres://u@db.example/d?sslmode=verify-full",
            "postgres://u@db.example/d?sslmode=verify-ca",
            "postgres://u@localhost/d?sslmode=disable",
            "postgres://u@[::1]/d",
            "postgres:///d?host=/run/postgresql",
        ] {
            assert_eq!(unverified(good), [], "{good}");
        }
    }

    #[test]
    fn what_is_not_known_is_named_and_shows_no_password() {
        assert_eq!(wrong("postgres://u:secret@a/db?sslmod=require"), "the parameter 'sslmod' is not known");
        assert_eq!(
            wrong("postgres://u:secret@a/db?channel_binding=require"),
            "the parameter 'channel_binding' is not known"
        );
        assert_eq!(wrong("postgres://u:secret@a:x/db"), "invalid port number of host a");
        assert_eq!(wrong("postgres://a,b,c/db?port=1,2"), "the parameter 'port' names 2 ports for 3 hosts");
        assert!(wrong("postgres://a,b/db?target_session_attrs=standby").contains("the service writes"));
        assert!(wrong("postgres://a/db?sslmode=perhaps").contains("perhaps"));
    }

    #[tokio::test]
    async fn a_host_that_does_not_answer_is_waited_for_beside_the_next() {
        let hosts = Hosts::parse("postgres://dark,standby,good/db").expect("it is one");
        let opened = async |hosts: &Hosts| {
            let open = |options: PgConnectOptions| async move {
                match options.get_host() {
                    "dark" => std::future::pending().await,
                    "good" => Ok("good"),
                    _ => Err(sqlx::Error::Protocol("the server is a physical standby".to_owned())),
                }
            };
            let began = std::time::Instant::now();
            assert_eq!(hosts.first(open).await.expect("one is good"), "good");
            began.elapsed()
        };
        assert!(opened(&hosts).await >= STAGGER);
        // It is the first one now.
        assert!(opened(&hosts).await < STAGGER);
    }
}
