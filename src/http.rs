//! The HTTP interface: routes, and what is true of every answer. Handlers and wire types are in the
//! modules beneath, one per resource; none of them knows a role's rules or a statement.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::dev::{Server, fn_service};
use actix_web::{App, web};

use crate::access::Authenticator;
use crate::arbitration::Answer;
use crate::failover::{Failover, HeartbeatMessage};
use crate::tls::TlsConfig;
pub use connection::ConnectionOptions;
use docs::Offers;
use entry::Entry;
pub use life::Life;
use lists::Lists;
use routes::RESOURCES;
use routing::Table;
pub use routing::{ApiPaths, TenantApi};
pub use sites::AllowedHosts;

mod absent;
mod audit;
mod connection;
mod described;
mod description;
mod docs;
mod entry;
mod errors;
pub(crate) mod events;
mod groups;
mod guard;
mod health;
mod history;
mod issuer;
mod json;
pub(crate) mod keys;
mod life;
mod limits;
mod lists;
mod operation_id;
mod operations;
mod page;
mod paths;
pub mod proxies;
mod query;
mod refusal;
mod released;
mod routes;
mod routing;
mod sessions;
mod sign_in;
mod sites;
mod status;
mod values;
mod whoami;
mod wishes;

/// A heartbeat's body read, and an answer's written, as the handlers do it: for the
/// micro-benchmarks.
#[doc(hidden)]
pub fn wire_form(body: &str, answer: &Answer) -> Option<(HeartbeatMessage, String)> {
    let message = sessions::read_body(&json::JsonBody::of(body.to_owned())).ok()?;
    Some((message, sessions::write_body(answer)))
}

/// How the server is run.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Threads that read requests and write answers.
    pub workers: usize,
    /// The longest that requests in flight are waited for at the end.
    pub shutdown_timeout: Duration,
    /// How many connections there may be, and how long each may take.
    pub connections: ConnectionOptions,
    /// The most long answers of one caller that are being made at once.
    pub lists_per_caller: usize,
    /// Whether there is the page to try the API on.
    pub docs: bool,
    /// What paths stand for that depends on the settings.
    pub paths: ApiPaths,
    /// The names by which the service may be asked for.
    pub allowed_hosts: AllowedHosts,
    /// Whether browsers are told, over TLS, to come over TLS alone from then on.
    pub hsts: bool,
}

/// What requests are served with.
#[derive(Clone)]
pub struct Served {
    /// The use cases.
    pub failover: Failover,
    /// Who may come in.
    pub authenticator: Arc<Authenticator>,
    /// Whether the service is on its way out.
    pub life: Life,
}

/// A server on these listeners, over TLS where that is configured. It runs when awaited, and stops
/// by its handle.
pub fn server(
    listeners: Vec<TcpListener>,
    served: Served,
    tls: Option<TlsConfig>,
    options: &HttpOptions,
) -> std::io::Result<Server> {
    let failover = web::Data::new(served.failover);
    let life = web::Data::new(served.life);
    let authenticator = web::Data::from(served.authenticator);
    let paths = options.paths.clone();
    let tenant_api = paths.tenant_api;
    let offers = web::Data::new(Offers {
        docs: options.docs,
        description: LazyLock::new(Box::new(move || routes::describe(tenant_api).to_string().into())),
    });
    let allowed_hosts = web::Data::new(options.allowed_hosts.clone());
    let proxies = web::Data::new(options.connections.proxies.clone());
    let replica = web::Data::new(whoami::Replica::at(&listeners));
    let latest_look = web::Data::new(health::LatestLook::default());
    let lists = Lists::new(options.lists_per_caller);
    let is_only_tls = options.hsts && tls.is_some();
    let app = move || {
        let entry = Rc::new(Entry { table: Table::new(&RESOURCES, &paths), is_only_tls });
        // The table takes the place of the framework's own router: all requests are for what that
        // calls the default.
        App::new()
            .app_data(offers.clone())
            .app_data(allowed_hosts.clone())
            .app_data(proxies.clone())
            .app_data(latest_look.clone())
            .app_data(replica.clone())
            .app_data(lists.clone())
            .app_data(failover.clone())
            .app_data(life.clone())
            .app_data(authenticator.clone())
            .default_service(fn_service(move |request| entry.clone().answer(request)))
    };
    connection::serve(listeners, app, tls, &options.connections, options.workers, options.shutdown_timeout)
}
