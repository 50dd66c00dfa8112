//! The operations of the released form, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::wishes::{foreseen, would_end};
use crate::http::described::refusals::Refusal;
use crate::http::described::{self, Description};
use crate::http::groups::Configuration;
use crate::http::released::{ClientSession, GroupConfiguration, HeartbeatAnswer, HeartbeatBody, Version};
use crate::http::sessions::Registration;
use crate::http::values::RoleNumber;

/// What these operations are listed under.
pub const TAG: &str = "Released form";

const NO_GROUP: &str = "There is no such group.";
const NO_SESSION: &str = "There is no such group or session.";

fn a_group() -> Value {
    json!({"Id": "pump", "Name": null, "Description": null, "FailoverTimeout": "00:01:00", "AdditionalData": null})
}

fn a_session() -> Value {
    json!({
        "Id": "HOST-A1.OpcUa",
        "Name": "HOST-A1 OpcUa",
        "Heartbeat": {
            "FailoverScore": 100,
            "LastDataProcessedTime": "2026-11-23T03:12:03Z",
            "HeartbeatTime": "2026-11-23T03:12:04.251Z",
        },
        "Role": 1,
        "HeartbeatPosted": true,
        "RoleOverride": 0,
        "RoleOverrideExpirationTime": null,
        "AdditionalData": null,
    })
}

pub fn version(schemas: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Get the version", "The version of the service.").answers::<Version>(
        schemas,
        "The version.",
        &[],
        json!({"Version": "0.1.0"}),
    )
}

pub fn list_groups(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "List the groups",
        "The configurations of all groups, in order of Id (bytewise). The answer is streamed: it may be of any length.",
    )
    .asks_the_database()
    .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
    .query("count", described::whole_number_without_default(), "How many to list; all where it is absent.")
    .answers::<Vec<GroupConfiguration<'_>>>(
        schemas,
        "The groups.",
        &["Total-Count", "Cache-Control"],
        json!([a_group()]),
    )
}

pub fn create_group(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "Create a group",
        "Answered 201. The same Id again changes nothing and is answered 200 if what the body names agrees; what it leaves out may be anything.",
    )
    .asks_the_database()
    .takes::<Configuration>(
        schemas,
        &[("As adapters do", json!({"Id": "pump", "FailoverTimeout": "00:01:00"})), ("Without an id", json!({}))],
    )
    .refuses_because(
        Refusal::Conflict,
        "The group exists and is set to something else, or the tenant has as many groups as it may.",
    )
    .answers::<GroupConfiguration<'_>>(schemas, "The group.", &[], a_group())
    .answers_alike(200, "It is there already.")
}

pub fn find_group(schemas: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Get a group", "What the group is set to.")
        .asks_the_database()
        .refuses_because(Refusal::NotFound, NO_GROUP)
        .answers::<GroupConfiguration<'_>>(schemas, "The group.", &["Cache-Control"], a_group())
}

pub fn delete_group(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Delete a group",
        "Its sessions go with it; its history stays. A group of which a session is live is deleted by force only.",
    )
    .asks_the_database()
    .query("force", json!({"type": "boolean", "default": false}), "Whether to delete it even if a session is live.")
    .refuses_because(Refusal::NotFound, NO_GROUP)
    .refuses_because(Refusal::Conflict, "A session of the group is live.")
    .answers_nothing("It is deleted.");
    would_end(schemas, described)
}

pub fn list_sessions(schemas: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "List the sessions of a group", "All of them, with the roles that are true now.")
        .asks_the_database()
        .refuses_because(Refusal::NotFound, NO_GROUP)
        .answers::<Vec<ClientSession<'_>>>(schemas, "The sessions.", &["Cache-Control"], json!([a_session()]))
}

pub fn register(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "Register a client session",
        "Answered 201. The same Id again, with the same Name and AdditionalData or without them, changes nothing and is answered 200.",
    )
    .asks_the_database()
    .takes::<Registration>(
        schemas,
        &[("As adapters do", json!({"Id": "HOST-A1.OpcUa", "Name": "HOST-A1 OpcUa"})), ("Without an id", json!({}))],
    )
    .refuses_because(Refusal::NotFound, NO_GROUP)
    .refuses_because(
        Refusal::Conflict,
        "The session is registered with another Name or AdditionalData, or the group has as many sessions as it may.",
    )
    .answers::<ClientSession<'_>>(schemas, "The session.", &["Failover-Warning"], a_session())
    .answers_alike(200, "It is registered already.")
}

pub fn find_session(schemas: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Get a client session", "The session with its last heartbeat, and the role that is true now.")
        .asks_the_database()
        .refuses_because(Refusal::NotFound, NO_SESSION)
        .answers::<ClientSession<'_>>(schemas, "The session.", &["Cache-Control"], a_session())
}

pub fn delete_session(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Delete a client session",
        "How a client says goodbye, after it has stopped: nobody waits for its lease to run out.",
    )
    .asks_the_database()
    .query(
        "by",
        json!({"type": "string", "enum": ["client", "operator"], "default": "client"}),
        "Who deletes it: its client, which has stopped, or somebody else.",
    )
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .answers_nothing("It is deleted.");
    foreseen(schemas, described)
}

pub fn heartbeat(schemas: &mut SchemaGenerator) -> Description {
    let role = schemas.subschema_for::<RoleNumber>().to_value();
    Description::of(
        TAG,
        "Send a heartbeat",
        "To be sent every half failover timeout, in every role, one at a time. What was answered 200 has been committed. Role is never \
         PendingPrimary here: a session that is about to take over stands by until nobody else can act, and is Primary then. On 404, \
         register the group and the session again.",
    )
    .asks_the_database()
    .header("Failover-Role", role, "The role in which the client was acting when it sent this; adapters leave it out.")
    .header(
        "Failover-Term",
        json!({"type": "integer", "format": "int64", "minimum": 0}),
        "The highest Failover-Term that the client has been told; adapters leave it out.",
    )
    .takes::<HeartbeatBody>(
        schemas,
        &[
            ("All is well", json!({"FailoverScore": 100, "LastDataProcessedTime": "2026-11-23T03:12:03.1234567Z"})),
            ("No data yet", json!({"FailoverScore": 50})),
        ],
    )
    .refuses_because(Refusal::NotAllowed, "The caller may not use sessions there, or the session is bound to another.")
    .refuses_because(Refusal::NotFound, NO_SESSION)
    .answers::<HeartbeatAnswer>(
        schemas,
        "The role, and up to when data has been sent: where to go on after a takeover.",
        &["Failover-Term", "Failover-Timeout-Ms", "Failover-Lease-Ms", "Cache-Control"],
        json!({"Role": 1, "LastDataProcessedTime": "2026-11-23T03:12:03Z"}),
    )
}
