//! Why a use case refuses. In the words of the field: what properties, parameters and statuses
//! there are on the line is the business of whoever answers.

use crate::access::Denied;
use crate::arbitration::Unwishable;
use crate::ids::{GroupId, NamespacePath, SessionId, TenantId};
use crate::store::{Stop, StoreError};

/// Why a request was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FailoverError {
    /// No such group.
    #[error("there is no group '{group}' in namespace '{}' of tenant '{}'", parent.namespace, parent.tenant)]
    NoSuchGroup {
        /// Where it was looked for.
        parent: NamespacePath,
        /// Its id.
        group: GroupId,
    },
    /// No such session.
    #[error("group '{group}' has no client session '{session}'")]
    NoSuchSession {
        /// The group.
        group: GroupId,
        /// The id.
        session: SessionId,
    },
    /// A new name holds a character that makes it look like another.
    #[error("the {what} holds the character U+{:04X}, which is not seen, or changes the order of what is", u32::from(*character))]
    HiddenCharacter {
        /// What is named.
        what: &'static str,
        /// The character.
        character: char,
    },
    /// A group of that id exists with another configuration.
    #[error("group '{0}' exists with another configuration")]
    GroupDiffers(GroupId),
    /// A session of that id exists with another name.
    #[error("client session '{session}' exists in group '{group}' with another name")]
    SessionDiffers {
        /// The group.
        group: GroupId,
        /// The id.
        session: SessionId,
    },
    /// The group holds as many sessions as it may.
    #[error("group '{group}' holds {limit} client sessions, which is its limit; {silent} of them are silent")]
    TooManySessions {
        /// The group.
        group: GroupId,
        /// The limit.
        limit: u32,
        /// How many of them have no lease.
        silent: i64,
    },
    /// The tenant has as many groups as it may.
    #[error("tenant '{tenant}' has {limit} groups, which is its limit")]
    TooManyGroups {
        /// The tenant.
        tenant: TenantId,
        /// The limit.
        limit: u32,
    },
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The tenant holds as many sessions as it may.
    #[error("tenant '{tenant}' has {limit} client sessions, which is the service's limit")]
    TooManySessionsOfTenant {
        /// The tenant.
        tenant: TenantId,
        /// The limit.
        limit: u32,
    },
    /// The group is in use.
    #[error("group '{group}' has {live} live client sessions")]
    GroupIsLive {
        /// The group.
        group: GroupId,
        /// How many.
        live: usize,
    },
    /// A switch-over that would not come about.
    #[error("{}", unwishable_text(group, session, *why))]
    CannotSwitchOver {
        /// The group.
        group: GroupId,
        /// The session that the reason is about.
        session: String,
        /// Why.
        why: Unwishable,
    },
    /// As many streams of events are open as there may be.
    #[error("{limit} streams of events are open at this replica, which is its limit")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// A heartbeat that says that its client acts came before the history of the database that it
    /// would be decided in was noticed.
    #[error(
        "the database entered another history while group '{0}' was waited for, and who acts in it has to be said anew"
    )]
    SaidInAnotherHistory(GroupId),
    /// More heartbeats wait than there is room for, or this one waited in vain.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unwishable_text(group: &GroupId, session: &str, why: Unwishable) -> String {
    match why {
        Unwishable::NotLive => format!("client session '{session}' of group '{group}' is not live"),
        Unwishable::IsExcluded => format!("client session '{session}' of group '{group}' is excluded"),
        Unwishable::AnotherIsForced(_) => format!("client session '{session}' of group '{group}' is forced"),
        Unwishable::IsForced => format!("client session '{session}' of group '{group}' is Primary, and forced"),
        Unwishable::NoPrimary => format!("group '{group}' has no Primary to switch away from"),
        Unwishable::NobodyElse => format!("nobody in group '{group}' could take the place of '{session}'"),
    }
}

impl From<FailoverError> for Stop<FailoverError> {
    fn from(refusal: FailoverError) -> Stop<FailoverError> {
        Stop::Refused(refusal)
    }
}
