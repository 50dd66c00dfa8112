//! Sessions of clients that are gone for good: found by their silence, and deleted.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client_failover_client::{Scope, Service};
use client_failover_wire::ids::{GroupId, NamespacePath};
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::confirmation::ConfirmArgs;
use super::connection::Connection;
use super::output::{Format, List, Printer, complain, duration, printable};
use super::sessions::SessionStatus;
use super::status::{GroupStatus, elapsed_ms};
use super::{Common, OperatorError, group_id, groups, missing};

/// Whose sessions, and which of them. One that is live is never deleted, nor one that is forced or
/// excluded.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The group
    #[arg(required_unless_present = "all_in_namespace", conflicts_with = "all_in_namespace")]
    group: Option<String>,
    /// The sessions of all groups of the namespace
    #[arg(long)]
    all_in_namespace: bool,
    /// Those whose latest heartbeat is older than that
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    silent_for: Duration,
    /// Also those that were registered longer ago than that and never sent a heartbeat
    #[arg(long)]
    never_heard: bool,
    /// Only say which ones would be deleted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    common: Common,
}

/// What becomes of a session.
enum Fate {
    /// It stays, and nobody would expect otherwise.
    Stays,
    /// It stays, and this is why.
    Kept(String),
    /// It has been silent for that many milliseconds.
    Silent(i64),
    /// It never sent a heartbeat.
    NeverHeard,
}

/// A session that is to be deleted.
struct Found {
    session: String,
    silent_ms: Option<i64>,
}

impl Found {
    fn told(&self) -> String {
        self.silent_ms.map_or_else(|| "never heard".to_owned(), |ms| format!("silent for {}", duration(ms)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Said<'a> {
    group_id: &'a str,
    session_id: &'a str,
    silent_ms: Option<i64>,
    dry_run: bool,
}

impl PruneArgs {
    fn fate(&self, session: &SessionStatus, now: &str) -> Fate {
        let most = i64::try_from(self.silent_for.as_millis()).unwrap_or(i64::MAX);
        // One without a heartbeat has the role that it was registered with.
        let age = session.heartbeat_age_ms.or_else(|| elapsed_ms(&session.role_since, now));
        match (age, &session.wish) {
            (None, _) => Fate::Stays,
            (Some(age), _) if session.live || age <= most => Fate::Stays,
            (Some(_), Some(wish)) => Fate::Kept(format!("it is {}", wish.told(now))),
            (Some(age), None) if session.heartbeat_age_ms.is_some() => Fate::Silent(age),
            (Some(_), None) if self.never_heard => Fate::NeverHeard,
            (Some(_), None) => Fate::Kept("it never sent a heartbeat (--never-heard deletes it too)".to_owned()),
        }
    }

    /// Which sessions of a group are to be deleted, and which ones are kept in spite of their
    /// silence.
    fn sift(&self, status: &GroupStatus) -> (Vec<Found>, Vec<String>) {
        let (mut found, mut kept) = (Vec::new(), Vec::new());
        for session in &status.sessions {
            let id = session.session_id.clone();
            match self.fate(session, &status.time) {
                Fate::Stays => {}
                Fate::Kept(why) => {
                    kept.push(format!("session {} of {} is kept: {why}", printable(&id), printable(&status.group_id)));
                }
                Fate::Silent(ms) => found.push(Found { session: id, silent_ms: Some(ms) }),
                Fate::NeverHeard => found.push(Found { session: id, silent_ms: None }),
            }
        }
        (found, kept)
    }
}

async fn status_of(
    service: &Service,
    namespace: &NamespacePath,
    group: &GroupId,
) -> Result<Option<GroupStatus>, OperatorError> {
    match service.read(&Scope::Namespace(namespace).group(group, &["status"]), &[]).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the sessions that have been silent for long.
pub async fn run(args: PruneArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let group = args.group.as_deref().map(group_id).transpose()?;
    let service = connection.service()?;
    let groups = match group {
        Some(group) => vec![group],
        None => groups::ids(&service, &namespace).await?,
    };
    if groups.is_empty() {
        return Err(missing::no_groups(&service, Scope::Namespace(&namespace)).await);
    }
    let mut found: Vec<(GroupId, Vec<Found>)> = Vec::new();
    for group in groups {
        let status: GroupStatus = if args.all_in_namespace {
            // One that was deleted meanwhile has no sessions any more.
            let Some(status) = status_of(&service, &namespace, &group).await? else { continue };
            status
        } else {
            match service.read(&Scope::Namespace(&namespace).group(&group, &["status"]), &[]).await {
                Ok(status) => status,
                Err(error) => return Err(missing::with_hint(error, &service, &namespace, &group).await),
            }
        };
        let (of_group, kept) = args.sift(&status);
        kept.iter().for_each(|line| complain(line));
        if !of_group.is_empty() {
            found.push((group, of_group));
        }
    }
    let count: usize = found.iter().map(|(_, of_group)| of_group.len()).sum();
    if count == 0 {
        complain("no session has been silent for so long");
    } else if !args.dry_run && args.confirm.asks() {
        for (group, of_group) in &found {
            for one in of_group {
                let (group, session) = (printable(group.as_str()), printable(&one.session));
                complain(&format!("session {session} of {group}, {}", one.told()));
            }
        }
        let sessions = if count == 1 { "this session".to_owned() } else { format!("these {count} sessions") };
        args.confirm.ask(&format!("Delete {sessions}, at {}?", service.name()))?;
    }
    delete(&args, &service, &namespace, &found).await?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes what was found and is still so, and prints each as it is deleted.
async fn delete(
    args: &PruneArgs,
    service: &Service,
    namespace: &NamespacePath,
    found: &[(GroupId, Vec<Found>)],
) -> Result<(), OperatorError> {
    let format = args.common.output;
    let mut printer = Printer::stdout();
    let mut list = match format {
        Format::Table => None,
        Format::Json | Format::Yaml => Some(List::begin(&mut printer, format, None)?),
    };
    for (group, of_group) in found {
        // Whoever was asked may have thought about it for long, and a client may be back.
        let Some(status) = status_of(service, namespace, group).await? else { continue };
        let (still, _) = args.sift(&status);
        for one in of_group.iter().filter(|one| still.iter().any(|is_so| is_so.session == one.session)) {
            if !args.dry_run {
                let path = Scope::Namespace(namespace).group(group, &["clientsessions", &one.session]);
                match service.delete(&path, &[("by", "operator".to_owned())]).await {
                    // Somebody else was faster.
                    Err(error) if error.is_not_found() => continue,
                    deleted => deleted?,
                }
            }
            match &mut list {
                None => {
                    let dry = if args.dry_run { " (dry run)" } else { "" };
                    let (group, session) = (printable(group.as_str()), printable(&one.session));
                    printer.line(&format!("session {session} of {group} deleted, {}{dry}", one.told()))?;
                }
                Some(list) => {
                    let said = Said {
                        group_id: group.as_str(),
                        session_id: &one.session,
                        silent_ms: one.silent_ms,
                        dry_run: args.dry_run,
                    };
                    list.add(&mut printer, &to_raw_value(&said).map_err(OperatorError::unintelligible)?)?;
                }
            }
        }
    }
    list.map_or(Ok(()), |list| list.end(&mut printer))
}
