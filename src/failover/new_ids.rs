//! Clients that register with a new id at each start: they leave a silent session behind each time,
//! and what is wished of a session, or told of it, is never of the one that runs. Noticed when one
//! registers, and warned of once for each group.
//!
//! No role is decided by it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::risks::{NEW_ID_WITHIN, NEW_IDS_FROM};
use super::{Caller, Failover};
use crate::ids::GroupPath;
use crate::store::status::SessionStatus;

/// The most groups that are kept in mind.
const MAX_GROUPS: usize = 10_000;

/// After a look at a group it is not looked at again for so long, for each of its sessions: where
/// hundreds register one after the other, the looks are a small part of that.
const REST_PER_SESSION: Duration = Duration::from_millis(1);

/// What this replica found when it last looked at groups.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<Uuid, Look>>);

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    has_new_ids: bool,
    is_said: bool,
}

impl Looks {
    /// What was found, if that was a moment ago.
    fn recent(&self, group: Uuid, sessions: i64) -> Option<bool> {
        let rest = REST_PER_SESSION * u32::try_from(sessions).unwrap_or(u32::MAX);
        self.lock().get(&group).filter(|look| look.at.elapsed() < rest).map(|look| look.has_new_ids)
    }

    /// Notes what was found; whether it is to be said, which it is once.
    fn note(&self, group: Uuid, has_new_ids: bool) -> bool {
        let mut looks = self.lock();
        if looks.len() >= MAX_GROUPS {
            looks.clear();
        }
        let was_said = looks.get(&group).is_some_and(|look| look.is_said);
        looks.insert(group, Look { at: Instant::now(), has_new_ids, is_said: was_said || has_new_ids });
        has_new_ids && !was_said
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Look>> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many silent sessions took the place of one that had fallen silent before: they were
/// registered within the hour after its last sign of life, by the same identity.
///
/// One that came back under its id has a younger sign of life, so it was replaced by nobody. A
/// machine that was replaced once, even all of a group, leaves none that is silent itself.
pub(super) fn count(sessions: &[SessionStatus]) -> i64 {
    let within = TimeDelta::from_std(NEW_ID_WITHIN).unwrap_or(TimeDelta::MAX);
    let silent = || sessions.iter().filter(|session| !session.live);
    let mut ends: HashMap<Option<&str>, Vec<DateTime<Utc>>> = HashMap::new();
    for session in silent() {
        let last_sign = session.registered_at.max(session.beat.map_or(session.registered_at, |beat| beat.received_at));
        ends.entry(session.registered_by.as_deref()).or_default().push(last_sign);
    }
    ends.values_mut().for_each(|ends| ends.sort_unstable());
    let took_a_place = |session: &&SessionStatus| {
        let of_same = ends.get(&session.registered_by.as_deref()).map_or(&[][..], Vec::as_slice);
        // Its own is not before it was registered.
        let before = of_same.partition_point(|end| *end < session.registered_at);
        before.checked_sub(1).is_some_and(|last| of_same[last] > session.registered_at - within)
    };
    // One that has sent nothing yet may be about to.
    silent().filter(|session| session.beat.is_some()).filter(took_a_place).count() as i64
}

impl Failover {
    /// Whether a session that was just registered in that group, which had so many before, is one
    /// more of a client that has a new id at each start. Said in the log once for each group.
    pub(super) async fn is_new_id_again(&self, caller: &Caller, path: &GroupPath, sessions_before: i64) -> bool {
        // The one that was left behind first took nobody's place.
        if sessions_before <= NEW_IDS_FROM {
            return false;
        }
        let key = path.key().0;
        if let Some(has_new_ids) = self.new_ids.recent(key, sessions_before) {
            return has_new_ids;
        }
        let found = match self.read_status(&[key]).await {
            Ok(mut found) => found.pop(),
            Err(error) => {
                tracing::debug!(%error, "whether clients register with new ids could not be looked at");
                None
            }
        };
        let new_ids = found.map_or(0, |group| count(&group.sessions));
        let has_new_ids = new_ids >= NEW_IDS_FROM;
        if self.new_ids.note(key, has_new_ids) {
            tracing::warn!(
                group = %path.label(), identity = %caller.identity, new_ids, operation_id = %caller.operation_id,
                "a client registers with a new id at each start, and leaves silent sessions behind: let it keep its id"
            );
        }
        has_new_ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitration::Role;
    use crate::store::status::{BeatStatus, Seen};
    use rust_decimal::Decimal;

    /// Registered by somebody and heard of last so many minutes after midnight.
    fn session(by: &str, registered: i64, heard: Option<i64>, live: bool) -> SessionStatus {
        let at = |minute: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
        let beat = heard.map(|minute| BeatStatus {
            health: Decimal::ONE_HUNDRED,
            received_at: at(minute),
            lease_left_ms: 0,
            interval_ms: None,
            seen: Seen::default(),
        });
        SessionStatus {
            id: format!("{by}-{registered}"),
            name: None,
            role: Role::Secondary,
            role_changed_at: at(registered),
            live,
            beat,
            registered_at: at(registered),
            registered_by: Some(by.to_owned()).filter(|by| !by.is_empty()),
            sent_until: None,
            wish: None,
        }
    }

    #[test]
    fn what_was_found_is_good_for_a_moment_and_said_once() {
        let looks = Looks::default();
        let group = Uuid::from_u128(7);
        assert_eq!(looks.recent(group, 1_000_000), None);
        assert!(!looks.note(group, false));
        assert_eq!(looks.recent(group, 1_000_000), Some(false));
        assert_eq!(looks.recent(group, 0), None, "few are looked at again at once");
        assert!(looks.note(group, true));
        assert!(!looks.note(group, true));
        assert_eq!(looks.recent(group, 1_000_000), Some(true));
        assert!(looks.note(Uuid::from_u128(8), true), "each group has its own");
    }

    #[test]
    fn each_start_with_a_new_id_counts_once_it_is_over_too() {
        let chain = |by: &'static str, starts: i64| {
            let each = (0..starts).map(move |n| session(by, n * 100, Some(n * 100 + 90), n + 1 == starts));
            each.collect::<Vec<_>>()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&chain("a", 1)), 0);
        assert_eq!(count(&chain("a", 2)), 0, "one machine for another");
        assert_eq!(count(&chain("a", 5)), 3);
        assert_eq!(count(&chain("", 5)), 3, "who registered them need not be known");
        // Two clients of one identity, and two of two.
        assert_eq!(count(&[chain("a", 4), chain("b", 3)].concat()), 3);
    }

    #[test]
    fn other_ways_to_fall_silent_do_not_count() {
        // Stable ids that are gone, side by side.
        let gone: Vec<_> = (0..8).map(|n| session("a", n, Some(500 + n), false)).collect();
        assert_eq!(count(&gone), 0);
        // All of a group was replaced at once, and lives.
        let replaced: Vec<_> = (0..8).map(|n| session("a", 510 + n, Some(900), true)).collect();
        assert_eq!(count(&[gone, replaced].concat()), 0);
        // Somebody else came, and somebody after more than an hour.
        let others =
            [session("a", 0, Some(10), false), session("b", 20, Some(30), false), session("a", 70, Some(80), false)];
        assert_eq!(count(&others), 0);
        // One that never sent a heartbeat has left a place all the same, and took none.
        let mute = [session("a", 0, None, false), session("a", 5, None, false), session("a", 9, Some(10), false)];
        assert_eq!(count(&mute), 1);
    }
}
