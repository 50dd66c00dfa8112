//! What is refused, with an answer that names what is wrong, and with nothing changed by it.

use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp};
use crate::support::wire::{Connection, GROUPS, Request};

/// A service with one group `g` that holds one session `s`, which has sent a heartbeat.
struct InUse {
    app: TestApp,
    shown: String,
}

impl InUse {
    async fn start() -> InUse {
        let app = TestApp::start().await;
        app.put("/g", json!({"Name": "N", "Description": "D", "Milliseconds": 30_000})).await.expect_ok();
        app.post("/g/clientsessions", json!({"Id": "s", "Name": "S"})).await.expect_ok();
        app.heartbeat("g", "s", json!({"PercentHealthyStreams": 50})).await.expect_ok();
        let shown = app.get("").await.text;
        InUse { app, shown }
    }

    async fn expect_unchanged(&self) {
        assert_eq!(self.app.get("").await.text, self.shown);
    }

    /// The answer to this body in each place where a GroupConfiguration is taken.
    async fn configure(&self, body: &str) -> [Answer; 2] {
        let put = Request::put(format!("{GROUPS}/g"), body).send(&self.app).await;
        [put, Request::post(GROUPS, body).send(&self.app).await]
    }

    async fn register(&self, body: &str) -> Answer {
        Request::post(format!("{GROUPS}/g/clientsessions"), body).send(&self.app).await
    }

    async fn beat(&self, body: &str) -> Answer {
        Request::post(format!("{GROUPS}/g/clientsessions/s"), body).send(&self.app).await
    }
}

#[track_caller]
fn expect_named(answer: Answer, property: &str, sent: &str) {
    let reason = answer.expect_error(400);
    assert!(reason.contains(property), "{sent}: {property} is not in: {reason}");
}

