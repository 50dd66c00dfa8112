//! The runs: a short one of everything, a long one, and those of a single kind of fault that must
//! change nothing.

use std::sync::Arc;
use std::time::Duration;

use super::checker::{self, Findings, Tolerance};
use super::cluster::ReplicaSettings;
use super::injector::{self, EVERYTHING, Plan};
use super::record::FaultKind;
use super::report::report;
use super::world::{ADAPTERS_LEAST_TIMEOUT_MS, MEMBERS_LEAST_TIMEOUT_MS, Scale, World};
use crate::support::helpers::remove_after_the_run;

/// One run at a time: they would take each other's time for a fault of the service.
pub static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Ends a world, checks what it left behind, and prints it. The records stay where something was
/// found.
pub async fn judge(world: &World) -> Findings {
    let record = world.end().await;
    let findings = checker::check(&record, Tolerance::default());
    println!("{}", report(world.scale.seed, &record, &findings));
    if findings.violations.is_empty() && findings.needless.is_empty() {
        remove_after_the_run(world.dir());
    } else {
        let rows = record.transitions.iter().map(|row| format!("{row:?}\n"));
        let faults = record.faults.iter().map(|fault| format!("{fault:?}\n"));
        let outages = record.outages.iter().map(|outage| format!("{outage:?}\n"));
        let histories = record.histories.iter().map(|history| format!("{history:?}\n"));
        let timeouts = record.timeouts.iter().map(|set| format!("{set:?}\n"));
        let clock = [format!("{:?}\n", record.clock)];
        let text: String = rows.chain(faults).chain(outages).chain(histories).chain(timeouts).chain(clock).collect();
        let _ = std::fs::write(world.dir().join("rows_and_faults.txt"), text);
        println!("records and logs: {}", world.dir().display());
    }
    findings
}

fn assert_clean(world: &World, findings: &Findings) {
    if world.scale.member_groups > 0 {
        assert!(findings.members.acts > 100, "members acted");
        assert!(findings.members.taken > 100, "what they sent was received");
    }
    assert!(findings.violations.is_empty(), "{} violations, printed above", findings.violations.len());
    assert!(findings.needless.is_empty(), "{} needless failovers, printed above", findings.needless.len());
}

