//! The password of the database's account from a file, read again for each new connection: a
//! rotation needs no restart.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

/// A file with a password and nothing else, but for the end of its line.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordFile(PathBuf);

impl PasswordFile {
    /// That file. It is read when a connection needs it.
    pub fn new(path: PathBuf) -> PasswordFile {
        PasswordFile(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether there is a password in it.
    pub fn check(&self) -> io::Result<()> {
        self.read().map(drop)
    }

    /// These options with the password that the file has now.
    pub(super) fn apply(&self, options: PgConnectOptions) -> io::Result<PgConnectOptions> {
        Ok(options.password(&self.read()?))
    }

    fn read(&self) -> io::Result<String> {
        let text = std::fs::read_to_string(&self.0).map_err(|error| self.fault(error.kind(), &error.to_string()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(self.fault(io::ErrorKind::InvalidData, "it is empty")),
            password => Ok(password.to_owned()),
        }
    }

    fn fault(&self, kind: io::ErrorKind, why: &str) -> io::Error {
        io::Error::new(kind, format!("the database's password cannot be read from {}: {why}", self.0.display()))
    }
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
