//! What the page looks like, for the README; and how fast it is where there are very many groups.
//! Both take a command of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::api::status::fill;
use crate::support::browser::Browser;
use crate::support::helpers::{Answer, TestApp, TestDatabase, eventually};
use crate::support::program::{Running, program};

const MINUTE: i64 = 60_000;

/// Changes of a group's roles: session, from, to, reason, term, and how many seconds ago.
type Past<'a> = &'a [(&'a str, i16, i16, &'a str, i64, i64)];

/// Writes changes down as if they had happened.
async fn remember(app: &TestApp, group: &str, past: Past<'_>) {
    app.database.execute(&format!("DELETE FROM role_transitions WHERE group_id = '{group}'")).await;
    for (session, from, to, reason, term, ago) in past {
        app.database
            .execute(&format!(
                "INSERT INTO role_transitions (group_key, tenant_id, namespace_id, group_id, session_id, from_role, to_role,
                    term, reason, actor, recorded_at)
                 SELECT group_key, tenant_id, namespace_id, group_id, '{session}', {from}, {to}, {term}, '{reason}', 'heartbeat',
                    clock_timestamp() - interval '{ago} s' FROM groups WHERE group_id = '{group}'"
            ))
            .await;
    }
}

/// Sends to the groups of a line of the plant.
async fn send(app: &TestApp, method: Method, line: &str, below: &str, body: Value) {
    let url = format!("{}/api/v1/tenants/plant/namespaces/{line}/clientfailover/groups{below}", app.url);
    Answer::of(app.http.request(method, url).json(&body)).await.expect_ok();
}

/// Heartbeats of a group's sessions, with data sent a moment ago.
async fn beat_all(app: &TestApp, line: &str, group: &str, sessions: &[(&str, f64)]) {
    for (session, health) in sessions {
        let now = app
            .database
            .rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS now")
            .await;
        let body = json!({"PercentHealthyStreams": health, "LastDataSendTime": now[0]["now"]});
        send(app, Method::POST, line, &format!("/{group}/clientsessions/{session}"), body).await;
    }
}

async fn keep(browser: &Browser, name: &str) {
    let picture = browser.screenshot().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images").join(name);
    std::fs::write(&path, &picture).expect("it can be written");
    println!("{}: {} kB", path.display(), picture.len() / 1_000);
}

