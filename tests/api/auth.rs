//! Who gets in, and how far: every operation by every kind of identity in every place, and with
//! everything that is wrong with a credential.

mod changes;
mod tokens;
mod whoami;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use client_failover::access::{AuthOptions, unix_now};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::credentials::{Authority, Wanted, add_user, basic, create_key, https, new_dir, revoke_key};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, settings};
use crate::support::issuer::{AUDIENCE, Mood, SigningKey, TokenIssuer, token_by_hmac, unsigned_token};
use crate::support::program::{program, run};

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
    // And about a tenant as a whole, for those who may read all of it.
    let (_, namespace) =
        create_key(&house.database, "namespace", &["--tenant", "t", "--namespace", "n", "--role", "admin"]).await;
    let part = house.who("key", &format!("Bearer {namespace}"));
    for below in ["status", "namespaces", "transitions", "events"] {
        let path = |tenant: &str| format!("/api/v1/tenants/{tenant}/clientfailover/{below}");
        ask(&nobody, "GET", &path("t")).await.expect_error(401);
        ask(&part, "GET", &path("t")).await.expect_error(403);
        ask(&one, "GET", &path("u")).await.expect_error(403);
        if below != "events" {
            assert_eq!(ask(&one, "GET", &path("t")).await.status.as_u16(), 200, "{below}");
        }
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
