//! The description of the API (OpenAPI 3.1), written from the table of routes, the wire types and
//! the limits in the code.
//!
//! Each operation is described in a module beneath, by what it takes and answers beyond what is
//! true of every operation; that is added here. Schemas come from the wire types, and those of
//! bodies that are read by hand stand beside their readers.

use client_failover_wire::ErrorBody;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::described::refusals::Refusal;
use super::described::{AN_OPERATION_ID, DescribedOperation, JSON, header_references};
use super::events::{event_of_stream, kinds_of_events};
use super::values::{IdText, TenantText};

pub mod events;
pub mod groups;
pub mod keys;
pub mod operation;
pub mod released;
pub mod sessions;
pub mod status;
pub mod wishes;

const ABOUT: &str = "Redundant clients register as client sessions of a failover group and send heartbeats; each is answered with its role, so that \
exactly one of a group acts and another takes over when it falls silent or falls ill.\n\n\
A client acts as Primary only until Failover-Lease-Ms have passed since it *sent* the last heartbeat that was answered Primary. \
On any other role, and on 404, it stops at once.\n\n\
What is true everywhere: literal segments of paths, names of properties and names of query parameters are read in any case; unknown properties and \
parameters are ignored. Every answer has the header Operation-Id, and every error the body *Error*. HEAD is served wherever GET is. A path that is not served is answered 404, a \
method that a path does not have 405 with the header Allow. Requests can be repeated when an answer was lost.";

/// A path, and what can be done there.
pub struct DescribedPath {
    /// The path, with names in braces for what differs.
    pub text: String,
    /// These names.
    pub names: Vec<&'static str>,
    /// What can be done.
    pub operations: Vec<DescribedOperation>,
}

/// The whole document.
pub fn document(described: impl Iterator<Item = DescribedPath>) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .for_serialize()
        .into_generator();
    let mut paths = Map::new();
    for path in described {
        let names = path.names.iter().chain(&["traceparent"]);
        let named: Vec<Value> = names.map(|name| json!({"$ref": format!("#/components/parameters/{name}")})).collect();
        let mut item = Map::new();
        for operation in &path.operations {
            let mut described = (operation.describe)(&mut schemas);
            if !path.names.is_empty() {
                described = described.refuses(Refusal::BadRequest);
            }
            item.insert(operation.method.to_ascii_lowercase(), described.into_value(operation));
        }
        if !item.is_empty() {
            item.insert("parameters".to_owned(), named.into());
            paths.insert(path.text, item.into());
        }
    }
    let error = schemas.subschema_for::<ErrorBody<'_>>();
    let kinds = kinds_of_events(&mut schemas);
    let parameters = parameters(&mut schemas);
    let mut definitions = schemas.take_definitions(true);
    let stream = event_of_stream(kinds.iter().map(|(name, _)| *name));
    definitions.insert("ServerSentEvent".to_owned(), stream.to_value());
    definitions.extend(kinds.map(|(name, schema)| (name.to_owned(), schema.to_value())));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "client-failover",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Tells redundant clients which of them acts",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The service that this description comes from"}],
        "tags": [
            {"name": groups::TAG, "description": "Failover groups: clients of which one at a time acts."},
            {"name": sessions::TAG, "description": "The members of a group: register, heartbeat, say goodbye."},
            {"name": released::TAG, "description": "The same groups and sessions as adapters in the field ask for them, below tenants and without."},
            {"name": status::TAG, "description": "What is true now, with what is at risk first."},
            {"name": events::TAG, "description": "What changed, as it happens and afterwards."},
            {"name": keys::TAG, "description": "Keys of the service's own, handed out by admins."},
            {"name": operation::TAG, "description": "Health and metrics of a replica, and this description."},
        ],
        // Any of these, or none where the service asks nobody who they are.
        "security": [{}, {"bearer": []}, {"basic": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "parameters": parameters,
            "headers": headers(),
            "responses": responses(&error.to_value()),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the OpenID Connect issuer that the service trusts, or a key of its own (cfk_…).",
                },
                "basic": {"type": "http", "scheme": "basic", "description": "A name and a password of the users file."},
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A certificate of the authority that the service trusts for clients.",
                },
            },
        },
    })
}

