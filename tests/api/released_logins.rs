//! Adapters sign in as they can: by Basic with an API key, or by tokens of an issuer that they find
//! at the service's own root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client_failover::access::AuthOptions;
use client_failover::access::bearer::KeySource;
use serde_json::json;

use crate::support::credentials::{add_user, basic, create_key, new_dir, revoke_key};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::issuer::{Mood, SigningKey, TokenIssuer};

const DISCOVERY: &str = "/Identity/.well-known/openid-configuration";

async fn groups(replica: &TestReplica, authorization: &str) -> Answer {
    let url = format!("{}/api/v1/clientfailover/groups", replica.url);
    Answer::of(replica.http.get(url).header("Authorization", authorization)).await
}

#[tokio::test]
async fn the_password_of_a_key_s_name_is_the_key() {
    let database = TestDatabase::new().await;
    let users = new_dir().join("users.toml");
    add_user(&users, "plant", "swordfish", &["--tenant", "t", "--role", "client"]).await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, users_file: Some(users), ..AuthOptions::default() };
    let replica = TestReplica::start(settings).await;
    let (number, key) = create_key(&database, "adapter 7", &["--tenant", "t", "--role", "client"]).await;
    let (_, other) = create_key(&database, "other", &["--tenant", "t", "--role", "client"]).await;
    let (_, elsewhere) = create_key(&database, "elsewhere", &["--tenant", "u", "--role", "client"]).await;
    groups(&replica, &basic("adapter 7", &key)).await.expect_ok();
    // Where it was recognised a moment ago, and where not.
    groups(&replica, &basic("adapter 7", &key)).await.expect_ok();
    for (name, password) in [("other", &key), ("", &key), ("adapter 7", &other)] {
        let refused = groups(&replica, &basic(name, password)).await.expect_error(401);
        assert!(refused.contains("name is not that of the API key"), "{name}: {refused}");
    }
    groups(&replica, &basic("elsewhere", &elsewhere)).await.expect_error(403);
    let unknown = format!("{}x", &key[..key.len() - 1]);
    let refused = groups(&replica, &basic("adapter 7", &unknown)).await.expect_error(401);
    assert!(refused.contains("unknown, expired or revoked") && !refused.contains("cfk_"), "{refused}");
    // Users of the file are as they were.
    groups(&replica, &basic("plant", "swordfish")).await.expect_ok();
    revoke_key(&database, number).await;
    let refused = async || groups(&replica, &basic("adapter 7", &key)).await.status == 401;
    eventually("a key that is revoked is no password", refused).await;
    groups(&replica, &format!("Bearer {other}")).await.expect_ok();
}

#[tokio::test]
async fn where_keys_are_no_way_in_they_are_no_password() {
    let database = TestDatabase::new().await;
    let users = new_dir().join("users.toml");
    add_user(&users, "plant", "swordfish", &["--tenant", "t", "--role", "client"]).await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { users_file: Some(users), ..AuthOptions::default() };
    let replica = TestReplica::start(settings).await;
    let (_, key) = create_key(&database, "a", &["--tenant", "t", "--role", "client"]).await;
    groups(&replica, &basic("a", &key)).await.expect_error(401);
}

#[tokio::test]
async fn an_account_of_windows_is_refused_with_what_works_instead() {
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { api_keys: true, ..AuthOptions::default() };
    let replica = TestReplica::start(settings).await;
    let token = STANDARD.encode(b"NTLMSSP\0\x01\0\0\0");
    for scheme in ["Negotiate", "NTLM", "negotiate"] {
        let refused = groups(&replica, &format!("{scheme} {token}")).await.expect_error(401);
        assert!(refused.contains("Windows") && refused.contains("API key"), "{refused}");
    }
    let refused = groups(&replica, "Digest x").await.expect_error(401);
    assert!(!refused.contains("Windows"), "{refused}");
}

#[tokio::test]
async fn an_adapter_finds_the_issuer_at_the_root_and_comes_in_with_its_token() {
    let key = SigningKey::ed();
    let issuer = TokenIssuer::start(vec![key.jwk("k1")]).await;
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    settings.auth = AuthOptions { oidc: Some(issuer.options()), ..AuthOptions::default() };
    let replica = TestReplica::start(settings).await;
    let found = Answer::of(replica.http.get(format!("{}{DISCOVERY}", replica.url))).await.expect_ok();
    assert_eq!(found["issuer"], issuer.url);
    let mut claims = issuer.claims();
    claims["tenant"] = "t".into();
    let token = key.token(&json!({"alg": key.algorithm(), "kid": "k1", "typ": "JWT"}), &claims);
    groups(&replica, &format!("Bearer {token}")).await.expect_ok();
    // What it published last serves while it is away.
    issuer.set_mood(Mood::Failing);
    Answer::of(replica.http.get(format!("{}{DISCOVERY}", replica.url))).await.expect_ok();
}

#[tokio::test]
async fn an_issuer_that_is_away_is_503_and_one_whose_keys_are_in_a_file_is_asked_when_somebody_asks() {
    let key = SigningKey::ed();
    let issuer = TokenIssuer::start(vec![key.jwk("k1")]).await;
    issuer.set_mood(Mood::Failing);
    let keys = new_dir().join("keys.json");
    std::fs::write(&keys, json!({"keys": [key.jwk("k1")]}).to_string()).expect("it can be written");
    let database = TestDatabase::new().await;
    let mut settings = settings(database.connect_options());
    let oidc = client_failover::access::bearer::OidcOptions { keys: KeySource::File(keys), ..issuer.options() };
    settings.auth = AuthOptions { oidc: Some(oidc), ..AuthOptions::default() };
    let replica = TestReplica::start(settings).await;
    let ask = async || Answer::of(replica.http.get(format!("{}{DISCOVERY}", replica.url))).await;
    ask().await.expect_error(503);
    issuer.set_mood(Mood::Good);
    eventually("it is there again", async || ask().await.status == 200).await;
    assert_eq!(issuer.fetches(), 0, "its keys are in the file");
}

#[tokio::test]
async fn where_no_issuer_is_believed_there_is_none_to_be_found() {
    let app = TestApp::start().await;
    let answer = Answer::of(app.http.get(format!("{}{DISCOVERY}", app.url))).await;
    assert_eq!(answer.status, 404);
    let resolution = answer.body["Resolution"].as_str().expect("a resolution");
    assert!(resolution.contains("API key"), "{resolution}");
}
