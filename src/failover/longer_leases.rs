//! Leases that were longer than what their sessions had before: a replica remembers them for a
//! while.
//!
//! Where a promotion loses the change that lengthened a group's timeout, the database knows of
//! shorter leases only, while a client acts on a longer one. Whoever gave it says so in the new
//! history.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::arbitration::FailoverTimeout;

/// For how long. A standby that is further behind than that is none to promote.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// The most groups that are remembered. Only those are whose timeout was lengthened, or that are
/// new.
const MAX_GROUPS: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub struct LongerLeases(Mutex<HashMap<Uuid, Given>>);

#[derive(Clone, Copy, Debug)]
struct Given {
    timeout: FailoverTimeout,
    /// In which of the histories that this replica has worked in.
    epoch: u64,
    at: Instant,
}

impl LongerLeases {
    /// Remembers leases of groups that were given in that history.
    pub fn note(&self, longer: &[(Uuid, FailoverTimeout)], epoch: u64) {
        if longer.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut given = self.given();
        if given.len() + longer.len() > MAX_GROUPS {
            given.retain(|_, given| now - given.at < REMEMBERED_FOR);
        }
        for (group, timeout) in longer {
            let before = given.get(group).filter(|before| before.epoch == epoch).map(|before| before.timeout);
            if before.is_some() || given.len() < MAX_GROUPS {
                let timeout = before.map_or(*timeout, |before| before.max(*timeout));
                given.insert(*group, Given { timeout, epoch, at: now });
            }
        }
    }

    /// Those that were given in an earlier history than that one, and are not told in it.
    pub fn lost(&self, epoch: u64) -> Vec<(Uuid, FailoverTimeout)> {
        let now = Instant::now();
        let mut given = self.given();
        given.retain(|_, given| given.epoch >= epoch || now - given.at < REMEMBERED_FOR);
        let of_earlier = given.iter().filter(|(_, given)| given.epoch < epoch);
        of_earlier.map(|(group, given)| (*group, given.timeout)).collect()
    }

    /// For how long a lease of that group was given in an earlier history, where that is not told.
    pub fn lost_of(&self, group: Uuid, epoch: u64) -> Option<FailoverTimeout> {
        // In the first history nothing is lost, and nobody has to wait for the lock.
        let given = (epoch > 0).then(|| self.given().get(&group).copied()).flatten();
        given.filter(|given| given.epoch < epoch).map(|given| given.timeout)
    }

    /// The database knows of these by now.
    pub fn forget_lost(&self, told: &[(Uuid, FailoverTimeout)], epoch: u64) {
        let mut given = self.given();
        for (group, _) in told {
            if given.get(group).is_some_and(|given| given.epoch < epoch) {
                given.remove(group);
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, HashMap<Uuid, Given>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(ms: i64) -> FailoverTimeout {
        FailoverTimeout::from_ticks(ms * FailoverTimeout::TICKS_PER_MS).unwrap()
    }

    #[test]
    fn the_longest_lease_of_a_group_is_lost_with_its_history_until_that_is_told() {
        let leases = LongerLeases::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        leases.note(&[(a, timeout(9_000)), (b, timeout(500))], 0);
        leases.note(&[(a, timeout(2_000))], 0);
        assert_eq!(leases.lost(0), []);
        leases.note(&[(b, timeout(100))], 1);
        assert_eq!((leases.lost_of(a, 0), leases.lost_of(a, 1)), (None, Some(timeout(9_000))));
        assert_eq!(leases.lost_of(b, 1), None);
        assert_eq!(leases.lost(1), [(a, timeout(9_000))]);
        leases.forget_lost(&[(a, timeout(9_000)), (b, timeout(100))], 1);
        assert_eq!(leases.lost(1), []);
        assert_eq!(leases.lost(2), [(b, timeout(100))]);
    }
}
