//! The operators' word over HTTP: wishes of sessions, switch-overs, and the released form's role
//! override.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use client_failover_wire::datetime::{self, DateTimeText, Reading};
use client_failover_wire::timespan;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::errors::ApiError;
use super::json::{JsonBody, Object};
use super::paths::{InGroup, InSession};
use super::query;
use super::values::{IdText, RoleNumber};
use crate::arbitration::{Instant, Reason, WhenSilent, Wish, Wished};
use crate::failover::what_if::Ending;
use crate::failover::wishes::{Foresight, Lasts, Mode, Outlook, SwitchTo, SwitchedOver};
use crate::failover::{Caller, Failover};
use crate::ids::SessionId;
use crate::store::events::WishChange;
use crate::store::wish_names;

/// A wish is for less than so many days, or until it is withdrawn.
const DAYS: u64 = 1_000;
/// For how long, in seconds, an answer waits at most for a switch-over to come about.
pub const LONGEST_WAIT_S: i64 = 120;
/// For how many timeouts a switch-over is tried.
const SWITCH_OVER_TIMEOUTS: u8 = 2;

/// `POST …/clientsessions/{sessionId}/wish`
pub async fn set(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    const WISH: usize = 0;
    const WHEN_SILENT: usize = 1;
    let object = body.object(["Wish", "WhenSilent", "For", "Until"])?;
    let when_silent = match object.text(WHEN_SILENT)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("replace") => Some(WhenSilent::Replace),
        Some("hold") => Some(WhenSilent::Hold),
        Some(_) => return Err(object.wrong(WHEN_SILENT, "Replace or Hold")),
    };
    let wish = match object.text(WISH)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("forced") => Wish::Forced(when_silent.unwrap_or(WhenSilent::Replace)),
        Some("excluded") if when_silent.is_none() => Wish::Excluded,
        Some("excluded") => return Err(object.wrong(WHEN_SILENT, "left out where Wish is Excluded")),
        _ => return Err(object.wrong(WISH, "Forced or Excluded")),
    };
    let lasts = read_lasts(&object, 2, 3)?.unwrap_or(Lasts::UntilWithdrawn);
    let mode = read_mode(&request)?;
    let outlook = failover.wish(&caller, &path, &session, wish, lasts, mode).await?;
    Ok(answer(mode, &outlook))
}

/// `DELETE …/clientsessions/{sessionId}/wish`
pub async fn withdraw(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mode = read_mode(&request)?;
    let outlook = failover.withdraw_wish(&caller, &path, &session, mode).await?;
    Ok(answer(mode, &outlook))
}

/// `POST …/groups/{groupid}/switchover`
pub async fn switch_over(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let object = body.object(["To", "For", "Until"])?;
    let to = match object.text(0)?.filter(|id| !id.is_empty()) {
        Some(id) => SwitchTo::Session(SessionId::parse(&id).map_err(|wrong| ApiError::bad_id("To", wrong))?),
        None => SwitchTo::Best,
    };
    let lasts = read_lasts(&object, 1, 2)?.unwrap_or(Lasts::Timeouts(SWITCH_OVER_TIMEOUTS));
    let mode = read_mode(&request)?;
    let wait = query::number_up_to(&request, "wait", LONGEST_WAIT_S)?;
    let outlook = failover.switch_over(&caller, &path, &to, lasts, mode).await?;
    let (Some(wait), Mode::Done) = (wait, mode) else { return Ok(answer(mode, &outlook)) };
    let limit = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
    let outcome = failover.wait_for_switch_over(&path, &outlook, limit).await?;
    let body = OutlookBody { outcome: outcome.as_ref().map(OutcomeBody::of), ..OutlookBody::of(&outlook) };
    let status = if outcome.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// `DELETE …/groups/{groupid}/switchover`
pub async fn cancel_switch_over(
    failover: web::Data<Failover>,
    caller: Caller,
    InGroup(path): InGroup,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mode = read_mode(&request)?;
    let outlook = failover.cancel_switch_over(&caller, &path, mode).await?;
    Ok(answer(mode, &outlook))
}

/// `POST …/clientsessions/{sessionId}/roleoverride`
///
/// A forced Primary of this form stays it while it is silent, as its reference has it.
pub async fn override_role(
    failover: web::Data<Failover>,
    caller: Caller,
    InSession(path, session): InSession,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    const VALUE: usize = 0;
    const PERIOD: usize = 1;
    let object = body.object(["Value", "ExpirationPeriod"])?;
    let named = object.raw(VALUE).map(|raw| raw.trim_matches('"').to_ascii_lowercase());
    let is_on = match named.as_deref() {
        Some("1" | "primary") => true,
        Some("0" | "off") => false,
        _ => return Err(object.wrong(VALUE, "Off (0) or Primary (1)")),
    };
    let lasts = read_span(&object, PERIOD)?.map_or(Lasts::UntilWithdrawn, Lasts::For);
    let outlook = if is_on {
        let wish = Wish::Forced(WhenSilent::Hold);
        failover.wish(&caller, &path, &session, wish, lasts, Mode::Done).await?
    } else {
        failover.withdraw_force(&caller, &path, &session).await?
    };
    let until = outlook.wished.and_then(|wished| wished.until).and_then(time_of);
    Ok(HttpResponse::Ok().json(RoleOverride {
        value: i16::from(is_on),
        role_override_expiration_time: until.map(|until| datetime::format(Some(until))),
    }))
}

/// An instant of the database's clock as a time.
pub fn time_of(instant: Instant) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(instant.0)
}

