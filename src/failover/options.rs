//! The settings of the use cases.

use std::time::Duration;

use crate::arbitration::Rules;

/// The settings of the use cases.
#[derive(Clone, Debug)]
pub struct FailoverOptions {
    /// How roles are decided.
    pub rules: Rules,
    /// The most sessions a group may hold.
    pub session_limit: u32,
    /// The most groups a tenant may have; `None` for any number.
    pub group_limit: Option<u32>,
    /// The most sessions a tenant may have; `None` for any number.
    pub tenant_session_limit: Option<u32>,
    /// Whether a session is its registrant's alone.
    pub bind_sessions: bool,
    /// How many heartbeat transactions run at once.
    pub heartbeat_writers: usize,
    /// The most heartbeats in one transaction.
    pub heartbeat_batch: usize,
    /// The most heartbeats that wait for one.
    pub heartbeat_queue: usize,
    /// How often lapsed roles are looked for.
    pub sweep_interval: Duration,
    /// Whether they are also looked for when the leases that this replica knows of end.
    pub prompt_lapses: bool,
    /// How long a session is kept that is silent; `None` for good.
    pub session_retention: Option<Duration>,
    /// How often all groups and sessions are counted, if that is quick.
    pub census_interval: Duration,
    /// How many namespaces the metrics name; the others are counted together.
    pub metrics_namespaces: usize,
    /// How events are streamed and kept.
    pub events: EventOptions,
}

/// The settings of the streams of events and of what is kept for them.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// The most streams that a replica has open.
    pub max_streams: usize,
    /// How long changes of roles and of configuration are kept.
    pub retention: Duration,
    /// How long the audit trail is kept.
    pub audit_retention: Duration,
    /// How often older ones are looked for.
    pub prune_interval: Duration,
}
