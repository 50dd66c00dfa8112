//! Paths: literal segments in any case, empty segments left out, ids decoded strictly.

use std::borrow::Cow;
use std::future::{Ready, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::Uri;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::errors::ApiError;
use crate::ids::{GroupId, GroupPath, InvalidId, MAX_CHARS, NamespaceId, NamespacePath, SessionId, TenantId};

/// The groups of a namespace.
pub const GROUPS: &str = "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups";
/// One group.
pub const GROUP: &str = "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}";
/// The client sessions of a group.
pub const SESSIONS: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/clientsessions";
/// One client session.
pub const SESSION: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/clientsessions/{sessionId}";

/// The changes of a group's roles.
pub const TRANSITIONS: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/transitions";
/// When a group existed.
pub const LIFETIMES: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/lifetimes";
/// The events of a group.
pub const GROUP_EVENTS: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/events";
/// The state of a group.
pub const GROUP_STATUS: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups/{groupid}/status";
/// The events of a namespace.
pub const NAMESPACE_EVENTS: &str = "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/events";
/// The latest changes of roles in a namespace.
pub const NAMESPACE_TRANSITIONS: &str =
    "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/transitions";
/// The state of the groups of a namespace.
pub const NAMESPACE_STATUS: &str = "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/status";
/// The histories of the database, for those who may read a namespace.
pub const NAMESPACE_HISTORIES: &str = "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/histories";
/// The events of all tenants.
pub const EVENTS: &str = "/api/v1/clientfailover/events";
/// The latest changes of roles in all tenants.
pub const ALL_TRANSITIONS: &str = "/api/v1/clientfailover/transitions";
/// The state of the groups of all tenants.
pub const STATUS: &str = "/api/v1/clientfailover/status";
/// The histories of the database.
pub const HISTORIES: &str = "/api/v1/clientfailover/histories";
/// The namespaces of all tenants.
pub const NAMESPACES: &str = "/api/v1/clientfailover/namespaces";

/// The API keys of a tenant.
pub const TENANT_KEYS: &str = "/api/v1/tenants/{tenantId}/clientfailover/keys";
/// One of them.
pub const TENANT_KEY: &str = "/api/v1/tenants/{tenantId}/clientfailover/keys/{key}";
/// The API keys of all tenants.
pub const KEYS: &str = "/api/v1/clientfailover/keys";
/// One of them.
pub const KEY: &str = "/api/v1/clientfailover/keys/{key}";

/// What is counted, for Prometheus.
pub const METRICS: &str = "/metrics";
/// Whether the process lives.
pub const LIVE: &str = "/health/live";
/// Whether it can serve.
pub const READY: &str = "/health/ready";
/// The page for operators.
pub const PAGE: &str = "/";
/// What the page consists of.
pub const PAGE_FILE: &str = "/page/{file}";
/// The description of the API.
pub const DESCRIPTION: &str = "/openapi.json";
/// The page to try the API on.
pub const DOCS: &str = "/docs";
/// What that page loads.
pub const DOCS_FILE: &str = "/docs/{file}";

/// What an id looks like, for the description of the API.
pub struct IdText;

/// A tenant's id, for the description of the API.
pub struct TenantText;

/// What matches an id: no control character, slash or backslash anywhere, no white space at an end,
/// and not a dot or two. Nor, where it is the only character, one of `never_alone`.
fn id_pattern(never_alone: &str) -> String {
    const NEVER: &str = r"/\\\u0000-\u001f\u007f-\u009f";
    // In full: what dialects of patterns take for white space differs.
    const SPACE: &str = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
    let any = format!("[^{NEVER}]");
    let edge = format!("[^{NEVER}{SPACE}]");
    let no_dot = format!("[^.{NEVER}{SPACE}]");
    let alone = format!("[^.{never_alone}{NEVER}{SPACE}]");
    format!("^({alone}|{edge}{no_dot}|{no_dot}{edge}|{edge}{any}+{edge})$")
}

impl JsonSchema for IdText {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARS,
            "pattern": id_pattern(""),
            "description": "1 to 260 characters, with no control character, slash or backslash, no white space at the ends, and not '.' or '..'. Upper and lower case are different. A new one holds no character that nobody can see, or that changes the order of others.",
        })
    }
}

impl JsonSchema for TenantText {
    fn schema_name() -> Cow<'static, str> {
        "TenantId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARS,
            "pattern": id_pattern("*"),
            "description": "An id that is not '*', which stands for all tenants where callers are given tenants.",
        })
    }
}

