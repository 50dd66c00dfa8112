//! The heartbeats that wait for a transaction, and who comes next: tenants take turns, and within a
//! tenant its callers do.
//!
//! A transaction is bounded by the sessions that it reads and not by how many heartbeats it
//! answers. A group with many that has to be read whole is expensive: it has a transaction of its
//! own, and where there are others, only every second one. Whoever has such groups waits for
//! themselves; the others wait for one of them at most. One that was read in part the last time is
//! not expensive; if it turns out to be, it goes back into the line.
//!
//! Several writers may take from one line. The first takes whatever there is. The others come in
//! only where a whole transaction is left waiting: more transactions than needed make each of them
//! smaller, and so dearer. No two of them have heartbeats of one group at a time, or their
//! transactions would conflict.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use round_robin::RoundRobin;

mod round_robin;

/// From how many sessions on a group is expensive.
pub const EXPENSIVE: usize = 64;

/// The most sessions that one transaction of other groups reads.
const MAX_SESSIONS: usize = 4_096;

/// The most groups whose size is kept in mind. One whose size is not known counts as large as one
/// that is not expensive can be.
const MAX_SIZES: usize = 200_000;

/// How long the first writer may be in a transaction before others take what it would: whatever it
/// waits for, they may not.
const HANGS: Duration = Duration::from_millis(100);

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
    /// There is enough for one more than the first writer.
    much_arrived: Notify,
    capacity: usize,
}

/// Who takes from a line: writers are counted from the first.
pub const FIRST_WRITER: usize = 0;

/// Those who wait, by tenant and by caller.
type Tenants<T> = RoundRobin<Arc<str>, RoundRobin<Arc<str>, VecDeque<T>>>;

/// How large a group is.
#[derive(Clone, Copy)]
struct Size {
    sessions: u32,
    was_read_in_part: bool,
}

