//! What becomes of a group of adapters when one of them ends or does badly.

use client_failover::http::TenantApi;
use serde_json::json;
use tokio::time::Instant;

use super::adapter::{Balance, Configuration, Event, Mode, Role};
use super::plant::{Running, Service, TIMEOUT, at_every_site};
use crate::support::helpers::eventually;
use crate::support::proxy::{Gate, Proxy};

#[tokio::test]
async fn a_hot_standby_takes_over_after_a_crash_and_nothing_is_lost() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        let first = a.first_item;
        a.crash().await;
        site.destination.hears_from(&b).await;
        assert_eq!(site.destination.senders(), ["HOST-A1.OpcUa", "HOST-B1.OpcUa"], "{}", site.name);
        site.destination.assert_complete_from(first);
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_hands_over_and_no_two_send_at_once() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        let first = a.first_item;
        assert_eq!(a.stop().await, Role::Primary, "what it saves");
        site.destination.hears_from(&b).await;
        assert_eq!(site.destination.senders(), ["HOST-A1.OpcUa", "HOST-B1.OpcUa"], "{}", site.name);
        site.destination.assert_complete_from(first);
    })
    .await;
}

#[tokio::test]
async fn a_fall_or_a_rise_of_the_score_hands_over_and_no_two_send_at_once() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        a.set_score(62.5);
        site.destination.hears_from(&b).await;
        assert!(!a.acts(), "{}", site.name);
        assert_eq!(site.destination.senders(), ["HOST-A1.OpcUa", "HOST-B1.OpcUa"], "{}", site.name);
        site.destination.assert_complete_from(a.first_item);
        // It is better by less than the margin: nothing changes. Then by more, while b acts.
        b.set_score(50.0);
        b.hears().await;
        b.hears().await;
        assert!(b.acts() && !a.acts(), "{}", site.name);
        a.set_score(100.0);
        site.destination.hears_from(&a).await;
        let (first, second) = ("HOST-A1.OpcUa", "HOST-B1.OpcUa");
        assert_eq!(site.destination.senders(), [first, second, first], "{}", site.name);
        site.destination.assert_complete_from(a.first_item);
    })
    .await;
}

/// What a warm standby reports is newer than what the Primary does, and nobody's word.
#[tokio::test]
async fn a_warm_standby_takes_over_and_what_it_says_before_that_trims_nothing() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        let worse = Configuration { score: 50.0, ..site.configuration("HOST-C1.OpcUa", Mode::Warm) };
        let warm = site.run(worse);
        a.crash().await;
        // Nobody has sent what is made now.
        warm.hears().await;
        b.takes(Role::Primary).await;
        site.destination.hears_from(&b).await;
        let sent = site.destination.items();
        assert!(b.trimmed().is_subset(&sent), "{}", site.name);
        site.destination.assert_complete_from(b.first_item);
        b.stop().await;
        site.destination.hears_from(&warm).await;
    })
    .await;
}

/// However large the margin is.
#[tokio::test]
async fn of_a_cold_pair_the_one_that_reports_1_takes_over_from_the_one_that_reports_0() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Cold).await;
        a.set_score(0.0);
        site.destination.hears_from(&b).await;
        assert_eq!(site.destination.senders(), ["HOST-A1.OpcUa", "HOST-B1.OpcUa"], "{}", site.name);
        assert!(a.scores().contains(&0.0) && b.scores().iter().all(|score| *score == 1.0), "{}", site.name);
    })
    .await;
}

#[tokio::test]
async fn one_that_was_stopped_starts_in_the_role_it_saved_and_hears_that_another_has_it() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        let saved = a.stop().await;
        b.takes(Role::Primary).await;
        let a = site.run(Configuration { saved, ..site.configuration("HOST-A1.OpcUa", Mode::Hot) });
        a.hears().await;
        assert!(matches!(a.events()[0], Event::Started(Role::Primary)), "{}", site.name);
        site.destination.hears_from(&b).await;
        assert!(b.acts() && !a.acts(), "{}", site.name);
    })
    .await;
}

#[tokio::test]
async fn one_that_crashed_starts_as_secondary_and_goes_on_as_primary_where_its_lease_stands() {
    at_every_site(async |site| {
        let a = site.start("HOST-A1.OpcUa", Mode::Hot).await;
        site.destination.hears_from(&a).await;
        a.crash().await;
        let a = site.start("HOST-A1.OpcUa", Mode::Hot).await;
        assert!(matches!(a.events()[0], Event::Started(Role::Secondary)), "{}", site.name);
        site.destination.hears_from(&a).await;
    })
    .await;
}

#[tokio::test]
async fn a_group_that_is_deleted_is_registered_again_and_one_goes_on() {
    at_every_site(async |site| {
        let (a, b) = site.pair(Mode::Hot).await;
        let deleted = site.replica.delete(&format!("/{}?force=true", site.group)).await;
        assert!(deleted.status.is_success(), "{}", site.name);
        let not_found = |adapter: &Running| {
            adapter.events().iter().any(|event| matches!(event, Event::Answered(Some(reply)) if reply.status == 404))
        };
        eventually("both hear of it", async || not_found(&a) && not_found(&b)).await;
        a.hears().await;
        b.hears().await;
        eventually("one of them sends", async || a.acts() != b.acts()).await;
        site.destination.hears_from(if a.acts() { &a } else { &b }).await;
    })
    .await;
}

/// What another of its configuration says, or what a person wrote, is what holds.
#[tokio::test]
async fn a_group_that_is_there_with_another_timeout_is_taken_with_it() {
    at_every_site(async |site| {
        let wanted = json!({"Id": site.group, "FailoverTimeout": "00:00:00.4"});
        assert!(site.replica.post("", wanted).await.status.is_success(), "{}", site.name);
        let a = site.start("HOST-A1.OpcUa", Mode::Hot).await;
        let began = Instant::now();
        for _ in 0..8 {
            a.hears().await;
        }
        // By its own timeout that would take more than ten seconds.
        assert!(began.elapsed() < 3 * TIMEOUT, "{}", site.name);
    })
    .await;
}

/// It has no lease: this is what the service cannot prevent, and how long it lasts.
#[tokio::test]
async fn one_that_hears_nothing_goes_on_sending_until_its_next_answer() {
    let service = Service::start(TenantApi::Preview, 1).await;
    let [site, _] = service.sites();
    let port = service.replicas[0].url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    let proxy = Proxy::to_port(port).await;
    let cut_off = Configuration {
        endpoints: vec![format!("http://127.0.0.1:{}/api/v1/clientfailover/", proxy.port)],
        balance: Balance::TheNextAfterAFailure,
        ..site.configuration("HOST-A1.OpcUa", Mode::Hot)
    };
    let a = Running::start(cut_off, site.destination.clone());
    a.takes(Role::Primary).await;
    let b = site.start("HOST-B1.OpcUa", Mode::Hot).await;
    proxy.set_gate(Gate::Closed);
    b.takes(Role::Primary).await;
    site.destination.hears_from(&b).await;
    site.destination.hears_from(&a).await;
    proxy.set_gate(Gate::Open);
    a.takes(Role::Secondary).await;
    let before = site.destination.senders().len();
    site.destination.hears_from(&b).await;
    assert!(site.destination.senders().len() <= before + 1, "a sends no more");
    site.destination.assert_complete_from(a.first_item);
}
