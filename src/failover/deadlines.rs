//! When the leases of those who hold a role end, as far as this replica has given or seen them: so
//! that a lapse is looked for at the moment when it happens, and need not wait for the sweep to
//! come by.
//!
//! Decides nothing. A replica's clock says when to look; what is then found is judged by the
//! database's clock, in a transaction like any other. What is not in here (leases given by other
//! replicas, or before a restart) is left to them and to the sweep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::ids::hash_of;
use crate::store::groups::LeaseLeft;

/// What ends within the same one is looked at together.
const TICK: Duration = Duration::from_millis(5);

/// The deadlines of many groups. Cheap to clone, shared by those who give leases and the one who
/// looks.
#[derive(Clone)]
pub struct Deadlines(Arc<State>);

struct State {
    began_at: Instant,
    wheel: Mutex<Wheel>,
    earlier: Notify,
}

/// Each group is in `turns` once: in that of its deadline, or in an earlier one where the lease was
/// renewed since. A renewal is then one write, and the group is moved when its old turn comes.
///
/// There may be half a million groups, so this is packed: the tables have no more than a number for
/// each. A number is free again once its turn has come, so that no turn has an old one.
#[derive(Default)]
struct Wheel {
    numbers: HashTable<u32>,
    ends: Vec<End>,
    free: Vec<u32>,
    turns: BTreeMap<u64, Vec<u32>>,
}

/// When a group's lease ends, in ticks since the beginning.
#[derive(Clone, Copy)]
struct End {
    group_key: Uuid,
    tick: u64,
}

impl Deadlines {
    /// Without any.
    pub fn new() -> Deadlines {
        let wheel = Mutex::default();
        Deadlines(Arc::new(State { began_at: Instant::now(), wheel, earlier: Notify::new() }))
    }

    /// Notes leases as they were at `read_at`. One that would end earlier than is known of its
    /// group is left to the sweep: it takes a timeout that was shortened.
    pub fn note(&self, leases: &[LeaseLeft], read_at: Instant) {
        if leases.is_empty() {
            return;
        }
        let read_at = read_at.saturating_duration_since(self.0.began_at);
        let mut wheel = self.wheel();
        let first_before = wheel.first();
        for lease in leases {
            let left = Duration::from_micros(lease.left_us.max(0).unsigned_abs());
            // Rounded up, so that it has ended when it is looked at.
            let ticks = (read_at + left).as_micros() / TICK.as_micros() + 1;
            wheel.note(lease.group_key, u64::try_from(ticks).unwrap_or(u64::MAX));
        }
        if wheel.first() < first_before || first_before.is_none() {
            self.0.earlier.notify_one();
        }
    }

    /// Waits until some may have ended, and takes these groups out: at most so many.
    pub async fn due(&self, most: usize) -> Vec<Uuid> {
        loop {
            let now = self.0.began_at.elapsed().as_micros() / TICK.as_micros();
            let (due, next) = {
                let mut wheel = self.wheel();
                (wheel.take(u64::try_from(now).unwrap_or(u64::MAX), most), wheel.first())
            };
            if !due.is_empty() {
                return due;
            }
            let earlier = self.0.earlier.notified();
            match next {
                None => earlier.await,
                Some(tick) => {
                    let left = begin_of(tick).saturating_sub(self.0.began_at.elapsed()).max(Duration::from_millis(1));
                    // Somebody may come who is due sooner.
                    let _ = tokio::time::timeout(left, earlier).await;
                }
            }
        }
    }

    /// How many groups are looked after.
    pub fn len(&self) -> usize {
        self.wheel().len()
    }

    fn wheel(&self) -> MutexGuard<'_, Wheel> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.0.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a tick begins, from the beginning of all.
fn begin_of(tick: u64) -> Duration {
    Duration::from_millis(tick.saturating_mul(TICK.as_millis() as u64))
}

impl Wheel {
    fn note(&mut self, group_key: Uuid, tick: u64) {
        let Wheel { numbers, ends, free, turns } = self;
        let is_it = |number: &u32| ends[*number as usize].group_key == group_key;
        match numbers.entry(hash_of(&group_key), is_it, |number| hash_of(&ends[*number as usize].group_key)) {
            Entry::Occupied(known) => {
                let end = &mut ends[*known.get() as usize];
                end.tick = end.tick.max(tick);
            }
            Entry::Vacant(vacant) => {
                let end = End { group_key, tick };
                let number = match free.pop() {
                    Some(number) => {
                        ends[number as usize] = end;
                        number
                    }
                    None => {
                        // So many are left to the sweep.
                        let Ok(number) = u32::try_from(ends.len()) else { return };
                        ends.push(end);
                        number
                    }
                };
                vacant.insert(number);
                turns.entry(tick).or_default().push(number);
            }
        }
    }

    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn first(&self) -> Option<u64> {
        self.turns.first_key_value().map(|(tick, _)| *tick)
    }

