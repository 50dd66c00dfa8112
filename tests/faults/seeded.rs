//! Defects that are put into the service on purpose, each under the faults that bring it out.

/// A binary without the feature runs as it should, whatever the variable says.
#[cfg(not(feature = "seeded-bugs"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_binary_has_no_seeded_bugs() {
    use super::cluster::{Replica, ReplicaSettings};
    use super::database::Database;

    let dir = crate::support::helpers::scratch_dir("no-bugs");
    crate::support::helpers::remove_after_the_run(&dir);
    let database = Database::start(&dir.join("database"), false).await;
    // A binary that heeded the variable would refuse this name.
    let settings = ReplicaSettings { seeded_bug: Some("no-such-bug".to_owned()), ..ReplicaSettings::default() };
    let (replica, _lines) = Replica::start(0, &dir, &database, &settings).await;
    replica.ready().await;
}

#[cfg(feature = "seeded-bugs")]
mod with_the_feature {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use client_failover::seeded_bugs::SeededBug;

    use super::super::checker::{self, Findings, Kind, Tolerance};
    use super::super::cluster::ReplicaSettings;
    use super::super::injector::{self, Plan};
    use super::super::record::FaultKind::{self, *};
    use super::super::runs::{ONE_AT_A_TIME, settle};
    use super::super::world::{Scale, World};
    use crate::support::helpers::remove_after_the_run;

    /// How often a defect is looked for, and for how long each time.
    const ROUNDS: u64 = 8;
    const ROUND: Duration = Duration::from_secs(12);

