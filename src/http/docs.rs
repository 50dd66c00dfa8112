//! The page to try the API on: Swagger UI over the description, from files that are part of the
//! program. It tells nothing that is stored, so it is open to anybody; what is tried on it takes
//! credentials like any other request.

use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::errors::ApiError;
use super::paths::OneFile;

/// Nothing is loaded, run or asked from elsewhere. Swagger UI has images in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For how long a browser may keep the files of Swagger UI, which change with it only.
const KEEP: &str = "max-age=86400";
/// Ours belong to the version that serves them.
const ASK_AGAIN: &str = "no-cache";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What is offered beside the API.
pub struct Offers {
    /// Whether there is the page to try it on.
    pub docs: bool,
    /// Its description, written by whoever asks first.
    pub description: LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>,
}

/// `GET /openapi.json`
pub async fn description(offers: web::Data<Offers>) -> HttpResponse {
    let text = Bytes::clone(&offers.description);
    HttpResponse::Ok().content_type("application/json").insert_header((CACHE_CONTROL, "no-store")).body(text)
}

/// `GET /docs`
pub async fn page(request: HttpRequest, offers: web::Data<Offers>) -> Result<HttpResponse, ApiError> {
    if offers.docs {
        Ok(answer("text/html; charset=utf-8", ASK_AGAIN, include_str!("docs/index.html")))
    } else {
        Err(ApiError::no_such_route(&request))
    }
}

/// `GET /docs/{file}`
pub async fn file(
    request: HttpRequest,
    offers: web::Data<Offers>,
    OneFile(name): OneFile,
) -> Result<HttpResponse, ApiError> {
    match &*name {
        _ if !offers.docs => Err(ApiError::no_such_route(&request)),
        "start.js" => Ok(answer(SCRIPT, ASK_AGAIN, include_str!("docs/start.js"))),
        "swagger-ui-bundle.js" => Ok(answer(SCRIPT, KEEP, include_str!("docs/swagger-ui/swagger-ui-bundle.js"))),
        "swagger-ui.css" => Ok(answer("text/css; charset=utf-8", KEEP, include_str!("docs/swagger-ui/swagger-ui.css"))),
        _ => Err(ApiError::no_such_route(&request)),
    }
}

fn answer(content_type: &'static str, caching: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((CACHE_CONTROL, caching))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .body(text)
}