    /// The groups whose turn has come and whose deadline has passed. Those that were renewed get a
    /// new turn.
    fn take(&mut self, now: u64, most: usize) -> Vec<Uuid> {
        let mut due = Vec::new();
        while let Some(turn) = self.turns.first_entry().filter(|turn| *turn.key() <= now) {
            let mut numbers = turn.remove();
            let left_over = numbers.split_off(numbers.len().min(most - due.len()));
            for number in numbers {
                let End { group_key, tick } = self.ends[number as usize];
                if tick > now {
                    self.turns.entry(tick).or_default().push(number);
                } else if let Ok(its) = self.numbers.find_entry(hash_of(&group_key), |other| *other == number) {
                    its.remove();
                    self.free.push(number);
                    due.push(group_key);
                }
            }
            if !left_over.is_empty() {
                self.turns.entry(now).or_default().extend(left_over);
            }
            if due.len() >= most {
                break;
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_group_is_due_when_its_latest_lease_has_ended() {
        let mut wheel = Wheel::default();
        wheel.note(key(1), 10);
        wheel.note(key(2), 11);
        wheel.note(key(1), 20);
        assert!(wheel.take(9, 100).is_empty());
        assert_eq!(wheel.take(11, 100), [key(2)]);
        assert_eq!(wheel.first(), Some(20), "the renewed one has a new turn");
        assert_eq!(wheel.take(20, 100), [key(1)]);
        assert!(wheel.len() == 0 && wheel.turns.is_empty());
    }

    #[test]
    fn a_year_is_not_too_long() {
        let a_year = Duration::from_secs(366 * 86_400);
        assert_eq!(begin_of(366 * 86_400 * 200), a_year);
    }

    #[test]
    fn however_often_it_is_renewed_a_group_has_one_turn() {
        let mut wheel = Wheel::default();
        for tick in [10, 30, 20, 40, 15] {
            wheel.note(key(1), tick);
        }
        assert_eq!(wheel.turns.values().map(Vec::len).sum::<usize>(), 1);
        assert!(wheel.take(39, 100).is_empty());
        assert_eq!(wheel.turns.values().map(Vec::len).sum::<usize>(), 1);
        assert_eq!(wheel.take(40, 100), [key(1)]);
    }

    #[test]
    fn a_group_that_comes_again_has_its_own_turn_and_not_that_of_another() {
        let mut wheel = Wheel::default();
        wheel.note(key(1), 10);
        wheel.note(key(2), 12);
        assert_eq!(wheel.take(10, 100), [key(1)]);
        wheel.note(key(3), 30);
        wheel.note(key(1), 20);
        assert_eq!(wheel.take(12, 100), [key(2)]);
        assert_eq!(wheel.take(20, 100), [key(1)]);
        assert_eq!(wheel.take(30, 100), [key(3)]);
        assert_eq!((wheel.len(), wheel.ends.len()), (0, 3));
    }

    #[test]
    fn many_at_once_are_taken_in_parts_and_none_is_lost() {
        let mut wheel = Wheel::default();
        for number in 0..2_500 {
            wheel.note(key(number), 10 + u64::try_from(number % 3).unwrap_or(0));
        }
        let mut taken = Vec::new();
        loop {
            let part = wheel.take(12, 1_000);
            if part.is_empty() {
                break;
            }
            assert!(part.len() <= 1_000);
            taken.extend(part);
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..2_500).map(key).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn who_waits_is_told_of_one_that_ends_sooner() {
        let deadlines = Deadlines::new();
        let lease = |number, left_us| LeaseLeft { group_key: key(number), left_us };
        deadlines.note(&[lease(1, 3_600_000_000)], Instant::now());
        let waiting = tokio::spawn({
            let deadlines = deadlines.clone();
            async move { deadlines.due(10).await }
        });
        tokio::task::yield_now().await;
        deadlines.note(&[lease(2, 1_000)], Instant::now());
        let due = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("in time").expect("no panic");
        assert_eq!(due, [key(2)]);
        assert_eq!(deadlines.len(), 1);
    }
}
