//! The settlement of a spend.

use halometer_circuits::schnorr::Signature;

use super::VERSION;
use super::codec::{DecodeError, Reader};
use super::credits::Credits;
use super::epoch::EpochNumber;

/// What fixes a spend's cost and makes its change a note: `L = H_leaf(C', r)` signed, with `r = charge - cost`. Write-once
/// (protocol, section 5, "Settle"). Not printed: with a leaf it would link two notes.
#[derive(Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The epoch whose key signed the change.
    pub epoch: EpochNumber,
    /// `r`: what comes back of the charge.
    pub refund: Credits,
    /// The signature on the change's leaf.
    pub signature: Signature,
}

impl core::fmt::Debug for Settlement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Settlement(..)")
    }
}

impl Settlement {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 4 + 8 + Signature::LENGTH;

    /// Version (1), epoch (4), refund (8), signature (48).
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        out[0] = VERSION;
        out[1..5].copy_from_slice(&self.epoch.number().to_be_bytes());
        out[5..13].copy_from_slice(&self.refund.micro().to_be_bytes());
        out[13..].copy_from_slice(&self.signature.to_bytes());
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let settlement = Self {
            epoch: EpochNumber::new(reader.u32()?),
            refund: Credits::from_micro(reader.u64()?),
            signature: reader.canonical("signature", Signature::from_bytes)?,
        };
        reader.finish()?;
        Ok(settlement)
    }
}
