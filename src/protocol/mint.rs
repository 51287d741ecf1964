//! Minting: what a payer sends, and what comes back.

use halometer_circuits::note::{AccountId, NoteSecret};
use halometer_circuits::schnorr::Signature;
use zeroize::Zeroizing;

use super::VERSION;
use super::bytes::{Digest, PaymentId, digest};
use super::codec::{DecodeError, Reader};
use super::credits::Credits;
use super::epoch::EpochNumber;

/// Number of leaves of every mint, whatever the amount, so that their number says nothing.
pub const LANES: usize = 8;

/// One lane of a mint.
#[derive(Debug)]
pub struct MintLane {
    /// `rho` of the lane's first note.
    pub note: NoteSecret,
    /// What the note will be worth; may be nothing.
    pub amount: Credits,
}

/// A payer's request: the payer's account id, and for each lane a `rho` and an amount. The amounts add up to the
/// payment.
pub struct MintRequest {
    /// The payment that is minted.
    pub payment: PaymentId,
    /// `A`.
    pub account: AccountId,
    /// The lanes.
    pub lanes: [MintLane; LANES],
}

/// Nothing of it: the payment's id is worth the payment until it is minted, and account and `rho` are between payer and issuer.
impl core::fmt::Debug for MintRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MintRequest(..)")
    }
}

impl MintRequest {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 32 + 32 + LANES * (32 + 8);

    /// Version (1), payment (32), `A` (32), then for each lane `rho` (32) and amount (8). Wiped on drop: `rho` is a secret
    /// between the payer and the issuer.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(Self::LENGTH));
        out.push(VERSION);
        out.extend_from_slice(self.payment.as_bytes());
        out.extend_from_slice(&self.account.to_bytes());
        for lane in &self.lanes {
            out.extend_from_slice(&*Zeroizing::new(lane.note.to_bytes()));
            out.extend_from_slice(&lane.amount.micro().to_be_bytes());
        }
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let payment = PaymentId::from_bytes(reader.array()?);
        let account = reader.canonical("account id", AccountId::from_bytes)?;
        let lanes = read_array(|| {
            Ok(MintLane {
                note: reader.canonical("note secret", NoteSecret::from_bytes)?,
                amount: Credits::from_micro(reader.u64()?),
            })
        })?;
        reader.finish()?;
        Ok(Self { payment, account, lanes })
    }

    /// Digest of the whole request, by which the issuer knows it again without keeping any `rho`.
    pub fn digest(&self) -> Digest {
        digest(b"halometer1-mintr", &[&self.to_bytes()])
    }
}

/// What the issuer signed: a signature for each lane's leaf `H_leaf(H_value(N, 0), amount)`.
#[derive(Clone, PartialEq, Eq)]
pub struct MintResponse {
    /// The epoch whose key signed.
    pub epoch: EpochNumber,
    /// The signatures, in the order of the lanes.
    pub signatures: [Signature; LANES],
}

impl core::fmt::Debug for MintResponse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MintResponse(..)")
    }
}

impl MintResponse {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 4 + LANES * Signature::LENGTH;

    /// Version (1), epoch (4), eight signatures (48 each).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        out.push(VERSION);
        out.extend_from_slice(&self.epoch.number().to_be_bytes());
        self.signatures.iter().for_each(|signature| out.extend_from_slice(&signature.to_bytes()));
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let epoch = EpochNumber::new(reader.u32()?);
        let signatures = read_array(|| reader.canonical("signature", Signature::from_bytes))?;
        reader.finish()?;
        Ok(Self { epoch, signatures })
    }
}

pub(super) fn read_array<T>(mut read: impl FnMut() -> Result<T, DecodeError>) -> Result<[T; LANES], DecodeError> {
    let list: Vec<T> = (0..LANES).map(|_| read()).collect::<Result<_, _>>()?;
    list.try_into().map_err(|_| DecodeError::Truncated)
}
