//! What an adapter sends, and what comes of it. It has no header of ours: whatever speaks the
//! released form can be asked.

use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_client::shown::printable;
use client_failover_client::{TOO_LONG, cause_of, shortened};
use client_failover_wire::ErrorBody;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;

use super::super::connection::Connection;
use super::super::{NO_ANSWER, OperatorError, code_of};
use super::report::Fault;

/// The most that is read of an answer.
const MAX_BYTES: usize = 1024 * 1024;

/// An adapter with an endpoint.
pub struct Adapter {
    endpoint: Url,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// What it was answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    headers: HeaderMap,
    /// The body.
    pub text: String,
    /// When the request was sent and its answer received, by the clock of this machine.
    exchanged: (DateTime<Utc>, DateTime<Utc>),
}

impl Adapter {
    /// An adapter that says with each request who it is.
    pub fn new(
        endpoint: Url,
        connection: &Connection,
        authorization: Option<HeaderValue>,
    ) -> Result<Adapter, OperatorError> {
        let http = connection.http(&endpoint)?;
        Ok(Adapter { endpoint, http, authorization, timeout: connection.timeout() })
    }

    /// Sends something to what stands below the endpoint. An empty segment at the end makes the
    /// slash that adapters put there.
    pub async fn send(&self, method: Method, below: &[&str], body: Option<Value>) -> Result<Answer, Fault> {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(below);
        }
        let mut request = self.http.request(method, url.clone());
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        exchange(request, &url, self.timeout).await
    }
}

/// Sends a request and reads what it is answered.
pub async fn exchange(request: RequestBuilder, url: &Url, timeout: Duration) -> Result<Answer, Fault> {
    let sent_at = now();
    let exchanged = tokio::time::timeout(timeout, async {
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>((response.status(), std::mem::take(response.headers_mut()), body))
    })
    .await;
    let cause = match exchanged {
        Ok(Ok((status, headers, body))) => {
            let text = String::from_utf8_lossy(&body).into_owned();
            return Ok(Answer { status, headers, text, exchanged: (sent_at, now()) });
        }
        Ok(Err(error)) => cause_of(&error, url),
        Err(_) => TOO_LONG.to_owned(),
    };
    let to_do = if cause.contains("UnknownIssuer") {
        "Let the adapter's machine believe the authority of the service's certificate; here it can be given as --ca-file."
    } else {
        "See whether the service runs, and whether this machine reaches it: its name, its port, the firewalls in between."
    };
    let origin = printable(&url.origin().ascii_serialization());
    Err(Fault { said: format!("{origin} does not answer: {cause}"), to_do: to_do.to_owned(), code: NO_ANSWER })
}

#[expect(clippy::disallowed_methods, reason = "it is the adapter's clock that is compared with the service's")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

impl Answer {
    /// By how much this machine's clock is ahead of the service's, at least; negative where it is
    /// behind. `None` where the service does not say what time it has.
    pub fn ahead(&self) -> Option<chrono::Duration> {
        let date = self.headers.get(DATE)?.to_str().ok()?;
        let date = DateTime::parse_from_rfc2822(date).ok()?.to_utc();
        let (sent_at, received_at) = self.exchanged;
        // The second that it says had begun, and may have been all but over; and it was said at
        // some time between these two.
        let ahead = sent_at - (date + chrono::Duration::seconds(1));
        let behind = date - received_at;
        let zero = chrono::Duration::zero();
        Some(if ahead > zero { ahead } else { -behind.max(zero) })
    }

    /// When the service answered, by its clock.
    pub fn service_time(&self) -> Option<DateTime<Utc>> {
        let date = self.headers.get(DATE)?.to_str().ok()?;
        Some(DateTime::parse_from_rfc2822(date).ok()?.to_utc())
    }

    /// The status, and what the service says with it.
    pub fn told(&self) -> String {
        let words = match serde_json::from_str::<ErrorBody<'_>>(&self.text) {
            Ok(body) => format!("{} {} {}", body.error, body.reason, body.resolution),
            Err(_) => shortened(&self.text),
        };
        if words.is_empty() { self.status.to_string() } else { format!("{}: {words}", self.status) }
    }

    /// Why that is no success to an adapter, and what to do. `what` was sent.
    pub fn fault(&self, what: &str, has_credentials: bool) -> Fault {
        let header = |name| self.headers.get(name).map(|value| String::from_utf8_lossy(HeaderValue::as_bytes(value)));
        let to_do = match self.status {
            StatusCode::UNAUTHORIZED if self.wants_windows() => {
                "It takes Windows authentication alone, which this command does not have: let it take Basic authentication as well."
            }
            StatusCode::UNAUTHORIZED if has_credentials => {
                "It does not know these credentials: compare UserName and Password, or ClientId and ClientSecret, with what it was told. An API key goes as the password, and its name as the user's; it may be revoked or past its end."
            }
            StatusCode::UNAUTHORIZED => {
                "Give the adapter's credentials: --user with --password-file (an API key's name, and the key), or --client-id with --client-secret-file."
            }
            StatusCode::FORBIDDEN => {
                "Grant the role client for the tenant, the namespace and the group that the adapter uses."
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                "See whether the endpoint is that of a service for adapters: …/api/v1/clientfailover, or …/api/v1/Tenants/TENANT/Namespaces/NAMESPACE/ClientFailover/."
            }
            status if status.is_redirection() => "Give the address where it leads to as the endpoint.",
            status if code_of(status) == NO_ANSWER => "Try again in a little while.",
            _ => "See the log of the service.",
        };
        let mut said = format!("{what} was answered {}", self.told());
        if let Some(place) = header(LOCATION).filter(|_| self.status.is_redirection()) {
            said += &format!(" (to {place})");
        }
        Fault { said, to_do: to_do.to_owned(), code: code_of(self.status) }
    }

    fn wants_windows(&self) -> bool {
        let offered = self.headers.get_all(WWW_AUTHENTICATE).iter().map(|value| value.to_str().unwrap_or_default());
        let offered: Vec<String> =
            offered.flat_map(|value| value.split(',')).map(|scheme| scheme.trim().to_lowercase()).collect();
        let is_windows = |scheme: &String| scheme.starts_with("negotiate") || scheme.starts_with("ntlm");
        !offered.is_empty() && offered.iter().all(is_windows)
    }
}
