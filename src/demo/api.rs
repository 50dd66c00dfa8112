//! The service's HTTP interface, as far as the demo uses it.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::DemoError;
use crate::outgoing;

/// What a session is allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Stands by.
    Secondary,
    /// Acts.
    Primary,
    /// Was chosen to take over and waits until the Primary has stopped.
    PendingPrimary,
}

impl Role {
    fn from_number(number: i64) -> Option<Role> {
        match number {
            0 => Some(Role::Secondary),
            1 => Some(Role::Primary),
            2 => Some(Role::PendingPrimary),
            _ => None,
        }
    }

    fn number(self) -> &'static str {
        match self {
            Role::Secondary => "0",
            Role::Primary => "1",
            Role::PendingPrimary => "2",
        }
    }

    /// Its name in the service's documentation.
    pub fn name(self) -> &'static str {
        match self {
            Role::Secondary => "Secondary",
            Role::Primary => "Primary",
            Role::PendingPrimary => "PendingPrimary",
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session's role from now on.
    pub role: Role,
    /// The group's term.
    pub term: Option<i64>,
    /// How long after sending the heartbeat the role may be acted on, where the service says so.
    pub lease: Option<Duration>,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// How healthy the adapter is, in per cent.
    pub health_percent: u8,
    /// The role that it acts in as it sends.
    pub acting_as: Role,
    /// The highest term that it was told.
    pub term_seen: Option<i64>,
    /// When it sends.
    pub sent_at: DateTime<Utc>,
    /// The time of the last data that it sent as Primary.
    pub data_sent_at: Option<DateTime<Utc>>,
}

/// Why a request did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No such group or session.
    #[error("the service does not know it")]
    NotFound,
    /// The service cannot answer now and asks to come back.
    #[error("the service is not available now: {reason}")]
    Unavailable {
        /// In its words.
        reason: String,
    },
    /// The service refused.
    #[error("the service answered {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// In its words.
        reason: String,
    },
    /// The answer is not one that the service gives.
    #[error("this is not an answer of client-failover: {0}")]
    Unintelligible(String),
    /// No answer.
    #[error("no answer: {}", innermost(.0))]
    NoAnswer(#[source] reqwest::Error),
}

impl ApiError {
    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, ApiError::Unavailable { .. } | ApiError::NoAnswer(_))
    }
}

// The outer words are "error sending request for url (…)"; what went wrong is said innermost.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The group of the demo, as its clients reach it.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    server: String,
    group_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HeartbeatBody {
    role: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    reason: Option<String>,
    error: Option<String>,
}

impl Api {
    /// A client for one group of a service; no request waits longer than `patience`.
    pub fn new(server: &str, tenant: &str, namespace: &str, group: &str, patience: Duration) -> Result<Api, DemoError> {
        let url = reqwest::Url::parse(server).map_err(|_| DemoError::NoUrl(server.to_owned()))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(DemoError::NoUrl(server.to_owned()));
        }
        let server = server.trim_end_matches('/').to_owned();
        let group_url =
            format!("{server}/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups/{group}");
        // A heartbeat goes straight to its service: a proxy in between would answer for it when it is gone.
        let http = outgoing::plain_client(|http| http.timeout(patience)).map_err(DemoError::HttpClient)?;
        Ok(Api { http, server, group_url })
    }

    /// Where the group can be looked at.
    pub fn group_url(&self) -> &str {
        &self.group_url
    }

    /// Asks whether the service is ready for requests.
    pub async fn ready(&self) -> Result<(), ApiError> {
        let url = format!("{}/health/ready", self.server);
        send(self.http.get(url)).await.map(drop)
    }

    /// Creates the group.
    pub async fn put_group(&self, timeout: Duration) -> Result<(), ApiError> {
        let seconds = timeout.as_secs();
        let timeout = format!(
            "{:02}:{:02}:{:02}.{:07}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            timeout.subsec_nanos() / 100
        );
        let body = json!({ "Name": "client-failover demo", "FailoverTimeout": timeout });
        send(self.http.put(&self.group_url).json(&body)).await.map(drop)
    }

    /// Deletes the group with its sessions.
    pub async fn delete_group(&self) -> Result<(), ApiError> {
        let url = format!("{}?force=true", self.group_url);
        send(self.http.delete(url)).await.map(drop)
    }

    /// Registers a session.
    pub async fn register(&self, session: &str) -> Result<(), ApiError> {
        let url = format!("{}/clientsessions", self.group_url);
        let body = json!({ "Id": session, "Name": format!("Demo adapter {session}") });
        send(self.http.post(url).json(&body)).await.map(drop)
    }

    /// Deletes a session.
    pub async fn delete_session(&self, session: &str) -> Result<(), ApiError> {
        send(self.session(Method::DELETE, session)).await.map(drop)
    }

    /// Sends a heartbeat.
    pub async fn heartbeat(&self, session: &str, heartbeat: &Heartbeat) -> Result<Answer, ApiError> {
        let mut body = json!({
            "PercentHealthyStreams": heartbeat.health_percent,
            "HeartbeatTime": wire_time(heartbeat.sent_at),
        });
        if let Some(data_sent_at) = heartbeat.data_sent_at {
            body["LastDataSendTime"] = wire_time(data_sent_at).into();
        }
        let mut request =
            self.session(Method::POST, session).header("Failover-Role", heartbeat.acting_as.number()).json(&body);
        if let Some(term) = heartbeat.term_seen {
            request = request.header("Failover-Term", term);
        }
        let response = send(request).await?;
        let term = number_in(response.headers(), "Failover-Term");
        let lease_ms = number_in(response.headers(), "Failover-Lease-Ms");
        let text = response.text().await.map_err(ApiError::NoAnswer)?;
        let role = serde_json::from_str::<HeartbeatBody>(&text)
            .ok()
            .and_then(|body| Role::from_number(body.role))
            .ok_or(ApiError::Unintelligible(text))?;
        let lease = lease_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        Ok(Answer { role, term, lease })
    }

    fn session(&self, method: Method, session: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/clientsessions/{session}", self.group_url))
    }
}

fn wire_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn number_in(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

async fn send(request: RequestBuilder) -> Result<Response, ApiError> {
    let response = request.send().await.map_err(ApiError::NoAnswer)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let reason =
        serde_json::from_str::<ErrorBody>(&text).ok().and_then(|body| body.reason.or(body.error)).unwrap_or(text);
    Err(match status {
        StatusCode::NOT_FOUND => ApiError::NotFound,
        // When to come back is left aside: a client that must keep a lease comes back when its heartbeat is due.
        StatusCode::SERVICE_UNAVAILABLE => ApiError::Unavailable { reason },
        status => ApiError::Refused { status, reason },
    })
}
