//! The audit trail: who changed what, as SQL shows it.

use std::time::Duration;

use client_failover::store::audit_search::ACTIONS;
use serde_json::{Value, json};

use crate::support::credentials::{create_key, revoke_key};
use crate::support::helpers::{Answer, TestApp, eventually};
use crate::support::program::{program, run};

#[tokio::test]
async fn every_change_is_a_row_with_who_made_it_and_what_was_before_and_after() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Name": "N", "Milliseconds": 30_000})).await.expect_ok();
    let same = app.put("/g", json!({"Name": "N", "Milliseconds": 30_000})).await;
    let changed = app.put("/g", json!({"Name": "M", "Milliseconds": 30_000})).await;
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "silent"})).await.expect_ok();
    app.beat("g", "a", 50.0).await;
    app.get("/g").await.expect_ok();
    app.delete("/g").await.expect_error(409);
    app.delete("/g/clientsessions/silent").await.expect_ok();
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "b"})).await.expect_ok();
    app.beat("g", "b", 50.0).await;
    app.delete("/g?force=true").await.expect_ok();
    app.post("", json!({"Id": "h"})).await.expect_ok();
    app.post("", json!({"Id": "h"})).await.expect_ok();
    app.delete("/h").await.expect_ok();
    let (key, _) = create_key(&app.database, "k", &["--tenant", "t", "--role", "client"]).await;
    revoke_key(&app.database, key).await;

    let rows = app.database.rows("SELECT * FROM audit_log ORDER BY audit_id").await;
    let configuration = |name: &str| json!({"Name": name, "Description": null, "Milliseconds": 30_000.0});
    let was = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        [text("action"), text("tenant_id"), text("namespace_id"), text("group_id"), text("session_id")].join(" ")
    };
    assert_eq!(
        rows.iter().map(was).collect::<Vec<_>>(),
        [
            "group_created t n g -",
            "group_changed t n g -",
            "live_session_deleted t n g a",
            "group_deleted_by_force t n g -",
            "group_created t n h -",
            "group_deleted t n h -",
            "key_created t - - -",
            "key_revoked t - - -",
        ]
    );
    assert_eq!((&rows[0]["before"], &rows[0]["after"]), (&Value::Null, &configuration("N")));
    assert_eq!((&rows[1]["before"], &rows[1]["after"]), (&configuration("N"), &configuration("M")));
    assert_eq!(rows[2]["before"], json!({"Role": 1, "By": "client"}));
    assert_eq!((&rows[3]["before"]["LiveSessions"], &rows[3]["before"]["Sessions"]), (&json!(1), &json!(["b"])));
    assert_eq!(rows[6]["after"]["Name"], "k");
    assert!(rows[..6].iter().all(|row| row["identity"] == "anonymous"));
    assert!(rows[6..].iter().all(|row| row["identity"].as_str().is_some_and(|who| who.starts_with("command:"))));
    assert_eq!(rows[1]["operation_id"], changed.header("operation-id"));
    assert!(rows.iter().all(|row| row["operation_id"] != same.header("operation-id")));
}

#[tokio::test]
async fn an_entry_has_an_id_of_the_services_own_and_the_callers_word_beside_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let app = TestApp::start().await;
    let create = async |group: &str, trace: &str| {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}", app.url);
        let request = app.http.put(url).json(&json!({})).header("traceparent", trace);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200);
        answer.header("operation-id").to_owned()
    };
    // Two requests that claim the same trace, and one with what is none.
    assert_eq!(create("a", &format!("00-{TRACE}-00f067aa0ba902b7-01")).await, TRACE);
    assert_eq!(create("b", &format!("00-{TRACE}-00f067aa0ba902b7-01")).await, TRACE);
    let own = create("c", &"x".repeat(4_000)).await;
    let rows = app
        .database
        .rows("SELECT operation_id AS own, claimed_trace_id AS claimed FROM audit_log ORDER BY group_id")
        .await;
    assert!(rows.iter().all(|row| row["own"] != TRACE), "{rows:?}");
    assert_ne!(rows[0]["own"], rows[1]["own"]);
    assert_eq!(
        [&rows[0]["claimed"], &rows[1]["claimed"], &rows[2]["claimed"]],
        [TRACE, TRACE, ""]
            .map(|trace| match trace {
                "" => Value::Null,
                trace => json!(trace),
            })
            .each_ref()
    );
    assert_eq!(rows[2]["own"], own);
}

#[tokio::test]
async fn entries_are_kept_for_their_time_and_deleted_a_few_at_a_time() {
    let app = TestApp::start_with(|settings| {
        settings.failover.events.prune_interval = Duration::from_millis(100);
        settings.failover.events.audit_retention = Duration::from_secs(86_400);
    })
    .await;
    app.database
        .execute(
            "INSERT INTO audit_log (recorded_at, action, tenant_id, identity, operation_id)
             SELECT now() - interval '1 day 1 minute', 'group_created', 't', 'old', i::text FROM generate_series(1, 2500) i;
             INSERT INTO audit_log (recorded_at, action, tenant_id, identity, operation_id)
             SELECT now() - interval '23 hours', 'group_created', 't', 'young', i::text FROM generate_series(1, 5) i",
        )
        .await;
    let left = async || app.database.rows("SELECT identity, count(*) AS n FROM audit_log GROUP BY identity").await;
    eventually("the old ones are gone", async || left().await == [json!({"identity": "young", "n": 5})]).await;
}

