//! TLS to the database, by the rustls that all of the program uses.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::PostgresError;

/// Trusts these authorities, or those of the system. The name of the host is always checked.
pub(super) fn connector(authorities: Option<&[u8]>) -> Result<MakeRustlsConnect, PostgresError> {
    let wrong = |error: rustls::Error| PostgresError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(wrong)?;
    let config = match authorities {
        None => versions.with_platform_verifier().map_err(wrong)?.with_no_client_auth(),
        Some(pem) => {
            let mut store = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| PostgresError::Tls(error.to_string()))?;
                store.add(certificate).map_err(wrong)?;
            }
            if store.is_empty() {
                return Err(PostgresError::Tls("the file of authorities holds no certificate in PEM".into()));
            }
            versions.with_root_certificates(store).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}
