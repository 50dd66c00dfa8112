//! What is said of what was done: each once, and after it was committed.

use tracing::Level;
use uuid::Uuid;

use super::Caller;
use crate::arbitration;
use crate::ids::SessionId;
use crate::log_limits::Lines;
use crate::store::state::StoredGroup;
use crate::{limited, metrics};

/// A committed change of a role, for the log.
#[derive(Clone, Debug)]
pub struct RoleChange {
    /// The group's key.
    pub key: Uuid,
    group: String,
    session: String,
    /// What changed.
    pub transition: arbitration::Transition,
}

/// The changes of a group's roles that a transaction makes.
pub fn changes_of(group: &str, stored: &StoredGroup) -> Vec<RoleChange> {
    let change = |transition: &arbitration::Transition| RoleChange {
        key: stored.key.0,
        group: group.to_owned(),
        session: stored.session_ids[transition.session].clone(),
        transition: *transition,
    };
    stored.trace.iter().map(change).collect()
}

/// What somebody did, each once and after it was committed. Many at once are a deployment, or one
/// who does nothing else.
pub const GROUP_CREATED: Lines = Lines::new("group created", Level::INFO).at_most(100, 1_000);
pub const GROUP_CHANGED: Lines = Lines::new("group changed", Level::INFO).at_most(100, 1_000);
pub const GROUP_DELETED: Lines = Lines::new("group deleted", Level::INFO).at_most(100, 1_000);
pub const SESSION_REGISTERED: Lines = Lines::new("session registered", Level::INFO).at_most(100, 1_000);
pub const SESSION_DELETED: Lines = Lines::new("session deleted", Level::INFO).at_most(100, 1_000);
/// A wish that was set, or taken back.
pub const WISH_CHANGED: Lines = Lines::new("wish changed", Level::INFO).at_most(100, 1_000);

/// Says who did something, where something was done.
pub fn log_deed(deed: Option<Lines>, caller: &Caller, group: &str, session: Option<&SessionId>) {
    const DEED: Level = Level::INFO;
    let Some(deed) = deed else { return };
    let Caller { identity, operation_id, claimed_trace, .. } = caller;
    let trace_id = claimed_trace.as_deref();
    let session = session.map(SessionId::as_str);
    if deed.admit(identity) {
        tracing::event!(DEED, group, session, %identity, %operation_id, trace_id, "{}", deed.name);
    } else {
        tracing::debug!(group, session, %identity, %operation_id, trace_id, "{}", deed.name);
    }
}

/// Committed changes of roles. All are rows of `role_transitions`; of a group whose clients push
/// its role to and fro the log has the first few.
const ROLE_CHANGED: Lines = Lines::new("role changed", Level::INFO).at_most(20, 1_000);

/// One line per change, after it was committed and not before.
pub fn log_changes(changes: &[RoleChange]) {
    for RoleChange { group, session, transition, .. } in changes {
        metrics::role_changed(transition.reason, group);
        limited!(
            ROLE_CHANGED,
            group,
            group,
            session,
            from = ?transition.from,
            to = ?transition.to,
            term = transition.term.0,
            reason = transition.reason.name(),
            "role changed"
        );
    }
}