/// Whether it is only to be said what would come of it.
pub fn read_mode(request: &HttpRequest) -> Result<Mode, ApiError> {
    Ok(if query::truth(request, "dry-run")? == Some(true) { Mode::DryRun } else { Mode::Done })
}

/// How long a wish is to last: for a time, or until one.
fn read_lasts<const N: usize>(object: &Object<'_, N>, span: usize, until: usize) -> Result<Option<Lasts>, ApiError> {
    let lasts_for = read_span(object, span)?;
    let ends = match object.text(until)? {
        None => None,
        Some(text) => match datetime::parse(&text) {
            Some(Reading::Time(time)) => Some(time),
            _ => return Err(object.wrong(until, "an RFC 3339 date-time such as 2026-08-24T14:15:22Z")),
        },
    };
    match (lasts_for, ends) {
        (None, None) => Ok(None),
        (Some(duration), None) => Ok(Some(Lasts::For(duration))),
        (None, Some(time)) => Ok(Some(Lasts::Until(time))),
        (Some(_), Some(_)) => {
            Err(ApiError::bad("For and Until are both given.", "Say how long it is to last, or until when."))
        }
    }
}

fn read_span<const N: usize>(object: &Object<'_, N>, place: usize) -> Result<Option<Duration>, ApiError> {
    const WANTED: &str = "a time span [d.]hh:mm[:ss[.fffffff]] above zero";
    let Some(text) = object.text(place)? else { return Ok(None) };
    let ticks = timespan::parse(&text).and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
    let duration = Duration::from_nanos(ticks.ok_or_else(|| object.wrong(place, WANTED))?.saturating_mul(100));
    if duration.as_secs() >= DAYS * 86_400 {
        return Err(object.wrong(place, "less than 1000 days"));
    }
    Ok(Some(duration))
}

fn answer(mode: Mode, outlook: &Outlook) -> HttpResponse {
    let status = match mode {
        Mode::DryRun => StatusCode::OK,
        Mode::Done => StatusCode::ACCEPTED,
    };
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(OutlookBody::of(outlook))
}

/// What would come of a change that is not done.
pub fn foreseen(outlook: &Outlook) -> HttpResponse {
    HttpResponse::Ok().json(OutlookBody::of(outlook))
}

/// What the deletion of a group would end.
pub fn would_end(ending: &Ending) -> HttpResponse {
    HttpResponse::Ok().json(EndingBody {
        time: datetime::format(Some(ending.now)),
        primary: ending.primary.as_deref(),
        sessions: ending.sessions,
        live_sessions: ending.live,
    })
}

/// What the deletion of a group would end.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Ending")]
pub struct EndingBody<'a> {
    /// The database's clock at that moment.
    #[schemars(with = "DateTimeText")]
    time: String,
    /// Who is Primary.
    #[schemars(with = "Option<IdText>")]
    primary: Option<&'a str>,
    /// How many sessions would be deleted with it.
    sessions: usize,
    /// How many of them are live.
    live_sessions: usize,
}

