//! What is printed, and how: tables for people, JSON and YAML for programs. Nothing that a service
//! says can drive the terminal, and a reader that goes away ends the command quietly.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
pub use client_failover_client::shown::printable;
use client_failover_wire::Role;
use serde_json::value::RawValue;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::OperatorError;
use super::document::Document;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// As the service writes it.
    Json,
    /// The same in YAML.
    Yaml,
}

/// The width that lines are made for where the terminal does not say.
const USUAL_WIDTH: usize = 80;

/// What is left of a column at least where a table is cut to fit.
const MIN_WIDTH: usize = 6;

/// Standard output.
pub struct Printer {
    out: io::BufWriter<io::Stdout>,
    /// The width of the terminal, where it is one.
    width: Option<usize>,
    colours: bool,
}

/// How loudly a line is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A heading.
    Heading,
    /// It deserves a look.
    Warning,
    /// Something is wrong.
    Alarm,
}

impl Printer {
    /// Standard output, as a terminal or a pipe.
    pub fn stdout() -> Printer {
        let is_terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Printer {
            out: io::BufWriter::new(io::stdout()),
            width: is_terminal.then(|| width.filter(|width| *width > 0).unwrap_or(USUAL_WIDTH)),
            colours: is_terminal && !set("NO_COLOR") && !is_dumb,
        }
    }

    /// Whether somebody looks at it.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// How wide the terminal is.
    pub fn width(&self) -> usize {
        self.width.unwrap_or(USUAL_WIDTH)
    }

    /// How many lines the terminal has.
    pub fn height(&self) -> usize {
        terminal_size::terminal_size_of(io::stdout()).map_or(24, |(_, height)| usize::from(height.0)).max(4)
    }

    /// Looks again how wide the terminal is.
    pub fn resize(&mut self) {
        if self.width.is_some()
            && let Some((width, _)) = terminal_size::terminal_size_of(io::stdout())
        {
            self.width = Some(usize::from(width.0).max(20));
        }
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), OperatorError> {
        self.out.write_all(text.as_bytes()).map_err(output_error)
    }

    /// Prints a line and lets it be seen.
    pub fn line(&mut self, line: &str) -> Result<(), OperatorError> {
        self.text(line)?;
        self.text("\n")?;
        self.flush()
    }

    /// Lets be seen what was printed.
    pub fn flush(&mut self) -> Result<(), OperatorError> {
        self.out.flush().map_err(output_error)
    }

    /// One document.
    pub fn document(&mut self, format: Format, raw: &RawValue) -> Result<(), OperatorError> {
        let document = Document::read(raw.get())?;
        match format {
            // A table has no single form for any document: whoever has one prints it otherwise.
            Format::Table | Format::Json => self.line(&document.json()),
            Format::Yaml => {
                self.text(&document.yaml()?)?;
                self.flush()
            }
        }
    }

    /// A line in a tone.
    pub fn paint(&self, tone: Tone, line: &str) -> String {
        let code = match tone {
            _ if !self.colours => return line.to_owned(),
            Tone::Plain => return line.to_owned(),
            Tone::Heading => "1",
            Tone::Warning => "33",
            Tone::Alarm => "31",
        };
        format!("\x1b[{code}m{line}\x1b[0m")
    }
}

fn output_error(cause: io::Error) -> OperatorError {
    match cause.kind() {
        io::ErrorKind::BrokenPipe => OperatorError::ClosedPipe,
        _ => OperatorError::Io { what: "the output cannot be written".to_owned(), cause },
    }
}

/// A document of JSON as it is printed, without the line's end.
pub fn text_of(format: Format, json: &str) -> Result<String, OperatorError> {
    let document = Document::read(json)?;
    match format {
        Format::Table | Format::Json => Ok(document.json()),
        Format::Yaml => Ok(document.yaml()?.trim_end().to_owned()),
    }
}

/// Says something beside the output. Whether anybody reads it is not our business.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What stands in a table where there is nothing.
pub const NOTHING: &str = "-";

