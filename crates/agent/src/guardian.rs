//! The guardian: a process between the agent and the program. It knows the end of the lease and
//! nothing else, and kills the program then, whatever the agent does.
//!
//! The agent may be stopped, starved, swapped out or killed. So this is a process of its own that
//! asks nobody anything. Here is what it and the agent say to each other; how it holds what it
//! guards is a matter of the system.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

#[cfg(target_os = "linux")]
pub use linux::{kill_orphans, take_name};
#[cfg(windows)]
pub use windows::take_name;

#[cfg(target_os = "linux")]
use linux::{account, guard};
#[cfg(windows)]
use windows::{account, guard};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

/// The first argument that makes a guardian of the program that it is given to.
pub const ARGUMENT: &str = "guardian";

/// What the agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Kill at that instant (`MachineTime` of the client's crate); never, at `i64::MAX`.
    KillAt(i64),
    /// Send that signal to the program.
    Signal(i64),
    /// Kill now.
    Kill,
    /// So many bytes follow for the program's standard input.
    Line(i64),
    /// To answer with that number: all that was said before has been done then.
    Ask(i64),
    /// The program's standard output is that handle, which was given to the guardian. It is said
    /// first.
    #[cfg(windows)]
    Output(i64),
}

/// What the guardian says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The program runs, with that process id.
    Started(i64),
    /// It cannot be started: the number of the error.
    NotStarted(i64),
    /// What was said up to that question has been done.
    Heard(i64),
    /// The end has come, or it could not be told what it was to be told, and it is killed.
    EndHasCome,
    /// It has ended by itself or by a signal that it was sent, with that code, and nothing that it
    /// started is left.
    Ended(i64),
    /// The same, by that signal.
    EndedBy(i64),
}

/// Each message is a letter and a number.
pub const MESSAGE_BYTES: usize = 9;

impl Order {
    pub fn to_bytes(self) -> [u8; MESSAGE_BYTES] {
        match self {
            Order::KillAt(at) => message(b'U', at),
            Order::Signal(number) => message(b'S', number),
            Order::Kill => message(b'K', 0),
            Order::Line(bytes) => message(b'L', bytes),
            Order::Ask(number) => message(b'A', number),
            #[cfg(windows)]
            Order::Output(handle) => message(b'O', handle),
        }
    }

    fn from_bytes(bytes: [u8; MESSAGE_BYTES]) -> Option<Order> {
        let (letter, number) = parts(bytes);
        Some(match letter {
            b'U' => Order::KillAt(number),
            b'S' => Order::Signal(number),
            b'K' => Order::Kill,
            b'L' => Order::Line(number),
            b'A' => Order::Ask(number),
            #[cfg(windows)]
            b'O' => Order::Output(number),
            _ => return None,
        })
    }
}

impl Report {
    fn to_bytes(self) -> [u8; MESSAGE_BYTES] {
        match self {
            Report::Started(pid) => message(b'P', pid),
            Report::NotStarted(error) => message(b'F', error),
            Report::EndHasCome => message(b'T', 0),
            Report::Heard(number) => message(b'H', number),
            Report::Ended(code) => message(b'E', code),
            Report::EndedBy(signal) => message(b'G', signal),
        }
    }

    pub fn from_bytes(bytes: [u8; MESSAGE_BYTES]) -> Option<Report> {
        let (letter, number) = parts(bytes);
        Some(match letter {
            b'P' => Report::Started(number),
            b'F' => Report::NotStarted(number),
            b'T' => Report::EndHasCome,
            b'H' => Report::Heard(number),
            b'E' => Report::Ended(number),
            b'G' => Report::EndedBy(number),
            _ => return None,
        })
    }
}

fn message(letter: u8, number: i64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [letter; MESSAGE_BYTES];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn parts([letter, number @ ..]: [u8; MESSAGE_BYTES]) -> (u8, i64) {
    (letter, i64::from_le_bytes(number))
}

/// To be killed at once.
const NOW: i64 = i64::MIN;
/// The longest line: what a pipe takes as a whole.
const LONGEST_LINE: usize = 4_096;

/// Whether this process was started to be a guardian, and then what becomes of it: to be asked
/// before anything else, so that it stays small.
pub fn if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let takes_lines = arguments.next()? == "lines";
    let name = arguments.next()?.into_string().ok()?;
    let program: Vec<OsString> = arguments.collect();
    Some(match guard(&program, takes_lines, &name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: the guardian cannot go on: {error}");
            ExitCode::FAILURE
        }
    })
}

/// What the guardian of a session is found by, on this machine and for this account.
pub fn name_of(server: &str, group: &str, session: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (server, group, session).hash(&mut hasher);
    format!("client-failover/{}/{:016x}", account(), hasher.finish())
}
