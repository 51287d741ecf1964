//! The spent set of a durable store.

use std::ops::Bound;
use std::sync::Arc;

use halometer_circuits::note::Nullifier;

use super::codec::{Row, evidence_to_bytes, nullifier};
use super::transaction::{Sealed, Transaction, damaged, unseal};
use super::{DurableStore, View, Views, read_error};
use crate::protocol::{Credits, EpochNumber, OwnerId, Prefix, Settlement, Timestamp};
use crate::store::{
    Beat, Insertion, Lease, Look, PairInsertion, PartitionPhase, Pulse, Record, RecordKey, RecordState, SpentSet,
    StoreError, Totals, rules,
};

/// The spent set in a [`DurableStore`].
#[derive(Clone, Debug)]
pub struct DurableSpentSet(pub(super) DurableStore);

impl DurableSpentSet {
    /// The store it is in.
    pub fn store(&self) -> &DurableStore {
        &self.0
    }

    fn change<T: Send + 'static>(
        &self,
        epoch: EpochNumber,
        operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.0.committer.check_partition(epoch)?;
        self.0.note(self.0.change(operation))
    }

    /// Reads from a partition's tables, in the calling thread.
    fn look<T>(&self, epoch: EpochNumber, read: impl Fn(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.0.committer.check_partition(epoch)?;
        let mut views: Views = self.0.views()?;
        loop {
            let outcome = read(views.get(&epoch).ok_or(StoreError::PartitionMissing(epoch))?);
            // What failed while it was being read is no answer, and what was read may be in a bucket that was begun since.
            let now = self.0.views()?;
            if Arc::ptr_eq(&views, &now) {
                return self.0.note(outcome);
            }
            views = now;
        }
    }
}

/// The whole record of what was read from a table of records.
pub(super) fn whole(view: &View, epoch: EpochNumber, nf: &[u8; 32], bytes: &[u8]) -> Result<Record, StoreError> {
    let row = Row::from_bytes(bytes).map_err(|error| damaged(epoch, error))?;
    let nullifier = nullifier(nf).map_err(|error| damaged(epoch, error))?;
    let evidence = match view.buckets.get(&row.bucket) {
        Some((table, key)) => {
            let sealed = table.read(nf).map_err(|error| read_error(error, Some(epoch)))?;
            Some(unseal(epoch, key, nf, sealed)?)
        }
        None => None,
    };
    let key = RecordKey { epoch, nullifier, tag: row.tag };
    Ok(Record { key, memo: row.memo, evidence, state: row.state })
}

fn insert(
    transaction: &mut Transaction<'_>,
    record: &Record,
    sealed: Option<Sealed>,
    now: Timestamp,
) -> Result<Insertion, StoreError> {
    rules::new_record(record)?;
    let key = &record.key;
    if let Some(row) = transaction.row(key.epoch, &key.nullifier.to_bytes())? {
        let found = transaction.record(key, row)?;
        return Ok(match rules::same(&found, record) {
            true => Insertion::Same(found.state),
            false => Insertion::Conflict(Box::new(found)),
        });
    }
    if transaction.live(key.epoch)?.0.meta.phase != PartitionPhase::Open {
        return Err(StoreError::PartitionClosed(key.epoch));
    }
    transaction.write(|transaction| transaction.put_new(record, sealed, now))?;
    Ok(Insertion::Fresh)
}

/// Seals the evidence of a record for the bucket that is probably still the one it goes into.
fn seal(views: &Views, record: &Record) -> Option<Sealed> {
    let (bucket, (_, key)) = views.get(&record.key.epoch)?.buckets.last_key_value()?;
    let evidence = evidence_to_bytes(record.evidence.as_ref()?);
    let bytes = key.seal(&record.key.nullifier.to_bytes(), &evidence).ok()?;
    Some(Sealed { bucket: *bucket, bytes })
}

fn insert_pair(
    transaction: &mut Transaction<'_>,
    pair: &[Record; 2],
    now: Timestamp,
) -> Result<PairInsertion, StoreError> {
    rules::new_pair(pair)?;
    let mut found = Vec::new();
    for Record { key, .. } in pair {
        let row = transaction.row(key.epoch, &key.nullifier.to_bytes())?;
        found.push(row.map(|row| transaction.record(key, row)).transpose()?);
    }
    if let Some(outcome) = rules::pair_found(pair, &found) {
        return Ok(outcome);
    }
    for Record { key, .. } in pair {
        if transaction.live(key.epoch)?.0.meta.phase != PartitionPhase::Open {
            return Err(StoreError::PartitionClosed(key.epoch));
        }
    }
    transaction.write(|transaction| pair.iter().try_for_each(|record| transaction.put_new(record, None, now)))?;
    Ok(PairInsertion::Fresh)
}

