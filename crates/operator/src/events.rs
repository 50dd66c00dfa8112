//! Events: printed as they are kept, or followed as they happen, whatever connections do meanwhile.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use client_failover_client::{Block, EventStream, Scope, Service, parse};
use serde::Deserialize;

use super::connection::{Connection, Where};
use super::document::Document;
use super::groups::timeout;
use super::history::parse_time;
use super::missing::{self, Existence};
use super::output::{Format, NOTHING, Printer, Tone, complain, instant, printable, role};
use super::{Common, OperatorError, group_id, wish};

/// How long to wait before a connection is made again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a stream begins with where some of what was asked for is gone.
pub const MISSED: &str = "EventsMissed";

/// Which events.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only those of this group
    group: Option<String>,
    /// Stay, and print what happens from now on (with --after or --since also what came before)
    #[arg(short, long)]
    follow: bool,
    /// Only events after the one with this id
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// Not before that: a time in UTC such as 2026-11-23T03:00, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    id: i64,
    time: String,
    // Absent from what concerns all groups.
    tenant_id: Option<String>,
    namespace_id: Option<String>,
    group_id: Option<String>,
    session_id: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
    term: Option<i64>,
    reason: Option<String>,
    name: Option<String>,
    milliseconds: Option<f64>,
    last_id_before: Option<i64>,
    last_sign_at: Option<String>,
    wish: Option<String>,
    when_silent: Option<String>,
    until: Option<String>,
    ended: Option<String>,
}

/// Prints events until there is no more to print.
pub async fn run(args: EventsArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let group = args.group.as_deref().map(group_id).transpose()?;
    let place = match group {
        Some(_) => Where::Namespace(connection.namespace(&args.common.place)?),
        None => connection.find_place(&args.common.place)?,
    };
    let scope = place.scope();
    let path = match &group {
        Some(group) => scope.group(group, &["events"]),
        None => scope.path(&["events"]),
    };
    let service = connection.service()?;
    // Of a name that is that of nothing there will be no events, however long somebody waits.
    let existence = match (&group, scope) {
        (Some(group), _) => missing::existence_of_group(&service, scope, group).await?,
        (None, Scope::Everything) => Existence::There,
        (None, Scope::Tenant(_) | Scope::Namespace(_)) => missing::existence_of_groups(&service, scope).await?,
    };
    match (&existence, &group, scope) {
        (Existence::Never, Some(group), Scope::Namespace(namespace)) => {
            return Err(missing::no_group(&service, namespace, group).await);
        }
        (Existence::Never, ..) => return Err(missing::no_groups(&service, scope).await),
        (Existence::Gone(at), Some(group), _) => complain(&missing::deleted(group, at.as_deref())),
        _ => {}
    }
    // Without an end in sight it is followed; else it ends where the service is now.
    let end = if args.follow { None } else { Some(newest(&service, &path).await?) };
    let begin = args.after.or((!args.follow || args.since.is_some()).then_some(0));
    let sink = Sink {
        printer: Printer::stdout(),
        format: args.common.output,
        with_place: !matches!(scope, Scope::Namespace(_)),
        since: args.since,
        left: args.count,
        begun: false,
    };
    let mut reading = Reading { service: &service, path, at: begin, end, warns: args.after.is_some(), sink };
    reading.run().await?;
    if !reading.sink.begun {
        complain("no events");
    }
    Ok(ExitCode::SUCCESS)
}

/// The id up to which everything has happened.
async fn newest(service: &Service, path: &[&str]) -> Result<i64, OperatorError> {
    let mut stream = EventStream::open(service, path, None).await?;
    let block = stream.next(service).await?;
    block.and_then(|block| block.id).ok_or_else(|| OperatorError::unintelligible("the stream has no position"))
}

/// Whether to read on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Done,
}

/// One reading of a stream, over as many connections as it takes.
struct Reading<'s> {
    service: &'s Service,
    path: Vec<&'s str>,
    /// The last id that was had: what a new connection goes on from, and what is not printed twice.
    at: Option<i64>,
    /// The id to end at.
    end: Option<i64>,
    /// Whether it matters that older events are gone.
    warns: bool,
    sink: Sink,
}

