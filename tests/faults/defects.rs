//! Defects that are put into the service on purpose, each under the faults that bring it out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::checker::{self, Findings, Kind, Tolerance};
use super::cluster::ReplicaSettings;
use super::injector::{self, Plan};
use super::record::FaultKind::{self, *};
use super::runs::{ONE_AT_A_TIME, settle};
use super::world::{Scale, World};
use crate::support::defects::Defect;
use crate::support::helpers::remove_after_the_run;

/// How often a defect is looked for, and for how long each time.
const ROUNDS: u64 = 8;
const ROUND: Duration = Duration::from_secs(12);

/// How a patch says what kinds of breaches give its defect away.
const FOUND_BY: &str = "Found by the faults: ";

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

const USUAL: Scenario = Scenario {
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

/// Many replicas' transactions on the same few groups.
const CONTENTION: Scenario = Scenario {
    kinds: &[(ClientHealthChanged, 6), (ClientSaidGoodbye, 2), (ClientPaused, 2), (TimeoutChanged, 1)],
    every_ms: 120,
    groups: 3,
    sessions: 4..=4,
    timeouts_ms: &[500, 700],
    slow_ms: 30,
    arguments: &["--heartbeat-writers", "2"],
    ..USUAL
};

/// Clients come and go, and roles with them.
const CHANGES: Scenario = Scenario { kinds: &[(ClientKilled, 1), (ClientHealthChanged, 1)], ..USUAL };

/// The defects that break a promise, each a patch of that name.
const SCENARIOS: [(&str, Scenario); 24] = [
    ("read-committed", CONTENTION),
    ("answered-before-commit", CONTENTION),
    ("commit-conflict-ignored", CONTENTION),
    ("now-reused-on-retry", CONTENTION),
    ("commit-not-durable", Scenario { kinds: &[(DatabaseKilled, 1)], every_ms: 2_500, ..USUAL }),
    (
        "lost-commit-taken-for-done",
        Scenario {
            kinds: &[(DatabaseConnectionsCut, 3), (BackendsTerminated, 2), (ClientHealthChanged, 2)],
            every_ms: 100,
            slow_ms: 30,
            ..USUAL
        },
    ),
    ("lease-by-clients-clock", Scenario { kinds: &[(ClientClockStepped, 1)], ..USUAL }),
    (
        "lease-recomputed",
        Scenario {
            kinds: &[(TimeoutChanged, 3), (ClientPaused, 1)],
            every_ms: 150,
            timeouts_ms: &[500, 2_000],
            ..USUAL
        },
    ),
    ("watermark-from-secondary", CHANGES),
    ("term-not-stored", CHANGES),
    ("role-without-row", CHANGES),
    // Rows must lie where those of other groups lay before.
    (
        "place-without-key",
        Scenario { kinds: &[(TablesRewritten, 1), (ClientKilled, 1), (GroupRecreated, 1)], every_ms: 400, ..USUAL },
    ),
    // Roles must change through one replica while another hears from the same sessions.
    (
        "stale-cache-believed",
        Scenario {
            kinds: &[(ClientPaused, 2), (ClientHealthChanged, 2), (ClientKilled, 1), (ClientConnectionsCut, 2)],
            every_ms: 120,
            sessions: 2..=2,
            ..USUAL
        },
    ),
    ("handover-forgotten", Scenario { kinds: &[(ClientHealthChanged, 1)], every_ms: 150, ..USUAL }),
    // An old message must arrive while its sender's handover is open. Many handovers bring that
    // about, and not many old messages: where most requests are late, sessions lapse and none of
    // them yields.
    (
        "old-acknowledgement-believed",
        Scenario {
            kinds: &[(ClientHealthChanged, 8), (RequestsDelivedLate, 1)],
            every_ms: 25,
            groups: 6,
            sessions: 2..=2,
            ..USUAL
        },
    ),
    // Many groups: where one session is wished something again and again, nothing is certain.
    ("wish-forgotten", Scenario { kinds: &[(Wished, 1), (ClientHealthChanged, 1)], every_ms: 50, groups: 12, ..USUAL }),
    ("outage-forgotten", Scenario { kinds: &[(DatabaseKilled, 1)], every_ms: 5_000, ..USUAL }),
    ("term-begins-again", Scenario { kinds: &[(GroupRecreated, 1)], every_ms: 1_000, ..USUAL }),
    ("deletion-taken-for-goodbye", Scenario { kinds: &[(SessionDeleted, 1)], every_ms: 150, ..USUAL }),
    ("sign-of-life-not-durable", Scenario { kinds: &[(CommitsHang, 1)], every_ms: 4_000, ..USUAL }),
    (
        "cancelled-wait-taken-for-done",
        Scenario { kinds: &[(StandbyPromoted, 1)], every_ms: 4_000, with_standby: true, ..USUAL },
    ),
    // Another must have been granted in what is lost, on a lease that outlasts the promotion.
    (
        "grant-before-wait",
        Scenario {
            kinds: &[(StandbyPromotedWithLoss, 4), (ClientPaused, 6), (ClientKilled, 2)],
            groups: 10,
            sessions: 2..=2,
            timeouts_ms: &[2_000, 3_000],
            with_standby: true,
            lasts: Duration::from_secs(2 * ROUND.as_secs()),
            ..USUAL
        },
    ),
    // The old Primary must have renewed, or another been granted, in what is lost.
    (
        "terms-not-lifted",
        Scenario {
            kinds: &[(StandbyPromotedWithLoss, 3), (ClientHealthChanged, 8), (ClientKilled, 2)],
            every_ms: 400,
            with_standby: true,
            ..USUAL
        },
    ),
    (
        "lapsed-role-shown",
        Scenario {
            kinds: &[(ClientKilled, 1)],
            sessions: 1..=2,
            arguments: &["--sweep-interval", "30s", "--prompt-lapses", "false"],
            ..USUAL
        },
    ),
];

impl Scenario {
    /// Those that are asked for: all, unless `CLIENT_FAILOVER_FAULTS_ONLY` names one.
    fn chosen() -> Vec<&'static (&'static str, Scenario)> {
        let only = std::env::var("CLIENT_FAILOVER_FAULTS_ONLY").ok();
        let is_chosen = |name: &str| only.as_ref().is_none_or(|only| only == name);
        let chosen: Vec<_> = SCENARIOS.iter().filter(|(name, _)| is_chosen(name)).collect();
        assert!(!chosen.is_empty(), "CLIENT_FAILOVER_FAULTS_ONLY names none of them: {only:?}");
        chosen
    }

    /// A world of its circumstances. `program` is the service; `None` is the one under test.
    async fn run(&self, seed: u64, program: Option<PathBuf>) -> Findings {
        let arguments = self.arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let world = World::start(Scale {
            seed,
            replicas: 3,
            groups: self.groups,
            adapter_groups: 0,
            member_groups: 0,
            adapters_lose_requests: false,
            sessions: self.sessions.clone(),
            timeouts_ms: self.timeouts_ms,
            with_standby: self.with_standby,
            replica_settings: ReplicaSettings { arguments, program },
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

/// The kinds of breaches that give a defect away; `None` where it breaks no promise, and its patch
/// says where it is measured.
fn kinds_of(description: &str) -> Option<BTreeSet<&str>> {
    let (_, kinds) = description.split_once(FOUND_BY)?;
    Some(kinds.trim_end_matches('.').split(',').map(str::trim).collect())
}

#[test]
fn each_defect_applies_to_the_source_as_it_is_and_says_what_finds_it() {
    let scenarios: BTreeSet<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    let mut found_by_faults = BTreeSet::new();
    let defects = Defect::all();
    for defect in &defects {
        let name = defect.name.as_str();
        if let Some(mismatch) = defect.mismatch() {
            panic!("{name} has to follow what it changes; tests/faults/defects/README.md says how:\n{mismatch}");
        }
        let description = defect.description();
        let (sentence, _) = description.split_once("\n\n").expect("a sentence, and what finds it");
        assert!(sentence.ends_with('.'), "{name} begins with a sentence: {sentence}");
        match kinds_of(&description) {
            Some(kinds) => {
                assert!(kinds.iter().all(|kind| known.contains(*kind)), "{name}: {kinds:?} of {known:?}");
                found_by_faults.insert(name);
            }
            None => assert!(description.contains("\n\nMeasured by "), "{name}: {description}"),
        }
    }
    assert_eq!(found_by_faults, scenarios, "each has a patch, and circumstances that bring it out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds the service once for each and takes half an hour; CLIENT_FAILOVER_FAULTS_ONLY names one defect to look for"]
async fn each_is_found() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut table = String::new();
    let mut missed = Vec::new();
    for (name, scenario) in Scenario::chosen() {
        let defect = Defect::named(name);
        let description = defect.description();
        let expected = kinds_of(&description).expect("the faults find it");
        let program = defect.build();
        let began = Instant::now();
        let (mut by, mut run, mut found) = ("nothing".to_owned(), ROUNDS, false);
        for round in 1..=ROUNDS {
            let findings = scenario.run(round, Some(program.clone())).await;
            let Some(first) = findings.violations.first() else { continue };
            println!("{name}: {} violations, the first: {first}", findings.violations.len());
            let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
            for violation in &findings.violations {
                *kinds.entry(format!("{:?}", violation.kind)).or_default() += 1;
            }
            found = kinds.keys().any(|kind| expected.contains(kind.as_str()));
            let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            (by, run) = (kinds.join(", "), round);
            if found {
                break;
            }
        }
        let line = format!("| {name} | {by} | run {run}, {} s |\n", began.elapsed().as_secs());
        if !found {
            missed.push(name);
        }
        print!("{line}");
        table += &line;
    }
    println!("\n| defect | found by | after |\n|---|---|---|\n{table}");
    assert!(missed.is_empty(), "not found by what has to find them: {missed:?}");
}

/// What finds the defects must be the defects, and not the circumstances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes; CLIENT_FAILOVER_FAULTS_ONLY names one defect whose circumstances to look at"]
async fn none_is_found_where_none_is() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for (name, scenario) in Scenario::chosen() {
        let findings = scenario.run(1, None).await;
        println!("{name}: {} of {} heartbeats answered", findings.answered, findings.heartbeats);
        let violations: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "without the defect {name}: {violations:#?}");
    }
}