/// A time in which nothing is done, long enough for every promise to have come due.
pub async fn settle(world: &World) {
    let longest = world.scale.timeouts_ms.iter().max().copied().unwrap_or_default();
    let longest = if world.scale.adapter_groups > 0 { longest.max(ADAPTERS_LEAST_TIMEOUT_MS) } else { longest };
    let longest = if world.scale.member_groups > 0 { longest.max(MEMBERS_LEAST_TIMEOUT_MS) } else { longest };
    tokio::time::sleep(Duration::from_millis(longest * 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_run_of_all_faults_breaks_no_promise() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::start(Scale {
        seed: 7,
        replicas: 3,
        groups: 3,
        adapter_groups: 2,
        member_groups: 1,
        adapters_lose_requests: true,
        sessions: 2..=3,
        timeouts_ms: &[1_000, 1_500],
        with_standby: false,
        replica_settings: ReplicaSettings::default(),
    })
    .await;
    let lasts = Duration::from_secs(8);
    injector::inject(&world, &Plan { kinds: EVERYTHING, every: Duration::from_millis(400), lasts }).await;
    settle(&world).await;
    let findings = judge(&world).await;
    assert!(findings.answered > 50, "the clients were served");
    assert_clean(&world, &findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes CLIENT_FAILOVER_FAULTS_MINUTES (10); its seed is CLIENT_FAILOVER_FAULTS_SEED (the time of day); only _KINDS"]
async fn long() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let minutes = number("CLIENT_FAILOVER_FAULTS_MINUTES").unwrap_or(10);
    let seed = number("CLIENT_FAILOVER_FAULTS_SEED").unwrap_or_else(|| super::clock::Stamp::now().wall as u64);
    let every = Duration::from_millis(number("CLIENT_FAILOVER_FAULTS_EVERY_MS").unwrap_or(550));
    let kinds = chosen(EVERYTHING);
    println!("seed {seed}, {minutes} minutes");
    let writers = ["--heartbeat-writers", "2"].map(str::to_owned).to_vec();
    let world = World::start(Scale {
        seed,
        replicas: 3,
        groups: number("CLIENT_FAILOVER_FAULTS_GROUPS").unwrap_or(10) as usize,
        adapter_groups: number("CLIENT_FAILOVER_FAULTS_ADAPTER_GROUPS").unwrap_or(4) as usize,
        member_groups: number("CLIENT_FAILOVER_FAULTS_MEMBER_GROUPS").unwrap_or(4) as usize,
        adapters_lose_requests: true,
        sessions: 2..=4,
        timeouts_ms: &[500, 1_000, 1_500, 2_000],
        with_standby: true,
        replica_settings: ReplicaSettings { arguments: writers, program: None },
    })
    .await;
    let lasts = Duration::from_secs(60 * minutes);
    injector::inject(&world, &Plan { kinds: &kinds, every, lasts }).await;
    settle(&world).await;
    assert_clean(&world, &judge(&world).await);
}

/// Those kinds that `CLIENT_FAILOVER_FAULTS_KINDS` names, with commas between; all where it is not
/// set.
fn chosen(kinds: &[(FaultKind, u32)]) -> Vec<(FaultKind, u32)> {
    let names = std::env::var("CLIENT_FAILOVER_FAULTS_KINDS").ok();
    let is_named = |kind: FaultKind| {
        names.as_ref().is_none_or(|names| names.split(',').any(|name| name.trim() == format!("{kind:?}")))
    };
    let chosen: Vec<_> = kinds.iter().copied().filter(|(kind, _)| is_named(*kind)).collect();
    assert!(!chosen.is_empty(), "CLIENT_FAILOVER_FAULTS_KINDS names none of {kinds:?}");
    chosen
}

/// A few groups, for faults of one kind only, which must not change any role.
async fn calm_world(seed: u64) -> Arc<World> {
    let world = World::start(Scale {
        seed,
        replicas: 3,
        groups: 3,
        adapter_groups: 2,
        member_groups: 1,
        adapters_lose_requests: false,
        sessions: 2..=3,
        timeouts_ms: &[1_000, 1_500],
        with_standby: false,
        replica_settings: ReplicaSettings::default(),
    })
    .await;
    // Long enough for everybody to have heard its role.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world
}

/// Whether nothing changed, unless the machine itself had no time.
async fn assert_no_change(world: &World, before: i64) {
    let changes = world.count_transitions().await - before;
    let record = world.end().await;
    let findings = checker::check(&record, Tolerance::default());
    println!("{}", report(world.scale.seed, &record, &findings));
    remove_after_the_run(world.dir());
    assert!(findings.violations.is_empty(), "{} violations, printed above", findings.violations.len());
    let starved = record.starved.iter().any(|(from, until)| until - from > 300_000);
    assert!(changes == 0 || starved, "{changes} roles changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_replicas_changes_no_role() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = calm_world(11).await;
    let before = world.count_transitions().await;
    injector::roll(&world).await;
    settle(&world).await;
    assert_no_change(&world, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_changes_no_role() {
    let _alone = ONE_AT_A_TIME.lock().await;
    away_for(Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 40 s; the same with 4 s is part of every run"]
async fn a_database_that_is_away_for_30_s_changes_no_role() {
    let _alone = ONE_AT_A_TIME.lock().await;
    away_for(Duration::from_secs(30)).await;
}

async fn away_for(time: Duration) {
    let world = calm_world(12).await;
    let before = world.count_transitions().await;
    {
        let mut database = world.database.lock().await;
        database.end_with(nix::sys::signal::Signal::SIGINT).await;
        tokio::time::sleep(time).await;
        database.start_again().await;
    }
    settle(&world).await;
    assert_no_change(&world, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn one_answer_lost_in_a_hundred_changes_no_role() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = calm_world(13).await;
    let before = world.count_transitions().await;
    for lines in &world.lines {
        lines.to_clients.lose_answers(10);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_no_change(&world, before).await;
}
