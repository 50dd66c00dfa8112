//! Two PostgreSQL nodes under Patroni, etcd, and HAProxy in front of whoever leads.

use super::*;

/// Patroni takes no shorter ones.
const TTL: Duration = Duration::from_secs(20);

/// Two nodes and what holds them together. Everything ends with the value.
pub struct Cluster {
    pub etcd: Child,
    pub proxy: Child,
    pub nodes: [Node; 2],
    pub port: u16,
    pub etcd_port: u16,
    pub dir: PathBuf,
    pub is_synchronous: bool,
    /// While it is set, the first session of each group is less healthy than the other.
    pub is_first_ill: Arc<AtomicBool>,
}

pub struct Node {
    pub patroni: Option<Child>,
    pub file: PathBuf,
    pub data: PathBuf,
    pub rest_port: u16,
}

/// As root the programs run under an account that PostgreSQL accepts.
pub fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        let user = account();
        // Not where the tests stand: that account may not be let in there, and initdb needs a
        // folder.
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    }
    // A group of its own, so that a signal reaches the children too.
    command.process_group(0).stdin(Stdio::null());
    command
}

pub fn account() -> User {
    ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten()).expect("an account")
}

pub fn log_to(command: &mut Command, file: &Path) {
    let out = std::fs::File::create(file).expect("the folder is ours");
    command.stderr(out.try_clone().expect("a second handle")).stdout(out);
}

