//! The operations on API keys, described.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::http::described::refusals::Refusal;
use crate::http::described::{self, Description};
use crate::http::keys::{DEFAULT_COUNT, KeyBody, MAX_COUNT, MadeKeyBody, WantedKeyBody};

/// What these operations are listed under.
pub const TAG: &str = "API keys";

const NOT_FOR_ALL: &str = "For the admins of the tenant as a whole, where the service takes API keys.";
const FOR_ALL: &str = "For the admins of all tenants, where the service takes API keys.";

const NOT_ALLOWED: &str =
    "Who is asking is no admin there, or would give more than they have, or the service does not take API keys.";

fn a_key() -> Value {
    json!({
        "Key": 3,
        "Name": "adapter-7",
        "TenantId": "plant",
        "Namespaces": ["line1"],
        "Groups": ["pump-*"],
        "Role": "client",
        "Valid": true,
        "CountsAs": null,
        "CreatedAt": "2026-11-23T03:12:04.251Z",
        "ExpiresAt": "2027-11-23T03:12:04.251Z",
        "ValidForSeconds": 31_104_000,
        "LastUsedAt": "2026-11-28T07:01:00Z",
        "RevokedAt": null,
    })
}

fn list(schemas: &mut SchemaGenerator, described: Description) -> Description {
    described
        .asks_the_database()
        .refuses_because(Refusal::NotAllowed, NOT_ALLOWED)
        .query("skip", described::whole_number(0), "How many to leave out at the beginning.")
        .query("count", described::number_up_to(MAX_COUNT, DEFAULT_COUNT), "How many to list.")
        .answers::<Vec<KeyBody<'_>>>(
            schemas,
            "The keys in order of their numbers, also those that are good no more; never their texts.",
            &["Total-Count", "Cache-Control"],
            json!([a_key()]),
        )
}

fn create(schemas: &mut SchemaGenerator, described: Description, example: Value) -> Description {
    described
        .asks_the_database()
        .refuses_because(Refusal::NotAllowed, NOT_ALLOWED)
        .refuses_because(Refusal::NotFound, "There is no such key to be replaced.")
        .refuses_because(Refusal::Conflict, "The tenant has as many valid keys as it may.")
        .takes::<WantedKeyBody>(schemas, &[("For a client", example)])
        .answers::<MadeKeyBody<'_>>(
            schemas,
            "The key. Its text is in this answer and in no other.",
            &["Cache-Control"],
            json!({
                "Key": 3,
                "Secret": "cfk_…",
                "ExpiresAt": "2027-11-23T03:12:04.251Z",
                "ReplacedExpiresAt": null,
            }),
        )
}

fn revoke(described: Description) -> Description {
    described
        .asks_the_database()
        .refuses_because(Refusal::NotAllowed, NOT_ALLOWED)
        .refuses_because(Refusal::NotFound, "There is no such key, or it was revoked already.")
        .answers_with(
            "application/json",
            json!({"type": "integer", "format": "int64"}),
            "The key's number. Every replica refuses the key within five seconds.",
            &[],
            json!(3),
        )
}

pub fn list_of_tenant(schemas: &mut SchemaGenerator) -> Description {
    list(schemas, Description::of(TAG, "The API keys of a tenant", NOT_FOR_ALL))
}

pub fn list_of_all(schemas: &mut SchemaGenerator) -> Description {
    list(schemas, Description::of(TAG, "The API keys of all tenants", FOR_ALL))
}

pub fn create_in_tenant(schemas: &mut SchemaGenerator) -> Description {
    let text =
        "For the admins of the tenant as a whole, where the service takes API keys. The same again makes another key.";
    create(
        schemas,
        Description::of(TAG, "Make an API key of a tenant", text),
        json!({"Name": "adapter-7", "Namespaces": ["line1"], "Groups": ["pump-*"], "Role": "client", "ValidFor": "90.00:00:00"}),
    )
}

pub fn create_in_all(schemas: &mut SchemaGenerator) -> Description {
    let text = "For the admins of all tenants, where the service takes API keys. The same again makes another key.";
    create(
        schemas,
        Description::of(TAG, "Make an API key of any tenant, or of all", text),
        json!({"Name": "prometheus", "TenantId": "*", "Role": "metrics"}),
    )
}

pub fn revoke_in_tenant(_: &mut SchemaGenerator) -> Description {
    revoke(Description::of(TAG, "Revoke an API key of a tenant", NOT_FOR_ALL))
}

pub fn revoke_in_all(_: &mut SchemaGenerator) -> Description {
    revoke(Description::of(TAG, "Revoke an API key of any tenant", FOR_ALL))
}
