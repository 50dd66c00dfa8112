//! Who gets in, and how far: every operation by every kind of identity in every place, and with
//! everything that is wrong with a credential.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use client_failover::access::{AuthOptions, unix_now};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::credentials::{
    Authority, Wanted, add_user, basic, create_key, https, new_dir, output_of, program, revoke_key,
};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::issuer::{AUDIENCE, Mood, SigningKey, TokenIssuer, token_by_hmac, unsigned_token};

/// How many requests of the matrix are under way at once.
const AT_ONCE: usize = 8;

const PASSWORD: &str = "correct horse";

/// An operation, what its path is below `groups`, and its body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    List,
    CreateGroup,
    GetGroup,
    PutSame,
    PutNew,
    PutChange,
    DeleteGroup,
    ForceDelete,
    Register,
    Heartbeat,
    DeleteSession,
    ShowMetrics,
    ListKeys,
    CreateKey,
    RevokeKey,
}

use Operation::*;

const OPERATIONS: [Operation; 15] = [
    List,
    CreateGroup,
    GetGroup,
    PutSame,
    PutNew,
    PutChange,
    DeleteGroup,
    ForceDelete,
    Register,
    Heartbeat,
    DeleteSession,
    ShowMetrics,
    ListKeys,
    CreateKey,
    RevokeKey,
];

impl Operation {
    fn request(self, group: &str) -> (Method, String, Option<Value>) {
        let same = json!({"Milliseconds": 60_000});
        match self {
            List => (Method::GET, String::new(), None),
            CreateGroup => (Method::POST, String::new(), Some(json!({"Id": format!("{group}-new")}))),
            GetGroup => (Method::GET, format!("/{group}"), None),
            PutSame => (Method::PUT, format!("/{group}"), Some(same)),
            PutNew => (Method::PUT, format!("/{group}-new"), Some(same)),
            PutChange => (Method::PUT, format!("/{group}"), Some(json!({"Milliseconds": 50_000}))),
            DeleteGroup => (Method::DELETE, format!("/{group}"), None),
            ForceDelete => (Method::DELETE, format!("/{group}?force=true"), None),
            Register => (Method::POST, format!("/{group}/clientsessions"), Some(json!({"Id": "new"}))),
            Heartbeat => {
                (Method::POST, format!("/{group}/clientsessions/s"), Some(json!({"PercentHealthyStreams": 50})))
            }
            DeleteSession => (Method::DELETE, format!("/{group}/clientsessions/s"), None),
            ShowMetrics | ListKeys => (Method::GET, String::new(), None),
            CreateKey => (Method::POST, String::new(), Some(json!({"Name": group, "Role": "viewer"}))),
            RevokeKey => (Method::DELETE, String::new(), None),
        }
    }

    fn url(self, replica: &TestReplica, place: (&str, &str), below: &str) -> String {
        match self {
            ShowMetrics => format!("{}/metrics", replica.url),
            ListKeys | CreateKey => keys_url(replica, place.0, ""),
            // Of a number that no key has.
            RevokeKey => keys_url(replica, place.0, "/999999"),
            _ => url_of(replica, place, below),
        }
    }

    /// What the role gets, where it has been granted. Written down here by hand, and not taken from
    /// the code.
    fn status_for(self, role: &str) -> u16 {
        match (role, self) {
            (_, ShowMetrics) => 403,
            ("admin", RevokeKey) => 404,
            ("admin", _) => 200,
            (_, ListKeys | CreateKey | RevokeKey) => 403,
            ("viewer", List | GetGroup) => 200,
            ("viewer", _) => 403,
            (_, PutChange | DeleteGroup | ForceDelete) => 403,
            _ => 200,
        }
    }
}

/// A way to say who one is.
#[derive(Clone)]
struct Who {
    label: String,
    client: Client,
}

impl Who {
    fn new(label: impl Into<String>, authority: &Authority, authorization: Option<&str>) -> Who {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert("authorization", HeaderValue::from_str(value).expect("a header's value"));
        }
        let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one");
        let client = Client::builder().tls_certs_only([root]).default_headers(headers).build().expect("a client");
        Who { label: label.into(), client }
    }
}

