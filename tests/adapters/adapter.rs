//! An adapter as plants run them: what it sends and how it takes the answers is written after the
//! behaviour of those in the field, and shares no code with the service.
//!
//! It has no lease. It acts in the role that it was told last, however long ago that was.
//!
//! Its data source is the same for all adapters of a group: an item every 20 ms of the wall clock,
//! known by its number. What was made while an adapter's process stood still is there when it goes
//! on.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// An item of the source is made every so often, in microseconds.
pub const ITEM_US: i64 = 20_000;
/// How long a request is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// When the second heartbeat follows the first, at the latest.
const SECOND_HEARTBEAT: Duration = Duration::from_secs(1);
/// How often in a row an adapter asks again at once that is told that it is about to be Primary.
const MAX_AT_ONCE: u32 = 10;
/// A time that is not set, as .NET has it.
const UNSET: &str = "0001-01-01T00:00:00";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Secondary,
    Primary,
    PendingPrimary,
}

/// What an adapter does while it stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It collects, and keeps what the Primary may not have sent.
    Hot,
    /// It collects, and keeps nothing.
    Warm,
    /// It does not collect, and knows no more of its health than 0 or 1.
    Cold,
}

/// Which of several replicas is asked, as a load balancer in front of them has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    EachTimeTheNext,
    /// A request that one breaks off is sent on to another at once.
    TheNextAfterAFailure,
}

/// What an adapter is configured to, and what it kept of its last run.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The base of the API, up to and with the slash before `groups`; one for each replica.
    pub endpoints: Vec<String>,
    pub balance: Balance,
    pub group: String,
    pub id: String,
    pub timeout: Duration,
    pub mode: Mode,
    pub score: f64,
    /// The role that it saved when it was stopped cleanly; Secondary after a crash.
    pub saved: Role,
}

/// What is told a running adapter.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Score(f64),
    /// It says goodbye, saves its role, and ends.
    Stop,
}

/// What an adapter does and sees, told as it happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// It runs, in the role that it saved.
    Started(Role),
    /// It has had time to run, as it has every 20 ms.
    Ran,
    /// A heartbeat leaves. The time of data is in microseconds.
    Sent { score: f64, data_time: Option<i64> },
    /// The heartbeat was answered; or it was not, in time.
    Answered(Option<Reply>),
    /// It acts in this role from now on, as it may have done before.
    Took(Role),
    /// Items are sent to the destination.
    Delivered(RangeInclusive<i64>),
    /// A standby drops items, which the service's answer says that the Primary has sent.
    Trimmed(RangeInclusive<i64>),
    /// It acts no more and is about to say goodbye.
    Leaving,
    /// Its goodbye was answered with this status, or not at all.
    Left(Option<u16>),
    /// What it writes into its log as an error.
    LoggedError(String),
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// What a heartbeat's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    role: Role,
    /// In microseconds.
    watermark: i64,
}

/// What an adapter waits for, of which there is one at a time.
type UnderWay = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    /// With the timeout that the group has, where it is another; or why not.
    Registered(Result<Option<Duration>, String>),
    Heartbeat(Option<Reply>),
}

pub struct Adapter {
    configuration: Configuration,
    requests: Requests,
    note: Box<dyn FnMut(Event) + Send>,
    role: Role,
    /// The configured timeout, or that of a group that was there with another.
    timeout: Duration,
    score: f64,
    /// The newest item that the source has given it.
    seen: i64,
    /// The first item that it has neither sent nor dropped.
    kept_from: i64,
    last_sent: Option<i64>,
    under_way: Option<UnderWay>,
    is_registered: bool,
    has_sent_a_heartbeat: bool,
    next_tick: Instant,
    at_once: u32,
}

impl Adapter {
    /// `note` is called with all that it does, right before it does it.
    pub fn new(configuration: Configuration, note: impl FnMut(Event) + Send + 'static) -> Adapter {
        let seen = newest_item();
        Adapter {
            requests: Requests::new(&configuration),
            note: Box::new(note),
            role: configuration.saved,
            timeout: configuration.timeout,
            score: configuration.score,
            seen,
            kept_from: seen + 1,
            last_sent: None,
            under_way: None,
            is_registered: false,
            has_sent_a_heartbeat: false,
            next_tick: Instant::now(),
            at_once: 0,
            configuration,
        }
    }

