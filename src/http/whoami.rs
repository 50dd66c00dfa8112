//! Who asks, as what they are recognised, what they have been granted, and what answers.

use std::net::TcpListener;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::guard::Recognised;
use super::keys::GradeText;
use crate::access::{Authenticator, Granted, Kind};
use crate::ids::{EVERY_TENANT, GroupPattern};
use crate::version;

/// With how many places and patterns of groups rights are told at most.
const MAX_TOLD: usize = 1_000;

/// What stands for all tenants, and for all namespaces of one.
const ALL: &str = EVERY_TENANT;

/// The name of this replica, by which answers of several behind a proxy are told apart: its host,
/// and the port that it listens on.
pub struct Replica(String);

impl Replica {
    /// The one that listens there.
    pub fn at(listeners: &[TcpListener]) -> Replica {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
        let port = listeners.first().and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
        Replica(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

/// `GET /whoami`
pub async fn tell(
    Recognised(identity): Recognised,
    authenticator: web::Data<Authenticator>,
    replica: web::Data<Replica>,
) -> HttpResponse {
    let (granted, rights_left_out) = identity.granted(MAX_TOLD);
    let own_name = identity.own_name();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(WhoamiBody {
        name: own_name,
        identity: own_name.map(|_| &*identity.name),
        kind: identity.kind.text(),
        rights: granted.into_iter().map(RightBody::of).collect(),
        rights_left_out,
        clients_create_groups: authenticator.clients_create_groups(),
        version: version::VERSION,
        commit: version::COMMIT,
        replica: &replica.0,
    })
}

/// Who asks, and what answers.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Whoami")]
pub struct WhoamiBody<'a> {
    /// What they are called; null where nobody is asked.
    name: Option<&'a str>,
    /// The same with how they were recognised, as the audit trail and the log name them.
    identity: Option<&'a str>,
    /// How they were recognised.
    #[schemars(extend("enum" = Kind::ALL.map(Kind::text)))]
    kind: &'a str,
    /// What they have been granted, the highest roles first; empty if nothing.
    rights: Vec<RightBody<'a>>,
    /// How many of these are not told, for there are too many.
    #[schemars(with = "u32")]
    rights_left_out: usize,
    /// Whether the role client is enough to create groups.
    clients_create_groups: bool,
    /// The version of the service.
    version: &'a str,
    /// The commit that it was built from; null where that is not known.
    commit: Option<&'a str>,
    /// The replica that answers.
    replica: &'a str,
}

/// A role in a place.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Right")]
struct RightBody<'a> {
    /// The tenant; * for all.
    tenant_id: &'a str,
    /// The namespace; * for all of the tenant's.
    namespace_id: &'a str,
    /// Patterns of the groups there that it is for; null for all.
    #[schemars(with = "Option<Vec<String>>")]
    groups: Option<&'a [GroupPattern]>,
    #[schemars(with = "GradeText")]
    role: &'a str,
}

impl RightBody<'_> {
    fn of(granted: Granted<'_>) -> RightBody<'_> {
        RightBody {
            tenant_id: granted.tenant.unwrap_or(ALL),
            namespace_id: granted.namespace.unwrap_or(ALL),
            groups: granted.groups,
            role: granted.grade.text(),
        }
    }
}
