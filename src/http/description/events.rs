//! Streams of events and the history of roles, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::http::audit::{self, AuditPageBody};
use crate::http::described::refusals::Refusal;
use crate::http::described::{self, Description};
use crate::http::events::KEEP_ALIVE_S;
use crate::http::history::{DEFAULT_COUNT, DEFAULT_LATEST, DeedBody, LifetimeBody, MAX_COUNT, MAX_LATEST};
use crate::store::audit_search::ACTIONS;

/// What these operations are listed under.
pub const TAG: &str = "Events";

const STREAM: &str = "A stream of server-sent events without end: every change of a role and of the configuration, from now on, or after the event that was \
    received last. Its `event` is RoleChanged, GroupCreated, GroupChanged, GroupDeleted, SessionRegistered, SessionDeleted or DatabaseHistoryChanged, and its `data` has \
    the schema of that name. The last of these says that the database has a new history, as after the promotion of a standby: events may be lost, and those that follow \
    have ids above all that were given out before, so that a stream resumes as ever, also after an event that was lost. If events after the one that was received last are no longer kept, the stream begins with EventsMissed. A stream without news says so every 15 s, or as often as `keep-alive` asks, with the comment `still here`; \
    or with another one while it cannot know, as while the database is away.";

fn a_change() -> Value {
    json!({
        "Id": 7,
        "Time": "2026-11-23T03:12:04.251Z",
        "TenantId": "plant",
        "NamespaceId": "line1",
        "GroupId": "pump",
        "SessionId": "b",
        "From": 0,
        "To": 1,
        "Term": 2,
        "Reason": "lease_lapsed",
        "Actor": "heartbeat",
    })
}

fn stream(described: Description) -> Description {
    described
        .header(
            "Last-Event-ID",
            json!({"type": "string", "pattern": "^[0-9]{0,18}$"}),
            "The id of the event that was received last, as browsers send it.",
        )
        .query(
            "last-event-id",
            json!({"type": "integer", "format": "int64", "minimum": 0}),
            "The same, for those who cannot send the header, which comes first.",
        )
        .query(
            "keep-alive",
            json!({"type": "integer", "minimum": 1, "maximum": KEEP_ALIVE_S, "default": KEEP_ALIVE_S}),
            "After how many seconds without news the stream says so.",
        )
        .asks_the_database()
        .answers_with(
            "text/event-stream",
            json!({"$ref": "#/components/schemas/ServerSentEvent"}),
            "The stream. The schema is that of each event.",
            &["Cache-Control"],
            json!({"id": "7", "event": "RoleChanged", "data": a_change().to_string()}),
        )
}

fn list_audit(schemas: &mut SchemaGenerator, described: Description) -> Description {
    let time = || json!({"type": "string", "format": "date-time"});
    let id = || json!({"type": "integer", "format": "int64", "minimum": 0});
    let count = json!({"type": "integer", "minimum": 1, "maximum": audit::MAX_COUNT, "default": audit::DEFAULT_COUNT});
    described
        .asks_the_database()
        .query("since", time(), "Not those before that time.")
        .query("until", time(), "Only those before that time.")
        .query(
            "action",
            json!({"type": "string", "example": "wish_set,wish_ended", "pattern": format!("^({0})(,({0}))*$", ACTIONS.join("|"))}),
            "Only those with one of these actions, separated by commas.",
        )
        .query(
            "who",
            json!({"type": "string", "maxLength": audit::MAX_WHO_CHARS, "pattern": r"^[^\u0000]*$"}),
            "Only those with this in their identity, in any case.",
        )
        .query("before", id(), "The latest first, from the one before this AuditId.")
        .query("after", id(), "The oldest first, from the one after this AuditId. Not together with before.")
        .query("count", count, "How many to list.")
        .answers::<AuditPageBody<'_>>(
            schemas,
            "The entries, and where to go on.",
            &["Cache-Control"],
            json!({
                "Entries": [{
                    "AuditId": 12,
                    "RecordedAt": "2026-11-23T03:12:04.251Z",
                    "Action": "group_changed",
                    "TenantId": "plant",
                    "NamespaceId": "line1",
                    "GroupId": "pump",
                    "SessionId": null,
                    "Identity": "key:3:operator",
                    "OperationId": "4bf92f3577b34da6a3ce929d0e0e4736",
                    "ClaimedTraceId": null,
                    "Before": {"Name": "Feed pump", "Description": null, "Milliseconds": 60_000},
                    "After": {"Name": "Feed pump", "Description": null, "Milliseconds": 30_000},
                }],
                "Next": null,
                "More": false,
            }),
        )
}

const AUDIT: &str = "Who changed what, and what known callers were refused; the latest first, or the oldest first after one. Of a long trail only so many entries are looked at \
    for one answer: while More is true, ask on with Next.";

