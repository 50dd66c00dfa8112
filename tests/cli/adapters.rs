//! `adapters check`: what it says of a service, and that it leaves nothing behind that matters.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;

use client_failover::access::AuthOptions;
use client_failover::http::TenantApi;
use serde_json::Value;

use crate::support::credentials::{Authority, add_user, create_key, new_dir};
use crate::support::helpers::{TestApp, eventually};
use crate::support::program::{Ran, as_operator, program, run, run_with};
use crate::support::stranger::{CLIENT_ID, GOOD_ANSWER, Stranger, issuer_of_tokens, json_body};

const ON_PREMISES: &str = "/api/v1/clientfailover";
const BELOW_TENANT: &str = "/api/v1/Tenants/t/Namespaces/n/ClientFailover/";

const MINUTE: i64 = 60_000;

async fn check(url: &str, more: &[&str]) -> Ran {
    let mut command = program();
    command.args(["adapters", "check", url]).args(more);
    // What names a service for other commands means nothing here.
    run(as_operator(command, "http://127.0.0.1:9")).await
}

/// What each step came to, by the document that is for programs; and that document.
async fn steps(url: &str, more: &[&str], code: i32) -> (Vec<String>, Value) {
    let ran = check(url, &[more, &["-o", "json"]].concat()).await;
    assert_eq!(ran.code, code, "{ran:?}");
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(document["Works"], code == 0, "{document}");
    let text = |step: &Value, name: &str| step[name].as_str().expect("a text").to_owned();
    let steps = document["Steps"].as_array().expect("a list").iter();
    (steps.map(|step| format!("{} {}", text(step, "Step"), text(step, "Outcome"))).collect(), document)
}

/// The last step, with what is said of it.
fn last(document: &Value) -> String {
    let step = document["Steps"].as_array().and_then(|steps| steps.last()).expect("there is a step");
    format!(
        "{} {}: {} | {}",
        step["Step"].as_str().expect("a text"),
        step["Outcome"].as_str().expect("a text"),
        step["Text"].as_str().expect("a text"),
        step["WhatToDo"].as_str().unwrap_or_default()
    )
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("it can be written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    path.to_str().expect("UTF-8").to_owned()
}

async fn groups(app: &TestApp) -> Vec<String> {
    let rows = app.database.rows("SELECT group_id FROM groups ORDER BY group_id").await;
    rows.iter().map(|row| row["group_id"].as_str().expect("a text").to_owned()).collect()
}

async fn sessions(app: &TestApp) -> usize {
    app.database.rows("SELECT 1 FROM sessions").await.len()
}

#[tokio::test]
async fn an_adapter_works_on_both_bases_in_either_form_and_the_check_leaves_nothing() {
    for (tenant_api, base, has_preview) in [
        (TenantApi::Preview, ON_PREMISES, false),
        (TenantApi::Preview, BELOW_TENANT, true),
        (TenantApi::Released, BELOW_TENANT, false),
    ] {
        let app = TestApp::start_with(|settings| settings.http.paths.tenant_api = tenant_api).await;
        let (steps, document) = steps(&format!("{}{base}", app.url), &[], 0).await;
        let mut expected = vec![
            "endpoint Ok",
            "login Ok",
            "group Ok",
            "form Ok",
            "timeout Ok",
            "clock Ok",
            "session Ok",
            "heartbeat Ok",
            "next heartbeat Ok",
            "unknown session Ok",
            "goodbye Ok",
            "group's end Ok",
        ];
        expected.retain(|step| has_preview || *step != "form Ok");
        assert_eq!(steps, expected, "{document}");
        assert_eq!(document["Steps"].to_string().contains("fine for adapters"), has_preview, "{document}");
        assert_eq!((groups(&app).await, sessions(&app).await), (vec![], 0));
    }
}

#[tokio::test]
async fn people_read_a_line_for_each_step_and_what_it_comes_to() {
    let app = TestApp::start().await;
    let said = check(&format!("{}{ON_PREMISES}", app.url), &[]).await.ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 12, "{said}");
    assert!(lines[..11].iter().all(|line| line.starts_with("ok  ")), "{said}");
    assert_eq!(lines[11], "An adapter would work with this endpoint.");
    let ran = check(&format!("{}/api/v1/elsewhere/clientfailover", app.url), &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (3, ""), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[2].starts_with("would not work  group ") && lines[2].contains("404 Not Found"), "{ran:?}");
    assert!(lines[3].trim().starts_with("See whether the endpoint is that of a service for adapters"), "{ran:?}");
    assert_eq!(lines[4], "An adapter would not work with this endpoint.");
    let yaml = check(&format!("{}{ON_PREMISES}", app.url), &["-o", "yaml"]).await.yaml();
    assert_eq!(yaml["Works"], true);
}

