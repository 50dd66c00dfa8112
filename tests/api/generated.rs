//! Requests that nobody would write: whatever comes, it is never an error of the service's own, and
//! what is refused has the one error body.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client_failover::access::AuthOptions;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::credentials::{add_user, all_but_certificates, new_dir};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, settings};
use crate::support::issuer::{SigningKey, TokenIssuer};
use crate::support::wire::{Connection, GROUPS, Request};

/// One service for all the cases of a test, and a runtime that the cases can wait on.
struct Shared {
    runtime: Runtime,
    app: TestApp,
}

impl Shared {
    fn start() -> Shared {
        Shared::start_with(AuthOptions::open())
    }

    fn start_with(auth: AuthOptions) -> Shared {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        let app = runtime.block_on(async {
            let database = TestDatabase::new().await;
            let open = TestReplica::start(settings(database.connect_options())).await;
            open.group_of("g", 60_000, &["s"]).await;
            if auth.is_open() {
                return TestApp { replica: open, database };
            }
            let mut settings = settings(database.connect_options());
            settings.auth = auth;
            TestApp { replica: TestReplica::start(settings).await, database }
        });
        Shared { runtime, app }
    }

    /// A service with bearer tokens, passwords and keys on, and what its issuer makes.
    fn start_guarded() -> (Shared, TokenIssuer, SigningKey) {
        let key = SigningKey::ed();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        let issuer = runtime.block_on(TokenIssuer::start(vec![key.jwk("k")]));
        let users_file = new_dir().join("users.toml");
        runtime.block_on(add_user(&users_file, "adapter", "correct horse", &["--tenant", "t", "--role", "client"]));
        let auth = all_but_certificates(issuer.options(), users_file);
        (Shared::start_with(auth), issuer, key)
    }

    fn send(&self, request: &Request) -> Answer {
        self.runtime.block_on(request.send(&self.app))
    }

    /// Runs so many cases, and sees that the service still serves after them.
    fn run<S: Strategy>(&self, cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
        self.send(&Request::get("/health/live")).expect_ok();
    }
}

/// Success, or a refusal with the error body; its status.
fn check(answer: Answer) -> Result<u16, TestCaseError> {
    let status = answer.status.as_u16();
    prop_assert!(status == 200 || (400..500).contains(&status), "{:?}", answer);
    prop_assert_eq!(answer.header("content-type"), "application/json");
    prop_assert_eq!(answer.header("operation-id").len(), 32);
    if status != 200 {
        answer.expect_error(status);
    }
    Ok(status)
}

/// Bytes as a path may hold them: as they are, or percent-encoded.
fn path_segment() -> impl Strategy<Value = String> {
    let literals =
        ["api", "V1", "tenants", "Namespaces", "clientFailover", "groups", "clientsessions", "g", "s", "..", ""];
    prop_oneof![
        2 => select(literals.to_vec()).prop_map(str::to_owned),
        1 => "[!-~&&[^\"#<>?/\\\\^`{|}]]{0,12}",
        2 => vec(any::<u8>(), 0..8).prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect()),
        2 => "\\PC{0,6}".prop_map(|text| text.bytes().map(|byte| format!("%{byte:02X}")).collect()),
    ]
}

/// A path of any segments, or one of the service's own with any segments in place of the ids.
fn path() -> impl Strategy<Value = String> {
    let any_path = vec(path_segment(), 0..13).prop_map(|segments| format!("/{}", segments.join("/")));
    // There is the page, which is open to anybody and no JSON.
    let any_path = any_path.prop_filter("the page", |path| !path.trim_matches('/').is_empty());
    let own = (vec(path_segment(), 4), 0..4_usize).prop_map(|(ids, kind)| {
        let groups = format!("/api/v1/tenants/{}/namespaces/{}/clientfailover/groups", ids[0], ids[1]);
        match kind {
            0 => groups,
            1 => format!("{groups}/{}", ids[2]),
            2 => format!("{groups}/{}/clientsessions", ids[2]),
            _ => format!("{groups}/{}/clientsessions/{}", ids[2], ids[3]),
        }
    });
    let query = prop_oneof![
        3 => Just(String::new()),
        1 => (select(vec!["skip", "count", "force", "FORCE"]), path_segment())
            .prop_map(|(name, value)| format!("?{name}={value}")),
        1 => "[?][!-~&&[^\"#<>\\\\^`{|}]]{0,20}",
    ];
    (prop_oneof![any_path, own], query).prop_map(|(path, query)| path + &query)
}

