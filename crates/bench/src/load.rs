//! The load: many clients, each on a connection of its own, that send heartbeats and time the
//! answers.
//!
//! At a pace, a latency counts from the instant at which the heartbeat was *to be* sent. Counting
//! from when it was sent would leave out the time that a slow service keeps its clients from
//! sending.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fleet::Fleet;

/// How a client goes on after a connection broke.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// The longest wait for one answer: longer than the service itself takes to give up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How fast heartbeats are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each client sends the next one as soon as it has its answer.
    Unbounded,
    /// All clients together send so many a second, each at its own phase, whether or not answers
    /// come.
    PerSecond(f64),
}

/// Which replica a client sends a heartbeat to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Any: the sessions of a group come through different replicas.
    Random,
    /// All sessions of a group through the same one.
    ByGroup,
}

/// What is sent, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// The replicas.
    pub replicas: Vec<SocketAddr>,
    /// Which of them takes what.
    pub spread: Spread,
    /// The sessions that heartbeats are sent for, each in turn.
    pub fleet: Fleet,
    /// Clients, each with one connection.
    pub connections: usize,
    /// How fast.
    pub pace: Pace,
    /// Sent before anything is counted.
    pub warm_up: Duration,
    /// Counted for so long.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Heartbeats answered 200, per second.
    pub per_second: f64,
    /// Heartbeats answered 200.
    pub answered: u64,
    /// Other statuses, with how often.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that broke, and answers that never came.
    pub broken: u64,
    /// Half of the answers took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// 999 of 1000 took no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

#[derive(Default)]
struct Tally {
    latencies_us: Vec<u32>,
    refused: BTreeMap<u16, u64>,
    broken: u64,
}

/// Counts the answers that have come so far, for a progress bar.
#[derive(Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs a load to its end, on a thread of its own: the clients are not to cost more than they must,
/// nor to wait for each other.
pub async fn run(load: &Load, progress: &Progress) -> Outcome {
    let (load, progress) = (load.clone(), progress.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        Some(runtime.block_on(run_here(&load, &progress)))
    });
    thread.await.ok().flatten().unwrap_or_default()
}

async fn run_here(load: &Load, progress: &Progress) -> Outcome {
    let begin = Instant::now();
    let count_from = begin + load.warm_up;
    let end = count_from + load.duration;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..load.connections)
        .map(|number| {
            let client = Client {
                number,
                load: load.clone(),
                begin,
                count_from,
                end,
                over: over.clone(),
                progress: progress.clone(),
            };
            tokio::spawn(client.run())
        })
        .collect();
    tokio::time::sleep_until(end.into()).await;
    over.store(true, Ordering::Relaxed);
    let mut total = Tally::default();
    for client in clients {
        let Ok(tally) = client.await else { continue };
        total.latencies_us.extend(tally.latencies_us);
        total.broken += tally.broken;
        for (status, count) in tally.refused {
            *total.refused.entry(status).or_default() += count;
        }
    }
    summary(total, load.duration)
}

fn summary(mut tally: Tally, duration: Duration) -> Outcome {
    tally.latencies_us.sort_unstable();
    let at = |share: f64| percentile(&tally.latencies_us, share) / 1_000.0;
    let answered = tally.latencies_us.len() as u64;
    Outcome {
        per_second: answered as f64 / duration.as_secs_f64(),
        answered,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: at(1.0),
        refused: tally.refused,
        broken: tally.broken,
    }
}

/// The smallest of sorted values that `share` of them do not exceed; 0 of none.
pub fn percentile(sorted: &[u32], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).map_or(0.0, |value| f64::from(*value))
}

struct Client {
    number: usize,
    load: Load,
    begin: Instant,
    count_from: Instant,
    end: Instant,
    over: Arc<AtomicBool>,
    progress: Progress,
}

impl Client {
    async fn run(self) -> Tally {
        let mut tally = Tally::default();
        let mut connections: Vec<Option<TcpStream>> = self.load.replicas.iter().map(|_| None).collect();
        let mut request = Vec::with_capacity(512);
        let mut answer = Vec::with_capacity(1_024);
        let mut turn = 0_u64;
        while !self.over.load(Ordering::Relaxed) {
            let due = self.due(turn);
            if due >= self.end {
                break;
            }
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let place = self.number as u64 + turn * self.load.connections as u64;
            turn += 1;
            let session = self.load.fleet.session(place);
            let replica = match self.load.spread {
                Spread::ByGroup => session.group as usize % self.load.replicas.len(),
                Spread::Random => fastrand::usize(..self.load.replicas.len()),
            };
            request.clear();
            self.load.fleet.write_heartbeat(session, &mut request);
            let sent = match self.load.pace {
                Pace::Unbounded => Instant::now(),
                Pace::PerSecond(_) => due,
            };
            let exchanged = tokio::time::timeout(
                TIMEOUT,
                exchange(&mut connections[replica], self.load.replicas[replica], &request, &mut answer),
            );
            let outcome = exchanged.await;
            let now = Instant::now();
            let counts = now >= self.count_from && now < self.end;
            match outcome {
                Ok(Ok(200)) => {
                    self.progress.0.fetch_add(1, Ordering::Relaxed);
                    if counts {
                        let latency = now.saturating_duration_since(sent).as_micros();
                        tally.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
                    }
                }
                Ok(Ok(status)) => *tally.refused.entry(status).or_default() += 1,
                Ok(Err(_)) | Err(_) => {
                    tally.broken += 1;
                    connections[replica] = None;
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
            }
        }
        tally
    }

    /// When a heartbeat is to be sent: clients share the pace evenly, each at its own phase.
    fn due(&self, turn: u64) -> Instant {
        match self.load.pace {
            Pace::Unbounded => self.begin,
            Pace::PerSecond(rate) => {
                let clients = self.load.connections as f64;
                let phase = self.number as f64 / clients;
                self.begin + Duration::from_secs_f64((turn as f64 + phase) * clients / rate)
            }
        }
    }
}

/// Sends a request and reads its answer; gives the status.
async fn exchange(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> io::Result<u16> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(request).await?;
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((status, length)) = parse(answer)
            && answer.len() >= length
        {
            return Ok(status);
        }
    }
}

/// What a heartbeat was answered with.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The lines of its head that are not the framework's own.
    pub headers: Vec<String>,
    /// Its body.
    pub body: String,
}

/// Sends one heartbeat of the fleet and gives the answer.
pub async fn ask_once(address: SocketAddr, fleet: &Fleet) -> io::Result<Answer> {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    fleet.write_heartbeat(fleet.session(0), &mut request);
    let mut connection = None;
    let asked = exchange(&mut connection, address, &request, &mut answer);
    let status = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    if status != 200 {
        return Err(io::Error::other(format!("a heartbeat was answered {status}: {body}")));
    }
    let is_ours = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !["content-length", "date", "connection"].iter().any(|own| name.eq_ignore_ascii_case(own))
    };
    let headers = head.lines().skip(1).filter(is_ours).map(str::to_owned).collect();
    Ok(Answer { headers, body: body.to_owned() })
}

/// The status and the whole length of an answer; `None` while its head is not complete.
fn parse(answer: &[u8]) -> Option<(u16, usize)> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, head + length.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
        assert_eq!(parse(answer), Some((200, answer.len())));
        assert_eq!(parse(&answer[..30]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&sorted, share)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
