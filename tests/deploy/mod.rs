//! What is around the program: the stack, the proxy, the monitoring, and the words about it.

mod adapters;
mod at_a_glance;
mod chart;
mod commit;
mod deployment;
mod links;
mod metrics;
mod operations;
mod packages;
mod pages;
mod proxy;
mod readme;
mod rooms;
mod workspace;
