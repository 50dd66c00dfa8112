//! What a takeover leaves to whoever comes next: the watermark, and the term.

use super::*;

#[tokio::test]
async fn only_a_primarys_report_moves_the_watermark() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    assert_eq!(
        watermark(&app, "a", json!("2020-01-01T00:00:00Z")).await,
        NO_TIME,
        "it was not Primary when it sent that"
    );
    assert_eq!(watermark(&app, "b", json!("2024-01-01T00:00:00Z")).await, NO_TIME);
    assert_eq!(watermark(&app, "a", json!("2020-01-01T00:00:00.5Z")).await, "2020-01-01T00:00:00.5Z");
    assert_eq!(watermark(&app, "b", json!("2024-01-01T00:00:00Z")).await, "2020-01-01T00:00:00.5Z");
}

#[tokio::test]
async fn the_watermark_never_moves_back_and_no_report_counts_as_none() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    watermark(&app, "a", json!(null)).await;
    assert_eq!(watermark(&app, "a", json!(NO_TIME)).await, NO_TIME);
    assert_eq!(watermark(&app, "a", json!("2020-01-01T00:00:00Z")).await, "2020-01-01T00:00:00Z");
    for older in [json!("2019-12-31T23:59:59Z"), json!(null), json!(NO_TIME)] {
        assert_eq!(watermark(&app, "a", older).await, "2020-01-01T00:00:00Z");
    }
    let shown = app.get("/g").await.expect_ok();
    assert_eq!(
        shown["Clients"]["a"]["Heartbeat"]["LastDataSendTime"], NO_TIME,
        "the report itself is shown as it came"
    );
}

#[tokio::test]
async fn a_report_from_the_future_counts_as_now() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    watermark(&app, "a", json!(null)).await;
    let before = database_now(&app).await;
    let counted: DateTime<Utc> = watermark(&app, "a", json!("2999-01-01T00:00:00Z")).await.parse().expect("a time");
    let after = database_now(&app).await;
    assert!(before <= counted && counted <= after, "{before} {counted} {after}");
    assert!(after - before < TimeDelta::seconds(30));
}

#[tokio::test]
async fn the_report_in_the_heartbeat_that_demotes_counts() {
    let app = start_with_a_challenger().await;
    let demoting = json!({"PercentHealthyStreams": 50, "LastDataSendTime": "2021-01-01T00:00:00Z"});
    let answer = app.heartbeat("g", "a", demoting).await.expect_ok();
    assert_eq!(answer, json!({"Role": SECONDARY, "LastDataSendTime": "2021-01-01T00:00:00Z"}));
    let late = json!({"PercentHealthyStreams": 50, "LastDataSendTime": "2022-01-01T00:00:00Z"});
    let answer = app.heartbeat("g", "a", late).await.expect_ok();
    assert_eq!(answer["LastDataSendTime"], "2021-01-01T00:00:00Z", "it is not Primary any more");
}

#[tokio::test]
async fn the_report_of_a_primary_that_has_lapsed_does_not_count() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    beat_having_sent(&app, "a", json!(null)).await.expect_ok();
    app.database.let_time_pass(MINUTE).await;
    assert_eq!(watermark(&app, "a", json!("2024-01-01T00:00:00Z")).await, NO_TIME);
}

#[tokio::test]
async fn the_watermark_survives_the_deletion_of_the_session_that_reported_it() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    watermark(&app, "a", json!(null)).await;
    watermark(&app, "a", json!("2020-01-01T00:00:00Z")).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    assert_eq!(watermark(&app, "b", json!(null)).await, "2020-01-01T00:00:00Z");
    assert_eq!(watermark(&app, "b", json!("2019-01-01T00:00:00Z")).await, "2020-01-01T00:00:00Z");
    let status =
        app.database.rows("SELECT watermark = timestamptz '2020-01-01T00:00:00Z' AS same FROM group_status").await;
    assert_eq!(status, [json!({"same": true})]);
}

#[tokio::test]
async fn the_term_survives_the_deletion_of_all_sessions() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a", "b"]).await;
    app.beat("g", "a", 100.0).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.beat("g", "b", 100.0).await;
    app.delete("/g/clientsessions/b").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    let answer = app.heartbeat("g", "a", json!({"PercentHealthyStreams": 1})).await;
    assert_eq!(answer.header("Failover-Term"), "3");
    assert_eq!(answer.expect_ok()["Role"], PRIMARY);
}

#[tokio::test]
async fn the_term_rises_with_a_grant_and_with_nothing_else() {
    let app = start_with_a_challenger().await;
    let term = async |session: &str, health: f64| {
        let answer = app.heartbeat("g", session, json!({"PercentHealthyStreams": health})).await;
        answer.header("Failover-Term").to_owned()
    };
    assert_eq!(term("a", 95.0).await, "1", "the Primary renews");
    assert_eq!(term("b", 99.0).await, "1", "another is pending");
    assert_eq!(term("a", 95.0).await, "1", "the Primary yields");
    app.put("/g", json!({"Milliseconds": 2 * MINUTE})).await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "c"})).await.expect_ok();
    assert_eq!(term("c", 1.0).await, "1");
    assert_eq!(app.beat_acting_as("g", "a", 95.0, SECONDARY).await, SECONDARY);
    assert_eq!(term("b", 99.0).await, "2", "the other is granted");
    assert_eq!(term("a", 95.0).await, "2");
}

#[tokio::test]
async fn a_group_created_again_is_a_new_group_whose_terms_go_on() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.beat("g", "a", 100.0).await;
    watermark(&app, "a", json!("2020-01-01T00:00:00Z")).await;
    let reason = app.delete("/g").await.expect_error(409);
    assert!(reason.contains('1'), "{reason}");
    app.delete("/g?force=true").await.expect_ok();
    app.heartbeat("g", "a", json!({})).await.expect_error(404);
    app.group_of("g", MINUTE, &["b"]).await;
    app.heartbeat("g", "a", json!({})).await.expect_error(404);
    let status = app.database.rows("SELECT term, watermark, primary_session FROM group_status").await;
    assert_eq!(status, [json!({"term": 1, "watermark": null, "primary_session": null})]);
    app.database.let_time_pass(MINUTE).await;
    let answer = beat_having_sent(&app, "b", json!(null)).await;
    assert_eq!(answer.header("Failover-Term"), "2");
    assert_eq!(answer.expect_ok(), json!({"Role": PRIMARY, "LastDataSendTime": NO_TIME}));
    assert_eq!(
        app.database.trace("g").await,
        ["a 0>1 first_heartbeat heartbeat 1", "a 1>0 session_deleted operator 1", "b 0>1 session_deleted heartbeat 2"]
    );
}

#[tokio::test]
async fn an_idle_group_can_be_deleted_once_its_leases_have_run_out() {
    let app = start().await;
    app.group_of("g", MINUTE, &["a"]).await;
    app.beat("g", "a", 100.0).await;
    app.delete("/g").await.expect_error(409);
    app.database.let_time_pass(MINUTE).await;
    app.delete("/g").await.expect_ok();
    app.get("/g").await.expect_error(404);
}
