//! Which tables the service takes for its own.

use std::process::Command;

use serde_json::json;

use crate::support::helpers::TestDatabase;
use crate::support::program::{Running, program};

fn command(arguments: &[&str], database: &TestDatabase) -> Command {
    let mut command = program();
    command.args(arguments).env("DATABASE_URL", database.url());
    command
}

#[tokio::test]
async fn a_database_that_no_release_made_is_refused_with_what_to_do_about_it() {
    const WHAT_TO_DO: &str = "Give the service a new, empty database; docs/operations.md says under 'Upgrade'";
    let database = TestDatabase::new().await;
    // As the last version before the first release would have left it.
    database
        .execute(
            "DELETE FROM refinery_schema_history WHERE version > 1;
             UPDATE refinery_schema_history SET name = 'groups_sessions_heartbeats', checksum = '1';
             INSERT INTO refinery_schema_history SELECT 21, 'statements_for_several_servers', applied_on, '2'
             FROM refinery_schema_history WHERE version = 1",
        )
        .await;
    for arguments in [&["migrate"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let output = command(arguments, &database).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        assert!(said.contains("V1__groups_sessions_heartbeats") && said.contains(WHAT_TO_DO), "{arguments:?}: {said}");
    }
    let waits = command(&["serve", "--listen", "127.0.0.1:0", "--migrate", "false"], &database);
    let waits = Running::start(waits).await;
    let (status, body) = waits.ask(reqwest::Method::GET, "/health/ready", json!(null)).await;
    assert_eq!(status, 503);
    assert!(body["Reason"].as_str().is_some_and(|reason| reason.contains(WHAT_TO_DO)), "{body}");
}

#[test]
fn every_migration_is_numbered_without_a_gap_and_named_by_what_it_does() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(folder).expect("they are there").map(|entry| entry.expect("it can be read"));
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut numbers: Vec<usize> = names
        .filter(|name| name.ends_with(".sql"))
        .map(|name| {
            let rest = name.strip_prefix('V').and_then(|rest| rest.strip_suffix(".sql"));
            let (number, words) = rest.and_then(|rest| rest.split_once("__")).unwrap_or_else(|| panic!("{name}"));
            assert!(words.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte)), "{name}");
            number.parse().unwrap_or_else(|_| panic!("{name}"))
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "{numbers:?}");
}
