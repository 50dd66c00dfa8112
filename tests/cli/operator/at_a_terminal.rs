//! What is different where somebody sits at a terminal.

use super::*;

#[tokio::test]
async fn no_name_drives_the_terminal() {
    let app = TestApp::start().await;
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\r\n\u{202e}\u{7f}";
    app.put("/g", json!({"Name": evil, "Description": evil})).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "a b", "Name": evil})).await.expect_ok();
    // No new one gets such an id; one from before has it.
    app.database.execute("UPDATE sessions SET session_id = '\u{202e}a b'").await;
    let in_terminal = Terminal::run(operator(&app.url, &["groups", "show", "g"]), (24, 80), "").await;
    assert!(in_terminal.text.contains("\\u{1b}[2J") && !in_terminal.text.contains('\u{202e}'), "{in_terminal:?}");
    for command in
        [&["groups", "list"][..], &["groups", "show", "g"], &["sessions", "list", "g"], &["events"], &["status"]]
    {
        for format in ["table", "json", "yaml"] {
            let out = operate(&app, &[command, &["-o", format]].concat()).await.ok();
            let bad: Vec<char> = out.chars().filter(|c| c.is_control() && *c != '\n').collect();
            assert!(bad.is_empty(), "{command:?} {format}: {out:?}");
        }
    }
    assert_eq!(operate(&app, &["groups", "show", "g", "-o", "json"]).await.json()["Name"], evil);
    assert_eq!(operate(&app, &["groups", "show", "g", "-o", "yaml"]).await.yaml()["Name"], evil);
    let said = operate(&app, &["sessions", "delete", "g", "\u{202e}none"]).await.fails(3);
    assert!(!said.contains('\u{202e}'), "{said:?}");
    assert_eq!(operate(&app, &["sessions", "delete", "g", "\u{202e}a b"]).await.ok(), "session \\u{202e}a b deleted\n");
}

#[tokio::test]
async fn tables_fit_a_terminal_and_colours_only_that() {
    let app = TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await;
    let long = format!("group-{}", "x".repeat(90));
    app.group_of(&long, MINUTE, &["a-session-with-quite-a-long-name-of-its-own-too", "b"]).await;
    app.beat(&long, "b", 12.345_678).await;
    eventually("it is at risk", async || operate(&app, &["status", "--check"]).await.code == 7).await;
    for arguments in [&["status"][..], &["groups", "list"], &["sessions", "list", &long], &["history", &long]] {
        let shown = Terminal::run(operator(&app.url, arguments), (24, 80), "").await;
        assert_eq!(shown.code, 0, "{shown:?}");
        let widest = shown.lines().iter().map(|line| line.chars().count()).max();
        assert!(
            widest <= Some(80) && shown.text.contains('…') == arguments.contains(&"list") | (arguments[0] == "status"),
            "{shown:?}"
        );
        let mut plain = operator(&app.url, arguments);
        plain.env("NO_COLOR", "1");
        let plain = Terminal::run(plain, (24, 80), "").await;
        assert!(shown.raw.contains("\x1b[") && !plain.raw.contains("\x1b["), "{shown:?}");
        let piped = operate(&app, arguments).await.ok();
        assert!(!piped.contains('\x1b') && !piped.contains('…'), "{piped}");
    }
    assert!(operate(&app, &["status"]).await.ok().contains(&long), "in a pipe nothing is cut");
}

#[tokio::test]
async fn somebody_at_a_terminal_is_asked_before_a_deletion() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    for answer in ["n\n", "\n", "nonsense\n"] {
        let asked = Terminal::run(operator(&app.url, &["groups", "delete", "g"]), (24, 80), answer).await;
        assert_eq!(asked.code, 1, "{asked:?}");
        assert!(
            asked.text.contains("Delete the group t/n/g, at http://") && asked.text.contains("nothing was deleted"),
            "{asked:?}"
        );
    }
    let asked = Terminal::run(operator(&app.url, &["sessions", "delete", "g", "a"]), (24, 80), "y\n").await;
    assert!(asked.code == 0 && asked.text.contains("session a deleted"), "{asked:?}");
    let unasked = Terminal::run(operator(&app.url, &["groups", "delete", "g", "--yes"]), (24, 80), "").await;
    assert!(unasked.code == 0 && !unasked.text.contains("[y/N]"), "{unasked:?}");
}

