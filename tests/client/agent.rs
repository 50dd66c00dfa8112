//! `client-failover run`: programs of other people as members of a group. Each writes a line with
//! its term into one file again and again; the order of the lines is the order of what was done.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::helpers::{TestApp, TestReplica, eventually};
use crate::support::program::{PROGRAM, for_tests, new_data_dir, program};

/// Writes who acts, and in which term, some fifty times a second, until it is killed or told to
/// end.
const ACTS: &str =
    r#"while :; do echo "$CLIENT_FAILOVER_TERM $CLIENT_FAILOVER_SESSION $$" >> "$RECORD"; sleep 0.02; done"#;

struct Site {
    app: TestApp,
    dir: PathBuf,
}

/// An agent. Killed when dropped, and then its program ends by itself.
struct Agent {
    child: Child,
}

#[derive(Debug, PartialEq)]
struct Line {
    term: i64,
    session: String,
    pid: i32,
}

impl Site {
    async fn new(timeout_ms: i64) -> Site {
        let app = TestApp::start().await;
        app.group_of("pump", timeout_ms, &[]).await;
        Site { app, dir: new_data_dir() }
    }

    fn command(&self, session: &str, options: &[&str], shell: &str) -> Command {
        let mut command = program();
        command.args(["run", "--group", "t/n/pump", "--server", &self.app.url, "--session", session]);
        command.args(options).args(["--", "sh", "-c", shell]);
        command.env("RECORD", self.record_file()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self, session: &str, options: &[&str], shell: &str) -> Agent {
        Agent { child: self.command(session, options, shell).spawn().expect("it starts") }
    }

    fn record_file(&self) -> PathBuf {
        self.dir.join("record")
    }

    fn record(&self) -> Vec<Line> {
        let text = fs::read_to_string(self.record_file()).unwrap_or_default();
        let line = |line: &str| {
            let parts: Vec<&str> = line.split(' ').collect();
            Some(Line {
                term: parts.first()?.parse().ok()?,
                session: (*parts.get(1)?).to_owned(),
                pid: parts.get(2)?.parse().ok()?,
            })
        };
        text.lines().filter_map(line).collect()
    }

    /// Waits until a program of that session acts, in a later term than that; its line.
    async fn acts(&self, session: &str, after: i64) -> Line {
        let found = || self.record().into_iter().find(|line| line.session == session && line.term > after);
        eventually("its program acts", async || found().is_some()).await;
        found().expect("it was there")
    }

    /// Nobody has acted in an older term after a newer one: the programs never overlapped.
    fn assert_in_order(&self) {
        let terms: Vec<i64> = self.record().iter().map(|line| line.term).collect();
        assert!(terms.is_sorted(), "A PROMISE IS BROKEN: {terms:?}");
    }
}

impl Agent {
    fn signal(&self, signal: Signal) {
        kill(pid_of(&self.child), signal).expect("it is there");
    }

    /// The process between it and its program.
    fn guardian(&self) -> Pid {
        children_of(pid_of(&self.child))[0]
    }

