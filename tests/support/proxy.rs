//! A TCP proxy that cuts, holds, swallows and delays what passes through it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Nothing passes, and nobody is told; what was sent arrives once the gate is open again,
    /// whether or not the sender still waits.
    Held,
    /// The same for the answers on connections on which a stream of events was asked for: as a
    /// proxy does that collects an answer before it passes it on.
    StreamsHeld,
    /// Requests pass, and their answers are lost.
    Mute,
    /// The next request that holds this passes, and its connection is cut before the answer comes
    /// through. Then the gate is open.
    LosesAnswer {
        to: &'static str,
    },
    /// Connections are cut and new ones refused.
    Closed,
}

/// What is behind a proxy, on this machine.
#[derive(Clone)]
enum Upstream {
    Port(u16),
    Socket(PathBuf),
}

/// A running proxy. It ends with this value.
pub struct Proxy {
    pub port: u16,
    controls: Arc<Controls>,
    accepting: JoinHandle<()>,
}

struct Controls {
    gate: watch::Sender<Gate>,
    /// Counts the times at which all connections were cut.
    cuts: watch::Sender<u64>,
    answers_to_swallow: AtomicU32,
    answers_lost_per_mille: AtomicU32,
    requests_to_delay: AtomicU32,
    delay_ms: AtomicU64,
    slow_ms: AtomicU64,
    lets_nobody_in: AtomicBool,
}

impl Proxy {
    /// A proxy to that port of this machine.
    pub async fn to_port(port: u16) -> Proxy {
        Proxy::start(Upstream::Port(port)).await
    }

    /// A proxy to that Unix socket.
    pub async fn to_socket(path: PathBuf) -> Proxy {
        Proxy::start(Upstream::Socket(path)).await
    }

    async fn start(upstream: Upstream) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let controls = Arc::new(Controls {
            gate: watch::Sender::new(Gate::Open),
            cuts: watch::Sender::new(0),
            answers_to_swallow: AtomicU32::new(0),
            answers_lost_per_mille: AtomicU32::new(0),
            requests_to_delay: AtomicU32::new(0),
            delay_ms: AtomicU64::new(0),
            slow_ms: AtomicU64::new(0),
            lets_nobody_in: AtomicBool::new(false),
        });
        let shared = controls.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((downstream, _)) = listener.accept().await else { continue };
                let is_open = !shared.lets_nobody_in.load(Ordering::Relaxed);
                if is_open && *shared.gate.borrow() != Gate::Closed {
                    tokio::spawn(pass(downstream, upstream.clone(), shared.clone()));
                }
            }
        });
        Proxy { port, controls, accepting }
    }

    pub fn gate(&self) -> Gate {
        *self.controls.gate.borrow()
    }

    pub fn set_gate(&self, gate: Gate) {
        self.controls.gate.send_replace(gate);
        if gate == Gate::Closed {
            self.cut();
        }
    }

    /// Refuses new connections, and leaves those that there are; or takes new ones again.
    pub fn let_nobody_in(&self, nobody: bool) {
        self.controls.lets_nobody_in.store(nobody, Ordering::Relaxed);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.controls.cuts.send_modify(|count| *count += 1);
    }

    /// Drops the next answers, and cuts the connections that they were due on.
    pub fn swallow_answers(&self, count: u32) {
        self.controls.answers_to_swallow.store(count, Ordering::Relaxed);
    }

    /// Drops so many answers in a thousand, at random.
    pub fn lose_answers(&self, per_mille: u32) {
        self.controls.answers_lost_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Delivers every request up to so much later, so that more of them meet.
    pub fn slow_down(&self, longest: Duration) {
        self.controls.slow_ms.store(longest.as_millis() as u64, Ordering::Relaxed);
    }

    /// Delivers the next requests so much later, even if their sender has gone away meanwhile.
    pub fn delay_requests(&self, count: u32, delay: Duration) {
        self.controls.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
        self.controls.requests_to_delay.store(count, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Controls {
    /// Waits while the gate is such; whether it was.
    async fn wait_while(&self, is_held: impl Fn(Gate) -> bool) -> bool {
        let mut gate = self.gate.subscribe();
        let was_held = is_held(*gate.borrow());
        // The sender lives in `self`, so waiting cannot fail.
        let _ = gate.wait_for(|gate| !is_held(*gate)).await;
        was_held
    }

    fn loses_answer(&self) -> bool {
        take_one(&self.answers_to_swallow)
            || fastrand::u32(0..1_000) < self.answers_lost_per_mille.load(Ordering::Relaxed)
    }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

async fn pass(downstream: TcpStream, upstream: Upstream, controls: Arc<Controls>) {
    let mut cuts = controls.cuts.subscribe();
    let _ = downstream.set_nodelay(true);
    let (from_client, to_client) = downstream.into_split();
    let relay = async {
        let asked = Asked::default();
        let (read, write): (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) = match upstream {
            Upstream::Port(port) => {
                let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = stream.set_nodelay(true);
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Upstream::Socket(path) => {
                let Ok(stream) = UnixStream::connect(path).await else { return };
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
        };
        tokio::select! {
            () = requests(from_client, write, &asked, &controls) => {}
            () = answers(read, to_client, &asked, &controls) => {}
        }
    };
    tokio::select! {
        () = relay => {}
        _ = cuts.changed() => {}
    }
}

/// What was asked for on one connection.
#[derive(Default)]
struct Asked {
    for_a_stream: AtomicBool,
    /// Its next answer is lost.
    for_what_is_lost: AtomicBool,
}

impl Asked {
    fn note(&self, request: &[u8], gate: Gate) {
        let holds = |text: &str| request.windows(text.len()).any(|window| window == text.as_bytes());
        if holds("/events?") {
            self.for_a_stream.store(true, Ordering::Relaxed);
        }
        if matches!(gate, Gate::LosesAnswer { to } if holds(to)) {
            self.for_what_is_lost.store(true, Ordering::Relaxed);
        }
    }
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    asked: &Asked,
    controls: &Controls,
) {
    let mut buffer = vec![0; 32 * 1024];
    let mut was_late = false;
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        was_late = controls.wait_while(|gate| gate == Gate::Held).await;
        asked.note(&buffer[..count], *controls.gate.borrow());
        let slow_ms = controls.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..slow_ms))).await;
        }
        if take_one(&controls.requests_to_delay) {
            tokio::time::sleep(Duration::from_millis(controls.delay_ms.load(Ordering::Relaxed))).await;
            was_late = true;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if was_late {
        // Its sender is gone, but it is to be worked on: a server drops what a closed connection
        // asked for.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    asked: &Asked,
    controls: &Controls,
) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        controls
            .wait_while(|gate| match gate {
                Gate::Held => true,
                Gate::StreamsHeld => asked.for_a_stream.load(Ordering::Relaxed),
                _ => false,
            })
            .await;
        if asked.for_what_is_lost.load(Ordering::Relaxed) {
            controls.gate.send_replace(Gate::Open);
            return;
        }
        if *controls.gate.borrow() == Gate::Mute {
            continue;
        }
        if controls.loses_answer() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
