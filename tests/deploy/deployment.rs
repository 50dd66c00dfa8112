//! The service where it is deployed: in an image with nothing but itself, started by a shell, a
//! service manager, or an orchestrator.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use client_failover_workshop::needs;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::json;

use crate::support::credentials::new_dir;
use crate::support::helpers::{TestDatabase, copy_program, eventually, free_port};
use crate::support::issuer::{SigningKey, TokenIssuer};
use crate::support::program::{PROGRAM, Running, new_data_dir, private, program, refusal, run};

/// As in an image without certificate authorities.
fn without_authorities(mut command: Command) -> Command {
    command.env("SSL_CERT_FILE", "/nonexistent/file").env("SSL_CERT_DIR", "/nonexistent/dir");
    command
}

#[tokio::test]
async fn without_certificate_authorities_everything_over_http_works() {
    let issuer = TokenIssuer::start(vec![SigningKey::ed().jwk("first")]).await;
    let database = TestDatabase::new().await;
    let mut command = without_authorities(program());
    // Traces go to nobody, which is no reason to fail.
    command.args(["--listen", "127.0.0.1:0", "--auth", "oidc", "--oidc-audience", "x", "--oidc-issuer"]);
    command.arg(&issuer.options().issuer).args(["--otlp-endpoint", "http://127.0.0.1:9"]);
    command.env("DATABASE_URL", database.url());
    let service = Running::start(command).await;
    for arguments in [["health"].as_slice(), &["status", "--tenant", "t", "--namespace", "n"]] {
        let mut asking = without_authorities(program());
        asking.args(arguments).env("CLIENT_FAILOVER_SERVER", &service.url).env("XDG_CONFIG_HOME", "/nonexistent");
        let ran = run(asking).await;
        // The second is asked who it is, by a service that it reached.
        assert!(ran.code == 0 || ran.err.contains("The caller is not known"), "{arguments:?}: {ran:?}");
    }
    assert!(issuer.fetches() > 0);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
}

#[tokio::test]
async fn what_is_missing_for_https_is_said() {
    let wanted = ["certificate authorities", "ca-certificates"];
    for arguments in [
        ["serve", "--otlp-endpoint", "https://collector.example"].as_slice(),
        &["serve", "--auth", "oidc", "--oidc-issuer", "https://issuer.example", "--oidc-audience", "x"],
        &["health", "--url", "https://127.0.0.1:9"],
        &["status", "--server", "https://127.0.0.1:9"],
    ] {
        let mut command = without_authorities(program());
        command.args(arguments).env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none");
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        if arguments[0] == "serve" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let said = refusal(command).await;
        assert!(wanted.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
}

/// The commands of a banner: what is indented and is not for a browser.
fn commands(banner: &str) -> Vec<&str> {
    let indented = banner.lines().filter_map(|line| line.strip_prefix("  "));
    indented.filter(|line| !line.ends_with("in a browser")).collect()
}

/// Runs a banner's commands one after the other in one shell, from another folder than the service
/// was started in.
async fn output_of_commands(banner: &str) -> String {
    // The demo takes its time, and a test of its own; here it only has to be found.
    let script: Vec<String> = commands(banner).iter().map(|line| line.replace(" demo", " demo --help")).collect();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &script.join("\n")]).current_dir("/");
    shell.env_remove("DATABASE_URL");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = run(shell).await;
    assert_eq!(ran.code, 0, "{banner}\n{ran:?}");
    ran.out + &ran.err
}

#[needs("curl", "psql")]
#[tokio::test]
async fn the_commands_of_the_banner_work_as_they_are_printed() {
    for auth in ["none", "api-key"] {
        let mut command = private(&new_data_dir());
        command.args(["--auth", auth]);
        let service = Running::start(command).await;
        let said = output_of_commands(&service.banner).await;
        for shown in ["\"pump\"", "primary_session", "Usage: client-failover demo"] {
            assert!(said.contains(shown), "{shown} with {auth}: {said}");
        }
        // Nobody comes in without the key that the banner has made.
        let group = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/pump";
        let status = service.ask(reqwest::Method::GET, group, json!(null)).await.0;
        assert_eq!(status, if auth == "none" { 200 } else { 401 });
    }
}

