//! What the README says is true: its client takes over and never acts beside another, and somebody
//! runs every command that it and the pages behind it show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::credentials::new_dir;
use crate::support::helpers::{TestApp, eventually};

const README: &str = include_str!("../../README.md");

/// The README's client, as a process of its own.
struct Client {
    process: Child,
    sent: PathBuf,
}

impl Client {
    fn start(program: &Path, id: &str) -> Client {
        let sent = program.with_file_name(format!("{id}.sent"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&sent).expect("it can be written");
        let mut python = Command::new("python3");
        let process = python.arg(program).arg(id).stdout(file).stderr(Stdio::null()).spawn().expect("Python is there");
        Client { process, sent }
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.sent).expect("it can be read");
        // A line that is being written is none yet.
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| line.trim().to_owned()).collect()
    }

    async fn has_sent_more(&self) {
        let before = self.lines().len();
        eventually("it sends data", async || self.lines().len() > before).await;
    }

    fn say_terminate(&self) {
        let process = nix::unistd::Pid::from_raw(self.process.id().try_into().expect("a process id"));
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn the_client_of_the_readme_takes_over_and_never_acts_beside_another() {
    let app = TestApp::start().await;
    let groups = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups";
    let (_, program) = README.split_once("<!-- run by tests/deploy/readme.rs -->\n```python\n").expect("it is marked");
    let program = program.split("```").next().expect("it ends").replace("http://127.0.0.1:8080", &app.url);
    let file = new_dir().join("client.py");
    std::fs::write(&file, program).expect("it can be written");

    let mut a = Client::start(&file, "a");
    a.has_sent_more().await;
    let b = Client::start(&file, "b");
    eventually("b is a standby", async || {
        let shown = app.http.get(format!("{}{groups}/pump/status", app.url)).send().await.expect("it answers");
        shown.json::<serde_json::Value>().await.expect("JSON")["StandbysReady"] == 1
    })
    .await;
    a.process.kill().expect("it runs");
    b.has_sent_more().await;
    // It comes back, and is told to stand by until the other says goodbye.
    let a = Client::start(&file, "a");
    b.has_sent_more().await;
    b.say_terminate();
    a.has_sent_more().await;
    // Somebody deletes it: it hears 404, stops, registers again, and is granted a new term.
    let deleted = format!("{}{groups}/pump/clientsessions/a?by=operator", app.url);
    assert!(app.http.delete(deleted).send().await.expect("it answers").status().is_success());
    let terms = |client: &Client| -> Vec<i64> {
        client.lines().iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    };
    let before = terms(&a).last().copied();
    eventually("it is Primary again", async || terms(&a).last().copied() > before).await;

    // In order of time: terms never fall, and each is one client's.
    let mut sent = [a.lines(), b.lines()].concat();
    sent.sort();
    let mut of_term = BTreeMap::new();
    let mut latest = 0;
    for line in &sent {
        let [_, id, term] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let term: i64 = term.parse().expect("a number");
        assert!(term >= latest, "{line} after term {latest}");
        assert_eq!(*of_term.entry(term).or_insert(id), id, "{line}");
        latest = term;
    }
    assert!(of_term.len() >= 4, "{of_term:?}");
    let trace = app.database.trace("pump").await;
    assert!(trace.iter().any(|change| change.contains("lease_lapsed")), "{trace:?}");
}

/// Each block of code with the line before it.
fn blocks(page: &str) -> Vec<(&str, &str, &str)> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut rest = page;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(language) = line.strip_prefix("```") {
            let (code, after) = rest.split_once("\n```\n").expect("each block ends");
            blocks.push((before, language, code));
            rest = after;
        }
        before = line;
    }
    blocks
}

#[test]
fn somebody_runs_every_command_that_the_readme_and_its_pages_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut marked = 0;
    for page in [
        "README.md",
        "docs/adapters.md",
        "docs/agent.md",
        "docs/api.md",
        "docs/cli.md",
        "docs/clients.md",
        "docs/database.md",
        "docs/install.md",
        "docs/kubernetes.md",
        "docs/release.md",
        "docs/settings.md",
        "docs/webhook.md",
    ] {
        let text = std::fs::read_to_string(root.join(page)).expect("it is there");
        for (before, language, code) in blocks(&text) {
            if language == "text" {
                continue;
            }
            let mark = before.strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->"));
            let runner = mark.and_then(|mark| mark.strip_prefix("run by ").or(mark.strip_prefix("read by ")));
            // Behind a comma stands what is there when it is run.
            let runner = runner.map(|runner| runner.split(", ").next().unwrap_or(runner));
            let runner = runner.unwrap_or_else(|| panic!("{page}: who runs this?\n{code}"));
            let program = std::fs::read_to_string(root.join(runner)).expect(runner);
            if runner.starts_with('.') {
                // Its words, in their order, in one line; it may add others.
                let has_all = |line: &str| {
                    let mut words = line.split_whitespace();
                    code.split_whitespace().all(|word| words.any(|other| other == word))
                };
                assert!(program.lines().any(has_all), "{runner} does not run {code}");
            } else {
                assert!(program.contains(page), "{runner} does not read {page}");
            }
            marked += 1;
        }
    }
    assert!(marked >= 8, "{marked}");
}
