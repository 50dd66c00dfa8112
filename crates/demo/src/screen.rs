//! What is seen while the demo runs: a live table on a terminal, else one line for each event.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use client_failover_client::MachineTime;
use client_failover_wire::Role;

use super::DemoError;
use super::board::{Adapter, Board, Process};

const SHOWN_EVENTS: usize = 8;
const BAR_CELLS: usize = 6;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";
/// The cursor hides, and long lines are cut: a wrapped line would shift the table.
const BEGIN_LIVE: &str = "\x1b[?25l\x1b[?7l";
const END_LIVE: &str = "\x1b[?25h\x1b[?7h";

/// How the demo is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A table that is redrawn in place.
    Live,
    /// One line for each event.
    Lines,
}

impl Style {
    /// The style that standard output can show.
    pub fn of_stdout() -> Style {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !is_dumb { Style::Live } else { Style::Lines }
    }
}

/// Standard output.
pub struct Screen {
    style: Style,
    colours: Colours,
    step: [String; 2],
    events: Vec<String>,
    drawn_lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

impl Screen {
    /// A screen on which nothing has been shown.
    pub fn new(style: Style) -> Screen {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = if unwanted { Colours::Off } else { Colours::On };
        Screen { style, colours, step: Default::default(), events: Vec::new(), drawn_lines: 0 }
    }

    /// Shows text that stays.
    pub fn print(&mut self, text: &str) -> Result<(), DemoError> {
        write(&format!("{text}\n"))
    }

    /// Says what is happening now: a title and a sentence.
    pub fn step(&mut self, title: &str, text: &str) -> Result<(), DemoError> {
        self.step = [self.paint(BOLD, title), text.to_owned()];
        match self.style {
            Style::Live => Ok(()),
            Style::Lines => write(&format!("\n{title}\n  {text}\n")),
        }
    }

    /// Tells an event.
    pub fn event(&mut self, since_start: Duration, sentence: &str) -> Result<(), DemoError> {
        let line = format!("{:7.3} s  {sentence}", since_start.as_secs_f64());
        if self.style == Style::Lines {
            return write(&format!("{line}\n"));
        }
        self.events.push(line);
        Ok(())
    }

    /// Draws the table anew, if there is one.
    pub fn draw(&mut self, board: &Board, now: MachineTime) -> Result<(), DemoError> {
        if self.style == Style::Lines {
            return Ok(());
        }
        let lines = self.frame(board, now);
        let mut text = String::new();
        match self.drawn_lines {
            0 => text += BEGIN_LIVE,
            drawn => text += &format!("\x1b[{drawn}A\r"),
        }
        for line in &lines {
            text += &format!("{line}\x1b[K\n");
        }
        text += "\x1b[J";
        self.drawn_lines = lines.len();
        write(&text)
    }

    /// Leaves the table as it is; what is shown after it comes below.
    pub fn leave(&mut self) -> Result<(), DemoError> {
        if self.drawn_lines == 0 {
            return Ok(());
        }
        self.drawn_lines = 0;
        write(END_LIVE)
    }

    fn frame(&self, board: &Board, now: MachineTime) -> Vec<String> {
        let [title, text] = self.step.clone();
        let mut lines = vec![String::new(), title, text, String::new()];
        let header = row(["adapter", "process", "state", "role", "health", "heartbeat", "lease", "term"]);
        lines.push(self.paint(DIM, &header));
        lines.extend(board.adapters.iter().map(|adapter| self.adapter(adapter, now)));
        lines.push(String::new());
        let first = self.events.len().saturating_sub(SHOWN_EVENTS);
        let events = &self.events[first..];
        for (i, event) in events.iter().enumerate() {
            let is_last = i + 1 == events.len();
            lines.push(if is_last { event.clone() } else { self.paint(DIM, event) });
        }
        // Room for the events to come, so that the table does not move up a terminal that is nearly
        // full.
        lines.resize(lines.len() + SHOWN_EVENTS - events.len(), String::new());
        lines
    }

    fn adapter(&self, adapter: &Adapter, now: MachineTime) -> String {
        let none = || "-".to_owned();
        let (state, role) = match (adapter.process, adapter.role) {
            (Process::NotStarted, _) => ("-", "-"),
            (Process::Killed | Process::Gone, _) => ("killed", "-"),
            (Process::Running, None) => ("running", "-"),
            (Process::Running, Some(role)) => ("running", role.name()),
        };
        let process = match adapter.process {
            Process::NotStarted => none(),
            _ => adapter.process_id.to_string(),
        };
        let left = adapter.lease_until.map(|until| until.since(now));
        let line = row([
            &adapter.name,
            &process,
            state,
            role,
            &health_bar(adapter.health_percent),
            &adapter.heartbeat_at.map_or_else(none, |at| format!("{:.1} s ago", now.since(at).as_secs_f64())),
            &left.map_or_else(none, |left| format!("{:.1} s", left.as_secs_f64())),
            &adapter.term.map_or_else(none, |term| term.to_string()),
        ]);
        match (adapter.process, adapter.role) {
            (Process::Killed | Process::Gone, _) => self.paint(RED, &line),
            (_, Some(Role::Primary)) => self.paint(GREEN, &line),
            (_, Some(Role::PendingPrimary)) => self.paint(YELLOW, &line),
            _ => line,
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        let is_painted = self.style == Style::Live && self.colours == Colours::On;
        if is_painted { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawn_lines > 0 {
            // A terminal that is gone needs neither its cursor nor a fresh line after the table.
            let _ = self.leave().and_then(|()| self.print(""));
        }
    }
}

fn row(cells: [&str; 8]) -> String {
    let [adapter, process, state, role, health, heartbeat, lease, term] = cells;
    format!("{adapter:7}  {process:>7}  {state:7}  {role:14}  {health:11}  {heartbeat:>9}  {lease:>6}  {term:>4}")
}

fn health_bar(percent: u8) -> String {
    let filled = (usize::from(percent) * BAR_CELLS).div_ceil(100).min(BAR_CELLS);
    format!("{}{} {percent:3}%", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

fn write(text: &str) -> Result<(), DemoError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(DemoError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_bar_is_as_long_as_the_health() {
        assert_eq!(health_bar(100), "██████ 100%");
        assert_eq!(health_bar(40), "███░░░  40%");
        assert_eq!(health_bar(0), "░░░░░░   0%");
    }

    #[test]
    fn a_row_fits_into_eighty_columns() {
        let row = row(["A", "4194304", "running", "PendingPrimary", "██████ 100%", "0.5 s ago", "10.0 s", "1000"]);
        assert!(row.chars().count() <= 80, "{row}");
    }
}
