//! The protocol between clients, replicas and the database, in a model checker, around the real
//! decisions.
//!
//! What is checked is every interleaving within stated bounds, not a sample: heartbeats and answers
//! that are lost, late, reordered and repeated; clients that fall silent, come back, restart under
//! a new session, or say goodbye; an operator who deletes a session that does not know of it, or
//! the whole group by force to create it again, or who wishes somebody to be Primary or not to be;
//! two replicas whose transactions overlap; sweeps, changes of the timeout, outages of the service,
//! a database that loses its last commits. The
//! decisions are [`client_failover::arbitration`]'s own; the model adds what surrounds them.
//!
//! What the model assumes:
//! - Time is discrete. A tick is 100 ms, the shortest timeout there is, and nothing else about it
//!   matters.
//! - A message that is never delivered is a lost one, so there is no action for losing it. A client
//!   that sends nothing for a while is a paused or crashed one, so there is none for that either.
//! - A transaction reads the group and the clock, and commits later. It commits only if the group
//!   is still as it was read; otherwise it reads both anew. That is what serializable isolation
//!   amounts to for one group.
//! - A client acts as Primary from hearing so until the lease in the answer has passed since it
//!   *sent* that heartbeat. It does not heed an answer to an older heartbeat than the newest that
//!   was answered. One that says in which role it acts does not heed an answer to a heartbeat older
//!   than its latest "as Secondary" either: it would otherwise take back what it said.
//! - A client that says goodbye has stopped before, and never uses that session again.
//! - A client that is answered that there is no such session stops, and may register again under
//!   the same id. So the operator's deletions are of sessions that come back; other restarts are
//!   under a new id.
//! - The database may lose its last commits: an older state is put back and found in another
//!   history, whose base is above every term so far. What was not committed by then never is. A
//!   heartbeat that says that its client acts, and was sent before that, is answered with an error
//!   that changes nothing.
//! - Every client's clock is off by something else, some are ahead of the database's, and one may
//!   be far ahead in one heartbeat.
//!
//! That somebody takes over is not stated as an `eventually` property: this checker overlooks those
//! on paths that end in a cycle or in a state that another path reached first. It is an `always`
//! property instead: from *every* state reached, whoever may survive, the survivors' heartbeats are
//! played on, and one of them must be Primary in time and stay it. Nothing after the failure is
//! left to chance there, as the promise presumes heartbeats that arrive.
//!
//! A checker that finds nothing may be looking at nothing. So every rule is also broken on purpose,
//! in [`Defect`], and each breach must be found.

mod checks;
mod steps;
mod world;

use std::collections::HashMap;

use client_failover::arbitration::{HandoverMode, WhenSilent, Wish};
use stateright::{Checker, HasDiscoveries, Model, Path, UniformChooser};

use crate::world::*;

/// One line per step, and the names of the properties that fail.
fn tell(name: &str, path: Path<State, Action>) -> String {
    let steps: Vec<String> = path.into_actions().iter().map(|action| format!("  {action:?}")).collect();
    format!("{name}:\n{}", steps.join("\n"))
}

/// More states than any of the bounds below has; a check that meets it has not been exhaustive.
const TOO_MANY_STATES: usize = 400_000_000;

/// Goes through every state within the bounds; fails with the way to a breach.
fn holds(what: &str, protocol: Protocol) {
    let began = std::time::Instant::now();
    // Depth first: breadth first keeps a whole generation of states in memory, which are most of
    // them.
    let checker = protocol
        .clone()
        .checker()
        .threads(2)
        .target_state_count(TOO_MANY_STATES)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    println!(
        "{what}: {} unique states in {:.1} s, all there are within {protocol:?}",
        checker.unique_state_count(),
        began.elapsed().as_secs_f32(),
    );
    fail_on_breaches(what, checker.discoveries());
    assert!(checker.state_count() < TOO_MANY_STATES, "{what}: the bounds are too wide to be gone through");
}

