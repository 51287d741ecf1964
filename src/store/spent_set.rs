//! The trait of spent sets.

use halometer_circuits::note::Nullifier;

use crate::protocol::{Credits, EpochNumber, OwnerId, Prefix, Settlement, Timestamp};
use crate::store::{Beat, Lease, Look, PartitionPhase, Pulse, Record, RecordKey, RecordState, Totals};

/// What became of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insertion {
    /// The nullifier was not there; now it is, with this record.
    Fresh,
    /// The very same spend is there already.
    Same(RecordState),
    /// The nullifier is there with another context.
    Conflict(Box<Record>),
}

/// What became of the insertion of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PairInsertion {
    /// Neither nullifier was there; now both are, settled.
    Fresh,
    /// The very same pair is there already, with these settlements.
    Same(Box<[Settlement; 2]>),
    /// One of the two is there without the other, or they are not settled as a pair: one of them was cancelled. Nothing was
    /// inserted.
    Parted,
    /// One of the nullifiers is there with another context. Nothing was inserted.
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
///
/// The feature `conformance` has tests that any implementation runs against itself.
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
    /// caller has waited for a grace longer than clock skew plus the longest session, by the time that is [sure](Pulse::sure).
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`]; [`StoreError::PartitionOpen`] when it was not closed before; failures of the store.
    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError>;

    /// All partitions that there are or were, by epoch.
    ///
    /// # Errors
    /// Failures of the store.
    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError>;

    /// Takes a look at a clock in, by the rule of [`Pulse::next`], and remembers what comes of it. Atomic and durable as all else.
    ///
    /// # Errors
    /// Failures of the store. A clock that jumped is no error of the store's, and changes nothing.
    fn beat(&self, look: Look) -> Result<Beat, StoreError>;

    /// The times that are remembered; none before the first [`beat`](Self::beat). What is over by [`Pulse::sure`], and by no other
    /// time, may be destroyed.
    ///
    /// # Errors
    /// Failures of the store.
    fn pulse(&self) -> Result<Option<Pulse>, StoreError>;

    /// The record of a nullifier.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`], [`StoreError::PartitionRetired`]; failures of the store.
    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError>;

    /// The records of many nullifiers, one answer each, in order. A set that is far away asks for all of them at once.
    ///
    /// # Errors
    /// For each as for [`find`](Self::find).
    fn find_all(&self, keys: &[(EpochNumber, Nullifier)]) -> Vec<Result<Option<Record>, StoreError>> {
        keys.iter().map(|(epoch, nullifier)| self.find(*epoch, nullifier)).collect()
    }

    /// Inserts records that are open and have their evidence, each unless its nullifier is there already, one after the other
    /// but in one commit. One answer for each, in order; one may fail and its neighbours not.
    ///
    /// # Errors
    /// For each: [`StoreError::PartitionMissing`], [`StoreError::PartitionClosed`], [`StoreError::PartitionRetired`];
    /// [`StoreError::BadRecord`]; failures of the store.
    fn insert_all(&self, records: Vec<Record>, now: Timestamp) -> Vec<Result<Insertion, StoreError>>;

    /// Inserts one record, as [`insert_all`](Self::insert_all).
    ///
    /// # Errors
    /// As for [`insert_all`](Self::insert_all).
    fn insert(&self, record: Record, now: Timestamp) -> Result<Insertion, StoreError> {
        let missing = || StoreError::Failed("the store gave no answer".into());
        self.insert_all(vec![record], now).pop().ok_or_else(missing)?
    }

    /// Inserts the two halves of a transfer, settled: the first has a charge and a refund of 0, the second a charge of 0 and
    /// that as its refund. Both or neither.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] for records that are no such pair; otherwise as for [`insert_all`](Self::insert_all).
    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError>;

    /// Writes down what an open record has been metered at so far, so that it is settled at that if its owner dies. It never
    /// goes down; of a settled record nothing changes.
    ///
    /// # Errors
    /// [`StoreError::NoRecord`], [`StoreError::NotOwner`]; [`StoreError::BadRecord`] for more than the charge; the partition is
    /// missing or retired; failures of the store.
    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError>;

    /// Takes an open record over from an owner whose lease has run out (or renews the lease of `lease.owner` itself), and
    /// answers with the record as it then is. A settled record is answered with and left alone.
    ///
    /// # Errors
    /// [`StoreError::NoRecord`], [`StoreError::NotOwner`]; the partition is missing or retired; failures of the store.
    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError>;

    /// Settles an open record that belongs to `owner` or whose lease has run out, and answers with what is stored: this
    /// settlement, or the one that was there before. Only that may be released.
    ///
    /// # Errors
    /// [`StoreError::NoRecord`], [`StoreError::NotOwner`]; [`StoreError::BadRecord`] for a refund above the charge; the
    /// partition is missing or retired; failures of the store.
    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError>;

    /// Erases evidence of a partition that was settled before an instant, so that no file of the store has it any more; says of
    /// how many records. A store may erase in portions, and some records later than others: never before the instant, never of
    /// an open record.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError>;

    /// The open records of a partition whose lease has run out, at most `limit`: what a crash left behind.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError>;

    /// The nullifiers of a partition that begin with a prefix, in the order of their bytes, at most `limit`, from behind `after`
    /// on, so that a wallet can ask after one without naming it. With fewer than `limit` they are all that there are. Whatever was
    /// inserted before the first page was asked for is in one of the pages.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        limit: usize,
    ) -> Result<Vec<Nullifier>, StoreError>;

    /// The records of a partition in the order of their nullifiers' bytes, at most `limit`, from behind `after` on: for audits.
    ///
    /// # Errors
    /// The partition is missing or retired; failures of the store.
    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// The sums over a partition; they outlive its records.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`]; failures of the store.
    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError>;

    /// The sums over the records of a partition whose evidence is erased: what an audit cannot add up from charges any more.
    ///
    /// # Errors
    /// [`StoreError::PartitionMissing`]; failures of the store.
    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError>;
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
    /// The partition is open; close it first.
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
    /// Data of the partition is damaged. Nothing of it is served any more: its records may be wrong, or missing.
    #[error("the partition of epoch {epoch} is damaged: {what}")]
    Corrupt {
        /// The epoch.
        epoch: EpochNumber,
        /// What was found.
        what: String,
    },
    /// The store failed.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn core::error::Error + Send + Sync>),
}
