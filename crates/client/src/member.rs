//! One client session of a group, from registering to goodbye.

use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_wire::ids::{GroupId, NamespacePath, SessionId};
use client_failover_wire::{Role, datetime, headers};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::{ClientError, Scope, Service};

/// What a heartbeat says.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// How healthy the sender is, in per cent.
    pub health_percent: u8,
    /// The role that it acts in as it sends.
    pub acting_as: Role,
    /// The highest term that it was told.
    pub term_seen: Option<i64>,
    /// When it sends, on its own wall clock.
    pub sent_at: DateTime<Utc>,
    /// The time of the last data that it sent as Primary.
    pub data_sent_at: Option<DateTime<Utc>>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session's role from now on.
    pub role: Role,
    /// The group's term, where the service says so.
    pub term: Option<i64>,
    /// How long after sending the heartbeat the role may be acted on, where the service says so.
    pub lease: Option<Duration>,
}

/// A client session, as its own client reaches the service for it. A clone is the same session.
#[derive(Clone)]
pub struct Member {
    service: Service,
    namespace: NamespacePath,
    group: GroupId,
    session: SessionId,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HeartbeatAnswer {
    role: i64,
}

impl Member {
    /// The session of that id. Nothing is asked yet.
    pub fn new(service: Service, namespace: NamespacePath, group: GroupId, session: SessionId) -> Member {
        Member { service, namespace, group, session }
    }

    /// Registers the session under a name for people. A group must be there; a session that is there already is as good.
    pub async fn register(&self, name: &str) -> Result<(), ClientError> {
        let body = json!({ "Id": self.session.as_str(), "Name": name });
        let path = Scope::Namespace(&self.namespace).group(&self.group, &["clientsessions"]);
        self.service.within(self.service.post(&path, &[], body.to_string())).await.map(drop)
    }

    /// Sends a heartbeat. The whole exchange takes no longer than the service is waited for: after that it is lost, and an answer
    /// that comes all the same is not heard.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Answer, ClientError> {
        let mut body = json!({
            "PercentHealthyStreams": heartbeat.health_percent,
            "HeartbeatTime": datetime::format(Some(heartbeat.sent_at)),
        });
        if let Some(at) = heartbeat.data_sent_at {
            body["LastDataSendTime"] = datetime::format(Some(at)).into();
        }
        let mut said = vec![(headers::FAILOVER_ROLE, heartbeat.acting_as.number())];
        said.extend(heartbeat.term_seen.map(|term| (headers::FAILOVER_TERM, term)));
        let (told, text) = self.service.within(self.service.post(&self.path(), &said, body.to_string())).await?;
        let role = serde_json::from_str::<HeartbeatAnswer>(&text).ok().and_then(|body| Role::from_number(body.role));
        let role = role.ok_or_else(|| ClientError::Unintelligible("it has no role".to_owned()))?;
        let lease = number_in(&told, headers::FAILOVER_LEASE_MS).and_then(|ms| u64::try_from(ms).ok());
        Ok(Answer { role, term: number_in(&told, headers::FAILOVER_TERM), lease: lease.map(Duration::from_millis) })
    }

    /// Deletes the session. Send it only after having stopped: nobody waits for a lease that was given back.
    pub async fn goodbye(&self) -> Result<(), ClientError> {
        self.service.within(self.service.delete(&self.path(), &[])).await
    }

    fn path(&self) -> Vec<&str> {
        Scope::Namespace(&self.namespace).group(&self.group, &["clientsessions", self.session.as_str()])
    }
}

fn number_in(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
