//! What the page for adapters says is true: its commands are run against a service, and the
//! endpoints of its configurations are such that the service is one for adapters there.

use client_failover::access::AuthOptions;
use client_failover::ids::{NamespaceId, NamespacePath, TenantId};
use serde_json::Value;

use crate::support::credentials::{create_key, new_dir};
use crate::support::helpers::TestApp;
use crate::support::program::PROGRAM;
use crate::support::stranger::issuer_of_tokens;

const PAGE: &str = include_str!("../../docs/adapters.md");

/// The blocks of that language which are marked as tried here.
fn blocks(language: &str) -> Vec<&'static str> {
    let marks = ["run", "read"].map(|how| format!("<!-- {how} by tests/deploy/adapters.rs -->\n```{language}\n"));
    let found = marks.iter().flat_map(|mark| PAGE.split(mark.as_str()).skip(1));
    found.map(|rest| rest.split("\n```\n").next().expect("it ends")).collect()
}

/// The one that has a text.
fn script(text: &str) -> &'static str {
    let found: Vec<&str> = blocks("sh").into_iter().filter(|block| block.contains(text)).collect();
    assert_eq!(found.len(), 1, "one block has {text}");
    found[0]
}

/// Runs a script of the page, with this service in the place of the one that it names.
async fn run(app: &TestApp, script: &str, dir: &std::path::Path) -> String {
    let script =
        script.replace("http://127.0.0.1:8080", &app.url).replace("https://failover.plant.example:8443", &app.url);
    assert!(script.contains(&app.url), "it names a service: {script}");
    let folder = std::path::Path::new(PROGRAM).parent().expect("it is in one").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euc", &script]).current_dir(dir).env("PATH", path).env("XDG_CONFIG_HOME", "/nonexistent");
    let run = bash.output().await.expect("bash is there");
    let output = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(run.status.success(), "{output}{}", String::from_utf8_lossy(&run.stderr));
    output
}

/// A service where what is asked for without a tenant is where it is by default.
async fn app(auth: AuthOptions) -> TestApp {
    TestApp::start_with(|settings| {
        settings.auth = auth;
        settings.http.paths.premises = NamespacePath {
            tenant: TenantId::parse("default").expect("a name"),
            namespace: NamespaceId::parse("default").expect("a name"),
        };
    })
    .await
}

const WORKS: &str = "An adapter would work with this endpoint.\n";

#[tokio::test]
async fn an_adapter_on_a_desk_goes_as_its_page_says() {
    let app = app(AuthOptions::default()).await;
    let dir = new_dir();
    // The shortest command, which is the beginning of another.
    let shortest = blocks("sh").into_iter().min_by_key(|block| block.len()).expect("there are some");
    assert!(run(&app, shortest, &dir).await.ends_with(WORKS));
    let said = run(&app, script("curl -s $URL/groups/pump/status"), &dir).await;
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&answers[0]["Id"], &answers[1]["Role"]), (&"pump".into(), &0.into()), "{said}");
    assert_eq!((&answers[2]["Role"], &answers[3]["Primary"]), (&1.into(), &"HOST-A1.OpcUa".into()), "{said}");
    // The group that it made is live now.
    let said = run(&app, script("--group pump"), &dir).await;
    assert!(said.contains("'HOST-A1.OpcUa' is Primary") && said.ends_with(WORKS), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[tokio::test]
async fn the_logins_of_adapters_go_as_their_page_says() {
    let keys = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    let with_keys = app(keys).await;
    let dir = new_dir();
    let (_, admin) = create_key(&with_keys.database, "admin", &["--tenant", "default", "--role", "admin"]).await;
    std::fs::write(dir.join("admin.key"), admin).expect("it can be written");
    let said = run(&with_keys, script("keys create adapter-7"), &dir).await;
    assert!(said.contains("as 'adapter-7' by Basic authentication") && said.ends_with(WORKS), "{said}");

    let oidc = Some(issuer_of_tokens("plant").await.options);
    let with_issuer = app(AuthOptions { oidc, clients_create_groups: true, ..AuthOptions::default() }).await;
    std::fs::write(dir.join("adapter-7.secret"), "correct horse\n").expect("it can be written");
    let said = run(&with_issuer, script("--client-id"), &dir).await;
    assert!(said.contains("as the client 'adapter-7'") && said.ends_with(WORKS), "{said}");
}

#[tokio::test]
async fn the_endpoints_of_the_pages_configurations_are_endpoints() {
    let app = app(AuthOptions::default()).await;
    let dir = new_dir();
    let configurations = blocks("json");
    assert_eq!(configurations.len(), 4);
    for configuration in configurations {
        let configuration: Value = serde_json::from_str(configuration).expect("JSON");
        let endpoint = configuration["endpoint"].as_str().expect("it has one");
        let path = endpoint.splitn(4, '/').nth(3).expect("it has a path");
        let timeout = configuration["failoverTimeout"].as_str().expect("it has one");
        let check = format!("client-failover adapters check {}/{path} --failover-timeout {timeout}", app.url);
        assert!(run(&app, &check, &dir).await.ends_with(WORKS), "{endpoint}");
    }
}

/// By the description of the API, which is compared with what the service tells.
#[test]
fn every_risk_is_explained_for_whoever_runs_adapters() {
    let (_, section) = PAGE.split_once("## What the risks on the page mean").expect("it is there");
    let section = section.split("\n## ").next().expect("it ends");
    let named: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let description: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    let mut known = Vec::new();
    find_risks(&description, &mut known);
    assert!(!known.is_empty());
    assert!(known.iter().all(|risk| named.contains(&risk.as_str())), "{known:?} and {named:?}");
}

/// The values of the enumeration that has `NoStandby`.
fn find_risks(value: &Value, known: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| find_risks(value, known)),
        Value::Object(object) => {
            let values = object.get("enum").and_then(Value::as_array);
            let risks = values.filter(|values| values.contains(&"NoStandby".into())).into_iter().flatten();
            known.extend(risks.filter_map(|risk| risk.as_str().map(str::to_owned)));
            object.values().for_each(|value| find_risks(value, known));
        }
        _ => {}
    }
}
