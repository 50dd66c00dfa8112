//! The door: who is asking is found out, and whether they may, before a route is looked for or a
//! body is read.
//!
//! What a request needs is told by its method and the resource that its path names. Whatever is not
//! listed here needs most, so a route that is added is closed until it is opened here.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use super::errors::ApiError;
use super::paths;
use super::routes::{self, Resource};
use super::{OperationId, proxies, sites};
use crate::auth::certificates::ClientCertificate;
use crate::auth::writes::Write;
use crate::auth::{
    ANONYMOUS, Allowed, AuthError, Authenticator, Identity, Permission, Place, Presented, Role, authorize,
};
use crate::failover::refusals::Refusal;
use crate::failover::{Caller, Failover, Recognition};
use crate::ids::Groups;

/// What anybody may ask for: it tells nothing about what is stored.
const OPEN: [&str; 7] =
    [paths::LIVE, paths::READY, paths::PAGE, paths::PAGE_FILE, paths::DESCRIPTION, paths::DOCS, paths::DOCS_FILE];

/// By this header, whatever its value, a script says that it is one. A browser that is told of
/// Basic authentication would ask with a window of its own, over a page that has a form for it.
const SENT_BY_SCRIPT: &str = "X-Requested-With";

/// Lets a request for a resource in: notes on it who is asking, for the handlers.
pub async fn admit(
    request: &ServiceRequest,
    resource: Option<&Resource>,
    authenticator: &Authenticator,
    operation_id: &OperationId,
) -> Result<(), ApiError> {
    let path = resource.map(|resource| resource.path);
    // Health is asked for by machines, under names and addresses of all kinds.
    if path == Some(paths::LIVE) {
        return Ok(());
    }
    if path == Some(paths::READY) {
        note_if_familiar(request, authenticator).await;
        return Ok(());
    }
    // Before anything is waited for.
    let arrived_at = Instant::now();
    sites::check(request)?;
    if path.is_some_and(|path| OPEN.contains(&path)) {
        return Ok(());
    }
    let challenge = match request.headers().contains_key(SENT_BY_SCRIPT) {
        true => authenticator.challenge_for_scripts(),
        false => authenticator.challenge(),
    };
    if !authenticator.is_open() && request.headers().get_all(AUTHORIZATION).nth(1).is_some() {
        return Err(refused(AuthError::Invalid("there are several headers Authorization"), challenge));
    }
    let presented = presented(request);
    let identity = match authenticator.recall(presented) {
        Some(known) => known,
        // Boxed: it is rare, and every request would carry its size.
        None => Box::pin(authenticator.recognise(presented)).await.map_err(|error| refused(error, challenge))?,
    };
    let peer = presented.peer;
    authenticator.count_request(&identity, peer).map_err(|error| refused(error, challenge))?;
    let allowed = check(request, resource, &identity, authenticator.clients_create_groups()).inspect_err(|_| {
        if &*identity.name != ANONYMOUS {
            let (operation_id, claimed_trace) = (operation_id.own.clone(), operation_id.claimed.clone());
            request.extensions_mut().insert(Known { identity: identity.name.clone(), operation_id, claimed_trace });
        }
    })?;
    if let Some(write) = write_of(request.method(), resource) {
        let names = Names::of(request.path(), resource);
        let tenant = names.tenant();
        authenticator.count_write(write, &identity, peer, tenant).map_err(ApiError::TooManyWrites)?;
    }
    if is_familiar(&identity, peer) {
        request.extensions_mut().insert(Familiar);
    }
    if resource.is_some_and(|resource| STREAMS.contains(&resource.path)) {
        request.extensions_mut().insert(Standing::of(request, resource, allowed.groups.clone()));
    }
    request.extensions_mut().insert(Caller {
        identity: identity.name.clone(),
        operation_id: operation_id.own.clone(),
        claimed_trace: operation_id.claimed.clone(),
        arrived_at,
        is_admin: allowed.role == Role::Admin,
        groups: allowed.groups,
        recognition: match &*identity.name {
            ANONYMOUS => Recognition::Nameless,
            _ => Recognition::ByName,
        },
    });
    Ok(())
}

fn presented(request: &ServiceRequest) -> Presented<'_> {
    Presented {
        peer: proxies::origin(request.request()),
        authorization: request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()),
        certificate: request.conn_data::<ClientCertificate>(),
    }
}

