//! A client of the service: what a program needs that takes part in a group, and what one needs
//! that only looks.
//!
//! - [`Trust`] is the rule by which a client may act as Primary, and [`MachineTime`] the clock that
//!   it goes by. Both are pure of any connection: whoever has an HTTP client of their own can use
//!   them alone.
//! - [`Member`] registers a session, sends its heartbeats and says goodbye.
//! - [`Service`] is the connection beneath it, for every other request; [`EventStream`] follows
//!   what happens.
//!
//! Nothing here knows the service from inside, and nothing is printed.

pub use clock::MachineTime;
pub use error::{ClientError, Refusal};
pub use member::{Answer, Heartbeat, Member};
pub use service::{Credential, Scope, Service, TOO_LONG, cause_of, parse, shortened};
pub use stream::{Block, EventStream};
pub use trust::{Change, HeartbeatNumber, Lease, Stop, Trust};

pub mod outgoing;
pub mod shown;

mod clock;
mod error;
mod member;
mod service;
mod stream;
mod trust;
