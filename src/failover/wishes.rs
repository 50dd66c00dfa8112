//! The operators' word: what they wish of sessions, what would come of it, and what came of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::history::HistoryRange;
use super::log::{self, changes_of, log_changes, log_deed};
use super::{Caller, Failover, FailoverError, no_such_session};
use crate::arbitration::{
    self, Course, Foreseen, Instant, Reason, Role, Rules, Unwishable, Wish, Wished, foresee, without_primary_us,
};
use crate::ids::{GroupPath, SessionId};
use crate::store::LostCommit;
use crate::store::clock::Clock;
use crate::store::events::{Event, Happening};
use crate::store::state::{self, Actor, StoredGroup, Wisher};

/// How long a wish is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until it is withdrawn.
    UntilWithdrawn,
    /// For so long from now on.
    For(Duration),
    /// Until then.
    Until(DateTime<Utc>),
    /// For so many of the group's timeouts from now on.
    Timeouts(u8),
}

/// Whether it is done, or only said what would come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is done.
    Done,
    /// It is not.
    DryRun,
}

/// Whom a switch-over is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchTo {
    /// That session.
    Session(SessionId),
    /// The best of the others.
    Best,
}

/// What is wished now, and what comes of it.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The clock at that moment.
    pub now: DateTime<Utc>,
    /// The id of whom something is wished; `None` where nothing is any more.
    pub session: Option<String>,
    /// What is wished.
    pub wished: Option<Wished>,
    /// Who was Primary at that moment.
    pub primary: Option<String>,
    /// What the next heartbeats change, if clients say nothing of the role that they act in.
    pub if_silent: Foresight,
    /// And if they follow the group's events, and say it.
    pub if_attentive: Foresight,
}

/// What came of a switch-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedOver {
    /// Who is Primary.
    pub session: String,
    /// How long after it was asked for, in milliseconds.
    pub took_ms: i64,
    /// For how long nobody was.
    pub without_primary_ms: i64,
}

/// What is done to the wishes of a group, and of whom something is wished then.
type WishChange<'a> = dyn Fn(&mut StoredGroup, &Clock) -> Result<Option<usize>, FailoverError> + Sync + 'a;

/// How often it is looked whether a switch-over has come about.
const LOOK: Duration = Duration::from_millis(100);

/// What is foreseen.
#[derive(Clone, Debug)]
pub struct Foresight {
    /// Changes of roles, in order.
    pub changes: Vec<ForeseenChange>,
    /// For how long nobody would be Primary, in milliseconds.
    pub without_primary_ms: i64,
}

/// A change of a role that is foreseen.
#[derive(Clone, Debug)]
pub struct ForeseenChange {
    /// How long after the moment, in milliseconds.
    pub after_ms: i64,
    /// Whose.
    pub session: String,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// Why.
    pub reason: Reason,
}

impl Failover {
    /// Sets a wish of a session, until it is withdrawn or over. The same again only moves its end.
    pub async fn wish(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
        wish: Wish,
        lasts: Lasts,
        mode: Mode,
    ) -> Result<Outlook, FailoverError> {
        let change = |stored: &mut StoredGroup, clock: &Clock| {
            let s = stored.find_session(session.as_str()).ok_or_else(|| no_such_session(path, session))?;
            set(stored, s, wish, lasts, clock).map_err(|why| unwishable(path, stored, s, why))?;
            Ok(Some(s))
        };
        self.change_wishes(caller, path, mode, LostCommit::Repeat, &change).await
    }

    /// Takes a session's wish back. Where there is none, nothing changes.
    pub async fn withdraw_wish(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
        mode: Mode,
    ) -> Result<Outlook, FailoverError> {
        let change = |stored: &mut StoredGroup, clock: &Clock| {
            let s = stored.find_session(session.as_str()).ok_or_else(|| no_such_session(path, session))?;
            arbitration::withdraw(&mut stored.group, s, clock.moment(), &mut stored.trace);
            Ok(None)
        };
        self.change_wishes(caller, path, mode, LostCommit::Repeat, &change).await
    }

    /// Takes back that a session is forced. What else is wished of it stays.
    pub async fn withdraw_force(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
    ) -> Result<Outlook, FailoverError> {
        let change = |stored: &mut StoredGroup, clock: &Clock| {
            let s = stored.find_session(session.as_str()).ok_or_else(|| no_such_session(path, session))?;
            if matches!(stored.group.wish_of(s), Some(Wish::Forced(_))) {
                arbitration::withdraw(&mut stored.group, s, clock.moment(), &mut stored.trace);
            }
            Ok(None)
        };
        self.change_wishes(caller, path, Mode::Done, LostCommit::Repeat, &change).await
    }

