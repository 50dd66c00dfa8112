//! JSON in: objects read property by property, names in any case, unknown ones ignored, and an
//! error that names the property that is wrong.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::limits::BODY_LIMIT;

/// How long a body may take to come as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that is declared as JSON (or not declared) and is UTF-8.
pub struct JsonBody(String);

impl JsonBody {
    /// A body that has been read already.
    pub fn of(text: String) -> JsonBody {
        JsonBody(text)
    }
}

impl FromRequest for JsonBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<JsonBody, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let declared = check_declared(request);
        let mut payload = payload.take();
        let request = request.clone();
        Box::pin(async move {
            let length = declared?;
            let read = tokio::time::timeout(BODY_TIMEOUT, read_all(&mut payload, length));
            match read.await.unwrap_or(Err(ApiError::BodyTooSlow)) {
                Ok(body) => read_text(body).map(JsonBody),
                Err(error) => {
                    request.extensions_mut().insert(Unread(payload));
                    Err(error)
                }
            }
        })
    }
}

/// A body that was given up. While it is kept the framework knows that there may be more of it, and
/// closes the connection after the answer; otherwise it would read to its end, however long that
/// takes.
pub struct Unread(Payload);

impl Unread {
    /// The body of the answer, for as long as it is sent.
    pub fn kept_with(self, body: BoxBody) -> BoxBody {
        BoxBody::new(Answered { body, _unread: self.0 })
    }
}

struct Answered {
    body: BoxBody,
    _unread: Payload,
}

impl MessageBody for Answered {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn std::error::Error>>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// The text of a body. Some platforms write a byte order mark before it.
fn read_text(body: BytesMut) -> Result<String, ApiError> {
    const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = body.strip_prefix(UTF_8_MARK).unwrap_or(&body);
    let refused = |reason: &str| ApiError::bad(reason, "Send JSON in UTF-8.");
    match text {
        // By its byte order mark, or by its first character, which is an ASCII one in JSON.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..] => {
            Err(refused("The body is in UTF-16."))
        }
        text => match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(refused("The body is not valid UTF-8.")),
        },
    }
}

/// The body, which ends with its declared length: behind the offer of another protocol the
/// framework would read on for ever.
async fn read_all(payload: &mut Payload, length: Option<usize>) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while length.is_none_or(|length| body.len() < length) {
        let Some(chunk) = payload.next().await else { break };
        let chunk = chunk.map_err(|error| ApiError::BodyBroken { cause: error.to_string() })?;
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(ApiError::BodyTooLarge { limit: BODY_LIMIT });
        }
        body.extend_from_slice(&chunk);
    }
    body.truncate(length.unwrap_or(BODY_LIMIT));
    Ok(body)
}

/// Refuses by the headers alone, before anything is read; the declared length of the body.
fn check_declared(request: &HttpRequest) -> Result<Option<usize>, ApiError> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Err(ApiError::BodyTooLarge { limit: BODY_LIMIT });
    }
    let coding = header(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
    // A page of a browser can send a body without a type to anybody; JSON it cannot.
    let is_from_page = request.headers().contains_key(ORIGIN);
    let kind = header(CONTENT_TYPE).or(is_from_page.then_some("")).filter(|kind| !is_json(kind));
    match kind.or(coding) {
        Some(found) => Err(ApiError::NotJson { found: found.to_owned() }),
        None => Ok(length.and_then(|length| usize::try_from(length).ok())),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let kind = parts.next().unwrap_or_default();
    let json = kind == "application/json" || kind == "text/json" || kind.ends_with("+json");
    let mut charsets = parts.filter_map(|part| part.strip_prefix("charset=").map(str::to_owned));
    json && charsets.all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"))
}

/// The properties of a JSON object that were asked for, as their text.
pub struct Object<'a, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'a RawValue>; N],
}

