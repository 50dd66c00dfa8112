//! How a role is decided: state and an instant in, decision out.
//!
//! This module is pure. It owns every rule about roles, leases, terms, handovers and the watermark,
//! and never waits, reads a clock, or knows a database. Instants are the database's; the caller
//! reads its clock once per attempt of a transaction and passes it in. Sessions are named by their
//! place in [`Group::sessions`], which is their order of registration, so that a decision compares
//! numbers and not names.
//!
//! Seven entries: [`heartbeat`] decides (and [`changes_nothing`] tells where it need not see the
//! whole group), [`lapse`] takes away what has run out, [`remove`] deletes a session, and [`end`] a
//! group, [`doubt_for`] holds back grants, [`wish`] and [`withdraw`] are an operator's word;
//! [`Group::begin`] makes the one that follows it. [`foresee`] plays decisions ahead, on a copy.
//! Whichever comes first in a new history of the database leads the group over into it.

use std::cmp::Reverse;

use rust_decimal::Decimal;

mod foresight;
mod shown;
mod state;
mod values;
mod wishes;

#[cfg(test)]
mod tests;

pub use self::foresight::{Clients, Course, Foreseen, foresee, without_primary_us};
pub use self::shown::{Lease, TrueNow, true_now};
use self::state::acted_on_until;
pub use self::state::{
    Answer, Beat, By, Former, Group, Handover, HandoverMode, Moment, Outage, Reason, Remains, Report, Rules, Session,
    Transition, Vacancy, lease_end,
};
pub use self::values::{ClientInstant, FailoverTimeout, Health, History, HistoryId, Instant, Role, Term};
pub use self::wishes::{Unwishable, WhenSilent, Wish, WishEnd, Wished, how_ended, wish, withdraw};

/// One heartbeat from session `s`: takes away what has run out, records the report, ranks the live
/// sessions, and decides. Appends every change of a role to `trace`, in the order in which they
/// happened.
///
/// Primary is granted to `s` alone, never to anybody else, so that no session is called Primary
/// before it has been told.
pub fn heartbeat(
    group: &mut Group,
    s: usize,
    report: &Report,
    at: Moment<'_>,
    rules: &Rules,
    trace: &mut Vec<Transition>,
) -> Answer {
    lapse(group, at, trace);
    heed_term(group, report, at);
    let before = group.sessions[s].beat;
    let lease_before = before.map(|beat| beat.lease_until);
    let believed = group.believed(at);
    record(group, s, report, at);
    close_handover(group, s, before, report, at);
    let in_doubt = group.is_in_doubt(at);
    match in_doubt {
        false => group.in_doubt_until = None,
        true if believes(group, s, believed, before, report, at, trace) => return answer(group, s),
        true => {}
    }

    let best = first_in_rank(group, s, at, rules);
    match group.holder(Role::Primary) {
        Some(p) if best == Some(p) => replace_pending(group, None, Reason::Healthier, trace),
        Some(p) => {
            let is_wished = is_wished(group, p, best);
            replace_pending(group, best, if is_wished { Reason::Override } else { Reason::Healthier }, trace);
            if s == p {
                let reason = if is_wished { Reason::Override } else { Reason::Yielded };
                set_role(group, p, Role::Secondary, reason, trace);
                group.vacancy = Vacancy::Yielded;
                group.handover = open_handover(group, p, lease_before, at, rules);
            }
        }
        None if best != Some(s) || in_doubt => {
            let reason = why_pending(group, best);
            replace_pending(group, best, reason, trace);
        }
        None => match group.handover {
            Some(handover) if !handover.is_from(s) => {
                let reason = why_pending(group, best);
                replace_pending(group, best, reason, trace);
            }
            // Either nobody can still be acting, or only S itself can.
            _ => grant(group, s, why_granted(group), trace),
        },
    }
    answer(group, s)
}

