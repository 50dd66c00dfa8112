//! Which service is asked, where in it, and as whom: flags come before the environment, and that
//! before the profile.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use client_failover_client::{Credential, Join, Scope, Service, outgoing};
use client_failover_wire::Secret;
use client_failover_wire::ids::{NamespaceId, NamespacePath, TenantId};
use reqwest::Url;

use super::OperatorError;
use super::output::{complain, printable};
use super::profile::{self, Profile};

/// Where a service is without being told.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// How to reach a service.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// The service to ask [default: http://127.0.0.1:8080]
    #[arg(long, alias = "url", env = "CLIENT_FAILOVER_SERVER", value_name = "URL")]
    server: Option<String>,
    /// A profile that has what is not given otherwise [default: the one named default, if there is
    /// one]
    #[arg(long, env = "CLIENT_FAILOVER_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// The file of the profiles [default: client-failover/client.toml in ~/.config]
    #[arg(long, env = "CLIENT_FAILOVER_PROFILES", value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// A file with an API key or another bearer token
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// The name for Basic authentication, with a password from --password-file or
    /// CLIENT_FAILOVER_PASSWORD
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// The authority of the service's certificate (PEM), in place of those that the system believes
    #[arg(long, env = "CLIENT_FAILOVER_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate to show to the service (PEM)
    #[arg(long, env = "CLIENT_FAILOVER_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "CLIENT_FAILOVER_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// How long to wait for the service
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Where in a service.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct PlaceArgs {
    /// The tenant
    #[arg(long, env = "CLIENT_FAILOVER_TENANT", value_name = "TENANT")]
    tenant: Option<String>,
    /// The namespace
    #[arg(long, env = "CLIENT_FAILOVER_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// What a command is about that goes without a namespace.
#[derive(Clone, Debug)]
pub enum Where {
    /// All tenants.
    Everything,
    /// A tenant, with all of its namespaces.
    Tenant(TenantId),
    /// A namespace.
    Namespace(NamespacePath),
}

impl Where {
    /// The same, as requests have it.
    pub fn scope(&self) -> Scope<'_> {
        match self {
            Where::Everything => Scope::Everything,
            Where::Tenant(tenant) => Scope::Tenant(tenant),
            Where::Namespace(namespace) => Scope::Namespace(namespace),
        }
    }
}

/// How a service is reached, from everywhere that it may be said.
pub struct Connection {
    profile: Profile,
    server: String,
    timeout: Duration,
    credential: Option<Credential>,
}

