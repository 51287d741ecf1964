//! Changes that are made together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::codec::{BucketMeta, PULSE, PartitionMeta, Row, evidence_from_bytes, evidence_to_bytes, pulse_to_bytes};
use super::engine::{Change, Engine, Table, TableKind};
use super::evidence_keys::{BucketId, EvidenceKey, EvidenceKeys};
use super::journal::SEQUENCE;
use super::{failed, read_error};
use crate::protocol::{Credits, EpochNumber, Settlement, Timestamp};
use crate::store::{
    MintTotals, PartitionPhase, Pulse, Record, RecordEvidence, RecordKey, RecordState, StoreError, Totals, rules,
};

/// What the committing thread has in memory. It is ahead of the disk while a commit is written; if that fails, it is never
/// used again.
pub(super) struct State {
    pub(super) sequence: u64,
    pub(super) partitions: BTreeMap<EpochNumber, Partition>,
    pub(super) keys: EvidenceKeys,
    pub(super) pulse: Option<Pulse>,
    pub(super) minted: MintTotals,
    pub(super) paid: u128,
    /// How long evidence is put into one bucket, seconds.
    pub(super) bucket_seconds: u64,
    /// Whether what readers look at must be renewed.
    pub(super) republish: bool,
}

pub(super) struct Partition {
    pub(super) meta: PartitionMeta,
    /// None for a retired one.
    pub(super) records: Option<Table>,
    pub(super) buckets: BTreeMap<BucketId, Bucket>,
    /// The open records, by nullifier.
    pub(super) open: BTreeMap<[u8; 32], OpenRecord>,
}

pub(super) struct Bucket {
    pub(super) meta: BucketMeta,
    pub(super) open: u64,
    pub(super) table: Table,
    pub(super) key: Arc<EvidenceKey>,
}

#[derive(Clone, Copy)]
pub(super) struct OpenRecord {
    pub(super) key: RecordKey,
    pub(super) until: Timestamp,
    pub(super) charge: Credits,
}

/// Evidence that was sealed for a bucket before the transaction, which then has less to do.
pub(super) struct Sealed {
    pub(super) bucket: BucketId,
    pub(super) bytes: Vec<u8>,
}

/// The tables that every store has.
pub(super) struct Tables {
    pub(super) meta: Table,
    pub(super) open: Table,
    pub(super) mints: Table,
    pub(super) accounts: Table,
    pub(super) payments: Table,
}

/// Where a change is made, in the order in which readers come to see the changes of one commit: what is pointed to is there
/// before what points to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Evidence(EpochNumber, BucketId),
    Records(EpochNumber),
    Open,
    Mints,
    Accounts,
    Payments,
    Meta,
}

/// Where something is written, and what; none to remove what is there.
type Written = (Table, Option<Vec<u8>>);