#[tokio::test]
async fn whoever_deletes_what_is_live_is_shown_what_will_happen_and_the_client_is_waited_for() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    for session in ["a", "b"] {
        app.beat("g", session, 100.0).await;
    }
    let size = (24, 300);
    for (arguments, consequences) in [
        (&["sessions", "delete", "g", "a"][..], "a is Primary, and does not know of this until its next heartbeat."),
        (&["sessions", "delete", "g", "a"], "Nobody else is Primary before its lease has run out: for up to "),
        (&["sessions", "delete", "g", "b"], "b is not Primary, and live"),
        (&["sessions", "delete", "g", "c"], "c is silent."),
        (&["sessions", "delete", "g", "d"], "d is not there."),
        (&["groups", "delete", "g", "--force"], "2 of its 3 sessions are live. a is Primary"),
        (&["groups", "delete", "g", "--force"], "its terms go on from 1."),
    ] {
        let asked = Terminal::run(operator(&app.url, arguments), size, "n\n").await;
        let place = |text: &str| asked.text.find(text);
        assert!(place(consequences).is_some() && place(consequences) < place("[y/N]"), "{arguments:?}: {asked:?}");
    }
    assert_eq!(operate(&app, &["sessions", "delete", "g", "a"]).await.ok(), "session a deleted\n");
    assert_eq!(app.beat("g", "b", 100.0).await, 2, "not before the lease of a has run out");
    assert_eq!(operate(&app, &["groups", "delete", "g", "--force"]).await.ok(), "group g deleted\n");
    app.group_of("g", MINUTE, &["b"]).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 2);
}

#[tokio::test]
async fn a_timeout_that_gets_shorter_is_warned_of() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &[]).await;
    let shorter = "Id: g\nFailoverTimeout: 00:00:30\n";
    for arguments in [&["groups", "apply", "-f", "-", "--dry-run"][..], &["groups", "apply", "-f", "-"]] {
        let ran = run_with(operator(&app.url, arguments), shorter).await;
        assert!(ran.code == 0 && ran.err.contains("the timeout gets shorter, from 00:01:00 to 00:00:30"), "{ran:?}");
    }
    for not_shorter in [shorter, "Id: g\nFailoverTimeout: 00:02:00\n"] {
        let ran = run_with(operator(&app.url, &["groups", "apply", "-f", "-"]), not_shorter).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    }
}

#[tokio::test]
async fn watching_shows_a_change_as_it_happens() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    // So seldom that only the stream of events can be what it hears of a change by.
    let watch = &["status", "--watch", "--interval", "1h"];
    let terminal = Terminal::start(operator(&app.url, watch), (10, 60));
    terminal.shows("live").await;
    terminal.shows("1 group, 1 at risk").await;
    app.beat("g", "a", 100.0).await;
    terminal.shows("g      NoStandby  a").await;
    app.beat("g", "b", 100.0).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.beat("g", "b", 100.0).await;
    terminal.shows("g      NoStandby  b").await;
    terminal.interrupt();
    let ended = terminal.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.raw.starts_with("\x1b[?1049h") && ended.raw.trim_end().ends_with("\x1b[?1049l"), "{ended:?}");
    assert!(ended.lines().iter().all(|line| line.chars().count() <= 60), "{ended:?}");

    // In a pipe: the table again, when more has changed in it than durations.
    let mut piped = Going::start(operator(&app.url, &["status", "--watch", "--interval", "100ms"]));
    let mut table = vec![piped.line().await, piped.line().await];
    app.delete("/g/clientsessions/b").await.expect_ok();
    table.extend([piped.line().await, piped.line().await, piped.line().await]);
    assert!(
        table[1].starts_with("g      NoStandby  b") && table[2].is_empty() && table[4].starts_with("g      -"),
        "{table:?}"
    );
}
