//! The operations on API keys: for the admins of a tenant, or of all. A key's text is in the answer
//! that makes it and in no other.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use client_failover_wire::datetime::{self, DateTimeText};
use client_failover_wire::{headers, timespan};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::errors::ApiError;
use super::json::JsonBody;
use super::paths::{InKeys, OneKey};
use super::query;
use super::values::IdText;
use crate::access::api_keys::issue::{self, Issuer, Lifetime, MAX_NAME_CHARS, MAX_PLACES, Replaced, WantedKey};
use crate::access::{Authenticator, Grade, Grant};
use crate::failover::{Caller, Failover};
use crate::ids::{GroupPattern, MAX_CHARS, TenantId};
use crate::store::api_keys::ListedKey;

/// How many keys are listed where nobody says, and the most that one answer lists.
pub const DEFAULT_COUNT: i64 = 100;
pub const MAX_COUNT: i64 = 1_000;

/// What a key says that does not end.
const NEVER: &str = "never";

const TICKS_PER_MICROSECOND: u64 = 10;

/// `GET …/keys`
pub async fn list(
    failover: web::Data<Failover>,
    authenticator: web::Data<Authenticator>,
    caller: Caller,
    InKeys(tenant): InKeys,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let keys = authenticator.keys_for(failover.store(), issuer(&caller), tenant.as_ref().map(TenantId::as_str))?;
    let skip = query::whole_number(&request, "skip")?.unwrap_or(0);
    let count = query::number_up_to(&request, "count", MAX_COUNT)?.unwrap_or(DEFAULT_COUNT);
    let (keys, total) = keys.list(skip, Some(count)).await.map_err(issue::IssueError::from)?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((headers::TOTAL_COUNT, total.to_string()))
        .json(keys.iter().map(KeyBody::of).collect::<Vec<_>>()))
}

/// `POST …/keys`. The same again makes another key.
pub async fn create(
    failover: web::Data<Failover>,
    authenticator: web::Data<Authenticator>,
    caller: Caller,
    InKeys(tenant): InKeys,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let tenant = tenant.as_ref().map(TenantId::as_str);
    // The door lets nobody come here who is less than an admin of that tenant, or of all.
    let keys = authenticator.keys_for(failover.store(), issuer(&caller), tenant)?;
    let made = keys.create(read_wanted(&body, tenant)?).await?;
    tracing::info!(key = made.key, tenant, identity = %caller.identity, operation_id = %caller.operation_id, "API key made");
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(MadeKeyBody {
        key: made.key,
        secret: &made.secret,
        expires_at: made.ends_at.map(|at| datetime::format(Some(at))),
        replaced_expires_at: made.replaced_ends_at.map(|at| datetime::format(Some(at))),
    }))
}

/// `DELETE …/keys/{key}`
pub async fn revoke(
    failover: web::Data<Failover>,
    authenticator: web::Data<Authenticator>,
    caller: Caller,
    OneKey(tenant, key): OneKey,
) -> Result<HttpResponse, ApiError> {
    let tenant = tenant.as_ref().map(TenantId::as_str);
    authenticator.keys_for(failover.store(), issuer(&caller), tenant)?.revoke(key).await?;
    tracing::info!(key, tenant, identity = %caller.identity, operation_id = %caller.operation_id, "API key revoked");
    Ok(HttpResponse::Ok().json(key))
}

fn issuer(caller: &Caller) -> Issuer {
    Issuer { identity: caller.identity.clone(), operation_id: caller.operation_id.clone() }
}