/// Some operations that are committed together. Each sees what those before it did, and changes nothing if it fails: it decides
/// first, and writes then.
pub(super) struct Transaction<'a> {
    pub(super) engine: &'a Engine,
    pub(super) tables: &'a Tables,
    pub(super) state: &'a mut State,
    changes: HashMap<(Place, Vec<u8>), Written>,
    /// Tables to drop once the changes are durable.
    pub(super) dropped: Vec<Table>,
    /// Buckets whose keys must be forgotten once the changes are durable.
    pub(super) forgotten: Vec<(EpochNumber, BucketId)>,
    torn: Option<String>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(engine: &'a Engine, tables: &'a Tables, state: &'a mut State) -> Self {
        Self { engine, tables, state, changes: HashMap::new(), dropped: Vec::new(), forgotten: Vec::new(), torn: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts changes down that are all decided. If that fails, some of an operation's are there and some not, and none may be
    /// committed.
    pub(super) fn write<T>(
        &mut self,
        changes: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let outcome = changes(self);
        if let Err(error) = &outcome {
            self.torn.get_or_insert_with(|| error.to_string());
        }
        outcome
    }

    /// Why it may not be committed, if some of an operation's changes are there and some not.
    pub(super) fn torn(&self) -> Option<String> {
        self.torn.clone()
    }

    /// The changes of a commit, with what tells whether all tables have it, and the tables that are dropped after it.
    pub(super) fn into_changes(mut self, sequence: u64) -> (Vec<Change>, Vec<Table>, &'a mut State) {
        let number = sequence.to_be_bytes().to_vec();
        let changes = self.changes.iter().filter(|((place, _), _)| *place != Place::Meta);
        let changed: BTreeMap<Place, Table> = changes.map(|((place, _), (table, _))| (*place, table.clone())).collect();
        let tables = self.tables;
        for table in changed.values() {
            self.put(Place::Meta, &tables.meta, witness_key(table.name()), number.clone());
        }
        for name in self.dropped.iter().map(|table| witness_key(table.name())).collect::<Vec<_>>() {
            self.remove(Place::Meta, &tables.meta, name);
        }
        self.put(Place::Meta, &tables.meta, SEQUENCE.to_vec(), number);
        let mut changes: Vec<_> = self.changes.into_iter().collect();
        changes.sort_unstable_by_key(|((place, _), _)| *place);
        let witnesses = changed.into_values().map(|table| table.witness(sequence));
        let changes = changes.into_iter().map(|((_, key), (table, value))| (table, key, value));
        (changes.chain(witnesses).collect(), self.dropped, self.state)
    }

    pub(super) fn put(&mut self, place: Place, table: &Table, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert((place, key), (table.clone(), Some(value)));
    }

    fn remove(&mut self, place: Place, table: &Table, key: Vec<u8>) {
        self.changes.insert((place, key), (table.clone(), None));
    }

    pub(super) fn read(&self, place: Place, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.changes.is_empty()
            && let Some((_, value)) = self.changes.get(&(place, key.to_vec()))
        {
            return Ok(value.clone());
        }
        let epoch = match place {
            Place::Records(epoch) | Place::Evidence(epoch, _) => Some(epoch),
            _ => None,
        };
        table.read(key).map_err(|error| read_error(error, epoch))
    }

    /// A partition that is not retired.
    pub(super) fn live(&self, epoch: EpochNumber) -> Result<(&Partition, &Table), StoreError> {
        let partition = self.state.partitions.get(&epoch).ok_or(StoreError::PartitionMissing(epoch))?;
        let records = partition.records.as_ref().ok_or(StoreError::PartitionRetired(epoch))?;
        Ok((partition, records))
    }

    fn partition(&mut self, epoch: EpochNumber) -> Result<&mut Partition, StoreError> {
        self.state.partitions.get_mut(&epoch).ok_or(StoreError::PartitionMissing(epoch))
    }

    pub(super) fn put_partition(&mut self, epoch: EpochNumber) -> Result<(), StoreError> {
        let meta = self.partition(epoch)?.meta;
        let tables = self.tables;
        self.put(Place::Meta, &tables.meta, PartitionMeta::key(epoch), meta.to_bytes());
        Ok(())
    }

    pub(super) fn put_pulse(&mut self, pulse: Pulse) {
        self.state.pulse = Some(pulse);
        let tables = self.tables;
        self.put(Place::Meta, &tables.meta, PULSE.to_vec(), pulse_to_bytes(pulse));
    }

    /// A time of settlement. By a clock that was set back evidence would be over too early.
    fn settled_at(&self, now: Timestamp) -> Timestamp {
        self.state.pulse.map_or(now, |pulse| now.max(pulse.seen()))
    }

    fn put_bucket(&mut self, epoch: EpochNumber, bucket: BucketId) -> Result<(), StoreError> {
        let Some(meta) = self.partition(epoch)?.buckets.get(&bucket).map(|bucket| bucket.meta) else { return Ok(()) };
        let tables = self.tables;
        self.put(Place::Meta, &tables.meta, BucketMeta::key(epoch, bucket), meta.to_bytes());
        Ok(())
    }

    pub(super) fn remove_bucket(&mut self, epoch: EpochNumber, bucket: BucketId) {
        let tables = self.tables;
        self.remove(Place::Meta, &tables.meta, BucketMeta::key(epoch, bucket));
    }

    /// The row of a nullifier.
    pub(super) fn row(&self, epoch: EpochNumber, nullifier: &[u8; 32]) -> Result<Option<Row>, StoreError> {
        let (_, records) = self.live(epoch)?;
        let Some(bytes) = self.read(Place::Records(epoch), records, nullifier)? else { return Ok(None) };
        Row::from_bytes(&bytes).map(Some).map_err(|error| damaged(epoch, error))
    }

    /// The whole record.
    pub(super) fn record(&self, key: &RecordKey, row: Row) -> Result<Record, StoreError> {
        let evidence = self.evidence(key, row.bucket)?;
        let key = RecordKey { tag: row.tag, ..*key };
        Ok(Record { key, memo: row.memo, evidence, state: row.state })
    }

    fn evidence(&self, key: &RecordKey, bucket: BucketId) -> Result<Option<RecordEvidence>, StoreError> {
        let (partition, _) = self.live(key.epoch)?;
        let Some(bucket_state) = partition.buckets.get(&bucket) else { return Ok(None) };
        let nullifier = key.nullifier.to_bytes();
        let sealed = self.read(Place::Evidence(key.epoch, bucket), &bucket_state.table, &nullifier)?;
        unseal(key.epoch, &bucket_state.key, &nullifier, sealed).map(Some)
    }

    /// The row of a record that is there under this very key.
    pub(super) fn own_row(&self, key: &RecordKey) -> Result<Row, StoreError> {
        let row = self.row(key.epoch, &key.nullifier.to_bytes())?;
        row.filter(|row| row.tag == key.tag).ok_or(StoreError::NoRecord)
    }

    pub(super) fn put_row(&mut self, key: &RecordKey, row: &Row) -> Result<(), StoreError> {
        let table = self.live(key.epoch)?.1.clone();
        self.put(Place::Records(key.epoch), &table, key.nullifier.to_bytes().to_vec(), row.to_bytes());
        Ok(())
    }

    /// Puts a record in whose nullifier is not there.
    pub(super) fn put_new(
        &mut self,
        record: &Record,
        sealed: Option<Sealed>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let settled_at = self.settled_at(now);
        let Record { key, memo, evidence: Some(evidence), state } = record else {
            return Err(StoreError::BadRecord("a new record has its evidence"));
        };
        let (epoch, nullifier) = (key.epoch, key.nullifier.to_bytes());
        let bucket = self.bucket_for(epoch, now)?;
        let place =
            self.partition(epoch)?.buckets.get(&bucket).map(|bucket| (bucket.table.clone(), bucket.key.clone()));
        let (table, sealing) = place.ok_or_else(|| failed("there is no bucket"))?;
        let sealed = match sealed.filter(|sealed| sealed.bucket == bucket) {
            Some(sealed) => sealed.bytes,
            None => sealing.seal(&nullifier, &evidence_to_bytes(evidence)).map_err(failed)?,
        };
        self.put(Place::Evidence(epoch, bucket), &table, nullifier.to_vec(), sealed);
        self.put_row(key, &Row { tag: key.tag, memo: *memo, bucket, state: state.clone() })?;
        match state {
            RecordState::Open { lease, .. } => {
                let tables = self.tables;
                self.put(Place::Open, &tables.open, open_key(key), Vec::new());
                let (key, until, charge) = (*key, lease.until, evidence.charge);
                let partition = self.partition(epoch)?;
                partition.open.insert(nullifier, OpenRecord { key, until, charge });
                partition.meta.totals.admit(charge);
                if let Some(bucket) = partition.buckets.get_mut(&bucket) {
                    bucket.open += 1;
                }
            }
            RecordState::Settled(settlement) => {
                let partition = self.partition(epoch)?;
                rules::add_settled(&mut partition.meta.totals, evidence, settlement)?;
                if let Some(bucket) = partition.buckets.get_mut(&bucket) {
                    rules::add_settled(&mut bucket.meta.totals, evidence, settlement)?;
                    bucket.meta.last_settled = bucket.meta.last_settled.max(settled_at);
                }
                self.put_bucket(epoch, bucket)?;
            }
        }
        self.put_partition(epoch)
    }

    /// Settles a record that is open.
    pub(super) fn put_settled(
        &mut self,
        key: &RecordKey,
        row: Row,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let nullifier = key.nullifier.to_bytes();
        let charge = self.charge(key)?;
        let settled_at = self.settled_at(now);
        let cost = rules::cost(charge, settlement.refund)?;
        let bucket = row.bucket;
        let changes = |this: &mut Self| {
            this.put_row(key, &Row { state: RecordState::Settled(settlement.clone()), ..row })?;
            let tables = this.tables;
            this.remove(Place::Open, &tables.open, open_key(key));
            let partition = this.partition(key.epoch)?;
            partition.open.remove(&nullifier);
            partition.meta.totals.settle(charge, settlement.refund, cost);
            if let Some(bucket) = partition.buckets.get_mut(&bucket) {
                bucket.open = bucket.open.saturating_sub(1);
                let totals = &mut bucket.meta.totals;
                totals.settled += 1;
                totals.cost += u128::from(cost.micro());
                totals.refunded += u128::from(settlement.refund.micro());
                bucket.meta.last_settled = bucket.meta.last_settled.max(settled_at);
            }
            this.put_bucket(key.epoch, bucket)?;
            this.put_partition(key.epoch)
        };
        self.write(changes)
    }

    /// The charge of an open record.
    pub(super) fn charge(&self, key: &RecordKey) -> Result<Credits, StoreError> {
        let open = self.live(key.epoch)?.0.open.get(&key.nullifier.to_bytes());
        let open = open.ok_or_else(|| damaged(key.epoch, "an open record is not in the index of open records"))?;
        Ok(open.charge)
    }

    /// Another lease for an open record.
    pub(super) fn put_lease(&mut self, key: &RecordKey, row: &Row, until: Timestamp) -> Result<(), StoreError> {
        self.put_row(key, row)?;
        if let Some(open) = self.partition(key.epoch)?.open.get_mut(&key.nullifier.to_bytes()) {
            open.until = until;
        }
        Ok(())
    }

    /// The bucket for evidence that comes now; makes one if there is none, or the last one is old.
    fn bucket_for(&mut self, epoch: EpochNumber, now: Timestamp) -> Result<BucketId, StoreError> {
        let length = self.state.bucket_seconds;
        let partition = self.partition(epoch)?;
        if let Some((id, bucket)) = partition.buckets.last_key_value()
            && now < bucket.meta.begun.after(length)
        {
            return Ok(*id);
        }
        let id = partition.meta.last_bucket + 1;
        let key = self.state.keys.add(epoch, id).map_err(failed)?;
        let table = self.engine.table(&evidence_table(epoch, id), TableKind::Blobs);
        let table = table.map_err(|error| read_error(error, Some(epoch)))?;
        let meta = BucketMeta { begun: now, last_settled: Timestamp::default(), totals: Totals::default() };
        let partition = self.partition(epoch)?;
        partition.meta.last_bucket = id;
        partition.buckets.insert(id, Bucket { meta, open: 0, table, key });
        self.state.republish = true;
        self.put_bucket(epoch, id)?;
        Ok(id)
    }

    /// Erases the buckets that are due.
    pub(super) fn erase(&mut self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.live(epoch)?;
        let partition = self.partition(epoch)?;
        let due = |bucket: &Bucket| {
            bucket.open == 0 && bucket.meta.totals.settled > 0 && bucket.meta.last_settled < settled_before
        };
        let ids: Vec<_> = partition.buckets.iter().filter(|(_, bucket)| due(bucket)).map(|(id, _)| *id).collect();
        self.write(|this| this.erase_buckets(epoch, &ids))
    }

    fn erase_buckets(&mut self, epoch: EpochNumber, ids: &[BucketId]) -> Result<u64, StoreError> {
        let mut erased = 0;
        for id in ids.iter().copied() {
            let partition = self.partition(epoch)?;
            let Some(bucket) = partition.buckets.get(&id) else { continue };
            let totals = bucket.meta.totals;
            let sum = partition.meta.erased.checked_add(&totals);
            partition.meta.erased = sum.ok_or_else(|| damaged(epoch, "its sums are too large"))?;
            if let Some(bucket) = partition.buckets.remove(&id) {
                self.dropped.push(bucket.table);
            }
            self.forgotten.push((epoch, id));
            self.remove_bucket(epoch, id);
            erased += totals.settled;
        }
        if erased > 0 {
            self.state.republish = true;
            self.put_partition(epoch)?;
        }
        Ok(erased)
    }

    /// Creates a partition.
    pub(super) fn create(&mut self, epoch: EpochNumber) -> Result<(), StoreError> {
        if self.state.partitions.contains_key(&epoch) {
            return Err(StoreError::PartitionExists(epoch));
        }
        let table = self.engine.table(&records_table(epoch), TableKind::Records);
        let records = Some(table.map_err(|error| read_error(error, Some(epoch)))?);
        let (totals, erased) = Default::default();
        let meta = PartitionMeta { phase: PartitionPhase::Open, last_bucket: 0, totals, erased };
        let (buckets, open) = Default::default();
        self.state.partitions.insert(epoch, Partition { meta, records, buckets, open });
        self.state.republish = true;
        self.put_partition(epoch)
    }

    /// Writes the tombstone; the tables go once it is durable.
    pub(super) fn retire(&mut self, epoch: EpochNumber) -> Result<(), StoreError> {
        let tables = self.tables;
        let partition = self.partition(epoch)?;
        match partition.meta.phase {
            PartitionPhase::Open => return Err(StoreError::PartitionOpen(epoch)),
            PartitionPhase::Retired => return Ok(()),
            PartitionPhase::Closing => {}
        }
        partition.meta.phase = PartitionPhase::Retired;
        let (buckets, open) = (std::mem::take(&mut partition.buckets), std::mem::take(&mut partition.open));
        let records = partition.records.take();
        self.dropped.extend(records);
        for (id, bucket) in buckets {
            self.dropped.push(bucket.table);
            self.forgotten.push((epoch, id));
            self.remove_bucket(epoch, id);
        }
        for open in open.values() {
            self.remove(Place::Open, &tables.open, open_key(&open.key));
        }
        self.state.republish = true;
        self.put_partition(epoch)
    }
}

pub(super) fn records_table(epoch: EpochNumber) -> String {
    format!("spends-{epoch}")
}

pub(super) fn evidence_table(epoch: EpochNumber, bucket: BucketId) -> String {
    format!("evidence-{epoch}-{bucket}")
}

/// Where `meta` has the number of the commit that changed a table last.
pub(super) fn witness_key(table: &str) -> Vec<u8> {
    [b"t", table.as_bytes()].concat()
}

pub(super) fn open_key(key: &RecordKey) -> Vec<u8> {
    [&key.epoch.number().to_be_bytes()[..], &key.nullifier.to_bytes()].concat()
}

pub(super) fn damaged(epoch: EpochNumber, what: impl core::fmt::Display) -> StoreError {
    StoreError::Corrupt { epoch, what: what.to_string() }
}

/// Opens sealed evidence. Where there is a bucket, there is the evidence.
pub(super) fn unseal(
    epoch: EpochNumber,
    key: &EvidenceKey,
    nullifier: &[u8; 32],
    sealed: Option<Vec<u8>>,
) -> Result<RecordEvidence, StoreError> {
    let sealed = sealed.ok_or_else(|| damaged(epoch, "evidence is missing"))?;
    let opened = key.open(nullifier, &sealed).ok_or_else(|| damaged(epoch, "evidence is not what was sealed"))?;
    evidence_from_bytes(&opened).map_err(|error| damaged(epoch, error))
}
