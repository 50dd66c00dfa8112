//! On whose behalf something is done.

use std::sync::Arc;
use std::time::Instant;

use crate::access::Rights;

/// On whose behalf something is done, as far as that matters here: they were let in already.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Their name in the audit trail.
    pub identity: Arc<str>,
    /// The request's id, which is ours.
    pub operation_id: Arc<str>,
    /// When the request came.
    pub arrived_at: Instant,
    /// The trace that it belongs to by the caller's word, which the answer names instead.
    pub claimed_trace: Option<Arc<str>>,
    /// What they may do where they were let in.
    pub rights: Rights,
    /// Whether they said who they are.
    pub recognition: Recognition,
}

/// Whether a caller is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// They are: another name is another caller.
    ByName,
    /// They are not: all share one name.
    Nameless,
}
