//! Why a request did not do what it was to do.

use std::time::Duration;

use reqwest::StatusCode;

/// Why a request did not do what it was to do. What it says can be shown: nothing in it drives a
/// terminal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service answered with an error, or something in between did.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// There was no answer.
    #[error("{server} does not answer: {cause}")]
    Unreachable {
        /// Which service.
        server: String,
        /// Why, as far as it is known.
        cause: String,
    },
    /// The answer is not one that the service gives.
    #[error("this is not an answer of client-failover: {0}")]
    Unintelligible(String),
    /// A credential that no header can hold.
    #[error("the token holds characters that cannot be sent")]
    Credential,
    /// A client for plain HTTP was to be made for something else.
    #[error("'{0}' is not the address of a service, such as http://127.0.0.1:8080 (https is not supported here)")]
    NotPlainHttp(String),
    /// The HTTP client cannot be set up.
    #[error("no HTTP client: {0}")]
    Http(String),
}

/// An error in the service's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// After how long the service wants to be asked again, where it says so.
    pub retry_after: Option<Duration>,
    /// What is wrong, why exactly, what to do, and by which id the service's log has it: on several
    /// lines.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl ClientError {
    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Refused(refusal) => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }

    /// Whether the service says that there is no such thing. For a heartbeat: stop acting, then
    /// register again.
    pub fn is_not_found(&self) -> bool {
        self.has_status(StatusCode::NOT_FOUND)
    }

    /// Whether something else is there already.
    pub fn is_conflict(&self) -> bool {
        self.has_status(StatusCode::CONFLICT)
    }

    /// After how long the service wants to be asked again, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    fn has_status(&self, status: StatusCode) -> bool {
        matches!(self, ClientError::Refused(refusal) if refusal.status == status)
    }
}
