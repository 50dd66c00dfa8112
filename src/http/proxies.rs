//! Who is behind a proxy. Where a connection comes from one that the operator has named, the
//! request says whose it is, in the header `X-Forwarded-For`; from anybody else that header is a
//! word of their own.

use std::net::IpAddr;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web::Data;

/// Proxies that are believed: addresses, and networks such as `10.0.0.0/8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

/// The text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| NoNetwork))?;
        if bits > most { Err(NoNetwork) } else { Ok(Network { address, bits }) }
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let differ =
            |ours: u128, theirs: u128, length: u32| (ours ^ theirs).checked_shr(length - self.bits).unwrap_or(0);
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => differ(ours.to_bits().into(), theirs.to_bits().into(), 32) == 0,
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => differ(ours.to_bits(), theirs.to_bits(), 128) == 0,
            _ => false,
        }
    }
}

impl Proxies {
    /// Those of these texts; the first that is none, otherwise.
    pub fn of(texts: &[String]) -> Result<Proxies, String> {
        let read = |text: &String| text.trim().parse().map_err(|NoNetwork| text.clone());
        texts.iter().map(read).collect::<Result<_, _>>().map(Proxies)
    }

    /// Whether that address is one of them.
    pub fn are_at(&self, address: IpAddr) -> bool {
        !self.0.is_empty() && self.0.iter().any(|network| network.contains(address.to_canonical()))
    }

    /// From where a request comes that a peer passes on with these lines of the header: each proxy
    /// adds at the end from where it got it, so the last that is no proxy is the first that one of
    /// ours has seen.
    fn origin<'a>(&self, peer: IpAddr, lines: impl Iterator<Item = &'a str>) -> IpAddr {
        if !self.are_at(peer) {
            return peer;
        }
        let named: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        let mut origin = peer;
        for name in named.iter().rev() {
            let Some(address) = read_address(name.trim()) else { break };
            origin = address;
            if !self.are_at(address) {
                break;
            }
        }
        origin
    }
}

/// An address, with or without a port.
fn read_address(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|with_port: std::net::SocketAddr| with_port.ip()));
    address.map(|address| address.to_canonical())
}

/// From where a request comes.
pub fn origin(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let Some(proxies) = request.app_data::<Data<Proxies>>() else { return Some(peer) };
    let lines = request.headers().get_all("X-Forwarded-For").filter_map(|value| value.to_str().ok());
    Some(proxies.origin(peer, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).expect("they are networks")
    }

    fn origin(proxies: &Proxies, peer: &str, lines: &[&str]) -> String {
        proxies.origin(peer.parse().expect("an address"), lines.iter().copied()).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_where_a_request_comes_from() {
        let ours = proxies(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        assert_eq!(origin(&ours, "10.1.2.3", &["198.51.100.1"]), "198.51.100.1");
        // Whatever a client writes itself stands before that.
        assert_eq!(origin(&ours, "10.1.2.3", &["127.0.0.1, 198.51.100.1", "192.0.2.7"]), "198.51.100.1");
        assert_eq!(origin(&ours, "10.1.2.3", &["203.0.113.9, 198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(origin(&ours, "fd00::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(origin(&ours, "::ffff:10.1.2.3", &["[2001:db8::1]:443"]), "2001:db8::1");
        // All of them are proxies; and what is no address ends the search.
        assert_eq!(origin(&ours, "10.1.2.3", &["10.9.9.9"]), "10.9.9.9");
        assert_eq!(origin(&ours, "10.1.2.3", &["198.51.100.1, unknown"]), "10.1.2.3");
        assert_eq!(origin(&ours, "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn nobody_else_is_believed() {
        let ours = proxies(&["192.0.2.7", "192.0.2.128/25"]);
        assert_eq!(origin(&ours, "192.0.2.8", &["198.51.100.1"]), "192.0.2.8");
        assert_eq!(origin(&ours, "192.0.2.200", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin(&Proxies::default(), "127.0.0.1", &["198.51.100.1"]), "127.0.0.1");
        assert!(proxies(&["0.0.0.0/0"]).are_at([8, 8, 8, 8].into()) && !proxies(&["::/0"]).are_at([8, 8, 8, 8].into()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x", "*"] {
            assert_eq!(Proxies::of(&[wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }
}
