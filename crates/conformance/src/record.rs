//! What happened while a client ran: what it asked, what it was answered, and when it acted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A role and what comes with it, in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub role: u8,
    pub term: i64,
    pub lease: Duration,
    pub timeout: Duration,
}

/// The role Primary, on the line.
pub const PRIMARY: u8 = 1;

/// One thing that happened. Heartbeats are numbered from 1 on, in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A registration was answered with that status.
    Registered {
        session: String,
        status: u16,
    },
    /// A heartbeat has arrived; what it says of its role and term.
    Beat {
        n: usize,
        session: String,
        role: Option<u8>,
        term: Option<i64>,
    },
    /// A heartbeat of a session that is not registered has arrived, and was answered 404. It has no
    /// number.
    Stray {
        session: String,
    },
    /// It was answered with a role.
    Answered {
        n: usize,
        told: Told,
    },
    /// It was refused.
    Refused {
        n: usize,
        status: u16,
    },
    /// Its client does not wait for the answer any more, or its connection was broken off.
    GivenUp {
        n: usize,
    },
    /// The client did something that only a Primary may.
    Acted,
    /// It was stopped from here on by a signal, and went on.
    Paused,
    Continued,
    /// It was told to end.
    ToldToEnd,
    /// It has deleted its session.
    Goodbye,
    /// It has ended.
    Ended {
        how: String,
    },
}

/// All that happened, each with the time since the beginning.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    events: Mutex<Vec<(Duration, Event)>>,
}

impl Record {
    pub fn new() -> Record {
        Record { began: Instant::now(), events: Mutex::default() }
    }

    pub fn add(&self, event: Event) {
        let mut events = self.lock();
        // Within the lock, so that the order is that of the times.
        let at = self.began.elapsed();
        events.push((at, event));
    }

    pub fn events(&self) -> Vec<(Duration, Event)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
