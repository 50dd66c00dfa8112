//! What operators do on the page, in a real browser, to a real service.

use std::process::Stdio;

use client_failover::access::AuthOptions;
use client_failover_workshop::needs;
use reqwest::Method;
use serde_json::{Value, json};

use super::shows::no_faults;
use crate::support::browser::{Browser, ENTER, ESCAPE, TAB};
use crate::support::credentials::{add_user, basic, create_key, new_dir};
use crate::support::helpers::{Answer, TestApp, TestReplica, eventually, settings, without_sweeps};

const MINUTE: i64 = 60_000;
const PRIMARY: i64 = 1;
const SECONDARY: i64 = 0;

/// A service in which time passes only where a test lets it, and a group of a Primary `a` and a
/// standby `b`.
async fn start() -> TestApp {
    let app = TestApp::start_with(without_sweeps).await;
    app.pair("pump").await;
    app
}

/// A service that asks who somebody is, with the admin `eve`, and one that does not, for clients.
async fn start_closed() -> (TestApp, TestReplica) {
    let users = new_dir().join("users.toml");
    add_user(&users, "eve", "correct horse", &["--tenant", "t", "--role", "admin"]).await;
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        settings.auth = AuthOptions { users_file: Some(users), api_keys: true, ..AuthOptions::default() };
    })
    .await;
    let mut open = settings(app.database.connect_options());
    without_sweeps(&mut open);
    let clients = TestReplica::start(open).await;
    // Leases that no busy machine lets lapse.
    clients.group_of("pump", 30 * MINUTE, &["a", "b"]).await;
    assert_eq!(clients.beat("pump", "a", 100.0).await, PRIMARY);
    assert_eq!(clients.beat("pump", "b", 100.0).await, SECONDARY);
    (app, clients)
}

/// Signs in as `eve`.
async fn sign_in(browser: &Browser) {
    browser.shows("h1", "Sign in").await;
    browser.click("input[value=password]").await;
    browser.fill("#name", "eve").await;
    browser.press(&format!("{TAB}correct horse{ENTER}")).await;
}

/// Opens the dialog of a button, and waits until it says what would come of it.
async fn open(browser: &Browser, button: &str) {
    let there = format!("document.querySelector({})?.checkVisibility() === true", Value::from(button));
    browser.until(&there).await;
    browser.click(button).await;
    until_state(browser, "foreseen").await;
}

async fn until_state(browser: &Browser, state: &str) {
    browser.until(&format!("document.querySelector('dialog')?.dataset.state === '{state}'")).await;
}

/// Does what the dialog offers, reads what came of it, and closes it.
async fn confirm(browser: &Browser) -> String {
    browser.click("dialog [type=submit]").await;
    until_state(browser, "done").await;
    let said = browser.text("dialog .outlook").await;
    browser.press(ESCAPE).await;
    browser.until("document.querySelector('dialog') === null").await;
    said
}

