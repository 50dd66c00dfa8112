//! Deliberate defects of the service, to see that the tests find them: patches in
//! `tests/faults/defects/`.
//!
//! Each is applied to a copy of the source and built there, in the target folder. So none is ever
//! in the tree, or in a program that somebody could take for the service.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::helpers::copy_program;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A patch that makes a defect.
pub struct Defect {
    /// The name of its file, without the ending.
    pub name: String,
    patch: PathBuf,
}

impl Defect {
    /// All of them, in the order of their names.
    pub fn all() -> Vec<Defect> {
        let folder = fs::read_dir(Path::new(ROOT).join("tests/faults/defects")).expect("the defects are there");
        let files = folder.map(|entry| entry.expect("a folder can be read").path());
        let mut all: Vec<Defect> = files
            .filter(|file| file.extension().is_some_and(|ending| ending == "patch"))
            .map(|patch| {
                let name = patch.file_stem().expect("it has a name").to_string_lossy().into_owned();
                Defect { name, patch }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The one of this name.
    pub fn named(name: &str) -> Defect {
        Defect::all().into_iter().find(|defect| defect.name == name).unwrap_or_else(|| panic!("no defect '{name}'"))
    }

    /// What the patch says of the defect, before its first line of code.
    pub fn description(&self) -> String {
        let text = fs::read_to_string(&self.patch).expect("the patch can be read");
        text.split_once("\n--- ").expect("it has lines of code").0.trim().to_owned()
    }

    /// Why the patch cannot be applied to the source as it is, where it cannot.
    pub fn mismatch(&self) -> Option<String> {
        let output = git(Path::new(ROOT)).args(["apply", "--check"]).arg(&self.patch).output().expect("git starts");
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Builds the service with this defect, optimised where this test is. The first one builds all
    /// that the service depends on; after that only the service itself is built anew.
    pub fn build(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("defects");
        let (source, target, programs) = (folder.join("source"), folder.join("target"), folder.join("programs"));
        for folder in [&source, &programs] {
            fs::create_dir_all(folder).expect("the target folder can be written");
        }
        // Another test binary may want one at the same time.
        let lock = File::create(folder.join("lock")).expect("the target folder can be written");
        lock.lock().expect("a file can be locked");
        let began = Instant::now();
        renew(&source);
        let applied = git(&source).arg("apply").arg(&self.patch).status().expect("git starts");
        assert!(applied.success(), "{} does not apply", self.patch.display());
        let is_optimised = !cfg!(debug_assertions);
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--offline"])
            .args(["--package", "client-failover", "--bin", "client-failover"])
            .args(is_optimised.then_some("--release"))
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&source)
            .status()
            .expect("cargo starts");
        assert!(built.success(), "the service does not build with the defect '{}'", self.name);
        let built = target.join(if is_optimised { "release" } else { "debug" }).join("client-failover");
        let program = programs.join(&self.name);
        copy_program(&built, &program);
        println!("{}: built in {} s", self.name, began.elapsed().as_secs());
        program
    }
}

/// Git, in that folder, as if it belonged to no repository above it.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().expect("it is in a folder"));
    command
}

/// Makes the copy what the source is now, changes that are not committed included. A file that is
/// the same is left alone, so that cargo builds only what has to be built; and one that is not is
/// new, so that cargo notices.
fn renew(copy: &Path) {
    let listed = git(Path::new(ROOT))
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("git starts");
    assert!(listed.status.success(), "defects are built in a clone: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("names of files are UTF-8");
    let mut files = BTreeSet::new();
    for name in listed.split_terminator('\0') {
        // One that was deleted is listed until that is committed.
        let Ok(content) = fs::read(Path::new(ROOT).join(name)) else { continue };
        let file = copy.join(name);
        if fs::read(&file).ok().as_ref() != Some(&content) {
            fs::create_dir_all(file.parent().expect("it is in the copy")).expect("a folder can be made");
            fs::write(&file, content).expect("the copy can be written");
        }
        files.insert(file);
    }
    remove_others(copy, &files);
}

fn remove_others(folder: &Path, files: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the copy can be read") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            remove_others(&path, files);
        } else if !files.contains(&path) {
            fs::remove_file(&path).expect("the copy can be written");
        }
    }
}
