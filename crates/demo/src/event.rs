//! What an adapter tells the demo about itself: one JSON object a line on its standard output.

use client_failover_client::{MachineTime, Stop};
use client_failover_wire::Role;
use serde::{Deserialize, Serialize};

/// One line of an adapter's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// When, in microseconds since 1970-01-01 UTC.
    pub utc_us: i64,
    /// When, on the clock that all processes share.
    pub monotonic_us: MachineTime,
    /// What.
    #[serde(flatten)]
    pub event: Told,
}

/// What can happen to an adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Told {
    /// Its session is registered.
    Registered,
    /// A heartbeat leaves.
    Sent {
        /// The role that it acts in as it sends.
        acting_as: Role,
        /// The health that it reports, in per cent.
        health_percent: u8,
    },
    /// A heartbeat was answered.
    Answered {
        /// The role in the answer.
        role: Role,
        /// The group's term.
        term: Option<i64>,
        /// The health that the heartbeat reported, in per cent.
        health_percent: u8,
        /// When that heartbeat was sent.
        sent_us: MachineTime,
        /// Until when it may act as Primary, if it may.
        lease_until_us: Option<MachineTime>,
    },
    /// A request got no answer, or none that could be used.
    Failed {
        /// Why.
        why: String,
    },
    /// It acts as Primary from here on.
    ActsFrom {
        /// The first instant.
        from_us: MachineTime,
        /// The term.
        term: Option<i64>,
        /// When the heartbeat was sent that was answered with the role.
        sent_us: MachineTime,
        /// Until when, unless it is renewed.
        lease_until_us: MachineTime,
    },
    /// It does not act as Primary from here on.
    ActsUntil {
        /// The end.
        until_us: MachineTime,
        /// Why.
        why: Stop,
    },
}
