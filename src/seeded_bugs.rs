//! Deliberate defects, to see that the tests find them.
//!
//! Only with the feature `seeded-bugs`, and then only the one that `CLIENT_FAILOVER_SEEDED_BUG`
//! names. Without the feature [`active`] is a constant `false` and the variable means nothing. The
//! defects that break a promise are found by `tests/faults/seeded.rs`; docs/guarantees.md says by
//! what and how soon.

use std::sync::Arc;

use crate::arbitration::{By, ClientInstant, Former, Group, Handover, History, Instant, Report, Term};
use crate::store::state::Clock;

/// The variable that chooses one.
pub const VARIABLE: &str = "CLIENT_FAILOVER_SEEDED_BUG";

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// Transactions run at READ COMMITTED.
    ReadCommitted,
    /// Commits are acknowledged before they are on disk.
    CommitNotDurable,
    /// Heartbeats are answered before their transaction commits.
    AnsweredBeforeCommit,
    /// A conflict at COMMIT is taken for success.
    CommitConflictIgnored,
    /// A connection that breaks during COMMIT is taken for success.
    LostCommitTakenForDone,
    /// A transaction that is run again goes on with the clock of its first run.
    NowReusedOnRetry,
    /// A lease counts from the client's `HeartbeatTime`.
    LeaseByClientsClock,
    /// A lease is recomputed from the timeout that the group has now.
    LeaseRecomputed,
    /// The watermark takes the report of a session that is not Primary.
    WatermarkFromSecondary,
    /// Primary is granted while a handover is open.
    HandoverForgotten,
    /// An acknowledgement is believed however old it is.
    OldAcknowledgementBelieved,
    /// Leases are judged by the time in which the service was away.
    OutageForgotten,
    /// A COMMIT whose wait for a synchronous standby was cancelled is taken for one that was waited
    /// for.
    CancelledWaitTakenForDone,
    /// A sign of life is acknowledged before it is on disk, and so is given while no heartbeat can
    /// be committed.
    SignOfLifeNotDurable,
    /// A grant does not raise the stored term.
    TermNotStored,
    /// A lapse changes a role and leaves no row.
    RoleWithoutRow,
    /// Reads show the role of a session whose lease has lapsed.
    LapsedRoleShown,
    /// A group that is created where one was deleted begins with the first term, and waits for
    /// nobody.
    TermBeginsAgain,
    /// A deletion by somebody else is taken for the session's goodbye.
    DeletionTakenForGoodbye,
    /// Terms go on in a new history of the database as they are in it, whatever was given in the
    /// one that is lost.
    TermsNotLifted,
    /// Primary is granted in a new history of the database while somebody may act on a lease that
    /// is lost.
    GrantBeforeWait,
    /// Heartbeats are written in order of arrival, whoever sent them, and every group is read
    /// whole.
    BatchesUnfair,
}

impl SeededBug {
    /// Those that break a promise, with the names that the variable knows them by.
    pub const ALL: [(&'static str, SeededBug); 21] = [
        ("read-committed", SeededBug::ReadCommitted),
        ("commit-not-durable", SeededBug::CommitNotDurable),
        ("answered-before-commit", SeededBug::AnsweredBeforeCommit),
        ("commit-conflict-ignored", SeededBug::CommitConflictIgnored),
        ("lost-commit-taken-for-done", SeededBug::LostCommitTakenForDone),
        ("now-reused-on-retry", SeededBug::NowReusedOnRetry),
        ("lease-by-clients-clock", SeededBug::LeaseByClientsClock),
        ("lease-recomputed", SeededBug::LeaseRecomputed),
        ("watermark-from-secondary", SeededBug::WatermarkFromSecondary),
        ("handover-forgotten", SeededBug::HandoverForgotten),
        ("old-acknowledgement-believed", SeededBug::OldAcknowledgementBelieved),
        ("outage-forgotten", SeededBug::OutageForgotten),
        ("cancelled-wait-taken-for-done", SeededBug::CancelledWaitTakenForDone),
        ("sign-of-life-not-durable", SeededBug::SignOfLifeNotDurable),
        ("term-not-stored", SeededBug::TermNotStored),
        ("role-without-row", SeededBug::RoleWithoutRow),
        ("lapsed-role-shown", SeededBug::LapsedRoleShown),
        ("term-begins-again", SeededBug::TermBeginsAgain),
        ("deletion-taken-for-goodbye", SeededBug::DeletionTakenForGoodbye),
        ("terms-not-lifted", SeededBug::TermsNotLifted),
        ("grant-before-wait", SeededBug::GrantBeforeWait),
    ];

    /// Those that cost others their time: `tests/api/neighbours.rs` measures how much.
    pub const COSTLY: [(&'static str, SeededBug); 1] = [("batches-unfair", SeededBug::BatchesUnfair)];
}

/// Whether that defect is to be had.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn active(_: SeededBug) -> bool {
    false
}

/// Whether that defect is to be had.
#[cfg(feature = "seeded-bugs")]
pub fn active(bug: SeededBug) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<SeededBug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let all = SeededBug::ALL.iter().chain(&SeededBug::COSTLY);
        let chosen = all.clone().find(|(known, _)| *known == name);
        Some(chosen.unwrap_or_else(|| panic!("{VARIABLE} is '{name}', which is none of {all:?}")).1)
    });
    *CHOSEN == Some(bug)
}