/// Somebody who is known by name. Noted on a request that is refused at the door: one that was let
/// in has its [`Caller`].
#[derive(Clone)]
pub struct Known {
    /// Their name.
    pub identity: Arc<str>,
    operation_id: Arc<str>,
    claimed_trace: Option<Arc<str>>,
}

/// Who sent a request, if they are known by name.
pub fn known_caller(request: &HttpRequest) -> Option<Known> {
    let extensions = request.extensions();
    let let_in = extensions.get::<Caller>().filter(|caller| caller.recognition == Recognition::ByName);
    let let_in = let_in.map(|caller| Known {
        identity: caller.identity.clone(),
        operation_id: caller.operation_id.clone(),
        claimed_trace: caller.claimed_trace.clone(),
    });
    let_in.or_else(|| extensions.get::<Known>().cloned())
}

/// Has it recorded that a known caller was refused.
pub fn record_refusal(request: &HttpRequest, known: Known, reason: &str) {
    let Some(failover) = request.app_data::<Data<Failover>>() else { return };
    let names = Names::of(request.path(), routes::find(request.path()));
    let (tenant, namespace, group) = names.each();
    failover.refusals().note(Refusal {
        identity: known.identity,
        operation_id: known.operation_id,
        claimed_trace: known.claimed_trace,
        tenant,
        namespace,
        group,
        request: format!("{} {}", request.method(), request.path()),
        reason: reason.to_owned(),
    });
}

/// Noted on a request of somebody who is no stranger: known by name, or on this machine where
/// nobody is asked for one.
#[derive(Clone, Copy)]
pub struct Familiar;

fn is_familiar(identity: &Identity, peer: Option<IpAddr>) -> bool {
    &*identity.name != ANONYMOUS || peer.is_some_and(|peer| peer.to_canonical().is_loopback())
}

/// How long it may take to find out who asks for what anybody may ask for.
const BRIEFLY: Duration = Duration::from_millis(500);

/// Whoever asks for readiness is answered; by who they are it is decided how much they are told.
async fn note_if_familiar(request: &ServiceRequest, authenticator: &Authenticator) {
    let presented = presented(request);
    let known = match authenticator.recall(presented) {
        Some(known) => Some(known),
        None if presented.authorization.is_none() && presented.certificate.is_none() => None,
        None => {
            let known = tokio::time::timeout(BRIEFLY, Box::pin(authenticator.recognise(presented))).await;
            known.ok().and_then(Result::ok)
        }
    };
    if known.is_some_and(|identity| is_familiar(&identity, presented.peer)) {
        request.extensions_mut().insert(Familiar);
    }
}

/// What goes on for as long as its caller wants.
const STREAMS: [&str; 3] = [paths::GROUP_EVENTS, paths::NAMESPACE_EVENTS, paths::EVENTS];

/// By what a request was let in, to see later whether it still would be.
#[derive(Clone)]
pub struct Standing {
    authorization: Option<Vec<u8>>,
    certificate: Option<ClientCertificate>,
    peer: Option<IpAddr>,
    place: Names,
    groups: Groups,
}

impl Standing {
    fn of(request: &ServiceRequest, resource: Option<&Resource>, groups: Groups) -> Standing {
        Standing {
            authorization: request.headers().get(AUTHORIZATION).map(|value| value.as_bytes().to_vec()),
            certificate: request.conn_data::<ClientCertificate>().cloned(),
            peer: proxies::origin(request.request()),
            place: Names::of(request.path(), resource),
            groups,
        }
    }

    /// The groups of its place that its caller may read.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Whether its caller may still read the same there. While that cannot be told, it is as it
    /// was.
    pub async fn holds(&self, authenticator: &Authenticator) -> bool {
        let presented = Presented {
            authorization: self.authorization.as_deref(),
            certificate: self.certificate.as_ref(),
            peer: self.peer,
        };
        match authenticator.recognise(presented).await {
            Ok(identity) => {
                let place = self.place.as_place();
                authorize(&identity, place, Permission::Read, authenticator.clients_create_groups())
                    .is_ok_and(|allowed| allowed.groups == self.groups)
            }
            Err(AuthError::Missing | AuthError::Invalid(_)) => false,
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_)) => true,
        }
    }
}

