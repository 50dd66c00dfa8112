//! What operators wish of sessions, and how it bears on the rank.
//!
//! A wish never takes a role from anybody who may act on it: it changes who is first in rank, and
//! the Primary yields as it would to a healthier session.

use super::set_role;
use super::state::{Group, Moment, Reason, Transition};
use super::values::{Instant, Role};

/// What an operator wishes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// It ranks before all others while it is live, whatever their health.
    Forced(WhenSilent),
    /// It is not Primary, and not to become it: its machine is worked on.
    Excluded,
    /// Once: as forced, until it is granted Primary.
    SwitchTo,
    /// Once: it ranks behind all others, until another is granted Primary.
    SwitchAway,
}

/// What happens while a forced session is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenSilent {
    /// The best of the others takes its place.
    Replace,
    /// Nobody else is granted Primary. Who holds it keeps it.
    Hold,
}

impl Wish {
    /// Whether it puts its session before all others: of such wishes a group has at most one.
    pub fn puts_first(self) -> bool {
        matches!(self, Wish::Forced(_) | Wish::SwitchTo)
    }

    /// Whether it is over as soon as it is fulfilled.
    pub fn is_once(self) -> bool {
        matches!(self, Wish::SwitchTo | Wish::SwitchAway)
    }
}

/// A wish, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wished {
    /// What is wished.
    pub wish: Wish,
    /// Until when, by the database's clock; `None` until it is withdrawn.
    pub until: Option<Instant>,
}

impl Wished {
    /// Whether its end has come.
    pub fn is_over(self, at: Moment<'_>) -> bool {
        self.until.is_some_and(|until| until <= at.now)
    }
}

/// How a wish came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WishEnd {
    /// What it wished once has happened.
    Done,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Withdrawn,
    /// A newer one took its place.
    Replaced,
}

/// Why a wish cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwishable {
    /// Nobody can be switched over to who is not live.
    NotLive,
    /// Nor who is kept out.
    IsExcluded,
    /// Another is forced, by place: that is a wish for longer, and it stands.
    AnotherIsForced(usize),
    /// The Primary is forced itself.
    IsForced,
    /// There is no Primary to switch away from.
    NoPrimary,
    /// Nobody could take its place.
    NobodyElse,
}

/// Sets a wish of session `s`. It takes the place of one that `s` has; and where it puts `s` first,
/// of any other that does the same. A Primary is asked to yield by its own next heartbeat; nobody
/// loses the lease that it has.
///
/// # Errors
///
/// Only a switch-over is refused, which would not come about.
pub fn wish(
    group: &mut Group,
    s: usize,
    wished: Wished,
    at: Moment<'_>,
    trace: &mut Vec<Transition>,
) -> Result<(), Unwishable> {
    super::lapse(group, at, trace);
    if wished.is_over(at) {
        // It is nothing any more, and takes no other's place.
        return Ok(());
    }
    match wished.wish {
        Wish::SwitchTo => can_switch_to(group, s, at)?,
        Wish::SwitchAway => can_switch_away(group, s, at)?,
        Wish::Forced(_) | Wish::Excluded => {}
    }
    if wished.wish.puts_first() {
        for i in (0..group.sessions.len()).filter(|i| *i != s) {
            if group.wish_of(i).is_some_and(Wish::puts_first) {
                end_wish(group, i, trace);
            }
        }
    }
    match (wished.wish, group.wish_of(s)) {
        // It is already, and more: for longer.
        (Wish::SwitchTo, Some(Wish::Forced(_))) | (Wish::SwitchAway, Some(Wish::Excluded)) => return Ok(()),
        (Wish::SwitchTo, _) if group.sessions[s].role == Role::Primary => group.sessions[s].wish = None,
        _ => group.sessions[s].wish = Some(wished),
    }
    if wished.wish == Wish::Excluded && group.sessions[s].role == Role::PendingPrimary {
        set_role(group, s, Role::Secondary, Reason::Override, trace);
    }
    Ok(())
}