fn given(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

fn given_file(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

impl ConnectionArgs {
    /// Whether an argument says which service is meant.
    pub fn names_a_service(&self) -> bool {
        given(self.server.as_ref()).or(given(self.profile.as_ref())).is_some()
    }
}

/// Leaves a command that also goes without a service the flags that name one, and not their
/// variables, which are set for other commands.
pub fn by_flag_alone(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "server" | "profile" => argument.env(None::<&str>),
        _ => argument,
    }
}

impl Connection {
    /// Puts together what is said in flags, environment and profile.
    pub fn settle(args: &ConnectionArgs) -> Result<Connection, OperatorError> {
        let file = given_file(args.profiles.as_ref()).map(PathBuf::as_path);
        let profile = profile::find(file, given(args.profile.as_ref()).map(String::as_str))?;
        Connection::with_profile(args, profile)
    }

    /// The same without the profile that counts where none is named: it is of another service, and
    /// of somebody else.
    pub fn settle_for_others(args: &ConnectionArgs) -> Result<Connection, OperatorError> {
        match given(args.profile.as_ref()) {
            Some(_) => Connection::settle(args),
            None => Connection::with_profile(args, Profile::default()),
        }
    }

    fn with_profile(args: &ConnectionArgs, mut profile: Profile) -> Result<Connection, OperatorError> {
        let server = given(args.server.as_ref()).or(profile.server.as_ref());
        let server = server.map_or(DEFAULT_SERVER, String::as_str).to_owned();
        for (from_args, place) in [
            (&args.ca_file, &mut profile.ca_file),
            (&args.client_cert, &mut profile.client_cert),
            (&args.client_key, &mut profile.client_key),
        ] {
            if let Some(path) = given_file(from_args.as_ref()) {
                *place = Some(path.clone());
            }
        }
        let credential = credential(args, &profile)?;
        Ok(Connection { profile, server, timeout: args.timeout, credential })
    }

    /// The same without saying who asks.
    pub fn without_credentials(self) -> Connection {
        Connection { credential: None, ..self }
    }

    /// The namespace that a command is about, which it needs.
    pub fn namespace(&self, place: &PlaceArgs) -> Result<NamespacePath, OperatorError> {
        let tenant = given(place.tenant.as_ref()).or(self.profile.tenant.as_ref());
        let namespace = given(place.namespace.as_ref()).or(self.profile.namespace.as_ref());
        match place_of(tenant, namespace)? {
            Where::Namespace(namespace) => Ok(namespace),
            Where::Tenant(_) => Err(OperatorError::usage("a tenant without a namespace: give --namespace too")),
            Where::Everything => Err(OperatorError::usage(
                "which namespace? Give --tenant and --namespace, their variables, or a profile with them",
            )),
        }
    }

    /// What a command is about that goes without a namespace, and without a tenant. The profile's
    /// namespace is one of its tenant: where another place names a tenant, that counts alone.
    pub fn find_place(&self, place: &PlaceArgs) -> Result<Where, OperatorError> {
        let (tenant, namespace) = (given(place.tenant.as_ref()), given(place.namespace.as_ref()));
        let of_profile = self.profile.namespace.as_ref().filter(|_| tenant.is_none());
        place_of(tenant.or(self.profile.tenant.as_ref()), namespace.or(of_profile))
    }

    /// The tenant that a command is about; `None` for all.
    pub fn find_tenant(&self, tenant: Option<&String>) -> Result<Option<TenantId>, OperatorError> {
        match place_of(given(tenant).or(self.profile.tenant.as_ref()), None)? {
            Where::Tenant(tenant) => Ok(Some(tenant)),
            Where::Everything | Where::Namespace(_) => Ok(None),
        }
    }

    /// The service, ready to be asked.
    pub fn service(&self) -> Result<Service, OperatorError> {
        // What stands before an @ may be a password.
        let shown = self.server.rsplit('@').next().unwrap_or_default();
        let fault = || OperatorError::usage(format!("'{}' is not the URL of a service", printable(shown)));
        let url = Url::parse(&self.server).map_err(|_| fault())?;
        if url.host_str().is_none() || !matches!(url.scheme(), "http" | "https") {
            return Err(fault());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OperatorError::usage("the URL of the service holds credentials: give them in a file"));
        }
        if self.credential.is_some() {
            warn_of_open_credentials(&url);
        }
        Ok(Service::new(url.clone(), self.http(&url)?, self.credential.as_ref(), self.timeout)?)
    }

    /// The address of the service, as it was given.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Who asks.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// The longest silence that is waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What asks that URL over HTTP, with the certificates that were named.
    pub fn http(&self, url: &Url) -> Result<reqwest::Client, OperatorError> {
        outgoing::client(url, self.http_setup(url)?)
            .map_err(|error| OperatorError::usage(format!("{error}; or give the service's authority as --ca-file")))
    }

    /// A member that reaches the service in this way, as this caller.
    pub fn join(&self, join: Join) -> Result<Join, OperatorError> {
        let service = self.service()?;
        let join = join.at(service.url().as_str()).map_err(|error| OperatorError::usage(error.to_string()))?;
        let join = join.by(self.http_setup(service.url())?);
        Ok(match &self.credential {
            Some(credential) => join.with_credential(credential.clone()),
            None => join,
        })
    }

    fn http_setup(&self, url: &Url) -> Result<impl Fn() -> reqwest::ClientBuilder + use<>, OperatorError> {
        let is_loopback = is_loopback(url);
        let roots = match &self.profile.ca_file {
            None => None,
            Some(path) => {
                let roots = reqwest::Certificate::from_pem_bundle(&read(path)?).unwrap_or_default();
                if roots.is_empty() {
                    let path = path.display();
                    return Err(OperatorError::usage(format!("the file {path} holds no certificate in PEM")));
                }
                Some(roots)
            }
        };
        let identity = match (&self.profile.client_cert, &self.profile.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
                let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
                    let (certificate, key) = (certificate.display(), key.display());
                    OperatorError::usage(format!("{certificate} and {key} are not a certificate and its key in PEM"))
                })?;
                Some(identity)
            }
            _ => return Err(OperatorError::usage("--client-cert and --client-key go together")),
        };
        let timeout = self.timeout;
        Ok(move || {
            let mut http = reqwest::Client::builder()
                .connect_timeout(timeout)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("client-failover/", env!("CARGO_PKG_VERSION")));
            if is_loopback {
                http = http.no_proxy();
            }
            if let Some(roots) = &roots {
                http = http.tls_certs_only(roots.clone());
            }
            if let Some(identity) = &identity {
                http = http.identity(identity.clone());
            }
            http
        })
    }
}

