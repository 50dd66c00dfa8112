//! One operation, described: what it takes and answers beyond what is true of every operation.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use refusals::Refusal;

pub mod refusals;

/// Describes one operation; schemas that it names are added to the generator.
pub type Describe = fn(&mut SchemaGenerator) -> Description;

/// The operation id of all examples.
pub const AN_OPERATION_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What every body of a request is.
pub const JSON: &str = "application/json";

/// What a method does at a path.
pub struct DescribedOperation {
    /// The method.
    pub method: &'static str,
    /// The operation's name.
    pub name: String,
    /// Whether nobody is asked who they are.
    pub is_open: bool,
    /// The status of a success.
    pub success: u16,
    /// What else there is to say.
    pub describe: Describe,
}

/// What an operation takes and answers, beyond what is true of every operation.
pub struct Description {
    tag: &'static str,
    summary: &'static str,
    text: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answer: Value,
    /// Another status with the same answer, and what it says.
    alike: Option<(u16, &'static str)>,
    instead: Option<(u16, &'static str, Value)>,
    refusals: BTreeMap<u16, Value>,
}

impl Description {
    /// An operation.
    pub fn of(tag: &'static str, summary: &'static str, text: &'static str) -> Description {
        let (parameters, refusals) = (Vec::new(), BTreeMap::new());
        Description {
            tag,
            summary,
            text,
            parameters,
            body: None,
            answer: Value::Null,
            alike: None,
            instead: None,
            refusals,
        }
    }

    /// It can be refused so.
    pub fn refuses(self, refusal: Refusal) -> Description {
        self.refuses_because(refusal, refusal.description())
    }

    /// It can be refused so, for this.
    pub fn refuses_because(mut self, refusal: Refusal, why: &str) -> Description {
        let mut answer = json!({"$ref": format!("#/components/responses/{}", refusal.name())});
        if why != refusal.description() {
            answer["description"] = why.into();
        }
        self.refusals.insert(refusal.status(), answer);
        self
    }

    /// It asks the database, where something of ours can be wrong.
    pub fn asks_the_database(self) -> Description {
        self.refuses(Refusal::Defect)
    }

    /// A parameter of the query.
    pub fn query(self, name: &str, schema: Value, text: &str) -> Description {
        self.parameter("query", name, schema, text)
    }

    /// A header that only this operation reads.
    pub fn header(self, name: &str, schema: Value, text: &str) -> Description {
        self.parameter("header", name, schema, text)
    }

    fn parameter(mut self, place: &str, name: &str, schema: Value, text: &str) -> Description {
        self.parameters.push(json!({"name": name, "in": place, "schema": schema, "description": text}));
        self.refuses(Refusal::BadRequest)
    }

    /// A body, with examples by what they show.
    pub fn takes<T: JsonSchema>(mut self, schemas: &mut SchemaGenerator, examples: &[(&str, Value)]) -> Description {
        let examples: Map<String, Value> = std::iter::zip(1.., examples)
            .map(|(number, (shows, value))| (format!("example{number}"), json!({"summary": shows, "value": value})))
            .collect();
        let schema = schemas.subschema_for::<T>();
        self.body = Some(json!({
            "required": true,
            "description": "JSON in UTF-8, uncompressed, of at most 64 KiB.",
            "content": {JSON: {"schema": schema, "examples": examples}},
        }));
        self.refuses(Refusal::BadRequest)
            .refuses(Refusal::BodyTooSlow)
            .refuses(Refusal::BodyTooLarge)
            .refuses(Refusal::NotJson)
    }

    /// What a success is answered with: a type of the wire, as JSON.
    pub fn answers<T: JsonSchema>(
        self,
        schemas: &mut SchemaGenerator,
        text: &str,
        headers: &[&str],
        example: Value,
    ) -> Description {
        let schema = schemas.subschema_for::<T>();
        self.answers_with(JSON, schema.to_value(), text, headers, example)
    }

    /// What a success is answered with.
    pub fn answers_with(
        mut self,
        content_type: &str,
        schema: Value,
        text: &str,
        headers: &[&str],
        example: Value,
    ) -> Description {
        self.answer = json!({
            "description": text,
            "headers": header_references(headers),
            "content": {content_type: {"schema": schema, "example": example}},
        });
        self
    }

    /// The same body, with another status that is a success as well.
    pub fn answers_alike(self, status: u16, text: &'static str) -> Description {
        Description { alike: Some((status, text)), ..self }
    }

    /// A success that has this body instead, where it is asked for: of that status.
    pub fn answers_instead<T: JsonSchema>(
        mut self,
        schemas: &mut SchemaGenerator,
        status: u16,
        text: &'static str,
        example: Value,
    ) -> Description {
        let content = json!({JSON: {"schema": schemas.subschema_for::<T>(), "example": example}});
        self.instead = Some((status, text, content));
        self
    }

    /// A success has no body.
    pub fn answers_nothing(mut self, text: &str) -> Description {
        self.answer = json!({"description": text, "headers": header_references(&[])});
        self
    }

    /// The same, where its caller can be refused for who they are.
    fn refuses_callers(self) -> Description {
        const FOR_WHO_THEY_ARE: [Refusal; 4] =
            [Refusal::NotAuthenticated, Refusal::NotAllowed, Refusal::TooManyRequests, Refusal::Unavailable];
        FOR_WHO_THEY_ARE.into_iter().fold(self, |described, refusal| {
            if described.refusals.contains_key(&refusal.status()) { described } else { described.refuses(refusal) }
        })
    }

    /// As the document has it.
    pub fn into_value(self, operation: &DescribedOperation) -> Value {
        let described = if operation.is_open { self } else { self.refuses_callers() };
        let mut responses: Map<String, Value> =
            described.refusals.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect();
        if let Some((status, text)) = described.alike {
            let mut alike = described.answer.clone();
            alike["description"] = text.into();
            responses.insert(status.to_string(), alike);
        }
        let mut answer = described.answer;
        if let Some((status, text, content)) = described.instead {
            if status == operation.success {
                let usual = answer["content"][JSON]["schema"].take();
                answer["content"][JSON]["schema"] = json!({"oneOf": [usual, content[JSON]["schema"]]});
            } else {
                let instead = json!({"description": text, "headers": header_references(&[]), "content": content});
                responses.insert(status.to_string(), instead);
            }
        }
        responses.insert(operation.success.to_string(), answer);
        let mut value = json!({
            "operationId": operation.name,
            "tags": [described.tag],
            "summary": described.summary,
            "description": described.text,
            "parameters": described.parameters,
            "responses": responses,
        });
        if let Some(body) = described.body {
            value["requestBody"] = body;
        }
        if operation.is_open {
            value["security"] = json!([]);
        }
        value
    }
}

/// The headers of an answer by their names in the document; every answer has the operation id.
pub fn header_references(names: &[&str]) -> Map<String, Value> {
    std::iter::once(&"Operation-Id")
        .chain(names)
        .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})))
        .collect()
}

/// The schema of a parameter that is a whole number of zero or more, and `default` where it is
/// absent.
pub fn whole_number(default: i64) -> Value {
    let mut schema = whole_number_without_default();
    schema["default"] = default.into();
    schema
}

/// The same without a value where it is absent.
pub fn whole_number_without_default() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 0})
}

/// As [`whole_number`], and not more than `most`.
pub fn number_up_to(most: i64, default: i64) -> Value {
    let mut schema = whole_number(default);
    schema["maximum"] = most.into();
    schema
}
