//! Groups of which somebody holds a row: a person at a prompt, a replica that is paused in the
//! middle. Their heartbeats wait apart, so that one obstinate row does not hold up those of all
//! other groups.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// For how long a group is taken for held when it is found so; twice as long each time that it is
/// found again. Its heartbeats are tried all the same, apart from others. Where commits are slow, a
/// row may well be held for a moment.
const SPELL: Duration = Duration::from_millis(250);

/// The longest that it gets.
const LONGEST_SPELL: Duration = Duration::from_secs(2);

/// Shared by the writers of a replica.
#[derive(Default)]
pub struct HeldGroups(Mutex<HashMap<Uuid, Spell>>);

struct Spell {
    until: Instant,
    lasts: Duration,
}

impl HeldGroups {
    /// Notes that these were found held.
    pub fn note(&self, keys: &[Uuid]) {
        let now = Instant::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended a while ago is no habit.
        held.retain(|_, spell| now.saturating_duration_since(spell.until) < LONGEST_SPELL);
        for key in keys {
            let lasts = held.get(key).map_or(SPELL, |spell| LONGEST_SPELL.min(2 * spell.lasts));
            held.insert(*key, Spell { until: now + lasts, lasts });
        }
    }

    /// Takes out of a batch what is of held groups; what is of one group stays together.
    pub fn take_out<T>(&self, batch: &mut Vec<T>, key_of: impl Fn(&T) -> Uuid) -> Vec<Vec<T>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let is_held = |waiting: &mut T| held.get(&key_of(waiting)).is_some_and(|spell| spell.until > now);
        let mut parts: HashMap<Uuid, Vec<T>> = HashMap::new();
        for waiting in batch.extract_if(.., is_held) {
            parts.entry(key_of(&waiting)).or_default().push(waiting);
        }
        parts.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_a_held_group_is_taken_out_together_and_the_rest_stays() {
        let held = HeldGroups::default();
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let mut batch = vec![(a, 1), (b, 2), (a, 3), (c, 4)];
        assert_eq!(held.take_out(&mut batch, |(key, _)| *key), Vec::<Vec<(Uuid, i32)>>::new());
        held.note(&[a]);
        assert_eq!(held.take_out(&mut batch, |(key, _)| *key), [[(a, 1), (a, 3)]]);
        assert_eq!(batch, [(b, 2), (c, 4)]);
    }
}