#[tokio::test]
async fn a_signal_that_does_not_ask_for_the_end_changes_nothing() {
    let service = Running::start(private(&new_data_dir())).await;
    service.set_up().await;
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE] {
        service.signal(signal);
        assert_eq!(service.beat("a").await, 1, "{signal}");
    }
    // And one that does is answered in order.
    service.signal(Signal::SIGQUIT);
    let (code, said) = service.end().await;
    assert_eq!(code, Some(0), "{said}");
    for word in ["SIGHUP", "SIGUSR1", "SIGUSR2", "stopping"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[needs("script")]
#[tokio::test]
async fn a_terminal_that_is_closed_ends_the_service_in_order() {
    let dir = new_dir();
    let (screen, log) = (dir.join("screen"), dir.join("log"));
    let database = TestDatabase::new().await;
    let mut command = Command::new("script");
    // The terminal's own process group, as a shell's job has it, is told when its other end goes.
    command.args(["--quiet", "--flush", "--command"]);
    command.arg(format!("{PROGRAM} --listen 127.0.0.1:0 2>{}", log.display())).arg(&screen);
    command.env("DATABASE_URL", database.url()).env_remove("PGOPTIONS");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut terminal = command.spawn().expect("it starts");
    let text = || fs::read_to_string(&screen).unwrap_or_default();
    eventually("it is up", async || text().contains(" demo")).await;
    let url = text().split_whitespace().find(|word| word.starts_with("http://")).expect("it is there").to_owned();
    terminal.kill().expect("it is ours");
    terminal.wait().expect("it ends");
    let http = reqwest::Client::new();
    eventually("it is gone", async || http.get(format!("{url}/health/live")).send().await.is_err()).await;
    let said = fs::read_to_string(&log).expect("it is there");
    assert!(said.contains("stopping"), "{said}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut service = Running::start(private(&new_data_dir())).await;
    service.set_up().await;
    service.close_standard_error();
    // Each writes a line, or tries to.
    for _ in 0..3 {
        service.signal(Signal::SIGHUP);
        assert_eq!(service.beat("a").await, 1);
        assert_eq!(service.beat("b").await, 0);
    }
    let http = reqwest::Client::new();
    let path = "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g/clientsessions/a";
    assert_eq!(http.delete(format!("{}{path}", service.url)).send().await.expect("it answers").status(), 200);
    assert_eq!(service.beat("b").await, 1);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
}

#[tokio::test]
async fn what_the_shell_has_for_other_programs_does_not_reach_the_private_server() {
    let data_dir = new_data_dir();
    let mut command = private(&data_dir);
    for (name, value) in [
        ("PGOPTIONS", "-c default_transaction_read_only=on -c no.such=1 -c bogus=1"),
        ("PGHOST", "db.example"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody"),
        ("PGDATABASE", "nothing"),
        ("PGPASSWORD", "secret"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/nonexistent"),
        ("PGSSLCERT", "/nonexistent"),
        ("PGSSLKEY", "/nonexistent"),
        ("PGAPPNAME", "another"),
        ("PGSERVICE", "none"),
        ("PGDATA", "/nonexistent"),
        ("PGTZ", "Mars"),
    ] {
        command.env(name, value);
    }
    let service = Running::start(command).await;
    service.set_up().await;
    assert_eq!(service.beat("a").await, 1);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().await.0, Some(0));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

/// As Kubernetes does with the `fsGroup` of a pod: everything belongs to a group, which may do what
/// the owner may.
fn give_to_group(path: &Path) {
    let found = fs::symlink_metadata(path).expect("it is there");
    if found.is_dir() {
        fs::read_dir(path).expect("it can be read").flatten().for_each(|entry| give_to_group(&entry.path()));
    }
    if found.is_dir() || found.is_file() {
        if geteuid().is_root() {
            chown(path, None, Some(4_242)).expect("root may");
        }
        let owner = found.mode() & 0o700;
        set_mode(path, owner | owner >> 3 | if found.is_dir() { 0o2000 } else { 0 });
    }
}

#[tokio::test]
async fn a_volume_that_an_orchestrator_gave_to_a_group_is_used() {
    let data_dir = new_data_dir();
    // A file system of its own has this from the start, and may be open to all.
    fs::create_dir(data_dir.join("lost+found")).expect("it can be made");
    set_mode(&data_dir, 0o2777);
    for _ in 0..2 {
        let service = Running::start(private(&data_dir)).await;
        service.set_up().await;
        assert_eq!(service.beat("a").await, 1);
        service.signal(Signal::SIGTERM);
        assert_eq!(service.end().await.0, Some(0));
        assert_eq!(mode(&data_dir) & 0o002, 0);
        // At each start of a pod anew. The volume itself is its own.
        give_to_group(&data_dir);
        set_mode(&data_dir, 0o2771);
        assert_eq!(mode(&data_dir.join("pg")), 0o2770);
    }
    // What PostgreSQL takes is left as somebody wanted it.
    for kept in [0o700, 0o750] {
        set_mode(&data_dir.join("pg"), kept);
        let service = Running::start(private(&data_dir)).await;
        assert_eq!(mode(&data_dir.join("pg")), kept);
        drop(service);
    }
}

#[tokio::test]
async fn the_umask_of_whoever_starts_it_changes_nothing() {
    for umask in ["077", "000"] {
        let data_dir = new_data_dir().join("below").join("it");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask} && exec \"$0\" --listen 127.0.0.1:0 --data-dir \"$1\"")]);
        command.arg(PROGRAM).arg(&data_dir).env_remove("DATABASE_URL");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let service = Running::start(command).await;
        service.set_up().await;
        assert_eq!(mode(&data_dir.join("pg")) & 0o077, 0, "{umask}");
        assert_eq!(mode(&data_dir) & 0o022, 0, "{umask}");
        assert_eq!(mode(&data_dir.join("postgres.log")) & 0o077, 0, "{umask}");
        service.signal(Signal::SIGTERM);
        assert_eq!(service.end().await.0, Some(0));
    }
}

