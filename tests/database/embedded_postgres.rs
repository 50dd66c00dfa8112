//! The private PostgreSQL, run for real: as root, as an ordinary user, and through every kind of
//! sudden death. Each test has a data directory of its own; psql from the same folder looks inside.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client_failover::postgres::{Postgres, PostgresError, PostgresOptions};
use client_failover_workshop::needs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use crate::support::helpers::copy_program;

const SOON: Duration = Duration::from_secs(15);

/// How a test hands the directory to the process it starts.
const DATA_DIR_VARIABLE: &str = "EMBEDDED_POSTGRES_TEST_DATA_DIR";

/// A temporary directory that the server's account may pass through.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    dir
}

fn options(data_dir: impl Into<PathBuf>) -> PostgresOptions {
    PostgresOptions { data_dir: data_dir.into(), bin_dir: None, settings: Vec::new() }
}

async fn start(data_dir: &Path) -> Postgres {
    Postgres::start(options(data_dir)).await.unwrap()
}

async fn refusal(options: PostgresOptions) -> PostgresError {
    let error = Postgres::start(options).await.unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn psql(postgres: &Postgres, sql: &str) -> Command {
    let mut command = Command::new(postgres.bin_dir().join("psql"));
    command
        .arg("--host")
        .arg(postgres.socket_dir())
        .args(["--port", &postgres.port().to_string()])
        .args(["--username", postgres.user(), "--dbname", "postgres"])
        .args(["--no-psqlrc", "--tuples-only", "--no-align"])
        .args(["--command", sql])
        .current_dir("/");
    command
}

/// The answer to one statement, or what psql said instead.
fn query(postgres: &Postgres, sql: &str) -> Result<String, String> {
    let output = psql(postgres, sql).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn answer(postgres: &Postgres, sql: &str) -> String {
    query(postgres, sql).unwrap()
}

fn server_pid(data_dir: &Path) -> u32 {
    let text = fs::read_to_string(data_dir.join("pg/postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// A process that has ended but was not waited for counts as gone.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

/// A field of /proc/PID/status.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().to_owned()
}

/// Runs one of the ignored tests below in a process of its own.
fn this_program(program: &Path, test: &str, data_dir: &Path) -> Command {
    let module = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new(program);
    command
        .args(["--exact", &format!("{module}::{test}")])
        .args(["--ignored", "--nocapture"])
        .env(DATA_DIR_VARIABLE, data_dir);
    command
}

fn given_data_dir() -> PathBuf {
    std::env::var_os(DATA_DIR_VARIABLE).expect("run by another test, which names the directory").into()
}

#[tokio::test]
async fn a_new_server_is_durable_private_and_keeps_its_data() {
    let place = place();
    let data_dir = place.path().join("made/on/the/way");
    let postgres = start(&data_dir).await;

    assert_eq!(postgres.user(), "failover");
    assert!(answer(&postgres, "SHOW server_version").starts_with(postgres.version()), "{}", postgres.version());
    for (setting, value) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("timezone", "UTC"),
        ("listen_addresses", ""),
        ("max_connections", "100"),
    ] {
        assert_eq!(answer(&postgres, &format!("SHOW {setting}")), value, "{setting}");
    }
    assert_eq!(answer(&postgres, "SELECT type, auth_method FROM pg_hba_file_rules"), "local|trust");
    assert_eq!(mode(&data_dir.join("pg")), 0o700);
    assert_eq!(mode(postgres.socket_dir()), 0o700);
    assert_eq!(mode(&data_dir.join("postgres.log")), 0o600);

    let pid = server_pid(&data_dir);
    if geteuid().is_root() {
        let owner = fs::metadata(data_dir.join("pg")).unwrap().uid();
        assert_ne!(owner, 0);
        assert_eq!(status(pid, "Uid:"), vec![owner.to_string(); 4].join("\t"));
        assert_eq!(status(pid, "Groups:"), "");
    }
    // The leader of a group of its own, so that Ctrl-C does not reach it.
    assert_eq!(
        nix::unistd::getpgid(Some(Pid::from_raw(pid.try_into().unwrap()))).unwrap(),
        Pid::from_raw(pid.try_into().unwrap())
    );

    answer(&postgres, "CREATE TABLE kept AS SELECT 42 AS number");
    postgres.stop().await.unwrap();
    assert!(!runs(pid));
    assert!(!data_dir.join("pg/postmaster.pid").exists());

    let postgres = Postgres::start(PostgresOptions {
        settings: vec![("port".to_owned(), "6001".to_owned()), ("max_connections".to_owned(), "20".to_owned())],
        ..options(&data_dir)
    })
    .await
    .unwrap();
    assert_eq!(postgres.port(), 6001);
    assert_eq!(answer(&postgres, "SHOW max_connections"), "20");
    assert_eq!(answer(&postgres, "SELECT number FROM kept"), "42");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_owner_is_refused_and_the_first_is_not_disturbed() {
    let place = place();
    let postgres = start(place.path()).await;
    let pid = server_pid(place.path());

    let error = refusal(options(place.path())).await.to_string();
    assert!(error.contains(&place.path().display().to_string()), "{error}");
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");

    assert_eq!(server_pid(place.path()), pid);
    assert_eq!(answer(&postgres, "SELECT 1"), "1");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let place = place();
    let postgres = start(place.path()).await;
    answer(&postgres, "CREATE TABLE kept AS SELECT 42 AS number");

    // One client is in a loop that does not notice the end of the server, which would keep the next
    // one from starting.
    let mut busy =
        psql(&postgres, "DO 'BEGIN LOOP END LOOP; END'").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let loops = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%' AND state = 'active'";
    eventually("the client is in its loop", || answer(&postgres, loops) == "1").await;

    for _ in 0..2 {
        let killed = server_pid(place.path());
        send(killed, Signal::SIGKILL);
        eventually("the server answers again", || query(&postgres, "SELECT number FROM kept").as_deref() == Ok("42"))
            .await;
        assert_ne!(server_pid(place.path()), killed);
    }
    assert!(!busy.wait().unwrap().success());

    postgres.stop().await.unwrap();
    assert!(!place.path().join("pg/postmaster.pid").exists());
}

#[tokio::test]
async fn dropping_the_server_or_its_start_stops_it() {
    let place = place();
    // Given up in the middle of initialising.
    let given_up = tokio::time::timeout(Duration::from_millis(150), Postgres::start(options(place.path()))).await;
    assert!(given_up.is_err(), "too quick to be given up");

    let mut postgres = None;
    let deadline = Instant::now() + SOON;
    while postgres.is_none() {
        match Postgres::start(options(place.path())).await {
            Ok(started) => postgres = Some(started),
            Err(PostgresError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let pid = server_pid(place.path());
    drop(postgres);
    eventually("the server has ended", || !runs(pid)).await;
}

/// Starts a server as nobody's child would be: no parent that watches it.
fn start_by_hand(postgres_program: &Path, data_dir: &Path) -> Child {
    let owner = fs::metadata(data_dir.join("pg")).unwrap();
    let mut command = Command::new(postgres_program);
    if geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let log = fs::File::create(data_dir.join("by-hand.log")).unwrap();
    command
        .arg("-D")
        .arg(data_dir.join("pg"))
        .args(["-c", "listen_addresses=", "-c"])
        .arg(format!("unix_socket_directories={}", data_dir.join("run").display()))
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_abandoned_server_is_stopped_before_a_new_one_starts() {
    let place = place();
    let postgres = start(place.path()).await;
    answer(&postgres, "CREATE TABLE kept AS SELECT 42 AS number");
    let program = postgres.bin_dir().join("postgres");
    postgres.stop().await.unwrap();

    let mut abandoned = start_by_hand(&program, place.path());
    eventually("the abandoned server is ready", || {
        fs::read_to_string(place.path().join("pg/postmaster.pid")).is_ok_and(|text| text.contains("ready"))
    })
    .await;

    let postgres = start(place.path()).await;
    // In order: a killed one would have no exit code.
    assert_eq!(abandoned.wait().unwrap().code(), Some(0));
    assert_ne!(server_pid(place.path()), abandoned.id());
    assert_eq!(answer(&postgres, "SELECT number FROM kept"), "42");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_number_that_belongs_to_somebody_else_by_now_neither_blocks_nor_hurts() {
    let place = place();
    let postgres = start(place.path()).await;
    let pid_file = place.path().join("pg/postmaster.pid");
    let note = fs::read_to_string(&pid_file).unwrap();
    let pid = server_pid(place.path());
    let owner = fs::metadata(place.path().join("pg")).unwrap();
    let socket = postgres.socket_dir().join(".s.PGSQL.5432.lock");
    postgres.stop().await.unwrap();

    let mut bystander = Command::new("sleep");
    if geteuid().is_root() {
        bystander.uid(owner.uid()).gid(owner.gid());
    }
    let mut bystander = bystander.arg("60").spawn().unwrap();
    let note = note.replacen(&pid.to_string(), &bystander.id().to_string(), 1);
    fs::write(&pid_file, &note).unwrap();
    fs::write(&socket, &note).unwrap();
    for file in [&pid_file, &socket] {
        std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    let postgres = start(place.path()).await;
    assert_eq!(answer(&postgres, "SELECT 1"), "1");
    assert!(bystander.try_wait().unwrap().is_none());
    postgres.stop().await.unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
#[ignore = "the service that is killed; another test runs it"]
async fn run_until_killed() {
    let data_dir = given_data_dir();
    let postgres = start(&data_dir).await;
    answer(&postgres, "CREATE TABLE kept AS SELECT 42 AS number");
    // The first line to begin so; the test harness writes others.
    println!("\nserver {}", server_pid(&data_dir));
    std::future::pending::<()>().await;
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_server_ends_with_a_service_that_is_killed() {
    let place = place();
    let program = std::env::current_exe().unwrap();
    let mut service = this_program(&program, "run_until_killed", place.path()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(service.stdout.take().unwrap());
    let pid: u32 = output
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("server ")?.parse().ok())
        .expect("the service should have started");

    service.kill().unwrap();
    service.wait().unwrap();
    eventually("the server has ended", || !runs(pid)).await;

    let postgres = start(place.path()).await;
    assert_eq!(answer(&postgres, "SELECT number FROM kept"), "42");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn an_unfinished_cluster_is_removed_and_made_anew() {
    let place = place();
    let unfinished = place.path().join("pg.new.123.456");
    fs::create_dir_all(unfinished.join("base/1")).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    // As after a kill between two steps, with a strict umask.
    fs::set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();

    let postgres = start(place.path()).await;
    let mut names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "pg", "postgres.log", "run"]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn data_that_the_service_cannot_use_is_left_alone() {
    let place = place();
    let cluster = place.path().join("pg");
    fs::create_dir(&cluster).unwrap();
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        std::os::unix::fs::chown(&cluster, Some(nobody.uid.as_raw()), None).unwrap();
    }

    fs::write(cluster.join("something"), "precious").unwrap();
    let error = refusal(options(place.path())).await;
    assert!(matches!(error, PostgresError::NotACluster { .. }), "{error}");

    fs::write(cluster.join("PG_VERSION"), "11\n").unwrap();
    let error = refusal(options(place.path())).await;
    assert!(matches!(error, PostgresError::VersionMismatch { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("made by PostgreSQL 11"), "{error}");
    assert!(error.contains("postgresql-11"), "{error}");
    assert!(error.contains(&cluster.display().to_string()), "{error}");
    assert_eq!(fs::read_to_string(cluster.join("something")).unwrap(), "precious");
}

#[tokio::test]
async fn a_failed_start_says_why_at_once_and_spoils_nothing() {
    let place = place();
    // PostgreSQL reads the directory of the socket as one of a list.
    let data_dir = place.path().join("a, \"b\" c");
    let begun = Instant::now();
    let error = refusal(PostgresOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..options(&data_dir)
    })
    .await;
    assert!(matches!(error, PostgresError::EndedAtStart { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert!(begun.elapsed() < SOON);

    let postgres = start(&data_dir).await;
    // psql would take the comma for the end of a host.
    assert_eq!(postgres.socket_dir(), data_dir.join("run"));
    assert!(postgres.socket_dir().join(".s.PGSQL.5432").exists());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_private_one() {
    let place = place();
    let data_dir = place.path().join("so, \"long\" ".repeat(12));
    let postgres = start(&data_dir).await;
    let socket_dir = postgres.socket_dir().to_owned();
    assert!(!socket_dir.starts_with(&data_dir), "{}", socket_dir.display());
    assert_eq!(mode(&socket_dir), 0o700);
    assert_eq!(answer(&postgres, "SELECT 1"), "1");
    postgres.stop().await.unwrap();

    // Somebody else has put a link in its place.
    fs::remove_dir_all(&socket_dir).unwrap();
    std::os::unix::fs::symlink(place.path(), &socket_dir).unwrap();
    let error = refusal(options(&data_dir)).await;
    fs::remove_file(&socket_dir).unwrap();
    assert!(matches!(error, PostgresError::WrongKind { .. }), "{error}");
    assert!(error.to_string().contains(&socket_dir.display().to_string()));
}

#[needs("root")]
#[tokio::test]
async fn root_is_told_which_directory_is_closed_to_the_server() {
    let place = place();
    fs::set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();
    let data_dir = place.path().join("data");
    let error = refusal(options(&data_dir)).await;
    assert!(matches!(error, PostgresError::Closed { .. }), "{error}");
    assert!(error.to_string().contains(&format!("chmod o+x {}`", place.path().display())), "{error}");

    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(place.path().join("something"), "").unwrap();
    let error = refusal(options(place.path())).await;
    assert!(matches!(error, PostgresError::OpenToAll { .. }), "{error}");
}

#[tokio::test]
#[ignore = "runs as an ordinary user; another test runs it"]
async fn run_as_ordinary_user() {
    let data_dir = given_data_dir();
    let postgres = start(&data_dir).await;
    assert_eq!(answer(&postgres, "SELECT 1"), "1");
    let owner = fs::metadata(data_dir.join("pg")).unwrap().uid();
    assert_eq!(owner, geteuid().as_raw());
    assert_eq!(mode(&data_dir), 0o700);
    postgres.stop().await.unwrap();
    println!("\nran as uid {owner}");
}

/// Where somebody else runs the tests, every other is such a test.
#[needs("root")]
#[tokio::test]
async fn an_ordinary_user_can_run_it() {
    let nobody = User::from_name("nobody").unwrap().expect("there is an account for nobody");
    let place = place();
    // Where this program is may be closed to others.
    let program = place.path().join("program");
    copy_program(&std::env::current_exe().unwrap(), &program);
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();

    let output = this_program(&program, "run_as_ordinary_user", &home.join("data"))
        .uid(nobody.uid.as_raw())
        .gid(nobody.gid.as_raw())
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(&format!("ran as uid {}", nobody.uid)),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // Root does not work in a directory whose owner could change it meanwhile.
    let error = refusal(options(home.join("data"))).await;
    assert!(matches!(&error, PostgresError::WrongOwner { path, .. } if *path == home.join("data")), "{error}");
}
