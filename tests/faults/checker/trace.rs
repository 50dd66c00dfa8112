//! The trace of changes against itself, the stored roles, the terms, and the leases that clients
//! were given.

use std::collections::BTreeMap;

use super::super::record::{OutageRow, PRIMARY, Record, SECONDARY, Transition};
use super::{Findings, GroupRecord, Kind, TAKES_EFFECT_US, seconds};

/// A time in which a session was Primary, by the trace.
#[derive(Clone, Debug)]
pub struct Tenure<'a> {
    pub session: &'a str,
    pub term: i64,
    pub from: i64,
    /// When it ended and why; `None` if it did not.
    pub end: Option<(i64, &'a str)>,
}

/// The changes of one group, replayed.
pub struct Trace<'a> {
    pub rows: Vec<&'a Transition>,
    pub tenures: Vec<Tenure<'a>>,
}

impl<'a> Trace<'a> {
    pub fn of(record: &'a Record, group: &str) -> Trace<'a> {
        let rows: Vec<&Transition> = record.transitions.iter().filter(|row| row.group == group).collect();
        let mut tenures: Vec<Tenure<'a>> = Vec::new();
        for row in &rows {
            if row.to == PRIMARY {
                tenures.push(Tenure { session: &row.session, term: row.term, from: row.at, end: None });
            } else if row.from == PRIMARY
                && let Some(tenure) =
                    tenures.iter_mut().rev().find(|tenure| tenure.session == row.session && tenure.end.is_none())
            {
                tenure.end = Some((row.at, &row.reason));
            }
        }
        Trace { rows, tenures }
    }

    /// The roles that a session had at some time between two instants.
    pub fn roles_between(&self, session: &str, from: i64, until: i64) -> Vec<i16> {
        let mut roles = vec![SECONDARY];
        for row in self.rows.iter().filter(|row| row.session == session && row.at <= until) {
            if row.at < from {
                roles.clear();
            }
            roles.push(row.to);
        }
        roles
    }

    /// The lowest and highest term that the group had between two instants.
    pub fn terms_between(&self, from: i64, until: i64) -> (i64, i64) {
        let highest_at = |limit: &dyn Fn(i64) -> bool| {
            self.rows.iter().filter(|row| limit(row.at)).map(|row| row.term).max().unwrap_or(0)
        };
        (highest_at(&|at| at < from), highest_at(&|at| at <= until))
    }
}

pub fn check(group: &GroupRecord<'_>, findings: &mut Findings) {
    replay(group, findings);
    leases(group, findings);
    outages(group, findings);
}

fn replay(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut roles: BTreeMap<&str, i16> = BTreeMap::new();
    let mut term = 0;
    let mut before = i64::MIN;
    for row in &group.trace.rows {
        let at = seconds(row.at);
        let known = roles.insert(&row.session, row.to).unwrap_or(SECONDARY);
        if known != row.from {
            let what = format!("at {at} {} changed from {}, but was {known}", row.session, row.from);
            findings.add(Kind::TraceBroken, group.id, what);
        }
        if row.at < before {
            findings.add(Kind::TraceBroken, group.id, format!("the row of {at} comes after a later one"));
        }
        before = row.at;
        for role in [1, 2] {
            let holders = roles.values().filter(|held| **held == role).count();
            if holders > 1 && row.to == role {
                findings.add(Kind::TwoGranted, group.id, format!("at {at} {holders} sessions have role {role}"));
            }
        }
        // In a new history of the database the terms go on from its base.
        let granted = i64::from(row.to == PRIMARY);
        let expected = term + granted;
        let is_expected = |before: i64| before >= term && row.term == before + granted;
        if !is_expected(term) && !group.bases_until(row.at).any(is_expected) {
            let what = format!("at {at} {} became {} with term {}, not {expected}", row.session, row.to, row.term);
            findings.add(Kind::Term, group.id, what);
        }
        term = row.term;
    }
    for stored in group.record.sessions.iter().filter(|stored| stored.group == group.id) {
        let replayed = roles.remove(stored.session.as_str()).unwrap_or(SECONDARY);
        if replayed != stored.role {
            let what = format!("{} is {}, but by the trace {replayed}", stored.session, stored.role);
            findings.add(Kind::TraceBroken, group.id, what);
        }
    }
    for (session, role) in roles.into_iter().filter(|(_, role)| *role != SECONDARY) {
        findings.add(Kind::TraceBroken, group.id, format!("{session} is gone, but by the trace has role {role}"));
    }
    let stored = group.record.groups.iter().find(|stored| stored.group == group.id).map_or(0, |stored| stored.term);
    if stored != term && !group.bases_until(i64::MAX).any(|base| base > term && base == stored) {
        findings.add(Kind::Term, group.id, format!("the group has term {stored}, but by the trace {term}"));
    }
}

/// A lease that a client was told of stands: it was given at or after the sending of the heartbeat.
fn leases(group: &GroupRecord<'_>, findings: &mut Findings) {
    for beat in &group.beats {
        let Some(ok) = beat.ok.filter(|ok| ok.role == PRIMARY) else { continue };
        let stands_until = beat.sent + ok.lease_us;
        let Some(place) = group.trace.tenures.iter().position(|tenure| tenure.term == ok.term) else { continue };
        let tenure = &group.trace.tenures[place];
        if tenure.session != beat.session {
            continue;
        }
        let is_believed = !is_disbelieved(group, tenure, beat.sent, stands_until);
        if let Some((end, "lease_lapsed")) = tenure.end
            && end < stands_until
            && is_believed
        {
            let what = format!(
                "the lease of {} stood until {}, but lapsed at {}",
                beat.session,
                seconds(stands_until),
                seconds(end)
            );
            findings.add(Kind::TwoGranted, group.id, what);
        }
        let Some(next) = group.trace.tenures.get(place + 1) else { continue };
        if next.session == beat.session
            || next.from >= stands_until
            || has_given_up(group, beat.session, beat.sent, next.from)
        {
            continue;
        }
        let what = format!(
            "{} was granted at {}, but the lease of {} stood until {}",
            next.session,
            seconds(next.from),
            beat.session,
            seconds(stands_until)
        );
        findings.add(Kind::TwoGranted, group.id, what);
    }
}

/// Whether the tenure ended because a history of the database is lost: then a client that does not
/// say that it acts is not believed, and one that says that it does not act is. One whose clock was
/// set back says what may be old.
fn is_disbelieved(group: &GroupRecord<'_>, tenure: &Tenure<'_>, sent: i64, stands_until: i64) -> bool {
    let in_doubt = tenure.end.is_some_and(|(end, _)| group.is_in_doubt(end));
    in_doubt
        && (!group.tells_its_role(tenure.session)
            || has_given_up(group, tenure.session, sent, stands_until)
            || is_set_back(group, tenure.session, stands_until))
}

/// Whether the session's clock was further once than in its latest heartbeat until then.
fn is_set_back(group: &GroupRecord<'_>, session: &str, until: i64) -> bool {
    let own = group.beats.iter().filter(|beat| beat.session == session && beat.sent <= until);
    let latest = own.clone().next_back().and_then(|beat| beat.heartbeat_time);
    own.filter_map(|beat| beat.heartbeat_time).max() > latest
}

/// Whether the session said between the two instants that it does not act, or said goodbye.
fn has_given_up(group: &GroupRecord<'_>, session: &str, after: i64, before: i64) -> bool {
    let left = group.said_goodbye(session, after, before);
    let said_so = |beat: &&super::Beat<'_>| {
        beat.session == session
            && beat.acting_as.is_some_and(|role| role != PRIMARY)
            && (after..before).contains(&beat.sent)
    };
    left || group.beats.iter().any(|beat| said_so(&beat))
}