/// The text of a JSON value, its numbers such as no parser's own type holds.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,30})([.][0-9]{1,35})?([eE][+-]?[0-9]{1,4})?",
        "-?[0-9]{1,3}([.][0-9]{1,4})?",
        any::<String>().prop_map(|text| json!(text).to_string()),
        "(\\PC|\\\\u00[0-9a-f]{2}|\\\\u[dD][89aAbBcC][0-9a-f]{2}){0,4}".prop_map(|text| format!("\"{text}\"")),
        "\"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.][0-9]{1,12})?(Z|[+-][01][0-9]:[0-5][0-9])?\"",
        "\"([0-9]{1,9}[.])?[0-2]?[0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{1,8})?)?\"",
        "[ -~]{0,10}",
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|values| format!("[{}]", values.join(","))),
            vec(("\\PC{0,5}", inner), 0..5).prop_map(object_text),
        ]
    })
}

fn object_text(properties: Vec<(String, String)>) -> String {
    let properties: Vec<String> = properties.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", properties.join(","))
}

/// An object with the properties that the service knows, and any values.
fn known_object() -> impl Strategy<Value = String> {
    let names = [
        "Id",
        "Name",
        "Description",
        "FailoverTimeout",
        "Milliseconds",
        "milliseconds",
        "PercentHealthyStreams",
        "HeartbeatTime",
        "LastDataSendTime",
        "Unknown",
    ];
    vec((select(names.to_vec()).prop_map(str::to_owned), json_text()), 0..5).prop_map(object_text)
}

/// What a header may hold.
fn header_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..60),
        "[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(String::into_bytes),
        "application/(json|[a-z+]{0,8}json)(; ?charset=[\"a-zA-Z0-9-]{0,8})?".prop_map(String::into_bytes),
        "[0-9 ,-]{0,3}".prop_map(String::into_bytes),
    ]
}

#[test]
fn whatever_path_and_method_is_asked_for_is_served_or_refused_in_order() {
    let shared = Shared::start();
    let method = select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X-ANY"]);
    shared.run(300, &(method, path(), "(\\{\\})?"), |(method, path, body)| {
        check(shared.send(&Request::new(method, path).body(body))).map(|_| ())
    });
}

#[test]
fn whatever_json_is_sent_is_taken_or_refused_in_order() {
    let shared = Shared::start();
    let body = prop_oneof![4 => known_object(), 1 => json_text(), 1 => any::<String>()];
    let target = select(vec![
        ("POST", String::new()),
        ("PUT", "/g".to_owned()),
        ("POST", "/g/clientsessions".to_owned()),
        ("POST", "/g/clientsessions/s".to_owned()),
    ]);
    shared.run(400, &(target, body), |((method, below), body)| {
        let status = check(shared.send(&Request::new(method, format!("{GROUPS}{below}")).json(body)))?;
        prop_assert!(matches!(status, 200 | 400 | 409), "{}", status);
        Ok(())
    });
    // What was taken can be shown.
    shared.send(&Request::get(format!("{GROUPS}/g"))).expect_ok();
}

#[test]
fn whatever_bytes_are_sent_as_a_body_are_taken_or_refused_in_order() {
    let shared = Shared::start();
    let around = (select(vec!["", "{\"Name\":\"", "{\"x\":"]), vec(any::<u8>(), 0..40), select(vec!["", "\"}", "}"]));
    shared.run(150, &around, |(before, bytes, after)| {
        let body = [before.as_bytes(), &bytes, after.as_bytes()].concat();
        let status = check(shared.send(&Request::put(format!("{GROUPS}/g"), body)))?;
        prop_assert!(matches!(status, 200 | 400), "{}", status);
        Ok(())
    });
}

