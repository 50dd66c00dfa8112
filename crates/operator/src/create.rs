//! A group that is not there yet, created as arguments say. It never changes one that is.

use std::process::ExitCode;

use clap::Args;
use client_failover_client::{ClientError, Scope, parse};
use client_failover_wire::{timeout, timespan};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::apply::Said;
use super::connection::Connection;
use super::output::{Format, Printer, printable};
use super::wishes::read_span;
use super::{Common, OperatorError, group_id};

/// Which group, and how it is to be.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its id [default: one that the service makes]
    group: Option<String>,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// What it is, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// After how long a silent session is given up, such as 30s, from 100ms to 24h [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = read_timeout)]
    failover_timeout: Option<String>,
    /// What clients keep with it, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = read_object)]
    additional_data: Option<Box<RawValue>>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_timeout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_data: Option<&'a RawValue>,
}

/// What the service answers: the id, or in its released form the whole configuration.
#[derive(Deserialize)]
#[serde(untagged)]
enum Made {
    Id(String),
    Configuration {
        #[serde(rename = "Id")]
        id: String,
    },
}

/// A failover timeout, as people write it or as the service does: as the service reads it.
fn read_timeout(text: &str) -> Result<String, String> {
    let wire = read_span(text)?;
    match timespan::parse(&wire).filter(|ticks| timeout::BOUNDS_TICKS.contains(ticks)) {
        Some(_) => Ok(wire),
        None => Err("a failover timeout is from 100 ms to 24 h".to_owned()),
    }
}

fn read_object(text: &str) -> Result<Box<RawValue>, String> {
    let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if raw.get().starts_with('{') { Ok(raw) } else { Err("it is no JSON object".to_owned()) }
}

/// Creates a group.
pub async fn run(args: CreateArgs) -> Result<ExitCode, OperatorError> {
    let connection = Connection::settle(&args.common.connection)?;
    let namespace = connection.namespace(&args.common.place)?;
    let id = args.group.as_deref().map(group_id).transpose()?;
    let service = connection.service()?;
    let scope = Scope::Namespace(&namespace);
    if let Some(id) = &id {
        // The service takes a group that is there and agrees for created: whoever repeats a request
        // may. Here somebody wants one that is new.
        if service.find_raw(&scope.group(id, &[])).await?.is_some() {
            return Err(exists(id.as_str()));
        }
    }
    let wanted = Wanted {
        id: id.as_ref().map(|id| id.as_str()),
        name: args.name.as_deref(),
        description: args.description.as_deref(),
        failover_timeout: args.failover_timeout.as_deref(),
        additional_data: args.additional_data.as_deref(),
    };
    let id = if args.dry_run {
        id.map_or_else(|| "of a new id".to_owned(), |id| id.as_str().to_owned())
    } else {
        let body = serde_json::to_string(&wanted).map_err(OperatorError::unintelligible)?;
        let made = service.change_raw(Method::POST, &scope.path(&["groups"]), &[], Some(body)).await;
        match (made, id) {
            // Somebody else was quicker.
            (Err(ClientError::Refused(refusal)), Some(id)) if refusal.status == StatusCode::CONFLICT => {
                return Err(match service.find_raw(&scope.group(&id, &[])).await {
                    Ok(Some(_)) => exists(id.as_str()),
                    _ => ClientError::Refused(refusal).into(),
                });
            }
            (made, _) => match parse(made?.get())? {
                Made::Id(id) | Made::Configuration { id } => id,
            },
        }
    };
    let mut printer = Printer::stdout();
    match args.common.output {
        Format::Table => {
            let dry = if args.dry_run { " (dry run)" } else { "" };
            printer.line(&format!("group {} created{dry}", printable(&id)))?;
        }
        format => printer.document(format, &Said { id: &id, outcome: "created", dry_run: args.dry_run }.raw()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exists(id: &str) -> OperatorError {
    OperatorError::Exists(format!(
        "the group '{}' exists already, and was left as it is; groups apply changes one",
        printable(id)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_within_its_bounds() {
        for (text, wire) in
            [("30s", "00:00:30"), ("250ms", "00:00:00.2500000"), ("24h", "1.00:00:00"), ("00:01", "00:01:00")]
        {
            assert_eq!(read_timeout(text), Ok(wire.to_owned()), "{text}");
        }
        for text in ["99ms", "25h", "soon", "0s"] {
            assert!(read_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_clients_keep_is_an_object() {
        assert!(read_object(r#" {"Line": 7}"#).is_ok());
        for text in ["[]", "7", "{", ""] {
            assert!(read_object(text).is_err(), "{text}");
        }
    }
}
