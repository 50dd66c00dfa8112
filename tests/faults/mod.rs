//! Faults, on purpose: real processes, a real durable PostgreSQL, and a checker that reads what
//! they leave behind.
//!
//! An *injector* starts replicas and clients as processes, with proxies between them, and from a
//! seed kills, pauses, restarts, cuts off and delays whatever there is. *Clients* keep the trust
//! rule and write down what they send, hear and do. Some groups are of *adapters* instead
//! (`tests/adapters/adapter.rs`), which act in the role that they were told last, and some of
//! *members*: programs with the library, and programs that an agent runs. A *checker* that knows
//! none of them looks for breaches of the promises in those records and in the database.
//!
//! A short run is part of `cargo test`. The long one, with its length in minutes and its seed:
//!
//! ```sh
//! CLIENT_FAILOVER_FAULTS_MINUTES=10 CLIENT_FAILOVER_FAULTS_SEED=1 \
//!     cargo test --release --test faults faults::runs::long -- --ignored --nocapture
//! ```
//!
//! Its groups are 10 of clients, 4 of adapters and 4 of members; `CLIENT_FAILOVER_FAULTS_GROUPS`,
//! `CLIENT_FAILOVER_FAULTS_ADAPTER_GROUPS` and `CLIENT_FAILOVER_FAULTS_MEMBER_GROUPS` say
//! otherwise.
//!
//! And whether the checker finds defects that are put into the service on purpose
//! (`tests/faults/defects/`):
//!
//! ```sh
//! cargo test --test faults faults::defects -- --ignored --nocapture --test-threads 1
//! ```

mod adapter_process;
mod checker;
mod client;
mod clock;
mod cluster;
mod database;
mod defects;
mod fencing;
mod injector;
mod member_process;
mod record;
mod report;
mod runs;
mod world;
