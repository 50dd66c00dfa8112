//! Where clients of the released form learn where tokens are to be had.

use actix_web::{HttpRequest, HttpResponse, web};

use super::errors::ApiError;
use super::guard;
use crate::access::Authenticator;

/// `GET /Identity/.well-known/openid-configuration`
pub async fn configuration(
    request: HttpRequest,
    authenticator: web::Data<Authenticator>,
) -> Result<HttpResponse, ApiError> {
    match authenticator.issuer_configuration().await {
        None => Err(ApiError::no_such_route(&request)),
        Some(Ok(document)) => Ok(HttpResponse::Ok().content_type("application/json").body(document.to_string())),
        Some(Err(error)) => Err(guard::refused(error, authenticator.challenge())),
    }
}