#[tokio::test]
async fn what_is_no_endpoint_is_said_before_anything_is_sent() {
    for (url, hint) in [
        ("failover.plant.example/api/v1/clientfailover", "the whole URL"),
        ("ftp://127.0.0.1/api/v1/clientfailover", "the whole URL"),
        ("http://127.0.0.1:9", "Give http://127.0.0.1:9/api/v1/clientfailover, or"),
        ("http://127.0.0.1:9/api/v1/clientfailover/groups", "Leave out what follows"),
        (
            "http://127.0.0.1:9/api/v1/configuration/System/ClientFailover",
            "Give http://127.0.0.1:9/api/v1/clientfailover.",
        ),
        ("http://name:secret-word@127.0.0.1:9/api/v1/clientfailover", "UserName"),
    ] {
        let (steps, document) = steps(url, &[], 2).await;
        assert_eq!(steps, ["endpoint WouldNotWork"], "{url}");
        assert!(last(&document).contains(hint), "{document}");
    }
}

#[tokio::test]
async fn nobody_at_home_is_no_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (steps, document) = steps(&format!("http://{closed}{ON_PREMISES}"), &[], 6).await;
    assert_eq!(steps[2..], ["group WouldNotWork"]);
    assert!(last(&document).contains("does not answer"), "{document}");
}

#[tokio::test]
async fn a_certificate_that_the_machine_does_not_believe_is_said() {
    let authority = Authority::new();
    let dir = new_dir();
    let ca = file(&dir, "ca.crt", &authority.pem());
    let tls = authority.server((-1, 90)).write(&dir);
    let app = TestApp::start_with(|settings| settings.tls = Some(tls)).await;
    let url = format!("{}{ON_PREMISES}", app.url);
    let (_, document) = steps(&url, &[], 6).await;
    assert!(last(&document).contains("believe the authority of the service's certificate"), "{document}");
    steps(&url, &["--ca-file", &ca], 0).await;
    let plain = url.replace("https://", "http://");
    let (_, document) = steps(&plain, &[], 6).await;
    assert!(last(&document).contains("begin with https://"), "{document}");
}

#[tokio::test]
async fn keys_are_tried_and_none_is_shown() {
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let url = format!("{}{ON_PREMISES}", app.url);
    let (_, client) = create_key(&app.database, "adapter-7", &["--tenant", "t", "--role", "client"]).await;
    let (_, admin) = create_key(&app.database, "admin", &["--tenant", "t", "--role", "admin"]).await;
    let (_, viewer) = create_key(&app.database, "viewer", &["--tenant", "t", "--role", "viewer"]).await;
    let (_, narrow) =
        create_key(&app.database, "narrow", &["--tenant", "t", "--group", "pump-*", "--role", "client"]).await;
    let dir = new_dir();
    let wrong = format!("cfk_{}", "x".repeat(43));
    let mut seen = String::new();
    let mut with = async |key: &str, code: i32| {
        let key = file(&dir, "a.key", key);
        let (steps, document) = steps(&url, &["--token-file", &key], code).await;
        seen += &document.to_string();
        (steps, document)
    };

    let (steps_, document) = steps(&url, &[], 4).await;
    assert_eq!(steps_[2..], ["group WouldNotWork"]);
    assert!(last(&document).contains("Give the adapter's credentials"), "{document}");
    let (_, document) = with(&wrong, 4).await;
    assert!(last(&document).contains("does not know these credentials"), "{document}");
    let (_, document) = with(&viewer, 4).await;
    assert!(last(&document).contains("Grant the role client"), "{document}");
    let (_, document) = with(&narrow, 4).await;
    assert!(last(&document).contains("is tried with --group"), "{document}");
    assert_eq!(groups(&app).await, Vec::<String>::new());

    // A client may not delete the group, which is no fault; the next finds it.
    for _ in 0..2 {
        let (steps, document) = with(&client, 0).await;
        assert_eq!(steps.last().map(String::as_str), Some("group's end Ok"));
        assert!(last(&document).contains("may not delete groups, and an adapter never does"), "{document}");
        assert_eq!((groups(&app).await, sessions(&app).await), (vec!["adapters-check".to_owned()], 0));
    }
    let (_, document) = with(&admin, 0).await;
    assert!(last(&document).contains("the group is deleted"), "{document}");
    assert_eq!(groups(&app).await, Vec::<String>::new());
    for key in [&client, &admin, &viewer, &narrow, &wrong] {
        assert!(!seen.contains(&key[4..]), "{seen}");
    }
}

