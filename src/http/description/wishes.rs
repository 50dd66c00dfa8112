//! The operators' word, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::http::described::Description;
use crate::http::described::refusals::Refusal;
use crate::http::wishes::{
    EndingBody, LONGEST_WAIT_S, OutlookBody, RoleOverride, WantedOverride, WantedSwitchOver, WantedWish,
};

/// What these operations are listed under.
const TAG: &str = "Operators";

const DRY: &str = "This would come of it, and nothing was changed; or it has come about.";
const NO_GROUP: &str = "There is no such group.";
const NO_SESSION: &str = "There is no such group or session.";

fn an_outlook(wish: Value) -> Value {
    let change = |after_ms: i64, session: &str, from: i64, to: i64, reason: &str| json!({"AfterMs": after_ms, "SessionId": session, "From": from, "To": to, "Reason": reason});
    json!({
        "Time": "2026-11-23T03:12:04.251Z",
        "SessionId": "b",
        "Wish": wish,
        "Primary": "a",
        "IfSilent": {"WithoutPrimaryMs": 30_000, "Changes": [
            change(12_000, "b", 0, 2, "override"),
            change(20_000, "a", 1, 0, "override"),
            change(50_000, "b", 2, 1, "handover_completed"),
        ]},
        "IfAttentive": {"WithoutPrimaryMs": 2, "Changes": [
            change(12_000, "b", 0, 2, "override"),
            change(20_000, "a", 1, 0, "override"),
            change(20_002, "b", 2, 1, "handover_completed"),
        ]},
        "Outcome": null,
    })
}

fn dry_run(description: Description) -> Description {
    description.query(
        "dry-run",
        json!({"type": "boolean", "default": false}),
        "Whether only to say what would come of it. Then it is answered 200, and nothing is changed.",
    )
}

/// The same where it is a deletion of a session or a change of a group.
pub fn foreseen(schemas: &mut SchemaGenerator, description: Description) -> Description {
    dry_run(description).answers_instead::<OutlookBody<'_>>(
        schemas,
        200,
        "This would come of it, and nothing was changed.",
        an_outlook(Value::Null),
    )
}

/// The same where it is a deletion of a group.
pub fn would_end(schemas: &mut SchemaGenerator, description: Description) -> Description {
    let text = "This would end, and nothing was changed.";
    let example = json!({"Time": "2026-11-23T03:12:04.251Z", "Primary": "a", "Sessions": 3, "LiveSessions": 2});
    dry_run(description).answers_instead::<EndingBody<'_>>(schemas, 200, text, example)
}

pub fn set(schemas: &mut SchemaGenerator) -> Description {
    dry_run(Description::of(
        TAG,
        "Wish something of a client session",
        "Force it to be Primary, or exclude it. It takes the place of what is wished of the session already; of all sessions of a group \
         one is forced at most. Nobody loses the lease that it has: a Primary yields with its next heartbeat, and is waited for.",
    ))
    .asks_the_database()
    .takes::<WantedWish>(
        schemas,
        &[
            ("Maintenance for two hours", json!({"Wish": "Excluded", "For": "02:00:00"})),
            ("Primary until it is withdrawn", json!({"Wish": "Forced"})),
        ],
    )
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .answers::<OutlookBody<'_>>(
        schemas,
        "It is wished, and this is what comes of it.",
        &["Cache-Control"],
        an_outlook(json!({"Wish": "Forced", "WhenSilent": "Replace", "Until": null})),
    )
    .answers_alike(200, DRY)
}

pub fn withdraw(schemas: &mut SchemaGenerator) -> Description {
    dry_run(Description::of(
        TAG,
        "Withdraw what is wished of a client session",
        "Who is Primary stays it, until another is healthier. Where nothing is wished, nothing changes.",
    ))
    .asks_the_database()
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .answers::<OutlookBody<'_>>(schemas, "It is withdrawn.", &["Cache-Control"], an_outlook(Value::Null))
    .answers_alike(200, DRY)
}

pub fn switch_over(schemas: &mut SchemaGenerator) -> Description {
    dry_run(Description::of(
        TAG,
        "Switch over",
        "Have another session be Primary, once. The Primary yields with its next heartbeat, and is waited for. If the one before is \
         healthier by more than the margin, it takes over again afterwards: exclude it to prevent that. Given up after two timeouts.",
    ))
    .asks_the_database()
    .query(
        "wait",
        json!({"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_S}),
        "For how many seconds to wait for it. If it has come about by then it is answered 200, with what came of it.",
    )
    .takes::<WantedSwitchOver>(schemas, &[("To one of them", json!({"To": "b"})), ("To the best of the others", json!({}))])
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .refuses_because(Refusal::Conflict, "It would not come about: the reason says why.")
    .answers::<OutlookBody<'_>>(
        schemas,
        "It is wished, and this is what comes of it.",
        &["Cache-Control"],
        an_outlook(json!({"Wish": "SwitchTo", "WhenSilent": null, "Until": "2026-11-23T03:14:04.251Z"})),
    )
    .answers_alike(200, DRY)
}

pub fn cancel_switch_over(schemas: &mut SchemaGenerator) -> Description {
    dry_run(Description::of(
        TAG,
        "Cancel a switch-over",
        "One that has come about stays so. Where none is under way, nothing changes.",
    ))
    .asks_the_database()
    .refuses_because(Refusal::NotFound, NO_GROUP)
    .answers::<OutlookBody<'_>>(schemas, "None is under way any more.", &["Cache-Control"], an_outlook(Value::Null))
    .answers_alike(200, DRY)
}

pub fn override_role(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "Override a role",
        "Have a session be Primary, or no longer by an operator's word. While it is silent, nobody takes its place.",
    )
    .asks_the_database()
    .takes::<WantedOverride>(
        schemas,
        &[("For an hour", json!({"Value": 1, "ExpirationPeriod": "01:00:00"})), ("Off", json!({"Value": "Off"}))],
    )
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .answers::<RoleOverride>(
        schemas,
        "It is so.",
        &[],
        json!({"Value": 1, "RoleOverrideExpirationTime": "2026-11-23T04:12:04.251Z"}),
    )
}
