//! The context of a spend.

use halometer_circuits::note::{ContextHash, Nullifier, ValueCommitment};

use super::VERSION;
use super::bytes::{Digest, GatewayId, IssuerId, digest};
use super::codec::{DecodeError, Reader};
use super::credits::Credits;
use super::ed25519::SessionPublicKey;
use super::epoch::EpochNumber;
use super::time::Timestamp;

/// What a spend is for. Its number is on the wire; it and the digest of its parameters are in the context.
///
/// | number | purpose |
/// | --- | --- |
/// | 1 | session (a call is the simplest one) |
/// | 2 | transfer between lanes; its parameters are the other spend's `nf` and `C'` |
/// | 3 | rollover into the epoch that issues; charge 0 |
/// | 4 to 15 | reserved: payout, bond, slashing, on-chain settlement, proven standing |
/// | 0, and 16 to 255 | not assigned |
///
/// A cancel has no number: it carries the spend that it cancels, with that one's context.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Opens a session under the session key. It has no parameters.
    Session,
    /// Moves credit to or from another lane, in one transaction with the spend that is named here.
    Transfer {
        /// The other spend's `nf`.
        nullifier: Nullifier,
        /// The other spend's `C'`.
        change: ValueCommitment,
    },
    /// Brings a note of an epoch that issues no more into the one that does. It has no parameters.
    Rollover,
}

/// Without the parameters: they would name a note.
impl core::fmt::Debug for Purpose {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Session => "Session",
            Self::Transfer { .. } => "Transfer(..)",
            Self::Rollover => "Rollover",
        })
    }
}

impl Purpose {
    /// The number of a transfer.
    pub(crate) const TRANSFER: u8 = 2;

    /// Its number.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Transfer { .. } => Self::TRANSFER,
            Self::Rollover => 3,
        }
    }

    /// Digest of the number and the parameters.
    pub fn parameters_digest(&self) -> Digest {
        digest(b"halometer1-param", &[&[self.number()], &self.parameters()])
    }

    /// The parameters: none, or for a transfer `nf` (32) and `C'` (32).
    pub(crate) fn parameters(&self) -> Vec<u8> {
        match self {
            Self::Session | Self::Rollover => Vec::new(),
            Self::Transfer { nullifier, change } => [nullifier.to_bytes(), change.to_bytes()].concat(),
        }
    }

    /// Length of the parameters of the purpose with this number, bytes; none when this version does not carry it out.
    pub(crate) const fn parameters_length(number: u8) -> Option<usize> {
        match number {
            1 | 3 => Some(0),
            2 => Some(64),
            _ => None,
        }
    }

    /// Reads the parameters of the purpose with this number.
    pub(crate) fn read(number: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Session),
            2 => Ok(Self::Transfer {
                nullifier: reader.canonical("other nullifier", Nullifier::from_bytes)?,
                change: reader.canonical("other change commitment", ValueCommitment::from_bytes)?,
            }),
            3 => Ok(Self::Rollover),
            _ => Err(DecodeError::Field("purpose")),
        }
    }
}

/// Everything that a spend is bound to (protocol, section 3). The version is [`VERSION`](super::VERSION).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Whose notes.
    pub issuer: IssuerId,
    /// Whose key signed the note that is spent.
    pub epoch: EpochNumber,
    /// Digest of that epoch's directory entry.
    pub entry: Digest,
    /// Where it is spent.
    pub gateway: GatewayId,
    /// What for.
    pub purpose: Purpose,
    /// Digest of the tariff that the caller agreed to.
    pub tariff: Digest,
    /// The one-time session key.
    pub session: SessionPublicKey,
    /// The charge.
    pub charge: Credits,
    /// `C'`, the change note.
    pub change: ValueCommitment,
    /// After this instant the spend is not admitted.
    pub not_after: Timestamp,
    /// Digest of the memo.
    pub memo: Digest,
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoch, gateway, purpose, charge, .. } = self;
        f.debug_struct("Context")
            .field("epoch", epoch)
            .field("gateway", gateway)
            .field("purpose", purpose)
            .field("charge", charge)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// `x`: the hash of all of it, fixed-width parts one after the other. None in the one case in 2^255 in which it is
    /// zero; a wallet then makes another spend, and a recipient refuses this one.
    ///
    /// | bytes | part |
    /// | --- | --- |
    /// | 1 | version |
    /// | 32 | issuer id |
    /// | 4 + 32 | spent epoch, digest of its entry |
    /// | 16 | gateway id |
    /// | 1 + 32 | purpose, digest of its parameters |
    /// | 32 | digest of the tariff |
    /// | 32 | session public key |
    /// | 8 | charge |
    /// | 32 | `C'` |
    /// | 8 | not-after |
    /// | 32 | digest of the memo |
    pub fn hash(&self) -> Option<ContextHash> {
        ContextHash::hash(
            b"halometer1-ctext",
            &[
                &[VERSION],
                self.issuer.as_bytes(),
                &self.epoch.number().to_be_bytes(),
                self.entry.as_bytes(),
                self.gateway.as_bytes(),
                &[self.purpose.number()],
                self.purpose.parameters_digest().as_bytes(),
                self.tariff.as_bytes(),
                &self.session.to_bytes(),
                &self.charge.micro().to_be_bytes(),
                &self.change.to_bytes(),
                &self.not_after.seconds().to_be_bytes(),
                self.memo.as_bytes(),
            ],
        )
    }
}
