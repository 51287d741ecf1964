//! A spent set in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use halometer_circuits::note::Nullifier;

use super::rules;
use crate::protocol::{Credits, EpochNumber, OwnerId, Prefix, Settlement, Timestamp};
use crate::store::{
    Beat, Insertion, Lease, Look, PairInsertion, PartitionPhase, Pulse, Record, RecordKey, RecordState, SpentSet,
    StoreError, Totals,
};

/// A [`SpentSet`] in memory, behind one lock. It forgets everything when the process ends: a gateway that uses it takes a new
/// id and new epochs at every start.
#[derive(Default)]
pub struct MemorySpentSet {
    partitions: Mutex<BTreeMap<EpochNumber, Partition>>,
    pulse: Mutex<Option<Pulse>>,
}

struct Partition {
    phase: PartitionPhase,
    // By the bytes of the nullifier, so that a prefix is a range.
    entries: BTreeMap<[u8; 32], Entry>,
    totals: Totals,
    erased: Totals,
}

struct Entry {
    record: Record,
    /// When it was settled.
    settled: Option<Timestamp>,
}

impl core::fmt::Debug for MemorySpentSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MemorySpentSet(..)")
    }
}

impl MemorySpentSet {
    /// A set without partitions.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, BTreeMap<EpochNumber, Partition>>, StoreError> {
        // A thread that panicked while it held the lock may have left a record half changed.
        self.partitions.lock().map_err(|_| StoreError::Failed("a thread panicked while it changed the set".into()))
    }

    fn lock_pulse(&self) -> Result<MutexGuard<'_, Option<Pulse>>, StoreError> {
        self.pulse.lock().map_err(|_| StoreError::Failed("a thread panicked while it changed the set".into()))
    }

    fn with<T>(
        &self,
        epoch: EpochNumber,
        action: impl FnOnce(&mut Partition) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        action(live(&mut *self.lock()?, epoch)?)
    }
}

fn live(partitions: &mut BTreeMap<EpochNumber, Partition>, epoch: EpochNumber) -> Result<&mut Partition, StoreError> {
    match partitions.get_mut(&epoch) {
        None => Err(StoreError::PartitionMissing(epoch)),
        Some(Partition { phase: PartitionPhase::Retired, .. }) => Err(StoreError::PartitionRetired(epoch)),
        Some(partition) => Ok(partition),
    }
}

impl Partition {
    fn entry(&mut self, key: &RecordKey) -> Result<(&mut Entry, &mut Totals), StoreError> {
        let entry = self.entries.get_mut(&key.nullifier.to_bytes()).filter(|entry| entry.record.key == *key);
        Ok((entry.ok_or(StoreError::NoRecord)?, &mut self.totals))
    }

    fn insert(&mut self, record: Record) -> Result<Insertion, StoreError> {
        let charge = rules::new_record(&record)?;
        let nullifier = record.key.nullifier.to_bytes();
        if let Some(Entry { record: found, .. }) = self.entries.get(&nullifier) {
            return Ok(if rules::same(found, &record) {
                Insertion::Same(found.state.clone())
            } else {
                Insertion::Conflict(Box::new(found.clone()))
            });
        }
        if self.phase != PartitionPhase::Open {
            return Err(StoreError::PartitionClosed(record.key.epoch));
        }
        self.entries.insert(nullifier, Entry { record, settled: None });
        self.totals.admit(charge);
        Ok(Insertion::Fresh)
    }
}

