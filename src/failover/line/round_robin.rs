//! Lines that take turns, each with a number of places that are taken.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Something with a number of places that are taken.
pub(super) trait Counted: Default {
    fn count(&self) -> usize;
}

impl<T> Counted for VecDeque<T> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl<K, L> Counted for RoundRobin<K, L>
where
    RoundRobin<K, L>: Default,
{
    fn count(&self) -> usize {
        self.count
    }
}

/// Lines that take turns; only those in which somebody waits are there.
pub(super) struct RoundRobin<K, L> {
    order: VecDeque<K>,
    lines: HashMap<K, L>,
    count: usize,
}

impl<K, L> Default for RoundRobin<K, L> {
    fn default() -> RoundRobin<K, L> {
        RoundRobin { order: VecDeque::new(), lines: HashMap::new(), count: 0 }
    }
}

impl<K: Clone + Eq + Hash, L: Counted> RoundRobin<K, L> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn len_of(&self, key: &K) -> usize {
        self.lines.get(key).map_or(0, Counted::count)
    }

    /// Changes a line; one that is new comes after the others.
    pub(super) fn with<R>(&mut self, key: K, change: impl FnOnce(&mut L) -> R) -> R {
        let line = self.lines.entry(key.clone()).or_default();
        let before = line.count();
        let changed = change(line);
        let after = line.count();
        self.count = self.count + after - before;
        match (before, after) {
            (0, 0) => drop(self.lines.remove(&key)),
            (0, _) => self.order.push_back(key),
            (_, 0) => {
                self.lines.remove(&key);
                self.order.retain(|other| *other != key);
            }
            _ => {}
        }
        changed
    }

    /// Takes from the line whose turn it is; then it is the next one's.
    pub(super) fn next<R>(&mut self, take: impl FnOnce(&mut L) -> R) -> Option<R> {
        let key = self.order.front()?.clone();
        self.order.rotate_left(1);
        Some(self.with(key, take))
    }

    /// Takes out of all lines.
    pub(super) fn each(&mut self, mut take: impl FnMut(&mut L)) {
        for key in self.order.clone() {
            self.with(key, &mut take);
        }
    }
}
