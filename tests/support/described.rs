//! The description of the API as a judge: whether an exchange with a running service is as it says.

use std::collections::BTreeSet;
use std::sync::Mutex;

use boon::{Compiler, Draft, Schemas};
use reqwest::{Client, Method};
use serde_json::{Map, Value, json};

use crate::support::helpers::{Answer, TestReplica};

/// What is said to proxies and browsers, and to no client.
const FOR_OTHERS: [&str; 2] = ["x-accel-buffering", "x-content-type-options"];

/// What every answer over HTTP may have.
const HEADERS_OF_HTTP: [&str; 5] = ["content-length", "content-type", "date", "transfer-encoding", "connection"];

/// The description that a service gives.
pub struct Described {
    pub document: Value,
    /// The same, with answers that may hold what is described and nothing else.
    strict: Value,
    /// The operations that were seen, with the statuses of their answers.
    seen: Mutex<BTreeSet<(String, u16)>>,
}

/// An operation of the description.
pub struct Operation<'a> {
    pub method: Method,
    pub path: &'a str,
    pub value: &'a Value,
}

impl Operation<'_> {
    pub fn id(&self) -> &str {
        self.value["operationId"].as_str().expect("an operation has an id")
    }

    pub fn statuses(&self) -> impl Iterator<Item = u16> {
        let responses = self.value["responses"].as_object().expect("an operation has answers");
        responses.keys().map(|status| status.parse().expect("a status is a number"))
    }

    fn fits(&self, path: &str) -> bool {
        let fits = |(wanted, found): (&str, &str)| wanted == found || wanted.starts_with('{') && !found.is_empty();
        self.path.split('/').count() == path.split('/').count()
            && std::iter::zip(self.path.split('/'), path.split('/')).all(fits)
    }
}

impl Described {
    pub async fn of(replica: &TestReplica) -> Described {
        let document = Answer::of(replica.http.get(format!("{}/openapi.json", replica.url))).await.expect_ok();
        let mut strict = document.clone();
        let schemas = strict["components"]["schemas"].as_object_mut().expect("there are schemas");
        for schema in schemas.values_mut().filter(|schema| schema["properties"].is_object()) {
            schema["additionalProperties"] = false.into();
        }
        Described { document, strict, seen: Mutex::default() }
    }

