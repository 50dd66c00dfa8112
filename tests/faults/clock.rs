//! The two clocks that a record is written by. Every process of a run reads the same ones.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One instant on both clocks, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The clock that is never set. Leases are trusted by it.
    pub mono: i64,
    /// The machine's wall clock, which is the database's as well.
    pub wall: i64,
}

impl Stamp {
    pub fn now() -> Stamp {
        Stamp { mono: read(ClockId::CLOCK_MONOTONIC), wall: read(ClockId::CLOCK_REALTIME) }
    }
}

fn read(clock: ClockId) -> i64 {
    let now = clock_gettime(clock).expect("the system has this clock");
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}
