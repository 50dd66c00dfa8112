//! Reads a service's stream of server-sent events.

use std::time::Duration;

use reqwest::Response;

use super::{ClientError, Service};

/// The longest silence: the service says every 15 s that it is there.
const SILENCE: Duration = Duration::from_secs(40);

/// The longest block.
const MAX_BYTES: usize = 1024 * 1024;

/// One block of a stream: an event, or a sign of life.
#[derive(Debug, Default, PartialEq)]
pub struct Block {
    /// From where a stream resumes that has had this block.
    pub id: Option<i64>,
    /// The kind of event.
    pub name: String,
    /// The event; empty where there is none.
    pub data: String,
}

/// An open stream.
pub struct EventStream {
    response: Response,
    buffer: Vec<u8>,
}

impl EventStream {
    /// Opens a stream: of what happens from now on, or after an event.
    pub async fn open(service: &Service, path: &[&str], after: Option<i64>) -> Result<EventStream, ClientError> {
        let response = service.open(path, &[], after).await?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            Ok(EventStream { response, buffer: Vec::new() })
        } else {
            Err(ClientError::Unintelligible("it is not a stream of events".to_owned()))
        }
    }

    /// The next block; `None` at the end.
    pub async fn next(&mut self, service: &Service) -> Result<Option<Block>, ClientError> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let rest = self.buffer.split_off(end + 2);
                let block = std::mem::replace(&mut self.buffer, rest);
                let text = std::str::from_utf8(&block)
                    .map_err(|_| ClientError::Unintelligible("it is not in UTF-8".to_owned()))?;
                return Ok(Some(Block::read(text)));
            }
            if self.buffer.len() > MAX_BYTES {
                return Err(ClientError::Unintelligible("an event is too long".to_owned()));
            }
            match service.chunk(&mut self.response, SILENCE).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

impl Block {
    fn read(text: &str) -> Block {
        let mut block = Block::default();
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => block.id = value.parse().ok(),
                "event" => value.clone_into(&mut block.name),
                "data" if block.data.is_empty() => value.clone_into(&mut block.data),
                "data" => block.data.extend(["\n", value]),
                // Comments, and how long to wait before coming back.
                _ => {}
            }
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_an_event_or_a_sign_of_life() {
        let event = Block::read("id: 7\nevent: RoleChanged\ndata: {\"A\":\ndata:1}\n\n");
        assert_eq!(event, Block { id: Some(7), name: "RoleChanged".to_owned(), data: "{\"A\":\n1}".to_owned() });
        assert_eq!(Block::read(": still here\nretry: 1000\nid: 8\n\n"), Block { id: Some(8), ..Block::default() });
    }
}
