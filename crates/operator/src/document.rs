//! A JSON document as it came: the order of its properties and the digits of its numbers are kept.

use std::fmt::{self, Write as _};

use client_failover_client::shown::is_unsafe;
use serde::de::{Deserialize, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::OperatorError;

/// How deep a document may be. The service's are three deep.
const MAX_DEPTH: usize = 32;

/// A JSON document.
#[derive(Debug)]
pub enum Document {
    /// With its properties in their order.
    Object(Vec<(String, Document)>),
    /// An array.
    Array(Vec<Document>),
    /// A string.
    Text(String),
    /// A number, true, false or null.
    Other(Box<RawValue>),
}

struct Properties<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Properties<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties<'de>, A::Error> {
                let mut properties = Vec::new();
                while let Some(property) = map.next_entry()? {
                    properties.push(property);
                }
                Ok(Properties(properties))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Document {
    /// Reads a document.
    pub fn read(json: &str) -> Result<Document, OperatorError> {
        Document::read_to(json, MAX_DEPTH).map_err(OperatorError::unintelligible)
    }

    fn read_to(json: &str, depth: usize) -> Result<Document, serde_json::Error> {
        use serde::de::Error as _;
        let json = json.trim_ascii();
        let Some(depth) = depth.checked_sub(1) else { return Err(serde_json::Error::custom("it is too deep")) };
        match json.as_bytes().first() {
            Some(b'{') => {
                let Properties(properties) = serde_json::from_str(json)?;
                let read = |(name, value): (String, &RawValue)| Ok((name, Document::read_to(value.get(), depth)?));
                properties.into_iter().map(read).collect::<Result<_, _>>().map(Document::Object)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json)?;
                let read = |item: &RawValue| Document::read_to(item.get(), depth);
                items.into_iter().map(read).collect::<Result<_, _>>().map(Document::Array)
            }
            Some(b'"') => serde_json::from_str(json).map(Document::Text),
            _ => serde_json::from_str(json).map(Document::Other),
        }
    }

    /// The document in JSON, on several lines.
    pub fn json(&self) -> String {
        // Texts, numbers and names can always be written.
        safe_json(&serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// The document in JSON, on one line.
    pub fn json_line(&self) -> String {
        safe_json(&serde_json::to_string(self).unwrap_or_default())
    }

    /// The document in YAML: one that readers of YAML 1.1 and 1.2 understand alike.
    pub fn yaml(&self) -> Result<String, OperatorError> {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&InYaml(self), options)
            .map_err(|error| OperatorError::unintelligible(format!("it cannot be written as YAML: {error}")))
    }
}

/// As JSON leaves them in, control characters beyond ASCII would reach the terminal.
fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unsafe(c) {
            // Such a character stands within a string. Writing to a String cannot fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Document::Object(properties) => {
                serializer.collect_map(properties.iter().map(|(name, value)| (name, value)))
            }
            Document::Array(items) => serializer.collect_seq(items),
            Document::Text(text) => serializer.serialize_str(text),
            Document::Other(raw) => raw.serialize(serializer),
        }
    }
}

/// A document for a writer that has numbers of its own.
struct InYaml<'a>(&'a Document);

impl Serialize for InYaml<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Document::Object(properties) => {
                let mut map = serializer.serialize_map(Some(properties.len()))?;
                for (name, value) in properties {
                    map.serialize_entry(name, &InYaml(value))?;
                }
                map.end()
            }
            Document::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(&InYaml(item))?;
                }
                sequence.end()
            }
            Document::Text(text) => serializer.serialize_str(text),
            Document::Other(raw) => match raw.get() {
                "null" => serializer.serialize_unit(),
                "true" => serializer.serialize_bool(true),
                "false" => serializer.serialize_bool(false),
                number => match (number.parse::<i64>(), number.parse::<f64>()) {
                    (Ok(whole), _) => serializer.serialize_i64(whole),
                    (_, Ok(broken)) => serializer.serialize_f64(broken),
                    _ => serializer.serialize_str(number),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// What a reader of YAML may take for something else.
    const TRICKY: [&str; 26] = [
        "yes",
        "no",
        "null",
        "~",
        "1",
        "0x1",
        "1e3",
        "12:30:00",
        "00:00:00.5000000",
        "2019-08-24T14:15:22Z",
        "-",
        "- a",
        "a: b",
        "#",
        "[",
        "{}",
        "'",
        "\"",
        "",
        " a ",
        "\n",
        "a\n\nb\n",
        "!x",
        "&a",
        "*a",
        "%",
    ];

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["\\PC{0,12}", Just("\u{1b}[2J\u{9b}\u{7f}\u{85}\u{2028}\u{feff}".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from),
            prop::sample::select(&TRICKY[..]).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_means_the_same_in_json_and_in_yaml(value in value()) {
            let document = Document::read(&value.to_string()).expect("it is JSON");
            let json = document.json();
            prop_assert!(!json.chars().any(|c| c != '\n' && is_unsafe(c)));
            prop_assert_eq!(&serde_json::from_str::<Value>(&json).expect("it is JSON"), &value);
            let yaml = document.yaml().expect("it is written");
            prop_assert!(!yaml.chars().any(|c| c != '\n' && c.is_control()), "{:?}", yaml);
            prop_assert_eq!(&serde_saphyr::from_str::<Value>(&yaml).expect(&yaml), &value, "{}", yaml);
        }
    }

    #[test]
    fn the_order_of_properties_and_the_digits_of_numbers_are_kept() {
        let text = r#"{"b":12.3400000000000000000000001,"a":[1e2,-0.0],"c":{}}"#;
        assert_eq!(Document::read(text).expect("it is JSON").json_line(), text);
        let yaml = Document::read(r#"{"b":"12:30:00","a":[1.5,"on"],"c":[]}"#).expect("it is JSON").yaml();
        assert_eq!(yaml.expect("it is written"), "b: \"12:30:00\"\na:\n- 1.5\n- \"on\"\nc: []\n");
    }

    #[test]
    fn a_document_that_is_too_deep_is_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(Document::read(&deep).is_err());
    }
}
