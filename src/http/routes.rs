//! Every path that is served and every method that it has, in one table: the server answers by it,
//! the metrics count by it, the door opens by it, and the description of the API is written from
//! it.

use serde_json::Value;

use super::described::DescribedOperation;
use super::description::DescribedPath;
use super::operations::{Length, Needs, Operation};
use super::routing::Base::{Everywhere, Namespace, Premises, Root, Tenant};
use super::routing::{Form, Name, Resource, Template, TenantApi};
use super::{
    audit, description, docs, events, groups, health, history, issuer, keys, page, released, sessions, sign_in, status,
    whoami, wishes,
};
use crate::access::Permission;
use crate::access::writes::Write;
use crate::metrics::Route;

const READ: Needs = Needs::Permission(Permission::Read);
/// Who else has keys, and for what, is for those alone who hand them out.
const READ_KEYS: Needs = Needs::Permission(Permission::Administer);

/// Who did what is for those alone who may do most of it.
const READ_AUDIT: Needs = Needs::Permission(Permission::Administer);

/// All of them.
pub static RESOURCES: [Resource; 48] = [
    Resource {
        form: Form::Either,
        templates: &[
            Template(Namespace, "/groups/{groupid}/clientsessions/{sessionId}/heartbeat"),
            Template(Premises, "/groups/{groupid}/clientsessions/{sessionId}/heartbeat"),
        ],
        counted_as: Route::Session,
        is_of_some_groups: false,
        operations: &[Operation::heartbeat("postHeartbeat", Permission::UseSessions, |asked| {
            asked.of(released::heartbeat)
        })
        .described(description::released::heartbeat)],
    },
    Resource {
        form: Form::Only(TenantApi::Preview),
        templates: &[Template(Namespace, "/groups/{groupid}/clientsessions/{sessionId}")],
        counted_as: Route::Session,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "deleteSession", Permission::UseSessions, Write::Deletion, |asked| {
                asked.of(sessions::delete)
            })
            .described(description::sessions::delete),
            Operation::heartbeat("sendHeartbeat", Permission::UseSessions, |asked| asked.of(sessions::heartbeat))
                .described(description::sessions::heartbeat),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Preview),
        templates: &[Template(Namespace, "/groups")],
        counted_as: Route::Groups,
        is_of_some_groups: true,
        operations: &[
            Operation::get("listGroups", READ, |asked| asked.of(groups::list))
                .answered(Length::Long)
                .described(description::groups::list),
            Operation::change("POST", "createGroup", Permission::CreateGroups, Write::GroupChange, |asked| {
                asked.of(groups::create)
            })
            .described(description::groups::create),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Preview),
        templates: &[Template(Namespace, "/groups/{groupid}")],
        counted_as: Route::Group,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "deleteGroup", Permission::Administer, Write::Deletion, |asked| {
                asked.of(groups::delete)
            })
            .described(description::groups::delete),
            Operation::get("getGroup", READ, |asked| asked.of(groups::find))
                .answered(Length::Long)
                .described(description::groups::find),
            Operation::change("PUT", "putGroup", Permission::CreateGroups, Write::GroupChange, |asked| {
                asked.of(groups::put)
            })
            .described(description::groups::put),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Preview),
        templates: &[Template(Namespace, "/groups/{groupid}/clientsessions")],
        counted_as: Route::Sessions,
        is_of_some_groups: false,
        operations: &[Operation::change(
            "POST",
            "registerSession",
            Permission::UseSessions,
            Write::Registration,
            |asked| asked.of(sessions::register),
        )
        .described(description::sessions::register)],
    },
    Resource {
        form: Form::Only(TenantApi::Released),
        templates: &[
            Template(Namespace, "/groups/{groupid}/clientsessions/{sessionId}"),
            Template(Premises, "/groups/{groupid}/clientsessions/{sessionId}"),
        ],
        counted_as: Route::Session,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "removeClientSession", Permission::UseSessions, Write::Deletion, |asked| {
                asked.of(released::delete_session)
            })
            .succeeds_with(204)
            .described(description::released::delete_session),
            Operation::get("getClientSession", READ, |asked| asked.of(released::find_session))
                .described(description::released::find_session),
            // The released form has nothing with this method here, and so clients of the first one
            // go on: of a registration they read the status alone.
            Operation::heartbeat("sendHeartbeat", Permission::UseSessions, |asked| asked.of(sessions::heartbeat))
                .described(description::sessions::heartbeat),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Released),
        templates: &[Template(Namespace, "/groups"), Template(Premises, "/groups")],
        counted_as: Route::Groups,
        is_of_some_groups: true,
        operations: &[
            Operation::get("listGroupConfigurations", READ, |asked| asked.of(released::list_groups))
                .answered(Length::Long)
                .described(description::released::list_groups),
            Operation::change("POST", "addGroup", Permission::CreateGroups, Write::GroupChange, |asked| {
                asked.of(released::create_group)
            })
            .succeeds_with(201)
            .described(description::released::create_group),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Released),
        templates: &[Template(Namespace, "/groups/{groupid}"), Template(Premises, "/groups/{groupid}")],
        counted_as: Route::Group,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "removeGroup", Permission::Administer, Write::Deletion, |asked| {
                asked.of(released::delete_group)
            })
            .succeeds_with(204)
            .described(description::released::delete_group),
            Operation::get("getGroupConfiguration", READ, |asked| asked.of(released::find_group))
                .described(description::released::find_group),
            // How an operator changes a group. The released form has no such operation.
            Operation::change("PUT", "putGroup", Permission::CreateGroups, Write::GroupChange, |asked| {
                asked.of(groups::put)
            })
            .described(description::groups::put),
        ],
    },
    Resource {
        form: Form::Only(TenantApi::Released),
        templates: &[
            Template(Namespace, "/groups/{groupid}/clientsessions"),
            Template(Premises, "/groups/{groupid}/clientsessions"),
        ],
        counted_as: Route::Sessions,
        is_of_some_groups: false,
        operations: &[
            Operation::get("listClientSessions", READ, |asked| asked.of(released::list_sessions))
                .answered(Length::Long)
                .described(description::released::list_sessions),
            Operation::change("POST", "addClientSession", Permission::UseSessions, Write::Registration, |asked| {
                asked.of(released::register)
            })
            .succeeds_with(201)
            .described(description::released::register),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[
            Template(Namespace, "/groups/{groupid}/clientsessions/{sessionId}/wish"),
            Template(Premises, "/groups/{groupid}/clientsessions/{sessionId}/wish"),
        ],
        counted_as: Route::Wishes,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "withdrawWish", Permission::Administer, Write::Other, |asked| {
                asked.of(wishes::withdraw)
            })
            .succeeds_with(202)
            .described(description::wishes::withdraw),
            Operation::change("POST", "setWish", Permission::Administer, Write::Other, |asked| asked.of(wishes::set))
                .succeeds_with(202)
                .described(description::wishes::set),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[
            Template(Namespace, "/groups/{groupid}/switchover"),
            Template(Premises, "/groups/{groupid}/switchover"),
        ],
        counted_as: Route::Wishes,
        is_of_some_groups: false,
        operations: &[
            Operation::change("DELETE", "cancelSwitchOver", Permission::Administer, Write::Other, |asked| {
                asked.of(wishes::cancel_switch_over)
            })
            .succeeds_with(202)
            .described(description::wishes::cancel_switch_over),
            Operation::change("POST", "switchOver", Permission::Administer, Write::Other, |asked| {
                asked.of(wishes::switch_over)
            })
            .succeeds_with(202)
            .described(description::wishes::switch_over),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[
            Template(Namespace, "/groups/{groupid}/clientsessions/{sessionId}/roleoverride"),
            Template(Premises, "/groups/{groupid}/clientsessions/{sessionId}/roleoverride"),
        ],
        counted_as: Route::Wishes,
        is_of_some_groups: false,
        operations: &[Operation::change("POST", "postRoleOverride", Permission::Administer, Write::Other, |asked| {
            asked.of(wishes::override_role)
        })
        .described(description::wishes::override_role)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, ""), Template(Premises, "")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("getVersion", READ, |asked| asked.of(released::version))
            .described(description::released::version)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/groups/{groupid}/transitions")],
        counted_as: Route::Transitions,
        is_of_some_groups: false,
        operations: &[Operation::get("listTransitions", READ, |asked| asked.of(history::transitions))
            .answered(Length::Long)
            .described(description::events::transitions)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/groups/{groupid}/deeds")],
        counted_as: Route::Transitions,
        is_of_some_groups: false,
        operations: &[Operation::get("listDeeds", READ, |asked| asked.of(history::deeds))
            .answered(Length::Long)
            .described(description::events::deeds)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/groups/{groupid}/lifetimes")],
        counted_as: Route::Transitions,
        is_of_some_groups: false,
        operations: &[Operation::get("listLifetimes", READ, |asked| asked.of(history::lifetimes))
            .answered(Length::Long)
            .described(description::events::lifetimes)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/transitions")],
        counted_as: Route::NamespaceEvents,
        is_of_some_groups: true,
        operations: &[Operation::get("listLatestTransitions", READ, |asked| asked.of(history::latest_of_namespace))
            .answered(Length::Long)
            .described(description::events::latest_of_namespace)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/transitions")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listLatestTransitionsOfTenant", READ, |asked| {
            asked.of(history::latest_of_tenant)
        })
        .answered(Length::Long)
        .described(description::events::latest_of_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/transitions")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listAllLatestTransitions", READ, |asked| {
            asked.of(history::latest_of_everything)
        })
        .answered(Length::Long)
        .described(description::events::latest_of_everything)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/groups/{groupid}/events")],
        counted_as: Route::GroupEvents,
        is_of_some_groups: false,
        operations: &[Operation::get("followGroupEvents", READ, |asked| asked.of(events::of_group))
            .answered(Length::Endless)
            .described(description::events::of_group)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/events")],
        counted_as: Route::NamespaceEvents,
        is_of_some_groups: true,
        operations: &[Operation::get("followEvents", READ, |asked| asked.of(events::of_namespace))
            .answered(Length::Endless)
            .described(description::events::of_namespace)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/groups/{groupid}/status"), Template(Premises, "/groups/{groupid}/status")],
        counted_as: Route::GroupStatus,
        is_of_some_groups: false,
        operations: &[Operation::get("getStatus", READ, |asked| asked.of(status::of_group))
            .answered(Length::Long)
            .described(description::status::of_group)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/status")],
        counted_as: Route::NamespaceStatus,
        is_of_some_groups: true,
        operations: &[Operation::get("listStatus", READ, |asked| asked.of(status::of_namespace))
            .answered(Length::Long)
            .described(description::status::of_namespace)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/status")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listStatusOfTenant", READ, |asked| asked.of(status::of_tenant))
            .answered(Length::Long)
            .described(description::status::of_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/status")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listAllStatus", READ, |asked| asked.of(status::of_everything))
            .answered(Length::Long)
            .described(description::status::of_everything)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Namespace, "/histories")],
        counted_as: Route::NamespaceStatus,
        is_of_some_groups: false,
        operations: &[Operation::get("listHistories", READ, |asked| asked.of(status::histories_of_namespace))
            .described(description::status::histories_of_namespace)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/histories")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listAllHistories", READ, |asked| asked.of(status::histories))
            .described(description::status::histories)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/namespaces")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listNamespacesOfTenant", READ, |asked| asked.of(status::namespaces_of_tenant))
            .answered(Length::Long)
            .described(description::status::namespaces_of_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/namespaces")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listNamespaces", READ, |asked| asked.of(status::namespaces))
            .answered(Length::Long)
            .described(description::status::namespaces)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/events")],
        counted_as: Route::NamespaceEvents,
        is_of_some_groups: false,
        operations: &[Operation::get("followEventsOfTenant", READ, |asked| asked.of(events::of_tenant))
            .answered(Length::Endless)
            .described(description::events::of_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/events")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("followAllEvents", READ, |asked| asked.of(events::of_everything))
            .answered(Length::Endless)
            .described(description::events::of_everything)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/keys")],
        counted_as: Route::Keys,
        is_of_some_groups: false,
        operations: &[
            Operation::get("listKeys", READ_KEYS, |asked| asked.of(keys::list))
                .answered(Length::Long)
                .described(description::keys::list_of_tenant),
            Operation::change("POST", "createKey", Permission::Administer, Write::Other, |asked| {
                asked.of(keys::create)
            })
            .described(description::keys::create_in_tenant),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/keys/{key}")],
        counted_as: Route::Keys,
        is_of_some_groups: false,
        operations: &[Operation::change("DELETE", "revokeKey", Permission::Administer, Write::Other, |asked| {
            asked.of(keys::revoke)
        })
        .described(description::keys::revoke_in_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/keys")],
        counted_as: Route::Keys,
        is_of_some_groups: false,
        operations: &[
            Operation::get("listAllKeys", READ_KEYS, |asked| asked.of(keys::list))
                .answered(Length::Long)
                .described(description::keys::list_of_all),
            Operation::change("POST", "createAnyKey", Permission::Administer, Write::Other, |asked| {
                asked.of(keys::create)
            })
            .described(description::keys::create_in_all),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/keys/{key}")],
        counted_as: Route::Keys,
        is_of_some_groups: false,
        operations: &[Operation::change("DELETE", "revokeAnyKey", Permission::Administer, Write::Other, |asked| {
            asked.of(keys::revoke)
        })
        .described(description::keys::revoke_in_all)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Tenant, "/audit")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listAuditOfTenant", READ_AUDIT, |asked| asked.of(audit::list))
            .answered(Length::Long)
            .described(description::events::audit_of_tenant)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Everywhere, "/audit")],
        counted_as: Route::Overview,
        is_of_some_groups: false,
        operations: &[Operation::get("listAudit", READ_AUDIT, |asked| asked.of(audit::list))
            .answered(Length::Long)
            .described(description::events::audit_of_all)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/Identity/.well-known/openid-configuration")],
        counted_as: Route::Description,
        is_of_some_groups: false,
        // Whoever asks has no token yet.
        operations: &[Operation::get("getIssuer", Needs::Nothing, |asked| asked.of(issuer::configuration))
            .described(description::operation::issuer)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/whoami")],
        counted_as: Route::Description,
        is_of_some_groups: false,
        operations: &[Operation::get("getWhoami", Needs::Recognition, |asked| asked.of(whoami::tell))
            .described(description::operation::whoami)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/metrics")],
        counted_as: Route::Metrics,
        is_of_some_groups: false,
        operations: &[Operation::get("getMetrics", Needs::Permission(Permission::ReadMetrics), |asked| {
            asked.of(health::show_metrics)
        })
        .described(description::operation::metrics)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/health/live")],
        counted_as: Route::Health,
        is_of_some_groups: false,
        operations: &[Operation::get("getLive", Needs::Nothing, |asked| asked.of(health::live))
            .described(description::operation::live)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/health/ready")],
        counted_as: Route::Health,
        is_of_some_groups: false,
        operations: &[Operation::get("getReady", Needs::NothingToBeTold, |asked| asked.of(health::ready))
            .described(description::operation::ready)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/")],
        counted_as: Route::Page,
        is_of_some_groups: false,
        operations: &[Operation::get("getPage", Needs::OwnHost, |asked| asked.of(page::index))],
    },
    Resource {
        form: Form::Either,
        // Before the files, as none of them has that name.
        templates: &[Template(Root, "/page/sign-in")],
        counted_as: Route::Page,
        is_of_some_groups: false,
        operations: &[
            Operation::get("getSignIn", Needs::OwnHost, |asked| asked.of(sign_in::offer)),
            Operation::post("exchangeSignIn", Needs::OwnHost, |asked| asked.of(sign_in::exchange)),
        ],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/page/{file}")],
        counted_as: Route::Page,
        is_of_some_groups: false,
        operations: &[Operation::get("getPageFile", Needs::OwnHost, |asked| asked.of(page::file))],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/openapi.json")],
        counted_as: Route::Description,
        is_of_some_groups: false,
        operations: &[Operation::get("getDescription", Needs::OwnHost, |asked| asked.of(docs::description))
            .described(description::operation::description)],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/docs")],
        counted_as: Route::Description,
        is_of_some_groups: false,
        operations: &[Operation::get("getDocs", Needs::OwnHost, |asked| asked.of(docs::page))],
    },
    Resource {
        form: Form::Either,
        templates: &[Template(Root, "/docs/{file}")],
        counted_as: Route::Description,
        is_of_some_groups: false,
        operations: &[Operation::get("getDocsFile", Needs::OwnHost, |asked| asked.of(docs::file))],
    },
];

/// The description of the API, with that form below tenants.
pub fn describe(tenant_api: TenantApi) -> Value {
    let paths = RESOURCES
        .iter()
        .flat_map(|resource| resource.templates_in(tenant_api).map(move |template| (resource, template)));
    description::document(paths.map(|(resource, template)| DescribedPath {
        text: template.text(),
        names: template.names().map(Name::text).collect(),
        operations: resource.operations.iter().filter_map(|operation| of_operation(operation, template)).collect(),
    }))
}

fn of_operation(operation: &Operation, template: Template) -> Option<DescribedOperation> {
    let Operation { method, name, success, .. } = *operation;
    // What is there on both bases has two names, for clients are generated with them.
    let name = if template.0 == Premises { format!("{name}OnPremises") } else { name.to_owned() };
    let is_open = operation.is_open();
    operation.describe.map(|describe| DescribedOperation { method, name, is_open, success, describe })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn methods_are_told_in_order_of_the_alphabet() {
        for resource in &RESOURCES {
            let methods = resource.operations.iter().map(|operation| operation.method);
            assert!(methods.is_sorted(), "{:?}", resource.templates);
        }
    }

    #[test]
    fn no_path_stands_there_twice_and_no_two_operations_have_one_name() {
        for tenant_api in [TenantApi::Preview, TenantApi::Released] {
            let templates = RESOURCES.iter().flat_map(|resource| resource.templates_in(tenant_api));
            let paths: Vec<String> = templates.map(Template::text).collect();
            assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len());
            let described = |resource: &'static Resource| {
                let of_path =
                    move |template| resource.operations.iter().filter_map(move |one| of_operation(one, template));
                resource.templates_in(tenant_api).flat_map(of_path)
            };
            let names: Vec<String> = RESOURCES.iter().flat_map(described).map(|operation| operation.name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        }
    }
}
