//! The names of our own headers. HTTP reads them in any case.

/// Of every answer: the request's id, which the service's log has too.
pub const OPERATION_ID: &str = "Operation-Id";

/// Of a heartbeat: the role in which its sender acts.
pub const FAILOVER_ROLE: &str = "Failover-Role";

/// Of a heartbeat: the highest term that its sender was told. Of its answer: the group's term.
pub const FAILOVER_TERM: &str = "Failover-Term";

/// Of the answer to a heartbeat: the group's failover timeout in milliseconds.
pub const FAILOVER_TIMEOUT_MS: &str = "Failover-Timeout-Ms";

/// Of the answer to a heartbeat: how long after its sending Primary may be acted on, in
/// milliseconds; 0 in other roles.
pub const FAILOVER_LEASE_MS: &str = "Failover-Lease-Ms";

/// Of the answer to a registration: what is wrong with how its client registers, by the name of the
/// risk.
pub const FAILOVER_WARNING: &str = "Failover-Warning";

/// Of a page of a list: how long the list is.
pub const TOTAL_COUNT: &str = "Total-Count";

/// Of a request for events: the last one that was had, to resume after it.
pub const LAST_EVENT_ID: &str = "Last-Event-ID";
