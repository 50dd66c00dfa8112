//! What tests share: one private PostgreSQL for the run, a database for each test (cloned from a
//! template that is migrated once), and the service in front of it on a free port.
//!
//! Time passes by [`TestDatabase::let_time_pass`], which moves what is stored into the past: no
//! test sleeps to see a lease run out.

use std::future::Future;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use client_failover::access::AuthOptions;
use client_failover::arbitration::Rules;
use client_failover::config::{Database, Settings};
use client_failover::failover::{EventOptions, FailoverOptions};
use client_failover::http::{AllowedHosts, ApiPaths, ConnectionOptions, HttpOptions, TenantApi};
use client_failover::ids::{NamespaceId, NamespacePath, TenantId};
use client_failover::postgres::{Postgres, PostgresOptions};
use client_failover::serve::Service;
use client_failover::store::histories::DatabaseHistory;
use client_failover::store::hosts::Hosts;
use client_failover::store::{Pooler, Store, StoreOptions};
use client_failover::telemetry::LogFormat;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Outlives every test, so that servers and the database do not end with the runtime of the test
/// that started them.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be had"));

static POSTGRES: LazyLock<SharedPostgres> = LazyLock::new(SharedPostgres::start);

struct SharedPostgres {
    server: Postgres,
}

/// Runs a future on the runtime that outlives the tests, from within a test's own.
fn block_on_shared<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(|| RUNTIME.block_on(future)).join().expect("the shared runtime does not panic")
    })
}

/// Lets a future run on until the tests end.
pub fn spawn_shared(future: impl Future<Output = ()> + Send + 'static) {
    RUNTIME.spawn(future);
}

/// How to connect to a database of a private server.
pub fn connect_options(server: &Postgres, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(server.socket_dir())
        .port(server.port())
        .username(server.user())
        .ssl_mode(PgSslMode::Disable)
        .database(database)
}

impl SharedPostgres {
    fn start() -> SharedPostgres {
        let dir = scratch_dir("suite");
        remove_after_the_run(&dir);
        let options = PostgresOptions {
            data_dir: dir,
            bin_dir: None,
            // Durability is tested with servers of their own; this one only has to be fast.
            settings: [("fsync", "off"), ("max_connections", "300")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
        };
        let server = block_on_shared(async {
            let server = Postgres::start(options).await.expect("a private PostgreSQL starts");
            let shared = SharedPostgres { server };
            shared.run("postgres", "CREATE DATABASE template_migrated".to_owned()).await;
            let store = Store::open(shared.connect_options("template_migrated"), store_options());
            store.migrate().await.expect("the template migrates");
            store.close().await;
            // A clone is a database of its own, and the first sign of life in it finds nothing to
            // compare with.
            shared.run("template_migrated", "DELETE FROM service_histories".to_owned()).await;
            shared.server
        });
        SharedPostgres { server }
    }

    fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(&self.server, database)
    }

    async fn run(&self, database: &str, statement: String) {
        let mut connection =
            PgConnection::connect_with(&self.connect_options(database)).await.expect("the shared PostgreSQL answers");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("the statement runs");
    }
}

/// A port that nobody listens on now, for a program that cannot choose one itself. It is none of
/// those that the system hands out, so nobody gets it between now and then, or while a replica that
/// keeps it is restarted.
pub fn free_port() -> u16 {
    // A program may want it in both address families, and on every address.
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(12_000..30_000)).take(1_000).find(is_free).expect("a port is free")
}

/// A new folder under the system's folder for such things, which another account may pass through:
/// as root the server runs under one.
pub fn scratch_dir(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("cf-{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder can be made");
    let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(&dir, passable).expect("it is ours");
    dir
}

/// A copy of a program that every account may run, at a place that it can reach.
///
/// Copied by another process: a file that this one holds open for writing cannot be executed, and a
/// test that starts a process at the same moment hands that on.
pub fn copy_program(program: &Path, copy: &Path) {
    let done = Command::new("install").args(["-m", "755"]).arg(program).arg(copy).status().expect("install is there");
    assert!(done.success());
}

