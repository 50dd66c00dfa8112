//! TLS with real certificates: reread under load, wrong, ended, shown by clients; and towards
//! PostgreSQL.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client_failover::access::AuthOptions;
use client_failover::access::unix_now;
use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover::tls::{Tls, TlsOptions};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::credentials::{Authority, Wanted, https, new_dir};
use crate::support::helpers::{Answer, TestApp, TestDatabase, TestReplica, eventually, scratch_dir, settings};
use crate::support::program::program;

const GROUP: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g";

async fn with_tls(options: TlsOptions) -> TestApp {
    TestApp::start_with(|settings| settings.tls = Some(options)).await
}

async fn beat(client: &Client, app: &TestReplica) -> Result<u16, reqwest::Error> {
    let request = client.post(format!("{}{GROUP}/clientsessions/s", app.url)).json(&json!({}));
    Ok(request.send().await?.status().as_u16())
}

async fn set_up(client: &Client, app: &TestReplica) {
    Answer::of(client.put(format!("{}{GROUP}", app.url)).json(&json!({}))).await.expect_ok();
    Answer::of(client.post(format!("{}{GROUP}/clientsessions", app.url)).json(&json!({"Id": "s"}))).await.expect_ok();
}

#[tokio::test]
async fn both_versions_are_spoken_and_no_older_one_and_no_plain_text() {
    let authority = Authority::new();
    let app = with_tls(authority.server((-1, 90)).write(&new_dir())).await;
    assert!(app.url.starts_with("https://"));
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one");
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let client = Client::builder().tls_certs_only([root.clone()]).tls_version_min(version).tls_version_max(version);
        let client = client.build().expect("a client can be made");
        assert_eq!(client.get(format!("{}/health/live", app.url)).send().await.expect("it answers").status(), 200);
    }
    // A client that offers TLS 1.1 alone, byte by byte: no version of a library here would send it.
    let address = app.url.trim_start_matches("https://");
    let mut old = TcpStream::connect(address).await.expect("it listens");
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 0]);
    let length = u8::try_from(hello.len()).expect("it is short");
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    old.write_all(&record).await.expect("it is sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), old.read_to_end(&mut answer)).await.expect("it hangs up");
    assert!(answer.is_empty() || answer[0] == 21, "an alert or nothing: {answer:?}");
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut answer)).await.expect("it hangs up");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_certificate_is_reread_under_load_and_no_request_fails() {
    let (first, second) = (Authority::new(), Authority::new());
    let dir = new_dir();
    let app = with_tls(first.server((-1, 90)).write(&dir)).await;
    let old_connection = https(&first, None);
    set_up(&old_connection, &app).await;
    let roots = [&first, &second]
        .map(|authority| reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one"));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = Vec::new();
    for n in 0..4 {
        let (url, stop, sent, roots) = (app.url.clone(), stop.clone(), sent.clone(), roots.clone());
        load.push(tokio::spawn(async move {
            // Some keep their connection, and some make a new one each time.
            let builder = || Client::builder().tls_certs_only(roots.clone()).build().expect("a client can be made");
            let kept = builder();
            while !stop.load(Ordering::Relaxed) {
                let client = if n % 2 == 0 { kept.clone() } else { builder() };
                let request = client.post(format!("{url}{GROUP}/clientsessions/s")).json(&json!({}));
                let answer = request.send().await.expect("no connection is dropped");
                assert_eq!(answer.status(), 200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let new_client = || https(&second, None);
    assert!(beat(&new_client(), &app).await.is_err());
    // First the certificate alone, as a tool that writes one file after the other does: the pair
    // does not fit.
    let renewed = second.server((-1, 90));
    std::fs::write(dir.join("server.crt"), &renewed.certificate).expect("it can be written");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(beat(&https(&first, None), &app).await.expect("the old pair is in force"), 200);
    std::fs::write(dir.join("server.key"), &renewed.key).expect("it can be written");
    eventually("the new certificate is shown", async || beat(&new_client(), &app).await.is_ok()).await;
    assert!(beat(&https(&first, None), &app).await.is_err());
    assert_eq!(beat(&old_connection, &app).await.expect("what is open stays open"), 200);
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("every request was answered");
    }
    println!("{} heartbeats over TLS while the certificate changed, none failed", sent.load(Ordering::Relaxed));
    assert!(sent.load(Ordering::Relaxed) > 20);
}

#[tokio::test]
async fn a_client_refuses_a_server_that_it_should_not_believe() {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = with_tls(authority.server((-1, 90)).write(&new_dir())).await;
    set_up(&https(&authority, None), &app).await;
    assert!(beat(&https(&other, None), &app).await.is_err(), "the wrong authority");
    let ended = with_tls(authority.server((-10, -1)).write(&new_dir())).await;
    assert!(beat(&https(&authority, None), &ended).await.is_err(), "an ended certificate");
}

#[tokio::test]
async fn when_a_certificate_ends_is_known() {
    let authority = Authority::new();
    let tls = Tls::open(&authority.server((-1, 20)).write(&new_dir())).expect("the files are good");
    let left_days = (tls.expires_at() - unix_now()) / 86_400;
    assert!((19..=20).contains(&left_days), "{left_days}");
}

/// In a process of its own: what is measured here is the process's, and so is its log.
#[tokio::test]
async fn the_end_of_a_certificate_is_in_the_metrics_and_warned_about_from_30_days_before() {
    let (authority, dir, database) = (Authority::new(), new_dir(), TestDatabase::new().await);
    let files = authority.server((-1, 20)).write(&dir);
    let log = dir.join("log");
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--tls-certificate"]).arg(&files.certificate);
    command.arg("--tls-key").arg(&files.key).env("DATABASE_URL", database.url());
    command.stderr(std::fs::File::create(&log).expect("the folder is ours"));
    let mut service = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("it starts");
    let mut lines = BufReader::new(service.stdout.take().expect("it is piped")).lines();
    let line = lines.next_line().await.expect("it speaks").expect("it listens");
    let url = format!("{}/metrics", line.strip_prefix("listening on ").expect("it says where"));
    let days_left = async || {
        // A new connection each time: one that is open stays with its certificate, and an ended one
        // is not believed.
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client can be made");
        let text = client.get(&url).send().await.expect("it answers").text().await.expect("it is whole");
        let name = "client_failover_certificate_expiry_timestamp_seconds ";
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some((value.parse::<i64>().expect("a whole number") - unix_now()).div_euclid(86_400))
    };
    let said = |message: &str| {
        let text = std::fs::read_to_string(&log).expect("it is there");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        lines.filter(|line| line["message"] == message).collect::<Vec<_>>()
    };
    eventually("the metrics have it", async || matches!(days_left().await, Some(19 | 20))).await;
    let warnings = said("the certificate ends soon");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["level"], "WARN");
    let days = warnings[0]["days_left"].as_i64();
    assert!(matches!(days, Some(19 | 20)), "{days:?}");
    assert!(warnings[0]["file"].as_str().is_some_and(|file| file.ends_with("server.crt")));
    // A fresh one ends the worry, and one that is over is an error.
    authority.server((-1, 31)).write(&dir);
    eventually("the metrics follow", async || matches!(days_left().await, Some(30 | 31))).await;
    assert_eq!(said("the certificate ends soon").len(), 1);
    authority.server((-10, -1)).write(&dir);
    eventually("the metrics follow", async || days_left().await.is_some_and(|days| days < 0)).await;
    eventually("it is said", async || said("the certificate has expired").len() == 1).await;
    assert_eq!(said("the certificate has expired")[0]["level"], "ERROR");
    service.kill().await.expect("it runs");
}

#[tokio::test]
async fn client_certificates_are_believed_by_their_authority_their_subject_and_their_time() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = new_dir();
    let mut tls = authority.server((-1, 90)).write(&dir);
    let client_ca = dir.join("clients.crt");
    std::fs::write(&client_ca, authority.pem()).expect("it can be written");
    tls.client_ca = Some(client_ca);
    let subjects = dir.join("subjects.toml");
    let entry =
        |name: &str, role: &str| format!("[subjects.\"{name}\"]\ngrants = [{{ tenant = \"t\", role = \"{role}\" }}]\n");
    let text = [entry("by-name", "admin"), entry("alternative.example", "client")].concat();
    std::fs::write(&subjects, text).expect("it can be written");
    let auth =
        AuthOptions { subjects_file: Some(subjects.clone()), clients_create_groups: true, ..AuthOptions::default() };
    let app = TestApp::start_with(|settings| {
        settings.tls = Some(tls);
        settings.auth = auth;
    })
    .await;
    let client = |by: &Authority, common_name: &str, alternative_names: &[&str], days: (i64, i64)| {
        https(&authority, Some(by.make(&Wanted { common_name, alternative_names, days }).identity()))
    };
    let by_name = client(&authority, "by-name", &[], (-1, 1));
    set_up(&by_name, &app).await;
    assert_eq!(beat(&by_name, &app).await.expect("it answers"), 200);
    let by_alternative = client(&authority, "whatever", &["alternative.example"], (-1, 1));
    assert_eq!(beat(&by_alternative, &app).await.expect("it answers"), 200);
    let unknown = client(&authority, "unknown", &["unknown.example"], (-1, 1));
    assert_eq!(beat(&unknown, &app).await.expect("it answers"), 401);
    assert_eq!(beat(&https(&authority, None), &app).await.expect("it answers"), 401);
    for (what, bad) in [
        ("another authority", client(&other, "by-name", &[], (-1, 1))),
        ("ended", client(&authority, "by-name", &[], (-10, -1))),
        ("not yet valid", client(&authority, "by-name", &[], (1, 10))),
    ] {
        assert!(beat(&bad, &app).await.is_err(), "{what}");
    }
    std::fs::write(&subjects, entry("by-name", "viewer")).expect("it can be written");
    eventually("the subjects are reread", async || beat(&by_name, &app).await.expect("it answers") == 403).await;
    assert_eq!(beat(&by_alternative, &app).await.expect("it answers"), 401);
    let row = app.database.rows("SELECT identity FROM audit_log WHERE action <> 'request_refused'").await;
    assert_eq!(row, [json!({"identity": "certificate:by-name"})]);
}

/// A service that knows clients by certificates of an authority, and who they are by this file.
async fn with_subjects(authority: &Authority, dir: &std::path::Path, crl: bool, subjects: &str) -> TestApp {
    let mut tls = authority.server((-1, 90)).write(dir);
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("it can be written");
        path
    };
    tls.client_ca = Some(file("clients.crt", authority.pem().as_bytes()));
    tls.client_crl = crl.then(|| file("clients.crl", authority.revocations(&[]).der()));
    let subjects_file = Some(file("subjects.toml", subjects.as_bytes()));
    TestApp::start_with(|settings| {
        settings.tls = Some(tls);
        settings.auth = AuthOptions { subjects_file, clients_create_groups: true, ..AuthOptions::default() };
    })
    .await
}

fn subject(name: &str) -> String {
    format!("[subjects.\"{name}\"]\ngrants = [{{ tenant = \"t\", role = \"client\" }}]\n")
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_connections_that_are_open_and_on_new_ones() {
    let (authority, dir) = (Authority::new(), new_dir());
    let subjects = [subject("a"), subject("b")].concat();
    let app = with_subjects(&authority, &dir, true, &subjects).await;
    let made = |common_name| authority.make(&Wanted { common_name, alternative_names: &[], days: (-1, 1) });
    let (a, b) = (made("a"), made("b"));
    let kept = https(&authority, Some(a.identity()));
    let other = https(&authority, Some(b.identity()));
    set_up(&kept, &app).await;
    // As PEM this time; the first was DER.
    let list = authority.revocations(&[&a]).pem().expect("it is one");
    std::fs::write(dir.join("clients.crl"), list).expect("it can be written");
    let read = async |client: &Client| {
        Ok::<_, reqwest::Error>(client.get(format!("{}{GROUP}", app.url)).send().await?.status().as_u16())
    };
    eventually("the open connection is refused", async || read(&kept).await.expect("it is open") == 401).await;
    assert!(read(&https(&authority, Some(a.identity()))).await.is_err(), "no new connection");
    assert_eq!(read(&other).await.expect("it answers"), 200);
    // What is no list changes nothing.
    std::fs::write(dir.join("clients.crl"), "nothing").expect("it can be written");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(read(&kept).await.expect("it is open"), 401);
    assert_eq!(read(&other).await.expect("it answers"), 200);
}

#[tokio::test]
async fn the_authority_of_client_certificates_is_reread() {
    let (authority, next, dir) = (Authority::new(), Authority::new(), new_dir());
    let app = with_subjects(&authority, &dir, false, &subject("a")).await;
    let client = |by: &Authority| {
        https(&authority, Some(by.make(&Wanted { common_name: "a", alternative_names: &[], days: (-1, 1) }).identity()))
    };
    let (old, new) = (client(&authority), client(&next));
    set_up(&old, &app).await;
    assert!(beat(&new, &app).await.is_err(), "its authority is not known yet");
    let both = [authority.pem(), next.pem()].concat();
    std::fs::write(dir.join("clients.crt"), both).expect("it can be written");
    eventually("the next is known", async || beat(&new, &app).await.is_ok_and(|status| status == 200)).await;
    assert_eq!(beat(&old, &app).await.expect("it answers"), 200);
    std::fs::write(dir.join("clients.crt"), next.pem()).expect("it can be written");
    // On the connection that is open.
    eventually("the old one is not", async || beat(&old, &app).await.expect("it is open") == 401).await;
    assert_eq!(beat(&new, &app).await.expect("it answers"), 200);
    assert!(beat(&client(&authority), &app).await.is_err());
}

#[tokio::test]
async fn no_kind_of_name_in_a_certificate_is_taken_for_another() {
    let (authority, dir) = (Authority::new(), new_dir());
    let names =
        ["boss.example", "cn:plain", "email:boss@plant.example", "uri:spiffe://plant/boss", "dns:dns-only.example"];
    let app = with_subjects(&authority, &dir, false, &names.map(subject).concat()).await;
    let status = async |common_name: &str, alternative_names: &[&str]| {
        let made = authority.make(&Wanted { common_name, alternative_names, days: (-1, 1) });
        let client = https(&authority, Some(made.identity()));
        let answer = client.get(format!("{}{GROUP}", app.url)).send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("it is whole"))
    };
    // Let in, and told that there is no such group.
    for (common_name, alternative) in [
        ("x", &["boss.example"][..]),
        ("boss.example", &[]),
        ("plain", &[]),
        ("plain", &["other.example"]),
        ("x", &["dns-only.example"]),
    ] {
        assert_eq!(status(common_name, alternative).await.0, 404, "{common_name} {alternative:?}");
    }
    for (common_name, alternative) in [
        ("boss.example", &["other.example"][..]),
        ("email:boss@plant.example", &[]),
        ("uri:spiffe://plant/boss", &[]),
        ("dns:dns-only.example", &[]),
        ("boss@plant.example", &[]),
        ("dns-only.example", &[]),
        ("x", &["plain"]),
    ] {
        assert_eq!(status(common_name, alternative).await.0, 401, "{common_name} {alternative:?}");
    }
    let (_, said) = status("boss.example", &["other.example"]).await;
    assert!(said.contains("without 'cn:'"), "{said}");
}

#[tokio::test]
async fn browsers_are_told_to_come_over_tls_alone_where_there_is_tls() {
    let (authority, dir) = (Authority::new(), new_dir());
    let told = async |client: &Client, app: &TestApp| {
        let answer = client.get(format!("{}/", app.url)).send().await.expect("it answers");
        answer.headers().get("strict-transport-security").map(|value| value.to_str().expect("text").to_owned())
    };
    let client = https(&authority, None);
    let app = with_tls(authority.server((-1, 90)).write(&dir)).await;
    assert_eq!(told(&client, &app).await.as_deref(), Some("max-age=31536000"));
    let quiet = TestApp::start_with(|settings| {
        settings.tls = Some(authority.server((-1, 90)).write(&dir));
        settings.http.hsts = false;
    })
    .await;
    assert_eq!(told(&client, &quiet).await, None);
    let plain = TestApp::start().await;
    assert_eq!(told(&plain.http, &plain).await, None);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_an_end_is_given_up_and_stops_nobody() {
    let authority = Authority::new();
    let app = with_tls(authority.server((-1, 90)).write(&new_dir())).await;
    let client = https(&authority, None);
    set_up(&client, &app).await;
    let address = app.url.trim_start_matches("https://").to_owned();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut connection = TcpStream::connect(&address).await.expect("it listens");
        connection.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("it is sent");
        slow.push(connection);
    }
    for _ in 0..10 {
        assert_eq!(beat(&client, &app).await.expect("it answers"), 200);
    }
    let began = Instant::now();
    for connection in &mut slow {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(15), connection.read_to_end(&mut rest))
            .await
            .expect("it hangs up");
    }
    println!("50 handshakes that stood still were given up within {:?}", began.elapsed());
}

#[tokio::test]
async fn handshakes_of_one_address_that_stand_still_are_in_nobody_elses_way() {
    let authority = Authority::new();
    let app = with_tls(authority.server((-1, 90)).write(&new_dir())).await;
    let address: std::net::SocketAddr = app.url.trim_start_matches("https://").parse().expect("an address");
    let mut silent = Vec::new();
    // More than the server's library has places for at once.
    for _ in 0..400 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
        socket.bind(([127, 0, 0, 2], 0).into()).expect("all of 127.0.0.0/8 is this machine");
        silent.push(socket.connect(address).await.expect("it listens"));
    }
    let asked = Instant::now();
    let answer = https(&authority, None).get(format!("{}/health/live", app.url)).send().await.expect("it answers");
    assert_eq!(answer.status(), 200);
    println!("beside 400 silent handshakes of another address, one took {:?}", asked.elapsed());
    // Far from the ten seconds that each of those may take.
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    // The same address waits for its own.
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one");
    let there = reqwest::Client::builder().tls_certs_only([root]).local_address(IpAddr::from([127, 0, 0, 2]));
    let there = there.build().expect("a client can be made").get(format!("{}/health/live", app.url)).send();
    assert!(tokio::time::timeout(Duration::from_secs(1), there).await.is_err(), "it has its turn beside 400 others");
}

#[tokio::test]
async fn postgresql_is_reached_over_tls_with_verification() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = scratch_dir("tls-postgres");
    crate::support::helpers::remove_after_the_run(&dir);
    let certificate = authority.server((-1, 90));
    let files = certificate.write(&dir);
    let [root, wrong_root] = [("root.crt", &authority), ("wrong.crt", &other)].map(|(name, authority)| {
        let path = dir.join(name);
        std::fs::write(&path, authority.pem()).expect("it can be written");
        path
    });
    // The server runs under an account of its own where the tests run as root, and wants its key to
    // itself.
    let status = std::process::Command::new("sh")
        .args(["-c", "chmod 600 \"$1\" && if [ \"$(id -u)\" = 0 ]; then chown postgres \"$1\"; fi", "sh"])
        .arg(&files.key)
        .status()
        .expect("sh is there");
    assert!(status.success());
    let port = crate::support::helpers::free_port();
    let setting = |name: &str, value: String| (name.to_owned(), value);
    let options = PostgresOptions {
        data_dir: dir.join("data"),
        bin_dir: None,
        settings: vec![
            setting("ssl", "on".to_owned()),
            setting("ssl_cert_file", files.certificate.display().to_string()),
            setting("ssl_key_file", files.key.display().to_string()),
            setting("listen_addresses", "127.0.0.1".to_owned()),
            setting("port", port.to_string()),
        ],
    };
    let server = Postgres::start(options).await.expect("it starts with TLS");
    let hba = dir.join("data");
    allow_tls_alone(&server, &hba).await;
    let connect = |root: &std::path::Path, mode| {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(server.user())
            .database("postgres")
            .ssl_mode(mode)
            .ssl_root_cert(root)
    };
    let store = |options| client_failover::store::Store::open(options, crate::support::helpers::store_options());
    for (what, bad) in [
        ("the wrong authority", connect(&wrong_root, PgSslMode::VerifyFull)),
        ("no TLS", connect(&root, PgSslMode::Disable)),
    ] {
        assert!(store(bad).migrate().await.is_err(), "{what}");
    }
    let good = connect(&root, PgSslMode::VerifyFull);
    store(good.clone()).migrate().await.expect("migrations go over TLS");
    let replica = TestReplica::start(settings(good)).await;
    replica.wait_until_ready().await;
    replica.group_of("g", 60_000, &["a"]).await;
    assert_eq!(replica.beat("g", "a", 50.0).await, 1);
    replica.stop().await;
    server.stop().await.expect("it stops");
    drop(TestDatabase::empty().await);
}

/// Lets in over TCP those who come by TLS, and nobody else.
async fn allow_tls_alone(server: &Postgres, _: &std::path::Path) {
    use sqlx::Connection as _;
    let connect = crate::support::helpers::connect_options(server, "postgres");
    let mut connection = sqlx::postgres::PgConnection::connect_with(&connect).await.expect("it answers");
    let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut connection).await.expect("it is known");
    let text = std::fs::read_to_string(&file).expect("it can be read");
    std::fs::write(&file, format!("hostssl all all 127.0.0.1/32 trust\n{text}")).expect("it can be written");
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut connection).await.expect("it reloads");
}
