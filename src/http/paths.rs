//! What a path names, for handlers: read from the [`Routed`] value of the request, and parsed
//! strictly.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use super::errors::ApiError;
use super::routing::{Name, Routed};
use crate::ids::{GroupId, GroupPath, InvalidId, NamespaceId, NamespacePath, SessionId, TenantId};

/// The namespace that a path names.
pub struct InNamespace(pub NamespacePath);

/// The tenant that a path names.
pub struct InTenant(pub TenantId);

/// The group that a path names.
pub struct InGroup(pub GroupPath);

/// The client session that a path names.
pub struct InSession(pub GroupPath, pub SessionId);

/// The tenant whose keys, or audit trail, a path is about; `None` for all.
pub struct InKeys(pub Option<TenantId>);

/// The key that a path names.
pub struct OneKey(pub Option<TenantId>, pub i64);

/// The file that a path names, as it is written there.
pub struct OneFile(pub String);

/// A name, if the path has one of that kind.
fn find(request: &HttpRequest, name: Name) -> Option<Result<String, InvalidId>> {
    let extensions = request.extensions();
    let found = extensions.get::<Routed>()?.name(name, request.path())?;
    Some(found.map(|text| text.into_owned()))
}

/// A name that the path must have.
fn id<T>(request: &HttpRequest, name: Name, parse: impl Fn(String) -> Result<T, InvalidId>) -> Result<T, ApiError> {
    let found = find(request, name).unwrap_or(Err(InvalidId::Empty));
    found.and_then(parse).map_err(|wrong| ApiError::bad_id(name.text(), wrong))
}

fn namespace_of(request: &HttpRequest) -> Result<NamespacePath, ApiError> {
    Ok(NamespacePath {
        tenant: id(request, Name::Tenant, TenantId::parse)?,
        namespace: id(request, Name::Namespace, NamespaceId::parse)?,
    })
}

fn group_of(request: &HttpRequest) -> Result<GroupPath, ApiError> {
    Ok(GroupPath { parent: namespace_of(request)?, group: id(request, Name::Group, GroupId::parse)? })
}

fn keys_of(request: &HttpRequest) -> Result<Option<TenantId>, ApiError> {
    find(request, Name::Tenant).map(|_| id(request, Name::Tenant, TenantId::parse)).transpose()
}

fn key_of(request: &HttpRequest) -> Result<i64, ApiError> {
    let text = find(request, Name::Key).and_then(Result::ok).unwrap_or_default();
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

impl FromRequest for InTenant {
    type Error = ApiError;
    type Future = Ready<Result<InTenant, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(id(request, Name::Tenant, TenantId::parse).map(InTenant))
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

impl FromRequest for OneFile {
    type Error = ApiError;
    type Future = Ready<Result<OneFile, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(OneFile(find(request, Name::File).and_then(Result::ok).unwrap_or_default())))
    }
}

impl FromRequest for InSession {
    type Error = ApiError;
    type Future = Ready<Result<InSession, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = || id(request, Name::Session, SessionId::parse);
        ready(group_of(request).and_then(|path| Ok(InSession(path, session()?))))
    }
}
