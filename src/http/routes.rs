//! Every path that is served and every method that it has, in one table: the server answers by it,
//! the metrics count by it, the guard looks up by it, and the description of the API is written
//! from it.

use actix_web::http::Method;
use actix_web::{Route, web};

use super::description::{self, Describe};
use super::errors::ApiError;
use super::{docs, events, groups, health, history, keys, page, paths, sessions, status};
use crate::metrics;

/// A path, and what can be done there.
pub struct Resource {
    /// The path, with names in braces for what differs.
    pub path: &'static str,
    /// What its requests are counted as.
    pub counted_as: metrics::Route,
    /// Its methods, in order of the alphabet.
    pub operations: &'static [Operation],
}

/// What a method does at a path.
pub struct Operation {
    /// The method.
    pub method: Method,
    handle: fn(Route) -> Route,
    /// How it is described; `None` for what is for people with a browser and no part of the API.
    pub describe: Option<Describe>,
}

const fn operation(method: Method, handle: fn(Route) -> Route, describe: Describe) -> Operation {
    Operation { method, handle, describe: Some(describe) }
}

const fn for_people(handle: fn(Route) -> Route) -> Operation {
    Operation { method: Method::GET, handle, describe: None }
}

/// All of them. They are tried in this order, and nearly every request is a heartbeat.
pub static RESOURCES: [Resource; 29] = [
    Resource {
        path: paths::SESSION,
        counted_as: metrics::Route::Session,
        operations: &[
            operation(Method::DELETE, |route| route.to(sessions::delete), description::sessions::delete),
            operation(Method::POST, |route| route.to(sessions::heartbeat), description::sessions::heartbeat),
        ],
    },
    Resource {
        path: paths::GROUPS,
        counted_as: metrics::Route::Groups,
        operations: &[
            operation(Method::GET, |route| route.to(groups::list), description::groups::list),
            operation(Method::POST, |route| route.to(groups::create), description::groups::create),
        ],
    },
    Resource {
        path: paths::GROUP,
        counted_as: metrics::Route::Group,
        operations: &[
            operation(Method::DELETE, |route| route.to(groups::delete), description::groups::delete),
            operation(Method::GET, |route| route.to(groups::find), description::groups::find),
            operation(Method::PUT, |route| route.to(groups::put), description::groups::put),
        ],
    },
    Resource {
        path: paths::SESSIONS,
        counted_as: metrics::Route::Sessions,
        operations: &[operation(Method::POST, |route| route.to(sessions::register), description::sessions::register)],
    },
    Resource {
        path: paths::TRANSITIONS,
        counted_as: metrics::Route::Transitions,
        operations: &[operation(Method::GET, |route| route.to(history::transitions), description::events::transitions)],
    },
    Resource {
        path: paths::LIFETIMES,
        counted_as: metrics::Route::Transitions,
        operations: &[operation(Method::GET, |route| route.to(history::lifetimes), description::events::lifetimes)],
    },
    Resource {
        path: paths::NAMESPACE_TRANSITIONS,
        counted_as: metrics::Route::NamespaceEvents,
        operations: &[operation(
            Method::GET,
            |route| route.to(history::latest_of_namespace),
            description::events::latest_of_namespace,
        )],
    },
    Resource {
        path: paths::ALL_TRANSITIONS,
        counted_as: metrics::Route::Overview,
        operations: &[operation(
            Method::GET,
            |route| route.to(history::latest_of_everything),
            description::events::latest_of_everything,
        )],
    },
    Resource {
        path: paths::GROUP_EVENTS,
        counted_as: metrics::Route::GroupEvents,
        operations: &[operation(Method::GET, |route| route.to(events::of_group), description::events::of_group)],
    },
    Resource {
        path: paths::NAMESPACE_EVENTS,
        counted_as: metrics::Route::NamespaceEvents,
        operations: &[operation(
            Method::GET,
            |route| route.to(events::of_namespace),
            description::events::of_namespace,
        )],
    },
    Resource {
        path: paths::GROUP_STATUS,
        counted_as: metrics::Route::GroupStatus,
        operations: &[operation(Method::GET, |route| route.to(status::of_group), description::status::of_group)],
    },
    Resource {
        path: paths::NAMESPACE_STATUS,
        counted_as: metrics::Route::NamespaceStatus,
        operations: &[operation(
            Method::GET,
            |route| route.to(status::of_namespace),
            description::status::of_namespace,
        )],
    },
    Resource {
        path: paths::STATUS,
        counted_as: metrics::Route::Overview,
        operations: &[operation(
            Method::GET,
            |route| route.to(status::of_everything),
            description::status::of_everything,
        )],
    },
    Resource {
        path: paths::NAMESPACE_HISTORIES,
        counted_as: metrics::Route::NamespaceStatus,
        operations: &[operation(
            Method::GET,
            |route| route.to(status::histories_of_namespace),
            description::status::histories_of_namespace,
        )],
    },
    Resource {
        path: paths::HISTORIES,
        counted_as: metrics::Route::Overview,
        operations: &[operation(Method::GET, |route| route.to(status::histories), description::status::histories)],
    },
    Resource {
        path: paths::NAMESPACES,
        counted_as: metrics::Route::Overview,
        operations: &[operation(Method::GET, |route| route.to(status::namespaces), description::status::namespaces)],
    },
    Resource {
        path: paths::EVENTS,
        counted_as: metrics::Route::Overview,
        operations: &[operation(
            Method::GET,
            |route| route.to(events::of_everything),
            description::events::of_everything,
        )],
    },
    Resource {
        path: paths::TENANT_KEYS,
        counted_as: metrics::Route::Keys,
        operations: &[
            operation(Method::GET, |route| route.to(keys::list), description::keys::list_of_tenant),
            operation(Method::POST, |route| route.to(keys::create), description::keys::create_in_tenant),
        ],
    },
    Resource {
        path: paths::TENANT_KEY,
        counted_as: metrics::Route::Keys,
        operations: &[operation(Method::DELETE, |route| route.to(keys::revoke), description::keys::revoke_in_tenant)],
    },
    Resource {
        path: paths::KEYS,
        counted_as: metrics::Route::Keys,
        operations: &[
            operation(Method::GET, |route| route.to(keys::list), description::keys::list_of_all),
            operation(Method::POST, |route| route.to(keys::create), description::keys::create_in_all),
        ],
    },
    Resource {
        path: paths::KEY,
        counted_as: metrics::Route::Keys,
        operations: &[operation(Method::DELETE, |route| route.to(keys::revoke), description::keys::revoke_in_all)],
    },
    Resource {
        path: paths::METRICS,
        counted_as: metrics::Route::Metrics,
        operations: &[operation(Method::GET, |route| route.to(health::show_metrics), description::operation::metrics)],
    },
    Resource {
        path: paths::LIVE,
        counted_as: metrics::Route::Health,
        operations: &[operation(Method::GET, |route| route.to(health::live), description::operation::live)],
    },
    Resource {
        path: paths::READY,
        counted_as: metrics::Route::Health,
        operations: &[operation(Method::GET, |route| route.to(health::ready), description::operation::ready)],
    },
    Resource {
        path: paths::PAGE,
        counted_as: metrics::Route::Page,
        operations: &[for_people(|route| route.to(page::file))],
    },
    Resource {
        path: paths::PAGE_FILE,
        counted_as: metrics::Route::Page,
        operations: &[for_people(|route| route.to(page::file))],
    },
    Resource {
        path: paths::DESCRIPTION,
        counted_as: metrics::Route::Description,
        operations: &[operation(Method::GET, |route| route.to(description::show), description::operation::description)],
    },
    Resource {
        path: paths::DOCS,
        counted_as: metrics::Route::Description,
        operations: &[for_people(|route| route.to(docs::page))],
    },
    Resource {
        path: paths::DOCS_FILE,
        counted_as: metrics::Route::Description,
        operations: &[for_people(|route| route.to(docs::file))],
    },
];

