//! A heartbeat on its way to a transaction.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::arbitration::{Answer, ClientInstant, Health, Report, Role, Term};
use crate::failover::FailoverError;
use crate::failover::line::Waits;
use crate::ids::{GroupPath, SessionId};
use crate::store::clock::{Clock, instant};
use crate::store::state::ReportedTimes;

/// What a client says in a heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatMessage {
    /// Its health.
    pub health: Health,
    /// When it sent it, by its own clock; `None` counts as the time of receipt.
    pub heartbeat_time: Option<DateTime<Utc>>,
    /// The time of the last data that it sent.
    pub last_data_send_time: Option<DateTime<Utc>>,
    /// The role it was acting in when it sent, where it says so.
    pub acting_as: Option<Role>,
    /// The highest term that it has been told, where it says so.
    pub term_seen: Option<Term>,
}

/// What a heartbeat is answered with.
pub(super) type Outcome = Result<Answer, FailoverError>;

pub(super) struct Waiting {
    pub(super) request: Box<Request>,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Outcome>,
}

pub(super) struct Request {
    pub(super) path: GroupPath,
    /// Of the group, computed where the request came in: the writer has no time for it.
    pub(super) key: uuid::Uuid,
    pub(super) session: SessionId,
    pub(super) message: HeartbeatMessage,
    pub(super) tenant: Arc<str>,
    /// Who sent it.
    pub(super) caller: Arc<str>,
    pub(super) arrived_at: Instant,
    /// Whether it counts only if they registered the session.
    pub(super) is_bound: bool,
    /// Whether Primary was granted by it. It is decided on again where it cannot be told whether
    /// that was committed, and says what it said as a standby.
    pub(super) was_granted: AtomicBool,
}

impl Request {
    /// What it says, for arbitration.
    pub(super) fn report(&self, clock: &Clock) -> Report {
        Report {
            health: self.message.health,
            sent_at: ClientInstant(instant(self.times(clock).heartbeat_time).0),
            data_sent_until: self.message.last_data_send_time.map(instant),
            acting_as: self.message.acting_as,
            term_seen: self.message.term_seen,
        }
    }

    /// What it says besides.
    pub(super) fn times(&self, clock: &Clock) -> ReportedTimes {
        ReportedTimes {
            heartbeat_time: self.message.heartbeat_time.unwrap_or(clock.now),
            last_data_send_time: self.message.last_data_send_time,
        }
    }
}

impl Waits for Waiting {
    fn of(&self) -> (&Arc<str>, &Arc<str>) {
        (&self.request.tenant, &self.request.caller)
    }

    fn group(&self) -> uuid::Uuid {
        self.request.key
    }

    fn is_waited_for(&self) -> bool {
        !self.reply.is_closed()
    }
}
