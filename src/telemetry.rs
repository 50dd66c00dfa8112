//! Logs, to standard error, for people or as JSON; and traces, to an OpenTelemetry collector where
//! one is configured.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use client_failover_client::outgoing::NoAuthorities;
pub use client_failover_client::shown::error_chain;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::Deserialize;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{Layer, Registry};

/// Spans of this target go to the collector, and to no log line.
const TRACED: &str = "client_failover::traced";

/// Targets of dependencies, and from which level on they are heard.
const QUIET: [(&str, &str); 3] = [("actix_http", "off"), ("actix_server", "warn"), ("sqlx::postgres::notice", "off")];

/// How long the collector may take to answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where traces go, while the process has such a place.
static TRACES: OnceLock<SdkTracerProvider> = OnceLock::new();

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where traces go.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector's address for OTLP over HTTP, without the path.
    pub endpoint: String,
    /// The part of the requests that is traced where the caller does not say, from 0 to 1.
    pub ratio: f64,
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
    /// The collector's address is not one.
    #[error("otlp-endpoint is '{endpoint}': {cause}")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Why.
        cause: String,
    },
    /// It was set up already.
    #[error("logging cannot be started: {0}")]
    Started(#[from] TryInitError),
}

/// Starts logging, and tracing where there is a place for it; once per process.
pub fn start(filter: &str, format: LogFormat, traces: Option<&TraceOptions>) -> Result<(), TelemetryError> {
    let lines = lines(filter, format)?;
    let spans = match traces {
        None => None,
        Some(options) => {
            let provider = open_provider(options)?;
            let tracer = provider.tracer("client-failover");
            let _ = TRACES.set(provider);
            let only_ours = Targets::new().with_target(TRACED, LevelFilter::INFO);
            Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(only_ours))
        }
    };
    Ok(tracing_subscriber::registry().with(lines).with(spans).try_init()?)
}

fn lines(filter: &str, format: LogFormat) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    let wanted = EnvFilter::builder()
        .parse(filter)
        .map_err(|cause| TelemetryError::Filter { filter: filter.to_owned(), cause })?;
    // What dependencies say of every stranger's bytes and of every notice of the database is said
    // by lines of ours, with who it was and bounded, or matters to nobody. Who asks for their lines
    // by name gets them.
    let mut wanted = wanted;
    for (target, level) in QUIET {
        if !filter.contains(target)
            && let Ok(directive) = format!("{target}={level}").parse()
        {
            wanted = wanted.add_directive(directive);
        }
    }
    // A line that stands in a span would begin with it.
    let wanted = match format!("{TRACED}=off").parse() {
        Ok(no_spans) => wanted.add_directive(no_spans),
        Err(cause) => return Err(TelemetryError::Filter { filter: filter.to_owned(), cause }),
    };
    // A line that nobody can be shown is lost: to complain on standard error about standard error
    // would panic.
    Ok(match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .log_internal_errors(false)
            .with_filter(wanted)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .log_internal_errors(false)
            .with_filter(wanted)
            .boxed(),
    })
}

fn open_provider(options: &TraceOptions) -> Result<SdkTracerProvider, TelemetryError> {
    let unusable = |cause: String| TelemetryError::Endpoint { endpoint: options.endpoint.clone(), cause };
    let url = reqwest::Url::parse(&options.endpoint).map_err(|error| unusable(error.to_string()))?;
    // Not the exporter's own, which panics on a machine without certificate authorities.
    let client = blocking_client(&url, || reqwest::blocking::Client::builder().timeout(EXPORT_TIMEOUT))
        .map_err(|error| unusable(error.to_string()))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", options.endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // A caller that has its own trace recorded has this part of it recorded too.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.ratio))))
        .with_resource(Resource::builder().with_service_name("client-failover").build())
        .build())
}

/// Sends what has not been sent yet. Called once, at the end; may block for as long as the
/// collector takes.
pub fn finish() {
    if let Some(provider) = TRACES.get() {
        // Nobody is left to be told.
        let _ = provider.shutdown();
    }
}

/// The span of a request, within the caller's trace where `trace` has headers that name one. Where
/// nothing is traced it costs one look.
pub fn request_span(trace: Option<&HeaderMap>, method: &str, route: &str, operation_id: &str) -> Span {
    if TRACES.get().is_none() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TRACED,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        operation_id,
    );
    if let Some(headers) = trace {
        // Fails only where the span is not traced.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
    span
}

/// The span of a transaction with all its attempts.
pub fn transaction_span(name: &'static str) -> Span {
    match TRACES.get() {
        None => Span::none(),
        Some(_) => tracing::info_span!(target: TRACED, "transaction", otel.name = name, otel.kind = "client"),
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// The same as [`client`](client_failover_client::outgoing::client) for a thread that may block,
/// made on a thread of its own: it brings a runtime along, which must not begin within another.
fn blocking_client(
    url: &reqwest::Url,
    configure: impl Fn() -> reqwest::blocking::ClientBuilder + Sync,
) -> Result<reqwest::blocking::Client, NoAuthorities> {
    let is_plain = url.scheme() == "http";
    let make = || match configure().build() {
        Ok(client) => Ok(client),
        Err(_) if is_plain => configure().tls_certs_only([]).build().map_err(|error| NoAuthorities::because(&error)),
        Err(error) => Err(NoAuthorities::because(&error)),
    };
    std::thread::scope(|scope| {
        let made = std::thread::Builder::new().spawn_scoped(scope, make);
        let made = made.map_err(|error| NoAuthorities::because(&error))?;
        made.join().unwrap_or_else(|_| Err(NoAuthorities::because(&std::io::Error::other("the HTTP client panicked"))))
    })
}
