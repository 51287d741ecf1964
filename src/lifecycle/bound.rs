//! A spend together with the context that it claims.

use halometer_circuits::note::ContextHash;
use halometer_circuits::proof::VerifyingKey;
use halometer_circuits::schnorr::PublicKey;
use halometer_circuits::spend::SpendPublic;

use super::{ParseError, VerifyError};
use crate::protocol::{Directory, Spend, SpendKey, SpendTag};
use crate::store::{Record, RecordEvidence, RecordKey, RecordState};

/// A spend, its `x` computed from the directory, and the key of its epoch.
pub(super) struct BoundSpend {
    pub(super) spend: Spend,
    pub(super) x: ContextHash,
    pub(super) epoch_key: PublicKey,
}

impl core::fmt::Debug for BoundSpend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.spend.fmt(f)
    }
}

impl BoundSpend {
    pub(super) fn new(spend: Spend, directory: &Directory) -> Result<Self, ParseError> {
        let entry = directory.epoch(spend.epoch).ok_or(ParseError::UnknownEpoch(spend.epoch))?;
        let x = spend.context(&directory.issuer(), entry).hash().ok_or(ParseError::ZeroContext)?;
        Ok(Self { spend, x, epoch_key: entry.key })
    }

    pub(super) fn key(&self) -> SpendKey {
        SpendKey { epoch: self.spend.epoch, nullifier: self.spend.nullifier, context: self.x }
    }

    pub(super) fn record_key(&self) -> RecordKey {
        let tag = SpendTag::of(&self.x, &self.spend.session);
        RecordKey { epoch: self.spend.epoch, nullifier: self.spend.nullifier, tag }
    }

    pub(super) fn record(&self, state: RecordState) -> Record {
        let Spend { charge, change, memo, .. } = self.spend;
        let evidence = RecordEvidence { context: self.x, charge, change, spend: self.spend.to_bytes() };
        Record { key: self.record_key(), memo, evidence: Some(evidence), state }
    }

    pub(super) fn public(&self) -> SpendPublic {
        self.spend.public(self.x)
    }

    /// The verifying key is the caller's to choose; that it is the one of the spent epoch is checked here.
    pub(super) fn check_key(&self, key: &VerifyingKey) -> Result<(), VerifyError> {
        if key.epoch_key() == self.epoch_key { Ok(()) } else { Err(VerifyError::OtherEpochKey) }
    }

    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<(), VerifyError> {
        self.check_key(key)?;
        Ok(key.verify(&self.public(), &self.spend.proof)?)
    }
}
