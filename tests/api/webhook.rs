//! The webhook: whoever is told what happens is told all of it, signed, and normally once.

use std::time::Duration;

use client_failover::webhook::WebhookEvent;
use serde_json::{Value, json};

use crate::support::helpers::{TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::program::{GROUP, Running, program, refusal, run_with};
use crate::support::receiver::{Came, Reaction, Receiver, secret_file};

const PAGE: &str = include_str!("../../docs/webhook.md");
const MINUTE: i64 = 60_000;

async fn app_that_tells(receiver: &Receiver, events: &[WebhookEvent]) -> TestApp {
    let options = receiver.options(events);
    let app = TestApp::start_with(|settings| settings.webhook = Some(options)).await;
    wait_for_a_sender(&app.database).await;
    app
}

/// What happens from then on is told.
async fn wait_for_a_sender(database: &TestDatabase) {
    let sender = "SELECT 1 FROM webhook_sender WHERE sends_until > clock_timestamp()";
    eventually("one is the one that sends", async || !database.rows(sender).await.is_empty()).await;
}

/// A service as a process, so that it can be killed, and what it counts is its own.
async fn serve(database: &TestDatabase, receiver: &Receiver, arguments: &[&str]) -> Running {
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--webhook-url", &receiver.url(), "--webhook-secret-file"]);
    command.arg(secret_file()).args(arguments).env("DATABASE_URL", database.url());
    let running = Running::start(command).await;
    wait_for_a_sender(database).await;
    running
}

async fn counted(running: &Running, name: &str) -> f64 {
    let answer = running.http.get(format!("{}/metrics", running.url)).send().await.expect("it answers");
    let text = answer.text().await.expect("it is whole");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("client_failover_webhook_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is counted")).parse().expect("a number")
}

fn of_primary(came: &Came) -> (i64, String, i64, i64) {
    let body = &came.body;
    let number = |name: &str| body[name].as_i64().unwrap_or_else(|| panic!("{name}: {body}"));
    (number("Id"), body["SessionId"].as_str().unwrap_or_default().to_owned(), number("From"), number("To"))
}

/// The message of that name in docs/webhook.md.
fn example(event: &str) -> Value {
    let found = PAGE.lines().find(|line| line.starts_with(&format!("{{\"Event\":\"{event}\"")));
    serde_json::from_str(found.expect("it shows one")).expect("it is JSON")
}

fn keys(body: &Value) -> Vec<&String> {
    body.as_object().expect("an object").keys().collect()
}

/// A role that changes hands in a group, so often.
async fn take_turns(replica: &TestReplica, group: &str, times: usize) {
    replica.group_of(group, MINUTE, &["a", "b"]).await;
    for _ in 0..times {
        for session in ["a", "b"] {
            replica.post(&format!("/{group}/clientsessions"), json!({"Id": session})).await.expect_ok();
            eventually("it is Primary", async || replica.beat(group, session, 100.0).await == 1).await;
            // It says goodbye.
            replica.delete(&format!("/{group}/clientsessions/{session}")).await.expect_ok();
        }
    }
}

#[tokio::test]
async fn each_change_of_primary_is_told_once_signed_and_in_the_order_of_its_group() {
    let receiver = Receiver::start().await;
    let app = app_that_tells(&receiver, &[WebhookEvent::Primary]).await;
    futures_util::future::join_all([take_turns(&app, "g", 3), take_turns(&app, "h", 3)]).await;
    let rows = app
        .database
        .rows(
            "SELECT transition_id, session_id, from_role, to_role FROM role_transitions
             WHERE 1 IN (from_role, to_role) ORDER BY transition_id",
        )
        .await;
    assert!(rows.len() >= 24, "{rows:?}");
    let taken = receiver.wait_for(rows.len()).await;
    for group in ["g", "h"] {
        let ids = taken.iter().filter(|came| came.body["GroupId"] == group).map(|came| of_primary(came).0);
        assert!(ids.is_sorted(), "{taken:?}");
    }
    let mut told: Vec<_> = taken.iter().map(of_primary).collect();
    told.sort();
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a number");
    let happened: Vec<_> = rows
        .iter()
        .map(|row| {
            let session = row["session_id"].as_str().expect("a text").to_owned();
            (number(row, "transition_id"), session, number(row, "from_role"), number(row, "to_role"))
        })
        .collect();
    assert_eq!(told, happened);
    assert_eq!(keys(&taken[0].body), keys(&example("RoleChanged")));
    let Came { id, body, .. } = &taken[0];
    assert_eq!(*id, format!("event-{}", body["Id"]));
    assert_eq!(
        (&body["Event"], &body["TenantId"], &body["NamespaceId"]),
        (&json!("RoleChanged"), &json!("t"), &json!("n"))
    );
    // What is not wanted is passed over, and not looked at again.
    let to = "SELECT told_to >= (SELECT max(change_id) FROM configuration_changes)
            AND told_to >= (SELECT max(transition_id) FROM role_transitions) AS is_all FROM webhook_sender";
    eventually("all is noted", async || app.database.rows(to).await == [json!({"is_all": true})]).await;
}

