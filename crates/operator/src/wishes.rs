//! The operators' word: sessions are forced or excluded, and what would come of it is said before.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::{ClientError, Scope, Service, parse};
use client_failover_wire::Role;
use client_failover_wire::ids::{GroupId, NamespacePath, SessionId};
use client_failover_wire::timespan;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::confirmation::ConfirmArgs;
use super::connection::Connection;
use super::output::{Format, Printer, complain, exact_duration, printable};
use super::status::GroupStatus;
use super::wish::Wish;
use super::{Common, OperatorError, group_id, missing, session_id, suggest};

/// Whether that is the number of the Primary's role.
fn is_primary(role: i64) -> bool {
    Role::from_number(role) == Some(Role::Primary)
}

/// Which session, for how long, and how.
#[derive(Debug, Args)]
struct WishArgs {
    /// The group
    group: String,
    /// The session
    session: String,
    /// For how long, such as 2h [default: until it is withdrawn]
    #[arg(long = "for", value_name = "TIME", value_parser = read_span)]
    lasts: Option<String>,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    common: Common,
}

/// Which session is to be Primary. Another that is forced is so no longer.
#[derive(Debug, Args)]
pub struct ForceArgs {
    #[command(flatten)]
    wish: WishArgs,
    /// While it is silent nobody takes its place; without this the best of the others does
    #[arg(long)]
    hold: bool,
}

/// Which session is not to be Primary. One that is yields with its next heartbeat.
#[derive(Debug, Args)]
pub struct ExcludeArgs {
    #[command(flatten)]
    wish: WishArgs,
}

/// Of which session nothing is to be wished any more. Who is Primary stays it, until another is
/// healthier.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// The group
    group: String,
    /// The session
    session: String,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// How long something is to last, as people write it or as the service does: as the service reads
/// it.
pub fn read_span(text: &str) -> Result<String, String> {
    let ticks = match timespan::parse(text) {
        Some(ticks) => ticks,
        None => {
            let span = humantime::parse_duration(text).map_err(|error| format!("{error}; give one such as 2h"))?;
            i64::try_from(span.as_nanos() / 100).map_err(|_| "it is too long".to_owned())?
        }
    };
    if ticks > 0 { Ok(timespan::format(ticks)) } else { Err("it must be above zero".to_owned()) }
}

/// A group whose operator speaks.
pub struct Ground {
    namespace: NamespacePath,
    /// The group.
    pub group: GroupId,
    service: Service,
}

/// What is asked for.
pub struct Request<'a> {
    /// How.
    pub method: Method,
    /// Below the group.
    pub below: &'a [&'a str],
    /// With what.
    pub body: Option<String>,
    /// Of whom, if somebody was named.
    pub session: Option<&'a SessionId>,
    /// What to ask before, of somebody at a terminal.
    pub question: Option<(ConfirmArgs, String)>,
}

impl Ground {
    /// The group of a command.
    pub fn settle(common: &Common, group: &str) -> Result<Ground, OperatorError> {
        let connection = Connection::settle(&common.connection)?;
        let namespace = connection.namespace(&common.place)?;
        Ok(Ground { namespace, group: group_id(group)?, service: connection.service()? })
    }

    /// Where it is, to be shown.
    pub fn shown(&self) -> String {
        let NamespacePath { tenant, namespace } = &self.namespace;
        printable(&format!("{tenant}/{namespace}/{}", self.group)) + ", at " + &self.service.name()
    }

    /// What is true of it now.
    pub async fn status(&self) -> Result<GroupStatus, ClientError> {
        self.service.read(&Scope::Namespace(&self.namespace).group(&self.group, &["status"]), &[]).await
    }

    /// Does what is asked for, or only says what would come of it. `None` where that is all; else
    /// what is wished now, which was printed where it is for programs.
    pub async fn carry_out(
        &self,
        request: &Request<'_>,
        dry_run: bool,
        format: Format,
    ) -> Result<Option<Outlook>, OperatorError> {
        if let Some((confirm, question)) = &request.question
            && !dry_run
            && confirm.asks()
        {
            let foreseen: Outlook = parse(self.ask(request, true).await?.get())?;
            foreseen.lines().iter().for_each(|line| complain(line));
            confirm.ask_to_change(question)?;
        }
        let raw = self.ask(request, dry_run).await?;
        let outlook: Outlook = parse(raw.get())?;
        let mut printer = Printer::stdout();
        match format {
            Format::Json | Format::Yaml => printer.document(format, &raw)?,
            Format::Table if dry_run => outlook.lines().iter().try_for_each(|line| printer.line(line))?,
            Format::Table => {}
        }
        Ok((!dry_run).then_some(outlook))
    }

