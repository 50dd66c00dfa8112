//! The heartbeats that wait for a transaction, and who comes next: tenants take turns, and within a
//! tenant its callers do.
//!
//! A transaction is bounded by the sessions that it reads and not by how many heartbeats it
//! answers. A group with many that has to be read whole is expensive: it has a transaction of its
//! own, and where there are others, only every second one. Whoever has such groups waits for
//! themselves; the others wait for one of them at most. One that was read in part the last time is
//! not expensive; if it turns out to be, it goes back into the line.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// From how many sessions on a group is expensive.
pub const EXPENSIVE: usize = 64;

/// The most sessions that one transaction of other groups reads.
const MAX_SESSIONS: usize = 4_096;

/// The most groups whose size is kept in mind. One whose size is not known counts as large as one
/// that is not expensive can be.
const MAX_SIZES: usize = 200_000;

/// As how large a group counts that is read in part: its row, its Primary and one more.
const PART: usize = 2;

/// What has a place in the line.
pub trait Waits {
    /// Whose it is: the tenant first, then the caller.
    fn of(&self) -> (&Arc<str>, &Arc<str>);
    /// The group that it takes.
    fn group(&self) -> Uuid;
    /// Whether anybody still waits for its answer.
    fn is_waited_for(&self) -> bool;
}

/// How much of a group a transaction read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeRead {
    /// It is to be read whole.
    Nothing,
    /// A few of its sessions.
    Part,
    /// All of them: so many.
    Whole(usize),
}

/// Whether the rows of a group are read by where they lie.
type IsKnown = Box<dyn Fn(&Uuid) -> bool + Send + Sync>;

/// See the module.
pub struct Line<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
    capacity: usize,
}

/// How large a group is.
#[derive(Clone, Copy)]
struct Size {
    sessions: u32,
    was_read_in_part: bool,
}

struct State<T> {
    cheap: RoundRobin<Arc<str>, RoundRobin<Arc<str>, VecDeque<T>>>,
    expensive: RoundRobin<Arc<str>, RoundRobin<Arc<str>, VecDeque<T>>>,
    sizes: HashMap<Uuid, Size>,
    /// Of these a size is kept only where they have many sessions.
    is_known: IsKnown,
    was_expensive: bool,
    is_closed: bool,
}

