//! Bounds for the lines that a client, a stranger or an outage could cause without end.
//!
//! Of each kind of line the first few in a window are written as they are, and at its end one more
//! says how many were left out, over how long, and who caused most of them. So a disk fills no
//! faster for ten thousand clients than for ten. What is left out is written at the level DEBUG,
//! for those who look for it.
//!
//! ```
//! use client_failover::{limited, log_limits::Lines};
//!
//! const REFUSED: Lines = Lines::new("request refused", tracing::Level::INFO);
//!
//! # let (peer, status) = ("192.0.2.7", 401);
//! // Ten in ten seconds from this address, and a hundred from all.
//! limited!(REFUSED, peer, status, "request refused");
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(10);

/// How often it is looked whether a window is over.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// The most causes of a kind that are told apart in a window; those above share what is left.
const MAX_CAUSES: usize = 1_000;

/// A kind of line, and how many of it are written in a window.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// What the line that counts calls it: the text of the lines themselves.
    pub name: &'static str,
    /// At which level they are written.
    pub level: Level,
    of_one: u32,
    of_all: u32,
}

impl Lines {
    /// In a window ten of each cause, and a hundred of all together.
    pub const fn new(name: &'static str, level: Level) -> Lines {
        Lines { name, level, of_one: 10, of_all: 100 }
    }

    /// The same with other numbers.
    pub const fn at_most(self, of_one: u32, of_all: u32) -> Lines {
        Lines { of_one, of_all, ..self }
    }

    /// Whether a line may be written now. `cause` is whose lines are counted together: an address,
    /// a group, or an empty text where there is no such thing. [`limited!`](crate::limited) asks
    /// and writes.
    pub fn admit(&self, cause: &str) -> bool {
        let (admitted, ended) = windows().admit(*self, cause, Instant::now());
        if let Some(ended) = ended {
            ended.write();
        }
        admitted
    }
}

/// Writes a line of a kind where its bounds allow it, else at DEBUG: the kind, the cause, then as
/// for `tracing::event!`.
#[macro_export]
macro_rules! limited {
    ($lines:expr, $cause:expr, $($line:tt)+) => {
        match $lines.admit($cause) {
            true => tracing::event!($lines.level, $($line)+),
            false => tracing::debug!($($line)+),
        }
    };
}

/// Says for ever, at the end of each window, what was left out in it.
pub async fn keep_up() {
    loop {
        tokio::time::sleep(LOOKED_AT_EVERY).await;
        let ended = windows().end(|window| window.began_at.elapsed() >= WINDOW);
        ended.iter().for_each(Omission::write);
    }
}

/// Says what was left out until now; at the end of the process.
pub fn finish() {
    let ended = windows().end(|_| true);
    ended.iter().for_each(Omission::write);
}

/// The windows of the process: there is one log.
fn windows() -> std::sync::MutexGuard<'static, Windows> {
    static WINDOWS: Mutex<Windows> = Mutex::new(Windows { open: BTreeMap::new() });
    // Nothing panics while it holds the lock; a poisoned one is as good as new.
    WINDOWS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Windows {
    open: BTreeMap<&'static str, Window>,
}

struct Window {
    level: Level,
    began_at: Instant,
    written: u32,
    left_out: u64,
    causes: HashMap<Box<str>, Count>,
}

#[derive(Default)]
struct Count {
    written: u32,
    left_out: u64,
}

impl Windows {
    /// Whether a line may be written, and what was left out in a window that is over.
    fn admit(&mut self, lines: Lines, cause: &str, now: Instant) -> (bool, Option<Omission>) {
        let is_over = |window: &Window| now.saturating_duration_since(window.began_at) >= WINDOW;
        let ended = if self.open.get(lines.name).is_some_and(is_over) {
            self.open.remove(lines.name).and_then(|window| window.omission(lines.name, now))
        } else {
            None
        };
        let window = self.open.entry(lines.name).or_insert_with(|| Window {
            level: lines.level,
            began_at: now,
            written: 0,
            left_out: 0,
            causes: HashMap::new(),
        });
        (window.admit(lines, cause), ended)
    }

