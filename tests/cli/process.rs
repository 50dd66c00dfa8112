//! The program as people run it: started, asked, killed, stopped, and called wrongly.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Instant;

use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover_workshop::needs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::helpers::{TestDatabase, eventually};
use crate::support::program::{GROUP, Running, new_data_dir, private, program, program_for_all, refusal, run};

/// The number of the private server, if one is noted.
fn server_pid(data_dir: &Path) -> Option<i32> {
    fs::read_to_string(data_dir.join("pg/postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

fn runs(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[tokio::test]
async fn it_starts_with_a_banner_that_works_and_leaves_nothing_behind() {
    let data_dir = new_data_dir();
    let service = Running::start(private(&data_dir)).await;
    let (status, body) = service.ask(reqwest::Method::GET, "/health/ready", json!(null)).await;
    assert_eq!((status, body), (200, json!("ready")));
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);

    let server = server_pid(&data_dir).expect("it runs");
    service.signal(Signal::SIGTERM);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!runs(server), "the private PostgreSQL ends with the service");
}

#[tokio::test]
async fn a_service_that_is_killed_keeps_its_data_and_its_roles() {
    let data_dir = new_data_dir();
    let service = Running::start(private(&data_dir)).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    assert_eq!(service.beat("b").await, 0);
    service.signal(Signal::SIGKILL);
    drop(service);
    let service = Running::start(private(&data_dir)).await;
    assert_eq!(service.beat("b").await, 0);
    assert_eq!(service.beat("a").await, 1);
    let (_, group) = service.ask(reqwest::Method::GET, GROUP, json!(null)).await;
    assert_eq!(group["Clients"]["a"]["Role"], 1);

    // A second one on the same directory, while we have one.
    let said = refusal(private(&data_dir)).await;
    assert!(said.contains("is in use by another service"), "{said}");
    assert_eq!(service.beat("a").await, 1);
}

#[tokio::test]
async fn requests_in_flight_finish_when_it_is_told_to_stop() {
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    service.set_up().await;
    // An idle connection, which must not hold up the end.
    assert_eq!(service.beat("a").await, 1);

    let mut holder = database.connect().await;
    let mut transaction = holder.begin().await.expect("it begins");
    sqlx::query("SELECT 1 FROM groups FOR UPDATE").execute(&mut *transaction).await.expect("it locks");
    let change = service.http.put(format!("{}{GROUP}", service.url)).json(&json!({"Milliseconds": 5_000})).send();
    let change = tokio::spawn(change);
    let waiting =
        "SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the request waits for the lock", async || !database.rows(waiting).await.is_empty()).await;
    service.signal(Signal::SIGTERM);
    let address = service.url.trim_start_matches("http://").to_owned();
    eventually("nobody listens any more", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    transaction.rollback().await.expect("it ends");
    let answer = change.await.expect("it is sent").expect("it is answered");
    assert_eq!(answer.status(), 200);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    let ticks = database.rows("SELECT failover_timeout_ticks AS ticks FROM groups").await;
    assert_eq!(ticks, [json!({"ticks": 50_000_000})]);
}

/// Where somebody else runs the tests, every other here is such a test.
#[needs("root")]
#[tokio::test]
async fn an_ordinary_user_runs_it_with_a_private_database() {
    let user = User::from_name("nobody").ok().flatten().expect("there is an account for nobody");
    let data_dir = new_data_dir();
    std::os::unix::fs::chown(&data_dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("it is ours");
    let mut command = program_for_all();
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    let service = Running::start(command).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    service.signal(Signal::SIGINT);
    assert_eq!(service.end().await.0, Some(0));
}

#[tokio::test]
async fn the_log_has_one_line_per_change_of_a_role_and_none_per_heartbeat() {
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    service.set_up().await;
    for _ in 0..20 {
        assert_eq!(service.beat("a").await, 1);
        assert_eq!(service.beat("b").await, 0);
    }
    let path = format!("{GROUP}/clientsessions/a");
    assert_eq!(service.ask(reqwest::Method::DELETE, &path, json!(null)).await.0, 200);
    assert_eq!(service.beat("b").await, 1);
    service.signal(Signal::SIGTERM);
    let (_, said) = service.end().await;
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let changes = lines.iter().filter(|line| line["message"] == "role changed").map(|line| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let (group, session, reason) = (text("group"), text("session"), text("reason"));
        format!("{group} {session} {}>{} {reason} {}", text("from"), text("to"), line["term"])
    });
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [
            "t/n/g a Secondary>Primary first_heartbeat 1",
            "t/n/g a Primary>Secondary session_deleted 1",
            "t/n/g b Secondary>Primary session_deleted 2"
        ]
    );
    assert!(lines.len() < 20, "forty heartbeats: {said}");
}

/// A collector of traces: takes every request, and hands out what has come so far.
async fn collect_traces() -> (String, std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let collected = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let bytes = collected.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 65_536];
                while let Ok(length @ 1..) = socket.read(&mut chunk).await {
                    bytes.lock().expect("nobody panics").extend_from_slice(&chunk[..length]);
                    // After the head and after the body, which is one more than needed and does no
                    // harm.
                    let _ =
                        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                }
            });
        }
    });
    (format!("http://{address}"), collected)
}

