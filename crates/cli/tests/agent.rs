//! The agent of the program without the service, tried as a client is tried, on each system that
//! has one.

#![cfg(any(target_os = "linux", windows))]

use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_client-failover-cli");
const TIMEOUT: &str = "2s";

/// All of them where nothing else tries them.
const SCENES: &str = if cfg!(windows) {
    "primary,standby,silence,broken-off,late,crossed,short-lease,demoted,handover,unknown,deleted,refused,timeout"
} else {
    "primary,silence,demoted"
};

fn keeps_every_rule(mode: &[&str]) {
    let own = std::env::current_exe().expect("this program has a path");
    let group = "{tenant}/{namespace}/{group}";
    let mut command = Command::new(PROGRAM);
    command.args(["clients", "test", "--timeout", TIMEOUT, "--only", SCENES, "--at-once", "7"]);
    command.args(["--acts-like", "acts in its", "--", PROGRAM, "run", "--server", "{server}", "--group", group]);
    command.args(["--create", TIMEOUT, "--session", "{session}"]).args(mode).arg("--").arg(own);
    command.args(["--exact", "acts_as_long_as_it_runs", "--ignored", "--nocapture"]);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("keeps every rule"), "{said}");
}

#[test]
fn a_program_that_runs_while_it_is_primary_keeps_every_rule() {
    keeps_every_rule(&[]);
}

#[test]
fn a_program_that_is_told_its_role_by_lines_keeps_every_rule() {
    keeps_every_rule(&["--mode", "hot", "--stdin-lines"]);
}

#[test]
#[ignore = "not a test: it is the program that is run"]
fn acts_as_long_as_it_runs() {
    let Ok(mode) = std::env::var("CLIENT_FAILOVER_MODE") else { return };
    let is_primary = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(mode == "cold"));
    if mode != "cold" {
        let is_primary = is_primary.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                is_primary.store(line.starts_with("Primary"), std::sync::atomic::Ordering::Relaxed);
            }
        });
    }
    loop {
        if is_primary.load(std::sync::atomic::Ordering::Relaxed) {
            println!("acts in its {mode} way");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
