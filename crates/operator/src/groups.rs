//! Groups: listed, shown, deleted.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use client_failover_client::{ClientError, Scope, Service, parse};
use client_failover_wire::ids::{GroupId, NamespacePath};
use client_failover_wire::timeout::TICKS_PER_MS;
use client_failover_wire::timespan;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::confirmation::ConfirmArgs;
use super::connection::{Connection, ConnectionArgs, PlaceArgs};
use super::output::{Format, List, NOTHING, Printer, Table, Tone, complain, duration, instant, printable};
use super::sessions::{self, SessionStatus};
use super::status::GroupStatus;
use super::{Common, OperatorError, foresight, group_id, missing};

/// How many rows are laid out at once.
const PAGE: usize = 200;

/// The longest group in a list, in bytes.
const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Which groups.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Leave out so many of the first ones
    #[arg(long, value_name = "N")]
    skip: Option<u64>,
    /// List so many at most [default: all]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Which group.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The group
    group: String,
    #[command(flatten)]
    common: Common,
}

/// Which group, and how.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The group
    group: String,
    /// Also while its sessions are live: its clients get errors from then on, and a group created
    /// in its place has no Primary before the lease of the present one has run out
    #[arg(long)]
    force: bool,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    id: String,
    name: Option<String>,
    description: Option<String>,
    failover_timeout: String,
    /// Not told where the released form of the API is set, nor are its clients.
    sessions: Option<BTreeMap<String, IgnoredAny>>,
    clients: Option<BTreeMap<String, Client>>,
}

