//! What a group is set to, as rows have it.

use serde_json::{Map, Value};

use super::error::WorkError;
use crate::arbitration::FailoverTimeout;

/// What a group is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfiguration {
    /// A name for people.
    pub name: Option<String>,
    /// A description for people.
    pub description: Option<String>,
    /// How long a heartbeat keeps its session live.
    pub timeout: FailoverTimeout,
    /// What its clients keep with it.
    pub additional_data: Option<AdditionalData>,
}

/// What clients keep with a group or a session: a JSON object, as it was sent. Two are the same
/// that say the same, in whatever order and with whatever spaces.
#[derive(Clone, Debug)]
pub struct AdditionalData(String);

impl AdditionalData {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The text, where it is an object, no longer, and no deeper than can be read again.
    pub fn parse(text: &str) -> Option<AdditionalData> {
        let is_good =
            text.len() <= AdditionalData::MAX_BYTES && serde_json::from_str::<Map<String, Value>>(text).is_ok();
        is_good.then(|| AdditionalData(text.to_owned()))
    }

    /// As it is stored.
    pub(super) fn stored(text: Option<String>) -> Option<AdditionalData> {
        text.map(AdditionalData)
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for AdditionalData {
    fn eq(&self, other: &AdditionalData) -> bool {
        let value = |data: &AdditionalData| serde_json::from_str::<Value>(&data.0).ok();
        self.0 == other.0 || value(self).is_some_and(|own| value(other) == Some(own))
    }
}

impl Eq for AdditionalData {}

/// A stored timeout, checked again as it is read.
pub(super) fn timeout_of(ticks: i64) -> Result<FailoverTimeout, WorkError> {
    FailoverTimeout::from_ticks(ticks)
        .ok_or_else(|| WorkError::Inconsistent(format!("failover_timeout_ticks is {ticks}")))
}
