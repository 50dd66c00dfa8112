//! Date-times of the wire: RFC 3339 and its like in, UTC out; year 1 stands for "none".

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Duration, NaiveDate, NaiveDateTime, Timelike as _, Utc};

#[cfg(feature = "schema")]
pub use schema::{DateTimeText, input_schema};

/// What is written where no time is known: typed clients fail on null.
pub const NONE: &str = "0001-01-01T00:00:00Z";

/// What a date-time says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A time, cut to the microsecond.
    Time(DateTime<Utc>),
    /// Year 1 (in any offset): none.
    None,
}

/// Reads a date-time: RFC 3339 with any number of fraction digits, UTC where no offset is given,
/// and what platforms print beside it that can mean one time only. `None` where the text is none of
/// these, or lies after the year 9999 in UTC.
///
/// Those are: a full minute without seconds (Java), a comma before the fraction (ISO 8601), an
/// offset without its colon, without its minutes or with seconds (C, PostgreSQL, Java), a space or
/// " UTC" before or in its place (Ruby), and the name of the zone in brackets behind it (Java,
/// JavaScript).
pub fn parse(text: &str) -> Option<Reading> {
    let bytes = text.as_bytes();
    let (date_time, rest) = text.split_at_checked(16)?;
    let date_time = date_time.as_bytes();
    let separators_fit = date_time[4] == b'-'
        && date_time[7] == b'-'
        && matches!(date_time[10], b'T' | b't' | b' ')
        && date_time[13] == b':';
    if !separators_fit {
        return None;
    }
    let part = |from: usize, to: usize| digits(&bytes[from..to]);
    let year = i32::try_from(part(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, part(5, 7)?, part(8, 10)?)?;
    let (second, micros, offset) = split_seconds(rest)?;
    // A leap second is the one after it.
    let leap = second == 60;
    let time = date.and_hms_opt(part(11, 13)?, part(14, 16)?, if leap { 59 } else { second })?;

    let local = time + Duration::seconds(i64::from(leap)) + Duration::microseconds(micros);
    let utc: NaiveDateTime = local.checked_sub_signed(Duration::seconds(offset_seconds(offset)?))?;
    match utc.year() {
        ..=1 => Some(Reading::None),
        2..=9999 => Some(Reading::Time(utc.and_utc())),
        _ => None,
    }
}

/// The seconds and microseconds that a text begins with, finer digits cut, and what follows them.
fn split_seconds(text: &str) -> Option<(u32, i64, &str)> {
    let Some(seconds) = text.strip_prefix(':') else { return Some((0, 0, text)) };
    let (second, rest) = seconds.split_at_checked(2)?;
    let second = digits(second.as_bytes())?;
    let Some(fraction) = rest.strip_prefix(['.', ',']) else { return Some((second, 0, rest)) };
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return None;
    }
    let (fraction, rest) = fraction.split_at(length);
    let kept = &fraction.as_bytes()[..length.min(6)];
    let micros = i64::from(digits(kept)?) * 10_i64.pow(6 - kept.len() as u32);
    Some((second, micros, rest))
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z" | " UTC" | " Z") {
        return Some(0);
    }
    // The zone's name says nothing that the offset before it does not say, and without one it would
    // say too little.
    let text = match text.strip_suffix(']') {
        Some(named) => named.split_once('[')?.0,
        None => text,
    };
    if text == "Z" {
        return Some(0);
    }
    let text = text.strip_prefix(' ').unwrap_or(text);
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = text.get(1..)?.split_at_checked(2)?;
    let (minutes, seconds) = match (rest.len(), rest.as_bytes()) {
        (0, _) => ("0", "0"),
        (2, _) => (rest, "0"),
        (3, [b':', ..]) => (&rest[1..], "0"),
        (6, [b':', _, _, b':', ..]) => (rest.get(1..3)?, rest.get(4..)?),
        _ => return None,
    };
    let part = |text: &str, max: u32| digits(text.as_bytes()).filter(|value| *value <= max).map(i64::from);
    Some(sign * (part(hours, 23)? * 3_600 + part(minutes, 59)? * 60 + part(seconds, 59)?))
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

/// Writes a time in UTC, with a fraction only where it is not zero.
pub fn write(time: Option<DateTime<Utc>>, out: &mut String) {
    let Some(time) = time else {
        out.push_str(NONE);
        return;
    };
    let micros = time.timestamp_subsec_micros();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    if micros != 0 {
        let _ = write!(out, ".{micros:06}");
        let kept = out.trim_end_matches('0').len();
        out.truncate(kept);
    }
    out.push('Z');
}

