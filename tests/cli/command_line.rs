//! How the program is called: what stands on which output, what it says of a slip, and which
//! settings belong to which command.

use serde_json::{Value, json};

use crate::cli::log_lines::Logging;
use crate::support::credentials::{Authority, create_key, new_dir};
use crate::support::helpers::{TestApp, TestDatabase};
use crate::support::program::{Ran, operator, program, run_with};

async fn called(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = program();
    command.args(arguments).envs(environment.iter().copied());
    run_with(command, "").await
}

#[tokio::test]
async fn keys_are_listed_for_programs_and_a_number_that_is_none_is_not_found() {
    let database = TestDatabase::new().await;
    // That the key stands alone on standard output is seen there.
    let (number, text) = create_key(&database, "adapter-7", &["--tenant", "t", "--role", "client"]).await;
    let keys = async |arguments: &[&str]| {
        called(&[&["keys"][..], arguments].concat(), &[("DATABASE_URL", &database.url())]).await
    };
    let list = keys(&["list", "-o", "json"]).await.json();
    let key = &list[0];
    assert_eq!(
        (&key["Key"], &key["Name"], &key["TenantId"], &key["Namespaces"], &key["Role"], &key["Valid"]),
        (&json!(number), &json!("adapter-7"), &json!("t"), &Value::Null, &json!("client"), &json!(true))
    );
    assert!(key["CreatedAt"].as_str().is_some_and(|time| time.ends_with('Z')), "{key}");
    let yaml = keys(&["list", "-o", "yaml"]).await.ok();
    // Of the two moments of asking, what is left of its life is another.
    let at_rest = |mut list: Value| {
        list[0]["ValidForSeconds"].take();
        list
    };
    assert_eq!(at_rest(serde_saphyr::from_str::<Value>(&yaml).expect("YAML")), at_rest(list.clone()));
    assert!(!format!("{list}{yaml}").contains(&text[4..]), "a secret");
    let said = keys(&["revoke", "77"]).await.fails(3);
    assert!(said.contains("there is no key 77"), "{said}");
    keys(&["create", "x", "--tenant", "a/b", "--role", "client"]).await.fails(2);
}

