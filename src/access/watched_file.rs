//! A file that is reread when it changes. What is wrong with a new version is said, and the version
//! before stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::AuthSetupError;

/// See the module.
pub struct WatchedFile<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    value: RwLock<Arc<T>>,
    seen: Mutex<Option<Version>>,
}

/// By what a change is noticed. A new file in its place has another inode, also within the clock's
/// granularity.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl<T> WatchedFile<T> {
    /// Reads the file; what is wrong with it is an error.
    pub fn open(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<WatchedFile<T>, AuthSetupError> {
        let seen = version(path);
        let value = RwLock::new(Arc::new(read(path, parse)?));
        Ok(WatchedFile { path: path.to_owned(), parse, value, seen: Mutex::new(seen) })
    }

    /// What the last good version holds.
    pub fn get(&self) -> Arc<T> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether it changed. To be called every now and then.
    pub fn reread_if_changed(&self) {
        let found = version(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return;
        }
        *seen = found;
        match read(&self.path, self.parse) {
            Ok(value) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(file = %self.path.display(), "reread");
            }
            Err(error) => tracing::error!("{error}; what it held before stays in force"),
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    Some(Version { modified: metadata.modified().ok(), length: metadata.len(), inode })
}

fn read<T>(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<T, AuthSetupError> {
    let text = fs::read_to_string(path).map_err(|cause| AuthSetupError::Unreadable { path: path.to_owned(), cause })?;
    parse(&text).map_err(|wrong| AuthSetupError::Malformed { path: path.to_owned(), wrong })
}

/// What is wrong with a TOML file, on one line and without its text: it may hold secrets.
pub fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    format!("{place}{}", error.message().replace('\n', " "))
}
