//! Requests to a service, and its errors in its own words.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::output::printable;
use super::{OperatorError, Refusal};
use crate::ids::{GroupId, NamespacePath};
use client_failover_wire::Secret;

/// The longest answer that is read whole. A page of groups with many sessions has some megabytes.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// How much of an answer that is not the service's is shown.
const SHOWN_CHARS: usize = 200;

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
    fn header(&self) -> Result<HeaderValue, OperatorError> {
        let text = match self {
            Credential::Token(token) => format!("Bearer {}", token.reveal()),
            Credential::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| OperatorError::usage("the token holds characters that cannot be sent"))?;
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

/// A service, as this caller reaches it.
pub struct Service {
    base: Url,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    /// What was sent, for those who are refused.
    sent: &'static str,
    patience: Duration,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub enum Scope<'a> {
    /// All tenants.
    Everything,
    /// A namespace.
    Namespace(&'a NamespacePath),
}

impl<'a> Scope<'a> {
    /// The segments of its path, and those below it.
    pub fn path(self, below: &[&'a str]) -> Vec<&'a str> {
        let mut path = match self {
            Scope::Everything => vec!["api", "v1", "clientfailover"],
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

/// The name of a group that was given as an argument.
pub fn group_id(text: &str) -> Result<GroupId, OperatorError> {
    GroupId::parse(text)
        .map_err(|error| OperatorError::usage(format!("the group '{}' is not valid: {error}", printable(text))))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    operation_id: Option<String>,
    error: String,
    reason: Option<String>,
    resolution: Option<String>,
}

impl Service {
    /// A service at that address.
    pub fn new(
        base: Url,
        http: reqwest::Client,
        credential: Option<&Credential>,
        patience: Duration,
    ) -> Result<Service, OperatorError> {
        let authorization = credential.map(Credential::header).transpose()?;
        let sent = credential.map_or("no credentials were given", Credential::kind);
        Ok(Service { base, http, authorization, sent, patience })
    }

    /// Its address, to be shown.
    pub fn name(&self) -> String {
        printable(self.base.as_str().trim_end_matches('/'))
    }

    /// The longest silence that is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks whether it lives.
    pub async fn is_alive(&self) -> Result<(), OperatorError> {
        self.send(self.request(Method::GET, &["health", "live"], &[])).await.map(drop)
    }

    /// What is at a path, as a type.
    pub async fn read<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, OperatorError> {
        let raw = self.read_raw(path, query).await?;
        parse(raw.get())
    }

    /// What is at a path, as it comes.
    pub async fn read_raw(&self, path: &[&str], query: &[(&str, String)]) -> Result<Box<RawValue>, OperatorError> {
        let response = self.open(path, query, None).await?;
        let text = self.read_text(response).await?;
        serde_json::from_str(&text).map_err(|_| unintelligible(&text))
    }

    /// As [`Service::read_raw`]; `None` where there is no such thing.
    pub async fn find_raw(&self, path: &[&str]) -> Result<Option<Box<RawValue>>, OperatorError> {
        match self.read_raw(path, &[]).await {
            Ok(raw) => Ok(Some(raw)),
            Err(OperatorError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The answer at a path, with its body still to come.
    pub async fn open(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_event_id: Option<i64>,
    ) -> Result<Response, OperatorError> {
        let mut request = self.request(Method::GET, path, query);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        self.send(request).await
    }

    /// The next part of a body; `None` at its end.
    pub async fn chunk(
        &self,
        response: &mut Response,
        patience: Duration,
    ) -> Result<Option<bytes::Bytes>, OperatorError> {
        match timeout(patience, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Puts something at a path.
    pub async fn put(&self, path: &[&str], body: String) -> Result<(), OperatorError> {
        let request = self.request(Method::PUT, path, &[]).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request).await.map(drop)
    }

    /// Posts something to a path; what is answered.
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: String) -> Result<T, OperatorError> {
        let request = self.request(Method::POST, path, &[]).header(CONTENT_TYPE, "application/json").body(body);
        let text = self.read_text(self.send(request).await?).await?;
        // Not shown where it is not understood: it may hold a secret.
        serde_json::from_str(&text).map_err(|_| OperatorError::Unintelligible("its body is another".to_owned()))
    }

    /// Deletes what is at a path.
    pub async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), OperatorError> {
        self.send(self.request(Method::DELETE, path, query)).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
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
        let request = self.http.request(method, url);
        match &self.authorization {
            None => request,
            Some(value) => request.header(AUTHORIZATION, value.clone()),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, OperatorError> {
        let response = match timeout(self.patience, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.silent()),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).cloned();
        let text = self.read_text(response).await.unwrap_or_default();
        let text = match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => self.refusal(&body, challenge.as_ref()),
            // A proxy in between, or another server altogether.
            Err(_) => format!("{} answered {status}: {}", self.name(), shortened(&text)),
        };
        Err(OperatorError::Refused(Box::new(Refusal { status, text })))
    }

    /// The error as the service says it: what, exactly what, what to do, and by which id its log has it.
    fn refusal(&self, body: &ErrorBody, challenge: Option<&HeaderValue>) -> String {
        let mut text = printable(&body.error);
        for (name, part) in [("Reason", &body.reason), ("Resolution", &body.resolution)] {
            if let Some(part) = part {
                text += &format!("\n{name}: {}", printable(part));
            }
        }
        if let Some(challenge) = challenge {
            let accepted = printable(&String::from_utf8_lossy(challenge.as_bytes()));
            text += &format!("\nAccepted: {accepted} ({})", self.sent);
        }
        if let Some(id) = &body.operation_id {
            text += &format!("\nOperationId: {}", printable(id));
        }
        text
    }

    async fn read_text(&self, mut response: Response) -> Result<String, OperatorError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, self.patience).await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(OperatorError::Unintelligible("it is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| OperatorError::Unintelligible("it is not in UTF-8".to_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> OperatorError {
        // The outer words are "error sending request for url (…)"; what went wrong is said innermost.
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let cause = match error.is_timeout() {
            true => "it takes too long".to_owned(),
            false => printable(&innermost.to_string()),
        };
        let is_secure = self.base.scheme() == "https";
        let hint = match cause.as_str() {
            cause if cause.contains("UnknownIssuer") => " (--ca-file names an authority of your own)",
            cause if is_secure && cause.contains("InvalidContentType") => {
                " (what answers there does not speak TLS: the URL may have to begin with http://)"
            }
            // What TLS says to a plain request is no HTTP, or nothing at all.
            _ if !is_secure && is_no_http(error) => {
                " (what answers there does not speak plain HTTP: the URL may have to begin with https://)"
            }
            _ => "",
        };
        OperatorError::Unreachable { server: self.name(), cause: cause + hint }
    }

    fn silent(&self) -> OperatorError {
        OperatorError::Unreachable { server: self.name(), cause: "it takes too long".to_owned() }
    }
}

/// Whether somebody was reached who then said something that is not HTTP, or went away without a word.
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
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, OperatorError> {
    serde_json::from_str(json).map_err(|_| unintelligible(json))
}

fn unintelligible(text: &str) -> OperatorError {
    OperatorError::Unintelligible(shortened(text))
}

fn shortened(text: &str) -> String {
    let shown: String = text.trim().chars().take(SHOWN_CHARS).collect();
    printable(&shown)
}
