//! Whom to tell what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

/// Kinds of what can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    /// Primary is granted, taken or given up.
    Primary,
    /// Any role changes.
    Roles,
    /// A group's risk begins or ends.
    Risks,
    /// Groups and sessions are created, changed, deleted.
    Configuration,
    /// An operator's wish is set or ends.
    Wishes,
    /// The database has a new history.
    History,
}

/// Where messages go. Its path may be all that the receiver asks of whoever sends, so only its host
/// is shown.
#[derive(Clone)]
pub struct Receiver(Url);

impl Receiver {
    /// An `http://` or `https://` URL with a host.
    pub fn parse(text: &str) -> Option<Receiver> {
        let url = Url::parse(text).ok()?;
        (["http", "https"].contains(&url.scheme()) && url.has_host()).then_some(Receiver(url))
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether what is told can be read on the way.
    pub fn is_in_the_clear(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.0.scheme() == "http" && !local
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The settings of the webhook.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where messages go.
    pub receiver: Receiver,
    /// The file with what they are signed with.
    pub secret_file: PathBuf,
    /// What is told.
    pub events: Vec<WebhookEvent>,
    /// How old a message gets that the receiver does not take, before it is given up.
    pub give_up_after: Duration,
    /// For how long no other replica sends once one does; more than twice the time that the
    /// receiver may take.
    pub hold_for: Duration,
    /// How often it is looked for risks. One is told that is seen twice in a row.
    pub risk_interval: Duration,
}

impl WebhookOptions {
    /// Unless said otherwise, for how long a replica sends that may be gone.
    pub const HOLD_FOR: Duration = Duration::from_secs(15);
    /// Unless said otherwise, how often it is looked for risks.
    pub const RISK_INTERVAL: Duration = Duration::from_secs(10);

    pub(super) fn wants(&self, event: WebhookEvent) -> bool {
        self.events.contains(&event)
    }
}
