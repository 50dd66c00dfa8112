//! What the tables themselves hold to, and what the views say of them.

use super::*;

async fn refusal(database: &TestDatabase, statement: &str) -> String {
    let mut connection = database.connect().await;
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
    refused.expect_err(statement).to_string()
}

#[tokio::test]
async fn the_database_itself_refuses_what_must_not_be() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b", "c"]).await;
    assert_eq!(app.beat("g", "a", 50.0).await, 1);
    assert_eq!(app.beat("g", "b", 90.0).await, 2);
    for (statement, kept_true) in [
        ("UPDATE sessions SET role = 1 WHERE session_id = 'c'", "sessions_at_most_one_primary"),
        ("UPDATE sessions SET role = 2 WHERE session_id = 'c'", "sessions_at_most_one_pending_primary"),
        ("UPDATE sessions SET role = 7 WHERE session_id = 'c'", "sessions_role_is_known"),
        ("UPDATE groups SET term = -1", "groups_term_never_negative"),
        ("UPDATE groups SET failover_timeout_ticks = 1", "groups_timeout_between_100_ms_and_24_h"),
        ("UPDATE groups SET vacancy = 'sold'", "groups_vacancy_is_known"),
        ("UPDATE groups SET handover_from = 'a'", "groups_handover_is_whole"),
        ("UPDATE heartbeats SET percent_healthy_streams = 100.1", "heartbeats_health_is_a_percentage"),
        ("UPDATE heartbeats SET percent_healthy_streams = 'NaN'", "heartbeats_health_is_a_percentage"),
        ("UPDATE role_transitions SET reason = 'whim'", "role_transitions_reason_is_known"),
        ("UPDATE role_transitions SET to_role = from_role", "role_transitions_change_something"),
        ("INSERT INTO service_liveness (alive_at) VALUES (now())", "service_liveness_has_one_row"),
    ] {
        let said = refusal(&app.database, statement).await;
        assert!(said.contains(kept_true), "{statement}: {said}");
    }
}

