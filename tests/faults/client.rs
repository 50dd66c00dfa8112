//! One client, in a process of its own, so that it can really be killed and paused. It keeps the
//! trust rule of docs/clients.md and writes down everything it does and sees.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::adapter_process;
use super::clock::Stamp;
use super::member_process::{self, Takes};
use super::record::{ClientEvent, Keeps, LogWriter, Outcome, PRIMARY, SECONDARY};
use crate::adapter::Mode;

/// How the injector hands a client its part.
pub const PART_VARIABLE: &str = "CLIENT_FAILOVER_FAULTS_CLIENT";

/// What a client says when it goes by another timeout.
pub const HEARD: &str = "heard";

/// How often a Primary sends data.
const DATA_INTERVAL: Duration = Duration::from_millis(20);
/// A client that ran this much too late was asleep.
const ASLEEP_US: i64 = 60_000;

/// Who a client is and how it behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub groups_path: String,
    pub group: String,
    pub session: String,
    /// The ports that it reaches the replicas on.
    pub ports: Vec<u16>,
    pub log: PathBuf,
    pub timeout_ms: u64,
    pub health: u8,
    pub clock_offset_us: i64,
    /// Says in which role it acts, and heeds the lease in the answer.
    pub telling: bool,
    /// Says when it sent a heartbeat. One that tells its role always does.
    pub says_time: bool,
    /// Asks another replica each time.
    pub roams: bool,
    /// Reports data even when it stands by: the watermark must not take it.
    pub brags: bool,
    /// It is an adapter of this mode, and of the rest above only what adapters have is its own.
    pub adapter: Option<Mode>,
    /// It is a member that takes part in this way, and of the rest only what members have is its
    /// own.
    pub member: Option<Takes>,
    /// The URL of what members send to.
    pub receiver: String,
}

/// What the injector may tell a client, a line each.
#[derive(Serialize, Deserialize)]
pub enum Command {
    Timeout {
        ms: u64,
    },
    Health {
        percent: u8,
    },
    ClockOffset {
        us: i64,
    },
    /// Stop acting, delete the session, and end.
    Leave,
}

#[test]
#[ignore = "not a test: the injector starts its clients by it, each in a process of its own"]
fn runs_as_a_process_of_the_injector() {
    let Ok(part) = std::env::var(PART_VARIABLE) else { return };
    let part: Part = serde_json::from_str(&part).expect("the injector wrote it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    match (part.adapter, part.member) {
        (Some(mode), _) => runtime.block_on(adapter_process::run(part, mode)),
        (None, Some(_)) => runtime.block_on(member_process::run(part)),
        (None, None) => runtime.block_on(Client::new(part).run()),
    }
}

struct Answered {
    n: u32,
    at: Stamp,
    outcome: Outcome,
}

struct Client {
    part: Part,
    http: reqwest::Client,
    log: LogWriter,
    /// The number of the latest heartbeat.
    n: u32,
    /// By number: when it was sent (monotonic), and the timeout that held then.
    sent: Vec<(i64, u64)>,
    /// The number of the newest heartbeat whose answer was heeded.
    heeded: u32,
    /// The number of the latest heartbeat that said that it does not act.
    said_idle: u32,
    told: i16,
    may_until: i64,
    term: i64,
    /// The highest term that it has been told.
    highest_term: i64,
    data_time: Option<i64>,
    replica: usize,
    answers: mpsc::UnboundedSender<Answered>,
}

impl Client {
    fn new(part: Part) -> Client {
        let log = LogWriter::create(&part.log, &part.group, &part.session, Keeps::TheTrustRule);
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be had");
        let replica = fastrand::usize(0..part.ports.len());
        let (answers, _) = mpsc::unbounded_channel();
        Client {
            part,
            http,
            log,
            n: 0,
            sent: vec![(0, 0)],
            heeded: 0,
            said_idle: 0,
            told: SECONDARY,
            may_until: 0,
            term: 0,
            highest_term: 0,
            data_time: None,
            replica,
            answers,
        }
    }

