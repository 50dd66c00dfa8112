//! A terminal of a given size for a command, and what it shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::helpers::eventually;

/// A command in a terminal. Killed when dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    written: Arc<Mutex<Vec<u8>>>,
}

/// What was written, and how the command ended.
#[derive(Debug)]
pub struct Shown {
    pub code: i32,
    /// As it was written.
    pub raw: String,
    /// Without what the terminal obeys.
    pub text: String,
}

impl Shown {
    pub fn lines(&self) -> Vec<&str> {
        self.text.lines().map(|line| line.trim_end_matches('\r')).collect()
    }
}

impl Terminal {
    /// Starts a command in a terminal of so many rows and columns.
    pub fn start(mut command: Command, (rows, columns): (u16, u16)) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal can be had");
        let end = || File::from(pty.slave.try_clone().expect("it can be had twice"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm").spawn().expect("it starts");
        drop(command);
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().expect("it can be had twice");
        let written = Arc::new(Mutex::new(Vec::new()));
        let kept = written.clone();
        std::thread::spawn(move || {
            let mut some = [0; 4_096];
            // It fails once nobody has the other end.
            while let Ok(count @ 1..) = screen.read(&mut some) {
                kept.lock().expect("nobody panics with it").extend_from_slice(&some[..count]);
            }
        });
        Terminal { child, keyboard, written }
    }

    /// Runs a command to its end, with something typed.
    pub async fn run(command: Command, size: (u16, u16), typed: &str) -> Shown {
        let mut terminal = Terminal::start(command, size);
        terminal.keyboard.write_all(typed.as_bytes()).expect("it is taken");
        terminal.ended().await
    }

    /// Waits until something is on the screen.
    pub async fn shows(&self, text: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !self.text().1.contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if waited.await.is_err() {
            panic!("'{text}' was never shown: {:?}", self.text().0);
        }
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a number")), Signal::SIGINT).expect("it is ours");
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Shown {
        let mut status = None;
        eventually("the command ends", async || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        })
        .await;
        // What was written is read a moment later.
        let mut before = usize::MAX;
        eventually("all of it is read", async || {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let now = self.written.lock().expect("nobody panics with it").len();
            std::mem::replace(&mut before, now) == now
        })
        .await;
        let (raw, text) = self.text();
        Shown { code: status.and_then(|status| status.code()).unwrap_or(-1), raw, text }
    }

    fn text(&self) -> (String, String) {
        let raw = String::from_utf8_lossy(&self.written.lock().expect("nobody panics with it")).into_owned();
        let mut text = String::new();
        let mut rest = raw.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            text.push_str(before);
            let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |end| end + 1);
            // Where it is drawn anew from the top.
            if after.starts_with('H') {
                text.push('\n');
            }
            rest = &after[end..];
        }
        text.push_str(rest);
        (raw.clone(), text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
