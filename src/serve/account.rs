//! From root to an account without its rights: once what needs root is open, for good and for every
//! thread.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid, initgroups, setgid, setuid};

/// Why the service does not go on as another account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is none of that name.
    #[error(
        "run-as is '{0}', and this machine has no such account: make it, as with 'useradd --system --user-group --shell /usr/sbin/nologin {0}'"
    )]
    Unknown(String),
    /// It is shared by what has nothing to do with each other.
    #[error(
        "run-as is 'nobody', which other programs use as well and could then meddle: give an account of the service's own"
    )]
    Shared,
    /// Only root becomes another.
    #[error("run-as is '{wanted}', and the service was started as '{own}': start it as root or as that account")]
    NotRoot {
        /// Who was wanted.
        wanted: String,
        /// Who started it.
        own: String,
    },
    /// The data directory is another's.
    #[error(
        "run-as is '{wanted}', and the data directory {} belongs to '{owner}': stop whatever uses it and run 'chown -R {wanted}: {}', or give another --data-dir",
        path.display(), path.display()
    )]
    DataDir {
        /// Who was wanted.
        wanted: String,
        /// The directory, or what is in it.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// The system refuses.
    #[error("cannot go on as '{wanted}': {what}: {cause}")]
    System {
        /// Who was wanted.
        wanted: String,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

/// Goes on as the account of that name, which needs a data directory of its own where the service
/// keeps one. For all threads: the system's library sees to that.
pub fn become_user(name: &str, data_dir: Option<&Path>) -> Result<(), AccountError> {
    let system = |what| move |cause: io::Error| AccountError::System { wanted: name.to_owned(), what, cause };
    let found = User::from_name(name).map_err(|error| system("the accounts cannot be read")(error.into()))?;
    let user = found.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
    if geteuid() == user.uid {
        return Ok(());
    }
    if name == "nobody" {
        return Err(AccountError::Shared);
    }
    if !geteuid().is_root() {
        return Err(AccountError::NotRoot { wanted: name.to_owned(), own: name_of(geteuid()) });
    }
    if let Some(dir) = data_dir {
        give_directory(dir, &user)?;
    }
    // An account's name comes from a file with a zero byte in no line.
    let text = CString::new(name).map_err(|error| system("its name")(error.into()))?;
    initgroups(&text, user.gid).map_err(|error| system("its groups")(error.into()))?;
    setgid(user.gid).map_err(|error| system("its group")(error.into()))?;
    setuid(user.uid).map_err(|error| system("its rights")(error.into()))?;
    // Root's rights could only come back if they had been kept.
    if setuid(Uid::from_raw(0)).is_ok() || geteuid() != user.uid {
        return Err(system("root's rights are still there")(io::Error::other("they could be taken back")));
    }
    tracing::info!(user = name, "what needed root is done; going on without its rights");
    Ok(())
}

/// Makes the data directory for that account where it is missing, and refuses one of somebody
/// else's: what is in it is the account's that made it.
fn give_directory(path: &Path, user: &User) -> Result<(), AccountError> {
    let system = |what| move |cause: io::Error| AccountError::System { wanted: user.name.clone(), what, cause };
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(system("its data directory"))?;
    }
    let is_empty = fs::read_dir(path).map_err(system("its data directory"))?.next().is_none();
    if is_empty {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(system("its data directory"))?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(system("its data directory"))?;
        return Ok(());
    }
    for path in [path.to_owned(), path.join("pg")] {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.uid() != user.uid.as_raw() {
            let owner = name_of(Uid::from_raw(found.uid()));
            return Err(AccountError::DataDir { wanted: user.name.clone(), path, owner });
        }
    }
    Ok(())
}

/// Says which of these files this account cannot read again, though they were read once.
pub fn warn_of_unreadable<'a>(files: impl IntoIterator<Item = &'a Path>) {
    for file in files {
        if let Err(error) = File::open(file) {
            let file = file.display();
            tracing::warn!(%file, %error, "this file was read as root; what changes in it is not seen before a restart");
        }
    }
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
