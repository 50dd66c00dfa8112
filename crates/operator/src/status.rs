//! The state of groups, those at risk first.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use chrono::DateTime;
use clap::Args;
use client_failover_client::{Scope, Service, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::Connection;
use super::histories::History;
use super::output::{Format, List, NOTHING, Printer, Table, Tone, complain, duration};
use super::risk::{Counting, Risk};
use super::sessions::SessionStatus;
use super::wish::Wish;
use super::{AT_RISK, Common, OperatorError, missing, watch};

/// How many groups are asked for at once: the most that the service gives.
const PAGE: usize = 200;

/// Which groups, and how to look at them.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only groups with this in their id or name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only groups at risk
    #[arg(long)]
    at_risk: bool,
    /// Show so many at most [default: all]
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Exit with 7 if a group is at risk, for monitoring
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// With --check, only these risks count, separated by commas [default: all]
    #[arg(
        long,
        value_name = "RISKS",
        requires = "check",
        conflicts_with = "ignore",
        value_delimiter = ',',
        ignore_case = true
    )]
    counts: Option<Vec<Risk>>,
    /// With --check, these risks do not count
    #[arg(long, value_name = "RISKS", requires = "check", value_delimiter = ',', ignore_case = true)]
    ignore: Vec<Risk>,
    /// Stay, and show every change as it happens; Ctrl-C ends it
    #[arg(long)]
    watch: bool,
    /// With --watch, how often to look where nothing is heard of a change
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = humantime::parse_duration)]
    interval: Duration,
    #[command(flatten)]
    common: Common,
}

/// A group with what is true of it now.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GroupStatus {
    /// Where it is.
    pub tenant_id: String,
    /// Where it is.
    pub namespace_id: String,
    /// Its id.
    pub group_id: String,
    risks: Vec<String>,
    /// Who holds the role.
    pub primary: Option<String>,
    /// Since when.
    pub primary_since: Option<String>,
    /// Who is about to get it.
    pub pending_primary: Option<String>,
    /// Until when only a session that says it acts is told that it is Primary.
    pub in_doubt_until: Option<String>,
    /// How often it was granted.
    pub term: i64,
    /// The watermark.
    pub last_data_send_time: String,
    /// How old that is.
    pub last_data_send_age_ms: Option<i64>,
    /// How many could take over.
    pub standbys_ready: usize,
    /// How many there are.
    pub registered_sessions: usize,
    /// Its failover timeout; absent where the service is of an earlier version.
    #[serde(default)]
    pub milliseconds: f64,
    /// How many have a lease.
    pub live_sessions: usize,
    /// Why nobody is Primary, where an operator wishes it so; absent where the service is of an
    /// earlier version.
    #[serde(default)]
    vacant_by_wish: Option<String>,
    /// Some of them, in a list; all of them where it is shown alone.
    pub sessions: Vec<SessionStatus>,
    /// The service's clock when it was read.
    pub time: String,
}

impl GroupStatus {
    /// Why it is at risk.
    pub fn risk(&self) -> String {
        if self.risks.is_empty() { NOTHING.to_owned() } else { self.risks.join(", ") }
    }

    /// Of each risk that is not plain from its name: which sessions it is of, and what to do.
    pub fn advice(&self) -> Vec<String> {
        self.risks.iter().filter_map(|risk| self.advice_on(risk)).collect()
    }