    async fn ask(&self, request: &Request<'_>, dry_run: bool) -> Result<Box<RawValue>, OperatorError> {
        let path = Scope::Namespace(&self.namespace).group(&self.group, request.below);
        let query: &[(&str, String)] = if dry_run { &[("dry-run", "true".to_owned())] } else { &[] };
        match self.service.change_raw(request.method.clone(), &path, query, request.body.clone()).await {
            Ok(raw) => Ok(raw),
            Err(error) => Err(self.explained(error, request.session).await),
        }
    }

    /// The error with what may have been meant, where a name is that of nothing.
    async fn explained(&self, error: ClientError, session: Option<&SessionId>) -> OperatorError {
        if let (ClientError::Refused(refusal), Some(session)) = (&error, session)
            && refusal.status == StatusCode::NOT_FOUND
            && let Ok(status) = self.status().await
        {
            let ids = status.sessions.iter().map(|known| known.session_id.as_str());
            return match suggest::nearest(session.as_str(), ids) {
                Some(id) => super::with_sentence(refusal.clone(), &format!("Hint: did you mean '{}'?", printable(id))),
                None => error.into(),
            };
        }
        missing::with_hint(error, &self.service, &self.namespace, &self.group).await
    }
}

/// What is wished now, and what comes of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outlook {
    /// The service's clock at that moment.
    pub time: String,
    /// Of whom something is wished.
    pub session_id: Option<String>,
    /// What.
    pub wish: Option<Wish>,
    /// Who was Primary at that moment.
    pub primary: Option<String>,
    if_silent: Foresight,
    if_attentive: Foresight,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Foresight {
    without_primary_ms: i64,
    changes: Vec<Foreseen>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Foreseen {
    after_ms: i64,
    session_id: String,
    from: i64,
    to: i64,
}

impl Outlook {
    /// What comes of it, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.told("follow the group's events and say in which role they act", "do not")
    }

    /// What comes of another timeout, line by line.
    pub fn lines_of_timeout(&self) -> Vec<String> {
        self.told("heed the new timeout at once", "go on by the one before")
    }

    fn told(&self, attentive: &str, silent: &str) -> Vec<String> {
        let mut lines = vec![self.headline()];
        let foreseen = [(attentive, &self.if_attentive), (silent, &self.if_silent)];
        if foreseen.iter().any(|(_, foresight)| foresight.of_primaries().next().is_some()) {
            lines.extend(foreseen.iter().map(|(who, told)| format!("If its clients {who}: {}.", told.told())));
        }
        lines
    }

    /// Who yields to whom.
    pub fn headline(&self) -> String {
        let before = self.primary.as_deref().map(printable);
        let of_primaries = || self.if_attentive.of_primaries().chain(self.if_silent.of_primaries());
        let next = of_primaries().find(|change| is_primary(change.to)).map(|change| printable(&change.session_id));
        match (before, next) {
            (Some(before), Some(next)) => format!("{before} yields to {next}."),
            (None, Some(next)) => format!("{next} becomes Primary."),
            (Some(before), None) if of_primaries().next().is_some() => {
                format!("{before} yields, and nobody takes its place.")
            }
            (Some(before), None) => format!("{before} stays Primary."),
            (None, None) => "Nobody is Primary, and nobody becomes it.".to_owned(),
        }
    }
}

impl Foresight {
    /// The changes from and to Primary.
    fn of_primaries(&self) -> impl Iterator<Item = &Foreseen> {
        self.changes.iter().filter(|change| is_primary(change.from) || is_primary(change.to))
    }

