//! The program: how it is called, what it says, and what it logs.

mod adapters;
mod command_line;
mod demo;
pub mod log_lines;
mod names;
pub mod operator;
pub mod process;
