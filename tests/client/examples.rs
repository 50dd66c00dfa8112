//! What is in `examples/` does what is said of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_workshop::needs;
use serde_json::Value;

use crate::support::helpers::{TestApp, eventually, free_port};
use crate::support::program::{PROGRAM, find, for_tests, output_of};

const PAGE: &str = include_str!("../../docs/clients.md");
const UNIT: &str = include_str!("../../examples/agent/collector.service");
const COMPOSE: &str = include_str!("../../examples/agent/compose.yaml");
const KUBERNETES: &str = include_str!("../../examples/agent/kubernetes.yaml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Our own program is the one of that name.
fn path() -> String {
    let folder = Path::new(PROGRAM).parent().expect("it is in one").display();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

#[needs("python3")]
#[tokio::test]
async fn the_command_of_the_page_tries_the_adapter_in_python_and_finds_nothing() {
    let mark = "<!-- run by tests/client/examples.rs -->\n```sh\n";
    let command = PAGE.split(mark).nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let mut bash = tokio::process::Command::from(for_tests(Command::new("bash")));
    bash.args(["-c", command]).current_dir(root()).env("PATH", path());
    let output = bash.output().await.expect("bash is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("keeps every rule"), "{said}");
}

/// A line of the adapter: when what it sent was read, and with which term it was sent.
#[derive(Clone, Debug)]
struct Sent {
    at: DateTime<Utc>,
    session: String,
    term: i64,
}

struct Adapter(Child);

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_adapter(app: &TestApp, session: &str, tell: mpsc::Sender<Sent>) -> Adapter {
    let mut command = for_tests(Command::new("python3"));
    command.arg(root().join("examples/python/adapter.py")).args(["t/n/pump", session, &app.url]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("python3 is there");
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let line: Value = serde_json::from_str(&line).expect("a line is JSON");
            let at = line["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
            let session = line["session"].as_str().expect("a name").to_owned();
            let _ = tell.send(Sent { at, session, term: line["term"].as_i64().expect("a term") });
        }
    });
    Adapter(child)
}

#[needs("python3")]
#[tokio::test]
async fn the_adapter_in_python_goes_on_where_the_one_before_has_stopped() {
    let app = TestApp::start().await;
    let (tell, told) = mpsc::channel();
    let mut all: Vec<Sent> = Vec::new();
    let mut wait_for = async |session: &str, count: usize| {
        eventually("it sends", async || {
            all.extend(told.try_iter());
            all.iter().filter(|sent| sent.session == session).count() >= count
        })
        .await;
        all.clone()
    };
    let mut a = start_adapter(&app, "a", tell.clone());
    wait_for("a", 40).await;
    let _b = start_adapter(&app, "b", tell);
    eventually("it stands by", async || app.get("/pump").await.expect_ok()["Clients"]["b"]["Heartbeat"].is_object())
        .await;
    let before = wait_for("a", 80).await.len();
    assert!(before >= 80);
    a.0.kill().expect("it is ours");
    let all = wait_for("b", 40).await;
    assert!(all.is_sorted_by_key(|sent| sent.term), "nobody sends with an older term");
    let of = |session: &str| all.iter().filter(|sent| sent.session == session).cloned().collect::<Vec<_>>();
    let (last, first) = (of("a").pop().expect("it sent"), of("b").remove(0));
    let gap = first.at - last.at;
    assert!(gap < chrono::TimeDelta::milliseconds(500), "what was read in between is sent, too: {gap}");
}

/// The adapter in Java with a client that is generated anew; what its class path is.
async fn compiled(dir: &Path) -> String {
    let generator = find("openapi-generator-cli");
    let options = "openApiNullable=false,hideGenerationTimestamp=true,invokerPackage=failover,\
                   apiPackage=failover.api,modelPackage=failover.model";
    let mut generate = tokio::process::Command::new(&generator);
    generate.args(["generate", "-g", "java", "--library", "native", "-o", "generated", "-i"]).current_dir(dir);
    generate.arg(root().join("docs/openapi.json")).args(["--additional-properties", options]);
    let parts = "apis=ClientSessions:Groups,models,supportingFiles,apiTests=false,modelTests=false,apiDocs=false,\
                 modelDocs=false";
    output_of(generate.args(["--global-property", parts])).await;
    // The generator itself is made of what its clients need, but for one annotation.
    let packages = generator.parent().and_then(Path::parent).expect("it is in a folder").join("lib");
    let find_jar = |dir: std::fs::DirEntry| {
        Some(dir.path().join("site-packages/openapi_generator_cli/openapi-generator.jar")).filter(|jar| jar.is_file())
    };
    let jar = std::fs::read_dir(packages).expect("it is there").flatten().find_map(find_jar).expect("it has a jar");
    let annotation = dir.join("generated/src/main/java/javax/annotation/Generated.java");
    std::fs::create_dir_all(annotation.parent().expect("a folder")).expect("it is ours");
    let declared = "package javax.annotation; public @interface Generated { String value(); String comments(); }";
    std::fs::write(&annotation, declared).expect("it is ours");
    let mut compile = tokio::process::Command::new("javac");
    compile.args(["-nowarn", "-d", "classes", "-cp"]).arg(&jar).current_dir(dir);
    compile.args(["-sourcepath", "generated/src/main/java"]).arg(root().join("examples/java/Adapter.java"));
    output_of(compile.arg(&annotation)).await;
    format!("{}:{}", dir.join("classes").display(), jar.display())
}

#[needs("openapi-generator-cli", "javac")]
#[tokio::test]
async fn the_adapter_in_java_is_made_from_the_description_and_keeps_every_rule() {
    let classes = compiled(&crate::support::program::new_data_dir()).await;
    let mut test = tokio::process::Command::from(crate::support::program::program());
    test.args(["clients", "test", "--", "java", "-cp", &classes, "Adapter"]);
    test.args(["{tenant}/{namespace}/{group}", "{session}", "{server}"]);
    let said = output_of(&mut test).await;
    assert!(said.contains("keeps every rule") && !said.contains("not seen"), "{said}");
}

/// The words of a command as systemd and Compose have them.
fn runs_the_agent(app: &TestApp, words: &[String]) -> Adapter {
    let (program, arguments) = words.split_first().expect("a program");
    assert_eq!(Path::new(program).file_name().expect("a name"), "client-failover");
    let mut command = for_tests(Command::new(PROGRAM));
    command.args(arguments).env("CLIENT_FAILOVER_SERVER", &app.url).stdout(Stdio::null()).stderr(Stdio::null());
    Adapter(command.spawn().expect("it starts"))
}

#[tokio::test]
async fn the_unit_and_the_containers_run_the_agent_as_it_can_be_run() {
    let app = TestApp::start().await;
    let unit = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
    let unit: Vec<String> = unit.split(' ').map(str::to_owned).collect();
    let compose: Value = serde_saphyr::from_str(COMPOSE).expect("it is YAML");
    let services: BTreeMap<String, Value> =
        serde_json::from_value(compose["services"].clone()).expect("services have names");
    let words = |service: &Value, key: &str| {
        let words = service[key].as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    let address = format!("127.0.0.1:{}", free_port());
    let containers =
        services.values().map(|service| [words(service, "entrypoint"), words(service, "command")].concat());
    let containers = containers.map(|mut words| {
        for word in &mut words {
            *word = word.replace("0.0.0.0:9090", &address).replace("$$", "$");
        }
        words
    });
    // The one of the unit does not create its group.
    app.http
        .put(format!("{}/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/pump", app.url))
        .json(&serde_json::json!({"Milliseconds": 5_000}))
        .send()
        .await
        .expect("it answers");
    let containers: Vec<Vec<String>> = containers.collect();
    let mut agents: Vec<Adapter> = containers.iter().map(|words| runs_the_agent(&app, words)).collect();
    let is_primary = async |group: &str| {
        let url = format!("{}/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/{group}", app.url);
        let group: Value = app.http.get(url).send().await.expect("it answers").json().await.unwrap_or_default();
        group["Clients"].as_object().is_some_and(|clients| clients.values().any(|client| client["Role"] == 1))
    };
    for group in ["pump", "valve"] {
        eventually("it is Primary", async || is_primary(group).await).await;
    }
    eventually("the sidecar says so", async || {
        app.http.get(format!("http://{address}/")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    agents.clear();
    agents.push(runs_the_agent(&app, &unit));
    // It waits for the guardian of the one before, and then joins: its session is that of the host.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agents[0].0.try_wait().expect("it is ours").is_none(), "it goes on");
}

#[tokio::test]
async fn the_pods_run_the_agent_as_it_can_be_run() {
    let app = TestApp::start().await;
    let documents: Vec<Value> = serde_saphyr::from_multiple(KUBERNETES).expect("it is YAML");
    let address = format!("127.0.0.1:{}", free_port());
    let dir = crate::support::program::new_data_dir();
    let (role, folder) = (dir.join("role.json"), format!("{}/", dir.display()));
    let mut agents = Vec::new();
    for document in &documents {
        let container = &document["spec"]["template"]["spec"]["containers"][0];
        let words = ["command", "args"].iter().flat_map(|key| container[*key].as_array().expect("a list"));
        let words = words.map(|word| word.as_str().expect("a text").replace("0.0.0.0:9090", &address));
        let words: Vec<String> = words.map(|word| word.replace("/role/", &folder)).collect();
        agents.push(runs_the_agent(&app, &words));
    }
    assert_eq!(agents.len(), 2);
    for group in ["pump", "valve"] {
        let url = format!("{}/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/{group}", app.url);
        eventually("it is Primary", async || {
            let group: Value = app.http.get(&url).send().await.expect("it answers").json().await.unwrap_or_default();
            group["Clients"].as_object().is_some_and(|clients| clients.values().any(|client| client["Role"] == 1))
        })
        .await;
    }
    // The sidecar tells the container beside it, in both ways.
    eventually("the file says so", async || std::fs::read_to_string(&role).is_ok_and(|role| role.contains("Primary")))
        .await;
    eventually("the sidecar says so", async || {
        app.http.get(format!("http://{address}/")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    // What runs beside it acts by the command that the pod has.
    let beside = documents[1]["spec"]["template"]["spec"]["containers"][1]["command"].as_array().expect("a list");
    let script = beside[2].as_str().expect("a text").replace("/role/", &folder);
    let mut sender = for_tests(Command::new("sh")).args(["-c", &script]).spawn().expect("sh is there");
    let mut line = String::new();
    BufReader::new(sender.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says something");
    sender.kill().expect("it is ours");
    sender.wait().expect("it ends");
    assert!(line.starts_with("sends, as {\"Role\":\"Primary\","), "{line}");
}

/// Whatever the unit asks of systemd is something that it knows.
#[needs("systemd-analyze")]
#[test]
fn systemd_understands_the_unit() {
    let dir = crate::support::program::new_data_dir();
    let unit: PathBuf = dir.join("collector.service");
    // Of the programs that it names neither needs to be installed here.
    let text = UNIT.replace("/usr/bin/client-failover", "/bin/true").replace("/usr/local/bin/collector", "/bin/true");
    std::fs::write(&unit, text).expect("it is ours");
    let verify = Command::new("systemd-analyze").arg("verify").arg(&unit).output().expect("it runs");
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && !said.contains("collector.service:"), "{said}");
}
