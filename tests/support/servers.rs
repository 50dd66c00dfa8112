//! PostgreSQL servers of one test's own, as a customer has them: over TCP, with standbys that
//! replicate, and put to death.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client_failover::postgres::{Postgres, PostgresOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::helpers::{eventually, free_port, remove_after_the_run, scratch_dir};

/// A running server, reached over TCP by everybody as anybody. Ends with this value.
pub struct Server {
    pub port: u16,
    bin: PathBuf,
    data: PathBuf,
    child: Child,
}

impl Server {
    /// A new one with these settings.
    pub async fn start(settings: &[(&str, &str)]) -> Server {
        let bin = bin_dir().await;
        let data = folder("server");
        let made = as_server(&bin.join("initdb"))
            .args(["-U", "postgres", "--auth=trust", "--no-locale", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb runs").success());
        let mut text = "wal_level = replica\nunix_socket_directories = ''\nfsync = off\n".to_owned();
        for (name, value) in settings {
            text += &format!("{name} = '{value}'\n");
        }
        append(&data.join("postgresql.conf"), &text);
        Server::run(bin, data).await
    }

    async fn run(bin: PathBuf, data: PathBuf) -> Server {
        let port = free_port();
        let child = Server::spawn(&bin, &data, port);
        let server = Server { port, bin, data, child };
        eventually("the server answers", async || PgConnection::connect_with(&server.connect_options()).await.is_ok())
            .await;
        server
    }

    fn spawn(bin: &Path, data: &Path, port: u16) -> Child {
        as_server(&bin.join("postgres"))
            .arg("-D")
            .arg(data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres runs")
    }

    /// A standby of it, which has everything that it has now and gets what comes.
    pub async fn standby(&self) -> Server {
        let data = self.back_up("standby", &["-R"]);
        Server::run(self.bin.clone(), data).await
    }

    /// A copy of its files, to be put back later.
    pub async fn copy(&self) -> PathBuf {
        self.back_up("copy", &[])
    }

    fn back_up(&self, name: &str, more: &[&str]) -> PathBuf {
        let data = folder(name);
        let copied = as_server(&self.bin.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-X", "stream", "-c", "fast"])
            .args(more)
            .arg("-p")
            .arg(self.port.to_string())
            .arg("-D")
            .arg(&data)
            .status();
        assert!(copied.expect("pg_basebackup runs").success());
        data
    }

    /// Goes on with these files, after it has ended.
    pub async fn put_back(&mut self, data: PathBuf) {
        self.child = Server::spawn(&self.bin, &data, self.port);
        self.data = data;
        eventually("the server answers", async || PgConnection::connect_with(&self.connect_options()).await.is_ok())
            .await;
    }

    /// Loads what its database holds into another database of it.
    pub fn load_dump_into(&self, database: &str) {
        let program = |name: &str| {
            let mut command = as_server(&self.bin.join(name));
            command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(self.port.to_string());
            command
        };
        let dump = program("pg_dump").arg("postgres").output().expect("pg_dump runs");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let mut load = program("psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql runs");
        load.stdin.take().expect("it is piped").write_all(&dump.stdout).expect("it reads");
        assert!(load.wait().expect("it ends").success());
    }

    /// Ends it in order: standbys get all that was committed.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a number"));
        let _ = kill(pid, Signal::SIGINT);
        let _ = self.child.wait();
    }

    /// It stands still, with all that it has begun.
    pub fn pause(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// It goes on where it stood, after a while.
    pub async fn resume_soon(&self, after: Duration) {
        tokio::time::sleep(after).await;
        self.signal_all(Signal::SIGCONT);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.child.id().to_string();
        let children = Command::new("pgrep").args(["-P", &postmaster]).output().expect("pgrep is there").stdout;
        let children = String::from_utf8_lossy(&children).into_owned();
        let pids = children.lines().chain([postmaster.as_str()]).filter_map(|line| line.trim().parse().ok());
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until a standby has everything that was committed here until now.
    pub async fn wait_for(&self, standby: &Server) {
        let at = self.value("SELECT pg_current_wal_lsn()::text").await;
        let question = format!("SELECT (pg_last_wal_replay_lsn() >= '{at}')::text");
        eventually("the standby has it", async || standby.value(&question).await == "true").await;
    }

    /// Has a standby receive nothing more: what is committed from now on it will lack.
    pub async fn leave_its_primary(&self) {
        self.execute("ALTER SYSTEM SET primary_conninfo = ''").await;
        self.execute("SELECT pg_reload_conf()").await;
        let receives = "SELECT count(*)::text FROM pg_stat_wal_receiver";
        eventually("it receives nothing more", async || self.value(receives).await == "0").await;
    }

    /// Makes a standby a primary.
    pub async fn promote(&self) {
        assert_eq!(self.value("SELECT pg_promote(true, 30)::text").await, "true");
    }

    /// Ends it as a failure does, without a word to anybody.
    pub fn kill(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a number"));
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.child.wait();
    }

    /// Starts it again where it was, after it was killed, and does not wait for it.
    pub fn start_again(&mut self) {
        self.child = Server::spawn(&self.bin, &self.data, self.port);
    }

    /// As its superuser.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.connect_options()).await.expect("the server answers")
    }

    pub async fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&mut self.connect().await).await.expect("the statement runs");
    }

    /// The one text that a question is answered with.
    pub async fn value(&self, question: &str) -> String {
        let question = AssertSqlSafe(question.to_owned());
        sqlx::query_scalar(question).fetch_one(&mut self.connect().await).await.expect("it is answered")
    }

    /// Who may connect how from now on.
    pub async fn set_hba(&self, lines: &str) {
        std::fs::write(self.data.join("pg_hba.conf"), lines).expect("it can be written");
        self.execute("SELECT pg_reload_conf()").await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The account that servers run under: they refuse to be root.
fn account() -> Option<User> {
    let named = |name| User::from_name(name).ok().flatten();
    geteuid().is_root().then(|| named("postgres").or_else(|| named("nobody")).expect("there is an account for servers"))
}

pub fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some(account) = account() {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

/// A place for a server's files, in a folder of its account.
fn folder(name: &str) -> PathBuf {
    let dir = scratch_dir(name);
    remove_after_the_run(&dir);
    give_to_servers(&dir);
    dir.join("data")
}

/// Has a folder belong to the account of servers.
pub fn give_to_servers(dir: &Path) {
    if let Some(account) = account() {
        std::os::unix::fs::chown(dir, Some(account.uid.as_raw()), Some(account.gid.as_raw())).expect("we are root");
    }
}

pub fn append(file: &Path, text: &str) {
    let before = std::fs::read_to_string(file).expect("it is there");
    std::fs::write(file, before + text).expect("it can be written");
}

/// Where the programs are that the service finds.
async fn bin_dir() -> PathBuf {
    static FOUND: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    let find = async || {
        let dir = scratch_dir("programs");
        remove_after_the_run(&dir);
        let options = PostgresOptions { data_dir: dir, bin_dir: None, settings: Vec::new() };
        let server = Postgres::start(options).await.expect("a private server starts");
        let found = server.bin_dir().to_owned();
        server.stop().await.expect("it stops");
        found
    };
    FOUND.get_or_init(find).await.clone()
}
