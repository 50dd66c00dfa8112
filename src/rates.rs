//! So many requests in a time from each who asks: a bucket that holds that many and refills
//! steadily.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most that are kept apart. One whose bucket is full again is as one that never came.
const MAX_BUCKETS: usize = 20_000;

/// Whose bucket it is that all share for whom there is no room.
const THE_REST: &str = "";

/// See the module.
pub struct Rates {
    most: f64,
    per_second: f64,
    buckets: Mutex<HashMap<Box<str>, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    /// So many in a second.
    pub fn per_second(most: u32) -> Rates {
        Rates { most: f64::from(most), per_second: f64::from(most), buckets: Mutex::default() }
    }

    /// So many in an hour, all of them at once if need be.
    pub fn per_hour(most: u32) -> Rates {
        Rates { most: f64::from(most), per_second: f64::from(most) / 3_600.0, buckets: Mutex::default() }
    }

    /// Takes one out of their bucket, or says in how long there is one in it.
    pub fn take(&self, who: &str, now: Instant) -> Result<(), Duration> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(who) {
            return self.take_from(bucket, now);
        }
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| self.refilled(bucket, now) < self.most);
        }
        // Neither is a newcomer refused for the number of others, nor do ever new names make ever
        // new buckets.
        let who = if buckets.len() >= MAX_BUCKETS { THE_REST } else { who };
        let bucket = buckets.entry(who.into()).or_insert(Bucket { tokens: self.most, at: now });
        self.take_from(bucket, now)
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + elapsed * self.per_second).min(self.most)
    }

    fn take_from(&self, bucket: &mut Bucket, now: Instant) -> Result<(), Duration> {
        bucket.tokens = self.refilled(bucket, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bucket_that_refills() {
        let rates = Rates::per_second(3);
        let start = Instant::now();
        let taken = |who, at_ms| rates.take(who, start + Duration::from_millis(at_ms)).is_ok();
        assert_eq!([taken("a", 0), taken("a", 0), taken("a", 0), taken("a", 0)], [true, true, true, false]);
        assert!(taken("b", 0));
        assert!(!taken("a", 300));
        assert!(taken("a", 400));
        assert_eq!([0; 4].map(|_| taken("a", 60_000)), [true, true, true, false]);
    }

    #[test]
    fn whoever_is_refused_is_told_in_how_long_there_is_room() {
        let rates = Rates::per_hour(60);
        let start = Instant::now();
        assert!((0..60).all(|_| rates.take("a", start).is_ok()));
        let wait = rates.take("a", start).expect_err("an hour's worth is gone");
        assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(60), "{wait:?}");
        assert!(rates.take("a", start + Duration::from_secs(61)).is_ok());
        assert!(rates.take("a", start + Duration::from_secs(61)).is_err());
    }

    #[test]
    fn the_number_of_buckets_is_bounded_and_those_without_one_share_one() {
        let rates = Rates::per_second(1);
        let start = Instant::now();
        for n in 0..MAX_BUCKETS {
            assert!(rates.take(&n.to_string(), start).is_ok());
        }
        assert!(rates.take("one more", start).is_ok());
        assert!(rates.take("and another", start).is_err());
        assert_eq!(rates.buckets.lock().unwrap().len(), MAX_BUCKETS + 1);
        assert!(rates.take("one more", start + Duration::from_secs(2)).is_ok());
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
