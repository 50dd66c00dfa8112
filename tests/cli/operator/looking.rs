//! Commands that look: who one is, which versions there are, which namespaces, who did what, and
//! what counts.

use client_failover::failover::risks::Risk;
use client_failover::version;

use super::*;

/// The same command outside of any namespace.
async fn without_place(app: &TestApp, arguments: &[&str]) -> Ran {
    let mut command = operator(&app.url, arguments);
    command.env_remove("CLIENT_FAILOVER_TENANT").env_remove("CLIENT_FAILOVER_NAMESPACE");
    run_with(command, "").await
}

/// A service whose groups are counted at once.
async fn counted() -> TestApp {
    TestApp::start_with(|settings| settings.failover.census_interval = Duration::from_millis(50)).await
}

async fn group_in(app: &TestApp, place: &str, group: &str) {
    let url = format!("{}/api/v1/tenants/{place}/clientfailover/groups/{group}", app.url);
    let made = app.http.put(url).json(&json!({})).send().await.expect("an answer");
    assert_eq!(made.status(), 200);
}

#[tokio::test]
async fn somebody_is_told_who_they_are_and_what_they_may_do() {
    let app = TestApp::start().await;
    let said = operate(&app, &["whoami"]).await.ok();
    assert!(said.starts_with("You are  anybody: nobody is asked who they are\nService  "), "{said}");
    let rows: Vec<Vec<&str>> = lines(&said).iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[4], ["admin", "*", "*", "*"], "{said}");

    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let arguments = ["--tenant", "t", "--role", "client", "--namespace", "n", "--group", "line-*"];
    let (number, key) = create_key(&database, "adapter", &arguments).await;
    let ask = async |key: &str, format: &str| {
        let mut command = operator(&app.url, &["whoami", "-o", format]);
        command.env("CLIENT_FAILOVER_TOKEN", key);
        run_with(command, "").await
    };
    let said = ask(&key, "table").await.ok();
    assert!(said.contains(&format!("You are  key:{number}:adapter, by an API key\n")), "{said}");
    let rows: Vec<Vec<&str>> = lines(&said).iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[4], ["client", "t", "n", "line-*"], "{said}");
    assert!(said.contains("The role client does not create groups here."), "{said}");
    let told = ask(&key, "json").await.json();
    assert_eq!((&told["Name"], &told["Kind"]), (&json!("adapter"), &json!("ApiKey")));
    assert_eq!(ask(&key, "yaml").await.yaml(), told);
    ask("cfk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "table").await.fails(4);
}

#[tokio::test]
async fn the_version_is_that_of_the_program_and_of_a_service_that_is_named() {
    let app = TestApp::start().await;
    let mut command = program();
    command.arg("version");
    // A service that is meant for other commands is not asked.
    command.env("CLIENT_FAILOVER_SERVER", "http://127.0.0.1:1");
    assert_eq!(run_with(command, "").await.ok(), format!("client-failover {}\n", version::told()));
    let both = without_place(&app, &["version", "--server", &app.url]).await.ok();
    assert!(lines(&both)[1].starts_with(&format!("{}  {}, answered by ", app.url, version::told())), "{both}");
    let json = without_place(&app, &["version", "--server", &app.url, "-o", "json"]).await.json();
    assert_eq!((&json["Version"], &json["Commit"]), (&json!(version::VERSION), &json!(version::COMMIT)));
    assert_eq!(json["Service"]["Version"], version::VERSION);
    let mut command = program();
    command.args(["version", "-o", "yaml"]);
    assert_eq!(run_with(command, "").await.yaml()["Service"], Value::Null);
}

