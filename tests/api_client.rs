//! A client made from the description by a public generator can run a takeover.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::credentials::new_dir;
use crate::helpers::{Answer, TestApp};

/// A program of the folder that `API_TOOLS` names, or of the path.
fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("API_TOOLS").into_iter().chain(std::env::var_os("PATH"));
    let folders: Vec<PathBuf> = folders.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).collect();
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// What a command says that has to succeed.
async fn output_of(command: &mut Command) -> String {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await.expect("it ends in time");
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn a_generated_client_runs_a_takeover() {
    let Some(generator) = find("openapi-python-client") else {
        println!("skipped: there is no openapi-python-client (PyPI), neither in $API_TOOLS nor in the PATH");
        return;
    };
    let app = TestApp::start().await;
    let dir = new_dir();
    let description = Answer::of(app.http.get(format!("{}/openapi.json", app.url))).await.text;
    std::fs::write(dir.join("openapi.json"), description).expect("it can be written");
    let mut generate = Command::new(&generator);
    generate.current_dir(&dir).args([
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "generated",
        "--meta",
        "none",
    ]);
    let said = output_of(&mut generate).await;
    // A warning of its own is that the tools that would format the code are missing.
    assert!(!said.contains("WARNING parsing") && !said.contains("Unable to"), "{said}");
    // The interpreter that has what generated clients need is the generator's own.
    let beside = generator.canonicalize().unwrap_or(generator);
    let python = beside.parent().map(|folder| folder.join("python")).filter(|python| python.is_file());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/takeover.py");
    let mut takeover = Command::new(python.unwrap_or("python3".into()));
    println!("{}", output_of(takeover.arg(script).arg(&dir).arg(&app.url)).await.trim());
}
