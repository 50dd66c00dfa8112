//! What names nothing is told from what is merely empty, with what may have been meant.
//!
//! Tenants and namespaces exist as soon as a group is in them, and a group leaves events behind. So
//! a name that has neither is a slip, and whoever watches it would watch nothing.

use client_failover_client::{ClientError, EventStream, Scope, Service};
use client_failover_wire::ids::{GroupId, NamespacePath};
use serde::Deserialize;

use super::OperatorError;
use super::output::{instant, printable};
use super::suggest;

/// How many groups are looked through for one that may have been meant, a page at a time.
const MAX_GROUPS: usize = 2_000;
const PAGE: usize = 200;

/// The most names that are listed where none of them is like what was written.
const MAX_LISTED: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Namespace {
    tenant_id: String,
    namespace_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    total: i64,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    group_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Happened {
    time: String,
}

/// Whether something is there that is named, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It is.
    There,
    /// It was: it has left events. When it was deleted, if that is still kept.
    Gone(Option<String>),
    /// Nothing is known of it.
    Never,
}

async fn page(service: &Service, scope: Scope<'_>, skip: usize, count: usize) -> Result<Page, OperatorError> {
    Ok(service.read(&scope.path(&["status"]), &[("skip", skip.to_string()), ("count", count.to_string())]).await?)
}

/// Whether there is any group.
pub async fn has_groups(service: &Service, scope: Scope<'_>) -> Result<bool, OperatorError> {
    Ok(page(service, scope, 0, 1).await?.total > 0)
}

/// Whether a group is there, or was.
pub async fn existence_of_group(
    service: &Service,
    scope: Scope<'_>,
    group: &GroupId,
) -> Result<Existence, OperatorError> {
    match service.find_raw(&scope.group(group, &["status"])).await? {
        Some(_) => Ok(Existence::There),
        None => past(service, &scope.group(group, &["events"])).await,
    }
}

/// Whether there are groups in a tenant or a namespace, or were some.
pub async fn existence_of_groups(service: &Service, scope: Scope<'_>) -> Result<Existence, OperatorError> {
    if has_groups(service, scope).await? { Ok(Existence::There) } else { past(service, &scope.path(&["events"])).await }
}

/// What the events tell of something that is not there now.
async fn past(service: &Service, path: &[&str]) -> Result<Existence, OperatorError> {
    let mut now = EventStream::open(service, path, None).await?;
    let end = now.next(service).await?.and_then(|block| block.id).unwrap_or(0);
    let mut stream = EventStream::open(service, path, Some(0)).await?;
    let mut past = Existence::Never;
    while let Some(block) = stream.next(service).await? {
        if !block.data.is_empty() && block.name != super::events::MISSED {
            let deleted = (block.name == "GroupDeleted").then(|| serde_json::from_str::<Happened>(&block.data));
            past = Existence::Gone(deleted.and_then(Result::ok).map(|event| event.time));
        }
        if block.id.is_some_and(|id| id >= end) {
            break;
        }
    }
    Ok(past)
}

/// The sentence about a group that is not there any more.
pub fn deleted(group: &GroupId, at: Option<&str>) -> String {
    let at = at.map_or_else(String::new, |time| format!(" (at {} UTC)", instant(time)));
    format!("the group '{}' was deleted{at}; this is what is kept of it", printable(group.as_str()))
}

/// The error about a place that has no groups.
pub async fn no_groups(service: &Service, scope: Scope<'_>) -> OperatorError {
    let (place, hint) = match scope {
        Scope::Everything => (" at all".to_owned(), None),
        Scope::Tenant(tenant) => {
            (format!(" in tenant '{}'", printable(tenant.as_str())), tenant_hint(service, tenant.as_str()).await)
        }
        Scope::Namespace(path) => (
            format!(
                " in namespace '{}' of tenant '{}'",
                printable(path.namespace.as_str()),
                printable(path.tenant.as_str())
            ),
            namespace_hint(service, path).await,
        ),
    };
    OperatorError::Nothing(format!("there are no groups{place}{}", hint.unwrap_or_default()))
}

