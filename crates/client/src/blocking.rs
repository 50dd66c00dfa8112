//! A member for programs that do not wait for futures: the same, with methods that block.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_wire::Role;

use super::{Counts, HasLeft, Join, JoinError, Lease};

/// A member of a group, as [`Member`](super::Member) is one. Not for use within a runtime for
/// futures: it blocks its thread.
#[derive(Clone, Debug)]
pub struct Member(super::Member);

impl Member {
    /// As [`Member::join`](super::Member::join).
    ///
    /// # Errors
    ///
    /// The same.
    pub fn join(join: Join) -> Result<Member, JoinError> {
        block_on(super::Member::join(join)).map(Member)
    }

    /// The role now. To act, take the [`lease`](Member::lease).
    pub fn role(&self) -> Role {
        self.0.role()
    }

    /// The right to act; `None` where this member is not Primary.
    pub fn lease(&self) -> Option<Lease> {
        self.0.lease()
    }

    /// Waits until this member is Primary.
    ///
    /// # Errors
    ///
    /// It has left.
    pub fn primary(&self) -> Result<Lease, HasLeft> {
        block_on(self.0.primary())
    }

    /// Waits until the role or the lease is another than it was when this was asked last.
    ///
    /// # Errors
    ///
    /// It has left.
    pub fn changed(&mut self) -> Result<Role, HasLeft> {
        block_on(self.0.changed())
    }

    /// As [`Member::set_health`](super::Member::set_health).
    pub fn set_health(&self, percent: u8) {
        self.0.set_health(percent);
    }

    /// As [`Member::set_data_sent`](super::Member::set_data_sent).
    pub fn set_data_sent(&self, at: DateTime<Utc>) {
        self.0.set_data_sent(at);
    }

    /// The group's failover timeout; `None` before the first answer.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }

    /// What has been counted since it joined.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// As [`Member::leave`](super::Member::leave).
    pub fn leave(self) -> bool {
        block_on(self.0.leave())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for what another thread brings about: nothing here needs a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
