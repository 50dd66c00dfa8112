//! Credentials that are revoked, changed or taken over while somebody uses them, and settings.

use super::tokens::list_with;
use super::*;

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_replica_within_seconds() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    let replicas = [TestReplica::start(settings.clone()).await, TestReplica::start(settings).await];
    let (number, key) = create_key(&database, "adapter", &["--tenant", "t", "--role", "client"]).await;
    for replica in &replicas {
        // At once, though neither replica has looked since.
        list_with(replica, &key).await.expect_ok();
    }
    let revoked = Instant::now();
    revoke_key(&database, number).await;
    for replica in &replicas {
        eventually("the key is refused", async || list_with(replica, &key).await.status == 401).await;
    }
    let elapsed = revoked.elapsed();
    println!("a revoked key was refused by both replicas {elapsed:?} after its revocation began");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    // Also where it is done by hand.
    let (_, key) = create_key(&database, "second", &["--tenant", "t", "--role", "client"]).await;
    list_with(&replicas[0], &key).await.expect_ok();
    database.execute("UPDATE api_keys SET revoked_at = now() WHERE name = 'second'").await;
    eventually("the key is refused", async || list_with(&replicas[0], &key).await.status == 401).await;
    let used = "SELECT last_used_at IS NOT NULL AS used FROM api_keys WHERE name = 'adapter'";
    eventually("its use is noted", async || database.rows(used).await == [json!({"used": true})]).await;
}

#[tokio::test]
async fn keys_are_listed_without_their_secrets_and_kept_as_hashes() {
    let database = TestDatabase::empty().await;
    let (_, key) = create_key(
        &database,
        "adapter 7",
        &["--tenant", "t", "--namespace", "n", "--role", "client", "--expires-in", "90days"],
    )
    .await;
    let (second, _) = create_key(&database, "gone", &["--tenant", "*", "--role", "viewer"]).await;
    revoke_key(&database, second).await;
    let mut list = program();
    list.args(["keys", "list"]).env("DATABASE_URL", database.url());
    let list = run(list).await.ok();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    for word in ["adapter 7", " t ", " n ", "client", "valid"] {
        assert!(lines[1].contains(word), "{word}: {list}");
    }
    assert!(lines[2].contains("revoked") && lines[2].contains("all"), "{list}");
    assert!(!list.contains("cfk_"), "{list}");
    let stored = database.rows("SELECT api_keys::text || audit_log::text AS row FROM api_keys, audit_log").await;
    assert!(stored.iter().all(|row| !row.to_string().contains(&key[4..])), "{stored:?}");
    let mut again = program();
    again.args(["keys", "revoke", &second.to_string()]).env("DATABASE_URL", database.url());
    let output = again.output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "there is no such key to revoke");
}

#[tokio::test]
async fn a_users_file_is_reread_and_a_broken_one_changes_nothing() {
    let house = House::open().await;
    let status = async |name: &str, password: &str| {
        house.ask(&house.who(name, &basic(name, password)), List, ("t", "n"), "x").await.status.as_u16()
    };
    assert_eq!(status("client-true", PASSWORD).await, 200);
    assert_eq!(status("late", PASSWORD).await, 401);
    add_user(&house.users_file, "late", PASSWORD, &["--tenant", "t", "--role", "viewer"]).await;
    eventually("a user is added", async || status("late", PASSWORD).await == 200).await;
    assert_eq!(status("client-true", PASSWORD).await, 200);
    let text = std::fs::read_to_string(&house.users_file).expect("it is there");
    std::fs::write(&house.users_file, format!("{text}\n[users.broken")).expect("it can be written");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(status("late", PASSWORD).await, 200);
    let without =
        text.split("\n\n").filter(|entry| !entry.contains("[users.\"late\"]")).collect::<Vec<_>>().join("\n\n");
    std::fs::write(&house.users_file, &without).expect("it can be written");
    eventually("a user is removed", async || status("late", PASSWORD).await == 401).await;
    assert_eq!(status("client-true", PASSWORD).await, 200);
    // Another role of a user whose password is remembered.
    let changed = without.replace("[\"n\"]", "[\"m\"]");
    assert_ne!(changed, without);
    std::fs::write(&house.users_file, changed).expect("it can be written");
    eventually("a grant is changed", async || status("client-true", PASSWORD).await == 403).await;
    // Another password of a user whose old one is remembered.
    let entry =
        |text: &str| text.split("\n\n").find(|entry| entry.contains("[users.\"client-true\"]")).map(str::to_owned);
    let before = std::fs::read_to_string(&house.users_file).expect("it is there");
    let old_entry = entry(&before).expect("they are in it");
    let others = dir_of(&house.users_file).join("another.toml");
    add_user(&others, "client-true", "another password", &["--tenant", "t", "--role", "client"]).await;
    let new_entry = std::fs::read_to_string(&others).expect("it was written");
    std::fs::write(&house.users_file, before.replace(&old_entry, &new_entry)).expect("it can be written");
    eventually("the new password is good", async || status("client-true", "another password").await == 200).await;
    assert_eq!(status("client-true", PASSWORD).await, 401, "the old one is not remembered any more");
}

