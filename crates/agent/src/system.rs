//! What the agent asks of the system, and each system has in its own way.

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(windows)]
pub use windows::*;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;
