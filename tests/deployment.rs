//! The service where it is deployed: in an image with nothing but itself, started by a shell, a service manager, or an orchestrator.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::credentials::{new_dir, program};
use crate::helpers::TestDatabase;
use crate::issuer::{SigningKey, TokenIssuer};
use crate::process::{Running, new_data_dir, private, refusal, run};

/// As in an image without certificate authorities.
fn without_authorities(mut command: Command) -> Command {
    command.env("SSL_CERT_FILE", "/nonexistent/file").env("SSL_CERT_DIR", "/nonexistent/dir");
    command
}

#[tokio::test]
async fn without_certificate_authorities_everything_over_http_works() {
    let issuer = TokenIssuer::start(vec![SigningKey::ed().jwk("first")]).await;
    let database = TestDatabase::new().await;
    let mut command = without_authorities(program());
    // Traces go to nobody, which is no reason to fail.
    command.args(["--listen", "127.0.0.1:0", "--auth", "oidc", "--oidc-audience", "x", "--oidc-issuer"]);
    command.arg(&issuer.options().issuer).args(["--otlp-endpoint", "http://127.0.0.1:9"]);
    command.env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    for arguments in [["health"].as_slice(), &["status", "--tenant", "t", "--namespace", "n"]] {
        let mut asking = without_authorities(program());
        asking.args(arguments).env("CLIENT_FAILOVER_SERVER", &service.url).env("XDG_CONFIG_HOME", "/nonexistent");
        let output = run(asking).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The second is asked who it is, by a service that it reached.
        assert!(output.status.success() || said.contains("The caller is not known"), "{arguments:?}: {said}");
    }
    assert!(issuer.fetches() > 0);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
}

#[tokio::test]
async fn what_is_missing_for_https_is_said() {
    let wanted = ["certificate authorities", "ca-certificates"];
    for arguments in [
        ["serve", "--otlp-endpoint", "https://collector.example"].as_slice(),
        &["serve", "--auth", "oidc", "--oidc-issuer", "https://issuer.example", "--oidc-audience", "x"],
        &["health", "--url", "https://127.0.0.1:9"],
        &["status", "--server", "https://127.0.0.1:9"],
    ] {
        let mut command = without_authorities(program());
        command.args(arguments).env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none");
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        if arguments[0] == "serve" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let said = refusal(command).await;
        assert!(wanted.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
}

/// The commands of a banner: what is indented and is not for a browser.
fn commands(banner: &str) -> Vec<&str> {
    let indented = banner.lines().filter_map(|line| line.strip_prefix("  "));
    indented.filter(|line| !line.ends_with("in a browser")).collect()
}

/// Runs a banner's commands one after the other in one shell, from another folder than the service was started in.
async fn output_of_commands(banner: &str) -> String {
    // The demo takes its time, and a test of its own; here it only has to be found.
    let script: Vec<String> = commands(banner).iter().map(|line| line.replace(" demo", " demo --help")).collect();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &script.join("\n")]).current_dir("/");
    let bare = ["DATABASE_URL", "CLIENT_FAILOVER_LISTEN"];
    bare.iter().for_each(|name| drop(shell.env_remove(name)));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(shell).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{banner}\n{said}");
    said
}

#[tokio::test]
async fn the_commands_of_the_banner_work_as_they_are_printed() {
    let tools = ["curl", "psql", "bash"];
    if tools.iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        println!("skipped: it needs {tools:?}");
        return;
    }
    for auth in ["none", "api-key", "api-key,basic"] {
        let users = new_dir().join("users.toml");
        std::fs::write(&users, "").expect("it can be written");
        let mut command = private(&new_data_dir());
        command.args(["--auth", auth]);
        if auth.contains("basic") {
            command.arg("--users-file").arg(&users);
        }
        let service = Running::start(command).await;
        let said = output_of_commands(&service.banner).await;
        for shown in ["\"pump\"", "primary_session", "Usage: client-failover demo"] {
            assert!(said.contains(shown), "{shown} with {auth}: {said}");
        }
        // Nobody comes in without the key that the banner has made.
        let group = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/pump";
        let status = service.ask(reqwest::Method::GET, group, json!(null)).await.0;
        assert_eq!(status, if auth == "none" { 200 } else { 401 });
    }
}
