//! Which program this is.

/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-dirty` behind it where something had been changed
/// since; `None` where whoever built it did not know. The script of the build says it.
pub const COMMIT: Option<&str> = match option_env!("CLIENT_FAILOVER_COMMIT") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// The version, and the commit where it is known, as people are told.
pub fn told() -> String {
    match COMMIT {
        Some(commit) => format!("{VERSION} ({commit})"),
        None => VERSION.to_owned(),
    }
}
