//! Commands of whoever set the agent up, by a shell.

use std::process::Stdio;
use std::time::Duration;

use client_failover_children::Tree;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::system;

/// A command, with nothing on its standard input.
pub fn command(text: &str) -> Command {
    let mut command = system::shell(text);
    command.stdin(Stdio::null()).kill_on_drop(true);
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
    let (mut shell, tree) = Tree::spawn(&mut command).map_err(cannot)?;
    let out = shell.stdout.take();
    let ran = async {
        let mut said = Vec::new();
        if let Some(mut out) = out {
            out.read_to_end(&mut said).await?;
        }
        Ok((shell.wait().await?, said))
    };
    let Ok(ended) = timeout(within, ran).await else {
        tree.kill();
        let _ = shell.wait().await;
        return Err(format!("took longer than {within:?}, and was killed"));
    };
    let (status, said) = ended.map_err(cannot)?;
    if !status.success() {
        return Err(format!("failed: {status}"));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
