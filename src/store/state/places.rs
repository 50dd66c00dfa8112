//! Where rows of groups lie in their tables, as this replica last read or wrote them, so that a
//! heartbeat which changes no role needs no walk along an index.
//!
//! These are hints, and nothing of what a row says is remembered. What lies at a place is read in
//! the transaction's own snapshot and goes by the key that is in it: a row that has moved, was
//! deleted, or is of another group is not found, and its group is read by its key.
//!
//! Where another replica hears from sessions of a group as well, their rows move behind our back,
//! and to seek them in vain costs a statement. So a group is sought by its places once its rows
//! were found where this replica had left them, and not again before that has led to a commit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use uuid::Uuid;

use super::StoredGroup;
use crate::arbitration::Role;
use crate::ids::hash_of;
use crate::store::columns::RowPlace;

/// The most sessions whose places are kept in mind: some 30 bytes each.
const MAX_SESSIONS: usize = 2_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct RowPlaces(Mutex<Known>);

/// There may be a million groups, so this is packed: the table has no more than a number for each.
#[derive(Debug, Default)]
struct Known {
    numbers: HashTable<u32>,
    groups: Vec<GroupPlaces>,
    sessions: usize,
    /// Of which of the histories that this replica has worked in.
    epoch: u64,
}

#[derive(Debug)]
struct GroupPlaces {
    /// Of the group's key.
    hash: u64,
    row: RowPlace,
    /// Whether its rows were where they had been left when they were last read, and what was read
    /// has led to a commit.
    stayed: bool,
    members: Members,
}

/// The sessions with a heartbeat: the Primary first, the others in order of their tags.
#[derive(Debug)]
enum Members {
    One([Member; 1]),
    Two([Member; 2]),
    More(Vec<Member>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    tag: Tag,
    session: RowPlace,
    heartbeat: RowPlace,
}

/// A hash of a session's id. Two sessions of a group with one tag are read by their key.
type Tag = [u8; 4];

/// What of a group is to be read by its places: its row, its Primary, and those whose heartbeats
/// are decided.
#[derive(Debug)]
pub struct Sought {
    pub(super) key: Uuid,
    pub(super) row: RowPlace,
    /// Of each session its row's place and its heartbeat's.
    pub(super) members: Vec<(RowPlace, RowPlace)>,
}

impl RowPlaces {
    fn known(&self, epoch: u64) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.epoch < epoch {
            *known = Known { epoch, ..Known::default() };
        }
        known
    }

    /// Whether the rows of a group can be sought by their places.
    pub fn knows(&self, key: &Uuid) -> bool {
        self.known(0).find(hash_of(key)).is_some_and(|places| places.stayed)
    }

    /// Of each of these groups what is to be read for heartbeats of these sessions, each given with
    /// its group's place among the keys; `None` for a group of which too little is known.
    pub fn seek<'r>(
        &self,
        keys: &[Uuid],
        sessions: impl Iterator<Item = (usize, &'r str)>,
        epoch: u64,
    ) -> Vec<Option<Sought>> {
        let mut known = self.known(epoch);
        let groups: Vec<Option<&GroupPlaces>> = keys.iter().map(|key| known.find(hash_of(key))).collect();
        let begin = |(key, places): (&Uuid, &Option<&GroupPlaces>)| {
            let places = (*places).filter(|places| places.stayed)?;
            let primary = places.members.slice().first()?;
            Some(Sought { key: *key, row: places.row, members: vec![(primary.session, primary.heartbeat)] })
        };
        let mut sought: Vec<Option<Sought>> = std::iter::zip(keys, &groups).map(begin).collect();
        for (place, session) in sessions {
            let (Some(places), Some(so_far)) = (groups[place], &mut sought[place]) else { continue };
            match places.members.find(tag_of(session)) {
                Some(member) if so_far.members.iter().any(|(row, _)| *row == member.session) => {}
                Some(member) => so_far.members.push((member.session, member.heartbeat)),
                None => sought[place] = None,
            }
        }
        for sought in sought.iter().flatten() {
            if let Some(places) = known.find_mut(hash_of(&sought.key)) {
                places.stayed = false;
            }
        }
        sought
    }

