//! A client's connection as the framework sees it: what the framework says of its own accord is put
//! in our words, or left unsaid.
//!
//! It answers a head that it cannot read and one that is too large before any of our code is asked,
//! without a body, and on a connection that it kept until then without a word that it closes it
//! now. It even answers a connection on which nothing was asked: a proxy or a browser that opens
//! one ahead would take that for the answer to its next request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::http::StatusCode;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::Level;

use super::super::limits::MAX_TARGET_BYTES;
use super::super::operation_id;
use super::stream::TimedStream;
use super::{ApiError, whole_answer};
use crate::access::network;
use crate::log_limits::Lines;
use crate::{limited, metrics};

/// The first byte of whoever begins to speak TLS.
const TLS_HANDSHAKE: u8 = 22;

/// What a stranger can send as often as they like.
const NO_REQUEST: Lines = Lines::new("what came is no request", Level::INFO);

/// A connection.
pub struct ClientStream {
    stream: TimedStream,
    peer: SocketAddr,
    asked: Asked,
    /// What is written in place of what the framework said.
    unsent: BytesMut,
}

/// What a client has sent since it was last answered. Only counted: nothing is decided by it but
/// whether to speak, and with which status.
#[derive(Default)]
struct Asked {
    anything: bool,
    first_byte: Option<u8>,
    first_line_bytes: usize,
    first_line_ended: bool,
}

impl Asked {
    fn count(&mut self, bytes: &[u8]) {
        self.anything |= !bytes.is_empty();
        self.first_byte = self.first_byte.or(bytes.first().copied());
        if !self.first_line_ended {
            let line = bytes.iter().position(|byte| *byte == b'\n');
            self.first_line_bytes += line.unwrap_or(bytes.len());
            self.first_line_ended = line.is_some();
        }
    }
}

impl ClientStream {
    /// A connection that was just taken.
    pub fn new(stream: TimedStream, peer: SocketAddr) -> ClientStream {
        ClientStream { stream, peer, asked: Asked::default(), unsent: BytesMut::new() }
    }

    /// What it runs over.
    pub fn get_ref(&self) -> &TimedStream {
        &self.stream
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        if let Err(error) = &read
            && error.kind() == io::ErrorKind::TimedOut
            && this.stream.is_cut_in_head()
        {
            let status = StatusCode::REQUEST_TIMEOUT;
            let answer = write_refusal(status, "", |id| this.log(id, status));
            // As much as can be sent at once; it is closed in any case.
            let _ = Pin::new(&mut this.stream).poll_write(context, answer.as_bytes());
            let _ = Pin::new(&mut this.stream).poll_flush(context);
        }
        read?;
        this.asked.count(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl ClientStream {
    /// Says who sent what is no request: the framework does not know.
    fn log(&self, operation_id: &str, status: StatusCode) {
        let (peer, address) = (self.peer.to_string(), network(self.peer.ip()).to_string());
        let cause = match self.asked.first_byte {
            Some(TLS_HANDSHAKE) => "it begins as TLS does, and does not belong here: the URL should begin with http://",
            _ if status == StatusCode::REQUEST_TIMEOUT => "it did not come to an end in time",
            _ => "it cannot be read as HTTP/1.1",
        };
        limited!(NO_REQUEST, &address, operation_id, peer, status = status.as_u16(), cause, "what came is no request");
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        let Some(refusal) = find_refusal(bytes) else {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
            this.asked = Asked { anything: true, ..Asked::default() };
            return Poll::Ready(Ok(written));
        };
        this.unsent.extend_from_slice(&bytes[..refusal.place]);
        if this.asked.anything {
            let status = match refusal.status {
                StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                    if this.asked.first_line_bytes > MAX_TARGET_BYTES =>
                {
                    StatusCode::URI_TOO_LONG
                }
                status => status,
            };
            this.unsent.extend_from_slice(write_refusal(status, refusal.date, |id| this.log(id, status)).as_bytes());
        }
        // What is left of it goes with the flush that follows.
        let _ = this.poll_send(context)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

/// An answer of the framework's own.
#[derive(Debug, PartialEq, Eq)]
struct Refusal<'a> {
    /// Where it begins: answers of ours may stand before it.
    place: usize,
    status: StatusCode,
    /// Its header `Date`, whole.
    date: &'a str,
}

/// The framework's own answer at the end of what is written: the last that is said on a connection,
/// an error without a body and without the operation id that all of ours have.
fn find_refusal(bytes: &[u8]) -> Option<Refusal<'_>> {
    // Answers of ours end with their body, all but a few.
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let place = bytes.windows(7).rposition(|part| part == b"HTTP/1.")?;
    let head = std::str::from_utf8(&bytes[place..]).ok()?;
    let mut lines = head.split("\r\n");
    let status: StatusCode = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut date = "";
    let mut is_empty = false;
    for line in lines {
        match line.split_once(": ") {
            Some(("operation-id", _)) => return None,
            Some(("content-length", length)) => is_empty = length == "0",
            Some(("date", _)) => date = line,
            _ => {}
        }
    }
    let is_error = status.is_client_error() || status.is_server_error();
    (is_error && is_empty).then_some(Refusal { place, status, date })
}

/// The same with the one error body, and with the word that the connection closes.
fn write_refusal(status: StatusCode, date: &str, log: impl FnOnce(&str)) -> String {
    let operation_id = operation_id::generate();
    metrics::refused_unread(status.as_u16());
    log(&operation_id);
    whole_answer(&ApiError::Framework(status), &operation_id, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\noperation-id: 1\r\ndate: D\r\n\r\n{}";
    const THEIRS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: D\r\n\r\n";

    #[test]
    fn the_frameworks_own_answers_are_told_from_ours() {
        let bad = StatusCode::BAD_REQUEST;
        assert_eq!(find_refusal(THEIRS.as_bytes()), Some(Refusal { place: 0, status: bad, date: "date: D" }));
        let both = format!("{OURS}{THEIRS}");
        assert_eq!(find_refusal(both.as_bytes()).map(|refusal| refusal.place), Some(OURS.len()));
        for ours in [
            OURS,
            "",
            "\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\noperation-id: 1\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\noperation-id: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "2\r\n[]\r\n0\r\n\r\n",
        ] {
            assert_eq!(find_refusal(ours.as_bytes()), None, "{ours}");
        }
    }

    #[test]
    fn an_answer_in_their_place_is_whole() {
        let answer = write_refusal(StatusCode::URI_TOO_LONG, "date: D", |_| ());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends");
        assert!(head.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n") && head.ends_with("\r\ndate: D"), "{head}");
        assert!(body.contains("\"Reason\":\"The target of the request is longer than"), "{body}");
    }
}
