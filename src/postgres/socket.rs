//! Where the server's Unix socket is: in the data directory, or, when that has a path too long
//! for a socket, in a private directory of its own below the temporary one.
//!
//! The socket lets everybody in who reaches it, so nobody else may reach it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::PostgresError;
use super::directory::{DataDir, private_dir};

/// What fits into `sockaddr_un` everywhere: Linux has room for 107 bytes, macOS for 103.
const LONGEST_PATH: usize = 103;

const NAME: &str = ".s.PGSQL.";

/// Makes the directory for the socket.
pub fn prepare(data: &DataDir, port: u16) -> Result<PathBuf, PostgresError> {
    let dir = choose(data, port)?;
    private_dir(&dir, data.account())?;
    Ok(dir)
}

fn choose(data: &DataDir, port: u16) -> Result<PathBuf, PostgresError> {
    let usual = data.socket_dir();
    if fits(&usual, port) {
        return Ok(usual);
    }
    let name = short_name(data.path());
    [env::temp_dir(), PathBuf::from("/tmp")]
        .into_iter()
        .filter_map(|temporary| fs::canonicalize(temporary).ok())
        .filter(|temporary| data.account().first_closed(temporary).is_none())
        .map(|temporary| temporary.join(&name))
        .find(|dir| fits(dir, port))
        .ok_or(PostgresError::SocketPathTooLong { dir: usual, limit: LONGEST_PATH })
}

fn fits(dir: &Path, port: u16) -> bool {
    dir.join(format!("{NAME}{port}")).as_os_str().len() <= LONGEST_PATH
}

/// The same for the same data, so that a restart finds, and tidies, what it left.
fn short_name(data: &Path) -> String {
    // FNV-1a. The standard hasher may change with the compiler; collisions of accident are
    // unlikely, and those of malice need write access to the account's own directories.
    let hash =
        data.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("client-failover-{}-{hash:016x}", geteuid())
}

/// Removes what a killed server left. Call it only when none runs on the data: a lock file of a
/// socket whose process id somebody else has got since would keep the next one from starting.
pub fn remove_stale(dir: &Path) -> Result<(), PostgresError> {
    let entries = fs::read_dir(dir).map_err(PostgresError::io("read", dir))?;
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(NAME.as_bytes()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(PostgresError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_name_depends_on_the_data_and_on_nothing_else() {
        let one = short_name(Path::new("/one"));
        assert_eq!(one, short_name(Path::new("/one")));
        assert_ne!(one, short_name(Path::new("/two")));
        assert!(fits(&Path::new("/tmp").join(one), 65535));
    }

    #[test]
    fn only_what_belongs_to_a_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock", "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_stale(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }
}