#[tokio::test]
async fn a_property_of_the_wrong_type_is_named() {
    let service = InUse::start().await;
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    let no_string =
        ["5", "-1.5e3", "true", "false", "[]", r#"["a"]"#, r#"{"a":1}"#, r#""\ud800""#, r#""\udc00\ud800""#, &deep];
    let no_number = [r#""5""#, r#""""#, "true", "[]", "[5]", "{}", r#""NaN""#, r#""\u0035""#, &deep];
    for (names, wrong) in
        [(&["Id", "Name", "Description", "FailoverTimeout"][..], &no_string[..]), (&["Milliseconds"], &no_number)]
    {
        for (name, wrong) in names.iter().flat_map(|name| wrong.iter().map(move |wrong| (name, wrong))) {
            for written in [name.to_string(), name.to_lowercase()] {
                let body = format!(r#"{{"{written}":{wrong}}}"#);
                for answer in service.configure(&body).await {
                    expect_named(answer, name, &body);
                }
            }
        }
    }
    for (name, wrong) in ["Id", "Name"].iter().flat_map(|name| no_string.iter().map(move |wrong| (name, wrong))) {
        let body = format!(r#"{{"{name}":{wrong}}}"#);
        expect_named(service.register(&body).await, name, &body);
    }
    for wrong in no_number {
        let body = format!(r#"{{"PercentHealthyStreams":{wrong}}}"#);
        expect_named(service.beat(&body).await, "PercentHealthyStreams", &body);
    }
    for name in ["HeartbeatTime", "LastDataSendTime"] {
        for wrong in no_string {
            let body = format!(r#"{{"{name}":{wrong}}}"#);
            expect_named(service.beat(&body).await, name, &body);
        }
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_timeout_that_is_none_or_out_of_bounds_is_named() {
    let service = InUse::start().await;
    for span in [
        "",
        "60",
        "1:2",
        "1:2:3",
        "24:00:00",
        "00:60:00",
        "00:00:60",
        "-00:01:00",
        "+00:01:00",
        "00:01:00.",
        "00:01:00.12345678",
        " 00:01:00",
        "00:01:00 ",
        "1.2.00:00:00",
        "00:01:00:00",
        "PT1M",
        "1 min",
        "000:01:00",
        "00:00:00.0999999",
        "00:00:00.0000001",
        "1.00:00:00.0000001",
        "1.00:00:01",
        "2.00:00:00",
        "10675198.23:59:59",
        "10675199.00:00:00",
        "99999999.00:00:00",
        "123456789.00:00:00",
        "99999999999999999999.00:00:00",
        "\u{0}",
        "00:01:0０",
        "٠٠:٠١:٠٠",
    ] {
        let body = json!({"FailoverTimeout": span}).to_string();
        for answer in service.configure(&body).await {
            expect_named(answer, "FailoverTimeout", &body);
        }
    }
    for number in [
        "99.999",
        "0.00001",
        "1e-9",
        "-0.00001",
        "-1",
        "-60000",
        "86400000.1",
        "86400001",
        "1e12",
        "1e13",
        "-1e13",
        "1e300",
        "-1e300",
        "1e400",
        "-1e400",
        "1e99999999999999999999",
        "9223372036854775808",
        "1000000000000000000000000000000",
    ] {
        let body = format!(r#"{{"Milliseconds":{number}}}"#);
        for answer in service.configure(&body).await {
            expect_named(answer, "Milliseconds", &body);
        }
    }
    for (span, number) in [
        ("00:00:01", "1000.001"),
        ("00:00:01", "999.999"),
        ("00:00:01.000001", "1000"),
        ("00:01:00", "30000"),
        ("00:01:00", "60"),
        ("00:01:00", "-60000"),
        ("00:01:00", "1e-9"),
        ("10675198.23:59:59.9999999", "-1000000000000"),
    ] {
        let body = format!(r#"{{"FailoverTimeout":"{span}","Milliseconds":{number}}}"#);
        for answer in service.configure(&body).await {
            let reason = answer.expect_error(400);
            assert!(reason.contains("FailoverTimeout") && reason.contains("Milliseconds"), "{body}: {reason}");
        }
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_percentage_out_of_bounds_or_with_more_digits_than_can_be_kept_is_named() {
    let service = InUse::start().await;
    for wrong in [
        "-1",
        "-0.0000000000000000000000000001",
        "-1e-28",
        "101",
        "100.0000010000000000000000001",
        "100.000002",
        "1e3",
        "1e28",
        "1e29",
        "1e400",
        "-1e400",
        "1e-29",
        "1e-400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "50.12345678901234567890123456789",
        "50.12345678901234567890123456789e0",
        "0.00000000000000000000000000001",
        "1.00000000000000000000000000000000000001e1",
        "79228162514264337593543950336",
        "100000000000000000000000000000000000000000000",
    ] {
        let body = format!(r#"{{"PercentHealthyStreams":{wrong}}}"#);
        expect_named(service.beat(&body).await, "PercentHealthyStreams", &body);
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn what_is_written_for_no_number_is_named_although_json_has_no_word_for_it() {
    let service = InUse::start().await;
    for word in
        ["NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", r#""NaN""#, r#""Infinity""#, r#""-Infinity""#]
    {
        for (before, after) in [("", ""), ("\n \"Other\": \"a:b\",\r\n ", ",\n \"Another\": 1")] {
            let body = format!("{{{before}\"percentHealthyStreams\" : {word}{after}}}");
            let reason = service.beat(&body).await.expect_error(400);
            assert!(
                reason.to_lowercase().contains("percenthealthystreams") && reason.contains(word),
                "{body}: {reason}"
            );
        }
        let body = format!("{{\"Milliseconds\":{word}}}");
        for answer in service.configure(&body).await {
            expect_named(answer, "Milliseconds", &body);
        }
    }
    let reason = service.beat("{\"PercentHealthyStreams\": nothing}").await.expect_error(400);
    assert!(reason.contains("not a JSON object"), "{reason}");
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_body_in_utf_16_is_called_that() {
    let service = InUse::start().await;
    let text = r#"{"PercentHealthyStreams":50}"#;
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for body in [[&b"\xff\xfe"[..], &little].concat(), [&b"\xfe\xff"[..], &big].concat(), little, big] {
        let answer = Request::new("POST", format!("{GROUPS}/g/clientsessions/s")).json(body).send(&service.app).await;
        let reason = answer.expect_error(400);
        assert!(reason.contains("UTF-16"), "{reason}");
    }
    for body in [&b"\xef\xbb\xbf"[..], b"\xef\xbb{}", b"\xef\xbb\xbf\xef\xbb\xbf{}", b"{}\xef\xbb\xbf"] {
        Request::new("POST", format!("{GROUPS}/g/clientsessions/s"))
            .json(body)
            .send(&service.app)
            .await
            .expect_error(400);
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_date_time_that_is_none_is_named() {
    let service = InUse::start().await;
    for wrong in [
        "",
        "now",
        "2019-08-24",
        "14:15:22",
        "2019-02-29T00:00:00Z",
        "2019-13-01T00:00:00Z",
        "2019-00-01T00:00:00Z",
        "2019-08-24T24:00:00Z",
        "2019-08-24T14:60:00Z",
        "2019-08-24T14:15:61Z",
        "2019-08-24T14:15:22.Z",
        "2019-08-24T14:15:22+24:00",
        "2019-08-24T14:15:22Zx",
        "10000-01-01T00:00:00Z",
        "+10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
        "2019-08-24T14:15:2é",
        "1566656122",
        "\u{0}",
        "Sat, 24 Aug 2019 14:15:22 GMT",
    ] {
        for name in ["HeartbeatTime", "LastDataSendTime"] {
            let body = json!({name: wrong}).to_string();
            expect_named(service.beat(&body).await, name, &body);
        }
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn an_id_in_a_body_follows_the_same_rules_as_one_in_a_path() {
    let service = InUse::start().await;
    let too_long = "😀".repeat(261);
    for wrong in [
        "a/b",
        "/",
        "a\\b",
        "\u{7}",
        "a\u{0}",
        "\u{7f}",
        "a\u{85}b",
        ".",
        "..",
        " a",
        "a ",
        " ",
        "\t",
        "\u{a0}a",
        "a\u{3000}",
        "\n",
        &too_long,
    ] {
        let body = json!({"Id": wrong}).to_string();
        expect_named(Request::post(GROUPS, body.clone()).send(&service.app).await, "Id", &body);
        expect_named(service.register(&body).await, "Id", &body);
        expect_named(Request::put(format!("{GROUPS}/g"), body.clone()).send(&service.app).await, "Id", &body);
    }
    // One that is well-formed, but another than in the path.
    for other in ["G", "g2", "ｇ"] {
        let body = json!({"Id": other}).to_string();
        let reason = Request::put(format!("{GROUPS}/g"), body.clone()).send(&service.app).await.expect_error(400);
        assert!(reason.contains(&format!("'{other}'")) && reason.contains("'g'"), "{reason}");
        Request::put(format!("{GROUPS}/new"), body).send(&service.app).await.expect_error(400);
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn the_character_u_0000_is_a_400_wherever_a_text_is_taken() {
    let service = InUse::start().await;
    for name in ["Id", "Name", "Description", "FailoverTimeout"] {
        for text in ["\\u0000", "a\\u0000b", "00:01:00\\u0000"] {
            let body = format!(r#"{{"{name}":"{text}"}}"#);
            for answer in service.configure(&body).await {
                expect_named(answer, name, &body);
            }
            if name == "Id" || name == "Name" {
                expect_named(service.register(&body).await, name, &body);
            }
        }
    }
    for name in ["HeartbeatTime", "LastDataSendTime"] {
        let body = format!(r#"{{"{name}":"2019-08-24T14:15:22Z\u0000"}}"#);
        expect_named(service.beat(&body).await, name, &body);
    }
    for query in ["?skip=%00", "?count=%00", "?force=%00"] {
        let method = if query.contains("force") { "DELETE" } else { "GET" };
        let path = if query.contains("force") { format!("{GROUPS}/g{query}") } else { format!("{GROUPS}{query}") };
        Request::new(method, path).send(&service.app).await.expect_error(400);
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_a_400() {
    let service = InUse::start().await;
    let deep_array = "[".repeat(60_000);
    let deep_object = r#"{"a":"#.repeat(10_000);
    let deep_value = format!(r#"{{"Name":{}"#, "[".repeat(50_000));
    let wrong: [&[u8]; 29] = [
        b"",
        b" ",
        b"\n",
        b"{",
        b"}",
        br#"{"Name""#,
        br#"{"Name":"#,
        br#"{"Name":"x"#,
        br#"{"Name":"x","#,
        br#"{"Name":"x",}"#,
        br#"{Name:"x"}"#,
        br#"{'Name':'x'}"#,
        br#"{"Name":x}"#,
        br#"{"Name":NaN}"#,
        br#"{"Name":"\x"}"#,
        br#"{"\ud800":1}"#,
        b"{\"Name\":\"a\nb\"}",
        b"{\"Name\":\"\xff\"}",
        b"{\"Name\":\"\xed\xa0\x80\"}",
        b"\xff\xfe{\0}\0",
        br#"{"Name":"x"}x"#,
        br#"{"Name":"x"}{}"#,
        br#"[{"Name":"x"}]"#,
        br#""Name""#,
        b"null",
        b"5",
        deep_array.as_bytes(),
        deep_object.as_bytes(),
        deep_value.as_bytes(),
    ];
    for body in wrong {
        for path in ["", "/g", "/g/clientsessions", "/g/clientsessions/s"] {
            let method = if path == "/g" { "PUT" } else { "POST" };
            let answer = Request::new(method, format!("{GROUPS}{path}")).json(body).send(&service.app).await;
            assert_eq!(answer.status, 400, "{path} {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
            answer.expect_error(400);
        }
    }
    for path in ["", "/g/clientsessions", "/g/clientsessions/s"] {
        Request::new("POST", format!("{GROUPS}{path}")).send(&service.app).await.expect_error(400);
    }
    let longer_than_a_body_may_be = "[".repeat(100_000);
    service.beat(&longer_than_a_body_may_be).await.expect_error(413);
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let service = InUse::start().await;
    let head = format!("PUT {GROUPS}/g HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n");
    for rest in [
        "Content-Length: 40\r\n\r\n{\"Name\":\"other\"}",
        "Transfer-Encoding: chunked\r\n\r\n10\r\n{\"Name\":\"other\"}\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10\r\n{\"Name\":\"other\"}\r\nxyz\r\n",
    ] {
        let mut connection = Connection::open(&service.app).await;
        connection.write(format!("{head}{rest}").as_bytes()).await;
        connection.close_writing_half().await;
        if let Some(answer) = connection.try_read().await {
            answer.expect_error(400);
        }
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn what_conflicts_with_what_exists_is_a_409() {
    let service = InUse::start().await;
    let same = json!({"Id": "g", "Name": "N", "Description": "D", "Milliseconds": 30_000});
    service.app.post("", same.clone()).await.expect_ok();
    for (property, other) in [
        ("Name", json!("n")),
        ("Name", Value::Null),
        ("Name", json!("")),
        ("Description", json!("other")),
        ("Description", Value::Null),
        ("Milliseconds", json!(30_000.5)),
    ] {
        let mut different = same.clone();
        different[property] = other;
        service.app.post("", different).await.expect_error(409);
    }
    for name in ["Name", "Description", "Milliseconds", "Id"] {
        let mut silent = same.clone();
        silent.as_object_mut().expect("an object").remove(name);
        // What is left out may be anything; without an Id it is another group.
        service.app.post("", silent).await.expect_ok();
    }
    service.app.post("", json!({"Id": "g"})).await.expect_ok();
    service.app.post("", json!({"Id": "g", "Milliseconds": 0, "FailoverTimeout": null})).await.expect_ok();
    service.app.post("/g/clientsessions", json!({"Id": "s"})).await.expect_ok();
    for other in service.app.get("").await.expect_ok().as_array().expect("a list").iter().filter(|it| it["Id"] != "g") {
        service.app.delete(&format!("/{}", other["Id"].as_str().expect("a text"))).await.expect_ok();
    }
    for name in [json!("other"), json!("s"), json!(""), Value::Null] {
        service.app.post("/g/clientsessions", json!({"Id": "s", "Name": name})).await.expect_error(409);
    }
    service.expect_unchanged().await;
}

#[tokio::test]
async fn a_group_that_holds_its_limit_of_sessions_takes_no_other() {
    let app = TestApp::start_with(|settings| settings.failover.session_limit = 2).await;
    app.group_of("g", 60_000, &["a", "b"]).await;
    for body in [json!({"Id": "c"}), json!({})] {
        let reason = app.post("/g/clientsessions", body).await.expect_error(409);
        assert!(reason.contains("'g'") && reason.contains('2'), "{reason}");
    }
    // One that it holds is no other, and each group has a limit of its own.
    app.post("/g/clientsessions", json!({"Id": "a"})).await.expect_ok();
    app.group_of("h", 60_000, &["a", "b"]).await;
    app.delete("/g/clientsessions/a").await.expect_ok();
    app.post("/g/clientsessions", json!({"Id": "c"})).await.expect_ok();
    assert_eq!(app.get("/g").await.expect_ok()["Sessions"].as_object().map(|sessions| sessions.len()), Some(2));
}

#[tokio::test]
async fn a_live_group_is_deleted_only_by_force() {
    let service = InUse::start().await;
    for query in ["", "?force=false", "?FORCE=false", "?other=true", "?xforce=true", "?force2=true"] {
        let reason = service.app.delete(&format!("/g{query}")).await.expect_error(409);
        assert!(reason.contains("1 live"), "{reason}");
    }
    for query in ["?force=", "?force", "?force=maybe", "?force=1", "?force=yes", "?force=true%20", "?force=%FF"] {
        let reason = service.app.delete(&format!("/g{query}")).await.expect_error(400);
        assert!(reason.contains("force"), "{query}: {reason}");
    }
    service.expect_unchanged().await;
    assert_eq!(service.app.delete("/g?x=1&Force=true").await.expect_ok(), "g");
    service.app.get("/g").await.expect_error(404);
    service.app.delete("/g?force=true").await.expect_error(404);
    // Sessions go with their group: they do not come back with another of its name.
    service.app.put("/g", json!({})).await.expect_ok();
    service.app.heartbeat("g", "s", json!({})).await.expect_error(404);
    assert_eq!(service.app.get("/g").await.expect_ok()["Sessions"], json!({}));
}

#[tokio::test]
async fn a_group_without_live_sessions_is_deleted_without_force() {
    let service = InUse::start().await;
    service.app.database.let_time_pass(30_000).await;
    assert_eq!(service.app.delete("/g?force=false").await.expect_ok(), "g");
    service.app.group_of("h", 60_000, &["never-beating"]).await;
    assert_eq!(service.app.delete("/h").await.expect_ok(), "h");
    assert_eq!(service.app.get("").await.expect_ok(), json!([]));
}

#[tokio::test]
async fn no_new_thing_is_given_a_name_that_holds_what_nobody_sees_and_what_has_one_is_served_as_ever() {
    let app = TestApp::start().await;
    app.put("/g", json!({"Milliseconds": 60_000})).await.expect_ok();
    for hidden in ["pump\u{200b}", "\u{202e}pump", "pu\u{2066}mp", "pump\u{feff}1", "pu\u{ad}mp"] {
        let refused = [
            app.post("", json!({"Id": hidden})).await,
            app.put(&format!("/{hidden}"), json!({})).await,
            app.post("/g/clientsessions", json!({"Id": hidden})).await,
        ];
        for answer in refused {
            let reason = answer.body["Reason"].as_str().expect("a reason").to_owned();
            assert!(reason.contains("the character U+"), "{reason}");
            answer.expect_error(400);
        }
        for (tenant, namespace) in [(hidden, "n"), ("t", hidden)] {
            let url = format!("{}/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups/g", app.url);
            Answer::of(app.http.put(url).json(&json!({}))).await.expect_error(400);
        }
    }
    assert_eq!(app.get("").await.expect_ok().as_array().map(Vec::len), Some(1));
    // From before: a heartbeat that was refused would change a role.
    let old = client_failover::ids::GroupPath {
        parent: client_failover::ids::NamespacePath {
            tenant: client_failover::ids::TenantId::parse("t").expect("valid"),
            namespace: client_failover::ids::NamespaceId::parse("n").expect("valid"),
        },
        group: client_failover::ids::GroupId::parse("old\u{200b}").expect("it can be named"),
    };
    let key = old.key().0;
    app.database
        .execute(&format!(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks)
             VALUES ('{key}', 't', 'n', 'old\u{200b}', 600000000);
             INSERT INTO sessions (group_key, session_id) VALUES ('{key}', 's\u{202e}')"
        ))
        .await;
    let session = "/old\u{200b}/clientsessions/s\u{202e}";
    assert_eq!(app.post(session, json!({"PercentHealthyStreams": 100})).await.expect_ok()["Role"], 1);
    app.get("/old\u{200b}").await.expect_ok();
    app.put("/old\u{200b}", json!({"Milliseconds": 50_000})).await.expect_ok();
    app.post("/old\u{200b}/clientsessions", json!({"Id": "s\u{202e}"})).await.expect_ok();
    app.delete(session).await.expect_ok();
    app.delete("/old\u{200b}").await.expect_ok();
}