/// The name of a wish on the line.
pub fn shown_wish(stored: &str) -> &'static str {
    match stored {
        "forced" => "Forced",
        "excluded" => "Excluded",
        "switch_to" => "SwitchTo",
        _ => "SwitchAway",
    }
}

/// What happens while a forced session is silent, on the line.
pub fn shown_when_silent(stored: &str) -> &'static str {
    if stored == "hold" { "Hold" } else { "Replace" }
}

/// The role override of the released form, as it is answered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RoleOverride {
    /// Whether the session is forced: 0 no.
    #[schemars(range(min = 0, max = 1))]
    value: i16,
    /// Until when; null where it is not, or until it is switched off.
    #[schemars(with = "Option<DateTimeText>")]
    role_override_expiration_time: Option<String>,
}

/// What is wished of a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct WishBody {
    /// Forced: first while it is live, whatever its health. Excluded: never Primary. SwitchTo:
    /// first until it is granted. SwitchAway: last until another is granted.
    #[schemars(extend("enum" = ["Forced", "Excluded", "SwitchTo", "SwitchAway"]))]
    pub wish: &'static str,
    /// Of a forced one, while it is silent: the best of the others takes its place (Replace), or
    /// nobody does (Hold).
    #[schemars(extend("enum" = ["Replace", "Hold", null]))]
    pub when_silent: Option<&'static str>,
    /// Until when; null until it is withdrawn.
    #[schemars(with = "Option<DateTimeText>")]
    pub until: Option<String>,
}

impl WishBody {
    /// As it is shown.
    pub fn of(wished: Wished) -> WishBody {
        WishBody {
            wish: shown_wish(wish_names::wish_text(wished.wish)),
            when_silent: wish_names::when_silent_text(wished.wish).map(shown_when_silent),
            until: wished.until.and_then(time_of).map(|until| datetime::format(Some(until))),
        }
    }

    /// As an event tells of it.
    pub fn of_change(change: &WishChange) -> WishBody {
        WishBody {
            wish: shown_wish(&change.wish),
            when_silent: change.when_silent.as_deref().map(shown_when_silent),
            until: change.until.map(|until| datetime::format(Some(until))),
        }
    }
}

/// What is wished now, and what comes of it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct OutlookBody<'a> {
    /// The database's clock at that moment.
    #[schemars(with = "DateTimeText")]
    time: String,
    /// Of whom something is wished; null where nothing is any more.
    #[schemars(with = "Option<IdText>")]
    session_id: Option<&'a str>,
    /// What is wished; null where nothing is, or need not be: it is Primary already.
    wish: Option<WishBody>,
    /// Who was Primary at that moment.
    #[schemars(with = "Option<IdText>")]
    primary: Option<&'a str>,
    /// What the next heartbeats would change where clients do not tell in which role they act, and
    /// each heartbeats every half timeout.
    if_silent: ForesightBody<'a>,
    /// The same where they follow the group's events, tell it, and do so at once.
    if_attentive: ForesightBody<'a>,
    /// What came of a switch-over that was waited for; null where it has not come about, or was not
    /// waited for.
    outcome: Option<OutcomeBody<'a>>,
}

/// What came of a switch-over.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "SwitchedOver")]
struct OutcomeBody<'a> {
    /// Who is Primary.
    #[schemars(with = "IdText")]
    primary: &'a str,
    /// How long after it was asked for.
    #[schemars(range(min = 0))]
    took_ms: i64,
    /// For how long nobody was.
    #[schemars(range(min = 0))]
    without_primary_ms: i64,
}