#[tokio::test]
async fn a_name_and_a_password_are_sent_unasked() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "adapter-7", "correct horse", &["--tenant", "t", "--role", "client"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let url = format!("{}{BELOW_TENANT}", app.url);
    let password = file(&dir, "password", "correct horse\n");
    let (_, document) = steps(&url, &["--user", "adapter-7", "--password-file", &password], 0).await;
    let login = document["Steps"][1]["Text"].as_str().expect("a text");
    assert!(login.contains("as 'adapter-7' by Basic authentication"), "{document}");
    let wrong = file(&dir, "wrong", "incorrect mule\n");
    let (_, document) = steps(&url, &["--user", "adapter-7", "--password-file", &wrong], 4).await;
    assert!(!document.to_string().contains("mule"), "{document}");
}

#[tokio::test]
async fn an_api_key_is_the_password_of_its_name() {
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let url = format!("{}{ON_PREMISES}", app.url);
    let (_, key) = create_key(&app.database, "adapter-7", &["--tenant", "t", "--role", "client"]).await;
    let key = file(&new_dir(), "adapter-7.key", &key);
    steps(&url, &["--user", "adapter-7", "--password-file", &key], 0).await;
    let (_, document) = steps(&url, &["--user", "adapter-8", "--password-file", &key], 4).await;
    assert!(last(&document).contains("not that of the API key"), "{document}");
}

/// The credentials of a profile that nobody named are somebody else's.
#[tokio::test]
async fn a_profile_counts_where_it_is_named_alone() {
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let (_, key) = create_key(&app.database, "operator", &["--tenant", "t", "--role", "admin"]).await;
    let dir = new_dir();
    let profiles = file(&dir, "client.toml", &format!("[profiles.default]\ntoken = \"{key}\"\n"));
    let url = format!("{}{ON_PREMISES}", app.url);
    let (_, document) = steps(&url, &["--profiles", &profiles], 4).await;
    assert!(document["Steps"][1]["Text"].as_str().is_some_and(|text| text == "without credentials"), "{document}");
    steps(&url, &["--profiles", &profiles, "--profile", "default"], 0).await;
}

#[tokio::test]
async fn a_live_group_is_tried_and_stays_as_it_is() {
    let app = TestApp::start().await;
    let url = format!("{}{ON_PREMISES}", app.url);
    app.group_of("pump", 2 * MINUTE, &["a", "b"]).await;
    let (steps_, document) = steps(&url, &["--group", "pump"], 5).await;
    assert_eq!(steps_[2..], ["live Primary WouldNotWork"]);
    assert!(last(&document).contains("nothing was registered"), "{document}");
    assert_eq!(app.database.trace("pump").await, Vec::<String>::new());
    let (_, document) = steps(&url, &["--group", "none"], 3).await;
    assert!(last(&document).contains("Name a group that is there"), "{document}");
    assert_eq!(groups(&app).await, ["pump"]);

    // A cold standby's score is as low as the session's.
    app.beat("pump", "a", 0.0).await;
    app.beat("pump", "b", 0.0).await;
    for (base, form) in [(ON_PREMISES, &[][..]), (BELOW_TENANT, &[])] {
        let url = format!("{}{base}", app.url);
        let (steps, document) = steps(&url, &[&["--group", "pump"][..], form].concat(), 0).await;
        assert_eq!(steps[2], "live Primary Ok", "{document}");
        assert_eq!(steps.last().map(String::as_str), Some("goodbye Ok"), "the group is not deleted");
        assert!(document["Steps"].to_string().contains("a timeout of its own"), "{document}");
        assert!(document["Steps"].to_string().contains("answered Secondary"), "{document}");
    }
    assert_eq!(app.database.trace("pump").await, ["a 0>1 first_heartbeat heartbeat 1"]);
    assert_eq!((groups(&app).await, sessions(&app).await), (vec!["pump".to_owned()], 2));
    assert_eq!(app.get("/pump").await.expect_ok()["FailoverTimeout"], "00:02:00");
    assert_eq!((app.beat("pump", "a", 0.0).await, app.beat("pump", "b", 0.0).await), (1, 0));
}

