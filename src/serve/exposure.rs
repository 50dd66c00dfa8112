//! What others could do or read by the way the service is set up, said at every start. It was asked
//! for, so it is no error.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::access::bearer::KeySource;
use crate::config::{Database, Settings};

/// Says what others could do who reach the address, the database's lines or the files.
pub fn warn(settings: &Settings, addresses: &[SocketAddr]) {
    if let Some(address) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        if settings.run_as.is_none() && nix::unistd::geteuid().is_root() {
            tracing::warn!(%address, "this serves others with the rights of root: give --run-as an account without them");
        }
        if settings.auth.is_open() {
            tracing::warn!(%address, "there is no authentication: whoever reaches this address may do everything");
        } else if settings.tls.is_none() {
            tracing::warn!(%address, "credentials travel in the clear unless a proxy in front of this address ends TLS");
        }
    }
    warn_about_database(settings);
    if let Some(receiver) = settings.webhook.as_ref().map(|webhook| &webhook.receiver)
        && receiver.is_in_the_clear()
    {
        tracing::warn!(%receiver, "what the webhook tells travels in the clear: use https://");
    }
    warn_about_files(settings);
}

fn warn_about_database(settings: &Settings) {
    let Database::Url { pooled, direct } = &settings.database else { return };
    let mut hosts = pooled.unverified();
    hosts.extend(direct.unverified());
    hosts.sort();
    hosts.dedup();
    for (host, sslmode) in hosts {
        tracing::warn!(
            host,
            sslmode,
            "whoever stands between could be the database, and decide who is Primary: its certificate is not verified; use sslmode=verify-full"
        );
    }
}

fn warn_about_files(settings: &Settings) {
    let key = settings.tls.as_ref().map(|tls| tls.key.as_path());
    let password = settings.store.password_file.as_ref().map(|file| file.path());
    let webhook = settings.webhook.as_ref().map(|webhook| webhook.secret_file.as_path());
    let secret = [settings.auth.users_file.as_deref(), key, password, webhook, settings.file.as_deref()];
    for path in secret.into_iter().flatten().filter(|path| has_mode(path, 0o004)) {
        tracing::warn!(file = %path.display(), "every account of this machine can read this file: chmod o-r");
    }
    let issuer_keys = match settings.auth.oidc.as_ref().map(|oidc| &oidc.keys) {
        Some(KeySource::File(path)) => Some(path.as_path()),
        _ => None,
    };
    let tls = settings.tls.as_ref();
    let trusted = [
        settings.auth.subjects_file.as_deref(),
        issuer_keys,
        tls.map(|tls| tls.certificate.as_path()),
        tls.and_then(|tls| tls.client_ca.as_deref()),
        tls.and_then(|tls| tls.client_crl.as_deref()),
    ];
    for path in secret.into_iter().chain(trusted).flatten().filter(|path| has_mode(path, 0o002)) {
        tracing::warn!(file = %path.display(), "every account of this machine can change this file: chmod o-w");
    }
}

/// A pipe or a device, as `/dev/stdin` is one, is nobody's to read twice.
fn has_mode(path: &Path, bits: u32) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & bits != 0)
}

/// Says that a password stands in the command, where the command line has one: every account of the
/// machine sees it there.
pub fn warn_about_arguments() {
    let has_password = |argument: &str| {
        let url = argument.split_once('=').filter(|(flag, _)| flag.starts_with("--")).map_or(argument, |(_, url)| url);
        let is_database = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        is_database && holds_password(url)
    };
    if std::env::args_os().any(|argument| argument.to_str().is_some_and(has_password)) {
        tracing::warn!(
            "the command line holds the database's password, which every account of this machine can read there: give the URL in the settings file or as DATABASE_URL, or the password in database-password-file"
        );
    }
}

/// Whether a URL of several hosts, which few parsers read, has a password in one of its two places.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let in_user = user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    in_user || query.split('&').any(|pair| pair.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_either_place_of_a_url() {
        for with in ["postgres://u:p@h/d", "postgres://u:p@a,b:5433/d?x=y", "postgres:///d?host=h&password=p"] {
            assert!(holds_password(with), "{with}");
        }
        for without in ["postgres://u@h:5432/d", "postgres://h:5432/d", "postgres://u:@h/d", "postgres:///d?host=h"] {
            assert!(!holds_password(without), "{without}");
        }
    }
}
