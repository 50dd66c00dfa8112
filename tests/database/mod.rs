//! The database as it is, on its good and bad days: away, elsewhere, full, promoted, shared.

mod away;
pub mod bad_days;
mod commits;
mod embedded_postgres;
mod events_over_histories;
mod few_connections;
mod foreign_database;
mod histories;
mod hosts;
mod migrations;
mod outage;
mod patroni;
mod pgbouncer;
mod privileges;
mod reader;
mod recovery;
mod replicas;
mod same_everywhere;
mod serializable_of_others;
mod spread;
