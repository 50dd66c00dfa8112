//! What somebody says who asks for something.

use crate::arbitration::FailoverTimeout;
use crate::store::groups::GroupConfiguration;

/// Whether a live group may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Not while any of its sessions is live.
    OnlyIdle,
    /// In any case.
    Forced,
}

/// For whom a request to delete a session speaks, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// For the client, which has stopped. It counts as that only if no other caller is known to
    /// have registered the session.
    Client,
    /// For somebody who runs the service. The client does not know.
    Operator,
}

/// What somebody says who creates a group. What they leave out is `None`: they have no opinion on
/// it.
#[derive(Clone, Debug)]
pub struct WantedGroup {
    /// A name for people, or that it is to have none.
    pub name: Option<Option<String>>,
    /// A description for people, or that it is to have none.
    pub description: Option<Option<String>>,
    /// How long a heartbeat keeps its session live.
    pub timeout: Option<FailoverTimeout>,
}

impl WantedGroup {
    /// The configuration of a new group: what is left out is not there, or the default.
    pub fn configuration(&self) -> GroupConfiguration {
        GroupConfiguration {
            name: self.name.clone().flatten(),
            description: self.description.clone().flatten(),
            timeout: self.timeout.unwrap_or(FailoverTimeout::DEFAULT),
        }
    }

    /// Whether a group is as they want it.
    pub(super) fn agrees_with(&self, found: &GroupConfiguration) -> bool {
        self.name.as_ref().is_none_or(|name| *name == found.name)
            && self.description.as_ref().is_none_or(|description| *description == found.description)
            && self.timeout.is_none_or(|timeout| timeout == found.timeout)
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ListRange {
    /// How many are left out at the beginning.
    pub skip: i64,
    /// The most that are wanted; `None` for all.
    pub count: Option<i64>,
}
