//! The service under faults, in a binary of its own: nothing else may take the processors from it.

#[allow(dead_code, reason = "the helpers serve the other binary too")]
mod helpers;
#[allow(dead_code, reason = "the other binary sets clocks too")]
mod preload;
#[allow(dead_code, reason = "the other binary has servers of this kind")]
mod servers;

mod faults;