    fn advice_on(&self, risk: &str) -> Option<String> {
        let of = || self.sessions.iter().filter(|session| session.risks.iter().any(|told| told == risk));
        let ids: Vec<&str> = of().map(|session| session.session_id.as_str()).collect();
        let ids = if ids.is_empty() { "a session".to_owned() } else { ids.join(", ") };
        let most = |measure: fn(&SessionStatus) -> Option<i64>| of().filter_map(measure).max().map(duration);
        let most = |before: &str, measure| most(measure).map_or_else(String::new, |most| format!("{before}{most}"));
        Some(match risk {
            "SameIdTwice" => format!(
                "the heartbeats of {ids} look like those of two clients with one id, and both are told its role: stop one, or \
                 give it an id of its own"
            ),
            "DataStandsStill" => format!(
                "the Primary, {ids}, heartbeats but reports no newer data{}: look at its source, and at where it sends",
                most(" for ", |session| session.data_still_ms)
            ),
            "ClockAhead" => format!(
                "times that {ids} said are ahead of the service's clock{}, and standbys may drop data that nobody has sent: \
                 set the clock of the host",
                most(" by ", |session| session.clock_ahead_ms)
            ),
            "SeldomHeartbeats" => format!(
                "heartbeats of {ids} come{} and not every half timeout: set the timeout in the client's configuration to the \
                 group's",
                most(" every ", |session| session.heartbeat_interval_ms)
            ),
            "ManySessions" => format!(
                "{} sessions are live, more than two pairs: give each pair a group of its own, and delete what is left over",
                self.live_sessions
            ),
            "NewIdEachStart" => format!(
                "{} sessions are silent, and some took the place of another: a client registers with a new id at each start. Have \
                 it keep its id, and delete those that are left over: sessions prune",
                self.registered_sessions.saturating_sub(self.live_sessions)
            ),
            _ => return None,
        })
    }

    /// How long it is still in doubt who acts, if it is.
    pub fn in_doubt_for(&self) -> Option<String> {
        let until = self.in_doubt_until.as_deref()?;
        elapsed_ms(&self.time, until).map(duration)
    }

    /// Why nobody is Primary, where an operator wishes it so: in a few words, and in a sentence.
    pub fn vacancy(&self) -> Option<(String, String)> {
        let held_for = || self.sessions.iter().find(|session| session.wish.as_ref().is_some_and(Wish::is_held));
        Some(match self.vacant_by_wish.as_deref()? {
            "Held" => {
                let id = held_for().map_or("another", |session| session.session_id.as_str());
                (format!("held for {id}"), format!("nobody: the place is held for {id}, which is forced and silent"))
            }
            "Excluded" => ("all are excluded".to_owned(), "nobody: all sessions that are live are excluded".to_owned()),
            other => (other.to_owned(), other.to_owned()),
        })
    }

    /// How it is shown.
    pub fn tone(&self) -> Tone {
        match self.risks.first().map(String::as_str) {
            None => Tone::Plain,
            Some("NoPrimary") => Tone::Alarm,
            Some(_) => Tone::Warning,
        }
    }

    /// How long the Primary has been it.
    pub fn primary_for(&self) -> String {
        let since = self.primary_since.as_deref();
        since.and_then(|since| elapsed_ms(since, &self.time)).map_or_else(|| NOTHING.to_owned(), duration)
    }

    fn row(&self, scope: Scope<'_>) -> ([String; 6], Tone) {
        let holder = self.sessions.iter().find(|session| Some(&session.session_id) == self.primary.as_ref());
        let health = holder.and_then(|session| session.percent_healthy_streams.as_ref());
        let group = match scope {
            // No id holds a slash.
            Scope::Everything => format!("{}/{}/{}", self.tenant_id, self.namespace_id, self.group_id),
            Scope::Tenant(_) => format!("{}/{}", self.namespace_id, self.group_id),
            Scope::Namespace(_) => self.group_id.clone(),
        };
        let cells = [
            group,
            self.risk(),
            match (&self.primary, self.in_doubt_for()) {
                (Some(primary), _) => match holder.and_then(|holder| holder.wish.as_ref()) {
                    None => primary.clone(),
                    Some(wish) => format!("{primary} ({})", wish.told(&self.time)),
                },
                (None, Some(left)) => format!("in doubt for {left}"),
                (None, None) => self.vacancy().map_or_else(|| NOTHING.to_owned(), |(short, _)| short),
            },
            self.primary_for(),
            health.map_or_else(|| NOTHING.to_owned(), |health| format!("{health} %")),
            self.standbys_ready.to_string(),
        ];
        (cells, self.tone())
    }
}

/// How long after one time of the wire another one is, in milliseconds.
pub fn elapsed_ms(then: &str, now: &str) -> Option<i64> {
    let read = |text| DateTime::parse_from_rfc3339(text).ok();
    Some((read(now)? - read(then)?).num_milliseconds().max(0))
}

