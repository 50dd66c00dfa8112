//! The requests of one client session of a group, from registering to goodbye.

use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_wire::ids::{GroupId, NamespacePath, SessionId};
use client_failover_wire::{Role, datetime, headers};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::{ClientError, EventStream, Scope, Service};

/// What a heartbeat says.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// How healthy the sender is, in per cent.
    pub health_percent: u8,
    /// The role that it acts in as it sends; `None` says nothing: neither that it acts, nor that it
    /// has stopped.
    pub acting_as: Option<Role>,
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
    /// The group's failover timeout, where the service says so.
    pub timeout: Option<Duration>,
    /// Up to when a Primary has said that data was sent; `None` where none has.
    pub data_sent_until: Option<DateTime<Utc>>,
}

/// A client session, as its own client reaches the service for it. A clone is the same session.
#[derive(Clone)]
pub struct ClientSession {
    service: Service,
    namespace: NamespacePath,
    group: GroupId,
    session: SessionId,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HeartbeatAnswer {
    role: i64,
    last_data_send_time: Option<String>,
}

impl ClientSession {
    /// The session of that id. Nothing is asked yet.
    pub fn new(service: Service, namespace: NamespacePath, group: GroupId, session: SessionId) -> ClientSession {
        ClientSession { service, namespace, group, session }
    }

    /// Creates the group with that failover timeout, unless it is there: then it stays as it is.
    pub async fn create_group(&self, timeout: Duration) -> Result<(), ClientError> {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "Id": self.group.as_str(), "Milliseconds": millis });
        let path = Scope::Namespace(&self.namespace).path(&["groups"]);
        match self.service.within(self.service.post(&path, &[], body.to_string())).await {
            // Somebody else was faster, with whatever timeout they wanted.
            Err(error) if error.is_conflict() => Ok(()),
            done => done.map(drop),
        }
    }

    /// The stream of events of its group, from now on or after one of them.
    pub async fn events(&self, after: Option<i64>) -> Result<EventStream, ClientError> {
        let path = Scope::Namespace(&self.namespace).group(&self.group, &["events"]);
        EventStream::open(&self.service, &path, after).await
    }

    /// Its service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.session
    }

    /// Registers the session under a name for people. A group must be there; a session that is
    /// there already is as good.
    pub async fn register(&self, name: &str) -> Result<(), ClientError> {
        let body = json!({ "Id": self.session.as_str(), "Name": name });
        let path = Scope::Namespace(&self.namespace).group(&self.group, &["clientsessions"]);
        self.service.within(self.service.post(&path, &[], body.to_string())).await.map(drop)
    }

    /// Sends a heartbeat. The whole exchange takes no longer than the service is waited for: after
    /// that it is lost, and an answer that comes all the same is not heard.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Answer, ClientError> {
        let mut body = json!({
            "PercentHealthyStreams": heartbeat.health_percent,
            "HeartbeatTime": datetime::format(Some(heartbeat.sent_at)),
        });
        if let Some(at) = heartbeat.data_sent_at {
            body["LastDataSendTime"] = datetime::format(Some(at)).into();
        }
        let mut said: Vec<(&str, i64)> = Vec::with_capacity(2);
        said.extend(heartbeat.acting_as.map(|role| (headers::FAILOVER_ROLE, role.number())));
        said.extend(heartbeat.term_seen.map(|term| (headers::FAILOVER_TERM, term)));
        let (told, text) = self.service.within(self.service.post(&self.path(), &said, body.to_string())).await?;
        let no_role = || ClientError::Unintelligible("it has no role".to_owned());
        let body: HeartbeatAnswer = serde_json::from_str(&text).map_err(|_| no_role())?;
        let role = Role::from_number(body.role).ok_or_else(no_role)?;
        let data_sent_until = match body.last_data_send_time.as_deref().and_then(datetime::parse) {
            Some(datetime::Reading::Time(at)) => Some(at),
            Some(datetime::Reading::None) | None => None,
        };
        Ok(Answer {
            role,
            term: number_in(&told, headers::FAILOVER_TERM),
            lease: time_in(&told, headers::FAILOVER_LEASE_MS),
            timeout: time_in(&told, headers::FAILOVER_TIMEOUT_MS),
            data_sent_until,
        })
    }

    /// Deletes the session. Send it only after having stopped: nobody waits for a lease that was
    /// given back.
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