#[tokio::test]
async fn timeouts_that_do_not_fit_are_warned_of() {
    let app = TestApp::start().await;
    let url = format!("{}{ON_PREMISES}", app.url);
    let warnings = |document: &Value| -> Vec<String> {
        let steps = document["Steps"].as_array().expect("a list").iter();
        steps.filter(|step| step["Outcome"] == "Warning").map(|step| step["Text"].to_string()).collect()
    };
    let (_, document) = steps(&url, &["--failover-timeout", "00:00:10"], 0).await;
    let said = warnings(&document);
    assert!(said.len() == 1 && said[0].contains("10s") && said[0].contains("15s"), "{document}");
    app.group_of("pump", 30_000, &["a"]).await;
    app.beat("pump", "a", 100.0).await;
    let (_, document) = steps(&url, &["--group", "pump", "--failover-timeout", "1m"], 0).await;
    let said = warnings(&document);
    assert!(said.len() == 1 && said[0].contains("30s") && said[0].contains("1m"), "{document}");
    for matching in [&["--failover-timeout", "00:00:30"][..], &[]] {
        let (_, document) = steps(&url, &[&["--group", "pump"], matching].concat(), 0).await;
        assert_eq!(warnings(&document), Vec::<String>::new());
    }
    let ran = check(&url, &["--failover-timeout", "soon"]).await.fails(2);
    assert!(ran.contains("no duration such as 00:01:00"), "{ran}");
}

