//! What a use case did.

/// What came of creating something. Where it is not known whether it was committed, it is tried
/// again, and then finds what it made itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It was created.
    Created,
    /// It was there already, as it is wanted. Nothing changed.
    FoundTheSame,
}

/// What came of registering a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether it is new.
    pub creation: Creation,
    /// Whether it is one more session of a client that has a new id at each start.
    pub is_new_id_again: bool,
}

/// What came of giving something a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It was created with it.
    Created,
    /// It had it already. Nothing changed.
    FoundTheSame,
    /// It had another, which was replaced.
    Replaced,
}

/// What came of deleting something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nobody was live in it.
    Idle,
    /// Somebody was.
    WhileLive,
}

impl Removal {
    /// Of something in which somebody was live, or not.
    pub(super) fn of(was_live: bool) -> Removal {
        if was_live { Removal::WhileLive } else { Removal::Idle }
    }
}
