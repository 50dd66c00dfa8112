//! Reads a stream of server-sent events as a browser does.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::Value;

use crate::support::helpers::TestReplica;

/// What is never waited for longer than this.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the events of tenant `t`, namespace `n` are.
pub const NAMESPACE_EVENTS: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/events";

/// One event of a stream.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: i64,
    pub name: String,
    pub data: Value,
    pub at: Instant,
}

impl Received {
    /// The event as `Name group session from>to reason`, as far as it has these.
    pub fn line(&self) -> String {
        let text = |name: &str| self.data[name].as_str().map(|text| format!(" {text}")).unwrap_or_default();
        let roles = match &self.data["From"] {
            Value::Null => String::new(),
            from => format!(" {from}>{}", self.data["To"]),
        };
        format!("{}{}{}{roles}{}", self.name, text("GroupId"), text("SessionId"), text("Reason"))
    }
}

/// An open stream.
pub struct EventStream {
    response: Response,
    buffer: String,
    /// As a browser has it: the latest id that came, with an event or without.
    pub last_event_id: Option<i64>,
}

impl EventStream {
    /// Opens a stream and waits until it has begun.
    pub async fn open(replica: &TestReplica, path: &str, last_event_id: Option<i64>) -> EventStream {
        let mut request = replica.http.get(format!("{}{path}", replica.url));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id.to_string());
        }
        let response = request.send().await.expect("the service answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = EventStream { response, buffer: String::new(), last_event_id: None };
        let (name, _) = stream.read_block().await.expect("a stream begins");
        assert_eq!(name, "", "it begins with its position");
        stream
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Received> {
        // Signs of life do not count.
        tokio::time::timeout(TIMEOUT, self.wait()).await.expect("an event comes in time")
    }

    async fn wait(&mut self) -> Option<Received> {
        loop {
            let (name, data) = self.read_block().await?;
            if !data.is_empty() {
                let data = serde_json::from_str(&data).expect("data is JSON");
                return Some(Received { id: self.last_event_id.unwrap_or(-1), name, data, at: Instant::now() });
            }
        }
    }

    /// So many events.
    pub async fn take(&mut self, count: usize) -> Vec<Received> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await.expect("the stream goes on"));
        }
        taken
    }

    /// The lines of so many events.
    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.iter().map(Received::line).collect()
    }

    async fn read_block(&mut self) -> Option<(String, String)> {
        let block = loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                self.buffer = rest.to_owned();
                break block;
            }
            let chunk = tokio::time::timeout(TIMEOUT, self.response.chunk()).await.expect("something comes in time");
            match chunk {
                Ok(Some(chunk)) => self.buffer.push_str(std::str::from_utf8(&chunk).expect("UTF-8")),
                Ok(None) | Err(_) => return None,
            }
        };
        let (mut name, mut data) = (String::new(), String::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => self.last_event_id = Some(id.parse().expect("an id is a number")),
                Some(("event", event)) => name = event.to_owned(),
                Some(("data", text)) => data.push_str(text),
                _ => {}
            }
        }
        Some((name, data))
    }
}
