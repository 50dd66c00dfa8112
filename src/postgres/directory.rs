//! The data directory: who owns it, what is in it, and the lock that keeps it to one service.
//!
//! ```text
//! lock          held for as long as a service uses the directory; has its process id
//! pg/           the cluster, only for the account that runs PostgreSQL
//! pg.new.*/     a cluster that initdb has not finished
//! run/          the socket, only for that account
//! postgres.log* what the server says
//! ```

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Uid, geteuid};
use tracing::{info, warn};

use super::PostgresError;
use super::account::{Account, name_of};

const LOCK: &str = "lock";
const CLUSTER: &str = "pg";
const SOCKET: &str = "run";
const LOG: &str = "postgres.log";
/// What a file system of its own has from the start.
const RECOVERED: &str = "lost+found";
/// What the name of an unfinished cluster begins with.
pub const UNFINISHED: &str = "pg.new.";

/// A data directory that this process, and no other, works with until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    /// Absolute and without symbolic links.
    path: PathBuf,
    account: Account,
    _lock: Lock,
}

impl DataDir {
    /// Makes the directory when it is missing and takes it for this process.
    pub fn open(path: &Path) -> Result<DataDir, PostgresError> {
        let path = std::path::absolute(path).map_err(PostgresError::io("find", path))?;
        create_way(&path)?;
        let path = fs::canonicalize(&path).map_err(PostgresError::io("find", &path))?;
        check_owner(&path)?;
        check_writers(&path)?;
        let lock = Lock::take(&path)?;
        let account = Account::choose(&path.join(CLUSTER))?;
        let_pass(&path, &account)?;
        Ok(DataDir { path, account, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    pub fn cluster(&self) -> PathBuf {
        self.path.join(CLUSTER)
    }

    pub fn socket_dir(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }
}

/// What root makes must let the account of the server pass, whatever the umask; what is inside
/// is closed to others on its own.
fn way_mode() -> u32 {
    if geteuid().is_root() { 0o711 } else { 0o700 }
}

fn create_way(path: &Path) -> Result<(), PostgresError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_way(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(way_mode()))
            .map_err(PostgresError::io("set the permissions of", path)),
        // Another service was quicker; the lock decides between the two.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(PostgresError::io("create", path)(error)),
    }
}

/// The owner of the directory can replace everything in it.
fn check_owner(path: &Path) -> Result<(), PostgresError> {
    let found = fs::metadata(path).map_err(PostgresError::io("inspect", path))?;
    let owner = Uid::from_raw(found.uid());
    if owner != geteuid() && !owner.is_root() {
        return Err(PostgresError::WrongOwner {
            path: path.to_owned(),
            owner: name_of(owner),
            wanted: name_of(geteuid()),
        });
    }
    Ok(())
}

/// Whoever may write to the directory can put a cluster of their own there, or exchange ours.
fn check_writers(path: &Path) -> Result<(), PostgresError> {
    let found = fs::metadata(path).map_err(PostgresError::io("inspect", path))?;
    if found.mode() & 0o002 == 0 {
        return Ok(());
    }
    let is_new = || Ok(entries(path)?.iter().all(|name| name == RECOVERED));
    if found.uid() == geteuid().as_raw() && is_new()? {
        return fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7775))
            .map_err(PostgresError::io("set the permissions of", path));
    }
    // Root would run the server as the owner of the cluster it finds.
    if geteuid().is_root() {
        return Err(PostgresError::OpenToAll { path: path.to_owned() });
    }
    warn!(
        directory = %path.display(),
        "every local user may write to the data directory; close it with chmod o-w"
    );
    Ok(())
}

fn entries(path: &Path) -> Result<Vec<OsString>, PostgresError> {
    fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(PostgresError::io("read", path))
}

/// Whether there is nothing in the directory but what belongs there.
fn is_ours(path: &Path) -> Result<bool, PostgresError> {
    Ok(entries(path)?.iter().all(|name| {
        let name = name.to_string_lossy();
        matches!(name.as_ref(), LOCK | CLUSTER | SOCKET | RECOVERED)
            || name.starts_with(UNFINISHED)
            || name.starts_with(LOG)
    }))
}

/// Opens a directory of ours that was made by somebody stricter (a temporary one, say), but never
/// one that has other things in it.
fn let_pass(path: &Path, account: &Account) -> Result<(), PostgresError> {
    let Account::Lent { .. } = account else {
        return Ok(());
    };
    if account.first_closed(path).as_deref() != Some(path) || !is_ours(path)? {
        return Ok(());
    }
    let found = fs::metadata(path).map_err(PostgresError::io("inspect", path))?;
    fs::set_permissions(path, Permissions::from_mode((found.mode() | way_mode()) & 0o7777))
        .map_err(PostgresError::io("set the permissions of", path))
}

