//! Two spends in one transaction (protocol, section 5, "Transfer").

use halometer_circuits::proof::VerifyingKey;

use super::authentic::AuthenticSpend;
use super::parsed::{ParseError, ParsedSpend};
use super::settled::SettledSpend;
use super::verified::{VerifiedSpend, VerifyError};
use crate::protocol::{Credits, Directory, EpochNumber, Purpose, Request, Settlement, Spend, Timestamp, Transfer};
use crate::quota::Permit;
use crate::store::{PairInsertion, Record, RecordKey, RecordState, SpentSet, StoreError};

/// A transfer whose bytes are canonical and whose halves name each other. Nothing of it is believed yet.
#[derive(Debug)]
pub struct ParsedTransfer([ParsedSpend; 2]);

/// A transfer that came from the holder of both session keys. It holds the leave that was taken for its proofs, as an
/// [`AuthenticSpend`] does.
#[derive(Debug)]
pub struct AuthenticTransfer {
    halves: [AuthenticSpend; 2],
    permit: Permit,
}

/// What the cheap checks of a transfer found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScreenedTransfer {
    /// The set holds some of it: this is its answer, and no proof is looked at.
    Known(Transferred),
    /// The set holds nothing of it, or another spend of one of its notes: verify its proofs.
    Unknown(Box<AuthenticTransfer>),
}

/// A transfer that may be carried out, or is answered already.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckedTransfer {
    /// The set holds some of it.
    Known(Transferred),
    /// Both of its proofs hold.
    Verified(Box<VerifiedTransfer>),
}

/// A transfer both of whose proofs hold.
#[derive(Debug)]
pub struct VerifiedTransfer([VerifiedSpend; 2]);

/// What became of a transfer on its way into the set.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transferred {
    /// Both halves are in the set, settled: the giving one, then the taking one.
    Settled(Box<[SettledSpend; 2]>),
    /// One half was cancelled, or both were one by one. The transfer will never be carried out.
    Parted,
    /// The note of one half was spent in another context.
    Conflict {
        /// That half.
        spend: Box<VerifiedSpend>,
        /// The record of the spend before it.
        record: Box<Record>,
    },
}

impl ParsedTransfer {
    /// Reads a [`Transfer`]: two spends of two notes at one gateway, each naming the other's `nf` and `C'`, the first with the
    /// amount as its charge, the second with a charge of 0. That the amount is a denomination is the gateway's to check.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(bytes: &[u8], directory: &Directory) -> Result<Self, ParseError> {
        let [give, take] = Transfer::from_bytes(bytes)?.halves;
        let names = |half: &Spend, other: &Spend| {
            half.purpose == Purpose::Transfer { nullifier: other.nullifier, change: other.change }
        };
        let (a, b) = (&give.spend, &take.spend);
        let paired = names(a, b) && names(b, a) && a.gateway == b.gateway && a.nullifier != b.nullifier;
        if !paired || a.charge.is_zero() || !b.charge.is_zero() {
            return Err(ParseError::Unpaired);
        }
        Ok(Self([ParsedSpend::half(give, directory)?, ParsedSpend::half(take, directory)?]))
    }

    /// The spends: the giving one, then the taking one.
    pub fn spends(&self) -> [&Spend; 2] {
        [self.0[0].spend(), self.0[1].spend()]
    }

    /// Names the records of the halves.
    pub fn record_keys(&self) -> [RecordKey; 2] {
        [self.0[0].record_key(), self.0[1].record_key()]
    }

    /// Checks both session signatures against the request that carried the transfer, whose content digest is that of an empty
    /// body. None when one is not of this request.
    pub fn authenticate(self, request: &Request<'_>) -> Option<AuthenticTransfer> {
        let [give, take] = self.0;
        let halves = [give.authenticate(request)?, take.authenticate(request)?];
        Some(AuthenticTransfer { halves, permit: Permit::free() })
    }
}

impl AuthenticTransfer {
    /// The same with the leave to verify its proofs.
    pub(crate) fn with_permit(self, permit: Permit) -> Self {
        Self { permit, ..self }
    }