#[tokio::test]
async fn a_receiver_that_fails_and_hangs_gets_everything_once_it_is_back_and_holds_up_nobody() {
    let receiver = Receiver::start().await;
    let app = app_that_tells(&receiver, &[WebhookEvent::Primary, WebhookEvent::Configuration]).await;
    receiver.react(|_| Reaction::Status(503));
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    eventually("it was tried", async || receiver.came().len() >= 2).await;
    receiver.react(|_| Reaction::Hang);
    let hangs = || receiver.came().iter().filter(|came| came.reaction == Reaction::Hang).count();
    eventually("one is not answered", async || hangs() >= 1).await;
    assert_eq!(app.beat("g", "b", 50.0).await, 0);
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND xact_start < clock_timestamp() - interval '1 s' AND pid <> pg_backend_pid()";
    assert_eq!(app.database.rows(waiting).await, Vec::<Value>::new(), "no transaction waits for it");
    assert_eq!(receiver.taken().len(), 0);
    receiver.react(|_| Reaction::Status(204));
    let taken = receiver.wait_for(4).await;
    let names: Vec<&str> = taken.iter().filter_map(|came| came.body["Event"].as_str()).collect();
    assert_eq!(names, ["GroupCreated", "SessionRegistered", "SessionRegistered", "RoleChanged"]);
}

#[tokio::test]
async fn a_message_that_is_refused_is_given_up_and_counted_and_no_redirect_is_followed() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let database = TestDatabase::new().await;
    let running = serve(&database, &receiver, &["--webhook-events", "configuration"]).await;
    let port = elsewhere.port;
    receiver.react(move |body| if body["SessionId"] == "a" { Reaction::Redirect(port) } else { Reaction::Status(204) });
    running.set_up().await;
    let taken = receiver.wait_for(2).await;
    assert_eq!([&taken[0].body["Event"], &taken[1].body["SessionId"]], [&json!("GroupCreated"), &json!("b")]);
    assert_eq!(receiver.came().len(), 2 + 3, "it was tried three times");
    assert_eq!(elsewhere.came().len(), 0);
    assert_eq!(counted(&running, "dead_letters_total").await, 1.0);
    assert_eq!(counted(&running, "attempts_total{outcome=\"delivered\"}").await, 2.0);
    assert_eq!(counted(&running, "attempts_total{outcome=\"refused\"}").await, 3.0);
}

#[tokio::test]
async fn what_is_not_taken_in_time_is_given_up_and_said_once() {
    let receiver = Receiver::start().await;
    let database = TestDatabase::new().await;
    let arguments = ["--webhook-events", "configuration", "--webhook-give-up-after", "2s"];
    let running = serve(&database, &receiver, &arguments).await;
    receiver.react(|_| Reaction::Status(503));
    running.set_up().await;
    eventually("all three are given up", async || counted(&running, "dead_letters_total").await >= 3.0).await;
    receiver.react(|_| Reaction::Status(204));
    let path = format!("{GROUP}/clientsessions/b");
    assert_eq!(running.ask(reqwest::Method::DELETE, &path, Value::Null).await.0, 200);
    let taken = receiver.wait_for(1).await;
    assert_eq!(taken[0].body["Event"], "SessionDeleted");
    assert_eq!(counted(&running, "dead_letters_total").await, 3.0);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, said) = running.end().await;
    assert_eq!(said.matches("is given up").count(), 1, "{said}");
    assert_eq!(said.matches("takes messages again").count(), 1, "{said}");
    assert!(!said.contains("token=secret"), "{said}");
}

#[tokio::test]
async fn of_two_replicas_one_tells_and_when_it_is_killed_the_other_goes_on() {
    let receiver = Receiver::start().await;
    let database = TestDatabase::new().await;
    let events = ["--webhook-events", "configuration"];
    let mut replicas = vec![serve(&database, &receiver, &events).await, serve(&database, &receiver, &events).await];
    replicas[1].set_up().await;
    receiver.wait_for(3).await;
    let mut sends = Vec::new();
    for replica in &replicas {
        sends.push(counted(replica, "sends").await);
    }
    assert_eq!(sends.iter().sum::<f64>(), 1.0, "one sends: {sends:?}");
    let sender = replicas.remove(usize::from(sends[1] == 1.0));
    // In the middle of a message, of which nobody knows whether it was taken.
    receiver.react(|_| Reaction::Hang);
    let delete = async |session: &str| {
        let path = format!("{GROUP}/clientsessions/{session}");
        assert_eq!(replicas[0].ask(reqwest::Method::DELETE, &path, Value::Null).await.0, 200);
    };
    delete("a").await;
    eventually("it is under way", async || receiver.came().len() > 3).await;
    drop(sender);
    receiver.react(|_| Reaction::Status(204));
    delete("b").await;
    let taken = receiver.wait_for(5).await;
    let came = receiver.came();
    let hung = came.iter().find(|came| came.reaction == Reaction::Hang).expect("one did");
    assert_eq!(taken[3].id, hung.id, "it is told again, by the same id");
    assert_eq!(counted(&replicas[0], "sends").await, 1.0);
}

