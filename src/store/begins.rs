//! How transactions begin and end.

use std::sync::Arc;

use super::options::Pooler;

/// What each is begun and ended with.
pub(super) struct Texts {
    /// Where a server commits durably, and where it waits until a standby shows what is committed.
    pub(super) by_commit: [Begins; 2],
}

pub(super) struct Begins {
    pub(super) serializable: Arc<str>,
    pub(super) commit_and_serializable: Arc<str>,
    /// For a read that has to be a transaction, and for a statement that does. A look at the server
    /// follows in the same message.
    pub(super) read: Arc<str>,
    pub(super) autocommit: Arc<str>,
}

impl Texts {
    pub(super) fn new(settings: &[(&'static str, String)], pooler: Pooler) -> Texts {
        let begins = |commit: &str| {
            // Behind a pooler nothing of a session outlives a transaction.
            let set: String = match pooler {
                Pooler::None => String::new(),
                Pooler::Transaction => settings
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .chain([("synchronous_commit", commit)])
                    .map(|(name, value)| format!("; SET LOCAL {name} = '{value}'"))
                    .collect(),
            };
            let serializable = format!("BEGIN ISOLATION LEVEL SERIALIZABLE{set}");
            Begins {
                commit_and_serializable: format!("COMMIT; {serializable}").into(),
                serializable: serializable.into(),
                // A statement is parsed in one message and run in the next: outside a transaction
                // another server connection could get the second. And behind a pooler the server
                // may become another one under a connection that stays.
                read: format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY{set}; ").into(),
                autocommit: format!("BEGIN ISOLATION LEVEL READ COMMITTED{set}; ").into(),
            }
        };
        Texts { by_commit: ["on", "remote_apply"].map(begins) }
    }
}