fn read_wanted(body: &JsonBody, tenant: Option<&str>) -> Result<WantedKey, ApiError> {
    const NAME: usize = 0;
    const TENANT: usize = 1;
    const NAMESPACES: usize = 2;
    const GROUPS: usize = 3;
    const ROLE: usize = 4;
    const VALID_FOR: usize = 5;
    const REPLACES: usize = 6;
    const OVERLAP: usize = 7;
    let names = ["Name", "TenantId", "Namespaces", "Groups", "Role", "ValidFor", "Replaces", "Overlap"];
    let object = body.object(names)?;
    let given_tenant = object.text(TENANT)?;
    let tenant = match (tenant, given_tenant) {
        (Some(of_path), given) if given.as_deref().is_none_or(|given| given == of_path) => of_path.to_owned(),
        (Some(_), _) => return Err(object.wrong(TENANT, "the tenant of the path, or left out")),
        (None, Some(given)) => given,
        (None, None) => return Err(object.wrong(TENANT, "a tenant, or '*' for all of them")),
    };
    let grade = object.text(ROLE)?.and_then(|role| Grade::from_text(&role));
    let grade = grade.ok_or_else(|| object.wrong(ROLE, "one of metrics, viewer, client and admin"))?;
    let groups = object.texts(GROUPS)?;
    let lifetime = match object.text(VALID_FOR)?.as_deref() {
        None => Lifetime::Ends(issue::USUAL_LIFETIME),
        Some(NEVER) => Lifetime::Never,
        Some(text) => Lifetime::Ends(
            duration(text).ok_or_else(|| object.wrong(VALID_FOR, "a time span [d.]hh:mm[:ss], or \"never\""))?,
        ),
    };
    let overlap = match object.text(OVERLAP)? {
        None => None,
        Some(text) => {
            Some(duration(&text).ok_or_else(|| object.wrong(OVERLAP, "a time span [d.]hh:mm[:ss[.fffffff]]"))?)
        }
    };
    let replaces = object.whole_number(REPLACES)?.map(|key| Replaced { key, overlap });
    if replaces.is_none() && overlap.is_some() {
        return Err(object.wrong(OVERLAP, "left out where Replaces is"));
    }
    Ok(WantedKey {
        name: object.text(NAME)?.ok_or_else(|| object.wrong(NAME, "a name for people"))?,
        grant: Grant {
            tenant,
            namespaces: object.texts(NAMESPACES)?,
            groups: groups.map(|patterns| patterns.into_iter().map(GroupPattern::from).collect()),
            grade,
        },
        lifetime,
        replaces,
    })
}

fn duration(text: &str) -> Option<Duration> {
    let ticks = u64::try_from(timespan::parse(text)?).ok()?;
    Some(Duration::from_micros(ticks / TICKS_PER_MICROSECOND))
}

/// A grade on the wire, for the description of the API.
pub struct GradeText;

impl JsonSchema for GradeText {
    fn schema_name() -> Cow<'static, str> {
        "AccessRole".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": Grade::ALL.map(Grade::text),
            "description": "metrics: reads what is counted, of all tenants. viewer: reads. client: also uses sessions and creates groups. admin: everything there.",
        })
    }
}

/// A key to be made, in requests. Written by hand as [`read_wanted`] reads it.
pub struct WantedKeyBody;

