//! When a program has to end, so that it is dead before the lease is.

use std::time::Duration;

use client_failover_client::MachineTime;

/// How long before the end of a lease a program is asked to end, and killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    term_before: Duration,
    kill_before: Duration,
}

/// The shortest failover timeout that leaves a program the time to end.
pub const SHORTEST: Duration = Duration::from_millis(500);

/// What killing takes at least, on a busy machine.
const LEAST: Duration = Duration::from_millis(20);

impl Ladder {
    /// For leases of a group with that failover timeout. A heartbeat is sent after half of it, and
    /// where that is not answered another one after four fifths at the latest: then it is time to
    /// end in order.
    pub fn of(timeout: Duration) -> Ladder {
        let kill_before = (timeout / 10).max(LEAST).min(timeout / 8);
        Ladder { term_before: (timeout * 3 / 20).max(kill_before), kill_before }
    }

    /// When it is asked to end, unless the lease is renewed before.
    pub fn term_at(self, until: MachineTime) -> MachineTime {
        before(until, self.term_before)
    }

    /// How long after that its guardian is not trusted any more.
    pub fn guardian_takes(self) -> Duration {
        self.kill_before / 4
    }

    /// When it is killed, unless the lease is renewed before.
    pub fn kill_at(self, until: MachineTime) -> MachineTime {
        before(until, self.kill_before)
    }
}

fn before(at: MachineTime, by: Duration) -> MachineTime {
    MachineTime(at.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

/// Waits until that instant.
pub async fn sleep_until(at: MachineTime) {
    tokio::time::sleep(at.since(MachineTime::now())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_first_and_killed_before_the_end() {
        for ms in [100, 1_000, 10_000, 86_400_000] {
            let ladder = Ladder::of(Duration::from_millis(ms));
            let until = MachineTime(1_000_000_000_000);
            assert!(ladder.term_at(until) <= ladder.kill_at(until), "{ms}");
            assert!(until.since(ladder.kill_at(until)) >= LEAST.min(Duration::from_millis(ms) / 8), "{ms}");
        }
    }
}
