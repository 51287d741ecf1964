//! A spend as it travels.

use halometer_circuits::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use halometer_circuits::proof::Proof;
use halometer_circuits::spend::SpendPublic;

use super::bytes::{Digest, GatewayId, IssuerId};
use super::codec::{DecodeError, Reader};
use super::context::{Context, Purpose};
use super::credits::Credits;
use super::ed25519::SessionPublicKey;
use super::epoch::{Epoch, EpochNumber};
use super::memo::Memo;
use super::time::Timestamp;

/// A spend: the proof, its public inputs, and what of the context the gateway does not know already. The context hash `x` is
/// never sent; it is computed from what was.
#[derive(Clone, PartialEq, Eq)]
pub struct Spend {
    /// What it is for.
    pub purpose: Purpose,
    /// The epoch of the note that is spent.
    pub epoch: EpochNumber,
    /// The gateway it is for.
    pub gateway: GatewayId,
    /// Digest of the tariff that the caller agreed to.
    pub tariff: Digest,
    /// The one-time session key.
    pub session: SessionPublicKey,
    /// The most that it may cost.
    pub charge: Credits,
    /// After this instant it is not admitted.
    pub not_after: Timestamp,
    /// The wallet's memo.
    pub memo: Memo,
    /// `nf`.
    pub nullifier: Nullifier,
    /// `y`.
    pub share: ShareY,
    /// `C'`.
    pub change: ValueCommitment,
    /// The proof.
    pub proof: Proof,
}

impl core::fmt::Debug for Spend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoch, gateway, charge, .. } = self;
        f.debug_struct("Spend")
            .field("epoch", epoch)
            .field("gateway", gateway)
            .field("charge", charge)
            .finish_non_exhaustive()
    }
}

impl Spend {
    /// The version that an encoded spend begins with. Version 1 had a proof of format 1.
    pub const VERSION: u8 = 2;
    /// Length in bytes of a spend without parameters: a head of 262 and the proof.
    pub const LENGTH: usize = 1 + 1 + 4 + GatewayId::LENGTH + 32 + 32 + 8 + 8 + Memo::LENGTH + 3 * 32 + Proof::LENGTH;
    /// Length in bytes of one half of a transfer, which names the other.
    pub const TRANSFER_LENGTH: usize = Self::LENGTH + 64;

    /// Puts a spend together. `public` are the inputs that `proof` was made for, and `context` is what its `x` is the hash of.
    pub fn assemble(context: &Context, memo: Memo, public: &SpendPublic, proof: Proof) -> Self {
        Self {
            purpose: context.purpose,
            epoch: context.epoch,
            gateway: context.gateway,
            tariff: context.tariff,
            session: context.session,
            charge: context.charge,
            not_after: context.not_after,
            memo,
            nullifier: public.nullifier,
            share: public.share,
            change: context.change,
            proof,
        }
    }

    /// The context of the spend, given the issuer and the entry of the spent epoch, which come from the pinned directory.
    pub fn context(&self, issuer: &IssuerId, entry: &Epoch) -> Context {
        Context {
            issuer: *issuer,
            epoch: self.epoch,
            entry: entry.digest(issuer),
            gateway: self.gateway,
            purpose: self.purpose,
            tariff: self.tariff,
            session: self.session,
            charge: self.charge,
            change: self.change,
            not_after: self.not_after,
            memo: self.memo.digest(),
        }
    }

    /// The public inputs of the proof.
    pub fn public(&self, context: ContextHash) -> SpendPublic {
        SpendPublic {
            context,
            share: self.share,
            nullifier: self.nullifier,
            change: self.change,
            charge: self.charge.micro(),
        }
    }

