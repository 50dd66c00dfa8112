//! Commands of whoever set the agent up, by a shell.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// A command, with nothing on its standard input.
pub fn command(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

/// Runs it to its end; what it printed, where that is piped. One that takes too long is killed,
/// with what it has started in its process group, and is gone when this returns.
///
/// # Errors
///
/// It did not end well; the text goes on from its name.
pub async fn run(mut command: Command, within: Duration) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be run: {error}");
    let mut shell = command.spawn().map_err(cannot)?;
    let group = shell.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let out = shell.stdout.take();
    let ran = async {
        let mut said = Vec::new();
        if let Some(mut out) = out {
            out.read_to_end(&mut said).await?;
        }
        Ok((shell.wait().await?, said))
    };
    let Ok(ended) = timeout(within, ran).await else {
        if let Some(group) = group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = shell.wait().await;
        return Err(format!("took longer than {within:?}, and was killed"));
    };
    let (status, said) = ended.map_err(cannot)?;
    if !status.success() {
        return Err(format!("failed: {status}"));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
