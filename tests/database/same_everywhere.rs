//! What is said in more than one place, because it has to be: in the service, in the views of the
//! database, on the page, in the manual. That it is the same.

use std::time::Duration;

use client_failover::arbitration::Reason;
use client_failover::failover::risks;
use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp, TestDatabase, eventually};

const ROLES: [&str; 3] = ["Secondary", "Primary", "PendingPrimary"];

/// A heartbeat: how long ago it came, and for how long it gave a lease, in seconds.
const HEARTBEATS: [(&str, Option<(i64, i64)>); 8] = [
    ("silent", None),
    ("running", Some((30, 180))),
    ("over", Some((600, 180))),
    // It ran when the long outage began, which counts for every lease: it has its whole time again
    // from its end.
    ("extended", Some((300, 240))),
    ("extended-and-over", Some((270, 45))),
    // It ran when the shorter outage began, which counts for a lease of less than four times as
    // long.
    ("short-lease-extended", Some((168, 102))),
    ("longer-lease-not-extended", Some((168, 114))),
    ("given-after-both", Some((45, 120))),
];

/// From when to when the service was away, in seconds, and from which length on that counts for
/// every lease.
const OUTAGES: [(i64, i64, i64); 2] = [(231, 174, 15), (99, 72, 60)];

/// What is true of each session, by the clock of whoever looks: no end is nearer than a few
/// seconds.
#[tokio::test]
async fn a_role_is_as_true_in_the_views_as_in_what_the_service_answers() {
    let app = TestApp::start_with(|settings| {
        // What is stored stays as it is.
        settings.failover.sweep_interval = Duration::from_secs(3_600);
        settings.failover.prompt_lapses = false;
        settings.failover.census_interval = Duration::from_millis(100);
    })
    .await;
    // All of it is of one moment.
    let mut statements = Vec::new();
    for (began, recovered, counts_from) in OUTAGES {
        statements.push(format!(
            "INSERT INTO service_outages (began_at, recovered_at, counts_from)
             VALUES (now() - interval '{began} s', now() - interval '{recovered} s', interval '{counts_from} s')"
        ));
    }
    for (role, name) in ROLES.iter().enumerate() {
        for (about, heartbeat) in HEARTBEATS {
            let group = format!("{name}-{about}");
            app.group_of(&group, 60_000, &["s"]).await;
            let of_group = format!("(SELECT group_key FROM groups WHERE group_id = '{group}')");
            statements.push(format!("UPDATE sessions SET role = {role} WHERE group_key = {of_group}"));
            let Some((ago, given_for)) = heartbeat else { continue };
            statements.push(format!(
                "INSERT INTO heartbeats (group_key, session_id, percent_healthy_streams, heartbeat_time, received_at,
                     lease_until, heard_until)
                 SELECT group_key, 's', 100, received_at, received_at, received_at + interval '{given_for} s', received_at
                 FROM {of_group} g, (SELECT now() - interval '{ago} s' AS received_at) at"
            ));
        }
    }
    app.database.execute(&statements.join(";")).await;
    let all = ROLES.len() * HEARTBEATS.len();

    let seen = app.database.rows("SELECT group_id, role, live FROM session_status ORDER BY group_id").await;
    assert_eq!(seen.len(), all);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let by_view: Vec<(String, String, bool)> = seen
        .iter()
        .map(|row| (text(&row["group_id"]), text(&row["role"]), row["live"].as_bool().expect("yes or no")))
        .collect();

    let mut by_status = Vec::new();
    let mut by_list = Vec::new();
    for group in app.get("").await.expect_ok().as_array().expect("a list") {
        let id = text(&group["Id"]);
        let role = |session: &Value| ROLES[session["Role"].as_u64().expect("a number") as usize].to_owned();
        by_list.push((id.clone(), role(&group["Clients"]["s"])));
        let status = app.get(&format!("/{id}/status")).await.expect_ok();
        let session = &status["Sessions"][0];
        let is_live = session["LeaseLeftMs"].as_i64().is_some_and(|left| left > 0);
        by_status.push((id, role(session), is_live));
    }
    assert_eq!(by_status, by_view);
    assert_eq!(by_list, by_view.iter().map(|(id, role, _)| (id.clone(), role.clone())).collect::<Vec<_>>());
    // Otherwise nothing was shown.
    let live: Vec<&str> = by_view.iter().filter(|(.., live)| *live).map(|(id, ..)| id.as_str()).collect();
    let expected = ["extended", "given-after-both", "running", "short-lease-extended"];
    assert_eq!(live.len(), ROLES.len() * expected.len(), "{live:?}");
    assert!(live.iter().all(|id| expected.iter().any(|about| id.ends_with(about))), "{live:?}");

    let primaries =
        "SELECT count(primary_session)::int AS primaries, sum(live_sessions)::int AS live FROM group_status";
    assert_eq!(app.database.rows(primaries).await, [json!({"primaries": 4, "live": live.len()})]);
    let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/status", app.url);
    eventually("the census has counted the same", async || {
        let counted = Answer::of(app.http.get(&url)).await.expect_ok()["Counted"].clone();
        counted["LiveSessions"] == live.len() && counted["Groups"] == all
    })
    .await;
}