/// By HTTP it is looked through in either direction, page by page, with a bound on how many are
/// looked at for one.
#[tokio::test]
async fn the_audit_trail_is_looked_through_in_either_direction() {
    let app = TestApp::start().await;
    app.database
        .execute(
            "INSERT INTO audit_log (recorded_at, action, tenant_id, identity, operation_id)
             SELECT '2020-01-01T00:00:00Z'::timestamptz + i * interval '1 s', 'group_created', 'u', 'basic:' || i % 7, i::text
             FROM generate_series(1, 25000) i",
        )
        .await;
    app.put("/g", json!({"Name": "N"})).await.expect_ok();
    let ask = async |place: &str, query: &str| {
        Answer::of(app.http.get(format!("{}/api/v1{place}/clientfailover/audit?{query}", app.url))).await
    };
    let ids = |page: &Value| {
        let entries = page["Entries"].as_array().expect("a list").iter();
        entries.map(|entry| entry["AuditId"].as_i64().expect("a number")).collect::<Vec<_>>()
    };
    let latest = ask("", "count=3").await.expect_ok();
    assert_eq!(ids(&latest), [25_001, 25_000, 24_999]);
    assert_eq!((&latest["Next"], &latest["More"]), (&json!(24_999), &json!(true)));
    assert_eq!(latest["Entries"][0]["After"]["Name"], "N");
    assert_eq!(ids(&ask("", "count=2&before=24999").await.expect_ok()), [24_998, 24_997]);
    let oldest = ask("", "after=0&count=2&who=BASIC:3").await.expect_ok();
    assert_eq!(ids(&oldest), [3, 10]);
    // Whoever waits for more goes on from the end.
    let end = ask("", "after=25001").await.expect_ok();
    assert_eq!((ids(&end), &end["Next"], &end["More"]), (vec![], &json!(25_001), &json!(false)));

    // A page can be empty, and not the last.
    let mut pages = 0;
    let mut query = "action=group_created&since=2020-01-01T00:00:01Z&until=2020-01-01T00:00:02Z".to_owned();
    loop {
        let page = ask("/tenants/u", &query).await.expect_ok();
        pages += 1;
        if page["More"] == false {
            assert_eq!(ids(&page), [1]);
            assert_eq!(page["Next"], Value::Null);
            break;
        }
        assert_eq!(ids(&page), [0; 0]);
        query = format!("action=group_created&until=2020-01-01T00:00:02Z&before={}", page["Next"]);
    }
    assert_eq!(pages, 2);
    // What lies beyond the range is not looked for.
    let young = ask("", "since=2021-01-01T00:00:00Z&count=1000").await.expect_ok();
    assert_eq!(ids(&young), [25_001]);
    let young = ask("", &format!("since=2021-01-01T00:00:00Z&before={}", young["Next"])).await.expect_ok();
    assert_eq!((ids(&young), &young["More"]), (vec![], &json!(false)));
    assert_eq!(ids(&ask("/tenants/t", "").await.expect_ok()), [25_001]);
    for wrong in ["action=blessed", "before=1&after=1", "count=0", "count=1001", "since=yesterday", "who=%00"] {
        ask("", wrong).await.expect_error(400);
    }
    let known =
        "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conname = 'audit_log_action_is_known'";
    let known = app.database.rows(known).await[0]["text"].as_str().expect("a text").to_owned();
    assert_eq!(known.matches("::text").count(), ACTIONS.len(), "{known}");
    assert!(ACTIONS.iter().all(|action| known.contains(&format!("'{action}'"))), "{known}");
}

#[tokio::test]
async fn the_audit_trail_is_exported_as_lines_of_json() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Name": "N"})).await.expect_ok();
    app.put("/g", json!({"Name": "M"})).await.expect_ok();
    app.database
        .execute(
            "INSERT INTO audit_log (recorded_at, action, tenant_id, identity, operation_id)
             SELECT '2020-01-01T00:00:00Z', 'group_created', 'u', 'x', i::text FROM generate_series(1, 1500) i",
        )
        .await;
    let export = async |arguments: &[&str]| {
        let mut command = program();
        command.args(["audit", "export"]).args(arguments).env("DATABASE_URL", app.database.url());
        let output = run(command).await.ok();
        output.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect::<Vec<Value>>()
    };
    let all = export(&[]).await;
    assert_eq!(all.len(), 1_502);
    assert!(all.iter().map(|entry| entry["AuditId"].as_i64()).is_sorted());
    let first = &all[0];
    assert_eq!(
        (&first["Action"], &first["TenantId"], &first["GroupId"]),
        (&json!("group_created"), &json!("t"), &json!("g"))
    );
    assert_eq!((&first["Identity"], &first["ClaimedTraceId"]), (&json!("anonymous"), &Value::Null));
    assert_eq!((&all[1]["Before"]["Name"], &all[1]["After"]["Name"]), (&json!("N"), &json!("M")));
    assert_eq!(all[1_501]["RecordedAt"], "2020-01-01T00:00:00.000000Z");
    assert_eq!(export(&["--since", "2021-01-01T00:00:00Z"]).await.len(), 2);
    assert_eq!(export(&["--until", "2021-01-01T00:00:00Z"]).await.len(), 1_500);
    assert_eq!(export(&["--tenant", "t"]).await, all[..2]);
}