/// The pictures of the page: cargo test --test suite -- --ignored --nocapture
/// screenshots_of_the_page
#[tokio::test]
#[ignore = "it writes into docs/images"]
async fn the_screenshots_of_the_page_are_made_anew() {
    let app = TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(200)).await;
    let browser = Browser::start().await;
    // Line, group, name, those that send heartbeats with their health, and those that are silent.
    type Group<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, f64)], &'a [&'a str]);
    let groups: [Group<'_>; 8] = [
        ("line1", "pump", "Cooling water pumps", &[("pump-a", 100.0), ("pump-b", 99.5), ("pump-c", 97.0)], &[]),
        ("line1", "boiler", "Boiler house", &[("boiler-1", 100.0), ("boiler-2", 100.0)], &[]),
        ("line1", "dryer", "Belt dryer", &[("dryer-a", 100.0)], &["dryer-b"]),
        ("line2", "oven", "Tunnel oven", &[("oven-1", 62.5), ("oven-2", 60.0)], &[]),
        ("line2", "press-4", "Press 4", &[("left", 100.0), ("right", 98.0)], &[]),
        ("line2", "valves", "Valve station", &[], &["valve-1", "valve-2"]),
        ("utilities", "well", "Well field", &[("north", 100.0), ("south", 100.0), ("west", 91.0)], &[]),
        ("utilities", "grid", "Grid meters", &[("meter-1", 100.0), ("meter-2", 100.0)], &[]),
    ];
    for (line, group, name, sessions, silent) in groups {
        let configuration =
            json!({"Milliseconds": MINUTE, "Name": name, "Description": format!("{name} of the plant.")});
        send(&app, Method::PUT, line, &format!("/{group}"), configuration).await;
        for session in sessions.iter().map(|(session, _)| session).chain(silent) {
            send(&app, Method::POST, line, &format!("/{group}/clientsessions"), json!({"Id": session})).await;
        }
        beat_all(&app, line, group, sessions).await;
        beat_all(&app, line, group, sessions).await;
    }
    // They have been so for a while.
    let earlier = "UPDATE sessions SET role_changed_at = role_changed_at - interval '3 days 4 hours';
        UPDATE groups SET created_at = created_at - interval '4 days';
        UPDATE configuration_changes SET recorded_at = recorded_at - interval '4 days'";
    app.database.execute(earlier).await;
    remember(
        &app,
        "pump",
        &[
            ("pump-a", 0, 1, "first_heartbeat", 1, 3_400),
            ("pump-a", 1, 0, "lease_lapsed", 1, 2_500),
            ("pump-b", 0, 1, "lease_lapsed", 2, 2_480),
            ("pump-c", 0, 2, "healthier", 2, 1_730),
            ("pump-b", 1, 0, "yielded", 2, 1_700),
            ("pump-c", 2, 1, "handover_completed", 3, 1_640),
            ("pump-c", 1, 0, "session_deleted", 3, 900),
            ("pump-a", 0, 1, "session_deleted", 4, 896),
        ],
    )
    .await;
    let since = "UPDATE groups SET term = 4 WHERE group_id = 'pump';
        UPDATE sessions SET role_changed_at = clock_timestamp() - interval '896 s' WHERE session_id = 'pump-a';
        UPDATE sessions SET role_changed_at = clock_timestamp() - interval '121 s' WHERE session_id = 'left'";
    app.database.execute(since).await;
    remember(
        &app,
        "press-4",
        &[
            ("left", 0, 1, "first_heartbeat", 1, 560),
            ("left", 1, 0, "lease_lapsed", 1, 500),
            ("right", 0, 1, "lease_lapsed", 2, 495),
            ("right", 1, 0, "lease_lapsed", 2, 380),
            ("left", 0, 1, "lease_lapsed", 3, 370),
            ("left", 1, 0, "lease_lapsed", 3, 250),
            ("right", 0, 1, "lease_lapsed", 4, 247),
            ("right", 1, 0, "lease_lapsed", 4, 130),
            ("left", 0, 1, "lease_lapsed", 5, 121),
        ],
    )
    .await;

    browser.screen(1_280, 800, 1, false).await;
    browser.go(&app.url).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".tiles", "Flapping 1").await;
    browser.shows(".found", "8 groups, 4 at risk").await;
    keep(&browser, "page-at-risk.png").await;

    // One tenant's groups, narrowed to those at risk.
    browser.go(&format!("{}/#/t/plant?at_risk=true", app.url)).await;
    browser.shows(".found", "4 groups at risk").await;
    browser.shows("#connection", "Live").await;
    keep(&browser, "page-tenant.png").await;

    browser.go(&format!("{}/#/g/plant/line1/pump?span=1h", app.url)).await;
    browser.until("document.querySelectorAll('.held').length > 5").await;
    browser.eval("document.querySelector('.held.pending').focus()").await;
    browser.shows("#tip", "healthier").await;
    browser.until("document.querySelectorAll('.held.handover').length === 1").await;
    keep(&browser, "page-timeline.png").await;

    picture_acts(&browser, &app).await;

    browser.screen(360, 740, 2, true).await;
    browser.go(&format!("{}/#/g/plant/line2/oven", app.url)).await;
    browser.until("document.querySelectorAll('.held').length > 0").await;
    keep(&browser, "page-phone.png").await;

    // A takeover in progress: a Primary that is ill, and the one that is about to take over.
    browser.screen(1_280, 800, 1, false).await;
    browser.prefer("prefers-color-scheme", "dark").await;
    beat_all(&app, "line1", "pump", &[("pump-a", 45.0), ("pump-c", 97.0), ("pump-b", 99.5)]).await;
    app.database.let_time_pass(9_000).await;
    beat_all(&app, "line1", "pump", &[("pump-b", 99.5)]).await;
    app.database.let_time_pass(15_000).await;
    let earlier = "UPDATE role_transitions SET recorded_at = recorded_at - interval '15 s'
            WHERE recorded_at > clock_timestamp() - interval '15 s';
        UPDATE sessions SET role_changed_at = role_changed_at - interval '15 s'";
    app.database.execute(earlier).await;
    browser.go("about:blank").await;
    browser.go(&format!("{}/#/g/plant/line1/pump?span=5m", app.url)).await;
    browser.until("document.querySelectorAll('.held.pending').length > 0").await;
    browser.shows(".facts", "PendingPrimary pump-b").await;
    browser.eval("document.querySelector('.held.pending[data-open]').focus()").await;
    browser.shows("#tip", "pump-b PendingPrimary").await;
    browser.eval("void scrollTo(0, 0)").await;
    keep(&browser, "page-takeover-dark.png").await;
}