/// What an id looks like where it may be left out: then, and where it is null or empty, one is
/// made.
pub fn optional_id_schema(description: &str) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "maxLength": MAX_CHARS,
        "pattern": format!("^$|{}", id_pattern("")),
        "description": description,
    })
}

/// The literal segments and their places, counted from 0.
const LITERALS: [(usize, &str); 22] = [
    (0, "api"),
    (1, "v1"),
    (2, "tenants"),
    (2, "clientfailover"),
    (3, "events"),
    (3, "transitions"),
    (3, "status"),
    (3, "namespaces"),
    (3, "keys"),
    (4, "namespaces"),
    (4, "clientfailover"),
    (5, "keys"),
    (6, "clientfailover"),
    (7, "groups"),
    (7, "events"),
    (7, "transitions"),
    (7, "status"),
    (9, "clientsessions"),
    (9, "transitions"),
    (9, "lifetimes"),
    (9, "events"),
    (9, "status"),
];
const TENANT: usize = 3;
const NAMESPACE: usize = 5;
const GROUP_PLACE: usize = 8;
const SESSION_PLACE: usize = 10;

/// Writes the request's path as the routes are written. Most clients write it so; only others are
/// rewritten.
pub fn normalise(request: &mut ServiceRequest) {
    let Some(path) = normal_form(request.uri().path()) else { return };
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// The path in normal form; `None` if it has it.
fn normal_form(path: &str) -> Option<String> {
    let below_root = path.strip_prefix('/').filter(|below| !below.is_empty())?;
    let segments = || below_root.split('/').filter(|segment| !segment.is_empty()).enumerate();
    // Below a tenant the fourth segment is its name, below its namespaces the sixth is one's; these
    // keep their case.
    let has_tenant = segments().nth(2).is_some_and(|(_, segment)| is(segment, "tenants"));
    let has_namespace = has_tenant && segments().nth(4).is_some_and(|(_, segment)| is(segment, "namespaces"));
    let literal = |place: usize, segment: &str| {
        let literals = LITERALS.iter().filter(|(at, _)| {
            *at == place && !(has_tenant && place == TENANT) && !(has_namespace && place == NAMESPACE)
        });
        literals.map(|(_, literal)| *literal).find(|literal| is(segment, literal))
    };
    let is_normal = below_root.split('/').all(|segment| !segment.is_empty())
        && segments().all(|(place, segment)| literal(place, segment).is_none_or(|l| l == segment));
    if is_normal {
        return None;
    }
    let mut normal = String::with_capacity(path.len());
    for (place, segment) in segments() {
        normal.push('/');
        normal.push_str(literal(place, segment).unwrap_or(segment));
    }
    Some(if normal.is_empty() { "/".to_owned() } else { normal })
}

/// Whether a segment is that literal: in any case, and however it is encoded.
fn is(segment: &str, literal: &str) -> bool {
    segment.eq_ignore_ascii_case(literal)
        || segment.contains('%') && decode(segment).is_some_and(|decoded| decoded.eq_ignore_ascii_case(literal))
}

/// The names in a path, as they are written there.
pub struct RawNames<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The namespace, below a tenant's.
    pub namespace: Option<&'a str>,
    /// The group, below a namespace's.
    pub group: Option<&'a str>,
}

/// The names in a path in normal form, if it is below a tenant's.
pub fn raw_names(path: &str) -> Option<RawNames<'_>> {
    let mut segments = path.strip_prefix("/api/v1/tenants/")?.split('/');
    let tenant = segments.next().filter(|tenant| !tenant.is_empty())?;
    let namespace = segments.next().filter(|literal| *literal == "namespaces").and_then(|_| segments.next());
    let group = match (namespace, segments.next(), segments.next()) {
        (Some(_), Some("clientfailover"), Some("groups")) => segments.next(),
        _ => None,
    };
    Some(RawNames { tenant, namespace, group })
}

/// Whether a path in normal form is one of those that a template such as [`GROUP`] stands for.
pub fn fits(path: &str, template: &str) -> bool {
    let mut wanted = template.split('/');
    let fits = path.split('/').all(|segment| match wanted.next() {
        Some(name) if name.starts_with('{') => !segment.is_empty(),
        Some(literal) => literal == segment,
        None => false,
    });
    fits && wanted.next().is_none()
}

/// A segment as the name that it stands for; `None` where it is not UTF-8.
pub fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

fn segment(request: &HttpRequest, place: usize) -> Result<String, InvalidId> {
    let raw = request.uri().path().split('/').nth(place + 1).unwrap_or_default();
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| InvalidId::NotUtf8)?;
    Ok(decoded.into_owned())
}

