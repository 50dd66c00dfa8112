//! Who did what: the audit trail, as the service keeps it.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use client_failover_client::{Scope, Service, parse};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, ConnectionArgs};
use super::document::Document;
use super::history::{parse_time, wire_time};
use super::output::{Format, List, Printer, Table, Tone, complain, instant, printable};
use super::{OperatorError, whatever_is_read};

/// How many entries are asked for at once: the most that the service gives.
const PAGE: usize = 1_000;

/// How often is looked for what is new.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// An entry is seen when its transaction commits, which can be after one with a higher number. For
/// so long is looked again at those that came before.
const LATE_BY_AT_MOST: Duration = Duration::from_secs(15);

/// Which entries. It takes an admin of the tenant, or of all.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only those of this tenant [default: all]
    #[arg(long, env = "CLIENT_FAILOVER_TENANT", value_name = "TENANT")]
    tenant: Option<String>,
    /// Not before that: a time in UTC such as 2026-11-23T03:00 or 2026-11-23, or how long ago, such
    /// as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Before that
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "follow")]
    until: Option<DateTime<Utc>>,
    /// Only these actions, such as group_changed, separated by commas
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
    action: Vec<String>,
    /// Only those with this in their identity
    #[arg(long, value_name = "TEXT")]
    who: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value = "100")]
    count: usize,
    /// Show all
    #[arg(long, conflicts_with = "count")]
    all: bool,
    /// Stay, and print what is done from now on (with --since also what was done before)
    #[arg(short, long, conflicts_with_all = ["count", "all"])]
    follow: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    entries: Vec<Box<RawValue>>,
    next: Option<i64>,
    more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    audit_id: i64,
    recorded_at: String,
    action: String,
    tenant_id: String,
    namespace_id: Option<String>,
    group_id: Option<String>,
    session_id: Option<String>,
    identity: String,
    before: Option<BTreeMap<String, Value>>,
    after: Option<BTreeMap<String, Value>>,
}

impl Entry {
    fn place(&self) -> String {
        let below = [&self.namespace_id, &self.group_id, &self.session_id];
        let names: Vec<&str> =
            [self.tenant_id.as_str()].into_iter().chain(below.into_iter().flatten().map(String::as_str)).collect();
        names.join("/")
    }