/// As [`write()`], to a text of its own.
pub fn format(time: Option<DateTime<Utc>>) -> String {
    let mut text = String::with_capacity(27);
    write(time, &mut text);
    text
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    /// What a date-time of an answer looks like, for the description of the API.
    pub struct DateTimeText;

    impl JsonSchema for DateTimeText {
        fn schema_name() -> Cow<'static, str> {
            "DateTime".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$",
                "description": "A date-time in UTC, to the microsecond, with a fraction only where it is not zero. 0001-01-01T00:00:00Z stands for none.",
            })
        }
    }

    /// What a date-time of a request looks like; absent and null are the same.
    pub fn input_schema(description: &str) -> Schema {
        json_schema!({
            "type": ["string", "null"],
            "format": "date-time",
            "description": format!("{description} RFC 3339, with any number of fraction digits (what is finer than a microsecond is cut); UTC where no offset is given, and seconds and the colon of an offset may be left out. Year 1 counts as none."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reread(text: &str) -> Option<String> {
        match parse(text)? {
            Reading::Time(time) => Some(format(Some(time))),
            Reading::None => Some(format(None)),
        }
    }

    #[test]
    fn a_date_time_is_read_in_every_form_and_written_in_utc() {
        for (text, written) in [
            ("2019-08-24T14:15:22Z", "2019-08-24T14:15:22Z"),
            ("2019-08-24T14:15:22", "2019-08-24T14:15:22Z"),
            ("2019-08-24t14:15:22z", "2019-08-24T14:15:22Z"),
            ("2019-08-24 14:15:22Z", "2019-08-24T14:15:22Z"),
            ("2019-08-24T14:15:22.5Z", "2019-08-24T14:15:22.5Z"),
            ("2019-08-24T14:15:22.1234567Z", "2019-08-24T14:15:22.123456Z"),
            ("2019-08-24T14:15:22.999999999999999999999Z", "2019-08-24T14:15:22.999999Z"),
            ("2019-08-24T14:15:22.000000Z", "2019-08-24T14:15:22Z"),
            ("2019-08-24T14:15:22+02:00", "2019-08-24T12:15:22Z"),
            ("2019-08-24T00:15:22.25+05:30", "2019-08-23T18:45:22.25Z"),
            ("2019-08-24T14:15Z", "2019-08-24T14:15:00Z"),
            ("2019-08-24T14:15", "2019-08-24T14:15:00Z"),
            ("2019-08-24T14:15+02:00", "2019-08-24T12:15:00Z"),
            ("2019-08-24T14:15:22,5Z", "2019-08-24T14:15:22.5Z"),
            ("2019-08-24T14:15:22+0200", "2019-08-24T12:15:22Z"),
            ("2019-08-24T14:15:22.1234567-0330", "2019-08-24T17:45:22.123456Z"),
            ("2019-08-24 14:15:22.25+02", "2019-08-24T12:15:22.25Z"),
            ("2019-08-24T14:15:22-03:30:15", "2019-08-24T17:45:37Z"),
            ("2019-08-24 14:15:22 +0200", "2019-08-24T12:15:22Z"),
            ("2019-08-24 14:15:22 UTC", "2019-08-24T14:15:22Z"),
            ("2019-08-24 14:15:22 Z", "2019-08-24T14:15:22Z"),
            ("2019-08-24T14:15:22+02:00[Europe/Berlin]", "2019-08-24T12:15:22Z"),
            ("2019-08-24T14:15Z[UTC]", "2019-08-24T14:15:00Z"),
            ("2019-08-24T14:15:22Z[UTC][u-ca=iso8601]", "2019-08-24T14:15:22Z"),
            ("2019-12-31T23:59:60Z", "2020-01-01T00:00:00Z"),
            ("0001-01-01T00:00+00:53:28", NONE),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", NONE),
            ("0001-01-01T00:00:00", NONE),
            ("0001-01-01T00:00:00+14:00", NONE),
            ("0001-01-01T00:00:00-12:00", NONE),
        ] {
            assert_eq!(reread(text).as_deref(), Some(written), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_date_time_is_refused() {
        for text in [
            "",
            "2019-08-24",
            "2019-08-24T14:1",
            "2019-08-24T14",
            "2019-08-24T14:15:",
            "2019-08-24T14:15.5Z",
            "2019-08-24T14:15:2Z",
            "24.08.2019T14:15:22Z",
            "08/24/2019 14:15:22",
            "20190824T141522Z",
            "2019-08-24T14:15:22 CEST",
            "2019-08-24T14:15:22 PM",
            "2019-08-24T02:15:22 PM Z",
            "2019-08-24T14:15:22[Europe/Berlin]",
            "2019-08-24T14:15:22+02:00[Europe/Berlin",
            "2019-08-24T14:15:22+2",
            "2019-08-24T14:15:22+020",
            "2019-08-24T14:15:22+02:0",
            "2019-08-24T14:15:22+02:00:0",
            "2019-08-24T14:15:22+02:60",
            "2019-08-24T14:15:22+0260",
            "2019-08-24T14:15:22+02é",
            "2019-08-24T14:15:22  +02:00",
            "2019-02-30T00:00:00Z",
            "2019-13-01T00:00:00Z",
            "2019-08-24T24:00:00Z",
            "2019-08-24T14:60:00Z",
            "2019-08-24T14:15:61Z",
            "2019-08-24T14:15:22.Z",
            "2019-08-24T14:15:22+24:00",
            "2019-08-24T14:15:22Zx",
            "+019-08-24T14:15:22Z",
            "9999-12-31T23:59:59-01:00",
            "10000-01-01T00:00:00Z",
            "2019-08-24T14:15:2é",
            "２019-08-24T14:15:22Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -62_135_510_400_000_000_i64..253_402_300_800_000_000) {
            let time = DateTime::from_timestamp_micros(micros).expect("within the years 2 to 9999");
            prop_assume!(time.year() > 1);
            prop_assert_eq!(parse(&format(Some(time))), Some(Reading::Time(time)));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*|[0-9TZ:.,+-]{19,40}|2019-08-24T14:15(:22)?[0-9é:., +Z-]{0,12}(\\[\\PC*\\])?") {
            let _ = parse(&text);
        }
    }
}
