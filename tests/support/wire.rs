//! HTTP/1.1 byte by byte: an ordinary client tidies paths, refuses bad headers and never breaks
//! off, and so cannot show what the service does about them.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::helpers::{Answer, TestReplica};

/// Where the groups of tenant `t`, namespace `n` are.
pub const GROUPS: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";

/// What is never waited for longer than this: a server that hangs fails the test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One request, as the bytes that are sent.
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: impl Into<String>) -> Request {
        Request { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: None }
    }

    pub fn get(target: impl Into<String>) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", target).json(body)
    }

    pub fn put(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request::new("PUT", target).json(body)
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// A body without a Content-Type.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    pub fn json(self, body: impl Into<Vec<u8>>) -> Request {
        self.header("Content-Type", "application/json").body(body)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own and reads the answer.
    pub async fn send(&self, replica: &TestReplica) -> Answer {
        let mut connection = Connection::open(replica).await;
        connection.write(&self.to_bytes()).await;
        match self.method.as_str() {
            "HEAD" => connection.read_head_only().await,
            _ => connection.read().await,
        }
    }
}

/// One connection to the service.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub async fn open(replica: &TestReplica) -> Connection {
        Connection::try_open(replica).await.expect("the service accepts connections")
    }

    /// `None` where it is refused, or reset at once.
    pub async fn try_open(replica: &TestReplica) -> Option<Connection> {
        let address = replica.url.strip_prefix("http://").expect("a plain address");
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Connection { stream: BufReader::new(stream) })
    }

    /// Sends bytes. A service that has answered and hung up before it read them all is within its
    /// rights.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ =
            tokio::time::timeout(TIMEOUT, self.stream.get_mut().write_all(bytes)).await.expect("it is read in time");
    }

    /// Sends bytes, and says whether the service has hung up: what is sent to one that has is
    /// refused sooner or later.
    pub async fn is_refused(&mut self, bytes: &[u8]) -> bool {
        let stream = self.stream.get_mut();
        tokio::time::timeout(TIMEOUT, stream.write_all(bytes)).await.expect("it is taken in time").is_err()
    }

    /// Says that nothing more will be sent.
    pub async fn close_writing_half(&mut self) {
        let _ = self.stream.get_mut().shutdown().await;
    }

    /// The next answer.
    pub async fn read(&mut self) -> Answer {
        self.try_read().await.expect("the service answers")
    }

    /// The next answer; `None` where the service hangs up instead.
    pub async fn try_read(&mut self) -> Option<Answer> {
        self.read_answer(true).await
    }

    /// The next answer, to a HEAD: without a body, whatever its headers say.
    pub async fn read_head_only(&mut self) -> Answer {
        self.read_answer(false).await.expect("the service answers")
    }

    async fn read_answer(&mut self, has_body: bool) -> Option<Answer> {
        tokio::time::timeout(TIMEOUT, read_answer(&mut self.stream, has_body)).await.expect("the answer comes in time")
    }

    /// Waits until the service hangs up.
    pub async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(TIMEOUT, self.stream.read_to_end(&mut rest)).await;
        // A reset is an end, too.
        let _ = read.expect("the service hangs up in time");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

async fn read_answer(stream: &mut BufReader<TcpStream>, has_body: bool) -> Option<Answer> {
    let status = read_line(stream).await?;
    let status = status
        .strip_prefix("HTTP/1.1 ")
        .or(status.strip_prefix("HTTP/1.0 "))
        .unwrap_or_else(|| panic!("no status line: {status:?}"));
    let status = StatusCode::from_bytes(&status.as_bytes()[..3]).expect("a status is a number");
    let mut headers = HeaderMap::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header's name"),
            HeaderValue::from_str(value).expect("a header's value"),
        );
    }
    if status == StatusCode::CONTINUE {
        return Box::pin(read_answer(stream, has_body)).await;
    }
    let mut body = Vec::new();
    if has_body && status != StatusCode::NO_CONTENT {
        match headers.get("content-length").map(|length| length.to_str().expect("ASCII")) {
            Some(length) => read_exactly(stream, length.parse().expect("a number"), &mut body).await?,
            None if headers.contains_key("transfer-encoding") => loop {
                let size = read_line(stream).await?;
                let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
                read_exactly(stream, size, &mut body).await?;
                read_line(stream).await?;
                if size == 0 {
                    break;
                }
            },
            None => {
                stream.read_to_end(&mut body).await.ok()?;
            }
        }
    }
    Some(Answer::new(status, headers, String::from_utf8(body).expect("answers are UTF-8")))
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(_) => line.strip_suffix("\r\n").map(str::to_owned),
        Err(_) => None,
    }
}

async fn read_exactly(stream: &mut BufReader<TcpStream>, length: usize, body: &mut Vec<u8>) -> Option<()> {
    let mut part = vec![0; length];
    stream.read_exact(&mut part).await.ok()?;
    body.extend_from_slice(&part);
    Some(())
}
