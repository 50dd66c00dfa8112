//! The command line for operators: the program itself, against a service over real sockets.

mod at_a_terminal;
mod looking;
mod making;
mod wishes;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client_failover::access::AuthOptions;
use client_failover::http::TenantApi;
use client_failover::tls::TlsOptions;
use serde_json::{Value, json};

use crate::support::credentials::{Authority, Wanted, add_user, create_key, new_dir};
use crate::support::helpers::{TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::program::{PROGRAM, Ran, operate, operator, program, run_with};
use crate::support::terminal::Terminal;

const MINUTE: i64 = 60_000;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn file(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("it can be written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
    path
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

#[tokio::test]
async fn groups_are_applied_once_and_then_unchanged() {
    let app = TestApp::start().await;
    let yaml = "Id: pump\nName: Feed pump\nFailoverTimeout: 00:00:30\n---\n- Id: valve\n- Id: 7\n  Milliseconds: 500\n";
    let apply = |more: &'static [&'static str]| {
        let mut arguments = vec!["groups", "apply", "-f", "-"];
        arguments.extend(more);
        run_with(operator(&app.url, &arguments), yaml)
    };
    let said = apply(&["--dry-run"]).await.ok();
    assert_eq!(said, "group pump created (dry run)\ngroup valve created (dry run)\ngroup 7 created (dry run)\n");
    app.get("/pump").await.expect_error(404);
    assert_eq!(apply(&[]).await.ok(), "group pump created\ngroup valve created\ngroup 7 created\n");
    assert_eq!(apply(&[]).await.ok(), "group pump unchanged\ngroup valve unchanged\ngroup 7 unchanged\n");
    let pump = app.get("/pump").await.expect_ok();
    assert_eq!((&pump["Name"], &pump["FailoverTimeout"]), (&json!("Feed pump"), &json!("00:00:30")));
    app.put("/pump", json!({"Name": "Feed pump", "Milliseconds": 20_000})).await.expect_ok();
    let changes = app.database.rows("SELECT * FROM configuration_changes").await.len();
    let said = apply(&["-o", "json", "--dry-run"]).await.json();
    assert_eq!(said[0], json!({"Id": "pump", "Outcome": "changed", "DryRun": true}));
    assert_eq!(app.database.rows("SELECT * FROM configuration_changes").await.len(), changes, "nothing was done");
    let said = apply(&["-o", "yaml"]).await.yaml();
    let outcomes: Vec<&Value> = said.as_array().expect("a list").iter().map(|group| &group["Outcome"]).collect();
    assert_eq!(outcomes, ["changed", "unchanged", "unchanged"]);
    assert_eq!(app.database.rows("SELECT * FROM configuration_changes").await.len(), changes + 1);

    // What is shown can be given back.
    for format in ["json", "yaml"] {
        for arguments in [&["groups", "list", "-o", format][..], &["groups", "show", "pump", "-o", format]] {
            let shown = operate(&app, arguments).await.ok();
            let said = run_with(operator(&app.url, &["groups", "apply", "-f", "-"]), &shown).await.ok();
            assert!(lines(&said).iter().all(|line| line.ends_with(" unchanged")), "{said}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_meant_changes_nothing() {
    let app = TestApp::start().await;
    for (text, reason) in [
        ("- Id: good\n- Id: bad\n  FailoverTimout: 00:01:00\n", "FailoverTimout"),
        ("- Id: good\n- Name: nameless\n", "has no Id"),
        ("- Id: good\n- Id: bad\n  Milliseconds: 1\n", "100 ms"),
        ("Id: [good", "line 1"),
        ("", "there is no group in it"),
    ] {
        let said = run_with(operator(&app.url, &["groups", "apply", "-f", "-"]), text).await.fails(2);
        assert!(said.contains(reason) && said.contains("standard input"), "{said}");
    }
    let said = operate(&app, &["groups", "apply", "-f", "/nonexistent/groups.yaml"]).await.fails(2);
    assert!(said.contains("/nonexistent/groups.yaml"), "{said}");
    assert_eq!(app.get("").await.expect_ok(), json!([]));

    // One that the service refuses does not keep the others from their turn.
    let name = "n".repeat(261);
    let text = format!("- Id: long\n  Name: {name}\n- Id: good\n");
    let ran = run_with(operator(&app.url, &["groups", "apply", "-f", "-"]), &text).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, "group good created\n"), "{ran:?}");
    assert!(ran.err.contains("group long") && ran.err.contains("260 characters"), "{ran:?}");
}

#[tokio::test]
async fn every_command_prints_a_table_json_and_yaml() {
    let app = TestApp::start().await;
    app.group_of("pump", MINUTE, &["a", "b"]).await;
    app.group_of("valve", 250, &[]).await;
    app.beat("pump", "a", 99.5).await;
    app.beat("pump", "b", 100.0).await;
    let listed = lines(&operate(&app, &["groups", "list"]).await.ok()).join("|");
    assert_eq!(
        listed,
        "GROUP  SESSIONS  PRIMARY  TIMEOUT  NAME|pump          2  a             1m|valve         0  -          250ms"
    );
    for (arguments, path) in [
        (&["groups", "list"][..], ""),
        (&["groups", "list", "--skip", "1", "--count", "1"], "?skip=1&count=1"),
        (&["groups", "show", "pump"], "/pump"),
        (&["history", "pump"], "/pump/transitions"),
    ] {
        let expected = app.get(path).await.expect_ok();
        assert_eq!(operate(&app, &[arguments, &["-o", "json"]].concat()).await.json(), expected, "{arguments:?}");
        assert_eq!(operate(&app, &[arguments, &["-o", "yaml"]].concat()).await.yaml(), expected, "{arguments:?}");
    }
    let shown = operate(&app, &["groups", "show", "pump"]).await.ok();
    for part in ["t/n/pump", "a, for ", "2 registered, 2 live, 1 ready", "PendingPrimary", "99.5 %", "LEASE LEFT"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let sessions = operate(&app, &["sessions", "list", "pump"]).await.ok();
    let roles: Vec<Vec<&str>> = lines(&sessions).iter().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(roles, [["SESSION", "ROLE"], ["a", "Primary"], ["b", "PendingPrimary"]]);
    for sessions in [
        operate(&app, &["sessions", "list", "pump", "-o", "json"]).await.json(),
        operate(&app, &["sessions", "list", "pump", "-o", "yaml"]).await.yaml(),
    ] {
        assert_eq!((&sessions[0]["SessionId"], &sessions[0]["Role"]), (&json!("a"), &json!(1)));
        assert_eq!(sessions[0]["PercentHealthyStreams"], 99.5);
    }
    let table = operate(&app, &["status"]).await.ok();
    assert!(lines(&table)[0].starts_with("GROUP  AT RISK  PRIMARY"), "{table}");
    assert!(lines(&table)[1].starts_with("pump   -        a "), "{table}");
    for status in
        [operate(&app, &["status", "-o", "json"]).await.json(), operate(&app, &["status", "-o", "yaml"]).await.yaml()]
    {
        assert_eq!((&status["Total"], &status["AtRisk"]), (&json!(2), &json!(0)));
        let groups: Vec<&Value> =
            status["Groups"].as_array().expect("a list").iter().map(|group| &group["GroupId"]).collect();
        assert_eq!(groups, ["pump", "valve"]);
    }
    let history = operate(&app, &["history", "pump"]).await.ok();
    let changes: Vec<Vec<&str>> =
        lines(&history).iter().map(|line| line.split_whitespace().skip(2).collect()).collect();
    assert_eq!(changes[1], ["b", "Secondary", "→", "PendingPrimary", "1", "healthier"]);
    assert_eq!(changes[2], ["a", "Secondary", "→", "Primary", "1", "first_heartbeat"]);

    // Over all tenants, where none is named.
    let mut everywhere = operator(&app.url, &["status"]);
    everywhere.env_remove("CLIENT_FAILOVER_TENANT").env("CLIENT_FAILOVER_NAMESPACE", "");
    assert!(run_with(everywhere, "").await.ok().contains("t/n/pump"));
    // Nothing there: the document is whole, and the code says that nothing was named.
    let none = ["--namespace", "none"];
    let printed = async |arguments: &[&str]| {
        let Ran { code, out, err } = operate(&app, &[arguments, &none].concat()).await;
        assert!(code == 3 && err.contains("there are no groups in namespace 'none' of tenant 't'"), "{code} {err}");
        out
    };
    assert_eq!(printed(&["groups", "list"]).await, "");
    assert_eq!(printed(&["groups", "list", "-o", "yaml"]).await, "[]\n");
    assert_eq!(printed(&["groups", "list", "-o", "json"]).await, "[]\n");
    let out = printed(&["status", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), json!({"Total": 0, "AtRisk": 0, "Groups": []}));
}

#[tokio::test]
async fn lists_longer_than_a_page_are_whole() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.database
        .execute(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
                SELECT gen_random_uuid(), 't', 'n', 'g' || i, 600000000 FROM generate_series(1, 449) i;
             INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
                    term, reason, actor, recorded_at)
                SELECT group_key, tenant_id, namespace_id, group_id, 'a', 0, 1, i, 'first_heartbeat', 'heartbeat',
                    '2026-01-01T12:00:00Z'::timestamptz + i * interval '1 minute'
                FROM groups, generate_series(1, 2500) i WHERE group_id = 'g' ORDER BY i",
        )
        .await;
    for arguments in [&["groups", "list"][..], &["status"]] {
        let table = operate(&app, arguments).await.ok();
        let groups: BTreeSet<&str> =
            lines(&table).iter().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!((lines(&table).len(), groups.len()), (451, 450), "{arguments:?}");
        let document = operate(&app, &[arguments, &["-o", "json"]].concat()).await.json();
        let list = document.get("Groups").unwrap_or(&document);
        assert_eq!(list.as_array().map(Vec::len), Some(450), "{arguments:?}");
        let document = operate(&app, &[arguments, &["-o", "yaml", "--count", "201"]].concat()).await.yaml();
        let list = document.get("Groups").unwrap_or(&document);
        assert_eq!(list.as_array().map(Vec::len), Some(201), "{arguments:?}");
    }
    let terms = async |more: &[&str]| -> Vec<i64> {
        let list = operate(&app, &[&["history", "g", "-o", "json"], more].concat()).await.json();
        list.as_array().expect("an array").iter().map(|row| row["Term"].as_i64().expect("a number")).collect()
    };
    assert_eq!(terms(&["--all"]).await, (1..=2_500).rev().collect::<Vec<i64>>());
    assert_eq!(terms(&["--count", "1100"]).await, (1_401..=2_500).rev().collect::<Vec<i64>>());
    assert_eq!(terms(&[]).await.len(), 100);
    assert_eq!(terms(&["--since", "2026-01-01T12:03", "--until", "2026-01-01T14:05+02:00"]).await, [4, 3]);
    assert_eq!(terms(&["--since", "2500h", "--until", "2026-01-01"]).await, [0; 0]);
}

#[tokio::test]
async fn exit_codes_tell_scripts_what_happened() {
    let app = TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await;
    app.group_of("pump", MINUTE, &["a"]).await;
    let said = operate(&app, &["groups", "show", "none"]).await.fails(3);
    for part in ["error: The group does not exist.", "Reason: ", "'none'", "Resolution: ", "OperationId: "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    for arguments in [
        &["groups", "delete", "none"][..],
        &["sessions", "list", "none"],
        &["sessions", "delete", "pump", "none"],
        &["history", "none"],
    ] {
        operate(&app, arguments).await.fails(3);
    }
    for arguments in [
        &["groups", "show", "a/b"][..],
        &["groups", "show", "."],
        &["groups", "list", "--tenant", ""],
        &["groups", "list", "-o", "xml"],
        &["groups", "list", "--server", "ftp://x"],
        &["groups", "list", "--server", "http://name:word@localhost"],
        &["history", "pump", "--since", "yesterday"],
        &["status", "--watch", "-o", "json"],
        &["status", "--search", &"x".repeat(261)],
        &["groups"],
    ] {
        let mut command = operator(&app.url, arguments);
        if arguments.contains(&"--tenant") {
            command.env_remove("CLIENT_FAILOVER_TENANT");
        }
        let ran = run_with(command, "").await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
    }
    app.group_of("idle", MINUTE, &[]).await;
    assert_eq!(operate(&app, &["status", "--check", "--search", "idle"]).await.code, 0);
    app.beat("pump", "a", 100.0).await;
    let said = operate(&app, &["groups", "delete", "pump"]).await.fails(5);
    assert!(said.contains("--force"), "{said}");
    // It has no standby.
    eventually("the census has seen it", async || operate(&app, &["status", "--check"]).await.code == 7).await;
    let ran = operate(&app, &["status", "--check", "--at-risk", "-o", "json"]).await;
    assert_eq!(ran.code, 7);
    assert!(ran.out.contains("\"NoStandby\""), "{ran:?}");
    assert_eq!(operate(&app, &["sessions", "delete", "pump", "a"]).await.ok(), "session a deleted\n");
    app.group_of("live", MINUTE, &["a"]).await;
    app.beat("live", "a", 100.0).await;
    assert_eq!(operate(&app, &["groups", "delete", "live", "--force"]).await.ok(), "group live deleted\n");
    assert_eq!(operate(&app, &["groups", "delete", "pump"]).await.ok(), "group pump deleted\n");

    // Nobody there, somebody else, somebody who says nothing.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let ran = run_with(operator(&format!("http://{closed}"), &["status"]), "").await;
    assert!(ran.fails(6).contains("does not answer"));
    let health = run_with(operator(&format!("http://{closed}"), &["health"]), "").await;
    assert!(health.fails(6).contains("does not answer"), "as its help says");
    assert_eq!(operate(&app, &["health"]).await.ok(), "alive\n");
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", mute.local_addr().expect("it has one"));
    run_with(operator(&url, &["status", "--timeout", "200ms"]), "").await.fails(6);
    let said = operate(&app, &["groups", "list", "--server", &format!("{}/elsewhere", app.url)]).await.fails(3);
    assert!(said.contains("There is no such path"), "{said}");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why_and_no_secret_is_shown() {
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let (_, admin) = create_key(&app.database, "admin", &["--tenant", "t", "--role", "admin"]).await;
    let (_, viewer) = create_key(&app.database, "viewer", &["--tenant", "t", "--role", "viewer"]).await;
    let dir = new_dir();
    let key_file = file(&dir, "admin.key", &format!("{admin}\n"), 0o600);
    let open_file = file(&dir, "open.key", &format!("{admin}\n"), 0o644);
    let mut seen = String::new();
    let mut run = async |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = operator(&app.url, arguments);
        command.envs(environment.iter().copied());
        let ran = run_with(command, "- Id: pump\n").await;
        seen += &format!("{ran:?}");
        ran
    };
    let apply = &["groups", "apply", "-f", "-"][..];
    let said = run(apply, &[]).await.fails(4);
    assert!(said.contains("The caller is not known") && said.contains("no credentials were given"), "{said}");
    let wrong = format!("cfk_{}", "x".repeat(43));
    let said = run(apply, &[("CLIENT_FAILOVER_TOKEN", &wrong)]).await.fails(4);
    assert!(said.contains("a bearer token was sent"), "{said}");
    let said = run(apply, &[("CLIENT_FAILOVER_TOKEN", &viewer)]).await.fails(4);
    assert!(said.contains("not allowed") && said.contains("viewer"), "{said}");
    let token_file = ["--token-file", path(&key_file)];
    assert_eq!(run(&[apply, &token_file].concat(), &[]).await.ok(), "group pump created\n");
    // Flags come before the environment, and that before a profile.
    run(&[&["groups", "list"][..], &token_file].concat(), &[("CLIENT_FAILOVER_TOKEN", &wrong)]).await.ok();
    run(&["groups", "list"], &[("CLIENT_FAILOVER_TOKEN_FILE", path(&key_file))]).await.ok();
    let ran = run(&["groups", "list", "--token-file", path(&open_file)], &[]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("warning") && ran.err.contains("open.key"), "{ran:?}");

    let profiles = format!(
        "[profiles.default]\nserver = \"{0}\"\ntenant = \"t\"\nnamespace = \"n\"\ntoken-file = \"admin.key\"\n\
         [profiles.inline]\nserver = \"{0}\"\ntenant = \"t\"\nnamespace = \"n\"\ntoken = \"{viewer}\"\n",
        app.url
    );
    let private = file(&dir, "client.toml", &profiles, 0o600);
    let mut with_profile = async |profiles: &Path, arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = program();
        command.args(arguments).env("CLIENT_FAILOVER_PROFILES", profiles).envs(environment.iter().copied());
        let ran = run_with(command, "").await;
        seen += &format!("{ran:?}");
        ran
    };
    assert!(with_profile(&private, &["groups", "list"], &[]).await.ok().contains("pump"));
    with_profile(&private, &["groups", "delete", "pump", "--profile", "inline"], &[]).await.fails(4);
    with_profile(&private, &["groups", "list"], &[("CLIENT_FAILOVER_TOKEN", &wrong)]).await.fails(4);
    let said = with_profile(&private, &["groups", "list", "--profile", "none"], &[]).await.fails(2);
    assert!(said.contains("default, inline"), "{said}");
    let open = file(&dir, "open.toml", &profiles, 0o640);
    let said = with_profile(&open, &["groups", "list"], &[]).await.fails(2);
    assert!(said.contains("chmod 600"), "{said}");
    let broken = file(&dir, "broken.toml", &format!("[profiles.default]\ntoken = {viewer}\n"), 0o600);
    let said = with_profile(&broken, &["groups", "list"], &[]).await.fails(2);
    assert!(said.contains("line 2"), "{said}");
    let unknown = file(&dir, "unknown.toml", &format!("[profiles.default]\ntokn = \"{viewer}\"\n"), 0o600);
    let said = with_profile(&unknown, &["groups", "list"], &[]).await.fails(2);
    assert!(said.contains("tokn"), "{said}");
    let home = new_dir();
    std::fs::create_dir(home.join("client-failover")).expect("a folder");
    file(&home.join("client-failover"), "client.toml", &profiles.replace("admin.key", path(&key_file)), 0o600);
    let mut command = program();
    command.args(["groups", "list"]).env("XDG_CONFIG_HOME", &home);
    assert!(run_with(command, "").await.ok().contains("pump"));
    for secret in [&admin[4..], &viewer[4..], &wrong[4..]] {
        assert!(!seen.contains(secret), "{seen}");
    }
}

#[tokio::test]
async fn a_name_and_a_password_open_the_door_too() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "operator", "correct horse", &["--tenant", "t", "--role", "admin"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), ..AuthOptions::default() };
    })
    .await;
    let password_file = file(&dir, "password", "correct horse\n", 0o600);
    let user = &["groups", "list", "--user", "operator"][..];
    // Let in, and there is nothing yet.
    operate(&app, &[user, &["--password-file", path(&password_file)]].concat()).await.fails(3);
    let said = operate(&app, user).await.fails(2);
    assert!(said.contains("no password for 'operator'"), "{said}");
    let mut by_environment = operator(&app.url, user);
    by_environment.env("CLIENT_FAILOVER_PASSWORD", "correct horse");
    run_with(by_environment, "").await.fails(3);
    let mut wrong = operator(&app.url, &["groups", "list"]);
    wrong.env("CLIENT_FAILOVER_USER", "operator").env("CLIENT_FAILOVER_PASSWORD", "incorrect mule");
    let said = run_with(wrong, "").await.fails(4);
    assert!(said.contains("a name and a password were sent") && !said.contains("mule"), "{said}");
}

