//! Adapters as plants run them, with the service: takeovers in all modes, on both bases, against
//! one replica and two.

#[allow(dead_code, reason = "some of it serves the other binary")]
pub mod adapter;
mod answers;
mod ids;
mod plant;
mod takeover_times;
mod takeovers;
