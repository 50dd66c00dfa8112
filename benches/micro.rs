//! What the code itself costs for one heartbeat, without network and database: `cargo bench --bench
//! micro`.

use client_failover::arbitration::{
    self, Answer, ClientInstant, FailoverTimeout, Group, Health, Instant, Moment, Report, Role, Rules, Session, Term,
    Vacancy,
};
use divan::{Bencher, black_box};

const SECOND_US: i64 = 1_000_000;
const BODY: &str = r#"{"PercentHealthyStreams":99.5,"HeartbeatTime":"2026-11-23T14:50:29.123456Z","LastDataSendTime":"2026-11-23T14:50:28.9Z"}"#;

fn main() {
    divan::main();
}

/// A group in which every session has beaten once and the first one is Primary.
fn group_of(sessions: usize) -> Group {
    let silent = Session { role: Role::Secondary, beat: None, sent_until: None, wish: None };
    let mut group = Group {
        timeout: FailoverTimeout::from_ticks(3_600 * 10_000_000).expect("an hour is within bounds"),
        term: Term(0),
        vacancy: Vacancy::NeverHeld,
        handover: None,
        watermark_base: None,
        history: Default::default(),
        in_doubt_until: None,
        sessions: vec![silent; sessions],
    };
    for session in 0..sessions {
        beat(&mut group, session, session as i64);
    }
    group
}

fn beat(group: &mut Group, session: usize, now_us: i64) -> Answer {
    let now = Instant(1_790_000_000 * SECOND_US + now_us);
    let report = Report {
        health: Health::default(),
        sent_at: ClientInstant(now.0),
        data_sent_until: Some(now),
        acting_as: Some(group.sessions[session].role),
        term_seen: None,
    };
    let mut trace = Vec::new();
    arbitration::heartbeat(
        group,
        session,
        &report,
        Moment { now, outages: &[], history: None },
        &Rules::default(),
        &mut trace,
    )
}

/// One decision: a heartbeat of each session in turn.
#[divan::bench(args = [2, 10, 100, 1_000])]
fn decision(bencher: Bencher<'_, '_>, sessions: usize) {
    let mut group = group_of(sessions);
    let mut number = sessions;
    bencher.bench_local(|| {
        number += 1;
        black_box(beat(&mut group, number % sessions, number as i64))
    });
}

/// The body of a heartbeat read, and that of its answer written.
#[divan::bench]
fn json_in_and_out(bencher: Bencher<'_, '_>) {
    let answer = beat(&mut group_of(2), 0, SECOND_US);
    bencher.bench_local(|| client_failover::http::wire_form(black_box(BODY), black_box(&answer)));
}
