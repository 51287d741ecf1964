//! Going on under a newer directory, without a pause.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use crate::gateway::Gateway;
use crate::http::pattern::RoutePattern;
use crate::http::payment::PaymentChallenge;
use crate::http::pricing::Pricing;
use crate::http::wire::authorities;
use crate::issuer::Issuer;
use crate::protocol::{Directory, DirectoryError, GatewayId, GatewaySigningKey, SignedDirectory};

/// What a gateway goes on with.
pub struct Adoption {
    /// The same gateway under the newer directory: [`Gateway::adopt`], which takes some 0.1 s for each new epoch and is not for an
    /// async thread.
    pub gateway: Arc<Gateway>,
    /// The issuer that has published that directory: [`Issuer::publish`] or [`Issuer::succeed`].
    pub issuer: Arc<Issuer>,
    /// What calls cost from now on; as before if there is none. It counts for spends under every tariff that is still accepted, so
    /// that each of them needs a price for all that it counts.
    pub pricing: Option<Box<dyn Pricing>>,
    /// Requests that cost nothing from now on; as before if there are none.
    pub free: Option<Vec<RoutePattern>>,
}

impl core::fmt::Debug for Adoption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Adoption").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// Why a gateway does not go on under another directory. Its operator is at fault; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It is another gateway: another id or owner, or over another set.
    #[error("this is another gateway, or one over another set")]
    OtherGateway,
    /// The directory cannot follow the one that is served.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The gateway and the issuer are not under one directory.
    #[error("the gateway and the issuer have different directories")]
    Torn,
    /// The directory does not name the gateway any more.
    #[error("the directory does not name this gateway")]
    NotNamed,
    /// The directory names another key for the gateway: nobody would believe its receipts.
    #[error("the key is not the one that the directory names for the gateway")]
    Key,
    /// What the directory says makes no challenge.
    #[error("the directory makes no challenge that a header can carry")]
    Challenge,
}

impl From<AdoptError> for io::Error {
    fn from(error: AdoptError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// What everybody is told, by one directory.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) challenge: HeaderValue,
    pub(super) directory: Bytes,
    /// The authorities of the gateway's origins, and each with its scheme's default port.
    pub(super) authorities: Vec<(String, String)>,
}

impl Terms {
    pub(super) fn local(gateway: &Gateway, issuer: &Issuer, key: &GatewaySigningKey) -> Result<Self, AdoptError> {
        if issuer.directory().digest() != gateway.directory().digest() {
            return Err(AdoptError::Torn);
        }
        Self::of(gateway.directory(), issuer.signed_directory(), &gateway.id(), key)
    }

    pub(super) fn of(
        directory: &Directory,
        signed: &SignedDirectory,
        gateway: &GatewayId,
        key: &GatewaySigningKey,
    ) -> Result<Self, AdoptError> {
        let entry = directory.gateway(gateway).ok_or(AdoptError::NotNamed)?;
        if entry.key != key.public_key() {
            return Err(AdoptError::Key);
        }
        let challenge = PaymentChallenge::of(directory, gateway).to_header_value();
        Ok(Self {
            challenge: HeaderValue::from_str(&challenge).map_err(|_| AdoptError::Challenge)?,
            directory: signed.to_bytes().into(),
            authorities: entry.origins.iter().filter_map(|origin| authorities(origin)).collect(),
        })
    }
}
