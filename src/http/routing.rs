//! How a request finds what serves it: its path is taken apart once, by the templates of a table,
//! into a [`Routed`] value. Whoever wants to know what a request is about asks that value.
//!
//! Literal segments match however they are encoded, those of the API in any case; empty ones are
//! left out, and names stay as they are written until somebody asks for them.

use std::borrow::Cow;
use std::rc::Rc;

use actix_web::http::Method;
use clap::ValueEnum;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::operations::{Length, Needs, Operation};
use crate::access::writes::Write;
use crate::access::{Permission, Place};
use crate::ids::{InvalidId, NamespacePath};
use crate::metrics;

/// What a segment of a path can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A tenant.
    Tenant,
    /// A namespace of it.
    Namespace,
    /// A group there.
    Group,
    /// A client session of the group.
    Session,
    /// An API key.
    Key,
    /// A file of a page.
    File,
}

impl Name {
    const ALL: [Name; 6] = [Name::Tenant, Name::Namespace, Name::Group, Name::Session, Name::Key, Name::File];

    /// As templates, the description and errors call it.
    pub fn text(self) -> &'static str {
        match self {
            Name::Tenant => "tenantId",
            Name::Namespace => "namespaceId",
            Name::Group => "groupid",
            Name::Session => "sessionId",
            Name::Key => "key",
            Name::File => "file",
        }
    }
}

/// What templates begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Root,
    /// What is asked about all tenants.
    Everywhere,
    /// What is in a tenant and in none of its namespaces.
    Tenant,
    /// What is in a namespace.
    Namespace,
    /// What is in the one namespace of a plant that knows of none: the settings say which it is.
    Premises,
}

impl Base {
    fn text(self) -> &'static str {
        match self {
            Base::Root => "",
            Base::Everywhere | Base::Premises => "/api/v1/clientfailover",
            Base::Tenant => "/api/v1/tenants/{tenantId}/clientfailover",
            Base::Namespace => "/api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover",
        }
    }
}

/// What the paths of a resource look like: a base, and what stands below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template(pub Base, pub &'static str);

impl Template {
    /// In full, with names in braces for what differs.
    pub fn text(self) -> String {
        format!("{}{}", self.0.text(), self.1)
    }

    /// The names in it.
    pub fn names(self) -> impl Iterator<Item = Name> {
        self.segments().filter_map(|segment| match segment {
            Segment::Name(name) => Some(name),
            Segment::Literal(_) | Segment::Exact(_) => None,
        })
    }

    fn segments(self) -> impl Iterator<Item = Segment> {
        let Template(base, below) = self;
        let texts = [base.text(), below].into_iter().flat_map(|part| part.split('/'));
        texts.filter(|text| !text.is_empty()).map(move |text| {
            let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            match Name::ALL.into_iter().find(|name| inner == Some(name.text())) {
                Some(name) => Segment::Name(name),
                None if base == Base::Root => Segment::Exact(text),
                None => Segment::Literal(text),
            }
        })
    }
}

/// Which form of the API it is that serves a path below a tenant. What a plant that knows of no
/// tenants asks for has the released form in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TenantApi {
    /// As it was published first.
    #[default]
    Preview,
    /// As it was released.
    Released,
}

/// What paths stand for that depends on the settings.
#[derive(Clone, Debug)]
pub struct ApiPaths {
    /// The form of the API below tenants.
    pub tenant_api: TenantApi,
    /// Where it is that is asked for without a tenant and a namespace.
    pub premises: NamespacePath,
}

/// The form of the API that a resource belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is there in either.
    Either,
    /// This one. The other has something else there.
    Only(TenantApi),
}

/// What paths name, and what can be done with it.
pub struct Resource {
    /// The form of the API that has it below tenants.
    pub form: Form,
    /// What its paths look like.
    pub templates: &'static [Template],
    /// What its requests are counted as.
    pub counted_as: metrics::Route,
    /// Whether it is of many groups, and shows as many of them as its caller has been granted. Its
    /// handlers look at what these are.
    pub is_of_some_groups: bool,
    /// Its methods, in order of the alphabet.
    pub operations: &'static [Operation],
}

