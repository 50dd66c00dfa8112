//! Tells redundant clients which of them acts.
//!
//! Clients that collect the same data register as *client sessions* of a *failover group* and send
//! *heartbeats*, one every half failover timeout. Each heartbeat is answered with the session's
//! *role*: one session of a group is Primary and sends data, the others stand by.
//!
//! # The promise
//!
//! No two sessions of a group hold an unexpired Primary lease at the same instant of database time,
//! whatever replicas, retries, crashes and lost messages do. No two clients *act* as Primary at
//! once, provided that each stops when one failover timeout has passed since it *sent* the last
//! heartbeat that was answered Primary. Where live sessions heartbeat, a group whose Primary falls
//! silent has another within one and a half timeouts. And nothing changes without need: not for an
//! equal, not because the service itself was away. `docs/guarantees.md` has the conditions.
//!
//! # The clock
//!
//! There is one: the database's, read once per attempt of a transaction in the statement that takes
//! its snapshot. A lease is a stored instant of that clock. A client's clock is shown and never
//! believed, with one exception that compares it with itself: an acknowledgement older than the
//! heartbeat it should acknowledge is not one. A replica's clock decides nothing; `clippy.toml`
//! bans reading it.
//!
//! # One heartbeat's way
//!
//! [`http`] lets it in if [`access`] knows who sends it and they may, and parses it; [`failover`]
//! puts it in a queue, and a writer takes all that wait there into one SERIALIZABLE transaction:
//! [`store`] reads the whole state of their groups and the clock in one statement, [`arbitration`]
//! decides one heartbeat after another in memory, and [`store`] writes back what changed. Only
//! after COMMIT is anybody answered. A heartbeat that was answered 200 has been committed.
//!
//! # What fails how
//!
//! A conflict (another replica changed the same rows; it may come as late as COMMIT) runs the
//! transaction again with a new snapshot and a new clock; a batch that keeps meeting others is
//! split. A broken connection is dropped and another one tried. Both end within the operation
//! timeout, as 503 with `Retry-After`. What was never committed was never decided. Nobody can renew
//! while no replica reaches the database, so such an outage is recorded before anything is decided
//! after it, and leases are not judged by it. Bad rows are an error of their own group alone.
//!
//! # Who looks on
//!
//! Every change of a role or of configuration is a row of its own, written in the transaction that
//! made it. Each replica reads these rows once, in order, and hands them to all who listen
//! ([`failover::feed`]); one of them tells a receiver of the operator's ([`webhook`]); a census
//! counts all groups at its leisure ([`failover::census`]); [`metrics`] are atomics; the page at
//! `/` is files in the program that ask the same interface as everybody. None of it is in a
//! heartbeat's way.
//!
//! # Reading order
//!
//! [`arbitration`] (the rules; pure), [`store`] (one way in, retried), [`failover`] (the use
//! cases), [`access`] (who is asking, and what they may do), [`http`], then [`serve`] (life and
//! death of the process). Dependencies run that way only: `http` → `failover` → `arbitration` and
//! `store`; `http` and `failover` → `access` → `store`; `store` names arbitration's types;
//! `arbitration` names nothing. What goes over the line is the crate `client-failover-wire`, for
//! both sides. The command line for operators, the demo and the benchmark are crates of their own;
//! they know the service as its clients do. Whoever has something to count or to trace calls
//! [`metrics`] and [`telemetry`]. You are in the wrong room when `arbitration` needs a clock, when
//! an SQLSTATE or a constraint's name stands outside `store`, a credential outside `access`, or a
//! status code outside `http`.

pub mod arbitration;
pub mod ids;

pub mod metrics;

pub mod store;

pub mod failover;

pub mod access;
pub mod tls;

pub mod http;

pub mod webhook;

pub mod postgres;

pub mod audit_export;
pub mod config;
pub mod credentials;
pub mod environment;
pub mod log_limits;
pub mod rates;
pub mod serve;
pub mod telemetry;
pub mod version;
