//! One test binary: each file is a concern, and the helpers start what all of them share once.

mod helpers;
mod wire;

mod bad_input;
mod connections;
mod contract;
mod database;
mod demo;
mod embedded_postgres;
mod faults;
mod generated;
mod http;
mod lists;
mod model;
mod outage;
mod process;
mod proxy;
mod readme;
mod replicas;
mod sweep;
mod takeover;
mod takeover_times;
mod values;
