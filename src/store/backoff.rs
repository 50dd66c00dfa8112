//! How long is waited before something is tried again.

use std::time::{Duration, Instant};

/// Connections may lead now to the one and now to the other of two databases: that is no reason to
/// ask without a pause.
pub(super) async fn pause_elsewhere(times: u32, deadline: Instant) {
    if times > 1 {
        pause(times + 2, deadline).await;
    }
}

/// Waits a random time that grows with the number of failures, so that two that met do not meet
/// again.
pub(super) async fn pause(failures: u32, deadline: Instant) {
    let longest_us = 1_000_u64 << failures.min(6);
    let wait = Duration::from_micros(fastrand::u64(0..longest_us));
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait.min(left)).await;
}