#[tokio::test]
async fn a_slip_is_answered_with_what_may_have_been_meant() {
    let file = new_dir().join("settings.toml");
    std::fs::write(&file, "log = \"info\"\nsweep-intervall = \"1s\"\n").expect("the folder is ours");
    let file = file.to_str().expect("UTF-8");
    for (arguments, environment, meant) in [
        (&["statsu"][..], &[][..], "'status'"),
        (&["groups", "lst"], &[], "'list'"),
        (&["--lisen", "127.0.0.1:0"], &[], "'--listen'"),
        (&["status", "--serch", "x"], &[], "'--search'"),
        (&["--auth", "api-keys"], &[], "'api-key'"),
        (&["status", "-o", "jsn"], &[], "'json'"),
        (&["--config", file], &[], "line 2: there is no setting 'sweep-intervall'; did you mean 'sweep-interval'?"),
        (&["migrate", "--config", file], &[], "did you mean 'sweep-interval'?"),
        (&["status"], &[("CLIENT_FAILOVER_TENNANT", "t")], "did you mean 'CLIENT_FAILOVER_TENANT'?"),
        (&["keys", "list"], &[("CLIENT_FAILVER_LOG", "debug")], "did you mean 'CLIENT_FAILOVER_LOG'?"),
        (&[], &[("CLIENT_FAILOVER_LISTN", "127.0.0.1:0")], "did you mean 'CLIENT_FAILOVER_LISTEN'?"),
    ] {
        let said = called(arguments, environment).await.fails(2);
        assert!(said.contains(meant) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    // What is like nothing is only warned about: it may be somebody else's.
    let ran = called(&["completion", "bash"], &[("CLIENT_FAILOVER_WHATEVER", "1")]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "warning: the environment has CLIENT_FAILOVER_WHATEVER, which is no setting\n")
    );
    let ran = called(
        &["completion", "bash"],
        &[("CLIENT_FAILOVER_SERVICE_HOST", "10.0.0.1"), ("CLIENT_FAILOVER_IMAGE", "x")],
    )
    .await;
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn commands_on_the_database_have_the_settings_that_they_use_and_no_others() {
    for command in [&["migrate"][..], &["keys", "create"], &["keys", "list"], &["keys", "revoke"]] {
        let help = called(&[command, &["--help"]].concat(), &[]).await.ok();
        for flag in ["--config", "--database-url", "--data-dir", "--operation-timeout", "--log "] {
            assert!(help.contains(flag), "{command:?} {flag}: {help}");
        }
        for flag in
            ["--listen", "--auth", "--oidc-issuer", "--heartbeat-batch", "--tls-key", "--http-workers", "--drain"]
        {
            assert!(!help.contains(flag), "{command:?} {flag}: {help}");
        }
    }
    let said = called(&["migrate", "--listen", "127.0.0.1:0"], &[]).await.fails(2);
    assert!(said.contains("--listen") && said.contains("a setting of serve"), "{said}");

    // What is set for the service beside it does not keep them from their work.
    let database = TestDatabase::empty().await;
    let file = new_dir().join("settings.toml");
    std::fs::write(&file, "listen = \"0.0.0.0:8080\"\n").expect("the folder is ours");
    let file = file.to_str().expect("UTF-8");
    let environment = [("DATABASE_URL", &*database.url()), ("CLIENT_FAILOVER_LISTEN", "0.0.0.0:80")];
    let said = called(&["migrate", "--config", file], &environment).await.ok();
    assert!(said.contains("migrations applied"), "{said}");
}

#[tokio::test]
async fn it_listens_at_all_addresses_of_a_name_and_localhost_is_loopback() {
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "localhost:0"]).env("DATABASE_URL", database.url());
    let service = Logging::start(command).await;
    let port = service.url.rsplit(':').next().expect("a port").to_owned();
    let addresses: Vec<std::net::SocketAddr> =
        std::net::ToSocketAddrs::to_socket_addrs(&format!("localhost:{port}")).expect("it is there").collect();
    for address in &addresses {
        let alive = reqwest::get(format!("http://{address}/health/live")).await;
        assert!(alive.is_ok_and(|answer| answer.status() == 200), "{address} of {addresses:?}");
    }
    for (value, reason) in [
        ("localhost", "with a port"),
        (":8080", "with a port"),
        ("::1:8080", "with a port"),
        ("http://localhost:8080", "with a port"),
        ("localhost:80800", "with a port"),
        ("nowhere.invalid:8080", "cannot be resolved"),
        ("0.0.0.0:0", "--auth none"),
    ] {
        let said = called(&["--listen", value], &[("DATABASE_URL", "postgres://u@127.0.0.1:1/x")]).await.fails(2);
        assert!(said.contains(reason), "{value}: {said}");
    }
}

#[tokio::test]
async fn a_url_with_the_wrong_scheme_is_explained() {
    let authority = Authority::new();
    let dir = new_dir();
    let tls = authority.server((-1, 90)).write(&dir);
    let secure = TestApp::start_with(|settings| settings.tls = Some(tls)).await;
    let plain = TestApp::start().await;
    let asked = async |url: String| run_with(operator(&url, &["status"]), "").await;
    let said = asked(plain.url.replace("http:", "https:")).await.fails(6);
    assert!(said.contains("does not speak TLS") && said.contains("http://"), "{said}");
    let ran = asked(secure.url.replace("https:", "http:")).await;
    assert!(ran.code != 0 && ran.err.contains("https://"), "{ran:?}");
    // Somebody who is not there has no scheme.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let said = asked(format!("http://{nobody}")).await.fails(6);
    assert!(!said.contains("https"), "{said}");
}
