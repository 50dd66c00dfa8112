//! What a browser is made to send by pages of others. It adds credentials by itself where it has
//! them (a client certificate, a password once typed), and on a loopback address none are needed;
//! so any page that somebody opens could otherwise send heartbeats, or read what is here.
//!
//! Two ways lead here, and both are closed in this place: a page asks for this service by its
//! address, and the browser says that another site asks; or its own name is made to point to this
//! service (DNS rebinding), and the browser takes the two for one site, but says the name.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::{HttpRequest, web};

use super::errors::ApiError;

/// The names by which the service may be asked for.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Option<Vec<String>>);

impl AllowedHosts {
    /// Any name.
    pub fn any() -> AllowedHosts {
        AllowedHosts(None)
    }

    /// These, and the names of loopback, which nobody can have point elsewhere.
    pub fn only(names: impl IntoIterator<Item = String>) -> AllowedHosts {
        AllowedHosts(Some(names.into_iter().map(|name| bare(&name).to_ascii_lowercase()).collect()))
    }

    fn allow(&self, authority: &str) -> bool {
        let Some(names) = &self.0 else { return true };
        let name = bare(without_any_port(authority));
        let is_loopback = name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        is_loopback || names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// A name without the dot that ends it where it is written in full, an address of IPv6 without its
/// brackets.
fn bare(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

fn without_any_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Refuses a request that a page of somebody else had a browser send.
pub fn check(request: &HttpRequest) -> Result<(), ApiError> {
    if let Some(allowed) = request.app_data::<web::Data<AllowedHosts>>() {
        // HTTP/1.0 may leave the name out, and no browser does: whatever leaves it out is none.
        let named = request.headers().get_all(HOST).map(|host| host.to_str().unwrap_or_default());
        let in_target = request.uri().authority().map(|authority| authority.as_str());
        if let Some(other) = named.chain(in_target).find(|host| !allowed.allow(host)) {
            return Err(ApiError::HostNotAllowed { host: other.chars().take(260).collect() });
        }
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) && is_from_another_site(request) {
        return Err(ApiError::NotAllowed {
            reason: "A page of another site had a browser send this (its header Sec-Fetch-Site or Origin says so)."
                .to_owned(),
        });
    }
    Ok(())
}

/// Whether a browser says that a page from elsewhere made it ask. Nothing but a browser sends this
/// header, and no script can change it.
///
/// It is not sent over plain HTTP to a host's name; there the page's origin is, and has to be the
/// host that was asked.
fn is_from_another_site(request: &HttpRequest) -> bool {
    if let Some(site) = request.headers().get("Sec-Fetch-Site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return false };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !origin.is_some_and(|(scheme, authority)| {
        without_port(authority, scheme).eq_ignore_ascii_case(without_port(host, scheme))
    })
}

/// An authority without the port that its scheme has anyway.
fn without_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_and_those_of_the_setting_are_allowed() {
        let hosts = AllowedHosts::only(["Failover.Plant.example".to_owned(), "10.1.2.3".to_owned()]);
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:80",
            "127.0.0.1:1",
            "127.9.8.7",
            "[::1]:8080",
            "[::1]",
            "failover.plant.example:8443",
            "failover.plant.example.",
            "10.1.2.3:80",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "10.1.2.4",
            "[::2]:8080",
            "[::1].evil.example",
            "localhost:8080:1",
            "0.0.0.0:8080",
            "x@localhost",
        ] {
            assert!(!hosts.allow(bad), "{bad}");
        }
        assert!(AllowedHosts::any().allow("evil.example"));
    }
}