    async fn ends(&mut self) -> std::process::ExitStatus {
        let child = &mut self.child;
        let mut status = None;
        eventually("it ends", async || {
            status = child.try_wait().expect("it is ours");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill(pid_of(&self.child), Signal::SIGCONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let own = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect::<Vec<_>>();
    if !own.is_empty() {
        return own;
    }
    // Started by another thread.
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let all: Vec<String> = tasks.map(of_task).collect();
    all.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn is_gone(pid: i32) {
    eventually("the program is gone", async || !lives(pid)).await;
}

#[tokio::test]
async fn a_program_runs_at_one_place_and_another_takes_over_from_an_agent_that_is_killed() {
    let site = Site::new(2_000).await;
    let mut a = site.start("a", &[], ACTS);
    let first = site.acts("a", 0).await;
    let _b = site.start("b", &[], ACTS);
    a.child.kill().expect("it is ours");
    is_gone(first.pid).await;
    site.acts("b", first.term).await;
    site.assert_in_order();
}

#[tokio::test]
#[ignore = "measures for some minutes"]
async fn takeover_times() {
    const TIMES: usize = 50;
    let site = Site::new(1_000).await;
    let mut agents = [("a", site.start("a", &[], ACTS)), ("b", site.start("b", &[], ACTS))];
    let mut taken = Vec::new();
    let mut term = 0;
    for _ in 0..TIMES {
        eventually("one acts", async || site.record().last().is_some_and(|line| line.term > term)).await;
        let acting = site.record().pop().expect("it is there");
        term = acting.term;
        // Somewhere between two heartbeats, and with the other one as a standby.
        tokio::time::sleep(Duration::from_millis(1_000 + fastrand::u64(0..500))).await;
        let place = usize::from(agents[0].0 != acting.session);
        agents[place].1.child.kill().expect("it is ours");
        let killed = Instant::now();
        while site.record().last().is_none_or(|line| line.term <= term) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        taken.push(killed.elapsed());
        agents[place].1 = site.start(agents[place].0, &[], ACTS);
    }
    site.assert_in_order();
    taken.sort_unstable();
    println!("{TIMES} takeovers after kill -9: median {:?}, longest {:?}", taken[TIMES / 2], taken[TIMES - 1]);
}

#[tokio::test]
async fn a_stopped_agent_does_not_keep_its_program_alive() {
    let site = Site::new(2_000).await;
    let a = site.start("a", &[], ACTS);
    let first = site.acts("a", 0).await;
    let _b = site.start("b", &[], ACTS);
    a.signal(Signal::SIGSTOP);
    let second = site.acts("b", first.term).await;
    assert!(!lives(first.pid), "it was dead before that");
    site.assert_in_order();
    // It goes on as a standby.
    a.signal(Signal::SIGCONT);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.record().last().map(|line| line.term), Some(second.term));
    site.assert_in_order();
}

#[tokio::test]
async fn a_program_whose_guardian_is_killed_ends_with_it_and_is_started_again() {
    let site = Site::new(2_000).await;
    let a = site.start("a", &["--restart-pause", "1s"], ACTS);
    let first = site.acts("a", 0).await;
    kill(a.guardian(), Signal::SIGKILL).expect("it is there");
    is_gone(first.pid).await;
    eventually("it is started again", async || site.record().last().is_some_and(|line| line.pid != first.pid)).await;
    site.assert_in_order();
}

#[tokio::test]
async fn what_a_program_starts_and_leaves_behind_ends_with_it() {
    let site = Site::new(2_000).await;
    // A daemon: another session, another parent.
    let shell = r#"setsid sh -c 'trap "" TERM HUP; echo "$CLIENT_FAILOVER_TERM daemon $$" >> "$RECORD"; sleep 600' & sleep 600"#;
    let mut a = site.start("a", &[], shell);
    let daemon = site.acts("daemon", 0).await;
    a.child.kill().expect("it is ours");
    is_gone(daemon.pid).await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_end_lets_its_program_end_first() {
    let site = Site::new(60_000).await;
    let shell = format!(r#"trap 'echo "$CLIENT_FAILOVER_TERM ended $$" >> "$RECORD"; exit 0' TERM; {ACTS}"#);
    let mut a = site.start("a", &[], &shell);
    let first = site.acts("a", 0).await;
    let _b = site.start("b", &[], ACTS);
    eventually("the other stands by", async || {
        site.app.get("/pump").await.expect_ok()["Clients"]["b"]["Heartbeat"].is_object()
    })
    .await;
    let told = Instant::now();
    a.signal(Signal::SIGTERM);
    assert!(a.ends().await.success());
    site.acts("ended", 0).await;
    site.acts("b", first.term).await;
    assert!(told.elapsed() < Duration::from_secs(20), "nobody waited for the lease");
    site.assert_in_order();
}

#[tokio::test]
async fn with_once_the_agent_ends_as_its_program_does() {
    let site = Site::new(2_000).await;
    assert_eq!(site.start("a", &["--once"], "exit 7").ends().await.code(), Some(7));
    assert_eq!(site.start("b", &["--once"], "kill -9 $$").ends().await.code(), Some(137));
    let mut command = program();
    command.args(["run", "--group", "t/n/pump", "--server", &site.app.url, "--session", "c", "--once", "--"]);
    let mut c = Agent { child: command.arg("/no/such/program").spawn().expect("it starts") };
    assert_eq!(c.ends().await.code(), Some(127));
}

#[tokio::test]
async fn a_program_that_cannot_stay_up_gives_its_role_to_another() {
    let site = Site::new(2_000).await;
    let _a = site.start("a", &["--restarts", "2"], r#"echo "$CLIENT_FAILOVER_TERM a $$" >> "$RECORD"; exit 1"#);
    let first = site.acts("a", 0).await;
    let _b = site.start("b", &[], ACTS);
    site.acts("b", first.term).await;
    let runs = site.record().iter().filter(|line| line.session == "a").count();
    assert!(runs >= 2, "it was started again first");
    site.assert_in_order();
}

#[tokio::test]
async fn a_warm_program_is_told_its_role_in_every_way() {
    let site = Site::new(2_000).await;
    let status = site.dir.join("status.json");
    let status = status.to_str().expect("UTF-8");
    let port = crate::support::helpers::free_port();
    let address = format!("127.0.0.1:{port}");
    let record = site.record_file();
    let hook = |word: &str| format!("echo hook-{word} $CLIENT_FAILOVER_TERM >> {}.hooks", record.display());
    let (on_primary, on_secondary) = (hook("primary"), hook("secondary"));
    let options = [
        "--mode",
        "warm",
        "--stdin-lines",
        "--status-file",
        status,
        "--listen",
        &address,
        "--on-primary",
        &on_primary,
        "--on-secondary",
        &on_secondary,
        "--signal-primary",
        "USR1",
    ];
    let shell = r#"trap 'echo USR1 >> "$RECORD.lines"' USR1; while :; do if read -r line; then echo "$line" >> "$RECORD.lines"; fi; done"#;
    let a = site.start("a", &options, shell);
    let has = |name: &str, text: &str| {
        fs::read_to_string(format!("{}.{name}", record.display())).unwrap_or_default().contains(text)
    };
    let url = format!("http://{address}/");
    eventually("it is told", async || {
        has("lines", "Primary 1") && has("lines", "USR1") && has("hooks", "hook-primary 1")
    })
    .await;
    assert!(fs::read_to_string(status).expect("it is there").contains(r#""Role":"Primary""#));
    assert_eq!(site.app.http.get(&url).send().await.expect("it answers").status(), 200);
    let _b = site.start("b", &[], ACTS);
    site.app.delete("/pump/clientsessions/a?by=operator").await.expect_ok();
    eventually("it is told", async || has("lines", "Secondary 1") && has("hooks", "hook-secondary 1")).await;
    drop(a);
}

#[tokio::test]
async fn the_time_of_the_last_data_comes_from_a_pipe_or_from_a_command() {
    let site = Site::new(2_000).await;
    let pipe = site.dir.join("sent");
    let pipe = pipe.to_str().expect("UTF-8");
    let shell = format!("echo '2026-11-01T08:15:00.5Z' > {pipe}; sleep 600");
    let _a = site.start("a", &["--data-pipe", pipe], &shell);
    let says = async |session: &str, text: &str| {
        let group = site.app.get("/pump").await.expect_ok();
        let at = group["Clients"][session]["Heartbeat"]["LastDataSendTime"].as_str().map(str::to_owned);
        at.is_some_and(|at| at.starts_with(text))
    };
    eventually("it is told", async || says("a", "2026-11-01T08:15:00.5").await).await;
    let _b = site.start("b", &["--data-command", "echo 2026-11-02T08:15:00Z"], ACTS);
    eventually("it is told", async || says("b", "2026-11-02T08:15:00").await).await;
}

#[tokio::test]
async fn a_stopped_agent_does_not_keep_a_warm_program_acting() {
    let site = Site::new(2_000).await;
    let shell = r#"echo "1 warm $$" >> "$RECORD"; sleep 600"#;
    let status = site.dir.join("status.json");
    let a = site.start("a", &["--mode", "hot", "--status-file", status.to_str().expect("UTF-8")], shell);
    let program = site.acts("warm", 0).await;
    eventually("it is told", async || fs::read_to_string(&status).is_ok_and(|text| text.contains("Primary"))).await;
    a.signal(Signal::SIGSTOP);
    is_gone(program.pid).await;
}

#[tokio::test]
async fn a_warm_program_that_cannot_be_told_to_stop_is_killed() {
    let site = Site::new(2_000).await;
    let shell = r#"echo "1 warm $$" >> "$RECORD"; sleep 600"#;
    let a = site.start("a", &["--mode", "warm", "--on-secondary", "false", "--restart-pause", "1s"], shell);
    let program = site.acts("warm", 0).await;
    eventually("it is Primary", async || is_primary(&site.app, "a").await).await;
    site.app.delete("/pump/clientsessions/a?by=operator").await.expect_ok();
    is_gone(program.pid).await;
    drop(a);
}

async fn is_primary(app: &TestReplica, session: &str) -> bool {
    app.get("/pump").await.expect_ok()["Clients"][session]["Role"] == 1
}

#[tokio::test]
async fn an_agent_that_is_killed_beside_its_stopped_guardian_leaves_nothing_that_acts() {
    let site = Site::new(2_000).await;
    let mut a = site.start("a", &[], ACTS);
    let first = site.acts("a", 0).await;
    let guardian = a.guardian();
    kill(guardian, Signal::SIGSTOP).expect("it is there");
    // The kernel wakes one that has stopped when it loses its parent, and not one that is about to.
    eventually("it has stopped", async || {
        let stat = fs::read_to_string(format!("/proc/{guardian}/stat")).expect("it is there");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
    .await;
    a.child.kill().expect("it is ours");
    a.child.wait().expect("it is ours");
    let _again = site.start("a", &[], ACTS);
    let is_another = |line: &Line| line.pid != first.pid;
    eventually("it is started again", async || site.record().last().is_some_and(is_another)).await;
    is_gone(first.pid).await;
    let record = site.record();
    assert!(record.iter().skip_while(|line| !is_another(line)).all(is_another), "they were never there together");
}

#[tokio::test]
async fn a_program_is_not_started_while_one_of_before_is_guarded_still() {
    let site = Site::new(2_000).await;
    let mut a = site.start("a", &[], ACTS);
    let first = site.acts("a", 0).await;
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", a.guardian())).expect("it is there");
    let name = arguments.split('\0').nth(3).expect("it has a name").to_owned();
    a.child.kill().expect("it is ours");
    is_gone(first.pid).await;
    // A guardian that has not come to its end.
    let mut held = None;
    eventually("its guardian is gone", async || {
        held = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("it is one")).ok();
        held.is_some()
    })
    .await;
    let _again = site.start("a", &[], ACTS);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(site.record().iter().all(|line| line.pid == first.pid), "it waits");
    drop(held);
    eventually("it is started", async || site.record().last().is_some_and(|line| line.pid != first.pid)).await;
}

#[tokio::test]
async fn the_command_of_its_page_runs() {
    const PAGE: &str = include_str!("../../docs/agent.md");
    let script = PAGE.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let site = Site::new(2_000).await;
    let collector = site.dir.join("collector");
    fs::write(&collector, format!("#!/bin/sh\n{ACTS}\n")).expect("it is ours");
    fs::set_permissions(&collector, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let folder = Path::new(PROGRAM).parent().expect("it is in one").display();
    let mut bash = for_tests(Command::new("bash"));
    bash.args(["-c", &format!("exec {script}")]).current_dir(&site.dir);
    bash.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
    bash.env("CLIENT_FAILOVER_SERVER", &site.app.url).env("RECORD", site.record_file());
    bash.stdout(Stdio::null()).stderr(Stdio::null());
    let agent = Agent { child: bash.spawn().expect("bash is there") };
    eventually("its program acts", async || !site.record().is_empty()).await;
    drop(agent);
}

#[tokio::test]
async fn a_program_has_no_credentials_of_its_agent() {
    let site = Site::new(2_000).await;
    let found = site.dir.join("environment");
    let mut command = site.command("a", &["--once"], &format!("env > {}", found.display()));
    command.env("CLIENT_FAILOVER_TOKEN", "secret-of-the-agent");
    let mut agent = Agent { child: command.spawn().expect("it starts") };
    assert!(agent.ends().await.success());
    let environment = fs::read_to_string(Path::new(&found)).expect("it was written");
    assert!(environment.contains("CLIENT_FAILOVER_TERM=1") && environment.contains("CLIENT_FAILOVER_MODE=cold"));
    assert!(!environment.contains("secret-of-the-agent"), "{environment}");
}

#[tokio::test]
async fn health_comes_from_a_command() {
    let site = Site::new(2_000).await;
    let well = site.dir.join("well");
    fs::write(&well, "").expect("it is ours");
    let check = format!("test -e {}", well.display());
    let _a = site.start("a", &["--health-command", &check], ACTS);
    let first = site.acts("a", 0).await;
    let _b = site.start("b", &["--health-command", "echo 50"], ACTS);
    eventually("the other stands by", async || {
        site.app.get("/pump").await.expect_ok()["Clients"]["b"]["Heartbeat"]["PercentHealthyStreams"] == 50.0
    })
    .await;
    fs::remove_file(&well).expect("it is there");
    site.acts("b", first.term).await;
    site.assert_in_order();
}