    /// The encoding, [`LENGTH`](Self::LENGTH) bytes, or [`TRANSFER_LENGTH`](Self::TRANSFER_LENGTH) for half a transfer.
    ///
    /// | bytes | field |
    /// | --- | --- |
    /// | 1 | version, 2 |
    /// | 1 | purpose: 1 session, 2 transfer, 3 rollover |
    /// | 4 | spent epoch |
    /// | 16 | gateway id |
    /// | 32 | digest of the tariff |
    /// | 32 | session public key |
    /// | 8 | charge |
    /// | 8 | not-after |
    /// | 64 | memo |
    /// | 0, or 32 + 32 | parameters of the purpose: for a transfer the other spend's `nf` and `C'` |
    /// | 32 | `nf` |
    /// | 32 | `y` |
    /// | 32 | `C'` |
    /// | [`Proof::LENGTH`] | proof |
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::TRANSFER_LENGTH);
        out.push(Self::VERSION);
        out.push(self.purpose.number());
        out.extend_from_slice(&self.epoch.number().to_be_bytes());
        out.extend_from_slice(self.gateway.as_bytes());
        out.extend_from_slice(self.tariff.as_bytes());
        out.extend_from_slice(&self.session.to_bytes());
        out.extend_from_slice(&self.charge.micro().to_be_bytes());
        out.extend_from_slice(&self.not_after.seconds().to_be_bytes());
        out.extend_from_slice(self.memo.as_bytes());
        out.extend_from_slice(&self.purpose.parameters());
        out.extend_from_slice(&self.nullifier.to_bytes());
        out.extend_from_slice(&self.share.to_bytes());
        out.extend_from_slice(&self.change.to_bytes());
        out.extend_from_slice(self.proof.as_bytes());
        out
    }

    /// Reads the encoding. The proof's own points and numbers are read when it is verified.
    ///
    /// # Errors
    /// [`DecodeError`]: another length, another version, a purpose that is not known, an element that is not canonical.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let number = Self::purpose_number(bytes)?;
        Self::version(bytes)?;
        let mut reader = Reader::exact(bytes, Self::length(number)?)?;
        reader.u16()?;
        let epoch = EpochNumber::new(reader.u32()?);
        let gateway = GatewayId::from_bytes(reader.array()?);
        let tariff = Digest::from_bytes(reader.array()?);
        let session = SessionPublicKey::from_bytes(&reader.array()?).ok_or(DecodeError::Field("session key"))?;
        let charge = Credits::from_micro(reader.u64()?);
        let not_after = Timestamp::from_seconds(reader.u64()?);
        let memo = Memo::from_bytes(reader.array()?);
        let spend = Self {
            purpose: Purpose::read(number, &mut reader)?,
            epoch,
            gateway,
            tariff,
            session,
            charge,
            not_after,
            memo,
            nullifier: reader.canonical("nullifier", Nullifier::from_bytes)?,
            share: reader.canonical("share", ShareY::from_bytes)?,
            change: reader.canonical("change commitment", ValueCommitment::from_bytes)?,
            proof: Proof::from_bytes(reader.take(Proof::LENGTH)?).map_err(|_| DecodeError::Field("proof"))?,
        };
        reader.finish()?;
        Ok(spend)
    }

    /// Refuses another version of what begins with an encoded spend, whatever its length is.
    pub(crate) fn version(bytes: &[u8]) -> Result<(), DecodeError> {
        match bytes.first() {
            Some(&Self::VERSION) | None => Ok(()),
            Some(other) => Err(DecodeError::Version(*other)),
        }
    }

    /// The gateway of what begins with an encoded spend of this version.
    pub(crate) fn gateway_in(bytes: &[u8]) -> Option<GatewayId> {
        const AT: usize = 1 + 1 + 4;
        Self::version(bytes).ok()?;
        let gateway = bytes.get(AT..AT + GatewayId::LENGTH)?;
        gateway.try_into().ok().map(GatewayId::from_bytes)
    }

    /// The number of the purpose of what begins with an encoded spend.
    pub(crate) fn purpose_number(bytes: &[u8]) -> Result<u8, DecodeError> {
        bytes.get(1).copied().ok_or(DecodeError::Length { expected: Self::LENGTH, found: bytes.len() })
    }

    /// The length of an encoded spend with this purpose.
    pub(crate) fn length(purpose: u8) -> Result<usize, DecodeError> {
        let parameters = Purpose::parameters_length(purpose).ok_or(DecodeError::Field("purpose"))?;
        Ok(Self::LENGTH + parameters)
    }
}