fn answer(group: &Group, s: usize) -> Answer {
    debug_assert!(group.is_consistent());
    let role = group.sessions[s].role;
    Answer {
        role,
        term: group.term,
        watermark: group.watermark(),
        lease: (role == Role::Primary).then_some(group.timeout),
        timeout: group.timeout,
    }
}

/// Whether a heartbeat renews its session's lease and changes nothing else, whatever other sessions
/// the group has, as can be told from `s`, the holders of roles and those of whom something is
/// wished: `group` need have no others.
///
/// The Primary lives and stays: nobody is about to take over, it does not fall behind itself, and
/// `s` does not overtake it. A third session that is healthier than the Primary would have become
/// PendingPrimary with its own last heartbeat. Where it did and the PendingPrimary was taken from
/// it since, it does so again with its next.
pub fn changes_nothing(group: &Group, s: usize, report: &Report, at: Moment<'_>, rules: &Rules) -> bool {
    let Some(p) = group.holder(Role::Primary).filter(|p| group.is_live(*p, at)) else { return false };
    let Some(primary) = group.sessions[p].beat else { return false };
    if group.sessions.iter().any(|session| session.wish.is_some_and(|wished| wished.is_over(at))) {
        return false;
    }
    let stays = match (group.first_by_wish(), group.wish_of(p)) {
        (Some((first, wish)), _) => first == p && !wish.is_once(),
        (None, Some(_)) => false,
        (None, None) if s == p => report.health >= primary.health,
        (None, None) => group.wish_of(s).is_some() || !overtakes(report.health, primary.health, rules),
    };
    let is_settled = at.history.is_none_or(|history| history.id == group.history) && group.in_doubt_until.is_none();
    let is_news = report.term_seen.is_some_and(|seen| seen > group.term);
    stays && is_settled && !is_news && group.holder(Role::PendingPrimary).is_none() && group.handover.is_none()
}

/// Makes every session whose lease has run out Secondary, and ends the wishes whose time is over.
/// Never grants. A group of an earlier history begins anew.
pub fn lapse(group: &mut Group, at: Moment<'_>, trace: &mut Vec<Transition>) {
    group.begin_anew(at);
    wishes::expire(group, at, trace);
    for i in 0..group.sessions.len() {
        let role = group.sessions[i].role;
        if role == Role::Secondary || group.is_live(i, at) {
            continue;
        }
        if role == Role::Primary {
            group.vacancy = Vacancy::Lapsed;
        }
        set_role(group, i, Role::Secondary, Reason::LeaseLapsed, trace);
    }
}

/// Has a group be in doubt for as long as somebody may act on a lease that was given for so long in
/// a history that is lost. The change that made its timeout as long may be lost, too.
pub fn doubt_for(group: &mut Group, given_for: FailoverTimeout, at: Moment<'_>) {
    group.begin_anew(at);
    let Some(history) = at.history else { return };
    group.in_doubt_until = group.in_doubt_until.max(Some(history.noticed_at.plus(given_for)));
    group.in_doubt_until = group.in_doubt_until.filter(|_| group.is_in_doubt(at));
}

/// Takes the role from session `s`, which is about to be deleted, and keeps what it contributed to
/// the watermark. The next heartbeat of another session decides anew.
///
/// A session that says goodbye takes along any handover from it: it has stopped. Of one that
/// somebody else deletes nobody knows that, so what it may still act on is waited for, whatever the
/// mode.
///
/// That it is excluded outlives its own goodbye: whoever is kept out while its machine is worked on
/// stops and starts again meanwhile. Such a session stays, as one that was never heard of.
pub fn remove(group: &mut Group, s: usize, by: By, at: Moment<'_>, trace: &mut Vec<Transition>) {
    group.begin_anew(at);
    let waited_for = group.handover.filter(|handover| handover.is_from(s)).map(|handover| handover.until);
    let mut acts_until = waited_for;
    if group.sessions[s].role == Role::Primary {
        group.vacancy = Vacancy::Deleted;
        acts_until = group.sessions[s].beat.map(|beat| beat.lease_until);
    }
    let acts_until = acts_until.filter(|until| may_act_until(group, s, *until, at) > at.now);
    set_role(group, s, Role::Secondary, Reason::SessionDeleted, trace);
    match (by, acts_until) {
        (By::Another, Some(until)) => group.handover = Some(Handover { from: Former::Gone, until }),
        _ if waited_for.is_some() => group.handover = None,
        _ => {}
    }
    group.watermark_base = group.watermark_base.max(group.sessions[s].sent_until);
    let stays = |wished: &Wished| by == By::Itself && wished.wish == Wish::Excluded;
    let wish = group.sessions[s].wish.filter(stays);
    group.sessions[s] = Session { role: Role::Secondary, beat: None, sent_until: None, wish };
}