/// Follows random ways through far wider bounds than can be gone through whole.
fn holds_on_random_ways(what: &str, protocol: Protocol, states: usize, seed: u64) {
    let began = std::time::Instant::now();
    let checker = protocol
        .clone()
        .checker()
        .target_state_count(states)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_simulation(seed, UniformChooser)
        .join();
    println!(
        "{what}: {} states on random ways from seed {seed} in {:.1} s, within {protocol:?}",
        checker.state_count(),
        began.elapsed().as_secs_f32(),
    );
    fail_on_breaches(what, checker.discoveries());
}

fn fail_on_breaches(what: &str, breaches: HashMap<&'static str, Path<State, Action>>) {
    let told: Vec<String> = breaches.into_iter().map(|(property, path)| tell(property, path)).collect();
    assert!(told.is_empty(), "{what}\n{}", told.join("\n"));
}

/// A breach of that property must be found.
fn finds(property: &'static str, protocol: Protocol) {
    let began = std::time::Instant::now();
    let checker = protocol
        .clone()
        .checker()
        .threads(2)
        .target_state_count(TOO_MANY_STATES)
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let what = protocol.defect.map_or_else(|| format!("{:?}", protocol.handover), |defect| format!("{defect:?}"));
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{what} goes unnoticed by \"{property}\""));
    println!(
        "{what}: found after {} unique states in {:.1} s\n{}",
        checker.unique_state_count(),
        began.elapsed().as_secs_f32(),
        tell(property, path)
    );
}

