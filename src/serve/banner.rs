//! What the service says on standard output when it is up: commands that work as they are printed,
//! in a shell on this machine.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Service;
use crate::access::AuthOptions;
use crate::config::Settings;

/// The whole text.
pub fn text(service: &Service, settings: &Settings) -> String {
    let program = program();
    let private_url = service.private_database_url();
    let url = format!("{}://{}", service.scheme, within_reach(service.address()));
    let mut text = format!("listening on {}\n\nLook at it:\n  {url}/ in a browser\n", service.url());
    if settings.auth.api_keys {
        // The environment of the service may have the URL; if not, it is not printed, for it may
        // hold a password.
        let database = match &private_url {
            Some(url) => format!(" --database-url {}", quoted(url)),
            None => String::new(),
        };
        let wanted = if private_url.is_some() { "" } else { " (DATABASE_URL is this service's)" };
        text += &format!(
            "Make a key for yourself{wanted}:\n  \
             KEY=$({program} keys create first --tenant plant --role admin{database} | head -n 1)\n"
        );
    }
    let credential = credential(&settings.auth);
    // What is signed by nobody else is its own authority.
    let authority = settings.tls.as_ref().map(|tls| format!("--cacert {} ", quoted_path(&tls.certificate)));
    text += &format!(
        "Try it:\n  \
         curl {}{credential}-X PUT {url}/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/pump \
         -H 'Content-Type: application/json' -d '{{\"FailoverTimeout\":\"00:00:10\"}}'\n",
        authority.unwrap_or_default()
    );
    if let Some(url) = &private_url {
        let url = quoted(url);
        text += &format!(
            "Look inside (commands such as 'keys' take this as --database-url):\n  psql {url} -c 'SELECT * FROM group_status'\n"
        );
    }
    text + &format!("Watch a takeover:\n  {program} demo\n")
}

/// How the command says who asks, with a space behind it. A key is made by the line before; what
/// else there is only its owner has.
fn credential(auth: &AuthOptions) -> &'static str {
    match () {
        () if auth.api_keys => "-H \"Authorization: Bearer $KEY\" ",
        () if auth.is_open() => "",
        () if auth.users_file.is_some() => "-u \"$USER_NAME\" ",
        () if auth.oidc.is_some() => "-H \"Authorization: Bearer $TOKEN\" ",
        () => "--cert \"$CERTIFICATE_FILE\" --key \"$KEY_FILE\" ",
    }
}

/// An address that a client on this machine can ask: "every address" is not one.
fn within_reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// This program as a shell finds it: by its name where it was called by that, else by its path.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let is_on_path = !called.is_empty() && !called.as_encoded_bytes().contains(&b'/');
    match std::env::current_exe() {
        Ok(path) if !is_on_path => quoted_path(&path),
        _ => quoted_path(Path::new(&called)),
    }
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy()).into_owned()
}

/// As one word of a shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_is_quoted_where_it_has_to_be() {
        assert_eq!(quoted("postgres://failover@%2Frun:5432/db"), "postgres://failover@%2Frun:5432/db");
        assert_eq!(quoted("/my data/it's"), r"'/my data/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn every_address_is_asked_by_way_of_loopback() {
        let asked = |address: &str| within_reach(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("10.1.2.3:80"), "10.1.2.3:80");
    }
}
