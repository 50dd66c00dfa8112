//! One that has joined keeps the trust rule without being asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client_failover_client::{Join, LeaseEnded, MachineTime, Member, blocking};
use client_failover_wire::Role;

use crate::support::helpers::{TestApp, TestReplica, eventually};
use crate::support::proxy::{Gate, Proxy};

/// Long enough for a busy machine to beat in time.
const TIMEOUT_MS: i64 = 3_000;
const TIMEOUT: Duration = Duration::from_millis(3_000);
/// A group whose leases do not run out by themselves within a test.
const LONG_MS: i64 = 60_000;

fn to(url: &str, session: &str) -> Join {
    Join::group("t/n/pump", session).expect("it is a group").at(url).expect("it is an address")
}

async fn join(app: &TestReplica, session: &str) -> Member {
    Member::join(to(&app.url, session)).await.expect("it joins")
}

async fn proxy_to(app: &TestReplica) -> Proxy {
    Proxy::to_port(app.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it has a port")).await
}

/// The first is Primary, the second stands by.
async fn pair(app: &TestReplica) -> (Member, Member) {
    let a = join(app, "a").await;
    a.primary().await.expect("nobody else is there");
    let b = join(app, "b").await;
    eventually("it has beaten", async || b.counts().answered > 0).await;
    (a, b)
}

#[tokio::test]
async fn whoever_is_alone_becomes_primary_and_stays_it() {
    let app = TestApp::start().await;
    let member = Member::join(to(&app.url, "a").creating(TIMEOUT)).await.expect("it makes the group");
    let lease = member.primary().await.expect("nobody else is there");
    assert_eq!(lease.term(), 1);
    assert_eq!(member.timeout(), Some(TIMEOUT));
    let acting = lease.check().expect("it was granted just now");
    assert!(lease.remaining() <= TIMEOUT - Duration::from_millis(50), "there is a margin: {lease:?}");
    eventually("it is renewed", async || member.counts().answered >= 4).await;
    drop(acting);
    assert!(lease.check().is_ok(), "the same lease, renewed");
    assert_eq!((member.role(), member.counts().grants), (Role::Primary, 1));
    member.leave().await;
}

#[tokio::test]
async fn work_that_blocks_its_runtime_starves_no_heartbeat() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let before = a.counts().answered;
    // This is the only thread of the runtime that the program has.
    std::thread::sleep(2 * TIMEOUT);
    assert!(a.counts().answered >= before + 3, "{:?}", a.counts());
    assert_eq!((a.role(), b.role(), a.counts().grants), (Role::Primary, Role::Secondary, 1));
}

#[tokio::test]
async fn who_leaves_is_followed_at_once_and_only_after_its_work_has_ended() {
    let app = TestApp::start().await;
    app.group_of("pump", LONG_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let lease = a.lease().expect("it is Primary");
    let acting = lease.check().expect("it is good");
    let leaving = tokio::spawn(a.clone().leave());
    eventually("no lease is good any more", async || lease.check().is_err()).await;
    assert_eq!(b.role(), Role::Secondary, "the work has not ended");
    assert!(!leaving.is_finished());
    let ended = Instant::now();
    drop(acting);
    let next = b.primary().await.expect("it follows");
    assert!(ended.elapsed() < Duration::from_secs(10), "it waited for the lease: {:?}", ended.elapsed());
    assert_eq!(next.term(), 2);
    leaving.await.expect("it ends");
    assert!(a.primary().await.is_err(), "it has left");
}

#[tokio::test]
async fn a_healthier_one_takes_over_in_moments_once_the_work_has_ended() {
    let app = TestApp::start().await;
    app.group_of("pump", LONG_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let lease = a.lease().expect("it is Primary");
    let acting = lease.check().expect("it is good");
    a.set_health(0);
    eventually("it has to yield", async || lease.check().is_err()).await;
    eventually("its successor waits", async || b.role() == Role::PendingPrimary).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(b.role(), Role::PendingPrimary, "nobody has said that the work has ended");
    let ended = Instant::now();
    drop(acting);
    b.primary().await.expect("it follows");
    assert!(ended.elapsed() < Duration::from_secs(10), "it waited for the lease: {:?}", ended.elapsed());
    assert_eq!(lease.guard(async {}).await, Err(LeaseEnded));
}

#[tokio::test]
async fn work_is_dropped_before_the_lease_ends_where_no_service_answers() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let proxy = proxy_to(&app).await;
    let member =
        Member::join(to(&format!("http://127.0.0.1:{}", proxy.port), "a").without_events()).await.expect("it joins");
    let lease = member.primary().await.expect("nobody else is there");
    let is_dropped = Arc::new(AtomicBool::new(false));
    struct Work(Arc<AtomicBool>);
    impl Drop for Work {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let work = Work(is_dropped.clone());
    proxy.set_gate(Gate::Closed);
    let began = Instant::now();
    let done = lease
        .guard(async move {
            let _work = work;
            std::future::pending::<()>().await;
        })
        .await;
    assert_eq!(done, Err(LeaseEnded));
    assert!(is_dropped.load(Ordering::SeqCst));
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(member.role(), Role::Secondary);
    // And another lease once there is a service again.
    proxy.set_gate(Gate::Open);
    let next = member.primary().await.expect("nobody else is there");
    assert!(lease.check().is_err(), "the one that has ended stays so");
    assert!(next.check().is_ok());
}

#[tokio::test]
async fn a_lost_answer_costs_no_lease() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let proxy = proxy_to(&app).await;
    let join = to(&format!("http://127.0.0.1:{}", proxy.port), "a").without_events();
    let member = Member::join(join).await.expect("it joins");
    let lease = member.primary().await.expect("nobody else is there");
    for lost in 1..=2 {
        proxy.swallow_answers(1);
        eventually("it is lost", async || member.counts().lost == lost).await;
        let answered = member.counts().answered;
        eventually("it is asked again", async || member.counts().answered >= answered + 2).await;
    }
    assert!(lease.is_good(), "{:?}", member.counts());
    assert_eq!(member.counts().lapses, 0);
}

#[tokio::test]
async fn whoever_gives_up_waiting_has_not_said_that_the_work_has_ended() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let acting = a.lease().expect("it is Primary").check().expect("it is good");
    let until = a.lease().expect("it is Primary").until();
    tokio::time::timeout(Duration::from_millis(50), a.leave()).await.expect_err("somebody acts");
    b.primary().await.expect("the lease runs out");
    assert!(MachineTime::now() >= until, "before that nobody was told anything");
    drop(acting);
}

