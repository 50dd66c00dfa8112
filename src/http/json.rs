//! JSON in: objects read property by property, names in any case, unknown ones ignored, and an error that names
//! the property that is wrong.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use actix_web::{FromRequest, HttpRequest};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::errors::ApiError;

/// The most bytes that a body may have.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long a body may take to come as a whole.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

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
        Box::pin(async move {
            declared?;
            let read = tokio::time::timeout(BODY_PATIENCE, read_all(&mut payload));
            let body = read.await.map_err(|_| ApiError::BodyTooSlow)??;
            let text = String::from_utf8(body.into())
                .map_err(|_| ApiError::bad("The body is not valid UTF-8.", "Send JSON in UTF-8."))?;
            Ok(JsonBody(text))
        })
    }
}

async fn read_all(payload: &mut Payload) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::bad(format!("The body could not be read: {error}."), "Send the whole body."))?;
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(ApiError::BodyTooLarge { limit: BODY_LIMIT });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Refuses by the headers alone, before anything is read.
fn check_declared(request: &HttpRequest) -> Result<(), ApiError> {
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
        None => Ok(()),
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
        let malformed = |error: serde_json::Error| {
            ApiError::bad(format!("The body is not a JSON object: {error}."), "Send a JSON object.")
        };
        let mut deserializer = serde_json::Deserializer::from_str(&self.0);
        let object = deserializer.deserialize_map(ObjectVisitor { names }).map_err(malformed)?;
        deserializer.end().map_err(malformed)?;
        Ok(object)
    }
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
            // As text: values of properties that nobody asked for are skipped without recursion, however deep.
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
    pub fn text_up_to(&self, place: usize, most_chars: usize) -> Result<Option<String>, ApiError> {
        let text = self.text(place)?;
        match text {
            Some(text) if text.chars().count() > most_chars => {
                Err(self.wrong(place, &format!("a string of at most {most_chars} characters")))
            }
            text => Ok(text),
        }
    }

    /// A number that may be rounded to a double.
    pub fn number(&self, place: usize) -> Result<Option<f64>, ApiError> {
        self.typed(place, "a number")
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
