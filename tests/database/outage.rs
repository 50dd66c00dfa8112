//! The service away, and back: leases are not judged by a time in which nobody could renew them.

use std::time::Duration;

use client_failover::arbitration::{FailoverTimeout, Instant, Outage, lease_end};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use sqlx::PgConnection;

use crate::support::helpers::{TestApp, TestDatabase, TestReplica, settings, without_sweeps};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A Primary `a` and a standby `b` of equal health, both just heard of; no sweep, so that nothing
/// lapses unseen.
async fn start_with_a_primary() -> TestApp {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    app
}

async fn outages(database: &TestDatabase) -> Vec<serde_json::Value> {
    let query = "SELECT trunc(extract(epoch FROM recovered_at - began_at) / 60) AS minutes FROM service_outages
         WHERE recovered_at - began_at > counts_from ORDER BY outage_id";
    database.rows(query).await
}

#[tokio::test]
async fn an_outage_of_any_length_changes_no_role() {
    let app = TestApp::start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.beat("g", "b", 100.0).await;
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0, "the standby is back first");
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    assert_eq!(app.database.trace("g").await.len(), 1);
    assert_eq!(outages(&app.database).await.last(), Some(&json!({"minutes": 60})));
}

#[tokio::test]
async fn a_primary_that_died_in_an_outage_is_replaced_one_timeout_after_the_return() {
    let app = start_with_a_primary().await;
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    app.database.let_time_pass(MINUTE - 15_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    let status = app.database.rows("SELECT role, live FROM session_status WHERE session_id = 'a'").await;
    assert_eq!(status, [json!({"role": "Primary", "live": true})], "the views judge it alike");
    assert_eq!(app.get("/g").await.expect_ok()["Clients"]["a"]["Role"], 1);
    app.database.let_time_pass(15_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1);
    assert_eq!(
        app.database.trace("g").await[1..],
        ["a 1>0 lease_lapsed heartbeat 1", "b 0>1 lease_lapsed heartbeat 2"]
    );
}

#[tokio::test]
async fn a_lease_that_had_run_out_before_the_outage_stays_run_out() {
    let app = start_with_a_primary().await;
    app.database.let_time_pass(MINUTE + 5_000).await;
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1);
}

#[tokio::test]
async fn a_lease_lives_on_through_one_outage_after_the_other() {
    let app = start_with_a_primary().await;
    for _ in 0..3 {
        app.database.let_an_outage_pass(HOUR).await;
        assert_eq!(app.beat("g", "b", 100.0).await, 0);
        app.database.let_time_pass(30_000).await;
    }
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    app.database.let_time_pass(30_000).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1);
}

#[tokio::test]
async fn a_second_outage_does_not_revive_what_ran_out_after_the_first() {
    let app = start_with_a_primary().await;
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    app.database.let_time_pass(MINUTE).await;
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1);
}

#[tokio::test]
async fn a_handover_that_was_open_when_the_outage_began_closes_by_time() {
    let app = start_with_a_primary().await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    assert_eq!(app.beat("g", "a", 50.0).await, 0, "it yields");
    app.database.let_an_outage_pass(HOUR).await;
    assert_eq!(app.beat("g", "b", 100.0).await, 1, "nobody trusts a lease from before for so long");
    assert_eq!(app.beat("g", "a", 50.0).await, 0);
}

#[tokio::test]
async fn a_service_started_again_after_a_day_changes_no_role() {
    let database = TestDatabase::new().await;
    let first = TestReplica::start(settings(database.connect_options())).await;
    first.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(first.beat("g", "a", 100.0).await, 1);
    assert_eq!(first.beat("g", "b", 100.0).await, 0);
    first.stop().await;
    database.let_an_outage_pass(24 * HOUR).await;
    let second = TestReplica::start(settings(database.connect_options())).await;
    assert_eq!(second.get("/g").await.expect_ok()["Clients"]["a"]["Role"], 1);
    assert_eq!(second.beat("g", "b", 100.0).await, 0);
    assert_eq!(second.beat("g", "a", 100.0).await, 1);
    assert_eq!(database.trace("g").await.len(), 1);
    assert_eq!(outages(&database).await.last(), Some(&json!({"minutes": 24 * 60})));
}

