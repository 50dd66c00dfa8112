//! The walls between the crates: who knows whom, and what whoever builds on the client has to take
//! along.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

#[test]
fn each_crate_knows_of_the_others_what_the_architecture_says() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let ours = |name: &str| name.strip_prefix("client-failover-").map(str::to_owned);
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let known = arrows.entry(ours(name).unwrap_or_else(|| "service".to_owned())).or_default();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            match dependency["name"].as_str().expect("a name") {
                "client-failover" => known.insert("service".to_owned()),
                other => ours(other).is_some_and(|name| known.insert(name)),
            };
        }
    }
    let allowed = [
        ("agent", &["children", "client", "operator"][..]),
        ("bench", &["children", "client", "service", "wire", "workshop"]),
        ("children", &[]),
        ("cli", &["agent", "client", "conformance", "operator"]),
        ("client", &["wire"]),
        ("conformance", &["children", "wire"]),
        ("demo", &["children", "client", "wire"]),
        ("operator", &["client", "wire"]),
        ("service", &["agent", "children", "cli", "client", "demo", "operator", "wire", "workshop"]),
        ("wire", &[]),
        ("workshop", &[]),
    ];
    let allowed = allowed
        .map(|(name, known)| (name.to_owned(), known.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()));
    assert_eq!(arrows, BTreeMap::from(allowed), "ARCHITECTURE.md has the same table");
}

#[test]
fn whoever_builds_on_the_client_takes_along_few_packages_and_no_server_or_database() {
    let tree = cargo(&["tree", "--package", "client-failover-client", "--edges", "normal", "--prefix", "none"]);
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains("reqwest"), "{tree}");
    assert!(packages.len() < 190, "{}: {packages:?}", packages.len());
    for unwanted in ["actix-web", "sqlx", "plotters", "clap", "client-failover"] {
        assert!(!packages.contains(unwanted), "{unwanted}");
    }
}
