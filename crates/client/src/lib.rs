//! A client of the service: what a program needs that takes part in a group, and what one needs
//! that only looks.
//!
//! ```no_run
//! use client_failover_client::{Join, Member};
//!
//! # async fn send_what_is_new(_term: i64) {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let member = Member::join(Join::group("plant/line1/pump", "adapter-1")?).await?;
//! loop {
//!     let lease = member.primary().await?;
//!     // Dropped where it waits as soon as somebody else may act.
//!     let _ = lease.guard(send_what_is_new(lease.term())).await;
//! }
//! # }
//! ```
//!
//! - [`Member`] is one of a group: it registers, heartbeats, listens and says goodbye by itself. To
//!   act, take its [`Lease`]. [`blocking`] has the same for programs without futures.
//! - [`ClientSession`] has the requests beneath it, and [`Service`] is the connection, for every
//!   other request; [`EventStream`] follows what happens.
//! - [`Trust`] is the rule by which a client may act as Primary, and [`MachineTime`] the clock that
//!   it goes by. Both are pure of any connection: whoever has an HTTP client of their own can use
//!   them alone.
//!
//! Nothing here knows the service from inside, and nothing is printed.

pub use clock::MachineTime;
pub use error::{ClientError, Refusal};
pub use join::{Join, JoinError, SafetyMargin};
pub use lease::{Acting, Lease, LeaseEnded};
pub use member::{Counts, HasLeft, Member};
pub use service::{Credential, Scope, Service, TOO_LONG, cause_of, parse, shortened};
pub use session::{Answer, ClientSession, Heartbeat};
pub use stream::{Block, EventStream};
pub use trust::{Change, HeartbeatNumber, Right, Stop, Trust};

pub mod blocking;
pub mod outgoing;
pub mod shown;

mod clock;
mod error;
mod heart;
mod join;
mod lease;
mod member;
mod service;
mod session;
mod stream;
mod trust;