/// Takes all roles from a group that is about to be deleted with its sessions, none of which knows
/// of it. What it leaves behind is for the next group at its path to go on from.
pub fn end(group: &mut Group, at: Moment<'_>, trace: &mut Vec<Transition>) -> Remains {
    group.begin_anew(at);
    for s in 0..group.sessions.len() {
        remove(group, s, By::Another, at, trace);
    }
    let waited_for = group.handover.filter(|handover| waited_until(group, *handover, at) > at.now);
    // Who acts on a lease that was lost does not know of the deletion either.
    let in_doubt_until = group.in_doubt_until.filter(|_| group.is_in_doubt(at));
    Remains { term: group.term, acted_on_until: waited_for.map(|handover| handover.until).max(in_doubt_until) }
}

/// A client that was told a higher term than is known here was told so in a history that is lost:
/// the next one is above it.
///
/// A second net, beneath the base of a history. No term is believed that no base can have reached,
/// so that nobody can use them up.
fn heed_term(group: &mut Group, report: &Report, at: Moment<'_>) {
    let Some(seen) = report.term_seen.filter(|seen| *seen > group.term && seen.0 <= at.now.0 / 1_000) else { return };
    // Whoever holds Primary has a term of its own, as always.
    let is_held = group.holder(Role::Primary).is_some();
    group.term = Term(seen.0 + i64::from(is_held));
}

/// Whether S, which heartbeats while it is in doubt who acts, is Primary by its own word.
///
/// One client at most acts, whether the grant that it acts on is known here or lost; and it says
/// so. An older message than the last one that was heard may be of a time before that. Nobody else
/// is granted, whatever the rank: not before all leases that can have been lost are over. Whoever
/// is Primary here and does not act is none any more, for another may.
fn believes(
    group: &mut Group,
    s: usize,
    believed: Option<usize>,
    before: Option<Beat>,
    report: &Report,
    at: Moment<'_>,
    trace: &mut Vec<Transition>,
) -> bool {
    let is_newer = before.is_none_or(|before| report.sent_at > before.heard_by(at.now));
    let says_so = report.acting_as == Some(Role::Primary);
    match believed {
        Some(p) if p == s && (says_so || !is_newer) => return true,
        Some(p) if p != s => return false,
        None if says_so && is_newer => {
            take_up(group, s, trace);
            return true;
        }
        _ => {}
    }
    if group.sessions[s].role == Role::Primary {
        set_role(group, s, Role::Secondary, Reason::LeaseLapsed, trace);
        group.vacancy = Vacancy::Lapsed;
        // One that was believed has a lease that may outlast the doubt. Unless it says that it
        // stands by, it is waited for as one that yields is.
        let stands_by = report.acting_as == Some(Role::Secondary)
            && !before.is_some_and(|before| before.is_leapt_by(report.sent_at, at.now));
        if believed == Some(s) && !stands_by {
            group.handover = wait_for(group, s, before.map(|before| before.lease_until), at);
        }
    }
    false
}

