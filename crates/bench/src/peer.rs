//! The peer: pgbench, with one serializable transaction for each heartbeat, against the same
//! tables.
//!
//! It is what a service without group commit could do at most: no HTTP, no decision, five round
//! trips.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;

use super::BenchError;
use super::load::percentile;

const SCRIPT: &str = "\
\\set n random(0, :groups - 1)
\\set s random(0, :sessions - 1)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT clock_timestamp(), failover_timeout_ticks, term, vacancy, watermark_base_at, handover_from FROM groups WHERE group_key = md5(:n::text)::uuid;
SELECT s.session_id, s.role, s.registered_at, h.percent_healthy_streams, h.received_at, h.lease_until, h.primary_sent_until FROM sessions s LEFT JOIN heartbeats h USING (group_key, session_id) WHERE s.group_key = md5(:n::text)::uuid;
UPDATE heartbeats SET percent_healthy_streams = 99.5, heartbeat_time = clock_timestamp(), last_data_send_time = clock_timestamp(), received_at = clock_timestamp(), lease_until = clock_timestamp() + interval '1 hour' WHERE group_key = md5(:n::text)::uuid AND session_id = 's' || :s::text;
COMMIT;
";

/// How to reach the database with PostgreSQL's own programs.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Where they are; `None` for PATH.
    pub bin_dir: Option<PathBuf>,
    /// Flags before the name of the database.
    pub flags: Vec<String>,
    /// Environment: a password is not for the command line.
    pub environment: Vec<(String, String)>,
}

/// What the peer did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerOutcome {
    /// Transactions, each of them a heartbeat, per second.
    pub per_second: f64,
    /// Half took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// Runs pgbench.
pub async fn run(
    reach: &Reach,
    database: &str,
    folder: &Path,
    (groups, sessions_per_group): (u64, u64),
    clients: usize,
    duration: Duration,
) -> Result<PeerOutcome, BenchError> {
    let failed = |cause: String| BenchError::Peer(cause);
    let script = folder.join("heartbeat.sql");
    tokio::fs::write(&script, SCRIPT).await.map_err(|error| failed(error.to_string()))?;
    let log = folder.join(format!("pgbench-{:08x}", fastrand::u32(..)));
    let program = match &reach.bin_dir {
        Some(dir) => dir.join("pgbench"),
        None => PathBuf::from("pgbench"),
    };
    let threads = clients.min(2);
    let output = Command::new(&program)
        .args(["--no-vacuum", "--protocol=prepared", "--max-tries=20", "--log"])
        .arg(format!("--log-prefix={}", log.display()))
        .arg(format!("--define=groups={groups}"))
        .arg(format!("--define=sessions={sessions_per_group}"))
        .arg(format!("--client={clients}"))
        .arg(format!("--jobs={threads}"))
        .arg(format!("--time={}", duration.as_secs().max(1)))
        .arg(format!("--file={}", script.display()))
        .args(&reach.flags)
        .arg(database)
        .envs(reach.environment.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(format!("{}: {error}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let per_second = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse::<f64>().ok())
        .filter(|_| output.status.success());
    let Some(per_second) = per_second else {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    };
    let mut latencies_us = read_latencies(folder, &log).map_err(|error| failed(error.to_string()))?;
    latencies_us.sort_unstable();
    Ok(PeerOutcome {
        per_second,
        p50_ms: percentile(&latencies_us, 0.5) / 1_000.0,
        p99_ms: percentile(&latencies_us, 0.99) / 1_000.0,
    })
}

/// The third column of each line of each thread's log, which is then removed.
fn read_latencies(folder: &Path, prefix: &Path) -> std::io::Result<Vec<u32>> {
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path())?;
        latencies.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
        std::fs::remove_file(entry.path())?;
    }
    Ok(latencies)
}
