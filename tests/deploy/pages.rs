//! What the pages in docs/ say is true: their commands are run, and their table of settings is that
//! of `--help`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::credentials::new_dir;
use crate::support::helpers::TestApp;
use crate::support::program::{PROGRAM, program};

const API: &str = include_str!("../../docs/api.md");
const COMMAND_LINE: &str = include_str!("../../docs/cli.md");
const DATABASE: &str = include_str!("../../docs/database.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");

/// The block of that language which has the text and is marked as run here.
fn block(page: &str, language: &str, text: &str) -> String {
    let mark = format!("<!-- run by tests/deploy/pages.rs -->\n```{language}\n");
    let blocks = page.split(&mark).skip(1).filter_map(|rest| rest.split("```").next());
    let found: Vec<&str> = blocks.filter(|block| block.contains(text)).collect();
    assert_eq!(found.len(), 1, "one block of {language} has {text}");
    found[0].to_owned()
}

#[tokio::test]
async fn the_takeover_by_hand_goes_as_the_page_of_the_api_says() {
    let app = TestApp::start().await;
    let script = block(API, "sh", "Now a falls silent").replace("http://127.0.0.1:8080", &app.url);
    let run = tokio::process::Command::new("bash").args(["-euc", &script]).output().await.expect("bash is there");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let output = String::from_utf8(run.stdout).expect("UTF-8");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["\"pump\"", "\"a\"", "\"b\""]);
    let roles: Vec<&str> = lines[3..7].iter().map(|line| &line[..9]).collect();
    assert_eq!(roles, ["{\"Role\":1", "{\"Role\":0", "{\"Role\":1", "{\"Role\":0"], "{output}");
    assert!(lines[7].contains("\"SessionId\":\"b\",\"Role\":1"), "{output}");
}

#[tokio::test]
async fn the_stream_of_events_is_what_the_page_of_the_api_shows() {
    let app = TestApp::start().await;
    let script = block(API, "sh", "curl -N").replace("http://127.0.0.1:8080", &app.url);
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euc", &format!("exec {script}")]).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut curl = bash.spawn().expect("bash is there");
    let mut lines = BufReader::new(curl.stdout.take().expect("it is piped")).lines();
    let takeover = block(API, "sh", "Now a falls silent").replace("http://127.0.0.1:8080", &app.url);
    // The stream begins with what comes from now on: it is open once it has said so.
    lines.next_line().await.expect("it can be read").expect("the stream is open");
    let run = tokio::process::Command::new("bash").args(["-euc", &takeover]).output().await.expect("bash is there");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (_, shown) = API.split_once("```text\nid: ").expect("it shows an event");
    let shown = shown.lines().find_map(|line| line.strip_prefix("data: ")).expect("it has data");
    let shown: serde_json::Value = serde_json::from_str(shown).expect("JSON");
    // The same properties, and all but the numbers and the time the same.
    loop {
        let line = lines.next_line().await.expect("it can be read").expect("the stream goes on");
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let mut event: serde_json::Value = serde_json::from_str(data).expect("JSON");
        for property in ["Id", "Time"] {
            event[property] = shown[property].clone();
        }
        if event["Reason"] == shown["Reason"] && event["To"] == shown["To"] {
            assert_eq!(event, shown);
            break;
        }
    }
}

#[tokio::test]
async fn the_command_line_goes_as_its_page_says() {
    let app = TestApp::start().await;
    let script = block(COMMAND_LINE, "sh", "groups apply");
    let program = Path::new(PROGRAM);
    let folder = program.parent().expect("it is in one").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euc", &script]).env("PATH", path).env("CLIENT_FAILOVER_SERVER", &app.url);
    let run = bash.env("XDG_CONFIG_HOME", "/nonexistent").output().await.expect("bash is there");
    let output = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(run.status.success(), "{output}{}", String::from_utf8_lossy(&run.stderr));
    for line in [
        "group pump created",
        "group valve created",
        "GROUP  AT RISK  PRIMARY  FOR  HEALTH  STANDBYS",
        "group valve deleted",
    ] {
        assert!(output.lines().any(|printed| printed == line), "{line} in {output}");
    }
    assert!(output.contains("FailoverTimeout: 00:00:02") && output.contains("{\"Event\":\"GroupCreated\""), "{output}");
}