fn id<T>(
    request: &HttpRequest,
    place: usize,
    name: &str,
    parse: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<T, ApiError> {
    segment(request, place).and_then(parse).map_err(|wrong| ApiError::bad_id(name, wrong))
}

/// The namespace that a path names.
pub struct InNamespace(pub NamespacePath);

/// The group that a path names.
pub struct InGroup(pub GroupPath);

/// The client session that a path names.
pub struct InSession(pub GroupPath, pub SessionId);

fn namespace_of(request: &HttpRequest) -> Result<NamespacePath, ApiError> {
    Ok(NamespacePath {
        tenant: id(request, TENANT, "tenantId", TenantId::parse)?,
        namespace: id(request, NAMESPACE, "namespaceId", NamespaceId::parse)?,
    })
}

fn group_of(request: &HttpRequest) -> Result<GroupPath, ApiError> {
    Ok(GroupPath { parent: namespace_of(request)?, group: id(request, GROUP_PLACE, "groupid", GroupId::parse)? })
}

/// The tenant whose keys a path is about; `None` for all.
pub struct InKeys(pub Option<TenantId>);

/// The key that a path names.
pub struct OneKey(pub Option<TenantId>, pub i64);

fn keys_of(request: &HttpRequest) -> Result<Option<TenantId>, ApiError> {
    match raw_names(request.uri().path()) {
        Some(_) => id(request, TENANT, "tenantId", TenantId::parse).map(Some),
        None => Ok(None),
    }
}

fn key_of(request: &HttpRequest) -> Result<i64, ApiError> {
    let text = request.uri().path().rsplit('/').next().unwrap_or_default();
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| ApiError::bad("key must be the number of a key.", "Use a number that the list of keys has."))
}

impl FromRequest for InKeys {
    type Error = ApiError;
    type Future = Ready<Result<InKeys, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(keys_of(request).map(InKeys))
    }
}

impl FromRequest for OneKey {
    type Error = ApiError;
    type Future = Ready<Result<OneKey, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(keys_of(request).and_then(|tenant| Ok(OneKey(tenant, key_of(request)?))))
    }
}

impl FromRequest for InNamespace {
    type Error = ApiError;
    type Future = Ready<Result<InNamespace, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(namespace_of(request).map(InNamespace))
    }
}

impl FromRequest for InGroup {
    type Error = ApiError;
    type Future = Ready<Result<InGroup, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(group_of(request).map(InGroup))
    }
}

impl FromRequest for InSession {
    type Error = ApiError;
    type Future = Ready<Result<InSession, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = || id(request, SESSION_PLACE, "sessionId", SessionId::parse);
        ready(group_of(request).and_then(|path| Ok(InSession(path, session()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_normal_form_is_left_alone() {
        for path in ["/", "/health/live", "/api/v1/tenants/T/namespaces/N/clientfailover/groups/G/clientsessions/S"] {
            assert_eq!(normal_form(path), None, "{path}");
        }
    }

    #[test]
    fn empty_segments_are_left_out() {
        for (path, normal) in [
            ("//", "/"),
            ("///", "/"),
            ("//health//live//", "/health/live"),
            (
                "/api/v1//tenants/T/namespaces/N//ClientFailover//groups/",
                "/api/v1/tenants/T/namespaces/N/clientfailover/groups",
            ),
        ] {
            assert_eq!(normal_form(path).as_deref(), Some(normal), "{path}");
        }
        assert_eq!(normal_form("*"), None);
        assert_eq!(normal_form(""), None);
    }

    #[test]
    fn literal_segments_are_known_when_they_are_encoded_and_ids_are_left_as_they_are() {
        assert_eq!(
            normal_form("/api/v1/%74enants/%74/namespaces/n/client%46ailover/groups/%67").as_deref(),
            Some("/api/v1/tenants/%74/namespaces/n/clientfailover/groups/%67")
        );
    }

    #[test]
    fn literal_segments_take_their_case_and_ids_keep_theirs() {
        assert_eq!(
            normal_form("/API/v1/Tenants/Groups/NAMESPACES/Tenants/ClientFailover/Groups/G/clientSessions/API/")
                .as_deref(),
            Some("/api/v1/tenants/Groups/namespaces/Tenants/clientfailover/groups/G/clientsessions/API"),
        );
        assert_eq!(normal_form("/api/v1/ClientFailover/Status").as_deref(), Some("/api/v1/clientfailover/status"));
        assert_eq!(
            normal_form("/api/v1/tenants/Status/Namespaces/n/ClientFailover/Events").as_deref(),
            Some("/api/v1/tenants/Status/namespaces/n/clientfailover/events")
        );
    }
}