fn dir_of(file: &std::path::Path) -> &std::path::Path {
    file.parent().expect("it is in a folder")
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let house = House::open().await;
    let refusal = async |name: &str, n: usize| {
        let who = house.who(name, &basic(name, &format!("wrong {n}")));
        house.ask(&who, List, ("t", "n"), "x").await;
        let asked = Instant::now();
        let again = basic(name, &format!("still wrong {n}"));
        let request = who.client.get(url_of(&house.front, ("t", "n"), "")).header("authorization", again);
        Answer::of(request).await.expect_error(401);
        asked.elapsed()
    };
    // In turn, and the quickest of each: what else the machine does comes and goes, and only adds.
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for n in 0..15 {
        known = known.min(refusal("admin-true", n).await);
        unknown = unknown.min(refusal("nobody", n).await);
    }
    println!("wrong password {known:?}, unknown user {unknown:?} (the quickest of 15)");
    // One who is not looked for is refused in a hundredth of the time.
    assert!(unknown > known / 4 && unknown < known * 4, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn sessions_are_bound_to_who_registered_them_where_that_is_set() {
    for bound in [true, false] {
        let database = TestDatabase::new().await;
        let mut settings = settings(database.connect_options());
        settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
        settings.failover.bind_sessions = bound;
        let app = TestReplica::start(settings).await;
        let mut keys = Vec::new();
        for (name, role) in [("one", "client"), ("two", "client"), ("boss", "admin")] {
            keys.push(create_key(&database, name, &["--tenant", "t", "--role", role]).await.1);
        }
        let ask = async |key: &str, method: Method, below: &str, body: Value| {
            Answer::of(app.http.request(method, url_of(&app, ("t", "n"), below)).bearer_auth(key).json(&body)).await
        };
        ask(&keys[0], Method::PUT, "/g", json!({"Milliseconds": 60_000})).await.expect_ok();
        for session in ["a", "b"] {
            ask(&keys[0], Method::POST, "/g/clientsessions", json!({"Id": session})).await.expect_ok();
            ask(&keys[0], Method::POST, &format!("/g/clientsessions/{session}"), json!({})).await.expect_ok();
        }
        let others = ask(&keys[1], Method::POST, "/g/clientsessions/a", json!({})).await;
        let deletion = ask(&keys[1], Method::DELETE, "/g/clientsessions/b", json!({})).await;
        if bound {
            others.expect_error(403);
            deletion.expect_error(403);
            ask(&keys[2], Method::POST, "/g/clientsessions/a", json!({})).await.expect_error(403);
            ask(&keys[2], Method::DELETE, "/g/clientsessions/b", json!({})).await.expect_ok();
            // One that registered before that was noted is nobody's.
            database.execute("UPDATE sessions SET registered_by = NULL").await;
            ask(&keys[1], Method::POST, "/g/clientsessions/a", json!({})).await.expect_ok();
        } else {
            others.expect_ok();
            deletion.expect_ok();
        }
        ask(&keys[0], Method::DELETE, "/g/clientsessions/a", json!({})).await.expect_ok();
    }
}

#[tokio::test]
async fn whether_clients_create_groups_is_a_setting() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: false, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, client) = create_key(&database, "client", &["--tenant", "t", "--role", "client"]).await;
    let (_, admin) = create_key(&database, "admin", &["--tenant", "t", "--role", "admin"]).await;
    let put = async |key: &str| {
        Answer::of(app.http.put(url_of(&app, ("t", "n"), "/g")).bearer_auth(key).json(&json!({}))).await
    };
    put(&client).await.expect_error(403);
    put(&admin).await.expect_ok();
    put(&client).await.expect_error(403);
    let post = app.http.post(url_of(&app, ("t", "n"), "")).bearer_auth(&client).json(&json!({}));
    Answer::of(post).await.expect_error(403);
}

