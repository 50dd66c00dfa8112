//! `client-failover clients test`: our own clients keep every rule, and a client with a mistake is
//! found out, by the rule that it breaks.

use std::path::{Path, PathBuf};
use std::process::Output;

use client_failover_client::{Join, Member};
use client_failover_workshop::needs;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::program::{PROGRAM, new_data_dir, program};

const README: &str = include_str!("../../README.md");
const HASTY: &str = include_str!("hasty.py");
const ADAPTER: &str = include_str!("../../examples/python/adapter.py");

/// A failover timeout that leaves a busy machine some time.
const TIMEOUT: &str = "2s";

async fn clients_test(options: &[&str], client: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(program());
    command.args(["clients", "test", "--timeout", TIMEOUT]).args(options).arg("--").args(client);
    command.output().await.expect("it runs")
}

async fn keeps_every_rule(options: &[&str], client: &[&str]) {
    let output = clients_test(&[&["--at-once", "7"], options].concat(), client).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("keeps every rule"), "{said}");
    assert!(!said.contains("not seen"), "{said}");
}

/// The README's client, which takes the address of the service as an argument.
fn client_of_the_readme(dir: &Path) -> PathBuf {
    let code = README.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let client = dir.join("client.py");
    let address = "URL = \"http://127.0.0.1:8080/";
    assert!(code.contains(address));
    std::fs::write(&client, code.replace(address, "URL = sys.argv[2] + \"/")).expect("it is ours");
    client
}

#[needs("python3")]
#[tokio::test]
async fn the_client_of_the_readme_keeps_every_rule() {
    let client = client_of_the_readme(&new_data_dir());
    keeps_every_rule(&[], &["python3", client.to_str().expect("UTF-8"), "{session}", "{server}"]).await;
}

#[tokio::test]
async fn a_program_that_an_agent_runs_keeps_every_rule() {
    let group = "{tenant}/{namespace}/{group}";
    let agent = ["run", "--server", "{server}", "--group", group, "--create", TIMEOUT, "--session", "{session}"];
    let client = [&[PROGRAM], &agent[..], &["--", "sh", "-c", "while echo acts; do sleep 0.02; done"]].concat();
    keeps_every_rule(&[], &client).await;
}

#[tokio::test]
async fn a_program_with_the_library_keeps_every_rule() {
    let own = std::env::current_exe().expect("this program has a path");
    let test = "client::conformance::is_a_client_with_the_library";
    let client = [own.to_str().expect("UTF-8"), "--exact", test, "--ignored", "--nocapture"];
    keeps_every_rule(&["--acts-like", "with the library"], &client).await;
}