impl SpentSet for MemorySpentSet {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        let mut partitions = self.lock()?;
        if partitions.contains_key(&epoch) {
            return Err(StoreError::PartitionExists(epoch));
        }
        let (entries, totals, erased) = Default::default();
        partitions.insert(epoch, Partition { phase: PartitionPhase::Open, entries, totals, erased });
        Ok(())
    }

    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.with(epoch, |partition| {
            partition.phase = PartitionPhase::Closing;
            Ok(())
        })
    }

    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        let mut partitions = self.lock()?;
        let partition = partitions.get_mut(&epoch).ok_or(StoreError::PartitionMissing(epoch))?;
        if partition.phase == PartitionPhase::Open {
            return Err(StoreError::PartitionOpen(epoch));
        }
        partition.phase = PartitionPhase::Retired;
        partition.entries.clear();
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        Ok(self.lock()?.iter().map(|(epoch, partition)| (*epoch, partition.phase)).collect())
    }

    fn beat(&self, look: Look) -> Result<Beat, StoreError> {
        let is_new = self.lock()?.is_empty();
        let mut pulse = self.lock_pulse()?;
        let beat = Pulse::next(*pulse, is_new, look);
        if let Beat::Steady(next) = beat {
            *pulse = Some(next);
        }
        Ok(beat)
    }

    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        Ok(*self.lock_pulse()?)
    }

    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.with(epoch, |partition| Ok(partition.entries.get(&nullifier.to_bytes()).map(|entry| entry.record.clone())))
    }

    fn insert_all(&self, records: Vec<Record>, _: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        records.into_iter().map(|record| self.with(record.key.epoch, |partition| partition.insert(record))).collect()
    }

    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        let amount = rules::new_pair(&pair)?;
        let mut partitions = self.lock()?;
        let mut found = Vec::new();
        for Record { key, .. } in &pair {
            let partition = live(&mut partitions, key.epoch)?;
            found.push(partition.entries.get(&key.nullifier.to_bytes()).map(|entry| entry.record.clone()));
        }
        if let Some(outcome) = rules::pair_found(&pair, &found) {
            return Ok(outcome);
        }
        for Record { key, .. } in &pair {
            if live(&mut partitions, key.epoch)?.phase != PartitionPhase::Open {
                return Err(StoreError::PartitionClosed(key.epoch));
            }
        }
        let amount = u128::from(amount.micro());
        for (i, record) in pair.into_iter().enumerate() {
            let partition = live(&mut partitions, record.key.epoch)?;
            partition.totals.settled += 1;
            *[&mut partition.totals.moved_out, &mut partition.totals.moved_in][i] += amount;
            partition.entries.insert(record.key.nullifier.to_bytes(), Entry { record, settled: Some(now) });
        }
        Ok(PairInsertion::Fresh)
    }

    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        self.with(key.epoch, |partition| {
            let (entry, _) = partition.entry(key)?;
            let charge = entry.record.evidence.as_ref().map_or(Credits::ZERO, |evidence| evidence.charge);
            let RecordState::Open { lease, metered: known } = &mut entry.record.state else { return Ok(()) };
            rules::may_change(lease, owner, now)?;
            *known = rules::metered(*known, metered, charge)?;
            Ok(())
        })
    }

    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        self.with(key.epoch, |partition| {
            let (entry, _) = partition.entry(key)?;
            if let RecordState::Open { lease: held, .. } = &mut entry.record.state {
                rules::may_change(held, lease.owner, now)?;
                *held = lease;
            }
            Ok(entry.record.clone())
        })
    }

    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        self.with(key.epoch, |partition| {
            let (entry, totals) = partition.entry(key)?;
            let held = match &entry.record.state {
                RecordState::Settled(settlement) => return Ok(settlement.clone()),
                RecordState::Open { lease, .. } => lease,
            };
            rules::may_change(held, owner, now)?;
            let charge = entry.record.evidence.as_ref().map_or(Credits::ZERO, |evidence| evidence.charge);
            let cost = rules::cost(charge, settlement.refund)?;
            entry.record.state = RecordState::Settled(settlement.clone());
            entry.settled = Some(now);
            totals.settle(charge, settlement.refund, cost);
            Ok(settlement.clone())
        })
    }

    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.with(epoch, |partition| {
            let mut erased = 0;
            for Entry { record, settled } in partition.entries.values_mut() {
                if settled.is_some_and(|at| at < settled_before)
                    && let (Some(evidence), RecordState::Settled(settlement)) = (record.evidence.take(), &record.state)
                {
                    rules::add_settled(&mut partition.erased, &evidence, settlement)?;
                    erased += 1;
                }
            }
            Ok(erased)
        })
    }

    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.with(epoch, |partition| {
            let lapsed =
                |record: &&Record| matches!(&record.state, RecordState::Open { lease, .. } if lease.until <= now);
            let records = partition.entries.values().map(|entry| &entry.record);
            Ok(records.filter(lapsed).map(|record| record.key).take(limit).collect())
        })
    }

    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        limit: usize,
    ) -> Result<Vec<Nullifier>, StoreError> {
        self.with(epoch, |partition| {
            let Some(range) = rules::bucket_range(prefix, after) else { return Ok(Vec::new()) };
            let entries = partition.entries.range(range);
            Ok(entries.take(limit).map(|(_, entry)| entry.record.key.nullifier).collect())
        })
    }

    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_bytes()));
        self.with(epoch, |partition| {
            let entries = partition.entries.range((low, Bound::Unbounded));
            Ok(entries.take(limit).map(|(_, entry)| entry.record.clone()).collect())
        })
    }

    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.lock()?.get(&epoch).map(|partition| partition.totals).ok_or(StoreError::PartitionMissing(epoch))
    }

    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.lock()?.get(&epoch).map(|partition| partition.erased).ok_or(StoreError::PartitionMissing(epoch))
    }
}