#[tokio::test]
async fn another_service_is_sent_what_an_adapter_sends_and_nothing_else() {
    let stranger = Stranger::answering(|| json_body(GOOD_ANSWER));
    let url = format!("{}{BELOW_TENANT}", stranger.url);
    let (_, document) = steps(&url, &["--failover-timeout", "00:00:30"], 0).await;
    let session = document["Steps"].to_string();
    let (_, session) = session.split_once("'adapters-check-").expect("the session is named");
    let session = format!("adapters-check-{}", session.split_once('\'').expect("its name ends").0);
    let below = format!("{BELOW_TENANT}groups/adapters-check");
    let beat = r#"{"FailoverScore":0,"LastDataProcessedTime":"0001-01-01T00:00:00"}"#;
    assert_eq!(
        stranger.heard(),
        [
            format!(r#"POST {BELOW_TENANT}groups/ {{"FailoverTimeout":"00:00:30","Id":"adapters-check"}}"#),
            format!(r#"POST {below}/clientsessions {{"Id":"{session}","Name":"adapters check"}}"#),
            format!("POST {below}/clientsessions/{session}/heartbeat {beat}"),
            format!("POST {below}/clientsessions/{session}/heartbeat {beat}"),
            format!("POST {below}/clientsessions/{session}-nobody/heartbeat {beat}"),
            format!("DELETE {below}/clientsessions/{session} "),
            format!("DELETE {below} "),
        ]
    );
}

#[tokio::test]
async fn answers_that_an_adapter_misreads_would_not_work_and_what_was_registered_is_deleted() {
    for (body, said, code) in [
        (r#"{"Role":1,"LastDataProcessedTime":null}"#, "is null", 1),
        (r#"{"Role":1,"LastDataProcessedTime":"2026-10-07T10:00:00+02:00"}"#, "does not end in Z", 1),
        (r#"{"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, "has no Role", 1),
        ("<html>", "no JSON object", 1),
    ] {
        let stranger = Stranger::answering(move || json_body(body));
        let (steps, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], code).await;
        assert!(steps.contains(&"heartbeat WouldNotWork".to_owned()), "{document}");
        assert!(document["Steps"].to_string().contains(said), "{document}");
        assert_eq!(steps[steps.len() - 2..], ["goodbye Ok", "group's end Ok"], "{document}");
    }
    // A service that knows no heartbeats of the released form.
    let stranger = Stranger::answering(|| (404, String::new(), String::new()));
    let (_, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], 3).await;
    assert!(document["Steps"].to_string().contains("heartbeats are not served there"), "{document}");
    // One that answers anybody.
    let stranger = Stranger::start(|_, _, _| json_body(GOOD_ANSWER));
    let (steps, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], 1).await;
    assert!(steps.contains(&"unknown session WouldNotWork".to_owned()), "{document}");
}

#[tokio::test]
async fn a_session_that_is_made_primary_of_a_live_group_after_all_is_deleted_at_once() {
    let stranger = Stranger::start(|request, _, _| match request {
        _ if request.ends_with("/status") => json_body(r#"{"Primary":"a"}"#),
        _ if request.ends_with("/heartbeat") => json_body(&GOOD_ANSWER.replace('0', "1")),
        _ if request.starts_with("DELETE") => (204, String::new(), String::new()),
        _ => (200, String::new(), String::new()),
    });
    let (_, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &["--group", "pump"], 5).await;
    assert!(document["Steps"].to_string().contains("told that it is Primary"), "{document}");
    let heard = stranger.heard();
    let beats = heard.iter().filter(|request| request.contains("/heartbeat")).count();
    assert!(beats == 1 && heard.last().is_some_and(|request| request.starts_with("DELETE")), "{heard:?}");
    assert!(heard.iter().all(|request| !request.ends_with("groups/pump ") || !request.starts_with("DELETE")));
}

/// Two check at the same time, and one of them is done first.
#[tokio::test]
async fn a_group_of_its_own_that_somebody_deletes_meanwhile_is_followed_by_another() {
    let stranger = Stranger::start(|request, _, _| match request {
        _ if request.starts_with("POST /api/v1/clientfailover/groups/adapters-check/") => {
            (404, String::new(), String::new())
        }
        "GET /api/v1/clientfailover/groups/adapters-check" => (404, String::new(), String::new()),
        _ if request.contains("-nobody/") => (404, String::new(), String::new()),
        _ if request.ends_with("/heartbeat") => json_body(GOOD_ANSWER),
        _ => (201, String::new(), "{}".to_owned()),
    });
    let (_, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], 0).await;
    let heard = stranger.heard();
    let last = heard.last().expect("it heard something");
    assert!(last.starts_with("DELETE /api/v1/clientfailover/groups/adapters-check-"), "{heard:?} {document}");
}

#[tokio::test]
async fn what_is_interrupted_deletes_its_session() {
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let stranger = Stranger::start(move |request, _, _| match request {
        _ if request.ends_with("/status") => json_body(r#"{"Primary":"a"}"#),
        _ if request.ends_with("/heartbeat") => {
            let _ = waits.recv();
            json_body(GOOD_ANSWER)
        }
        _ if request.starts_with("DELETE") => (204, String::new(), String::new()),
        _ => (200, String::new(), "{}".to_owned()),
    });
    let mut command = program();
    let url = format!("{}{ON_PREMISES}", stranger.url);
    command.args(["adapters", "check", &url, "--group", "pump"]).env("XDG_CONFIG_HOME", "/nonexistent");
    let mut child = command.spawn().expect("it starts");
    eventually("it heartbeats", async || stranger.heard().iter().any(|request| request.contains("/heartbeat"))).await;
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let ended = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let said: Vec<String> = lines
            .inspect(|line| {
                // The service is free for the goodbye only after the heartbeat was given up.
                if line.contains("it was interrupted") {
                    let _ = go_on.send(());
                }
            })
            .collect();
        (said, child.wait().expect("it ends").code())
    });
    let (said, code) = ended.await.expect("no panic");
    assert_eq!(code, Some(1), "{said:?}");
    let heard = stranger.heard();
    let last = heard.last().expect("it heard something");
    assert!(last.starts_with("DELETE ") && last.contains("/clientsessions/adapters-check-"), "{heard:?} {said:?}");
}

#[tokio::test]
async fn a_clock_that_is_far_from_the_services_is_warned_of() {
    for (date, said) in [
        ("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "ahead of the service's"),
        ("Date: Sat, 06 Nov 2083 08:49:37 GMT\r\n", "behind the service's"),
        ("", "does not say what time it has"),
    ] {
        let stranger = Stranger::start(move |request, _, _| match request {
            _ if request.contains("-nobody/") => (404, String::new(), String::new()),
            _ if request.ends_with("/heartbeat") => json_body(GOOD_ANSWER),
            _ => (201, date.to_owned(), "{}".to_owned()),
        });
        let (steps, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], 0).await;
        assert!(steps.contains(&"clock Warning".to_owned()), "{document}");
        assert!(document["Steps"].to_string().contains(said), "{document}");
    }
}

#[tokio::test]
async fn windows_authentication_is_known_when_it_is_seen() {
    let challenge = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n";
    let stranger = Stranger::start(move |_, _, _| (401, challenge.to_owned(), String::new()));
    let (_, document) = steps(&format!("{}{ON_PREMISES}", stranger.url), &[], 4).await;
    assert!(last(&document).contains("takes Windows authentication alone"), "{document}");
}

#[tokio::test]
async fn client_credentials_are_tried_by_discovery_and_with_a_token_endpoint() {
    let issuer = issuer_of_tokens("t").await;
    let app = TestApp::start_with(|settings| {
        settings.auth =
            AuthOptions { oidc: Some(issuer.options.clone()), clients_create_groups: true, ..AuthOptions::default() };
    })
    .await;
    let dir = new_dir();
    let (secret, wrong) = (file(&dir, "secret", "correct horse\n"), file(&dir, "wrong", "incorrect mule\n"));
    let url = format!("{}{BELOW_TENANT}", app.url);
    let client = ["--client-id", CLIENT_ID, "--client-secret-file", &secret];
    let (_, document) = steps(&url, &client, 0).await;
    assert!(!document.to_string().contains("horse"), "{document}");
    // Two times: the one that was found, and the one that is given.
    let endpoint = format!("{}/connect/token", issuer.stranger.url);
    let given = ["--token-endpoint", &endpoint];
    steps(&url, &[&client[..], &given].concat(), 0).await;
    let heard = issuer.stranger.heard();
    assert_eq!(heard.iter().filter(|request| request.starts_with("POST /connect/token")).count(), 2, "{heard:?}");
    let client = ["--client-id", CLIENT_ID, "--client-secret-file", &wrong];
    let (steps_, document) = steps(&url, &client, 4).await;
    assert_eq!(steps_[1..], ["login WouldNotWork"]);
    assert!(last(&document).contains("Compare ClientId and ClientSecret"), "{document}");
    assert!(!document.to_string().contains("mule"), "{document}");

    // A service that has no issuer, and one that says something else.
    let app = TestApp::start().await;
    let (_, document) = steps(&format!("{}{BELOW_TENANT}", app.url), &client, 3).await;
    assert!(last(&document).contains("Give the issuer's own address as TokenEndpoint"), "{document}");
    let lost = Stranger::answering(|| json_body(GOOD_ANSWER));
    let (_, document) = steps(&format!("{}{BELOW_TENANT}", lost.url), &client, 1).await;
    assert!(last(&document).contains("names no token_endpoint"), "{document}");
}

#[tokio::test]
async fn its_help_is_for_strangers_and_the_flags_of_adapters_belong_together() {
    let mut command = program();
    command.args(["adapters", "check", "--help"]).env("CLIENT_FAILOVER_TOKEN", "secret-in-the-environment");
    let help = run_with(command, "").await.ok();
    for part in ["--group", "--client-id", "--user", "--ca-file", "--output", "CLIENT_FAILOVER_TOKEN", "Exit codes: 0"]
    {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert!(help.contains("without this none counts") && !help.contains("the one named default"), "{help}");
    assert!(!help.contains("--server") && !help.contains("secret-in-the-environment"), "{help}");
    let url = "http://127.0.0.1:9/api/v1/clientfailover";
    for arguments in [
        &["--client-id", "x"][..],
        &["--client-secret-file", "x"],
        &["--token-endpoint", "http://x"],
        &["--client-id", "x", "--client-secret-file", "x", "--user", "y"],
        &["--server", "http://127.0.0.1:9"],
        &["--group", "a/b"],
    ] {
        check(url, arguments).await.fails(2);
    }
}
