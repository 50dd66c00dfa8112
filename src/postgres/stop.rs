//! The request to stop: made by whoever has started the server, and heard by whatever waits for it.

use std::convert::Infallible;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Dropping it is the request to stop.
#[derive(Debug)]
pub struct StopHandle {
    _closes: mpsc::Sender<Infallible>,
}

/// The other end of the handle.
#[derive(Debug)]
pub struct StopRequest(mpsc::Receiver<Infallible>);

/// A request that has not been made yet, and who makes it.
pub fn request() -> (StopHandle, StopRequest) {
    let (closes, closed) = mpsc::channel();
    (StopHandle { _closes: closes }, StopRequest(closed))
}

impl StopRequest {
    /// Waits for the request, and says whether it came.
    pub fn comes_within(&self, pause: Duration) -> bool {
        match self.0.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
            Ok(never) => match never {},
        }
    }
}