/// What these name.
fn place_of(tenant: Option<&String>, namespace: Option<&String>) -> Result<Where, OperatorError> {
    let wrong = |what: &str, name: &str, error| {
        OperatorError::usage(format!("the {what} '{}' is not valid: {error}", printable(name)))
    };
    let tenant = match tenant {
        Some(tenant) => TenantId::parse(tenant.as_str()).map_err(|error| wrong("tenant", tenant, error))?,
        None if namespace.is_some() => {
            return Err(OperatorError::usage("a namespace without its tenant: give --tenant too"));
        }
        None => return Ok(Where::Everything),
    };
    let Some(namespace) = namespace else { return Ok(Where::Tenant(tenant)) };
    let id = NamespaceId::parse(namespace.as_str()).map_err(|error| wrong("namespace", namespace, error))?;
    Ok(Where::Namespace(NamespacePath { tenant, namespace: id }))
}

fn is_loopback(url: &Url) -> bool {
    let is_ip = |host: &str| host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.host_str().is_some_and(|host| host == "localhost" || is_ip(host))
}

/// Says so where credentials go to that URL and others can read them on the way.
pub fn warn_of_open_credentials(url: &Url) {
    if url.scheme() == "http" && !is_loopback(url) {
        let host = printable(url.host_str().unwrap_or_default());
        complain(&format!("warning: the credentials go to {host} without encryption: use https"));
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OperatorError> {
    fs::read(path).map_err(|error| OperatorError::usage(format!("the file {} cannot be read: {error}", path.display())))
}

/// The first of flags, environment and profile that says who asks. Not each part from another
/// place: a name would go with a password that is not its own.
fn credential(args: &ConnectionArgs, profile: &Profile) -> Result<Option<Credential>, OperatorError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let text = |name: &str, value: OsString| {
        value.into_string().map_err(|_| OperatorError::usage(format!("{name} is not a text in UTF-8")))
    };
    let secret = |name: &str| set(name).map(|value| text(name, value).map(Secret::from)).transpose();
    let password_variable = || -> Result<Option<Secret>, OperatorError> {
        match (secret("CLIENT_FAILOVER_PASSWORD")?, set("CLIENT_FAILOVER_PASSWORD_FILE")) {
            (Some(password), _) => Ok(Some(password)),
            (None, Some(file)) => profile::read_secret(Path::new(&file)).map(Some),
            (None, None) => Ok(None),
        }
    };
    let basic = |user: &str, password: Option<Secret>| match password {
        Some(password) => Ok(Some(Credential::Basic { user: user.to_owned(), password })),
        None => Err(OperatorError::usage(format!(
            "no password for '{}': give --password-file, or CLIENT_FAILOVER_PASSWORD in the environment",
            printable(user)
        ))),
    };
    if let Some(file) = given_file(args.token_file.as_ref()) {
        return Ok(Some(Credential::Token(profile::read_secret(file)?)));
    }
    if let Some(user) = given(args.user.as_ref()) {
        let password = match given_file(args.password_file.as_ref()) {
            Some(file) => Some(profile::read_secret(file)?),
            None => password_variable()?,
        };
        return basic(user, password);
    }
    if let Some(token) = secret("CLIENT_FAILOVER_TOKEN")? {
        return Ok(Some(Credential::Token(token)));
    }
    if let Some(file) = set("CLIENT_FAILOVER_TOKEN_FILE") {
        return Ok(Some(Credential::Token(profile::read_secret(Path::new(&file))?)));
    }
    if let Some(user) = set("CLIENT_FAILOVER_USER") {
        return basic(&text("CLIENT_FAILOVER_USER", user)?, password_variable()?);
    }
    if let Some(token) = &profile.token {
        return Ok(Some(Credential::Token(token.clone())));
    }
    if let Some(file) = &profile.token_file {
        return Ok(Some(Credential::Token(profile::read_secret(file)?)));
    }
    if let Some(user) = &profile.user {
        let password = match (&profile.password, &profile.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => Some(profile::read_secret(file)?),
            (None, None) => None,
        };
        return basic(user, password);
    }
    Ok(None)
}