#[tokio::test]
async fn namespaces_are_listed_with_their_groups() {
    let app = counted().await;
    assert_eq!(without_place(&app, &["namespaces"]).await.err, "no groups, and so no namespaces\n");
    for (place, group) in
        [("t/namespaces/n", "a"), ("t/namespaces/n", "b"), ("t/namespaces/m", "a"), ("u/namespaces/n", "a")]
    {
        group_in(&app, place, group).await;
    }
    app.post("/a/clientsessions", json!({"Id": "s"})).await.expect_ok();
    eventually("all are counted, and the risk", async || {
        let rows = without_place(&app, &["namespaces"]).await.ok();
        let rows: Vec<Vec<&str>> = lines(&rows).iter().map(|line| line.split_whitespace().collect()).collect();
        rows == [
            vec!["TENANT", "NAMESPACE", "GROUPS", "AT", "RISK"],
            vec!["t", "m", "1", "0"],
            vec!["t", "n", "2", "1"],
            vec!["u", "n", "1", "0"],
        ]
    })
    .await;
    let of_tenant = without_place(&app, &["namespaces", "--tenant", "t", "-o", "json"]).await.json();
    let names: Vec<&Value> = of_tenant.as_array().expect("a list").iter().map(|one| &one["NamespaceId"]).collect();
    assert_eq!(names, ["m", "n"]);
    let found = without_place(&app, &["namespaces", "--search", "U", "-o", "yaml"]).await.yaml();
    assert_eq!(found[0]["TenantId"], "u");
    without_place(&app, &["namespaces", "--search", "none"]).await.fails(3);
    let said = without_place(&app, &["namespaces", "--tenant", "tt"]).await.fails(3);
    assert!(said.contains("there are no groups in tenant 'tt'"), "{said}");
}

#[tokio::test]
async fn a_tenant_alone_has_a_status_and_events() {
    let app = counted().await;
    for place in ["t/namespaces/n", "t/namespaces/m", "u/namespaces/n"] {
        group_in(&app, place, "pump").await;
    }
    let groups = async |arguments: &[&str]| {
        let said = without_place(&app, arguments).await.ok();
        lines(&said)[1..].iter().map(|line| line.split_whitespace().next().expect("a cell").to_owned()).collect()
    };
    let of_tenant: BTreeSet<String> = groups(&["status", "--tenant", "t"]).await;
    assert_eq!(of_tenant, BTreeSet::from(["m/pump".to_owned(), "n/pump".to_owned()]));
    let of_all: BTreeSet<String> = groups(&["status"]).await;
    assert_eq!(of_all.len(), 3);
    let events = without_place(&app, &["events", "--tenant", "t"]).await.ok();
    assert_eq!(lines(&events).len(), 3, "{events}");
    assert!(events.contains("t/m/pump") && !events.contains("u/n/pump"), "{events}");
    eventually("a slip is explained, once the namespaces are counted", async || {
        let said = without_place(&app, &["status", "--tenant", "T"]).await.fails(3);
        assert!(said.contains("there are no groups in tenant 'T'"), "{said}");
        said.contains("; did you mean 't'?")
    })
    .await;
    // What is in a namespace takes one.
    let said = without_place(&app, &["groups", "list", "--tenant", "t"]).await.fails(2);
    assert!(said.contains("give --namespace too"), "{said}");
    let said = without_place(&app, &["status", "--namespace", "n"]).await.fails(2);
    assert!(said.contains("give --tenant too"), "{said}");
}

