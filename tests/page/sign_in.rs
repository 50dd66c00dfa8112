//! Sign-in on the page with an issuer of tokens, in a real browser: what it brings back, what is
//! not believed, and how it goes on and ends.

use std::process::Stdio;
use std::sync::Arc;

use client_failover::access::AuthOptions;
use client_failover::access::bearer::OidcOptions;
use client_failover::access::bearer::sign_in::PageClient;
use client_failover_workshop::needs;
use reqwest::header::{CONTENT_TYPE, ORIGIN};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::support::authorization::{Authorization, Back, PAGE};
use crate::support::browser::{Browser, ENTER};
use crate::support::credentials::new_dir;
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::issuer::{AUDIENCE, Mood, TokenIssuer};
use crate::support::program::{Running, program};

const MINUTE: i64 = 60_000;

/// What a browser keeps that outlives its tab, or that others see.
const PLACES: &str = "JSON.stringify([location.href, document.referrer, document.cookie, {...localStorage}, \
    history.state, document.documentElement.outerHTML])";

/// A service whose page signs people in with an issuer, and an open one on the same database.
struct House {
    app: TestApp,
    open: TestReplica,
    issuer: TokenIssuer,
    door: Arc<Authorization>,
}

impl House {
    async fn new() -> House {
        House::with(Mood::Good).await
    }

    /// Where the issuer is like that from the start.
    async fn with(mood: Mood) -> House {
        let (issuer, door) = TokenIssuer::of_people().await;
        issuer.set_mood(mood);
        let scopes = vec!["openid".to_owned(), "offline_access".to_owned()];
        let page_client = Some(PageClient { client_id: PAGE.to_owned(), scopes });
        let oidc = OidcOptions { page_client, ..issuer.options() };
        let app = TestApp::start_with(|settings| {
            settings.auth = AuthOptions { oidc: Some(oidc), clients_create_groups: true, ..AuthOptions::default() };
        })
        .await;
        door.register(format!("{}/", app.url));
        let open = TestReplica::start(settings(app.database.connect_options())).await;
        open.group_of("pump", MINUTE, &["a", "b"]).await;
        assert_eq!(open.beat("pump", "a", 100.0).await, 1);
        House { app, open, issuer, door }
    }

    fn of_page(&self, method: Method) -> reqwest::RequestBuilder {
        self.app.http.request(method, format!("{}/page/sign-in", self.app.url))
    }

    /// What the service says to a proof.
    async fn exchange(&self, proof: Value) -> Answer {
        Answer::of(self.of_page(Method::POST).json(&proof)).await
    }

    /// A code of the issuer's, for that challenge.
    async fn code(&self, challenge: &str) -> String {
        code_for(&self.issuer.url, &format!("{}/", self.app.url), challenge).await
    }
}

/// Signs in as a browser would, and tells the code that comes back.
async fn code_for(issuer: &str, redirect_uri: &str, challenge: &str) -> String {
    let asked = [
        ("response_type", "code"),
        ("client_id", PAGE),
        ("scope", "openid"),
        ("state", "s"),
        ("redirect_uri", redirect_uri),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let url = Url::parse_with_params(&format!("{issuer}/authorize?from=here"), asked).expect("a URL");
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let answer = http.get(url).send().await.expect("it answers");
    let back = answer.headers()["location"].to_str().expect("ASCII").to_owned();
    let code = Url::parse(&back)
        .expect("a URL")
        .query_pairs()
        .find(|(name, _)| name == "code")
        .map(|(_, code)| code.into_owned());
    code.expect("there is a code")
}

/// A verifier, and the challenge that is made of it (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A sign-in has begun in this tab.
const HAVE_BEGUN: &str = "sessionStorage.setItem('client-failover.sign-in', JSON.stringify({
    state: 'right', verifier: 'v', redirectUri: 'r', issuer: 'i', namesIssuer: false, hash: '',
}))";

