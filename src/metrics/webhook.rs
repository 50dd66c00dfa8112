//! What became of messages to the webhook's receiver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::text::{family, line, single};
use super::{add, read};

/// What became of an attempt to send a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The receiver took it.
    Delivered,
    /// The receiver does not want it.
    Refused,
    /// The receiver was not there, or had no time.
    Failed,
}

const OUTCOMES: [(WebhookOutcome, &str); 3] = [
    (WebhookOutcome::Delivered, "delivered"),
    (WebhookOutcome::Refused, "refused"),
    (WebhookOutcome::Failed, "failed"),
];

static ATTEMPTS: [AtomicU64; OUTCOMES.len()] = [const { AtomicU64::new(0) }; OUTCOMES.len()];
static DEAD_LETTERS: AtomicU64 = AtomicU64::new(0);
static SENDS: AtomicU64 = AtomicU64::new(0);
static OLDEST_MS: AtomicU64 = AtomicU64::new(0);

/// A message was sent.
pub fn webhook_attempted(outcome: WebhookOutcome) {
    // Each is at the place of its number.
    add(&ATTEMPTS[outcome as usize], 1);
}

/// A message was given up.
pub fn webhook_gave_up() {
    add(&DEAD_LETTERS, 1);
}

/// Whether this replica is the one that sends.
pub fn webhook_sends(sends: bool) {
    SENDS.store(u64::from(sends), Ordering::Relaxed);
}

/// How old the oldest message is that this replica has to send.
pub fn webhook_oldest_message(age: Duration) {
    OLDEST_MS.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

pub(super) fn render(text: &mut String) {
    const ATTEMPTS_NAME: &str = "webhook_attempts_total";
    family(
        text,
        ATTEMPTS_NAME,
        "counter",
        "Messages that this replica sent to the webhook's receiver, by what became of them.",
    );
    for ((_, outcome), count) in std::iter::zip(OUTCOMES, &ATTEMPTS) {
        line(text, format_args!("client_failover_{ATTEMPTS_NAME}{{outcome=\"{outcome}\"}} {}", read(count)));
    }
    let help = "Messages to the webhook's receiver that this replica gave up.";
    single(text, "webhook_dead_letters_total", "counter", help, read(&DEAD_LETTERS));
    let help = "Whether this replica is the one that sends to the webhook's receiver.";
    single(text, "webhook_sends", "gauge", help, read(&SENDS));
    let help = "How old the oldest message is that this replica has to send to the webhook's receiver.";
    single(text, "webhook_oldest_message_seconds", "gauge", help, read(&OLDEST_MS) as f64 / 1e3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_at_the_place_of_its_number() {
        assert!(OUTCOMES.iter().enumerate().all(|(place, (outcome, _))| *outcome as usize == place));
    }
}
