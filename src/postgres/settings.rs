//! The settings the server is started with.
//!
//! They go on the command line, where they win over every file in the data directory.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::PostgresError;

/// What every private server gets, unless the options say otherwise.
const DEFAULTS: [(&str, &str); 24] = [
    // The service is the only client, and it is on this machine.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("port", "5432"),
    ("max_connections", "100"),
    ("huge_pages", "off"),
    // What is acknowledged must survive a loss of power.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    // Nothing replicates from a private server; this is enough for crash recovery.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    // Bounds the disk space and the time a recovery takes. Only a large fleet under full load comes
    // near the bound; with a tenth of it a million sessions would write a whole page into the log
    // with nearly every heartbeat.
    ("min_wal_size", "80MB"),
    ("max_wal_size", "2GB"),
    // To standard error, which is our log file.
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    // Compiling a query pays off for reports, not for the short ones here.
    ("jit", "off"),
    // Room for what serializable transactions have read, which PostgreSQL keeps until all that ran
    // beside them have ended. With its default somebody's open transaction stops all heartbeats
    // within two seconds of full load. The other two are what that default gives: reads are tracked
    // as coarsely as ever, which is the fastest for one writer.
    ("max_pred_locks_per_transaction", "1024"),
    ("max_pred_locks_per_relation", "31"),
    ("max_pred_locks_per_page", "2"),
    // For `ps`.
    ("cluster_name", "client-failover"),
];

/// How much of the tables the server keeps at hand: an eighth of the machine's memory, within
/// bounds. It is taken as it is used, so a small fleet takes little. A million sessions have 400 MB
/// of tables and indexes: with 128 MB each heartbeat would fetch its pages from the kernel, which
/// costs more than a third of the throughput.
const SHARED_BUFFERS_MB: std::ops::RangeInclusive<u64> = 128..=1_024;

fn shared_buffers() -> String {
    let (least, most) = SHARED_BUFFERS_MB.into_inner();
    let megabytes = memory_kb().map_or(least, |kb| (kb / 1_024 / 8).clamp(least, most));
    format!("{megabytes}MB")
}

/// The machine's memory, where the kernel says it.
fn memory_kb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// What the rest of this module relies on.
const RESERVED: [&str; 3] = ["data_directory", "unix_socket_directories", "external_pid_file"];

#[derive(Debug)]
pub struct Settings {
    /// Name and value, defaults first: PostgreSQL takes the last.
    all: Vec<(String, String)>,
    pub port: u16,
}

impl Settings {
    pub fn new(given: &[(String, String)]) -> Result<Settings, PostgresError> {
        let mut all: Vec<(String, String)> =
            DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.push(("shared_buffers".to_owned(), shared_buffers()));
        for (name, value) in given {
            check(name, value)?;
            all.push((normal(name), value.clone()));
        }
        let port = port(&all)?;
        Ok(Settings { all, port })
    }

    /// The arguments for `postgres`.
    pub fn arguments(&self, socket_dir: &Path) -> Vec<OsString> {
        let mut arguments = Vec::with_capacity(2 * self.all.len() + 2);
        for (name, value) in &self.all {
            arguments.push(OsString::from("-c"));
            arguments.push(OsString::from(format!("{name}={value}")));
        }
        let mut sockets = OsString::from("unix_socket_directories=");
        sockets.push(quoted(socket_dir));
        arguments.push(OsString::from("-c"));
        arguments.push(sockets);
        arguments
    }
}

/// PostgreSQL itself takes any case, and `-` for `_`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn check(name: &str, value: &str) -> Result<(), PostgresError> {
    let refuse = |reason| Err(PostgresError::Setting { name: name.to_owned(), value: value.to_owned(), reason });
    if RESERVED.contains(&normal(name).as_str()) {
        return refuse("the service decides it");
    }
    let is_name =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    if !is_name {
        return refuse("that is not the name of a setting");
    }
    if value.contains('\0') {
        return refuse("the value has a zero byte");
    }
    Ok(())
}

fn port(all: &[(String, String)]) -> Result<u16, PostgresError> {
    let value = all.iter().rev().find(|(name, _)| name == "port").map_or("5432", |(_, value)| value.as_str());
    match value.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(PostgresError::Setting {
            name: "port".to_owned(),
            value: value.to_owned(),
            reason: "it is not a number from 1 to 65535",
        }),
    }
}

/// One element of a list setting: a comma or a space in the path would split it otherwise.
fn quoted(path: &Path) -> OsString {
    let mut quoted = OsString::from("\"");
    let bytes = path.as_os_str().as_encoded_bytes();
    for (at, part) in bytes.split(|byte| *byte == b'"').enumerate() {
        if at > 0 {
            quoted.push("\"\"");
        }
        quoted.push(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(part));
    }
    quoted.push("\"");
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str) -> Result<Settings, PostgresError> {
        Settings::new(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn given_settings_come_after_the_defaults() {
        let settings = given("Max-Connections", "20").unwrap();
        let arguments = settings.arguments(Path::new("/run"));
        let place = |text: &str| arguments.iter().position(|argument| argument == text);
        assert!(place("max_connections=100").unwrap() < place("max_connections=20").unwrap());
    }

    #[test]
    fn the_port_is_the_last_one_given() {
        assert_eq!(Settings::new(&[]).unwrap().port, 5432);
        assert_eq!(given("port", "6000").unwrap().port, 6000);
        assert_eq!(given("PORT", "6000").unwrap().port, 6000);
        given("port", "70000").unwrap_err();
        given("port", "0").unwrap_err();
    }

    #[test]
    fn what_the_service_relies_on_cannot_be_set() {
        for name in ["data_directory", "Unix-Socket-Directories", "external_pid_file", "a=b", ""] {
            let error = given(name, "x").unwrap_err();
            assert!(matches!(error, PostgresError::Setting { .. }), "{name}");
        }
    }

    #[test]
    fn a_path_stays_one_element_of_the_list() {
        assert_eq!(quoted(Path::new("/a, b/c")), "\"/a, b/c\"");
        assert_eq!(quoted(Path::new("/a\"b")), "\"/a\"\"b\"");
    }
}
