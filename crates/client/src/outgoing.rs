//! HTTP as a client: what is believed of those who are asked. An `http://` URL needs no certificate
//! authority, and a machine without any (a minimal image) is no reason to fail there.

use reqwest::{Client, ClientBuilder, Url};

use super::shown::error_chain;

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
        Err(_) if url.scheme() == "http" => {
            configure().tls_certs_only([]).build().map_err(|error| NoAuthorities::because(&error))
        }
        Err(error) => Err(NoAuthorities::because(&error)),
    }
}

/// A client for services on this machine, over plain HTTP and past every proxy. It reads no
/// certificates.
pub fn plain_client(configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, reqwest::Error> {
    configure(Client::builder().no_proxy().tls_certs_only([])).build()
}

impl NoAuthorities {
    /// The same, because of that.
    pub fn because(cause: &dyn std::error::Error) -> NoAuthorities {
        NoAuthorities(error_chain(cause))
    }
}
