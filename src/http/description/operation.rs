//! What those ask for who run the service, described.

use schemars::SchemaGenerator;
use serde_json::json;

use crate::http::described::Description;
use crate::http::described::refusals::Refusal;
use crate::http::whoami::WhoamiBody;

/// What these operations are listed under.
pub const TAG: &str = "Operation";

pub fn live(_: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Whether the process lives", "Answered while it does.").answers_with(
        "application/json",
        json!({"type": "string", "const": "alive"}),
        "It lives.",
        &[],
        json!("alive"),
    )
}

pub fn ready(_: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "Whether the replica can serve", "For load balancers.")
        .refuses_because(
            Refusal::Unavailable,
            "Not now: the database is away or not migrated, or the service is stopping. The reason says which.",
        )
        .answers_with("application/json", json!({"type": "string", "const": "ready"}), "It can.", &[], json!("ready"))
}

pub fn issuer(_: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "Where tokens are to be had",
        "The OpenID configuration of the issuer that is believed here, as the issuer publishes it. Adapters look for it at this path.",
    )
    .refuses_because(Refusal::NotFound, "No issuer is believed here.")
    .refuses_because(Refusal::Unavailable, "The issuer cannot be reached.")
    .answers_with(
        "application/json",
        json!({"type": "object", "required": ["issuer", "jwks_uri"]}),
        "The configuration.",
        &[],
        json!({
            "issuer": "https://login.example.org",
            "token_endpoint": "https://login.example.org/token",
            "jwks_uri": "https://login.example.org/keys",
        }),
    )
}

pub fn whoami(schemas: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "Who asks, and what they may do",
        "It takes credentials that are good, and no right. Where nobody is asked who they are, it tells what anybody may do.",
    )
    .answers::<WhoamiBody<'_>>(
        schemas,
        "Who asks, and what answers.",
        &["Cache-Control"],
        json!({
            "Name": "adapter-7",
            "Identity": "key:3:adapter-7",
            "Kind": "ApiKey",
            "Rights": [{"TenantId": "plant", "NamespaceId": "*", "Groups": null, "Role": "client"}],
            "RightsLeftOut": 0,
            "ClientsCreateGroups": true,
            "Version": "0.1.0",
            "Commit": null,
            "Replica": "failover-1:8080",
        }),
    )
}

pub fn metrics(_: &mut SchemaGenerator) -> Description {
    Description::of(
        TAG,
        "What this replica counts",
        "In the text format of Prometheus. For those who may read all tenants.",
    )
    .answers_with(
        "text/plain",
        json!({"type": "string"}),
        "The metrics.",
        &[],
        json!("# HELP client_failover_heartbeats_total Heartbeats committed by this replica.\n# TYPE client_failover_heartbeats_total counter\nclient_failover_heartbeats_total 42\n"),
    )
}

pub fn description(_: &mut SchemaGenerator) -> Description {
    Description::of(TAG, "This description", "To be tried on the page /docs.").answers_with(
        "application/json",
        json!({"type": "object", "required": ["openapi", "info", "paths"]}),
        "An OpenAPI document.",
        &["Cache-Control"],
        json!({"openapi": "3.1.0", "info": {"title": "client-failover", "version": "0.1.0"}, "paths": {}}),
    )
}
