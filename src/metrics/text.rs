//! What is counted, as text for Prometheus.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;

pub(super) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// A family's help and type.
pub(super) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    family_of(text, &format!("client_failover_{name}"), kind, help);
}

/// The same of a family whose name is not the service's own.
pub(super) fn family_of(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

pub(super) fn single(text: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    family(text, name, kind, help);
    line(text, format_args!("client_failover_{name} {value}"));
}

/// Everything, as Prometheus reads it.
pub fn render(readings: &Readings) -> String {
    let mut text = String::with_capacity(16 * 1024);
    family(&mut text, "build_info", "gauge", "The version of this binary.");
    line(&mut text, format_args!("client_failover_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    render_requests(&mut text);
    render_heartbeats(&mut text, readings);
    render_events(&mut text);
    render_pools(&mut text, readings);
    render_counted(&mut text);
    webhook::render(&mut text);
    process::render(&mut text);
    let expiry = CERTIFICATE_EXPIRY.load(Ordering::Relaxed);
    if expiry != 0 {
        single(&mut text, "certificate_expiry_timestamp_seconds", "gauge", "When the certificate in use ends.", expiry);
    }
    if let Some(end) = *NEXT_KEY_END.lock().unwrap_or_else(PoisonError::into_inner) {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        let help = "In how many seconds the next caller is left without a valid API key.";
        single(&mut text, "api_key_next_end_seconds", "gauge", help, left);
    }
    text
}

fn render_requests(text: &mut String) {
    family(text, "http_requests_total", "counter", "Requests answered, by what they are about, method and status.");
    for ((_, route), by_method) in std::iter::zip(&ROUTES, &REQUESTS) {
        for (method, by_status) in std::iter::zip(METHODS, by_method) {
            for (status, count) in std::iter::zip(FIRST_STATUS.., by_status) {
                let count = read(count);
                if count > 0 {
                    let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
                    line(text, format_args!("client_failover_http_requests_total{{{labels}}} {count}"));
                }
            }
        }
    }
    const DURATION: &str = "http_request_duration_seconds";
    family(text, DURATION, "histogram", "Time from a request's arrival to its answer; of a stream, to its beginning.");
    for ((_, route), by_method) in std::iter::zip(&ROUTES, &REQUEST_DURATIONS) {
        for (method, durations) in std::iter::zip(METHODS, by_method) {
            if !durations.is_empty() {
                let labels = format!("route=\"{route}\",method=\"{method}\"");
                durations.write(text, &format!("client_failover_{DURATION}"), &labels, &DURATIONS_US, 1e6);
            }
        }
    }
}

fn render_heartbeats(text: &mut String, readings: &Readings) {
    single(text, "heartbeats_total", "counter", "Heartbeats committed by this replica.", read(&HEARTBEATS));
    family(text, "heartbeat_batch_size", "histogram", "Heartbeats that shared one transaction.");
    BATCHES.write(text, "client_failover_heartbeat_batch_size", "", &BATCH_SIZES, 1.0);
    single(text, "heartbeats_waiting", "gauge", "Heartbeats that wait for a transaction.", readings.waiting);
    let help =
        "Heartbeat transactions that waited for their turn, because those of other replicas kept getting in their way.";
    single(text, "heartbeat_turns_total", "counter", help, read(&TURNS));
    family(
        text,
        "transaction_retries_total",
        "counter",
        "Transactions run again because others changed the same rows.",
    );
    for (name, count) in std::iter::zip(TRANSACTIONS, &RETRIES) {
        let count = read(count);
        line(text, format_args!("client_failover_transaction_retries_total{{transaction=\"{name}\"}} {count}"));
    }
    let help = "Transactions ended, by name and outcome; one that is run again counts once.";
    family(text, "transactions_total", "counter", help);
    for (name, by_outcome) in std::iter::zip(TRANSACTIONS, &TRANSACTIONS_ENDED) {
        for ((_, outcome), count) in std::iter::zip(OUTCOMES, by_outcome) {
            let count = read(count);
            if count > 0 {
                let labels = format!("transaction=\"{name}\",outcome=\"{outcome}\"");
                line(text, format_args!("client_failover_transactions_total{{{labels}}} {count}"));
            }
        }
    }
    const DURATION: &str = "transaction_duration_seconds";
    family(text, DURATION, "histogram", "Time that transactions take with all their attempts, by name.");
    for (name, durations) in std::iter::zip(TRANSACTIONS, &TRANSACTION_DURATIONS) {
        if !durations.is_empty() {
            let labels = format!("transaction=\"{name}\"");
            durations.write(text, &format!("client_failover_{DURATION}"), &labels, &DURATIONS_US, 1e6);
        }
    }
    family(text, "role_changes_total", "counter", "Changes of roles committed by this replica, by reason.");
    for (reason, count) in std::iter::zip(Reason::ALL.map(Reason::name), &ROLE_CHANGES) {
        line(text, format_args!("client_failover_role_changes_total{{reason=\"{reason}\"}} {}", read(count)));
    }
    let help =
        "Times in which a group had no Primary, from when it lost it to the grant, which this replica committed.";
    family(text, "without_primary_seconds", "histogram", help);
    for ((_, cause), gaps) in std::iter::zip(GAP_CAUSES, &WITHOUT_PRIMARY) {
        let labels = format!("cause=\"{cause}\"");
        gaps.write(text, "client_failover_without_primary_seconds", &labels, &GAPS_US, 1e6);
    }
    let help = "Histories of the database that this replica went over into, by how they were noticed.";
    family(text, "histories_entered_total", "counter", help);
    for (reason, count) in std::iter::zip(HISTORIES, &HISTORIES_ENTERED) {
        line(text, format_args!("client_failover_histories_entered_total{{reason=\"{reason}\"}} {}", read(count)));
    }
    family(text, "sweep_duration_seconds", "histogram", "Time that a round of the sweep for lapsed roles takes.");
    SWEEPS.write(text, "client_failover_sweep_duration_seconds", "", &DURATIONS_US, 1e6);
    let help = "Groups whose holders' leases this replica looks at as they end.";
    single(text, "leases_watched", "gauge", help, readings.leases_watched);
    if let Some(age) = readings.sign_of_life_age {
        let help = "How long ago this replica last knew that heartbeats can be committed.";
        single(text, "sign_of_life_age_seconds", "gauge", help, age.as_secs_f64());
    }
    single(text, "sweep_failures_total", "counter", "Rounds of the sweep that failed.", read(&SWEEPS_FAILED));
}

fn render_events(text: &mut String) {
    single(text, "events_total", "counter", "Events that this replica has read for its listeners.", read(&EVENTS));
    single(text, "events_pruned_total", "counter", "Old events deleted by this replica.", read(&EVENTS_PRUNED));
    let streams = EVENT_STREAMS.load(Ordering::Relaxed);
    single(text, "event_streams", "gauge", "Streams of events that are open.", streams);
    let help = "Whether this replica hears of commits with events (1) or polls for them (0).";
    single(text, "events_listening", "gauge", help, read(&LISTENING));
}

fn render_pools(text: &mut String, readings: &Readings) {
    let pools = [
        ("requests", readings.requests),
        ("heartbeats", readings.heartbeats),
        ("upkeep", readings.upkeep),
        ("background", readings.background),
    ];
    family(text, "database_connections", "gauge", "Open connections to the database.");
    for (pool, PoolUse { open, idle, .. }) in pools {
        let busy = (open as usize).saturating_sub(idle);
        line(text, format_args!("client_failover_database_connections{{pool=\"{pool}\",state=\"idle\"}} {idle}"));
        line(text, format_args!("client_failover_database_connections{{pool=\"{pool}\",state=\"busy\"}} {busy}"));
    }
    family(text, "database_connections_max", "gauge", "The most connections that there may be.");
    for (pool, PoolUse { most, .. }) in pools {
        line(text, format_args!("client_failover_database_connections_max{{pool=\"{pool}\"}} {most}"));
    }
    let help = "Connections that the database refused because it has too many.";
    single(text, "database_connections_refused_total", "counter", help, read(&CONNECTIONS_REFUSED));
    let help = "Whether the database has so few connections to spare that requests share fewer.";
    single(text, "database_connections_few", "gauge", help, read(&CONNECTIONS_FEW));
}

fn render_counted(text: &mut String) {
    let known = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((counted, named, at)) = &*known else { return };
    family(text, "groups", "gauge", "Groups by whether somebody is Primary. The same at every replica.");
    let without = counted.groups - counted.groups_with_primary;
    line(text, format_args!("client_failover_groups{{primary=\"yes\"}} {}", counted.groups_with_primary));
    line(text, format_args!("client_failover_groups{{primary=\"no\"}} {without}"));
    for (name, help, value) in [
        ("groups_without_standby", "Groups with a Primary and no other live session.", counted.groups_without_standby),
        ("groups_without_live_session", "Groups without any live session.", counted.groups_without_live_session),
        (
            "groups_with_unhealthy_primary",
            "Groups whose Primary reports a health below 90 per cent.",
            counted.groups_with_unhealthy_primary,
        ),
        ("groups_at_risk", "Groups with any risk.", counted.groups_at_risk),
        ("groups_flapping", "Groups that changed their Primary several times in ten minutes.", counted.groups_flapping),
        (
            "groups_with_same_id_twice",
            "Groups in which two clients seem to heartbeat as one session.",
            counted.groups_with_same_id_twice,
        ),
        (
            "groups_with_data_standing_still",
            "Groups whose Primary reports no newer data for five timeouts and five minutes.",
            counted.groups_with_data_standing_still,
        ),
        (
            "groups_with_clock_ahead",
            "Groups with a session whose times are ahead of the clock by half a timeout and 5 s.",
            counted.groups_with_clock_ahead,
        ),
        (
            "groups_with_seldom_heartbeats",
            "Groups with a session that sends heartbeats clearly more seldom than every half timeout.",
            counted.groups_with_seldom_heartbeats,
        ),
        ("groups_with_many_sessions", "Groups with more than four live sessions.", counted.groups_with_many_sessions),
        (
            "groups_with_new_ids",
            "Groups in which clients register with a new id at each start, and leave silent sessions behind.",
            counted.groups_with_new_ids,
        ),
        (
            "groups_in_doubt",
            "Groups in which only a session that says it acts is Primary, for the database has a new history.",
            counted.groups_in_doubt,
        ),
        ("sessions_registered", "Registered client sessions.", counted.sessions),
        ("sessions_live", "Client sessions whose lease has not run out.", counted.live_sessions),
    ] {
        single(text, name, "gauge", help, value);
    }
    family(text, "leases", "gauge", "Live leases by the part of them that is over.");
    for (part, count) in std::iter::zip(["0.25", "0.5", "0.75", "1"], counted.lease_ages) {
        line(text, format_args!("client_failover_leases{{age_up_to=\"{part}\"}} {count}"));
    }
    single(text, "outages_total", "counter", "Outages of the whole service recorded in the database.", counted.outages);
    let help = "When the history that the database is in was noticed, in seconds since 1970; 0 while it is the first.";
    single(text, "database_history_timestamp_seconds", "gauge", help, counted.history_noticed_at_s);
    namespaces::render(text, named);
    let took = counted.took_us as f64 / 1e6;
    single(text, "census_duration_seconds", "gauge", "How long the last count of groups and sessions took.", took);
    let age = at.elapsed().as_secs_f64();
    single(text, "census_age_seconds", "gauge", "How long ago the groups and sessions were counted.", age);
}