#[tokio::test]
async fn whoever_joins_again_says_nothing_while_the_work_of_before_goes_on() {
    let app = TestApp::start().await;
    app.group_of("pump", LONG_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let acting = a.lease().expect("it is Primary").check().expect("it is good");
    // It is to yield as soon as it says anything.
    b.set_health(100);
    drop(a);
    let again = Member::join(to(&app.url, "a").with_health(0)).await.expect("it joins");
    eventually("its successor waits", async || b.role() == Role::PendingPrimary).await;
    let answered = again.counts().answered;
    eventually("it has beaten", async || again.counts().answered > answered || again.counts().answered >= 2).await;
    assert_eq!(b.role(), Role::PendingPrimary, "the work of before has not ended");
    drop(acting);
    b.primary().await.expect("now it has");
}

#[tokio::test]
async fn a_session_that_somebody_deleted_stops_and_registers_again() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let member = join(&app, "a").await;
    let lease = member.primary().await.expect("nobody else is there");
    app.delete("/pump/clientsessions/a?by=operator").await.expect_ok();
    lease.ended().await;
    let next = member.primary().await.expect("it is there again");
    assert!(next.term() > lease.term());
    assert_eq!(member.counts().registrations, 2);
}

#[tokio::test]
async fn another_replica_is_asked_where_one_is_gone() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let other = TestReplica::start(crate::support::helpers::settings(app.database.connect_options())).await;
    let join = to(&other.url, "a").at(&app.url).expect("it is an address");
    let member = Member::join(join).await.expect("it joins");
    member.primary().await.expect("nobody else is there");
    other.stop().await;
    let before = member.counts().answered;
    eventually("it goes on", async || member.counts().answered >= before + 2).await;
    assert_eq!((member.role(), member.counts().grants), (Role::Primary, 1), "{:?}", member.counts());
}

#[tokio::test]
async fn a_standby_takes_over_as_the_lease_lapses() {
    let app = TestApp::start().await;
    app.group_of("pump", TIMEOUT_MS, &[]).await;
    let (a, b) = pair(&app).await;
    let lease = a.lease().expect("it is Primary");
    // As if it had been killed: no goodbye.
    drop(a);
    lease.ended().await;
    let next = b.primary().await.expect("it follows");
    assert_eq!(next.term(), 2);
}

#[tokio::test]
async fn whoever_cannot_join_hears_why() {
    let app = TestApp::start().await;
    let error = Member::join(to(&app.url, "a")).await.expect_err("there is no such group");
    assert!(error.to_string().contains("pump"), "{error}");
}

#[test]
fn a_program_without_futures_has_the_same() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the service");
    let app = runtime.block_on(TestApp::start());
    let mut member = blocking::Member::join(to(&app.url, "a").creating(TIMEOUT)).expect("it joins");
    let lease = member.primary().expect("nobody else is there");
    assert!(lease.check().is_ok());
    assert_eq!(member.changed().expect("it has not left"), Role::Primary);
    member.clone().leave();
    assert!(lease.check().is_err());
    assert!(member.primary().is_err());
}