/// A service with every way in on, over TLS, and a door at the back to set up and to look.
struct House {
    front: TestReplica,
    back: TestReplica,
    database: TestDatabase,
    issuer: TokenIssuer,
    keys: [SigningKey; 3],
    authority: Authority,
    users_file: std::path::PathBuf,
}

impl House {
    async fn open() -> House {
        let database = TestDatabase::new().await;
        let keys = [SigningKey::rsa(), SigningKey::ec(), SigningKey::ed()];
        let issuer =
            TokenIssuer::start(std::iter::zip(&keys, ["r", "e", "d"]).map(|(key, id)| key.jwk(id)).collect()).await;
        let authority = Authority::new();
        let dir = new_dir();
        let mut tls = authority.server((-1, 90)).write(&dir);
        let client_ca = dir.join("clients.crt");
        std::fs::write(&client_ca, authority.pem()).expect("it can be written");
        tls.client_ca = Some(client_ca);
        let users_file = dir.join("users.toml");
        let mut subjects = String::new();
        for (role, limited, grants) in grants() {
            let name = format!("{role}-{limited}");
            add_user(&users_file, &name, PASSWORD, &grants).await;
            let namespaces = if limited { ", namespaces = [\"n\"]" } else { "" };
            let grant = format!("{{ tenant = \"t\", role = \"{role}\"{namespaces} }}");
            write!(subjects, "[subjects.\"cn:{name}\"]\ngrants = [{grant}]\n").expect("it is text");
        }
        add_user(&users_file, "metrics-false", PASSWORD, &["--role", "metrics"]).await;
        subjects += "[subjects.\"cn:metrics-false\"]\ngrants = [{ tenant = \"*\", role = \"metrics\" }]\n";
        let subjects_file = dir.join("subjects.toml");
        std::fs::write(&subjects_file, subjects).expect("it can be written");
        let mut settings = settings(database.connect_options());
        let back = TestReplica::start(settings.clone()).await;
        let mut oidc = issuer.options();
        oidc.namespaces_claim = Some("namespaces".to_owned());
        settings.auth = AuthOptions {
            oidc: Some(oidc),
            users_file: Some(users_file.clone()),
            api_keys: true,
            subjects_file: Some(subjects_file),
            clients_create_groups: true,
            rate_limit: None,
            caller_writes: None,
            tenant_writes: None,
        };
        settings.tls = Some(tls);
        let front = TestReplica::start(settings).await;
        House { front, back, database, issuer, keys, authority, users_file }
    }

    fn who(&self, label: impl Into<String>, authorization: &str) -> Who {
        Who::new(label, &self.authority, Some(authorization))
    }

    /// A token of the RSA key with these claims changed.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.issuer.claims();
        claims["namespaces"] = json!(["n"]);
        change(&mut claims);
        self.keys[0].token(&json!({"alg": "RS256", "kid": "r"}), &claims)
    }

    /// Every kind of identity with that role.
    async fn identities(&self, role: &str, limited: bool, grants: &[&str]) -> Vec<Who> {
        let name = format!("{role}-{limited}");
        let mut all = Vec::new();
        for (key, kid) in std::iter::zip(&self.keys, ["r", "e", "d"]) {
            let mut claims = self.issuer.claims();
            claims["roles"] = json!([role, "something-else"]);
            claims["namespaces"] = if limited { json!(["n"]) } else { json!(["n", "m"]) };
            if role == "metrics" {
                claims["tenant"] = json!("*");
            }
            let token = key.token(&json!({"alg": key.algorithm(), "kid": kid, "typ": "JWT"}), &claims);
            all.push(self.who(format!("{} {name}", key.algorithm()), &format!("Bearer {token}")));
        }
        all.push(self.who(format!("basic {name}"), &basic(&name, PASSWORD)));
        let (_, key) = create_key(&self.database, &name, grants).await;
        all.push(self.who(format!("api key {name}"), &format!("bearer {key}")));
        let wanted = Wanted { common_name: &name, alternative_names: &["client.example"], days: (-1, 1) };
        let identity = self.authority.make(&wanted).identity();
        all.push(Who { label: format!("certificate {name}"), client: https(&self.authority, Some(identity)) });
        all
    }

    async fn ask(&self, who: &Who, operation: Operation, place: (&str, &str), group: &str) -> Answer {
        let (method, below, body) = operation.request(group);
        let url = operation.url(&self.front, place, &below);
        let mut request = who.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request).await
    }

    /// Makes a group with a session, without asking anybody.
    async fn set_up(&self, place: (&str, &str), group: &str) {
        let post = async |below: String, body: Value| {
            Answer::of(self.back.http.post(url_of(&self.back, place, &below)).json(&body)).await.expect_ok()
        };
        post(String::new(), json!({"Id": group, "Milliseconds": 60_000})).await;
        post(format!("/{group}/clientsessions"), json!({"Id": "s"})).await;
    }

    async fn look(&self, place: (&str, &str)) -> String {
        Answer::of(self.back.http.get(url_of(&self.back, place, ""))).await.text
    }
}