/// A decision rests on a sign of life that is no older than this. An outage is counted from the
/// last sign of life, so a lease may rightly have been judged for so long after it: the service was
/// not away yet, as far as anybody could know.
const LONGEST_SILENCE_US: i64 = 250_000;

/// A lease that stood when the service went away for long enough does not lapse before a whole one
/// has passed since its return.
///
/// What kept everybody from committing is an outage whether or not the service says so.
fn outages(group: &GroupRecord<'_>, findings: &mut Findings) {
    let unseen = group.record.nothing_commits.iter().map(|(from, until)| OutageRow {
        began_at: from + TAKES_EFFECT_US,
        recovered_at: until - TAKES_EFFECT_US,
        counts_from: 2_000_000,
    });
    for outage in group.record.outages.iter().cloned().chain(unseen) {
        for tenure in &group.trace.tenures {
            let Some((end, "lease_lapsed")) = tenure.end else { continue };
            if end <= outage.began_at + LONGEST_SILENCE_US || tenure.from > outage.began_at {
                continue;
            }
            let given = group.beats.iter().filter(|beat| {
                beat.session == tenure.session && beat.ok.is_some_and(|ok| ok.term == tenure.term && ok.role == PRIMARY)
            });
            // Of the leases that it was told of before, the one that goes furthest: a later one may
            // be of a shorter timeout.
            let before = given.filter_map(|beat| Some((beat, beat.ok?))).filter(|(_, ok)| ok.at < outage.began_at);
            if let Some((beat, ok)) = before.max_by_key(|(beat, ok)| beat.sent + ok.lease_us) {
                let lasted = outage.recovered_at - outage.began_at;
                if lasted <= outage.counts_from.min(ok.lease_us / 4) {
                    continue;
                }
                let stood = beat.sent + ok.lease_us > outage.began_at;
                let stands_until = outage.recovered_at + ok.lease_us;
                if stood && end < stands_until && !is_disbelieved(group, tenure, beat.sent, stands_until) {
                    let what = format!(
                        "{} lapsed at {}, though the service was away until {}",
                        tenure.session,
                        seconds(end),
                        seconds(outage.recovered_at)
                    );
                    findings.add(Kind::OutageJudged, group.id, what);
                }
            }
        }
    }
}
