//! One adapter: a client as a real one would be, in a process of its own, so that it can really be
//! killed.

#![expect(clippy::disallowed_methods, reason = "an adapter is a client: the times it reports are its own")]

use std::future::{self, Future};
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_client::{
    Answer, Change, ClientError, ClientSession, Heartbeat, HeartbeatNumber, MachineTime, Service, Trust,
};
use client_failover_wire::ids::{GroupId, NamespaceId, NamespacePath, SessionId, TenantId};
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior};

use super::event::{Report, Told};
use super::{DemoAdapterArgs, DemoError};

enum Command {
    Health(u8),
    Quit,
}

struct InFlight {
    number: HeartbeatNumber,
    sent_at: MachineTime,
    health_percent: u8,
    answer: Pin<Box<dyn Future<Output = Result<Answer, ClientError>> + Send>>,
}

struct Adapter {
    member: ClientSession,
    /// What people call it.
    name: String,
    trust: Trust,
    health_percent: u8,
    data_sent_at: Option<DateTime<Utc>>,
    /// The highest term that it was told.
    term_seen: Option<i64>,
    in_flight: Option<InFlight>,
}

/// Registers, heartbeats and acts until it is told to quit or its standard input ends.
pub async fn run(args: DemoAdapterArgs) -> Result<(), DemoError> {
    let timeout = Duration::from_millis(args.timeout_ms);
    // Two attempts fit into a failover timeout, so one lost heartbeat costs no role.
    let service = Service::plain(&args.server, timeout.mul_f64(0.4))?;
    let namespace =
        NamespacePath { tenant: TenantId::parse(args.tenant)?, namespace: NamespaceId::parse(args.namespace)? };
    let name = format!("Demo adapter {}", args.session);
    let group = GroupId::parse(args.group)?;
    let mut adapter = Adapter {
        member: ClientSession::new(service, namespace, group, SessionId::parse(args.session)?),
        name,
        trust: Trust::new(timeout),
        health_percent: 100,
        data_sent_at: None,
        term_seen: None,
        in_flight: None,
    };
    let mut commands = read_commands();
    adapter.register(&mut commands, timeout / 2).await?;

    let mut beats = time::interval(timeout / 2);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Health(percent)) => adapter.health_percent = percent,
                Some(Command::Quit) | None => break,
            },
            _ = beats.tick(), if adapter.in_flight.is_none() => adapter.send()?,
            answer = answered(&mut adapter.in_flight) => adapter.take(answer).await?,
            () = lapsed(&adapter.trust) => {
                let changes = adapter.trust.lapse(MachineTime::now());
                adapter.tell_changes(changes, MachineTime::now())?;
            }
        }
    }
    // A client that leaves in order says so: nobody needs to wait for its lease to run out.
    let _ = adapter.member.goodbye().await;
    Ok(())
}

/// Commands come from a thread of their own: a read of standard input cannot be called off, and
/// must not keep the process from ending.
fn read_commands() -> mpsc::UnboundedReceiver<Command> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            let command = match line.split_once(' ') {
                Some(("health", percent)) => percent.trim().parse().ok().map(Command::Health),
                None if line == "quit" => Some(Command::Quit),
                _ => None,
            };
            let Some(command) = command else {
                eprintln!("not a command: {line}");
                continue;
            };
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The answer to the heartbeat that is under way; never, if there is none.
async fn answered(in_flight: &mut Option<InFlight>) -> Result<Answer, ClientError> {
    match in_flight {
        Some(in_flight) => in_flight.answer.as_mut().await,
        None => future::pending().await,
    }
}

/// Waits for the end of the lease; for ever, if there is none.
async fn lapsed(trust: &Trust) {
    let now = MachineTime::now();
    match trust.held_until() {
        Some(until) => time::sleep(until.since(now)).await,
        None => future::pending().await,
    }
}

impl Adapter {
    async fn register(
        &self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        pause: Duration,
    ) -> Result<(), DemoError> {
        loop {
            match self.member.register(&self.name).await {
                Ok(()) => return tell(MachineTime::now(), Told::Registered),
                Err(error) if error.is_passing() => {
                    tell(MachineTime::now(), Told::Failed { why: error.to_string() })?;
                }
                Err(error) => return Err(DemoError::Request { what: "register a session", error }),
            }
            tokio::select! {
                command = commands.recv() => if !matches!(command, Some(Command::Health(_))) {
                    return Err(DemoError::Interrupted);
                },
                () = time::sleep(pause) => {}
            }
        }
    }

    fn send(&mut self) -> Result<(), DemoError> {
        let now = MachineTime::now();
        let acting_as = self.trust.role(now);
        if self.trust.lease(now).is_some() {
            self.data_sent_at = Some(Utc::now());
        }
        let heartbeat = Heartbeat {
            health_percent: self.health_percent,
            acting_as: Some(acting_as),
            term_seen: self.term_seen,
            sent_at: Utc::now(),
            data_sent_at: self.data_sent_at,
        };
        let number = self.trust.sent(now);
        let member = self.member.clone();
        let answer = Box::pin(async move { member.heartbeat(&heartbeat).await });
        let health_percent = self.health_percent;
        self.in_flight = Some(InFlight { number, sent_at: now, health_percent, answer });
        tell(now, Told::Sent { acting_as, health_percent })
    }

    async fn take(&mut self, answer: Result<Answer, ClientError>) -> Result<(), DemoError> {
        let now = MachineTime::now();
        let Some(InFlight { number, sent_at, health_percent, .. }) = self.in_flight.take() else {
            return Ok(());
        };
        match answer {
            Ok(answer) => {
                self.term_seen = self.term_seen.max(answer.term);
                let changes = self.trust.answered(number, &answer, now);
                let answered = Told::Answered {
                    role: answer.role,
                    term: answer.term,
                    health_percent,
                    sent_us: sent_at,
                    lease_until_us: self.trust.lease(now).map(|lease| lease.until),
                };
                self.tell_changes(changes, sent_at)?;
                tell(now, answered)
            }
            Err(error) if error.is_not_found() => {
                let changes = self.trust.unknown(now);
                self.tell_changes(changes, sent_at)?;
                match self.member.register(&self.name).await {
                    Ok(()) => tell(MachineTime::now(), Told::Registered),
                    // The next heartbeat is answered "not found" again, and this is tried again.
                    Err(error) => tell(now, Told::Failed { why: error.to_string() }),
                }
            }
            Err(error) => tell(now, Told::Failed { why: error.to_string() }),
        }
    }

    fn tell_changes(&self, changes: Vec<Change>, sent_us: MachineTime) -> Result<(), DemoError> {
        for change in changes {
            let (at, event) = match change {
                Change::Began { at, lease } => {
                    let lease_until_us = lease.until;
                    let term = lease.term;
                    (at, Told::ActsFrom { from_us: at, term, sent_us, lease_until_us })
                }
                Change::Ended { at, why } => (at, Told::ActsUntil { until_us: at, why }),
            };
            tell(at, event)?;
        }
        Ok(())
    }
}

fn tell(at: MachineTime, event: Told) -> Result<(), DemoError> {
    let age = i64::try_from(MachineTime::now().since(at).as_micros()).unwrap_or(0);
    let utc_us = Utc::now().timestamp_micros() - age;
    let report = Report { utc_us, monotonic_us: at, event };
    let mut line = serde_json::to_string(&report).map_err(|error| DemoError::Output(io::Error::other(error)))?;
    line.push('\n');
    // `println!` would panic when the demo is gone.
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).map_err(DemoError::Output)
}
