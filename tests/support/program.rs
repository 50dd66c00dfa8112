//! The program, as people run it: started and read until it is up, or run to its end.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::helpers::{TestReplica, copy_program, eventually, remove_after_the_run, scratch_dir};

/// Where it is.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_client-failover");

/// The group of [`Running::set_up`].
pub const GROUP: &str = "/api/v1/tenants/t/namespaces/n/clientfailover/groups/g";

/// The program, with nothing in its environment that is meant for another.
pub fn program() -> Command {
    for_tests(Command::new(PROGRAM))
}

/// The same with another build of it.
pub fn program_at(path: impl AsRef<OsStr>) -> Command {
    for_tests(Command::new(path))
}

/// The program where every account may run it: the build may be in a folder that is closed to
/// others.
pub fn program_for_all() -> Command {
    let copy = new_data_dir().join("client-failover");
    copy_program(Path::new(PROGRAM), &copy);
    let mut command = for_tests(Command::new(copy));
    command.current_dir("/");
    command
}

/// The same of a command that starts the program.
pub fn for_tests(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CLIENT_FAILOVER") || name == "DATABASE_URL" || name.starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program of the folder that `API_TOOLS` names, or of the path.
pub fn find(program: &str) -> PathBuf {
    let folders = std::env::var_os("API_TOOLS").into_iter().chain(std::env::var_os("PATH"));
    let folders: Vec<PathBuf> = folders.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).collect();
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {program}"))
}

/// What a command says that has to succeed.
pub async fn output_of(command: &mut tokio::process::Command) -> String {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(600), command.output()).await.expect("it ends in time");
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The program with a data directory of its own, on a free port.
pub fn private(data_dir: &Path) -> Command {
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command
}

pub fn new_data_dir() -> PathBuf {
    let dir = scratch_dir("process");
    remove_after_the_run(&dir);
    dir
}

/// A running service. Killed when dropped.
pub struct Running {
    child: Child,
    pub url: String,
    pub banner: String,
    pub http: reqwest::Client,
}

impl Running {
    /// Starts it and reads its banner.
    pub async fn start(mut command: Command) -> Running {
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("it starts");
            let mut banner = String::new();
            let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
            while !banner.contains(" demo\n") {
                if output.read_line(&mut banner).expect("it is text") == 0 {
                    let mut said = String::new();
                    let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                    panic!("it ended ({:?}): {banner}{said}", child.wait());
                }
            }
            let url = banner
                .split_whitespace()
                .find(|word| word.starts_with("http://") || word.starts_with("https://"))
                .expect("it has a URL");
            let url = url.trim_end_matches('.').to_owned();
            Running { child, url, banner, http: reqwest::Client::new() }
        })
        .await
        .expect("it starts")
    }

    pub async fn ask(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let answer =
            self.http.request(method, format!("{}{path}", self.url)).json(&body).send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("it is JSON"))
    }

    pub async fn set_up(&self) {
        assert_eq!(self.ask(reqwest::Method::PUT, GROUP, json!({"Milliseconds": 60_000})).await.0, 200);
        for session in ["a", "b"] {
            let path = format!("{GROUP}/clientsessions");
            assert_eq!(self.ask(reqwest::Method::POST, &path, json!({"Id": session})).await.0, 200);
        }
    }

    pub async fn beat(&self, session: &str) -> Value {
        let path = format!("{GROUP}/clientsessions/{session}");
        let (status, body) = self.ask(reqwest::Method::POST, &path, json!({"PercentHealthyStreams": 100})).await;
        assert_eq!(status, 200, "{body}");
        body["Role"].clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a number")), signal).expect("it is ours");
    }

    /// As when whoever reads its log goes away.
    pub fn close_standard_error(&mut self) {
        drop(self.child.stderr.take());
    }

    /// Its exit code, within 10 s, and what it said on standard error.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        let mut status = None;
        eventually("the service ends", async || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let said = self.child.stderr.take().map(read_all).unwrap_or_default();
        (status.and_then(|status| status.code()), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stderr: ChildStderr) -> String {
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("it is text");
    said
}

/// Runs it to its end, with that on its standard input.
async fn run_to_its_end(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // Whoever does not want it may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    });
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends by itself").expect("it runs")
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The output, which is one JSON document.
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// The output, which is one YAML document.
    #[track_caller]
    pub fn yaml(self) -> Value {
        let out = self.ok();
        serde_saphyr::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What it says when it fails with that code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("error: "), "{self:?}");
        self.err
    }
}

/// Runs it to its end.
pub async fn run(command: Command) -> Ran {
    run_with(command, "").await
}

/// The same with that on its standard input.
pub async fn run_with(command: Command, input: &str) -> Ran {
    let output = run_to_its_end(command, input).await;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().expect("it is not killed"), out: text(output.stdout), err: text(output.stderr) }
}

/// What it says, on one line, when it cannot be used like that.
pub async fn refusal(command: Command) -> String {
    let ran = run(command).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
    ran.err
}

/// The program for a service, in tenant `t` and namespace `n`, without a profile of whoever runs
/// the tests.
pub fn operator(url: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments);
    as_operator(command, url)
}

/// The same of a command that starts the program.
pub fn as_operator(mut command: Command, url: &str) -> Command {
    command.env("CLIENT_FAILOVER_SERVER", url).env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("CLIENT_FAILOVER_TENANT", "t").env("CLIENT_FAILOVER_NAMESPACE", "n").env_remove("NO_COLOR");
    command
}

/// What an operator's command does.
pub async fn operate(app: &TestReplica, arguments: &[&str]) -> Ran {
    run(operator(&app.url, arguments)).await
}
