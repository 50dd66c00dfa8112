//! Changes of the Primary that nothing explains.

use super::super::record::FaultKind;
use super::trace::Tenure;
use super::{Beat, Findings, GroupRecord, gaps, seconds};

/// What was done to the service may show in a heartbeat that much later: connections are made anew.
const AFTER_EFFECT_US: i64 = 1_000_000;

pub fn check(group: &GroupRecord<'_>, findings: &mut Findings) {
    for tenure in &group.trace.tenures {
        let Some((end, reason)) = tenure.end.filter(|(end, _)| *end < group.record.stopped_from) else { continue };
        let timeout = gaps::timeout(group, end, end);
        let explained = match reason {
            "lease_lapsed" | "yielded" | "session_deleted" if group.is_of_members() => {
                was_disturbed(group, end, timeout) || (reason == "yielded" && has_other_health(group, end))
            }
            "lease_lapsed" => fell_silent(group, tenure, end, timeout),
            "yielded" => somebody_was_healthier(group, tenure, end, timeout),
            "session_deleted" => {
                group.said_goodbye(tenure.session, tenure.from, end)
                    || group
                        .deletions_of(tenure.session)
                        .any(|deletion| (deletion.from..=deletion.until).contains(&end))
            }
            "override" => group.is_wished(end, end),
            // What it was granted may be known no more, and nobody but the one that acts says that
            // it does.
            "superseded" => group.is_in_doubt(end),
            _ => false,
        };
        let explained = explained || (group.is_in_doubt(end) && !group.tells_its_role(tenure.session));
        if !explained {
            findings.needless.push(format!(
                "{}: {} of term {} ceased to be Primary at {} ({reason})",
                group.id,
                tenure.session,
                tenure.term,
                seconds(end)
            ));
        }
    }
}

/// Whether its last heartbeats before the end failed because of something that was done to the
/// service, or it did not run.
fn fell_silent(group: &GroupRecord<'_>, tenure: &Tenure<'_>, end: i64, timeout: i64) -> bool {
    // An outage may have let its lease stand for long after its last heartbeat.
    let own = group.beats.iter().filter(|beat| beat.session == tenure.session);
    let last_renewed = own.filter_map(|beat| Some(beat.ok?.at)).filter(|at| *at <= end).max().unwrap_or(end);
    let since = last_renewed.min(end - timeout * 3 / 2);
    let faults = &group.record.faults;
    let done_to_it = faults.iter().any(|fault| {
        let to_it = fault.client.as_ref().is_some_and(|(g, session)| g == group.id && session == tenure.session);
        to_it && fault.from <= end && fault.until >= since
    });
    let asleep =
        group.asleep.iter().any(|(session, from, until)| *session == tenure.session && *from <= end && *until >= since);
    let starved = group.record.starved.iter().any(|(from, until)| *from <= end && *until >= since);
    let failed = |beat: &&Beat<'_>| {
        // One that was answered late was held up.
        let held_up = beat.ok.is_none_or(|ok| ok.at - beat.sent > timeout / 4);
        // One that an adapter waited for may have left long before.
        let within = beat.sent <= end && beat.ended.unwrap_or(beat.sent) >= since;
        beat.session == tenure.session && within && held_up
    };
    let because_of_the_service = group.beats.iter().filter(failed).any(|beat| {
        let ended = beat.ended.unwrap_or(end);
        group.service_faults().any(|fault| fault.from <= ended && fault.until + AFTER_EFFECT_US >= beat.sent)
    });
    done_to_it || asleep || starved || because_of_the_service
}

/// Whether anything was done to the service, or to a member of the group, not long before the end.
/// Of members it is not known what they heard.
fn was_disturbed(group: &GroupRecord<'_>, end: i64, timeout: i64) -> bool {
    let since = end - 3 * timeout - AFTER_EFFECT_US;
    let meets = |from: i64, until: i64| from <= end && until >= since;
    let to_a_member = group.record.faults.iter().any(|fault| {
        let is_of_group = fault.client.as_ref().is_some_and(|(id, _)| id == group.id);
        is_of_group && meets(fault.from, fault.until)
    });
    // Its sessions may be deleted by an operator as well.
    let is_deleted = group.deletions().any(|deletion| meets(deletion.from, deletion.until));
    to_a_member
        || is_deleted
        || group.service_faults().any(|fault| meets(fault.from, fault.until))
        || group.record.starved.iter().any(|(from, until)| meets(*from, *until))
}

/// Whether a member's health was another before: then the one that becomes Primary is healthier.
fn has_other_health(group: &GroupRecord<'_>, end: i64) -> bool {
    group.record.faults.iter().any(|fault| {
        let is_of_group = fault.client.as_ref().is_some_and(|(id, _)| id == group.id);
        is_of_group && fault.kind == FaultKind::ClientHealthChanged && fault.from <= end
    })
}

/// Whether another session reported a higher health not long before.
fn somebody_was_healthier(group: &GroupRecord<'_>, tenure: &Tenure<'_>, end: i64, timeout: i64) -> bool {
    let away: i64 = group.record.outages.iter().map(|outage| outage.recovered_at - outage.began_at).sum();
    let recent = |beat: &&Beat<'_>| beat.sent <= end && beat.sent >= end - 3 * timeout - away;
    let own = group.beats.iter().filter(|beat| beat.session == tenure.session).filter(recent);
    let lowest = own.map(|beat| beat.health).min().unwrap_or(0);
    let others = group.beats.iter().filter(|beat| beat.session != tenure.session).filter(recent);
    others.map(|beat| beat.health).max().is_some_and(|highest| highest > lowest)
}
