//! The changes of a group's roles.

use std::process::ExitCode;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use clap::Args;
use client_failover_client::{Scope, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::Connection;
use super::histories::History;
use super::missing::{self, Existence};
use super::output::{Format, List, NOTHING, Printer, Table, Tone, complain, instant, role};
use super::{Common, OperatorError, group_id};

/// How many changes are asked for at once: the most that the service gives.
const PAGE: usize = 1_000;

/// Which changes.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The group; one that was deleted has its history too
    group: String,
    /// Not before that: a time in UTC such as 2026-11-23T03:00 or 2026-11-23, or how long ago, such
    /// as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Before that
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value = "100")]
    count: usize,
    /// Show all
    #[arg(long, conflicts_with = "count")]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    id: i64,
    time: String,
    session_id: String,
    from: i64,
    to: i64,
    term: i64,
    reason: String,
    actor: String,
}

/// Reads a time in UTC, or how long ago it was.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    let with_offset =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z"));
    if let Ok(time) = with_offset {
        return Ok(time.to_utc());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(time.and_utc());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| chrono::Duration::from_std(ago).ok());
    #[expect(clippy::disallowed_methods, reason = "how long ago somebody means is told by their clock")]
    let now = Utc::now();
    ago.and_then(|ago| now.checked_sub_signed(ago))
        .ok_or_else(|| "it is neither a time such as 2026-11-23T03:00 nor a duration such as 2h".to_owned())
}

/// A time as the service reads it.
pub fn wire_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Shows the changes, the latest first.
pub async fn run(args: HistoryArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let group = group_id(&args.group)?;
    let service = connection.service()?;
    let scope = Scope::Namespace(&namespace);
    // First: a group whose last change is no longer kept is answered as one that never was.
    let existence = missing::existence_of_group(&service, scope, &group).await?;
    if existence == Existence::Never {
        return Err(missing::no_group(&service, &namespace, &group).await);
    }
    let path = scope.group(&group, &["transitions"]);
    let format = args.common.output;
    let mut printer = Printer::stdout();
    let mut table = Table::new(["TIME (UTC)", "SESSION", "CHANGE", " TERM", "REASON"]).with_whole(0);
    // Those that come between the changes, the latest last, to be taken from there.
    let mut histories = History::list_fenced(&service, scope).await?;
    histories.retain(|history| is_within(&history.time, args.since, args.until));
    histories.reverse();
    if format != Format::Table
        && let Some(latest) = histories.last()
    {
        complain(&latest.said());
    }
    let mut list = None;
    let mut left = if args.all { usize::MAX } else { args.count };
    let (mut asked, mut lowest) = (0, i64::MAX);
    loop {
        let count = left.min(PAGE);
        let mut query = vec![("skip", asked.to_string()), ("count", count.to_string())];
        query.extend(args.since.map(|time| ("since", wire_time(time))));
        query.extend(args.until.map(|time| ("until", wire_time(time))));
        let page: Vec<Box<RawValue>> = service.read(&path, &query).await?;
        if list.is_none() && format != Format::Table {
            list = Some(List::begin(&mut printer, format, None)?);
        }
        let mut rows = Vec::new();
        for raw in &page {
            let change: Change = parse(raw.get())?;
            // New changes push the others on: those that were shown come again.
            if change.id >= lowest {
                continue;
            }
            (lowest, left) = (change.id, left.saturating_sub(1));
            match &mut list {
                Some(list) => list.add(&mut printer, raw)?,
                None => {
                    while let Some(history) = histories.pop_if(|history| history.base > change.id) {
                        rows.push(row_of(&history));
                    }
                    rows.push(change.row());
                }
            }
        }
        asked += page.len();
        if !rows.is_empty() {
            table.print(&mut printer, &rows)?;
        }
        if page.len() < count || left == 0 {
            break;
        }
    }
    match list {
        Some(list) => list.end(&mut printer)?,
        None if lowest == i64::MAX => complain("no changes"),
        None => {}
    }
    if let Existence::Gone(at) = existence {
        complain(&missing::deleted(&group, at.as_deref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a time of the wire is among those that were asked for.
fn is_within(time: &str, since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> bool {
    DateTime::parse_from_rfc3339(time).is_ok_and(|time| {
        let time = time.to_utc();
        since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
    })
}

/// What stands between the changes of one history and those of the next.
fn row_of(history: &History) -> ([String; 5], Tone) {
    let lost = history
        .last_sign_at
        .as_deref()
        .map_or_else(String::new, |at| format!(", what came after {} may be lost", instant(at)));
    let reason = format!("{}{lost}", history.reason);
    let cells =
        [instant(&history.time), NOTHING.to_owned(), "new database history".to_owned(), NOTHING.to_owned(), reason];
    (cells, Tone::Warning)
}

impl Change {
    fn row(self) -> ([String; 5], Tone) {
        let change = format!("{} → {}", role(self.from), role(self.to));
        // Nearly all changes come with a heartbeat.
        let by = if self.actor == "heartbeat" { String::new() } else { format!(", by {}", self.actor) };
        let cells = [instant(&self.time), self.session_id, change, self.term.to_string(), self.reason + &by];
        (cells, Tone::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_in_several_ways() {
        for text in [
            "2026-11-23T03:00:00Z",
            "2026-11-23T04:00:00+01:00",
            "2026-11-23T04:00+01:00",
            "2026-11-23T03:00Z",
            "2026-11-23T03:00",
            "2026-11-23 03:00:00.0",
        ] {
            assert_eq!(parse_time(text).map(wire_time), Ok("2026-11-23T03:00:00.000000Z".to_owned()), "{text}");
        }
        assert_eq!(parse_time("2026-11-23").map(wire_time), Ok("2026-11-23T00:00:00.000000Z".to_owned()));
        let earlier = parse_time("2h").expect("it is one");
        assert_eq!((parse_time("1h").expect("it is one") - earlier).num_minutes(), 60);
        for text in ["", "yesterday", "03:12", "99999999999999y", "2026-13-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
