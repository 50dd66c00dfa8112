//! What was verified lately, found again by a keyed hash of the credential. Bounded: it forgets the
//! oldest half when it is full.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

/// The most entries of each of the two generations.
const MAX_ENTRIES: usize = 20_000;

/// A hash of a credential under this process's own key: of no use anywhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// See the module.
pub struct Cache<T> {
    key: hmac::Key,
    generations: RwLock<Generations<T>>,
}

struct Generations<T> {
    young: HashMap<Fingerprint, T>,
    old: HashMap<Fingerprint, T>,
}

impl<T: Clone> Cache<T> {
    pub fn new() -> Cache<T> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Cache {
            // The system's random numbers cannot fail once the process runs.
            key: key.unwrap_or_else(|_| unreachable!("the system gives random numbers")),
            generations: RwLock::new(Generations { young: HashMap::new(), old: HashMap::new() }),
        }
    }

    pub fn fingerprint(&self, credential: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.key, credential);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Fingerprint(bytes)
    }

    /// Whether it is still good is for the caller to say.
    pub fn find(&self, fingerprint: Fingerprint) -> Option<T> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(&fingerprint).or_else(|| generations.old.get(&fingerprint)).cloned()
    }

    pub fn insert(&self, fingerprint: Fingerprint, value: T) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= MAX_ENTRIES {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.old.remove(&fingerprint);
        generations.young.insert(fingerprint, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_forgets_the_oldest_first() {
        let cache = Cache::new();
        let first = cache.fingerprint(b"first");
        cache.insert(first, 0);
        for n in 0..MAX_ENTRIES * 2 {
            cache.insert(cache.fingerprint(&n.to_le_bytes()), n);
        }
        assert_eq!(cache.find(first), None);
        let last = MAX_ENTRIES * 2 - 1;
        assert_eq!(cache.find(cache.fingerprint(&last.to_le_bytes())), Some(last));
        let generations = cache.generations.read().unwrap();
        assert!(generations.young.len() + generations.old.len() <= MAX_ENTRIES * 2);
    }

    #[test]
    fn a_fingerprint_is_good_in_one_process_alone() {
        let caches: [Cache<()>; 2] = [Cache::new(), Cache::new()];
        assert!(caches[0].fingerprint(b"x") == caches[0].fingerprint(b"x"));
        assert!(caches[0].fingerprint(b"x") != caches[1].fingerprint(b"x"));
    }
}
