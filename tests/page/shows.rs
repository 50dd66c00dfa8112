//! The page for operators, in a real browser.

mod appearance;
mod groups;

use std::time::Duration;

use client_failover::access::AuthOptions;
use client_failover_workshop::needs;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER, ESCAPE, HOME, LEFT, TAB};
use crate::support::credentials::{add_user, create_key, new_dir};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, settings, without_sweeps};

const MINUTE: i64 = 60_000;

/// A service that counts all the time.
async fn start() -> TestApp {
    TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await
}

/// Nothing went wrong in the page's scripts, and nothing was kept from running or loading. That a
/// request was refused is no fault of the page.
pub async fn no_faults(browser: &Browser) {
    let faults: Vec<String> = browser.log().await;
    let faults: Vec<&String> = faults.iter().filter(|line| !line.contains("Failed to load resource")).collect();
    assert_eq!(faults, Vec::<&String>::new());
}

impl TestApp {
    /// A group of a Primary `a` and a standby `b`.
    pub async fn pair(&self, group: &str) {
        self.pair_with(group, MINUTE).await;
    }

    /// As [`TestApp::pair`], with that timeout: a long one, where no lease is to lapse however busy
    /// the machine is.
    pub async fn pair_with(&self, group: &str, timeout_ms: i64) {
        self.group_of(group, timeout_ms, &["a", "b"]).await;
        assert_eq!(self.beat(group, "a", 100.0).await, 1);
        assert_eq!(self.beat(group, "b", 100.0).await, 0);
    }
}

#[tokio::test]
async fn the_page_is_open_to_anybody_and_closed_to_everything_from_elsewhere() {
    let app =
        TestApp::start_with(|settings| settings.auth = AuthOptions { api_keys: true, ..AuthOptions::default() }).await;
    let index = app.http.get(&app.url).send().await.expect("it answers");
    assert_eq!(index.status(), StatusCode::OK);
    let headers = index.headers().clone();
    let text = index.text().await.expect("it is whole");
    let policy = headers["content-security-policy"].to_str().expect("ASCII");
    for rule in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "no-cache");

    // Whatever it names is there, and whatever is there has no other source.
    let mut files = vec![text];
    let loaded_later = ["stream", "actions", "dialog", "outlook", "curl"];
    let mut names: Vec<String> = loaded_later.iter().map(|name| format!("page/{name}.js")).collect();
    names.extend(files[0].split(['"', '\'']).filter(|word| word.starts_with("page/")).map(str::to_owned));
    assert!(names.len() > 10);
    for name in names {
        let url = format!("{}/{name}", app.url);
        let answer = app.http.get(&url).send().await.expect("it answers");
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let kind = answer.headers()["content-type"].to_str().expect("ASCII").to_owned();
        let wanted = [(".js", "text/javascript"), (".css", "text/css"), (".svg", "image/svg+xml")];
        assert!(wanted.iter().any(|(end, start)| name.ends_with(end) && kind.starts_with(start)), "{name}: {kind}");
        let tag = answer.headers()[ETAG].clone();
        let again = app.http.get(&url).header(IF_NONE_MATCH, tag).send().await.expect("it answers");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = app.http.get(&url).header(IF_NONE_MATCH, "\"another\"").send().await.expect("it answers");
        assert_eq!(other.status(), StatusCode::OK);
        files.push(answer.text().await.expect("it is whole"));
    }
    for file in &files {
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick="] {
            assert!(!file.contains(word), "{word} in {file}");
        }
        let elsewhere = file.split("://").count() - 1;
        let names_of_formats = file.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(elsewhere, names_of_formats, "{file}");
    }
    for (method, path, status) in
        [(Method::POST, "/", 405), (Method::GET, "/page", 401), (Method::GET, "/page/nothing.js", 404)]
    {
        let request = app.http.request(method, format!("{}{path}", app.url));
        Answer::of(request).await.expect_error(status);
    }
}

