//! The service under faults, in a binary of its own: nothing else may take the processors from it.

#[path = "../adapters/adapter.rs"]
#[allow(dead_code, reason = "some of it serves the other binary")]
mod adapter;
#[path = "mod.rs"]
mod faults;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "most of it serves the other binary")]
mod support;