    /// Has another session be Primary, once. Given up where that has not come about in time.
    pub async fn switch_over(
        &self,
        caller: &Caller,
        path: &GroupPath,
        to: &SwitchTo,
        lasts: Lasts,
        mode: Mode,
    ) -> Result<Outlook, FailoverError> {
        let change = |stored: &mut StoredGroup, clock: &Clock| {
            let (s, wish) = match to {
                SwitchTo::Session(session) => {
                    let s = stored.find_session(session.as_str()).ok_or_else(|| no_such_session(path, session))?;
                    (s, Wish::SwitchTo)
                }
                SwitchTo::Best => {
                    arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
                    let no_primary = || unwishable(path, stored, 0, Unwishable::NoPrimary);
                    (stored.group.holder(Role::Primary).ok_or_else(no_primary)?, Wish::SwitchAway)
                }
            };
            set(stored, s, wish, lasts, clock).map_err(|why| unwishable(path, stored, s, why))?;
            Ok(Some(s))
        };
        // Away from the Primary a second time would be away from the one that took over.
        let lost = if *to == SwitchTo::Best { LostCommit::Report } else { LostCommit::Repeat };
        self.change_wishes(caller, path, mode, lost, &change).await
    }

    /// Waits until a switch-over has come about; `None` where it has not by then, or was given up.
    pub async fn wait_for_switch_over(
        &self,
        path: &GroupPath,
        outlook: &Outlook,
        limit: Duration,
    ) -> Result<Option<SwitchedOver>, FailoverError> {
        if outlook.session == outlook.primary
            && outlook.wished.is_none_or(|wished| wished.wish.puts_first())
            && let Some(session) = outlook.session.clone()
        {
            return Ok(Some(SwitchedOver { session, took_ms: 0, without_primary_ms: 0 }));
        }
        // It is given up then, and what comes later is not its doing.
        let ends_in = outlook.wished.and_then(|wished| wished.until).map(|until| {
            let left_us = until.0.saturating_sub(outlook.now.timestamp_micros());
            Duration::from_micros(u64::try_from(left_us).unwrap_or(0)) + LOOK
        });
        let until = tokio::time::Instant::now() + ends_in.map_or(limit, |ends_in| ends_in.min(limit));
        loop {
            let range = HistoryRange { since: Some(outlook.now), until: None, skip: 0, count: 50 };
            match self.list_transitions(path, range).await {
                Ok(changes) => {
                    if let Some(done) = switched_over(outlook, &changes) {
                        return Ok(Some(done));
                    }
                }
                // What was asked for is wished, whatever can be read meanwhile: nobody is to ask
                // for it again.
                Err(error) => tracing::debug!(%error, "a switch-over that is waited for cannot be looked at"),
            }
            if tokio::time::Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes a switch-over back that has not come about. Where there is none, nothing changes.
    pub async fn cancel_switch_over(
        &self,
        caller: &Caller,
        path: &GroupPath,
        mode: Mode,
    ) -> Result<Outlook, FailoverError> {
        let change = |stored: &mut StoredGroup, clock: &Clock| {
            arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
            for s in 0..stored.group.sessions.len() {
                if stored.group.wish_of(s).is_some_and(Wish::is_once) {
                    arbitration::withdraw(&mut stored.group, s, clock.moment(), &mut stored.trace);
                }
            }
            Ok(None)
        };
        self.change_wishes(caller, path, mode, LostCommit::Repeat, &change).await
    }

    /// One transaction around a change of what is wished in a group. Where it is only to be told,
    /// nothing is written.
    async fn change_wishes(
        &self,
        caller: &Caller,
        path: &GroupPath,
        mode: Mode,
        lost: LostCommit,
        change: &WishChange<'_>,
    ) -> Result<Outlook, FailoverError> {
        let (stored, clock, s, changes) = self
            .store
            .serializable("change_wishes", lost, |connection, _| {
                Box::pin(async move {
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    stored.wisher = Some(wisher_of(caller));
                    let s = change(&mut stored, &clock)?;
                    if mode == Mode::DryRun {
                        return Ok((stored, clock, s, Vec::new()));
                    }
                    let mut stored = [stored];
                    state::save(connection, &clock, &mut stored, Actor::Operator).await?;
                    let changes = changes_of(&path.label(), &stored[0]);
                    let [stored] = stored;
                    Ok((stored, clock, s, changes))
                })
            })
            .await?;
        log_changes(&changes);
        if mode == Mode::Done && stored.has_other_wishes() {
            let session = s.and_then(|s| SessionId::parse(stored.session_ids[s].as_str()).ok());
            log_deed(Some(log::WISH_CHANGED), caller, &path.label(), session.as_ref());
        }
        let courses = Course::both(stored.group.timeout);
        self.play(stored, s, clock, courses).await
    }
}

impl Outlook {
    /// What comes of what is decided on a group, if clients go on in the one way and in the other.
    pub(super) fn of(
        stored: &StoredGroup,
        s: Option<usize>,
        clock: &Clock,
        rules: &Rules,
        [silent, attentive]: [Course; 2],
    ) -> Outlook {
        let foresight = |course: Course| {
            let foreseen = foresee(&stored.group, clock.moment(), rules, course);
            let change = |change: &Foreseen| ForeseenChange {
                after_ms: change.after_us / 1_000,
                session: stored.session_ids[change.session].clone(),
                from: change.from,
                to: change.to,
                reason: change.reason,
            };
            Foresight {
                changes: foreseen.iter().map(change).collect(),
                without_primary_ms: without_primary_us(&stored.group, &foreseen, course) / 1_000,
            }
        };
        Outlook {
            now: clock.now,
            session: s.map(|s| stored.session_ids[s].clone()),
            wished: s.and_then(|s| stored.group.sessions[s].wish),
            primary: stored.group.holder(Role::Primary).map(|p| stored.session_ids[p].clone()),
            if_silent: foresight(silent),
            if_attentive: foresight(attentive),
        }
    }
}

/// The first grant that is what was asked for, among changes of roles, the latest of which come
/// first.
fn switched_over(outlook: &Outlook, changes: &[Event]) -> Option<SwitchedOver> {
    let of_role = |event: &Event| match &event.what {
        Happening::RoleChanged(change) => Some((change.from, change.to)),
        _ => None,
    };
    let is_asked_for = |event: &Event| match outlook.wished.map(|wished| wished.wish) {
        Some(Wish::SwitchAway) => event.session != outlook.primary,
        _ => event.session == outlook.session,
    };
    let is_grant = |event: &Event| of_role(event).is_some_and(|(_, to)| to == Role::Primary);
    let granted = changes.iter().rev().find(|event| is_grant(event) && is_asked_for(event))?;
    let yielded = changes.iter().rev().find(|event| of_role(event).is_some_and(|(from, _)| from == Role::Primary));
    let since = yielded.map_or(outlook.now, |event| event.recorded_at).min(granted.recorded_at);
    Some(SwitchedOver {
        session: granted.session.clone()?,
        took_ms: (granted.recorded_at - outlook.now).num_milliseconds().max(0),
        without_primary_ms: (granted.recorded_at - since).num_milliseconds().max(0),
    })
}

fn set(stored: &mut StoredGroup, s: usize, wish: Wish, lasts: Lasts, clock: &Clock) -> Result<(), Unwishable> {
    let now = clock.moment().now;
    let after = |us: i64| Some(Instant(now.0.saturating_add(us)));
    let until = match lasts {
        Lasts::UntilWithdrawn => None,
        Lasts::For(duration) => after(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        Lasts::Until(until) => Some(Instant(until.timestamp_micros())),
        Lasts::Timeouts(timeouts) => after(stored.group.timeout.micros().saturating_mul(i64::from(timeouts))),
    };
    arbitration::wish(&mut stored.group, s, Wished { wish, until }, clock.moment(), &mut stored.trace)
}

/// Who is named for what a request does to wishes.
pub(super) fn wisher_of(caller: &Caller) -> Wisher {
    Wisher {
        identity: caller.identity.to_string(),
        operation_id: caller.operation_id.to_string(),
        claimed_trace: caller.claimed_trace.as_deref().map(str::to_owned),
    }
}

fn unwishable(path: &GroupPath, stored: &StoredGroup, s: usize, why: Unwishable) -> FailoverError {
    let named = match why {
        Unwishable::AnotherIsForced(f) => f,
        _ => s,
    };
    let session = stored.session_ids.get(named).cloned().unwrap_or_default();
    FailoverError::CannotSwitchOver { group: path.group.clone(), session, why }
}
