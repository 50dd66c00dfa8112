use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The number of what asks a program to end.
pub const END: i64 = Signal::SIGTERM as i64;

/// Before anything else.
pub fn begin() -> io::Result<()> {
    // What a guardian that was killed leaves behind comes here.
    Ok(set_child_subreaper(true)?)
}

/// Says so at the first SIGTERM, SIGINT or SIGHUP.
pub fn on_end(stop: &watch::Sender<bool>) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let (mut heard, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            heard.recv().await;
            stop.send_replace(true);
        });
    }
    Ok(())
}

/// The number of a signal.
pub fn signal_named(name: &str) -> Result<i64, String> {
    let upper = name.to_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let signal: Signal = full.parse().map_err(|_| format!("'{name}' is not a signal, such as USR1"))?;
    Ok(signal as i64)
}

/// How a program has ended that has ended by that signal.
pub fn ended_by(number: i64) -> String {
    match Signal::try_from(i32::try_from(number).unwrap_or(0)) {
        Ok(signal) => format!("by {signal}"),
        Err(_) => format!("by the signal {number}"),
    }
}

/// The name of this host.
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// A command for the shell.
pub fn shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

/// A named pipe for the times of data, made where there is none. It is held open for writing as
/// well, so that it has no end when the program has one. Nobody else may write to it.
pub fn open_pipe(path: &Path) -> io::Result<pipe::Receiver> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let file = std::fs::File::options().read(true).write(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)?;
    let found = file.metadata()?;
    if !found.file_type().is_fifo() {
        return Err(io::Error::other("it is a file of another kind"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    pipe::Receiver::from_owned_fd(file.into())
}

/// Tells the service manager (systemd's `sd_notify`), if there is one that wants to know.
pub fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        // Nothing depends on it.
        let _ = socket.send_to_addr(text.as_bytes(), &address);
    }
}