#[test]
fn a_handover_between_clients_that_do_not_tell_their_role() {
    holds(
        "silent handover",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[90], 2)],
            last_tick: 2,
            repeats: 1,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_handover_that_is_acknowledged() {
    holds(
        "telling handover",
        Protocol {
            clients: vec![client(Telling, &[50], 3), client(Silent, &[90], 2)],
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn health_that_goes_up_and_down() {
    holds(
        "health",
        Protocol {
            clients: vec![client(Telling, &[40, 60], 2), client(Silent, &[50], 2)],
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn transactions_of_two_replicas_that_overlap() {
    holds(
        "overlap",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Telling, &[60], 1)],
            transactions_overlap: true,
            last_tick: 3,
            sweeps: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn changes_of_the_timeout_around_an_outage() {
    holds(
        "timeouts",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[50], 1)],
            timeouts: &[3, 2],
            timeout_changes: 1,
            outages: 1,
            last_tick: 4,
            ..Protocol::default()
        },
    );
}

#[test]
fn outages_and_whoever_survives_them() {
    holds(
        "outages",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[60], 1)],
            outages: 1,
            last_tick: 3,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_database_that_loses_its_last_commits() {
    holds(
        "lost commits",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Telling, &[60], 2)],
            losses: 1,
            lost_commits: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
}

#[test]
fn a_database_that_loses_its_last_commits_where_somebody_does_not_tell_its_role() {
    holds(
        "lost commits, silent",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 1)],
            losses: 1,
            last_tick: 3,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_and_a_database_that_loses_its_last_commits() {
    holds(
        "lost commits and deletions",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 1)],
            losses: 1,
            deletions: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn goodbyes_and_restarts() {
    holds(
        "goodbyes",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[60], 1)],
            goodbyes: 1,
            restarts: 1,
            reports_data: true,
            sweeps: true,
            last_tick: 3,

            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_by_an_operator() {
    holds(
        "deletions",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 2)],
            deletions: 1,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn deletions_where_handovers_are_prompt() {
    holds(
        "deletions, prompt",
        Protocol {
            // Equals: nobody yields, which is what the prompt mode does not wait for.
            clients: vec![client(Telling, &[50], 2), client(Silent, &[50], 2)],
            deletions: 2,
            last_tick: 2,
            handover: HandoverMode::Prompt,
            ..Protocol::default()
        },
    );
}

#[test]
fn groups_that_are_deleted_and_created_again() {
    holds(
        "recreations",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 2)],
            deletions: 1,
            recreations: 1,
            reports_data: true,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

const ALL_WISHES: &[Wish] = &[
    Wish::Forced(WhenSilent::Replace),
    Wish::Forced(WhenSilent::Hold),
    Wish::Excluded,
    Wish::SwitchTo,
    Wish::SwitchAway,
];

#[test]
fn wishes_of_an_operator() {
    holds(
        "wishes",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[60], 2)],
            wishes: 1,
            kinds_of_wishes: ALL_WISHES,
            withdrawals: 1,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn wishes_that_end_and_sweeps() {
    holds(
        "wishes that end",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Silent, &[50], 1)],
            wishes: 1,
            kinds_of_wishes: &[Wish::Forced(WhenSilent::Hold), Wish::Excluded, Wish::SwitchTo],
            wishes_last: 1,
            sweeps: true,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn wishes_and_transactions_that_overlap() {
    holds(
        "wishes, overlap",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Telling, &[60], 1)],
            wishes: 1,
            kinds_of_wishes: ALL_WISHES,
            transactions_overlap: true,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn wishes_deletions_and_a_database_that_loses_its_last_commits() {
    holds(
        "wishes, lost commits",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[50], 1)],
            wishes: 1,
            kinds_of_wishes: &[Wish::Forced(WhenSilent::Replace)],
            deletions: 1,
            losses: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn clocks_of_clients_that_are_ahead() {
    holds(
        "clocks ahead",
        Protocol {
            clients: vec![client(Silent, &[90], 1), client(Telling, &[50], 3)],
            clocks_ahead: 1,
            repeats: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
}

#[test]
fn clocks_of_clients_that_were_wrong_once() {
    holds(
        "wrong dates",
        Protocol {
            clients: vec![client(Silent, &[90], 1), client(Telling, &[50], 3)],
            wrong_dates: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
}

#[test]
fn three_clients() {
    holds(
        "three clients",
        Protocol {
            clients: vec![client(Silent, &[50], 2), client(Telling, &[60], 1), client(Silent, &[60], 1)],
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
}

#[test]
fn random_ways_of_four_clients_with_everything_at_once() {
    holds_on_random_ways("random ways", Protocol { checks_takeover: false, ..everything(8) }, 50_000, 1);
}

#[test]
fn every_broken_rule_is_noticed() {
    let silent = |healths| client(Silent, healths, 2);
    let equals = Protocol { clients: vec![silent(&[50]), silent(&[50])], ..Protocol::default() };
    let handover = Protocol { clients: vec![silent(&[50]), silent(&[90])], ..Protocol::default() };
    let telling =
        Protocol { clients: vec![client(Telling, &[50], 3), silent(&[90])], last_tick: 1, ..Protocol::default() };
    let with = |defect, protocol: &Protocol| Protocol { defect: Some(defect), ..protocol.clone() };

    finds(ONE_GRANTED, with(Defect::HandoverNotOpened, &handover));
    finds(ONE_ACTING, with(Defect::HandoverNotOpened, &handover));
    finds(ONE_ACTING, Protocol { handover: HandoverMode::Prompt, ..handover.clone() });
    let repeated = Protocol { clients: vec![client(Telling, &[50], 2), silent(&[90])], repeats: 1, ..telling.clone() };
    finds(ONE_ACTING, with(Defect::OldAcknowledgementBelieved, &repeated));
    finds(ONE_ACTING, with(Defect::AcknowledgementTakenBack, &telling));
    finds(ONE_ACTING, with(Defect::LeaseFromAReplicasClock, &equals));
    finds(ONE_ACTING, with(Defect::TrustCountedFromReceipt, &equals));
    finds(TERM_NAMES_ONE, with(Defect::TermNotRaised, &equals));
    finds(TAKEN_OVER, Protocol { checks_takeover: true, ..with(Defect::DeadPrimaryNeverLapses, &equals) });
    finds(NO_NEEDLESS_CHANGE, Protocol { outages: 1, ..with(Defect::OutageForgotten, &equals) });

    let overlap = Protocol { transactions_overlap: true, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::ConflictNotDetected, &overlap));
    finds(ONE_GRANTED, with(Defect::ConflictNotDetected, &overlap));
    let retried = Protocol { clients: vec![silent(&[50]), client(Silent, &[50], 1)], ..overlap };
    finds(NO_NEEDLESS_CHANGE, with(Defect::NowReusedOnRetry, &retried));

    let changing = Protocol { timeouts: &[3, 2], timeout_changes: 1, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::LeaseRecomputedOnChange, &changing));

    let leaving = Protocol { reports_data: true, goodbyes: 1, ..equals.clone() };
    finds(WATERMARK_STAYS, with(Defect::WatermarkForgottenOnDeletion, &leaving));

    let deleting = Protocol { deletions: 1, ..equals.clone() };
    finds(ONE_ACTING, with(Defect::DeletionTakenForGoodbye, &deleting));
    let returning = Protocol {
        clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 2)],
        deletions: 1,
        ..Protocol::default()
    };
    finds(ONE_ACTING, with(Defect::GoneOneAcknowledges, &returning));
    let recreating = Protocol { recreations: 1, ..equals };
    finds(TERM_NAMES_ONE, with(Defect::TermBeginsAgain, &recreating));
    finds(ONE_ACTING, with(Defect::NewGroupWaitsForNobody, &recreating));

    let losing = Protocol { losses: 1, lost_commits: 1, ..Protocol::default() };
    finds(TERM_NAMES_ONE, with(Defect::TermsNotLifted, &losing));
    finds(ONE_ACTING, with(Defect::DoubtIgnored, &losing));
    let claiming =
        Protocol { clients: vec![client(Telling, &[50], 2), client(Telling, &[50], 1)], last_tick: 2, ..losing };
    finds(ONE_ACTING, with(Defect::OldClaimBelieved, &claiming));

    let wishing = |kind: &'static [Wish]| Protocol {
        clients: vec![silent(&[50]), client(Silent, &[50], 3)],
        wishes: 1,
        kinds_of_wishes: kind,
        ..Protocol::default()
    };
    let forced = wishing(&[Wish::Forced(WhenSilent::Replace)]);
    finds(ONE_ACTING, with(Defect::ForcedOneDoesNotWait, &forced));
    finds(ONE_GRANTED, with(Defect::ForcedOneDoesNotWait, &forced));
    finds(WISHES_HEEDED, with(Defect::ExclusionForgotten, &wishing(&[Wish::Excluded])));
    let held = wishing(&[Wish::Forced(WhenSilent::Hold)]);
    finds(WISHES_HEEDED, with(Defect::HeldPlaceGivenAway, &held));
    let ending = Protocol { wishes_last: 1, checks_takeover: true, ..held };
    finds(TAKEN_OVER, with(Defect::WishOutlivesItsEnd, &ending));

    let ahead = Protocol {
        clients: vec![silent(&[90]), client(Telling, &[50], 4)],
        clocks_ahead: 2,
        last_tick: 3,
        ..Protocol::default()
    };
    finds(ONE_ACTING, with(Defect::ClocksBoundedOnly, &ahead));
}

#[test]
fn acknowledgements_late_and_repeated() {
    holds(
        "late acknowledgements",
        Protocol {
            clients: vec![client(Telling, &[50], 2), client(Silent, &[90], 2)],
            last_tick: 1,
            repeats: 2,
            ..Protocol::default()
        },
    );
}

fn everything(heartbeats: u8) -> Protocol {
    Protocol {
        clients: vec![
            client(Telling, &[40, 60], heartbeats),
            client(Silent, &[50], heartbeats),
            client(Telling, &[50], heartbeats),
            client(Silent, &[40, 60], heartbeats),
        ],
        timeouts: &[2, 3],
        timeout_changes: 2,
        outages: 2,
        losses: 2,
        lost_commits: 4,
        repeats: 4,
        restarts: 2,
        goodbyes: 1,
        deletions: 2,
        recreations: 1,
        wishes: 4,
        kinds_of_wishes: ALL_WISHES,
        wishes_last: 3,
        withdrawals: 2,
        clocks_ahead: 1,
        last_tick: 24,
        transactions_overlap: true,
        sweeps: true,
        reports_data: true,
        checks_takeover: true,
        ..Protocol::default()
    }
}

/// Minutes, not seconds: `cargo test --release --test model -- --ignored --nocapture --test-threads
/// 1`
#[test]
#[ignore = "takes minutes"]
fn wider_bounds() {
    let silent = |healths, heartbeats| client(Silent, healths, heartbeats);
    let telling = |healths, heartbeats| client(Telling, healths, heartbeats);
    holds(
        "silent handover, wider",
        Protocol { clients: vec![silent(&[50], 2), silent(&[90], 2)], last_tick: 4, repeats: 1, ..Protocol::default() },
    );
    holds(
        "telling handover, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[90], 2)],
            last_tick: 2,
            repeats: 1,
            ..Protocol::default()
        },
    );
    holds(
        "two telling clients, wider",
        Protocol {
            clients: vec![telling(&[40, 60], 2), telling(&[50], 2)],
            last_tick: 3,
            repeats: 1,
            ..Protocol::default()
        },
    );
    holds(
        "overlap, wider",
        Protocol {
            clients: vec![silent(&[50], 2), telling(&[60], 2)],
            transactions_overlap: true,
            last_tick: 2,
            sweeps: true,
            ..Protocol::default()
        },
    );
    holds(
        "wishes, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[60], 2)],
            wishes: 1,
            kinds_of_wishes: ALL_WISHES,
            withdrawals: 1,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "wishes that end, wider",
        Protocol {
            clients: vec![silent(&[50], 2), silent(&[50], 2)],
            wishes: 1,
            kinds_of_wishes: &[Wish::Forced(WhenSilent::Hold), Wish::Excluded, Wish::SwitchTo],
            wishes_last: 1,
            sweeps: true,
            last_tick: 3,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "wishes, lost commits, wider",
        Protocol {
            clients: vec![telling(&[50], 2), silent(&[50], 1)],
            wishes: 1,
            kinds_of_wishes: &[Wish::Forced(WhenSilent::Replace), Wish::Excluded],
            deletions: 1,
            losses: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
    holds(
        "timeouts, wider",
        Protocol {
            clients: vec![silent(&[50], 2), silent(&[60], 1)],
            timeouts: &[2, 3],
            timeout_changes: 2,
            outages: 1,
            last_tick: 5,
            ..Protocol::default()
        },
    );
    holds(
        "outages, wider",
        Protocol {
            clients: vec![silent(&[50], 2), silent(&[60], 1)],
            outages: 2,
            last_tick: 5,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "deletions, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[60], 2)],
            deletions: 2,
            last_tick: 2,
            checks_takeover: true,
            ..Protocol::default()
        },
    );
    holds(
        "recreations, wider",
        Protocol {
            clients: vec![telling(&[50], 3), silent(&[60], 2)],
            deletions: 1,
            recreations: 2,
            reports_data: true,
            last_tick: 2,
            ..Protocol::default()
        },
    );
    holds(
        "lost commits, wider",
        Protocol {
            clients: vec![telling(&[50], 2), telling(&[60], 2)],
            losses: 1,
            last_tick: 3,
            ..Protocol::default()
        },
    );
    holds(
        "clocks ahead, wider",
        Protocol {
            clients: vec![silent(&[90], 2), telling(&[50], 3)],
            clocks_ahead: 1,
            repeats: 1,
            last_tick: 2,
            ..Protocol::default()
        },
    );
    holds(
        "clocks ahead and timeouts, wider",
        Protocol {
            clients: vec![silent(&[90], 1), telling(&[50], 4)],
            timeouts: &[2, 3],
            timeout_changes: 1,
            clocks_ahead: 2,
            last_tick: 3,
            ..Protocol::default()
        },
    );
    for seed in 1..=8 {
        holds_on_random_ways("random ways, wider", everything(8), 200_000, seed);
    }
}
