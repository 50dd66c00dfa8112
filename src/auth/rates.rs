//! Requests per second of each identity: a bucket that holds one second's worth and refills steadily.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most identities that are kept in mind. One that was silent for a second is as one that never came.
const MOST_BUCKETS: usize = 20_000;

/// See the module.
pub struct Rates {
    per_second: f64,
    buckets: Mutex<HashMap<Box<str>, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    pub fn new(per_second: u32) -> Rates {
        Rates { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Takes one request out of their bucket, if there is one left in it.
    pub fn take(&self, who: &str, now: Instant) -> bool {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(who) {
            let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
            bucket.tokens = (bucket.tokens + elapsed * self.per_second).min(self.per_second);
            bucket.at = now;
            let within = bucket.tokens >= 1.0;
            bucket.tokens -= if within { 1.0 } else { 0.0 };
            return within;
        }
        if buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(1));
        }
        if buckets.len() >= MOST_BUCKETS {
            return false;
        }
        buckets.insert(who.into(), Bucket { tokens: self.per_second - 1.0, at: now });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bucket_that_refills() {
        let rates = Rates::new(3);
        let start = Instant::now();
        let taken = |who, at_ms| rates.take(who, start + Duration::from_millis(at_ms));
        assert_eq!([taken("a", 0), taken("a", 0), taken("a", 0), taken("a", 0)], [true, true, true, false]);
        assert!(taken("b", 0));
        assert!(!taken("a", 300));
        assert!(taken("a", 400));
        assert_eq!([0; 4].map(|_| taken("a", 60_000)), [true, true, true, false]);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let rates = Rates::new(1);
        let start = Instant::now();
        for n in 0..MOST_BUCKETS {
            assert!(rates.take(&n.to_string(), start));
        }
        assert!(!rates.take("one more", start));
        assert!(rates.take("one more", start + Duration::from_secs(2)));
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
