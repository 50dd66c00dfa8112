//! A durable PostgreSQL whose clock can be set and whose disk can stall or fill up: a small library
//! of our own is preloaded.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use client_failover::postgres::{Postgres, PostgresOptions};

/// What the library in one server reads at any moment.
pub struct Shim {
    state: File,
    /// Programs that start the server with it.
    programs: PathBuf,
}

impl Shim {
    /// Compiles the library into that folder.
    pub fn new(dir: &Path) -> Shim {
        std::fs::create_dir_all(dir).expect("a folder can be made");
        // The server runs under another account where this is root.
        let open_to_all = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        };
        open_to_all(dir, 0o755);
        let library = dir.join("preload.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/preload.c");
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compile.status().expect("cc is there").success());
        let state_path = dir.join("state");
        std::fs::write(&state_path, [0; 24]).expect("a file can be written");
        open_to_all(&state_path, 0o644);
        let state = File::options().write(true).open(&state_path).expect("it is ours");

        let newest = Command::new("sh").args(["-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1"]).output();
        let real = String::from_utf8(newest.expect("sh is there").stdout).expect("a path").trim().to_owned();
        for name in ["postgres", "initdb", "pg_basebackup"] {
            let preload = match name {
                "postgres" => format!("LD_PRELOAD={} SHIM_STATE={} ", library.display(), state_path.display()),
                _ => String::new(),
            };
            let script = dir.join(name);
            std::fs::write(&script, format!("#!/bin/sh\nexec env {preload}{real}/{name} \"$@\"\n"))
                .expect("it is ours");
            open_to_all(&script, 0o755);
        }
        Shim { state, programs: dir.to_owned() }
    }

    /// Where the programs are that start servers with it.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Starts the server on the data in that folder. It can have standbys, and wait for them.
    pub async fn start_postgres(&self, data_dir: &Path) -> Postgres {
        let settings = [("wal_level", "replica"), ("max_wal_senders", "2")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let bin_dir = Some(self.programs.clone());
        let options = PostgresOptions { data_dir: data_dir.to_owned(), bin_dir, settings };
        Postgres::start(options).await.expect("a private PostgreSQL starts")
    }

    pub fn set_clock_by(&self, ms: i64) {
        self.state.write_at(&(ms * 1_000).to_ne_bytes(), 0).expect("the state can be written");
    }

    pub fn stall_the_disk(&self, stalls: bool) {
        self.state.write_at(&i64::from(stalls).to_ne_bytes(), 8).expect("the state can be written");
    }

    pub fn fill_the_disk(&self, disk: Disk) {
        self.state.write_at(&(disk as i64).to_ne_bytes(), 16).expect("the state can be written");
    }
}

/// What the disk of the server has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    HasRoom = 0,
    /// No file grows any more.
    IsFull = 1,
    /// And the log of the server cannot be written at all, as where files are copied when they are
    /// changed.
    TakesNoLog = 2,
}