    /// Notes with groups that were read, and not written yet, whether their rows are where they
    /// were left.
    pub fn compare(&self, groups: &mut [StoredGroup], epoch: u64) {
        let known = self.known(epoch);
        for stored in groups {
            let Some(places) = known.find(hash_of(&stored.key.0)) else { continue };
            stored.stayed = places_of(stored).is_some_and(|found| {
                let stayed = |member: &Member| places.members.find(member.tag) == Some(member);
                found.row == places.row && found.members.iter().all(stayed)
            });
        }
    }

    /// Learns from a transaction that was committed where the rows lie that it read, and those that
    /// it wrote.
    pub fn learn(&self, groups: &[StoredGroup], epoch: u64) {
        let mut known = self.known(epoch);
        if known.epoch != epoch {
            return;
        }
        if known.sessions > MAX_SESSIONS {
            *known = Known { epoch, ..Known::default() };
        }
        for stored in groups {
            match places_of(stored) {
                Some(found) => known.learn(hash_of(&stored.key.0), found),
                None => known.forget(hash_of(&stored.key.0)),
            }
        }
    }
}

/// Where rows of a group lie after a transaction.
struct Found {
    row: RowPlace,
    /// The sessions with heartbeats that were read, the Primary first and the others in order of
    /// their tags.
    members: Vec<Member>,
    /// Whether it has others.
    is_part: bool,
    /// Whether the transaction found all of this where it had been left.
    stayed: bool,
}

/// Nothing where the group cannot be read by its places.
fn places_of(stored: &StoredGroup) -> Option<Found> {
    // What was written of it lies elsewhere now.
    let is_as_found = stored.trace.is_empty() && !stored.shared_changed();
    let primary = stored.group.holder(Role::Primary).filter(|_| is_as_found && stored.is_settled())?;
    let member = |s: usize| {
        let (session, heartbeat) = (stored.found.sessions[s]?, stored.found.heartbeats[s]?);
        Some(Member { tag: tag_of(&stored.session_ids[s]), session, heartbeat })
    };
    let others = (0..stored.session_ids.len()).filter(|s| *s != primary).filter_map(member);
    let mut members = vec![member(primary)?];
    members.extend(others);
    members[1..].sort_unstable_by_key(|member| member.tag);
    Some(Found { row: stored.found.row?, members, is_part: stored.is_part, stayed: stored.stayed })
}

impl Known {
    fn find(&self, hash: u64) -> Option<&GroupPlaces> {
        let is_it = |number: &u32| self.groups[*number as usize].hash == hash;
        self.numbers.find(hash, is_it).map(|number| &self.groups[*number as usize])
    }

    fn find_mut(&mut self, hash: u64) -> Option<&mut GroupPlaces> {
        let Known { numbers, groups, .. } = self;
        let number = numbers.find(hash, |number| groups[*number as usize].hash == hash)?;
        groups.get_mut(*number as usize)
    }

    fn learn(&mut self, hash: u64, found: Found) {
        let Known { numbers, groups, sessions, .. } = self;
        let hash_of = |number: &u32| groups[*number as usize].hash;
        match numbers.entry(hash, |number| hash_of(number) == hash, hash_of) {
            Entry::Occupied(number) => {
                let known = &mut groups[*number.get() as usize];
                *sessions -= known.members.slice().len();
                known.row = found.row;
                known.stayed = found.stayed;
                known.members.learn(found.members, found.is_part);
                *sessions += known.members.slice().len();
            }
            Entry::Vacant(vacant) => {
                let Ok(number) = u32::try_from(groups.len()) else { return };
                vacant.insert(number);
                *sessions += found.members.len();
                let members = Members::of(found.members);
                groups.push(GroupPlaces { hash, row: found.row, stayed: found.stayed, members });
            }
        }
    }

    fn forget(&mut self, hash: u64) {
        let Known { numbers, groups, sessions, .. } = self;
        let Ok(entry) = numbers.find_entry(hash, |number| groups[*number as usize].hash == hash) else { return };
        let (number, _) = entry.remove();
        let gone = groups.swap_remove(number as usize);
        *sessions -= gone.members.slice().len();
        // The last one is where that was.
        if let Some(moved) = groups.get(number as usize) {
            let was = groups.len() as u32;
            if let Some(its) = numbers.find_mut(moved.hash, |number| *number == was) {
                *its = number;
            }
        }
    }
}