/// Some groups, and how many there are.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Page {
    /// How many there are.
    pub total: i64,
    /// How many of them are at risk.
    pub at_risk: i64,
    counted: Option<Counted>,
    /// The present history of the database, if it is not the first.
    database_history: Option<History>,
    groups: Vec<Box<RawValue>>,
}

/// What is counted of all groups there.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Counted {
    /// Absent where the service is of an earlier version.
    #[serde(default)]
    in_doubt: i64,
}

/// A question for groups.
pub struct Question<'a> {
    /// Where.
    pub scope: Scope<'a>,
    search: Option<&'a str>,
    only_at_risk: bool,
}

impl Question<'_> {
    /// Some of the groups.
    pub async fn page(&self, service: &Service, skip: usize, count: usize) -> Result<Page, OperatorError> {
        let mut query = vec![("skip", skip.to_string()), ("count", count.min(PAGE).to_string())];
        query.extend(self.search.map(|text| ("search", text.to_owned())));
        query.extend(self.only_at_risk.then(|| ("at_risk", "true".to_owned())));
        Ok(service.read(&self.scope.path(&["status"]), &query).await?)
    }

    /// Whether a group that was not printed is at a risk that counts.
    async fn has_more(&self, service: &Service, found: &Found, counting: &Counting) -> Result<bool, OperatorError> {
        if found.seen_at_risk >= found.at_risk {
            return Ok(false);
        }
        let at_risk = Question { only_at_risk: true, ..*self };
        let mut skip = 0;
        loop {
            let page = at_risk.page(service, skip, PAGE).await?;
            for raw in &page.groups {
                if counting.includes_any(&parse::<Key>(raw.get())?.risks) {
                    return Ok(true);
                }
            }
            skip += page.groups.len();
            if page.groups.len() < PAGE {
                return Ok(false);
            }
        }
    }

    /// Why no group was found: an error where a namespace or a search is that of nothing.
    pub async fn silence(&self, service: &Service) -> Result<Silence, OperatorError> {
        let all = Question { scope: self.scope, search: None, only_at_risk: false };
        if all.page(service, 0, 1).await?.total == 0 {
            return match self.scope {
                Scope::Everything if self.search.is_none() => Ok(Silence::Empty),
                scope => Err(missing::no_groups(service, scope).await),
            };
        }
        let Some(text) = self.search else { return Ok(Silence::Healthy) };
        let with_text = Question { only_at_risk: false, ..*self };
        if self.only_at_risk && with_text.page(service, 0, 1).await?.total > 0 {
            Ok(Silence::Healthy)
        } else {
            Err(missing::no_match(service, self.scope, text).await)
        }
    }

    /// A table for its groups.
    pub fn table(&self) -> Table<6> {
        Table::new(["GROUP", "AT RISK", "PRIMARY", " FOR", " HEALTH", " STANDBYS"])
    }
}

impl Page {
    /// The rows of its groups.
    pub fn rows(&self, scope: Scope<'_>) -> Result<Vec<([String; 6], Tone)>, OperatorError> {
        self.groups.iter().map(|raw| Ok(parse::<GroupStatus>(raw.get())?.row(scope))).collect()
    }

    /// What is new of the database.
    pub fn news(&self) -> Option<String> {
        let in_doubt = self.counted.as_ref().map_or(0, |counted| counted.in_doubt);
        self.database_history.as_ref().and_then(|history| history.news(in_doubt))
    }

    /// In a sentence, how it stands. The service counts every few seconds; what is seen here counts
    /// at once.
    pub fn summary(&self) -> String {
        let groups = if self.total == 1 { "group" } else { "groups" };
        let seen = self.groups.iter().filter(|raw| parse::<Key>(raw.get()).is_ok_and(|key| !key.risks.is_empty()));
        let at_risk = self.at_risk.max(i64::try_from(seen.count()).unwrap_or(i64::MAX));
        format!("{} {groups}, {at_risk} at risk", self.total)
    }
}

