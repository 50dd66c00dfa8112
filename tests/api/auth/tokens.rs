//! Bearer tokens: their issuer, its keys, and when a token ends.

use super::*;

/// A service with bearer tokens alone, and its issuer.
async fn with_issuer(key: &SigningKey) -> (TestApp, TokenIssuer) {
    let issuer = TokenIssuer::start(vec![key.jwk("first")]).await;
    let options = AuthOptions { oidc: Some(issuer.options()), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = options).await;
    (app, issuer)
}

pub async fn list_with(app: &TestReplica, token: &str) -> Answer {
    Answer::of(app.http.get(url_of(app, ("t", "n"), "")).bearer_auth(token)).await
}

#[tokio::test]
async fn keys_rotate_and_an_issuer_that_is_away_stops_nobody_it_is_known_by() {
    let (first, second) = (SigningKey::ec(), SigningKey::ed());
    let (app, issuer) = with_issuer(&first).await;
    let by = |key: &SigningKey, kid: &str, jti: &str| {
        let mut claims = issuer.claims();
        claims["jti"] = json!(jti);
        key.token(&json!({"alg": key.algorithm(), "kid": kid}), &claims)
    };
    list_with(&app, &by(&first, "first", "1")).await.expect_ok();
    issuer.publish(vec![first.jwk("first"), second.jwk("second")]);
    eventually("a new key is believed", async || list_with(&app, &by(&second, "second", "2")).await.status == 200)
        .await;
    for mood in [Mood::Failing, Mood::Babbling, Mood::Slow(Duration::from_secs(30))] {
        issuer.set_mood(mood);
        let asked = Instant::now();
        for jti in 0..20 {
            list_with(&app, &by(&second, "second", &format!("{mood:?}{jti}"))).await.expect_ok();
        }
        assert!(asked.elapsed() < Duration::from_secs(4), "{mood:?}: {:?}", asked.elapsed());
    }
    issuer.set_mood(Mood::Failing);
    // Whether a key that is not known yet is one of the issuer's cannot be told now.
    let third = SigningKey::ec();
    eventually("what cannot be told is 503", async || list_with(&app, &by(&third, "third", "3")).await.status == 503)
        .await;
    issuer.publish(vec![third.jwk("third")]);
    issuer.set_mood(Mood::Good);
    eventually("it is believed when the issuer is back", async || {
        list_with(&app, &by(&third, "third", "3")).await.status == 200
    })
    .await;
    list_with(&app, &by(&first, "first", "withdrawn")).await.expect_error(401);
}

#[tokio::test]
async fn an_issuer_that_comes_late_is_waited_for() {
    let key = SigningKey::rsa();
    let (app, issuer) = {
        let issuer = TokenIssuer::start(vec![key.jwk("first")]).await;
        issuer.set_mood(Mood::Failing);
        let options = AuthOptions { oidc: Some(issuer.options()), ..AuthOptions::default() };
        (TestApp::start_with(|settings| settings.auth = options).await, issuer)
    };
    let token = key.token(&json!({"alg": "RS256"}), &issuer.claims());
    list_with(&app, &token).await.expect_error(503);
    issuer.set_mood(Mood::Good);
    eventually("the keys are there", async || list_with(&app, &token).await.status == 200).await;
}

#[tokio::test]
async fn unknown_keys_make_few_fetches_however_many_come() {
    let key = SigningKey::ed();
    let (app, issuer) = with_issuer(&key).await;
    list_with(&app, &key.token(&json!({"alg": "EdDSA", "kid": "first"}), &issuer.claims())).await.expect_ok();
    let (before, began) = (issuer.fetches(), Instant::now());
    let stranger = SigningKey::ed();
    let app = &app;
    stream::iter(0..300)
        .for_each_concurrent(50, async |n| {
            let token = stranger.token(&json!({"alg": "EdDSA", "kid": n.to_string()}), &issuer.claims());
            list_with(app, &token).await.expect_error(401);
        })
        .await;
    let (fetches, most) = (issuer.fetches() - before, 1 + began.elapsed().as_secs() as usize / 2);
    println!("300 tokens with unknown keys in {:?}: {fetches} fetches", began.elapsed());
    assert!(fetches <= most, "{fetches} fetches");
}

