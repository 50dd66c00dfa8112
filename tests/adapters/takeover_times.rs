//! How long a hot pair takes to hand over, in real time and with the timeouts of plants.

use std::time::Duration;

use client_failover::http::TenantApi;
use tokio::time::Instant;

use super::adapter::{Configuration, Mode, Role};
use super::plant::{Running, Service, Site};

#[tokio::test]
#[ignore = "takes five minutes: prints how long takeovers of a hot pair take at 15 s and 60 s"]
async fn of_a_hot_pair() {
    let service = Service::start(TenantApi::Preview, 2).await;
    let [site, _] = service.sites();
    let timeouts = [15, 60].map(Duration::from_secs);
    for (timeout, what) in
        timeouts.into_iter().flat_map(|timeout| ["crash", "stop", "score"].map(|what| (timeout, what)))
    {
        let lasted = takeover(&site, timeout, what).await;
        println!("timeout {timeout:?}, {what}: {:.1} s", lasted.as_secs_f64());
        // Half a timeout until somebody's heartbeat, and a timeout of a lease. The rest is for a
        // busy machine.
        let promised = if what == "stop" { timeout / 2 } else { timeout * 3 / 2 };
        assert!(lasted < promised + Duration::from_secs(5), "{what}: {lasted:?}");
    }
}

/// How long nobody of a new pair sends after that.
async fn takeover(site: &Site, timeout: Duration, what: &str) -> Duration {
    let start = |id: &str| {
        let group = format!("{what}-{}", timeout.as_secs());
        let configuration = Configuration { timeout, group, ..site.configuration(id, Mode::Hot) };
        Running::start(configuration, site.destination.clone())
    };
    let a = start("HOST-A1.OpcUa");
    a.takes(Role::Primary).await;
    let b = start("HOST-B1.OpcUa");
    b.hears().await;
    // Somewhere between two heartbeats.
    a.hears().await;
    tokio::time::sleep(timeout.mul_f64(0.5 * fastrand::f64())).await;
    let began = Instant::now();
    match what {
        "crash" => a.crash().await,
        "stop" => {
            a.stop().await;
        }
        _ => a.set_score(50.0),
    }
    while !b.acts() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}
