//! The operators' word: who is to be Primary, who is not, and which sessions are gone for good.

use std::convert::Infallible;

use super::*;

const DAY: i64 = 86_400_000;

/// A group `g` in which `a` is Primary and `b` could be.
async fn pair() -> TestApp {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!([app.beat("g", "a", 100.0).await, app.beat("g", "b", 100.0).await], [1, 0]);
    app
}

/// Sessions of the group `g` go on for ever, and say in which role they act.
async fn beat_on(app: &TestReplica, sessions: [&str; 2]) -> Infallible {
    let mut roles = [0; 2];
    for (role, session) in roles.iter_mut().zip(sessions) {
        *role = app.beat("g", session, 100.0).await;
    }
    loop {
        for (role, session) in roles.iter_mut().zip(sessions) {
            let acting_as = i64::from(*role == 1);
            *role = app.beat_acting_as("g", session, 100.0, acting_as).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a command does while both are there.
async fn operate_while_they_beat(app: &TestReplica, arguments: &[&str]) -> Ran {
    tokio::select! {
        ran = operate(app, arguments) => ran,
        never = beat_on(app, ["a", "b"]) => match never {},
    }
}

async fn sessions(app: &TestReplica, group: &str) -> Vec<Value> {
    let listed = operate(app, &["sessions", "list", group, "-o", "json"]).await.json();
    listed.as_array().expect("a list").clone()
}

/// Its sessions, in the order of their ids.
async fn ids(app: &TestReplica, group: &str) -> Vec<String> {
    let id = |session: &Value| session["SessionId"].as_str().expect("an id").to_owned();
    let mut ids: Vec<String> = sessions(app, group).await.iter().map(id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_forced_session_becomes_primary_and_is_shown_as_forced() {
    let app = pair().await;
    let said = operate(&app, &["force", "g", "b", "--for", "2h"]).await.ok();
    assert!(lines(&said)[0].starts_with("session b is forced until ") && lines(&said)[1] == "a yields to b.", "{said}");
    assert_eq!(sessions(&app, "g").await[1]["Wish"]["Wish"], "Forced");
    assert_eq!([app.beat("g", "b", 90.0).await, app.beat("g", "a", 100.0).await], [2, 0]);
    assert_eq!(app.beat_acting_as("g", "a", 100.0, 0).await, 0);
    assert_eq!(app.beat("g", "b", 90.0).await, 1, "though it is less healthy");
    for (arguments, part) in [
        (&["sessions", "list", "g"][..], "Primary (forced until "),
        (&["groups", "show", "g"], "b is forced until "),
        (&["status"], "b (forced until "),
        (&["history", "g"], "override"),
        (&["events", "g"], "b (forced, until 20"),
        (&["events", "g"], "WishSet"),
    ] {
        let shown = operate(&app, arguments).await.ok();
        assert!(shown.contains(part), "{part} in {shown}");
    }
    // Another takes its place, and what is forced for programs is the service's own document.
    let outlook = operate(&app, &["force", "g", "a", "-o", "json"]).await.json();
    assert_eq!((&outlook["SessionId"], &outlook["Wish"]["WhenSilent"]), (&json!("a"), &json!("Replace")));
    assert!(operate(&app, &["events", "g"]).await.ok().contains("b (forced, replaced)"));
}

#[tokio::test]
async fn a_group_that_is_vacant_by_wish_says_so_until_the_wish_is_withdrawn() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    let said = operate(&app, &["force", "g", "b", "--hold"]).await.ok();
    assert_eq!(said, "session b is forced, its place held\nNobody is Primary, and nobody becomes it.\n");
    assert_eq!(app.beat("g", "a", 100.0).await, 0);
    assert!(operate(&app, &["status"]).await.ok().contains("held for b"));
    let shown = operate(&app, &["groups", "show", "g"]).await.ok();
    assert!(shown.contains("nobody: the place is held for b, which is forced and silent"), "{shown}");
    let said = operate(&app, &["withdraw", "g", "b"]).await.ok();
    assert_eq!(lines(&said)[..2], ["nothing is wished of session b any more", "a becomes Primary."]);
    operate(&app, &["exclude", "g", "a"]).await.ok();
    assert_eq!(app.beat("g", "a", 100.0).await, 0);
    assert!(operate(&app, &["status"]).await.ok().contains("all are excluded"));
    let shown = operate(&app, &["groups", "show", "g"]).await.ok();
    assert!(shown.contains("nobody: all sessions that are live are excluded"), "{shown}");
    operate(&app, &["withdraw", "g", "a"]).await.ok();
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let events = operate(&app, &["events", "g"]).await.ok();
    for part in ["b (forced, its place held)", "b (forced, its place held, withdrawn)", "a (excluded, withdrawn)"] {
        assert!(events.contains(part), "{part} in {events}");
    }
}

#[tokio::test]
async fn an_exclusion_for_a_time_ends_by_itself() {
    let app = pair().await;
    let said = operate(&app, &["exclude", "g", "b", "--for", "300ms"]).await.ok();
    assert!(said.starts_with("session b is excluded until ") && said.ends_with("\na stays Primary.\n"), "{said}");
    eventually("it ended", async || operate(&app, &["events", "g"]).await.ok().contains("b (excluded, expired)")).await;
    assert_eq!(sessions(&app, "g").await[1]["Wish"], Value::Null);
}

#[tokio::test]
async fn a_switch_over_is_waited_for_and_who_took_over_is_said() {
    let app = pair().await;
    let said = operate_while_they_beat(&app, &["switchover", "g", "--to", "b"]).await.ok();
    assert!(said.starts_with("b took over from a after ") && lines(&said).len() == 1, "{said}");
    let said = operate_while_they_beat(&app, &["switchover", "g"]).await.ok();
    assert!(said.starts_with("a took over from b after "), "{said}");
    assert_eq!(operate_while_they_beat(&app, &["switchover", "g", "--to", "a"]).await.ok(), "a is Primary already\n");
    let ran = operate_while_they_beat(&app, &["switchover", "g", "--to", "b", "-o", "yaml"]).await;
    assert!(ran.err.contains("b took over from a after "), "{ran:?}");
    assert_eq!(ran.yaml()["Wish"]["Wish"], "SwitchTo");
}

#[tokio::test]
async fn a_switch_over_that_does_not_come_about_is_given_up_or_cancelled() {
    let app = pair().await;
    let said = operate(&app, &["switchover", "g", "--for", "300ms"]).await.fails(1);
    assert!(said.contains("the switch-over was given up, and a is Primary"), "{said}");
    let said = operate(&app, &["switchover", "g", "--to", "b", "--wait", "0"]).await.ok();
    assert!(lines(&said)[0].starts_with("the switch-over to b is under way until "), "{said}");
    assert!(operate(&app, &["sessions", "list", "g"]).await.ok().contains("(to take over)"));
    let said = operate(&app, &["switchover", "g", "--to", "b", "--wait", "200ms"]).await.fails(1);
    assert!(said.contains("in 200 ms the switch-over has not come about") && said.contains("--cancel"), "{said}");
    let said = operate(&app, &["switchover", "g", "--cancel"]).await.ok();
    assert_eq!(said, "no switch-over is under way any more\na stays Primary.\n");
    assert_eq!(sessions(&app, "g").await[1]["Wish"], Value::Null);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_for_how_long_nobody_is_primary() {
    let app = pair().await;
    let changes = app.database.rows("SELECT * FROM configuration_changes").await.len();
    for command in
        [&["switchover", "g", "--to", "b"][..], &["switchover", "g"], &["force", "g", "b"], &["exclude", "g", "a"]]
    {
        let said = operate(&app, &[command, &["--dry-run"]].concat()).await.ok();
        assert_eq!((lines(&said)[0], lines(&said).len()), ("a yields to b.", 3), "{command:?}: {said}");
        for line in &lines(&said)[1..] {
            for part in ["If its clients ", "a yields after ", "b is Primary after ", "nobody is Primary for "] {
                assert!(line.contains(part), "{command:?}: {part} in {line}");
            }
        }
        let outlook = operate(&app, &[command, &["--dry-run", "-o", "json"]].concat()).await.json();
        let without = |clients: &str| outlook[clients]["WithoutPrimaryMs"].as_i64().expect("a number");
        assert!(without("IfAttentive") < without("IfSilent") && without("IfSilent") <= 2 * MINUTE, "{outlook}");
    }
    let said = operate(&app, &["withdraw", "g", "a", "--dry-run"]).await.ok();
    assert_eq!(said, "a stays Primary.\n");
    assert_eq!(app.database.rows("SELECT * FROM session_wishes").await, [Value::Null; 0]);
    assert_eq!(app.database.rows("SELECT * FROM configuration_changes").await.len(), changes);
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
}

#[tokio::test]
async fn what_cannot_come_about_or_is_not_there_is_refused_with_what_helps() {
    let app = pair().await;
    app.post("/g/clientsessions", json!({"Id": "silent"})).await.expect_ok();
    for more in [&[][..], &["--dry-run"]] {
        let said = operate(&app, &[&["switchover", "g", "--to", "silent"], more].concat()).await.fails(5);
        for part in ["'silent' of group 'g' is not live", "Resolution: Start its client", "force it"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    operate(&app, &["force", "g", "a"]).await.ok();
    let said = operate(&app, &["switchover", "g", "--to", "b"]).await.fails(5);
    assert!(said.contains("'a' of group 'g' is forced") && said.contains("Withdraw that wish first"), "{said}");
    for command in [&["force", "g", "slient"][..], &["withdraw", "g", "slient"], &["switchover", "g", "--to", "slient"]]
    {
        let said = operate(&app, command).await.fails(3);
        assert!(said.contains("Hint: did you mean 'silent'?"), "{command:?}: {said}");
    }
    app.group_of("pump", MINUTE, &[]).await;
    for command in [&["exclude", "pmup", "a"][..], &["switchover", "pmup"], &["sessions", "prune", "pmup"]] {
        let said = operate(&app, command).await.fails(3);
        assert!(said.contains("did you mean 'pump'?"), "{command:?}: {said}");
    }
    operate(&app, &["exclude", "g", "b", "--for", "2000d"]).await.fails(2);
    for arguments in [
        &["switchover", "g", "--cancel", "--to", "b"][..],
        &["switchover", "g", "--cancel", "--wait", "0"],
        &["switchover", "g", "--dry-run", "--wait", "1"],
        &["switchover", "g", "--wait", "soon"],
        &["force", "g"],
        &["force", "g", "b", "--for", "0s"],
        &["exclude", "g", "b", "--hold"],
        &["withdraw", "g", "b", "--for", "1h"],
        &["sessions", "prune"],
        &["sessions", "prune", "g", "--all-in-namespace"],
    ] {
        let ran = operate(&app, arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
    }
}

#[tokio::test]
async fn only_sessions_that_have_been_silent_for_long_are_pruned() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["kept", "live", "never", "old"]).await;
    app.group_of("h", MINUTE, &["older"]).await;
    for (group, session) in [("g", "kept"), ("g", "live"), ("g", "old"), ("h", "older")] {
        app.beat(group, session, 100.0).await;
    }
    app.database.let_time_pass(40 * DAY).await;
    app.database.execute("UPDATE sessions SET role_changed_at = role_changed_at - interval '40 days'").await;
    app.post("/g/clientsessions", json!({"Id": "new"})).await.expect_ok();
    app.beat("g", "live", 100.0).await;
    operate(&app, &["exclude", "g", "kept"]).await.ok();
    let all = ["kept", "live", "never", "new", "old"];

    let ran = operate(&app, &["sessions", "prune", "g", "--dry-run"]).await;
    for part in ["session kept of g is kept: it is excluded", "session never of g is kept: it never sent a heartbeat"] {
        assert!(ran.err.contains(part), "{part} in {ran:?}");
    }
    assert_eq!(ran.ok(), "session old of g deleted, silent for 40 d (dry run)\n");
    let ran = operate(&app, &["sessions", "prune", "g", "--silent-for", "50d"]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", "no session has been silent for so long\n"));
    assert_eq!(ids(&app, "g").await, all);

    assert_eq!(operate(&app, &["sessions", "prune", "g"]).await.ok(), "session old of g deleted, silent for 40 d\n");
    assert_eq!(ids(&app, "g").await, ["kept", "live", "never", "new"]);
    let said = operate(&app, &["sessions", "prune", "--all-in-namespace", "-o", "json"]).await.json();
    assert_eq!((&said[0]["GroupId"], &said[0]["SessionId"]), (&json!("h"), &json!("older")));
    assert_eq!((said[0]["SilentMs"].as_i64() >= Some(40 * DAY), said.as_array().map(Vec::len)), (true, Some(1)));
    let said = operate(&app, &["sessions", "prune", "--all-in-namespace", "--never-heard"]).await.ok();
    assert_eq!(said, "session never of g deleted, never heard\n");
    assert_eq!(ids(&app, "g").await, ["kept", "live", "new"]);
    assert_eq!(operate(&app, &["sessions", "prune", "g", "--never-heard", "-o", "yaml"]).await.ok(), "[]\n");
}

#[tokio::test]
async fn somebody_at_a_terminal_is_told_what_would_happen_and_asked() {
    let app = pair().await;
    let size = (24, 200);
    for (arguments, question) in [
        (&["force", "g", "b"][..], "Force the session b of the group t/n/g, at http://"),
        (&["exclude", "g", "a"], "Exclude the session a of the group t/n/g, at http://"),
        (&["switchover", "g"], "Switch over to the best of the others in the group t/n/g, at http://"),
    ] {
        let asked = Terminal::run(operator(&app.url, arguments), size, "n\n").await;
        let place = |text: &str| asked.text.find(text);
        assert!(asked.code == 1 && place("nothing was changed").is_some(), "{asked:?}");
        assert!(place("a yields to b.").is_some() && place("a yields to b.") < place(question), "{asked:?}");
    }
    assert_eq!(app.database.rows("SELECT * FROM session_wishes").await, [Value::Null; 0]);
    let asked = Terminal::run(operator(&app.url, &["exclude", "g", "b"]), size, "y\n").await;
    assert!(asked.code == 0 && asked.text.contains("session b is excluded"), "{asked:?}");
    assert_eq!(asked.text.matches("a stays Primary.").count(), 1, "{asked:?}");
    let unasked = Terminal::run(operator(&app.url, &["force", "g", "a", "--yes"]), size, "").await;
    assert!(unasked.code == 0 && !unasked.text.contains("[y/N]"), "{unasked:?}");
    operate(&app, &["withdraw", "g", "b"]).await.ok();
    app.database.let_time_pass(40 * DAY).await;
    let asked = Terminal::run(operator(&app.url, &["sessions", "prune", "g"]), size, "n\n").await;
    assert!(asked.code == 1 && asked.text.contains("nothing was deleted"), "{asked:?}");
    assert!(asked.text.contains("session b of g, silent for 40 d"), "{asked:?}");
    assert_eq!(ids(&app, "g").await, ["a", "b"]);
}

#[tokio::test]
async fn their_help_is_for_strangers_too() {
    for arguments in [&["switchover"][..], &["force"], &["exclude"], &["withdraw"], &["sessions", "prune"]] {
        let mut command = program();
        command.args(arguments).arg("--help");
        let help = run_with(command, "").await.ok();
        for part in ["--server", "--output", "--dry-run", "[profiles.default]", "Exit codes: 0 done"] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