fn parameters(schemas: &mut SchemaGenerator) -> Value {
    let (tenant_text, id_text) = (schemas.subschema_for::<TenantText>(), schemas.subschema_for::<IdText>());
    let id = |name: &str, text: &str, example: &str| {
        let schema = if name == "tenantId" { &tenant_text } else { &id_text };
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": schema,
            "description": text,
            "example": example,
        })
    };
    json!({
        "tenantId": id("tenantId", "The tenant. It exists as soon as it is used.", "plant"),
        "namespaceId": id("namespaceId", "The namespace of the tenant. It exists as soon as it is used.", "line1"),
        "groupid": id("groupid", "The group.", "pump"),
        "key": {
            "name": "key",
            "in": "path",
            "required": true,
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "description": "The number of the API key.",
            "example": 3,
        },
        "sessionId": id("sessionId", "The client session.", "a"),
        "traceparent": {
            "name": "traceparent",
            "in": "header",
            "schema": {"type": "string"},
            "description": "The caller's trace (W3C Trace Context). Its trace id becomes the request's operation id. One that is not well-formed is ignored.",
            "example": format!("00-{AN_OPERATION_ID}-00f067aa0ba902b7-01"),
        },
    })
}

fn headers() -> Value {
    let header = |schema: Value, text: &str, example: Value| json!({"required": true, "schema": schema, "description": text, "example": example});
    json!({
        "Operation-Id": header(
            json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
            "The request's id, by which it is found in the log and in traces: the trace id of the caller's traceparent, else a new one.",
            AN_OPERATION_ID.into(),
        ),
        "Cache-Control": header(
            json!({"type": "string", "const": "no-store"}),
            "The answer is true only now.",
            "no-store".into(),
        ),
        "Failover-Term": header(
            json!({"type": "integer", "format": "int64", "minimum": 0}),
            "The group's term, which rises with every new Primary. Pass it on with the data: a receiver that refuses a lower one than it has seen is safe from a client that does not know that it was replaced.",
            7.into(),
        ),
        "Failover-Timeout-Ms": header(
            json!({"type": "integer", "format": "int64", "minimum": 0}),
            "The group's failover timeout in milliseconds, in every role. Heartbeat at half of it; a change of it is seen in the next answer.",
            30_000.into(),
        ),
        "Failover-Lease-Ms": header(
            json!({"type": "integer", "format": "int64", "minimum": 0}),
            "For how many milliseconds after *sending* this heartbeat the client may act as Primary; 0 if it is not Primary.",
            30_000.into(),
        ),
        "Failover-Warning": {
            "required": false,
            "schema": {"type": "string", "enum": ["NewIdEachStart"]},
            "description": "Present where the group has silent sessions each of which took the place of another: its clients register with a new id at each start. A client keeps its id.",
            "example": "NewIdEachStart",
        },
        "Total-Count": header(
            json!({"type": "integer", "format": "int64", "minimum": 0}),
            "How many there are in all.",
            1.into(),
        ),
        "Retry-After": header(
            json!({"type": "integer", "minimum": 0}),
            "After how many seconds to try again.",
            1.into(),
        ),
        "WWW-Authenticate": header(
            json!({"type": "string"}),
            "The kinds of credentials that the service takes.",
            "Bearer realm=\"client-failover\"".into(),
        ),
        "Allow": header(json!({"type": "string"}), "The methods that the path has.", "GET, POST".into()),
    })
}

fn responses(error: &Value) -> Map<String, Value> {
    let response = |refusal: Refusal| {
        json!({
            "description": refusal.description(),
            "headers": header_references(refusal.headers()),
            "content": {JSON: {"schema": error, "example": refusal.example_body()}},
        })
    };
    Refusal::ALL.into_iter().map(|refusal| (refusal.name(), response(refusal))).collect()
}
