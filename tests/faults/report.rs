//! What a run says at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::checker::{Findings, Kind};
use super::record::{ClientEvent, FaultKind, Outcome, Record};

/// The findings of a run, for people.
pub fn report(seed: u64, record: &Record, findings: &Findings) -> String {
    let mut by_kind: BTreeMap<FaultKind, usize> = BTreeMap::new();
    for fault in &record.faults {
        *by_kind.entry(fault.kind).or_default() += 1;
    }
    let events = || record.clients.iter().flat_map(|log| &log.events);
    let unanswered =
        events().filter(|event| matches!(event, ClientEvent::Answered { outcome: Outcome::Lost, .. })).count();
    let refused =
        events().filter(|event| matches!(event, ClientEvent::Answered { outcome: Outcome::Refused(_), .. })).count();
    let acted = events().filter(|event| matches!(event, ClientEvent::Acted { .. })).count();
    let mut text = format!("seed {seed}: {} faults\n", record.faults.len());
    for (kind, count) in by_kind {
        let _ = writeln!(text, "  {count:5}  {kind:?}");
    }
    let (timeouts, ms) = findings.longest_gap;
    let _ = write!(
        text,
        "{} client processes, {} heartbeats: {} answered, {refused} refused, {unanswered} without an answer\n\
         {} changes of roles, {} of them grants; {acted} times data was sent\n\
         {} outages of the service; the machine itself or its disk had no time {} times\n\
         longest undisturbed time without a Primary: {timeouts:.2} timeouts ({ms} ms) of 1.5 promised, of {} such times\n\
         exclusions that were held to: {}\n\
         violations: {}; needless failovers: {}\n",
        record.clients.len(),
        findings.heartbeats,
        findings.answered,
        findings.role_changes,
        findings.grants,
        record.outages.len(),
        record.starved.len(),
        findings.gaps,
        findings.exclusions,
        findings.violations.len(),
        findings.needless.len(),
    );
    let adapters = &findings.adapters;
    if adapters.processes > 0 {
        let count = |kind: Kind| findings.violations.iter().filter(|violation| violation.kind == kind).count();
        let sent = events().filter(|event| matches!(event, ClientEvent::Delivered { .. })).count();
        let _ = writeln!(
            text,
            "{} adapter processes sent data {sent} times; {} handovers and goodbyes, two at once although told in \
             time: {}; dropped as sent: {} items, data lost: {}",
            adapters.processes,
            adapters.planned,
            count(Kind::AdaptersActing),
            adapters.trimmed,
            count(Kind::DataLost),
        );
        for (ended, overlaps) in &adapters.overlaps {
            let _ = writeln!(
                text,
                "  two at once until the older one's next answer, {ended:?}: {}, the longest for {} ms",
                overlaps.count,
                overlaps.longest_us / 1_000
            );
        }
    }
    let members = &findings.members;
    if members.processes > 0 {
        let count = |kind: Kind| findings.violations.iter().filter(|violation| violation.kind == kind).count();
        let _ = writeln!(
            text,
            "{} processes of members and programs of agents acted {} times, two at once: {}; the receiver took {} writes, \
             refused {} of an older term, and took of an older term: {}; left behind: {}",
            members.processes,
            members.acts,
            count(Kind::MembersActing),
            members.taken,
            members.refused,
            count(Kind::PastTheFence),
            count(Kind::Orphan),
        );
    }
    for violation in findings.violations.iter().take(40) {
        let _ = writeln!(text, "  {violation}");
    }
    for needless in findings.needless.iter().take(40) {
        let _ = writeln!(text, "  needless: {needless}");
    }
    text
}
