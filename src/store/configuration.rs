//! What a group is set to, as rows have it.

use super::error::WorkError;
use crate::arbitration::FailoverTimeout;

/// What a group is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfiguration {
    /// A name for people.
    pub name: Option<String>,
    /// A description for people.
    pub description: Option<String>,
    /// How long a heartbeat keeps its session live.
    pub timeout: FailoverTimeout,
}

/// A stored timeout, checked again as it is read.
pub(super) fn timeout_of(ticks: i64) -> Result<FailoverTimeout, WorkError> {
    FailoverTimeout::from_ticks(ticks)
        .ok_or_else(|| WorkError::Inconsistent(format!("failover_timeout_ticks is {ticks}")))
}