#[tokio::test]
async fn a_risk_is_told_when_it_begins_and_when_it_ends_whichever_replica_sees_it() {
    let receiver = Receiver::start().await;
    let database = TestDatabase::new().await;
    let options = receiver.options(&[WebhookEvent::Risks]);
    let start = async || {
        let mut settings = settings(database.connect_options());
        settings.failover.census_interval = Duration::from_millis(50);
        settings.webhook = Some(options.clone());
        TestReplica::start(settings).await
    };
    let first = start().await;
    wait_for_a_sender(&database).await;
    first.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    let is_told = |came: &[Came], event: &str, risk: &str| {
        came.iter().any(|came| came.body["Event"] == event && came.body["Risk"] == risk)
    };
    eventually("it is told", async || is_told(&receiver.taken(), "RiskBegan", "NoStandby")).await;
    let sender = "SELECT sender FROM webhook_sender";
    let before = database.rows(sender).await;
    first.stop().await;
    let second = start().await;
    eventually("it goes on at another", async || database.rows(sender).await != before).await;
    assert_eq!(second.beat("g", "b", 100.0).await, 0);
    eventually("its end is told", async || is_told(&receiver.taken(), "RiskEnded", "NoStandby")).await;
    let taken = receiver.taken();
    let of_risk: Vec<&Came> = taken.iter().filter(|came| came.body["Risk"] == "NoStandby").collect();
    assert_eq!(of_risk.len(), 2, "once each: {taken:?}");
    let [began, ended] = [&of_risk[0].body, &of_risk[1].body];
    assert_eq!((&began["Event"], &ended["Event"]), (&json!("RiskBegan"), &json!("RiskEnded")));
    assert_eq!(keys(ended), keys(&example("RiskEnded")));
    assert_eq!((&began["RiskId"], &began["Time"]), (&ended["RiskId"], &ended["Since"]));
    assert_eq!((&ended["GroupId"], &ended["TenantId"]), (&json!("g"), &json!("t")));
    let left = "SELECT 1 FROM webhook_risks WHERE risk = 'NoStandby'";
    eventually("nothing is left of it", async || database.rows(left).await.is_empty()).await;
    second.stop().await;
}

#[tokio::test]
async fn settings_of_a_webhook_that_cannot_be_used_are_refused_and_its_url_is_not_shown() {
    let serve = |arguments: &[&str]| {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        refusal(command)
    };
    assert!(serve(&["--webhook-url", "https://r.example/x"]).await.contains("webhook-secret-file is missing"));
    assert!(serve(&["--webhook-secret-file", "/nowhere"]).await.contains("webhook-url is missing"));
    // The settings of the page are those that there are; the file is not, here.
    let file = PAGE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it shows them");
    let path = secret_file().with_file_name("settings.toml");
    std::fs::write(&path, file.replace("/etc/", "/nowhere/")).expect("it can be written");
    let said = serve(&["--config", path.to_str().expect("letters")]).await;
    assert!(
        said.contains("webhook-secret-file: the file /nowhere/client-failover/webhook-secret cannot be read"),
        "{said}"
    );
    let said = serve(&["--webhook-url", "ftp://r.example/token", "--webhook-secret-file", "/nowhere"]).await;
    assert!(said.contains("webhook-url") && !said.contains("token"), "{said}");
}

/// What docs/webhook.md gives to receivers is run as it stands.
#[tokio::test]
async fn the_example_of_the_page_takes_what_is_ours_and_nothing_else() {
    let example = PAGE.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("there is one");
    // The vector of the specification, at its time; then one byte changed, and then too late.
    let checks = r#"
import sys
id, at, signed = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
headers = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": "v1,x v2,y " + signed}
assert is_ours(headers, body, secret, now=1614265333)
assert not is_ours(headers, body + b" ", secret, now=1614265333)
assert not is_ours(headers, body, "another secret of as many letters", now=1614265333)
assert not is_ours(headers, body, secret, now=1614275333)
print("checked")
"#;
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &format!("{example}{checks}")]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    assert_eq!(run_with(command, "").await.ok(), "checked\n");
}
