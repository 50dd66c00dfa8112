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
        "--timeout",
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
    for more in [&[][..], &["--timeout", "5s"], &["--dry-run"]] {
        let said = operate(&app, &[&["groups", "create", "pump"], more].concat()).await.fails(5);
        assert!(said.contains("the group 'pump' exists already"), "{said}");
    }
    assert_eq!(app.get("/pump").await.expect_ok(), pump);

    let made = operate(&app, &["groups", "create", "-o", "json"]).await.json();
    assert_eq!((&made["Outcome"], &made["DryRun"]), (&json!("created"), &json!(false)));
    app.get(&format!("/{}", made["Id"].as_str().expect("a new id"))).await.expect_ok();
    for (arguments, reason) in [
        (&["groups", "create", "a/b"][..], "slash"),
        (&["groups", "create", "g", "--timeout", "5ms"], "from 100 ms to 24 h"),
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
    assert_eq!(operate(&app, &["groups", "create", "pump", "--timeout", "00:02"]).await.ok(), "group pump created\n");
    operate(&app, &["groups", "create", "pump"]).await.fails(5);
    let shown = operate(&app, &["groups", "show", "pump", "-o", "json"]).await.json();
    assert_eq!(shown["FailoverTimeout"], "00:02:00");
}
