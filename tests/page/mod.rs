//! The page for operators, in a real browser.

mod hands;
mod looking;
mod pictures;
mod shows;
mod sign_in;
mod stale;
