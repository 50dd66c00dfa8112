//! The clock that a lease is counted on: the machine's, which only goes forward. It is one for all
//! processes of the machine, so that what two of them wrote down can be compared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds on the machine's clock that only goes forward. It is the same for every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineTime(pub i64);

impl MachineTime {
    /// Now.
    pub fn now() -> MachineTime {
        MachineTime(micros())
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

// Time spent suspended counts: a laptop that was closed must not trust an old lease when it wakes
// up.
#[cfg(unix)]
fn micros() -> i64 {
    use nix::time::{ClockId, clock_gettime};

    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    // There it is the one that goes on while the machine sleeps and that nobody sets.
    #[cfg(target_vendor = "apple")]
    const CLOCK: ClockId = ClockId::from_raw(nix::libc::CLOCK_MONOTONIC_RAW);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

    let now = clock_gettime(CLOCK).expect("every kernel that this program starts on has this clock");
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

// The same: the interrupt time with its bias, which is what the machine has slept.
#[cfg(windows)]
#[allow(unsafe_code, reason = "the standard library does not say whether its clock counts sleep")]
fn micros() -> i64 {
    let mut hundreds_of_ns = 0;
    // SAFETY: it writes one number to where it is told, and cannot fail.
    unsafe { windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise(&mut hundreds_of_ns) };
    i64::try_from(hundreds_of_ns / 10).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_by_what_has_passed() {
        let (before, slept) = (MachineTime::now(), Duration::from_millis(60));
        std::thread::sleep(slept);
        let passed = MachineTime::now().since(before);
        // A timer that counts in ticks of its own may end a moment early.
        assert!(passed > slept - Duration::from_millis(5) && passed < Duration::from_secs(20), "{passed:?}");
    }
}