fn keys_url(replica: &TestReplica, tenant: &str, below: &str) -> String {
    format!("{}/api/v1/tenants/{tenant}/clientfailover/keys{below}", replica.url)
}

fn url_of(replica: &TestReplica, (tenant, namespace): (&str, &str), below: &str) -> String {
    format!("{}/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups{below}", replica.url)
}

/// Role, whether it is granted in namespace `n` alone, and the arguments that say so.
fn grants() -> Vec<(&'static str, bool, Vec<&'static str>)> {
    let mut all = Vec::new();
    for role in ["viewer", "client", "admin"] {
        all.push((role, true, vec!["--tenant", "t", "--role", role, "--namespace", "n"]));
        all.push((role, false, vec!["--tenant", "t", "--role", role]));
    }
    all
}

/// The body of an error without what differs from one request to the next.
fn without_operation_id(mut body: Value) -> Value {
    body["OperationId"] = Value::Null;
    body
}

#[tokio::test]
async fn every_operation_by_every_kind_of_identity_in_every_place() {
    let house = House::open().await;
    let places = [("t", "n"), ("t", "m"), ("u", "n"), ("u", "m")];
    for place in places {
        house.set_up(place, "standing").await;
    }
    let mut cases = Vec::new();
    for (role, limited, arguments) in grants() {
        for who in house.identities(role, limited, &arguments).await {
            for place in places {
                for operation in OPERATIONS {
                    let granted = place.0 == "t" && (place.1 == "n" || !limited);
                    let is_of_tenant = matches!(operation, ListKeys | CreateKey | RevokeKey);
                    // Tokens here name their namespaces, and so are never good for a tenant as a
                    // whole.
                    let is_limited = limited || !who.label.starts_with(char::is_lowercase);
                    let expected = match (granted, is_of_tenant, place.0) {
                        (_, true, "t") if !is_limited => operation.status_for(role),
                        (_, true, _) | (false, ..) => 403,
                        (true, ..) => operation.status_for(role),
                    };
                    cases.push((who.clone(), place, operation, expected, granted));
                }
            }
        }
    }
    for who in house.identities("metrics", false, &["--role", "metrics"]).await {
        // A token's role is for all tenants where it names no namespaces; these do.
        let is_for_all = who.label.starts_with(char::is_lowercase);
        for place in places {
            for operation in OPERATIONS {
                let expected = if operation == ShowMetrics && is_for_all { 200 } else { 403 };
                cases.push((who.clone(), place, operation, expected, false));
            }
        }
    }
    let total = cases.len();
    let before = [house.look(places[2]).await, house.look(places[3]).await];
    let house = &house;
    let run = stream::iter(cases.into_iter().enumerate()).for_each_concurrent(AT_ONCE, async |(n, case)| {
        let (who, place, operation, expected, granted) = case;
        let group = if granted { format!("g{n}") } else { "standing".to_owned() };
        if granted {
            house.set_up(place, &group).await;
        }
        let answer = house.ask(&who, operation, place, &group).await;
        let what = format!("{} {operation:?} in {place:?}", who.label);
        assert_eq!(answer.status.as_u16(), expected, "{what}: {}", answer.body);
        if expected == 403 {
            answer.expect_error(403);
            // What is there and what is not are refused in the same words.
            if !granted {
                let [there, nowhere] =
                    [house.ask(&who, operation, place, "standing"), house.ask(&who, operation, place, "nowhere")];
                let (there, nowhere) = futures_util::future::join(there, nowhere).await;
                assert_eq!(without_operation_id(there.body), without_operation_id(nowhere.body), "{what}");
            }
        }
    });
    run.await;
    assert_eq!([house.look(places[2]).await, house.look(places[3]).await], before);
    println!(
        "matrix: {total} cases of a good identity: {} operations × {} identities × {} places",
        OPERATIONS.len(),
        total / OPERATIONS.len() / places.len(),
        places.len()
    );
    assert_eq!(total, 15 * (36 + 6) * 4);
}