impl<T: Waits> Line<T> {
    /// A line with so many places. One tenant gets three quarters of them at most.
    /// `is_known` says of which groups the rows are read by where they lie.
    pub fn new(capacity: usize, is_known: impl Fn(&Uuid) -> bool + Send + Sync + 'static) -> Line<T> {
        let is_known = Box::new(is_known);
        let state = State {
            cheap: RoundRobin::default(),
            expensive: RoundRobin::default(),
            sizes: HashMap::new(),
            is_known,
            was_expensive: false,
            is_closed: false,
        };
        Line { state: Mutex::new(state), arrived: Notify::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let state = self.lock();
        state.cheap.len() + state.expensive.len()
    }

    /// Puts one at the end of its caller's line, if there is a place.
    pub fn push(&self, one: T) -> Result<(), T> {
        let mut state = self.lock();
        let (tenant, caller) = one.of();
        let (tenant, caller) = (tenant.clone(), caller.clone());
        let theirs = state.cheap.len_of(&tenant) + state.expensive.len_of(&tenant);
        let all = state.cheap.len() + state.expensive.len();
        if all >= self.capacity || theirs >= (self.capacity - self.capacity / 4) || state.is_closed {
            return Err(one);
        }
        let line = if state.is_expensive(one.group()) { &mut state.expensive } else { &mut state.cheap };
        line.with(tenant, |callers| callers.with(caller, |line| line.push_back(one)));
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for some and takes those of the next transaction, so many at most; none once the line
    /// is closed and empty.
    pub async fn take(&self, most: usize) -> Vec<T> {
        loop {
            {
                let mut state = self.lock();
                let batch = state.take(most);
                if !batch.is_empty() {
                    let is_more = state.cheap.len() + state.expensive.len() > 0;
                    drop(state);
                    if is_more {
                        self.arrived.notify_one();
                    }
                    return batch;
                }
                if state.is_closed {
                    drop(state);
                    self.arrived.notify_one();
                    return batch;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes along what has come for a transaction that has not begun.
    pub fn top_up(&self, batch: &mut Vec<T>, most: usize) {
        let mut state = self.lock();
        if batch.iter().all(|one| !state.is_expensive(one.group())) {
            state.take_cheap(batch, most);
        }
    }

    /// Of these, the groups whose size is not known, each once.
    pub fn unknown_groups(&self, batch: &[T]) -> Vec<Uuid> {
        let state = self.lock();
        let is_unknown = |group: &Uuid| !state.sizes.contains_key(group) && !(state.is_known)(group);
        let groups: HashSet<Uuid> = batch.iter().map(T::group).filter(is_unknown).collect();
        groups.into_iter().collect()
    }

    /// Of each group whether it is known to have many sessions.
    pub fn are_large(&self, groups: &[Uuid]) -> Vec<bool> {
        let state = self.lock();
        groups.iter().map(|group| state.sizes.get(group).is_some_and(|size| size.is_large())).collect()
    }

    fn is_expensive(&self, group: Uuid) -> bool {
        self.lock().is_expensive(group)
    }

    /// Puts those back that turn out to be expensive; what is left goes on. Those without a place
    /// are returned second.
    pub fn put_expensive_back(&self, batch: Vec<T>) -> (Vec<T>, Vec<T>) {
        let is_expensive = |one: &T| self.is_expensive(one.group());
        let (expensive, cheap): (Vec<T>, Vec<T>) = batch.into_iter().partition(is_expensive);
        (cheap, expensive.into_iter().filter_map(|one| self.push(one).err()).collect())
    }

    /// Notes how much was read of groups, or is to be.
    pub fn note_sizes(&self, sizes: impl Iterator<Item = (Uuid, SizeRead)>) {
        let mut state = self.lock();
        if state.sizes.len() >= MAX_SIZES {
            state.sizes.clear();
        }
        for (group, read) in sizes {
            match read {
                SizeRead::Whole(sessions) if sessions < EXPENSIVE && (state.is_known)(&group) => {
                    state.sizes.remove(&group);
                }
                SizeRead::Whole(sessions) => {
                    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
                    state.sizes.insert(group, Size { sessions, was_read_in_part: false });
                }
                SizeRead::Part | SizeRead::Nothing => {
                    if let Some(size) = state.sizes.get_mut(&group) {
                        size.was_read_in_part = read == SizeRead::Part;
                    }
                }
            }
        }
    }

    /// Nobody will come any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_one();
    }
}

impl Size {
    fn is_large(self) -> bool {
        self.sessions as usize >= EXPENSIVE
    }
}

impl<T: Waits> State<T> {
    fn is_expensive(&self, group: Uuid) -> bool {
        self.sizes.get(&group).is_some_and(|size| size.is_large() && !size.was_read_in_part)
    }

    /// As how large a group counts in a transaction.
    fn size(&self, group: &Uuid) -> usize {
        match self.sizes.get(group) {
            Some(size) if size.was_read_in_part => PART,
            Some(size) => (size.sessions as usize).max(1),
            None if (self.is_known)(group) => PART,
            None => EXPENSIVE,
        }
    }

    fn take(&mut self, most: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let is_expensive_due = self.cheap.len() == 0 || !self.was_expensive;
        if is_expensive_due {
            self.take_expensive(&mut batch, most);
        }
        self.was_expensive = !batch.is_empty();
        if batch.is_empty() {
            self.take_cheap(&mut batch, most);
        }
        batch
    }

    /// All heartbeats of one group: it is read once for them.
    fn take_expensive(&mut self, batch: &mut Vec<T>, most: usize) {
        let Some(first) = next_of(&mut self.expensive) else { return };
        let tenant = first.of().0.clone();
        let group = first.group();
        batch.push(first);
        self.expensive.with(tenant, |callers| {
            callers.each(|line| {
                let mut others = VecDeque::new();
                for one in line.drain(..) {
                    if one.group() == group && batch.len() < most { batch.push(one) } else { others.push_back(one) }
                }
                *line = others;
            });
        });
    }

    fn take_cheap(&mut self, batch: &mut Vec<T>, most: usize) {
        let mut groups: HashSet<Uuid> = batch.iter().map(T::group).collect();
        let mut sessions: usize = groups.iter().map(|group| self.size(group)).sum();
        while batch.len() < most && sessions < MAX_SESSIONS {
            let Some(one) = next_of(&mut self.cheap) else { return };
            if groups.insert(one.group()) {
                sessions += self.size(&one.group());
            }
            batch.push(one);
        }
    }
}

/// The next one whose answer is waited for, of the next caller of the next tenant.
fn next_of<T: Waits>(tenants: &mut RoundRobin<Arc<str>, RoundRobin<Arc<str>, VecDeque<T>>>) -> Option<T> {
    while tenants.len() > 0 {
        let one = tenants.next(|callers| callers.next(|line| line.pop_front()));
        if let Some(one) = one.flatten().flatten().filter(T::is_waited_for) {
            return Some(one);
        }
    }
    None
}

/// Something with a number of places that are taken.
trait Counted: Default {
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
struct RoundRobin<K, L> {
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
    fn len(&self) -> usize {
        self.count
    }

    fn len_of(&self, key: &K) -> usize {
        self.lines.get(key).map_or(0, Counted::count)
    }

    /// Changes a line; one that is new comes after the others.
    fn with<R>(&mut self, key: K, change: impl FnOnce(&mut L) -> R) -> R {
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
    fn next<R>(&mut self, take: impl FnOnce(&mut L) -> R) -> Option<R> {
        let key = self.order.front()?.clone();
        self.order.rotate_left(1);
        Some(self.with(key, take))
    }

    /// Takes out of all lines.
    fn each(&mut self, mut take: impl FnMut(&mut L)) {
        for key in self.order.clone() {
            self.with(key, &mut take);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Beat {
        tenant: Arc<str>,
        caller: Arc<str>,
        group: Uuid,
        is_waited_for: bool,
    }

    impl Waits for Beat {
        fn of(&self) -> (&Arc<str>, &Arc<str>) {
            (&self.tenant, &self.caller)
        }

        fn group(&self) -> Uuid {
            self.group
        }

        fn is_waited_for(&self) -> bool {
            self.is_waited_for
        }
    }

    fn beat(tenant: &str, caller: &str, group: u128) -> Beat {
        Beat { tenant: tenant.into(), caller: caller.into(), group: Uuid::from_u128(group), is_waited_for: true }
    }

    fn line(sizes: &[(u128, usize)]) -> Line<Beat> {
        let line = Line::new(2_000, |_| false);
        line.note_sizes(sizes.iter().map(|(group, size)| (Uuid::from_u128(*group), SizeRead::Whole(*size))));
        line
    }

    fn shown(batch: &[Beat]) -> Vec<String> {
        batch.iter().map(|one| format!("{}{}{}", one.tenant, one.caller, one.group.as_u128())).collect()
    }

    #[tokio::test]
    async fn tenants_take_turns_and_so_do_the_callers_of_each() {
        let line = line(&[(1, 2), (2, 2)]);
        for (tenant, caller) in [("a", "x"), ("a", "x"), ("a", "x"), ("a", "y"), ("b", "z"), ("b", "z")] {
            line.push(beat(tenant, caller, 1)).unwrap();
        }
        assert_eq!(shown(&line.take(4).await), ["ax1", "bz1", "ay1", "bz1"]);
        line.push(beat("b", "z", 2)).unwrap();
        assert_eq!(shown(&line.take(4).await), ["ax1", "bz2", "ax1"]);
        assert_eq!(line.len(), 0);
    }

    #[tokio::test]
    async fn an_expensive_group_is_alone_and_every_second_time_and_is_read_once_for_all_of_its_heartbeats() {
        let line = line(&[(1, 2), (7, 1_000), (8, 1_000)]);
        for group in [7, 8, 7, 7, 8] {
            line.push(beat("a", "x", group)).unwrap();
        }
        line.push(beat("a", "y", 7)).unwrap();
        for _ in 0..4 {
            line.push(beat("b", "z", 1)).unwrap();
        }
        assert_eq!(shown(&line.take(2).await), ["ax7", "ay7"]);
        assert_eq!(shown(&line.take(2).await), ["bz1", "bz1"]);
        let mut expensive = line.take(9).await;
        line.top_up(&mut expensive, 100);
        assert_eq!(shown(&expensive), ["ax8", "ax8"]);
        let mut cheap = line.take(1).await;
        line.top_up(&mut cheap, 100);
        assert_eq!(shown(&cheap), ["bz1", "bz1"]);
        assert_eq!(line.take(9).await.len(), 2);
        assert_eq!(line.len(), 0);
    }

    #[tokio::test]
    async fn a_transaction_is_bounded_by_what_it_reads() {
        let line = line(&[]);
        for group in 0..500 {
            line.push(beat("a", "x", group)).unwrap();
            line.push(beat("a", "x", group)).unwrap();
        }
        // Of unknown size; each counts once however many heartbeats it gets.
        assert_eq!(line.take(1_000).await.len(), 127);
        line.note_sizes((0..500).map(|group| (Uuid::from_u128(group), SizeRead::Whole(2))));
        assert_eq!(line.take(10_000).await.len(), 873);
    }

    #[tokio::test]
    async fn one_tenant_does_not_take_all_places_and_who_is_gone_is_passed_over() {
        let line = Line::new(1_000, |_| false);
        let taken = (0..1_000).filter(|_| line.push(beat("a", "x", 1)).is_ok()).count();
        assert_eq!(taken, 750);
        for _ in 0..250 {
            line.push(Beat { is_waited_for: false, ..beat("b", "z", 1) }).unwrap();
        }
        assert!(line.push(beat("c", "z", 1)).is_err());
        assert_eq!(line.take(1_000).await.len(), 750);
        assert_eq!(line.len(), 0);
        line.close();
        assert!(line.take(1).await.is_empty() && line.take(1).await.is_empty());
        assert!(line.push(beat("a", "x", 1)).is_err());
    }
}