/// Opens the page there and waits for the way to the issuer.
async fn come_to_the_door(browser: &Browser, url: &str) {
    browser.go("about:blank").await;
    browser.go(url).await;
    browser.shows(".leave", "Sign in with 127.0.0.1:").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn whoever_signs_in_comes_back_to_what_they_wanted_and_nothing_secret_stays_behind() {
    let house = House::new().await;
    let browser = Browser::start().await;
    let wanted = format!("{}/#/g/t/n/pump?span=3600", house.app.url);
    come_to_the_door(&browser, &wanted).await;
    // Whoever has typed nothing is at the button.
    browser.until("document.activeElement.className === 'leave'").await;
    browser.press(ENTER).await;
    browser.shows(".facts", "Primary a").await;
    browser.shows("#connection", "Live").await;
    assert_eq!(browser.eval("location.href").await, wanted.as_str());
    browser.shows("#who", "Signed in as zoe").await;

    // Its stream, too, came with the token.
    house.open.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".facts", "Primary nobody").await;

    // The tab keeps what requests are sent with, and nothing else does.
    let kept = browser.eval("JSON.stringify({...sessionStorage})").await.to_string();
    let given = house.door.given();
    let [code, token, refresh_token] = given.as_slice() else { panic!("{given:?}") };
    assert!(kept.contains(token) && kept.contains(refresh_token) && !kept.contains(code), "{kept}");
    assert!(!kept.contains("verifier") && !kept.contains("state"), "{kept}");
    let places = browser.eval(PLACES).await.to_string();
    for secret in &given {
        assert!(!places.contains(secret), "{secret}: {places}");
    }
    let log = browser.log().await;
    let faults: Vec<&String> = log.iter().filter(|line| !line.contains("Failed to load resource")).collect();
    assert_eq!(faults, Vec::<&String>::new());

    // The issuer heard of the page by its id alone, and of the code from the service alone.
    let heard = house.door.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    for request in &heard {
        let head = request.to_lowercase();
        for header in ["referer:", "cookie:", "authorization:", "client_secret"] {
            assert!(!head.contains(header), "{request}");
        }
    }
    assert!(heard[0].contains("scope=openid+offline_access"), "{heard:?}");

    // A reload asks nobody anything.
    browser.eval("location.reload()").await;
    browser.shows(".facts", "Primary nobody").await;
    assert_eq!(house.door.exchanges(), 1);

    browser.click("#sign-out").await;
    browser.shows("h1", "Sign in").await;
    assert_eq!(browser.eval("document.querySelector('#who').hidden").await, true);
    assert_eq!(browser.eval("sessionStorage.length").await, 0);
    browser.until("document.querySelector('.problem').innerText === ''").await;
    // The way back leads to no code.
    browser.eval("history.back()").await;
    browser
        .until(&format!("!location.href.startsWith({}) || location.search === ''", Value::from(house.app.url.as_str())))
        .await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    let house = House::new().await;
    let browser = Browser::start().await;
    for (back, said) in [
        (Back::CodeOfAnother, "not the answer to a sign-in that began in this tab"),
        (Back::CodeOfOtherIssuer, "not from the issuer that was asked"),
        (Back::CodeOfNobody, "not from the issuer that was asked"),
    ] {
        house.door.behave(|manners| manners.back = back);
        come_to_the_door(&browser, &format!("{}/", house.app.url)).await;
        browser.click(".leave").await;
        browser.shows(".problem", said).await;
        assert_eq!(browser.eval("location.search").await, "", "{back:?}");
        assert_eq!(browser.eval("sessionStorage.length").await, 0, "{back:?}");
    }
    // A link of somebody else's, in a tab that asked nothing: with a code of theirs, or a text.
    let code = house.code(CHALLENGE).await;
    for link in [
        format!("/?code={code}&state=x"),
        format!("/?code={code}"),
        format!("/?code={code}&state="),
        format!("/?code={code}&state=null"),
        "/?error=login&error_description=Call%20555-0100&state=x".to_owned(),
        "/?error_description=Call%20555-0100&state=".to_owned(),
        "//?code=x&state=y#//evil.example".to_owned(),
    ] {
        browser.go("about:blank").await;
        browser.go(&format!("{}{link}", house.app.url)).await;
        browser.shows(".problem", "not the answer to a sign-in that began in this tab").await;
        assert!(!browser.eval("document.body.innerText").await.to_string().contains("555-0100"), "{link}");
        assert_eq!(browser.eval("location.search").await, "", "{link}");
        assert_eq!(browser.eval("location.origin").await, house.app.url.as_str(), "{link}");
    }
    // Between the question and its answer as well: then neither counts.
    house.door.behave(|manners| manners.back = Back::Code);
    come_to_the_door(&browser, &format!("{}/", house.app.url)).await;
    browser.eval(HAVE_BEGUN).await;
    browser.go(&format!("{}/?code={code}&state=wrong", house.app.url)).await;
    browser.shows(".problem", "not the answer").await;
    assert_eq!(browser.eval("sessionStorage.length").await, 0);
    // Twice the right state is none, either.
    browser.eval(HAVE_BEGUN).await;
    browser.go(&format!("{}/?code={code}&state=right&state=wrong", house.app.url)).await;
    browser.shows(".problem", "not the answer").await;
    assert_eq!(house.door.exchanges(), 0);

    // Whoever is signed in stays who they are.
    come_to_the_door(&browser, &format!("{}/", house.app.url)).await;
    browser.click(".leave").await;
    browser.shows("h1", "All tenants").await;
    let before = browser.eval("sessionStorage.getItem('client-failover.authorization')").await;
    browser.go(&format!("{}/?code={code}&state=x", house.app.url)).await;
    browser.shows("h1", "All tenants").await;
    browser.shows("#connection", "Live").await;
    assert_eq!(browser.eval("sessionStorage.getItem('client-failover.authorization')").await, before);
    assert_eq!(house.door.exchanges(), 1);
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn what_an_issuer_says_when_it_refuses_is_shown_as_text_with_what_to_do() {
    let house = House::new().await;
    let browser = Browser::start().await;
    house.door.behave(|manners| {
        manners.back = Back::Error("access_denied", "<img src=x onerror=alert(1)> is not for you");
    });
    let wanted = format!("{}/#/n/t/n", house.app.url);
    come_to_the_door(&browser, &wanted).await;
    browser.click(".leave").await;
    browser.shows(".problem", "It says “access_denied: <img src=x onerror=alert(1)> is not for you”. Try again").await;
    assert_eq!(browser.eval("document.querySelectorAll('main img').length").await, 0);
    assert_eq!(browser.eval("document.querySelector('.problem').getAttribute('role')").await, "alert");
    assert_eq!(browser.eval("location.href").await, wanted.as_str());

    // The same again, and it is glad of them.
    house.door.behave(|manners| manners.back = Back::Code);
    browser.shows(".leave", "Sign in with").await;
    browser.click(".leave").await;
    browser.shows("h1", "t / n").await;
    assert_eq!(browser.eval("location.href").await, wanted.as_str());

    // A token that does not count here: the service says why.
    browser.click("#sign-out").await;
    house.door.behave(|manners| manners.claims["aud"] = "somebody-else".into());
    browser.shows(".leave", "Sign in with").await;
    browser.click(".leave").await;
    browser.shows(".problem", "for another audience").await;

    // It is there for the browser, and not for the service.
    house.door.behave(|manners| manners.claims["aud"] = AUDIENCE.into());
    house.door.behave(|manners| manners.is_failing = true);
    browser.shows(".leave", "Sign in with").await;
    browser.click(".leave").await;
    browser.shows(".problem", "You were not signed in. The issuer cannot be asked for a token").await;
    browser.shows(".problem", "Try again").await;
    house.door.behave(|manners| manners.is_failing = false);
    browser.shows(".leave", "Sign in with").await;
    browser.click(".leave").await;
    browser.shows("h1", "t / n").await;
}

/// Counts how often a door is shown.
const COUNT_DOORS: &str = "(() => {
    window.doors = 0;
    new MutationObserver(() => { window.doors += document.querySelectorAll('.door').length; })
        .observe(document.body, { childList: true, subtree: true });
})()";

