//! Query parameters. Unknown ones are ignored; names are read in any case, as those of JSON
//! properties are. A `+` stands for a space, as in what forms send and most libraries write.

use std::borrow::Cow;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use super::errors::ApiError;

/// The value of a parameter, if it is given; the first one where it is given twice.
pub fn find<'a>(request: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    request
        .query_string()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decode(key).eq_ignore_ascii_case(name))
        .map(|(_, value)| decode(value))
}

fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned().into()
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}

/// A parameter that is a whole number of zero or more, if it is given.
pub fn whole_number(request: &HttpRequest, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(value) = find(request, name) else { return Ok(None) };
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(ApiError::bad(
            format!("{name} must be a whole number of zero or more; it is '{value}'."),
            "Correct the parameter, or leave it out.",
        )),
    }
}

/// As [`whole_number`], and not more than `most`.
pub fn number_up_to(request: &HttpRequest, name: &str, most: i64) -> Result<Option<i64>, ApiError> {
    match whole_number(request, name)? {
        Some(number) if number > most => Err(ApiError::bad(
            format!("{name} must be at most {most}; it is {number}."),
            "Ask for less, and for the rest with skip.",
        )),
        number => Ok(number),
    }
}

/// A parameter that is true or false, if it is given.
pub fn truth(request: &HttpRequest, name: &str) -> Result<Option<bool>, ApiError> {
    match find(request, name).as_deref() {
        None => Ok(None),
        // .NET writes True and False.
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(other) => Err(ApiError::bad(
            format!("{name} must be true or false; it is '{other}'."),
            "Correct the parameter, or leave it out.",
        )),
    }
}
