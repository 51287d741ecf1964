//! The key of a replica, and TLS by it: bare public keys on both sides (RFC 7250), TLS 1.3 and nothing older.

use std::sync::Arc;

use ed25519_dalek::SigningKey as Ed25519;
use rand::Rng as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

use crate::store::ReplicaKey;

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The same for the seed in PKCS #8 (RFC 8410, section 7).
const SECRET: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Over HTTP/2 the authority that a caller named would stand where the address of the replica has to.
const PROTOCOL: &[u8] = b"http/1.1";

/// A key that was drawn at the start of this process, and is never written anywhere.
pub(super) struct Identity {
    key: ReplicaKey,
    certified: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
}

impl Identity {
    pub(super) fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(&mut *seed);
        let key = ReplicaKey::from_bytes(Ed25519::from_bytes(&seed).verifying_key().to_bytes());
        let mut secret = Zeroizing::new([0; SECRET.len() + 32]);
        secret[..SECRET.len()].copy_from_slice(&SECRET);
        secret[SECRET.len()..].copy_from_slice(&*seed);
        let signing = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&secret[..]))?;
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public(&key))], signing));
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyReplica(provider.signature_verification_algorithms));
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&certified))));
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A key that left the book could come back by a ticket.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { key, certified, server: Arc::new(server) })
    }

    /// The public half.
    pub(super) fn key(&self) -> ReplicaKey {
        self.key
    }

    /// For those that ask this replica.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For asking the replica that has this key, and none other.
    pub(super) fn client(&self, of: ReplicaKey) -> Result<ClientConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = ThisReplica { key: of, algorithms: provider.signature_verification_algorithms };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.certified))));
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

/// The key that the other side proved to have, from what TLS calls its certificates.
pub(in crate::http) fn proved(certificates: Option<&[CertificateDer<'_>]>) -> Option<ReplicaKey> {
    match certificates? {
        [only] => read(only),
        _ => None,
    }
}

fn public(key: &ReplicaKey) -> Vec<u8> {
    [&PUBLIC[..], &key.to_bytes()].concat()
}

fn read(certificate: &CertificateDer<'_>) -> Option<ReplicaKey> {
    let key = certificate.as_ref().strip_prefix(&PUBLIC[..])?;
    Some(ReplicaKey::from_bytes(key.try_into().ok()?))
}

fn verify(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if read(certificate).is_none() || signed.scheme != SignatureScheme::ED25519 {
        return Err(CertificateError::BadEncoding.into());
    }
    let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

fn too_old() -> Error {
    PeerIncompatible::Tls12NotOfferedOrEnabled.into()
}

/// The holder of any Ed25519 key proves it here. Whether it is a replica's is looked up in the book afterwards, which may take time.
#[derive(Debug)]
struct AnyReplica(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyReplica {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match read(certificate) {
            Some(_) if more.is_empty() => Ok(ClientCertVerified::assertion()),
            _ => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(&self.0, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// One replica, by its key.
#[derive(Debug)]
struct ThisReplica {
    key: ReplicaKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ThisReplica {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match read(certificate) {
            Some(key) if key == self.key && more.is_empty() => Ok(ServerCertVerified::assertion()),
            // It is another process at this address.
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(&self.algorithms, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
