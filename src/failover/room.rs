//! How many more sessions tenants may have, as far as it was counted a short while ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ids::TenantId;

/// For how long a count is good.
const COUNTED_EVERY: Duration = Duration::from_secs(10);

/// The most tenants that are kept in mind.
const MAX_TENANTS: usize = 10_000;

/// See the module.
#[derive(Default)]
pub struct Room(Mutex<HashMap<TenantId, (u64, Instant)>>);

impl Room {
    /// Takes a place, where there are certainly some: others register too, at this replica or
    /// another.
    pub fn take(&self, tenant: &TenantId) -> bool {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((room, counted_at)) = rooms.get_mut(tenant) else { return false };
        if *room <= 1 || counted_at.elapsed() > COUNTED_EVERY {
            return false;
        }
        *room -= 1;
        true
    }

    /// Notes how many were counted. Half of them are taken without counting again.
    pub fn note(&self, tenant: &TenantId, room: u64) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() >= MAX_TENANTS {
            rooms.clear();
        }
        rooms.insert(tenant.clone(), (room / 2, Instant::now()));
    }
}
