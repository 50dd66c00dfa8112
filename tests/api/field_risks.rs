//! Risks that plants taught: one id for two clients, data that stands still, a clock that is ahead,
//! heartbeats that come seldom, and more than two pairs in a group. Each is shown wherever somebody
//! looks, and none where nothing is wrong.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use client_failover_workshop::needs;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::helpers::{Answer, TestApp, TestReplica, eventually, settings};
use crate::support::program::operate;

/// Long enough for no lease to lapse, and no bound to be met, however busy the machine is. What
/// takes so many heartbeats is given more: a busy machine may notice an outage of the service,
/// which says nothing of a client.
const TIMEOUT_MS: i64 = 600_000;
/// How often a client heartbeats.
const HALF_MS: i64 = TIMEOUT_MS / 2;

/// A service that counts all the time.
async fn start() -> TestApp {
    TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(100)).await
}

/// The clock of this machine, which is the database's too.
#[expect(clippy::disallowed_methods, reason = "a client's own clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A heartbeat by each form of the API.
#[derive(Clone, Copy, Debug)]
enum Form {
    Contract,
    Released,
}

impl TestApp {
    /// A heartbeat that says up to when data was sent.
    async fn says(&self, form: Form, group: &str, session: &str, sent_until: Option<DateTime<Utc>>) {
        let sent_until = sent_until.map(|at| at.to_rfc3339());
        match form {
            Form::Contract => {
                let body = json!({"PercentHealthyStreams": 100, "LastDataSendTime": sent_until});
                self.heartbeat(group, session, body).await.expect_ok();
            }
            Form::Released => {
                let body = json!({"FailoverScore": 100, "LastDataProcessedTime": sent_until});
                self.post(&format!("/{group}/clientsessions/{session}/heartbeat"), body).await.expect_ok();
            }
        }
    }

    /// So many heartbeats of `a`, each as much later, with data that moves; and one of `b` with
    /// each, so that neither lapses.
    async fn beats(&self, form: Form, group: &str, every_ms: &[i64], rounds: usize) {
        for _ in 0..rounds {
            for ms in every_ms {
                self.database.let_time_pass(*ms).await;
                self.says(form, group, "a", Some(now())).await;
                self.database
                    .execute(
                        "UPDATE heartbeats SET received_at = clock_timestamp(), lease_until = clock_timestamp() + (lease_until - received_at),
                             heartbeat_time = clock_timestamp()
                         WHERE session_id <> 'a'",
                    )
                    .await;
            }
        }
    }

    /// A group of a Primary `a` and a standby `b`.
    async fn two(&self, group: &str) {
        self.group_of(group, TIMEOUT_MS, &["a", "b"]).await;
        assert_eq!(self.beat(group, "a", 100.0).await, 1);
        assert_eq!(self.beat(group, "b", 100.0).await, 0);
    }

    /// What the group's own status has it at risk for, and what that is told by.
    async fn risks_of(&self, group: &str) -> Vec<(String, Vec<String>)> {
        let status = self.get(&format!("/{group}/status")).await.expect_ok();
        risks_in(&status)
    }

    /// The same, as the view has it.
    async fn seen_of(&self, group: &str) -> Vec<(String, Vec<String>)> {
        let query = format!(
            "SELECT risk, coalesce(of_sessions, '{{}}') AS of_sessions FROM group_risks WHERE group_id = '{group}' ORDER BY urgency"
        );
        let rows = self.database.rows(&query).await;
        rows.iter().map(|row| (text(&row["risk"]), texts(&row["of_sessions"]))).collect()
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.http.get(format!("{}/metrics", self.url)).send().await.expect("it answers");
        let text = answer.text().await.expect("it is whole");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn texts(values: &Value) -> Vec<String> {
    values.as_array().expect("a list").iter().map(text).collect()
}

fn risks_in(status: &Value) -> Vec<(String, Vec<String>)> {
    let sessions = status["Sessions"].as_array().expect("a list");
    let of = |risk: &Value| {
        let of = sessions.iter().filter(|session| session["Risks"].as_array().expect("a list").contains(risk));
        let mut ids: Vec<String> = of.map(|session| text(&session["SessionId"])).collect();
        ids.sort();
        (text(risk), ids)
    };
    status["Risks"].as_array().expect("a list").iter().map(of).collect()
}

/// A risk, of which sessions, and what is counted of it.
struct Expected<'a> {
    risk: &'a str,
    of: &'a [&'a str],
    metric: &'a str,
    /// What the command line says of it.
    advice: &'a str,
}

