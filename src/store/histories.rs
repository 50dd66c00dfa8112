//! Which history of the database this replica works in, and how it tells that the database is in
//! another one.
//!
//! A database is in one history as long as it is the same database of the same server on the same
//! timeline, and has all that was committed in it. A standby that was promoted, a copy that was put
//! back and a former primary that leads again are not. What they are compared with is noted in the
//! database, by signs of life, and remembered by each replica; see
//! `docs/decisions/0016-histories-of-the-database.md`.

use uuid::Uuid;

/// What is done where only the timeline is another, as after any promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseHistory {
    /// Grants may have been lost: they are fenced off.
    Fenced,
    /// Nothing was lost, for a standby has what was committed before anybody is told. Where a
    /// replica knows better, it is fenced off all the same.
    Trusted,
}

/// Whose connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// One to a database in the history that this replica works in.
    KnownHistory,
    /// One to a database that has been in the history that this replica works in: it may have gone
    /// on into another one since.
    Successor,
    /// One to whatever database there is: a sign of life is given on it, which says in which
    /// history it is.
    AnyHistory,
}

/// Where a connection leads. It cannot lead elsewhere later, but behind a pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// As the server names itself.
    pub(super) server: String,
    /// The database's number on it.
    pub(super) database: i64,
}

/// What a replica remembers of the history that it works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// Its identity.
    pub(super) history: Uuid,
    /// So many signs of life are known to have been committed in it.
    pub(super) signs: i64,
    /// Since when it works in it.
    pub(super) since: std::time::Instant,
}
