//! What operators look at, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::failover::risks::Risk;
use crate::http::described::refusals::Refusal;
use crate::http::described::{self, Description};
use crate::http::status::{
    DEFAULT_COUNT, GroupBody, HistoryBody, MAX_COUNT, MAX_SEARCH_CHARS, NamespaceBody, ORDERS, PageBody,
};

/// What these operations are listed under.
pub const TAG: &str = "Status";

fn a_wish() -> Value {
    json!({
        "Wish": "Excluded",
        "WhenSilent": null,
        "Until": "2026-11-23T05:00:00Z",
        "Since": "2026-11-23T03:00:00Z",
    })
}

fn a_group() -> Value {
    let session = |id: &str, role: i16| {
        json!({
            "SessionId": id,
            "Name": null,
            "Role": role,
            "RoleSince": "2026-11-23T03:12:04.251Z",
            "Live": true,
            "PercentHealthyStreams": 100,
            "HeartbeatAgeMs": 4_200,
            "LeaseLeftMs": 25_800,
            "Risks": [],
            "HeartbeatIntervalMs": 15_000,
            "DataStillMs": if role == 1 { json!(0) } else { Value::Null },
            "ClockAheadMs": 0,
            "Wish": if role == 1 { Value::Null } else { a_wish() },
        })
    };
    json!({
        "TenantId": "plant",
        "NamespaceId": "line1",
        "GroupId": "pump",
        "Name": "Feed pump",
        "FailoverTimeout": "00:00:30",
        "Milliseconds": 30_000,
        "Risks": [],
        "HealthSwings": false,
        "Primary": "a",
        "PrimarySince": "2026-11-23T03:12:04.251Z",
        "PendingPrimary": null,
        "HandoverFrom": null,
        "InDoubtUntil": null,
        "Term": 7,
        "LastDataSendTime": "2026-11-23T03:15:11Z",
        "LastDataProcessedTime": "2026-11-23T03:15:11Z",
        "LastDataSendAgeMs": 4_300,
        "StandbysReady": 1,
        "RegisteredSessions": 2,
        "LiveSessions": 2,
        "VacantByWish": null,
        "Sessions": [session("a", 1), session("b", 0)],
        "Time": "2026-11-23T03:15:15.3Z",
    })
}

/// A list of groups.
fn list(schemas: &mut SchemaGenerator, described: Description) -> Description {
    described
        .asks_the_database()
        .query(
            "search",
            json!({"type": "string", "maxLength": MAX_SEARCH_CHARS, "pattern": r"^[^\u0000]*$"}),
            "A part of their id, name, description, tenant or namespace, or of the id of one of their sessions, in any case. By their sessions at most 10,000 groups are found.",
        )
        .query("at_risk", json!({"type": "boolean", "default": false}), "Whether to list only groups at risk.")
        .query(
            "risk",
            json!({"type": "string", "enum": Risk::ALL.map(Risk::name)}),
            "To list only groups at that risk; it comes before `at_risk`. Of very many groups at risk the first ten thousand are known, and of each risk the first thousand.",
        )
        .query(
            "handing_over",
            json!({"type": "boolean", "default": false}),
            "Whether to list only groups in which one has stepped down and another is about to take over; it comes before `at_risk`.",
        )
        .query(
            "sort",
            json!({"type": "string", "enum": ORDERS.map(|(name, _)| name), "default": "risk"}),
            "In which order: those at risk first, or by id or term, with a `-` backwards.",
        )
        .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
        .query("count", described::number_up_to(MAX_COUNT, DEFAULT_COUNT), "How many to list.")
        .answers::<PageBody<'_>>(
            schemas,
            "The groups, those at risk first.",
            &["Cache-Control"],
            json!({
                "Total": 1,
                "AtRisk": 0,
                "Counted": {
                    "AgeMs": 6_250,
                    "Groups": 1,
                    "AtRisk": 0,
                    "NoPrimary": 0,
                    "NoStandby": 0,
                    "PrimaryUnhealthy": 0,
                    "Flapping": 0,
                    "HandingOver": 0,
                    "SameIdTwice": 0,
                    "DataStandsStill": 0,
                    "ClockAhead": 0,
                    "SeldomHeartbeats": 0,
                    "ManySessions": 0,
                    "NewIdEachStart": 0,
                    "InDoubt": 0,
                    "RegisteredSessions": 2,
                    "LiveSessions": 2,
                },
                "DatabaseHistory": null,
                "Groups": [a_group()],
            }),
        )
}

