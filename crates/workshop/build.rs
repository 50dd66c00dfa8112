//! Looks for the tools. Cargo runs this again when one comes or goes, and then builds what has
//! tests that need one.

#[path = "src/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/table.rs");
    // Whoever is somebody else has another home.
    for variable in ["API_TOOLS", "PATH", "CI", "HOME", "USER"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let lists = ["API_TOOLS", "PATH"].into_iter().filter_map(std::env::var_os);
    let folders: Vec<PathBuf> = lists.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).collect();
    let mut missing = Vec::new();
    for (name, _) in table::TOOLS {
        match folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path)) {
            Some(path) => println!("cargo:rerun-if-changed={}", path.display()),
            None => missing.push(*name),
        }
    }
    if !missing.is_empty() {
        // A path that does not exist is always another than before, so the folders are watched.
        let folders: BTreeSet<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        for folder in folders {
            println!("cargo:rerun-if-changed={}", folder.display());
        }
    }
    if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        missing.push(table::ROOT);
    }
    println!("cargo:rustc-env=MISSING_TOOLS={}", missing.join(" "));
    println!("cargo:rustc-env=NOTHING_IS_SKIPPED={}", std::env::var_os("CI").is_some());
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
