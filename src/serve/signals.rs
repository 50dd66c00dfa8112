//! What signals mean to the service. None ends it at once but SIGKILL: whatever asks it to end is
//! answered in order.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT, SIGQUIT | end, with the drain |
//! | SIGHUP | from a terminal: it was closed, so end; else nothing, with a line: every file is read again when it changes |
//! | SIGUSR1, SIGUSR2 | nothing, with a line |
//! | SIGPIPE | nothing: the runtime ignores it, and whoever is written to and gone is an error of that connection |

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, caught from now on.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    has_terminal: bool,
}

impl Stop {
    /// Begins to catch them.
    pub fn listen() -> io::Result<Stop> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            // Asked before it is gone. `nohup` leaves none of the three on it.
            has_terminal: io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal(),
        })
    }

    /// Waits for one that asks for the end.
    pub async fn comes(mut self) {
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hang_up.recv() => if self.has_terminal { return } else { "SIGHUP" },
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(
                signal = ignored,
                "nothing to do: files are read again when they change, and other settings need a restart"
            );
        }
    }
}
