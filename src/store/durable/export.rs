//! Reading all of a store, for a copy of it elsewhere; and the tombstone of a store that was copied.

#[cfg(feature = "postgres")]
use std::ops::Bound;

use super::DurableStore;
use super::transaction::Place;
use crate::store::StoreError;
#[cfg(feature = "postgres")]
use {
    super::codec::{PartitionMeta, Row},
    super::evidence_keys::BucketId,
    super::spent_set::whole,
    super::transaction::damaged,
    super::{failed, read_error},
    crate::protocol::codec::Reader,
    crate::protocol::{Credits, EpochNumber, PaymentId, Timestamp},
    crate::store::{PartitionPhase, Record, Totals},
};

/// Under this key `meta` names the store that took the place of this one.
pub(super) const MOVED: &[u8] = b"moved";
/// The longest name of that, bytes.
const LONGEST: usize = 1_024;

/// A partition, without its records.
#[cfg(feature = "postgres")]
pub(crate) struct ExportedPartition {
    pub(crate) epoch: EpochNumber,
    pub(crate) phase: PartitionPhase,
    pub(crate) totals: Totals,
    pub(crate) erased: Totals,
    pub(crate) last_bucket: BucketId,
    pub(crate) buckets: Vec<ExportedBucket>,
}

/// A bucket of evidence that is not erased.
#[cfg(feature = "postgres")]
pub(crate) struct ExportedBucket {
    pub(crate) id: BucketId,
    pub(crate) last_settled: Timestamp,
    /// Of what is settled in it.
    pub(crate) totals: Totals,
}

#[cfg(feature = "postgres")]
impl DurableStore {
    /// All partitions.
    pub(crate) fn export_partitions(&self) -> Result<Vec<ExportedPartition>, StoreError> {
        self.transact(|transaction| {
            let partition = |(epoch, partition): (&EpochNumber, &super::transaction::Partition)| {
                let PartitionMeta { phase, last_bucket, totals, erased } = partition.meta;
                let buckets = partition.buckets.iter().map(|(id, bucket)| {
                    let (last_settled, totals) = (bucket.meta.last_settled, bucket.meta.totals);
                    ExportedBucket { id: *id, last_settled, totals }
                });
                ExportedPartition { epoch: *epoch, phase, totals, erased, last_bucket, buckets: buckets.collect() }
            };
            Ok(transaction.state.partitions.iter().map(partition).collect())
        })
    }

    /// The records of a partition behind a nullifier, each with the bucket of its evidence.
    pub(crate) fn export_records(
        &self,
        epoch: EpochNumber,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<(Record, BucketId)>, StoreError> {
        let views = self.views()?;
        let view = views.get(&epoch).ok_or(StoreError::PartitionMissing(epoch))?;
        let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_vec()));
        let read = |entry: Result<(Vec<u8>, Vec<u8>), _>| {
            let (key, value) = entry.map_err(|error| read_error(error, Some(epoch)))?;
            let nf = key.try_into().map_err(|_| damaged(epoch, "a nullifier has another length"))?;
            let bucket = Row::from_bytes(&value).map_err(|error| damaged(epoch, error))?.bucket;
            Ok((whole(view, epoch, &nf, &value)?, bucket))
        };
        view.live(epoch)?.range((low, Bound::Unbounded)).take(limit).map(read).collect()
    }

    /// The payments behind one.
    pub(crate) fn export_payments(
        &self,
        after: Option<&PaymentId>,
        limit: usize,
    ) -> Result<Vec<(PaymentId, Credits)>, StoreError> {
        self.0.committer.check()?;
        let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_bytes().to_vec()));
        let read = |entry: Result<(Vec<u8>, Vec<u8>), super::EngineError>| {
            let (key, value) = entry.map_err(failed)?;
            let mut payment = Reader::exact(&key, PaymentId::LENGTH).map_err(failed)?;
            let mut amount = Reader::exact(&value, 8).map_err(failed)?;
            let payment = PaymentId::from_bytes(payment.array().map_err(failed)?);
            Ok((payment, Credits::from_micro(amount.u64().map_err(failed)?)))
        };
        self.0.tables.payments.range((low, Bound::Unbounded)).take(limit).map(read).collect()
    }
}

impl DurableStore {
    /// Writes the tombstone of a store whose place another took: it is not opened again. Idempotent; the first name stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn retire_for(&self, to: &str) -> Result<(), StoreError> {
        if to.is_empty() || to.len() > LONGEST {
            return Err(StoreError::BadRecord("the name of another store has 1 to 1024 bytes"));
        }
        let to = to.as_bytes().to_vec();
        self.change(move |transaction| {
            let tables = transaction.tables;
            if transaction.read(Place::Meta, &tables.meta, MOVED)?.is_none() {
                transaction.put(Place::Meta, &tables.meta, MOVED.to_vec(), to);
            }
            Ok(())
        })
    }
}