#[tokio::test]
async fn a_group_with_bad_rows_is_a_500_of_its_own_and_costs_the_others_nothing() {
    const GOOD: usize = 12;
    let app = TestApp::start().await;
    for n in 0..GOOD {
        app.group_of(&format!("good{n}"), MINUTE, &["a"]).await;
    }
    let spoil = [
        ("UPDATE sessions SET role = 1 FROM groups g WHERE g.group_key = sessions.group_key AND group_id = 'bad0'"),
        ("UPDATE heartbeats SET lease_until = 'infinity' FROM groups g WHERE g.group_key = heartbeats.group_key AND group_id = 'bad1'"),
    ];
    for n in 0..spoil.len() {
        app.group_of(&format!("bad{n}"), MINUTE, &["a", "b"]).await;
        assert_eq!(app.beat(&format!("bad{n}"), "a", 100.0).await, 1);
        assert_eq!(app.beat(&format!("bad{n}"), "b", 100.0).await, 0);
    }
    app.database.execute("DROP INDEX sessions_at_most_one_primary").await;
    for (n, statement) in spoil.iter().enumerate() {
        // Where a check refuses it, there is nothing to survive.
        let mut connection = app.database.connect().await;
        let stored = sqlx::raw_sql(*statement).execute(&mut connection).await.is_ok();
        for _ in 0..3 {
            let good = (0..GOOD).map(async |good| app.beat(&format!("good{good}"), "a", 100.0).await);
            let bad = async {
                let answer = app.heartbeat(&format!("bad{n}"), "a", json!({"PercentHealthyStreams": 100})).await;
                if stored {
                    let reason = answer.expect_error(500);
                    assert!(!reason.contains("role") && !reason.contains("lease"), "{reason}");
                }
            };
            let (roles, ()) = tokio::join!(futures_util::future::join_all(good), bad);
            assert_eq!(roles, [1; GOOD]);
        }
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_costs_the_other_groups_nothing() {
    let app = TestApp::start().await;
    for group in ["held", "free"] {
        app.group_of(group, MINUTE, &["a"]).await;
        assert_eq!(app.beat(group, "a", 100.0).await, 1);
    }
    let mut holder = app.database.connect().await;
    let mut transaction = holder.begin().await.expect("it begins");
    let lock =
        "SELECT 1 FROM heartbeats JOIN groups USING (group_key) WHERE group_id = 'held' FOR UPDATE OF heartbeats";
    sqlx::query(lock).execute(&mut *transaction).await.expect("it locks");
    let mut held = std::pin::pin!(app.heartbeat("held", "a", json!({"PercentHealthyStreams": 100})));
    let free = async {
        is_waiting_for_a_lock(&app.database).await;
        app.beat("free", "a", 100.0).await
    };
    tokio::select! {
        biased;
        answer = &mut held => panic!("the other waited for as long: {answer:?}"),
        role = free => assert_eq!(role, 1),
    }
    held.await.expect_error(503);
    transaction.rollback().await.expect("it ends");
    assert_eq!(app.beat("held", "a", 100.0).await, 1);
}

#[tokio::test]
async fn every_table_view_and_column_is_explained() {
    let database = TestDatabase::new().await;
    let missing = database
        .rows(
            "SELECT c.relname || coalesce('.' || a.attname, '') AS unexplained
             FROM pg_class c
             LEFT JOIN LATERAL (
                 SELECT 0::smallint AS attnum, NULL::name AS attname
                 UNION ALL
                 SELECT attnum, attname FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             ) a ON true
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
                 AND CASE a.attnum WHEN 0 THEN obj_description(c.oid, 'pg_class') ELSE col_description(c.oid, a.attnum) END IS NULL
             UNION ALL
             SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL",
        )
        .await;
    assert_eq!(missing, Vec::<Value>::new());
}

#[tokio::test]
async fn every_constraint_and_index_has_a_name_that_says_what_it_keeps_true() {
    let database = TestDatabase::new().await;
    // Names that PostgreSQL makes up end in what they are.
    let made_up = database
        .rows(
            "SELECT conname AS name FROM pg_constraint
             WHERE connamespace = 'public'::regnamespace
                 AND (conname ~ '_(pkey|fkey|check|excl)[0-9]*$' OR contype = 'u' AND conname ~ '_key[0-9]*$')
             UNION SELECT relname FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'i' AND relname ~ '_(pkey|idx)[0-9]*$'",
        )
        .await;
    // Refinery's own table.
    assert_eq!(made_up, [json!({"name": "refinery_schema_history_pkey"})]);
}

/// At a million sessions the difference is between milliseconds and seconds.
#[tokio::test]
async fn a_look_at_one_group_does_not_judge_the_sessions_of_all() {
    let database = TestDatabase::new().await;
    database
        .execute(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
             SELECT gen_random_uuid(), 't', 'n', 'g' || i, 600000000 FROM generate_series(1, 2000) i;
             INSERT INTO sessions (group_key, session_id) SELECT group_key, 'a' FROM groups;
             ANALYZE",
        )
        .await;
    for view in ["group_status", "session_status", "group_risks"] {
        let explain = format!(
            "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {view} WHERE tenant_id = 't' AND namespace_id = 'n' AND group_id = 'g7'"
        );
        let row =
            sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut database.connect().await).await.expect("it runs");
        let plan: String = row.try_get_unchecked(0).expect("a text");
        let plan: Value = serde_json::from_str(&plan).expect("it is JSON");
        let mut most = 0.0_f64;
        rows_of(&plan, "sessions", &mut most);
        assert!(most < 10.0, "{view} reads {most} sessions: {plan}");
    }
}

/// The most rows that a step of a plan reads of a table.
fn rows_of(plan: &Value, table: &str, most: &mut f64) {
    match plan {
        Value::Array(steps) => steps.iter().for_each(|step| rows_of(step, table, most)),
        Value::Object(step) => {
            if step.get("Relation Name").is_some_and(|name| name == table) {
                let number = |name: &str| step.get(name).and_then(Value::as_f64).unwrap_or_default();
                let rows = number("Actual Rows") + number("Rows Removed by Filter");
                *most = most.max(rows * number("Actual Loops"));
            }
            step.values().for_each(|step| rows_of(step, table, most));
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_tables_of_groups_can_be_spread_by_the_groups_key() {
    let database = TestDatabase::new().await;
    let tables = "('groups', 'sessions', 'heartbeats', 'role_transitions', 'configuration_changes')";
    let crossing = database
        .rows(&format!(
            "SELECT i.indexrelid::regclass::text AS crossing FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
             WHERE c.relname IN {tables} AND i.indisunique AND a.attname <> 'group_key'
             UNION ALL
             SELECT k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
             WHERE c.relname IN {tables} AND k.contype = 'f' AND a.attname <> 'group_key'"
        ))
        .await;
    assert_eq!(crossing, Vec::<Value>::new());
    let keys = database
        .rows(&format!("SELECT count(*) AS keys FROM pg_index i JOIN pg_class c ON c.oid = indrelid WHERE relname IN {tables} AND indisprimary"))
        .await;
    assert_eq!(keys, [json!({"keys": 5})]);
}

#[tokio::test]
async fn the_views_say_what_is_true_now() {
    let app = TestApp::start_with(without_sweeps).await;
    app.group_of("g", MINUTE, &["a", "b", "mute"]).await;
    app.beat("g", "a", 50.0).await;
    app.database.let_time_pass(10_000).await;
    app.beat("g", "b", 90.5).await;
    let sessions = app
        .database
        .rows(
            "SELECT session_id, role, live, health::float8 AS health, seconds_since_heartbeat BETWEEN 10 AND 30 AS ten_s_ago,
                 lease_seconds_left BETWEEN 30 AND 50 AS fifty_s_left
             FROM session_status WHERE tenant_id = 't' AND namespace_id = 'n' AND group_id = 'g' ORDER BY session_id",
        )
        .await;
    assert_eq!(
        sessions,
        [
            json!({"session_id": "a", "role": "Primary", "live": true, "health": 50, "ten_s_ago": true, "fifty_s_left": true}),
            json!({"session_id": "b", "role": "PendingPrimary", "live": true, "health": 90.5, "ten_s_ago": false, "fifty_s_left": false}),
            json!({"session_id": "mute", "role": "Secondary", "live": false, "health": null, "ten_s_ago": null, "fifty_s_left": false})
        ]
    );
    let groups = app
        .database
        .rows(
            "SELECT primary_session, primary_since > now() - interval '1 min' AS just_now, pending_primary_session, term,
                 watermark, live_sessions, registered_sessions, failover_timeout = interval '1 min' AS a_minute, handover_from
             FROM group_status",
        )
        .await;
    assert_eq!(
        groups,
        [
            json!({"primary_session": "a", "just_now": true, "pending_primary_session": "b", "term": 1, "watermark": null,
            "live_sessions": 2, "registered_sessions": 3, "a_minute": true, "handover_from": null})
        ]
    );
}