    /// What differs between before and after.
    fn what(&self) -> String {
        let none = BTreeMap::new();
        let (before, after) = (self.before.as_ref().unwrap_or(&none), self.after.as_ref().unwrap_or(&none));
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let text = |value: Option<&Value>| match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let told = names.into_iter().filter_map(|name| match (text(before.get(name)), text(after.get(name))) {
            (None, None) => None,
            (before, after) if before == after => None,
            (Some(before), Some(after)) => Some(format!("{name}: {before} → {after}")),
            (Some(before), None) if self.after.is_some() => Some(format!("{name}: {before} → nothing")),
            (Some(one), None) | (None, Some(one)) => Some(format!("{name}: {one}")),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    fn row(&self) -> ([String; 5], Tone) {
        let cells = [instant(&self.recorded_at), self.identity.clone(), self.action.clone(), self.place(), self.what()];
        (cells, Tone::Plain)
    }
}

/// Prints entries, the latest first; or those that come, as they do.
pub async fn run(args: AuditArgs) -> Result<ExitCode, OperatorError> {
    whatever_is_read(tell(&args).await)
}

async fn tell(args: &AuditArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.connection)?;
    let tenant = connection.find_tenant(args.tenant.as_ref())?;
    let scope = tenant.as_ref().map_or(Scope::Everything, Scope::Tenant);
    let service = connection.service()?;
    let search = Search { args, service: &service, path: scope.path(&["audit"]) };
    if args.follow { search.follow().await } else { search.list().await }
}

/// What is asked for.
struct Search<'a> {
    args: &'a AuditArgs,
    service: &'a Service,
    path: Vec<&'a str>,
}

impl Search<'_> {
    async fn page(&self, from: Option<(&'static str, i64)>, count: usize) -> Result<Page, OperatorError> {
        let mut query = vec![("count", count.min(PAGE).to_string())];
        query.extend(from.map(|(way, id)| (way, id.to_string())));
        query.extend(self.args.since.map(|time| ("since", wire_time(time))));
        query.extend(self.args.until.map(|time| ("until", wire_time(time))));
        query.extend(self.args.who.clone().map(|who| ("who", who)));
        query.extend((!self.args.action.is_empty()).then(|| ("action", self.args.action.join(","))));
        Ok(self.service.read(&self.path, &query).await?)
    }

    async fn list(&self) -> Result<ExitCode, OperatorError> {
        let format = self.args.output;
        let mut printer = Printer::stdout();
        let mut table = Table::new(["TIME (UTC)", "WHO", "ACTION", "WHERE", "WHAT"]).with_whole(0);
        let mut left = if self.args.all { usize::MAX } else { self.args.count };
        // Whatever is wrong with what is asked for is said before anything is printed.
        let mut page = self.page(None, left.max(1)).await?;
        let mut list = match format {
            Format::Table => None,
            Format::Json | Format::Yaml => Some(List::begin(&mut printer, format, None)?),
        };
        let mut is_empty = true;
        loop {
            page.entries.truncate(left);
            left -= page.entries.len();
            is_empty &= page.entries.is_empty();
            match &mut list {
                Some(list) => page.entries.iter().try_for_each(|raw| list.add(&mut printer, raw))?,
                None if page.entries.is_empty() => {}
                None => {
                    let rows = page.entries.iter().map(|raw| Ok(parse::<Entry>(raw.get())?.row()));
                    table.print(&mut printer, &rows.collect::<Result<Vec<_>, OperatorError>>()?)?;
                }
            }
            match page.next {
                Some(next) if page.more && left > 0 => page = self.page(Some(("before", next)), left).await?,
                _ => break,
            }
        }
        if let Some(list) = list {
            list.end(&mut printer)?;
        }
        if is_empty {
            complain("no entries");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn follow(&self) -> Result<ExitCode, OperatorError> {
        let mut sink = Sink { printer: Printer::stdout(), format: self.args.output, begun: false };
        let mut reading = Reading::default();
        if self.args.since.is_none() {
            // What is there already is not news.
            let latest: Page = self.service.read(&self.path, &[("count", "1".to_owned())]).await?;
            let entry = latest.entries.first().map(|raw| parse::<Entry>(raw.get())).transpose()?;
            // Where none is found among the last ones, there is none behind the last look.
            reading.begin_after(entry.map(|entry| entry.audit_id).or(latest.next).unwrap_or(0));
        }
        let mut is_away = false;
        loop {
            match self.page(Some(("after", reading.begin(Instant::now()))), PAGE).await {
                Ok(page) => {
                    if std::mem::take(&mut is_away) {
                        complain("the service answers again");
                    }
                    for raw in &page.entries {
                        if reading.is_new(parse::<Entry>(raw.get())?.audit_id) {
                            sink.entry(raw)?;
                        }
                    }
                    reading.reached(page.next, Instant::now());
                    if page.more {
                        reading.go_on(page.next);
                        continue;
                    }
                }
                Err(error) if error.is_passing() && reading.has_begun() => {
                    if !std::mem::replace(&mut is_away, true) {
                        complain(&format!("the service does not answer ({error}); it is asked again"));
                    }
                }
                Err(error) => return Err(error),
            }
            sleep(LOOKED_AT_EVERY).await;
        }
    }
}

/// How far the trail was read. What commits late is looked for behind that.
#[derive(Default)]
struct Reading {
    /// Up to where, and when that was; the latest last.
    reached: Vec<(i64, Instant)>,
    /// Before this nothing comes any more, or nothing that is wanted.
    settled: i64,
    /// What was printed beyond that.
    seen: HashSet<i64>,
    /// Where the next page begins, within one look.
    next: Option<i64>,
}

impl Reading {
    fn begin_after(&mut self, id: i64) {
        self.settled = id;
    }

    fn has_begun(&self) -> bool {
        !self.reached.is_empty()
    }

    /// After which entry to ask.
    fn begin(&mut self, now: Instant) -> i64 {
        if let Some(next) = self.next.take() {
            return next;
        }
        let is_settled = |at: &Instant| now.duration_since(*at) >= LATE_BY_AT_MOST;
        let settled = self.reached.iter().take_while(|(_, at)| is_settled(at)).count();
        if let Some((id, _)) = self.reached.drain(..settled).next_back() {
            self.settled = self.settled.max(id);
        }
        let settled = self.settled;
        self.seen.retain(|id| *id > settled);
        self.settled
    }

    fn is_new(&mut self, id: i64) -> bool {
        self.seen.insert(id)
    }

    fn reached(&mut self, next: Option<i64>, now: Instant) {
        let reached = next.unwrap_or(self.settled);
        match self.reached.last() {
            Some((latest, _)) if *latest >= reached => {}
            _ => self.reached.push((reached, now)),
        }
    }

    /// The same look goes on where it is now.
    fn go_on(&mut self, next: Option<i64>) {
        self.next = next;
    }
}

/// Where entries are printed as they come.
struct Sink {
    printer: Printer,
    format: Format,
    begun: bool,
}

impl Sink {
    fn entry(&mut self, raw: &RawValue) -> Result<(), OperatorError> {
        match self.format {
            Format::Json => self.printer.line(&Document::read(raw.get())?.json_line()),
            Format::Yaml => {
                self.printer.text("---\n")?;
                self.printer.document(Format::Yaml, raw)
            }
            Format::Table => {
                if !std::mem::replace(&mut self.begun, true) {
                    let header = format!("{:<23}  {:<20}  {:<22}  WHERE", "TIME (UTC)", "WHO", "ACTION");
                    let header = self.printer.paint(Tone::Heading, &header);
                    self.printer.line(&header)?;
                }
                let entry: Entry = parse(raw.get())?;
                let what = entry.what();
                let what = if what.is_empty() { what } else { format!("  ({what})") };
                let (time, who) = (instant(&entry.recorded_at), printable(&entry.identity));
                let (action, place) = (printable(&entry.action), printable(&entry.place()));
                self.printer.line(&format!("{time:<23}  {who:<20}  {action:<22}  {place}{}", printable(&what)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(before: Value, after: Value) -> Entry {
        let entry = json!({
            "AuditId": 1, "RecordedAt": "2026-11-23T03:12:04.251Z", "Action": "group_changed", "TenantId": "t",
            "NamespaceId": "n", "GroupId": "g", "SessionId": null, "Identity": "basic:me", "Before": before, "After": after,
        });
        serde_json::from_value(entry).expect("it is one")
    }

    #[test]
    fn an_entry_is_told_by_what_differs() {
        let before = json!({"Name": "N", "Milliseconds": 60_000.0, "Description": null});
        let after = json!({"Name": "N", "Milliseconds": 30_000.0, "Description": "D"});
        assert_eq!(entry(before.clone(), after).what(), "Description: D, Milliseconds: 60000.0 → 30000.0");
        assert_eq!(
            entry(before.clone(), json!({"Name": null})).what(),
            "Milliseconds: 60000.0 → nothing, Name: N → nothing"
        );
        assert_eq!(entry(before, Value::Null).what(), "Milliseconds: 60000.0, Name: N");
        assert_eq!(entry(Value::Null, Value::Null).place(), "t/n/g");
    }

    #[test]
    fn what_commits_late_is_found_and_nothing_is_told_twice() {
        let begin = Instant::now();
        let after = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut reading = Reading::default();
        reading.begin_after(10);
        assert_eq!(reading.begin(after(0)), 10);
        assert!(reading.is_new(12) && reading.is_new(13));
        reading.reached(Some(13), after(0));
        // 11 comes late.
        assert_eq!(reading.begin(after(1)), 10);
        assert!(reading.is_new(11) && !reading.is_new(12) && !reading.is_new(13));
        reading.reached(Some(13), after(1));
        // A long look goes on where it is.
        assert!(reading.is_new(20));
        reading.reached(Some(20), after(2));
        reading.go_on(Some(20));
        assert_eq!(reading.begin(after(2)), 20);
        // Later nothing can come before that.
        assert_eq!(reading.begin(after(15)), 13);
        assert_eq!(reading.begin(after(17)), 20);
        assert!(reading.seen.is_empty());
    }
}