#[tokio::test]
async fn a_short_outage_counts_for_a_short_lease_and_not_for_a_long_one() {
    let app = TestApp::start_with(|settings| {
        without_sweeps(settings);
        settings.store.outage_gap = Duration::from_secs(10);
    })
    .await;
    for (group, timeout_ms) in [("short", 8_000), ("long", MINUTE)] {
        app.group_of(group, timeout_ms, &["a", "b"]).await;
        assert_eq!(app.beat(group, "a", 100.0).await, 1);
    }
    // Both leases have little time left; then the service is away for longer than that.
    app.database.let_time_pass(3_000).await;
    app.database.execute(&format!("UPDATE heartbeats SET lease_until = lease_until - interval '{} ms',
        received_at = received_at - interval '{} ms' WHERE group_key IN (SELECT group_key FROM groups WHERE group_id = 'long')",
        MINUTE - 8_000, MINUTE - 8_000)).await;
    // Longer than a quarter of the short one, and no longer than the gap.
    app.database.let_an_outage_pass(5_200).await;
    assert_eq!(app.beat("short", "b", 100.0).await, 0, "more than half a timeout without a service");
    assert_eq!(app.beat("long", "b", 100.0).await, 1, "less than a tenth of one");
}

#[tokio::test]
async fn a_replica_that_waits_for_its_turn_to_migrate_is_a_sign_of_life() {
    const GAP_MS: u64 = 400;
    let database = TestDatabase::new().await;
    let mut holder = database.connect().await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('client-failover migrations', 0))";
    sqlx::query(lock).execute(&mut holder).await.expect("it locks");
    let mut settings = settings(database.connect_options());
    settings.store.outage_gap = Duration::from_millis(GAP_MS);
    let replica = TestReplica::start(settings).await;
    replica.group_of("g", MINUTE, &["a"]).await;
    assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    let before = outages(&database).await.len();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(5 * GAP_MS) {
        assert_eq!(replica.beat("g", "a", 100.0).await, 1);
    }
    assert_eq!(outages(&database).await.len(), before, "an outage that was none would put off every takeover");
}

/// A sign of life with a gap of 4 min and a shortest outage of 30 s, by a replica that remembers
/// nothing. They are long, so that a busy machine between two statements is no outage.
const SIGN_OF_LIFE: &str = "SELECT alive AS at
    FROM note_service_alive('4 min', '30 s', '0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false)";

/// One sign of life, the last being so old; what it came to.
async fn note_alive_after(database: &TestDatabase, silence_ms: i64) -> serde_json::Value {
    database.execute("DELETE FROM service_outages").await;
    let silence = format!("UPDATE service_liveness SET alive_at = clock_timestamp() - interval '{silence_ms} ms'");
    database.execute(&silence).await;
    let before = "SELECT alive_at FROM service_liveness";
    let before = database.rows(before).await[0]["alive_at"].clone();
    let noted = database.rows(SIGN_OF_LIFE).await[0]["at"].clone();
    let after = "SELECT alive_at, (SELECT count(*) FROM service_outages) AS outages,
        (SELECT bool_and(recovered_at = alive_at) FROM service_outages) AS until_now,
        (SELECT min(began_at) FROM service_outages) AS began_at FROM service_liveness";
    let after = database.rows(after).await.remove(0);
    assert_eq!(after["alive_at"], noted);
    json!({
        "outages": after["outages"], "until_now": after["until_now"],
        "from_the_last_sign": after["began_at"] == before, "moved": noted != before
    })
}

#[tokio::test]
async fn a_sign_of_life_records_an_outage_only_after_more_than_the_shortest() {
    let database = TestDatabase::new().await;
    let none = json!({"outages": 0, "until_now": null, "from_the_last_sign": false, "moved": true});
    assert_eq!(note_alive_after(&database, 1).await, none);
    assert_eq!(note_alive_after(&database, 2_000).await, none);
    let one = json!({"outages": 1, "until_now": true, "from_the_last_sign": true, "moved": true});
    assert_eq!(note_alive_after(&database, 30_001).await, one, "it counts for short leases");
    assert_eq!(note_alive_after(&database, 4 * MINUTE + 1).await, one);
    assert_eq!(note_alive_after(&database, 1_000_000).await, one);
    let no_step = "SELECT count(*) AS steps FROM service_clock_set_back";
    assert_eq!(note_alive_after(&database, -10).await["outages"], 0);
    assert_eq!(database.rows(no_step).await, [json!({"steps": 0})], "of no account");
    assert_eq!(note_alive_after(&database, -MINUTE).await, none, "no outage");
    let step = "SELECT extract(epoch FROM was_at - noticed_at)::int AS seconds FROM service_clock_set_back";
    assert_eq!(database.rows(step).await, [json!({"seconds": 60})], "but a clock that was set back");
}

#[tokio::test]
async fn a_history_was_noticed_as_long_ago_as_before_whatever_the_clock_was_set_back_by() {
    let database = TestDatabase::new().await;
    database.rows(SIGN_OF_LIFE).await;
    for set_back in ["1 s", "1 min", "1 day"] {
        let by_the_old_clock = format!(
            "UPDATE service_liveness SET alive_at = clock_timestamp() + interval '{set_back}';
             UPDATE service_histories SET noticed_at = alive_at - interval '3 s' FROM service_liveness"
        );
        database.execute(&by_the_old_clock).await;
        database.rows(SIGN_OF_LIFE).await;
        let ago = "SELECT (alive_at - noticed_at)::text AS ago FROM service_liveness, service_histories";
        assert_eq!(database.rows(ago).await, [json!({"ago": "00:00:03"})], "{set_back}");
    }
}

#[tokio::test]
async fn a_lease_of_the_new_clock_is_not_cut_where_the_step_is_known_late() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("g", "a", 100.0).await, 1);
    let lease = "SELECT received_at, lease_until FROM heartbeats WHERE session_id = 'a'";
    let given = app.database.rows(lease).await;
    // Noted before that heartbeat, and committed after it.
    app.database
        .execute(
            "INSERT INTO service_clock_set_back (noticed_at, was_at)
             SELECT received_at - interval '2 s', received_at - interval '1 s' FROM heartbeats",
        )
        .await;
    assert_eq!(app.beat("g", "b", 100.0).await, 0);
    let known = "SELECT g.clock_set_back = s.step_id AS is_known FROM groups g, service_clock_set_back s";
    assert_eq!(app.database.rows(known).await, [json!({"is_known": true})]);
    assert_eq!(app.database.rows(lease).await, given, "it was given by the new clock");
}