    /// What the set answers by itself: both settlements where it holds both halves settled as a pair, and that they are parted
    /// where it holds one without the other. None where it holds neither, or another spend of one of the notes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn known(&self, set: &dyn SpentSet) -> Result<Option<Transferred>, StoreError> {
        let amount = self.halves[0].spend().charge;
        let mut settlements = Vec::with_capacity(2);
        let (mut found, mut whole) = (false, true);
        for (half, refund) in self.halves.iter().zip([Credits::ZERO, amount]) {
            let key = half.key();
            match set.find(key.epoch, &key.nullifier)? {
                None => whole = false,
                Some(record) if !record.is_of(&half.record_key(), &key.context) => return Ok(None),
                Some(record) => {
                    found = true;
                    match record.state {
                        RecordState::Settled(settlement) if settlement.refund == refund => {
                            settlements.push(SettledSpend::new(key, settlement));
                        }
                        _ => whole = false,
                    }
                }
            }
        }
        Ok(match <[SettledSpend; 2]>::try_from(settlements) {
            Ok(settled) if whole => Some(Transferred::Settled(Box::new(settled))),
            _ if found => Some(Transferred::Parted),
            _ => None,
        })
    }

    /// Verifies both proofs. `key` gives the verifying key of an epoch.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify<'a>(
        self,
        key: impl Fn(EpochNumber) -> Option<&'a VerifyingKey>,
    ) -> Result<VerifiedTransfer, VerifyError> {
        let verify = |half: AuthenticSpend| {
            let key = key(half.key().epoch).ok_or(VerifyError::OtherEpochKey)?;
            half.verify(key)
        };
        let Self { halves: [give, take], permit } = self;
        let verified = VerifiedTransfer([verify(give)?, verify(take)?]);
        permit.used();
        Ok(verified)
    }

    /// Skips the proofs, for the model test.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_proof(self) -> VerifiedTransfer {
        self.permit.used();
        VerifiedTransfer(self.halves.map(AuthenticSpend::without_proof))
    }
}

impl ScreenedTransfer {
    /// Skips the proofs, for the model test.
    #[cfg(test)]
    pub(crate) fn without_proof(self) -> CheckedTransfer {
        match self {
            Self::Known(known) => CheckedTransfer::Known(known),
            Self::Unknown(transfer) => CheckedTransfer::Verified(Box::new(transfer.without_proof())),
        }
    }
}

impl VerifiedTransfer {
    /// What it moves.
    pub fn amount(&self) -> Credits {
        self.0[0].spend().charge
    }

    /// The spends: the giving one, then the taking one.
    pub fn spends(&self) -> [&Spend; 2] {
        [self.0[0].spend(), self.0[1].spend()]
    }

    /// What the set holds, if it holds both halves settled.
    pub(crate) fn settled(&self, set: &dyn SpentSet) -> Result<Option<[SettledSpend; 2]>, StoreError> {
        let find = |half: &VerifiedSpend, refund: Credits| {
            let found = set.find(half.key().epoch, &half.key().nullifier)?;
            Ok::<_, StoreError>(match found {
                Some(record) if record.is_of(&half.record_key(), &half.key().context) => match record.state {
                    RecordState::Settled(settlement) if settlement.refund == refund => {
                        Some(SettledSpend::new(half.key(), settlement))
                    }
                    _ => None,
                },
                _ => None,
            })
        };
        let (give, take) = (find(&self.0[0], Credits::ZERO)?, find(&self.0[1], self.amount())?);
        Ok(give.zip(take).map(|(give, take)| [give, take]))
    }

    /// Stores both halves with their settlements in one transaction, unless some of it is there, and reads back what is.
    pub(crate) fn store(
        self,
        set: &dyn SpentSet,
        settlements: [Settlement; 2],
        now: Timestamp,
    ) -> Result<Transferred, StoreError> {
        let [give, take] = self.0;
        let keys = [give.key(), take.key()];
        let [first, second] = settlements.clone().map(RecordState::Settled);
        let pair = [give.0.record(first), take.0.record(second)];
        let settled = |[give, take]: [Settlement; 2]| {
            Transferred::Settled(Box::new([SettledSpend::new(keys[0], give), SettledSpend::new(keys[1], take)]))
        };
        Ok(match set.insert_pair(pair, now)? {
            PairInsertion::Fresh => settled(settlements),
            PairInsertion::Same(stored) => settled(*stored),
            PairInsertion::Parted => Transferred::Parted,
            PairInsertion::Conflict(record) => {
                let is_give = record.key.epoch == keys[0].epoch && record.key.nullifier == keys[0].nullifier;
                Transferred::Conflict { spend: Box::new(if is_give { give } else { take }), record }
            }
        })
    }
}