#[tokio::test]
async fn every_operation_with_everything_that_is_wrong_with_a_credential() {
    let house = House::open().await;
    house.set_up(("t", "n"), "standing").await;
    let now = unix_now();
    let header = json!({"alg": "RS256", "kid": "r"});
    let claims = house.issuer.claims();
    let stranger = SigningKey::rsa();
    let tampered = |part: usize| {
        let token = house.token(|_| {});
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let middle = parts[part].len() / 2;
        let other = if parts[part].as_bytes()[middle] == b'A' { "B" } else { "A" };
        parts[part].replace_range(middle..=middle, other);
        parts.join(".")
    };
    let bad_tokens: Vec<(&str, String)> = vec![
        ("expired", house.token(|claims| claims["exp"] = json!(now - 60))),
        ("not yet valid", house.token(|claims| claims["nbf"] = json!(now + 60))),
        ("no expiry", house.token(|claims| claims["exp"] = Value::Null)),
        ("expiry that is no number", house.token(|claims| claims["exp"] = json!("tomorrow"))),
        ("wrong issuer", house.token(|claims| claims["iss"] = json!("https://elsewhere.example"))),
        (
            "several issuers",
            house.token(|claims| claims["iss"] = json!([house.issuer.url, "https://elsewhere.example"])),
        ),
        ("no issuer", house.token(|claims| claims["iss"] = Value::Null)),
        ("wrong audience", house.token(|claims| claims["aud"] = json!("another-service"))),
        ("wrong audiences", house.token(|claims| claims["aud"] = json!(["another-service", "a-third"]))),
        ("no audience", house.token(|claims| claims["aud"] = Value::Null)),
        ("no subject", house.token(|claims| claims["sub"] = Value::Null)),
        ("algorithm none", unsigned_token(&json!({"alg": "none", "kid": "r"}), &claims)),
        ("algorithm none in capitals", unsigned_token(&json!({"alg": "NONE"}), &claims)),
        ("no signature", unsigned_token(&header, &claims)),
        (
            "HS256 with the public key",
            token_by_hmac(&house.keys[0].public(), &json!({"alg": "HS256", "kid": "r"}), &claims),
        ),
        (
            "HS256 with the public key's modulus",
            token_by_hmac(&house.keys[0].public()[9..265], &json!({"alg": "HS256"}), &claims),
        ),
        ("HS256 said to be RS256", token_by_hmac(&house.keys[0].public(), &header, &claims)),
        (
            "HS256 said to be EdDSA",
            token_by_hmac(&house.keys[2].public(), &json!({"alg": "EdDSA", "kid": "d"}), &claims),
        ),
        ("an algorithm that is not pinned", house.keys[0].token(&json!({"alg": "RS512", "kid": "r"}), &claims)),
        (
            "a token for logging out",
            house.keys[0].token(&json!({"alg": "RS256", "kid": "r", "typ": "logout+jwt"}), &claims),
        ),
        ("an id token", house.token(|claims| claims["at_hash"] = json!("x"))),
        ("a refresh token of Keycloak's", house.token(|claims| claims["typ"] = json!("Refresh"))),
        ("an algorithm that nobody knows", house.keys[0].token(&json!({"alg": "XX1", "kid": "r"}), &claims)),
        ("another algorithm than the key's", house.keys[0].token(&json!({"alg": "ES256", "kid": "r"}), &claims)),
        ("unknown kid", house.keys[0].token(&json!({"alg": "RS256", "kid": "x"}), &claims)),
        ("a stranger's key", stranger.token(&header, &claims)),
        ("a stranger's key in the header", stranger.token(&json!({"alg": "RS256", "jwk": stranger.jwk("r")}), &claims)),
        (
            "a critical header",
            house.keys[0].token(&json!({"alg": "RS256", "kid": "r", "crit": ["b64"], "b64": false}), &claims),
        ),
        ("tampered header", tampered(0)),
        ("tampered payload", tampered(1)),
        ("tampered signature", tampered(2)),
        ("two parts", "e30.e30".to_owned()),
        ("no JWT", "swordfish".to_owned()),
    ];
    let (revoked_id, revoked) = create_key(&house.database, "revoked", &["--tenant", "t", "--role", "admin"]).await;
    let (_, expired) =
        create_key(&house.database, "expired", &["--tenant", "t", "--role", "admin", "--expires-in", "1h"]).await;
    house.database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE name = 'expired'").await;
    revoke_key(&house.database, revoked_id).await;
    let mut others: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("scheme alone", "Bearer".to_owned()),
        ("empty token", "Bearer ".to_owned()),
        ("unknown scheme", "Digest username=\"admin-true\"".to_owned()),
        ("negotiate", "Negotiate abc".to_owned()),
        ("wrong password", basic("admin-false", "wrong")),
        ("unknown user", basic("nobody", PASSWORD)),
        ("a user's hash as the password", basic("admin-false", "$argon2id$v=19$m=19456,t=2,p=1")),
        ("empty password", basic("admin-false", "")),
        ("no colon", "Basic YWRtaW4=".to_owned()),
        ("no base64", "Basic !!!".to_owned()),
        ("revoked key", format!("Bearer {revoked}")),
        ("expired key", format!("Bearer {expired}")),
        ("unknown key", "Bearer cfk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("key's prefix", "Bearer cfk_".to_owned()),
        ("a key by the wrong scheme", format!("Basic {expired}")),
    ];
    others.extend(bad_tokens.into_iter().map(|(label, token)| (label, format!("Bearer {token}"))));
    let mut whos: Vec<Who> = others.iter().map(|(label, value)| house.who(*label, value)).collect();
    whos.push(Who::new("no credentials", &house.authority, None));
    let unknown = Wanted { common_name: "stranger", alternative_names: &["stranger.example"], days: (-1, 1) };
    let identity = house.authority.make(&unknown).identity();
    whos.push(Who {
        label: "certificate of an unknown subject".to_owned(),
        client: https(&house.authority, Some(identity)),
    });

    let before = house.look(("t", "n")).await;
    let house = &house;
    let cases: Vec<(&Who, Operation)> =
        whos.iter().flat_map(|who| OPERATIONS.map(|operation| (who, operation))).collect();
    stream::iter(&cases)
        .for_each_concurrent(AT_ONCE, async |(who, operation)| {
            let answer = house.ask(who, *operation, ("t", "n"), "standing").await;
            let what = format!("{} {operation:?}", who.label);
            assert_eq!(answer.status.as_u16(), 401, "{what}: {}", answer.body);
            let challenge = answer.header("www-authenticate").to_owned();
            assert!(challenge.contains("Bearer realm=") && challenge.contains("Basic realm="), "{what}: {challenge}");
            let reason = answer.expect_error(401);
            assert!(!reason.contains("swordfish") && !reason.contains("cfk_") && !reason.contains("eyJ"), "{reason}");
        })
        .await;
    assert_eq!(house.look(("t", "n")).await, before);
    println!(
        "matrix: {} cases of a bad credential: {} operations × {} credentials",
        cases.len(),
        OPERATIONS.len(),
        whos.len()
    );
    assert_eq!(cases.len(), 15 * 51);
}

