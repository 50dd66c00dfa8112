//! The operators' word: who is to be Primary and who is not, for how long, what comes of it, and
//! what is left of it to be looked at.

use client_failover::arbitration::HandoverMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::helpers::{TestApp, TestReplica, eventually, without_sweeps};
use crate::support::sse::{EventStream, NAMESPACE_EVENTS};
use crate::support::wire::Request;

const MINUTE: i64 = 60_000;

const SECONDARY: i64 = 0;
const PRIMARY: i64 = 1;
const PENDING: i64 = 2;

/// A Primary `a` that is healthier than `b`, which stands by.
async fn start() -> TestApp {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut client_failover::config::Settings)) -> TestApp {
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        change(settings);
    })
    .await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    app
}

async fn wish(replica: &TestReplica, session: &str, body: Value) -> Value {
    replica.post(&format!("/g/clientsessions/{session}/wish"), body).await.expect_accepted()
}

/// The wish of a session as the group's status shows it.
async fn shown(replica: &TestReplica, session: &str) -> Value {
    let status = replica.get("/g/status").await.expect_ok();
    let sessions = status["Sessions"].as_array().expect("a list");
    let found = sessions.iter().find(|shown| shown["SessionId"] == session).expect("it is there");
    found["Wish"].clone()
}

#[tokio::test]
async fn a_forced_session_takes_over_and_the_primary_is_waited_for() {
    let app = start().await;
    let outlook = wish(&app, "b", json!({"Wish": "Forced"})).await;
    assert_eq!(outlook["Wish"], json!({"Wish": "Forced", "WhenSilent": "Replace", "Until": null}));
    assert_eq!((&outlook["SessionId"], &outlook["Primary"]), (&json!("b"), &json!("a")));
    assert_eq!(shown(&app, "b").await["Wish"], "Forced");
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING, "a may act until the end of its lease");
    assert_eq!(app.beat_acting_as("g", "a", 100.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY, "however much healthier the other is");
    assert_eq!(
        app.database.trace("g").await[1..],
        ["b 0>2 override heartbeat 1", "a 1>0 override heartbeat 1", "b 2>1 handover_completed heartbeat 2"]
    );
    app.delete("/g/clientsessions/b/wish").await.expect_accepted();
    assert_eq!(shown(&app, "b").await, Value::Null);
    assert_eq!(app.beat("g", "a", 100.0).await, PENDING, "and without it the healthier one is first");
}

#[tokio::test]
async fn who_is_excluded_is_not_primary_until_that_is_over() {
    let app = start().await;
    wish(&app, "a", json!({"Wish": "excluded", "For": "02:00:00"})).await;
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    assert_eq!(app.beat_acting_as("g", "a", 100.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
    app.delete("/g/clientsessions/b?by=client").await.expect_ok();
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    let status = app.get("/g/status").await.expect_ok();
    assert_eq!((&status["Primary"], &status["VacantByWish"]), (&Value::Null, &json!("Excluded")));
    let row = &app.database.rows("SELECT vacant_because FROM group_status").await[0];
    assert_eq!(row["vacant_because"], "excluded");
    app.database.let_time_pass(2 * 60 * MINUTE).await;
    assert_eq!(shown(&app, "a").await, Value::Null, "it is over, whoever has come by since");
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    let ended = "SELECT wish, wish_ended FROM configuration_changes WHERE kind = 'wish_ended'";
    assert_eq!(app.database.rows(ended).await, [json!({"wish": "excluded", "wish_ended": "expired"})]);
    assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());
    assert_eq!(app.database.rows("SELECT has_wishes FROM groups").await[0]["has_wishes"], false);
}

#[tokio::test]
async fn who_is_excluded_may_say_goodbye_and_start_again_and_is_excluded() {
    let app = start().await;
    wish(&app, "a", json!({"Wish": "Excluded"})).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    let status = app.get("/g/status").await.expect_ok();
    assert_eq!((&status["Primary"], status["Sessions"].as_array().map(Vec::len)), (&Value::Null, Some(2)));
    assert_eq!(shown(&app, "a").await["Wish"], "Excluded");
    assert_eq!(app.beat("g", "b", 1.0).await, PRIMARY, "its goodbye is not waited for");
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 1.0).await, PRIMARY, "whose machine is worked on takes nothing over");
    app.delete("/g/clientsessions/a?by=operator").await.expect_ok();
    assert_eq!(app.get("/g/status").await.expect_ok()["Sessions"].as_array().map(Vec::len), Some(1));
    // What else is wished of a session goes with it.
    wish(&app, "b", json!({"Wish": "Forced"})).await;
    app.delete("/g/clientsessions/b").await.expect_ok();
    assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());
}

