//! How many connections there are, and whose they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::proxies::Proxies;
use super::ConnectionOptions;
use crate::access::network;

/// The most handshakes of one address at once; others of it wait for their turn.
const HANDSHAKES_PER_ADDRESS: usize = 32;

/// The most places of one address in the reserve for health checks.
const RESERVE_PER_ADDRESS: usize = 8;

/// Shared by all workers.
pub struct Shares {
    limit: usize,
    per_address: usize,
    reserve: usize,
    proxies: Proxies,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    places: usize,
    reserved: usize,
    by_address: HashMap<IpAddr, Address>,
}

struct Address {
    places: usize,
    reserved: usize,
    handshakes: Arc<Semaphore>,
}

impl Shares {
    pub fn new(options: &ConnectionOptions) -> Arc<Shares> {
        Arc::new(Shares {
            limit: options.limit,
            per_address: options.per_address,
            reserve: options.health_reserve,
            proxies: options.proxies.clone(),
            taken: Mutex::default(),
        })
    }

    /// A place for another connection of that address, if there is one.
    pub fn enter(self: &Arc<Shares>, peer: IpAddr) -> Option<Share> {
        let address = network(peer);
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = taken.by_address.get(&address).map_or((0, 0), |theirs| (theirs.places, theirs.reserved));
        let per_address = if self.proxies.are_at(peer) { self.limit } else { self.per_address };
        let is_reserved = if taken.places < self.limit && theirs.0 < per_address {
            false
        } else if taken.reserved < self.reserve && theirs.1 < RESERVE_PER_ADDRESS {
            true
        } else {
            return None;
        };
        let theirs = taken.by_address.entry(address).or_insert_with(|| Address {
            places: 0,
            reserved: 0,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_PER_ADDRESS)),
        });
        let handshakes = theirs.handshakes.clone();
        *theirs.count(is_reserved) += 1;
        *taken.count(is_reserved) += 1;
        Some(Share { shares: self.clone(), address, is_reserved, handshakes })
    }
}

impl Taken {
    fn count(&mut self, is_reserved: bool) -> &mut usize {
        if is_reserved { &mut self.reserved } else { &mut self.places }
    }
}

impl Address {
    fn count(&mut self, is_reserved: bool) -> &mut usize {
        if is_reserved { &mut self.reserved } else { &mut self.places }
    }
}

/// A connection's place, until it is dropped.
pub struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
    is_reserved: bool,
    handshakes: Arc<Semaphore>,
}

impl Share {
    /// Whether it is from the reserve for health checks.
    pub fn is_for_health(&self) -> bool {
        self.is_reserved
    }

    /// Waits for the turn of its handshake among those of its address; the turn is over when what
    /// comes of this is dropped.
    pub async fn handshake_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.handshakes.clone().acquire_owned().await.ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken.count(self.is_reserved) -= 1;
        if let Some(theirs) = taken.by_address.get_mut(&self.address) {
            *theirs.count(self.is_reserved) -= 1;
            if theirs.places + theirs.reserved == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_health_checks_have_a_reserve() {
        let options =
            ConnectionOptions { limit: 5, per_address: 3, health_reserve: 10, ..ConnectionOptions::default() };
        let shares = Shares::new(&options);
        let enter = |peer: &str| shares.enter(peer.parse().unwrap());
        let first: Vec<Share> = (0..3).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert!(first.iter().all(|share| !share.is_for_health()));
        let reserved: Vec<Share> = (0..RESERVE_PER_ADDRESS).map(|_| enter("::ffff:10.0.0.1").unwrap()).collect();
        assert!(reserved.iter().all(Share::is_for_health));
        assert!(enter("10.0.0.1").is_none());
        let second: Vec<Share> = (1..=2).map(|n| enter(&format!("2001:db8::{n}")).unwrap()).collect();
        assert!(second.iter().all(|share| !share.is_for_health()));
        assert!(enter("10.0.0.9").is_some_and(|share| share.is_for_health()));
        drop(first);
        assert!(enter("10.0.0.1").is_some_and(|share| !share.is_for_health()));
        drop((second, reserved));
        assert!(shares.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let network = |peer: &str| network(peer.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