/// Makes, or makes sure of, a directory that only `account` (and root) can enter.
pub fn private_dir(path: &Path, account: &Account) -> Result<(), PostgresError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PostgresError::io("create", path)(error)),
    }
    let dir = open_dir(path)?;
    let found = dir.metadata().map_err(PostgresError::io("inspect", path))?;
    let owner = Uid::from_raw(found.uid());
    if owner != account.uid() {
        if owner != geteuid() {
            return Err(PostgresError::WrongOwner {
                path: path.to_owned(),
                owner: name_of(owner),
                wanted: account.name(),
            });
        }
        fchown(&dir, Some(account.uid().as_raw()), Some(account.gid().as_raw()))
            .map_err(PostgresError::io("change the owner of", path))?;
    }
    if found.mode() & 0o777 != 0o700 {
        dir.set_permissions(Permissions::from_mode(0o700))
            .map_err(PostgresError::io("set the permissions of", path))?;
    }
    Ok(())
}

/// What PostgreSQL refuses to have on its data directory: writing by the group, and anything by
/// others.
const TOO_OPEN: u32 = 0o027;

/// Takes from the cluster's directory what PostgreSQL refuses to work with. An orchestrator that
/// gives a volume a group (as Kubernetes does by fsGroup) opens everything in it to that group, at
/// each start anew.
pub fn close_cluster(path: &Path) -> Result<(), PostgresError> {
    let dir = open_dir(path)?;
    let mode = dir.metadata().map_err(PostgresError::io("inspect", path))?.mode() & 0o7777;
    if mode & TOO_OPEN == 0 {
        return Ok(());
    }
    let wanted = mode & !TOO_OPEN;
    info!(
        directory = %path.display(),
        found = format!("{mode:o}"),
        now = format!("{wanted:o}"),
        "permissions that PostgreSQL refuses were taken from the cluster's directory"
    );
    dir.set_permissions(Permissions::from_mode(wanted)).map_err(PostgresError::io("set the permissions of", path))
}

/// One handle for checks and changes: somebody who may write to the parent cannot swap in another
/// directory, or a link to one, between them.
fn open_dir(path: &Path) -> Result<File, PostgresError> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(path).map_err(
        |error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTDIR | Errno::ELOOP) => {
                PostgresError::WrongKind { path: path.to_owned(), wanted: "directory" }
            }
            _ => PostgresError::io("open", path)(error),
        },
    )
}

/// Opens a file of ours that nobody else may read, and refuses one that somebody else put there.
pub fn private_file(path: &Path, options: &mut OpenOptions) -> Result<File, PostgresError> {
    let file = options
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(PostgresError::io("open", path))?;
    let found = file.metadata().map_err(PostgresError::io("inspect", path))?;
    if !found.is_file() {
        return Err(PostgresError::WrongKind { path: path.to_owned(), wanted: "regular file" });
    }
    if found.uid() != geteuid().as_raw() {
        return Err(PostgresError::WrongOwner {
            path: path.to_owned(),
            owner: name_of(Uid::from_raw(found.uid())),
            wanted: name_of(geteuid()),
        });
    }
    Ok(file)
}

#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(dir: &Path) -> Result<Lock, PostgresError> {
        let path = dir.join(LOCK);
        // Close-on-exec, as every file the standard library opens: the server, which may outlive
        // us, must not keep the lock.
        let mut file = private_file(&path, OpenOptions::new().read(true).write(true))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PostgresError::InUse { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(PostgresError::io("lock", path)(error)),
        }
        // Only for the message above, so a full disk must not prevent the start.
        if let Err(error) = name_holder(&mut file) {
            warn!(lock = %path.display(), %error, "cannot note the process id");
        }
        Ok(Lock(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while another thread is between fork and exec: its child then
        // still has the open file.
        let _ = self.0.unlock();
    }
}

fn name_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // The holder may not have written its number yet.
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => match text.trim().parse::<u32>() {
            Ok(pid) => format!(" (process {pid})"),
            Err(_) => String::new(),
        },
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use client_failover_workshop::needs;

    use super::*;

    fn own_account() -> Account {
        Account::Own { uid: geteuid(), gid: nix::unistd::getegid() }
    }

    #[test]
    fn a_link_is_not_taken_for_a_private_directory() {
        let top = tempfile::tempdir().unwrap();
        let target = top.path().join("target");
        let link = top.path().join("link");
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        let error = private_dir(&link, &own_account()).unwrap_err();
        assert!(matches!(error, PostgresError::WrongKind { .. }), "{error}");
    }

    #[test]
    fn a_directory_that_is_too_open_is_closed() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("run");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        private_dir(&dir, &own_account()).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    }

    #[needs("root")]
    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("run");
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(54321), None).unwrap();
        let error = private_dir(&dir, &own_account()).unwrap_err();
        assert!(matches!(error, PostgresError::WrongOwner { .. }), "{error}");
        assert!(error.to_string().contains("belongs to uid 54321"), "{error}");
    }

    #[test]
    fn a_link_is_not_taken_for_a_private_file() {
        let top = tempfile::tempdir().unwrap();
        let target = top.path().join("target");
        let link = top.path().join("lock");
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        private_file(&link, OpenOptions::new().write(true)).unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn the_lock_names_its_holder_and_is_free_again_after_the_drop() {
        let top = tempfile::tempdir().unwrap();
        let lock = Lock::take(top.path()).unwrap();
        let error = Lock::take(top.path()).unwrap_err().to_string();
        assert!(error.contains(&top.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(lock);
        Lock::take(top.path()).unwrap();
    }
}