#[tokio::test]
async fn outside_of_a_tenant_nothing_is_told_to_those_who_are_not_known_everywhere() {
    let house = House::open().await;
    let (_, everywhere) = create_key(&house.database, "all", &["--tenant", "*", "--role", "viewer"]).await;
    let (_, one_tenant) = create_key(&house.database, "one", &["--tenant", "t", "--role", "admin"]).await;
    let ask = async |who: &Who, method: &str, path: &str| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Answer::of(who.client.request(method, format!("{}{path}", house.front.url))).await
    };
    let nobody = Who::new("nobody", &house.authority, None);
    let [all, one] = [everywhere, one_tenant].map(|key| house.who("key", &format!("Bearer {key}")));
    let elsewhere = [
        "/page",
        "/page/main.js/more",
        "/api",
        "/api/v1/tenants",
        "/api/v1/tenants/t",
        "/api/v1/tenants/%FF/namespaces/n/x",
        "/health",
        "/health/else",
    ];
    for path in elsewhere {
        ask(&nobody, "GET", path).await.expect_error(401);
        ask(&one, "GET", path).await.expect_error(403);
        ask(&all, "GET", path).await.expect_error(404);
        ask(&all, "POST", path).await.expect_error(403);
    }
    // What is told about all tenants is for those who may read all of them.
    for path in ["/metrics", "/api/v1/clientfailover/status", "/api/v1/clientfailover/namespaces"] {
        ask(&nobody, "GET", path).await.expect_error(401);
        ask(&one, "GET", path).await.expect_error(403);
        assert_eq!(ask(&all, "GET", path).await.status.as_u16(), 200, "{path}");
    }
    // And what is told about a namespace, for those who may read it.
    for below in ["status", "groups/g/transitions"] {
        let path = |tenant: &str| format!("/api/v1/tenants/{tenant}/namespaces/n/clientfailover/{below}");
        ask(&nobody, "GET", &path("t")).await.expect_error(401);
        ask(&one, "GET", &path("u")).await.expect_error(403);
        let allowed = ask(&one, "GET", &path("t")).await.status.as_u16();
        assert!(matches!(allowed, 200 | 404), "{below}: {allowed}");
    }
    let groups = "/api/v1/tenants/t/namespaces/n/clientfailover/groups";
    for method in ["PATCH", "OPTIONS", "TRACE"] {
        ask(&nobody, method, groups).await.expect_error(401);
        ask(&one, method, groups).await.expect_error(405);
        ask(&one, method, &groups.replace("/t/", "/u/")).await.expect_error(403);
    }
    for path in ["/health/live", "/health/ready", "/Health/Live/"] {
        let status = ask(&nobody, "GET", path).await.status.as_u16();
        assert_eq!(status, if path == "/Health/Live/" { 401 } else { 200 }, "{path}");
    }
    // A path that is written in another way is the same path.
    for path in [
        "/API/V1/Tenants/u/Namespaces/n/ClientFailover/Groups/",
        "/api/v1/tenants/%75/namespaces/n/clientfailover/groups",
    ] {
        ask(&one, "GET", path).await.expect_error(403);
    }
    ask(&one, "GET", "/api/v1/tenants/%74/namespaces/n/clientfailover/groups").await.expect_ok();
    // A tenant whose name is the sign for all of them is a tenant like any other.
    ask(&one, "GET", "/api/v1/tenants/*/namespaces/n/clientfailover/groups").await.expect_error(403);
}

