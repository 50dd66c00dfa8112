//! Logs: to standard error, for people or as JSON.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::util::TryInitError;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log is '{filter}': {cause}")]
    Filter {
        /// As given.
        filter: String,
        /// Why.
        cause: tracing_subscriber::filter::ParseError,
    },
    /// It was set up already.
    #[error("logging cannot be started: {0}")]
    Started(#[from] TryInitError),
}

/// Starts logging, once per process.
pub fn start(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|cause| TelemetryError::Filter { filter: filter.to_owned(), cause })?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false);
            registry.with(lines).try_init()?;
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            registry.with(lines).try_init()?;
        }
    }
    Ok(())
}
