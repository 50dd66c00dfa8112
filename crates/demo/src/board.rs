//! What is known of every adapter now, and the record of what was: built from the adapters' own
//! reports.

use std::time::Duration;

use client_failover_client::{MachineTime, Stop};
use client_failover_wire::Role;

use super::DemoError;
use super::cast::{Message, News};
use super::event::{Report, Told};
use super::record::{Ending, Record, Span, Stint};

/// Whether an adapter's process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Not started yet.
    NotStarted,
    /// It runs.
    Running,
    /// The demo killed it.
    Killed,
    /// It was killed, and all that it had said before has been read.
    Gone,
}

/// One adapter as it is now.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its name, which is its session's id too.
    pub name: String,
    /// The id of its process, of the last one if it has none.
    pub process_id: u32,
    /// Whether that runs.
    pub process: Process,
    /// The role in the last answer; none before the first.
    pub role: Option<Role>,
    /// The term in the last answer.
    pub term: Option<i64>,
    /// The health in the last heartbeat that was answered, in per cent.
    pub health_percent: u8,
    /// When it sent its last heartbeat.
    pub heartbeat_at: Option<MachineTime>,
    /// Until when it holds a lease.
    pub lease_until: Option<MachineTime>,
    acting: Option<Stint>,
    pending_since: Option<MachineTime>,
    running_since: Option<MachineTime>,
    gone_at: Option<MachineTime>,
}

/// All adapters.
#[derive(Debug)]
pub struct Board {
    /// One by one.
    pub adapters: Vec<Adapter>,
    record: Record,
}

impl Board {
    /// A board for adapters of these names, none of them started.
    pub fn new(names: Vec<String>, timeout: Duration, start: MachineTime) -> Board {
        let adapter = |name: &String| Adapter {
            name: name.clone(),
            process_id: 0,
            process: Process::NotStarted,
            role: None,
            term: None,
            health_percent: 100,
            heartbeat_at: None,
            lease_until: None,
            acting: None,
            pending_since: None,
            running_since: None,
            gone_at: None,
        };
        let adapters = names.iter().map(adapter).collect();
        let record = Record {
            names,
            timeout,
            start,
            end: start,
            stints: Vec::new(),
            pending: Vec::new(),
            running: Vec::new(),
            kills: Vec::new(),
            health_drops: Vec::new(),
        };
        Board { adapters, record }
    }

    /// The first instant of the demo.
    pub fn start(&self) -> MachineTime {
        self.record.start
    }

    /// The one adapter that acts as Primary, by what has been read so far.
    pub fn primary(&self) -> Option<usize> {
        self.adapters.iter().position(|a| a.process == Process::Running && a.acting.is_some())
    }

    /// The adapter that was last told that it is PendingPrimary.
    pub fn pending(&self) -> Option<usize> {
        self.adapters.iter().position(|a| a.process == Process::Running && a.role == Some(Role::PendingPrimary))
    }

    /// Whether every adapter that runs has been answered.
    pub fn all_answered(&self) -> bool {
        self.adapters.iter().all(|a| a.role.is_some())
    }

    /// Notes that a process was started.
    pub fn started(&mut self, adapter: usize, process_id: u32, at: MachineTime) {
        let a = &mut self.adapters[adapter];
        a.process_id = process_id;
        a.process = Process::Running;
        a.role = None;
        a.lease_until = None;
        a.heartbeat_at = None;
        a.running_since = Some(at);
    }

    /// Notes that a process was killed, and gone at this instant.
    pub fn killed(&mut self, adapter: usize, at: MachineTime) {
        let a = &mut self.adapters[adapter];
        a.process = Process::Killed;
        a.gone_at = Some(at);
        self.record.kills.push((adapter, at));
    }

    /// Notes that an adapter was told to report a bad health.
    pub fn health_dropped(&mut self, adapter: usize, at: MachineTime) {
        self.record.health_drops.push((adapter, at));
    }

