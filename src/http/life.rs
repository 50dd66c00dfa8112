//! Whether the service is on its way out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether the service is on its way out. Shared by all workers.
#[derive(Clone, Default)]
pub struct Life(Arc<Ending>);

#[derive(Default)]
struct Ending {
    is_ending: AtomicBool,
    said: Notify,
}

impl Life {
    /// Says that the service is stopping: readiness and streams end, and connections are closed
    /// after their next answer.
    pub fn end(&self) {
        self.0.is_ending.store(true, Ordering::Release);
        self.0.said.notify_waiters();
    }

    /// Whether it is stopping.
    pub(super) fn is_ending(&self) -> bool {
        self.0.is_ending.load(Ordering::Acquire)
    }

    /// Waits until the service is stopping.
    pub(super) async fn ended(&self) {
        let mut said = pin!(self.0.said.notified());
        // Before the look: otherwise it could be said between the two.
        said.as_mut().enable();
        if !self.is_ending() {
            said.await;
        }
    }
}
