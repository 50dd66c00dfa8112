//! The API over real sockets: what it answers, what it refuses, and what one caller may cost
//! another.

mod api_client;
mod audit;
mod auth;
mod auth_cost;
mod bad_input;
mod connections;
mod contract;
mod deletions;
mod description;
mod events;
mod field_risks;
mod framing;
mod generated;
mod history;
mod http;
mod keys;
mod large_groups;
mod limits;
mod lists;
mod neighbours;
mod released;
mod released_logins;
pub mod status;
mod steady;
mod sweep;
mod switchover_times;
mod takeover;
mod takeover_times;
mod tls;
mod values;
mod webhook;
mod what_if;
mod wishes;
