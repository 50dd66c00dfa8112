//! Which commit a program says that it was built from: what the script of the build finds out.

use std::path::{Path, PathBuf};
use std::process::Command;

use client_failover_workshop::needs;

use crate::support::program::new_data_dir;

const COMMIT_LINE: &str = "cargo:rustc-env=CLIENT_FAILOVER_COMMIT=";

/// Runs a program to its end, which has to be a good one.
fn run(command: &mut Command) -> String {
    let done = command.output().expect("it starts");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("it is UTF-8")
}

/// A folder with a repository of its own.
struct Sources {
    folder: PathBuf,
    script: PathBuf,
}

impl Sources {
    fn new() -> Sources {
        let folder = new_data_dir();
        let script = folder.join("script");
        std::fs::create_dir_all(folder.join("sources/src")).expect("the folder is ours");
        run(Command::new(Path::new(env!("CARGO")).with_file_name("rustc"))
            .args(["--edition", "2024", "-o"])
            .arg(&script)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs")));
        Sources { folder, script }
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join("sources").join(file), text).expect("the folder is ours");
    }

    fn git(&self, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
        let mut command = Command::new("git");
        command.current_dir(self.folder.join("sources")).args(who).args(arguments);
        run(&mut command).trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What a build would do: the commit, and what cargo is told to watch.
    fn build(&self, profile: &str, given: Option<&str>) -> (Option<String>, Vec<String>) {
        let mut command = Command::new(&self.script);
        command.current_dir(self.folder.join("sources")).env("PROFILE", profile).env_remove("SOURCE_COMMIT");
        if let Some(given) = given {
            command.env("SOURCE_COMMIT", given);
        }
        let said = run(&mut command);
        let commit = said.lines().find_map(|line| line.strip_prefix(COMMIT_LINE)).map(str::to_owned);
        let watched = said.lines().filter_map(|line| line.strip_prefix("cargo:rerun-if-changed=")).map(str::to_owned);
        (commit, watched.collect())
    }
}

#[needs("git")]
#[test]
fn an_optimised_build_says_its_commit_and_whether_the_sources_are_of_it() {
    let sources = Sources::new();
    sources.write("src/lib.rs", "");
    sources.write("README.md", "");
    assert_eq!(sources.build("release", None).0, None, "there is no repository");
    sources.git(&["init", "-q", "-b", "main"]);
    assert_eq!(sources.build("release", None).0, None, "there is no commit");
    let first = sources.commit();
    let (commit, watched) = sources.build("release", None);
    assert_eq!(commit, Some(first.clone()));
    assert!(watched.iter().any(|path| path.ends_with(".git/refs/heads/main")), "{watched:?}");
    assert_eq!(sources.build("release", None).0, Some(first.clone()), "the same sources, the same program");
    // What the program is not made of does not matter.
    sources.write("README.md", "More.");
    assert_eq!(sources.build("release", None).0, Some(first.clone()));
    sources.write("src/lib.rs", "//! Another.");
    assert_eq!(sources.build("release", None).0, Some(format!("{first}-dirty")));
    let second = sources.commit();
    assert_ne!(first, second);
    assert_eq!(sources.build("release", None).0, Some(second.clone()));
    // Others would be built again at each commit.
    assert_eq!(sources.build("debug", None), (None, vec!["migrations".to_owned()]));
    // Whoever builds may know better, as where there is no repository.
    assert_eq!(sources.build("release", Some("abc123")).0.as_deref(), Some("abc123"));
    assert_eq!(sources.build("debug", Some("abc123")).0.as_deref(), Some("abc123"));
    assert_eq!(sources.build("release", Some("")).0, Some(second));
    assert_eq!(sources.build("release", Some("a\ncargo:x=y")).0, None);
}