#[tokio::test]
async fn a_browser_is_not_told_to_ask_for_a_password_by_itself() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "eve", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), api_keys: true, ..AuthOptions::default() };
    })
    .await;
    let challenge = async |header: Option<&str>| {
        let mut request = app.http.get(format!("{}/api/v1/clientfailover/status", app.url));
        if let Some(header) = header {
            request = request.header("X-Requested-With", header);
        }
        let answer = Answer::of(request).await;
        let challenge = answer.header("www-authenticate").to_owned();
        answer.expect_error(401);
        challenge
    };
    assert!(challenge(None).await.contains(", Basic realm="));
    assert!(challenge(Some("page")).await.contains(", xBasic realm="));
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_takeover_is_seen_without_a_reload() {
    let app = start().await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".facts", "Primary a since").await;
    browser.shows(".history tbody", "first heartbeat of the group").await;
    browser.eval("window.isSame = true").await;

    // The Primary falls silent; the other one's heartbeat takes over.
    app.database.let_time_pass(MINUTE + 1).await;
    assert_eq!(app.beat("pump", "b", 100.0).await, 1);
    browser.shows(".facts", "Primary b since").await;
    browser.shows(".sessions tbody tr:last-child", "a Silent").await;
    browser.shows(".sessions tbody tr:last-child", "run out").await;
    browser.shows(".history tbody tr:first-child", "b Secondary → Primary a lease ran out a heartbeat 2").await;
    browser.shows(".facts", "Term 2").await;
    browser.until("document.querySelectorAll('.held.primary').length === 2").await;
    browser.until("document.querySelector('.held.primary[data-open]').ariaLabel.startsWith('b Primary since')").await;
    browser
        .until("document.querySelector('#announcer').textContent === 'pump: b is Primary now, a lease ran out.'")
        .await;
    browser.shows(".risks", "Nobody could take over").await;

    // What the bar says where the pointer is, and where the focus is.
    browser.eval("document.querySelector('.held.primary[data-open]').focus()").await;
    browser.shows("#tip", "b Primary, term 2").await;
    browser.shows("#tip", "began: a lease ran out").await;

    // The lease runs down by itself.
    let left = "Number.parseFloat(document.querySelector('.sessions .left').innerText)";
    browser.eval(&format!("window.leftBefore = {left}")).await;
    browser.until(&format!("{left} < window.leftBefore")).await;

    // And a goodbye: nobody is left.
    app.delete("/pump/clientsessions/b").await.expect_ok();
    browser.shows(".facts", "Primary nobody").await;
    browser.shows(".risks", "Nobody acts: its only session is silent.").await;
    browser.shows(".history tbody tr:first-child", "b Primary → Secondary a session was deleted").await;
    // The group itself: its past stays.
    app.delete("/pump").await.expect_ok();
    browser.shows(".group > .problem", "This group was deleted at ").await;
    browser.shows(".history tbody tr:first-child", "a session was deleted").await;
    assert_eq!(browser.eval("window.isSame").await, true);
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_stream_that_breaks_is_said_and_comes_back_with_what_it_missed() {
    let browser = Browser::start().await;
    let database = TestDatabase::new().await;
    let replica = TestReplica::start(settings(database.connect_options())).await;
    let port: u16 = replica.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it has a port");
    let other = TestReplica::start(settings(database.connect_options())).await;
    other.group_of("pump", MINUTE, &["a", "b"]).await;
    assert_eq!(other.beat("pump", "a", 100.0).await, 1);
    assert_eq!(other.beat("pump", "b", 100.0).await, 0);
    browser.go(&replica.url).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".groups tbody tr", "pump t / n Fine a for").await;
    other.delete("/pump/clientsessions/b").await.expect_ok();
    browser.shows(".groups tbody tr", "pump t / n No standby a").await;
    browser.until("document.querySelector('#banner').hidden").await;

    replica.stop().await;
    browser.shows("#banner", "The service cannot be reached. Trying again. Nothing new is known since").await;
    browser.shows("#connection", "Not up to date").await;
    // Meanwhile, at another replica.
    other.post("/pump/clientsessions", json!({"Id": "c"})).await.expect_ok();
    other.delete("/pump/clientsessions/a").await.expect_ok();
    assert_eq!(other.beat("pump", "c", 100.0).await, 1);

    let mut same = settings(database.connect_options());
    same.listen.set_port(port);
    let replica = TestReplica::start(same).await;
    browser.shows("#connection", "Live").await;
    browser.until("document.querySelector('#banner').hidden").await;
    browser.shows(".groups tbody tr", "pump t / n No standby c").await;
    // What happened while nobody could say so was resumed from the stream.
    browser.shows(".changes li:first-child", "pump in t / n: c Secondary → Primary").await;
    browser.shows(".changes li", "pump in t / n: a Primary → Secondary, a session was deleted").await;

    // The stream alone: there is no place for another one, and the state is read all the same.
    let mut crowded = settings(database.connect_options());
    crowded.failover.events.max_streams = 0;
    let crowded = TestReplica::start(crowded).await;
    browser.go(&crowded.url).await;
    browser.shows(".groups tbody tr", "pump t / n No standby c").await;
    browser.shows("#connection", "Stream down").await;
    browser.shows("#banner", "The stream of changes is down.").await;
    no_faults(&browser).await;
    crowded.stop().await;
    replica.stop().await;
    other.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn groups_at_risk_come_first_with_their_reasons_and_the_rest_is_found_by_searching() {
    let app = start().await;
    let browser = Browser::start().await;
    app.pair("fine").await;
    app.group_of("alone", MINUTE, &["a", "b"]).await;
    app.beat("alone", "a", 100.0).await;
    app.group_of("ill", MINUTE, &["a", "b"]).await;
    app.beat("ill", "a", 40.5).await;
    app.beat("ill", "b", 20.0).await;
    app.group_of("vacant", MINUTE, &["a"]).await;
    let many = "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
        SELECT gen_random_uuid(), 'other', 'far', 'spare-' || to_char(i, 'FM000'), 600000000 FROM generate_series(1, 120) i";
    app.database.execute(many).await;

    browser.go(&app.url).await;
    let order = "[...document.querySelectorAll('.groups tbody th > a:first-child')].slice(0, 3).map((one) => one.innerText).join()";
    browser.until(&format!("{order} === 'vacant,alone,ill'")).await;
    let row = |number: u32| format!(".groups tbody tr:nth-child({number})");
    browser.shows(&row(1), "vacant t / n No Primary nobody").await;
    browser.shows(&row(2), "alone t / n No standby a").await;
    browser.shows(&row(3), "ill t / n Primary unhealthy a").await;
    browser.shows(&row(3), "40.5 %").await;
    browser.shows(".found", "124 groups, 3 at risk.").await;
    browser
        .shows(".tiles", "Groups 124 At risk 3 No Primary 1 No standby 1 Unhealthy 1 Flapping 0 Sessions live 5 of 7")
        .await;
    browser.shows(".namespaces li:first-child", "other / far 120 groups").await;
    browser.shows(".namespaces li:last-child", "t / n 4 groups 3 at risk").await;

    // Page by page, as the service has them.
    assert_eq!(browser.eval("document.querySelectorAll('.groups tbody tr').length").await, 50);
    browser.shows(".list .range", "1–50 of 124").await;
    browser.click(".list .pager button:last-of-type").await;
    browser.shows(".list .range", "51–100 of 124").await;
    browser.click(".list .pager button:last-of-type").await;
    browser.shows(".list .range", "101–124 of 124").await;
    assert_eq!(browser.eval("document.querySelectorAll('.groups tbody tr').length").await, 24);
    assert_eq!(browser.eval("document.querySelector('.list .pager button:last-of-type').disabled").await, true);

    // The search goes over all of them, and its address can be kept.
    browser.fill("#search", "E-077").await;
    browser.shows(".found", "1 group found for “E-077”, 0 at risk.").await;
    browser.shows(".groups tbody tr", "spare-077 other / far Not in use").await;
    assert_eq!(browser.eval("location.hash").await, "#/?search=E-077");
    browser.go("about:blank").await;
    browser.go(&format!("{}/#/?search=E-077", app.url)).await;
    browser.shows(".found", "1 group found for “E-077”").await;
    assert_eq!(browser.eval("document.querySelector('#search').value").await, "E-077");
    browser.fill("#search", "no such").await;
    browser
        .shows(".list .nothing", "No group has that in its names, its description or the ids of its sessions.")
        .await;
    browser.go(&format!("{}/#/", app.url)).await;
    browser.click("#only-at-risk").await;
    browser.shows(".found", "3 groups at risk.").await;
    assert_eq!(browser.eval("document.querySelectorAll('.groups tbody tr').length").await, 3);

    // What becomes a risk while somebody looks is there without being asked for.
    app.delete("/fine/clientsessions/a").await.expect_ok();
    browser.shows(&row(1), "fine t / n No Primary nobody").await;
    browser.shows(".changes li", "fine in t / n: a Primary → Secondary, a session was deleted").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn names_that_are_markup_are_shown_as_text() {
    let app = start().await;
    let browser = Browser::start().await;
    let group = "<img src=x onerror=\"window.hit=1\"> 50%41 ü 日本";
    let session = "<svg onload=window.hit=2>&amp;";
    let name = "<script>window.hit=3</script>";
    let base = format!("{}/api/v1/tenants/{}/namespaces/n%252F/clientfailover/groups", app.url, "%3Cb%3E");
    let at = |below: &[&str]| {
        let mut url = reqwest::Url::parse(&base).expect("it is one");
        url.path_segments_mut().expect("it has a path").extend(below);
        url
    };
    let put = app.http.put(at(&[group])).json(&json!({"Milliseconds": MINUTE, "Name": name, "Description": name}));
    Answer::of(put).await.expect_ok();
    let register = app.http.post(at(&[group, "clientsessions"])).json(&json!({"Id": session, "Name": name}));
    Answer::of(register).await.expect_ok();
    let beat = app.http.post(at(&[group, "clientsessions", session])).json(&json!({"PercentHealthyStreams": 100}));
    Answer::of(beat).await.expect_ok();

    browser.go(&app.url).await;
    browser.shows(".groups tbody tr th", name).await;
    let shown = Value::from(group);
    browser.until(&format!("document.querySelector('.groups tbody th > a').textContent === {shown}")).await;
    browser.until("document.querySelector('.namespaces .place')?.textContent === '<b> / n%2F'").await;
    browser.click(".groups tbody th > a").await;
    browser.until(&format!("document.querySelector('h1')?.textContent === {shown}")).await;
    browser.shows(".sessions tbody tr", session).await;
    browser.shows(".sessions tbody tr", name).await;
    browser.until("document.querySelector('.held') !== null").await;
    browser.eval("document.querySelector('.held').focus()").await;
    browser.shows("#tip", session).await;
    // The address leads to the same place in another window.
    let address = browser.eval("location.href").await;
    browser.go("about:blank").await;
    browser.go(address.as_str().expect("a text")).await;
    browser.until(&format!("document.querySelector('h1')?.textContent === {shown}")).await;
    browser.shows(".facts", "Primary <svg onload=window.hit=2>&amp; since").await;
    // Something happens to it while the page looks on: that is said, too.
    Answer::of(app.http.delete(at(&[group, "clientsessions", session]))).await.expect_ok();
    browser.shows(".history tbody tr:first-child", session).await;
    for hash in ["#/g/%", "#/g/a/b/%E0%A4%A", "#/n/%/x", "#/x/y", "#garbage"] {
        browser.eval(&format!("location.hash = {}", Value::from(hash))).await;
        browser.shows("h1", "All tenants").await;
    }
    assert_eq!(browser.eval("window.hit ?? null").await, Value::Null);
    assert_eq!(browser.eval("document.querySelectorAll('main img, main svg, main script, main b').length").await, 0);
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn whoever_is_asked_who_they_are_signs_in_and_sees_what_is_theirs() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "Zoë", "correct: horse", &["--tenant", "*", "--role", "viewer"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), api_keys: true, ..AuthOptions::default() };
        settings.failover.census_interval = Duration::from_millis(100);
    })
    .await;
    let browser = Browser::start().await;
    let (_, key) = create_key(&app.database, "wallboard", &["--tenant", "t", "--role", "viewer"]).await;
    let other = TestReplica::start(settings(app.database.connect_options())).await;
    other.group_of("pump", MINUTE, &["a", "b"]).await;
    assert_eq!(other.beat("pump", "a", 100.0).await, 1);

    // A replica of an earlier version does not tell which places are somebody's.
    let earlier = "{ const real = window.fetch;
        window.fetch = (url, options) => new URL(url, location.href).pathname === '/whoami'
            ? Promise.resolve(new Response('{}', { status: 404 })) : real(url, options); }";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": earlier})).await;
    browser.go(&app.url).await;
    browser.shows("h1", "Sign in").await;
    browser.until("document.querySelector('.problem').innerText === ''").await;
    assert_eq!(browser.eval("document.activeElement.id").await, "secret");
    browser.press(&format!("cfk_nothing{ENTER}")).await;
    browser.shows(".problem", "key").await;
    assert_eq!(browser.eval("sessionStorage.length").await, 0);
    browser.fill("#secret", &format!("{key}{ENTER}")).await;

    // A key for one tenant does not open the overview of all.
    browser.shows("h1", "Which namespace?").await;
    browser.shows("main", "'key:1:wallboard' is not 'viewer'").await;
    browser.fill("#tenant", "u").await;
    browser.fill("#namespace", &format!("n{ENTER}")).await;
    browser.shows("main", "of tenant 'u'").await;
    browser.fill("#tenant", &format!("t{TAB}n{ENTER}")).await;
    browser.shows("h1", "t / n").await;
    browser.shows(".groups tbody tr", "pump No standby a").await;
    browser.shows("#connection", "Live").await;
    assert_eq!(browser.eval("location.hash").await, "#/n/t/n");
    // The stream came with the credentials, too.
    other.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".groups tbody tr", "pump No Primary nobody").await;
    browser.click(".groups tbody th > a").await;
    browser.shows(".facts", "Primary nobody").await;
    let places =
        "JSON.stringify([location.href, document.cookie, {...localStorage}, history.state, document.body.innerHTML])";
    assert!(!browser.eval(places).await.as_str().expect("a text").contains(&key[4..]));

    browser.click("#sign-out").await;
    browser.shows("h1", "Sign in").await;
    assert_eq!(browser.eval("document.querySelector('#sign-out').hidden").await, true);
    assert!(!browser.eval("JSON.stringify({...sessionStorage})").await.to_string().contains("cfk_"));
    assert!(!browser.text("main").await.contains("pump"));

    // A name and a password, any characters in it, and no question from the browser itself.
    browser.click("input[value=password]").await;
    browser.fill("#name", "Zoë").await;
    browser.press(&format!("{TAB}correct: horse{ENTER}")).await;
    browser.shows(".facts", "Primary nobody").await;
    browser.click(".brand").await;
    browser.shows(".groups tbody tr", "pump t / n No Primary nobody").await;
    browser.shows("h1", "All tenants").await;
    no_faults(&browser).await;
    other.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_change_anything_through_a_browser() {
    let app = start().await;
    app.pair("pump").await;
    let sent_by = async |site: Option<&str>, method: Method, path: &str| {
        let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups{path}");
        let mut request =
            app.http.request(method, format!("{}{path}", app.url)).body(r#"{"PercentHealthyStreams": 100}"#);
        if let Some(site) = site {
            request = request.header("Sec-Fetch-Site", site);
        }
        Answer::of(request.header("Content-Type", "application/json")).await
    };
    for site in ["cross-site", "same-site", "anything"] {
        sent_by(Some(site), Method::POST, "/pump/clientsessions/a").await.expect_error(403);
        sent_by(Some(site), Method::PUT, "/other").await.expect_error(403);
        sent_by(Some(site), Method::DELETE, "/pump").await.expect_error(403);
        // To look is harmless: a browser does not show the answer to a page of another site.
        assert_eq!(sent_by(Some(site), Method::GET, "/pump").await.status, 200);
    }
    for site in [None, Some("same-origin"), Some("none")] {
        assert_eq!(sent_by(site, Method::POST, "/pump/clientsessions/a").await.status, 200);
    }
}

#[tokio::test]
async fn a_page_that_only_its_origin_tells_from_ours_cannot_change_anything() {
    let app = TestApp::start().await;
    let host = app.url.strip_prefix("http://").expect("plain HTTP").to_owned();
    let put = async |origin: &str, typed: bool| {
        let request =
            app.http.put(format!("{}{}/g", app.url, crate::support::wire::GROUPS)).header("origin", origin).body("{}");
        let request = if typed { request.header("content-type", "application/json") } else { request };
        Answer::of(request).await
    };
    for origin in ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", ""] {
        put(origin, true).await.expect_error(403);
    }
    let ours = format!("http://{host}");
    put(&ours, false).await.expect_error(415);
    put(&ours, true).await.expect_ok();
}
