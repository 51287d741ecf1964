//! The remote gateway's side.

use std::sync::Arc;

use rand_core::{CryptoRng, Rng};

use super::remote_fetch::RemoteFetch;
use super::remote_spend::RemoteSpend;
use super::{ClearingRequest, Envelope};
use crate::gateway::{AdmitError, FetchError};
use crate::lifecycle::ParsedSpend;
use crate::protocol::{
    Directory, DirectoryError, Following, GatewayId, GatewaySigningKey, Purpose, Request, Timestamp,
};

/// A gateway without a set: its id, the directory it serves under, and its key. It keeps nothing of a spend; each spend is a
/// [`RemoteSpend`].
pub struct RemoteGateway {
    id: GatewayId,
    directory: Directory,
    key: Arc<GatewaySigningKey>,
}

impl core::fmt::Debug for RemoteGateway {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RemoteGateway").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a remote gateway cannot be made. Its operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteGatewayError {
    /// The directory does not name it.
    #[error("the directory does not name gateway {0}")]
    NotInDirectory(GatewayId),
    /// The key is not the one that the directory names.
    #[error("the key is not the one that the directory names for gateway {0}")]
    OtherKey(GatewayId),
    /// The new directory cannot follow the one that is served.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl RemoteGateway {
    /// Makes one. `directory` has been verified under the pinned root key.
    ///
    /// # Errors
    /// [`RemoteGatewayError`].
    pub fn new(
        id: GatewayId,
        directory: Directory,
        key: impl Into<Arc<GatewaySigningKey>>,
    ) -> Result<Self, RemoteGatewayError> {
        let gateway = Self { id, directory, key: key.into() };
        gateway.check(&gateway.directory)?;
        Ok(gateway)
    }

    /// The same under a newer directory, for a holder that shares this one with others that still use it.
    ///
    /// # Errors
    /// [`RemoteGatewayError`].
    pub fn succeed(&self, directory: Directory) -> Result<Self, RemoteGatewayError> {
        directory.check_follows(&self.directory)?;
        self.check(&directory)?;
        Ok(Self { id: self.id, directory, key: Arc::clone(&self.key) })
    }

    /// Goes on under a newer directory.
    ///
    /// # Errors
    /// [`RemoteGatewayError`]; the gateway is then as it was.
    pub fn adopt(&mut self, directory: Directory) -> Result<(), RemoteGatewayError> {
        directory.check_follows(&self.directory)?;
        self.check(&directory)?;
        self.directory = directory;
        Ok(())
    }

    fn check(&self, directory: &Directory) -> Result<(), RemoteGatewayError> {
        let entry = directory.gateway(&self.id).ok_or(RemoteGatewayError::NotInDirectory(self.id))?;
        if entry.key == self.key.public_key() { Ok(()) } else { Err(RemoteGatewayError::OtherKey(self.id)) }
    }

    /// Its id.
    pub fn id(&self) -> GatewayId {
        self.id
    }

    /// The directory it serves under.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Takes the bytes of an [`Opening`](crate::protocol::Opening), of a session or a rollover, through the checks that nobody else
    /// makes: canonical form, gateway id, session signature. All others are the issuer's. Serve nothing yet.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn take(&self, opening: &[u8], request: &Request<'_>) -> Result<RemoteSpend, AdmitError> {
        let parsed = ParsedSpend::parse(opening, &self.directory)?;
        match parsed.spend().purpose {
            Purpose::Session | Purpose::Rollover => Ok(RemoteSpend::offered(self.authentic(parsed, request)?)),
            Purpose::Transfer { .. } => Err(AdmitError::WrongPurpose),
        }
    }

    /// Takes the bytes of a [`Cancellation`](crate::protocol::Cancellation) through the same checks, for a spend that is not being
    /// served here. (One that is: [`RemoteSpend::cancel`] of that one, after this.)
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn take_cancellation(&self, cancellation: &[u8], request: &Request<'_>) -> Result<RemoteSpend, AdmitError> {
        let parsed = ParsedSpend::parse_cancellation(cancellation, &self.directory)?;
        Ok(RemoteSpend::cancelled(self.authentic(parsed, request)?))
    }

    /// Takes the bytes of a [`Following`], whatever its action, and asks the issuer what has become of its spend. The session signature
    /// is checked here; that the session key is the spend's, by the issuer, which finds its record by it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn take_following(&self, following: &[u8], request: &Request<'_>) -> Result<RemoteFetch, FetchError> {
        let following = Following::from_bytes(following)?;
        if self.directory.epoch(following.epoch).is_none() {
            return Err(FetchError::UnknownEpoch(following.epoch));
        }
        if following.verify(request) { Ok(RemoteFetch::new(&following)) } else { Err(FetchError::SessionSignature) }
    }

    /// The key that the directory names for it, with which it signs receipts as well.
    pub fn key(&self) -> &Arc<GatewaySigningKey> {
        &self.key
    }

    fn authentic(
        &self,
        parsed: ParsedSpend,
        request: &Request<'_>,
    ) -> Result<crate::lifecycle::AuthenticSpend, AdmitError> {
        if parsed.spend().gateway != self.id {
            return Err(AdmitError::WrongGateway(parsed.spend().gateway));
        }
        parsed.authenticate(request).ok_or(AdmitError::SessionSignature)
    }

    /// The bytes of an envelope for a request.
    pub(super) fn envelope<R: Rng + CryptoRng>(
        &self,
        request: ClearingRequest,
        now: Timestamp,
        rng: &mut R,
    ) -> Vec<u8> {
        Envelope::new(self.directory.issuer(), self.id, now, request, rng).sign(&self.key)
    }
}