fn file(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test]
async fn every_reason_for_a_change_of_a_role_is_known_to_the_table_the_page_and_the_manual() {
    let database = TestDatabase::new().await;
    let check = "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint
        WHERE conname = 'role_transitions_reason_is_known'";
    let check = database.rows(check).await[0]["text"].as_str().expect("a text").to_owned();
    let (page, manual) = (file("src/http/page/words.js"), file("docs/operations.md"));
    for name in Reason::ALL.map(Reason::name) {
        assert!(check.contains(&format!("'{name}'")), "{name}: {check}");
        assert!(page.contains(&format!("  {name}: ")), "{name} has no words on the page");
        assert!(manual.contains(&format!("| `{name}` |")), "{name} is not in the manual");
    }
}

#[tokio::test]
async fn the_thresholds_of_risks_are_those_of_the_view_the_page_the_metrics_and_the_alerts() {
    let database = TestDatabase::new().await;
    let view = "SELECT pg_get_viewdef('group_risks') || pg_get_viewdef('group_status') AS text";
    let view = database.rows(view).await[0]["text"].as_str().expect("a text").to_owned();
    let (below, grants, span) = (risks::UNHEALTHY_BELOW, risks::FLAPPING_GRANTS, risks::FLAPPING_SPAN);
    let minutes = span.as_secs() / 60;
    let time = |span: Duration| {
        format!("'{:02}:{:02}:{:02}'::interval", span.as_secs() / 3_600, span.as_secs() / 60 % 60, span.as_secs() % 60)
    };
    for part in [
        format!("({below})::numeric"),
        format!(">= {grants}"),
        time(span),
        format!("((h.rhythm % 100) >= {})", risks::SIGNS_OF_TWO),
        format!(
            "({})::double precision * failover_timeout(g.failover_timeout_ticks)), {}",
            risks::STILL_TIMEOUTS,
            time(risks::STILL_AT_LEAST)
        ),
        format!(
            "(failover_timeout(g.failover_timeout_ticks) / (2)::double precision), {}",
            time(risks::AHEAD_AT_LEAST)
        ),
        format!("(((h.rhythm / 100) % 10) >= {})", risks::LATE_IN_A_ROW),
        format!("live_sessions > {}", risks::TWO_PAIRS),
        format!("(g.registered_sessions - g.live_sessions) > {}", risks::NEW_IDS_FROM),
        format!("(n.ids >= {})", risks::NEW_IDS_FROM),
        format!("RANGE BETWEEN {} PRECEDING", time(risks::NEW_ID_WITHIN)),
    ] {
        assert!(view.contains(&part), "{part}: {view}");
    }
    assert_eq!((grants, minutes), (4, 10), "the texts say it in words");
    for (path, text) in [
        ("src/http/page/group.js", format!("percents < {below}")),
        ("src/http/page/words.js", format!("less than {below} % healthy streams")),
        ("src/http/page/words.js", "at least four times in ten minutes".to_owned()),
        ("src/http/status.rs", format!("below {below} per cent")),
        ("src/metrics/text.rs", format!("below {below} per cent")),
        ("src/http/status.rs", "five timeouts, and for five minutes".to_owned()),
        ("src/metrics/text.rs", "five timeouts and five minutes".to_owned()),
        ("docs/operations.md", "for five timeouts, and for five minutes".to_owned()),
        ("docs/operations.md", "by half a timeout, and by 5 s".to_owned()),
        ("docs/operations.md", "four in a row".to_owned()),
        ("docs/operations.md", "more than four live sessions".to_owned()),
        ("deploy/monitoring/alerts.yml", format!("below {below} per cent")),
        ("docs/operations.md", format!("less than {below} per cent")),
    ] {
        assert!(file(path).contains(&text), "{path}: {text}");
    }
}

#[tokio::test]
async fn every_risk_is_known_to_the_view_the_page_the_description_and_the_manual() {
    let database = TestDatabase::new().await;
    let view = database.rows("SELECT pg_get_viewdef('group_risks') AS text").await[0]["text"]
        .as_str()
        .expect("a text")
        .to_owned();
    let comment = "SELECT col_description('group_risks'::regclass, attnum) AS text FROM pg_attribute
        WHERE attrelid = 'group_risks'::regclass AND attname = 'risk'";
    let comment = database.rows(comment).await[0]["text"].as_str().expect("a text").to_owned();
    let (page, manual) = (file("src/http/page/words.js"), file("docs/operations.md"));
    let description = file("src/http/status.rs");
    for (place, risk) in risks::Risk::ALL.into_iter().enumerate() {
        let name = risk.name();
        let in_order = format!("({},'{name}'::text,", place + 1);
        assert!(view.replace(", ", ",").contains(&in_order), "{name}: {view}");
        assert!(comment.contains(name), "{name}: {comment}");
        assert!(page.contains(&format!("    case '{name}':")), "{name} has no words on the page");
        assert!(description.contains(&format!("{name}: ")), "{name} is not described");
        assert!(manual.contains(&format!("| `{name}` |")), "{name} is not in the manual");
    }
}
