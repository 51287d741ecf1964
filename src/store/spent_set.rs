//! The trait of spent sets.

use crate::protocol::{EpochNumber, OwnerId, Settlement, SpendKey, Timestamp};
use crate::store::{Lease, Record, RecordState, Totals};
use halometer_circuits::note::Nullifier;

/// What became of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insertion {
    /// The nullifier was not there; now it is, with this record.
    Fresh,
    /// The very same spend is there already.
    Same(RecordState),
    /// The nullifier is there with another `x`.
    Conflict(Box<Record>),
}

/// The spent set of one gateway id (protocol, section 5): for each spent epoch a partition of records, by nullifier.
///
/// What an implementation owes:
///
/// * **Linearizable.** Every method is atomic with respect to every other, over all processes that share the set.
/// * **Durable before the answer.** What has been answered is there after a crash.
/// * **Fail closed.** A doubt is an error. No error means "not there".
/// * **Write-once.** A settlement, once stored, is never changed; [`settle`](Self::settle) answers with what is stored.
/// * **Monotone.** A partition goes from missing to open to closing to retired, never back. A retired one leaves a tombstone
///   before its records go, and stays retired after a crash at any point.
pub trait SpentSet: Send + Sync {
    /// Creates the partition of an epoch. An explicit step, taken once when the epoch begins: a gateway that made missing
    /// partitions by itself would take lost data for an empty set.
    ///
    /// # Errors
    /// [`StoreError::PartitionExists`], also for a closing or retired one; failures of the store.
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError>;

    /// Begins to close a partition: nothing is inserted any more, open records can still be settled. Idempotent.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`], [`StoreError::PartitionRetired`]; failures of the store.
    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError>;

    /// Retires a closing partition: a tombstone first, then all records are dropped. Its totals are kept. Idempotent. The
    /// caller has waited for a grace longer than clock skew plus the longest session.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`]; [`StoreError::PartitionOpen`] when it was not closed before; failures of the store.
    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError>;

    /// The record of a nullifier.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`], [`StoreError::PartitionRetired`]; failures of the store.
    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError>;

    /// Inserts a record that is open and has its evidence, unless its nullifier is there already.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`], [`StoreError::PartitionClosed`], [`StoreError::PartitionRetired`];
    /// [`StoreError::BadRecord`]; failures of the store.
    fn insert(&self, record: Record) -> Result<Insertion, StoreError>;

    /// Takes an open record over from an owner whose lease has run out (or renews the lease of `lease.owner` itself), and
    /// answers with the record as it then is. A settled record is answered with and left alone.
    ///
    /// # Errors
    /// [`StoreError::NoRecord`], [`StoreError::NotOwner`]; the partition is missing or retired; failures of the store.
    fn take_over(&self, key: &SpendKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError>;

    /// Settles an open record that belongs to `owner` or whose lease has run out, and answers with what is stored: this
    /// settlement, or the one that was there before. Only that may be released.
    ///
    /// # Errors
    /// [`StoreError::NoRecord`], [`StoreError::NotOwner`]; [`StoreError::BadRecord`] for a refund above the charge; the
    /// partition is missing or retired; failures of the store.
    fn settle(
        &self,
        key: &SpendKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError>;

    /// Erases the evidence of the records of a partition that were settled before an instant; says how many.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError>;

    /// The open records of a partition whose lease has run out, at most `limit`: what a crash left behind.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<SpendKey>, StoreError>;

    /// The nullifiers of a partition whose encoding begins with these two bytes, so that a wallet can ask after one without
    /// naming it.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn bucket(&self, epoch: EpochNumber, prefix: [u8; 2]) -> Result<Vec<Nullifier>, StoreError>;

    /// The sums over a partition; they outlive its records.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`]; failures of the store.
    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError>;
}

/// Why a store did not do as it was asked. Nothing may be concluded from it about what is in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no partition for the epoch: it was never created, or its data is lost.
    #[error("there is no partition for epoch {0}")]
    PartitionMissing(EpochNumber),
    /// There is a partition for the epoch already, or was one.
    #[error("the partition of epoch {0} exists or existed")]
    PartitionExists(EpochNumber),
    /// The partition is open and has to be closed first.
    #[error("the partition of epoch {0} is still open")]
    PartitionOpen(EpochNumber),
    /// The partition takes no more records.
    #[error("the partition of epoch {0} is closing")]
    PartitionClosed(EpochNumber),
    /// The partition was dropped.
    #[error("the partition of epoch {0} is retired")]
    PartitionRetired(EpochNumber),
    /// There is no record of this spend.
    #[error("there is no record of this spend")]
    NoRecord,
    /// The record belongs to another process, whose lease still runs.
    #[error("the record belongs to another process")]
    NotOwner,
    /// The record or the change to it breaks a rule of the set.
    #[error("the record breaks a rule of the set: {0}")]
    BadRecord(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Failed(#[source] Box<dyn core::error::Error + Send + Sync>),
}