/// Makes S Primary, which acts as one already: on a grant that is known here, or on one that is
/// lost.
fn take_up(group: &mut Group, s: usize, trace: &mut Vec<Transition>) {
    match group.holder(Role::Primary) {
        Some(p) if p == s => return,
        Some(p) => set_role(group, p, Role::Secondary, Reason::Superseded, trace),
        None => {}
    }
    grant(group, s, Reason::Recovered, trace);
}

/// Stores the heartbeat. No stored time of the session moves backwards, whatever the clock or the
/// timeout did.
fn record(group: &mut Group, s: usize, report: &Report, at: Moment<'_>) {
    let now = at.now;
    let timeout = group.timeout;
    let session = &mut group.sessions[s];
    session.beat = Some(match session.beat {
        Some(before) => before.followed_by(report, now, timeout, at.outages),
        None => Beat::first(report, now, timeout),
    });
    if session.role == Role::Primary {
        let sent_until = report.data_sent_until.map(|sent| sent.min(now));
        session.sent_until = session.sent_until.max(sent_until);
    }
}

/// Closes the handover if it has run out, or if this heartbeat of the session that yielded says
/// that it acts as Secondary. Only one that was sent after every heartbeat that had arrived when it
/// yielded counts: any of those may have been answered Primary, so that the client took an older
/// word back since (a delayed or repeated message). And only one by the clock as it was before:
/// what that clock said while it was wrong may be forgotten by now.
fn close_handover(group: &mut Group, s: usize, before: Option<Beat>, report: &Report, at: Moment<'_>) {
    let Some(handover) = group.handover else { return };
    let acknowledged = match handover.from {
        Former::Yielding { session, heard_until } => {
            session == s
                && report.acting_as == Some(Role::Secondary)
                && report.sent_at > heard_until
                && !before.is_some_and(|before| before.is_leapt_by(report.sent_at, at.now))
        }
        Former::Gone => false,
    };
    if acknowledged || at.now >= waited_until(group, handover, at) {
        group.handover = None;
    }
}

/// Until when nobody is granted because of that handover.
fn waited_until(group: &Group, handover: Handover, at: Moment<'_>) -> Instant {
    match handover.from {
        Former::Yielding { session, .. } => may_act_until(group, session, handover.until, at),
        // For how long its lease was given is not known any more: as long as any can be.
        Former::Gone => acted_on_until(handover.until, FailoverTimeout::MAX_TICKS / 10, at.outages),
    }
}

/// Until when session `i` may act on a lease that it held and that ended at that instant.
fn may_act_until(group: &Group, i: usize, until: Instant, at: Moment<'_>) -> Instant {
    let beat_us = group.sessions[i].beat.map_or(0, |beat| beat.lease_until.0 - beat.received_at.0);
    acted_on_until(until, beat_us.max(group.timeout.micros()), at.outages)
}

fn open_handover(
    group: &Group,
    p: usize,
    lease_before: Option<Instant>,
    at: Moment<'_>,
    rules: &Rules,
) -> Option<Handover> {
    wait_for(group, p, lease_before, at).filter(|_| rules.handover == HandoverMode::Strict)
}

/// A handover from `p`, which may act on the lease that it held before this heartbeat.
fn wait_for(group: &Group, p: usize, lease_before: Option<Instant>, at: Moment<'_>) -> Option<Handover> {
    let until = lease_before.filter(|until| may_act_until(group, p, *until, at) > at.now)?;
    let heard_until = group.sessions[p].beat?.heard_until;
    Some(Handover { from: Former::Yielding { session: p, heard_until }, until })
}

