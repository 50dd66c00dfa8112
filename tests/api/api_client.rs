//! Clients made from the description by public generators, in several languages, can run a
//! takeover.

use std::path::{Path, PathBuf};

use client_failover_workshop::needs;
use tokio::process::Command;

use crate::support::credentials::new_dir;
use crate::support::helpers::{Answer, TestApp};
use crate::support::program::{find, output_of};

/// A new folder with the description that a service gives.
async fn with_description(app: &TestApp) -> PathBuf {
    let dir = new_dir();
    let description = Answer::of(app.http.get(format!("{}/openapi.json", app.url))).await.text;
    std::fs::write(dir.join("openapi.json"), description).expect("it can be written");
    dir
}

/// What a generated client is used by.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/programs").join(name)
}

#[needs("openapi-python-client")]
#[tokio::test]
async fn a_generated_client_runs_a_takeover() {
    let generator = find("openapi-python-client");
    let app = TestApp::start().await;
    let dir = with_description(&app).await;
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
    let mut takeover = Command::new(python.unwrap_or("python3".into()));
    println!("{}", output_of(takeover.arg(script("takeover.py")).arg(&dir).arg(&app.url)).await.trim());
}

#[needs("openapi-ts", "tsc", "node")]
#[tokio::test]
async fn a_generated_client_in_typescript_is_well_typed_and_runs_a_takeover() {
    let app = TestApp::start().await;
    let dir = with_description(&app).await;
    std::fs::copy(script("takeover.ts"), dir.join("takeover.ts")).expect("it can be copied");
    let mut generate = Command::new(find("openapi-ts"));
    generate.current_dir(&dir).args(["-i", "openapi.json", "-o", "generated", "-c", "@hey-api/client-fetch"]);
    output_of(&mut generate).await;
    let mut compile = Command::new(find("tsc"));
    compile.current_dir(&dir).args(["--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable"]);
    output_of(compile.args(["--module", "commonjs", "--outDir", "compiled", "takeover.ts"])).await;
    let mut takeover = Command::new(find("node"));
    println!("{}", output_of(takeover.arg(dir.join("compiled/takeover.js")).arg(&app.url)).await.trim());
}

#[needs("openapi-generator-cli", "java")]
#[tokio::test]
async fn a_generated_client_in_rust_compiles_and_runs_a_takeover() {
    let app = TestApp::start().await;
    let dir = with_description(&app).await;
    let mut generate = Command::new(find("openapi-generator-cli"));
    generate.current_dir(&dir).args(["generate", "-g", "rust", "-i", "openapi.json", "-o", "generated"]);
    output_of(generate.arg("--additional-properties=packageName=failover_api")).await;
    let package = dir.join("generated");
    std::fs::create_dir(package.join("examples")).expect("it can be made");
    std::fs::copy(script("takeover.rs"), package.join("examples/takeover.rs")).expect("it can be copied");
    let manifest = package.join("Cargo.toml");
    let mut text = std::fs::read_to_string(&manifest).expect("it was generated");
    // Out of this workspace, and with a runtime.
    text +=
        "\n[workspace]\n\n[dev-dependencies]\ntokio = { version = \"1\", features = [\"macros\", \"rt\", \"time\"] }\n";
    std::fs::write(&manifest, text).expect("it can be written");
    // Of what both need, the same.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    std::fs::copy(lock, package.join("Cargo.lock")).expect("it can be copied");
    // Behind other tests, some of which measure times.
    let mut cargo = Command::new("nice");
    // Its dependencies are compiled once for all runs; without TLS they are few.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated-client");
    cargo.arg(env!("CARGO")).current_dir(&package).env("CARGO_TARGET_DIR", target);
    cargo.args(["run", "--quiet", "--no-default-features"]);
    println!("{}", output_of(cargo.args(["--example", "takeover", "--"]).arg(&app.url)).await.trim());
}