/// Whether a sign of life is noted: not where the row is held, and then a replica tries again.
async fn notes_alive(connection: &mut PgConnection) -> bool {
    let Err(error) = sqlx::query(SIGN_OF_LIFE).execute(connection).await else { return true };
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("55P03"), "who finds the row held gives way: {error}");
    false
}

#[tokio::test]
async fn replicas_that_come_back_together_record_one_outage() {
    const REPLICAS: usize = 8;
    let database = TestDatabase::new().await;
    database.execute("UPDATE service_liveness SET alive_at = clock_timestamp() - interval '1 h'").await;
    // Each is refused once, and then all go for it together.
    let mut holder = database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM service_liveness FOR UPDATE").execute(&mut holder).await.expect("it locks");
    let refused = tokio::sync::Barrier::new(REPLICAS + 1);
    let note = async || {
        let mut connection = database.connect().await;
        assert!(!notes_alive(&mut connection).await, "the row is held");
        refused.wait().await;
        while !notes_alive(&mut connection).await {}
    };
    let let_go = async {
        refused.wait().await;
        sqlx::raw_sql("COMMIT").execute(&mut holder).await.expect("it lets go");
    };
    tokio::join!(futures_util::future::join_all((0..REPLICAS).map(|_| note())), let_go);
    assert_eq!(outages(&database).await, [json!({"minutes": 60})]);
}

#[tokio::test]
async fn outages_long_gone_are_forgotten() {
    let database = TestDatabase::new().await;
    database
        .execute(&format!(
            "INSERT INTO service_outages (began_at, recovered_at)
             SELECT now() - interval '9 days', now() - interval '8 days';
             INSERT INTO service_outages (began_at, recovered_at)
             SELECT now() - interval '2 h', now() - interval '1 h' FROM generate_series(1, 150);
             UPDATE service_liveness SET alive_at = clock_timestamp() - interval '5 min';
             {SIGN_OF_LIFE}",
        ))
        .await;
    let kept = database
        .rows("SELECT count(*) AS kept, min(recovered_at) > now() - interval '7 days' AS young FROM service_outages")
        .await;
    assert_eq!(kept, [json!({"kept": 100, "young": true})]);
    assert_eq!(outages(&database).await.last(), Some(&json!({"minutes": 5})));
}

const LENGTHS: &str = "SELECT (extract(epoch FROM recovered_at - began_at) / 60)::int AS minutes
    FROM service_outages ORDER BY outage_id";

/// An outage of a minute, which counts in full from four minutes on: it matters for sixteen. A
/// minute after it the clock is set forward by a day.
async fn set_forward_after_a_short_outage() -> TestDatabase {
    let database = TestDatabase::new().await;
    let insert = "INSERT INTO service_outages (began_at, recovered_at, counts_from)
        SELECT clock_timestamp() - interval '2 min', clock_timestamp() - interval '1 min', interval '4 min'";
    database.execute(insert).await;
    let as_set_forward = "UPDATE service_outages SET began_at = began_at - interval '1 day',
        recovered_at = recovered_at - interval '1 day';
        UPDATE service_liveness SET alive_at = clock_timestamp() - interval '1 day'";
    database.execute(as_set_forward).await;
    database
}

