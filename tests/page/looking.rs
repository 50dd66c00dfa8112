//! How operators find what they look for: tiles, rows, columns and the search; a tenant of its own;
//! a history by span and as a file; times in UTC or as their own clock has them.

use std::time::Duration;

use client_failover::access::AuthOptions;
use client_failover_workshop::needs;
use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER, TAB};
use crate::support::credentials::{add_user, new_dir};
use crate::support::helpers::{Answer, TestApp, TestReplica, settings, without_sweeps};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The arrow down, as WebDriver writes it.
const DOWN: &str = "\u{E015}";

/// A service that counts all the time.
async fn start() -> TestApp {
    TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await
}

/// Nothing went wrong in the page's scripts, and nothing was kept from running or loading. That a
/// request was refused is no fault of the page.
async fn no_faults(browser: &Browser) {
    let mut faults: Vec<String> = browser.log().await;
    faults.retain(|line| !line.contains("Failed to load resource"));
    assert_eq!(faults, Vec::<String>::new());
}

/// The ids of the groups that are listed, in their order.
const LISTED: &str =
    "[...document.querySelectorAll('.groups tbody th > a:first-child')].map((one) => one.innerText).join()";

/// A Primary `a` and a standby `b`; one that is alone; one that is ill; and one in which nobody
/// acts.
async fn four_groups(app: &TestApp) {
    for group in ["fine", "alone", "ill", "vacant"] {
        let body = json!({"Milliseconds": HOUR, "Description": format!("Line of the {group} ones.")});
        app.put(&format!("/{group}"), body).await.expect_ok();
        for session in ["a", &format!("spare-of-{group}")] {
            app.post(&format!("/{group}/clientsessions"), json!({"Id": session})).await.expect_ok();
        }
    }
    app.beat("fine", "a", 100.0).await;
    app.beat("fine", "spare-of-fine", 100.0).await;
    app.beat("alone", "a", 100.0).await;
    app.beat("ill", "a", 40.5).await;
    app.beat("ill", "spare-of-ill", 20.0).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_tile_narrows_the_list_and_has_an_address() {
    let app = start().await;
    let browser = Browser::start().await;
    four_groups(&app).await;
    browser.go(&app.url).await;
    browser.shows(".tiles", "Groups 4 At risk 3 No Primary 1 No standby 1 Unhealthy 1 Flapping 0").await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    browser.eval("window.isSame = true").await;
    browser.click(".tile:nth-child(4)").await;
    browser.until(&format!("{LISTED} === 'alone'")).await;
    browser.shows(".found", "1 group without a standby.").await;
    browser.shows(".tile:has([aria-current])", "No standby 1").await;
    assert_eq!(browser.eval("location.hash").await, "#/?risk=NoStandby");

    // By keyboard: what has the focus is one of the links of the tiles.
    browser.eval("document.querySelector('.tile:nth-child(3) a').focus()").await;
    browser.press(ENTER).await;
    browser.until(&format!("{LISTED} === 'vacant'")).await;
    browser.shows(".found", "1 group without a Primary.").await;
    // What has been narrowed is searched.
    browser.fill("#search", "alone").await;
    browser.shows(".list .nothing", "No group without a Primary has that in its names").await;
    browser.fill("#search", "VAC").await;
    browser.until(&format!("{LISTED} === 'vacant'")).await;
    assert_eq!(browser.eval("location.hash").await, "#/?risk=NoPrimary&search=VAC");
    // Again, and it is all of them; the box is the tile of those at risk.
    browser.click(".tile:nth-child(3)").await;
    browser.until("location.hash === '#/?search=VAC'").await;
    browser.click(".tile:nth-child(2)").await;
    browser.until("document.querySelector('#only-at-risk').checked").await;
    browser.click(".tile:nth-child(1)").await;
    browser.until("!document.querySelector('#only-at-risk').checked").await;
    assert_eq!(browser.eval("window.isSame").await, true);
    // A tile of which there is nothing leads to an empty list, which says so.
    browser.go(&format!("{}/#/?risk=Flapping", app.url)).await;
    browser.shows(".list .nothing", "There is no group whose Primary changes hands all the time.").await;
    browser.shows(".tile:has([aria-current])", "Flapping 0").await;
    // What is no risk is none in the address either.
    browser.go("about:blank").await;
    browser.go(&format!("{}/#/?risk=constructor&sort=health", app.url)).await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_row_opens_by_a_click_anywhere_and_the_arrow_keys_go_from_row_to_row() {
    let app = start().await;
    let browser = Browser::start().await;
    four_groups(&app).await;
    browser.go(&app.url).await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    browser.click(".groups tbody tr:nth-child(2) td:last-child").await;
    browser.shows("h1", "alone").await;
    assert_eq!(browser.eval("location.hash").await, "#/g/t/n/alone");
    browser.eval("history.back()").await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    // The link to the namespace stays one, and so does the one to the group.
    browser.click(".groups tbody tr:nth-child(2) .where").await;
    browser.shows("h1", "t / n").await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    assert_eq!(
        browser.eval("document.querySelector('.groups tbody th a').getAttribute('href')").await,
        "#/g/t/n/vacant"
    );
    // Whoever marks a text stays where they are.
    browser
        .eval("getSelection().selectAllChildren(document.querySelector('.groups tbody tr:nth-child(3) .condition'))")
        .await;
    browser.eval("document.querySelector('.groups tbody tr:nth-child(3) .condition').click()").await;
    assert_eq!(browser.eval("location.hash").await, "#/n/t/n");
    browser.eval("getSelection().removeAllRanges()").await;

    browser.eval("document.querySelector('.groups tbody th > a').focus()").await;
    browser.press(&format!("{DOWN}{DOWN}")).await;
    assert_eq!(browser.eval("document.activeElement.innerText").await, "ill");
    browser.press(ENTER).await;
    browser.shows("h1", "ill").await;
    browser.shows(".crumbs", "All tenants › t › n").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn columns_put_the_groups_in_order_and_say_so() {
    let app = start().await;
    let browser = Browser::start().await;
    four_groups(&app).await;
    app.delete("/fine/clientsessions/a").await.expect_ok();
    app.beat("fine", "spare-of-fine", 100.0).await;
    browser.go(&app.url).await;
    const SORTED: &str = "[...document.querySelectorAll('.groups thead [aria-sort]')].map((one) => `${one.innerText.trim()} ${one.ariaSort}`).join()";
    browser.until(&format!("{SORTED} === 'Group none,Condition descending,Term none'")).await;
    browser.click(".groups thead th:nth-child(1) button").await;
    browser.until(&format!("{LISTED} === 'alone,fine,ill,vacant'")).await;
    assert_eq!(browser.eval(SORTED).await, "Group ascending,Condition none,Term none");
    // By keyboard, the other way round; and from there back to what is most urgent.
    browser.eval("document.querySelector('.groups thead th:nth-child(1) button').focus()").await;
    browser.press(ENTER).await;
    browser.until(&format!("{LISTED} === 'vacant,ill,fine,alone'")).await;
    assert_eq!(browser.eval(SORTED).await, "Group descending,Condition none,Term none");
    assert_eq!(browser.eval("location.hash").await, "#/?sort=-group");
    browser.press(ENTER).await;
    browser.until(&format!("{SORTED} === 'Group none,Condition descending,Term none'")).await;
    browser.click(".groups thead th:nth-child(6) button").await;
    browser.until(&format!("{LISTED} === 'fine,alone,ill,vacant'")).await;
    // With a tile, and after a reload.
    browser.click(".tile:nth-child(2)").await;
    browser.until("location.hash === '#/?at_risk=true&sort=-term'").await;
    browser.eval("location.reload()").await;
    browser.until(&format!("{SORTED} === 'Group none,Condition none,Term descending'")).await;
    browser.until(&format!("{LISTED} === 'fine,alone,ill,vacant'")).await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn the_search_finds_sessions_and_descriptions() {
    let app = start().await;
    let browser = Browser::start().await;
    four_groups(&app).await;
    browser.go(&app.url).await;
    browser.until(&format!("{LISTED} === 'vacant,alone,ill,fine'")).await;
    browser.fill("#search", "E-OF-ILL").await;
    browser.until(&format!("{LISTED} === 'ill'")).await;
    browser.shows(".groups tbody th", "ill t / n session spare-of-ill").await;
    browser.fill("#search", "the vacant ones").await;
    browser.until(&format!("{LISTED} === 'vacant'")).await;
    // One that its own name tells needs no session to say why.
    browser.fill("#search", "fine").await;
    browser.until(&format!("{LISTED} === 'fine'")).await;
    browser.until("document.querySelector('.groups tbody th').innerText.replace(/\\s+/g, ' ') === 'fine t / n'").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_health_that_swings_and_a_handover_are_not_called_a_group_without_a_primary() {
    let app = TestApp::start_with(|settings| {
        settings.failover.census_interval = Duration::from_millis(100);
        without_sweeps(settings);
    })
    .await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    browser.go(&app.url).await;
    browser.shows(".groups tbody tr", "pump t / n Fine a").await;
    // The other one is the healthier.
    app.database.let_time_pass(MINUTE * 2 / 3).await;
    assert_eq!(app.beat_acting_as("pump", "b", 100.0, 0).await, 0);
    assert_eq!(app.beat("pump", "a", 50.0).await, 0);
    // It has stepped down, and its lease is not over.
    browser.shows(".groups tbody tr", "pump t / n Handover handover from a b is to take over").await;
    browser.shows(".tiles", "No Primary 0").await;
    browser.shows(".tile[data-tone=handover]", "Handover 1").await;
    browser.click(".tile[data-tone=handover]").await;
    browser.shows(".found", "1 group in a handover.").await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    browser.shows(".risks", "A handover from a to b is under way: nobody is granted Primary until it is safe.").await;
    browser.until("document.querySelector('.held.handover[data-open]') !== null").await;

    // Its lease is over, and the other one's heartbeat is yet to come.
    app.database.let_time_pass(MINUTE / 2).await;
    browser.shows(".head .condition", "Takeover").await;
    browser.shows(".facts", "Primary nobody for a moment").await;
    browser
        .shows(
            ".risks",
            "Nobody acts for a moment: b is chosen, and is told that it is Primary with its next heartbeat.",
        )
        .await;
    browser.until("document.querySelector('.held.handover[data-open]') !== null").await;
    assert_eq!(
        browser.eval("document.querySelectorAll('main [data-tone=bad], main .none, .held.vacant').length").await,
        0
    );
    browser.go(&format!("{}/#/", app.url)).await;
    browser.shows(".groups tbody tr", "pump t / n Takeover nobody for a moment b is to take over").await;
    assert_eq!(browser.eval("document.querySelectorAll('.groups [data-tone=bad], .groups .none').length").await, 0);

    // It goes on like that.
    assert_eq!(app.beat("pump", "b", 100.0).await, 1);
    browser.shows(".groups tbody tr", "b for").await;
    for (ill, other) in [("b", "a"), ("a", "b"), ("b", "a")] {
        assert_eq!(app.beat_acting_as("pump", other, 100.0, 0).await, 0);
        assert_eq!(app.beat("pump", ill, 40.0).await, 0);
        // A heartbeat that says that it has heard of it.
        app.beat_acting_as("pump", ill, 40.0, 0).await;
        assert_eq!(app.beat("pump", other, 100.0).await, 1);
        app.beat("pump", ill, 99.0).await;
    }
    browser.shows(".groups tbody tr", "Health swings").await;
    browser.click(".tile:nth-child(6)").await;
    browser.shows(".found", "1 group whose Primary changes hands all the time.").await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    browser.shows(".risks", "the health of its sessions goes up and down, and whichever is healthier takes over").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn times_are_those_of_utc_or_of_the_browsers_zone_and_say_which() {
    let app = start().await;
    let browser = Browser::start().await;
    browser.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": "Asia/Kolkata"})).await;
    app.pair("pump").await;
    app.database
        .execute("UPDATE role_transitions SET recorded_at = date_trunc('day', recorded_at) - interval '20 h'")
        .await;
    browser.go(&format!("{}/#/g/t/n/pump?span=7d", app.url)).await;
    browser.shows("#times", "Times: local (UTC+05:30)").await;
    browser.shows(".history tbody th", " 09:30:00.000").await;
    browser.shows("#clock", "(UTC+05:30)").await;
    browser.shows(".past", "shown in this browser's zone, UTC+05:30").await;

    browser.eval("document.querySelector('#times').focus()").await;
    browser.press(ENTER).await;
    browser.shows("#times", "Times: UTC").await;
    browser.shows(".history tbody th", " 04:00:00.000").await;
    browser.shows("#clock", "(UTC)").await;
    browser.shows(".past", "shown in UTC.").await;
    // What is entered is taken for what is shown.
    browser.click(".range-chooser summary").await;
    browser.until("Math.abs(Date.parse(`${document.querySelector('#to').value}Z`) - Date.now()) < 600_000").await;

    // It is kept, and another window follows.
    browser.eval("location.reload()").await;
    browser.shows(".history tbody th", " 04:00:00.000").await;
    browser.open_window().await;
    browser.go(&app.url).await;
    browser.shows("#times", "Times: UTC").await;
    browser.click("#times").await;
    browser.shows("#times", "Times: local").await;
    assert_eq!(browser.eval("localStorage.getItem('client-failover.times')").await, "local");
    no_faults(&browser).await;
}

/// What the page has saved as a file, from now on, in the place of the disk.
async fn catch_files(browser: &Browser) {
    let caught = "void (window.saved = [], URL.createObjectURL = (file) => { window.saved.push(file); return '#'; })";
    browser.eval(caught).await;
}

async fn saved(browser: &Browser, number: usize) -> String {
    browser.until(&format!("window.saved.length > {number}")).await;
    browser.eval(&format!("window.saved[{number}].text()")).await.as_str().expect("a text").to_owned()
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_history_is_shown_by_span_and_saved_as_csv_and_json() {
    let app = start().await;
    let browser = Browser::start().await;
    // A name that a spreadsheet would run.
    let formula = "=HYPERLINK(\"http:x\";\"a, b\")";
    app.group_of("pump", HOUR, &["a", formula]).await;
    assert_eq!(app.beat("pump", "a", 100.0).await, 1);
    // A day in which a was Primary, and then for an hour the other one; and many changes since,
    // more than one answer has.
    let past = "UPDATE groups SET created_at = created_at - interval '9 days';
        UPDATE configuration_changes SET recorded_at = recorded_at - interval '9 days';
        UPDATE role_transitions SET recorded_at = date_trunc('day', recorded_at) - interval '8 days'";
    app.database.execute(past).await;
    let remember = |session: &str, from: i16, to: i16, reason: &str, ago: &str| {
        let session = session.replace('\'', "''");
        format!(
            "INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
                term, reason, actor, recorded_at)
             SELECT group_key, tenant_id, namespace_id, group_id, '{session}', {from}, {to}, 2, '{reason}', 'heartbeat',
                date_trunc('day', clock_timestamp()) - {ago} FROM groups CROSS JOIN generate_series(1, 1) i"
        )
    };
    app.database.execute(&remember("a", 1, 0, "lease_lapsed", "interval '7 days'")).await;
    app.database.execute(&remember(formula, 0, 1, "lease_lapsed", "interval '7 days'")).await;
    app.database.execute(&remember(formula, 1, 0, "session_deleted", "interval '6 days 23 h'")).await;
    app.database.execute(&remember("a", 0, 1, "session_deleted", "interval '6 days 23 h'")).await;
    let many =
        remember("a", 0, 2, "healthier", "interval '2 days' + i * interval '1 s'").replace("(1, 1)", "(1, 1200)");
    app.database.execute(&many).await;

    let days = |query: &str| format!("{}/#/g/t/n/pump?{query}", app.url);
    browser.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": "UTC"})).await;
    // From one time to another; and back and forth from there.
    browser.go(&days("span=1h")).await;
    browser.shows(".past", "No role changed in the last hour.").await;
    browser.click(".range-chooser summary").await;
    let fill = async |id: &str, at: &str| {
        let at = app
            .database
            .rows(&format!(
                "SELECT to_char(date_trunc('day', now() AT TIME ZONE 'UTC') - {at}, 'YYYY-MM-DD\"T\"HH24:MI:SS') AS at"
            ))
            .await;
        browser.eval(&format!("document.querySelector('{id}').value = {}", at[0]["at"])).await;
    };
    fill("#from", "interval '6 days 23 h 40 min'").await;
    fill("#to", "interval '6 days 23 h 50 min'").await;
    browser.click(".from-to [type=submit]").await;
    browser.shows(".from-to .problem", "It must end at least 10 s after it begins").await;
    fill("#to", "interval '6 days 23 h 10 min'").await;
    browser.click(".from-to [type=submit]").await;
    browser.until("location.hash.includes('?from=')").await;
    // Nothing changed in this half hour, and it was the other one that was Primary in them.
    browser.shows(".past", "No role changed from ").await;
    let lane = format!(
        "document.querySelector('.held.primary')?.ariaLabel.startsWith({})",
        Value::from(format!("{formula} Primary"))
    );
    browser.until(&lane).await;
    browser.until("document.querySelectorAll('.held').length === 1").await;
    browser.until("document.querySelectorAll('.lane').length === 2").await;
    // Out to an hour, by keyboard: then the change of hands after it is in it.
    browser.eval("document.querySelector('[aria-label=\"Zoom out\"]').focus()").await;
    browser.press(ENTER).await;
    browser.until("document.querySelectorAll('.history tbody tr').length === 2").await;
    browser.shows(".history tbody tr:first-child", "a Secondary → Primary a session was deleted").await;
    browser.until("document.querySelectorAll('.held.primary').length === 2").await;
    browser.click("[aria-label=\"Earlier\"]").await;
    browser.shows(".past", "a lease ran out").await;
    // The same is there after a reload, and a span leads back to now.
    browser.eval("location.reload()").await;
    browser.shows(".past", "a lease ran out").await;
    catch_files(&browser).await;
    browser.click("[aria-labelledby=changes] button:nth-of-type(1)").await;
    let csv = saved(&browser, 0).await;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines[0], "Id,Time,Tenant,Namespace,Group,Session,From,To,Term,Reason,Actor");
    let quoted =
        "\"'=HYPERLINK(\"\"http:x\"\";\"\"a, b\"\")\",\"Secondary\",\"Primary\",2,\"lease_lapsed\",\"heartbeat\"";
    assert!(lines.iter().any(|line| line.ends_with(quoted)), "{csv}");
    assert!(lines.iter().all(|line| !line.contains(",=") && !line.contains("\"=")), "{csv}");
    browser.click(".spans label:nth-of-type(6)").await;
    browser.until("location.hash.endsWith('?span=30d')").await;

    // All of it, of which the table shows a part.
    browser.shows(".past", "Show more (").await;
    browser.click("[aria-labelledby=changes] button:nth-of-type(1)").await;
    assert_eq!(saved(&browser, 1).await.trim_end().split("\r\n").count(), 1 + 1_205);
    browser.shows(".past [role=status]", "1,205 changes saved.").await;
    browser.eval("document.querySelector('[aria-labelledby=changes] button:nth-of-type(2)').focus()").await;
    browser.press(ENTER).await;
    let whole: Vec<Value> = serde_json::from_str(&saved(&browser, 2).await).expect("it is JSON");
    assert_eq!(whole.len(), 1_205);
    let asked = app.get("/pump/transitions?count=1").await.expect_ok();
    assert_eq!(whole.last(), asked.as_array().and_then(|asked| asked.first()), "as the service has it");
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_tenant_has_an_overview_of_its_own_and_who_has_one_lands_there() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "eve", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), ..AuthOptions::default() };
        settings.failover.census_interval = Duration::from_millis(100);
    })
    .await;
    let open = TestReplica::start(settings(app.database.connect_options())).await;
    open.group_of("pump", HOUR, &["a", "b"]).await;
    open.beat("pump", "a", 100.0).await;
    for (tenant, namespace, group) in [("t", "m", "well"), ("u", "n", "secret")] {
        let url = format!("{}/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups/{group}", open.url);
        Answer::of(open.http.put(url).json(&json!({}))).await.expect_ok();
    }
    let browser = Browser::start().await;
    browser.go(&app.url).await;
    browser.shows("h1", "Sign in").await;
    browser.fill("#name", "eve").await;
    browser.press(&format!("{TAB}correct horse{ENTER}")).await;
    // Nothing is asked: there is one place.
    browser.shows("h1", "t").await;
    browser.until("location.hash === '#/t/t'").await;
    browser.shows(".groups tbody tr", "pump t / n No standby a").await;
    browser.shows(".tiles", "Groups 2").await;
    browser.shows(".namespaces li:first-child", "m 1 group").await;
    browser.shows(".namespaces li:last-child", "n 1 group 1 at risk").await;
    browser.shows(".changes li", "pump in t / n: a Secondary → Primary").await;
    browser.shows("#connection", "Live").await;
    let port = app.url.rsplit(':').next().expect("it has a port");
    browser.shows("#served", &format!("{} · ", env!("CARGO_PKG_VERSION"))).await;
    browser.shows("#served", &format!(":{port}")).await;
    assert!(!browser.text("main").await.contains("secret"));
    // Its events come by a stream of the tenant.
    open.beat("pump", "b", 100.0).await;
    open.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".changes li:first-child", "pump in t / n: a Primary → Secondary").await;
    // Down and up again.
    browser.click(".namespaces li:last-child a").await;
    browser.shows("h1", "t / n").await;
    browser.shows(".crumbs", "All tenants › t").await;
    browser.click(".groups tbody th > a").await;
    browser.shows(".crumbs", "All tenants › t › n").await;
    browser.click(".crumbs a:nth-of-type(2)").await;
    browser.until("location.hash === '#/t/t'").await;
    // One that is not theirs: the way to what is.
    browser.eval("location.hash = '#/t/u'").await;
    browser.shows("h1", "Your places").await;
    browser.shows("main", "in tenant 'u' as a whole").await;
    browser.click(".own-places a").await;
    browser.shows(".groups tbody tr", "pump t / n").await;
    no_faults(&browser).await;
    open.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn whoever_has_several_places_chooses_one_and_who_has_one_namespace_lands_in_it() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "one", "correct horse", &["--tenant", "t", "--namespace", "n", "--role", "viewer"]).await;
    let two = ["--tenant", "t", "--namespace", "m", "--namespace", "n", "--role", "client"];
    add_user(&users, "two", "correct horse", &two).await;
    add_user(&users, "none", "correct horse", &["--tenant", "*", "--role", "metrics"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), ..AuthOptions::default() };
    })
    .await;
    let browser = Browser::start().await;
    let sign_in = async |name: &str| {
        browser.shows("h1", "Sign in").await;
        browser.fill("#name", name).await;
        browser.press(&format!("{TAB}correct horse{ENTER}")).await;
    };
    browser.go(&app.url).await;
    sign_in("one").await;
    browser.shows("h1", "t / n").await;
    browser.until("location.hash === '#/n/t/n'").await;

    browser.click("#sign-out").await;
    browser.eval("location.hash = '#/'").await;
    sign_in("two").await;
    browser.shows("h1", "Your places").await;
    assert_eq!(browser.eval("document.activeElement.tagName").await, "H1");
    let places = "[...document.querySelectorAll('.own-places a')].map((one) => one.innerText).join()";
    assert_eq!(browser.eval(places).await, "t / m,t / n");
    browser.press(&format!("{TAB}{TAB}{ENTER}")).await;
    browser.shows("h1", "t / n").await;
    browser.shows(".list .nothing", "There are no groups yet.").await;

    // To read what is counted is no way to look at groups.
    browser.click("#sign-out").await;
    browser.eval("location.hash = '#/'").await;
    sign_in("none").await;
    browser.shows("h1", "Which namespace?").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_group_on_a_phone_takes_a_third_of_what_it_took() {
    /// Of a group such as this, in pixels on such a phone, before it was laid out for one.
    const BEFORE: i64 = 4_625;
    let app = start().await;
    let browser = Browser::start().await;
    app.put("/press", json!({"Milliseconds": HOUR, "Name": "Press 4", "Description": "Press 4 of the plant."}))
        .await
        .expect_ok();
    for session in ["left", "right"] {
        app.post("/press/clientsessions", json!({"Id": session})).await.expect_ok();
        app.beat("press", session, 100.0).await;
    }
    let many =
        "INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
            term, reason, actor, recorded_at)
         SELECT group_key, tenant_id, namespace_id, group_id, 'right', 0, 2, 1, 'healthier', 'heartbeat',
            clock_timestamp() - i * interval '90 s' FROM groups CROSS JOIN generate_series(1, 25) i";
    app.database.execute(many).await;
    browser.screen(390, 844, 2, true).await;
    browser.go(&format!("{}/#/g/t/n/press?span=1h", app.url)).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".history tbody tr:nth-child(8)", "Secondary → PendingPrimary").await;
    let size = browser.eval("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]").await;
    assert_eq!(size[0], 390);
    let height = size[1].as_i64().expect("a number");
    assert!(height <= BEFORE / 3, "{height} pixels");
    // Nothing is left out that was there, and the rest of the table is a touch away.
    for text in ["Press 4 of the plant.", "Failover timeout 1 h", "left Primary for", "100 %", " ago"] {
        browser.shows("main", text).await;
    }
    browser.click("[aria-labelledby=changes] > button").await;
    browser.until("document.querySelectorAll('.history tbody tr').length > 25").await;
    no_faults(&browser).await;
}