/// It is shown by the status of the group, the list and its counts, the view, the metrics and the
/// command line.
async fn is_shown(app: &TestApp, group: &str, expected: Expected<'_>) {
    let Expected { risk, of, metric, advice } = expected;
    let told = vec![(risk.to_owned(), of.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())];
    assert_eq!(app.risks_of(group).await, told);
    assert_eq!(app.seen_of(group).await, told);
    let list = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/status?at_risk=true", app.url);
    eventually("the census has seen it", async || {
        let page = Answer::of(app.http.get(&list)).await.expect_ok();
        let groups = page["Groups"].as_array().expect("a list");
        let listed = groups.iter().find(|listed| listed["GroupId"] == group);
        page["Counted"][risk] == 1 && listed.is_some_and(|listed| risks_in(listed) == told)
    })
    .await;
    // All replicas of the test run count into the same metrics.
    let metric = format!("client_failover_{metric}");
    eventually("the metric shows it", async || app.metric(&metric).await == Some(1.0)).await;
    let table = operate(app, &["status", "--at-risk"]).await.ok();
    assert!(table.lines().any(|line| line.starts_with(group) && line.contains(risk)), "{table}");
    assert_eq!(operate(app, &["status", "--check", "--search", group]).await.code, 7);
    let shown = operate(app, &["groups", "show", group]).await.ok();
    assert!(shown.contains(advice), "{shown}");
}

async fn is_fine(app: &TestApp, group: &str) {
    assert_eq!(app.risks_of(group).await, []);
    assert_eq!(app.seen_of(group).await, []);
}

#[tokio::test]
async fn a_primary_whose_data_stands_still_is_at_risk_by_either_form() {
    for form in [Form::Contract, Form::Released] {
        let app = start().await;
        app.two("g").await;
        app.beats(form, "g", &[HALF_MS], 2).await;
        let still = now();
        // Five timeouts.
        for _ in 0..10 {
            app.database.let_time_pass(HALF_MS).await;
            app.says(form, "g", "a", Some(still)).await;
            app.says(form, "g", "b", None).await;
        }
        is_fine(&app, "g").await;
        // From the end of an outage on it is counted anew: a busy machine may have noticed one.
        for _ in 0..20 {
            app.database.let_time_pass(HALF_MS).await;
            app.says(form, "g", "a", Some(still)).await;
            app.says(form, "g", "b", None).await;
        }
        let expected = Expected {
            risk: "DataStandsStill",
            of: &["a"],
            metric: "groups_with_data_standing_still",
            advice: "the Primary, a, heartbeats but reports no newer data for ",
        };
        is_shown(&app, "g", expected).await;
        app.database.let_time_pass(HALF_MS).await;
        app.says(form, "g", "a", Some(now())).await;
        app.says(form, "g", "b", None).await;
        is_fine(&app, "g").await;
    }
}

/// A standby that has just taken over, one that was silent, a client that never said what it sent,
/// a group after an outage.
#[tokio::test]
async fn data_that_could_not_move_does_not_stand_still() {
    let app = start().await;
    app.two("taken-over").await;
    app.two("mute").await;
    let before = now();
    app.says(Form::Released, "taken-over", "a", Some(before)).await;
    for _ in 0..14 {
        app.database.let_time_pass(HALF_MS).await;
        for (group, session, said) in [
            ("taken-over", "a", Some(now())),
            ("taken-over", "b", Some(before)),
            ("mute", "a", None),
            ("mute", "b", None),
        ] {
            app.says(Form::Released, group, session, said).await;
        }
    }
    app.delete("/taken-over/clientsessions/a").await.expect_ok();
    app.post("/taken-over/clientsessions", json!({"Id": "c"})).await.expect_ok();
    app.says(Form::Released, "taken-over", "b", Some(before)).await;
    app.says(Form::Released, "taken-over", "c", None).await;
    assert_eq!(app.get("/taken-over/status").await.expect_ok()["Primary"], "b");
    is_fine(&app, "taken-over").await;
    is_fine(&app, "mute").await;

    app.two("outage").await;
    app.says(Form::Released, "outage", "a", Some(before)).await;
    for _ in 0..2 {
        app.database.let_an_outage_pass(4 * TIMEOUT_MS).await;
        eventually("the service is back", async || app.is_ready().await).await;
        for session in ["a", "b"] {
            app.says(Form::Released, "outage", session, Some(before)).await;
        }
    }
    is_fine(&app, "outage").await;
}

