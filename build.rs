//! Rebuilds when a migration changes: they are embedded in the binary by a macro that cargo cannot
//! see through. And says which commit the program is built from.
//!
//! A commit that the environment names counts first: the build of an image has no `.git`. Else git
//! is asked, in optimised builds alone; in others everything would be built again at each commit.
//! What is said depends on the sources and on nothing else, so that a build can be repeated to the
//! byte.

use std::env;
use std::path::Path;
use std::process::Command;

/// How whoever builds says which commit it is.
const GIVEN: &str = "SOURCE_COMMIT";

/// What the program is made of. Where something else was changed, it is that commit's all the same.
const SOURCES: [&str; 6] = ["src", "crates", "migrations", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed={GIVEN}");
    let given = env::var(GIVEN).ok().filter(|commit| !commit.is_empty());
    let is_optimised = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| if is_optimised { commit_of_git() } else { None });
    if let Some(commit) = commit.filter(|commit| commit.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
        println!("cargo:rustc-env=CLIENT_FAILOVER_COMMIT={commit}");
    }
}

/// The commit that is checked out, with `-dirty` behind it where the sources are not those of it;
/// `None` outside of a repository of git, or without git.
fn commit_of_git() -> Option<String> {
    // A folder of sources may lie in the repository of something else.
    if !Path::new(".git").exists() {
        return None;
    }
    let commit = git(&["rev-parse", "--verify", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    SOURCES.iter().for_each(|path| println!("cargo:rerun-if-changed={path}"));
    // Which commit that is changes with one of these: the name of the branch, where it is, and
    // where it was packed away.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()).chain(["packed-refs"]) {
        // Of one that is not there cargo would think that it changed.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// What git says.
fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| said.trim().to_owned())
}