    /// Runs until it is told to stop, and returns the role that it saves; `None` where nobody is
    /// left who could tell it.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) -> Option<Role> {
        (self.note)(Event::Started(self.role));
        let mut source = interval(Duration::from_micros(ITEM_US.unsigned_abs()));
        source.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.register();
        self.next_tick = Instant::now() + self.timeout / 2;
        loop {
            tokio::select! {
                biased;
                _ = source.tick() => {
                    (self.note)(Event::Ran);
                    self.collect();
                }
                done = waited_for(&mut self.under_way) => self.take(done),
                () = sleep_until(self.next_tick) => self.tick(),
                command = commands.recv() => match command {
                    Some(Command::Score(score)) => self.score = score,
                    Some(Command::Stop) => return Some(self.stop().await),
                    None => return None,
                },
            }
        }
    }

    /// Takes what the source has made since: a Primary sends it at once.
    fn collect(&mut self) {
        self.seen = self.seen.max(newest_item());
        match (self.role, self.configuration.mode) {
            (Role::Primary, _) => self.deliver(),
            (_, Mode::Hot) => {}
            (_, Mode::Warm | Mode::Cold) => self.kept_from = self.seen + 1,
        }
    }

    /// Sends all that it has kept.
    fn deliver(&mut self) {
        if self.kept_from <= self.seen {
            (self.note)(Event::Delivered(self.kept_from..=self.seen));
            self.last_sent = Some(self.seen);
            self.kept_from = self.seen + 1;
        }
    }

    /// Drops what is older than the watermark less half a timeout.
    fn trim(&mut self, watermark: i64) {
        let half_us = i64::try_from(self.timeout.as_micros() / 2).expect("a timeout is a matter of hours");
        // The first item that is no older than that, rounded up.
        let first =
            (watermark - half_us).div_euclid(ITEM_US) + i64::from((watermark - half_us).rem_euclid(ITEM_US) > 0);
        let kept_from = first.clamp(self.kept_from, self.seen + 1);
        if kept_from > self.kept_from {
            (self.note)(Event::Trimmed(self.kept_from..=kept_from - 1));
            self.kept_from = kept_from;
        }
    }

    fn register(&mut self) {
        self.is_registered = false;
        self.under_way = Some(Box::pin(register(self.requests.clone(), self.configuration.clone())));
    }

    /// One that comes while something is under way is left out.
    fn tick(&mut self) {
        let now = Instant::now();
        let next = self.next_tick + self.timeout / 2;
        self.next_tick = if next > now { next } else { now + self.timeout / 2 };
        match &self.under_way {
            Some(_) => {}
            None if self.is_registered => self.heartbeat(),
            None => self.register(),
        }
    }

    fn heartbeat(&mut self) {
        self.has_sent_a_heartbeat = true;
        let stands_by = self.role != Role::Primary;
        let item = match self.configuration.mode {
            // What it has processed, not what has been sent by anybody.
            Mode::Warm | Mode::Cold if stands_by => Some(self.seen),
            _ => self.last_sent,
        };
        let score = match self.configuration.mode {
            Mode::Cold => f64::from(u8::from(self.score > 0.0)),
            Mode::Hot | Mode::Warm => self.score,
        };
        (self.note)(Event::Sent { score, data_time: item.map(|item| item * ITEM_US) });
        let body = json!({
            "FailoverScore": written_number(score),
            "LastDataProcessedTime": item.map_or_else(|| UNSET.to_owned(), |item| written_time(item * ITEM_US)),
        });
        let below = format!("groups/{}/clientsessions/{}/heartbeat", self.configuration.group, self.configuration.id);
        let mut requests = self.requests.clone();
        self.requests.balance();
        self.under_way =
            Some(Box::pin(async move { Done::Heartbeat(requests.send(Method::POST, &below, Some(body)).await) }));
    }

    fn take(&mut self, done: Done) {
        self.under_way = None;
        match done {
            Done::Registered(Ok(timeout)) => {
                self.is_registered = true;
                self.timeout = timeout.unwrap_or(self.timeout);
                if !self.has_sent_a_heartbeat {
                    self.heartbeat();
                    self.next_tick = Instant::now() + SECOND_HEARTBEAT.min(self.timeout / 4);
                }
            }
            Done::Registered(Err(why)) => {
                self.requests.failed();
                (self.note)(Event::LoggedError(why));
            }
            Done::Heartbeat(reply) => {
                (self.note)(Event::Answered(reply.clone()));
                match reply {
                    Some(Reply { status: 200, body, .. }) => self.heed(&body),
                    Some(Reply { status: 404, .. }) => self.register(),
                    Some(_) => {}
                    None => self.requests.failed(),
                }
            }
        }
    }

    /// Takes an answer for what the table of answers says. One that does not parse changes nothing.
    fn heed(&mut self, body: &str) {
        let Some(heard) = read_answer(body) else { return };
        if self.configuration.mode == Mode::Hot && self.role != Role::Primary {
            self.trim(heard.watermark);
        }
        if heard.role != Role::PendingPrimary {
            self.at_once = 0;
            self.role = heard.role;
            (self.note)(Event::Took(heard.role));
            self.collect();
            return;
        }
        if self.at_once < MAX_AT_ONCE {
            self.at_once += 1;
            self.heartbeat();
        } else {
            self.at_once = 0;
            (self.note)(Event::LoggedError("it is about to be Primary, and is not made it".to_owned()));
        }
    }

    async fn stop(mut self) -> Role {
        self.under_way = None;
        (self.note)(Event::Leaving);
        let below = format!("groups/{}/clientsessions/{}", self.configuration.group, self.configuration.id);
        let reply = self.requests.send(Method::DELETE, &below, None).await;
        (self.note)(Event::Left(reply.map(|reply| reply.status)));
        self.role
    }
}

