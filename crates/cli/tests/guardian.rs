//! What the guardian of Windows keeps to, whatever becomes of its agent: it is spoken to here as an
//! agent does.

#![cfg(windows)]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client_failover_client::MachineTime;

const PROGRAM: &str = env!("CARGO_BIN_EXE_client-failover-cli");

/// A guardian, its program, and what that has started, which writes into a file for as long as it
/// lives.
struct Guarded {
    guardian: Child,
    record: PathBuf,
}

impl Guarded {
    fn start(name: &str, kill_at: MachineTime) -> Guarded {
        let record = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(PROGRAM);
        command.args(["guardian", "quiet", &format!("test-{name}-{}", std::process::id())]).arg(own);
        command.args(["--exact", "starts_one_that_writes", "--ignored"]).env("RECORD", &record);
        let mut guardian = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let line = guardian.stdin.as_mut().expect("it is piped");
        line.write_all(&message(b'U', kill_at.0)).expect("it listens");
        let guarded = Guarded { guardian, record };
        assert!(within(|| guarded.record.metadata().is_ok_and(|file| file.len() > 0)), "it runs");
        guarded
    }

    /// Nobody writes any more, from at most so long after now on.
    fn is_silent(&self) -> bool {
        let written = || self.record.metadata().map_or(0, |file| file.len());
        within(|| {
            let before = written();
            std::thread::sleep(Duration::from_millis(300));
            written() == before
        })
    }
}

fn message(letter: u8, number: i64) -> [u8; 9] {
    let mut bytes = [letter; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn within(mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > Duration::from_secs(20) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

const NEVER: MachineTime = MachineTime(i64::MAX);

#[test]
fn at_the_end_it_kills_all_and_says_so_when_they_are_gone() {
    let end = MachineTime::now().plus(Duration::from_secs(4));
    let mut guarded = Guarded::start("end", end);
    let mut said = Vec::new();
    guarded.guardian.stdout.take().expect("it is piped").read_to_end(&mut said).expect("it can be read");
    let late = MachineTime::now().since(end);
    let length = guarded.record.metadata().expect("it is there").len();
    let letters: Vec<u8> = said.chunks(9).map(|message| message[0]).collect();
    assert_eq!(letters, b"PTG", "it has started, its end has come, and it has ended by force");
    assert!(late < Duration::from_millis(500), "{late:?}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(guarded.record.metadata().expect("it is there").len(), length, "what it had started writes on");
}

#[test]
fn without_its_agent_it_kills_all() {
    let mut guarded = Guarded::start("alone", NEVER);
    drop(guarded.guardian.stdin.take());
    assert!(within(|| guarded.guardian.try_wait().expect("it is ours").is_some()));
    assert!(guarded.is_silent());
}

#[test]
fn killed_itself_it_takes_all_along() {
    let mut guarded = Guarded::start("killed", NEVER);
    guarded.guardian.kill().expect("it is ours");
    guarded.guardian.wait().expect("it is ours");
    assert!(guarded.is_silent());
}

#[test]
#[ignore = "not a test: it is a program that starts another"]
fn starts_one_that_writes() {
    let Some(record) = std::env::var_os("RECORD") else { return };
    if std::env::var_os("IS_SECOND").is_some() {
        write_on(Path::new(&record));
    }
    let own = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(own);
    command.args(["--exact", "starts_one_that_writes", "--ignored"]).env("IS_SECOND", "1");
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts").wait();
}

fn write_on(record: &Path) -> ! {
    let mut file = std::fs::File::create(record).expect("it can be made");
    loop {
        file.write_all(b"acts\n").expect("it can be written");
        std::thread::sleep(Duration::from_millis(5));
    }
}
