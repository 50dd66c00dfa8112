//! How the record is shown at the end: bars, a table, the takeovers, and the verdict.

use comfy_table::{Cell, CellAlignment, Table, presets};

use client_failover_client::MachineTime;

use super::in_seconds;
use super::record::{Ending, Record, Span, TOLERANCE, Takeover};

const COLUMNS: usize = 66;
const ACTS: char = '█';
const PENDING: char = '▒';
const STANDS_BY: char = '·';
const KILLED: char = '✗';
const NOT_RUNNING: char = ' ';

/// The whole end of the demo as text.
pub fn render(record: &Record) -> String {
    [bars(record), table(record), takeovers(record), verdict(record)].join("\n")
}

/// One line for each adapter over a common axis.
///
/// A column shows what was so in its middle: where a column of two adapters is filled, they
/// overlapped.
pub fn bars(record: &Record) -> String {
    let width = record.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("Who acted when\n\n{}", axis(record, width));
    for (adapter, name) in record.names.iter().enumerate() {
        let mut line: Vec<char> = (0..COLUMNS).map(|column| state(record, adapter, middle(record, column))).collect();
        for (_, at) in record.kills.iter().filter(|(killed, _)| *killed == adapter) {
            line[column_of(record, *at)] = KILLED;
        }
        let line: String = line.into_iter().collect();
        text += format!("{name:width$}  {}", line.trim_end()).trim_end();
        text.push('\n');
    }
    text + &format!(
        "\n{:width$}  {ACTS} acts as Primary   {PENDING} PendingPrimary   {STANDS_BY} stands by   {KILLED} killed\n",
        ""
    )
}

fn axis(record: &Record, width: usize) -> String {
    let total_s = total_us(record) as f64 / 1e6;
    let steps = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
    let step = steps.into_iter().find(|step| total_s / step <= 8.0).unwrap_or(600.0);
    let mut labels = vec![' '; COLUMNS + 8];
    let mut ticks = vec!['─'; COLUMNS];
    for i in 0.. {
        let at_s = f64::from(i) * step;
        if at_s >= total_s {
            break;
        }
        let column = ((at_s / total_s * COLUMNS as f64) as usize).min(COLUMNS - 1);
        ticks[column] = '┬';
        for (place, c) in labels[column..].iter_mut().zip(format!("{at_s} s").chars()) {
            *place = c;
        }
    }
    let labels: String = labels.into_iter().collect();
    let ticks: String = ticks.into_iter().collect();
    format!("{:width$}  {}\n{:width$}  {ticks}\n", "", labels.trim_end(), "")
}

fn total_us(record: &Record) -> i64 {
    (record.end.0 - record.start.0).max(1)
}

fn middle(record: &Record, column: usize) -> MachineTime {
    let part = (2 * column as i64 + 1) * total_us(record) / (2 * COLUMNS as i64);
    MachineTime(record.start.0 + part)
}

fn column_of(record: &Record, at: MachineTime) -> usize {
    let part = (at.0 - record.start.0).max(0) * COLUMNS as i64 / total_us(record);
    usize::try_from(part).unwrap_or(0).min(COLUMNS - 1)
}

fn state(record: &Record, adapter: usize, at: MachineTime) -> char {
    let within = |span: &Span| span.adapter == adapter && span.from <= at && at < span.until;
    if record.stints.iter().any(|stint| stint.adapter == adapter && stint.from <= at && at < stint.until) {
        ACTS
    } else if record.pending.iter().any(within) {
        PENDING
    } else if record.running.iter().any(within) {
        STANDS_BY
    } else {
        NOT_RUNNING
    }
}

fn table(record: &Record) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["Adapter", "Acted from", "Until", "For", "Term", "Ended because"]);
    for (i, stint) in record.stints.iter().enumerate() {
        let next = record.stints.get(i + 1).map(|next| record.names[next.adapter].as_str());
        let why = match stint.ending {
            Ending::Killed => "its process was killed".to_owned(),
            Ending::HandedOver => format!("it handed over to {}", next.unwrap_or("another")),
            Ending::LeaseRanOut => "its lease ran out".to_owned(),
            Ending::Other => "the service told it so".to_owned(),
            Ending::DemoEnded => "the demo was over".to_owned(),
        };
        table.add_row([
            Cell::new(&record.names[stint.adapter]),
            number(in_seconds(stint.from.since(record.start))),
            number(in_seconds(stint.until.since(record.start))),
            number(in_seconds(stint.until.since(stint.from))),
            number(stint.term.map_or("?".to_owned(), |term| term.to_string())),
            Cell::new(why),
        ]);
    }
    format!("{table}\n")
}