impl Resource {
    /// Its templates, where the paths below tenants have that form.
    pub fn templates_in(&self, tenant_api: TenantApi) -> impl Iterator<Item = Template> {
        let is_there = matches!(self.form, Form::Either) || self.form == Form::Only(tenant_api);
        self.templates.iter().copied().filter(move |template| is_there || template.0 == Base::Premises)
    }

    /// The operation of a method. What can be got can be asked for by `HEAD`, whose answers lose
    /// their bodies on the way out.
    fn operation(&self, method: &Method) -> Option<&Operation> {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.operations.iter().find(|operation| operation.method == method)
    }

    /// Its methods, as the header `Allow` has them.
    pub fn methods(&self) -> String {
        let mut methods: Vec<&str> = self.operations.iter().map(|operation| operation.method).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
            methods.sort_unstable();
        }
        methods.join(", ")
    }
}

/// What a request is about, by its path. Noted on the request.
#[derive(Clone, Default)]
pub struct Routed {
    /// What the path names; `None` where nothing is served.
    pub resource: Option<&'static Resource>,
    names: Names,
    /// The namespace that it is in, where the path does not name it.
    given: Option<Rc<NamespacePath>>,
}

impl Routed {
    /// What it is counted as.
    pub fn counted_as(&self) -> metrics::Route {
        self.resource.map_or(metrics::Route::Other, |resource| resource.counted_as)
    }

    /// What a method does there.
    pub fn operation(&self, method: &Method) -> Option<&'static Operation> {
        self.resource.and_then(|resource| resource.operation(method))
    }

    /// What a request needs to be let in. Whatever is not in the table needs most, and a path that
    /// is open is open with every method: it is refused for that alone.
    pub fn needs(&self, method: &Method) -> Needs {
        let of_open_path = || self.resource?.operations.first().filter(|operation| operation.is_open());
        match self.operation(method).or_else(of_open_path) {
            Some(operation) => operation.needs,
            None if is_read(method) => Needs::Permission(Permission::Read),
            None => Needs::Permission(Permission::Administer),
        }
    }

    /// What a request would change, other than by a heartbeat. What is not in the table is counted,
    /// too.
    pub fn write(&self, method: &Method) -> Option<Write> {
        match self.operation(method) {
            Some(operation) => operation.write,
            None => (!is_read(method)).then_some(Write::Other),
        }
    }

    /// How long the answer to a request is.
    pub fn length(&self, method: &Method) -> Length {
        self.operation(method).map_or(Length::Short, |operation| operation.length)
    }

    /// A name in the path, decoded, or as the settings give it to a path that leaves it out; `None`
    /// where the path is about none of that kind.
    pub fn name<'p>(&self, name: Name, path: &'p str) -> Option<Result<Cow<'p, str>, InvalidId>> {
        if let Some(raw) = self.names.raw(name, path) {
            return Some(decode(raw).ok_or(InvalidId::NotUtf8));
        }
        let given = self.given.as_ref()?;
        let text = match name {
            Name::Tenant => given.tenant.as_str(),
            Name::Namespace => given.namespace.as_str(),
            Name::Group | Name::Session | Name::Key | Name::File => return None,
        };
        Some(Ok(Cow::Owned(text.to_owned())))
    }

    /// Where something is to be done. A name that cannot be decoded is nobody's; those who may go
    /// there are told what is wrong with it.
    pub fn place<'p>(&self, path: &'p str) -> Place<'p> {
        let is_of_some_groups = self.resource.is_some_and(|resource| resource.is_of_some_groups);
        let [tenant, namespace, group] = [Name::Tenant, Name::Namespace, Name::Group].map(|name| self.name(name, path));
        match (tenant, namespace, group) {
            (Some(Ok(tenant)), None, None) => Place::Tenant { tenant },
            (Some(Ok(tenant)), Some(Ok(namespace)), Some(Ok(group))) => Place::Group { tenant, namespace, group },
            (Some(Ok(tenant)), Some(Ok(namespace)), None) if is_of_some_groups => Place::GroupsOf { tenant, namespace },
            (Some(Ok(tenant)), Some(Ok(namespace)), _) => Place::Namespace { tenant, namespace },
            _ => Place::Everywhere,
        }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Where in a path each name stands, as bytes from and to.
