//! The service from outside, in one binary: a folder for each concern, and what they share in
//! `support`, which starts once what all of them need.

mod support;

mod adapters;
mod api;
mod cli;
mod client;
mod database;
mod deploy;
mod page;