pub fn audit_of_tenant(schemas: &mut SchemaGenerator) -> Description {
    list_audit(schemas, Description::of(TAG, "The audit trail of a tenant", AUDIT))
}

pub fn audit_of_all(schemas: &mut SchemaGenerator) -> Description {
    list_audit(schemas, Description::of(TAG, "The audit trail of all tenants", AUDIT))
}

pub fn of_namespace(_: &mut SchemaGenerator) -> Description {
    stream(Description::of(TAG, "Follow the events of a namespace", STREAM))
}

pub fn of_group(_: &mut SchemaGenerator) -> Description {
    let summary = "Follow the events of a group, which need not exist yet";
    stream(Description::of(TAG, summary, STREAM))
}

pub fn of_tenant(_: &mut SchemaGenerator) -> Description {
    stream(Description::of(TAG, "Follow the events of a tenant", STREAM))
}

pub fn of_everything(_: &mut SchemaGenerator) -> Description {
    stream(Description::of(TAG, "Follow the events of all tenants", STREAM))
}

/// The latest changes of many groups.
fn latest(described: Description) -> Description {
    described
        .asks_the_database()
        .query("count", described::number_up_to(MAX_LATEST, DEFAULT_LATEST), "How many to list.")
        .answers_with(
            "application/json",
            json!({"type": "array", "items": {"$ref": "#/components/schemas/RoleChanged"}}),
            "The changes.",
            &["Cache-Control"],
            json!([a_change()]),
        )
}

const LATEST: &str = "The latest changes of roles, the latest first: what was before a stream of events began. Those of a tenant or a namespace are \
    looked for among the latest hundred thousand events of all tenants.";

pub fn latest_of_namespace(_: &mut SchemaGenerator) -> Description {
    latest(Description::of(TAG, "The latest changes of roles in a namespace", LATEST))
}

pub fn latest_of_tenant(_: &mut SchemaGenerator) -> Description {
    latest(Description::of(TAG, "The latest changes of roles in a tenant", LATEST))
}

pub fn latest_of_everything(_: &mut SchemaGenerator) -> Description {
    latest(Description::of(TAG, "The latest changes of roles in all tenants", LATEST))
}

pub fn lifetimes(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "When a group existed",
        "From when to when there was a group of this id, as far as that is still kept, the latest first. Who made or deleted it is told to those who may \
            change it.",
    )
    .asks_the_database()
    .refuses_because(Refusal::NotFound, "There is no such group, and no history of one.")
    .answers::<Vec<LifetimeBody>>(
        schemas,
        "The times in which it existed.",
        &["Cache-Control"],
        json!([{
            "Created": "2026-11-20T08:30:00.12Z",
            "CreatedBy": "key:adapter-7",
            "Deleted": "2026-11-23T03:12:04.251Z",
            "DeletedBy": "user:eve",
        }]),
    )
}

/// A part of what happened to a group.
fn in_a_span(described: Description) -> Description {
    let time = json!({"type": "string", "format": "date-time"});
    described
        .asks_the_database()
        .refuses_because(Refusal::NotFound, "There is no such group, and no history of one.")
        .query("since", time.clone(), "Only changes at this time or later.")
        .query("until", time, "Only changes before this time.")
        .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
        .query("count", described::number_up_to(MAX_COUNT, DEFAULT_COUNT), "How many to list.")
}

pub fn transitions(_: &mut SchemaGenerator) -> Description {
    in_a_span(Description::of(
        TAG,
        "The history of a group's roles",
        "Every change of a role that is still kept, the latest first. A deleted group keeps its history.",
    ))
    .answers_with(
        "application/json",
        json!({"type": "array", "items": {"$ref": "#/components/schemas/RoleChanged"}}),
        "The changes.",
        &["Cache-Control"],
        json!([a_change()]),
    )
}

pub fn deeds(schemas: &mut SchemaGenerator) -> Description {
    in_a_span(Description::of(
        TAG,
        "What was done to a group, and by whom",
        "Every change of its configuration and of what is wished of its sessions, and every deletion of a session, that is still kept, the latest first. Who made it is \
            told to those who may change the group.",
    ))
    .answers::<Vec<DeedBody>>(
        schemas,
        "The changes.",
        &["Cache-Control"],
        json!([{
            "Id": 12,
            "Time": "2026-11-23T03:12:04.251Z",
            "Event": "WishSet",
            "By": "basic:eve",
            "SessionId": "b",
            "Wish": {"Wish": "Excluded", "WhenSilent": null, "Until": "2026-11-23T05:12:04.251Z"},
            "Ended": null,
            "Milliseconds": null,
        }]),
    )
}
