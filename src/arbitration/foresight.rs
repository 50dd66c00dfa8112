//! What would come of a change: the decisions of the next heartbeats, played on a copy.

use std::cmp::Reverse;

use super::state::{Beat, Group, Moment, Reason, Report, Rules, Transition};
use super::values::{ClientInstant, FailoverTimeout, Instant, Role};
use super::{heartbeat, lapse};

/// A change of a role that would come, if nothing else changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// How long after the moment, in microseconds.
    pub after_us: i64,
    /// Whose, by place.
    pub session: usize,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// Why.
    pub reason: Reason,
}

/// How clients behave while they are looked ahead for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They say nothing of the role that they act in.
    Silent,
    /// They follow the group's events and say in which role they act: one that yields acknowledges
    /// at once, and one that is to take over heartbeats at once.
    Attentive,
}

/// How clients are taken to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// What they say.
    pub clients: Clients,
    /// How often each heartbeats, in microseconds.
    pub every_us: i64,
}

impl Course {
    /// Of clients that heartbeat every half of that timeout.
    pub fn of(clients: Clients, timeout: FailoverTimeout) -> Course {
        Course { clients, every_us: (timeout.micros() / 2).max(1) }
    }

    /// Those of clients of either kind.
    pub fn both(timeout: FailoverTimeout) -> [Course; 2] {
        [Clients::Silent, Clients::Attentive].map(|clients| Course::of(clients, timeout))
    }

    /// How far is looked ahead in that group, in microseconds.
    fn end_us(self, group: &Group) -> i64 {
        group.timeout.micros().max(self.every_us.saturating_mul(2)).saturating_mul(TIMEOUTS)
    }
}

/// For how many timeouts is looked ahead: those of the group, or those by which its clients
/// heartbeat, whichever are longer.
const TIMEOUTS: i64 = 4;
/// Of so many sessions, those of account and the healthiest, the heartbeats are played: the others
/// of a large group would not come to be Primary.
const MOST_PLAYED: usize = 64;
/// How soon an attentive client sends what it sends at once.
const AT_ONCE_US: i64 = 1_000;

/// What the roles of a group would do from a moment on: each live session goes on as it did, at the
/// health that it said last, and nobody else comes or goes. The changes are in their order.
pub fn foresee(group: &Group, at: Moment<'_>, rules: &Rules, course: Course) -> Vec<Foreseen> {
    let mut group = group.clone();
    let Course { clients, every_us } = course;
    let first_us = |beat: Beat| beat.received_at.0.saturating_add(every_us).max(at.now.0.saturating_add(1));
    let mut live: Vec<usize> = (0..group.sessions.len()).filter(|s| group.is_live(*s, at)).collect();
    live.sort_by_key(|s| {
        let session = &group.sessions[*s];
        let is_of_account = session.role != Role::Secondary || session.wish.is_some();
        Reverse((is_of_account, session.beat.map(|beat| beat.health), Reverse(*s)))
    });
    live.truncate(MOST_PLAYED);
    let next = live.iter().filter_map(|s| group.sessions[*s].beat.map(|beat| (first_us(beat), *s)));
    let mut next: Vec<(i64, usize)> = next.collect();
    let end = at.now.0.saturating_add(course.end_us(&group));
    let mut foreseen = Vec::new();
    let mut trace: Vec<Transition> = Vec::new();
    while let Some(place) = (0..next.len()).min_by_key(|place| next[*place]) {
        let (now, s) = next[place];
        if now > end {
            break;
        }
        let mut note = |now: i64, trace: &mut Vec<Transition>| {
            foreseen.extend(trace.drain(..).map(|change| Foreseen {
                after_us: now - at.now.0,
                session: change.session,
                from: change.from,
                to: change.to,
                reason: change.reason,
            }));
        };
        // A lease that ends before is looked at as it ends.
        if let Some(ended_at) = first_lease_end(&group, at).filter(|ended_at| *ended_at <= now) {
            let ended_at = ended_at.max(at.now.0);
            lapse(&mut group, Moment { now: Instant(ended_at), ..at }, &mut trace);
            note(ended_at, &mut trace);
        }
        let moment = Moment { now: Instant(now), ..at };
        let report = as_before(&group, s, clients, now);
        heartbeat(&mut group, s, &report, moment, rules, &mut trace);
        next[place].0 = now.saturating_add(every_us);
        if clients == Clients::Attentive && !trace.is_empty() {
            for (when, i) in &mut next {
                let has_yielded = group.handover.is_some_and(|handover| handover.is_from(*i));
                match group.sessions[*i].role {
                    Role::PendingPrimary => *when = now + 2 * AT_ONCE_US,
                    Role::Secondary if has_yielded => *when = now + AT_ONCE_US,
                    Role::Primary | Role::Secondary => {}
                }
            }
        }
        note(now, &mut trace);
    }
    foreseen
}

/// When the first lease of those ends who hold a role, in microseconds.
fn first_lease_end(group: &Group, at: Moment<'_>) -> Option<i64> {
    let holders = group.sessions.iter().filter(|session| session.role != Role::Secondary);
    holders.filter_map(|session| session.beat.map(|beat| beat.lease_end(at.outages).0)).min()
}

/// For how long nobody would be Primary in all, in microseconds, of what is foreseen from a group
/// on; where nobody is at the end, that is until the end of what was looked ahead.
pub fn without_primary_us(group: &Group, foreseen: &[Foreseen], course: Course) -> i64 {
    let mut since = if group.holder(Role::Primary).is_some() { None } else { Some(0) };
    let mut total = 0;
    for change in foreseen {
        if change.from == Role::Primary {
            since = Some(change.after_us);
        }
        if change.to == Role::Primary {
            total += since.take().map_or(0, |since| change.after_us - since);
        }
    }
    let end = course.end_us(group);
    total + since.map_or(0, |since| (end - since).max(0))
}

/// What that session says at that instant, if it goes on as it did.
fn as_before(group: &Group, s: usize, clients: Clients, now: i64) -> Report {
    let session = &group.sessions[s];
    let beat = session.beat;
    let passed_us = beat.map_or(0, |beat| now.saturating_sub(beat.received_at.0));
    Report {
        health: beat.map(|beat| beat.health).unwrap_or_default(),
        sent_at: ClientInstant(beat.map_or(0, |beat| beat.heard_until.0.saturating_add(passed_us))),
        data_sent_until: None,
        acting_as: (clients == Clients::Attentive).then_some(match session.role {
            Role::Primary => Role::Primary,
            Role::PendingPrimary | Role::Secondary => Role::Secondary,
        }),
        term_seen: None,
    }
}