#[derive(Clone, Copy, Default)]
struct Names([Option<Span>; Name::ALL.len()]);

type Span = (usize, usize);

impl Names {
    fn raw(self, name: Name, path: &str) -> Option<&str> {
        self.0[name as usize].and_then(|(from, to)| path.get(from..to))
    }
}

/// All templates, ready to be compared with paths.
pub struct Table {
    /// By their number of segments.
    entries: Vec<Vec<Entry>>,
    /// What a path that names nothing is below all the same: whoever may not go there is told no
    /// more than that.
    places: [(Base, Box<[Segment]>); 3],
    premises: Rc<NamespacePath>,
}

struct Entry {
    base: Base,
    segments: Box<[Segment]>,
    resource: &'static Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    /// In any case, and however it is encoded.
    Literal(&'static str),
    /// In this case alone, however it is encoded: what is no part of the API is asked for by
    /// programs and pages of ours.
    Exact(&'static str),
    Name(Name),
}

/// The longest template has eleven.
const MAX_SEGMENTS: usize = 12;

/// Where in a path its segments stand that are not empty: as many as any template has, and how many
/// there are.
struct Segments {
    spans: [Span; MAX_SEGMENTS],
    count: usize,
}

impl Segments {
    /// `None` for what is no path, such as the target of `OPTIONS *`.
    fn of(path: &str) -> Option<Segments> {
        if !path.starts_with('/') {
            return None;
        }
        let mut segments = Segments { spans: [(0, 0); MAX_SEGMENTS], count: 0 };
        let mut from = 0;
        for segment in path.split('/') {
            let to = from + segment.len();
            if !segment.is_empty() {
                if let Some(span) = segments.spans.get_mut(segments.count) {
                    *span = (from, to);
                }
                segments.count += 1;
            }
            from = to + 1;
        }
        Some(segments)
    }

    /// The names at these places, if the segments begin with all that is wanted.
    fn begin_with(&self, path: &str, wanted: &[Segment]) -> Option<Names> {
        let mut names = Names::default();
        let found = self.spans.get(..wanted.len().min(self.count)).filter(|found| found.len() == wanted.len())?;
        for (wanted, (from, to)) in std::iter::zip(wanted, found) {
            match wanted {
                Segment::Literal(literal) if is(path.get(*from..*to)?, literal) => {}
                Segment::Exact(exact) if decode(path.get(*from..*to)?)? == *exact => {}
                Segment::Literal(_) | Segment::Exact(_) => return None,
                Segment::Name(name) => names.0[*name as usize] = Some((*from, *to)),
            }
        }
        Some(names)
    }
}

impl Table {
    /// Of these resources.
    pub fn new(resources: &'static [Resource], paths: &ApiPaths) -> Table {
        let mut entries: Vec<Vec<Entry>> = Vec::new();
        for resource in resources {
            for template in resource.templates_in(paths.tenant_api) {
                let segments: Box<[Segment]> = template.segments().collect();
                if entries.len() <= segments.len() {
                    entries.resize_with(segments.len() + 1, Vec::new);
                }
                entries[segments.len()].push(Entry { base: template.0, segments, resource });
            }
        }
        let of_group = |base| (base, Template(base, "/groups/{groupid}").segments().collect());
        // All that is in a namespace, whether or not it is about failover.
        let last_name = |segment: &Segment| *segment == Segment::Name(Name::Namespace);
        let mut of_namespace: Vec<Segment> = Template(Base::Namespace, "").segments().collect();
        of_namespace.truncate(of_namespace.iter().position(last_name).map_or(0, |place| place + 1));
        let places = [of_group(Base::Namespace), of_group(Base::Premises), (Base::Namespace, of_namespace.into())];
        Table { entries, places, premises: Rc::new(paths.premises.clone()) }
    }

    /// What a path is about.
    pub fn find(&self, path: &str) -> Routed {
        let Some(segments) = Segments::of(path) else { return Routed::default() };
        let mut entries = self.entries.get(segments.count).into_iter().flatten();
        let served = entries.find_map(|entry| Some((entry, segments.begin_with(path, &entry.segments)?)));
        if let Some((entry, names)) = served {
            return Routed { resource: Some(entry.resource), names, given: self.given(entry.base) };
        }
        let mut places = self.places.iter();
        let place = places.find_map(|(base, place)| Some((*base, segments.begin_with(path, place)?)));
        place.map_or_else(Routed::default, |(base, names)| Routed { resource: None, names, given: self.given(base) })
    }

    fn given(&self, base: Base) -> Option<Rc<NamespacePath>> {
        (base == Base::Premises).then(|| self.premises.clone())
    }
}

/// Whether a segment is that literal: in any case, and however it is encoded.
fn is(segment: &str, literal: &str) -> bool {
    segment.eq_ignore_ascii_case(literal)
        || segment.contains('%') && decode(segment).is_some_and(|decoded| decoded.eq_ignore_ascii_case(literal))
}

/// A segment as what it stands for; `None` where that is not UTF-8.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::super::routes::RESOURCES;
    use super::*;
    use crate::ids::{NamespaceId, TenantId};
    use crate::metrics::Route;

    const GROUPS: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";

    fn find(path: &str) -> Routed {
        find_in(TenantApi::Preview, path)
    }

    fn find_in(tenant_api: TenantApi, path: &str) -> Routed {
        let premises = NamespacePath {
            tenant: TenantId::parse("plant").expect("a tenant"),
            namespace: NamespaceId::parse("line1").expect("a namespace"),
        };
        Table::new(&RESOURCES, &ApiPaths { tenant_api, premises }).find(path)
    }

    fn method(name: &str) -> Method {
        Method::from_bytes(name.as_bytes()).expect("a method")
    }

    #[test]
    fn a_path_is_counted_under_what_it_is_about() {
        let namespace = "/api/v1/tenants/t/namespaces/n/clientfailover";
        for (below, route) in [
            ("/groups", Route::Groups),
            ("/groups/g", Route::Group),
            ("/groups/g/clientsessions", Route::Sessions),
            ("/groups/g/clientsessions/s", Route::Session),
            ("/groups/g/clientsessions/s/x", Route::Other),
            ("/groups/g/clientsessions/s/x/y/z", Route::Other),
            ("/groups/g/transitions", Route::Transitions),
            ("/groups/g/events", Route::GroupEvents),
            ("/groups/g/status", Route::GroupStatus),
            ("/events", Route::NamespaceEvents),
            ("/status", Route::NamespaceStatus),
            ("/nothing", Route::Other),
        ] {
            assert_eq!(find(&format!("{namespace}{below}")).counted_as(), route, "{below}");
        }
        for (path, route) in [
            ("/health/live", Route::Health),
            ("/metrics", Route::Metrics),
            ("/api/v1/clientfailover/status", Route::Overview),
            ("/docs/swagger-ui.css", Route::Description),
            ("/", Route::Page),
            ("///", Route::Page),
            ("/page/main.js", Route::Page),
            ("/page", Route::Other),
            ("", Route::Other),
            ("*", Route::Other),
        ] {
            assert_eq!(find(path).counted_as(), route, "{path}");
        }
    }

    #[test]
    fn literal_segments_match_however_they_are_written_and_empty_ones_are_left_out() {
        for path in [
            "//health//live//",
            "/API/v1//Tenants/t/NAMESPACES/n/ClientFailover/Groups/g/clientSessions/s/",
            "/api/v1/%74enants/t/namespaces/n/client%46ailover/groups/g/clientsessions/s",
        ] {
            assert!(find(path).resource.is_some(), "{path}");
        }
        for path in ["/Health/live", "/%48ealth/live", "/Page/main.js"] {
            assert!(find(path).resource.is_none(), "{path} is no part of the API");
        }
    }

    #[test]
    fn names_keep_their_case_and_may_be_those_of_literal_segments() {
        let path = "/API/v1/Tenants/Groups/NAMESPACES/Tenants/ClientFailover/Groups/G%20g/clientSessions/API/";
        let routed = find(path);
        let name = |name| routed.name(name, path).map(|found| found.expect("it is UTF-8").into_owned());
        let names = [Name::Tenant, Name::Namespace, Name::Group, Name::Session].map(name);
        assert_eq!(names.map(Option::unwrap), ["Groups", "Tenants", "G g", "API"]);
        assert_eq!(name(Name::Key), None);
        let path = "/api/v1/tenants/Status/Namespaces/n/ClientFailover/Events";
        assert_eq!(find(path).name(Name::Tenant, path).map(Result::unwrap).as_deref(), Some("Status"));
    }

    #[test]
    fn a_place_is_told_by_the_names_of_a_path_whether_or_not_anything_is_served_there() {
        let place = |path: &str| format!("{:?}", find(path).place(path));
        let of = |place: Place<'_>| format!("{place:?}");
        let (tenant, namespace, group) = (Cow::from("t"), Cow::from("n"), Cow::from("g"));
        let in_group = of(Place::Group { tenant: tenant.clone(), namespace: namespace.clone(), group });
        let in_namespace = of(Place::Namespace { tenant: tenant.clone(), namespace: namespace.clone() });
        let of_groups = of(Place::GroupsOf { tenant: tenant.clone(), namespace });
        for below in ["/g", "/g/clientsessions/s", "/g/else", "/g/clientsessions/s/x/y/z/z/z/z", "//%67/"] {
            assert_eq!(place(&format!("{GROUPS}{below}")), in_group, "{below}");
        }
        assert_eq!(place(GROUPS), of_groups);
        for below in ["histories", "nothing", "groups/%FF", "groups/%FF/status"] {
            assert_eq!(place(&format!("/api/v1/tenants/t/namespaces/n/clientfailover/{below}")), in_namespace);
        }
        assert_eq!(place("/api/v1/tenants/t/namespaces/n"), in_namespace);
        assert_eq!(place("/api/v1/tenants/t/clientfailover/keys/3"), of(Place::Tenant { tenant }));
        for path in [
            "/",
            "/api/v1/clientfailover/status",
            "/api/v1/tenants/t",
            "/api/v1/tenants/t/clientfailover/nothing",
            "/api/v1/tenants/%FF/namespaces/n/clientfailover/groups",
            "/api/v1/tenants/t/namespaces/%FF/clientfailover/groups/g",
        ] {
            assert_eq!(place(path), of(Place::Everywhere), "{path}");
        }
    }

    #[test]
    fn whatever_may_change_something_and_is_no_heartbeat_is_counted() {
        let kind = |name: &str, below: &str| find(&format!("{GROUPS}{below}")).write(&method(name));
        assert_eq!(kind("POST", "/g/clientsessions/s"), None);
        assert_eq!(kind("GET", "/g"), None);
        assert_eq!(kind("HEAD", "/g/clientsessions/s"), None);
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
        let needs = |name: &str, below: &str| match find(&format!("{GROUPS}{below}")).needs(&method(name)) {
            Needs::Permission(permission) => permission,
            open => panic!("{name} {below} takes {open:?}"),
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
        for below in ["/g", "/g/override", "/g/clientsessions/s/else"] {
            assert_eq!(needs("POST", below), Permission::Administer, "{below}");
        }
        for name in ["GET", "POST", "PATCH"] {
            assert_eq!(find("/health/live").needs(&method(name)), Needs::Nothing, "{name}");
            assert_eq!(find("/page/main.js").needs(&method(name)), Needs::OwnHost, "{name}");
        }
    }
}
