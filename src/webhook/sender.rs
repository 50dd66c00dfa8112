//! The one replica that sends, for as long as it is the one.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use uuid::Uuid;

use super::message::{Message, What};
use super::{TIMEOUT, Webhook, WebhookEvent};
use crate::failover::Failover;
use crate::metrics::{self, WebhookOutcome};
use crate::store::events::{self, EventScope};
use crate::store::webhook::{self, Held, SeenRisk};
use crate::store::{Store, StoreError};
use crate::telemetry::error_chain;

/// How often it is looked for news, where there are none. It costs no statement.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How many events one statement reads, and of how many of them, and of how many risks, the
/// messages are under way together: what bounds the memory, and what is sent twice where a replica
/// ends in the middle of them.
const PAGE: i64 = 500;
const BATCH: usize = 64;

/// To how many groups' messages the receiver may answer at once.
const CONCURRENT: usize = 8;

/// How often a message is sent that the receiver refuses, while it takes others.
const MAX_REFUSALS: u32 = 3;

/// Where the receiver does not take a message, how long until the next attempt: the first time, and
/// the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long is waited where the database cannot be asked.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// After how long without anybody who sends nobody wants to hear of what happened meanwhile, unless
/// a message may be older.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

pub(super) struct Sender {
    webhook: Webhook,
    failover: Failover,
    store: Store,
    /// What this replica calls itself.
    id: Uuid,
    held: Option<Holding>,
    /// The census that was looked at last, and the risks in it.
    looked_at: Option<Instant>,
    seen: HashSet<(Uuid, &'static str)>,
    /// Whether they were the same the time before, so that all of it is noted.
    is_steady: bool,
    /// Whether something may be to be told of risks.
    has_risks: bool,
    /// Attempts in a row that failed, and whether messages were given up since the last that did
    /// not.
    failures: u32,
    has_given_up: bool,
}

/// That it is the one, and what the database said then.
#[derive(Clone, Copy)]
struct Holding {
    told_to: i64,
    now: DateTime<Utc>,
    /// When it was asked.
    at: Instant,
}

/// A message on its way.
struct Pending {
    message: Message,
    refusals: u32,
    is_done: bool,
}

/// What the receiver did with a message.
enum Outcome {
    Taken,
    /// It does not want this one.
    Refused(String),
    /// It takes none now.
    Failed(String),
}

impl Sender {
    pub(super) fn new(webhook: Webhook, failover: Failover, store: Store) -> Sender {
        Sender {
            webhook,
            failover,
            store,
            id: Uuid::new_v4(),
            held: None,
            looked_at: None,
            seen: HashSet::new(),
            is_steady: false,
            has_risks: false,
            failures: 0,
            has_given_up: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::debug!(%error, "the webhook waits for the database");
                    WAIT_AFTER_FAILURE
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells what there is to tell, if it is this replica's turn; how long until it looks again.
    async fn turn(&mut self) -> Result<Duration, StoreError> {
        let Some(held) = self.hold().await? else {
            metrics::webhook_oldest_message(Duration::ZERO);
            return Ok(self.renewal().mul_f64(0.75 + fastrand::f64() / 2.0));
        };
        self.look_for_risks().await?;
        let (batch, told_to) = self.next_batch(held.told_to).await?;
        if !batch.is_empty() {
            self.deliver(batch, told_to).await?;
            return Ok(Duration::ZERO);
        }
        metrics::webhook_oldest_message(Duration::ZERO);
        if told_to > held.told_to {
            self.note_told(told_to).await?;
            return Ok(Duration::ZERO);
        }
        Ok(LOOK_INTERVAL)
    }

    /// How often it says that it is still there.
    fn renewal(&self) -> Duration {
        self.webhook.options.hold_for / 3
    }

    /// Becomes the one that sends, or stays it; nothing where another is.
    async fn hold(&mut self) -> Result<Option<Holding>, StoreError> {
        if let Some(held) = self.held.filter(|held| held.at.elapsed() < self.renewal()) {
            return Ok(Some(held));
        }
        // From before the database counts.
        let at = Instant::now();
        let (id, hold_for) = (self.id, self.webhook.options.hold_for);
        let forgotten_after = FORGOTTEN_AFTER.max(self.webhook.options.give_up_after);
        let held = self
            .store
            .autocommit("hold_webhook", |connection, _| {
                Box::pin(webhook::hold(connection, id, hold_for, forgotten_after))
            })
            .await;
        let was_held = self.held.take().is_some();
        metrics::webhook_sends(matches!(held, Ok(Some(_))));
        let Some(Held { now, told_to, is_new }) = held? else { return Ok(None) };
        if !was_held {
            // Another may have left some, and have seen others than this one.
            self.has_risks = true;
            self.looked_at = None;
            self.seen.clear();
            self.is_steady = false;
            tracing::info!(receiver = %self.webhook.options.receiver, "this replica tells the webhook's receiver");
        }
        if is_new {
            self.store.autocommit("forget_risks", |connection, _| Box::pin(webhook::forget_risks(connection))).await?;
        }
        let held = Holding { told_to, now, at };
        self.held = Some(held);
        Ok(Some(held))
    }

    /// Notes what the latest census found, once in a while.
    async fn look_for_risks(&mut self) -> Result<(), StoreError> {
        if !self.webhook.options.wants(WebhookEvent::Risks) {
            return Ok(());
        }
        let Some(found) = self.failover.found_risks(self.looked_at, self.webhook.options.risk_interval) else {
            return Ok(());
        };
        let key = |risk: &SeenRisk| (risk.key, risk.risk);
        // One that was there before, too, is none of a takeover.
        let seen: Vec<(SeenRisk, bool)> = found
            .risks
            .into_iter()
            .map(|risk| {
                let lasts = self.seen.contains(&key(&risk));
                (risk, lasts)
            })
            .collect();
        let keys: HashSet<_> = seen.iter().map(|(risk, _)| key(risk)).collect();
        let is_steady = keys == self.seen;
        if !(is_steady && self.is_steady) {
            let (noted, are_all) = (&seen, found.are_all);
            self.store
                .autocommit("note_risks", |connection, _| Box::pin(webhook::note_risks(connection, noted, are_all)))
                .await?;
        }
        self.seen = keys;
        self.is_steady = is_steady;
        self.looked_at = Some(found.counted_at);
        self.has_risks = true;
        Ok(())
    }

    /// What is to be told next, and up to which event that is all.
    async fn next_batch(&mut self, told_to: i64) -> Result<(Vec<Pending>, i64), StoreError> {
        let mut batch = Vec::new();
        if self.has_risks {
            let limit = BATCH as i64;
            let risks = self
                .store
                .read("risks_to_tell", |connection, _| Box::pin(webhook::read_risks_to_tell(connection, limit)))
                .await?;
            self.has_risks = !risks.is_empty();
            batch.extend(risks.iter().flat_map(Message::of_risk));
        }
        let settled = self.failover.feed().settled();
        let mut complete_to = told_to;
        if settled > told_to {
            let page = self
                .store
                .read("events_to_tell", |connection, _| {
                    Box::pin(events::read_events(connection, &EventScope::Everything, told_to, settled, PAGE))
                })
                .await?;
            complete_to = page.complete_to;
            let options = &self.webhook.options;
            let mut wanted =
                page.events.iter().filter_map(|event| Some((event.id, Message::of_event(event, options)?)));
            batch.extend(wanted.by_ref().take(BATCH).map(|(_, message)| message));
            if let Some((next, _)) = wanted.next() {
                complete_to = next - 1;
            }
        }
        let pending = batch.into_iter().map(|message| Pending { message, refusals: 0, is_done: false });
        Ok((pending.collect(), complete_to))
    }

    /// Sends these until each is taken or given up, or another replica is the one that sends.
    async fn deliver(&mut self, mut batch: Vec<Pending>, complete_to: i64) -> Result<(), StoreError> {
        loop {
            let Some(held) = self.hold().await? else { return Ok(()) };
            self.give_up_old(&mut batch, held);
            let failures = self.failures;
            self.round(&mut batch, held).await;
            self.note_done(&mut batch, complete_to).await?;
            if batch.is_empty() {
                return Ok(());
            }
            if self.failures > failures {
                self.wait().await?;
            }
        }
    }

    /// Those that are too old.
    fn give_up_old(&mut self, batch: &mut [Pending], held: Holding) {
        let age = |pending: &Pending| (now(held) - pending.message.at).to_std().unwrap_or_default();
        let oldest = batch.iter().map(age).max().unwrap_or_default();
        metrics::webhook_oldest_message(oldest);
        let give_up_after = self.webhook.options.give_up_after;
        for pending in batch.iter_mut().filter(|pending| age(pending) > give_up_after) {
            pending.is_done = true;
            self.give_up(&pending.message, "it was not taken in time");
        }
    }

    /// Sends each once, those of a group in order, until one is not taken.
    async fn round(&mut self, batch: &mut [Pending], held: Holding) {
        self.webhook.secrets.reread_if_changed();
        // Time for the last answer, and for the next renewal.
        let until = held.at + self.webhook.options.hold_for.saturating_sub(2 * TIMEOUT).max(self.renewal());
        let mut of_groups: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (place, pending) in batch.iter().enumerate().filter(|(_, pending)| !pending.is_done) {
            of_groups.entry(pending.message.group).or_default().push(place);
        }
        let mut of_groups: Vec<Vec<usize>> = of_groups.into_values().collect();
        of_groups.sort_unstable();
        if self.failures > 0 {
            // One says whether the receiver is there again.
            of_groups.truncate(1);
        }
        let (sender, sent) = (&*self, &*batch);
        let outcomes: Vec<Vec<(usize, Outcome)>> = stream::iter(of_groups)
            .map(|places| async move {
                let mut outcomes = Vec::new();
                for place in places {
                    if Instant::now() >= until {
                        break;
                    }
                    let outcome = sender.post(&sent[place].message, now(held).timestamp()).await;
                    let is_taken = matches!(outcome, Outcome::Taken);
                    outcomes.push((place, outcome));
                    if !is_taken {
                        break;
                    }
                }
                outcomes
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        let outcomes = || outcomes.iter().flatten();
        for (place, outcome) in outcomes() {
            let pending = &mut batch[*place];
            match outcome {
                Outcome::Taken => {
                    metrics::webhook_attempted(WebhookOutcome::Delivered);
                    pending.is_done = true;
                }
                Outcome::Refused(why) => {
                    metrics::webhook_attempted(WebhookOutcome::Refused);
                    pending.refusals += 1;
                    if pending.refusals >= MAX_REFUSALS {
                        pending.is_done = true;
                        self.give_up(&pending.message, why);
                    }
                }
                Outcome::Failed(_) => metrics::webhook_attempted(WebhookOutcome::Failed),
            }
        }
        let why = outcomes().find_map(|(_, outcome)| match outcome {
            Outcome::Taken => None,
            Outcome::Refused(why) | Outcome::Failed(why) => Some(why),
        });
        self.note_outcome(why.map(String::as_str), outcomes().next().is_some());
    }

    /// Says once that it fails, and once that it does not any more.
    fn note_outcome(&mut self, failed: Option<&str>, has_sent: bool) {
        let receiver = &self.webhook.options.receiver;
        match failed {
            Some(why) => {
                if self.failures == 0 {
                    tracing::warn!(%receiver, why, "the webhook's receiver does not take a message; it is sent again");
                }
                self.failures = self.failures.saturating_add(1);
            }
            None if has_sent => {
                if self.failures > 0 {
                    tracing::info!(%receiver, "the webhook's receiver takes messages again");
                }
                self.failures = 0;
                self.has_given_up = false;
            }
            None => {}
        }
    }

    fn give_up(&mut self, message: &Message, why: &str) {
        metrics::webhook_gave_up();
        let receiver = &self.webhook.options.receiver;
        if !self.has_given_up {
            tracing::error!(%receiver, id = message.id, why, "a message to the webhook's receiver is given up, and others may be");
            self.has_given_up = true;
        } else {
            tracing::debug!(%receiver, id = message.id, why, "a message to the webhook's receiver is given up");
        }
    }

    async fn post(&self, message: &Message, timestamp: i64) -> Outcome {
        let signature = self.webhook.secrets.get().sign(&message.id, timestamp, &message.body);
        let request = self.webhook.http.post(self.webhook.options.receiver.url().clone());
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body.clone());
        match request.send().await.map(|response| response.status()) {
            Ok(status) if status.is_success() => Outcome::Taken,
            Ok(status) if is_for_now(status) => Outcome::Failed(format!("it was answered {status}")),
            Ok(status) => Outcome::Refused(format!("it was answered {status}")),
            // Its URL may be a secret.
            Err(error) => Outcome::Failed(error_chain(&error.without_url())),
        }
    }

    /// Notes what need not be told any more, and leaves the others.
    async fn note_done(&mut self, batch: &mut Vec<Pending>, complete_to: i64) -> Result<(), StoreError> {
        for Pending { message, is_done, .. } in &*batch {
            let key = message.group;
            match message.what {
                What::Began(risk) if *is_done => {
                    self.store
                        .autocommit("note_risk_told", |connection, _| {
                            Box::pin(webhook::note_begin_told(connection, key, risk))
                        })
                        .await?;
                }
                What::Ended(risk) if *is_done => {
                    self.store
                        .autocommit("note_risk_told", |connection, _| {
                            Box::pin(webhook::note_end_told(connection, key, risk))
                        })
                        .await?;
                }
                What::Began(_) | What::Ended(_) | What::Event(_) => {}
            }
        }
        batch.retain(|pending| !pending.is_done);
        let event = |pending: &Pending| match pending.message.what {
            What::Event(id) => Some(id),
            What::Began(_) | What::Ended(_) => None,
        };
        let told_to = batch.iter().filter_map(event).min().map_or(complete_to, |first| first - 1);
        self.note_told(told_to).await
    }

    async fn note_told(&mut self, told_to: i64) -> Result<(), StoreError> {
        let id = self.id;
        let Some(held) = self.held.as_mut().filter(|held| held.told_to < told_to) else { return Ok(()) };
        self.store
            .autocommit("note_told", |connection, _| Box::pin(webhook::note_told(connection, id, told_to)))
            .await?;
        held.told_to = told_to;
        Ok(())
    }

    /// Waits for a random time that grows with the failures, and stays the one that sends.
    async fn wait(&mut self) -> Result<(), StoreError> {
        let longest = (FIRST_WAIT * (1 << self.failures.saturating_sub(1).min(10))).min(LONGEST_WAIT);
        let mut left = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        while !left.is_zero() {
            let step = left.min(self.renewal());
            tokio::time::sleep(step).await;
            left = left.saturating_sub(step);
            if self.hold().await?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// The database's clock.
fn now(held: Holding) -> DateTime<Utc> {
    held.now + held.at.elapsed()
}

/// Whether the receiver may take the same later.
fn is_for_now(status: StatusCode) -> bool {
    const LATER: [StatusCode; 3] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || LATER.contains(&status)
}