    /// The circumstances that bring a defect out.
    struct Scenario {
        kinds: &'static [(FaultKind, u32)],
        every_ms: u64,
        groups: usize,
        sessions: std::ops::RangeInclusive<usize>,
        timeouts_ms: &'static [u64],
        /// How slow the way to the database is: transactions that take longer meet more often.
        slow_ms: u64,
        with_standby: bool,
        lasts: Duration,
        arguments: &'static [&'static str],
    }

    impl Scenario {
        /// Many replicas' transactions on the same few groups.
        const CONTENTION: Scenario = Scenario {
            kinds: &[(ClientHealthChanged, 6), (ClientSaidGoodbye, 2), (ClientPaused, 2), (TimeoutChanged, 1)],
            every_ms: 120,
            groups: 3,
            sessions: 4..=4,
            timeouts_ms: &[500, 700],
            slow_ms: 30,
            with_standby: false,
            lasts: ROUND,
            arguments: &["--heartbeat-writers", "2"],
        };

        fn of(bug: SeededBug) -> Scenario {
            let usual = Scenario {
                kinds: &[],
                every_ms: 250,
                groups: 5,
                sessions: 2..=3,
                timeouts_ms: &[500, 1_000],
                slow_ms: 0,
                with_standby: false,
                lasts: ROUND,
                arguments: &[],
            };
            match bug {
                SeededBug::ReadCommitted
                | SeededBug::AnsweredBeforeCommit
                | SeededBug::CommitConflictIgnored
                | SeededBug::NowReusedOnRetry => Scenario::CONTENTION,
                SeededBug::CommitNotDurable => Scenario { kinds: &[(DatabaseKilled, 1)], every_ms: 2_500, ..usual },
                SeededBug::LostCommitTakenForDone => Scenario {
                    kinds: &[(DatabaseConnectionsCut, 3), (BackendsTerminated, 2), (ClientHealthChanged, 2)],
                    every_ms: 100,
                    slow_ms: 30,
                    ..usual
                },
                SeededBug::LeaseByClientsClock => Scenario { kinds: &[(ClientClockStepped, 1)], ..usual },
                SeededBug::LeaseRecomputed => Scenario {
                    kinds: &[(TimeoutChanged, 3), (ClientPaused, 1)],
                    every_ms: 150,
                    timeouts_ms: &[500, 2_000],
                    ..usual
                },
                SeededBug::WatermarkFromSecondary | SeededBug::TermNotStored | SeededBug::RoleWithoutRow => {
                    Scenario { kinds: &[(ClientKilled, 1), (ClientHealthChanged, 1)], ..usual }
                }
                SeededBug::HandoverForgotten => Scenario { kinds: &[(ClientHealthChanged, 1)], every_ms: 150, ..usual },
                // An old message must arrive while its sender's handover is open. Many handovers
                // bring that about, and not many old messages: where most requests are late,
                // sessions lapse and none of them yields.
                SeededBug::OldAcknowledgementBelieved => Scenario {
                    kinds: &[(ClientHealthChanged, 8), (RequestsDelivedLate, 1)],
                    every_ms: 25,
                    groups: 6,
                    sessions: 2..=2,
                    ..usual
                },
                SeededBug::OutageForgotten => Scenario { kinds: &[(DatabaseKilled, 1)], every_ms: 5_000, ..usual },
                SeededBug::TermBeginsAgain => Scenario { kinds: &[(GroupRecreated, 1)], every_ms: 1_000, ..usual },
                SeededBug::DeletionTakenForGoodbye => {
                    Scenario { kinds: &[(SessionDeleted, 1)], every_ms: 150, ..usual }
                }
                SeededBug::SignOfLifeNotDurable => Scenario { kinds: &[(CommitsHang, 1)], every_ms: 4_000, ..usual },
                SeededBug::CancelledWaitTakenForDone => {
                    Scenario { kinds: &[(StandbyPromoted, 1)], every_ms: 4_000, with_standby: true, ..usual }
                }
                // Another must have been granted in what is lost, on a lease that outlasts the
                // promotion.
                SeededBug::GrantBeforeWait => Scenario {
                    kinds: &[(StandbyPromotedWithLoss, 4), (ClientPaused, 6), (ClientKilled, 2)],
                    every_ms: 250,
                    groups: 10,
                    sessions: 2..=2,
                    timeouts_ms: &[2_000, 3_000],
                    with_standby: true,
                    lasts: 2 * ROUND,
                    ..usual
                },
                // The old Primary must have renewed, or another been granted, in what is lost.
                SeededBug::TermsNotLifted => Scenario {
                    kinds: &[(StandbyPromotedWithLoss, 3), (ClientHealthChanged, 8), (ClientKilled, 2)],
                    every_ms: 400,
                    with_standby: true,
                    ..usual
                },
                // It breaks no promise, and is none of those that are looked for here.
                SeededBug::BatchesUnfair => usual,
                SeededBug::LapsedRoleShown => Scenario {
                    kinds: &[(ClientKilled, 1)],
                    sessions: 1..=2,
                    arguments: &["--sweep-interval", "30s", "--prompt-lapses", "false"],
                    ..usual
                },
            }
        }

        async fn run(&self, seed: u64, seeded_bug: Option<&str>) -> Findings {
            let arguments = self.arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let world = World::start(Scale {
                seed,
                replicas: 3,
                groups: self.groups,
                sessions: self.sessions.clone(),
                timeouts_ms: self.timeouts_ms,
                with_standby: self.with_standby,
                replica_settings: ReplicaSettings { arguments, seeded_bug: seeded_bug.map(str::to_owned) },
            })
            .await;
            for lines in &world.lines {
                lines.slow_the_database_down(Duration::from_millis(self.slow_ms));
            }
            let every = Duration::from_millis(self.every_ms);
            injector::inject(&world, &Plan { kinds: self.kinds, every, lasts: self.lasts }).await;
            settle(&world).await;
            let record = world.end().await;
            remove_after_the_run(world.dir());
            checker::check(&record, Tolerance::default())
        }
    }

    fn only() -> Option<String> {
        std::env::var("CLIENT_FAILOVER_FAULTS_ONLY").ok()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes some minutes; CLIENT_FAILOVER_FAULTS_ONLY names one defect to look for"]
    async fn each_is_found() {
        let _alone = ONE_AT_A_TIME.lock().await;
        let mut table = String::new();
        let mut missed = Vec::new();
        for (name, bug) in SeededBug::ALL {
            if only().is_some_and(|only| only != name) {
                continue;
            }
            let began = Instant::now();
            let mut line = format!("| {name} | nothing | not in {} s |\n", ROUNDS * ROUND.as_secs());
            let mut found = false;
            for round in 1..=ROUNDS {
                let findings = Scenario::of(bug).run(round, Some(name)).await;
                if let Some(first) = findings.violations.first() {
                    println!("{name}: {} violations, the first: {first}", findings.violations.len());
                    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
                    for violation in &findings.violations {
                        *kinds.entry(violation.kind).or_default() += 1;
                    }
                    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
                    line =
                        format!("| {name} | {} | run {round}, {} s |\n", kinds.join(", "), began.elapsed().as_secs());
                    found = true;
                    break;
                }
            }
            if !found {
                missed.push(name);
            }
            print!("{line}");
            table += &line;
        }
        println!("\n| defect | found by | after |\n|---|---|---|\n{table}");
        assert!(missed.is_empty(), "not found: {missed:?}");
    }

    /// What finds the defects must be the defects, and not the circumstances.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes some minutes; CLIENT_FAILOVER_FAULTS_ONLY names one defect whose circumstances to look at"]
    async fn none_is_found_where_none_is() {
        let _alone = ONE_AT_A_TIME.lock().await;
        for (name, bug) in SeededBug::ALL {
            if only().is_some_and(|only| only != name) {
                continue;
            }
            let findings = Scenario::of(bug).run(1, None).await;
            println!("{name}: {} of {} heartbeats answered", findings.answered, findings.heartbeats);
            let violations: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "without the defect {name}: {violations:#?}");
        }
    }
}
