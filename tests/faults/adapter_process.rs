//! An adapter as a client of the injector: a process of its own, which writes down what it does.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

use super::client::{Command, Part};
use super::clock::Stamp;
use super::record::{ClientEvent, Keeps, LogWriter, Outcome, PRIMARY};
use crate::adapter::{self, Adapter, Balance, Configuration, Event, ITEM_US, Mode, Reply, Role};

/// One that ran this much too late was asleep.
const ASLEEP_US: i64 = 60_000;

/// Runs until it is told to leave, or the injector is gone.
pub async fn run(part: Part, mode: Mode) {
    let saved_role = SavedRole(part.log.with_file_name(format!("{}-{}.role", part.group, part.session)));
    let configuration = Configuration {
        endpoints: part.ports.iter().map(|port| format!("http://127.0.0.1:{port}{}", part.groups_path)).collect(),
        balance: if part.roams { Balance::EachTimeTheNext } else { Balance::TheNextAfterAFailure },
        group: part.group.clone(),
        id: part.session.clone(),
        timeout: Duration::from_millis(part.timeout_ms),
        mode,
        score: f64::from(part.health),
        saved: saved_role.take(),
    };
    let mut recorder = Recorder {
        log: LogWriter::create(&part.log, &part.group, &part.session, Keeps::ItsRole(mode)),
        heartbeats: 0,
        acting_with: None,
        answered_term: 0,
        seen: Stamp::now(),
    };
    let adapter = Adapter::new(configuration, move |event| recorder.note(event));
    let (commands, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let command = match serde_json::from_str(&line) {
                Ok(Command::Health { percent }) => adapter::Command::Score(f64::from(percent)),
                Ok(Command::Leave) => adapter::Command::Stop,
                // An adapter has no clock that matters, and its timeout is set with its group's.
                Ok(Command::ClockOffset { .. } | Command::Timeout { .. }) => continue,
                Err(_) => return,
            };
            let _ = commands.send(command);
        }
    });
    if let Some(role) = adapter.run(told).await {
        saved_role.save(role);
    }
}

/// Where an adapter that stops cleanly leaves its role for the next process. One that crashes
/// leaves none.
struct SavedRole(PathBuf);

impl SavedRole {
    fn take(&self) -> Role {
        let role = std::fs::read_to_string(&self.0).ok().and_then(|text| serde_json::from_str(&text).ok());
        let _ = std::fs::remove_file(&self.0);
        role.unwrap_or(Role::Secondary)
    }

    fn save(&self, role: Role) {
        let text = serde_json::to_string(&role).expect("a role can be written");
        std::fs::write(&self.0, text).expect("the disk has room");
    }
}

struct Recorder {
    log: LogWriter,
    /// How many it has sent.
    heartbeats: u32,
    /// The term that it acts with; `None` while it does not act.
    acting_with: Option<i64>,
    /// That of the latest answer. The adapter itself does not look at it.
    answered_term: i64,
    seen: Stamp,
}

impl Recorder {
    fn note(&mut self, event: Event) {
        let at = Stamp::now();
        match event {
            Event::Started(role) => {
                self.log.write(&ClientEvent::Started { at });
                self.takes(role, at);
            }
            Event::Ran => {
                if at.mono - self.seen.mono > ITEM_US + ASLEEP_US {
                    self.log.write(&ClientEvent::Asleep { from: self.seen, until: at });
                }
                self.seen = at;
            }
            Event::Sent { score, data_time } => {
                self.heartbeats += 1;
                self.log.write(&ClientEvent::Sent {
                    n: self.heartbeats,
                    at,
                    acting_as: None,
                    health: score as u8,
                    heartbeat_time: None,
                    data_time,
                });
            }
            Event::Answered(reply) => {
                let outcome = outcome_of(reply);
                if let Outcome::Ok { term, .. } = outcome {
                    self.answered_term = term;
                }
                self.log.write(&ClientEvent::Answered { n: self.heartbeats, at, outcome });
            }
            Event::Took(role) => self.takes(role, at),
            Event::Delivered(items) => {
                let (first, last) = (items.start() * ITEM_US, items.end() * ITEM_US);
                self.log.write(&ClientEvent::Delivered { at, first, last });
            }
            Event::Trimmed(items) => {
                let (first, last) = (items.start() * ITEM_US, items.end() * ITEM_US);
                self.log.write(&ClientEvent::Trimmed { at, first, last });
            }
            Event::Leaving => {
                self.takes(Role::Secondary, at);
                self.log.write(&ClientEvent::Leaving { at });
            }
            Event::Left(status) => {
                if status.is_some_and(|status| (200..300).contains(&status)) {
                    self.log.write(&ClientEvent::Left { at });
                }
            }
            Event::LoggedError(_) => {}
        }
    }

    fn takes(&mut self, role: Role, at: Stamp) {
        let acts_with = (role == Role::Primary).then_some(self.answered_term);
        match (self.acting_with, acts_with) {
            (before, Some(term)) if before != Some(term) => self.log.write(&ClientEvent::Acts { from: at, term }),
            (Some(_), None) => self.log.write(&ClientEvent::Stopped { at: at.mono }),
            _ => {}
        }
        self.acting_with = acts_with;
    }
}

/// What the service says to clients that read its headers too.
fn outcome_of(reply: Option<Reply>) -> Outcome {
    let Some(reply) = reply else { return Outcome::Lost };
    if reply.status != 200 {
        return Outcome::Refused(reply.status);
    }
    let header = |name: &str| reply.headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    let (term, lease_ms) = (header("Failover-Term"), header("Failover-Lease-Ms"));
    let Ok(body) = serde_json::from_str::<serde_json::Value>(&reply.body) else { return Outcome::Lost };
    let role = body["Role"].as_i64().and_then(|role| i16::try_from(role).ok());
    let (Some(term), Some(lease_ms), Some(role)) = (term, lease_ms, role) else { return Outcome::Lost };
    let watermark = body["LastDataProcessedTime"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let watermark = watermark.map(|time| time.timestamp_micros()).filter(|us| *us > 0);
    debug_assert!(role <= PRIMARY, "nobody is told that it is about to be Primary");
    Outcome::Ok { role, term, lease_ms, watermark }
}
