//! The page for operators: a few files that are part of the program. They hold no data and ask the
//! interface for it, so they are open to anybody; what they show takes credentials like any other
//! request.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, HeaderName, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use aws_lc_rs::digest::{SHA256, digest};

use super::errors::ApiError;
use super::paths::OneFile;

/// A file of the page.
struct PageFile {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// What nobody can ask for by its name.
const INDEX: &str = "";

const FILES: [PageFile; 31] = [
    PageFile { name: INDEX, content_type: HTML, text: include_str!("page/index.html") },
    PageFile { name: "page.css", content_type: STYLE, text: include_str!("page/page.css") },
    PageFile { name: "icon.svg", content_type: IMAGE, text: include_str!("page/icon.svg") },
    PageFile { name: "main.js", content_type: SCRIPT, text: include_str!("page/main.js") },
    PageFile { name: "api.js", content_type: SCRIPT, text: include_str!("page/api.js") },
    PageFile { name: "stream.js", content_type: SCRIPT, text: include_str!("page/stream.js") },
    PageFile { name: "live.js", content_type: SCRIPT, text: include_str!("page/live.js") },
    PageFile { name: "shared.js", content_type: SCRIPT, text: include_str!("page/shared.js") },
    PageFile { name: "worker.js", content_type: SCRIPT, text: include_str!("page/worker.js") },
    PageFile { name: "dom.js", content_type: SCRIPT, text: include_str!("page/dom.js") },
    PageFile { name: "words.js", content_type: SCRIPT, text: include_str!("page/words.js") },
    PageFile { name: "sign_in.js", content_type: SCRIPT, text: include_str!("page/sign_in.js") },
    PageFile { name: "head.js", content_type: SCRIPT, text: include_str!("page/head.js") },
    PageFile { name: "door.js", content_type: SCRIPT, text: include_str!("page/door.js") },
    PageFile { name: "overview.js", content_type: SCRIPT, text: include_str!("page/overview.js") },
    PageFile { name: "group.js", content_type: SCRIPT, text: include_str!("page/group.js") },
    PageFile { name: "export.js", content_type: SCRIPT, text: include_str!("page/export.js") },
    PageFile { name: "facts.js", content_type: SCRIPT, text: include_str!("page/facts.js") },
    PageFile { name: "landing.js", content_type: SCRIPT, text: include_str!("page/landing.js") },
    PageFile { name: "latest.js", content_type: SCRIPT, text: include_str!("page/latest.js") },
    PageFile { name: "namespaces.js", content_type: SCRIPT, text: include_str!("page/namespaces.js") },
    PageFile { name: "places.js", content_type: SCRIPT, text: include_str!("page/places.js") },
    PageFile { name: "span.js", content_type: SCRIPT, text: include_str!("page/span.js") },
    PageFile { name: "tiles.js", content_type: SCRIPT, text: include_str!("page/tiles.js") },
    PageFile { name: "timeline.js", content_type: SCRIPT, text: include_str!("page/timeline.js") },
    PageFile { name: "deeds.js", content_type: SCRIPT, text: include_str!("page/deeds.js") },
    PageFile { name: "rights.js", content_type: SCRIPT, text: include_str!("page/rights.js") },
    PageFile { name: "actions.js", content_type: SCRIPT, text: include_str!("page/actions.js") },
    PageFile { name: "dialog.js", content_type: SCRIPT, text: include_str!("page/dialog.js") },
    PageFile { name: "outlook.js", content_type: SCRIPT, text: include_str!("page/outlook.js") },
    PageFile { name: "curl.js", content_type: SCRIPT, text: include_str!("page/curl.js") },
];

/// Whoever may register a session chooses names that operators look at. So nothing runs and nothing
/// is loaded but these files, and no text becomes markup even by mistake (trusted types). The one
/// policy of these lets the page start its worker, by an address that is written in it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types page-worker";

const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (HeaderName::from_static("content-security-policy"), CONTENT_SECURITY_POLICY),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Each file's tag: another text has another one.
static TAGS: LazyLock<[EntityTag; FILES.len()]> = LazyLock::new(|| {
    FILES.each_ref().map(|file| {
        let hash = digest(&SHA256, file.text.as_bytes());
        EntityTag::new_strong(hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect())
    })
});

/// `GET /`
pub async fn index(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    show(&request, INDEX)
}

/// `GET /page/{file}`
pub async fn file(request: HttpRequest, OneFile(name): OneFile) -> Result<HttpResponse, ApiError> {
    show(&request, &name)
}

fn show(request: &HttpRequest, name: &str) -> Result<HttpResponse, ApiError> {
    let found = std::iter::zip(&FILES, &*TAGS).find(|(file, _)| file.name == name);
    let (file, tag) = found.ok_or_else(|| ApiError::no_such_route(request))?;
    let known = request.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known =
        known.split(',').filter_map(|tag| tag.trim().parse::<EntityTag>().ok()).any(|known| known.weak_eq(tag));
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // Asked for again each time: after an upgrade nobody looks at the page of the version before.
    response.insert_header((CACHE_CONTROL, "no-cache")).insert_header((ETAG, tag.to_string()));
    for header in &SECURITY_HEADERS {
        response.insert_header(header.clone());
    }
    Ok(if is_known {
        response.finish()
    } else {
        response.insert_header((CONTENT_TYPE, file.content_type)).body(file.text)
    })
}