#[tokio::test]
async fn a_short_outage_is_not_forgotten_where_a_clock_set_forward_is_taken_for_one() {
    let database = set_forward_after_a_short_outage().await;
    database.rows(SIGN_OF_LIFE).await;
    let lengths = [json!({"minutes": 1}), json!({"minutes": 24 * 60})];
    assert_eq!(database.rows(LENGTHS).await, lengths);
}

#[tokio::test]
async fn a_short_outage_is_not_forgotten_because_the_clock_was_set_forward_after_it() {
    let database = set_forward_after_a_short_outage().await;
    // The clock is a day ahead of what passed since it was read a second ago.
    let step = SIGN_OF_LIFE.replacen("NULL, NULL, NULL", "clock_timestamp() - interval '1 s', '1 day', '1 day'", 1);
    database.rows(&step).await;
    let lengths = [json!({"minutes": 1}), json!({"minutes": 24 * 60})];
    assert_eq!(database.rows(LENGTHS).await, lengths);
    // The next one after it forgets nothing either, until so much time has passed.
    database.execute("UPDATE service_liveness SET alive_at = clock_timestamp() - interval '45 s'").await;
    database.rows(SIGN_OF_LIFE).await;
    assert_eq!(database.rows(LENGTHS).await.len(), 3);
    database
        .execute(
            "UPDATE service_outages SET began_at = began_at - interval '20 min',
                 recovered_at = recovered_at - interval '20 min';
             UPDATE service_liveness SET alive_at = clock_timestamp() - interval '45 s'",
        )
        .await;
    database.rows(SIGN_OF_LIFE).await;
    let left = database.rows(LENGTHS).await;
    assert_eq!((left.len(), &left[0]["minutes"]), (2, &json!(24 * 60)), "the step, and the last: {left:?}");
}

#[test]
fn sql_and_the_decisions_agree_on_when_a_lease_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = runtime.block_on(TestDatabase::new());
    let connection = std::cell::RefCell::new(runtime.block_on(database.connect()));
    const GAP_US: i64 = 400_000;
    // Few distinct instants, so that they often meet exactly.
    let instant = || (0..40_i64).prop_map(|tenth| tenth * 100_000);
    let outage = (instant(), 1..10_i64).prop_map(|(began, tenths)| (began, began + tenths * 100_000));
    let timeout_ticks = FailoverTimeout::MIN_TICKS..4 * FailoverTimeout::MIN_TICKS;
    let cases = (
        proptest::collection::vec(outage, 0..5),
        proptest::collection::vec((instant(), timeout_ticks), 1..20),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&cases, |(mut outages, leases, in_order)| {
        if in_order {
            outages.sort_unstable();
        }
        let (began, recovered): (Vec<i64>, Vec<i64>) = outages.iter().copied().unzip();
        let past: Vec<Outage> = outages
            .iter()
            .map(|(began, recovered)| Outage {
                began_at: Instant(*began),
                recovered_at: Instant(*recovered),
                gap_us: GAP_US,
                clock_step_us: 0,
            })
            .collect();
        let timeouts: Vec<FailoverTimeout> =
            leases.iter().map(|(_, ticks)| FailoverTimeout::from_ticks(*ticks).expect("in bounds")).collect();
        let expected: Vec<i64> = std::iter::zip(&leases, &timeouts)
            .map(|((until, _), t)| lease_end(Instant(*until - t.micros()), Instant(*until), &past).0)
            .collect();
        let mut connection = connection.borrow_mut();
        let found: Vec<i64> = runtime.block_on(async {
            sqlx::raw_sql("TRUNCATE service_outages").execute(&mut *connection).await.expect("it runs");
            sqlx::query(
                "INSERT INTO service_outages (began_at, recovered_at, counts_from)
                 SELECT 'epoch'::timestamptz + b * interval '1 us', 'epoch'::timestamptz + r * interval '1 us', '400 ms'
                 FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS o (b, r, place) ORDER BY place",
            )
            .bind(began)
            .bind(recovered)
            .execute(&mut *connection)
            .await
            .expect("it runs");
            sqlx::query_scalar(
                "SELECT (extract(epoch FROM lease_end('epoch'::timestamptz + u * interval '1 us', t * interval '1 us'))
                     * 1000000)::bigint
                 FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS l (u, t, place) ORDER BY place",
            )
            .bind(leases.iter().map(|(until, _)| *until).collect::<Vec<_>>())
            .bind(timeouts.iter().map(|timeout| timeout.micros()).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await
            .expect("it runs")
        });
        prop_assert_eq!(found, expected);
        Ok(())
    });
    outcome.expect("they agree");
}
