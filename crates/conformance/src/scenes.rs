//! The scenes that a client is put into: what the service does, heartbeat by heartbeat.

use std::time::Duration;

use super::record::{PRIMARY, Told};

/// What becomes of a heartbeat.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Role(Told),
    /// The same, so much later.
    Late(Duration, Told),
    /// Nobody ever answers.
    Held,
    /// The connection is broken off.
    Cut,
    Refused {
        status: u16,
        retry_after: Option<u32>,
    },
}

/// A scene. Times are in failover timeouts.
pub struct Scene {
    pub name: &'static str,
    /// What happens in it.
    pub says: &'static str,
    /// The answer to the heartbeat of that number, for that timeout.
    pub reply: fn(usize, Duration) -> Reply,
    /// How long it lasts from the first heartbeat on.
    pub lasts: f64,
    /// Whether its answers leave it Primary from the first to the last.
    pub stays_primary: bool,
    /// After which heartbeat the client is stopped for one and a half timeouts.
    pub pauses_after: Option<usize>,
    /// After which heartbeat there is no group any more, until it is created again.
    pub group_goes_after: Option<usize>,
}

const SECONDARY: u8 = 0;
const PENDING: u8 = 2;

fn told(role: u8, term: i64, timeout: Duration) -> Reply {
    let lease = if role == PRIMARY { timeout } else { Duration::ZERO };
    Reply::Role(Told { role, term, lease, timeout })
}

fn primary(timeout: Duration) -> Reply {
    told(PRIMARY, 1, timeout)
}

fn refused(status: u16, retry_after: Option<u32>) -> Reply {
    Reply::Refused { status, retry_after }
}

const fn scene(name: &'static str, says: &'static str, lasts: f64, reply: fn(usize, Duration) -> Reply) -> Scene {
    Scene { name, says, reply, lasts, stays_primary: false, pauses_after: None, group_goes_after: None }
}

/// All of them.
pub const SCENES: [Scene; 14] = [
    Scene {
        stays_primary: true,
        ..scene("primary", "it is Primary, and then told to end", 4.0, |_, timeout| primary(timeout))
    },
    scene("standby", "another is Primary", 3.0, |_, timeout| told(SECONDARY, 1, timeout)),
    scene("silence", "it is Primary, and then nobody answers", 4.0, |n, timeout| match n {
        ..=3 => primary(timeout),
        _ => Reply::Held,
    }),
    scene("broken-off", "it is Primary, and then every connection is broken off", 3.5, |n, timeout| match n {
        ..=3 => primary(timeout),
        _ => Reply::Cut,
    }),
    scene("late", "the last answer is late by a quarter of a timeout, and then nobody answers", 4.0, |n, timeout| {
        match n {
            ..=2 => primary(timeout),
            3 => {
                let told = Told { role: PRIMARY, term: 1, lease: timeout, timeout };
                Reply::Late(timeout.mul_f64(0.25), told)
            }
            _ => Reply::Held,
        }
    }),
    scene("crossed", "an answer comes after that to a later heartbeat, which was to stop", 4.0, |n, timeout| match n {
        ..=3 => primary(timeout),
        4 => Reply::Late(timeout.mul_f64(0.8), Told { role: PRIMARY, term: 1, lease: timeout, timeout }),
        _ => told(SECONDARY, 2, timeout),
    }),
    scene("short-lease", "the lease is shorter than the timeout, and then nobody answers", 4.0, |n, timeout| match n {
        ..=2 => primary(timeout),
        3 | 4 => Reply::Role(Told { role: PRIMARY, term: 1, lease: timeout.mul_f64(0.55), timeout }),
        _ => Reply::Held,
    }),
    scene("demoted", "it is Primary, and then another is", 3.0, |n, timeout| match n {
        ..=3 => primary(timeout),
        _ => told(SECONDARY, 2, timeout),
    }),
    scene("handover", "it yields, is about to be Primary again, and is", 5.0, |n, timeout| match n {
        ..=3 => primary(timeout),
        4 => told(SECONDARY, 1, timeout),
        5..=7 => told(PENDING, 1, timeout),
        _ => told(PRIMARY, 2, timeout),
    }),
    scene("unknown", "it is Primary, and then its session is not there", 5.0, |n, timeout| match n {
        ..=3 => primary(timeout),
        4 => refused(404, None),
        _ => told(SECONDARY, 2, timeout),
    }),
    Scene {
        group_goes_after: Some(3),
        ..scene(
            "deleted",
            "it is Primary, and then the whole group is not there for a while",
            5.0,
            |n, timeout| match n {
                ..=3 => primary(timeout),
                _ => told(SECONDARY, 2, timeout),
            },
        )
    },
    Scene {
        stays_primary: true,
        ..scene("refused", "now and then it is answered 503, 429, 500 or 401", 7.0, |n, timeout| match n {
            3 => refused(503, Some(30)),
            6 => refused(429, Some(30)),
            9 => refused(500, None),
            12 => refused(401, None),
            _ => primary(timeout),
        })
    },
    Scene {
        pauses_after: Some(3),
        ..scene("paused", "it is stopped for longer than its lease, and then nobody answers", 4.5, |n, timeout| match n
        {
            ..=3 => primary(timeout),
            _ => Reply::Held,
        })
    },
    Scene {
        stays_primary: true,
        ..scene("timeout", "the group's timeout is halved", 4.0, |n, timeout| match n {
            ..=3 => primary(timeout),
            _ => primary(timeout / 2),
        })
    },
];