    fn told(&self) -> String {
        let of_one = |change: &Foreseen| {
            let does = if is_primary(change.to) { "is Primary" } else { "yields" };
            format!("{} {does} after {}", printable(&change.session_id), exact_duration(change.after_ms))
        };
        let parts: Vec<String> = self.of_primaries().map(of_one).collect();
        if parts.is_empty() {
            return "nothing changes".to_owned();
        }
        // Where nobody is at the end, the number is that of how far was looked ahead.
        let is_vacant = self.of_primaries().last().is_some_and(|change| !is_primary(change.to));
        let vacancy = match self.without_primary_ms {
            _ if is_vacant => "nobody is Primary from then on".to_owned(),
            ms => format!("nobody is Primary for {}", exact_duration(ms)),
        };
        format!("{}; {vacancy}", parts.join(", "))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted<'a> {
    wish: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    when_silent: Option<&'a str>,
    #[serde(rename = "For", skip_serializing_if = "Option::is_none")]
    lasts: Option<&'a str>,
}

/// Has a session be Primary while it is live.
pub async fn force(args: ForceArgs) -> Result<ExitCode, OperatorError> {
    let when_silent = args.hold.then_some("Hold");
    wish(&args.wish, &Wanted { wish: "Forced", when_silent, lasts: args.wish.lasts.as_deref() }, "Force").await
}

/// Has a session not be Primary.
pub async fn exclude(args: ExcludeArgs) -> Result<ExitCode, OperatorError> {
    let lasts = args.wish.lasts.as_deref();
    wish(&args.wish, &Wanted { wish: "Excluded", when_silent: None, lasts }, "Exclude").await
}

async fn wish(args: &WishArgs, wanted: &Wanted<'_>, deed: &str) -> Result<ExitCode, OperatorError> {
    let ground = Ground::settle(&args.common, &args.group)?;
    let session = session_id(&args.session)?;
    let shown = printable(session.as_str());
    let request = Request {
        method: Method::POST,
        below: &["clientsessions", session.as_str(), "wish"],
        body: Some(serde_json::to_string(wanted).map_err(OperatorError::unintelligible)?),
        session: Some(&session),
        question: Some((args.confirm, format!("{deed} the session {shown} of the group {}?", ground.shown()))),
    };
    let format = args.common.output;
    if let Some(outlook) = ground.carry_out(&request, args.dry_run, format).await?
        && format == Format::Table
    {
        let told = outlook.wish.as_ref().map_or_else(|| "as it was".to_owned(), |wish| wish.told(&outlook.time));
        say(&format!("session {shown} is {told}"), &outlook, args.confirm.asks())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes back what is wished of a session.
pub async fn withdraw(args: WithdrawArgs) -> Result<ExitCode, OperatorError> {
    let ground = Ground::settle(&args.common, &args.group)?;
    let session = session_id(&args.session)?;
    let request = Request {
        method: Method::DELETE,
        below: &["clientsessions", session.as_str(), "wish"],
        body: None,
        session: Some(&session),
        question: None,
    };
    let format = args.common.output;
    if let Some(outlook) = ground.carry_out(&request, args.dry_run, format).await?
        && format == Format::Table
    {
        say(&format!("nothing is wished of session {} any more", printable(session.as_str())), &outlook, false)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was done, and what comes of it to those who were not told before.
pub fn say(done: &str, outlook: &Outlook, was_told: bool) -> Result<(), OperatorError> {
    let mut printer = Printer::stdout();
    printer.line(done)?;
    if !was_told {
        outlook.lines().iter().try_for_each(|line| printer.line(line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn outlook(primary: Option<&str>, if_silent: Value, if_attentive: Value) -> Vec<String> {
        let outlook = json!({
            "Time": "2026-11-23T03:12:04.251Z", "SessionId": null, "Wish": null, "Primary": primary,
            "IfSilent": if_silent, "IfAttentive": if_attentive,
        });
        serde_json::from_value::<Outlook>(outlook).expect("it is one").lines()
    }

    fn foresight(without_primary_ms: i64, changes: &[(i64, &str, i64, i64)]) -> Value {
        let mut foreseen = Vec::new();
        for (after_ms, session, from, to) in changes {
            foreseen.push(json!({"AfterMs": after_ms, "SessionId": session, "From": from, "To": to}));
        }
        json!({"WithoutPrimaryMs": without_primary_ms, "Changes": foreseen})
    }

    #[test]
    fn what_is_foreseen_is_told_with_who_yields_to_whom_and_how_long_nobody_is_primary() {
        let silent = foresight(30_000, &[(12_000, "b", 0, 2), (20_000, "a", 1, 0), (50_000, "b", 2, 1)]);
        let attentive = foresight(2, &[(12_000, "b", 0, 2), (20_050, "a", 1, 0), (20_052, "b", 2, 1)]);
        assert_eq!(
            outlook(Some("a"), silent, attentive),
            [
                "a yields to b.",
                "If its clients follow the group's events and say in which role they act: a yields after 20.1 s, b is \
                 Primary after 20.1 s; nobody is Primary for 2 ms.",
                "If its clients do not: a yields after 20 s, b is Primary after 50 s; nobody is Primary for 30 s.",
            ]
        );
        let none = || foresight(0, &[]);
        assert_eq!(outlook(Some("a"), none(), none()), ["a stays Primary."]);
        assert_eq!(outlook(None, foresight(240_000, &[]), none()), ["Nobody is Primary, and nobody becomes it."]);
        let vacant = || foresight(230_000, &[(10_000, "a", 1, 0)]);
        let told = outlook(Some("a"), vacant(), vacant());
        assert_eq!(told[0], "a yields, and nobody takes its place.");
        assert!(told[1].ends_with(": a yields after 10 s; nobody is Primary from then on."), "{told:?}");
        let granted = || foresight(5_000, &[(5_000, "b", 0, 1)]);
        assert_eq!(outlook(None, granted(), granted())[0], "b becomes Primary.");
    }

    #[test]
    fn a_span_is_given_as_people_write_it_or_as_the_service_does() {
        for (text, wire) in [
            ("2h", "02:00:00"),
            ("30m", "00:30:00"),
            ("36h", "1.12:00:00"),
            ("1500ms", "00:00:01.5000000"),
            ("02:30:00", "02:30:00"),
        ] {
            assert_eq!(read_span(text), Ok(wire.to_owned()), "{text}");
        }
        for text in ["", "0s", "00:00:00", "soon", "10", "99999999999d", "50ns"] {
            assert!(read_span(text).is_err(), "{text}");
        }
    }
}
