//! The list of groups: whole, in order, and in parts.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::helpers::TestApp;
use crate::support::wire::{GROUPS, Request};

/// Groups `g0001` and so on, written straight to the database: the list reads them by their keys,
/// whatever those are.
async fn fill(app: &TestApp, groups: usize) {
    app.database
        .execute(&format!(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
             SELECT gen_random_uuid(), 't', 'n', 'g' || lpad(i::text, 4, '0'), 600000000
             FROM generate_series(1, {groups}) i ORDER BY random()"
        ))
        .await;
}

fn ids(list: &Value) -> Vec<&str> {
    let groups = list.as_array().unwrap_or_else(|| panic!("a list is an array: {list}"));
    groups.iter().map(|group| group["Id"].as_str().expect("an id is a string")).collect()
}

fn numbered(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|number| format!("g{number:04}")).collect()
}

#[tokio::test]
async fn a_list_is_in_order_of_the_bytes_of_the_ids() {
    let app = TestApp::start().await;
    let ordered = ["!", "-", "10", "9", "A", "Z", "a", "a b", "a!", "aa", "ab", "b", "z", "é", "ﬀ", "😀"];
    for id in ordered.iter().rev() {
        app.post("", json!({"Id": id})).await.expect_ok();
    }
    assert_eq!(ids(&app.get("").await.expect_ok()), ordered);
    assert_eq!(ids(&app.get("?skip=5&count=3").await.expect_ok()), ["Z", "a", "a b"]);

    let session_ids = ["Z", "a", "é", "😀"];
    app.group_of("a", 60_000, &["é", "a", "😀", "Z"]).await;
    let text = app.get("/a").await.text;
    let places = session_ids.map(|id| text.find(&format!("\"{id}\":{{\"SessionId\"")).expect("it is shown"));
    assert!(places.is_sorted(), "{text}");
}

#[tokio::test]
async fn a_list_of_several_pages_is_complete_and_in_order() {
    let app = TestApp::start().await;
    fill(&app, 250).await;
    let all = app.get("").await;
    assert_eq!(all.header("total-count"), "250");
    assert_eq!(ids(&all.expect_ok()), numbered(1..=250));
    for (query, first, last) in [
        ("?skip=0", 1, 250),
        ("?count=0", 1, 0),
        ("?count=1", 1, 1),
        ("?count=99", 1, 99),
        ("?count=100", 1, 100),
        ("?count=101", 1, 101),
        ("?count=200", 1, 200),
        ("?count=201", 1, 201),
        ("?count=250", 1, 250),
        ("?count=251", 1, 250),
        ("?count=9223372036854775807", 1, 250),
        ("?skip=99", 100, 250),
        ("?skip=100", 101, 250),
        ("?skip=101&count=149", 102, 250),
        ("?skip=249", 250, 250),
        ("?skip=250", 1, 0),
        ("?skip=9223372036854775807", 1, 0),
        ("?skip=9223372036854775807&count=9223372036854775807", 1, 0),
        ("?skip=10&count=5", 11, 15),
        ("?count=5&skip=10", 11, 15),
        ("?COUNT=5&Skip=10", 11, 15),
        ("?skip=000010&count=%35", 11, 15),
        ("?skip=10&count=5&unknown=x&&=", 11, 15),
    ] {
        let part = app.get(query).await;
        assert_eq!(part.header("total-count"), "250", "{query}");
        assert_eq!(ids(&part.expect_ok()), numbered(first..=last), "{query}");
    }
}

#[tokio::test]
async fn a_skip_or_count_that_is_no_whole_number_is_named() {
    let app = TestApp::start().await;
    for name in ["skip", "count", "Skip"] {
        for wrong in [
            "",
            "-1",
            "+1",
            "%2B1",
            "1.0",
            "1e2",
            "0x10",
            "ten",
            "1%20",
            "%D9%A1",
            "NaN",
            "9223372036854775808",
            "99999999999999999999999999",
            "%FF",
            "1;DROP TABLE groups",
        ] {
            let request = Request::get(format!("{GROUPS}?{name}={}", wrong.replace(' ', "%20")));
            let reason = request.send(&app).await.expect_error(400);
            assert!(reason.contains(&name.to_lowercase()), "{name}={wrong}: {reason}");
        }
        app.get(&format!("?{name}")).await.expect_error(400);
    }
}

