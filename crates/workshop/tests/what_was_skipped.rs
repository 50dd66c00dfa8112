//! Says at the end of `cargo test` what was skipped, and why. The tests themselves are reported as
//! ignored, each at its place among hundreds.

#[path = "../src/missing.rs"]
#[allow(dead_code, reason = "names are looked at when tests are built")]
mod missing;
#[path = "../src/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for file in ["tests", "src", "crates"].iter().flat_map(|folder| sources(&workspace.join(folder))) {
        let text = std::fs::read_to_string(&file).expect("a source is text");
        let place = file.strip_prefix(&workspace).expect("it is below").display();
        for (needed, test) in needs(&text) {
            count += 1;
            if let Some(missing) = missing::of(&needed).filter(|missing| missing.is_skipped) {
                skipped.entry(missing.reason).or_default().push(format!("{place}: {test}"));
            }
        }
    }
    assert!(count > 0, "no test needs anything, or they are not found any more");
    if skipped.is_empty() {
        println!("\nOf {count} tests that need a tool none was skipped.\n");
        return;
    }
    let sum: usize = skipped.values().map(Vec::len).sum();
    println!("\nOf {count} tests that need a tool {sum} were skipped:");
    for (reason, tests) in skipped {
        println!("\n{reason}");
        for test in tests {
            println!("  {test}");
        }
    }
    println!();
}

/// What each test of a source needs that names anything, and its name.
fn needs(text: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(names) = line.strip_prefix("#[needs(") else { continue };
        let needed = names.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let name = lines.find_map(|line| line.split_once("fn ")).and_then(|(_, rest)| rest.split('(').next());
        found.push((needed, name.unwrap_or_default().to_owned()));
    }
    found
}

/// All sources below a folder, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be read").path()).collect();
    entries.sort();
    let files = entries.into_iter().flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}