#[tokio::test]
async fn a_check_can_be_told_what_counts() {
    let app = counted().await;
    app.group_of("alone", MINUTE, &["a"]).await;
    app.beat("alone", "a", 100.0).await;
    eventually("it is at risk", async || operate(&app, &["status", "--check"]).await.code == 7).await;
    let code = async |arguments: &'static [&'static str]| {
        operate(&app, &[&["status", "--check"], arguments].concat()).await.code
    };
    assert_eq!(code(&["--counts", "no-primary,flapping"]).await, 0);
    assert_eq!(code(&["--counts", "no-primary,no-standby"]).await, 7);
    assert_eq!(code(&["--counts", "NoStandby"]).await, 7);
    assert_eq!(code(&["--ignore", "no-standby"]).await, 0);
    assert_eq!(code(&["--ignore", "no-primary"]).await, 7);
    // What is not printed counts too.
    app.group_of("vacant", MINUTE, &["a"]).await;
    eventually("both are at risk", async || {
        operate(&app, &["status", "--check", "--at-risk"]).await.out.lines().count() == 3
    })
    .await;
    assert_eq!(code(&["--count", "1", "--counts", "no-standby"]).await, 7, "the worse one is listed first");
    assert_eq!(code(&["--count", "1", "--counts", "flapping"]).await, 0);

    let said = operate(&app, &["status", "--check", "--counts", "no-primry"]).await.fails(2);
    assert!(said.contains("no-primary") && said.contains("many-sessions"), "{said}");
    operate(&app, &["status", "--counts", "no-primary"]).await.fails(2);
    // Each risk that the service knows can be named, in either way.
    for risk in Risk::ALL {
        let mut kebab = String::new();
        for c in risk.name().chars() {
            if c.is_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(c.to_ascii_lowercase());
        }
        for name in [risk.name(), kebab.as_str()] {
            let ran = operate(&app, &["status", "--check", "--counts", name]).await;
            assert!(matches!(ran.code, 0 | 7), "{name}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn who_did_what_is_shown_the_latest_first_and_followed() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Name": "N"})).await.expect_ok();
    app.put("/g", json!({"Name": "M"})).await.expect_ok();
    app.put("/h", json!({})).await.expect_ok();
    let said = operate(&app, &["audit"]).await.ok();
    let rows = lines(&said);
    assert!(rows[0].starts_with("TIME (UTC)") && rows[0].contains("WHO"), "{said}");
    assert!(rows[1].contains("group_created") && rows[1].contains("t/n/h"), "{said}");
    assert!(rows[2].contains("group_changed") && rows[2].contains("Name: N → M"), "{said}");
    assert!(rows[3].contains("anonymous"), "{said}");
    let ids = async |arguments: &[&str]| {
        let entries = operate(&app, &[&["audit", "-o", "json"], arguments].concat()).await.json();
        entries.as_array().expect("a list").iter().map(|entry| entry["AuditId"].as_i64().expect("a number")).collect()
    };
    let all: Vec<i64> = ids(&[]).await;
    assert!(all.len() == 3 && all.is_sorted_by(|a, b| a > b), "{all:?}");
    assert_eq!(ids(&["--action", "group_changed,group_deleted"]).await, all[1..2]);
    assert_eq!(ids(&["--count", "2"]).await, all[..2]);
    assert_eq!(ids(&["--who", "ANONY"]).await, all);
    assert_eq!(ids(&["--who", "somebody"]).await, [0; 0]);
    assert_eq!(ids(&["--since", "1h"]).await, all);
    assert_eq!(ids(&["--until", "1h"]).await, [0; 0]);
    assert_eq!(ids(&["--tenant", "u"]).await, [0; 0]);
    let said = operate(&app, &["audit", "--action", "group_blessed"]).await.fails(2);
    assert!(said.contains("group_created, group_changed"), "{said}");

    let mut command = operator(&app.url, &["audit", "--follow", "-o", "json"]);
    let mut child = command.spawn().expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let reader = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        output.read_line(&mut line).expect("it is text");
        line
    });
    // What is done before it listens is not news; what is done after is.
    let mut names = 0;
    eventually("it is told of a change", async || {
        names += 1;
        app.put("/h", json!({"Name": names.to_string()})).await.expect_ok();
        reader.is_finished()
    })
    .await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let entry: Value = serde_json::from_str(&reader.await.expect("a line")).expect("a line of JSON");
    assert_eq!((&entry["Action"], &entry["GroupId"]), (&json!("group_changed"), &json!("h")));
}

#[tokio::test]
async fn the_trail_is_for_admins_and_the_database_has_it_too() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, admin) = create_key(&database, "boss", &["--tenant", "t", "--role", "admin"]).await;
    let (_, client) = create_key(&database, "adapter", &["--tenant", "t", "--role", "client"]).await;
    let audit = async |key: &str, tenant: Option<&str>| {
        let mut command = operator(&app.url, &["audit", "-o", "json"]);
        command.env("CLIENT_FAILOVER_TOKEN", key).env_remove("CLIENT_FAILOVER_TENANT");
        if let Some(tenant) = tenant {
            command.args(["--tenant", tenant]);
        }
        run_with(command, "").await
    };
    let entries = audit(&admin, Some("t")).await.json();
    assert_eq!(entries.as_array().expect("a list").len(), 2, "the two keys: {entries}");
    audit(&admin, None).await.fails(4);
    audit(&client, Some("t")).await.fails(4);
    let mut command = program();
    command.args(["audit", "export"]).env("DATABASE_URL", database.url()).env("CLIENT_FAILOVER_TENANT", "t");
    assert!(run_with(command, "").await.ok().contains("key_created"));
}
