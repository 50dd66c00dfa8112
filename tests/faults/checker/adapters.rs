//! What is promised to groups of adapters, which have no lease: they act in the role that they were
//! told last.
//!
//! Two may act at once after the older one's lease is over, until its next answer. Where it is to
//! hand over and is told so in time, they never do. And what a standby drops as sent was sent.

use std::collections::BTreeMap;

use super::super::record::{ClientEvent, ClientLog, ITEM_US, Keeps, Mode, PRIMARY};
use super::{Beat, Ended, Findings, GroupRecord, Kind, Tolerance, beats_of, seconds};

/// A time in which an adapter acted as Primary and ran (wall clock).
#[derive(Clone, Copy, Debug)]
struct Spell<'a> {
    /// The place of its process among the group's.
    process: usize,
    session: &'a str,
    /// 0 where it went by the role that it had saved.
    term: i64,
    from: i64,
    until: i64,
}

pub fn check(group: &GroupRecord<'_>, tolerance: Tolerance, findings: &mut Findings) {
    let of_adapters = group.logs.iter().filter(|log| matches!(log.keeps, Keeps::ItsRole(_))).count();
    if of_adapters == 0 {
        return;
    }
    findings.adapters.processes += of_adapters;
    findings.adapters.planned += group.trace.tenures.iter().filter(|tenure| is_planned(group, tenure)).count();
    overlaps(group, tolerance, findings);
    data(group, findings);
}

fn is_planned(group: &GroupRecord<'_>, tenure: &super::trace::Tenure<'_>) -> bool {
    match tenure.end {
        Some((_, "yielded")) => true,
        Some((end, "session_deleted")) => group.said_goodbye(tenure.session, tenure.from, end),
        _ => false,
    }
}

/// The times at which two acted at once, each judged by why it was.
fn overlaps(group: &GroupRecord<'_>, tolerance: Tolerance, findings: &mut Findings) {
    let beats: Vec<Vec<Beat<'_>>> = group.logs.iter().map(|log| beats_of(log)).collect();
    let mut spells: Vec<Spell<'_>> =
        group.logs.iter().enumerate().flat_map(|(place, log)| spells_of(place, log)).collect();
    spells.sort_by_key(|spell| spell.from);
    for (place, one) in spells.iter().enumerate() {
        for other in spells[place + 1..].iter().take_while(|other| other.from < one.until) {
            if other.session == one.session {
                continue;
            }
            // Whoever has the older term ought to have stopped.
            let (older, newer) = if one.term < other.term { (one, other) } else { (other, one) };
            let (from, until) = (other.from, one.until.min(other.until));
            let own = &beats[older.process];
            let answers_after = own.iter().filter(|beat| beat.sent >= from).filter_map(|beat| beat.ok);
            let next_answer = answers_after.map(|ok| ok.at).min().unwrap_or(i64::MAX);
            let what = |why: &str| {
                format!(
                    "{} acted for {} us from {} on beside {}: {why}",
                    older.session,
                    until - from,
                    seconds(from),
                    newer.session
                )
            };
            if until > next_answer.saturating_add(tolerance.beat_us) {
                findings.add(Kind::AdaptersActing, group.id, what("it went on after its next answer"));
                continue;
            }
            match why(group, own, older) {
                Some(ended) => {
                    let overlaps = findings.adapters.overlaps.entry(ended).or_default();
                    overlaps.count += 1;
                    overlaps.longest_us = overlaps.longest_us.max(until - from);
                }
                None => findings.add(Kind::AdaptersActing, group.id, what("it was told in time to hand over")),
            }
        }
    }
}

