//! A member of a group: the program's side of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_wire::Role;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::heart::{Counted, Heart, Leave, Said, Shared, State};
use super::{Join, JoinError, Lease};

/// A member of a group, for as long as it is held. A clone is the same member.
///
/// It heartbeats on a thread of its own, so that no work can starve it, at half of the group's
/// failover timeout, one heartbeat at a time. Whatever needs the role takes it as a [`Lease`],
/// which knows its own end.
///
/// Dropped, it heartbeats no more, and what it was granted runs out. End it with
/// [`leave`](Member::leave) instead: then nobody waits for that.
#[derive(Clone)]
pub struct Member {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    leaves: mpsc::UnboundedSender<Leave>,
}

/// The member has left, or its heart has ended: it has no role any more, and gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is a member of the group no more")]
pub struct HasLeft;

/// What has been counted since a member joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Heartbeats that were sent.
    pub heartbeats: u64,
    /// Those that were answered with a role.
    pub answered: u64,
    /// Requests that were answered with an error.
    pub refused: u64,
    /// Requests that were not answered, or not in time.
    pub lost: u64,
    /// How often the session was registered.
    pub registrations: u64,
    /// How often it became Primary.
    pub grants: u64,
    /// How often its lease ran out before it was renewed.
    pub lapses: u64,
}

impl Member {
    /// Joins a group: registers the session and begins to heartbeat. Where no service can be
    /// reached it goes on trying; whoever calls decides how long to wait for that.
    ///
    /// # Errors
    ///
    /// The service refuses in a way that asking again does not mend: the group is not there (see
    /// [`Join::creating`]), nobody by that credential may join it, or another has the session's
    /// name.
    pub async fn join(join: Join) -> Result<Member, JoinError> {
        let sessions = join.sessions()?;
        let state = State { role: Role::Secondary, lease: None, timeout: None, has_left: false };
        let (sender, state) = watch::channel(state);
        let said = Mutex::new(Said { health_percent: join.health_percent, data_sent_at: None });
        let shared = Arc::new(Shared { state: sender, said, hurry: Notify::new(), counted: Counted::default() });
        let (leaves, heard) = mpsc::unbounded_channel();
        let (joined, join_ended) = oneshot::channel();
        let heart = Heart::new(join, sessions, shared.clone(), heard, joined);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("failover-heart".to_owned());
        thread.spawn(move || runtime.block_on(heart.run()))?;
        let member = Member { shared, state, leaves };
        // Whoever does not wait any more drops the member, and with it the heart.
        join_ended.await.unwrap_or_else(|_| Err(JoinError::Thread(std::io::Error::other("it ended at once"))))?;
        Ok(member)
    }

    /// The role now. To act, take the [`lease`](Member::lease).
    pub fn role(&self) -> Role {
        self.state.borrow().role_now()
    }

    /// The right to act; `None` where this member is not Primary.
    pub fn lease(&self) -> Option<Lease> {
        self.state.borrow().lease.clone()
    }

    /// Waits until this member is Primary.
    ///
    /// # Errors
    ///
    /// It has left.
    pub async fn primary(&self) -> Result<Lease, HasLeft> {
        let mut state = self.state.clone();
        // One that has just ended may be there still: its end is told a moment later.
        let has_one = |state: &State| state.lease.as_ref().is_some_and(Lease::is_good);
        let found = state.wait_for(|state| has_one(state) || state.has_left).await.map_err(|_| HasLeft)?;
        found.lease.clone().filter(|_| !found.has_left).ok_or(HasLeft)
    }

    /// Waits until the role or the lease is another than it was when this was asked last.
    ///
    /// # Errors
    ///
    /// It has left.
    pub async fn changed(&mut self) -> Result<Role, HasLeft> {
        self.state.changed().await.map_err(|_| HasLeft)?;
        let state = self.state.borrow_and_update();
        if state.has_left { Err(HasLeft) } else { Ok(state.role_now()) }
    }

    /// Says how healthy this member is, in per cent: as a standby, how healthy it would be as
    /// Primary. From or to nothing it is said at once, else with the next heartbeat.
    pub fn set_health(&self, percent: u8) {
        let percent = percent.min(100);
        let mut said = self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut said.health_percent, percent);
        drop(said);
        if before != percent && (before == 0 || percent == 0) {
            self.shared.hurry.notify_one();
        }
    }

    /// Says up to when data has been sent. After a takeover the next Primary begins there. An
    /// earlier time than was said before is not heard.
    pub fn set_data_sent(&self, at: DateTime<Utc>) {
        let mut said = self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.data_sent_at = said.data_sent_at.max(Some(at));
    }

    /// The group's failover timeout; `None` before the first answer.
    pub fn timeout(&self) -> Option<Duration> {
        self.state.borrow().timeout
    }

    /// What has been counted since it joined.
    pub fn counts(&self) -> Counts {
        let Counted { heartbeats, answered, refused, lost, registrations, grants, lapses } = &self.shared.counted;
        let [heartbeats, answered, refused, lost, registrations, grants, lapses] =
            [heartbeats, answered, refused, lost, registrations, grants, lapses]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counts { heartbeats, answered, refused, lost, registrations, grants, lapses }
    }

    /// Ends it in order: from now on no lease is good; once nobody acts any more, the session is
    /// deleted, and nobody waits for the end of its lease. Whether the service has heard that:
    /// where it has not, the lease runs out by itself, and the goodbye may still arrive, so do not
    /// join again at once.
    ///
    /// It waits for as long as somebody acts: first drop what [`check`](Lease::check) gave. Work
    /// that does not end is given up by the service at the end of the lease.
    pub async fn leave(self) -> bool {
        let (leave, has_left) = oneshot::channel();
        self.leaves.send(leave).is_ok() && has_left.await.unwrap_or(false)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
