//! A spend that is in the set.

use halometer_circuits::note::{Leaf, ValueCommitment};

use super::bound::BoundSpend;
use super::settled::SettledSpend;
use super::verified::VerifiedSpend;
use crate::protocol::{Credits, OwnerId, Purpose, Settlement, Spend, SpendKey, SpendTag, Timestamp};
use crate::store::{Lease, Record, RecordEvidence, RecordKey, RecordState, SpentSet, StoreError};

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
    tag: SpendTag,
    charge: Credits,
    cap: Credits,
    change: ValueCommitment,
    owner: OwnerId,
    metered: Credits,
}

/// Half a transfer is admitted by itself only to be cancelled. Its charge has moved nowhere, and a wallet refuses a settlement
/// that keeps a part of it.
fn cap(charge: Credits, purpose: u8) -> Credits {
    if purpose == Purpose::TRANSFER { Credits::ZERO } else { charge }
}

/// What became of an attempt to take a record over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reclaim {
    /// It was open, and is this process's now.
    Open(AdmittedSpend),
    /// It was settled already.
    Settled(Settlement),
}

impl core::fmt::Debug for AdmittedSpend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AdmittedSpend").field("charge", &self.charge).finish_non_exhaustive()
    }
}

impl AdmittedSpend {
    /// Of a spend that was just inserted.
    pub(super) fn fresh(bound: &BoundSpend, owner: OwnerId) -> Self {
        let Spend { charge, change, .. } = bound.spend;
        let cap = cap(charge, bound.spend.purpose.number());
        Self { key: bound.key(), tag: bound.record_key().tag, charge, cap, change, owner, metered: Credits::ZERO }
    }

    fn found(key: &RecordKey, evidence: &RecordEvidence, owner: OwnerId, metered: Credits) -> Result<Self, StoreError> {
        let RecordEvidence { context, charge, change, .. } = *evidence;
        let RecordKey { epoch, nullifier, tag } = *key;
        let purpose = Spend::purpose_number(&evidence.spend);
        let cap = cap(charge, purpose.map_err(|_| StoreError::BadRecord("an open record has its spend"))?);
        Ok(Self { key: SpendKey { epoch, nullifier, context }, tag, charge, cap, change, owner, metered })
    }

    /// For a spend that was cancelled before anybody worked for it.
    pub(crate) fn for_nothing(self) -> Self {
        Self { cap: Credits::ZERO, ..self }
    }

    /// Takes over a record that another process left open and whose lease has run out: a process that shares the set
    /// verified and admitted it. It is settled at what was metered, and 0 if nothing was.
    ///
    /// # Errors
    /// [`StoreError`], among them [`StoreError::NotOwner`] while the lease runs.
    pub fn reclaim(set: &dyn SpentSet, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Reclaim, StoreError> {
        let record = set.take_over(key, lease, now)?;
        match (record.state, &record.evidence) {
            (RecordState::Settled(settlement), _) => Ok(Reclaim::Settled(settlement)),
            (RecordState::Open { metered, .. }, Some(evidence)) => {
                Ok(Reclaim::Open(Self::found(key, evidence, lease.owner, metered)?))
            }
            (RecordState::Open { .. }, None) => Err(StoreError::BadRecord("an open record has its evidence")),
        }
    }

    /// An open record that was just read from the set and is this owner's already, lapsed or not. Nothing is renewed. None for
    /// another owner's, and for one that is settled.
    pub(crate) fn owned(record: &Record, owner: OwnerId) -> Result<Option<Self>, StoreError> {
        match (&record.state, &record.evidence) {
            (RecordState::Open { lease, metered }, Some(evidence)) if lease.owner == owner => {
                Self::found(&record.key, evidence, owner, *metered).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// Names its record.
    pub fn record_key(&self) -> RecordKey {
        RecordKey { epoch: self.key.epoch, nullifier: self.key.nullifier, tag: self.tag }
    }

    /// What it had been metered at when this process came to own it: 0, unless another process had begun the work.
    pub fn metered(&self) -> Credits {
        self.metered
    }

    /// What it is settled at when the process that worked on it is gone: what was metered, rounded up to the quantum as
    /// a price is, and down where the [`cap`](Self::cap) does not reach that far.
    pub fn lapsed_cost(&self, quantum: Credits) -> Credits {
        let metered = self.metered.min(self.cap);
        let over = metered.micro().checked_rem(quantum.micro()).unwrap_or(0);
        let rounded_down = Credits::from_micro(metered.micro() - over);
        metered.round_up(quantum).filter(|cost| *cost <= self.cap).unwrap_or(rounded_down)
    }

    /// Writes down what it has been metered at so far, so that it is settled at that if this process dies. For work that goes
    /// on for long, or that is done and cannot be settled at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn meter(&self, set: &dyn SpentSet, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        set.meter(&self.record_key(), self.owner, metered, now)
    }

    /// The charge. What it does not cost comes back.
    pub fn charge(&self) -> Credits {
        self.charge
    }

    /// The most that it may cost: the charge; nothing for half a transfer and for what was cancelled before it was worked for.
    pub fn cap(&self) -> Credits {
        self.cap
    }

    /// `L`: the leaf that its change becomes with this refund.
    pub(crate) fn change_leaf(&self, refund: Credits) -> Leaf {
        self.change.leaf(refund.micro())
    }

    /// The settlement that is stored, if one is.
    pub(crate) fn settled(&self, set: &dyn SpentSet) -> Result<Option<SettledSpend>, StoreError> {
        let record = set.find(self.key.epoch, &self.key.nullifier)?.ok_or(StoreError::NoRecord)?;
        if record.key != self.record_key() {
            return Err(StoreError::NoRecord);
        }
        Ok(match record.state {
            RecordState::Settled(settlement) => Some(SettledSpend::new(self.key, settlement)),
            RecordState::Open { .. } => None,
        })
    }

    /// Stores a settlement unless one is stored, and reads back the one that is.
    pub(crate) fn settle(
        &self,
        set: &dyn SpentSet,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<SettledSpend, StoreError> {
        Ok(SettledSpend::new(self.key, set.settle(&self.record_key(), self.owner, now, settlement)?))
    }
}