#[tokio::test]
async fn a_place_that_is_held_for_a_silent_one_is_nobody_else_s() {
    let app = start().await;
    wish(&app, "a", json!({"Wish": "Forced", "WhenSilent": "Hold"})).await;
    app.database.let_time_pass(MINUTE).await;
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    let status = app.get("/g/status").await.expect_ok();
    assert_eq!((&status["VacantByWish"], &status["Risks"]), (&json!("Held"), &json!(["NoPrimary"])));
    let risk = &app.database.rows("SELECT risk, vacant_because FROM group_risks").await[0];
    assert_eq!(risk, &json!({"risk": "NoPrimary", "vacant_because": "held"}));
    assert_eq!(app.beat("g", "a", 1.0).await, PRIMARY);
    app.database.let_time_pass(MINUTE).await;
    app.delete("/g/clientsessions/a/wish").await.expect_accepted();
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY, "until it is withdrawn");
}

#[tokio::test]
async fn a_switch_over_happens_once() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    for (to, from, session) in [(json!({"To": "b"}), "a", "b"), (json!({}), "b", "a")] {
        for other in ["a", "b", "c"] {
            app.beat("g", other, if other == "c" { 10.0 } else { 100.0 }).await;
        }
        let outlook = app.post("/g/switchover", to).await.expect_accepted();
        assert_eq!(outlook["Primary"], from);
        assert_eq!(app.beat("g", from, 100.0).await, SECONDARY);
        assert_eq!(app.beat_acting_as("g", from, 100.0, SECONDARY).await, SECONDARY);
        assert_eq!(app.beat("g", session, 100.0).await, PRIMARY);
        assert_eq!(app.beat("g", from, 100.0).await, SECONDARY);
        assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());
    }
    let told = "SELECT kind, session_id, wish, wish_ended FROM configuration_changes WHERE wish IS NOT NULL
        ORDER BY change_id";
    let told = app.database.rows(told).await;
    assert_eq!(
        told,
        [
            json!({"kind": "wish_set", "session_id": "b", "wish": "switch_to", "wish_ended": null}),
            json!({"kind": "wish_ended", "session_id": "b", "wish": "switch_to", "wish_ended": "done"}),
            json!({"kind": "wish_set", "session_id": "b", "wish": "switch_away", "wish_ended": null}),
            json!({"kind": "wish_ended", "session_id": "b", "wish": "switch_away", "wish_ended": "done"}),
        ]
    );
    let audit = "SELECT action, identity FROM audit_log WHERE action LIKE 'wish%' ORDER BY audit_id";
    let audit = app.database.rows(audit).await;
    assert_eq!(audit.len(), 4);
    assert_eq!(audit[1], json!({"action": "wish_ended", "identity": "service"}), "nobody ended it");
    assert_eq!(audit[0]["action"], "wish_set");
    assert_ne!(audit[0]["identity"], "service");
}

