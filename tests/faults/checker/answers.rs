//! What clients were answered, against the trace, against the database, and against each other.

use std::collections::BTreeMap;

use super::super::record::{ClientEvent, HeartbeatRow, PRIMARY, SECONDARY};
use super::{Beat, Findings, GroupRecord, Kind, ON_ITS_WAY_US, first_instant, seconds};

pub fn check(group: &GroupRecord<'_>, findings: &mut Findings) {
    roles(group, findings);
    nothing_falls(group, findings);
    terms_are_given_once(group, findings);
    watermarks(group, findings);
    entitlements(group, findings);
    reads(group, findings);
    data(group, findings);
    for audit in &group.record.audits {
        stored(group, audit.at, audit.until, &audit.heartbeats, findings);
    }
    stored(group, group.record.ended_at, i64::MAX, &group.record.heartbeats, findings);
}

/// The role in an answer is one that the trace has between question and answer, and the term
/// likewise.
fn roles(group: &GroupRecord<'_>, findings: &mut Findings) {
    for beat in &group.beats {
        // The trace of what is lost is lost with it.
        let Some(ok) = beat.ok.filter(|ok| !group.may_be_lost(beat.sent, ok.at)) else { continue };
        let roles = group.trace.roles_between(beat.session, beat.sent, ok.at);
        let is_told = |role: &i16| if beat.of_adapter && *role != PRIMARY { SECONDARY } else { *role };
        if !roles.iter().any(|role| is_told(role) == ok.role) {
            let what = format!(
                "{} was answered {} at {}, but by the trace was {roles:?}",
                beat.session,
                ok.role,
                seconds(ok.at)
            );
            findings.add(Kind::AnswerWithoutRow, group.id, what);
        }
        let (lowest, highest) = group.trace.terms_between(beat.sent, ok.at);
        let highest = group.bases_until(ok.at).fold(highest, i64::max);
        let holder = group.holder_of(ok.term);
        let holds = ok.role != PRIMARY || holder.is_some_and(|tenure| tenure.session == beat.session);
        if ok.term < lowest || ok.term > highest || !holds {
            let what = format!(
                "{} was answered {} with term {} at {}, but by the trace it was {lowest} to {highest}, of {:?}",
                beat.session,
                ok.role,
                ok.term,
                seconds(ok.at),
                holder.map(|tenure| tenure.session)
            );
            findings.add(Kind::Term, group.id, what);
        }
    }
}

/// A heartbeat that was sent after an answer had come sees at least its term and its watermark.
fn nothing_falls(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut answered: Vec<&Beat<'_>> = group.beats.iter().filter(|beat| beat.ok.is_some()).collect();
    let by_sending = answered.clone();
    answered.sort_by_key(|beat| beat.ok.map(|ok| ok.at));
    let mut earlier = answered.into_iter().filter_map(|beat| Some((beat.sent, beat.ok?))).peekable();
    let mut term = 0;
    let mut watermarks: Vec<(i64, Option<i64>)> = Vec::new();
    for beat in by_sending {
        while let Some((sent, ok)) = earlier.next_if(|(_, ok)| ok.at < beat.sent) {
            term = term.max(ok.term);
            if !group.may_be_lost(sent, ok.at) {
                watermarks.push((sent, ok.watermark));
            }
        }
        let Some(ok) = beat.ok else { continue };
        // With a new group a new watermark begins; the terms go on.
        let began = group_began(group, ok.at);
        watermarks.retain(|(sent, _)| began.is_none_or(|began| *sent > began));
        let watermark = watermarks.iter().filter_map(|(_, watermark)| *watermark).max();
        watermarks.retain(|(_, told)| *told == watermark);
        if ok.term < term {
            findings.add(Kind::Term, group.id, format!("it fell from {term} to {} at {}", ok.term, seconds(ok.at)));
        }
        if ok.watermark < watermark {
            let what = format!("it fell from {watermark:?} to {:?} at {}", ok.watermark, seconds(ok.at));
            findings.add(Kind::Watermark, group.id, what);
        }
    }
    let stored = group.record.groups.iter().find(|stored| stored.group == group.id).and_then(|stored| stored.watermark);
    let began = group_began(group, i64::MAX);
    let in_the_present_one = |beat: &&Beat<'_>| began.is_none_or(|began| beat.sent > began);
    let answered = group.beats.iter().filter(in_the_present_one);
    let answered =
        answered.filter_map(|beat| beat.ok.filter(|ok| !group.may_be_lost(beat.sent, ok.at))?.watermark).max();
    if stored < answered {
        findings.add(Kind::Watermark, group.id, format!("{answered:?} was answered, but {stored:?} is stored"));
    }
}

