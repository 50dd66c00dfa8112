//! Who asks, as the service tells it to themselves.

use super::*;
use client_failover::http::AllowedHosts;
use client_failover::version;

async fn whoami(client: &Client, replica: &TestReplica) -> Answer {
    Answer::of(client.get(format!("{}/whoami", replica.url))).await
}

#[tokio::test]
async fn everybody_is_told_who_they_are_and_what_they_have_been_granted() {
    let house = House::open().await;
    let right =
        |namespace: &str, role: &str| json!({"TenantId": "t", "NamespaceId": namespace, "Groups": null, "Role": role});
    for (role, limited, grants) in grants() {
        let name = format!("{role}-{limited}");
        let of_token = if limited { vec![right("n", role)] } else { vec![right("m", role), right("n", role)] };
        let of_others = vec![right(if limited { "n" } else { "*" }, role)];
        for who in house.identities(role, limited, &grants).await {
            let told = whoami(&who.client, &house.front).await;
            assert_eq!(told.header("cache-control"), "no-store");
            let told = told.expect_ok();
            let (kind, own_name, identity) = match who.label.split(' ').next() {
                Some("basic") => ("User", name.clone(), format!("basic:{name}")),
                Some("api") => {
                    let identity = told["Identity"].as_str().expect("a text").to_owned();
                    assert!(identity.starts_with("key:") && identity.ends_with(&format!(":{name}")), "{identity}");
                    ("ApiKey", name.clone(), identity)
                }
                Some("certificate") => ("Certificate", format!("cn:{name}"), format!("certificate:cn:{name}")),
                _ => ("Token", "adapter".to_owned(), "oidc:adapter".to_owned()),
            };
            let rights = if kind == "Token" { &of_token } else { &of_others };
            let host = house.front.url.rsplit(':').next().expect("a port");
            let replica = told["Replica"].as_str().expect("a text");
            assert!(replica.ends_with(&format!(":{host}")), "{replica}");
            let expected = json!({
                "Name": own_name,
                "Identity": identity,
                "Kind": kind,
                "Rights": rights,
                "RightsLeftOut": 0,
                "ClientsCreateGroups": true,
                "Version": env!("CARGO_PKG_VERSION"),
                "Commit": version::COMMIT,
                "Replica": replica,
            });
            assert_eq!(told, expected, "{}", who.label);
        }
    }
}

#[tokio::test]
async fn it_takes_no_right_to_be_told_who_one_is_but_credentials_that_are_good() {
    let house = House::open().await;
    let nobody = house.who("without a role", &format!("Bearer {}", house.token(|claims| claims["roles"] = json!([]))));
    let told = whoami(&nobody.client, &house.front).await.expect_ok();
    assert_eq!(told["Rights"], json!([]));
    assert_eq!(told["Kind"], "Token");

    let metrics = house.who("metrics", &basic("metrics-false", PASSWORD));
    let told = whoami(&metrics.client, &house.front).await.expect_ok();
    let right = json!({"TenantId": "*", "NamespaceId": "*", "Groups": null, "Role": "metrics"});
    assert_eq!(told["Rights"], json!([right]));

    let arguments = ["--tenant", "t", "--role", "client", "--namespace", "n", "--group", "line-*", "--group", "pump"];
    let (_, key) = create_key(&house.database, "some", &arguments).await;
    let some = house.who("some groups", &format!("Bearer {key}"));
    let told = whoami(&some.client, &house.front).await.expect_ok();
    assert_eq!(told["Rights"][0]["Groups"], json!(["line-*", "pump"]));

    let strangers = [
        Who::new("no credentials", &house.authority, None),
        house.who("a wrong password", &basic("viewer-true", "wrong")),
        house.who("a key that is none", "Bearer cfk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ];
    for who in strangers {
        let refused = whoami(&who.client, &house.front).await;
        assert!(refused.header("www-authenticate").contains("Bearer"), "{}", who.label);
        refused.expect_error(401);
    }
    // Nothing but looking.
    let url = format!("{}/whoami", house.front.url);
    Answer::of(nobody.client.post(&url).json(&json!({}))).await.expect_error(403);
    assert_eq!(nobody.client.head(&url).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn where_nobody_is_asked_all_are_told_what_anybody_may_do() {
    let app = TestApp::start().await;
    let told = whoami(&app.http, &app).await.expect_ok();
    let right = json!({"TenantId": "*", "NamespaceId": "*", "Groups": null, "Role": "admin"});
    assert_eq!((&told["Name"], &told["Identity"], &told["Kind"]), (&Value::Null, &Value::Null, &json!("Anonymous")));
    assert_eq!(told["Rights"], json!([right]));
    let app = TestApp::start_with(|settings| settings.http.allowed_hosts = AllowedHosts::only([])).await;
    let by_another_name = app.http.get(format!("{}/whoami", app.url)).header("Host", "elsewhere.example");
    assert!(Answer::of(by_another_name).await.status.is_client_error());
}

#[tokio::test]
async fn the_manual_shows_what_is_told() {
    const PAGE: &str = include_str!("../../../docs/api.md");
    let (_, block) = PAGE.split_once("```json\n{\"Name\":").expect("docs/api.md shows it");
    let (block, _) = block.split_once("\n```").expect("it ends");
    let shown: serde_json::Value = serde_json::from_str(&format!("{{\"Name\":{block}")).expect("JSON");
    let app = TestApp::start().await;
    let told = whoami(&Client::new(), &app).await.expect_ok();
    let names = |object: &serde_json::Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&told));
    assert_eq!(names(&shown["Rights"][0]), names(&told["Rights"][0]));
}