#[tokio::test]
async fn a_session_whose_heartbeats_come_seldom_is_at_risk_by_either_form() {
    for form in [Form::Contract, Form::Released] {
        let app = start().await;
        app.two("g").await;
        app.beats(form, "g", &[HALF_MS], 2).await;
        app.beats(form, "g", &[TIMEOUT_MS * 3 / 4], 3).await;
        is_fine(&app, "g").await;
        app.beats(form, "g", &[TIMEOUT_MS * 3 / 4], 8).await;
        let expected = Expected {
            risk: "SeldomHeartbeats",
            of: &["a"],
            metric: "groups_with_seldom_heartbeats",
            advice: "heartbeats of a come every 7 min and not every half timeout: set the timeout",
        };
        is_shown(&app, "g", expected).await;
        app.beats(form, "g", &[HALF_MS], 4).await;
        is_fine(&app, "g").await;
    }
}

#[tokio::test]
async fn one_id_for_two_clients_is_a_risk_by_either_form() {
    for form in [Form::Contract, Form::Released] {
        let app = start().await;
        app.two("g").await;
        // As often as one client that is set to half the timeout.
        app.beats(form, "g", &[HALF_MS / 2], 20).await;
        is_fine(&app, "g").await;
        app.beats(form, "g", &[HALF_MS / 4, HALF_MS * 3 / 4], 12).await;
        let expected = Expected {
            risk: "SameIdTwice",
            of: &["a"],
            metric: "groups_with_same_id_twice",
            advice: "the heartbeats of a look like those of two clients with one id",
        };
        is_shown(&app, "g", expected).await;
        // One of them has stopped.
        app.beats(form, "g", &[HALF_MS], 14).await;
        is_fine(&app, "g").await;
    }
}

/// Two clients whose heartbeats fall exactly in the middle are told by what they say.
#[tokio::test]
async fn one_id_for_two_clients_is_told_by_times_that_jump_back_and_forth() {
    let app = start().await;
    app.two("g").await;
    for round in 0..16 {
        app.database.let_time_pass(HALF_MS / 2).await;
        let sent_until = now() - TimeDelta::minutes(round % 2 * 30);
        app.says(Form::Released, "g", "a", Some(sent_until)).await;
        app.says(Form::Released, "g", "b", None).await;
    }
    assert_eq!(app.risks_of("g").await, [("SameIdTwice".to_owned(), vec!["a".to_owned()])]);
    // A client's streams may be of different ages.
    app.two("one").await;
    for round in 0..20 {
        app.database.let_time_pass(HALF_MS).await;
        app.says(Form::Released, "one", "a", Some(now() - TimeDelta::minutes(round % 2 * 30))).await;
        app.says(Form::Released, "one", "b", None).await;
    }
    is_fine(&app, "one").await;
}