/// A table that is printed page by page: as wide as the first page needs, wider later if it must.
pub struct Table<const N: usize> {
    header: [&'static str; N],
    /// Columns of numbers.
    right: [bool; N],
    /// The column that is never cut.
    whole: Option<usize>,
    widths: [usize; N],
    begun: bool,
}

impl<const N: usize> Table<N> {
    /// A table with these columns. A header that begins with a space is of a column of numbers.
    pub fn new(header: [&'static str; N]) -> Table<N> {
        let right = header.map(|name| name.starts_with(' '));
        let header = header.map(str::trim_start);
        Table { header, right, widths: header.map(|name| name.width()), whole: None, begun: false }
    }

    /// The same with a column that is never cut.
    pub fn with_whole(self, column: usize) -> Table<N> {
        Table { whole: Some(column), ..self }
    }

    /// The lines of some rows; those of the first ones begin with the header. Cells are made
    /// printable.
    pub fn lines(&mut self, printer: &Printer, rows: &[([String; N], Tone)]) -> Vec<String> {
        let rows: Vec<([String; N], Tone)> =
            rows.iter().map(|(cells, tone)| (cells.each_ref().map(|cell| printable(cell)), *tone)).collect();
        for (cells, _) in &rows {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        let widths = self.fitted(printer.width);
        let mut lines = Vec::new();
        if !self.begun {
            self.begun = true;
            lines.push(printer.paint(Tone::Heading, &self.line(&widths, &self.header.map(str::to_owned))));
        }
        lines.extend(rows.iter().map(|(cells, tone)| printer.paint(*tone, &self.line(&widths, cells))));
        lines
    }

    /// Prints some rows.
    pub fn print(&mut self, printer: &mut Printer, rows: &[([String; N], Tone)]) -> Result<(), OperatorError> {
        for line in self.lines(printer, rows) {
            printer.text(&line)?;
            printer.text("\n")?;
        }
        printer.flush()
    }

    /// The widths of the columns, the widest cut until all fit a terminal. In a pipe nothing is
    /// cut.
    fn fitted(&self, terminal: Option<usize>) -> [usize; N] {
        let mut widths = self.widths;
        let Some(most) = terminal else { return widths };
        let gaps = 2 * (N - 1);
        while widths.iter().sum::<usize>() + gaps > most {
            let cuttable = widths.iter_mut().enumerate().filter(|(place, _)| self.whole != Some(*place));
            let widest = cuttable.map(|(_, width)| width).max();
            let Some(widest) = widest.filter(|width| **width > MIN_WIDTH) else { break };
            *widest -= 1;
        }
        widths
    }

    fn line(&self, widths: &[usize; N], cells: &[String; N]) -> String {
        let mut line = String::new();
        for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let cell = cut(cell, *width);
            let gap = " ".repeat(width.saturating_sub(cell.width()));
            let between = if place == 0 { "" } else { "  " };
            if self.right[place] { line.extend([between, &gap, &cell]) } else { line.extend([between, &cell, &gap]) }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A text in at most so many columns, with a sign where it was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

/// A list of documents that is printed as they come: a JSON array or a YAML sequence, alone or as
/// the last property of an object.
pub struct List {
    format: Format,
    key: Option<&'static str>,
    items: usize,
}

impl List {
    /// Begins a list; `before` are whole numbers of the object that it is a property of.
    pub fn begin(
        printer: &mut Printer,
        format: Format,
        object: Option<(&'static str, &[(&str, i64)])>,
    ) -> Result<List, OperatorError> {
        if let Some((key, before)) = object {
            let mut text = String::new();
            match format {
                Format::Yaml => {
                    before.iter().for_each(|(name, number)| text += &format!("{name}: {number}\n"));
                    text += &format!("{key}:");
                }
                Format::Table | Format::Json => {
                    text += "{\n";
                    before.iter().for_each(|(name, number)| text += &format!("  \"{name}\": {number},\n"));
                    text += &format!("  \"{key}\": ");
                }
            }
            printer.text(&text)?;
        }
        Ok(List { format, key: object.map(|(key, _)| key), items: 0 })
    }

    /// The next of the list.
    pub fn add(&mut self, printer: &mut Printer, raw: &RawValue) -> Result<(), OperatorError> {
        let document = Document::read(raw.get())?;
        match self.format {
            Format::Yaml => {
                if self.items == 0 && self.key.is_some() {
                    printer.text("\n")?;
                }
                printer.text(&Document::Array(vec![document]).yaml()?)?;
            }
            Format::Table | Format::Json => {
                let indent = if self.key.is_some() { "    " } else { "  " };
                let text = document.json();
                let begin = if self.items == 0 { "[\n" } else { ",\n" };
                printer.text(begin)?;
                // Within a string there is no line break.
                let lines: Vec<String> = text.lines().map(|line| format!("{indent}{line}")).collect();
                printer.text(&lines.join("\n"))?;
            }
        }
        self.items += 1;
        Ok(())
    }

    /// The end of the list.
    pub fn end(self, printer: &mut Printer) -> Result<(), OperatorError> {
        let text = match (self.format, self.items, self.key) {
            (Format::Yaml, 0, Some(_)) => " []\n",
            (Format::Yaml, 0, None) => "[]\n",
            (Format::Yaml, ..) => "",
            (_, 0, Some(_)) => "[]\n}\n",
            (_, 0, None) => "[]\n",
            (_, _, Some(_)) => "\n  ]\n}\n",
            (_, _, None) => "\n]\n",
        };
        printer.text(text)?;
        printer.flush()
    }
}

/// How long something took or is left, for people.
pub fn duration(ms: i64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// The same where a part of a second counts.
pub fn exact_duration(ms: i64) -> String {
    match ms {
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1_000.0).replace(".0 s", " s"),
        _ => duration(ms),
    }
}

/// A date-time of the wire as tables have it, in UTC: to the millisecond where that says something.
pub fn instant(wire: &str) -> String {
    let Ok(time) = chrono::DateTime::parse_from_rfc3339(wire) else { return printable(wire) };
    time.to_utc().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// What a number says of a role.
pub fn role(number: i64) -> &'static str {
    Role::from_number(number).map_or("unknown", Role::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(width: Option<usize>) -> Printer {
        Printer { out: io::BufWriter::new(io::stdout()), width, colours: false }
    }

    fn row(cells: [&str; 3]) -> ([String; 3], Tone) {
        (cells.map(str::to_owned), Tone::Alarm)
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_numbers_stand_on_the_right() {
        let mut table = Table::new(["GROUP", " TERM", "RISK"]);
        let lines = table.lines(&printer(None), &[row(["pump", "7", ""]), row(["über", "12", "漢字"])]);
        assert_eq!(lines, ["GROUP  TERM  RISK", "pump      7", "über     12  漢字"]);
        assert_eq!(table.lines(&printer(None), &[row(["longer-one", "1", "x"])]), ["longer-one     1  x"]);
    }

    #[test]
    fn on_a_terminal_the_widest_column_gives_way() {
        let mut table = Table::new(["GROUP", " TERM", "RISK"]);
        let lines = table.lines(&printer(Some(24)), &[row([&"g".repeat(260), "7", "NoPrimary"])]);
        assert!(lines.iter().all(|line| line.width() <= 24), "{lines:?}");
        assert!(
            lines[1].contains('…') && lines[1].ends_with("NoPrima…") | lines[1].ends_with("NoPrimary"),
            "{lines:?}"
        );
    }

    #[test]
    fn nothing_in_a_table_drives_the_terminal() {
        let mut table = Table::new(["GROUP", " TERM", "RISK"]);
        let lines = table.lines(&printer(None), &[row(["\x1b[2J\n\u{9b}", "1", "\u{202e}abc\u{7f}\t"])]);
        assert_eq!(lines[1], "\\u{1b}[2J\\n\\u{9b}     1  \\u{202e}abc\\u{7f}\\t");
    }

    #[test]
    fn durations_are_short() {
        let said = [0, 999, 1_000, 119_999, 120_000, 7_199_999, 7_200_000, 172_800_000].map(duration);
        assert_eq!(said, ["0 ms", "999 ms", "1 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
        let said = [2, 1_000, 1_549, 30_000, 119_999, 120_000].map(exact_duration);
        assert_eq!(said, ["2 ms", "1 s", "1.5 s", "30 s", "120 s", "2 min"]);
    }
}