#[tokio::test]
async fn a_private_authority_and_client_certificates_are_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = new_dir();
    let ca = file(&dir, "ca.crt", &authority.pem(), 0o644);
    let other_ca = file(&dir, "other.crt", &other.pem(), 0o644);
    let subjects = "[subjects.\"operator\"]\ngrants = [{ tenant = \"t\", role = \"admin\" }]\n";
    let subjects = file(&dir, "subjects.toml", subjects, 0o644);
    let tls = TlsOptions { client_ca: Some(ca.clone()), ..authority.server((-1, 90)).write(&dir) };
    let app = TestApp::start_with(|settings| {
        settings.tls = Some(tls);
        settings.auth = AuthOptions { subjects_file: Some(subjects), ..AuthOptions::default() };
    })
    .await;
    let client = authority.make(&Wanted { common_name: "operator", alternative_names: &[], days: (-1, 90) });
    let certificate = file(&dir, "client.crt", &client.certificate, 0o644);
    let key = file(&dir, "client.key", &client.key, 0o600);
    let trusting = ["--ca-file", path(&ca)];
    assert_eq!(operate(&app, &[&["health"][..], &trusting].concat()).await.ok(), "alive\n");
    operate(&app, &["health"]).await.fails(6);
    let said = operate(&app, &["groups", "list"]).await.fails(6);
    assert!(said.contains("UnknownIssuer") && said.contains("--ca-file"), "{said}");
    operate(&app, &["groups", "list", "--ca-file", path(&other_ca)]).await.fails(6);
    operate(&app, &["groups", "list", "--ca-file", path(&key)]).await.fails(2);
    operate(&app, &[&["groups", "list"][..], &trusting].concat()).await.fails(4);
    let shown = ["--client-cert", path(&certificate), "--client-key", path(&key)];
    let said = operate(&app, &[&["groups", "list"][..], &trusting, &shown].concat()).await.fails(3);
    assert!(said.contains("there are no groups"), "it was let in: {said}");
    operate(&app, &[&["groups", "list"][..], &trusting, &shown[..2]].concat()).await.fails(2);
}