impl Group {
    fn timeout(&self) -> String {
        match timespan::parse(&self.failover_timeout) {
            Some(ticks) => timeout(ticks as f64 / TICKS_PER_MS as f64),
            None => self.failover_timeout.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Client {
    role: i64,
}

/// Lists the groups of a namespace. They are read as they come: memory does not grow with their
/// number.
pub async fn list(args: ListArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let service = connection.service()?;
    let number = |name, number: Option<u64>| number.map(|number| (name, number.to_string()));
    let query: Vec<_> = [number("skip", args.skip), number("count", args.count)].into_iter().flatten().collect();
    let path = Scope::Namespace(&namespace).path(&["groups"]);
    let mut elements = Elements::of(&service, service.open(&path, &query, None).await?);
    let mut printer = Printer::stdout();
    if args.common.output != Format::Table {
        let mut list = List::begin(&mut printer, args.common.output, None)?;
        let mut is_empty = true;
        while let Some(raw) = elements.next().await? {
            list.add(&mut printer, &raw)?;
            is_empty = false;
        }
        list.end(&mut printer)?;
        return if is_empty { nothing_listed(&service, &namespace).await } else { Ok(ExitCode::SUCCESS) };
    }
    let mut table = Table::new(["GROUP", " SESSIONS", "PRIMARY", " TIMEOUT", "NAME"]);
    let mut rows = Vec::new();
    let mut count = 0_usize;
    loop {
        let group = elements.next().await?;
        let is_last = group.is_none();
        if let Some(raw) = group {
            let group: Group = parse(raw.get())?;
            let timeout = group.timeout();
            let mut clients = group.clients.iter().flatten();
            let primary = clients.find(|(_, client)| client.role == 1).map(|(id, _)| id.clone());
            rows.push((
                [
                    group.id,
                    group.sessions.map_or_else(|| NOTHING.to_owned(), |sessions| sessions.len().to_string()),
                    primary.unwrap_or_else(|| NOTHING.to_owned()),
                    timeout,
                    group.name.unwrap_or_default(),
                ],
                Tone::Plain,
            ));
            count += 1;
        }
        if rows.len() == PAGE || is_last && !rows.is_empty() {
            table.print(&mut printer, &rows)?;
            rows.clear();
        }
        if is_last {
            break;
        }
    }
    match count {
        0 => nothing_listed(&service, &namespace).await,
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The ids of all groups of a namespace, in their order.
pub async fn ids(service: &Service, namespace: &NamespacePath) -> Result<Vec<GroupId>, OperatorError> {
    let path = Scope::Namespace(namespace).path(&["groups"]);
    let mut elements = Elements::of(service, service.open(&path, &[], None).await?);
    let mut ids = Vec::new();
    while let Some(raw) = elements.next().await? {
        let group: Group = parse(raw.get())?;
        ids.push(GroupId::parse(group.id.as_str()).map_err(|_| broken(&printable(&group.id)))?);
    }
    Ok(ids)
}

/// The end of a list without a group: the part that was asked for is empty, or the namespace is.
async fn nothing_listed(service: &Service, namespace: &NamespacePath) -> Result<ExitCode, OperatorError> {
    if missing::has_groups(service, Scope::Namespace(namespace)).await? {
        complain("no groups in this part of the list");
        Ok(ExitCode::SUCCESS)
    } else {
        Err(missing::no_groups(service, Scope::Namespace(namespace)).await)
    }
}

/// A failover timeout, exactly.
pub fn timeout(milliseconds: f64) -> String {
    let micros = (milliseconds * 1_000.0).round().clamp(0.0, 1e15) as u64;
    humantime::format_duration(std::time::Duration::from_micros(micros)).to_string()
}

/// Shows a group.
pub async fn show(args: ShowArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let group = group_id(&args.group)?;
    let service = connection.service()?;
    let scope = Scope::Namespace(&namespace);
    let raw = match service.read_raw(&scope.group(&group, &[]), &[]).await {
        Ok(raw) => raw,
        Err(error) => return Err(missing::with_hint(error, &service, &namespace, &group).await),
    };
    let mut printer = Printer::stdout();
    if args.common.output != Format::Table {
        printer.document(args.common.output, &raw)?;
        return Ok(ExitCode::SUCCESS);
    }
    let configuration: Group = parse(raw.get())?;
    let raw = service.read_raw(&scope.group(&group, &["status"]), &[]).await?;
    let status: GroupStatus = parse(raw.get())?;
    for (name, text, tone) in facts(&configuration, &status) {
        let line = format!("{name:<12}  {}", printable(&text));
        let line = printer.paint(tone, &line);
        printer.line(line.trim_end())?;
    }
    if !status.sessions.is_empty() {
        printer.line("")?;
        let rows: Vec<_> = status.sessions.iter().map(|session: &SessionStatus| session.row(&status.time)).collect();
        sessions::table().print(&mut printer, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(group: &Group, status: &GroupStatus) -> Vec<(&'static str, String, Tone)> {
    let mut facts = vec![
        ("Group", format!("{}/{}/{}", status.tenant_id, status.namespace_id, status.group_id), Tone::Plain),
        ("Name", group.name.clone().unwrap_or_else(|| NOTHING.to_owned()), Tone::Plain),
        ("Description", group.description.clone().unwrap_or_else(|| NOTHING.to_owned()), Tone::Plain),
        ("Timeout", group.timeout(), Tone::Plain),
        ("At risk", status.risk(), status.tone()),
    ];
    facts.extend(status.advice().into_iter().map(|advice| ("", advice, Tone::Warning)));
    facts.push(("Primary", primary(status), Tone::Plain));
    if let Some(pending) = &status.pending_primary {
        facts.push(("Pending", pending.clone(), Tone::Plain));
    }
    facts.extend(status.sessions.iter().filter_map(|session| {
        let wish = session.wish.as_ref()?;
        Some(("Wished", format!("{} is {}", session.session_id, wish.told_with_begin(&status.time)), Tone::Plain))
    }));
    if let (Some(until), Some(left)) = (&status.in_doubt_until, status.in_doubt_for()) {
        let why = "the database has a new history, and somebody may act on a lease that was lost with the one before";
        let text =
            format!("for {left}, until {} UTC: {why}. Only a session that says it acts is Primary", instant(until));
        facts.push(("In doubt", text, Tone::Warning));
    }
    let watermark = match status.last_data_send_age_ms {
        None => NOTHING.to_owned(),
        Some(age) => format!("{} UTC, {} ago", instant(&status.last_data_send_time), duration(age)),
    };
    let counts = (status.registered_sessions, status.live_sessions, status.standbys_ready);
    facts.extend([
        ("Term", status.term.to_string(), Tone::Plain),
        ("Data sent to", watermark, Tone::Plain),
        (
            "Sessions",
            format!("{} registered, {} live, {} ready to take over", counts.0, counts.1, counts.2),
            Tone::Plain,
        ),
    ]);
    facts
}

fn primary(status: &GroupStatus) -> String {
    match (&status.primary, &status.primary_since) {
        (None, _) => status.vacancy().map_or_else(|| NOTHING.to_owned(), |(_, sentence)| sentence),
        (Some(primary), None) => primary.clone(),
        (Some(primary), Some(since)) => {
            format!("{primary}, for {}, since {} UTC", status.primary_for(), instant(since))
        }
    }
}

/// What would go with a group.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ending {
    primary: Option<String>,
    sessions: i64,
    live_sessions: i64,
}

impl Ending {
    fn sentence(&self) -> String {
        let primary = match &self.primary {
            Some(primary) => {
                format!("{} is Primary, and does not know of this until its next heartbeat", printable(primary))
            }
            None => "Nobody is Primary".to_owned(),
        };
        format!("{primary}. Its {} sessions go with it; {} of them are live.", self.sessions, self.live_sessions)
    }
}

/// What the deletion of a group does.
fn consequences(status: &GroupStatus) -> String {
    let holder = status.sessions.iter().find(|session| Some(&session.session_id) == status.primary.as_ref());
    let live = format!("{} of its {} sessions are live", status.live_sessions, status.registered_sessions);
    match holder {
        None => format!(
            "{live}, and nobody is Primary. A group that is created there again goes on from term {}.",
            status.term
        ),
        Some(holder) => format!(
            "{live}. {} is Primary, and does not know of this until its next heartbeat. In a group that is created there \
             again nobody is Primary before its lease has run out: for up to {}; its terms go on from {}.",
            printable(&holder.session_id),
            holder.lease_left(),
            status.term
        ),
    }
}

/// Deletes a group.
pub async fn delete(args: DeleteArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.connection)?;
    let namespace = connection.namespace(&args.place)?;
    let group = group_id(&args.group)?;
    let service = connection.service()?;
    let shown = format!("{}/{}/{group}", namespace.tenant, namespace.namespace);
    let force = if args.force { " BY FORCE, with its live sessions" } else { "" };
    let scope = Scope::Namespace(&namespace);
    let path = scope.group(&group, &[]);
    let query: &[(&str, String)] = if args.force { &[("force", "true".to_owned())] } else { &[] };
    // The service speaks of its own interface.
    let with_our_words = |error| match error {
        ClientError::Refused(refusal) if refusal.status == StatusCode::CONFLICT && !args.force => {
            super::with_sentence(refusal, "Here that is --force.")
        }
        error => error.into(),
    };
    if args.dry_run {
        let told = foresight::ask(&service, Method::DELETE, &path, query, None).await;
        let told: Ending = parse(
            told.map_err(|error| match error {
                OperatorError::Service(error) => with_our_words(error),
                error => error,
            })?
            .get(),
        )?;
        let mut printer = Printer::stdout();
        printer.line(&format!("group {} would be deleted", printable(group.as_str())))?;
        printer.line(&told.sentence())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.confirm.asks() {
        let status: GroupStatus = service.read(&scope.group(&group, &["status"]), &[]).await?;
        complain(&consequences(&status));
    }
    args.confirm.ask(&format!("Delete the group {}{force}, at {}?", printable(&shown), service.name()))?;
    service.delete(&path, query).await.map_err(with_our_words)?;
    Printer::stdout().line(&format!("group {} deleted", printable(group.as_str())))?;
    Ok(ExitCode::SUCCESS)
}

/// The elements of a JSON array, while it comes.
struct Elements<'s> {
    service: &'s Service,
    response: Response,
    splitter: Splitter,
}

impl Elements<'_> {
    fn of(service: &Service, response: Response) -> Elements<'_> {
        Elements { service, response, splitter: Splitter::default() }
    }

    async fn next(&mut self) -> Result<Option<Box<RawValue>>, OperatorError> {
        loop {
            if let Some(element) = self.splitter.next() {
                let text = String::from_utf8(element).map_err(|_| broken("it is not in UTF-8"))?;
                return serde_json::from_str(&text).map(Some).map_err(|_| broken("it is not JSON"));
            }
            match self.service.chunk(&mut self.response, self.service.timeout()).await? {
                Some(chunk) => self.splitter.buffer.extend_from_slice(&chunk),
                None if self.splitter.is_whole() => return Ok(None),
                // What goes wrong after the status can only break the answer off.
                None => return Err(broken("the list broke off")),
            }
            if self.splitter.buffer.len() > MAX_GROUP_BYTES {
                return Err(broken("a group is too long"));
            }
        }
    }
}

fn broken(what: &str) -> OperatorError {
    OperatorError::unintelligible(what)
}

/// Finds the objects in the text of a JSON array, without reading what is in them.
#[derive(Default)]
struct Splitter {
    buffer: Vec<u8>,
    /// How far the buffer has been looked at.
    at: usize,
    /// How many brackets and braces are open.
    depth: usize,
    /// Where the object begins.
    begin: usize,
    in_text: bool,
    escaped: bool,
    ended: bool,
}

impl Splitter {
    /// The next object that is there as a whole.
    fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(byte) = self.buffer.get(self.at).copied() {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth == 2 {
                        self.begin = self.at - 1;
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    match self.depth {
                        0 => self.ended = true,
                        1 => {
                            let rest = self.buffer.split_off(self.at);
                            let element = std::mem::replace(&mut self.buffer, rest).split_off(self.begin);
                            self.at = 0;
                            return Some(element);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str, step: usize) -> (Vec<String>, bool) {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(step) {
            splitter.buffer.extend_from_slice(chunk);
            while let Some(element) = splitter.next() {
                found.push(String::from_utf8(element).expect("it was cut between characters"));
            }
        }
        (found, splitter.is_whole())
    }

    proptest! {
        #[test]
        fn an_array_is_split_the_same_however_it_comes(texts in prop::collection::vec("\\PC{0,8}|[\\[\\]{}\",\\\\]{0,8}", 0..6), step in 1_usize..40) {
            let objects: Vec<String> =
                texts.iter().map(|text| serde_json::json!({text: [text, {"x": text}]}).to_string()).collect();
            let array = format!("[{}]", objects.join(","));
            prop_assert_eq!(split(&array, step), (objects.clone(), true));
            prop_assert!(!split(&array[..array.len() - 1], step).1, "it broke off");
        }
    }

    #[test]
    fn a_timeout_is_shown_exactly() {
        assert_eq!(
            [100.0, 2_000.0, 90_000.0, 250.5, 86_400_000.0].map(timeout),
            ["100ms", "2s", "1m 30s", "250ms 500us", "1day"]
        );
    }
}