/// All that bearer tokens take, and what is wrong besides.
fn oidc_and<'a>(wrong: &[&'a str]) -> Vec<&'a str> {
    [&["--auth", "oidc", "--oidc-issuer", "https://i.example", "--oidc-audience", "x"], wrong].concat()
}

#[tokio::test]
async fn it_does_not_start_open_where_others_reach_it_nor_with_half_of_its_settings() {
    let dir = new_dir();
    let users = dir.join("users.toml");
    std::fs::write(&users, "[users.a]\npassword = \"swordfish\"\ngrants = []\n").expect("it can be written");
    let empty = dir.join("empty.toml");
    std::fs::write(&empty, "").expect("it can be written");
    let (users, empty, absent) =
        (users.display().to_string(), empty.display().to_string(), dir.join("absent").display().to_string());
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["--listen", "0.0.0.0:0"], "--auth none"),
        (vec!["--listen", "[::]:0"], "--auth none"),
        (vec!["--listen", "192.0.2.1:0"], "--auth none"),
        (vec!["--auth", ""], "auth"),
        (vec!["--auth", "open"], "open"),
        (vec!["--auth", "none,basic", "--users-file", &empty], "none"),
        (vec!["--auth", "oidc"], "oidc-issuer"),
        (vec!["--auth", "oidc", "--oidc-issuer", ""], "oidc-issuer"),
        (vec!["--auth", "oidc", "--oidc-issuer", "https://i.example"], "oidc-audience"),
        (vec!["--auth", "oidc", "--oidc-issuer", "https://i.example", "--oidc-audience", ""], "oidc-audience"),
        (vec!["--auth", "oidc", "--oidc-issuer", "http://i.example", "--oidc-audience", "x"], "https://"),
        (oidc_and(&["--oidc-algorithms", "HS256"]), "HS256"),
        (oidc_and(&["--oidc-algorithms", "none"]), "none"),
        (oidc_and(&["--oidc-roles", "a=king"]), "a=king"),
        (oidc_and(&["--oidc-tenant-claim", ""]), "oidc-tenant-claim"),
        (oidc_and(&["--oidc-page-client-id", "x"]), "oidc-audience"),
        (oidc_and(&["--oidc-page-scopes", "openid"]), "oidc-page-client-id"),
        (vec!["--oidc-page-client-id", "page"], "oidc"),
        (oidc_and(&["--oidc-keys", &absent]), "absent"),
        (oidc_and(&["--oidc-keys", &empty]), "Key Set"),
        (vec!["--auth", "basic"], "users-file"),
        (vec!["--auth", "basic", "--users-file", &absent], "absent"),
        (vec!["--auth", "basic", "--users-file", &users], "argon2id"),
        (vec!["--users-file", &empty], "basic"),
        (vec!["--oidc-issuer", "https://i.example"], "oidc"),
        (vec!["--auth", "certificate"], "tls-client-ca"),
        (vec!["--tls-certificate", &empty], "tls-key"),
        (vec!["--tls-key", &empty], "tls-certificate"),
        (vec!["--tls-client-ca", &empty], "tls-certificate"),
        (vec!["--tls-certificate", &absent, "--tls-key", &absent], "absent"),
        (vec!["--tls-certificate", &empty, "--tls-key", &empty], "certificate"),
        (vec!["--rate-limit", "0"], "rate-limit"),
    ];
    let count = cases.len();
    for (arguments, named) in cases {
        let mut command = program();
        // Nobody listens there: it may get as far as its database, and no further.
        command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", "postgres://u:p@127.0.0.1:1/x");
        if arguments[0] == "--listen" {
            command = program();
            command.env("DATABASE_URL", "postgres://u:p@127.0.0.1:1/x");
        }
        command.args(&arguments);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        let lines = said.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!((lines, said.contains(named)), (1, true), "{arguments:?}: {said}");
        assert!(!said.contains("swordfish"), "{said}");
    }
    println!("{count} settings that must not start do not");
}