#[test]
fn whatever_headers_are_sent_the_request_is_served_or_refused_in_order() {
    let shared = Shared::start();
    let name = select(vec![
        "Authorization",
        "traceparent",
        "Failover-Role",
        "Content-Type",
        "Content-Encoding",
        "Accept",
        "Cookie",
        "X-Any",
    ]);
    shared.run(200, &vec((name, header_value()), 0..4), |headers| {
        let beat = Request::new("POST", format!("{GROUPS}/g/clientsessions/s")).body("{}");
        let beat = headers.iter().fold(beat, |request, (name, value)| request.header(name, value));
        let status = check(shared.send(&beat))?;
        prop_assert!(matches!(status, 200 | 400 | 415), "{}", status);
        Ok(())
    });
}

#[test]
fn whatever_bytes_come_on_a_connection_it_is_answered_or_dropped() {
    let shared = Shared::start();
    let request = Request::put(format!("{GROUPS}/g"), "{}").to_bytes();
    let length = request.len();
    let changes = vec((0..length, any::<u8>()), 1..6);
    shared.run(150, &prop_oneof![changes, vec((0..length, Just(b'\n')), 1..4)], |changes| {
        let mut bytes = request.clone();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        let answer = shared.runtime.block_on(async {
            let mut connection = Connection::open(&shared.app).await;
            connection.write(&bytes).await;
            connection.close_writing_half().await;
            connection.try_read().await
        });
        if let Some(answer) = answer {
            prop_assert!(answer.status == 200 || answer.status.is_client_error(), "{:?}", answer);
        }
        Ok(())
    });
}

/// A header `Authorization`, from any bytes to one that is nearly right.
fn authorization() -> impl Strategy<Value = Vec<u8>> {
    let base64 = "[A-Za-z0-9+/_-]{0,60}={0,2}";
    let part = prop_oneof![
        base64.prop_map(|text: String| text),
        json_text().prop_map(|text| URL_SAFE_NO_PAD.encode(text)),
        header_json().prop_map(|text| URL_SAFE_NO_PAD.encode(text)),
    ];
    prop_oneof![
        2 => header_value(),
        2 => ("(?i:bearer|basic|digest)", " {0,3}", base64).prop_map(|(a, b, c)| format!("{a}{b}{c}").into_bytes()),
        2 => vec(any::<u8>(), 0..40).prop_map(|bytes| format!("Basic {}", STANDARD.encode(bytes)).into_bytes()),
        2 => "Bearer cfk_[A-Za-z0-9_-]{0,50}".prop_map(String::into_bytes),
        4 => vec(part, 0..5).prop_map(|parts| format!("Bearer {}", parts.join(".")).into_bytes()),
    ]
}

/// A token's header, or nearly.
fn header_json() -> impl Strategy<Value = String> {
    let algorithm = select(vec!["RS256", "ES256", "EdDSA", "none", "HS256", "RS512", "PS256", "ES384", ""]);
    let name = select(vec!["kid", "typ", "crit", "jwk", "x5c", "cty", "zip", "b64", "alg"]);
    (algorithm, vec((name.prop_map(str::to_owned), json_text()), 0..3)).prop_map(|(algorithm, mut more)| {
        more.push(("alg".to_owned(), json!(algorithm).to_string()));
        object_text(more)
    })
}

#[test]
fn whatever_is_sent_as_a_credential_nobody_is_let_in_and_nothing_breaks() {
    let (shared, _issuer, _key) = Shared::start_guarded();
    let path = prop_oneof![2 => Just(GROUPS.to_owned()), 1 => path()];
    shared.run(250, &(authorization(), path), |(value, path)| {
        let status = check(shared.send(&Request::get(path).header("Authorization", value)))?;
        prop_assert!(matches!(status, 400 | 401 | 429), "{}", status);
        Ok(())
    });
}

