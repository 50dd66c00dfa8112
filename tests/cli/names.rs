//! What names nothing is an error of every command that only looks, and what is empty or deleted is
//! not.

use std::time::Duration;

use client_failover::access::AuthOptions;

use crate::support::credentials::create_key;
use crate::support::helpers::{TestApp, eventually};
use crate::support::program::{Ran, operate, operator, run_with};

const MINUTE: i64 = 60_000;

/// Two groups in `t/n`, counted.
async fn app() -> TestApp {
    let app = TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(50)).await;
    app.group_of("pump", MINUTE, &["a"]).await;
    app.group_of("valve", MINUTE, &[]).await;
    eventually("the namespace is counted", async || {
        operate(&app, &["status", "--namespace", "m"]).await.err.contains("did you mean 'n'?")
    })
    .await;
    app
}

#[tokio::test]
async fn a_misspelt_place_is_an_error_of_every_command_that_looks() {
    let app = app().await;
    for command in [
        &["status"][..],
        &["status", "--check"],
        &["status", "--check", "--at-risk", "-o", "json"],
        &["status", "--search", "pump"],
        &["status", "--watch"],
        &["groups", "list"],
        &["groups", "list", "-o", "yaml"],
        &["events"],
        &["events", "--follow"],
        &["events", "-o", "json"],
    ] {
        let said = operate(&app, &[command, &["--namespace", "m"]].concat()).await.fails(3);
        let expected = "there are no groups in namespace 'm' of tenant 't'; did you mean 'n'?";
        assert!(said.contains(expected), "{command:?}: {said}");
        let said = operate(&app, &[command, &["--tenant", "T"]].concat()).await.fails(3);
        assert!(said.contains("of tenant 'T'; did you mean 't'?"), "{command:?}: {said}");
    }
    for command in
        [&["groups", "show", "pump"][..], &["sessions", "list", "pump"], &["history", "pump"], &["events", "pump"]]
    {
        let said = operate(&app, &[command, &["--namespace", "m"]].concat()).await.fails(3);
        assert!(said.contains("the namespace has no groups at all; did you mean 'n'?"), "{command:?}: {said}");
    }
    // Where nothing is like it, the few names that there are.
    let said = operate(&app, &["status", "--namespace", "somewhere"]).await.fails(3);
    assert!(said.contains("; the tenant has 'n'"), "{said}");
}

#[tokio::test]
async fn a_misspelt_group_or_search_is_an_error_of_every_command_that_looks() {
    let app = app().await;
    for command in [
        &["events", "pmup"][..],
        &["events", "pmup", "--follow"],
        &["events", "pmup", "--since", "1h", "-o", "json"],
        &["history", "pmup"],
        &["groups", "show", "pmup"],
        &["groups", "show", "pmup", "-o", "json"],
        &["sessions", "list", "pmup"],
        &["status", "--search", "pmup"],
        &["status", "--search", "pmup", "--check"],
        &["status", "--search", "pmup", "--at-risk", "--check"],
        &["status", "--search", "pmup", "--watch"],
    ] {
        let ran = operate(&app, command).await;
        let said = ran.fails(3);
        assert!(said.contains("did you mean 'pump'?"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn what_is_there_and_well_is_told_from_what_is_not_there() {
    let app = app().await;
    let silent = |ran: Ran, sentence: &str| assert_eq!((ran.code, ran.err.as_str()), (0, sentence), "{ran:?}");
    // Nobody has beaten yet in `pump`; `valve` is not in use.
    silent(operate(&app, &["status", "--search", "valve", "--at-risk", "--check"]).await, "no group is at risk\n");
    assert_eq!(operate(&app, &["status", "--search", "valve", "--check"]).await.code, 0);
    silent(operate(&app, &["events", "--since", "2999-01-01"]).await, "no events\n");
    silent(operate(&app, &["events", "valve", "--since", "2999-01-01"]).await, "no events\n");
    silent(operate(&app, &["history", "valve"]).await, "no changes\n");
    silent(operate(&app, &["groups", "list", "--skip", "7"]).await, "no groups in this part of the list\n");
    silent(operate(&app, &["sessions", "list", "valve"]).await, "no sessions\n");
}

#[tokio::test]
async fn a_service_without_groups_is_no_error_until_it_is_checked() {
    let app = TestApp::start().await;
    let everywhere = async |arguments: &[&str]| {
        let mut command = operator(&app.url, arguments);
        command.env_remove("CLIENT_FAILOVER_TENANT").env_remove("CLIENT_FAILOVER_NAMESPACE");
        run_with(command, "").await
    };
    let ran = everywhere(&["status"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "no groups\n"));
    let said = everywhere(&["status", "--check"]).await.fails(3);
    assert!(said.contains("nothing was checked"), "{said}");
    everywhere(&["status", "--search", "pump"]).await.fails(3);
    assert_eq!(everywhere(&["events"]).await.code, 0);
}

#[tokio::test]
async fn a_deleted_group_keeps_what_is_kept_of_it_and_the_command_says_so() {
    let app = app().await;
    app.beat("pump", "a", 100.0).await;
    operate(&app, &["groups", "delete", "pump", "--force"]).await.ok();
    operate(&app, &["groups", "delete", "valve"]).await.ok();
    for command in
        [&["history", "pump"][..], &["history", "pump", "-o", "json"], &["events", "pump"], &["events", "valve"]]
    {
        let ran = operate(&app, command).await;
        assert!(ran.code == 0 && !ran.out.is_empty(), "{ran:?}");
        let expected = format!("the group '{}' was deleted (at 20", command[1]);
        assert!(ran.err.contains(&expected) && ran.err.contains("this is what is kept of it"), "{ran:?}");
    }
    let ran = operate(&app, &["history", "valve"]).await;
    assert!(ran.code == 0 && ran.err.starts_with("no changes\n"), "it was there, though nobody was Primary: {ran:?}");
    // A namespace whose groups are all gone has no state to be checked, and still its events.
    operate(&app, &["status", "--check"]).await.fails(3);
    assert!(operate(&app, &["events"]).await.ok().contains("GroupDeleted"));
    operate(&app, &["groups", "show", "pump"]).await.fails(3);
}

#[tokio::test]
async fn who_may_see_one_tenant_gets_an_error_without_the_names_of_others() {
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let (_, key) = create_key(&app.database, "viewer", &["--tenant", "t", "--role", "viewer"]).await;
    let mut command = operator(&app.url, &["status", "--check"]);
    command.env("CLIENT_FAILOVER_TOKEN", &key);
    let said = run_with(command, "").await.fails(3);
    assert_eq!(said, "error: there are no groups in namespace 'n' of tenant 't'\n");
}
