//! What somebody says who asks for something.

use super::FailoverError;
use crate::arbitration::FailoverTimeout;
use crate::ids::GroupPath;
use crate::store::clock::Clock;
use crate::store::groups::{AdditionalData, GroupConfiguration, SessionConfiguration};
use crate::store::state::StoredGroup;

/// Whether a live group may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Not while any of its sessions is live.
    OnlyIdle,
    /// In any case.
    Forced,
}

impl Deletion {
    /// How many sessions of the group are live; refused where it may not be deleted for that.
    pub(super) fn allows(self, path: &GroupPath, stored: &StoredGroup, clock: &Clock) -> Result<usize, FailoverError> {
        let sessions = 0..stored.group.sessions.len();
        let live = sessions.filter(|i| stored.group.is_live(*i, clock.moment())).count();
        match self {
            Deletion::OnlyIdle if live > 0 => Err(FailoverError::GroupIsLive { group: path.group.clone(), live }),
            Deletion::OnlyIdle | Deletion::Forced => Ok(live),
        }
    }
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
    /// What its clients keep with it, or that it is to be nothing.
    pub additional_data: Option<Option<AdditionalData>>,
}

impl WantedGroup {
    /// The configuration of a new group: what is left out is not there, or the default.
    pub fn configuration(&self) -> GroupConfiguration {
        GroupConfiguration {
            name: self.name.clone().flatten(),
            description: self.description.clone().flatten(),
            timeout: self.timeout.unwrap_or(FailoverTimeout::DEFAULT),
            additional_data: self.additional_data.clone().flatten(),
        }
    }

    /// The configuration that takes the place of one. What clients keep stays unless it is named:
    /// of those who replace configurations, many do not know of it.
    pub(super) fn in_place_of(&self, found: &GroupConfiguration) -> GroupConfiguration {
        GroupConfiguration {
            additional_data: self.additional_data.clone().unwrap_or_else(|| found.additional_data.clone()),
            ..self.configuration()
        }
    }

    /// Whether a group is as they want it.
    pub(super) fn agrees_with(&self, found: &GroupConfiguration) -> bool {
        self.name.as_ref().is_none_or(|name| *name == found.name)
            && self.description.as_ref().is_none_or(|description| *description == found.description)
            && self.timeout.is_none_or(|timeout| timeout == found.timeout)
            && self.additional_data.as_ref().is_none_or(|data| *data == found.additional_data)
    }
}

/// What somebody says who registers a session. What they leave out is `None`: they have no opinion
/// on it.
#[derive(Clone, Debug)]
pub struct WantedSession {
    /// A name for people, or that it is to have none.
    pub name: Option<Option<String>>,
    /// What its client keeps with it, or that it is to be nothing.
    pub additional_data: Option<Option<AdditionalData>>,
}

impl WantedSession {
    /// What a new session is registered with: what is left out is not there.
    pub(super) fn configuration(&self) -> SessionConfiguration {
        SessionConfiguration {
            name: self.name.clone().flatten(),
            additional_data: self.additional_data.clone().flatten(),
        }
    }

    /// Whether a session is as they want it.
    pub(super) fn agrees_with(&self, found: &SessionConfiguration) -> bool {
        self.name.as_ref().is_none_or(|name| *name == found.name)
            && self.additional_data.as_ref().is_none_or(|data| *data == found.additional_data)
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