    /// All operations, in order of their paths.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.document["paths"].as_object().expect("there are paths");
        let mut operations = Vec::new();
        for (path, item) in paths {
            let methods = item.as_object().expect("a path has methods").iter();
            operations.extend(methods.filter(|(method, _)| *method != "parameters").map(|(method, value)| Operation {
                method: Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method"),
                path,
                value,
            }));
        }
        operations
    }

    /// What stands at the place that a value refers to; the value itself where it refers to none.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(place) => {
                let pointer = place.strip_prefix('#').expect("it refers to the document");
                self.document.pointer(pointer).unwrap_or_else(|| panic!("{place} is not there"))
            }
            None => value,
        }
    }

    /// What is wrong with a value by a schema of the description.
    pub fn wrong(&self, schema: &Value, value: &Value) -> Option<String> {
        wrong(&self.document, schema, value)
    }

    /// The same of an answer, which may hold what is described and nothing else.
    pub fn wrong_answer(&self, schema: &Value, value: &Value) -> Option<String> {
        wrong(&self.strict, schema, value)
    }

    /// Which operations were answered with which statuses.
    pub fn seen(&self) -> BTreeSet<(String, u16)> {
        self.seen.lock().expect("nothing panicked").clone()
    }

    /// Sends a request, and judges it and its answer.
    pub async fn exchange(&self, replica: &TestReplica, method: Method, target: &str, body: Option<Value>) -> Answer {
        self.exchange_with(&replica.http, replica, method, target, &[], body).await
    }

    pub async fn exchange_with(
        &self,
        http: &Client,
        replica: &TestReplica,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = http.request(method.clone(), format!("{}{target}", replica.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = Answer::of(request).await;
        let operation = self.judge_answer(&method, target, &answer);
        if answer.status.is_success() {
            if let Some(body) = &body {
                let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
                assert_eq!(self.wrong(schema, body), None, "{method} {target}: {body}");
            }
            self.judge_parameters(&operation, target, headers);
        }
        answer
    }

    /// Judges an answer; returns its operation.
    pub fn judge_answer(&self, method: &Method, target: &str, answer: &Answer) -> Operation<'_> {
        let path = target.split('?').next().unwrap_or_default();
        let operation = self.operations().into_iter().find(|it| it.method == method && it.fits(path));
        let operation = operation.unwrap_or_else(|| panic!("{method} {path} is not described"));
        let status = answer.status.as_u16();
        let what = format!("{method} {target} {status}");
        let described = &operation.value["responses"][status.to_string()];
        assert!(described.is_object(), "{what} is not described: {}", answer.text);
        let described = self.resolve(described);
        self.judge_headers(described, answer, &what);
        if described["content"].is_null() {
            assert_eq!(answer.text, "", "{what} has no body");
            self.seen.lock().expect("nothing panicked").insert((operation.id().to_owned(), status));
            return operation;
        }
        let (kind, _) = answer.header("content-type").split_once(';').unwrap_or((answer.header("content-type"), ""));
        let content = &described["content"][kind];
        assert!(content.is_object(), "{what}: {kind} is not described");
        let body = match kind {
            "application/json" => answer.body.clone(),
            // Of each event, which the caller reads.
            "text/event-stream" => content["example"].clone(),
            _ => Value::String(answer.text.clone()),
        };
        assert_eq!(self.wrong_answer(&content["schema"], &body), None, "{what}: {body:#}");
        self.seen.lock().expect("nothing panicked").insert((operation.id().to_owned(), status));
        operation
    }

    fn judge_headers(&self, described: &Value, answer: &Answer, what: &str) {
        let headers = described["headers"].as_object().unwrap_or_else(|| panic!("{what} has headers"));
        for (name, header) in headers {
            let header = self.resolve(header);
            let Some(value) = answer.headers.get(name) else {
                assert_ne!(header["required"], true, "{what} lacks {name}");
                continue;
            };
            let value = read_as(&header["schema"], value.to_str().expect("ASCII"));
            assert_eq!(self.wrong(&header["schema"], &value), None, "{what}: {name}");
        }
        for name in answer.headers.keys().map(|name| name.as_str()) {
            let is_described = headers.keys().any(|described| described.eq_ignore_ascii_case(name));
            let is_known = HEADERS_OF_HTTP.contains(&name) || FOR_OTHERS.contains(&name);
            assert!(is_described || is_known, "{what}: the header {name} is not described");
        }
    }

    /// Whether the description takes the parameters that the service took.
    fn judge_parameters(&self, operation: &Operation<'_>, target: &str, headers: &[(&str, &str)]) {
        let described = operation.value["parameters"].as_array().expect("a list").iter();
        let described: Vec<&Value> = described.map(|parameter| self.resolve(parameter)).collect();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|given| ("query", given));
        let headers = headers.iter().filter(|(name, _)| !["authorization", "traceparent"].contains(name));
        for (place, (name, value)) in query.chain(headers.map(|given| ("header", *given))) {
            let parameter = described.iter().find(|parameter| {
                parameter["in"] == place && parameter["name"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(name))
            });
            let parameter = parameter.unwrap_or_else(|| panic!("{}: {place} {name} is not described", operation.id()));
            let value = read_as(&parameter["schema"], &value.replace("%3A", ":"));
            assert_eq!(self.wrong(&parameter["schema"], &value), None, "{} {name}", operation.id());
        }
    }
}

/// A text as the type that a schema has.
fn read_as(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("string") => text.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

fn wrong(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    const PLACE: &str = "http://description/schema.json";
    let mut root = Map::new();
    root.insert("allOf".to_owned(), json!([schema]));
    root.insert("components".to_owned(), json!({"schemas": document["components"]["schemas"]}));
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.enable_format_assertions();
    compiler.add_resource(PLACE, Value::Object(root)).expect("it is JSON");
    let mut schemas = Schemas::new();
    let compiled = compiler.compile(PLACE, &mut schemas).unwrap_or_else(|error| panic!("{error:#}\n{schema:#}"));
    schemas.validate(value, compiled).err().map(|error| format!("{error:#}"))
}