#[tokio::test]
#[ignore = "not a test: it is run as a client"]
async fn is_a_client_with_the_library() {
    let Ok(server) = std::env::var("CLIENT_FAILOVER_SERVER") else { return };
    let join = Join::group("t/n/pump", &std::env::var("CLIENT_FAILOVER_SESSION").expect("it is set"));
    let join = join.and_then(|join| join.at(&server)).expect("they are names");
    let member = Member::join(join.creating(std::time::Duration::from_secs(2))).await.expect("it joins");
    let mut told_to_end =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be heard");
    let acting = async {
        while let Ok(lease) = member.primary().await {
            while let Ok(_acting) = lease.check() {
                println!("acts with the library");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    };
    tokio::select! {
        () = acting => {}
        _ = told_to_end.recv() => {}
    }
    assert!(member.clone().leave().await);
}

/// A mistake: the rule that it breaks, the scenes in which it shows, and what the client has
/// instead of what.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const ACTS: &str = "if clock() < act_until:";
const OF_THE_README: [Mistake; 14] = [
    ("stops-at-the-end", "broken-off", ACTS, "if role == 1:"),
    ("stops-when-told", "demoted", "if role == 1 else 0.0", "if role == 1 else act_until"),
    ("stops-when-unknown", "unknown", "role, act_until, known = 0, 0.0, False", "known = False"),
    ("registers-again", "unknown", "role, act_until, known = 0, 0.0, False", "role, act_until = 0, 0.0"),
    ("registers", "standby,demoted", "sys.argv[1]", "__import__(\"uuid\").uuid4().hex"),
    ("stands-by", "standby", ACTS, "if True:"),
    ("acts", "primary", ACTS, "if False:"),
    ("goes-on", "refused", "pause = min(half", "act_until, pause = 0.0, min(half"),
    ("beats", "standby", "if role == 2 else half", "if role == 2 else half * 2"),
    // It goes by the timeout that it knew first.
    ("beats", "timeout", "int(said[\"Failover-Timeout-Ms\"]) / 2000", "1.0"),
    ("beats-in-measure", "standby", "if role == 2 else half", "if role == 2 else 0.01"),
    ("says-what-is-so", "standby", "str(was)", "\"1\""),
    ("remembers-the-term", "primary", "str(term)", "\"0\""),
    ("stays-up", "broken-off", "except (OSError, http.client.HTTPException, ValueError)", "except KeyError"),
];

/// The same of the adapter among the examples, which acts while it waits for an answer.
const LOOKS: &str = "if clock() >= self.act_until:";
const OF_THE_ADAPTER: [Mistake; 6] = [
    ("stops-at-the-end", "silence", LOOKS, "if self.role != 1:"),
    // Counted from the answer.
    ("stops-at-the-end", "late", "self.act_until = sent_at + lease", "self.act_until = clock() + lease"),
    ("stops-at-the-end", "short-lease", "int(told[\"Failover-Lease-Ms\"])", "int(told[\"Failover-Timeout-Ms\"])"),
    // It acts by what the clock said before it was stopped.
    (
        "looks-at-the-clock",
        "paused",
        LOOKS,
        "may, self.may = getattr(self, \"may\", False), clock() < self.act_until\n            if not may:",
    ),
    ("says-what-is-so", "late", "\"Failover-Role\": str(role)", "\"Failover-Role\": \"0\""),
    // Nobody waits for the work that is under way.
    (
        "says-goodbye-last",
        "primary",
        "if self.is_registered:\n            self._ask(\"DELETE\"",
        "threading.Thread(target=lambda: [(print(1, flush=True), time.sleep(0.05)) for _ in range(40)]).start()\n        if self.is_registered:\n            self._ask(\"DELETE\"",
    ),
];

async fn broken_rules(scenes: &str, client: &[&str]) -> Vec<String> {
    let output = clients_test(&["--json", "--only", scenes], client).await;
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let rules: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let broken = rules.iter().filter(|rule| rule["Outcome"] == "Broken");
    broken.map(|rule| rule["Rule"].as_str().expect("a name").to_owned()).collect()
}

#[needs("python3")]
#[tokio::test]
async fn each_mistake_is_found_out() {
    let dir = new_data_dir();
    let of_the_readme = std::fs::read_to_string(client_of_the_readme(&dir)).expect("it was written");
    let mistaken = |right: &str, (rule, scenes, is, was): &Mistake, order: [&'static str; 3]| {
        assert!(right.contains(is), "{is} is not in it");
        (*rule, *scenes, right.replace(is, was), order)
    };
    let clients = OF_THE_README.iter().map(|one| mistaken(&of_the_readme, one, ["{session}", "{server}", ""]));
    let group = "{tenant}/{namespace}/{group}";
    let adapters = OF_THE_ADAPTER.iter().map(|one| mistaken(ADAPTER, one, [group, "{session}", "{server}"]));
    // Twice as often as it may, and as often.
    let hasty = [("one-at-a-time", "1"), ("ignores-old-answers", "2")];
    let hasty = hasty.map(|(rule, timeout)| (rule, "crossed", HASTY.to_owned(), ["{session}", "{server}", timeout]));
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(6));
    let mut running = JoinSet::new();
    for (place, (rule, scenes, code, order)) in clients.chain(adapters).chain(hasty).enumerate() {
        let (file, places) = (dir.join(format!("{place}.py")), places.clone());
        std::fs::write(&file, code).expect("it is ours");
        running.spawn(async move {
            let _place = places.acquire().await.expect("nobody closes it");
            let file = file.to_str().expect("UTF-8");
            let client = [&["python3", file], &order[..]].concat();
            (place, rule, scenes, broken_rules(scenes, &client).await)
        });
    }
    let mut missed = Vec::new();
    for (place, rule, scenes, broken) in running.join_all().await {
        println!("{rule} in {scenes}: {broken:?}");
        if !broken.iter().any(|found| found == rule) {
            missed.push(format!("{place}: {rule} in {scenes}, but {broken:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
