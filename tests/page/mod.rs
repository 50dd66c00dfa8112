//! The page for operators, in a real browser.

mod looking;
mod pictures;
mod shows;
mod stale;