/// Why the older one acted on; `None` where it was told in time that it is to hand over.
fn why(group: &GroupRecord<'_>, own: &[Beat<'_>], older: &Spell<'_>) -> Option<Ended> {
    if older.term == 0 {
        return Some(Ended::SavedItsRole);
    }
    let Some((end, reason)) = group.holder_of(older.term).and_then(|tenure| tenure.end) else {
        return Some(Ended::WithItsHistory);
    };
    match reason {
        _ if group.is_in_doubt(end) => Some(Ended::WithItsHistory),
        "yielded" | "override" => {
            let with_its_term =
                |beat: &&Beat<'_>| beat.ok.is_some_and(|ok| ok.role == PRIMARY && ok.term == older.term);
            let lease_until =
                own.iter().filter(with_its_term).filter_map(|beat| Some(beat.sent + beat.ok?.lease_us)).max();
            let told_otherwise = |beat: &Beat<'_>| {
                beat.ok.is_some_and(|ok| ok.role != PRIMARY && ok.at >= older.from && Some(ok.at) < lease_until)
            };
            (!own.iter().any(told_otherwise)).then_some(Ended::HandedOverUnheard)
        }
        "session_deleted" => Some(Ended::Deleted),
        _ => Some(Ended::Lapsed),
    }
}

fn spells_of(process: usize, log: &ClientLog) -> Vec<Spell<'_>> {
    let mut spells: Vec<Spell<'_>> = Vec::new();
    let mut acting: Option<(i64, Spell<'_>)> = None;
    for event in &log.events {
        let ends = matches!(event, ClientEvent::Acts { .. } | ClientEvent::Stopped { .. } | ClientEvent::Asleep { .. });
        let Some((began, spell)) = acting.filter(|_| ends) else {
            if let ClientEvent::Acts { from, term } = event {
                let spell = Spell { process, session: &log.session, term: *term, from: from.wall, until: from.wall };
                acting = Some((from.mono, spell));
            }
            continue;
        };
        spells.push(Spell { until: spell.from + event.mono() - began, ..spell });
        acting = match event {
            ClientEvent::Acts { from, term } => Some((from.mono, Spell { term: *term, from: from.wall, ..spell })),
            ClientEvent::Asleep { until, .. } => Some((until.mono, Spell { from: until.wall, ..spell })),
            _ => None,
        };
    }
    // It was killed while it acted.
    if let (Some((began, spell)), Some(last)) = (acting, log.events.last()) {
        spells.push(Spell { until: spell.from + (last.mono() - began).max(0), ..spell });
    }
    spells
}

/// What was dropped as sent was sent by somebody, or the Primary never had it.
fn data(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut sent_at: BTreeMap<i64, i64> = BTreeMap::new();
    for event in group.logs.iter().flat_map(|log| &log.events) {
        let ClientEvent::Delivered { at, first, last } = event else { continue };
        for item in items(*first, *last) {
            let earliest = sent_at.entry(item).or_insert(at.wall);
            *earliest = at.wall.min(*earliest);
        }
    }
    for log in &group.logs {
        for event in &log.events {
            let ClientEvent::Trimmed { at, first, last } = event else { continue };
            findings.adapters.trimmed += items(*first, *last).count();
            let was_sent = |item: &i64| sent_at.get(item).is_some_and(|sent| *sent <= at.wall);
            let lost = items(*first, *last).filter(|item| !was_sent(item) && !went_unseen(group, *item, at.wall));
            let lost: Vec<i64> = lost.collect();
            if let Some(item) = lost.first() {
                let what = format!(
                    "at {} {} dropped {} items that nobody had sent, the first of {}",
                    seconds(at.wall),
                    log.session,
                    lost.len(),
                    seconds(*item)
                );
                findings.add(Kind::DataLost, group.id, what);
            }
        }
    }
}

fn items(first: i64, last: i64) -> impl Iterator<Item = i64> {
    (first..=last).step_by(ITEM_US as usize)
}

/// Whether a Primary that did not have that item went on with later ones until then: the watermark
/// is past what it never saw. A hot one has what is made while it runs; others keep nothing, so
/// that what they have is what they send.
fn went_unseen(group: &GroupRecord<'_>, item: i64, until: i64) -> bool {
    group.logs.iter().any(|log| {
        let goes_on = |event: &ClientEvent| match event {
            ClientEvent::Delivered { at, last, .. } => *last > item && at.wall <= until,
            _ => false,
        };
        let had_it = |event: &ClientEvent| match event {
            ClientEvent::Started { at } => log.keeps == Keeps::ItsRole(Mode::Hot) && at.wall < item,
            _ => false,
        };
        log.events.iter().any(goes_on) && !log.events.iter().any(had_it)
    })
}