/// Takes the wish of session `s` back, if it has one.
pub fn withdraw(group: &mut Group, s: usize, at: Moment<'_>, trace: &mut Vec<Transition>) {
    super::lapse(group, at, trace);
    end_wish(group, s, trace);
}

fn can_switch_to(group: &Group, s: usize, at: Moment<'_>) -> Result<(), Unwishable> {
    match group.first_by_wish() {
        _ if group.wish_of(s) == Some(Wish::Excluded) => Err(Unwishable::IsExcluded),
        Some((f, Wish::Forced(_))) if f != s => Err(Unwishable::AnotherIsForced(f)),
        _ if !group.is_live(s, at) => Err(Unwishable::NotLive),
        _ => Ok(()),
    }
}

fn can_switch_away(group: &Group, s: usize, at: Moment<'_>) -> Result<(), Unwishable> {
    let can_replace = |i: usize| i != s && group.is_live(i, at) && group.wish_of(i) != Some(Wish::Excluded);
    match group.first_by_wish() {
        _ if group.sessions[s].role != Role::Primary => Err(Unwishable::NoPrimary),
        Some((f, _)) if f == s => Err(Unwishable::IsForced),
        Some((f, Wish::Forced(WhenSilent::Hold))) if !group.is_live(f, at) => Err(Unwishable::AnotherIsForced(f)),
        _ if !(0..group.sessions.len()).any(can_replace) => Err(Unwishable::NobodyElse),
        _ => Ok(()),
    }
}

/// Ends the wishes whose time is over.
pub(super) fn expire(group: &mut Group, at: Moment<'_>, trace: &mut Vec<Transition>) {
    for i in 0..group.sessions.len() {
        if group.sessions[i].wish.is_some_and(|wished| wished.is_over(at)) {
            end_wish(group, i, trace);
        }
    }
}

/// Ends what was wished once and has come about now that `s` is granted.
pub(super) fn fulfil(group: &mut Group, s: usize) {
    for i in 0..group.sessions.len() {
        let is_done = match group.wish_of(i) {
            Some(Wish::SwitchTo) => i == s,
            Some(Wish::SwitchAway) => i != s,
            Some(Wish::Forced(_) | Wish::Excluded) | None => false,
        };
        if is_done {
            group.sessions[i].wish = None;
        }
    }
}

/// Who was to take over by a wish alone is not any more. A Primary stays, until another outranks
/// it.
fn end_wish(group: &mut Group, i: usize, trace: &mut Vec<Transition>) {
    let Some(ended) = group.sessions[i].wish.take() else { return };
    if ended.wish.puts_first() && group.sessions[i].role == Role::PendingPrimary {
        set_role(group, i, Role::Secondary, Reason::OverrideEnded, trace);
    }
}

/// How a wish that session `s` had came to its end, as can be told from what is there now.
pub fn how_ended(group: &Group, s: usize, had: Wished, at: Moment<'_>) -> WishEnd {
    let is_primary = |i: usize| group.sessions.get(i).is_some_and(|session| session.role == Role::Primary);
    let has_a_wish = |i: usize| group.wish_of(i).is_some();
    match had.wish {
        Wish::SwitchTo if is_primary(s) => WishEnd::Done,
        Wish::SwitchAway if group.holder(Role::Primary).is_some_and(|p| p != s) => WishEnd::Done,
        _ if had.is_over(at) => WishEnd::Expired,
        _ if has_a_wish(s) => WishEnd::Replaced,
        wish if wish.puts_first() && group.first_by_wish().is_some_and(|(f, _)| f != s) => WishEnd::Replaced,
        _ => WishEnd::Withdrawn,
    }
}

impl Group {
    /// What is wished of session `i`. Wishes that are over are taken away by every decision before
    /// it looks.
    pub fn wish_of(&self, i: usize) -> Option<Wish> {
        self.sessions[i].wish.map(|wished| wished.wish)
    }

    /// Who ranks first by a wish while it is live, and by which.
    pub fn first_by_wish(&self) -> Option<(usize, Wish)> {
        let first = |i: usize| self.wish_of(i).filter(|wish| wish.puts_first()).map(|wish| (i, wish));
        (0..self.sessions.len()).find_map(first)
    }
}