impl JsonSchema for WantedKeyBody {
    fn schema_name() -> Cow<'static, str> {
        "ApiKeyWanted".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let pattern = r"^[^/\\\u0000-\u001f\u007f-\u009f]*$";
        let id_pattern = json_schema!({"type": "string", "minLength": 1, "maxLength": MAX_CHARS, "pattern": pattern});
        let names = |items: Schema, description: &str| {
            json_schema!({
                "type": ["array", "null"],
                "items": items,
                "minItems": 1,
                "maxItems": MAX_PLACES,
                "description": description,
            })
        };
        json_schema!({
            "type": "object",
            "description": "A key to be made. Names of properties are read in any case, and unknown ones are ignored.",
            "properties": {
                "Name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_NAME_CHARS,
                    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0][^\u0000-\u001f\u007f-\u009f]*$",
                    "description": "For people.",
                },
                "TenantId": {
                    "type": ["string", "null"],
                    "maxLength": MAX_CHARS,
                    "description": "The tenant that it is good in, or * for all. Below a tenant's path it is that one, and may be left out.",
                },
                "Namespaces": names(schemas.subschema_for::<IdText>(), "The namespaces that it is good in; all where it is absent."),
                "Groups": names(id_pattern, "Patterns of the groups that it is good for, in which * stands for any characters; all where it is absent."),
                "Role": schemas.subschema_for::<GradeText>(),
                "ValidFor": {
                    "type": ["string", "null"],
                    "pattern": r"^(never|(\d{1,5}\.)?([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,7})?)?)$",
                    "description": "How long it is good, as [d.]hh:mm[:ss], at most 36500 days; or never, for one that does not end. A year where it is absent.",
                },
                "Replaces": {
                    "type": ["integer", "null"],
                    "format": "int64",
                    "minimum": 1,
                    "description": "The number of a key of the same tenant whose place it takes: it counts as the same caller, so sessions that are bound to that one go on.",
                },
                "Overlap": {
                    "type": ["string", "null"],
                    "pattern": r"^(\d{1,5}\.)?([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,7})?)?$",
                    "description": "For how long the replaced key is still good. Where it is absent its end stays as it is.",
                },
            },
            "required": ["Name", "Role"],
        })
    }
}

/// A key that was made.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "ApiKeyMade")]
pub struct MadeKeyBody<'a> {
    /// Its number.
    key: i64,
    /// Its text, which is in no other answer and nowhere kept.
    secret: &'a str,
    /// When it ends; null for never.
    #[schemars(with = "Option<DateTimeText>")]
    expires_at: Option<String>,
    /// When the key ends whose place it takes, where an overlap was named.
    #[schemars(with = "Option<DateTimeText>")]
    replaced_expires_at: Option<String>,
}

/// What is told of a key.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "ApiKey")]
pub struct KeyBody<'a> {
    /// Its number.
    key: i64,
    /// For people.
    name: &'a str,
    /// The tenant that it is good in; * for all.
    tenant_id: &'a str,
    /// The namespaces that it is good in; null for all.
    namespaces: Option<&'a [String]>,
    /// Patterns of the groups that it is good for; null for all.
    groups: Option<&'a [String]>,
    #[schemars(with = "GradeText")]
    role: &'a str,
    /// Whether it is good now: neither ended nor revoked.
    valid: bool,
    /// The number of the key as whose caller it counts; null for its own.
    counts_as: Option<i64>,
    #[schemars(with = "DateTimeText")]
    created_at: String,
    /// When it ends; null for never.
    #[schemars(with = "Option<DateTimeText>")]
    expires_at: Option<String>,
    /// For how many seconds more it is good; null where it does not end, or is good no more.
    valid_for_seconds: Option<i64>,
    /// When it was last used, to a minute or two.
    #[schemars(with = "Option<DateTimeText>")]
    last_used_at: Option<String>,
    /// When it was revoked.
    #[schemars(with = "Option<DateTimeText>")]
    revoked_at: Option<String>,
}

impl<'a> KeyBody<'a> {
    /// What is told of that one.
    pub fn of(key: &'a ListedKey) -> KeyBody<'a> {
        let time = |at: Option<DateTime<Utc>>| at.map(|at| datetime::format(Some(at)));
        KeyBody {
            key: key.key_id,
            name: &key.name,
            tenant_id: &key.tenant_id,
            namespaces: key.namespaces.as_deref(),
            groups: key.groups.as_deref(),
            role: &key.role,
            valid: key.valid,
            counts_as: key.identity_id,
            created_at: datetime::format(Some(key.created_at)),
            expires_at: time(key.expires_at),
            valid_for_seconds: key.valid_for_s.filter(|_| key.valid).map(|seconds| seconds as i64),
            last_used_at: time(key.last_used_at),
            revoked_at: time(key.revoked_at),
        }
    }
}
