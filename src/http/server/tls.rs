//! TLS in front of a server: certificates that are exchanged while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::pipeline::Current;

/// Why a certificate is not served. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A file holds no PEM of the kind that is expected.
    #[error("{0} holds no {1} in PEM")]
    Pem(PathBuf, &'static str),
    /// The key is none that can be used, or not that of the certificate; or TLS cannot be set up.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// The chain of certificates of a server, and its key. Cheap to clone; clones share what [`replace`](Self::replace) puts there.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Held>);

#[derive(Debug)]
struct Held(Current<CertifiedKey>);

impl ResolvesServerCert for Held {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

impl Certificates {
    /// Reads a chain, the server's own certificate first, and its key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Held(Current::new(Arc::new(read(chain, key)?))))))
    }

    /// Goes over to another chain and key. Connections that are there keep theirs.
    ///
    /// # Errors
    /// [`TlsError`]; those of before stay.
    pub fn replace(&self, chain: &Path, key: &Path) -> Result<(), TlsError> {
        self.0.0.set(Arc::new(read(chain, key)?));
        Ok(())
    }

    /// TLS 1.2 and 1.3, for HTTP/2 and HTTP/1.1.
    pub(super) fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&self.0) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A ticket would tell the gateway which connections are of one caller.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(config)
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, what: &'static str| {
        let path = path.to_owned();
        move |error: PemError| match error {
            PemError::Io(error) => TlsError::File(path, error),
            _ => TlsError::Pem(path, what),
        }
    };
    let what = "certificate";
    let certificates = CertificateDer::pem_file_iter(chain).map_err(failed(chain, what))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(failed(chain, what))?;
    if certificates.is_empty() {
        return Err(TlsError::Pem(chain.to_owned(), what));
    }
    let der = PrivateKeyDer::from_pem_file(key).map_err(failed(key, "private key"))?;
    Ok(CertifiedKey::from_der(certificates, der, &rustls::crypto::ring::default_provider())?)
}
