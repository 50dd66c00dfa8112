//! Requests to a service, and its errors in its own words.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client_failover_wire::ids::{GroupId, NamespacePath, TenantId};
use client_failover_wire::{ErrorBody, Secret, headers};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::outgoing;
use super::shown::printable;
use super::{ClientError, Refusal};

/// The longest answer that is read whole. A page of groups with many sessions has some megabytes.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// How much of an answer that is not the service's is shown.
const SHOWN_CHARS: usize = 200;

/// Why there is no answer where none came in time.
pub const TOO_LONG: &str = "it takes too long";

/// Who asks.
#[derive(Clone)]
pub enum Credential {
    /// An API key, or a token of an issuer.
    Token(Secret),
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl Credential {
    /// The value of the header `Authorization`.
    pub fn header(&self) -> Result<HeaderValue, ClientError> {
        let text = match self {
            Credential::Token(token) => format!("Bearer {}", token.reveal()),
            Credential::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Credential)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn kind(&self) -> &'static str {
        match self {
            Credential::Token(_) => "a bearer token was sent",
            Credential::Basic { .. } => "a name and a password were sent",
        }
    }
}

/// A service, as this caller reaches it. A clone shares its connections.
#[derive(Clone)]
pub struct Service {
    base: Url,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    /// What was sent, for those who are refused.
    sent: &'static str,
    timeout: Duration,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub enum Scope<'a> {
    /// All tenants.
    Everything,
    /// A tenant, with all of its namespaces.
    Tenant(&'a TenantId),
    /// A namespace.
    Namespace(&'a NamespacePath),
}

impl<'a> Scope<'a> {
    /// The segments of its path, and those below it.
    pub fn path(self, below: &[&'a str]) -> Vec<&'a str> {
        let mut path = match self {
            Scope::Everything => vec!["api", "v1", "clientfailover"],
            Scope::Tenant(tenant) => vec!["api", "v1", "tenants", tenant.as_str(), "clientfailover"],
            Scope::Namespace(NamespacePath { tenant, namespace }) => {
                vec!["api", "v1", "tenants", tenant.as_str(), "namespaces", namespace.as_str(), "clientfailover"]
            }
        };
        path.extend(below);
        path
    }

    /// The segments of the path of a group in it, and those below it.
    pub fn group(self, group: &'a GroupId, below: &[&'a str]) -> Vec<&'a str> {
        [&self.path(&["groups", group.as_str()]), below].concat()
    }
}

impl Service {
    /// A service at that address.
    pub fn new(
        base: Url,
        http: reqwest::Client,
        credential: Option<&Credential>,
        timeout: Duration,
    ) -> Result<Service, ClientError> {
        let authorization = credential.map(Credential::header).transpose()?;
        let sent = credential.map_or("no credentials were given", Credential::kind);
        Ok(Service { base, http, authorization, sent, timeout })
    }

    /// A service over plain HTTP, past every proxy: one in between would answer for it when it is
    /// gone. It needs no certificates.
    pub fn plain(url: &str, timeout: Duration) -> Result<Service, ClientError> {
        let is_plain = |url: &Url| url.scheme() == "http" && url.host_str().is_some();
        let base = Url::parse(url).ok().filter(is_plain);
        let base = base.ok_or_else(|| ClientError::NotPlainHttp(printable(url)))?;
        let http = outgoing::plain_client(|http| http.connect_timeout(timeout));
        let http = http.map_err(|error| ClientError::Http(error.to_string()))?;
        Service::new(base, http, None, timeout)
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// Its address, to be shown.
    pub fn name(&self) -> String {
        printable(self.base.as_str().trim_end_matches('/'))
    }

    /// The longest silence that is waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The address of a path, to be shown.
    pub fn address(&self, path: &[&str]) -> String {
        self.url_of(path, &[]).to_string()
    }

    /// Asks whether it lives.
    pub async fn is_alive(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["health", "live"], &[])).await.map(drop)
    }

    /// Asks whether it is ready for requests.
    pub async fn is_ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["health", "ready"], &[])).await.map(drop)
    }

    /// What is at a path, as a type.
    pub async fn read<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, ClientError> {
        let raw = self.read_raw(path, query).await?;
        parse(raw.get())
    }

    /// What is at a path, as it comes.
    pub async fn read_raw(&self, path: &[&str], query: &[(&str, String)]) -> Result<Box<RawValue>, ClientError> {
        let response = self.open(path, query, None).await?;
        let text = self.read_text(response).await?;
        serde_json::from_str(&text).map_err(|_| unintelligible(&text))
    }

    /// As [`Service::read_raw`]; `None` where there is no such thing.
    pub async fn find_raw(&self, path: &[&str]) -> Result<Option<Box<RawValue>>, ClientError> {
        match self.read_raw(path, &[]).await {
            Ok(raw) => Ok(Some(raw)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The answer at a path, with its body still to come.
    pub async fn open(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_event_id: Option<i64>,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(Method::GET, path, query);
        if let Some(id) = last_event_id {
            request = request.header(headers::LAST_EVENT_ID, id);
        }
        self.send(request).await
    }

    /// The next part of a body; `None` at its end.
    pub async fn chunk(&self, response: &mut Response, silence: Duration) -> Result<Option<bytes::Bytes>, ClientError> {
        match timeout(silence, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Puts something at a path.
    pub async fn put(&self, path: &[&str], body: String) -> Result<(), ClientError> {
        let request = self.request(Method::PUT, path, &[]).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request).await.map(drop)
    }

    /// Posts something to a path, with headers of ours; the headers and the body of the answer.
    pub async fn post(
        &self,
        path: &[&str],
        said: &[(&str, i64)],
        body: String,
    ) -> Result<(HeaderMap, String), ClientError> {
        let mut request = self.request(Method::POST, path, &[]).header(CONTENT_TYPE, "application/json").body(body);
        for (name, value) in said {
            request = request.header(*name, *value);
        }
        let mut response = self.send(request).await?;
        let told = std::mem::take(response.headers_mut());
        Ok((told, self.read_text(response).await?))
    }

    /// As [`Service::post`]; the body of the answer as a type.
    pub async fn post_for<T: DeserializeOwned>(&self, path: &[&str], body: String) -> Result<T, ClientError> {
        let (_, text) = self.post(path, &[], body).await?;
        // Not shown where it is not understood: it may hold a secret.
        serde_json::from_str(&text).map_err(|_| ClientError::Unintelligible("its body is another".to_owned()))
    }

    /// Asks for a change, with a body if it has one; the answer as it comes.
    pub async fn change_raw(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<String>,
    ) -> Result<Box<RawValue>, ClientError> {
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let text = self.read_text(self.send(request).await?).await?;
        serde_json::from_str(&text).map_err(|_| unintelligible(&text))
    }

    /// Deletes what is at a path.
    pub async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, path, query)).await.map(drop)
    }

    /// What comes of an exchange as a whole, if it comes within the time that each part of it may
    /// take.
    pub(crate) async fn within<T>(
        &self,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(self.silent()))
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let request = self.http.request(method, self.url_of(path, query));
        match &self.authorization {
            None => request,
            Some(value) => request.header(AUTHORIZATION, value.clone()),
        }
    }

    fn url_of(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // The service may be below a path of a proxy.
            segments.pop_if_empty().extend(path);
        }
        let mut text = String::new();
        for (name, value) in query {
            let separator = if text.is_empty() { "" } else { "&" };
            // Writing to a String cannot fail. The service takes a '+' for what it is.
            let _ = write!(text, "{separator}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        url.set_query(Some(text.as_str()).filter(|text| !text.is_empty()));
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = match timeout(self.timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.silent()),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).cloned();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let text = self.read_text(response).await.unwrap_or_default();
        let text = match serde_json::from_str::<ErrorBody<'_>>(&text) {
            Ok(body) => self.refusal(&body, challenge.as_ref()),
            // A proxy in between, or another server altogether.
            Err(_) => format!("{} answered {status}: {}", self.name(), shortened(&text)),
        };
        Err(ClientError::Refused(Box::new(Refusal { status, retry_after, text })))
    }

    /// The error as the service says it: what, exactly what, what to do, and by which id its log
    /// has it.
    fn refusal(&self, body: &ErrorBody<'_>, challenge: Option<&HeaderValue>) -> String {
        let mut text = printable(&body.error);
        for (name, part) in [("Reason", &body.reason), ("Resolution", &body.resolution)] {
            text += &format!("\n{name}: {}", printable(part));
        }
        if let Some(challenge) = challenge {
            let accepted = printable(&String::from_utf8_lossy(challenge.as_bytes()));
            text += &format!("\nAccepted: {accepted} ({})", self.sent);
        }
        text + &format!("\nOperationId: {}", printable(&body.operation_id))
    }

    async fn read_text(&self, mut response: Response) -> Result<String, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, self.timeout).await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(ClientError::Unintelligible("it is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| ClientError::Unintelligible("it is not in UTF-8".to_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.name(), cause: cause_of(error, &self.base) }
    }

    pub(crate) fn silent(&self) -> ClientError {
        ClientError::Unreachable { server: self.name(), cause: TOO_LONG.to_owned() }
    }
}

