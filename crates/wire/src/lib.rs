//! What goes over the line between the service and its clients, in both directions: names, roles,
//! texts of times, headers, and the body of an error. Both sides read and write it here, so it
//! cannot mean two things.
//!
//! Nothing here knows a server, a database or a connection, and nothing here decides a role.

pub mod datetime;
pub mod headers;
pub mod ids;
pub mod timeout;
pub mod timespan;

pub use error::ErrorBody;
pub use role::Role;
pub use secret::Secret;

mod error;
mod role;
mod secret;
