//! Warnings that come with an answer of the server.
//!
//! A COMMIT whose wait for a synchronous standby is cancelled succeeds, with a warning: the
//! transaction is committed there and perhaps nowhere else. sqlx shows warnings to nobody but
//! whoever follows its log, so that is what is done here, for as long as one future runs and on no
//! other thread.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Where sqlx logs what a server sends beside its answers.
const TARGET: &str = "sqlx::postgres::notice";

thread_local! {
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// One for all: each that is made would have every place that logs ask anew who follows. Two are
/// made, and one is used: where there is a single one in a process, a place that logs asks only
/// whoever follows on its own thread, once and for all, and a warning that first comes elsewhere
/// would never be heard.
static LISTENERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [Dispatch::new(Listener), Dispatch::new(Listener)]);

/// Runs a future to its end and returns the last warning that the server sent meanwhile. What else
/// it would log is dropped.
pub async fn listening_for_warnings<T>(future: impl Future<Output = T>) -> (T, Option<String>) {
    Overheard { future: Box::pin(future), heard: None }.await
}

struct Overheard<F> {
    future: Pin<Box<F>>,
    heard: Option<String>,
}

impl<F: Future> Future for Overheard<F> {
    type Output = (F::Output, Option<String>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.future.as_mut();
        let polled = dispatcher::with_default(&LISTENERS[0], || future.poll(context));
        if let Some(warning) = HEARD.take() {
            self.heard = Some(warning);
        }
        polled.map(|done| (done, self.heard.take()))
    }
}

/// Follows nothing but the warnings of servers.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are not followed; an id must be some number.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            HEARD.set(Some(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
