//! What is told, and how it is written.

use chrono::{DateTime, Utc};
use client_failover_wire::datetime;
use serde::Serialize;
use uuid::Uuid;

use super::{WebhookEvent, WebhookOptions};
use crate::arbitration::Role;
use crate::http::events::{EventBody, describe};
use crate::store::events::{Event, Happening};
use crate::store::webhook::RiskToTell;

/// One message: told until the receiver has taken it, or it is too old.
#[derive(Clone, Debug)]
pub struct Message {
    /// The same whenever it is sent again, by whichever replica.
    pub id: String,
    /// When what it tells happened.
    pub at: DateTime<Utc>,
    /// The group, whose messages are sent in order.
    pub group: Uuid,
    /// Its JSON.
    pub body: String,
    /// What it tells.
    pub what: What,
}

/// Which row it tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The event of that id.
    Event(i64),
    /// That risk began.
    Began(Uuid),
    /// That risk ended.
    Ended(Uuid),
}

/// An event: its name, and then as the streams of events have it.
#[derive(Serialize)]
struct EventMessage<'a> {
    #[serde(rename = "Event")]
    name: &'static str,
    #[serde(flatten)]
    body: EventBody<'a>,
}

/// A risk that began or ended.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RiskMessage<'a> {
    event: &'static str,
    risk_id: String,
    time: String,
    tenant_id: &'a str,
    namespace_id: &'a str,
    group_id: &'a str,
    risk: &'a str,
    since: String,
}

/// A structure of texts and numbers can always be written.
fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

impl Message {
    /// The event's, if it is wanted.
    pub fn of_event(event: &Event, options: &WebhookOptions) -> Option<Message> {
        let is_wanted = match &event.what {
            Happening::RoleChanged(change) => {
                let is_of_primary = [change.from, change.to].contains(&Role::Primary);
                options.wants(WebhookEvent::Roles) || (is_of_primary && options.wants(WebhookEvent::Primary))
            }
            Happening::GroupCreated(_)
            | Happening::GroupChanged(_)
            | Happening::GroupDeleted
            | Happening::SessionRegistered(_)
            | Happening::SessionDeleted => options.wants(WebhookEvent::Configuration),
            Happening::Wish(_) => options.wants(WebhookEvent::Wishes),
            Happening::DatabaseHistoryChanged(_) => options.wants(WebhookEvent::History),
        };
        is_wanted.then(|| {
            let (name, body) = describe(event);
            Message {
                id: format!("event-{}", event.id),
                at: event.recorded_at,
                group: event.group.as_ref().map_or(Uuid::nil(), |group| group.key),
                body: json(&EventMessage { name, body }),
                what: What::Event(event.id),
            }
        })
    }

    /// What is to be told of a risk, in order.
    pub fn of_risk(risk: &RiskToTell) -> Vec<Message> {
        let message = |event: &'static str, word: &str, at: DateTime<Utc>, what: What| Message {
            id: format!("risk-{}-{word}", risk.risk_id),
            at,
            group: risk.of_group,
            body: json(&RiskMessage {
                event,
                risk_id: risk.risk_id.to_string(),
                time: datetime::format(Some(at)),
                tenant_id: &risk.tenant_id,
                namespace_id: &risk.namespace_id,
                group_id: &risk.group_id,
                risk: &risk.risk,
                since: datetime::format(Some(risk.began_at)),
            }),
            what,
        };
        let began =
            (!risk.is_begin_told).then(|| message("RiskBegan", "began", risk.began_at, What::Began(risk.risk_id)));
        let ended = risk.ended_at.map(|at| message("RiskEnded", "ended", at, What::Ended(risk.risk_id)));
        began.into_iter().chain(ended).collect()
    }
}
