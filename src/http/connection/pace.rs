//! How a connection gets on with its requests: by when what has to come, and how far a client may
//! run ahead.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::ConnectionOptions;
use super::framing::{BodyLength, Framing, Stage};

/// How many bytes are taken in that come before it is their turn. More wait in the client's
/// machine.
pub const MAX_AHEAD: usize = 4_096;

/// See the module.
pub struct Pace {
    head: Duration,
    progress: Duration,
    idle: Duration,
    is_for_health: bool,
    framing: Framing,
    /// Whether a request has begun on it at any time.
    has_served: bool,
    /// Whether a request has begun and its answer is not made.
    is_serving: bool,
    /// Whether that has a body, and says how long that is.
    has_length: bool,
    /// Since when the client has been due to do something.
    since: Instant,
    /// Who reads, while there is to be no reading.
    held: Option<Waker>,
}

impl Pace {
    pub fn new(options: &ConnectionOptions, is_for_health: bool) -> Pace {
        Pace {
            head: options.head,
            progress: options.progress,
            // A place of the reserve is not for waiting in.
            idle: if is_for_health { options.head.min(options.idle) } else { options.idle },
            is_for_health,
            framing: Framing::new(),
            has_served: false,
            is_serving: false,
            has_length: false,
            since: Instant::now(),
            held: None,
        }
    }

    pub fn is_for_health(&self) -> bool {
        self.is_for_health
    }

    /// Whether what comes now is not for the server's library yet: it has one request at a time,
    /// for each that waits there takes some 5 KB of memory, however short it is. Of a body that
    /// nobody has asked for it has a piece.
    pub fn has_enough(&self) -> bool {
        match self.framing.stage() {
            Stage::HeadThere => self.framing.is_whole() || self.framing.kept() >= MAX_AHEAD,
            Stage::Between | Stage::Head { .. } => self.is_serving,
            Stage::Body { .. } | Stage::Chunks(_) => false,
        }
    }

    /// Wakes whoever reads when there is to be more.
    pub fn hold(&mut self, waker: &Waker) {
        self.held = Some(waker.clone());
    }

    /// What the client has sent. Returns how much of it is the server's library's to have now; what
    /// is left has to wait.
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        let before = self.framing.stage();
        let taken = self.framing.take(bytes);
        let is_body = matches!(before, Stage::Body { .. } | Stage::Chunks(_));
        // The rest of a body that nobody wants has no more time for coming in small pieces, nor
        // have empty lines.
        let counts =
            if self.is_serving { is_body } else { before == Stage::Between && self.framing.stage() != Stage::Between };
        if counts {
            self.since = Instant::now();
        }
        taken
    }

    /// A request's head is there, and its body is so long.
    pub fn begin(&mut self, length: BodyLength) {
        self.framing.begin(length);
        self.has_served = true;
        self.is_serving = true;
        self.has_length = matches!(length, BodyLength::Bytes(1..));
        self.go_on();
    }

    /// Whether the request has a body of a length that it says, and all of it is there.
    pub fn is_body_there(&self) -> bool {
        self.has_length && self.is_serving && self.framing.stage() == Stage::Between
    }

    /// The answer to the request is made.
    pub fn finish(&mut self) {
        self.is_serving = false;
        self.go_on();
    }

    fn go_on(&mut self) {
        self.since = Instant::now();
        if let Some(held) = self.held.take() {
            held.wake();
        }
    }

    /// By when something has to come; `None` while the client waits for us.
    pub fn deadline(&self) -> Option<Instant> {
        let timeout = match (self.is_serving, self.framing.stage()) {
            (true, Stage::Body { .. } | Stage::Chunks(_)) => self.progress,
            (true, _) => return None,
            (false, Stage::Between) if self.has_served => self.idle,
            (false, _) => self.head,
        };
        Some(self.since + timeout)
    }

    /// Whether what does not come is a request that has begun to come: its client waits for an
    /// answer.
    pub fn is_in_head(&self) -> bool {
        !self.is_serving && matches!(self.framing.stage(), Stage::Head { .. })
    }
}
