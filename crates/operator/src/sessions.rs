//! The client sessions of a group: listed and deleted.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::{ClientError, Scope, parse};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::confirmation::ConfirmArgs;
use super::connection::{Connection, ConnectionArgs, PlaceArgs};
use super::output::{Format, List, NOTHING, Printer, Table, Tone, complain, duration, printable, role};
use super::status::{GroupStatus, elapsed_ms};
use super::wish::Wish;
use super::wishes::Outlook;
use super::{Common, OperatorError, foresight, group_id, missing, session_id};

/// Whose sessions.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The group
    group: String,
    #[command(flatten)]
    common: Common,
}

/// Which session. Its client does not know of the deletion: if it is Primary, nobody else is before
/// its lease has run out.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The group
    group: String,
    /// The session
    session: String,
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

/// A session with what is true of it now.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionStatus {
    /// Its id.
    pub session_id: String,
    name: Option<String>,
    role: i64,
    /// Since when it has its role.
    pub role_since: String,
    /// Whether its lease has not run out.
    pub live: bool,
    /// How healthy it says it is, digit by digit.
    pub percent_healthy_streams: Option<Box<RawValue>>,
    /// How long ago its latest heartbeat came.
    pub heartbeat_age_ms: Option<i64>,
    lease_left_ms: Option<i64>,
    /// The risks of its group that are told by it; absent where the service is of an earlier
    /// version, as what follows.
    #[serde(default)]
    pub risks: Vec<String>,
    /// How long after the one before its latest heartbeat came.
    #[serde(default)]
    pub heartbeat_interval_ms: Option<i64>,
    /// For how long it has reported no newer data as Primary.
    #[serde(default)]
    pub data_still_ms: Option<i64>,
    /// By how much a time that it says is ahead of the service's clock.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
    /// What an operator wishes of it.
    #[serde(default)]
    pub wish: Option<Wish>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    sessions: Vec<Box<RawValue>>,
    time: String,
}

/// The table of sessions.
pub fn table() -> Table<7> {
    Table::new(["SESSION", "ROLE", " FOR", " HEALTH", " HEARTBEAT", " LEASE LEFT", "NAME"])
}

impl SessionStatus {
    /// For how long its lease still lasts.
    pub fn lease_left(&self) -> String {
        duration(self.lease_left_ms.unwrap_or(0))
    }

    /// Its row, at a time of the service's clock.
    pub fn row(&self, now: &str) -> ([String; 7], Tone) {
        let nothing = || NOTHING.to_owned();
        let lease = match self.lease_left_ms {
            Some(left) if self.live => duration(left),
            Some(_) => "over".to_owned(),
            None => nothing(),
        };
        let cells = [
            self.session_id.clone(),
            match &self.wish {
                None => role(self.role).to_owned(),
                Some(wish) => format!("{} ({})", role(self.role), wish.told(now)),
            },
            elapsed_ms(&self.role_since, now).map_or_else(nothing, duration),
            self.percent_healthy_streams.as_ref().map_or_else(nothing, |health| format!("{health} %")),
            self.heartbeat_age_ms.map_or_else(nothing, |age| format!("{} ago", duration(age))),
            lease,
            self.name.clone().unwrap_or_default(),
        ];
        (cells, if self.live { Tone::Plain } else { Tone::Warning })
    }
}

/// Lists the sessions of a group.
pub async fn list(args: ListArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let group = group_id(&args.group)?;
    let service = connection.service()?;
    let found: Group = match service.read(&Scope::Namespace(&namespace).group(&group, &["status"]), &[]).await {
        Ok(found) => found,
        Err(error) => return Err(missing::with_hint(error, &service, &namespace, &group).await),
    };
    let mut printer = Printer::stdout();
    if args.common.output != Format::Table {
        let mut list = List::begin(&mut printer, args.common.output, None)?;
        for raw in &found.sessions {
            list.add(&mut printer, raw)?;
        }
        list.end(&mut printer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sessions: Vec<SessionStatus> =
        found.sessions.iter().map(|raw| parse(raw.get())).collect::<Result<_, ClientError>>()?;
    if sessions.is_empty() {
        complain("no sessions");
    } else {
        let rows: Vec<_> = sessions.iter().map(|session| session.row(&found.time)).collect();
        table().print(&mut printer, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the deletion of a session does to its group.
fn consequences(status: &GroupStatus, session: &str) -> String {
    let shown = printable(session);
    match status.sessions.iter().find(|known| known.session_id == session) {
        None => format!("{shown} is not there."),
        Some(known) if status.primary.as_deref() == Some(session) => format!(
            "{shown} is Primary, and does not know of this until its next heartbeat. Nobody else is Primary before its \
             lease has run out: for up to {}.",
            known.lease_left()
        ),
        Some(known) if known.live => format!(
            "{shown} is not Primary, and live: a client that runs is told so at its next heartbeat and registers again."
        ),
        Some(_) => format!("{shown} is silent."),
    }
}

/// Deletes a session.
pub async fn delete(args: DeleteArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.connection)?;
    let namespace = connection.namespace(&args.place)?;
    let group = group_id(&args.group)?;
    let session = session_id(&args.session)?;
    let service = connection.service()?;
    let shown = format!("{session} of the group {}/{}/{group}", namespace.tenant, namespace.namespace);
    let scope = Scope::Namespace(&namespace);
    let path = scope.group(&group, &["clientsessions", session.as_str()]);
    // The client does not know of it: this is not its goodbye.
    let by_operator = [("by", "operator".to_owned())];
    if args.dry_run {
        let told: Outlook = parse(foresight::ask(&service, Method::DELETE, &path, &by_operator, None).await?.get())?;
        let mut printer = Printer::stdout();
        printer.line(&format!("session {} would be deleted", printable(session.as_str())))?;
        told.lines().iter().try_for_each(|line| printer.line(line))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.confirm.asks() {
        let status: GroupStatus = service.read(&scope.group(&group, &["status"]), &[]).await?;
        complain(&consequences(&status, session.as_str()));
    }
    args.confirm.ask(&format!("Delete the session {}, at {}?", printable(&shown), service.name()))?;
    service.delete(&path, &by_operator).await?;
    Printer::stdout().line(&format!("session {} deleted", printable(session.as_str())))?;
    Ok(ExitCode::SUCCESS)
}