#[tokio::test]
async fn a_session_whose_clock_is_ahead_is_at_risk_by_either_form() {
    for form in [Form::Contract, Form::Released] {
        let app = start().await;
        app.two("g").await;
        app.says(form, "g", "a", Some(now() + TimeDelta::seconds(240))).await;
        is_fine(&app, "g").await;
        // A standby's is told too: it may be Primary next.
        app.says(form, "g", "b", Some(now() + TimeDelta::seconds(400))).await;
        let expected = Expected {
            risk: "ClockAhead",
            of: &["b"],
            metric: "groups_with_clock_ahead",
            advice: "times that b said are ahead of the service's clock by 6 min",
        };
        is_shown(&app, "g", expected).await;
        app.says(form, "g", "b", None).await;
        is_fine(&app, "g").await;
        // The time of the heartbeat itself counts as well. Of one that is silent nothing does.
        let body = json!({"PercentHealthyStreams": 100, "HeartbeatTime": (now() + TimeDelta::hours(1)).to_rfc3339()});
        app.heartbeat("g", "b", body).await.expect_ok();
        assert_eq!(app.risks_of("g").await, [("ClockAhead".to_owned(), vec!["b".to_owned()])]);
        app.database.let_time_pass(TIMEOUT_MS + 1).await;
        app.says(form, "g", "a", None).await;
        assert_eq!(app.risks_of("g").await, [("NoStandby".to_owned(), vec![])]);
    }
}

#[tokio::test]
async fn more_than_two_pairs_in_a_group_are_a_risk() {
    let app = start().await;
    app.group_of("g", TIMEOUT_MS, &["a", "b", "c", "d", "silent", "e"]).await;
    for session in ["a", "b", "c", "d"] {
        app.says(Form::Released, "g", session, None).await;
    }
    is_fine(&app, "g").await;
    app.says(Form::Released, "g", "e", None).await;
    let expected = Expected {
        risk: "ManySessions",
        of: &[],
        metric: "groups_with_many_sessions",
        advice: "5 sessions are live, more than two pairs",
    };
    is_shown(&app, "g", expected).await;
    app.delete("/g/clientsessions/e").await.expect_ok();
    is_fine(&app, "g").await;
}

/// A client of a group whose id is another at each start, and the sessions that it leaves behind.
#[tokio::test]
async fn a_client_with_a_new_id_at_each_start_is_warned_where_it_registers_and_a_risk() {
    let app = start().await;
    app.group_of("g", TIMEOUT_MS, &["stable"]).await;
    let register = async |id: &str| {
        let answer = app.post("/g/clientsessions", json!({"Id": id})).await;
        let warning = answer.headers.get("failover-warning").map(|text| text.to_str().expect("a text").to_owned());
        answer.expect_ok();
        warning
    };
    // One timeout ago, all that was said by then.
    let pods_fall_silent = format!(
        "UPDATE heartbeats SET received_at = received_at - interval '{0} ms', lease_until = lease_until - interval '{0} ms',
             heartbeat_time = heartbeat_time - interval '{0} ms' WHERE session_id LIKE 'pod-%';
         UPDATE sessions SET registered_at = registered_at - interval '{0} ms' WHERE session_id LIKE 'pod-%'",
        TIMEOUT_MS + 1
    );
    let mut warnings = Vec::new();
    for start in 0..4 {
        warnings.push(register(&format!("pod-{start}")).await);
        for session in ["stable", &format!("pod-{start}")] {
            app.says(Form::Contract, "g", session, None).await;
        }
        is_fine(&app, "g").await;
        if start == 3 {
            break;
        }
        app.database.execute(&pods_fall_silent).await;
    }
    for start in 4..6 {
        app.database.execute(&pods_fall_silent).await;
        warnings.push(register(&format!("pod-{start}")).await);
        app.says(Form::Contract, "g", &format!("pod-{start}"), None).await;
    }
    let warned = Some("NewIdEachStart".to_owned());
    assert_eq!(warnings, [None, None, None, None, warned.clone(), warned.clone()]);
    // The same again is no new session.
    assert_eq!(register("pod-5").await, None);
    let expected = Expected {
        risk: "NewIdEachStart",
        of: &[],
        metric: "groups_with_new_ids",
        advice: "5 sessions are silent, and some took the place of another",
    };
    is_shown(&app, "g", expected).await;
    for start in 0..5 {
        app.delete(&format!("/g/clientsessions/pod-{start}")).await.expect_ok();
    }
    is_fine(&app, "g").await;
}

