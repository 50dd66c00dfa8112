//! The clock that a lease is counted on: the machine's, which only goes forward. It is one for all
//! processes of the machine, so that what two of them wrote down can be compared.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

// Time spent suspended counts: a laptop that was closed must not trust an old lease when it wakes
// up.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Microseconds on the machine's clock that only goes forward. It is the same for every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineTime(pub i64);

impl MachineTime {
    /// Now.
    pub fn now() -> MachineTime {
        let now = clock_gettime(CLOCK).expect("every kernel that this program starts on has this clock");
        MachineTime(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000)
    }

    /// The instant so much later.
    pub fn plus(self, duration: Duration) -> MachineTime {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        MachineTime(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: MachineTime) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