impl<'a> OutcomeBody<'a> {
    fn of(outcome: &'a SwitchedOver) -> OutcomeBody<'a> {
        OutcomeBody {
            primary: &outcome.session,
            took_ms: outcome.took_ms,
            without_primary_ms: outcome.without_primary_ms,
        }
    }
}

impl<'a> OutlookBody<'a> {
    fn of(outlook: &'a Outlook) -> OutlookBody<'a> {
        OutlookBody {
            time: datetime::format(Some(outlook.now)),
            session_id: outlook.session.as_deref(),
            wish: outlook.wished.map(WishBody::of),
            primary: outlook.primary.as_deref(),
            if_silent: ForesightBody::of(&outlook.if_silent),
            if_attentive: ForesightBody::of(&outlook.if_attentive),
            outcome: None,
        }
    }
}

/// What is foreseen, if nobody comes or goes and no health changes.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Foresight")]
struct ForesightBody<'a> {
    /// For how long nobody would be Primary, within the next four timeouts.
    #[schemars(range(min = 0))]
    without_primary_ms: i64,
    /// The changes of roles, in order.
    changes: Vec<ForeseenBody<'a>>,
}

impl<'a> ForesightBody<'a> {
    fn of(foresight: &'a Foresight) -> ForesightBody<'a> {
        let changes = foresight.changes.iter().map(|change| ForeseenBody {
            after_ms: change.after_ms,
            session_id: &change.session,
            from: change.from.number(),
            to: change.to.number(),
            reason: change.reason.name(),
        });
        ForesightBody { without_primary_ms: foresight.without_primary_ms, changes: changes.collect() }
    }
}

/// A change of a role that is foreseen.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "ForeseenChange")]
struct ForeseenBody<'a> {
    /// How long after the moment.
    #[schemars(range(min = 0))]
    after_ms: i64,
    #[schemars(with = "IdText")]
    session_id: &'a str,
    /// The role before.
    #[schemars(with = "RoleNumber")]
    from: i16,
    /// The role after.
    #[schemars(with = "RoleNumber")]
    to: i16,
    /// Why.
    #[schemars(extend("enum" = Reason::ALL.map(Reason::name)))]
    reason: &'static str,
}

/// What is wished, in requests. Written by hand as [`set`] reads it.
pub struct WantedWish;

impl JsonSchema for WantedWish {
    fn schema_name() -> Cow<'static, str> {
        "WantedWish".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What is wished of a session, and how long it is to last: for a time, until one, or until it is withdrawn.",
            "properties": {
                "Wish": {"type": "string", "enum": ["Forced", "Excluded"], "description": "Forced: Primary before all others while it is live, whatever their health. Excluded: never Primary."},
                "WhenSilent": {"type": ["string", "null"], "enum": ["Replace", "Hold", null], "description": "Of a forced one, while it is silent: the best of the others takes its place (Replace, where it is left out), or nobody does (Hold)."},
                "For": lasts_for(),
                "Until": datetime::input_schema("Until when."),
            },
            "required": ["Wish"],
        })
    }
}

/// A switch-over, in requests. Written by hand as [`switch_over`] reads it.
pub struct WantedSwitchOver;

impl JsonSchema for WantedSwitchOver {
    fn schema_name() -> Cow<'static, str> {
        "WantedSwitchOver".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "To whom, and how long it is tried: two timeouts where that is left out.",
            "properties": {
                "To": {"type": ["string", "null"], "description": "The session that is to be Primary; the best of the others where it is left out."},
                "For": lasts_for(),
                "Until": datetime::input_schema("Until when."),
            },
        })
    }
}

/// A role override, in requests. Written by hand as [`override_role`] reads it.
pub struct WantedOverride;

impl JsonSchema for WantedOverride {
    fn schema_name() -> Cow<'static, str> {
        "RoleOverrideBody".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Whether a session is to be Primary, and for how long; for good where that is left out.",
            "properties": {
                "Value": {
                    "anyOf": [{"type": "integer", "enum": [0, 1]}, {"type": "string", "enum": ["Off", "Primary"]}],
                    "description": "Off (0) or Primary (1).",
                },
                "ExpirationPeriod": lasts_for(),
            },
            "required": ["Value"],
        })
    }
}

fn lasts_for() -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "pattern": r"^(\d{1,3}\.)?([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,7})?)?$",
        "not": {"type": "string", "pattern": r"^(0+\.)?00?:00(:00(\.0+)?)?$"},
        "description": "For how long, as [d.]hh:mm[:ss[.fffffff]]: above zero, and less than 1000 days.",
        "examples": ["02:00:00"],
    })
}