    /// Takes a message of an adapter. What is worth telling comes back as a sentence.
    pub fn take(&mut self, message: Message) -> Result<Option<(MachineTime, String)>, DemoError> {
        let adapter = message.adapter;
        match message.news {
            News::Told(report) => {
                let at = report.monotonic_us;
                Ok(self.told(adapter, report).map(|sentence| (at, sentence)))
            }
            News::Ended { last_words } => {
                let name = self.adapters[adapter].name.clone();
                match self.adapters[adapter].process {
                    Process::Killed => {
                        let at = self.adapters[adapter].gone_at.unwrap_or_else(MachineTime::now);
                        self.close(adapter, at, Ending::Killed);
                        self.adapters[adapter].process = Process::Gone;
                        Ok(None)
                    }
                    _ => Err(DemoError::AdapterEnded { name, last_words }),
                }
            }
        }
    }

    fn told(&mut self, adapter: usize, report: Report) -> Option<String> {
        let at = report.monotonic_us;
        let a = &mut self.adapters[adapter];
        let name = a.name.clone();
        match report.event {
            Told::Registered => a.role.take().map(|_| format!("{name} registers anew.")),
            Told::Sent { acting_as, .. } => {
                a.heartbeat_at = Some(at);
                if let Some(stint) = a.acting.as_mut().filter(|_| acting_as == Role::Primary) {
                    stint.last_heartbeat_at = at;
                }
                None
            }
            Told::Answered { role, term, health_percent, lease_until_us, .. } => {
                let before = a.role.replace(role);
                a.term = term;
                a.health_percent = health_percent;
                a.lease_until = lease_until_us;
                if let (Some(stint), Some(until)) = (a.acting.as_mut(), lease_until_us) {
                    stint.lease_until = until;
                }
                if role == Role::PendingPrimary {
                    a.pending_since.get_or_insert(at);
                    return (before != Some(role))
                        .then(|| format!("{name} is PendingPrimary: chosen to take over, it waits until it is safe."));
                }
                if let Some(from) = a.pending_since.take() {
                    self.record.pending.push(Span { adapter, from, until: at });
                }
                (before.is_none() && role == Role::Secondary).then(|| format!("{name} is Secondary: it stands by."))
            }
            Told::Failed { why } => Some(format!("{name} got no usable answer: {why}.")),
            Told::ActsFrom { from_us, term, sent_us, lease_until_us } => {
                a.lease_until = Some(lease_until_us);
                a.acting = Some(Stint {
                    adapter,
                    from: from_us,
                    until: from_us,
                    term,
                    ending: Ending::DemoEnded,
                    last_heartbeat_at: sent_us,
                    lease_until: lease_until_us,
                });
                let term = term.map_or(String::new(), |term| format!(" (term {term})"));
                Some(format!("{name} is Primary{term}: it acts."))
            }
            Told::ActsUntil { until_us, why } => {
                let (ending, sentence) = match why {
                    Stop::Demoted => (Ending::HandedOver, "is told that it is Secondary, and stops acting."),
                    Stop::LeaseRanOut => (Ending::LeaseRanOut, "stops acting: its lease has run out."),
                    Stop::NewTerm => (Ending::Other, "is granted Primary anew."),
                    Stop::Unknown => (Ending::Other, "stops acting: the service does not know its session."),
                };
                self.stop_acting(adapter, until_us, ending);
                Some(format!("{name} {sentence}"))
            }
        }
    }

    fn stop_acting(&mut self, adapter: usize, at: MachineTime, ending: Ending) {
        if let Some(stint) = self.adapters[adapter].acting.take() {
            // A lease that ran out ended then, however late that was noticed.
            self.record.stints.push(Stint { until: at.min(stint.lease_until), ending, ..stint });
        }
    }

    fn close(&mut self, adapter: usize, at: MachineTime, ending: Ending) {
        self.stop_acting(adapter, at, ending);
        let a = &mut self.adapters[adapter];
        if let Some(from) = a.pending_since.take() {
            self.record.pending.push(Span { adapter, from, until: at });
        }
        if let Some(from) = a.running_since.take() {
            self.record.running.push(Span { adapter, from, until: at });
        }
    }

    /// Ends the record here.
    pub fn finish(mut self, at: MachineTime) -> Record {
        for adapter in 0..self.adapters.len() {
            self.close(adapter, at, Ending::DemoEnded);
        }
        self.record.end = at;
        self.record.stints.sort_by_key(|stint| stint.from);
        self.record
    }
}