impl Members {
    fn of(members: Vec<Member>) -> Members {
        match members[..] {
            [one] => Members::One([one]),
            [one, other] => Members::Two([one, other]),
            _ => Members::More(members),
        }
    }

    fn slice(&self) -> &[Member] {
        match self {
            Members::One(members) => members,
            Members::Two(members) => members,
            Members::More(members) => members,
        }
    }

    fn slice_mut(&mut self) -> &mut [Member] {
        match self {
            Members::One(members) => members,
            Members::Two(members) => members,
            Members::More(members) => members,
        }
    }

    fn find(&self, tag: Tag) -> Option<&Member> {
        let (primary, others) = self.slice().split_first()?;
        if primary.tag == tag {
            return Some(primary);
        }
        others.binary_search_by_key(&tag, |member| member.tag).ok().map(|at| &others[at])
    }

    /// Takes in what was read, its Primary first. Where that is part of a group, the others stay.
    fn learn(&mut self, news: Vec<Member>, is_part: bool) {
        if !is_part {
            *self = Members::of(news);
        } else if !self.replace(&news) {
            let is_old = |member: &&Member| news.iter().all(|other| other.tag != member.tag);
            let mut members: Vec<Member> = self.slice().iter().filter(is_old).copied().collect();
            members.extend(news.iter().skip(1));
            members.sort_unstable_by_key(|member| member.tag);
            members.splice(0..0, news.first().copied());
            *self = Members::of(members);
        }
    }

    /// Whether each of them had its place already, and has another one now.
    fn replace(&mut self, news: &[Member]) -> bool {
        let known = self.slice_mut().split_first_mut();
        let (Some((primary, others)), Some((new_primary, news))) = (known, news.split_first()) else { return false };
        if primary.tag != new_primary.tag {
            return false;
        }
        *primary = *new_primary;
        news.iter().all(|member| {
            let at = others.binary_search_by_key(&member.tag, |other| other.tag);
            at.is_ok_and(|at| {
                others[at] = *member;
                true
            })
        })
    }
}

/// FNV-1a.
fn tag_of(session: &str) -> Tag {
    let hash = session.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn place(number: u16) -> RowPlace {
        RowPlace::of(u32::from(number), 1)
    }

    fn member(tag: u8, at: u16) -> Member {
        Member { tag: [0, 0, 0, tag], session: place(at), heartbeat: place(at + 1) }
    }

    /// As the table has it, but plain: of each group its row, its Primary, and where each session
    /// lies.
    type Plain = HashMap<u64, (RowPlace, Tag, HashMap<Tag, Member>)>;

    #[test]
    fn what_was_learned_is_found_whatever_came_before() {
        let mut random = fastrand::Rng::with_seed(18);
        let mut known = Known::default();
        let mut plain = Plain::default();
        for at in 0..20_000_u16 {
            // Few numbers, so that they meet.
            let hash = random.u64(0..40) << random.u8(0..60);
            if random.u8(0..10) == 0 {
                known.forget(hash);
                plain.remove(&hash);
                continue;
            }
            let mut members: Vec<Member> = (0..random.u8(1..6)).map(|_| member(random.u8(0..12), at)).collect();
            let primary = members.remove(0);
            members.retain(|other| other.tag != primary.tag);
            members.sort_unstable_by_key(|member| member.tag);
            members.dedup_by_key(|member| member.tag);
            members.insert(0, primary);
            let is_part = random.bool() && plain.contains_key(&hash);
            let (row, first, its) = plain.entry(hash).or_insert((place(at), primary.tag, HashMap::new()));
            if !is_part {
                its.clear();
            }
            (*row, *first) = (place(at), primary.tag);
            its.extend(members.iter().map(|member| (member.tag, *member)));
            known.learn(hash, Found { row: place(at), members, is_part, stayed: true });
        }
        assert!(plain.len() > 100, "{}", plain.len());
        assert_eq!(known.groups.len(), plain.len());
        assert_eq!(known.sessions, plain.values().map(|(_, _, members)| members.len()).sum::<usize>());
        for (hash, (row, primary, members)) in plain {
            let places = known.find(hash).expect("it was learned");
            assert_eq!((places.row, places.members.slice()[0].tag), (row, primary));
            assert_eq!(places.members.slice().len(), members.len());
            for member in members.values() {
                assert_eq!(places.members.find(member.tag), Some(member));
            }
        }
    }
}