#[test]
fn whatever_claims_a_signed_token_has_they_are_read_or_refused_in_order() {
    let (shared, issuer, key) = Shared::start_guarded();
    let names = ["iss", "aud", "sub", "exp", "nbf", "iat", "tenant", "roles", "tenant", "roles"];
    let changes = vec((select(names.to_vec()), json_text()), 0..4);
    shared.run(200, &changes, |changes| {
        let mut claims = issuer.claims();
        for (name, text) in changes {
            claims[name] = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
        }
        let token = key.token(&json!({"alg": "EdDSA", "kid": "k"}), &claims);
        let status = check(shared.send(&Request::get(GROUPS).header("Authorization", format!("Bearer {token}"))))?;
        prop_assert!(matches!(status, 200 | 401 | 403), "{}", status);
        Ok(())
    });
}

/// Everything above at random for an hour, or for `FUZZ_MINUTES`.
#[test]
#[ignore = "long: FUZZ_MINUTES=60 cargo test --test suite -- --ignored --nocapture generated::fuzz"]
fn fuzz() {
    let (shared, issuer, key) = Shared::start_guarded();
    let minutes = std::env::var("FUZZ_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(60.0);
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let good = format!("Bearer {}", key.token(&json!({"alg": "EdDSA", "kid": "k"}), &issuer.claims()));
    let credential = prop_oneof![3 => Just(good.into_bytes()), 1 => authorization()];
    let method = select(vec!["GET", "POST", "PUT", "DELETE", "PATCH"]);
    let own =
        select(vec!["", "/g", "/g/clientsessions", "/g/clientsessions/s"]).prop_map(|below| format!("{GROUPS}{below}"));
    let target = prop_oneof![3 => own, 1 => path()];
    let body = prop_oneof![4 => known_object(), 1 => json_text(), 1 => any::<String>()];
    let header = (select(vec!["Failover-Role", "traceparent", "Content-Type", "X-Any"]), header_value());
    let strategy = (method, target, body, credential, vec(header, 0..2));
    let (count, refused) = (std::cell::Cell::new(0_u64), std::cell::Cell::new(0_u64));
    let began = Instant::now();
    while Instant::now() < until {
        shared.run(500, &strategy, |(method, target, body, credential, headers)| {
            let request = Request::new(method, target).json(body).header("Authorization", credential);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let status = check(shared.send(&request))?;
            count.set(count.get() + 1);
            refused.set(refused.get() + u64::from(status != 200));
            Ok(())
        });
    }
    println!("fuzz: {} requests in {:?}, {} refused, no panic and no 5xx", count.get(), began.elapsed(), refused.get());
}

#[test]
fn any_timeout_within_bounds_comes_back_to_the_tick() {
    let shared = Shared::start();
    shared.run(40, &(1_000_000_i64..=864_000_000_000), |ticks| {
        let (seconds, fraction) = (ticks / 10_000_000, ticks % 10_000_000);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        let span = format!("{days}.{hours:02}:{minutes:02}:{:02}.{fraction:07}", seconds % 60);
        let milliseconds = format!("{}.{:04}", ticks / 10_000, ticks % 10_000);
        let put = |body: String| shared.send(&Request::put(format!("{GROUPS}/g"), body)).expect_ok();
        let get = || shared.send(&Request::get(format!("{GROUPS}/g"))).expect_ok();

        put(format!(r#"{{"FailoverTimeout":"{span}"}}"#));
        let by_span = get();
        let clock = span.strip_prefix("0.").unwrap_or(&span);
        prop_assert_eq!(&by_span["FailoverTimeout"], clock.strip_suffix(".0000000").unwrap_or(clock));
        put(format!(r#"{{"Milliseconds":{milliseconds}}}"#));
        prop_assert_eq!(&get(), &by_span);
        put(by_span.to_string());
        prop_assert_eq!(get(), by_span);
        Ok(())
    });
}