impl FromRequest for Standing {
    type Error = ApiError;
    type Future = Ready<Result<Standing, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let standing = request.extensions().get::<Standing>().cloned();
        ready(standing.ok_or_else(|| ApiError::NotAllowed { reason: "Nobody let this request in.".to_owned() }))
    }
}

/// What takes as many of a namespace's groups as its caller has been granted: its handlers look at
/// [`Caller::groups`]. Whatever else is in a namespace and in no group takes a grant for all of
/// them.
const FOR_SOME_GROUPS: [&str; 4] =
    [paths::GROUPS, paths::NAMESPACE_EVENTS, paths::NAMESPACE_TRANSITIONS, paths::NAMESPACE_STATUS];

/// What is in a tenant and in none of its namespaces. Whatever else is there, or is not, takes a
/// grant for all tenants.
const OF_A_TENANT: [&str; 2] = [paths::TENANT_KEYS, paths::TENANT_KEY];

/// The names in a path that say where something is to be done. A name that cannot be decoded is
/// nobody's; those who may go there are told what is wrong with it.
#[derive(Clone)]
enum Names {
    Everywhere,
    Tenant(String),
    Namespace { tenant: String, namespace: String, for_some_groups: bool },
    Group { tenant: String, namespace: String, group: String },
}

impl Names {
    fn of(path: &str, resource: Option<&Resource>) -> Names {
        Names::find(path, resource).unwrap_or(Names::Everywhere)
    }

    fn find(path: &str, resource: Option<&Resource>) -> Option<Names> {
        let name = |raw: &str| paths::decode(raw).map(|name| name.into_owned());
        let raw = paths::raw_names(path)?;
        let tenant = name(raw.tenant)?;
        let Some(namespace) = raw.namespace else {
            let is_of_tenant = resource.is_some_and(|resource| OF_A_TENANT.contains(&resource.path));
            return is_of_tenant.then_some(Names::Tenant(tenant));
        };
        let namespace = name(namespace)?;
        Some(match raw.group.and_then(name) {
            Some(group) => Names::Group { tenant, namespace, group },
            None => {
                let for_some_groups =
                    raw.group.is_none() && resource.is_some_and(|resource| FOR_SOME_GROUPS.contains(&resource.path));
                Names::Namespace { tenant, namespace, for_some_groups }
            }
        })
    }

    fn tenant(&self) -> Option<&str> {
        match self {
            Names::Everywhere => None,
            Names::Tenant(tenant) | Names::Namespace { tenant, .. } | Names::Group { tenant, .. } => Some(tenant),
        }
    }

    /// The tenant, the namespace and the group, as far as there are.
    fn each(self) -> (Option<String>, Option<String>, Option<String>) {
        match self {
            Names::Everywhere => (None, None, None),
            Names::Tenant(tenant) => (Some(tenant), None, None),
            Names::Namespace { tenant, namespace, .. } => (Some(tenant), Some(namespace), None),
            Names::Group { tenant, namespace, group } => (Some(tenant), Some(namespace), Some(group)),
        }
    }

    fn as_place(&self) -> Place<'_> {
        match self {
            Names::Everywhere => Place::Everywhere,
            Names::Tenant(tenant) => Place::Tenant { tenant },
            Names::Namespace { tenant, namespace, for_some_groups: true } => Place::GroupsOf { tenant, namespace },
            Names::Namespace { tenant, namespace, for_some_groups: false } => Place::Namespace { tenant, namespace },
            Names::Group { tenant, namespace, group } => Place::Group { tenant, namespace, group },
        }
    }
}

fn refused(error: AuthError, challenge: &str) -> ApiError {
    match error {
        AuthError::Missing | AuthError::Invalid(_) => {
            ApiError::NotAuthenticated { reason: error.to_string(), challenge: challenge.to_owned() }
        }
        AuthError::Unavailable(reason) => ApiError::CannotAuthenticate { reason },
        AuthError::TooMany(reason) => ApiError::TooManyRequests { reason },
    }
}

fn check(
    request: &ServiceRequest,
    resource: Option<&Resource>,
    identity: &Identity,
    clients_create_groups: bool,
) -> Result<Allowed, ApiError> {
    let permission = permission_for(request.method(), resource);
    let names = Names::of(request.path(), resource);
    let place = names.as_place();
    authorize(identity, place, permission, clients_create_groups).map_err(|needed| ApiError::NotAllowed {
        reason: format!("'{}' is not '{}' {place}.", identity.name, needed.text()),
    })
}