#[needs("root")]
#[tokio::test]
async fn an_account_without_an_entry_serves_a_database_and_is_told_what_a_private_one_wants() {
    let dir = new_dir();
    let copy = dir.join("client-failover");
    copy_program(Path::new(PROGRAM), &copy);
    let data_dir = dir.join("data");
    fs::create_dir(&data_dir).expect("it can be made");
    chown(&data_dir, Some(987_654), Some(0)).expect("root may");
    let as_nobody_known = || {
        let mut command = Command::new(&copy);
        command.uid(987_654).gid(0).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut command = as_nobody_known();
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
    let said = refusal(command).await;
    assert!(said.contains("/etc/passwd") && said.contains("uid 987654") && said.contains("--database-url"), "{said}");
    let mut command = as_nobody_known();
    command.args(["migrate", "--database-url", "postgres://nobody@127.0.0.1:9/none"]);
    let ran = run(command).await;
    assert!(ran.err.contains("the database cannot be used"), "{ran:?}");
}

const COMPOSE: &str = include_str!("../../docker-compose.yml");

#[test]
fn the_images_are_named_in_one_place() {
    let (_, rest) = COMPOSE.split_once("x-images:\n").expect("it is there");
    let named: Vec<(&str, &str)> = rest
        .lines()
        .map_while(|line| line.strip_prefix("  ")?.split_once(": &"))
        .map(|(_, image)| image.split_once(" ${").expect("a variable"))
        .collect();
    assert_eq!(named.len(), 6, "{named:?}");
    let (_, rest) = rest.split_once("services:\n").expect("it is there");
    let used = rest.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    for image in used {
        assert!(image.starts_with('*'), "an image beside the others: {image}");
    }
    let dockerfile = include_str!("../../Dockerfile");
    let names_an_image = |line: &&str| !line.starts_with("SOURCE_");
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("ARG ")).filter(names_an_image) {
        let (variable, image) = line.split_once('=').expect("it has a default");
        let same = format!("{variable}:-{image}}}");
        assert!(named.iter().any(|(_, default)| *default == same), "{line} is another in docker-compose.yml");
    }
}

#[needs("prometheus")]
#[tokio::test]
async fn prometheus_scrapes_with_the_key_of_the_monitoring_profile() {
    let database = TestDatabase::new().await;
    for auth in ["none", "api-key"] {
        let dir = new_dir();
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--auth", auth]).env("DATABASE_URL", database.url());
        let service = Running::start(command).await;
        let key_file = match auth {
            "none" => Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring/no-key"),
            _ => {
                // As the head of docker-compose.yml has it.
                let line = COMPOSE.lines().find(|line| line.contains("keys create prometheus")).expect("it is there");
                let (_, line) = line.split_once("client-failover").expect("a command");
                let line = format!("\"$0\"{}", line.replace("metrics.key", "\"$1\""));
                let file = dir.join("metrics.key");
                let mut shell = Command::new("sh");
                shell.args(["-c", &line, PROGRAM]).arg(&file);
                shell.env("DATABASE_URL", database.url()).stdout(Stdio::piped()).stderr(Stdio::piped());
                run(shell).await.ok();
                file
            }
        };
        let (_, address) = service.url.split_once("//").expect("a URL");
        let config = include_str!("../../deploy/monitoring/prometheus.yml")
            .replace("[failover-1:8080, failover-2:8080]", &format!("[\"{address}\"]"))
            .replace("/etc/prometheus/client-failover.key", &key_file.display().to_string())
            .replace("rule_files:\n  - alerts.yml\n", "")
            .replace("scrape_interval: 5s", "scrape_interval: 1s");
        fs::write(dir.join("prometheus.yml"), config).expect("it can be written");
        let port = free_port();
        let mut command = Command::new("prometheus");
        command.current_dir(&dir).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut prometheus = command.spawn().expect("it starts");
        let http = reqwest::Client::new();
        let mut seen = String::new();
        let is_up = async || {
            let answer = http.get(format!("http://127.0.0.1:{port}/api/v1/query?query=up")).send().await;
            seen = match answer {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            seen.contains("\"client-failover\"") && seen.contains(",\"1\"]")
        };
        eventually(&format!("Prometheus sees the service with {auth}"), is_up).await;
        prometheus.kill().expect("it is ours");
        let mut said = String::new();
        let _ = prometheus.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        prometheus.wait().expect("it ends");
        service.signal(Signal::SIGTERM);
        assert_eq!(service.end().await.0, Some(0));
    }
}
