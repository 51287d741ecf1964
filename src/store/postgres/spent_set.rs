//! The spent set of a store over PostgreSQL.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use halometer_circuits::note::Nullifier;

use super::PostgresStore;
use super::change::{self, Change, What};
use super::core::{Core, lock, take, undecoded};
use super::error::{Fault, PostgresError};
use super::insert::{self, Insert};
use super::rows::{Which, again, nullifier, seconds};
use super::{pair, schema};
use crate::protocol::{Credits, EpochNumber, OwnerId, Prefix, Settlement, Timestamp};
use crate::store::{
    Beat, Insertion, Lease, Look, PairInsertion, PartitionPhase, Pulse, Record, RecordKey, SpentSet, StoreError,
    Totals, rules,
};

/// The spent set in a [`PostgresStore`].
#[derive(Clone, Debug)]
pub struct PostgresSpentSet(pub(super) PostgresStore);

impl PostgresSpentSet {
    /// The store it is in.
    pub fn store(&self) -> &PostgresStore {
        &self.0
    }

    fn change_record(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        what: What,
    ) -> Result<Option<Settlement>, StoreError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let settles = matches!(what, What::Settle(_));
        let change = Change { key: *key, owner, now, what, reply };
        let core = self.0.core();
        lock(if settles { &core.settles } else { &core.metered }).push_back(change);
        self.0.run(async move |core| {
            let queue = if settles { &core.settles } else { &core.metered };
            match core.line().await {
                Ok(mut line) => {
                    // Another may have taken it along by now.
                    let waiting = take(queue, |_| 1);
                    if !waiting.is_empty() {
                        change::run(core, &mut line, waiting, settles).await;
                    }
                }
                Err(error) => {
                    for change in take(queue, |_| 1) {
                        let _ = change.reply.send(Err(error.clone().into()));
                    }
                }
            }
        });
        answer.recv().map_err(|_| super::gone())?
    }
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl SpentSet for PostgresSpentSet {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(async move |core, line| core.create(line, epoch).await)
    }

    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(async move |core, line| core.close(line, epoch).await)
    }

    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.0.change(async move |core, line| core.retire(line, epoch).await)
    }

    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        self.0.ask(async move |core| core.phases().await)
    }

    fn beat(&self, look: Look) -> Result<Beat, StoreError> {
        self.0.change(async move |core, line| core.beat(line, look).await)
    }

    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        self.0.ask(async move |core| core.pulse().await)
    }

    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        let named = [nullifier.to_bytes().to_vec()];
        self.0.ask(async move |core| Ok(core.records(epoch, &Which::Named(&named)).await?.pop()))
    }

    fn find_all(&self, keys: &[(EpochNumber, Nullifier)]) -> Vec<Result<Option<Record>, StoreError>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let (count, keys) = (keys.len(), keys.to_vec());
        let found = self.0.ask(async move |core| Ok(find_all(core, &keys).await));
        found.unwrap_or_else(|error| (0..count).map(|_| Err(again(&error))).collect())
    }

    fn insert_all(&self, records: Vec<Record>, now: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        if records.is_empty() {
            return Vec::new();
        }
        let (count, (reply, answer)) = (records.len(), std::sync::mpsc::sync_channel(1));
        lock(&self.0.core().inserts).push_back(Insert { records, now, reply });
        self.0.run(async move |core| match core.line().await {
            Ok(mut line) => {
                // Another may have taken it along by now.
                let waiting = take(&core.inserts, |job| job.records.len());
                if !waiting.is_empty() {
                    insert::run(core, &mut line, waiting).await;
                }
            }
            Err(error) => take(&core.inserts, |_| 1).into_iter().for_each(|job| job.refuse(&error)),
        });
        answer.recv().unwrap_or_else(|_| (0..count).map(|_| Err(super::gone())).collect())
    }

    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        self.0.change(async move |core, line| pair::insert(core, line, &pair, now).await)
    }

    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        self.change_record(key, owner, now, What::Meter(metered)).map(drop)
    }

    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        let key = *key;
        self.0.change(async move |core, line| change::take_over(core, line, &key, lease, now).await)
    }

    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        let stored = self.change_record(key, owner, now, What::Settle(settlement.clone()))?;
        stored.ok_or_else(|| PostgresError::Damaged("a settled record has no settlement".into()).into())
    }

    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.0.change(async move |core, line| core.erase(line, epoch, settled_before).await)
    }

    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, most: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.0.ask(async move |core| {
            let from = format!(
                "SELECT nf, tag FROM {} WHERE signature IS NULL AND until <= $2 LIMIT $3",
                schema::spends(epoch)
            );
            let rows = keys(core, epoch, &from, &[&seconds(now), &limit(most)]).await?;
            rows.into_iter()
                .map(|(nf, tag)| {
                    let key = nullifier(&nf).and_then(|nullifier| {
                        let tag = crate::protocol::SpendTag::from_bytes(super::rows::array(&tag)?);
                        Ok(RecordKey { epoch, nullifier, tag })
                    });
                    key.map_err(|what| StoreError::Corrupt { epoch, what })
                })
                .collect()
        })
    }

    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        most: usize,
    ) -> Result<Vec<Nullifier>, StoreError> {
        let range = rules::bucket_range(prefix, after);
        self.0.ask(async move |core| {
            let Some((low, high)) = range else {
                core.live(epoch).await?;
                return Ok(Vec::new());
            };
            let bytes = |bound: &Bound<[u8; 32]>| match bound {
                Bound::Included(bytes) | Bound::Excluded(bytes) => bytes.to_vec(),
                Bound::Unbounded => Vec::new(),
            };
            let more = if matches!(low, Bound::Excluded(_)) { ">" } else { ">=" };
            let table = schema::spends(epoch);
            let from = format!(
                "SELECT nf, ''::bytea AS tag FROM {table} WHERE nf {more} $2 AND nf <= $3 ORDER BY nf LIMIT $4"
            );
            let rows = keys(core, epoch, &from, &[&bytes(&low), &bytes(&high), &limit(most)]).await?;
            let read = |(nf, _): (Vec<u8>, Vec<u8>)| nullifier(&nf).map_err(|what| StoreError::Corrupt { epoch, what });
            rows.into_iter().map(read).collect()
        })
    }

    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, most: usize) -> Result<Vec<Record>, StoreError> {
        let after = after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
        self.0.ask(async move |core| core.records(epoch, &Which::Behind(&after, limit(most))).await)
    }

    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.0.ask(async move |core| core.sums(epoch, false).await)
    }

    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.0.ask(async move |core| core.sums(epoch, true).await)
    }
}