/// What is kept of a token beside it.
const LIFE: &str = "JSON.parse(sessionStorage.getItem('client-failover.authorization-life'))";

/// As if the token had been given long ago.
const NEARLY_OVER: &str = "(() => {
    const life = JSON.parse(sessionStorage.getItem('client-failover.authorization-life'));
    const now = Date.now();
    sessionStorage.setItem('client-failover.authorization-life', JSON.stringify({...life, from: now - 600000, until: now + 60000}));
})()";

/// Another view is asked for with a token that does not count; `life` is what is kept of it.
fn with_a_bad_token(life: &str) -> String {
    format!(
        "(() => {{
            const life = JSON.parse(sessionStorage.getItem('client-failover.authorization-life'));
            sessionStorage.setItem('client-failover.authorization', 'Bearer bad');
            sessionStorage.setItem('client-failover.authorization-life', JSON.stringify({life}));
            location.hash = location.hash === '#/n/t/n' ? '#/g/t/n/pump' : '#/n/t/n';
        }})()"
    )
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_what_cannot_be_renewed_ends_at_the_door() {
    let house = House::new().await;
    let browser = Browser::start().await;
    let wanted = format!("{}/#/g/t/n/pump", house.app.url);
    come_to_the_door(&browser, &wanted).await;
    browser.click(".leave").await;
    browser.shows("#connection", "Live").await;
    let first = browser.eval("sessionStorage.getItem('client-failover.authorization')").await;
    browser.eval(COUNT_DOORS).await;
    browser.eval(NEARLY_OVER).await;
    browser.until(&format!("sessionStorage.getItem('client-failover.authorization') !== {first}")).await;
    browser.until(&format!("{LIFE}.until > Date.now() + 3000000")).await;
    assert_eq!(house.door.exchanges(), 2);
    // The stream goes on with the new one.
    browser.shows("#connection", "Live").await;
    house.open.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".facts", "Primary nobody").await;
    assert_eq!(browser.eval("window.doors").await, 0);

    // The tab slept past the end: the service refuses, and then it is renewed.
    browser.eval(&with_a_bad_token("{...life, until: Date.now() - 1}")).await;
    browser.until(&format!("{LIFE}.until > Date.now() + 3000000")).await;
    browser.shows("#connection", "Live").await;
    browser.shows("h1", "t / n").await;
    assert_eq!((house.door.exchanges(), browser.eval("window.doors").await), (3, 0.into()));

    // What the issuer does not renew ends: that is said before, and then at the door.
    house.door.withdraw();
    browser.eval(NEARLY_OVER).await;
    browser.shows("#who", "ends within a minute").await;
    browser.shows("#announcer", "Your sign-in ends").await;
    browser.until(&format!("{LIFE}.refreshToken === null")).await;
    browser.eval(&with_a_bad_token("{...life, until: Date.now() - 1}")).await;
    browser.shows(".problem", "Your sign-in has ended. Sign in again to go on.").await;
    assert_eq!(browser.eval("document.querySelector('#who').hidden").await, true);
    // And leads back to where they were.
    browser.shows(".leave", "Sign in with").await;
    browser.click(".leave").await;
    browser.shows(".facts", "Primary nobody").await;
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn whoever_may_see_one_tenant_is_not_refused_again_with_each_token() {
    let house = House::new().await;
    house.door.behave(|manners| manners.claims["tenant"] = "t".into());
    let browser = Browser::start().await;
    come_to_the_door(&browser, &format!("{}/#/g/t/n/pump", house.app.url)).await;
    browser.click(".leave").await;
    browser.shows("#connection", "Live").await;
    let refused = async || {
        let rows = house.app.database.rows("SELECT tenant_id FROM audit_log WHERE action = 'request_refused'").await;
        rows.into_iter().map(|row| row["tenant_id"].clone()).collect::<Vec<_>>()
    };
    // The stream of everything is tried once.
    eventually("it is noted", async || refused().await == ["*"]).await;
    browser.eval(NEARLY_OVER).await;
    browser.until(&format!("{LIFE}.until > Date.now() + 3000000")).await;
    browser.shows("#connection", "Live").await;
    house.open.delete("/pump/clientsessions/a").await.expect_ok();
    browser.shows(".facts", "Primary nobody").await;
    // What is refused later is noted later.
    let given = house.door.given();
    let token = given.iter().rfind(|given| given.contains('.')).expect("there is one");
    let elsewhere = format!("{}/api/v1/tenants/u/namespaces/n/clientfailover/groups", house.app.url);
    Answer::of(house.app.http.get(elsewhere).bearer_auth(token)).await.expect_error(403);
    eventually("it is noted", async || refused().await.contains(&"u".into())).await;
    assert_eq!(refused().await, ["*", "u"]);
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_door_that_cannot_lead_to_the_issuer_says_why_and_has_its_other_ways() {
    let away = House::with(Mood::Failing).await;
    let browser = Browser::start().await;
    browser.go(&away.app.url).await;
    browser.shows(".door", "The way to sign in with the issuer of tokens cannot be had now.").await;
    browser.shows(".door", "Try again").await;
    assert_eq!(browser.eval("document.activeElement.id").await, "secret");

    // As over plain HTTP, anywhere but on the machine itself.
    let without = json!({"source": "Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })"});
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", without).await;
    let house = House::new().await;
    browser.go(&house.app.url).await;
    browser.shows(".door", "open this page by https").await;
    assert_eq!(browser.eval("document.querySelectorAll('.leave').length").await, 0);
    assert_eq!(browser.eval("document.activeElement.id").await, "secret");
}

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn without_the_setting_the_door_is_as_before() {
    let (issuer, door) = TokenIssuer::of_people().await;
    let oidc = Some(issuer.options());
    let app = TestApp::start_with(|settings| {
        settings.auth = AuthOptions { oidc, api_keys: true, ..AuthOptions::default() };
    })
    .await;
    let browser = Browser::start().await;
    browser.go(&app.url).await;
    browser.shows("h1", "Sign in").await;
    browser.until("performance.getEntriesByType('resource').some((one) => one.name.endsWith('/page/sign-in') && one.responseEnd > 0)").await;
    assert_eq!(browser.eval("document.querySelectorAll('.leave').length").await, 0);
    assert_eq!(browser.eval("document.activeElement.id").await, "secret");
    let url = format!("{}/page/sign-in", app.url);
    assert_eq!(Answer::of(app.http.get(&url)).await.expect_ok(), json!({"OpenIdConnect": null}));
    let refused = Answer::of(app.http.post(&url).json(&json!({"RefreshToken": "r"}))).await;
    assert!(refused.expect_error(404).contains("no client of an issuer"));
    assert_eq!(door.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_code_counts_once_and_only_with_its_verifier_and_its_address() {
    let house = House::new().await;
    let offer = Answer::of(house.of_page(Method::GET)).await;
    assert_eq!(offer.header("cache-control"), "no-store");
    let wanted = json!({
        "Issuer": house.issuer.url, "NamesIssuer": true, "ClientId": PAGE, "Scope": "openid offline_access",
        "AuthorizationEndpoint": format!("{}/authorize?from=here", house.issuer.url),
    });
    assert_eq!(offer.expect_ok(), json!({"OpenIdConnect": wanted}));
    let home = format!("{}/", house.app.url);
    let code = house.code(CHALLENGE).await;
    let proof = json!({"Code": code, "Verifier": VERIFIER, "RedirectUri": home});
    let answer = house.exchange(proof.clone()).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = answer.expect_ok();
    assert_eq!(tokens["ExpiresInMs"], 3_600_000);
    let token = tokens["AccessToken"].as_str().expect("a token");
    let status = format!("{}/api/v1/clientfailover/status", house.app.url);
    Answer::of(house.app.http.get(&status).bearer_auth(token)).await.expect_ok();
    let twice = house.exchange(proof).await.expect_error(400);
    assert!(twice.contains("The issuer says 'invalid_grant: That is <b>not</b> good (any more).'"), "{twice}");
    for (verifier, redirect_uri) in [("x".repeat(43), home.clone()), (VERIFIER.to_owned(), format!("{home}x"))] {
        let code = house.code(CHALLENGE).await;
        house
            .exchange(json!({"Code": code, "Verifier": verifier, "RedirectUri": redirect_uri}))
            .await
            .expect_error(400);
    }
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_and_an_issuer_that_is_away_is_503() {
    let house = House::new().await;
    let code = house.code(CHALLENGE).await;
    let proof = json!({"Code": code, "Verifier": VERIFIER, "RedirectUri": format!("{}/", house.app.url)});
    let tokens = house.exchange(proof).await.expect_ok();
    let renewed = house.exchange(json!({"RefreshToken": tokens["RefreshToken"]})).await.expect_ok();
    assert_ne!(renewed["AccessToken"], tokens["AccessToken"]);
    for mood in [Mood::Failing, Mood::Babbling] {
        house.issuer.set_mood(mood);
        house.exchange(json!({"RefreshToken": renewed["RefreshToken"]})).await.expect_error(503);
    }
    house.issuer.set_mood(Mood::Good);
    house.exchange(json!({"RefreshToken": renewed["RefreshToken"]})).await.expect_ok();
}

#[tokio::test]
async fn the_exchange_is_for_the_page_alone_and_not_without_end() {
    let house = House::new().await;
    let ask = async |change: &dyn Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder| {
        Answer::of(change(house.of_page(Method::POST).json(&json!({"RefreshToken": "secret-r"})))).await
    };
    ask(&|request| request.header("Sec-Fetch-Site", "cross-site")).await.expect_error(403);
    ask(&|request| request.header(ORIGIN, "https://evil.example")).await.expect_error(403);
    let typed = house.of_page(Method::POST).header(CONTENT_TYPE, "text/plain").body(r#"{"RefreshToken": "r"}"#);
    Answer::of(typed).await.expect_error(415);
    for body in [
        json!({}),
        json!({"Code": "secret-c"}),
        json!({"Code": "secret-c", "Verifier": "secret-v", "RedirectUri": ""}),
        json!({"Code": ["secret-c"], "Verifier": "secret-v", "RedirectUri": "r"}),
        json!({"Code": "secret-c", "Verifier": "secret-v", "RedirectUri": "r", "RefreshToken": "secret-r"}),
        json!({"RefreshToken": "secret".repeat(4_000)}),
    ] {
        let refused = house.exchange(body.clone()).await.expect_error(400);
        assert!(!refused.contains("secret"), "{body}: {refused}");
    }
    assert_eq!(house.door.exchanges(), 0);
    Answer::of(house.of_page(Method::PUT)).await.expect_error(405);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        let status = house.exchange(json!({"RefreshToken": "r"})).await.status.as_u16();
        assert!(matches!(status, 400 | 429) && statuses.len() < 1_000, "{statuses:?}");
        statuses.push(status);
    }
    assert!(statuses.len() > 5, "{statuses:?}");
}

#[tokio::test]
async fn nothing_that_is_exchanged_gets_into_the_log() {
    let (issuer, door) = TokenIssuer::of_people().await;
    let database = TestDatabase::new().await;
    let log = new_dir().join("log");
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--auth", "oidc", "--oidc-audience", "client-failover"]);
    command.args(["--oidc-issuer", &issuer.url, "--oidc-page-client-id", PAGE, "--log", "debug,client_failover=trace"]);
    command.env("DATABASE_URL", database.url());
    command.stderr(Stdio::from(std::fs::File::create(&log).expect("it can be made")));
    let service = Running::start(command).await;
    let home = format!("{}/", service.url);
    door.register(home.clone());
    let code = code_for(&issuer.url, &home, CHALLENGE).await;
    let index = service.http.get(format!("{home}?code={code}&state=secret-state")).send().await.expect("it answers");
    // The page speaks to nobody but its own service, whatever the issuer is.
    let policy = index.headers()["content-security-policy"].to_str().expect("ASCII");
    assert!(policy.starts_with("default-src 'none';") && policy.contains("connect-src 'self';"), "{policy}");
    assert!(!policy.contains("127.0.0.1") && !policy.contains("http"), "{policy}");
    let path = "/page/sign-in";
    let proof = json!({"Code": code, "Verifier": VERIFIER, "RedirectUri": home});
    let (status, tokens) = service.ask(Method::POST, path, proof.clone()).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(service.ask(Method::POST, path, proof).await.0, 400);
    let refresh = json!({"RefreshToken": tokens["RefreshToken"]});
    issuer.set_mood(Mood::Failing);
    assert_eq!(service.ask(Method::POST, path, refresh.clone()).await.0, 503);
    issuer.set_mood(Mood::Good);
    assert_eq!(service.ask(Method::POST, path, refresh).await.0, 200);
    service.signal(nix::sys::signal::Signal::SIGTERM);
    service.end().await;
    let said = std::fs::read_to_string(&log).expect("it can be read");
    assert!(said.contains("the issuer cannot be asked for a token"), "{said}");
    for secret in door.given().iter().map(String::as_str).chain([VERIFIER, "secret-state"]) {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}