/// Why there is no answer from that URL, to be shown.
pub fn cause_of(error: &reqwest::Error, url: &Url) -> String {
    // The outer words are "error sending request for url (…)"; what went wrong is said innermost.
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let cause = if error.is_timeout() { TOO_LONG.to_owned() } else { printable(&innermost.to_string()) };
    let is_secure = url.scheme() == "https";
    let hint = match cause.as_str() {
        cause if is_secure && cause.contains("InvalidContentType") => {
            " (what answers there does not speak TLS: the URL may have to begin with http://)"
        }
        // What TLS says to a plain request is no HTTP, or nothing at all.
        _ if !is_secure && is_no_http(error) => {
            " (what answers there does not speak plain HTTP: the URL may have to begin with https://)"
        }
        _ => "",
    };
    cause + hint
}

/// Whether somebody was reached who then said something that is not HTTP, or went away without a
/// word.
fn is_no_http(error: &reqwest::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        if ["invalid HTTP version", "connection closed before message", "Connection reset"]
            .iter()
            .any(|text| said.contains(text))
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Reads a part of an answer.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, ClientError> {
    serde_json::from_str(json).map_err(|_| unintelligible(json))
}

fn unintelligible(text: &str) -> ClientError {
    ClientError::Unintelligible(shortened(text))
}

/// The beginning of what somebody answered, to be shown.
pub fn shortened(text: &str) -> String {
    let shown: String = text.trim().chars().take(SHOWN_CHARS).collect();
    printable(&shown)
}
