//! Durations as .NET writes them: `[d.]hh:mm[:ss[.fffffff]]`, in ticks of 100 ns.

#[cfg(feature = "schema")]
pub use schema::{TimeSpanText, input_schema};

const TICKS_PER_SECOND: i64 = 10_000_000;
const TICKS_PER_MINUTE: i64 = 60 * TICKS_PER_SECOND;
const TICKS_PER_HOUR: i64 = 60 * TICKS_PER_MINUTE;
const TICKS_PER_DAY: i64 = 24 * TICKS_PER_HOUR;
/// The most whole days that leave room for a clock after them in 64 bits.
const MAX_DAYS: i64 = i64::MAX / TICKS_PER_DAY - 1;

/// The ticks of a duration; `None` where the text is not one.
pub fn parse(text: &str) -> Option<i64> {
    let (days, clock) = match text.split_once('.') {
        // A dot before the first colon ends the days; one after it begins the fraction.
        Some((days, clock)) if !days.contains(':') => (number(days, 1..=8, MAX_DAYS)?, clock),
        _ => (0, text),
    };
    let mut parts = clock.split(':');
    let hours = number(parts.next()?, 1..=2, 23)?;
    let minutes = number(parts.next()?, 2..=2, 59)?;
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (number(seconds, 2..=2, 59)?, 0),
            Some((seconds, fraction)) => {
                let digits = u32::try_from(fraction.len()).ok()?;
                let value = number(fraction, 1..=7, i64::MAX)?;
                (number(seconds, 2..=2, 59)?, value * 10_i64.pow(7 - digits))
            }
        },
    };
    if parts.next().is_some() {
        return None;
    }
    Some(
        days * TICKS_PER_DAY
            + hours * TICKS_PER_HOUR
            + minutes * TICKS_PER_MINUTE
            + seconds * TICKS_PER_SECOND
            + fraction,
    )
}

/// A whole number of so many digits, up to `max`.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>, max: i64) -> Option<i64> {
    let well_formed = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let value = well_formed.then(|| text.parse().ok()).flatten()?;
    (value <= max).then_some(value)
}

/// The text of a duration of zero ticks or more.
pub fn format(ticks: i64) -> String {
    let mut text = match ticks / TICKS_PER_DAY {
        0 => String::new(),
        days => format!("{days}."),
    };
    let hours = ticks % TICKS_PER_DAY / TICKS_PER_HOUR;
    let minutes = ticks % TICKS_PER_HOUR / TICKS_PER_MINUTE;
    let seconds = ticks % TICKS_PER_MINUTE / TICKS_PER_SECOND;
    text += &format!("{hours:02}:{minutes:02}:{seconds:02}");
    match ticks % TICKS_PER_SECOND {
        0 => text,
        fraction => text + &format!(".{fraction:07}"),
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    /// What a duration of an answer looks like, for the description of the API.
    pub struct TimeSpanText;

    impl JsonSchema for TimeSpanText {
        fn schema_name() -> Cow<'static, str> {
            "TimeSpan".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "pattern": r"^(\d+\.)?\d{2}:[0-5]\d:[0-5]\d(\.\d{7})?$",
                "description": "A duration as .NET writes it: [d.]hh:mm:ss[.fffffff], days and fraction only where they are not zero.",
                "examples": ["00:01:00"],
            })
        }
    }

    /// What a failover timeout of a request looks like: zero, or from 100 ms to 24 h.
    pub fn input_schema() -> Schema {
        json_schema!({
            "type": ["string", "null"],
            "pattern": r"^((0{1,8}\.)?([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,7})?)?|0{0,7}1\.00?:00(:00(\.0{1,7})?)?)$",
            // What is short of 100 ms and not zero.
            "not": {"type": "string", "pattern": r"^(0+\.)?00?:00:00\.0\d*[1-9]\d*$"},
            "description": "The failover timeout as .NET writes it: [d.]hh:mm[:ss[.fffffff]], hours of one or two digits, from 100 ms to 24 h. Zero counts as absent. Where Milliseconds is given too, they must agree to the microsecond; where neither is, it is one minute.",
            "examples": ["00:00:30"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_span_is_read_in_every_form_that_clients_write() {
        for (text, ticks) in [
            ("0:01:00", 600_000_000),
            ("00:01:00", 600_000_000),
            ("00:01", 600_000_000),
            ("1.00:00:00", TICKS_PER_DAY),
            ("00:00:00.1", 1_000_000),
            ("00:00:00.1000000", 1_000_000),
            ("00:00:01.0000001", 10_000_001),
            ("23:59:59.9999999", TICKS_PER_DAY - 1),
            ("10675198.23:59:59.9999999", 10_675_199 * TICKS_PER_DAY - 1),
        ] {
            assert_eq!(parse(text), Some(ticks), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_span_is_refused() {
        for text in [
            "",
            "60",
            "1:2",
            "1:2:3",
            "24:00:00",
            "00:60:00",
            "00:00:60",
            "-00:01:00",
            "00:01:00.",
            "00:01:00.12345678",
            " 00:01:00",
            "00:01:00 ",
            "1.2.00:00:00",
            "a0:01:00",
            "00:01:00:00",
            "10675199.00:00:00",
            "99999999.00:00:00",
            "123456789.00:00:00",
            "00:０1:00",
            "PT1M",
            ".00:01:00",
            "1.00",
            "00:00:+1",
            "000:01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_span_is_written_as_dot_net_does() {
        assert_eq!(format(600_000_000), "00:01:00");
        assert_eq!(format(TICKS_PER_DAY), "1.00:00:00");
        assert_eq!(format(1_000_000), "00:00:00.1000000");
        assert_eq!(format(10_000_001), "00:00:01.0000001");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ticks in 0..100 * TICKS_PER_DAY) {
            prop_assert_eq!(parse(&format(ticks)), Some(ticks));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*|[0-9.:]{0,24}") {
            let _ = parse(&text);
        }
    }
}