    /// Ends windows; what was left out in them.
    fn end(&mut self, is_over: impl Fn(&Window) -> bool) -> Vec<Omission> {
        let now = Instant::now();
        let ended: Vec<_> = self.open.extract_if(.., |_, window| is_over(window)).collect();
        ended.into_iter().filter_map(|(name, window)| window.omission(name, now)).collect()
    }
}

impl Window {
    fn admit(&mut self, lines: Lines, cause: &str) -> bool {
        if !self.causes.contains_key(cause) && self.causes.len() < MAX_CAUSES {
            self.causes.insert(cause.into(), Count::default());
        }
        let mut count = self.causes.get_mut(cause);
        let admitted = self.written < lines.of_all && count.as_ref().is_none_or(|count| count.written < lines.of_one);
        if admitted {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        if let Some(count) = &mut count {
            count.written += u32::from(admitted);
            count.left_out += u64::from(!admitted);
        }
        admitted
    }

    fn omission(self, name: &'static str, now: Instant) -> Option<Omission> {
        let lasted = now.saturating_duration_since(self.began_at);
        let most = self.causes.into_iter().max_by_key(|(_, count)| count.left_out);
        let most_of = most.map(|(cause, _)| cause.into_string()).filter(|cause| !cause.is_empty());
        (self.left_out > 0).then_some(Omission { name, level: self.level, count: self.left_out, lasted, most_of })
    }
}

/// What was left out in a window.
#[derive(Debug, PartialEq)]
struct Omission {
    name: &'static str,
    level: Level,
    count: u64,
    lasted: Duration,
    most_of: Option<String>,
}

impl Omission {
    fn write(&self) {
        let Omission { name, count, lasted, most_of, .. } = self;
        let (seconds, most_of) = (lasted.as_secs_f64().ceil(), most_of.as_deref());
        macro_rules! write {
            ($level:expr) => {
                tracing::event!($level, line = name, left_out = count, seconds, most_of, "lines were left out")
            };
        }
        match self.level {
            Level::ERROR => write!(Level::ERROR),
            Level::WARN => write!(Level::WARN),
            Level::INFO => write!(Level::INFO),
            _ => write!(Level::DEBUG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Lines = Lines::new("request failed", Level::WARN).at_most(2, 5);

    #[test]
    fn the_first_of_a_window_are_written_and_the_others_counted() {
        let mut windows = Windows::default();
        let start = Instant::now();
        let mut admitted = 0;
        for n in 0..10_000_u64 {
            let (admits, ended) = windows.admit(LINES, "", start + Duration::from_micros(n));
            admitted += u32::from(admits);
            assert_eq!(ended, None);
        }
        assert_eq!(admitted, 2);
        let (admits, ended) = windows.admit(LINES, "", start + WINDOW);
        assert!(admits, "a new window");
        let count = 9_998;
        let expected = Omission { name: "request failed", level: Level::WARN, count, lasted: WINDOW, most_of: None };
        assert_eq!(ended, Some(expected));
        assert_eq!(windows.end(|_| true), [], "nothing was left out since");
        assert!(windows.open.is_empty());
    }

    #[test]
    fn one_that_is_loud_does_not_silence_the_others_and_many_are_bounded_together() {
        let mut windows = Windows::default();
        let now = Instant::now();
        let mut ask = |cause: &str| windows.admit(LINES, cause, now).0;
        assert_eq!(["a", "a", "a", "b", "a"].map(&mut ask), [true, true, false, true, false]);
        let others = (0..100_000).filter(|n| ask(&n.to_string())).count();
        assert_eq!(others, 2, "five in all");
        assert_eq!(windows.open["request failed"].causes.len(), MAX_CAUSES);
        let ended = windows.end(|_| true);
        assert_eq!((ended.len(), ended[0].count, ended[0].most_of.as_deref()), (1, 100_000, Some("a")));
    }
}