impl Reading<'_> {
    async fn run(&mut self) -> Result<(), OperatorError> {
        // Whether it can be reached at all is said at once.
        let mut stream = EventStream::open(self.service, &self.path, self.at).await?;
        loop {
            let broke = match stream.next(self.service).await.map_err(OperatorError::from) {
                Ok(Some(block)) => match self.take(block)? {
                    Next::More => continue,
                    Next::Done => return Ok(()),
                },
                Ok(None) => "it ended".to_owned(),
                Err(error) if error.is_passing() => error.to_string(),
                Err(error) => return Err(error),
            };
            complain(&format!("the stream broke ({broke}); it is resumed as soon as the service answers"));
            stream = self.resume().await?;
            complain("the stream goes on");
        }
    }

    async fn resume(&self) -> Result<EventStream, OperatorError> {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            match EventStream::open(self.service, &self.path, self.at).await {
                Err(error) if error.is_passing() => pause = (pause * 2).min(MAX_PAUSE),
                opened => return Ok(opened?),
            }
        }
    }

    fn take(&mut self, block: Block) -> Result<Next, OperatorError> {
        let had = self.at;
        if let Some(id) = block.id {
            self.at = Some(id);
        }
        let is_past_end = |id| self.end.is_some_and(|end| id > end);
        let next = match (block.name.as_str(), block.id) {
            (MISSED, _) => {
                if self.warns {
                    complain("warning: some events in between are no longer kept");
                    self.sink.missed()?;
                }
                // From here on it matters: it would be a gap.
                Next::More
            }
            (_, Some(id)) if !block.data.is_empty() && had.is_none_or(|had| id > had) && !is_past_end(id) => {
                self.sink.event(&block.name, &block.data)?
            }
            _ => Next::More,
        };
        self.warns |= !block.data.is_empty();
        let is_over = self.end.is_some_and(|end| self.at.is_some_and(|at| at >= end));
        Ok(if is_over { Next::Done } else { next })
    }
}

/// Where events are printed.
struct Sink {
    printer: Printer,
    format: Format,
    with_place: bool,
    since: Option<DateTime<Utc>>,
    left: Option<u64>,
    begun: bool,
}

impl Sink {
    fn event(&mut self, name: &str, data: &str) -> Result<Next, OperatorError> {
        let event: Event = parse(data)?;
        let time = DateTime::parse_from_rfc3339(&event.time);
        if self.since.is_some_and(|since| time.is_ok_and(|time| time.to_utc() < since)) {
            return Ok(Next::More);
        }
        match self.format {
            Format::Table => self.row(name, &event)?,
            Format::Json | Format::Yaml => self.document(name, Document::read(data)?)?,
        }
        self.begun = true;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(if self.left == Some(0) { Next::Done } else { Next::More })
    }

    fn missed(&mut self) -> Result<(), OperatorError> {
        match self.format {
            Format::Table => Ok(()),
            Format::Json | Format::Yaml => self.document(MISSED, Document::Object(Vec::new())),
        }
    }

    /// One event with its kind: on a line of its own, or as a YAML document.
    fn document(&mut self, name: &str, body: Document) -> Result<(), OperatorError> {
        let mut properties = vec![("Event".to_owned(), Document::Text(name.to_owned()))];
        if let Document::Object(body) = body {
            properties.extend(body);
        }
        let document = Document::Object(properties);
        match self.format {
            Format::Yaml => {
                self.printer.text("---\n")?;
                self.printer.text(&document.yaml()?)?;
                self.printer.flush()
            }
            Format::Table | Format::Json => self.printer.line(&document.json_line()),
        }
    }

    fn row(&mut self, name: &str, event: &Event) -> Result<(), OperatorError> {
        if !self.begun {
            let header = format!("{:<23}  {:<17}  {:<20}  {}", "TIME (UTC)", "EVENT", "GROUP", "WHAT");
            let header = self.printer.paint(Tone::Heading, &header);
            self.printer.line(&header)?;
        }
        let group = match (&event.group_id, &event.tenant_id, &event.namespace_id) {
            (Some(group), Some(tenant), Some(namespace)) if self.with_place => format!("{tenant}/{namespace}/{group}"),
            (Some(group), ..) => group.clone(),
            (None, ..) => NOTHING.to_owned(),
        };
        let (time, group) = (instant(&event.time), printable(&group));
        let name = printable(name);
        let line = format!("{time:<23}  {name:<17}  {group:<20}  {}", printable(&event.what()));
        self.printer.line(line.trim_end())
    }
}

impl Event {
    fn what(&self) -> String {
        let mut parts: Vec<String> = self.session_id.iter().cloned().collect();
        if let (Some(from), Some(to)) = (self.from, self.to) {
            parts.push(format!("{} → {}", role(from), role(to)));
        }
        let mut details: Vec<String> = self.reason.iter().cloned().collect();
        details.extend(self.term.map(|term| format!("term {term}")));
        details.extend(self.name.as_ref().map(|name| format!("name {name}")));
        details.extend(self.wish.as_ref().map(|wish| wish::words(wish, self.when_silent.as_deref())));
        details.extend(match (&self.ended, &self.until) {
            (Some(ended), _) => Some(ended.clone()),
            (None, Some(until)) => Some(format!("until {}", instant(until))),
            (None, None) => None,
        });
        details.extend(self.milliseconds.map(|ms| format!("timeout {}", timeout(ms))));
        details.extend(self.last_sign_at.as_ref().map(|at| format!("what came after {} may be lost", instant(at))));
        details.extend(self.last_id_before.map(|id| format!("no event from {} to {}", id + 1, self.id - 1)));
        if !details.is_empty() {
            parts.push(format!("({})", details.join(", ")));
        }
        parts.join(" ")
    }
}