#[tokio::test]
async fn maintenance_goes_as_the_page_of_the_command_line_says() {
    let app = TestApp::start().await;
    app.group_of("pump", 60_000, &["a", "b"]).await;
    assert_eq!(app.beat("pump", "a", 100.0).await, 1);
    let mark = "<!-- run by tests/deploy/pages.rs, with two live clients -->\n```sh\n";
    let script = COMMAND_LINE.split(mark).nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let folder = Path::new(PROGRAM).parent().expect("it is in one").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euc", script]).env("PATH", path).env("CLIENT_FAILOVER_SERVER", &app.url);
    bash.env("CLIENT_FAILOVER_TENANT", "t").env("CLIENT_FAILOVER_NAMESPACE", "n");
    let commands = bash.env("XDG_CONFIG_HOME", "/nonexistent").output();
    let clients = async {
        let mut roles = [("a", 1), ("b", 0)];
        loop {
            for (session, role) in &mut roles {
                *role = app.beat_acting_as("pump", session, 100.0, i64::from(*role == 1)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let run = tokio::select! {
        run = commands => run.expect("bash is there"),
        () = clients => unreachable!("they go on for ever"),
    };
    let output = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(run.status.success(), "{output}{}", String::from_utf8_lossy(&run.stderr));
    for said in ["a yields to b", "b took over from a", "session a is excluded until", "nothing is wished of session a"]
    {
        assert!(output.contains(said), "{said} in {output}");
    }
}

#[test]
fn the_profile_of_the_command_lines_page_is_one() {
    let profile =
        COMMAND_LINE.split("```toml\n").find(|block| block.starts_with("[profiles.default]")).expect("it is there");
    let profile = profile.split("```").next().expect("it ends").replace("tenant = \"plant\"\n", "tenant = \"a/b\"\n");
    let dir = new_dir();
    let file = dir.join("client.toml");
    std::fs::write(&file, profile).expect("it can be written");
    std::fs::write(dir.join("operator.key"), "cfk_key\n").expect("it can be written");
    let said = program().args(["groups", "list", "--profiles"]).arg(file).output().expect("it runs").stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    // It was read as far as the tenant, which is not one on purpose: the service is not asked.
    assert!(said.contains("the tenant 'a/b' is not valid"), "{said}");
}

#[tokio::test]
async fn the_queries_of_the_databases_page_run_and_see_what_is_there() {
    let app = TestApp::start().await;
    app.group_of("g", 60_000, &["a", "b"]).await;
    app.beat("g", "a", 90.0).await;
    let queries: Vec<String> =
        block(DATABASE, "sql", "group_status").split(';').map(str::trim).map(str::to_owned).collect();
    let mut rows_seen = Vec::new();
    for query in queries.iter().filter(|query| !query.is_empty()) {
        rows_seen.push(app.database.rows(&format!("{query}\n")).await.len());
    }
    // One group; it has no standby; two sessions; one change of a role; the group's creation; no
    // outage; the first history, and no group in doubt.
    assert_eq!(rows_seen, [1, 1, 2, 1, 1, 0, 1, 0]);
}

#[test]
fn the_set_ups_of_the_security_page_are_settings_that_exist() {
    let page = include_str!("../../docs/security.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let set_ups: Vec<&str> = blocks.into_iter().filter(|block| block.contains("auth = ")).collect();
    assert_eq!(set_ups.len(), 5);
    for set_up in set_ups {
        // What is not a setting is refused.
        let given: Result<client_failover::config::Given, _> = toml::from_str(set_up);
        given.unwrap_or_else(|error| panic!("{set_up}: {error}"));
    }
}

/// From flag to environment variable.
type Flags = BTreeMap<String, String>;

#[test]
fn the_table_of_settings_is_that_of_the_help() {
    let help = Command::new(PROGRAM).args(["serve", "--help"]).output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let mut in_help = Flags::new();
    let mut flag = None;
    for word in help.split_whitespace() {
        if let Some(name) = word.strip_prefix("--") {
            flag = Some(format!("--{}", name.trim_end_matches(|c: char| !c.is_alphanumeric())));
        }
        if let (Some(flag), Some(variable)) = (&flag, word.strip_prefix("[env:")) {
            assert!(variable.is_empty(), "the variable stands behind a space");
            in_help.insert(flag.clone(), String::new());
        } else if let (Some(flag), true) = (&flag, word == word.to_uppercase() && word.contains('_')) {
            let name = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_').trim_end_matches('=');
            in_help.entry(flag.clone()).and_modify(|variable| *variable = name.to_owned());
        }
    }
    let in_table: Flags = SETTINGS
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `--")?.split('|').map(|cell| cell.trim().trim_matches('`'));
            Some((format!("--{}", cells.next()?), cells.next()?.to_owned()))
        })
        .collect();
    assert!(in_help.len() > 20, "{help}");
    assert_eq!(in_table, in_help);
}
