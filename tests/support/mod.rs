//! What tests share: servers, clients, credentials, a browser, and judges of what is answered.

pub mod authorization;
pub mod browser;
pub mod credentials;
#[allow(dead_code, reason = "most of it serves the other binary")]
pub mod defects;
pub mod described;
pub mod helpers;
pub mod issuer;
#[allow(dead_code, reason = "the other binary fills disks too")]
pub mod preload;
pub mod program;
#[allow(dead_code, reason = "each binary has its own faults")]
pub mod proxy;
#[allow(dead_code, reason = "the other binary has no webhook")]
pub mod receiver;
pub mod servers;
pub mod sse;
pub mod stranger;
pub mod terminal;
pub mod wire;
