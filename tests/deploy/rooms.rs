//! The walls within the service, which no compiler keeps: what ARCHITECTURE.md says of its rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// All files with source below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// The source without comments and the tests in it.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What comes first in each path of `use PREFIX…;`, of which there may be several in braces.
fn imported(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let first =
        |path: &str| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    for import in code.split(&format!("use {prefix}")).skip(1) {
        let import = import.split(';').next().unwrap_or_default().trim();
        let Some(several) = import.strip_prefix('{') else {
            names.insert(first(import));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in several.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    names.insert(first(&several[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The modules of a room, each with those beside it that it imports.
fn imports_in(room: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(SRC).join(room);
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files(&folder) {
        let below = path.strip_prefix(&folder).expect("it is below");
        let module = below.components().next().expect("it has a name").as_os_str().to_str().expect("in letters");
        let known = imports.entry(module.trim_end_matches(".rs").to_owned()).or_default();
        let code = code(&path);
        let depth = below.components().count();
        known.extend(imported(&code, &"super::".repeat(depth)));
        known.extend(imported(&code, &format!("crate::{room}::")));
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, known) in &mut imports {
        known.retain(|name| modules.contains(name) && name != module);
    }
    imports
}

#[test]
fn the_modules_of_a_room_import_in_no_circle() {
    for room in ["store", "postgres", "failover"] {
        let mut left = imports_in(room);
        assert!(left.values().map(BTreeSet::len).sum::<usize>() >= 5, "{room}: imports are read: {left:?}");
        // Takes away whatever imports nothing that is left, until nothing is.
        while let Some(module) = left.iter().find(|(_, known)| known.is_empty()).map(|(module, _)| module.clone()) {
            left.remove(&module);
            for known in left.values_mut() {
                known.remove(&module);
            }
        }
        assert!(left.is_empty(), "{room} has a circle among {left:?}");
    }
}

#[test]
fn the_store_alone_speaks_to_the_database() {
    for path in files(Path::new(SRC)) {
        if path.starts_with(Path::new(SRC).join("store")) || path == Path::new(SRC).join("store.rs") {
            continue;
        }
        // The name of a target of the log is no use of it.
        let speaks = |line: &&str| line.contains("sqlx::") && !line.contains("\"sqlx::");
        let code = code(&path);
        assert_eq!(code.lines().find(speaks), None, "{}", path.display());
    }
}
