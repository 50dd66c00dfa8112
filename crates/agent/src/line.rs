//! The agent's end of the line to a guardian, and its hold on that process.

#[cfg(target_os = "linux")]
pub use linux::Line;
#[cfg(windows)]
pub use windows::Line;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;