/// By one statement for each epoch.
async fn find_all(core: &Arc<Core>, keys: &[(EpochNumber, Nullifier)]) -> Vec<Result<Option<Record>, StoreError>> {
    let mut wanted: BTreeMap<EpochNumber, Vec<Vec<u8>>> = BTreeMap::new();
    for (epoch, nullifier) in keys {
        wanted.entry(*epoch).or_default().push(nullifier.to_bytes().to_vec());
    }
    let mut found = BTreeMap::new();
    for (epoch, named) in wanted {
        let records = core.records(epoch, &Which::Named(&named)).await;
        let by_nullifier = |records: Vec<Record>| -> HashMap<[u8; 32], Record> {
            records.into_iter().map(|record| (record.key.nullifier.to_bytes(), record)).collect()
        };
        found.insert(epoch, records.map(by_nullifier));
    }
    let answer = |(epoch, nullifier): &(EpochNumber, Nullifier)| match found.get(epoch) {
        Some(Ok(records)) => Ok(records.get(&nullifier.to_bytes()).cloned()),
        Some(Err(error)) => Err(again(error)),
        None => Err(super::gone()),
    };
    keys.iter().map(answer).collect()
}

/// Nullifiers and tags of a partition, and at the same instant whether it still is.
async fn keys(
    core: &Arc<Core>,
    epoch: EpochNumber,
    from: &str,
    own: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    let sql = format!(
        "SELECT p.phase, r.nf, r.tag FROM halometer_epoch p LEFT JOIN ({from}) r ON true WHERE p.epoch = $1 ORDER BY r.nf"
    );
    let number = i64::from(epoch.number());
    let mut params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&number];
    params.extend_from_slice(own);
    core.live(epoch).await?;
    let rows = match core.read(&sql, &params).await {
        Err(Fault::NoTable) => {
            core.look().await?;
            core.live(epoch).await?;
            return Err(StoreError::Corrupt { epoch, what: "its table is missing".into() });
        }
        rows => rows?,
    };
    let first = rows.first().ok_or(StoreError::PartitionMissing(epoch))?;
    if first.try_get::<_, i32>(0).map_err(undecoded)? == 2 {
        core.look().await?;
        return Err(StoreError::PartitionRetired(epoch));
    }
    let mut keys = Vec::new();
    for row in &rows {
        if let Some(nf) = row.try_get::<_, Option<Vec<u8>>>(1).map_err(undecoded)? {
            keys.push((nf, row.try_get(2).map_err(undecoded)?));
        }
    }
    Ok(keys)
}