/// The first of the live sessions: by an operator's wish; by health; then the Primary, the
/// PendingPrimary, the one that is heartbeating, the one registered first. A live Primary is
/// outranked only by more than the margin.
///
/// Nobody, where all that are live are kept out, or the place is held for one that is silent.
fn first_in_rank(group: &Group, s: usize, at: Moment<'_>, rules: &Rules) -> Option<usize> {
    let is_kept_out = |i: usize| group.wish_of(i) == Some(Wish::Excluded);
    let primary = group.holder(Role::Primary);
    match group.first_by_wish() {
        Some((first, _)) if group.is_live(first, at) => return Some(first),
        Some((_, Wish::Forced(WhenSilent::Hold))) => return primary.filter(|p| !is_kept_out(*p)),
        _ => {}
    }
    let is_to_go = |i: usize| group.wish_of(i) == Some(Wish::SwitchAway);
    let health = |i: usize| group.sessions[i].beat.map_or(Health::default(), |beat| beat.health);
    let preference = |i: usize| match group.sessions[i].role {
        Role::Primary => 0,
        Role::PendingPrimary => 1,
        Role::Secondary if i == s => 2,
        Role::Secondary => 3,
    };
    // The greatest is first: of equals in all else, who registered first.
    let rank = |i: usize| (!is_to_go(i), health(i), Reverse(preference(i)), Reverse(i));
    let best =
        (0..group.sessions.len()).filter(|i| group.is_live(*i, at) && !is_kept_out(*i)).max_by_key(|i| rank(*i))?;
    match primary {
        Some(p) if group.wish_of(p).is_none() && !overtakes(health(best), health(p), rules) => Some(p),
        _ => Some(best),
    }
}

/// Whether it is by a wish that `p` is not first any more, and `best` is.
fn is_wished(group: &Group, p: usize, best: Option<usize>) -> bool {
    let is_first = |best: usize| group.wish_of(best).is_some_and(Wish::puts_first);
    group.wish_of(p).is_some() || best.is_none_or(is_first)
}

/// Whether one of that health outranks a live Primary of another: by more than the margin, or by
/// anything where the Primary has no health at all.
fn overtakes(challenger: Health, primary: Health, rules: &Rules) -> bool {
    let margin = if primary == Health::default() { Decimal::ZERO } else { rules.handover_margin };
    challenger.percent() > primary.percent() + margin
}

fn why_granted(group: &Group) -> Reason {
    match group.vacancy {
        Vacancy::NeverHeld => Reason::FirstHeartbeat,
        Vacancy::Lapsed => Reason::LeaseLapsed,
        Vacancy::Deleted => Reason::SessionDeleted,
        Vacancy::Yielded if group.handover.is_some() => Reason::Recovered,
        Vacancy::Yielded => Reason::HandoverCompleted,
    }
}

fn grant(group: &mut Group, s: usize, reason: Reason, trace: &mut Vec<Transition>) {
    if group.sessions[s].role != Role::PendingPrimary {
        replace_pending(group, None, Reason::Superseded, trace);
    }
    group.handover = None;
    group.term = Term(group.term.0 + 1);
    set_role(group, s, Role::Primary, reason, trace);
    wishes::fulfil(group, s);
}

/// Makes `next` the PendingPrimary, and whoever else was it Secondary.
fn replace_pending(group: &mut Group, next: Option<usize>, reason: Reason, trace: &mut Vec<Transition>) {
    let present = group.holder(Role::PendingPrimary);
    if present == next {
        return;
    }
    if let Some(present) = present {
        set_role(group, present, Role::Secondary, Reason::Superseded, trace);
    }
    if let Some(next) = next {
        set_role(group, next, Role::PendingPrimary, reason, trace);
    }
}

fn why_pending(group: &Group, best: Option<usize>) -> Reason {
    match group.vacancy {
        _ if best.is_some_and(|best| group.wish_of(best).is_some_and(Wish::puts_first)) => Reason::Override,
        Vacancy::NeverHeld => Reason::FirstHeartbeat,
        Vacancy::Lapsed => Reason::LeaseLapsed,
        Vacancy::Deleted => Reason::SessionDeleted,
        Vacancy::Yielded => Reason::Healthier,
    }
}

fn set_role(group: &mut Group, i: usize, to: Role, reason: Reason, trace: &mut Vec<Transition>) {
    let from = std::mem::replace(&mut group.sessions[i].role, to);
    if from != to {
        let term = group.term;
        trace.push(Transition { session: i, from, to, term, reason });
    }
}
