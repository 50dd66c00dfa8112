//! A table of states, one sentence each, and properties of random histories.

use proptest::prelude::*;

use super::Role::{PendingPrimary, Primary, Secondary};
use super::*;

mod another_history;
mod between_heartbeats;
mod clocks_of_clients;
mod deletion_by_another;
mod foresight_of_wishes;
mod groups_that_follow;
mod histories;
mod known_traps;
mod one_heartbeat;
mod operators_word;
mod when_the_service_was_away;
mod words;

const SECOND: i64 = 1_000_000;

/// The instant so many seconds after the beginning of the test.
fn at(seconds: i64) -> Instant {
    Instant(seconds * SECOND)
}

fn seconds(timeout: i64) -> FailoverTimeout {
    FailoverTimeout::from_ticks(timeout * 1_000 * FailoverTimeout::TICKS_PER_MS).expect("within the bounds")
}

fn health(percent: i64) -> Health {
    Health::new(Decimal::from(percent)).expect("0 to 100")
}

/// A state of a group, and what surrounds it when something happens to it.
#[derive(Clone, Debug)]
struct Table {
    group: Group,
    outages: Vec<Outage>,
    history: Option<History>,
    rules: Rules,
    trace: Vec<Transition>,
}

/// A moment in the first history of the database.
fn moment(now: Instant, outages: &[Outage]) -> Moment<'_> {
    Moment { now, outages, history: None }
}

/// A group with that timeout in seconds, and without sessions so far.
fn group(timeout: i64) -> Table {
    Table {
        group: Group::begin(seconds(timeout), Remains::default(), moment(at(0), &[])),
        outages: Vec::new(),
        history: None,
        rules: Rules::default(),
        trace: Vec::new(),
    }
}

fn says(percent: i64) -> Report {
    Report {
        health: health(percent),
        sent_at: ClientInstant(0),
        data_sent_until: None,
        acting_as: None,
        term_seen: None,
    }
}

impl Report {
    fn sent_at(self, seconds: i64) -> Report {
        Report { sent_at: ClientInstant(seconds * SECOND), ..self }
    }

    fn acting_as(self, role: Role) -> Report {
        Report { acting_as: Some(role), ..self }
    }

    fn term_seen(self, term: i64) -> Report {
        Report { term_seen: Some(Term(term)), ..self }
    }

    fn data_until(self, seconds: i64) -> Report {
        Report { data_sent_until: Some(at(seconds)), ..self }
    }
}

impl Table {
    /// One more session, whose last heartbeat gave it a lease until that second.
    fn session(mut self, role: Role, percent: i64, lease_until: i64) -> Table {
        let lease_until = at(lease_until);
        let beat = Beat {
            health: health(percent),
            heard_until: ClientInstant(0),
            heard_counts_until: Instant(lease_until.0 - self.group.timeout.micros()),
            received_at: Instant(lease_until.0 - self.group.timeout.micros()),
            lease_until,
        };
        self.group.sessions.push(Session { role, beat: Some(beat), sent_until: None, wish: None });
        self
    }

    fn primary(mut self, percent: i64, lease_until: i64) -> Table {
        self.group.term = Term(1);
        self.session(Primary, percent, lease_until)
    }

    fn pending(self, percent: i64, lease_until: i64) -> Table {
        self.session(PendingPrimary, percent, lease_until)
    }

    fn secondary(self, percent: i64, lease_until: i64) -> Table {
        self.session(Secondary, percent, lease_until)
    }

    /// One more session that has registered and never sent a heartbeat.
    fn unheard(mut self) -> Table {
        self.group.sessions.push(Session { role: Secondary, beat: None, sent_until: None, wish: None });
        self
    }

    fn vacant_since(mut self, vacancy: Vacancy) -> Table {
        self.group.vacancy = vacancy;
        self.group.term = Term(1);
        self
    }

    fn away(mut self, began: i64, recovered: i64) -> Table {
        self.outages.push(Outage { began_at: at(began), recovered_at: at(recovered), gap_us: 0, clock_step_us: 0 });
        self
    }

    /// A clock that was set forward by so many seconds, of which nothing passed.
    fn set_forward(mut self, from: i64, by: i64) -> Table {
        let (began_at, recovered_at) = (at(from), at(from + by));
        self.outages.push(Outage { began_at, recovered_at, gap_us: 0, clock_step_us: by * 1_000_000 });
        self
    }

    fn margin(mut self, percent: i64) -> Table {
        self.rules.handover_margin = Decimal::from(percent);
        self
    }

    fn prompt(mut self) -> Table {
        self.rules.handover = HandoverMode::Prompt;
        self
    }

    fn timeout(&mut self, timeout: i64) {
        self.group.timeout = seconds(timeout);
    }

    fn hears(&mut self, s: usize, report: Report, now: i64) -> Answer {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        heartbeat(&mut self.group, s, &report, moment, &self.rules, &mut self.trace)
    }

    fn lapses(&mut self, now: i64) {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        lapse(&mut self.group, moment, &mut self.trace);
    }

    /// The database is in another history from here on, as far as anybody notices; terms go on
    /// above that one.
    fn in_another_history(mut self, noticed_at: i64, base: i64) -> Table {
        let id = HistoryId(self.history.map_or(1, |history| history.id.0) + 1);
        self.history = Some(History { id, noticed_at: at(noticed_at), base: Term(base) });
        let began_at = Instant(at(noticed_at).0 - 1);
        self.outages.push(Outage { began_at, recovered_at: at(noticed_at), gap_us: 0, clock_step_us: 0 });
        self
    }

    /// Deletes a session as a store does: its place is gone afterwards.
    fn loses(&mut self, s: usize, by: By, now: i64) {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        remove(&mut self.group, s, by, moment, &mut self.trace);
        drop_place(&mut self.group, s);
    }

    /// Deletes the group, and creates another at its path.
    fn recreated(mut self, timeout: i64, now: i64) -> Table {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        let remains = end(&mut self.group, moment, &mut self.trace);
        Table { group: Group::begin(seconds(timeout), remains, moment), ..self }
    }

    fn roles(&self) -> Vec<Role> {
        self.group.sessions.iter().map(|session| session.role).collect()
    }

    fn reasons(&self) -> Vec<Reason> {
        self.trace.iter().map(|change| change.reason).collect()
    }

    fn lease_until(&self, s: usize) -> Instant {
        self.group.sessions[s].beat.expect("it has sent a heartbeat").lease_until
    }

    fn is_live(&self, s: usize, now: i64) -> bool {
        self.group.is_live(s, moment(at(now), &self.outages))
    }
}

fn drop_place(group: &mut Group, s: usize) {
    group.sessions.remove(s);
    if let Some(Handover { from: Former::Yielding { session, .. }, .. }) = &mut group.handover
        && *session > s
    {
        *session -= 1;
    }
}
