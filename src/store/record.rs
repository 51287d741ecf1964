//! What is kept of a spend.

use halometer_circuits::note::{ContextHash, Nullifier, ValueCommitment};

use crate::protocol::{Credits, EpochNumber, Memo, OwnerId, Settlement, SpendTag, Timestamp};

/// Names a record. Two spends of one note are the same spend exactly when their tags are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// The spent epoch, whose partition holds the record.
    pub epoch: EpochNumber,
    /// `nf`.
    pub nullifier: Nullifier,
    /// Stands for `x` and session key, which are erased.
    pub tag: SpendTag,
}

/// Without nullifier, as for [`SpendKey`](crate::protocol::SpendKey).
impl core::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// The party that may settle an open record, and until when no other may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The owner.
    pub owner: OwnerId,
    /// From this instant on anyone may settle.
    pub until: Timestamp,
}

/// How far a recorded spend is.
///
/// ```text
/// (none) --admit--> Open(lease) --settle--> Settled --evidence window--> Settled, evidence erased --epoch dropped--> gone
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordState {
    /// Admitted, not settled.
    Open {
        /// Whose it is.
        lease: Lease,
        /// What has been metered so far: the cost if its owner dies.
        metered: Credits,
    },
    /// Settled. What is here is what every answer gives, for ever.
    Settled(Settlement),
}

/// The record of an admitted spend. What is not evidence stays until the partition is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which spend.
    pub key: RecordKey,
    /// The wallet's memo.
    pub memo: Memo,
    /// What is erased after the evidence window. An open record has it.
    pub evidence: Option<RecordEvidence>,
    /// How far it is.
    pub state: RecordState,
}

impl Record {
    /// Whether it is the record of this very spend: by its tag, and while it has its evidence by `x` itself.
    pub fn is_of(&self, key: &RecordKey, context: &ContextHash) -> bool {
        self.key == *key && self.evidence.as_ref().is_none_or(|evidence| evidence.context == *context)
    }
}

/// The part of a record that settles it and that proves a double spend; erased after the evidence window.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordEvidence {
    /// `x`.
    pub context: ContextHash,
    /// The charge.
    pub charge: Credits,
    /// `C'`.
    pub change: ValueCommitment,
    /// The spend's bytes ([`Spend`](crate::protocol::Spend)), `y` and proof among them.
    pub spend: Vec<u8>,
}

impl core::fmt::Debug for RecordEvidence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordEvidence").field("charge", &self.charge).finish_non_exhaustive()
    }
}

/// How far a partition is. It goes on, never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PartitionPhase {
    /// Takes records.
    Open,
    /// Takes none any more; what is open is settled.
    Closing,
    /// Its records are gone.
    Retired,
}

/// Sums over the records of a partition, in micro-credits where they are of credit.
///
/// For the records that are no transfers, `charges = held + cost + refunded`. A transfer gives `c` in one partition and takes it
/// in another, or in the same: `moved_out` and `moved_in` are equal over all partitions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of records that are open.
    pub open: u64,
    /// Sum of their charges.
    pub held: u128,
    /// Number of records that are settled.
    pub settled: u64,
    /// Sum of their costs: what was charged in the end.
    pub cost: u128,
    /// Sum of their refunds.
    pub refunded: u128,
    /// What transfers took out of the partition's notes.
    pub moved_out: u128,
    /// What transfers brought into change of the partition's notes.
    pub moved_in: u128,
}

impl Totals {
    /// The sums of both; none if one does not fit.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            open: self.open.checked_add(other.open)?,
            held: self.held.checked_add(other.held)?,
            settled: self.settled.checked_add(other.settled)?,
            cost: self.cost.checked_add(other.cost)?,
            refunded: self.refunded.checked_add(other.refunded)?,
            moved_out: self.moved_out.checked_add(other.moved_out)?,
            moved_in: self.moved_in.checked_add(other.moved_in)?,
        })
    }

    pub(super) fn admit(&mut self, charge: Credits) {
        self.open += 1;
        self.held += u128::from(charge.micro());
    }

    pub(super) fn settle(&mut self, charge: Credits, refund: Credits, cost: Credits) {
        self.open -= 1;
        self.held -= u128::from(charge.micro());
        self.settled += 1;
        self.cost += u128::from(cost.micro());
        self.refunded += u128::from(refund.micro());
    }
}
