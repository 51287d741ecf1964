//! A connection to a server, over TLS where its address is `https`.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::way::Way;

/// Whether a connection has served a request before. Shared by all that look at one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses(Arc<AtomicBool>);

impl Uses {
    pub(super) fn count(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    way: Way,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl core::fmt::Debug for Connector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(way: Way, tls: Option<Arc<ClientConfig>>, timeout: Duration) -> Self {
        Self { way, tls, timeout }
    }

    async fn connect(self, uri: Uri) -> Result<Socket, io::Error> {
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = self.way.reach(uri).await?;
        let (stream, h2): (Box<dyn Stream>, bool) = match (secure, self.tls) {
            (false, _) => (Box::new(stream), false),
            (true, None) => return Err(io::Error::other("this client speaks no TLS")),
            (true, Some(tls)) => {
                let name = ServerName::try_from(host).map_err(io::Error::other)?;
                let stream = TlsConnector::from(tls).connect(name, stream).await?;
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::new(stream), h2)
            }
        };
        Ok(Socket { stream: TokioIo::new(stream), h2, uses: Uses::default() })
    }
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Socket, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within the time that was set");
            tokio::time::timeout(connector.timeout, connector.connect(uri)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection.
pub(super) struct Socket {
    stream: TokioIo<Box<dyn Stream>>,
    h2: bool,
    uses: Uses,
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.uses.clone());
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}

/// TLS against the system's certificate authorities, for HTTP/2 and HTTP/1.1.
pub(crate) fn trusting_platform() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_platform_verifier()?.with_no_client_auth();
    config.alpn_protocols = both();
    Ok(config)
}

/// TLS against the system's certificate authorities, checked in this process alone: a verifier of the system's own may look
/// certificates up over the network, past a proxy.
#[cfg(feature = "client")]
pub(crate) fn trusting_platform_unasked() -> Result<ClientConfig, rustls::Error> {
    let mut authorities = rustls::RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    trusting_only(authorities)
}

/// TLS against these authorities and no others.
pub(crate) fn trusting_only(authorities: rustls::RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_root_certificates(authorities).with_no_client_auth();
    config.alpn_protocols = both();
    Ok(config)
}

fn both() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// The certificates in PEM. None if there is none, or if one cannot be read.
#[cfg(feature = "server")]
pub(crate) fn read_authorities(pem: &[u8]) -> Option<rustls::RootCertStore> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.ok()?).ok()?;
    }
    (!store.is_empty()).then_some(store)
}
