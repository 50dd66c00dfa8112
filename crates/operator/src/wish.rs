//! What is wished of a session, in words.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::output::{instant, printable};

/// What an operator wishes of a session.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Wish {
    wish: String,
    when_silent: Option<String>,
    /// Until when; `None` until it is withdrawn.
    pub until: Option<String>,
    /// Since when; absent where it was wished just now.
    #[serde(default)]
    since: Option<String>,
}

/// What the session is by that wish: to be put behind an `is`.
pub fn words(wish: &str, when_silent: Option<&str>) -> String {
    match (wish, when_silent) {
        ("Forced", Some("Hold")) => "forced, its place held".to_owned(),
        ("Forced", _) => "forced".to_owned(),
        ("Excluded", _) => "excluded".to_owned(),
        ("SwitchTo", _) => "to take over".to_owned(),
        ("SwitchAway", _) => "to yield".to_owned(),
        (other, _) => printable(other),
    }
}

impl Wish {
    /// Whether nobody takes the place of its session while that is silent.
    pub fn is_held(&self) -> bool {
        self.wish == "Forced" && self.when_silent.as_deref() == Some("Hold")
    }

    /// Whether it is over once another has taken over.
    fn is_once(&self) -> bool {
        matches!(self.wish.as_str(), "SwitchTo" | "SwitchAway")
    }

    /// What the session is by it, and until when, at a time of the service's clock.
    pub fn told(&self, now: &str) -> String {
        let words = words(&self.wish, self.when_silent.as_deref());
        match &self.until {
            // It is over before anybody has looked at a clock.
            Some(until) if !self.is_once() => format!("{words} until {}", clock_time(until, now)),
            _ => words,
        }
    }

    /// The same, and since when.
    pub fn told_with_begin(&self, now: &str) -> String {
        let since = self.since.as_deref().map(|since| format!(", since {}", clock_time(since, now)));
        self.told(now) + &since.unwrap_or_default()
    }
}

/// A time of the wire to the second, without its date where that is today's.
pub fn clock_time(time: &str, now: &str) -> String {
    let read = |text| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let (Ok(time), Ok(now)) = (read(time), read(now)) else { return instant(time) };
    let is_today = |time: DateTime<Utc>| time.date_naive() == now.date_naive();
    time.format(if is_today(time) { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(json: serde_json::Value) -> Wish {
        serde_json::from_value(json).expect("it is one")
    }

    #[test]
    fn a_wish_is_told_in_words_with_its_end() {
        use serde_json::json;
        let now = "2026-11-23T12:00:00.5Z";
        for (json, words) in [
            (json!({"Wish": "Forced", "WhenSilent": "Replace", "Until": null}), "forced"),
            (json!({"Wish": "Forced", "WhenSilent": "Hold", "Until": null}), "forced, its place held"),
            (json!({"Wish": "Excluded", "Until": "2026-11-23T14:20:34.251Z"}), "excluded until 14:20:34 UTC"),
            (json!({"Wish": "Excluded", "Until": "2026-12-01T00:00:00Z"}), "excluded until 2026-12-01 00:00:00 UTC"),
            (json!({"Wish": "SwitchTo", "Until": "2026-11-23T12:00:30Z"}), "to take over"),
            (json!({"Wish": "SwitchAway", "Until": "2026-11-23T12:00:30Z"}), "to yield"),
            (json!({"Wish": "\u{1b}New", "Until": null}), "\\u{1b}New"),
        ] {
            assert_eq!(wish(json.clone()).told(now), words, "{json}");
        }
        let with_begin = json!({"Wish": "Forced", "Until": null, "Since": "2026-11-23T08:00:00Z"});
        assert_eq!(wish(with_begin).told_with_begin(now), "forced, since 08:00:00 UTC");
    }
}
