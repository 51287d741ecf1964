//! The address of a SOCKS5 proxy.

use core::fmt;
use core::str::FromStr;

use http::Uri;
use http::uri::Authority;

/// The address of a SOCKS5 proxy, as in `127.0.0.1:9050`, where Tor listens.
///
/// The proxy must take user names and passwords (RFC 1929). They are random, and keep circuits apart: each spend has one of its own,
/// and so has each request that is no call. The way to the proxy is not encrypted, so it should be on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Socks5(Authority);

/// The text is no address of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no HOST:PORT of a SOCKS5 proxy; Tor's is 127.0.0.1:9050")]
pub struct Socks5Error(String);

impl Socks5 {
    /// As a connector takes it.
    pub(super) fn uri(&self) -> Uri {
        let uri = Uri::builder().scheme("http").authority(self.0.clone()).path_and_query("/").build();
        uri.expect("an authority that was read is one")
    }
}

impl FromStr for Socks5 {
    type Err = Socks5Error;

    fn from_str(text: &str) -> Result<Self, Socks5Error> {
        let wrong = || Socks5Error(text.to_owned());
        let authority: Authority = text.parse().map_err(|_| wrong())?;
        let port = authority.port_u16().filter(|port| *port != 0);
        let (host, digits) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host == authority.host() && !host.is_empty() && !text.contains('@');
        match port {
            Some(port) if bare && digits == port.to_string() => Ok(Self(authority)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Socks5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Socks5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socks5({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_address_is_a_host_and_a_port() {
        for text in ["127.0.0.1:9050", "[::1]:9150", "localhost:1", "tor.example:65535"] {
            assert_eq!(text.parse::<Socks5>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "9050",
            ":9050",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "a:65536",
            "a:x",
            "me@a:1",
            "a:1/",
            "http://a:1",
            "socks5://a:1",
            "a b:1",
            "::1:9050",
            "a:+1",
            "a:01",
        ] {
            assert!(text.parse::<Socks5>().is_err(), "{text}");
        }
    }
}