/// A service with bearer tokens alone, and its issuer.
async fn with_issuer(key: &SigningKey) -> (TestApp, TokenIssuer) {
    let issuer = TokenIssuer::start(vec![key.jwk("first")]).await;
    let options = AuthOptions { oidc: Some(issuer.options()), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| settings.auth = options).await;
    (app, issuer)
}

async fn list_with(app: &TestReplica, token: &str) -> Answer {
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
    let list = output_of(list, "").await;
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
        (
            vec![
                "--auth",
                "oidc",
                "--oidc-issuer",
                "https://i.example",
                "--oidc-audience",
                "x",
                "--oidc-algorithms",
                "HS256",
            ],
            "HS256",
        ),
        (
            vec![
                "--auth",
                "oidc",
                "--oidc-issuer",
                "https://i.example",
                "--oidc-audience",
                "x",
                "--oidc-algorithms",
                "none",
            ],
            "none",
        ),
        (
            vec![
                "--auth",
                "oidc",
                "--oidc-issuer",
                "https://i.example",
                "--oidc-audience",
                "x",
                "--oidc-roles",
                "a=king",
            ],
            "a=king",
        ),
        (
            vec![
                "--auth",
                "oidc",
                "--oidc-issuer",
                "https://i.example",
                "--oidc-audience",
                "x",
                "--oidc-tenant-claim",
                "",
            ],
            "oidc-tenant-claim",
        ),
        (
            vec![
                "--auth",
                "oidc",
                "--oidc-issuer",
                "https://i.example",
                "--oidc-audience",
                "x",
                "--oidc-keys",
                &absent,
            ],
            "absent",
        ),
        (
            vec!["--auth", "oidc", "--oidc-issuer", "https://i.example", "--oidc-audience", "x", "--oidc-keys", &empty],
            "Key Set",
        ),
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
