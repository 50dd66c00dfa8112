//! The service from outside, in one binary: each file is a concern, and the helpers start what all of them share once.

mod credentials;
mod described;
mod helpers;
mod issuer;
mod sse;
mod wire;

mod api_client;
mod audit;
mod auth;
mod auth_cost;
mod bad_input;
mod connections;
mod contract;
mod database;
mod demo;
mod description;
mod embedded_postgres;
mod events;
mod generated;
mod history;
mod http;
mod limits;
mod lists;
mod metrics;
mod outage;
mod process;
mod proxy;
mod readme;
mod replicas;
mod status;
mod sweep;
mod takeover;
mod takeover_times;
mod tls;
mod values;