/// When the group that there was then had begun at the latest; `None` if it was the first.
fn group_began(group: &GroupRecord<'_>, at: i64) -> Option<i64> {
    let of_the_group = group.deletions().filter(|deletion| deletion.session.is_none() && deletion.from <= at);
    of_the_group.map(|deletion| deletion.until).max()
}

/// No term is given to two sessions, whatever was lost in between.
fn terms_are_given_once(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut holders: BTreeMap<i64, &str> = BTreeMap::new();
    for beat in &group.beats {
        let Some(ok) = beat.ok.filter(|ok| ok.role == PRIMARY) else { continue };
        let holder = *holders.entry(ok.term).or_insert(beat.session);
        if holder != beat.session {
            let what = format!("{} was given to {holder} and, by {}, to {}", ok.term, seconds(ok.at), beat.session);
            findings.add(Kind::Term, group.id, what);
        }
    }
}

/// A watermark was reported by a session that was Primary then, or is the present in place of a
/// future.
fn watermarks(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut seen = std::collections::BTreeSet::new();
    for beat in &group.beats {
        let Some(ok) = beat.ok.filter(|ok| !group.may_be_lost(beat.sent, ok.at)) else { continue };
        let Some(watermark) = ok.watermark.filter(|watermark| seen.insert(*watermark)) else { continue };
        let mut reporters = group.beats.iter().filter(|beat| beat.data_time == Some(watermark)).peekable();
        let from_nobody = reporters.peek().is_none();
        let counts = |beat: &Beat<'_>| {
            let until = beat.ok.map_or(beat.sent + ON_ITS_WAY_US, |ok| ok.at);
            group.trace.roles_between(beat.session, beat.sent, until).contains(&PRIMARY)
                || group.may_be_lost(beat.sent, until)
        };
        // By the database's clock, however far it was behind.
        let present = |beat: &Beat<'_>| beat.sent + group.record.clock.least_off_between(beat.sent, ok.at).min(0);
        let future =
            || group.beats.iter().any(|beat| beat.data_time.is_some_and(|time| time > watermark.max(present(beat))));
        let sound = if from_nobody { future() } else { reporters.any(counts) };
        if !sound {
            let what = format!("{watermark} was answered at {}, but no Primary reported it", seconds(ok.at));
            findings.add(Kind::Watermark, group.id, what);
        }
    }
}

/// No two clients were entitled to act at once.
fn entitlements(group: &GroupRecord<'_>, findings: &mut Findings) {
    struct Entitled<'a> {
        session: &'a str,
        from: i64,
        until: i64,
    }
    let mut all: Vec<Entitled<'_>> = Vec::new();
    for (place, log) in group.logs.iter().enumerate() {
        // A process of the same session begins only after the one before it has ended.
        let successor = group.logs[place + 1..].iter().find(|later| later.session == log.session);
        let dead_at = successor.map_or(i64::MAX, |later| first_instant(later));
        let mut own: Vec<Entitled<'_>> = Vec::new();
        for event in &log.events {
            let (ClientEvent::May { from: ended, .. } | ClientEvent::Stopped { at: ended }) = event else { continue };
            if let Some(before) = own.last_mut() {
                before.until = before.until.min(*ended);
            }
            if let ClientEvent::May { from, until, .. } = event {
                own.push(Entitled { session: &log.session, from: *from, until: (*until).min(dead_at) });
            }
        }
        all.extend(own);
    }
    all.sort_by_key(|entitled| entitled.from);
    let mut latest: Option<Entitled<'_>> = None;
    for entitled in all {
        if let Some(before) = &latest
            && before.session != entitled.session
            && entitled.from < before.until
        {
            let what = format!(
                "{} was entitled to act for {} us after {} was",
                before.session,
                before.until.min(entitled.until) - entitled.from,
                entitled.session
            );
            findings.add(Kind::TwoActing, group.id, what);
        }
        if latest.as_ref().is_none_or(|before| before.until < entitled.until) {
            latest = Some(entitled);
        }
    }
}