impl SpentSet for DurableSpentSet {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(move |transaction| transaction.create(epoch))
    }

    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(move |transaction| {
            transaction.live(epoch)?;
            if let Some(partition) = transaction.state.partitions.get_mut(&epoch) {
                partition.meta.phase = PartitionPhase::Closing;
            }
            transaction.state.republish = true;
            transaction.put_partition(epoch)
        })
    }

    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(move |transaction| transaction.retire(epoch))
    }

    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        Ok(self.0.views()?.iter().map(|(epoch, view)| (*epoch, view.phase)).collect())
    }

    fn beat(&self, look: Look) -> Result<Beat, StoreError> {
        self.0.change(move |transaction| {
            let known = transaction.state.pulse;
            let beat = Pulse::next(known, transaction.state.partitions.is_empty(), look);
            if let Beat::Steady(pulse) = beat
                && known != Some(pulse)
            {
                transaction.put_pulse(pulse);
            }
            Ok(beat)
        })
    }

    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        self.0.transact(|transaction| Ok(transaction.state.pulse))
    }

    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.look(epoch, |view| {
            let nf = nullifier.to_bytes();
            let found = view.live(epoch)?.read(&nf).map_err(|error| read_error(error, Some(epoch)))?;
            found.map(|bytes| whole(view, epoch, &nf, &bytes)).transpose()
        })
    }

    fn insert_all(&self, records: Vec<Record>, now: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        if records.is_empty() {
            return Vec::new();
        }
        let count = records.len();
        let checks: Vec<_> =
            records.iter().map(|record| self.0.0.committer.check_partition(record.key.epoch)).collect();
        // In this thread, as the one that commits is the one that all wait for.
        let sealed: Vec<_> = self.0.views().map_or_else(
            |_| records.iter().map(|_| None).collect(),
            |views| records.iter().map(|record| seal(&views, record)).collect(),
        );
        let outcome = self.0.change(move |transaction| {
            let insert = |((record, check), sealed): ((&Record, Result<(), StoreError>), Option<Sealed>)| {
                check?;
                insert(transaction, record, sealed, now)
            };
            Ok(records.iter().zip(checks).zip(sealed).map(insert).collect::<Vec<_>>())
        });
        match outcome {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| self.0.note(outcome)).collect(),
            Err(error) => {
                let again = || super::failed(error.to_string());
                (0..count).map(|_| Err(again())).collect()
            }
        }
    }

    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        self.0.0.committer.check_partition(pair[1].key.epoch)?;
        self.change(pair[0].key.epoch, move |transaction| insert_pair(transaction, &pair, now))
    }

    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        let key = *key;
        self.change(key.epoch, move |transaction| {
            let row = transaction.own_row(&key)?;
            let RecordState::Open { lease, metered: known } = row.state else { return Ok(()) };
            rules::may_change(&lease, owner, now)?;
            let metered = rules::metered(known, metered, transaction.charge(&key)?)?;
            transaction.put_row(&key, &Row { state: RecordState::Open { lease, metered }, ..row })
        })
    }

    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        let key = *key;
        self.change(key.epoch, move |transaction| {
            let mut row = transaction.own_row(&key)?;
            if let RecordState::Open { lease: held, metered } = row.state {
                rules::may_change(&held, lease.owner, now)?;
                row.state = RecordState::Open { lease, metered };
                transaction.put_lease(&key, &row, lease.until)?;
            }
            transaction.record(&key, row)
        })
    }

    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        let (key, settlement) = (*key, settlement.clone());
        self.change(key.epoch, move |transaction| {
            let row = transaction.own_row(&key)?;
            match &row.state {
                RecordState::Settled(settlement) => return Ok(settlement.clone()),
                RecordState::Open { lease, .. } => rules::may_change(lease, owner, now)?,
            }
            transaction.put_settled(&key, row, &settlement, now)?;
            Ok(settlement)
        })
    }

    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.change(epoch, move |transaction| transaction.erase(epoch, settled_before))
    }

    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.0.0.committer.check_partition(epoch)?;
        self.0.transact(move |transaction| {
            let (partition, _) = transaction.live(epoch)?;
            let lapsed = partition.open.values().filter(|open| open.until <= now).map(|open| open.key);
            Ok(lapsed.take(limit).collect())
        })
    }

    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        limit: usize,
    ) -> Result<Vec<Nullifier>, StoreError> {
        self.look(epoch, |view| {
            let records = view.live(epoch)?;
            let Some((low, high)) = rules::bucket_range(prefix, after) else { return Ok(Vec::new()) };
            let range = (low.map(|low| low.to_vec()), high.map(|high| high.to_vec()));
            let read = |entry: Result<(Vec<u8>, Vec<u8>), _>| {
                let (key, _) = entry.map_err(|error| read_error(error, Some(epoch)))?;
                nullifier(&key).map_err(|error| damaged(epoch, error))
            };
            records.range(range).take(limit).map(read).collect()
        })
    }

    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.look(epoch, |view| {
            let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_bytes().to_vec()));
            let read = |entry: Result<(Vec<u8>, Vec<u8>), _>| {
                let (key, value) = entry.map_err(|error| read_error(error, Some(epoch)))?;
                let nf = key.try_into().map_err(|_| damaged(epoch, "a nullifier has another length"))?;
                whole(view, epoch, &nf, &value)
            };
            view.live(epoch)?.range((low, Bound::Unbounded)).take(limit).map(read).collect()
        })
    }

    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.0.transact(move |transaction| {
            let partition = transaction.state.partitions.get(&epoch);
            Ok(partition.ok_or(StoreError::PartitionMissing(epoch))?.meta.totals)
        })
    }

    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.0.transact(move |transaction| {
            let partition = transaction.state.partitions.get(&epoch);
            Ok(partition.ok_or(StoreError::PartitionMissing(epoch))?.meta.erased)
        })
    }
}