#[tokio::test]
async fn a_list_shows_each_group_as_get_does_and_none_of_another_namespace() {
    let app = TestApp::start().await;
    for group in ["a", "b", "c"] {
        app.group_of(group, 60_000, &["x", "y"]).await;
    }
    app.beat("b", "x", 99.5).await;
    let elsewhere =
        ["/api/v1/tenants/t/namespaces/N/", "/api/v1/tenants/t2/namespaces/n/", "/api/v1/tenants/n/namespaces/t/"];
    for parent in elsewhere {
        let groups = format!("{parent}clientfailover/groups");
        Request::put(format!("{groups}/b"), r#"{"Name":"elsewhere"}"#).send(&app).await.expect_ok();
        let list = Request::get(groups).send(&app).await;
        assert_eq!((list.header("total-count"), list.body.as_array().map(Vec::len)), ("1", Some(1)));
    }
    let list = app.get("").await;
    assert_eq!(list.header("total-count"), "3");
    let gets = join_all(["/a", "/b", "/c"].map(|path| app.get(path))).await;
    assert_eq!(list.expect_ok(), Value::Array(gets.into_iter().map(|group| group.expect_ok()).collect()));
    let never_used = Request::get("/api/v1/tenants/new/namespaces/new/clientfailover/groups").send(&app).await;
    assert_eq!((never_used.header("total-count"), &never_used.body), ("0", &json!([])));
}

#[tokio::test]
async fn a_group_with_more_sessions_than_a_list_has_groups_to_a_page_is_shown_whole() {
    let app = TestApp::start_with(|settings| settings.failover.session_limit = 150).await;
    app.group_of("g", 60_000, &[]).await;
    app.database
        .execute(
            "INSERT INTO sessions (group_key, session_id)
             SELECT group_key, 's' || lpad(i::text, 3, '0') FROM groups, generate_series(1, 149) i",
        )
        .await;
    app.post("/g/clientsessions", json!({"Id": "s150"})).await.expect_ok();
    assert_eq!(app.beat("g", "s150", 1.0).await, 1);
    let list = app.get("").await.expect_ok();
    let sessions = list[0]["Sessions"].as_object().expect("an object");
    let wanted: Vec<String> = (1..=150).map(|number| format!("s{number:03}")).collect();
    assert!(sessions.keys().eq(&wanted));
    assert_eq!(list[0]["Clients"]["s150"]["Role"], 1);
    app.post("/g/clientsessions", json!({"Id": "s151"})).await.expect_error(409);
}

#[tokio::test]
async fn a_list_goes_on_after_groups_that_are_deleted_while_it_is_read() {
    use sqlx::{Connection as _, Executor as _};

    let app = TestApp::start().await;
    fill(&app, 250).await;
    // The list reads a page's keys, then its groups with their sessions, which this holds up.
    let mut holder = app.database.connect().await;
    let mut deletion = holder.begin().await.expect("a transaction begins");
    deletion.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE").await.expect("nobody else holds it");
    let list = app.get("");
    let delete_first_page = async {
        let waiting = "SELECT 1 AS one FROM pg_locks WHERE relation = 'sessions'::regclass AND NOT granted";
        while app.database.rows(waiting).await.is_empty() {}
        deletion.execute("DELETE FROM groups WHERE group_id <= 'g0100'").await.expect("they are deleted");
        deletion.commit().await.expect("it is committed");
    };
    let (list, ()) = tokio::join!(list, delete_first_page);
    assert_eq!(ids(&list.expect_ok()), numbered(101..=250));
}