#[tokio::test]
async fn keys_of_one_name_are_two_callers_and_one_that_takes_anothers_place_is_the_same() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, clients_create_groups: true, ..AuthOptions::default() };
    settings.failover.bind_sessions = true;
    let app = TestReplica::start(settings).await;
    let client = ["--tenant", "t", "--role", "client"];
    let (first_number, first) = create_key(&database, "adapter", &client).await;
    let (_, namesake) = create_key(&database, "adapter", &client).await;
    let (_, everywhere) = create_key(&database, "adapter", &["--tenant", "*", "--role", "client"]).await;
    let number = first_number.to_string();
    let (_, next) = create_key(&database, "adapter-8", &[&client[..], &["--replaces", &number]].concat()).await;
    let ask = async |key: &str, method: Method, below: &str, body: Value| {
        Answer::of(app.http.request(method, url_of(&app, ("t", "n"), below)).bearer_auth(key).json(&body)).await
    };
    ask(&first, Method::PUT, "/g", json!({"Milliseconds": 60_000})).await.expect_ok();
    ask(&first, Method::POST, "/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    ask(&first, Method::POST, "/g/clientsessions/a", json!({})).await.expect_ok();
    for other in [&namesake, &everywhere] {
        ask(other, Method::POST, "/g/clientsessions/a", json!({})).await.expect_error(403);
        ask(other, Method::DELETE, "/g/clientsessions/a", json!({})).await.expect_error(403);
    }
    ask(&next, Method::POST, "/g/clientsessions/a", json!({})).await.expect_ok();
    revoke_key(&database, first_number).await;
    eventually("the first key is refused", async || {
        ask(&first, Method::POST, "/g/clientsessions/a", json!({})).await.status == 401
    })
    .await;
    ask(&next, Method::POST, "/g/clientsessions/a", json!({})).await.expect_ok();
    // As a replica of the version before has noted it: whose it is cannot be told.
    database.execute("UPDATE sessions SET registered_by = 'key:adapter'").await;
    ask(&namesake, Method::POST, "/g/clientsessions/a", json!({})).await.expect_ok();
}

/// Reads a stream until it ends.
async fn until_it_ends(mut stream: reqwest::Response) {
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(12), ended).await.expect("the stream ends");
}

#[tokio::test]
async fn a_stream_ends_with_the_credential_that_it_was_opened_with() {
    let database = TestDatabase::new().await;
    let key = SigningKey::ed();
    let issuer = TokenIssuer::start(vec![key.jwk("first")]).await;
    let mut options = issuer.options();
    options.leeway = Duration::ZERO;
    let users = new_dir().join("users.toml");
    add_user(&users, "watcher", "correct horse", &["--tenant", "t", "--role", "viewer"]).await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions {
        api_keys: true,
        oidc: Some(options),
        users_file: Some(users.clone()),
        clients_create_groups: true,
        ..AuthOptions::default()
    };
    let app = TestReplica::start(settings).await;
    let (number, api_key) = create_key(&database, "watcher", &["--tenant", "t", "--role", "viewer"]).await;
    let (_, lasting) = create_key(&database, "lasting", &["--tenant", "t", "--role", "viewer"]).await;
    let mut claims = issuer.claims();
    claims["exp"] = json!(unix_now() + 3);
    let token = key.token(&json!({"alg": "EdDSA"}), &claims);
    let open = async |authorization: String| {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/events", app.url);
        let stream = app.http.get(url).header("authorization", authorization).send().await.expect("it answers");
        assert_eq!(stream.status(), 200);
        stream
    };
    let by_token = open(format!("Bearer {token}")).await;
    let by_key = open(format!("Bearer {api_key}")).await;
    let by_password = open(basic("watcher", "correct horse")).await;
    let mut stays = open(format!("Bearer {lasting}")).await;
    revoke_key(&database, number).await;
    std::fs::write(&users, "").expect("it can be written");
    tokio::join!(until_it_ends(by_token), until_it_ends(by_key), until_it_ends(by_password));
    let _ = stays.chunk().await.expect("it goes on").expect("it has begun");
    let rest = tokio::time::timeout(Duration::from_millis(1_500), stays.chunk()).await;
    assert!(rest.is_err() || rest.is_ok_and(|rest| rest.is_ok_and(|piece| piece.is_some())), "it has ended");
}

#[tokio::test]
async fn several_headers_that_say_who_is_asking_say_nothing() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, ..AuthOptions::default() };
    let app = TestReplica::start(settings).await;
    let (_, key) = create_key(&database, "adapter", &["--tenant", "t", "--role", "client"]).await;
    let ask = |headers: usize| {
        let request = app.http.get(url_of(&app, ("t", "n"), ""));
        (0..headers).fold(request, |request, _| request.header("authorization", format!("Bearer {key}")))
    };
    let answer = Answer::of(ask(1)).await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    answer.expect_ok();
    Answer::of(ask(2)).await.expect_error(401);
}