#[tokio::test]
async fn a_switch_over_that_would_not_come_about_is_refused_and_says_why() {
    let app = start().await;
    app.post("/g/clientsessions", json!({"Id": "c"})).await.expect_ok();
    for (to, reason) in [(json!({"To": "c"}), "not live"), (json!({"To": "d"}), "no client session")] {
        let answer = app.post("/g/switchover", to).await;
        let status = if reason == "not live" { 409 } else { 404 };
        assert!(answer.expect_error(status).contains(reason));
    }
    wish(&app, "b", json!({"Wish": "Excluded"})).await;
    assert!(app.post("/g/switchover", json!({"To": "b"})).await.expect_error(409).contains("excluded"));
    assert!(app.post("/g/switchover", json!({})).await.expect_error(409).contains("Nobody"));
    wish(&app, "a", json!({"Wish": "Forced"})).await;
    app.delete("/g/clientsessions/b/wish").await.expect_accepted();
    assert!(app.post("/g/switchover", json!({"To": "b"})).await.expect_error(409).contains("forced"));
    assert_eq!(app.beat("g", "a", 1.0).await, PRIMARY);
}

#[tokio::test]
async fn a_switch_over_is_given_up_after_two_timeouts_or_taken_back() {
    let app = start().await;
    app.post("/g/switchover", json!({"To": "b"})).await.expect_accepted();
    assert_eq!(app.beat("g", "b", 90.0).await, PENDING);
    app.delete("/g/switchover").await.expect_accepted();
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    app.post("/g/switchover", json!({"To": "b"})).await.expect_accepted();
    for _ in 0..4 {
        app.database.let_time_pass(MINUTE / 2).await;
        assert_ne!(app.beat("g", "b", 90.0).await, PRIMARY);
        // `a` is not heard: what it may act on is waited for.
        app.database
            .execute("UPDATE heartbeats SET lease_until = clock_timestamp() + interval '1 min' WHERE session_id = 'a'")
            .await;
    }
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    let ends = "SELECT wish_ended FROM configuration_changes WHERE kind = 'wish_ended' ORDER BY change_id";
    assert_eq!(app.database.rows(ends).await, [json!({"wish_ended": "withdrawn"}), json!({"wish_ended": "expired"})]);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let app = start().await;
    let outlook = app.post("/g/clientsessions/b/wish?dry-run=true", json!({"Wish": "Forced"})).await.expect_ok();
    let changes = |outlook: &Value, clients: &str| {
        let changes = outlook[clients]["Changes"].as_array().expect("a list").clone();
        changes
            .iter()
            .map(|change| format!("{} {}>{}", change["SessionId"], change["From"], change["To"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(changes(&outlook, "IfAttentive"), [r#""b" 0>2"#, r#""a" 1>0"#, r#""b" 2>1"#]);
    assert_eq!(changes(&outlook, "IfSilent"), [r#""b" 0>2"#, r#""a" 1>0"#, r#""b" 2>1"#]);
    let gap = |clients: &str| outlook[clients]["WithoutPrimaryMs"].as_i64().expect("a number");
    assert!(gap("IfAttentive") < 10, "{outlook}");
    assert!((MINUTE / 4..=MINUTE).contains(&gap("IfSilent")), "{outlook}");
    assert!(app.database.rows("SELECT * FROM session_wishes").await.is_empty());
    assert_eq!(app.beat("g", "a", 100.0).await, PRIMARY);
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
}

#[tokio::test]
async fn the_sweep_ends_what_nobody_comes_by_to_end() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    wish(&app, "a", json!({"Wish": "Excluded", "For": "00:00:00.2"})).await;
    eventually("it is over", async || app.database.rows("SELECT * FROM session_wishes").await.is_empty()).await;
    let ended = "SELECT wish_ended FROM configuration_changes WHERE kind = 'wish_ended'";
    assert_eq!(app.database.rows(ended).await, [json!({"wish_ended": "expired"})]);
}

#[tokio::test]
async fn in_a_large_group_wishes_count_for_those_who_read_a_part_of_it() {
    let app = TestApp::start_with(without_sweeps).await;
    let names: Vec<String> = (0..80).map(|i| format!("s{i:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    app.group_of("g", MINUTE, &names).await;
    assert_eq!(app.beat("g", "s00", 100.0).await, PRIMARY);
    for name in &names[1..] {
        assert_eq!(app.beat("g", name, 90.0).await, SECONDARY);
    }
    wish(&app, "s40", json!({"Wish": "Forced"})).await;
    assert_eq!(app.beat("g", "s20", 90.0).await, SECONDARY);
    assert_eq!(app.beat("g", "s00", 100.0).await, SECONDARY);
    assert_eq!(app.beat_acting_as("g", "s00", 100.0, SECONDARY).await, SECONDARY);
    assert_eq!(app.beat("g", "s40", 90.0).await, PRIMARY);
    for name in ["s00", "s20", "s79"] {
        assert_eq!(app.beat("g", name, 100.0).await, SECONDARY);
    }
    wish(&app, "s40", json!({"Wish": "Excluded"})).await;
    assert_eq!(app.beat("g", "s40", 100.0).await, SECONDARY);
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let app = start().await;
    for (body, named) in [
        (json!({}), "Wish"),
        (json!({"Wish": "Primary"}), "Wish"),
        (json!({"Wish": "Excluded", "WhenSilent": "Hold"}), "WhenSilent"),
        (json!({"Wish": "Forced", "WhenSilent": "Perhaps"}), "WhenSilent"),
        (json!({"Wish": "Forced", "For": "00:00:00"}), "For"),
        (json!({"Wish": "Forced", "For": "-01:00:00"}), "For"),
        (json!({"Wish": "Forced", "For": "1000.00:00:00"}), "For"),
        (json!({"Wish": "Forced", "Until": "tomorrow"}), "Until"),
        (json!({"Wish": "Forced", "For": "01:00:00", "Until": "2999-01-01T00:00:00Z"}), "For"),
    ] {
        let reason = app.post("/g/clientsessions/b/wish", body.clone()).await.expect_error(400);
        assert!(reason.contains(named), "{body}: {reason}");
    }
    app.post("/h/clientsessions/b/wish", json!({"Wish": "Forced"})).await.expect_error(404);
    app.post("/g/clientsessions/x/wish", json!({"Wish": "Forced"})).await.expect_error(404);
    app.delete("/g/clientsessions/x/wish").await.expect_error(404);
    app.delete("/h/switchover").await.expect_error(404);
    // Over before it began: it changes nothing, and takes no other's place.
    wish(&app, "b", json!({"Wish": "Excluded"})).await;
    wish(&app, "b", json!({"Wish": "Forced", "Until": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(shown(&app, "b").await["Wish"], "Excluded");
    app.delete("/g/clientsessions/b/wish").await.expect_accepted();
    assert_eq!(app.beat("g", "b", 90.0).await, SECONDARY);
    assert_eq!(app.send(Method::PUT, "/g/switchover", Some(json!({}))).await.status, 405);
}

#[tokio::test]
async fn a_role_override_of_the_released_form_holds_the_place() {
    let app = TestApp::start_with(without_sweeps).await;
    let base = "/api/v1/clientfailover/groups";
    let ask = async |method: &str, below: &str, body: Value| {
        let answer = Request::new(method, format!("{base}{below}")).json(body.to_string()).send(&app).await;
        (answer.status.as_u16(), answer.body)
    };
    assert_eq!(ask("POST", "/", json!({"Id": "g"})).await.0, 201);
    for id in ["a", "b"] {
        assert_eq!(ask("POST", "/g/clientsessions", json!({"Id": id})).await.0, 201);
        assert_eq!(
            ask("POST", &format!("/g/clientsessions/{id}/heartbeat"), json!({"FailoverScore": 100})).await.0,
            200
        );
    }
    let (status, answer) = ask("POST", "/g/clientsessions/b/roleoverride", json!({"Value": "primary"})).await;
    assert_eq!((status, answer), (200, json!({"Value": 1, "RoleOverrideExpirationTime": null})));
    let (_, shown) = ask("GET", "/g/clientsessions/b", json!({})).await;
    assert_eq!((&shown["RoleOverride"], &shown["RoleOverrideExpirationTime"]), (&json!(1), &Value::Null));
    let row = &app.database.rows("SELECT wish, when_silent FROM session_wishes").await[0];
    assert_eq!(row, &json!({"wish": "forced", "when_silent": "hold"}));
    let wanted = json!({"Value": 1, "ExpirationPeriod": "01:00:00"});
    let (_, answer) = ask("POST", "/g/clientsessions/b/roleoverride", wanted).await;
    assert!(answer["RoleOverrideExpirationTime"].as_str().is_some_and(|time| time.ends_with('Z')), "{answer}");
    let (status, answer) = ask("POST", "/g/clientsessions/b/roleoverride", json!({"Value": "Off"})).await;
    assert_eq!((status, answer), (200, json!({"Value": 0, "RoleOverrideExpirationTime": null})));
    assert_eq!(ask("GET", "/g/clientsessions/b", json!({})).await.1["RoleOverride"], 0);
    assert_eq!(ask("POST", "/g/clientsessions/b/roleoverride", json!({"Value": 2})).await.0, 400);
    assert_eq!(ask("POST", "/g/clientsessions/x/roleoverride", json!({"Value": 1})).await.0, 404);
}

#[tokio::test]
async fn whoever_listens_is_told_of_wishes() {
    let app = start().await;
    wish(&app, "b", json!({"Wish": "Forced", "WhenSilent": "Hold", "For": "01:00:00"})).await;
    app.delete("/g/clientsessions/b/wish").await.expect_accepted();
    let mut events = EventStream::open(&app, NAMESPACE_EVENTS, Some(0)).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = events.next().await.expect("the stream is open");
        if event.name.starts_with("Wish") {
            told.push((event.name, event.data));
        }
    }
    assert_eq!((told[0].0.as_str(), told[1].0.as_str()), ("WishSet", "WishEnded"));
    assert_eq!(
        (&told[0].1["SessionId"], &told[0].1["Wish"], &told[0].1["WhenSilent"]),
        (&json!("b"), &json!("Forced"), &json!("Hold"))
    );
    assert_eq!(told[1].1["Ended"], "withdrawn");
}

#[tokio::test]
async fn where_handovers_are_prompt_a_wish_does_not_wait_either() {
    let app = start_with(|settings| settings.failover.rules.handover = HandoverMode::Prompt).await;
    wish(&app, "b", json!({"Wish": "Forced"})).await;
    assert_eq!(app.beat("g", "a", 100.0).await, SECONDARY);
    assert_eq!(app.beat("g", "b", 90.0).await, PRIMARY);
}

#[tokio::test]
async fn a_switch_over_can_be_waited_for_and_says_for_how_long_nobody_was_primary() {
    let app = start().await;
    app.beat("g", "b", 100.0).await;
    let nothing = app.post("/g/switchover?wait=0", json!({"To": "b"})).await.expect_accepted();
    assert_eq!(nothing["Outcome"], Value::Null);
    let clients = async {
        eventually("b takes over", async || {
            app.beat("g", "a", 100.0).await;
            app.beat_acting_as("g", "a", 100.0, SECONDARY).await;
            app.beat("g", "b", 100.0).await == PRIMARY
        })
        .await;
    };
    let (answer, ()) = tokio::join!(app.post("/g/switchover?wait=60", json!({"To": "b"})), clients);
    let outcome = answer.expect_ok()["Outcome"].clone();
    assert_eq!(outcome["Primary"], "b");
    let without = outcome["WithoutPrimaryMs"].as_i64().expect("a number");
    assert!(
        (0..MINUTE / 2).contains(&without) && without <= outcome["TookMs"].as_i64().expect("a number"),
        "{outcome}"
    );
    let again = app.post("/g/switchover?wait=60", json!({"To": "b"})).await.expect_ok();
    assert_eq!(again["Outcome"], json!({"Primary": "b", "TookMs": 0, "WithoutPrimaryMs": 0}), "it is already");
    assert!(app.post("/g/switchover?wait=121", json!({})).await.expect_error(400).contains("wait"));
}