/// Whether a COMMIT that failed like this is taken for success.
pub fn takes_for_done(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(_) => active(SeededBug::CommitConflictIgnored),
        None => active(SeededBug::LostCommitTakenForDone),
    }
}

/// The clock that a transaction's first run read.
#[derive(Default)]
pub struct FirstReading(std::sync::OnceLock<Clock>);

impl FirstReading {
    /// The clock to decide by.
    pub fn or(&self, clock: Clock) -> Clock {
        match active(SeededBug::NowReusedOnRetry) {
            true => self.0.get_or_init(|| clock).clone(),
            false => clock,
        }
    }
}

/// What a defect makes of a group as it is read.
pub fn after_reading(group: &mut Group) {
    if active(SeededBug::LeaseRecomputed) {
        for beat in group.sessions.iter_mut().filter_map(|session| session.beat.as_mut()) {
            beat.lease_until = beat.received_at.plus(group.timeout);
        }
    }
    if active(SeededBug::HandoverForgotten) {
        group.handover = None;
    }
    if active(SeededBug::OldAcknowledgementBelieved)
        && let Some(Handover { from: Former::Yielding { heard_until, .. }, .. }) = &mut group.handover
    {
        *heard_until = ClientInstant(0);
    }
}

/// What a defect makes of a history that decisions are made in.
pub fn of_history(history: History) -> History {
    let base = if active(SeededBug::TermsNotLifted) { Term(0) } else { history.base };
    let noticed_at = if active(SeededBug::GrantBeforeWait) { Instant(0) } else { history.noticed_at };
    History { base, noticed_at, ..history }
}

/// The term that a client says it has seen, as far as it is heeded.
pub fn term_heeded(seen: Option<Term>) -> Option<Term> {
    seen.filter(|_| !active(SeededBug::TermsNotLifted))
}

/// Whose line a heartbeat waits in: its tenant's, and there its caller's.
pub fn in_line_of((tenant, caller): (&Arc<str>, &Arc<str>)) -> (Arc<str>, Arc<str>) {
    match active(SeededBug::BatchesUnfair) {
        true => Default::default(),
        false => (tenant.clone(), caller.clone()),
    }
}

/// For whose a deletion is taken.
pub fn taken_for(by: By) -> By {
    if active(SeededBug::DeletionTakenForGoodbye) { By::Itself } else { by }
}

/// What a defect makes of a group after a heartbeat of session `s`.
pub fn after_heartbeat(group: &mut Group, s: usize, report: &Report) {
    let timeout = group.timeout;
    let session = &mut group.sessions[s];
    if active(SeededBug::LeaseByClientsClock)
        && let Some(beat) = &mut session.beat
    {
        beat.lease_until = Instant(report.sent_at.0).plus(timeout);
    }
    if active(SeededBug::WatermarkFromSecondary) {
        session.sent_until = session.sent_until.max(report.data_sent_until);
    }
}

#[cfg(all(test, not(feature = "seeded-bugs")))]
mod tests {
    use super::*;

    #[test]
    fn there_are_none_by_default() {
        const { assert!(!active(SeededBug::ReadCommitted)) };
        assert!(SeededBug::ALL.iter().chain(&SeededBug::COSTLY).all(|(_, bug)| !active(*bug)));
    }
}