impl Cluster {
    pub async fn start(is_synchronous: bool) -> Cluster {
        let binaries = client_failover_binaries();
        let dir = scratch_dir("patroni");
        remove_after_the_run(&dir);
        let own = |path: &Path| {
            if geteuid().is_root() {
                let user = account();
                chown(path, Some(user.uid), Some(user.gid)).expect("root may");
            }
        };
        own(&dir);
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let mut etcd = unprivileged("etcd");
        etcd.args(["--name", "e", "--log-level", "error"])
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg(format!("--initial-cluster=e=http://127.0.0.1:{peer_port}"))
            // Patroni of Debian 12 speaks to it over HTTP by the older interface.
            .arg("--enable-v2=true");
        log_to(&mut etcd, &dir.join("etcd.log"));
        let etcd = etcd.spawn().expect("etcd starts");
        let mut nodes = Vec::new();
        let mut servers = String::new();
        for name in ["one", "two"] {
            let (postgres_port, rest_port) = (free_port(), free_port());
            let data = dir.join(name);
            let file = dir.join(format!("{name}.yml"));
            let text = format!(
                "scope: plant
name: {name}
restapi: {{listen: '127.0.0.1:{rest_port}', connect_address: '127.0.0.1:{rest_port}'}}
etcd: {{host: '127.0.0.1:{etcd_port}'}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: {is_synchronous}
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 100, wal_log_hints: 'on'}}
  initdb: [{{encoding: UTF8}}, data-checksums, {{auth: trust}}]
  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
  - host replication all 127.0.0.1/32 trust
postgresql:
  listen: 127.0.0.1:{postgres_port}
  connect_address: 127.0.0.1:{postgres_port}
  data_dir: {data}
  bin_dir: {binaries}
  pgpass: {dir}/pgpass-{name}
  authentication:
    superuser: {{username: postgres, password: x}}
    replication: {{username: replicator, password: x}}
    rewind: {{username: rewinder, password: x}}
  parameters: {{unix_socket_directories: ''}}
",
                ttl = TTL.as_secs(),
                data = data.display(),
                binaries = binaries.display(),
                dir = dir.display(),
            );
            std::fs::write(&file, text).expect("the folder is ours");
            servers += &format!(
                "  server {name} 127.0.0.1:{postgres_port} check port {rest_port} on-marked-down shutdown-sessions\n"
            );
            nodes.push(Node { patroni: None, file, data, rest_port });
        }
        let configuration = dir.join("haproxy.cfg");
        let text = format!(
            "defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
listen leader
  bind 127.0.0.1:{port}
  option httpchk GET /primary
  http-check expect status 200
  default-server inter 300 fall 2 rise 1
{servers}"
        );
        std::fs::write(&configuration, text).expect("the folder is ours");
        let mut proxy = unprivileged("haproxy");
        proxy.arg("-db").arg("-f").arg(&configuration);
        log_to(&mut proxy, &dir.join("haproxy.log"));
        let proxy = proxy.spawn().expect("HAProxy starts");
        let nodes = nodes.try_into().unwrap_or_else(|_| unreachable!("there are two"));
        let is_first_ill = Arc::default();
        let mut cluster = Cluster { etcd, proxy, nodes, port, etcd_port, dir, is_synchronous, is_first_ill };
        for i in 0..2 {
            cluster.start_node(i);
        }
        cluster.wait_until_whole(Duration::from_secs(60)).await;
        cluster
    }

    pub fn start_node(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let mut command = unprivileged("patroni");
        command.arg(&node.file);
        log_to(&mut command, &node.file.with_extension("log"));
        node.patroni = Some(command.spawn().expect("Patroni starts"));
    }

    /// Waits until one node leads and the other follows it in the same history.
    pub async fn wait_until_whole(&self, limit: Duration) {
        let began = Instant::now();
        while began.elapsed() < limit {
            let states = self.states().await;
            let count = |role: &str| states.iter().filter(|state| state.as_deref() == Some(role)).count();
            if count("leader") == 1 && count("replica") == 1 && self.is_synchronised().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let logs = ["one.log", "two.log"].map(|log| std::fs::read_to_string(self.dir.join(log)).unwrap_or_default());
        let tail = |log: &String| log.lines().rev().take(15).map(|line| format!("\n{line}")).collect::<String>();
        panic!("the cluster is not whole after {limit:?}:{}\n--{}", tail(&logs[0]), tail(&logs[1]));
    }

    /// `leader`, `replica` or nothing, of each node.
    pub async fn states(&self) -> [Option<String>; 2] {
        let http = reqwest::Client::new();
        let mut states = [None, None];
        for (node, state) in std::iter::zip(&self.nodes, &mut states) {
            for (path, name) in [("primary", "leader"), ("replica", "replica")] {
                let url = format!("http://127.0.0.1:{}/{path}", node.rest_port);
                let answer = http.get(url).timeout(Duration::from_secs(1)).send().await;
                if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                    *state = Some(name.to_owned());
                }
            }
        }
        states
    }

    /// Whether the follower streams what the leader writes, and, where it is to be, as a
    /// synchronous standby.
    pub async fn is_synchronised(&self) -> bool {
        let Ok(mut connection) = PgConnection::connect_with(&self.connect_options("postgres")).await else {
            return false;
        };
        let asked = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'
            AND (current_setting('synchronous_standby_names') = '' OR sync_state = 'sync')";
        let streaming: Result<i64, _> = sqlx::query_scalar(asked).fetch_one(&mut connection).await;
        streaming.is_ok_and(|count| count == 1)
    }

    pub async fn leader(&self) -> usize {
        for _ in 0..600 {
            if let Some(i) = self.states().await.iter().position(|state| state.as_deref() == Some("leader")) {
                return i;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nobody leads");
    }

    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// Has the other node lead, and waits until it does.
    pub async fn switch_over(&mut self) {
        let leader = self.leader().await;
        let names = ["one", "two"];
        let url = format!("http://127.0.0.1:{}/switchover", self.nodes[leader].rest_port);
        let body = json!({"leader": names[leader], "candidate": names[1 - leader]});
        let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("Patroni answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        while self.leader().await == leader {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn postmaster(&self, i: usize) -> Pid {
        let file = std::fs::read_to_string(self.nodes[i].data.join("postmaster.pid")).expect("the server runs");
        Pid::from_raw(file.lines().next().and_then(|line| line.trim().parse().ok()).expect("a number"))
    }

    /// The server and all of its backends at once.
    pub fn signal_server(&self, i: usize, signal: Signal) {
        let postmaster = self.postmaster(i);
        let children = self.processes(i, "");
        let _ = kill(postmaster, signal);
        for child in children {
            let _ = kill(child, signal);
        }
    }

    /// The processes of a server that do that, by what they call themselves.
    pub fn processes(&self, i: usize, what: &str) -> Vec<Pid> {
        let postmaster = self.postmaster(i).to_string();
        let found = Command::new("pgrep").args(["-P", &postmaster, "-f", what]).output().expect("pgrep is there");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        found.lines().filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw).collect()
    }

    /// The node is gone, server and all, without a word.
    pub fn kill_node(&mut self, i: usize) {
        self.signal_server(i, Signal::SIGKILL);
        if let Some(mut patroni) = self.nodes[i].patroni.take() {
            let _ = kill(Pid::from_raw(-(patroni.id() as i32)), Signal::SIGKILL);
            let _ = patroni.wait();
        }
    }

    pub fn signal_node(&self, i: usize, signal: Signal) {
        let patroni = self.nodes[i].patroni.as_ref().expect("it runs").id();
        let _ = kill(Pid::from_raw(-(patroni as i32)), signal);
        self.signal_server(i, signal);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let end = |child: &mut Child| {
            let _ = kill(Pid::from_raw(-(child.id() as i32)), Signal::SIGKILL);
            let _ = child.wait();
        };
        for i in 0..2 {
            if let Some(patroni) = &mut self.nodes[i].patroni {
                let _ = kill(Pid::from_raw(patroni.id() as i32), Signal::SIGCONT);
                end(patroni);
            }
            if self.nodes[i].data.join("postmaster.pid").exists() {
                self.signal_server(i, Signal::SIGKILL);
            }
        }
        end(&mut self.proxy);
        end(&mut self.etcd);
    }
}

/// Where PostgreSQL's programs are, as the service finds them.
pub fn client_failover_binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin"))).max());
    versions.ok().flatten().unwrap_or_else(|| PathBuf::from("/usr/bin"))
}
