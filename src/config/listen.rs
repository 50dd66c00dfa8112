//! Where to listen.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use super::ConfigError;

/// Where to listen: an address, or all addresses of a name, with one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddresses(Vec<SocketAddr>);

impl ListenAddresses {
    /// The addresses of `HOST:PORT`, where the host may be a name.
    pub(super) fn find(text: &str) -> Result<ListenAddresses, ConfigError> {
        let fault = |wanted: &str| ConfigError::OutOfBounds {
            setting: "listen",
            value: format!("'{text}'"),
            wanted: wanted.to_owned(),
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(ListenAddresses(vec![address]));
        }
        const FORM: &str =
            "it must be an address or a name, with a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fault(FORM))?;
        // What is left with a colon is an address of IPv6 without its brackets, or a URL.
        if host.is_empty() || host.contains([':', '/', '[', ']']) {
            return Err(fault(FORM));
        }
        let port: u16 = port.parse().map_err(|_| fault(FORM))?;
        let found = (host, port).to_socket_addrs();
        let found = found.map_err(|error| fault(&format!("the name cannot be resolved: {error}")))?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        // The first one is shown: the form that everybody reads.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() { Err(fault("the name has no address")) } else { Ok(ListenAddresses(addresses)) }
    }

    /// All of them; there is at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }

    /// Their port.
    pub fn port(&self) -> u16 {
        self.0[0].port()
    }

    /// The same addresses with another port.
    pub fn set_port(&mut self, port: u16) {
        self.0.iter_mut().for_each(|address| address.set_port(port));
    }

    /// The first that can be reached from other machines.
    pub(super) fn first_open(&self) -> Option<SocketAddr> {
        self.0.iter().copied().find(|address| !address.ip().is_loopback())
    }
}

impl<T: Into<IpAddr>> From<(T, u16)> for ListenAddresses {
    fn from(address: (T, u16)) -> ListenAddresses {
        ListenAddresses(vec![address.into()])
    }
}
