//! Whether the process lives, whether it can serve, and what it counts.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::Life;
use super::errors::ApiError;
use crate::failover::Failover;
use crate::metrics;
use crate::store::migrate::Readiness;

/// How long the database may take to answer: less than a load balancer waits for its health check.
const PATIENCE: Duration = Duration::from_secs(1);

/// `GET /health/live`
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json("alive")
}

/// `GET /health/ready`
pub async fn ready(failover: web::Data<Failover>, life: web::Data<Life>) -> Result<HttpResponse, ApiError> {
    if life.is_ending() {
        return Err(not_ready("The service is stopping.".to_owned()));
    }
    match failover.store().readiness(PATIENCE).await {
        Readiness::Ready => Ok(HttpResponse::Ok().json("ready")),
        Readiness::Unmigrated { found, needed } => {
            Err(not_ready(format!("The database has version {found} of the tables, and version {needed} is needed.")))
        }
        Readiness::Away(reason) => Err(not_ready(format!("The database cannot be used: {reason}."))),
    }
}

/// `GET /metrics`
pub async fn show_metrics(failover: web::Data<Failover>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(metrics::render(&failover.readings()))
}

fn not_ready(reason: String) -> ApiError {
    ApiError::NotReady { reason }
}