/// What is under way, for ever if nothing is.
async fn waited_for(under_way: &mut Option<UnderWay>) -> Done {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

async fn register(mut requests: Requests, configuration: Configuration) -> Done {
    let Configuration { group, id, timeout, .. } = configuration;
    let mut other_timeout = None;
    let body = json!({"Id": group, "FailoverTimeout": written_span(timeout)});
    match requests.send(Method::POST, "groups/", Some(body)).await {
        Some(reply) if reply.is_success() => {}
        Some(Reply { status: 409, .. }) => {
            let reply = requests.send(Method::GET, &format!("groups/{group}"), None).await;
            let Some(timeout) = reply.filter(Reply::is_success).and_then(|reply| read_timeout(&reply.body)) else {
                return Done::Registered(Err("the group that is there cannot be read".to_owned()));
            };
            other_timeout = Some(timeout);
        }
        reply => return Done::Registered(Err(format!("the group was not registered: {reply:?}"))),
    }
    let body = json!({"Id": id, "Name": id.replace('.', " ")});
    match requests.send(Method::POST, &format!("groups/{group}/clientsessions"), Some(body)).await {
        Some(reply) if reply.is_success() => Done::Registered(Ok(other_timeout)),
        reply => Done::Registered(Err(format!("the session was not registered: {reply:?}"))),
    }
}

impl Reply {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// How requests are sent, and where to.
#[derive(Clone)]
struct Requests {
    http: Client,
    endpoints: Vec<String>,
    balance: Balance,
    place: usize,
}

impl Requests {
    fn new(configuration: &Configuration) -> Requests {
        let http = Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().expect("an HTTP client can be had");
        let (endpoints, balance) = (configuration.endpoints.clone(), configuration.balance);
        Requests { http, endpoints, balance, place: 0 }
    }

    fn balance(&mut self) {
        if self.balance == Balance::EachTimeTheNext {
            self.place += 1;
        }
    }

    fn failed(&mut self) {
        self.place += 1;
    }

    /// The answer, if there was one in time.
    async fn send(&mut self, method: Method, below: &str, body: Option<Value>) -> Option<Reply> {
        for _ in 0..self.endpoints.len() {
            let url = format!("{}{}", self.endpoints[self.place % self.endpoints.len()], escaped(below));
            let mut request = self.http.request(method.clone(), url);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let sent = async {
                let response = request.send().await?;
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                Ok::<Reply, reqwest::Error>(Reply { status, headers, body: response.text().await? })
            };
            match sent.await {
                Err(error) if self.balance == Balance::TheNextAfterAFailure && !error.is_timeout() => self.place += 1,
                reply => {
                    self.balance();
                    return reply.ok();
                }
            }
        }
        None
    }
}

/// A path as .NET's client sends it that is given it as it is: what may stand in one stays, and so
/// does what looks escaped. `#` ends it, a backslash is a slash, and `?` begins the query.
fn escaped(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let bytes = path.as_bytes();
    let looks_escaped = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(*byte)),
            _ if b"-._~!$&'()*+,;=:@/?[]".contains(byte) => text.push(char::from(*byte)),
            b'%' if looks_escaped(at) => text.push('%'),
            b'\\' => text.push('/'),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// An answer to a heartbeat as an adapter reads it, `None` where it does not parse: names of
/// properties in any case, a role as its number or its name.
fn read_answer(body: &str) -> Option<Heard> {
    let object = serde_json::from_str::<Map<String, Value>>(body).ok()?;
    let role = match property(&object, "Role") {
        None => Role::Secondary,
        Some(role) => read_role(role)?,
    };
    let watermark = match property(&object, "LastDataProcessedTime") {
        None => read_time(UNSET)?,
        Some(time) => read_time(time.as_str()?)?,
    };
    Some(Heard { role, watermark })
}

fn property<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn read_role(value: &Value) -> Option<Role> {
    let roles = [("Secondary", Role::Secondary), ("Primary", Role::Primary), ("PendingPrimary", Role::PendingPrimary)];
    match value {
        Value::Number(number) => roles.get(usize::try_from(number.as_u64()?).ok()?),
        Value::String(name) => roles.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)),
        _ => None,
    }
    .map(|(_, role)| *role)
}

