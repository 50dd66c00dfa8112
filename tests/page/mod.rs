//! The page for operators, in a real browser.

mod hands;
mod pictures;
mod shows;
mod stale;
