//! Groups created by arguments alone.

use super::*;

#[tokio::test]
async fn a_group_is_created_once_and_never_changed() {
    let app = TestApp::start().await;
    let arguments = [
        "groups",
        "create",
        "pump",
        "--name",
        "Feed pump",
        "--description",
        "Yard 2",
        "--failover-timeout",
        "30s",
        "--additional-data",
        r#"{"Line": 7}"#,
    ];
    let dry = operate(&app, &[&arguments[..], &["--dry-run"]].concat()).await.ok();
    assert_eq!(dry, "group pump created (dry run)\n");
    app.get("/pump").await.expect_error(404);
    assert_eq!(operate(&app, &arguments).await.ok(), "group pump created\n");
    let pump = app.get("/pump").await.expect_ok();
    assert_eq!(
        [&pump["Name"], &pump["Description"], &pump["FailoverTimeout"]],
        [&json!("Feed pump"), &json!("Yard 2"), &json!("00:00:30")]
    );
    // Not even one that agrees: whoever creates wants one that is new.
    for more in [&[][..], &["--failover-timeout", "5s"], &["--dry-run"]] {
        let said = operate(&app, &[&["groups", "create", "pump"], more].concat()).await.fails(5);
        assert!(said.contains("the group 'pump' exists already"), "{said}");
    }
    assert_eq!(app.get("/pump").await.expect_ok(), pump);

    let made = operate(&app, &["groups", "create", "-o", "json"]).await.json();
    assert_eq!((&made["Outcome"], &made["DryRun"]), (&json!("created"), &json!(false)));
    app.get(&format!("/{}", made["Id"].as_str().expect("a new id"))).await.expect_ok();
    for (arguments, reason) in [
        (&["groups", "create", "a/b"][..], "slash"),
        (&["groups", "create", "g", "--failover-timeout", "5ms"], "from 100 ms to 24 h"),
        (&["groups", "create", "g", "--additional-data", "[]"], "JSON object"),
        (&["groups", "create", "g", "--name", &"n".repeat(261)], "260 characters"),
    ] {
        let said = operate(&app, arguments).await.fails(2);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    app.get("/g").await.expect_error(404);
}

#[tokio::test]
async fn a_group_is_created_in_the_released_form_too() {
    let app = TestApp::start_with(|settings| settings.http.paths.tenant_api = TenantApi::Released).await;
    assert_eq!(
        operate(&app, &["groups", "create", "pump", "--failover-timeout", "00:02"]).await.ok(),
        "group pump created\n"
    );
    operate(&app, &["groups", "create", "pump"]).await.fails(5);
    let shown = operate(&app, &["groups", "show", "pump", "-o", "json"]).await.json();
    assert_eq!(shown["FailoverTimeout"], "00:02:00");
}

#[tokio::test]
async fn what_would_come_of_a_deletion_or_another_timeout_is_said_and_nothing_is_done() {
    let app = TestApp::start().await;
    app.group_of("pump", MINUTE, &["a", "b"]).await;
    assert_eq!(app.beat("pump", "a", 100.0).await, 1);
    assert_eq!(app.beat("pump", "b", 100.0).await, 0);
    let before = app.get("/pump").await.expect_ok();
    let dry = async |arguments: &[&str]| operate(&app, &[arguments, &["--dry-run"]].concat()).await;

    let said = dry(&["sessions", "delete", "pump", "a"]).await.ok();
    let told = lines(&said);
    assert_eq!(told[..2], ["session a would be deleted", "a yields to b."], "{said}");
    assert!(told[2].contains("b is Primary after ") && told[3].contains("nobody is Primary for "), "{said}");
    let said = dry(&["sessions", "delete", "pump", "b"]).await.ok();
    assert_eq!(lines(&said), ["session b would be deleted", "a stays Primary."]);
    dry(&["sessions", "delete", "pump", "none"]).await.fails(3);

    let said = dry(&["groups", "delete", "pump", "--force"]).await.ok();
    assert_eq!(
        lines(&said),
        [
            "group pump would be deleted",
            "a is Primary, and does not know of this until its next heartbeat. Its 2 sessions go with it; 2 of them are live.",
        ]
    );
    dry(&["groups", "delete", "none"]).await.fails(3);

    let apply =
        async |yaml: &str| run_with(operator(&app.url, &["groups", "apply", "-f", "-", "--dry-run"]), yaml).await;
    let said = apply("Id: pump\nFailoverTimeout: 00:00:01\n").await;
    assert!(said.out.starts_with("group pump changed (dry run)\n  a "), "{said:?}");
    assert!(said.out.contains("If its clients go on by the one before: "), "{said:?}");
    assert!(said.err.contains("the timeout gets shorter"), "{said:?}");
    let said = apply("Id: pump\nName: Feed pump\nFailoverTimeout: 00:01:00\n").await.ok();
    assert_eq!(said, "group pump changed (dry run)\n");
    assert_eq!(app.get("/pump").await.expect_ok(), before, "nothing was done");
}