/// In microseconds. An offset is overlooked: the time is misread by it.
fn read_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let time = time.split(['Z', '+', '-']).next()?;
    let read = NaiveDateTime::parse_from_str(&format!("{date}T{time}"), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(read.and_utc().timestamp_micros())
}

fn read_timeout(body: &str) -> Option<Duration> {
    let object = serde_json::from_str::<Map<String, Value>>(body).ok()?;
    read_span(property(&object, "FailoverTimeout")?.as_str()?)
}

/// `[d.]hh:mm:ss[.fffffff]`
fn read_span(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (days, hours) = hours.split_once('.').unwrap_or(("0", hours));
    let number = |text: &str| text.parse::<u32>().ok();
    let hours = number(days)? * 24 + number(hours)?;
    let seconds: f64 = seconds.parse().ok()?;
    Some(Duration::from_secs(u64::from(hours * 60 + number(minutes)?) * 60) + Duration::from_secs_f64(seconds))
}

fn written_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match span.subsec_nanos() / 100 {
        0 => text,
        ticks => format!("{text}.{ticks:07}"),
    }
}

/// Seven digits, of which the last is more than a microsecond can say.
fn written_time(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us).expect("a time of now");
    format!("{}7Z", time.format("%Y-%m-%dT%H:%M:%S%.6f"))
}

/// As .NET writes a number: whole ones without a fraction, and what is none as a text.
fn written_number(number: f64) -> Value {
    match number {
        _ if number.is_nan() => json!("NaN"),
        _ if number.fract() == 0.0 => json!(number as i64),
        _ => json!(number),
    }
}

/// The number of the newest item that the source has made.
pub fn newest_item() -> i64 {
    // The source's clock decides no role.
    #[expect(clippy::disallowed_methods)]
    let now = SystemTime::now();
    let now = now.duration_since(UNIX_EPOCH).expect("it is long after that");
    i64::try_from(now.as_micros()).expect("and long before the end of numbers") / ITEM_US
}
