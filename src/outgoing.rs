//! HTTP as a client: what is believed of those who are asked. An `http://` URL needs no certificate authority, and a machine
//! without any (a minimal image) is no reason to fail there.

use reqwest::{Client, ClientBuilder, Url};

use crate::telemetry;

/// No client for an `https://` URL can be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "https:// needs certificate authorities to believe, and none can be had here ({0}): install the system's (Debian and Ubuntu: ca-certificates), or name a file of them in SSL_CERT_FILE"
)]
pub struct NoAuthorities(String);

/// A client for that URL with what `configure` sets on it, which may be asked twice.
pub fn client(url: &Url, configure: impl Fn() -> ClientBuilder) -> Result<Client, NoAuthorities> {
    match configure().build() {
        Ok(client) => Ok(client),
        // It believes nobody, should a redirect lead it to https://.
        Err(_) if url.scheme() == "http" => configure().tls_certs_only([]).build().map_err(no_authorities),
        Err(error) => Err(no_authorities(error)),
    }
}

/// A client for services on this machine, over plain HTTP and past every proxy. It reads no certificates.
pub fn plain_client(configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, reqwest::Error> {
    configure(Client::builder().no_proxy().tls_certs_only([])).build()
}

/// The same as [`client`] for a thread that may block, made on a thread of its own: it brings a runtime along, which must not
/// begin within another.
pub fn blocking_client(
    url: &Url,
    configure: impl Fn() -> reqwest::blocking::ClientBuilder + Sync,
) -> Result<reqwest::blocking::Client, NoAuthorities> {
    let is_plain = url.scheme() == "http";
    let make = || match configure().build() {
        Ok(client) => Ok(client),
        Err(_) if is_plain => configure().tls_certs_only([]).build().map_err(no_authorities),
        Err(error) => Err(no_authorities(error)),
    };
    std::thread::scope(|scope| {
        let made = std::thread::Builder::new().spawn_scoped(scope, make);
        let made = made.map_err(|error| NoAuthorities(error.to_string()))?;
        made.join().unwrap_or_else(|_| Err(NoAuthorities("the HTTP client panicked".to_owned())))
    })
}

fn no_authorities(error: reqwest::Error) -> NoAuthorities {
    NoAuthorities(telemetry::error_chain(&error))
}
