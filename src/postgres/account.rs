//! Which account the server runs as, and how a child process becomes it.
//!
//! PostgreSQL refuses to run as root, so root lends its processes to an unprivileged account;
//! everybody else runs them as themselves. Never changes the account of this process.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use client_failover_children::end_with_parent;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, getegid, geteuid};

use super::PostgresError;

/// Whom root runs the server as, first found first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// What of this process's environment the server gets: where programs and libraries are, and the
/// zone of its log's times.
const PASSED_ON: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "TZ", "TZDIR"];

/// The account that runs the server and owns its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The account of the service.
    Own { uid: Uid, gid: Gid },
    /// One that root lends its processes to.
    Lent { uid: Uid, gid: Gid, name: String },
}

impl Account {
    /// The account for the data in `pg`. An existing directory decides over the usual choice, so
    /// that data outlives an account database in which the numbers changed (another image, say).
    pub fn choose(pg: &Path) -> Result<Account, PostgresError> {
        let own = geteuid();
        if !own.is_root() {
            return Ok(Account::Own { uid: own, gid: getegid() });
        }
        if let Ok(found) = fs::symlink_metadata(pg)
            && found.is_dir()
            && found.uid() != 0
        {
            let uid = Uid::from_raw(found.uid());
            return Ok(Account::Lent { uid, gid: Gid::from_raw(found.gid()), name: name_of(uid) });
        }
        CANDIDATES
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(|user| Account::Lent { uid: user.uid, gid: user.gid, name: user.name })
            .ok_or(PostgresError::NoAccount)
    }

    pub fn uid(&self) -> Uid {
        match self {
            Account::Own { uid, .. } | Account::Lent { uid, .. } => *uid,
        }
    }

    pub fn gid(&self) -> Gid {
        match self {
            Account::Own { gid, .. } | Account::Lent { gid, .. } => *gid,
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Account::Own { uid, .. } => name_of(*uid),
            Account::Lent { name, .. } => name.clone(),
        }
    }

    /// A command that runs as this account, gets `at_parent_death` when the calling thread ends,
    /// and sees nothing of this process that could change what PostgreSQL does.
    pub fn command(&self, program: &Path, at_parent_death: Signal) -> Command {
        let mut command = Command::new(program);
        if let Account::Lent { uid, gid, .. } = self {
            // Setting the uid as root also clears the supplementary groups.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        // The environment may hold secrets, and what is said to this process is not said to another
        // account's.
        command.env_clear();
        command.envs(PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // Our own directory may be closed to the account; `/` never is. English messages, because
        // they end up in ours.
        command.current_dir("/").env("LC_ALL", "C");
        // Ctrl-C in the terminal is for the service, which then stops the server in order.
        command.process_group(0);
        end_with_parent(&mut command, at_parent_death);
        command
    }

    /// The topmost directory on the way to `path`, itself included, that this account may not
    /// enter. Goes by the permission bits only: it explains a refusal, it does not predict one.
    pub fn first_closed(&self, path: &Path) -> Option<PathBuf> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        way.into_iter()
            .find(|dir| fs::metadata(dir).is_ok_and(|found| found.is_dir() && !self.may_enter(&found)))
            .map(Path::to_path_buf)
    }

    fn may_enter(&self, dir: &fs::Metadata) -> bool {
        let execute = if dir.uid() == self.uid().as_raw() {
            0o100
        } else if dir.gid() == self.gid().as_raw() {
            0o010
        } else {
            0o001
        };
        dir.permissions().mode() & execute != 0
    }
}

/// The name of an account, or its number.
pub fn name_of(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_closed_to_the_account_is_named() {
        let other = Account::Lent { uid: Uid::from_raw(54321), gid: Gid::from_raw(54321), name: "somebody".to_owned() };
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(other.first_closed(&inner).as_deref(), Some(top.path()));

        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(other.first_closed(&inner), None);
    }
}
