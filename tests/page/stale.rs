//! What the page says when the service says nothing: it does not go on as if it knew. In a real
//! browser.

use client_failover_workshop::needs;
use nix::sys::signal::Signal;

use crate::page::pictures::start_service;
use crate::support::browser::Browser;
use crate::support::helpers::{TestApp, TestDatabase, TestReplica, eventually};
use crate::support::proxy::{Gate, Proxy};

const MINUTE: i64 = 60_000;

/// Notes when the page first says that it is not up to date, by its own clock.
const NOTE_WHEN_STALE: &str = "(() => {
    window.staleAt = null;
    window.stoppedAt = performance.now();
    new MutationObserver(() => {
        if (document.body.classList.contains('stale')) window.staleAt ??= performance.now();
    }).observe(document.body, { attributes: true });
})()";

/// A proxy to a service, and how a browser reaches that through it.
async fn proxy_to(service: &str) -> (Proxy, String) {
    let (_, port) = service.rsplit_once(':').expect("it has a port");
    let proxy = Proxy::to_port(port.parse().expect("a number")).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    (proxy, url)
}

/// Waits until the page says that it knows nothing new, and for how long it did not say so.
async fn until_stale_s(browser: &Browser) -> f64 {
    browser.until("window.staleAt !== null").await;
    browser.eval("(window.staleAt - window.stoppedAt) / 1000").await.as_f64().expect("a number")
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_service_that_is_stopped_is_not_shown_as_live() {
    let browser = Browser::start().await;
    let database = TestDatabase::new().await;
    let service = start_service(&database).await;
    let replica = TestReplica::at(service.url.clone());
    replica.group_of("pump", MINUTE, &["a", "b"]).await;
    replica.beat("pump", "a", 100.0).await;
    replica.beat("pump", "b", 100.0).await;
    // All groups, and one of them.
    for (hash, shown) in [("#/", ".groups tbody tr"), ("#/g/t/n/pump", ".sessions tbody tr")] {
        browser.go("about:blank").await;
        browser.go(&format!("{}/{hash}", service.url)).await;
        browser.shows("#connection", "Live").await;
        browser.shows(shown, "a").await;
        browser.until("document.querySelector('#clock').innerText !== ''").await;
        browser.eval(NOTE_WHEN_STALE).await;
        service.signal(Signal::SIGSTOP);
        let after_s = until_stale_s(&browser).await;
        browser.shows("#connection", "Not up to date").await;
        browser.shows("#banner", "The service does not answer. Trying again. Nothing new is known since ").await;
        assert_eq!(browser.eval("getComputedStyle(document.querySelector('main')).filter").await, "grayscale(1)");
        // No clock runs on, and no lease runs down.
        browser.until("document.querySelector('#clock').innerText === ''").await;
        let leases = "[...document.querySelectorAll('.sessions .left')].every((one) => one.innerText === 'not known')";
        browser.until(leases).await;
        // What it says stays what it was known at.
        let said = browser.text("#banner").await;
        browser.until("performance.now() - window.staleAt > 1500").await;
        assert_eq!(browser.text("#banner").await, said);
        service.signal(Signal::SIGCONT);
        browser.shows("#connection", "Live").await;
        browser.until("document.querySelector('#banner').hidden && !document.body.classList.contains('stale')").await;
        println!("{hash}: said after {after_s:.1} s");
        assert!(after_s < 5.0, "{hash}: {after_s} s");
    }
    browser.shows(".sessions tbody tr", " s").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_line_that_is_cut_without_a_word_is_noticed() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    app.group_of("pump", MINUTE, &["a"]).await;
    app.beat("pump", "a", 100.0).await;
    let (proxy, url) = proxy_to(&app.url).await;
    for hash in ["#/", "#/g/t/n/pump"] {
        browser.go("about:blank").await;
        browser.go(&format!("{url}/{hash}")).await;
        browser.shows("#connection", "Live").await;
        browser.eval(NOTE_WHEN_STALE).await;
        proxy.set_gate(Gate::Held);
        let after_s = until_stale_s(&browser).await;
        browser.shows("#banner", "The service does not answer. Trying again. Nothing new is known since ").await;
        proxy.set_gate(Gate::Open);
        browser.shows("#connection", "Live").await;
        println!("{hash}: said after {after_s:.1} s");
        assert!(after_s < 5.0, "{hash}: {after_s} s");
    }
    // A page whose first question is not answered says so too.
    browser.eval("fetch('page/main.js').then(() => { window.isHere = true; })").await;
    browser.until("window.isHere").await;
    proxy.set_gate(Gate::Held);
    browser.eval("location.hash = '#/n/t/n'").await;
    browser.shows("#banner", "The service does not answer. Trying again.").await;
    proxy.set_gate(Gate::Open);
    browser.shows("#connection", "Live").await;
    browser.shows(".groups tbody tr", "pump").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_stream_that_is_held_back_is_said_and_the_state_is_read() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    app.group_of("pump", MINUTE, &["a", "b"]).await;
    app.beat("pump", "a", 100.0).await;
    let (proxy, url) = proxy_to(&app.url).await;
    browser.go(&format!("{url}/#/g/t/n/pump")).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".history tbody tr", "first heartbeat").await;
    proxy.set_gate(Gate::StreamsHeld);
    browser.shows("#banner", "The stream of changes is").await;
    browser.shows("#banner", "meanwhile the state is read every two seconds.").await;
    // What happens now is seen all the same, the history included.
    app.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".facts", "Primary nobody").await;
    browser.shows(".history tbody tr:first-child", "a Primary → Secondary a session was deleted").await;
    assert_eq!(browser.eval("document.body.classList.contains('stale')").await, false);
    browser.go(&format!("{url}/#/")).await;
    browser.shows(".changes li", "pump in t / n: a Primary → Secondary").await;
    assert_eq!(app.beat("pump", "b", 100.0).await, 1);
    browser.shows(".changes li:first-child", "pump in t / n: b Secondary → Primary").await;
    proxy.set_gate(Gate::Open);
    browser.shows("#connection", "Live").await;
}