#[tokio::test]
async fn keys_may_come_from_a_file_that_is_reread() {
    let (first, second) = (SigningKey::ec(), SigningKey::ec());
    let file = new_dir().join("keys.json");
    let publish = |keys: Value| std::fs::write(&file, json!({"keys": keys}).to_string()).expect("it can be written");
    publish(json!([first.jwk("1")]));
    let issuer = TokenIssuer::start(Vec::new()).await;
    let mut options = issuer.options();
    options.issuer = "urn:an-issuer-without-a-server".to_owned();
    options.keys = client_failover::access::bearer::KeySource::File(file.clone());
    let auth = AuthOptions { oidc: Some(options), ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = auth).await;
    let mut claims = issuer.claims();
    claims["iss"] = json!("urn:an-issuer-without-a-server");
    let by = |key: &SigningKey, kid: &str| key.token(&json!({"alg": "ES256", "kid": kid}), &claims);
    list_with(&app, &by(&first, "1")).await.expect_ok();
    list_with(&app, &by(&second, "2")).await.expect_error(401);
    publish(json!([first.jwk("1"), second.jwk("2")]));
    eventually("the file is reread", async || list_with(&app, &by(&second, "2")).await.status == 200).await;
}

#[tokio::test]
async fn a_token_that_was_believed_is_refused_when_it_ends() {
    let key = SigningKey::ed();
    let issuer = TokenIssuer::start(vec![key.jwk("first")]).await;
    let mut options = issuer.options();
    options.leeway = Duration::ZERO;
    let auth = AuthOptions { oidc: Some(options), ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = auth).await;
    let mut claims = issuer.claims();
    claims["exp"] = json!(unix_now() + 3);
    let token = key.token(&json!({"alg": "EdDSA"}), &claims);
    list_with(&app, &token).await.expect_ok();
    eventually("it has ended", async || list_with(&app, &token).await.status == 401).await;
    assert!(unix_now() <= claims["exp"].as_i64().expect("a number") + 2);
}

#[tokio::test]
async fn a_token_of_its_second_audience_counts_and_the_name_of_all_tenants_opens_all() {
    let key = SigningKey::ed();
    let (app, issuer) = with_issuer(&key).await;
    let mut claims = issuer.claims();
    claims["aud"] = json!(["else", "another-name"]);
    claims["tenant"] = json!("*");
    let token = key.token(&json!({"alg": "EdDSA"}), &claims);
    for tenant in ["t", "u"] {
        Answer::of(app.http.get(url_of(&app, (tenant, "n"), "")).bearer_auth(&token)).await.expect_ok();
    }
    assert_ne!(AUDIENCE, "another-name");
}

#[tokio::test]
async fn a_tenant_whose_name_holds_a_space_opens_neither_of_its_words() {
    let key = SigningKey::ed();
    let (app, issuer) = with_issuer(&key).await;
    for (name, others) in [("North t", ["t", "North"]), ("shop *", ["t", "shop"])] {
        let mut claims = issuer.claims();
        claims["tenant"] = json!(name);
        let token = key.token(&json!({"alg": "EdDSA"}), &claims);
        let ask = |tenant: &str| app.http.get(url_of(&app, (tenant, "n"), "")).bearer_auth(&token);
        Answer::of(ask(&name.replace(' ', "%20"))).await.expect_ok();
        for other in others {
            Answer::of(ask(other)).await.expect_error(403);
        }
    }
    let mut claims = issuer.claims();
    claims["tenant"] = json!("*");
    let token = key.token(&json!({"alg": "EdDSA"}), &claims);
    Answer::of(app.http.get(url_of(&app, ("*", "n"), "")).bearer_auth(&token)).await.expect_error(400);
}
