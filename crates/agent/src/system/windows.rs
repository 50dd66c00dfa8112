use std::io;
use std::path::Path;

use client_failover_children::windows::fine_timers;
use tokio::process::Command;
use tokio::signal::windows;
use tokio::sync::watch;

/// The numbers of what asks a program to end and of what kills it, as they are elsewhere.
pub const END: i64 = 15;
/// See above.
pub const KILL: i64 = 9;

/// Before anything else.
pub fn begin() -> io::Result<()> {
    fine_timers();
    Ok(())
}

/// Says so at the first Ctrl-C or Ctrl-Break, and when the console, the session or the machine is
/// closed.
pub fn on_end(stop: &watch::Sender<bool>) -> io::Result<()> {
    let (mut c, mut r#break, mut close) = (windows::ctrl_c()?, windows::ctrl_break()?, windows::ctrl_close()?);
    let (mut logoff, mut shutdown) = (windows::ctrl_logoff()?, windows::ctrl_shutdown()?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = c.recv() => {}
            _ = r#break.recv() => {}
            _ = close.recv() => {}
            _ = logoff.recv() => {}
            _ = shutdown.recv() => {}
        }
        stop.send_replace(true);
    });
    Ok(())
}

/// There are none to tell anybody anything.
pub fn signal_named(_name: &str) -> Result<i64, String> {
    Err("Windows has no signals that tell a program its role: use --stdin-lines, --status-file, --on-primary and \
         --on-secondary, or --listen"
        .to_owned())
}

/// How a program has ended that its job has ended.
pub fn ended_by(_number: i64) -> String {
    "by force".to_owned()
}

/// The name of this host.
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// A command for the shell.
pub fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd");
    // As it stands: of quotes it takes the outer ones away.
    command.args(["/D", "/S", "/C"]).raw_arg(format!("\"{text}\""));
    command
}

/// There are none in a folder.
pub fn open_pipe(_path: &Path) -> io::Result<tokio::io::Empty> {
    Err(io::Error::other("Windows has no pipes that are files: use --data-file or --data-command"))
}

/// No service manager is told anything.
pub fn notify(_text: &str) {}