/// What can be done, each in its dialog.
async fn picture_acts(browser: &Browser, app: &TestApp) {
    let open = async |hash: &str, button: &str, shows: &str| {
        browser.go("about:blank").await;
        browser.go(&format!("{}/#/{hash}", app.url)).await;
        browser.until(&format!("document.querySelector({}) !== null", Value::from(button))).await;
        browser.click(button).await;
        browser.shows("dialog .outlook", shows).await;
    };
    let pump = "g/plant/line1/pump?span=1h";
    open(pump, ".hands button", "becomes Primary").await;
    keep(browser, "page-switch-over.png").await;
    open(pump, "[aria-label='Force pump-b']", "becomes Primary").await;
    keep(browser, "page-force.png").await;
    open(pump, "[aria-label='Keep pump-a out']", "becomes Primary").await;
    browser.click("dialog .request summary").await;
    keep(browser, "page-keep-out.png").await;
    browser.click("dialog [type=submit]").await;
    browser.until("document.querySelector('dialog').dataset.state === 'done'").await;
    keep(browser, "page-kept-out.png").await;
    open(pump, ".wishes button", "Primary").await;
    keep(browser, "page-withdraw.png").await;
    browser.click("dialog [type=submit]").await;
    browser.until("document.querySelector('dialog').dataset.state === 'done'").await;
    open("g/plant/line1/dryer", "[aria-label='Delete session dryer-b']", "stays so").await;
    keep(browser, "page-delete-session.png").await;
    open("g/plant/line1/boiler", ".hands button:nth-of-type(2)", "stays so").await;
    keep(browser, "page-edit.png").await;
    open("g/plant/line1/boiler", ".hands button:nth-of-type(3)", "would be deleted").await;
    browser.press("boiler").await;
    browser.until("document.querySelector('dialog').dataset.state === 'foreseen'").await;
    keep(browser, "page-delete-group.png").await;
    open("n/plant/line1", "h1 + span button", "Enter an id").await;
    browser.press("mixer").await;
    browser.until("document.querySelector('dialog').dataset.state === 'foreseen'").await;
    keep(browser, "page-create-group.png").await;
}

/// The resident memory of a process, in megabytes.
fn resident_mb(process: u64) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1_024.0
}

/// The process that shows the page: a child of the browser's, and the largest of those that show
/// pages.
fn renderer_mb() -> f64 {
    let processes = std::fs::read_dir("/proc").expect("Linux has it").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let shows_pages = |id: &u64| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("--type=renderer")
    };
    ids.filter(shows_pages).map(resident_mb).fold(0.0, f64::max)
}

/// A measurement: cargo test --release --test suite -- --ignored --nocapture
/// first_view_of_100_000_groups
#[tokio::test]
#[ignore = "its data take half a minute: run it for its figures"]
async fn the_first_view_of_100_000_groups() {
    let browser = Browser::start().await;
    let seeded = TestApp::start().await;
    fill(&seeded, "'line' || i % 20", 100_000).await;
    let TestApp { replica, database } = seeded;
    replica.stop().await;
    let service = start_service(&database).await;
    let http = Client::new();
    eventually("the groups are counted", async || {
        let answer = http.get(format!("{}/api/v1/clientfailover/status?count=1", service.url)).send().await;
        let body: Value = answer.expect("it answers").json().await.expect("it is JSON");
        body["Counted"]["Groups"] == 100_000
    })
    .await;
    let before_mb = resident_mb(u64::from(service.pid()));
    // When the first row is there, noted by the page's own clock from the beginning of the
    // navigation.
    let note = "new MutationObserver((_, observer) => {
            if (!document.querySelector('.groups tbody tr')) return;
            observer.disconnect();
            requestAnimationFrame(() => { window.firstViewMs = performance.now(); });
        }).observe(document, { childList: true, subtree: true })";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": note})).await;
    let mut views = Vec::new();
    for _ in 0..9 {
        browser.go("about:blank").await;
        browser.go(&service.url).await;
        browser.until("window.firstViewMs > 0").await;
        views.push(browser.eval("window.firstViewMs").await.as_f64().expect("a number"));
    }
    let cold = views[0];
    views.sort_by(f64::total_cmp);
    println!("100,000 groups: first view after {:.0} ms (median of {}; the first {cold:.0} ms)", views[4], views.len());

    let mut searches = Vec::new();
    for number in 0..9 {
        let wanted = format!("g{}", 77_770 + number);
        let asked = Instant::now();
        browser.fill("#search", &wanted).await;
        browser.shows(".groups tbody tr:first-child th", &wanted).await;
        searches.push(asked.elapsed());
    }
    searches.sort_unstable();
    println!(
        "a search, from the first letter to its group, with the pause of 250 ms after the last: median {:?}",
        searches[4]
    );

    browser.go(&format!("{}/#/", service.url)).await;
    browser.go(&service.url).await;
    browser.shows(".found", "100,000 groups").await;
    // A minute of what a wall shows, made shorter: the state is read again and again.
    for _ in 0..60 {
        browser.eval("window.dispatchEvent(new Event('online'))").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    browser.devtools("HeapProfiler.collectGarbage", json!({})).await;
    let heap = browser.eval("performance.memory.usedJSHeapSize").await.as_f64().unwrap_or_default() / 1e6;
    let nodes = browser.eval("document.querySelectorAll('*').length").await;
    println!("the tab: {heap:.1} MB of objects, {nodes} elements, its process {:.0} MB resident", renderer_mb());
    println!(
        "the service: {before_mb:.0} MB resident before the page was opened, {:.0} MB after",
        resident_mb(u64::from(service.pid()))
    );
    drop(service);
}

/// A service in a process of its own, of which nobody reads what it says.
pub async fn start_service(database: &TestDatabase) -> Running {
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", database.url()).stderr(Stdio::null());
    Running::start(command).await
}
