//! A spent set in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use halometer_circuits::note::Nullifier;

use crate::protocol::{Credits, EpochNumber, OwnerId, Settlement, SpendKey, Timestamp};
use crate::store::{Insertion, Lease, Record, RecordState, SpentSet, StoreError, Totals};

/// A [`SpentSet`] in memory, behind one lock. It forgets everything when the process ends: a gateway that uses it takes a new
/// id and new epochs at every start.
#[derive(Default)]
pub struct MemorySpentSet {
    partitions: Mutex<BTreeMap<EpochNumber, Partition>>,
}

#[derive(Default)]
struct Partition {
    phase: Phase,
    // By the bytes of the nullifier, so that a prefix is a range.
    records: BTreeMap<[u8; 32], Record>,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Closing,
    Retired,
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

    fn with<T>(
        &self,
        epoch: EpochNumber,
        action: impl FnOnce(&mut Partition) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut partitions = self.lock()?;
        match partitions.get_mut(&epoch) {
            None => Err(StoreError::PartitionMissing(epoch)),
            Some(Partition { phase: Phase::Retired, .. }) => Err(StoreError::PartitionRetired(epoch)),
            Some(partition) => action(partition),
        }
    }
}

impl Partition {
    fn record(&mut self, key: &SpendKey) -> Result<(&mut Record, &mut Totals), StoreError> {
        let record = self.records.get_mut(&key.nullifier.to_bytes()).filter(|record| record.key == *key);
        Ok((record.ok_or(StoreError::NoRecord)?, &mut self.totals))
    }
}

fn may_settle(held: &Lease, owner: OwnerId, now: Timestamp) -> bool {
    held.owner == owner || held.until <= now
}

impl SpentSet for MemorySpentSet {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        let mut partitions = self.lock()?;
        if partitions.contains_key(&epoch) {
            return Err(StoreError::PartitionExists(epoch));
        }
        partitions.insert(epoch, Partition::default());
        Ok(())
    }

    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.with(epoch, |partition| {
            partition.phase = Phase::Closing;
            Ok(())
        })
    }

    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        let mut partitions = self.lock()?;
        let partition = partitions.get_mut(&epoch).ok_or(StoreError::PartitionMissing(epoch))?;
        if partition.phase == Phase::Open {
            return Err(StoreError::PartitionOpen(epoch));
        }
        partition.phase = Phase::Retired;
        partition.records.clear();
        Ok(())
    }

    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.with(epoch, |partition| Ok(partition.records.get(&nullifier.to_bytes()).cloned()))
    }

    fn insert(&self, record: Record) -> Result<Insertion, StoreError> {
        let (RecordState::Open(_), Some(evidence)) = (&record.state, &record.evidence) else {
            return Err(StoreError::BadRecord("a new record is open and has its evidence"));
        };
        let (key, charge) = (record.key, evidence.charge);
        self.with(key.epoch, |partition| {
            let nullifier = key.nullifier.to_bytes();
            if let Some(found) = partition.records.get(&nullifier) {
                return Ok(if found.key == key {
                    Insertion::Same(found.state.clone())
                } else {
                    Insertion::Conflict(Box::new(found.clone()))
                });
            }
            if partition.phase != Phase::Open {
                return Err(StoreError::PartitionClosed(key.epoch));
            }
            partition.records.insert(nullifier, record);
            partition.totals.open += 1;
            partition.totals.held += u128::from(charge.micro());
            Ok(Insertion::Fresh)
        })
    }

    fn take_over(&self, key: &SpendKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        self.with(key.epoch, |partition| {
            let (record, _) = partition.record(key)?;
            if let RecordState::Open(held) = &mut record.state {
                if !may_settle(held, lease.owner, now) {
                    return Err(StoreError::NotOwner);
                }
                *held = lease;
            }
            Ok(record.clone())
        })
    }

    fn settle(
        &self,
        key: &SpendKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        self.with(key.epoch, |partition| {
            let (record, totals) = partition.record(key)?;
            let held = match &record.state {
                RecordState::Settled { settlement, .. } => return Ok(settlement.clone()),
                RecordState::Open(held) => held,
            };
            if !may_settle(held, owner, now) {
                return Err(StoreError::NotOwner);
            }
            let charge = record.evidence.as_ref().map_or(Credits::ZERO, |evidence| evidence.charge);
            let cost = charge.checked_sub(settlement.refund);
            let cost = cost.ok_or(StoreError::BadRecord("a refund is at most the charge"))?;
            record.state = RecordState::Settled { settlement: settlement.clone(), at: now };
            totals.open -= 1;
            totals.held -= u128::from(charge.micro());
            totals.settled += 1;
            totals.cost += u128::from(cost.micro());
            totals.refunded += u128::from(settlement.refund.micro());
            Ok(settlement.clone())
        })
    }

    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.with(epoch, |partition| {
            let mut erased = 0;
            for record in partition.records.values_mut() {
                let due = matches!(record.state, RecordState::Settled { at, .. } if at < settled_before);
                if due && record.evidence.take().is_some() {
                    erased += 1;
                }
            }
            Ok(erased)
        })
    }

    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<SpendKey>, StoreError> {
        self.with(epoch, |partition| {
            let lapsed = |record: &&Record| matches!(&record.state, RecordState::Open(held) if held.until <= now);
            Ok(partition.records.values().filter(lapsed).map(|record| record.key).take(limit).collect())
        })
    }

    fn bucket(&self, epoch: EpochNumber, prefix: [u8; 2]) -> Result<Vec<Nullifier>, StoreError> {
        self.with(epoch, |partition| {
            let (mut low, mut high) = ([0; 32], [0xff; 32]);
            low[..2].copy_from_slice(&prefix);
            high[..2].copy_from_slice(&prefix);
            Ok(partition.records.range(low..=high).map(|(_, record)| record.key.nullifier).collect())
        })
    }

    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.lock()?.get(&epoch).map(|partition| partition.totals).ok_or(StoreError::PartitionMissing(epoch))
    }
}