/// Shows the state of groups.
pub async fn run(args: StatusArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let place = connection.find_place(&args.common.place)?;
    let question = Question { scope: place.scope(), search: args.search.as_deref(), only_at_risk: args.at_risk };
    let format = args.common.output;
    if args.watch {
        if format != Format::Table {
            return Err(OperatorError::usage("--watch shows a table; for programs there is events --follow -o json"));
        }
        return watch::run(&connection, &question, args.count, args.interval).await;
    }
    let service = connection.service()?;
    let counting = Counting::of(args.counts.as_deref(), &args.ignore);
    let found = print(&service, &question, format, args.count.unwrap_or(usize::MAX), &counting).await?;
    if found.none {
        let silence = question.silence(&service).await?;
        if args.check && silence == Silence::Empty {
            return Err(OperatorError::Nothing("there are no groups, so nothing was checked".to_owned()));
        }
        complain(silence.sentence());
    }
    let is_at_risk = match &counting {
        _ if !args.check => false,
        Counting::All => found.at_risk > 0,
        // Those that were not printed may be at another risk.
        Counting::Some(_) => found.counted > 0 || question.has_more(&service, &found, &counting).await?,
    };
    Ok(if is_at_risk { ExitCode::from(AT_RISK) } else { ExitCode::SUCCESS })
}

/// Why no group is found where nothing was named wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// None of those that were asked for is at risk.
    Healthy,
    /// Nobody has made a group yet.
    Empty,
}

impl Silence {
    fn sentence(self) -> &'static str {
        match self {
            Silence::Healthy => "no group is at risk",
            Silence::Empty => "no groups",
        }
    }
}

/// What was printed.
struct Found {
    /// How many groups are at risk.
    at_risk: i64,
    /// How many of those that were printed are at any risk, and at one that counts.
    seen_at_risk: i64,
    counted: i64,
    /// Whether there was no group at all.
    none: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    tenant_id: String,
    namespace_id: String,
    group_id: String,
    risks: Vec<String>,
}

/// Prints groups page by page.
async fn print(
    service: &Service,
    question: &Question<'_>,
    format: Format,
    most: usize,
    counting: &Counting,
) -> Result<Found, OperatorError> {
    let mut printer = Printer::stdout();
    let mut page = question.page(service, 0, most).await?;
    let (summary, news, at_risk, total) = (page.summary(), page.news(), page.at_risk, page.total);
    let numbers = [("Total", total), ("AtRisk", at_risk)];
    let mut list = match format {
        Format::Table => None,
        Format::Json | Format::Yaml => Some(List::begin(&mut printer, format, Some(("Groups", &numbers)))?),
    };
    let mut table = question.table();
    let (mut asked, mut seen_at_risk, mut counted) = (0, 0, 0);
    let mut before: HashSet<String> = HashSet::new();
    loop {
        let last = page.groups.len();
        asked += last;
        // Groups move while they are listed: one that is seen on the page before is not shown
        // again.
        let keys: Vec<String> = page
            .groups
            .iter()
            .map(|raw| {
                let key: Key = parse(raw.get())?;
                seen_at_risk += i64::from(!key.risks.is_empty());
                counted += i64::from(counting.includes_any(&key.risks));
                Ok(format!("{}/{}/{}", key.tenant_id, key.namespace_id, key.group_id))
            })
            .collect::<Result<_, OperatorError>>()?;
        let mut kept = keys.iter().map(|key| !before.contains(key));
        page.groups.retain(|_| kept.next().unwrap_or(true));
        match &mut list {
            None if asked > 0 => table.print(&mut printer, &page.rows(question.scope)?)?,
            None => {}
            Some(list) => page.groups.iter().try_for_each(|raw| list.add(&mut printer, raw))?,
        }
        before = keys.into_iter().collect();
        if last < PAGE || asked >= most {
            break;
        }
        page = question.page(service, asked, most - asked).await?;
    }
    match list {
        Some(list) => list.end(&mut printer)?,
        None if asked > 0 && printer.is_terminal() => printer.line(&format!("\n{summary}"))?,
        None => {}
    }
    if let Some(news) = news {
        complain(&news);
    }
    // The service counts every few seconds; what is seen on the way counts at once.
    Ok(Found { at_risk: at_risk.max(seen_at_risk), seen_at_risk, counted, none: total == 0 && asked == 0 })
}
