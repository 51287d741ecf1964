//! A spend that is in the set.

use halometer_circuits::note::{Leaf, ValueCommitment};

use super::settled::SettledSpend;
use super::verified::VerifiedSpend;
use crate::protocol::{Credits, OwnerId, Settlement, Spend, SpendKey, Timestamp};
use crate::store::{Lease, Record, RecordState, SpentSet, StoreError};

/// What became of an admission.
#[derive(Debug)]
#[non_exhaustive]
pub enum Admission {
    /// The spend is in the set, and this process owns it: work may begin.
    Fresh(AdmittedSpend),
    /// The same spend was there already.
    Same(RecordState),
    /// The note was spent in another context.
    Conflict {
        /// The spend that was refused.
        spend: Box<VerifiedSpend>,
        /// The record of the one before it.
        record: Box<Record>,
    },
}

/// A spend that was verified, is in the set, and is owned by this process: it may be worked for, and must be settled. This is
/// the only thing an issuer signs change for.
///
/// It is not consumed by settling, so that a store that failed can be asked again; the set is what makes it happen once.
pub struct AdmittedSpend {
    key: SpendKey,
    charge: Credits,
    change: ValueCommitment,
    owner: OwnerId,
}

/// What became of an attempt to take a record over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reclaim {
    /// It was open, and is this process's now.
    Open(AdmittedSpend),
    /// It was settled already.
    Settled(SettledSpend),
}

impl core::fmt::Debug for AdmittedSpend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AdmittedSpend").field("charge", &self.charge).finish_non_exhaustive()
    }
}

impl AdmittedSpend {
    pub(super) fn fresh(key: SpendKey, spend: &Spend, owner: OwnerId) -> Self {
        Self { key, charge: spend.charge, change: spend.change, owner }
    }

    /// Takes over a record that another process left open and whose lease has run out: it was verified and admitted by one
    /// who shares the set. It is settled at what was metered, and 0 if nothing was.
    ///
    /// # Errors
    /// [`StoreError`], among them [`StoreError::NotOwner`] while the lease runs.
    pub fn reclaim(set: &dyn SpentSet, key: &SpendKey, lease: Lease, now: Timestamp) -> Result<Reclaim, StoreError> {
        let record = set.take_over(key, lease, now)?;
        match (record.state, record.evidence) {
            (RecordState::Settled { settlement, .. }, _) => {
                Ok(Reclaim::Settled(SettledSpend::new(record.key, settlement)))
            }
            (RecordState::Open(_), Some(evidence)) => Ok(Reclaim::Open(Self {
                key: record.key,
                charge: evidence.charge,
                change: evidence.change,
                owner: lease.owner,
            })),
            (RecordState::Open(_), None) => Err(StoreError::BadRecord("an open record has its evidence")),
        }
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// The most that it may cost.
    pub fn charge(&self) -> Credits {
        self.charge
    }

    /// `L`: the leaf that its change becomes with this refund.
    pub(crate) fn change_leaf(&self, refund: Credits) -> Leaf {
        self.change.leaf(refund.micro())
    }

    /// The settlement that is stored, if one is.
    pub(crate) fn settled(&self, set: &dyn SpentSet) -> Result<Option<SettledSpend>, StoreError> {
        let record = set.find(self.key.epoch, &self.key.nullifier)?.ok_or(StoreError::NoRecord)?;
        if record.key != self.key {
            return Err(StoreError::NoRecord);
        }
        Ok(match record.state {
            RecordState::Settled { settlement, .. } => Some(SettledSpend::new(self.key, settlement)),
            RecordState::Open(_) => None,
        })
    }

    /// Stores a settlement unless one is stored, and reads back the one that is.
    pub(crate) fn settle(
        &self,
        set: &dyn SpentSet,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<SettledSpend, StoreError> {
        Ok(SettledSpend::new(self.key, set.settle(&self.key, self.owner, now, settlement)?))
    }
}
