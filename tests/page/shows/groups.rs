//! What is shown of a group, now and before.

use super::*;

/// The bars of the timeline: the lane's name, what it says, and the part of the time shown at which
/// it begins and ends, in per cent.
const BARS: &str = "[...document.querySelectorAll('.held')].map((bar) => {
    const [left, width] = [Number.parseFloat(bar.style.left), Number.parseFloat(bar.style.width)];
    const lane = bar.closest('.lane').querySelector('.who').innerText;
    return [lane, bar.className.replace('held ', ''), Math.round(left), Math.round(left + width)];
})";

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn nobody_is_missed_before_a_group_existed() {
    let app = start().await;
    let browser = Browser::start().await;
    // Registered in, and never heard of.
    app.group_of("mute", MINUTE, &["a"]).await;
    browser.go(&format!("{}/#/g/t/n/mute?span=5m", app.url)).await;
    browser.shows("#connection", "Live").await;
    browser.shows(".past", "No role changed in the last five minutes.").await;
    assert_eq!(browser.eval(BARS).await, json!([]));

    // A Primary that was gone a minute after, and none since: half of the five minutes before the
    // group is blank.
    app.group_of("pump", MINUTE, &["a", "b"]).await;
    app.beat("pump", "a", 100.0).await;
    app.delete("/pump/clientsessions/a").await.expect_ok();
    let earlier = "UPDATE groups SET created_at = created_at - interval '150 s';
        UPDATE configuration_changes SET recorded_at = recorded_at - interval '150 s';
        UPDATE role_transitions SET recorded_at = recorded_at - interval '150 s' WHERE to_role = 1;
        UPDATE role_transitions SET recorded_at = recorded_at - interval '90 s' WHERE to_role = 0";
    app.database.execute(earlier).await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    // Where they lie moves on with every second that this takes; not how long they are, and not
    // that the second begins where the first ends.
    let bars = format!(
        "(([a, nobody]) => a?.[0] === 'a' && a[1] === 'primary' && a[3] - a[2] >= 19 && a[3] - a[2] <= 21
            && a[2] > 25 && a[2] <= 50
            && nobody?.[0] === 'nobody' && nobody[1] === 'vacant' && nobody[2] === a[3] && nobody[3] === 100)({BARS})"
    );
    browser.until(&bars).await;

    // Deleted and created again: in between there is nobody to miss.
    app.delete("/pump").await.expect_ok();
    app.group_of("pump", MINUTE, &["c"]).await;
    app.beat("pump", "c", 100.0).await;
    let earlier =
        "UPDATE configuration_changes SET recorded_at = recorded_at - interval '30 s' WHERE kind = 'group_deleted'";
    app.database.execute(earlier).await;
    browser.go("about:blank").await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    browser.shows(".facts", "Primary c").await;
    // A fifth of the span; where it lies moves on with every second that this takes.
    let lanes = format!(
        "{BARS}.filter(([lane]) => lane === 'nobody').map(([, what, left, right]) =>
            [what, right - left >= 19 && right - left <= 21 && right <= 91 && right > 40]).join() === 'vacant,true'"
    );
    browser.until(&lanes).await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn every_session_has_its_lane_or_it_is_said_how_many_have_none() {
    let app = start().await;
    let browser = Browser::start().await;
    let names: Vec<String> = (1..=12).map(|number| format!("s{number}")).collect();
    app.group_of("twelve", MINUTE, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    app.beat("twelve", "s1", 100.0).await;
    browser.go(&format!("{}/#/g/t/n/twelve", app.url)).await;
    let lanes = "[...document.querySelectorAll('.lane .who')].map((one) => one.innerText).join()";
    browser.until(&format!("{lanes} === 's1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11,s12'")).await;
    browser.until("document.querySelector('.timeline > .nothing').hidden").await;

    app.put("/many", json!({"Milliseconds": MINUTE})).await.expect_ok();
    let many =
        "INSERT INTO sessions (group_key, session_id) SELECT group_key, 'm' || i FROM groups, generate_series(1, 60) i
        WHERE group_id = 'many'";
    app.database.execute(many).await;
    app.beat("many", "m60", 100.0).await;
    browser.go(&format!("{}/#/g/t/n/many", app.url)).await;
    browser.shows(".timeline > .nothing", "20 more sessions are not shown here.").await;
    // Who held something is never left out.
    browser.until(&format!("{lanes}.endsWith(',m60')")).await;
    browser.click(".timeline > .nothing button").await;
    browser.until("document.querySelectorAll('.lane').length === 60").await;
    browser.until("document.querySelector('.timeline > .nothing').hidden").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_silent_session_is_not_shown_as_healthy() {
    let app = start().await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    app.database.let_time_pass(MINUTE + 1).await;
    assert_eq!(app.beat("pump", "b", 100.0).await, 1);
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    browser.shows(".sessions tbody tr:last-child", "a Silent last 100 %").await;
    let parts = "[...document.querySelectorAll('.sessions .meter:not(.lease)')].map((one) => one.style.getPropertyValue('--part')).join()";
    browser.until(&format!("{parts} === '1,0'")).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn what_is_counted_and_what_is_listed_are_of_one_moment() {
    // No census comes by itself while this lasts.
    let app = TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_secs(3_600)).await;
    let browser = Browser::start().await;
    browser.go(&app.url).await;
    browser.shows(".tiles", "Groups 0").await;
    app.pair("pump").await;
    browser.shows(".groups tbody tr", "pump t / n Fine").await;
    browser
        .shows(".tiles", "Groups 1 At risk 0 No Primary 0 No standby 0 Unhealthy 0 Flapping 0 Sessions live 2 of 2")
        .await;
    browser.shows(".namespaces li", "t / n 1 group").await;
    app.delete("/pump/clientsessions/b").await.expect_ok();
    browser.shows(".groups tbody tr", "pump t / n No standby").await;
    browser
        .shows(".tiles", "Groups 1 At risk 1 No Primary 0 No standby 1 Unhealthy 0 Flapping 0 Sessions live 1 of 1")
        .await;
    browser.shows(".namespaces li", "t / n 1 group 1 at risk").await;
    browser.shows(".found", "1 group, 1 at risk.").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_handover_is_no_group_without_a_primary() {
    let app = start().await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    browser.go(&format!("{}/#/g/t/n/pump?span=5m", app.url)).await;
    browser.shows(".facts", "Primary a since").await;
    // Watched over: whether it ever said anything in red.
    let watch = "(() => {
        window.alarms = [];
        new MutationObserver(() => {
            for (const one of document.querySelectorAll('main [data-tone=bad], main .none')) window.alarms.push(one.innerText);
        }).observe(document.querySelector('main'), { childList: true, subtree: true, characterData: true, attributes: true });
    })()";
    browser.eval(watch).await;
    assert_eq!(app.beat("pump", "a", 50.0).await, 0);
    browser.shows(".head .condition", "Handover").await;
    browser.shows(".facts", "Primary handover from a PendingPrimary b waits for a").await;
    browser.until("document.querySelector('.held.handover[data-open]') !== null").await;
    let status = app.get("/pump/status").await.expect_ok();
    assert_eq!(
        (&status["Risks"], &status["HandoverFrom"], &status["Primary"]),
        (&json!([]), &json!("a"), &Value::Null)
    );
    let seen = app.database.rows("SELECT risk FROM group_risks").await;
    assert_eq!(seen, Vec::<Value>::new());

    assert_eq!(app.beat_acting_as("pump", "a", 50.0, 0).await, 0);
    assert_eq!(app.beat("pump", "b", 100.0).await, 1);
    browser.shows(".facts", "Primary b since").await;
    browser.until("document.querySelectorAll('.held.handover').length === 1 && document.querySelector('.held.vacant') === null").await;
    browser.eval("document.querySelector('.held.handover').focus()").await;
    browser.shows("#tip", "A handover").await;
    assert_eq!(browser.eval("window.alarms").await, json!([]));

    // Where nobody is left who could take over, it is one.
    assert_eq!(app.beat("pump", "a", 100.0).await, 0);
    assert_eq!(app.beat("pump", "b", 20.0).await, 0);
    browser.shows(".head .condition", "Handover").await;
    app.delete("/pump/clientsessions/a").await.expect_ok();
    app.delete("/pump/clientsessions/b").await.expect_ok();
    app.post("/pump/clientsessions", json!({"Id": "c"})).await.expect_ok();
    browser.shows(".head .condition", "No Primary").await;
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn the_latest_changes_are_there_at_first_look() {
    let app = start().await;
    let browser = Browser::start().await;
    for number in 0..15 {
        app.group_of(&format!("g{number}"), MINUTE, &["a"]).await;
        app.beat(&format!("g{number}"), "a", 100.0).await;
    }
    let elsewhere = "UPDATE role_transitions SET namespace_id = 'm' WHERE group_id = 'g14'";
    app.database.execute(elsewhere).await;
    browser.go(&app.url).await;
    browser.shows(".changes li:first-child", "g14 in t / m: a Secondary → Primary, first heartbeat of the group").await;
    browser.shows(".changes li:last-child", "g3 in t / n: a Secondary → Primary").await;
    browser.go(&format!("{}/#/n/t/n", app.url)).await;
    browser.shows(".changes li:first-child", "g13: a Secondary → Primary").await;
    // What comes now is before them, once.
    app.delete("/g0/clientsessions/a").await.expect_ok();
    browser.shows(".changes li:first-child", "g0: a Primary → Secondary").await;
    assert_eq!(browser.eval("document.querySelectorAll('.changes li').length").await, 12);
    no_faults(&browser).await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_group_is_described_and_a_deleted_one_is_told_from_one_that_never_was() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    add_user(&users, "eve", "correct horse", &["--tenant", "t", "--role", "admin"]).await;
    add_user(&users, "vic", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { users_file: Some(users), ..AuthOptions::default() };
    })
    .await;
    let browser = Browser::start().await;
    let open = TestReplica::start(settings(app.database.connect_options())).await;
    let body = json!({"Milliseconds": MINUTE, "Description": "Feeds the boiler.\nAsk Ann."});
    open.put("/pump", body).await.expect_ok();
    open.post("/pump/clientsessions", json!({"Id": "a"})).await.expect_ok();
    open.beat("pump", "a", 100.0).await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    let sign_in = async |name: &str| {
        browser.shows("h1", "Sign in").await;
        browser.fill("#name", name).await;
        browser.press(&format!("{TAB}correct horse{ENTER}")).await;
    };
    sign_in("eve").await;
    browser.shows(".head .description", "Feeds the boiler. Ask Ann.").await;

    let groups = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups", app.url);
    let delete = app.http.delete(format!("{groups}/pump?force=true")).basic_auth("eve", Some("correct horse"));
    Answer::of(delete).await.expect_ok();
    browser.shows(".group > .problem", "This group was deleted at ").await;
    browser.shows(".group > .problem", " by basic:eve. What is known of its past is below.").await;
    browser.shows(".history tbody tr:first-child", "a Primary → Secondary a session was deleted").await;
    browser.until("document.querySelectorAll('.held.primary').length === 1").await;
    browser.until("document.querySelector('.held.vacant') === null").await;
    // Days later its last hour is shown, and not the hour that is now.
    let earlier = "UPDATE configuration_changes SET recorded_at = recorded_at - interval '3 days';
        UPDATE audit_log SET recorded_at = recorded_at - interval '3 days';
        UPDATE role_transitions SET recorded_at = recorded_at - interval '3 days'";
    app.database.execute(earlier).await;
    browser.go("about:blank").await;
    browser.go(&format!("{}/#/g/t/n/pump", app.url)).await;
    browser.shows(".history tbody tr:first-child", "a Primary → Secondary a session was deleted").await;
    browser.until("document.querySelectorAll('.held.primary').length === 1").await;
    // One that never was.
    browser.go(&format!("{}/#/g/t/n/pmup", app.url)).await;
    browser.shows(".group > .problem", "There is no such group, and nothing is known of one: is its name right?").await;
    browser.until("document.querySelector('.past').hidden").await;

    // Who did it is for those who may do it.
    browser.click("#sign-out").await;
    browser.eval("location.hash = '#/g/t/n/pump'").await;
    sign_in("vic").await;
    browser.shows(".group > .problem", "This group was deleted at ").await;
    assert!(!browser.text(".group > .problem").await.contains("eve"));
    no_faults(&browser).await;
    open.stop().await;
}
