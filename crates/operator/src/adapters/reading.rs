//! The answer to a heartbeat, read as an adapter reads it.

use chrono::{DateTime, Utc};
use client_failover_wire::Role;
use client_failover_wire::datetime::{self, Reading};
use serde_json::{Map, Value};

/// What a heartbeat was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The role.
    pub role: Role,
    /// Up to when the Primary has sent data; `None` where that is not known.
    pub sent_until: Option<DateTime<Utc>>,
    /// Whether the answer says nothing of it at all.
    pub lacks_time: bool,
}

/// A property, whose name may be written in any case.
pub fn property<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Reads an answer; where an adapter cannot, what it does then.
pub fn read(text: &str) -> Result<Told, String> {
    let kept = "an adapter does not understand the answer, and keeps the role that it had";
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else {
        return Err(format!("the answer is no JSON object: {kept}"));
    };
    let role = match property(&object, "Role") {
        None => {
            return Err("the answer has no Role: an adapter reads that as Secondary, and a Primary stops".to_owned());
        }
        Some(Value::String(name)) => Role::ALL.into_iter().find(|role| role.name().eq_ignore_ascii_case(name)),
        Some(value) => value.as_i64().and_then(Role::from_number),
    };
    let role = role.ok_or_else(|| format!("Role is none of 0, 1 and 2: {kept}"))?;
    let time = match property(&object, "LastDataProcessedTime") {
        None => return Ok(Told { role, sent_until: None, lacks_time: true }),
        Some(Value::Null) => return Err(format!("LastDataProcessedTime is null: {kept}")),
        Some(Value::String(time)) => time,
        Some(_) => return Err(format!("LastDataProcessedTime is no text: {kept}")),
    };
    let reading = datetime::parse(time).ok_or_else(|| format!("LastDataProcessedTime is '{time}', no time: {kept}"))?;
    if !time.ends_with('Z') {
        return Err(format!(
            "LastDataProcessedTime is '{time}' and does not end in Z: an adapter takes it for another time than is meant"
        ));
    }
    let sent_until = match reading {
        Reading::Time(time) => Some(time),
        Reading::None => None,
    };
    Ok(Told { role, sent_until, lacks_time: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_numbers_and_as_names_and_properties_in_any_case() {
        for text in [
            r#"{"Role":1,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#,
            r#"{"role":"primary","lastDataProcessedTime":"0001-01-01T00:00:00Z","More":null}"#,
        ] {
            assert_eq!(read(text), Ok(Told { role: Role::Primary, sent_until: None, lacks_time: false }), "{text}");
        }
        let told = read(r#"{"Role":0,"LastDataProcessedTime":"2026-10-07T10:00:00.1234567Z"}"#).expect("it is one");
        assert_eq!(datetime::format(told.sent_until), "2026-10-07T10:00:00.123456Z");
        assert!(read(r#"{"Role":0}"#).expect("an adapter can read it").lacks_time);
    }

    #[test]
    fn what_an_adapter_cannot_read_or_reads_wrongly_is_said() {
        for (text, said) in [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            (r#"{"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, "a Primary stops"),
            (r#"{"Role":3,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, "none of 0, 1 and 2"),
            (r#"{"Role":null,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, "none of 0, 1 and 2"),
            (r#"{"Role":"Leader","LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#, "none of 0, 1 and 2"),
            (r#"{"Role":1,"LastDataProcessedTime":null}"#, "is null"),
            (r#"{"Role":1,"LastDataProcessedTime":7}"#, "no text"),
            (r#"{"Role":1,"LastDataProcessedTime":"now"}"#, "no time"),
            (r#"{"Role":1,"LastDataProcessedTime":"2026-10-07T10:00:00"}"#, "does not end in Z"),
            (r#"{"Role":1,"LastDataProcessedTime":"2026-10-07T10:00:00+02:00"}"#, "does not end in Z"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(said), "{text}: {fault}");
        }
    }
}
