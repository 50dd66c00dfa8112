//! The operations on groups, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::wishes::{foreseen, would_end};
use crate::http::described::refusals::Refusal;
use crate::http::described::{self, Description};
use crate::http::groups::{Configuration, GroupSessions};
use crate::http::values::IdText;

/// What these operations are listed under.
pub const TAG: &str = "Groups";

const NO_GROUP: &str = "There is no such group.";
const FULL: &str = "it exists with another configuration, or the tenant has as many groups as it may.";

fn an_id(schemas: &mut SchemaGenerator, described: Description) -> Description {
    described.answers::<IdText>(schemas, "The group's id.", &[], json!("pump"))
}

fn a_group() -> Value {
    let heartbeat = json!({
        "PercentHealthyStreams": 100,
        "HeartbeatTime": "2026-11-23T03:12:04.251Z",
        "LastDataSendTime": "2026-11-23T03:12:03Z",
    });
    json!({
        "Id": "pump",
        "Name": "Feed pump",
        "Description": null,
        "FailoverTimeout": "00:00:30",
        "Milliseconds": 30_000,
        "Sessions": {"a": {"Id": "a", "Name": "Adapter A"}, "b": {"Id": "b", "Name": null}},
        "Clients": {
            "a": {"SessionId": "a", "Role": 1, "Heartbeat": heartbeat},
            "b": {"SessionId": "b", "Role": 0, "Heartbeat": null},
        },
    })
}

fn configurations() -> [(&'static str, Value); 2] {
    [
        ("With a name and a timeout", json!({"Id": "pump", "Name": "Feed pump", "FailoverTimeout": "00:00:30"})),
        ("In milliseconds", json!({"Milliseconds": 1_500})),
    ]
}

pub fn list(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "List the groups of a namespace",
        "All groups with their sessions, in order of Id (bytewise). The answer is streamed: it may be of any length.",
    )
    .asks_the_database()
    .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
    .query("count", described::whole_number_without_default(), "How many to list; all where it is absent.")
    .answers::<Vec<GroupSessions<'_>>>(
        schemas,
        "The groups.",
        &["Total-Count", "Cache-Control"],
        json!([a_group()]),
    )
}

pub fn create(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Create a group",
        "The same Id again changes nothing and is answered alike if what the body names agrees; what it leaves out may be anything. \
         Where a group of that Id was deleted, the new one goes on from its term, and nobody is Primary before the leases of the old \
         one have run out.",
    )
    .asks_the_database()
    .takes::<Configuration>(schemas, &configurations())
    .refuses_because(Refusal::Conflict, &format!("The group cannot be created: {FULL}"));
    an_id(schemas, described)
}

pub fn find(schemas: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Get a group", "The group with its sessions, and the roles that are true now.")
        .asks_the_database()
        .refuses_because(Refusal::NotFound, NO_GROUP)
        .answers::<GroupSessions<'_>>(schemas, "The group.", &["Cache-Control"], a_group())
}

pub fn put(schemas: &mut SchemaGenerator) -> Description {
    let [(shows, mut example), other] = configurations();
    example["Id"] = "pump".into();
    let described = Description::of(
        TAG,
        "Create a group, or replace its configuration",
        "Sessions and roles stay, and leases already given. An Id in the body must be that of the path. Before a timeout gets shorter, \
         tell the clients that do not heed Failover-Lease-Ms; where it gets longer, tell them afterwards. A group that is created goes \
         on from the term of one of that Id that was deleted.",
    )
    .asks_the_database()
    .takes::<Configuration>(schemas, &[(shows, example), other])
    .refuses_because(Refusal::Conflict, "The tenant has as many groups as it may.");
    let described = an_id(schemas, described);
    foreseen(schemas, described)
}

pub fn delete(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "Delete a group",
        "Its sessions go with it; its history stays. A group of which a session is live is deleted by force only: its Primary does not \
         know, and may act until its lease has run out or its next heartbeat is answered 404. In a group that is created in its place \
         nobody is Primary before that, and the terms go on.",
    )
    .asks_the_database()
    .query("force", json!({"type": "boolean", "default": false}), "Whether to delete it even if a session is live.")
    .refuses_because(Refusal::NotFound, NO_GROUP)
    .refuses_because(Refusal::Conflict, "A session of the group is live.");
    let described = an_id(schemas, described);
    would_end(schemas, described)
}
