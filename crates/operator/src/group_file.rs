//! The configuration of groups in a file, in YAML or in JSON, which is YAML too: one group, a list
//! of them, or several documents. What the service prints of a group can be given back to it.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use client_failover_wire::ids::GroupId;
use client_failover_wire::{timeout, timespan};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use super::OperatorError;
use super::output::printable;

/// The longest file: some hundred thousand groups.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A group as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedGroup {
    /// Its id.
    pub id: GroupId,
    /// Its configuration.
    pub configuration: Configuration,
}

/// The configuration of a group; what is not given has no name, no description, and the usual
/// timeout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// In ticks of 100 ns.
    pub ticks: i64,
}

impl Configuration {
    /// As the service takes it.
    pub fn body(&self) -> String {
        let timeout = timespan::format(self.ticks);
        json!({"Name": self.name, "Description": self.description, "FailoverTimeout": timeout}).to_string()
    }
}

/// Reads the groups of a file, or of standard input where it is `-`. An error names the place.
pub fn read(path: &Path) -> Result<Vec<WantedGroup>, OperatorError> {
    let is_input = path.as_os_str() == "-";
    let shown = if is_input { "standard input".to_owned() } else { format!("the file {}", path.display()) };
    let text = if is_input { read_text(io::stdin().lock()) } else { fs::File::open(path).and_then(read_text) };
    let text = text.map_err(|error| OperatorError::usage(format!("{shown} cannot be read: {error}")))?;
    let fault = |fault: String| OperatorError::usage(format!("{shown}: {fault}"));
    let groups = parse(&text).map_err(fault)?;
    if groups.is_empty() { Err(fault("there is no group in it".to_owned())) } else { Ok(groups) }
}

fn read_text(input: impl io::Read) -> io::Result<String> {
    let text = io::read_to_string(io::Read::take(input, MAX_BYTES + 1))?;
    if text.len() as u64 > MAX_BYTES { Err(io::Error::other("it is too long")) } else { Ok(text) }
}

/// The groups in a text.
fn parse(text: &str) -> Result<Vec<WantedGroup>, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Entries> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string().lines().map(printable).collect::<Vec<_>>().join(" "))?;
    let mut groups: Vec<WantedGroup> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for entry in documents.into_iter().flat_map(|Entries(entries)| entries) {
        let group = entry.settle()?;
        if !ids.insert(group.id.as_str().to_owned()) {
            return Err(format!("the group '{}' is in it twice", group.id));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// One document: a group, or a list of groups.
struct Entries(Vec<Entry>);

/// A group as it is written.
#[derive(Default)]
struct Entry {
    id: Option<String>,
    name: Option<String>,
    description: Option<String>,
    timeout: Option<String>,
    milliseconds: Option<f64>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a group or a list of groups")
            }

            fn visit_unit<E: Error>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = sequence.next_element()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entries, A::Error> {
                Ok(Entries(vec![EntryVisitor.visit_map(map)?]))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a group")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut entry = Entry::default();
        // In any case, as the service reads them; but a name that is not one is a mistake, not to
        // be passed over.
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "id" => entry.id = map.next_value()?,
                "name" => entry.name = map.next_value()?,
                "description" => entry.description = map.next_value()?,
                "failovertimeout" => entry.timeout = map.next_value()?,
                "milliseconds" => entry.milliseconds = map.next_value()?,
                // What GET shows beside the configuration.
                "sessions" | "clients" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    return Err(A::Error::custom(format!(
                        "a group has no property '{key}': it has Id, Name, Description, FailoverTimeout, Milliseconds"
                    )));
                }
            }
        }
        Ok(entry)
    }
}