/// The error about a group that never was.
pub async fn no_group(service: &Service, namespace: &NamespacePath, group: &GroupId) -> OperatorError {
    let place = format!(
        "namespace '{}' of tenant '{}'",
        printable(namespace.namespace.as_str()),
        printable(namespace.tenant.as_str())
    );
    let hint = group_hint(service, namespace, group).await.unwrap_or_default();
    OperatorError::Nothing(format!(
        "there is no group '{}' in {place}, and there was none{hint}",
        printable(group.as_str())
    ))
}

/// The error about a text that no group has.
pub async fn no_match(service: &Service, scope: Scope<'_>, text: &str) -> OperatorError {
    let hint = match group_names(service, scope).await {
        Some(names) => hint(text, &names, "there are").unwrap_or_default(),
        None => String::new(),
    };
    OperatorError::Nothing(format!("no group has '{}' in its id or name{hint}", printable(text)))
}

/// The service's own words about a group that is not there, with what may have been meant.
pub async fn with_hint(
    error: ClientError,
    service: &Service,
    namespace: &NamespacePath,
    group: &GroupId,
) -> OperatorError {
    match error {
        ClientError::Refused(refusal) if refusal.status == reqwest::StatusCode::NOT_FOUND => {
            let hint = group_hint(service, namespace, group).await.unwrap_or_default();
            let sentence = hint.trim_start_matches("; ");
            if sentence.is_empty() {
                ClientError::Refused(refusal).into()
            } else {
                super::with_sentence(refusal, &format!("Hint: {sentence}"))
            }
        }
        error => error.into(),
    }
}

/// What may have been meant, to be put behind a sentence. `None` where that cannot be found out, or
/// nothing is like it.
async fn group_hint(service: &Service, namespace: &NamespacePath, group: &GroupId) -> Option<String> {
    let names = group_names(service, Scope::Namespace(namespace)).await?;
    if names.is_empty() {
        let hint = namespace_hint(service, namespace).await.unwrap_or_default();
        return Some(format!("; the namespace has no groups at all{hint}"));
    }
    hint(group.as_str(), &names, "there are")
}

/// The ids of groups; `None` where they cannot be had.
async fn group_names(service: &Service, scope: Scope<'_>) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    while names.len() < MAX_GROUPS {
        let found = page(service, scope, names.len(), PAGE).await.ok()?;
        let is_last = found.groups.len() < PAGE;
        names.extend(found.groups.into_iter().map(|group| group.group_id));
        if is_last {
            break;
        }
    }
    Some(names)
}

/// Some namespaces of all tenants; `None` for who may not see them.
async fn namespaces(service: &Service) -> Option<Vec<Namespace>> {
    let path = Scope::Everything.path(&["namespaces"]);
    service.read(&path, &[("count", MAX_GROUPS.to_string())]).await.ok()
}

async fn tenant_hint(service: &Service, tenant: &str) -> Option<String> {
    let mut tenants: Vec<String> = namespaces(service).await?.into_iter().map(|found| found.tenant_id).collect();
    tenants.dedup();
    hint(tenant, &tenants, "there are the tenants")
}

async fn namespace_hint(service: &Service, namespace: &NamespacePath) -> Option<String> {
    let found = namespaces(service).await?;
    let (tenant, id) = (namespace.tenant.as_str(), namespace.namespace.as_str());
    let of_tenant = found.iter().filter(|found| found.tenant_id == tenant);
    let of_tenant: Vec<String> = of_tenant.map(|found| found.namespace_id.clone()).collect();
    if !of_tenant.is_empty() {
        return hint(id, &of_tenant, "the tenant has");
    }
    let mut tenants: Vec<String> = found.into_iter().map(|found| found.tenant_id).collect();
    tenants.dedup();
    hint(tenant, &tenants, "there are the tenants")
}

/// The name that is most like what was written, or all of a few names.
fn hint(written: &str, names: &[String], otherwise: &str) -> Option<String> {
    // What the service counted a moment ago may be gone by now.
    let names = names.iter().map(String::as_str).filter(|name| *name != written);
    if let Some(name) = suggest::nearest(written, names.clone()) {
        return Some(format!("; did you mean '{}'?", printable(name)));
    }
    let quoted: Vec<String> = names.map(|name| format!("'{}'", printable(name))).collect();
    (1..=MAX_LISTED).contains(&quoted.len()).then(|| format!("; {otherwise} {}", quoted.join(", ")))
}