    async fn run(mut self) {
        let mut commands = BufReader::new(tokio::io::stdin()).lines();
        let (sender, mut answers) = mpsc::unbounded_channel();
        self.answers = sender;
        self.register().await;
        let mut next_beat = Instant::now();
        let mut awaited_since: Option<Instant> = None;
        let mut data = interval(DATA_INTERVAL);
        data.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut awake = Stamp::now();
        loop {
            tokio::select! {
                // In this order, so that a client that wakes up looks at the clock before anything
                // else.
                biased;
                _ = data.tick() => awake = self.act(awake),
                () = sleep_until(next_beat) => {
                    if awaited_since.is_some() {
                        self.replica += 1;
                    }
                    self.beat();
                    // A heartbeat every half timeout; one that is not answered in time is tried
                    // again before that.
                    awaited_since = Some(Instant::now());
                    next_beat = Instant::now() + self.timeout() / 4;
                }
                Some(answered) = answers.recv() => {
                    let newest = answered.n == self.n;
                    let outcome = answered.outcome.clone();
                    self.take(answered);
                    match outcome {
                        Outcome::Ok { .. } if newest => {
                            // A longer timeout counts from the first answer that was given under
                            // it.
                            let timeout_ms = self.part.timeout_ms.min(self.sent[self.n as usize].1);
                            let since = awaited_since.take().unwrap_or_else(Instant::now);
                            next_beat = since + Duration::from_millis(timeout_ms) / 2;
                        }
                        Outcome::Refused(404) if newest => {
                            self.register().await;
                            next_beat = Instant::now();
                        }
                        Outcome::Refused(_) | Outcome::Lost if newest => {
                            next_beat = next_beat.min(Instant::now() + Duration::from_millis(fastrand::u64(10..40)));
                        }
                        _ => {}
                    }
                }
                line = commands.next_line() => match line.ok().flatten().map(|line| serde_json::from_str(&line)) {
                    Some(Ok(Command::Timeout { ms })) => {
                        self.part.timeout_ms = ms;
                        // The injector waits for this before it shortens the timeout.
                        println!("{HEARD}");
                        next_beat = next_beat.min(Instant::now() + self.timeout() / 4);
                    }
                    Some(Ok(Command::Health { percent })) => self.part.health = percent,
                    Some(Ok(Command::ClockOffset { us })) => self.part.clock_offset_us = us,
                    Some(Ok(Command::Leave)) => return self.leave().await,
                    // The injector is gone.
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.part.timeout_ms)
    }

    fn url(&self, below: &str) -> String {
        let port = self.part.ports[self.replica % self.part.ports.len()];
        format!("http://127.0.0.1:{port}{}/{}/clientsessions{below}", self.part.groups_path, self.part.group)
    }

    async fn register(&mut self) {
        loop {
            let request = self.http.post(self.url("")).json(&json!({"Id": self.part.session}));
            let answer = request.timeout(Duration::from_secs(1)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            self.replica += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends data if the lease still stands; says if it slept.
    fn act(&mut self, awake: Stamp) -> Stamp {
        let now = Stamp::now();
        if now.mono - awake.mono > DATA_INTERVAL.as_micros() as i64 + ASLEEP_US {
            self.log.write(&ClientEvent::Asleep { from: awake, until: now });
        }
        if now.mono < self.may_until {
            self.log.write(&ClientEvent::Acted { at: now.mono, term: self.term });
            // Whole milliseconds: so a report of a Primary is told from one of a client that brags.
            self.data_time = Some((now.wall + self.part.clock_offset_us) / 1_000 * 1_000);
        }
        now
    }

    fn beat(&mut self) {
        if self.part.roams {
            self.replica = fastrand::usize(0..self.part.ports.len());
        }
        let at = Stamp::now();
        let clock = at.wall + self.part.clock_offset_us;
        let acts = at.mono < self.may_until;
        // One whose lease ran out does not act, whatever it was told last.
        let role = match acts {
            true => PRIMARY,
            false if self.told == PRIMARY => SECONDARY,
            false => self.told,
        };
        self.n += 1;
        let n = self.n;
        if !acts {
            self.said_idle = n;
        }
        let data_time =
            if self.part.brags && !acts { Some((at.wall - 1_000) / 1_000 * 1_000 + 777) } else { self.data_time };
        let heartbeat_time = self.part.says_time.then_some(clock);
        let acting_as = self.part.telling.then_some(role);
        let health = self.part.health;
        self.sent.push((at.mono, self.part.timeout_ms));
        self.log.write(&ClientEvent::Sent { n, at, acting_as, health, heartbeat_time, data_time });
        let body = json!({
            "PercentHealthyStreams": health,
            "HeartbeatTime": heartbeat_time.map(written),
            "LastDataSendTime": data_time.map(written),
        });
        let mut request = self.http.post(self.url(&format!("/{}", self.part.session))).json(&body);
        if let Some(role) = acting_as {
            request = request.header("Failover-Role", role).header("Failover-Term", self.highest_term);
        }
        // An answer that comes late but before that of a later heartbeat is still an answer.
        let request = request.timeout(self.timeout().max(Duration::from_secs(1)));
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let outcome = outcome_of(request).await;
            let _ = answers.send(Answered { n, at: Stamp::now(), outcome });
        });
    }

    /// The trust rule.
    fn take(&mut self, answered: Answered) {
        let Answered { n, at, outcome } = answered;
        self.log.write(&ClientEvent::Answered { n, at, outcome: outcome.clone() });
        match outcome {
            Outcome::Ok { role, term, lease_ms, .. } => {
                self.highest_term = self.highest_term.max(term);
                // Out of date; or it would take back what a later heartbeat has said since.
                if n < self.heeded || (self.part.telling && n < self.said_idle) {
                    return;
                }
                self.heeded = n;
                self.told = role;
                let (sent_at, timeout_ms) = self.sent[n as usize];
                // A client that does not heed the lease in the answer goes by the shorter of the
                // timeouts it knew.
                let known_ms = timeout_ms.min(self.part.timeout_ms) as i64;
                let lease_us = 1_000 * if self.part.telling { lease_ms } else { known_ms };
                let now = Stamp::now().mono;
                if role == PRIMARY && now < sent_at + lease_us {
                    self.may_until = sent_at + lease_us;
                    self.term = term;
                    self.log.write(&ClientEvent::May { from: now, until: self.may_until, term });
                } else {
                    self.stop();
                }
            }
            Outcome::Refused(404) => {
                self.told = SECONDARY;
                self.stop();
            }
            Outcome::Refused(_) | Outcome::Lost => {}
        }
    }

    fn stop(&mut self) {
        if self.may_until > 0 {
            self.log.write(&ClientEvent::Stopped { at: Stamp::now().mono });
        }
        self.may_until = 0;
    }

    /// Says goodbye, having stopped. The session id is not used again: a deletion may arrive late.
    async fn leave(mut self) {
        self.stop();
        self.log.write(&ClientEvent::Leaving { at: Stamp::now() });
        for _ in 0..5 {
            let request = self.http.delete(self.url(&format!("/{}", self.part.session)));
            let answer = request.timeout(Duration::from_secs(1)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 404) {
                return;
            }
            self.replica += 1;
        }
    }
}

async fn outcome_of(request: reqwest::RequestBuilder) -> Outcome {
    let Ok(response) = request.send().await else { return Outcome::Lost };
    let status = response.status().as_u16();
    if status != 200 {
        return Outcome::Refused(status);
    }
    let header = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
    let (term, lease_ms) = (header("Failover-Term"), header("Failover-Lease-Ms"));
    let Ok(body) = response.json::<serde_json::Value>().await else { return Outcome::Lost };
    let role = body["Role"].as_i64().and_then(|role| i16::try_from(role).ok());
    let (Some(term), Some(lease_ms), Some(role)) = (term, lease_ms, role) else { return Outcome::Lost };
    let watermark = body["LastDataSendTime"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let watermark = watermark.map(|time| time.timestamp_micros()).filter(|us| *us > 0);
    Outcome::Ok { role, term, lease_ms, watermark }
}

fn written(us: i64) -> String {
    DateTime::from_timestamp_micros(us).expect("a time of now").to_rfc3339_opts(SecondsFormat::Micros, true)
}