/// Statics are never dropped: a watcher removes the folder once this process is gone, however it
/// ends. One for all of them, which waits and does nothing else: one for each that looked again and
/// again took half of the processors by the end of the suite.
pub fn remove_after_the_run(dir: &Path) {
    const WATCHER: &str = r#"while IFS= read -r dir; do set -- "$@" "$dir"; done; sleep 1; rm -rf -- "$@""#;
    // At the end of this process the system closes it, and the watcher reads its end.
    static TO_REMOVE: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
        let mut watcher = Command::new("sh");
        watcher.args(["-c", WATCHER, "watcher"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever interrupts this process does not interrupt the watcher, which outlives it.
        #[expect(clippy::zombie_processes)]
        let watcher = watcher.process_group(0).spawn().expect("sh is there");
        Mutex::new(watcher.stdin.expect("it is piped"))
    });
    let mut to_remove = TO_REMOVE.lock().expect("nobody panics over it");
    writeln!(to_remove, "{}", dir.display()).expect("the watcher lives as long as this process");
}

pub fn store_options() -> StoreOptions {
    StoreOptions {
        pool_size: 8,
        operation_timeout: Duration::from_secs(5),
        idle_in_transaction_timeout: Duration::from_secs(2),
        outage_gap: Duration::from_secs(2),
        pooler: Pooler::None,
        database_history: DatabaseHistory::Fenced,
        password_file: None,
    }
}

/// A database of one test's own. Dropped with the value.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// A clone of the migrated template.
    pub async fn new() -> TestDatabase {
        let database = TestDatabase::from_template("template_migrated").await;
        // Otherwise the time since the template was made would be an outage.
        database.execute("UPDATE service_liveness SET alive_at = clock_timestamp()").await;
        if std::env::var_os("AS_IF_SPREAD").is_some() {
            // Any test can be run with the statements for groups that are spread over several
            // servers.
            let place = "CREATE FUNCTION place_of_group(key uuid) RETURNS bigint LANGUAGE sql IMMUTABLE
                RETURN get_byte(uuid_send(key), 0) % 4";
            database.execute(place).await;
        }
        database
    }

    /// A database without tables.
    pub async fn empty() -> TestDatabase {
        TestDatabase::from_template("template1").await
    }

    async fn from_template(template: &str) -> TestDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        // One at a time: a template cannot be cloned twice at once.
        static CLONING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = CLONING.lock().await;
        POSTGRES.run("postgres", create).await;
        TestDatabase { name }
    }

    /// Another database with all that this one has now, while nobody uses it.
    pub async fn copy(&self) -> TestDatabase {
        TestDatabase::from_template(&self.name).await
    }

    pub fn connect_options(&self) -> PgConnectOptions {
        POSTGRES.connect_options(&self.name)
    }

    /// Its URL on the Unix socket, as a process of the service gets it.
    pub fn url(&self) -> String {
        let connect = self.connect_options();
        let socket = connect.get_socket().expect("it has a socket").display().to_string().replace('/', "%2F");
        format!("postgres://{}@{socket}:{}/{}", connect.get_username(), connect.get_port(), self.name)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.connect_options()).await.expect("the test's database answers")
    }

    /// Runs a statement that returns nothing.
    pub async fn execute(&self, statement: &str) {
        POSTGRES.run(&self.name, statement.to_owned()).await;
    }

    /// The rows of a query, each as a JSON object.
    pub async fn rows(&self, query: &str) -> Vec<Value> {
        let as_json = format!("SELECT to_json(q)::text FROM ({query}) q");
        let texts: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(as_json)).fetch_all(&mut self.connect().await).await.expect("it runs");
        texts.iter().map(|text| serde_json::from_str(text).expect("it is JSON")).collect()
    }

    /// Makes everything that is stored that much older, as if so much time had passed without a
    /// heartbeat. The service's own signs of life are left alone: it was there all the time.
    pub async fn let_time_pass(&self, ms: i64) {
        self.execute(&TestDatabase::make_older(ms)).await;
    }

    fn make_older(ms: i64) -> String {
        format!(
            "UPDATE heartbeats SET received_at = received_at - interval '{ms} ms', lease_until = lease_until - interval '{ms} ms',
                 heard_counts_until = heard_counts_until - interval '{ms} ms',
                 heartbeat_time = heartbeat_time - interval '{ms} ms';
             UPDATE session_wishes SET wished_at = wished_at - interval '{ms} ms', wished_until = wished_until - interval '{ms} ms';
             UPDATE former_groups SET acted_on_until = acted_on_until - interval '{ms} ms';
             UPDATE groups SET handover_until = handover_until - interval '{ms} ms';
             UPDATE service_outages SET began_at = began_at - interval '{ms} ms', recovered_at = recovered_at - interval '{ms} ms'"
        )
    }

    /// The same with the service away for all of that time: its last sign of life gets older too.
    pub async fn let_an_outage_pass(&self, ms: i64) {
        let statement = format!(
            "{}; UPDATE service_liveness SET alive_at = alive_at - interval '{ms} ms'",
            TestDatabase::make_older(ms)
        );
        self.execute(&statement).await;
    }

    /// The trace of a group as `session from>to reason actor term`, in order.
    pub async fn trace(&self, group: &str) -> Vec<String> {
        let query = format!(
            "SELECT session_id || ' ' || from_role || '>' || to_role || ' ' || reason || ' ' || actor || ' ' || term AS line
             FROM role_transitions WHERE group_id = '{group}' ORDER BY transition_id"
        );
        self.rows(&query).await.iter().map(|row| row["line"].as_str().expect("a text").to_owned()).collect()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop_it = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        RUNTIME.spawn(POSTGRES.run("postgres", drop_it));
    }
}

