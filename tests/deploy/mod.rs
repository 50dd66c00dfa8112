//! What is around the program: the stack, the proxy, the monitoring, and the words about it.

mod deployment;
mod metrics;
mod operations;
mod proxy;
mod readme;
mod rooms;
mod workspace;
