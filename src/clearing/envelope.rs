//! What a request of a remote gateway travels in.

use rand_core::{CryptoRng, Rng};

use super::ClearingRequest;
use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{
    Digest, GatewayId, GatewayKey, GatewaySigningKey, IssuerId, SIGNATURE, Timestamp, VERSION, digest,
};

/// What a gateway's key signs of an envelope begins with this, so that the signature means nothing else.
const PREFIX: &[u8] = b"halometer/1 clearing\0";

/// A request, its sender and addressee, and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The issuer that is asked.
    pub issuer: IssuerId,
    /// The gateway that asks.
    pub gateway: GatewayId,
    /// When it asks.
    pub time: Timestamp,
    /// Random, so that each envelope, and the answer to it, is another one.
    pub nonce: [u8; 16],
    /// What it asks.
    pub request: ClearingRequest,
}

/// Why bytes are no envelope that is acted on. The sender is at fault; nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes are none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is for another issuer.
    #[error("the envelope is for issuer {0}")]
    OtherIssuer(IssuerId),
    /// No such gateway clears here: it is unknown, or was removed from the directory.
    #[error("gateway {0} does not clear here")]
    UnknownGateway(GatewayId),
    /// Its time is further from now than [`Envelope::TOLERANCE`]: one of the two clocks is wrong, or it was held back.
    #[error("the envelope's time, {}, is too far from now", .0.seconds())]
    Stale(Timestamp),
    /// The signature is not the gateway's.
    #[error("the envelope is not signed by its gateway")]
    Signature,
}

impl Envelope {
    /// How far its time may be from now, seconds, either way.
    pub const TOLERANCE: u64 = 300;
    /// Longest encoding, bytes.
    pub const MAX_LENGTH: usize = Self::HEAD + ClearingRequest::MAX_LENGTH + SIGNATURE;

    const HEAD: usize = 1 + IssuerId::LENGTH + GatewayId::LENGTH + 8 + 16;

    /// Puts a request into an envelope of its own.
    pub fn new<R: Rng + CryptoRng>(
        issuer: IssuerId,
        gateway: GatewayId,
        time: Timestamp,
        request: ClearingRequest,
        rng: &mut R,
    ) -> Self {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        Self { issuer, gateway, time, nonce, request }
    }

    /// Version (1), issuer id (32), gateway id (16), time (8), nonce (16), the [`ClearingRequest`], signature (64). The signature
    /// is over `"halometer/1 clearing\0"` and all that is before it.
    pub fn sign(&self, key: &GatewaySigningKey) -> Vec<u8> {
        let request = self.request.to_bytes();
        let mut out = Vec::with_capacity(Self::HEAD + request.len() + SIGNATURE);
        out.push(VERSION);
        out.extend_from_slice(self.issuer.as_bytes());
        out.extend_from_slice(self.gateway.as_bytes());
        out.extend_from_slice(&self.time.seconds().to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&request);
        let signature = key.sign(&[PREFIX, &out].concat());
        out.extend_from_slice(&signature);
        out
    }

    /// Reads and verifies an envelope, the cheapest checks first. `key` gives the key of a gateway that clears here.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn verify(
        bytes: &[u8],
        issuer: &IssuerId,
        key: impl FnOnce(&GatewayId) -> Option<GatewayKey>,
        now: Timestamp,
    ) -> Result<Self, EnvelopeError> {
        if bytes.len() > Self::MAX_LENGTH {
            return Err(DecodeError::Length { expected: Self::MAX_LENGTH, found: bytes.len() }.into());
        }
        let (signed, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(signed);
        reader.version()?;
        let named = IssuerId::from_bytes(reader.array()?);
        let gateway = GatewayId::from_bytes(reader.array()?);
        let time = Timestamp::from_seconds(reader.u64()?);
        let nonce = reader.array()?;
        if named != *issuer {
            return Err(EnvelopeError::OtherIssuer(named));
        }
        let key = key(&gateway).ok_or(EnvelopeError::UnknownGateway(gateway))?;
        if time.seconds().abs_diff(now.seconds()) > Self::TOLERANCE {
            return Err(EnvelopeError::Stale(time));
        }
        if !key.verify(&[PREFIX, signed].concat(), signature) {
            return Err(EnvelopeError::Signature);
        }
        let request = ClearingRequest::from_bytes(reader.rest())?;
        Ok(Self { issuer: named, gateway, time, nonce, request })
    }

    /// Names the bytes of an envelope, for the answer to it.
    pub fn digest(bytes: &[u8]) -> Digest {
        digest(b"halometer1-clear", &[bytes])
    }
}