/// What an adapter does all day, and what happens to it: it starts, is told a role, loses an
/// answer, pauses, is restarted, and its group gets another timeout.
#[tokio::test]
async fn a_pair_that_does_as_it_should_is_not_at_risk() {
    for form in [Form::Contract, Form::Released] {
        let app = start().await;
        app.two("g").await;
        app.beats(form, "g", &[1_000], 1).await;
        app.beats(form, "g", &[HALF_MS], 10).await;
        for odd in [&[2_000, HALF_MS - 2_000][..], &[TIMEOUT_MS - 20_000, 1_000], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            app.beats(form, "g", odd, 1).await;
            app.beats(form, "g", &[HALF_MS], 2).await;
            is_fine(&app, "g").await;
        }
        // Said goodbye to, and started again.
        app.delete("/g/clientsessions/a").await.expect_ok();
        app.says(form, "g", "b", Some(now())).await;
        app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
        app.beats(form, "g", &[0, 1_000, HALF_MS, HALF_MS], 1).await;
        is_fine(&app, "g").await;
        // A shorter timeout, of which the client hears with its next heartbeat.
        app.put("/g", json!({"Milliseconds": HALF_MS})).await.expect_ok();
        is_fine(&app, "g").await;
        app.says(form, "g", "b", Some(now())).await;
        app.beats(form, "g", &[HALF_MS / 2], 20).await;
        is_fine(&app, "g").await;
    }
}

/// Heartbeats go to whichever replica: what is known of those before is in the database.
#[tokio::test]
async fn what_one_replica_has_seen_counts_at_the_others() {
    let app = start().await;
    let other = TestReplica::start(settings(app.database.connect_options())).await;
    app.two("g").await;
    for round in 0..24 {
        let ms = [HALF_MS / 4, HALF_MS * 3 / 4][round % 2];
        app.database.let_time_pass(ms).await;
        let replica: &TestReplica = if round % 3 == 0 { &other } else { &app };
        for session in ["a", "b"] {
            let body = json!({"FailoverScore": 100});
            replica.post(&format!("/g/clientsessions/{session}/heartbeat"), body).await.expect_ok();
        }
    }
    let told = vec![("SameIdTwice".to_owned(), vec!["a".to_owned(), "b".to_owned()])];
    assert_eq!(app.risks_of("g").await, told);
    assert_eq!(app.seen_of("g").await, told);
    other.stop().await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn the_page_says_which_session_it_is_and_what_to_do() {
    let app = start().await;
    app.two("g").await;
    let browser = Browser::start().await;
    browser.go(&app.url).await;
    browser.shows(".groups tbody tr", "g t / n Fine").await;
    browser.until("[...document.querySelectorAll('.tile')].filter((one) => !one.hidden).length === 7").await;

    app.beats(Form::Released, "g", &[TIMEOUT_MS * 3 / 4], 12).await;
    app.says(Form::Released, "g", "b", Some(now() + TimeDelta::seconds(400))).await;
    browser.shows(".groups tbody tr", "g t / n Clock ahead Seldom heartbeats").await;
    browser.shows(".tiles", "Clock ahead 1 Seldom heartbeats 1").await;
    browser.go(&format!("{}/#/g/t/n/g", app.url)).await;
    browser.shows(".risks", "Times that b said are ahead of the service's clock by 6 min 39 s").await;
    browser.shows(".risks", "Heartbeats of a come every 7 min 30 s and not every half timeout, 5 min.").await;

    app.says(Form::Released, "g", "b", None).await;
    app.beats(Form::Released, "g", &[HALF_MS / 4, HALF_MS * 3 / 4], 12).await;
    browser.shows(".risks", "The heartbeats of a look like those of two clients with one id").await;
    for session in ["c", "d", "e"] {
        app.post("/g/clientsessions", json!({"Id": session})).await.expect_ok();
        app.says(Form::Released, "g", session, None).await;
    }
    browser.shows(".risks", "5 sessions are live, more than two pairs.").await;
    let still = now();
    for _ in 0..24 {
        app.database.let_time_pass(HALF_MS).await;
        for session in ["a", "b", "c", "d", "e"] {
            app.says(Form::Released, "g", session, Some(still)).await;
        }
    }
    browser.shows(".risks", "The Primary, a, heartbeats but reports no newer data for ").await;
}
