//! The work of a transaction, and what is known of it to whoever runs it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use super::error::WorkError;

/// What happens when the connection breaks during COMMIT, so that nobody knows whether it took
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCommit {
    /// The work is done again: doing it twice is as doing it once.
    Repeat,
    /// The caller is told: doing it twice would answer something else.
    Report,
}

/// The work of one transaction. It may be done several times, and borrow what is there for longer.
pub type Work<'c, T, E = WorkError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

/// Says to the compiler that what work borrows (`'e`) outlives each time that it is done (`'c`), so
/// that nothing has to be cloned for it. It holds nothing.
#[derive(Clone, Copy)]
pub struct Scope<'c, 'e: 'c>(PhantomData<&'c &'e ()>);

impl Scope<'_, '_> {
    pub(super) fn new() -> Self {
        Scope(PhantomData)
    }
}
