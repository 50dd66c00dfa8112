//! Sign-in on the page by the issuer of tokens: where the browser is to go, and what it gets for
//! what it comes back with. Open to anybody, for who asks has no credentials yet; only the page
//! asks for it, so it is no part of the API.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::errors::ApiError;
use super::json::JsonBody;
use super::proxies;
use crate::access::Authenticator;
use crate::access::bearer::sign_in::{Offer, Proof, SignInError};

/// The most bytes of what a browser brings.
const MAX_BYTES: usize = 16 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SignInBody<'a> {
    open_id_connect: Option<OfferBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OfferBody<'a> {
    issuer: &'a str,
    names_issuer: bool,
    client_id: &'a str,
    scope: String,
    authorization_endpoint: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TokensBody {
    access_token: String,
    expires_in_ms: Option<u64>,
    refresh_token: Option<String>,
}

/// `GET /page/sign-in`
pub async fn offer(authenticator: web::Data<Authenticator>) -> Result<HttpResponse, ApiError> {
    let offer = match authenticator.sign_in_offer().await {
        Ok(offer) => Some(offer),
        // The page asks wherever tokens are taken, and this is an answer.
        Err(SignInError::NotOffered) => None,
        Err(error) => return Err(error.into()),
    };
    let body = SignInBody {
        open_id_connect: offer.as_ref().map(|Offer { issuer, client, endpoints }| OfferBody {
            issuer,
            names_issuer: endpoints.names_issuer,
            client_id: &client.client_id,
            scope: client.scopes.join(" "),
            authorization_endpoint: &endpoints.authorization,
        }),
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// `POST /page/sign-in`
pub async fn exchange(
    request: HttpRequest,
    authenticator: web::Data<Authenticator>,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let proof = read_proof(&body)?;
    let tokens = authenticator.exchange(&proof, proxies::origin(&request)).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(TokensBody {
        access_token: tokens.access_token,
        expires_in_ms: tokens.lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)),
        refresh_token: tokens.refresh_token,
    }))
}

/// Errors name a property and never show its value, which is a secret.
fn read_proof(body: &JsonBody) -> Result<Proof, ApiError> {
    let names = ["Code", "Verifier", "RedirectUri", "RefreshToken"];
    let object = body.object(names)?;
    let text = |place: usize| {
        let text = object.text(place).ok().flatten();
        text.filter(|text| !text.is_empty() && text.len() <= MAX_BYTES)
    };
    match (text(0), text(1), text(2), text(3)) {
        (Some(code), Some(verifier), Some(redirect_uri), None) => Ok(Proof::Code { code, verifier, redirect_uri }),
        (None, None, None, Some(token)) => Ok(Proof::RefreshToken(token)),
        _ => Err(ApiError::bad(
            "It holds neither a Code with its Verifier and its RedirectUri, nor a RefreshToken alone.",
            "Send what the issuer gave.",
        )),
    }
}
