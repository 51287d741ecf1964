//! The way to a server: straight, or through a SOCKS5 proxy such as Tor's.
//!
//! This is the only place that makes connections. What has a proxy has no other way: a name goes to the proxy as it is and is not
//! looked up here, and a proxy that fails ends the request.

use std::io;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
#[cfg(feature = "client")]
use hyper_util::client::legacy::connect::proxy::SocksV5;
#[cfg(feature = "client")]
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::ServiceExt as _;
#[cfg(feature = "client")]
use zeroize::Zeroizing;

#[cfg(feature = "client")]
use super::socks5::Socks5;

/// Where connections lead through. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// Straight to the server, whose name is looked up here.
    Straight,
    /// Through a proxy, which looks the name up.
    #[cfg(feature = "client")]
    Through(Socks5, Isolation),
}

/// Which connections may share a circuit.
#[cfg(feature = "client")]
#[derive(Clone, Debug)]
pub(crate) enum Isolation {
    /// None: each has one of its own.
    EachConnection,
    /// All that have this.
    Together(Circuit),
}

/// What keeps a circuit apart from others: Tor puts connections with different user names or passwords on different circuits.
#[cfg(feature = "client")]
#[derive(Clone)]
pub(crate) struct Circuit {
    user: String,
    password: Zeroizing<String>,
}

#[cfg(feature = "client")]
impl core::fmt::Debug for Circuit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Circuit(..)")
    }
}

#[cfg(feature = "client")]
impl Circuit {
    /// One that nothing else has: 128 random bits each, so that neither is ever drawn twice.
    pub(crate) fn fresh() -> Self {
        let draw = || hex::encode(rand::random::<[u8; 16]>());
        Self { user: draw(), password: Zeroizing::new(draw()) }
    }
}

/// What a proxy did not do. Nothing else was tried.
#[cfg(feature = "client")]
#[derive(Debug, thiserror::Error)]
#[error("the SOCKS5 proxy at {proxy} gives no connection: {source}")]
pub(super) struct ProxyFailure {
    proxy: Socks5,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Way {
    /// Through a proxy, each connection on a circuit of its own.
    #[cfg(feature = "client")]
    pub(crate) fn through(proxy: Socks5) -> Self {
        Self::Through(proxy, Isolation::EachConnection)
    }

    /// The same way on one circuit, which nothing else shares.
    #[cfg(feature = "client")]
    pub(crate) fn on_one_circuit(&self) -> Self {
        match self {
            Self::Straight => Self::Straight,
            Self::Through(proxy, _) => Self::Through(proxy.clone(), Isolation::Together(Circuit::fresh())),
        }
    }

    /// The proxy, if there is one.
    #[cfg(feature = "client")]
    pub(crate) fn proxy(&self) -> Option<&Socks5> {
        match self {
            Self::Straight => None,
            Self::Through(proxy, _) => Some(proxy),
        }
    }

    /// Connects to the server of an address.
    pub(super) async fn reach(self, uri: Uri) -> io::Result<TcpStream> {
        match self {
            // To look such a name up would tell a resolver of it, in vain (RFC 7686).
            Self::Straight if is_onion(&uri) => Err(io::Error::other(
                "a .onion address is reached through Tor alone: name its SOCKS5 proxy, which is mostly 127.0.0.1:9050",
            )),
            Self::Straight => Ok(connector().oneshot(uri).await.map_err(io::Error::other)?.into_inner()),
            #[cfg(feature = "client")]
            Self::Through(proxy, isolation) => {
                let circuit = match isolation {
                    Isolation::EachConnection => Circuit::fresh(),
                    Isolation::Together(circuit) => circuit,
                };
                let failure = |source| io::Error::other(ProxyFailure { proxy: proxy.clone(), source });
                let named = with_port(&uri).ok_or_else(|| failure("the address names no host".into()))?;
                // With a user name it offers no other method: a proxy that takes none cannot keep circuits apart, and is refused.
                let socks = SocksV5::new(proxy.uri(), connector())
                    .with_auth(circuit.user.clone(), circuit.password.to_string())
                    .local_dns(false);
                let reached = socks.oneshot(named).await;
                let stream: TokioIo<TcpStream> = reached.map_err(|error| failure(error.into()))?;
                Ok(stream.into_inner())
            }
        }
    }
}

fn is_onion(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_end_matches('.');
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("onion"))
}

/// Looks names up and connects. For the server itself on the straight way, for the proxy on the other.
fn connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http
}

/// The address with its port, which the proxy must be told.
#[cfg(feature = "client")]
fn with_port(uri: &Uri) -> Option<Uri> {
    let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 });
    let authority = format!("{}:{port}", uri.host()?);
    Uri::builder().scheme("http").authority(authority).path_and_query("/").build().ok()
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_the_port_that_the_scheme_has() {
        for (address, named) in [
            ("http://a.example/x", "a.example:80"),
            ("https://a.example/x", "a.example:443"),
            ("http://a.onion:8080/", "a.onion:8080"),
            ("https://[2001:db8::1]/", "[2001:db8::1]:443"),
        ] {
            let named_uri = with_port(&address.parse().unwrap()).unwrap();
            assert_eq!(named_uri.authority().unwrap().as_str(), named);
        }
    }

    #[tokio::test]
    async fn no_name_of_tors_is_looked_up_here() {
        for address in ["http://a.onion/", "https://b.a.ONION:8443/x", "http://a.onion./"] {
            let refused = Way::Straight.reach(address.parse().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("through Tor alone"), "{address}: {refused}");
        }
        assert!(!is_onion(&"http://onion.example/".parse().unwrap()));
    }

    #[test]
    fn no_two_circuits_are_one_and_none_is_printed() {
        let (one, other) = (Circuit::fresh(), Circuit::fresh());
        assert!(one.user != other.user && *one.password != *other.password && one.user != *one.password);
        assert!(!format!("{:?}", Way::through("127.0.0.1:9050".parse().unwrap()).on_one_circuit()).contains(&one.user));
        assert_eq!(format!("{one:?}"), "Circuit(..)");
    }
}