/// The clock that ages are counted by may stand still while a machine sleeps.
#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn after_a_sleep_nothing_is_believed_until_it_was_read_again() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    app.group_of("pump", MINUTE, &["a"]).await;
    app.beat("pump", "a", 100.0).await;
    let (proxy, url) = proxy_to(&app.url).await;
    browser.go(&format!("{url}/#/g/t/n/pump")).await;
    browser.shows("#connection", "Live").await;
    proxy.set_gate(Gate::Held);
    browser.eval(NOTE_WHEN_STALE).await;
    browser.eval("(() => { const real = Date.now; Date.now = () => real() + 3600000; })()").await;
    let after_s = until_stale_s(&browser).await;
    browser.shows(".sessions .left", "not known").await;
    proxy.set_gate(Gate::Open);
    browser.shows("#connection", "Live").await;
    browser.shows(".sessions .left", " s").await;
    // At once, and not only when the silence has lasted.
    assert!(after_s < 2.0, "{after_s} s");
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_database_that_is_away_is_no_news() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    app.group_of("pump", MINUTE, &["a"]).await;
    app.beat("pump", "a", 100.0).await;
    browser.go(&app.url).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".groups tbody tr", "pump").await;
    browser.eval(NOTE_WHEN_STALE).await;
    // Every statement waits, as it does while a disk does not answer; the stream itself is there.
    let mut lock = app.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE role_transitions, groups IN ACCESS EXCLUSIVE MODE")
        .execute(&mut lock)
        .await
        .expect("it locks");
    let after_s = until_stale_s(&browser).await;
    browser.shows("#banner", "Nothing new is known since ").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.expect("it ends");
    browser.shows("#connection", "Live").await;
    println!("said after {after_s:.1} s");
    assert!(after_s < 6.0, "{after_s} s");
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn eight_windows_of_a_browser_share_one_stream() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    for number in 0..8 {
        app.pair_with(&format!("g{number}"), 10 * MINUTE).await;
    }
    let mut windows = Vec::new();
    for number in 0..8 {
        windows.push(browser.open_window().await);
        // Each looks at something else.
        let hash = if number == 0 { "#/".to_owned() } else { format!("#/g/t/n/g{number}") };
        browser.go(&format!("{}/{hash}", app.url)).await;
        browser.shows("#connection", "Live").await;
    }
    let metrics = async || app.http.get(format!("{}/metrics", app.url)).send().await.expect("it answers").text().await;
    let streams = async || {
        let text = metrics().await.expect("it is whole");
        let line = text.lines().find_map(|line| line.strip_prefix("client_failover_event_streams "));
        line.expect("it is counted").to_owned()
    };
    eventually("there is one stream", async || streams().await == "1").await;
    // Each hears of what it looks at.
    for (number, window) in windows.iter().enumerate().skip(1) {
        app.delete(&format!("/g{number}/clientsessions/a")).await.expect_ok();
        browser.go_on_in(window).await;
        browser.shows(".history tbody tr:first-child", "a Primary → Secondary").await;
        assert_eq!(browser.eval("document.visibilityState").await, "visible");
    }
    browser.go_on_in(&windows[0]).await;
    browser.shows(".changes li:first-child", "g7 in t / n").await;
    eventually("there is one stream", async || streams().await == "1").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_browser_that_cannot_share_a_stream_reads_and_says_so() {
    let app = TestApp::start().await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    let without = serde_json::json!({"source": "delete window.SharedWorker"});
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", without).await;
    browser.go(&app.url).await;
    browser.shows("#connection", "Read every 2 s").await;
    browser.shows("#banner", "This browser cannot share a stream between windows").await;
    app.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".groups tbody tr", "pump t / n No Primary").await;
    browser.shows(".changes li:first-child", "a Primary → Secondary").await;
}