fn permission_for(method: &Method, resource: Option<&Resource>) -> Permission {
    match (method, resource.map(|resource| resource.path)) {
        (&Method::GET | &Method::HEAD, Some(paths::METRICS)) => Permission::ReadMetrics,
        // Who else has keys, and for what, is for those alone who hand them out.
        (_, Some(paths::KEYS | paths::KEY | paths::TENANT_KEYS | paths::TENANT_KEY)) => Permission::Administer,
        (&Method::GET | &Method::HEAD, _) => Permission::Read,
        (&Method::POST, Some(paths::GROUPS)) => Permission::CreateGroups,
        (&Method::PUT, Some(paths::GROUP)) => Permission::CreateGroups,
        (&Method::POST, Some(paths::SESSIONS | paths::SESSION)) => Permission::UseSessions,
        (&Method::DELETE, Some(paths::SESSION)) => Permission::UseSessions,
        _ => Permission::Administer,
    }
}

/// What a request would change, other than by a heartbeat. What is not listed is counted, too.
fn write_of(method: &Method, resource: Option<&Resource>) -> Option<Write> {
    match (method, resource.map(|resource| resource.path)) {
        (&Method::GET | &Method::HEAD, _) | (&Method::POST, Some(paths::SESSION)) => None,
        (&Method::POST, Some(paths::SESSIONS)) => Some(Write::Registration),
        (&Method::POST, Some(paths::GROUPS)) | (&Method::PUT, Some(paths::GROUP)) => Some(Write::GroupChange),
        (&Method::DELETE, Some(paths::GROUP | paths::SESSION)) => Some(Write::Deletion),
        _ => Some(Write::Other),
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Caller, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        // Only a request that was let in comes as far as a handler that asks for this.
        ready(caller.ok_or_else(|| ApiError::NotAllowed { reason: "Nobody let this request in.".to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_change_something_and_is_no_heartbeat_is_counted() {
        let groups = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";
        let kind = |method: &str, below: &str| {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            write_of(&method, routes::find(&format!("{groups}{below}")))
        };
        assert_eq!(kind("POST", "/g/clientsessions/s"), None);
        assert_eq!(kind("GET", "/g"), None);
        assert_eq!(kind("POST", ""), Some(Write::GroupChange));
        assert_eq!(kind("PUT", "/g"), Some(Write::GroupChange));
        assert_eq!(kind("POST", "/g/clientsessions"), Some(Write::Registration));
        assert_eq!(kind("DELETE", "/g"), Some(Write::Deletion));
        assert_eq!(kind("DELETE", "/g/clientsessions/s"), Some(Write::Deletion));
        assert_eq!(kind("PUT", "/g/override"), Some(Write::Other));
        assert_eq!(kind("PATCH", "/g"), Some(Write::Other));
    }

    #[test]
    fn what_is_not_listed_takes_an_administrator() {
        let groups = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";
        let needs = |method: &str, below: &str| {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            permission_for(&method, routes::find(&format!("{groups}{below}")))
        };
        for below in ["", "/g", "/g/clientsessions", "/g/clientsessions/s", "/g/else"] {
            assert_eq!(needs("GET", below), Permission::Read, "{below}");
            assert_eq!(needs("PATCH", below), Permission::Administer, "{below}");
            assert_eq!(needs("OPTIONS", below), Permission::Administer, "{below}");
        }
        assert_eq!(needs("POST", ""), Permission::CreateGroups);
        assert_eq!(needs("PUT", "/g"), Permission::CreateGroups);
        assert_eq!(needs("DELETE", "/g"), Permission::Administer);
        assert_eq!(needs("POST", "/g/clientsessions"), Permission::UseSessions);
        assert_eq!(needs("POST", "/g/clientsessions/s"), Permission::UseSessions);
        assert_eq!(needs("DELETE", "/g/clientsessions/s"), Permission::UseSessions);
        for below in ["/g", "/g/override", "/g/clientsessions/s/else", "/"] {
            assert_eq!(needs("POST", below), Permission::Administer, "{below}");
        }
    }
}