pub fn of_namespace(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "The state of the groups of a namespace",
        "Groups with what is true now, those at risk first; of each the first 16 sessions.",
    );
    list(schemas, described)
}

pub fn of_tenant(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "The state of the groups of a tenant",
        "As that of a namespace. For those who may read all namespaces of the tenant.",
    );
    list(schemas, described)
}

pub fn of_everything(schemas: &mut SchemaGenerator) -> Description {
    let described = Description::of(
        TAG,
        "The state of the groups of all tenants",
        "As that of a namespace. For those who may read all tenants.",
    );
    list(schemas, described)
}

pub fn of_group(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "The state of a group",
        "Who holds which role since when, health, and the time left of each lease; with all sessions.",
    )
    .asks_the_database()
    .refuses_because(Refusal::NotFound, "There is no such group.")
    .answers::<GroupBody<'_>>(schemas, "The group.", &["Cache-Control"], {
        let mut group = a_group();
        group["Description"] = json!("Feeds the boiler from the tank in yard 2.");
        group
    })
}

macro_rules! namespaces_text {
    ($for_whom:literal) => {
        concat!(
            "As counted when it is asked for, or where there are very many groups in the background every ten seconds or so. ",
            $for_whom
        )
    };
}

pub fn namespaces(schemas: &mut SchemaGenerator) -> Description {
    let summary = "The namespaces of all tenants";
    list_namespaces(schemas, summary, namespaces_text!("For those who may read all tenants."))
}

pub fn namespaces_of_tenant(schemas: &mut SchemaGenerator) -> Description {
    let summary = "The namespaces of a tenant";
    list_namespaces(schemas, summary, namespaces_text!("For those who may read all namespaces of the tenant."))
}

fn list_namespaces(schemas: &mut SchemaGenerator, summary: &'static str, text: &'static str) -> Description {
    Description::of(TAG, summary, text)
        .query(
            "search",
            json!({"type": "string", "maxLength": MAX_SEARCH_CHARS, "pattern": r"^[^\u0000]*$"}),
            "A part of the tenant's or the namespace's name, in any case.",
        )
        .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
        .query("count", described::whole_number_without_default(), "How many to list; all where it is absent.")
        .answers::<Vec<NamespaceBody<'_>>>(
            schemas,
            "The namespaces that have groups.",
            &["Total-Count", "Cache-Control"],
            json!([{"TenantId": "plant", "NamespaceId": "line1", "Groups": 1, "GroupsAtRisk": 0}]),
        )
}

/// The histories of the database.
fn list_histories(schemas: &mut SchemaGenerator, described: Description) -> Description {
    described.asks_the_database().answers::<Vec<HistoryBody<'_>>>(
        schemas,
        "The histories, the present one first.",
        &["Cache-Control"],
        json!([
            {
                "History": "6f1c2d8e-4f3b-4d0a-9f6d-0f4c5f1f7a11",
                "Time": "2026-11-23T03:12:04.251Z",
                "Reason": "another_timeline",
                "LastSignAt": "2026-11-23T03:11:58.1Z",
                "Base": 1_795_403_524_251_i64,
                "IsTrusted": false,
                "AgeMs": 62_000,
            },
            {
                "History": "0b8f8f7e-1f52-4f0e-8a55-9f3e5a0b3c21",
                "Time": "2026-10-01T08:00:00Z",
                "Reason": "first",
                "LastSignAt": null,
                "Base": 0,
                "IsTrusted": false,
                "AgeMs": 4_561_000_000_i64,
            },
        ]),
    )
}

const HISTORIES: &str = "A standby that was promoted, or an older state that was restored, is a new history of the database: the end of the one \
    before may be lost. It is noticed before anything is decided, terms and ids go on above all that was given out, and groups are in doubt until \
    nobody can act on a lease that was lost.";

pub fn histories_of_namespace(schemas: &mut SchemaGenerator) -> Description {
    let summary = "The histories of the database, for those who may read a namespace";
    list_histories(schemas, Description::of(TAG, summary, HISTORIES))
}

pub fn histories(schemas: &mut SchemaGenerator) -> Description {
    list_histories(schemas, Description::of(TAG, "The histories of the database", HISTORIES))
}
