//! What becomes of a test that needs a tool, in a package of its own that Cargo builds and tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package with one test, and the only folder of its path.
struct Scratch {
    package: PathBuf,
    programs: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("needs");
        let programs = package.join("programs");
        let _ = fs::remove_dir_all(&package);
        fs::create_dir_all(package.join("tests")).expect("a folder can be made");
        fs::create_dir(&programs).expect("a folder can be made");
        let manifest = format!(
            "[package]\nname = \"scratch\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n\n[workspace]\n\n\
             [dev-dependencies]\nclient-failover-workshop = {{ path = {:?} }}\n",
            env!("CARGO_MANIFEST_DIR")
        );
        let test = "#[client_failover_workshop::needs(\"haproxy\")]\n#[test]\nfn two_stand_behind_it() {}\n";
        for (file, text) in [("Cargo.toml", manifest.as_str()), ("lib.rs", ""), ("tests/it.rs", test)] {
            fs::write(package.join(file), text).expect("it can be written");
        }
        // Linking takes no more.
        for program in ["cc", "ld", "as"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").expect("there is a path"))
                .map(|folder| folder.join(program))
                .find(|path| path.is_file());
            symlink(found.expect("there is a C compiler"), programs.join(program)).expect("the folder is ours");
        }
        Scratch { package, programs }
    }

    fn haproxy(&self) -> PathBuf {
        self.programs.join("haproxy")
    }

    /// What `cargo test` says there.
    fn test(&self, is_in_ci: bool) -> String {
        let cargo = Path::new(env!("CARGO"));
        let mut command = Command::new(cargo);
        command.args(["test", "--offline", "--target-dir", "target", "--test", "it"]).current_dir(&self.package);
        command.env("PATH", &self.programs).env("RUSTC", cargo.with_file_name("rustc")).env_remove("API_TOOLS");
        if is_in_ci {
            command.env("CI", "true")
        } else {
            command.env_remove("CI")
        };
        let output = command.output().expect("cargo starts");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

#[test]
fn a_test_is_ignored_while_its_tool_is_missing_and_fails_where_ci_is_set() {
    let scratch = Scratch::new();
    let said = scratch.test(false);
    assert!(said.contains("two_stand_behind_it ... ignored, needs haproxy (Debian: haproxy)"), "{said}");
    // Noticed without being told.
    fs::write(scratch.haproxy(), "#!/bin/sh\n").expect("it can be written");
    fs::set_permissions(scratch.haproxy(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let said = scratch.test(false);
    assert!(said.contains("two_stand_behind_it ... ok"), "{said}");
    fs::remove_file(scratch.haproxy()).expect("it is ours");
    let said = scratch.test(true);
    assert!(said.contains("two_stand_behind_it ... FAILED"), "{said}");
    assert!(said.contains("needs haproxy (Debian: haproxy)"), "{said}");
}