fn takeovers(record: &Record) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let header = ["Takeover", "Because", "Took", "Nobody\nacted for", "After the\nlease", "After last\nheartbeat"];
    table.set_header(header);
    for takeover in record.takeovers() {
        let Takeover { before, after } = takeover;
        let (old, new) = (&record.names[before.adapter], &record.names[after.adapter]);
        let is_its_drop = |(adapter, at): &&(usize, MachineTime)| *adapter == before.adapter && *at <= after.from;
        let (because, since) = match (before.ending, record.health_drops.iter().rfind(is_its_drop)) {
            (Ending::Killed, _) => (format!("{old} was killed"), before.until),
            (Ending::HandedOver, Some((_, at))) => (format!("{old}'s health fell"), *at),
            _ => (format!("{old} stopped"), before.until),
        };
        // A handover waits for the one before to say that it stopped, not for its lease.
        let after_lease = match before.ending {
            Ending::HandedOver => "-".to_owned(),
            _ => in_seconds(takeover.since_lapse()),
        };
        table.add_row([
            Cell::new(format!("{old} → {new}")),
            Cell::new(because),
            number(in_seconds(after.from.since(since))),
            number(in_seconds(takeover.gap())),
            number(after_lease),
            number(in_seconds(takeover.since_last_heartbeat())),
        ]);
    }
    format!("{table}\n")
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn verdict(record: &Record) -> String {
    let breaches = record.breaches();
    let overlaps = record.overlaps().len();
    let terms: Vec<String> =
        record.stints.iter().map(|stint| stint.term.map_or("?".to_owned(), |term| term.to_string())).collect();
    let promised = in_seconds(record.promised());
    let tolerance = in_seconds(TOLERANCE);
    let mut text = format!(
        "The promise\n  \
         Never do two act at the same instant: {overlaps} overlaps.\n  \
         Another acts within 1.5 timeouts of the last heartbeat: {promised} + {tolerance} *.\n  \
         Each grant has the next term: {}.\n  \
         * a tolerance for processes that are not scheduled at once\n",
        terms.join(", "),
    );
    text += if breaches.is_empty() { "The promise held.\n" } else { "The promise did NOT hold:\n" };
    for breach in breaches {
        text += &format!("  {breach}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, stint};
    use super::*;

    fn at(ms: i64) -> MachineTime {
        MachineTime(ms * 1_000)
    }

    fn shown() -> Record {
        let mut record = record(vec![stint(0, 0, 3_000, 1), stint(1, 5_000, 10_000, 2)]);
        record.kills.push((0, at(3_000)));
        record.running = vec![
            Span { adapter: 0, from: at(0), until: at(3_000) },
            Span { adapter: 1, from: at(0), until: at(10_000) },
            Span { adapter: 2, from: at(0), until: at(10_000) },
        ];
        record.pending.push(Span { adapter: 1, from: at(4_000), until: at(5_000) });
        record
    }

    fn line_of(text: &str, name: &str) -> String {
        text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    }

    #[test]
    fn bars_show_who_acted_who_waited_and_who_was_killed() {
        let text = bars(&shown());
        let a = line_of(&text, "A ");
        assert!(a.ends_with(KILLED), "{text}");
        assert_eq!(a.matches(ACTS).count(), 19, "{text}");
        let b = line_of(&text, "B ");
        assert_eq!(b.matches(ACTS).count(), 33, "{text}");
        assert_eq!(b.matches(PENDING).count(), 7, "{text}");
        assert_eq!(line_of(&text, "C ").matches(STANDS_BY).count(), COLUMNS, "{text}");
    }

    #[test]
    fn no_column_is_filled_for_two_adapters_unless_they_overlap() {
        let text = bars(&record(vec![stint(0, 0, 3_033, 1), stint(1, 3_033, 10_000, 2)]));
        let (a, b) = (line_of(&text, "A "), line_of(&text, "B "));
        let both = a.chars().zip(b.chars()).filter(|pair| *pair == (ACTS, ACTS)).count();
        assert_eq!(both, 0, "{text}");
    }

    #[test]
    fn all_bars_lie_under_the_same_axis() {
        let text = bars(&shown());
        let axis = text.lines().find(|line| line.contains('┬')).unwrap_or_default();
        assert_eq!(axis.chars().count(), line_of(&text, "C ").chars().count(), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_small_terminal() {
        let text = render(&shown());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn the_verdict_gives_the_reason_of_a_broken_promise() {
        let text = render(&record(vec![stint(0, 0, 3_000, 1), stint(1, 2_000, 5_000, 2)]));
        assert!(text.contains("The promise did NOT hold:\n  A and B acted as Primary at the same time"), "{text}");
    }

    #[test]
    fn the_verdict_says_that_the_promise_held() {
        assert!(render(&shown()).ends_with("The promise held.\n"));
    }
}