struct State<T> {
    cheap: Tenants<T>,
    expensive: Tenants<T>,
    sizes: HashMap<Uuid, Size>,
    /// Of these a size is kept only where they have many sessions.
    is_known: IsKnown,
    was_expensive: bool,
    is_closed: bool,
    /// The groups of each writer's transaction; empty where there is one writer.
    in_hand: Vec<HashSet<Uuid>>,
    /// Those whose group another writer has in hand, by group, in their order.
    parked: HashMap<Uuid, VecDeque<T>>,
    /// How many of them each tenant has.
    parked_of: HashMap<Arc<str>, usize>,
    /// Whether what was left by the last one to take is one more transaction, however few they are:
    /// its own reads as much as one may, or they are of a group with many.
    is_one_more: bool,
    /// Since when the first writer has been in a transaction.
    first_is_busy_since: Option<Instant>,
    /// How many have to wait before one of the other writers takes some.
    enough_for_others: usize,
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
            in_hand: Vec::new(),
            parked: HashMap::new(),
            parked_of: HashMap::new(),
            is_one_more: false,
            first_is_busy_since: None,
            enough_for_others: usize::MAX,
        };
        Line { state: Mutex::new(state), arrived: Notify::new(), much_arrived: Notify::new(), capacity }
    }

    /// The same for so many writers, whose transactions have so many heartbeats at most.
    pub fn for_writers(mut self, writers: usize, most: usize) -> Line<T> {
        if writers > 1 {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.in_hand = vec![HashSet::new(); writers];
            // One tenant alone has to be able to reach it.
            state.enough_for_others = most.min(self.capacity / 2).max(1);
        }
        self
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Puts one at the end of its caller's line, if there is a place.
    pub fn push(&self, one: T) -> Result<(), T> {
        let mut state = self.lock();
        let (tenant, _) = one.of();
        let parked = state.parked_of.get(tenant).copied().unwrap_or(0);
        let theirs = state.cheap.len_of(tenant) + state.expensive.len_of(tenant) + parked;
        if state.len() >= self.capacity || theirs >= (self.capacity - self.capacity / 4) || state.is_closed {
            return Err(one);
        }
        state.put(one, VecDeque::push_back);
        let is_much = state.is_much();
        drop(state);
        self.wake(is_much);
        Ok(())
    }

    fn wake(&self, is_much: bool) {
        self.arrived.notify_one();
        if is_much {
            self.much_arrived.notify_one();
        }
    }

    /// Waits for some and takes those of a writer's next transaction, so many at most; none once
    /// the line is closed and empty. Their groups are in its hand until they are released.
    pub async fn take(&self, writer: usize, most: usize) -> Vec<T> {
        let is_first = writer == FIRST_WRITER;
        let arrived = if is_first { &self.arrived } else { &self.much_arrived };
        loop {
            {
                let mut state = self.lock();
                let batch = if is_first || state.is_much() { state.take(writer, most) } else { Vec::new() };
                if is_first && !batch.is_empty() {
                    state.first_is_busy_since = Some(Instant::now());
                }
                let (is_more, is_much) = (state.waiting() > 0, state.is_much());
                // The first writer stays until all is done; the others are not needed then.
                let is_over = state.is_closed && (!is_first || state.len() == 0);
                drop(state);
                if !batch.is_empty() || is_over {
                    if is_more || is_over {
                        self.wake(is_much || is_over);
                    }
                    return batch;
                }
            }
            arrived.notified().await;
        }
    }

    /// Takes along what has come for a writer's transaction that has not begun.
    pub fn top_up(&self, writer: usize, batch: &mut Vec<T>, most: usize) {
        let mut state = self.lock();
        if batch.iter().all(|one| !state.is_expensive(one.group())) {
            // Those of its own groups that another writer came upon are before any that came later.
            let own: Vec<Uuid> = state.in_hand.get(writer).into_iter().flatten().copied().collect();
            state.unpark(&own);
            state.take_cheap(writer, batch, most);
            state.note_one_more();
        }
        let (is_more, is_much) = (state.waiting() > 0, state.is_much());
        drop(state);
        if is_more {
            self.wake(is_much);
        }
    }

    /// Notes that the transaction of a writer has ended: those who came meanwhile for its groups
    /// are the next of their callers.
    pub fn release(&self, writer: usize) {
        let mut state = self.lock();
        if writer == FIRST_WRITER {
            state.first_is_busy_since = None;
        }
        let Some(in_hand) = state.in_hand.get_mut(writer) else { return };
        let groups: Vec<Uuid> = in_hand.drain().collect();
        if state.unpark(&groups) {
            let is_much = state.is_much();
            drop(state);
            self.wake(is_much);
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

    /// Puts those of a writer's back that turn out to be expensive; what is left goes on. Those
    /// without a place are returned second.
    pub fn put_expensive_back(&self, writer: usize, batch: Vec<T>) -> (Vec<T>, Vec<T>) {
        let is_expensive = |one: &T| self.is_expensive(one.group());
        let (expensive, cheap): (Vec<T>, Vec<T>) = batch.into_iter().partition(is_expensive);
        let groups: Vec<Uuid> = expensive.iter().map(T::group).collect();
        let mut state = self.lock();
        if let Some(in_hand) = state.in_hand.get_mut(writer) {
            in_hand.retain(|group| !groups.contains(group));
        }
        state.unpark(&groups);
        drop(state);
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
        self.wake(true);
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

    /// All who have not been taken.
    fn len(&self) -> usize {
        self.waiting() + self.parked_of.values().sum::<usize>()
    }

    /// Those who can be taken.
    fn waiting(&self) -> usize {
        self.cheap.len() + self.expensive.len()
    }

    /// Whether there is a transaction for one more than the first writer.
    fn is_much(&self) -> bool {
        let hangs = || self.first_is_busy_since.is_some_and(|since| since.elapsed() > HANGS);
        let waiting = self.waiting();
        waiting >= self.enough_for_others || waiting > 0 && self.in_hand.len() > 1 && (self.is_one_more || hangs())
    }

    /// What is left after one has taken.
    fn note_one_more(&mut self) {
        self.is_one_more &= self.waiting() > 0;
        self.is_one_more |= self.expensive.len() > 0;
    }

    /// Puts one into its caller's line, at one of its ends.
    fn put(&mut self, one: T, at_an_end: fn(&mut VecDeque<T>, T)) {
        let (tenant, caller) = one.of();
        let (tenant, caller) = (tenant.clone(), caller.clone());
        let tenants = if self.is_expensive(one.group()) { &mut self.expensive } else { &mut self.cheap };
        tenants.with(tenant, |callers| callers.with(caller, |line| at_an_end(line, one)));
    }

    /// Whether a writer may have this group now; if so, it has.
    fn take_in_hand(&mut self, writer: usize, group: Uuid) -> bool {
        let is_free =
            self.in_hand.iter().enumerate().all(|(other, groups)| other == writer || !groups.contains(&group));
        if is_free && let Some(groups) = self.in_hand.get_mut(writer) {
            groups.insert(group);
        }
        is_free
    }

    fn park(&mut self, one: T) {
        *self.parked_of.entry(one.of().0.clone()).or_default() += 1;
        self.parked.entry(one.group()).or_default().push_back(one);
    }

    /// Those parked of these groups are the next of their callers; whether there were any.
    fn unpark(&mut self, groups: &[Uuid]) -> bool {
        let mut were_any = false;
        for group in groups {
            for one in self.parked.remove(group).into_iter().flatten().rev() {
                were_any = true;
                let (tenant, _) = one.of();
                if let Some(count) = self.parked_of.get_mut(tenant) {
                    *count -= 1;
                    if *count == 0 {
                        self.parked_of.remove(tenant);
                    }
                }
                self.put(one, VecDeque::push_front);
            }
        }
        were_any
    }

    fn take(&mut self, writer: usize, most: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let is_expensive_due = self.cheap.len() == 0 || !self.was_expensive;
        if is_expensive_due {
            self.take_expensive(writer, &mut batch, most);
        }
        self.was_expensive = !batch.is_empty();
        if batch.is_empty() {
            self.take_cheap(writer, &mut batch, most);
        }
        // Not due, but of the others there was none that could be taken.
        if batch.is_empty() {
            self.take_expensive(writer, &mut batch, most);
            self.was_expensive = !batch.is_empty();
        }
        self.is_one_more |= self.was_expensive;
        self.note_one_more();
        batch
    }

    /// All heartbeats of one group: it is read once for them.
    fn take_expensive(&mut self, writer: usize, batch: &mut Vec<T>, most: usize) {
        let first = loop {
            let Some(one) = next_of(&mut self.expensive) else { return };
            if self.take_in_hand(writer, one.group()) {
                break one;
            }
            self.park(one);
        };
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

    fn take_cheap(&mut self, writer: usize, batch: &mut Vec<T>, most: usize) {
        let mut groups: HashSet<Uuid> = batch.iter().map(T::group).collect();
        let mut sessions: usize = groups.iter().map(|group| self.size(group)).sum();
        self.is_one_more = false;
        while batch.len() < most {
            if sessions >= MAX_SESSIONS {
                self.is_one_more = true;
                return;
            }
            let Some(one) = next_of(&mut self.cheap) else { return };
            if !self.take_in_hand(writer, one.group()) {
                self.park(one);
                continue;
            }
            if groups.insert(one.group()) {
                sessions += self.size(&one.group());
            }
            batch.push(one);
        }
    }
}

/// The next one whose answer is waited for, of the next caller of the next tenant.
fn next_of<T: Waits>(tenants: &mut Tenants<T>) -> Option<T> {
    while tenants.len() > 0 {
        let one = tenants.next(|callers| callers.next(|line| line.pop_front()));
        if let Some(one) = one.flatten().flatten().filter(T::is_waited_for) {
            return Some(one);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

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
        assert_eq!(shown(&line.take(FIRST_WRITER, 4).await), ["ax1", "bz1", "ay1", "bz1"]);
        line.push(beat("b", "z", 2)).unwrap();
        assert_eq!(shown(&line.take(FIRST_WRITER, 4).await), ["ax1", "bz2", "ax1"]);
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
        assert_eq!(shown(&line.take(FIRST_WRITER, 2).await), ["ax7", "ay7"]);
        assert_eq!(shown(&line.take(FIRST_WRITER, 2).await), ["bz1", "bz1"]);
        let mut expensive = line.take(FIRST_WRITER, 9).await;
        line.top_up(FIRST_WRITER, &mut expensive, 100);
        assert_eq!(shown(&expensive), ["ax8", "ax8"]);
        let mut cheap = line.take(FIRST_WRITER, 1).await;
        line.top_up(FIRST_WRITER, &mut cheap, 100);
        assert_eq!(shown(&cheap), ["bz1", "bz1"]);
        assert_eq!(line.take(FIRST_WRITER, 9).await.len(), 2);
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
        assert_eq!(line.take(FIRST_WRITER, 1_000).await.len(), 127);
        line.note_sizes((0..500).map(|group| (Uuid::from_u128(group), SizeRead::Whole(2))));
        assert_eq!(line.take(FIRST_WRITER, 10_000).await.len(), 873);
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
        assert_eq!(line.take(FIRST_WRITER, 1_000).await.len(), 750);
        assert_eq!(line.len(), 0);
        line.close();
        assert!(line.take(FIRST_WRITER, 1).await.is_empty() && line.take(FIRST_WRITER, 1).await.is_empty());
        assert!(line.push(beat("a", "x", 1)).is_err());
    }

    #[tokio::test]
    async fn another_writer_comes_in_where_a_whole_transaction_waits_and_has_no_group_of_the_first_one() {
        let line = line(&[(1, 2), (2, 2), (3, 2)]).for_writers(2, 3);
        for group in [1, 2] {
            line.push(beat("a", "x", group)).unwrap();
        }
        assert!(line.take(1, 3).now_or_never().is_none(), "two are not enough");
        assert_eq!(shown(&line.take(FIRST_WRITER, 3).await), ["ax1", "ax2"]);
        for group in [2, 3, 2, 1] {
            line.push(beat("a", "x", group)).unwrap();
        }
        assert_eq!(shown(&line.take(1, 3).await), ["ax3"]);
        line.push(beat("a", "x", 3)).unwrap();
        line.release(FIRST_WRITER);
        assert_eq!(shown(&line.take(FIRST_WRITER, 9).await).len(), 3);
        assert_eq!(line.len(), 1, "the other one has its group");
        assert!(line.take(FIRST_WRITER, 9).now_or_never().is_none());
        line.release(1);
        assert_eq!(shown(&line.take(FIRST_WRITER, 9).await), ["ax3"]);
    }

    #[tokio::test]
    async fn another_writer_comes_in_for_few_where_the_first_ones_transaction_is_full() {
        let line = line(&[(1, 2), (8, 1_000), (9, 1_000)]).for_writers(2, 500);
        for group in [8, 9, 1] {
            line.push(beat("a", "x", group)).unwrap();
        }
        assert_eq!(shown(&line.take(FIRST_WRITER, 500).await), ["ax8"]);
        assert_eq!(shown(&line.take(1, 500).await), ["ax1"]);
        line.release(1);
        assert_eq!(shown(&line.take(1, 500).await), ["ax9"], "a group with many is one more transaction");
        line.release(1);
        line.push(beat("a", "x", 1)).unwrap();
        assert!(line.take(1, 500).now_or_never().is_none());
        // Of unknown size, so that few go into a transaction.
        let few = super::tests::line(&[]).for_writers(2, 500);
        for group in 0..100 {
            few.push(beat("a", "x", group)).unwrap();
        }
        assert_eq!(few.take(FIRST_WRITER, 500).await.len(), 64);
        assert_eq!(few.take(1, 500).await.len(), 36);
    }

    #[tokio::test]
    async fn another_writer_comes_in_for_few_where_the_first_one_hangs() {
        let line = line(&[(1, 2), (2, 2)]).for_writers(2, 500);
        line.push(beat("a", "x", 1)).unwrap();
        line.take(FIRST_WRITER, 500).await;
        line.push(beat("a", "x", 2)).unwrap();
        assert!(line.take(1, 500).now_or_never().is_none());
        line.lock().first_is_busy_since = Instant::now().checked_sub(2 * HANGS);
        assert_eq!(shown(&line.take(1, 500).await), ["ax2"]);
    }

    #[tokio::test]
    async fn who_does_not_fit_into_a_transaction_that_is_topped_up_is_not_forgotten() {
        let line = line(&[(1, 2)]).for_writers(2, 1);
        line.push(beat("a", "x", 1)).unwrap();
        let mut batch = line.take(1, 1).await;
        line.push(beat("a", "x", 1)).unwrap();
        let first = line.take(FIRST_WRITER, 9);
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending(), "another one has its group");
        line.top_up(1, &mut batch, 1);
        line.release(1);
        assert_eq!(shown(&first.await), ["ax1"]);
    }

    #[tokio::test]
    async fn a_group_with_many_that_is_not_due_is_taken_where_all_others_are_in_another_hand() {
        let line = line(&[(1, 2), (8, 1_000), (9, 1_000)]).for_writers(2, 1);
        line.push(beat("a", "x", 1)).unwrap();
        assert_eq!(shown(&line.take(1, 9).await), ["ax1"]);
        line.push(beat("a", "x", 8)).unwrap();
        assert_eq!(shown(&line.take(FIRST_WRITER, 9).await), ["ax8"]);
        line.release(FIRST_WRITER);
        line.push(beat("a", "y", 1)).unwrap();
        line.push(beat("a", "y", 9)).unwrap();
        assert_eq!(shown(&line.take(FIRST_WRITER, 9).await), ["ay9"]);
        assert_eq!(line.len(), 1);
    }

    #[tokio::test]
    async fn who_was_passed_over_is_in_a_transaction_that_is_topped_up() {
        let line = line(&[(1, 2), (2, 2)]).for_writers(2, 1);
        line.push(beat("a", "x", 1)).unwrap();
        let mut batch = line.take(FIRST_WRITER, 9).await;
        line.push(beat("a", "y", 1)).unwrap();
        line.push(beat("a", "y", 2)).unwrap();
        assert_eq!(shown(&line.take(1, 9).await), ["ay2"], "it passes over the first one's group");
        line.top_up(FIRST_WRITER, &mut batch, 9);
        assert_eq!(shown(&batch), ["ax1", "ay1"]);
        assert_eq!(line.len(), 0);
    }

    #[tokio::test]
    async fn a_closed_line_is_emptied_by_the_first_writer_once_the_others_have_ended() {
        let line = line(&[(1, 2)]).for_writers(2, 2);
        line.push(beat("a", "x", 1)).unwrap();
        line.push(beat("a", "x", 1)).unwrap();
        assert_eq!(shown(&line.take(1, 9).await), ["ax1", "ax1"]);
        line.push(beat("a", "y", 1)).unwrap();
        line.close();
        let first = async {
            let batch = line.take(FIRST_WRITER, 9).await;
            line.release(FIRST_WRITER);
            (shown(&batch), line.take(FIRST_WRITER, 9).await.len())
        };
        let other = async {
            tokio::task::yield_now().await;
            line.release(1);
            line.take(1, 9).await.len()
        };
        assert_eq!(tokio::join!(first, other), ((vec!["ay1".to_owned()], 0), 0));
    }
}