/// Waits until something holds: asks again and again, but not for ever.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), asked).await.is_err() {
        panic!("in 60 s it did not come true that {what}");
    }
}

/// The settings of a replica on that database, listening on a free port.
pub fn settings(database: impl Into<Hosts>) -> Settings {
    let hosts = database.into();
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        database: Database::Url { pooled: hosts.clone(), direct: hosts },
        migrate: true,
        store: store_options(),
        failover: FailoverOptions {
            rules: Rules::default(),
            session_limit: 1_000,
            group_limit: None,
            tenant_session_limit: None,
            bind_sessions: false,
            heartbeat_writers: 1,
            heartbeat_batch: 256,
            heartbeat_queue: 10_000,
            sweep_interval: Duration::from_millis(50),
            prompt_lapses: true,
            session_retention: None,
            census_interval: Duration::from_secs(2),
            metrics_namespaces: 100,
            events: EventOptions {
                max_streams: 2_000,
                retention: Duration::from_secs(90 * 86_400),
                audit_retention: Duration::from_secs(400 * 86_400),
                prune_interval: Duration::from_secs(300),
            },
        },
        http: HttpOptions {
            workers: 1,
            shutdown_timeout: Duration::from_secs(2),
            connections: ConnectionOptions { per_address: 20_000, ..ConnectionOptions::default() },
            lists_per_caller: 1_000,
            docs: true,
            paths: ApiPaths {
                tenant_api: TenantApi::Preview,
                premises: NamespacePath {
                    tenant: TenantId::parse("t").expect("a tenant"),
                    namespace: NamespaceId::parse("n").expect("a namespace"),
                },
            },
            allowed_hosts: AllowedHosts::any(),
            hsts: true,
        },
        auth: AuthOptions::open(),
        tls: None,
        run_as: None,
        drain: Duration::ZERO,
        log: "warn".to_owned(),
        log_format: LogFormat::Text,
        traces: None,
        webhook: None,
        file: None,
    }
}

/// One running replica of the service, in this process, over real sockets.
pub struct TestReplica {
    pub url: String,
    pub http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl TestReplica {
    pub async fn start(settings: Settings) -> TestReplica {
        let (started, start) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        RUNTIME.spawn(async move {
            let service = Service::start(&settings).await.expect("the service starts");
            let _ = started.send(service.url());
            let until = async {
                let _ = stopped.await;
            };
            service.run_until(until).await.expect("the service runs");
            let _ = end.send(());
        });
        let url = start.await.expect("the service starts");
        let http = reqwest::Client::new();
        TestReplica { url, http, stop: Some(stop), ended: Some(ended) }
    }

    /// Whether its database is there and has its tables.
    pub async fn is_ready(&self) -> bool {
        let ready = self.http.get(format!("{}/health/ready", self.url)).send().await;
        ready.is_ok_and(|answer| answer.status() == 200)
    }

    /// Waits for that.
    pub async fn wait_until_ready(&self) {
        eventually("it is ready", async || self.is_ready().await).await;
    }

    /// A service that somebody else runs, at that address.
    pub fn at(url: String) -> TestReplica {
        TestReplica { url, http: reqwest::Client::new(), stop: None, ended: None }
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(ended) = self.ended.take() {
            ended.await.expect("it ends in order");
        }
    }

    /// A request to a path below the groups of tenant `t`, namespace `n`.
    pub async fn send(&self, method: Method, below: &str, body: Option<Value>) -> Answer {
        let url = format!("{}/api/v1/tenants/t/namespaces/n/clientfailover/groups{below}", self.url);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request).await
    }