impl Entry {
    /// The group that is meant, by the rules by which the service reads one.
    fn settle(self) -> Result<WantedGroup, String> {
        let id = self.id.ok_or("a group has no Id")?;
        let wrong = |what: String| format!("the group '{}': {what}", printable(&id));
        let span = match self.timeout.as_deref() {
            None => None,
            Some(text) => Some(timespan::parse(text).ok_or_else(|| {
                wrong(format!(
                    "FailoverTimeout must be a time span [d.]hh:mm[:ss[.fffffff]]; it is '{}'",
                    printable(text)
                ))
            })?),
        };
        let milliseconds = self.milliseconds.filter(|number| *number != 0.0);
        let milliseconds = milliseconds.map(|number| (number * timeout::TICKS_PER_MS as f64).round() as i64);
        let ticks = match (span.filter(|ticks| *ticks != 0), milliseconds) {
            (None, None) => timeout::DEFAULT_TICKS,
            // A microsecond is ten ticks.
            (Some(span), Some(milliseconds)) if span.abs_diff(milliseconds) >= 10 => {
                return Err(wrong("FailoverTimeout and Milliseconds disagree: give one of the two".to_owned()));
            }
            (Some(ticks), _) | (None, Some(ticks)) => ticks,
        };
        if !timeout::BOUNDS_TICKS.contains(&ticks) {
            return Err(wrong("the failover timeout must be from 100 ms to 24 h".to_owned()));
        }
        let configuration = Configuration { name: self.name, description: self.description, ticks };
        let id = GroupId::parse(id.as_str()).map_err(|error| wrong(format!("the id is not valid: {error}")))?;
        Ok(WantedGroup { id, configuration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(text: &str) -> Vec<String> {
        parse(text).expect(text).iter().map(|group| group.id.to_string()).collect()
    }

    #[test]
    fn one_group_many_and_several_documents_are_read_in_yaml_and_in_json() {
        assert_eq!(ids("Id: pump"), ["pump"]);
        assert_eq!(ids("- Id: pump\n- id: valve\n  failoverTimeout: 00:00:30\n"), ["pump", "valve"]);
        assert_eq!(ids("---\nId: pump\n---\n- Id: valve\n- Id: 7\n---\n"), ["pump", "valve", "7"]);
        assert_eq!(ids(r#"[{"Id": "pump", "Sessions": {"a": {}}, "Clients": {}}, {"Id": "007"}]"#), ["pump", "007"]);
        assert_eq!(ids("# nothing\n"), [""; 0]);
    }

    #[test]
    fn a_timeout_is_read_as_the_service_reads_it() {
        for (written, ticks) in [
            ("Name: x", 600_000_000),
            ("FailoverTimeout: 00:00:30", 300_000_000),
            ("FailoverTimeout: \"0:30\"", 18_000_000_000),
            ("FailoverTimeout: 12:00:00", 432_000_000_000),
            ("Milliseconds: 250", 2_500_000),
            ("Milliseconds: 0\nFailoverTimeout: 00:00:00", 600_000_000),
            ("Milliseconds: 100.5\nFailoverTimeout: 00:00:00.1005", 1_005_000),
        ] {
            let group = &parse(&format!("Id: g\n{written}\n")).expect(written)[0];
            assert_eq!(group.configuration.ticks, ticks, "{written}");
        }
    }

    #[test]
    fn what_is_not_a_group_is_refused_with_its_reason() {
        for (text, reason) in [
            ("Name: x", "has no Id"),
            ("Id: a/b", "slash"),
            ("Id: g\nFailoverTimout: 00:01:00", "no property 'FailoverTimout'"),
            ("Id: g\nFailoverTimeout: 60", "time span"),
            ("Id: g\nMilliseconds: 5", "100 ms to 24 h"),
            ("Id: g\nMilliseconds: 5000\nFailoverTimeout: 00:01:00", "disagree"),
            ("- Id: g\n- Id: g", "twice"),
            ("Id: [", "line"),
            ("just text", "group"),
        ] {
            let said = parse(text).expect_err(text);
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*|[-:{}\\[\\]&*!|>'\"%@`,#?a-c\\n ]{0,60}") {
            let _ = parse(&text);
        }
    }
}
