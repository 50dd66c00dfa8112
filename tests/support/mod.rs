//! What tests share: servers, clients, credentials, a browser, and judges of what is answered.

pub mod browser;
pub mod credentials;
pub mod described;
pub mod helpers;
pub mod issuer;
#[allow(dead_code, reason = "the other binary fills disks too")]
pub mod preload;
pub mod program;
#[allow(dead_code, reason = "each binary has its own faults")]
pub mod proxy;
pub mod servers;
pub mod sse;
pub mod terminal;
pub mod wire;
