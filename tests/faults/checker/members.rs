//! What is promised to members that take their lease, or have an agent take it: nobody acts beside
//! another, nobody acts with an older term after a newer one, and nothing outlives its agent.

use std::collections::BTreeMap;

use super::super::record::{ClientEvent, Keeps, Record};
use super::{Findings, GroupRecord, Kind};

pub fn check(group: &GroupRecord<'_>, findings: &mut Findings) {
    // When it was, with which term, and the place of the process.
    let mut acts: Vec<(i64, i64, usize)> = Vec::new();
    // From when until when something was sent, with the place of the process.
    let mut sends: Vec<(i64, i64, usize)> = Vec::new();
    for (process, log) in group.logs.iter().enumerate().filter(|(_, log)| log.keeps == Keeps::ItsLease) {
        findings.members.processes += 1;
        for event in &log.events {
            match event {
                ClientEvent::Acted { at, term } => acts.push((*at, *term, process)),
                ClientEvent::Received { at, until, is_taken } => {
                    sends.push((*at, *until, process));
                    findings.members.refused += usize::from(!is_taken);
                }
                _ => {}
            }
        }
    }
    acts.sort_unstable();
    findings.members.acts += acts.len();
    no_act_within(group, &acts, &sends, findings);
    // One spell after the other: whoever comes back with the same term never was away. That terms
    // rise is looked at for all kinds of clients.
    let mut spells: BTreeMap<(i64, usize), usize> = BTreeMap::new();
    for (place, (at, term, process)) in acts.iter().enumerate() {
        let session = &group.logs[*process].session;
        if let Some(before) = spells.insert((*term, *process), place)
            && before + 1 != place
        {
            let other = &group.logs[acts[place - 1].2].session;
            let what = format!("{session} acted at {at} us with term {term}, and {other} in between");
            findings.add(Kind::MembersActing, group.id, what);
        }
    }
}

/// Nobody begins while what another has begun is under way still.
fn no_act_within(
    group: &GroupRecord<'_>,
    acts: &[(i64, i64, usize)],
    sends: &[(i64, i64, usize)],
    findings: &mut Findings,
) {
    for (from, until, process) in sends {
        let first = acts.partition_point(|(at, ..)| at <= from);
        let within = acts[first..].iter().take_while(|(at, ..)| at < until).find(|(.., other)| other != process);
        if let Some((at, _, other)) = within {
            let (session, other) = (&group.logs[*process].session, &group.logs[*other].session);
            let what = format!("{session} was sending from {from} to {until} us, and {other} acted at {at}");
            findings.add(Kind::MembersActing, group.id, what);
        }
    }
}

/// What holds for all groups: the fence, and what was left behind.
pub fn check_all(record: &Record, findings: &mut Findings) {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for write in &record.fenced {
        let newest = newest.entry(&write.group).or_insert(0);
        if write.term < *newest {
            findings.add(Kind::PastTheFence, &write.group, format!("term {} after {newest}", write.term));
        }
        *newest = write.term.max(*newest);
    }
    findings.members.taken = record.fenced.len();
    for orphan in &record.orphans {
        findings.add(Kind::Orphan, "members", orphan.clone());
    }
}