    pub async fn get(&self, below: &str) -> Answer {
        self.send(Method::GET, below, None).await
    }

    pub async fn post(&self, below: &str, body: Value) -> Answer {
        self.send(Method::POST, below, Some(body)).await
    }

    pub async fn put(&self, below: &str, body: Value) -> Answer {
        self.send(Method::PUT, below, Some(body)).await
    }

    pub async fn delete(&self, below: &str) -> Answer {
        self.send(Method::DELETE, below, None).await
    }

    /// Creates a group with that timeout and registers sessions in it.
    pub async fn group_of(&self, group: &str, timeout_ms: i64, sessions: &[&str]) {
        self.put(&format!("/{group}"), json!({"Milliseconds": timeout_ms})).await.expect_ok();
        for session in sessions {
            self.post(&format!("/{group}/clientsessions"), json!({"Id": session})).await.expect_ok();
        }
    }

    /// One heartbeat with that health; the role that it is answered with.
    pub async fn beat(&self, group: &str, session: &str, health: f64) -> i64 {
        let answer = self.heartbeat(group, session, json!({"PercentHealthyStreams": health})).await;
        answer.expect_ok()["Role"].as_i64().expect("a role is a number")
    }

    pub async fn heartbeat(&self, group: &str, session: &str, body: Value) -> Answer {
        self.post(&format!("/{group}/clientsessions/{session}"), body).await
    }

    /// A heartbeat of a client that says in which role it acts.
    pub async fn beat_acting_as(&self, group: &str, session: &str, health: f64, role: i64) -> i64 {
        let answer = self.heartbeat_acting_as(group, session, json!({"PercentHealthyStreams": health}), role).await;
        answer.expect_ok()["Role"].as_i64().expect("a role is a number")
    }

    pub async fn heartbeat_acting_as(&self, group: &str, session: &str, body: Value, role: i64) -> Answer {
        let path = format!("/api/v1/tenants/t/namespaces/n/clientfailover/groups/{group}/clientsessions/{session}");
        let request = self.http.post(format!("{}{path}", self.url)).header("Failover-Role", role).json(&body);
        Answer::of(request).await
    }
}

/// A replica and the database of its own that it runs on. The replica ends first.
pub struct TestApp {
    pub replica: TestReplica,
    pub database: TestDatabase,
}

impl TestApp {
    pub async fn start() -> TestApp {
        TestApp::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> TestApp {
        let database = TestDatabase::new().await;
        let mut settings = settings(database.connect_options());
        change(&mut settings);
        TestApp { replica: TestReplica::start(settings).await, database }
    }
}

impl std::ops::Deref for TestApp {
    type Target = TestReplica;

    fn deref(&self) -> &TestReplica {
        &self.replica
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    /// The body as it came: JSON numbers lose digits when they are parsed.
    pub text: String,
}

impl Answer {
    pub async fn of(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("the answer is whole");
        Answer::new(status, headers, text)
    }

    pub fn new(status: StatusCode, headers: reqwest::header::HeaderMap, text: String) -> Answer {
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        Answer { status, headers, body, text }
    }

    /// The body of a success.
    #[track_caller]
    pub fn expect_ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// The body of what is accepted.
    #[track_caller]
    pub fn expect_accepted(self) -> Value {
        assert_eq!(self.status, StatusCode::ACCEPTED, "{}", self.body);
        self.body
    }

    /// The reason of an error, which has the one error body.
    #[track_caller]
    pub fn expect_error(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        let body = self.body.as_object().unwrap_or_else(|| panic!("an error is an object: {}", self.body));
        let keys: Vec<&str> = body.keys().map(String::as_str).collect();
        assert_eq!(keys, ["Error", "OperationId", "Reason", "Resolution"]);
        assert!(body.values().all(|value| value.as_str().is_some_and(|text| !text.is_empty())), "{body:?}");
        assert_eq!(self.headers["operation-id"], body["OperationId"].as_str().expect("a text"));
        if status == 503 {
            assert!(self.headers.contains_key("retry-after"));
        }
        body["Reason"].as_str().expect("a text").to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().expect("ASCII")
    }
}

/// For tests in which nobody may take a role but by a heartbeat.
pub fn without_sweeps(settings: &mut Settings) {
    settings.failover.sweep_interval = Duration::from_secs(3_600);
    settings.failover.prompt_lapses = false;
}
