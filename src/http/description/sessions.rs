//! The operations on client sessions, described.

use schemars::SchemaGenerator;
use serde_json::json;

use super::wishes::foreseen;
use crate::http::described::Description;
use crate::http::described::refusals::Refusal;
use crate::http::sessions::{HeartbeatAnswer, HeartbeatBody, Registration};
use crate::http::values::{IdText, RoleNumber};

/// What these operations are listed under.
pub const TAG: &str = "Client sessions";

const NO_SESSION: &str = "There is no such group or session.";

fn an_id(schemas: &mut SchemaGenerator, described: Description) -> Description {
    described.answers::<IdText>(schemas, "The session's id.", &[], json!("a"))
}

pub fn register(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Register a client session",
        "It touches neither roles nor leases. The same Id again, with the same Name or without one, changes nothing and is answered alike.",
    )
    .asks_the_database()
    .takes::<Registration>(schemas, &[("With an id", json!({"Id": "a", "Name": "Adapter A"})), ("Without", json!({}))])
    .refuses_because(Refusal::NotFound, "There is no such group.")
    .refuses_because(
        Refusal::Conflict,
        "The session is registered with another Name, or the group has as many sessions as it may.",
    );
    described.answers::<IdText>(schemas, "The session's id.", &["Failover-Warning"], json!("a"))
}

pub fn heartbeat(schemas: &mut SchemaGenerator) -> Description {
    let role = schemas.subschema_for::<RoleNumber>().to_value();
    Description::of(
        TAG,
        "Send a heartbeat",
        "To be sent every half failover timeout (Failover-Timeout-Ms of the last answer), in every role, one at a time. Wait for an answer for half a timeout \
         at most, then send the next with new values. What was answered 200 has been committed. On 404 stop acting at once, then register the group and the session again. On any \
         other error, or no answer, send the next at its time, or after Retry-After seconds where that is sooner; and act as Primary only as long as the last \
         lease lasts.",
    )
    .asks_the_database()
    .header(
        "Failover-Role",
        role,
        "The role in which the client was acting when it sent this. A Primary that was told to yield and then says 0 lets its successor start at once; \
         and one that says 1 stays Primary where the database has lost the grant that it acts on.",
    )
    .header(
        "Failover-Term",
        json!({"type": "integer", "format": "int64", "minimum": 0}),
        "The highest Failover-Term that the client has been told. Terms go on above it, even if the database was set back.",
    )
    .takes::<HeartbeatBody>(
        schemas,
        &[
            (
                "All is well",
                json!({
                    "PercentHealthyStreams": 100,
                    "HeartbeatTime": "2026-11-23T03:12:04.251Z",
                    "LastDataSendTime": "2026-11-23T03:12:03Z",
                }),
            ),
            ("Half of the streams are down", json!({"PercentHealthyStreams": 50})),
        ],
    )
    .refuses_because(Refusal::NotAllowed, "The caller may not use sessions there, or the session is bound to another.")
    .refuses_because(Refusal::NotFound, "There is no such group or session: stop acting at once, then register again.")
    .answers::<HeartbeatAnswer>(
        schemas,
        "The role, and the group's watermark: the LastDataSendTime to resume from after a takeover.",
        &["Failover-Term", "Failover-Timeout-Ms", "Failover-Lease-Ms", "Cache-Control"],
        json!({"Role": 1, "LastDataSendTime": "2026-11-23T03:12:03Z"}),
    )
}

pub fn delete(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Delete a client session",
        "How a client says goodbye, after it has stopped: nobody waits for its lease to run out. Whoever else deletes a session says \
         by=operator: its client does not know, and may act on its lease until that has run out or its next heartbeat is answered 404. \
         So nobody is granted Primary before the end of the lease. Where callers are known by name, a deletion by another than who \
         registered the session counts as that in any case.",
    )
    .asks_the_database()
    .query(
        "by",
        json!({"type": "string", "enum": ["client", "operator"], "default": "client"}),
        "Who deletes it: its client, which has stopped, or somebody else.",
    )
    .refuses_because(Refusal::NotFound, NO_SESSION);
    let described = an_id(schemas, described);
    foreseen(schemas, described)
}
