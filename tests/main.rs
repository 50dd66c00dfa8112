//! One test binary: each file is a concern, and the helpers start what all of them share once.

mod helpers;

mod contract;
mod demo;
mod embedded_postgres;
mod readme;
mod takeover_times;