const SWITCH_OVER: &str = ".hands button:nth-of-type(1)";
const EDIT: &str = ".hands button:nth-of-type(2)";
const DELETE_GROUP: &str = ".hands button:nth-of-type(3)";

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_switch_over_says_first_what_would_come_of_it_and_then_what_it_took() {
    let app = start().await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    open(&browser, SWITCH_OVER).await;
    browser.shows("dialog .outlook", "b becomes Primary, in the place of a, after ").await;
    browser.shows("dialog .outlook", "if clients acknowledge, otherwise ").await;
    browser.shows("dialog .outlook", "Nobody would be Primary for 2 ms if clients acknowledge").await;
    // Nothing has been done, and nothing is by going away.
    browser.press(ESCAPE).await;
    browser.until("document.querySelector('dialog') === null").await;
    assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());

    open(&browser, "[aria-label='Switch over to b']").await;
    assert_eq!(browser.eval("document.querySelector('#act-to').value").await, "b");
    browser.click("dialog [type=submit]").await;
    let clients = async {
        eventually("it is wished", async || !app.database.rows("SELECT * FROM session_wishes").await.is_empty()).await;
        eventually("b takes over", async || {
            app.beat("pump", "a", 100.0).await;
            app.beat_acting_as("pump", "a", 100.0, SECONDARY).await;
            app.beat("pump", "b", 100.0).await == PRIMARY
        })
        .await;
    };
    tokio::join!(until_state(&browser, "done"), clients);
    browser.shows("dialog .outlook", "b is Primary. It took ").await;
    browser.shows("dialog .outlook", "Nobody was Primary for ").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('dialog') === null").await;
    browser.shows(".facts", "Primary b since").await;
    browser.shows(".history tbody tr", "b PendingPrimary → Primary").await;
    browser.shows(".deeds tbody tr", "To be switched over to, until ").await;
    browser.shows(".deeds tbody tr", "No longer switched over to: it has come about b the service").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_session_that_is_kept_out_is_shown_with_its_end_and_who_wished_it_and_is_let_in_again() {
    let (app, clients) = start_closed().await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    sign_in(&browser).await;
    open(&browser, "[aria-label='Keep a out']").await;
    browser.shows("dialog .outlook", "b becomes Primary, in the place of a").await;
    browser.click("#act-term option[value='3600']").await;
    until_state(&browser, "foreseen").await;
    let said = confirm(&browser).await;
    assert!(said.starts_with("a is kept out, until "), "{said}");
    browser.shows(".wishes li", "An operator has excluded a: it is not Primary, until ").await;
    // The focus is where the button was.
    assert_eq!(browser.eval("document.activeElement.closest('tr') !== null").await, true);
    let wish = app
        .database
        .rows("SELECT wish, wished_until > clock_timestamp() + interval '59 min' AS is_long FROM session_wishes")
        .await;
    assert_eq!(wish, [json!({"wish": "excluded", "is_long": true})]);
    browser.shows(".deeds tbody tr:first-child", "To be kept out, until ").await;
    browser.shows(".deeds tbody tr:first-child", "a basic:eve").await;
    // What would be refused is not offered.
    clients.beat("pump", "a", 100.0).await;
    clients.beat_acting_as("pump", "a", 100.0, SECONDARY).await;
    assert_eq!(clients.beat("pump", "b", 100.0).await, PRIMARY);
    browser.shows(".facts", "Primary b since").await;
    browser.until(&format!("document.querySelector('{SWITCH_OVER}').hidden")).await;

    open(&browser, ".wishes button").await;
    browser.shows("dialog h2", "Withdraw what is wished of a").await;
    let said = confirm(&browser).await;
    assert!(said.starts_with("It is withdrawn."), "{said}");
    browser.until("document.querySelector('.wishes').hidden").await;
    browser.shows(".deeds tbody tr:first-child", "No longer kept out: withdrawn a basic:eve").await;
    no_faults(&browser).await;
    clients.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_forced_session_may_hold_its_place_and_until_a_time() {
    let app = start().await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    open(&browser, "[aria-label='Force b']").await;
    browser.click("dialog input[value=Hold]").await;
    browser.click("#act-term option[value='until']").await;
    browser.shows("dialog .outlook", "Enter until when.").await;
    // What is missing is said, and nothing is done.
    browser.click("dialog [type=submit]").await;
    browser.shows("dialog .problem", "Enter until when.").await;
    // A browser's own field has an order of its own, which is the reader's.
    let enter = "(() => {
        const one = document.querySelector('#act-until');
        one.value = '2099-01-02T03:04';
        one.dispatchEvent(new Event('input', { bubbles: true }));
    })()";
    browser.eval(enter).await;
    until_state(&browser, "foreseen").await;
    let said = confirm(&browser).await;
    assert!(said.starts_with("b is forced, until 2099-01-02 03:04:00."), "{said}");
    let wish = app.database.rows("SELECT session_id, wish, when_silent FROM session_wishes").await;
    assert_eq!(wish, [json!({"session_id": "b", "wish": "forced", "when_silent": "hold"})]);
    browser.shows(".wishes li", "An operator has forced b").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_silent_session_is_deleted_and_a_live_one_is_not_offered() {
    let (app, clients) = start_closed().await;
    clients.post("/pump/clientsessions", json!({"Id": "dead"})).await.expect_ok();
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    sign_in(&browser).await;
    open(&browser, "[aria-label='Delete session dead']").await;
    assert_eq!(browser.eval("document.querySelectorAll('[aria-label^=\"Delete session\"]').length").await, 1);
    browser.shows("dialog .outlook", "a is Primary, and stays so.").await;
    assert_eq!(clients.get("/pump/status").await.expect_ok()["RegisteredSessions"], 3, "nothing is done yet");
    let said = confirm(&browser).await;
    assert_eq!(said, "dead is deleted.");
    assert_eq!(clients.get("/pump/status").await.expect_ok()["RegisteredSessions"], 2);
    browser.until("document.querySelectorAll('.sessions tbody tr').length === 2").await;
    // Its row is gone, and the focus with it: it is at the head of the page.
    browser.until("document.activeElement.tagName === 'H1'").await;
    browser.shows(".deeds tbody tr:first-child", "Session deleted dead basic:eve").await;
    no_faults(&browser).await;
    clients.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_group_is_created_edited_and_deleted_by_whoever_types_its_id() {
    let app = TestApp::start_with(without_sweeps).await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/n/t/n", app.url)).await;
    let create = "h1 + span button";
    browser.until(&format!("document.querySelector('{create}') !== null")).await;
    browser.click(create).await;
    browser.shows("dialog .outlook", "Enter an id").await;
    browser.press(&format!("press{TAB}Press 4{TAB}On line 2.{TAB}3600")).await;
    until_state(&browser, "foreseen").await;
    browser.click("dialog [type=submit]").await;
    browser.shows("dialog .outlook", "press is created.").await;
    browser.click("dialog a").await;
    browser.shows("h1", "press").await;
    assert_eq!(browser.eval("document.querySelector('dialog')").await, Value::Null);
    let group = app.get("/press").await.expect_ok();
    assert_eq!(
        (&group["Name"], &group["Description"], &group["Milliseconds"]),
        (&json!("Press 4"), &json!("On line 2."), &json!(3_600_000))
    );

    app.post("/press/clientsessions", json!({"Id": "left"})).await.expect_ok();
    assert_eq!(app.beat("press", "left", 100.0).await, PRIMARY);
    browser.shows(".facts", "Primary left since").await;
    open(&browser, EDIT).await;
    browser.shows("dialog .outlook", "left is Primary, and stays so.").await;
    browser.fill("#act-timeout", "0.05").await;
    browser.shows("dialog .outlook", "The timeout is from 0.1 seconds").await;
    browser.fill("#act-timeout", "750.5").await;
    browser.fill("#act-description", "").await;
    browser.press("On line 3.").await;
    until_state(&browser, "foreseen").await;
    confirm(&browser).await;
    browser.shows(".facts", "Failover timeout 12 min 30 s").await;
    let group = app.get("/press").await.expect_ok();
    assert_eq!(
        (&group["Name"], &group["Description"], &group["Milliseconds"]),
        (&json!("Press 4"), &json!("On line 3."), &json!(750_500))
    );
    browser.shows(".deeds tbody tr", "Group changed, failover timeout 12 min 30 s").await;

    browser.click(DELETE_GROUP).await;
    browser.shows("dialog .outlook", "Its only session would be deleted with it: it is live.").await;
    browser.shows("dialog .outlook", "left is Primary: its next heartbeat is refused").await;
    browser.press(&format!("pres{ENTER}")).await;
    browser.shows("dialog .problem", "Type the id of the group").await;
    browser.press("s").await;
    until_state(&browser, "foreseen").await;
    app.get("/press").await.expect_ok();
    browser.press(ENTER).await;
    until_state(&browser, "done").await;
    app.get("/press").await.expect_error(404);
    browser.press(ENTER).await;
    browser.shows(".group > .problem", "This group was deleted at ").await;
    browser.until("document.querySelector('.hands').hidden").await;
    browser.until("document.activeElement.tagName === 'H1'").await;
    browser.shows(".deeds tbody tr:first-child", "Group deleted").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn the_keyboard_alone_does_it_and_the_focus_stays_in_the_dialog_and_comes_back() {
    let app = start().await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    browser.until("document.querySelector('.hands:not([hidden])') !== null").await;
    browser.eval("document.querySelector('h1').focus()").await;
    let focused = "(document.activeElement.ariaLabel ?? document.activeElement.innerText).trim()";
    let mut walk = Vec::new();
    for _ in 0..5 {
        browser.press(TAB).await;
        walk.push(browser.eval(focused).await);
    }
    assert_eq!(walk, ["Switch over…", "Edit…", "Delete group…", "Force a", "Keep a out"]);
    browser.press(ENTER).await;
    until_state(&browser, "foreseen").await;
    assert_eq!(browser.eval("document.activeElement.id").await, "act-term");
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().expect("an array");
    let dialog = nodes.iter().find(|node| node["role"]["value"] == "dialog").expect("it is a dialog");
    assert_eq!(dialog["name"]["value"], "Keep a out");
    // All round, and back to where it began. The browser's own bar may have a turn.
    let mut within = Vec::new();
    for _ in 0..10 {
        browser.press(TAB).await;
        within.push(
            browser
                .eval("document.activeElement.closest('dialog') !== null || document.activeElement === document.body")
                .await,
        );
    }
    assert!(within.iter().all(|is_within| is_within == true), "{within:?}");
    browser.press(ESCAPE).await;
    browser.until("document.querySelector('dialog') === null").await;
    assert_eq!(browser.eval(focused).await, "Keep a out");
    assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());

    // And it is done.
    browser.press(ENTER).await;
    until_state(&browser, "foreseen").await;
    browser.eval("document.querySelector('dialog .cancel').focus()").await;
    browser.press(&format!("{TAB}{ENTER}")).await;
    until_state(&browser, "done").await;
    assert_eq!(browser.eval(focused).await, "Close");
    browser.press(ENTER).await;
    browser.shows(".wishes li", "An operator has excluded a").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn whoever_may_not_act_sees_no_button_and_loads_none() {
    let (app, clients) = start_closed().await;
    let asked =
        "performance.getEntriesByType('resource').some((one) => one.name.endsWith('/whoami') && one.responseEnd > 0)";
    let loads = "performance.getEntriesByType('resource').some((one) => one.name.endsWith('/page/actions.js'))";
    for (name, grant, has_hands) in [
        ("viewer", vec!["--role", "viewer"], false),
        ("client", vec!["--role", "client"], false),
        ("others", vec!["--role", "admin", "--namespace", "n", "--group", "boiler-*"], false),
        ("these", vec!["--role", "admin", "--namespace", "n", "--group", "pu*p"], true),
    ] {
        let mut arguments = vec!["--tenant", "t"];
        arguments.extend(grant);
        let (_, key) = create_key(&app.database, name, &arguments).await;
        let browser = Browser::start().await;
        browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
        browser.shows("h1", "Sign in").await;
        browser.fill("#secret", &format!("{key}{ENTER}")).await;
        if name == "others" {
            // They may not even look at this one.
            browser.until("document.querySelector('.door h1') !== null && !document.querySelector('#secret')").await;
            continue;
        }
        browser.shows(".facts", "Primary a since").await;
        browser.until(asked).await;
        if has_hands {
            browser.until("document.querySelectorAll('td.acts button').length > 0").await;
        } else {
            // Another read has come by meanwhile, after which they would be there.
            clients.delete("/pump/clientsessions/b").await.expect_ok();
            browser.shows(".risks", "Nobody could take over").await;
            clients.post("/pump/clientsessions", json!({"Id": "b"})).await.expect_ok();
            clients.beat("pump", "b", 100.0).await;
            browser.until("document.querySelectorAll('.sessions tbody tr').length === 2").await;
            assert_eq!(browser.eval("document.querySelectorAll('.hands, .acts').length").await, 0, "{name}");
            assert_eq!(browser.eval(loads).await, false, "{name}");
        }
        no_faults(&browser).await;
    }
    clients.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn what_is_refused_says_why_and_what_helps() {
    let app = start().await;
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    open(&browser, "[aria-label='Switch over to b']").await;
    // Somebody else is faster: what is foreseen is asked for anew, and is another thing now.
    app.post("/pump/clientsessions/b/wish", json!({"Wish": "Excluded"})).await.expect_accepted();
    browser.shows("dialog .problem", "is excluded").await;
    browser.shows("dialog .problem", "End its exclusion first, or switch over to another.").await;
    assert_eq!(browser.eval("document.querySelector('dialog [type=submit]').ariaDisabled").await, "true");
    browser.click("dialog [type=submit]").await;
    browser.press(ESCAPE).await;
    let switched = "SELECT wish FROM session_wishes WHERE wish <> 'excluded'";
    assert!(app.database.rows(switched).await.is_empty());

    // And what is refused only when it is done: the dialog stays, with what was entered.
    browser.go(&format!("{}/#/n/t/n", app.url)).await;
    browser.until("document.querySelector('h1 + span button') !== null").await;
    browser.click("h1 + span button").await;
    browser.press(&format!("pump{TAB}Another pump")).await;
    until_state(&browser, "foreseen").await;
    browser.click("dialog [type=submit]").await;
    browser.shows("dialog .problem", "pump").await;
    until_state(&browser, "failed").await;
    assert_eq!(browser.eval("document.querySelector('#act-id').value").await, "pump");
    browser.fill("#act-id", "pump-2").await;
    until_state(&browser, "foreseen").await;
    browser.until("document.querySelector('dialog .problem').innerText === ''").await;
    confirm(&browser).await;
    app.get("/pump-2").await.expect_ok();
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver", "curl")]
#[tokio::test]
async fn the_request_that_is_shown_does_the_same_in_a_shell() {
    let (app, clients) = start_closed().await;
    let session = "it's \"$HOME\" `id` ü";
    clients.post("/pump/clientsessions", json!({"Id": session})).await.expect_ok();
    let browser = Browser::start().await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    sign_in(&browser).await;
    browser.shows(".sessions tbody tr", session).await;
    let run = async |command: Value| {
        let command = command.as_str().expect("a text").to_owned();
        assert!(command.contains("\"Authorization: $AUTHORIZATION\"") && !command.contains("Basic"), "{command}");
        let ran = tokio::process::Command::new("sh")
            .args(["-c", &command])
            .env("AUTHORIZATION", basic("eve", "correct horse"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("sh is there");
        assert!(ran.status.success(), "{command}: {ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let keep_out = "[...document.querySelectorAll('td.acts button')].findLast((one) => one.innerText === 'Keep out…')";
    browser.until(&format!("{keep_out} !== undefined")).await;
    browser.eval(&format!("{keep_out}.click()")).await;
    until_state(&browser, "foreseen").await;
    let said = run(browser.eval("document.querySelector('dialog pre').textContent").await).await;
    assert!(said.contains("\"Wish\":\"Excluded\""), "{said}");
    let wished = "SELECT session_id, wish FROM session_wishes";
    let told: Vec<Value> = app.database.rows(wished).await;
    assert_eq!(told, [json!({"session_id": session, "wish": "excluded"})]);
    browser.press(ESCAPE).await;
    // What is copied is what is shown.
    browser.until("document.querySelectorAll('.wishes button').length === 1").await;
    open(&browser, ".wishes button").await;
    browser.click("dialog summary").await;
    browser.click("dialog .request button").await;
    browser.until("/^(Copied|It is selected)/.test(document.querySelector('dialog .request .why').innerText)").await;
    run(browser.eval("document.querySelector('dialog pre').textContent").await).await;
    assert!(app.database.rows(wished).await.is_empty());
    browser.press(ESCAPE).await;

    // A text of a form, with whatever a shell makes something of.
    open(&browser, EDIT).await;
    browser.fill("#act-name", "Pump's \\ \"$(id)\" !! \u{202e}").await;
    until_state(&browser, "foreseen").await;
    let command = browser.eval("document.querySelector('dialog pre').textContent").await;
    assert!(!command.as_str().expect("a text").contains('\u{202e}'), "what is shown is what is done: {command}");
    run(command).await;
    assert_eq!(clients.get("/pump").await.expect_ok()["Name"], "Pump's \\ \"$(id)\" !! \u{202e}");
    no_faults(&browser).await;
    clients.stop().await;
}

#[tokio::test]
async fn what_was_done_to_a_group_names_who_did_it_to_its_admins_alone() {
    let (app, clients) = start_closed().await;
    let deeds = async |authorization: String| {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/pump/deeds", app.url);
        let request = app.http.request(Method::GET, url).header("Authorization", authorization);
        Answer::of(request).await.expect_ok()
    };
    let send = async |method: Method, below: &str, body: Value| {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/pump{below}", app.url);
        let request = app.http.request(method, url).header("Authorization", basic("eve", "correct horse"));
        assert!(Answer::of(request.json(&body)).await.status.is_success());
    };
    send(Method::POST, "/clientsessions/b/wish", json!({"Wish": "Excluded", "For": "01:00:00"})).await;
    send(Method::DELETE, "/clientsessions/b/wish", json!({})).await;
    send(Method::PUT, "", json!({"Milliseconds": 90_000})).await;
    send(Method::POST, "/clientsessions", json!({"Id": "dead"})).await;
    send(Method::DELETE, "/clientsessions/dead?by=operator", json!({})).await;
    clients.delete("/pump/clientsessions/b").await.expect_ok();
    let found = deeds(basic("eve", "correct horse")).await;
    let line = |deed: &Value| {
        let text = |name: &str| deed[name].as_str().unwrap_or("-").to_owned();
        [text("Event"), text("SessionId"), text("By"), text("Ended")].join(" ")
    };
    let lines: Vec<String> = found.as_array().expect("an array").iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "SessionDeleted b anonymous -",
            "SessionDeleted dead basic:eve -",
            "GroupChanged - basic:eve -",
            "WishEnded b basic:eve withdrawn",
            "WishSet b basic:eve -",
            "GroupCreated - anonymous -",
        ]
    );
    assert_eq!(found[4]["Wish"]["Wish"], "Excluded");
    assert!(found[4]["Wish"]["Until"].is_string());
    assert_eq!((&found[2]["Milliseconds"], &found[4]["Milliseconds"]), (&json!(90_000), &Value::Null));
    let (_, key) = create_key(&app.database, "wallboard", &["--tenant", "t", "--role", "viewer"]).await;
    let seen = deeds(format!("Bearer {key}")).await;
    assert!(seen.as_array().expect("an array").iter().all(|deed| deed["By"].is_null()), "{seen}");
    assert_eq!(seen.as_array().map(Vec::len), Some(6));
    clients.get("/never/deeds").await.expect_error(404);
    assert_eq!(clients.get("/pump/deeds?count=2&skip=1").await.expect_ok().as_array().map(Vec::len), Some(2));
    clients.stop().await;
}