fn time_in(headers: &HeaderMap, name: &str) -> Option<Duration> {
    number_in(headers, name).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use client_failover_wire::ids::{NamespaceId, TenantId};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    /// A service that gives one answer to one request, in parts with pauses between them; and what
    /// it was asked.
    async fn exchange(answer: &[&str], timeout: Duration) -> (Result<Answer, ClientError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = async {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                assert!(connection.read_buf(&mut asked).await.expect("it is open") > 0);
            }
            for (place, part) in answer.iter().enumerate() {
                if place > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                // Who has given up has closed the connection.
                let _ = connection.write_all(part.as_bytes()).await;
            }
            (String::from_utf8(asked).expect("text"), connection)
        };
        let session = ClientSession::new(
            Service::plain(&url, timeout).expect("an address"),
            NamespacePath {
                tenant: TenantId::parse("plant").expect("valid"),
                namespace: NamespaceId::parse("line 1").expect("valid"),
            },
            GroupId::parse("pump").expect("valid"),
            SessionId::parse("a").expect("valid"),
        );
        let heartbeat = Heartbeat {
            health_percent: 80,
            acting_as: Some(Role::Primary),
            term_seen: Some(7),
            sent_at: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            data_sent_at: None,
        };
        let (answered, (asked, _open)) = tokio::join!(session.heartbeat(&heartbeat), serving);
        (answered, asked)
    }

    #[tokio::test]
    async fn a_heartbeat_says_what_its_sender_does_and_its_answer_for_how_long_it_may() {
        let answer = "HTTP/1.1 200 OK\r\nFailover-Term: 8\r\nFailover-Lease-Ms: 2000\r\nFailover-Timeout-Ms: 2500\r\nContent-Length: 10\r\n\r\n{\"Role\":1}";
        let (answered, asked) = exchange(&[answer], Duration::from_secs(20)).await;
        let lease = Some(Duration::from_secs(2));
        let timeout = Some(Duration::from_millis(2_500));
        let expected = Answer { role: Role::Primary, term: Some(8), lease, timeout, data_sent_until: None };
        assert_eq!(answered.expect("it is an answer"), expected);
        let asked = asked.to_lowercase();
        let path =
            "post /api/v1/tenants/plant/namespaces/line%201/clientfailover/groups/pump/clientsessions/a http/1.1";
        for said in [path, "failover-role: 1\r\n", "failover-term: 7\r\n", "\"heartbeattime\":\"2023-11-14t22:13:20z\""]
        {
            assert!(asked.contains(said), "{said} is not in {asked}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_which_each_part_comes_in_time_and_the_whole_does_not_is_lost() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"Role\":1}";
        let parts: Vec<&str> = std::iter::once(head).chain([" "; 20]).collect();
        let (answered, _) = exchange(&parts, PAUSE * 5).await;
        let error = answered.expect_err("whoever waits for it beats too late");
        assert!(error.is_passing() && error.to_string().contains("it takes too long"), "{error}");
    }

    #[tokio::test]
    async fn a_session_that_is_not_there_is_told_from_a_service_that_is_away() {
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let error = exchange(&[gone], Duration::from_secs(20)).await.0.expect_err("it is not there");
        assert!(error.is_not_found() && !error.is_passing(), "{error}");
        let away = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        let error = exchange(&[away], Duration::from_secs(20)).await.0.expect_err("it is away");
        assert!(!error.is_not_found() && error.is_passing(), "{error}");
    }
}
