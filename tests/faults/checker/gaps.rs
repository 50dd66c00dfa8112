//! How long a group is without a Primary while nothing disturbs it.
//!
//! A *disturbance* is whatever the promise counts from: the last heartbeat of a session that falls
//! silent, the first of one that comes back, a heartbeat that fails or is late, another health or
//! timeout, a goodbye, and the end of whatever was done to the service. Between two disturbances,
//! sessions are either silent or regular. Where one is regular, there must be a Primary one and a
//! half timeouts after the last disturbance.

use super::{Beat, Findings, GroupRecord, Kind, Tolerance, seconds};

/// Leases given under an older timeout may still stand.
const OLD_LEASES_US: i64 = 10_000_000;

pub fn check(group: &GroupRecord<'_>, tolerance: Tolerance, findings: &mut Findings) {
    let runs = regular_runs(group, tolerance);
    let disturbances = disturbances(group, &runs);
    for (begins, ends) in vacancies(group) {
        let within = disturbances.iter().copied().filter(|at| *at > begins && *at < ends);
        for end in within.chain([ends]) {
            let Some(since) = disturbances.iter().copied().filter(|at| *at < end).max() else { continue };
            let timeout = timeout(group, since, end);
            let slack = timeout / 2 + tolerance.beat_us;
            let is_regular = runs.iter().any(|run| run.first <= since + slack && run.last >= end - slack);
            // Some wishes are that nobody be Primary.
            if !is_regular || group.is_wished(since, end) {
                continue;
            }
            let lasted = end - since;
            findings.gaps += 1;
            let in_timeouts = lasted as f64 / timeout as f64;
            if in_timeouts > findings.longest_gap.0 {
                findings.longest_gap = (in_timeouts, lasted / 1_000);
            }
            if end - since > timeout * 3 / 2 + tolerance.takeover_us + waited_for_the_deleted(group, end) {
                let what = format!(
                    "nobody was Primary at {}, {} ms after the last disturbance, with a timeout of {} ms",
                    seconds(end),
                    (end - since) / 1_000,
                    timeout / 1_000
                );
                findings.add(Kind::NobodyPrimary, group.id, what);
            }
        }
    }
}

/// How much longer a Primary that somebody else deleted may be waited for: for how long its lease
/// was given is known no more, so what the clock was set by, forward before or back since, is
/// added.
fn waited_for_the_deleted(group: &GroupRecord<'_>, end: i64) -> i64 {
    if group.deletions().any(|deletion| deletion.from < end) {
        group.record.clock.steps_until(end).map(i64::abs).sum()
    } else {
        0
    }
}

/// When nobody was Primary, by the trace, from the first grant on.
fn vacancies(group: &GroupRecord<'_>) -> Vec<(i64, i64)> {
    let tenures = &group.trace.tenures;
    let next_grant = |place: usize| tenures.get(place + 1).map_or(group.record.ended_at, |next| next.from);
    let vacancy = |(place, tenure): (usize, &super::trace::Tenure<'_>)| Some((tenure.end?.0, next_grant(place)));
    tenures.iter().enumerate().filter_map(vacancy).filter(|(begins, ends)| begins < ends).collect()
}

/// Heartbeats of one session that follow each other as they should.
struct Run {
    /// When the first was sent, and when the last was answered.
    first: i64,
    last: i64,
}

fn regular_runs(group: &GroupRecord<'_>, tolerance: Tolerance) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for session in sessions(group) {
        let mut previous: Option<&Beat<'_>> = None;
        for beat in group.beats.iter().filter(|beat| beat.session == session) {
            let Some(ok) = beat.ok.filter(|ok| ok.at - beat.sent <= tolerance.beat_us) else {
                previous = None;
                continue;
            };
            let is_next = |previous: &Beat<'_>| {
                let pace = shortest_timeout(group, previous.sent, beat.sent) / 2;
                beat.sent - previous.sent <= pace + tolerance.beat_us
            };
            match runs.last_mut() {
                Some(run) if previous.is_some_and(is_next) => run.last = ok.at,
                _ => runs.push(Run { first: beat.sent, last: ok.at }),
            }
            previous = Some(beat);
        }
    }
    runs
}

fn disturbances(group: &GroupRecord<'_>, runs: &[Run]) -> Vec<i64> {
    let mut all: Vec<i64> = runs.iter().flat_map(|run| [run.first, run.last]).collect();
    for session in sessions(group) {
        let mut health = None;
        for beat in group.beats.iter().filter(|beat| beat.session == session) {
            let timeout = timeout(group, beat.sent, beat.sent);
            if beat.ok.is_none() {
                all.extend([beat.sent, beat.ended.unwrap_or(beat.sent).min(beat.sent + timeout / 2)]);
            }
            if health.replace(beat.health) != Some(beat.health) {
                all.push(beat.ok.map_or(beat.sent, |ok| ok.at));
            }
        }
    }
    let yields =
        group.trace.rows.iter().filter(|row| ["yielded", "override", "session_deleted"].contains(&row.reason.as_str()));
    all.extend(yields.map(|row| row.at));
    all.extend(group.goodbyes.iter().map(|goodbye| goodbye.at));
    all.extend(group.deletions().flat_map(|deletion| [deletion.from, deletion.until]));
    all.extend(group.asleep.iter().map(|(_, _, until)| until));
    all.extend(group.record.starved.iter().map(|(_, until)| until));
    all.extend(group.record.outages.iter().map(|outage| outage.recovered_at));
    all.extend(group.service_faults().flat_map(|fault| [fault.from, fault.until]));
    all.extend(group.record.timeouts.iter().filter(|set| set.group == group.id).map(|set| set.at));
    all.sort_unstable();
    all
}

fn sessions<'a>(group: &GroupRecord<'a>) -> Vec<&'a str> {
    let mut sessions: Vec<&str> = group.beats.iter().map(|beat| beat.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    sessions
}

/// The shortest timeout, in microseconds, that may have held at some time between two instants.
/// What was silent for longer than half of it was silent, even if a longer one holds when it is
/// heard again.
fn shortest_timeout(group: &GroupRecord<'_>, from: i64, until: i64) -> i64 {
    may_have_held(group, from, until).min().unwrap_or(1_000_000)
}

/// The longest timeout, in microseconds, that may still matter between two instants.
pub fn timeout(group: &GroupRecord<'_>, from: i64, until: i64) -> i64 {
    may_have_held(group, from - OLD_LEASES_US, until).max().unwrap_or(1_000_000)
}

/// The timeouts, in microseconds, that may have held at some time between two instants: the last
/// one that is known to have held before, and all that were tried since.
fn may_have_held(group: &GroupRecord<'_>, from: i64, until: i64) -> impl Iterator<Item = i64> {
    let sets = group.record.timeouts.iter().filter(move |set| set.group == group.id && set.at <= until);
    let held_before = sets.clone().filter(|set| set.held_at.is_some_and(|held_at| held_at < from));
    let last_held = held_before.map(|set| set.at).max().unwrap_or(i64::MIN);
    sets.filter(move |set| set.at >= last_held).map(|set| set.ms * 1_000)
}