impl JsonBody {
    /// Reads the body as an object with these properties.
    pub fn object<const N: usize>(&self, names: [&'static str; N]) -> Result<Object<'_, N>, ApiError> {
        let malformed = |error: serde_json::Error| match no_number_at(&self.0, &error) {
            Some((name, word)) => ApiError::bad(
                format!("{name} must be a number as JSON has them; it is {word}."),
                "Correct the property that the reason names.",
            ),
            None => ApiError::bad(format!("The body is not a JSON object: {error}."), "Send a JSON object."),
        };
        let mut deserializer = serde_json::Deserializer::from_str(&self.0);
        let object = deserializer.deserialize_map(ObjectVisitor { names }).map_err(malformed)?;
        deserializer.end().map_err(malformed)?;
        Ok(object)
    }
}

/// The property whose value is `NaN`, `Infinity` or the like, which JSON has no word for and some
/// platforms write all the same: its name, and the value, where that is what the parser stumbled
/// over.
fn no_number_at<'a>(text: &'a str, error: &serde_json::Error) -> Option<(&'a str, &'a str)> {
    const WORDS: [&str; 7] = ["NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"];
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    // Somewhere in the word, or behind it: the colon before it ends the name.
    let (before, _) = text.split_at_checked(line_start + error.column())?;
    let (name, _) = before.rsplit_once(':')?;
    let value = text[name.len() + 1..].trim_start();
    let word = &value[..value.find(|c: char| !c.is_ascii_alphabetic() && c != '-').unwrap_or(value.len())];
    let (_, name) = name.trim_end().strip_suffix('"')?.rsplit_once('"')?;
    WORDS.contains(&word).then_some((name, word))
}

struct ObjectVisitor<const N: usize> {
    names: [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de, N>, A::Error> {
        let mut values = [None; N];
        while let Some(key) = map.next_key::<Key<'de>>()? {
            // As text: values of properties that nobody asked for are skipped without recursion,
            // however deep.
            let value: &'de RawValue = map.next_value()?;
            let place = self.names.iter().position(|name| name.eq_ignore_ascii_case(&key.0));
            if let Some(place) = place {
                values[place] = Some(value);
            }
        }
        Ok(Object { names: self.names, values })
    }
}

/// A property's name; borrowed unless it holds an escape.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, const N: usize> Object<'a, N> {
    /// The text of a property; `None` where it is absent or null.
    pub fn raw(&self, place: usize) -> Option<&'a str> {
        self.values[place].map(RawValue::get).filter(|text| *text != "null")
    }

    /// A property of a type; `None` where it is absent or null.
    fn typed<T: DeserializeOwned>(&self, place: usize, kind: &str) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.raw(place) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| self.wrong(place, kind))
    }

    /// A text that the database can hold.
    pub fn text(&self, place: usize) -> Result<Option<String>, ApiError> {
        let text: Option<String> = self.typed(place, "a string")?;
        match text {
            Some(text) if text.contains('\0') => Err(self.wrong(place, "a string without the character U+0000")),
            text => Ok(text),
        }
    }

    /// A text of at most so many characters.
    pub fn text_up_to(&self, place: usize, max_chars: usize) -> Result<Option<String>, ApiError> {
        let text = self.text(place)?;
        match text {
            Some(text) if text.chars().count() > max_chars => {
                Err(self.wrong(place, &format!("a string of at most {max_chars} characters")))
            }
            text => Ok(text),
        }
    }

    /// As [`Object::text_up_to`], and whether anything was said at all: `None` where the property
    /// is absent.
    pub fn said_text_up_to(&self, place: usize, max_chars: usize) -> Result<Option<Option<String>>, ApiError> {
        let text = self.text_up_to(place, max_chars)?;
        Ok(self.values[place].is_some().then_some(text))
    }

    /// Whether anything was said of a property, if only that it is null.
    pub fn is_said(&self, place: usize) -> bool {
        self.values[place].is_some()
    }

    /// A number that may be rounded to a double.
    pub fn number(&self, place: usize) -> Result<Option<f64>, ApiError> {
        self.typed(place, "a number")
    }

    /// A whole number.
    pub fn whole_number(&self, place: usize) -> Result<Option<i64>, ApiError> {
        self.typed(place, "a whole number")
    }

    /// Texts that the database can hold.
    pub fn texts(&self, place: usize) -> Result<Option<Vec<String>>, ApiError> {
        let texts: Option<Vec<String>> = self.typed(place, "an array of strings")?;
        match texts {
            Some(texts) if texts.iter().any(|text| text.contains('\0')) => {
                Err(self.wrong(place, "an array of strings without the character U+0000"))
            }
            texts => Ok(texts),
        }
    }

    /// The error that a property is not what it must be. Shows its value, shortened.
    pub fn wrong(&self, place: usize, wanted: &str) -> ApiError {
        let shown: String = self.raw(place).unwrap_or("null").chars().take(80).collect();
        ApiError::bad(
            format!("{} must be {wanted}; it is {shown}.", self.names[place]),
            "Correct the property that the reason names.",
        )
    }
}