#[tokio::test]
async fn requests_are_traced_within_the_callers_trace_where_a_collector_is_configured() {
    let (endpoint, collected) = collect_traces().await;
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--otlp-endpoint", &endpoint, "--trace-ratio", "0"]);
    command.env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = service.http.put(format!("{}{GROUP}", service.url)).json(&json!({}));
    let traced = traced.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = traced.send().await.expect("it answers");
    assert_eq!(answer.headers()["operation-id"], trace);
    // Not by the caller's wish, and not by that part of the rest which is none.
    assert_eq!(service.ask(reqwest::Method::DELETE, GROUP, json!(null)).await.0, 200);
    service.signal(Signal::SIGTERM);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("request{"), "{said}");
    let collected = collected.lock().expect("nobody panics");
    let holds = |part: &[u8]| collected.windows(part.len()).any(|window| window == part);
    let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
    assert!(holds(b"POST /v1/traces ") && holds(&id));
    assert!(holds(b"PUT groups/{groupid}") && holds(b"put_group") && holds(b"client-failover"));
    assert!(!holds(b"DELETE groups/{groupid}") && !holds(b"delete_group"));
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    for (flag, shows) in [("--help", "--database-url"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let mut command = program();
        command.arg(flag);
        let ran = run(command).await;
        assert!(ran.err.is_empty(), "{ran:?}");
        assert!(ran.ok().contains(shows));
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_said_on_one_line() {
    let dir = new_data_dir();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let unused = dir.join("unused");
    let listener = std::net::TcpListener::bind(&taken);
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let unknown_key = file("unknown.toml", "pool-size = 4\npool-sise = 5\n");
    let bad_value = file("value.toml", "sweep-interval = \"soon\"\n");
    let no_toml = file("broken.toml", "pool-size = \n");
    let missing = dir.join("missing.toml").display().to_string();
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--verbose"], &["--verbose"]),
        (&["dance"], &["dance"]),
        (&["--listen", "nowhere"], &["listen", "nowhere"]),
        (&["--pool-size", "many"], &["pool-size", "many"]),
        (&["--pool-size", "0"], &["pool-size", "0"]),
        (&["--sweep-interval", "soon"], &["sweep-interval", "soon"]),
        (&["--handover-margin", "101"], &["handover-margin", "101"]),
        (&["--database-url", "mysql://root:swordfish@db/x"], &["database-url"]),
        (&["--config", &unknown_key], &["pool-sise", "line 2"]),
        (&["--config", &bad_value], &["soon", "value.toml"]),
        (&["--config", &no_toml], &["broken.toml", "line 1"]),
        (&["--config", &missing], &["missing.toml"]),
    ];
    for (arguments, named) in cases {
        let mut command = program();
        command.args(arguments).env("CLIENT_FAILOVER_DATA_DIR", &unused);
        let said = refusal(command).await;
        assert!(named.iter().all(|name| said.contains(name)), "{arguments:?}: {said}");
        assert!(!said.contains("swordfish"), "{said}");
    }
    if let Ok(listener) = listener {
        let mut command = program();
        command.args(["--listen", &taken]).env("CLIENT_FAILOVER_DATA_DIR", &unused);
        let said = refusal(command).await;
        assert!(said.contains(&taken), "{said}");
        drop(listener);
    }
    assert!(!unused.exists(), "nothing is made before it is known to be wanted");
}

#[tokio::test]
async fn a_password_is_never_shown() {
    for url in [
        "postgres://u:swordfish@127.0.0.1:1/x",
        "postgres://u:swordfish@127.0.0.1:bad/x",
        "postgres://u:swordfish@[::/x",
    ] {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--log", "trace"]).env("DATABASE_URL", url);
        command.env("CLIENT_FAILOVER_OPERATION_TIMEOUT", "200ms");
        let said = if url.contains(":1/") {
            let service = Running::start(command).await;
            let (status, body) = service.ask(reqwest::Method::PUT, GROUP, json!({"Milliseconds": 1_000})).await;
            assert_eq!(status, 503);
            let (status, ready) = service.ask(reqwest::Method::GET, "/health/ready", json!(null)).await;
            assert_eq!(status, 503);
            service.signal(Signal::SIGTERM);
            let banner = service.banner.clone();
            let (code, log) = service.end().await;
            assert_eq!(code, Some(0), "it also stops while it waits");
            format!("{banner}{body}{ready}{log}")
        } else {
            refusal(command).await
        };
        assert!(!said.contains("swordfish"), "{said}");
    }
    let mut help = program();
    help.arg("--help").env("DATABASE_URL", "postgres://u:swordfish@db/x");
    assert!(!run(help).await.ok().contains("swordfish"));
}

#[tokio::test]
async fn migrate_brings_the_tables_up_to_date_and_ends() {
    let database = TestDatabase::empty().await;
    for _ in 0..2 {
        let mut command = program();
        command.arg("migrate").env("DATABASE_URL", database.url());
        assert!(run(command).await.ok().contains("up to date"));
    }
    let tables =
        database.rows("SELECT count(*) AS tables FROM pg_tables WHERE tablename IN ('groups', 'sessions')").await;
    assert_eq!(tables, [json!({"tables": 2})]);
}

#[tokio::test]
async fn told_not_to_migrate_it_waits_for_the_tables_and_says_so() {
    let database = TestDatabase::empty().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--migrate", "false"]).env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    let (status, body) = service.ask(reqwest::Method::GET, "/health/ready", json!(null)).await;
    assert_eq!(status, 503);
    assert!(body["Reason"].as_str().is_some_and(|reason| reason.contains("version 0")), "{body}");
    let tables = "SELECT 1 AS one FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.rows(tables).await, Vec::<Value>::new());

    let mut migrate = program();
    migrate.arg("migrate").env("DATABASE_URL", database.url());
    run(migrate).await.ok();
    is_ready(&service).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
}

async fn is_ready(service: &Running) {
    eventually("it is ready", async || service.ask(reqwest::Method::GET, "/health/ready", json!(null)).await.0 == 200)
        .await;
}

#[tokio::test]
async fn it_may_start_before_its_database_does() {
    let data_dir = new_data_dir();
    let options = || PostgresOptions { data_dir: data_dir.clone(), bin_dir: None, settings: Vec::new() };
    // Once, to know where it will be.
    let server = Postgres::start(options()).await.expect("it starts");
    let socket = server.socket_dir().display().to_string().replace('/', "%2F");
    let url = format!("postgres://{}@{socket}:{}/postgres", server.user(), server.port());
    server.stop().await.expect("it stops");

    let mut command = program();
    command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", url);
    command.env("CLIENT_FAILOVER_OPERATION_TIMEOUT", "1s");
    let service = Running::start(command).await;
    assert_eq!(service.ask(reqwest::Method::GET, "/health/live", json!(null)).await.0, 200);
    assert_eq!(service.ask(reqwest::Method::PUT, GROUP, json!({"Milliseconds": 60_000})).await.0, 503);
    let server = Postgres::start(options()).await.expect("it starts");
    is_ready(&service).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
    server.stop().await.expect("it stops");
}

#[tokio::test]
async fn flags_come_before_the_environment_and_that_before_the_file() {
    let database = TestDatabase::new().await;
    let dir = new_data_dir();
    let file = dir.join("settings.toml");
    // Seen from outside: how many sessions a group may hold.
    let start = async |given: &str| {
        fs::write(&file, "session-limit = 1\nlisten = \"127.0.0.1:0\"\n").expect("it can be written");
        let mut command = program();
        command.args(["--config"]).arg(&file).env("DATABASE_URL", database.url());
        if given != "file" {
            command.env("CLIENT_FAILOVER_SESSION_LIMIT", "2");
        }
        if given == "flag" {
            command.args(["--session-limit", "3"]);
        }
        Running::start(command).await
    };
    for (given, limit) in [("file", 1), ("environment", 2), ("flag", 3)] {
        let service = start(given).await;
        is_ready(&service).await;
        let group = format!("{GROUP}-{given}");
        assert_eq!(service.ask(reqwest::Method::PUT, &group, json!({"Milliseconds": 60_000})).await.0, 200);
        let path = format!("{group}/clientsessions");
        for n in 0..limit {
            assert_eq!(service.ask(reqwest::Method::POST, &path, json!({"Id": format!("s{n}")})).await.0, 200);
        }
        assert_eq!(service.ask(reqwest::Method::POST, &path, json!({"Id": "more"})).await.0, 409, "{given}");
    }
}

#[tokio::test]
async fn a_connection_that_only_stays_open_does_not_hold_up_the_end() {
    let database = TestDatabase::new().await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    let mut idle = tokio::net::TcpStream::connect(service.url.trim_start_matches("http://")).await.expect("it listens");
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is sent");
    let mut answer = [0; 1_024];
    assert!(idle.read(&mut answer).await.expect("it is answered") > 0);
    let began = Instant::now();
    service.signal(Signal::SIGTERM);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    println!("ended {:?} after SIGTERM with a connection open", began.elapsed());
}

#[tokio::test]
async fn where_nobody_is_asked_the_service_answers_under_names_of_loopback_alone() {
    let database = TestDatabase::new().await;
    let start = async |arguments: &[&str]| {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).env("DATABASE_URL", database.url());
        Running::start(command).await
    };
    let ask = async |service: &Running, path: &str, host: &str| {
        let answer =
            service.http.get(format!("{}{path}", service.url)).header("Host", host).send().await.expect("it answers");
        (answer.status().as_u16(), answer.text().await.expect("it is whole"))
    };
    let service = start(&[]).await;
    service.set_up().await;
    let port = service.url.rsplit_once(':').expect("it has a port").1.to_owned();
    for host in ["localhost".to_owned(), format!("localhost:{port}"), format!("127.0.0.1:{port}"), "[::1]:1".to_owned()]
    {
        assert_eq!(ask(&service, GROUP, &host).await.0, 200, "{host}");
    }
    let rebound = format!("evil.example:{port}");
    for path in [GROUP, "/", "/metrics", "/openapi.json"] {
        let (status, said) = ask(&service, path, &rebound).await;
        assert_eq!(status, 403, "{path}");
        assert!(said.contains(&rebound) && said.contains("allowed-hosts"), "{said}");
    }
    // As a page at that name has a browser send it: to the browser it is one site.
    let beat = service.http.post(format!("{}{GROUP}/clientsessions/a", service.url)).json(&json!({}));
    let beat = beat.header("Host", &rebound).header("Origin", format!("http://{rebound}"));
    assert_eq!(beat.header("Sec-Fetch-Site", "same-origin").send().await.expect("it answers").status(), 403);
    let target = service.http.get(format!("{}{GROUP}", service.url));
    assert_eq!(target.send().await.expect("it answers").status(), 200);
    assert_eq!(ask(&service, "/health/live", "probe.example").await.0, 200);
    // HTTP/1.0 need not say a name, and no browser leaves it out.
    let address = service.url.trim_start_matches("http://").to_owned();
    let mut old = tokio::net::TcpStream::connect(&address).await.expect("it listens");
    old.write_all(format!("GET {GROUP} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.expect("it is text");
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(service);
    let service = start(&["--allowed-hosts", "failover.plant.example,other.example"]).await;
    assert_eq!(ask(&service, "/", "failover.plant.example:8443").await.0, 200);
    assert_eq!(ask(&service, "/", "evil.example").await.0, 403);
    drop(service);
    // Whoever asks for keys asks for no names, unless it is told to.
    let service = start(&["--auth", "api-key"]).await;
    assert_eq!(ask(&service, GROUP, "evil.example").await.0, 401);
    drop(service);
    let service = start(&["--auth", "api-key", "--allowed-hosts", "failover.plant.example"]).await;
    assert_eq!(ask(&service, GROUP, "evil.example").await.0, 403);
    assert_eq!(ask(&service, GROUP, "failover.plant.example").await.0, 401);
}

#[tokio::test]
async fn a_stranger_has_nothing_traced_and_somebody_who_is_known_has() {
    let (endpoint, collected) = collect_traces().await;
    let database = TestDatabase::new().await;
    let (_, key) = crate::support::credentials::create_key(&database, "k", &["--tenant", "t", "--role", "admin"]).await;
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--auth", "api-key", "--otlp-endpoint", &endpoint, "--trace-ratio", "0"]);
    command.env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    let ask = async |method: reqwest::Method, trace: &str, key: Option<&str>| {
        let request = service.http.request(method, format!("{}{GROUP}", service.url)).json(&json!({}));
        let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        let request = key.iter().fold(request, |request, key| request.bearer_auth(key));
        request.send().await.expect("it answers").status().as_u16()
    };
    assert_eq!(ask(reqwest::Method::GET, "4bf92f3577b34da6a3ce929d0e0e4736", None).await, 401);
    assert_eq!(ask(reqwest::Method::GET, "4bf92f3577b34da6a3ce929d0e0e4737", Some("cfk_wrong")).await, 401);
    assert_eq!(ask(reqwest::Method::PUT, "4bf92f3577b34da6a3ce929d0e0e4738", Some(&key)).await, 200);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
    let collected = collected.lock().expect("nobody panics");
    let holds = |part: &[u8]| collected.windows(part.len()).any(|window| window == part);
    assert!(holds(b"PUT groups/{groupid}"));
    assert!(!holds(b"GET groups/{groupid}"));
}

#[tokio::test]
async fn a_stranger_is_not_told_why_the_service_is_not_ready() {
    // A database that is not there: its name and port are nobody's business.
    let nowhere = format!("postgres://u@127.0.0.1:{}/failover", crate::support::helpers::free_port());
    for (auth, is_told) in [("none", true), ("api-key", false)] {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--auth", auth]).env("DATABASE_URL", &nowhere);
        let service = Running::start(command).await;
        let (status, body) = service.ask(reqwest::Method::GET, "/health/ready", json!(null)).await;
        assert_eq!(status, 503);
        let reason = body["Reason"].as_str().expect("a reason");
        assert_eq!(reason.contains("database"), is_told, "{auth}: {reason}");
    }
}

#[tokio::test]
async fn what_others_could_read_or_be_is_said_at_every_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = new_data_dir();
    let users = dir.join("users.toml");
    crate::support::credentials::add_user(&users, "adapter", "correct horse", &["--tenant", "t", "--role", "client"])
        .await;
    let config = dir.join("settings.toml");
    fs::write(&config, "pool-size = 4\n").expect("it can be written");
    // Nobody is there; that it is not reached is not waited for.
    let url = "postgres://u:swordfish@192.0.2.1:5432/failover?sslmode=require";
    let said = async |mode: u32, in_flag: bool, url: &str| {
        for file in [&users, &config] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let mut command = program();
        command
            .args(["--listen", "127.0.0.1:0", "--auth", "basic", "--users-file"])
            .arg(&users)
            .arg("--config")
            .arg(&config);
        if in_flag {
            command.args(["--database-url", url])
        } else {
            command.env("DATABASE_URL", url)
        };
        let service = Running::start(command).await;
        service.signal(Signal::SIGTERM);
        service.end().await.1
    };
    let loud = said(0o646, true, url).await;
    assert_eq!(loud.matches("can read this file").count(), 2, "{loud}");
    assert_eq!(loud.matches("can change this file").count(), 2, "{loud}");
    assert!(loud.contains("the command line holds the database's password"), "{loud}");
    assert!(loud.contains("its certificate is not verified") && loud.contains("192.0.2.1:5432"), "{loud}");
    assert!(!loud.contains("swordfish"), "{loud}");
    let verified = url.replace("require", "verify-full");
    let quiet = said(0o640, false, &verified).await;
    for worry in ["this file", "command line", "not verified"] {
        assert!(!quiet.contains(worry), "{quiet}");
    }
}

#[tokio::test]
async fn the_private_postgresql_gets_nothing_of_the_services_environment_that_it_does_not_need() {
    let data_dir = new_data_dir();
    let mut command = private(&data_dir);
    command.env("CLOUD_SECRET", "swordfish").env("TZ", "Europe/Vienna");
    let service = Running::start(command).await;
    let pid_file = data_dir.join("pg").join("postmaster.pid");
    let pid = fs::read_to_string(&pid_file).expect("it runs").lines().next().expect("a line").to_owned();
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("we may look");
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("swordfish"), "{environment}");
    let names: Vec<&str> =
        environment.split('\0').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        // PostgreSQL sets some for itself.
        let is_known = ["PATH", "LD_LIBRARY_PATH", "TZ", "TZDIR"].contains(name)
            || name.starts_with("PG")
            || name.starts_with("LC_");
        assert!(is_known, "{name}");
    }
    assert!(names.contains(&"PATH") && names.contains(&"TZ"));
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
}