impl Resource {
    /// Its methods, as the header `Allow` has them.
    fn methods(&self) -> String {
        let mut methods: Vec<&str> = self.operations.iter().map(|operation| operation.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
            methods.sort_unstable();
        }
        methods.join(", ")
    }
}

/// The resource that a path in normal form names.
pub fn find(path: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| paths::fits(path, resource.path))
}

/// Puts them all before a server's requests. What can be got can be asked for by `HEAD`, whose
/// answers lose their bodies on the way out.
pub fn configure(server: &mut web::ServiceConfig) {
    for resource in &RESOURCES {
        let mut service = web::resource(resource.path);
        for operation in resource.operations {
            service = service.route((operation.handle)(web::method(operation.method.clone())));
            if operation.method == Method::GET {
                service = service.route((operation.handle)(web::head()));
            }
        }
        let refuse = move || async move { Err::<&str, _>(ApiError::MethodNotAllowed { allow: resource.methods() }) };
        server.service(service.default_service(web::to(refuse)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Route;

    #[test]
    fn a_path_is_counted_under_what_it_is_about() {
        let counted_as = |path: &str| find(path).map(|resource| resource.counted_as);
        let namespace = "/api/v1/tenants/t/namespaces/n/clientfailover";
        for (below, route) in [
            ("/groups", Some(Route::Groups)),
            ("/groups/g", Some(Route::Group)),
            ("/groups/g/clientsessions", Some(Route::Sessions)),
            ("/groups/g/clientsessions/s", Some(Route::Session)),
            ("/groups/g/clientsessions/s/x", None),
            ("/groups/g/transitions", Some(Route::Transitions)),
            ("/groups/g/events", Some(Route::GroupEvents)),
            ("/groups/g/status", Some(Route::GroupStatus)),
            ("/events", Some(Route::NamespaceEvents)),
            ("/status", Some(Route::NamespaceStatus)),
            ("/nothing", None),
        ] {
            assert_eq!(counted_as(&format!("{namespace}{below}")), route, "{below}");
        }
        assert_eq!(counted_as("/health/live"), Some(Route::Health));
        assert_eq!(counted_as("/metrics"), Some(Route::Metrics));
        assert_eq!(counted_as("/api/v1/clientfailover/status"), Some(Route::Overview));
        assert_eq!(counted_as("/docs/swagger-ui.css"), Some(Route::Description));
        assert_eq!(counted_as("/"), Some(Route::Page));
        assert_eq!(counted_as("/page/main.js"), Some(Route::Page));
        assert_eq!(counted_as("/page"), None);
    }

    #[test]
    fn methods_are_told_in_order_of_the_alphabet() {
        for resource in &RESOURCES {
            let methods = resource.operations.iter().map(|operation| operation.method.as_str());
            assert!(methods.is_sorted(), "{}", resource.path);
        }
    }
}
