//! Values that several resources show or take: how they are written, and how they are described.

use std::borrow::Cow;

use actix_web::HttpResponse;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::json::Object;
use crate::arbitration::FailoverTimeout;
use crate::ids::MAX_CHARS;
use crate::store::groups::AdditionalData;

/// The longest `Name`, in characters.
pub const MAX_NAME_CHARS: usize = 260;
/// The longest `Description`, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 4_096;

/// The answer of whatever names one thing: its id as a JSON string.
pub fn answer_id(id: &str) -> HttpResponse {
    HttpResponse::Ok().json(id)
}

/// What a client keeps with a group or a session: `None` where it says nothing of it.
pub fn read_additional_data<const N: usize>(
    object: &Object<'_, N>,
    place: usize,
) -> Result<Option<Option<AdditionalData>>, ApiError> {
    if !object.is_said(place) {
        return Ok(None);
    }
    let Some(text) = object.raw(place) else { return Ok(Some(None)) };
    AdditionalData::parse(text).map(|data| Some(Some(data))).ok_or_else(|| {
        object.wrong(place, "null or an object of at most 16 KiB in which no more than 100 are in one another")
    })
}

/// What clients keep with a group or a session, as they sent it.
pub struct Kept<'a>(&'a RawValue);

impl Kept<'_> {
    /// What is shown of it.
    pub fn of(data: Option<&AdditionalData>) -> Option<Kept<'_>> {
        // It was read as an object when it came.
        data.and_then(|data| serde_json::from_str(data.as_str()).ok()).map(Kept)
    }

    /// What is taken, for the description of the API.
    pub fn input_schema() -> Schema {
        json_schema!({
            "type": ["object", "null"],
            "additionalProperties": true,
            "description": "Whatever a client wants to keep here, of at most 16 KiB. It is given back as it was sent, and nothing is decided by it.",
        })
    }
}

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Kept<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AdditionalData".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": true,
            "description": "What a client keeps here, as it sent it.",
        })
    }
}

/// A timeout as a number of milliseconds, without a fraction where it has none.
pub struct Milliseconds(pub FailoverTimeout);

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.ticks() % FailoverTimeout::TICKS_PER_MS {
            0 => serializer.serialize_i64(self.0.whole_ms()),
            _ => serializer.serialize_f64(self.0.ticks() as f64 / FailoverTimeout::TICKS_PER_MS as f64),
        }
    }
}

impl JsonSchema for Milliseconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Milliseconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": FailoverTimeout::MIN_TICKS / FailoverTimeout::TICKS_PER_MS,
            "maximum": FailoverTimeout::MAX_TICKS / FailoverTimeout::TICKS_PER_MS,
            "description": "The failover timeout in milliseconds.",
        })
    }
}

/// A role on the wire, for the description of the API.
pub struct RoleNumber;

impl JsonSchema for RoleNumber {
    fn schema_name() -> Cow<'static, str> {
        "ClientRole".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let roles = client_failover_wire::Role::ALL;
        json_schema!({
            "type": "integer",
            "enum": roles.map(client_failover_wire::Role::number),
            "x-enum-varnames": roles.map(client_failover_wire::Role::name),
            "description": "0 Secondary: stands by. 1 Primary: sends data. 2 PendingPrimary: is about to take over, gets ready and sends nothing.",
        })
    }
}

/// A health on the wire, for the description of the API.
pub struct Percent;

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "description": "A decimal number, kept digit by digit as it was sent.",
        })
    }
}

/// What an id looks like, for the description of the API.
pub struct IdText;

/// A tenant's id, for the description of the API.
pub struct TenantText;

/// What matches an id: no control character, slash or backslash anywhere, no white space at an end,
/// and not a dot or two. Nor, where it is the only character, one of `never_alone`.
fn id_pattern(never_alone: &str) -> String {
    const NEVER: &str = r"/\\\u0000-\u001f\u007f-\u009f";
    // In full: what dialects of patterns take for white space differs.
    const SPACE: &str = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
    let any = format!("[^{NEVER}]");
    let edge = format!("[^{NEVER}{SPACE}]");
    let no_dot = format!("[^.{NEVER}{SPACE}]");
    let alone = format!("[^.{never_alone}{NEVER}{SPACE}]");
    format!("^({alone}|{edge}{no_dot}|{no_dot}{edge}|{edge}{any}+{edge})$")
}

impl JsonSchema for IdText {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARS,
            "pattern": id_pattern(""),
            "description": "1 to 260 characters, with no control character, slash or backslash, no white space at the ends, and not '.' or '..'. Upper and lower case are different. A new one holds no character that nobody can see, or that changes the order of others.",
        })
    }
}

impl JsonSchema for TenantText {
    fn schema_name() -> Cow<'static, str> {
        "TenantId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARS,
            "pattern": id_pattern("*"),
            "description": "An id that is not '*', which stands for all tenants where callers are given tenants.",
        })
    }
}

/// What an id looks like where it may be left out: then, and where it is null or empty, one is
/// made.
pub fn optional_id_schema(description: &str) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "maxLength": MAX_CHARS,
        "pattern": format!("^$|{}", id_pattern("")),
        "description": description,
    })
}