/// A command that goes on, read line by line. Killed when dropped.
struct Going {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Going {
    fn start(mut command: Command) -> Going {
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (say, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        Going { child, lines }
    }

    async fn line(&mut self) -> String {
        let mut line = None;
        eventually("a line is printed", async || {
            line = self.lines.try_recv().ok();
            line.is_some()
        })
        .await;
        line.expect("it came")
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn events_are_printed_as_they_are_kept_and_the_command_ends() {
    let app = TestApp::start().await;
    app.group_of("pump", MINUTE, &["a"]).await;
    app.group_of("valve", MINUTE, &[]).await;
    app.beat("pump", "a", 100.0).await;
    let events = async |more: &[&str]| {
        let out = operate(&app, &[&["events", "-o", "json"], more].concat()).await.ok();
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("a document per line");
        out.lines().map(read).collect::<Vec<Value>>()
    };
    let names = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["Event"].as_str().expect("a name").to_owned()).collect()
    };
    let all = events(&[]).await;
    assert_eq!(names(&all), ["GroupCreated", "SessionRegistered", "GroupCreated", "RoleChanged"]);
    assert_eq!((&all[3]["GroupId"], &all[3]["Reason"]), (&json!("pump"), &json!("first_heartbeat")));
    let second = all[1]["Id"].to_string();
    assert_eq!(names(&events(&["--after", &second]).await), ["GroupCreated", "RoleChanged"]);
    assert_eq!(names(&events(&["pump"]).await), ["GroupCreated", "SessionRegistered", "RoleChanged"]);
    assert_eq!(names(&events(&["--count", "1"]).await), ["GroupCreated"]);
    assert_eq!(events(&["--since", "1h"]).await.len(), 4);
    assert_eq!(events(&["--since", "2999-01-01"]).await.len(), 0);
    let table = operate(&app, &["events"]).await.ok();
    assert!(lines(&table)[0].starts_with("TIME (UTC)"), "{table}");
    assert!(lines(&table)[4].ends_with("a Secondary → Primary (first_heartbeat, term 1)"), "{table}");
    let yaml = operate(&app, &["events", "-o", "yaml"]).await.ok();
    assert_eq!(serde_saphyr::from_multiple::<Value>(&yaml).expect("documents"), all);
    let mut everywhere = operator(&app.url, &["events"]);
    everywhere.env_remove("CLIENT_FAILOVER_TENANT").env_remove("CLIENT_FAILOVER_NAMESPACE");
    assert!(run_with(everywhere, "").await.ok().contains("t/n/pump"));
}

#[tokio::test]
async fn following_goes_on_over_a_restart_and_no_event_is_lost_or_repeated() {
    let database = TestDatabase::new().await;
    let first = TestReplica::start(settings(database.connect_options())).await;
    let other = TestReplica::start(settings(database.connect_options())).await;
    let port: u16 = first.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let mut expected = Vec::new();
    let mut make = async |range: std::ops::Range<u32>| {
        for number in range {
            other.put(&format!("/g{number}"), json!({})).await.expect_ok();
            expected.push(format!("g{number}"));
        }
    };
    let group = |line: String| {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        event["GroupId"].as_str().unwrap_or_default().to_owned()
    };
    // Of a namespace that never had a group there is nothing to follow.
    make(0..1).await;
    let mut following = Going::start(operator(&first.url, &["events", "--follow", "--after", "0", "-o", "json"]));
    make(1..20).await;
    let mut seen = vec![group(following.line().await)];
    first.stop().await;
    make(20..40).await;
    let mut again = settings(database.connect_options());
    again.listen = ([127, 0, 0, 1], port).into();
    let again = TestReplica::start(again).await;
    make(40..60).await;
    while seen.len() < 60 {
        seen.push(group(following.line().await));
    }
    make(60..61).await;
    seen.push(group(following.line().await));
    assert_eq!(seen, expected);
    again.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    let app = TestApp::start().await;
    let fill = "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
        SELECT gen_random_uuid(), 't', 'n', 'g' || i, 600000000 FROM generate_series(1, 5000) i";
    app.database.execute(fill).await;
    for arguments in ["groups list", "groups list -o json", "groups list -o yaml", "status -o json", "completion bash"]
    {
        let mut shell = Command::new("bash");
        let script = format!("{PROGRAM} {arguments} | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}");
        shell.args(["-c", &script]).env("CLIENT_FAILOVER_SERVER", &app.url).env("XDG_CONFIG_HOME", "/nonexistent");
        shell.env("CLIENT_FAILOVER_TENANT", "t").env("CLIENT_FAILOVER_NAMESPACE", "n");
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = run_with(shell, "").await;
        assert_eq!((ran.out.trim(), ran.err.as_str()), ("0", ""), "{arguments}: {ran:?}");
    }
}

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let complete = |words: &'static str| async move {
        let script = format!(
            "source <({PROGRAM} completion bash)
             COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             function=$(complete -p client-failover | sed 's/.*-F \\([^ ]*\\).*/\\1/')
             $function client-failover \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["-euc", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        run_with(bash, "").await.ok()
    };
    assert_eq!(complete("client-failover gro").await, "groups\n");
    assert_eq!(complete("client-failover groups a").await, "apply\n");
    assert_eq!(complete("client-failover groups c").await, "create\n");
    assert_eq!(complete("client-failover who").await, "whoami\n");
    assert_eq!(complete("client-failover name").await, "namespaces\n");
    assert_eq!(complete("client-failover audit e").await, "export\n");
    assert_eq!(complete("client-failover adapters c").await, "check\n");
    assert_eq!(complete("client-failover groups apply --dr").await, "--dry-run\n");
    assert_eq!(complete("client-failover status -o y").await, "yaml\n");
    for (shell, part) in [("zsh", "#compdef client-failover"), ("fish", "complete -c client-failover")] {
        let mut command = program();
        command.args(["completion", shell]);
        assert!(run_with(command, "").await.ok().contains(part), "{shell}");
    }
}

#[tokio::test]
async fn help_is_for_strangers() {
    for arguments in [
        &["groups", "list"][..],
        &["groups", "show"],
        &["groups", "create"],
        &["groups", "apply"],
        &["groups", "delete"],
        &["sessions", "list"],
        &["sessions", "delete"],
        &["status"],
        &["history"],
        &["events"],
        &["namespaces"],
        &["audit"],
        &["whoami"],
        &["version"],
        &["health"],
    ] {
        let mut command = program();
        command.args(arguments).arg("--help").env("CLIENT_FAILOVER_TOKEN", "secret-in-the-environment");
        let help = run_with(command, "").await.ok();
        for part in ["--server", "--ca-file", "CLIENT_FAILOVER_TOKEN", "[profiles.default]", "Exit codes: 0 done"] {
            assert!(help.contains(part), "{part} in {help}");
        }
        assert!(!help.contains("secret-in-the-environment"));
        assert!(help.contains("--output") || arguments.contains(&"delete") || arguments == ["health"], "{help}");
    }
}