/// What `GET` shows is true then: at most one Primary, whose lease stands.
fn reads(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut shown: Vec<_> = group.record.shown.iter().filter(|shown| shown.group == group.id).collect();
    for pair in shown.windows(2).filter(|pair| pair[0].at == pair[1].at) {
        let what = format!("{} and {} were shown as Primary at once", pair[0].session, pair[1].session);
        findings.add(Kind::StaleRead, group.id, what);
    }
    if group.is_of_members() {
        // It is not known until when their leases stand.
        shown.clear();
    }
    for shown in shown {
        let own = || group.beats.iter().filter(|beat| beat.session == shown.session);
        let under_way = |beat: &Beat<'_>| beat.ok.is_none() && beat.sent > shown.at - ON_ITS_WAY_US;
        if own().any(under_way) {
            continue;
        }
        let timeout = super::gaps::timeout(group, shown.at, shown.at);
        let renewed = own().filter_map(|beat| Some(beat.ok?.at)).filter(|at| *at <= shown.at + ON_ITS_WAY_US).max();
        let returned = group.record.outages.iter().map(|outage| outage.recovered_at).max();
        let stands_until = renewed.max(returned).unwrap_or(0) + timeout;
        if stands_until < shown.at {
            let what = format!(
                "{} was shown as Primary at {}, but its lease ended by {}",
                shown.session,
                seconds(shown.at),
                seconds(stands_until)
            );
            findings.add(Kind::StaleRead, group.id, what);
        }
    }
}

/// Whoever receives the data never sees an older term after a newer one.
fn data(group: &GroupRecord<'_>, findings: &mut Findings) {
    let mut sent: Vec<(i64, i64, &str)> = Vec::new();
    for log in &group.logs {
        sent.extend(log.events.iter().filter_map(|event| match event {
            ClientEvent::Acted { at, term } => Some((*at, *term, log.session.as_str())),
            _ => None,
        }));
    }
    sent.sort_unstable();
    for pair in sent.windows(2) {
        let ((_, newer, _), (_, term, session)) = (pair[0], pair[1]);
        if term < newer {
            let what = format!("{session} sent data with term {term} after data with term {newer}");
            findings.add(Kind::TwoActing, group.id, what);
        }
    }
}

/// The latest heartbeat of each session that had been answered by then is stored, or a later one
/// is.
fn stored(group: &GroupRecord<'_>, at: i64, read_until: i64, rows: &[HeartbeatRow], findings: &mut Findings) {
    let mut sessions: Vec<&str> = group.beats.iter().map(|beat| beat.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        let own = || group.beats.iter().filter(|beat| beat.session == session);
        let Some(last) = own()
            .filter(|beat| beat.ok.is_some_and(|ok| ok.at < at && !group.may_be_lost(beat.sent, ok.at)))
            .max_by_key(|beat| beat.sent)
        else {
            continue;
        };
        // With its session a heartbeat goes.
        if group.said_goodbye(session, last.sent, read_until) {
            continue;
        }
        if group.deletions_of(session).any(|deletion| deletion.from <= read_until && deletion.until >= last.sent) {
            continue;
        }
        let Some(row) = rows.iter().find(|row| row.group == group.id && row.session == session) else {
            findings.add(Kind::HeartbeatLost, group.id, format!("{session} has none stored"));
            continue;
        };
        let superseded = |beat: &&Beat<'_>| beat.ok.is_some_and(|ok| ok.at < last.sent);
        let is_that = own().any(|beat| match beat.heartbeat_time {
            Some(time) => time == row.heartbeat_time && !superseded(&beat),
            // The database's time of receiving it.
            None => !superseded(&beat) && row.received_at >= beat.sent,
        });
        if row.received_at < last.sent || !is_that {
            let what = format!(
                "that of {session} sent at {} was answered, but at {} one received at {} is stored",
                seconds(last.sent),
                seconds(at),
                seconds(row.received_at)
            );
            findings.add(Kind::HeartbeatLost, group.id, what);
        }
    }
}
