//! Whether the process lives, whether it can serve, and what it counts.

use std::time::{Duration, Instant};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use tokio::sync::Mutex;

use super::errors::ApiError;
use super::guard::Familiar;
use super::life::Life;
use crate::failover::Failover;
use crate::metrics;
use crate::store::migrate::Readiness;

/// How long the database may take to answer: less than a load balancer waits for its health check.
const TIMEOUT: Duration = Duration::from_secs(1);

/// For how long an answer of the database's is good. Whoever asks in between costs it nothing.
const GOOD_FOR: Duration = Duration::from_millis(250);

/// What the database said last. Shared by all workers: however many ask, it is asked once.
#[derive(Default)]
pub struct LatestLook(Mutex<Option<(Instant, Readiness)>>);

impl LatestLook {
    async fn readiness(&self, failover: &Failover) -> Readiness {
        let mut latest = self.0.lock().await;
        if let Some((looked_at, readiness)) = &*latest
            && looked_at.elapsed() < GOOD_FOR
        {
            return readiness.clone();
        }
        let readiness = failover.store().readiness(TIMEOUT).await;
        *latest = Some((Instant::now(), readiness.clone()));
        readiness
    }
}

/// `GET /health/live`
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json("alive")
}

/// `GET /health/ready`
pub async fn ready(
    request: HttpRequest,
    failover: web::Data<Failover>,
    latest: web::Data<LatestLook>,
    life: web::Data<Life>,
) -> Result<HttpResponse, ApiError> {
    // What the database says of itself names hosts, accounts and versions.
    let is_for_stranger = request.extensions().get::<Familiar>().is_none();
    let not_ready = |reason: String| ApiError::NotReady { reason, is_for_stranger };
    if life.is_ending() {
        return Err(not_ready("The service is stopping.".to_owned()));
    }
    match latest.readiness(&failover).await {
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
