//! What the addresses that a server is reached from may hold of it.

use core::net::IpAddr;
use core::str::FromStr;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;

use crate::protocol::Sender;

/// Limits of a [`Listener`](super::Listener).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at a time; more wait in the listener's backlog. 4,096 by default.
    pub connections: usize,
    /// Connections of one [`Sender`] at a time; one more is closed at once. 1,024 by default. Trusted proxies are not limited.
    pub connections_per_address: usize,
    /// Proxies in front, whose `X-Forwarded-For` is believed. None by default: then what that header says is nobody's word.
    pub trusted_proxies: TrustedProxies,
    /// How long a connection may have no request. 75 seconds by default: longer than balancers keep an idle connection, most of which use
    /// 60, so that none sends a request into one that is closed at that moment.
    pub idle: Duration,
}

impl ServerLimits {
    /// The same with this [`connections`](Self::connections).
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// The same with this [`connections_per_address`](Self::connections_per_address).
    #[must_use]
    pub fn with_connections_per_address(self, connections_per_address: usize) -> Self {
        Self { connections_per_address, ..self }
    }

    /// The same with this [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn with_trusted_proxies(self, trusted_proxies: TrustedProxies) -> Self {
        Self { trusted_proxies, ..self }
    }

    /// The same with this [`idle`](Self::idle).
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 1_024,
            trusted_proxies: TrustedProxies::default(),
            idle: Duration::from_secs(75),
        }
    }
}

/// Addresses, and networks of them, of proxies that say where a request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A text is no address and no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network; write for instance `127.0.0.1` or `10.0.0.0/8`")]
pub struct TrustedProxiesError(String);

impl TrustedProxies {
    /// Reads addresses (`127.0.0.1`) and networks (`10.0.0.0/8`).
    ///
    /// # Errors
    /// [`TrustedProxiesError`], of the first that is neither.
    pub fn new<'a>(proxies: impl IntoIterator<Item = &'a str>) -> Result<Self, TrustedProxiesError> {
        let read = |text: &str| {
            let address = IpAddr::from_str(text).map(IpNet::from);
            address.or_else(|_| IpNet::from_str(text)).map_err(|_| TrustedProxiesError(text.to_owned()))
        };
        proxies.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is one of theirs.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request came from that a peer sent with these headers: the peer, or what the last proxy in a row of trusted ones
    /// says of its own peer.
    pub(super) fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> Sender {
        let mut address = peer;
        let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
        let said: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        for text in said.iter().rev() {
            if !self.contains(address) {
                break;
            }
            match text.parse() {
                Ok(before) => address = before,
                // What cannot be read is not guessed at: it counts as that proxy's own.
                Err(_) => break,
            }
        }
        Sender::of_address(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(proxies: &[&str], peer: &str, forwarded: &[&'static str]) -> Sender {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        TrustedProxies::new(proxies.iter().copied()).unwrap().sender(peer.parse().unwrap(), &headers)
    }

    fn of(address: &str) -> Sender {
        Sender::of_address(address.parse().unwrap())
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_came_from() {
        let trusted = ["127.0.0.1", "10.0.0.0/8"];
        for (peer, forwarded, from) in [
            ("192.0.2.9", &["192.0.2.1"][..], "192.0.2.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::ffff:127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            // What a caller writes in front of it is nobody's word.
            ("127.0.0.1", &["203.0.113.7, 192.0.2.1"], "192.0.2.1"),
            ("127.0.0.1", &["203.0.113.7", "192.0.2.1, 10.1.2.3"], "192.0.2.1"),
            ("127.0.0.1", &["nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ] {
            assert_eq!(sender(&trusted, peer, forwarded), of(from), "{peer} {forwarded:?}");
        }
        assert_eq!(sender(&[], "127.0.0.1", &["192.0.2.1"]), of("127.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "proxy.example.org", "10.0.0"] {
            assert!(TrustedProxies::new([wrong]).is_err(), "{wrong}");
        }
    }
}
